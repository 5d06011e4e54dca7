//! More than the burst at once is an error, or by choice several refills.
#![cfg(not(selvedge_loom))]

mod support;

use std::pin::pin;
use std::task::Poll;

use selvedge_ratelimit::{AcquireError, Priority, Rate};
use support::*;

#[test]
fn more_than_the_burst_is_taken_in_parts_and_ends_with_the_last() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(3));
    let mut acquire = standing(limiter.acquire(10).split());
    assert_eq!((limiter.available(), limiter.waiting()), (0, 1));
    clock.advance(3 * SEC);
    clock.advance(3 * SEC);
    served_after(&clock, SEC, &mut acquire);
    assert_eq!((limiter.available(), limiter.waiting(), clock.registered()), (0, 0, 0));
    assert_eq!(limiter.ready_in(1), Some(SEC));
}

#[test]
fn a_part_is_as_large_as_the_burst_and_no_larger() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(3));
    let _acquire = standing(limiter.acquire(10).split());
    // Three at once; then nothing before there are three again.
    clock.advance(2 * SEC);
    assert_eq!(limiter.available(), 2);
    clock.advance(SEC);
    assert_eq!(limiter.available(), 0);
}

#[test]
fn what_fits_is_not_split() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(3));
    let mut acquire = standing(limiter.acquire(3).split());
    clock.advance(2 * SEC);
    assert_eq!(limiter.available(), 2, "all or nothing");
    served_after(&clock, SEC, &mut acquire);
    assert_eq!(poll(pin!(limiter.acquire(0).split())), Poll::Ready(Ok(())));
}

#[test]
fn nobody_overtakes_it_once_it_has_begun_and_a_higher_class_may_before() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(2));
    let mut split = standing(limiter.acquire(4).priority(Priority::Low).split());
    let mut before = queued_as(&limiter, Priority::High, 1);
    served_after(&clock, SEC, &mut before);
    clock.advance(2 * SEC);
    // Two of the four.
    let mut high = queued_as(&limiter, Priority::High, 1);
    let normal = queued(&limiter, 1);
    assert_eq!(stands(&high), Some((1, Some(3 * SEC))));
    assert_eq!(stands(&normal), Some((2, Some(4 * SEC))));
    assert!(limiter.try_acquire(1).is_err());
    clock.advance(2 * SEC);
    assert!(served(&mut split) && !served(&mut high));
    served_after(&clock, SEC, &mut high);
}

#[test]
fn its_place_and_its_time_are_those_of_the_last_part() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(3));
    let split = standing(limiter.acquire(10).priority(Priority::Low).split());
    let high = queued_as(&limiter, Priority::High, 1);
    // Three are taken; nobody goes before it any more.
    assert_eq!(stands(&split), Some((0, Some(7 * SEC))));
    assert_eq!(stands(&high), Some((1, Some(8 * SEC))));
    clock.advance(3 * SEC);
    clock.advance(SEC);
    assert_eq!(stands(&split), Some((0, Some(3 * SEC))));
    assert_eq!((stands(&high), limiter.ready_in(1)), (Some((1, Some(4 * SEC))), Some(5 * SEC)));
}

#[test]
fn given_up_half_way_it_gives_back_what_the_burst_has_room_for() {
    // Taken at 0, 3 and 6 seconds; the tenth is missing.
    for (after, available) in [(0, 3), (1, 3), (2, 3), (3, 3), (4, 3), (6, 3)] {
        let (limiter, clock) = limiter(Rate::per_second(1).burst(3));
        let split = standing(limiter.acquire(10).split());
        for _ in 0..after {
            clock.advance(SEC);
        }
        drop(split);
        assert_eq!(limiter.available(), available, "after {after}");
        assert_eq!(limiter.drain(), available);
        assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
    }
}

#[test]
fn given_up_after_a_debt_it_gives_back_exactly_what_it_had_taken() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(5));
    let split = standing(limiter.acquire(7).split());
    limiter.charge(3);
    // Five taken and three charged: five come back.
    drop(split);
    assert_eq!((limiter.available(), clock.registered()), (2, 0));
    assert_eq!(limiter.drain(), 2);
    assert_eq!(limiter.ready_in(5), Some(5 * SEC));
}

#[test]
fn given_up_half_way_those_behind_move_up() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(3));
    let split = standing(limiter.acquire(10).split());
    let mut behind = queued(&limiter, 3);
    assert_eq!(stands(&behind), Some((1, Some(10 * SEC))));
    drop(split);
    assert!(served(&mut behind));
    assert_eq!((limiter.available(), clock.registered()), (0, 0));
}

#[test]
fn granted_and_not_seen_it_gives_back_no_more_than_the_burst() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(3));
    let split = standing(limiter.acquire(7).split());
    (0..4).for_each(|_| clock.advance(SEC));
    assert_eq!(stands(&split), None);
    drop(split);
    assert_eq!((limiter.available(), limiter.drain()), (3, 3));
}

#[test]
fn a_burst_that_changes_changes_the_parts() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(3));
    let mut split = standing(limiter.acquire(6).split());
    limiter.set_burst(2);
    assert!(poll(split.as_mut()).is_pending(), "it is taken in parts, whatever the burst");
    limiter.set_burst(1);
    let error = AcquireError::OverBurst { wanted: 2, burst: 1 };
    assert_eq!(poll(pin!(limiter.acquire(2))), Poll::Ready(Err(error)));
    let mut seconds = 0;
    while !served(&mut split) {
        clock.advance(SEC);
        seconds += 1;
    }
    // A burst of one in place of three leaves what is missing: two more, and three in place of two.
    assert!((6..=9).contains(&seconds), "{seconds}");
    assert_eq!(clock.registered(), 0);
}

#[test]
fn the_largest_request_is_split() {
    let (limiter, clock) = limiter(Rate::per_second(1_000_000_000).burst(1 << 30));
    let mut split = standing(limiter.acquire(u32::MAX).split());
    let mut seconds = 0;
    while !served(&mut split) {
        clock.advance(100 * MS);
        seconds += 1;
    }
    assert!((33..=36).contains(&seconds), "{seconds}");
    limiter.set_quota(Rate::UNLIMITED.burst(1));
    assert_eq!(poll(pin!(limiter.acquire(u32::MAX).split())), Poll::Ready(Ok(())));
}

#[test]
fn closing_ends_it_and_what_it_had_is_spent_or_comes_back() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(3));
    let mut split = standing(limiter.acquire(10).split());
    limiter.close();
    assert_eq!(poll(split.as_mut()), Poll::Ready(Err(AcquireError::Closed)));
    assert_eq!(clock.registered(), 0);
}
