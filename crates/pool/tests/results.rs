//! The facts of a stream of results: smoke, capacity, close, cancel, drop, panic, bad input.
#![cfg(not(selvedge_loom))]

mod support;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use selvedge_cancel::CauseKind;
use selvedge_pool::{Completed, JobError, Pool, ReserveResult, Results, Submitter, Tasks};
use selvedge_testkit::{CountingWaker, block_on, next};
use support::{ByHand, Gate, Pass, guarded, now, panics_when_dropped, poll_once, pool, tasks};

/// Polls a worker that has nothing to do now.
fn rest(worker: &mut ByHand) {
    assert!(poll_once(worker.as_mut()).is_pending());
}

/// Submits a job that waits for a gate.
fn gated(submitter: &Submitter<u64, Tasks>, value: u64) -> Gate {
    let gate = Gate::default();
    let inside = gate.clone();
    now(submitter.reserve()).unwrap().submit(move |_| async move {
        inside.pass().await;
        value
    });
    gate
}

/// The next result, which is there.
fn take<R>(results: &mut Results<R>) -> Completed<R> {
    match poll_once(pin!(next(results))) {
        Poll::Ready(Some(completed)) => completed,
        _ => panic!("a result is there"),
    }
}

fn is_pending<R>(results: &mut Results<R>) -> bool {
    poll_once(pin!(next(results))).is_pending()
}

fn has_ended<R>(results: &mut Results<R>) -> bool {
    matches!(poll_once(pin!(next(results))), Poll::Ready(None))
}

// Smoke.

#[test]
fn results_come_in_the_order_in_which_the_jobs_end() {
    let (pool, mut crew) = tasks(3, 3);
    let (submitter, mut results) = pool.results(3).unwrap();
    let gates = [10, 20, 30].map(|value| gated(&submitter, value));
    crew.iter_mut().for_each(rest);
    assert!(is_pending(&mut results));
    for index in [2, 0, 1] {
        gates[index].open(Pass::Open);
        crew.iter_mut().for_each(rest);
        let completed = take(&mut results);
        assert_eq!(completed.index, index as u64);
        assert_eq!(completed.result.unwrap(), (index as u64 + 1) * 10);
        assert!(completed.place.file().ends_with("results.rs"));
    }
    drop(submitter);
    assert!(has_ended(&mut results));
    assert!(has_ended(&mut results), "and stays ended");
}

#[test]
fn every_job_of_ten_thousand_brings_its_own_result_once() {
    const JOBS: u64 = 10_000;
    guarded("10,000 results", || {
        let pool = pool(4, 8);
        let (submitter, mut results) = pool.results(16).unwrap();
        let producer = std::thread::spawn(move || {
            for n in 0..JOBS {
                let slot = block_on(submitter.reserve()).unwrap();
                assert_eq!(slot.submit(move |_| n * 3), n);
            }
        });
        let mut seen = vec![false; JOBS as usize];
        while let Some(completed) = block_on(next(&mut results)) {
            assert_eq!(completed.result.unwrap(), completed.index * 3);
            assert!(!std::mem::replace(&mut seen[completed.index as usize], true));
            assert!(pool.ledger().adds_up());
        }
        producer.join().unwrap();
        assert!(seen.into_iter().all(|seen| seen));
        assert_eq!(block_on(pool.drain()).finished, JOBS);
    });
}

// Capacity.

#[test]
fn a_stream_that_is_not_polled_stops_the_submitter_and_no_worker() {
    let (pool, mut crew) = tasks(1, 8);
    let (submitter, mut results) = pool.results(2).unwrap();
    for value in 0..2 {
        gated(&submitter, value).open(Pass::Open);
    }
    rest(&mut crew[0]);
    let mut first = pin!(submitter.reserve());
    let mut second = pin!(submitter.reserve());
    assert!(poll_once(first.as_mut()).is_pending(), "two results are there already");
    assert!(poll_once(second.as_mut()).is_pending());
    // It holds nothing of the pool's: others submit and are run.
    let other = now(pool.submit(|_| async { 5 })).unwrap();
    rest(&mut crew[0]);
    assert_eq!(now(other).unwrap(), 5);
    assert_eq!(take(&mut results).index, 0);
    assert!(poll_once(second.as_mut()).is_pending(), "the first in line is served");
    drop(now(first).unwrap());
    drop(now(second).unwrap());
}

#[test]
fn a_slot_that_is_dropped_gives_back_place_and_room() {
    let (pool, _crew) = tasks(1, 1);
    let (submitter, mut results) = pool.results::<u64>(1).unwrap();
    let slot = now(submitter.reserve()).unwrap();
    assert!(poll_once(pin!(pool.reserve())).is_pending());
    let mut waits = Box::pin(submitter.reserve());
    assert!(poll_once(waits.as_mut()).is_pending());
    drop(slot);
    drop(now(waits).unwrap());
    drop(now(pool.reserve()).unwrap());
    drop(submitter);
    assert!(has_ended(&mut results));
}

