//! The pool: the face of both kinds.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use selvedge_cancel::{Canceller, Cause, CauseKind, Component, Context, Straggler, Wait};

use crate::engine::{Call, Cell, Drive, Engine};
use crate::{
    Drain, Ended, JobHandle, Ledger, PoolBuilder, Reserve, Results, ResultsError, Submit,
    Submitter, Tasks, Threads, TrySubmitError, Watcher,
};

/// Workers over a bounded queue: threads that run closures, or tasks that run futures.
///
/// See the [crate's page](crate) for how it is used and how it ends. `W` says what the workers are,
/// [`Threads`] or [`Tasks`], and with that what a job is; all else is the same. Dropping a pool
/// aborts it and does not block: queued jobs are cancelled, and so are running futures at their next
/// await; running closures see it on their context and run out. A [`Watcher`] tells when.
pub struct Pool<W = Threads> {
    /// The engine; the workers share it.
    engine: Arc<Engine>,
    /// Ends the pool's context; dropped with the pool, it cancels.
    canceller: Canceller,
    /// What a job is.
    workers: PhantomData<fn() -> W>,
}

impl Pool {
    /// A pool with as many workers as the machine runs at once, and a queue of twice that.
    #[track_caller]
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// Puts `job` into the queue, waiting for room.
    ///
    /// Completes with the job's handle as soon as the job is in the queue: at once when there is
    /// room and nobody waits. Ends with an error, and the job, when the pool's context is stopping
    /// or cancelled, also while waiting. A worker calls the job with the pool's context, which tells
    /// it whether to go on; what the job returns or panics with goes to the handle.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it completes drops the job, and gives up the place in the line; a
    /// slot that was granted in that moment goes to the next. To keep the job,
    /// [`reserve`](Self::reserve) first.
    ///
    /// # Fairness
    ///
    /// Those who wait are given room in the order in which they were first polled; nobody overtakes
    /// them. Jobs start in the order in which they entered the queue. A submitter that was given
    /// room enters the queue when it is polled next; until then it holds one place of it.
    ///
    /// # Memory ordering
    ///
    /// What was done before the future was polled is visible to the job.
    ///
    /// # Errors
    ///
    /// [`SubmitError`](crate::SubmitError) with the job and the cause, when the pool is stopping,
    /// was aborted, or has ended.
    ///
    /// # Panics
    ///
    /// When it is polled again after it completed.
    ///
    /// # Examples
    ///
    /// A sum on a worker:
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # use selvedge_pool::Pool;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let pool = Pool::builder().workers(1).build(&Context::background()).unwrap();
    /// let handle = pool.submit(|_| (1..=10).sum::<u32>()).await.unwrap();
    /// assert_eq!(handle.await.unwrap(), 55);
    /// # });
    /// ```
    ///
    /// The wrong program: a job that waits for room in the queue of its own pool. With every worker
    /// in such a job and the queue full, nobody makes room.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use selvedge_cancel::Context;
    /// # use selvedge_pool::Pool;
    /// # async fn wrong() {
    /// let pool = Pool::builder().workers(1).queue(1).build(&Context::background()).unwrap();
    /// let pool = Arc::new(pool);
    /// let inner = Arc::clone(&pool);
    /// let runtime = tokio::runtime::Handle::current();
    /// let outer = pool.submit(move |_| {
    ///     let first = runtime.block_on(inner.submit(|_| ())); // fills the queue
    ///     let second = runtime.block_on(inner.submit(|_| ())); // for ever: we are the only worker
    ///     (first.is_ok(), second.is_ok())
    /// });
    /// # let _ = outer.await;
    /// # }
    /// ```
    ///
    /// The same goes for a job that blocks on the handle of a job behind it. Submit such jobs to
    /// another pool, or return what is left to do and let the caller submit it.
    ///
    /// # Algorithm
    ///
    /// Two allocations a job. With room, one critical section and at most one wake-up; with none, a
    /// second critical section once room was granted. Waiting allocates nothing.
    #[track_caller]
    pub fn submit<F, R>(&self, job: F) -> Submit<'_, F, R>
    where
        F: FnOnce(&Context) -> R + Send + 'static,
        R: Send + 'static,
    {
        let (cell, place) = (Cell::new(), Location::caller());
        Submit::new(&self.engine, Call::new(job, Arc::clone(&cell), place), cell, place)
    }

