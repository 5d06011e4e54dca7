//! The limiter on a clock that is moved by hand: bursts and ticks, the line, what leaves it, the clock's
//! caprices, the timer that is gone.
#![cfg(not(selvedge_loom))]

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use selvedge_ratelimit::{
    Acquire, AcquireError, Limiter, ManualClock, Quota, Rate, Timer, TimerError, TryAcquireError,
};
use selvedge_testkit::{CountingWaker, PanickingWaker, ReentrantWaker, block_on, watchdog};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

/// A limiter on a clock of its own.
fn limiter(quota: Quota) -> (Limiter, ManualClock) {
    let (timer, clock) = Timer::manual();
    (Limiter::with_timer(quota, timer), clock)
}

/// Nothing is left of the burst.
fn spent(quota: Quota) -> (Limiter, ManualClock) {
    let (limiter, clock) = limiter(quota);
    limiter.try_acquire(quota.burst_size()).unwrap();
    (limiter, clock)
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// In line for `n` tokens.
fn queued(limiter: &Limiter, n: u32) -> Pin<Box<Acquire<'_>>> {
    let mut acquire = Box::pin(limiter.acquire(n));
    assert!(poll(acquire.as_mut()).is_pending());
    acquire
}

fn served(acquire: &mut Pin<Box<Acquire<'_>>>) -> bool {
    poll(acquire.as_mut()).map(Result::unwrap).is_ready()
}

/// How many single tokens are to be had now.
fn drain(limiter: &Limiter) -> u32 {
    std::iter::from_fn(|| limiter.try_acquire(1).ok()).count() as u32
}

// Smoke.

#[test]
fn a_burst_is_there_at_once_and_then_one_at_a_time() {
    let (limiter, clock) = limiter(Rate::per_second(10).burst(3));
    assert_eq!((limiter.available(), drain(&limiter)), (3, 3));
    for _ in 0..20 {
        clock.advance(100 * MS - Duration::from_nanos(1));
        assert_eq!(limiter.try_acquire(1), Err(TryAcquireError::NotYet));
        clock.advance(Duration::from_nanos(1));
        assert_eq!(drain(&limiter), 1);
    }
}

#[test]
fn a_tick_saves_nothing_up() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    assert_eq!(drain(&limiter), 1);
    clock.advance(3600 * SEC);
    assert_eq!(drain(&limiter), 1);
}

#[test]
fn what_is_beyond_the_burst_is_gone() {
    let (limiter, clock) = spent(Rate::per_second(10).burst(5));
    clock.advance(300 * MS);
    assert_eq!(limiter.available(), 3);
    clock.advance(3600 * SEC);
    assert_eq!((limiter.available(), drain(&limiter)), (5, 5));
}

#[test]
fn tokens_of_different_weight_come_from_one_bucket() {
    let (limiter, clock) = limiter(Rate::per_second(10).burst(10));
    limiter.try_acquire(7).unwrap();
    assert_eq!(limiter.try_acquire(4), Err(TryAcquireError::NotYet));
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
    clock.advance(200 * MS - Duration::from_nanos(1));
    assert_eq!(task.wakes(), 0);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(task.wakes(), 1);
    assert_eq!(poll(acquire), Poll::Ready(Ok(())));
    assert_eq!((limiter.available(), clock.registered()), (0, 0));
}

#[test]
fn clones_are_handles_to_one_limiter() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(2));
    let other = limiter.clone();
    limiter.try_acquire(1).unwrap();
    assert_eq!((other.available(), drain(&other), limiter.available()), (1, 1, 0));
}

#[test]
fn it_says_when_tokens_will_be_there() {
    let (limiter, clock) = limiter(Rate::per_second(4).burst(8));
    assert_eq!(limiter.ready_in(8), Some(Duration::ZERO));
    limiter.try_acquire(8).unwrap();
    assert_eq!(limiter.ready_in(1), Some(250 * MS));
    assert_eq!(limiter.ready_in(8), Some(2 * SEC));
    clock.advance(100 * MS);
    assert_eq!(limiter.ready_in(1), Some(150 * MS));
    assert_eq!((limiter.ready_in(0), limiter.ready_in(9)), (Some(Duration::ZERO), None));
}

// The line.

