//! A place in the line that is not awaited: when it is due, what it gives back when it is cancelled, committed or dropped, before and
//! after.
#![cfg(not(selvedge_loom))]

mod support;

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use selvedge_ratelimit::{AcquireError, Limiter, Rate, Reservation, TimerError};
use selvedge_testkit::CountingWaker;
use support::*;

fn ready(reservation: &mut Reservation) -> Poll<Result<(), AcquireError>> {
    poll(pin!(reservation.ready()))
}

#[test]
fn what_is_there_is_reserved_and_due_at_once() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(5));
    let mut reserved = limiter.reserve(3).unwrap();
    assert_eq!((reserved.tokens(), reserved.due_in()), (3, Some(ZERO)));
    assert_eq!((limiter.available(), limiter.waiting()), (2, 0));
    assert_eq!(ready(&mut reserved), Poll::Ready(Ok(())));
    assert_eq!(ready(&mut reserved), Poll::Ready(Ok(())), "as often as one likes");
    drop(reserved);
    assert_eq!((limiter.available(), clock.registered()), (2, 0), "it is spent");
}

#[test]
fn reservations_are_due_one_after_the_other() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let reserved = [2, 3, 1].map(|n| limiter.reserve(n).unwrap());
    let dues = |reserved: &[Reservation]| {
        reserved.iter().map(|one| one.due_in().unwrap().as_secs_f64()).collect::<Vec<_>>()
    };
    assert_eq!(dues(&reserved), [2.0, 5.0, 6.0]);
    assert_eq!((limiter.waiting(), limiter.ready_in(1)), (3, Some(7 * SEC)));
    clock.advance(1_500 * MS);
    assert_eq!(dues(&reserved), [0.5, 3.5, 4.5]);
    clock.advance(SEC);
    assert_eq!(dues(&reserved), [0.0, 2.5, 3.5]);
    let [first, second, third] = reserved;
    drop(first);
    assert_eq!(second.cancel(), 3);
    assert_eq!(third.due_in(), Some(500 * MS), "it moved up");
}

#[test]
fn a_wait_is_behind_a_reservation_and_before_the_next() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let first = limiter.reserve(2).unwrap();
    let mut waits = queued(&limiter, 1);
    let last = limiter.reserve(1).unwrap();
    assert_eq!((stands(&waits), last.due_in()), (Some((1, Some(3 * SEC))), Some(4 * SEC)));
    served_after(&clock, 3 * SEC, &mut waits);
    assert_eq!((first.due_in(), last.due_in()), (Some(ZERO), Some(SEC)));
}

#[test]
fn ready_wakes_when_it_is_due_and_not_before() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut reserved = limiter.reserve(2).unwrap();
    let task = CountingWaker::new();
    let waker = task.waker();
    let mut future = Box::pin(reserved.ready());
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(format!("{future:?}").starts_with("Ready { tokens: 2, place: "), "{future:?}");
    clock.advance(2 * SEC - NS);
    assert_eq!(task.wakes(), 0);
    clock.advance(NS);
    assert_eq!(task.wakes(), 1);
    assert_eq!(poll(future.as_mut()), Poll::Ready(Ok(())));
    drop(future);
    assert_eq!(reserved.due_in(), Some(ZERO));
    assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
}

#[test]
fn a_dropped_ready_keeps_the_place_in_the_line() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut reserved = limiter.reserve(2).unwrap();
    assert!(ready(&mut reserved).is_pending());
    let mut behind = queued(&limiter, 1);
    clock.advance(2 * SEC);
    assert!(!served(&mut behind));
    assert_eq!(ready(&mut reserved), Poll::Ready(Ok(())));
}

#[test]
fn cancelled_before_it_is_due_all_goes_back_and_those_behind_move_up() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let reserved = limiter.reserve(4).unwrap();
    let mut behind = queued(&limiter, 1);
    clock.advance(SEC + NS);
    assert_eq!(reserved.cancel(), 4);
    assert!(served(&mut behind), "it was due without it");
    assert_eq!((limiter.available(), limiter.waiting(), clock.registered()), (0, 0, 0));
}

#[test]
fn cancelled_after_it_was_due_as_much_goes_back_as_is_within_the_burst() {
    for (seen, late, back) in
        [(false, 0, 3), (true, 0, 3), (false, 1, 3), (true, 4, 1), (true, 9, 0)]
    {
        let (limiter, clock) = spent(Rate::per_second(1).burst(5));
        let mut reserved = limiter.reserve(3).unwrap();
        clock.advance(3 * SEC);
        if seen {
            assert!(ready(&mut reserved).is_ready());
        }
        clock.advance(late * SEC);
        let before = limiter.available();
        assert_eq!(reserved.cancel(), back, "late by {late}");
        assert_eq!(limiter.available(), before + back);
        assert!(limiter.available() <= 5);
        // Never a second burst.
        assert_eq!(limiter.drain(), before + back);
    }
    let (limiter, _clock) = limiter(Rate::per_second(1).burst(5));
    assert_eq!(limiter.reserve(5).unwrap().cancel(), 5);
    assert_eq!(limiter.available(), 5);
}

