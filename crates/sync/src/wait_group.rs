//! The face of the wait group: guards that count while they live, and waits for the last of them.
//! The work is done in `gate/mod.rs`; there are no atomics and no locks here.

mod guard;

pub use guard::{OwnedWaitGuard, WaitGuard};

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::{Origin, const_fn, coop};

use crate::gate::{Gate, GateWait, MAX_COUNT};
use crate::within::Within;

/// Counts what is under way, and waits until nothing is.
///
/// Go's `sync.WaitGroup` with guards: what is added is done when its guard is dropped, in a panic and
/// on an early return as well, so a done is neither forgotten nor given twice.
///
/// | Go | here |
/// |---|---|
/// | `wg.Add(n)` | [`add(n)`](Self::add), [`add_owned(n)`](Self::add_owned): a guard that counts `n` |
/// | `wg.Done()` | the guard's drop |
/// | `wg.Wait()` | [`wait`](Self::wait), [`wait_blocking`](Self::wait_blocking) |
/// | a negative counter panics | cannot be written: only guards take off the count |
/// | reuse before all waits have returned panics | allowed, see below |
///
/// To run tasks and get their results, take a [`TaskGroup`](crate::TaskGroup). A wait that is to end
/// with a context, too, is [`wait_in`](Self::wait_in).
///
/// # Reuse
///
/// The group may be added to at any time, also when it was empty before and while others wait. A
/// wait completes when the group is seen empty at a moment after the wait began; with adds that come
/// at the very moment at which it becomes empty, a wait may see that moment or the next one. It never
/// completes while a guard lives that was made before the wait began.
///
/// # Fairness
///
/// All who wait are let out together and woken in the order in which they came. A group that never
/// is empty lets nobody out.
///
/// # Memory ordering
///
/// What preceded the drop of a guard happens before every [`wait`](Self::wait) (of either kind) that
/// completes after it, and before every [`count`](Self::count) that does not count the guard.
///
/// # Examples
///
/// Wait for tasks that nobody joins:
///
/// ```
/// use std::sync::Arc;
/// use selvedge_sync::WaitGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), selvedge_sync::AddError> {
/// let group = Arc::new(WaitGroup::new());
/// for _ in 0..3 {
///     let guard = group.add_owned(1)?;
///     tokio::spawn(async move {
///         let _guard = guard;
///         // work
///     });
/// }
/// group.wait().await;
/// assert_eq!(group.count(), 0);
/// # Ok(())
/// # }
/// ```
///
/// # Algorithm
///
/// One word holds the count and a bit for "somebody waits". To add is one compare-and-swap, to be
/// done one subtraction; only a last done that sees the bit takes a lock. A wait of an empty group is
/// one load. A waiter costs two lock trips (its own, and a share in that of the last), one wake-up
/// and no allocation.
pub struct WaitGroup {
    /// Counts, queues, lets out.
    gate: Gate,
    /// Name and place.
    origin: Origin,
}

/// A wait group was not added to: it would count more than [`WaitGroup::MAX_COUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not added: {wanted} wanted, {count} counted already, {max} is the most", max = MAX_COUNT)]
#[non_exhaustive]
pub struct AddError {
    /// How much was to be added.
    pub wanted: usize,
    /// What was counted already.
    pub count: usize,
}

impl WaitGroup {
    /// The highest count a group may have: `usize::MAX >> 2`.
    pub const MAX_COUNT: usize = MAX_COUNT;

    const_fn! {
        /// A group that counts nothing.
        ///
        /// # Examples
        ///
        /// ```
        /// use selvedge_sync::WaitGroup;
        ///
        /// static REQUESTS: WaitGroup = WaitGroup::new();
        ///
        /// let request = REQUESTS.add(1)?;
        /// assert_eq!(REQUESTS.count(), 1);
        /// drop(request);
        /// REQUESTS.wait_blocking();
        /// # Ok::<_, selvedge_sync::AddError>(())
        /// ```
        #[track_caller]
        pub const fn new() -> Self {
            Self { gate: Gate::new(0), origin: Origin::here() }
        }
    }

