//! The semaphore on one thread and on many: smoke, capacity, close, cancel, drop, panic.
#![cfg(not(selvedge_loom))]

use std::cell::RefCell;
use std::collections::HashSet;
#[cfg(feature = "tokio")]
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use selvedge_sync::{
    Acquire, AcquireError, AcquireOwned, OwnedPermit, Permit, Semaphore, TryAcquireError,
};
use selvedge_testkit::watchdog;

/// Far above anything a healthy run takes.
const WATCHDOG: Duration = Duration::from_secs(30);

/// Runs `test`; a hang is a failure.
#[track_caller]
fn within_reason<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    watchdog(WATCHDOG, "the semaphore", test)
}

/// Polls with a waker that does nothing.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls once; it waits now.
#[track_caller]
fn waits<F: Future>(future: Pin<&mut F>) {
    assert!(poll_once(future).is_pending());
}

/// Polls once; it is served.
#[track_caller]
fn served<T, E: std::fmt::Debug>(future: Pin<&mut impl Future<Output = Result<T, E>>>) -> T {
    match poll_once(future) {
        Poll::Ready(Ok(permit)) => permit,
        Poll::Ready(Err(error)) => panic!("{error:?}"),
        Poll::Pending => panic!("still waits"),
    }
}

/// Counts wakes.
struct Count(AtomicUsize);

impl Count {
    fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self(AtomicUsize::new(0)));
        (Arc::clone(&count), count.into())
    }

    fn wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs a closure in its wake.
struct OnWake<F: Fn() + Send + Sync + 'static>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn on_wake(f: impl Fn() + Send + Sync + 'static) -> Waker {
    Arc::new(OnWake(f)).into()
}

// Smoke.

#[test]
fn a_permit_goes_back_when_it_is_dropped() {
    let semaphore = Semaphore::new(2);
    let permit = semaphore.try_acquire(2).unwrap();
    assert_eq!(permit.count(), 2);
    assert_eq!(semaphore.available(), 0);
    drop(permit);
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn a_waiter_is_woken_once_when_its_permit_comes() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let (count, waker) = Count::new();
    let mut acquire = pin!(semaphore.acquire(1));
    let mut cx = Context::from_waker(&waker);
    assert!(acquire.as_mut().poll(&mut cx).is_pending());
    assert!(acquire.as_mut().poll(&mut cx).is_pending());
    assert_eq!(count.wakes(), 0);
    drop(permit);
    assert_eq!(count.wakes(), 1);
    assert_eq!(served(acquire).count(), 1);
    assert_eq!(semaphore.available(), 1);
    assert_eq!(count.wakes(), 1);
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let ((old, old_waker), (new, new_waker)) = (Count::new(), Count::new());
    let mut acquire = pin!(semaphore.acquire(1));
    assert!(acquire.as_mut().poll(&mut Context::from_waker(&old_waker)).is_pending());
    assert!(acquire.as_mut().poll(&mut Context::from_waker(&new_waker)).is_pending());
    drop(permit);
    assert_eq!((old.wakes(), new.wakes()), (0, 1));
    assert_eq!(Arc::strong_count(&old), 2, "the old waker was dropped by the semaphore");
}

#[test]
fn waiters_are_served_in_the_order_of_their_first_poll() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let mut made_first = pin!(semaphore.acquire(1));
    let mut polled_first = pin!(semaphore.acquire(1));
    waits(polled_first.as_mut());
    waits(made_first.as_mut());
    drop(permit);
    waits(made_first.as_mut());
    let permit = served(polled_first);
    drop(permit);
    drop(served(made_first));
}

#[test]
fn a_small_request_does_not_overtake_a_large_one() {
    let semaphore = Semaphore::new(3);
    let two = semaphore.try_acquire(2).unwrap();
    let mut large = pin!(semaphore.acquire(3));
    let mut small = pin!(semaphore.acquire(1));
    waits(large.as_mut());
    waits(small.as_mut());
    assert_eq!(semaphore.available(), 1);
    assert_eq!(semaphore.try_acquire(1).unwrap_err(), TryAcquireError::NoPermits);
    drop(two);
    let three = served(large);
    waits(small.as_mut());
    drop(three);
    drop(served(small));
    assert_eq!(semaphore.available(), 3);
}

