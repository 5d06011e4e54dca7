//! Random operations on a limiter against a sequential model of it, in whole numbers: after each, what is there, who is served, who waits and
//! when the next is due is what the model says; everything that has come is granted, there, or lost beyond the burst; and in no span of time
//! was more granted, and not given back, than the quotas that held in it say (late charges apart). Then the same promise for what the
//! model does not reckon: refunds across changes, parts, classes, reservations.
//!
//! 1,500 cases of 80 operations and as many of the second kind.
#![cfg(not(selvedge_loom))]

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_ratelimit::{
    Acquire, Limiter, ManualClock, Priority, Rate, Reservation, Timer, TryAcquireError,
};

/// What a test does next. Numbers of tokens are taken modulo the burst, places modulo what there is.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// Takes tokens if they are there.
    Try(u32),
    /// Takes as many as there are, up to so many.
    UpTo(u32),
    /// Begins to wait.
    Wait(u32),
    /// Polls one who waits.
    Poll(usize),
    /// Drops one who waits, or was granted and has not seen it.
    Leave(usize),
    /// Moves the clock, by so many nanoseconds.
    Advance(u64),
    /// Takes tokens that are not there.
    Charge(u32),
    /// Another quota: tokens in a period, and a burst.
    Change(u64, u64, u32),
}

const PERIOD: std::ops::Range<u64> = 1..20_000_000;

fn op(with_changes: bool) -> impl Strategy<Value = Op> {
    let n = 0..16_usize;
    prop_oneof![
        4 => any::<u32>().prop_map(Op::Try),
        1 => any::<u32>().prop_map(Op::UpTo),
        6 => any::<u32>().prop_map(Op::Wait),
        3 => n.clone().prop_map(Op::Poll),
        2 => n.prop_map(Op::Leave),
        6 => (0..3_000_000_u64).prop_map(Op::Advance),
        1 => (0..100_000_000_u64).prop_map(Op::Advance),
        u32::from(with_changes) => any::<u32>().prop_map(Op::Charge),
        3 * u32::from(with_changes) => (1..4_u64, PERIOD, 1..8_u32)
            .prop_map(|(tokens, period, burst)| Op::Change(tokens, period, burst)),
    ]
}

/// For how long late timers are made up for.
const CATCH_UP: u64 = Limiter::CATCH_UP.as_nanos() as u64;

/// What was granted, and given back, in all at a grant, with it; and its place among the grants.
type Granted = (i128, i128, usize);

/// The sequential model. A token is `period` units, and `tokens` units come in a nanosecond; what was earned is nothing when the quota begins to
/// hold.
struct Model {
    tokens: u64,
    period: u64,
    burst: u32,
    now: u64,
    /// When the quota began to hold.
    since: u64,
    /// What was granted, in units, since then.
    granted: i128,
    /// So much of what is beyond the burst is not lost, until then.
    slack: Option<(i128, u64)>,
    /// How much was given back; how much had been when refunds of ever older grants began, and the number of the last of those.
    refunded: i128,
    backwards: i128,
    last: i128,
    /// Whether the quota was changed: then nothing that was granted and not seen is dropped.
    changed: bool,
    /// Who waits, in order: with what it was granted, and how many it wants.
    line: Vec<(Option<Granted>, u32)>,
    /// When how many were granted, and not given back without being used.
    grants: Vec<(u64, u64)>,
    /// The quotas, with when they began to hold.
    quotas: Vec<(u64, u64, u64, u32)>,
}

impl Model {
    fn new(tokens: u64, period: u64, burst: u32) -> Self {
        Self {
            tokens,
            period,
            burst,
            now: 0,
            since: 0,
            granted: 0,
            slack: None,
            refunded: 0,
            backwards: 0,
            last: 0,
            changed: false,
            line: Vec::new(),
            grants: Vec::new(),
            quotas: vec![(0, tokens, period, burst)],
        }
    }

    fn units(&self, tokens: u32) -> i128 {
        i128::from(tokens) * i128::from(self.period)
    }

    fn earned(&self, at: u64) -> i128 {
        (i128::from(at) - i128::from(self.since)) * i128::from(self.tokens)
    }

