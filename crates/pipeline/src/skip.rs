//! The skip policy: a stage goes on without the items that fail.
//!
//! The policy is the stage's, and it concerns errors that the stage's function returns. A panic is
//! no such error: it ends the pipeline also under this policy, because nobody knows in which state it
//! left what the function works on.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

use selvedge_primitives::Panic;

use crate::flow::Build;
use crate::{PipelineError, Stage};

/// Is told of each item that is skipped.
pub type OnSkip = Box<dyn FnMut(PipelineError) + Send>;

/// A stage whose items may fail.
pub trait Fallible: Build {
    /// Has it skip them.
    fn skip_failed(&mut self, on_skip: OnSkip);
}

impl<S: Fallible> Stage<S> {
    /// Has the stage that was added last skip the items that fail: the pipeline goes on without
    /// them, and [counts](crate::StageReport::skipped) them. For [`try_map`](Stage::try_map),
    /// workers and blocking stages.
    ///
    /// `on_skip` is called with the [error](PipelineError::Failed) of each, which holds the stage's
    /// name, the item's number, and what the function returned: on the task that pulls, when the
    /// item's turn to come out has come, so ordered stages tell of their failures in order. It must
    /// not block. Give `drop` if nobody wants to know.
    ///
    /// A panic of the stage's function ends the pipeline all the same, and so does one of `on_skip`,
    /// told as one of that item.
    ///
    /// # Examples
    ///
    /// The first error, kept for later:
    ///
    /// ```
    /// use std::sync::{Arc, OnceLock};
    ///
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::from_iter;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let first = Arc::new(OnceLock::new());
    /// let keep = Arc::clone(&first);
    /// let ended = from_iter(["1", "two", "3", "four"])
    ///     .try_map(str::parse::<u32>)
    ///     .skip_failed(move |error| drop(keep.set(error)))
    ///     .collect()
    ///     .run(&Context::background())
    ///     .await;
    /// assert_eq!(ended.report.stages[1].skipped, 2);
    /// assert_eq!(ended.ok().unwrap(), [1, 3]);
    /// assert_eq!(first.get().unwrap().to_string(), "stage try_map failed at item 1");
    /// # });
    /// ```
    pub fn skip_failed(mut self, on_skip: impl FnMut(PipelineError) + Send + 'static) -> Self {
        self.description.skip_failed(Box::new(on_skip));
        self
    }
}

/// Tells of a failed item that is skipped.
///
/// # Errors
///
/// The panic of `on_skip`.
pub(crate) fn skip(
    on_skip: &mut OnSkip,
    stage: String,
    index: u64,
    error: Box<dyn Error + Send + Sync>,
) -> Result<(), PipelineError> {
    let failed = PipelineError::Failed { stage: stage.clone(), index, error };
    let told = catch_unwind(AssertUnwindSafe(|| on_skip(failed)));
    told.map_err(|payload| PipelineError::Panicked { stage, index, panic: Panic::new(payload) })
}
