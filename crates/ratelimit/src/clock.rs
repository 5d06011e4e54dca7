//! The clock of a limiter: whole nanoseconds since it was made, and the timer that goes with it. It begins at one, so that there
//! is a time before.
// tidy: std-sync, a number that is asked for once a process and has no race to model: whoever comes first sets it

#[cfg(feature = "coarse")]
mod coarse;
#[cfg(feature = "tsc")]
mod tsc;

use std::sync::LazyLock;
#[cfg(feature = "tsc")]
use std::time::Duration;
use std::time::Instant;

use selvedge_primitives::time::{Elapsed, Timer, coarse_tick};

#[cfg(feature = "coarse")]
pub use coarse::CoarseClock;
#[cfg(feature = "tsc")]
use tsc::Tsc;

use crate::bucket::course::{Course, Lack};

/// By how much a coarse clock is late at most, in nanoseconds: two ticks of the slowest kernel.
pub(crate) const LATE: u64 = 20_000_000;

/// For so long a hypervisor takes the processor away that keeps the tick, in nanoseconds; seldom for longer.
const TAKEN: u64 = 8_000_000;

/// By how much that of this kernel is: two ticks, or what a hypervisor may take away, if that is more.
static KERNEL: LazyLock<u64> =
    LazyLock::new(|| coarse_tick().map_or(LATE, |tick| tick.saturating_mul(2).clamp(TAKEN, LATE)));

/// By how much the [coarse](Clock::coarse) clock is late at most, in nanoseconds.
pub(crate) fn late() -> u64 {
    #[cfg(feature = "coarse")]
    if coarse::is_kept() {
        return LATE;
    }
    *KERNEL
}

/// A clock, and the timer that rings by it. Clones say the same.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// Since when, by the clock of the timer.
    elapsed: Elapsed,
    /// The counter of the processor, if that is to be read.
    #[cfg(feature = "tsc")]
    tsc: Option<Tsc>,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn new(timer: Timer) -> Self {
        Self {
            elapsed: Elapsed::new(timer),
            #[cfg(feature = "tsc")]
            tsc: None,
        }
    }

    /// A clock that begins now, and reads the counter of the processor.
    #[cfg(feature = "tsc")]
    pub(crate) fn tsc() -> Self {
        Self { elapsed: Elapsed::new(Timer::thread()), tsc: Some(Tsc::new()) }
    }

    /// Nanoseconds since the count began, and one; at most 584 years. A clock that goes back may say less than before.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        #[cfg(feature = "tsc")]
        if let Some(tsc) = &self.tsc {
            return tsc.nanos();
        }
        self.elapsed.nanos()
    }

    /// Whether it is one that may go back.
    #[inline]
    pub(crate) fn may_go_back(&self) -> bool {
        #[cfg(feature = "tsc")]
        return self.tsc.is_some();
        #[cfg(not(feature = "tsc"))]
        false
    }

    /// Whether it had gone back far, and has not any more. Only the counter of the processor goes back; for whoever comes to a lock, or is refused for longer
    /// than can be by the quota.
    #[inline]
    pub(crate) fn catch_up(&self) -> bool {
        #[cfg(feature = "tsc")]
        if let Some(tsc) = &self.tsc {
            return tsc.catch_up();
        }
        false
    }

    /// Whether a lack of so many tokens, on that course, is one of a clock that had gone back far, and has not any more.
    #[inline]
    pub(crate) fn was_back(&self, lack: &Lack, course: &Course, tokens: u32) -> bool {
        let is_suspect = self.may_go_back() && lack.is_suspect(course.units(tokens), 2 * LATE);
        // Somebody else may have seen to it meanwhile.
        is_suspect && (self.catch_up() || course.is_later(lack, self.now(), 2 * LATE))
    }

    /// Nanoseconds since the count began, and one, by std's clock where [`now`](Self::now) goes by that or by the processor's counter; for less, and
    /// late; and by how much it is late at most, while the kernel's tick is not late itself, or whoever keeps a coarse clock. None if there is no such
    /// clock.
    #[inline(always)]
    pub(crate) fn coarse(&self) -> Option<(u64, u64)> {
        #[cfg(feature = "coarse")]
        if let Some(nanos) = coarse::since(&self.elapsed) {
            return Some((nanos, LATE));
        }
        Some((self.elapsed.coarse_nanos()?, *KERNEL))
    }

    /// What the exact clock says of which there is a [coarse](Self::coarse) one, if there is one.
    pub(crate) fn by_std(&self) -> Option<u64> {
        self.elapsed.is_by_kernel().then(|| self.elapsed.nanos())
    }

    /// The instant of such a time, for the timer. None if there is none.
    pub(crate) fn at(&self, nanos: u64) -> Option<Instant> {
        #[cfg(feature = "tsc")]
        if self.tsc.is_some() {
            // By std's clock, from now on: the counter may go otherwise. One that rings too early is set anew.
            self.catch_up();
            let left = Duration::from_nanos(nanos.saturating_sub(self.now()));
            return Instant::now().checked_add(left);
        }
        self.elapsed.at(nanos)
    }

    /// What rings.
    pub(crate) fn timer(&self) -> &Timer {
        self.elapsed.timer()
    }
}

#[cfg(all(test, feature = "tsc", not(selvedge_loom)))]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;

    /// In nanoseconds.
    pub(crate) const HOUR: u64 = 3_600_000_000_000;

    /// A clock by a counter that is moved by hand.
    pub(crate) fn counted() -> (Clock, Arc<quanta::Mock>) {
        let (counter, hand) = quanta::Clock::mock();
        hand.increment(HOUR);
        let tsc = Some(Tsc::of(Box::leak(Box::new(tsc::Counter::new(counter)))));
        (Clock { elapsed: Elapsed::new(Timer::thread()), tsc }, hand)
    }

    #[test]
    fn a_counter_that_goes_back_is_brought_up_to_where_it_was() {
        let (clock, hand) = counted();
        hand.decrement(HOUR);
        assert_eq!(clock.now(), 1);
        assert!(clock.catch_up() && !clock.catch_up());
        // As much as by std's clock, since they began.
        assert!(clock.now() < HOUR);
        hand.increment(HOUR);
        assert!((HOUR..2 * HOUR).contains(&clock.now()));
        // It has leapt, which is noted, and comes back.
        assert!(!clock.catch_up());
        hand.decrement(HOUR);
        assert!(clock.now() < HOUR && clock.catch_up());
        assert!((HOUR..2 * HOUR).contains(&clock.now()));
    }
}