#[test]
fn a_reservation_that_waits_for_room_keeps_its_place() {
    let (pool, _crew) = tasks(1, 1);
    let (submitter, _results) = pool.results::<u64>(1).unwrap();
    let slot = now(pool.reserve()).unwrap();
    let mut first = Box::pin(submitter.reserve());
    assert!(poll_once(first.as_mut()).is_pending(), "it has the place, and no room");
    let mut second = pin!(submitter.reserve());
    assert!(poll_once(second.as_mut()).is_pending());
    drop(slot);
    assert!(poll_once(second.as_mut()).is_pending());
    drop(first);
    drop(now(second).unwrap());
}

// Close.

#[test]
fn the_stream_waits_for_jobs_and_slots_after_the_submitter_is_gone() {
    let (pool, mut crew) = tasks(1, 2);
    let (submitter, mut results) = pool.results(2).unwrap();
    let gate = gated(&submitter, 1);
    let slot = now(submitter.reserve()).unwrap();
    drop(submitter);
    rest(&mut crew[0]);
    assert!(is_pending(&mut results));
    gate.open(Pass::Open);
    rest(&mut crew[0]);
    assert_eq!(take(&mut results).result.unwrap(), 1);
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut cx = TaskContext::from_waker(&waker);
    assert!(Pin::new(&mut next(&mut results)).poll(&mut cx).is_pending(), "the slot is out");
    drop(slot);
    assert_eq!(counting.wakes(), 1);
    assert!(has_ended(&mut results));
}

#[test]
fn a_drained_pool_ends_the_stream_while_the_submitter_lives() {
    let (pool, mut crew) = tasks(1, 2);
    let (submitter, mut results) = pool.results(2).unwrap();
    gated(&submitter, 1).open(Pass::Open);
    pool.stop();
    assert!(is_pending(&mut results));
    assert!(poll_once(crew[0].as_mut()).is_ready());
    assert_eq!(take(&mut results).result.unwrap(), 1);
    assert!(has_ended(&mut results));
    let error = now(submitter.reserve()).unwrap_err();
    assert_eq!(error.cause().kind(), CauseKind::Stopped);
    assert!(has_ended(&mut results));
}

// Cancel.

#[test]
fn an_abort_brings_out_what_it_cancelled_then_the_end() {
    let (pool, mut crew) = tasks(1, 3);
    let (submitter, mut results) = pool.results(4).unwrap();
    for value in 0..3 {
        gated(&submitter, value);
    }
    rest(&mut crew[0]);
    let late = now(submitter.reserve()).unwrap();
    pool.abort();
    assert!(poll_once(crew[0].as_mut()).is_ready());
    let mut cancelled = Vec::new();
    for _ in 0..3 {
        let completed = take(&mut results);
        assert!(matches!(completed.result, Err(JobError::Cancelled(_))));
        cancelled.push(completed.index);
    }
    assert_eq!(cancelled, [1, 2, 0], "the queued ones at once, the running one by its task");
    assert!(is_pending(&mut results), "a slot is out");
    assert_eq!(late.submit(|_| async { 9 }), 3);
    assert!(take(&mut results).result.is_err());
    assert!(has_ended(&mut results));
    let ledger = pool.ledger();
    assert!(ledger.adds_up() && ledger.cancelled == 4, "{ledger}");
}

#[test]
fn a_reservation_that_was_given_a_place_and_is_not_polled_keeps_the_stream_open() {
    let (pool, mut crew) = tasks(1, 2);
    let (submitter, mut results) = pool.results(1).unwrap();
    gated(&submitter, 1).open(Pass::Open);
    rest(&mut crew[0]);
    let mut given: Pin<Box<ReserveResult<'_, u64, Tasks>>> = Box::pin(submitter.reserve());
    assert!(poll_once(given.as_mut()).is_pending());
    assert_eq!(take(&mut results).result.unwrap(), 1);
    pool.abort();
    assert!(poll_once(crew[0].as_mut()).is_ready());
    assert!(is_pending(&mut results), "it has the place");
    assert!(now(given).is_err());
    assert!(has_ended(&mut results));
}

