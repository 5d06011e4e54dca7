//! Fan-in: several pipelines become one.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use selvedge_primitives::Origin;

use crate::boxed::Boxed;
use crate::flow::{Build, Flow, Next};
use crate::lanes::Lanes;
use crate::launch::Launch;
use crate::report::LocalCounts;
use crate::{PipelineError, Stage};

impl<S: Build> Stage<S> {
    /// Fan-in: the items of this pipeline and of the others, as they come. In the loop of whoever
    /// pulls; it ends when all of them have ended.
    ///
    /// Each is served within a bound: with N of them, the others give at most 16·(N-1) items between
    /// the moment in which one has an item and the moment in which it goes on (see
    /// [`selvedge_fanio::merge`]). The others have one type; where they differ, [box](Self::boxed)
    /// them.
    ///
    /// A failure in one of them ends the run as one in an unordered stage does: it goes on at once, and
    /// what the others have under way is left. When the run is stopping, what all of them have begun
    /// still comes. In the [report](crate::Report) the stages of one come behind those of the other.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::from_iter;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let words = from_iter(["a", "word"]).map(str::to_owned);
    /// let numbers = from_iter(0..3).map(|number| format!("{number}"));
    /// let ended = words.merge([numbers]).collect().run(&Context::background()).await;
    /// let mut all = ended.ok().unwrap();
    /// all.sort();
    /// assert_eq!(all, ["0", "1", "2", "a", "word"]);
    /// # });
    /// ```
    ///
    /// # Algorithm
    ///
    /// fanio's merge: only those that were woken are polled. An item costs a virtual call more than
    /// without, and nothing is allocated.
    #[track_caller]
    pub fn merge<O>(self, others: impl IntoIterator<Item = Stage<O>>) -> Stage<Merged<S::Item>>
    where
        O: Build<Item = S::Item>,
    {
        let others = others.into_iter().map(|other| other.boxed().description);
        let lanes = std::iter::once(self.boxed().description).chain(others).collect();
        Stage::new(Merged { lanes, origin: Origin::here() })
    }
}

/// Several pipelines as one; from [`Stage::merge`].
pub struct Merged<T> {
    /// The pipelines.
    lanes: Vec<Boxed<T>>,
    /// Name and place.
    origin: Origin,
}

impl<T> fmt::Debug for Merged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Merged({} pipelines, {})", self.lanes.len(), self.origin)
    }
}

impl<T: Send + 'static> Build for Merged<T> {
    type Item = T;
    type Flow = MergeFlow<T>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let flows =
            self.lanes.into_iter().map(|lane| lane.build(launch)).collect::<Result<_, _>>()?;
        let counts = LocalCounts::new(launch.stage(self.origin, "merge"));
        Ok(MergeFlow { lanes: Lanes::new(flows, launch.fault.clone()), counts })
    }
}

/// Pipelines that are being merged.
pub struct MergeFlow<T: Send + 'static> {
    /// Their ends.
    lanes: Lanes<T>,
    /// What went through.
    counts: LocalCounts,
}

impl<T: Send + 'static> fmt::Debug for MergeFlow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergeFlow").finish_non_exhaustive()
    }
}

// The lanes are pinned where they are.
impl<T: Send + 'static> Unpin for MergeFlow<T> {}

impl<T: Send + 'static> Flow for MergeFlow<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<T> {
        let Self { lanes, counts } = &mut *self;
        let Poll::Ready(next) = lanes.poll(cx, || (counts.name(), counts.entered as u64)) else {
            counts.publish();
            return Poll::Pending;
        };
        if let Some(Ok(_)) = next {
            counts.entered += 1;
            counts.passed += 1;
        }
        Poll::Ready(next.or_else(|| lanes.early().map(Err)))
    }
}
