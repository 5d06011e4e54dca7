//! The limiter beside governor (on its clocks), leaky-bucket and ratelimit.
//!
//! Here each has a quota from which a sample takes what it needs without a wait: a token a nanosecond,
//! and as many saved up as fit, which is faster than anybody asks. `ratelimit/paced.rs` has those who
//! wait, `ratelimit/exactness.rs` what is admitted in all.

mod exactness;
mod keyed;
mod paced;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock, MonotonicClock, QuantaClock, QuantaUpkeepClock, ReasonablyRealtime};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use selvedge_ratelimit::{CoarseClock, Rate};

use super::Scale;
use super::poll::ready;
use crate::harness::threads::together;
use crate::harness::{Count, Shape, Tally, Work};

/// Every shape of the crate.
pub fn shapes(scale: Scale) -> Vec<Shape> {
    let mut shapes = vec![
        tried("granted", "1 thread", 1, true),
        tried("granted", "2 threads", 2, true),
        tried("refused", "1 thread", 1, false),
        tried("refused", "2 threads", 2, false),
        counter("granted", "1 thread, TSC clock", 1, true),
        counter("granted", "2 threads, TSC clock", 2, true),
        counter("refused", "1 thread, TSC clock", 1, false),
        kept_coarse("1 thread, coarse clock", 1),
        kept_coarse("2 threads, coarse clock", 2),
        leased("1 thread", 1),
        leased("2 threads", 2),
        refused_soon(),
        acquired(),
    ];
    shapes.extend(keyed::shapes(scale));
    shapes.extend(paced::shapes(scale));
    shapes
}

/// Every tally of the crate.
pub fn tallies() -> Vec<Tally> {
    let mut tallies = exactness::tallies();
    tallies.extend(keyed::tallies());
    tallies
}

/// What the limiters have in common.
trait Limiter: Send + Sync + 'static {
    /// With tokens without end; or with none for an hour.
    fn new(plenty: bool) -> Self;
    /// Takes a token if there is one.
    fn try_acquire(&self) -> bool;
}

/// A token a nanosecond.
const A_SECOND: u32 = 1_000_000_000;
/// As many at once as fit.
const MANY: u32 = u32::MAX;
/// Nothing comes in a bench.
const HOUR: Duration = Duration::from_secs(3600);

impl Limiter for selvedge_ratelimit::Limiter {
    fn new(plenty: bool) -> Self {
        if plenty {
            let limiter = Self::new(Rate::per_second(A_SECOND.into()).burst(MANY));
            // It is made when it is first used.
            assert_eq!(limiter.available(), MANY);
            return limiter;
        }
        let limiter = Self::new(Rate::every(HOUR).burst(1));
        limiter.try_acquire(1).expect("the first");
        limiter
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.try_acquire(1).is_ok()
    }
}

/// governor's, on a clock of its own.
type Governor<C> =
    governor::RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// As governor's documentation asks for it.
fn governor<C: Clock + Default>(plenty: bool) -> Governor<C> {
    let [second, many] = [A_SECOND, MANY].map(|n| NonZeroU32::new(n).expect("not zero"));
    let quota = match plenty {
        true => governor::Quota::per_second(second).allow_burst(many),
        false => governor::Quota::with_period(HOUR).expect("not zero"),
    };
    let limiter = Governor::direct_with_clock(quota, C::default());
    assert!(plenty || limiter.check().is_ok(), "the first");
    limiter
}

impl Limiter for Governor<QuantaClock> {
    fn new(plenty: bool) -> Self {
        governor(plenty)
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.check().is_ok()
    }
}

impl Limiter for Governor<MonotonicClock> {
    fn new(plenty: bool) -> Self {
        governor(plenty)
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.check().is_ok()
    }
}

impl Limiter for leaky_bucket::RateLimiter {
    fn new(plenty: bool) -> Self {
        let mut builder = Self::builder();
        if plenty {
            builder.max(MANY as usize).initial(MANY as usize).refill(A_SECOND as usize / 1_000);
            return builder.interval(Duration::from_millis(1)).build();
        }
        builder.max(1).initial(0).refill(1).interval(HOUR).build()
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.try_acquire(1)
    }
}

impl Limiter for ratelimit::Ratelimiter {
    fn new(plenty: bool) -> Self {
        let builder = match plenty {
            true => Self::builder(A_SECOND.into()).max_tokens(MANY.into()),
            false => Self::builder(1).period(HOUR).max_tokens(1),
        };
        let first = if plenty { MANY } else { 0 };
        builder.initial_available(first.into()).build().expect("it makes sense")
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.try_wait().is_ok()
    }
}

/// Ours, by the counter of the processor.
struct OnCounter(Ours);

impl Limiter for OnCounter {
    fn new(plenty: bool) -> Self {
        let quota = match plenty {
            true => Rate::per_second(A_SECOND.into()).burst(MANY),
            false => Rate::every(HOUR).burst(1),
        };
        let limiter = Ours::builder(quota).tsc_clock().build();
        assert!(limiter.available() > 0);
        assert!(plenty || limiter.try_acquire(1).is_ok(), "the first");
        Self(limiter)
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.0.try_acquire(1).is_ok()
    }
}

/// Ours, in leased mode.
struct Leased(Ours);

impl Limiter for Leased {
    fn new(_plenty: bool) -> Self {
        let quota = Rate::per_second(A_SECOND.into()).burst(MANY);
        let limiter = Ours::builder(quota).leased().build();
        assert_eq!(limiter.available(), MANY);
        Self(limiter)
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.0.try_acquire(1).is_ok()
    }
}

