//! A task of a group that blocks: a closure, on a thread that may be blocked. It ends once, as a [`GroupTask`](super::GroupTask) does:
//! by being run, or by being dropped before.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

use super::engine::Engine;
use super::task::Outcome;

/// A closure that was let in.
pub(super) struct BlockingTask<T, E, F> {
    /// Where the end is told; none once it was.
    engine: Option<Arc<Engine<T, E>>>,
    /// The task's number.
    index: usize,
    /// Where it was spawned.
    place: &'static Location<'static>,
    /// The user's; none once it has begun.
    work: Option<F>,
}

impl<T, E, F> BlockingTask<T, E, F> {
    /// The task `index` of `engine`, which was let in.
    pub(super) fn new(
        engine: Arc<Engine<T, E>>,
        index: usize,
        place: &'static Location<'static>,
        work: F,
    ) -> Self {
        Self { engine: Some(engine), index, place, work: Some(work) }
    }

    /// Runs the closure on this thread, unless the group's context has been cancelled.
    pub(super) fn run(mut self)
    where
        F: FnOnce() -> Result<T, E>,
        E: Display,
    {
        let (Some(engine), Some(work)) = (self.engine.take(), self.work.take()) else { return };
        let cancelled = engine.context().is_cancelled();
        // Unwind safe: of what it captured nothing is left. Run or not, it is dropped in here.
        let outcome = catch_unwind(AssertUnwindSafe(|| (!cancelled).then(work)));
        let outcome = match outcome {
            Ok(Some(returned)) => Outcome::Returned(returned),
            Ok(None) => Outcome::Dropped,
            Err(payload) => Outcome::Panicked(payload),
        };
        outcome.tell(engine, self.index, self.place);
    }
}

impl<T, E, F> Drop for BlockingTask<T, E, F> {
    /// Dropped before it was run: by a runtime that shuts down.
    fn drop(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        let work = self.work.take();
        let outcome = match catch_unwind(AssertUnwindSafe(|| drop(work))) {
            Ok(()) => Outcome::<()>::Dropped,
            Err(payload) => Outcome::Panicked(payload),
        };
        outcome.tell_of_drop(engine, self.index, self.place);
    }
}
