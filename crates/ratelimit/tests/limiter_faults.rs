//! Runtimes, threads, real clocks, and what goes away underneath: timers that are missing or lost, limiters and waiters that are dropped, a race
//! of a hundred thousand.
#![cfg(not(selvedge_loom))]

mod support;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use selvedge_ratelimit::{AcquireError, Limiter, Priority, Rate, TimerError};
use selvedge_testkit::{CountingWaker, block_on, watchdog};
use support::*;

#[test]
fn threads_and_tasks_wait_in_one_line() {
    watchdog(LIMIT, "a limiter", || {
        let limiter = Limiter::new(Rate::every(MS).burst(1));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5).for_each(|_| limiter.acquire_blocking(1).unwrap()));
                scope.spawn(|| (0..5).for_each(|_| block_on(limiter.acquire(1)).unwrap()));
            }
        });
        assert!(start.elapsed() >= 37 * MS, "{:?}", start.elapsed());
    });
}

#[test]
fn blocking_in_a_runtime_of_one_thread_ends_where_the_timer_has_a_thread_of_its_own() {
    watchdog(LIMIT, "a blocked runtime", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let limiter = Limiter::new(Rate::every(5 * MS).burst(1));
            for _ in 0..3 {
                limiter.acquire_blocking(1).unwrap();
            }
        });
    });
}

#[test]
fn a_timer_that_is_gone_ends_every_wait_and_leaves_what_needs_none() {
    let (limiter, clock) = spent(Rate::per_second(1).burst(2));
    let mut line: Vec<_> = [Priority::Low, Priority::High, Priority::Normal]
        .map(|class| queued_as(&limiter, class, 1))
        .into();
    let mut split = standing(limiter.acquire(5).split());
    clock.lose();
    let lost = || Poll::Ready(Err(AcquireError::NoTimer(TimerError::Lost)));
    for waiter in line.iter_mut().chain([&mut split]) {
        assert_eq!(poll(waiter.as_mut()), lost());
    }
    assert_eq!(limiter.waiting(), 0);
    // Who comes later is told at once, and nobody stands in line for ever.
    let task = CountingWaker::new();
    let waker = task.waker();
    let mut late = pin!(limiter.acquire(1));
    let polled = late.as_mut().poll(&mut Context::from_waker(&waker));
    let polled = if polled.is_pending() {
        assert_eq!(task.wakes(), 1);
        poll(late)
    } else {
        polled
    };
    assert_eq!(polled, lost());
    assert_eq!(limiter.acquire_blocking(2), Err(AcquireError::NoTimer(TimerError::Lost)));
    let text = AcquireError::NoTimer(TimerError::Lost).to_string();
    assert_eq!(text, "tokens not acquired: nothing tells when they come");
    // The clock still tells what has come.
    clock.advance(SEC);
    assert_eq!(limiter.try_acquire(1), Ok(()));
    assert_eq!(limiter.acquire_blocking(0), Ok(()));
    limiter.set_rate(Rate::UNLIMITED);
    assert_eq!(limiter.acquire_blocking(7), Ok(()));
}

#[test]
fn an_owned_wait_keeps_the_limiter_alive() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let mut first = standing(limiter.acquire_owned(1));
    let mut second = standing(limiter.acquire_owned(1).priority(Priority::Low));
    let granted = standing(limiter.acquire_owned(1).priority(Priority::High));
    drop(limiter);
    clock.advance(SEC);
    drop(granted);
    assert!(served(&mut first));
    clock.advance(SEC);
    assert!(served(&mut second));
    drop((first, second));
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_limiter_that_goes_with_its_last_waiter_leaves_nothing_behind() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let waits = standing(limiter.acquire_owned(1));
    drop(limiter);
    assert_eq!(clock.registered(), 1);
    drop(waits);
    assert_eq!(clock.registered(), 0);
    clock.advance(HOUR);
}

#[test]
fn whoever_leaves_at_the_head_in_the_middle_or_at_the_tail_takes_nothing_along() {
    for granted in [false, true] {
        for leaver in 0..5 {
            let (limiter, clock) = spent(Rate::every(SEC).burst(5));
            let mut line: Vec<_> = (0..5).map(|_| queued(&limiter, 1)).collect();
            if granted {
                clock.advance(5 * SEC);
            }
            drop(line.remove(leaver));
            if !granted {
                clock.advance(4 * SEC);
            }
            assert_eq!(serve(&mut line), 4, "without {leaver}, granted: {granted}");
            assert_eq!(limiter.available(), u32::from(granted));
            assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
        }
    }
}

