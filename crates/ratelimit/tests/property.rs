//! Random operations on a limiter against a sequential model of it: after each, what is there, who is
//! served and who waits is what the model says; and in no span of time was more granted, and not given
//! back, than the quota says; and tokens that are given back within [`Limiter::CATCH_UP`] of the moment
//! in which they had come are all there again. 1500 cases of 80 operations.
#![cfg(not(selvedge_loom))]

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_ratelimit::{AcquireOwned, Limiter, ManualClock, Rate, Timer, TryAcquireError};

/// What a test does next. Numbers of tokens are taken modulo the burst, places modulo what there is.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// Takes tokens if they are there.
    Try(u32),
    /// Begins to wait.
    Wait(u32),
    /// Polls one who waits.
    Poll(usize),
    /// Drops one who waits, or was granted and has not seen it.
    Leave(usize),
    /// Moves the clock, by so many nanoseconds.
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..16_usize;
    prop_oneof![
        4 => any::<u32>().prop_map(Op::Try),
        6 => any::<u32>().prop_map(Op::Wait),
        3 => n.clone().prop_map(Op::Poll),
        2 => n.prop_map(Op::Leave),
        6 => (0..3_000_000_u64).prop_map(Op::Advance),
        1 => (0..100_000_000_u64).prop_map(Op::Advance),
    ]
}

/// What was granted and given back in all at a grant, with it, and its place among the grants.
type Granted = (u64, u64, usize);

/// The sequential model: whole numbers, and a division where there is one.
struct Model {
    tokens: u64,
    period: u64,
    burst: u64,
    now: u64,
    granted: u64,
    /// How many were given back; how many had been when refunds of ever older grants began, and the
    /// number of the last of those.
    refunded: u64,
    backwards: u64,
    last: u64,
    /// Who waits, in order: what was granted and given back in all when it was granted, and its place
    /// in `grants`; and how many it wants.
    line: Vec<(Option<Granted>, u64)>,
    /// When how many were granted, and not given back without being used.
    grants: Vec<(u64, u64)>,
}

impl Model {
    fn minted(&self, at: u64) -> u64 {
        (u128::from(at) * u128::from(self.tokens) / u128::from(self.period)) as u64
    }

    fn has_waiter(&self) -> bool {
        self.line.iter().any(|(granted, _)| granted.is_none())
    }

    fn available(&self) -> u64 {
        let minted = self.minted(self.now);
        minted + self.burst - self.granted.max(minted)
    }

    /// Grants `n`, of which those are gone that were beyond the burst at the horizon.
    fn grant(&mut self, n: u64, horizon: u64) -> bool {
        let floor = self.granted.max(self.minted(horizon));
        let fits = floor + n <= self.minted(self.now) + self.burst;
        if fits {
            self.granted = floor + n;
            self.grants.push((self.now, n));
        }
        fits
    }

    fn take(&mut self, n: u64) -> bool {
        n == 0 || !self.has_waiter() && self.grant(n, self.now)
    }

    fn serve(&mut self) {
        for place in 0..self.line.len() {
            let (granted, n) = self.line[place];
            if granted.is_some() {
                continue;
            }
            if !self.grant(n, self.horizon()) {
                return;
            }
            self.line[place].0 = Some((self.granted, self.refunded, self.grants.len() - 1));
        }
    }

    fn horizon(&self) -> u64 {
        self.now.saturating_sub(Limiter::CATCH_UP.as_nanos() as u64)
    }

    /// Whether the last of `granted` tokens came at [`Limiter::CATCH_UP`] before now, or later: what is given
    /// back by now is to come back in full, whatever the rule is.
    fn is_fresh(&self, granted: u64) -> bool {
        granted > self.minted(self.horizon()) + self.burst
    }

    /// Gives back what was granted and not used, as far as it is above what had come at the horizon.
    fn refund(&mut self, (granted, refunded, grant): Granted, n: u64) {
        let number = granted + refunded;
        let older = number >= self.last;
        if older {
            self.backwards = self.refunded;
        }
        self.last = number;
        let since = self.refunded - refunded;
        let since = if !older && self.backwards <= refunded { 0 } else { since };
        let above = granted.saturating_sub(since);
        let back = n.min(above.saturating_sub(self.minted(self.horizon())));
        self.granted -= back;
        self.refunded += back;
        self.grants[grant].1 = 0;
    }
}

