//! The time-stamp counter of the processor, by way of quanta.
//!
//! The counter may leap, or go back: where the cores' are apart, or when a virtual machine is moved. So whoever comes to a limiter's lock, or is about to
//! be refused for longer than can be by the quota, compares it with std's clock. If less has passed by the counter than by that since they were
//! compared before, what is missing is [added](Counter::catch_up) to whatever it says, for all limiters of the process. It is never taken away again: a
//! counter that comes back to where it was has leapt forward.
// tidy: std-sync, a sum that only grows, of which every value is right for whoever reads it: nothing for a model to find

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use selvedge_primitives::time::{nanos, ticks};

use super::LATE;

/// By how much the counter may go back, in nanoseconds: so much is waited out.
pub(super) const BEHIND: u64 = 2 * LATE;
/// Less is not noted, so that not everybody writes.
const WORTH_NOTING: u64 = 1_000_000;

/// The counter of the process.
static COUNTER: LazyLock<Counter> = LazyLock::new(|| Counter::new(quanta::Clock::new()));

/// A counter, and by how much it has been behind.
pub(super) struct Counter {
    /// Reads and scales it. On processors whose counter does not go evenly it reads the system's clock.
    clock: quanta::Clock,
    /// Nanoseconds a tick, by 2^63, if that is the processor's own counter, which is read here then. Else zero, and quanta does all.
    multiplier: u64,
    /// What is added.
    added: AtomicU64,
    /// When it was compared with std's clock first.
    began: Instant,
    /// What it said then.
    first: u64,
    /// By how much it has been ahead since, at most, as far as anybody has compared them.
    ahead: AtomicU64,
}

impl Counter {
    /// Compares it with std's clock from now on.
    pub(super) fn new(clock: quanta::Clock) -> Self {
        let [added, ahead] = [0, 0].map(AtomicU64::new);
        // Two nanoseconds a tick or more do not fit.
        let is_fast = clock.delta_as_nanos(0, 1 << 40) < 1 << 41;
        let is_own = (0..8).all(|_| {
            let (before, raw, after) = (ticks(), clock.raw(), ticks());
            before.is_some_and(|before| before <= raw) && after.is_some_and(|after| raw <= after)
        });
        let multiplier = if is_fast && is_own { clock.delta_as_nanos(0, 1 << 63) } else { 0 };
        let began = Instant::now();
        let mut this = Self { clock, multiplier, added, began, first: 0, ahead };
        this.first = this.now();
        this
    }

    /// What it says, and what is added.
    fn now(&self) -> u64 {
        self.counted().wrapping_add(self.added())
    }

    /// What is added.
    #[inline(always)]
    fn added(&self) -> u64 {
        // Relaxed: a number that only grows; an old one is what a look a moment before would have said.
        self.added.load(Ordering::Relaxed)
    }

    /// What it says, in nanoseconds.
    #[inline(always)]
    fn counted(&self) -> u64 {
        match ticks() {
            Some(ticks) if self.multiplier != 0 => {
                ((u128::from(ticks << 1) * u128::from(self.multiplier)) >> 64) as u64
            }
            _ => self.by_quanta(),
        }
    }

    /// The same, on other processors.
    #[cold]
    fn by_quanta(&self) -> u64 {
        self.clock.delta_as_nanos(0, self.clock.raw())
    }

    /// Whether it had gone back, and has not any more.
    fn catch_up(&self) -> bool {
        let added = self.added();
        let counted = self.counted().wrapping_add(added);
        let passed = i128::from(nanos(self.began.elapsed())) + i128::from(self.first);
        let ahead = i128::from(counted) - passed;
        // Relaxed: a number that only grows. With an old one this is found out by the next who compares.
        let most_ahead = self.ahead.load(Ordering::Relaxed);
        let behind = u64::try_from(i128::from(most_ahead) - ahead).unwrap_or(0);
        if behind > BEHIND {
            // Relaxed: both, as in `added`. Somebody else may have added as much.
            let _ = self.added.compare_exchange(
                added,
                added.wrapping_add(behind),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            return true;
        }
        let ahead = u64::try_from(ahead).unwrap_or(0);
        if ahead > most_ahead.saturating_add(WORTH_NOTING) {
            let more = |most_ahead| (most_ahead < ahead).then_some(ahead);
            // Relaxed: both, as above.
            let _ = self.ahead.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
        false
    }
}

/// Nanoseconds since just before it was made, by the counter.
#[derive(Clone)]
pub(super) struct Tsc {
    /// The counter.
    counter: &'static Counter,
    /// What it said one nanosecond before.
    start: u64,
}

impl Tsc {
    /// Begins now. The first one of a process measures how fast the counter goes, which may take 200 ms.
    pub(super) fn new() -> Self {
        Self::of(&COUNTER)
    }

    /// Begins now, by this counter.
    pub(super) fn of(counter: &'static Counter) -> Self {
        Self { counter, start: counter.now().wrapping_sub(1) }
    }

    /// How long ago that is; at most 292 years. One, if the counter has gone back behind it.
    #[inline(always)]
    pub(super) fn nanos(&self) -> u64 {
        // Two numbers that are there before the counter is read.
        let shift = self.counter.added().wrapping_sub(self.start);
        match self.counter.counted().wrapping_add(shift) {
            0 => 1,
            nanos if nanos > i64::MAX as u64 => 1,
            nanos => nanos,
        }
    }

    /// Whether it had gone back, and has not any more. Costs a read of std's clock.
    pub(super) fn catch_up(&self) -> bool {
        self.counter.catch_up()
    }
}

impl fmt::Debug for Tsc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tsc").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_counter_says_what_quanta_says() {
        let counter = Counter::new(quanta::Clock::new());
        for _ in 0..1_000 {
            let (before, counted, after) =
                (counter.by_quanta(), counter.counted(), counter.by_quanta());
            assert!((before..=after).contains(&counted), "{before} {counted} {after}");
        }
    }
}
