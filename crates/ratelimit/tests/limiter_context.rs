//! Waits that end with a context: refused at once when they would be too late, and given up when it ends.
#![cfg(not(selvedge_loom))]

mod support;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use selvedge_cancel::{CauseKind, Context, RunOrCause};
use selvedge_ratelimit::{Acquire, AcquireError, Limiter, ManualClock, Quota, Rate, Timer};
use selvedge_testkit::{block_on, watchdog};
use support::*;

/// A limiter of which nothing is left, and a context that ends after `timeout` on the same clock.
fn with_deadline(quota: Quota, timeout: Duration) -> (Limiter, ManualClock, Context) {
    let (timer, clock) = Timer::manual();
    let root = Context::background();
    let child = root.child_with().timer(timer.clone()).timeout(timeout);
    let (ctx, canceller) = child.build().unwrap();
    // Detached: the deadline ends it.
    std::mem::forget(canceller);
    let limiter = Limiter::with_timer(quota, timer);
    limiter.try_acquire(quota.burst_size()).unwrap();
    (limiter, clock, ctx)
}

fn in_line<'a>(limiter: &'a Limiter, ctx: &Context, n: u32) -> Pin<Box<RunOrCause<Acquire<'a>>>> {
    let mut acquire = Box::pin(limiter.acquire_in(ctx, n));
    assert!(poll(acquire.as_mut()).is_pending());
    acquire
}

fn too_late(due_in: Duration) -> Poll<Result<(), AcquireError>> {
    Poll::Ready(Err(AcquireError::TooLate { due_in }))
}

#[test]
fn what_would_be_due_after_the_deadline_is_refused_at_once_and_nothing_is_spent() {
    let (limiter, clock, ctx) = with_deadline(Rate::per_second(1).burst(5), 3 * SEC + 500 * MS);
    let before = clock.registered();
    assert_eq!(poll(pin!(limiter.acquire_in(&ctx, 4))), too_late(4 * SEC));
    assert_eq!((limiter.waiting(), clock.registered()), (0, before));
    assert_eq!(limiter.ready_in(1), Some(SEC), "nobody is delayed");
    // What is in time, is.
    let mut in_time = in_line(&limiter, &ctx, 3);
    clock.advance(3 * SEC);
    assert_eq!(poll(in_time.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(limiter.available(), 0);
}

#[test]
fn what_others_want_before_is_reckoned_in() {
    let (limiter, clock, ctx) = with_deadline(Rate::per_second(1).burst(5), 3 * SEC);
    let mut front = queued(&limiter, 3);
    assert_eq!(poll(pin!(limiter.acquire_in(&ctx, 1))), too_late(4 * SEC));
    // A lower class does not go before it.
    drop(front);
    let _low = standing(limiter.acquire(5).priority(selvedge_ratelimit::Priority::Low));
    let mut mine = in_line(&limiter, &ctx, 2);
    front = queued(&limiter, 1);
    assert_eq!(stands(&front), Some((1, Some(3 * SEC))));
    clock.advance(2 * SEC);
    assert_eq!(poll(mine.as_mut()), Poll::Ready(Ok(())));
}

#[test]
fn what_is_there_is_taken_whatever_the_deadline() {
    let (limiter, clock, ctx) = with_deadline(Rate::per_second(1).burst(5), 10 * SEC);
    clock.advance(5 * SEC);
    assert_eq!(poll(pin!(limiter.acquire_in(&ctx, 5))), Poll::Ready(Ok(())));
    assert_eq!(poll(pin!(limiter.acquire_in(&ctx, 0))), Poll::Ready(Ok(())));
    let over = AcquireError::OverBurst { wanted: 6, burst: 5 };
    assert_eq!(poll(pin!(limiter.acquire_in(&ctx, 6))), Poll::Ready(Err(over)));
}

#[test]
fn a_context_that_ends_ends_the_wait_and_those_behind_move_up() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let (ctx, canceller) = Context::background().child();
    let mut waits = in_line(&limiter, &ctx, 3);
    let mut behind = queued(&limiter, 1);
    clock.advance(SEC);
    canceller.cancel();
    let Poll::Ready(Err(AcquireError::Ended(cause))) = poll(waits.as_mut()) else {
        panic!("it was cancelled")
    };
    assert_eq!(cause.kind(), CauseKind::Cancelled);
    drop(waits);
    assert!(served(&mut behind));
    assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
    // Cancelled already: it takes nothing that is there.
    clock.advance(SEC);
    let ended = poll(pin!(limiter.acquire_in(&ctx, 1)));
    assert!(matches!(ended, Poll::Ready(Err(AcquireError::Ended(_)))));
    assert_eq!(limiter.available(), 1);
}

#[test]
fn a_rate_that_is_lowered_meanwhile_lets_the_deadline_end_the_wait() {
    let (limiter, clock, ctx) = with_deadline(Rate::per_second(1).burst(5), 3 * SEC);
    let mut waits = in_line(&limiter, &ctx, 2);
    limiter.set_rate(Rate::every(HOUR));
    clock.advance(3 * SEC);
    let Poll::Ready(Err(AcquireError::Ended(cause))) = poll(waits.as_mut()) else {
        panic!("it is past")
    };
    assert_eq!(cause.kind(), CauseKind::Deadline);
}

#[test]
fn a_context_without_a_deadline_waits_as_long_as_it_takes() {
    let (limiter, clock) = spent(Rate::every(500 * YEAR).burst(1));
    let waits = in_line(&limiter, &Context::background(), 1);
    assert_eq!(limiter.waiting(), 1);
    drop(waits);
    assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
}

#[test]
fn what_never_comes_is_too_late_for_any_deadline() {
    let (limiter, _clock, ctx) = with_deadline(Rate::every(500 * YEAR).burst(1), 50 * YEAR);
    let refused = poll(pin!(limiter.acquire_in(&ctx, 1)));
    assert!(matches!(refused, Poll::Ready(Err(AcquireError::TooLate { .. }))), "{refused:?}");
}

#[test]
fn a_deadline_on_another_drivers_clock_is_as_far_away_as_it_says() {
    // The limiter's clock is years ahead of the context's.
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    clock.advance(YEAR);
    limiter.drain();
    let (timer, other) = Timer::manual();
    let ctx = Context::background().child_with().timer(timer).timeout(10 * SEC).build().unwrap();
    other.advance(7 * SEC);
    assert_eq!(poll(pin!(limiter.acquire_in(&ctx.0, 4))), too_late(4 * SEC));
    let mut waits = in_line(&limiter, &ctx.0, 3);
    clock.advance(3 * SEC);
    assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(())));
    // And it ends by its own clock.
    let mut waits = in_line(&limiter, &ctx.0, 3);
    other.advance(3 * SEC);
    assert!(matches!(poll(waits.as_mut()), Poll::Ready(Err(AcquireError::Ended(_)))));
}

