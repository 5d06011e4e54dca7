//! The wait for room, shared by [`Spawn`](super::Spawn) and [`Reserve`](super::Reserve): a place in
//! the group's queue, and a watch on its context.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project::{pin_project, pinned_drop};
use selvedge_cancel::Stopping;

use super::engine::{Engine, Place};
use super::refusal::Refusal;

/// Waits for room for one task.
#[pin_project(PinnedDrop)]
pub(super) struct Admission<'g, T, E> {
    /// The group's.
    engine: &'g Arc<Engine<T, E>>,
    /// The place in the queue.
    #[pin]
    place: Place<'g, T, E>,
    /// Wakes when the context is stopping; made when there is something to wait for.
    #[pin]
    stopping: Option<Stopping<'static>>,
}

impl<'g, T, E> Admission<'g, T, E> {
    /// A wait that has not begun.
    pub(super) fn new(engine: &'g Arc<Engine<T, E>>) -> Self {
        Self { engine, place: engine.place(), stopping: None }
    }

    /// The group's engine.
    pub(super) fn engine(&self) -> &'g Arc<Engine<T, E>> {
        self.engine
    }

    /// Ready with room that the caller uses or gives back, or with why there is none.
    pub(super) fn poll_room(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let mut this = self.project();
        if let Err(refusal) = this.engine.check_context() {
            this.engine.leave(this.place);
            return Poll::Ready(Err(refusal));
        }
        if let Poll::Ready(room) = this.engine.poll_room(this.place.as_mut(), cx) {
            this.stopping.set(None);
            return Poll::Ready(room);
        }
        if this.stopping.is_none() {
            this.stopping.set(Some(this.engine.context().stopping_owned()));
        }
        let stopping = this.stopping.as_mut().as_pin_mut().expect("made above");
        stopping.poll(cx).map(|cause| {
            this.engine.leave(this.place);
            Err(Refusal::Stopping(cause))
        })
    }

    /// Waits no more; room that was granted goes to the next.
    #[cfg(feature = "tokio")]
    pub(super) fn leave(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.stopping.set(None);
        this.engine.leave(this.place);
    }
}

#[pinned_drop]
impl<T, E> PinnedDrop for Admission<'_, T, E> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        this.engine.leave(this.place);
    }
}
