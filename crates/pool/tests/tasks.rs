//! The facts of a pool of tasks: smoke, close, cancel, drop, panic, bad input, runtimes.
#![cfg(not(selvedge_loom))]

mod support;

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use selvedge_cancel::{CauseKind, Component, Context};
use selvedge_pool::{JobError, Pool, PoolError, Submitter, Tasks, WorkersLost};
use selvedge_testkit::{CountingWaker, ManualExecutor, PanickingWaker};
use support::{ByHand, Gate, Pass, guarded, now, panics_when_dropped, poll_once, tasks, tasks_in};

/// Counts its drops, and perhaps panics in them.
struct Dropped {
    /// How many were dropped.
    count: Arc<AtomicUsize>,
    /// Whether to panic.
    panics: bool,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        // SeqCst here and below: tests.
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.panics {
            std::panic::resume_unwind(Box::new("this destructor panics"));
        }
    }
}

fn dropped(panics: bool) -> (Arc<AtomicUsize>, Dropped) {
    let count = Arc::new(AtomicUsize::new(0));
    (Arc::clone(&count), Dropped { count, panics })
}

/// Polls a worker that has nothing to do now.
fn rest(worker: &mut ByHand) {
    assert!(poll_once(worker.as_mut()).is_pending());
}

// Smoke.

#[test]
fn a_future_runs_on_its_worker_and_its_handle_has_the_result() {
    let (pool, mut crew) = tasks(1, 1);
    let gate = Gate::default();
    let job = pool.submit({
        let gate = gate.clone();
        move |ctx: Context| async move {
            gate.pass().await;
            ctx.is_stopping()
        }
    });
    let mut handle = now(job).unwrap();
    rest(&mut crew[0]);
    assert!(poll_once(Pin::new(&mut handle)).is_pending());
    assert_eq!(pool.ledger().running, 1);
    gate.open(Pass::Open);
    rest(&mut crew[0]);
    assert!(!now(handle).unwrap());
    pool.stop();
    assert!(poll_once(crew[0].as_mut()).is_ready());
    let ledger = now(pool.wait());
    assert_eq!((ledger.accepted, ledger.finished), (1, 1));
}

#[test]
fn as_many_jobs_are_under_way_as_there_are_workers() {
    let (pool, mut crew) = tasks(2, 8);
    let gate = Gate::default();
    for _ in 0..4 {
        let gate = gate.clone();
        drop(now(pool.submit(|_| gate.pass())).unwrap());
    }
    crew.iter_mut().for_each(rest);
    let ledger = pool.ledger();
    assert_eq!((ledger.running, ledger.queued), (2, 2), "{ledger}");
    gate.open(Pass::Open);
    crew.iter_mut().for_each(rest);
    assert_eq!(pool.ledger().finished, 4);
}

#[test]
fn a_parked_worker_is_woken_by_a_job_and_by_nothing_else() {
    let (pool, mut crew) = tasks(1, 2);
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut cx = TaskContext::from_waker(&waker);
    assert!(crew[0].as_mut().poll(&mut cx).is_pending());
    drop(now(pool.reserve()).unwrap());
    assert_eq!(counting.wakes(), 0);
    drop(now(pool.submit(|_| async {})).unwrap());
    drop(now(pool.submit(|_| async {})).unwrap());
    assert_eq!(counting.wakes(), 1, "once for both");
    assert!(crew[0].as_mut().poll(&mut cx).is_pending());
    assert_eq!(pool.ledger().finished, 2);
}

#[test]
fn a_worker_whose_job_another_took_parks_again() {
    let (pool, mut crew) = tasks(2, 1);
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut cx = TaskContext::from_waker(&waker);
    rest(&mut crew[0]);
    assert!(crew[1].as_mut().poll(&mut cx).is_pending());
    drop(now(pool.submit(|_| async {})).unwrap());
    assert_eq!(counting.wakes(), 1, "the one that parked last");
    rest(&mut crew[0]);
    assert_eq!(pool.ledger().finished, 1);
    assert!(crew[1].as_mut().poll(&mut cx).is_pending());
    drop(now(pool.submit(|_| async {})).unwrap());
    assert_eq!(counting.wakes(), 2, "it is found again");
}

