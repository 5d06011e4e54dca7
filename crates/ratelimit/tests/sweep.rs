//! The futures dropped, woken and dropped, moved and panicked over at each of their await points. After
//! each: no token is lost, none is doubled, whoever stands behind is served, no waker and no registration
//! is left.
#![cfg(not(selvedge_loom))]

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use selvedge_cancel::Context as Tree;
use selvedge_ratelimit::{AcquireError, Limiter, ManualClock, Rate, Timer};
use selvedge_testkit::{CountingWaker, Ended, Run, next, sweep};

const SEC: Duration = Duration::from_secs(1);

/// Three tokens at once, one a second; none is left.
fn spent() -> (Limiter, ManualClock) {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(Rate::every(SEC).burst(3), timer);
    limiter.try_acquire(3).unwrap();
    (limiter, clock)
}

/// `future` wants two tokens, which come one a second; somebody who wants one comes behind it.
fn tokens_come_one_by_one<F: Future<Output = Result<(), AcquireError>> + Send>(
    run: &mut Run,
    limiter: &Limiter,
    clock: &ManualClock,
    future: F,
) {
    let mut seconds = 0;
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut cx = Context::from_waker(&woken);
    let mut behind = pin!(limiter.acquire_owned(1));

    let ended = run.drive(future, |step| {
        if step == 0 {
            assert!(behind.as_mut().poll(&mut cx).is_pending(), "one overtook the other");
        }
        clock.advance(SEC);
        seconds += 1;
    });

    let taken = match ended {
        Ended::Ready(tokens) => {
            tokens.unwrap();
            2
        }
        Ended::Dropped => 0,
    };
    if behind.as_mut().poll(&mut cx).is_pending() {
        clock.advance((taken + 1 - seconds) * SEC);
        assert!(behind.as_mut().poll(&mut cx).is_ready(), "the one behind was not served");
        seconds = taken + 1;
    }
    assert_eq!(limiter.available(), seconds - taken - 1);
    assert_eq!((clock.registered(), run.live_wakers()), (0, 0));
    limiter.try_acquire(seconds - taken - 1).expect("nobody is in line");
}

#[test]
fn acquire_loses_nothing_at_any_await_point() {
    let summary = sweep("Acquire", |run| {
        let (limiter, clock) = spent();
        tokens_come_one_by_one(run, &limiter, &clock, limiter.acquire(2));
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}

#[test]
fn acquire_owned_loses_nothing_at_any_await_point() {
    let summary = sweep("AcquireOwned", |run| {
        let (limiter, clock) = spent();
        tokens_come_one_by_one(run, &limiter, &clock, limiter.acquire_owned(2));
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}

/// Numbers that are there at once.
struct Numbers(VecDeque<u32>);

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        Poll::Ready(self.0.pop_front())
    }
}

#[test]
fn throttle_loses_nothing_at_any_await_point() {
    let summary = sweep("Throttle", |run| {
        let (limiter, clock) = spent();
        let mut numbers = Box::pin(limiter.throttle(Numbers([1, 2].into())));
        let mut seconds = 0;
        let (ctx, canceller) = Tree::background().child();
        let step = |_| {
            clock.advance(SEC);
            seconds += 1;
        };
        let ended = run.drive_cancel(ctx.run(next(&mut numbers)), step, || canceller.cancel());
        // A wait for the next that is given up loses neither the item nor the place in the line.
        let first = match ended {
            Ended::Ready(Ok(first)) => first,
            Ended::Ready(Err(_)) | Ended::Dropped => {
                let task = CountingWaker::new();
                let waker = task.waker();
                let mut cx = Context::from_waker(&waker);
                if seconds == 0 {
                    assert!(numbers.as_mut().poll_next(&mut cx).is_pending());
                    clock.advance(SEC);
                }
                match numbers.as_mut().poll_next(&mut cx) {
                    Poll::Ready(first) => first,
                    Poll::Pending => panic!("the token was lost"),
                }
            }
        };
        assert_eq!(first, Some(Ok(1)));
        drop(numbers);
        assert_eq!((limiter.available(), clock.registered(), run.live_wakers()), (0, 0, 0));
    });
    assert_eq!(summary.pending_points, 1, "{summary}");
}

/// A wait for two tokens, which come one a second, under a context that is cancelled.
fn ended_by_its_context<F: Future<Output = Result<(), AcquireError>> + Send>(
    run: &mut Run,
    limiter: &Limiter,
    clock: &ManualClock,
    future: F,
) {
    let (ctx, canceller) = Tree::background().child();
    let mut seconds = 0;
    let step = |_| {
        clock.advance(SEC);
        seconds += 1;
    };
    let ended = run.drive_cancel(ctx.run(future), step, || canceller.cancel());
    let taken = match ended {
        Ended::Ready(Ok(tokens)) => {
            tokens.unwrap();
            2
        }
        Ended::Ready(Err(_)) | Ended::Dropped => 0,
    };
    assert_eq!(limiter.available(), seconds - taken);
    assert_eq!((clock.registered(), run.live_wakers()), (0, 0));
}

#[test]
fn a_wait_that_its_context_ends_loses_nothing() {
    let borrowed = sweep("Acquire", |run| {
        let (limiter, clock) = spent();
        ended_by_its_context(run, &limiter, &clock, limiter.acquire(2));
    });
    let owned = sweep("AcquireOwned", |run| {
        let (limiter, clock) = spent();
        ended_by_its_context(run, &limiter, &clock, limiter.acquire_owned(2));
    });
    assert_eq!((borrowed.pending_points, owned.pending_points), (2, 2));
}
