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
pub(crate) struct Watch<'a> {
    /// The place in the node's list, and the node; none for the background.
    #[pin]
    stand: Option<Stand<Wait<'a>, (), ()>>,
}

impl<'a> Watch<'a> {
    /// Waits.
    #[track_caller]
    pub(crate) fn new(wait: Option<Wait<'a>>) -> Self {
        let place = Place::here();
        Self { stand: wait.map(|wait| Stand::placed(wait, place)) }
    }

    /// Whether the level is reached already.
    pub(crate) fn reached(&self) -> Option<Cause> {
        let wait = self.stand.as_ref()?.line();
        wait.handle().has_reached(wait.level()).then(|| wait.handle().known_cause())
    }

    /// Polls, outside the cooperative budget.
    pub(crate) fn poll_reached(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Cause> {
        let Some(mut stand) = self.project().stand.as_pin_mut() else { return Poll::Pending };
        let (handle, level) = (stand.line().handle(), stand.line().level());
        if handle.has_reached(level) {
            return Poll::Ready(handle.known_cause());
        }
        if !stand.as_ref().is_waiting() {
            // Before queueing: if the timer is due or lost at once, the flag is set by the time it
            // is looked at under the node's lock.
            handle.arm_timers();
        }
        ready!(stand.as_mut().poll_enter(cx, |node| match node.is_over(level) {
            true => Entry::Ready(()),
            false => Entry::Wait(()),
        }));
        Poll::Ready(stand.line().handle().known_cause())
    }
}

/// Completes with the cause when a context is cancelled; from
/// [`Context::cancelled`](crate::Context::cancelled), which borrows the context, and
/// [`cancelled_owned`](crate::Context::cancelled_owned).
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Cancelled<'a> {
    /// The wait.
    #[pin]
    watch: Watch<'a>,
}

/// Completes with the cause when a context is to finish; from
/// [`Context::stopping`](crate::Context::stopping), which borrows the context, and
/// [`stopping_owned`](crate::Context::stopping_owned).
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Stopping<'a> {
    /// The wait.
    #[pin]
    watch: Watch<'a>,
}

impl<'a> Cancelled<'a> {
    /// Waits for the end of a handle that is borrowed.
    #[track_caller]
    pub(crate) fn of(handle: Option<&'a Handle>) -> Self {
        Self { watch: Watch::new(handle.map(|handle| Wait::borrowed(handle, Level::Cancelled))) }
    }

    /// Waits for the end of `handle`.
    #[track_caller]
    pub(crate) fn of_own(handle: Option<Handle>) -> Self {
        Self { watch: Watch::new(handle.map(|handle| Wait::owned(handle, Level::Cancelled))) }
    }
}

impl<'a> Stopping<'a> {
    /// Waits for the end of a handle that is borrowed.
    #[track_caller]
    pub(crate) fn of(handle: Option<&'a Handle>) -> Self {
        Self { watch: Watch::new(handle.map(|handle| Wait::borrowed(handle, Level::Stopping))) }
    }

    /// Waits for the end of `handle`.
    #[track_caller]
    pub(crate) fn of_own(handle: Option<Handle>) -> Self {
        Self { watch: Watch::new(handle.map(|handle| Wait::owned(handle, Level::Stopping))) }
    }
}

impl Future for Cancelled<'_> {
    type Output = Cause;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Cause> {
        let cause = ready!(self.project().watch.poll_reached(cx));
        // Afterwards, because what is reached stays so: who has to wait has nothing to spend.
        ready!(coop::poll_proceed(cx)).made_progress();
        Poll::Ready(cause)
    }
}

impl Future for Stopping<'_> {
    type Output = Cause;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Cause> {
        let cause = ready!(self.project().watch.poll_reached(cx));
        // Afterwards, because what is reached stays so: who has to wait has nothing to spend.
        ready!(coop::poll_proceed(cx)).made_progress();
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
    watch: Watch<'static>,
    /// What is run.
    #[pin]
    future: F,
}

impl<F> Run<F> {
    /// Runs `future` under `handle`.
    #[track_caller]
    pub(crate) fn new(handle: Option<Handle>, future: F) -> Self {
        Self {
            watch: Watch::new(handle.map(|handle| Wait::owned(handle, Level::Cancelled))),
            future,
        }
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

impl fmt::Debug for Cancelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled").finish_non_exhaustive()
    }
}

impl fmt::Debug for Stopping<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Run<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}
