//! Tokio's cooperative budget, or nothing without the feature `tokio`.
//!
//! A leaf future asks [`poll_proceed`] before it takes what it waits for (or, where being ready stays so, after it has
//! seen that), and tells the answer when it has made progress; so a loop over always-ready futures yields to the runtime
//! now and then. Outside a tokio task the budget is unlimited.

use std::task::{Context, Poll};

/// Leave to make progress. Dropped without [`made_progress`](Self::made_progress), the budget is
/// given back.
#[must_use = "call `made_progress` when the future is ready"]
#[derive(Debug)]
pub struct Proceed(
    /// tokio's own guard.
    #[cfg(feature = "tokio")]
    tokio::task::coop::RestoreOnPending,
);

impl Proceed {
    /// The future is ready: one unit of the budget is spent.
    #[inline]
    pub fn made_progress(self) {
        #[cfg(feature = "tokio")]
        self.0.made_progress();
    }
}

/// The future of [`unconstrained`].
#[cfg(feature = "tokio")]
pub type Unconstrained<F> = tokio::task::coop::Unconstrained<F>;

/// The future of [`unconstrained`].
#[cfg(not(feature = "tokio"))]
pub type Unconstrained<F> = F;

/// A future that takes no part in the budget: for whoever polls it himself, and waits for its waker. With the budget spent it
/// would be pending, to be woken by a scheduler that may not run before the wait is over.
#[inline]
pub fn unconstrained<F: Future>(future: F) -> Unconstrained<F> {
    #[cfg(feature = "tokio")]
    return tokio::task::coop::unconstrained(future);
    #[cfg(not(feature = "tokio"))]
    future
}

/// Ready when the task may go on; pending, with a wake-up on its way, when its budget is spent.
#[inline]
pub fn poll_proceed(cx: &mut Context<'_>) -> Poll<Proceed> {
    #[cfg(feature = "tokio")]
    return tokio::task::coop::poll_proceed(cx).map(Proceed);
    #[cfg(not(feature = "tokio"))]
    {
        let _ = cx;
        Poll::Ready(Proceed())
    }
}
