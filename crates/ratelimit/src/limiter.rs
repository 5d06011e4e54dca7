//! The face of the limiter: making one, taking tokens, waiting for them, and what is promised. The work is done in
//! `limiter/engine.rs`; there are no atomics and no locks here.
// tidy: std-sync, a place that is written once, by whoever uses the limiter first, in a static as well

mod acquire;
mod bell;
mod builder;
mod engine;
mod error;
mod lease;
mod plan;
mod priority;
mod refund;
mod reservation;

pub use acquire::{Acquire, Standing};
pub use builder::LimiterBuilder;
pub use error::{AcquireError, NotYet, TryAcquireError};
pub use priority::Priority;
pub use reservation::{Ready, Reservation};

use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use selvedge_cancel::{Context, RunOrCause};
use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::{Timer, nanos};
use selvedge_primitives::{Origin, block_on};

use crate::{Quota, Rate, Throttle};
use acquire::Acquiring;
pub(crate) use acquire::Handle;
pub(crate) use engine::{Ask, Engine};
pub(crate) use plan::Settings;
pub(crate) use refund::deficit_between;

/// A token bucket: admits what its [`Quota`] says, exactly, first in, first out.
///
/// Go's `rate.Limiter`, and with a burst of one a `time.Ticker` that is asked rather than listened to. Clones are handles to the
/// same limiter.
///
/// | Go | here |
/// |---|---|
/// | `rate.NewLimiter(50, 10)` | [`Limiter::new`]`(Rate::per_second(50).burst(10))` |
/// | `lim.Allow()`, `lim.AllowN(now, n)` | [`try_acquire(n)`](Self::try_acquire) |
/// | `lim.WaitN(ctx, n)` | [`acquire_in(&ctx, n)`](Self::acquire_in) |
/// | `lim.ReserveN(now, n)` | [`reserve(n)`](Self::reserve) |
/// | `lim.SetLimit`, `lim.SetBurst` | [`set_rate`](Self::set_rate), [`set_burst`](Self::set_burst) |
/// | `lim.Tokens()` | [`available`](Self::available) |
/// | `for range time.Tick(d)` | `acquire(1)` in a loop, of [`Limiter::strict`]; or a pipeline's `ticks` |
///
/// # Exactness
///
/// In every span of time no more is granted than the burst and what comes in that time. Parts of a token count: with a burst of one, no two
/// are granted closer together than the rate says. A token is there when it is due, late by less than 2 ns in a hundred years, and at
/// the rates that people write not at all. There is no drift, at any rate: what has come is computed, exactly, from the whole time since
/// the quota began to hold.
///
/// Two things come later than they are due, and both are the machine's. A timer rings late; what came meanwhile is made up for
/// to those who were in line then, and to who comes right after them, up to what comes in [2 ms](Self::CATCH_UP)
/// ([or another time, or none](LimiterBuilder::catch_up)); so in a span of time there may be granted what comes in those 2 ms more. And
/// a grant may be used later than it was made, by a task that is not polled at once. Tokens that were granted and never used,
/// because the future was dropped before it was polled again, go to the next: all of them within the catch-up of the moment
/// in which they came (if several go, from the first on or from the last on; in another order some may be held back); later, as
/// many as would not be beyond the burst by then. More would be a second burst.
///
/// What is [charged](Self::charge) late is beyond all this: it is granted when it is said, and those who come later wait for it.
///
/// # The clock
///
/// A limiter has the clock and the timer of one [driver](Timer). [`new`](Self::new) takes std's monotonic clock and the timer
/// thread of the process: it serves any executor and any number of runtimes, so it is right for a limiter in a static, and
/// it rings more precisely than tokio's timer, which rounds up to a millisecond. [`with_timer`](Self::with_timer) takes another:
/// tokio's, for tests with paused time, or one that is moved by hand.
///
/// A clock that goes back, or stands still, admits nothing. One that leaps forward admits the burst. On Linux the monotonic
/// clock stands still while the machine is suspended.
///
/// # A quota that changes
///
/// [`set_rate`](Self::set_rate), [`set_burst`](Self::set_burst) and [`set_quota`](Self::set_quota) hold from the moment of the call on, also for
/// those in line: what has come until then came at the old rate. What is kept is how much is missing from a full bucket. So a larger burst
/// is there at once, and what a smaller one takes away may leave the bucket in debt. Each change may cost the part of a unit in which tokens are
/// counted, about a nanosecond's worth. Tries that run meanwhile go by the one or the other.
///
/// # Fairness
///
/// Those who wait are served in the order in which they came, in each of three [classes](Priority). Nobody overtakes them: neither
/// [`try_acquire`](Self::try_acquire), nor a small request that would fit. A large request makes the small ones behind it wait, though no
/// longer than they would if it had come before. The timer wakes the limiter, which grants whatever is due: a waiter that is
/// not polled delays nobody.
///
/// # Memory ordering
///
/// None is promised: tokens carry nothing from one who used them to the next.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::{Limiter, Rate, Timer, TryAcquireError};
///
/// let (timer, clock) = Timer::manual();
/// let limiter = Limiter::with_timer(Rate::per_second(2).burst(3), timer);
///
/// assert!(limiter.try_acquire(3).is_ok(), "the burst");
/// let refused = limiter.try_acquire(1).unwrap_err();
/// assert_eq!(refused.retry_in(), Some(Duration::from_millis(500)));
///
/// clock.advance(Duration::from_millis(500));
/// assert!(limiter.try_acquire(1).is_ok());
/// // This one could never be served. It is told so, and blocks nobody.
/// assert_eq!(limiter.try_acquire(4), Err(TryAcquireError::OverBurst { wanted: 4, burst: 3 }));
/// ```
///
/// In a static:
///
/// ```
/// use selvedge_ratelimit::{Limiter, Rate};
///
/// static LOGINS: Limiter = Limiter::new(Rate::per_minute(5).burst(5));
/// assert!(LOGINS.try_acquire(1).is_ok());
/// ```
///
/// # Algorithm
///
/// The generic cell rate algorithm (ITU-T I.371) turned round: what is kept is not the time at which the next token comes but how many
/// were granted, as a whole number in one word. What has come by now is a multiplication of 64 bits and two shifts. To take is to
/// read the clock and one compare-and-swap; to be refused writes nothing, and when it makes sense to come again is reckoned if it is asked for.
/// One timer registration serves
/// all who wait; a waiter costs two lock trips (its own, and a share in that of who serves), one wake-up and no
/// allocation. The first in line costs two more, and the registration: on tokio's timer, when nothing else is registered, a task. A limiter
/// is two allocations, made when it is first used.
pub struct Limiter {
    /// Counts, queues, serves; made when it is first used.
    engine: OnceLock<Arc<Engine>>,
    /// What it is made from.
    quota: Quota,
    /// What it is made from.
    settings: Settings,
    /// What it is made from.
    timer: Timer,
    /// Name and place.
    origin: Origin,
}

