//! The keyed semaphore and lock: order per key, keys apart, entries that come and go, bounds, and what panics.
#![cfg(not(selvedge_loom))]

#[path = "support/panicky_key.rs"]
mod panicky_key;

use std::collections::BTreeMap;
use std::collections::VecDeque;
#[cfg(feature = "tokio")]
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use panicky_key::{PanickyKey, Switches};
use proptest::prelude::*;
use selvedge_cancel::{CauseKind, Context as Tree};
use selvedge_sync::{
    AcquireKeyed, KeyedError, KeyedLock, KeyedPermit, KeyedSemaphore, Panic, Semaphore,
    TryKeyedError,
};
use selvedge_testkit::{CountingWaker, PanickingWaker, ReentrantWaker, block_on, watchdog};

type Keys = KeyedSemaphore<u32>;
type Wait<K = u32> = Pin<Box<AcquireKeyed<K>>>;
type Outcome<K = u32> = Result<KeyedPermit<K>, KeyedError>;

fn poll_with<K>(wait: &mut Wait<K>, waker: &Waker) -> Poll<Outcome<K>>
where
    K: Hash + Eq + Send + Sync + 'static,
{
    wait.as_mut().poll(&mut Context::from_waker(waker))
}

fn poll<K: Hash + Eq + Send + Sync + 'static>(wait: &mut Wait<K>) -> Poll<Outcome<K>> {
    poll_with(wait, Waker::noop())
}

/// A wait in the line of a key.
fn waiting(keys: &Keys, key: u32, n: usize) -> Wait {
    let mut wait = Box::pin(keys.acquire(key, n));
    assert!(poll(&mut wait).is_pending());
    wait
}

/// What a wait was given.
fn given(wait: &mut Wait) -> KeyedPermit<u32> {
    match poll(wait) {
        Poll::Ready(permit) => permit.unwrap(),
        Poll::Pending => panic!("it was given nothing"),
    }
}

/// What a call panics with.
fn panic_of<T>(f: impl FnOnce() -> T) -> Panic {
    Panic::new(catch_unwind(AssertUnwindSafe(f)).err().expect("it panics"))
}

// Smoke.

#[test]
fn keys_do_not_wait_for_each_other() {
    let keys = Keys::new(2);
    let mut all = Vec::new();
    for key in 0..100 {
        all.push(keys.try_acquire(key, 2).unwrap());
        assert_eq!(keys.try_acquire(key, 1).unwrap_err(), TryKeyedError::NoPermits);
    }
    assert_eq!((keys.len(), keys.permits()), (100, 2));
    assert!(all.iter().zip(0..).all(|(permit, key)| *permit.key() == key && permit.count() == 2));
    let _wait = waiting(&keys, 7, 1);
    drop(all.swap_remove(8));
    assert!(keys.try_acquire(8, 2).is_ok());
}

#[test]
fn a_key_serves_first_in_first_out_and_the_large_block_the_small() {
    let keys = Keys::new(3);
    let held: Vec<_> = (0..3).map(|_| keys.try_acquire(7, 1).unwrap()).collect();
    let mut large = waiting(&keys, 7, 2);
    let mut small = waiting(&keys, 7, 1);
    let mut held = held.into_iter();
    drop(held.next());
    assert!(poll(&mut small).is_pending() && poll(&mut large).is_pending());
    assert_eq!(keys.try_acquire(7, 1).unwrap_err(), TryKeyedError::NoPermits, "no overtaking");
    drop(held.next());
    let two = given(&mut large);
    assert!(poll(&mut small).is_pending());
    drop(two);
    let one = given(&mut small);
    drop((held, one));
    assert!(keys.is_empty());
}

#[test]
fn a_lock_is_a_semaphore_of_one() {
    let locks = KeyedLock::new();
    let one = block_on(locks.lock("ada")).unwrap();
    assert_eq!(locks.try_lock("ada").unwrap_err(), TryKeyedError::NoPermits);
    let two = locks.lock_blocking("bob").unwrap();
    assert_eq!((locks.len(), *one.key(), one.count()), (2, "ada", 1));
    let mut wait = Box::pin(locks.lock("ada"));
    assert!(poll(&mut wait).is_pending());
    drop(one);
    let Poll::Ready(Ok(one)) = poll(&mut wait) else { panic!("it was handed on") };
    drop((one, two));
    assert!(locks.is_empty() && KeyedLock::<u8>::default().is_empty());
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let keys = Keys::with_max_keys(1, 1);
    let unpolled = keys.acquire(7, 1);
    assert!(keys.is_empty());
    assert!(keys.try_acquire(8, 1).is_ok());
    drop(unpolled);
}

