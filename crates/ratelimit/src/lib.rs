//! A rate limiter (token bucket): n tokens come in a period, up to m are saved for a burst; exact, and
//! first in, first out.
//!
//! A partner's API takes fifty requests a second and now and then ten at once: each request acquires a
//! token of a [`Limiter`] first. A crawler is to visit a site once in two seconds, from whichever task:
//! the same, with a burst of one. A server refuses what is too much: it tries, and never waits.
//!
//! # Which one do I want?
//!
//! | you | take | which gives |
//! |---|---|---|
//! | wait in a task | [`Limiter::acquire`] | nothing: a token is used up |
//! | wait in a task of its own, or in a struct | [`Limiter::acquire_owned`] | the same, without a borrow |
//! | will not wait | [`Limiter::try_acquire`] | yes or no |
//! | wait until a deadline | [`Limiter::acquire_in`] | the same, or at once that it would be too late |
//! | wait on a plain thread | [`Limiter::acquire_blocking`] | the same |
//! | have requests of different weight | any of them with `n > 1` | all `n` at once |
//! | want them later, or know the cost later | [`Limiter::reserve`] | a [`Reservation`] |
//! | limit each client, host or user | [`Keyed`] | a bucket for each key |
//! | want a tick that is never hurried | [`Limiter::strict`] | a limiter without catch-up |
//! | ask it from many threads | [`LimiterBuilder::leased`] | the same, in batches |
//! | have a stream | [`Limiter::throttle`] | a stream at that pace |
//! | have a sink | `Limiter::throttle_sink` (feature `sink`) | a sink at that pace |
//! | have a service of tower, or a server of it | `tower::RateLimitLayer` (feature `tower`) | requests held back, delayed or refused; by key, too |
//! | tell when to come again (`Retry-After`) | [`Limiter::ready_in`] | how long it is |
//! | do something now and then (a log line) | [`Sometimes::run`] | it, or nothing |
//! | tell clients about their quota | [`http`] | the values of header fields |
//! | want to know what it did | `Limiter::metrics` (feature `metrics`) | exact counts |
//!
//! | the pace | the quota |
//! |---|---|
//! | steady: a tick | [`Rate::every`]`(period)`, [`Rate::per_second`]`(n)`, with `.burst(1)` |
//! | with bursts | `.burst(n)` |
//! | from a file | `"50/s burst 10".parse()` |
//! | none | [`Rate::UNLIMITED`] |
//!
//! # Example
//!
//! ```
//! use selvedge_ratelimit::{Limiter, Quota, Rate};
//!
//! # async fn fetch(page: u32) -> u32 { page }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! const API: Quota = Rate::per_second(500).burst(10);
//! let limiter = Limiter::new(API);
//! for page in 0..20 {
//!     limiter.acquire(1).await?; // ten at once, then one every 2 ms
//!     fetch(page).await;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - **Never too much.** In every span of time at most the burst and what comes in that time are granted, whatever threads, clocks, dropped
//!   futures and changes of the quota do; to those who wait, and who comes right after them, up to what comes in [2 ms](Limiter::CATCH_UP)
//!   more, when their timer was late.
//! - **Never too little.** A token is late by less than 2 ns in a hundred years, at any rate up to [`Rate::MAX_PER_SECOND`], and at the rates that
//!   people write not at all; nothing drifts.
//! - **First in, first out**, by position, in each of three classes: who leaves the line lets everybody behind it move up.
//! - **No token is lost.** What was granted to a future that is dropped goes to the next, unless it comes back too late to be within
//!   the quota ([exactness](Limiter#exactness) has the details).
//! - **Nobody is held up by a waiter that is not polled**, or by a key that is not one's own.
//! - **No request blocks the line for ever** by its size: more than the burst is an error at once, if it is not to be taken in parts.
//! - **What cannot be in time is refused at once**, and takes no token.
//! - **Nothing is allocated** by a place in the line; a limiter costs its timer one registration, however many wait.
//! - **Memory is bounded** also for limits by key, and nobody has to sweep.
//! - **A quota makes sense** or is not made: zero, NaN and too much are errors, of the compiler where it can know.
//!
//! Waits end with a context ([`Limiter::acquire_in`]). The races are explored by loom on the real code (`tests/loom.rs`).
//!
//! # When not to use it
//!
//! A limit on how many run *at once*, rather than on how many begin in a second, is a semaphore
//! (`selvedge-sync`): its permits come back when the work is done. A limit that several processes share needs
//! a server. A tick that does something by itself is a pipeline's `ticks` (`selvedge-pipeline`).
//!
//! # Features
//!
//! - `tokio` (default): tokio's clock for a limiter that is [given it](Limiter::with_timer), and tokio's
//!   cooperative budget. Without it everything works on any executor.
//! - `metrics`: what limiters granted, refused and gave up, counted.
//! - `sink`: sinks at the pace of a limiter, for the trait of `futures-sink`.
//! - `tower`: a layer and a service, for the traits of tower.
//! - `serde`: [`Quota`] and [`Rate`] as text.
//! - `coarse`: a clock that the program keeps, for refusals that cost next to nothing.
//! - `tsc`: a clock that reads the time-stamp counter of the processor, for builders that are told so.
//! - `loom`: model checking; takes effect only under `--cfg selvedge_loom`.
#![forbid(unsafe_code)]

mod bucket;
mod clock;
pub mod http;
mod keyed;
mod lent;
mod limiter;
mod meter;
#[cfg(feature = "metrics")]
mod metrics;
mod quota;
mod sometimes;
mod throttle;
#[cfg(feature = "tower")]
pub mod tower;

#[cfg(feature = "coarse")]
pub use clock::CoarseClock;
pub use keyed::{AcquireKey, Heat, Keyed, KeyedBuilder, WhenFull};
pub use limiter::{
    Acquire, AcquireError, Limiter, LimiterBuilder, NotYet, Priority, Ready, Reservation, Standing,
    TryAcquireError,
};
#[cfg(feature = "metrics")]
pub use metrics::{KeyedMetrics, Metrics};
pub use quota::{Quota, QuotaError, Rate};
pub use selvedge_primitives::time::{ManualClock, Timer, TimerError};
pub use sometimes::Sometimes;
pub use throttle::Throttle;
#[cfg(feature = "sink")]
pub use throttle::{ThrottleSink, ThrottleSinkError};

/// The example of the README, compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
