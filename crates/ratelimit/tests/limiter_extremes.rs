//! Rates, bursts and clocks at their ends: what comes is exact there too, and nothing hangs or panics.
#![cfg(not(selvedge_loom))]

mod support;

use std::time::Duration;

use selvedge_ratelimit::{Limiter, Quota, Rate, Timer, TryAcquireError};
use selvedge_testkit::watchdog;
use support::*;

/// The slowest and the fastest, and what lies between.
fn rates() -> Vec<Rate> {
    let nanos = Duration::from_nanos;
    vec![
        Rate::from_f64(1e-10).unwrap(),
        Rate::every(nanos(u64::MAX)),
        Rate::new(u64::MAX, nanos(u64::MAX)),
        Rate::new(u64::MAX - 1, nanos(u64::MAX)),
        Rate::new(3, nanos(u64::MAX - 2)),
        Rate::per_hour(1),
        Rate::per_second(1),
        Rate::per_second(700_000_000),
        Rate::per_second(1_000_000_001),
        Rate::from_f64(3_999_999_999.5).unwrap(),
        Rate::per_second(Rate::MAX_PER_SECOND),
        Rate::UNLIMITED,
    ]
}

fn quotas() -> impl Iterator<Item = Quota> {
    let bursts = [1, 2, 5_124_097, 1 << 31, u32::MAX];
    rates().into_iter().flat_map(move |rate| bursts.map(|burst| rate.burst(burst)))
}

#[test]
fn every_quota_admits_its_burst_at_time_zero_and_no_more() {
    for quota in quotas() {
        let (limiter, _clock) = limiter(quota);
        let burst = quota.burst_size();
        if quota.rate().is_unlimited() {
            assert_eq!((limiter.try_acquire(u32::MAX), limiter.available()), (Ok(()), u32::MAX));
            continue;
        }
        assert_eq!(limiter.available(), burst, "{quota}");
        assert_eq!(limiter.try_acquire(burst), Ok(()), "{quota}");
        assert_eq!((limiter.available(), limiter.drain()), (0, 0), "{quota}");
        assert!(matches!(limiter.try_acquire(1), Err(TryAcquireError::NotYet(_))), "{quota}");
        if burst < u32::MAX {
            let over = TryAcquireError::OverBurst { wanted: u32::MAX, burst };
            assert_eq!(limiter.try_acquire(u32::MAX), Err(over), "{quota}");
        }
    }
}

#[test]
fn every_quota_grants_what_it_says_when_it_says() {
    for quota in quotas().filter(|quota| !quota.rate().is_unlimited()) {
        for n in [1, quota.burst_size()] {
            let (limiter, clock) = spent(quota);
            let Some(wait) = limiter.try_acquire(n).unwrap_err().retry_in() else { continue };
            clock.advance(wait - NS);
            assert!(limiter.try_acquire(n).is_err(), "{quota}, {n}, {wait:?}");
            clock.advance(NS);
            assert_eq!(limiter.try_acquire(n), Ok(()), "{quota}, {n}, {wait:?}");
            // On time: never early, late by less than two nanoseconds.
            let (tokens, period) = (quota.rate().tokens(), quota.rate().period().as_nanos());
            let ideal = (u128::from(n) * period).div_ceil(u128::from(tokens));
            assert!((ideal..ideal + 2).contains(&wait.as_nanos()), "{quota}, {n}: {wait:?}");
        }
    }
}

#[test]
fn one_an_hour_with_a_large_burst_comes_each_hour() {
    let (limiter, clock) = spent(Rate::per_hour(1).burst(5_124_097));
    for _ in 0..100 {
        clock.advance(HOUR - NS);
        assert_eq!(limiter.available(), 0);
        clock.advance(NS);
        assert_eq!(limiter.drain(), 1);
    }
    clock.advance(1_000 * HOUR);
    assert_eq!(limiter.drain(), 1_000);
}

#[test]
fn a_clock_that_stands_still_admits_the_burst_and_nothing_more() {
    for quota in quotas().filter(|quota| quota.burst_size() == 1 && !quota.rate().is_unlimited()) {
        let (limiter, _clock) = limiter(quota);
        assert_eq!((singles(&limiter), limiter.drain()), (1, 0));
        let waits = queued(&limiter, 1);
        drop(waits);
    }
}

