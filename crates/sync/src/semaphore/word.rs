//! The state word of the semaphore and every transition it makes. No other file touches an atomic.
//!
//! ```text
//!   63                                        2     1        0
//! +---------------------------------------------+--------+--------+
//! | permits that are free                       | QUEUED | CLOSED |
//! +---------------------------------------------+--------+--------+
//! ```
//!
//! (On a 32-bit machine the permits end at bit 31.)
//!
//! | CLOSED | QUEUED | permits         | meaning                           | who may leave it                              |
//! |--------|--------|-----------------|-----------------------------------|-----------------------------------------------|
//! | 0      | 0      | any             | nobody waits                      | anyone, by a CAS that takes or an add         |
//! | 0      | 1      | < front's wish  | the line waits for a release      | a releaser, by an add; then it takes the lock |
//! | 0      | 1      | >= front's wish | a releaser is at, or on its way to, the lock | whoever holds the lock, by a hand-over |
//! | 1      | 1      | any             | closed; the line is being sent home | whoever holds the lock                      |
//! | 1      | 0      | any             | closed for good; releases count   | nobody                                        |
//!
//! # Invariants
//!
//! - **W1** Permits in the word, plus permits handed over to waiters or held by guards, are the
//!   capacity. A release puts back what an acquire took, so the permits never exceed the capacity
//!   and an add never overflows into nothing.
//! - **W2** QUEUED changes only under the lock of the queue, and whenever that lock is free, QUEUED
//!   is set exactly if somebody is in the queue.
//! - **W3** Who sees QUEUED in the word that its release returned takes the lock afterwards. So a
//!   release is either seen by the waiter that sets QUEUED (its CAS is on the whole word), or it
//!   sees QUEUED, comes to the lock after that waiter is in the line, and hands out.
//! - **W4** CLOSED is never cleared.
//! - **W5** Every change of the word is a read-modify-write. So an Acquire that reads the word at
//!   any later time synchronises with *every* Release before it (they all head release sequences
//!   that nothing interrupts), not only with the last.

use std::fmt;

use selvedge_primitives::atomic::{AtomicUsize, Ordering};
use selvedge_primitives::const_fn;

/// The semaphore is closed.
const CLOSED_BIT: usize = 1 << 0;
/// Somebody is in the queue.
const QUEUED_BIT: usize = 1 << 1;
/// Where the permits begin.
const PERMITS_SHIFT: u32 = 2;
/// One permit, as it is added to the word.
const ONE_PERMIT: usize = 1 << PERMITS_SHIFT;

/// The most permits there may be. The word has room for twice as many; the highest bit stays
/// clear, so that the sum of a capacity and a release never wraps, whatever bug there may be.
pub(super) const MAX_PERMITS: usize = usize::MAX >> (PERMITS_SHIFT + 1);

/// The word at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State(
    /// As drawn above.
    usize,
);

impl State {
    /// Open, nobody waits, `permits` are free.
    const fn free(permits: usize) -> Self {
        Self(permits << PERMITS_SHIFT)
    }

    /// How many permits are free.
    pub(super) const fn permits(self) -> usize {
        self.0 >> PERMITS_SHIFT
    }

    /// Whether somebody is in the queue.
    pub(super) const fn is_queued(self) -> bool {
        self.0 & QUEUED_BIT != 0
    }

    /// Whether the semaphore is closed.
    pub(super) const fn is_closed(self) -> bool {
        self.0 & CLOSED_BIT != 0
    }

    /// Whether `wanted` permits are free.
    const fn covers(self, wanted: usize) -> bool {
        self.permits() >= wanted
    }

    /// Whether somebody who does not stand in line may take `wanted` permits. Nothing can always
    /// be taken: it keeps nobody waiting.
    const fn admits(self, wanted: usize) -> bool {
        wanted == 0 || (!self.is_queued() && self.covers(wanted))
    }

    /// Without `wanted` permits, which it covers.
    const fn less(self, wanted: usize) -> Self {
        debug_assert!(self.covers(wanted));
        Self(self.0 - wanted * ONE_PERMIT)
    }

    /// With somebody in the queue.
    const fn queued(self) -> Self {
        Self(self.0 | QUEUED_BIT)
    }

