//! What a limiter is to do, apart from what it has done: its quota and its settings, and how the rate goes up while it warms up.

use std::time::Duration;

use selvedge_primitives::time::{Timer, nanos};

use crate::Quota;
use crate::bucket::course::Piece;
use crate::bucket::scale::{LONGEST, Scale};
use crate::clock::Clock;

/// What can be set beside the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// How late an alarm may ring without a loss to those in line.
    pub(crate) catch_up: Duration,
    /// By how much it is late on purpose, at most.
    pub(super) jitter: Duration,
    /// How long the rate takes to go up.
    pub(super) warm_up: Duration,
    /// How many may wait.
    pub(crate) max_waiting: usize,
    /// Whether threads take tokens in batches.
    pub(super) leased: bool,
    /// Whether the time is told by the counter of the processor.
    #[cfg(feature = "tsc")]
    pub(crate) tsc: bool,
}

/// As late a timer may be, if nothing else is said: tokio's, which goes by the millisecond, may be by two.
pub(super) const CATCH_UP: Duration = Duration::from_millis(2);

impl Settings {
    /// What is not said otherwise.
    pub(crate) const DEFAULT: Self = Self {
        catch_up: CATCH_UP,
        jitter: Duration::ZERO,
        warm_up: Duration::ZERO,
        max_waiting: usize::MAX,
        leased: false,
        #[cfg(feature = "tsc")]
        tsc: false,
    };

    /// A clock that begins now.
    pub(crate) fn clock(&self, timer: Timer) -> Clock {
        #[cfg(feature = "tsc")]
        if self.tsc {
            return Clock::tsc();
        }
        Clock::new(timer)
    }

    /// For how long tokens beyond the burst are kept for those in line, in nanoseconds.
    pub(super) fn credit(&self) -> u64 {
        nanos(self.catch_up).saturating_add(nanos(self.jitter)).min(LONGEST)
    }

    /// Before what was `now`, in nanoseconds, tokens beyond the burst are gone also to those in line.
    pub(super) fn horizon(&self, now: u64) -> u64 {
        now.saturating_sub(self.credit())
    }
}

/// The quota that holds, and how warm it is.
#[derive(Debug)]
pub(super) struct Plan {
    /// The quota.
    pub(super) quota: Quota,
    /// What is set beside it.
    pub(super) settings: Settings,
    /// Its units.
    scale: Scale,
    /// How warm.
    warmth: Warmth,
}

/// How warm a limiter is that warms up; one that does not is always warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warmth {
    /// Nobody has taken anything for as long as it takes to warm up. Nothing comes; the first to take begins.
    Cold,
    /// On this step.
    Step(u32),
    /// At the full rate.
    Warm,
}

/// In so many steps.
const STEPS: u32 = 32;
/// It begins at the full rate divided by this.
const COLD: u32 = 3;
/// A shorter time is none: a step would be over before it has begun.
pub(super) const SHORTEST_WARM_UP: Duration = Duration::from_millis(1);

impl Plan {
    /// The plan for a quota.
    pub(super) fn new(quota: Quota, settings: Settings) -> Self {
        let this = Self { quota, settings, scale: Scale::new(&quota), warmth: Warmth::Warm };
        Self { warmth: if this.warms_up() { Warmth::Cold } else { Warmth::Warm }, ..this }
    }

    /// Another quota, as warm as this.
    pub(super) fn change(&mut self, quota: Quota) {
        (self.quota, self.scale) = (quota, Scale::new(&quota));
    }

    /// Whether it is not always warm.
    pub(super) fn warms_up(&self) -> bool {
        self.settings.warm_up >= SHORTEST_WARM_UP
    }

    /// Whether nothing comes before somebody takes.
    pub(super) fn is_cold(&self) -> bool {
        self.warmth == Warmth::Cold
    }

    /// The piece of the plan that begins at `since`, which is not zero, with a bucket that will have been full for as long as it takes to warm
    /// up when `cold_in` nanoseconds are over, if nobody takes.
    pub(super) fn piece(&self, since: u64, cold_in: u64) -> Piece {
        let (scale, since, lasts) = match self.warmth {
            // It is over before it begins: whoever looks at it is sent to the lock.
            Warmth::Cold => (self.step(0), since.saturating_sub(1), 0),
            Warmth::Step(step) => (self.step(step), since, self.step_lasts()),
            Warmth::Warm if self.warms_up() => (self.scale, since, cold_in.max(1)),
            Warmth::Warm => (self.scale, since, u64::MAX),
        };
        let burst = if scale.unit == 0 { u32::MAX } else { self.quota.burst_size() };
        let piece = Piece::new(scale, burst, since);
        Piece { lasts: piece.lasts.min(lasts), ..piece }
    }

    /// A piece is over, at whose end the bucket had been full for `idle` nanoseconds. Whether the next begins now, and not where it ended.
    pub(super) fn advance(&mut self, idle: u64) -> bool {
        if !self.warms_up() {
            return false;
        }
        self.warmth = match self.warmth {
            Warmth::Cold => Warmth::Step(0),
            _ if idle >= nanos(self.settings.warm_up) => Warmth::Cold,
            Warmth::Step(step) if step + 1 < STEPS => Warmth::Step(step + 1),
            Warmth::Step(_) | Warmth::Warm => Warmth::Warm,
        };
        self.warmth == Warmth::Step(0)
    }

    /// When so much will have been earned, if nobody changes the quota and somebody takes all the time: on `piece`, and then on the steps behind
    /// it. None if the clock has no such time.
    pub(super) fn due(&self, piece: &Piece, earned: u64) -> Option<u64> {
        let Warmth::Step(step) = self.warmth else { return piece.due(earned) };
        let mut at = piece.since.saturating_add(piece.lasts);
        if piece.slack > 0 || earned <= piece.earned(at) {
            return piece.due(earned);
        }
        let mut left = earned - piece.earned(at);
        for step in step + 1..STEPS {
            let scale = self.step(step);
            let come = scale.earned(self.step_lasts());
            if left <= come {
                return at.checked_add(scale.due(left)?);
            }
            (left, at) = (left - come, at.saturating_add(self.step_lasts()));
        }
        at.checked_add(self.scale.due(left)?)
    }

    /// The rate of a step: what a straight line from the cold rate to the full one has at its beginning.
    fn step(&self, step: u32) -> Scale {
        self.scale.slowed(STEPS + (COLD - 1) * step, COLD * STEPS)
    }

    /// How long a step takes.
    fn step_lasts(&self) -> u64 {
        nanos(self.settings.warm_up) / u64::from(STEPS)
    }
}