    /// Puts `job` into the queue if there is room, and never waits.
    ///
    /// # Fairness
    ///
    /// It overtakes nobody: while others wait for room, the queue is full, whatever room there is.
    ///
    /// # Memory ordering
    ///
    /// What was done before this call is visible to the job.
    ///
    /// # Errors
    ///
    /// [`TrySubmitError`] with the job: the queue is full, or the pool is stopping or was aborted.
    /// Each is counted as [`refused`](Ledger::refused).
    ///
    /// # Examples
    ///
    /// Shedding load:
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # use selvedge_pool::{Pool, TrySubmitError};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let pool = Pool::builder().workers(1).queue(1).build(&Context::background()).unwrap();
    /// let slot = pool.reserve().await.unwrap(); // the only place
    /// let error = pool.try_submit(|_| 7).unwrap_err();
    /// assert!(matches!(error, TrySubmitError::Full(_)));
    /// let job = error.into_job();
    /// drop(slot);
    /// assert_eq!(pool.try_submit(job).unwrap().await.unwrap(), 7);
    /// # });
    /// ```
    #[track_caller]
    pub fn try_submit<F, R>(&self, job: F) -> Result<JobHandle<R>, TrySubmitError<F>>
    where
        F: FnOnce(&Context) -> R + Send + 'static,
        R: Send + 'static,
    {
        let (cell, place) = (Cell::new(), Location::caller());
        let job = Call::new(job, Arc::clone(&cell), place);
        TrySubmitError::submit(&self.engine, job)?;
        Ok(JobHandle::new(cell, place))
    }
}

impl Pool<Tasks> {
    /// Puts `job` into the queue, waiting for room: a closure that makes a future, called by a
    /// worker with the pool's context.
    ///
    /// Completes with the job's handle as soon as the job is in the queue: at once when there is
    /// room and nobody waits. Ends with an error, and the job, when the pool's context is stopping
    /// or cancelled, also while waiting. The worker drives the future to its end before it takes the
    /// next job; an abort drops the future at its next await, and its handle completes with
    /// [`JobError::Cancelled`](crate::JobError::Cancelled). A future that blocks its thread blocks
    /// the runtime: that is work for [`Threads`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it completes drops the job, and gives up the place in the line; a
    /// slot that was granted in that moment goes to the next. To keep the job,
    /// [`reserve`](Self::reserve) first.
    ///
    /// # Fairness
    ///
    /// Those who wait are given room in the order in which they were first polled; nobody overtakes
    /// them. Jobs start in the order in which they entered the queue.
    ///
    /// # Memory ordering
    ///
    /// What was done before the future was polled is visible to the job.
    ///
    /// # Errors
    ///
    /// [`SubmitError`](crate::SubmitError) with the job and the cause, when the pool is stopping,
    /// was aborted, or has ended, also because its runtime was shut down.
    ///
    /// # Panics
    ///
    /// When it is polled again after it completed.
    ///
    /// # Examples
    ///
    /// Four jobs at a time, however many there are:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use selvedge_cancel::Context;
    /// # use selvedge_pool::Pool;
    /// # let mut runtime = tokio::runtime::Builder::new_current_thread();
    /// # runtime.enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let began = tokio::time::Instant::now();
    /// let pool = Pool::builder().workers(4).build_async(&Context::background()).unwrap();
    /// for _ in 0..8 {
    ///     let job = pool.submit(|_| tokio::time::sleep(Duration::from_secs(1)));
    ///     drop(job.await.unwrap()); // detached
    /// }
    /// assert_eq!(pool.drain().await.finished, 8);
    /// assert_eq!(began.elapsed().as_secs(), 2);
    /// # });
    /// ```
    ///
    /// What a blocking closure would do to the runtime cannot be written:
    ///
    /// ```compile_fail,E0277
    /// # use selvedge_cancel::Context;
    /// # use selvedge_pool::Pool;
    /// # async fn wrong() {
    /// let pool = Pool::builder().build_async(&Context::background()).unwrap();
    /// let sum = pool.submit(|_| (1..=10).sum::<u32>()).await; // `u32` is not a future
    /// # }
    /// ```
    ///
    /// The wrong program: a job that waits for room in the queue of its own pool, or for the handle
    /// of a job behind it. With every worker in such a job nobody is left for what it waits for; it
    /// waits until the pool is aborted.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use selvedge_cancel::Context;
    /// # use selvedge_pool::Pool;
    /// # async fn wrong() {
    /// let pool = Pool::builder().workers(1).build_async(&Context::background()).unwrap();
    /// let pool = Arc::new(pool);
    /// let inner = Arc::clone(&pool);
    /// let outer = pool.submit(|_| async move {
    ///     let behind = inner.submit(|_| async { 5 }).await.unwrap();
    ///     behind.await // for ever: we are the only worker
    /// });
    /// # let _ = outer.await;
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// Two allocations a job: the future is made in the closure's place. With room, one critical
    /// section and at most one wake-up; with none, a second critical section once room was granted.
    /// Waiting allocates nothing.
    #[track_caller]
    pub fn submit<F, T>(&self, job: F) -> Submit<'_, F, T::Output>
    where
        F: FnOnce(Context) -> T + Send + 'static,
        T: Future<Output: Send> + Send + 'static,
    {
        let (cell, place) = (Cell::new(), Location::caller());
        Submit::new(&self.engine, Drive::new(job, Arc::clone(&cell), place), cell, place)
    }

