//! How a source that holds code of a user comes to its end, and lets go of that code.
//!
//! A generator's body and a user's stream are dropped as soon as their source sees that the run is
//! stopping, on the task that pulls: what they hold is free before the stages behind have drained.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use selvedge_cancel::Cause;
use selvedge_primitives::Panic;

use crate::PipelineError;
use crate::report::LocalCounts;

/// How a source ended.
pub(crate) enum End {
    /// There is nothing more.
    Exhausted,
    /// It returned an error.
    Error(Box<dyn Error + Send + Sync>),
    /// It panicked, when it was polled or when it was dropped.
    Panic(Panic),
    /// The run is stopping.
    Stopped(Cause),
}

impl End {
    /// What the pipeline ends with, if not because there is nothing more.
    pub(crate) fn into_error(self, counts: &LocalCounts) -> Option<PipelineError> {
        let (stage, index) = (counts.name(), counts.entered as u64);
        match self {
            Self::Exhausted => None,
            Self::Stopped(cause) => Some(PipelineError::Ended(cause)),
            Self::Error(error) => Some(PipelineError::Failed { stage, index, error }),
            Self::Panic(panic) => Some(PipelineError::Panicked { stage, index, panic }),
        }
    }
}

/// Drops a body or a stream. A panic of its destructor becomes the end, unless it has failed before.
pub(crate) fn let_go<S>(mut source: Pin<&mut Option<S>>, end: &mut Option<End>) {
    let dropped = catch_unwind(AssertUnwindSafe(|| source.set(None))).map_err(Panic::new);
    if let Err(panic) = dropped
        && matches!(end, Some(End::Exhausted | End::Stopped(_)))
    {
        *end = Some(End::Panic(panic));
    }
}