#[test]
fn they_are_served_in_the_order_in_which_they_came_and_nobody_overtakes() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(5));
    let mut large = queued(&limiter, 3);
    let mut small = queued(&limiter, 1);
    clock.advance(2 * SEC);
    assert_eq!(limiter.available(), 2);
    assert_eq!(limiter.try_acquire(1), Err(TryAcquireError::NotYet), "there, but not for us");
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
    assert_eq!(clock.registered(), 1);
    clock.advance(500 * MS);
    assert_eq!(line.iter_mut().filter_map(|one| served(one).then_some(())).count(), 500);
    assert_eq!(clock.registered(), 1);
    drop(line);
    assert_eq!(clock.registered(), 0);
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
fn who_leaves_the_line_lets_everybody_behind_it_move_up() {
    for leaver in 0..3 {
        let (limiter, clock) = spent(Rate::per_second(1).burst(4));
        let mut line: Vec<_> = [4, 2, 1].map(|n| queued(&limiter, n)).into();
        drop(line.remove(leaver));
        let dues: &[u32] = [&[2, 3][..], &[4, 5], &[4, 6]][leaver];
        let mut now = 0;
        for (waiter, due) in line.iter_mut().zip(dues) {
            clock.advance((due - now) * SEC - Duration::from_nanos(1));
            assert!(!served(waiter), "without {leaver}, {due}");
            clock.advance(Duration::from_nanos(1));
            assert!(served(waiter), "without {leaver}, {due}");
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
    assert_eq!(drain(&limiter), 1);
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
    assert_eq!(drain(&limiter), 2, "three at this moment, with the one that was taken");

    // One of five that come back late is still above what has come.
    let (limiter, clock) = spent(Rate::every(SEC).burst(5));
    let granted = queued(&limiter, 5);
    clock.advance(5 * SEC);
    clock.advance(4 * SEC + Duration::from_millis(2));
    assert_eq!(drain(&limiter), 4);
    drop(granted);
    assert_eq!(drain(&limiter), 1);
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
        assert_eq!(drain(&limiter), 4, "newest first: {newest_first}");
    }
}

/// More are granted than are woken with the lock held once; the waker of the first lets an hour go by.
#[test]
fn what_is_granted_behind_a_waker_that_takes_an_hour_counts_from_then() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(40));
    let clock = std::sync::Arc::new(clock);
    let hour = ReentrantWaker::on_wake_and_drop(
        {
            let clock = std::sync::Arc::clone(&clock);
            move || clock.advance(3600 * SEC)
        },
        || {},
    );
    let mut first = Box::pin(limiter.acquire(1));
    assert!(first.as_mut().poll(&mut Context::from_waker(&hour.waker())).is_pending());
    let mut others: Vec<_> = (1..40).map(|_| queued(&limiter, 1)).collect();
    clock.advance(40 * SEC);
    let late = others[31..].iter_mut().map(served).filter(|served| *served).count();
    assert_eq!(late, 8, "granted behind the waker");
    assert!(late as u32 + drain(&limiter) <= 41, "more than the burst, and one for the 2 ms");
}

/// At a rate at which there is always a token, whoever is woken comes again at once: whoever serves is not
/// kept at it, but leaves the newcomers to an alarm.
#[test]
fn who_serves_serves_those_who_were_there_and_the_others_are_served_as_well() {
    use std::sync::{Arc, Mutex};

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
fn at_the_end_of_the_count_nothing_comes_and_nobody_hangs() {
    watchdog(Duration::from_secs(30), "the end of the count", || {
        let (limiter, clock) = limiter(Rate::per_second(4_000_000_000).burst(2));
        clock.advance(Duration::from_secs(100 * 366 * 86_400));
        assert_eq!(drain(&limiter), 2);
        assert_eq!(limiter.ready_in(1), None);
        let mut waits = queued(&limiter, 1);
        assert_eq!(clock.registered(), 0, "it will never ring");
        clock.advance(SEC);
        assert!(!served(&mut waits));
    });
}

#[test]
fn within_two_milliseconds_everything_comes_back() {
    let (limiter, clock) = spent(Rate::per_second(1_000).burst(1));
    let granted = queued(&limiter, 1);
    clock.advance(Duration::from_millis(1));
    clock.advance(Duration::from_millis(2));
    // What it was granted then, and what has come since.
    assert_eq!(drain(&limiter), 1);
    drop(granted);
    assert_eq!(drain(&limiter), 1);
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
fn an_alarm_that_rings_late_by_two_milliseconds_loses_nothing() {
    let (limiter, clock) = spent(Rate::per_second(10_000).burst(1));
    let mut line: Vec<_> = (0..100).map(|_| queued(&limiter, 1)).collect();
    // Each advance is one ring, twenty tokens after the one before.
    for ring in 1..=5 {
        clock.advance(Limiter::CATCH_UP);
        line.retain_mut(|waiter| !served(waiter));
        assert_eq!(line.len(), 100 - 20 * ring);
    }
    assert_eq!((limiter.available(), clock.registered()), (0, 0));
}

#[test]
fn what_came_in_an_hour_in_which_no_alarm_could_ring_is_gone() {
    let (limiter, clock) = spent(Rate::per_second(10_000).burst(3));
    let mut line: Vec<_> = (0..100).map(|_| queued(&limiter, 1)).collect();
    clock.advance(3600 * SEC);
    line.retain_mut(|waiter| !served(waiter));
    assert_eq!(line.len(), 100 - 3 - 20);
}

#[test]
fn an_owned_wait_borrows_nothing() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let mut acquire = pin!(limiter.acquire_owned(1));
    assert!(poll(acquire.as_mut()).is_pending());
    drop(limiter);
    clock.advance(SEC);
    assert_eq!(poll(acquire.as_mut()), Poll::Ready(Ok(())));
}

#[test]
fn threads_and_tasks_wait_in_one_line() {
    watchdog(Duration::from_secs(30), "a limiter", || {
        let limiter = Limiter::new(Rate::every(MS).burst(1));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5).for_each(|_| limiter.acquire_blocking(1).unwrap()));
                scope.spawn(|| (0..5).for_each(|_| block_on(limiter.acquire(1)).unwrap()));
            }
        });
        assert!(start.elapsed() >= 39 * MS, "{:?}", start.elapsed());
    });
}