impl Limiter {
    /// How late a timer may ring without a loss, if [nothing else](LimiterBuilder::catch_up) is said.
    pub const CATCH_UP: Duration = plan::CATCH_UP;

    /// A limiter on std's clock, with its burst to be had at once.
    #[track_caller]
    pub const fn new(quota: Quota) -> Self {
        Self::of(quota, Settings::DEFAULT, Timer::thread(), Origin::here())
    }

    /// A limiter on the clock of `timer`, with its burst to be had at once.
    ///
    /// # Examples
    ///
    /// tokio's clock, paused:
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_ratelimit::{Limiter, Rate, Timer};
    ///
    /// # #[cfg(feature = "tokio")]
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limiter = Limiter::with_timer(Rate::every(Duration::from_secs(60)).burst(1), Timer::ambient()?);
    /// let start = tokio::time::Instant::now();
    /// for _ in 0..3 {
    ///     limiter.acquire(1).await?;
    /// }
    /// assert_eq!(start.elapsed().as_secs(), 120);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "tokio"))]
    /// # fn main() {}
    /// ```
    #[track_caller]
    pub const fn with_timer(quota: Quota, timer: Timer) -> Self {
        Self::of(quota, Settings::DEFAULT, timer, Origin::here())
    }

    /// A strict tick: one token at a time, never closer together than the rate says, and no [catch-up](LimiterBuilder::catch_up): a token
    /// that is granted late moves those behind it.
    ///
    /// What has to be spaced evenly wants this; what has to reach its rate, a burst of one with catch-up.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use selvedge_ratelimit::{Limiter, Rate};
    ///
    /// static TICK: Limiter = Limiter::strict(Rate::per_second(500));
    /// TICK.acquire_blocking(1)?;
    /// let first = Instant::now();
    /// TICK.acquire_blocking(1)?;
    /// assert!(first.elapsed() >= Duration::from_millis(1));
    /// # Ok::<_, selvedge_ratelimit::AcquireError>(())
    /// ```
    #[track_caller]
    pub const fn strict(rate: Rate) -> Self {
        let settings = Settings { catch_up: Duration::ZERO, ..Settings::DEFAULT };
        Self::of(rate.burst(1), settings, Timer::thread(), Origin::here())
    }