#[test]
fn threads_hold_each_key_alone_and_leave_nothing() {
    const KEYS: usize = 3;
    watchdog(Duration::from_secs(60), "threads on keys", || {
        let locks = KeyedLock::new();
        let held: Vec<_> = (0..KEYS).map(|_| AtomicBool::new(false)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (locks, held) = (&locks, &held);
                scope.spawn(move || {
                    for round in 0..10_000 {
                        let key = (round + thread) % KEYS;
                        let mut cx = Context::from_waker(Waker::noop());
                        // Some give up at once.
                        let polled = pin!(locks.lock(key)).poll(&mut cx);
                        if round % 3 == 0 {
                            continue;
                        }
                        drop(polled);
                        let permit = locks.lock_blocking(key).unwrap();
                        assert!(!held[key].swap(true, Ordering::Relaxed), "two at once");
                        held[key].store(false, Ordering::Relaxed);
                        drop(permit);
                    }
                });
            }
        });
        assert!(locks.is_empty());
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_hold_each_key_alone() {
    let locks = KeyedLock::new();
    let held = Arc::new([const { AtomicBool::new(false) }; 2]);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (locks, held) = (locks.clone(), Arc::clone(&held));
            tokio::spawn(async move {
                for round in 0..500 {
                    let key = (task + round) % 2;
                    let permit = locks.lock(key).await.unwrap();
                    assert!(!held[key].swap(true, Ordering::Relaxed), "two at once");
                    tokio::task::yield_now().await;
                    held[key].store(false, Ordering::Relaxed);
                    drop(permit);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(locks.is_empty());
}

// Entries.

#[test]
fn a_wait_that_is_given_up_anywhere_in_the_line_leaves_nothing() {
    for leaves in 0..3 {
        let keys = Keys::new(1);
        let held = keys.try_acquire(7, 1).unwrap();
        let mut line: Vec<_> = (0..3).map(|_| waiting(&keys, 7, 1)).collect();
        drop(line.remove(leaves));
        drop(held);
        for wait in &mut line {
            assert_eq!(keys.len(), 1);
            drop(given(wait));
        }
        assert!(keys.is_empty(), "futures that were ready use no key");
    }
}

#[test]
fn all_who_give_up_leave_the_holder_s_entry_and_no_other() {
    let keys = Keys::new(1);
    let held = keys.try_acquire(7, 1).unwrap();
    let line: Vec<_> = (0..3).map(|_| waiting(&keys, 7, 1)).collect();
    drop(line);
    assert_eq!(keys.len(), 1);
    assert_eq!(keys.try_acquire(7, 1).unwrap_err(), TryKeyedError::NoPermits);
    drop(held);
    assert!(keys.is_empty());
}

#[test]
fn a_permit_that_is_granted_and_dropped_unseen_goes_to_the_next() {
    let keys = Keys::new(1);
    let held = keys.try_acquire(7, 1).unwrap();
    let first = waiting(&keys, 7, 1);
    let waker = CountingWaker::new();
    let mut second = Box::pin(keys.acquire(7, 1));
    assert!(poll_with(&mut second, &waker.waker()).is_pending());
    drop(held);
    assert_eq!(waker.wakes(), 0);
    drop(first);
    assert_eq!(waker.wakes(), 1);
    drop(second);
    assert!(keys.is_empty(), "and if there is none, the entry goes");
    assert_eq!(waker.live(), 0);
}

#[test]
fn a_try_that_fails_leaves_no_entry() {
    let keys = Keys::new(1);
    assert!(keys.try_acquire(7, 2).is_err());
    assert!(keys.is_empty());
    let held = keys.try_acquire(7, 1).unwrap();
    assert!(keys.try_acquire(7, 1).is_err());
    drop(held);
    assert!(keys.is_empty());
}

#[test]
fn a_hundred_thousand_keys_leave_nothing() {
    let keys = Keys::new(1);
    for key in 0..100_000 {
        drop(keys.try_acquire(key, 1).unwrap());
    }
    assert!(keys.is_empty());
    let all: Vec<_> = (0..10_000).map(|key| keys.try_acquire(key, 1).unwrap()).collect();
    assert_eq!(keys.len(), 10_000);
    drop(all);
    assert!(keys.is_empty());
}

#[test]
fn a_permit_outlives_the_handles_to_its_map() {
    let keys = Keys::new(1);
    let held = keys.clone().try_acquire(7, 1).unwrap();
    let mut wait = waiting(&keys, 7, 1);
    let unpolled = keys.acquire(7, 1);
    drop(keys);
    drop(held);
    let permit = given(&mut wait);
    assert_eq!(*permit.key(), 7);
    drop((wait, permit));
    assert_eq!(*block_on(unpolled).unwrap().key(), 7);
}

// Bounds.

#[test]
fn the_bound_on_keys_is_exact() {
    for bound in [0, 1, 2, 17, 100] {
        let keys = Keys::with_max_keys(1, bound);
        let max = u32::try_from(bound).unwrap();
        let mut all: Vec<_> = (0..max).map(|key| keys.try_acquire(key, 1).unwrap()).collect();
        let refused = TryKeyedError::TooManyKeys { max: bound };
        assert_eq!(keys.try_acquire(max, 1).unwrap_err(), refused);
        let error = block_on(keys.acquire(max, 1)).unwrap_err();
        assert!(matches!(error, KeyedError::TooManyKeys { max } if max == bound));
        assert!(keys.acquire_blocking(max, 1).is_err());
        assert_eq!(keys.len(), bound);
        if let Some(permit) = all.pop() {
            let key = *permit.key();
            // A key that is in use is no further key.
            let mut wait = waiting(&keys, key, 1);
            drop(permit);
            assert_eq!(keys.try_acquire(max, 1).unwrap_err(), refused);
            drop(given(&mut wait));
            assert!(keys.try_acquire(max, 1).is_ok());
        }
    }
}

#[test]
fn the_bound_on_keys_holds_on_threads() {
    const BOUND: usize = 2;
    watchdog(Duration::from_secs(60), "threads and a bound", || {
        let keys = Keys::with_max_keys(1, BOUND);
        let (used, had) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (keys, used, had) = (&keys, &used, &had);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        // Each thread has a key of its own.
                        let Ok(permit) = keys.try_acquire(thread, 1) else { continue };
                        had.fetch_add(1, Ordering::Relaxed);
                        assert!(used.fetch_add(1, Ordering::Relaxed) < BOUND);
                        used.fetch_sub(1, Ordering::Relaxed);
                        drop(permit);
                    }
                });
            }
        });
        assert!(keys.is_empty() && had.load(Ordering::Relaxed) > 0);
        let all = [0, 1].map(|key| keys.try_acquire(key, 1).unwrap());
        assert_eq!(keys.len(), all.len());
    });
}

