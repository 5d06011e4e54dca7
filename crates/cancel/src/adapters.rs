//! Adapters: a future or a stream that ends with a context.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use pin_project::pin_project;
use selvedge_primitives::coop;

use crate::futures::Watch;
use crate::tree::{Level, Wait};
use crate::{Cause, Context, Run};

/// [`Context::run`] at the end of a chain of calls.
pub trait RunIn: Future + Sized {
    /// Runs this future until it completes or `ctx` is cancelled: `ctx.run(self)`, of which all that [`Context::run`] says
    /// holds.
    #[track_caller]
    fn run_in(self, ctx: &Context) -> Run<Self> {
        ctx.run(self)
    }
}

impl<F: Future> RunIn for F {}

/// Streams that end with a context.
pub trait Until: Stream + Sized {
    /// This stream, until `ctx` is cancelled.
    ///
    /// The context is looked at before the stream, at every poll: a stream that is always ready ends as well. What the
    /// stream has given is passed on; what it would give next stays in it. Each item spends a unit of tokio's cooperative
    /// budget, so that such a loop yields as well.
    ///
    /// # Cancel safety
    ///
    /// As safe as the stream's own: a stream keeps what it has not given.
    ///
    /// # Fairness
    ///
    /// The context is looked at before the stream, at every poll.
    ///
    /// # Memory ordering
    ///
    /// What the canceller did before is visible when the stream ends for it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::future::poll_fn;
    /// # use std::pin::{Pin, pin};
    /// # use std::task::{Context as TaskContext, Poll};
    /// # use futures_core::Stream;
    /// # use selvedge_cancel::{Context, Until};
    /// # struct Numbers(u32);
    /// # impl Stream for Numbers {
    /// #     type Item = u32;
    /// #     fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<u32>> {
    /// #         self.0 += 1;
    /// #         Poll::Ready(Some(self.0))
    /// #     }
    /// # }
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (ctx, canceller) = Context::background().child();
    /// let mut numbers = pin!(Numbers(0).until_cancelled(&ctx));
    /// assert_eq!(poll_fn(|cx| numbers.as_mut().poll_next(cx)).await, Some(1));
    /// canceller.cancel();
    /// assert_eq!(poll_fn(|cx| numbers.as_mut().poll_next(cx)).await, None);
    /// assert!(numbers.cause().is_some());
    /// # });
    /// ```
    #[track_caller]
    fn until_cancelled(self, ctx: &Context) -> UntilEnd<Self> {
        UntilEnd::new(self, ctx, Level::Cancelled)
    }

    /// This stream, until `ctx` is to finish: for a source of work, which ends when a drain begins. Otherwise as
    /// [`until_cancelled`](Self::until_cancelled).
    ///
    /// # Cancel safety
    ///
    /// As [`until_cancelled`](Self::until_cancelled).
    ///
    /// # Fairness
    ///
    /// As [`until_cancelled`](Self::until_cancelled).
    ///
    /// # Memory ordering
    ///
    /// As [`until_cancelled`](Self::until_cancelled).
    ///
    /// # Examples
    ///
    /// As [`until_cancelled`](Self::until_cancelled).
    #[track_caller]
    fn until_stopping(self, ctx: &Context) -> UntilEnd<Self> {
        UntilEnd::new(self, ctx, Level::Stopping)
    }
}

impl<S: Stream> Until for S {}

/// A stream that ends with a context; from [`Until`].
#[pin_project]
#[must_use = "streams do nothing unless polled"]
pub struct UntilEnd<S> {
    /// The stream.
    #[pin]
    stream: S,
    /// The wait for the context.
    #[pin]
    watch: Watch<'static>,
    /// Why it ended, or that the stream did.
    end: Option<Option<Cause>>,
}

impl<S> UntilEnd<S> {
    /// A stream that ends when `ctx` reaches `level`.
    #[track_caller]
    fn new(stream: S, ctx: &Context, level: Level) -> Self {
        let wait = ctx.handle().map(|handle| Wait::owned(handle.clone(), level));
        Self { stream, watch: Watch::new(wait), end: None }
    }

    /// Why the context has ended it; none while it goes on, and when the stream ended by itself.
    pub fn cause(&self) -> Option<&Cause> {
        self.end.as_ref()?.as_ref()
    }

    /// The stream.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream, with what it has not given.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: Stream> Stream for UntilEnd<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<S::Item>> {
        let mut this = self.project();
        if this.end.is_some() {
            return Poll::Ready(None);
        }
        if let Some(cause) = this.watch.reached() {
            // Ready without the stream's doing, so it is this one's to spend of the budget.
            ready!(coop::poll_proceed(cx)).made_progress();
            *this.end = Some(Some(cause));
            return Poll::Ready(None);
        }
        // So a loop over a stream that is always ready yields to whoever is to cancel.
        let proceed = ready!(coop::poll_proceed(cx));
        if let Poll::Ready(item) = this.stream.poll_next(cx) {
            proceed.made_progress();
            if item.is_none() {
                *this.end = Some(None);
                // Nothing to be woken for any more.
                this.watch.set(Watch::new(None));
            }
            return Poll::Ready(item);
        }
        let cause = ready!(this.watch.as_mut().poll_reached(cx));
        proceed.made_progress();
        *this.end = Some(Some(cause));
        Poll::Ready(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.end {
            Some(_) => (0, Some(0)),
            None => (0, self.stream.size_hint().1),
        }
    }
}

impl<S> fmt::Debug for UntilEnd<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntilEnd").field("end", &self.end).finish_non_exhaustive()
    }
}
