//! The token of `compat`: the suite that tokio-util's passes as well, what is ours alone, and the sweeps.
#![allow(clippy::duplicate_mod, reason = "the suite is asked of two tokens")]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context as TaskContext, Waker};
use std::time::Duration;

use selvedge_cancel::compat::CancellationToken;
use selvedge_cancel::{CauseKind, Context};
use selvedge_testkit::{
    CountingAllocator, CountingWaker, Mode, PanickingWaker, Run, block_on, sweep, yield_now,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[path = "compat/ours.rs"]
mod ours;
#[cfg(feature = "tokio-util")]
#[path = "compat/theirs.rs"]
mod theirs;

#[test]
fn it_leads_to_its_context_and_its_canceller() {
    let token = CancellationToken::new();
    let (below, _keep) = token.context().child();
    token.canceller().cancel_because("the disk is full");
    assert!(token.is_cancelled() && below.is_cancelled());
    assert_eq!(below.cause().unwrap().error().unwrap().to_string(), "the disk is full");
}

#[test]
fn a_token_below_a_context_ends_with_it_and_does_not_end_it() {
    let (ctx, canceller) = Context::background().child();
    let (first, second) = (CancellationToken::child_of(&ctx), CancellationToken::child_of(&ctx));
    first.cancel();
    assert!(first.is_cancelled() && !ctx.is_cancelled() && !second.is_cancelled());
    canceller.cancel();
    assert!(second.is_cancelled());
    assert!(CancellationToken::child_of(&ctx).is_cancelled());
}

#[test]
fn a_stop_is_no_cancel() {
    let token = CancellationToken::new();
    token.canceller().stop(Duration::MAX);
    assert!(token.context().is_stopping() && !token.is_cancelled());
    token.cancel();
    assert!(token.is_cancelled());
}

#[test]
fn the_cause_names_the_caller() {
    let place = |token: &CancellationToken| {
        let cause = token.context().cause().unwrap();
        assert_eq!(cause.kind(), CauseKind::Cancelled);
        (cause.place().file(), cause.place().line())
    };
    let (token, guarded, lent) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let line = line!();
    token.cancel();
    drop(guarded.clone().drop_guard());
    drop(lent.drop_guard_ref());
    assert_eq!(place(&token), (file!(), line + 1));
    assert_eq!(place(&guarded), (file!(), line + 2));
    assert_eq!(place(&lent), (file!(), line + 3));
    assert_eq!(token.child_token().context().place().unwrap().file(), file!());
}

#[test]
fn a_waker_that_panics_stops_no_other() {
    let token = CancellationToken::new();
    let (panicking, counting) = (PanickingWaker::new(), CountingWaker::new());
    let (mut first, mut second) = (pin!(token.cancelled()), pin!(token.cancelled()));
    let waker = panicking.waker();
    assert!(first.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    let waker = counting.waker();
    assert!(second.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| token.cancel())).is_err());
    assert_eq!((panicking.wakes(), counting.wakes()), (1, 1));
}

#[test]
fn a_guard_that_a_panic_drops_contains_the_panic_of_a_waker() {
    let token = CancellationToken::new();
    let panicking = PanickingWaker::new();
    let waker = panicking.waker();
    let mut waits = pin!(token.cancelled());
    assert!(waits.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _guard = token.drop_guard_ref();
        std::panic::panic_any("the first");
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"the first"));
    assert_eq!(panicking.wakes(), 1);
}

