//! Scatter and gather: several futures at once, and what became of each of them.
//!
//! A mapping of futures by themselves, as many at a time as there are; `map/engine.rs` has what can
//! happen to a future. What is here keeps the results until all are there, and says of those that
//! were never started that they were not.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::vec;

use selvedge_cancel::Context;
use selvedge_primitives::{contain, drop_each};

use crate::{Iter, MAX_CAPACITY, MapConcurrent, MapError, Order, iter, map_concurrent};

/// A mapping of futures by themselves.
pub(crate) type Tasks<F> = MapConcurrent<Iter<Unstarted<F>>, fn(F) -> F, <F as Future>::Output>;

/// Futures that were not started. A destructor of one that panics harms no other.
pub(crate) struct Unstarted<F>(
    /// In order.
    vec::IntoIter<F>,
);

impl<F> Iterator for Unstarted<F> {
    type Item = F;

    fn next(&mut self) -> Option<F> {
        self.0.next()
    }
}

impl<F> Drop for Unstarted<F> {
    fn drop(&mut self) {
        contain(|| drop_each(self.0.by_ref()));
    }
}

/// Prepares a task for each future, all at a time. Returns how many there are as well.
#[track_caller]
pub(crate) fn tasks<I>(futures: I, order: Order, ctx: &Context) -> (Tasks<I::Item>, usize)
where
    I: IntoIterator<Item: Future<Output: Send + 'static> + Send + 'static>,
{
    let futures: Vec<_> = futures.into_iter().collect();
    let count = futures.len();
    let futures = Unstarted(futures.into_iter());
    let itself: fn(I::Item) -> I::Item = std::convert::identity;
    let limit = count.clamp(1, MAX_CAPACITY);
    let tasks = map_concurrent(iter(futures), limit, order, ctx, itself);
    (tasks.expect("the limit is one"), count)
}

/// The error of a future that was never started, when an error at the end of [`Tasks`] is `why`.
pub(crate) fn not_started(index: u64, why: &MapError) -> MapError {
    match why {
        MapError::Stopped { cause, .. } => MapError::Stopped { index, cause: cause.clone() },
        // There is nothing else that keeps futures from being started.
        _ => MapError::NoRuntime,
    }
}

/// Runs all futures at once, each in a tokio task of its own, and waits for every one of them.
///
/// Scatter and gather. Completes with one result a future, in the order of the futures, when all
/// have ended. The end of the context is the deadline: what has not returned by then is dropped, and
/// what has is kept, so a context [with a timeout](Context::with_timeout) gives the answers that came
/// in time.
///
/// | you want | write |
/// |---|---|
/// | all values or the first error | `all(futures, &ctx).await.into_iter().collect::<Result<Vec<_>, _>>()?` |
/// | the values that there are | `all(futures, &ctx).await.into_iter().flatten()` |
/// | to cancel the rest when one fails | a task group of `selvedge-sync` |
/// | the first that succeeds | [`first_ok`](crate::first_ok) |
/// | so many at a time, or the results as they come | [`map_concurrent`](crate::map_concurrent()) |
///
/// Nothing starts before the first poll. Futures of several types become one as
/// `Pin<Box<dyn Future<Output = T> + Send>>`.
///
/// # Examples
///
/// Whoever answers within a second:
///
/// ```
/// use std::time::Duration;
///
/// use selvedge_cancel::Context;
/// use selvedge_fanio::{MapError, all};
/// use tokio::time::sleep;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// async fn ask(server: u64) -> String {
///     sleep(Duration::from_millis(400 * server)).await;
///     format!("server {server}")
/// }
///
/// let (ctx, _canceller) = Context::background().with_timeout(Duration::from_secs(1))?;
/// let answers = all((0..4).map(ask), &ctx).await;
/// assert_eq!(answers[2].as_ref().unwrap(), "server 2");
/// assert!(matches!(answers[3], Err(MapError::Cancelled { index: 3, .. })));
/// assert_eq!(answers.into_iter().flatten().count(), 3);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn all<I>(futures: I, ctx: &Context) -> All<I::Item>
where
    I: IntoIterator<Item: Future<Output: Send + 'static> + Send + 'static>,
{
    let (tasks, count) = tasks(futures, Order::Ordered, ctx);
    All { tasks, count, results: Vec::with_capacity(count), completed: false }
}

/// Completes with what became of each of several futures; from [`all()`].
///
/// # How it ends
///
/// | event | a future that runs | its result |
/// |---|---|---|
/// | it returns | | what it returned |
/// | it panics, or its destructor does | | [`MapError::Panicked`]; the others go on |
/// | the context is cancelled, or its deadline comes | dropped at its next `await` | [`MapError::Cancelled`]; [`MapError::Stopped`] if it had not been started |
/// | the context is stopping | goes on | what it returned; [`MapError::Stopped`] if it had not been started |
/// | the runtime is shut down | dropped by it | [`MapError::Lost`] |
/// | there is no runtime | is not started | [`MapError::NoRuntime`] |
///
/// When it completes, nothing that it started is alive. So a future that blocks its thread holds it
/// up, also beyond a deadline.
///
/// # Cancel safety
///
/// Dropping it cancels the futures, which end at their next `await`, and loses the results.
///
/// # Fairness
///
/// The futures start in their order, and run as tokio schedules tasks. Starting many takes part in
/// tokio's cooperative budget.
///
/// # Memory ordering
///
/// What a future did, its drop included, happens before this completes.
///
/// # Panics
///
/// When it is polled again after it completed.
///
/// # Algorithm
///
/// A [mapping](crate::map_concurrent()) of the futures by themselves, as many at a time as there are:
/// a task a future and three short critical sections of the window. It is woken when the oldest that
/// runs has ended, and not for each.
#[must_use = "futures do nothing unless polled"]
pub struct All<F: Future> {
    /// The futures, in order.
    tasks: Tasks<F>,
    /// How many there are.
    count: usize,
    /// What became of the first of them.
    results: Vec<Result<F::Output, MapError>>,
    /// Whether it has completed.
    completed: bool,
}

// The futures are in tasks, or on their way there in a box; nothing is pinned here.
impl<F: Future> Unpin for All<F> {}

impl<F> Future for All<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Vec<Result<F::Output, MapError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        assert!(!self.completed, "`All` polled after it completed");
        while let Some((index, result)) = ready!(self.tasks.poll_numbered(cx)) {
            match result {
                // What ended the reading of the futures, before its end or just behind it.
                Err(why @ (MapError::Stopped { .. } | MapError::NoRuntime)) => {
                    let rest = index..self.count as u64;
                    self.results.extend(rest.map(|index| Err(not_started(index, &why))));
                }
                result => self.results.push(result),
            }
        }
        self.completed = true;
        Poll::Ready(std::mem::take(&mut self.results))
    }
}

impl<F: Future> fmt::Debug for All<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("All")
            .field("futures", &self.count)
            .field("ended", &self.results.len())
            .finish_non_exhaustive()
    }
}
