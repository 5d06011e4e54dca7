//! The wait queue: order, leaving, batches, wakers outside the lock, panics, forgotten waiters.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge_primitives::{Anchor, Entry, Left, Serve, WaitQueue, Waiter, WakeBatch};
use selvedge_testkit::{
    CountingAllocator, CountingWaker, PanickingWaker, ReentrantWaker, watchdog,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A queue where each brings a number, and is handed a number.
type Queue = WaitQueue<usize, usize, usize>;
type Boxed<'q> = Pin<Box<Waiter<'q, usize, usize, usize>>>;

const PATIENCE: Duration = Duration::from_secs(20);

fn waiter(queue: &Queue) -> Boxed<'_> {
    Box::pin(Waiter::new(Anchor::borrowed(queue)))
}

fn shared(queue: &Arc<Queue>) -> Boxed<'static> {
    Box::pin(Waiter::new(Anchor::shared(Arc::clone(queue), |queue| queue)))
}

/// Polls; queues with `request` if it has not queued yet.
fn poll(waiter: &mut Boxed<'_>, request: usize, waker: &Waker) -> Poll<usize> {
    waiter.as_mut().poll_enter(&mut Context::from_waker(waker), |_| Entry::Wait(request))
}

fn enqueue<'q>(queue: &'q Queue, request: usize, waker: &Waker) -> Boxed<'q> {
    let mut waiter = waiter(queue);
    assert_eq!(poll(&mut waiter, request, waker), Poll::Pending);
    waiter
}

/// Forgets a waiter, and notes where it lies: a leak checker then sees that it is meant.
fn forget(waiter: Boxed<'_>) {
    static FORGOTTEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    FORGOTTEN.lock().unwrap().push(std::ptr::from_ref(&*waiter).addr());
    std::mem::forget(waiter);
}

/// Grants to everybody ten times what they asked for.
fn grant_all(queue: &Queue) {
    queue.grant_while(queue.lock(), |_, request| Some(request * 10));
}

/// The requests in the order in which they are served.
fn served(queue: &Queue) -> Vec<usize> {
    let order = RefCell::new(Vec::new());
    queue.grant_while(queue.lock(), |_, &request| {
        order.borrow_mut().push(request);
        Some(0)
    });
    order.into_inner()
}

// Smoke.

#[test]
fn an_outcome_decided_under_the_lock_does_not_queue() {
    let queue = Queue::new(3);
    let mut waiter = waiter(&queue);
    let mut cx = Context::from_waker(Waker::noop());
    let ready = waiter.as_mut().poll_enter(&mut cx, |state| {
        **state += 1;
        Entry::Ready(**state)
    });
    assert_eq!(ready, Poll::Ready(4));
    assert!(!waiter.as_ref().is_waiting());
    assert!(queue.lock().is_empty());
    assert_eq!(*queue.lock(), 4);
}

#[test]
fn a_grant_wakes_once_and_carries_its_outcome() {
    let queue = Queue::new(0);
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut waiter = enqueue(&queue, 7, &waker);
    assert!(waiter.as_ref().is_waiting());
    grant_all(&queue);
    assert_eq!(counting.wakes(), 1);
    assert_eq!(poll(&mut waiter, 0, &waker), Poll::Ready(70));
    assert!(!waiter.as_ref().is_waiting());
    assert_eq!(counting.live(), 1, "only the test's own handle is left");
}

#[test]
fn a_served_waiter_waits_again() {
    let queue = Queue::new(0);
    let mut waiter = waiter(&queue);
    for request in 1..4 {
        assert_eq!(poll(&mut waiter, request, Waker::noop()), Poll::Pending);
        assert_eq!(queue.lock().len(), 1);
        grant_all(&queue);
        assert_eq!(poll(&mut waiter, 0, Waker::noop()), Poll::Ready(request * 10));
    }
}

