//! Who overtakes whom: running callers and those who wait, with a clock that is moved by hand; and what becomes of one that does
//! not come when it is called.
#![cfg(not(selvedge_loom))]

#[path = "support/waiter.rs"]
mod waiter;

#[cfg(feature = "tokio")]
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "tokio")]
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{ManualClock, Timer};
#[cfg(feature = "tokio")]
use selvedge_sync::Acquire;
use selvedge_sync::{AcquireError, Fairness, Semaphore, TryAcquireError};
use selvedge_testkit::watchdog;
use waiter::Waiter;

/// The bound of the tests.
const BOUND: Duration = Duration::from_millis(10);
/// Almost.
const LESS: Duration = Duration::from_millis(9);
/// What is missing.
const REST: Duration = Duration::from_millis(1);

/// A semaphore in which running callers overtake for [`BOUND`], and its clock.
fn eventual(permits: usize) -> (Arc<Semaphore>, ManualClock) {
    let (timer, clock) = Timer::manual();
    let semaphore =
        Semaphore::new(permits).with_fairness(Fairness::Eventual(BOUND)).with_timer(timer);
    (Arc::new(semaphore), clock)
}

/// A running caller takes one and gives it back.
#[track_caller]
fn overtakes(semaphore: &Semaphore) {
    drop(semaphore.try_acquire(1).expect("a running caller overtakes"));
}

/// A running caller gets nothing.
#[track_caller]
fn does_not_overtake(semaphore: &Semaphore) {
    assert_eq!(semaphore.try_acquire(1).unwrap_err(), TryAcquireError::NoPermits);
}

#[test]
fn strict_is_what_one_gets_and_the_other_is_asked_for() {
    assert_eq!(Semaphore::new(1).fairness(), Fairness::Strict);
    assert_eq!(Fairness::default(), Fairness::Strict);
    let semaphore = Semaphore::new(1).with_fairness(Fairness::EVENTUAL);
    assert_eq!(semaphore.fairness(), Fairness::Eventual(Duration::from_millis(4)));
    semaphore.set_fairness(Fairness::Strict);
    assert_eq!(semaphore.fairness(), Fairness::Strict);
}

#[test]
fn a_running_caller_overtakes_a_front_that_is_on_its_way() {
    let (semaphore, _clock) = eventual(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let mut waiter = Waiter::new(&semaphore, 1);
    drop(permit);
    assert_eq!(waiter.wakes(), 1);
    for _ in 0..3 {
        overtakes(&semaphore);
    }
    assert_eq!(waiter.wakes(), 0, "it was called once");

    // It comes while another is faster, waits on, and is called for the next.
    let permit = semaphore.try_acquire(1).unwrap();
    assert!(waiter.poll().is_pending());
    drop(permit);
    assert_eq!(waiter.wakes(), 1);
    drop(waiter.served());
    assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0));
}

#[test]
fn an_acquire_overtakes_as_a_try_does() {
    let (semaphore, _clock) = eventual(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let waiter = Waiter::new(&semaphore, 1);
    drop(permit);
    let polled = pin!(semaphore.acquire(1)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Ok(_))));
    drop(polled);
    drop(waiter);
}

