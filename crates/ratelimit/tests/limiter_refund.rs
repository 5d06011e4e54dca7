//! What was granted and not used: it goes to the next, as far as it is within the quota by then; and timers that ring late lose
//! nothing within the catch-up.
#![cfg(not(selvedge_loom))]

mod support;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use selvedge_ratelimit::{Limiter, ManualClock, Rate, Timer};
use selvedge_testkit::{PanickingWaker, ReentrantWaker};
use support::*;

#[test]
fn what_was_granted_to_a_future_that_is_dropped_goes_to_the_next() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let granted = queued(&limiter, 1);
    let mut next = queued(&limiter, 1);
    clock.advance(SEC);
    drop(granted);
    assert!(served(&mut next));
    assert_eq!(clock.registered(), 0);
    // With nobody behind it, it is there for the taking.
    let granted = queued(&limiter, 1);
    clock.advance(SEC);
    drop(granted);
    assert_eq!(singles(&limiter), 1);
}

#[test]
fn what_comes_back_late_brings_no_more_than_the_burst() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(3));
    let granted = [queued(&limiter, 1), queued(&limiter, 1)];
    clock.advance(2 * SEC);
    // Long enough for the bucket to be full, had they never been granted.
    clock.advance(SEC);
    limiter.try_acquire(1).unwrap();
    drop(granted);
    assert_eq!(singles(&limiter), 2, "three at this moment, with the one that was taken");

    // One of five that come back late is still above what has come.
    let (limiter, clock) = spent(Rate::every(SEC).burst(5));
    let granted = queued(&limiter, 5);
    clock.advance(5 * SEC);
    clock.advance(4 * SEC + 2 * MS);
    assert_eq!(singles(&limiter), 4);
    drop(granted);
    assert_eq!(singles(&limiter), 1);
}

#[test]
fn what_several_give_back_comes_back_from_the_first_on_and_from_the_last_on() {
    for newest_first in [false, true] {
        let (limiter, clock) = spent(Rate::every(SEC).burst(4));
        let mut granted: Vec<_> = (0..4).map(|_| queued(&limiter, 1)).collect();
        clock.advance(4 * SEC);
        if newest_first {
            granted.reverse();
        }
        granted.into_iter().for_each(drop);
        assert_eq!(singles(&limiter), 4, "newest first: {newest_first}");
    }
}

#[test]
fn who_gives_back_nothing_holds_nothing_back() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(4));
    let mut granted: Vec<_> = (0..4).map(|_| queued(&limiter, 1)).collect();
    let nothing = limiter.reserve(0).unwrap();
    clock.advance(4 * SEC);
    drop(granted.pop());
    assert_eq!(nothing.cancel(), 0);
    while granted.pop().is_some() {}
    assert_eq!(singles(&limiter), 4);
}

#[test]
fn within_two_milliseconds_everything_comes_back() {
    let (limiter, clock) = spent(Rate::per_second(1_000).burst(1));
    let granted = queued(&limiter, 1);
    clock.advance(MS);
    clock.advance(2 * MS);
    // What it was granted then, and what has come since.
    assert_eq!(singles(&limiter), 1);
    drop(granted);
    assert_eq!(singles(&limiter), 1);
}

#[test]
fn what_comes_back_after_a_change_is_the_same_number_of_tokens() {
    for (rate, burst) in [(7, 3), (1_000_000_000, 10), (1, 1_000)] {
        let (limiter, clock) = spent(Rate::per_second(1).burst(3));
        let granted = queued(&limiter, 3);
        clock.advance(3 * SEC);
        limiter.set_quota(Rate::per_second(rate).burst(burst));
        let before = limiter.available();
        assert_eq!(before, burst - 3);
        drop(granted);
        // Rounded down: a part of a nanosecond's worth may be missing.
        clock.advance(NS);
        assert!(limiter.available() >= burst - 1, "{} of {burst}", limiter.available());
    }
}

// Late alarms.

#[test]
fn an_alarm_that_rings_late_by_two_milliseconds_loses_nothing() {
    let (limiter, clock) = spent(Rate::per_second(10_000).burst(1));
    let mut line: Vec<_> = (0..100).map(|_| queued(&limiter, 1)).collect();
    // Each advance is one ring, twenty tokens after the one before.
    for _ in 1..=5 {
        clock.advance(Limiter::CATCH_UP);
        assert_eq!(serve(&mut line), 20);
    }
    assert_eq!((limiter.available(), clock.registered()), (0, 0));
}

