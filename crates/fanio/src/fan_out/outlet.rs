//! The end of a fan-out where items come out.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use selvedge_primitives::coop;

use super::lane::{Line, Shared};

/// One of the consumers' ends of a fan-out; from [`fan_out`](crate::fan_out()). A stream of items.
///
/// Dropping it takes it out of the fan-out: [`Route`](crate::Route) says what becomes of its share.
pub struct Outlet<T: 'static> {
    /// The lanes.
    shared: Arc<Shared<T>>,
    /// Which of them it takes from.
    lane: usize,
    /// Its place in the line.
    line: Pin<Box<Line<T>>>,
}

impl<T: Send + 'static> Outlet<T> {
    /// An outlet of a lane.
    pub(super) fn new(shared: &Arc<Shared<T>>, lane: usize) -> Self {
        Self { shared: Arc::clone(shared), lane, line: Box::pin(shared.line(lane)) }
    }
}

impl<T: 'static> Outlet<T> {
    /// The next item, waiting for it.
    ///
    /// Completes with `None` when the feed has ended, however it did, and nothing is left for this
    /// outlet, and then always; the feed's report says whether it came to the end of its source.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing but its place in the line. An item that it was granted and
    /// did not take goes to the next in the line, or stays.
    ///
    /// # Fairness
    ///
    /// Outlets that share a queue and wait are served in the order in which they came; one that asks
    /// when items are there takes one at once. An item that was granted is that outlet's until its
    /// future is polled or dropped: do not keep a pending one without polling it.
    ///
    /// # Memory ordering
    ///
    /// What preceded the item's way into the queue is seen after this completes; what precedes the
    /// completion is seen by the feed when it puts an item into the room that this made.
    ///
    /// # Examples
    ///
    /// See [`fan_out`](crate::fan_out()).
    ///
    /// # Algorithm
    ///
    /// One lock of the queue when an item is there; two to wait for one, and one to take it then. Nothing
    /// is allocated.
    #[track_caller]
    pub const fn next(&mut self) -> Take<'_, T> {
        Take { outlet: self }
    }

    /// Takes an item, or waits in line.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let proceed = ready!(coop::poll_proceed(cx));
        let item = ready!(self.shared.poll_take(self.lane, self.line.as_mut(), cx));
        proceed.made_progress();
        Poll::Ready(item)
    }
}

/// Polled as a stream, it keeps its place in the line between the polls, and an item that it was
/// granted: poll it until it is ready, or drop it.
impl<T: 'static> Stream for Outlet<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_take(cx)
    }
}

impl<T: 'static> Drop for Outlet<T> {
    fn drop(&mut self) {
        self.shared.give_up(self.lane, self.line.as_mut());
        self.shared.leave(self.lane);
    }
}

impl<T: 'static> fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// Completes with the next item; from [`Outlet::next`].
#[must_use = "futures do nothing unless polled"]
pub struct Take<'a, T: 'static> {
    /// Where from.
    outlet: &'a mut Outlet<T>,
}

impl<T: 'static> Future for Take<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.outlet.poll_take(cx)
    }
}

impl<T: 'static> Drop for Take<'_, T> {
    fn drop(&mut self) {
        let outlet = &mut *self.outlet;
        outlet.shared.give_up(outlet.lane, outlet.line.as_mut());
    }
}

impl<T: 'static> fmt::Debug for Take<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Take").field("outlet", &self.outlet).finish()
    }
}
