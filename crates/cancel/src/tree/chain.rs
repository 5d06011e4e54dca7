//! A chain of nodes through their `link`: what a walk has still to wake. No allocation, first in first out.
//!
//! A node is in one chain at a time: it is *queued*, which its flags say, and which keeps it alive (N4 of `node.rs`).
#![allow(unsafe_code, reason = "the links of the tree's nodes")]

use super::node::{Node, Ptr};

/// See the module's page.
#[derive(Default)]
pub(super) struct Chain {
    /// First and last.
    ends: Option<(Ptr, Ptr)>,
}

impl Chain {
    /// Whether there is no node.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_none()
    }

    /// Adds a node at the end.
    ///
    /// # Safety
    ///
    /// The node is in no chain, is kept alive until it is taken out, and nobody else may put it into one:
    /// the caller has just queued it.
    pub(super) unsafe fn push(&mut self, node: Ptr) {
        // SAFETY: the caller's contract.
        let this = unsafe { Node::at(node) };
        // SAFETY: it is about to be in this chain.
        unsafe { this.set_link(None) };
        self.ends = Some(match self.ends {
            None => (node, node),
            Some((first, last)) => {
                // SAFETY: what is in the chain is alive.
                let last = unsafe { Node::at(last) };
                // SAFETY: it is in this chain.
                unsafe { last.set_link(Some(node)) };
                (first, node)
            }
        });
    }

    /// Takes the first node out.
    pub(super) fn pop(&mut self) -> Option<Ptr> {
        let (first, last) = self.ends?;
        self.ends = match first == last {
            true => None,
            false => {
                // SAFETY: what is in the chain is alive.
                let node = unsafe { Node::at(first) };
                // SAFETY: it is in this chain.
                let next = unsafe { node.link() };
                Some((next.expect("it is not the last"), last))
            }
        };
        Some(first)
    }
}
