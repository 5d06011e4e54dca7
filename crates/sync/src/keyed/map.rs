//! The keys that are in use: a semaphore each, and how many use it.
//!
//! # Protocol
//!
//! 1. *Enter*: under the lock of the key's shard, count one user more of its entry, or make the entry.
//! 2. Acquire from the entry's semaphore, hold, give back: without the map.
//! 3. *Leave*, when nothing of that is left: under the lock, count one user less; the last takes the entry out.
//!
//! # The race
//!
//! *Last out against first in*: decided by the lock. Who enters first finds the entry, and the one who leaves is not the last; or the
//! entry is gone, and another is made, whose permits are all free: rightly so, because those of the first are all back.
//! A user leaves by the entry, not by the key, so it never counts on another's.
//!
//! # User code
//!
//! `Hash` runs before the lock is taken, `Eq` under it, between two steps that leave the table whole. Keys are moved out of the lock
//! before they are dropped. The key of an entry goes with the last share in it, which is a user's: a panic of its destructor ends there,
//! for it is the key of whoever came first, not of the one who happens to leave last.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;
use selvedge_primitives::atomic::{AtomicUsize, Ordering};
use selvedge_primitives::{Mutex, MutexGuard, Origin, contain, release_then};

use crate::semaphore::Semaphore;

/// How many shards there are, a power of two.
#[cfg(not(selvedge_loom))]
const SHARDS: usize = 16;
/// One, so that two keys of a model meet.
#[cfg(selvedge_loom)]
const SHARDS: usize = 1;

/// A table with room for more than this gives its memory back when it is empty, and not before.
const SPARE: usize = 64;

/// A key that is in use.
pub(super) struct Entry<K> {
    /// Of the key.
    hash: u64,
    /// The key.
    pub(super) key: K,
    /// Its permits.
    pub(super) semaphore: Semaphore,
}

impl<K> Entry<K> {
    /// Takes permits, not more than there are, without waiting; says whether they could be had.
    pub(super) fn try_take(&self, n: usize) -> bool {
        // It is never closed, and has so many.
        self.semaphore.try_take(n).is_ok()
    }
}

/// An entry in the table.
struct Slot<K> {
    /// The entry.
    entry: Arc<Entry<K>>,
    /// How many hold its permits or wait for them.
    users: usize,
}

/// A part of the keys, on cache lines of its own.
#[repr(align(128))]
struct Shard<K> {
    /// By the hash of the key.
    table: Mutex<HashTable<Slot<K>>>,
}

/// The keys that are in use.
pub(super) struct Map<K> {
    /// A power of two of them.
    shards: Box<[Shard<K>]>,
    /// Makes the hashes of this map.
    hasher: RandomState,
    /// The permits of each key.
    permits: usize,
    /// How many keys there are.
    keys: AtomicUsize,
    /// How many there may be.
    most: usize,
    /// Where it was made.
    origin: Origin,
}

impl<K> Map<K> {
    /// No keys.
    pub(super) fn new(permits: usize, most: usize, origin: Origin) -> Self {
        let shard = || Shard { table: Mutex::new(HashTable::new()) };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            permits,
            keys: AtomicUsize::new(0),
            most,
            origin,
        }
    }

    /// Where it was made.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The permits of each key.
    pub(super) fn permits(&self) -> usize {
        self.permits
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        // Relaxed: a number by itself.
        self.keys.load(Ordering::Relaxed)
    }

    /// Locks the shard of a hash. The table takes its own bits from both ends of it.
    fn lock(&self, hash: u64) -> MutexGuard<'_, HashTable<Slot<K>>> {
        let bits = (hash >> 40) as usize;
        self.shards[bits & (SHARDS - 1)].table.lock()
    }

    /// Counts one key more, if there may be one.
    fn count_key(&self) -> bool {
        // Relaxed: a bound on a number; what is done under it is ordered by the locks.
        let mut keys = self.keys.load(Ordering::Relaxed);
        while keys < self.most {
            // Relaxed, twice: as above.
            let counted = self.keys.compare_exchange_weak(
                keys,
                keys + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match counted {
                Ok(_) => return true,
                Err(now) => keys = now,
            }
        }
        false
    }

    /// One user of an entry less.
    fn leave(&self, entry: &Arc<Entry<K>>) {
        let mut table = self.lock(entry.hash);
        let found = table.find_entry(entry.hash, |slot| Arc::ptr_eq(&slot.entry, entry));
        let Ok(mut found) = found else { unreachable!("an entry with users is in the map") };
        found.get_mut().users -= 1;
        if found.get().users > 0 {
            return;
        }
        let (slot, _) = found.remove();
        // Relaxed: as in `count_key`.
        self.keys.fetch_sub(1, Ordering::Relaxed);
        // Not its capacity: that is less for each place that was taken and is not to be had before the table is made anew.
        let spare = table.is_empty() && table.num_buckets() > SPARE;
        let spare = spare.then(|| std::mem::take(&mut *table));
        // With the lock free, though nothing of the user's goes with them: the key is the caller's to drop.
        drop(table);
        drop((slot, spare));
    }
}

impl<K: Hash + Eq> Map<K> {
    /// One user of `key` more. If it would be one key too many: how many there may be.
    pub(super) fn enter(map: &Arc<Self>, key: K) -> Result<User<K>, usize> {
        let hash = map.hasher.hash_one(&key);
        let mut table = map.lock(hash);
        let found = table.entry(hash, |slot| slot.entry.key == key, |slot| slot.entry.hash);
        let (entry, not_used) = match found {
            TableEntry::Occupied(mut found) => {
                let slot = found.get_mut();
                slot.users += 1;
                (Some(Arc::clone(&slot.entry)), Some(key))
            }
            TableEntry::Vacant(vacant) if map.count_key() => {
                let semaphore = Semaphore::of_key(map.permits, map.origin.clone());
                let entry = Arc::new(Entry { hash, key, semaphore });
                vacant.insert(Slot { entry: Arc::clone(&entry), users: 1 });
                (Some(entry), None)
            }
            TableEntry::Vacant(_) => (None, Some(key)),
        };
        // Before the key is dropped, which may panic: then it leaves again.
        let user = entry.map(|entry| User { map: Arc::clone(map), entry: Some(entry) });
        release_then(table, || drop(not_used));
        user.ok_or(map.most)
    }
}

/// Somebody who uses a key; leaves when it is dropped.
pub(super) struct User<K> {
    /// The map.
    map: Arc<Map<K>>,
    /// What is used; none once it was left.
    entry: Option<Arc<Entry<K>>>,
}

impl<K> User<K> {
    /// What is used.
    pub(super) fn entry(&self) -> &Arc<Entry<K>> {
        self.entry.as_ref().expect("it is left by the drop")
    }
}

impl<K> Drop for User<K> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.map.leave(&entry);
            contain(|| drop(entry));
        }
    }
}