#[test]
fn blocking_in_a_runtime_of_one_thread_ends_where_the_timer_has_a_thread_of_its_own() {
    watchdog(Duration::from_secs(30), "a blocked runtime", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let limiter = Limiter::new(Rate::every(5 * MS).burst(1));
            for _ in 0..3 {
                limiter.acquire_blocking(1).unwrap();
            }
        });
    });
}

// Wakers.

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
fn a_waker_may_use_the_limiter() {
    let (limiter, clock) = spent(Rate::per_second(2).burst(2));
    let inner = limiter.clone();
    let reentrant = ReentrantWaker::on_wake_and_drop(
        {
            let limiter = inner.clone();
            move || {
                let _ = limiter.try_acquire(1);
                drop(queued(&limiter, 2));
            }
        },
        move || {
            let _ = inner.try_acquire(0);
        },
    );
    let mut first = Box::pin(limiter.acquire(1));
    assert!(first.as_mut().poll(&mut Context::from_waker(&reentrant.waker())).is_pending());
    clock.advance(500 * MS);
    assert_eq!(reentrant.wakes(), 1);
    assert!(served(&mut first));
    assert_eq!(clock.registered(), 0);
}

// Bad input, and clocks.

#[test]
fn more_than_the_burst_is_an_error_at_once_and_blocks_nobody() {
    let (limiter, _clock) = limiter(Rate::per_second(1).burst(2));
    let error = AcquireError::OverBurst { wanted: 3, burst: 2 };
    assert_eq!(poll(pin!(limiter.acquire(3))), Poll::Ready(Err(error.clone())));
    assert_eq!(limiter.acquire_blocking(u32::MAX).unwrap_err().to_string(), {
        "tokens not acquired: 4294967295 wanted, the burst is 2"
    });
    let refused = limiter.try_acquire(3);
    assert_eq!(refused, Err(TryAcquireError::OverBurst { wanted: 3, burst: 2 }));
    assert_eq!(drain(&limiter), 2);
}

#[test]
fn nothing_is_always_to_be_had_and_waits_behind_nobody() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let _front = queued(&limiter, 1);
    assert_eq!(limiter.try_acquire(0), Ok(()));
    assert_eq!(poll(pin!(limiter.acquire(0))), Poll::Ready(Ok(())));
    assert_eq!(limiter.acquire_blocking(0), Ok(()));
    assert_eq!(clock.registered(), 1);
}

#[test]
fn the_largest_burst_is_had_at_once_and_comes_again() {
    let (limiter, clock) = limiter(Rate::per_second(Rate::MAX_PER_SECOND).burst(u32::MAX));
    limiter.try_acquire(u32::MAX).unwrap();
    assert_eq!(limiter.available(), 0);
    let mut again = queued(&limiter, u32::MAX);
    clock.advance(2 * SEC);
    assert!(served(&mut again));
}

#[test]
fn a_token_in_five_hundred_years_is_waited_for() {
    let year = Duration::from_secs(31_556_952);
    let (limiter, clock) = spent(Rate::every(500 * year).burst(1));
    let mut acquire = queued(&limiter, 1);
    clock.advance(499 * year);
    assert!(!served(&mut acquire));
    clock.advance(year);
    assert!(served(&mut acquire));
    // The count ends after 584 years: what would come later never does, and hangs nothing but its wait.
    let mut never = queued(&limiter, 1);
    assert_eq!((limiter.ready_in(1), clock.registered()), (None, 0));
    clock.advance(10_000 * year);
    assert!(!served(&mut never));
    assert_eq!(limiter.try_acquire(1), Err(TryAcquireError::NotYet));
}