    /// The same group under a name, for `{:?}`.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { gate: self.gate, origin: self.origin.named(name) }
    }

    /// The name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.origin.name()
    }

    /// Where it was made.
    pub const fn place(&self) -> &'static Location<'static> {
        self.origin.place()
    }

    /// What is counted: right at the moment of the call, perhaps not any more when it returns.
    pub fn count(&self) -> usize {
        self.gate.count()
    }

    /// Counts `n` more until the guard is dropped. A guard for 0 keeps nobody waiting.
    ///
    /// # Errors
    ///
    /// When the group would count more than [`MAX_COUNT`](Self::MAX_COUNT); nothing is added then.
    ///
    /// # Examples
    ///
    /// Count several at once, and let them end one by one:
    ///
    /// ```
    /// use selvedge_sync::WaitGroup;
    ///
    /// let group = WaitGroup::new();
    /// let mut all = group.add(3)?;
    /// let one = all.split(1).expect("it counts three");
    /// drop(one);
    /// assert_eq!((all.count(), group.count()), (2, 2));
    /// # Ok::<_, selvedge_sync::AddError>(())
    /// ```
    #[inline]
    pub fn add(&self, n: usize) -> Result<WaitGuard<'_>, AddError> {
        self.count_more(n)?;
        Ok(WaitGuard::new(self, n))
    }

    /// As [`add`](Self::add), with a guard that holds the group alive.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    #[inline]
    pub fn add_owned(self: &Arc<Self>, n: usize) -> Result<OwnedWaitGuard, AddError> {
        self.count_more(n)?;
        Ok(OwnedWaitGuard::new(Arc::clone(self), n))
    }

    /// Counts `n` more.
    #[inline]
    fn count_more(&self, n: usize) -> Result<(), AddError> {
        self.gate.add(n).map_err(|count| AddError { wanted: n, count })
    }

    /// Waits until the group is empty: until every guard that was made before is dropped. Completes
    /// at once if there is none; never, if one was forgotten.
    ///
    /// # Cancel safety
    ///
    /// Safe. Dropping the future loses nothing; whoever waits again, waits for the group as it is
    /// then.
    ///
    /// # Fairness
    ///
    /// See [`WaitGroup`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// What preceded the drop of those guards is visible after this completes; see
    /// [`WaitGroup`](Self#memory-ordering).
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::WaitGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), selvedge_sync::AddError> {
    /// let group = WaitGroup::new();
    /// drop(group.add(1)?);
    /// group.wait().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// One load if the group is empty; see [`WaitGroup`](Self#algorithm).
    #[track_caller]
    #[inline]
    pub fn wait(&self) -> WaitGroupWait<'_> {
        WaitGroupWait { wait: GateWait::new(&self.gate), place: Location::caller() }
    }

    /// As [`wait`](Self::wait), for no longer than `ctx` lasts: then it gives the cause, and has left the line.
    ///
    /// A context that has ended wins over a group that is empty, also if it ended after this was let out and before it was polled.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Fairness
    ///
    /// See [`WaitGroup`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// As [`wait`](Self::wait); what preceded the cancellation is visible when that is what ended it.
    ///
    /// # Errors
    ///
    /// The cause of the context.
    ///
    /// # Panics
    ///
    /// When it is polled again after it was ready.
    ///
    /// # Examples
    ///
    /// Wait, but not longer than the context lasts:
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::WaitGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), selvedge_sync::AddError> {
    /// let (ctx, canceller) = Context::background().child();
    /// let group = WaitGroup::new();
    /// let stuck = group.add(1)?;
    /// canceller.cancel();
    /// assert!(group.wait_in(&ctx).await.is_err());
    ///
    /// drop(stuck);
    /// assert!(group.wait_in(&Context::background()).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`wait`](Self::wait), and a look at the context.
    #[track_caller]
    pub fn wait_in<'c>(&self, ctx: &'c selvedge_cancel::Context) -> Within<'c, WaitGroupWait<'_>> {
        Within::new(ctx, self.wait())
    }

    /// Waits until the group is empty, blocking the thread. Not for use in a task: it blocks the
    /// worker thread that may be needed to drop a guard.
    ///
    /// # Memory ordering
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::WaitGroup;
    ///
    /// let group = WaitGroup::new();
    /// std::thread::scope(|scope| {
    ///     for _ in 0..2 {
    ///         let guard = group.add(1).expect("two are few");
    ///         scope.spawn(move || drop(guard));
    ///     }
    ///     group.wait_blocking();
    ///     assert_eq!(group.count(), 0);
    /// });
    /// ```
    pub fn wait_blocking(&self) {
        GateWait::new(&self.gate).block();
    }
}

impl Default for WaitGroup {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup")
            .field("origin", &self.origin)
            .field("count", &self.count())
            .finish()
    }
}

/// Waits for a wait group to be empty; made by [`WaitGroup::wait`], which says what it promises.
#[pin_project]
#[must_use = "a future does nothing until it is polled"]
pub struct WaitGroupWait<'a> {
    /// The waiting.
    #[pin]
    wait: GateWait<'a>,
    /// Who called `wait`.
    place: &'static Location<'static>,
}

impl Future for WaitGroupWait<'_> {
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let proceed = ready!(coop::poll_proceed(cx));
        ready!(self.project().wait.poll_open(cx));
        proceed.made_progress();
        Poll::Ready(())
    }
}

impl fmt::Debug for WaitGroupWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroupWait").field("place", &format_args!("{}", self.place)).finish()
    }
}