/// Threads wait, give up, take, and move the clock, at random: what was used and what is left is exactly what came.
#[test]
fn in_a_race_of_waits_and_cancels_no_token_is_lost_and_none_is_made() {
    watchdog(2 * LIMIT, "waits and cancels", || {
        const ROUNDS: u64 = 50_000;
        // A burst that is never full, so that nothing is beyond it.
        let (limiter, clock) = spent(Rate::per_second(1_000_000).burst(u32::MAX));
        let (clock, used) = (Arc::new(clock), Arc::new(AtomicU64::new(0)));
        let race = |seed: u64| {
            let (limiter, clock, used) = (limiter.clone(), Arc::clone(&clock), Arc::clone(&used));
            std::thread::spawn(move || {
                let (mut random, mut micros) = (seed, 0);
                let mut mine: Vec<Waiter<'static>> = Vec::new();
                for _ in 0..ROUNDS {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let dice = (random >> 33) as u32;
                    let (n, more) = (1 + dice % 3, dice / 27);
                    match dice / 3 % 9 {
                        0..3 => {
                            let class = [Priority::High, Priority::Normal, Priority::Low];
                            let waits = limiter.acquire_owned(n).priority(class[more as usize % 3]);
                            let mut waits = Box::pin(waits);
                            match poll(waits.as_mut()) {
                                Poll::Ready(got) => {
                                    got.unwrap();
                                    used.fetch_add(n.into(), Ordering::Relaxed);
                                }
                                Poll::Pending => mine.push(waits),
                            }
                        }
                        3..6 if !mine.is_empty() => {
                            drop(mine.swap_remove(more as usize % mine.len()));
                        }
                        6..8 => {
                            clock.advance(1_000 * NS);
                            micros += 1;
                        }
                        _ => {
                            if limiter.try_acquire(n).is_ok() {
                                used.fetch_add(n.into(), Ordering::Relaxed);
                            }
                        }
                    }
                }
                micros
            })
        };
        let threads = [1, 2].map(race);
        let micros: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let used = used.load(Ordering::Relaxed);
        assert_eq!(used + u64::from(limiter.available()), micros);
        assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
        assert!(used > 0);
    });
}

/// The same on std's clock, where alarms ring by themselves: nobody is forgotten.
#[test]
fn in_a_race_with_the_timer_everybody_who_stays_is_served() {
    watchdog(2 * LIMIT, "waits, cancels and alarms", || {
        let limiter = Limiter::new(Rate::per_second(200_000).burst(3));
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let fickle = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut waits = Box::pin(limiter.acquire(2));
                    let _ = poll(waits.as_mut());
                }
            });
            let stays =
                |_| scope.spawn(|| (0..2_000).for_each(|_| limiter.acquire_blocking(1).unwrap()));
            let threads: Vec<_> = (0..2).map(stays).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            stop.store(true, Ordering::Relaxed);
            fickle.join().unwrap();
        });
        assert_eq!(limiter.waiting(), 0);
    });
}

