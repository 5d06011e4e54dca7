//! The entries of all keys, by fingerprint, and the keys themselves in shards, each behind a lock.
//!
//! A shard is a hash table of its own, whose entries stay where they are: *groups* of seven slots, each with a word of tags.
//!
//! ```text
//!   63    56 55    48           7     0
//! +---------+---------+- ... -+---------+
//! | passed  | tag 6   |       | tag 0   |
//! +---------+---------+- ... -+---------+
//! ```
//!
//! The tag of a slot is eight bits of the fingerprint, or zero if it is empty; so who looks for a key reads a word of a small table that
//! the caches hold, and of the entries nearly always the right one only, which it can have fetched while it does something else. *Passed* is how many keys
//! have found the group full and went on to the next; where it is zero nobody looks any further. (From 255 on it is not counted, and
//! stays.) So a key that goes leaves no mark, and none of the others moves.
//!
//! The words of tags are written under the lock. Who reads them meanwhile may miss a key that is just coming, and comes to the lock, where it is
//! found; or find an entry that is another key's by now, which its word tells.
//!
//! The idea of counting those that passed is that of F14 (Bronson and Shi, "Open-sourcing F14 for faster, more memory-efficient hash
//! tables", 2019); that of tags beside the slots is older (Abseil's Swiss tables, 2017).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use selvedge_primitives::atomic::{AtomicU64, Ordering};
use selvedge_primitives::{Mutex, prefetch};

use super::entry::{Entry, PRINT_SHIFT};
use crate::limiter::Engine;

/// As many shards at most: a power of two.
const SHARDS: usize = 64;
/// A shard is for as many keys, or more.
const SHARD: usize = 256;
/// As many slots has a group.
const LANES: usize = 7;
/// One in each byte but the highest.
const ONES: u64 = 0x0001_0101_0101_0101;
/// The highest bit of each of these bytes.
const HIGHS: u64 = ONES << 7;
/// Where the number of those that passed is.
const PASSED_SHIFT: u32 = 56;
/// One that passed.
const ONE_PASSED: u64 = 1 << PASSED_SHIFT;

/// The place of nobody: the key of the slot is not among the keys at the moment.
const NOWHERE: u32 = u32::MAX;

/// The entries, and the keys.
pub(super) struct Shards<K> {
    /// The entries: the slots of one group after those of another; behind the last the one that keys share that found no room.
    entries: Box<[Entry]>,
    /// The words of tags: the groups of one shard after those of another.
    groups: Box<[AtomicU64]>,
    /// How many groups a shard has.
    each: usize,
    /// The keys. A power of two.
    keys: Box<[Mutex<Keys<K>>]>,
}

/// The keys of a shard.
pub(super) struct Keys<K> {
    /// The keys, in no order.
    list: Vec<K>,
    /// The entry of each.
    owners: Vec<u32>,
    /// The place of the key of each slot in the list.
    places: Box<[u32]>,
    /// How many slots have a key.
    used: usize,
    /// The limiters of those that are waited for, by entry.
    pub(super) engines: BTreeMap<u32, Arc<Engine>>,
}