#[test]
fn grant_front_returns_the_outcome_when_nobody_waits() {
    let queue = Queue::new(0);
    let mut batch = WakeBatch::new();
    assert_eq!(queue.lock().grant_front(5, &mut batch), Err(5));
    let mut waiter = enqueue(&queue, 1, Waker::noop());
    assert_eq!(queue.lock().grant_front(5, &mut batch), Ok(()));
    batch.wake_all();
    assert_eq!(poll(&mut waiter, 0, Waker::noop()), Poll::Ready(5));
}

// Order.

#[test]
fn waiters_are_served_in_the_order_they_came() {
    let queue = Queue::new(0);
    let _waiters: Vec<_> = (0..100).map(|i| enqueue(&queue, i, Waker::noop())).collect();
    assert_eq!(served(&queue), Vec::from_iter(0..100));
}

#[test]
fn a_front_that_is_not_served_holds_back_those_behind_it() {
    let queue = Queue::new(5);
    let mut waiters: Vec<_> =
        [3, 4, 1].into_iter().map(|n| enqueue(&queue, n, Waker::noop())).collect();
    queue.grant_while(queue.lock(), |left, &request| {
        *left = left.checked_sub(request)?;
        Some(request)
    });
    assert_eq!(*queue.lock(), 2, "the 1 behind the 4 was not served first");
    assert_eq!(queue.lock().len(), 2);
    assert_eq!(poll(&mut waiters[0], 0, Waker::noop()), Poll::Ready(3));
    assert_eq!(poll(&mut waiters[1], 0, Waker::noop()), Poll::Pending);
    assert_eq!(poll(&mut waiters[2], 0, Waker::noop()), Poll::Pending);
}

#[test]
fn head_middle_and_tail_leave_without_disturbing_the_others() {
    let cases: [(&[usize], &[usize]); 5] = [
        (&[0], &[1, 2, 3, 4]),
        (&[2], &[0, 1, 3, 4]),
        (&[4], &[0, 1, 2, 3]),
        (&[1, 3, 2], &[0, 4]),
        (&[4, 0, 2, 1, 3], &[]),
    ];
    for (leaving, staying) in cases {
        let queue = Queue::new(0);
        let mut waiters: Vec<_> = (0..5).map(|i| Some(enqueue(&queue, i, Waker::noop()))).collect();
        for &i in leaving {
            waiters[i] = None;
        }
        assert_eq!(queue.lock().len(), staying.len());
        // Who comes now comes last.
        let _late = enqueue(&queue, 9, Waker::noop());
        assert_eq!(served(&queue), [staying, &[9]].concat(), "when {leaving:?} left");
    }
}

#[test]
fn cancel_gives_back_the_request_or_the_outcome() {
    let queue = Queue::new(0);
    let mut first = enqueue(&queue, 1, Waker::noop());
    let mut second = enqueue(&queue, 2, Waker::noop());
    let mut third = waiter(&queue);
    queue.lock().grant_front(8, &mut WakeBatch::new()).unwrap();
    assert_eq!(first.as_mut().cancel(), Left::Granted(8));
    assert_eq!(first.as_mut().cancel(), Left::Nothing);
    assert_eq!(second.as_mut().cancel(), Left::Queued(2));
    assert_eq!(third.as_mut().cancel(), Left::Nothing);
    assert!(queue.lock().is_empty());
}

#[test]
fn a_waiter_that_gave_up_queues_at_the_end() {
    let queue = Queue::new(0);
    let mut first = enqueue(&queue, 1, Waker::noop());
    let _second = enqueue(&queue, 2, Waker::noop());
    assert_eq!(first.as_mut().cancel(), Left::Queued(1));
    assert_eq!(poll(&mut first, 3, Waker::noop()), Poll::Pending);
    assert_eq!(served(&queue), [2, 3]);
}

// Batches.

