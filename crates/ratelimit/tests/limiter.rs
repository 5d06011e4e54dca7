//! Taking and waiting, on a clock that is moved by hand: bursts and ticks, what is told to whom, the line and who leaves it, and
//! what comes back.
#![cfg(not(selvedge_loom))]

mod support;

use std::pin::pin;
use std::task::{Context, Poll};

use selvedge_ratelimit::{AcquireError, Limiter, Rate, TryAcquireError};
use selvedge_testkit::CountingWaker;
use support::*;

// Smoke.

#[test]
fn a_burst_is_there_at_once_and_then_one_at_a_time() {
    let (limiter, clock) = limiter(Rate::per_second(10).burst(3));
    assert_eq!((limiter.available(), singles(&limiter)), (3, 3));
    for _ in 0..20 {
        clock.advance(100 * MS - NS);
        assert_eq!(limiter.try_acquire(1).unwrap_err().retry_in(), Some(NS));
        clock.advance(NS);
        assert_eq!(singles(&limiter), 1);
    }
}

#[test]
fn a_tick_saves_nothing_up() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    assert_eq!(singles(&limiter), 1);
    clock.advance(HOUR);
    assert_eq!(singles(&limiter), 1);
}

#[test]
fn with_a_burst_of_one_two_are_never_closer_than_the_interval() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    // Nineteen tenths after the first, and then not one tenth later, though that is twice the interval.
    limiter.try_acquire(1).unwrap();
    clock.advance(1_900 * MS);
    limiter.try_acquire(1).unwrap();
    clock.advance(100 * MS);
    assert_eq!(limiter.try_acquire(1).unwrap_err().retry_in(), Some(900 * MS));
    clock.advance(900 * MS - NS);
    assert!(limiter.try_acquire(1).is_err());
    clock.advance(NS);
    limiter.try_acquire(1).unwrap();
}

#[test]
fn what_is_beyond_the_burst_is_gone() {
    let (limiter, clock) = spent(Rate::per_second(10).burst(5));
    clock.advance(300 * MS);
    assert_eq!(limiter.available(), 3);
    clock.advance(HOUR);
    assert_eq!((limiter.available(), singles(&limiter)), (5, 5));
}

#[test]
fn tokens_of_different_weight_come_from_one_bucket() {
    let (limiter, clock) = limiter(Rate::per_second(10).burst(10));
    limiter.try_acquire(7).unwrap();
    assert_eq!(limiter.try_acquire(4).unwrap_err().retry_in(), Some(100 * MS));
    limiter.try_acquire(3).unwrap();
    clock.advance(400 * MS);
    assert_eq!(limiter.available(), 4);
}

#[test]
fn a_wait_ends_when_the_tokens_have_come_and_not_before() {
    let (limiter, clock) = spent(Rate::per_second(10).burst(5));
    let task = CountingWaker::new();
    let waker = task.waker();
    let mut acquire = pin!(limiter.acquire(2));
    assert!(acquire.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    clock.advance(200 * MS - NS);
    assert_eq!(task.wakes(), 0);
    clock.advance(NS);
    assert_eq!(task.wakes(), 1);
    assert_eq!(poll(acquire), Poll::Ready(Ok(())));
    assert_eq!((limiter.available(), limiter.waiting(), clock.registered()), (0, 0, 0));
}

#[test]
fn clones_are_handles_to_one_limiter() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(2));
    let other = limiter.clone();
    limiter.try_acquire(1).unwrap();
    assert_eq!((other.available(), singles(&other), limiter.available()), (1, 1, 0));
    other.set_burst(3);
    assert_eq!((limiter.quota().burst_size(), limiter.available()), (3, 1));
    other.close();
    assert!(limiter.is_closed());
}

#[test]
fn a_constant_limiter_lives_in_a_static() {
    static LOGINS: Limiter = Limiter::new(Rate::per_hour(1).burst(2));
    static TICK: Limiter = Limiter::strict(Rate::per_hour(1));
    let tries = || (LOGINS.try_acquire(1).is_ok(), TICK.try_acquire(1).is_ok());
    let threads = [(); 4].map(|()| std::thread::spawn(tries));
    let tries = threads.map(|thread| thread.join().unwrap());
    let count = |of: fn(&(bool, bool)) -> bool| tries.iter().filter(|one| of(one)).count();
    assert_eq!((count(|one| one.0), count(|one| one.1)), (2, 1));
    assert_eq!(LOGINS.place().file(), file!());
}

