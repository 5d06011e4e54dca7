//! Iterators: the source that is always ready.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use selvedge_cancel::Context;
use selvedge_primitives::{Origin, Panic, coop};

use crate::flow::{Build, Flow, Next};
use crate::launch::Launch;
use crate::report::LocalCounts;
use crate::{PipelineError, Stage};

/// Begins a pipeline with the items of an iterator.
///
/// `next` runs on the task of the stage that pulls, so it must not block. It is not called any more
/// once the context is stopping.
#[track_caller]
pub fn from_iter<I>(iter: I) -> Stage<FromIter<I::IntoIter>>
where
    I: IntoIterator,
    I::IntoIter: Send + 'static,
    I::Item: Send + 'static,
{
    Stage::new(FromIter { iter: iter.into_iter(), origin: Origin::here() })
}

/// The items of an iterator; from [`from_iter`].
pub struct FromIter<I> {
    /// Where they come from.
    iter: I,
    /// Name and place.
    origin: Origin,
}

impl<I> fmt::Debug for FromIter<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FromIter({})", self.origin)
    }
}

impl<I> Build for FromIter<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
{
    type Item = I::Item;
    type Flow = IterFlow<I>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let counts = LocalCounts::new(launch.stage(self.origin, "from_iter"));
        Ok(IterFlow { iter: self.iter, ctx: launch.ctx.clone(), counts })
    }
}

/// An iterator that is being run.
pub struct IterFlow<I> {
    /// Where the items come from.
    iter: I,
    /// The run's.
    ctx: Context,
    /// What went through.
    counts: LocalCounts,
}

impl<I> fmt::Debug for IterFlow<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IterFlow").finish_non_exhaustive()
    }
}

// The iterator is not pinned: it is only reached by `&mut`.
impl<I> Unpin for IterFlow<I> {}

impl<I> Flow for IterFlow<I>
where
    I: Iterator + Send + 'static,
    I::Item: Send + 'static,
{
    type Item = I::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<I::Item> {
        let this = self.get_mut();
        // An iterator is always ready, so this is where the loop yields to the runtime.
        let proceed = ready!(coop::poll_proceed(cx));
        if let Some(cause) = this.ctx.cause() {
            return Poll::Ready(Some(Err(PipelineError::Ended(cause))));
        }
        let next = catch_unwind(AssertUnwindSafe(|| this.iter.next()));
        proceed.made_progress();
        Poll::Ready(match next {
            Ok(None) => None,
            Ok(Some(item)) => {
                this.counts.entered += 1;
                this.counts.passed += 1;
                Some(Ok(item))
            }
            Err(payload) => {
                let index = this.counts.entered as u64;
                this.counts.entered += 1;
                this.counts.failed += 1;
                let stage = this.counts.name();
                Some(Err(PipelineError::Panicked { stage, index, panic: Panic::new(payload) }))
            }
        })
    }
}
