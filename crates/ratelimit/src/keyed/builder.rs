//! What can be said about the limits by key beside the quota.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use selvedge_primitives::Origin;
use selvedge_primitives::time::Timer;

use super::table::Table;
use super::{Keyed, QuotaBy, WhenFull};
use crate::Quota;
use crate::limiter::Settings;

/// The most keys that there may be: for more there are as many.
const MOST_KEYS: u32 = 1 << 31;

/// What can be said about a [`Keyed`] beside its quota; from [`Keyed::builder`].
///
/// # Examples
///
/// ```
/// use selvedge_ratelimit::{Keyed, Rate, WhenFull};
///
/// let clients = Keyed::builder(Rate::per_second(5).burst(10), 10_000)
///     .quota_by(|client: &String| match client.as_str() {
///         "gold" => Rate::per_second(500).burst(100),
///         _ => Rate::per_second(5).burst(10),
///     })
///     .when_full(WhenFull::Refuse)
///     .build();
/// assert!(clients.try_acquire("gold", 50).is_ok());
/// assert!(clients.try_acquire("somebody", 50).is_err());
/// ```
#[must_use = "it makes limits when it is told to build"]
pub struct KeyedBuilder<K, S = RandomState> {
    /// The quota.
    quota: Quota,
    /// How many keys there may be.
    max_keys: u32,
    /// What is done then.
    when_full: WhenFull,
    /// Of the limiters of keys that are waited for.
    settings: Settings,
    /// Clock and timer.
    timer: Timer,
    /// Makes fingerprints.
    hasher: S,
    /// Whether they are mixed: not all hashers fill all bits, by which places are chosen.
    mixes: bool,
    /// Name and place.
    origin: Origin,
    /// The quota of a key.
    quota_by: Option<QuotaBy<K>>,
}

impl<K> KeyedBuilder<K> {
    /// Nothing said yet.
    #[track_caller]
    pub(super) fn new(quota: Quota, max_keys: u32) -> Self {
        Self {
            quota,
            max_keys: max_keys.clamp(1, MOST_KEYS),
            when_full: WhenFull::default(),
            settings: Settings::DEFAULT,
            timer: Timer::thread(),
            hasher: RandomState::new(),
            mixes: false,
            origin: Origin::here(),
            quota_by: None,
        }
    }
}

impl<K, S> KeyedBuilder<K, S> {
    /// What is done with a new key when there are as many as may be.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// A quota for each key, asked for when it comes, with no lock held; and again by [`Keyed::reload`].
    pub fn quota_by(mut self, quota_by: impl Fn(&K) -> Quota + Send + Sync + 'static) -> Self {
        self.quota_by = Some(Box::new(quota_by));
        self
    }

    /// On the clock of `timer`, which also rings for those who wait.
    pub fn timer(mut self, timer: Timer) -> Self {
        self.timer = timer;
        self
    }

    /// By the time-stamp counter of the processor; see `LimiterBuilder::tsc_clock`.
    #[cfg(feature = "tsc")]
    pub fn tsc_clock(mut self) -> Self {
        self.settings.tsc = true;
        self
    }

    /// For how long those who wait are made up for a timer that rings late; see [`LimiterBuilder::catch_up`](crate::LimiterBuilder::catch_up).
    pub fn catch_up(mut self, span: Duration) -> Self {
        self.settings.catch_up = span;
        self
    }

    /// So many may wait for a key; who comes then is refused.
    pub fn max_waiting(mut self, most: usize) -> Self {
        self.settings.max_waiting = most;
        self
    }

    /// Under a name, for `{:?}` and for who watches.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.origin = self.origin.named(name);
        self
    }

    /// Makes the fingerprints. One that is not keyed, or whose key is known, lets others choose keys that share a bucket.
    pub fn hasher<T>(self, hasher: T) -> KeyedBuilder<K, T> {
        let Self { quota, max_keys, when_full, settings, timer, origin, quota_by, .. } = self;
        let mixes = true;
        KeyedBuilder {
            quota,
            max_keys,
            when_full,
            settings,
            timer,
            hasher,
            mixes,
            origin,
            quota_by,
        }
    }

    /// The limits, without keys.
    pub fn build(self) -> Keyed<K, S>
    where
        S: BuildHasher,
    {
        let Self { quota, max_keys, when_full, settings, timer, hasher, mixes, origin, quota_by } =
            self;
        let hasher = (hasher, mixes);
        let clock = settings.clock(timer);
        let table = Table::new(quota, max_keys, when_full, settings, clock, hasher, origin);
        Keyed { table, quota_by }
    }
}

impl<K, S> std::fmt::Debug for KeyedBuilder<K, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedBuilder")
            .field("quota", &self.quota)
            .field("max_keys", &self.max_keys)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}
