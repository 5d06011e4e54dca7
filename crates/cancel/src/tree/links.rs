//! The links of the tree: a slab of entries, changed under the tree's lock. Plain data, no locks
//! and no atomics.

use std::sync::Arc;

use slab::Slab;

use super::cell::{Cell, Level};

/// An entry of the tree.
pub(super) struct Entry {
    /// What the world reads of it.
    pub(super) cell: Arc<Cell>,
    /// Whether a handle exists. An entry without one is a relay.
    live: bool,
    /// The level at which every descendant was flagged, and will be born flagged.
    pub(super) walked: Option<Level>,
    /// None for the root.
    parent: Option<usize>,
    /// The child that was made last.
    first_child: Option<usize>,
    /// How many children there are.
    children: usize,
    /// The sibling that was made after it.
    previous: Option<usize>,
    /// The sibling that was made before it.
    next: Option<usize>,
}

/// The entries of a tree.
pub(super) struct Links {
    /// By key.
    entries: Slab<Entry>,
}

/// An entry that left the tree, and the only child that took its place.
pub(super) struct Removed {
    /// The entry.
    pub(super) entry: Entry,
    /// Its key; it may be used again from now on.
    pub(super) key: usize,
    /// Who took its place.
    pub(super) heir: Option<usize>,
}

impl Links {
    /// No entries.
    pub(super) const fn new() -> Self {
        Self { entries: Slab::new() }
    }

    /// How many entries there are, relays included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: usize) -> &Entry {
        &self.entries[key]
    }

    /// The entry of a key.
    pub(super) fn get_mut(&mut self, key: usize) -> &mut Entry {
        &mut self.entries[key]
    }

    /// Adds a live entry as the first child of `parent`, or as the root.
    pub(super) fn insert(&mut self, cell: Arc<Cell>, parent: Option<usize>) -> usize {
        let next = parent.and_then(|parent| self.entries[parent].first_child);
        let walked = parent.and_then(|parent| self.entries[parent].walked);
        let key = self.entries.insert(Entry {
            cell,
            live: true,
            walked,
            parent,
            first_child: None,
            children: 0,
            previous: None,
            next,
        });
        if let Some(next) = next {
            self.entries[next].previous = Some(key);
        }
        if let Some(parent) = parent {
            let parent = &mut self.entries[parent];
            parent.first_child = Some(key);
            parent.children += 1;
        }
        key
    }

    /// The entry after `key` in a walk of the subtree of `from`, parents first. `enter` says
    /// whether the children of `key` belong to the walk.
    pub(super) fn walk_next(&self, from: usize, key: usize, enter: bool) -> Option<usize> {
        if enter && let Some(child) = self.entries[key].first_child {
            return Some(child);
        }
        let mut key = key;
        while key != from {
            let entry = &self.entries[key];
            if let Some(sibling) = entry.next {
                return Some(sibling);
            }
            key = entry.parent.expect("a walk stays below where it began");
        }
        None
    }

    /// The last handle of an entry is gone: takes out what need not stay. At most two entries go:
    /// this one, and a relay that is left with a single child.
    pub(super) fn release(&mut self, key: usize) -> [Option<Removed>; 2] {
        let entry = &mut self.entries[key];
        entry.live = false;
        let parent = entry.parent;
        let childless = entry.children == 0;
        let first = self.take_out(key);
        let second = match parent {
            Some(parent) if childless => self.take_out(parent),
            _ => None,
        };
        [first, second]
    }

    /// Unlinks or splices out an entry that is not live and does not join two branches.
    fn take_out(&mut self, key: usize) -> Option<Removed> {
        let entry = &self.entries[key];
        if entry.live || entry.children > 1 {
            return None;
        }
        let entry = self.entries.remove(key);
        let heir = entry.first_child;
        if let Some(heir) = heir {
            // The heir takes the entry's place among the siblings.
            let heir = &mut self.entries[heir];
            heir.parent = entry.parent;
            heir.previous = entry.previous;
            heir.next = entry.next;
        }
        let before = heir.or(entry.next);
        match (entry.previous, entry.parent) {
            (Some(previous), _) => self.entries[previous].next = before,
            (None, Some(parent)) => self.entries[parent].first_child = before,
            (None, None) => {}
        }
        if let Some(next) = entry.next {
            self.entries[next].previous = heir.or(entry.previous);
        }
        if let (Some(parent), None) = (entry.parent, heir) {
            self.entries[parent].children -= 1;
        }
        Some(Removed { entry, key, heir })
    }
}
