//! The tree against a naive model, in which every node is kept for ever and every walk is a loop over
//! all of them. After each operation flags, causes, deadlines, wakes and the number of nodes agree.

use std::pin::Pin;
use std::task::Context as TaskContext;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_cancel::{Canceller, Cause, CauseKind, Context, ManualClock, Timer};
use selvedge_testkit::CountingWaker;

/// Sequences, and operations in each: 105,000 operations in all.
const CASES: u32 = 1_050;
const OPERATIONS: usize = 100;

/// How many contexts are alive at most.
const CROWD: usize = 12;

/// An operation; `usize`s are taken modulo what there is, times are milliseconds.
#[derive(Debug, Clone)]
enum Op {
    Child {
        of: usize,
    },
    TimedChild {
        of: usize,
        after: u64,
    },
    Wait {
        on: usize,
        stopping: bool,
    },
    Unwait {
        which: usize,
    },
    Cancel {
        with: usize,
    },
    Stop {
        with: usize,
        grace: Option<u64>,
    },
    CloneCanceller {
        which: usize,
    },
    DropCanceller {
        which: usize,
    },
    Detach {
        which: usize,
    },
    DropContext {
        which: usize,
    },
    Advance {
        by: u64,
    },
    /// And looks at one context only, as a loop that polls does: the others learn of it later.
    AdvanceSilently {
        by: u64,
        look: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..usize::MAX;
    prop_oneof![
        6 => which.clone().prop_map(|of| Op::Child { of }),
        4 => (which.clone(), 0..60_u64).prop_map(|(of, after)| Op::TimedChild { of, after }),
        5 => (which.clone(), any::<bool>()).prop_map(|(on, stopping)| Op::Wait { on, stopping }),
        2 => which.clone().prop_map(|which| Op::Unwait { which }),
        1 => which.clone().prop_map(|with| Op::Cancel { with }),
        3 => (which.clone(), prop::option::of(0..40_u64))
            .prop_map(|(with, grace)| Op::Stop { with, grace }),
        1 => which.clone().prop_map(|which| Op::CloneCanceller { which }),
        1 => which.clone().prop_map(|which| Op::DropCanceller { which }),
        4 => which.clone().prop_map(|which| Op::Detach { which }),
        6 => which.clone().prop_map(|which| Op::DropContext { which }),
        2 => (0..25_u64).prop_map(|by| Op::Advance { by }),
        3 => (0..25_u64, which).prop_map(|(by, look)| Op::AdvanceSilently { by, look }),
    ]
}

/// A cause, as far as the model knows it: a number given to each cancel and stop.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Why {
    Numbered(CauseKind, u64),
    Deadline,
    Dropped,
}

/// A node of the model.
#[derive(Debug, Clone, Default)]
struct Node {
    parent: Option<usize>,
    stopping: bool,
    cancelled: bool,
    why: Option<Why>,
    deadline: Option<u64>,
    grace: Option<u64>,
    /// Whether dropping its cancellers cancels it.
    armed: bool,
    /// Born cancelled: in no tree.
    apart: bool,
}

/// The naive tree.
#[derive(Default)]
struct Model {
    nodes: Vec<Node>,
    now: u64,
}

impl Model {
    fn child(&mut self, parent: Option<usize>, own: Option<u64>) -> usize {
        let mut node = parent.map_or_else(Node::default, |parent| self.nodes[parent].clone());
        node.apart = node.cancelled;
        node.parent = parent;
        node.armed = true;
        node.deadline = node.deadline.into_iter().chain(own).min();
        self.nodes.push(node);
        self.pass_time();
        self.nodes.len() - 1
    }

    fn is_below(&self, node: usize, top: usize) -> bool {
        let mut at = Some(node);
        while let Some(node) = at {
            if node == top {
                return true;
            }
            at = self.nodes[node].parent;
        }
        false
    }

    fn end(&mut self, top: usize, why: Why, grace: Option<Option<u64>>) {
        for node in 0..self.nodes.len() {
            if !self.is_below(node, top) || self.nodes[node].cancelled {
                continue;
            }
            let node = &mut self.nodes[node];
            node.stopping = true;
            node.why.get_or_insert(why);
            match grace {
                None => node.cancelled = true,
                Some(end) => node.grace = node.grace.into_iter().chain(end).min(),
            }
        }
    }

