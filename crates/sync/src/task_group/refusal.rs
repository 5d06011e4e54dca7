//! Why a task was not spawned, and a group not made.

use std::error::Error;
use std::fmt;

use selvedge_cancel::{Cause, TimerError};

/// Why a task was not let into a [`TaskGroup`](crate::TaskGroup).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The group is closed, by a join or by [`close`](crate::TaskGroup::close).
    #[error("task not spawned: the group is closed")]
    Closed,
    /// The group's context is stopping or cancelled; it admits nothing new.
    #[error("task not spawned: the group's context is stopping")]
    Stopping(
        /// Who ended it.
        #[source]
        Cause,
    ),
    /// As many tasks run as the limit allows, or others wait for room. Only for those who do not
    /// wait.
    #[error("task not spawned: as many run as the limit allows, or others wait for room")]
    Full,
    /// There is no tokio runtime to spawn it on: neither where the group was made, nor where it was
    /// spawned.
    #[error("task not spawned: no tokio runtime, neither where the group was made nor here")]
    NoRuntime,
}

/// A task was not spawned. Gives its future back, unpolled.
///
/// It turns into its [`Refusal`], without the future, where an error must be `Sync` or `'static` and
/// the future is neither.
pub struct SpawnError<F> {
    /// The future.
    future: F,
    /// Why.
    refusal: Refusal,
}

impl<F> SpawnError<F> {
    /// `future` was refused.
    pub(super) fn new(future: F, refusal: Refusal) -> Self {
        Self { future, refusal }
    }

    /// Why it was not spawned.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The future, untouched.
    pub fn into_future(self) -> F {
        self.future
    }
}

impl<F> From<SpawnError<F>> for Refusal {
    fn from(error: SpawnError<F>) -> Self {
        error.refusal
    }
}

impl<F> fmt::Debug for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnError").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.refusal, f)
    }
}

impl<F> Error for SpawnError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.refusal.source()
    }
}

/// A task group was not made, or its limit not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskGroupError {
    /// A limit of 0 was asked for: no task would ever run.
    #[error("task group's limit not set: 0 lets no task run, leave it out for no limit")]
    ZeroLimit,
    /// There is no timer for the [grace](crate::TaskGroupBuilder::abort_after).
    #[error("task group not made: its grace cannot be timed")]
    NoTimer(
        /// Why not.
        #[from]
        #[source]
        TimerError,
    ),
}
