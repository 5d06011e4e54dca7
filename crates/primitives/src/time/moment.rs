//! An instant that is looked at again and again: nearly always it is far away, and the kernel's coarse clock tells that.
//!
//! A context with a deadline asks at every look whether that is past. A read of std's clock costs 25 to 35 ns; a read of
//! the kernel's coarse clock (`CLOCK_MONOTONIC_COARSE` of Linux) costs 5 to 12. It is the same clock as of the kernel's
//! last tick: it is never early, and late by a tick, 1 to 10 ms, or by more where a hypervisor has taken the processor
//! away.
//!
//! Std tells no numbers of its instants. So once a process an [`Instant`] is read between two reads of the kernel's clock; by
//! the first of these and by what lies between two instants, a [`Moment`] knows its number `n` on the kernel's clock. The
//! true number is no less, and more by what lay between the two reads at most, which is far below [`SLACK`], or else this is not
//! used.
//!
//! - *Not past.* While the coarse clock says less than `n - SLACK`, and is late by less than `SLACK`, the instant is not past.
//! - *Passed.* What is at least `n + SLACK` by the coarse clock is no earlier than the instant, however late that clock is.
//!
//! So the last tenth of a second before the instant is told by the exact clock, and a look is late only where the kernel's tick is
//! late by as much. On other systems, and on a clock that is not std's, every look reads the exact clock.
// tidy: std-sync, a word of which every value is true for good, and what is asked for once: nothing for a model to find

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Timer;

/// By how much the coarse clock may be late, in nanoseconds: ten ticks of the slowest kernel.
const SLACK: u64 = 100_000_000;

/// The instant is near, or its number is not known.
const NEAR: u64 = 0;

/// An instant of a timer's clock.
#[derive(Debug)]
pub struct Moment {
    /// The instant.
    at: Instant,
    /// Whose.
    timer: Timer,
    /// Until when it is far away by the coarse clock, or [`NEAR`]. Whatever is there stays true for good, so whoever reads it
    /// needs nothing else that another thread wrote.
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
        let number = if timer.keeps_std_time() { kernel::number(at) } else { None };
        let far = number.and_then(|number| number.checked_sub(SLACK));
        Self { at, timer, far: AtomicU64::new(far.unwrap_or(NEAR)) }
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
        let is_far = far != NEAR && kernel::coarse().is_some_and(|now| now < far);
        !is_far && self.look(far)
    }

    /// Whether it is past by what a clock has just said.
    pub fn is_past_by(&self, now: Now) -> bool {
        match now {
            Now::Exact(now) => now >= self.at,
            Now::Coarse(now) => {
                let far = self.far();
                now >= far && self.look(far)
            }
        }
    }

    /// What the coarse clock has said, if `after` from now is certainly no earlier than this.
    #[inline]
    pub fn is_passed_by(&self, after: Duration) -> Option<Now> {
        let far = Some(self.far()).filter(|far| *far != NEAR)?;
        let now = kernel::coarse()?;
        (now.saturating_add(nanos(after)) >= far + 2 * SLACK).then_some(Now::Coarse(now))
    }

    /// Until when it is far away; see the field.
    #[inline]
    fn far(&self) -> u64 {
        // Relaxed: see the field.
        self.far.load(Ordering::Relaxed)
    }

    /// Whether it is past, by the timer's clock. It is not far away any more, if it was until `far`.
    #[cold]
    fn look(&self, far: u64) -> bool {
        if far != NEAR {
            // Relaxed: see the field.
            self.far.store(NEAR, Ordering::Relaxed);
        }
        self.timer.now() >= self.at
    }
}

/// Nanoseconds since just before an origin, on the clock of a timer: a number, never zero, which is cheaper to reckon with than an [`Instant`], and where the
/// clock is the kernel's, cheaper to read.
#[derive(Debug, Clone)]
pub struct Elapsed {
    /// The timer.
    timer: Timer,
    /// When the count began, or a moment later.
    origin: Instant,
    /// The number before that moment's, if the kernel counts.
    start: Option<u64>,
}

