//! The barrier: rounds, who is last, what breaks it, resets, and wakers that misbehave.
#![cfg(not(selvedge_loom))]

#[cfg(feature = "tokio")]
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
#[cfg(feature = "tokio")]
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_cancel::{CauseKind, Context as Tree};
use selvedge_sync::{Barrier, BarrierError, BarrierWait, NoParties, Passed};
use selvedge_testkit::{CountingWaker, PanickingWaker, ReentrantWaker, block_on, watchdog};

type Wait<'a> = Pin<Box<BarrierWait<'a>>>;
type Outcome = Poll<Result<Passed, BarrierError>>;

fn poll(wait: &mut Wait<'_>) -> Outcome {
    wait.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn is_last(polled: Outcome) -> bool {
    match polled {
        Poll::Ready(passed) => passed.expect("it is not broken").is_last(),
        Poll::Pending => panic!("not all have come"),
    }
}

/// Waits that have come.
fn come(barrier: &Barrier, count: usize) -> Vec<Wait<'_>> {
    let mut waits: Vec<_> = (0..count).map(|_| Box::pin(barrier.wait())).collect();
    assert!(waits.iter_mut().all(|wait| poll(wait).is_pending()));
    waits
}

const BROKEN: Outcome = Poll::Ready(Err(BarrierError::Broken));
const RESET: Outcome = Poll::Ready(Err(BarrierError::Reset));

// Smoke.

#[test]
fn all_go_on_when_the_last_has_come() {
    let barrier = Barrier::new(3).unwrap();
    for _ in 0..3 {
        let mut waits = come(&barrier, 2);
        assert_eq!((barrier.waiting(), barrier.parties()), (2, 3));
        let mut last = Box::pin(barrier.wait());
        assert!(is_last(poll(&mut last)));
        assert_eq!(barrier.waiting(), 0);
        assert!(!waits.iter_mut().any(|wait| is_last(poll(wait))));
    }
    assert!(!barrier.is_broken());
}

#[test]
fn one_party_never_waits() {
    let barrier = Barrier::new(1).unwrap();
    for _ in 0..3 {
        assert!(block_on(barrier.wait()).unwrap().is_last());
        assert!(barrier.wait_blocking().unwrap().is_last());
    }
}

#[test]
fn no_parties_are_refused() {
    let error = Barrier::new(0).map(drop).unwrap_err();
    assert_eq!(error, NoParties);
    assert_eq!(error.to_string(), "barrier not made: it is for no parties, and needs one at least");
}

#[test]
fn as_many_parties_as_can_be_counted_wait() {
    let barrier = Barrier::new(usize::MAX).unwrap();
    let waits = come(&barrier, 100);
    drop(waits);
    assert!(barrier.is_broken());
}

#[test]
fn threads_go_on_together_round_after_round() {
    watchdog(Duration::from_secs(60), "threads at a barrier", || {
        let barrier = Barrier::new(4).unwrap();
        let (came, lasts) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 1..=500 {
                        came.fetch_add(1, Ordering::Relaxed);
                        let passed = barrier.wait_blocking().unwrap();
                        lasts.fetch_add(usize::from(passed.is_last()), Ordering::Relaxed);
                        // Ordered by the barrier: all of this round have come, and none of the next.
                        assert_eq!(came.load(Ordering::Relaxed), 4 * round);
                        barrier.wait_blocking().unwrap();
                    }
                });
            }
        });
        assert_eq!(lasts.into_inner(), 500);
    });
}

#[test]
fn a_party_that_comes_again_at_once_is_in_the_next_round() {
    let barrier = Barrier::new(2).unwrap();
    let mut first = come(&barrier, 1);
    assert!(is_last(poll(&mut Box::pin(barrier.wait()))));
    let mut again = come(&barrier, 1);
    assert!(!is_last(poll(&mut first[0])));
    assert!(poll(&mut again[0]).is_pending());
    assert!(is_last(poll(&mut Box::pin(barrier.wait()))));
    assert!(!is_last(poll(&mut again[0])));
}