    fn has_waiter(&self) -> bool {
        self.line.iter().any(|(granted, _)| granted.is_none())
    }

    /// Below this, what has come is lost.
    fn floor(&self) -> i128 {
        let slack = self.slack.filter(|(_, until)| self.now <= *until).map_or(0, |slack| slack.0);
        self.earned(self.now) - slack
    }

    /// The same, with somebody in line.
    fn horizon(&self) -> i128 {
        self.earned(self.now.saturating_sub(CATCH_UP))
            .max(self.earned(self.since))
            .min(self.floor())
    }

    fn there(&self) -> i128 {
        let granted = self.granted.max(self.floor());
        (self.earned(self.now) + self.units(self.burst) - granted).max(0)
    }

    fn available(&self) -> u32 {
        (self.there() / i128::from(self.period)) as u32
    }

    /// Grants `n`, of which those are lost that are below the floor.
    fn grant(&mut self, n: u32, floor: i128) -> bool {
        let next = self.granted.max(floor) + self.units(n);
        let fits = next <= self.earned(self.now) + self.units(self.burst);
        if fits {
            self.granted = next;
            self.grants.push((self.now, n.into()));
        }
        fits
    }

    fn take(&mut self, n: u32) -> bool {
        n == 0 || !self.has_waiter() && self.grant(n, self.floor())
    }

    /// When the front is due.
    fn due(&self) -> Option<u64> {
        let (_, n) = self.line.iter().find(|(granted, _)| granted.is_none())?;
        let needs = self.granted.max(self.horizon()) + self.units(*n) - self.units(self.burst);
        let span = (needs + i128::from(self.tokens) - 1).div_euclid(i128::from(self.tokens));
        Some((i128::from(self.since) + span.max(0)) as u64)
    }

    fn serve(&mut self) {
        let mut last = false;
        for place in 0..self.line.len() {
            let (granted, n) = self.line[place];
            if granted.is_some() {
                continue;
            }
            if n > self.burst {
                self.line[place].0 = Some((0, 0, usize::MAX));
                last = false;
                continue;
            }
            if !self.grant(n, self.horizon()) {
                return;
            }
            self.line[place].0 = Some((self.granted, self.refunded, self.grants.len() - 1));
            last = true;
        }
        let left = self.earned(self.now) - self.granted;
        if last && left > 0 {
            let credit = i128::from(CATCH_UP) * i128::from(self.tokens);
            self.slack = Some((credit, self.now + CATCH_UP));
        }
    }

    /// Gives back what was granted and not used, as far as it is above what had come at the horizon.
    fn refund(&mut self, (granted, refunded, grant): Granted, n: u32) {
        let number = granted + refunded;
        let older = number >= self.last;
        if older {
            self.backwards = self.refunded;
        }
        self.last = number;
        let since = self.refunded - refunded;
        let since = if !older && self.backwards <= refunded { 0 } else { since };
        let above =
            (granted - since - self.earned(self.now.saturating_sub(CATCH_UP)).max(0)).max(0);
        let back = self.units(n).min(above);
        self.granted -= back;
        self.refunded += back;
        self.grants[grant].1 = 0;
    }

    fn change(&mut self, tokens: u64, period: u64, burst: u32) {
        let floor = if self.has_waiter() { self.horizon() } else { self.floor() };
        let deficit = self.granted.max(floor) - self.earned(self.now);
        // Rounded up.
        let deficit = -(-deficit * i128::from(period)).div_euclid(i128::from(self.period));
        (self.tokens, self.period, self.burst) = (tokens, period, burst);
        (self.since, self.granted, self.slack, self.changed) = (self.now, deficit, None, true);
        self.quotas.push((self.now, tokens, period, burst));
    }

    /// What the quotas admit in a span: the largest burst that held in it, and what came.
    fn most(&self, from: u64, to: u64) -> u64 {
        let (mut burst, mut come) = (0, 0.0);
        let start = from.saturating_sub(CATCH_UP);
        for (place, &(since, tokens, period, size)) in self.quotas.iter().enumerate() {
            let until = self.quotas.get(place + 1).map_or(u64::MAX, |next| next.0);
            if since <= to && until >= start {
                burst = burst.max(u64::from(size));
                let span = until.min(to) - since.max(start).min(until.min(to));
                come += span as f64 * tokens as f64 / period as f64;
            }
        }
        burst + (come + 1e-6).ceil() as u64
    }
}

