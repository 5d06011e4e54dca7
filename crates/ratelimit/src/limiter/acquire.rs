//! The futures: first the fast path, then a place in the line.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::{Anchor, coop};

use super::engine::{Engine, Grant, Place, Queue};
use super::word::Take;
use super::{AcquireError, Limiter};

/// What leads to the engine: a borrow or a shared owner.
pub(super) trait Handle<'q> {
    /// The engine.
    fn engine(&self) -> &Arc<Engine>;

    /// Keeps the line alive for as long as somebody stands in it.
    fn anchor(&self) -> Anchor<'q, Queue>;
}

impl<'q> Handle<'q> for &'q Limiter {
    #[inline]
    fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn anchor(&self) -> Anchor<'q, Queue> {
        Anchor::borrowed(self.engine.queue())
    }
}

impl Handle<'static> for Arc<Engine> {
    #[inline]
    fn engine(&self) -> &Arc<Engine> {
        self
    }

    fn anchor(&self) -> Anchor<'static, Queue> {
        Anchor::shared(Arc::clone(self), |engine| engine.queue())
    }
}

/// An acquisition on its way. Knows nothing of tokio's budget; the faces ask for it, and the blocking
/// wait must not. Ready, it can be polled again for as many tokens more.
#[pin_project(PinnedDrop)]
pub(super) struct Acquiring<'q, H: Handle<'q>> {
    /// The limiter.
    handle: H,
    /// How many tokens.
    wanted: u32,
    /// The place in the line, made when there is something to wait for.
    #[pin]
    place: Option<Place<'q>>,
}

impl<'q, H: Handle<'q>> Acquiring<'q, H> {
    /// An acquisition that has not begun.
    pub(super) fn new(handle: H, wanted: u32) -> Self {
        Self { handle, wanted, place: None }
    }

    /// How many tokens it wants.
    pub(super) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Ready when the tokens are the caller's, or will not be.
    #[inline]
    pub(super) fn poll_acquire(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), AcquireError>> {
        let mut this = self.project();
        let (engine, wanted) = (this.handle.engine(), *this.wanted);
        if this.place.is_none() {
            let burst = engine.quota().burst_size();
            if wanted == 0 {
                return Poll::Ready(Ok(()));
            }
            if wanted > burst {
                return Poll::Ready(Err(AcquireError::OverBurst { wanted, burst }));
            }
            if engine.try_take(wanted) == Take::Taken {
                return Poll::Ready(Ok(()));
            }
            this.place.set(Some(Place::new(this.handle.anchor())));
        }
        Self::poll_place(this.place, engine, cx, wanted)
    }

    /// Polls the place in the line, and gives it up once it was served.
    #[cold]
    fn poll_place(
        mut place: Pin<&mut Option<Place<'q>>>,
        engine: &Arc<Engine>,
        cx: &mut Context<'_>,
        wanted: u32,
    ) -> Poll<Result<(), AcquireError>> {
        let standing = place.as_mut().as_pin_mut().expect("the caller has made it");
        let grant = ready!(engine.poll_wait(standing, cx, wanted));
        place.set(None);
        Poll::Ready(match grant {
            Grant::Tokens(_) => Ok(()),
            Grant::NoTimer(error) => Err(AcquireError::NoTimer(error)),
        })
    }
}

#[pinned_drop]
impl<'q, H: Handle<'q>> PinnedDrop for Acquiring<'q, H> {
    /// Gives up: what was granted and not seen goes back.
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let Some(place) = this.place.as_pin_mut() {
            this.handle.engine().leave(place, *this.wanted);
        }
    }
}

/// Waits for tokens; made by [`Limiter::acquire`], which says what it promises. Dropped, it leaves the
/// line.
#[pin_project]
#[must_use = "a future does nothing, and stands in no line, until it is polled"]
pub struct Acquire<'a> {
    /// The waiting.
    #[pin]
    acquiring: Acquiring<'a, &'a Limiter>,
    /// Whether it has completed.
    done: bool,
    /// Who called `acquire`.
    place: &'static Location<'static>,
}

impl<'a> Acquire<'a> {
    /// Waits for `wanted` tokens of `limiter` on behalf of the caller.
    #[track_caller]
    #[inline]
    pub(super) fn new(limiter: &'a Limiter, wanted: u32) -> Self {
        let acquiring = Acquiring::new(limiter, wanted);
        Self { acquiring, done: false, place: Location::caller() }
    }
}

impl Future for Acquire<'_> {
    type Output = Result<(), AcquireError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        assert!(!*this.done, "`Acquire` polled after it completed");
        let proceed = ready!(coop::poll_proceed(cx));
        let acquired = ready!(this.acquiring.poll_acquire(cx));
        proceed.made_progress();
        *this.done = true;
        Poll::Ready(acquired)
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

/// Waits for tokens without borrowing; made by [`Limiter::acquire_owned`], which says what it
/// promises. Dropped, it leaves the line.
#[pin_project]
#[must_use = "a future does nothing, and stands in no line, until it is polled"]
pub struct AcquireOwned {
    /// The waiting.
    #[pin]
    acquiring: Acquiring<'static, Arc<Engine>>,
    /// Whether it has completed.
    done: bool,
    /// Who called `acquire_owned`.
    place: &'static Location<'static>,
}

impl AcquireOwned {
    /// Waits for `wanted` tokens of `engine` on behalf of the caller.
    #[track_caller]
    pub(super) fn new(engine: Arc<Engine>, wanted: u32) -> Self {
        let acquiring = Acquiring::new(engine, wanted);
        Self { acquiring, done: false, place: Location::caller() }
    }
}

impl Future for AcquireOwned {
    type Output = Result<(), AcquireError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        assert!(!*this.done, "`AcquireOwned` polled after it completed");
        let proceed = ready!(coop::poll_proceed(cx));
        let acquired = ready!(this.acquiring.poll_acquire(cx));
        proceed.made_progress();
        *this.done = true;
        Poll::Ready(acquired)
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