#[test]
fn a_clock_that_stands_still_admits_the_burst_and_nothing_more() {
    let (limiter, _clock) = limiter(Rate::per_second(Rate::MAX_PER_SECOND).burst(7));
    assert_eq!(drain(&limiter), 7);
}

#[test]
fn a_clock_that_leaps_forward_admits_the_burst() {
    let (limiter, clock) = spent(Rate::per_second(1000).burst(7));
    clock.advance(Duration::from_secs(31_556_952));
    assert_eq!(drain(&limiter), 7);
}

#[test]
fn a_timer_that_is_gone_ends_every_wait_and_leaves_what_needs_none() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(2));
    let mut first = queued(&limiter, 1);
    let mut second = queued(&limiter, 2);
    clock.lose();
    for waiter in [&mut first, &mut second] {
        let error = AcquireError::NoTimer(TimerError::Lost);
        assert_eq!(poll(waiter.as_mut()), Poll::Ready(Err(error)));
    }
    // Who comes later is told at once, and nobody stands in line for ever.
    let mut late = pin!(limiter.acquire(1));
    let polled = match poll(late.as_mut()) {
        Poll::Pending => poll(late),
        ready => ready,
    };
    assert_eq!(polled, Poll::Ready(Err(AcquireError::NoTimer(TimerError::Lost))));
    assert_eq!(limiter.acquire_blocking(2), Err(AcquireError::NoTimer(TimerError::Lost)));
}

#[test]
fn a_future_polled_after_it_was_ready_panics() {
    let (limiter, _clock) = limiter(Rate::per_second(1).burst(1));
    let mut acquire = pin!(limiter.acquire(1));
    assert!(poll(acquire.as_mut()).is_ready());
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(acquire)));
    assert!(again.is_err());
}

#[test]
fn everything_says_who_it_is() {
    let (limiter, _clock) = spent(Rate::per_second(1).burst(2));
    let limiter = limiter.named("api");
    let _front = queued(&limiter, 1);
    assert_eq!((limiter.name(), limiter.place().file()), (Some("api"), file!()));
    let text = format!("{limiter:?}");
    assert!(text.contains("api") && text.contains("waited_for: true"), "{text}");
    assert!(format!("{:?}", limiter.acquire(2)).starts_with("Acquire { wanted: 2"));
    assert!(format!("{:?}", limiter.acquire_owned(2)).starts_with("AcquireOwned { wanted: 2"));
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use super::*;
    use selvedge_testkit::yield_now;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn paused_time_is_enough() {
        let limiter = Limiter::with_timer(Rate::per_second(4).burst(2), Timer::ambient().unwrap());
        let start = Instant::now();
        for _ in 0..42 {
            limiter.acquire(1).await.unwrap();
        }
        assert_eq!(start.elapsed(), 10 * SEC);
        assert!(timeout(249 * MS, limiter.acquire(1)).await.is_err());
        assert!(timeout(2 * MS, limiter.acquire(1)).await.is_ok(), "it is the same token");
    }

    #[test]
    fn a_runtime_that_is_shut_down_ends_the_wait_of_another_thread() {
        watchdog(Duration::from_secs(30), "a limiter", || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
            let timer = Timer::tokio(runtime.handle()).unwrap();
            let limiter = Limiter::with_timer(Rate::every(3600 * SEC).burst(1), timer);
            limiter.try_acquire(1).unwrap();
            let (one, other) = (limiter.clone(), limiter.clone());
            let waits = std::thread::spawn(move || one.acquire_blocking(1));
            while !format!("{other:?}").contains("waited_for: true") {
                std::thread::yield_now();
            }
            drop(runtime);
            assert_eq!(waits.join().unwrap(), Err(AcquireError::NoTimer(TimerError::Lost)));
        });
    }

    #[test]
    fn a_runtime_without_its_time_driver_is_enough_for_the_default_clock() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(async { Timer::ambient() }).is_err());
        let limiter = Limiter::new(Rate::every(MS).burst(1));
        runtime.block_on(async {
            limiter.acquire(1).await.unwrap();
            limiter.acquire(1).await.unwrap();
        });
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_always_ready_loop_yields_to_tokio() {
        let limiter = Limiter::new(Rate::per_second(Rate::MAX_PER_SECOND).burst(u32::MAX));
        let turns = std::rc::Rc::new(std::cell::Cell::new(0));
        let local = tokio::task::LocalSet::new();
        let counted = turns.clone();
        local.spawn_local(async move {
            loop {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        });
        local
            .run_until(async {
                for _ in 0..10_000 {
                    limiter.acquire(1).await.unwrap();
                }
            })
            .await;
        assert!(turns.get() >= 10_000 / 128 - 1, "{}", turns.get());
    }
}
