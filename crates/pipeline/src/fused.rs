//! Synchronous stages: they run in the loop of whoever pulls, without a task or a queue between.
//!
//! They differ in one step, what becomes of an item, and share everything else: counts, panics, the
//! skip policy, the loop.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::{Origin, Panic};

use crate::flow::{Build, Flow, Next};
use crate::launch::Launch;
use crate::report::LocalCounts;
use crate::skip::{Fallible, OnSkip, skip};
use crate::{PipelineError, Stage};

impl<S: Build> Stage<S> {
    /// Applies a function to each item, in the loop of whoever pulls.
    #[track_caller]
    pub fn map<U, F>(self, f: F) -> Stage<Fused<S, Map<F>>>
    where
        F: FnMut(S::Item) -> U + Send + 'static,
        U: Send + 'static,
    {
        self.fused(Map(f))
    }

    /// Applies a function that may fail to each item, in the loop of whoever pulls.
    ///
    /// An item that fails ends the pipeline, as the table on the [crate's page](crate) says, unless
    /// failed items are [skipped](Stage::skip_failed). A source of results goes on with
    /// `.try_map(|result| result)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::from_iter;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let numbers = || from_iter(["1", "2", "three"]).try_map(str::parse::<u32>).named("parse");
    ///
    /// let ended = numbers().collect().run(&Context::background()).await;
    /// assert_eq!(ended.output, [1, 2], "what comes before is finished");
    /// assert_eq!(ended.error.unwrap().to_string(), "stage parse failed at item 2");
    ///
    /// let ended = numbers().skip_failed(|error| println!("{error}")).collect();
    /// let ended = ended.run(&Context::background()).await;
    /// assert_eq!(ended.report.stage("parse").unwrap().skipped, 1);
    /// assert_eq!(ended.ok().unwrap(), [1, 2]);
    /// # });
    /// ```
    #[track_caller]
    pub fn try_map<U, E, F>(self, f: F) -> Stage<Fused<S, TryMap<F>>>
    where
        F: FnMut(S::Item) -> Result<U, E> + Send + 'static,
        U: Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.fused(TryMap { f, on_skip: None })
    }

    /// Keeps the items for which the predicate is true, in the loop of whoever pulls.
    #[track_caller]
    pub fn filter<P>(self, predicate: P) -> Stage<Fused<S, Filter<P>>>
    where
        P: FnMut(&S::Item) -> bool + Send + 'static,
    {
        self.fused(Filter(predicate))
    }

    /// Adds a stage of that step.
    #[track_caller]
    fn fused<K: Step<S::Item>>(self, step: K) -> Stage<Fused<S, K>> {
        Stage::new(Fused { upstream: self.description, step, origin: Origin::here() })
    }
}

/// What a synchronous stage does with an item.
pub trait Step<T>: Send + 'static {
    /// What goes on.
    type Output: Send + 'static;

    /// The name of such a stage that has none.
    const KIND: &'static str;

    /// What becomes of an item.
    fn apply(&mut self, item: T) -> Verdict<Self::Output>;

    /// Who is told of failed items, if they are skipped.
    fn on_skip(&mut self) -> Option<&mut OnSkip> {
        None
    }
}

/// What becomes of an item.
#[derive(Debug)]
pub enum Verdict<U> {
    /// It goes on, as this.
    Pass(U),
    /// It is filtered out.
    Filter,
    /// It failed.
    Fail(Box<dyn Error + Send + Sync>),
}

/// Applies a function to each item; from [`Stage::map`].
pub struct Map<F>(
    /// The function.
    F,
);

/// Applies a function that may fail to each item; from [`Stage::try_map`].
pub struct TryMap<F> {
    /// The function.
    f: F,
    /// Who is told of failed items, if they are skipped.
    on_skip: Option<OnSkip>,
}

/// Keeps the items that a predicate wants; from [`Stage::filter`].
pub struct Filter<P>(
    /// The predicate.
    P,
);

impl<F> fmt::Debug for Map<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Map")
    }
}

impl<F> fmt::Debug for TryMap<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TryMap")
    }
}

impl<P> fmt::Debug for Filter<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

