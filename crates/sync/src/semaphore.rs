//! The face of the semaphore: constructors, operations and what they promise. The work is done in
//! `semaphore/engine.rs`; there are no atomics and no locks here.

mod acquire;
mod acquiring;
mod age;
mod engine;
mod error;
mod fairness;
mod line;
mod permit;
mod word;

pub use acquire::{Acquire, AcquireOwned};
#[cfg(feature = "age")]
pub use age::Holder;
pub use error::{AcquireError, CapacityError, MergeError, TryAcquireError};
pub use fairness::Fairness;
pub use permit::{OwnedPermit, Permit};

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;

use selvedge_cancel::Context;
use selvedge_primitives::time::Timer;
use selvedge_primitives::{Origin, block_on, const_fn, coop};

use crate::within::{Within, WithinOrCause};

use age::{Caller, Holders};

pub(crate) use acquiring::{Acquiring, Handle};
pub(crate) use engine::Engine;
pub(crate) use line::Queue;

/// So many permits, given out in the order in which they are asked for, or nearly.
///
/// A permit is acquired before something scarce is used, and goes back when it is dropped. Requests
/// have a weight: `acquire(3)` gets three permits together or waits until it can.
///
/// | operation | waits | closed | `n` above the capacity |
/// |---|---|---|---|
/// | [`acquire`](Self::acquire), [`acquire_owned`](Self::acquire_owned) | the task | error | error |
/// | [`acquire_in`](Self::acquire_in), [`acquire_owned_in`](Self::acquire_owned_in) | the task, until a context ends | error | error |
/// | [`acquire_blocking`](Self::acquire_blocking), [`acquire_blocking_in`](Self::acquire_blocking_in) | the thread | error | error |
/// | [`try_acquire`](Self::try_acquire), [`try_acquire_owned`](Self::try_acquire_owned) | never | error | error |
/// | any of them with `n = 0` | never, and it takes nothing from those who do | error | |
/// | drop of a permit | never | counts | |
///
/// # Fairness
///
/// Strict, unless [another fairness](Fairness) is asked for: first in, first out, by the moment of the first poll that finds too few
/// permits. The front of the line is served as soon as its wish is covered, and nobody behind it before: a
/// waiter is overtaken by no one, neither by a `try_acquire` nor by a small request that would fit, so it waits for those before it
/// and for no others. The price is
/// that a large request at the front holds up the small ones behind it, and that permits lie idle
/// until there are enough of them. There is no bound in time: permits come back when their holders
/// drop them.
///
/// A permit may be granted to a future that nobody polls (it sits in a `Vec`, or beside the branch
/// of a `select!` that is running). With strict fairness it is then as good as held: poll or drop a future that waits.
///
/// With [`Fairness::Eventual`] running callers, those who try included, may overtake whoever waits until the front of the line has waited for a bound; and
/// a front that does not come loses its turn. Who has lost it begins again at the end of the line, unless there is what it wants.
///
/// # Memory ordering
///
/// Whoever gets a permit sees what its former holders did before they gave it back. In detail: the
/// drop of a permit happens before every acquisition (of any kind) that finds its permits in the
/// count or is granted by it, and before every [`available`](Self::available) that counts them;
/// [`close`](Self::close) happens before every error and every [`is_closed`](Self::is_closed) that
/// tells of it. A failed `try_acquire` for lack of permits orders nothing.
///
/// # Examples
///
/// Requests of different weight share one limit:
///
/// ```
/// use selvedge_sync::{AcquireError, Semaphore, TryAcquireError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), AcquireError> {
/// static MEGABYTES: Semaphore = Semaphore::new(64);
///
/// let upload = MEGABYTES.acquire(60).await?;
/// assert_eq!(MEGABYTES.available(), 4);
/// assert_eq!(MEGABYTES.try_acquire(5).unwrap_err(), TryAcquireError::NoPermits);
///
/// drop(upload);
/// assert!(MEGABYTES.try_acquire(5).is_ok());
///
/// // This one could never be served. It is told so, and blocks nobody.
/// let absurd = MEGABYTES.acquire(65).await.unwrap_err();
/// assert_eq!(absurd, AcquireError::OverCapacity { wanted: 65, capacity: 64 });
/// # Ok(())
/// # }
/// ```
///
/// # Algorithm
///
/// One word holds the free permits, which may be below zero, a bit for "whoever gives back comes to the lock", one for "nobody
/// takes who does not stand in line" and one for "closed". While nobody
/// waits, to acquire is one subtraction where plenty are free (eight, say, and one or two are wanted) and one compare-and-swap
/// where there are fewer, and to release is one add: no lock, no allocation. Who subtracts, and finds that others were faster, puts back what
/// was not there; for that moment there seem to be one or two less, for each who does so. A
/// release that is called to the lock takes it, serves the line, and wakes in batches after it. The line is made, by one allocation,
/// for the first who comes to it (or closes, or changes the capacity); after that a
/// waiter costs two lock trips (its own, and a share in that of the releaser), one wake-up and no
/// allocation. Nearest relative: tokio's semaphore, whose release always takes its lock; the engine's
/// source tells the differences and why no wake-up is lost. Eventual fairness is that of `WebKit`'s and `parking_lot`'s locks; it costs
/// a look at a clock for each who comes to the line, and one timer for the line.
pub struct Semaphore {
    /// Counts, queues, hands out; knows name and place.
    engine: Engine,
    /// Who has permits.
    holders: Holders,
}

