//! Leases: tokens that threads have taken in batches and not used yet.
//!
//! A limiter that many threads ask is one word that all of them write. In *leased mode* a thread takes a batch at a time and keeps what it
//! does not need in a *slot* on a line of the cache of its own, from which it goes on without the clock and without the others. What lies in
//! slots was granted, as the word counts, so that no more is ever admitted.
//!
//! - **L1** Slots are filled under the lock of the line, while nobody is in line; and emptied by whoever takes from them (a CAS), or by the
//!   *recall*, under the lock, which puts what is left back into the bucket. Whoever comes to the lock for something else than a batch
//!   recalls first. So while somebody waits the slots are empty, and a try finds nothing before those who wait have theirs.
//! - **L2** Within the burst is what there is in the bucket and in the slots together: of what has come, what is beyond the rest of the burst is
//!   lost, where so much lies in slots, or has been used of that since the lock was released last. So in any span of time no more is
//!   used than the burst and what comes in it, whatever lay in the slots at its beginning. The price is that after a pause as much
//!   may be missing from a full bucket, once, as was used from slots before it.
//! - **L3** A try is refused only if bucket and slots together have less: who finds too little recalls, and so takes what others do not use.
//!   At most [`BATCH`] tokens lie in the slot of a thread, and a quarter of the burst in all.
//!
//! A try that finds nothing in any slot and too little in the bucket must not be one that came while tokens were on their way from one to the
//! other, because that is refused without the lock.
//!
//! - A batch is put into the slot before the word is written, and a try reads the word before the slots; so who finds the bucket empty
//!   by a batch finds the batch: [`put`](Leases::put) ends with a Release fence, and the word is read with Acquire.
//! - While tokens are recalled, the word has CHANGING, and the try comes to the lock. But it may have read the word before the recall, the slots
//!   while it was on, and the word again when a batch had been taken that was just as large. So recalls are counted, each while the word
//!   has CHANGING and before the slots are emptied, with a fence on either side: who has seen the count of a recall sees the word as it was
//!   then, or later; who has seen what the recall left in a slot sees its count.
//!
//! What is said of a slot by the threads that use it is Relaxed: tokens carry nothing from one who used them to the next, and each slot is one
//! number.

use selvedge_primitives::atomic::{AtomicU32, Ordering, fence};
use selvedge_primitives::thread;

/// The largest batch: of that many tries, one comes to the lock.
#[cfg(not(selvedge_loom))]
const BATCH: u32 = 256;
/// So that a model sees the end of a batch.
#[cfg(selvedge_loom)]
const BATCH: u32 = 2;

/// A smaller batch is not worth its while.
#[cfg(not(selvedge_loom))]
const SMALLEST: u32 = 4;
/// So that a burst of a few has one.
#[cfg(selvedge_loom)]
const SMALLEST: u32 = 1;

/// As many slots, at most.
const SLOTS: usize = 64;

/// The tokens of one thread, or of a few.
#[derive(Debug)]
#[repr(align(128))]
struct Slot {
    /// How many.
    tokens: AtomicU32,
}

/// The slots of a limiter.
#[derive(Debug)]
pub(super) struct Leases {
    /// A power of two of them.
    slots: Box<[Slot]>,
    /// How many tokens a thread takes beyond what it needs. Changes under the lock of the line.
    batch: AtomicU32,
    /// How often what lay in the slots was taken out. Changes under the lock of the line. It comes round while a try stands still, and that one
    /// is refused for once, if there were 2^32 recalls meanwhile, no more and no less.
    recalls: AtomicU32,
}

impl Leases {
    /// Empty slots, for a burst of so many.
    pub(super) fn new(burst: u32) -> Self {
        let threads = match cfg!(selvedge_loom) {
            true => 2,
            false => std::thread::available_parallelism().map_or(1, |threads| threads.get()),
        };
        let slots = (0..threads.min(SLOTS).next_power_of_two())
            .map(|_| Slot { tokens: AtomicU32::new(0) })
            .collect();
        let this = Self { slots, batch: AtomicU32::new(0), recalls: AtomicU32::new(0) };
        this.suit(burst);
        this
    }

    /// Under the lock: the burst is another. A small one has no batches.
    pub(super) fn suit(&self, burst: u32) {
        let slots = u32::try_from(self.slots.len()).expect("a few");
        let share = (burst / 4 / slots).min(BATCH);
        let batch = if share < SMALLEST { 0 } else { share };
        // Relaxed: read under the same lock.
        self.batch.store(batch, Ordering::Relaxed);
    }

    /// Under the lock: how many tokens to take beyond what is needed: as many as this thread's slot has room for.
    pub(super) fn room(&self) -> u32 {
        // Relaxed: both, see the header; the batch is written under the same lock.
        let there = self.slot().load(Ordering::Relaxed);
        // Relaxed: as above.
        self.batch.load(Ordering::Relaxed).saturating_sub(there)
    }

    /// This thread's slot.
    #[inline]
    fn slot(&self) -> &AtomicU32 {
        &self.slots[thread::number() & (self.slots.len() - 1)].tokens
    }

    /// Takes `wanted` tokens from this thread's slot, if they are there.
    #[inline]
    pub(super) fn hit(&self, wanted: u32) -> bool {
        let slot = self.slot();
        // Relaxed: as all here, see the header.
        let mut there = slot.load(Ordering::Relaxed);
        while let Some(left) = there.checked_sub(wanted) {
            // Relaxed: both, as above.
            let swapped =
                slot.compare_exchange_weak(there, left, Ordering::Relaxed, Ordering::Relaxed);
            match swapped {
                Ok(_) => return true,
                Err(now) => there = now,
            }
        }
        false
    }

    /// Under the lock: puts tokens into this thread's slot.
    pub(super) fn put(&self, tokens: u32) {
        // Relaxed: the fence orders it.
        self.slot().fetch_add(tokens, Ordering::Relaxed);
        // Fence Release: against the Acquire in `Word::snapshot`: whoever reads the word that is written next sees the tokens.
        fence(Ordering::Release);
    }

    /// How many tokens lie in slots. Others may take of them meanwhile, and under the lock that is all they may.
    pub(super) fn held(&self) -> u32 {
        // Relaxed: see the header. The sum fits: it is a quarter of the burst.
        self.slots.iter().map(|slot| slot.tokens.load(Ordering::Relaxed)).sum()
    }

    /// How often what lay in the slots was taken out: before the word is read, and again at the end.
    pub(super) fn recalls(&self) -> u32 {
        // Acquire: pairs with the fence in `Word::begin_change`: whoever sees a recall sees its CHANGING, or what came after it.
        self.recalls.load(Ordering::Acquire)
    }

    /// Under the lock, while the word has CHANGING: takes all tokens out of the slots.
    pub(super) fn recall(&self) -> u32 {
        // Relaxed: both; changes under the lock, and the fences on either side order it.
        let recalls = self.recalls.load(Ordering::Relaxed);
        // Relaxed: as above.
        self.recalls.store(recalls.wrapping_add(1), Ordering::Relaxed);
        // Fence Release: against the Acquire fence in `Word::is_still`: whoever sees what is left in a slot by this sees the count.
        fence(Ordering::Release);
        let taken = self.slots.iter().map(|slot| {
            // Relaxed: see the header. A look first, so that a line that is not in use is not written.
            match slot.tokens.load(Ordering::Relaxed) {
                0 => 0,
                // Relaxed: as above.
                _ => slot.tokens.swap(0, Ordering::Relaxed),
            }
        });
        taken.sum()
    }
}
