//! The limiter beside governor (on both of its clocks), leaky-bucket and ratelimit.
//!
//! Here each has a quota from which a sample takes what it needs without a wait: a token a nanosecond,
//! and as many saved up as fit, which is faster than anybody asks. `ratelimit/paced.rs` has those who
//! wait, `ratelimit/exactness.rs` what is admitted in all.

mod exactness;
mod paced;

pub use exactness::tallies;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock, MonotonicClock, QuantaClock, ReasonablyRealtime};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use selvedge_ratelimit::Rate;

use super::Scale;
use super::poll::ready;
use crate::harness::threads::together;
use crate::harness::{Count, Shape, Work};

/// Every shape of the crate.
pub fn shapes(scale: Scale) -> Vec<Shape> {
    let mut shapes = vec![
        tried("granted", "1 thread", 1, true),
        tried("granted", "2 threads", 2, true),
        tried("refused", "1 thread", 1, false),
        tried("refused", "2 threads", 2, false),
        acquired(),
    ];
    shapes.extend(paced::shapes(scale));
    shapes
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
            return Self::new(Rate::per_second(A_SECOND.into()).burst(MANY));
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

type Ours = selvedge_ratelimit::Limiter;
type Quanta = Governor<QuantaClock>;
type Monotonic = Governor<MonotonicClock>;
type LeakyBucket = leaky_bucket::RateLimiter;
type Iops = ratelimit::Ratelimiter;

/// A token is asked for, and is there or is not.
fn tried(name: &'static str, parameter: &'static str, threads: usize, plenty: bool) -> Shape {
    fn each<L: Limiter>(threads: usize, plenty: bool, n: u64) -> Count {
        let limiter = L::new(plenty);
        together(threads, n, |_, share| {
            let granted = (0..share).filter(|_| black_box(&limiter).try_acquire()).count() as u64;
            assert_eq!(granted, if plenty { share } else { 0 });
        })
    }

    Shape::new("ratelimit", name, parameter, Work::Calibrated(2))
        .ours(move |n| each::<Ours>(threads, plenty, n))
        .peer("governor, std clock", move |n| each::<Monotonic>(threads, plenty, n))
        .peer("governor, quanta", move |n| each::<Quanta>(threads, plenty, n))
        .peer("leaky-bucket", move |n| each::<LeakyBucket>(threads, plenty, n))
        .peer("ratelimit", move |n| each::<Iops>(threads, plenty, n))
        .reference("std clock alone", move |n| {
            together(threads, n, |_, share| {
                for _ in 0..share {
                    black_box(Instant::now());
                }
            })
        })
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
