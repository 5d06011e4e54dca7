//! The end of a pool: waiting for it, asking for it, and watching from afar.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use selvedge_cancel::{Canceller, Cause, CauseKind, Straggler};
use selvedge_primitives::coop;

use crate::Ledger;
use crate::engine::{Activity, Engine, Gate};

/// Completes with the ledger when a pool has ended; from [`Pool::wait`](crate::Pool::wait) or [`Watcher::wait`].
///
/// A pool has ended when its last worker has left: each counts itself out as its last act, after the
/// last job and the last destructor of a user's. Only the operating system's thread goes away after
/// that; what it may still run are the destructors of thread-locals that jobs left there.
///
/// # Cancel safety
///
/// Ended stays ended, so dropping the future loses nothing and changes nothing.
///
/// # Memory ordering
///
/// What every job and every destructor did is visible to whoever has seen the end.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Ended {
    /// The pool.
    engine: Arc<Engine>,
    /// The place at the gate.
    #[pin]
    gate: Gate,
}

impl Ended {
    /// Waits for the end of `engine`.
    fn new(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::clone(engine), gate: engine.gate() }
    }
}

impl Future for Ended {
    type Output = Ledger;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Ledger> {
        let this = self.project();
        let proceed = ready!(coop::poll_proceed(cx));
        ready!(this.engine.poll_ended(this.gate, cx));
        proceed.made_progress();
        Poll::Ready(this.engine.ledger())
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ended").field("pool", self.engine.origin()).finish()
    }
}

/// Stops a pool, then waits for its end; from [`Pool::drain`](crate::Pool::drain),
/// which documents it.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Drain<'a> {
    /// Stops the pool, and why; none once it has.
    stop: Option<(&'a Canceller, Cause)>,
    /// The wait.
    #[pin]
    ended: Ended,
}

impl<'a> Drain<'a> {
    /// Stops by `canceller` the pool of `engine`.
    #[track_caller]
    pub(crate) fn new(canceller: &'a Canceller, engine: &Arc<Engine>) -> Self {
        let cause = Cause::new(CauseKind::Stopped);
        Self { stop: Some((canceller, cause)), ended: Ended::new(engine) }
    }
}

impl Future for Drain<'_> {
    type Output = Ledger;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Ledger> {
        let this = self.project();
        if let Some((canceller, cause)) = this.stop.take() {
            canceller.stop_with(cause, Duration::MAX);
        }
        this.ended.poll(cx)
    }
}

impl fmt::Debug for Drain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("pool", self.ended.engine.origin()).finish()
    }
}

/// Sees a pool without keeping it running; from [`Pool::watch`](crate::Pool::watch). Stays readable after the pool was
/// dropped, also while its last jobs run out.
#[derive(Clone)]
pub struct Watcher {
    /// The pool.
    engine: Arc<Engine>,
}

impl Watcher {
    /// Watches `engine`.
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::clone(engine) }
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        self.engine.name()
    }

    /// The counts, as they are at one moment.
    pub fn ledger(&self) -> Ledger {
        self.engine.ledger()
    }

    /// Waits for the pool's end.
    pub fn wait(&self) -> Ended {
        Ended::new(&self.engine)
    }

    /// The jobs that are running, each with the place where it was submitted and the worker that it
    /// occupies, and the slots that are reserved and not used, which a drain waits for.
    pub fn stragglers(&self) -> Vec<Straggler> {
        let (activities, slots) = self.engine.activities();
        let pool = self.engine.name();
        let mut stragglers = Vec::new();
        for (number, activity) in activities.into_iter().enumerate() {
            let (place, doing) = match activity {
                Activity::Idle => continue,
                Activity::Running(place) => (place, "running"),
                Activity::Settling(place) => (place, "handing over its result"),
            };
            stragglers.push(Straggler {
                name: format!("job of {pool}"),
                place: Some(place),
                age: None,
                note: format!("{doing} on {}", self.engine.worker_name(number)),
            });
        }
        if slots > 0 {
            stragglers.push(Straggler {
                name: format!("reserved slots of {pool}"),
                place: None,
                age: None,
                note: format!("{slots} neither used nor dropped"),
            });
        }
        stragglers
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("pool", self.engine.origin())
            .field("ledger", &format_args!("{}", self.ledger()))
            .finish()
    }
}