impl Elapsed {
    /// Begins now, with one.
    pub fn new(timer: Timer) -> Self {
        // The number first: what is due by the number is due by the instant no earlier.
        let start = if timer.keeps_std_time() { kernel::exact() } else { None };
        let start = start.and_then(|start| start.checked_sub(1));
        Self { origin: timer.now(), start, timer }
    }

    /// How long ago that is; at most 584 years. A clock that goes back may say less than before, and one before its beginning.
    #[inline(always)]
    pub fn nanos(&self) -> u64 {
        match self.start {
            Some(start) => since(start, kernel::exact().unwrap_or(start)),
            None => self.by_timer(),
        }
    }

    /// The same, by a clock that is not the kernel's.
    fn by_timer(&self) -> u64 {
        nanos(self.timer.now().saturating_duration_since(self.origin)).saturating_add(1)
    }

    /// The same by the kernel's coarse clock, if there is one: late by a tick, 1 to 10 ms, or by more where a hypervisor has taken the
    /// processor away; never early.
    #[inline(always)]
    pub fn coarse_nanos(&self) -> Option<u64> {
        self.since_start(kernel::coarse()?)
    }

    /// The same where the kernel's count says `now`, if it is by that. See [`monotonic`].
    #[inline(always)]
    pub fn since_start(&self, now: u64) -> Option<u64> {
        Some(since(self.start?, now))
    }

    /// Whether the kernel counts: then there may be a coarse clock of the same count.
    pub fn is_by_kernel(&self) -> bool {
        self.start.is_some()
    }

    /// The instant at which so much has elapsed, or a moment later. None if there is none.
    pub fn at(&self, nanos: u64) -> Option<Instant> {
        self.origin.checked_add(Duration::from_nanos(nanos.saturating_sub(1)))
    }

    /// The timer.
    pub fn timer(&self) -> &Timer {
        &self.timer
    }
}

/// From one number of the kernel's to another; at least one. A branch: who waits for the result does not wait for this.
#[inline(always)]
fn since(start: u64, now: u64) -> u64 {
    if now > start { now - start } else { 1 }
}

/// Std's clock as the kernel counts, in nanoseconds, if it tells.
#[inline]
pub fn monotonic() -> Option<u64> {
    kernel::exact()
}

/// How long a tick of the kernel's coarse clock is, in nanoseconds, if there is such a clock.
pub fn coarse_tick() -> Option<u64> {
    kernel::tick()
}

/// Nanoseconds; the most that can be told, if it is more.
#[inline]
pub const fn nanos(duration: Duration) -> u64 {
    match duration.as_secs().checked_mul(1_000_000_000) {
        Some(nanos) => nanos.saturating_add(duration.subsec_nanos() as u64),
        None => u64::MAX,
    }
}

/// The clocks of the kernel, in nanoseconds.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(selvedge_loom)))]
mod kernel {
    #![expect(unsafe_code, reason = "calls of the C library")]

    use std::sync::LazyLock;
    use std::time::Instant;

    use super::nanos;

    /// The most that may lie between two reads of the clock, in nanoseconds: a hundredth of the slack.
    const BETWEEN: u64 = 1_000_000;
    /// How often they are read, so that one is not interrupted.
    const READINGS: u32 = 8;
    /// How long a tick is at least, in nanoseconds. Less says that the coarse clock is not one, and may be dear.
    const TICK: u64 = 1_000_000;

    /// An instant and its number, if the coarse clock is of use.
    static BASE: LazyLock<Option<(Instant, u64)>> = LazyLock::new(|| {
        let read = || {
            let before = call(libc::CLOCK_MONOTONIC, libc::clock_gettime)?;
            let instant = Instant::now();
            let after = call(libc::CLOCK_MONOTONIC, libc::clock_gettime)?;
            Some((after.checked_sub(before)?, (instant, before)))
        };
        let (between, base) = (0..READINGS).filter_map(|_| read()).min_by_key(|(took, _)| *took)?;
        (tick()? >= TICK && between <= BETWEEN).then_some(base)
    });

