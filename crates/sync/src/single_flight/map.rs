//! The keys: which is in flight, and whose result is kept.
//!
//! A key has one *slot* at most, in the shard that its hash says: with the number of the flight while that has not
//! landed, and with the result for as long as that is kept.
//!
//! # Protocol
//!
//! 1. *Find*: under the lock of the shard, a caller boards the flight in the slot, or takes the result
//!    (`seat.rs`). If there is neither it makes what it takes to begin, with the lock free, and comes again.
//! 2. *Begin*: under the lock, if there is still nothing, a flight is put in. Its closure is called afterwards, with no lock held. If
//!    there is something by now, it is found (1).
//! 3. *Land*, before the flight tells anybody: the slot is taken out, or the flight in it is
//!    replaced by the result. So a call that begins after any wait has completed finds no flight that
//!    has landed.
//! 4. *Leave*: the last to leave a flight takes the slot out in the same critical section. So a flight in a slot is one that can be boarded.
//! 5. *Forget* takes the slot out, whatever is in it. Land and leave know a slot by its flight, not by
//!    its key, so they pass by a slot that is somebody else's by now.
//!
//! # What is kept
//!
//! A shard has every kept result in the order in which their times end. Expiry is looked at
//! by whoever finds a result, and each result that is put in sweeps out up to two whose time is over, so
//! they go faster than they come; then, if the shard has its fill, the first of the order. The fills of the shards add up
//! to no more than the bound that the user gave; there are fewer shards where they would be small.
//!
//! # User code
//!
//! `Hash` runs before the lock is taken; `Eq` of the keys, and in a forget their `Borrow`, runs under it, before anything has changed. The
//! lock spins: it is held for a few stores and the comparisons. It is held over the allocator when the table or the slab of flights grows,
//! because a shard has more than ever since they were given back; and now and then when a result is kept or goes, for a node of the
//! order in which they expire.
//! Keys and results are moved out of the lock before they are dropped. What a flight displaces that is put in is dropped
//! only when that flight has taken off: before, a destructor that panics would leave it without a driver, and one that asks
//! for the same key would wait for it.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::Timer;
use selvedge_primitives::{LineId, Origin, contain, release_then};

use super::flight::Flight;
use super::shard::{Found, Shard, Slots, Stage, Until, spare};
use super::signal::Signal;

/// How many shards there are at most, a power of two.
#[cfg(not(selvedge_loom))]
const SHARDS: usize = 16;
/// One, so that two keys of a model meet.
#[cfg(selvedge_loom)]
const SHARDS: usize = 1;

/// How many results a shard keeps at least, if there is another.
const FILL: usize = 16;

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
pub(super) struct Map<K, V, E, S> {
    /// A power of two of them.
    shards: Box<[Padded<Shard<K, V, E>>]>,
    /// Makes the hashes of this map.
    hasher: S,
    /// Whether results are kept, and how long.
    keep: Option<Keep>,
    /// How many a shard keeps.
    fill: usize,
    /// What is observed, of which the shards are parts.
    _subject: Subject,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Padded<T>(
    /// What.
    T,
);

/// A flight that was put in.
pub(super) struct Begun<K, V, E> {
    /// Its number.
    pub(super) id: LineId,
    /// Its waker.
    pub(super) waker: Waker,
    /// What it has displaced.
    pub(super) debris: Debris<K, V, E>,
}

/// What a flight has displaced, to be dropped when that has taken off. A panic of it ends here: it is not the caller's who
/// happened to come.
pub(super) struct Debris<K, V, E> {
    /// A result that has expired.
    expired: Option<Stage<V, E>>,
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

impl<K, V, E, S> Map<K, V, E, S> {
    /// No keys.
    pub(super) fn new(keep: Option<Keep>, hasher: S, origin: &Origin) -> Self {
        let mut shards = SHARDS;
        let mut fill = 0;
        if let Some(keep) = &keep {
            while shards > 1 && keep.at_most / shards < FILL {
                shards /= 2;
            }
            fill = keep.at_most / shards;
        }
        let subject = Subject::new("single flight", origin);
        let shard =
            || Padded(Shard::observed(Slots::new(), subject.part("callers of a single flight")));
        let shards = (0..shards).map(|_| shard()).collect();
        Self { shards, hasher, keep, fill, _subject: subject }
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().table.len()).sum()
    }

    /// The shard of a hash. The table takes its own bits from both ends of it.
    #[inline]
    pub(super) fn shard(&self, hash: u64) -> &Shard<K, V, E> {
        let bits = (hash >> 40) as usize;
        &self.shards[bits & (self.shards.len() - 1)].0
    }

    /// How many results a shard keeps.
    pub(super) fn fill(&self) -> usize {
        self.fill
    }

    /// The time, if there is something that expires.
    #[inline]
    pub(super) fn now(&self) -> Option<Instant> {
        self.keep.as_ref().map(|keep| keep.clock.now())
    }

    /// For how long a result is kept, by whose clock; none if it is not kept.
    fn time_of(&self, result: &Result<V, E>) -> Option<(Duration, &Timer)> {
        let keep = self.keep.as_ref()?;
        let time = if result.is_ok() { keep.values } else { keep.errors };
        (!time.is_zero()).then_some((time, &keep.clock))
    }

    /// Whether a result is kept.
    #[inline]
    pub(super) fn keeps(&self, result: &Result<V, E>) -> bool {
        self.time_of(result).is_some()
    }

    /// Until when a result is kept, and what time it is now; none if it is not kept.
    pub(super) fn until(&self, result: &Result<V, E>) -> Option<(Instant, Until)> {
        let (time, clock) = self.time_of(result)?;
        let now = clock.now();
        Some((now, Until::after(now, time)))
    }

    /// The hash of a key; user code.
    #[inline]
    pub(super) fn hash<Q>(&self, key: &Q) -> u64
    where
        Q: Hash + ?Sized,
        S: BuildHasher,
    {
        self.hasher.hash_one(key)
    }

    /// Takes out whatever there is of a key.
    pub(super) fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        S: BuildHasher,
    {
        let hash = self.hash(key);
        let mut held = self.shard(hash).lock();
        let slot = held.take(hash, |slot| slot.key.borrow() == key);
        let spare = spare(&mut held);
        release_then(held, || {
            drop(spare);
            if let Some(slot) = slot {
                slot.drop_apart();
            }
        });
    }

    /// Puts in a flight of the key, which is moved out, if there is nothing.
    pub(super) fn begin(map: &Arc<Self>, hash: u64, key: &mut Option<K>) -> Option<Begun<K, V, E>>
    where
        K: Eq + Send + 'static,
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        S: Send + Sync + 'static,
    {
        // Before the lock is taken, because it asks the allocator.
        let signal = Signal::new(map, hash);
        let own = signal.waker();
        let now = map.now();
        let mut held = map.shard(hash).lock();
        let expired = match held.find(hash, key.as_ref()?, now) {
            Found::Nothing => None,
            Found::Expired(rank) => Some(rank),
            // The result is not dropped here: the slot has it, too.
            Found::Flying(_) | Found::Kept(_) => return None,
        };
        let id = held.insert(Flight::new(own, hash));
        signal.set(id);
        let expired = match expired {
            Some(rank) => held.replace(hash, rank, id),
            None => {
                held.put_in(hash, key.take()?, id);
                None
            }
        };
        drop(held);
        Some(Begun { id, waker: Waker::from(signal), debris: Debris { expired, key: key.take() } })
    }
}
