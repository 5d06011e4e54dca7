//! What there is of a key: two words, a quarter of a line of the cache.
//!
//! ```text
//!           63          52 51                      3   2..0
//!         +--------------+-------------------------+--------+
//! word    | generation   | granted                 | flags  |
//!         +--------------+-------------------------+--------+
//!           63                            11   10            0
//!         +-----------------------------------+---------------+
//! print   | of the fingerprint                | plan          |
//!         +-----------------------------------+---------------+
//! ```
//!
//! The word is that of a bucket ([`word`](crate::bucket::word)), whose count has two parts here: what was granted, on the course of the plan, and a
//! generation, which is another whenever the entry gets another key or another plan. So who has reckoned for the key or the plan that was there
//! before cannot put its result into it. Twelve bits come round: who stands still between its look and its CAS while the entry is given away exactly
//! 4096 times, or a multiple of that, and then finds the very count that it saw, takes of another key. The count is in units of
//! sixteen nanoseconds' worth, so that is a matter of one in millions, for who has stood still at just the wrong place for that long.
//!
//! The print is read as the course of a limiter is: between a load of the word and a CAS, or another load, that finds it unchanged; and it is
//! written while the word has CHANGING, under the lock of the shard to which the key belongs. An entry of no key has CHANGING.

use selvedge_primitives::atomic::{AtomicU64, Ordering, fence};

use crate::bucket::course::Piece;
use crate::bucket::word::{State, Word};

/// Where the generation is in the count of the word.
const GENERATION_SHIFT: u32 = 49;
/// What was granted.
const GRANTED_MASK: u64 = (1 << GENERATION_SHIFT) - 1;
/// Where the part of the fingerprint is.
pub(super) const PRINT_SHIFT: u32 = 11;
/// The number of the plan.
const PLAN_MASK: u64 = (1 << PRINT_SHIFT) - 1;

/// An entry.
#[derive(Debug)]
#[repr(align(16))]
pub(super) struct Entry {
    /// Generation, what was granted, and flags.
    pub(super) word: Word,
    /// Whose, and by which plan.
    print: AtomicU64,
}

/// What was granted, of the count of a word.
#[inline]
pub(super) const fn granted(count: u64) -> u64 {
    count & GRANTED_MASK
}

/// The count of the same generation, with so much granted.
#[inline]
pub(super) const fn with_granted(count: u64, granted: u64) -> u64 {
    count & !GRANTED_MASK | granted & GRANTED_MASK
}

/// Whose an entry is, and by which plan: as read at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner(u64);

impl Owner {
    /// Whether it is the key with this fingerprint, as far as that is written in an entry.
    #[inline(always)]
    pub(super) fn has(self, print: u64) -> bool {
        self.0 >> PRINT_SHIFT == print >> PRINT_SHIFT
    }

    /// The number of its plan.
    #[inline(always)]
    pub(super) fn plan(self) -> u32 {
        (self.0 & PLAN_MASK) as u32
    }
}

impl Entry {
    /// Of no key.
    pub(super) fn new() -> Self {
        Self { word: Word::idle(), print: AtomicU64::new(0) }
    }

    /// Whose it is, and by which plan.
    #[inline(always)]
    pub(super) fn owner(&self) -> Owner {
        // Relaxed: as the fields of a course; the word orders it.
        Owner(self.print.load(Ordering::Relaxed))
    }

    /// Whether it is of a key with this fingerprint, as far as is written here.
    #[inline]
    pub(super) fn is_of(&self, print: u64) -> bool {
        self.owner().has(print)
    }

    /// The fingerprint of its key, as far as is written here; the rest is zero.
    pub(super) fn print(&self) -> u64 {
        self.owner().0 & !PLAN_MASK
    }

    /// The number of its plan.
    #[inline]
    pub(super) fn plan(&self) -> u32 {
        self.owner().plan()
    }

    /// Whether it is of a key. Under the lock: one that has CHANGING while nobody else changes it is of none.
    pub(super) fn is_taken(&self) -> bool {
        let seen = self.word.snapshot();
        seen.is_plain() || seen.is_queued()
    }

    /// Under the lock, while the word has CHANGING: it is of no key.
    pub(super) fn clear(&self) {
        // Relaxed: who finds CHANGING does not ask.
        self.print.store(0, Ordering::Relaxed);
    }

    /// How many units are missing from a full bucket at `now`, on this piece of its plan; less than nothing says how many have come since it
    /// was full. What has come since the end of the piece is reckoned in. The word has been looked at, and will be again, or has CHANGING.
    pub(super) fn deficit(&self, seen: State, piece: &Piece, now: u64) -> i64 {
        let deficit = granted(seen.granted()).wrapping_sub(piece.earned(now)) as i64;
        deficit.saturating_sub_unsigned(piece.after(now))
    }

    /// Under the lock, while the word has CHANGING: gives it to a key, with a full bucket.
    pub(super) fn begin(&self, print: u64, plan: u32, piece: &Piece, now: u64) {
        // Fence Release: against the Acquire fence in `Word::read`. Somebody else gave the word CHANGING, and this thread knows of it by the lock: who reads
        // the next line finds CHANGING, or what came after it.
        fence(Ordering::Release);
        self.set(print, plan);
        self.word.begin(Self::count(self.word.snapshot(), piece, now, 0));
    }

    /// Whose it is, and by which plan. At once: who reads without the lock finds a plan that there is.
    fn set(&self, print: u64, plan: u32) {
        let print = print >> PRINT_SHIFT << PRINT_SHIFT;
        // Relaxed: published by the word.
        self.print.store(print | u64::from(plan), Ordering::Relaxed);
    }

    /// Under the lock, while the word has CHANGING: from now on it goes by this plan, which is not over, with such a deficit. Gives the count to go on
    /// with.
    pub(super) fn suit(
        &self,
        seen: State,
        plan: u32,
        piece: &Piece,
        now: u64,
        deficit: u64,
    ) -> u64 {
        self.set(self.print(), plan);
        Self::count(seen, piece, now, deficit)
    }

    /// A count of the next generation, with such a deficit.
    fn count(seen: State, piece: &Piece, now: u64, deficit: u64) -> u64 {
        // The highest bits of a word are those of the generation, so it comes round by itself.
        let next = (seen.granted() >> GENERATION_SHIFT) + 1;
        let generation = next << GENERATION_SHIFT & (u64::MAX >> 3);
        generation | granted(piece.earned(now) + deficit)
    }
}

const _: () = assert!(cfg!(selvedge_loom) || size_of::<Entry>() == 16);
