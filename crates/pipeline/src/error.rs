//! How a pipeline fails.

use std::any::Any;
use std::error::Error;
use std::fmt;

use selvedge_cancel::Cause;
use selvedge_primitives::Mutex;

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
    /// A stage was described with a width or a window of zero, or a window that is too large.
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

/// The payload of a panic that was caught.
pub struct Panic {
    /// The payload's text.
    message: String,
    /// As it was thrown; in a lock because an error is `Sync` and a payload is not. Nobody locks it.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    /// Keeps a payload.
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&'static str>().copied());
        let message = text.unwrap_or("a payload that is no message").to_owned();
        Self { message, payload: Mutex::new(payload) }
    }

    /// The message, if the payload is one.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The payload, as `std::thread::JoinHandle::join` would return it.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload.into_inner()
    }

    /// Goes on with the panic on this thread, without another call of the panic hook.
    pub fn resume(self) -> ! {
        std::panic::resume_unwind(self.into_payload())
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panic({:?})", self.message)
    }
}
