//! Time in one word: nanoseconds since a beginning. Std's clock begins once for the process, when it is
//! first read, so that it needs no room and can be had in a constant; a timer's begins when it is given.
// tidy: std-sync, an instant that is set once a process and has no race to model: whoever comes first sets it

use std::sync::LazyLock;

use selvedge_primitives::time::{Elapsed, Timer};

/// No time of a clock.
pub(super) const NEVER: u64 = 0;

/// Std's clock.
static STD: LazyLock<Elapsed> = LazyLock::new(|| Elapsed::new(Timer::thread()));

/// Tells the time.
#[derive(Debug)]
pub(super) enum Clock {
    /// Std's.
    Std,
    /// A timer's.
    Of(Elapsed),
}

impl Clock {
    /// The clock of `timer`, which begins now.
    pub(super) fn of(timer: Timer) -> Self {
        Self::Of(Elapsed::new(timer))
    }

    /// Nanoseconds since just before the beginning: not [`NEVER`]; no more than 584 years.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        let elapsed = match self {
            Self::Std => &*STD,
            Self::Of(elapsed) => elapsed,
        };
        elapsed.nanos()
    }
}
