//! Worker pools: blocking and async workers over a bounded queue.
//!
//! Work that blocks (files, compression, hashing, a C library) does not belong on the threads of an
//! async runtime. A [`Pool`] runs it on threads of its own: a fixed number of workers, a queue with
//! an end, a handle with the result for each job, and an end that adds up. `Pool<`[`Tasks`]`>` is the
//! same for futures: a fixed number at a time, on tasks of a runtime.
//!
//! # Which one do I want?
//!
//! | you want to | take |
//! |---|---|
//! | start workers on threads, for jobs that block | [`Pool::builder`], [`PoolBuilder::build`] |
//! | start workers on tasks, for jobs that are futures | [`Pool::builder`], `build_async` (tokio), [`PoolBuilder::build_on`] |
//! | run a job and have its result | `submit`, then await the [`JobHandle`] |
//! | run it only if there is room now | `try_submit`: never waits, gives the job back |
//! | have the results as a stream, as they complete | [`Pool::results`], then [`Submitter::reserve`] |
//! | take an item only when there is room for it | [`Pool::reserve`], then [`Slot::submit`] |
//! | run a job and forget it | drop the [`JobHandle`] |
//! | finish what was accepted, then end | [`Pool::drain`] |
//! | end now | [`Pool::abort`], then [`Pool::wait`] |
//! | end with something larger | give [`PoolBuilder::build`] its context |
//! | be drained by a shutdown | [`Pool`] is a [`Component`](selvedge_cancel::Component) |
//! | know what became of the jobs | [`Pool::ledger`] |
//! | know it after the pool was dropped | [`Pool::watch`] |
//!
//! # Example
//!
//! ```
//! use selvedge_cancel::Context;
//! use selvedge_pool::Pool;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let (ctx, _canceller) = Context::background().child();
//! let pool = Pool::builder().name("lines").workers(2).queue(4).build(&ctx).unwrap();
//!
//! let mut handles = Vec::new();
//! for text in ["one", "two\nthree", ""] {
//!     // Waits for room: a fast producer does not outrun the workers.
//!     handles.push(pool.submit(move |_| text.lines().count()).await.unwrap());
//! }
//! let mut lines = 0;
//! for handle in handles {
//!     lines += handle.await.unwrap();
//! }
//! assert_eq!(lines, 3);
//!
//! let ledger = pool.drain().await;
//! assert_eq!((ledger.accepted, ledger.finished), (3, 3));
//! # });
//! ```
//!
//! # The end of a pool
//!
//! | the pool's context is | by | new jobs | queued jobs | running jobs |
//! |---|---|---|---|---|
//! | stopping | [`Pool::drain`], [`Pool::stop`], a parent | returned | run | run on, and see STOPPING |
//! | cancelled | [`Pool::abort`], dropping the pool, a parent, a deadline | returned | cancelled | threads: run on, and see CANCELLED; tasks: dropped at their next await |
//! | cancelled | the runtime of the tasks is shut down | returned | cancelled | dropped |
//!
//! A closure cannot be ended from outside: one that takes long asks its context now and then.
//!
//! ```
//! # use selvedge_cancel::Context;
//! # use selvedge_pool::Pool;
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let pool = Pool::builder().workers(1).build(&Context::background()).unwrap();
//! let job = pool.submit(|ctx| {
//!     let mut steps = 0_u64;
//!     while ctx.check().is_ok() {
//!         steps += 1;
//!     }
//!     steps
//! });
//! let handle = job.await.unwrap();
//! pool.abort();
//! let ledger = pool.wait().await;
//! // It had started and saw the end, or it had not and was cancelled.
//! assert_eq!(ledger.finished + ledger.cancelled, 1);
//! assert_eq!(handle.await.is_ok(), ledger.finished == 1);
//! # });
//! ```
//!
//! # Guarantees
//!
//! - Every accepted job finishes, panics, or is cancelled: a closure before it started, a future at
//!   any await. Its handle or the stream says which, and the [`Ledger`] adds up at every moment at
//!   which it is read.
//! - Jobs start in the order in which they entered the queue; those who wait for room get it in the
//!   order in which they came.
//! - The queue holds at most what the builder was told, a stream of results what
//!   [`Pool::results`] was told; a job that ends never waits for the stream.
//! - A pool of tasks takes closures that return futures, and nothing else compiles. On tokio a worker
//!   of it yields to the other tasks of its thread between short jobs.
//! - A panic of a job reaches its handle and nobody else; the worker goes on. So it does after a
//!   panic in a destructor of a job or of a result that nobody wants.
//! - When [`Pool::drain`] or [`Pool::wait`] has completed, no code of a job and no destructor of
//!   one is running. One exception: the destructors of thread-locals that a job left on a thread of the
//!   pool may still run.
//! - No closure, destructor or foreign waker runs under a lock.
//!
//! The races behind these are explored by the models in `tests/loom.rs`, and every future is dropped
//! at each of its await points in `tests/sweep.rs`.
//!
//! # When not to use it
//!
//! For parallel loops over data in memory take rayon, which splits and steals. For a handful of
//! blocking calls in a tokio program, `tokio::task::spawn_blocking` is there already; it has no
//! bound to its queue and no end. A job that waits for another job of its own pool can wait for
//! ever: see [`Pool::submit`].
//!
//! # Features
//!
//! - `tokio` (default): `build_async`, tokio's cooperative budget, and tokio's clock for a context's
//!   deadlines. Threads need no runtime, and tasks run on any executor
//!   ([`build_on`](PoolBuilder::build_on)).
//! - `loom`: model checking; takes effect only under `--cfg selvedge_loom`.
#![forbid(unsafe_code)]

mod builder;
mod end;
mod engine;
mod handle;
mod ledger;
mod pool;
mod refusal;
mod results;
mod submit;
mod workers;

pub use builder::{PoolBuilder, PoolError};
pub use end::{Drain, Ended, Watcher};
pub use engine::{Worker, WorkersLost};
pub use handle::{JobError, JobHandle};
pub use ledger::Ledger;
pub use pool::Pool;
pub use refusal::{ReserveError, SubmitError, TrySubmitError};
pub use results::{Completed, ReserveResult, ResultSlot, Results, ResultsError, Submitter};
pub use selvedge_primitives::{NextItem, Panic};
pub use submit::{Reserve, Slot, Submit};
pub use workers::{Tasks, Threads};

/// The example of the README, compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
