//! Looking at a whole tree: goes through it as a walk does, and changes nothing.

use selvedge_primitives::FirstPanic;

use super::chain::Chain;
use super::leave;
use super::node::{Locked, Node};
use super::walk::{self, Visitor};

/// Shows every node to `look`, parents first.
struct Survey<F> {
    /// Is shown each node, and how deep it lies below the first.
    look: F,
    /// How deep the walk is.
    depth: usize,
    /// What has to be removed afterwards.
    chain: Chain,
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

    fn chain(&mut self) -> &mut Chain {
        &mut self.chain
    }
}

/// Shows a node that is kept alive by the caller, and everything below, to `look`, parents first, each with its
/// depth. `look` runs under a lock.
pub(super) fn survey(node: &Node, look: impl FnMut(&Node, usize)) {
    let mut survey = Survey { look, depth: 0, chain: Chain::default() };
    if survey.visit(node) {
        walk::go_below(node, &mut survey);
    }
    let mut panics = FirstPanic::new();
    while let Some(node) = survey.chain.pop() {
        panics.catch(|| leave::remove(node));
    }
    panics.resume();
}

impl Node {
    /// How many nodes there are from here downwards.
    pub(crate) fn count(&self) -> usize {
        let mut count = 0;
        survey(self, |_, _| count += 1);
        count
    }
}