#[test]
fn nobody_overtakes_a_front_that_has_waited_for_the_bound() {
    let (semaphore, clock) = eventual(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let mut waiter = Waiter::new(&semaphore, 1);
    clock.advance(LESS);
    assert_eq!(waiter.wakes(), 0);
    drop(permit);
    let permit = semaphore.try_acquire(1).unwrap();
    assert_eq!(waiter.wakes(), 1);
    assert!(waiter.poll().is_pending());

    clock.advance(REST);
    assert_eq!(waiter.wakes(), 1, "the alarm calls it, to shut the door");
    assert!(waiter.poll().is_pending());
    drop(permit);
    does_not_overtake(&semaphore);
    assert_eq!(semaphore.available(), 1);
    assert_eq!(waiter.wakes(), 1);
    drop(waiter.served());
    overtakes(&semaphore);
}

#[test]
fn the_one_behind_shuts_the_door_for_a_front_that_is_called_and_cannot_come() {
    let (semaphore, clock) = eventual(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let (front, mut behind) = (Waiter::new(&semaphore, 1), Waiter::new(&semaphore, 1));
    clock.advance(LESS);
    drop(permit);
    assert_eq!((front.wakes(), behind.wakes()), (1, 0));
    // Its task waits for the thread that does this.
    for _ in 0..3 {
        overtakes(&semaphore);
    }
    let permit = semaphore.try_acquire(1).unwrap();
    clock.advance(REST);
    assert_eq!((front.wakes(), behind.wakes()), (0, 1), "sent to see to the front");
    assert!(behind.poll().is_pending());
    drop(permit);
    does_not_overtake(&semaphore);
    // The front has kept its place and its turn, and the one behind it is called after it.
    let permit = front.served();
    assert_eq!(behind.wakes(), 0);
    drop(permit);
    assert_eq!(behind.wakes(), 1);
    drop(behind.served());
    overtakes(&semaphore);
}

/// Two in line for one permit, which is free: the front was called and is overdue, and the one behind it was sent.
fn called_and_overdue() -> (Arc<Semaphore>, [Waiter; 2], ManualClock) {
    let (semaphore, clock) = eventual(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let line = [0; 2].map(|_| Waiter::new(&semaphore, 1));
    clock.advance(LESS);
    drop(permit);
    clock.advance(REST);
    assert_eq!(line.each_ref().map(Waiter::wakes), [1, 1]);
    (semaphore, line, clock)
}

#[test]
fn one_who_was_sent_and_leaves_has_seen_to_the_front() {
    let (semaphore, [front, behind], _clock) = called_and_overdue();
    drop(behind);
    does_not_overtake(&semaphore);
    drop(front.served());
    overtakes(&semaphore);
}

#[test]
fn one_who_was_sent_and_is_the_front_by_then_is_called_without_another_wake() {
    let (semaphore, [front, behind], _clock) = called_and_overdue();
    drop(front);
    assert_eq!(behind.wakes(), 0, "it is on its way");
    drop(behind.served());
    overtakes(&semaphore);
}

#[test]
fn one_who_comes_sees_to_a_front_that_is_called_and_alone() {
    let (semaphore, clock) = eventual(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let front = Waiter::new(&semaphore, 1);
    clock.advance(LESS);
    drop(permit);
    let permit = semaphore.try_acquire(1).unwrap();
    clock.advance(REST);
    let behind = Waiter::new(&semaphore, 1);
    drop(permit);
    does_not_overtake(&semaphore);
    drop(front.served());
    drop(behind.served());
}

#[test]
fn an_alarm_that_rang_for_a_front_that_was_alone_is_armed_for_it_again_when_another_comes() {
    let (semaphore, clock) = eventual(1);
    // An alarm for one who leaves, which rings while its successor is alone.
    let permit = semaphore.try_acquire(1).unwrap();
    let leaves = Waiter::new(&semaphore, 1);
    clock.advance(LESS);
    drop(leaves);
    let front = Waiter::new(&semaphore, 1);
    clock.advance(REST / 2);
    drop(permit);
    clock.advance(REST / 2);
    assert_eq!(front.wakes(), 1);
    clock.advance(REST);
    let permit = semaphore.try_acquire(1).unwrap();
    let behind = Waiter::new(&semaphore, 1);
    clock.advance(LESS - REST);
    assert_eq!(
        (front.wakes(), behind.wakes()),
        (0, 1),
        "sent when the front has waited for the bound"
    );
    let mut behind = behind;
    assert!(behind.poll().is_pending());
    drop(permit);
    does_not_overtake(&semaphore);
    drop(front.served());
    drop(behind.served());
}

#[test]
fn who_comes_shuts_the_door_when_the_one_that_was_sent_does_not_come() {
    let (semaphore, clock) = eventual(1);
    let permit = semaphore.try_acquire(1).unwrap();
    let (front, sent) = (Waiter::new(&semaphore, 1), Waiter::new(&semaphore, 1));
    clock.advance(LESS);
    drop(permit);
    let permit = semaphore.try_acquire(1).unwrap();
    clock.advance(REST);
    assert_eq!((front.wakes(), sent.wakes()), (1, 1));
    let newcomer = Waiter::new(&semaphore, 1);
    drop(permit);
    does_not_overtake(&semaphore);
    drop((sent, newcomer));
    drop(front.served());
}

#[test]
#[cfg(feature = "tokio")]
fn a_task_whose_budget_is_spent_takes_nothing_and_stands_in_line_if_others_do() {
    /// On a thread that has no budget to spend.
    fn elsewhere<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    fn scenario(semaphore: &Arc<Semaphore>, cx: &mut Context<'_>) {
        let other = Semaphore::new(1);
        while pin!(other.acquire(1)).poll(cx).is_ready() {}

        // Nobody waits: it is as if it had not come.
        assert!(pin!(semaphore.acquire(1)).poll(cx).is_pending());
        assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0));
        let mut alone = pin!(semaphore.acquire(1));
        assert!(alone.as_mut().poll(cx).is_pending());

        let permit = semaphore.try_acquire(1).unwrap();
        let front = elsewhere(|| Waiter::new(semaphore, 1));
        let mut spent = pin!(semaphore.acquire(1));
        for _ in 0..2 {
            assert!(spent.as_mut().poll(cx).is_pending());
            assert!(alone.as_mut().poll(cx).is_pending());
            assert!(pin!(semaphore.acquire(0)).poll(cx).is_pending());
            assert!(pin!(semaphore.acquire(2)).poll(cx).is_pending());
            assert_eq!(semaphore.waiting(), 3);
        }
        drop(permit);
        let permit = elsewhere(|| front.served());
        assert!(spent.as_mut().poll(cx).is_pending());
        drop(permit);
        let served = |mut waiter: Pin<&mut Acquire<'_>>| {
            let mut poll = || waiter.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            elsewhere(|| assert!(matches!(poll(), Poll::Ready(Ok(_)))));
        };
        // In the order in which they came.
        served(spent);
        served(alone);
        assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0));
        semaphore.close();
        assert!(pin!(semaphore.acquire(1)).poll(cx).is_pending());
    }

    for fairness in [Fairness::Strict, Fairness::EVENTUAL] {
        let semaphore = Arc::new(Semaphore::new(1).with_fairness(fairness));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let task = poll_fn(move |cx| {
            scenario(&semaphore, cx);
            Poll::Ready(())
        });
        runtime.block_on(runtime.spawn(task)).unwrap();
    }
}

