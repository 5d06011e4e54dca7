//! The facts of a pool: smoke, capacity, close, cancel, drop, panic, bad input.
#![cfg(not(selvedge_loom))]

mod support;

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use selvedge_cancel::{CauseKind, Component, Context, Timer};
use selvedge_pool::{JobError, Pool, PoolError, ReserveError};
use selvedge_testkit::{CountingWaker, PanickingWaker, ReentrantWaker, block_on};
use support::{Held, guarded, pool, pool_in};

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
            resume_unwind(Box::new("this destructor panics"));
        }
    }
}

fn dropped(panics: bool) -> (Arc<AtomicUsize>, Dropped) {
    let count = Arc::new(AtomicUsize::new(0));
    (Arc::clone(&count), Dropped { count, panics })
}

/// Polls once.
fn is_pending<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    future.poll(&mut TaskContext::from_waker(std::task::Waker::noop())).is_pending()
}

// Smoke.

#[test]
fn a_job_runs_on_a_worker_and_its_handle_has_the_result() {
    guarded("a job", || {
        let pool = pool(2, 2);
        let name = block_on(async {
            let handle =
                pool.submit(|_| std::thread::current().name().map(str::to_owned)).await.unwrap();
            handle.await.unwrap().unwrap()
        });
        assert!(name == "test-0" || name == "test-1", "{name}");
    });
}

#[test]
fn every_job_of_ten_thousand_is_run_once_and_gives_its_own_result() {
    const JOBS: usize = 10_000;
    guarded("10,000 jobs", || {
        let pool = pool(4, 8);
        let runs: Arc<Vec<_>> = Arc::new((0..JOBS).map(|_| AtomicUsize::new(0)).collect());
        block_on(async {
            let mut handles = Vec::new();
            for i in 0..JOBS {
                let runs = Arc::clone(&runs);
                let job = pool.submit(move |_| {
                    runs[i].fetch_add(1, Ordering::SeqCst);
                    i
                });
                handles.push(job.await.unwrap());
                assert!(pool.ledger().adds_up());
            }
            for (i, handle) in handles.into_iter().enumerate() {
                assert_eq!(handle.await.unwrap(), i);
            }
            let ledger = pool.drain().await;
            assert_eq!((ledger.accepted, ledger.finished), (JOBS as u64, JOBS as u64));
        });
        assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
    });
}

