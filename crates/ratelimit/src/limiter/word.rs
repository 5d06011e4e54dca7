//! The state word of a limiter and every transition it makes. No other file touches an atomic.
//!
//! ```text
//!   63                                            1       0
//! +-------------------------------------------------+--------+
//! | granted: tokens that were given out             | QUEUED |
//! +-------------------------------------------------+--------+
//! ```
//!
//! Of the tokens that have come by now, those beyond the burst are gone. So what there is for the taking
//! follows from the word and the clock: with `earned` tokens come so far and `granted` given out,
//! it is `earned + burst - max(granted, earned)`. Nothing has to be written when time goes by.
//!
//! Tokens that come while somebody is in line are wanted, and not gone: there `earned` in the `max` is
//! that of an earlier time, the *horizon*, so that an alarm that rings late loses nothing of what came
//! since.
//!
//! # Invariants
//!
//! - **W1** `granted` grows only by a CAS to a value that is at most `earned + burst`, for an `earned` of
//!   a time that is past. So a clock that was read late or early, or went back, admits nothing
//!   beyond the quota.
//! - **W2** QUEUED changes only under the lock of the line, and whenever that lock is free, it is set
//!   exactly if somebody is in line. While it is set, `granted` grows under the lock only.
//! - **W3** `granted` shrinks only by what was granted and not used (a refund), under the lock of the line,
//!   and never below what had come at the horizon of that moment, counted from the grant: `engine.rs` says
//!   why. Who refunds serves the line afterwards.
//! - **W4** `granted` is at most [`MOST`] and twice the largest burst, so it fits.
//!
//! The orderings are all Relaxed: tokens carry nothing from one who used them to the next. The line has
//! its lock.

use selvedge_primitives::atomic::{AtomicU64, Ordering};

#[cfg(doc)]
use super::accrual::MOST;

/// Somebody is in line.
const QUEUED_BIT: u64 = 1;
/// Where the count begins.
const GRANTED_SHIFT: u32 = 1;

/// The word at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State(
    /// As drawn above.
    u64,
);

impl State {
    /// Tokens that were given out.
    const fn granted(self) -> u64 {
        self.0 >> GRANTED_SHIFT
    }

    /// Whether somebody is in line.
    pub(super) const fn is_queued(self) -> bool {
        self.0 & QUEUED_BIT != 0
    }

    /// With nobody in line.
    const fn unqueued(self) -> Self {
        Self(self.0 & !QUEUED_BIT)
    }

    /// With `wanted` more given out, if `earned` and `burst` cover them. Of what had come at the horizon
    /// what is beyond the burst is gone.
    const fn taking(self, wanted: u32, horizon: u64, earned: u64, burst: u32) -> Option<Self> {
        let granted = self.granted();
        let floor = if granted > horizon { granted } else { horizon };
        let next = floor + wanted as u64;
        if next > earned + burst as u64 {
            return None;
        }
        Some(Self(next << GRANTED_SHIFT | self.0 & QUEUED_BIT))
    }

    /// How many tokens there are for the taking.
    pub(super) const fn available(self, earned: u64, burst: u32) -> u32 {
        let owed = self.granted().saturating_sub(earned);
        // Both fit: what is left is no more than the burst.
        (burst as u64).saturating_sub(owed) as u32
    }

    /// How many tokens must have come before `wanted` are for the taking; `wanted` is not above
    /// `burst`.
    pub(super) const fn needs(self, wanted: u32, burst: u32) -> u64 {
        (self.granted() + wanted as u64).saturating_sub(burst as u64)
    }
}

/// What an attempt to take has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// The tokens are the caller's.
    Taken,
    /// They have not come yet.
    Short,
    /// Others are in line.
    Queued,
}

/// The state word, shared.
#[derive(Debug)]
pub(super) struct Word {
    /// A [`State`].
    bits: AtomicU64,
}

impl Word {
    /// Nothing given out, nobody in line.
    pub(super) fn new() -> Self {
        Self { bits: AtomicU64::new(0) }
    }

    /// The word now.
    #[inline]
    pub(super) fn snapshot(&self) -> State {
        // Relaxed: as all here, see the header.
        State(self.bits.load(Ordering::Relaxed))
    }