impl<T, U, F> Step<T> for Map<F>
where
    F: FnMut(T) -> U + Send + 'static,
    U: Send + 'static,
{
    type Output = U;

    const KIND: &'static str = "map";

    fn apply(&mut self, item: T) -> Verdict<U> {
        Verdict::Pass((self.0)(item))
    }
}

impl<T, U, E, F> Step<T> for TryMap<F>
where
    F: FnMut(T) -> Result<U, E> + Send + 'static,
    U: Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = U;

    const KIND: &'static str = "try_map";

    fn apply(&mut self, item: T) -> Verdict<U> {
        match (self.f)(item) {
            Ok(mapped) => Verdict::Pass(mapped),
            Err(error) => Verdict::Fail(error.into()),
        }
    }

    fn on_skip(&mut self) -> Option<&mut OnSkip> {
        self.on_skip.as_mut()
    }
}

impl<T, P> Step<T> for Filter<P>
where
    P: FnMut(&T) -> bool + Send + 'static,
    T: Send + 'static,
{
    type Output = T;

    const KIND: &'static str = "filter";

    fn apply(&mut self, item: T) -> Verdict<T> {
        // An item that is not wanted is dropped here, where a panic of its destructor is caught.
        if (self.0)(&item) { Verdict::Pass(item) } else { Verdict::Filter }
    }
}

/// A synchronous stage; from [`Stage::map`], [`Stage::try_map`] and [`Stage::filter`].
pub struct Fused<S, K> {
    /// What comes before.
    upstream: S,
    /// What it does with an item.
    step: K,
    /// Name and place.
    origin: Origin,
}

impl<S, K: fmt::Debug> fmt::Debug for Fused<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.step, self.origin)
    }
}

impl<S: Build, K: Step<S::Item>> Build for Fused<S, K> {
    type Item = K::Output;
    type Flow = FusedFlow<S::Flow, K>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let upstream = self.upstream.build(launch)?;
        let counts = LocalCounts::new(launch.stage(self.origin, K::KIND));
        Ok(FusedFlow { upstream, step: self.step, counts })
    }
}

impl<S: Build, F> Fallible for Fused<S, TryMap<F>>
where
    TryMap<F>: Step<S::Item>,
{
    fn skip_failed(&mut self, on_skip: OnSkip) {
        self.step.on_skip = Some(on_skip);
    }
}

/// A synchronous stage that is being run.
#[pin_project]
pub struct FusedFlow<S, K> {
    /// What comes before.
    #[pin]
    upstream: S,
    /// What it does with an item.
    step: K,
    /// What went through.
    counts: LocalCounts,
}

impl<S, K> fmt::Debug for FusedFlow<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FusedFlow").finish_non_exhaustive()
    }
}

impl<S: Flow, K: Step<S::Item>> Flow for FusedFlow<S, K> {
    type Item = K::Output;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<K::Output> {
        let this = self.project();
        let (mut upstream, step, counts) = (this.upstream, this.step, this.counts);
        // The source takes part in the cooperative budget, so this loop yields.
        loop {
            let polled = upstream.as_mut().poll_next(cx);
            if polled.is_pending() {
                counts.publish();
            }
            let item = match ready!(polled) {
                Some(Ok(item)) => item,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            let index = counts.entered as u64;
            counts.entered += 1;
            // The item goes with a panic of the step: its destructor runs inside as well.
            let verdict = catch_unwind(AssertUnwindSafe(|| step.apply(item)));
            let error = match verdict {
                Ok(Verdict::Pass(item)) => {
                    counts.passed += 1;
                    return Poll::Ready(Some(Ok(item)));
                }
                Ok(Verdict::Filter) => {
                    counts.filtered += 1;
                    continue;
                }
                Ok(Verdict::Fail(error)) => match step.on_skip() {
                    None => PipelineError::Failed { stage: counts.name(), index, error },
                    Some(on_skip) => match skip(on_skip, counts.name(), index, error) {
                        Ok(()) => {
                            counts.skipped += 1;
                            continue;
                        }
                        Err(panicked) => panicked,
                    },
                },
                Err(payload) => {
                    let panic = Panic::new(payload);
                    PipelineError::Panicked { stage: counts.name(), index, panic }
                }
            };
            counts.failed += 1;
            return Poll::Ready(Some(Err(error)));
        }
    }
}
