//! A capacity that changes while permits are out and others wait; permits that are split, merged and forgotten; waiters
//! that leave at any place.
#![cfg(not(selvedge_loom))]

#[path = "support/waiter.rs"]
mod waiter;

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{CauseKind, Context as Tree};
use selvedge_sync::{
    AcquireError, CapacityError, Fairness, OwnedPermit, Semaphore, TryAcquireError,
};
use selvedge_testkit::watchdog;
use waiter::Waiter;

/// Far above anything a healthy run takes.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Polls with a waker that does nothing.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls once; it waits now.
#[track_caller]
fn waits<F: Future>(future: Pin<&mut F>) {
    assert!(poll_once(future).is_pending());
}

/// Both kinds of fairness promise the same about the capacity. With a bound that is not over before a test is.
const KINDS: [Fairness; 2] = [Fairness::Strict, Fairness::Eventual(Duration::from_secs(3_600))];

/// A semaphore of `capacity`.
fn semaphore(capacity: usize, fairness: Fairness) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(capacity).with_fairness(fairness))
}

/// So many permits, a guard each.
fn take(semaphore: &Arc<Semaphore>, count: usize) -> Vec<OwnedPermit> {
    (0..count).map(|_| semaphore.try_acquire_owned(1).unwrap()).collect()
}

/// Polls whoever was woken, until nobody is; gives their permits.
fn settle(line: &mut VecDeque<Waiter>) -> Vec<OwnedPermit> {
    let mut permits = Vec::new();
    loop {
        let woken = line.iter().position(|waiter| waiter.wakes() > 0);
        let Some(woken) = woken else { return permits };
        if let Poll::Ready(permit) = line[woken].poll() {
            permits.push(permit.unwrap());
            line.remove(woken);
        }
    }
}

// Capacity.

#[test]
fn lowered_below_what_is_out_it_never_rises_above_the_new_capacity_again() {
    for fairness in KINDS {
        let limit = semaphore(8, fairness);
        let mut held = take(&limit, 8);
        let mut line: VecDeque<_> = (0..100).map(|_| Waiter::new(&limit, 1)).collect();
        assert_eq!(limit.waiting(), 100);

        assert_eq!(limit.set_capacity(2), Ok(8));
        assert_eq!((limit.capacity(), limit.available(), limit.debt()), (2, 0, 6));
        // Six pay the debt: nobody is let in for them, neither from the line nor beside it.
        for owed in (0..6).rev() {
            held.pop();
            assert!(settle(&mut line).is_empty());
            assert!(limit.try_acquire(1).is_err());
            assert_eq!((limit.available(), limit.debt()), (0, owed));
        }
        // From here on one comes for each that goes.
        for _ in 0..20 {
            drop(held.remove(0));
            held.extend(settle(&mut line));
            assert_eq!(held.len(), 2);
        }
        assert_eq!(line.len(), 80);

        assert_eq!(limit.set_capacity(8), Ok(2));
        let admitted = settle(&mut line);
        assert_eq!(admitted.len(), 6, "six at once");
        assert_eq!((limit.available(), limit.waiting()), (0, 74));
        drop(line);
        drop((held, admitted));
        assert_eq!(limit.available(), 8);
    }
}

#[test]
fn on_many_threads_no_more_are_out_than_the_lowered_capacity() {
    for fairness in KINDS {
        watchdog(WATCHDOG, "a capacity that changes", move || {
            let limit = semaphore(8, fairness);
            let out = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..12 {
                    scope.spawn(|| {
                        for _ in 0..2_000 {
                            let permit = limit.acquire_blocking(1).unwrap();
                            // At most the highest of the capacities.
                            assert!(out.fetch_add(1, Ordering::Relaxed) < 8);
                            thread::yield_now();
                            out.fetch_sub(1, Ordering::Relaxed);
                            drop(permit);
                        }
                    });
                }
                for round in 0..400 {
                    limit.set_capacity([1, 8, 2, 5][round % 4]).unwrap();
                    thread::yield_now();
                }
                limit.set_capacity(8).unwrap();
            });
            assert_eq!((limit.available(), limit.debt(), limit.waiting()), (8, 0, 0));
        });
    }
}

