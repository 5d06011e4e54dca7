//! Making a group with more than the defaults.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use selvedge_cancel::{Cause, CauseKind, Context, Timer};
use selvedge_primitives::Origin;

use super::TaskGroup;
use super::core::Keep;
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
    /// What happens when a task ends.
    policy: Policy,
    /// How long a task may go on when the group's context is cancelled.
    grace: Option<Duration>,
    /// What times that.
    timer: Option<Timer>,
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
            policy: Policy {
                first_failure_cancels: true,
                resume_panics: true,
                keep: Keep::InOrder,
            },
            grace: None,
            timer: None,
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

    /// Gives values out as they come, by [`TaskGroup::next`], and keeps none that was taken. For more tasks than
    /// there is memory for their values.
    ///
    /// Nothing limits how many values wait for somebody to take them but how many tasks are spawned: take them as fast. Failures are kept
    /// for the join all the same; where tasks fail without end, and [all are kept](Self::collect_all), return them as values.
    pub fn stream_results(mut self) -> Self {
        self.policy.keep = Keep::AsTheyCome;
        self
    }

    /// Drops values as they come, so that a group of any number of tasks does not grow. Failures are kept all the same.
    pub fn discard_results(mut self) -> Self {
        self.policy.keep = Keep::Nothing;
        self
    }

    /// Gives the tasks `grace` to end by themselves when the group's context is cancelled. Without it they are dropped at their next
    /// `await` then; with it they see the cancel in [`context`](TaskGroup::context), may clean up and still return a value,
    /// and whoever has not ended when the grace is over is dropped at its next `await`.
    ///
    /// The grace is the same for a failure, for [`cancel`](TaskGroup::cancel), for a cancel from above and for the group's drop. It is not for
    /// [blocking tasks](TaskGroup::try_spawn_blocking): one that has not begun does not begin, and one that has is never ended.
    ///
    /// It is timed by a [timer](Self::timer). If that is lost, because its runtime is shut down, the grace is over; and in a runtime that
    /// nobody runs it does not end.
    pub fn abort_after(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Times the [grace](Self::abort_after) with a timer of the caller's. Without one it is that of the place where the group is
    /// made: tokio's in a runtime, else the timer thread of the process.
    pub fn timer(mut self, timer: Timer) -> Self {
        self.timer = Some(timer);
        self
    }

    /// Makes the group, as [`TaskGroup::new`] does.
    ///
    /// # Errors
    ///
    /// [`TaskGroupError::ZeroLimit`] for a limit of 0; [`TaskGroupError::NoTimer`] for a grace in a runtime without a time driver.
    #[track_caller]
    pub fn build(self) -> Result<TaskGroup<T, E>, TaskGroupError> {
        if self.limit == 0 {
            return Err(TaskGroupError::ZeroLimit);
        }
        let grace = match (self.grace, self.timer.clone()) {
            (None, _) => None,
            (Some(grace), Some(timer)) => Some((grace, timer)),
            (Some(grace), None) => Some((grace, Timer::ambient()?)),
        };
        Ok(self.make(grace))
    }

    /// Makes the group; the limit is not 0.
    #[track_caller]
    pub(super) fn make(self, grace: Option<(Duration, Timer)>) -> TaskGroup<T, E> {
        TaskGroup {
            engine: Engine::new(self.parent, self.limit, self.policy, grace),
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
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}
