//! The waiting itself, shared by the borrowing and the owning future: first the fast path, then a
//! place in the line. Knows nothing of tokio's budget; the faces ask for it, and the blocking wait
//! must not (tokio would wake it only once the thread it blocks is free again).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::Anchor;

use super::engine::Engine;
use super::error::AcquireError;
use super::line::{Grant, Place, Queue};
use super::word::Take;

/// What leads to the semaphore: a borrow or a shared owner.
pub(crate) trait Handle<'q> {
    /// The semaphore's engine.
    fn engine(&self) -> &Engine;

    /// Keeps the line alive for as long as somebody stands in it.
    fn anchor(&self) -> Anchor<'q, Queue>;
}

/// An acquisition on its way.
#[pin_project(PinnedDrop)]
pub(crate) struct Acquiring<'q, H: Handle<'q>> {
    /// The semaphore; goes on to the permit, so it is gone once this is ready.
    handle: Option<H>,
    /// How many permits.
    wanted: usize,
    /// The place in the line, made when there is something to wait for: until then this costs
    /// neither the node nor another count of the owner.
    #[pin]
    place: Option<Place<'q>>,
}

impl<'q, H: Handle<'q>> Acquiring<'q, H> {
    /// An acquisition that has not begun.
    pub(crate) fn new(handle: H, wanted: usize) -> Self {
        Self { handle: Some(handle), wanted, place: None }
    }

    /// How many permits it wants.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Ready with the handle, under which the permits are now out, or with the error.
    ///
    /// # Panics
    ///
    /// When it was ready before.
    #[inline]
    pub(crate) fn poll_acquire(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<H, AcquireError>> {
        let mut this = self.project();
        let handle = this.handle.as_ref().expect("an acquisition is not polled after it was ready");
        let wanted = *this.wanted;
        let ended = if this.place.is_none() {
            match handle.engine().take(wanted) {
                Take::Taken => Ok(()),
                refused => match handle.engine().hopeless(wanted, refused) {
                    Some(error) => Err(error),
                    None => {
                        this.place.set(Some(Place::new(handle.anchor())));
                        ready!(Self::poll_place(this.place, None, handle, cx, wanted))
                    }
                },
            }
        } else {
            match this.place.as_mut().as_pin_mut().and_then(Place::granted) {
                Some(Grant::Permits) => {
                    this.place.set(None);
                    Ok(())
                }
                granted => ready!(Self::poll_place(this.place, granted, handle, cx, wanted)),
            }
        };
        let handle = this.handle.take().expect("it was there above");
        Poll::Ready(ended.map(|()| handle))
    }

    /// Stands in line, if others do, on behalf of a task whose budget is spent: it takes nothing now, and the scheduler may let
    /// it run only when there is nothing else to run.
    #[cold]
    pub(crate) fn stand(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.project();
        let (Some(handle), None) = (this.handle.as_ref(), &*this.place) else { return };
        let engine = handle.engine();
        if *this.wanted == 0 || engine.waiting() == 0 {
            return;
        }
        this.place.set(Some(Place::new(handle.anchor())));
        let place = this.place.as_mut().as_pin_mut().expect("made above");
        if !engine.stand(place, cx, *this.wanted) {
            this.place.set(None);
        }
    }

    /// Polls the place in the line, for which there is this.
    #[cold]
    fn poll_place(
        mut place: Pin<&mut Option<Place<'q>>>,
        mut granted: Option<Grant>,
        handle: &H,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<(), AcquireError>> {
        let mut again = None;
        let ended = loop {
            let standing = place.as_mut().as_pin_mut().expect("the caller has made it");
            let grant = match granted.take() {
                Some(grant) => grant,
                None => ready!(handle.engine().poll_wait(standing, cx, wanted, again)),
            };
            match grant {
                Grant::Permits => break Ok(()),
                Grant::Closed => break Err(AcquireError::Closed),
                Grant::OverCapacity(capacity) => {
                    break Err(AcquireError::OverCapacity { wanted, capacity });
                }
                // It did not come when it was called: to the end of the line, if there is nothing for it.
                Grant::Again(wish) => again = Some(wish),
            }
        };
        // What keeps the line alive goes, too.
        place.set(None);
        Poll::Ready(ended)
    }
}

#[pinned_drop]
impl<'q, H: Handle<'q>> PinnedDrop for Acquiring<'q, H> {
    /// Gives up: what was granted and not seen goes back.
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let (Some(handle), Some(place)) = (this.handle.as_ref(), this.place.as_pin_mut()) {
            handle.engine().leave(place, *this.wanted);
        }
    }
}
