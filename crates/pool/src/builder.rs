//! The builder of pools, of both kinds.

use std::borrow::Cow;
use std::io;

use selvedge_cancel::{Canceller, Cause, CauseKind, Context};
use selvedge_primitives::{Origin, block_on, thread};

use crate::engine::{Engine, Worker};
use crate::{Pool, Tasks, WorkersLost};

/// The most threads that a pool may have: one costs memory and a kernel object, and who asks for
/// more has most likely not counted threads.
const MOST_THREADS: usize = 4096;

/// The most tasks: an idle one costs some hundred bytes.
const MOST_TASKS: usize = 1 << 20;

/// What starts a thread: the shim's spawn, except in a test of its failure.
type Spawn<'a> =
    dyn FnMut(String, Box<dyn FnOnce() + Send>) -> io::Result<thread::JoinHandle<()>> + 'a;

/// Makes a pool; from [`Pool::builder`].
#[derive(Debug, Clone)]
#[must_use = "call `build`"]
pub struct PoolBuilder {
    /// Name and place.
    origin: Origin,
    /// How many workers, if it was said.
    workers: Option<usize>,
    /// How many jobs may wait, if it was said.
    capacity: Option<usize>,
}

impl PoolBuilder {
    /// Nothing is said yet.
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self { origin: Origin::here(), workers: None, capacity: None }
    }

    /// Names the pool: for reports, and for its workers (`name-0`, `name-1`, ...).
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.origin = self.origin.named(name);
        self
    }

    /// How many workers run jobs, one each at a time: 1 to 4096 threads, or 1 to 1,048,576 tasks. By
    /// default, as many as the machine runs at once: jobs of tasks that mostly wait want more.
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

    /// Starts a pool of threads in a child of `context`.
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
        let child = self.child(context);
        self.build_with(child, &mut |name, work| thread::spawn(name, work))
    }

    /// As [`build`](Self::build), with the pool's own context and a way to start threads.
    fn build_with(
        self,
        (context, canceller): (Context, Canceller),
        spawn: &mut Spawn<'_>,
    ) -> Result<Pool, PoolError> {
        let (workers, capacity) = self.sizes(MOST_THREADS)?;
        let (engine, crew) = Engine::new(self.origin, context, None, workers, capacity);
        let mut started = Vec::with_capacity(workers);
        for (number, worker) in crew.enumerate() {
            let work = Box::new(|| block_on(worker));
            match spawn(engine.worker_name(number), work) {
                Ok(handle) => started.push(handle),
                Err(source) => {
                    // Nobody has seen the pool: the workers have nothing to do but to leave.
                    canceller.cancel();
                    for handle in started {
                        let _ = handle.join();
                    }
                    return Err(PoolError::Thread { worker: number, workers, source });
                }
            }
        }
        // Detached: `ended` tells what a join would tell, without blocking.
        drop(started);
        Ok(Pool::new(engine, canceller))
    }

    /// Starts a pool of tasks on the current tokio runtime, in a child of `context`.
    ///
    /// It ends with that context as a pool of threads does; besides, an abort drops running futures
    /// at their next await. It ends with its runtime, too: when that is shut down, jobs that have not
    /// ended are cancelled, everybody who waits is told, and the cause carries
    /// [`WorkersLost`](crate::WorkersLost), unless the pool was stopping already: the first cause
    /// holds.
    ///
    /// The pool needs nothing of the runtime but its tasks: no time driver, and no second thread. A
    /// current-thread runtime runs them only while it is inside `block_on`. Until then jobs stay
    /// queued, and a [`wait`](Pool::wait) on another thread waits; an abort cancels what is queued at
    /// once, wherever it comes from.
    ///
    /// # Errors
    ///
    /// [`PoolError`], among them [`NoRuntime`](PoolError::NoRuntime) when it is called outside of a
    /// runtime.
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn build_async(self, context: &Context) -> Result<Pool<Tasks>, PoolError> {
        match tokio::runtime::Handle::try_current() {
            Err(_) => Err(PoolError::NoRuntime),
            Ok(runtime) => self.build_on(context, |worker| drop(runtime.spawn(worker))),
        }
    }

    /// As `build_async`, on any executor: each worker is given to `spawn`, which must see to it that
    /// it is polled to its end.
    ///
    /// A worker that is dropped before aborts the pool: see [`Worker`].
    ///
    /// # Errors
    ///
    /// [`PoolError`]: no pool was made, and `spawn` was not called.
    ///
    /// # Examples
    ///
    /// On two threads that run nothing else:
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # use selvedge_pool::Pool;
    /// # use selvedge_testkit::block_on;
    /// let pool = Pool::builder().workers(2).build_on(&Context::background(), |worker| {
    ///     std::thread::spawn(|| block_on(worker));
    /// });
    /// let pool = pool.unwrap();
    /// let handle = block_on(pool.submit(|_| async { 5 })).unwrap();
    /// assert_eq!(block_on(handle).unwrap(), 5);
    /// ```
    #[track_caller]
    pub fn build_on(
        self,
        context: &Context,
        spawn: impl FnMut(Worker),
    ) -> Result<Pool<Tasks>, PoolError> {
        let (workers, capacity) = self.sizes(MOST_TASKS)?;
        let (outer, canceller) = self.child(context);
        // A node of the workers' own, so that their right to cancel it does not outlive the pool's.
        let (inner, on_loss) = self.child(&outer);
        let lost = Cause::new(CauseKind::Cancelled).with_error(WorkersLost);
        let on_loss = Some((on_loss, lost));
        let (engine, crew) = Engine::new(self.origin, inner, on_loss, workers, capacity);
        crew.for_each(spawn);
        Ok(Pool::new(engine, canceller))
    }

    /// A context for the pool.
    #[track_caller]
    fn child(&self, parent: &Context) -> (Context, Canceller) {
        let child = parent.child_with().name(self.origin.name().unwrap_or("pool").to_owned());
        child.build().expect("a child without a deadline needs no timer")
    }

    /// How many workers, of at most `most`, and how many places in the queue.
    fn sizes(&self, most: usize) -> Result<(usize, usize), PoolError> {
        let workers = match self.workers {
            Some(0) => return Err(PoolError::NoWorkers),
            Some(asked) if asked > most => return Err(PoolError::TooManyWorkers { asked, most }),
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, |n| n.get().min(most)),
        };
        match self.capacity {
            Some(0) => Err(PoolError::NoQueue),
            Some(capacity) => Ok((workers, capacity)),
            None => Ok((workers, workers * 2)),
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
    /// There is no tokio runtime to run the workers.
    #[cfg(feature = "tokio")]
    #[error("pool not started: not inside a tokio runtime, build it in one or enter its handle")]
    NoRuntime,
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
    use std::sync::Arc;
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