#[test]
fn a_queued_request_that_no_longer_fits_is_told_and_the_line_moves_on() {
    for fairness in KINDS {
        let limit = semaphore(4, fairness);
        let held = take(&limit, 4);
        let mut large = pin!(limit.acquire(3));
        waits(large.as_mut());
        let mut small = Waiter::new(&limit, 1);

        limit.set_capacity(2).unwrap();
        let told = poll_once(large).map(|result| result.map(drop));
        assert_eq!(told, Poll::Ready(Err(AcquireError::OverCapacity { wanted: 3, capacity: 2 })));
        assert!(small.poll().is_pending());
        drop(held);
        assert!(small.wakes() > 0);
        assert!(matches!(small.poll(), Poll::Ready(Ok(_))));
        assert_eq!((limit.available(), limit.waiting()), (2, 0));
    }
}

#[test]
fn one_behind_that_no_longer_fits_is_told_when_it_is_the_front() {
    let limit = semaphore(4, Fairness::Strict);
    let held = take(&limit, 4);
    let mut first = Waiter::new(&limit, 1);
    let mut large = pin!(limit.acquire(4));
    waits(large.as_mut());
    limit.set_capacity(3).unwrap();
    waits(large.as_mut());
    drop(held);
    assert!(first.poll().is_ready());
    let told = poll_once(large).map(|result| result.map(drop));
    assert_eq!(told, Poll::Ready(Err(AcquireError::OverCapacity { wanted: 4, capacity: 3 })));
}

#[test]
fn a_capacity_of_zero_sends_everybody_away_and_one_above_serves_again() {
    for fairness in KINDS {
        let limit = semaphore(1, fairness);
        let held = take(&limit, 1);
        let mut line: Vec<_> = (0..3).map(|_| Waiter::new(&limit, 1)).collect();
        limit.set_capacity(0).unwrap();
        for waiter in &mut line {
            let Poll::Ready(Err(error)) = waiter.poll() else { panic!("it waits for ever") };
            assert_eq!(error, AcquireError::OverCapacity { wanted: 1, capacity: 0 });
        }
        assert_eq!(limit.debt(), 1);
        drop(held);
        assert_eq!((limit.available(), limit.debt(), limit.waiting()), (0, 0, 0));
        limit.set_capacity(1).unwrap();
        assert!(limit.try_acquire(1).is_ok());
    }
}

#[test]
fn a_capacity_above_the_maximum_is_refused_and_changes_nothing() {
    let limit = semaphore(5, Fairness::Strict);
    let max = Semaphore::MAX_PERMITS;
    for wanted in [max + 1, usize::MAX / 2, usize::MAX] {
        let error = limit.set_capacity(wanted).unwrap_err();
        assert_eq!(error.wanted, wanted);
        assert_eq!(
            error.to_string(),
            format!("capacity not changed: {wanted} wanted, {max} is the most")
        );
    }
    let too_much = |added| limit.add(added).map_err(|error: CapacityError| error.wanted);
    assert_eq!(too_much(max), Err(max + 5));
    assert_eq!(too_much(usize::MAX), Err(usize::MAX));
    assert_eq!(limit.capacity(), 5);
    assert_eq!(too_much(max - 5), Ok(()));
    assert_eq!(too_much(1), Err(max + 1));
    assert_eq!((limit.capacity(), limit.available()), (max, max));
}

#[test]
fn the_deepest_debt_is_paid() {
    let max = Semaphore::MAX_PERMITS;
    let limit = semaphore(max, Fairness::Strict);
    let all = limit.try_acquire(max).unwrap();
    limit.set_capacity(0).unwrap();
    assert_eq!((limit.available(), limit.debt()), (0, max));
    drop(all);
    assert_eq!((limit.available(), limit.debt()), (0, 0));
    limit.set_capacity(max).unwrap();
    assert_eq!(limit.available(), max);
}

#[test]
fn permits_that_are_added_serve_the_line() {
    for fairness in KINDS {
        let limit = semaphore(1, fairness);
        let held = take(&limit, 1);
        let mut line: VecDeque<_> = (0..3).map(|_| Waiter::new(&limit, 1)).collect();
        limit.add(2).unwrap();
        let served = settle(&mut line);
        assert_eq!((served.len(), limit.capacity(), limit.waiting()), (2, 3, 1));
        limit.add(0).unwrap();
        assert_eq!(limit.capacity(), 3);
        drop(held);
    }
}

// Permits.

