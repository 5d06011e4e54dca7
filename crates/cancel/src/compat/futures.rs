//! The futures of a token: to wait for its end, and to run something until then.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::coop;

use super::CancellationToken;
use crate::Cancelled;
use crate::futures::Watch;
use crate::tree::{Level, Wait};

/// Completes when a token is cancelled; from [`CancellationToken::cancelled`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct WaitForCancellationFuture<'a> {
    /// The wait.
    #[pin]
    wait: Cancelled<'a>,
}

impl<'a> WaitForCancellationFuture<'a> {
    /// Waits for `token`.
    #[track_caller]
    pub(super) fn new(token: &'a CancellationToken) -> Self {
        Self { wait: token.context.cancelled() }
    }
}

impl Future for WaitForCancellationFuture<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.project().wait.poll(cx).map(drop)
    }
}

impl fmt::Debug for WaitForCancellationFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitForCancellationFuture").finish_non_exhaustive()
    }
}

/// Completes when a token is cancelled; from [`CancellationToken::cancelled_owned`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct WaitForCancellationFutureOwned {
    /// The wait, which keeps the token's node.
    #[pin]
    wait: Cancelled<'static>,
}

impl WaitForCancellationFutureOwned {
    /// Waits for `token`, of which it keeps what it needs.
    #[track_caller]
    pub(super) fn new(token: CancellationToken) -> Self {
        Self { wait: token.context.cancelled_owned() }
    }
}

impl Future for WaitForCancellationFutureOwned {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.project().wait.poll(cx).map(drop)
    }
}

impl fmt::Debug for WaitForCancellationFutureOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitForCancellationFutureOwned").finish_non_exhaustive()
    }
}

/// Runs a future until it completes or the token is cancelled, as tokio-util orders the two.
#[pin_project]
struct RunUntil<'a, F> {
    /// The wait.
    #[pin]
    watch: Watch<'a>,
    /// What is run; none when it is over.
    #[pin]
    future: Option<F>,
    /// Whether it was polled.
    begun: bool,
}

impl<'a, F> RunUntil<'a, F> {
    /// Runs `future` until what `wait` waits for.
    #[track_caller]
    fn new(wait: Wait<'a>, future: F) -> Self {
        let watch = Watch::new(Some(wait));
        Self { watch, future: Some(future), begun: false }
    }
}

impl<F: Future> Future for RunUntil<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            panic!("future polled after it has completed: `run_until_cancelled` ended before")
        };
        let output = if !*this.begun && this.watch.reached().is_some() {
            // Ready without `future`'s doing, so it is this one's to spend of the budget.
            ready!(coop::poll_proceed(cx)).made_progress();
            None
        } else {
            *this.begun = true;
            match future.poll(cx) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => {
                    ready!(this.watch.poll_reached(cx));
                    None
                }
            }
        };
        this.future.set(None);
        Poll::Ready(output)
    }
}

/// Runs a future until it completes or a token is cancelled; from [`CancellationToken::run_until_cancelled`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct RunUntilCancelledFuture<'a, F> {
    /// What is run.
    #[pin]
    run: RunUntil<'a, F>,
}

impl<'a, F> RunUntilCancelledFuture<'a, F> {
    /// Runs `future` under `token`.
    #[track_caller]
    pub(super) fn new(token: &'a CancellationToken, future: F) -> Self {
        Self { run: RunUntil::new(Wait::borrowed(token.handle(), Level::Cancelled), future) }
    }
}

impl<F: Future> Future for RunUntilCancelledFuture<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.project().run.poll(cx)
    }
}

impl<F> fmt::Debug for RunUntilCancelledFuture<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunUntilCancelledFuture").finish_non_exhaustive()
    }
}

/// Runs a future until it completes or a token is cancelled; from [`CancellationToken::run_until_cancelled_owned`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct RunUntilCancelledFutureOwned<F> {
    /// What is run; it keeps the token's node.
    #[pin]
    run: RunUntil<'static, F>,
}

impl<F> RunUntilCancelledFutureOwned<F> {
    /// Runs `future` under `token`, of which it keeps what it needs.
    #[track_caller]
    pub(super) fn new(token: CancellationToken, future: F) -> Self {
        let wait = Wait::owned(token.handle().clone(), Level::Cancelled);
        Self { run: RunUntil::new(wait, future) }
    }
}

impl<F: Future> Future for RunUntilCancelledFutureOwned<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.project().run.poll(cx)
    }
}

impl<F> fmt::Debug for RunUntilCancelledFutureOwned<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunUntilCancelledFutureOwned").finish_non_exhaustive()
    }
}
