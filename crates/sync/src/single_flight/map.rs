//! The keys: which is in flight, and whose result is kept.
//!
//! A key has one *slot* at most, in the shard that its hash says: with the flight while that has not
//! landed, and with the result for as long as that is kept.
//!
//! # Protocol
//!
//! 1. *Find or insert*: under the lock of the shard, the flight is cloned out of the slot, or the result; if there is neither,
//!    a flight is begun and put in. Its closure is called afterwards, with no lock held.
//! 2. *Settle*, before the flight tells anybody that it has landed: the slot is taken out, or the flight in it is
//!    replaced by the result. So a call that begins after any wait has completed finds no flight that
//!    has landed.
//! 3. *Remove*: who was the last to leave a flight takes the slot out, and so does whoever finds a flight
//!    in the map that everybody has left.
//! 4. *Forget* takes the slot out, whatever is in it. Settle and remove know a slot by its flight, not by
//!    its key, so they pass by a slot that is somebody else's by now.
//!
//! # What is kept
//!
//! `kept` has every kept result of the shard in the order in which their times end. Expiry is looked at
//! by whoever finds a result, and each result that is put in sweeps out up to two whose time is over, so
//! they go faster than they come; then, if the shard has its fill, the first of the order. The fills of the shards add up
//! to no more than the bound that the user gave; there are fewer shards where they would be small.
//!
//! # User code
//!
//! `Hash` runs before the lock is taken; `Eq` of the keys runs under it, between two steps that leave the table whole.
//! Keys and results are moved out of the lock before they are dropped. What a flight displaces that is put in is dropped
//! only when that flight has taken off: before, a destructor that panics would leave it without a driver, and one that asks
//! for the same key would wait for it.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;
use selvedge_primitives::time::Timer;
use selvedge_primitives::{Mutex, MutexGuard, contain, drop_each, release_then};

use super::flight::{Flight, Landed};

/// How many shards there are at most, a power of two.
#[cfg(not(selvedge_loom))]
const SHARDS: usize = 16;
/// One, so that two keys of a model meet.
#[cfg(selvedge_loom)]
const SHARDS: usize = 1;

/// How many results a shard keeps at least, if there is another.
const FILL: usize = 16;

/// How many expired results leave when one is kept.
const SWEPT: usize = 2;

/// A table with room for more than this gives its memory back when it is empty.
const SPARE: usize = 64;

/// How long results are kept.
#[derive(Debug)]
pub(super) struct Keep {
    /// Values.
    pub(super) values: Duration,
    /// Errors.
    pub(super) errors: Duration,
    /// How many of both.
    pub(super) at_most: usize,
    /// Tells the time.
    pub(super) clock: Timer,
}

/// The keys.
pub(super) struct Map<K, V, E> {
    /// A power of two of them.
    shards: Box<[Shard<K, V, E>]>,
    /// Makes the hashes of this map.
    hasher: RandomState,
    /// Whether results are kept, and how long.
    keep: Option<Keep>,
    /// How many a shard keeps.
    fill: usize,
}

/// A part of the keys, on cache lines of its own.
#[repr(align(128))]
struct Shard<K, V, E> {
    /// The slots.
    slots: Mutex<Slots<K, V, E>>,
}

/// What the lock of a shard guards.
struct Slots<K, V, E> {
    /// By the hash of the key.
    table: HashTable<Slot<K, V, E>>,
    /// The hashes of those whose result is kept, in the order in which they expire.
    kept: BTreeMap<Rank, u64>,
    /// Tells results that expire together apart.
    next: u64,
}

/// A key, and what there is of it.
struct Slot<K, V, E> {
    /// Of the key.
    hash: u64,
    /// The key.
    key: K,
    /// What there is.
    stage: Stage<K, V, E>,
}

/// What there is of a key.
enum Stage<K, V, E> {
    /// It is in flight.
    Flying(Arc<Flight<K, V, E>>),
    /// It has landed, and the result is kept.
    Kept(Arc<Landed<V, E>>, Rank),
}

/// The place of a result in the order in which they expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// When.
    until: Until,
    /// In the order of arrival.
    number: u64,
}

/// When a result expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    /// At this instant of the clock.
    At(Instant),
    /// The clock does not go that far.
    Never,
}