    /// The number of an instant, if it is not in the past of a clock's first reading, nor three hundred years away.
    pub(super) fn number(at: Instant) -> Option<u64> {
        let (instant, number) = (*BASE)?;
        let since = nanos(at.checked_duration_since(instant)?);
        number.checked_add(since).filter(|number| *number < u64::MAX / 2)
    }

    /// What the clock says that is std's.
    #[inline]
    pub(super) fn exact() -> Option<u64> {
        call(libc::CLOCK_MONOTONIC, libc::clock_gettime)
    }

    /// What the coarse clock says.
    #[inline]
    pub(super) fn coarse() -> Option<u64> {
        call(libc::CLOCK_MONOTONIC_COARSE, libc::clock_gettime)
    }

    /// The grain of the coarse clock.
    pub(super) fn tick() -> Option<u64> {
        call(libc::CLOCK_MONOTONIC_COARSE, libc::clock_getres)
    }

    /// Asks for the time, or for the grain, of a clock.
    #[inline]
    fn call(
        clock: libc::clockid_t,
        ask: unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> libc::c_int,
    ) -> Option<u64> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both write to `time`, and to nothing else.
        let failed = unsafe { ask(clock, &raw mut time) } != 0;
        let (seconds, nanos) =
            (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
        (!failed).then_some(seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos))
    }
}

/// No coarse clock.
#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(selvedge_loom))))]
mod kernel {
    use std::time::Instant;

    /// Not known.
    pub(super) fn number(_: Instant) -> Option<u64> {
        None
    }

    /// None.
    pub(super) fn exact() -> Option<u64> {
        None
    }

    /// None.
    pub(super) fn coarse() -> Option<u64> {
        None
    }

    /// None.
    pub(super) fn tick() -> Option<u64> {
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
    const HOUR: Duration = Duration::from_secs(3600);

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
            assert!(moment.is_past_by(Now::Coarse(0)));
        });
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn the_coarse_clock_tells_of_what_is_far_away() {
        let moment = Moment::new(Instant::now() + HOUR, Timer::thread());
        let (far, now) = (moment.far(), kernel::coarse().expect("there is one"));
        let minute = 60_000_000_000;
        assert!(far.abs_diff(now + nanos(HOUR)) < minute, "the number is off: {far}, {now}");
        assert!(!moment.is_past() && moment.far() == far);
        for after in [Duration::ZERO, HOUR / 2, HOUR - Duration::from_secs(60)] {
            assert!(moment.is_passed_by(after).is_none());
        }
        for after in [HOUR + Duration::from_secs(60), Duration::MAX] {
            assert!(!moment.is_past_by(moment.is_passed_by(after).expect("far beyond")));
        }
        assert!(!moment.is_past_by(Now::Coarse(far)) && moment.far() == NEAR);
        assert!(!moment.is_past() && moment.is_passed_by(Duration::MAX).is_none());
    }

    #[test]
    fn what_has_no_number_is_told_by_the_exact_clock() {
        let now = Instant::now();
        let past = now.checked_sub(HOUR).unwrap_or(now);
        let beyond = now.checked_add(400 * 365 * 24 * HOUR).expect("an instant");
        for (at, is_past) in [(past, true), (beyond, false)] {
            let moment = Moment::new(at, Timer::thread());
            assert!(moment.far() == NEAR && moment.is_past() == is_past);
        }
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }

    #[test]
    fn a_clock_that_is_not_stds_is_always_asked() {
        let (timer, clock) = Timer::manual();
        let moment = Moment::new(timer.now() + HOUR, timer);
        assert!(!moment.is_past() && moment.is_passed_by(2 * HOUR).is_none());
        clock.advance(HOUR);
        assert!(moment.is_past());
    }
}
