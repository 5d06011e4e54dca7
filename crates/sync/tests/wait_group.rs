//! The wait group, fact by fact.
#![cfg(not(selvedge_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::Context as Tree;
use selvedge_sync::WaitGroup;
use selvedge_testkit::{CountingWaker, PanickingWaker, ReentrantWaker, block_on, watchdog};

/// Fails rather than hangs.
fn within_reason(f: impl FnOnce() + Send + 'static) {
    watchdog(Duration::from_secs(30), "the test", f);
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn a_wait_completes_when_the_last_guard_is_dropped() {
    let group = Arc::new(WaitGroup::new());
    let borrowed = group.add(1).unwrap();
    let owned = group.add_owned(2).unwrap();
    assert_eq!((borrowed.count(), owned.count(), group.count()), (1, 2, 3));
    let mut wait = pin!(group.wait());
    assert!(wait.as_mut().poll(&mut noop()).is_pending());
    drop(owned);
    assert!(wait.as_mut().poll(&mut noop()).is_pending());
    drop(borrowed);
    assert!(wait.as_mut().poll(&mut noop()).is_ready());
}

#[test]
fn an_empty_group_keeps_nobody_waiting() {
    let group = WaitGroup::default();
    block_on(group.wait());
    group.wait_blocking();
    let nothing = group.add(0).unwrap();
    block_on(group.wait());
    drop(nothing);
    assert_eq!(group.count(), 0);
}

#[test]
fn more_than_the_highest_count_is_an_error_and_adds_nothing() {
    let group = Arc::new(WaitGroup::new());
    let most = group.add(WaitGroup::MAX_COUNT).unwrap();
    let error = group.add_owned(1).unwrap_err();
    assert_eq!((error.wanted, error.count), (1, WaitGroup::MAX_COUNT));
    assert!(error.to_string().starts_with("not added: 1 wanted"), "{error}");
    assert!(group.add(usize::MAX).is_err());
    drop(most);
    assert_eq!(group.count(), 0);
}

#[test]
fn a_guard_splits_without_a_change_of_the_count() {
    let group = Arc::new(WaitGroup::new());
    let mut all = group.add_owned(3).unwrap();
    assert!(all.split(4).is_none());
    let two = all.split(2).unwrap();
    let mut one = group.add(1).unwrap();
    let none = one.split(0).unwrap();
    assert_eq!((all.count(), two.count(), none.count(), group.count()), (1, 2, 0, 4));
    drop((all, none));
    assert_eq!(group.count(), 3);
    drop((two, one));
    assert_eq!(group.count(), 0);
}

#[test]
fn a_group_is_used_again() {
    let group = WaitGroup::new();
    for _ in 0..3 {
        let guard = group.add(1).unwrap();
        let mut wait = pin!(group.wait());
        assert!(wait.as_mut().poll(&mut noop()).is_pending());
        drop(guard);
        assert!(wait.as_mut().poll(&mut noop()).is_ready());
    }
}

#[test]
fn a_group_that_was_empty_for_a_moment_has_let_its_waiters_out() {
    let group = WaitGroup::new();
    let first = group.add(1).unwrap();
    let waker = CountingWaker::new();
    let mut wait = pin!(group.wait());
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
    drop(first);
    let second = group.add(1).unwrap();
    assert_eq!(waker.wakes(), 1);
    assert!(wait.as_mut().poll(&mut noop()).is_ready());
    assert!(pin!(group.wait()).poll(&mut noop()).is_pending());
    drop(second);
}

#[test]
fn a_panic_drops_its_guard() {
    let group = WaitGroup::new();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _guard = group.add(1).unwrap();
        panic!("the work failed");
    }));
    assert!(panic.is_err());
    block_on(group.wait());
}

#[test]
fn a_dropped_wait_leaves_nothing_behind() {
    let group = WaitGroup::new();
    let guard = group.add(1).unwrap();
    let waker = CountingWaker::new();
    let mut wait = Box::pin(group.wait());
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
    drop(wait);
    drop(guard);
    assert_eq!((waker.wakes(), waker.live()), (0, 0));
}

#[test]
fn a_wait_ends_with_its_context() {
    within_reason(|| {
        let (ctx, canceller) = Tree::background().child();
        let group = WaitGroup::new();
        let guard = group.add(1).unwrap();
        canceller.cancel();
        assert!(block_on(ctx.run(group.wait())).is_err());
        drop(guard);
        block_on(group.wait());
    });
}

