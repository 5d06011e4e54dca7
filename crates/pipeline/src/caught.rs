//! User code that panics: where it ends, and who hears of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

use selvedge_primitives::Panic;

/// Polls a future and catches its panic. What the future drops at its end is dropped inside.
#[pin_project]
pub(crate) struct CatchUnwind<F> {
    /// The future.
    #[pin]
    future: F,
}

impl<F> CatchUnwind<F> {
    /// Around `future`.
    pub(crate) fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F: Future> Future for CatchUnwind<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(Panic::new(payload))),
        }
    }
}
