//! The races of the engine, explored by loom on the real cancellation tree. The list of models, with
//! the bounds of each tier, is in `loom-models.toml`.
//!
//! Every pool makes a node of its own below the context it is given, so each model walks the real
//! tree when it stops or aborts. Every model waits for the pool's end, so that each worker is seen to
//! leave. Jobs only return: an assertion inside one would end as a panic of the job.
#![cfg(selvedge_loom)]

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use selvedge_cancel::Context;
use selvedge_pool::{JobError, JobHandle, Ledger, Pool};
use selvedge_primitives::{block_on, model, thread};
use selvedge_testkit::ReentrantWaker;

/// One worker, one place in the queue.
fn pool(context: &Context) -> Pool {
    Pool::builder().workers(1).queue(1).build(context).expect("loom starts any thread")
}

/// Waits for the end, and checks the ledger there.
fn end(pool: &Pool) -> Ledger {
    let ledger = block_on(pool.wait());
    assert!(ledger.adds_up(), "{ledger}");
    assert_eq!((ledger.queued, ledger.running), (0, 0), "{ledger}");
    ledger
}

/// What became of a job, beside what the ledger says.
fn settle(handle: JobHandle<u32>) -> Result<u32, JobError> {
    assert!(handle.is_finished(), "the pool has ended");
    block_on(handle)
}

/// The worker finds the queue empty and goes to sleep while a job is queued: it must see the job, or
/// the submitter must see it sleeping. Two jobs and one place, so that the second submitter may have
/// to wait for the worker to make room.
#[test]
fn pool_submit_vs_park() {
    model::check(|| {
        let pool = pool(&Context::background());
        let first = block_on(pool.submit(|_| 1)).expect("the pool is open");
        let second = block_on(pool.submit(|_| 2)).expect("the pool is open");
        assert_eq!(block_on(second).expect("it runs"), 2);
        // Jobs start in order, and a job is counted before its handle completes.
        assert!(first.is_finished());
        let ledger = pool.ledger();
        assert_eq!((ledger.accepted, ledger.finished), (2, 2), "{ledger}");
        pool.abort();
        assert_eq!(end(&pool), ledger);
        assert_eq!(settle(first).expect("it ran"), 1);
    });
}

/// The pool is aborted while its worker takes and finishes the job: it ran and brought its result, or
/// it was cancelled and dropped; the handle and the ledger agree, and a job that was cancelled is
/// gone by the end.
#[test]
fn pool_abort_vs_finish() {
    model::check(|| {
        let pool = pool(&Context::background());
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let handle = block_on(pool.submit(move |_| {
            drop(inside);
            1
        }));
        let handle = handle.expect("the pool is open");
        let watcher = pool.watch();
        let aborter = thread::spawn("aborter".into(), move || drop(pool)).unwrap();

        let ledger = block_on(watcher.wait());
        assert!(ledger.adds_up(), "{ledger}");
        assert_eq!(Arc::strong_count(&held), 1, "the job is gone at the end");
        assert!(handle.is_finished(), "a job is settled by the end");
        match block_on(handle) {
            Ok(result) => assert_eq!((result, ledger.finished, ledger.cancelled), (1, 1, 0)),
            Err(JobError::Cancelled(_)) => {
                assert_eq!((ledger.finished, ledger.cancelled), (0, 1));
            }
            Err(other) => panic!("{other}"),
        }
        aborter.join().unwrap();
    });
}

/// The pool is drained while a job is submitted: it is returned, or it is run before the end.
#[test]
fn pool_drain_vs_submit() {
    model::check(|| {
        let pool = Arc::new(pool(&Context::background()));
        let submitter = {
            let pool = Arc::clone(&pool);
            thread::spawn("submitter".into(), move || block_on(pool.submit(|_| 1)).ok()).unwrap()
        };
        let drained = block_on(pool.drain());
        assert!(drained.adds_up(), "{drained}");
        let handle = submitter.join().unwrap();
        let ledger = end(&pool);
        assert_eq!((ledger.cancelled, drained.accepted), (0, ledger.accepted));
        match handle {
            Some(handle) => {
                assert_eq!((ledger.finished, ledger.refused), (1, 0));
                assert_eq!(settle(handle).expect("what was accepted is run"), 1);
            }
            None => assert_eq!((ledger.finished, ledger.refused), (0, 1)),
        }
    });
}

/// A reserved slot is used while the pool drains: the worker must not leave before it.
#[test]
fn pool_drain_vs_slot_use() {
    model::check(|| {
        let pool = pool(&Context::background());
        let slot = block_on(pool.reserve()).expect("the pool is open");
        pool.stop();
        let handle = slot.submit(|_| 1);
        let ledger = end(&pool);
        assert_eq!((ledger.accepted, ledger.finished), (1, 1), "{ledger}");
        assert_eq!(settle(handle).expect("a slot was admitted"), 1);
    });
}

/// A reserved slot is given back while the pool drains: the worker, which may be asleep, must learn
/// that there is nothing left to wait for.
#[test]
fn pool_drain_vs_slot_drop() {
    model::check(|| {
        let pool = pool(&Context::background());
        let slot = block_on(pool.reserve()).expect("the pool is open");
        let user = thread::spawn("user".into(), move || drop(slot)).unwrap();
        let ledger = block_on(pool.drain());
        assert!(ledger.adds_up(), "{ledger}");
        assert_eq!(ledger.accepted, 0);
        user.join().unwrap();
    });
}

