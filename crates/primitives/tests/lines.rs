//! Many lines behind one lock: order, lines apart, lines that come and go, batches, wakers outside the lock, panics.
#![cfg(not(selvedge_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge_primitives::observe::Subject;
use selvedge_primitives::{Anchor, Entry, Left, LineId, LineWaiter, Lines, LockedLines, WakeBatch};
use selvedge_testkit::{CountingWaker, PanickingWaker, ReentrantWaker, watchdog};

/// The lock, held.
type Held<'a> = LockedLines<'a, usize, &'static str, (), usize>;
/// Lines with a name each, beside a number; who waits is handed a number.
type Named = Lines<usize, &'static str, (), usize>;
type Boxed<'q> = Pin<Box<LineWaiter<'q, usize, &'static str, (), usize>>>;

const PATIENCE: Duration = Duration::from_secs(20);

fn lines() -> Named {
    Named::observed(0, Subject::here("lines"))
}

fn poll(waiter: &mut Boxed<'_>, id: LineId, waker: &Waker) -> Poll<usize> {
    waiter.as_mut().poll_enter(&mut Context::from_waker(waker), |_| Entry::Wait((id, ())))
}

fn queued<'q>(lines: &'q Named, id: LineId, waker: &Waker) -> Boxed<'q> {
    let mut waiter = Box::pin(LineWaiter::new(Anchor::borrowed(lines)));
    assert!(poll(&mut waiter, id, waker).is_pending());
    waiter
}

fn insert(lines: &Named, name: &'static str) -> LineId {
    lines.lock().insert(name)
}

fn waiting(lines: &Named, id: LineId) -> usize {
    lines.lock().waiting(id)
}

/// Grants numbers from `first` on to all who stand in a line.
fn grant_all(lines: &Named, id: LineId, first: usize) {
    let mut next = first..;
    lines.grant_each(lines.lock(), id, |_| next.next(), |_| ());
}

// Smoke.

#[test]
fn each_line_is_served_in_order_and_apart() {
    let lines = lines();
    let (one, two) = (insert(&lines, "one"), insert(&lines, "two"));
    let mut in_one: Vec<_> = (0..3).map(|_| queued(&lines, one, Waker::noop())).collect();
    let mut in_two = queued(&lines, two, Waker::noop());
    assert_eq!((waiting(&lines, one), waiting(&lines, two)), (3, 1));
    grant_all(&lines, one, 10);
    for (waiter, number) in in_one.iter_mut().zip(10..) {
        assert_eq!(poll(waiter, one, Waker::noop()), Poll::Ready(number));
    }
    assert!(poll(&mut in_two, two, Waker::noop()).is_pending());
    assert_eq!((waiting(&lines, one), waiting(&lines, two)), (0, 1));
}

#[test]
fn what_is_decided_under_the_lock_enters_no_line() {
    let lines = lines();
    let mut waiter = Box::pin(LineWaiter::new(Anchor::borrowed(&lines)));
    let mut cx = Context::from_waker(Waker::noop());
    let polled = waiter.as_mut().poll_enter(&mut cx, |held| {
        **held += 1;
        let id = held.insert("made");
        assert_eq!(held.line(id), Some(&"made"));
        *held.line_mut(id).unwrap() = "changed";
        Entry::Ready(id.number())
    });
    let Poll::Ready(number) = polled else { panic!("it is ready") };
    let id = LineId::of_number(number);
    assert_eq!(*lines.lock(), 1);
    assert_eq!(lines.lock().line(id), Some(&"changed"));
    assert_eq!(lines.lock().remove(id), Some("changed"));
    assert_eq!(lines.lock().remove(id), None);
    assert_eq!(lines.lock().line_mut(id), None);
}