impl Semaphore {
    /// The most permits a semaphore may have: `usize::MAX >> 5`.
    pub const MAX_PERMITS: usize = word::MAX_PERMITS;

    const_fn! {
        /// A semaphore with `permits` permits, all of them free.
        ///
        /// With 0 permits every request for more than nothing is over the capacity: an error, not a
        /// wait.
        ///
        /// # Panics
        ///
        /// When `permits` is above [`MAX_PERMITS`](Self::MAX_PERMITS); in the initial value of a
        /// static or a constant that is an error of the compiler. To cut it down to the maximum
        /// would be worse: a limit that is not the one that was asked for.
        ///
        /// # Examples
        ///
        /// In a static:
        ///
        /// ```
        /// use selvedge_sync::Semaphore;
        ///
        /// static CONNECTIONS: Semaphore = Semaphore::new(50);
        /// assert_eq!(CONNECTIONS.capacity(), 50);
        /// ```
        ///
        /// Too many do not compile there:
        ///
        /// ```compile_fail
        /// use selvedge_sync::Semaphore;
        ///
        /// static LIMIT: Semaphore = Semaphore::new(Semaphore::MAX_PERMITS + 1);
        /// ```
        #[track_caller]
        pub const fn new(permits: usize) -> Self {
            assert!(
                permits <= Self::MAX_PERMITS,
                "semaphore not made: more permits than Semaphore::MAX_PERMITS"
            );
            Self { engine: Engine::new(permits, Origin::here()), holders: Holders::new() }
        }
    }

