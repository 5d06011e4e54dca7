//! The work of a flight: made, polled, dropped. With no lock held, and with no knowledge of who calls.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pin_project::pin_project;
use selvedge_primitives::{Panic, contain};

/// The work, and what goes with it, in one allocation.
pub(super) type Craft<V, E> = Pin<Box<Loaded<dyn Future<Output = Result<V, E>> + Send>>>;

/// A [`Craft`] of a known type.
#[pin_project]
pub(super) struct Loaded<F: ?Sized> {
    /// Pokes those who wait.
    waker: Waker,
    /// The work.
    #[pin]
    work: F,
}

/// What the work returned, or its panic.
pub(super) type Fate<V, E> = Result<Result<V, E>, Panic>;

/// What a poll of the work found.
pub(super) enum Polled<V, E> {
    /// It is not done.
    Pending(Craft<V, E>),
    /// It has ended and is dropped.
    Ended(Fate<V, E>),
}

/// The work that `make` makes, to be polled with `waker`; or its panic.
pub(super) fn load<V, E, F>(waker: Waker, make: impl FnOnce() -> F) -> Result<Craft<V, E>, Panic>
where
    F: Future<Output = Result<V, E>> + Send + 'static,
{
    // Unwind safe: what it leaves is its caller's, whose panic goes on.
    match catch_unwind(AssertUnwindSafe(make)) {
        Ok(work) => Ok(Box::pin(Loaded { waker, work })),
        Err(payload) => Err(Panic::new(payload)),
    }
}

/// Polls the work. If it has ended it is dropped.
pub(super) fn drive<V, E>(mut craft: Craft<V, E>) -> Polled<V, E> {
    let this = craft.as_mut().project();
    let mut cx = Context::from_waker(this.waker);
    // Unwind safe: a future that panicked is dropped below, not polled again.
    let polled = catch_unwind(AssertUnwindSafe(|| this.work.poll(&mut cx)));
    if let Ok(Poll::Pending) = polled {
        return Polled::Pending(craft);
    }
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(craft)));
    Polled::Ended(match (polled, dropped) {
        (Ok(Poll::Ready(result)), Ok(())) => Ok(result),
        (Ok(unseen), Err(payload)) => {
            contain(|| drop(unseen));
            Err(Panic::new(payload))
        }
        (Err(payload), dropped) => {
            discard(dropped);
            Err(Panic::new(payload))
        }
        (Ok(Poll::Pending), Ok(())) => unreachable!("returned above"),
    })
}

/// A second panic ends here; the hook has reported it.
fn discard(second: Result<(), Box<dyn Any + Send>>) {
    if let Err(payload) = second {
        contain(|| drop(payload));
    }
}