#[test]
fn a_crowd_larger_than_a_batch_is_woken_in_order_each_once() {
    for crowd in [31, 32, 33, 64, 65, 1000] {
        let queue = Queue::new(0);
        let wakers: Vec<_> = (0..crowd).map(|_| CountingWaker::new()).collect();
        let mut waiters: Vec<_> = wakers
            .iter()
            .enumerate()
            .map(|(i, counting)| enqueue(&queue, i, &counting.waker()))
            .collect();
        grant_all(&queue);
        assert!(wakers.iter().all(|counting| counting.wakes() == 1 && counting.live() == 0));
        for (i, waiter) in waiters.iter_mut().enumerate() {
            assert_eq!(poll(waiter, 0, Waker::noop()), Poll::Ready(i * 10));
        }
    }
}

#[test]
fn who_queues_between_two_batches_stands_at_the_end() {
    let queue = Arc::new(Queue::new(0));
    let late = Arc::new(Mutex::new(None));
    let again = Arc::clone(&queue);
    let slot = Arc::clone(&late);
    let reentrant = ReentrantWaker::on_wake(move || {
        let mut waiter = shared(&again);
        assert!(poll(&mut waiter, 99, Waker::noop()).is_pending());
        *slot.lock().unwrap() = Some(waiter);
    });
    let mut waiters: Vec<_> = vec![shared(&queue)];
    assert!(poll(&mut waiters[0], 0, &reentrant.waker()).is_pending());
    for i in 1..40 {
        let mut waiter = shared(&queue);
        assert!(poll(&mut waiter, i, Waker::noop()).is_pending());
        waiters.push(waiter);
    }
    let order = served(&queue);
    assert_eq!(order, Vec::from_iter((0..40).chain([99])));
}

// Wakers and the lock.

#[test]
fn a_repoll_with_the_same_waker_takes_no_lock_and_allocates_nothing() {
    watchdog(PATIENCE, "a re-poll", || {
        let queue = Queue::new(0);
        let counting = CountingWaker::new();
        let waker = counting.waker();
        let mut waiter = enqueue(&queue, 1, &waker);
        let clones = counting.clones();
        let held = queue.lock();
        let cost = CountingAllocator::count(|| {
            for _ in 0..1000 {
                assert!(poll(&mut waiter, 0, &waker).is_pending());
            }
        });
        drop(held);
        assert_eq!((cost.allocations, cost.frees), (0, 0));
        assert_eq!(counting.clones(), clones, "not even the waker is cloned");
    });
}

#[test]
fn waiting_allocates_nothing() {
    let queue = Queue::new(0);
    let mut waiter = waiter(&queue);
    let cost = CountingAllocator::count(|| {
        assert!(poll(&mut waiter, 1, Waker::noop()).is_pending());
        grant_all(&queue);
        assert!(poll(&mut waiter, 1, Waker::noop()).is_ready());
        assert!(poll(&mut waiter, 1, Waker::noop()).is_pending());
        assert_eq!(waiter.as_mut().cancel(), Left::Queued(1));
    });
    assert_eq!(cost.allocations, 0);
}

#[test]
fn the_last_waker_polled_with_is_the_one_woken() {
    let queue = Queue::new(0);
    let (old, new) = (CountingWaker::new(), CountingWaker::new());
    let mut waiter = enqueue(&queue, 1, &old.waker());
    assert!(poll(&mut waiter, 0, &new.waker()).is_pending());
    assert_eq!((old.live(), new.live()), (0, 1));
    grant_all(&queue);
    assert_eq!((old.wakes(), new.wakes()), (0, 1));
}

#[test]
fn a_grant_before_a_poll_with_a_new_waker_is_seen() {
    let queue = Queue::new(0);
    let mut waiter = enqueue(&queue, 1, &CountingWaker::new().waker());
    grant_all(&queue);
    assert_eq!(poll(&mut waiter, 0, &CountingWaker::new().waker()), Poll::Ready(10));
}

