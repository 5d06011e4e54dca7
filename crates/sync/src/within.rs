//! A wait that ends with a context: the context's flag is looked at before each poll, and only a wait that is pending leaves
//! a waker with it. What was waited with is dropped when the context has ended it, not when the future is, so that it stands
//! in nobody's way: that is what it has beyond [`Context::run`].

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::pin_project;
use selvedge_cancel::{Cancelled, Cause, Context};
use selvedge_primitives::coop;

/// A context, borrowed or one's own.
enum Scope<'c> {
    /// Borrowed.
    Borrowed(&'c Context),
    /// One's own.
    Own(Context),
}

impl<'c> Scope<'c> {
    /// The context.
    #[inline]
    fn ctx(&self) -> &Context {
        match self {
            Self::Borrowed(ctx) => ctx,
            Self::Own(ctx) => ctx,
        }
    }

    /// Its end.
    fn cancelled(&self) -> Cancelled<'c> {
        match self {
            Self::Borrowed(ctx) => ctx.cancelled(),
            Self::Own(ctx) => ctx.cancelled_owned(),
        }
    }
}

/// Waits with `F` for no longer than a context lasts: gives what `F` does, or the cause. Made by the operations of this crate that
/// end with `_in`, which say what they promise.
#[pin_project]
#[must_use = "a future does nothing, and stands in no line, until it is polled"]
pub struct Within<'c, F> {
    /// The context.
    scope: Scope<'c>,
    /// Wakes when it is cancelled; made when there is something to wait for.
    #[pin]
    cancelled: Option<Cancelled<'c>>,
    /// The wait; none once it has ended.
    #[pin]
    wait: Option<F>,
    /// Who waits.
    place: &'static Location<'static>,
}

impl<'c, F> Within<'c, F> {
    /// A wait that has not begun.
    #[track_caller]
    #[inline]
    pub(crate) fn new(ctx: &'c Context, wait: F) -> Self {
        Self::of(Scope::Borrowed(ctx), wait)
    }

    /// In whatever scope.
    #[track_caller]
    #[inline]
    fn of(scope: Scope<'c>, wait: F) -> Self {
        Self { scope, cancelled: None, wait: Some(wait), place: Location::caller() }
    }
}

impl<F> Within<'static, F> {
    /// As [`new`](Self::new), keeping the context.
    #[track_caller]
    #[inline]
    pub(crate) fn own(ctx: Context, wait: F) -> Self {
        Self::of(Scope::Own(ctx), wait)
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Result<F::Output, Cause>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let wait = this.wait.as_mut().as_pin_mut();
        let wait = wait.expect("`Within` polled after it completed");
        let ended = if this.scope.ctx().is_cancelled() {
            // Ready without the wait's doing, so it is this one's to spend of the budget.
            ready!(coop::poll_proceed(cx)).made_progress();
            Err(this.scope.ctx().cause().expect("what is cancelled has a cause"))
        } else if let Poll::Ready(output) = wait.poll(cx) {
            Ok(output)
        } else {
            if this.cancelled.is_none() {
                this.cancelled.set(Some(this.scope.cancelled()));
            }
            let cancelled = this.cancelled.as_mut().as_pin_mut().expect("made above");
            Err(ready!(cancelled.poll(cx)))
        };
        this.wait.set(None);
        this.cancelled.set(None);
        Poll::Ready(ended)
    }
}

impl<F> fmt::Debug for Within<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within").field("place", &format_args!("{}", self.place)).finish()
    }
}

/// As [`Within`], for a wait that may fail: the cause is one of its own errors. Made by the operations of this crate that end with
/// `_in`, which say what they promise.
#[pin_project]
#[must_use = "a future does nothing, and stands in no line, until it is polled"]
pub struct WithinOrCause<'c, F> {
    /// The wait.
    #[pin]
    within: Within<'c, F>,
}

impl<'c, F> WithinOrCause<'c, F> {
    /// `within`, with the cause as an error.
    #[inline]
    pub(crate) fn new(within: Within<'c, F>) -> Self {
        Self { within }
    }
}

impl<F, T, E> Future for WithinOrCause<'_, F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Cause>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<T, E>> {
        let ended = ready!(self.project().within.poll(cx));
        Poll::Ready(ended.unwrap_or_else(|cause| Err(cause.into())))
    }
}

impl<F> fmt::Debug for WithinOrCause<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithinOrCause")
            .field("place", &format_args!("{}", self.within.place))
            .finish()
    }
}