#[test]
fn what_came_in_an_hour_in_which_no_alarm_could_ring_is_gone() {
    let (limiter, clock) = spent(Rate::per_second(10_000).burst(3));
    let mut line: Vec<_> = (0..100).map(|_| queued(&limiter, 1)).collect();
    clock.advance(HOUR);
    assert_eq!(serve(&mut line), 3 + 20);
}

/// With `catch_up`, a line of a hundred at 10,000 a second and a burst of one; how many are served by a ring that is 5 ms
/// after the tokens were gone.
fn served_by_a_late_ring(catch_up: Option<Duration>) -> (usize, ManualClock, Limiter) {
    let (timer, clock) = Timer::manual();
    let builder = Limiter::builder(Rate::per_second(10_000).burst(1)).timer(timer);
    let limiter = match catch_up {
        Some(span) => builder.catch_up(span),
        None => builder,
    }
    .build();
    limiter.try_acquire(1).unwrap();
    let mut line: Vec<_> = (0..100).map(|_| queued(&limiter, 1)).collect();
    clock.advance(5 * MS);
    let served = serve(&mut line);
    drop(line);
    (served, clock, limiter)
}

#[test]
fn what_a_late_ring_makes_up_for_is_what_was_said() {
    let served = |span| served_by_a_late_ring(span).0;
    // One of the burst, and what comes in that time, but no more than there was to come.
    assert_eq!(served(None), 1 + 20);
    assert_eq!(served(Some(Duration::ZERO)), 1);
    assert_eq!(served(Some(100 * NS)), 1);
    assert_eq!(served(Some(MS)), 1 + 10);
    assert_eq!(served(Some(5 * MS)), 50);
    assert_eq!(served(Some(Duration::MAX)), 50);
}

#[test]
fn a_strict_tick_moves_those_behind_a_late_one() {
    let (timer, clock) = Timer::manual();
    let tick = Rate::every(10 * MS).burst(1);
    let limiter = Limiter::builder(tick).catch_up(Duration::ZERO).timer(timer).build();
    limiter.try_acquire(1).unwrap();
    let mut line: Vec<_> = (0..3).map(|_| queued(&limiter, 1)).collect();
    // The ring is late by a millisecond and a half: so are the others.
    clock.advance_silently(MS);
    clock.advance(10 * MS + 500_000 * NS);
    assert_eq!(serve(&mut line), 1);
    clock.advance(10 * MS - NS);
    assert_eq!(serve(&mut line), 0);
    clock.advance(NS);
    assert_eq!(serve(&mut line), 1);
}

/// A single caller who takes one after the other, with a timer that rings late by `late`: how many it got in a second.
fn in_sequence(catch_up: Duration, late: Duration) -> u32 {
    let (timer, clock) = Timer::manual();
    let quota = Rate::per_second(1_000).burst(1);
    let limiter = Limiter::builder(quota).catch_up(catch_up).timer(timer).build();
    let mut got = 0;
    let mut elapsed = Duration::ZERO;
    while elapsed < SEC {
        let mut acquire = pin!(limiter.acquire(1));
        if poll(acquire.as_mut()).is_pending() {
            let due = limiter.ready_in(0).and(acquire.as_ref().standing()).unwrap().due_in.unwrap();
            clock.advance(due + late);
            elapsed += due + late;
            assert_eq!(poll(acquire), Poll::Ready(Ok(())));
        }
        got += 1;
    }
    got
}

#[test]
fn one_caller_in_sequence_has_the_whole_rate_with_a_timer_that_is_late() {
    assert!(in_sequence(Limiter::CATCH_UP, Duration::ZERO) >= 1_000);
    for late in [300_000 * NS, MS, 2 * MS - NS] {
        let got = in_sequence(Limiter::CATCH_UP, late);
        assert!((998..=1_003).contains(&got), "{got} with {late:?}");
    }
    // Without it, each is as much later as the timer.
    assert_eq!(in_sequence(Duration::ZERO, MS), 501);
}

#[test]
fn what_those_in_line_left_is_gone_after_the_catch_up() {
    let (limiter, clock) = spent(Rate::per_second(1_000).burst(1));
    let mut only = queued(&limiter, 1);
    // Three came, of which two are beyond the burst.
    clock.advance(3 * MS);
    assert!(served(&mut only));
    assert_eq!(limiter.available(), 2, "one that is left of the line, and the burst");
    clock.advance(2 * MS + NS);
    assert_eq!(singles(&limiter), 1);
}

// Wakers.

