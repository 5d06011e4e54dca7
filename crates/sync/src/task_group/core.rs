//! The state of a task group, under the engine's lock: counts, results, what is kept of failures.
//! Plain data with named transitions; `engine.rs` says who calls which when.
//!
//! # Invariants
//!
//! - **C1** spawned = finished + failed + panicked + cancelled + alive, and, where values are kept in order, a slot for each
//!   task up to the last that has ended, until the results are taken.
//! - **C2** taken = alive + reserved rooms. It never grows beyond the limit of the moment, which may be lowered below it.
//! - **C3** Once closed, `spawned` grows no more.
//! - **C4** Nothing of the user's is dropped under the lock: what is not to be kept is asked for
//!   first ([`is_first_failure`](Core::is_first_failure), [`is_first_panic`](Core::is_first_panic)) and
//!   never comes here.

use std::collections::VecDeque;
use std::mem;

use super::counts::Counts;
use super::report::Failure;

/// How a task ended, as far as the group keeps it.
pub(super) enum Ended<T, E> {
    /// It returned a value, which is kept or was dropped.
    Finished(Option<T>),
    /// It returned an error, which is kept or was dropped.
    Failed(Option<Failure<E>>),
    /// It panicked, and the panic is one of the failures.
    Panicked(Failure<E>),
    /// It panicked, and the panic goes on at the join if it is the first; another was dropped.
    PanickedToResume(Option<Box<Failure<E>>>),
    /// It was dropped before it had ended.
    Cancelled,
}

/// Why a task was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut {
    /// The group is closed.
    Closed,
    /// As many tasks run as may, or others wait for room.
    Full,
}

/// What becomes of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// They are kept by index, for the join.
    InOrder,
    /// They are kept as they come, until somebody takes them.
    AsTheyCome,
    /// They are dropped by the task.
    Nothing,
}

/// The values that are kept.
enum Values<T> {
    /// Of each task that returned one, by index.
    InOrder(Vec<Option<T>>),
    /// With their indices, as they came.
    AsTheyCame(VecDeque<(usize, T)>),
    /// None.
    Nothing,
}

/// What a join takes.
pub(super) enum Harvest<T, E> {
    /// A panic that has to go on first.
    Panic(Box<Failure<E>>),
    /// Everything.
    Results {
        /// By index; or those that nobody has taken, as they came.
        results: Vec<Option<T>>,
        /// In the order in which they came.
        failures: Vec<Failure<E>>,
    },
}

/// See the file's header.
pub(super) struct Core<T, E> {
    /// What tasks returned.
    values: Values<T>,
    /// What is kept of tasks that failed, in the order in which they did.
    failures: Vec<Failure<E>>,
    /// The first panic, if panics go on at the join.
    panic: Option<Box<Failure<E>>>,
    /// How many tasks were let in and how they ended.
    counts: Counts,
    /// Tasks that have not ended, and rooms that are reserved.
    taken: usize,
    /// The most that may be taken.
    limit: usize,
    /// Whether nobody is let in any more.
    closed: bool,
    /// Whether a failure has ended the others.
    failed: bool,
    /// Whether a panic is, or will be, the one in `panic`.
    panicked: bool,
}

impl<T, E> Core<T, E> {
    /// No tasks yet.
    pub(super) fn new(limit: usize, keep: Keep) -> Self {
        Self {
            values: match keep {
                Keep::InOrder => Values::InOrder(Vec::new()),
                Keep::AsTheyCome => Values::AsTheyCame(VecDeque::new()),
                Keep::Nothing => Values::Nothing,
            },
            failures: Vec::new(),
            panic: None,
            counts: Counts::default(),
            taken: 0,
            limit,
            closed: false,
            failed: false,
            panicked: false,
        }
    }

    /// How many tasks were let in and how they ended.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether nobody is let in any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether every task has ended, and none comes any more.
    pub(super) fn is_over(&self) -> bool {
        self.closed && self.counts.running() == 0
    }

    /// Nobody is let in any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes room for one task, if there is any.
    pub(super) fn take_room(&mut self) -> Result<(), Shut> {
        if self.closed {
            return Err(Shut::Closed);
        }
        if self.taken >= self.limit {
            return Err(Shut::Full);
        }
        self.taken += 1;
        Ok(())
    }

    /// Gives room back that no task used.
    pub(super) fn give_room(&mut self) {
        self.taken -= 1;
    }

    /// Lets a task in that has room, and gives it its index; its room is given back if the group is
    /// closed.
    pub(super) fn let_in(&mut self) -> Result<usize, Shut> {
        if self.closed {
            self.give_room();
            return Err(Shut::Closed);
        }
        let index = self.counts.spawned;
        self.counts.spawned += 1;
        Ok(index)
    }

    /// Whether this failure is the first, which ends the others. Asked once a failure.
    pub(super) fn is_first_failure(&mut self) -> bool {
        !mem::replace(&mut self.failed, true)
    }

    /// Whether this panic is the first, which goes on at the join. Asked once a panic.
    pub(super) fn is_first_panic(&mut self) -> bool {
        !mem::replace(&mut self.panicked, true)
    }

    /// Counts the end of a task.
    pub(super) fn end(&mut self, index: usize, ended: Ended<T, E>) {
        self.taken -= 1;
        match ended {
            Ended::Finished(value) => {
                self.counts.finished += 1;
                match (&mut self.values, value) {
                    (Values::InOrder(slots), value) => {
                        if slots.len() <= index {
                            // Here and not where a task is let in, so that the values are where they end and not where they are spawned.
                            slots.resize_with(index + 1, || None);
                        }
                        slots[index] = value;
                    }
                    (Values::AsTheyCame(line), Some(value)) => line.push_back((index, value)),
                    (Values::AsTheyCame(_) | Values::Nothing, _) => {}
                }
            }
            Ended::Failed(failure) => {
                self.counts.failed += 1;
                self.failures.extend(failure);
            }
            Ended::Panicked(failure) => {
                self.counts.panicked += 1;
                self.failures.push(failure);
            }
            Ended::PanickedToResume(panic) => {
                self.counts.panicked += 1;
                // The first, or none: nothing is dropped here.
                self.panic = self.panic.take().or(panic);
            }
            Ended::Cancelled => self.counts.cancelled += 1,
        }
    }

    /// Takes the value that came first, with its index. Nothing is ready while there is none and tasks are alive; no value, when there
    /// is none and none is coming.
    pub(super) fn next_value(&mut self) -> Option<Option<(usize, T)>> {
        let next = match &mut self.values {
            Values::AsTheyCame(line) => line.pop_front(),
            Values::InOrder(_) | Values::Nothing => None,
        };
        match next {
            None if self.counts.running() > 0 => None,
            next => Some(next),
        }
    }

    /// The most that may be taken from now on; gives what it was. What is taken already stays so.
    pub(super) fn set_limit(&mut self, limit: usize) -> usize {
        mem::replace(&mut self.limit, limit)
    }

    /// The most that may be taken.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a panic, or else everything there is; nothing is left for the next.
    pub(super) fn harvest(&mut self) -> Harvest<T, E> {
        if let Some(panic) = self.panic.take() {
            return Harvest::Panic(panic);
        }
        Harvest::Results {
            results: match mem::replace(&mut self.values, Values::Nothing) {
                Values::InOrder(mut slots) => {
                    slots.resize_with(self.counts.spawned, || None);
                    slots
                }
                Values::AsTheyCame(line) => {
                    line.into_iter().map(|(_, value)| Some(value)).collect()
                }
                Values::Nothing => Vec::new(),
            },
            failures: mem::take(&mut self.failures),
        }
    }
}