#[test]
fn permits_have_their_limits() {
    let keys = Keys::new(0);
    let over = TryKeyedError::OverCapacity { wanted: 1, capacity: 0 };
    assert_eq!(keys.try_acquire(7, 1).unwrap_err(), over);
    assert_eq!(keys.try_acquire(7, 0).unwrap().count(), 0);
    let keys = Keys::new(Semaphore::MAX_PERMITS);
    let all = keys.try_acquire(7, Semaphore::MAX_PERMITS).unwrap();
    assert_eq!(all.count(), Semaphore::MAX_PERMITS);
    assert!(keys.try_acquire(7, usize::MAX).is_err());
    let panic = panic_of(|| Keys::new(Semaphore::MAX_PERMITS + 1));
    assert!(panic.message().contains("MAX_PERMITS"), "{}", panic.message());
}

#[test]
fn more_than_a_key_has_is_an_error_at_once_and_blocks_nobody() {
    let keys = Keys::new(2);
    let held = keys.try_acquire(7, 2).unwrap();
    let wanted = TryKeyedError::OverCapacity { wanted: 3, capacity: 2 };
    assert_eq!(keys.try_acquire(7, 3).unwrap_err(), wanted);
    for error in [
        block_on(keys.acquire(7, 3)).unwrap_err(),
        block_on(keys.acquire(8, 3)).unwrap_err(),
        keys.acquire_blocking(7, 3).unwrap_err(),
    ] {
        assert!(matches!(error, KeyedError::OverCapacity { wanted: 3, capacity: 2 }));
    }
    drop(held);
    assert!(keys.is_empty());
}