/// A task that takes and gives back, for longer than its budget lasts, while a front that was called is not polled.
#[cfg(feature = "tokio")]
fn goes_on_beside_a_front_that_is_not_polled(runtime: tokio::runtime::Runtime, bound: Duration) {
    watchdog(Duration::from_secs(60), "a task beside a front that is not polled", move || {
        let semaphore = Arc::new(Semaphore::new(1).with_fairness(Fairness::Eventual(bound)));
        let task = async move {
            let permit = semaphore.try_acquire(1).unwrap();
            let front = Waiter::new(&semaphore, 1);
            drop(permit);
            for _ in 0..1_000 {
                drop(semaphore.acquire(1).await.unwrap());
            }
            drop(front.served());
        };
        runtime.block_on(runtime.spawn(task)).unwrap();
    });
}

#[test]
#[cfg(feature = "tokio")]
fn a_task_whose_budget_is_spent_does_not_stand_behind_a_front_that_never_loses_its_turn() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    goes_on_beside_a_front_that_is_not_polled(runtime, Duration::MAX);
    // Without a time driver there is no alarm.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    goes_on_beside_a_front_that_is_not_polled(runtime, BOUND);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    goes_on_beside_a_front_that_is_not_polled(runtime, BOUND);
}

#[test]
fn a_large_request_is_served_although_small_ones_come_and_go() {
    let (semaphore, clock) = eventual(4);
    let mut small: Vec<_> = (0..4).map(|_| semaphore.try_acquire(1).unwrap()).collect();
    let mut large = Waiter::new(&semaphore, 4);
    for _ in 0..10 {
        drop(small.remove(0));
        small.push(semaphore.try_acquire(1).expect("the door is open"));
    }
    clock.advance(BOUND);
    assert!(large.poll().is_pending());
    for _ in 0..3 {
        small.pop();
        does_not_overtake(&semaphore);
        assert!(large.poll().is_pending());
    }
    small.pop();
    assert_eq!(large.served().count(), 4);
}

