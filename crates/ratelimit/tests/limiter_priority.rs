//! Classes, places and when one is due: who goes before whom, and what is said of it.
#![cfg(not(selvedge_loom))]

mod support;

use selvedge_ratelimit::{Limiter, Priority, Rate};
use support::*;

use Priority::{High, Low, Normal};

#[test]
fn a_class_goes_before_the_next_and_in_a_class_it_is_first_in_first_out() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let classes = [Low, Normal, High, Low, Normal, High];
    let mut line: Vec<_> = classes.map(|class| queued_as(&limiter, class, 1)).into();
    for next in [2, 5, 1, 4, 0, 3] {
        clock.advance(SEC);
        let granted: Vec<_> = (0..6).filter(|at| stands(&line[*at]).is_none()).collect();
        assert!(granted.contains(&next), "{next} of {granted:?}");
    }
    assert!(line.iter_mut().all(served));
    assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
}

#[test]
fn without_a_word_one_is_normal() {
    assert_eq!(Priority::default(), Normal);
    assert!(High < Normal && Normal < Low);
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut plain = queued(&limiter, 1);
    let mut low = queued_as(&limiter, Low, 1);
    let mut high = queued_as(&limiter, High, 1);
    clock.advance(2 * SEC);
    assert!(served(&mut plain) && served(&mut high) && !served(&mut low));
}

#[test]
fn a_newcomer_of_a_higher_class_has_an_alarm_of_its_own() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut large = queued_as(&limiter, Low, 5);
    let mut high = queued_as(&limiter, High, 1);
    served_after(&clock, SEC, &mut high);
    assert_eq!(stands(&large), Some((0, Some(5 * SEC))));
    served_after(&clock, 5 * SEC, &mut large);
    assert_eq!(clock.registered(), 0);
}

#[test]
fn no_class_lets_a_try_before_it() {
    for class in [High, Normal, Low] {
        let (limiter, clock) = spent(Rate::per_second(1).burst(5));
        let mut waits = queued_as(&limiter, class, 5);
        clock.advance(4 * SEC);
        assert!(limiter.try_acquire(1).is_err());
        assert_eq!(limiter.drain(), 0);
        clock.advance(SEC);
        assert!(served(&mut waits));
    }
}

#[test]
fn one_that_waits_knows_its_place_and_when_it_is_due() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut line: Vec<_> = [3, 2, 4].map(|n| queued(&limiter, n)).into();
    let places = |line: &[Waiter<'_>]| line.iter().map(stands).collect::<Vec<_>>();
    let due = |ahead, secs| Some((ahead, Some(secs * SEC)));
    assert_eq!(places(&line), [due(0, 3), due(1, 5), due(2, 9)]);
    clock.advance(SEC);
    assert_eq!(places(&line), [due(0, 2), due(1, 4), due(2, 8)]);
    // Two who take what has come before them: two seconds later, all of them.
    let high = queued_as(&limiter, High, 2);
    let low = queued_as(&limiter, Low, 1);
    assert_eq!((stands(&high), stands(&low)), (due(0, 1), due(4, 11)));
    assert_eq!(places(&line), [due(1, 4), due(2, 6), due(3, 10)]);
    drop(high);
    assert_eq!(places(&line), [due(0, 2), due(1, 4), due(2, 8)]);
    drop(line.remove(1));
    assert_eq!((places(&line), stands(&low)), (vec![due(0, 2), due(1, 6)], due(2, 7)));
    drop(line.remove(0));
    assert_eq!((places(&line), stands(&low)), (vec![due(0, 3)], due(1, 4)));
    served_after(&clock, 3 * SEC, &mut line[0]);
    assert_eq!(stands(&low), due(0, 1));
}

#[test]
fn what_is_said_of_a_place_is_what_comes_of_it() {
    let (limiter, clock) = spent(Rate::new(7, 3 * SEC).burst(9));
    let mut line: Vec<_> = (0..30)
        .map(|at| queued_as(&limiter, [High, Normal, Low][at % 3], 1 + at as u32 % 9))
        .collect();
    let mut left: Vec<usize> = (0..30).collect();
    while !line.is_empty() {
        let due = line.iter().map(|one| stands(one).unwrap());
        let (at, (ahead, due)) = due.enumerate().min_by_key(|(_, (ahead, _))| *ahead).unwrap();
        assert_eq!(ahead, 0);
        served_after(&clock, due.unwrap(), &mut line[at]);
        drop(line.remove(at));
        left.remove(at);
    }
    assert_eq!(clock.registered(), 0);
}

#[test]
fn who_does_not_wait_stands_nowhere() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let unpolled = Box::pin(limiter.acquire(1));
    assert_eq!(stands(&unpolled), None);
    let granted = queued(&limiter, 1);
    clock.advance(SEC);
    assert_eq!(stands(&granted), None);
}

#[test]
fn a_changed_quota_and_a_charge_move_the_time_and_not_the_place() {
    let (limiter, _clock) = spent(Rate::per_second(1).burst(5));
    let _front = queued(&limiter, 2);
    let second = queued(&limiter, 2);
    assert_eq!(stands(&second), Some((1, Some(4 * SEC))));
    limiter.charge(3);
    assert_eq!(stands(&second), Some((1, Some(7 * SEC))));
    limiter.set_rate(Rate::per_second(7));
    assert_eq!(stands(&second), Some((1, Some(SEC))));
    limiter.set_rate(Rate::every(HOUR));
    assert_eq!(stands(&second), Some((1, Some(7 * HOUR))));
    limiter.set_rate(Rate::every(80 * YEAR));
    assert_eq!(stands(&second), Some((1, None)), "not within 73 years");
}

#[test]
fn one_that_is_due_but_was_not_rung_for_is_due_now() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let waits = queued(&limiter, 2);
    clock.advance_silently(3 * SEC);
    assert_eq!(stands(&waits), Some((0, Some(ZERO))));
}

#[test]
fn those_of_other_classes_leave_without_a_trace() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    for class in [High, Normal, Low] {
        let mut line: Vec<_> = [High, Normal, Low].map(|one| queued_as(&limiter, one, 3)).into();
        let leaver = line.remove(class as usize);
        assert_eq!(limiter.ready_in(1), Some(10 * SEC));
        drop(leaver);
        assert_eq!((limiter.waiting(), limiter.ready_in(1)), (2, Some(7 * SEC)));
        drop(line);
        assert_eq!((limiter.waiting(), limiter.ready_in(1)), (0, Some(SEC)));
        assert_eq!(clock.registered(), 0);
    }
}

#[test]
fn a_reservation_is_of_the_class_in_the_middle() {
    let (limiter, _clock) = spent(Rate::per_second(1).burst(5));
    let _high = queued_as(&limiter, High, 1);
    let _low = queued_as(&limiter, Low, 1);
    let limiter: &Limiter = &limiter;
    assert_eq!(limiter.reserve(1).unwrap().due_in(), Some(2 * SEC));
}