#[test]
fn none_can_always_be_had_and_keep_the_key_in_use() {
    let keys = Keys::new(1);
    let held = keys.try_acquire(7, 1).unwrap();
    let _line = waiting(&keys, 7, 1);
    let none = keys.try_acquire(7, 0).unwrap();
    assert_eq!(block_on(keys.acquire(7, 0)).unwrap().count(), 0);
    assert_eq!((none.count(), keys.len()), (0, 1));
    drop((held, _line));
    assert_eq!(keys.len(), 1);
    drop(none);
    assert!(keys.is_empty());
}

#[test]
fn errors_say_what_did_not_happen_and_why() {
    let keys = Keys::with_max_keys(1, 1);
    let _held = keys.try_acquire(7, 1).unwrap();
    let texts = [
        keys.try_acquire(7, 1).unwrap_err().to_string(),
        keys.try_acquire(7, 2).unwrap_err().to_string(),
        keys.try_acquire(8, 1).unwrap_err().to_string(),
        block_on(keys.acquire(8, 1)).unwrap_err().to_string(),
    ];
    assert!(texts.iter().all(|text| text.starts_with("permit not acquired: ")), "{texts:?}");
    let (tree, canceller) = Tree::background().child();
    canceller.cancel();
    let error = block_on(keys.acquire_in(&tree, 7, 1)).unwrap_err();
    assert!(std::error::Error::source(&error).is_some());
}

// Contexts, blocking, budget.

#[test]
fn a_wait_in_a_context_ends_with_it_and_leaves_the_key() {
    let keys = Keys::new(1);
    let held = keys.try_acquire(7, 1).unwrap();
    let (tree, canceller) = Tree::background().child();
    let mut cx = Context::from_waker(Waker::noop());
    let mut told = Box::pin(keys.acquire_in(&tree, 7, 1));
    assert!(told.as_mut().poll(&mut cx).is_pending());
    let mut behind = waiting(&keys, 7, 1);
    canceller.cancel();
    let Poll::Ready(Err(KeyedError::Ended(cause))) = told.as_mut().poll(&mut cx) else {
        panic!("it goes on")
    };
    assert_eq!(cause.kind(), CauseKind::Cancelled);
    drop(held);
    drop(given(&mut behind));
    // The future that was told is still there.
    assert!(keys.is_empty());
    drop(told);
    // A context that is over comes first, and enters nothing.
    assert!(block_on(keys.acquire_in(&tree, 7, 1)).is_err());
    let locks = KeyedLock::new();
    assert!(block_on(locks.lock_in(&tree, 7)).is_err());
    assert!(block_on(locks.lock_in(&Tree::background(), 7)).is_ok());
    assert!(locks.is_empty());
}

#[test]
fn a_thread_and_a_task_stand_in_one_line() {
    watchdog(Duration::from_secs(60), "a thread in line", || {
        let keys = Keys::new(1);
        let held = keys.try_acquire(7, 1).unwrap();
        let mut first = waiting(&keys, 7, 1);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| *keys.acquire_blocking(7, 1).unwrap().key());
            drop(held);
            drop(given(&mut first));
            assert_eq!(thread.join().unwrap(), 7);
        });
        assert!(keys.is_empty());
    });
}

#[test]
#[cfg(feature = "tokio")]
fn an_always_ready_loop_yields_to_tokio() {
    watchdog(Duration::from_secs(60), "a loop that yields", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let looping = tokio::spawn(async {
                let locks = KeyedLock::new();
                for _ in 0..1_000_000 {
                    drop(locks.lock(7).await.unwrap());
                }
                panic!("it never yields");
            });
            tokio::task::yield_now().await;
            looping.abort();
            assert!(looping.await.unwrap_err().is_cancelled());
        });
    });
}