#[test]
fn a_turn_goes_from_one_to_the_next_in_line() {
    let (semaphore, _clock) = eventual(2);
    let held = semaphore.try_acquire(2).unwrap();
    let mut line: Vec<_> = (0..3).map(|_| Waiter::new(&semaphore, 1)).collect();
    drop(held);
    let wakes: Vec<_> = line.iter().map(Waiter::wakes).collect();
    assert_eq!(wakes, [1, 0, 0], "one at a time");
    let first = line.remove(0).served();
    assert_eq!(line[0].wakes(), 1, "who takes calls the next, for which there is one left");
    let second = line.remove(0).served();
    assert_eq!(line[0].wakes(), 0);
    drop(first);
    assert_eq!(line[0].wakes(), 1);
    drop((line, second));
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn a_front_that_is_not_polled_loses_its_turn_after_the_bound() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let mut asleep = Waiter::new(&semaphore, 1);
    let next = Waiter::new(&semaphore, 1);
    drop(held);
    assert_eq!((asleep.wakes(), next.wakes()), (1, 0));
    clock.advance(LESS);
    assert_eq!(next.wakes(), 0);
    // By the alarm: no operation on the semaphore is needed.
    clock.advance(REST);
    assert_eq!(next.wakes(), 1);
    let permit = next.served();

    // It wakes up at last, and has to begin again.
    assert!(asleep.poll().is_pending());
    assert_eq!(semaphore.waiting(), 1);
    drop(permit);
    assert_eq!(asleep.wakes(), 1);
    drop(asleep.served());
}

#[test]
fn many_that_are_not_polled_lose_their_turns_one_after_the_other() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let asleep: Vec<_> = (0..5).map(|_| Waiter::new(&semaphore, 1)).collect();
    let last = Waiter::new(&semaphore, 1);
    drop(held);
    for _ in 0..5 {
        assert_eq!(last.wakes(), 0);
        clock.advance(BOUND);
    }
    assert_eq!(last.wakes(), 1);
    drop(last.served());
    drop(asleep);
    assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0));
}

#[test]
fn one_alone_that_is_not_polled_keeps_its_turn_and_keeps_nobody_out() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let mut asleep = Waiter::new(&semaphore, 1);
    clock.advance(BOUND);
    assert!(asleep.poll().is_pending());
    // Nobody overtakes it any more.
    drop(held);
    does_not_overtake(&semaphore);
    clock.advance(LESS);
    does_not_overtake(&semaphore);
    // But it does not come.
    clock.advance(REST);
    overtakes(&semaphore);
    drop(asleep.served());
}

#[test]
fn who_comes_behind_one_that_is_not_polled_is_not_kept() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let asleep = Waiter::new(&semaphore, 1);
    drop(held);
    // The alarm has nobody to whom the turn could go.
    clock.advance(2 * BOUND);
    let held = semaphore.try_acquire(1).unwrap();
    let next = Waiter::new(&semaphore, 1);
    drop(held);
    clock.advance(BOUND);
    assert_eq!(next.wakes(), 1);
    drop(next.served());
    drop(asleep);
}

