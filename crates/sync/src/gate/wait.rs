//! The waiting itself, shared by both faces: first the fast path, then a place in the queue. Knows
//! nothing of tokio's budget; the faces ask for it, and the blocking wait must not.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::{Anchor, block_on};

use super::{Gate, Place};

/// A wait for a gate to open.
#[pin_project(PinnedDrop)]
pub(crate) struct GateWait<'g> {
    /// The gate.
    gate: &'g Gate,
    /// The place in the queue, made when there is something to wait for.
    #[pin]
    place: Option<Place<'g>>,
}

impl<'g> GateWait<'g> {
    /// A wait that has not begun.
    pub(crate) fn new(gate: &'g Gate) -> Self {
        Self { gate, place: None }
    }

    /// Ready when the gate was open.
    #[inline]
    pub(crate) fn poll_open(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.place.is_none() {
            if this.gate.is_open() {
                return Poll::Ready(());
            }
            this.place.set(Some(Place::new(Anchor::borrowed(&this.gate.queue))));
        }
        let standing = this.place.as_mut().as_pin_mut().expect("made above");
        ready!(this.gate.poll_wait(standing, cx));
        // A poll after this begins a new wait.
        this.place.set(None);
        Poll::Ready(())
    }

    /// Blocks the thread until the gate was open.
    pub(crate) fn block(self) {
        let mut this = pin!(self);
        block_on(poll_fn(|cx| this.as_mut().poll_open(cx)));
    }
}

#[pinned_drop]
impl PinnedDrop for GateWait<'_> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let Some(place) = this.place.as_pin_mut() {
            this.gate.leave(place);
        }
    }
}
