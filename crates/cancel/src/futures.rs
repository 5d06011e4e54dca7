//! Waiting for a context: `cancelled`, `stopping` and `run`.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::observe::Place;
use selvedge_primitives::{Anchor, Entry, Waiter, coop};

use crate::Cause;
use crate::tree::{Handle, Level};

/// Waits for one of the two levels; what the public futures are made of.
#[pin_project]
struct Watch {
    /// The node; none for the background.
    handle: Option<Arc<Handle>>,
    /// The place in the node's queue, once there is something to wait for.
    #[pin]
    waiter: Option<Waiter<'static, (), (), ()>>,
    /// What it waits for.
    level: Level,
    /// Where it was asked to.
    place: Place,
}

impl Watch {
    /// Waits for `level` on `handle`.
    #[track_caller]
    fn new(handle: Option<Arc<Handle>>, level: Level) -> Self {
        Self { handle, waiter: None, level, place: Place::here() }
    }

    /// Whether the level is reached already.
    fn reached(&self) -> Option<Cause> {
        let cell = self.handle.as_ref()?.cell();
        cell.has_reached(self.level).then(|| cell.known_cause())
    }

    /// Polls, outside the cooperative budget.
    fn poll_reached(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Cause> {
        let mut this = self.project();
        let level = *this.level;
        let Some(handle) = this.handle else { return Poll::Pending };
        let cell = handle.cell();
        if cell.has_reached(level) {
            return Poll::Ready(cell.known_cause());
        }
        if this.waiter.is_none() {
            // Before queueing: if the timer is due or lost at once, the flag is set by the time it
            // is looked at under the queue's lock.
            handle.arm_timers();
            let anchor = Anchor::shared(Arc::clone(handle), |handle| handle.cell().queue(level));
            this.waiter.set(Some(Waiter::placed(anchor, *this.place)));
        }
        let waiter = this.waiter.as_mut().as_pin_mut().expect("made above");
        ready!(waiter.poll_enter(cx, |_| match cell.is_flagged(level) {
            true => Entry::Ready(()),
            false => Entry::Wait(()),
        }));
        Poll::Ready(cell.known_cause())
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
    pub(crate) fn new(handle: Option<Arc<Handle>>) -> Self {
        Self { watch: Watch::new(handle, Level::Cancelled) }
    }
}

impl Stopping {
    /// Waits for `handle`.
    #[track_caller]
    pub(crate) fn new(handle: Option<Arc<Handle>>) -> Self {
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
    pub(crate) fn new(handle: Option<Arc<Handle>>, future: F) -> Self {
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
