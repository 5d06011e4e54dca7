//! Time in one word: nanoseconds since a beginning. Std's clock begins once for the process, when it is
//! first read, so that it needs no room and can be had in a constant; a timer's begins when it is given.
// tidy: std-sync, an instant that is set once a process and has no race to model: whoever comes first sets it

use std::sync::LazyLock;
use std::time::Instant;

use selvedge_primitives::time::Timer;

/// No time of a clock.
pub(super) const NEVER: u64 = 0;

/// Where std's clock begins.
static BEGINNING: LazyLock<Instant> = LazyLock::new(|| Timer::thread().now());

/// Tells the time.
#[derive(Debug)]
pub(super) enum Clock {
    /// Std's.
    Std,
    /// A timer's.
    Of {
        /// Whose.
        timer: Timer,
        /// Where it begins.
        beginning: Instant,
    },
}

impl Clock {
    /// The clock of `timer`, which begins now.
    pub(super) fn of(timer: Timer) -> Self {
        let beginning = timer.now();
        Self::Of { timer, beginning }
    }

    /// Nanoseconds since just before the beginning: not [`NEVER`]; no more than 584 years.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        let elapsed = match self {
            Self::Std => {
                let beginning = *BEGINNING;
                Timer::thread().now().saturating_duration_since(beginning)
            }
            Self::Of { timer, beginning } => timer.now().saturating_duration_since(*beginning),
        };
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
    }
}
