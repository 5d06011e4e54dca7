//! Synchronous stages: they run in the loop of whoever pulls, without a task or a queue between.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use selvedge_primitives::{Origin, Panic};

use crate::PipelineError;
use crate::flow::{Build, Flow, Next};
use crate::launch::Launch;
use crate::report::LocalCounts;

/// Applies a function to each item; from [`Stage::map`](crate::Stage::map).
pub struct Map<S, F> {
    /// What comes before.
    pub(crate) upstream: S,
    /// The function.
    pub(crate) f: F,
    /// Name and place.
    pub(crate) origin: Origin,
}

/// Keeps the items that a predicate wants; from [`Stage::filter`](crate::Stage::filter).
pub struct Filter<S, P> {
    /// What comes before.
    pub(crate) upstream: S,
    /// The predicate.
    pub(crate) predicate: P,
    /// Name and place.
    pub(crate) origin: Origin,
}

impl<S, F> fmt::Debug for Map<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({})", self.origin)
    }
}

impl<S, P> fmt::Debug for Filter<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({})", self.origin)
    }
}

impl<S, F, U> Build for Map<S, F>
where
    S: Build,
    F: FnMut(S::Item) -> U + Send + 'static,
    U: Send + 'static,
{
    type Item = U;
    type Flow = MapFlow<S::Flow, F>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let upstream = self.upstream.build(launch)?;
        let counts = LocalCounts::new(launch.stage(self.origin, "map"));
        Ok(MapFlow { upstream, f: self.f, counts })
    }
}

impl<S, P> Build for Filter<S, P>
where
    S: Build,
    P: FnMut(&S::Item) -> bool + Send + 'static,
{
    type Item = S::Item;
    type Flow = FilterFlow<S::Flow, P>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let upstream = self.upstream.build(launch)?;
        let counts = LocalCounts::new(launch.stage(self.origin, "filter"));
        Ok(FilterFlow { upstream, predicate: self.predicate, counts })
    }
}

/// A map that is being run.
#[pin_project]
pub struct MapFlow<S, F> {
    /// What comes before.
    #[pin]
    upstream: S,
    /// The function.
    f: F,
    /// What went through.
    counts: LocalCounts,
}

/// A filter that is being run.
#[pin_project]
pub struct FilterFlow<S, P> {
    /// What comes before.
    #[pin]
    upstream: S,
    /// The predicate.
    predicate: P,
    /// What went through.
    counts: LocalCounts,
}

impl<S, F> fmt::Debug for MapFlow<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapFlow").finish_non_exhaustive()
    }
}

impl<S, P> fmt::Debug for FilterFlow<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterFlow").finish_non_exhaustive()
    }
}

/// The error for a panic of a stage's closure, counted.
fn panicked(counts: &mut LocalCounts, payload: Box<dyn std::any::Any + Send>) -> PipelineError {
    counts.failed += 1;
    PipelineError::Panicked {
        stage: counts.name(),
        index: counts.entered as u64 - 1,
        panic: Panic::new(payload),
    }
}

impl<S, F, U> Flow for MapFlow<S, F>
where
    S: Flow,
    F: FnMut(S::Item) -> U + Send + 'static,
    U: Send + 'static,
{
    type Item = U;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<U> {
        let this = self.project();
        let item = match this.upstream.poll_next(cx) {
            Poll::Ready(Some(Ok(item))) => item,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                this.counts.publish();
                return Poll::Pending;
            }
        };
        this.counts.entered += 1;
        let result = catch_unwind(AssertUnwindSafe(|| (this.f)(item)));
        Poll::Ready(Some(match result {
            Ok(mapped) => {
                this.counts.passed += 1;
                Ok(mapped)
            }
            Err(payload) => Err(panicked(this.counts, payload)),
        }))
    }
}

impl<S, P> Flow for FilterFlow<S, P>
where
    S: Flow,
    P: FnMut(&S::Item) -> bool + Send + 'static,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<S::Item> {
        let mut this = self.project();
        // The source takes part in the cooperative budget, so this loop yields.
        loop {
            let item = match this.upstream.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(item))) => item,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    this.counts.publish();
                    return Poll::Pending;
                }
            };
            this.counts.entered += 1;
            // The item goes with a panic of the predicate: its destructor runs inside as well.
            let kept = catch_unwind(AssertUnwindSafe(|| (this.predicate)(&item).then_some(item)));
            match kept {
                Ok(Some(item)) => {
                    this.counts.passed += 1;
                    return Poll::Ready(Some(Ok(item)));
                }
                Ok(None) => this.counts.filtered += 1,
                Err(payload) => return Poll::Ready(Some(Err(panicked(this.counts, payload)))),
            }
        }
    }
}
