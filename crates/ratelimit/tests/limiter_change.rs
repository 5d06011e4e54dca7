//! A quota that changes: idle, under load, and while others wait.
#![cfg(not(selvedge_loom))]

mod support;

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use selvedge_ratelimit::{AcquireError, Limiter, Rate};
use selvedge_testkit::watchdog;
use support::*;

#[test]
fn what_has_come_until_a_change_came_at_the_old_rate() {
    let (limiter, clock) = spent(Rate::per_second(10).burst(100));
    clock.advance(SEC + 50 * MS);
    limiter.set_rate(Rate::per_second(1));
    assert_eq!((limiter.quota().rate(), limiter.quota().burst_size()), (Rate::per_second(1), 100));
    // Ten and a half; the other half at the new rate.
    assert_eq!((limiter.available(), limiter.ready_in(11)), (10, Some(500 * MS)));
    clock.advance(500 * MS);
    limiter.set_rate(Rate::per_second(1_000));
    assert_eq!(limiter.available(), 11);
    clock.advance(5 * MS);
    assert_eq!(limiter.drain(), 16);
}

#[test]
fn a_larger_burst_is_there_at_once_and_a_smaller_one_leaves_what_is_missing() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(10));
    clock.advance(4 * SEC);
    limiter.set_burst(15);
    assert_eq!(limiter.available(), 9);
    limiter.set_burst(10);
    assert_eq!(limiter.available(), 4);
    limiter.set_burst(3);
    assert_eq!((limiter.available(), limiter.ready_in(1)), (0, Some(4 * SEC)));
    assert_eq!(limiter.ready_in(3), Some(6 * SEC));
    clock.advance(HOUR);
    assert_eq!(limiter.drain(), 3);
}

#[test]
fn a_full_bucket_stays_full() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(10));
    for burst in [3, 20, 1, u32::MAX, 10] {
        limiter.set_burst(burst);
        assert_eq!(limiter.available(), burst);
        limiter.set_rate(Rate::per_second(u64::from(burst.min(1_000_000))));
        assert_eq!(limiter.available(), burst);
        clock.advance(HOUR);
        assert_eq!(limiter.available(), burst);
    }
}

#[test]
fn a_thousand_changes_lose_and_make_nothing() {
    let (limiter, clock) = spent(Rate::per_second(8).burst(u32::MAX));
    for at in 0..1_000_u64 {
        clock.advance(125 * MS);
        // Rates that count in different units.
        limiter.set_rate(Rate::new(8 * (1 + at % 7), (1 + at as u32 % 7) * SEC));
    }
    assert_eq!(limiter.available(), 1_000);
    for at in 0..1_000_u64 {
        clock.advance(125 * MS);
        limiter.set_rate(Rate::new(8 + at % 2, SEC));
    }
    let got = limiter.available();
    assert!((2_061..=2_063).contains(&got), "{got}");
}

#[test]
fn a_change_while_the_limiter_is_unused_is_a_change() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(2));
    limiter.set_quota(Rate::per_minute(1).burst(4));
    assert_eq!((limiter.drain(), limiter.ready_in(1)), (4, Some(60 * SEC)));
    clock.advance(60 * SEC);
    assert_eq!(limiter.drain(), 1);
}

#[test]
fn a_faster_rate_serves_those_who_wait_at_once() {
    let (limiter, clock) = spent(Rate::every(HOUR).burst(5));
    let mut line: Vec<_> = (0..4).map(|_| queued(&limiter, 1)).collect();
    clock.advance(SEC);
    limiter.set_rate(Rate::per_second(1));
    assert_eq!(serve(&mut line), 0, "one second came at the old rate");
    clock.advance(SEC);
    assert_eq!(serve(&mut line), 1);
    limiter.set_rate(Rate::per_second(2));
    clock.advance(500 * MS);
    assert_eq!(serve(&mut line), 1, "its alarm was set anew");
    // What is missing from a full bucket stays: a burst that is larger by one is one more at once.
    limiter.set_burst(6);
    assert_eq!(serve(&mut line), 1);
    limiter.set_quota(Rate::UNLIMITED.burst(1));
    assert_eq!(serve(&mut line), 1);
    assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
}

#[test]
fn a_slower_rate_serves_those_who_wait_later() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut waits = queued(&limiter, 2);
    clock.advance(SEC);
    limiter.set_rate(Rate::every(10 * SEC));
    assert_eq!(stands(&waits), Some((0, Some(10 * SEC))));
    served_after(&clock, 10 * SEC, &mut waits);
    assert_eq!((limiter.available(), clock.registered()), (0, 0));
}