#[test]
fn closing_under_waiting_threads_ends_them_all() {
    watchdog(LIMIT, "closing", || {
        for _ in 0..50 {
            let limiter = Limiter::new(Rate::every(HOUR).burst(1));
            std::thread::scope(|scope| {
                let wait = |_| scope.spawn(|| limiter.acquire_blocking(1));
                let threads: Vec<_> = (0..3).map(wait).collect();
                while limiter.available() > 0 {
                    std::thread::yield_now();
                }
                limiter.close();
                let told = threads.into_iter().map(|thread| thread.join().unwrap());
                let told: Vec<_> = told.collect();
                let served = told.iter().filter(|told| told.is_ok()).count();
                let closed = told.iter().filter(|told| **told == Err(AcquireError::Closed)).count();
                assert_eq!((served, closed), (1, 2));
            });
        }
    });
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use super::*;
    use selvedge_ratelimit::Timer;
    use selvedge_testkit::yield_now;
    use tokio::runtime::Builder;
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

    #[tokio::test(start_paused = true)]
    async fn paused_time_is_exact_for_reservations_and_tasks() {
        let limiter = Limiter::with_timer(Rate::per_second(4).burst(1), Timer::ambient().unwrap());
        let start = Instant::now();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let acquire = limiter.acquire_owned(1);
                tokio::spawn(async move {
                    acquire.await.unwrap();
                    start.elapsed()
                })
            })
            .collect();
        yield_now().await;
        let mut reserved = limiter.reserve(1).unwrap();
        for (at, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), 250 * MS * at as u32);
        }
        assert_eq!(reserved.due_in(), Some(250 * MS));
        reserved.ready().await.unwrap();
        assert_eq!(start.elapsed(), SEC);
    }

    #[test]
    fn a_runtime_that_is_shut_down_ends_the_wait_of_another_thread() {
        watchdog(LIMIT, "a limiter", || {
            let runtime = Builder::new_multi_thread().enable_time().build().unwrap();
            let timer = Timer::tokio(runtime.handle()).unwrap();
            let limiter = Limiter::with_timer(Rate::every(HOUR).burst(1), timer);
            limiter.try_acquire(1).unwrap();
            let other = limiter.clone();
            let waits = std::thread::spawn(move || other.acquire_blocking(1));
            while limiter.waiting() == 0 {
                std::thread::yield_now();
            }
            drop(runtime);
            let lost = Err(AcquireError::NoTimer(TimerError::Lost));
            assert_eq!(waits.join().unwrap(), lost);
            assert_eq!(
                (limiter.acquire_blocking(1), block_on(limiter.acquire(1))),
                (lost.clone(), lost)
            );
            assert!(limiter.try_acquire(1).is_err());
            assert_eq!((limiter.available(), limiter.waiting()), (0, 0));
        });
    }

    #[test]
    fn a_task_that_waits_is_dropped_with_its_runtime() {
        watchdog(LIMIT, "a limiter", || {
            let runtime = Builder::new_multi_thread().enable_time().build().unwrap();
            let limiter = Limiter::new(Rate::every(HOUR).burst(1));
            limiter.try_acquire(1).unwrap();
            runtime.spawn(limiter.acquire_owned(1));
            while limiter.waiting() == 0 {
                std::thread::yield_now();
            }
            drop(runtime);
            assert_eq!(limiter.waiting(), 0);
        });
    }

    #[test]
    fn a_runtime_without_its_time_driver_is_enough_for_the_default_clock() {
        watchdog(LIMIT, "a runtime without time", || {
            let runtime = Builder::new_current_thread().build().unwrap();
            let ambient = runtime.block_on(async { Timer::ambient() });
            assert_eq!(ambient.unwrap_err(), TimerError::Disabled);
            let limiter = Limiter::new(Rate::every(MS).burst(1));
            runtime.block_on(async {
                limiter.acquire(1).await.unwrap();
                limiter.acquire(1).await.unwrap();
                let mut reserved = limiter.reserve(1).unwrap();
                reserved.ready().await.unwrap();
            });
        });
    }

    #[test]
    fn a_limiter_serves_two_runtimes_and_a_thread() {
        watchdog(LIMIT, "two runtimes", || {
            let limiter = Limiter::new(Rate::every(MS).burst(1));
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                        runtime.block_on(async {
                            for _ in 0..5 {
                                limiter.acquire(1).await.unwrap();
                            }
                        });
                    });
                }
                (0..5).for_each(|_| limiter.acquire_blocking(1).unwrap());
            });
        });
    }

    #[tokio::test(flavor = "current_thread")]
    async fn always_ready_loops_yield_to_tokio() {
        let limiter = Limiter::new(Rate::per_second(Rate::MAX_PER_SECOND).burst(u32::MAX));
        let ctx = selvedge_cancel::Context::background();
        let mut reserved = limiter.reserve(1).unwrap();
        let enough = 10_000 / 128 - 1;
        let turns = turns_of_another(async {
            for _ in 0..10_000 {
                limiter.acquire(1).await.unwrap();
            }
        });
        assert!(turns.await >= enough);
        let turns = turns_of_another(async {
            for _ in 0..10_000 {
                limiter.acquire_in(&ctx, 1).await.unwrap();
            }
        });
        assert!(turns.await >= enough);
        let turns = turns_of_another(async {
            for _ in 0..10_000 {
                limiter.acquire_owned(0).await.unwrap();
            }
        });
        assert!(turns.await >= enough);
        let turns = turns_of_another(async {
            for _ in 0..10_000 {
                reserved.ready().await.unwrap();
            }
        });
        assert!(turns.await >= enough);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_blocking_wait_is_no_matter_of_the_budget() {
        let limiter = Limiter::new(Rate::per_second(Rate::MAX_PER_SECOND).burst(u32::MAX));
        for _ in 0..1_000 {
            limiter.acquire_blocking(1).unwrap();
        }
    }
}