/// More are granted than are woken with the lock held once; the waker of the first lets an hour go by.
#[test]
fn what_is_granted_behind_a_waker_that_takes_an_hour_counts_from_then() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(40));
    let clock = Arc::new(clock);
    let hour = ReentrantWaker::on_wake_and_drop(
        {
            let clock = Arc::clone(&clock);
            move || clock.advance(HOUR)
        },
        || {},
    );
    let mut first = Box::pin(limiter.acquire(1));
    assert!(first.as_mut().poll(&mut Context::from_waker(&hour.waker())).is_pending());
    let mut others: Vec<_> = (1..40).map(|_| queued(&limiter, 1)).collect();
    clock.advance(40 * SEC);
    let late = others[31..].iter_mut().map(served).filter(|served| *served).count();
    assert_eq!(late, 8, "granted behind the waker");
    assert!(late as u32 + singles(&limiter) <= 41, "more than the burst, and one for the 2 ms");
}

/// At a rate at which there is always a token, whoever is woken comes again at once: whoever serves is not
/// kept at it, but leaves the newcomers to an alarm.
#[test]
fn who_serves_serves_those_who_were_there_and_the_others_are_served_as_well() {
    let (limiter, clock) = spent(Rate::per_second(1_000).burst(100));
    let newcomers = Arc::new(Mutex::new(Vec::new()));
    let again = ReentrantWaker::on_wake_and_drop(
        {
            let (limiter, newcomers) = (limiter.clone(), Arc::clone(&newcomers));
            move || {
                let mut acquire = Box::pin(limiter.acquire_owned(1));
                let ready = poll(acquire.as_mut()).is_ready();
                newcomers.lock().unwrap().push((acquire, ready));
            }
        },
        || {},
    );
    let mut first = Box::pin(limiter.acquire(1));
    assert!(first.as_mut().poll(&mut Context::from_waker(&again.waker())).is_pending());
    let mut others: Vec<_> = (0..40).map(|_| queued(&limiter, 1)).collect();
    clock.advance(SEC);
    assert!(served(&mut first) && others.iter_mut().all(served));
    let mut newcomers = newcomers.lock().unwrap();
    assert!(newcomers.iter_mut().all(|(one, ready)| *ready || poll(one.as_mut()).is_ready()));
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_panicking_waker_keeps_nobody_waiting() {
    let (limiter, clock) = spent(Rate::per_second(2).burst(2));
    let panicking = PanickingWaker::new();
    let mut first = Box::pin(limiter.acquire(1));
    assert!(first.as_mut().poll(&mut Context::from_waker(&panicking.waker())).is_pending());
    let mut second = queued(&limiter, 1);
    clock.advance(SEC);
    assert_eq!(panicking.wakes(), 1);
    assert!(served(&mut first) && served(&mut second));
}

#[test]
fn a_panicking_waker_keeps_no_change_and_no_close_from_its_work() {
    for close in [false, true] {
        let (limiter, clock) = spent(Rate::every(HOUR).burst(2));
        let panicking = PanickingWaker::new();
        let mut first = Box::pin(limiter.acquire(1));
        assert!(first.as_mut().poll(&mut Context::from_waker(&panicking.waker())).is_pending());
        let mut second = queued(&limiter, 1);
        if close {
            limiter.close();
            assert!(poll(second.as_mut()).is_ready());
        } else {
            limiter.set_burst(4);
            assert!(served(&mut first) && served(&mut second));
        }
        assert_eq!((panicking.wakes(), clock.registered()), (1, 0));
    }
}

#[test]
fn a_waker_may_use_the_limiter() {
    let (limiter, clock) = spent(Rate::per_second(2).burst(2));
    let inner = limiter.clone();
    let reentrant = ReentrantWaker::on_wake_and_drop(
        {
            let limiter = inner.clone();
            move || {
                let _ = limiter.try_acquire(1);
                drop(queued(&limiter, 2));
                limiter.charge(0);
                limiter.set_burst(2);
                let _ = limiter.reserve(1).map(|one| one.cancel());
                assert_eq!(limiter.drain(), 0);
            }
        },
        move || {
            let _ = inner.try_acquire(0);
            assert_eq!(inner.quota().burst_size(), 2);
        },
    );
    let mut first = Box::pin(limiter.acquire(1));
    assert!(first.as_mut().poll(&mut Context::from_waker(&reentrant.waker())).is_pending());
    clock.advance(500 * MS);
    assert_eq!(reentrant.wakes(), 1);
    assert!(served(&mut first));
    assert_eq!(clock.registered(), 0);
}
