//! Those who wait: one caller after the other, a thousand at once, ten thousand at once.
//!
//! Everybody has a burst of one and runs in tokio; by default, ours and governor wait for a timer thread,
//! each for its own, and leaky-bucket for tokio's timer, which has a grain of a millisecond. So ours on
//! that timer is there as a reference. `ratelimit` has nothing that waits, so its callers sleep in tokio
//! for as long as it tells them and try again, as its documentation does with threads. leaky-bucket
//! counts in milliseconds, so above a thousand a second its burst is what comes in one. Ours grants what
//! came in up to 2 ms in which its timer was late.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use futures::future::poll_fn;
use governor::clock::{Clock, MonotonicClock, QuantaClock, ReasonablyRealtime};
use selvedge_ratelimit::{Rate, Timer};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::{Governor, Iops, LeakyBucket, Ours};
use crate::harness::{Count, Shape, Work};
use crate::shapes::Scale;

/// Every shape of those who wait.
pub(super) fn shapes(scale: Scale) -> Vec<Shape> {
    // As many as make the last millisecond, in which the timer may be late, a small share.
    vec![
        one_caller("1,000 a second", 1_000, scale.of(300, 50, 5)),
        one_caller("10,000 a second", 10_000, scale.of(1_000, 100, 10)),
        one_caller("100,000 a second", 100_000, scale.of(4_000, 500, 20)),
        thousand(scale),
        lateness(scale),
    ]
}

/// What the limiters have in common, for who waits.
trait Paced: 'static {
    /// Whether it promises to serve in order and to wake nobody in vain.
    const IN_LINE: bool = false;
    /// So many a second, one at a time; called in a runtime.
    fn new(rate: u32) -> Self;
    /// Takes a token when there is one.
    async fn take(&self);
}

impl Paced for Ours {
    const IN_LINE: bool = true;

    fn new(rate: u32) -> Self {
        Self::new(Rate::per_second(rate.into()).burst(1))
    }

    async fn take(&self) {
        self.acquire(1).await.expect("there is a timer");
    }
}

/// Ours on tokio's clock and timer.
struct OnTokio(Ours);

impl Paced for OnTokio {
    const IN_LINE: bool = true;

    fn new(rate: u32) -> Self {
        let timer = Timer::ambient().expect("the runtime has a time driver");
        Self(Ours::with_timer(Rate::per_second(rate.into()).burst(1), timer))
    }

    async fn take(&self) {
        self.0.take().await;
    }
}

impl<C: Clock + Default + ReasonablyRealtime + 'static> Paced for Governor<C> {
    fn new(rate: u32) -> Self {
        let [rate, one] = [rate, 1].map(|n| NonZeroU32::new(n).expect("not zero"));
        let quota = governor::Quota::per_second(rate).allow_burst(one);
        Self::direct_with_clock(quota, C::default())
    }

    async fn take(&self) {
        self.until_ready().await;
    }
}

impl Paced for LeakyBucket {
    fn new(rate: u32) -> Self {
        let each = (rate as usize / 1_000).max(1);
        let interval = period(rate).max(Duration::from_millis(1));
        Self::builder().max(each).initial(1).refill(each).interval(interval).build()
    }

    async fn take(&self) {
        self.acquire_one().await;
    }
}

impl Paced for Iops {
    fn new(rate: u32) -> Self {
        let builder = Self::builder(rate.into()).max_tokens(1).initial_available(1);
        builder.build().expect("it makes sense")
    }

    async fn take(&self) {
        use ratelimit::TryWaitError::Insufficient;
        while let Err(refused) = self.try_wait() {
            let Insufficient(span) = refused else { panic!("one fits: {refused}") };
            tokio::time::sleep(span).await;
        }
    }
}

/// From one token to the next.
fn period(rate: u32) -> Duration {
    Duration::from_secs(1) / rate
}

/// A limiter and the runtime that it is made in.
fn limiter<L: Paced>(rate: u32) -> (L, Runtime) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let limiter = {
        let _inside = runtime.enter();
        L::new(rate)
    };
    (limiter, runtime)
}

/// With everybody that waits.
fn contest(shape: Shape, each: impl Contest + 'static) -> Shape {
    shape
        .ours(move |n| each.run::<Ours>(n))
        .peer("governor, std clock", move |n| each.run::<Governor<MonotonicClock>>(n))
        .peer("governor, quanta", move |n| each.run::<Governor<QuantaClock>>(n))
        .peer("leaky-bucket", move |n| each.run::<LeakyBucket>(n))
        .peer("ratelimit and sleep", move |n| each.run::<Iops>(n))
        .reference("ours, tokio's timer", move |n| each.run::<OnTokio>(n))
}

/// A shape for whichever limiter.
trait Contest: Copy {
    /// Waits for so many tokens.
    fn run<L: Paced>(self, n: u64) -> Count;
}

/// One caller takes tokens as they come, one at a time: what a token takes. The period of the rate is
/// the ideal; what is above it the caller has lost.
fn one_caller(parameter: &'static str, rate: u32, tokens: u64) -> Shape {
    #[derive(Clone, Copy)]
    struct OneCaller(u32);

    impl Contest for OneCaller {
        fn run<L: Paced>(self, n: u64) -> Count {
            let (limiter, runtime) = limiter::<L>(self.0);
            runtime.block_on(async {
                // The first is there. With the second its timer has been used once.
                limiter.take().await;
                limiter.take().await;
            });
            let count = Count::time(|| {
                runtime.block_on(async {
                    for _ in 0..n {
                        limiter.take().await;
                    }
                });
            });
            assert_not_early(count.elapsed, self.0, n);
            count
        }
    }

    contest(Shape::new("ratelimit", "paced", parameter, Work::Exactly(tokens)), OneCaller(rate))
}