#[test]
fn jobs_start_in_the_order_in_which_they_were_queued() {
    guarded("the order", || {
        let pool = pool(1, 100);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut first = Held::running(&pool);
        for i in 0..100 {
            let order = Arc::clone(&order);
            drop(block_on(pool.submit(move |_| order.lock().unwrap().push(i))).unwrap());
        }
        first.release();
        block_on(pool.drain());
        assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn many_threads_submit_while_the_ledger_adds_up() {
    guarded("many threads", || {
        let pool = Arc::new(pool(2, 2));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let pool = Arc::clone(&pool);
                std::thread::spawn(move || {
                    for _ in 0..1000 {
                        drop(block_on(pool.submit(|_| ())).unwrap());
                        let ledger = pool.ledger();
                        assert!(ledger.adds_up(), "{ledger}");
                        assert!(ledger.queued <= 2 && ledger.running <= 2, "{ledger}");
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(block_on(pool.drain()).finished, 4000);
    });
}

#[test]
fn it_works_outside_a_runtime_and_inside_each_kind() {
    async fn use_it() {
        let pool = pool(2, 2);
        let handle = pool.submit(|_| 5).await.unwrap();
        assert_eq!(handle.await.unwrap(), 5);
        assert_eq!(pool.drain().await.finished, 1);
    }
    guarded("each kind of runtime", || {
        block_on(use_it());
        selvedge_primitives::block_on(use_it());
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(use_it());
        let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        many.block_on(async { tokio::spawn(use_it()).await.unwrap() });
    });
}

#[test]
fn a_pool_outlives_the_runtime_it_was_used_in() {
    guarded("the runtime's end", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let pool = runtime.block_on(async { pool(1, 1) });
        drop(runtime);
        let handle = block_on(pool.submit(|_| 5)).unwrap();
        assert_eq!(block_on(handle).unwrap(), 5);
    });
}

// Capacity.

#[test]
fn the_queue_holds_what_the_builder_said_and_slots_count() {
    guarded("the capacity", || {
        let pool = pool(1, 2);
        let mut running = Held::running(&pool);
        let _queued = Held::queued(&pool);
        let slot = block_on(pool.reserve()).unwrap();
        assert!(is_pending(pin!(pool.submit(|_| ()))));
        assert!(is_pending(pin!(pool.reserve())));
        let ledger = pool.ledger();
        assert_eq!((ledger.accepted, ledger.running, ledger.queued), (2, 1, 1));
        // A slot that is dropped makes room; so does a job that starts.
        drop(slot);
        let _slot = block_on(pool.reserve()).unwrap();
        running.release();
        drop(block_on(pool.reserve()).unwrap());
    });
}

#[test]
fn those_who_wait_get_room_in_the_order_in_which_they_came() {
    guarded("the line", || {
        let pool = pool(1, 1);
        let mut running = Held::running(&pool);
        let mut queued = Held::queued(&pool);
        let order = RefCell::new(Vec::new());
        block_on(async {
            let mut line: Vec<_> = (0..5)
                .map(|i| {
                    let (pool, order) = (&pool, &order);
                    Box::pin(async move {
                        let handle = pool.submit(|_| ()).await.unwrap();
                        order.borrow_mut().push(i);
                        handle.await.unwrap();
                    })
                })
                .collect();
            poll_fn(|cx| {
                // The last first: the line counts, not who is polled first after a wake.
                let entering = order.borrow().is_empty() && running.handle.is_some();
                if entering {
                    for future in &mut line {
                        assert!(future.as_mut().poll(cx).is_pending());
                    }
                    running.handle = None;
                    running.release();
                    queued.release();
                    return Poll::Pending;
                }
                line.retain_mut(|future| future.as_mut().poll(cx).is_pending());
                if line.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_newcomer_does_not_overtake_those_who_wait() {
    guarded("a newcomer", || {
        let pool = pool(1, 1);
        let mut running = Held::running(&pool);
        let mut queued = Held::queued(&pool);
        let mut waits = pin!(pool.reserve());
        assert!(is_pending(waits.as_mut()));
        running.release();
        queued.wait_started();
        // The room is granted to the one who waits, polled or not.
        assert!(is_pending(pin!(pool.reserve())));
        let slot = block_on(waits).unwrap();
        drop(slot);
        queued.release();
    });
}

#[test]
fn a_granted_submitter_that_is_dropped_passes_the_room_on() {
    guarded("passing on", || {
        let pool = pool(1, 1);
        let mut running = Held::running(&pool);
        let mut queued = Held::queued(&pool);
        let (count, job) = dropped(false);
        let mut first = Box::pin(pool.submit(move |_| drop(job)));
        let mut second = pin!(pool.submit(|_| 2));
        assert!(is_pending(first.as_mut()));
        assert!(is_pending(second.as_mut()));
        running.release();
        queued.wait_started();
        drop(first);
        assert_eq!(count.load(Ordering::SeqCst), 1, "the job dies with its future");
        let second = block_on(second).unwrap();
        queued.release();
        assert_eq!(block_on(second).unwrap(), 2);
        assert_eq!(block_on(pool.drain()).accepted, 3);
    });
}

// Close.

#[test]
fn submit_after_stop_returns_the_closure_and_the_cause() {
    guarded("a refusal", || {
        let pool = pool(1, 1);
        let line = line!() + 1;
        pool.stop();
        let error = block_on(pool.submit(|_| 7)).unwrap_err();
        assert_eq!(error.cause().kind(), CauseKind::Stopped);
        assert_eq!(error.cause().place().line(), line);
        assert_eq!(error.to_string(), "job not accepted: the pool admits no more jobs");
        assert_eq!(error.into_job()(&Context::background()), 7);

        let error = ReserveError::from(block_on(pool.submit(|_| ())).unwrap_err());
        assert_eq!(error.cause().kind(), CauseKind::Stopped);
        assert!(block_on(pool.reserve()).is_err());
        assert_eq!(pool.ledger().refused, 3);
    });
}

#[test]
fn drain_runs_what_was_accepted_and_turns_away_who_waits() {
    guarded("drain", || {
        let pool = pool(1, 1);
        let mut running = Held::running(&pool);
        let mut queued = Held::queued(&pool);
        let mut waits = pin!(pool.submit(|_| 3));
        assert!(is_pending(waits.as_mut()));
        let mut drain = pin!(pool.drain());
        assert!(is_pending(drain.as_mut()));
        assert!(block_on(waits).is_err());
        running.release();
        queued.release();
        let ledger = block_on(drain);
        assert_eq!((ledger.accepted, ledger.finished, ledger.refused), (2, 2, 1));
        assert_eq!(block_on(pool.drain()), ledger, "draining again is fine");
        assert!(pool.watch().stragglers().is_empty());
    });
}

#[test]
fn a_drain_that_was_never_polled_stops_nothing() {
    let pool = pool(1, 1);
    drop(pool.drain());
    assert!(block_on(pool.submit(|_| ())).is_ok());
}

#[test]
fn a_slot_is_honoured_while_the_pool_drains_and_the_drain_waits_for_it() {
    guarded("slots and drain", || {
        let pool = pool(1, 2);
        let (used, given_back) =
            (block_on(pool.reserve()).unwrap(), block_on(pool.reserve()).unwrap());
        let mut drain = pin!(pool.drain());
        assert!(is_pending(drain.as_mut()));
        let stragglers = pool.watch().stragglers();
        assert_eq!(stragglers[0].to_string(), "reserved slots of test: 2 neither used nor dropped");
        let handle = used.submit(|_| 5);
        assert_eq!(block_on(handle).unwrap(), 5);
        assert!(is_pending(drain.as_mut()));
        drop(given_back);
        assert_eq!(block_on(drain).finished, 1);
    });
}

#[test]
fn a_stopping_parent_drains_the_pool() {
    guarded("a stopping parent", || {
        let (context, canceller) = Context::background().child();
        let pool = pool_in(&context, 2, 2);
        let mut running = Held::running(&pool);
        canceller.stop(Duration::MAX);
        assert!(block_on(pool.submit(|_| ())).is_err());
        running.release();
        let ledger = block_on(pool.wait());
        assert_eq!((ledger.finished, ledger.cancelled), (1, 0));
    });
}

// Cancel.

#[test]
fn abort_cancels_queued_jobs_while_every_worker_is_busy() {
    guarded("abort", || {
        let pool = pool(1, 2);
        let mut running = Held::running(&pool);
        let (count, job) = dropped(false);
        let mut queued = block_on(pool.submit(move |_| drop(job))).unwrap();
        // What is gone by the time at which the handle is told.
        let gone = Arc::new(AtomicUsize::new(0));
        let told = {
            let (count, gone) = (Arc::clone(&count), Arc::clone(&gone));
            ReentrantWaker::on_wake(move || {
                gone.store(count.load(Ordering::SeqCst), Ordering::SeqCst);
            })
        };
        let waker = told.waker();
        assert!(pin!(&mut queued).poll(&mut TaskContext::from_waker(&waker)).is_pending());
        let line = line!() + 1;
        pool.abort();
        assert_eq!(gone.load(Ordering::SeqCst), 1, "dropped before its handle is told");
        let Err(JobError::Cancelled(cause)) = block_on(queued) else { panic!("it never started") };
        assert_eq!((cause.kind(), cause.place().line()), (CauseKind::Cancelled, line));
        let ledger = pool.ledger();
        assert_eq!((ledger.cancelled, ledger.running), (1, 1));
        running.release();
        assert_eq!(block_on(pool.wait()).finished, 1);
        assert!(block_on(running.handle.take().unwrap()).is_ok(), "it ran to its end");
    });
}

#[test]
fn a_running_job_sees_the_abort_on_its_context() {
    guarded("seeing the abort", || {
        let pool = pool(1, 1);
        let (start, started) = channel();
        let job = move |ctx: &Context| {
            start.send(()).unwrap();
            ctx.cancelled_blocking().kind()
        };
        let handle = block_on(pool.submit(job)).unwrap();
        started.recv().unwrap();
        pool.abort();
        assert_eq!(block_on(handle).unwrap(), CauseKind::Cancelled);
    });
}

#[test]
fn abort_after_a_drain_began_ends_it() {
    guarded("abort while draining", || {
        let pool = pool(1, 2);
        let mut running = Held::running(&pool);
        let queued = Held::queued(&pool);
        let mut drain = pin!(pool.drain());
        assert!(is_pending(drain.as_mut()));
        pool.abort();
        running.release();
        let ledger = block_on(drain);
        assert_eq!((ledger.finished, ledger.cancelled), (1, 1));
        drop(queued);
    });
}

#[test]
fn cancelling_the_parent_ends_a_pool_whose_workers_sleep() {
    guarded("a cancelled parent", || {
        let (context, canceller) = Context::background().child();
        let pool = pool_in(&context, 3, 2);
        // All have been at work and gone to sleep, as far as one can tell from here.
        block_on(async { pool.submit(|_| ()).await.unwrap().await.unwrap() });
        std::thread::sleep(Duration::from_millis(20));
        canceller.cancel();
        let ledger = block_on(pool.wait());
        assert_eq!((ledger.accepted, ledger.finished), (1, 1));
    });
}

#[test]
fn cancelling_the_parent_turns_away_who_waits_and_cancels_what_is_queued() {
    guarded("a cancelled parent", || {
        let (context, canceller) = Context::background().child();
        let pool = pool_in(&context, 1, 1);
        let mut running = Held::running(&pool);
        let mut queued = Held::queued(&pool);
        let mut waits = pin!(pool.submit(|_| 3));
        assert!(is_pending(waits.as_mut()));
        canceller.cancel();
        assert_eq!(block_on(waits).unwrap_err().cause().kind(), CauseKind::Cancelled);
        assert!(block_on(queued.handle.take().unwrap()).is_err());
        running.release();
        let ledger = block_on(pool.wait());
        assert_eq!((ledger.finished, ledger.cancelled, ledger.refused), (1, 1, 1));
    });
}

#[test]
fn a_context_that_has_ended_makes_a_pool_that_refuses() {
    guarded("a context that has ended", || {
        let (context, canceller) = Context::background().child();
        canceller.cancel();
        let pool = pool_in(&context, 2, 2);
        assert!(block_on(pool.submit(|_| ())).is_err());
        assert_eq!(block_on(pool.wait()).refused, 1);
    });
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_pool_on_tokios_clock() {
    let (context, _canceller) =
        Context::background().with_timeout(Duration::from_secs(3600)).unwrap();
    let pool = pool_in(&context, 2, 2);
    pool.wait().await;
    let error = pool.submit(|_| ()).await.unwrap_err();
    assert_eq!(error.cause().kind(), CauseKind::Deadline);
}

#[test]
fn a_deadline_ends_the_pool_on_the_timer_thread() {
    guarded("a deadline", || {
        let (context, _canceller) =
            Context::background().with_timeout(Duration::from_millis(50)).unwrap();
        let pool = pool_in(&context, 2, 2);
        let handle = block_on(pool.submit(|ctx| ctx.cancelled_blocking().kind())).unwrap();
        assert_eq!(block_on(handle).unwrap(), CauseKind::Deadline);
        block_on(pool.wait());
    });
}

#[test]
fn a_deadline_whose_timer_is_late_refuses_and_starts_nothing() {
    guarded("a late timer", || {
        let (timer, clock) = Timer::manual();
        let second = Duration::from_secs(1);
        let background = Context::background();
        let context = background.child_with().timeout(second).timer(timer);
        let (context, _canceller) = context.build().unwrap();
        let pool = pool_in(&context, 1, 2);
        let mut running = Held::running(&pool);
        let mut queued = Held::queued(&pool);
        clock.advance_silently(second);
        running.release();
        assert!(block_on(queued.handle.take().unwrap()).is_err());
        assert!(block_on(pool.submit(|_| ())).is_err());
        assert_eq!(block_on(pool.wait()).cancelled, 1);
    });
}

#[test]
fn a_runtime_shut_down_underneath_ends_the_pool_as_timer_lost() {
    guarded("a lost timer", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (context, _canceller) = runtime
            .block_on(async { Context::background().with_timeout(Duration::from_secs(3600)) })
            .unwrap();
        let pool = pool_in(&context, 1, 1);
        block_on(async { pool.submit(|_| ()).await.unwrap().await.unwrap() });
        drop(runtime);
        block_on(pool.wait());
        let error = block_on(pool.reserve()).unwrap_err();
        assert_eq!(error.cause().kind(), CauseKind::TimerLost);
    });
}

#[test]
fn a_slot_used_after_an_abort_gives_a_cancelled_job() {
    guarded("a late slot", || {
        let pool = pool(1, 2);
        let (used, dropped_late) =
            (block_on(pool.reserve()).unwrap(), block_on(pool.reserve()).unwrap());
        pool.abort();
        assert_eq!(block_on(pool.wait()).accepted, 0, "an abort waits for no slot");
        let (count, job) = dropped(true);
        let handle = used.submit(move |_| drop(job));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(matches!(block_on(handle), Err(JobError::Cancelled(_))));
        drop(dropped_late);
        let ledger = pool.ledger();
        assert_eq!((ledger.accepted, ledger.cancelled), (1, 1));
        assert!(ledger.adds_up());
    });
}

#[test]
fn a_job_may_abort_its_own_pool() {
    guarded("a job that aborts", || {
        let pool = Arc::new(pool(1, 2));
        let mut first = Held::running(&pool);
        let inner = Arc::clone(&pool);
        let aborts = block_on(pool.submit(move |_| inner.abort())).unwrap();
        let behind = block_on(pool.submit(|_| ())).unwrap();
        first.release();
        assert!(block_on(aborts).is_ok());
        assert!(block_on(behind).is_err());
        block_on(pool.wait());
    });
}

/// The failing program of `Pool::submit`'s page, let out of its hang by an abort.
#[test]
fn a_job_that_waits_for_room_in_its_own_queue_waits_until_the_pool_ends() {
    guarded("a nested submit", || {
        let pool = Arc::new(pool(1, 1));
        let inner = Arc::clone(&pool);
        let (told, tell) = (Arc::new(AtomicBool::new(false)), channel());
        let entered = Arc::clone(&told);
        let outer = pool.submit(move |_| {
            let first = block_on(inner.submit(|_| ()));
            tell.0.send(()).unwrap();
            let second = block_on(inner.submit(|_| ()));
            entered.store(true, Ordering::SeqCst);
            (first.is_ok(), second.is_ok())
        });
        let outer = block_on(outer).unwrap();
        tell.1.recv().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!told.load(Ordering::SeqCst), "nobody makes room");
        pool.abort();
        assert_eq!(block_on(outer).unwrap(), (true, false));
    });
}

// Drop.

#[test]
fn a_thread_local_that_a_job_left_outlives_the_end_of_the_pool() {
    /// Says that its drop began, and waits until it may end.
    struct Left(Sender<()>, Receiver<()>);
    impl Drop for Left {
        fn drop(&mut self) {
            let _ = self.0.send(());
            let _ = self.1.recv();
        }
    }
    thread_local!(static LEFT: RefCell<Option<Left>> = const { RefCell::new(None) });
    guarded("a thread-local", || {
        let pool = pool(1, 1);
        let (began, begins) = channel();
        let (end, ends) = channel();
        let job = pool.submit(move |_| LEFT.set(Some(Left(began, ends))));
        block_on(block_on(job).unwrap()).unwrap();
        assert_eq!(block_on(pool.drain()).finished, 1, "the drain waits for no thread");
        begins.recv().unwrap();
        drop(end);
    });
}

#[test]
fn dropping_the_pool_aborts_without_blocking_and_a_watcher_sees_the_end() {
    guarded("dropping the pool", || {
        let pool = pool(1, 1);
        let watcher = pool.watch();
        let mut running = Held::running(&pool);
        let mut queued = Held::queued(&pool);
        drop(pool);
        let Err(JobError::Cancelled(cause)) = block_on(queued.handle.take().unwrap()) else {
            panic!("it never started");
        };
        assert_eq!(cause.kind(), CauseKind::Dropped);
        let ledger = watcher.ledger();
        assert_eq!((ledger.running, ledger.cancelled), (1, 1));
        running.release();
        let ledger = block_on(watcher.wait());
        assert_eq!((ledger.running, ledger.finished), (0, 1));
        assert_eq!(watcher.name(), "test");
    });
}

#[test]
fn a_dropped_handle_detaches_its_job() {
    guarded("a dropped handle", || {
        let pool = pool(1, 1);
        let (count, result) = dropped(false);
        let mut held = Held::running(&pool);
        drop(block_on(pool.submit(move |_| result)).unwrap());
        held.release();
        let ledger = block_on(pool.drain());
        assert_eq!(ledger.finished, 2);
        assert_eq!(count.load(Ordering::SeqCst), 1, "its result is dropped before the end");
    });
}

#[test]
fn a_handle_polled_by_another_task_wakes_that_one() {
    guarded("a moved handle", || {
        let pool = pool(1, 1);
        let mut held = Held::running(&pool);
        let mut handle = held.handle.take().unwrap();
        let (before, after) = (CountingWaker::new(), CountingWaker::new());
        for waker in [&before, &after] {
            let waker = waker.waker();
            let mut cx = TaskContext::from_waker(&waker);
            assert!(pin!(&mut handle).poll(&mut cx).is_pending());
        }
        held.release();
        block_on(pool.drain());
        assert_eq!((before.wakes(), after.wakes()), (0, 1));
        assert!(handle.is_finished());
    });
}

// Panic.

#[test]
fn every_seventh_job_panics_and_nothing_else_happens() {
    guarded("panics", || {
        let pool = pool(2, 4);
        block_on(async {
            let mut handles = Vec::new();
            for i in 0..700_u64 {
                let job = move |_: &Context| {
                    if i % 7 == 0 {
                        resume_unwind(Box::new(format!("job {i}")));
                    }
                    i
                };
                handles.push(pool.submit(job).await.unwrap());
            }
            for (i, handle) in handles.into_iter().enumerate() {
                match handle.await {
                    Ok(result) => assert_eq!(result, i as u64),
                    Err(JobError::Panicked(panic)) => {
                        assert_eq!(panic.message(), format!("job {i}"));
                        assert!(i % 7 == 0);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            let ledger = pool.drain().await;
            assert_eq!((ledger.accepted, ledger.panicked, ledger.finished), (700, 100, 600));
        });
    });
}

#[test]
fn a_panic_keeps_its_payload_and_can_be_resumed() {
    guarded("a payload", || {
        let pool = pool(1, 1);
        let handle = block_on(pool.submit(|_| -> () { resume_unwind(Box::new(42_u8)) })).unwrap();
        let Err(error) = block_on(handle) else { panic!("it panicked") };
        assert_eq!(error.to_string(), "job not finished: it panicked: (a payload that is no text)");
        let JobError::Panicked(panic) = error else { panic!("it panicked") };
        let resumed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panic.resume()));
        assert_eq!(*resumed.unwrap_err().downcast::<u8>().unwrap(), 42);
    });
}

#[test]
fn panicking_destructors_of_jobs_and_results_kill_no_worker() {
    guarded("panicking destructors", || {
        let pool = pool(1, 2);
        // Of what a job captured, dropped at its end: a panic of the job.
        let (count, inside) = dropped(true);
        let handle = block_on(pool.submit(move |_| drop(inside))).unwrap();
        assert!(matches!(block_on(handle), Err(JobError::Panicked(_))));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        // Of a result that nobody wants.
        let mut held = Held::running(&pool);
        let (count, result) = dropped(true);
        drop(block_on(pool.submit(move |_| result)).unwrap());
        held.release();
        // Of a payload that nobody wants.
        let (payloads, payload) = dropped(true);
        drop(block_on(pool.submit(move |_| -> () { resume_unwind(Box::new(payload)) })).unwrap());
        // The only worker is alive.
        let alive = block_on(pool.submit(|_| 5)).unwrap();
        assert_eq!(block_on(alive).unwrap(), 5);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!(payloads.load(Ordering::SeqCst), 1);
        // Of a job that is cancelled in the queue; the one behind it is cancelled all the same.
        let mut held = Held::running(&pool);
        let (count, inside) = dropped(true);
        let first = block_on(pool.submit(move |_| drop(inside))).unwrap();
        let second = block_on(pool.submit(|_| ())).unwrap();
        pool.abort();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(block_on(first).is_err() && block_on(second).is_err());
        held.release();
        let ledger = block_on(pool.wait());
        assert_eq!((ledger.panicked, ledger.cancelled), (2, 2));
    });
}

#[test]
fn a_result_that_panics_when_its_handle_is_dropped_is_contained() {
    guarded("a handle dropped late", || {
        let pool = pool(1, 2);
        let (results, result) = dropped(true);
        let finished = block_on(pool.submit(move |_| result)).unwrap();
        let (payloads, payload) = dropped(true);
        let panicked = block_on(pool.submit(move |_| -> () { resume_unwind(Box::new(payload)) }));
        // The only worker has handed over both when it has run a third.
        let third = block_on(pool.submit(|_| ())).unwrap();
        block_on(third).unwrap();
        drop(finished);
        drop(panicked);
        assert_eq!((results.load(Ordering::SeqCst), payloads.load(Ordering::SeqCst)), (1, 1));
    });
}

#[test]
fn panicking_wakers_kill_no_worker_and_keep_nobody_waiting() {
    guarded("panicking wakers", || {
        let pool = pool(1, 1);
        let panics = PanickingWaker::new();
        let waker = panics.waker();
        let mut cx = TaskContext::from_waker(&waker);
        let mut running = Held::running(&pool);
        let mut queued = Held::queued(&pool);
        // One waits for the result, one for room, one for the end.
        let mut handle = running.handle.take().unwrap();
        assert!(pin!(&mut handle).poll(&mut cx).is_pending());
        let mut waits = Box::pin(pool.submit(|_| 3));
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        let mut end = Box::pin(pool.wait());
        assert!(end.as_mut().poll(&mut cx).is_pending());
        running.release();
        queued.wait_started();
        let third = block_on(waits).unwrap();
        queued.release();
        assert_eq!(block_on(third).unwrap(), 3);
        assert_eq!(block_on(pool.drain()).finished, 3);
        block_on(end);
    });
}

// Bad input.

#[test]
fn zero_and_too_many_are_typed_errors() {
    let build = |workers, queue| {
        Pool::builder().workers(workers).queue(queue).build(&Context::background())
    };
    assert!(matches!(build(0, 1), Err(PoolError::NoWorkers)));
    assert!(matches!(build(1, 0), Err(PoolError::NoQueue)));
    let error = build(usize::MAX, 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("pool not started: {} workers are too many, ask for at most 4096", usize::MAX)
    );
}

#[test]
fn a_queue_without_bound_is_spelled_max() {
    guarded("an unbounded queue", || {
        let pool = pool(1, usize::MAX);
        let mut running = Held::running(&pool);
        for _ in 0..1000 {
            drop(block_on(pool.submit(|_| ())).unwrap());
        }
        assert_eq!(pool.ledger().queued, 1000);
        running.release();
        assert_eq!(block_on(pool.drain()).finished, 1001);
    });
}

#[test]
fn a_name_that_no_thread_can_have_is_changed_for_the_threads_only() {
    guarded("a name", || {
        let pool = Pool::builder().name("a\0b").workers(1).build(&Context::background()).unwrap();
        assert_eq!(pool.name(), "a\0b");
        let name = |_: &Context| std::thread::current().name().map(str::to_owned);
        let handle = block_on(pool.submit(name)).unwrap();
        assert_eq!(block_on(handle).unwrap().as_deref(), Some("a b-0"));
    });
}

#[test]
fn the_defaults_make_a_pool_that_works() {
    guarded("the defaults", || {
        let pool = Pool::builder().build(&Context::background()).unwrap();
        let handle = block_on(pool.submit(|_| 5)).unwrap();
        assert_eq!(block_on(handle).unwrap(), 5);
        assert_eq!(pool.name(), "pool");
    });
}

#[test]
#[should_panic(expected = "`JobHandle` polled after it completed")]
fn a_handle_polled_after_it_completed_panics() {
    let pool = pool(1, 1);
    let mut handle = block_on(pool.submit(|_| ())).unwrap();
    block_on(&mut handle).unwrap();
    let _ = block_on(&mut handle);
}

#[test]
#[should_panic(expected = "`Submit` polled after it completed")]
fn a_submit_polled_after_it_completed_panics() {
    let pool = pool(1, 1);
    let mut submit = pin!(pool.submit(|_| ()));
    drop(block_on(submit.as_mut()).unwrap());
    let _ = block_on(submit);
}

#[test]
#[should_panic(expected = "`Reserve` polled after it completed")]
fn a_reserve_polled_after_it_completed_panics() {
    let pool = pool(1, 1);
    let mut reserve = pin!(pool.reserve());
    drop(block_on(reserve.as_mut()).unwrap());
    let _ = block_on(reserve);
}

// The component.

#[test]
fn a_component_stops_names_its_stragglers_and_ends() {
    guarded("the component", || {
        let pool = pool(2, 2);
        let component: &dyn Component = &pool;
        assert_eq!(component.name(), "test");
        assert!(component.stragglers().is_empty());
        let slot = block_on(pool.reserve()).unwrap();
        let (release, released) = channel::<()>();
        let (start, started) = channel();
        let line = line!() + 1;
        let handle = slot.submit(move |_| {
            start.send(()).unwrap();
            let _ = released.recv();
        });
        started.recv().unwrap();
        assert_eq!(handle.place().line(), line);
        component.stop();
        component.stop();
        let straggler = &component.stragglers()[0];
        assert_eq!(straggler.name, "job of test");
        assert_eq!(straggler.place, Some(handle.place()));
        assert!(straggler.note.starts_with("running on test-"), "{straggler}");
        component.abort();
        assert_eq!(component.stragglers().len(), 1, "a closure past an abort is named");
        release.send(()).unwrap();
        block_on(component.wait());
        block_on(component.wait());
        component.stop();
        component.abort();
        assert!(component.stragglers().is_empty());
        assert!(block_on(handle).is_ok());
    });
}

#[test]
fn a_destructor_of_an_unwanted_result_is_named_while_it_runs() {
    /// Takes its time.
    struct Slow(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
            let _ = self.1.recv();
        }
    }
    guarded("a slow destructor", || {
        let pool = pool(1, 1);
        let ((tell, told), (release, released)) = (channel(), channel());
        let mut held = Held::running(&pool);
        drop(block_on(pool.submit(move |_| Slow(tell, released))).unwrap());
        held.release();
        told.recv().unwrap();
        assert_eq!(pool.ledger().finished, 2, "its job has ended");
        let straggler = &pool.watch().stragglers()[0];
        assert_eq!(straggler.note, "handing over its result on test-0");
        let mut drain = pin!(pool.drain());
        assert!(is_pending(drain.as_mut()), "the end waits for it");
        drop(release);
        block_on(drain);
    });
}
