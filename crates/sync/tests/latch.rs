//! The latch, fact by fact.
#![cfg(not(selvedge_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::Context as Tree;
use selvedge_sync::Latch;
use selvedge_testkit::{CountingWaker, PanickingWaker, ReentrantWaker, block_on, watchdog};

/// Fails rather than hangs.
fn within_reason(f: impl FnOnce() + Send + 'static) {
    watchdog(Duration::from_secs(30), "the test", f);
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn a_latch_opens_when_it_was_counted_down_and_stays_open() {
    let latch = Latch::new(2);
    let mut wait = pin!(latch.wait());
    assert!(wait.as_mut().poll(&mut noop()).is_pending());
    assert!(!latch.count_down(1));
    assert!(wait.as_mut().poll(&mut noop()).is_pending());
    assert!(latch.count_down(1));
    assert!(wait.as_mut().poll(&mut noop()).is_ready());
    assert!(latch.is_open());
    block_on(latch.wait());
    latch.wait_blocking();
}

#[test]
fn a_latch_of_nothing_is_open_at_birth() {
    let latch = Latch::new(0);
    assert!(latch.is_open());
    block_on(latch.wait());
    assert!(!latch.count_down(0));
    assert!(!latch.count_down(1));
}

#[test]
fn counting_below_zero_opens_once_and_does_nothing_more() {
    let latch = Latch::new(3);
    assert!(!latch.count_down(0));
    assert!(latch.count_down(usize::MAX));
    assert!(!latch.count_down(usize::MAX));
    assert_eq!(latch.count(), 0);
}

#[test]
fn the_highest_count_is_counted_exactly() {
    let latch = Latch::new(Latch::MAX_COUNT);
    assert!(!latch.count_down(Latch::MAX_COUNT - 1));
    assert_eq!(latch.count(), 1);
    assert!(latch.count_down(1));
}

#[test]
fn more_than_the_highest_count_panics_at_the_callers_place() {
    let panic = catch_unwind(|| Latch::new(Latch::MAX_COUNT + 1)).unwrap_err();
    let text = panic.downcast_ref::<&str>().unwrap();
    assert_eq!(*text, "latch not made: it counts more than Latch::MAX_COUNT");
}

#[test]
fn the_last_count_down_wakes_every_waiter_once_and_leaves_no_waker() {
    let latch = Latch::new(1);
    let wakers: Vec<_> = (0..100).map(|_| CountingWaker::new()).collect();
    let mut waits: Vec<_> = wakers
        .iter()
        .map(|waker| {
            let mut wait = Box::pin(latch.wait());
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
            wait
        })
        .collect();
    latch.count_down(1);
    for (waker, wait) in wakers.iter().zip(&mut waits) {
        assert_eq!((waker.wakes(), waker.live()), (1, 0));
        assert!(wait.as_mut().poll(&mut noop()).is_ready());
    }
}

#[test]
fn a_dropped_wait_leaves_nothing_behind() {
    let latch = Latch::new(1);
    let waker = CountingWaker::new();
    let mut wait = Box::pin(latch.wait());
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
    drop(wait);
    latch.count_down(1);
    assert_eq!((waker.wakes(), waker.live()), (0, 0));
}

#[test]
fn a_wait_ends_with_its_context() {
    within_reason(|| {
        let (ctx, canceller) = Tree::background().child();
        let latch = Latch::new(1);
        canceller.cancel();
        assert!(block_on(ctx.run(latch.wait())).is_err());
        latch.count_down(1);
        block_on(latch.wait());
    });
}

#[test]
fn threads_and_tasks_wait_together() {
    within_reason(|| {
        let latch = Arc::new(Latch::new(8));
        let waiting: Vec<_> = (0..4)
            .map(|i| {
                let latch = Arc::clone(&latch);
                thread::spawn(move || match i % 2 {
                    0 => latch.wait_blocking(),
                    _ => block_on(latch.wait()),
                })
            })
            .collect();
        let openers: Vec<_> = (0..8)
            .map(|_| {
                let latch = Arc::clone(&latch);
                thread::spawn(move || latch.count_down(1))
            })
            .collect();
        let opened = openers.into_iter().filter_map(|thread| thread.join().unwrap().then_some(()));
        assert_eq!(opened.count(), 1, "one of them opened it");
        for thread in waiting {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_panicking_waker_keeps_nobody_waiting() {
    let latch = Latch::new(1);
    let panics = PanickingWaker::new();
    let mut first = Box::pin(latch.wait());
    let mut second = Box::pin(latch.wait());
    assert!(first.as_mut().poll(&mut Context::from_waker(&panics.waker())).is_pending());
    assert!(second.as_mut().poll(&mut noop()).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| latch.count_down(1))).is_err());
    assert!(second.as_mut().poll(&mut noop()).is_ready());
    assert!(first.as_mut().poll(&mut noop()).is_ready());
}

#[test]
fn a_waker_may_use_the_latch() {
    within_reason(|| {
        let latch = Arc::new(Latch::new(1));
        let seen = Arc::clone(&latch);
        let waker = ReentrantWaker::on_wake(move || {
            assert!(seen.is_open());
            assert!(!seen.count_down(1));
            block_on(seen.wait());
        });
        let mut wait = Box::pin(latch.wait());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
        latch.count_down(1);
        assert!(wait.as_mut().poll(&mut noop()).is_ready());
    });
}

#[test]
fn a_latch_says_who_it_is() {
    let latch = Latch::new(3).named("started");
    assert_eq!(latch.name(), Some("started"));
    assert_eq!(latch.place().file(), file!());
    let debug = format!("{latch:?}");
    assert!(debug.contains("started") && debug.contains("count: 3"), "{debug}");
    assert!(format!("{:?}", latch.wait()).contains(file!()));
}

#[test]
#[cfg(feature = "tokio")]
fn an_always_ready_loop_yields_to_tokio() {
    within_reason(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let looping = tokio::spawn(async {
                let latch = Latch::new(0);
                for _ in 0..1_000_000 {
                    latch.wait().await;
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
fn a_loop_over_waits_in_a_context_that_has_ended_yields_to_tokio() {
    within_reason(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let latch = Latch::new(1);
            let (tree, canceller) = Tree::background().child();
            canceller.cancel();
            let looping = tokio::spawn(async move {
                for _ in 0..1_000_000 {
                    assert!(latch.wait_in(&tree).await.is_err());
                }
            });
            tokio::task::yield_now().await;
            assert!(!looping.is_finished());
            looping.abort();
        });
    });
}

#[test]
#[cfg(feature = "tokio")]
fn a_blocking_wait_in_a_task_whose_budget_is_spent_does_not_hang() {
    within_reason(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = std::future::poll_fn(|cx| {
            let open = Latch::new(0);
            let mut turns = 0..1_000_000;
            while turns.next().is_some() && pin!(open.wait()).poll(cx).is_ready() {}
            assert!(!turns.is_empty(), "the budget never ends");
            open.wait_blocking();
            // And waits for another thread.
            let latch = Latch::new(1);
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(20));
                    latch.count_down(1);
                });
                latch.wait_blocking();
            });
            assert!(latch.is_open());
            std::task::Poll::Ready(())
        });
        runtime.block_on(runtime.spawn(task)).unwrap();
    });
}

#[test]
fn a_wait_in_a_context_ends_with_it_or_with_the_latch() {
    within_reason(|| {
        let latch = Latch::new(1);
        let (tree, canceller) = Tree::background().child();
        let mut wait = pin!(latch.wait_in(&tree));
        let background = Tree::background();
        let mut other = pin!(latch.wait_in(&background));
        assert!(wait.as_mut().poll(&mut noop()).is_pending());
        assert!(other.as_mut().poll(&mut noop()).is_pending());
        canceller.cancel();
        assert!(block_on(wait).is_err());
        latch.count_down(1);
        assert!(block_on(other).is_ok());
        assert!(block_on(latch.wait_in(&tree)).is_err(), "the context comes first");
    });
}