#[test]
fn wakers_are_woken_and_dropped_outside_the_lock() {
    watchdog(PATIENCE, "a waker that locks the queue", || {
        let queue = Arc::new(Queue::new(0));
        let touched = Arc::new(AtomicUsize::new(0));
        let touch = {
            let (queue, touched) = (Arc::downgrade(&queue), Arc::clone(&touched));
            move || touch(&queue, &touched)
        };
        let reentrant = ReentrantWaker::on_wake_and_drop(touch.clone(), touch);

        // Woken, from a first and from a second batch.
        let waker = reentrant.waker();
        let mut waiters: Vec<_> = (0..40).map(|_| shared(&queue)).collect();
        for waiter in &mut waiters {
            assert!(poll(waiter, 0, &waker).is_pending());
        }
        grant_all(&queue);
        assert_eq!(reentrant.wakes(), 40);
        drop(waiters);

        // Dropped: replaced by another, given up, and with its waiter.
        let mut replaced = shared(&queue);
        assert!(poll(&mut replaced, 0, &waker).is_pending());
        let before = touched.load(Ordering::Relaxed);
        assert!(poll(&mut replaced, 0, Waker::noop()).is_pending());
        assert_eq!(touched.load(Ordering::Relaxed), before + 1);
        assert!(poll(&mut replaced, 0, &waker).is_pending());
        assert_eq!(replaced.as_mut().cancel(), Left::Queued(0));
        assert_eq!(touched.load(Ordering::Relaxed), before + 2);
        assert!(poll(&mut replaced, 0, &waker).is_pending());
        drop(replaced);
        assert_eq!(touched.load(Ordering::Relaxed), before + 3);

        // Cloned and dropped without being kept: the outcome was ready.
        let mut ready = shared(&queue);
        let mut cx = Context::from_waker(&waker);
        assert!(ready.as_mut().poll_enter(&mut cx, |_| Entry::Ready(0)).is_ready());
        assert_eq!(touched.load(Ordering::Relaxed), before + 4);
    });
}

/// Uses the queue as anybody may.
fn touch(queue: &Weak<Queue>, touched: &AtomicUsize) {
    touched.fetch_add(1, Ordering::Relaxed);
    let Some(queue) = queue.upgrade() else { return };
    let mut waiter = shared(&queue);
    assert!(poll(&mut waiter, 0, Waker::noop()).is_pending());
    assert_eq!(waiter.as_mut().cancel(), Left::Queued(0));
    *queue.lock() += 1;
}

#[test]
fn a_waker_may_drop_the_waiter_it_wakes() {
    watchdog(PATIENCE, "a waker that drops its waiter", || {
        let queue = Arc::new(Queue::new(0));
        let kept = Arc::new(Mutex::new(Vec::new()));
        let slot = Arc::downgrade(&kept);
        let reentrant = ReentrantWaker::on_wake(move || {
            let Some(slot) = slot.upgrade() else { return };
            let all: Vec<Boxed<'static>> = std::mem::take(&mut *slot.lock().unwrap());
            drop(all);
        });
        for i in 0..40 {
            let mut waiter = shared(&queue);
            assert!(poll(&mut waiter, i, &reentrant.waker()).is_pending());
            kept.lock().unwrap().push(waiter);
        }
        grant_all(&queue);
        assert!(queue.lock().is_empty());
        assert!(kept.lock().unwrap().is_empty());
    });
}

// Drop.

#[test]
fn a_waiter_keeps_its_shared_queue_alive() {
    let queue = Arc::new(Queue::new(0));
    let alive = Arc::downgrade(&queue);
    let mut waiter = shared(&queue);
    assert!(poll(&mut waiter, 1, Waker::noop()).is_pending());
    drop(queue);
    assert!(alive.upgrade().is_some());
    drop(waiter);
    assert!(alive.upgrade().is_none());
}

