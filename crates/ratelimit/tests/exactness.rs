//! Exactness: what is admitted over two seconds at each of many rates, on a clock that is moved by hand.
#![cfg(not(selvedge_loom))]

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
        // A step in which no more than the burst comes.
        for micros in [7, 100, 1_000] {
            let step = Duration::from_micros(micros);
            let burst = u32::try_from(rate * micros / 1_000_000 + 1).unwrap();
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
