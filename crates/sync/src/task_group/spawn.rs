//! Spawning with a future in hand, waiting for room.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::coop;

use super::admission::Admission;
use super::engine::Engine;
use super::refusal::{Refusal, SpawnError};
use super::runtime::Runtime;
use super::task::GroupTask;

/// Spawns a future when there is room; made by [`TaskGroup::spawn`](crate::TaskGroup::spawn), which
/// says what it promises.
#[pin_project]
#[must_use = "a future does nothing until it is polled: the task is not spawned before"]
pub struct Spawn<'g, T, E, F> {
    /// The waiting.
    #[pin]
    admission: Admission<'g, T, E>,
    /// The group's.
    runtime: &'g Runtime,
    /// What is to be spawned; none once it was, or was given back. It is not polled in here, so it
    /// is not pinned.
    future: Option<F>,
    /// Who called `spawn`.
    place: &'static Location<'static>,
}

impl<'g, T, E, F> Spawn<'g, T, E, F> {
    /// A spawn that has not begun.
    pub(super) fn new(
        engine: &'g Arc<Engine<T, E>>,
        runtime: &'g Runtime,
        future: F,
        place: &'static Location<'static>,
    ) -> Self {
        Self { admission: Admission::new(engine), runtime, future: Some(future), place }
    }
}

impl<T, E, F> Future for Spawn<'_, T, E, F>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: fmt::Display + Send + 'static,
{
    type Output = Result<usize, SpawnError<F>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        assert!(this.future.is_some(), "`Spawn` polled after it completed");
        let proceed = ready!(coop::poll_proceed(cx));
        let engine = this.admission.engine();
        let admitted = match this.runtime.get() {
            Some(runtime) => ready!(this.admission.poll_room(cx))
                .and_then(|()| engine.let_in())
                .map(|index| (runtime, index)),
            None => {
                // It completes, and may have stood in the queue since a poll inside a runtime.
                this.admission.leave();
                Err(Refusal::NoRuntime)
            }
        };
        proceed.made_progress();
        let future = this.future.take().expect("it was there above");
        Poll::Ready(match admitted {
            Ok((runtime, index)) => {
                runtime.spawn(GroupTask::new(Arc::clone(engine), index, this.place, future));
                Ok(index)
            }
            Err(refusal) => Err(SpawnError::new(future, refusal)),
        })
    }
}

impl<T, E, F> fmt::Debug for Spawn<'_, T, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn").field("place", &format_args!("{}", self.place)).finish()
    }
}