#[test]
fn a_forgotten_waiter_outlives_its_queue_harmlessly() {
    let queue = Box::new(Queue::new(0));
    let counting = CountingWaker::new();
    let mut before = enqueue(&queue, 0, Waker::noop());
    forget(enqueue(&queue, 1, &counting.waker()));
    let after = enqueue(&queue, 2, Waker::noop());
    // Its neighbours leave, and one is served across it.
    drop(after);
    queue.lock().grant_front(7, &mut WakeBatch::new()).unwrap();
    assert_eq!(poll(&mut before, 0, Waker::noop()), Poll::Ready(7));
    drop(before);
    assert_eq!(queue.lock().len(), 1);
    drop(queue);
    assert_eq!((counting.wakes(), counting.live()), (0, 1));
}

#[test]
fn a_forgotten_waiter_is_granted_like_any_other() {
    let queue = Queue::new(0);
    let counting = CountingWaker::new();
    forget(enqueue(&queue, 1, &counting.waker()));
    grant_all(&queue);
    assert_eq!((counting.wakes(), counting.live()), (1, 0));
    assert!(queue.lock().is_empty());
}

// Panic.

#[test]
fn a_waker_that_panics_when_it_is_dropped_loses_no_outcome_and_keeps_nobody_in_line() {
    let queue = Queue::new(0);
    let panics = ReentrantWaker::on_drop(|| std::panic::resume_unwind(Box::new("dropped")));
    let panics = std::mem::ManuallyDrop::new(panics.waker());
    let mut cx = Context::from_waker(&panics);
    let mut at_once = Box::pin(Waiter::new(Anchor::borrowed(&queue)));
    assert_eq!(at_once.as_mut().poll_enter(&mut cx, |_| Entry::Ready(7)), Poll::Ready(7));
    // Replaced by another.
    let mut moves = enqueue(&queue, 1, &panics);
    assert!(poll(&mut moves, 1, Waker::noop()).is_pending());
    // Left behind.
    let mut leaves = enqueue(&queue, 2, &panics);
    assert_eq!(leaves.as_mut().cancel(), Left::Queued(2));
    drop(enqueue(&queue, 3, &panics));
    assert_eq!(served(&queue), [1]);
    let panics = AssertUnwindSafe(|| drop(std::mem::ManuallyDrop::into_inner(panics)));
    let dropped = catch_unwind(panics);
    assert!(dropped.is_err());
}

#[test]
fn a_panic_in_enter_leaves_the_queue_usable() {
    let queue = Queue::new(0);
    let counting = CountingWaker::new();
    let mut waiter = waiter(&queue);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let waker = counting.waker();
        waiter
            .as_mut()
            .poll_enter(&mut Context::from_waker(&waker), |_| panic!("enter panics"))
            .is_ready()
    }));
    assert!(outcome.is_err());
    assert_eq!(counting.live(), 0);
    assert!(!waiter.as_ref().is_waiting());
    assert!(poll(&mut waiter, 1, Waker::noop()).is_pending());
    assert_eq!(served(&queue), [1]);
}

#[test]
fn a_panicking_waker_stops_no_other_in_a_crowd_of_several_batches() {
    let queue = Queue::new(0);
    let panicking = PanickingWaker::new();
    let counting = CountingWaker::new();
    let mut waiters = vec![enqueue(&queue, 0, &panicking.waker())];
    waiters.extend((1..100).map(|i| enqueue(&queue, i, &counting.waker())));
    let panic = catch_unwind(AssertUnwindSafe(|| grant_all(&queue))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a PanickingWaker was woken"));
    assert_eq!(counting.wakes(), 99, "those in the batches after the panic were woken, too");
    assert!(queue.lock().is_empty());
    for waiter in &mut waiters {
        assert!(poll(waiter, 0, Waker::noop()).is_ready());
    }
}

#[test]
fn a_panic_while_granting_wakes_the_granted_outside_the_lock() {
    watchdog(PATIENCE, "a panic while granting", || {
        let queue = Arc::new(Queue::new(0));
        let again = Arc::downgrade(&queue);
        let woken = ReentrantWaker::on_wake(move || {
            let Some(queue) = again.upgrade() else { return };
            *queue.lock() += 1;
        });
        let mut waiters: Vec<_> = (0..2).map(|_| shared(&queue)).collect();
        for (i, waiter) in waiters.iter_mut().enumerate() {
            assert!(poll(waiter, i, &woken.waker()).is_pending());
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            queue.grant_while(queue.lock(), |_, &request| {
                assert_eq!(request, 0, "the second request is refused by a panic");
                Some(5)
            });
        }));
        assert!(outcome.is_err());
        assert_eq!((woken.wakes(), *queue.lock()), (1, 1));
        assert_eq!(poll(&mut waiters[0], 0, Waker::noop()), Poll::Ready(5));
        assert_eq!(waiters[1].as_mut().cancel(), Left::Queued(1));
    });
}

