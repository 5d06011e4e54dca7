//! Semaphores, groups, flights and barriers: a limit on what runs at once, and nobody left behind.
//!
//! Ten thousand tasks want the database and it takes fifty connections: each acquires a permit of a
//! [`Semaphore`] first, and when one is dropped, whoever has waited longest gets it. A request fans out
//! to twenty shards and is worth nothing if one of them fails: a [`TaskGroup`] ends the others and
//! tells which it was. A server stops when the last request is done: a [`WaitGroup`] knows when. Nobody starts before all are ready: a
//! [`Latch`]. A thousand requests miss the same cache entry: a [`SingleFlight`] fetches it once.
//!
//! # Which one do I want?
//!
//! | you want | Go | take |
//! |---|---|---|
//! | a limit on how many of anything are in use at once | a buffered channel, `x/sync/semaphore` | [`Semaphore`] |
//! | such a limit for each host, tenant, account | a map of them, and a mutex | [`KeyedSemaphore`], [`KeyedLock`] |
//! | tasks that belong together: their values, the first error, all ended at the end | `errgroup` | [`TaskGroup`] |
//! | the same with a limit on how many run at once | `errgroup.SetLimit` | [`TaskGroup::builder`]`(..).limit(n)` |
//! | to know when everything that was begun is done, whoever began it | `sync.WaitGroup` | [`WaitGroup`] |
//! | to go on when a given number of things have happened, once | a `WaitGroup`, or a closed channel | [`Latch`] |
//! | parties that go on together, round after round | none (Java's `CyclicBarrier`) | [`Barrier`] |
//! | one run of the same work for all who ask at once | `x/sync/singleflight` | [`SingleFlight`] |
//! | order within a key, and balance between keys | none | [`KeyedLanes`] |
//! | delays between attempts | none | [`Backoff`] |
//! | priorities, and nobody overtaken for ever | none | [`AgeingQueue`] |
//!
//! Of a semaphore:
//!
//! | you | take | which gives |
//! |---|---|---|
//! | wait in a task | [`Semaphore::acquire`] | a [`Permit`] that borrows the semaphore |
//! | wait, then move the permit into a task or a struct | [`Semaphore::acquire_owned`] | an [`OwnedPermit`] that holds an `Arc` |
//! | wait no longer than a context lasts | [`Semaphore::acquire_in`], [`Semaphore::acquire_owned_in`] | the permit, or why the context ended |
//! | will not wait | [`Semaphore::try_acquire`], [`Semaphore::try_acquire_owned`] | a permit, or at once the reason why not |
//! | wait on a plain thread | [`Semaphore::acquire_blocking`] | a [`Permit`] |
//! | have requests of different weight | any of them with `n > 1` | one permit that counts for `n`; [`Permit::split`], [`Permit::merge`] |
//! | change the limit under load | [`Semaphore::set_capacity`] | also below what is in use |
//! | hold permits for a moment only, under contention | [`Semaphore::with_fairness`] | [`Fairness::Eventual`] |
//! | shut down | [`Semaphore::close`] | an error for everyone who waits or comes later |
//!
//! Of a task group:
//!
//! | you | take | which gives |
//! |---|---|---|
//! | spawn, and wait for room if there is a limit | `TaskGroup::spawn` (with tokio) | the task's index, or the future back |
//! | will not wait | `TaskGroup::try_spawn`, `TaskGroup::try_spawn_local` | the same, at once |
//! | wait for room before there is a future | [`TaskGroup::reserve`] | a [`Slot`] |
//! | run the task on another executor | [`Slot::into_task`] | a [`GroupTask`] to poll |
//! | run what blocks | `TaskGroup::try_spawn_blocking` | a task like others |
//! | take values as they come | [`TaskGroupBuilder::stream_results`], [`TaskGroup::next`] | one after the other |
//! | wait for the end | [`TaskGroup::join`] | [`Joined`]: values in order, failures, counts |
//! | abort | [`TaskGroup::cancel`], then join | the same |
//!
//! # Example: at most two at once, all or the first error
//!
//! ```
//! use selvedge_cancel::Context;
//! use selvedge_sync::TaskGroup;
//!
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let group = TaskGroup::builder(&Context::background()).limit(2).build()?;
//! for number in ["1", "2", "three", "4"] {
//!     let task = async move { number.parse::<u32>() };
//!     if group.spawn(task).await.is_err() {
//!         // One has failed: the group admits no more.
//!         break;
//!     }
//! }
//! let error = group.join().await.into_result().unwrap_err();
//! assert_eq!(error.failures[0].index, 2);
//! assert!(error.to_string().ends_with("failed: invalid digit found in string"));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! # Guarantees
//!
//! - **Conservation.** Free permits, permits out and permits on their way to a waiter are the
//!   capacity; spawned tasks are those that finished, failed, panicked, were cancelled or run;
//!   whatever is dropped, and whenever.
//! - **First in, first out.** Nobody overtakes a waiter: neither `try_acquire`, nor a small
//!   request that would fit, nor `try_spawn`. A small request behind a large one waits for it. A semaphore can be told to let running callers
//!   overtake for a while, which is faster under contention; then nobody is overtaken for longer than that.
//! - **No request blocks the line for ever** by its size: more than the capacity is an error at
//!   once, and never enters the line; nor does one that no longer fits when the capacity is lowered.
//! - **A lowered limit holds.** What is in use falls to it, and never rises above it again.
//! - **Nothing is left of a key** that nobody uses: no entry in a map, also after waits that were given up.
//! - **Structured.** When a group's join completes, all its tasks have ended and what they captured is
//!   dropped. A runtime that is shut down underneath leaves no join waiting.
//! - **Nothing is lost in silence.** A future that is not spawned comes back, errors that are not kept
//!   are counted, a panic goes on or is returned.
//! - **A wait never ends early**, also when a wait group is used again while others wait.
//! - **No user code under a lock.** Wakers, destructors and texts of errors run outside it. The one exception is `Eq` of a key; a panic
//!   there poisons nothing.
//! - **Nothing is allocated** by waiting; the place in the line is inside the future. (The line itself is made for the first who comes to it.)
//! - **A good neighbour.** The futures take part in tokio's cooperative budget.
//!
//! Waits end with a context if they are asked to (`acquire_in`, `wait_in`, ...); those for room in a task
//! group end with the group's by themselves. The races are explored by loom on the real code (`tests/loom.rs`).
//!
//! # When not to use it
//!
//! One permit around one value is a mutex: use a mutex. Permits that a rate mints, rather than a
//! holder gives back, are a rate limiter. Strict order costs throughput where the permits are held
//! for less than a task switch takes: there each release waits for the next in line to be run; take [`Fairness::Eventual`]. A task
//! group keeps a place for each task's value until it is joined, unless it [streams](TaskGroupBuilder::stream_results) or
//! [discards](TaskGroupBuilder::discard_results) them; an endless stream of jobs is a pool's
//! or a pipeline's. A stage that hands items on is a pipeline's, too.
//!
//! # Features
//!
//! - `tokio` (default): spawning the tasks of a group, and tokio's cooperative budget. Without it
//!   everything works on any executor (a group's tasks by [`Slot::into_task`]), and in a tokio task the
//!   futures do not count as steps.
//! - `age`: semaphores know who holds their permits, for how long and from where, and how long the first has waited; for that the clock is
//!   read and a lock taken with every permit.
//! - `loom`: model checking; takes effect only under `--cfg selvedge_loom`.
#![forbid(unsafe_code)]