    /// Puts `job` into the queue if there is room, and never waits. As
    /// [the one for threads](Pool::<Threads>::try_submit), which documents it.
    ///
    /// # Errors
    ///
    /// [`TrySubmitError`] with the job.
    #[track_caller]
    pub fn try_submit<F, T>(&self, job: F) -> Result<JobHandle<T::Output>, TrySubmitError<F>>
    where
        F: FnOnce(Context) -> T + Send + 'static,
        T: Future<Output: Send> + Send + 'static,
    {
        let (cell, place) = (Cell::new(), Location::caller());
        let job = Drive::new(job, Arc::clone(&cell), place);
        TrySubmitError::submit(&self.engine, job)?;
        Ok(JobHandle::new(cell, place))
    }
}

impl<W> Pool<W> {
    /// The pool of `engine`, ended by `canceller`.
    pub(crate) fn new(engine: Arc<Engine>, canceller: Canceller) -> Self {
        Self { engine, canceller, workers: PhantomData }
    }

    /// Reserves a slot in the queue, waiting for room: then [`Slot::submit`](crate::Slot::submit)
    /// does not wait and cannot be refused.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future gives up the place in the line, and a slot that was granted in that
    /// moment goes to the next.
    ///
    /// # Fairness
    ///
    /// One line with [`submit`](Self::submit).
    ///
    /// # Errors
    ///
    /// [`ReserveError`](crate::ReserveError) with the cause, when the pool is stopping, was aborted,
    /// or has ended.
    ///
    /// # Panics
    ///
    /// When it is polled again after it completed.
    ///
    /// # Examples
    ///
    /// The item is taken when there is room for it, not before:
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # use selvedge_pool::Pool;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let pool = Pool::builder().workers(1).build(&Context::background()).unwrap();
    /// let mut items = vec![1, 2, 3];
    /// let slot = pool.reserve().await.unwrap();
    /// let item = items.pop().unwrap();
    /// assert_eq!(slot.submit(move |_| item * 10).await.unwrap(), 30);
    /// # });
    /// ```
    #[track_caller]
    pub fn reserve(&self) -> Reserve<'_, W> {
        Reserve::new(&self.engine)
    }

    /// A stream of results, and what submits the jobs whose results it brings.
    ///
    /// Results come in the order in which the jobs end. `capacity` bounds what is on its way: slots
    /// that are reserved, jobs that are queued or running, and results that the stream has not been
    /// asked for, all together. A place among them is taken before a job is accepted, so a job that
    /// ends never waits for the stream, and a stream that nobody polls stops the submitter and no
    /// worker. `usize::MAX` spells "unbounded".
    ///
    /// # Errors
    ///
    /// [`ResultsError`] when `capacity` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # use selvedge_pool::Pool;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let pool = Pool::builder().workers(2).build(&Context::background()).unwrap();
    /// let (submitter, mut results) = pool.results(4).unwrap();
    /// let produce = tokio::spawn(async move {
    ///     for n in 0..100_u64 {
    ///         submitter.reserve().await.unwrap().submit(move |_| n * n);
    ///     }
    /// }); // the submitter is dropped: the stream ends after the last result
    /// let mut sum = 0;
    /// while let Some(completed) = results.next().await {
    ///     assert_eq!(completed.result.unwrap(), completed.index * completed.index);
    ///     sum += completed.index;
    /// }
    /// assert_eq!(sum, 4950);
    /// # produce.await.unwrap();
    /// # });
    /// ```
    pub fn results<R>(
        &self,
        capacity: usize,
    ) -> Result<(Submitter<R, W>, Results<R>), ResultsError> {
        Submitter::new(&self.engine, capacity)
    }

    /// Stops the pool and waits for its end: admits nothing new, runs all that was accepted, sees
    /// every worker off, and returns the final [`Ledger`].
    ///
    /// The first poll stops the pool. Completes when the last worker has left; an abort while it
    /// waits makes that sooner. A [`Slot`](crate::Slot) that is held elsewhere keeps it waiting, and so
    /// does a `submit` or a `reserve` that was given room and is neither polled nor dropped. A job
    /// that waits for the end of its own pool waits for itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing; the pool stays stopped and drains on. Drain again, or
    /// [`wait`](Self::wait), to see the end.
    ///
    /// # Memory ordering
    ///
    /// What every job did is visible afterwards.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # use selvedge_pool::Pool;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let pool = Pool::builder().workers(2).build(&Context::background()).unwrap();
    /// drop(pool.submit(|_| ()).await.unwrap()); // detached
    /// let ledger = pool.drain().await;
    /// assert_eq!((ledger.accepted, ledger.finished), (1, 1));
    /// assert!(pool.submit(|_| ()).await.is_err());
    /// # });
    /// ```
    #[track_caller]
    pub fn drain(&self) -> Drain<'_> {
        Drain::new(&self.canceller, &self.engine)
    }

    /// Asks for a drain and returns: nothing new is admitted, what was accepted is run.
    #[track_caller]
    pub fn stop(&self) {
        self.canceller.stop_with(Cause::new(CauseKind::Stopped), Duration::MAX);
    }

    /// Asks for an end as soon as possible and returns: nothing new is admitted, queued jobs are
    /// cancelled, running closures see it on their context, running futures are dropped.
    ///
    /// The closures of queued jobs are dropped by the thread that is first to see the end: as a rule
    /// this one, before the call returns. A running future is dropped by its worker. Panics of these
    /// drops are caught.
    #[track_caller]
    pub fn abort(&self) {
        self.canceller.cancel();
    }

    /// Waits for the end, whoever asks for it.
    pub fn wait(&self) -> Ended {
        self.watch().wait()
    }

    /// The pool's name; `pool` if none was given.
    pub fn name(&self) -> &str {
        self.engine.name()
    }

    /// The pool's context: stopping once the pool drains, cancelled once it is aborted. What jobs
    /// are called with.
    pub fn context(&self) -> &Context {
        self.engine.context()
    }

    /// The counts, as they are at one moment.
    pub fn ledger(&self) -> Ledger {
        self.engine.ledger()
    }

    /// A watcher, which stays readable after the pool was dropped.
    pub fn watch(&self) -> Watcher {
        Watcher::new(&self.engine)
    }
}

impl<W> Component for Pool<W> {
    fn name(&self) -> String {
        self.name().to_owned()
    }

    fn stop(&self) {
        self.stop();
    }

    fn wait(&self) -> Wait<'_> {
        let ended = self.wait();
        Box::pin(async move {
            ended.await;
        })
    }

    fn abort(&self) {
        self.abort();
    }

    fn stragglers(&self) -> Vec<Straggler> {
        self.watch().stragglers()
    }
}

impl<W> fmt::Debug for Pool<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("origin", self.engine.origin())
            .field("ledger", &format_args!("{}", self.ledger()))
            .finish()
    }
}