    /// Ends what is due.
    fn pass_time(&mut self) {
        for node in &mut self.nodes {
            if node.deadline.is_some_and(|deadline| deadline <= self.now) && !node.cancelled {
                (node.stopping, node.cancelled) = (true, true);
                node.why.get_or_insert(Why::Deadline);
            }
            node.cancelled |= node.grace.is_some_and(|grace| grace <= self.now);
        }
    }
}

type Waiting = Pin<Box<dyn Future<Output = Cause>>>;

/// The real tree, and who holds what of it.
struct Real {
    contexts: Vec<(usize, Context)>,
    cancellers: Vec<(usize, Canceller)>,
    /// Node, level, future, and the waker it was polled with.
    waiting: Vec<(usize, bool, Waiting, CountingWaker)>,
    clock: ManualClock,
    start: Instant,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The cause as the model would name it.
fn why(cause: &Cause) -> Why {
    match cause.kind() {
        CauseKind::Deadline => Why::Deadline,
        CauseKind::Dropped => Why::Dropped,
        kind => {
            let error = cause.error().expect("every cancel and stop here brings a number");
            Why::Numbered(kind, error.to_string().parse().expect("a number"))
        }
    }
}

/// Adds a child of both.
fn make(real: &mut Real, model: &mut Model, of: usize, after: Option<u64>) {
    if real.contexts.len() >= CROWD {
        return;
    }
    let (parent, ctx) = &real.contexts[of % real.contexts.len()];
    let (child, canceller) = match after {
        None => ctx.child(),
        Some(after) => ctx.with_timeout(ms(after)).expect("the timer is inherited"),
    };
    let node = model.child(Some(*parent), after.map(|after| model.now + after));
    real.contexts.push((node, child));
    real.cancellers.push((node, canceller));
}

/// Applies an operation to both.
fn apply(op: &Op, number: u64, real: &mut Real, model: &mut Model) {
    match *op {
        Op::Child { of } => make(real, model, of, None),
        Op::TimedChild { of, after } => make(real, model, of, Some(after)),
        Op::Wait { on, stopping } => {
            let (node, ctx) = &real.contexts[on % real.contexts.len()];
            let mut future: Waiting = match stopping {
                true => Box::pin(ctx.stopping()),
                false => Box::pin(ctx.cancelled()),
            };
            let counting = CountingWaker::new();
            let polled = future.as_mut().poll(&mut TaskContext::from_waker(&counting.waker()));
            let reached = match stopping {
                true => model.nodes[*node].stopping,
                false => model.nodes[*node].cancelled,
            };
            assert_eq!(polled.is_ready(), reached);
            if polled.is_pending() {
                real.waiting.push((*node, stopping, future, counting));
            }
        }
        Op::Unwait { which } => {
            if !real.waiting.is_empty() {
                let at = which % real.waiting.len();
                drop(real.waiting.swap_remove(at));
            }
        }
        Op::Cancel { with } => {
            if let Some((node, canceller)) = pick(&real.cancellers, with) {
                canceller.cancel_because(number.to_string());
                model.end(*node, Why::Numbered(CauseKind::Cancelled, number), None);
            }
        }
        Op::Stop { with, grace } => {
            if let Some((node, canceller)) = pick(&real.cancellers, with) {
                canceller.stop_because(number.to_string(), grace.map_or(Duration::MAX, ms));
                let end = match grace {
                    Some(0) => None,
                    grace => Some(grace.map(|grace| model.now + grace)),
                };
                model.end(*node, Why::Numbered(CauseKind::Stopped, number), end);
            }
        }
        Op::CloneCanceller { which } => {
            if let Some((node, canceller)) = pick(&real.cancellers, which) {
                let clone = (*node, canceller.clone());
                real.cancellers.push(clone);
            }
        }
        Op::DropCanceller { which } => take_canceller(which, false, real, model),
        Op::Detach { which } => take_canceller(which, true, real, model),
        Op::DropContext { which } => {
            // The root stays, to be asked for the number of nodes.
            if real.contexts.len() > 1 {
                let at = 1 + which % (real.contexts.len() - 1);
                drop(real.contexts.swap_remove(at));
            }
        }
        Op::Advance { by } => {
            real.clock.advance(ms(by));
            model.now += by;
            model.pass_time();
        }
        Op::AdvanceSilently { by, .. } => {
            real.clock.advance_silently(ms(by));
            model.now += by;
            model.pass_time();
        }
    }
}

fn pick<T>(all: &[T], which: usize) -> Option<&T> {
    all.get(which.checked_rem(all.len())?)
}

/// Drops or detaches a canceller.
fn take_canceller(which: usize, detach: bool, real: &mut Real, model: &mut Model) {
    let Some(at) = which.checked_rem(real.cancellers.len()) else { return };
    let (node, canceller) = real.cancellers.swap_remove(at);
    if detach {
        canceller.detach();
        model.nodes[node].armed = false;
    } else {
        drop(canceller);
    }
    let last = real.cancellers.iter().all(|(other, _)| *other != node);
    if last && model.nodes[node].armed {
        model.end(node, Why::Dropped, None);
    }
}

/// Compares both: all, or after a silent advance what one context shows.
fn compare(real: &mut Real, model: &Model, look: Option<usize>) -> Result<(), TestCaseError> {
    let silent = look.is_some();
    for (at, (node, ctx)) in real.contexts.iter().enumerate() {
        if look.is_some_and(|look| look % real.contexts.len() != at) {
            continue;
        }
        let expected = &model.nodes[*node];
        prop_assert_eq!(ctx.is_stopping(), expected.stopping, "stopping of {}", node);
        prop_assert_eq!(ctx.is_cancelled(), expected.cancelled, "cancelled of {}", node);
        prop_assert_eq!(ctx.check().is_err(), expected.cancelled);
        prop_assert_eq!(ctx.cause().as_ref().map(why), expected.why, "cause of {}", node);
        let deadline = expected.deadline.map(|at| real.start + ms(at));
        prop_assert_eq!(ctx.deadline(), deadline, "deadline of {}", node);
        let remaining = expected.deadline.map(|at| ms(at.saturating_sub(model.now)));
        prop_assert_eq!(ctx.remaining(), remaining);
    }
    let mut served = Vec::new();
    for (at, (node, stopping, _, counting)) in real.waiting.iter().enumerate() {
        let node = &model.nodes[*node];
        let reached = if *stopping { node.stopping } else { node.cancelled };
        match counting.wakes() {
            0 => prop_assert!(!reached || silent, "a waiter sleeps on: {:?}", node),
            1 => prop_assert!(reached, "woken for nothing: {:?}", node),
            wakes => prop_assert!(false, "woken {} times", wakes),
        }
        if counting.wakes() == 1 {
            served.push(at);
        }
    }
    for at in served.into_iter().rev() {
        let (node, _, mut future, counting) = real.waiting.swap_remove(at);
        let polled = future.as_mut().poll(&mut TaskContext::from_waker(&counting.waker()));
        let std::task::Poll::Ready(cause) = polled else {
            return Err(TestCaseError::fail("woken, and pending"));
        };
        prop_assert_eq!(Some(why(&cause)), model.nodes[node].why);
    }

    let mut live: Vec<usize> = real.contexts.iter().map(|(node, _)| *node).collect();
    live.extend(real.cancellers.iter().map(|(node, _)| *node));
    live.extend(real.waiting.iter().map(|(node, ..)| *node));
    live.retain(|node| !model.nodes[*node].apart);
    live.sort_unstable();
    live.dedup();
    let nodes = real.contexts[0].1.nodes();
    prop_assert!(nodes >= live.len() && nodes < 2 * live.len(), "{} for {}", nodes, live.len());
    Ok(())
}

fn agrees(ops: &[Op]) -> Result<(), TestCaseError> {
    let (timer, clock) = Timer::manual();
    let start = timer.now();
    let mut model = Model::default();
    let made = Context::background().child_with().timeout(ms(4_000)).timer(timer).build();
    let (root, canceller) = made.expect("a manual timer");
    let node = model.child(None, Some(4_000));
    let mut real = Real {
        contexts: vec![(node, root)],
        cancellers: vec![(node, canceller)],
        waiting: Vec::new(),
        clock,
        start,
    };
    // Cancelling the root ends the story: it is detached, and its canceller kept out of reach.
    let (_, canceller) = real.cancellers.remove(0);
    canceller.detach();
    model.nodes[node].armed = false;

    for (number, op) in ops.iter().enumerate() {
        apply(op, number as u64, &mut real, &mut model);
        let look = match *op {
            Op::AdvanceSilently { look, .. } => Some(look),
            _ => {
                // Timers that an earlier silent advance held back.
                real.clock.advance(Duration::ZERO);
                None
            }
        };
        compare(&mut real, &model, look)?;
    }
    let Real { contexts, cancellers, waiting, clock, .. } = real;
    drop((contexts, cancellers, waiting));
    prop_assert_eq!(clock.registered(), 0, "a timer was left behind");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn the_tree_does_what_the_naive_tree_does(ops in vec(op(), OPERATIONS)) {
        agrees(&ops)?;
    }
}
