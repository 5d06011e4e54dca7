//! The face of the barrier: a number of parties that go on together, round after round. The work is done
//! in `barrier/engine.rs`; there are no atomics and no locks here.

mod engine;

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::{Anchor, Origin, block_on, const_fn, coop};

use crate::within::Within;
use engine::{Engine, Place, Told};

/// Holds each of a number of parties until all of them have come, then lets them go on together; again and
/// again.
///
/// Java's `CyclicBarrier` for tasks and threads; Go has none. Workers that compute in steps, each of
/// which reads what all have written in the step before, wait for each other between the steps.
///
/// | | [`Barrier`] | [`Latch`](crate::Latch) |
/// |---|---|---|
/// | who counts | who waits | anybody |
/// | may be used again | yes, by the next round | no |
/// | a party that gives up | breaks the barrier for all | is not noticed |
///
/// # Broken
///
/// A round cannot be completed without one of its parties. So a party that leaves while it waits (its
/// future is dropped, or its context ends the wait) *breaks* the barrier: all who wait get
/// [`BarrierError::Broken`], and so does everybody who comes afterwards, until [`reset`](Self::reset). Those who wait when it
/// is reset get [`BarrierError::Reset`], and may come again at once.
///
/// A party that never came breaks nothing: the others wait for it. Give all of them the same context.
///
/// # Fairness
///
/// All parties of a round are let go together, and are woken in the order in which they came. The next
/// round begins with whoever comes next; more tasks than parties mix the rounds, first come, first
/// served.
///
/// # Memory ordering
///
/// What each party did before its [`wait`](Self::wait) (of either kind) of a round happens before each
/// `wait` of that round returns, broken ones aside.
///
/// # Examples
///
/// Two workers, of which the last to come does what is to be done once a step:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use selvedge_sync::Barrier;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let barrier = Arc::new(Barrier::new(2)?);
/// let steps = Arc::new(AtomicU32::new(0));
/// let workers = [(); 2].map(|()| {
///     let (barrier, steps) = (Arc::clone(&barrier), Arc::clone(&steps));
///     tokio::spawn(async move {
///         for step in 0..3 {
///             if barrier.wait().await?.is_last() {
///                 steps.fetch_add(1, Ordering::Relaxed);
///             }
///             barrier.wait().await?;
///             assert_eq!(steps.load(Ordering::Relaxed), step + 1);
///         }
///         Ok::<_, selvedge_sync::BarrierError>(())
///     })
/// });
/// for worker in workers {
///     worker.await??;
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Algorithm
///
/// A lock around a flag and a line. Who comes enters the line in one critical section, and the last
/// empties it in one: that is the whole round. A wait allocates nothing; letting more than 32 go does, once a
/// 32 of them, for their wakers.
pub struct Barrier {
    /// Counts, holds, lets go.
    engine: Engine,
    /// Name and place.
    origin: Origin,
}

/// A barrier was not made: nobody would ever wait at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("barrier not made: it is for no parties, and needs one at least")]
pub struct NoParties;

/// A barrier was not passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// A party has left while it waited. There is nothing to come to until somebody resets the barrier, which may have happened by
    /// now: see [`is_broken`](Barrier::is_broken).
    #[error("barrier not passed: a party has left while it waited")]
    Broken,
    /// It was reset while this party waited, which may come again.
    #[error("barrier not passed: it was reset while this party waited")]
    Reset,
}

/// A party has passed a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Whether it was the last to come.
    last: bool,
}

impl Passed {
    /// Whether this party was the last to come. In every round one is.
    pub const fn is_last(self) -> bool {
        self.last
    }
}

impl Barrier {
    const_fn! {
        /// A barrier for `parties`. With 1 nobody ever waits at it.
        ///
        /// # Errors
        ///
        /// When `parties` is 0.
        #[track_caller]
        pub const fn new(parties: usize) -> Result<Self, NoParties> {
            if parties == 0 {
                return Err(NoParties);
            }
            Ok(Self { engine: Engine::new(parties), origin: Origin::here() })
        }
    }