#[test]
fn one_release_serves_all_that_it_covers() {
    let semaphore = Semaphore::new(10);
    let all = semaphore.try_acquire(10).unwrap();
    let mut waiters: Vec<_> = [3, 4, 2, 2].map(|n| Box::pin(semaphore.acquire(n))).into();
    for waiter in &mut waiters {
        waits(waiter.as_mut());
    }
    drop(all);
    assert_eq!(semaphore.available(), 1);
    let permits: Vec<_> = waiters[..3].iter_mut().map(|waiter| served(waiter.as_mut())).collect();
    waits(waiters[3].as_mut());
    drop(permits);
    drop(served(waiters[3].as_mut()));
    assert_eq!(semaphore.available(), 10);
}

#[test]
fn owned_and_borrowed_and_blocking_stand_in_one_line() {
    within_reason(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.try_acquire_owned(1).unwrap();
        let mut owned = Box::pin(semaphore.acquire_owned(1));
        waits(owned.as_mut());
        let order = Arc::new(Mutex::new(Vec::new()));
        let blocked = {
            let (semaphore, order) = (Arc::clone(&semaphore), Arc::clone(&order));
            thread::spawn(move || {
                let _permit = semaphore.acquire_blocking(1).unwrap();
                order.lock().unwrap().push("blocking");
            })
        };
        drop(permit);
        let permit = served(owned.as_mut());
        order.lock().unwrap().push("owned");
        drop(permit);
        blocked.join().unwrap();
        assert_eq!(*order.lock().unwrap(), ["owned", "blocking"]);
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn blocking_takes_what_is_free_without_waiting() {
    let semaphore = Semaphore::new(2);
    let permit = semaphore.acquire_blocking(2).unwrap();
    assert_eq!((permit.count(), semaphore.available()), (2, 0));
}

#[test]
fn many_tasks_never_exceed_the_capacity() {
    const CAPACITY: usize = 5;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    runtime.block_on(async {
        let semaphore = Arc::new(Semaphore::new(CAPACITY));
        let out = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let (semaphore, out) = (Arc::clone(&semaphore), Arc::clone(&out));
                tokio::spawn(async move {
                    for round in 0..200 {
                        let n = (task + round) % CAPACITY + 1;
                        let permit = semaphore.acquire(n).await.unwrap();
                        assert!(out.fetch_add(n, Ordering::SeqCst) + n <= CAPACITY);
                        if round % 7 == 0 {
                            tokio::task::yield_now().await;
                        }
                        out.fetch_sub(n, Ordering::SeqCst);
                        drop(permit);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(semaphore.available(), CAPACITY);
    });
}

// Capacity and bad input.

#[test]
fn more_than_the_capacity_is_an_error_at_once_and_blocks_nobody() {
    let semaphore = Arc::new(Semaphore::new(2));
    for wanted in [3, Semaphore::MAX_PERMITS, Semaphore::MAX_PERMITS + 1, usize::MAX] {
        let over = AcquireError::OverCapacity { wanted, capacity: 2 };
        let try_over = TryAcquireError::OverCapacity { wanted, capacity: 2 };
        let absurd = poll_once(pin!(semaphore.acquire(wanted)));
        assert_eq!(absurd.map(|result| result.unwrap_err()), Poll::Ready(over.clone()));
        let absurd = poll_once(pin!(semaphore.acquire_owned(wanted)));
        assert_eq!(absurd.map(|result| result.unwrap_err()), Poll::Ready(over.clone()));
        assert_eq!(semaphore.acquire_blocking(wanted).unwrap_err(), over);
        assert_eq!(semaphore.try_acquire(wanted).unwrap_err(), try_over);
        assert_eq!(semaphore.try_acquire_owned(wanted).unwrap_err(), try_over);
    }
    assert_eq!(semaphore.try_acquire(2).unwrap().count(), 2);
}

#[test]
fn over_capacity_is_told_before_the_line_and_before_the_close() {
    let semaphore = Semaphore::new(1);
    let _permit = semaphore.try_acquire(1).unwrap();
    waits(pin!(semaphore.acquire(1)));
    let over = AcquireError::OverCapacity { wanted: 2, capacity: 1 };
    assert_eq!(semaphore.acquire_blocking(2).unwrap_err(), over);
    semaphore.close();
    assert_eq!(semaphore.acquire_blocking(2).unwrap_err(), over);
}

#[test]
fn nothing_can_always_be_acquired() {
    let semaphore = Arc::new(Semaphore::new(1));
    let permit = semaphore.try_acquire(1).unwrap();
    let mut waiter = pin!(semaphore.acquire(1));
    waits(waiter.as_mut());
    assert_eq!(semaphore.try_acquire(0).unwrap().count(), 0);
    assert_eq!(semaphore.try_acquire_owned(0).unwrap().count(), 0);
    assert_eq!(semaphore.acquire_blocking(0).unwrap().count(), 0);
    assert_eq!(served(pin!(semaphore.acquire(0))).count(), 0);
    assert_eq!(served(pin!(semaphore.acquire_owned(0))).count(), 0);
    waits(waiter.as_mut());
    drop(permit);
    drop(served(waiter));
}

#[test]
fn a_semaphore_of_nothing_gives_nothing() {
    let semaphore = Semaphore::new(0);
    assert_eq!((semaphore.capacity(), semaphore.available()), (0, 0));
    assert_eq!(served(pin!(semaphore.acquire(0))).count(), 0);
    let over = AcquireError::OverCapacity { wanted: 1, capacity: 0 };
    assert_eq!(semaphore.acquire_blocking(1).unwrap_err(), over);
}

#[test]
fn the_largest_semaphore_works_to_its_last_permit() {
    let semaphore = Semaphore::new(Semaphore::MAX_PERMITS);
    let all = semaphore.try_acquire(Semaphore::MAX_PERMITS).unwrap();
    assert_eq!(semaphore.available(), 0);
    let mut waiter = pin!(semaphore.acquire(Semaphore::MAX_PERMITS));
    waits(waiter.as_mut());
    drop(all);
    assert_eq!(semaphore.available(), 0);
    drop(served(waiter));
    assert_eq!(semaphore.available(), Semaphore::MAX_PERMITS);
    assert!(!semaphore.is_closed());
}

#[test]
fn more_than_the_maximum_panics_at_the_caller() {
    thread_local!(static LINE: RefCell<Option<(String, u32)>> = const { RefCell::new(None) });
    for permits in [Semaphore::MAX_PERMITS + 1, usize::MAX] {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(|place| (place.file().to_owned(), place.line()));
            LINE.set(place);
        }));
        let line = line!() + 1;
        let panic = catch_unwind(|| Semaphore::new(permits)).unwrap_err();
        std::panic::set_hook(default);
        assert_eq!(LINE.take(), Some((file!().to_owned(), line)));
        assert_eq!(
            panic.downcast_ref::<&str>(),
            Some(&"semaphore not made: more permits than Semaphore::MAX_PERMITS")
        );
    }
}

#[test]
fn a_static_semaphore_knows_its_place_and_another_its_name() {
    const LINE: u32 = line!() + 1;
    static LIMIT: Semaphore = Semaphore::new(7);
    assert_eq!(LIMIT.place().line(), LINE);
    assert_eq!(LIMIT.place().file(), file!());
    assert_eq!(LIMIT.name(), None);
    assert_eq!(LIMIT.capacity(), 7);
    let tenant = Semaphore::new(1).named(format!("tenant {}", 4));
    assert_eq!(tenant.name(), Some("tenant 4"));
}

#[test]
fn what_is_printed_names_the_state_and_the_place() {
    let semaphore = Arc::new(Semaphore::new(3).named("uploads"));
    let permit = semaphore.try_acquire(1).unwrap();
    let text = format!("{semaphore:?}");
    assert!(text.contains("uploads") && text.contains("available: 2"), "{text}");
    assert!(format!("{permit:?}").contains("count: 1"));
    assert!(format!("{:?}", semaphore.try_acquire_owned(0)).contains("uploads"));
    let line = line!() + 1;
    let acquire = format!("{:?}", semaphore.acquire(2));
    assert!(acquire.contains(&format!("semaphore.rs:{line}")), "{acquire}");
    assert!(format!("{:?}", semaphore.acquire_owned(2)).contains("wanted: 2"));
}

#[test]
fn errors_say_what_did_not_happen_and_why() {
    let messages = [
        AcquireError::Closed.to_string(),
        AcquireError::OverCapacity { wanted: 9, capacity: 4 }.to_string(),
        TryAcquireError::NoPermits.to_string(),
    ];
    assert_eq!(
        messages,
        [
            "permit not acquired: semaphore closed",
            "permit not acquired: 9 wanted, 4 is the capacity",
            "permit not acquired: too few are free, or others wait for them",
        ]
    );
}

// Close.

#[test]
fn close_wakes_every_waiter_once_and_tells_it() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let mut waiters: Vec<_> = (0..1000)
        .map(|_| {
            let (count, waker) = Count::new();
            let mut acquire = Box::pin(semaphore.acquire(1));
            assert!(acquire.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            (count, acquire)
        })
        .collect();
    semaphore.close();
    for (count, acquire) in &mut waiters {
        assert_eq!(count.wakes(), 1);
        assert_eq!(
            poll_once(acquire.as_mut()).map(|result| result.unwrap_err()),
            Poll::Ready(AcquireError::Closed)
        );
    }
    assert_eq!(semaphore.available(), 0);
    drop(permit);
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn after_close_nothing_is_given_and_releases_count() {
    let semaphore = Arc::new(Semaphore::new(2));
    let permit = semaphore.try_acquire(1).unwrap();
    assert!(!semaphore.is_closed());
    semaphore.close();
    semaphore.close();
    assert!(semaphore.is_closed());
    for n in [0, 1, 2] {
        assert_eq!(semaphore.try_acquire(n).unwrap_err(), TryAcquireError::Closed);
        assert_eq!(semaphore.try_acquire_owned(n).unwrap_err(), TryAcquireError::Closed);
        assert_eq!(semaphore.acquire_blocking(n).unwrap_err(), AcquireError::Closed);
        let refused = poll_once(pin!(semaphore.acquire(n))).map(|result| result.unwrap_err());
        assert_eq!(refused, Poll::Ready(AcquireError::Closed));
        let refused = poll_once(pin!(semaphore.acquire_owned(n))).map(|result| result.unwrap_err());
        assert_eq!(refused, Poll::Ready(AcquireError::Closed));
    }
    drop(permit);
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn a_grant_from_before_the_close_still_counts() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let mut granted = pin!(semaphore.acquire(1));
    let mut waiting = pin!(semaphore.acquire(1));
    waits(granted.as_mut());
    waits(waiting.as_mut());
    drop(permit);
    semaphore.close();
    drop(served(granted));
    assert!(poll_once(waiting).map(|result| result.is_err()) == Poll::Ready(true));
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn close_ends_a_blocking_wait() {
    within_reason(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let _permit = semaphore.try_acquire(1).unwrap();
        let blocked = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire_blocking(1).map(drop))
        };
        semaphore.close();
        assert_eq!(blocked.join().unwrap(), Err(AcquireError::Closed));
    });
}

// Cancel.

#[test]
fn a_waiter_dropped_at_head_middle_or_tail_leaves_the_others_in_order() {
    for dropped in 0..3 {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.try_acquire(1).unwrap();
        let mut waiters: Vec<_> =
            (0..3).map(|waiter| (waiter, Box::pin(semaphore.acquire(1)))).collect();
        for (_, waiter) in &mut waiters {
            waits(waiter.as_mut());
        }
        drop(waiters.remove(dropped));
        drop(permit);
        for (_, mut waiter) in waiters {
            drop(served(waiter.as_mut()));
        }
        assert_eq!(semaphore.try_acquire(1).unwrap().count(), 1);
    }
}

#[test]
fn a_dropped_head_lets_the_next_go_that_fits() {
    let semaphore = Semaphore::new(3);
    let two = semaphore.try_acquire(2).unwrap();
    let mut large = Box::pin(semaphore.acquire(3));
    let (count, waker) = Count::new();
    let mut small = pin!(semaphore.acquire(1));
    let mut small_too = pin!(semaphore.acquire(1));
    waits(large.as_mut());
    assert!(small.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    waits(small_too.as_mut());
    drop(large);
    assert_eq!(count.wakes(), 1);
    drop(served(small));
    drop(two);
    drop(served(small_too));
    assert_eq!(semaphore.available(), 3);
}

#[test]
fn the_last_waiter_that_leaves_clears_the_way_for_others() {
    let semaphore = Semaphore::new(2);
    let one = semaphore.try_acquire(1).unwrap();
    let mut waiter = Box::pin(semaphore.acquire(2));
    waits(waiter.as_mut());
    assert_eq!(semaphore.try_acquire(1).unwrap_err(), TryAcquireError::NoPermits);
    drop(waiter);
    assert_eq!(semaphore.try_acquire(1).unwrap().count(), 1);
    drop(one);
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn a_granted_future_dropped_unpolled_gives_its_permits_to_the_next() {
    let semaphore = Semaphore::new(2);
    let all = semaphore.try_acquire(2).unwrap();
    let mut granted = Box::pin(semaphore.acquire(2));
    let (count, waker) = Count::new();
    let mut next = pin!(semaphore.acquire(1));
    waits(granted.as_mut());
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(all);
    assert_eq!((semaphore.available(), count.wakes()), (0, 0));
    drop(granted);
    assert_eq!((semaphore.available(), count.wakes()), (1, 1));
    drop(served(next));
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn a_future_that_was_never_polled_stands_in_no_line() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let unpolled = semaphore.acquire(1);
    drop(permit);
    assert_eq!(semaphore.try_acquire(1).unwrap().count(), 1);
    drop(unpolled);
}

#[test]
fn a_timeout_leaves_nothing_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.acquire(1).await.unwrap();
        for _ in 0..100 {
            let wait = tokio::time::timeout(Duration::from_millis(5), semaphore.acquire(1));
            assert!(wait.await.is_err());
        }
        drop(permit);
        assert_eq!(semaphore.try_acquire(1).unwrap().count(), 1);
    });
}