#[test]
fn a_worker_that_took_a_job_unwoken_is_not_taken_for_one_that_sleeps() {
    let (pool, mut crew) = tasks(3, 1);
    let counting = [(); 3].map(|()| CountingWaker::new());
    let wakers = counting.each_ref().map(CountingWaker::waker);
    let mut poll = |worker: usize| {
        let polled = crew[worker].as_mut().poll(&mut TaskContext::from_waker(&wakers[worker]));
        assert!(polled.is_pending());
    };
    let wakes = || counting.each_ref().map(CountingWaker::wakes);
    let submit = || drop(now(pool.submit(|_| std::future::pending::<()>())).unwrap());
    (0..3).for_each(&mut poll);
    submit();
    assert_eq!(wakes(), [0, 0, 1]);
    // Another one comes first, by itself; the one that was woken sleeps again.
    poll(1);
    poll(2);
    submit();
    assert_eq!(wakes(), [0, 0, 2]);
    poll(2);
    submit();
    assert_eq!(wakes(), [1, 0, 2], "the only one that sleeps");
}

#[test]
fn the_pool_runs_on_an_executor_that_knows_nothing_of_it() {
    let (pool, crew) = tasks(3, 2);
    let mut executor = ManualExecutor::seeded(7);
    for worker in crew {
        executor.spawn(worker);
    }
    let sum = executor.spawn(async {
        let mut sum = 0;
        for n in 0..100_u64 {
            sum += pool.submit(move |_| async move { n }).await.unwrap().await.unwrap();
        }
        pool.drain().await;
        sum
    });
    executor.run_until_stalled();
    assert_eq!(sum.take(), Some(4950));
}

// Close.

#[test]
fn a_drain_finishes_what_was_accepted() {
    let (pool, mut crew) = tasks(1, 2);
    let gate = Gate::default();
    let (first, second) = (gate.clone(), gate.clone());
    let first = now(pool.submit(|_| first.pass())).unwrap();
    let second = now(pool.submit(|_| second.pass())).unwrap();
    rest(&mut crew[0]);
    let mut drain = pin!(pool.drain());
    assert!(poll_once(drain.as_mut()).is_pending());
    assert!(now(pool.submit(|_| async {})).is_err());
    rest(&mut crew[0]);
    gate.open(Pass::Open);
    assert!(poll_once(crew[0].as_mut()).is_ready());
    let ledger = now(drain);
    assert_eq!((ledger.finished, ledger.cancelled, ledger.refused), (2, 0, 1));
    now(first).unwrap();
    now(second).unwrap();
}

#[test]
fn a_drain_waits_for_a_submitter_that_was_given_room_and_is_not_polled() {
    let (pool, mut crew) = tasks(1, 1);
    let slot = now(pool.reserve()).unwrap();
    let mut given = Box::pin(pool.submit(|_| async { 5 }));
    assert!(poll_once(given.as_mut()).is_pending());
    drop(slot);
    let mut drain = pin!(pool.drain());
    assert!(poll_once(drain.as_mut()).is_pending());
    rest(&mut crew[0]);
    assert!(poll_once(drain.as_mut()).is_pending());
    assert_eq!(pool.stragglers().len(), 1, "it is named");
    let handle = now(given).unwrap();
    assert!(poll_once(crew[0].as_mut()).is_ready());
    assert_eq!((now(drain).finished, now(handle).unwrap()), (1, 5));
}

#[test]
fn a_drain_says_where_it_was_asked_for() {
    let (pool, _crew) = tasks(1, 1);
    let line = line!() + 1;
    let mut drain = pin!(pool.drain());
    assert!(poll_once(drain.as_mut()).is_pending());
    let error = now(pool.reserve()).unwrap_err();
    assert_eq!((error.cause().kind(), error.cause().place().line()), (CauseKind::Stopped, line));
}

// Cancel.