/// The parent of the pool's context is cancelled while the worker goes to sleep: the worker must be
/// woken or see it, though nobody calls the pool. A submitter that comes at the same time is turned
/// away, or its job is run or cancelled.
#[test]
fn pool_cancel_context_vs_park() {
    model::check(|| {
        let (context, canceller) = Context::background().child();
        let pool = pool(&context);
        let canceller = thread::spawn("canceller".into(), move || canceller.cancel()).unwrap();
        let ledger = end(&pool);
        assert_eq!(ledger.accepted, 0);
        canceller.join().unwrap();
    });
}

/// As before, with a job in the queue that the worker may have started.
#[test]
fn pool_cancel_context_vs_queued() {
    model::check(|| {
        let (context, canceller) = Context::background().child();
        let pool = pool(&context);
        let handle = block_on(pool.submit(|_| 1)).expect("the pool is open");
        canceller.cancel();
        assert!(block_on(pool.submit(|_| 2)).is_err(), "the pool's context is cancelled");
        let ledger = end(&pool);
        assert_eq!((ledger.accepted, ledger.refused), (1, 1), "{ledger}");
        assert_eq!(settle(handle).is_ok(), ledger.finished == 1);
    });
}

/// The parent of the pool's context is stopped while the pool starts and the worker goes to sleep:
/// nobody calls the pool, and it drains.
#[test]
fn pool_stop_context_vs_park() {
    model::check(|| {
        let (context, canceller) = Context::background().child();
        let pool = pool(&context);
        let right = canceller.clone();
        let stopper = thread::spawn("stopper".into(), move || right.stop(Duration::MAX)).unwrap();
        assert_eq!(end(&pool).accepted, 0);
        stopper.join().unwrap();
        drop(canceller);
    });
}

/// A cancel follows a stop while the worker sleeps in a pool that waits for a slot: the second level
/// must reach it, too.
#[test]
fn pool_cancel_after_stop_vs_park() {
    model::check(|| {
        let (context, canceller) = Context::background().child();
        let pool = pool(&context);
        let slot = block_on(pool.reserve()).expect("the pool is open");
        canceller.stop(Duration::MAX);
        canceller.cancel();
        let ledger = end(&pool);
        assert_eq!(ledger.accepted, 0);
        let handle = slot.submit(|_| 1);
        assert!(matches!(settle(handle), Err(JobError::Cancelled(_))));
        let ledger = pool.ledger();
        assert!(ledger.adds_up() && ledger.cancelled == 1, "{ledger}");
    });
}

/// The handle is dropped while the job ends: the result is dropped by the one or by the other, once,
/// and the job counts as finished.
#[test]
fn pool_handle_drop_vs_finish() {
    model::check(|| {
        let pool = pool(&Context::background());
        let result = Arc::new(());
        let made = Arc::clone(&result);
        let mut handle = Box::pin(block_on(pool.submit(move |_| made)).expect("it is open"));
        // Polled once, so that there may be a waker to take or drop. What was ready is kept: the
        // race is then over.
        let polled = block_on(poll_fn(|cx| Poll::Ready(handle.as_mut().poll(cx))));
        if let Poll::Ready(taken) = &polled {
            assert!(taken.is_ok());
        }
        drop(polled);
        drop(handle);
        let ledger = block_on(pool.drain());
        assert_eq!((ledger.accepted, ledger.finished), (1, 1), "{ledger}");
        assert_eq!(Arc::strong_count(&result), 1, "the result is gone");
    });
}

/// A submitter that waits for room is dropped while the worker grants it: the room goes to the one
/// behind it.
#[test]
fn pool_submit_drop_vs_grant() {
    model::check(|| {
        let pool = pool(&Context::background());
        let slot = block_on(pool.reserve()).expect("the pool is open");
        let mut first = Box::pin(pool.reserve());
        let mut second = pin!(pool.submit(|_| 2));
        block_on(poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending());
            assert!(second.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        }));
        // The worker takes it, and with that makes room for `first`.
        let third = slot.submit(|_| 3);
        drop(first);
        let second = block_on(second).expect("the room is passed on");
        let ledger = block_on(pool.drain());
        assert_eq!((ledger.accepted, ledger.finished), (2, 2), "{ledger}");
        assert_eq!(settle(second).expect("it ran"), 2);
        assert_eq!(settle(third).expect("it ran"), 3);
    });
}

/// Wakers that call the pool again: no lock is held over them, whoever calls them. One waits for
/// room, one for the result, one for the end.
#[test]
fn pool_wakers_reenter() {
    model::check(|| {
        let pool = pool(&Context::background());
        let watcher = pool.watch();
        let handle = Arc::new(OnceLock::<JobHandle<u32>>::new());
        let waker = {
            let (watcher, handle) = (watcher.clone(), Arc::clone(&handle));
            ReentrantWaker::on_wake(move || {
                assert!(watcher.ledger().adds_up());
                let _ = pin!(watcher.wait()).poll(&mut TaskContext::from_waker(Waker::noop()));
                let _ = handle.get().map(JobHandle::is_finished);
            })
        };
        let waker = waker.waker();
        let mut cx = TaskContext::from_waker(&waker);

        let slot = block_on(pool.reserve()).expect("the pool is open");
        let mut room = Box::pin(pool.reserve());
        let mut gate = pin!(watcher.wait());
        assert!(room.as_mut().poll(&mut cx).is_pending());
        assert!(gate.as_mut().poll(&mut cx).is_pending());
        let mut job = slot.submit(|_| 1);
        let taken = Pin::new(&mut job).poll(&mut cx).is_ready();
        handle.set(job).expect("set once");
        drop(room);
        let ledger = block_on(pool.drain());
        assert_eq!((ledger.accepted, ledger.finished), (1, 1), "{ledger}");
        assert!(taken || handle.get().is_some_and(JobHandle::is_finished));
    });
}
