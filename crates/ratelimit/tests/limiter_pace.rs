//! Jitter and warming up.
#![cfg(not(selvedge_loom))]

mod support;

use std::time::Duration;

use selvedge_ratelimit::{Limiter, LimiterBuilder, ManualClock, Quota, Rate, Timer};
use selvedge_testkit::watchdog;
use support::*;

fn built(
    quota: Quota,
    with: impl FnOnce(LimiterBuilder) -> LimiterBuilder,
) -> (Limiter, ManualClock) {
    let (timer, clock) = Timer::manual();
    (with(Limiter::builder(quota).timer(timer)).build(), clock)
}

// Jitter.

#[test]
fn jitter_rings_late_by_no_more_than_that_and_loses_nothing() {
    let mut late = Vec::new();
    for _ in 0..50 {
        let (limiter, clock) = built(Rate::per_second(1).burst(1), |it| it.jitter(200 * MS));
        limiter.try_acquire(1).unwrap();
        let mut line: Vec<_> = (0..3).map(|_| queued(&limiter, 1)).collect();
        let mut elapsed = ZERO;
        while !line.is_empty() {
            clock.advance(MS);
            elapsed += MS;
            let granted: Vec<_> = line.iter().map(|one| stands(one).is_none()).collect();
            assert!(granted.is_sorted_by(|before, after| before >= after), "{granted:?}");
            if serve(&mut line) == 1 {
                let at = 3 - line.len() as u32;
                assert!((at * SEC..=at * SEC + 201 * MS).contains(&elapsed), "{at}: {elapsed:?}");
                late.push(elapsed - at * SEC);
            }
        }
        // None is lost by it: the fourth came at four seconds.
        assert_eq!(limiter.ready_in(1), Some(4 * SEC - elapsed));
        assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
    }
    let spread = *late.iter().max().unwrap() - *late.iter().min().unwrap();
    assert!(spread > 50 * MS, "at random: {spread:?}");
}

#[test]
fn what_came_while_it_rang_late_is_granted_with_the_rest() {
    let (limiter, clock) = built(Rate::per_second(1_000).burst(1), |it| it.jitter(100 * MS));
    limiter.try_acquire(1).unwrap();
    let mut line: Vec<_> = (0..1_000).map(|_| queued(&limiter, 1)).collect();
    let mut served = 0;
    for elapsed in 1..=1_000 {
        clock.advance(MS);
        served += serve(&mut line);
        assert!((elapsed - 101..=elapsed).contains(&(served as i32)), "{served} at {elapsed}");
    }
    assert!(served >= 899, "{served}");
}

#[test]
fn who_finds_tokens_does_not_wait_for_the_jitter() {
    let (limiter, _clock) = built(Rate::per_second(1).burst(5), |it| it.jitter(Duration::MAX));
    assert_eq!(singles(&limiter), 5);
    // One that never rings is a wait without an end, and not a panic.
    let waits = queued(&limiter, 1);
    assert_eq!(limiter.waiting(), 1);
    drop(waits);
}

// Warming up.

/// Takes all that is there each 10 ms; how many that is, for each of the seconds.
fn taken(limiter: &Limiter, clock: &ManualClock, seconds: usize) -> Vec<u32> {
    let second = |_| {
        let step = |_| {
            clock.advance(10 * MS);
            limiter.drain()
        };
        (0..100).map(step).sum()
    };
    (0..seconds).map(second).collect()
}

#[test]
fn the_rate_goes_up_from_a_third_to_the_whole() {
    let (limiter, clock) = built(Rate::per_second(3_200).burst(100), |it| it.warm_up(4 * SEC));
    limiter.drain();
    let taken = taken(&limiter, &clock, 6);
    // A straight line from a third: of the first second, 1/3 + 1/12; of the second, 1/3 + 3/12, and so on.
    for (got, ideal) in taken.iter().zip([1_333, 1_867, 2_400, 2_933, 3_200, 3_200]) {
        assert!((ideal - 70..=ideal + 1).contains(got), "{taken:?}");
    }
    let (total, ideal) = (taken[..4].iter().sum::<u32>(), 4 * 3_200 * 2 / 3);
    assert!(total <= ideal && total >= ideal - 140, "{total}");
}

#[test]
fn it_begins_with_the_first_that_is_taken() {
    let (limiter, clock) = built(Rate::per_second(3_000).burst(100), |it| it.warm_up(4 * SEC));
    // An hour in which nobody asks, or only looks.
    clock.advance(HOUR);
    assert_eq!((limiter.available(), limiter.ready_in(100)), (100, Some(ZERO)));
    assert!(format!("{limiter:?}").contains("100 tokens"));
    limiter.drain();
    let wait = limiter.ready_in(1).unwrap();
    assert!(wait >= MS && wait < MS + 10 * NS, "a third of the rate: {wait:?}");
}

#[test]
fn it_is_cold_again_when_nobody_has_taken_anything_for_as_long() {
    let (limiter, clock) = built(Rate::per_second(3_000).burst(100), |it| it.warm_up(4 * SEC));
    let first_wait = || {
        limiter.drain();
        limiter.ready_in(1).unwrap()
    };
    first_wait();
    taken(&limiter, &clock, 5);
    assert!(first_wait() < 400_000 * NS, "warm");
    // Not for as long: full after a thirtieth of a second, and idle for less than four.
    clock.advance(3 * SEC);
    assert!(first_wait() < 400_000 * NS, "still warm");
    clock.advance(9 * SEC);
    assert!(first_wait() > 990_000 * NS, "cold again");
    let again = taken(&limiter, &clock, 1)[0];
    assert!((1_150..=1_251).contains(&again), "{again}");
}

