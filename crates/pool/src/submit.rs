//! Submitting: with a job in hand, or a slot first and the job later.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_cancel::Context;
use selvedge_primitives::{Left, contain, coop, wake};

use crate::engine::{Admission, Call, Cell, Core, Drive, Engine, Grant, Place, Task, Unstarted};
use crate::{JobHandle, ReserveError, SubmitError, Tasks, Threads};

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
    job: Option<Box<dyn Unstarted<F>>>,
    /// Where its result will be.
    cell: Arc<Cell<R>>,
    /// Where it was submitted.
    place: Place,
}

impl<'a, F, R> Submit<'a, F, R> {
    /// A job on its way.
    pub(crate) fn new(
        engine: &'a Engine,
        job: Box<dyn Unstarted<F>>,
        cell: Arc<Cell<R>>,
        place: Place,
    ) -> Self {
        Self { engine, line: engine.line(), job: Some(job), cell, place }
    }
}

impl<F, R> Future for Submit<'_, F, R> {
    type Output = Result<JobHandle<R>, SubmitError<F>>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (engine, job) = (*this.engine, this.job);
        assert!(job.is_some(), "`Submit` polled after it completed");
        let proceed = ready!(coop::poll_proceed(cx));
        let enqueue = || job.take().map(|job| job as Box<dyn Task>);
        let grant = ready!(engine.poll_admission(this.line, cx, enqueue));
        proceed.made_progress();
        match grant {
            Grant::Queued(worker) => {
                if let Some(worker) = worker {
                    contain(|| wake(worker));
                }
            }
            Grant::Slot => {
                let take = || job.take().expect("kept while it waits") as Box<dyn Task>;
                let _accepted = engine.enqueue_reserved(take, Core::refuse);
            }
            Grant::Refused => {}
        }
        Poll::Ready(match job.take() {
            None => Ok(JobHandle::new(Arc::clone(this.cell), this.place)),
            Some(job) => Err(SubmitError::new(job.into_closure(), engine)),
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
pub struct Reserve<'a, W = Threads> {
    /// The pool.
    engine: &'a Arc<Engine>,
    /// The place in the line.
    #[pin]
    line: Admission<'a>,
    /// Whether it has completed.
    done: bool,
    /// What a job is.
    workers: PhantomData<fn() -> W>,
}

impl<'a, W> Reserve<'a, W> {
    /// Asks for a slot.
    pub(crate) fn new(engine: &'a Arc<Engine>) -> Self {
        Self { engine, line: engine.line(), done: false, workers: PhantomData }
    }
}

impl<W> Future for Reserve<'_, W> {
    type Output = Result<Slot<W>, ReserveError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        assert!(!*this.done, "`Reserve` polled after it completed");
        let proceed = ready!(coop::poll_proceed(cx));
        let grant = ready!(this.engine.poll_admission(this.line, cx, || None));
        proceed.made_progress();
        *this.done = true;
        Poll::Ready(match grant {
            Grant::Slot => Ok(Slot::new(Arc::clone(this.engine))),
            Grant::Refused => Err(ReserveError::new(this.engine)),
            Grant::Queued(_) => unreachable!("no job was given to queue"),
        })
    }
}

#[pinned_drop]
impl<W> PinnedDrop for Reserve<'_, W> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        pass_on(this.engine, this.line);
    }
}

impl<W> fmt::Debug for Reserve<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").finish_non_exhaustive()
    }
}

/// Leaves the line; a slot that was granted in the meantime goes to the next.
pub(crate) fn pass_on(engine: &Engine, line: Pin<&mut Admission<'_>>) {
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
pub struct Slot<W = Threads> {
    /// The pool; none once the slot was used.
    engine: Option<Arc<Engine>>,
    /// What a job is.
    workers: PhantomData<fn() -> W>,
}

impl<W> Slot<W> {
    /// A slot that was reserved.
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine: Some(engine), workers: PhantomData }
    }

    /// Puts a job into the queue.
    pub(crate) fn enqueue(mut self, job: Box<dyn Task>) {
        self.engine.take().expect("a slot is used once").submit_reserved(job);
    }
}

impl Slot<Threads> {
    /// Puts a job into the queue. Does not wait, and loses nothing: the job is accepted.
    ///
    /// While the pool is only stopping, the job is run like any other. After an abort it is dropped
    /// here, and the handle completes with [`JobError::Cancelled`](crate::JobError::Cancelled).
    ///
    /// # Memory ordering
    ///
    /// What was done before this call is visible to the job.
    #[track_caller]
    pub fn submit<F, R>(self, job: F) -> JobHandle<R>
    where
        F: FnOnce(&Context) -> R + Send + 'static,
        R: Send + 'static,
    {
        let (cell, place) = (Cell::new(), Location::caller());
        self.enqueue(Call::new(job, Arc::clone(&cell), place));
        JobHandle::new(cell, place)
    }
}

impl Slot<Tasks> {
    /// Puts a job into the queue. Does not wait, and loses nothing: the job is accepted. As
    /// [the one for threads](Slot::<Threads>::submit), which documents it.
    #[track_caller]
    pub fn submit<F, T>(self, job: F) -> JobHandle<T::Output>
    where
        F: FnOnce(Context) -> T + Send + 'static,
        T: Future<Output: Send> + Send + 'static,
    {
        let (cell, place) = (Cell::new(), Location::caller());
        self.enqueue(Drive::new(job, Arc::clone(&cell), place));
        JobHandle::new(cell, place)
    }
}

impl<W> Drop for Slot<W> {
    fn drop(&mut self) {
        if let Some(engine) = &self.engine {
            engine.release_slot();
        }
    }
}

impl<W> fmt::Debug for Slot<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}
