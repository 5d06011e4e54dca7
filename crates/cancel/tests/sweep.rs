//! Every public future, dropped at each of its await points; and tokio's cooperative budget.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures_core::Stream;
use selvedge_cancel::{Canceller, Cause, CauseKind, Component, Context, ManualClock, Timer, Until};
use selvedge_testkit::{Mode, Run, block_on, for_each, sweep, watchdog, yield_now};

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

#[test]
fn run_or_cause_is_swept() {
    let summary = sweep("RunOrCause", |run| {
        let (ctx, canceller, clock) = timed();
        let work = async {
            yield_now().await;
            yield_now().await;
            Ok::<_, Cause>(5)
        };
        let ended = run.drive_local_cancel(ctx.run_or_cause(work), |_| (), || canceller.cancel());
        match ended.ready() {
            Some(Ok(value)) => assert_eq!((value, ctx.is_cancelled()), (5, false)),
            Some(Err(cause)) => assert!(ctx.cause().unwrap().same(&cause)),
            None => {}
        }
        nothing_is_left(run, ctx, canceller, &clock);
    });
    assert_eq!(summary.pending_points, 2);
}

#[test]
fn the_end_of_a_callback_is_swept() {
    let summary = sweep("CallbackEnded", |run| {
        let (ctx, canceller, clock) = timed();
        let calls = Arc::new(AtomicUsize::new(0));
        let registration = ctx.on_cancel({
            let calls = Arc::clone(&calls);
            // Relaxed: one thread at a time.
            move |_| {
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
        let ended = run.drive_cancel(
            registration.ended(),
            |k| match k {
                0 => canceller.stop(Duration::MAX),
                _ => clock.advance(9 * SECOND),
            },
            || canceller.cancel(),
        );
        if ended.ready().is_some() {
            assert_eq!(calls.load(Ordering::Relaxed), 1);
        }
        drop(registration);
        nothing_is_left(run, ctx, canceller, &clock);
        assert!(calls.load(Ordering::Relaxed) <= 1);
    });
    assert_eq!(summary.pending_points, 2);
}

#[test]
fn cancel_and_wait_is_swept() {
    let summary = sweep("CancelAndWait", |run| {
        let (ctx, canceller, clock) = timed();
        let (child, keep) = ctx.child();
        let guards = Cell::new(Some((ctx.enter().unwrap(), child.enter().unwrap())));
        let ended = run.drive_local_cancel(
            canceller.cancel_and_wait(SECOND),
            |k| match k {
                0 => drop(guards.take()),
                _ => clock.advance(SECOND),
            },
            || drop(guards.take()),
        );
        if let Some(stragglers) = ended.ready() {
            assert!(stragglers.is_empty());
        }
        drop(guards.take());
        drop((child, keep));
        nothing_is_left(run, ctx, canceller, &clock);
    });
    assert_eq!(summary.pending_points, 1);
}

#[test]
fn the_wait_of_a_component_is_swept() {
    // A boxed future: it has no type of its own.
    let summary = sweep("Pin", |run| {
        let (ctx, canceller, clock) = timed();
        let (child, keep) = ctx.child();
        let guard = Cell::new(Some(child.enter().unwrap()));
        let ended = run.drive_local_cancel(
            canceller.wait(),
            |k| match k {
                0 => canceller.stop(Duration::MAX),
                _ => drop(guard.take()),
            },
            || {
                canceller.cancel();
                drop(guard.take());
            },
        );
        if ended.ready().is_some() {
            assert!(ctx.is_stopping() && ctx.stragglers().is_empty());
        }
        drop(guard.take());
        drop((child, keep));
        nothing_is_left(run, ctx, canceller, &clock);
    });
    assert_eq!(summary.pending_points, 2, "until the stop, and until all are out");
}

#[test]
fn a_stream_until_the_end_of_a_context_is_swept() {
    let summary = sweep("UntilEnd", |run| {
        let (ctx, canceller, clock) = timed();
        let left = Cell::new(3);
        let items = stream_of(&left);
        let seen = Cell::new(0);
        let all = for_each(Box::pin(items.until_cancelled(&ctx)), |_| seen.set(seen.get() + 1));
        let ended = run.drive_local_cancel(all, |_| (), || canceller.cancel());
        if ended.ready().is_some() && !ctx.is_cancelled() {
            assert_eq!(seen.get(), 3);
        }
        assert_eq!(seen.get() + left.get(), 3, "an item is lost");
        nothing_is_left(run, ctx, canceller, &clock);
    });
    assert_eq!(summary.pending_points, 3);
}

/// A stream that counts down, pending before each item.
fn stream_of(left: &Cell<u32>) -> impl Stream<Item = u32> {
    struct Down<'a>(&'a Cell<u32>, bool);
    impl Stream for Down<'_> {
        type Item = u32;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<u32>> {
            if self.0.get() == 0 {
                return Poll::Ready(None);
            }
            self.1 = !self.1;
            if self.1 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.0.set(self.0.get() - 1);
            Poll::Ready(Some(self.0.get()))
        }
    }
    Down(left, false)
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
fn a_loop_over_the_end_of_a_callback_yields() {
    lets_others_run(async |ctx| ctx.on_cancel(|_| ()).ended().await);
}

#[test]
fn a_loop_over_a_wait_for_nobody_yields() {
    lets_others_run(async |_| {
        let (_ctx, canceller) = Context::background().child();
        assert!(canceller.cancel_and_wait(Duration::MAX).await.is_empty());
    });
}

#[test]
fn a_loop_over_a_stream_that_has_ended_with_its_context_yields() {
    lets_others_run(async |ctx| {
        let left = Cell::new(1);
        for_each(Box::pin(stream_of(&left).until_stopping(ctx)), |_| ()).await;
        assert_eq!(left.get(), 1);
    });
}

#[test]
fn a_loop_over_run_on_a_cancelled_context_yields() {
    lets_others_run(async |ctx| drop(ctx.run(std::future::ready(())).await));
}
