//! Looking at a whole tree: goes through it as a walk does, and changes nothing but what any look does: a limit that is
//! past is recorded.

use std::panic::Location;
use std::time::Duration;

use selvedge_primitives::FirstPanic;

use super::leave;
use super::name::Name;
use super::node::{Locked, Node, Ptr};
use super::tracker::Tracker;
use super::walk::{self, Visitor};
use super::word::Level;
use crate::Cause;

/// Shows every node to `look`, parents first.
struct Survey<F> {
    /// Is shown each node, and how deep it lies below the first.
    look: F,
    /// How deep the walk is.
    depth: usize,
    /// The node that was shown last: a walk comes to it again while another is in it.
    shown: Option<Ptr>,
    /// What has to be removed afterwards.
    removes: Vec<Ptr>,
}

impl<F: FnMut(&Node, usize)> Visitor for Survey<F> {
    fn visit<'a>(&mut self, node: &'a Node) -> Option<Locked<'a>> {
        let this = Some(Ptr::from(node));
        if self.shown != this {
            self.shown = this;
            (self.look)(node, self.depth);
        }
        node.word().load().has_children().then(|| node.lock())
    }

    fn is_done(&self, _node: &Locked<'_>) -> bool {
        false
    }

    fn enter(&mut self, _node: &Locked<'_>) {
        self.shown = None;
        self.depth += 1;
    }

    fn resume(&mut self, _node: &Locked<'_>) {}

    fn leave(&mut self, _node: &mut Locked<'_>) {
        self.depth -= 1;
    }

    fn removes(&mut self, node: Ptr) {
        self.removes.push(node);
    }
}

/// Shows a node that is kept alive by the caller, and everything below, to `look`, parents first, each with its
/// depth. `look` runs under a lock.
pub(super) fn survey(node: &Node, look: impl FnMut(&Node, usize)) {
    let mut survey = Survey { look, depth: 0, shown: None, removes: Vec::new() };
    if let Some(locked) = survey.visit(node) {
        walk::go_below(locked, &mut survey);
    }
    let mut panics = FirstPanic::new();
    for node in survey.removes {
        panics.catch(|| leave::remove(node));
    }
    panics.resume();
}

/// Makes something of each node, from one that is kept alive by the caller downwards, that is `wanted`. `make` runs under a
/// lock, with room for what it makes.
fn collect<T>(
    top: &Node,
    wanted: impl Fn(&Node) -> bool,
    make: impl Fn(&Node, usize) -> T,
) -> Vec<T> {
    let mut found = Vec::new();
    loop {
        // Room first: the list does not grow under a lock.
        let mut count = 0;
        survey(top, |node, _| count += usize::from(wanted(node)));
        found.reserve(count);
        let mut fits = true;
        survey(top, |node, depth| {
            if wanted(node) {
                fits &= found.len() < found.capacity();
                if fits {
                    found.push(make(node, depth));
                }
            }
        });
        if fits {
            return found;
        }
        found.clear();
    }
}

/// A node as it was found.
pub(crate) struct Seen {
    /// How far below the first.
    pub(crate) depth: usize,
    /// The name it was given.
    pub(crate) name: Option<Name>,
    /// Where it was made.
    pub(crate) place: &'static Location<'static>,
    /// How long ago, with the feature `age`.
    pub(crate) age: Option<Duration>,
    /// Whether there is a handle.
    pub(crate) has_handle: bool,
    /// Why it is to end, and whether it is to end now.
    pub(crate) end: Option<(Cause, bool)>,
    /// What is left until its deadline.
    pub(crate) due: Option<Duration>,
    /// What is left of its shield.
    pub(crate) shielded: Option<Duration>,
    /// How many wait: futures and callbacks.
    pub(crate) waiting: usize,
    /// How many are inside.
    pub(crate) inside: usize,
    /// Whether somebody has waited, entered, or made a child.
    pub(crate) was_used: bool,
}

impl Seen {
    /// Looks. Nobody holds the node's lock.
    fn at(node: &Node, depth: usize) -> Self {
        let end = node.cause().map(|cause| (cause, node.has_reached(Level::Cancelled)));
        let word = node.word().load();
        let mut locked = node.lock();
        let levels = [Level::Stopping, Level::Cancelled];
        let waiting = levels.into_iter().map(|level| locked.waiters(level).count()).sum();
        drop(locked);
        Self {
            depth,
            name: node.name().cloned(),
            place: node.place(),
            age: node.age(),
            has_handle: node.has_handle(),
            end,
            due: node.remaining(),
            shielded: node.shield_end().map(|end| end.remaining()),
            waiting,
            inside: node.tracker().map_or(0, |tracker| tracker.count()),
            was_used: word.has_waiters() || word.has_children() || word.is_tracked(),
        }
    }
}

impl Node {
    /// The trackers of this node and of those below, each with the name of its node.
    pub(crate) fn trackers(&self) -> Vec<(Tracker, Option<Name>)> {
        let named = |node: &Node, _| Some((node.tracker()?.clone(), node.name().cloned()));
        let found = collect(self, |node| node.tracker().is_some(), named);
        found.into_iter().flatten().collect()
    }

    /// This node and those below as they are found, parents first.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        collect(self, |_| true, Seen::at)
    }

    /// How many nodes there are from here downwards.
    pub(crate) fn count(&self) -> usize {
        let mut count = 0;
        survey(self, |_, _| count += 1);
        count
    }
}
