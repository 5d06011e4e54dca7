//! The two seams between stages: a description that can be built, and a flow that can be polled.

use std::pin::Pin;
use std::task::{Context, Poll};

use selvedge_primitives::Origin;

use crate::launch::Launch;
use crate::{PipelineError, StageReport};

/// What a flow gives: an item, an error after which nothing comes, or the end.
pub(crate) type Next<T> = Poll<Option<Result<T, PipelineError>>>;

/// A running part of a pipeline: gives items when it is polled.
///
/// After an error or the end it is not polled again.
pub trait Flow: Send + 'static {
    /// What it gives.
    type Item: Send + 'static;

    /// The next item.
    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Self::Item, PipelineError>>>;
}

/// A description of a pipeline up to some stage.
pub trait Build: Send + 'static {
    /// What comes out of it.
    type Item: Send + 'static;
    /// What it becomes.
    type Flow: Flow<Item = Self::Item>;

    /// The last stage's name and place.
    fn origin(&mut self) -> &mut Origin;

    /// Becomes a flow; registers the stage's counts, and the tasks that it needs.
    ///
    /// # Errors
    ///
    /// [`PipelineError::BadStage`] when the description makes no sense.
    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError>;
}

/// The name of a stage: as given, or its kind.
pub(crate) fn label(origin: &Origin, kind: &'static str) -> String {
    origin.name().unwrap_or(kind).to_owned()
}

/// Whether a stage's counts have the shape that all have once the run has ended.
pub(crate) fn adds_up(stage: &StageReport) -> bool {
    stage.entered == stage.passed + stage.filtered + stage.skipped + stage.failed + stage.left
}
