//! A task of a group: the future that a runtime polls, around the user's.
//!
//! It ends once, in [`GroupTask::poll`] or in its drop: `engine` is taken by whoever tells of the end.
//! The user's future is dropped before that, in here, so that whoever is told of the end finds
//! nothing of the task alive.

use std::any::Any;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_cancel::Cancelled;
use selvedge_primitives::{Panic, contain, coop, drop_each};

use super::core::{Ended, Harvest};
use super::engine::Engine;

/// A task of a [`TaskGroup`](crate::TaskGroup), to be polled by an executor; from
/// [`Slot::into_task`](crate::Slot::into_task), which says what it promises.
///
/// It completes when the task has ended, however it did; what it returned goes to the join. Dropped
/// before, the task counts as cancelled.
#[pin_project(PinnedDrop)]
#[must_use = "a task that is dropped counts as cancelled: hand it to an executor"]
pub struct GroupTask<T, E, F> {
    /// Where the end is told; none once it was.
    engine: Option<Arc<Engine<T, E>>>,
    /// The task's number.
    index: usize,
    /// Where it was spawned.
    place: &'static Location<'static>,
    /// The user's; none once it ended.
    #[pin]
    future: Option<F>,
    /// Wakes the task when the context is cancelled; made by the first poll that finds it pending.
    #[pin]
    cancelled: Option<Cancelled<'static>>,
}

/// How the user's future, or closure, ended.
pub(super) enum Outcome<R> {
    /// It returned this.
    Returned(R),
    /// It panicked with this.
    Panicked(Box<dyn Any + Send>),
    /// It was dropped, and not polled to its end.
    Dropped,
}

impl<R> Outcome<R> {
    /// Of what was dropped, not of what has ended: tells the engine, and lets go of it.
    pub(super) fn tell_of_drop<T, E>(
        self,
        engine: Arc<Engine<T, E>>,
        index: usize,
        place: &'static Location<'static>,
    ) {
        match self {
            Self::Panicked(panic) => engine.panicked(index, place, Panic::new(panic)),
            Self::Returned(_) | Self::Dropped => engine.end(index, Ended::Cancelled),
        }
        let_go(engine);
    }
}

impl<T, E: Display> Outcome<Result<T, E>> {
    /// Tells the engine, and lets go of it.
    pub(super) fn tell(
        self,
        engine: Arc<Engine<T, E>>,
        index: usize,
        place: &'static Location<'static>,
    ) {
        match self {
            Self::Returned(Ok(value)) => engine.finished(index, value),
            Self::Returned(Err(error)) => engine.failed(index, place, error),
            outcome => return outcome.tell_of_drop(engine, index, place),
        }
        let_go(engine);
    }
}

impl<T, E, F> GroupTask<T, E, F> {
    /// The task `index` of `engine`, which was let in.
    pub(super) fn new(
        engine: Arc<Engine<T, E>>,
        index: usize,
        place: &'static Location<'static>,
        future: F,
    ) -> Self {
        Self { engine: Some(engine), index, place, future: Some(future), cancelled: None }
    }

    /// The task's index, in the order in which the tasks were spawned.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Drops the user's future and the waker left with the context. A panic of that becomes the
    /// outcome, unless the task has panicked already.
    fn clear<R>(self: Pin<&mut Self>, outcome: Outcome<R>) -> Outcome<R> {
        let mut this = self.project();
        let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        contain(|| this.cancelled.set(None));
        match (dropped, outcome) {
            (Ok(()), outcome) => outcome,
            (Err(second), Outcome::Panicked(first)) => {
                contain(|| drop(second));
                Outcome::Panicked(first)
            }
            (Err(panic), Outcome::Returned(value)) => {
                contain(|| drop(value));
                Outcome::Panicked(panic)
            }
            (Err(panic), Outcome::Dropped) => Outcome::Panicked(panic),
        }
    }
}

impl<T, E, F> Future for GroupTask<T, E, F>
where
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut this = self.as_mut().project();
        if this.cancelled.is_none() {
            // Once a task, before the future: a share of the budget that is held over its poll would
            // undo what that spends when it is given back.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        let Some(engine) = this.engine.as_ref() else { return Poll::Ready(()) };
        let outcome = if engine.abort_context().is_cancelled() {
            Outcome::Dropped
        } else {
            let future = this.future.as_mut().as_pin_mut().expect("it is there until the end");
            // Unwind safe: the future is dropped next, and not looked at again.
            match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                Ok(Poll::Ready(returned)) => Outcome::Returned(returned),
                Err(payload) => Outcome::Panicked(payload),
                Ok(Poll::Pending) => {
                    if this.cancelled.is_none() {
                        this.cancelled.set(Some(engine.abort_context().cancelled_owned()));
                    }
                    let cancelled = this.cancelled.as_mut().as_pin_mut().expect("made above");
                    ready!(cancelled.poll(cx));
                    Outcome::Dropped
                }
            }
        };
        let outcome = self.as_mut().clear(outcome);
        let this = self.project();
        let engine = this.engine.take().expect("it was there above");
        outcome.tell(engine, *this.index, this.place);
        Poll::Ready(())
    }
}

#[pinned_drop]
impl<T, E, F> PinnedDrop for GroupTask<T, E, F> {
    /// Dropped by the executor before it has ended: a runtime that shuts down, or a user who changed
    /// their mind.
    fn drop(mut self: Pin<&mut Self>) {
        let Some(engine) = self.as_mut().project().engine.take() else { return };
        let outcome = self.as_mut().clear(Outcome::<()>::Dropped);
        let this = self.project();
        outcome.tell_of_drop(engine, *this.index, this.place);
    }
}

/// Lets go of the engine. If that is the last of it, the group was dropped and nobody joins: the
/// destructors of results that nobody wants are contained here, one by one.
fn let_go<T, E>(engine: Arc<Engine<T, E>>) {
    let Some(engine) = Arc::into_inner(engine) else { return };
    while let (Harvest::Panic(failure), _) = engine.harvest() {
        contain(|| drop(failure));
    }
    if let (Harvest::Results { results, failures }, _) = engine.harvest() {
        contain(|| drop_each(results));
        contain(|| drop_each(failures));
    }
    contain(|| drop(engine));
}

impl<T, E, F> fmt::Debug for GroupTask<T, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupTask")
            .field("index", &self.index)
            .field("place", &format_args!("{}", self.place))
            .field("ended", &self.engine.is_none())
            .finish()
    }
}