#[test]
fn an_abort_drops_a_running_future_at_its_await_and_counts_it_as_cancelled() {
    let (pool, mut crew) = tasks(1, 2);
    let (running, queued) = (dropped(false), dropped(false));
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut cx = TaskContext::from_waker(&waker);
    let submit = |held: Dropped| {
        now(pool.submit(move |_| async move {
            std::future::pending::<()>().await;
            drop(held);
        }))
        .unwrap()
    };
    let first = submit(running.1);
    let second = submit(queued.1);
    assert!(crew[0].as_mut().poll(&mut cx).is_pending());
    pool.abort();
    assert_eq!(counting.wakes(), 1, "the worker is told");
    // The queued one is gone at once, the running one when its task has been polled.
    assert_eq!(queued.0.load(Ordering::SeqCst), 1);
    assert_eq!(running.0.load(Ordering::SeqCst), 0);
    assert_eq!((pool.ledger().running, pool.ledger().cancelled), (1, 1));
    assert!(poll_once(pin!(pool.wait())).is_pending(), "the future is still there");
    assert!(crew[0].as_mut().poll(&mut cx).is_ready());
    assert_eq!(running.0.load(Ordering::SeqCst), 1);
    let ledger = now(pool.wait());
    assert_eq!((ledger.cancelled, ledger.finished), (2, 0));
    for handle in [first, second] {
        let error = now(handle).unwrap_err();
        assert_eq!(error.to_string(), "job not finished: the pool was aborted");
        let JobError::Cancelled(cause) = error else { panic!("it never ended") };
        assert_eq!(cause.kind(), CauseKind::Cancelled);
    }
}

#[test]
fn a_value_from_a_poll_that_began_before_the_abort_is_the_result() {
    let (pool, mut crew) = tasks(1, 1);
    let pool = Arc::new(pool);
    let inner = Arc::clone(&pool);
    let handle = now(pool.submit(|_| async move {
        inner.abort();
        5
    }));
    assert!(poll_once(crew[0].as_mut()).is_ready());
    assert_eq!(now(handle.unwrap()).unwrap(), 5);
    assert_eq!(now(pool.wait()).finished, 1);
}

#[test]
fn a_job_that_aborts_its_pool_and_waits_is_dropped_in_that_poll() {
    let (pool, mut crew) = tasks(1, 1);
    let pool = Arc::new(pool);
    let inner = Arc::clone(&pool);
    let handle = now(pool.submit(|_| async move {
        inner.abort();
        std::future::pending::<()>().await;
    }));
    assert!(poll_once(crew[0].as_mut()).is_ready());
    assert!(now(handle.unwrap()).is_err());
    assert_eq!(now(pool.wait()).cancelled, 1);
}

#[test]
fn a_future_that_waits_for_its_context_ends_by_itself_when_the_pool_drains() {
    let (pool, mut crew) = tasks(1, 1);
    let handle = now(pool.submit(|ctx| async move { ctx.stopping().await.kind() })).unwrap();
    rest(&mut crew[0]);
    pool.stop();
    assert!(poll_once(crew[0].as_mut()).is_ready());
    assert_eq!(now(handle).unwrap(), CauseKind::Stopped);
}

#[test]
fn a_cancelled_parent_reaches_a_pool_whose_worker_was_never_driven() {
    guarded("a cancelled parent", || {
        let (context, canceller) = Context::background().child();
        let (pool, mut crew) = tasks_in(&context, 1, 1);
        let handle = now(pool.submit(|_| async {})).unwrap();
        let mut waits = pin!(pool.reserve());
        assert!(poll_once(waits.as_mut()).is_pending());
        canceller.cancel();
        assert!(now(waits).is_err());
        assert!(now(handle).is_err());
        assert!(poll_once(crew[0].as_mut()).is_ready());
        now(pool.wait());
    });
}

#[test]
fn a_slot_used_after_an_abort_gives_a_cancelled_job() {
    let (pool, mut crew) = tasks(1, 1);
    let slot = now(pool.reserve()).unwrap();
    pool.abort();
    assert!(poll_once(crew[0].as_mut()).is_ready());
    now(pool.wait());
    let handle = slot.submit(|_| async {});
    assert!(matches!(now(handle), Err(JobError::Cancelled(_))));
    let ledger = pool.ledger();
    assert!(ledger.adds_up() && ledger.cancelled == 1, "{ledger}");
}

/// The failing program of `submit`'s page, let out of its hang by an abort.
#[test]
fn a_job_that_waits_for_one_behind_it_waits_until_the_pool_ends() {
    let (pool, mut crew) = tasks(1, 1);
    let pool = Arc::new(pool);
    let inner = Arc::clone(&pool);
    let outer = now(pool.submit(|_| async move {
        let behind = inner.submit(|_| async { 5 }).await.unwrap();
        behind.await
    }))
    .unwrap();
    rest(&mut crew[0]);
    assert_eq!((pool.ledger().running, pool.ledger().queued), (1, 1), "nobody takes it");
    pool.abort();
    assert!(poll_once(crew[0].as_mut()).is_ready());
    assert!(matches!(now(outer), Err(JobError::Cancelled(_))));
    assert_eq!(pool.ledger().cancelled, 2);
}

