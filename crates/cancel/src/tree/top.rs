//! The node at which something outside of the tree ends a part of it: a limit, or a link.
//!
//! Whoever ends it comes with no handle. So the top is not freed before it has been taken out of here, or has been
//! told that it cannot go, because somebody is about to hold it for a walk.

use selvedge_primitives::Mutex;

use super::node::{Node, Ptr};
use super::walk;

/// See the module's page. Its lock is taken after those of nodes.
pub(super) struct Top(Mutex<State>);

/// What the lock guards.
struct State {
    /// The node; none once nothing is left to end.
    node: Option<Ptr>,
    /// The node that somebody is about to hold.
    firing: Option<Ptr>,
}

// SAFETY: the pointers are compared, and followed only by who keeps the node alive; see `hold`.
#[allow(unsafe_code, reason = "pointers to nodes")]
unsafe impl Send for State {}

/// What becomes of the top when a node leaves the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// The node is not the top, or another one is from now on.
    Kept,
    /// Nothing is left to end.
    Ended,
    /// The node has to stay: somebody is about to hold it.
    Stays,
}

impl Top {
    /// No top yet.
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { node: None, firing: None }))
    }

    /// Sets the top. Call it with that node's lock held, or before anybody has seen the node.
    pub(super) fn set(&self, top: &Node) {
        top.word().announce_top();
        self.0.lock().node = Some(Ptr::from(top));
    }

    /// Nothing is left to end, if `node` is the top. Says whether it was.
    pub(super) fn end_at(&self, node: &Node) -> bool {
        let mut state = self.0.lock();
        let ends = state.node == Some(Ptr::from(node));
        if ends {
            state.node = None;
        }
        ends
    }

    /// A node is about to leave the tree; `heir` is to be the top in its place. Call it with the locks of both held.
    pub(super) fn leave(&self, node: &Node, heir: Option<&Node>) -> Leaves {
        let mut state = self.0.lock();
        let this = Some(Ptr::from(node));
        if state.firing == this {
            return Leaves::Stays;
        }
        if state.node != this {
            return Leaves::Kept;
        }
        if let Some(heir) = heir {
            heir.word().announce_top();
        }
        state.node = heir.map(Ptr::from);
        if heir.is_some() { Leaves::Kept } else { Leaves::Ended }
    }

    /// Holds the top, so that a walk can begin there.
    pub(super) fn hold(&self) -> Option<Ptr> {
        let top = {
            let mut state = self.0.lock();
            state.firing = state.node;
            state.node?
        };
        // The node stays until `firing` is taken back.
        walk::hold_firing(top);
        self.0.lock().firing = None;
        Some(top)
    }
}
