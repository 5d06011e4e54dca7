//! The end of a window where results come out.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use selvedge_primitives::coop;

use super::Counts;
use super::engine::Shared;

/// Where results come out; from [`window`](crate::window). A stream of [`Emitted`].
///
/// As a stream it gives what [`next`](Self::next) gives. What is said there of cancel safety, fairness and
/// memory ordering holds, and so does what [`window()`](crate::window()) says.
///
/// Dropping it closes the window: whoever waits for a slot is sent away, and what was completed or
/// will be is dropped and counted as [`discarded`](Counts::discarded).
pub struct Exit<T> {
    /// The window.
    shared: Arc<Shared<T>>,
}

impl<T> Exit<T> {
    /// The exit of a new window.
    pub(super) const fn new(shared: Arc<Shared<T>>) -> Self {
        Self { shared }
    }

    /// The next item or gap in the window's order, waiting for it.
    ///
    /// Completes with `None` when the window is closed and everything reserved was emitted, and
    /// then always. Each item or gap makes room for one more slot.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: an item is taken in the poll that returns it. A wake-up
    /// that came is not lost either, because the next call looks first.
    ///
    /// # Fairness
    ///
    /// There is one exit. Ordered, it waits for the oldest slot however many behind it are
    /// complete; whoever holds that slot decides how long.
    ///
    /// # Memory ordering
    ///
    /// What precedes [`Slot::complete`](crate::Slot::complete), or the drop of the slot, is seen
    /// after this returns its item or gap: the release and acquire of the window's lock.
    ///
    /// # Examples
    ///
    /// A worker that is dropped half way does not hold up those behind it:
    ///
    /// ```
    /// use selvedge_fanio::{Emitted, Order, window};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (entry, mut exit) = window(2, Order::Ordered).unwrap();
    /// let unfinished = entry.reserve().await.unwrap();
    /// entry.reserve().await.unwrap().complete("finished");
    /// drop((entry, unfinished));
    ///
    /// assert_eq!(exit.next().await, Some(Emitted::Gap { sequence: 0 }));
    /// assert_eq!(exit.next().await, Some(Emitted::Item { sequence: 1, value: "finished" }));
    /// assert_eq!(exit.next().await, None);
    /// # });
    /// ```
    ///
    /// # Algorithm
    ///
    /// One lock when something is there, two when not. The task that waits is woken only by what
    /// lets it go on: ordered, by the oldest slot alone. Nothing is allocated.
    #[track_caller]
    pub const fn next(&mut self) -> Next<'_, T> {
        Next { exit: self, waits: false }
    }

    /// [`next`](Self::next) as a poll function, for futures written by hand. When it returns
    /// pending, the waker of this call is the one that will be woken.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Emitted<T>>> {
        let proceed = ready!(coop::poll_proceed(cx));
        let emitted = ready!(self.shared.poll_emit(cx));
        proceed.made_progress();
        Poll::Ready(emitted)
    }

    /// The next item or gap, if it is there now.
    ///
    /// # Errors
    ///
    /// [`TryNextError::Empty`] when the next one in turn is not there yet; [`TryNextError::Ended`]
    /// when nothing more will come.
    pub fn try_next(&mut self) -> Result<Emitted<T>, TryNextError> {
        match self.shared.try_emit() {
            Poll::Ready(Some(emitted)) => Ok(emitted),
            Poll::Ready(None) => Err(TryNextError::Ended),
            Poll::Pending => Err(TryNextError::Empty),
        }
    }

    /// Closes the window from this end: nothing more is reserved, and what was reserved still
    /// comes out.
    pub fn close(&mut self) {
        self.shared.close();
    }

    /// What went through the window so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }
}

impl<T> Stream for Exit<T> {
    type Item = Emitted<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Emitted<T>>> {
        Exit::poll_next(&mut self, cx)
    }
}

impl<T> Drop for Exit<T> {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl<T> fmt::Debug for Exit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe(f, "Exit")
    }
}

/// Completes with the next item or gap; from [`Exit::next`].
#[must_use = "futures do nothing unless polled"]
pub struct Next<'a, T> {
    /// Where from.
    exit: &'a mut Exit<T>,
    /// Whether the last poll left a waker.
    waits: bool,
}

impl<T> Future for Next<'_, T> {
    type Output = Option<Emitted<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let emitted = self.exit.poll_next(cx);
        self.waits = emitted.is_pending();
        emitted
    }
}

impl<T> Drop for Next<'_, T> {
    fn drop(&mut self) {
        if self.waits {
            self.exit.shared.forget_exit();
        }
    }
}

impl<T> fmt::Debug for Next<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("exit", &self.exit).finish()
    }
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emitted<T> {
    /// It was completed.
    Item {
        /// The slot's number.
        sequence: u64,
        /// What it was completed with.
        value: T,
    },
    /// It was dropped uncompleted.
    Gap {
        /// The slot's number.
        sequence: u64,
    },
}

impl<T> Emitted<T> {
    /// The slot's number.
    pub const fn sequence(&self) -> u64 {
        match *self {
            Self::Item { sequence, .. } | Self::Gap { sequence } => sequence,
        }
    }

    /// The value; none for a gap.
    pub fn into_value(self) -> Option<T> {
        match self {
            Self::Item { value, .. } => Some(value),
            Self::Gap { .. } => None,
        }
    }
}

/// Why nothing came out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryNextError {
    /// The next one in turn is not there yet.
    #[error("no item taken: the next one in turn is not complete")]
    Empty,
    /// The window is closed, and everything reserved was emitted.
    #[error("no item taken: window closed and empty")]
    Ended,
}
