//! Every public future, dropped at each of its await points; and tokio's cooperative budget.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use selvedge_cancel::{Canceller, CauseKind, Context, ManualClock, Timer};
use selvedge_testkit::{Mode, Run, block_on, sweep, watchdog, yield_now};

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// A context below another, with a deadline on a manual clock.
fn timed() -> (Context, Canceller, ManualClock) {
    let (timer, clock) = Timer::manual();
    let made = Context::background().child_with().timeout(9 * SECOND).timer(timer).build();
    let (ctx, canceller) = made.unwrap();
    (ctx, canceller, clock)
}

/// Whatever happened to the future: the context tells the next one, and nothing stays behind.
fn nothing_is_left(run: &Run, ctx: Context, canceller: Canceller, clock: &ManualClock) {
    assert_eq!(run.live_wakers(), 0, "a waker stayed behind");
    canceller.cancel();
    block_on(ctx.stopping());
    block_on(ctx.cancelled());
    assert_eq!(ctx.nodes(), 1);
    assert_eq!(clock.registered(), 0, "a timer stayed behind");
}

#[test]
fn cancelled_is_swept() {
    let summary = sweep("Cancelled", |run| {
        let (ctx, canceller, clock) = timed();
        let (child, _keep) = ctx.child();
        let ended = run.drive_cancel(
            child.cancelled(),
            |k| match k {
                0 => canceller.stop(Duration::MAX),
                _ => clock.advance(9 * SECOND),
            },
            || canceller.cancel(),
        );
        if let Some(cause) = ended.ready() {
            let stopped = run.mode() != Mode::Cancel || child.cause().unwrap().same(&cause);
            assert!(stopped && child.is_cancelled());
        }
        drop((child, _keep));
        nothing_is_left(run, ctx, canceller, &clock);
    });
    assert_eq!(summary.pending_points, 2, "pending before the stop, and after it");
}

#[test]
fn stopping_is_swept() {
    let summary = sweep("Stopping", |run| {
        let (ctx, canceller, clock) = timed();
        let ended = run.drive_cancel(
            ctx.stopping(),
            |k| match k {
                0 => clock.advance(SECOND),
                _ => canceller.stop(SECOND),
            },
            || canceller.cancel(),
        );
        if let Some(cause) = ended.ready() {
            assert!(ctx.cause().unwrap().same(&cause));
        }
        nothing_is_left(run, ctx, canceller, &clock);
    });
    assert_eq!(summary.pending_points, 2);
}

#[test]
fn run_is_swept_around_a_future_that_ends() {
    let summary = sweep("Run", |run| {
        let (ctx, canceller, clock) = timed();
        let polled = Cell::new(0);
        let work = async {
            for _ in 0..3 {
                polled.set(polled.get() + 1);
                yield_now().await;
            }
            5
        };
        let ended = run.drive_local_cancel(ctx.run(work), |_| (), || canceller.cancel());
        match ended.ready() {
            Some(Ok(value)) => assert_eq!((value, ctx.is_cancelled()), (5, false)),
            Some(Err(cause)) => assert_eq!(cause.kind(), CauseKind::Cancelled),
            None => assert!(polled.get() <= 3),
        }
        nothing_is_left(run, ctx, canceller, &clock);
    });
    assert_eq!(summary.pending_points, 3);
}

#[test]
fn run_is_swept_around_a_future_that_never_ends() {
    let summary = sweep("Run", |run| {
        let (ctx, canceller, clock) = timed();
        let work = ctx.run(std::future::pending::<()>());
        let ended = run.drive_cancel(work, |_| clock.advance(9 * SECOND), || canceller.cancel());
        if let Some(outcome) = ended.ready() {
            assert!(ctx.cause().unwrap().same(&outcome.unwrap_err()));
        }
        nothing_is_left(run, ctx, canceller, &clock);
    });
    assert_eq!(summary.pending_points, 1);
}

/// Has a task loop over what is always ready until another has made a hundred steps.
fn lets_others_run(turn: impl AsyncFn(&Context) + Send + 'static) {
    watchdog(PATIENCE, "an always-ready loop", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (ctx, canceller) = Context::background().child();
            canceller.cancel();
            let steps = Arc::new(AtomicUsize::new(0));
            let other = tokio::spawn({
                let steps = Arc::clone(&steps);
                async move {
                    for _ in 0..100 {
                        // Relaxed: one thread.
                        steps.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                }
            });
            while steps.load(Ordering::Relaxed) < 100 {
                turn(&ctx).await;
            }
            other.await.unwrap();
        });
    });
}

#[test]
fn a_loop_over_cancelled_yields() {
    lets_others_run(async |ctx| drop(ctx.cancelled().await));
}

#[test]
fn a_loop_over_stopping_yields() {
    lets_others_run(async |ctx| drop(ctx.stopping().await));
}

#[test]
fn a_loop_over_run_on_a_cancelled_context_yields() {
    lets_others_run(async |ctx| drop(ctx.run(std::future::ready(())).await));
}
