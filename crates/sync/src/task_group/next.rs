//! The wait for the next value, where they are given out as they come.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::coop;

use super::engine::{Engine, NextPlace};

/// Waits for the next value; made by [`TaskGroup::next`](crate::TaskGroup::next), which says what it promises.
#[pin_project(PinnedDrop)]
#[must_use = "a future does nothing until it is polled"]
pub struct Next<'g, T, E> {
    /// The group's.
    engine: &'g Arc<Engine<T, E>>,
    /// The place in the queue.
    #[pin]
    waiting: NextPlace<'g>,
    /// Who called `next`.
    place: &'static Location<'static>,
}

impl<'g, T, E> Next<'g, T, E> {
    /// A wait that has not begun.
    #[track_caller]
    pub(super) fn new(engine: &'g Arc<Engine<T, E>>) -> Self {
        Self { engine, waiting: engine.next_place(), place: Location::caller() }
    }
}

impl<T, E> Future for Next<'_, T, E> {
    type Output = Option<(usize, T)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let proceed = ready!(coop::poll_proceed(cx));
        let this = self.project();
        let next = ready!(this.engine.poll_next(this.waiting, cx));
        proceed.made_progress();
        Poll::Ready(next)
    }
}

#[pinned_drop]
impl<T, E> PinnedDrop for Next<'_, T, E> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        this.engine.leave_next(this.waiting);
    }
}

impl<T, E> fmt::Debug for Next<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("place", &format_args!("{}", self.place)).finish()
    }
}