impl Until {
    /// After `time` from `now`.
    fn after(now: Instant, time: Duration) -> Self {
        now.checked_add(time).map_or(Self::Never, Self::At)
    }

    /// Whether it is over.
    fn is_over(self, now: Option<Instant>) -> bool {
        match (self, now) {
            (Self::At(until), Some(now)) => until <= now,
            _ => false,
        }
    }
}

/// What is found of a key.
pub(super) enum Found<K, V, E, W> {
    /// It is in flight.
    Flying(Arc<Flight<K, V, E>>),
    /// It has landed, and here is what it gave.
    Kept(Arc<Landed<V, E>>),
    /// There was nothing: this flight is in the map now, with what else came of its beginning, and what it has displaced.
    Begun(Arc<Flight<K, V, E>>, W, Debris<K, V, E>),
}

/// What a flight has displaced, to be dropped when that has taken off. A panic of it ends here: it is not the caller's who
/// happened to come.
pub(super) struct Debris<K, V, E> {
    /// A result that has expired.
    expired: Option<Stage<K, V, E>>,
    /// A key: the slot had an equal one.
    key: Option<K>,
}

impl<K, V, E> Drop for Debris<K, V, E> {
    fn drop(&mut self) {
        let Self { expired, key } = self;
        contain(|| drop(expired.take()));
        contain(|| drop(key.take()));
    }
}

impl<K, V, E> Map<K, V, E> {
    /// No keys.
    pub(super) fn new(keep: Option<Keep>) -> Self {
        let mut shards = SHARDS;
        let mut fill = 0;
        if let Some(keep) = &keep {
            while shards > 1 && keep.at_most / shards < FILL {
                shards /= 2;
            }
            fill = keep.at_most / shards;
        }
        let shard = || Shard {
            slots: Mutex::new(Slots { table: HashTable::new(), kept: BTreeMap::new(), next: 0 }),
        };
        let shards = (0..shards).map(|_| shard()).collect();
        Self { shards, hasher: RandomState::new(), keep, fill }
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.slots.lock().table.len()).sum()
    }

    /// Locks the shard of a hash. The table takes its own bits from both ends of it.
    fn lock(&self, hash: u64) -> MutexGuard<'_, Slots<K, V, E>> {
        let bits = (hash >> 40) as usize;
        self.shards[bits & (self.shards.len() - 1)].slots.lock()
    }

    /// The time, if there is something that expires.
    fn now(&self) -> Option<Instant> {
        self.keep.as_ref().map(|keep| keep.clock.now())
    }

    /// Takes out the slot of `flight`, if it has one.
    pub(super) fn remove(&self, hash: u64, flight: &Flight<K, V, E>) {
        let mut slots = self.lock(hash);
        let slot = slots.take(hash, |slot| slot.is_of(flight));
        let spare = slots.spare();
        release_then(slots, || drop((slot, spare)));
    }

    /// The flight has landed: its slot goes, or keeps the result.
    pub(super) fn settle(&self, hash: u64, flight: &Flight<K, V, E>, landed: &Arc<Landed<V, E>>) {
        let until = self.until(landed);
        let Some((now, until)) = until else { return self.remove(hash, flight) };
        let landed = Arc::clone(landed);
        let mut gone = Vec::new();
        let mut slots = self.lock(hash);
        let rank = Rank { until, number: slots.next };
        let flown = slots
            .table
            .find_mut(hash, |slot| slot.is_of(flight))
            .map(|slot| std::mem::replace(&mut slot.stage, Stage::Kept(landed, rank)));
        if flown.is_some() {
            slots.next += 1;
            slots.kept.insert(rank, hash);
            let swept = |first: Rank| first.until.is_over(Some(now));
            for _ in 0..SWEPT {
                gone.extend(slots.take_first_if(swept));
            }
            if slots.kept.len() > self.fill {
                gone.extend(slots.take_first_if(|_| true));
            }
        }
        release_then(slots, || {
            drop(flown);
            drop_each(gone);
        });
    }

    /// Whether a result is kept.
    pub(super) fn keeps(&self, result: &Result<V, E>) -> bool {
        let time = |keep: &Keep| if result.is_ok() { keep.values } else { keep.errors };
        self.keep.as_ref().is_some_and(|keep| !time(keep).is_zero())
    }

    /// Until when a result is kept, and what time it is now; none if it is not kept.
    fn until(&self, landed: &Landed<V, E>) -> Option<(Instant, Until)> {
        let keep = self.keep.as_ref()?;
        let time = match landed {
            Landed::Returned(Ok(_)) => keep.values,
            Landed::Returned(Err(_)) => keep.errors,
            Landed::Panicked(_) => return None,
        };
        if time.is_zero() {
            return None;
        }
        let now = keep.clock.now();
        Some((now, Until::after(now, time)))
    }
}