#[test]
fn a_front_that_leaves_when_it_was_called_passes_its_turn_on_at_once() {
    let (semaphore, _clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let first = Waiter::new(&semaphore, 1);
    let second = Waiter::new(&semaphore, 1);
    let third = Waiter::new(&semaphore, 1);
    drop(held);
    drop(first);
    assert_eq!(second.wakes(), 1);
    drop(third);
    drop(second.served());
    overtakes(&semaphore);
}

#[test]
fn a_bound_of_nothing_lets_nobody_overtake() {
    let (timer, _clock) = Timer::manual();
    let fairness = Fairness::Eventual(Duration::ZERO);
    let semaphore = Arc::new(Semaphore::new(1).with_fairness(fairness).with_timer(timer));
    let held = semaphore.try_acquire(1).unwrap();
    let first = Waiter::new(&semaphore, 1);
    let second = Waiter::new(&semaphore, 1);
    drop(held);
    assert!(semaphore.try_acquire(1).is_err());
    // Which of the two has the turn is open: with such a bound it is lost at once.
    drop(first);
    drop(second.served());
}

#[test]
fn a_bound_without_end_is_never_over() {
    let (timer, clock) = Timer::manual();
    let fairness = Fairness::Eventual(Duration::MAX);
    let semaphore = Arc::new(Semaphore::new(1).with_fairness(fairness).with_timer(timer));
    let held = semaphore.try_acquire(1).unwrap();
    let waiter = Waiter::new(&semaphore, 1);
    clock.advance(Duration::from_secs(1 << 40));
    drop(held);
    overtakes(&semaphore);
    drop(waiter.served());
}

#[test]
fn made_strict_the_line_is_served_in_order_and_nobody_overtakes() {
    let (semaphore, _clock) = eventual(2);
    let mut held: Vec<_> = (0..2).map(|_| semaphore.try_acquire(1).unwrap()).collect();
    let called = Waiter::new(&semaphore, 2);
    let second = Waiter::new(&semaphore, 1);
    held.pop();
    overtakes(&semaphore);
    semaphore.set_fairness(Fairness::Strict);
    does_not_overtake(&semaphore);
    held.pop();
    does_not_overtake(&semaphore);
    drop(called.served());
    drop(second.served());
    overtakes(&semaphore);
}

#[test]
fn made_strict_it_grants_to_one_that_was_called_and_did_not_come() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let called = Waiter::new(&semaphore, 1);
    drop(held);
    semaphore.set_fairness(Fairness::Strict);
    assert_eq!(semaphore.available(), 0, "it is as good as held");
    clock.advance(2 * BOUND);
    drop(called.served());
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn made_eventual_those_who_came_to_a_strict_line_are_overtaken_by_nobody() {
    let (timer, _clock) = Timer::manual();
    let semaphore = Arc::new(Semaphore::new(1).with_timer(timer));
    let held = semaphore.try_acquire(1).unwrap();
    let old = Waiter::new(&semaphore, 1);
    semaphore.set_fairness(Fairness::Eventual(BOUND));
    let new = Waiter::new(&semaphore, 1);
    drop(held);
    does_not_overtake(&semaphore);
    drop(old.served());
    overtakes(&semaphore);
    drop(new.served());
}

#[test]
fn a_shorter_bound_holds_at_once() {
    let (semaphore, clock) = eventual(1);
    semaphore.set_fairness(Fairness::Eventual(100 * BOUND));
    let held = semaphore.try_acquire(1).unwrap();
    let waiter = Waiter::new(&semaphore, 1);
    semaphore.set_fairness(Fairness::Eventual(BOUND));
    clock.advance(BOUND);
    assert_eq!(waiter.wakes(), 1, "the alarm rings by the new bound");
    drop(held);
    drop(waiter.served());
}

#[test]
fn a_close_tells_all_who_wait_also_one_that_was_called() {
    let (semaphore, _clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let mut line: Vec<_> = (0..100).map(|_| Waiter::new(&semaphore, 1)).collect();
    drop(held);
    semaphore.close();
    for waiter in &mut line {
        assert_eq!(waiter.wakes(), 1);
        assert!(matches!(waiter.poll(), Poll::Ready(Err(AcquireError::Closed))));
    }
    assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0));
}

#[test]
fn when_its_timer_is_lost_the_timer_thread_takes_over() {
    watchdog(Duration::from_secs(60), "a timer that is lost", || {
        let (semaphore, clock) = eventual(1);
        let held = semaphore.try_acquire(1).unwrap();
        let asleep = Waiter::new(&semaphore, 1);
        let mut next = Waiter::new(&semaphore, 1);
        drop(held);
        assert_eq!((asleep.wakes(), next.wakes()), (1, 0));
        clock.lose();
        // In real time from here on: the one that was called loses its turn.
        while next.wakes() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(matches!(next.poll(), Poll::Ready(Ok(_))));
        drop((asleep, next));
        assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0));
        overtakes(&semaphore);
    });
}

