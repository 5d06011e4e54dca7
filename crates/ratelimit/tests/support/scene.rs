//! A limiter of which everything is used, for sweeps.

use std::cell::Cell;

use selvedge_ratelimit::{Limiter, ManualClock, Rate, Timer};
use selvedge_testkit::Run;

use super::SEC;

/// Three tokens at once, one a second; none is left. How many seconds went by.
pub(crate) struct Scene {
    pub(crate) limiter: Limiter,
    pub(crate) clock: ManualClock,
    pub(crate) seconds: Cell<u32>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let (timer, clock) = Timer::manual();
        let limiter = Limiter::with_timer(Rate::every(SEC).burst(3), timer);
        limiter.try_acquire(3).unwrap();
        Self { limiter, clock, seconds: Cell::new(0) }
    }

    /// A second goes by.
    pub(crate) fn second(&self) {
        self.clock.advance(SEC);
        self.seconds.set(self.seconds.get() + 1);
    }

    /// What was granted for good, with what is there, is what came: as long as no more than the burst did.
    #[track_caller]
    pub(crate) fn conserves(&self, run: &Run, used: u32) {
        assert_eq!(self.limiter.available() + used, self.seconds.get().min(used + 3));
        assert_eq!((self.limiter.waiting(), self.clock.registered()), (0, 0));
        assert_eq!(run.live_wakers(), 0);
        let left = self.limiter.available();
        assert_eq!(self.limiter.drain(), left, "nobody is in line");
    }
}
