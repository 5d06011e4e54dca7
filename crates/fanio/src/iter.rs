//! An iterator as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use selvedge_primitives::coop;

/// The items of an iterator as a stream, for what takes a stream. It is always ready, except that an
/// item spends a unit of tokio's cooperative budget: once that is spent, the task yields.
///
/// ```
/// use selvedge_fanio::{iter, merge};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut merged = merge([iter(0..2), iter(7..8)]).quantum(1);
/// assert_eq!(merged.next().await, Some(0));
/// assert_eq!(merged.next().await, Some(7));
/// assert_eq!(merged.next().await, Some(1));
/// assert_eq!(merged.next().await, None);
/// # });
/// ```
pub fn iter<I: IntoIterator>(items: I) -> Iter<I::IntoIter> {
    Iter { items: items.into_iter() }
}

/// An iterator as a stream; from [`iter()`].
#[must_use = "streams do nothing unless polled"]
pub struct Iter<I> {
    /// The iterator.
    items: I,
}

// The iterator is not pinned.
impl<I> Unpin for Iter<I> {}

impl<I: Iterator> Stream for Iter<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<I::Item>> {
        // Spent at once: the iterator is somebody else's code, and may spend of the budget itself.
        ready!(coop::poll_proceed(cx)).made_progress();
        Poll::Ready(self.items.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<I> fmt::Debug for Iter<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}