#[test]
fn a_timer_that_is_lost_before_anybody_waits_is_replaced_when_somebody_does() {
    watchdog(Duration::from_secs(60), "a timer that is lost", || {
        let (semaphore, clock) = eventual(1);
        clock.lose();
        let held = semaphore.try_acquire(1).unwrap();
        let waiter = Waiter::new(&semaphore, 1);
        // The alarm calls it when the bound is over.
        while waiter.wakes() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(held);
        drop(waiter.served());
    });
}

/// Panics when it is woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("this waker panics");
    }
}

#[test]
fn a_waker_that_panics_costs_nobody_a_permit() {
    let (semaphore, _clock) = eventual(2);
    let held = semaphore.try_acquire(2).unwrap();
    let first = Waiter::new(&semaphore, 1);
    let mut second = Box::pin(semaphore.acquire_owned(1));
    let panics = Waker::from(Arc::new(Panics));
    assert!(second.as_mut().poll(&mut Context::from_waker(&panics)).is_pending());
    drop(held);
    // Takes one, and calls the second with the other: what that does is not the first one's fault.
    let permit = first.served();
    assert_eq!((permit.count(), semaphore.available()), (1, 1));
    drop((permit, second));
    assert_eq!((semaphore.available(), semaphore.waiting()), (2, 0));
}

#[test]
fn a_waker_that_panics_leaves_no_alarm_unarmed() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let mut asleep = Box::pin(semaphore.acquire_owned(1));
    let panics = Waker::from(Arc::new(Panics));
    // In line, called, overtaken: its alarm has rung and is not armed again, because it is alone.
    assert!(asleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(held);
    let held = semaphore.try_acquire(1).unwrap();
    clock.advance(BOUND);
    assert!(asleep.as_mut().poll(&mut Context::from_waker(&panics)).is_pending());
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(held)));
    assert!(dropped.is_err(), "a release tells of a waker that panics");
    let next = Waiter::new(&semaphore, 1);
    clock.advance(BOUND);
    assert_eq!(next.wakes(), 1);
    drop(next.served());
}

#[test]
fn those_who_all_come_late_do_not_take_each_others_turns_for_ever() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let mut one = Waiter::new(&semaphore, 1);
    let mut other = Waiter::new(&semaphore, 1);
    clock.advance(BOUND);
    assert!(one.poll().is_pending(), "it shuts the door");
    drop(held);
    clock.advance(BOUND);
    // It comes too late, finds the permit there, and takes it.
    let Poll::Ready(Ok(permit)) = one.poll() else { panic!("nobody gets the permit") };
    assert!(other.poll().is_pending());
    drop(permit);
    drop(other.served());
}

#[test]
fn who_has_lost_its_turn_overtakes_nobody_in_a_line_that_is_strict_by_now() {
    let (semaphore, clock) = eventual(2);
    let mut held: Vec<_> = (0..2).map(|_| semaphore.try_acquire(1).unwrap()).collect();
    let mut late = Waiter::new(&semaphore, 1);
    let big = Waiter::new(&semaphore, 2);
    held.pop();
    clock.advance(BOUND);
    semaphore.set_fairness(Fairness::Strict);
    does_not_overtake(&semaphore);
    assert!(late.poll().is_pending(), "it took what the other waits for");
    held.pop();
    drop(big.served());
    drop(late.served());
}

#[test]
fn who_is_always_late_has_longer_each_time_and_does_not_starve() {
    let (semaphore, clock) = eventual(1);
    let mut held = Some(semaphore.try_acquire(1).unwrap());
    let mut late = Waiter::new(&semaphore, 1);
    let mut turns = 0;
    // Its task takes three bounds to be polled, and somebody else is there all the time.
    let permit = loop {
        turns += 1;
        assert!(turns < 10, "it starves");
        drop(held.take());
        for _ in 0..3 {
            if let Ok(permit) = semaphore.try_acquire(1) {
                held = Some(permit);
            }
            clock.advance(BOUND);
        }
        if let Poll::Ready(permit) = late.poll() {
            break permit.unwrap();
        }
    };
    drop(permit);
}

#[test]
fn a_front_that_is_called_only_to_look_has_no_turn_to_lose() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let mut slow = Waiter::new(&semaphore, 1);
    let next = Waiter::new(&semaphore, 1);
    clock.advance(BOUND);
    assert_eq!(slow.wakes(), 1);
    clock.advance(10 * BOUND);
    assert_eq!(next.wakes(), 0, "there was nothing for anybody");
    assert!(slow.poll().is_pending());
    drop(held);
    assert_eq!((slow.wakes(), next.wakes()), (1, 0));
    drop(slow.served());
    drop(next.served());
}

