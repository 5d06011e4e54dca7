//! What can be said about a limiter beside its quota.

use std::borrow::Cow;
use std::time::Duration;

use selvedge_primitives::Origin;
use selvedge_primitives::time::Timer;

use super::Limiter;
use super::plan::Settings;
use crate::Quota;

/// What can be said about a [`Limiter`] beside its quota; from [`Limiter::builder`].
///
/// | setting | if nothing is said |
/// |---|---|
/// | [`timer`](Self::timer) | std's clock and the timer thread |
/// | [`catch_up`](Self::catch_up) | [2 ms](Limiter::CATCH_UP) |
/// | [`jitter`](Self::jitter) | none |
/// | [`warm_up`](Self::warm_up) | none |
/// | [`max_waiting`](Self::max_waiting) | as many as come: each is a future of somebody's |
/// | [`leased`](Self::leased) | each try writes the same word |
/// | [`named`](Self::named) | no name |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::{Limiter, Rate};
///
/// let limiter = Limiter::builder(Rate::per_second(50).burst(10))
///     .max_waiting(100)
///     .warm_up(Duration::from_secs(10))
///     .named("partner")
///     .build();
/// assert_eq!(limiter.name(), Some("partner"));
/// ```
#[derive(Debug, Clone)]
#[must_use = "it makes a limiter when it is told to build"]
pub struct LimiterBuilder {
    /// The quota.
    quota: Quota,
    /// What was said.
    settings: Settings,
    /// Clock and timer.
    timer: Timer,
    /// Name and place.
    origin: Origin,
}

impl LimiterBuilder {
    /// Nothing said yet.
    #[track_caller]
    pub(super) const fn new(quota: Quota) -> Self {
        Self { quota, settings: Settings::DEFAULT, timer: Timer::thread(), origin: Origin::here() }
    }

    /// On the clock of `timer`, which also rings for those who wait.
    pub fn timer(mut self, timer: Timer) -> Self {
        self.timer = timer;
        self
    }

    /// By the time-stamp counter of the processor, with the timer thread for those who wait: less than half of what std's clock costs, and of
    /// use where most of the time of a try is the clock's.
    ///
    /// The hazards are the counter's: on machines whose cores have counters that are apart, or in a virtual machine that is moved, the clock may
    /// leap, or go back. When it leaps a burst is granted at once; no more than that. When it goes back, nothing is granted until it is where it was, if that is
    /// less than 40 ms; else this is found by comparing it with std's clock, at every wait, whenever a key comes new and at refusals that are longer than
    /// they could be, and the time goes on from there. (Not if it leaps and comes back with none of these between.) Refusals for longer
    /// than 40 ms may go by std's clock, for up to 100 s. A rate that was measured, once a process, in up to 200 ms, is off by some
    /// millionths. On processors whose counter does not go evenly std's clock is read.
    #[cfg(feature = "tsc")]
    pub fn tsc_clock(mut self) -> Self {
        self.settings.tsc = true;
        self
    }

    /// For how long those who wait are made up for a timer that rings late; zero, and they are not.
    ///
    /// What came between the time at which somebody in line was due and the ring is theirs, up to what comes in this time; and if they leave
    /// some of it, that is there for as long again, for whoever comes next, with what comes meanwhile, up to as much in all. So in a span of time
    /// there may be granted what comes in `span` more. Without
    /// it, a quota whose tokens come faster than the timer rings is not reached by those who wait.
    pub fn catch_up(mut self, span: Duration) -> Self {
        self.settings.catch_up = span;
        self
    }

    /// Lets the timer ring late on purpose, by up to `most`, at random each time: so that many limiters of one quota, in as many programs, do
    /// not all call at the same moment. Nothing is lost by it: what came meanwhile is granted with the rest, so that in a span of time
    /// there may be granted what comes in `most` more.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.settings.jitter = most;
        self
    }

    /// Lets the rate go up from a third to the whole in this time, in 32 steps, from the first token that is taken; and again when nobody has taken
    /// any for as long. Less than a millisecond is none.
    ///
    /// For what has to fill its caches or open its connections first. The burst is as it is also when it is cold: give it a small one. (Guava's
    /// `SmoothWarmingUp` has the ramp, and makes what was saved while idle dearer.)
    pub fn warm_up(mut self, span: Duration) -> Self {
        self.settings.warm_up = span;
        self
    }

    /// So many may wait; who comes then is refused, with [`AcquireError::TooMany`](crate::AcquireError::TooMany).
    pub fn max_waiting(mut self, most: usize) -> Self {
        self.settings.max_waiting = most;
        self
    }

    /// In leased mode: each thread takes tokens in batches, and tries go on from its batch, without a look at the clock and without writing what
    /// other threads write. For a limiter that many threads ask, most of the time with success.
    ///
    /// No more is admitted than without: what a thread has taken is within the burst. And hardly less: a try is refused only if all
    /// batches and the bucket together have too little, but what has been used of batches is missing from the next full bucket, once. While
    /// anybody waits there are no batches, so that nobody is overtaken. At most a quarter of the
    /// burst lies in batches, and 256 tokens in one; a burst below 16 for each thread that the machine runs at once has none, and the limiter
    /// is as it is without this, but for a trip to its lock with each token.
    pub fn leased(mut self) -> Self {
        self.settings.leased = true;
        self
    }

    /// Under a name, for `{:?}`.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.origin = self.origin.named(name);
        self
    }

    /// The limiter, with its burst to be had at once.
    pub fn build(self) -> Limiter {
        Limiter::of(self.quota, self.settings, self.timer, self.origin)
    }
}