#[test]
fn a_permit_splits_and_the_parts_merge() {
    let limit = semaphore(5, Fairness::Strict);
    let mut all = limit.try_acquire(5).unwrap();
    let mut two = all.split(2).unwrap();
    assert_eq!((all.count(), two.count(), limit.available()), (3, 2, 0));
    assert!(all.split(4).is_none());
    assert!(all.split(usize::MAX).is_none());
    assert_eq!(all.count(), 3, "a part that is not there takes nothing");
    two.merge(all.split(3).unwrap()).unwrap();
    assert_eq!((all.count(), two.count()), (0, 5));
    drop(all);
    assert_eq!(limit.available(), 0);
    drop(two);
    assert_eq!(limit.available(), 5);

    let mut owned = limit.try_acquire_owned(4).unwrap();
    let part = owned.split(1).unwrap();
    drop(owned.split(1).unwrap());
    owned.merge(part).unwrap();
    assert_eq!((owned.count(), limit.available()), (3, 2));
    assert!(Arc::ptr_eq(owned.semaphore(), &limit));
}

#[test]
fn strangers_do_not_merge_and_keep_their_permits() {
    let (one, other) = (semaphore(2, Fairness::Strict), semaphore(2, Fairness::Strict));
    let mut permit = one.try_acquire(1).unwrap();
    let error = permit.merge(other.try_acquire(2).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "permits not merged: they are of different semaphores");
    assert_eq!((permit.count(), error.permit.count(), other.available()), (1, 2, 0));
    drop(error);
    assert_eq!(other.available(), 2);

    let mut permit = one.try_acquire_owned(1).unwrap();
    let error = permit.merge(other.try_acquire_owned(2).unwrap()).unwrap_err();
    assert_eq!((permit.count(), error.permit.count()), (1, 2));
}

#[test]
fn what_is_forgotten_is_gone_from_the_capacity_and_those_who_wait_for_it_are_told() {
    for fairness in KINDS {
        let limit = semaphore(3, fairness);
        let mut held = take(&limit, 3);
        let mut all = pin!(limit.acquire(3));
        waits(all.as_mut());
        let mut one = Waiter::new(&limit, 1);
        held.pop().unwrap().forget();
        let told = poll_once(all).map(|result| result.map(drop));
        assert_eq!(told, Poll::Ready(Err(AcquireError::OverCapacity { wanted: 3, capacity: 2 })));
        assert!(one.poll().is_pending());
        held.pop();
        assert!(matches!(one.poll(), Poll::Ready(Ok(_))));
        drop(held);
        assert_eq!((limit.capacity(), limit.available()), (2, 2));
        limit.add(1).unwrap();
        assert_eq!((limit.capacity(), limit.available()), (3, 3));
    }
}

#[test]
fn what_is_forgotten_beyond_the_capacity_pays_the_debt() {
    let limit = semaphore(8, Fairness::Strict);
    let mut held = limit.try_acquire(8).unwrap();
    limit.set_capacity(2).unwrap();
    held.split(5).unwrap().forget();
    assert_eq!((limit.capacity(), limit.available(), limit.debt()), (0, 0, 3));
    drop(held);
    assert_eq!((limit.capacity(), limit.available(), limit.debt()), (0, 0, 0));
}

// Close.

#[test]
fn a_closed_semaphore_still_changes_its_capacity_and_serves_nobody() {
    let limit = semaphore(1, Fairness::Strict);
    let held = take(&limit, 1);
    let mut waiter = Waiter::new(&limit, 1);
    limit.close();
    limit.close();
    limit.set_capacity(4).unwrap();
    assert!(matches!(waiter.poll(), Poll::Ready(Err(AcquireError::Closed))));
    assert_eq!(limit.try_acquire(1).unwrap_err(), TryAcquireError::Closed);
    limit.set_fairness(Fairness::EVENTUAL);
    assert_eq!(limit.try_acquire(1).unwrap_err(), TryAcquireError::Closed);
    drop(held);
    assert_eq!(limit.available(), 4);
}

// Contexts.

