//! The first of several futures that succeeds.
//!
//! A mapping of futures by themselves, as they come; `map/engine.rs` has what can happen to a future.
//! The first that succeeds cancels the others, and is kept until their ends have come out as well.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use selvedge_cancel::Context;
use selvedge_primitives::contain;

use crate::all::{Tasks, not_started, tasks};
use crate::{MapError, Order};

/// Runs all futures at once, each in a tokio task of its own, for the first that succeeds; cancels
/// the others, and waits until they are gone.
///
/// Go's replicated request: the same question to several servers. Completes with the value of the
/// first that returned `Ok`, or, when every one has failed, with all failures. The end of the context
/// is the deadline.
///
/// Nothing starts before the first poll. Futures of several types become one as
/// `Pin<Box<dyn Future<Output = Result<T, E>> + Send>>`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use selvedge_cancel::Context;
/// use selvedge_fanio::first_ok;
/// use tokio::time::sleep;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// async fn ask(server: u64) -> Result<String, String> {
///     sleep(Duration::from_millis(100 * server)).await;
///     if server == 1 { Err("overloaded".to_owned()) } else { Ok(format!("server {server}")) }
/// }
///
/// let (ctx, _canceller) = Context::background().with_timeout(Duration::from_secs(1))?;
/// assert_eq!(first_ok([ask(1), ask(2), ask(3)], &ctx).await?, "server 2");
///
/// let error = first_ok([ask(1), ask(60)], &ctx).await.unwrap_err();
/// assert_eq!(error.to_string(), "none of 2 futures succeeded; the first: overloaded");
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn first_ok<I, T, E>(futures: I, ctx: &Context) -> FirstOk<I::Item, T, E>
where
    I: IntoIterator<Item: Future<Output = Result<T, E>> + Send + 'static>,
    T: Send + 'static,
    E: Send + 'static,
{
    let (tasks, count) = tasks(futures, Order::Unordered, ctx);
    FirstOk { tasks, first: None, failures: (0..count).map(|_| None).collect(), completed: false }
}

/// Completes with the first success of several futures, or with all their failures; from
/// [`first_ok`].
///
/// # How it ends
///
/// | event | the others | it gives |
/// |---|---|---|
/// | a future returns `Ok` | dropped at their next `await` | the value, when they are gone |
/// | a future returns `Err`, panics, or is lost with its runtime | go on | its failure, if all fail |
/// | the context is cancelled, or its deadline comes | dropped at their next `await`, or not started | a value that had come before; else [`NoneOk`] |
/// | the context is stopping | go on, if they had been started | as if it were not; those that had not been started have failed |
/// | there is no runtime | are not started | [`NoneOk`] |
/// | there are no futures | | [`NoneOk`], at once |
///
/// When it completes, nothing that it started is alive. So a future that blocks its thread holds the
/// value up. Of two that succeed at the same time one wins, and the other's value is dropped.
///
/// # Cancel safety
///
/// Dropping it cancels the futures, which end at their next `await`, and loses a value that had come.
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
/// # Errors
///
/// [`NoneOk`], with the failure of each.
///
/// # Panics
///
/// When it is polled again after it completed. A panic of the destructor of a value or an error that
/// nobody gets is reported by the hook, and ends there.
///
/// # Algorithm
///
/// A [mapping](crate::map_concurrent()) of the futures by themselves, as many at a time as there are:
/// a task a future and three short critical sections of the window; one cancel of a context.
#[must_use = "futures do nothing unless polled"]
pub struct FirstOk<F: Future, T, E> {
    /// The futures, as they come.
    tasks: Tasks<F>,
    /// The first value.
    first: Option<T>,
    /// The failures, by the number of their future.
    failures: Vec<Option<Failure<E>>>,
    /// Whether it has completed.
    completed: bool,
}

/// Every future of a [`first_ok`] has failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct NoneOk<E> {
    /// How each has failed, in the order of the futures.
    pub failures: Vec<Failure<E>>,
}

/// How a future of a [`first_ok`] has failed.
#[derive(Debug)]
pub enum Failure<E> {
    /// It returned an error.
    Returned(E),
    /// It returned nothing.
    Ended(MapError),
}

impl<E: fmt::Display> fmt::Display for NoneOk<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none of {} futures succeeded", self.failures.len())?;
        self.failures.first().map_or(Ok(()), |first| write!(f, "; the first: {first}"))
    }
}

impl<E: fmt::Debug + fmt::Display> Error for NoneOk<E> {}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned(error) => error.fmt(f),
            Self::Ended(error) => error.fmt(f),
        }
    }
}

impl<F: Future, T, E> FirstOk<F, T, E> {
    /// A future has ended.
    fn ended(&mut self, index: u64, result: Result<Result<T, E>, MapError>) {
        let failure = match result {
            Ok(Ok(value)) if self.first.is_none() => {
                self.first = Some(value);
                self.tasks.cancel();
                return;
            }
            Ok(Ok(value)) => return contain(|| drop(value)),
            Ok(Err(error)) => Failure::Returned(error),
            Err(why @ (MapError::Stopped { .. } | MapError::NoRuntime)) => {
                for index in index..self.failures.len() as u64 {
                    let failure = Failure::Ended(not_started(index, &why));
                    self.failures[index as usize] = Some(failure);
                }
                return;
            }
            Err(error) => Failure::Ended(error),
        };
        self.failures[index as usize] = Some(failure);
    }
}

// The futures are in tasks, or on their way there in a box; nothing is pinned here.
impl<F: Future, T, E> Unpin for FirstOk<F, T, E> {}

impl<F, T, E> Future for FirstOk<F, T, E>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<T, NoneOk<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        assert!(!self.completed, "`FirstOk` polled after it completed");
        while let Some((index, result)) = ready!(self.tasks.poll_numbered(cx)) {
            self.ended(index, result);
        }
        self.completed = true;
        let failures = std::mem::take(&mut self.failures);
        Poll::Ready(match self.first.take() {
            Some(value) => {
                failures.into_iter().for_each(|failure| contain(|| drop(failure)));
                Ok(value)
            }
            None => Err(NoneOk { failures: failures.into_iter().flatten().collect() }),
        })
    }
}

impl<F: Future, T, E> fmt::Debug for FirstOk<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstOk")
            .field("futures", &self.failures.len())
            .field("running", &self.tasks.in_flight())
            .field("succeeded", &self.first.is_some())
            .finish_non_exhaustive()
    }
}