    /// The same barrier under a name, for `{:?}`.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { engine: self.engine, origin: self.origin.named(name) }
    }

    /// The name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.origin.name()
    }

    /// Where it was made.
    pub const fn place(&self) -> &'static Location<'static> {
        self.origin.place()
    }

    /// For how many it is.
    pub const fn parties(&self) -> usize {
        self.engine.parties()
    }

    /// How many wait: right at the moment of the call.
    pub fn waiting(&self) -> usize {
        self.engine.waiting()
    }

    /// Whether a party has left while it waited, and nobody has reset the barrier since.
    pub fn is_broken(&self) -> bool {
        self.engine.is_broken()
    }

    /// Begins anew: a broken barrier is whole again. Those who wait get [`BarrierError::Reset`].
    ///
    /// # Panics
    ///
    /// With the panic of a waker, after everybody was let go and woken.
    pub fn reset(&self) {
        self.engine.reset();
    }

    /// Comes to the barrier, and waits until all parties have come. The party comes at the first poll.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits breaks the barrier for everybody, see
    /// [`Barrier`](Self#broken). Dropped before its first poll, or after all have come, it loses nothing.
    ///
    /// # Fairness
    ///
    /// See [`Barrier`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// What the others did before they came is visible after this completes; see
    /// [`Barrier`](Self#memory-ordering).
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`] when the barrier is broken, or is broken while this waits; [`BarrierError::Reset`] when it is reset while
    /// this waits.
    ///
    /// # Panics
    ///
    /// When it is polled again after it was ready. With the panic of a waker, if this is the last party: after
    /// everybody was let go and woken.
    ///
    /// # Examples
    ///
    /// Who gives up breaks it:
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_sync::{Barrier, BarrierError};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let barrier = Barrier::new(3)?;
    /// let impatient = tokio::time::timeout(Duration::from_secs(1), barrier.wait());
    /// let (gave_up, waited) = tokio::join!(impatient, barrier.wait());
    /// assert!(gave_up.is_err());
    /// assert_eq!(waited, Err(BarrierError::Broken));
    /// assert_eq!(barrier.wait().await, Err(BarrierError::Broken));
    ///
    /// barrier.reset();
    /// assert!(tokio::try_join!(barrier.wait(), barrier.wait(), barrier.wait()).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`Barrier`](Self#algorithm).
    #[track_caller]
    #[inline]
    pub fn wait(&self) -> BarrierWait<'_> {
        BarrierWait {
            barrier: self,
            place: Place::new(Anchor::borrowed(self.engine.queue())),
            over: false,
            caller: Location::caller(),
        }
    }

    /// As [`wait`](Self::wait), for no longer than `ctx` lasts: who is told that it has ended is a party no more.
    ///
    /// A context that has ended before the first poll wins; that party has not come, and breaks nothing. One that ends while this waits
    /// breaks the barrier, at once and not only when the future is dropped. If all had come by then, and this party was not polled since, it
    /// is told of the context all the same, and the barrier is whole: the round is over, and the others have passed.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait): dropped while it waits, it breaks the barrier.
    ///
    /// # Fairness
    ///
    /// See [`Barrier`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// As [`wait`](Self::wait); what preceded the cancellation is visible when that is what ended it.
    ///
    /// # Errors
    ///
    /// The outer error is the cause of the context, the inner one that of [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait), and with the panic of a waker when the end of the context breaks the barrier.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::Barrier;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (ctx, canceller) = Context::background().child();
    /// let barrier = Barrier::new(2)?;
    /// let stops = async {
    ///     tokio::task::yield_now().await;
    ///     canceller.cancel();
    /// };
    /// let (waited, ()) = tokio::join!(barrier.wait_in(&ctx), stops);
    /// assert!(waited.is_err() && barrier.is_broken());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`wait`](Self::wait), and a look at the context.
    #[track_caller]
    pub fn wait_in<'c>(&self, ctx: &'c selvedge_cancel::Context) -> Within<'c, BarrierWait<'_>> {
        Within::new(ctx, self.wait())
    }

    /// Comes to the barrier, and blocks the thread until all parties have come. Not for use in a task: it
    /// blocks the worker thread that another party may need.
    ///
    /// # Cancel safety
    ///
    /// Nothing to cancel; another party that leaves, or a [`reset`](Self::reset), ends the wait.
    ///
    /// # Fairness
    ///
    /// See [`Barrier`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// With the panic of a waker, if this is the last party: after everybody was let go and woken.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::Barrier;
    ///
    /// let barrier = Barrier::new(2)?;
    /// std::thread::scope(|scope| {
    ///     let other = scope.spawn(|| barrier.wait_blocking());
    ///     let passed = [barrier.wait_blocking(), other.join().unwrap()];
    ///     assert_eq!(passed.iter().filter(|passed| passed.unwrap().is_last()).count(), 1);
    /// });
    /// # Ok::<_, selvedge_sync::NoParties>(())
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`Barrier`](Self#algorithm); the thread parks.
    #[track_caller]
    pub fn wait_blocking(&self) -> Result<Passed, BarrierError> {
        let mut wait = pin!(self.wait());
        block_on(std::future::poll_fn(|cx| wait.as_mut().poll_passed(cx)))
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("origin", &self.origin)
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("broken", &self.is_broken())
            .finish()
    }
}

/// Waits at a barrier; made by [`Barrier::wait`], which says what it promises.
#[pin_project(PinnedDrop)]
#[must_use = "a future does nothing until it is polled"]
pub struct BarrierWait<'a> {
    /// Where.
    barrier: &'a Barrier,
    /// The place in the line.
    #[pin]
    place: Place<'a>,
    /// Whether it was ready.
    over: bool,
    /// Who called `wait`.
    caller: &'static Location<'static>,
}

impl BarrierWait<'_> {
    /// Comes, and waits; outside the cooperative budget.
    fn poll_passed(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Passed, BarrierError>> {
        let this = self.project();
        assert!(!*this.over, "a wait is not polled after it was ready");
        let told = ready!(this.barrier.engine.poll_wait(this.place, cx));
        *this.over = true;
        Poll::Ready(match told {
            Told::Passed { last } => Ok(Passed { last }),
            Told::Broken => Err(BarrierError::Broken),
            Told::Reset => Err(BarrierError::Reset),
        })
    }
}

impl Future for BarrierWait<'_> {
    type Output = Result<Passed, BarrierError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let proceed = ready!(coop::poll_proceed(cx));
        let passed = ready!(self.poll_passed(cx));
        proceed.made_progress();
        Poll::Ready(passed)
    }
}

#[pinned_drop]
impl PinnedDrop for BarrierWait<'_> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        this.barrier.engine.leave(this.place);
    }
}

impl fmt::Debug for BarrierWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWait").field("place", &format_args!("{}", self.caller)).finish()
    }
}