    /// A limiter of which more is to be said.
    #[track_caller]
    pub const fn builder(quota: Quota) -> LimiterBuilder {
        LimiterBuilder::new(quota)
    }

    /// A limiter of all that.
    const fn of(quota: Quota, settings: Settings, timer: Timer, origin: Origin) -> Self {
        Self { engine: OnceLock::new(), quota, settings, timer, origin }
    }

    /// The engine, made if this is the first use.
    #[inline]
    fn engine(&self) -> &Arc<Engine> {
        match self.engine.get() {
            Some(engine) => engine,
            None => self.begin(),
        }
    }

    /// The first use.
    #[cold]
    fn begin(&self) -> &Arc<Engine> {
        self.engine.get_or_init(|| {
            let subject = Subject::new("limiter", &self.origin);
            Arc::new(Engine::new(self.quota, self.settings, self.timer.clone(), subject))
        })
    }

    /// The name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.origin.name()
    }

    /// Where it was made.
    pub fn place(&self) -> &'static Location<'static> {
        self.origin.place()
    }

    /// What it admits now.
    pub fn quota(&self) -> Quota {
        self.engine().quota()
    }

    /// How many tokens there are: right at the moment of the call, perhaps not any more when it returns. While somebody waits
    /// for more than that, they are there and yet not to be had. Without a limit, [`u32::MAX`].
    pub fn available(&self) -> u32 {
        self.engine().available()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.engine().waiting()
    }

    /// How long it is until a newcomer could have `n` tokens, if nobody takes any before and those in line have theirs: zero if
    /// they are there; none if that is never, because `n` is above the burst or the time beyond what is counted.
    pub fn ready_in(&self, n: u32) -> Option<Duration> {
        match n {
            0 => Some(Duration::ZERO),
            n if n > self.engine().burst() => None,
            n => self.engine().ready_in(n),
        }
    }

    /// Takes `n` tokens if that is possible without waiting and without overtaking anybody who waits. `n = 0` is always
    /// possible, unless the limiter is closed.
    ///
    /// # Errors
    ///
    /// - [`TryAcquireError::NotYet`]: fewer than `n` are there, or somebody waits. It knows [when to retry](TryAcquireError::retry_in).
    /// - [`TryAcquireError::OverBurst`]: `n` is above the burst.
    /// - [`TryAcquireError::Closed`].
    #[inline(always)]
    pub fn try_acquire(&self, n: u32) -> Result<(), TryAcquireError> {
        let engine = self.engine();
        let told = engine.try_take(n);
        engine.meter().tried(n, &told);
        told
    }

    /// Takes as many tokens as there are, at most `n`, and says how many: none while others wait, and none if the limiter is closed.
    ///
    /// Costs a trip to the lock of the line.
    pub fn take_up_to(&self, n: u32) -> u32 {
        if n == 0 {
            return 0;
        }
        let engine = self.engine();
        let taken = engine.take_up_to(n);
        engine.meter().told(taken, taken > 0, true);
        taken
    }

    /// Takes all tokens that are there, and says how many: so that the next come one by one.
    pub fn drain(&self) -> u32 {
        self.take_up_to(u32::MAX)
    }

    /// Takes `n` tokens whether they are there or not: for what turns out to have cost more than was acquired. Those who come later wait
    /// until that has come, and so do those in line. A debt that takes more than nine years to come is not counted beyond that (two at the highest
    /// rate), nor is one that does after the rate was lowered.
    pub fn charge(&self, n: u32) {
        self.engine().charge(n);
    }

    /// Takes `n` tokens, waiting in line for them.
    ///
    /// `n = 0` completes at once also while others wait, unless the limiter is closed. The place in the line is taken by the first poll that finds
    /// too few tokens, not by this call.
    ///
    /// # Cancel safety
    ///
    /// Safe. A future dropped while it waits takes no tokens, and whoever waited behind it moves up by as many. One that
    /// was granted and not polled since gives its tokens back, as the [limiter's page](Self#exactness) says.
    ///
    /// # Fairness
    ///
    /// First in, first out, in the [class](Acquire::priority) that is asked for; see [`Limiter`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// None; see [`Limiter`](Self#memory-ordering).
    ///
    /// # Errors
    ///
    /// - [`AcquireError::OverBurst`], at once: `n` is above the burst, and the request is not [split](Acquire::split). Nobody waits behind
    ///   it. Also, at the front of the line, when the burst was lowered while it waited.
    /// - [`AcquireError::TooMany`], at once: as many wait as [may](LimiterBuilder::max_waiting).
    /// - [`AcquireError::Closed`]: the limiter is closed, or was while it waited.
    /// - [`AcquireError::NoTimer`]: the tokens have not come, and the timer is gone, with the runtime that drove it. What
    ///   can be had without a wait still can.
    ///
    /// What would come beyond the end of the clock is waited for without an end.
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// Not longer than a while:
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_ratelimit::{Limiter, Rate};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limiter = Limiter::new(Rate::per_hour(1).burst(1));
    /// limiter.acquire(1).await?;
    /// let second = tokio::time::timeout(Duration::from_millis(1), limiter.acquire(1)).await;
    /// assert!(second.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`Limiter`](Self#algorithm).
    #[track_caller]
    #[inline]
    pub fn acquire(&self, n: u32) -> Acquire<'_> {
        Acquire::new(Handle::Borrowed(self.engine()), Ask::new(n))
    }

    /// As [`acquire`](Self::acquire), with a future that borrows nothing, so that it can move into a task or a struct.
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`acquire`](Self::acquire).
    ///
    /// # Fairness
    ///
    /// One line with [`acquire`](Self::acquire).
    ///
    /// # Memory ordering
    ///
    /// None, as [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Algorithm
    ///
    /// As [`acquire`](Self::acquire), and a count of the limiter; a second one while it waits.
    #[track_caller]
    pub fn acquire_owned(&self, n: u32) -> Acquire<'static> {
        Acquire::new(Handle::Owned(Arc::clone(self.engine())), Ask::new(n))
    }

    /// As [`acquire`](Self::acquire), for no longer than `ctx` lasts: and not at all, if the tokens would be due after its deadline. That
    /// is told at once, and none is spent, so that somebody else may be served in time.
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`acquire`](Self::acquire). One that the context has ended leaves the line when it is dropped, as `.await` does at once.
    ///
    /// # Fairness
    ///
    /// One line with [`acquire`](Self::acquire).
    ///
    /// # Memory ordering
    ///
    /// As [`acquire`](Self::acquire); what preceded the cancellation is visible when that is what ended it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), and
    ///
    /// - [`AcquireError::TooLate`], at once: they would be due after the deadline. It may still come to that when somebody of a higher class comes,
    ///   or the rate is lowered; then the deadline ends the wait.
    /// - [`AcquireError::Ended`], with the cause: the context was cancelled before the tokens were there.
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_cancel::Context;
    /// use selvedge_ratelimit::{AcquireError, Limiter, Rate};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limiter = Limiter::new(Rate::per_minute(1).burst(1));
    /// let (request, _canceller) = Context::background().with_timeout(Duration::from_secs(5))?;
    /// limiter.acquire_in(&request, 1).await?;
    /// // Not in five seconds: it is told so now.
    /// let refused = limiter.acquire_in(&request, 1).await;
    /// assert!(matches!(refused, Err(AcquireError::TooLate { .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`acquire`](Self::acquire), and a look at the context. With a deadline, two more reads of a clock.
    #[track_caller]
    pub fn acquire_in(&self, ctx: &Context, n: u32) -> RunOrCause<Acquire<'_>> {
        let engine = self.engine();
        let latest = match ctx.remaining() {
            Some(span) => engine.clock().now().saturating_add(nanos(span)),
            None => u64::MAX,
        };
        let ask = Ask { latest, ..Ask::new(n) };
        ctx.run_or_cause(Acquire::new(Handle::Borrowed(engine), ask))
    }

    /// Takes `n` tokens, blocking the thread until they are there. It stands in the same line as the tasks.
    ///
    /// Not for use in a task: it holds up the others of its thread. A limiter on the timer of a tokio runtime whose
    /// only thread it blocks is never rung, and it waits for ever; one on the timer thread, as [`new`](Self::new) makes
    /// it, is.
    ///
    /// # Cancel safety
    ///
    /// Once it has begun it cannot be given up.
    ///
    /// # Fairness
    ///
    /// First in, first out; see [`Limiter`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// None; see [`Limiter`](Self#memory-ordering).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use selvedge_ratelimit::{Limiter, Rate};
    ///
    /// let limiter = Limiter::new(Rate::every(Duration::from_millis(2)).burst(1));
    /// let start = Instant::now();
    /// for _ in 0..4 {
    ///     limiter.acquire_blocking(1)?;
    /// }
    /// assert!(start.elapsed() >= Duration::from_millis(6));
    /// # Ok::<_, selvedge_ratelimit::AcquireError>(())
    /// ```
    ///
    /// # Algorithm
    ///
    /// The same line as [`acquire`](Self::acquire), in which the thread parks until it is served.
    pub fn acquire_blocking(&self, n: u32) -> Result<(), AcquireError> {
        let engine = self.engine();
        if engine.try_take(n).is_ok() {
            engine.meter().granted(n);
            return Ok(());
        }
        // Not through `Acquire`: a task's budget, if this blocks one, is no reason to wait here.
        let mut acquiring = pin!(Acquiring::new(Handle::Borrowed(engine), Ask::new(n)));
        block_on(poll_fn(|cx| acquiring.as_mut().poll_acquire(cx)))
    }

    /// Takes a place in the line for `n` tokens now, to be used when they are due. See [`Reservation`].
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), at once.
    #[track_caller]
    pub fn reserve(&self, n: u32) -> Result<Reservation, AcquireError> {
        Reservation::new(self.engine(), Ask::new(n))
    }

    /// Another rate from now on: see [a quota that changes](Self#a-quota-that-changes).
    pub fn set_rate(&self, rate: Rate) {
        self.engine().change(|quota| quota.with_rate(rate));
    }

    /// Another burst from now on: see [a quota that changes](Self#a-quota-that-changes). Who is in line for more than that is told so, when it
    /// comes to the front.
    ///
    /// # Panics
    ///
    /// When `burst` is 0, as [`Rate::burst`] does.
    #[track_caller]
    pub fn set_burst(&self, burst: u32) {
        // Checked before anything is locked.
        let _ = self.quota.with_burst(burst);
        self.engine().change(|quota| quota.with_burst(burst));
    }

    /// Another quota from now on: see [a quota that changes](Self#a-quota-that-changes).
    pub fn set_quota(&self, quota: Quota) {
        self.engine().change(|_| quota);
    }

    /// Grants nothing any more: whoever waits, and whoever comes, is told that it is closed. What was granted stays granted. Returns whether it was open.
    pub fn close(&self) -> bool {
        self.engine().close()
    }

    /// Whether it was [closed](Self::close).
    pub fn is_closed(&self) -> bool {
        self.engine().is_closed()
    }

    /// What it has done since it was made.
    #[cfg(feature = "metrics")]
    pub fn metrics(&self) -> crate::Metrics {
        self.engine().meter().metrics()
    }

    /// A stream of the items of `stream`, each of which takes one token; see [`Throttle`].
    pub fn throttle<S: futures_core::Stream>(&self, stream: S) -> Throttle<S> {
        Throttle::new(stream, self)
    }

    /// A sink that hands its items on to `sink`, each of which takes one token first; see [`ThrottleSink`](crate::ThrottleSink).
    #[cfg(feature = "sink")]
    pub fn throttle_sink<Si, Item>(&self, sink: Si) -> crate::ThrottleSink<Si, Item> {
        crate::ThrottleSink::new(sink, self)
    }
}

impl Clone for Limiter {
    fn clone(&self) -> Self {
        Self {
            engine: OnceLock::from(Arc::clone(self.engine())),
            quota: self.quota,
            settings: self.settings,
            timer: self.timer.clone(),
            origin: self.origin.clone(),
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Limiter");
        debug.field("origin", &self.origin).field("quota", &format_args!("{}", self.quota()));
        let state = match (self.is_closed(), self.waiting(), self.available()) {
            (true, _, _) => "closed".to_owned(),
            (false, 0, 0) => match self.ready_in(1) {
                Some(wait) => format!("empty, the next token comes in {wait:?}"),
                None => "empty".to_owned(),
            },
            (false, 0, there) => format!("{there} tokens to be had"),
            (false, 1, _) => "1 waits".to_owned(),
            (false, waiting, _) => format!("{waiting} wait"),
        };
        debug.field("state", &format_args!("{state}")).finish_non_exhaustive()
    }
}