#[test]
fn a_clock_that_leaps_forward_admits_the_burst_and_blocks_nobody_for_more_than_an_interval() {
    for leap in [HOUR, YEAR, 72 * YEAR, 74 * YEAR, 150 * YEAR, 500 * YEAR] {
        for rate in [1, 1_000, 4_000_000_000] {
            let (limiter, clock) = spent(Rate::per_second(rate).burst(7));
            clock.advance(leap);
            assert_eq!(limiter.available(), 7, "{leap:?}");
            assert_eq!(singles(&limiter), 7, "{leap:?}");
            let wait = limiter.ready_in(1).unwrap();
            assert!(wait <= SEC / u32::try_from(rate.min(1_000_000_000)).unwrap() + NS, "{wait:?}");
            let mut waits = queued(&limiter, 7);
            clock.advance(8 * SEC);
            assert!(served(&mut waits), "{leap:?}");
        }
    }
}

#[test]
fn a_process_that_was_suspended_for_an_hour_does_not_make_up_for_it() {
    let (limiter, clock) = spent(Rate::per_second(1_000).burst(5));
    let mut line: Vec<_> = (0..100).map(|_| queued(&limiter, 1)).collect();
    // Nobody ran meanwhile, the timer neither.
    clock.advance_silently(HOUR);
    assert!(limiter.try_acquire(1).is_err(), "not before those in line");
    clock.advance(ZERO);
    assert_eq!(serve(&mut line), 5 + 2);
    clock.advance(MS);
    assert_eq!(serve(&mut line), 1);
    drop(line);
    assert_eq!(clock.registered(), 0);
}

#[test]
fn waiters_are_served_through_the_centuries() {
    watchdog(LIMIT, "centuries", || {
        let (limiter, clock) = spent(Rate::every(YEAR).burst(3));
        for _ in 0..500 {
            let mut waits = queued(&limiter, 1);
            served_after(&clock, YEAR, &mut waits);
        }
        assert_eq!((limiter.available(), clock.registered()), (0, 0));
    });
}

#[test]
fn the_fastest_rate_goes_on_for_centuries() {
    watchdog(LIMIT, "centuries", || {
        let (limiter, clock) = spent(Rate::per_second(Rate::MAX_PER_SECOND).burst(1_000));
        for _ in 0..5_000 {
            clock.advance(YEAR / 10);
            assert_eq!(limiter.drain(), 1_000);
            clock.advance(100 * NS);
            assert_eq!(limiter.drain(), 400);
        }
    });
}

#[test]
fn a_token_in_five_hundred_years_is_waited_for() {
    let (limiter, clock) = spent(Rate::every(500 * YEAR).burst(1));
    let mut acquire = queued(&limiter, 1);
    for _ in 0..499 {
        clock.advance(YEAR);
        assert!(!served(&mut acquire));
    }
    clock.advance(YEAR);
    // A bend of the course every 73 years, each of which may lose a part of a nanosecond.
    clock.advance(8 * NS);
    assert!(served(&mut acquire));
    // The count ends after 584 years: what would come later never does, and hangs nothing but its wait.
    let mut never = queued(&limiter, 1);
    assert_eq!(limiter.ready_in(1), None);
    clock.advance(10_000 * YEAR);
    assert!(!served(&mut never));
    let refused = limiter.try_acquire(1).unwrap_err();
    assert_eq!(refused.retry_in(), None);
    assert_eq!(refused.to_string(), "tokens not acquired: they do not come");
}

#[test]
fn at_the_end_of_the_count_nothing_comes_and_nobody_hangs() {
    watchdog(LIMIT, "the end of the count", || {
        let (limiter, clock) = spent(Rate::per_second(4_000_000_000).burst(2));
        clock.advance(600 * YEAR);
        assert_eq!(singles(&limiter), 2);
        let mut waits = queued(&limiter, 1);
        assert_eq!(clock.registered(), 0, "it will never ring");
        clock.advance(SEC);
        assert!(!served(&mut waits));
        limiter.set_rate(Rate::per_second(1));
        limiter.charge(1);
        limiter.set_rate(Rate::UNLIMITED);
        assert!(served(&mut waits));
    });
}

