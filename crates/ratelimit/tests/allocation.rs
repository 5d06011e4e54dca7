//! What a limiter allocates in steady state: nothing, whether it grants, refuses or lets wait.
#![cfg(not(selvedge_loom))]

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use selvedge_ratelimit::{Limiter, Priority, Rate, Timer};
use selvedge_testkit::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Once for what is made at the first use, and then ten times; what that allocates and frees.
fn steady(mut round: impl FnMut()) -> (u64, u64) {
    round();
    let counted = CountingAllocator::count(|| (0..10).for_each(|_| round()));
    (counted.allocations, counted.frees)
}

#[test]
fn a_try_that_is_granted_allocates_nothing() {
    for timer in [Timer::thread(), Timer::manual().0] {
        let limiter = Limiter::with_timer(Rate::per_second(1).burst(1_000), timer);
        assert_eq!(steady(|| limiter.try_acquire(1).unwrap()), (0, 0));
        assert_eq!(steady(|| assert_eq!(limiter.take_up_to(2), 2)), (0, 0));
    }
}

#[test]
fn a_try_that_is_refused_allocates_nothing() {
    for timer in [Timer::thread(), Timer::manual().0] {
        let limiter = Limiter::with_timer(Rate::per_hour(1).burst(1), timer);
        limiter.try_acquire(1).unwrap();
        let refused = || assert!(limiter.try_acquire(1).unwrap_err().retry_in().is_some());
        assert_eq!(steady(refused), (0, 0));
        assert_eq!(steady(|| assert!(limiter.try_acquire(2).is_err())), (0, 0));
    }
}

#[test]
fn neither_waiting_nor_serving_allocates() {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(Rate::per_second(1).burst(2), timer);
    let mut cx = Context::from_waker(Waker::noop());
    let round = || {
        limiter.try_acquire(2).unwrap();
        let mut borrowed = pin!(limiter.acquire(1));
        let mut owned = pin!(limiter.acquire_owned(1).priority(Priority::Low));
        let mut split = pin!(limiter.acquire(3).priority(Priority::Low).split());
        assert!(borrowed.as_mut().poll(&mut cx).is_pending());
        assert!(owned.as_mut().poll(&mut cx).is_pending());
        assert!(split.as_mut().poll(&mut cx).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(borrowed.as_mut().poll(&mut cx).is_ready());
        clock.advance(Duration::from_secs(1));
        assert!(owned.as_mut().poll(&mut cx).is_ready());
        clock.advance(Duration::from_secs(2));
        clock.advance(Duration::from_secs(1));
        assert!(split.as_mut().poll(&mut cx).is_ready());
        clock.advance(Duration::from_secs(2));
    };
    assert_eq!(steady(round), (0, 0));
}

#[test]
fn neither_giving_up_nor_changing_nor_charging_allocates() {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(Rate::per_second(1).burst(2), timer);
    let mut cx = Context::from_waker(Waker::noop());
    let round = || {
        limiter.drain();
        {
            let mut waits = pin!(limiter.acquire(1));
            let mut granted = pin!(limiter.acquire(1));
            assert!(granted.as_mut().poll(&mut cx).is_pending());
            assert!(waits.as_mut().poll(&mut cx).is_pending());
            assert!(waits.as_ref().standing().is_some());
            clock.advance(Duration::from_secs(1));
        }
        limiter.charge(1);
        limiter.set_rate(Rate::per_second(7));
        limiter.set_quota(Rate::per_second(1).burst(2));
        clock.advance(Duration::from_secs(9));
    };
    assert_eq!(steady(round), (0, 0));
}

#[test]
fn a_reservation_allocates_its_place_in_the_line_and_nothing_if_it_is_due() {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(Rate::per_second(1).burst(2), timer);
    assert_eq!(steady(|| assert_eq!(limiter.reserve(2).unwrap().cancel(), 2)), (0, 0));
    limiter.drain();
    let round = || {
        let _ = limiter.reserve(1).unwrap().cancel();
        clock.advance(Duration::ZERO);
    };
    assert_eq!(steady(round), (10, 10));
}
