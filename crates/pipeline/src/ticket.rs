//! One item's account in a stage whose items change tasks.

use std::sync::Arc;

use selvedge_primitives::atomic::Ordering;

use crate::report::Counts;

impl Counts {
    /// An item enters, with a ticket.
    pub(crate) fn enter(self: &Arc<Self>) -> Ticket {
        // Relaxed: a count; see `Counts::read` for the reader.
        let index = self.entered.fetch_add(1, Ordering::Relaxed) as u64;
        Ticket { counts: Arc::clone(self), index, used: false }
    }
}

/// Accounts for one item of a stage; dropped unused it counts the item as left.
#[must_use = "say what became of the item"]
pub(crate) struct Ticket {
    /// Where it is counted.
    counts: Arc<Counts>,
    /// How many items entered before.
    index: u64,
    /// Whether it was counted.
    used: bool,
}

impl Ticket {
    /// How many items entered before.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// The stage's name.
    pub(crate) fn stage(&self) -> String {
        self.counts.name()
    }

    /// The item went on.
    pub(crate) fn passed(mut self) {
        self.used = true;
        // Relaxed: see `Counts::read`.
        self.counts.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// The item failed.
    pub(crate) fn failed(mut self) {
        self.used = true;
        // Relaxed: see `Counts::read`.
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.used {
            // Relaxed: see `Counts::read`.
            self.counts.left.fetch_add(1, Ordering::Relaxed);
        }
    }
}
