//! The table of registrations that the three drivers share: a plain ordered map, no lock of its
//! own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Expire, Ticket};

/// Registrations by due time, then by arrival.
pub(super) struct Table {
    /// What is registered.
    entries: BTreeMap<Ticket, Arc<dyn Expire>>,
    /// The next registration's number.
    next: u64,
}

impl Table {
    /// An empty table.
    pub(super) const fn new() -> Self {
        Self { entries: BTreeMap::new(), next: 0 }
    }

    /// Adds a registration.
    pub(super) fn insert(&mut self, at: Instant, target: Arc<dyn Expire>) -> Ticket {
        let ticket = Ticket { at, id: self.next };
        self.next += 1;
        self.entries.insert(ticket, target);
        ticket
    }

    /// Takes a registration out; the caller drops it outside its lock.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Arc<dyn Expire>> {
        self.entries.remove(&ticket)
    }

    /// When the first registration is due.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|(ticket, _)| ticket.at)
    }

    /// Takes out the first registration if it is due at `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Arc<dyn Expire>> {
        let first = self.entries.first_entry()?;
        (first.key().at <= now).then(|| first.remove())
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> BTreeMap<Ticket, Arc<dyn Expire>> {
        std::mem::take(&mut self.entries)
    }

    /// How many registrations there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
