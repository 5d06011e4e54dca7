//! How much is admitted in two seconds, on clocks that are moved by hand.
//!
//! A billion tokens one by one would take minutes, so the clock moves in steps of 100 us, and after
//! each step everything that is there is taken: as many as could have come, while that succeeds, then
//! half as many, and so on down to one. What is left then is less than a token. The burst is what
//! comes in two steps, so that nothing is lost to it: who mints too much, by up to the double, is seen
//! to.
//!
//! leaky-bucket cannot take part: its time is tokio's, which moves by the millisecond.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use selvedge_ratelimit::{ManualClock, Rate, Timer};

use super::{Governor, Ours};
use crate::harness::Tally;

/// How long tokens are taken for.
const SPAN: Duration = Duration::from_secs(2);
/// How far the clock moves at a time.
const STEP: Duration = Duration::from_micros(100);

/// A tally for each rate.
pub(super) fn tallies() -> Vec<Tally> {
    [
        ("10 a second", 10),
        ("1,000 a second", 1_000),
        ("100,000 a second", 100_000),
        ("10,000,000 a second", 10_000_000),
        ("60,000,000 a second", 60_000_000),
        ("700,000,000 a second", 700_000_000),
    ]
    .map(|(parameter, rate)| tally(parameter, rate))
    .into()
}

fn tally(parameter: &'static str, rate: u32) -> Tally {
    let in_a_step = u64::from(rate) * STEP.as_micros() as u64 / 1_000_000;
    let burst = u32::try_from(2 * in_a_step + 1).expect("a few");
    let ideal = u64::from(rate) * SPAN.as_secs();
    Tally::new("ratelimit", "admitted in 2 s", parameter, ideal + u64::from(burst))
        .ours(move || {
            let admitted = taken(&OnManualClock::new(rate, burst), burst);
            let bounds = ideal - 1..=ideal + u64::from(burst) + 1;
            assert!(bounds.contains(&admitted), "{admitted} of {ideal} and a burst of {burst}");
            admitted
        })
        .peer("governor", move || taken(&OnFakeClock::new(rate, burst), burst))
        .peer("ratelimit", move || taken(&OnHandClock::new(rate, burst), burst))
}

/// A limiter whose clock is moved by hand.
trait ByHand {
    /// So many a second, so many at once.
    fn new(rate: u32, burst: u32) -> Self;
    /// Takes so many or none.
    fn take(&self, n: u32) -> bool;
    /// Moves the clock.
    fn advance(&self, by: Duration);
}

/// Everything that a limiter admits in the span.
fn taken(limiter: &impl ByHand, burst: u32) -> u64 {
    let everything = || {
        let (mut n, mut admitted) = (burst, 0);
        while n > 0 {
            if limiter.take(n) {
                admitted += u64::from(n);
            } else {
                n /= 2;
            }
        }
        admitted
    };
    let mut admitted = everything();
    for _ in 0..SPAN.as_nanos() / STEP.as_nanos() {
        limiter.advance(STEP);
        admitted += everything();
    }
    admitted
}

struct OnManualClock(Ours, ManualClock);

impl ByHand for OnManualClock {
    fn new(rate: u32, burst: u32) -> Self {
        let (timer, clock) = Timer::manual();
        Self(Ours::with_timer(Rate::per_second(rate.into()).burst(burst), timer), clock)
    }

    fn take(&self, n: u32) -> bool {
        self.0.try_acquire(n).is_ok()
    }

    fn advance(&self, by: Duration) {
        self.1.advance(by);
    }
}

struct OnFakeClock(Governor<FakeRelativeClock>, FakeRelativeClock);

impl ByHand for OnFakeClock {
    fn new(rate: u32, burst: u32) -> Self {
        let [rate, burst] = [rate, burst].map(|n| NonZeroU32::new(n).expect("not zero"));
        let clock = FakeRelativeClock::default();
        let quota = governor::Quota::per_second(rate).allow_burst(burst);
        Self(Governor::direct_with_clock(quota, clock.clone()), clock)
    }

    fn take(&self, n: u32) -> bool {
        let n = NonZeroU32::new(n).expect("not zero");
        self.0.check_n(n).expect("no more than the burst").is_ok()
    }

    fn advance(&self, by: Duration) {
        self.1.advance(by);
    }
}

/// The clock that `ratelimit` lets its users bring.
#[derive(Clone, Default)]
struct Hand(Rc<Cell<Duration>>);

impl ratelimit::Clock for Hand {
    fn elapsed(&self) -> Duration {
        self.0.get()
    }
}

struct OnHandClock(ratelimit::Ratelimiter<Hand>, Hand);

impl ByHand for OnHandClock {
    fn new(rate: u32, burst: u32) -> Self {
        let clock = Hand::default();
        let builder = ratelimit::Builder::with_clock(rate.into(), clock.clone());
        let builder = builder.max_tokens(burst.into()).initial_available(burst.into());
        Self(builder.build().expect("it makes sense"), clock)
    }

    fn take(&self, n: u32) -> bool {
        self.0.try_wait_n(n.into()).is_ok()
    }

    fn advance(&self, by: Duration) {
        self.1.0.set(self.1.0.get() + by);
    }
}