// Drop.

#[test]
fn an_owned_permit_keeps_the_semaphore_alive() {
    let semaphore = Arc::new(Semaphore::new(1));
    let weak = Arc::downgrade(&semaphore);
    let permit = semaphore.try_acquire_owned(1).unwrap();
    let mut waiter = Box::pin(semaphore.acquire_owned(1));
    waits(waiter.as_mut());
    drop(semaphore);
    drop(permit);
    let permit = served(waiter.as_mut());
    assert_eq!(weak.strong_count(), 1, "a ready future holds nothing");
    drop(waiter);
    drop(permit);
    assert_eq!(weak.strong_count(), 0);
}

#[test]
fn a_waiting_future_may_be_the_last_owner() {
    let semaphore = Arc::new(Semaphore::new(1));
    let weak = Arc::downgrade(&semaphore);
    std::mem::forget(semaphore.try_acquire(1).unwrap());
    let mut waiter = Box::pin(semaphore.acquire_owned(1));
    waits(waiter.as_mut());
    drop(semaphore);
    drop(waiter);
    assert_eq!(weak.strong_count(), 0);
}

#[test]
fn no_waker_stays_behind() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let (count, waker) = Count::new();
    for poll_again in [true, false] {
        let mut acquire = Box::pin(semaphore.acquire(1));
        assert!(acquire.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        if poll_again {
            waits(acquire.as_mut());
        }
    }
    drop(waker);
    assert_eq!(Arc::strong_count(&count), 1);
    drop(permit);
}

