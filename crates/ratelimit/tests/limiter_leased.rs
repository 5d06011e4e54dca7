//! Leased mode: threads take from batches of their own, and it is the same limiter: no more is admitted, no less, and nobody is
//! overtaken.
#![cfg(not(selvedge_loom))]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use selvedge_ratelimit::{Limiter, ManualClock, Quota, Rate, Timer, TryAcquireError};
use selvedge_testkit::watchdog;
use support::*;

fn leased(quota: Quota) -> (Limiter, ManualClock) {
    let (timer, clock) = Timer::manual();
    (Limiter::builder(quota).timer(timer).leased().build(), clock)
}

#[test]
fn what_lies_in_a_batch_is_there_and_is_taken_to_the_last() {
    for burst in [1, 5, 100, 10_000, 1_000_000] {
        let (limiter, clock) = leased(Rate::per_second(1_000).burst(burst));
        for taken in 0..burst.min(10_000) {
            assert_eq!(limiter.available(), burst - taken, "{burst}");
            assert_eq!(limiter.try_acquire(1), Ok(()), "{burst}");
        }
        if burst <= 10_000 {
            assert_eq!(limiter.try_acquire(1).unwrap_err().retry_in(), Some(MS));
            clock.advance(MS);
            assert_eq!((singles(&limiter), limiter.available()), (1, 0));
        }
    }
}

#[test]
fn what_one_thread_does_not_use_another_has() {
    let (limiter, _clock) = leased(Rate::per_second(1).burst(1_000));
    limiter.try_acquire(1).unwrap();
    // Most of it in a batch of this thread.
    let limit = limiter.clone();
    let other = std::thread::spawn(move || (limit.try_acquire(900), singles(&limit)));
    assert_eq!(other.join().unwrap(), (Ok(()), 99));
    assert!(limiter.try_acquire(1).is_err());
}

#[test]
fn all_operations_see_what_lies_in_batches() {
    let full = || {
        let (limiter, clock) = leased(Rate::per_second(1).burst(1_000));
        limiter.try_acquire(1).unwrap();
        (limiter, clock)
    };
    assert_eq!(full().0.drain(), 999);
    assert_eq!(full().0.take_up_to(997), 997);
    assert_eq!(full().0.reserve(999).unwrap().due_in(), Some(ZERO));
    assert_eq!(full().0.ready_in(999), Some(ZERO));
    assert!(full().0.try_acquire(999).is_ok());
    assert!(format!("{:?}", full().0).contains("999 tokens"));
    let (limiter, _clock) = full();
    limiter.charge(999);
    assert_eq!((limiter.available(), limiter.ready_in(1)), (0, Some(SEC)));
    let (limiter, clock) = full();
    let mut waits = queued(&limiter, 1_000);
    served_after(&clock, SEC, &mut waits);
}

#[test]
fn while_somebody_waits_there_are_no_batches() {
    let (limiter, clock) = leased(Rate::per_second(1).burst(1_000));
    limiter.try_acquire(1).unwrap();
    let mut waits = queued(&limiter, 1_000);
    assert!(limiter.try_acquire(1).is_err(), "nobody is overtaken");
    assert_eq!((limiter.available(), limiter.drain()), (999, 0));
    clock.advance(SEC);
    assert!(served(&mut waits));
    assert_eq!(limiter.available(), 0);
}

#[test]
fn a_change_finds_what_lies_in_batches() {
    let (limiter, _clock) = leased(Rate::per_second(1).burst(1_000));
    limiter.try_acquire(1).unwrap();
    limiter.set_burst(10);
    assert_eq!((limiter.available(), singles(&limiter)), (9, 9));
    limiter.set_quota(Rate::UNLIMITED.burst(1));
    assert_eq!(limiter.try_acquire(u32::MAX), Ok(()));
    limiter.set_quota(Rate::per_second(1).burst(100));
    assert_eq!(singles(&limiter), 100);
}

#[test]
fn a_closed_one_gives_nothing_of_a_batch() {
    let (limiter, _clock) = leased(Rate::per_second(1).burst(1_000));
    limiter.try_acquire(1).unwrap();
    limiter.close();
    assert_eq!(limiter.try_acquire(1), Err(TryAcquireError::Closed));
    assert_eq!(limiter.drain(), 0);
}

/// When it was used is not known, so it counts as if that had been at the last moment.
#[test]
fn what_was_used_of_a_batch_leaves_room_for_as_much_to_come() {
    let (limiter, clock) = leased(Rate::per_second(1).burst(1_000));
    limiter.try_acquire(1).unwrap();
    clock.advance(HOUR);
    assert_eq!(singles(&limiter), 1_000);
    // A refusal knows when to come again also then.
    clock.advance(HOUR);
    limiter.try_acquire(1).unwrap();
    limiter.try_acquire(100).unwrap();
    clock.advance(HOUR);
    if let Err(refused) = limiter.try_acquire(1_000) {
        let wait = refused.retry_in().unwrap();
        assert!(wait > ZERO && wait <= 250 * SEC, "{wait:?}");
        clock.advance(wait);
        assert_eq!(limiter.try_acquire(1_000), Ok(()));
    }
    clock.advance(1_000 * SEC);
    assert_eq!(limiter.drain(), 1_000);
}

/// What lay in a batch for an hour is not beside a full bucket.
#[test]
fn a_batch_that_was_kept_for_an_hour_is_within_the_burst() {
    let (limiter, clock) = leased(Rate::per_second(1).burst(1_000));
    limiter.try_acquire(1).unwrap();
    clock.advance(HOUR);
    let limit = limiter.clone();
    let other = std::thread::spawn(move || singles(&limit)).join().unwrap();
    assert_eq!(other + singles(&limiter), 1_000);
}

#[test]
fn threads_that_take_all_they_get_get_exactly_what_came() {
    watchdog(LIMIT, "leases", || {
        let (limiter, clock) = leased(Rate::per_second(1_000_000).burst(4_000));
        let (taken, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let takers = [1, 2, 7].map(|n| {
            let (limiter, taken, done) = (limiter.clone(), Arc::clone(&taken), Arc::clone(&done));
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    if limiter.try_acquire(n).is_ok() {
                        taken.fetch_add(n.into(), Ordering::Relaxed);
                    }
                }
            })
        });
        let mut minted = 4_000;
        for _ in 0..20_000 {
            // Not so fast that the bucket is full and something is lost.
            while limiter.available() > 2_000 {
                std::thread::yield_now();
            }
            clock.advance(10_000 * NS);
            minted += 10;
        }
        done.store(true, Ordering::Relaxed);
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        let there = u64::from(limiter.available());
        assert_eq!(taken.load(Ordering::Relaxed) + there, minted);
        assert_eq!(u64::from(limiter.drain()), there);
    });
}
