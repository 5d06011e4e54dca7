//! Limits by key beside governor's, which keeps its keys in a DashMap.
//!
//! Each key has plenty. Uniform: any of the keys with the same chance. Zipf: the second is asked for half as often as the first, the third a
//! third as often, and so on. Cold: each key once; ours has room for a tenth of them, governor keeps all.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::clock::{Clock, MonotonicClock, QuantaClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use selvedge_ratelimit::{Keyed, Rate};

use crate::harness::allocations::held;
use crate::harness::threads::together;
use crate::harness::{Count, Shape, Tally, Work};
use crate::shapes::Scale;

/// So many keys.
const KEYS: u64 = 100_000;
/// As many come by once.
const COLD: u64 = 1_000_000;
/// So many tokens a second, and at once.
const PLENTY: u32 = 1_000_000;

/// Every shape of keys.
pub(super) fn shapes(scale: Scale) -> Vec<Shape> {
    let asked = usize::try_from(scale.of(1 << 20, 1 << 18, 1 << 10)).expect("a few");
    let uniform: Arc<[u64]> = uniform(asked).into();
    let zipf: Arc<[u64]> = zipf(asked).into();
    vec![
        asked_for("100000 uniform keys, 1 thread", 1, &uniform),
        asked_for("100000 uniform keys, 2 threads", 2, &uniform),
        asked_for("100000 Zipf keys, 1 thread", 1, &zipf),
        asked_for("100000 Zipf keys, 2 threads", 2, &zipf),
        cold(scale),
    ]
}

/// What is kept of keys that come by once.
pub(super) fn tallies() -> Vec<Tally> {
    let limit = KEYS + KEYS / 10;
    vec![
        Tally::new("ratelimit", "keyed", "1000000 cold keys: entries that live", limit)
            .ours(|| visited(&<Ours as Limits>::new()).0.len() as u64)
            .peer("governor, DashMap", || {
                visited(&<Governor<QuantaClock> as Limits>::new()).0.len() as u64
            }),
        Tally::new("ratelimit", "keyed", "1000000 cold keys: bytes a key", 64)
            .ours(|| {
                let (keyed, bytes) = held(|| {
                    let keyed = <Ours as Limits>::new();
                    visited(&keyed);
                    keyed
                });
                bytes.div_ceil(keyed.len() as u64)
            })
            .peer("governor, DashMap", || {
                let (keyed, bytes) = held(|| {
                    let keyed = <Governor<QuantaClock> as Limits>::new();
                    visited(&keyed);
                    keyed
                });
                bytes.div_ceil(keyed.len() as u64)
            }),
    ]
}

/// What the limits by key have in common.
trait Limits: Send + Sync + 'static {
    /// With plenty for each key.
    fn new() -> Self;
    /// Takes a token of a key.
    fn try_acquire(&self, key: u64) -> bool;
}

/// Ours, by the counter of the processor, as governor's default clock is.
struct Ours(Keyed<u64>);

impl Ours {
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl Limits for Ours {
    fn new() -> Self {
        let quota = Rate::per_second(PLENTY.into()).burst(PLENTY);
        Self(Keyed::builder(quota, KEYS as u32).tsc_clock().build())
    }

    #[inline]
    fn try_acquire(&self, key: u64) -> bool {
        self.0.try_acquire(&key, 1).is_ok()
    }
}

/// Ours, by std's clock.
struct OnStd(Keyed<u64>);

impl Limits for OnStd {
    fn new() -> Self {
        Self(Keyed::new(Rate::per_second(PLENTY.into()).burst(PLENTY), KEYS as u32))
    }