// What is told.

#[test]
fn a_refusal_tells_when_to_retry_and_then_it_is_granted() {
    for rate in [Rate::per_second(3), Rate::per_second(700_000_000), Rate::per_hour(7)] {
        let (limiter, clock) = spent(rate.burst(5));
        for n in [1, 5, 2, 3] {
            let refused = limiter.try_acquire(n).unwrap_err();
            let wait = refused.retry_in().unwrap();
            clock.advance(wait - NS);
            assert_eq!(limiter.try_acquire(n).unwrap_err().retry_in(), Some(NS), "{rate}, {n}");
            clock.advance(NS);
            limiter.try_acquire(n).unwrap();
        }
    }
}

#[test]
fn a_refusal_reckons_in_those_who_wait() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut front = queued(&limiter, 3);
    let refused = limiter.try_acquire(2).unwrap_err();
    assert_eq!((refused.retry_in(), limiter.ready_in(2)), (Some(5 * SEC), Some(5 * SEC)));
    clock.advance(5 * SEC - NS);
    assert!(limiter.try_acquire(2).is_err());
    clock.advance(NS);
    assert!(served(&mut front));
    limiter.try_acquire(2).unwrap();
}

#[test]
fn errors_say_why() {
    let (limiter, _clock) = spent(Rate::per_second(2).burst(2));
    let text = |n| limiter.try_acquire(n).unwrap_err().to_string();
    assert_eq!(text(1), "tokens not acquired: they come in 500ms");
    assert_eq!(text(3), "tokens not acquired: 3 wanted, the burst is 2");
    assert_eq!(limiter.try_acquire(3).unwrap_err().retry_in(), None);
    limiter.close();
    assert_eq!(text(1), "tokens not acquired: the limiter is closed");
    assert_eq!(limiter.try_acquire(1).unwrap_err().retry_in(), None);
}

#[test]
fn it_says_when_tokens_will_be_there() {
    let (limiter, clock) = limiter(Rate::per_second(4).burst(8));
    assert_eq!(limiter.ready_in(8), Some(ZERO));
    limiter.try_acquire(8).unwrap();
    assert_eq!((limiter.ready_in(1), limiter.ready_in(8)), (Some(250 * MS), Some(2 * SEC)));
    clock.advance(100 * MS);
    assert_eq!(limiter.ready_in(1), Some(150 * MS));
    assert_eq!((limiter.ready_in(0), limiter.ready_in(9)), (Some(ZERO), None));
    assert_eq!(limiter.ready_in(u32::MAX), None);
}

// All that is there, and less.

#[test]
fn drain_takes_what_is_there_and_the_next_come_one_by_one() {
    let (limiter, clock) = limiter(Rate::per_second(10).burst(5));
    limiter.try_acquire(2).unwrap();
    assert_eq!((limiter.drain(), limiter.drain(), limiter.available()), (3, 0, 0));
    // The part of a token that has come is not lost.
    clock.advance(150 * MS);
    assert_eq!(limiter.drain(), 1);
    assert_eq!(limiter.ready_in(1), Some(50 * MS));
}

#[test]
fn up_to_so_many_are_taken_of_what_is_there() {
    let (limiter, _clock) = limiter(Rate::per_second(10).burst(5));
    assert_eq!([0, 2, 9, 1].map(|n| limiter.take_up_to(n)), [0, 2, 3, 0]);
}

#[test]
fn who_takes_up_to_so_many_overtakes_nobody() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut front = queued(&limiter, 3);
    clock.advance(2 * SEC);
    assert_eq!((limiter.available(), limiter.take_up_to(1), limiter.drain()), (2, 0, 0));
    clock.advance(SEC);
    assert!(served(&mut front));
}

#[test]
fn a_late_charge_delays_those_who_come_and_those_who_wait() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut front = queued(&limiter, 1);
    limiter.charge(3);
    clock.advance(SEC);
    assert!(!served(&mut front));
    served_after(&clock, 3 * SEC, &mut front);
    limiter.charge(2);
    assert_eq!((limiter.available(), limiter.ready_in(1)), (0, Some(3 * SEC)));
    // A full bucket has the burst less the charge.
    clock.advance(HOUR);
    limiter.charge(2);
    assert_eq!(limiter.available(), 3);
    limiter.charge(0);
    assert_eq!(limiter.available(), 3);
}

