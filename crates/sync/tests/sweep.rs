//! The futures dropped, woken and dropped, moved, panicked over and closed at each of their await
//! points. After each: every permit is back, whoever stands behind is served, no waker is left.
#![cfg(not(selvedge_loom))]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use selvedge_sync::{AcquireError, OwnedPermit, Semaphore};
use selvedge_testkit::{CountingWaker, Ended, Mode, Run, Summary, sweep};

/// All permits of the scenarios.
const CAPACITY: usize = 3;

/// What both futures give, as far as the scenarios look at it.
trait Acquired: Future<Output = Result<Self::Permit, AcquireError>> + Send {
    type Permit;
}

impl<P, F: Future<Output = Result<P, AcquireError>> + Send> Acquired for F {
    type Permit = P;
}

/// All permits are out, one guard each.
fn all_out(semaphore: &Arc<Semaphore>) -> Vec<OwnedPermit> {
    (0..CAPACITY).map(|_| semaphore.try_acquire_owned(1).unwrap()).collect()
}

/// `future` wants all permits, which come back one by one; somebody who wants one comes behind it.
fn permits_come_one_by_one<F: Acquired>(run: &mut Run, semaphore: &Arc<Semaphore>, future: F) {
    let mut out = all_out(semaphore);
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut behind = pin!(semaphore.acquire_owned(1));

    let ended = run.drive(future, |step| {
        if step == 0 {
            let polled = behind.as_mut().poll(&mut Context::from_waker(&woken));
            assert!(polled.is_pending(), "one overtook the other");
        }
        drop(out.pop());
    });

    let mut cx = Context::from_waker(&woken);
    match ended {
        Ended::Ready(all) => {
            assert!(all.is_ok());
            assert_eq!(semaphore.available(), 0);
        }
        // What came back until then is enough for the one behind; it waits for no release more.
        Ended::Dropped => assert_eq!(waker.wakes() > 0, out.len() < CAPACITY),
    }
    drop(out);
    let Poll::Ready(Ok(one)) = behind.as_mut().poll(&mut cx) else {
        panic!("the one behind was not served");
    };
    drop(one);
    conserved(run, semaphore);
}

/// `future` stands in the middle of the line; the permits come at once, or the semaphore closes.
fn closed_in_the_middle<F: Acquired>(run: &mut Run, semaphore: &Arc<Semaphore>, future: F) {
    let mut out = all_out(semaphore);
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut cx = Context::from_waker(&woken);
    let mut before = pin!(semaphore.acquire_owned(1));
    assert!(before.as_mut().poll(&mut cx).is_pending());

    let ended = run.drive_cancel(future, |_| out.clear(), || semaphore.close());

    match (run.mode(), ended) {
        (Mode::Cancel, Ended::Ready(result)) => {
            assert_eq!(result.map(drop), Err(AcquireError::Closed));
        }
        (_, Ended::Ready(result)) => assert!(result.is_ok(), "granted before the close"),
        (_, Ended::Dropped) => {}
    }
    out.clear();
    match before.as_mut().poll(&mut cx) {
        Poll::Ready(Ok(one)) => drop(one),
        Poll::Ready(Err(error)) => {
            assert_eq!(error, AcquireError::Closed);
            assert_eq!(run.mode(), Mode::Cancel);
        }
        Poll::Pending => panic!("the one before was not served"),
    }
    conserved(run, semaphore);
}

/// Nothing is lost, and nothing is left behind.
fn conserved(run: &Run, semaphore: &Semaphore) {
    assert_eq!(semaphore.available(), CAPACITY);
    assert_eq!(run.live_wakers(), 0);
    if !semaphore.is_closed() {
        assert!(semaphore.try_acquire(CAPACITY).is_ok(), "somebody is left in the line");
    }
}

fn fresh() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CAPACITY))
}

/// K pending polls, and every mode that the drive allows.
fn assert_swept(summary: &Summary, pending_points: usize, modes: usize) {
    assert_eq!((summary.pending_points, summary.modes.len()), (pending_points, modes), "{summary}");
}

#[test]
fn acquire_loses_nothing_at_any_await_point() {
    let summary = sweep("Acquire", |run| {
        let semaphore = fresh();
        permits_come_one_by_one(run, &semaphore, semaphore.acquire(CAPACITY));
    });
    assert_swept(&summary, CAPACITY, 6);
    let summary = sweep("Acquire", |run| {
        let semaphore = fresh();
        closed_in_the_middle(run, &semaphore, semaphore.acquire(2));
    });
    assert_swept(&summary, 1, 8);
}

#[test]
fn acquire_owned_loses_nothing_at_any_await_point() {
    let summary = sweep("AcquireOwned", |run| {
        let semaphore = fresh();
        permits_come_one_by_one(run, &semaphore, semaphore.acquire_owned(CAPACITY));
    });
    assert_swept(&summary, CAPACITY, 6);
    let summary = sweep("AcquireOwned", |run| {
        let semaphore = fresh();
        closed_in_the_middle(run, &semaphore, semaphore.acquire_owned(2));
    });
    assert_swept(&summary, 1, 8);
}
