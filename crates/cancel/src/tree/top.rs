//! The node at which something outside of the tree ends a part of it: a limit, or a link.
//!
//! Whoever ends it comes with no handle. So a node that is the top is not freed before it has been taken out of here,
//! under the lock of this; and under that lock whoever ends it pins the node, which then stays until it is held for a walk.
#![allow(unsafe_code, reason = "pointers to nodes")]

use selvedge_primitives::Mutex;

use super::node::{Node, Ptr};
use super::walk;

/// See the module's page. Its lock is taken after those of nodes.
pub(super) struct Top(Mutex<State>);

/// What the lock guards: the node; none once nothing is left to end.
struct State(Option<Ptr>);

// SAFETY: the pointer is compared, and followed only in `hold`, which says why.
unsafe impl Send for State {}

impl Top {
    /// No top yet.
    pub(super) fn new() -> Self {
        Self(Mutex::new(State(None)))
    }

    /// Sets the top. Call it with that node's lock held, or before anybody has seen the node.
    pub(super) fn set(&self, top: &Node) {
        top.word().set(top.word().get().at_top());
        self.0.lock().0 = Some(Ptr::from(top));
    }

    /// Nothing is left to end, if `node` is the top. Says whether it was.
    pub(super) fn end_at(&self, node: &Node) -> bool {
        let mut top = self.0.lock();
        let ends = top.0 == Some(Ptr::from(node));
        if ends {
            top.0 = None;
        }
        ends
    }

    /// A node is about to leave the tree; `heir` is to be the top in its place. Call it with the locks of both held. Says
    /// whether nothing is left to end. After that [`Node::is_pinned`] tells whether somebody came before.
    pub(super) fn leave(&self, node: &Node, heir: Option<&Node>) -> bool {
        let mut top = self.0.lock();
        if top.0 != Some(Ptr::from(node)) {
            return false;
        }
        if let Some(heir) = heir {
            heir.word().set(heir.word().get().at_top());
        }
        top.0 = heir.map(Ptr::from);
        heir.is_none()
    }

    /// Holds the top, so that a walk can begin there.
    pub(super) fn hold(&self) -> Option<Ptr> {
        let node = {
            let top = self.0.lock();
            let node = top.0?;
            // SAFETY: it is not freed before it is taken out of here, under the lock that is held.
            unsafe { Node::at(node) }.pin();
            node
        };
        walk::hold_pinned(node);
        Some(node)
    }
}