#[test]
fn a_cancelled_one_serves_who_waits() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(5));
    let reserved = limiter.reserve(5).unwrap();
    let mut waits = queued(&limiter, 4);
    assert_eq!(reserved.cancel(), 5);
    assert!(served(&mut waits));
    assert_eq!((limiter.available(), clock.registered()), (1, 0));
}

#[test]
fn committed_for_less_the_rest_goes_back_and_for_more_it_is_charged() {
    for (actual, available, ready_in) in [(0, 10, 0), (3, 7, 0), (6, 4, 0), (10, 0, 1), (12, 0, 3)]
    {
        let (limiter, _clock) = limiter(Rate::per_second(1).burst(10));
        limiter.reserve(6).unwrap().commit(actual);
        let now = (limiter.available(), limiter.ready_in(1));
        assert_eq!(now, (available, Some(ready_in * SEC)), "{actual}");
    }
}

#[test]
fn committed_when_due_but_not_yet_seen_is_committed_for_what_was_reserved() {
    for rings in [false, true] {
        for (actual, wait) in [(1, 0), (3, 1), (4, 2)] {
            let (limiter, clock) = spent(Rate::per_second(1).burst(5));
            let reserved = limiter.reserve(3).unwrap();
            if rings {
                clock.advance(3 * SEC);
            } else {
                clock.advance_silently(3 * SEC);
            }
            reserved.commit(actual);
            assert_eq!(limiter.ready_in(1), Some(wait * SEC), "{actual}, rings: {rings}");
            assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
        }
    }
}

#[test]
fn committed_before_it_is_due_the_whole_cost_is_a_late_charge() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let reserved = limiter.reserve(3).unwrap();
    let mut behind = queued(&limiter, 1);
    clock.advance(SEC);
    reserved.commit(2);
    assert_eq!(limiter.waiting(), 1);
    assert_eq!(stands(&behind), Some((0, Some(2 * SEC))));
    clock.advance(2 * SEC);
    assert!(served(&mut behind));
    assert_eq!((limiter.available(), limiter.ready_in(1)), (0, Some(SEC)));
}

#[test]
fn dropped_before_it_is_due_it_is_cancelled_and_after_it_is_spent() {
    for (after, seen, available) in [(2, false, 2), (3, false, 0), (3, true, 0), (4, false, 1)] {
        let (limiter, clock) = spent(Rate::per_second(1).burst(5));
        let mut reserved = limiter.reserve(3).unwrap();
        clock.advance(after * SEC);
        if seen {
            assert!(ready(&mut reserved).is_ready());
        }
        drop(reserved);
        assert_eq!(limiter.available(), available, "after {after}, seen: {seen}");
        assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
    }
}

/// Who sleeps until it is due, uses it and drops it never asks whether it was granted.
#[test]
fn whoever_sleeps_until_it_is_due_has_the_rate_and_no_more() {
    for rings in [false, true] {
        let (limiter, clock) = spent(Rate::per_second(1).burst(2));
        for _ in 0..10 {
            let reserved = limiter.reserve(1).unwrap();
            let due = reserved.due_in().unwrap();
            assert_eq!(due, SEC, "rings: {rings}");
            if rings {
                clock.advance(due);
            } else {
                clock.advance_silently(due);
            }
            assert_eq!(reserved.due_in(), Some(ZERO));
        }
    }
}

#[test]
fn a_reservation_ends_with_the_limiter_and_is_not_due_then() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(5));
    let mut granted = limiter.reserve(4).unwrap();
    let mut standing = limiter.reserve(4).unwrap();
    let unasked = limiter.reserve(4).unwrap();
    limiter.close();
    assert_eq!((standing.due_in(), unasked.due_in()), (None, None), "it never is");
    assert_eq!(ready(&mut standing), Poll::Ready(Err(AcquireError::Closed)));
    assert_eq!(ready(&mut standing), Poll::Ready(Err(AcquireError::Closed)), "and again");
    assert_eq!(standing.due_in(), None);
    assert_eq!((granted.due_in(), ready(&mut granted)), (Some(ZERO), Poll::Ready(Ok(()))));
    assert_eq!((standing.cancel(), unasked.cancel(), granted.cancel()), (0, 0, 4));
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_burst_that_is_lowered_below_a_reservation_makes_it_void() {
    let (limiter, _clock) = spent(Rate::per_second(1).burst(5));
    let mut asked = limiter.reserve(4).unwrap();
    let unasked = limiter.reserve(4).unwrap();
    let mut behind = queued(&limiter, 1);
    limiter.set_burst(2);
    assert_eq!((asked.due_in(), unasked.due_in()), (None, None));
    let error = AcquireError::OverBurst { wanted: 4, burst: 2 };
    assert_eq!(ready(&mut asked), Poll::Ready(Err(error)));
    // Five are missing from a burst of two.
    assert_eq!(stands(&behind), Some((0, Some(4 * SEC))));
    assert_eq!((asked.cancel(), unasked.cancel()), (0, 0));
    assert!(!served(&mut behind));
}