    /// Puts `next` where `seen` was seen; what is there instead, if it changed.
    #[inline]
    fn exchange(&self, seen: State, next: State) -> Result<(), State> {
        let exchanged = self.bits.compare_exchange_weak(
            seen.0,
            next.0,
            // Relaxed: see the header.
            Ordering::Relaxed,
            // Relaxed: only the number is used, for the next attempt.
            Ordering::Relaxed,
        );
        exchanged.map(drop).map_err(State)
    }

    /// Takes `wanted` tokens if nobody is in line. The clock is read by `earned` after the word; one
    /// that was read before somebody else changed it is read again before it refuses.
    #[inline]
    pub(super) fn try_take(&self, wanted: u32, burst: u32, earned: impl Fn() -> u64) -> Take {
        let mut seen = self.snapshot();
        if seen.is_queued() {
            return Take::Queued;
        }
        let mut by_now = earned();
        let mut stale = false;
        loop {
            match seen.taking(wanted, by_now, by_now, burst) {
                Some(next) => match self.exchange(seen, next) {
                    Ok(()) => return Take::Taken,
                    Err(now) => (seen, stale) = (now, true),
                },
                None if stale => (by_now, stale) = (earned(), false),
                None => return Take::Short,
            }
            if seen.is_queued() {
                return Take::Queued;
            }
        }
    }

    /// Comes to the line, which is empty, under its lock: takes `wanted` tokens, or sets QUEUED. Then
    /// the caller enters the line before it lets go of the lock.
    pub(super) fn take_or_queue(&self, wanted: u32, burst: u32, earned: u64) -> Take {
        let mut seen = self.snapshot();
        loop {
            let (next, take) = match seen.taking(wanted, earned, earned, burst) {
                Some(next) => (next, Take::Taken),
                None => (State(seen.0 | QUEUED_BIT), Take::Short),
            };
            match self.exchange(seen, next) {
                Ok(()) => return take,
                Err(now) => seen = now,
            }
        }
    }

    /// Under the lock of the line: takes `wanted` tokens for its front, if they have come, and gives how
    /// many are granted then. With the last of the line QUEUED goes.
    pub(super) fn hand_over(
        &self,
        wanted: u32,
        horizon: u64,
        earned: u64,
        burst: u32,
        last: bool,
    ) -> Option<u64> {
        let mut seen = self.snapshot();
        loop {
            let next = seen.taking(wanted, horizon, earned, burst)?;
            match self.exchange(seen, if last { next.unqueued() } else { next }) {
                Ok(()) => return Some(next.granted()),
                Err(now) => seen = now,
            }
        }
    }

    /// Under the lock of the line: nobody is in it any more.
    pub(super) fn clear_queued(&self) {
        // Relaxed: see the header.
        self.bits.fetch_and(!QUEUED_BIT, Ordering::Relaxed);
    }

    /// Under the lock of the line: gives back up to `count` tokens that were granted and not used, of
    /// those that are `above` the horizon, which is read after the word. Returns how many.
    pub(super) fn refund(&self, count: u32, above: impl Fn() -> u64) -> u64 {
        let mut seen = self.snapshot();
        loop {
            let back = above().min(u64::from(count));
            match self.exchange(seen, State(seen.0 - (back << GRANTED_SHIFT))) {
                Ok(()) => return back,
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_back_admits_nothing() {
        let word = Word::new();
        assert_eq!(word.try_take(3, 3, || 10), Take::Taken);
        for earned in [9, 10, 0] {
            assert_eq!(word.try_take(1, 3, || earned), Take::Short);
            assert_eq!(word.hand_over(1, 0, earned, 3, true), None);
        }
        assert_eq!(word.try_take(1, 3, || 11), Take::Taken);
    }

    #[test]
    fn the_ends_of_the_count_fit() {
        use crate::limiter::accrual::MOST;

        let word = Word::new();
        assert_eq!(word.try_take(u32::MAX, u32::MAX, || MOST), Take::Taken);
        assert_eq!(word.try_take(1, u32::MAX, || MOST), Take::Short);
        let state = word.snapshot();
        assert_eq!(state.granted(), MOST + u64::from(u32::MAX));
        assert_eq!(state.available(MOST, u32::MAX), 0);
        assert_eq!(state.needs(u32::MAX, u32::MAX), state.granted());
        assert_eq!(word.refund(u32::MAX, || u64::MAX), u64::from(u32::MAX));
        assert_eq!(word.snapshot().granted(), MOST);
    }
}
