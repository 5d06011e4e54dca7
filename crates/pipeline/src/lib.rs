//! Pipelines and generators: a source, stages, a sink; run under a context, with a report whose
//! counts add up.
//!
//! A pipeline is described first ([`from_iter`], [`from_stream`], [`generate`](generate()) and their
//! like, then stages, then a sink) and does nothing until it is [run](Ready::run). Adjacent
//! synchronous stages fuse into one loop; items change tasks only where the description says so, at
//! [`workers`], [`blocking`] and [`branch`].
//!
//! # Which one do I want?
//!
//! | you have | take |
//! |---|---|
//! | an iterator | [`from_iter`] |
//! | a stream | [`from_stream`] |
//! | a channel of `async-channel` | [`from_channel`] |
//! | a loop that produces items, with awaits in between | [`generate`](generate()) |
//! | something to do in every period | [`ticks`] |
//! | a function of each item | [`map`](Stage::map), [`filter`](Stage::filter) |
//! | a function of each item that may fail | [`try_map`](Stage::try_map) |
//! | an async function of each item, several at a time | [`workers`] |
//! | a blocking function of each item, on a pool's threads | [`blocking`] |
//! | results in the order of the items, or as they come | [`Order`] |
//! | items that may fail without ending the rest | [`skip_failed`](Stage::skip_failed) |
//! | items to handle in batches of a given size, or of what came within a time | [`batch`](Stage::batch) |
//! | some items to take another way, or the items of a key one after the other | [`branch`] |
//! | the items of several pipelines as one | [`merge`](Stage::merge) |
//! | pipelines of different stages as one type | [`boxed`](Stage::boxed) |
//! | a limit on how many items go on in a second | [`throttle`](Stage::throttle) |
//! | somewhere for the items to go | [`for_each`](Stage::for_each), [`try_for_each`](Stage::try_for_each), [`fold`](Stage::fold), [`collect`](Stage::collect), [`into_sink`](Stage::into_sink) |
//! | somebody who takes them one by one | [`into_stream`](Stage::into_stream), [`into_channel`] |
//! | to stop, drain and abort it from a shutdown | [`start`], whose [`Pipeline`] is a component |
//!
//! # Example
//!
#![cfg_attr(feature = "tokio", doc = "```")]
#![cfg_attr(not(feature = "tokio"), doc = "```ignore")]
//! use selvedge_cancel::Context;
//! use selvedge_pipeline::{Order, from_iter};
//!
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(async {
//! let ended = from_iter(1..=10_u64)
//!     .filter(|n| n % 2 == 0)
//!     .workers(4, Order::Ordered, |n| async move { Ok::<_, std::io::Error>(n * n) })
//!     .named("square")
//!     .collect()
//!     .run(&Context::background())
//!     .await;
//! assert!(ended.report.adds_up());
//! assert_eq!(ended.ok().unwrap(), [4, 16, 36, 64, 100]);
//! # });
//! ```
//!
//! # Stop, abort, errors
//!
//! | what happens | the source | work under way | the sink |
//! |---|---|---|---|
//! | the context is stopping | ends; what it has not given stays where it is | is finished | takes everything |
//! | the context is cancelled | ends | is dropped, and counted as left | takes what was finished and it has room for, in order, gaps skipped |
//! | an item fails or panics | ends | ordered: what comes before is finished, the rest dropped; unordered: dropped | takes what comes before (unordered: what was complete), then nothing |
//! | the sink fails | ends | is dropped, and counted as left | takes nothing more |
//! | a pool is stopping | ends | what the pool accepted is finished | takes it |
//! | a pool is aborted | ends | as when cancelled | as when cancelled |
//!
//! An item that fails at a stage that [skips](Stage::skip_failed) it ends nothing. A batch in hand
//! goes on whatever ended its source, and before an error.
//!
//! Of several failures the first that comes out is told; one that an earlier end kept from coming
//! out is counted as left. A failure goes before a panic of a destructor, and both go before the end
//! of the context. A cancel that comes too late to lose anything changes nothing.
//!
//! # Guarantees
//!
//! - When [`run`](Ready::run) returns, no task that it started is alive. Blocking closures that do
//!   not look at their context run out on their pool, which names them.
//! - Every stage's [counts](StageReport) add up: what entered came out, was filtered, was skipped,
//!   failed, or was left. What one stage [emitted](StageReport::emitted), the next was given.
//! - Work under way is always driven: a worker's place in the output is reserved before it starts,
//!   so completing never waits for the sink. A program that deadlocks with `buffered` streams
//!   because nobody polls them does not deadlock here.
//! - Never more items are under way or waiting for the sink than a stage's window holds.
//! - A panic in a closure becomes an error with the stage's name, the item's index and the payload.
//!   So does one in the destructor of something that a stage held; other items are not lost by it.
//!
//! # When not to use it
//!
//! A loop is a fine pipeline when nothing overlaps. For pure computation over a slice, a
//! data-parallel library, such as rayon, is faster. A source (an iterator, a stream, a generator's body) is
//! paused by back-pressure in mid-flight: it must not hold a lock or a permit that a stage needs.
//!
//! # Features
//!
//! - `tokio` (default): [`workers`], [`blocking`], [`branch`] and [`start`], which run in tasks. Without it,
//!   sources, fused stages and sinks remain, and run on any executor.
//! - `channel` (default): [`from_channel`] and [`into_channel`], for `async-channel`.
//! - `loom`: model checking; takes effect only under `--cfg selvedge_loom`.
//!
#![cfg_attr(feature = "tokio", doc = "[`workers`]: Stage::workers")]
#![cfg_attr(feature = "tokio", doc = "[`blocking`]: Stage::blocking")]
#![cfg_attr(feature = "tokio", doc = "[`branch`]: Stage::branch")]
#![cfg_attr(feature = "tokio", doc = "[`start`]: Ready::start")]
#![cfg_attr(feature = "channel", doc = "[`into_channel`]: Stage::into_channel")]
// What a feature brings that is off leads to the list of features.
#![cfg_attr(not(feature = "tokio"), doc = "[`workers`]: #features")]
#![cfg_attr(not(feature = "tokio"), doc = "[`blocking`]: #features")]
#![cfg_attr(not(feature = "tokio"), doc = "[`branch`]: #features")]
#![cfg_attr(not(feature = "tokio"), doc = "[`start`]: #features")]
#![cfg_attr(not(feature = "tokio"), doc = "[`Order`]: #features")]
#![cfg_attr(not(feature = "tokio"), doc = "[`Pipeline`]: #features")]
#![cfg_attr(not(feature = "channel"), doc = "[`from_channel`]: #features")]
#![cfg_attr(not(feature = "channel"), doc = "[`into_channel`]: #features")]
#![forbid(unsafe_code)]

mod alarm;
mod batch;
#[cfg(feature = "tokio")]
mod blocking;
mod boxed;
#[cfg(feature = "tokio")]
mod branch;
mod caught;
#[cfg(feature = "tokio")]
mod component;
mod end;
mod error;
mod fault;
mod flow;
mod fused;
mod generate;
#[cfg(feature = "tokio")]
mod halt;
#[cfg(feature = "channel")]
mod into_channel;
mod into_stream;
mod lanes;
mod launch;
mod merge;
mod report;
mod run;
mod sink;
mod skip;
mod source;
mod stage;
mod throttle;
#[cfg(feature = "tokio")]
mod window;
#[cfg(feature = "tokio")]
mod workers;

/// The seams between stages: names for types that appear in signatures, nothing to use.
#[doc(hidden)]
pub mod seams {
    pub use crate::batch::BatchFlow;
    #[cfg(feature = "tokio")]
    pub use crate::branch::{BranchFlow, LaneFlow};
    pub use crate::flow::Flow;
    pub use crate::fused::{FusedFlow, Step, Verdict};
    pub use crate::generate::GeneratorFlow;
    pub use crate::launch::Launch;
    pub use crate::merge::MergeFlow;
    pub use crate::skip::{Fallible, OnSkip};
    pub use crate::source::{IterFlow, StreamFlow, TickFlow};
    pub use crate::throttle::ThrottleFlow;
    #[cfg(feature = "tokio")]
    pub use crate::window::WindowFlow;
}

pub use batch::Batch;
#[cfg(feature = "tokio")]
pub use blocking::Blocking;
pub use boxed::Boxed;
#[cfg(feature = "tokio")]
pub use branch::{Branched, Lane};
#[cfg(feature = "tokio")]
pub use component::{Join, Pipeline, StartError};
pub use error::PipelineError;
pub use flow::Build;
pub use fused::{Filter, Fused, Map, TryMap};
pub use generate::{Generator, Give, Reserve, Room, Yielder, generate};
#[cfg(feature = "channel")]
pub use into_channel::{ChannelClosed, IntoChannel};
pub use into_stream::Items;
pub use merge::Merged;
pub use report::{Report, StageReport};
pub use run::{Ended, Ready, Run};
#[cfg(feature = "tokio")]
pub use selvedge_fanio::{Order, Route};
pub use selvedge_primitives::{NextItem, Panic};
pub use sink::{Collect, Fold, ForEach, Sink, TryForEach};
#[cfg(feature = "channel")]
pub use source::from_channel;
pub use source::{FromIter, FromStream, Ticks, from_iter, from_stream, ticks};
pub use stage::Stage;
pub use throttle::Throttled;
#[cfg(feature = "tokio")]
pub use workers::Workers;

/// The examples of the README, compiled and run with the others.
#[cfg(all(doctest, feature = "channel", feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
