//! The manual executor polls what was woken, once, in the order it promises.

use std::cell::{Cell, RefCell};
use std::future::{self, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use selvedge_testkit::{ManualExecutor, block_on, watchdog, yield_now};

#[test]
fn a_step_polls_one_task_once() {
    let polls = Cell::new(0);
    let mut executor = ManualExecutor::new();
    assert!(!executor.step());
    let task = executor.spawn(async {
        polls.set(polls.get() + 1);
        yield_now().await;
        polls.set(polls.get() + 1);
        "done"
    });
    assert_eq!(polls.get(), 0, "spawn does not poll");
    assert!(executor.step());
    assert_eq!((polls.get(), task.is_finished(), task.take()), (1, false, None));
    assert!(executor.step());
    assert!(task.is_finished());
    assert_eq!(task.take(), Some("done"));
    assert_eq!((task.take(), task.is_finished()), (None, true));
    assert!(!executor.step());
}

/// Three tasks that each note their number three times, with a yield between.
fn trace(mut executor: ManualExecutor<'_>) -> Vec<u32> {
    let trace = Rc::new(RefCell::new(Vec::new()));
    for number in 1..=3 {
        let trace = Rc::clone(&trace);
        executor.spawn(async move {
            for _ in 0..3 {
                trace.borrow_mut().push(number);
                yield_now().await;
            }
        });
    }
    assert_eq!(executor.run_until_stalled(), 12);
    trace.take()
}

#[test]
fn tasks_are_polled_in_the_order_of_their_wakes() {
    assert_eq!(trace(ManualExecutor::new()), [1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_seed_gives_one_order_and_seeds_give_many() {
    let traces: Vec<_> = (0..20).map(|seed| trace(ManualExecutor::seeded(seed))).collect();
    for (seed, first) in (0..).zip(&traces) {
        assert_eq!(*first, trace(ManualExecutor::seeded(seed)));
    }
    let distinct: std::collections::HashSet<_> = traces.iter().collect();
    assert!(distinct.len() > 10, "{} orders from 20 seeds", distinct.len());
}

#[test]
fn many_wakes_are_one_poll() {
    let polls = Cell::new(0);
    let waker = RefCell::new(None::<Waker>);
    let mut executor = ManualExecutor::new();
    executor.spawn(poll_fn(|cx| {
        polls.set(polls.get() + 1);
        waker.replace(Some(cx.waker().clone()));
        Poll::<()>::Pending
    }));
    assert_eq!(executor.run_until_stalled(), 1);
    let waker = waker.take().unwrap();
    waker.wake_by_ref();
    waker.wake_by_ref();
    assert_eq!(executor.run_until_stalled(), 1);
    assert_eq!(polls.get(), 2);
}

#[test]
fn a_wake_from_another_thread_counts() {
    let waker = RefCell::new(None::<Waker>);
    let mut executor = ManualExecutor::new();
    let task = executor.spawn(poll_fn(|cx| match waker.take() {
        Some(_) => Poll::Ready(()),
        None => {
            waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        }
    }));
    executor.run_until_stalled();
    let remote = waker.borrow().clone().unwrap();
    thread::spawn(move || remote.wake()).join().unwrap();
    executor.run_until_stalled();
    assert!(task.is_finished());
}

#[test]
fn a_dropped_task_is_dropped_at_once_and_never_polled_again() {
    let owned = Rc::new(());
    let mut executor = ManualExecutor::new();
    let kept = Rc::clone(&owned);
    let task = executor.spawn(async move {
        future::pending::<()>().await;
        drop(kept);
    });
    executor.step();
    assert!(executor.drop_task(&task));
    assert_eq!(Rc::strong_count(&owned), 1);
    assert!(!executor.drop_task(&task));
    assert!(!task.is_finished());
    assert!(!executor.step());
}

#[test]
fn a_task_dropped_while_woken_is_skipped() {
    let mut executor = ManualExecutor::new();
    let first = executor.spawn(async { 1 });
    let second = executor.spawn(async { 2 });
    assert!(executor.drop_task(&first));
    assert_eq!(executor.run_until_stalled(), 1);
    assert_eq!((first.take(), second.take()), (None, Some(2)));
}

#[test]
fn a_task_that_panics_is_gone_and_the_others_go_on() {
    let mut executor = ManualExecutor::new();
    let panics = executor.spawn(async { panic!("in the task") });
    let other = executor.spawn(async { 2 });
    let payload = catch_unwind(AssertUnwindSafe(|| executor.step())).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"in the task"));
    assert_eq!(executor.run_until_stalled(), 1);
    assert_eq!(other.take(), Some(2));
    assert!(!executor.drop_task::<()>(&panics));
}

#[test]
#[should_panic(expected = "belongs to another executor")]
fn a_task_of_another_executor_is_refused() {
    let task = ManualExecutor::new().spawn(async {});
    ManualExecutor::new().drop_task(&task);
}

#[test]
#[should_panic(expected = "a task wakes itself without end")]
fn a_task_that_never_stalls_is_told() {
    let mut executor = ManualExecutor::new();
    executor.spawn(poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    executor.run_until_stalled();
}

#[test]
fn block_on_waits_for_a_wake_from_another_thread() {
    let answer = watchdog(Duration::from_secs(30), "block_on", || {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sending = thread::spawn(move || sender.send(42).unwrap());
        let answer = block_on(receiver).unwrap();
        sending.join().unwrap();
        answer
    });
    assert_eq!(answer, 42);
}