#[test]
fn the_largest_charges_saturate() {
    for rate in [1, 1_000, 4_000_000_000] {
        for burst in [1, 1_000, u32::MAX] {
            let (limiter, clock) = limiter(Rate::per_second(rate).burst(burst));
            (0..1_000).for_each(|_| limiter.charge(u32::MAX));
            assert_eq!(limiter.available(), 0);
            let mut waits = queued(&limiter, 1);
            (0..1_000).for_each(|_| limiter.charge(u32::MAX));
            clock.advance(SEC);
            drop(waits);
            limiter.set_rate(Rate::per_second(4_000_000_000));
            limiter.set_rate(Rate::every(HOUR));
            limiter.charge(u32::MAX);
            limiter.set_quota(Rate::UNLIMITED.burst(1));
            limiter.charge(u32::MAX);
            assert_eq!(limiter.try_acquire(u32::MAX), Ok(()));
            waits = Box::pin(limiter.acquire(1));
            assert!(served(&mut waits));
        }
    }
}

#[test]
fn a_charge_takes_nothing_from_those_whose_alarm_is_late() {
    let (limiter, clock) = spent(Rate::per_second(10_000).burst(1));
    let mut line: Vec<_> = (0..100).map(|_| queued(&limiter, 1)).collect();
    clock.advance_silently(Limiter::CATCH_UP);
    limiter.charge(1);
    clock.advance(ZERO);
    assert_eq!(serve(&mut line), 19, "what came in two milliseconds, less the charge");
}

#[test]
fn nothing_is_always_to_be_had_and_waits_behind_nobody() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let _front = queued(&limiter, 1);
    assert_eq!(limiter.try_acquire(0), Ok(()));
    assert_eq!(poll(pin!(limiter.acquire(0))), Poll::Ready(Ok(())));
    assert_eq!(poll(pin!(limiter.acquire_owned(0).split())), Poll::Ready(Ok(())));
    assert_eq!(limiter.acquire_blocking(0), Ok(()));
    assert_eq!(limiter.reserve(0).unwrap().due_in(), Some(ZERO));
    assert_eq!((clock.registered(), limiter.waiting()), (1, 1));
}

#[test]
fn more_than_the_burst_is_an_error_at_once_and_blocks_nobody() {
    let (limiter, clock) = limiter(Rate::per_second(1).burst(2));
    for n in [3, u32::MAX] {
        let error = AcquireError::OverBurst { wanted: n, burst: 2 };
        assert_eq!(poll(pin!(limiter.acquire(n))), Poll::Ready(Err(error.clone())));
        assert_eq!(limiter.acquire_blocking(n), Err(error.clone()));
        assert_eq!(limiter.reserve(n).unwrap_err(), error);
        let refused = TryAcquireError::OverBurst { wanted: n, burst: 2 };
        assert_eq!(limiter.try_acquire(n), Err(refused));
    }
    assert_eq!((singles(&limiter), clock.registered()), (2, 0));
    // It does not stand in a line either.
    let _front = queued(&limiter, 1);
    let error = AcquireError::OverBurst { wanted: 3, burst: 2 };
    assert_eq!(poll(pin!(limiter.acquire(3))), Poll::Ready(Err(error)));
    assert_eq!(limiter.waiting(), 1);
}

// The line.

#[test]
fn they_are_served_in_the_order_in_which_they_came_and_nobody_overtakes() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut large = queued(&limiter, 3);
    let mut small = queued(&limiter, 1);
    clock.advance(2 * SEC);
    assert_eq!(limiter.available(), 2);
    assert!(limiter.try_acquire(1).is_err(), "there, but not for us");
    let mut late = queued(&limiter, 1);
    assert!(!served(&mut small));
    clock.advance(SEC);
    assert!(served(&mut large) && !served(&mut small));
    clock.advance(SEC);
    assert!(served(&mut small) && !served(&mut late));
    clock.advance(SEC);
    assert!(served(&mut late));
    assert_eq!((limiter.available(), clock.registered()), (0, 0));
}