#[test]
fn a_release_wakes_all_it_serves_when_there_are_more_than_a_batch() {
    let semaphore = Semaphore::new(1000);
    let all = semaphore.try_acquire(1000).unwrap();
    let (count, waker) = Count::new();
    let mut waiters: Vec<_> = (0..1000).map(|_| Box::pin(semaphore.acquire(1))).collect();
    for waiter in &mut waiters {
        assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    drop(all);
    assert_eq!(count.wakes(), 1000);
    let permits: Vec<_> = waiters.iter_mut().map(|waiter| served(waiter.as_mut())).collect();
    assert_eq!(semaphore.available(), 0);
    drop(permits);
    assert_eq!(semaphore.available(), 1000);
}

#[test]
fn threads_that_come_and_give_up_lose_no_permit() {
    // Of nine a few are taken without a look, until they are not there.
    for capacity in [3, 9] {
        within_reason(move || {
            let semaphore = Semaphore::new(capacity);
            thread::scope(|scope| {
                for thread in 0..4 {
                    let semaphore = &semaphore;
                    scope.spawn(move || {
                        for round in 0..20_000_usize {
                            let n = (thread + round) % capacity + 1;
                            match round % 4 {
                                0 => drop(semaphore.acquire_blocking(n).unwrap()),
                                1 => drop(semaphore.try_acquire(n)),
                                _ => {
                                    let mut acquire = pin!(semaphore.acquire(n));
                                    drop(poll_once(acquire.as_mut()));
                                }
                            }
                        }
                    });
                }
            });
            assert_eq!(semaphore.try_acquire(capacity).unwrap().count(), capacity);
        });
    }
}

// Wakers with a will of their own, and panics.

#[test]
fn a_waker_may_use_the_semaphore() {
    within_reason(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let spare = Mutex::new(Some(semaphore.try_acquire_owned(1).unwrap()));
        let permit = semaphore.try_acquire(1).unwrap();
        let waker = on_wake({
            let semaphore = Arc::clone(&semaphore);
            move || {
                assert_eq!(semaphore.try_acquire(0).unwrap().count(), 0);
                drop(spare.lock().unwrap().take());
                let mut acquire = pin!(semaphore.acquire(2));
                waits(acquire.as_mut());
            }
        });
        let mut first = pin!(semaphore.acquire(1));
        let mut second = pin!(semaphore.acquire(1));
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        waits(second.as_mut());
        drop(permit);
        drop((served(first), served(second)));
        assert_eq!(semaphore.available(), 2);
    });
}

