//! The pool and its builder: the face.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use selvedge_cancel::{Canceller, Cause, CauseKind, Component, Context, Straggler, Wait};
use selvedge_primitives::{Origin, thread};

use crate::engine::{Engine, Spawn};
use crate::{Drain, Ended, Ledger, Reserve, Submit, Watcher};

/// The most workers that a pool may have: a thread costs memory and a kernel object, and who asks
/// for more has most likely not counted threads.
const MOST_WORKERS: usize = 4096;

/// Blocking workers over a bounded queue.
///
/// See the [crate's page](crate) for how it is used and how it ends. Dropping a pool aborts it and
/// does not block: queued jobs are cancelled, running ones see it on their context and run out; a
/// [`Watcher`] tells when.
pub struct Pool {
    /// The engine; the workers share it.
    engine: Arc<Engine>,
    /// Ends the pool's context; dropped with the pool, it cancels.
    canceller: Canceller,
}

impl Pool {
    /// A pool with as many workers as the machine runs at once, and a queue of twice that.
    #[track_caller]
    pub fn builder() -> PoolBuilder {
        PoolBuilder { origin: Origin::here(), workers: None, capacity: None }
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
        Submit::new(&self.engine, job, Location::caller())
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
    pub fn reserve(&self) -> Reserve<'_> {
        Reserve::new(&self.engine)
    }

    /// Stops the pool and waits for its end: admits nothing new, runs all that was accepted, sees
    /// every worker off, and returns the final [`Ledger`].
    ///
    /// The first poll stops the pool. Completes when the last worker has left; an abort while it
    /// waits makes that sooner. A [`Slot`](crate::Slot) that is held elsewhere keeps it waiting.
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
    pub fn drain(&self) -> Drain<'_> {
        Drain::new(self, &self.engine)
    }

    /// Asks for a drain and returns: nothing new is admitted, what was accepted is run.
    #[track_caller]
    pub fn stop(&self) {
        self.canceller.stop_with(Cause::new(CauseKind::Stopped), Duration::MAX);
        self.engine.react();
    }

    /// Asks for an end as soon as possible and returns: nothing new is admitted, queued jobs are
    /// cancelled, running ones see it on their context.
    ///
    /// The closures of queued jobs are dropped by the thread that is first to see the end: as a rule
    /// this one, before the call returns. Their panics are caught.
    #[track_caller]
    pub fn abort(&self) {
        self.canceller.cancel();
        self.engine.react();
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

impl Component for Pool {
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

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("origin", self.engine.origin())
            .field("ledger", &format_args!("{}", self.ledger()))
            .finish()
    }
}

/// Makes a pool; from [`Pool::builder`].
#[derive(Debug, Clone)]
#[must_use = "call `build`"]
pub struct PoolBuilder {
    /// Name and place.
    origin: Origin,
    /// How many threads, if it was said.
    workers: Option<usize>,
    /// How many jobs may wait, if it was said.
    capacity: Option<usize>,
}

impl PoolBuilder {
    /// Names the pool: for reports, and for its threads (`name-0`, `name-1`, ...).
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.origin = self.origin.named(name);
        self
    }

    /// How many threads run jobs: 1 to 4096. By default, as many as the machine runs at once.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How many jobs may wait for a worker, slots that are reserved included: at least 1. A running
    /// job does not count. By default, twice the number of workers. The queue's memory grows with
    /// what is in it, so `usize::MAX` spells "unbounded".
    pub fn queue(mut self, capacity: usize) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// Starts the pool in a child of `context`.
    ///
    /// The pool ends with that context: it stops admitting when `context` is stopping, and aborts
    /// when it is cancelled or its deadline passes, also while all workers sleep or all are busy. A
    /// pool in a context that has ended already refuses every job.
    ///
    /// # Errors
    ///
    /// [`PoolError`]: no pool was made, and no thread is left running.
    #[track_caller]
    pub fn build(self, context: &Context) -> Result<Pool, PoolError> {
        let context = context.child_with().name(self.origin.name().unwrap_or("pool").to_owned());
        let context = context.build().expect("a child without a deadline needs no timer");
        self.build_with(context, &mut |name, work| thread::spawn(name, work))
    }

    /// As [`build`](Self::build), with the pool's own context and a way to start threads.
    fn build_with(
        self,
        (context, canceller): (Context, Canceller),
        spawn: &mut Spawn<'_>,
    ) -> Result<Pool, PoolError> {
        let workers = match self.workers {
            Some(0) => return Err(PoolError::NoWorkers),
            Some(asked) if asked > MOST_WORKERS => {
                return Err(PoolError::TooManyWorkers { asked, most: MOST_WORKERS });
            }
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_WORKERS)),
        };
        let capacity = match self.capacity {
            Some(0) => return Err(PoolError::NoQueue),
            Some(capacity) => capacity,
            None => workers * 2,
        };
        match Engine::start(self.origin, context, workers, capacity, spawn) {
            Ok(engine) => Ok(Pool { engine, canceller }),
            Err((worker, source)) => Err(PoolError::Thread { worker, workers, source }),
        }
    }
}

/// A pool could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Zero workers would run nothing.
    #[error("pool not started: it would have no workers, ask for at least 1")]
    NoWorkers,
    /// More workers than any pool may have.
    #[error("pool not started: {asked} workers are too many, ask for at most {most}")]
    TooManyWorkers {
        /// How many were asked for.
        asked: usize,
        /// How many there may be.
        most: usize,
    },
    /// A queue without a place admits nothing.
    #[error("pool not started: its queue would have no place, ask for at least 1")]
    NoQueue,
    /// The operating system gave no thread. The workers that were started have ended.
    #[error("pool not started: no thread for worker {worker} of {workers}")]
    Thread {
        /// Which worker, counted from 0.
        worker: usize,
        /// How many there were to be.
        workers: usize,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_thread_that_cannot_be_started_leaves_none_running() {
        let running = Arc::new(AtomicUsize::new(0));
        let mut left = 2;
        let error = Pool::builder()
            .workers(4)
            .build_with(Context::background().child(), &mut |name, work| {
                if left == 0 {
                    return Err(io::Error::from(io::ErrorKind::WouldBlock));
                }
                left -= 1;
                // SeqCst: a test.
                running.fetch_add(1, Ordering::SeqCst);
                let running = Arc::clone(&running);
                thread::spawn(name, move || {
                    work();
                    running.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .unwrap_err();
        assert_eq!(running.load(Ordering::SeqCst), 0);
        assert_eq!(error.to_string(), "pool not started: no thread for worker 2 of 4");
        assert!(matches!(error, PoolError::Thread { worker: 2, workers: 4, .. }));
    }
}
