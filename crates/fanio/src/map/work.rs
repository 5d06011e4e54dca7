//! The task of one item of a concurrent mapping.
//!
//! It ends once, and the user's future is dropped before the result is handed over: whoever sees the
//! result finds nothing of the future alive. Dropped by the runtime before its end, it drops the
//! future first and then the slot, which leaves a gap.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use selvedge_cancel::Run;
use selvedge_primitives::{Panic, contain};

use crate::{MapError, Slot};

/// Runs a future to its end, and completes a slot with what became of it.
#[pin_project]
pub(super) struct Work<F: Future> {
    /// The future, under the context; none once it ended. Dropped before `slot`.
    #[pin]
    future: Option<Run<F>>,
    /// Where the result goes; none once it went there.
    slot: Option<Slot<Result<F::Output, MapError>>>,
}

impl<F: Future> Work<F> {
    /// A task that was not polled yet.
    pub(super) fn new(future: Run<F>, slot: Slot<Result<F::Output, MapError>>) -> Self {
        Self { future: Some(future), slot: Some(slot) }
    }
}

impl<F: Future> Future for Work<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        // Unwind safe: a future that panicked is dropped next, and not looked at again.
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(ended)) => Ok(ended),
            Err(panic) => Err(panic),
        };
        let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        let Some(slot) = this.slot.take() else { return Poll::Ready(()) };
        let index = slot.sequence();
        slot.complete(match (ended, dropped) {
            (Ok(Ok(value)), Ok(())) => Ok(value),
            (Ok(Err(cause)), Ok(())) => Err(MapError::Cancelled { index, cause }),
            (Ok(value), Err(panic)) => {
                contain(|| drop(value));
                Err(MapError::Panicked { index, panic: Panic::new(panic) })
            }
            (Err(panic), second) => {
                drop(second.map_err(Panic::new));
                Err(MapError::Panicked { index, panic: Panic::new(panic) })
            }
        });
        Poll::Ready(())
    }
}