#[test]
fn a_waker_may_close_the_semaphore() {
    within_reason(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.try_acquire(1).unwrap();
        let waker = on_wake({
            let semaphore = Arc::clone(&semaphore);
            move || semaphore.close()
        });
        let mut first = pin!(semaphore.acquire(1));
        let mut second = pin!(semaphore.acquire(1));
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        waits(second.as_mut());
        drop(permit);
        drop(served(first));
        assert!(poll_once(second).map(|result| result.is_err()) == Poll::Ready(true));
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn a_waker_that_panics_keeps_nobody_from_being_served() {
    const WAITERS: usize = 100;
    for released_by_close in [false, true] {
        let semaphore = Semaphore::new(WAITERS);
        let all = semaphore.try_acquire(WAITERS).unwrap();
        let panics = on_wake(|| panic!("this waker panics"));
        let (count, counts) = Count::new();
        let mut waiters: Vec<_> = (0..WAITERS).map(|_| Box::pin(semaphore.acquire(1))).collect();
        for (place, waiter) in waiters.iter_mut().enumerate() {
            let waker = if place % 50 == 0 { &panics } else { &counts };
            assert!(waiter.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        let panic = catch_unwind(AssertUnwindSafe(|| {
            if released_by_close { semaphore.close() } else { drop(all) }
        }));
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"this waker panics"));
        assert_eq!(count.wakes(), WAITERS - 2);
        for waiter in &mut waiters {
            assert!(poll_once(waiter.as_mut()).is_ready());
        }
        drop(waiters);
        assert_eq!(semaphore.available(), WAITERS);
    }
}

#[test]
fn a_permit_dropped_by_a_panic_serves_the_next_even_if_its_waker_panics() {
    let semaphore = Semaphore::new(1);
    let panics = on_wake(|| panic!("this waker panics"));
    let mut waiter = pin!(semaphore.acquire(1));
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _permit = semaphore.try_acquire(1).unwrap();
        assert!(waiter.as_mut().poll(&mut Context::from_waker(&panics)).is_pending());
        panic!("the task panics");
    }));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"the task panics"));
    drop(served(waiter));
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn a_waiter_dropped_by_a_panic_leaves_the_line() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire(1).unwrap();
    catch_unwind(AssertUnwindSafe(|| {
        let mut waiter = pin!(semaphore.acquire(1));
        waits(waiter.as_mut());
        panic!("the task panics");
    }))
    .unwrap_err();
    drop(permit);
    assert_eq!(semaphore.try_acquire(1).unwrap().count(), 1);
}

