//! The future: first the fast path, then a place in the line.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::{Anchor, coop};

use super::engine::{Ask, Engine, Grant, Place};
use super::{AcquireError, Priority};
use crate::lent::Lent;

/// What leads to the engine.
pub(crate) type Handle<'q> = Lent<'q, Arc<Engine>, Arc<Engine>>;

impl<'q> Handle<'q> {
    /// A place in the line, which it keeps alive.
    fn place(&self) -> Place<'q> {
        Place::new(match self {
            Self::Borrowed(engine) => Anchor::borrowed(engine.queue()),
            Self::Owned(engine) => Anchor::shared(Arc::clone(engine), |engine| engine.queue()),
        })
    }
}

/// An acquisition on its way. Knows nothing of tokio's budget; the face asks for it, and the blocking wait must not. Ready, it can be
/// polled again for as many tokens more.
#[pin_project(PinnedDrop)]
pub(super) struct Acquiring<'q> {
    /// The limiter.
    handle: Handle<'q>,
    /// What is asked for.
    pub(super) ask: Ask,
    /// The place in the line, made when there is something to wait for.
    #[pin]
    place: Option<Place<'q>>,
}

impl<'q> Acquiring<'q> {
    /// An acquisition that has not begun.
    #[inline]
    pub(super) fn new(handle: Handle<'q>, ask: Ask) -> Self {
        Self { handle, ask, place: None }
    }

    /// Ready when the tokens are the caller's, or will not be.
    #[inline]
    pub(super) fn poll_acquire(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), AcquireError>> {
        let mut this = self.project();
        if this.place.is_none() {
            if this.handle.try_take(this.ask.tokens).is_ok() {
                this.handle.meter().granted(this.ask.tokens);
                return Poll::Ready(Ok(()));
            }
            this.place.set(Some(this.handle.place()));
        }
        Self::poll_place(this.place, this.handle, cx, *this.ask)
    }

    /// Polls the place in the line, and gives it up once it was served.
    #[cold]
    fn poll_place(
        mut place: Pin<&mut Option<Place<'q>>>,
        engine: &Arc<Engine>,
        cx: &mut Context<'_>,
        ask: Ask,
    ) -> Poll<Result<(), AcquireError>> {
        let standing = place.as_mut().as_pin_mut().expect("the caller has made it");
        let grant = ready!(engine.poll_wait(standing, cx, ask));
        place.set(None);
        Poll::Ready(told(grant, ask.tokens))
    }

    /// Where it stands.
    fn standing(self: Pin<&Self>) -> Option<Standing> {
        let this = self.project_ref();
        this.handle.standing(this.place.as_pin_ref()?, *this.ask)
    }
}

/// What a grant of so many tokens is to who has waited.
pub(super) fn told(grant: Grant, wanted: u32) -> Result<(), AcquireError> {
    Err(match grant {
        Grant::Tokens(_) => return Ok(()),
        Grant::OverBurst(burst) => AcquireError::OverBurst { wanted, burst },
        Grant::TooLate(wait) => AcquireError::TooLate { due_in: Duration::from_nanos(wait) },
        Grant::TooMany(waiting) => AcquireError::TooMany { waiting },
        Grant::Closed => AcquireError::Closed,
        Grant::NoTimer(error) => AcquireError::NoTimer(error),
    })
}

#[pinned_drop]
impl PinnedDrop for Acquiring<'_> {
    /// Gives up: what was granted and not seen goes back.
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let Some(place) = this.place.as_pin_mut() {
            this.handle.leave(place, *this.ask);
        }
    }
}

/// Where one who waits stands: see [`Acquire::standing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// How many are served before it.
    pub ahead: usize,
    /// How long it takes until it is served, if nobody before it gives up, nobody of a higher class comes and the quota stays what it is; none
    /// if that is never, or not within 73 years.
    pub due_in: Option<Duration>,
}

/// Waits for tokens; made by [`Limiter::acquire`](crate::Limiter::acquire), which says what it promises. Dropped, it leaves the line.
#[pin_project]
#[must_use = "a future does nothing, and stands in no line, until it is polled"]
pub struct Acquire<'a> {
    /// The waiting.
    #[pin]
    acquiring: Acquiring<'a>,
    /// Whether it has completed.
    done: bool,
    /// Who called `acquire`.
    place: &'static Location<'static>,
}

impl<'a> Acquire<'a> {
    /// Waits on behalf of the caller.
    #[track_caller]
    #[inline]
    pub(crate) fn new(handle: Handle<'a>, ask: Ask) -> Self {
        let acquiring = Acquiring::new(handle, ask);
        Self { acquiring, done: false, place: Location::caller() }
    }

    /// In another class than [`Priority::Normal`]. Changes nothing once it waits.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.acquiring.ask.priority = priority;
        self
    }

    /// More than the burst is no error: it is taken in parts, of a burst each, as they come, and the future completes with the last. Others
    /// wait meanwhile, also those of a higher class once it has begun. Given up before that, what it has goes back as far as it can
    /// ([exactness](crate::Limiter#exactness)).
    ///
    /// What is taken in parts is used at once: within the burst is each part where it was taken, not the sum.
    pub fn split(mut self) -> Self {
        self.acquiring.ask.split = true;
        self
    }

    /// Where it stands in line, and when it is due. None if it does not wait: it was not polled yet, or its tokens were granted.
    ///
    /// Costs a walk along those before it, under the lock of the line.
    pub fn standing(self: Pin<&Self>) -> Option<Standing> {
        self.project_ref().acquiring.standing()
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
            .field("wanted", &self.acquiring.ask.tokens)
            .field("place", &format_args!("{}", self.place))
            .finish()
    }
}