#[test]
fn a_burst_below_what_somebody_waits_for_is_told_and_those_behind_move_up() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut large = queued(&limiter, 4);
    let mut small = queued(&limiter, 1);
    let mut late = queued(&limiter, 3);
    limiter.set_burst(2);
    let over = |wanted| Poll::Ready(Err(AcquireError::OverBurst { wanted, burst: 2 }));
    assert_eq!(poll(large.as_mut()), over(4));
    // Five are missing from a burst of two.
    assert_eq!(stands(&small), Some((0, Some(4 * SEC))));
    served_after(&clock, 4 * SEC, &mut small);
    assert_eq!(poll(late.as_mut()), over(3), "told at the latest when it is at the front");
    assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
}

#[test]
fn unlimited_and_back() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(2));
    let mut line: Vec<_> = (0..100).map(|_| queued(&limiter, 2)).collect();
    limiter.set_rate(Rate::UNLIMITED);
    assert_eq!(serve(&mut line), 100);
    assert_eq!((limiter.available(), limiter.ready_in(u32::MAX)), (u32::MAX, Some(ZERO)));
    limiter.try_acquire(u32::MAX).unwrap();
    assert_eq!(limiter.drain(), u32::MAX);
    let reserved = limiter.reserve(u32::MAX).unwrap();
    limiter.set_rate(Rate::per_second(1));
    // A bucket without a limit is full.
    assert_eq!(limiter.available(), 2);
    reserved.cancel();
    assert_eq!((limiter.available(), limiter.drain()), (2, 2));
    clock.advance(SEC);
    assert_eq!(limiter.drain(), 1);
}

#[test]
fn a_limiter_that_begins_without_a_limit_is_given_one() {
    let (limiter, clock) = limiter(Rate::UNLIMITED.burst(3));
    (0..100).for_each(|_| limiter.try_acquire(7).unwrap());
    limiter.set_rate(Rate::per_second(1));
    assert_eq!(limiter.drain(), 3);
    let granted = queued(&limiter, 1);
    clock.advance(SEC);
    drop(granted);
    assert_eq!(limiter.drain(), 1);
}

#[test]
fn a_burst_of_nothing_panics_and_changes_nothing() {
    let (limiter, _clock) = spent(Rate::per_second(1).burst(2));
    let limiter = std::panic::AssertUnwindSafe(limiter);
    assert!(catch_unwind(|| limiter.set_burst(0)).is_err());
    assert_eq!((limiter.quota().burst_size(), limiter.ready_in(1)), (2, Some(SEC)));
}

#[test]
fn a_changed_burst_of_a_strict_tick_is_as_large_as_it_says() {
    let limiter = Limiter::strict(Rate::every(HOUR));
    assert_eq!((limiter.drain(), limiter.quota().burst_size()), (1, 1));
    limiter.set_burst(3);
    assert_eq!(limiter.drain(), 2);
}

/// Threads that take as much as they get, while the quota changes a hundred thousand times and the clock goes on.
#[test]
fn a_hundred_thousand_changes_under_traffic_keep_the_bound() {
    watchdog(LIMIT, "changes under traffic", || {
        // Between one and two a microsecond, and a burst between ten and twenty.
        const CHANGES: u64 = 100_000;
        let (limiter, clock) = spent(Rate::per_second(1_000_000).burst(20));
        let (taken, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let takers = [1, 3].map(|n| {
            let (limiter, taken, done) = (limiter.clone(), Arc::clone(&taken), Arc::clone(&done));
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    if limiter.try_acquire(n).is_ok() {
                        taken.fetch_add(u64::from(n), Ordering::Relaxed);
                    }
                }
            })
        });
        let (mut minted, mut faster) = (0, false);
        for at in 0..CHANGES {
            clock.advance(500 * NS);
            minted += if faster { 2 } else { 1 };
            faster = at % 3 == 0;
            let rate = if faster { 2_000_000 } else { 1_000_000 };
            // A burst that goes down and up again leaves what is missing as it is.
            limiter.set_quota(Rate::per_second(rate).burst(10 + at as u32 % 11));
        }
        done.store(true, Ordering::Relaxed);
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        let taken = taken.load(Ordering::Relaxed);
        // Counted in halves of a token.
        assert!(taken <= minted / 2 + 20, "{taken} of {}", minted / 2);
        limiter.set_quota(Rate::every(HOUR).burst(20));
        assert!(u64::from(limiter.available()) + taken <= minted / 2 + 20);
        clock.advance(100 * HOUR);
        assert_eq!(limiter.drain(), 20);
    });
}
