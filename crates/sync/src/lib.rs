//! A semaphore that counts: so many may go on, the others wait in line.
//!
//! Ten thousand tasks want the database and it takes fifty connections. Each task acquires a permit
//! first; when the permit is dropped, whoever has waited longest gets it. Nobody polls, nobody is
//! overtaken, and a task that gives up leaves nothing behind.
//!
//! # Which one do I want?
//!
//! | you | take | which gives |
//! |---|---|---|
//! | wait in a task | [`Semaphore::acquire`] | a [`Permit`] that borrows the semaphore |
//! | wait, then move the permit into a task or a struct | [`Semaphore::acquire_owned`] | an [`OwnedPermit`] that holds an `Arc` |
//! | will not wait | [`Semaphore::try_acquire`], [`Semaphore::try_acquire_owned`] | a permit, or at once the reason why not |
//! | wait on a plain thread | [`Semaphore::acquire_blocking`] | a [`Permit`] |
//! | have requests of different weight | any of them with `n > 1` | one permit that counts for `n` |
//! | shut down | [`Semaphore::close`] | an error for everyone who waits or comes later |
//!
//! # Example: at most two at once
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use selvedge_sync::Semaphore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! static LIMIT: Semaphore = Semaphore::new(2);
//! static RUNNING: AtomicUsize = AtomicUsize::new(0);
//!
//! let tasks: Vec<_> = (0..10)
//!     .map(|_| {
//!         tokio::spawn(async {
//!             let _permit = LIMIT.acquire(1).await?;
//!             let running = RUNNING.fetch_add(1, Ordering::Relaxed) + 1;
//!             tokio::task::yield_now().await;
//!             RUNNING.fetch_sub(1, Ordering::Relaxed);
//!             Ok::<_, selvedge_sync::AcquireError>(running)
//!         })
//!     })
//!     .collect();
//! for task in tasks {
//!     assert!(task.await?? <= 2);
//! }
//! assert_eq!(LIMIT.available(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - **Conservation.** Free permits, permits out and permits on their way to a waiter are the
//!   capacity, whatever is dropped at whatever moment.
//! - **First in, first out.** Nobody overtakes a waiter: neither `try_acquire`, nor a small
//!   request that would fit. A small request behind a large one waits for it.
//! - **No request blocks the line for ever** by its size: more than the capacity is an error at
//!   once, and never enters the line.
//! - **No user code under a lock.** Wakers are cloned, woken and dropped outside it.
//! - **Nothing is allocated** by waiting; the place in the line is inside the future.
//! - **A good neighbour.** The futures take part in tokio's cooperative budget.
//!
//! The races are explored by loom on the real code (`tests/loom.rs`).
//!
//! # When not to use it
//!
//! One permit around one value is a mutex: use a mutex. Permits that a rate mints, rather than a
//! holder gives back, are a rate limiter. Strict order costs throughput where the permits are held
//! for less than a task switch takes: there each release waits for the next in line to be run.
//!
//! # Features
//!
//! - `tokio` (default): tokio's cooperative budget. Without it the futures work on any executor,
//!   and in a tokio task they do not count as steps.
//! - `loom`: model checking; takes effect only under `--cfg selvedge_loom`.
#![forbid(unsafe_code)]

mod gate;
mod latch;
mod semaphore;
mod task_group;
mod wait_group;

pub use latch::{Latch, LatchWait};
pub use selvedge_primitives::Panic;
pub use semaphore::{
    Acquire, AcquireError, AcquireOwned, OwnedPermit, Permit, Semaphore, TryAcquireError,
};
#[cfg(feature = "tokio")]
pub use task_group::Spawn;
pub use task_group::{
    Counts, Failure, Fault, GroupTask, Join, JoinError, Joined, Refusal, Reserve, Slot, SpawnError,
    TaskFailed, TaskGroup, TaskGroupBuilder, TaskGroupError,
};
pub use wait_group::{AddError, OwnedWaitGuard, WaitGroup, WaitGroupWait, WaitGuard};

/// The example of the README, compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