    /// With nobody in the queue.
    const fn unqueued(self) -> Self {
        Self(self.0 & !QUEUED_BIT)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("permits", &self.permits())
            .field("queued", &self.is_queued())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// How taking without standing in line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "permits that were taken must be given back"]
pub(super) enum Take {
    /// The permits are out of the word.
    Taken,
    /// Too few are free, or somebody was there before.
    Short,
    /// The semaphore is closed.
    Closed,
}

/// How coming to the line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the caller must queue, or has permits"]
pub(super) enum Join {
    /// No line, and permits came in the meantime: they are out of the word.
    Taken,
    /// QUEUED is set; the caller enters the queue before it releases the lock.
    Queue,
    /// The semaphore is closed.
    Closed,
}

/// What there is for the front of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "permits that were handed over are out of the word"]
pub(super) enum HandOver {
    /// Its permits: they are out of the word.
    Permits,
    /// Nothing yet.
    Short,
    /// The news that the semaphore is closed.
    Closed,
}

/// The state word, shared.
#[derive(Debug)]
pub(super) struct Word {
    /// A [`State`].
    bits: AtomicUsize,
}

impl Word {
    const_fn! {
        /// Open, nobody waits, `permits` are free.
        pub(super) const fn new(permits: usize) -> Self {
            Self { bits: AtomicUsize::new(State::free(permits).0) }
        }
    }

    /// The word now.
    pub(super) fn snapshot(&self) -> State {
        // Acquire: pairs with the Release in `give_back` and in `close`: what preceded the releases
        // that the snapshot counts, or the close that it shows, is visible.
        State(self.bits.load(Ordering::Acquire))
    }

    /// Takes `wanted` permits if nobody waits and they are free.
    #[inline]
    pub(super) fn try_take(&self, wanted: usize) -> Take {
        // Relaxed: the CAS below decides, and a close is read again.
        let mut seen = State(self.bits.load(Ordering::Relaxed));
        loop {
            if seen.is_closed() {
                return self.found_closed();
            }
            if !seen.admits(wanted) {
                return Take::Short;
            }
            match self.bits.compare_exchange_weak(
                seen.0,
                seen.less(wanted).0,
                // Acquire: pairs with the Release in `give_back`; what the former holders did
                // under the permits is visible to the new one (W5).
                Ordering::Acquire,
                // Relaxed: only the number is used, for the next attempt.
                Ordering::Relaxed,
            ) {
                Ok(_) => return Take::Taken,
                Err(now) => seen = State(now),
            }
        }
    }

    /// The semaphore was seen closed by a Relaxed load.
    #[cold]
    fn found_closed(&self) -> Take {
        // Read again, now with Acquire: pairs with the Release in `close`, and CLOSED stays (W4),
        // so what preceded the close is visible to the caller that is told of it.
        let state = self.snapshot();
        debug_assert!(state.is_closed());
        Take::Closed
    }

    /// Puts `count` permits back and returns the word as it was before. If that is queued, the
    /// caller takes the lock and hands out (W3).
    #[inline]
    #[must_use = "when somebody is queued, the caller hands out"]
    pub(super) fn give_back(&self, count: usize) -> State {
        // Release: publishes what was done under the permits; pairs with the Acquire in `try_take`,
        // `join` and `hand_over`, whichever takes them next, and in `snapshot`. No Acquire: the
        // returned word only says whether to take the lock, and the lock shows the queue.
        State(self.bits.fetch_add(count * ONE_PERMIT, Ordering::Release))
    }

    /// Comes to the end of the line, under the lock: a last look, then QUEUED. The CAS is on the
    /// whole word, so a release between the look and QUEUED makes it fail and look again.
    pub(super) fn join(&self, wanted: usize) -> Join {
        // Relaxed: CLOSED and QUEUED change only under the lock that is held here, so both are
        // current; the permits are decided by the CAS below.
        let mut seen = State(self.bits.load(Ordering::Relaxed));
        loop {
            if seen.is_closed() {
                return Join::Closed;
            }
            if seen.is_queued() {
                return Join::Queue;
            }
            let admitted = seen.admits(wanted);
            let next = if admitted { seen.less(wanted) } else { seen.queued() };
            match self.bits.compare_exchange_weak(
                seen.0,
                next.0,
                // Acquire: pairs with the Release in `give_back`, for the permits taken here.
                // QUEUED needs no Release: who sees it takes the lock, and that comes after us.
                Ordering::Acquire,
                // Relaxed: only the number is used, for the next attempt.
                Ordering::Relaxed,
            ) {
                Ok(_) if admitted => return Join::Taken,
                Ok(_) => return Join::Queue,
                Err(now) => seen = State(now),
            }
        }
    }

    /// Takes what the front of the line wants, under the lock. `last` says that the queue is empty
    /// once the front has left it; then QUEUED goes in the same step, so that no release falls
    /// between the two: it is counted here, or it finds nobody queued.
    pub(super) fn hand_over(&self, wanted: usize, last: bool) -> HandOver {
        // Relaxed: CLOSED is current under the lock; a release that this misses has seen QUEUED and
        // comes to the lock next (W3).
        let mut seen = State(self.bits.load(Ordering::Relaxed));
        loop {
            if seen.is_closed() {
                if last {
                    self.clear_queued();
                }
                return HandOver::Closed;
            }
            if !seen.covers(wanted) {
                return HandOver::Short;
            }
            let rest = seen.less(wanted);
            let next = if last { rest.unqueued() } else { rest };
            match self.bits.compare_exchange_weak(
                seen.0,
                next.0,
                // Acquire: pairs with the Release in `give_back` of every releaser whose permits
                // go with this; the outcome in the waiter's node carries it on to the waiter.
                Ordering::Acquire,
                // Relaxed: only the number is used, for the next attempt.
                Ordering::Relaxed,
            ) {
                Ok(_) => return HandOver::Permits,
                Err(now) => seen = State(now),
            }
        }
    }

    /// Nobody is in the queue any more; under the lock. A release before this saw QUEUED and finds
    /// the queue empty; its permits are in the word for anybody.
    pub(super) fn clear_queued(&self) {
        // Relaxed: it publishes nothing; W2 is about the lock.
        self.bits.fetch_and(!QUEUED_BIT, Ordering::Relaxed);
    }

    /// Closes, under the lock.
    pub(super) fn close(&self) {
        // Release: publishes what preceded the close; pairs with the Acquire in `snapshot`. Those
        // who wait get it through the lock and their nodes.
        self.bits.fetch_or(CLOSED_BIT, Ordering::Release);
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A state with each field as given.
    fn pack(permits: usize, queued: bool, closed: bool) -> State {
        let state = State::free(permits);
        let state = if queued { state.queued() } else { state };
        if closed { State(state.0 | CLOSED_BIT) } else { state }
    }

    proptest! {
        #[test]
        fn fields_come_out_as_they_went_in(
            permits in 0..=MAX_PERMITS,
            queued: bool,
            closed: bool,
        ) {
            let state = pack(permits, queued, closed);
            prop_assert_eq!(state.permits(), permits);
            prop_assert_eq!(state.is_queued(), queued);
            prop_assert_eq!(state.is_closed(), closed);
        }

        #[test]
        fn each_step_changes_one_field(
            permits in 0..=MAX_PERMITS,
            share in 0.0..=1.0f64,
            queued: bool,
            closed: bool,
        ) {
            let state = pack(permits, queued, closed);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "some number up to `permits`"
            )]
            let wanted = ((permits as f64 * share) as usize).min(permits);
            prop_assert_eq!(state.less(wanted), pack(permits - wanted, queued, closed));
            prop_assert_eq!(state.queued(), pack(permits, true, closed));
            prop_assert_eq!(state.unqueued(), pack(permits, false, closed));
            prop_assert_eq!(state.admits(wanted), wanted == 0 || !queued);
        }

        #[test]
        fn the_word_keeps_what_is_not_its_business(
            permits in 0..=MAX_PERMITS,
            back in 0..=MAX_PERMITS,
        ) {
            let word = Word::new(permits);
            prop_assert_eq!(word.try_take(permits), Take::Taken);
            prop_assert_eq!(word.join(1), Join::Queue);
            prop_assert_eq!(word.try_take(0), Take::Taken);
            prop_assert_eq!(word.try_take(1), Take::Short);
            prop_assert!(word.give_back(back).is_queued());
            prop_assert_eq!(word.snapshot(), pack(back, true, false));
            word.close();
            prop_assert_eq!(word.snapshot(), pack(back, true, true));
            prop_assert_eq!(word.hand_over(back, false), HandOver::Closed);
            prop_assert_eq!(word.snapshot(), pack(back, true, true));
            prop_assert_eq!(word.hand_over(back, true), HandOver::Closed);
            prop_assert_eq!(word.snapshot(), pack(back, false, true));
        }
    }

    #[test]
    fn the_last_hand_over_clears_queued_in_the_same_step() {
        let word = Word::new(3);
        assert_eq!(word.join(4), Join::Queue);
        assert_eq!(word.hand_over(4, true), HandOver::Short);
        assert_eq!(word.snapshot(), pack(3, true, false));
        assert_eq!(word.hand_over(2, false), HandOver::Permits);
        assert_eq!(word.snapshot(), pack(1, true, false));
        assert_eq!(word.hand_over(1, true), HandOver::Permits);
        assert_eq!(word.snapshot(), pack(0, false, false));
    }

    #[test]
    fn coming_late_to_no_line_takes() {
        let word = Word::new(3);
        assert_eq!(word.join(2), Join::Taken);
        assert_eq!(word.snapshot(), pack(1, false, false));
    }
}