#[test]
fn a_void_reservation_that_is_committed_is_charged() {
    let (limiter, _clock) = spent(Rate::per_second(1).burst(5));
    let reserved = limiter.reserve(4).unwrap();
    limiter.set_burst(2);
    assert_eq!(limiter.ready_in(1), Some(4 * SEC));
    reserved.commit(3);
    assert_eq!(limiter.ready_in(1), Some(7 * SEC));
}

#[test]
fn a_lost_timer_ends_a_reservation() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut reserved = limiter.reserve(4).unwrap();
    clock.lose();
    let error = AcquireError::NoTimer(TimerError::Lost);
    assert_eq!(ready(&mut reserved), Poll::Ready(Err(error.clone())));
    assert_eq!(reserved.due_in(), None);
    assert_eq!(limiter.reserve(1).map(|mut one| ready(&mut one)), Ok(Poll::Ready(Err(error))));
}

#[test]
fn a_reservation_of_nothing_costs_nothing_and_may_be_committed_for_something() {
    let (limiter, _clock) = limiter(Rate::per_second(1).burst(5));
    assert_eq!(limiter.reserve(0).unwrap().cancel(), 0);
    drop(limiter.reserve(0).unwrap());
    limiter.reserve(0).unwrap().commit(3);
    assert_eq!(limiter.available(), 2);
}

#[test]
fn a_reservation_that_is_due_in_a_thousand_years_is_one() {
    let (limiter, _clock) = spent(Rate::every(500 * YEAR).burst(3));
    let reserved = limiter.reserve(2).unwrap();
    assert_eq!(reserved.due_in(), None);
    assert_eq!(reserved.cancel(), 2);
}

#[test]
fn it_keeps_its_limiter_alive_and_says_who_it_is() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut reserved = limiter.reserve(2).unwrap();
    drop(limiter);
    let text = format!("{reserved:?}");
    assert!(text.starts_with("Reservation { tokens: 2, due_in: Some(2s), place: "), "{text}");
    assert!(text.contains(file!()), "{text}");
    clock.advance(2 * SEC);
    assert_eq!(ready(&mut reserved), Poll::Ready(Ok(())));
}

#[test]
fn a_reservation_may_move_between_threads_while_it_stands() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let reserved = limiter.reserve(2).unwrap();
    let limit = Limiter::clone(&limiter);
    let other = std::thread::spawn(move || {
        clock.advance(2 * SEC);
        let mut reserved = reserved;
        let told = Pin::new(&mut reserved.ready())
            .poll(&mut Context::from_waker(std::task::Waker::noop()));
        (told, limit.waiting())
    });
    assert_eq!(other.join().unwrap(), (Poll::Ready(Ok(())), 0));
}

/// What those in line left is over when somebody asks again, and nobody rang meanwhile.
#[test]
fn one_that_is_due_says_so_and_one_that_would_be_beyond_the_catch_up_does_not() {
    let (limiter, clock) = spent(Rate::per_second(1_000).burst(1));
    let mut waits = queued(&limiter, 1);
    clock.advance(3 * MS);
    assert!(served(&mut waits));
    assert_eq!(limiter.drain(), 2, "slack, and the burst");
    let reserved = [(); 5].map(|()| limiter.reserve(1).unwrap());
    clock.advance_silently(5 * MS);
    // One of the burst, and what came in two milliseconds.
    let dues = reserved.each_ref().map(|one| one.due_in().unwrap());
    assert_eq!(dues, [ZERO, ZERO, ZERO, MS, 2 * MS]);
    let [first, .., last] = reserved;
    first.commit(1);
    assert_eq!(limiter.waiting(), 2);
    assert_eq!(last.cancel(), 1);
}

#[test]
fn a_refusal_behind_a_line_whose_alarm_is_late_is_not_told_too_early() {
    let (limiter, clock) = spent(Rate::per_second(1_000).burst(1));
    let mut waits = queued(&limiter, 1);
    clock.advance(3 * MS);
    assert!(served(&mut waits));
    limiter.drain();
    let _reserved = [(); 5].map(|()| limiter.reserve(1).unwrap());
    clock.advance_silently(5 * MS);
    // Three are due, two come in two milliseconds, and then one for whoever asks.
    let wait = limiter.try_acquire(1).unwrap_err().retry_in().unwrap();
    assert!((3 * MS..=5 * MS).contains(&wait), "{wait:?}");
    clock.advance(ZERO);
    clock.advance(wait);
    assert_eq!(limiter.try_acquire(1), Ok(()));
}