/// A token of an hour counts more nanoseconds than one of a millisecond does.
#[test]
fn after_a_change_from_slow_to_fast_waiters_are_served_for_years() {
    for (slow, fast) in [(Rate::per_hour(1), 1_000), (Rate::every(YEAR), 4_000_000_000)] {
        let (limiter, clock) = spent(slow.burst(1));
        limiter.set_quota(Rate::per_second(fast).burst(5));
        for step in [HOUR, HOUR, 1_000 * HOUR, YEAR, 10 * YEAR, 60 * YEAR] {
            clock.advance(step);
            limiter.drain();
            let granted = queued(&limiter, 5);
            clock.advance(stands(&granted).unwrap().1.unwrap());
            drop(granted);
            assert_eq!(limiter.drain(), 5, "{slow} to {fast}, {step:?}");
            limiter.set_burst(6);
            limiter.set_burst(5);
        }
    }
}

/// A grant that is given back when the bucket has been full for a long time brings nothing.
#[test]
fn what_comes_back_after_years_brings_nothing() {
    for late in [HOUR, 2 * HOUR, 1_000 * HOUR, YEAR, 80 * YEAR, 300 * YEAR] {
        for (slow, fast) in [(Rate::per_hour(1), 1_000), (Rate::every(YEAR), 4_000_000_000)] {
            let (limiter, clock) = spent(slow.burst(1));
            limiter.set_quota(Rate::per_second(fast).burst(5));
            let reserved = limiter.reserve(3).unwrap();
            clock.advance(SEC);
            limiter.drain();
            clock.advance(late);
            assert_eq!(
                (limiter.drain(), reserved.cancel(), limiter.drain()),
                (5, 0, 0),
                "{late:?}"
            );
        }
    }
}

#[test]
fn changes_between_the_extremes_keep_what_is_missing() {
    watchdog(LIMIT, "extreme changes", || {
        let quotas: Vec<_> = quotas().filter(|quota| !quota.rate().is_unlimited()).collect();
        for from in &quotas {
            for to in &quotas {
                let (limiter, clock) = limiter(*from);
                limiter.try_acquire(1).unwrap();
                limiter.set_quota(*to);
                assert_eq!(limiter.available(), to.burst_size() - 1, "{from} to {to}");
                limiter.set_quota(*from);
                assert_eq!(limiter.available(), from.burst_size() - 1, "{from} to {to}");
                limiter.drain();
                limiter.set_quota(*to);
                let there = to.burst_size().saturating_sub(from.burst_size());
                assert_eq!(limiter.available(), there, "{from} to {to}");
                clock.advance(YEAR);
                limiter.set_quota(*from);
                assert!(limiter.available() <= from.burst_size());
            }
        }
    });
}

/// One unit of such a quota takes almost half a millisecond to come.
#[test]
fn changes_that_come_faster_than_a_unit_does_are_never_early() {
    let (limiter, clock) = spent(Rate::per_hour(1).burst(u32::MAX));
    for at in 0..=10_000 {
        clock.advance(SEC);
        limiter.set_burst(u32::MAX - at % 2);
    }
    // Late by a unit a change, at most: four seconds.
    assert_eq!(limiter.available(), 2);
    clock.advance(803 * SEC);
    assert_eq!(limiter.available(), 3);
}

#[test]
fn a_strict_tick_of_the_highest_rate_is_one() {
    let limiter = Limiter::strict(Rate::per_second(Rate::MAX_PER_SECOND));
    let tries = (0..1_000).filter(|_| limiter.try_acquire(1).is_ok()).count();
    assert!(tries > 0);
    assert_eq!(Limiter::strict(Rate::UNLIMITED).try_acquire(u32::MAX), Ok(()));
}

#[test]
fn settings_at_their_ends_make_a_limiter() {
    for span in [Duration::ZERO, NS, MS, 700 * YEAR, Duration::MAX] {
        let (timer, clock) = Timer::manual();
        let builder = Limiter::builder(Rate::per_second(1_000).burst(2)).timer(timer);
        let limiter = builder.catch_up(span).jitter(span).max_waiting(1).build();
        assert_eq!(singles(&limiter), 2);
        let mut waits = queued(&limiter, 1);
        clock.advance(HOUR);
        clock.advance(500 * YEAR);
        if span <= MS {
            assert!(served(&mut waits));
        }
        drop(waits);
        assert!(limiter.try_acquire(2).is_ok());
    }
}
