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

use selvedge_primitives::time::nanos;

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
        let mut this = Self { clock, added, began: Instant::now(), first: 0, ahead };
        this.first = this.now();
        this
    }

    /// What it says, and what is added.
    #[inline(always)]
    fn now(&self) -> u64 {
        // Relaxed: a number that only grows; an old one is what a look a moment before would have said.
        let added = self.added.load(Ordering::Relaxed);
        self.clock.delta_as_nanos(0, self.clock.raw()).wrapping_add(added)
    }

    /// Whether it had gone back, and has not any more.
    fn catch_up(&self) -> bool {
        // Relaxed: as in `now`.
        let added = self.added.load(Ordering::Relaxed);
        let counted = self.clock.delta_as_nanos(0, self.clock.raw()).wrapping_add(added);
        let passed = i128::from(nanos(self.began.elapsed())) + i128::from(self.first);
        let ahead = i128::from(counted) - passed;
        // Relaxed: a number that only grows. With an old one this is found out by the next who compares.
        let most_ahead = self.ahead.load(Ordering::Relaxed);
        let behind = u64::try_from(i128::from(most_ahead) - ahead).unwrap_or(0);
        if behind > BEHIND {
            // Relaxed: both, as in `now`. Somebody else may have added as much.
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
            // Relaxed: as above.
            self.ahead.fetch_max(ahead, Ordering::Relaxed);
        }
        false
    }
}

/// Nanoseconds since it was made, by the counter.
#[derive(Clone)]
pub(super) struct Tsc {
    /// The counter.
    counter: &'static Counter,
    /// What it said then.
    start: u64,
}

impl Tsc {
    /// Begins now. The first one of a process measures how fast the counter goes, which may take 200 ms.
    pub(super) fn new() -> Self {
        Self::of(&COUNTER)
    }

    /// Begins now, by this counter.
    pub(super) fn of(counter: &'static Counter) -> Self {
        Self { counter, start: counter.now() }
    }

    /// How long ago that is. Zero, if the counter has gone back behind it.
    #[inline(always)]
    pub(super) fn nanos(&self) -> u64 {
        self.counter.now().saturating_sub(self.start)
    }

    /// Whether it had gone back, and has not any more. Costs a read of that.
    pub(super) fn catch_up(&self) -> bool {
        self.counter.catch_up()
    }
}

impl fmt::Debug for Tsc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tsc").finish_non_exhaustive()
    }
}