/// Polls what takes of the budget of the task, until that is spent.
#[cfg(feature = "tokio")]
fn spend(cx: &mut Context<'_>) {
    let other = KeyedLock::new();
    let turns = (0..1_000_000).take_while(|_| pin!(other.lock(7)).poll(cx).is_ready()).count();
    assert!(turns < 1_000_000, "the budget never ends");
}

/// Runs it in a task.
#[cfg(feature = "tokio")]
fn in_a_task(mut run: impl FnMut(&mut Context<'_>) + Send + 'static) {
    watchdog(Duration::from_secs(60), "a task whose budget is spent", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = poll_fn(move |cx| {
            run(cx);
            Poll::Ready(())
        });
        runtime.block_on(runtime.spawn(task)).unwrap();
    });
}

/// Runs it where there is no budget to spend.
#[cfg(feature = "tokio")]
fn elsewhere<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[test]
#[cfg(feature = "tokio")]
fn a_task_whose_budget_is_spent_takes_nothing_and_stands_in_the_line_of_its_key() {
    in_a_task(|cx| {
        spend(cx);
        let keys = Keys::with_max_keys(1, 1);
        // Nobody waits: it takes nothing, and uses the key.
        let mut alone = Box::pin(keys.acquire(7, 1));
        assert!(alone.as_mut().poll(cx).is_pending());
        assert_eq!(keys.len(), 1);
        let held = elsewhere(|| keys.try_acquire(7, 1).unwrap());
        // Others do.
        let mut first = elsewhere(|| waiting(&keys, 7, 1));
        let mut spent = Box::pin(keys.acquire(7, 1));
        assert!(spent.as_mut().poll(cx).is_pending());
        let mut late = elsewhere(|| waiting(&keys, 7, 1));
        let mut last = held;
        for wait in [&mut first, &mut spent, &mut late] {
            drop(last);
            last = elsewhere(|| given(wait));
        }
        drop(last);
        drop(elsewhere(|| given(&mut alone)));
        drop(alone);
        assert!(keys.is_empty());
        // What is refused is refused at the next turn.
        let _held = elsewhere(|| keys.try_acquire(7, 1).unwrap());
        let mut large = Box::pin(keys.acquire(7, 2));
        let mut other = Box::pin(keys.acquire(8, 1));
        for wait in [&mut large, &mut other] {
            assert!(wait.as_mut().poll(cx).is_pending());
        }
        let refused = |wait| elsewhere(|| poll(wait).map(|permit| permit.unwrap_err()));
        let Poll::Ready(error) = refused(&mut large) else { panic!("it is refused") };
        assert!(matches!(error, KeyedError::OverCapacity { wanted: 2, capacity: 1 }));
        let Poll::Ready(error) = refused(&mut other) else { panic!("it is refused") };
        assert!(matches!(error, KeyedError::TooManyKeys { max: 1 }));
    });
}

#[test]
#[cfg(feature = "tokio")]
fn a_blocking_lock_in_a_task_whose_budget_is_spent_takes_what_is_free() {
    in_a_task(|cx| {
        spend(cx);
        let locks = KeyedLock::new();
        let first = locks.lock_blocking(7).unwrap();
        // And waits for what another thread gives back.
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                drop(first);
            });
            assert_eq!(*locks.lock_blocking(7).unwrap().key(), 7);
        });
    });
}

#[test]
fn what_is_hopeless_is_refused_before_the_key_is_looked_at() {
    let keys = Keys::with_max_keys(1, 1);
    let _held = keys.try_acquire(7, 1).unwrap();
    let over = TryKeyedError::OverCapacity { wanted: 2, capacity: 1 };
    assert_eq!(keys.try_acquire(8, 2).unwrap_err(), over);
    for refused in [block_on(keys.acquire(8, 2)), keys.acquire_blocking(8, 2)] {
        assert!(matches!(refused, Err(KeyedError::OverCapacity { wanted: 2, capacity: 1 })));
    }
}

// Panics, and user code that comes back.