/// The real limiter beside the model.
struct Both {
    limiter: Limiter,
    clock: ManualClock,
    model: Model,
    line: Vec<Pin<Box<Acquire<'static>>>>,
}

fn poll(acquire: &mut Pin<Box<Acquire<'static>>>) -> Poll<bool> {
    acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())).map(|told| told.is_ok())
}

impl Both {
    fn apply(&mut self, op: Op) {
        let burst = self.model.burst;
        let some = |n: u32| n % (burst + 1);
        match op {
            Op::Try(n) => {
                let n = some(n);
                let (taken, model) = (self.limiter.try_acquire(n), self.model.take(n));
                assert_eq!(taken.is_ok(), model);
                if let Err(TryAcquireError::NotYet(not_yet)) = taken {
                    assert!(
                        !not_yet.retry_in().expect("some time").is_zero()
                            || self.model.has_waiter()
                    );
                }
            }
            Op::UpTo(n) => {
                let there = if self.model.has_waiter() { 0 } else { self.model.available() };
                let taken = some(n).min(there);
                assert_eq!(self.limiter.take_up_to(some(n)), taken);
                assert!(taken == 0 || self.model.take(taken));
            }
            Op::Wait(n) => {
                let n = some(n);
                let mut acquire = Box::pin(self.limiter.acquire_owned(n));
                let ready = poll(&mut acquire).is_ready();
                assert_eq!(ready, self.model.take(n));
                if !ready {
                    self.line.push(acquire);
                    self.model.line.push((None, n));
                }
            }
            Op::Poll(at) if !self.line.is_empty() => {
                let at = at % self.line.len();
                let polled = poll(&mut self.line[at]);
                let told = self.model.line[at].0.map(|(.., grant)| grant != usize::MAX);
                assert_eq!(polled, told.map_or(Poll::Pending, Poll::Ready));
                if polled.is_ready() {
                    drop(self.line.remove(at));
                    self.model.line.remove(at);
                }
            }
            Op::Leave(at) if !self.line.is_empty() => {
                let at = at % self.line.len();
                if self.model.changed && self.model.line[at].0.is_some() {
                    return self.apply(Op::Poll(at));
                }
                drop(self.line.remove(at));
                let (granted, n) = self.model.line.remove(at);
                if let Some(grant) = granted {
                    self.model.refund(grant, n);
                }
                self.model.serve();
            }
            Op::Advance(by) => {
                self.clock.advance(Duration::from_nanos(by));
                self.model.now += by;
                self.model.serve();
            }
            Op::Charge(n) => {
                self.limiter.charge(some(n));
                self.model.granted = self.model.granted.max(match self.model.has_waiter() {
                    true => self.model.horizon(),
                    false => self.model.floor(),
                });
                self.model.granted += self.model.units(some(n));
            }
            Op::Change(tokens, period, burst) => {
                self.limiter.set_quota(quota(tokens, period, burst));
                self.model.change(tokens, period, burst);
                self.model.serve();
            }
            Op::Poll(_) | Op::Leave(_) => {}
        }
        assert_eq!(self.limiter.available(), self.model.available());
        assert_eq!(self.clock.registered(), usize::from(self.model.has_waiter()));
        let place = self.model.line.iter().position(|(granted, _)| granted.is_none());
        if let Some(place) = place {
            let standing = self.line[place].as_ref().standing().expect("it stands in line");
            let due = self.model.due().expect("somebody waits");
            assert_eq!(standing.ahead, 0);
            assert_eq!(
                standing.due_in,
                Some(Duration::from_nanos(due.saturating_sub(self.model.now)))
            );
        }
    }

