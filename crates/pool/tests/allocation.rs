//! What a job allocates: itself and the cell of its result; nothing while anybody waits.
#![cfg(not(selvedge_loom))]

mod support;

use std::pin::pin;
use std::task::{Context as TaskContext, Waker};

use selvedge_testkit::{CountingAllocator, block_on};
use support::{Held, guarded, pool};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_job_costs_two_allocations_and_waiting_costs_none() {
    guarded("counting", || {
        let pool = pool(1, 4);
        let mut running = Held::running(&pool);
        // The queue's memory stays once it has grown.
        for _ in 0..4 {
            drop(block_on(pool.submit(|_| ())).unwrap());
        }
        running.release();
        let mut running = Held::queued(&pool);
        running.wait_started();

        let number = 7_u64;
        let mut cx = TaskContext::from_waker(Waker::noop());
        let counted = CountingAllocator::count(|| {
            let mut submit = pin!(pool.submit(move |_| number));
            let handle = submit.as_mut().poll(&mut cx).map(Result::unwrap);
            assert!(handle.is_ready());
        });
        assert_eq!(counted.allocations, 2);

        let slots: Vec<_> = (0..3).map(|_| block_on(pool.reserve()).unwrap()).collect();
        let mut handle = running.handle.take().unwrap();
        let counted = CountingAllocator::count(|| {
            let mut waits = pin!(pool.reserve());
            assert!(waits.as_mut().poll(&mut cx).is_pending());
            assert!(waits.as_mut().poll(&mut cx).is_pending());
            assert!(pin!(&mut handle).poll(&mut cx).is_pending());
        });
        assert_eq!((counted.allocations, counted.frees), (0, 0));
        drop(slots);
        running.release();
        block_on(pool.drain());
    });
}
