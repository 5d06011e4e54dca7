//! Go's concurrency patterns for Rust: contexts, semaphores, task groups, rate limits, worker pools, fan-out
//! and fan-in, pipelines, generators, graceful shutdown. Each crate is small, can be used alone, and is
//! model-checked.
//!
//! This crate re-exports them by feature. To use one pattern, depend on its crate alone.
//!
//! | Go | here | crate |
//! |---|---|---|
//! | `context.Context`, `WithCancel`, `WithTimeout`, `WithDeadline`, `WithValue` | [`cancel::Context`], [`cancel::Canceller`] | `selvedge-cancel` |
//! | a buffered channel as a semaphore, `x/sync/semaphore` | [`sync::Semaphore`] | `selvedge-sync` |
//! | `x/sync/errgroup`, `sync.WaitGroup` | [`sync::TaskGroup`], [`sync::WaitGroup`], [`sync::Latch`] | `selvedge-sync` |
//! | `x/sync/singleflight`, a map of mutexes | [`sync::SingleFlight`], [`sync::KeyedLock`] | `selvedge-sync` |
//! | `time.Tick`, `x/time/rate` | [`ratelimit::Limiter`], [`ratelimit::Sometimes`] | `selvedge-ratelimit` |
//! | worker pool | [`pool::Pool`] | `selvedge-pool` |
//! | fan-out over a stream, the results in order or not | [`fanio::map_concurrent`] | `selvedge-fanio` |
//! | a goroutine for each server, the first answer or all by a deadline | [`fanio::first_ok`], [`fanio::all()`] | `selvedge-fanio` |
//! | goroutines that range over one channel | [`fanio::fan_out()`] | `selvedge-fanio` |
//! | results in order, with workers of your own | [`fanio::window()`] | `selvedge-fanio` |
//! | fan-in: many channels into one | [`fanio::merge()`] | `selvedge-fanio` |
//! | pipeline, generator | [`pipeline::from_iter`], [`pipeline::generate()`] | `selvedge-pipeline` |
//! | `time.Ticker`, a `select` that gathers a batch | [`pipeline::ticks`], [`pipeline::Stage::batch`] | `selvedge-pipeline` |
//! | `signal.NotifyContext`, graceful shutdown | [`shutdown::Shutdown`] | `selvedge-shutdown` |
//!
//! # Features
//!
//! One per crate (`cancel`, `sync`, `ratelimit`, `pool`, `fanio`, `pipeline`, `shutdown`), and `tokio`, which
//! turns on the feature of that name in each crate that is on, and `channel`, for pipelines from and into
//! channels of `async-channel`. All are on by default. `observe`, which is not, needs `cancel`: contexts, and
//! whoever waits in a wait queue of any of the crates, are told to the process's observer. Nor are `tokio-util`,
//! which converts contexts and its tokens, `age`, with which who has entered a context has one, and who holds permits of a semaphore,
//! and `serde`, with which a rate limit's quota is read from serde's formats and written to them. `sink`, `tower` and `metrics` turn on the
//! features of these names of `ratelimit`.
#![forbid(unsafe_code)]

#[cfg(feature = "cancel")]
pub use selvedge_cancel as cancel;
#[cfg(feature = "fanio")]
pub use selvedge_fanio as fanio;
#[cfg(feature = "pipeline")]
pub use selvedge_pipeline as pipeline;
#[cfg(feature = "pool")]
pub use selvedge_pool as pool;
#[cfg(feature = "ratelimit")]
pub use selvedge_ratelimit as ratelimit;
#[cfg(feature = "shutdown")]
pub use selvedge_shutdown as shutdown;
#[cfg(feature = "sync")]
pub use selvedge_sync as sync;

#[cfg(all(
    doctest,
    feature = "cancel",
    feature = "fanio",
    feature = "pipeline",
    feature = "pool",
    feature = "ratelimit",
    feature = "shutdown",
    feature = "sync",
    feature = "tokio"
))]
mod book;