#[test]
fn one_registration_serves_all_who_wait() {
    let (limiter, clock) = spent(Rate::per_second(1000).burst(1000));
    let mut line: Vec<_> = (0..1000).map(|_| queued(&limiter, 1)).collect();
    assert_eq!((clock.registered(), limiter.waiting()), (1, 1000));
    clock.advance(500 * MS);
    assert_eq!(serve(&mut line), 500);
    assert_eq!(clock.registered(), 1);
    drop(line);
    assert_eq!((clock.registered(), limiter.waiting()), (0, 0));
}

#[test]
fn whoever_is_due_at_one_ring_is_woken_by_it() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(10));
    let tasks: Vec<_> = (0..12).map(|_| CountingWaker::new()).collect();
    let mut line: Vec<_> = tasks.iter().map(|_| Box::pin(limiter.acquire(1))).collect();
    for (waiter, task) in line.iter_mut().zip(&tasks) {
        let waker = task.waker();
        assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let woken = || tasks.iter().map(CountingWaker::wakes).collect::<Vec<_>>();
    clock.advance(10 * SEC);
    assert_eq!(woken(), [&[1; 10][..], &[0; 2]].concat(), "each once, and nobody else");
    clock.advance(2 * SEC);
    assert_eq!(woken(), [1; 12]);
}

#[test]
fn a_waiter_that_is_not_polled_delays_nobody() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let _asleep = queued(&limiter, 1);
    let mut behind = queued(&limiter, 1);
    clock.advance(SEC);
    clock.advance(SEC);
    assert!(served(&mut behind));
}

#[test]
fn a_future_that_was_never_polled_stands_nowhere() {
    let (limiter, _clock) = spent(Rate::every(SEC).burst(1));
    let never = limiter.acquire(1);
    assert_eq!(limiter.waiting(), 0);
    drop(never);
}

#[test]
fn who_leaves_the_line_lets_everybody_behind_it_move_up() {
    for leaver in 0..3 {
        let (limiter, clock) = spent(Rate::per_second(1).burst(4));
        let mut line: Vec<_> = [4, 2, 1].map(|n| queued(&limiter, n)).into();
        drop(line.remove(leaver));
        let dues: &[u32] = [&[2, 3][..], &[4, 5], &[4, 6]][leaver];
        let mut now = 0;
        for (waiter, due) in line.iter_mut().zip(dues) {
            served_after(&clock, (due - now) * SEC, waiter);
            now = *due;
        }
        assert_eq!((limiter.available(), clock.registered()), (0, 0));
    }
}

#[test]
fn a_front_that_leaves_when_the_next_is_due_lets_it_go_at_once() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(4));
    let front = queued(&limiter, 4);
    let mut next = queued(&limiter, 2);
    clock.advance(3 * SEC);
    assert!(!served(&mut next));
    drop(front);
    assert!(served(&mut next));
    assert_eq!((limiter.available(), clock.registered()), (1, 0));
}

#[test]
fn a_front_that_wants_less_than_the_one_before_it_did_has_an_alarm_of_its_own() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(100));
    for _ in 0..50 {
        let front = queued(&limiter, 100);
        let mut next = queued(&limiter, 1);
        drop(front);
        assert_eq!(clock.registered(), 1, "the old one is taken back");
        clock.advance(SEC);
        assert!(served(&mut next));
        assert_eq!(clock.registered(), 0);
    }
}

