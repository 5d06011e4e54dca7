//! The face of the latch: counts down to zero, once. The work is done in `gate/mod.rs`; there are no
//! atomics and no locks here.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::{Origin, const_fn, coop};

use crate::gate::{Gate, GateWait, MAX_COUNT};
use crate::within::Within;

/// A gate that opens when it was counted down to zero, and stays open.
///
/// Made with the number of things that have to happen. Whoever has made one of them happen counts
/// down; whoever needs them all waits. Go has no latch: there a `WaitGroup` with one `Add` plays it.
///
/// | | [`Latch`] | [`WaitGroup`](crate::WaitGroup) |
/// |---|---|---|
/// | the count | is fixed at birth | rises by `add` |
/// | counts down | by a call | by the drop of a guard, also in a panic |
/// | open | once and for good | whenever the count is zero |
/// | dropping what counts | leaves it closed for ever | is the done |
///
/// A wait that is to end with a context, too, is [`wait_in`](Self::wait_in).
///
/// # Fairness
///
/// All who wait are let out by the last count down and woken in the order in which they came.
///
/// # Memory ordering
///
/// What preceded a [`count_down`](Self::count_down) happens before every [`wait`](Self::wait) (of
/// either kind) that completes, and before every [`is_open`](Self::is_open) that is true. A count
/// down that finds the latch open orders nothing.
///
/// # Examples
///
/// Start when all three are ready:
///
/// ```
/// use std::sync::Arc;
/// use selvedge_sync::Latch;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let ready = Arc::new(Latch::new(3));
/// for _ in 0..3 {
///     let ready = Arc::clone(&ready);
///     tokio::spawn(async move {
///         // warm up
///         ready.count_down(1);
///     });
/// }
/// ready.wait().await;
/// assert!(ready.is_open());
/// # }
/// ```
///
/// # Algorithm
///
/// One word holds the count and a bit for "somebody waits". To count down is one compare-and-swap;
/// only the last takes a lock, and only if somebody waits. A wait of an open latch is one load. A
/// waiter costs two lock trips (its own, and a share in that of the last), one wake-up and no
/// allocation.
pub struct Latch {
    /// Counts, queues, lets out.
    gate: Gate,
    /// Name and place.
    origin: Origin,
}

impl Latch {
    /// The highest count a latch may be made with: `usize::MAX >> 2`.
    pub const MAX_COUNT: usize = MAX_COUNT;

    const_fn! {
        /// A latch that opens after `count` counts. With 0 it is open at birth.
        ///
        /// # Panics
        ///
        /// When `count` is above [`MAX_COUNT`](Self::MAX_COUNT); in the initial value of a static or
        /// a constant that is an error of the compiler.
        ///
        /// # Examples
        ///
        /// ```
        /// use selvedge_sync::Latch;
        ///
        /// static STARTED: Latch = Latch::new(1);
        /// assert!(!STARTED.is_open());
        /// assert!(Latch::new(0).is_open());
        /// ```
        #[track_caller]
        pub const fn new(count: usize) -> Self {
            assert!(count <= Self::MAX_COUNT, "latch not made: it counts more than Latch::MAX_COUNT");
            Self { gate: Gate::new(count), origin: Origin::here() }
        }
    }

    /// The same latch under a name, for `{:?}`.
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

    /// Counts down by `n`, to zero at most: what is above the rest of the count, and every count down
    /// of an open latch, does nothing. Returns true to the one call that opened the latch.
    ///
    /// # Panics
    ///
    /// With the panic of a waker, after everybody was let out and woken.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::Latch;
    ///
    /// let latch = Latch::new(3);
    /// assert!(!latch.count_down(1));
    /// assert!(latch.count_down(5), "two were left");
    /// assert!(!latch.count_down(1), "it is open already");
    /// assert_eq!(latch.count(), 0);
    /// ```
    pub fn count_down(&self, n: usize) -> bool {
        self.gate.count_down(n)
    }

    /// How much is left to be counted: right at the moment of the call.
    pub fn count(&self) -> usize {
        self.gate.count()
    }

    /// Whether it was counted down to zero.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    /// Waits until the latch is open. Completes at once if it is; never, if nobody counts it down.
    ///
    /// # Cancel safety
    ///
    /// Safe. Open stays open, so dropping the future loses nothing.
    ///
    /// # Fairness
    ///
    /// See [`Latch`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// What preceded every count down is visible after this completes; see
    /// [`Latch`](Self#memory-ordering).
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::Latch;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let latch = Latch::new(1);
    /// latch.count_down(1);
    /// latch.wait().await;
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// One load if the latch is open; see [`Latch`](Self#algorithm).
    #[track_caller]
    #[inline]
    pub fn wait(&self) -> LatchWait<'_> {
        LatchWait { wait: GateWait::new(&self.gate), place: Location::caller() }
    }

    /// As [`wait`](Self::wait), for no longer than `ctx` lasts: then it gives the cause, and has left the line.
    ///
    /// A context that has ended wins over a latch that is open, also if it ended after this was let out and before it was polled.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Fairness
    ///
    /// See [`Latch`](Self#fairness).
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
    /// use selvedge_sync::Latch;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let (ctx, canceller) = Context::background().child();
    /// let latch = Latch::new(1);
    /// canceller.cancel();
    /// assert!(latch.wait_in(&ctx).await.is_err());
    ///
    /// latch.count_down(1);
    /// assert!(latch.wait_in(&Context::background()).await.is_ok());
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`wait`](Self::wait), and a look at the context.
    #[track_caller]
    pub fn wait_in<'c>(&self, ctx: &'c selvedge_cancel::Context) -> Within<'c, LatchWait<'_>> {
        Within::new(ctx, self.wait())
    }

    /// Waits until the latch is open, blocking the thread. Not for use in a task: it blocks the
    /// worker thread that may be needed to count down.
    ///
    /// # Memory ordering
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::Latch;
    ///
    /// let latch = Latch::new(2);
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| latch.count_down(1));
    ///     scope.spawn(|| latch.count_down(1));
    ///     latch.wait_blocking();
    ///     assert!(latch.is_open());
    /// });
    /// ```
    pub fn wait_blocking(&self) {
        GateWait::new(&self.gate).block();
    }
}

impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latch").field("origin", &self.origin).field("count", &self.count()).finish()
    }
}

/// Waits for a latch to open; made by [`Latch::wait`], which says what it promises.
#[pin_project]
#[must_use = "a future does nothing until it is polled"]
pub struct LatchWait<'a> {
    /// The waiting.
    #[pin]
    wait: GateWait<'a>,
    /// Who called `wait`.
    place: &'static Location<'static>,
}

impl Future for LatchWait<'_> {
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let proceed = ready!(coop::poll_proceed(cx));
        ready!(self.project().wait.poll_open(cx));
        proceed.made_progress();
        Poll::Ready(())
    }
}

impl fmt::Debug for LatchWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatchWait").field("place", &format_args!("{}", self.place)).finish()
    }
}