/// On std's clock a refusal that is far away is told by the kernel's coarse clock, which is late.
mod far_away {
    use super::*;

    #[test]
    fn a_refusal_tells_a_time_after_which_it_is_granted() {
        let limiter = Limiter::new(Rate::every(150 * MS).burst(1));
        limiter.try_acquire(1).unwrap();
        let start = Instant::now();
        let waits = [(); 100].map(|()| limiter.try_acquire(1).unwrap_err().retry_in().unwrap());
        assert!(waits.iter().all(|wait| *wait <= 150 * MS + 25 * MS), "{waits:?}");
        std::thread::sleep(waits[99]);
        assert_eq!(limiter.try_acquire(1), Ok(()));
        assert!(start.elapsed() >= 149 * MS, "{:?}", start.elapsed());
    }

    #[test]
    fn a_small_request_is_granted_while_a_large_one_is_far_away() {
        for left in [1, 5, 60] {
            let builder = || Limiter::builder(Rate::per_hour(1).burst(64));
            let mut limiters = vec![builder().build(), builder().leased().build()];
            #[cfg(feature = "tsc")]
            limiters.push(builder().tsc_clock().build());
            for limiter in limiters.drain(..) {
                assert_eq!(limiter.take_up_to(64 - left), 64 - left);
                for rest in (1..=left).rev() {
                    assert!((0..3).all(|_| limiter.try_acquire(rest + 1).is_err()));
                    assert_eq!(limiter.try_acquire(1), Ok(()), "{rest} of {left}: {limiter:?}");
                }
                assert!((0..3).all(|_| limiter.try_acquire(1).is_err()));
            }
        }
    }

    #[test]
    fn one_that_warms_up_is_not_refused_by_a_step_that_is_over() {
        let warms_up = || Limiter::builder(Rate::per_second(1_000).burst(500)).warm_up(SEC / 2);
        for limiter in [warms_up().build(), warms_up().leased().build()] {
            assert_eq!(limiter.take_up_to(500), 500);
            let start = Instant::now();
            while limiter.try_acquire(500).is_err() {
                assert!(start.elapsed() < 20 * SEC, "{limiter:?}");
                std::thread::sleep(MS);
            }
            // A third of the rate at first, all of it from half a second on.
            assert!(start.elapsed() >= 600 * MS, "{:?}", start.elapsed());
        }
    }

    #[test]
    fn who_tries_all_the_time_is_not_early() {
        let limiter = Limiter::new(Rate::every(100 * MS).burst(1));
        limiter.try_acquire(1).unwrap();
        let start = Instant::now();
        while limiter.try_acquire(1).is_err() {}
        assert!(start.elapsed() >= 99 * MS, "{:?}", start.elapsed());
    }

    #[test]
    fn whatever_makes_tokens_come_sooner_is_seen_at_once() {
        let limiter = Limiter::new(Rate::every(HOUR).burst(2));
        let far = || assert!((0..10).all(|_| limiter.try_acquire(1).is_err()));
        let reserved = limiter.reserve(2).unwrap();
        far();
        assert_eq!(reserved.cancel(), 2);
        assert_eq!(limiter.drain(), 2);
        far();
        limiter.set_burst(3);
        assert_eq!(limiter.try_acquire(1), Ok(()));
        far();
        limiter.set_rate(Rate::UNLIMITED);
        assert_eq!(limiter.try_acquire(7), Ok(()));
        limiter.set_rate(Rate::every(HOUR));
        assert_eq!(limiter.drain(), 3);
        far();
        limiter.close();
        assert_eq!(limiter.try_acquire(1), Err(selvedge_ratelimit::TryAcquireError::Closed));
    }

    #[test]
    fn what_is_above_the_burst_is_told_also_when_all_is_far_away() {
        let limiter = Limiter::new(Rate::every(HOUR).burst(2));
        limiter.drain();
        for _ in 0..10 {
            assert!(limiter.try_acquire(1).unwrap_err().retry_in().is_some());
            assert_eq!(limiter.try_acquire(3).unwrap_err().retry_in(), None);
        }
    }
}
