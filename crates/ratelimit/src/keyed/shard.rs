//! The entries of all keys, in place by fingerprint, and the keys themselves in shards, each behind a lock.
//!
//! A shard has as many slots as any other, and they are open addressing with linear probing: the entry of a key is the first of its fingerprint
//! from its home on, before one of none. Who looks without the lock reads fingerprints, and may miss a key that moves (when another is taken
//! out, those behind it close the gap), or find one that has moved away; the first comes to the lock, where it is found, and the second is
//! told by the word.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_primitives::{Mutex, prefetch};

use super::entry::{Entry, NONE, NOWHERE};
use crate::limiter::Engine;

/// As many shards at most: a power of two.
const SHARDS: usize = 64;
/// A shard is for as many keys, or more.
const SHARD: usize = 256;

/// The entries, and the keys.
pub(super) struct Shards<K> {
    /// The slots of one shard after those of another; behind the last the entry that keys share that found no room.
    entries: Box<[Entry]>,
    /// How many slots each has.
    slots: usize,
    /// The keys. A power of two.
    keys: Box<[Mutex<Keys<K>>]>,
}

/// The keys of a shard.
pub(super) struct Keys<K> {
    /// The number of the first of its slots.
    from: usize,
    /// The keys, in no order.
    list: Vec<K>,
    /// The entry of each.
    owners: Vec<u32>,
    /// How many slots have a key.
    used: usize,
    /// The limiters of those that are waited for, by fingerprint.
    pub(super) engines: BTreeMap<u64, Arc<Engine>>,
}

impl<K> Shards<K> {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        let shards = (most / SHARD).clamp(1, SHARDS);
        let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
        // Keys do not fall evenly: four times the deviation more; and three tenths of the slots are empty.
        let mean = most.div_ceil(shards);
        let room = if shards == 1 { most } else { mean + 4 * mean.isqrt() };
        let slots = room + room * 3 / 7 + 2;
        let keys = (0..shards).map(|shard| {
            let (from, engines) = (shard * slots, BTreeMap::new());
            let (list, owners) = (Vec::new(), Vec::new());
            Mutex::new(Keys { from, list, owners, used: 0, engines })
        });
        let keys = keys.collect();
        let entries = (0..=shards * slots).map(|_| Entry::new()).collect();
        Self { entries, slots, keys }
    }

    /// An entry.
    #[inline]
    pub(super) fn entry(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }

    /// How many entries there are, without the shared one.
    pub(super) fn len(&self) -> u32 {
        self.shared()
    }

    /// The number of the shared entry.
    pub(super) fn shared(&self) -> u32 {
        (self.entries.len() - 1) as u32
    }

    /// The keys among which a fingerprint belongs.
    #[inline]
    pub(super) fn keys(&self, print: u64) -> &Mutex<Keys<K>> {
        &self.keys[print as usize & (self.keys.len() - 1)]
    }

    /// The keys of all shards.
    pub(super) fn all(&self) -> &[Mutex<Keys<K>>] {
        &self.keys
    }

    /// The first slot of the shard of a fingerprint, and its home there.
    #[inline]
    fn home(&self, print: u64) -> (usize, usize) {
        let shard = print as usize & (self.keys.len() - 1);
        (shard * self.slots, (((print >> 32) * self.slots as u64) >> 32) as usize)
    }

    /// The slot behind another, in its shard.
    #[inline]
    fn next(&self, at: usize) -> usize {
        if at + 1 == self.slots { 0 } else { at + 1 }
    }

    /// Has the entry of a fingerprint fetched.
    #[inline]
    pub(super) fn fetch(&self, print: u64) {
        let (from, home) = self.home(print);
        prefetch(&self.entries[from + home]);
    }

    /// The entry of a fingerprint. Without the lock it may be missed, or be another's by now.
    #[inline]
    pub(super) fn find(&self, print: u64) -> Option<u32> {
        let (from, mut at) = self.home(print);
        for _ in 0..self.slots {
            match self.entries[from + at].print() {
                found if found == print => return Some((from + at) as u32),
                NONE => return None,
                _ => at = self.next(at),
            }
        }
        None
    }

    /// Under the lock: the slot for a fingerprint that is not there. None if all are taken.
    pub(super) fn free(&self, keys: &Keys<K>, print: u64) -> Option<u32> {
        // One stays empty, so that who looks comes to an end.
        if keys.used + 1 >= self.slots {
            return None;
        }
        let (from, mut at) = self.home(print);
        while self.entries[from + at].print() != NONE {
            at = self.next(at);
        }
        Some((from + at) as u32)
    }

    /// Under the lock: takes a key out, whose entry has CHANGING. None if the key is on its way somewhere.
    pub(super) fn remove(&self, keys: &mut Keys<K>, number: u32) -> Option<K> {
        let key = self.take(keys, number);
        keys.used -= 1;
        let from = keys.from;
        let (mut gap, mut at) = (number as usize - from, number as usize - from);
        loop {
            at = self.next(at);
            let entry = &self.entries[from + at];
            let print = entry.print();
            if print == NONE {
                break;
            }
            // One whose home is not between the gap and its slot closes the gap.
            let (_, home) = self.home(print);
            let stays = if gap <= at { gap < home && home <= at } else { gap < home || home <= at };
            if !stays {
                entry.move_to(&self.entries[from + gap]);
                if let Some(owner) = keys.owners.get_mut(entry.place() as usize) {
                    *owner = (from + gap) as u32;
                }
                gap = at;
            }
        }
        self.entries[from + gap].clear();
        key
    }

    /// Under the lock: puts the key of an entry there.
    pub(super) fn put(&self, keys: &mut Keys<K>, number: u32, key: K) {
        if keys.list.len() == keys.list.capacity() {
            // By an eighth, so that there is little to spare.
            let more = (keys.list.len() / 8).max(8);
            keys.list.reserve_exact(more);
            keys.owners.reserve_exact(more);
        }
        self.entry(number).set_place(keys.list.len() as u32);
        keys.list.push(key);
        keys.owners.push(number);
    }

    /// Under the lock: takes the key of an entry, if it is there.
    pub(super) fn take(&self, keys: &mut Keys<K>, number: u32) -> Option<K> {
        let entry = self.entry(number);
        let place = entry.place();
        if place == NOWHERE {
            return None;
        }
        entry.set_place(NOWHERE);
        let key = keys.list.swap_remove(place as usize);
        keys.owners.swap_remove(place as usize);
        if let Some(moved) = keys.owners.get(place as usize) {
            self.entry(*moved).set_place(place);
        }
        Some(key)
    }
}

impl<K> Keys<K> {
    /// A key more, whose entry is written.
    pub(super) fn count(&mut self) {
        self.used += 1;
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