#[test]
fn a_key_that_panics_poisons_nothing_and_leaves_no_entry() {
    watchdog(Duration::from_secs(60), "keys that panic", || {
        let switches: &'static Switches = Box::leak(Box::default());
        let keys = KeyedSemaphore::new(1);
        let held = keys.try_acquire(PanickyKey(switches), 1).unwrap();
        for (switch, what) in [(&switches.eq, "eq"), (&switches.hash, "hash")] {
            switch.store(true, Ordering::Relaxed);
            let mut wait = Box::pin(keys.acquire(PanickyKey(switches), 1));
            assert_eq!(panic_of(|| poll(&mut wait).map(drop)).message(), what);
            assert_eq!(
                panic_of(|| keys.try_acquire(PanickyKey(switches), 1).map(drop)).message(),
                what
            );
            let blocks = || keys.acquire_blocking(PanickyKey(switches), 1).map(drop);
            assert_eq!(panic_of(blocks).message(), what);
            switch.store(false, Ordering::Relaxed);
            drop(wait);
        }
        // The entry has a key: the caller's own goes.
        switches.drop.store(true, Ordering::Relaxed);
        let tries = || keys.try_acquire(PanickyKey(switches), 1).map(drop);
        assert_eq!(panic_of(tries).message(), "drop");
        let mut wait = Box::pin(keys.acquire(PanickyKey(switches), 1));
        assert_eq!(panic_of(|| poll(&mut wait).map(drop)).message(), "drop");
        drop(wait);
        assert_eq!(keys.len(), 1);
        switches.drop.store(false, Ordering::Relaxed);
        let mut wait = Box::pin(keys.acquire(PanickyKey(switches), 1));
        assert!(poll(&mut wait).is_pending());
        drop(held);
        let Poll::Ready(Ok(last)) = poll(&mut wait) else { panic!("it was not served") };
        // The key of whoever came first is not the last's.
        switches.drop.store(true, Ordering::Relaxed);
        drop(last);
        assert!(keys.is_empty());
        switches.drop.store(false, Ordering::Relaxed);
        assert!(keys.try_acquire(PanickyKey(switches), 1).is_ok());
    });
}

#[test]
fn a_waker_that_panics_costs_nobody_a_permit_or_an_entry() {
    let keys = Keys::new(2);
    let (bad, good) = (PanickingWaker::new(), CountingWaker::new());
    let held = keys.try_acquire(7, 2).unwrap();
    let mut first = Box::pin(keys.acquire(7, 1));
    let mut second = Box::pin(keys.acquire(7, 1));
    assert!(poll_with(&mut first, &bad.waker()).is_pending());
    assert!(poll_with(&mut second, &good.waker()).is_pending());
    panic_of(|| drop(held));
    assert_eq!((bad.wakes(), good.wakes()), (1, 1));
    drop((given(&mut first), given(&mut second)));
    assert!(keys.is_empty());
    // A wait that is given up hands on to it.
    let keys = Keys::new(1);
    let held = keys.try_acquire(7, 1).unwrap();
    let front = waiting(&keys, 7, 1);
    let mut behind = Box::pin(keys.acquire(7, 1));
    assert!(poll_with(&mut behind, &bad.waker()).is_pending());
    drop(held);
    panic_of(|| drop(front));
    drop(given(&mut behind));
    assert!(keys.is_empty());
}

#[test]
fn a_waker_may_use_the_map() {
    watchdog(Duration::from_secs(60), "a waker that uses the map", || {
        let keys = Keys::new(1);
        let uses = |keys: &Keys| {
            let keys = keys.clone();
            move || {
                assert!(keys.len() <= 2);
                drop(keys.try_acquire(7, 1));
                drop(keys.try_acquire(8, 1));
            }
        };
        let waker = ReentrantWaker::on_wake_and_drop(uses(&keys), uses(&keys));
        let held = keys.try_acquire(7, 1).unwrap();
        let mut wait = Box::pin(keys.acquire(7, 1));
        let mut leaves = Box::pin(keys.acquire(7, 1));
        assert!(poll_with(&mut wait, &waker.waker()).is_pending());
        assert!(poll_with(&mut leaves, &waker.waker()).is_pending());
        drop(leaves);
        drop(held);
        drop(given(&mut wait));
        assert!(waker.wakes() >= 1 && keys.is_empty());
    });
}