#[test]
fn no_more_may_wait_than_was_said() {
    let (timer, clock) = selvedge_ratelimit::Timer::manual();
    let builder = Limiter::builder(Rate::every(SEC).burst(1)).timer(timer);
    let limiter = builder.clone().max_waiting(2).build();
    limiter.try_acquire(1).unwrap();
    let mut first = queued(&limiter, 1);
    let second = queued(&limiter, 1);
    let refused = Poll::Ready(Err(AcquireError::TooMany { waiting: 2 }));
    assert_eq!(poll(pin!(limiter.acquire(1))), refused);
    assert_eq!(limiter.acquire_blocking(1), Err(AcquireError::TooMany { waiting: 2 }));
    assert_eq!(limiter.reserve(1).unwrap_err(), AcquireError::TooMany { waiting: 2 });
    // Nothing is nothing to wait for.
    assert_eq!(poll(pin!(limiter.acquire(0))), Poll::Ready(Ok(())));
    drop(second);
    let mut second = queued(&limiter, 1);
    clock.advance(SEC);
    assert!(served(&mut first));
    let third = queued(&limiter, 1);
    assert_eq!(poll(pin!(limiter.acquire(1))), refused);
    clock.advance(SEC);
    assert!(served(&mut second));
    drop(third);

    let nobody = builder.max_waiting(0).build();
    assert_eq!(poll(pin!(nobody.acquire(1))), Poll::Ready(Ok(())));
    let refused = Poll::Ready(Err(AcquireError::TooMany { waiting: 0 }));
    assert_eq!((poll(pin!(nobody.acquire(1))), nobody.waiting()), (refused, 0));
    clock.advance(SEC);
    assert_eq!(nobody.try_acquire(1), Ok(()), "who was refused has left nothing behind");
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_future_polled_after_it_was_ready_panics() {
    let (limiter, _clock) = limiter(Rate::per_second(1).burst(1));
    let mut acquire = pin!(limiter.acquire(1));
    assert!(poll(acquire.as_mut()).is_ready());
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(acquire)));
    assert!(again.is_err());
}

// Closing.

#[test]
fn a_closed_limiter_tells_whoever_waits_and_whoever_comes() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(2));
    let granted = limiter.acquire(0);
    let mut waiting = [queued(&limiter, 1), queued(&limiter, 2)];
    assert!(!limiter.is_closed() && limiter.close());
    assert!(limiter.is_closed() && !limiter.close(), "it was closed already");
    for waiter in &mut waiting {
        assert_eq!(poll(waiter.as_mut()), Poll::Ready(Err(AcquireError::Closed)));
    }
    clock.advance(HOUR);
    drop(granted);
    for n in [0, 1, 3] {
        assert_eq!(limiter.try_acquire(n), Err(TryAcquireError::Closed), "{n}");
        let closed = Err(AcquireError::Closed);
        assert_eq!(poll(pin!(limiter.acquire(n))), Poll::Ready(closed.clone()), "{n}");
        assert_eq!(limiter.acquire_blocking(n), closed, "{n}");
        assert_eq!(limiter.reserve(n).unwrap_err(), AcquireError::Closed, "{n}");
    }
    assert_eq!((limiter.take_up_to(1), limiter.drain()), (0, 0));
    limiter.charge(1);
    limiter.set_quota(Rate::UNLIMITED.burst(1));
    assert_eq!(limiter.try_acquire(1), Err(TryAcquireError::Closed));
    assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
}

#[test]
fn what_was_granted_before_a_limiter_closed_stays_granted() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let mut granted = queued(&limiter, 1);
    clock.advance(SEC);
    limiter.close();
    assert!(served(&mut granted));
}

// What is in words.

#[test]
fn everything_says_who_it_is_and_how_it_is() {
    let (timer, clock) = selvedge_ratelimit::Timer::manual();
    let quota = Rate::per_second(2).burst(2);
    let limiter = Limiter::builder(quota).timer(timer).named("api").build();
    assert_eq!((limiter.name(), limiter.place().file()), (Some("api"), file!()));
    let text = || format!("{limiter:?}");
    assert!(text().contains("api") && text().contains("2/s burst 2"), "{}", text());
    assert!(text().contains("state: 2 tokens to be had"), "{}", text());
    limiter.try_acquire(2).unwrap();
    clock.advance(100 * MS);
    assert!(text().contains("state: empty, the next token comes in 400ms"), "{}", text());
    let first = queued(&limiter, 1);
    assert!(text().contains("state: 1 waits"), "{}", text());
    let _second = queued(&limiter, 1);
    assert!(text().contains("state: 2 wait"), "{}", text());
    drop(first);
    let acquire = limiter.acquire(7);
    assert!(format!("{acquire:?}").starts_with("Acquire { wanted: 7, place: "), "{acquire:?}");
    assert!(format!("{acquire:?}").contains(file!()), "{acquire:?}");
    limiter.set_rate(Rate::per_hour(7));
    assert!(text().contains("7/h burst 2"), "{}", text());
    limiter.close();
    assert!(text().contains("state: closed"), "{}", text());
    assert!(format!("{:?}", Limiter::builder(quota).named("b")).contains("b ("));
}
