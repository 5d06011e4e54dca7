//! The face of the limiter: making one, taking tokens, waiting for them, and what is promised. The work
//! is done in `limiter/engine.rs`; there are no atomics and no locks here.

mod accrual;
mod acquire;
mod engine;
mod error;
mod word;

pub use acquire::{Acquire, AcquireOwned};
pub use error::{AcquireError, TryAcquireError};

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use selvedge_primitives::time::Timer;
use selvedge_primitives::{Origin, block_on};

use crate::{Quota, Throttle};
use acquire::Acquiring;
use engine::Engine;
use word::Take;

/// A token bucket: admits what its [`Quota`] says, exactly, first in, first out.
///
/// Go's `rate.Limiter`, and with a burst of one a `time.Ticker` that is asked rather than listened to.
/// Clones are handles to the same limiter.
///
/// | Go | here |
/// |---|---|
/// | `rate.NewLimiter(50, 10)` | [`Limiter::new`]`(Rate::per_second(50).burst(10))` |
/// | `lim.Allow()` | [`try_acquire(1)`](Self::try_acquire) |
/// | `lim.WaitN(ctx, n)` | `ctx.run(`[`lim.acquire(n)`](Self::acquire)`)` |
/// | `lim.Tokens()` | [`available`](Self::available) |
/// | `for range time.Tick(d)` | `acquire(1)` in a loop, with [`Rate::every`](crate::Rate::every)`(d)`; or a pipeline's `ticks` |
///
/// # Exactness
///
/// In every span of time no more is granted than the burst and what comes in that time, rounded up; and
/// a token is there in the nanosecond in which it is due. There is no drift, at any rate: what has come
/// is computed, exactly, from the whole time since the limiter was made.
///
/// Two things come later than they are due, and both are the machine's. A timer rings late; those who are
/// in line then are made up for up to [2 ms](Self::CATCH_UP) of that (not somebody who comes again only
/// when served, such as a loop that is alone with the limiter), so in a span of time there may be granted what
/// comes in those 2 ms more. And a grant may be used later than it was made, by a task that is not polled
/// at once. Tokens that were granted and never used, because the future was dropped before it was polled
/// again, go to the next: all of them within 2 ms of the moment in which they came (if several go, from the
/// first on or from the last on; in another order some may be held back); later, as many as would not be
/// beyond the burst by then. More would be a second burst.
///
/// # The clock
///
/// A limiter has the clock and the timer of one [driver](Timer). [`new`](Self::new) takes std's
/// monotonic clock and the timer thread of the process: it serves any executor and any number of
/// runtimes, so it is right for a limiter in a static, and it rings more precisely than tokio's timer,
/// which rounds up to a millisecond. [`with_timer`](Self::with_timer) takes another: tokio's, for
/// tests with paused time, or one that is moved by hand.
///
/// A clock that goes back, or stands still, admits nothing. One that leaps forward admits the burst. On
/// Linux the monotonic clock stands still while the machine is suspended.
///
/// # Fairness
///
/// Those who wait are served in the order in which they came. Nobody overtakes them: neither
/// [`try_acquire`](Self::try_acquire), nor a small request that would fit. A large request makes the
/// small ones behind it wait, though no longer than they would if it had come before. The timer wakes
/// the limiter, which grants whatever is due: a waiter that is not polled delays nobody.
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
/// assert_eq!(limiter.try_acquire(1), Err(TryAcquireError::NotYet));
/// assert_eq!(limiter.ready_in(1), Some(Duration::from_millis(500)));
///
/// clock.advance(Duration::from_millis(500));
/// assert!(limiter.try_acquire(1).is_ok());
/// // This one could never be served. It is told so, and blocks nobody.
/// assert!(matches!(limiter.try_acquire(4), Err(TryAcquireError::OverBurst { wanted: 4, burst: 3 })));
/// ```
///
/// # Algorithm
///
/// The generic cell rate algorithm (ITU-T I.371) turned round: what is kept is not the time at which
/// the next token comes but how many were granted, as a whole number in one word. What has come by now is
/// three multiplications of 64 bits and a shift. To take is to read the clock and one compare-and-swap; to be
/// refused writes nothing. One timer registration serves all who wait; a waiter costs two
/// lock trips (its own, and a share in that of who serves), one wake-up and no allocation. The first in
/// line costs two more, and the registration: on tokio's timer, when nothing else is registered, a task.
pub struct Limiter {
    /// Counts, queues, serves.
    engine: Arc<Engine>,
    /// Name and place.
    origin: Origin,
}

impl Limiter {
    /// How late a timer may ring without a loss to those who are in line then. A loop that is alone with
    /// the limiter is not in line again before it was served, so what came meanwhile beyond the burst is
    /// lost to it.
    pub const CATCH_UP: Duration = engine::CATCH_UP;

