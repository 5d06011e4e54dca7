//! The futures: [`Acquire`] borrows the semaphore, [`AcquireOwned`] shares it. Each asks for the
//! task's budget, lets the engine's `Acquiring` wait, and makes the permit.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::{Anchor, coop};

use super::acquiring::{Acquiring, Handle};
use super::age::Caller;
use super::engine::Engine;
use super::line::Queue;
use super::{AcquireError, OwnedPermit, Permit, Semaphore};

/// Waits for permits; made by [`Semaphore::acquire`], which says what it promises. Dropped, it
/// leaves the line.
#[pin_project]
#[must_use = "a future does nothing, and stands in no line, until it is polled"]
pub struct Acquire<'a> {
    /// The waiting.
    #[pin]
    acquiring: Acquiring<'a, &'a Semaphore>,
    /// Who called `acquire`.
    place: &'static Location<'static>,
}

impl<'a> Acquire<'a> {
    /// Waits for `wanted` permits of `semaphore` on behalf of the caller.
    #[track_caller]
    #[inline]
    pub(super) fn new(semaphore: &'a Semaphore, wanted: usize) -> Self {
        Self { acquiring: Acquiring::new(semaphore, wanted), place: Location::caller() }
    }
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<Permit<'a>, AcquireError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(proceed) = coop::poll_proceed(cx) else {
            this.acquiring.stand(cx);
            return Poll::Pending;
        };
        let wanted = this.acquiring.wanted();
        let acquired = ready!(this.acquiring.poll_acquire(cx));
        proceed.made_progress();
        Poll::Ready(
            acquired.map(|semaphore| Permit::new(semaphore, wanted, Caller::at(this.place))),
        )
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("wanted", &self.acquiring.wanted())
            .field("place", &format_args!("{}", self.place))
            .finish()
    }
}

/// Waits for owned permits; made by [`Semaphore::acquire_owned`], which says what it promises.
/// Dropped, it leaves the line.
#[pin_project]
#[must_use = "a future does nothing, and stands in no line, until it is polled"]
pub struct AcquireOwned {
    /// The waiting.
    #[pin]
    acquiring: Acquiring<'static, Arc<Semaphore>>,
    /// Who called `acquire_owned`.
    place: &'static Location<'static>,
}

impl AcquireOwned {
    /// Waits for `wanted` permits of `semaphore` on behalf of the caller.
    #[track_caller]
    #[inline]
    pub(super) fn new(semaphore: Arc<Semaphore>, wanted: usize) -> Self {
        Self { acquiring: Acquiring::new(semaphore, wanted), place: Location::caller() }
    }
}

impl Future for AcquireOwned {
    type Output = Result<OwnedPermit, AcquireError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(proceed) = coop::poll_proceed(cx) else {
            this.acquiring.stand(cx);
            return Poll::Pending;
        };
        let wanted = this.acquiring.wanted();
        let acquired = ready!(this.acquiring.poll_acquire(cx));
        proceed.made_progress();
        Poll::Ready(
            acquired.map(|semaphore| OwnedPermit::new(semaphore, wanted, Caller::at(this.place))),
        )
    }
}

impl fmt::Debug for AcquireOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcquireOwned")
            .field("wanted", &self.acquiring.wanted())
            .field("place", &format_args!("{}", self.place))
            .finish()
    }
}

impl<'q> Handle<'q> for &'q Semaphore {
    #[inline]
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn anchor(&self) -> Anchor<'q, Queue> {
        Anchor::borrowed(self.engine.queue())
    }
}

impl Handle<'static> for Arc<Semaphore> {
    #[inline]
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn anchor(&self) -> Anchor<'static, Queue> {
        Anchor::shared(Arc::clone(self), |semaphore| semaphore.engine.queue())
    }
}
