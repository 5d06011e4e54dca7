//! The end of a window where slots are reserved.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::coop;

use super::Counts;
use super::engine::{Line, Shared};
use super::slot::Slot;

/// Where slots are reserved; from [`window`](crate::window).
///
/// A window has one entry, so that dropping it says that nothing more will come. Several tasks
/// share it by reference or in an [`Arc`]: then the last of them closes it.
pub struct Entry<T> {
    /// The window.
    shared: Arc<Shared<T>>,
}

impl<T> Entry<T> {
    /// The entry of a new window.
    pub(super) const fn new(shared: Arc<Shared<T>>) -> Self {
        Self { shared }
    }

    /// Reserves a slot, waiting for room.
    ///
    /// Completes with the slot when fewer than the capacity are reserved and not emitted, and with
    /// [`Closed`] when the window is closed from either end, before or meanwhile. Reserve first,
    /// then start the work: so work never stands finished without a place for its result.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses its place in the queue and nothing else. Room that it was granted
    /// and did not see goes to the next in the queue, and no sequence number is spent, so the exit
    /// shows no gap.
    ///
    /// # Fairness
    ///
    /// Room is granted in the order in which the futures were first polled, and nobody overtakes,
    /// [`try_reserve`](Self::try_reserve) included. The sequence number is assigned when the future
    /// completes. The wait is as long as the exit takes to emit; there is no bound.
    ///
    /// # Memory ordering
    ///
    /// What whoever made room did before it took an item from the exit is seen after this
    /// completes: the release and acquire of the window's lock.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the entry was closed or the exit was dropped, also when room was granted
    /// just before.
    ///
    /// # Panics
    ///
    /// The future panics when it is polled again after it completed.
    ///
    /// # Examples
    ///
    /// The slot goes into the task that fills it:
    ///
    /// ```
    /// use selvedge_fanio::{Order, window};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (entry, mut exit) = window(4, Order::Ordered).unwrap();
    /// let driver = tokio::spawn(async move {
    ///     for number in 0..100_u64 {
    ///         let Ok(slot) = entry.reserve().await else { break };
    ///         tokio::spawn(async move { slot.complete(number * number) });
    ///     }
    /// });
    ///
    /// let mut squares = Vec::new();
    /// while let Some(emitted) = exit.next().await {
    ///     squares.extend(emitted.into_value());
    /// }
    /// assert!(squares.iter().copied().eq((0..100).map(|number| number * number)));
    /// driver.await.unwrap();
    /// # });
    /// ```
    ///
    /// # Algorithm
    ///
    /// With room: one lock, no waker cloned. Without: an intrusive queue, no allocation.
    #[track_caller]
    pub fn reserve(&self) -> Reserve<'_, T> {
        Reserve {
            line: self.shared.line(),
            shared: Some(Arc::clone(&self.shared)),
            place: Location::caller(),
        }
    }

    /// As [`reserve`](Self::reserve), in a future that borrows nothing: for a struct that holds it
    /// beside the entry, or a task of its own. It does not keep the entry open.
    #[track_caller]
    pub fn reserve_owned(&self) -> Reserve<'static, T>
    where
        T: Send + 'static,
    {
        Reserve {
            line: self.shared.line_owned(),
            shared: Some(Arc::clone(&self.shared)),
            place: Location::caller(),
        }
    }

    /// Reserves a slot if there is room now. Never overtakes those who wait.
    ///
    /// # Errors
    ///
    /// [`TryReserveError::Full`] when there is no room, [`TryReserveError::Closed`] as for
    /// [`reserve`](Self::reserve).
    pub fn try_reserve(&self) -> Result<Slot<T>, TryReserveError> {
        match self.shared.try_take() {
            Some(Ok(sequence)) => Ok(Slot::new(Arc::clone(&self.shared), sequence)),
            Some(Err(Closed)) => Err(TryReserveError::Closed),
            None => Err(TryReserveError::Full),
        }
    }

    /// Closes: nothing more is reserved, and whoever waits to gets [`Closed`]. What was reserved is
    /// still emitted, and then the exit ends. Dropping the entry does the same.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether the window was closed, from either end.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// What went through the window so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<T> fmt::Debug for Entry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe(f, "Entry")
    }
}

/// Completes with a slot; from [`Entry::reserve`] and [`Entry::reserve_owned`].
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct Reserve<'a, T> {
    /// The place in the queue.
    #[pin]
    line: Line<'a, T>,
    /// The window, which the slot takes over.
    shared: Option<Arc<Shared<T>>>,
    /// Where it was asked for.
    place: &'static Location<'static>,
}

impl<T> Future for Reserve<'_, T> {
    type Output = Result<Slot<T>, Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(shared) = this.shared.as_ref() else {
            panic!("the reservation of {} was polled after it completed", this.place);
        };
        let proceed = ready!(coop::poll_proceed(cx));
        let sequence = ready!(shared.poll_take(this.line, cx));
        proceed.made_progress();
        let shared = this.shared.take().expect("seen above");
        Poll::Ready(sequence.map(|sequence| Slot::new(shared, sequence)))
    }
}

#[pinned_drop]
impl<T> PinnedDrop for Reserve<'_, T> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let Some(shared) = this.shared {
            shared.leave(this.line);
        }
    }
}

impl<T> fmt::Debug for Reserve<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve")
            .field("place", &format_args!("{}", self.place))
            .finish_non_exhaustive()
    }
}

/// The window is closed: its entry was closed, or its exit is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("slot not reserved: window closed")]
pub struct Closed;

/// Why there is no slot now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryReserveError {
    /// As many as the capacity are reserved and not emitted, or granted to those who waited.
    #[error("slot not reserved: window full")]
    Full,
    /// The window is closed: its entry was closed, or its exit is gone.
    #[error("slot not reserved: window closed")]
    Closed,
}
