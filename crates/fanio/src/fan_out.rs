//! Fan-out: the items of one stream to several consumers.
//!
//! The face. `fan_out/feed.rs` reads the source and says how it ends, `fan_out/lane.rs` is the
//! queue between the feed and the outlets, `fan_out/route.rs` says which of them an item goes to,
//! and `fan_out/outlet.rs` is where it comes out.

mod feed;
mod lane;
mod outlet;
mod route;

pub use feed::{FanOut, FanOutReport};
pub use outlet::{Outlet, Take};
pub use route::Route;

use std::sync::Arc;

use futures_core::Stream;
use selvedge_cancel::Context;

use crate::MAX_CAPACITY;
use lane::Shared;

/// The most consumers of one fan-out.
const MAX_CONSUMERS: usize = u16::MAX as usize;

/// Why there is no fan-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FanOutError {
    /// No consumers, or more than 65,535.
    #[error("fan-out not made: {0} consumers, it must be 1 to {MAX_CONSUMERS}")]
    Consumers(
        /// How many.
        usize,
    ),
    /// A queue of nothing, or of more than [`MAX_CAPACITY`].
    #[error("fan-out not made: a capacity of {0}, it must be 1 to {MAX_CAPACITY}")]
    Capacity(
        /// How much.
        usize,
    ),
}

/// Hands each item of a stream to one of several consumers, through bounded queues.
///
/// Returns the feed, a future that reads the source, and the consumers' ends. The feed does the work
/// wherever it is polled: spawn it, or join it with the consumers. [`Route`] says who gets what, and
/// `capacity` how many items a queue holds: the one that all share, or each consumer's own.
///
/// # How it ends
///
/// | event | the feed | an outlet |
/// |---|---|---|
/// | the source ends | waits until every queue is empty, then completes | gives what is in its queue, then nothing |
/// | the context is stopping | reads no more, then as above | as above |
/// | the context is cancelled | completes at once | as above |
/// | an outlet is dropped | hands its share to the others, or reads no more, as [`Route`] says | |
/// | all outlets are dropped | completes, with what nobody took in its [report](FanOutReport) | |
/// | the feed is dropped, or panics | | as above |
///
/// What a dropped outlet leaves in a queue of its own after the source has ended goes to nobody any
/// more, and into the report.
///
/// # Cancel safety
///
/// Of the feed: dropped before it has completed, it loses the item that waits for room, what it took back
/// from outlets that are gone, and what it would have reported. End it by the context, or by dropping the outlets.
///
/// # Fairness
///
/// The source is read as fast as the slowest queue that an item is routed to.
///
/// # Memory ordering
///
/// What preceded an item's way into its queue happens before it is taken; what preceded that it was
/// taken happens before the feed completes, unless that was cancelled.
///
/// # Errors
///
/// [`FanOutError::Consumers`] and [`FanOutError::Capacity`], as their names say.
///
/// # Panics
///
/// The feed goes on with a panic of the source and of the route's function; the item in hand is
/// dropped, and the outlets end. A feed that is polled after it has completed reports that it read as
/// many as before, and what was left by outlets that are gone since.
///
/// # Examples
///
/// Three workers on one queue:
///
/// ```
/// use selvedge_cancel::Context;
/// use selvedge_fanio::{Route, fan_out, iter};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ctx = Context::background();
/// let (feed, outlets) = fan_out(iter(0..100_u64), 3, 4, Route::shared(), &ctx)?;
/// let feed = tokio::spawn(feed);
/// let workers: Vec<_> = outlets
///     .into_iter()
///     .map(|mut outlet| {
///         tokio::spawn(async move {
///             let mut sum = 0;
///             while let Some(number) = outlet.next().await {
///                 sum += number;
///             }
///             sum
///         })
///     })
///     .collect();
///
/// let mut sum = 0;
/// for worker in workers {
///     sum += worker.await?;
/// }
/// assert_eq!(sum, 4950);
/// let report = feed.await?;
/// assert!(report.complete && report.left.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// # Algorithm
///
/// A lock a queue, taken once for an item on each side; who waits for an item is in the wait queue
/// of the house, and allocates nothing. The feed is woken when there is room in the queue that it
/// waits for.
#[track_caller]
#[expect(clippy::type_complexity, reason = "a pair, taken apart at once")]
pub fn fan_out<S>(
    source: S,
    consumers: usize,
    capacity: usize,
    route: Route<S::Item>,
    ctx: &Context,
) -> Result<(FanOut<S>, Vec<Outlet<S::Item>>), FanOutError>
where
    S: Stream<Item: Send + 'static>,
{
    if !(1..=MAX_CONSUMERS).contains(&consumers) {
        return Err(FanOutError::Consumers(consumers));
    }
    if !(1..=MAX_CAPACITY).contains(&capacity) {
        return Err(FanOutError::Capacity(capacity));
    }
    let (lanes, of_each) = route.lanes(consumers);
    let shared = Arc::new(Shared::new(lanes, of_each, capacity));
    let outlets = (0..consumers).map(|outlet| Outlet::new(&shared, outlet / of_each)).collect();
    Ok((FanOut::new(source, &shared, route, ctx), outlets))
}
