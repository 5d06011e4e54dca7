//! Waiting for a context: `cancelled`, `stopping` and `run`.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::observe::Place;
use selvedge_primitives::{Entry, Stand, coop};

use crate::Cause;
use crate::tree::{Handle, Level, Wait};

/// Waits for one of the two levels; what the public futures are made of.
#[pin_project]
pub(crate) struct Watch {
    /// The place in the node's list, and the node; none for the background.
    #[pin]
    stand: Option<Stand<Wait, (), ()>>,
}

impl Watch {
    /// Waits for `level` on `handle`.
    #[track_caller]
    pub(crate) fn new(handle: Option<Handle>, level: Level) -> Self {
        let place = Place::here();
        Self { stand: handle.map(|handle| Stand::placed(Wait { handle, level }, place)) }
    }

    /// Whether the level is reached already.
    pub(crate) fn reached(&self) -> Option<Cause> {
        let Wait { handle, level } = self.stand.as_ref()?.line();
        handle.has_reached(*level).then(|| handle.known_cause())
    }

    /// Polls, outside the cooperative budget.
    pub(crate) fn poll_reached(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Cause> {
        let Some(mut stand) = self.project().stand.as_pin_mut() else { return Poll::Pending };
        let Wait { handle, level } = stand.line();
        let level = *level;
        if stand.as_ref().is_waiting() {
            // Its timers are set: no look at the clock.
            if handle.is_flagged(level) {
                return Poll::Ready(handle.known_cause());
            }
        } else {
            if handle.has_reached(level) {
                return Poll::Ready(handle.known_cause());
            }
            // Before queueing: if the timer is due or lost at once, the flag is set by the time it
            // is looked at under the node's lock.
            handle.arm_timers();
        }
        ready!(stand.as_mut().poll_enter(cx, |node| match node.is_over(level) {
            true => Entry::Ready(()),
            false => Entry::Wait(()),
        }));
        Poll::Ready(stand.line().handle.known_cause())
    }
}

/// Completes with the cause when a context is cancelled; from
/// [`Context::cancelled`](crate::Context::cancelled).
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Cancelled {
    /// The wait.
    #[pin]
    watch: Watch,
}

/// Completes with the cause when a context is to finish; from
/// [`Context::stopping`](crate::Context::stopping).
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Stopping {
    /// The wait.
    #[pin]
    watch: Watch,
}

impl Cancelled {
    /// Waits for `handle`.
    #[track_caller]
    pub(crate) fn new(handle: Option<Handle>) -> Self {
        Self { watch: Watch::new(handle, Level::Cancelled) }
    }
}

impl Stopping {
    /// Waits for `handle`.
    #[track_caller]
    pub(crate) fn new(handle: Option<Handle>) -> Self {
        Self { watch: Watch::new(handle, Level::Stopping) }
    }
}

impl Future for Cancelled {
    type Output = Cause;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Cause> {
        let proceed = ready!(coop::poll_proceed(cx));
        let cause = ready!(self.project().watch.poll_reached(cx));
        proceed.made_progress();
        Poll::Ready(cause)
    }
}

impl Future for Stopping {
    type Output = Cause;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Cause> {
        let proceed = ready!(coop::poll_proceed(cx));
        let cause = ready!(self.project().watch.poll_reached(cx));
        proceed.made_progress();
        Poll::Ready(cause)
    }
}

/// Runs a future until it completes or a context is cancelled; from
/// [`Context::run`](crate::Context::run).
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Run<F> {
    /// The wait.
    #[pin]
    watch: Watch,
    /// What is run.
    #[pin]
    future: F,
}

impl<F> Run<F> {
    /// Runs `future` under `handle`.
    #[track_caller]
    pub(crate) fn new(handle: Option<Handle>, future: F) -> Self {
        Self { watch: Watch::new(handle, Level::Cancelled), future }
    }
}

impl<F: Future> Future for Run<F> {
    type Output = Result<F::Output, Cause>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(cause) = this.watch.reached() {
            // Ready without `future`'s doing, so it is this one's to spend of the budget.
            ready!(coop::poll_proceed(cx)).made_progress();
            return Poll::Ready(Err(cause));
        }
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.watch.poll_reached(cx).map(Err)
    }
}

/// Runs a future until it completes or a context is cancelled, with the cause as one of its errors; from
/// [`Context::run_or_cause`](crate::Context::run_or_cause).
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct RunOrCause<F> {
    /// What is run.
    #[pin]
    run: Run<F>,
}

impl<F> RunOrCause<F> {
    /// Runs `future` under `handle`.
    #[track_caller]
    pub(crate) fn new(handle: Option<Handle>, future: F) -> Self {
        Self { run: Run::new(handle, future) }
    }
}

impl<T, E: From<Cause>, F: Future<Output = Result<T, E>>> Future for RunOrCause<F> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<T, E>> {
        self.project().run.poll(cx).map(|outcome| outcome.unwrap_or_else(|cause| Err(cause.into())))
    }
}

impl<F> fmt::Debug for RunOrCause<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOrCause").finish_non_exhaustive()
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled").finish_non_exhaustive()
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Run<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}
