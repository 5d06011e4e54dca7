//! Submitting without waiting: each refusal, and that it overtakes nobody.
#![cfg(not(selvedge_loom))]

mod support;

use std::error::Error;
use std::pin::pin;

use selvedge_cancel::{CauseKind, Context};
use selvedge_pool::TrySubmitError;
use selvedge_testkit::block_on;
use support::{Held, guarded, now, poll_once, pool, pool_in, tasks};

#[test]
fn with_room_a_job_is_accepted_and_runs() {
    guarded("with room", || {
        let pool = pool(1, 1);
        let line = line!() + 1;
        let handle = pool.try_submit(|_| 5).unwrap();
        assert_eq!(handle.place().line(), line);
        assert_eq!(block_on(handle).unwrap(), 5);
        let ledger = pool.ledger();
        assert_eq!((ledger.accepted, ledger.refused), (1, 0));
    });
}

#[test]
fn a_full_queue_returns_the_job() {
    guarded("a full queue", || {
        let pool = pool(1, 1);
        let mut running = Held::running(&pool);
        let mut queued = Held::queued(&pool);
        let error = pool.try_submit(|_| 7).unwrap_err();
        assert!(error.is_full() && error.cause().is_none() && error.source().is_none());
        assert_eq!(error.to_string(), "job not accepted: the queue is full");
        assert_eq!(format!("{error:?}"), "Full { cause: None, .. }");
        assert_eq!(error.into_job()(&Context::background()), 7);
        assert_eq!(pool.ledger().refused, 1);
        running.release();
        queued.wait_started();
        assert!(pool.try_submit(|_| ()).is_ok());
        queued.release();
        assert!(block_on(pool.drain()).adds_up());
    });
}

#[test]
fn it_does_not_overtake_those_who_wait() {
    let (pool, mut crew) = tasks(1, 1);
    let slot = now(pool.reserve()).unwrap();
    let mut waits = pin!(pool.submit(|_| async { 1 }));
    assert!(poll_once(waits.as_mut()).is_pending());
    drop(slot);
    let error = pool.try_submit(|_| async { 2 }).unwrap_err();
    assert!(error.is_full(), "the room belongs to the one who waits, polled or not");
    let handle = now(waits).unwrap();
    assert!(poll_once(crew[0].as_mut()).is_pending());
    assert_eq!(now(handle).unwrap(), 1);
    assert!(pool.try_submit(|_| async { 3 }).is_ok());
}

#[test]
fn a_stopping_pool_and_an_aborted_one_say_which_they_are() {
    guarded("an ended pool", || {
        let (context, canceller) = Context::background().child();
        let pool = pool_in(&context, 1, 1);
        let mut held = Held::running(&pool);
        pool.stop();
        let error = pool.try_submit(|_| 7).unwrap_err();
        assert!(matches!(&error, TrySubmitError::Stopping(_, cause)
            if cause.kind() == CauseKind::Stopped));
        assert_eq!(error.to_string(), "job not accepted: the pool is stopping");
        assert!(error.source().is_some());
        canceller.cancel();
        let error = pool.try_submit(|_| 8).unwrap_err();
        assert!(matches!(error, TrySubmitError::Aborted(..)));
        assert_eq!(error.cause().unwrap().kind(), CauseKind::Stopped, "the first cause holds");
        assert_eq!(error.to_string(), "job not accepted: the pool was aborted");
        assert_eq!(error.into_job()(&Context::background()), 8);
        held.release();
        let ledger = block_on(pool.wait());
        assert_eq!((ledger.accepted, ledger.refused), (1, 2));
    });
}
