//! What a limiter is to do, apart from what it has done: its quota and its settings, and how the rate goes up while it warms up.

use std::time::Duration;

use selvedge_primitives::time::nanos;

use crate::Quota;
use crate::bucket::course::Piece;
use crate::bucket::scale::{LONGEST, Scale};

/// What can be set beside the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// How late an alarm may ring without a loss to those in line.
    pub(super) catch_up: Duration,
    /// By how much it is late on purpose, at most.
    pub(super) jitter: Duration,
    /// How long the rate takes to go up.
    pub(super) warm_up: Duration,
    /// How many may wait.
    pub(super) max_waiting: usize,
    /// Whether threads take tokens in batches.
    pub(super) leased: bool,
}

/// As late a timer may be, if nothing else is said: tokio's, which goes by the millisecond, may be by two.
pub(super) const CATCH_UP: Duration = Duration::from_millis(2);

impl Settings {
    /// What is not said otherwise.
    pub(super) const DEFAULT: Self = Self {
        catch_up: CATCH_UP,
        jitter: Duration::ZERO,
        warm_up: Duration::ZERO,
        max_waiting: usize::MAX,
        leased: false,
    };

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
    /// For how long the bucket had been full when the piece began, in nanoseconds, if it warms up.
    idle: u64,
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

impl Plan {
    /// The plan for a quota.
    pub(super) fn new(quota: Quota, settings: Settings) -> Self {
        let warmth = if settings.warm_up.is_zero() { Warmth::Warm } else { Warmth::Cold };
        Self { quota, settings, scale: Scale::new(&quota), warmth, idle: 0 }
    }

    /// Another quota, as warm as this.
    pub(super) fn change(&mut self, quota: Quota) {
        (self.quota, self.scale) = (quota, Scale::new(&quota));
    }

    /// Whether nothing comes before somebody takes.
    pub(super) fn is_cold(&self) -> bool {
        self.warmth == Warmth::Cold
    }

    /// The piece of the plan that begins at `since`, which is not zero.
    pub(super) fn piece(&self, since: u64) -> Piece {
        let warm_up = nanos(self.settings.warm_up);
        let (scale, since, lasts) = match self.warmth {
            // It is over before it begins: whoever looks at it is sent to the lock.
            Warmth::Cold => (self.step(0), since.saturating_sub(1), 0),
            Warmth::Step(step) => (self.step(step), since, (warm_up / u64::from(STEPS)).max(1)),
            Warmth::Warm if warm_up == 0 => (self.scale, since, u64::MAX),
            Warmth::Warm => (self.scale, since, warm_up.saturating_sub(self.idle).max(1)),
        };
        let burst = if scale.unit == 0 { u32::MAX } else { self.quota.burst_size() };
        let piece = Piece::new(scale, burst, since);
        Piece { lasts: piece.lasts.min(lasts), ..piece }
    }

    /// A piece is over that lasted for so long, and at its end the bucket had been full for `idle`, or since before it began. Whether the
    /// next begins now, and not where it ended.
    pub(super) fn advance(&mut self, lasted: u64, idle: u64) -> bool {
        let warm_up = nanos(self.settings.warm_up);
        if warm_up == 0 {
            return false;
        }
        let before = if idle >= lasted { self.idle } else { 0 };
        self.idle = before.saturating_add(idle.min(lasted));
        self.warmth = match self.warmth {
            Warmth::Cold => Warmth::Step(0),
            _ if self.idle >= warm_up => Warmth::Cold,
            Warmth::Step(step) if step + 1 < STEPS => Warmth::Step(step + 1),
            Warmth::Step(_) | Warmth::Warm => Warmth::Warm,
        };
        let begins = self.warmth == Warmth::Step(0);
        if begins || self.is_cold() {
            self.idle = 0;
        }
        begins
    }

    /// The rate of a step: what a straight line from the cold rate to the full one has at its beginning.
    fn step(&self, step: u32) -> Scale {
        self.scale.slowed(STEPS + (COLD - 1) * step, COLD * STEPS)
    }
}
