//! The clock of a limiter: whole nanoseconds since it was made, and the timer that goes with it. It begins at one, so that there
//! is a time before.

use std::time::Instant;

use selvedge_primitives::time::{Elapsed, Timer};

/// By how much the coarse clock is late at most, in nanoseconds: two ticks of the slowest kernel.
pub(crate) const LATE: u64 = 20_000_000;

/// A clock, and the timer that rings by it.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Since when.
    elapsed: Elapsed,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn new(timer: Timer) -> Self {
        Self { elapsed: Elapsed::new(timer) }
    }

    /// Nanoseconds since the count began, and one; at most 584 years. A clock that goes back may say less than before.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.elapsed.nanos().saturating_add(1)
    }

    /// As [`now`](Self::now), for less, and late: by less than [`LATE`], while the kernel's tick is not late itself. None if there is no such
    /// clock.
    #[inline]
    pub(crate) fn coarse(&self) -> Option<u64> {
        Some(self.elapsed.coarse_nanos()?.saturating_add(1))
    }

    /// The instant of such a time, for the timer. None if there is none.
    pub(crate) fn at(&self, nanos: u64) -> Option<Instant> {
        self.elapsed.at(nanos.saturating_sub(1))
    }

    /// What rings.
    pub(crate) fn timer(&self) -> &Timer {
        self.elapsed.timer()
    }
}
