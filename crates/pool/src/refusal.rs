//! What those are told who are not admitted.

use std::error::Error;
use std::fmt;

use selvedge_cancel::Cause;

use crate::engine::{Engine, Task, Unstarted, Verdict};

/// A job was not accepted: the pool is stopping, or has ended. Gives the job back.
pub struct SubmitError<F> {
    /// The job.
    job: F,
    /// Who ended the pool's context.
    cause: Cause,
}

impl<F> SubmitError<F> {
    /// `engine` admits nothing any more.
    pub(crate) fn new(job: F, engine: &Engine) -> Self {
        Self { job, cause: engine.cause() }
    }

    /// Who ended the pool's context, and how.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The job, untouched.
    pub fn into_job(self) -> F {
        self.job
    }
}

impl<F> fmt::Debug for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitError").field("cause", &self.cause).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("job not accepted: the pool admits no more jobs")
    }
}

impl<F> Error for SubmitError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// A slot was not reserved: the pool is stopping, or has ended.
///
/// A [`SubmitError`] turns into one, without its job, where an error must be `Sync` or `'static`
/// and the job is neither.
#[derive(Debug, Clone)]
pub struct ReserveError {
    /// Who ended the pool's context.
    cause: Cause,
}

impl ReserveError {
    /// `engine` admits nothing any more.
    pub(crate) fn new(engine: &Engine) -> Self {
        Self { cause: engine.cause() }
    }

    /// Who ended the pool's context, and how.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("slot not reserved: the pool admits no more jobs")
    }
}

impl Error for ReserveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

impl<F> From<SubmitError<F>> for ReserveError {
    fn from(error: SubmitError<F>) -> Self {
        Self { cause: error.cause }
    }
}

/// A job was not accepted at once. Gives the job back.
#[non_exhaustive]
pub enum TrySubmitError<F> {
    /// The queue is full, or others wait for the room it has.
    Full(
        /// The job.
        F,
    ),
    /// The pool is stopping: it runs what it has and admits nothing more.
    Stopping(
        /// The job.
        F,
        /// Who stopped the pool's context.
        Cause,
    ),
    /// The pool was aborted.
    Aborted(
        /// The job.
        F,
        /// Who ended the pool's context.
        Cause,
    ),
}

impl<F> TrySubmitError<F> {
    /// Gives `job` to `engine`, or the closure back.
    pub(crate) fn submit(engine: &Engine, job: Box<dyn Unstarted<F>>) -> Result<(), Self> {
        let mut job = Some(job);
        let take = || job.take().expect("taken once") as Box<dyn Task>;
        let verdict = engine.try_admit(take);
        let Some(job) = job else { return Ok(()) };
        let job = job.into_closure();
        Err(match verdict {
            Verdict::Full => Self::Full(job),
            Verdict::Stopping => Self::Stopping(job, engine.cause()),
            Verdict::Aborted => Self::Aborted(job, engine.cause()),
            Verdict::Accepted => unreachable!("an accepted job is in the queue"),
        })
    }

    /// The job, untouched.
    pub fn into_job(self) -> F {
        match self {
            Self::Full(job) | Self::Stopping(job, _) | Self::Aborted(job, _) => job,
        }
    }

    /// Whether there was no room: another time there may be.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Who ended the pool's context, if it has ended.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Full(_) => None,
            Self::Stopping(_, cause) | Self::Aborted(_, cause) => Some(cause),
        }
    }
}

impl<F> fmt::Debug for TrySubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Full(_) => "Full",
            Self::Stopping(..) => "Stopping",
            Self::Aborted(..) => "Aborted",
        };
        f.debug_struct(name).field("cause", &self.cause()).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for TrySubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "job not accepted: the queue is full",
            Self::Stopping(..) => "job not accepted: the pool is stopping",
            Self::Aborted(..) => "job not accepted: the pool was aborted",
        })
    }
}

impl<F> Error for TrySubmitError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().map(|cause| cause as _)
    }
}