// Drop.

#[test]
fn dropping_the_pool_aborts_and_a_watcher_sees_the_end() {
    let (pool, mut crew) = tasks(1, 1);
    let handle = now(pool.submit(|_| std::future::pending::<()>())).unwrap();
    rest(&mut crew[0]);
    let watcher = pool.watch();
    drop(pool);
    assert!(poll_once(crew[0].as_mut()).is_ready());
    assert_eq!(now(watcher.wait()).cancelled, 1);
    let Err(JobError::Cancelled(cause)) = now(handle) else { panic!("it never ended") };
    assert_eq!(cause.kind(), CauseKind::Dropped);
}

#[test]
fn a_worker_that_is_dropped_before_its_first_poll_ends_the_pool() {
    guarded("a worker that never ran", || {
        let (pool, crew) = tasks(2, 2);
        let handle = now(pool.submit(|_| async {})).unwrap();
        drop(crew);
        let ledger = now(pool.wait());
        assert_eq!((ledger.accepted, ledger.cancelled), (1, 1));
        let Err(JobError::Cancelled(cause)) = now(handle) else { panic!("it never ran") };
        assert_eq!(cause.kind(), CauseKind::Cancelled);
        let error = cause.error().and_then(|error| error.downcast_ref::<WorkersLost>()).unwrap();
        assert!(cause.place().file().ends_with("mod.rs"), "where the pool was made");
        assert_eq!(
            error.to_string(),
            "pool not kept running: its workers were dropped with their runtime"
        );
        assert!(now(pool.submit(|_| async {})).is_err());
    });
}

#[test]
fn workers_that_are_lost_while_the_pool_drains_leave_the_cause_of_the_drain() {
    let (pool, crew) = tasks(2, 2);
    let handle = now(pool.submit(|_| async {})).unwrap();
    pool.stop();
    drop(crew);
    assert_eq!(now(pool.wait()).cancelled, 1);
    let Err(JobError::Cancelled(cause)) = now(handle) else { panic!("it never ran") };
    assert_eq!((cause.kind(), cause.error().is_none()), (CauseKind::Stopped, true));
}

#[test]
fn one_lost_worker_aborts_the_others() {
    let (pool, mut crew) = tasks(2, 2);
    let (count, held) = dropped(true);
    let lost = now(pool.submit(move |_| async move {
        std::future::pending::<()>().await;
        drop(held);
    }))
    .unwrap();
    let other = now(pool.submit(|_| std::future::pending::<()>())).unwrap();
    crew.iter_mut().for_each(rest);
    drop(crew.remove(0));
    assert_eq!(count.load(Ordering::SeqCst), 1, "a panic of its job's drop is contained");
    assert!(now(lost).is_err());
    assert!(poll_once(pin!(pool.wait())).is_pending());
    assert!(poll_once(crew[0].as_mut()).is_ready());
    assert!(now(other).is_err());
    assert_eq!(now(pool.wait()).cancelled, 2);
}

#[test]
fn a_worker_whose_wakers_are_all_that_is_left_of_its_executor_goes_with_them() {
    /// A task of an executor that is no more than a count of references.
    struct Counted(Mutex<ByHand>);
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            // The queue is gone, and so is this reference to the task.
        }
    }
    let (pool, mut crew) = tasks(1, 1);
    let handle = now(pool.submit(|_| std::future::pending::<()>())).unwrap();
    let task = Arc::new(Counted(Mutex::new(crew.remove(0))));
    let waker = Waker::from(Arc::clone(&task));
    let polled = task.0.lock().unwrap().as_mut().poll(&mut TaskContext::from_waker(&waker));
    assert!(polled.is_pending());
    drop((task, waker));
    assert_eq!(pool.ledger().running, 1, "it waits for the abort");
    pool.abort();
    assert_eq!(now(pool.wait()).cancelled, 1);
    assert!(now(handle).is_err());
}