#[test]
fn a_token_that_lives_for_ever_keeps_nothing_of_those_that_are_gone() {
    let token = CancellationToken::new();
    let turn = || {
        let child = token.child_token();
        let grandchild = child.child_token();
        let mut waits = pin!(grandchild.clone().cancelled_owned());
        assert!(waits.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
        drop((child, grandchild));
    };
    turn();
    let cost = CountingAllocator::count(|| (0..1_000).for_each(|_| turn()));
    assert_eq!(cost.allocations, cost.frees, "{cost}");
    assert_eq!(token.context().nodes(), 1);
}

/// Whatever happened to the future: the token tells the next one, and nothing stays behind.
fn nothing_is_left(run: &Run, token: &CancellationToken) {
    assert_eq!(run.live_wakers(), 0, "a waker stayed behind");
    token.cancel();
    block_on(token.cancelled());
    assert_eq!(token.context().nodes(), 1);
}

#[test]
fn wait_for_cancellation_future_is_swept() {
    let summary = sweep("WaitForCancellationFuture", |run| {
        let token = CancellationToken::new();
        let child = token.child_token();
        let step = |k| match k {
            0 => token.canceller().stop(Duration::MAX),
            _ => token.cancel(),
        };
        let ended = run.drive_cancel(child.cancelled(), step, || token.cancel());
        assert!(ended.is_dropped() || child.is_cancelled());
        drop(child);
        nothing_is_left(run, &token);
    });
    assert_eq!(summary.pending_points, 2, "pending before the stop, and after it");
}

#[test]
fn wait_for_cancellation_future_owned_is_swept() {
    let summary = sweep("WaitForCancellationFutureOwned", |run| {
        let token = CancellationToken::new();
        let wait = token.child_token().cancelled_owned();
        let ended = run.drive_cancel(wait, |_| token.cancel(), || token.cancel());
        assert!(ended.is_dropped() || token.is_cancelled());
        nothing_is_left(run, &token);
    });
    assert_eq!(summary.pending_points, 1);
}

/// Work that waits three times, and counts how often it was polled.
async fn work(polled: &Cell<usize>) -> usize {
    for _ in 0..3 {
        polled.set(polled.get() + 1);
        yield_now().await;
    }
    5
}

/// What a run of [`work`] may come to.
fn ran(run: &Run, ended: Option<Option<usize>>, polled: usize) {
    match ended {
        Some(Some(output)) => assert_eq!((output, polled), (5, 3)),
        Some(None) => assert!(matches!(run.mode(), Mode::Cancel | Mode::WakeThenCancel)),
        None => assert!(polled <= 3),
    }
}

#[test]
fn run_until_cancelled_future_is_swept() {
    let summary = sweep("RunUntilCancelledFuture", |run| {
        let (token, polled) = (CancellationToken::new(), Cell::new(0));
        let future = token.run_until_cancelled(work(&polled));
        let ended = run.drive_local_cancel(future, |_| (), || token.cancel());
        ran(run, ended.ready(), polled.get());
        nothing_is_left(run, &token);
    });
    assert_eq!(summary.pending_points, 3);
}

#[test]
fn run_until_cancelled_future_owned_is_swept() {
    let summary = sweep("RunUntilCancelledFutureOwned", |run| {
        let (token, polled) = (CancellationToken::new(), Cell::new(0));
        let future = token.child_token().run_until_cancelled_owned(work(&polled));
        let ended = run.drive_local_cancel(future, |_| (), || token.cancel());
        ran(run, ended.ready(), polled.get());
        nothing_is_left(run, &token);
    });
    assert_eq!(summary.pending_points, 3);
}

#[test]
fn run_until_cancelled_is_swept_around_a_future_that_never_ends() {
    let summary = sweep("RunUntilCancelledFutureOwned", |run| {
        let token = CancellationToken::new();
        let future = token.clone().run_until_cancelled_owned(std::future::pending::<()>());
        let ended = run.drive_cancel(future, |_| token.cancel(), || token.cancel());
        assert!(ended.ready().is_none_or(|output| output.is_none()));
        nothing_is_left(run, &token);
    });
    assert_eq!(summary.pending_points, 1);
}

/// The cooperative budget.
#[cfg(feature = "tokio")]
mod budget {
    use super::*;

    /// Whether a task that loops over `turn` lets another one run.
    fn yields(turn: impl AsyncFn(&CancellationToken) + Send + 'static) {
        selvedge_testkit::watchdog(Duration::from_secs(30), "an always-ready loop", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let token = CancellationToken::new();
                token.cancel();
                let other = tokio::spawn(tokio::task::yield_now());
                while !other.is_finished() {
                    turn(&token).await;
                }
            });
        });
    }

    #[test]
    fn a_loop_over_cancelled_yields() {
        yields(async |token| token.cancelled().await);
    }

    #[test]
    fn a_loop_over_run_until_cancelled_yields() {
        yields(async |token| {
            let ended = token.run_until_cancelled(std::future::ready(())).await;
            assert!(ended.is_none());
        });
    }
}