/// The real limiter beside the model.
struct Both {
    limiter: Limiter,
    clock: ManualClock,
    model: Model,
    line: Vec<Pin<Box<AcquireOwned>>>,
}

fn poll(acquire: &mut Pin<Box<AcquireOwned>>) -> Poll<()> {
    acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())).map(Result::unwrap)
}

impl Both {
    fn apply(&mut self, op: Op) {
        let burst = self.model.burst as u32;
        let some = |n: u32| n % (burst + 1);
        match op {
            Op::Try(n) => {
                let n = some(n);
                let expected = match self.model.take(n.into()) {
                    true => Ok(()),
                    false => Err(TryAcquireError::NotYet),
                };
                assert_eq!(self.limiter.try_acquire(n), expected);
            }
            Op::Wait(n) => {
                let n = some(n);
                let mut acquire = Box::pin(self.limiter.acquire_owned(n));
                let ready = poll(&mut acquire).is_ready();
                assert_eq!(ready, self.model.take(n.into()));
                if !ready {
                    self.line.push(acquire);
                    self.model.line.push((None, n.into()));
                }
            }
            Op::Poll(at) if !self.line.is_empty() => {
                let at = at % self.line.len();
                let ready = poll(&mut self.line[at]).is_ready();
                assert_eq!(ready, self.model.line[at].0.is_some());
                if ready {
                    drop(self.line.remove(at));
                    self.model.line.remove(at);
                }
            }
            Op::Leave(at) if !self.line.is_empty() => {
                let at = at % self.line.len();
                let before = u64::from(self.limiter.available());
                drop(self.line.remove(at));
                let (granted, n) = self.model.line.remove(at);
                if let Some(grant) = granted {
                    let untouched = self.model.refunded == grant.1 && !self.model.has_waiter();
                    if untouched && self.model.is_fresh(grant.0) {
                        let there = u64::from(self.limiter.available());
                        assert_eq!(there, self.model.burst.min(before + n), "given back in time");
                    }
                    self.model.refund(grant, n);
                }
                self.model.serve();
            }
            Op::Advance(by) => {
                self.clock.advance(Duration::from_nanos(by));
                self.model.now += by;
                self.model.serve();
            }
            Op::Poll(_) | Op::Leave(_) => {}
        }
        assert_eq!(u64::from(self.limiter.available()), self.model.available());
        assert_eq!(self.clock.registered(), usize::from(self.model.has_waiter()));
    }

    /// In every span between two grants no more was used than the quota says.
    fn check_spans(&self) {
        let grants = &self.model.grants;
        for (first, &(from, _)) in grants.iter().enumerate() {
            let mut sum = 0;
            for &(to, n) in &grants[first..] {
                sum += n;
                let span = u128::from(to - from + Limiter::CATCH_UP.as_nanos() as u64);
                let come = (span * u128::from(self.model.tokens))
                    .div_ceil(u128::from(self.model.period)) as u64;
                assert!(sum <= self.model.burst + come, "{sum} in {span} ns");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_limiter_does_what_its_model_does(
        tokens in 1..50_u64,
        period in 1_u64..20_000_000,
        burst in 1..8_u32,
        ops in prop::collection::vec(op(), 80),
    ) {
        let tokens = tokens.min(period * 4);
        let (timer, clock) = Timer::manual();
        let quota = Rate::new(tokens, Duration::from_nanos(period)).burst(burst);
        let limiter = Limiter::with_timer(quota, timer);
        let (line, grants) = (Vec::new(), Vec::new());
        let burst = u64::from(burst);
        let (now, granted, refunded, backwards, last) = (0, 0, 0, 0, 0);
        let model =
            Model { tokens, period, burst, now, granted, refunded, backwards, last, line, grants };
        let mut both = Both { limiter, clock, model, line: Vec::new() };
        for op in ops {
            both.apply(op);
        }
        both.check_spans();
        // Whoever is left is served in the end, without being polled.
        for _ in 0..2000 {
            if !both.model.has_waiter() {
                break;
            }
            both.apply(Op::Advance(20_000_000));
        }
        prop_assert!(both.line.iter_mut().all(|waiter| poll(waiter).is_ready()));
    }
}