#[test]
fn a_worker_that_has_left_may_be_dropped_and_nothing_happens() {
    let (pool, mut crew) = tasks(2, 1);
    pool.stop();
    assert!(poll_once(crew[0].as_mut()).is_ready());
    drop(crew.remove(0));
    let slot_is_refused = now(pool.reserve()).unwrap_err();
    assert_eq!(slot_is_refused.cause().kind(), CauseKind::Stopped);
    assert!(poll_once(crew[0].as_mut()).is_ready());
    now(pool.wait());
}

// Panic.

#[test]
fn a_panic_reaches_its_handle_and_the_worker_goes_on() {
    let (pool, mut crew) = tasks(1, 4);
    let gate = Gate::default();
    gate.open(Pass::Panic);
    let in_the_future = now(pool.submit(|_| gate.pass())).unwrap();
    let in_the_closure = now(pool.submit(|_| -> std::future::Ready<()> {
        std::panic::resume_unwind(Box::new("no future"))
    }))
    .unwrap();
    let (count, held) = dropped(true);
    /// Panics when it is dropped after it was ready.
    struct Ready(#[expect(dead_code, reason = "dropped with it")] Dropped);
    impl Future for Ready {
        type Output = u32;
        fn poll(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<u32> {
            Poll::Ready(3)
        }
    }
    let in_the_drop = now(pool.submit(|_| Ready(held))).unwrap();
    let fine = now(pool.submit(|_| async { 4 })).unwrap();
    rest(&mut crew[0]);
    for (handle, message) in [(in_the_future, "told to"), (in_the_closure, "no future")] {
        let Err(JobError::Panicked(panic)) = now(handle) else { panic!("it panicked") };
        assert_eq!(panic.message(), message);
    }
    assert_eq!(now(in_the_drop).unwrap(), 3, "what it brought is its result");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(now(fine).unwrap(), 4);
    let ledger = pool.ledger();
    assert_eq!((ledger.panicked, ledger.finished), (2, 2));
}

#[test]
fn a_workers_waker_that_panics_harms_no_submitter() {
    let (pool, mut crew) = tasks(1, 1);
    let panics = PanickingWaker::new();
    let waker = panics.waker();
    assert!(crew[0].as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    let handle = now(pool.submit(|_| async { 5 })).unwrap();
    assert_eq!(panics.wakes(), 1);
    rest(&mut crew[0]);
    assert_eq!(now(handle).unwrap(), 5);
}

#[test]
fn a_destructor_may_submit_reserve_abort_and_wait_wherever_it_runs() {
    /// Uses the pool in every way there is when it is dropped.
    struct Busy(Arc<(Pool<Tasks>, Submitter<u8, Tasks>)>, Arc<AtomicUsize>);
    impl Drop for Busy {
        fn drop(&mut self) {
            let (pool, submitter) = &*self.0;
            let accepted = [
                pool.try_submit(|_| async {}).is_ok(),
                matches!(poll_once(pin!(pool.submit(|_| async {}))), Poll::Ready(Ok(_))),
                matches!(poll_once(pin!(pool.reserve())), Poll::Ready(Ok(_))),
                matches!(poll_once(pin!(submitter.reserve())), Poll::Ready(Ok(_))),
            ];
            self.1.fetch_add(accepted.iter().filter(|yes| **yes).count(), Ordering::SeqCst);
            pool.abort();
            assert!(poll_once(pin!(pool.wait())).is_pending(), "the end waits for this drop");
            assert!(pool.ledger().adds_up());
        }
    }
    guarded("a busy destructor", || {
        for (started, lost) in [(false, false), (false, true), (true, false), (true, true)] {
            let (pool, mut crew) = tasks(1, 4);
            let (submitter, _results) = pool.results(1).unwrap();
            let both = Arc::new((pool, submitter));
            let accepted = Arc::new(AtomicUsize::new(0));
            let busy = Busy(Arc::clone(&both), Arc::clone(&accepted));
            let pool = &both.0;
            let handle = now(pool.submit(move |_| async move {
                std::future::pending::<()>().await;
                drop(busy);
            }))
            .unwrap();
            if started {
                rest(&mut crew[0]);
            }
            if lost {
                drop(crew);
            } else {
                pool.abort();
                assert!(poll_once(crew[0].as_mut()).is_ready());
            }
            let ledger = now(pool.wait());
            assert_eq!((ledger.accepted, ledger.cancelled, ledger.refused), (1, 1, 4), "{ledger}");
            assert_eq!(accepted.load(Ordering::SeqCst), 0, "aborted before its jobs are dropped");
            assert!(now(handle).is_err());
        }
    });
}

#[test]
fn a_payload_that_panics_when_it_is_dropped_is_contained_wherever_it_goes() {
    /// Panics when it is dropped, with another of its kind.
    struct Nasty(u32);
    impl Drop for Nasty {
        fn drop(&mut self) {
            if let Some(left) = self.0.checked_sub(1) {
                std::panic::resume_unwind(Box::new(Nasty(left)));
            }
        }
    }
    /// Panics when it is polled and when it is dropped.
    struct Job(#[expect(dead_code, reason = "dropped with it")] Nasty);
    impl Future for Job {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<()> {
            std::panic::resume_unwind(Box::new(Nasty(3)))
        }
    }
    let (pool, mut crew) = tasks(1, 4);
    let (submitter, results) = pool.results(4).unwrap();
    let submit = || now(pool.submit(|_| Job(Nasty(3)))).unwrap();
    drop(submit());
    let handle = submit();
    now(submitter.reserve()).unwrap().submit(|_| Job(Nasty(3)));
    rest(&mut crew[0]);
    drop(handle);
    drop(results);
    now(submitter.reserve()).unwrap().submit(|_| Job(Nasty(3)));
    rest(&mut crew[0]);
    let queued = submit();
    pool.abort();
    assert!(now(queued).is_err());
    assert!(poll_once(crew[0].as_mut()).is_ready());
    let ledger = now(pool.wait());
    assert_eq!((ledger.panicked, ledger.cancelled), (4, 1), "{ledger}");
}

/// The last reference to another task may go with a waker, and its destructor may panic.
#[test]
fn a_waker_that_panics_when_it_is_dropped_loses_no_wake_up_and_no_result() {
    let (pool, mut crew) = tasks(1, 1);
    let counting = CountingWaker::new();
    let worker = counting.waker();
    assert!(crew[0].as_mut().poll(&mut TaskContext::from_waker(&worker)).is_pending());

    let panics = panics_when_dropped();
    let mut cx = TaskContext::from_waker(&panics);
    let mut submit = pin!(pool.submit(|_| async { 5 }));
    let Poll::Ready(handle) = submit.as_mut().poll(&mut cx) else { panic!("there is room") };
    assert_eq!(counting.wakes(), 1, "the worker is told of the job");

    let mut handle = handle.unwrap();
    assert!(Pin::new(&mut handle).poll(&mut cx).is_pending());
    assert!(poll_once(Pin::new(&mut handle)).is_pending(), "the other waker is dropped here");
    rest(&mut crew[0]);
    assert!(matches!(Pin::new(&mut handle).poll(&mut cx), Poll::Ready(Ok(5))));
}

#[test]
#[should_panic(expected = "`Worker` polled after it completed")]
fn a_worker_polled_after_it_completed_panics() {
    let (pool, mut crew) = tasks(1, 1);
    pool.stop();
    for _ in 0..2 {
        let _ = poll_once(crew[0].as_mut());
    }
}

// Bad input.

#[test]
fn zero_and_too_many_are_typed_errors_and_start_nothing() {
    let build = |workers, queue| {
        let builder = Pool::builder().workers(workers).queue(queue);
        builder.build_on(&Context::background(), |_| panic!("nothing is started"))
    };
    assert!(matches!(build(0, 1), Err(PoolError::NoWorkers)));
    assert!(matches!(build(1, 0), Err(PoolError::NoQueue)));
    assert!(matches!(
        build(usize::MAX, 1),
        Err(PoolError::TooManyWorkers { asked: usize::MAX, most: 1_048_576 })
    ));
}

#[test]
fn a_queue_without_bound_is_spelled_max() {
    let (pool, mut crew) = tasks(1, usize::MAX);
    for _ in 0..1000 {
        drop(now(pool.submit(|_| async {})).unwrap());
    }
    assert_eq!(pool.ledger().queued, 1000);
    pool.stop();
    assert!(poll_once(crew[0].as_mut()).is_ready());
    assert_eq!(now(pool.wait()).finished, 1000);
}

// The component.

#[test]
fn a_component_names_its_stragglers() {
    let (pool, mut crew) = tasks(2, 2);
    let component: &dyn Component = &pool;
    let line = line!() + 1;
    let handle = now(pool.submit(|_| std::future::pending::<()>())).unwrap();
    crew.iter_mut().for_each(rest);
    assert_eq!(handle.place().line(), line);
    let stragglers = component.stragglers();
    assert_eq!(stragglers[0].to_string().lines().count(), 1);
    assert_eq!(stragglers[0].place, Some(handle.place()));
    assert_eq!(stragglers[0].note, "running on test-0");
    component.abort();
    for worker in &mut crew {
        assert!(poll_once(worker.as_mut()).is_ready());
    }
    now(component.wait());
    assert!(component.stragglers().is_empty());
}

// Runtimes.

#[cfg(feature = "tokio")]
mod runtimes {
    use std::time::Duration;

    use selvedge_testkit::{block_on, next};
    use tokio::runtime::{Builder, Runtime};
    use tokio::time::Instant;

    use super::*;

    fn build(workers: usize, queue: usize) -> Result<Pool<Tasks>, PoolError> {
        Pool::builder().workers(workers).queue(queue).build_async(&Context::background())
    }

    fn one_thread() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn outside_of_a_runtime_it_is_a_typed_error() {
        let error = build(1, 1).unwrap_err();
        assert!(matches!(error, PoolError::NoRuntime));
        assert_eq!(
            error.to_string(),
            "pool not started: not inside a tokio runtime, build it in one or enter its handle"
        );
    }

    #[test]
    fn it_works_in_each_kind_of_runtime_without_a_time_driver() {
        async fn use_it() {
            let pool = build(2, 2).unwrap();
            let mut handles = Vec::new();
            for n in 0..100 {
                handles.push(pool.submit(move |_| async move { n }).await.unwrap());
            }
            for (n, handle) in handles.into_iter().enumerate() {
                assert_eq!(handle.await.unwrap(), n);
            }
            assert_eq!(pool.drain().await.finished, 100);
        }
        guarded("each kind of runtime", || {
            one_thread().block_on(use_it());
            let many = Builder::new_multi_thread().worker_threads(2).build().unwrap();
            many.block_on(async { tokio::spawn(use_it()).await.unwrap() });
        });
    }

    #[test]
    fn a_runtime_that_is_not_driven_keeps_jobs_until_it_is() {
        guarded("an idle runtime", || {
            let runtime = one_thread();
            let pool = runtime.block_on(async { build(1, 1).unwrap() });
            let handle = block_on(pool.submit(|_| async { 5 })).unwrap();
            let mut waits = pin!(pool.reserve());
            assert!(poll_once(waits.as_mut()).is_pending(), "nobody takes the job");
            assert!(!handle.is_finished());
            assert_eq!(runtime.block_on(handle).unwrap(), 5);
            drop(block_on(waits).unwrap());
            // What is queued is cancelled by an abort from outside, driven or not.
            let queued = block_on(pool.submit(|_| async {})).unwrap();
            pool.abort();
            assert!(block_on(queued).is_err());
            runtime.block_on(pool.wait());
        });
    }

    #[test]
    fn a_runtime_shut_down_underneath_cancels_every_job_and_ends_every_wait() {
        guarded("a runtime shut down", || {
            for threads in [0, 2] {
                let runtime = match threads {
                    0 => one_thread(),
                    _ => Builder::new_multi_thread().worker_threads(threads).build().unwrap(),
                };
                let pool = runtime.block_on(async { build(2, 2).unwrap() });
                let gate = Gate::default();
                let handles: Vec<_> = (0..4)
                    .map(|_| {
                        let gate = gate.clone();
                        runtime.block_on(pool.submit(|_| gate.pass())).unwrap()
                    })
                    .collect();
                let mut room = pin!(pool.submit(|_| async {}));
                let mut end = pin!(pool.wait());
                runtime.block_on(async {
                    while pool.ledger().running < 2 {
                        tokio::task::yield_now().await;
                    }
                });
                assert!(poll_once(room.as_mut()).is_pending());
                assert!(poll_once(end.as_mut()).is_pending());
                drop(runtime);
                let ledger = block_on(end);
                assert_eq!((ledger.accepted, ledger.cancelled), (4, 4), "{ledger}");
                assert!(ledger.adds_up());
                for handle in handles {
                    let Err(JobError::Cancelled(cause)) = block_on(handle) else {
                        panic!("it never ended")
                    };
                    assert!(cause.error().unwrap().is::<WorkersLost>());
                }
                let refused = block_on(room).unwrap_err();
                assert!(refused.cause().error().unwrap().is::<WorkersLost>());
                assert_eq!(block_on(pool.drain()).refused, 1);
            }
        });
    }

    /// One submits and waits for room, one feeds a stream, one reads it, while the runtime goes.
    #[test]
    fn a_runtime_shut_down_under_load_loses_no_count_and_no_result() {
        guarded("a runtime shut down under load", || {
            for round in 0..60 {
                let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
                let inside = runtime.enter();
                let pool = Arc::new(build(3, 2).unwrap());
                drop(inside);
                let (submitter, mut results) = pool.results(3).unwrap();
                let load = Arc::clone(&pool);
                let submits = std::thread::spawn(move || {
                    let mut handles = Vec::new();
                    while let Ok(handle) = block_on(load.submit(|_| tokio::task::yield_now())) {
                        handles.push(handle);
                    }
                    handles.into_iter().map(|handle| drop(block_on(handle))).count()
                });
                let feeds = std::thread::spawn(move || {
                    let mut fed = 0;
                    while let Ok(slot) = block_on(submitter.reserve()) {
                        slot.submit(|_| tokio::task::yield_now());
                        fed += 1;
                    }
                    fed
                });
                let reads = std::thread::spawn(move || {
                    std::iter::from_fn(|| block_on(next(&mut results))).count()
                });
                while pool.ledger().finished < round * 10 {
                    std::thread::yield_now();
                }
                match round % 3 {
                    0 => runtime.shutdown_background(),
                    1 => drop(runtime),
                    _ => pool.abort(),
                }
                let ledger = block_on(pool.wait());
                assert!(ledger.adds_up() && ledger.queued + ledger.running == 0, "{ledger}");
                let (submitted, fed) = (submits.join().unwrap(), feeds.join().unwrap());
                assert_eq!(reads.join().unwrap(), fed);
                assert_eq!(pool.ledger().accepted, (submitted + fed) as u64);
            }
        });
    }

    #[test]
    fn a_pool_built_in_a_runtime_that_is_gone_refuses() {
        guarded("a runtime that is gone", || {
            let runtime = one_thread();
            let handle = runtime.handle().clone();
            drop(runtime);
            let _inside = handle.enter();
            let pool = build(2, 2).unwrap();
            let error = block_on(pool.submit(|_| async {})).unwrap_err();
            assert!(error.cause().error().unwrap().is::<WorkersLost>());
            assert_eq!(block_on(pool.wait()).refused, 1);
        });
    }

    #[test]
    fn a_pool_built_by_a_task_without_budget_still_sees_its_context_end() {
        guarded("a spent budget", || {
            one_thread().block_on(async {
                let (context, canceller) = Context::background().child();
                while tokio::task::coop::has_budget_remaining() {
                    tokio::task::coop::consume_budget().await;
                }
                let pool = Pool::builder().workers(1).queue(1).build_async(&context).unwrap();
                let threads = Pool::builder().workers(1).queue(1).build(&context).unwrap();
                canceller.cancel();
                pool.wait().await;
                threads.wait().await;
            });
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_drops_running_futures_in_time() {
        let deadline = Duration::from_secs(60);
        let (context, _canceller) = Context::background().with_timeout(deadline).unwrap();
        let pool = Pool::builder().workers(2).queue(2).build_async(&context).unwrap();
        let began = Instant::now();
        let long = pool.submit(|_| tokio::time::sleep(Duration::from_secs(3600))).await.unwrap();
        let short = pool.submit(|_| tokio::time::sleep(Duration::from_secs(1))).await.unwrap();
        let ledger = pool.wait().await;
        assert!(began.elapsed() < deadline + Duration::from_secs(1));
        assert_eq!((ledger.finished, ledger.cancelled), (1, 1));
        short.await.unwrap();
        let Err(JobError::Cancelled(cause)) = long.await else { panic!("it is too long") };
        assert_eq!(cause.kind(), CauseKind::Deadline);
    }
}
