//! Every public future, dropped, cancelled and moved at each of its await points.
//!
//! The workers are stepped by hand: a step lets a held job end, and waits until the worker has
//! started the next one. By then the worker has told everybody of the job before.
#![cfg(not(selvedge_loom))]

mod support;

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use selvedge_pool::Pool;
use selvedge_testkit::{CountingWaker, Ended, Mode, block_on, for_each, next, sweep};
use support::{Gate, Held, Pass, guarded, now, poll_once, pool, tasks};

/// A pool with one worker and one place, both taken by held jobs.
struct Full {
    /// The pool.
    pool: Pool,
    /// Runs.
    running: RefCell<Held>,
    /// Waits in the queue.
    queued: RefCell<Held>,
}

impl Full {
    fn new() -> Self {
        let pool = pool(1, 1);
        let running = RefCell::new(Held::running(&pool));
        let queued = RefCell::new(Held::queued(&pool));
        Self { pool, running, queued }
    }

    /// The worker goes on to the second job, and makes room with that.
    fn step(&self) {
        self.running.borrow_mut().release();
        self.queued.borrow().wait_started();
    }

    /// Lets all jobs end.
    fn release(&self) {
        self.running.borrow_mut().release();
        self.queued.borrow_mut().release();
    }

    /// Whether the room that the driven future may have been given is there for others. Unless the
    /// pool was aborted.
    fn assert_room_comes_back(&self, mode: Mode) {
        self.release();
        let next = block_on(self.pool.submit(|_| 9));
        match mode {
            Mode::Cancel | Mode::WakeThenCancel => assert!(next.is_err()),
            _ => assert_eq!(block_on(next.unwrap()).unwrap(), 9),
        }
    }
}

#[test]
fn submit_loses_no_room_and_no_job_when_it_is_dropped_anywhere() {
    guarded("the sweep of Submit", || {
        let summary = sweep("Submit", |run| {
            let full = Full::new();
            let alive = Arc::new(());
            let inside = Arc::clone(&alive);
            let submit = full.pool.submit(move |_| drop(inside));

            let ended = run.drive_cancel(submit, |_| full.step(), || full.pool.abort());

            assert_eq!(run.live_wakers(), 0);
            let accepted = match ended {
                Ended::Ready(Ok(handle)) => {
                    full.release();
                    block_on(handle).is_ok()
                }
                Ended::Ready(Err(error)) => {
                    assert_eq!(Arc::strong_count(&alive), 2, "the job is given back");
                    drop(error);
                    false
                }
                Ended::Dropped => false,
            };
            assert_eq!(Arc::strong_count(&alive), 1, "no job is left behind");
            full.assert_room_comes_back(run.mode());
            let ledger = block_on(full.pool.drain());
            assert!(ledger.adds_up(), "{ledger}");
            let others = if full.pool.ledger().refused > 0 { 2 } else { 3 };
            assert_eq!(ledger.accepted, others + u64::from(accepted), "{ledger}");
        });
        assert_eq!(summary.pending_points, 1);
    });
}

#[test]
fn reserve_loses_no_room_when_it_is_dropped_anywhere() {
    guarded("the sweep of Reserve", || {
        let summary = sweep("Reserve", |run| {
            let full = Full::new();

            let ended =
                run.drive_cancel(full.pool.reserve(), |_| full.step(), || full.pool.abort());

            assert_eq!(run.live_wakers(), 0);
            let aborted = matches!(run.mode(), Mode::Cancel | Mode::WakeThenCancel);
            if let Ended::Ready(Ok(slot)) = ended {
                full.release();
                let job = block_on(slot.submit(|_| 5));
                assert_eq!(job.is_ok(), !aborted);
            }
            full.assert_room_comes_back(run.mode());
            assert!(block_on(full.pool.drain()).adds_up());
        });
        assert_eq!(summary.pending_points, 1);
    });
}

