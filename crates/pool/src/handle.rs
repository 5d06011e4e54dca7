//! The handle of a job, and what it may bring instead of a result.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use selvedge_cancel::Cause;
use selvedge_primitives::{Panic, coop};

use crate::engine::{Cell, Place};

/// Completes with the result of a job; from [`Submit`](crate::Submit) or
/// [`Slot::submit`](crate::Slot::submit).
///
/// It completes once, when the job has returned, panicked, or was cancelled. Every accepted job does
/// one of these. A closure is cancelled only before it starts: its handle waits for as long as it
/// runs, also past an abort. A future is cancelled at any await.
///
/// # Cancel safety
///
/// Waiting through `&mut handle` is safe: a result that was not taken stays. Dropping the handle
/// *detaches* the job: it runs all the same, is counted all the same, and its result or its panic's
/// payload is dropped, on the worker unless it was there already. A panic of that drop is caught.
///
/// # Memory ordering
///
/// What the job did is visible to whoever has its result; the ledger has counted it by then.
///
/// # Errors
///
/// [`JobError::Panicked`] with the payload; [`JobError::Cancelled`] with the cause of the abort, if
/// the job was not started or its future was dropped.
///
/// # Panics
///
/// When it is polled again after it completed.
#[must_use = "dropping the handle detaches the job; its result and its panic go unseen"]
pub struct JobHandle<R> {
    /// Where the result will be.
    cell: Arc<Cell<R>>,
    /// Where the job was submitted.
    place: Place,
}

impl<R> JobHandle<R> {
    /// The handle of the job that fills `cell`.
    pub(crate) fn new(cell: Arc<Cell<R>>, place: Place) -> Self {
        Self { cell, place }
    }

    /// Whether the job has ended, one way or another.
    pub fn is_finished(&self) -> bool {
        self.cell.is_complete()
    }

    /// Where the job was submitted.
    pub fn place(&self) -> &'static Location<'static> {
        self.place
    }
}

impl<R> Future for JobHandle<R> {
    type Output = Result<R, JobError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let proceed = ready!(coop::poll_proceed(cx));
        let result = ready!(self.cell.poll(cx));
        proceed.made_progress();
        Poll::Ready(result.expect("`JobHandle` polled after it completed"))
    }
}

impl<R> Drop for JobHandle<R> {
    fn drop(&mut self) {
        self.cell.detach();
    }
}

impl<R> fmt::Debug for JobHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle")
            .field("submitted", &format_args!("{}", self.place))
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// A job brought no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// It panicked. The worker goes on; nothing is poisoned.
    #[error("job not finished: it panicked: {0}")]
    Panicked(
        /// With what.
        Panic,
    ),
    /// The pool was aborted first. The closure was not started, or the future was dropped at an
    /// await; nothing of it is left.
    #[error("job not finished: the pool was aborted")]
    Cancelled(
        /// Who ended the pool's context.
        #[source]
        Cause,
    ),
}
