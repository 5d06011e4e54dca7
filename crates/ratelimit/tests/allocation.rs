//! What waiting allocates: nothing, once the timer has room for one registration.
#![cfg(not(selvedge_loom))]

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use selvedge_ratelimit::{Limiter, Rate, Timer};
use selvedge_testkit::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn neither_taking_nor_waiting_nor_serving_allocates() {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(Rate::per_second(1).burst(2), timer);
    let mut cx = Context::from_waker(Waker::noop());
    let mut round = || {
        limiter.try_acquire(2).unwrap();
        let mut borrowed = pin!(limiter.acquire(1));
        let mut owned = pin!(limiter.acquire_owned(1));
        assert!(borrowed.as_mut().poll(&mut cx).is_pending());
        assert!(owned.as_mut().poll(&mut cx).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(borrowed.as_mut().poll(&mut cx).is_ready());
        clock.advance(Duration::from_secs(1));
        assert!(owned.as_mut().poll(&mut cx).is_ready());
        clock.advance(Duration::from_secs(2));
    };
    round();
    let counted = CountingAllocator::count(|| (0..10).for_each(|_| round()));
    assert_eq!((counted.allocations, counted.frees), (0, 0));
}