    /// A limiter on std's clock, with its burst to be had at once.
    #[track_caller]
    pub fn new(quota: Quota) -> Self {
        Self::with_timer(quota, Timer::thread())
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
    pub fn with_timer(quota: Quota, timer: Timer) -> Self {
        Self { engine: Arc::new(Engine::new(quota, timer)), origin: Origin::here() }
    }

    /// The same limiter under a name, for `{:?}`.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { engine: self.engine, origin: self.origin.named(name) }
    }

    /// The name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.origin.name()
    }

    /// Where it was made.
    pub fn place(&self) -> &'static Location<'static> {
        self.origin.place()
    }

    /// What it admits.
    pub fn quota(&self) -> &Quota {
        self.engine.quota()
    }

    /// How many tokens there are: right at the moment of the call, perhaps not any more when it returns.
    /// While somebody waits for more than that, they are there and yet not to be had.
    pub fn available(&self) -> u32 {
        self.engine.available()
    }

    /// How long it is until there are `n` tokens, if nobody takes any before: zero if they are there;
    /// none if that is never, because `n` is above the burst or the time beyond what is counted. Those
    /// who wait are served first, so a newcomer may wait longer.
    pub fn ready_in(&self, n: u32) -> Option<Duration> {
        match n {
            0 => Some(Duration::ZERO),
            n if n > self.quota().burst_size() => None,
            n => self.engine.ready_in(n),
        }
    }

    /// Takes `n` tokens if that is possible without waiting and without overtaking anybody who waits.
    /// `n = 0` is always possible.
    ///
    /// # Errors
    ///
    /// - [`TryAcquireError::NotYet`]: fewer than `n` are there, or somebody waits.
    /// - [`TryAcquireError::OverBurst`]: `n` is above the burst.
    #[inline]
    pub fn try_acquire(&self, n: u32) -> Result<(), TryAcquireError> {
        let burst = self.engine.quota().burst_size();
        if n > burst {
            return Err(TryAcquireError::OverBurst { wanted: n, burst });
        }
        if n == 0 {
            return Ok(());
        }
        match self.engine.try_take(n) {
            Take::Taken => Ok(()),
            Take::Short | Take::Queued => Err(TryAcquireError::NotYet),
        }
    }

    /// Takes `n` tokens, waiting in line for them.
    ///
    /// `n = 0` completes at once also while others wait. The place in the line is taken by the first poll
    /// that finds too few tokens, not by this call.
    ///
    /// # Cancel safety
    ///
    /// Safe. A future dropped while it waits takes no tokens, and whoever waited behind it moves up by as
    /// many. One that was granted and not polled since gives its tokens back, as the
    /// [limiter's page](Self#exactness) says.
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
    /// - [`AcquireError::OverBurst`], at once: `n` is above the burst. Nobody waits behind it.
    /// - [`AcquireError::NoTimer`]: the tokens have not come, and the timer is gone, with the runtime
    ///   that drove it. What can be had without a wait still can.
    ///
    /// What would come beyond the end of the clock or of the count, in 73 years or more, is waited for
    /// without an end.
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
    /// let limiter = Limiter::new(Rate::every(Duration::from_secs(3600)).burst(1));
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
        Acquire::new(self, n)
    }

    /// As [`acquire`](Self::acquire), with a future that borrows nothing, so that it can move into a task
    /// or a struct.
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`acquire`](Self::acquire).
    ///
    /// # Fairness
    ///
    /// One line with [`acquire`](Self::acquire): first in, first out.
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
    pub fn acquire_owned(&self, n: u32) -> AcquireOwned {
        AcquireOwned::new(Arc::clone(&self.engine), n)
    }

    /// Takes `n` tokens, blocking the thread until they are there. It stands in the same line as the
    /// tasks.
    ///
    /// Not for use in a task: it holds up the others of its thread. A limiter on the timer of a tokio
    /// runtime whose only thread it blocks is never rung, and it waits for ever; one on the timer thread,
    /// as [`new`](Self::new) makes it, is.
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
        if self.try_acquire(n).is_ok() {
            return Ok(());
        }
        // Not through `Acquire`: a task's budget, if this blocks one, is no reason to wait here.
        let mut acquiring = pin!(Acquiring::new(self, n));
        block_on(poll_fn(|cx| acquiring.as_mut().poll_acquire(cx)))
    }

    /// A stream of the items of `stream`, each of which takes one token; see [`Throttle`].
    pub fn throttle<S: futures_core::Stream>(&self, stream: S) -> Throttle<S> {
        Throttle::new(stream, self)
    }
}

impl Clone for Limiter {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), origin: self.origin.clone() }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("origin", &self.origin)
            .field("quota", self.quota())
            .field("available", &self.available())
            .field("waited_for", &self.engine.is_waited_for())
            .finish()
    }
}