#[test]
fn a_wait_in_a_context_ends_with_it_and_says_why() {
    for fairness in KINDS {
        let limit = semaphore(1, fairness);
        let (ctx, canceller) = Tree::background().child();
        let held = take(&limit, 1);
        let mut borrowed = pin!(limit.acquire_in(&ctx, 1));
        let mut owned = pin!(limit.acquire_owned_in(&ctx, 1));
        waits(borrowed.as_mut());
        waits(owned.as_mut());
        let behind = Waiter::new(&limit, 1);
        canceller.cancel();
        let Poll::Ready(Err(AcquireError::Ended(cause))) = poll_once(borrowed) else { panic!() };
        assert_eq!(cause.kind(), CauseKind::Cancelled);
        let Poll::Ready(Err(error)) = poll_once(owned) else { panic!() };
        assert_eq!(error, AcquireError::Ended(cause.clone()));
        assert_eq!(error.to_string(), "permit not acquired: the context ended");
        assert!(std::error::Error::source(&error).is_some());
        assert_eq!(limit.acquire_blocking_in(&ctx, 1).unwrap_err(), AcquireError::Ended(cause));
        drop(held);
        drop(behind.served());
        assert!(matches!(poll_once(pin!(limit.acquire_in(&ctx, 1))), Poll::Ready(Err(_))));
        let ctx = Tree::background();
        assert_eq!(limit.acquire_blocking_in(&ctx, 1).unwrap().count(), 1);
    }
}

#[test]
fn a_blocking_wait_in_a_context_ends_with_its_deadline() {
    watchdog(WATCHDOG, "a blocking wait", || {
        let limit = semaphore(1, Fairness::Strict);
        let held = take(&limit, 1);
        let (ctx, _canceller) = Tree::background().with_timeout(Duration::from_millis(20)).unwrap();
        let error = limit.acquire_blocking_in(&ctx, 1).unwrap_err();
        let AcquireError::Ended(cause) = error else { panic!("{error}") };
        assert_eq!(cause.kind(), CauseKind::Deadline);
        assert_eq!(limit.waiting(), 0);
        drop(held);
    });
}

// Cancel.

#[test]
fn a_million_waiters_that_leave_at_any_place_lose_no_permit_and_no_wake() {
    const CANCELS: usize = 1_000_000;
    for fairness in KINDS {
        watchdog(4 * WATCHDOG, "a million cancels", move || {
            let limit = semaphore(3, fairness);
            let mut random = fastrand::Rng::with_seed(6);
            let mut held = take(&limit, 3);
            let mut line: VecDeque<Waiter> = VecDeque::new();
            let mut cancels = 0;
            while cancels < CANCELS / KINDS.len() {
                while line.len() < 8 {
                    let mut waiter = Waiter::unpolled(&limit, 1);
                    match waiter.poll() {
                        Poll::Pending => line.push_back(waiter),
                        // It has overtaken one that was called and did not come.
                        Poll::Ready(permit) => {
                            assert_ne!(fairness, Fairness::Strict);
                            held.push(permit.unwrap());
                        }
                    }
                }
                // Somebody leaves at the head, in the middle or at the tail; perhaps one that was woken and did not look.
                if !held.is_empty() && random.bool() {
                    drop(held.swap_remove(random.usize(..held.len())));
                }
                let at = match random.u8(..3) {
                    0 => 0,
                    1 => random.usize(..line.len()),
                    _ => line.len() - 1,
                };
                drop(line.remove(at));
                cancels += 1;
                if random.bool() {
                    held.extend(settle(&mut line));
                    assert_eq!(held.len() + limit.available(), 3);
                    assert_eq!(limit.available(), 0, "somebody waits although there is a permit");
                }
            }
            drop((line, held));
            assert_eq!((limit.available(), limit.waiting()), (3, 0));
            assert!(limit.try_acquire(3).is_ok());
        });
    }
}

#[test]
fn who_wants_too_much_is_told_also_when_the_last_permit_goes_to_the_one_before() {
    let semaphore = Arc::new(Semaphore::new(4));
    let held = semaphore.try_acquire(4).unwrap();
    let (first, mut second) = (Waiter::new(&semaphore, 1), Waiter::new(&semaphore, 3));
    semaphore.set_capacity(1).unwrap();
    assert!(second.poll().is_pending(), "it is not the front");
    drop(held);
    let permit = first.served();
    match second.poll() {
        Poll::Ready(Err(error)) => {
            assert_eq!(error, AcquireError::OverCapacity { wanted: 3, capacity: 1 });
        }
        other => panic!("{other:?}"),
    }
    drop(permit);
    assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0));
}