/// That so many tokens were not taken before they came, but for what a late timer lets catch up.
fn assert_not_early(elapsed: Duration, rate: u32, tokens: u64) {
    let least = period(rate).mul_f64(tokens as f64 - 1.0);
    let told = elapsed + Ours::CATCH_UP;
    assert!(told >= least, "{tokens} tokens of {rate} a second in {elapsed:?}");
}

/// A thousand tasks take tokens as they come: what a token takes.
fn thousand(scale: Scale) -> Shape {
    const RATE: u32 = 100_000;

    #[derive(Clone, Copy)]
    struct Thousand(u64);

    impl Contest for Thousand {
        fn run<L: Paced>(self, n: u64) -> Count {
            let (limiter, runtime) = limiter::<L>(RATE);
            let limiter = Rc::new(limiter);
            runtime.block_on(limiter.take());
            let (tasks, share) = (LocalSet::new(), n / self.0);
            for _ in 0..self.0 {
                let limiter = Rc::clone(&limiter);
                tasks.spawn_local(async move {
                    for _ in 0..share {
                        limiter.take().await;
                    }
                });
            }
            let count = Count::time(|| runtime.block_on(tasks));
            assert_not_early(count.elapsed, RATE, n);
            count
        }
    }

    let tasks = scale.of(1_000, 1_000, 10);
    let work = Work::Exactly(scale.of(4_000, 1_000, 20));
    let parameter = format!("100,000 a second, {tasks} tasks");
    contest(Shape::new("ratelimit", "paced", parameter, work), Thousand(tasks))
}

/// Ten thousand tasks wait for a token each: how late the first few hundred tokens are, 99 of 100 at
/// most. Late is behind the pace that the earliest of them set: the pace begins with the limiter or with
/// its first token, by the crate.
///
/// Ours has to wake them in their order, and to wake no more than are let in: one in ten more, as the bar
/// has it. In which order those who were woken are polled is up to tokio.
fn lateness(scale: Scale) -> Shape {
    const RATE: u32 = 1_000;

    #[derive(Clone, Copy)]
    struct Lateness(usize);

    /// The waker of a task; notes whom it wakes.
    struct Numbered {
        number: usize,
        woken: Arc<Mutex<Vec<usize>>>,
        task: Waker,
    }

    impl Wake for Numbered {
        fn wake(self: Arc<Self>) {
            self.woken.lock().expect("nobody panicked").push(self.number);
            self.task.wake_by_ref();
        }
    }

    impl Contest for Lateness {
        fn run<L: Paced>(self, n: u64) -> Count {
            let (limiter, runtime) = limiter::<L>(RATE);
            let limiter = Rc::new(limiter);
            let (woken, tasks) = (Arc::new(Mutex::default()), LocalSet::new());
            let admitted = Rc::new(RefCell::new(Vec::new()));
            for number in 0..self.0 {
                let (limiter, admitted) = (Rc::clone(&limiter), Rc::clone(&admitted));
                let woken = Arc::clone(&woken);
                tasks.spawn_local(async move {
                    let mut taking = pin!(limiter.take());
                    let mut waker = None;
                    poll_fn(|cx| {
                        // A task of tokio's has one waker for life.
                        let waker = waker.get_or_insert_with(|| {
                            let (woken, task) = (Arc::clone(&woken), cx.waker().clone());
                            Waker::from(Arc::new(Numbered { number, woken, task }))
                        });
                        taking.as_mut().poll(&mut Context::from_waker(waker))
                    })
                    .await;
                    admitted.borrow_mut().push(Instant::now());
                });
            }
            let n = usize::try_from(n).expect("some");
            runtime.block_on(tasks.run_until(async {
                // The timer of tokio, which whoever waits has anyway, and not a task that is always woken.
                while admitted.borrow().len() <= n {
                    tokio::time::sleep(period(RATE)).await;
                }
            }));
            // Those who are dropped give back and hand on: that wakes as well.
            let woken = std::mem::take(&mut *woken.lock().expect("nobody panicked"));
            drop(tasks);

            let admitted = admitted.borrow();
            let first = admitted[0];
            // How far behind the first, less what the rate gives for the place in the line.
            let behind = admitted[..=n].iter().zip((0..=n).rev()).map(|(moment, ahead)| {
                moment.saturating_duration_since(first) + period(RATE) * ahead as u32
            });
            let mut behind: Vec<_> = behind.collect();
            behind.sort_unstable();
            if L::IN_LINE {
                assert!(woken.is_sorted(), "somebody was overtaken: {woken:?}");
                let most = admitted.len() + admitted.len() / 10;
                assert!(woken.len() <= most, "{} woken to let {} in", woken.len(), admitted.len());
            }
            let place = (behind.len() * 99).div_ceil(100) - 1;
            Count::told(behind[place] - behind[0], n as u64)
        }
    }

    let waiters = scale.of(10_000, 10_000, 100);
    let work = Work::Exactly(scale.of(300, 50, 5));
    let parameter = format!("1,000 a second, {waiters} tasks: p99 of lateness");
    contest(Shape::new("ratelimit", "paced", parameter, work), Lateness(waiters))
}