#[test]
fn a_handle_loses_no_wake_up_and_no_job_when_it_is_dropped_anywhere() {
    guarded("the sweep of JobHandle", || {
        let summary = sweep("JobHandle", |run| {
            let pool = pool(1, 2);
            let first = RefCell::new(Held::running(&pool));
            let second = RefCell::new(Held::queued(&pool));
            let third = RefCell::new(Held::queued(&pool));
            let handle = second.borrow_mut().handle.take().unwrap();
            let step = |k| match k {
                // The job starts.
                0 => {
                    first.borrow_mut().release();
                    second.borrow().wait_started();
                }
                // It ends, and the worker has told so.
                _ => {
                    second.borrow_mut().release();
                    third.borrow().wait_started();
                }
            };
            let release_all = || {
                for held in [&first, &second, &third] {
                    held.borrow_mut().release();
                }
            };
            let cancel = || {
                pool.abort();
                release_all();
                block_on(pool.wait());
            };

            let ended = run.drive_cancel(handle, step, cancel);

            assert_eq!(run.live_wakers(), 0);
            release_all();
            let ledger = block_on(pool.drain());
            assert_eq!((ledger.accepted, ledger.panicked), (3, 0), "{ledger}");
            assert!(ledger.adds_up(), "{ledger}");
            match ended {
                Ended::Ready(Ok(())) => assert!(ledger.finished >= 2),
                Ended::Ready(Err(_)) => assert!(ledger.cancelled >= 2),
                Ended::Dropped => assert_eq!(ledger.finished, 3, "it is detached, and runs"),
            }
        });
        assert_eq!(summary.pending_points, 2);
    });
}

