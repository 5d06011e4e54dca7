//! A token with the methods of tokio-util's `CancellationToken`, for a switch by changing an import.
//!
//! ```
//! // Before: use tokio_util::sync::CancellationToken;
//! use selvedge_cancel::compat::CancellationToken;
//!
//! let token = CancellationToken::new();
//! let child = token.child_token();
//! let _guard = token.clone().drop_guard();
//! assert!(!child.is_cancelled());
//! token.cancel();
//! assert!(child.is_cancelled());
//! ```
//!
//! A token is a [`Context`] and its [`Canceller`] in one, and [`context`](CancellationToken::context) and
//! [`canceller`](CancellationToken::canceller) give them: so one part of a program after the other can go on to
//! contexts. Code that has a context already, and calls code that wants a token, makes it with
//! [`child_of`](CancellationToken::child_of).
//!
//! # What stays, and what is new
//!
//! | | tokio-util | here |
//! |---|---|---|
//! | the last clone is dropped | nothing is cancelled | the same: the canceller is detached |
//! | a token is cancelled | with its children, and not with its parent | the same |
//! | a child of a cancelled token | is cancelled | the same |
//! | cancelled and ready at once, in `run_until_cancelled` | the work's output, but for the first poll | the same |
//! | `cancelled` in a loop that never waits | does not yield | yields, by tokio's cooperative budget |
//! | a waker panics | others may not be woken | all others are woken first |
//! | `tokio_util::future::FutureExt` | `with_cancellation_token` | [`run_until_cancelled`](CancellationToken::run_until_cancelled), or [`RunIn`](crate::RunIn) |
//! | what `run_until_cancelled` returns | has no name | is [`RunUntilCancelledFuture`] |
//! | who cancelled it, where | | [`Context::cause`], of the [`context`](CancellationToken::context) |
//!
//! It does not depend on tokio-util. To pass a token of this module on to code that takes tokio-util's, or to make one
//! from it, take `Context::to_token` and `Context::from_token` of the feature `tokio-util`.
//!
//! # When not to use it
//!
//! In new code: a function that takes a [`Context`] says that it will not cancel its caller, and a [`Canceller`] that is
//! forgotten ends its work. A token does neither.

mod futures;
mod guard;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::Location;

pub use futures::{
    RunUntilCancelledFuture, RunUntilCancelledFutureOwned, WaitForCancellationFuture,
    WaitForCancellationFutureOwned,
};
pub use guard::{DropGuard, DropGuardRef};

use crate::tree::Handle;
use crate::{Canceller, Cause, CauseKind, Context};

/// Observes and cancels: a context and its canceller in one, as tokio-util has it.
///
/// Clones are the same token, and any of them may cancel. Dropping them cancels nothing; see
/// [`drop_guard`](Self::drop_guard) for that. The [module's page](self) compares it with tokio-util's.
///
/// # Memory ordering
///
/// What a thread did before it cancelled is visible to whoever sees the token, or one below it, cancelled.
#[derive(Clone)]
pub struct CancellationToken {
    /// What observes.
    context: Context,
    /// What cancels, detached.
    canceller: Canceller,
}

impl CancellationToken {
    /// A token that is not cancelled, and has no parent.
    #[track_caller]
    pub fn new() -> Self {
        Self::child_of(&Context::background())
    }

    /// A token below a context: it is cancelled with the context, or by itself, which does not touch the context.
    ///
    /// ```
    /// # use selvedge_cancel::{Context, compat::CancellationToken};
    /// let (service, shutdown) = Context::background().child();
    /// let token = CancellationToken::child_of(&service);
    /// shutdown.cancel();
    /// assert!(token.is_cancelled());
    /// ```
    #[track_caller]
    pub fn child_of(context: &Context) -> Self {
        let (context, canceller) = context.child();
        canceller.clone().detach();
        Self { context, canceller }
    }

    /// A token that is cancelled with this one, or by itself, which does not touch this one. The child of a token that
    /// is cancelled begins cancelled.
    ///
    /// It stays a child when all clones of this one are dropped, as far as those above this one are concerned; without
    /// any above, nobody is left to cancel it but itself.
    #[track_caller]
    pub fn child_token(&self) -> Self {
        Self::child_of(&self.context)
    }

    /// The context that this token observes. Its canceller being detached, it ends by [`cancel`](Self::cancel), by the
    /// [`canceller`](Self::canceller), or from above.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The right to cancel, which is detached for all clones: for [`Canceller::cancel_because`], and
    /// [`Canceller::stop`], of which a token only sees the end.
    pub fn canceller(&self) -> &Canceller {
        &self.canceller
    }

    /// Cancels this token and all below it. When it returns, each of them is flagged, whoever did it, and those who
    /// waited have been woken, or are being woken by another thread that came first, as [`Canceller::cancel`] has it. A
    /// second time it does nothing.
    ///
    /// # Panics
    ///
    /// When a waker panics: all others are woken first, then the first panic goes on.
    #[track_caller]
    pub fn cancel(&self) {
        self.canceller.cancel();
    }

