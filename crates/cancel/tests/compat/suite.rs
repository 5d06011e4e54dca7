//! What a cancellation token promises, asked of whatever `super::sync` is: ours, and tokio-util's.

use std::cell::Cell;
use std::collections::HashSet;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use selvedge_testkit::{CountingWaker, ReentrantWaker, block_on, watchdog};

use super::sync::{
    CancellationToken, DropGuard, DropGuardRef, WaitForCancellationFuture,
    WaitForCancellationFutureOwned,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Polls once.
fn poll<F: Future>(future: Pin<&mut F>, waker: &CountingWaker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&waker.waker()))
}

#[test]
fn cancel_wakes_who_waits_and_what_waits_later_is_ready() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let mut waits = pin!(token.cancelled());
    let mut has_not_begun = pin!(token.cancelled());
    assert!(!token.is_cancelled() && poll(waits.as_mut(), &waker).is_pending());
    token.cancel();
    assert_eq!((token.is_cancelled(), waker.wakes()), (true, 1));
    assert!(poll(waits, &waker).is_ready() && poll(has_not_begun.as_mut(), &waker).is_ready());
    assert!(poll(pin!(token.cancelled()), &waker).is_ready());
}

#[test]
fn cancel_wakes_who_waits_with_a_token_of_its_own() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let mut waits = pin!(token.clone().cancelled_owned());
    let mut has_not_begun = pin!(token.clone().cancelled_owned());
    assert!(poll(waits.as_mut(), &waker).is_pending());
    token.cancel();
    token.cancel();
    assert_eq!(waker.wakes(), 1, "once");
    assert!(poll(waits, &waker).is_ready() && poll(has_not_begun.as_mut(), &waker).is_ready());
}

#[test]
fn a_wait_that_has_the_last_token_is_dropped_while_it_waits() {
    let waker = CountingWaker::new();
    {
        let mut waits = pin!(CancellationToken::new().cancelled_owned());
        assert!(poll(waits.as_mut(), &waker).is_pending());
    }
    assert_eq!((waker.wakes(), waker.live()), (0, 0));
}

#[test]
fn a_wait_that_is_dropped_leaves_no_waker_and_stops_no_other() {
    let (gone, stays) = (CountingWaker::new(), CountingWaker::new());
    let token = CancellationToken::new();
    let mut first = Box::pin(token.cancelled());
    let mut second = pin!(token.cancelled());
    assert!(poll(first.as_mut(), &gone).is_pending());
    assert!(poll(second.as_mut(), &stays).is_pending());
    drop(first);
    assert_eq!(gone.live(), 0);
    token.cancel();
    assert_eq!((gone.wakes(), stays.wakes()), (0, 1));
}

#[test]
fn cancelling_a_parent_cancels_the_child() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let child = token.child_token();
    let mut of_child = pin!(child.cancelled());
    let mut of_parent = pin!(token.cancelled());
    assert!(poll(of_child.as_mut(), &waker).is_pending());
    assert!(poll(of_parent.as_mut(), &waker).is_pending());
    token.cancel();
    assert_eq!((child.is_cancelled(), waker.wakes()), (true, 2));
    assert!(poll(of_child, &waker).is_ready() && poll(of_parent, &waker).is_ready());
}

#[test]
fn cancelling_a_child_leaves_the_parent_and_the_next_child() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let first = token.child_token();
    let mut of_first = pin!(first.cancelled());
    let mut of_parent = pin!(token.cancelled());
    assert!(poll(of_first.as_mut(), &waker).is_pending());
    assert!(poll(of_parent.as_mut(), &waker).is_pending());
    first.cancel();
    assert!(first.is_cancelled() && !token.is_cancelled());
    assert_eq!(waker.wakes(), 1);
    assert!(poll(of_first, &waker).is_ready() && poll(of_parent.as_mut(), &waker).is_pending());

    let second = token.child_token();
    let mut of_second = pin!(second.cancelled());
    assert!(poll(of_second.as_mut(), &waker).is_pending());
    token.cancel();
    assert!(second.is_cancelled());
    assert_eq!(waker.wakes(), 3);
    assert!(poll(of_second, &waker).is_ready() && poll(of_parent, &waker).is_ready());
}

