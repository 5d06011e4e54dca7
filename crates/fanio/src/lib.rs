//! Fan-out and fan-in: concurrent work whose results come together again, in order or as they
//! come, within a bound.
//!
//! Fan-out is [`map_concurrent`]: an async function for each item of a stream, several at a time, each
//! in a task of its own; the results in order or as they come. Or [`fan_out()`]: the items of one
//! stream to several consumers, through bounded queues. Scatter and gather are [`all`] and
//! [`first_ok`]: several futures at once, until each has ended or the first has succeeded.
//!
//! Fan-in is [`merge()`]: several streams become one, each of them served within a proven bound.
//!
//! Under [`map_concurrent`], [`all`] and [`first_ok`] lies the [`window()`]; take it yourself for work that
//! is not done by tokio's tasks. A driver takes jobs one by one and hands each to a worker; a reader wants
//! the results, in the order of the jobs or as they come. Between them lies the window: the driver
//! *reserves* a [`Slot`] before it starts a job, the worker *completes* it, the reader takes what is next
//! in turn. Completing never waits, so a finished worker is free however slow the reader is; reserving
//! waits, so no more than the capacity is ever under way or piled up.
//!
//! # Which one do I want?
//!
//! | you want | take |
//! |---|---|
//! | an async function for each item of a stream, `n` at a time | [`map_concurrent`]`(stream, n, order, &ctx, f)` |
//! | the same for an iterator | the same of [`iter()`] |
//! | several futures at once, and what became of each, by a deadline | [`all`]`(futures, &ctx)` |
//! | the first of several futures that succeeds, the others cancelled | [`first_ok`]`(futures, &ctx)` |
//! | consumers that share the items of a stream, whoever is free | [`fan_out`]`(stream, n, capacity, `[`Route::shared`]`(), &ctx)` |
//! | each consumer in turn, each key to one consumer, or as a function says | [`Route::round_robin`], [`Route::by_key`], [`Route::by_index`] |
//! | what is for a consumer that is gone to go to nobody else | [`Route::strict`] |
//! | the items of several streams, as they come | [`merge()`] |
//! | the same with the number of the stream | [`Merge::tagged`] |
//! | jobs done by workers of your own, the results in their order | [`window`]`(n, `[`Order::Ordered`]`)` |
//! | the same, each result as soon as it is there | [`window`]`(n, `[`Order::Unordered`]`)` |
//! | to start a job only when its result has a place | [`Entry::reserve`], [`Entry::try_reserve`] |
//! | to keep a pending reservation in a struct | [`Entry::reserve_owned`] |
//! | to give up a job without holding up those behind it | drop its [`Slot`] |
//! | the results | [`Exit::next`], [`Exit::try_next`], or [`Exit`] as a stream |
//! | to stop taking jobs and still get what was begun | [`Entry::close`], [`Exit::close`] |
//! | to stop at once | drop the [`Exit`] |
//!
//! # Examples
//!
//! Pages fetched four at a time, in order:
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn fetch(page: u32) -> String { format!("page {page}") }
//! use selvedge_cancel::Context;
//! use selvedge_fanio::{Order, iter, map_concurrent};
//!
//! let ctx = Context::background();
//! let mut pages = map_concurrent(iter(0..100), 4, Order::Ordered, &ctx, fetch)?;
//! let mut expected = 0;
//! while let Some(page) = pages.next().await {
//!     assert_eq!(page?, format!("page {expected}"));
//!     expected += 1;
//! }
//! # assert_eq!(expected, 100);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! Four jobs at a time by tasks of your own, over the window; one job fails:
//!
//! ```
//! use selvedge_fanio::{Emitted, Order, window};
//!
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(async {
//! let (entry, mut exit) = window(4, Order::Ordered).unwrap();
//! tokio::spawn(async move {
//!     for word in ["1", "2", "three", "4"] {
//!         let Ok(slot) = entry.reserve().await else { return };
//!         tokio::spawn(async move {
//!             if let Ok(number) = word.parse::<i32>() {
//!                 slot.complete(number);
//!             }
//!         });
//!     }
//! });
//!
//! let mut seen = Vec::new();
//! while let Some(emitted) = exit.next().await {
//!     seen.push(match emitted {
//!         Emitted::Item { value, .. } => format!("{value}"),
//!         Emitted::Gap { sequence } => format!("(number {sequence} is missing)"),
//!     });
//! }
//! assert_eq!(seen, ["1", "2", "(number 2 is missing)", "4"]);
//! # });
//! ```
//!
//! # Guarantees
//!
//! - What [`map_concurrent`] started is always driven, whatever the reader waits for; when its stream
//!   has ended, nothing that it started is alive.
//! - Every item that a feed of [`fan_out`] read is taken by one consumer, is in the feed's report, or, after
//!   a cancel, still lies in the queue of a consumer that may take it; also when consumers come to their end
//!   early. The items of a key keep their order. A feed that is dropped before it has completed, or that
//!   panics, reports nothing.
//! - Reserved and not yet emitted are never more than the capacity, and exactly the capacity can
//!   be.
//! - Every slot comes out once: as an item, or as a gap that names it. [`Counts`] adds up at every
//!   moment.
//! - [`Slot::complete`] never waits.
//! - Dropping a wait loses nothing: room that was granted goes to the next in the queue, and no sequence
//!   number is spent on it. What dropping a feed, `All` or `FirstOk` loses is said there.
//! - Slots are granted first come, first served.
//! - No waker and no destructor of a value runs under the lock. A waker that panics harms nobody.
//! - A merge polls only what was woken. With N sources and a quantum of q, the others give at most
//!   (N-1)·q items between the moment in which a source is ready and the item that it gives.
//! - A source of a merge that panics ends alone; its panic goes on when the others have ended.
//! - Every race named in `window/engine.rs`, `merge/bitmap.rs` and `fan_out/lane.rs` is explored by
//!   loom, from `tests/loom.rs`.
//!
//! # When not to use it
//!
//! A channel does when the results are sent by workers that may wait for the reader. Tokio's `JoinSet` does
//! when the number of jobs is small and known. Where each job is a few nanoseconds, hand out jobs
//! in chunks: a slot costs three short critical sections.
//!
//! A reader that holds what a worker needs (a permit, a lock) while it waits for that worker stops
//! itself; the window cannot see that.
//!
//! # Features
//!
//! - `tokio` (default): `map_concurrent`, `all` and `first_ok`, and tokio's cooperative budget.
//!   Without it those are not there; the rest runs on any executor all the same, and never yields while
//!   it is ready.
//! - `loom`: model checking; takes effect only under `--cfg selvedge_loom`.
#![deny(unsafe_code)]

#[cfg(feature = "tokio")]
mod all;
mod fan_out;
#[cfg(feature = "tokio")]
mod first_ok;
mod iter;
#[cfg(feature = "tokio")]
mod map;
mod merge;
mod window;

#[cfg(feature = "tokio")]
pub use all::{All, all};
pub use fan_out::{FanOut, FanOutError, FanOutReport, Outlet, Route, Take, fan_out};
#[cfg(feature = "tokio")]
pub use first_ok::{Failure, FirstOk, NoneOk, first_ok};
pub use iter::{Iter, iter};
#[cfg(feature = "tokio")]
pub use map::{MapConcurrent, MapError, map_concurrent};
pub use merge::{Merge, Tagged, merge};
pub use selvedge_primitives::NextItem;
pub use selvedge_primitives::Panic;
pub use window::{
    Closed, Counts, Emitted, Entry, Exit, MAX_CAPACITY, Next, Order, Reserve, Slot, TryNextError,
    TryReserveError, WindowError, window,
};

/// The example of the README, compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