#[test]
fn an_alarm_that_another_is_armed_before_is_revoked() {
    let (semaphore, clock) = eventual(1);
    semaphore.set_fairness(Fairness::Eventual(100 * BOUND));
    let held = semaphore.try_acquire(1).unwrap();
    let waiter = Waiter::new(&semaphore, 1);
    semaphore.set_fairness(Fairness::Eventual(BOUND));
    assert_eq!(clock.registered(), 1);
    drop((held, waiter));
    drop(semaphore);
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_waker_that_panics_is_not_the_fault_of_one_who_tries_or_joins() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let mut asleep = Waiter::new(&semaphore, 1);
    let mut second = Box::pin(semaphore.acquire_owned(1));
    let panics = Waker::from(Arc::new(Panics));
    assert!(second.as_mut().poll(&mut Context::from_waker(&panics)).is_pending());
    clock.advance(BOUND);
    assert!(asleep.poll().is_pending(), "it shuts the door");
    drop(held);
    // The alarm is late: somebody who comes finds that the first has lost its turn, and calls the second.
    clock.advance_silently(2 * BOUND);
    let third = Waiter::new(&semaphore, 1);
    drop((asleep, second));
    drop(third.served());
}

#[test]
fn an_overdue_front_is_woken_once_and_then_when_there_is_something() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let mut waiter = Waiter::new(&semaphore, 1);
    for turn in 0..20 {
        clock.advance(BOUND);
        assert_eq!(waiter.wakes(), usize::from(turn == 0), "turn {turn}");
        assert!(waiter.poll().is_pending());
    }
    assert_eq!(clock.registered(), 0, "nothing is to be done before a release");
    drop(held);
    assert_eq!(waiter.wakes(), 1);
    drop(waiter.served());
}

#[test]
fn a_bound_that_is_raised_opens_the_door_again() {
    let (semaphore, _clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let waiter = Waiter::new(&semaphore, 1);
    drop(held);
    semaphore.set_fairness(Fairness::Eventual(Duration::MAX));
    overtakes(&semaphore);
    drop(waiter.served());
}

#[test]
fn what_is_asked_for_after_the_line_was_made_holds_as_well() {
    let (timer, clock) = Timer::manual();
    let semaphore = Semaphore::new(1);
    semaphore.set_capacity(4).unwrap();
    let semaphore = semaphore.with_fairness(Fairness::Eventual(BOUND)).with_timer(timer);
    let semaphore = Arc::new(semaphore);
    assert_eq!(semaphore.fairness(), Fairness::Eventual(BOUND));
    let held = semaphore.try_acquire(4).unwrap();
    let waiter = Waiter::new(&semaphore, 1);
    clock.advance(BOUND);
    assert_eq!(waiter.wakes(), 1);
    drop((held, waiter));
}

#[test]
fn made_eventual_while_nobody_is_polled_the_line_has_an_alarm() {
    watchdog(Duration::from_secs(60), "a line that becomes eventual", || {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = semaphore.try_acquire(1).unwrap();
        let asleep = Waiter::new(&semaphore, 1);
        let next = Waiter::new(&semaphore, 1);
        semaphore.set_fairness(Fairness::Eventual(Duration::from_millis(1)));
        drop(held);
        while next.wakes() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(next.served());
        drop(asleep);
    });
}

#[test]
fn many_changes_arm_no_more_than_one_alarm() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire(1).unwrap();
    let waiter = Waiter::new(&semaphore, 1);
    for turn in 0..100 {
        semaphore.set_fairness(Fairness::Eventual(BOUND * (2 + turn % 3)));
    }
    assert_eq!(clock.registered(), 1);
    clock.advance(4 * BOUND);
    assert_eq!(waiter.wakes(), 1);
    drop((held, waiter));
}

