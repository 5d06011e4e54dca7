//! An instant that is looked at again and again: nearly always it is far away, and the kernel's coarse clock tells that.
//!
//! A context with a deadline asks at every look whether that is past. A read of std's clock costs 25 to 35 ns; a read of the
//! kernel's coarse clock (`CLOCK_MONOTONIC_COARSE` of Linux) costs 5 to 12. It is the same clock as of the kernel's last tick, so
//! it is late by a tick: 1 to 10 ms, and more where a hypervisor has taken the processor away.
//!
//! A [`Moment`] remembers what both clocks said once. With `c` of the coarse clock, `left` what was left of the instant then, and
//! [`SLACK`], it remembers `far = c + left - SLACK`.
//!
//! - *Not past.* The coarse clock is read before the other, so `c` is no later than that. While the coarse clock says less than
//!   `far`, and is late by less than `SLACK`, the instant is not past.
//! - *Passed.* The readings are used only if `c` was late by no more than `SLACK`. So the instant is no later than
//!   `far + 2 * SLACK` on the exact clock. The coarse clock is never early: what is no earlier than that by the coarse
//!   clock is no earlier than the instant, however late that clock is.
//!
//! So the last tenth of a second before the instant is told by the exact clock, and a look is late only where the kernel's tick is
//! late by as much. On other systems, and on a clock that is not std's, every look reads the exact clock.
// tidy: std-sync, a word of which every value is true for good: there is nothing for a model to find

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Timer;

/// By how much the coarse clock may be late, in nanoseconds: ten ticks of the slowest kernel.
const SLACK: u64 = 100_000_000;

/// Nothing is known yet: the next look reads both clocks.
const UNKNOWN: u64 = 1;
/// The instant is near, or cannot be known to be far.
const NEAR: u64 = 0;

/// An instant of a timer's clock.
#[derive(Debug)]
pub struct Moment {
    /// The instant.
    at: Instant,
    /// Whose.
    timer: Timer,
    /// Until when it is far away, in nanoseconds of the coarse clock; or [`UNKNOWN`], or [`NEAR`]. Whatever is there stays
    /// true for good, so whoever reads it needs nothing else that another thread wrote.
    far: AtomicU64,
}

/// What a clock has just said.
#[derive(Debug, Clone, Copy)]
pub enum Now {
    /// The timer's clock.
    Exact(Instant),
    /// The coarse clock, in nanoseconds.
    Coarse(u64),
}

impl Moment {
    /// An instant of the clock of `timer`.
    pub fn new(at: Instant, timer: Timer) -> Self {
        let far = if timer.keeps_std_time() { UNKNOWN } else { NEAR };
        Self { at, timer, far: AtomicU64::new(far) }
    }

    /// When.
    #[inline]
    pub fn at(&self) -> Instant {
        self.at
    }

    /// On whose clock.
    #[inline]
    pub fn timer(&self) -> &Timer {
        &self.timer
    }

    /// How long until then, by the timer's clock; zero when it is past.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(self.timer.now())
    }

    /// Whether it is past.
    #[inline]
    pub fn is_past(&self) -> bool {
        let far = self.far();
        let is_far = far > UNKNOWN && kernel::coarse().is_some_and(|now| now < far);
        !is_far && self.look(far)
    }

    /// Whether it is past by what a clock has just said.
    pub fn is_past_by(&self, now: Now) -> bool {
        match now {
            Now::Exact(now) => now >= self.at,
            Now::Coarse(now) => {
                let far = self.far();
                !(far > UNKNOWN && now < far) && self.look(far)
            }
        }
    }

    /// What the coarse clock has said, if `after` from now is certainly no earlier than this.
    #[inline]
    pub fn is_passed_by(&self, after: Duration) -> Option<Now> {
        if self.far() == UNKNOWN {
            self.look(UNKNOWN);
        }
        let far = Some(self.far()).filter(|far| *far > UNKNOWN)?;
        let now = kernel::coarse()?;
        (now.saturating_add(nanos(after)) >= far + 2 * SLACK).then_some(Now::Coarse(now))
    }

    /// Until when it is far away; see the field.
    #[inline]
    fn far(&self) -> u64 {
        // Relaxed: see the field.
        self.far.load(Ordering::Relaxed)
    }

    /// Whether it is past, by the timer's clock. `far` is what was known.
    #[cold]
    fn look(&self, far: u64) -> bool {
        if far == NEAR {
            return self.timer.now() >= self.at;
        }
        // Of one that was far away, the coarse clock has nothing to tell any more.
        let coarse = if far == UNKNOWN { kernel::coarse() } else { None };
        // In this order: see the module's page.
        let now = self.timer.now();
        let exact = kernel::exact();
        let left = self.at.saturating_duration_since(now);
        let far = coarse.zip(exact).and_then(|(coarse, exact)| far_until(coarse, exact, left));
        // Relaxed: see the field.
        self.far.store(far.unwrap_or(NEAR), Ordering::Relaxed);
        now >= self.at
    }
}

