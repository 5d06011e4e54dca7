//! Latch and wait group against a sequential model of what their documentation says.
#![cfg(not(selvedge_loom))]

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use proptest::prelude::*;
use selvedge_sync::{Latch, LatchWait, OwnedWaitGuard, WaitGroup, WaitGroupWait};
use selvedge_testkit::CountingWaker;

/// What may be done. Numbers that choose a guard or a waiter go round.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Add so much, or count it down.
    Count(usize),
    /// Split so much off a guard.
    Split(usize, usize),
    /// Drop a guard.
    Done(usize),
    /// Wait, polled once.
    Wait,
    /// Poll a waiter.
    Poll(usize),
    /// Drop a waiter.
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let n = prop_oneof![20 => 0..4usize, 1 => Just(usize::MAX), 1 => Just(WaitGroup::MAX_COUNT)];
    prop_oneof![
        4 => n.clone().prop_map(Step::Count),
        1 => (any::<usize>(), n).prop_map(|(which, n)| Step::Split(which, n)),
        4 => any::<usize>().prop_map(Step::Done),
        4 => Just(Step::Wait),
        3 => any::<usize>().prop_map(Step::Poll),
        2 => any::<usize>().prop_map(Step::Leave),
    ]
}

/// A wait that is under way: whether the gate was open since it began, and how often it was woken.
struct Waiting<F> {
    future: Pin<Box<F>>,
    waker: CountingWaker,
    out: bool,
}

/// Waits, of either kind.
struct Waits<F>(Vec<Waiting<F>>);

impl<F: Future<Output = ()>> Waits<F> {
    /// Begins a wait, of a gate that is open or not.
    fn begin(&mut self, future: F, open: bool) {
        let (mut future, waker) = (Box::pin(future), CountingWaker::new());
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker.waker()));
        assert_eq!(polled.is_ready(), open);
        if !open {
            self.0.push(Waiting { future, waker, out: false });
        }
    }

    /// The gate is open.
    fn let_out(&mut self) {
        for waiting in &mut self.0 {
            waiting.out = true;
        }
    }

    /// Polls one, which completes exactly if it was let out.
    fn poll(&mut self, which: usize) {
        if self.0.is_empty() {
            return;
        }
        let which = which % self.0.len();
        let waiting = &mut self.0[which];
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // With its own waker as long as it waits: the next wake is looked for there.
        let waker = waiting.waker.waker();
        if !waiting.out {
            cx = Context::from_waker(&waker);
        }
        assert_eq!(waiting.future.as_mut().poll(&mut cx).is_ready(), waiting.out);
        if waiting.out {
            drop(self.0.swap_remove(which));
        }
    }

    /// Drops one.
    fn leave(&mut self, which: usize) {
        if !self.0.is_empty() {
            let which = which % self.0.len();
            drop(self.0.swap_remove(which));
        }
    }

    /// Whoever was let out was woken once, and nobody else.
    fn check(&self) {
        for waiting in &self.0 {
            assert_eq!(waiting.waker.wakes(), usize::from(waiting.out));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn wait_group_does_what_its_documentation_says(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let group = Arc::new(WaitGroup::new());
        let mut guards: Vec<OwnedWaitGuard> = Vec::new();
        let mut waits: Waits<WaitGroupWait<'_>> = Waits(Vec::new());
        for step in steps {
            let count: usize = guards.iter().map(OwnedWaitGuard::count).sum();
            match step {
                Step::Count(n) => match group.add_owned(n) {
                    Ok(guard) => {
                        prop_assert!(n <= WaitGroup::MAX_COUNT - count);
                        guards.push(guard);
                    }
                    Err(error) => {
                        prop_assert!(n > WaitGroup::MAX_COUNT - count);
                        prop_assert_eq!((error.wanted, error.count), (n, count));
                    }
                },
                Step::Split(which, n) if !guards.is_empty() => {
                    let which = which % guards.len();
                    let has = guards[which].count();
                    let split = guards[which].split(n);
                    prop_assert_eq!(split.is_some(), n <= has);
                    guards.extend(split);
                }
                Step::Done(which) if !guards.is_empty() => {
                    let which = which % guards.len();
                    let guard = guards.swap_remove(which);
                    if guard.count() > 0 && guard.count() == count {
                        waits.let_out();
                    }
                }
                Step::Split(..) | Step::Done(_) => {}
                Step::Wait => waits.begin(group.wait(), count == 0),
                Step::Poll(which) => waits.poll(which),
                Step::Leave(which) => waits.leave(which),
            }
            waits.check();
            prop_assert_eq!(group.count(), guards.iter().map(OwnedWaitGuard::count).sum::<usize>());
        }
    }

    #[test]
    fn latch_does_what_its_documentation_says(
        start in 0..40usize,
        steps in prop::collection::vec(step(), 0..100),
    ) {
        let latch = Latch::new(start);
        let mut count = start;
        let mut waits: Waits<LatchWait<'_>> = Waits(Vec::new());
        for step in steps {
            match step {
                Step::Count(n) => {
                    let opens = count > 0 && n >= count;
                    prop_assert_eq!(latch.count_down(n), opens);
                    count = count.saturating_sub(n);
                    if opens {
                        waits.let_out();
                    }
                }
                Step::Split(..) | Step::Done(_) => {}
                Step::Wait => waits.begin(latch.wait(), count == 0),
                Step::Poll(which) => waits.poll(which),
                Step::Leave(which) => waits.leave(which),
            }
            waits.check();
            prop_assert_eq!((latch.count(), latch.is_open()), (count, count == 0));
        }
    }
}
