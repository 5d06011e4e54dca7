//! The time-stamp counter of the processor, by way of quanta.

use std::fmt;

/// Nanoseconds since it was made, by the counter.
#[derive(Clone)]
pub(super) struct Tsc {
    /// Reads and scales it. On processors whose counter does not go evenly it reads the system's clock.
    clock: quanta::Clock,
    /// What it said then.
    start: u64,
}

impl Tsc {
    /// Begins now. The first one of a process measures how fast the counter goes, which may take 200 ms.
    pub(super) fn new() -> Self {
        let clock = quanta::Clock::new();
        Self { start: clock.raw(), clock }
    }

    /// How long ago that is. Zero, if the counter of this core is behind.
    #[inline(always)]
    pub(super) fn nanos(&self) -> u64 {
        self.clock.delta_as_nanos(self.start, self.clock.raw())
    }
}

impl fmt::Debug for Tsc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tsc").finish_non_exhaustive()
    }
}
