//! The future behind the `next` of the streams of these crates.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

/// Completes with the next item of a stream, or with none at its end; from the `next` of a stream,
/// which says what dropping it means. It holds nothing but the reference.
#[must_use = "futures do nothing unless polled"]
pub struct NextItem<'a, S> {
    /// Where from.
    stream: &'a mut S,
}

impl<'a, S: Stream + Unpin> NextItem<'a, S> {
    /// The next item of `stream`.
    pub const fn new(stream: &'a mut S) -> Self {
        Self { stream }
    }
}

impl<S: Stream + Unpin> Future for NextItem<'_, S> {
    type Output = Option<S::Item>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.stream).poll_next(cx)
    }
}

impl<S: fmt::Debug> fmt::Debug for NextItem<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextItem").field("stream", &self.stream).finish()
    }
}