#[test]
fn a_waiter_may_wait_in_another_line_after_it_was_served() {
    let lines = lines();
    let (one, two) = (insert(&lines, "one"), insert(&lines, "two"));
    let mut waiter = queued(&lines, one, Waker::noop());
    grant_all(&lines, one, 1);
    assert_eq!(poll(&mut waiter, two, Waker::noop()), Poll::Ready(1));
    assert!(poll(&mut waiter, two, Waker::noop()).is_pending());
    assert_eq!(lines.lock().remove(one), Some("one"));
    let left = waiter.as_mut().cancel_then(|held| assert_eq!(held.waiting(two), 0));
    assert_eq!(left, Left::Queued(()));
}

// Lines that come and go.

#[test]
fn lines_that_come_move_nobody_who_stands_in_one() {
    let lines = lines();
    let first = insert(&lines, "first");
    let mut waiter = queued(&lines, first, Waker::noop());
    // More than the memory of the first few has room for.
    let more: Vec<_> = (0..1_000).map(|_| insert(&lines, "more")).collect();
    let behind = queued(&lines, first, Waker::noop());
    for id in more {
        assert_eq!(lines.lock().remove(id), Some("more"));
    }
    drop(behind);
    grant_all(&lines, first, 5);
    assert_eq!(poll(&mut waiter, first, Waker::noop()), Poll::Ready(5));
}

#[test]
fn a_line_in_which_somebody_stands_is_not_taken_out() {
    let lines = lines();
    let id = insert(&lines, "one");
    let waiter = queued(&lines, id, Waker::noop());
    let panic = catch_unwind(AssertUnwindSafe(|| lines.lock().remove(id))).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("somebody stands in the line"));
    assert_eq!(waiting(&lines, id), 1);
    drop(waiter);
    assert_eq!(lines.lock().remove(id), Some("one"));
}

#[test]
fn a_line_that_is_not_there_is_not_entered() {
    let lines = lines();
    let mut waiter = Box::pin(LineWaiter::new(Anchor::borrowed(&lines)));
    let nowhere = LineId::of_number(7);
    let enter = AssertUnwindSafe(|| poll(&mut waiter, nowhere, Waker::noop()));
    assert!(catch_unwind(enter).is_err());
    // It stands nowhere, and nothing is locked.
    drop(waiter);
    assert_eq!(waiting(&lines, nowhere), 0);
}

#[test]
fn the_lock_of_other_lines_is_refused() {
    let (mine, other) = (lines(), lines());
    let (id, _) = (insert(&mine, "mine"), insert(&other, "other"));
    let mut waiter = Box::pin(LineWaiter::new(Anchor::borrowed(&mine)));
    let enter = AssertUnwindSafe(|| {
        let mut swapped = other.lock();
        waiter.as_mut().poll_enter(&mut Context::from_waker(Waker::noop()), |held| {
            std::mem::swap(held, &mut swapped);
            Entry::Wait((id, ()))
        })
    });
    let panic = catch_unwind(enter).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the lock of other lines"));
}

#[test]
fn memory_is_given_back_when_there_are_no_lines() {
    let lines = lines();
    let ids: Vec<_> = (0..100).map(|_| insert(&lines, "one")).collect();
    assert!(lines.lock().spare(64).is_none());
    for id in ids {
        lines.lock().remove(id);
    }
    assert!(lines.lock().spare(1_000).is_none());
    assert!(lines.lock().spare(64).is_some());
    assert!(lines.lock().spare(64).is_none());
}

// Leaving.

#[test]
fn who_leaves_takes_its_place_along_or_what_it_was_granted() {
    let lines = lines();
    let id = insert(&lines, "one");
    let mut three: Vec<_> = (0..3).map(|_| queued(&lines, id, Waker::noop())).collect();
    drop(three.remove(1));
    assert_eq!(waiting(&lines, id), 2);
    grant_all(&lines, id, 1);
    assert_eq!(three[1].as_mut().cancel_then(|_| panic!("it is not in line")), Left::Granted(2));
    assert_eq!(three[1].as_mut().cancel_then(|_| panic!("it is not in line")), Left::Nothing);
    assert_eq!(poll(&mut three[0], id, Waker::noop()), Poll::Ready(1));
}

