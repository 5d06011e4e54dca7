//! Futures over a stream, so that a stream can be swept.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

/// The next item of `stream`, or `None` at its end.
///
/// In a [`sweep`](crate::sweep()) the *call* is cancelled and the stream lives on: it shows that
/// no item is lost with a dropped `next`. The type's name contains the stream's own, so the sweep
/// is given the stream's name. A stream that is not `Unpin` is passed as a `Pin<&mut S>`.
///
/// # Cancel safety
///
/// It holds nothing: what is lost when it is dropped is what the stream loses between two polls.
///
/// # Examples
///
/// ```
/// # use std::{collections::VecDeque, pin::Pin, task::{Context, Poll}};
/// # struct Tail(VecDeque<u8>);
/// # impl futures_core::Stream for Tail {
/// #     type Item = u8;
/// #     fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u8>> {
/// #         Poll::Ready(self.0.pop_front())
/// #     }
/// # }
/// use selvedge_testkit::{next, sweep};
///
/// sweep("Tail", |run| {
///     let mut tail = Tail(VecDeque::from([7]));
///     let received = run.drive(next(&mut tail), |_| ()).ready().flatten();
///     assert_eq!(received.is_some(), tail.0.is_empty(), "received or still there");
/// });
/// ```
pub fn next<S: Stream + Unpin + ?Sized>(stream: &mut S) -> Next<'_, S> {
    Next { stream }
}

/// The future of [`next`].
#[must_use = "a future does nothing unless it is polled"]
pub struct Next<'a, S: ?Sized> {
    /// Where the item comes from.
    stream: &'a mut S,
}

impl<S: Stream + Unpin + ?Sized> Future for Next<'_, S> {
    type Output = Option<S::Item>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.stream).poll_next(cx)
    }
}

impl<S: ?Sized> fmt::Debug for Next<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

/// Hands each item of `stream` to `each`, until the stream ends.
///
/// In a [`sweep`](crate::sweep()) the *stream* is dropped, at each of its pending polls: it shows
/// what becomes of the workers, permits and items behind it.
///
/// # Cancel safety
///
/// An item is handed over in the poll that yields it, so none is lost here; the stream is dropped
/// with the future.
///
/// # Examples
///
/// ```
/// # use std::{pin::Pin, task::{Context, Poll}};
/// # struct Countdown(u8);
/// # impl futures_core::Stream for Countdown {
/// #     type Item = u8;
/// #     fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u8>> {
/// #         let item = self.0.checked_sub(1);
/// #         self.0 = item.unwrap_or(0);
/// #         Poll::Ready(item)
/// #     }
/// # }
/// use selvedge_testkit::{block_on, for_each};
///
/// let mut seen = Vec::new();
/// block_on(for_each(Countdown(3), |item| seen.push(item)));
/// assert_eq!(seen, [2, 1, 0]);
/// ```
pub fn for_each<S: Stream, C: FnMut(S::Item)>(stream: S, each: C) -> ForEach<S, C> {
    ForEach { stream: Box::pin(stream), each }
}

/// The future of [`for_each`].
#[must_use = "a future does nothing unless it is polled"]
pub struct ForEach<S, C> {
    /// Where the items come from; in a box, so that no pin has to be projected.
    stream: Pin<Box<S>>,
    /// Where they go.
    each: C,
}

/// The stream is pinned in its box, and `each` is never pinned.
impl<S, C> Unpin for ForEach<S, C> {}

impl<S: Stream, C: FnMut(S::Item)> Future for ForEach<S, C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(item) = ready!(self.stream.as_mut().poll_next(cx)) {
            (self.each)(item);
        }
        Poll::Ready(())
    }
}

impl<S, C> fmt::Debug for ForEach<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForEach").finish_non_exhaustive()
    }
}