impl<K: Hash + Eq, V, E> Map<K, V, E> {
    /// The hash of a key; user code.
    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// What there is of a key; or, if there is nothing, a flight that `begin` begins, which gets the key.
    pub(super) fn find_or_insert<W>(
        &self,
        hash: u64,
        key: &mut Option<K>,
        begin: impl FnOnce() -> (Arc<Flight<K, V, E>>, W),
    ) -> Found<K, V, E, W> {
        let now = self.now();
        let mut slots = self.lock(hash);
        let Slots { table, kept, .. } = &mut *slots;
        let is_it = |slot: &Slot<K, V, E>| key.as_ref() == Some(&slot.key);
        match table.entry(hash, is_it, |slot| slot.hash) {
            TableEntry::Vacant(vacant) => {
                let (flight, more) = begin();
                if let Some(key) = key.take() {
                    let stage = Stage::Flying(Arc::clone(&flight));
                    vacant.insert(Slot { hash, key, stage });
                }
                Found::Begun(flight, more, Debris { expired: None, key: None })
            }
            TableEntry::Occupied(mut slot) => {
                let slot = slot.get_mut();
                if let Some(found) = slot.found(now) {
                    return found;
                }
                if let Stage::Kept(_, rank) = &slot.stage {
                    kept.remove(rank);
                }
                let (flight, more) = begin();
                let stage = Stage::Flying(Arc::clone(&flight));
                let expired = Some(std::mem::replace(&mut slot.stage, stage));
                Found::Begun(flight, more, Debris { expired, key: key.take() })
            }
        }
    }

    /// Takes out whatever there is of a key.
    pub(super) fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let mut slots = self.lock(hash);
        let slot = slots.take(hash, |slot| slot.key.borrow() == key);
        let spare = slots.spare();
        release_then(slots, || drop((slot, spare)));
    }
}

impl<K, V, E> Slots<K, V, E> {
    /// Takes a slot out.
    fn take(
        &mut self,
        hash: u64,
        which: impl FnMut(&Slot<K, V, E>) -> bool,
    ) -> Option<Slot<K, V, E>> {
        let (slot, _) = self.table.find_entry(hash, which).ok()?.remove();
        if let Stage::Kept(_, rank) = &slot.stage {
            self.kept.remove(rank);
        }
        Some(slot)
    }

    /// Takes out the result that expires first, if it is to go.
    fn take_first_if(&mut self, goes: impl FnOnce(Rank) -> bool) -> Option<Slot<K, V, E>> {
        let (&rank, &hash) = self.kept.first_key_value()?;
        if !goes(rank) {
            return None;
        }
        self.take(hash, |slot| matches!(&slot.stage, Stage::Kept(_, its) if *its == rank))
    }

    /// The table, if it is empty and has more memory than is worth keeping.
    fn spare(&mut self) -> Option<HashTable<Slot<K, V, E>>> {
        let is_spare = self.table.is_empty() && self.table.capacity() > SPARE;
        is_spare.then(|| std::mem::take(&mut self.table))
    }
}

impl<K, V, E> Slot<K, V, E> {
    /// Whether it is that flight's.
    fn is_of(&self, flight: &Flight<K, V, E>) -> bool {
        matches!(&self.stage, Stage::Flying(its) if std::ptr::eq(Arc::as_ptr(its), flight))
    }

    /// What is in it; none if that has expired.
    fn found<W>(&self, now: Option<Instant>) -> Option<Found<K, V, E, W>> {
        match &self.stage {
            Stage::Flying(flight) => Some(Found::Flying(Arc::clone(flight))),
            Stage::Kept(_, rank) if rank.until.is_over(now) => None,
            Stage::Kept(landed, _) => Some(Found::Kept(Arc::clone(landed))),
        }
    }
}