#[test]
fn a_future_polled_after_it_was_ready_panics_and_takes_nothing() {
    let semaphore = Semaphore::new(2);
    let mut acquire = pin!(semaphore.acquire(1));
    let permit = served(acquire.as_mut());
    let panic = catch_unwind(AssertUnwindSafe(|| drop(poll_once(acquire.as_mut()))));
    let panic = panic.unwrap_err();
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
    assert_eq!(message.as_deref(), Some("an acquisition is not polled after it was ready"));
    assert_eq!(semaphore.available(), 1);
    drop(permit);
    assert_eq!(semaphore.available(), 2);
}

// A good neighbour.

#[test]
#[cfg(feature = "tokio")]
fn an_always_ready_loop_yields_to_tokio() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rounds = runtime.block_on(async {
        let semaphore = Arc::new(Semaphore::new(1));
        let rounds = Arc::new(AtomicUsize::new(0));
        let looping = tokio::spawn({
            let rounds = Arc::clone(&rounds);
            async move {
                loop {
                    drop(semaphore.acquire(1).await.unwrap());
                    drop(semaphore.acquire_owned(1).await.unwrap());
                    let so_far = rounds.fetch_add(1, Ordering::Relaxed);
                    assert!(so_far < 1_000_000, "it never yields");
                }
            }
        });
        // Without a yield of the loop this task is never run again.
        tokio::task::yield_now().await;
        looping.abort();
        assert!(looping.await.unwrap_err().is_cancelled());
        rounds.load(Ordering::Relaxed)
    });
    assert!(rounds > 0);
}

