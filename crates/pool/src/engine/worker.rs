//! A worker: one future for its whole life, on a thread or in a task.
//!
//! It looks for a job, polls it until it has ended, and looks for the next; it leaves when the pool
//! is over. A thread of the pool drives it with `block_on`, an executor as a task: the worker does
//! not know which, and its jobs are what makes the difference.
//!
//! # Dropped by its executor
//!
//! A worker that is dropped before it has left is lost: its runtime was shut down. It aborts the
//! pool, because nobody may be left to run what is queued: with a cause that carries
//! [`WorkersLost`], so every wait ends and every job that has not ended is cancelled. Then it drops
//! its own job, and leaves like any other. The first of several that are lost gives the cause, unless the pool was stopping already. A
//! worker that is dropped before its first poll does the same: what matters lies in the struct.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_cancel::Cancelled;
use selvedge_primitives::{contain, coop};

use super::{Engine, Lookout, Task};

/// One worker of a [`Pool<Tasks>`](crate::Pool), to be run as a task; from
/// [`PoolBuilder::build_on`](crate::PoolBuilder::build_on).
///
/// It completes when the pool has nothing more to run. After each job it asks tokio's cooperative
/// budget, so many short jobs in a row do not keep the other tasks of its thread waiting. On another
/// executor there is no such budget: it runs jobs for as long as there are any that are ready.
///
/// # Cancel safety
///
/// Dropping it before it completed, as a runtime does that is shut down, aborts the pool: its job,
/// and all that are queued or run elsewhere, end with
/// [`JobError::Cancelled`](crate::JobError::Cancelled), whose cause carries [`WorkersLost`], or is
/// the earlier one if the pool was stopping already. Nothing waits for ever, and the ledger adds up.
///
/// # Panics
///
/// When it is polled again after it completed.
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled, and a worker that is dropped aborts its pool"]
pub struct Worker {
    /// The pool; none once it has left.
    engine: Option<Arc<Engine>>,
    /// Its number.
    number: usize,
    /// The job that it is at.
    job: Option<Pin<Box<dyn Task>>>,
    /// Wakes it when the pool is aborted; there once a job was pending.
    #[pin]
    cancelled: Option<Cancelled<'static>>,
    /// Watches the pool's context on behalf of all; the first worker has it.
    lookout: Option<Lookout>,
}

impl Worker {
    /// Worker `number` of a pool.
    pub(super) fn new(engine: Arc<Engine>, number: usize, lookout: Option<Lookout>) -> Self {
        Self { engine: Some(engine), number, job: None, cancelled: None, lookout }
    }
}

impl Future for Worker {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut own = None;
        let polled = self.work(cx, &mut own);
        contain(|| drop(own));
        polled
    }
}

impl Worker {
    /// Polls. `own` is for a clone of the task's waker, made ahead of the next park: a clone is the
    /// executor's code, and parking holds the lock. It is not kept from poll to poll: a task that
    /// held its own waker while its job is pending would not be dropped with its executor, where
    /// tasks are only counted, and the pool would wait for it for ever.
    fn work(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, own: &mut Option<Waker>) -> Poll<()> {
        let mut this = self.project();
        let number = *this.number;
        let engine = this.engine.as_ref().expect("`Worker` polled after it completed");
        loop {
            let Some(job) = this.job else {
                let proceed = ready!(coop::poll_proceed(cx));
                let Some(job) = ready!(engine.poll_work(number, cx, own)) else { break };
                proceed.made_progress();
                *this.job = Some(Box::into_pin(job));
                continue;
            };
            let ended = &mut |fate| engine.end(number, fate);
            if job.as_mut().poll(engine.context(), cx, ended).is_ready() {
                *this.job = None;
                continue;
            }
            if this.cancelled.is_none() {
                this.cancelled.set(Some(engine.context().cancelled_owned()));
            }
            // Once it is ready, the job looks at its context and ends.
            let cancelled = this.cancelled.as_mut().as_pin_mut().expect("set above");
            let _ = ready!(cancelled.poll(cx));
        }
        this.cancelled.set(None);
        *this.lookout = None;
        contain(|| *own = None);
        let engine = this.engine.take().expect("it is there until now");
        engine.leave();
        Poll::Ready(())
    }
}

#[pinned_drop]
impl PinnedDrop for Worker {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let Some(engine) = this.engine.take() {
            engine.lose(*this.number, this.job.take());
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("number", &self.number)
            .field("left", &self.engine.is_none())
            .finish_non_exhaustive()
    }
}

/// The tasks that were a pool's workers are gone: their runtime was shut down, or was never driven
/// and dropped.
///
/// It is the [`error`](selvedge_cancel::Cause::error) of the cause with which such a pool ends, unless
/// it was stopping before: the first cause holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pool not kept running: its workers were dropped with their runtime")]
#[non_exhaustive]
pub struct WorkersLost;
