//! The entries of all keys, by fingerprint, and the keys themselves in shards, each behind a lock.
//!
//! A shard is a hash table of its own, whose entries stay where they are: *groups* of seven, of two lines of the cache each, with a word of tags.
//!
//! ```text
//!   63    56 55    48           7     0
//! +---------+---------+- ... -+---------+
//! | passed  | tag 6   |       | tag 0   |
//! +---------+---------+- ... -+---------+
//! ```
//!
//! The tag of a slot is eight bits of the fingerprint, or zero if it is empty; so who looks for a key fetches two lines, which lie side by side, and looks at
//! the right entry only, nearly always. *Passed* is how many keys have found the group full and went on to the next; where it is zero nobody
//! looks any further. (From 255 on it is not counted, and stays.) So a key that goes leaves no mark, and none of the others moves.
//!
//! The words of tags are written under the lock. Who reads them meanwhile may miss a key that is just coming, and comes to the lock, where it is
//! found; or find an entry that is another key's by now, which its word tells.
//!
//! The idea of counting those that passed, and of tags in the lines of their entries, is that of F14 (Bronson and Shi, "Open-sourcing F14 for faster, more
//! memory-efficient hash tables", 2019).

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

/// Some entries, and the tags of their keys.
#[repr(align(128))]
struct Group {
    /// The tags, and how many have passed.
    tags: AtomicU64,
    /// The entries.
    entries: [Entry; LANES],
}

const _: () = assert!(cfg!(selvedge_loom) || size_of::<Group>() == 128);

/// The entries, and the keys.
pub(super) struct Shards<K> {
    /// The entries: the groups of one shard after those of another.
    groups: Box<[Group]>,
    /// The one that keys share that found no room.
    shared: Entry,
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
        let group =
            |_| Group { tags: AtomicU64::new(0), entries: std::array::from_fn(|_| Entry::new()) };
        let groups = (0..shards * each).map(group).collect();
        Self { groups, shared: Entry::new(), each, keys }
    }

    /// An entry.
    #[inline]
    pub(super) fn entry(&self, number: u32) -> &Entry {
        match self.groups.get(number as usize / LANES) {
            Some(group) => &group.entries[number as usize % LANES],
            None => &self.shared,
        }
    }

    /// The tags of a group.
    fn tags(&self, group: usize) -> &AtomicU64 {
        &self.groups[group].tags
    }

    /// How many entries there are, without the shared one.
    pub(super) fn len(&self) -> u32 {
        self.shared()
    }

    /// The number of the shared entry.
    pub(super) fn shared(&self) -> u32 {
        (self.groups.len() * LANES) as u32
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
    pub(super) fn shard(&self, print: u64) -> usize {
        print as usize & (self.keys.len() - 1)
    }

    /// The number of a slot in its shard.
    fn slot(&self, number: u32) -> usize {
        number as usize % (self.each * LANES)
    }

    /// The numbers of the slots of a shard.
    pub(super) fn slots(&self, shard: usize) -> Range<u32> {
        let (each, shard) = ((self.each * LANES) as u32, shard as u32);
        shard * each..(shard + 1) * each
    }

    /// Whether there are as many keys in the shard of a fingerprint as there should be if there were so many in all.
    pub(super) fn has_its_share(&self, print: u64, most: u32) -> bool {
        self.keys(print).lock().used >= (most as usize).div_ceil(self.keys.len())
    }

    /// The keys of all shards.
    pub(super) fn all(&self) -> &[Mutex<Keys<K>>] {
        &self.keys
    }

    /// All shards: the keys of each, and the numbers of its slots.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (&Mutex<Keys<K>>, Range<u32>)> {
        self.keys.iter().enumerate().map(|(shard, keys)| (keys, self.slots(shard)))
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

    /// The lines of the entry of a fingerprint are on their way to the caches, if it is in its first group.
    #[inline(always)]
    pub(super) fn prefetch(&self, print: u64) {
        let (from, group) = self.home(print);
        if let Some(group) = self.groups.get(from + group) {
            prefetch(&group.tags);
            prefetch(&group.entries[LANES - 1]);
        }
    }

    /// The first entry with the tag of a fingerprint, in its first group. Whether it is the right one its print tells.
    #[inline(always)]
    pub(super) fn glance(&self, print: u64) -> Option<&Entry> {
        let (from, group) = self.home(print);
        let group = self.groups.get(from + group)?;
        // Relaxed: as in `find`.
        let lane = matches(group.tags.load(Ordering::Relaxed), print).trailing_zeros() as usize / 8;
        group.entries.get(lane)
    }

    /// The entry of a fingerprint. Without the lock it may be missed, or be another's by now.
    pub(super) fn find(&self, print: u64) -> Option<u32> {
        let (from, mut group) = self.home(print);
        for _ in 0..self.each {
            // Relaxed: a hint; an entry that is not written yet, or another's by now, has a word that says so.
            let tags = self.tags(from + group).load(Ordering::Relaxed);
            let mut matches = matches(tags, print);
            while matches != 0 {
                let lane = matches.trailing_zeros() as usize / 8;
                if self.groups[from + group].entries[lane].is_of(print) {
                    return Some(((from + group) * LANES + lane) as u32);
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
            let tags = self.tags(from + group).load(Ordering::Relaxed);
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
        let tags = self.tags(group).load(Ordering::Relaxed);
        // Relaxed: a hint, see `find`.
        self.tags(group).store(tags | tag(print) << (8 * lane), Ordering::Relaxed);
    }

    /// Under the lock: takes a key out, whose entry has CHANGING and keeps it. None if the key is on its way somewhere.
    pub(super) fn remove(&self, keys: &mut Keys<K>, number: u32) -> Option<K> {
        let key = self.take(keys, number);
        keys.used -= 1;
        let (group, lane) = (number as usize / LANES, number as usize % LANES);
        // Relaxed: written under the lock that is held here.
        let tags = self.tags(group).load(Ordering::Relaxed);
        // Relaxed: a hint; whoever does not find it comes to the lock.
        self.tags(group).store(tags & !(0xff << (8 * lane)), Ordering::Relaxed);
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
            let tags = self.tags(from + group).load(Ordering::Relaxed);
            let passed = tags >> PASSED_SHIFT;
            if passed < 0xff {
                let tags = tags & !(0xff << PASSED_SHIFT) | count(passed) << PASSED_SHIFT;
                // Relaxed: as above.
                self.tags(from + group).store(tags, Ordering::Relaxed);
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

/// Of the seven tags those that are that of a fingerprint: the highest bit of their bytes.
#[inline(always)]
const fn matches(tags: u64, print: u64) -> u64 {
    // A byte that is zero by this is one with the tag, or one behind such a byte.
    let differ = tags ^ (tag(print) * ONES);
    differ.wrapping_sub(ONES) & !differ & HIGHS
}

/// The tag of a fingerprint: what the entry has not of it, but for the lowest bits, by which the shard is chosen. Not zero, which is an empty slot, nor
/// one, which differs from zero so little that `matches` would take an empty slot for its own.
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
