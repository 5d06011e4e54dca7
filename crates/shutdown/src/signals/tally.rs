//! The tally of the signals that were heard: two words that a signal handler may touch.
//!
//! A handler interrupts whatever its thread was doing, so it takes no lock: it leaves the first
//! signal's number and counts. Whoever reads a count that is not zero finds the number there.

use selvedge_primitives::atomic::{AtomicU8, AtomicU32, Ordering};
use selvedge_primitives::const_fn;

use crate::Signal;

/// Which signal was first, and how many there were.
pub(super) struct Tally {
    /// The number of the first; zero while there was none.
    first: AtomicU8,
    /// How many.
    count: AtomicU32,
}

impl Tally {
    const_fn! {
        /// Nothing was heard.
        pub(super) const fn new() -> Self {
            Self { first: AtomicU8::new(0), count: AtomicU32::new(0) }
        }
    }

    /// Counts a signal, and says how many there were before it. Async-signal-safe.
    pub(super) fn add(&self, signal: Signal) -> u32 {
        let number = signal.number();
        // Relaxed: the Release below publishes it. On failure another signal was first.
        let _ = self.first.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        // Release: publishes `first`, which is set by now; pairs with the Acquire in `read`.
        self.count.fetch_add(1, Ordering::Release)
    }

    /// The first signal and how many there were; none while there was none.
    pub(super) fn read(&self) -> Option<(Signal, u32)> {
        // Acquire: pairs with the Release in `add`: with a count that is not zero, `first` is there.
        let count = self.count.load(Ordering::Acquire);
        if count == 0 {
            return None;
        }
        // Relaxed: see above; it does not change any more.
        let number = self.first.load(Ordering::Relaxed);
        let signal = if number == Signal::Interrupt.number() {
            Signal::Interrupt
        } else {
            debug_assert_eq!(number, Signal::Terminate.number(), "left before it is counted");
            Signal::Terminate
        };
        Some((signal, count))
    }
}