#[test]
fn a_key_may_use_the_map_when_it_is_dropped() {
    #[derive(PartialEq, Eq, Hash)]
    struct Uses(u8);
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    static LOCKS: std::sync::OnceLock<KeyedLock<Uses>> = std::sync::OnceLock::new();
    impl Drop for Uses {
        fn drop(&mut self) {
            let locks = LOCKS.get().unwrap();
            if self.0 == 0 {
                SEEN.fetch_add(1, Ordering::Relaxed);
                drop(locks.try_lock(Self(1)));
                let _ = locks.len();
            }
        }
    }
    watchdog(Duration::from_secs(60), "a key that uses its map", || {
        let locks = LOCKS.get_or_init(KeyedLock::new);
        let held = locks.try_lock(Uses(0)).unwrap();
        assert!(locks.try_lock(Uses(0)).is_err());
        drop(held);
        assert_eq!((SEEN.load(Ordering::Relaxed), locks.len()), (2, 0));
    });
}

#[test]
#[should_panic(expected = "a keyed acquire is not polled after it was ready")]
fn a_wait_that_was_ready_is_not_polled_again() {
    let keys = Keys::new(1);
    let mut wait = Box::pin(keys.acquire(7, 1));
    assert!(poll(&mut wait).is_ready());
    let _ = poll(&mut wait);
}

#[test]
fn they_say_who_they_are() {
    let line = line!() + 1;
    let keys = Keys::new(3);
    assert_eq!((keys.place().file(), keys.place().line()), (file!(), line));
    let held = keys.try_acquire(7, 1).unwrap();
    let shown = format!("{keys:?}");
    assert!(shown.contains("permits: 3") && shown.contains("keys: 1"), "{shown}");
    let shown = format!("{held:?}");
    assert!(shown.contains("key: 7") && shown.contains("count: 1"), "{shown}");
    assert!(format!("{:?}", keys.acquire(7, 2)).contains("wanted: 2"));
    let tree = Tree::background();
    assert!(format!("{:?}", keys.acquire_in(&tree, 7, 2)).contains(file!()));
    let line = line!() + 1;
    let locks = KeyedLock::<u8>::new();
    assert_eq!(locks.place().line(), line);
    assert!(format!("{locks:?}").contains("keys: 0"));
}

// Against a model.

/// What may be done. Numbers that choose a wait or a permit go round.
#[derive(Debug, Clone, Copy)]
enum Step {
    Try(u32, usize),
    Wait(u32, usize),
    Poll(usize),
    Leave(usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (key, n) = (0..4u32, 0..4usize);
    prop_oneof![
        3 => (key.clone(), n.clone()).prop_map(|(key, n)| Step::Try(key, n)),
        4 => (key, n).prop_map(|(key, n)| Step::Wait(key, n)),
        4 => any::<usize>().prop_map(Step::Poll),
        2 => any::<usize>().prop_map(Step::Leave),
        4 => any::<usize>().prop_map(Step::Drop),
    ]
}

/// A key in use.
#[derive(Debug, Default)]
struct Used {
    users: usize,
    out: usize,
    /// Waits, in order, and how much they want.
    line: VecDeque<(usize, usize)>,
}

/// What the documentation says, one call after the other.
struct Model {
    permits: usize,
    most: usize,
    keys: BTreeMap<u32, Used>,
    /// Waits that were served and do not know yet.
    given: Vec<usize>,
}

/// How an attempt ends.
#[derive(Debug, PartialEq)]
enum Attempt {
    Had,
    Waits,
    TooManyKeys,
    OverCapacity,
}

impl Model {
    fn attempt(&mut self, key: u32, n: usize) -> Attempt {
        if n > self.permits {
            return Attempt::OverCapacity;
        }
        if !self.keys.contains_key(&key) && self.keys.len() >= self.most {
            return Attempt::TooManyKeys;
        }
        let used = self.keys.entry(key).or_default();
        if n == 0 || (used.line.is_empty() && used.out + n <= self.permits) {
            used.users += 1;
            used.out += n;
            return Attempt::Had;
        }
        Attempt::Waits
    }

    fn wait(&mut self, who: usize, key: u32, n: usize) {
        let used = self.keys.get_mut(&key).unwrap();
        used.users += 1;
        used.line.push_back((who, n));
    }