    #[inline]
    fn try_acquire(&self, key: u64) -> bool {
        self.0.try_acquire(&key, 1).is_ok()
    }
}

/// governor's, as its documentation asks for it.
type Governor<C> =
    governor::RateLimiter<u64, DashMapStateStore<u64>, C, NoOpMiddleware<<C as Clock>::Instant>>;

impl<C: Clock + Default + Send + Sync + 'static> Limits for Governor<C>
where
    C::Instant: Send + Sync,
{
    fn new() -> Self {
        let plenty = NonZeroU32::new(PLENTY).expect("not zero");
        let quota = governor::Quota::per_second(plenty).allow_burst(plenty);
        Self::dashmap_with_clock(quota, C::default())
    }

    #[inline]
    fn try_acquire(&self, key: u64) -> bool {
        self.check_key(&key).is_ok()
    }
}

/// Tokens of keys that are there.
fn asked_for(parameter: &'static str, threads: usize, keys: &Arc<[u64]>) -> Shape {
    fn each<L: Limits>(threads: usize, keys: &[u64], limits: &mut Option<L>, n: u64) -> Count {
        // Made once: it is about keys that are there.
        let limits: &L = limits.get_or_insert_with(|| {
            let limits = L::new();
            (0..KEYS).for_each(|key| assert!(limits.try_acquire(key)));
            limits
        });
        together(threads, n, |thread, share| {
            // Each thread begins elsewhere.
            let keys = keys.iter().cycle().skip(thread * keys.len() / 2);
            let asked = keys.take(usize::try_from(share).expect("a few"));
            let granted = asked.filter(|key| black_box(limits).try_acquire(**key)).count();
            assert_eq!(granted as u64, share);
        })
    }

    fn contestant<L: Limits>(
        threads: usize,
        keys: &Arc<[u64]>,
    ) -> impl FnMut(u64) -> Count + 'static {
        let (keys, mut limits) = (Arc::clone(keys), None);
        move |n| each::<L>(threads, &keys, &mut limits, n)
    }

    Shape::new("ratelimit", "keyed", parameter, Work::Calibrated(2))
        .ours(contestant::<Ours>(threads, keys))
        .peer("governor, DashMap", contestant::<Governor<QuantaClock>>(threads, keys))
        .peer("governor, DashMap, std clock", contestant::<Governor<MonotonicClock>>(threads, keys))
        .reference("ours, std clock", contestant::<OnStd>(threads, keys))
}

/// A million keys that come by once: the longest that one of them took.
fn cold(scale: Scale) -> Shape {
    let keys = scale.of(COLD, COLD, 10_000);
    Shape::new("ratelimit", "keyed", "1000000 cold keys: longest pause", Work::Exactly(keys))
        .ours(|n| Count::told(visits(&<Ours as Limits>::new(), n), n))
        .peer("governor, DashMap", |n| {
            Count::told(visits(&<Governor<QuantaClock> as Limits>::new(), n), n)
        })
        .reference("the machine's own, in a second", |n| Count::told(pause(), n))
}

/// The longest that a second has between two reads of the clock that nothing else comes between.
fn pause() -> Duration {
    let began = Instant::now();
    let (mut longest, mut before) = (Duration::ZERO, began);
    while before - began < Duration::from_secs(1) {
        let now = Instant::now();
        longest = longest.max(now - before);
        before = now;
    }
    longest
}

/// So many keys, each once: the longest that one of them took.
fn visits(limits: &impl Limits, keys: u64) -> Duration {
    let mut longest = Duration::ZERO;
    let mut before = Instant::now();
    for key in 0..keys {
        assert!(limits.try_acquire(key), "a key that comes new has plenty");
        let now = Instant::now();
        longest = longest.max(now - before);
        before = now;
    }
    longest
}

/// All of the cold keys have come by.
fn visited<L: Limits>(limits: &L) -> (&L, Duration) {
    (limits, visits(limits, COLD))
}

/// Keys with the same chance.
fn uniform(count: usize) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..count).map(|_| random.u64(..KEYS)).collect()
}

/// Keys whose chance is one by their rank.
fn zipf(count: usize) -> Vec<u64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(7);
    let draw = |_| {
        let at = random.f64() * sum;
        // Ranks are spread over the keys.
        (sums.partition_point(|sum| *sum < at) as u64 * 7_919) % KEYS
    };
    (0..count).map(draw).collect()
}
