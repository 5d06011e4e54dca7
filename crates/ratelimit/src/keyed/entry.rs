//! What there is of a key: a word, and what it takes to reckon with it. Half a line of the cache.

use selvedge_primitives::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::bucket::course::{ANEW, BEGINNING, Piece};
use crate::bucket::word::{State, Word};

/// The place of nobody: the entry's key is not among the keys of its shard at the moment.
pub(super) const NOWHERE: u32 = u32::MAX;

/// The fingerprint of no key.
pub(super) const NONE: u64 = 0;

/// An entry. Its print, its offset and its plan are read as the course of a limiter is: between a load of the word and a CAS, or another load,
/// that finds it unchanged; and they are written while the word has CHANGING, under the lock of the shard to which the key belongs. An entry
/// of no key has CHANGING.
///
/// What is earned on the course of the plan begins for all keys at one time. That of an entry is the same and its `offset`, so that its word may
/// begin where it likes: above whatever it has been. That is the generation of the entry: who has reckoned for the key that it had before
/// cannot put its result into the word.
#[derive(Debug)]
#[repr(align(32))]
pub(super) struct Entry {
    /// What was granted.
    pub(super) word: Word,
    /// The key's fingerprint.
    print: AtomicU64,
    /// What is to be added to what is earned on the course of the plan; modulo 2^64.
    offset: AtomicU64,
    /// The number of the plan, and [`OWN_BIT`].
    plan: AtomicU32,
    /// The place of the key among those of its shard. Under the lock of the shard.
    place: AtomicU32,
}

/// The plan is the key's own: it stays when that of all others changes.
const OWN_BIT: u32 = 1 << 31;

/// Which plan an entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlanOf {
    /// Its number.
    pub(super) number: u32,
    /// Whether it is the key's own.
    pub(super) is_own: bool,
}

impl Entry {
    /// Of no key.
    pub(super) fn new() -> Self {
        Self {
            word: Word::idle(),
            print: AtomicU64::new(NONE),
            offset: AtomicU64::new(0),
            plan: AtomicU32::new(0),
            place: AtomicU32::new(NOWHERE),
        }
    }

    /// The fingerprint of its key, or [`NONE`].
    #[inline]
    pub(super) fn print(&self) -> u64 {
        // Relaxed: as the fields of a course, see `Word`; the word orders it.
        self.print.load(Ordering::Relaxed)
    }

    /// What is to be added to what is earned.
    #[inline]
    pub(super) fn offset(&self) -> u64 {
        // Relaxed: as above.
        self.offset.load(Ordering::Relaxed)
    }

    /// Its plan.
    #[inline]
    pub(super) fn plan(&self) -> PlanOf {
        // Relaxed: as above.
        let plan = self.plan.load(Ordering::Relaxed);
        PlanOf { number: plan & !OWN_BIT, is_own: plan & OWN_BIT != 0 }
    }

    /// Under the lock of the shard: where its key is.
    pub(super) fn place(&self) -> u32 {
        // Relaxed: the lock.
        self.place.load(Ordering::Relaxed)
    }

    /// Under the lock of the shard: its key is there now.
    pub(super) fn set_place(&self, place: u32) {
        // Relaxed: the lock.
        self.place.store(place, Ordering::Relaxed);
    }

    /// How many units are missing from a full bucket at `now`, on this piece of its plan; less than nothing says how many have come since it
    /// was full. The word has been looked at, and will be again, or has CHANGING.
    pub(super) fn deficit(&self, seen: State, piece: &Piece, now: u64) -> i64 {
        let granted = seen.granted().wrapping_sub(self.offset());
        granted.wrapping_sub(piece.earned(now)) as i64
    }

    /// Under the lock, while the word has CHANGING: gives it to a key, with a full bucket.
    pub(super) fn begin(&self, print: u64, plan: PlanOf, piece: &Piece, now: u64) {
        // Relaxed: published by the word, as the next two.
        self.print.store(print, Ordering::Relaxed);
        let granted = self.suit(self.word.snapshot(), plan, piece, now, 0);
        self.word.begin(granted);
    }

    /// Under the lock, while the word has CHANGING: from now on it goes by this plan, with such a deficit. Gives the granted to go on with.
    pub(super) fn suit(
        &self,
        seen: State,
        plan: PlanOf,
        piece: &Piece,
        now: u64,
        deficit: u64,
    ) -> u64 {
        let granted = Some(seen.granted() + 1).filter(|granted| *granted < ANEW);
        let granted = granted.unwrap_or(BEGINNING);
        let base = granted.wrapping_sub(deficit).wrapping_sub(piece.earned(now));
        // Relaxed: published by the word.
        self.offset.store(base, Ordering::Relaxed);
        let own = if plan.is_own { OWN_BIT } else { 0 };
        // Relaxed: published by the word.
        self.plan.store(plan.number | own, Ordering::Relaxed);
        granted
    }
}

const _: () = assert!(cfg!(selvedge_loom) || size_of::<Entry>() == 32);