    /// `n` permits of a key come back, and one uses it less.
    fn give_back(&mut self, key: u32, n: usize) {
        let used = self.keys.get_mut(&key).unwrap();
        used.out -= n;
        used.users -= 1;
        while let Some(&(who, n)) = used.line.front() {
            if used.out + n > self.permits {
                break;
            }
            used.out += n;
            used.line.pop_front();
            self.given.push(who);
        }
        if used.users == 0 {
            self.keys.remove(&key);
        }
    }

    fn leave(&mut self, who: usize, key: u32, n: usize) {
        let used = self.keys.get_mut(&key).unwrap();
        let waited = used.line.len();
        used.line.retain(|(other, _)| *other != who);
        // It was served if it did not wait any more: that goes on to the next.
        let has = if used.line.len() < waited { 0 } else { n };
        self.given.retain(|other| *other != who);
        self.give_back(key, has);
    }
}

/// A wait that is under way.
struct Waits {
    who: usize,
    key: u32,
    n: usize,
    future: Wait,
    waker: CountingWaker,
}

fn compare(steps: &[Step], permits: usize, most: usize) {
    let keys = Keys::with_max_keys(permits, most);
    let mut model = Model { permits, most, keys: BTreeMap::new(), given: Vec::new() };
    let mut waits: Vec<Waits> = Vec::new();
    let mut held: Vec<KeyedPermit<u32>> = Vec::new();
    for (who, &step) in steps.iter().enumerate() {
        match step {
            Step::Try(key, n) => {
                let attempt = model.attempt(key, n);
                match keys.try_acquire(key, n) {
                    Ok(permit) => {
                        assert_eq!(attempt, Attempt::Had);
                        held.push(permit);
                    }
                    Err(TryKeyedError::NoPermits) => assert_eq!(attempt, Attempt::Waits),
                    Err(TryKeyedError::OverCapacity { .. }) => {
                        assert_eq!(attempt, Attempt::OverCapacity);
                    }
                    Err(_) => assert_eq!(attempt, Attempt::TooManyKeys),
                }
            }
            Step::Wait(key, n) => {
                let attempt = model.attempt(key, n);
                let (mut future, waker) = (Box::pin(keys.acquire(key, n)), CountingWaker::new());
                match poll_with(&mut future, &waker.waker()) {
                    Poll::Ready(Ok(permit)) => {
                        assert_eq!(attempt, Attempt::Had);
                        held.push(permit);
                    }
                    Poll::Pending => {
                        assert_eq!(attempt, Attempt::Waits);
                        model.wait(who, key, n);
                        waits.push(Waits { who, key, n, future, waker });
                    }
                    Poll::Ready(Err(KeyedError::OverCapacity { .. })) => {
                        assert_eq!(attempt, Attempt::OverCapacity);
                    }
                    Poll::Ready(Err(_)) => assert_eq!(attempt, Attempt::TooManyKeys),
                }
            }
            Step::Poll(which) if !waits.is_empty() => {
                let which = which % waits.len();
                let wait = &mut waits[which];
                let polled = poll_with(&mut wait.future, &wait.waker.waker());
                let served = model.given.contains(&wait.who);
                assert_eq!(polled.is_ready(), served);
                if let Poll::Ready(permit) = polled {
                    model.given.retain(|other| *other != wait.who);
                    held.push(permit.unwrap());
                    waits.swap_remove(which);
                }
            }
            Step::Leave(which) if !waits.is_empty() => {
                let Waits { who, key, n, future, .. } = waits.swap_remove(which % waits.len());
                drop(future);
                model.leave(who, key, n);
            }
            Step::Drop(which) if !held.is_empty() => {
                let permit = held.swap_remove(which % held.len());
                let (key, n) = (*permit.key(), permit.count());
                drop(permit);
                model.give_back(key, n);
            }
            Step::Poll(_) | Step::Leave(_) | Step::Drop(_) => {}
        }
        assert_eq!(keys.len(), model.keys.len());
        for wait in &waits {
            let served = model.given.contains(&wait.who);
            assert_eq!(wait.waker.wakes(), usize::from(served));
        }
    }
    drop((waits, held));
    assert!(keys.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn it_does_what_its_documentation_says(
        steps in prop::collection::vec(step(), 0..300),
        permits in 0..4usize,
        most in 0..5usize,
    ) {
        compare(&steps, permits, most);
    }
}