#[test]
fn the_alarm_of_a_semaphore_that_is_gone_is_revoked() {
    let (semaphore, clock) = eventual(1);
    let held = semaphore.try_acquire_owned(1).unwrap();
    let waiter = Waiter::new(&semaphore, 1);
    assert_eq!(clock.registered(), 1);
    drop((held, waiter, semaphore));
    assert_eq!(clock.registered(), 0);
}

/// A runtime without a time driver: what there is to know about it, tokio tells by a panic that is caught, and whose report
/// is kept from the output here.
#[cfg(feature = "tokio")]
#[test]
fn without_a_timer_whoever_gives_back_looks_at_the_clock() {
    let bound = Duration::from_millis(2);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let semaphore = Arc::new(Semaphore::new(2).with_fairness(Fairness::Eventual(bound)));
    let _inside = runtime.enter();
    let mut held: Vec<_> = (0..2).map(|_| semaphore.try_acquire(1).unwrap()).collect();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let asleep = Waiter::new(&semaphore, 1);
    std::panic::set_hook(hook);
    let next = Waiter::new(&semaphore, 1);
    held.pop();
    assert_eq!((asleep.wakes(), next.wakes()), (1, 0));
    thread::sleep(2 * bound);
    // At the next operation.
    held.pop();
    assert_eq!(next.wakes(), 1);
    drop(next.served());
    drop(asleep);
    assert_eq!(semaphore.available(), 2);
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn on_a_paused_clock_the_bound_is_exact() {
    use tokio::time::{Instant, sleep};

    let fairness = Fairness::Eventual(BOUND);
    let semaphore = Arc::new(Semaphore::new(1).with_fairness(fairness));
    let held = semaphore.acquire_owned(1).await.unwrap();
    let mut asleep = Box::pin(semaphore.acquire_owned(1));
    assert!(asleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let next = tokio::spawn({
        let semaphore = Arc::clone(&semaphore);
        async move {
            let permit = semaphore.acquire_owned(1).await.unwrap();
            (permit, Instant::now())
        }
    });
    sleep(Duration::from_millis(3)).await;
    let released = Instant::now();
    drop(held);
    let (permit, got) = next.await.unwrap();
    // The one in front has the bound to come; tokio rounds up to a millisecond.
    assert!(got - released >= BOUND, "{:?}", got - released);
    assert!(got - released <= 2 * BOUND, "{:?}", got - released);
    drop((permit, asleep));
}

#[test]
fn threads_that_hold_for_a_moment_all_get_their_turns() {
    for bound in [Duration::ZERO, Duration::from_micros(100), Duration::from_millis(1)] {
        watchdog(Duration::from_secs(60), "eventual fairness on threads", move || {
            let fairness = Fairness::Eventual(bound);
            let semaphore = Semaphore::new(2).with_fairness(fairness);
            let (out, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for thread in 0..8 {
                    let (semaphore, out, turns) = (&semaphore, &out, &turns);
                    scope.spawn(move || {
                        for turn in 0..3_000 {
                            let permit =
                                semaphore.acquire_blocking(1 + (thread + turn) % 2).unwrap();
                            let count = permit.count();
                            assert!(out.fetch_add(count, Ordering::Relaxed) + count <= 2);
                            out.fetch_sub(count, Ordering::Relaxed);
                            drop(permit);
                            turns.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(turns.into_inner(), 8 * 3_000);
            assert_eq!((semaphore.available(), semaphore.waiting()), (2, 0));
        });
    }
}

#[test]
fn threads_that_come_and_give_up_lose_no_permit() {
    watchdog(Duration::from_secs(60), "eventual fairness and cancels", || {
        let (semaphore, clock) = eventual(3);
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let semaphore = &semaphore;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    for _ in 0..5_000 {
                        let mut acquire = Box::pin(semaphore.acquire(random.usize(1..=3)));
                        let mut cx = Context::from_waker(Waker::noop());
                        for _ in 0..random.u8(..4) {
                            if acquire.as_mut().poll(&mut cx).map(drop).is_ready() {
                                break;
                            }
                            thread::yield_now();
                        }
                    }
                });
            }
            for _ in 0..500 {
                clock.advance(BOUND);
                thread::yield_now();
            }
        });
        assert_eq!((semaphore.available(), semaphore.waiting()), (3, 0));
        assert!(semaphore.try_acquire(3).is_ok());
    });
}