impl<K> Shards<K> {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        let shards = (most / SHARD).clamp(1, SHARDS);
        let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
        // Keys do not fall evenly: four times the deviation more; and one slot in six is empty.
        let mean = most.div_ceil(shards);
        let room = if shards == 1 { most } else { mean + 4 * mean.isqrt() };
        let each = (room + room / 5).div_ceil(LANES);
        let keys = (0..shards).map(|_| {
            let (list, owners, engines) = (Vec::new(), Vec::new(), BTreeMap::new());
            let places = vec![NOWHERE; each * LANES].into();
            Mutex::new(Keys { list, owners, places, used: 0, engines })
        });
        let keys = keys.collect();
        let groups = (0..shards * each).map(|_| AtomicU64::new(0)).collect();
        let entries = (0..=shards * each * LANES).map(|_| Entry::new()).collect();
        Self { entries, groups, each, keys }
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
        &self.keys[self.shard(print)]
    }

    /// The keys among which that of an entry is; the shared one has none, and the first shard looks after it.
    pub(super) fn keys_of(&self, number: u32) -> &Mutex<Keys<K>> {
        &self.keys[number as usize / (self.each * LANES) % self.keys.len()]
    }

    /// The number of the shard of a fingerprint.
    #[inline]
    fn shard(&self, print: u64) -> usize {
        print as usize & (self.keys.len() - 1)
    }

    /// The number of a slot in its shard.
    fn slot(&self, number: u32) -> usize {
        number as usize % (self.each * LANES)
    }

    /// The keys of all shards.
    pub(super) fn all(&self) -> &[Mutex<Keys<K>>] {
        &self.keys
    }

    /// All shards: the keys of each, and the numbers of its slots.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (&Mutex<Keys<K>>, Range<u32>)> {
        let slots = (self.each * LANES) as u32;
        let from = (0..).step_by(self.each * LANES);
        self.keys.iter().zip(from).map(move |(keys, from)| (keys, from..from + slots))
    }

    /// The first group of the shard of a fingerprint, and its home there.
    #[inline]
    fn home(&self, print: u64) -> (usize, usize) {
        (self.shard(print) * self.each, self.group(print))
    }

    /// The home of a fingerprint in its shard.
    #[inline]
    fn group(&self, print: u64) -> usize {
        (((print >> 32) * self.each as u64) >> 32) as usize
    }

    /// The group behind another, in its shard.
    #[inline]
    fn next(&self, group: usize) -> usize {
        if group + 1 == self.each { 0 } else { group + 1 }
    }

    /// The entry of a fingerprint, by its tag, on its way to the caches. Without the lock it may be missed; whether it is the right one its print
    /// tells.
    #[inline]
    pub(super) fn fetch(&self, print: u64) -> Option<u32> {
        self.look(print, |entry| {
            prefetch(entry);
            true
        })
    }

    /// The entry of a fingerprint. Without the lock it may be missed, or be another's by now.
    #[inline]
    pub(super) fn find(&self, print: u64) -> Option<u32> {
        self.look(print, |entry| entry.is_of(print))
    }

    /// The first entry with the tag of a fingerprint that `is_it`.
    #[inline]
    fn look(&self, print: u64, is_it: impl Fn(&Entry) -> bool) -> Option<u32> {
        let (from, mut group) = self.home(print);
        for _ in 0..self.each {
            // Relaxed: a hint; an entry that is not written yet, or another's by now, has a word that says so.
            let tags = self.groups[from + group].load(Ordering::Relaxed);
            // A byte that is zero by this is one with the tag, or one behind such a byte.
            let differ = tags ^ (tag(print) * ONES);
            let mut matches = differ.wrapping_sub(ONES) & !differ & HIGHS;
            while matches != 0 {
                let lane = matches.trailing_zeros() as usize / 8;
                let number = (from + group) * LANES + lane;
                if is_it(&self.entries[number]) {
                    return Some(number as u32);
                }
                matches &= matches - 1;
            }
            if tags < ONE_PASSED {
                return None;
            }
            group = self.next(group);
        }
        None
    }

    /// Under the lock: a slot for a fingerprint that is not there. None if all are taken.
    pub(super) fn free(&self, print: u64) -> Option<u32> {
        let (from, mut group) = self.home(print);
        for _ in 0..self.each {
            // Relaxed: written under the lock that is held here.
            let tags = self.groups[from + group].load(Ordering::Relaxed);
            let lane = (0..LANES).find(|lane| tags >> (8 * lane) & 0xff == 0);
            if let Some(lane) = lane {
                return Some(((from + group) * LANES + lane) as u32);
            }
            group = self.next(group);
        }
        None
    }

    /// Under the lock: a key more, whose entry, which was [free](Self::free), is written.
    pub(super) fn insert(&self, keys: &mut Keys<K>, number: u32, print: u64, key: K) {
        self.put(keys, number, key);
        keys.used += 1;
        self.pass(number, |passed| passed + 1);
        let (group, lane) = (number as usize / LANES, number as usize % LANES);
        // Relaxed: written under the lock that is held here.
        let tags = self.groups[group].load(Ordering::Relaxed);
        // Relaxed: a hint, see `look`.
        self.groups[group].store(tags | tag(print) << (8 * lane), Ordering::Relaxed);
    }

    /// Under the lock: takes a key out, whose entry has CHANGING and keeps it. None if the key is on its way somewhere.
    pub(super) fn remove(&self, keys: &mut Keys<K>, number: u32) -> Option<K> {
        let key = self.take(keys, number);
        keys.used -= 1;
        let (group, lane) = (number as usize / LANES, number as usize % LANES);
        // Relaxed: written under the lock that is held here.
        let tags = self.groups[group].load(Ordering::Relaxed);
        // Relaxed: a hint; whoever does not find it comes to the lock.
        self.groups[group].store(tags & !(0xff << (8 * lane)), Ordering::Relaxed);
        self.pass(number, |passed| passed - 1);
        self.entry(number).clear();
        key
    }

    /// Under the lock: counts anew in each group that a key has passed on its way to its slot.
    fn pass(&self, number: u32, count: impl Fn(u64) -> u64) {
        let from = number as usize / (self.each * LANES) * self.each;
        let mut group = self.group(self.entry(number).print());
        while from + group != number as usize / LANES {
            // Relaxed: written under the lock that is held here.
            let tags = self.groups[from + group].load(Ordering::Relaxed);
            let passed = tags >> PASSED_SHIFT;
            if passed < 0xff {
                let tags = tags & !(0xff << PASSED_SHIFT) | count(passed) << PASSED_SHIFT;
                // Relaxed: as above.
                self.groups[from + group].store(tags, Ordering::Relaxed);
            }
            group = self.next(group);
        }
    }

    /// Under the lock: puts the key of an entry there.
    pub(super) fn put(&self, keys: &mut Keys<K>, number: u32, key: K) {
        if keys.list.len() == keys.list.capacity() {
            // By an eighth, so that there is little to spare.
            let more = (keys.list.len() / 8).max(8);
            keys.list.reserve_exact(more);
            keys.owners.reserve_exact(more);
        }
        keys.places[self.slot(number)] = keys.list.len() as u32;
        keys.list.push(key);
        keys.owners.push(number);
    }

    /// Under the lock: takes the key of an entry, if it is there.
    pub(super) fn take(&self, keys: &mut Keys<K>, number: u32) -> Option<K> {
        let place = std::mem::replace(&mut keys.places[self.slot(number)], NOWHERE);
        if place == NOWHERE {
            return None;
        }
        let key = keys.list.swap_remove(place as usize);
        keys.owners.swap_remove(place as usize);
        if let Some(moved) = keys.owners.get(place as usize) {
            keys.places[self.slot(*moved)] = place;
        }
        Some(key)
    }

    /// Under the lock: whether the key of an entry is on its way somewhere.
    pub(super) fn is_away(&self, keys: &Keys<K>, number: u32) -> bool {
        keys.places[self.slot(number)] == NOWHERE
    }
}

/// The tag of a fingerprint: what the entry has not of it, but for the lowest bits, by which the shard is chosen. Not zero, which is an empty slot, nor
/// one, which differs from zero so little that `look` would take an empty slot for its own.
#[inline]
const fn tag(print: u64) -> u64 {
    let tag = (print >> (PRINT_SHIFT - 8)) & 0xff;
    if tag < 2 { tag | 2 } else { tag }
}

impl<K> Keys<K> {
    /// How many keys there are, those on their way as well.
    pub(super) fn len(&self) -> usize {
        self.used
    }
}