    /// In every span between two grants no more was used than the quotas say.
    fn check_spans(&self) {
        let grants = &self.model.grants;
        for (first, &(from, _)) in grants.iter().enumerate() {
            let mut sum = 0;
            for &(to, n) in &grants[first..] {
                sum += n;
                let most = self.model.most(from, to);
                assert!(sum <= most, "{sum} from {from} to {to} ns, where {most} are the most");
            }
        }
    }
}

fn quota(tokens: u64, period: u64, burst: u32) -> selvedge_ratelimit::Quota {
    Rate::new(tokens, Duration::from_nanos(period)).burst(burst)
}

/// In lowest terms, as the limiter reckons.
fn lowest(tokens: u64, period: u64) -> (u64, u64) {
    let tokens = tokens.min(period * 4);
    let common = if period.is_multiple_of(tokens) { tokens } else { 1 };
    (tokens / common, period / common)
}

fn check(tokens: u64, period: u64, burst: u32, ops: Vec<Op>) {
    let (tokens, period) = lowest(tokens, period);
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(quota(tokens, period, burst), timer);
    let model = Model::new(tokens, period, burst);
    let mut both = Both { limiter, clock, model, line: Vec::new() };
    for op in ops {
        both.apply(match op {
            Op::Change(tokens, period, burst) => {
                let (tokens, period) = lowest(tokens, period);
                Op::Change(tokens, period, burst)
            }
            op => op,
        });
    }
    both.check_spans();
    // Whoever is left is served in the end, without being polled.
    for _ in 0..4_000 {
        if !both.model.has_waiter() {
            break;
        }
        both.apply(Op::Advance(20_000_000));
    }
    assert!(both.line.iter_mut().all(|waiter| poll(waiter).is_ready()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_limiter_does_what_its_model_does(
        tokens in 1..4_u64,
        period in PERIOD,
        burst in 1..8_u32,
        ops in prop::collection::vec(op(false), 80),
    ) {
        check(tokens, period, burst, ops);
    }

    #[test]
    fn a_limiter_that_changes_does_what_its_model_does(
        tokens in 1..4_u64,
        period in PERIOD,
        burst in 1..8_u32,
        ops in prop::collection::vec(op(true), 80),
    ) {
        check(tokens, period, burst, ops);
    }
}

/// What the second test does next, beyond taking and moving the clock.
#[derive(Debug, Clone, Copy)]
enum Wild {
    /// As the other test.
    Op(Op),
    /// Begins to wait in a class; with `true` it looks after each operation whether it was granted, else it is dropped some time, granted
    /// or not.
    WaitIn(u32, Priority, bool),
    /// Begins to wait for several bursts, and is dropped some time.
    Split(u32),
    /// Reserves; with `true` it is used when it is due, else cancelled some time.
    Reserve(u32, bool),
    /// Gives up a reservation.
    Cancel(usize),
    /// Moves the clock while nobody rings: then somebody does.
    Late(u64),
}

fn wild() -> impl Strategy<Value = Wild> {
    let class = prop_oneof![Just(Priority::High), Just(Priority::Normal), Just(Priority::Low)];
    prop_oneof![
        6 => op(true).prop_map(Wild::Op),
        4 => (any::<u32>(), class, any::<bool>()).prop_map(|(n, class, seen)| Wild::WaitIn(n, class, seen)),
        1 => any::<u32>().prop_map(Wild::Split),
        3 => any::<(u32, bool)>().prop_map(|(n, used)| Wild::Reserve(n, used)),
        1 => (0..16_usize).prop_map(Wild::Cancel),
        2 => (0..5_000_000_u64).prop_map(Wild::Late),
    ]
}

/// A limiter, and what was used of it.
struct Seen {
    limiter: Limiter,
    clock: ManualClock,
    /// The clock, the quotas, and when how many were used.
    model: Model,
    line: Vec<(Pin<Box<Acquire<'static>>>, u32, bool)>,
    reserved: Vec<(Reservation, u32, bool)>,
}

impl Seen {
    fn used(&mut self, n: u32) {
        self.model.grants.push((self.model.now, n.into()));
    }

    fn apply(&mut self, wild: Wild) {
        let burst = self.model.burst;
        let some = |n: u32| n % burst + 1;
        match wild {
            Wild::Op(Op::Try(n)) => {
                if self.limiter.try_acquire(some(n)).is_ok() {
                    self.used(some(n));
                }
            }
            Wild::Op(Op::UpTo(n)) => {
                let taken = self.limiter.take_up_to(n % 8);
                self.used(taken);
            }
            Wild::Op(Op::Wait(n)) => self.apply(Wild::WaitIn(n, Priority::Normal, true)),
            Wild::WaitIn(n, class, seen) => {
                let acquire = Box::pin(self.limiter.acquire_owned(some(n)).priority(class));
                self.enter(acquire, some(n), seen);
            }
            Wild::Split(n) => {
                let acquire = Box::pin(self.limiter.acquire_owned(n % 40).split());
                self.enter(acquire, 0, false);
            }
            Wild::Op(Op::Leave(at)) if !self.line.is_empty() => {
                let at = at % self.line.len();
                drop(self.line.remove(at));
            }
            Wild::Op(Op::Advance(by)) => {
                self.clock.advance(Duration::from_nanos(by));
                self.model.now += by;
            }
            Wild::Late(by) => {
                self.clock.advance_silently(Duration::from_nanos(by));
                self.model.now += by;
            }
            Wild::Op(Op::Change(tokens, period, burst)) => {
                let tokens = tokens.min(period * 4);
                self.limiter.set_quota(quota(tokens, period, burst));
                let now = self.model.now;
                self.model.quotas.push((now, tokens, period, burst));
                self.model.burst = burst;
            }
            Wild::Reserve(n, used) => {
                if let Ok(reservation) = self.limiter.reserve(some(n)) {
                    self.reserved.push((reservation, some(n), used));
                }
            }
            Wild::Cancel(at) if !self.reserved.is_empty() => {
                let at = at % self.reserved.len();
                let (reservation, n, _) = self.reserved.remove(at);
                assert!(reservation.cancel() <= n);
            }
            Wild::Op(_) | Wild::Cancel(_) => {}
        }
        self.look();
    }

    fn enter(&mut self, mut acquire: Pin<Box<Acquire<'static>>>, n: u32, seen: bool) {
        match poll(&mut acquire) {
            Poll::Ready(true) => self.used(n),
            Poll::Ready(false) => {}
            Poll::Pending => self.line.push((acquire, n, seen)),
        }
    }

    /// Whoever looks uses what it was granted. Reservations first: who uses one that is due has all served that are due before it.
    fn look(&mut self) {
        // What one who uses has served is looked at as well, now and not when the clock has moved.
        let mut before = usize::MAX;
        while before != self.line.len() + self.reserved.len() {
            before = self.line.len() + self.reserved.len();
            self.look_once();
        }
    }

    fn look_once(&mut self) {
        for at in (0..self.reserved.len()).rev() {
            let (reservation, n, used) = &self.reserved[at];
            let n = *n;
            if *used && reservation.due_in() == Some(Duration::ZERO) {
                self.reserved.remove(at).0.commit(n);
                self.used(n);
            }
        }
        for at in (0..self.line.len()).rev() {
            let (acquire, n, seen) = &mut self.line[at];
            let (n, polled) = (*n, if *seen { poll(acquire) } else { Poll::Pending });
            if let Poll::Ready(granted) = polled {
                drop(self.line.remove(at));
                self.used(if granted { n } else { 0 });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_is_done_no_more_is_used_than_the_quotas_say(
        tokens in 1..50_u64,
        period in PERIOD,
        burst in 1..8_u32,
        leased: bool,
        ops in prop::collection::vec(wild(), 80),
    ) {
        let tokens = tokens.min(period * 4);
        let (timer, clock) = Timer::manual();
        let builder = Limiter::builder(quota(tokens, period, burst)).timer(timer);
        let limiter = if leased { builder.leased() } else { builder }.build();
        let model = Model::new(tokens, period, burst);
        let (line, reserved) = (Vec::new(), Vec::new());
        let mut seen = Seen { limiter, clock, model, line, reserved };
        for op in ops {
            seen.apply(op);
        }
        let Seen { limiter, clock, model, .. } = seen;
        let both = Both { limiter, clock, model, line: Vec::new() };
        both.check_spans();
    }
}
