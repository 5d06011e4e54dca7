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
use selvedge_pool::{
    Completed, JobError, JobHandle, Ledger, Pool, Tasks, TrySubmitError, Worker, WorkersLost,
};
use selvedge_primitives::{Mutex, block_on, model, thread};
use selvedge_testkit::{ReentrantWaker, next};

/// One worker, one place in the queue.
fn pool(context: &Context) -> Pool {
    Pool::builder().workers(1).queue(1).build(context).expect("loom starts any thread")
}

/// Waits for the end, and checks the ledger there.
fn end<W>(pool: &Pool<W>) -> Ledger {
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
    model::check_counts(|| {
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
    model::check_counts(|| {
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
    model::check_counts(|| {
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
    model::check_counts(|| {
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

// Workers that are tasks. Each is driven by a thread of loom's, as an executor would.

/// One worker in a thread of its own, one place in the queue.
fn tasks(context: &Context) -> (Pool<Tasks>, thread::JoinHandle<()>) {
    let mut driver = None;
    let pool = Pool::builder().workers(1).queue(1).build_on(context, |worker| {
        driver = Some(thread::spawn("driver".into(), || block_on(worker)).unwrap());
    });
    (pool.expect("the sizes are good"), driver.expect("one worker"))
}

/// A pool of tasks whose worker the model drives itself.
fn by_hand() -> (Pool<Tasks>, Pin<Box<Worker>>) {
    let mut crew = None;
    let pool = Pool::builder().workers(1).queue(1).build_on(&Context::background(), |worker| {
        crew = Some(Box::pin(worker));
    });
    (pool.expect("the sizes are good"), crew.expect("one worker"))
}

/// Polls once.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

/// Pending once, woken from elsewhere.
struct Gate {
    /// Open, or the waker of who waits.
    state: Mutex<Result<(), Option<Waker>>>,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(Err(None)) })
    }

    fn open(&self) {
        let mut state = self.state.lock();
        if let Err(Some(waker)) = std::mem::replace(&mut *state, Ok(())) {
            drop(state);
            waker.wake();
        }
    }

    fn pass(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        poll_fn(move |cx| match &mut *self.state.lock() {
            Ok(()) => Poll::Ready(()),
            Err(waiting) => {
                *waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }
}

/// The worker's task finds the queue empty and parks while a job is queued.
#[test]
fn async_worker_park_vs_submit() {
    model::check(|| {
        let (pool, driver) = tasks(&Context::background());
        let handle = block_on(pool.submit(|_| async { 1 })).expect("the pool is open");
        assert_eq!(block_on(handle).expect("it runs"), 1);
        pool.stop();
        let ledger = end(&pool);
        assert_eq!((ledger.accepted, ledger.finished), (1, 1), "{ledger}");
        driver.join().unwrap();
    });
}

/// The pool is aborted while its worker starts, waits in and finishes a job: it brought its result,
/// or its future was dropped; the handle and the ledger agree.
#[test]
fn async_abort_vs_finish() {
    model::check(|| {
        let (pool, driver) = tasks(&Context::background());
        let gate = Gate::new();
        let (held, inside) = (Arc::clone(&gate), gate);
        let job = pool.submit(move |_| async move {
            inside.pass().await;
            1
        });
        let handle = block_on(job).expect("the pool is open");
        let watcher = pool.watch();
        let aborter = thread::spawn("aborter".into(), move || drop(pool)).unwrap();
        held.open();
        let ledger = block_on(watcher.wait());
        assert!(ledger.adds_up(), "{ledger}");
        assert_eq!(Arc::strong_count(&held), 1, "the future is gone at the end");
        match settle(handle) {
            Ok(result) => assert_eq!((result, ledger.finished, ledger.cancelled), (1, 1, 0)),
            Err(JobError::Cancelled(_)) => assert_eq!((ledger.finished, ledger.cancelled), (0, 1)),
            Err(other) => panic!("{other}"),
        }
        aborter.join().unwrap();
        driver.join().unwrap();
    });
}

/// The pool is aborted while its worker's job goes to sleep for good: the worker must be woken, or
/// see it.
#[test]
fn async_abort_vs_pending() {
    model::check(|| {
        let (pool, driver) = tasks(&Context::background());
        let handle = block_on(pool.submit(|_| std::future::pending::<u32>()));
        pool.abort();
        let ledger = end(&pool);
        assert_eq!((ledger.accepted, ledger.cancelled), (1, 1), "{ledger}");
        assert!(matches!(settle(handle.expect("it was open")), Err(JobError::Cancelled(_))));
        driver.join().unwrap();
    });
}

/// The pool is drained while a job is submitted to its task: it is returned, or it is run.
#[test]
fn async_drain_vs_submit() {
    model::check(|| {
        let (pool, driver) = tasks(&Context::background());
        let pool = Arc::new(pool);
        let submitter = {
            let pool = Arc::clone(&pool);
            let submit = move || block_on(pool.submit(|_| async { 1 })).ok();
            thread::spawn("submitter".into(), submit).unwrap()
        };
        let ledger = block_on(pool.drain());
        assert!(ledger.adds_up(), "{ledger}");
        match submitter.join().unwrap() {
            Some(handle) => assert_eq!(settle(handle).expect("what was accepted is run"), 1),
            None => assert_eq!((ledger.accepted, ledger.finished), (0, 0), "{ledger}"),
        }
        driver.join().unwrap();
    });
}

/// The worker is dropped by its executor, parked or not, while a job is submitted: the job is
/// returned or cancelled, the end comes, and the cause says what happened.
#[test]
fn async_worker_lost_vs_submit() {
    model::check(|| {
        let (pool, worker) = by_hand();
        let executor = thread::spawn("executor".into(), move || {
            let mut worker = worker;
            let _ = poll_once(worker.as_mut());
        })
        .unwrap();
        let handle = block_on(pool.submit(|_| std::future::pending::<u32>()));
        let ledger = end(&pool);
        let cause = match handle {
            Ok(handle) => match settle(handle) {
                Err(JobError::Cancelled(cause)) => cause,
                other => panic!("{other:?}"),
            },
            Err(error) => error.cause().clone(),
        };
        assert!(cause.error().is_some_and(|error| error.is::<WorkersLost>()));
        assert_eq!((ledger.accepted + ledger.refused, ledger.cancelled), (1, ledger.accepted));
        executor.join().unwrap();
    });
}

/// The worker is dropped by its executor while the pool is dropped: each may be the one that ends it.
#[test]
fn async_worker_lost_vs_drop() {
    model::check(|| {
        let (pool, worker) = by_hand();
        let handle = block_on(pool.submit(|_| async { 1 })).expect("the pool is open");
        let watcher = pool.watch();
        let executor = thread::spawn("executor".into(), move || drop(worker)).unwrap();
        drop(pool);
        let ledger = block_on(watcher.wait());
        assert_eq!((ledger.accepted, ledger.cancelled), (1, 1), "{ledger}");
        assert!(matches!(settle(handle), Err(JobError::Cancelled(_))));
        executor.join().unwrap();
    });
}

// Submitting without waiting.

/// Room is made by the worker while somebody asks for it and does not wait: accepted and run, or
/// returned as full.
#[test]
fn pool_try_submit_vs_take() {
    model::check(|| {
        let pool = pool(&Context::background());
        let first = pool.try_submit(|_| 1).expect("there is room");
        let second = pool.try_submit(|_| 2);
        let ledger = block_on(pool.drain());
        assert!(ledger.adds_up(), "{ledger}");
        assert_eq!(settle(first).expect("it ran"), 1);
        match second {
            Ok(second) => {
                assert_eq!(settle(second).expect("it ran"), 2);
                assert_eq!((ledger.finished, ledger.refused), (2, 0), "{ledger}");
            }
            Err(error) => {
                assert!(error.is_full());
                assert_eq!((ledger.finished, ledger.refused), (1, 1), "{ledger}");
            }
        }
    });
}

/// Somebody who does not wait comes while the room is promised to one who does: whoever of them is
/// served, the one who waits is not left behind.
#[test]
fn pool_try_submit_vs_grant() {
    model::check(|| {
        let pool = Arc::new(pool(&Context::background()));
        let slot = block_on(pool.reserve()).expect("the pool is open");
        let tries = {
            let pool = Arc::clone(&pool);
            thread::spawn("tries".into(), move || pool.try_submit(|_| 2).is_ok()).unwrap()
        };
        let mut waits = pin!(pool.submit(|_| 1));
        let waited = poll_once(waits.as_mut()).is_pending();
        assert!(waited, "the slot is out");
        drop(slot);
        let handle = block_on(waits).expect("it is first in line");
        let accepted = tries.join().unwrap();
        let ledger = block_on(pool.drain());
        assert_eq!(ledger.finished, 1 + u64::from(accepted), "{ledger}");
        assert_eq!(ledger.refused, u64::from(!accepted), "{ledger}");
        assert_eq!(settle(handle).expect("it ran"), 1);
    });
}

/// The pool is drained while somebody submits without waiting.
#[test]
fn pool_try_submit_vs_drain() {
    model::check(|| {
        let pool = Arc::new(pool(&Context::background()));
        let tries = {
            let pool = Arc::clone(&pool);
            thread::spawn("tries".into(), move || pool.try_submit(|_| 1)).unwrap()
        };
        let drained = block_on(pool.drain());
        let handle = tries.join().unwrap();
        let ledger = end(&pool);
        assert_eq!(drained.accepted, ledger.accepted, "nothing is accepted after the end");
        match handle {
            Ok(handle) => assert_eq!(settle(handle).expect("what was accepted is run"), 1),
            Err(error) => {
                assert!(matches!(error, TrySubmitError::Stopping(..)));
                assert_eq!((ledger.accepted, ledger.refused), (0, 1), "{ledger}");
            }
        }
    });
}

// The stream of results.

/// A job completes while the stream looks and goes to sleep; the next one may have to wait for its
/// place.
#[test]
fn results_completion_vs_poll() {
    model::check(|| {
        let (pool, worker) = by_hand();
        let (submitter, mut results) = pool.results(1).expect("not zero");
        assert_eq!(block_on(submitter.reserve()).expect("open").submit(|_| async { 7 }), 0);
        let executor = thread::spawn("executor".into(), || block_on(worker)).unwrap();
        let first = block_on(next(&mut results)).expect("one is on its way");
        assert_eq!((first.index, first.result.expect("it ran")), (0, 7));
        pool.stop();
        let ledger = end(&pool);
        assert_eq!((ledger.accepted, ledger.finished), (1, 1), "{ledger}");
        executor.join().unwrap();
    });
}

/// The stream is dropped while a job completes: the result is dropped by the one or by the other,
/// and a reservation that waited for its place is served.
#[test]
fn results_drop_vs_completion() {
    model::check(|| {
        let (pool, worker) = by_hand();
        let (submitter, mut results) = pool.results(1).expect("not zero");
        let result = Arc::new(());
        let made = Arc::clone(&result);
        block_on(submitter.reserve()).expect("open").submit(move |_| async { made });
        let executor = thread::spawn("executor".into(), || block_on(worker)).unwrap();
        let looked = poll_once(pin!(next(&mut results)));
        drop(results);
        drop(looked);
        assert!(submitter.is_detached());
        drop(block_on(submitter.reserve()).expect("nothing is kept, so there is a place"));
        let ledger = block_on(pool.drain());
        assert_eq!((ledger.accepted, ledger.finished), (1, 1), "{ledger}");
        assert_eq!(Arc::strong_count(&result), 1, "the result is gone");
        executor.join().unwrap();
    });
}

/// The last job completes, and the submitter goes, while the stream looks for its end.
#[test]
fn results_last_completion_vs_end() {
    model::check(|| {
        let (pool, worker) = by_hand();
        let (submitter, mut results) = pool.results(1).expect("not zero");
        block_on(submitter.reserve()).expect("open").submit(|_| async { 7 });
        let executor = thread::spawn("executor".into(), move || {
            let mut worker = worker;
            let _ = poll_once(worker.as_mut());
            drop(submitter);
            worker
        })
        .unwrap();
        let last = block_on(next(&mut results)).expect("one is on its way");
        assert_eq!(last.result.expect("it ran"), 7);
        assert!(block_on(next(&mut results)).is_none());
        drop(executor.join().unwrap());
        assert!(end(&pool).adds_up());
    });
}

/// The slot of the last job is given back while the stream looks for its end.
#[test]
fn results_slot_drop_vs_end() {
    model::check(|| {
        let (pool, worker) = by_hand();
        let (submitter, mut results) = pool.results::<u32>(1).expect("not zero");
        let slot = block_on(submitter.reserve()).expect("open");
        drop(submitter);
        let user = thread::spawn("user".into(), move || drop(slot)).unwrap();
        assert!(block_on(next(&mut results)).is_none());
        user.join().unwrap();
        drop(worker);
        assert_eq!(end(&pool).accepted, 0);
    });
}

/// The pool ends while the stream looks, with its submitter alive: what was accepted comes out, then
/// the stream ends.
#[test]
fn results_pool_end_vs_poll() {
    model::check(|| {
        let (pool, worker) = by_hand();
        let (submitter, mut results) = pool.results(1).expect("not zero");
        block_on(submitter.reserve()).expect("open").submit(|_| async { 7 });
        let executor = thread::spawn("executor".into(), || block_on(worker)).unwrap();
        pool.stop();
        let last = block_on(next(&mut results)).expect("it was accepted");
        assert_eq!(last.result.expect("it is run"), 7);
        assert!(block_on(next(&mut results)).is_none());
        executor.join().unwrap();
        assert_eq!(end(&pool).finished, 1);
        drop(submitter);
    });
}

/// Who waits for a place is dropped while the stream makes one: the next gets it.
#[test]
fn results_reserve_drop_vs_take() {
    model::check(|| {
        let (pool, mut worker) = by_hand();
        let (submitter, mut results) = pool.results(1).expect("not zero");
        block_on(submitter.reserve()).expect("open").submit(|_| async { 7 });
        assert!(poll_once(worker.as_mut()).is_pending());
        let mut first = Box::pin(submitter.reserve());
        let mut second = pin!(submitter.reserve());
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        let taker = thread::spawn("taker".into(), move || {
            assert!(block_on(next(&mut results)).is_some());
            results
        })
        .unwrap();
        drop(first);
        drop(block_on(second).expect("the place is passed on"));
        drop(taker.join().unwrap());
        drop(worker);
        assert_eq!(end(&pool).finished, 1);
    });
}

/// Who waits for a place, of a stream that nobody polls, is told when the pool is stopped.
#[test]
fn results_reserve_vs_stop() {
    model::check(|| {
        let (pool, worker) = by_hand();
        let (submitter, results) = pool.results::<u32>(1).expect("not zero");
        let slot = block_on(submitter.reserve()).expect("open");
        let stopper = thread::spawn("stopper".into(), move || {
            pool.stop();
            pool
        })
        .unwrap();
        assert!(block_on(submitter.reserve()).is_err());
        let pool = stopper.join().unwrap();
        drop(slot);
        drop(worker);
        assert_eq!(end(&pool).refused, 1);
        drop(results);
    });
}

/// Who waits for a place is told of the stop while the stream makes one: it is given back, or the
/// stream would never end.
#[test]
fn results_reserve_stopped_vs_take() {
    model::check(|| {
        let (pool, mut worker) = by_hand();
        let (submitter, mut results) = pool.results(1).expect("not zero");
        block_on(submitter.reserve()).expect("open").submit(|_| async { 7 });
        assert!(poll_once(worker.as_mut()).is_pending());
        let mut waits = Box::pin(submitter.reserve());
        assert!(poll_once(waits.as_mut()).is_pending());
        pool.stop();
        let taker = thread::spawn("taker".into(), move || {
            assert!(block_on(next(&mut results)).is_some());
            results
        })
        .unwrap();
        assert!(block_on(waits).is_err());
        let mut results = taker.join().unwrap();
        drop(submitter);
        assert!(matches!(poll_once(Pin::new(&mut next(&mut results))), Poll::Ready(None)));
        assert!(poll_once(worker.as_mut()).is_ready());
        let ledger = end(&pool);
        assert_eq!((ledger.finished, ledger.refused), (1, 1), "{ledger}");
    });
}

// Wakers that call back.

/// Wakers that call the pool and the board again when they are woken, and when they are dropped: no
/// lock is held over them. One drives the worker, one waits for room, one for a place, one for a
/// result; each is replaced by another once.
#[test]
fn async_wakers_reenter() {
    model::check(|| {
        let (pool, mut worker) = by_hand();
        let (submitter, mut results) = pool.results(1).expect("not zero");
        let submitter = Arc::new(submitter);
        let call = || {
            let (watcher, submitter) = (pool.watch(), Arc::clone(&submitter));
            move || {
                assert!(watcher.ledger().adds_up());
                let _ = submitter.is_detached();
            }
        };
        let wakers = [(); 2].map(|()| ReentrantWaker::on_wake_and_drop(call(), call()).waker());
        let mut cx = wakers.each_ref().map(TaskContext::from_waker);

        // Parked twice, and woken by a job; the stream waits twice, and is woken by its result.
        for cx in &mut cx {
            assert!(worker.as_mut().poll(cx).is_pending());
            assert!(Pin::new(&mut next(&mut results)).poll(cx).is_pending());
        }
        block_on(submitter.reserve()).expect("open").submit(|_| async { 7 });
        assert!(worker.as_mut().poll(&mut cx[0]).is_pending());
        // A place is made, and given back.
        let mut place = Box::pin(submitter.reserve());
        assert!(place.as_mut().poll(&mut cx[0]).is_pending());
        let first = Pin::new(&mut next(&mut results)).poll(&mut cx[1]);
        assert!(matches!(first, Poll::Ready(Some(Completed { index: 0, result: Ok(7), .. }))));
        let slot = block_on(place.as_mut()).expect("there is a place");
        assert!(Pin::new(&mut next(&mut results)).poll(&mut cx[0]).is_pending());
        // Room is made.
        let mut room = Box::pin(pool.reserve());
        assert!(room.as_mut().poll(&mut cx[1]).is_pending());
        drop(slot);
        drop(block_on(room.as_mut()).expect("there is room"));
        // Parked, and lost.
        let executor = thread::spawn("executor".into(), move || drop(worker)).unwrap();
        assert!(end(&pool).adds_up());
        executor.join().unwrap();
    });
}

/// Drops a waker of the handle's in `let_go`. It opens the way for the job, and waits in its drop for
/// the pool's end: the job must be able to hand over its result meanwhile.
fn waker_that_waits(let_go: impl Fn(JobHandle<u32>) + Send + Sync + 'static) {
    model::check(move || {
        let (pool, driver) = tasks(&Context::background());
        let gate = Gate::new();
        let inside = Arc::clone(&gate);
        let job = pool.submit(|_| async {
            inside.pass().await;
            1
        });
        let mut handle = block_on(job).expect("the pool is open");
        let once = Mutex::new(Some((gate, pool.watch())));
        let waits = ReentrantWaker::on_drop(move || {
            let first = once.lock().take();
            if let Some((gate, watcher)) = first {
                gate.open();
                block_on(watcher.wait());
            }
        });
        // The handle has the only one.
        let waker = std::mem::ManuallyDrop::new(waits.waker());
        assert!(Pin::new(&mut handle).poll(&mut TaskContext::from_waker(&waker)).is_pending());
        pool.stop();
        let_go(handle);
        let ledger = end(&pool);
        assert_eq!((ledger.accepted, ledger.finished), (1, 1), "{ledger}");
        driver.join().unwrap();
    });
}

/// The handle is dropped with such a waker.
#[test]
fn pool_handle_drop_frees_its_lock() {
    waker_that_waits(drop);
}

/// The handle is polled by another task, and drops such a waker for it.
#[test]
fn pool_handle_poll_frees_its_lock() {
    waker_that_waits(|mut handle| {
        assert!(poll_once(Pin::new(&mut handle)).is_pending());
        assert_eq!(block_on(handle).expect("it ran"), 1);
    });
}
