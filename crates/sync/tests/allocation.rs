//! What acquiring allocates: nothing, whether it waits or not.
#![cfg(not(selvedge_loom))]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use selvedge_sync::Semaphore;
use selvedge_testkit::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn neither_taking_nor_waiting_nor_handing_out_allocates() {
    let semaphore = Arc::new(Semaphore::new(1));
    let mut cx = Context::from_waker(Waker::noop());
    let counted = CountingAllocator::count(|| {
        let permit = semaphore.try_acquire(1).unwrap();
        let mut borrowed = pin!(semaphore.acquire(1));
        let mut owned = pin!(semaphore.acquire_owned(1));
        assert!(borrowed.as_mut().poll(&mut cx).is_pending());
        assert!(owned.as_mut().poll(&mut cx).is_pending());
        drop(permit);
        assert!(borrowed.as_mut().poll(&mut cx).map(drop).is_ready());
        assert!(owned.as_mut().poll(&mut cx).map(drop).is_ready());
        drop(semaphore.acquire_blocking(1).unwrap());
    });
    assert_eq!((counted.allocations, counted.frees), (0, 0));
    assert_eq!(semaphore.available(), 1);
}