#[test]
fn waiters_are_served_through_the_ramp() {
    let (limiter, clock) = built(Rate::per_second(320).burst(1), |it| it.warm_up(2 * SEC));
    limiter.try_acquire(1).unwrap();
    let mut line: Vec<_> = (0..1_000).map(|_| queued(&limiter, 1)).collect();
    let mut by_second = Vec::new();
    for _ in 0..3 {
        let mut served = 0;
        for _ in 0..1_000 {
            clock.advance(MS);
            served += serve(&mut line);
        }
        by_second.push(served);
    }
    // (1/3 + 1/6) and (2/3 + 1/6) of it, and the whole.
    for (got, ideal) in by_second.iter().zip([160, 266, 320]) {
        assert!((ideal - 8..=ideal + 2).contains(got), "{by_second:?}");
    }
}

#[test]
fn the_rate_that_is_told_is_that_of_the_step() {
    let (limiter, clock) = built(Rate::per_second(3).burst(1), |it| it.warm_up(3_200 * SEC));
    limiter.try_acquire(1).unwrap();
    let refused = limiter.try_acquire(1).unwrap_err().retry_in().unwrap();
    assert!(refused >= SEC && refused <= SEC + 10 * NS, "{refused:?}");
    clock.advance(refused);
    assert_eq!(limiter.try_acquire(1), Ok(()));
}

#[test]
fn one_that_is_left_alone_while_it_warms_up_goes_on_as_if_it_were_looked_at() {
    // The burst takes longer to come than a step lasts.
    for millis in (50..8_000).step_by(50) {
        let emptied = || {
            let (limiter, clock) = built(Rate::per_second(100).burst(100), |it| it.warm_up(SEC));
            limiter.try_acquire(100).unwrap();
            (limiter, clock)
        };
        let (alone, clock) = emptied();
        clock.advance(millis * MS);
        let (looked_at, clock) = emptied();
        for _ in 0..millis {
            clock.advance(MS);
            looked_at.available();
        }
        assert_eq!(alone.available(), looked_at.available(), "{millis}");
        assert!(millis < 2_000 || alone.available() == 100, "{millis}");
    }
}

#[test]
fn a_change_while_it_warms_up_keeps_how_warm_it_is() {
    let (limiter, clock) = built(Rate::per_second(3_200).burst(100), |it| it.warm_up(3_200 * MS));
    limiter.drain();
    clock.advance(1_600 * MS);
    limiter.drain();
    limiter.set_rate(Rate::per_second(32));
    limiter.set_rate(Rate::per_second(3_200));
    clock.advance(10 * MS);
    let got = limiter.drain();
    assert!((20..=22).contains(&got), "two thirds: {got}");
}

#[test]
fn changes_that_never_end_do_not_keep_it_cold() {
    let (limiter, clock) = built(Rate::per_second(3_200).burst(100), |it| it.warm_up(3_200 * MS));
    limiter.drain();
    for _ in 0..400 {
        // More often than it takes a step.
        clock.advance(10 * MS);
        limiter.set_rate(Rate::per_second(3_200));
        limiter.drain();
    }
    clock.advance(10 * MS);
    let got = limiter.drain();
    assert!((31..=33).contains(&got), "warm after four seconds: {got}");
}

#[test]
fn a_ramp_that_is_short_or_long_hangs_nobody() {
    watchdog(LIMIT, "a short ramp", || {
        for span in [NS, 31 * NS, MS, 100 * YEAR, Duration::MAX] {
            for rate in [Rate::every(HOUR), Rate::per_second(1_000_000_000), Rate::UNLIMITED] {
                let (limiter, clock) = built(rate.burst(2), |it| it.warm_up(span));
                let mut taken = limiter.drain();
                clock.advance(HOUR);
                taken = taken.saturating_add(limiter.drain());
                // Somebody who waits, and an alarm for it.
                let mut waits = Box::pin(limiter.acquire(2));
                let _ = poll(waits.as_mut());
                (0..10).for_each(|_| clock.advance(HOUR));
                taken = taken.saturating_add(limiter.take_up_to(1));
                clock.advance(100 * YEAR);
                assert!(taken >= 2, "{rate} {span:?}: {taken}");
            }
        }
    });
}

/// On std's clock an alarm at each end of a ramp that is over at once would keep a thread busy for good.
#[test]
fn a_short_ramp_does_not_ring_all_the_time() {
    watchdog(LIMIT, "an alarm for a short ramp", || {
        let limiter = Limiter::builder(Rate::every(HOUR).burst(1)).warm_up(NS).build();
        limiter.try_acquire(1).unwrap();
        let waits = queued(&limiter, 1);
        assert!((0..1_000).all(|_| limiter.try_acquire(1).is_err()));
        assert_eq!(limiter.waiting(), 1);
        drop(waits);
    });
}

#[test]
fn without_a_limit_there_is_no_ramp() {
    let (limiter, clock) = built(Rate::UNLIMITED.burst(1), |it| it.warm_up(SEC).jitter(SEC));
    assert_eq!(limiter.try_acquire(u32::MAX), Ok(()));
    clock.advance(HOUR);
    assert_eq!(limiter.try_acquire(u32::MAX), Ok(()));
}
