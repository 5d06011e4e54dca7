//! What a job allocates: itself and the cell of its result; nothing while anybody waits.
#![cfg(not(selvedge_loom))]

mod support;

use std::pin::pin;
use std::task::{Context as TaskContext, Waker};

use selvedge_testkit::{CountingAllocator, block_on};
use support::{Held, guarded, now, poll_once, pool, tasks};

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

#[test]
fn a_job_of_a_task_costs_two_allocations_from_submit_to_result() {
    let (pool, mut crew) = tasks(1, 2);
    // The queue's memory stays once it has grown.
    drop(now(pool.submit(|_| async {})).unwrap());
    assert!(poll_once(crew[0].as_mut()).is_pending());
    let counted = CountingAllocator::count(|| {
        let handle = now(pool.submit(|_| async { 7 })).unwrap();
        assert!(poll_once(crew[0].as_mut()).is_pending());
        assert_eq!(now(handle).unwrap(), 7);
    });
    assert_eq!((counted.allocations, counted.frees), (2, 2));
}

#[test]
fn a_job_whose_result_goes_to_a_stream_costs_one() {
    let (pool, mut crew) = tasks(1, 2);
    let (submitter, _results) = pool.results(8).unwrap();
    let mut submit = || {
        now(submitter.reserve()).unwrap().submit(|_| async { 7 });
        assert!(poll_once(crew[0].as_mut()).is_pending());
    };
    // The board's memory grows to its first size.
    submit();
    assert_eq!(CountingAllocator::count(submit).allocations, 1);
}
