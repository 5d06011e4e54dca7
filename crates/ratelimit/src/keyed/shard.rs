//! A part of the keys: an index by fingerprint, which is read without a lock, and the keys themselves behind one.
//!
//! The index is open addressing with linear probing, of fixed size. A slot is one number: the upper half of the fingerprint, and the number of the
//! entry and one; zero is an empty slot. It is written under the lock. Who reads it meanwhile may miss a key that moves (when another is
//! taken out, those behind it close the gap) and comes to the lock, where it is found; or find an entry that is another key's by now, which
//! the entry tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_primitives::Mutex;
use selvedge_primitives::atomic::{AtomicU64, Ordering};

use super::entry::{Entry, NOWHERE};
use crate::limiter::Engine;

/// A part of the keys.
pub(super) struct Shard<K> {
    /// The slots.
    index: Box<[AtomicU64]>,
    /// What the lock guards.
    pub(super) keys: Mutex<Keys<K>>,
}

/// The keys of a shard.
pub(super) struct Keys<K> {
    /// The keys, in no order.
    list: Vec<K>,
    /// The entry of each.
    owners: Vec<u32>,
    /// How many slots are not empty.
    used: usize,
    /// The limiters of those that are waited for, by entry.
    pub(super) engines: BTreeMap<u32, Arc<Engine>>,
}

impl<K> Shard<K> {
    /// Room for so many.
    pub(super) fn new(room: usize) -> Self {
        // Three quarters full at most.
        let slots = room + room / 3 + 2;
        let index = (0..slots).map(|_| AtomicU64::new(0)).collect();
        let engines = BTreeMap::new();
        let keys = Keys { list: Vec::new(), owners: Vec::new(), used: 0, engines };
        Self { index, keys: Mutex::new(keys) }
    }

    /// Where a fingerprint belongs.
    #[inline]
    fn home(&self, print: u64) -> usize {
        ((print & u64::from(u32::MAX)) * self.index.len() as u64 >> 32) as usize
    }

    /// The slot behind another.
    #[inline]
    fn next(&self, at: usize) -> usize {
        if at + 1 == self.index.len() { 0 } else { at + 1 }
    }

    /// The entry of a fingerprint, with its slot.
    #[inline]
    fn probe(&self, entries: &[Entry], print: u64) -> Option<(usize, u32)> {
        let mut at = self.home(print);
        for _ in 0..self.index.len() {
            // Acquire: pairs with the Release in `insert`; the entry is written.
            let slot = self.index[at].load(Ordering::Acquire);
            if slot == 0 {
                return None;
            }
            if slot >> 32 == print >> 32 {
                let number = (slot as u32).wrapping_sub(1);
                if entries.get(number as usize).is_some_and(|entry| entry.print() == print) {
                    return Some((at, number));
                }
            }
            at = self.next(at);
        }
        None
    }

    /// The entry of a fingerprint. Without the lock it may be missed, or be another's by now.
    #[inline]
    pub(super) fn find(&self, entries: &[Entry], print: u64) -> Option<u32> {
        self.probe(entries, print).map(|(_, number)| number)
    }

    /// Whether there is a slot for one more. Under the lock.
    pub(super) fn has_room(&self, keys: &Keys<K>) -> bool {
        keys.used + 1 < self.index.len()
    }

    /// Under the lock: a key more, of an entry that is written, and a fingerprint that is not there. There is room.
    pub(super) fn insert(&self, keys: &mut Keys<K>, entries: &[Entry], number: u32, key: K) {
        let entry = &entries[number as usize];
        let print = entry.print();
        let mut at = self.home(print);
        // Relaxed: written under the lock that is held here.
        while self.index[at].load(Ordering::Relaxed) != 0 {
            at = self.next(at);
        }
        let slot = print >> 32 << 32 | u64::from(number + 1);
        // Release: publishes the entry; pairs with the Acquire in `probe`.
        self.index[at].store(slot, Ordering::Release);
        keys.used += 1;
        keys.put(entries, number, key);
    }

    /// Under the lock: takes a key out. None if it is on its way somewhere.
    pub(super) fn remove(&self, keys: &mut Keys<K>, entries: &[Entry], number: u32) -> Option<K> {
        let print = entries[number as usize].print();
        let (mut gap, _) = self.probe(entries, print).expect("it is in the index");
        let mut at = gap;
        loop {
            at = self.next(at);
            // Relaxed: as in `insert`.
            let slot = self.index[at].load(Ordering::Relaxed);
            if slot == 0 {
                break;
            }
            // One whose home is not between the gap and its slot closes the gap.
            let home = self.home(entries[(slot as u32 - 1) as usize].print());
            let behind = if gap <= at { gap < home && home <= at } else { gap < home || home <= at };
            if !behind {
                // Release: as in `insert`.
                self.index[gap].store(slot, Ordering::Release);
                gap = at;
            }
        }
        // Release: whoever finds it empty comes to the lock.
        self.index[gap].store(0, Ordering::Release);
        keys.used -= 1;
        keys.take(entries, number)
    }
}

impl<K> Keys<K> {
    /// Puts the key of an entry there.
    pub(super) fn put(&mut self, entries: &[Entry], number: u32, key: K) {
        if self.list.len() == self.list.capacity() {
            // By an eighth, so that there is little to spare.
            let more = (self.list.len() / 8).max(8);
            self.list.reserve_exact(more);
            self.owners.reserve_exact(more);
        }
        entries[number as usize].set_place(self.list.len() as u32);
        self.list.push(key);
        self.owners.push(number);
    }

    /// Takes the key of an entry, if it is there.
    pub(super) fn take(&mut self, entries: &[Entry], number: u32) -> Option<K> {
        let entry = &entries[number as usize];
        let place = entry.place();
        if place == NOWHERE {
            return None;
        }
        entry.set_place(NOWHERE);
        let key = self.list.swap_remove(place as usize);
        self.owners.swap_remove(place as usize);
        if let Some(moved) = self.owners.get(place as usize) {
            entries[*moved as usize].set_place(place);
        }
        Some(key)
    }

    /// The entries whose keys are there.
    pub(super) fn owners(&self) -> &[u32] {
        &self.owners
    }

    /// How many keys there are, those on their way as well.
    pub(super) fn len(&self) -> usize {
        self.used
    }
}