#[test]
fn a_grandchild_is_cancelled_though_the_one_between_was_dropped() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let between = token.child_token();
    let grandchild = between.child_token();
    drop(between);
    assert!(!grandchild.is_cancelled());
    let mut waits = pin!(grandchild.cancelled());
    assert!(poll(waits.as_mut(), &waker).is_pending());
    token.cancel();
    assert_eq!((grandchild.is_cancelled(), waker.wakes()), (true, 1));
    assert!(poll(waits, &waker).is_ready());
}

#[test]
fn the_child_of_a_cancelled_token_is_cancelled_in_whatever_order_they_go() {
    for child_first in [false, true] {
        let waker = CountingWaker::new();
        let token = CancellationToken::new();
        token.cancel();
        let child = token.child_token();
        assert!(child.is_cancelled() && child.child_token().is_cancelled());
        assert!(poll(pin!(child.cancelled()), &waker).is_ready());
        assert_eq!((waker.wakes(), waker.live()), (0, 0));
        if child_first {
            drop(child);
            drop(token);
        } else {
            drop(token);
            assert!(child.is_cancelled());
        }
    }
}

#[test]
fn dropping_children_from_either_end_cancels_nothing() {
    for from_the_front in [false, true] {
        let token = CancellationToken::new();
        let mut children: Vec<_> = (0..5).map(|_| token.child_token()).collect();
        while !children.is_empty() {
            let gone = if from_the_front { 0 } else { children.len() - 1 };
            drop(children.remove(gone));
            assert!(!token.is_cancelled());
            assert!(!children.iter().any(CancellationToken::is_cancelled));
        }
    }
}

#[test]
fn dropping_the_last_token_cancels_neither_children_nor_who_waits() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let (first, second) = (token.child_token(), token.child_token());
    let mut waits = pin!(token.clone().cancelled_owned());
    assert!(poll(waits.as_mut(), &waker).is_pending());
    drop(token);
    assert!(!first.is_cancelled() && !second.is_cancelled());
    assert!(poll(waits.as_mut(), &waker).is_pending());
    drop(first);
    assert!(!second.is_cancelled());
    second.cancel();
    assert!(second.is_cancelled() && poll(waits, &waker).is_pending());
}

#[test]
fn exactly_the_descendants_are_cancelled() {
    let waker = CountingWaker::new();
    let parent = CancellationToken::new();
    let token = parent.child_token();
    let sibling = parent.child_token();
    let (left, right) = (token.child_token(), token.child_token());
    let (grandchild, other) = (left.child_token(), left.child_token());
    let great_grandchild = grandchild.child_token();
    let spared = [&parent, &sibling];
    let cancelled = [&token, &left, &right, &grandchild, &other, &great_grandchild];
    let mut waits: Vec<_> =
        spared.iter().chain(&cancelled).map(|t| Box::pin(t.cancelled())).collect();
    assert!(waits.iter_mut().all(|wait| poll(wait.as_mut(), &waker).is_pending()));

    token.cancel();
    assert_eq!(waker.wakes(), cancelled.len());
    assert!(!spared.iter().any(|token| token.is_cancelled()));
    assert!(cancelled.iter().all(|token| token.is_cancelled()));
    let is_ready: Vec<_> =
        waits.iter_mut().map(|wait| poll(wait.as_mut(), &waker).is_ready()).collect();
    assert_eq!(is_ready, [false, false, true, true, true, true, true, true]);
    assert_eq!(waker.wakes(), cancelled.len());
}

