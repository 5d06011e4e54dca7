//! The right to cancel.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use selvedge_primitives::time::Timer;

use crate::tree::{Handle, Right};
use crate::{Cause, CauseKind};

/// May cancel the context it was made with, and everything below it.
///
/// Clones share the right. When the last one is dropped, the context is cancelled with
/// [`CauseKind::Dropped`], unless [`detach`](Self::detach) was called on one of them. A waker that
/// panics then panics out of the drop, unless the drop is part of a panic already.
#[derive(Clone)]
#[must_use = "dropping the last canceller cancels its context: keep it, or `detach` it"]
pub struct Canceller {
    /// A counted right to the node.
    right: Right,
}

// As for the context.
impl UnwindSafe for Canceller {}
impl RefUnwindSafe for Canceller {}

impl Canceller {
    /// The right to cancel a node, armed.
    pub(crate) fn new(right: Right) -> Self {
        Self { right }
    }

    /// A handle to the node.
    pub(crate) fn handle(&self) -> Handle {
        self.right.handle()
    }

    /// Cancels: sets STOPPING and CANCELLED on the context and all its descendants.
    ///
    /// When it returns, every descendant is flagged, whoever did it. Those who wait have been woken, and callbacks have run,
    /// except where a cancel came first and is still at it: it wakes those whom it has flagged, and nobody waits for its
    /// wakers. (So does a stop with those who wait for it.) A cancel after the first has returned is O(1). After a
    /// [`stop`](Self::stop) the cause stays the stop's.
    ///
    /// # Panics
    ///
    /// When a waker panics: all others are woken first, then the first panic goes on.
    #[track_caller]
    pub fn cancel(&self) {
        self.cancel_with(Cause::new(CauseKind::Cancelled));
    }

    /// As [`cancel`](Self::cancel), with an error that every descendant can read.
    ///
    /// # Panics
    ///
    /// As [`cancel`](Self::cancel).
    #[track_caller]
    pub fn cancel_because(&self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        self.cancel_with(Cause::new(CauseKind::Cancelled).with_error(error));
    }

    /// As [`cancel`](Self::cancel), passing on a cause that came from elsewhere.
    ///
    /// # Panics
    ///
    /// As [`cancel`](Self::cancel).
    pub fn cancel_with(&self, cause: Cause) {
        self.right.node().cancel(cause);
    }

    /// Asks everything below to finish: sets STOPPING now, and CANCELLED when `grace` is over.
    ///
    /// Zero is a [`cancel`](Self::cancel) whose cause is of the kind Stopped; a grace too long for
    /// the clock never ends. Of two stops the earlier end holds. The end is timed by the timer of
    /// the context's deadline, or by that of the calling place; when there is none, the grace
    /// cannot be timed and everything is cancelled at once. The end does not show in
    /// [`Context::deadline`](crate::Context::deadline).
    ///
    /// # Panics
    ///
    /// As [`cancel`](Self::cancel).
    #[track_caller]
    pub fn stop(&self, grace: Duration) {
        self.stop_with(Cause::new(CauseKind::Stopped), grace);
    }

    /// As [`stop`](Self::stop), with an error that every descendant can read.
    ///
    /// # Panics
    ///
    /// As [`cancel`](Self::cancel).
    #[track_caller]
    pub fn stop_because(&self, error: impl Into<Box<dyn Error + Send + Sync>>, grace: Duration) {
        self.stop_with(Cause::new(CauseKind::Stopped).with_error(error), grace);
    }

    /// As [`stop`](Self::stop), passing on a cause that came from elsewhere.
    ///
    /// # Panics
    ///
    /// As [`cancel`](Self::cancel).
    pub fn stop_with(&self, cause: Cause, grace: Duration) {
        self.right.node().stop(cause, grace, None);
    }

    /// As [`stop_with`](Self::stop_with), with the grace timed by `timer` where the context has no
    /// deadline, and no grace already, whose timer would do it: for a stop that comes from a thread outside the runtime.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use selvedge_cancel::{Cause, CauseKind, Context, Timer};
    /// let (ctx, canceller) = Context::background().child();
    /// let (timer, clock) = Timer::manual();
    /// canceller.stop_on(&timer, Cause::new(CauseKind::Stopped), Duration::from_secs(1));
    /// assert!(ctx.is_stopping() && !ctx.is_cancelled());
    /// clock.advance(Duration::from_secs(1));
    /// assert!(ctx.is_cancelled());
    /// ```
    ///
    /// # Panics
    ///
    /// As [`cancel`](Self::cancel).
    pub fn stop_on(&self, timer: &Timer, cause: Cause, grace: Duration) {
        self.right.node().stop(cause, grace, Some(timer));
    }

    /// Gives up the right to cancel by dropping, for all clones: the context then ends only by an
    /// explicit call, by its deadline, or from above.
    pub fn detach(self) {
        self.right.disarm();
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Canceller({:?})", self.right.node())
    }
}
