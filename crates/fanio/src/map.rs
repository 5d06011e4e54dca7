//! Concurrent mapping: a future for each item of a stream, several at a time, each in a task of its
//! own; the results in order, or as they come.
//!
//! The face. `map/engine.rs` says what is started when and how it ends, `map/work.rs` is the task of
//! one item, and the window of this crate lies between them.

mod engine;
mod error;
mod work;

pub use error::MapError;

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use futures_core::Stream;
use selvedge_cancel::Context;
use selvedge_primitives::Origin;

use crate::{NextItem, Order, WindowError};
use engine::{Engine, Numbered};

/// Runs `f` for each item of a stream, for up to `limit` items at a time, each future in a tokio task
/// of its own; gives the results as a stream, in the order of the items or as they come. For the
/// items of an iterator take [`iter`](crate::iter()).
///
/// `limit` counts what has been started and not been given out: what runs, and what is done and waits
/// for whoever reads, or, in order, for those before it. So it bounds the memory as well.
///
/// # Examples
///
/// ```
/// use selvedge_cancel::Context;
/// use selvedge_fanio::{Order, iter, map_concurrent};
///
/// # async fn fetch(page: u32) -> Result<String, std::num::ParseIntError> { Ok(format!("page {page}")) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ctx = Context::background();
/// let mut pages = map_concurrent(iter(1..=3), 2, Order::Ordered, &ctx, fetch)?;
/// let mut seen = Vec::new();
/// while let Some(page) = pages.next().await {
///     // The first `?` is for a future that panicked or was cancelled, the second for its own error.
///     seen.push(page??);
/// }
/// assert_eq!(seen, ["page 1", "page 2", "page 3"]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`WindowError::Zero`] for a limit of 0, [`WindowError::TooLarge`] for one of more than
/// [`MAX_CAPACITY`](crate::MAX_CAPACITY). What happens to an item is told in its place, as a
/// [`MapError`].
#[track_caller]
pub fn map_concurrent<S, F, Fut>(
    source: S,
    limit: usize,
    order: Order,
    ctx: &Context,
    f: F,
) -> Result<MapConcurrent<S, F, Fut::Output>, WindowError>
where
    S: Stream,
    F: FnMut(S::Item) -> Fut,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    let engine = Engine::new(source, limit, order, ctx, f)?;
    Ok(MapConcurrent { engine: Box::pin(engine), origin: Origin::here() })
}

/// The results of a function, run for several items at a time; from [`map_concurrent`]. A stream of
/// them.
///
/// # What was started is driven
///
/// A future that was started is a task, so it is driven whatever the reader does: it never waits for
/// the reader to come back, as one in futures' `buffered` does, and what it holds (a permit, a lock,
/// the turn at a channel) is never held by something that nobody polls. A result has its place before
/// its future starts, so to finish never waits either. The source and `f` run where the results are
/// read, and rest while nobody reads: a source that holds a permit from one item to the next is the
/// one thing that can still stop those who wait for it.
///
/// # How it ends
///
/// | event | source | futures that run | the stream gives |
/// |---|---|---|---|
/// | the source ends | dropped | go on | what they return, then nothing |
/// | the context is stopping | dropped, not read to its end | go on | what they return, then [`MapError::Stopped`] |
/// | the context is cancelled | as above | dropped at their next `await` | [`MapError::Cancelled`] for each, then [`MapError::Stopped`] |
/// | a future, or `f`, panics | goes on | go on | [`MapError::Panicked`] in its place |
/// | the source panics | dropped | go on | what they return, then [`MapError::Panicked`] |
/// | the runtime is shut down | goes on | dropped by it | [`MapError::Lost`] for each |
/// | the stream is dropped | dropped | dropped at their next `await` | |
///
/// When it has ended, with none, nothing that it started is alive: each future was dropped before its
/// result came out. After a drop they are alive until their next `await`.
///
/// # Cancel safety
///
/// A `next` that is dropped loses nothing; what it would have given comes with the next one.
///
/// # Fairness
///
/// Items are started in the order of the source. In order, one that takes long holds up the results
/// behind it, and when `limit` of them wait, nothing is started until it is done.
///
/// Each look at the source spends a unit of tokio's cooperative budget, and so does a result; once that
/// is spent, the task that reads yields. Outside of tokio's tasks there is no budget, and one poll starts
/// as many as there is room for.
///
/// # Memory ordering
///
/// What a future did, its drop included, happens before its result comes out; what preceded the poll
/// that started it happens before its first poll.
///
/// # Panics
///
/// To read does not panic: a panic of the source, of `f` or of a future is told in its place. Dropping
/// the stream goes on with a panic of the destructor of the source, of `f`, or of results that nobody
/// took; the results are all dropped before.
///
/// # Algorithm
///
/// The crate's [window](crate::window()), and a task an item. A poll takes a result out, and then
/// starts what there is room for.
#[must_use = "streams do nothing unless polled"]
pub struct MapConcurrent<S, F, T> {
    /// Starts and gives out; in a box because the source is pinned.
    engine: Pin<Box<Engine<S, F, T>>>,
    /// Where it was made.
    origin: Origin,
}

impl<S, F, T> MapConcurrent<S, F, T> {
    /// How many were started and not given out yet.
    pub fn in_flight(&self) -> usize {
        self.engine.in_flight()
    }

    /// Cancels what runs, and starts nothing more; their ends still come out.
    pub(crate) fn cancel(&self) {
        self.engine.cancel();
    }
}

impl<S, F, Fut, T> MapConcurrent<S, F, T>
where
    S: Stream,
    F: FnMut(S::Item) -> Fut,
    Fut: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    /// The next result; none when it has ended. See [`MapConcurrent`].
    #[track_caller]
    pub const fn next(&mut self) -> NextItem<'_, Self> {
        NextItem::new(self)
    }

    /// The next result, behind the number of its item.
    pub(crate) fn poll_numbered(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Numbered<T>>> {
        self.engine.as_mut().poll_next(cx)
    }
}

impl<S, F, Fut, T> Stream for MapConcurrent<S, F, T>
where
    S: Stream,
    F: FnMut(S::Item) -> Fut,
    Fut: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    type Item = Result<T, MapError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.poll_numbered(cx).map(|numbered| numbered.map(|(_, result)| result))
    }
}

impl<S, F, T> fmt::Debug for MapConcurrent<S, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapConcurrent")
            .field("origin", &self.origin)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