#[test]
fn an_owned_waiter_keeps_the_lines() {
    let lines = Arc::new(lines());
    let id = insert(&lines, "one");
    let anchor = Anchor::shared(Arc::clone(&lines), |lines| lines);
    let mut waiter: Boxed<'static> = Box::pin(LineWaiter::new(anchor));
    drop(lines);
    assert!(poll(&mut waiter, id, Waker::noop()).is_pending());
    grant_all(waiter.lines(), id, 3);
    assert_eq!(poll(&mut waiter, id, Waker::noop()), Poll::Ready(3));
}

// Batches.

#[test]
fn more_than_a_batch_are_served_and_the_last_look_comes_once() {
    let lines = lines();
    let id = insert(&lines, "one");
    let mut waiters: Vec<_> = (0..100).map(|_| queued(&lines, id, Waker::noop())).collect();
    let mut looks = 0;
    let last = |held: &mut Held<'_>| {
        looks += 1;
        assert_eq!(held.remove(id), Some("one"));
    };
    lines.grant_each(lines.lock(), id, |_| Some(1), last);
    assert_eq!(looks, 1);
    assert!(waiters.iter_mut().all(|waiter| poll(waiter, id, Waker::noop()).is_ready()));
}

#[test]
fn a_line_that_is_gone_between_two_batches_is_not_served() {
    watchdog(PATIENCE, "a line that goes", || {
        let lines = Arc::new(lines());
        let id = insert(&lines, "old");
        // As many as a batch holds; the first that is woken puts another line in the place of theirs, and somebody in it.
        let mut batch = 0;
        while !fills(&mut batch) {}
        let other: Arc<Mutex<Option<Boxed<'static>>>> = Arc::default();
        let replaces = {
            let (lines, other) = (Arc::clone(&lines), Arc::clone(&other));
            ReentrantWaker::on_wake(move || {
                let mut other = other.lock().unwrap();
                if other.is_none() {
                    assert_eq!(lines.lock().remove(id), Some("old"));
                    assert_eq!(insert(&lines, "new"), id);
                    let anchor = Anchor::shared(Arc::clone(&lines), |lines| lines);
                    let mut waiter: Boxed<'static> = Box::pin(LineWaiter::new(anchor));
                    assert!(poll(&mut waiter, id, Waker::noop()).is_pending());
                    *other = Some(waiter);
                }
            })
        };
        let waker = replaces.waker();
        let waiters: Vec<_> = (0..batch).map(|_| queued(&lines, id, &waker)).collect();
        let mut last = None;
        let next = |held: &mut Held<'_>| (held.line(id) == Some(&"old")).then_some(1);
        lines.grant_each(lines.lock(), id, next, |held| last = held.line(id).copied());
        assert_eq!((last, waiting(&lines, id)), (Some("new"), 1));
        drop((waiters, other.lock().unwrap().take()));
        assert_eq!(waiting(&lines, id), 0);
    });
}

/// Counts one more that a batch holds; true if it is full then.
fn fills(count: &mut usize) -> bool {
    let mut batch = WakeBatch::new();
    *count += 1;
    (0..*count).for_each(|_| batch.push(Waker::noop().clone()));
    batch.is_full()
}

// Wakers.

#[test]
fn wakers_run_with_no_lock_held_and_one_that_panics_stops_no_other() {
    watchdog(PATIENCE, "a waker that looks back", || {
        let lines = Arc::new(lines());
        let id = insert(&lines, "one");
        let looks = {
            let lines = Arc::clone(&lines);
            ReentrantWaker::on_wake(move || *lines.lock() += 1)
        };
        let panics = PanickingWaker::new();
        let counts = CountingWaker::new();
        let waiters = [
            queued(&lines, id, &panics.waker()),
            queued(&lines, id, &looks.waker()),
            queued(&lines, id, &counts.waker()),
        ];
        let granted = catch_unwind(AssertUnwindSafe(|| grant_all(&lines, id, 0)));
        assert!(granted.is_err());
        assert_eq!((counts.wakes(), waiting(&lines, id)), (1, 0));
        assert_eq!(*lines.lock(), 1);
        drop(waiters);
    });
}