/// Until when an instant is far away by the coarse clock, if it is: by what the two clocks said, and what was left of it.
fn far_until(coarse: u64, exact: u64, left: Duration) -> Option<u64> {
    let is_late = exact.saturating_sub(coarse) > SLACK;
    let left = nanos(left).checked_sub(2 * SLACK)?;
    // Three hundred years are enough.
    let far = coarse.checked_add(left + SLACK).filter(|far| *far < u64::MAX / 2)?;
    (!is_late && far > UNKNOWN).then_some(far)
}

/// Nanoseconds; the most that can be told, if it is more.
#[inline]
fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_secs().checked_mul(1_000_000_000);
    nanos.map_or(u64::MAX, |nanos| nanos.saturating_add(u64::from(duration.subsec_nanos())))
}

/// The clocks of the kernel, in nanoseconds.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(selvedge_loom)))]
mod kernel {
    #![allow(unsafe_code, reason = "calls of the C library")]

    /// The coarse one.
    #[inline]
    pub(super) fn coarse() -> Option<u64> {
        read(libc::CLOCK_MONOTONIC_COARSE)
    }

    /// The one that std reads.
    #[inline]
    pub(super) fn exact() -> Option<u64> {
        read(libc::CLOCK_MONOTONIC)
    }

    /// Reads a clock.
    #[inline]
    fn read(clock: libc::clockid_t) -> Option<u64> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: it writes to `time`, and to nothing else.
        let read = unsafe { libc::clock_gettime(clock, &raw mut time) };
        let (seconds, nanos) =
            (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
        (read == 0).then_some(seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos))
    }
}

/// No coarse clock.
#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(selvedge_loom))))]
mod kernel {
    /// None.
    pub(super) fn coarse() -> Option<u64> {
        None
    }

    /// Not asked for.
    pub(super) fn exact() -> Option<u64> {
        None
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::thread;

    use selvedge_testkit::watchdog;

    use super::*;

    /// Long enough that a moment is far away at first.
    const AWAY: Duration = Duration::from_millis(400);

    #[test]
    fn what_is_far_is_not_past_and_what_passes_it_is_later() {
        let second = 1_000_000_000;
        for late in [0, 1, SLACK / 2, SLACK] {
            for left in [0, SLACK, 2 * SLACK - 1, 2 * SLACK, 3 * SLACK, 5 * second] {
                let (exact, coarse) = (1_000 * second, 1_000 * second - late);
                let at = exact + left;
                let Some(far) = far_until(coarse, exact, Duration::from_nanos(left)) else {
                    assert!(left < 2 * SLACK, "{left} is far");
                    continue;
                };
                // The last coarse reading that is far, taken as late as it may be.
                assert!(far - 1 + SLACK <= at);
                // The first that passes it, taken as early as it can be.
                assert!(far + 2 * SLACK >= at);
            }
        }
        let far = Duration::from_secs(3600);
        assert_eq!(far_until(second, second + SLACK + 1, far), None, "the coarse clock is late");
        assert_eq!(far_until(second, second, Duration::MAX), None, "too far to be told");
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }

    #[test]
    fn a_moment_is_past_from_its_instant_on_and_never_before() {
        watchdog(Duration::from_secs(60), "a moment", || {
            let at = Instant::now() + AWAY;
            let moment = Moment::new(at, Timer::thread());
            loop {
                let before = Instant::now();
                let is_past = moment.is_past();
                assert!(is_past || before < at, "late by {:?}", before - at);
                assert!(!is_past || Instant::now() >= at);
                if is_past {
                    break;
                }
                thread::sleep(Duration::from_micros(100));
            }
            assert_eq!(moment.far(), NEAR);
            assert_eq!(moment.remaining(), Duration::ZERO);
            assert!(moment.is_past_by(Now::Exact(at)) && !moment.is_past_by(Now::Exact(at - AWAY)));
        });
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn the_coarse_clock_tells_of_what_is_far_away() {
        let hour = Duration::from_secs(3600);
        let moment = Moment::new(Instant::now() + hour, Timer::thread());
        assert_eq!(moment.far(), UNKNOWN);
        assert!(!moment.is_past());
        assert!(moment.far() > UNKNOWN);
        assert!(moment.is_passed_by(hour / 2).is_none() && moment.is_passed_by(hour).is_none());
        for after in [2 * hour, Duration::MAX] {
            let now = moment.is_passed_by(after).expect("far beyond");
            assert!(!moment.is_past_by(now));
        }
        assert!(moment.is_past_by(Now::Coarse(u64::MAX)) == moment.is_past());
    }

    #[test]
    fn a_clock_that_is_not_stds_is_always_asked() {
        let (timer, clock) = Timer::manual();
        let hour = Duration::from_secs(3600);
        let moment = Moment::new(timer.now() + hour, timer);
        assert!(!moment.is_past() && moment.is_passed_by(2 * hour).is_none());
        clock.advance(hour);
        assert!(moment.is_past());
    }
}