#[test]
#[allow(clippy::mutable_key_type, reason = "a token is hashed by what it is, not by its state")]
fn a_clone_is_the_token_itself() {
    let token = CancellationToken::new();
    let clone = token.clone();
    assert_eq!(token, clone);
    clone.cancel();
    assert!(token.is_cancelled());
    let all = HashSet::from([token.clone(), clone]);
    assert!(all.len() == 1 && all.contains(&token));
}

#[test]
#[allow(clippy::mutable_key_type, reason = "as above")]
fn a_child_and_a_stranger_are_other_tokens() {
    let token = CancellationToken::new();
    let (child, stranger) = (token.child_token(), CancellationToken::default());
    assert_ne!(token, child);
    assert_ne!(token, stranger);
    assert_eq!(HashSet::from([token, child, stranger]).len(), 3);
}

#[test]
fn debug_tells_whether_it_is_cancelled() {
    let token = CancellationToken::new();
    assert_eq!(format!("{token:?}"), "CancellationToken { is_cancelled: false }");
    token.cancel();
    assert_eq!(format!("{token:?}"), "CancellationToken { is_cancelled: true }");
    assert!(!format!("{:?} {:?}", token.cancelled(), token.drop_guard_ref()).is_empty());
}

#[test]
fn a_dropped_guard_cancels_its_token() {
    let token = CancellationToken::new();
    let child = token.child_token();
    let guard: DropGuard = token.clone().drop_guard();
    assert!(*guard.token() == token && !token.is_cancelled());
    drop(guard);
    assert!(token.is_cancelled() && child.is_cancelled());
}

#[test]
fn a_guard_cancels_when_its_scope_panics() {
    let token = CancellationToken::new();
    let guard = token.clone().drop_guard();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = guard;
        std::panic::panic_any("on purpose");
    }));
    assert!(panicked.is_err() && token.is_cancelled());
}

#[test]
fn a_disarmed_guard_gives_its_token_back_and_another_guard_still_cancels() {
    let token = CancellationToken::new();
    let (disarmed, armed) = (token.clone().drop_guard(), token.clone().drop_guard());
    assert_eq!(disarmed.disarm(), token);
    assert!(!token.is_cancelled());
    drop(armed);
    assert!(token.is_cancelled());
}

#[test]
fn a_guard_that_borrows_cancels_unless_it_is_disarmed() {
    let token = CancellationToken::new();
    let guard: DropGuardRef<'_> = token.drop_guard_ref();
    assert_eq!(*guard.token(), token);
    let back: &CancellationToken = guard.disarm();
    assert!(!back.is_cancelled());
    drop(token.drop_guard_ref());
    assert!(token.is_cancelled());
}

#[test]
fn run_until_cancelled_ends_with_the_token() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let mut run = pin!(token.run_until_cancelled(pending::<()>()));
    assert!(poll(run.as_mut(), &waker).is_pending());
    token.cancel();
    assert_eq!(waker.wakes(), 1);
    assert_eq!(poll(run, &waker), Poll::Ready(None));
}

#[test]
fn run_until_cancelled_ends_with_the_work() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let (done, asked) = (Cell::new(false), Cell::new(0));
    let work = poll_fn(|_| {
        asked.set(asked.get() + 1);
        if done.get() { Poll::Ready(42) } else { Poll::Pending }
    });
    let mut run = pin!(token.run_until_cancelled(work));
    assert!(poll(run.as_mut(), &waker).is_pending());
    done.set(true);
    assert_eq!((poll(run, &waker), asked.get()), (Poll::Ready(Some(42)), 2));
}

#[test]
fn work_is_not_begun_when_the_token_was_cancelled_before_the_first_poll() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let run = pin!(token.run_until_cancelled(async { panic!("polled") }));
    token.cancel();
    assert_eq!(poll(run, &waker), Poll::<Option<()>>::Ready(None));
    let run = pin!(token.clone().run_until_cancelled_owned(async { panic!("polled") }));
    assert_eq!(poll(run, &waker), Poll::<Option<()>>::Ready(None));
}

