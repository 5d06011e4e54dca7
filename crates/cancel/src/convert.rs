//! From and to the token of tokio-util, without a task.
//!
//! A token has no callbacks, but it has a future, and a future has a waker. So a context of a token is a linked node
//! that owns the future, polled once with a waker that ends the node through its [`Link`]. The waker, which is what the
//! token keeps, has no handle to the node; the future, which takes the waker back when it is dropped, goes with the
//! node. A token of a context is cancelled by a callback.

use std::panic::Location;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use selvedge_primitives::{Origin, contain};
use tokio_util::sync::CancellationToken;

use crate::tree::{Handle, Level, Link};
use crate::{Canceller, Cause, CauseKind, Context, Registration};

/// The waker that ends the context of a token. The token drops it without a wake when the waker of somebody else has
/// panicked; so it looks once more when it is dropped.
struct TokenEnd {
    /// The token.
    token: CancellationToken,
    /// The way to the context's node.
    link: Arc<Link>,
    /// Where the context was made.
    place: &'static Location<'static>,
}

impl TokenEnd {
    /// What the context is told.
    fn cause(&self) -> Cause {
        Cause::at(CauseKind::Cancelled, self.place)
    }

    /// The token was cancelled: it wakes who waits for it then, and at no other time, because its future takes no part in
    /// tokio's cooperative budget. Contained, because the token drops the wakers that come after one that panics.
    fn told(&self) {
        contain(|| self.link.source_ended(Level::Cancelled, self.cause()));
    }
}

impl Drop for TokenEnd {
    fn drop(&mut self) {
        if self.token.is_cancelled() {
            self.told();
        }
    }
}

impl Wake for TokenEnd {
    fn wake(self: Arc<Self>) {
        self.told();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.told();
    }
}

impl Context {
    /// A context that is cancelled when `token` is, at once if it is already; and the right to cancel it earlier, which
    /// does not touch the token.
    ///
    /// It is the root of a tree of its own. Its cause is of the kind [`CauseKind::Cancelled`], and its place is the
    /// caller of this function, because a token does not say who cancelled it. For a context that ends with another one
    /// as well, give both to [`any_of`](Self::any_of).
    ///
    /// The token flags its own tree first, and then this context, on the thread that cancels it and before that `cancel`
    /// returns (or right after it, when it is itself called by a link: from a callback on a linked context, say). In
    /// between, `is_cancelled` of the token may be true and that of the context not yet. A waker of the
    /// context that panics does so inside the token's `cancel`: the panic ends there, reported by the panic hook,
    /// because tokio-util would leave others who wait for the token without their wake-up. (It comes out of the outer
    /// `cancel` when that was itself called by a link.) If a stranger's waker panics in the token, the context still ends,
    /// as long as tokio-util drops the wakers that it does not wake, which it does where it had taken them out of its list.
    ///
    /// No task and no thread is involved. The context's node keeps the token until it is gone, and the token
    /// keeps a waker until then; the token does not keep the context. A context that is given a token of its own as well, by
    /// [`to_token`](Self::to_token), is kept by that until it is cancelled. Five allocations.
    ///
    /// # Memory ordering
    ///
    /// What a thread did before it cancelled the token is visible to whoever sees the context cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # use tokio_util::sync::CancellationToken;
    /// let token = CancellationToken::new();
    /// let (ctx, _canceller) = Context::from_token(&token);
    /// let (request, _keep) = ctx.child();
    /// token.cancel();
    /// assert!(request.is_cancelled());
    /// ```
    #[track_caller]
    pub fn from_token(token: &CancellationToken) -> (Context, Canceller) {
        let origin = Origin::here();
        let link = Link::new(1);
        let (token, place) = (token.clone(), origin.place());
        let mut wait = Box::pin(token.clone().cancelled_owned());
        let end = Arc::new(TokenEnd { token, link: Arc::clone(&link), place });
        let (handle, right) = Handle::linked(origin, &link);
        let canceller = Canceller::new(right);
        let waker = Waker::from(Arc::clone(&end));
        match wait.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(()) => canceller.cancel_with(end.cause()),
            Poll::Pending => handle.own(wait),
        }
        (Context::of(handle), canceller)
    }

    /// A token that is cancelled when this context is, at once if it is already. Cancelling the token does not touch the
    /// context. The token of the background is never cancelled by it.
    ///
    /// It is cancelled by a callback, as [`on_cancel`](Self::on_cancel) has them: after every descendant was flagged, by the
    /// thread that cancels the context and before its `cancel` returns.
    ///
    /// The context's node keeps the callback, and that a clone of the token, **until the context is cancelled**, also
    /// when all other clones of the token are gone: a token cannot tell that it was dropped. Until then the callback
    /// keeps the node as well. That matters in two places:
    ///
    /// - Each call registers another callback. Of a context that lives long, make one token, and give out its clones or
    ///   `child_token`s, which leave nothing behind; or make the token of a child whose canceller goes when the work is
    ///   done; or call [`linked_token`](Self::linked_token).
    /// - A root whose canceller was detached, and whose contexts are all gone, can no longer be cancelled. With a
    ///   callback it is never freed.
    ///
    /// Three allocations, and those of the token.
    ///
    /// # Memory ordering
    ///
    /// What a thread did before it cancelled the context is visible to whoever sees the token cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// let (service, _shutdown) = Context::background().child();
    /// let (request, done) = service.child();
    /// let token = request.to_token();
    /// assert!(!token.is_cancelled());
    /// done.cancel();
    /// assert!(token.is_cancelled() && !service.is_cancelled());
    /// ```
    #[track_caller]
    pub fn to_token(&self) -> CancellationToken {
        self.linked_token().detach()
    }

    /// As [`to_token`](Self::to_token), for as long as what is returned is kept: nothing is left of it in the context
    /// after that.
    ///
    /// # Examples
    ///
    /// Tokens that come and go, of a context that stays:
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # use tokio_util::sync::CancellationToken;
    /// # fn serve(_stop: &CancellationToken) {}
    /// let (service, shutdown) = Context::background().child();
    /// for _connection in 0..3 {
    ///     let linked = service.linked_token();
    ///     serve(linked.token());
    /// }
    /// let last = service.linked_token();
    /// shutdown.cancel();
    /// assert!(last.token().is_cancelled());
    /// ```
    #[track_caller]
    pub fn linked_token(&self) -> LinkedToken {
        let token = CancellationToken::new();
        let ended = token.clone();
        LinkedToken { token, registration: self.on_cancel(move |_| ended.cancel()) }
    }
}

/// A token that a context cancels; from [`Context::linked_token`].
///
/// Dropping it takes the token away from the context: clones of the token that are still there are not cancelled by the
/// context any more, unless another thread is cancelling it right then.
#[derive(Debug)]
#[must_use = "dropping it takes the token away from its context: keep it, or `detach` it"]
pub struct LinkedToken {
    /// The token.
    token: CancellationToken,
    /// The callback that cancels it.
    registration: Registration,
}

impl LinkedToken {
    /// The token.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// The token, to be cancelled with the context in any case. The context's node keeps a clone of it until the context
    /// is cancelled; [`Context::to_token`] says what that means.
    pub fn detach(self) -> CancellationToken {
        self.registration.detach();
        self.token
    }
}
