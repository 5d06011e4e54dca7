//! What a join tells: the results, the failures, and what the context's cause carries.

use std::error::Error;
use std::fmt;
use std::panic::{Location, resume_unwind};

use selvedge_cancel::Cause;
use selvedge_primitives::Panic;

use super::counts::Counts;

/// What became of the tasks of a [`TaskGroup`](crate::TaskGroup); from
/// [`join`](crate::TaskGroup::join).
#[must_use = "it holds the errors: look at `failures`, or turn it `into_result`"]
#[non_exhaustive]
pub struct Joined<T, E> {
    /// The value of each task, by its index, which is the order in which they were spawned; none where
    /// it did not return one. Empty if a join before this one took them, and where the group
    /// [discards](crate::TaskGroupBuilder::discard_results) them. Of a group that
    /// [streams](crate::TaskGroupBuilder::stream_results) them, those that nobody has taken, as they came.
    pub results: Vec<Option<T>>,
    /// What is kept of the failures, in the order in which they came: all of them if the group
    /// collects them, else the first (and every panic, if panics are returned). The others are in
    /// `counts`. Empty if a join before this one took them.
    pub failures: Vec<Failure<E>>,
    /// How many tasks there were, and how they ended.
    pub counts: Counts,
    /// Why the group's context ended, if it did.
    pub cause: Option<Cause>,
    /// Whether there is to be a result for each task.
    pub(super) in_order: bool,
}

impl<T, E> Joined<T, E> {
    /// All values in the order in which the tasks were spawned, if every task returned one. (Of a group that does not keep them in
    /// order, those that are left.)
    ///
    /// # Errors
    ///
    /// When a task failed, panicked or was cancelled, or the values were taken by a join before. The
    /// values of the tasks that did finish are dropped; take them from `results` instead where they
    /// are wanted.
    pub fn into_result(self) -> Result<Vec<T>, JoinError<E>> {
        let Self { results, failures, counts, cause, in_order } = self;
        let there = !in_order || results.len() == counts.spawned;
        let all = there && counts.finished == counts.spawned;
        if all {
            return Ok(results.into_iter().flatten().collect());
        }
        Err(JoinError { failures, counts, cause })
    }
}

impl<T, E> fmt::Debug for Joined<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined")
            .field("counts", &self.counts)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

/// A task that failed: which, and with what.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure<E> {
    /// Its index, in the order in which the tasks were spawned.
    pub index: usize,
    /// Where it was spawned.
    pub place: &'static Location<'static>,
    /// What it failed with.
    pub fault: Fault<E>,
}

impl<E> Failure<E> {
    /// The task `index`, spawned at `place`, failed.
    pub(super) fn new(index: usize, place: &'static Location<'static>, fault: Fault<E>) -> Self {
        Self { index, place, fault }
    }
}

impl<E> Failure<E> {
    /// Goes on with the panic, on this thread and without another call of the panic hook. A text is told with the task's index and place;
    /// any other payload goes on as it is.
    pub(super) fn resume(self) {
        let Self { index, place, fault: Fault::Panic(panic) } = self else { return };
        let told = format!("task {index} (spawned at {place}) panicked: {panic}");
        let payload = panic.into_payload();
        let is_text = payload.is::<String>() || payload.is::<&'static str>();
        resume_unwind(if is_text { Box::new(told) } else { payload })
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, place, fault } = self;
        match fault {
            Fault::Error(error) => write!(f, "task {index} (spawned at {place}) failed: {error}"),
            Fault::Panic(panic) => write!(f, "task {index} (spawned at {place}) panicked: {panic}"),
        }
    }
}

/// What a task failed with.
#[derive(Debug)]
pub enum Fault<E> {
    /// It returned this.
    Error(E),
    /// It panicked; only where the group returns panics.
    Panic(Panic),
}

/// Not every task of a group returned a value; from [`Joined::into_result`].
#[derive(Debug)]
#[non_exhaustive]
pub struct JoinError<E> {
    /// As in [`Joined`].
    pub failures: Vec<Failure<E>>,
    /// As in [`Joined`].
    pub counts: Counts,
    /// As in [`Joined`].
    pub cause: Option<Cause>,
}

impl<E> JoinError<E> {
    /// The error of the first task that returned one and whose error was kept.
    pub fn into_first_error(self) -> Option<E> {
        self.failures.into_iter().find_map(|failure| match failure.fault {
            Fault::Error(error) => Some(error),
            Fault::Panic(_) => None,
        })
    }
}

impl<E: fmt::Display> fmt::Display for JoinError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { spawned, finished, failed, panicked, cancelled } = self.counts;
        if finished == spawned {
            return f.write_str("group's values not returned: a join before this one took them");
        }
        write!(f, "{finished} of {spawned} tasks finished")?;
        for (count, how) in [(failed, "failed"), (panicked, "panicked"), (cancelled, "cancelled")] {
            if count > 0 {
                write!(f, ", {count} {how}")?;
            }
        }
        match (self.failures.first(), &self.cause) {
            (Some(first), _) => write!(f, "; the first: {first}"),
            (None, Some(cause)) => write!(f, "; the context: {cause}"),
            (None, None) => Ok(()),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for JoinError<E> {}

/// A task failed and ended the others: what the [`Cause`] of the group's context carries as its
/// [`error`](Cause::error). The error value itself goes to the join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailed {
    /// See `index`.
    index: usize,
    /// See `place`.
    place: &'static Location<'static>,
    /// See `text`.
    text: String,
    /// See `is_panic`.
    panicked: bool,
}

impl TaskFailed {
    /// The task `index`, spawned at `place`, failed with `text`.
    pub(super) fn new(
        index: usize,
        place: &'static Location<'static>,
        text: String,
        panicked: bool,
    ) -> Self {
        Self { index, place, text, panicked }
    }

    /// The task's index, in the order in which they were spawned.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Where it was spawned.
    pub fn place(&self) -> &'static Location<'static> {
        self.place
    }

    /// The text of its error, or of its panic.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it panicked, rather than returning an error.
    pub fn is_panic(&self) -> bool {
        self.panicked
    }
}

impl fmt::Display for TaskFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, place, text, panicked } = self;
        let how = if *panicked { "panicked" } else { "failed" };
        write!(f, "task {index} (spawned at {place}) {how}: {text}")
    }
}

impl Error for TaskFailed {}