#[test]
fn work_that_is_done_when_the_token_is_cancelled_gives_its_output() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let done = Cell::new(false);
    let work = poll_fn(|_| if done.get() { Poll::Ready(7) } else { Poll::Pending });
    let mut run = pin!(token.run_until_cancelled(work));
    assert!(poll(run.as_mut(), &waker).is_pending());
    done.set(true);
    token.cancel();
    assert_eq!(poll(run, &waker), Poll::Ready(Some(7)));
}

#[test]
fn work_is_dropped_as_soon_as_the_token_ends_it() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let (begun, not_begun) = (Rc::new(()), Rc::new(()));
    let held = Rc::clone(&begun);
    let mut run = pin!(token.run_until_cancelled(async move {
        pending::<()>().await;
        drop(held);
    }));
    assert!(poll(run.as_mut(), &waker).is_pending());
    token.cancel();
    assert_eq!((poll(run.as_mut(), &waker), Rc::strong_count(&begun)), (Poll::Ready(None), 1));
    let held = Rc::clone(&not_begun);
    let mut run = pin!(token.run_until_cancelled(async move { drop(held) }));
    assert_eq!((poll(run.as_mut(), &waker), Rc::strong_count(&not_begun)), (Poll::Ready(None), 1));
}

#[test]
fn work_that_is_polled_after_its_end_panics() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let mut run = pin!(token.run_until_cancelled(ready(1)));
    assert_eq!(poll(run.as_mut(), &waker), Poll::Ready(Some(1)));
    assert!(catch_unwind(AssertUnwindSafe(|| poll(run.as_mut(), &waker))).is_err());
}

#[test]
fn run_until_cancelled_owned_ends_with_the_token_and_with_the_work() {
    let waker = CountingWaker::new();
    let token = CancellationToken::new();
    let run = |token: CancellationToken| token.run_until_cancelled_owned(pending::<()>());
    let mut run = pin!(run(token.clone()));
    assert!(poll(run.as_mut(), &waker).is_pending());
    token.cancel();
    assert_eq!(poll(run, &waker), Poll::Ready(None));

    let done = Cell::new(false);
    let work = poll_fn(|_| if done.get() { Poll::Ready(42) } else { Poll::Pending });
    let mut run = pin!(CancellationToken::new().run_until_cancelled_owned(work));
    assert!(poll(run.as_mut(), &waker).is_pending());
    done.set(true);
    assert_eq!(poll(run, &waker), Poll::Ready(Some(42)));
}

#[test]
fn a_waker_of_a_descendant_may_use_its_ancestors() {
    watchdog(PATIENCE, "a waker that uses an ancestor", || {
        let root = CancellationToken::new();
        let child = root.child_token();
        let ancestor = root.clone();
        let waker = ReentrantWaker::on_wake(move || assert!(ancestor.child_token().is_cancelled()));
        let mut waits = Box::pin(child.cancelled());
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
        root.cancel();
        assert_eq!(waker.wakes(), 1);
    });
}

#[test]
fn a_cancel_from_another_thread_ends_every_wait() {
    watchdog(PATIENCE, "a cancel from another thread", || {
        for _ in 0..200 {
            let token = CancellationToken::new();
            let waits: Vec<_> = (0..2)
                .map(|_| {
                    let child = token.child_token();
                    thread::spawn(move || block_on(child.cancelled()))
                })
                .collect();
            token.cancel();
            waits.into_iter().for_each(|wait| wait.join().unwrap());
        }
    });
}

#[test]
fn it_crosses_threads_and_unwinding() {
    fn crosses<T: Send + Sync>() {}
    fn unwinds<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    crosses::<CancellationToken>();
    crosses::<WaitForCancellationFuture<'static>>();
    crosses::<WaitForCancellationFutureOwned>();
    crosses::<DropGuard>();
    crosses::<DropGuardRef<'static>>();
    unwinds::<CancellationToken>();
}
