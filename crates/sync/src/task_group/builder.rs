//! Making a group with more than the defaults.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use selvedge_cancel::{Cause, CauseKind, Context};
use selvedge_primitives::Origin;

use super::TaskGroup;
use super::engine::{Engine, Policy};
use super::refusal::TaskGroupError;
use super::runtime::Runtime;

/// Makes a [`TaskGroup`] with a limit, a name or another policy; from
/// [`TaskGroup::builder`](TaskGroup::builder).
#[must_use = "call `build`"]
pub struct TaskGroupBuilder<'a, T, E> {
    /// Whose child the tasks run under.
    parent: &'a Context,
    /// Name and place.
    origin: Origin,
    /// The most tasks at once.
    limit: usize,
    /// What happens when a task fails.
    policy: Policy,
    /// What the group is of.
    group: PhantomData<fn() -> (T, E)>,
}

impl<'a, T, E> TaskGroupBuilder<'a, T, E> {
    /// The defaults.
    #[track_caller]
    pub(super) fn new(parent: &'a Context) -> Self {
        Self {
            parent,
            origin: Origin::here(),
            limit: usize::MAX,
            policy: Policy { first_failure_cancels: true, resume_panics: true },
            group: PhantomData,
        }
    }

    /// Names it, for `{:?}`.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.origin = self.origin.named(name);
        self
    }

    /// Lets at most `limit` tasks run at once: those that have not ended, whether they are polled or
    /// wait. Not more than that either if it is `usize::MAX`, which is the default.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Keeps every error, and lets the other tasks go on when one fails or panics.
    ///
    /// Without it the first failure cancels the group's context; later errors are dropped and counted.
    pub fn collect_all(mut self) -> Self {
        self.policy.first_failure_cancels = false;
        self
    }

    /// Returns panics among the [failures](crate::Joined::failures). Without it the join panics with
    /// the first.
    pub fn return_panics(mut self) -> Self {
        self.policy.resume_panics = false;
        self
    }

    /// Makes the group, as [`TaskGroup::new`] does.
    ///
    /// # Errors
    ///
    /// [`TaskGroupError::ZeroLimit`] for a limit of 0.
    #[track_caller]
    pub fn build(self) -> Result<TaskGroup<T, E>, TaskGroupError> {
        if self.limit == 0 {
            return Err(TaskGroupError::ZeroLimit);
        }
        Ok(self.make())
    }

    /// Makes the group; the limit is not 0.
    #[track_caller]
    pub(super) fn make(self) -> TaskGroup<T, E> {
        TaskGroup {
            engine: Engine::new(self.parent, self.limit, self.policy),
            runtime: Runtime::here(),
            origin: self.origin,
            dropped: Cause::new(CauseKind::Dropped),
        }
    }
}

impl<T, E> fmt::Debug for TaskGroupBuilder<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroupBuilder")
            .field("origin", &self.origin)
            .field("limit", &self.limit)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