#[test]
#[cfg(feature = "tokio")]
fn a_blocking_acquire_in_a_task_whose_budget_is_spent_takes_what_is_free() {
    within_reason(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime
            .block_on(runtime.spawn(poll_fn(|cx| {
                let semaphore = Semaphore::new(1);
                let mut spent = 0;
                loop {
                    let mut acquire = pin!(semaphore.acquire(1));
                    if acquire.as_mut().poll(cx).is_pending() {
                        break;
                    }
                    spent += 1;
                    assert!(spent < 1_000_000, "the budget never ends");
                }
                let first = semaphore.acquire_blocking(1).unwrap();
                // And waits for what another thread gives back.
                thread::scope(|scope| {
                    scope.spawn(move || {
                        thread::sleep(Duration::from_millis(20));
                        drop(first);
                    });
                    assert_eq!(semaphore.acquire_blocking(1).unwrap().count(), 1);
                });
                Poll::Ready(())
            })))
            .unwrap();
    });
}

#[test]
fn a_future_is_small() {
    // 24 words, of which the place in the line is most; what matters is that it does not grow
    // unnoticed.
    let word = size_of::<usize>();
    // With the feature `age` a wait knows since when, and a permit its row in the table of holders. (And where all features are on, the
    // observer knows the wait.)
    let (age, row) = if cfg!(feature = "age") { (8, 1) } else { (0, 0) };
    let most = (24 + age) * word;
    assert!(size_of::<Acquire<'_>>() <= most, "{}", size_of::<Acquire<'_>>());
    assert!(size_of::<AcquireOwned>() <= most, "{}", size_of::<AcquireOwned>());
    assert_eq!(size_of::<Permit<'_>>(), (2 + row) * word);
    assert_eq!(size_of::<OwnedPermit>(), (2 + row) * word);
}

#[test]
fn tasks_on_many_threads_are_served_in_order_when_they_queue_in_order() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiters: Vec<_> = (0..100)
        .map(|place| {
            let order = Arc::clone(&order);
            let waker = on_wake(move || order.lock().unwrap().push(place));
            let mut waiter = Box::pin(semaphore.acquire(1));
            assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            waiter
        })
        .collect();
    drop(permit);
    for waiter in &mut waiters {
        drop(served(waiter.as_mut()));
    }
    let order = order.lock().unwrap();
    assert!(order.is_sorted());
    assert_eq!(order.iter().collect::<HashSet<_>>().len(), 100);
}

#[test]
fn the_most_permits_are_what_the_docs_say() {
    assert_eq!(Semaphore::MAX_PERMITS, usize::MAX >> 5);
}