impl Limiter for Governor<QuantaUpkeepClock> {
    fn new(plenty: bool) -> Self {
        assert!(!plenty, "for the refusals");
        // Its documentation keeps it by a thread of its own, as ours is kept.
        let clock = QuantaUpkeepClock::from_interval(UPKEEP).expect("a thread");
        let quota = governor::Quota::with_period(HOUR).expect("not zero");
        let limiter = Self::direct_with_clock(quota, clock);
        assert!(limiter.check().is_ok(), "the first");
        limiter
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        self.check().is_ok()
    }
}

type Ours = selvedge_ratelimit::Limiter;
type Quanta = Governor<QuantaClock>;
type Monotonic = Governor<MonotonicClock>;
type LeakyBucket = leaky_bucket::RateLimiter;
type Iops = ratelimit::Ratelimiter;

/// A token is asked for, and is there or is not.
fn tried(name: &'static str, parameter: &'static str, threads: usize, plenty: bool) -> Shape {
    Shape::new("ratelimit", name, parameter, Work::Calibrated(2))
        .ours(move |n| asked::<Ours>(threads, plenty, n))
        .peer("governor, std clock", move |n| asked::<Monotonic>(threads, plenty, n))
        .peer("governor, quanta", move |n| asked::<Quanta>(threads, plenty, n))
        .peer("leaky-bucket", move |n| asked::<LeakyBucket>(threads, plenty, n))
        .peer("ratelimit", move |n| asked::<Iops>(threads, plenty, n))
        .reference("std clock alone", move |n| {
            together(threads, n, |_, share| {
                for _ in 0..share {
                    black_box(Instant::now());
                }
            })
        })
}

/// So many tokens are asked for, each of which is there or is not.
fn asked<L: Limiter>(threads: usize, plenty: bool, n: u64) -> Count {
    let limiter = L::new(plenty);
    together(threads, n, |_, share| {
        let granted = (0..share).filter(|_| black_box(&limiter).try_acquire()).count() as u64;
        assert_eq!(granted, if plenty { share } else { 0 });
    })
}

/// As [`tried`], by the counter of the processor.
fn counter(name: &'static str, parameter: &'static str, threads: usize, plenty: bool) -> Shape {
    Shape::new("ratelimit", name, parameter, Work::Calibrated(2))
        .ours(move |n| asked::<OnCounter>(threads, plenty, n))
        .peer("governor, quanta", move |n| asked::<Governor<QuantaClock>>(threads, plenty, n))
}

/// As often a coarse clock is kept.
const UPKEEP: Duration = Duration::from_millis(1);

/// A token is asked for that is far away, beside a thread that keeps a coarse clock.
fn kept_coarse(parameter: &'static str, threads: usize) -> Shape {
    Shape::new("ratelimit", "refused", parameter, Work::Calibrated(2))
        .ours(move |n| {
            let _kept = CoarseClock::keep(UPKEEP).expect("a thread");
            // The other's thread has long begun as well.
            std::thread::sleep(2 * UPKEEP);
            asked::<Ours>(threads, false, n)
        })
        .peer("governor, upkeep clock", move |n| {
            asked::<Governor<QuantaUpkeepClock>>(threads, false, n)
        })
}

/// Tokens that are there, in leased mode.
fn leased(parameter: &'static str, threads: usize) -> Shape {
    Shape::new("ratelimit", "granted, leased", parameter, Work::Calibrated(2))
        .ours(move |n| asked::<Leased>(threads, true, n))
        .peer("governor, quanta", move |n| asked::<Governor<QuantaClock>>(threads, true, n))
        .peer("governor, std clock", move |n| asked::<Governor<MonotonicClock>>(threads, true, n))
}

/// Fifty a second and far more who ask, as in governor's own benches: the next token is never far away.
fn refused_soon() -> Shape {
    fn ours(n: u64) -> Count {
        let limiter = Ours::new(Rate::per_second(50).burst(50));
        assert_eq!(limiter.available(), 50);
        Count::time(|| {
            (0..n).for_each(|_| {
                black_box(limiter.try_acquire(1).is_ok());
            })
        })
    }

    fn governed<C: Clock + Default>(n: u64) -> Count {
        let fifty = NonZeroU32::new(50).expect("not zero");
        let quota = governor::Quota::per_second(fifty);
        let limiter = Governor::direct_with_clock(quota, C::default());
        Count::time(|| {
            (0..n).for_each(|_| {
                black_box(limiter.check().is_ok());
            })
        })
    }

    Shape::new("ratelimit", "refused", "1 thread, 50 a second", Work::Calibrated(1))
        .ours(ours)
        .peer("governor, std clock", governed::<MonotonicClock>)
        .peer("governor, quanta", governed::<QuantaClock>)
}

/// A token is acquired by a future that is ready at once.
fn acquired() -> Shape {
    fn ours(n: u64) -> Count {
        let limiter = <Ours as Limiter>::new(true);
        Count::time(|| (0..n).for_each(|_| ready(limiter.acquire(1)).expect("it is there")))
    }

    fn governed<C: Clock + Default + ReasonablyRealtime>(n: u64) -> Count {
        let limiter = governor::<C>(true);
        Count::time(|| (0..n).for_each(|_| ready(limiter.until_ready())))
    }

    fn leaky_bucket(n: u64) -> Count {
        let limiter = <LeakyBucket as Limiter>::new(true);
        Count::time(|| (0..n).for_each(|_| ready(limiter.acquire_one())))
    }

    Shape::new("ratelimit", "acquire", "1 thread", Work::Calibrated(1))
        .ours(ours)
        .peer("governor, std clock", governed::<MonotonicClock>)
        .peer("governor, quanta", governed::<QuantaClock>)
        .peer("leaky-bucket", leaky_bucket)
}