#[test]
fn a_closed_limiter_says_so_before_it_says_too_late() {
    let (limiter, _clock, ctx) = with_deadline(Rate::per_second(1).burst(5), SEC);
    limiter.close();
    let closed = poll(pin!(limiter.acquire_in(&ctx, 5)));
    assert_eq!(closed, Poll::Ready(Err(AcquireError::Closed)));
}

#[test]
fn errors_say_why_and_causes_are_equal_when_they_are_the_same() {
    let (limiter, _clock, ctx) = with_deadline(Rate::per_second(1).burst(5), ZERO);
    let Poll::Ready(Err(ended)) = poll(pin!(limiter.acquire_in(&ctx, 1))) else { panic!("past") };
    assert_eq!(ended.to_string(), "tokens not acquired: the context ended");
    assert_eq!(ended, AcquireError::Ended(ctx.cause().unwrap()));
    assert_ne!(ended, AcquireError::Closed);
    let late = AcquireError::TooLate { due_in: SEC };
    assert_eq!(late.to_string(), "tokens not acquired: they would come in 1s, after the deadline");
    let many = AcquireError::TooMany { waiting: 7 };
    assert_eq!(many.to_string(), "tokens not acquired: 7 wait already, and no more may");
    assert_eq!(AcquireError::Closed.to_string(), "tokens not acquired: the limiter is closed");
}

#[test]
fn on_a_plain_thread_it_is_refused_or_served_in_time() {
    watchdog(LIMIT, "a wait in a context", || {
        let limiter = Limiter::new(Rate::every(5 * MS).burst(1));
        let (ctx, _canceller) = Context::background().with_timeout(HOUR).unwrap();
        for _ in 0..3 {
            block_on(limiter.acquire_in(&ctx, 1)).unwrap();
        }
        let slow = Arc::new(Limiter::new(Rate::every(100 * HOUR).burst(1)));
        slow.try_acquire(1).unwrap();
        let refused = block_on(slow.acquire_in(&ctx, 1));
        assert!(matches!(refused, Err(AcquireError::TooLate { .. })));
    });
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn with_paused_time_it_is_refused_at_once_and_ends_in_time() {
    let start = tokio::time::Instant::now();
    let limiter = Limiter::with_timer(Rate::per_second(1).burst(5), Timer::ambient().unwrap());
    limiter.acquire(5).await.unwrap();
    let (ctx, _canceller) = Context::background().with_timeout(4 * SEC + 500 * MS).unwrap();
    let refused = limiter.acquire_in(&ctx, 5).await.unwrap_err();
    assert_eq!((refused, start.elapsed()), (AcquireError::TooLate { due_in: 5 * SEC }, ZERO));
    limiter.acquire_in(&ctx, 4).await.unwrap();
    assert_eq!(start.elapsed(), 4 * SEC);
    // On std's clock, that hardly moves.
    let other = Limiter::new(Rate::every(HOUR).burst(1));
    other.acquire_in(&ctx, 1).await.unwrap();
    let refused = other.acquire_in(&ctx, 1).await.unwrap_err();
    assert!(matches!(refused, AcquireError::TooLate { .. }));
    // Due in time on std's clock, as far as that goes; the context ends first.
    let other = Limiter::new(Rate::every(400 * MS).burst(1));
    other.acquire_in(&ctx, 1).await.unwrap();
    let ended = other.acquire_in(&ctx, 1).await;
    assert!(matches!(ended, Ok(()) | Err(AcquireError::Ended(_))), "{ended:?}");
}
