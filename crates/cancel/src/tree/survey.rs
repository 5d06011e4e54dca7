//! Looking at a whole tree: goes through it as a walk does, and changes nothing.

use std::sync::Arc;

use selvedge_primitives::FirstPanic;

use super::leave;
use super::node::{Locked, Node, Ptr};
use super::tracker::Tracker;
use super::walk::{self, Visitor};

/// Shows every node to `look`, parents first.
struct Survey<F> {
    /// Is shown each node, and how deep it lies below the first.
    look: F,
    /// How deep the walk is.
    depth: usize,
    /// What has to be removed afterwards.
    removes: Vec<Ptr>,
}

impl<F: FnMut(&Node, usize)> Visitor for Survey<F> {
    fn visit(&mut self, node: &Node) -> bool {
        (self.look)(node, self.depth);
        node.word().load().has_children()
    }

    fn is_done(&self, _node: &Locked<'_>) -> bool {
        false
    }

    fn enter(&mut self, _node: &Locked<'_>) {
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
    let mut survey = Survey { look, depth: 0, removes: Vec::new() };
    if survey.visit(node) {
        walk::go_below(node, &mut survey);
    }
    let mut panics = FirstPanic::new();
    for node in survey.removes {
        panics.catch(|| leave::remove(node));
    }
    panics.resume();
}

impl Node {
    /// The trackers of this node and of those below, each with the name of its node.
    pub(crate) fn trackers(&self) -> Vec<(Arc<Tracker>, Option<String>)> {
        let mut found = Vec::new();
        loop {
            // Room first: no list grows under a lock. Only names are copied there, which few nodes have.
            let mut count = 0;
            survey(self, |node, _| count += usize::from(node.tracker().is_some()));
            found.reserve(count);
            let mut fits = true;
            survey(self, |node, _| {
                if let Some(tracker) = node.tracker() {
                    fits &= found.len() < found.capacity();
                    if fits {
                        found.push((Arc::clone(tracker), node.name().map(str::to_owned)));
                    }
                }
            });
            if fits {
                return found;
            }
            found.clear();
        }
    }

    /// How many nodes there are from here downwards.
    pub(crate) fn count(&self) -> usize {
        let mut count = 0;
        survey(self, |_, _| count += 1);
        count
    }
}