#[test]
fn granting_into_a_full_batch_panics_before_the_list_is_touched() {
    let queue = Queue::new(0);
    let mut batch = WakeBatch::new();
    let mut waiters: Vec<_> = (0..40).map(|i| enqueue(&queue, i, Waker::noop())).collect();
    let mut granted = 0;
    while !batch.is_full() {
        queue.lock().grant_front(0, &mut batch).unwrap();
        granted += 1;
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| queue.lock().grant_front(0, &mut batch)));
    assert!(outcome.is_err());
    // The front still stands in the list, and leaves it like any other.
    assert_eq!(queue.lock().len(), 40 - granted);
    assert_eq!(waiters[granted].as_mut().cancel(), Left::Queued(granted));
    drop(waiters);
    assert!(queue.lock().is_empty());
}

#[test]
#[should_panic(expected = "the lock of another queue")]
fn a_waiter_cannot_be_made_to_queue_in_another_queue() {
    static OTHER: Queue = Queue::new(0);
    let mine = Queue::new(0);
    let mut waiter = waiter(&mine);
    let mut cx = Context::from_waker(Waker::noop());
    let _ = waiter.as_mut().poll_enter(&mut cx, |locked| {
        *locked = OTHER.lock();
        Entry::Wait(1)
    });
}

// Fronts that are called.

/// Calls the front.
fn call(queue: &Queue) {
    queue.serve_each(queue.lock(), |_| Serve::Call);
}

/// Polls; one that was called takes what is in the state, if that is anything.
fn look(waiter: &mut Boxed<'_>, request: usize, waker: &Waker) -> Poll<usize> {
    waiter.as_mut().poll_look(
        &mut Context::from_waker(waker),
        |_| Entry::Wait(request),
        |state, _| (**state > 0).then(|| std::mem::take(&mut **state)),
        drop,
    )
}

#[test]
fn a_front_that_is_called_is_woken_once_keeps_its_place_and_looks() {
    let queue = Queue::new(0);
    let (first, second) = (CountingWaker::new(), CountingWaker::new());
    let mut one = enqueue(&queue, 1, &first.waker());
    let mut two = enqueue(&queue, 2, &second.waker());
    call(&queue);
    call(&queue);
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    assert_eq!(queue.lock().len(), 2);
    assert!(queue.lock().is_front_called());
    // For nothing: it leaves a new waker, and may be called again.
    assert!(look(&mut one, 1, &first.waker()).is_pending());
    assert!(!queue.lock().is_front_called());
    *queue.lock() = 7;
    call(&queue);
    assert_eq!(first.wakes(), 2);
    // Who was not called does not look.
    assert!(look(&mut two, 2, &second.waker()).is_pending());
    assert_eq!(look(&mut one, 1, &first.waker()), Poll::Ready(7));
    assert_eq!((queue.lock().len(), first.live()), (1, 0));
    // It may wait again, behind the other.
    assert!(look(&mut one, 3, &first.waker()).is_pending());
    assert_eq!(served(&queue), [2, 3]);
}