#[test]
fn everybody_is_woken_once() {
    let barrier = Barrier::new(101).unwrap();
    let wakers: Vec<_> = (0..100).map(|_| CountingWaker::new()).collect();
    let mut waits: Vec<_> = wakers.iter().map(|_| Box::pin(barrier.wait())).collect();
    for (wait, waker) in waits.iter_mut().zip(&wakers) {
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
    }
    assert!(is_last(poll(&mut Box::pin(barrier.wait()))));
    assert!(wakers.iter().all(|waker| waker.wakes() == 1));
    drop(waits);
    assert!(!barrier.is_broken(), "who has its pass and leaves breaks nothing");
    assert!(wakers.iter().all(|waker| waker.live() == 0));
}

// Breaking.

#[test]
fn who_leaves_breaks_it_for_those_who_wait_and_those_who_come() {
    let barrier = Barrier::new(4).unwrap();
    let mut waits = come(&barrier, 3);
    drop(waits.remove(1));
    assert!(barrier.is_broken());
    for wait in &mut waits {
        assert_eq!(poll(wait), BROKEN);
    }
    assert_eq!(poll(&mut Box::pin(barrier.wait())), BROKEN);
    assert_eq!(barrier.wait_blocking(), Err(BarrierError::Broken));
    assert_eq!(barrier.waiting(), 0);
}

#[test]
fn who_has_not_come_breaks_nothing() {
    let barrier = Barrier::new(2).unwrap();
    drop(barrier.wait());
    assert!(!barrier.is_broken());
}

#[test]
fn a_context_that_ends_breaks_it() {
    let barrier = Barrier::new(3).unwrap();
    let (tree, canceller) = Tree::background().child();
    let mut other = come(&barrier, 1);
    {
        let mut wait = Box::pin(barrier.wait_in(&tree));
        assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        canceller.cancel();
        assert_eq!(block_on(wait).unwrap_err().kind(), CauseKind::Cancelled);
    }
    assert_eq!(poll(&mut other[0]), BROKEN);
    barrier.reset();
    // It has not come.
    assert!(block_on(barrier.wait_in(&tree)).is_err());
    assert!(!barrier.is_broken());
}

