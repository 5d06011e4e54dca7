//! How to wait for somebody who is about to be done, without being told.

use std::fmt;

/// Waits: first by spinning, twice as long each time, then by giving the processor away, then by
/// sleeping for 50 us, so that also somebody of a lower priority gets to run.
///
/// For what takes nanoseconds unless the other thread was preempted. Under loom each wait is a yield.
#[derive(Default)]
pub struct Backoff {
    /// How often it has waited.
    step: u32,
}

/// As many waits spin, twice as long each time.
const SPINS: u32 = 6;
/// As many more give the processor away.
const YIELDS: u32 = 10;

impl Backoff {
    /// Has not waited yet.
    pub const fn new() -> Self {
        Self { step: 0 }
    }

    /// Waits.
    #[cfg(not(selvedge_loom))]
    pub fn snooze(&mut self) {
        match self.step {
            step if step < SPINS => (0..1 << step).for_each(|_| std::hint::spin_loop()),
            step if step < SPINS + YIELDS => std::thread::yield_now(),
            _ => std::thread::sleep(std::time::Duration::from_micros(50)),
        }
        self.step = self.step.saturating_add(1);
    }

    /// Yields.
    #[cfg(selvedge_loom)]
    pub fn snooze(&mut self) {
        let _ = (SPINS, YIELDS, self.step);
        loom::thread::yield_now();
    }
}

impl Backoff {
    /// Whether it has waited for longer than what takes nanoseconds should last. Under loom always.
    pub fn has_spun(&self) -> bool {
        cfg!(selvedge_loom) || self.step >= SPINS
    }

    /// Whether it has slept.
    pub fn has_slept(&self) -> bool {
        self.step > SPINS + YIELDS
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff").field("step", &self.step).finish()
    }
}