    /// The same semaphore under a name, for `{:?}` and for reports.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::Semaphore;
    ///
    /// let uploads = Semaphore::new(4).named("uploads");
    /// assert_eq!(uploads.name(), Some("uploads"));
    /// ```
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { engine: self.engine.named(name), ..self }
    }

    /// The same semaphore with another [fairness](Fairness) from the start; [`set_fairness`](Self::set_fairness) changes it later.
    ///
    /// # Examples
    ///
    /// A permit that is held for a moment only, under contention:
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_sync::{Fairness, Semaphore};
    ///
    /// let table = Semaphore::new(1).with_fairness(Fairness::Eventual(Duration::from_millis(5)));
    /// assert_eq!(table.fairness(), Fairness::Eventual(Duration::from_millis(5)));
    /// ```
    #[must_use]
    pub fn with_fairness(self, fairness: Fairness) -> Self {
        Self { engine: self.engine.with_fairness(fairness), ..self }
    }

    /// The same semaphore with a timer of the caller's, for the bound of [`Fairness::Eventual`]. Without one it is
    /// that of the place where the first waits: tokio's in a runtime, else the timer thread of the process.
    ///
    /// A runtime that is there and is not run rings no alarm. Where the waiters of a static semaphore come from several runtimes, of which
    /// one may rest, give it [`Timer::thread`]. In a runtime without a time driver there is no alarm: then a turn that
    /// is not taken passes on at the next release, or when the next comes to the line.
    ///
    /// # Examples
    ///
    /// With a clock that is moved by hand, in a test:
    ///
    /// ```
    /// use selvedge_cancel::Timer;
    /// use selvedge_sync::{Fairness, Semaphore};
    ///
    /// let (timer, clock) = Timer::manual();
    /// let semaphore = Semaphore::new(1).with_fairness(Fairness::EVENTUAL).with_timer(timer);
    /// # drop((semaphore, clock));
    /// ```
    #[must_use]
    pub fn with_timer(self, timer: Timer) -> Self {
        Self { engine: self.engine.with_timer(timer), ..self }
    }

    /// The name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.engine.origin.name()
    }

    /// Where it was made.
    pub const fn place(&self) -> &'static Location<'static> {
        self.engine.origin.place()
    }

    /// How many permits there are in all: free, out, and on their way to a waiter. (After the capacity was lowered more may be
    /// out for a while, see [`set_capacity`](Self::set_capacity).)
    pub fn capacity(&self) -> usize {
        self.engine.capacity()
    }

    /// How many permits are free: right at the moment of the call, perhaps not any more when it
    /// returns. While somebody waits for more than that, they are free and yet not to be had.
    pub fn available(&self) -> usize {
        usize::try_from(self.engine.state().permits()).unwrap_or(0)
    }

    /// How many permits have to come back before one is free, because the capacity was lowered below what was out: right at the
    /// moment of the call. Zero but for that; and but for one or two for each call that is about to put back what was not there (see
    /// [`Semaphore`](Self#algorithm)).
    pub fn debt(&self) -> usize {
        usize::try_from(-self.engine.state().permits()).unwrap_or(0)
    }

    /// How many wait: right at the moment of the call. Takes the lock of the line.
    pub fn waiting(&self) -> usize {
        self.engine.waiting()
    }

    /// Who holds permits, the oldest first: how many, for how long, and where they were acquired. Takes the lock of a table, and
    /// so does, with this feature, whatever takes permits or gives them back.
    #[cfg(feature = "age")]
    pub fn holders(&self) -> Vec<Holder> {
        self.holders.list()
    }

    /// For how long the front of the line has waited; none when nobody waits. Takes the lock of the line.
    #[cfg(feature = "age")]
    pub fn longest_wait(&self) -> Option<std::time::Duration> {
        self.engine.longest_wait()
    }

    /// Sets how many permits there are in all, and gives how many there were before. Whoever waits stays in line.
    ///
    /// Raised, the new permits are free at once, and serve the line. Lowered below what is out, the difference is a
    /// [debt](Self::debt): each permit that comes back pays for one, and nobody is served before it is paid; so what is out
    /// falls to the new capacity and does not rise above it again. Who waits and wants more than the new capacity gets
    /// [`AcquireError::OverCapacity`] when it is the front of the line, and the line moves on.
    ///
    /// # Memory ordering
    ///
    /// What precedes the call happens before each acquisition that takes a permit made by it.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] when `capacity` is above [`MAX_PERMITS`](Self::MAX_PERMITS); nothing has changed then.
    ///
    /// # Examples
    ///
    /// Under load:
    ///
    /// ```
    /// use selvedge_sync::{Semaphore, TryAcquireError};
    ///
    /// let limit = Semaphore::new(8);
    /// let mut held: Vec<_> = (0..8).map(|_| limit.try_acquire(1).unwrap()).collect();
    /// assert_eq!(limit.set_capacity(2), Ok(8));
    /// assert_eq!((limit.available(), limit.debt()), (0, 6));
    ///
    /// held.truncate(2);
    /// assert_eq!(limit.try_acquire(1).unwrap_err(), TryAcquireError::NoPermits);
    /// held.truncate(1);
    /// assert!(limit.try_acquire(1).is_ok());
    /// ```
    pub fn set_capacity(&self, capacity: usize) -> Result<usize, CapacityError> {
        if capacity > Self::MAX_PERMITS {
            return Err(CapacityError { wanted: capacity });
        }
        Ok(self.engine.set_capacity(capacity))
    }

    /// Makes `n` more permits: raises the capacity, as [`set_capacity`](Self::set_capacity) does.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] when the capacity would be above [`MAX_PERMITS`](Self::MAX_PERMITS); nothing has changed then.
    pub fn add(&self, n: usize) -> Result<(), CapacityError> {
        self.engine.add(n).map_err(|wanted| CapacityError { wanted })
    }

    /// Who may overtake whom.
    pub fn fairness(&self) -> Fairness {
        self.engine.fairness()
    }

    /// Changes who may overtake whom, also while others wait. Who came to a strict line counts as having waited for the bound of an
    /// eventual one.
    pub fn set_fairness(&self, fairness: Fairness) {
        self.engine.set_fairness(fairness);
    }

    /// Acquires `n` permits if that is possible without waiting and without overtaking anybody who
    /// must not be; see [`Semaphore`](Self#fairness).
    ///
    /// # Errors
    ///
    /// - [`TryAcquireError::NoPermits`]: fewer than `n` are free, or somebody waits who is not to be overtaken; or another call has just found
    ///   too few, and is about to put back what was not there (see [`Semaphore`](Self#algorithm)).
    /// - [`TryAcquireError::Closed`]: the semaphore is closed.
    /// - [`TryAcquireError::OverCapacity`]: `n` is above the capacity.
    ///
    /// # Examples
    ///
    /// Shed what does not fit:
    ///
    /// ```
    /// use selvedge_sync::{Semaphore, TryAcquireError};
    ///
    /// let slots = Semaphore::new(1);
    /// let permit = slots.try_acquire(1)?;
    /// assert_eq!(slots.try_acquire(1).unwrap_err(), TryAcquireError::NoPermits);
    /// drop(permit);
    /// assert!(slots.try_acquire(1).is_ok());
    /// # Ok::<_, TryAcquireError>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn try_acquire(&self, n: usize) -> Result<Permit<'_>, TryAcquireError> {
        self.engine.try_acquire(n)?;
        Ok(Permit::new(self, n, Caller::at(Location::caller())))
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that holds the semaphore alive.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    #[inline]
    #[track_caller]
    pub fn try_acquire_owned(self: &Arc<Self>, n: usize) -> Result<OwnedPermit, TryAcquireError> {
        self.engine.try_acquire(n)?;
        Ok(OwnedPermit::new(Arc::clone(self), n, Caller::at(Location::caller())))
    }

    /// Acquires `n` permits, waiting in line for them.
    ///
    /// Completes with a [`Permit`] for all `n`, or with an error: at once when `n` is above the
    /// capacity (nobody waits behind it), and when the semaphore is closed before the permits were
    /// granted. `n = 0` completes at once also while others wait. The place in the line is taken by
    /// the first poll that finds too few permits, not by this call; or by one in a task of tokio that has spent its budget, if others
    /// stand there.
    ///
    /// # Cancel safety
    ///
    /// Safe. A future dropped while it waits loses its place in the line, and whoever waited behind
    /// it moves up. One that was granted and not polled since gives its permits back to the line.
    ///
    /// # Fairness
    ///
    /// As [`Semaphore`](Self#fairness) says: by default first in, first out.
    ///
    /// # Memory ordering
    ///
    /// What was done under the permits before they were given back is visible after this completes;
    /// see [`Semaphore`](Self#memory-ordering).
    ///
    /// # Errors
    ///
    /// - [`AcquireError::Closed`]: the semaphore is closed, or was while this waited.
    /// - [`AcquireError::OverCapacity`]: `n` is above the capacity.
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// A permit around a request:
    ///
    /// ```
    /// use selvedge_sync::{AcquireError, Semaphore};
    ///
    /// # async fn fetch() -> &'static str { "page" }
    /// static LIMIT: Semaphore = Semaphore::new(8);
    ///
    /// async fn polite_fetch() -> Result<&'static str, AcquireError> {
    ///     let _permit = LIMIT.acquire(1).await?;
    ///     Ok(fetch().await)
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// assert_eq!(polite_fetch().await, Ok("page"));
    /// assert_eq!(LIMIT.available(), 8);
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// One subtraction or compare-and-swap if nobody waits and the permits are there; see
    /// [`Semaphore`](Self#algorithm).
    #[track_caller]
    #[inline]
    pub fn acquire(&self, n: usize) -> Acquire<'_> {
        Acquire::new(self, n)
    }

    /// As [`acquire`](Self::acquire), with a future and a permit that hold the semaphore alive and
    /// borrow nothing, so both may move into a task.
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
    /// As [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// Acquire before spawning, so that no more tasks exist than may run:
    ///
    /// ```
    /// use std::sync::Arc;
    /// use selvedge_sync::Semaphore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limit = Arc::new(Semaphore::new(2));
    /// for job in 0..5 {
    ///     let permit = limit.acquire_owned(1).await?;
    ///     tokio::spawn(async move {
    ///         // work on `job`
    ///         drop(permit);
    ///     });
    /// }
    /// // All permits: every task has ended.
    /// let _all = limit.acquire(limit.capacity()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`acquire`](Self::acquire), and one count of the `Arc`; a second one while it waits.
    #[track_caller]
    #[inline]
    pub fn acquire_owned(self: &Arc<Self>, n: usize) -> AcquireOwned {
        AcquireOwned::new(Arc::clone(self), n)
    }

    /// As [`acquire`](Self::acquire), for no longer than `ctx` lasts: the wait ends when it is cancelled. The context is looked
    /// at first, at every poll, so that one that has ended gets no permit. Who is told leaves the line at once, not only when the
    /// future is dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`acquire`](Self::acquire). Permits that were granted when the context ended go back to the line.
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
    /// As [`acquire`](Self::acquire), and [`AcquireError::Ended`] with the cause when the context was cancelled before the
    /// permits were there.
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// Not longer than the request may take:
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_cancel::{CauseKind, Context};
    /// use selvedge_sync::{AcquireError, Semaphore};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limit = Semaphore::new(1);
    /// let held = limit.acquire(1).await?;
    /// let (request, _canceller) = Context::background().with_timeout(Duration::from_secs(1))?;
    /// let Err(AcquireError::Ended(cause)) = limit.acquire_in(&request, 1).await else { panic!() };
    /// assert_eq!(cause.kind(), CauseKind::Deadline);
    /// # drop(held);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`acquire`](Self::acquire), and a look at the context.
    #[track_caller]
    #[inline]
    pub fn acquire_in<'c>(&self, ctx: &'c Context, n: usize) -> WithinOrCause<'c, Acquire<'_>> {
        WithinOrCause::new(Within::new(ctx, self.acquire(n)))
    }

    /// As [`acquire_owned`](Self::acquire_owned), for no longer than `ctx` lasts.
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`acquire_in`](Self::acquire_in).
    ///
    /// # Fairness
    ///
    /// One line with [`acquire`](Self::acquire).
    ///
    /// # Memory ordering
    ///
    /// As [`acquire_in`](Self::acquire_in).
    ///
    /// # Errors
    ///
    /// As [`acquire_in`](Self::acquire_in).
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// As [`acquire_in`](Self::acquire_in).
    ///
    /// # Algorithm
    ///
    /// As [`acquire_owned`](Self::acquire_owned), and a look at the context.
    #[track_caller]
    #[inline]
    pub fn acquire_owned_in(
        self: &Arc<Self>,
        ctx: &Context,
        n: usize,
    ) -> WithinOrCause<'static, AcquireOwned> {
        WithinOrCause::new(Within::own(ctx.clone(), self.acquire_owned(n)))
    }

    /// Acquires `n` permits, blocking the thread until they are there. It stands in the same line
    /// as the tasks.
    ///
    /// Not for use in a task: it blocks the worker thread that may be needed to run the holder of
    /// the permit it waits for.
    ///
    /// # Cancel safety
    ///
    /// Nothing to cancel; [`close`](Self::close) ends the wait.
    ///
    /// # Fairness
    ///
    /// One line with [`acquire`](Self::acquire).
    ///
    /// # Memory ordering
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    /// use selvedge_sync::Semaphore;
    ///
    /// static LIMIT: Semaphore = Semaphore::new(1);
    ///
    /// let threads: Vec<_> = (0..4)
    ///     .map(|_| thread::spawn(|| LIMIT.acquire_blocking(1).map(|permit| permit.count())))
    ///     .collect();
    /// for thread in threads {
    ///     assert_eq!(thread.join().unwrap(), Ok(1));
    /// }
    /// ```
    #[track_caller]
    pub fn acquire_blocking(&self, n: usize) -> Result<Permit<'_>, AcquireError> {
        if self.engine.try_acquire(n).is_ok() {
            return Ok(Permit::new(self, n, Caller::at(Location::caller())));
        }
        // Not through `Acquire`: a task's budget, if this blocks one, is no reason to wait here.
        let mut acquiring = pin!(Acquiring::new(self, n));
        let semaphore = block_on(poll_fn(|cx| acquiring.as_mut().poll_acquire(cx)))?;
        Ok(Permit::new(semaphore, n, Caller::at(Location::caller())))
    }

    /// As [`acquire_blocking`](Self::acquire_blocking), for no longer than `ctx` lasts.
    ///
    /// # Errors
    ///
    /// As [`acquire_in`](Self::acquire_in).
    #[track_caller]
    pub fn acquire_blocking_in(&self, ctx: &Context, n: usize) -> Result<Permit<'_>, AcquireError> {
        block_on(coop::unconstrained(self.acquire_in(ctx, n)))
    }

    /// Closes the semaphore for good: whoever waits gets [`AcquireError::Closed`], and so does
    /// whoever comes later. Permits that are out stay valid and still count when they come back; an
    /// acquisition that was granted before the close still completes. To close twice is to close
    /// once.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::{AcquireError, Semaphore, TryAcquireError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let semaphore = Semaphore::new(1);
    /// let permit = semaphore.try_acquire(1).unwrap();
    /// let (waited, ()) = tokio::join!(semaphore.acquire(1), async { semaphore.close() });
    /// assert_eq!(waited.unwrap_err(), AcquireError::Closed);
    /// assert_eq!(semaphore.try_acquire(1).unwrap_err(), TryAcquireError::Closed);
    ///
    /// drop(permit);
    /// assert_eq!(semaphore.available(), 1);
    /// # }
    /// ```
    pub fn close(&self) {
        self.engine.close();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.engine.state().is_closed()
    }
}

/// For the semaphores that are a part of something else, whose guards are of that.
impl Semaphore {
    /// A semaphore of somebody's who was made elsewhere; `permits` is not too large.
    pub(crate) fn of_key(permits: usize, origin: Origin) -> Self {
        Self { engine: Engine::new(permits, origin), holders: Holders::new() }
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// As [`try_acquire`](Self::try_acquire), without a guard.
    pub(crate) fn try_take(&self, n: usize) -> Result<(), TryAcquireError> {
        self.engine.try_acquire(n)
    }

    /// Gives back what was acquired without a guard.
    pub(crate) fn put_back(&self, n: usize) {
        self.engine.release(n);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.engine.state();
        f.debug_struct("Semaphore")
            .field("origin", &self.engine.origin)
            .field("capacity", &self.capacity())
            .field("available", &state.permits())
            .field("waiting", &self.waiting())
            .field("fairness", &self.fairness())
            .field("closed", &state.is_closed())
            .finish()
    }
}
