//! The wait for the end of all tasks.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::coop;

use super::core::Harvest;
use super::engine::{Engine, Place};
use super::report::Joined;

/// Waits until every task has ended; made by [`TaskGroup::join`](crate::TaskGroup::join), which says
/// what it promises.
#[pin_project]
#[must_use = "a future does nothing until it is polled"]
pub struct Join<'g, T, E> {
    /// The group's.
    engine: &'g Arc<Engine<T, E>>,
    /// The place in the queue.
    #[pin]
    waiting: Place<'g, T, E>,
    /// How far it is.
    stage: Stage,
    /// Who called `join`.
    place: &'static Location<'static>,
}

/// How far a join is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not polled yet.
    New,
    /// The group is closed.
    Closed,
    /// It has completed.
    Done,
}

impl<'g, T, E> Join<'g, T, E> {
    /// A join that has not begun.
    #[track_caller]
    pub(super) fn new(engine: &'g Arc<Engine<T, E>>) -> Self {
        Self { engine, waiting: engine.place(), stage: Stage::New, place: Location::caller() }
    }
}

impl<T, E> Future for Join<'_, T, E> {
    type Output = Joined<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Joined<T, E>> {
        let this = self.project();
        assert!(*this.stage != Stage::Done, "`Join` polled after it completed");
        let proceed = ready!(coop::poll_proceed(cx));
        if *this.stage == Stage::New {
            this.engine.close();
            *this.stage = Stage::Closed;
        }
        ready!(this.engine.poll_over(this.waiting, cx));
        proceed.made_progress();
        *this.stage = Stage::Done;
        let (harvest, counts) = this.engine.harvest();
        let (results, failures) = match harvest {
            Harvest::Panic(failure) => {
                failure.resume();
                (Vec::new(), Vec::new())
            }
            Harvest::Results { results, failures } => (results, failures),
        };
        let (cause, in_order) = (this.engine.context().cause(), this.engine.keeps_in_order());
        Poll::Ready(Joined { results, failures, counts, cause, in_order })
    }
}

impl<T, E> fmt::Debug for Join<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join")
            .field("stage", &self.stage)
            .field("place", &format_args!("{}", self.place))
            .finish_non_exhaustive()
    }
}