#[test]
fn a_party_that_is_told_of_the_end_of_its_context_counts_no_more() {
    let barrier = Barrier::new(3).unwrap();
    let (tree, canceller) = Tree::background().child();
    let mut cx = Context::from_waker(Waker::noop());
    let mut told = Box::pin(barrier.wait_in(&tree));
    assert!(told.as_mut().poll(&mut cx).is_pending());
    let mut others = come(&barrier, 1);
    canceller.cancel();
    assert!(matches!(told.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
    // Its future lives on, and stands in nobody's way.
    assert_eq!((barrier.waiting(), barrier.is_broken()), (0, true));
    assert_eq!(poll(&mut others[0]), BROKEN);
    drop(told);
}

#[test]
fn a_context_that_ends_after_all_have_come_breaks_nothing() {
    let barrier = Barrier::new(2).unwrap();
    let (tree, canceller) = Tree::background().child();
    let mut cx = Context::from_waker(Waker::noop());
    let mut first = Box::pin(barrier.wait_in(&tree));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(block_on(barrier.wait()).unwrap().is_last());
    canceller.cancel();
    assert!(matches!(first.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
    assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
}

#[test]
fn a_reset_makes_it_whole_and_sends_those_who_wait_away() {
    let barrier = Barrier::new(3).unwrap();
    let mut waits = come(&barrier, 2);
    barrier.reset();
    for wait in &mut waits {
        assert_eq!(poll(wait), RESET);
    }
    drop(waits);
    assert!(!barrier.is_broken());
    // Who was there when it broke is told of that, also after a reset.
    let mut waits = come(&barrier, 2);
    drop(waits.remove(0));
    barrier.reset();
    assert_eq!(poll(&mut waits[0]), BROKEN);
    let waits = come(&barrier, 2);
    drop(waits);
    assert!(barrier.is_broken());
    barrier.reset();
    let mut waits = come(&barrier, 2);
    assert!(is_last(poll(&mut Box::pin(barrier.wait()))));
    assert!(!is_last(poll(&mut waits[0])));
}

// Bad wakers, and other bad input.

#[test]
fn a_waker_that_panics_keeps_nobody_at_the_barrier() {
    let barrier = Barrier::new(3).unwrap();
    let (bad, good) = (PanickingWaker::new(), CountingWaker::new());
    for breaks in [false, true] {
        let mut waits = [Box::pin(barrier.wait()), Box::pin(barrier.wait())];
        let wakers = [bad.waker(), good.waker()];
        for (wait, waker) in waits.iter_mut().zip(&wakers) {
            assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        let before = good.wakes();
        let panic = catch_unwind(AssertUnwindSafe(|| match breaks {
            false => drop(poll(&mut Box::pin(barrier.wait()))),
            true => barrier.reset(),
        }));
        assert!(panic.is_err());
        assert_eq!(good.wakes(), before + 1);
        for wait in &mut waits {
            match breaks {
                false => assert!(!is_last(poll(wait))),
                true => assert_eq!(poll(wait), RESET),
            }
        }
        assert!(!barrier.is_broken());
    }
}

#[test]
fn a_waker_that_panics_when_a_party_leaves_keeps_nobody_at_the_barrier() {
    let (tree, canceller) = Tree::background().child();
    let (bad, good) = (PanickingWaker::new(), CountingWaker::new());
    let mut cx = Context::from_waker(Waker::noop());
    for by_context in [false, true] {
        let barrier = Barrier::new(4).unwrap();
        let mut waits = [Box::pin(barrier.wait()), Box::pin(barrier.wait())];
        for (wait, waker) in waits.iter_mut().zip([bad.waker(), good.waker()]) {
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        let before = good.wakes();
        let mut leaves = Box::pin(barrier.wait_in(&tree));
        assert!(leaves.as_mut().poll(&mut cx).is_pending());
        let panic = catch_unwind(AssertUnwindSafe(|| match by_context {
            false => drop(leaves),
            true => {
                canceller.cancel();
                let _ = leaves.as_mut().poll(&mut cx);
            }
        }));
        assert!(panic.is_err());
        assert_eq!((good.wakes(), barrier.waiting(), barrier.is_broken()), (before + 1, 0, true));
        for wait in &mut waits {
            assert_eq!(poll(wait), BROKEN);
        }
    }
    assert_eq!((bad.live(), good.live()), (0, 0));
}

#[test]
fn errors_say_what_did_not_happen_and_why() {
    let errors = [BarrierError::Broken, BarrierError::Reset].map(|error| error.to_string());
    assert_eq!(errors[0], "barrier not passed: a party has left while it waited");
    assert_eq!(errors[1], "barrier not passed: it was reset while this party waited");
}

#[test]
fn a_waker_may_use_the_barrier() {
    watchdog(Duration::from_secs(60), "a waker that uses the barrier", || {
        let barrier = Arc::new(Barrier::new(2).unwrap());
        let inside = Arc::clone(&barrier);
        let waker = ReentrantWaker::on_wake(move || {
            assert_eq!(inside.waiting(), 0);
            let mut wait = Box::pin(inside.wait());
            assert!(poll(&mut wait).is_pending());
            drop(wait);
            inside.reset();
        });
        let mut wait = Box::pin(barrier.wait());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
        assert!(is_last(poll(&mut Box::pin(barrier.wait()))));
        assert!(!is_last(poll(&mut wait)));
    });
}

#[test]
#[should_panic(expected = "a wait is not polled after it was ready")]
fn a_wait_that_was_ready_is_not_polled_again() {
    let barrier = Barrier::new(1).unwrap();
    let mut wait = Box::pin(barrier.wait());
    assert!(poll(&mut wait).is_ready());
    let _ = poll(&mut wait);
}

#[test]
#[cfg(feature = "tokio")]
fn a_loop_over_rounds_of_one_yields() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let turns = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                seen.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let rounds = tokio::spawn(async move {
            let barrier = Barrier::new(1).unwrap();
            for _ in 0..1000 {
                assert!(barrier.wait().await.is_ok());
            }
        });
        rounds.await.unwrap();
        other.abort();
        assert!(turns.load(Ordering::Relaxed) > 3);
    });
}

#[test]
#[cfg(feature = "tokio")]
fn a_blocking_wait_in_a_task_whose_budget_is_spent_is_a_party_as_others_are() {
    watchdog(Duration::from_secs(60), "a task whose budget is spent", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = poll_fn(|cx| {
            let one = Barrier::new(1).unwrap();
            let turns = (0..1_000_000).take_while(|_| pin!(one.wait()).poll(cx).is_ready()).count();
            assert!(turns < 1_000_000, "the budget never ends");
            assert!(one.wait_blocking().unwrap().is_last());
            // And waits for another thread.
            let two = Barrier::new(2).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(20));
                    assert!(two.wait_blocking().unwrap().is_last());
                });
                assert!(!two.wait_blocking().unwrap().is_last());
            });
            Poll::Ready(())
        });
        runtime.block_on(runtime.spawn(task)).unwrap();
    });
}