#[test]
fn threads_see_what_was_done_under_the_guards() {
    within_reason(|| {
        let group = Arc::new(WaitGroup::new());
        let done = Arc::new(AtomicUsize::new(0));
        for round in 1..=100 {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let (guard, done) = (group.add_owned(1).unwrap(), Arc::clone(&done));
                    thread::spawn(move || {
                        done.fetch_add(1, Ordering::Relaxed);
                        drop(guard);
                    })
                })
                .collect();
            group.wait_blocking();
            assert_eq!(done.load(Ordering::Relaxed), 4 * round);
            for thread in threads {
                thread.join().unwrap();
            }
        }
    });
}

#[test]
fn a_panicking_waker_keeps_nobody_waiting() {
    let group = WaitGroup::new();
    let guard = group.add(1).unwrap();
    let panics = PanickingWaker::new();
    let mut first = Box::pin(group.wait());
    let mut second = Box::pin(group.wait());
    assert!(first.as_mut().poll(&mut Context::from_waker(&panics.waker())).is_pending());
    assert!(second.as_mut().poll(&mut noop()).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(guard))).is_err());
    assert!(second.as_mut().poll(&mut noop()).is_ready());
    assert_eq!(group.count(), 0);
}

#[test]
fn a_waker_may_use_the_group() {
    within_reason(|| {
        let group = Arc::new(WaitGroup::new());
        let seen = Arc::clone(&group);
        let waker = ReentrantWaker::on_wake(move || {
            drop(seen.add(1).unwrap());
            block_on(seen.wait());
        });
        let guard = group.add(1).unwrap();
        let mut wait = Box::pin(group.wait());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
        drop(guard);
        assert!(wait.as_mut().poll(&mut noop()).is_ready());
    });
}

#[test]
fn a_group_says_who_it_is() {
    let group = Arc::new(WaitGroup::new().named("requests"));
    assert_eq!(group.name(), Some("requests"));
    assert_eq!(group.place().file(), file!());
    let guard = group.add_owned(2).unwrap();
    for debug in [format!("{group:?}"), format!("{guard:?}"), format!("{:?}", group.add(1))] {
        assert!(debug.contains("requests"), "{debug}");
    }
    assert!(format!("{:?}", group.wait()).contains(file!()));
}

#[test]
#[cfg(feature = "tokio")]
fn an_always_ready_loop_yields_to_tokio() {
    within_reason(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let looping = tokio::spawn(async {
                let group = WaitGroup::new();
                for _ in 0..1_000_000 {
                    group.wait().await;
                }
                panic!("it never yields");
            });
            tokio::task::yield_now().await;
            looping.abort();
            assert!(looping.await.unwrap_err().is_cancelled());
        });
    });
}

#[test]
#[cfg(feature = "tokio")]
fn a_blocking_wait_in_a_task_whose_budget_is_spent_does_not_hang() {
    within_reason(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = std::future::poll_fn(|cx| {
            let group = WaitGroup::new();
            let mut turns = 0..1_000_000;
            while turns.next().is_some() && pin!(group.wait()).poll(cx).is_ready() {}
            assert!(!turns.is_empty(), "the budget never ends");
            group.wait_blocking();
            // And waits for another thread.
            let guard = group.add(1).unwrap();
            thread::scope(|scope| {
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(20));
                    drop(guard);
                });
                group.wait_blocking();
            });
            std::task::Poll::Ready(())
        });
        runtime.block_on(runtime.spawn(task)).unwrap();
    });
}

#[test]
fn a_wait_in_a_context_ends_with_it_or_with_the_group() {
    within_reason(|| {
        let group = WaitGroup::new();
        let guard = group.add(1).unwrap();
        let (tree, canceller) = Tree::background().child();
        let mut wait = pin!(group.wait_in(&tree));
        let background = Tree::background();
        let mut other = pin!(group.wait_in(&background));
        assert!(wait.as_mut().poll(&mut noop()).is_pending());
        assert!(other.as_mut().poll(&mut noop()).is_pending());
        canceller.cancel();
        assert!(block_on(wait).is_err());
        drop(guard);
        assert!(block_on(other).is_ok());
        assert!(block_on(group.wait_in(&tree)).is_err(), "the context comes first");
    });
}