#[test]
fn a_front_that_was_called_may_be_granted_to_without_another_wake() {
    let queue = Queue::new(0);
    let waker = CountingWaker::new();
    let mut one = enqueue(&queue, 4, &waker.waker());
    call(&queue);
    grant_all(&queue);
    assert_eq!(waker.wakes(), 1);
    assert_eq!(look(&mut one, 4, &waker.waker()), Poll::Ready(40));
}

#[test]
fn a_front_that_was_called_and_leaves_leaves_the_line() {
    let queue = Queue::new(0);
    let (first, second) = (CountingWaker::new(), CountingWaker::new());
    let mut one = enqueue(&queue, 1, &first.waker());
    let _two = enqueue(&queue, 2, &second.waker());
    call(&queue);
    assert_eq!(one.as_mut().cancel(), Left::Queued(1));
    assert!(!queue.lock().is_front_called());
    call(&queue);
    assert_eq!((first.wakes(), second.wakes(), first.live()), (1, 1, 0));
    assert!(!WaitQueue::<usize, usize, usize>::new(0).lock().is_front_called());
}

/// Sends the one behind the front.
fn send(queue: &Queue) {
    queue.serve_each(queue.lock(), |_| Serve::Send);
}

#[test]
fn the_one_behind_the_front_is_sent_once_keeps_its_place_and_comes_to_the_lock() {
    let queue = Queue::new(0);
    let (first, second) = (CountingWaker::new(), CountingWaker::new());
    let mut one = enqueue(&queue, 1, &first.waker());
    send(&queue);
    let mut two = enqueue(&queue, 2, &second.waker());
    send(&queue);
    send(&queue);
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    assert!(!queue.lock().is_front_called());
    let mut came = Vec::new();
    let mut look = |waiter: &mut Boxed<'_>, waker: &Waker| {
        let mut cx = Context::from_waker(waker);
        let look = |_: &mut _, called| {
            came.push(called);
            None
        };
        waiter.as_mut().poll_look(&mut cx, |_| unreachable!("it stands in line"), look, drop)
    };
    assert!(look(&mut one, &first.waker()).is_pending());
    assert!(look(&mut two, &second.waker()).is_pending());
    // It has left a new waker, and may be sent again; as the front it is called without another.
    assert!(look(&mut two, &second.waker()).is_pending());
    send(&queue);
    drop(one);
    call(&queue);
    assert_eq!((first.live(), second.wakes()), (0, 2));
    assert!(queue.lock().is_front_called());
    assert!(look(&mut two, &second.waker()).is_pending());
    assert_eq!(came, [false, true]);
    assert_eq!(served(&queue), [2]);
}

#[test]
fn what_one_takes_when_it_looks_survives_what_comes_after() {
    let queue = Queue::new(0);
    let waker = CountingWaker::new();
    let mut one = enqueue(&queue, 1, &waker.waker());
    call(&queue);
    let taken = one.as_mut().poll_look(
        &mut Context::from_waker(Waker::noop()),
        |_| unreachable!("it has entered"),
        |_, _| Some(9),
        |locked| {
            drop(locked);
            panic!("somebody else's waker")
        },
    );
    assert_eq!(taken, Poll::Ready(9));
    assert!(queue.lock().is_empty());
}

/// A waker that panics when it is dropped.
struct PanicsWhenDropped;

impl std::task::Wake for PanicsWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("a waker's destructor");
    }
}

#[test]
fn one_who_leaves_survives_a_panic_of_what_follows_and_of_its_waker() {
    let queue = Queue::new(0);
    let mut leaves = enqueue(&queue, 1, &Waker::from(Arc::new(PanicsWhenDropped)));
    let panic = std::panic::catch_unwind(AssertUnwindSafe(|| {
        leaves.as_mut().cancel_then(|locked| {
            drop(locked);
            panic!("somebody else's waker");
        })
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"somebody else's waker"));
    assert!(queue.lock().is_empty());
}
