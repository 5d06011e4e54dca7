//! The tree against a naive model, in which every node is kept for ever and every walk is a loop over
//! all of them. After each operation, the return of any cancel among them, flags, causes, deadlines, wakes, callbacks, links,
//! who is inside and the number of nodes agree.

use std::future::ready;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Context as TaskContext;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_cancel::{
    Canceller, Cause, CauseKind, Context, Entered, ManualClock, Registration, Revoked, Timer,
};
use selvedge_testkit::CountingWaker;

/// Sequences, and operations in each: a million operations in all, half of them in each of two tests.
const CASES: u32 = 5_000;
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
    Shield {
        of: usize,
        budget: u64,
    },
    Callback {
        on: usize,
        stopping: bool,
    },
    Revoke {
        which: usize,
    },
    Enter {
        at: usize,
    },
    Leave {
        which: usize,
    },
    Link {
        sources: [usize; 2],
        all: bool,
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

/// What is done without shields, callbacks, guards and links: here a clock may pass a deadline without telling.
fn plain() -> impl Strategy<Value = Op> {
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

/// The same, and the rest.
fn any_op() -> impl Strategy<Value = Op> {
    let which = 0..usize::MAX;
    let two = [which.clone(), which.clone()];
    prop_oneof![
        30 => plain().prop_map(|op| match op {
            Op::AdvanceSilently { by, .. } => Op::Advance { by },
            op => op,
        }),
        3 => (which.clone(), 0..60_u64).prop_map(|(of, budget)| Op::Shield { of, budget }),
        3 => (which.clone(), any::<bool>())
            .prop_map(|(on, stopping)| Op::Callback { on, stopping }),
        2 => which.clone().prop_map(|which| Op::Revoke { which }),
        3 => which.clone().prop_map(|at| Op::Enter { at }),
        2 => which.prop_map(|which| Op::Leave { which }),
        2 => (two, any::<bool>()).prop_map(|(sources, all)| Op::Link { sources, all }),
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
    /// Whose end is its end; none for what was born below one that is cancelled.
    parent: Option<usize>,
    /// In which tree it is: that of the first node, or another.
    elsewhere: bool,
    stopping: bool,
    cancelled: bool,
    why: Option<Why>,
    deadline: Option<u64>,
    grace: Option<u64>,
    /// Whether dropping its cancellers cancels it.
    armed: bool,
    /// When its shield's time is over, and the deadline above that comes before.
    shield: Option<(u64, Option<u64>)>,
    /// When the time of the shield in which it is is over.
    inside: Option<u64>,
    /// What it is linked to, and to how many of them.
    link: Option<([usize; 2], usize)>,
    /// Which of them have stopped, in this order, the first or the second.
    stopped: Vec<usize>,
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
        node.parent = parent.filter(|_| !node.cancelled);
        node.elsewhere |= node.cancelled;
        node.armed = true;
        node.deadline = node.deadline.into_iter().chain(own).min();
        (node.shield, node.link, node.stopped) = (None, None, Vec::new());
        self.add(node)
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.pass_time();
        self.nodes.len() - 1
    }

    fn shield(&mut self, parent: usize, end: u64) -> usize {
        let mut node = self.nodes[parent].clone();
        // What is left of the one around it, if anything.
        let end = node.inside.map(|around| around.max(self.now)).into_iter().fold(end, u64::min);
        let masked = node.deadline.filter(|deadline| *deadline < end);
        if masked.is_some() {
            node.deadline = Some(end);
        }
        (node.parent, node.armed, node.inside) = (Some(parent), false, Some(end));
        (node.link, node.stopped) = (None, Vec::new());
        node.shield = Some((end, masked));
        if node.cancelled {
            // Nothing above ends it any more.
            (node.parent, node.elsewhere, node.shield) = (None, true, Some((end, None)));
            if end > self.now {
                (node.cancelled, node.grace) = (false, Some(end));
            }
        } else if node.grace.is_some_and(|grace| end > self.now && end >= grace) {
            node.grace = Some(end);
        }
        self.add(node)
    }

    fn link(&mut self, sources: [usize; 2], needed: usize) -> usize {
        let link = Some((sources, needed));
        self.add(Node { elsewhere: true, armed: true, link, ..Node::default() })
    }

    /// A node, those above, and what it is linked to.
    fn tell(&self, node: usize) -> String {
        let it = &self.nodes[node];
        let sources = it.link.iter().flat_map(|(sources, _)| *sources);
        let more = it.parent.into_iter().chain(sources).map(|more| self.tell(more));
        format!("{node} at {}: {it:?}\n[{}]", self.now, more.collect::<Vec<_>>().join("\n"))
    }

    /// A cancel, or a stop with its grace.
    fn end(&mut self, top: usize, why: Why, grace: Option<Option<u64>>) {
        // Whether it comes to a node (parents come first), and the end of the first shield on the way that protects.
        let mut comes = vec![None; self.nodes.len()];
        let masks = |now: u64, end: &u64| {
            *end > now && grace.is_none_or(|to| to.is_some_and(|to| *end >= to))
        };
        for (number, node) in self.nodes.iter_mut().enumerate() {
            comes[number] = match node.parent.and_then(|parent| comes[parent]) {
                _ if number == top => Some(None),
                None => None,
                Some(Some(end)) => Some(Some(end)),
                Some(None) => {
                    Some(node.shield.map(|(end, _)| end).filter(|end| masks(self.now, end)))
                }
            };
            let Some(end) = comes[number].filter(|_| !node.cancelled) else { continue };
            node.stopping = true;
            node.why.get_or_insert(why);
            match end.map_or(grace, |end| Some(Some(end))) {
                None => node.cancelled = true,
                Some(end) => node.grace = node.grace.into_iter().chain(end).min(),
            }
        }
        self.pass_links();
    }

    /// Ends what is due.
    fn pass_time(&mut self) {
        for top in 0..self.nodes.len() {
            let Some((end, Some(masked))) = self.nodes[top].shield else { continue };
            if masked <= self.now && end > self.now {
                self.end(top, Why::Deadline, Some(Some(end)));
            }
        }
        for node in &mut self.nodes {
            if node.deadline.is_some_and(|deadline| deadline <= self.now) && !node.cancelled {
                (node.stopping, node.cancelled) = (true, true);
                node.why.get_or_insert(Why::Deadline);
            }
            node.cancelled |= node.grace.is_some_and(|grace| grace <= self.now);
        }
        self.pass_links();
    }

    /// Ends what is linked to what has ended.
    fn pass_links(&mut self) {
        for node in 0..self.nodes.len() {
            let Some((sources, needed)) = self.nodes[node].link else { continue };
            for (number, source) in sources.into_iter().enumerate() {
                if self.nodes[source].stopping && !self.nodes[node].stopped.contains(&number) {
                    self.nodes[node].stopped.push(number);
                }
            }
            let cancelled = sources.iter().filter(|source| self.nodes[**source].cancelled).count();
            let Some(last) = self.nodes[node].stopped.get(needed - 1) else { continue };
            let why = self.nodes[sources[*last]].why.expect("it is stopping");
            if !self.nodes[node].stopping {
                self.end(node, why, Some(None));
            }
            if cancelled >= needed && !self.nodes[node].cancelled {
                self.end(node, why, None);
            }
        }
    }
}

impl Model {
    /// Adds what is kept by those that live: shields and links above them, and what these are linked to.
    fn add_kept(&self, live: &mut Vec<usize>) {
        let mut at = 0;
        while let Some(&from) = live.get(at) {
            at += 1;
            let mut above = Some(from);
            while let Some(node) = above {
                let it = &self.nodes[node];
                let linked = it.link.iter().flat_map(|(sources, _)| *sources);
                let kept = it.shield.iter().map(|_| node).chain(it.link.iter().map(|_| node));
                for kept in kept.chain(linked) {
                    if !live.contains(&kept) {
                        live.push(kept);
                    }
                }
                above = it.parent;
            }
        }
    }
}

type Waiting = Pin<Box<dyn Future<Output = Cause>>>;

/// The causes that a callback was called with.
type Called = Arc<Mutex<Vec<Cause>>>;

/// The real tree, and who holds what of it.
struct Real {
    contexts: Vec<(usize, Context)>,
    cancellers: Vec<(usize, Canceller)>,
    /// Node, level, future, and the waker it was polled with.
    waiting: Vec<(usize, bool, Waiting, CountingWaker)>,
    /// Node, level, registration, and the causes it was called with.
    callbacks: Vec<(usize, bool, Registration, Called)>,
    /// Who is inside.
    guards: Vec<(usize, Entered)>,
    timer: Timer,
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
        Some(after) => {
            let builder = ctx.child_with().timeout(ms(after)).timer(real.timer.clone());
            builder.build().expect("one timer for all")
        }
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
                true => Box::pin(ctx.stopping_owned()),
                false => Box::pin(ctx.cancelled_owned()),
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
                let cause = Cause::new(CauseKind::Stopped).with_error(number.to_string());
                canceller.stop_on(&real.timer, cause, grace.map_or(Duration::MAX, ms));
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
        Op::Shield { of, budget } => {
            let (parent, ctx) = &real.contexts[of % real.contexts.len()];
            // Without a timer in the chain it would be on std's.
            if real.contexts.len() < CROWD && ctx.timer().is_some() {
                let mut inside = None;
                let run = ctx.shield(ms(budget), |ctx| inside.insert(ctx).run(ready(())));
                drop(run.expect("it has a timer"));
                let node = model.shield(*parent, model.now + budget);
                real.contexts.push((node, inside.expect("the work was asked for")));
            }
        }
        Op::Callback { on, stopping } => {
            if real.callbacks.len() < CROWD {
                let (node, ctx) = &real.contexts[on % real.contexts.len()];
                let called = Arc::new(Mutex::new(Vec::new()));
                let calls = Arc::clone(&called);
                let callback = move |cause| calls.lock().unwrap().push(cause);
                let registration = match stopping {
                    true => ctx.on_stop(callback),
                    false => ctx.on_cancel(callback),
                };
                real.callbacks.push((*node, stopping, registration, called));
            }
        }
        Op::Revoke { which } => {
            if let Some(at) = which.checked_rem(real.callbacks.len()) {
                let (node, stopping, registration, _) = real.callbacks.swap_remove(at);
                let reached = match stopping {
                    true => model.nodes[node].stopping,
                    false => model.nodes[node].cancelled,
                };
                let expected = if reached { Revoked::Late } else { Revoked::InTime };
                assert_eq!(registration.revoke(), expected);
            }
        }
        Op::Enter { at } => {
            let (node, ctx) = &real.contexts[at % real.contexts.len()];
            let entered = ctx.enter();
            assert_eq!(entered.is_err(), model.nodes[*node].stopping);
            if real.guards.len() < CROWD {
                real.guards.extend(entered.map(|entered| (*node, entered)));
            }
        }
        Op::Leave { which } => {
            if let Some(at) = which.checked_rem(real.guards.len()) {
                drop(real.guards.swap_remove(at));
            }
        }
        Op::Link { sources, all } => {
            if real.contexts.len() < CROWD {
                let [one, two] = sources.map(|source| &real.contexts[source % real.contexts.len()]);
                let contexts = [&one.1, &two.1];
                let (ctx, canceller) = match all {
                    true => Context::all_of(contexts),
                    false => Context::any_of(contexts),
                };
                let node = model.link([one.0, two.0], if all { 2 } else { 1 });
                real.contexts.push((node, ctx));
                real.cancellers.push((node, canceller));
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
        prop_assert_eq!(ctx.is_stopping(), expected.stopping, "stopping of {}", model.tell(*node));
        prop_assert_eq!(
            ctx.is_cancelled(),
            expected.cancelled,
            "cancelled of {}",
            model.tell(*node)
        );
        prop_assert_eq!(ctx.check().is_err(), expected.cancelled);
        prop_assert_eq!(
            ctx.cause().as_ref().map(why),
            expected.why,
            "cause of {}",
            model.tell(*node)
        );
        let deadline = expected.deadline.map(|at| real.start + ms(at));
        prop_assert_eq!(ctx.deadline(), deadline, "deadline of {}", model.tell(*node));
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

    for (node, stopping, _, called) in &real.callbacks {
        let node = &model.nodes[*node];
        let reached = if *stopping { node.stopping } else { node.cancelled };
        let called = called.lock().unwrap();
        prop_assert_eq!(
            called.iter().map(why).collect::<Vec<_>>(),
            match reached {
                true => node.why.into_iter().collect(),
                false => Vec::new(),
            }
        );
    }

    let mut live: Vec<usize> = real.contexts.iter().map(|(node, _)| *node).collect();
    live.extend(real.cancellers.iter().map(|(node, _)| *node));
    live.extend(real.waiting.iter().map(|(node, ..)| *node));
    live.extend(real.callbacks.iter().map(|(node, ..)| *node));
    live.extend(real.guards.iter().map(|(node, _)| *node));
    let count = |live: &mut Vec<usize>| {
        live.sort_unstable();
        live.dedup();
        live.iter().filter(|node| !model.nodes[**node].elsewhere).count()
    };
    let least = count(&mut live);
    model.add_kept(&mut live);
    let most = 2 * count(&mut live) - 1;
    let counts = real.contexts[0].1.counts();
    prop_assert!((least..=most).contains(&counts.nodes), "{:?} for {}", counts, least);
    let here = |node: &usize| !model.nodes[*node].elsewhere;
    let inside = real.guards.iter().filter(|(node, _)| here(node)).count();
    prop_assert_eq!((counts.inside, real.contexts[0].1.stragglers().len()), (inside, inside));
    Ok(())
}

fn agrees(ops: &[Op]) -> Result<(), TestCaseError> {
    let (timer, clock) = Timer::manual();
    let start = timer.now();
    let mut model = Model::default();
    let background = Context::background();
    let made = background.child_with().timeout(ms(4_000)).timer(timer.clone()).build();
    let (root, canceller) = made.expect("a manual timer");
    let node = model.child(None, Some(4_000));
    let mut real = Real {
        contexts: vec![(node, root)],
        cancellers: vec![(node, canceller)],
        waiting: Vec::new(),
        callbacks: Vec::new(),
        guards: Vec::new(),
        timer,
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
    let Real { contexts, cancellers, waiting, callbacks, guards, clock, .. } = real;
    drop((contexts, cancellers, waiting, callbacks, guards));
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
    fn the_tree_does_what_the_naive_tree_does(ops in vec(plain(), OPERATIONS)) {
        agrees(&ops)?;
    }

    #[test]
    fn shields_callbacks_guards_and_links_do_what_they_do_in_the_naive_tree(
        ops in vec(any_op(), OPERATIONS)
    ) {
        agrees(&ops)?;
    }
}
