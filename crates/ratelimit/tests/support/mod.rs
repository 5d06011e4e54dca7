//! A limiter on a clock that is moved by hand, and those who wait for its tokens, polled one by one.
#![allow(dead_code, reason = "each test file takes what it needs")]

pub(crate) mod scene;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge_ratelimit::{Acquire, Limiter, ManualClock, Priority, Quota, Standing, Timer};

pub(crate) const ZERO: Duration = Duration::ZERO;
pub(crate) const NS: Duration = Duration::from_nanos(1);
pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SEC: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const YEAR: Duration = Duration::from_secs(31_556_952);

/// Ends a hang; no test comes near it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A limiter on a clock of its own.
pub(crate) fn limiter(quota: Quota) -> (Limiter, ManualClock) {
    let (timer, clock) = Timer::manual();
    (Limiter::with_timer(quota, timer), clock)
}

/// Nothing is left of the burst.
pub(crate) fn spent(quota: Quota) -> (Limiter, ManualClock) {
    let (limiter, clock) = limiter(quota);
    limiter.try_acquire(quota.burst_size()).unwrap();
    (limiter, clock)
}

pub(crate) fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Somebody who waits.
pub(crate) type Waiter<'a> = Pin<Box<Acquire<'a>>>;

/// In line for what is asked.
pub(crate) fn standing(acquire: Acquire<'_>) -> Waiter<'_> {
    let mut acquire = Box::pin(acquire);
    assert!(poll(acquire.as_mut()).is_pending());
    acquire
}

/// In line for `n` tokens.
pub(crate) fn queued(limiter: &Limiter, n: u32) -> Waiter<'_> {
    standing(limiter.acquire(n))
}

/// In line for `n` tokens, in a class.
pub(crate) fn queued_as(limiter: &Limiter, priority: Priority, n: u32) -> Waiter<'_> {
    standing(limiter.acquire(n).priority(priority))
}

/// Whether it has its tokens.
pub(crate) fn served(acquire: &mut Waiter<'_>) -> bool {
    poll(acquire.as_mut()).map(Result::unwrap).is_ready()
}

/// How many of them have their tokens; these leave.
pub(crate) fn serve(line: &mut Vec<Waiter<'_>>) -> usize {
    let before = line.len();
    line.retain_mut(|waiter| !served(waiter));
    before - line.len()
}

/// Who is before it, and when it is due.
pub(crate) fn stands(acquire: &Waiter<'_>) -> Option<(usize, Option<Duration>)> {
    let Standing { ahead, due_in, .. } = acquire.as_ref().standing()?;
    Some((ahead, due_in))
}

/// How many single tokens are to be had now.
pub(crate) fn singles(limiter: &Limiter) -> u32 {
    std::iter::from_fn(|| limiter.try_acquire(1).ok()).count() as u32
}

/// Advances up to `due`, in which nothing happens before its last nanosecond; then that.
#[track_caller]
pub(crate) fn served_after(clock: &ManualClock, due: Duration, waiter: &mut Waiter<'_>) {
    clock.advance(due - NS);
    assert!(!served(waiter), "before {due:?}");
    clock.advance(NS);
    assert!(served(waiter), "after {due:?}");
}

/// How often another task gets its turn while `work` runs.
#[cfg(feature = "tokio")]
pub(crate) async fn turns_of_another(work: impl Future<Output = ()>) -> u32 {
    let turns = std::rc::Rc::new(std::cell::Cell::new(0));
    let local = tokio::task::LocalSet::new();
    let counted = turns.clone();
    local.spawn_local(async move {
        loop {
            counted.set(counted.get() + 1);
            selvedge_testkit::yield_now().await;
        }
    });
    local.run_until(work).await;
    turns.get()
}
