//! Submitting: with a job in hand, or a slot first and the job later.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_cancel::{Cause, Context};
use selvedge_primitives::{Left, coop, wake};

use crate::JobHandle;
use crate::engine::{Admission, Cell, Core, Engine, Grant, Job, Place, Task};

/// Puts a job into the queue; from [`Pool::submit`](crate::Pool::submit), which documents it.
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct Submit<'a, F, R> {
    /// The pool.
    engine: &'a Engine,
    /// The place in the line.
    #[pin]
    line: Admission<'a>,
    /// The job; none once it was accepted or returned.
    job: Option<Box<Job<F, R>>>,
    /// Where its result will be.
    cell: Arc<Cell<R>>,
    /// Where it was submitted.
    place: Place,
}

impl<'a, F, R> Submit<'a, F, R> {
    /// A job on its way.
    pub(crate) fn new(engine: &'a Engine, closure: F, place: Place) -> Self {
        let (job, cell) = Job::new(closure, place);
        Self { engine, line: engine.line(), job: Some(job), cell, place }
    }
}

impl<F, R> Future for Submit<'_, F, R>
where
    F: FnOnce(&Context) -> R + Send + 'static,
    R: Send + 'static,
{
    type Output = Result<JobHandle<R>, SubmitError<F>>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (engine, job) = (*this.engine, this.job);
        assert!(job.is_some(), "`Submit` polled after it completed");
        let proceed = ready!(coop::poll_proceed(cx));
        let enqueue = || job.take().map(|job| job as Box<dyn Task>);
        let grant = ready!(engine.poll_admission(this.line, cx, enqueue));
        proceed.made_progress();
        let returned = match grant {
            Grant::Queued(worker) => {
                if let Some(worker) = worker {
                    wake(worker);
                }
                None
            }
            Grant::Slot => {
                let job = job.take().expect("kept while it waits");
                engine.enqueue_reserved(job, Core::refuse).err()
            }
            Grant::Refused => job.take(),
        };
        Poll::Ready(match returned {
            None => Ok(JobHandle::new(Arc::clone(this.cell), this.place)),
            Some(job) => Err(SubmitError { job: job.into_closure(), cause: engine.cause() }),
        })
    }
}

#[pinned_drop]
impl<F, R> PinnedDrop for Submit<'_, F, R> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        pass_on(this.engine, this.line);
    }
}

impl<F, R> fmt::Debug for Submit<'_, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submit").field("place", &format_args!("{}", self.place)).finish()
    }
}

/// Reserves a slot in the queue; from [`Pool::reserve`](crate::Pool::reserve), which documents it.
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct Reserve<'a> {
    /// The pool.
    engine: &'a Arc<Engine>,
    /// The place in the line.
    #[pin]
    line: Admission<'a>,
    /// Whether it has completed.
    done: bool,
}

impl<'a> Reserve<'a> {
    /// Asks for a slot.
    pub(crate) fn new(engine: &'a Arc<Engine>) -> Self {
        Self { engine, line: engine.line(), done: false }
    }
}

impl Future for Reserve<'_> {
    type Output = Result<Slot, ReserveError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        assert!(!*this.done, "`Reserve` polled after it completed");
        let proceed = ready!(coop::poll_proceed(cx));
        let grant = ready!(this.engine.poll_admission(this.line, cx, || None));
        proceed.made_progress();
        *this.done = true;
        Poll::Ready(match grant {
            Grant::Slot => Ok(Slot { engine: Some(Arc::clone(this.engine)) }),
            Grant::Refused => Err(ReserveError { cause: this.engine.cause() }),
            Grant::Queued(_) => unreachable!("no job was given to queue"),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Reserve<'_> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        pass_on(this.engine, this.line);
    }
}

impl fmt::Debug for Reserve<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").finish_non_exhaustive()
    }
}

/// Leaves the line; a slot that was granted in the meantime goes to the next.
fn pass_on(engine: &Engine, line: Pin<&mut Admission<'_>>) {
    if let Left::Granted(Grant::Slot) = line.cancel() {
        engine.release_slot();
    }
}

/// Room in the queue for one job; from [`Pool::reserve`](crate::Pool::reserve).
///
/// It is owned, and may outlive the pool's handle. While it exists it counts as one of the queue's
/// places, and a pool that is stopping waits for it: use it or drop it. Dropping it gives the place
/// to the next who waits.
#[must_use = "a slot that is not used keeps its place in the queue until it is dropped"]
pub struct Slot {
    /// The pool; none once the slot was used.
    engine: Option<Arc<Engine>>,
}

impl Slot {
    /// Puts a job into the queue. Does not wait, and loses nothing: the job is accepted.
    ///
    /// While the pool is only stopping, the job is run like any other. After an abort it is dropped
    /// here, and the handle completes with [`JobError::Cancelled`](crate::JobError::Cancelled).
    ///
    /// # Memory ordering
    ///
    /// What was done before this call is visible to the job.
    #[track_caller]
    pub fn submit<F, R>(mut self, job: F) -> JobHandle<R>
    where
        F: FnOnce(&Context) -> R + Send + 'static,
        R: Send + 'static,
    {
        let place = Location::caller();
        let (job, cell) = Job::new(job, place);
        let engine = self.engine.take().expect("a slot is used once");
        if let Err(job) = engine.enqueue_reserved(job, Core::accept_cancelled) {
            job.cancel(engine.cause());
        }
        JobHandle::new(cell, place)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(engine) = &self.engine {
            engine.release_slot();
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

/// A job was not accepted: the pool is stopping, or has ended. Gives the job back.
pub struct SubmitError<F> {
    /// The job.
    job: F,
    /// Who ended the pool's context.
    cause: Cause,
}

impl<F> SubmitError<F> {
    /// Who ended the pool's context, and how.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The job, untouched.
    pub fn into_job(self) -> F {
        self.job
    }
}

impl<F> fmt::Debug for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitError").field("cause", &self.cause).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("job not accepted: the pool admits no more jobs")
    }
}

impl<F> Error for SubmitError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// A slot was not reserved: the pool is stopping, or has ended.
///
/// A [`SubmitError`] turns into one, without its job, where an error must be `Sync` or `'static`
/// and the job is neither.
#[derive(Debug, Clone)]
pub struct ReserveError {
    /// Who ended the pool's context.
    cause: Cause,
}

impl ReserveError {
    /// Who ended the pool's context, and how.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("slot not reserved: the pool admits no more jobs")
    }
}

impl Error for ReserveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

impl<F> From<SubmitError<F>> for ReserveError {
    fn from(error: SubmitError<F>) -> Self {
        Self { cause: error.cause }
    }
}