/// Lets the last job end, and waits until everybody who waited for the pool's end before was woken:
/// they are woken in the order in which they came.
fn step_to_the_end(pool: &Pool, running: &RefCell<Held>) {
    let probe = CountingWaker::new();
    let waker = probe.waker();
    let mut end = pin!(pool.wait());
    assert!(end.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    running.borrow_mut().release();
    while probe.wakes() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn drain_stays_a_drain_when_it_is_dropped_anywhere() {
    guarded("the sweep of Drain", || {
        let summary = sweep("Drain", |run| {
            let pool = pool(1, 1);
            let running = RefCell::new(Held::running(&pool));

            let ended = run.drive(pool.drain(), |_| step_to_the_end(&pool, &running));

            assert_eq!(run.live_wakers(), 0);
            running.borrow_mut().release();
            let ledger = block_on(pool.drain());
            assert_eq!((ledger.accepted, ledger.finished), (1, 1), "{ledger}");
            if let Ended::Ready(seen) = ended {
                assert_eq!(seen, ledger);
            }
        });
        assert_eq!(summary.pending_points, 1);
    });
}

#[test]
fn ended_changes_nothing_when_it_is_dropped_anywhere() {
    guarded("the sweep of Ended", || {
        let summary = sweep("Ended", |run| {
            let pool = pool(1, 1);
            let running = RefCell::new(Held::running(&pool));
            pool.stop();

            let ended = run.drive(pool.wait(), |_| step_to_the_end(&pool, &running));

            assert_eq!(run.live_wakers(), 0);
            running.borrow_mut().release();
            let ledger = block_on(pool.wait());
            assert_eq!((ledger.accepted, ledger.finished), (1, 1), "{ledger}");
            if let Ended::Ready(seen) = ended {
                assert_eq!(seen, ledger);
            }
        });
        assert_eq!(summary.pending_points, 1);
    });
}

#[test]
fn a_worker_that_is_dropped_anywhere_loses_no_job_and_ends_the_pool() {
    guarded("the sweep of Worker", || {
        let summary = sweep("Worker", |run| {
            let (pool, mut crew) = tasks(1, 2);
            let gates = [Gate::default(), Gate::default()];
            let handles = RefCell::new(Vec::new());
            let step = |k: usize| match k {
                // Parked: it is given two jobs.
                0 => {
                    for gate in gates.clone() {
                        handles.borrow_mut().push(now(pool.submit(|_| gate.pass())).unwrap());
                    }
                }
                // At the first, at the second.
                1 | 2 => gates[k - 1].open(Pass::Open),
                // Parked again.
                _ => pool.stop(),
            };

            let ended = run.drive(crew.remove(0), step);

            // The gates keep the wakers of those who came to them.
            drop(gates);
            assert_eq!(run.live_wakers(), 0);
            let handles = handles.take();
            let ledger = now(pool.wait());
            assert!(ledger.adds_up(), "{ledger}");
            assert_eq!((ledger.running, ledger.queued), (0, 0), "{ledger}");
            assert_eq!(ledger.accepted, handles.len() as u64);
            let finished = handles.into_iter().map(now).filter(Result::is_ok);
            assert_eq!(finished.count() as u64, ledger.finished);
            if let Ended::Ready(()) = ended {
                assert_eq!(ledger.finished, 2, "{ledger}");
            }
            assert!(now(pool.submit(|_| async {})).is_err());
        });
        assert_eq!(summary.pending_points, 4);
    });
}

#[test]
fn a_reservation_for_a_result_loses_neither_place_nor_room_when_it_is_dropped_anywhere() {
    guarded("the sweep of ReserveResult", || {
        let summary = sweep("ReserveResult", |run| {
            let (pool, mut crew) = tasks(1, 1);
            let (submitter, mut results) = pool.results(1).unwrap();
            now(submitter.reserve()).unwrap().submit(|_| async { 1 });
            assert!(poll_once(crew[0].as_mut()).is_pending());
            let room = RefCell::new(Some(now(pool.reserve()).unwrap()));
            let step = |k: usize| match k {
                // It has a place, and no room.
                0 => {
                    let taken = poll_once(pin!(next(&mut results)));
                    assert!(matches!(taken, Poll::Ready(Some(_))));
                }
                _ => drop(room.borrow_mut().take()),
            };

            let ended = run.drive_cancel(submitter.reserve(), step, || pool.abort());

            assert_eq!(run.live_wakers(), 0);
            drop(room.take());
            let aborted = matches!(run.mode(), Mode::Cancel | Mode::WakeThenCancel);
            let submitted = match ended {
                Ended::Ready(Ok(slot)) => {
                    slot.submit(|_| async { 2 });
                    1
                }
                Ended::Ready(Err(_)) => {
                    assert!(aborted);
                    0
                }
                Ended::Dropped => 0,
            };
            // Place and room are there for the next, once what is there was taken.
            let mut taken = 0;
            while let Poll::Ready(Some(_)) = poll_once(pin!(next(&mut results))) {
                taken += 1;
            }
            let _ = poll_once(crew[0].as_mut());
            while let Poll::Ready(Some(_)) = poll_once(pin!(next(&mut results))) {
                taken += 1;
            }
            assert!(taken <= 1 + submitted);
            assert_eq!(now(submitter.reserve()).is_err(), aborted);
            assert!(pool.ledger().adds_up());
            drop(submitter);
            assert!(matches!(poll_once(pin!(next(&mut results))), Poll::Ready(None)));
        });
        assert_eq!(summary.pending_points, 2);
    });
}

#[test]
fn a_call_for_a_result_loses_none_when_it_is_dropped_anywhere() {
    guarded("the sweep of Results, by call", || {
        let summary = sweep("Results", |run| {
            let (pool, mut crew) = tasks(1, 1);
            let (submitter, mut results) = pool.results(1).unwrap();
            let step = |k: usize| match k {
                0 => drop(now(submitter.reserve()).unwrap()), // woken for nothing
                _ => {
                    now(submitter.reserve()).unwrap().submit(|_| async { 7 });
                    assert!(poll_once(crew[0].as_mut()).is_pending());
                }
            };

            let ended = run.drive(next(&mut results), step);

            // The stream keeps the waker of its last call, and gives it up with the result.
            let mut taken = u64::from(matches!(ended, Ended::Ready(Some(_))));
            if let Poll::Ready(Some(_)) = poll_once(pin!(next(&mut results))) {
                taken += 1;
            }
            assert_eq!(taken, pool.ledger().finished, "received or still there");
            drop(results);
            assert_eq!(run.live_wakers(), 0);
        });
        assert_eq!(summary.pending_points, 2);
    });
}

#[test]
fn a_stream_of_results_that_is_dropped_anywhere_detaches_its_jobs() {
    guarded("the sweep of Results, as a whole", || {
        let summary = sweep("Results", |run| {
            let (pool, mut crew) = tasks(1, 2);
            let (submitter, results) = pool.results(2).unwrap();
            let gates = [Gate::default(), Gate::default()];
            for gate in gates.clone() {
                now(submitter.reserve()).unwrap().submit(|_| gate.pass());
            }
            let submitter = RefCell::new(Some(submitter));
            let mut step = |k: usize| match k {
                0 | 1 => {
                    gates[k].open(Pass::Open);
                    let _ = poll_once(crew[0].as_mut());
                }
                _ => drop(submitter.borrow_mut().take()),
            };
            let mut seen = 0;

            let ended = run.drive(for_each(results, |_| seen += 1), &mut step);

            assert_eq!(run.live_wakers(), 0);
            step(0);
            step(1);
            let ledger = pool.ledger();
            assert_eq!((ledger.accepted, ledger.finished), (2, 2), "they run all the same");
            if let Ended::Ready(()) = ended {
                assert_eq!(seen, 2);
            }
            if let Some(submitter) = submitter.take() {
                assert!(submitter.is_detached());
                drop(now(submitter.reserve()).unwrap());
            }
        });
        assert_eq!(summary.pending_points, 3);
    });
}
