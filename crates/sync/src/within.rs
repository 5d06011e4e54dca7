//! A wait that ends with a context: the context's flag is looked at before each poll, and only a wait that is pending leaves
//! a waker with it. What was waited with is dropped when the context has ended it, not when the future is, so that it stands
//! in nobody's way.

use std::pin::Pin;
use std::task::{Poll, ready};

use pin_project::pin_project;
use selvedge_cancel::{Cancelled, Cause, Context};

/// A context, borrowed or one's own.
pub(crate) trait Scope<'c> {
    /// The context.
    fn ctx(&self) -> &Context;

    /// Its end.
    fn cancelled(&self) -> Cancelled<'c>;
}

impl<'c> Scope<'c> for &'c Context {
    #[inline]
    fn ctx(&self) -> &Context {
        self
    }

    fn cancelled(&self) -> Cancelled<'c> {
        Context::cancelled(self)
    }
}

impl Scope<'static> for Context {
    #[inline]
    fn ctx(&self) -> &Context {
        self
    }

    fn cancelled(&self) -> Cancelled<'static> {
        self.cancelled_owned()
    }
}

/// Waits with `F` until a context is cancelled.
#[pin_project]
pub(crate) struct Within<'c, S, F> {
    /// The context.
    scope: S,
    /// Wakes when it is cancelled; made when there is something to wait for.
    #[pin]
    cancelled: Option<Cancelled<'c>>,
    /// The wait; none once it has ended.
    #[pin]
    wait: Option<F>,
}

impl<'c, S: Scope<'c>, F: Future> Within<'c, S, F> {
    /// A wait that has not begun.
    #[inline]
    pub(crate) fn new(scope: S, wait: F) -> Self {
        Self { scope, cancelled: None, wait: Some(wait) }
    }

    /// Ready with what the wait gives, or with the cause.
    ///
    /// # Panics
    ///
    /// When it was ready before.
    #[inline]
    pub(crate) fn poll_within(
        self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Result<F::Output, Cause>> {
        let mut this = self.project();
        let wait = this.wait.as_mut().as_pin_mut();
        let wait = wait.expect("a wait in a context is not polled after it was ready");
        let ended = if this.scope.ctx().is_cancelled() {
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