#[test]
fn who_waits_for_a_place_is_told_of_the_stop() {
    let (pool, _crew) = tasks(1, 2);
    let (submitter, _results) = pool.results(1).unwrap();
    gated(&submitter, 1);
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut waits: Pin<Box<ReserveResult<'_, u64, Tasks>>> = Box::pin(submitter.reserve());
    assert!(waits.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    pool.stop();
    assert_eq!(counting.wakes(), 1);
    let error = now(waits).unwrap_err();
    assert_eq!(error.cause().kind(), CauseKind::Stopped);
    assert_eq!(pool.ledger().refused, 1);
}

// Drop.

#[test]
fn dropping_the_stream_detaches_the_jobs() {
    let (pool, mut crew) = tasks(1, 4);
    let (submitter, results) = pool.results(3).unwrap();
    let alive = Arc::new(());
    let submit = || {
        let inside = Arc::clone(&alive);
        now(submitter.reserve()).unwrap().submit(move |_| async move { inside });
    };
    submit();
    submit();
    rest(&mut crew[0]);
    submit();
    let mut waits = pin!(submitter.reserve());
    assert!(poll_once(waits.as_mut()).is_pending());
    assert!(!submitter.is_detached());
    drop(results);
    assert!(submitter.is_detached());
    assert_eq!(Arc::strong_count(&alive), 2, "what was there is dropped");
    rest(&mut crew[0]);
    assert_eq!(Arc::strong_count(&alive), 1, "what comes is dropped");
    // There is always a place now; the pool's own bound holds.
    let slots = [now(waits).unwrap(), now(submitter.reserve()).unwrap()];
    for slot in slots {
        let inside = Arc::clone(&alive);
        slot.submit(move |_| async move { inside });
    }
    rest(&mut crew[0]);
    assert_eq!(Arc::strong_count(&alive), 1);
    let ledger = pool.ledger();
    assert_eq!((ledger.accepted, ledger.finished), (5, 5), "{ledger}");
}

#[test]
fn neither_side_keeps_the_pool_running() {
    let (pool, mut crew) = tasks(1, 1);
    let (submitter, mut results) = pool.results(1).unwrap();
    gated(&submitter, 1);
    rest(&mut crew[0]);
    drop(pool);
    assert!(poll_once(crew[0].as_mut()).is_ready());
    let error = take(&mut results).result.unwrap_err();
    assert!(matches!(error, JobError::Cancelled(cause) if cause.kind() == CauseKind::Dropped));
    assert!(has_ended(&mut results));
    assert!(now(submitter.reserve()).is_err());
}

// Panic.

#[test]
fn a_panic_comes_out_with_its_index() {
    let (pool, mut crew) = tasks(1, 2);
    let (submitter, mut results) = pool.results(2).unwrap();
    gated(&submitter, 0).open(Pass::Panic);
    gated(&submitter, 1).open(Pass::Open);
    rest(&mut crew[0]);
    let first = take(&mut results);
    let Err(JobError::Panicked(panic)) = first.result else { panic!("it panicked") };
    assert_eq!((first.index, panic.message()), (0, "told to"));
    assert_eq!(take(&mut results).result.unwrap(), 1);
}

#[test]
fn unwanted_results_that_panic_when_dropped_are_contained() {
    /// Panics when it is dropped.
    struct Nasty;
    impl Drop for Nasty {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("this destructor panics"));
        }
    }
    let (pool, mut crew) = tasks(1, 3);
    let (submitter, results) = pool.results(3).unwrap();
    for _ in 0..2 {
        now(submitter.reserve()).unwrap().submit(|_| async { Nasty });
    }
    rest(&mut crew[0]);
    drop(results);
    now(submitter.reserve()).unwrap().submit(|_| async { Nasty });
    rest(&mut crew[0]);
    assert_eq!(pool.ledger().finished, 3);
}

/// The last reference to another task may go with a waker, and its destructor may panic.
#[test]
fn a_waker_that_panics_when_it_is_dropped_loses_no_place_and_no_result() {
    let (pool, mut crew) = tasks(1, 1);
    let (submitter, mut results) = pool.results(2).unwrap();
    let panics = panics_when_dropped();
    let mut cx = TaskContext::from_waker(&panics);

    let slot = now(pool.reserve()).unwrap();
    let mut waits: Pin<Box<ReserveResult<'_, u64, Tasks>>> = Box::pin(submitter.reserve());
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    drop(waits);
    drop(slot);

    assert!(Pin::new(&mut next(&mut results)).poll(&mut cx).is_pending());
    assert!(is_pending(&mut results), "the other waker is dropped here");
    gated(&submitter, 5).open(Pass::Open);
    rest(&mut crew[0]);
    let Poll::Ready(Some(completed)) = Pin::new(&mut next(&mut results)).poll(&mut cx) else {
        panic!("it has completed");
    };
    assert_eq!(completed.result.unwrap(), 5);
    drop(submitter);
    assert!(has_ended(&mut results), "the place of the reservation was given back");
}

// Bad input.

#[test]
fn no_capacity_is_a_typed_error() {
    let (pool, _crew) = tasks(1, 1);
    let error = pool.results::<()>(0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "stream of results not made: its capacity would be 0, ask for at least 1"
    );
}

#[test]
fn a_board_without_bound_is_spelled_max() {
    let (pool, mut crew) = tasks(1, usize::MAX);
    let (submitter, mut results) = pool.results(usize::MAX).unwrap();
    for value in 0..1000 {
        gated(&submitter, value).open(Pass::Open);
    }
    rest(&mut crew[0]);
    drop(submitter);
    for value in 0..1000 {
        assert_eq!(take(&mut results).result.unwrap(), value);
    }
    assert!(has_ended(&mut results));
}

#[test]
#[should_panic(expected = "`ReserveResult` polled after it completed")]
fn a_reservation_polled_after_it_completed_panics() {
    let (pool, _crew): (Pool<Tasks>, _) = tasks(1, 1);
    let (submitter, _results) = pool.results::<()>(1).unwrap();
    let mut reserve = pin!(submitter.reserve());
    drop(now(reserve.as_mut()).unwrap());
    let _ = now(reserve);
}
