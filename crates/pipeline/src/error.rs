//! How a pipeline fails.

use std::error::Error;

use selvedge_cancel::{Cause, TimerError};
use selvedge_primitives::Panic;
use selvedge_ratelimit::AcquireError;

/// Why a pipeline ended before its source was exhausted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A stage, the source or the sink returned an error.
    #[error("stage {stage} failed at item {index}")]
    Failed {
        /// The stage's name.
        stage: String,
        /// How many items had entered the stage before.
        index: u64,
        /// What it returned.
        #[source]
        error: Box<dyn Error + Send + Sync>,
    },
    /// A closure of a stage panicked, or the destructor of something that it held.
    #[error("stage {stage} panicked at item {index}: {panic}")]
    Panicked {
        /// The stage's name.
        stage: String,
        /// How many items had entered the stage before.
        index: u64,
        /// What it panicked with.
        panic: Panic,
    },
    /// The context was stopping or cancelled.
    #[error("pipeline ended before its source")]
    Ended(
        /// Why.
        #[source]
        Cause,
    ),
    /// The pool that a stage runs on took nothing more, or dropped what it had taken.
    #[error("stage {stage} lost item {index}: its pool was shut down")]
    PoolClosed {
        /// The stage's name.
        stage: String,
        /// How many items had entered the stage before.
        index: u64,
    },
    /// A stage that needs tasks was run outside a tokio runtime, or its runtime was shut down.
    #[error("pipeline not run: stages with workers need a tokio runtime, run it inside one")]
    NoRuntime,
    /// A stage that waits for a time has no timer, or its timer's runtime was shut down.
    #[error("stage {stage} cannot wait for a time")]
    NoTimer {
        /// The stage's name.
        stage: String,
        /// Why.
        #[source]
        error: TimerError,
    },
    /// The limiter of a stage grants nothing any more, or has as many who wait as may.
    #[error("stage {stage} got no token of its limiter")]
    NoToken {
        /// The stage's name.
        stage: String,
        /// Why.
        #[source]
        error: AcquireError,
    },
    /// A stage was described with a width, a window, a batch or a period of zero, or a window that
    /// is too large.
    #[error("pipeline not run: stage {stage} {what}")]
    BadStage {
        /// The stage's name.
        stage: String,
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl PipelineError {
    /// The error that a stage returned, if it is an `E`.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Failed { error, .. } => error.downcast_ref(),
            _ => None,
        }
    }

    /// The cause, if the context ended it.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Ended(cause) => Some(cause),
            _ => None,
        }
    }
}