#[test]
fn it_names_itself_and_its_place() {
    let line = line!() + 1;
    let barrier = Barrier::new(2).unwrap().named("step");
    assert_eq!((barrier.name(), barrier.place().line()), (Some("step"), line));
    let shown = format!("{barrier:?}");
    assert!(shown.contains("step") && shown.contains("parties: 2"), "{shown}");
    let line = line!() + 1;
    let wait = barrier.wait();
    assert!(format!("{wait:?}").contains(&format!("barrier.rs:{line}")));
}

/// What may be done. Numbers that choose a wait go round.
#[derive(Debug, Clone, Copy)]
enum Step {
    Come,
    Poll(usize),
    Leave(usize),
    Reset,
}

/// How a wait is to end.
#[derive(Debug, Clone, Copy)]
enum Told {
    Passed,
    Broken,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => Just(Step::Come),
        8 => any::<usize>().prop_map(Step::Poll),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn it_does_what_its_documentation_says(
        parties in 1..6usize,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let barrier = Barrier::new(parties).unwrap();
        // Each wait with its waker and how it will end, if that is settled.
        let mut waits: Vec<(Wait<'_>, CountingWaker, Option<Told>)> = Vec::new();
        let mut broken = false;
        for step in steps {
            let waiting = waits.iter().filter(|wait| wait.2.is_none()).count();
            match step {
                Step::Come => {
                    let (mut wait, waker) = (Box::pin(barrier.wait()), CountingWaker::new());
                    let polled = wait.as_mut().poll(&mut Context::from_waker(&waker.waker()));
                    if broken {
                        prop_assert_eq!(polled, BROKEN);
                    } else if waiting + 1 == parties {
                        prop_assert!(is_last(polled));
                        waits.iter_mut().for_each(|wait| { wait.2.get_or_insert(Told::Passed); });
                    } else {
                        prop_assert!(polled.is_pending());
                        waits.push((wait, waker, None));
                    }
                }
                Step::Poll(which) if !waits.is_empty() => {
                    let which = which % waits.len();
                    let (wait, waker, settled) = &mut waits[which];
                    let polled = wait.as_mut().poll(&mut Context::from_waker(&waker.waker()));
                    match settled {
                        None => prop_assert!(polled.is_pending()),
                        Some(Told::Passed) => prop_assert!(!is_last(polled)),
                        Some(Told::Broken) => prop_assert_eq!(polled, BROKEN),
                        Some(Told::Reset) => prop_assert_eq!(polled, RESET),
                    }
                    if settled.is_some() {
                        drop(waits.swap_remove(which));
                    }
                }
                Step::Leave(which) if !waits.is_empty() => {
                    let which = which % waits.len();
                    let (wait, _, settled) = waits.swap_remove(which);
                    drop(wait);
                    if settled.is_none() {
                        broken = true;
                        waits.iter_mut().for_each(|wait| { wait.2.get_or_insert(Told::Broken); });
                    }
                }
                Step::Poll(_) | Step::Leave(_) => {}
                Step::Reset => {
                    barrier.reset();
                    broken = false;
                    waits.iter_mut().for_each(|wait| { wait.2.get_or_insert(Told::Reset); });
                }
            }
            let waiting = waits.iter().filter(|wait| wait.2.is_none()).count();
            prop_assert_eq!((barrier.waiting(), barrier.is_broken()), (waiting, broken));
            for (_, waker, settled) in &waits {
                prop_assert_eq!(waker.wakes(), usize::from(settled.is_some()));
            }
        }
    }
}
