//! What the lock of a shard guards: the keys, and the order in which kept results expire.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use selvedge_primitives::{FirstPanic, LineId, Lines, LockedLines, SpareLines};

use super::flight::{Flight, Landed, Told};

/// A table with room for more than this gives its memory back when it is empty.
const SPARE: usize = 64;

/// A part of the keys, and the flights of these, each with the line of those who wait for it.
pub(super) type Shard<K, V, E> = Lines<Slots<K, V, E>, Flight<V, E>, (), Told<V, E>>;

/// The lock of a shard, held.
pub(super) type Held<'a, K, V, E> = LockedLines<'a, Slots<K, V, E>, Flight<V, E>, (), Told<V, E>>;

/// The keys of a shard.
pub(super) struct Slots<K, V, E> {
    /// By the hash of the key.
    pub(super) table: HashTable<Slot<K, V, E>>,
    /// The hashes of those whose result is kept, in the order in which they expire.
    kept: BTreeMap<Rank, u64>,
    /// Tells results that expire together apart.
    next: u64,
}

/// A key, and what there is of it.
pub(super) struct Slot<K, V, E> {
    /// Of the key.
    pub(super) hash: u64,
    /// The key.
    pub(super) key: K,
    /// What there is.
    pub(super) stage: Stage<V, E>,
}

/// What there is of a key.
pub(super) enum Stage<V, E> {
    /// It is in flight.
    Flying(LineId),
    /// It has landed, and the result is kept.
    Kept(Arc<Landed<V, E>>, Rank),
}

/// The place of a result in the order in which they expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// When.
    until: Until,
    /// In the order of arrival.
    number: u64,
}

/// When a result expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Until {
    /// At this instant of the clock.
    At(Instant),
    /// The clock does not go that far.
    Never,
}

impl Until {
    /// After `time` from `now`.
    pub(super) fn after(now: Instant, time: Duration) -> Self {
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

/// Memory that is given back: of the keys, and of flights.
pub(super) type Spare<K, V, E> =
    (Option<SpareKeys<K, V, E>>, Option<SpareLines<Flight<V, E>, (), Told<V, E>>>);

/// Memory of keys: of their table, and of the order in which results expire.
pub(super) type SpareKeys<K, V, E> = (HashTable<Slot<K, V, E>>, BTreeMap<Rank, u64>);

/// What is found of a key.
pub(super) enum Found<V, E> {
    /// It is in flight.
    Flying(LineId),
    /// It has landed, and here is what it gave.
    Kept(Arc<Landed<V, E>>),
    /// It has landed, and what is kept of that has expired.
    Expired(Rank),
    /// There is nothing.
    Nothing,
}

impl<K, V, E> Slots<K, V, E> {
    /// No keys.
    pub(super) fn new() -> Self {
        Self { table: HashTable::new(), kept: BTreeMap::new(), next: 0 }
    }

    /// How many results are kept.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// What there is of a key at this time.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &K, now: Option<Instant>) -> Found<V, E>
    where
        K: Eq,
    {
        match self.table.find(hash, |slot| slot.key == *key).map(|slot| &slot.stage) {
            None => Found::Nothing,
            Some(Stage::Flying(id)) => Found::Flying(*id),
            Some(Stage::Kept(_, rank)) if rank.until.is_over(now) => Found::Expired(*rank),
            Some(Stage::Kept(landed, _)) => Found::Kept(Arc::clone(landed)),
        }
    }

    /// Puts in a flight of a key of which there is nothing.
    pub(super) fn put_in(&mut self, hash: u64, key: K, id: LineId) {
        let stage = Stage::Flying(id);
        self.table.insert_unique(hash, Slot { hash, key, stage }, |slot| slot.hash);
    }

    /// Puts a flight in the place of a result, which goes to the caller.
    pub(super) fn replace(&mut self, hash: u64, rank: Rank, id: LineId) -> Option<Stage<V, E>> {
        let slot = self.table.find_mut(hash, |slot| slot.has(rank))?;
        self.kept.remove(&rank);
        Some(std::mem::replace(&mut slot.stage, Stage::Flying(id)))
    }

    /// Keeps a result in the place of its flight; false if that has no slot.
    pub(super) fn keep(
        &mut self,
        hash: u64,
        id: LineId,
        until: Until,
        landed: &Arc<Landed<V, E>>,
    ) -> bool {
        let Some(slot) = self.table.find_mut(hash, |slot| slot.is_of(id)) else { return false };
        let rank = Rank { until, number: self.next };
        slot.stage = Stage::Kept(Arc::clone(landed), rank);
        self.next += 1;
        self.kept.insert(rank, hash);
        true
    }

    /// Takes a slot out.
    pub(super) fn take(
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

    /// Takes out the slot of a flight, if it has one.
    pub(super) fn take_flight(&mut self, hash: u64, id: LineId) -> Option<Slot<K, V, E>> {
        self.take(hash, |slot| slot.is_of(id))
    }

    /// Takes out the result that expires first, if that is over at this time.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Slot<K, V, E>> {
        let (first, _) = self.kept.first_key_value()?;
        if !first.until.is_over(Some(now)) {
            return None;
        }
        self.take_first()
    }

    /// Takes out the result that expires first.
    pub(super) fn take_first(&mut self) -> Option<Slot<K, V, E>> {
        let (&rank, &hash) = self.kept.first_key_value()?;
        self.take(hash, |slot| slot.has(rank))
    }
}

impl<K, V, E> Drop for Slots<K, V, E> {
    /// Each goes by itself, also when another panics.
    fn drop(&mut self) {
        let mut panics = FirstPanic::new();
        for slot in self.table.drain() {
            panics.catch(|| slot.drop_apart());
        }
        panics.resume();
    }
}

/// The memory of a shard that is empty and has more than is worth keeping; to be dropped with the lock free.
pub(super) fn spare<K, V, E>(held: &mut Held<'_, K, V, E>) -> Option<Spare<K, V, E>> {
    // Not its capacity: that is less for each place that was taken and is not to be had before the table is made anew.
    let is_spare = held.table.is_empty() && held.table.num_buckets() > SPARE;
    let keys = is_spare.then(|| {
        let Slots { table, kept, .. } = &mut **held;
        // Nothing is kept without a key.
        (std::mem::take(table), std::mem::take(kept))
    });
    let flights = held.spare(SPARE);
    (keys.is_some() || flights.is_some()).then_some((keys, flights))
}

impl<K, V, E> Slot<K, V, E> {
    /// Drops the key and what there is of it, one after the other: as the fields of one value, two destructors that panic would end the
    /// process. The first panic goes on.
    pub(super) fn drop_apart(self) {
        let Self { key, stage, .. } = self;
        let mut panics = FirstPanic::new();
        panics.catch(|| drop(key));
        panics.catch(|| drop(stage));
        panics.resume();
    }

    /// Whether it is that flight's.
    fn is_of(&self, id: LineId) -> bool {
        matches!(&self.stage, Stage::Flying(its) if *its == id)
    }

    /// Whether it has that result.
    fn has(&self, rank: Rank) -> bool {
        matches!(&self.stage, Stage::Kept(_, its) if *its == rank)
    }
}