    /// Cancels it on behalf of a guard.
    fn cancel_at(&self, place: &'static Location<'static>) {
        self.canceller.cancel_with(Cause::at(CauseKind::Cancelled, place));
    }

    /// Whether it is cancelled.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.context.is_cancelled()
    }

    /// Waits until the token is cancelled; completes at once, if it is already.
    ///
    /// # Cancel safety
    ///
    /// Cancelled stays cancelled, so dropping the future loses nothing.
    ///
    /// # Fairness
    ///
    /// All who wait are woken, in the order in which they came to each token.
    ///
    /// # Memory ordering
    ///
    /// What the canceller did before is visible when the future completes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::compat::CancellationToken;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let token = CancellationToken::new();
    /// let worker = tokio::spawn({
    ///     let token = token.child_token();
    ///     async move { token.cancelled().await }
    /// });
    /// token.cancel();
    /// worker.await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        WaitForCancellationFuture::new(self)
    }

    /// As [`cancelled`](Self::cancelled), with a future that borrows nothing.
    ///
    /// # Cancel safety
    ///
    /// As [`cancelled`](Self::cancelled).
    ///
    /// # Fairness
    ///
    /// As [`cancelled`](Self::cancelled).
    ///
    /// # Memory ordering
    ///
    /// As [`cancelled`](Self::cancelled).
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::compat::CancellationToken;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let token = CancellationToken::new();
    /// let worker = tokio::spawn(token.child_token().cancelled_owned());
    /// token.cancel();
    /// worker.await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    pub fn cancelled_owned(self) -> WaitForCancellationFutureOwned {
        WaitForCancellationFutureOwned::new(self)
    }

    /// A guard that owns this token and cancels it when it is dropped, unless it is disarmed.
    #[track_caller]
    pub fn drop_guard(self) -> DropGuard {
        DropGuard::new(self)
    }

    /// As [`drop_guard`](Self::drop_guard), with a guard that borrows the token.
    #[track_caller]
    pub fn drop_guard_ref(&self) -> DropGuardRef<'_> {
        DropGuardRef::new(self)
    }

    /// Runs `future` until it completes, and gives its output; or until the token is cancelled: none then.
    ///
    /// A token that is cancelled before the first poll wins, and `future` is not polled. After that `future` is polled
    /// before the token is looked at, so that an output which is there is given. (That is how tokio-util does it;
    /// [`Context::run`] looks at the context first, at every poll.) `future` is dropped before this one completes.
    ///
    /// # Cancel safety
    ///
    /// As safe as `future`.
    ///
    /// # Fairness
    ///
    /// The token is looked at first once, and after that `future` is: one that never waits is not ended by the token.
    ///
    /// # Memory ordering
    ///
    /// What the canceller did before is visible when the future completes with none.
    ///
    /// # Panics
    ///
    /// When it is polled after it has completed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::future::{pending, ready};
    /// # use selvedge_cancel::compat::CancellationToken;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let token = CancellationToken::new();
    /// assert_eq!(token.run_until_cancelled(ready(5)).await, Some(5));
    /// token.cancel();
    /// assert_eq!(token.run_until_cancelled(pending::<()>()).await, None);
    /// # });
    /// ```
    #[track_caller]
    pub fn run_until_cancelled<F: Future>(&self, future: F) -> RunUntilCancelledFuture<'_, F> {
        RunUntilCancelledFuture::new(self, future)
    }

    /// As [`run_until_cancelled`](Self::run_until_cancelled), with a future that borrows nothing.
    ///
    /// # Cancel safety
    ///
    /// As safe as `future`.
    ///
    /// # Fairness
    ///
    /// As [`run_until_cancelled`](Self::run_until_cancelled).
    ///
    /// # Memory ordering
    ///
    /// As [`run_until_cancelled`](Self::run_until_cancelled).
    ///
    /// # Panics
    ///
    /// When it is polled after it has completed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::compat::CancellationToken;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let token = CancellationToken::new();
    /// let work = token.child_token().run_until_cancelled_owned(async { 5 });
    /// assert_eq!(tokio::spawn(work).await.unwrap(), Some(5));
    /// # });
    /// ```
    #[track_caller]
    pub fn run_until_cancelled_owned<F: Future>(
        self,
        future: F,
    ) -> RunUntilCancelledFutureOwned<F> {
        RunUntilCancelledFutureOwned::new(self, future)
    }

    /// The node.
    fn handle(&self) -> &Handle {
        self.context.handle().expect("a child is not the background")
    }
}

impl Default for CancellationToken {
    /// [`CancellationToken::new`].
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for CancellationToken {
    /// Whether cancelling one cancels the other, and the other way round: whether they are clones. A parent and its child
    /// are not equal.
    fn eq(&self, other: &Self) -> bool {
        self.handle().same_node(other.handle())
    }
}

impl Eq for CancellationToken {}

impl Hash for CancellationToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.handle().id().hash(state);
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationToken").field("is_cancelled", &self.is_cancelled()).finish()
    }
}
