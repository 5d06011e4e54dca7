//! Exactness: what is admitted over two seconds at each of many rates, on a clock that is moved by hand.
#![cfg(not(selvedge_loom))]

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use selvedge_ratelimit::{Limiter, Rate, Timer};

/// Tries as much as it gets, in steps of the clock, for two seconds; gives how much it got.
fn admitted(rate: u64, burst: u32, step: Duration) -> u64 {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(Rate::per_second(rate).burst(burst), timer);
    let mut admitted = 0;
    let mut elapsed = Duration::ZERO;
    loop {
        let there = limiter.available();
        limiter.try_acquire(there).expect("it said so");
        assert!(limiter.try_acquire(1).is_err());
        admitted += u64::from(there);
        if elapsed == Duration::from_secs(2) {
            return admitted;
        }
        let by = step.min(Duration::from_secs(2) - elapsed);
        clock.advance(by);
        elapsed += by;
    }
}

#[test]
fn over_two_seconds_exactly_the_burst_and_the_rate_are_admitted() {
    for rate in [10, 1_000, 100_000, 10_000_000, 60_000_000, 700_000_000, 4_000_000_000] {
        // A burst that has room for what comes in a step, and for the part of a token that is not taken.
        for micros in [7, 100, 1_000] {
            let step = Duration::from_micros(micros);
            let burst = u32::try_from(rate * micros / 1_000_000 + 2).unwrap();
            let ideal = 2 * rate + u64::from(burst);
            assert_eq!(admitted(rate, burst, step), ideal, "{rate} a second, {burst} at once");
        }
    }
}

#[test]
fn steps_in_which_more_than_the_burst_comes_admit_the_burst_each() {
    let step = Duration::from_millis(100);
    assert_eq!(admitted(1_000, 10, step), 10 + 20 * 10);
}

#[test]
fn a_rate_that_is_no_whole_number_does_not_drift() {
    let (timer, clock) = Timer::manual();
    // One in three nanoseconds and a third.
    let limiter = Limiter::with_timer(Rate::new(3, Duration::from_nanos(10)).burst(1000), timer);
    limiter.try_acquire(1000).unwrap();
    let mut admitted = 0_u64;
    for _ in 0..100_000 {
        clock.advance(Duration::from_nanos(777));
        let there = limiter.available();
        limiter.try_acquire(there).unwrap();
        admitted += u64::from(there);
    }
    assert_eq!(admitted, 777 * 100_000 * 3 / 10);
}

/// How many one who waits for each token gets in half a second, woken as late as `grain` makes it.
fn served(rate: u64, burst: u32, grain: Duration) -> u64 {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(Rate::per_second(rate).burst(burst), timer);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut served, mut elapsed) = (0, Duration::ZERO);
    while elapsed < Duration::from_millis(500) {
        let mut acquire = pin!(limiter.acquire(1));
        while acquire.as_mut().poll(&mut cx).is_pending() {
            clock.advance(grain);
            elapsed += grain;
        }
        served += 1;
    }
    served
}

#[test]
fn who_waits_has_the_rate_whatever_the_grain_of_the_timer() {
    for rate in [10, 1_000, 10_000, 100_000] {
        for micros in [10, 300, 1_000, 1_999] {
            for burst in [1, 5] {
                let (served, ideal) =
                    (served(rate, burst, Duration::from_micros(micros)), rate / 2);
                let bound = ideal + u64::from(burst) + rate / 250 + 2;
                assert!(served >= ideal - rate / 500 - 1, "{served} of {ideal}, {micros}");
                assert!(served <= bound, "{served} of {ideal}, {micros} us");
            }
        }
    }
}

#[test]
fn in_no_span_is_more_granted_than_the_burst_and_what_comes_in_it() {
    for (rate, burst) in [(3, 1), (7, 4), (1_000_003, 9), (700_000_000, 100)] {
        let (timer, clock) = Timer::manual();
        let limiter = Limiter::with_timer(Rate::per_second(rate).burst(burst), timer);
        let (mut now, mut grants) = (0_u128, vec![]);
        // Steps of about a token's interval, and now and then a long one.
        for at in 0..2_000_u64 {
            let step =
                1 + (at * 7_919 % 997) * 1_000_000_000 / rate / 400 * (1 + at % 13 / 12 * 20);
            clock.advance(Duration::from_nanos(step));
            now += u128::from(step);
            let there = limiter.take_up_to(1 + at as u32 % 3);
            grants.push((now, u128::from(there)));
        }
        for from in (0..grants.len()).step_by(7) {
            let mut sum = 0;
            for (at, granted) in &grants[from..] {
                sum += granted;
                let span = at - grants[from].0;
                let most = u128::from(burst) * 1_000_000_000 + span * u128::from(rate);
                // In billionths of a token, with a unit for rounding.
                assert!(sum * 1_000_000_000 <= most + u128::from(rate), "{rate} {burst}: {sum}");
            }
        }
    }
}
