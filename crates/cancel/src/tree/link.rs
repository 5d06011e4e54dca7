//! Links: what ends a node because other contexts have ended, in whatever trees they are.
//!
//! A linked node is a root. On each of its sources there is a callback a level, which has the [`Link`] and through
//! that the node, but no handle to it: the link's [`Top`] says whether the node is still there. The node owns the
//! registrations of the callbacks, so they go with it. It stays in its tree, also without handles, while it has a
//! child, because something can still end it, until it is cancelled.
//!
//! What is registered, and with whom, is the business of who makes the link: with contexts for `any_of`, with a token
//! of tokio-util for `from_token`.

// tidy: std-sync, registrations that are set once, by the one who makes the node

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use selvedge_primitives::atomic::{AtomicUsize, Ordering};

use super::node::Node;
use super::top::Top;
use super::trampoline::bounce;
use super::walk;
use super::word::Level;
use crate::Cause;

/// The way from the sources to a linked node.
pub(crate) struct Link {
    /// The node.
    top: Top,
    /// How many sources have still to stop, and to be cancelled, before the node is.
    missing: [AtomicUsize; 2],
}

impl Link {
    /// A link that ends its node when so many sources have ended.
    pub(crate) fn new(sources: usize) -> Arc<Self> {
        let missing = [AtomicUsize::new(sources), AtomicUsize::new(sources)];
        Arc::new(Self { top: Top::new(), missing })
    }

    /// Has it end a node that nobody has seen.
    pub(super) fn begin(&self, node: &Node) {
        self.top.set(node);
    }

    /// One of the sources has come to a level. Call it once a source and level.
    pub(crate) fn source_ended(self: &Arc<Self>, level: Level, cause: Cause) {
        if self.counts_last(level) {
            let link = Arc::clone(self);
            bounce(move || link.end(level, cause));
        }
    }

    /// One of the sources had come to a level before the node was given to anybody: so nobody waits there, and nothing can
    /// recurse. Otherwise as [`source_ended`](Self::source_ended).
    pub(crate) fn source_had_ended(&self, level: Level, cause: Cause) {
        if self.counts_last(level) {
            self.end(level, cause);
        }
    }

    /// Counts a source that has come to a level. Says whether it was the last that was missing.
    fn counts_last(&self, level: Level) -> bool {
        let missing = &self.missing[level as usize];
        // AcqRel: what each of the sources' cancellers did is visible to whoever sees the last one's effect.
        // Relaxed on failure: enough have ended before.
        let counted = missing
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |missing| missing.checked_sub(1));
        counted == Ok(1)
    }

    /// Ends the node, if it is still there.
    fn end(&self, level: Level, cause: Cause) {
        if let Some(top) = self.top.hold() {
            match level {
                Level::Stopping => walk::stop_held(top, cause),
                Level::Cancelled => walk::cancel_held(top, cause),
            }
        }
    }
}

/// What takes a link back from its sources when it is dropped.
pub(crate) type Registered = Pin<Box<dyn Send + Sync>>;

/// The node's end of a link.
pub(super) struct LinkEnd {
    /// The link.
    link: Arc<Link>,
    /// What is registered with the sources, until it is dropped.
    registered: OnceLock<Registered>,
}

impl LinkEnd {
    /// The end of a link whose sources are not known yet.
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, registered: OnceLock::new() }
    }

    /// Owns from now on what is registered with the sources.
    pub(super) fn own(&self, registered: Registered) {
        assert!(self.registered.set(registered).is_ok(), "a node is linked once");
    }

    /// The node is about to leave its tree. Call it with its lock held.
    pub(super) fn leave(&self, node: &Node) {
        self.link.top.leave(node, None);
    }
}

impl Drop for LinkEnd {
    fn drop(&mut self) {
        // It may have the last handle of a node that is linked itself.
        if let Some(registered) = self.registered.take() {
            bounce(move || drop(registered));
        }
    }
}