mod ageing_queue;
mod backoff;
mod barrier;
mod gate;
mod keyed;
mod keyed_lanes;
mod latch;
mod semaphore;
mod single_flight;
mod task_group;
mod wait_group;
mod within;

pub use ageing_queue::{AgeingQueue, ClassCountError, NoSuchClass};
pub use backoff::{Backoff, BackoffError, Delays, Jitter};
pub use barrier::{Barrier, BarrierError, BarrierWait, NoParties, Passed};
pub use keyed::{AcquireKeyed, KeyedError, KeyedLock, KeyedPermit, KeyedSemaphore, TryKeyedError};
pub use keyed_lanes::{KeyedLanes, LaneHold, LanesClosed, Lease, TakeLease};
pub use latch::{Latch, LatchWait};
pub use selvedge_primitives::Panic;
pub use selvedge_primitives::time::{ManualClock, Timer};
#[cfg(feature = "age")]
pub use semaphore::Holder;
pub use semaphore::{
    Acquire, AcquireError, AcquireOwned, CapacityError, Fairness, MergeError, OwnedPermit, Permit,
    Semaphore, TryAcquireError,
};
pub use single_flight::{FlightWait, SingleFlight, SingleFlightBuilder};
#[cfg(feature = "tokio")]
pub use task_group::Spawn;
pub use task_group::{
    Counts, Failure, Fault, GroupTask, Join, JoinError, Joined, Next, Refusal, Reserve, Slot,
    SpawnError, TaskFailed, TaskGroup, TaskGroupBuilder, TaskGroupError,
};
pub use wait_group::{AddError, OwnedWaitGuard, WaitGroup, WaitGroupWait, WaitGuard};
pub use within::{Within, WithinOrCause};

/// The example of the README, compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
