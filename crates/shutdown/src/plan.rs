//! The plan: what is shared by the driver, the handles and the signal thread.
//!
//! ```text
//!            begin_stop                begin_abort              close
//!  Running -------------> Stopping -------------> Aborting -------------> Done
//!     |                      |                                              ^
//!     |                      +----------------------------------------------+
//!     +---------------------------------------------------------------------+
//! ```
//!
//! | phase | a trigger | a registration | left by |
//! |---|---|---|---|
//! | Running | wins: it stops the context and the components | is kept | whoever triggers first; a drop of the plan |
//! | Stopping | comes too late | is kept, stopped at once, waited for | the driver |
//! | Aborting | comes too late | is kept, stopped and aborted, waited for | the driver |
//! | Done | comes too late | is refused | nobody |
//!
//! Phase, reason and the list of components change together under one lock.
//!
//! - **P1** Components are stopped in the order of the list, and `stopped` counts those that
//!   somebody has taken on himself to stop. Whoever moves the count calls `stop`, so it is called
//!   once for each; and since the trigger, the registrar and the driver all help until the count has
//!   reached the end, it is called for all of them even if one of the three is slow.
//! - **P2** `abort` and `wait` are called by the driver only, which there is one of.
//! - **P3** After `close` the list is empty and stays so: nothing is registered unseen.
//! - **P4** `stopping` has the components whose `stop` runs, on whatever thread. The driver polls no
//!   `wait` before the `stop` of that component has returned, so a component has not ended while
//!   either goes on; and what `stop` panicked with is noted by then. When the driver has found one
//!   that it cannot poll yet it sets `awaited`, and the next `stop` that returns rings for it.
//!
//! No method of a component, no waker and no destructor runs under the lock.

mod alarm;
mod drive;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_cancel::{Canceller, Cause, CauseKind, Component, Context, Timer};
use selvedge_primitives::{Mutex, contain, release_then};

use crate::Reason;
use crate::report::Panic;
use alarm::Alarm;

pub(crate) use drive::Drive;

/// What a plan is made with.
pub(crate) struct Settings {
    /// From the stop to the abort.
    pub(crate) grace: Duration,
    /// From the abort to the end.
    pub(crate) abort_budget: Duration,
    /// Keeps both.
    pub(crate) timer: Timer,
}

/// A plan.
pub(crate) struct Plan {
    /// What everything stands on.
    pub(crate) ctx: Context,
    /// Stops and cancels `ctx`.
    canceller: Canceller,
    /// How long, and by which clock.
    settings: Settings,
    /// Wakes the driver.
    alarm: Arc<Alarm>,
    /// The phase and the list.
    state: Mutex<State>,
}

/// How far the plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nothing has begun.
    Running,
    /// Components drain.
    Stopping,
    /// Components that are left were aborted.
    Aborting,
    /// It is over.
    Done,
}

/// What the lock guards.
struct State {
    /// How far it is.
    phase: Phase,
    /// Why it left Running.
    reason: Option<Reason>,
    /// When it left Running.
    began: Option<Instant>,
    /// The components; none once it is done.
    entries: Vec<Arc<Entry>>,
    /// How many of them somebody has stopped, or is about to (P1).
    stopped: usize,
    /// Those of them whose `stop` has not returned (P4).
    stopping: Vec<usize>,
    /// Whether the driver wants to know when a `stop` returns (P4).
    awaited: bool,
    /// What was caught while stopping, by component.
    panics: Vec<(usize, Panic)>,
}

/// A registered component.
struct Entry {
    /// It.
    component: Arc<dyn Component>,
    /// Its name at the time.
    name: String,
    /// Where it was registered.
    place: &'static Location<'static>,
}

/// What is left to be settled without the lock once the plan is closed.
struct Closed {
    /// Every component.
    entries: Vec<Arc<Entry>>,
    /// From here on nobody has stopped them.
    unstopped: usize,
    /// What was caught.
    panics: Vec<(usize, Panic)>,
    /// Why.
    reason: Reason,
    /// When it left Running; none when it did not.
    began: Option<Instant>,
}

impl State {
    /// Running to Stopping. False when somebody was first.
    #[must_use = "only who was first stops the context"]
    fn begin_stop(&mut self, reason: &Reason, now: Instant) -> bool {
        if self.phase != Phase::Running {
            return false;
        }
        self.phase = Phase::Stopping;
        self.reason = Some(reason.clone());
        self.began = Some(now);
        true
    }

    /// Stopping to Aborting.
    fn begin_abort(&mut self) {
        debug_assert_eq!(self.phase, Phase::Stopping);
        self.phase = Phase::Aborting;
    }

    /// Takes the next component that nobody has stopped, if it is time to (P1).
    fn claim_stop(&mut self) -> Option<(usize, Arc<Entry>)> {
        if self.phase == Phase::Running {
            return None;
        }
        let index = self.stopped;
        let entry = self.entries.get(index)?;
        self.stopped += 1;
        self.stopping.push(index);
        Some((index, Arc::clone(entry)))
    }

    /// Takes note that the `stop` of a component has returned (P4). Gives back a panic that comes too
    /// late for the report, and says whether to ring for the driver.
    fn stop_returned(&mut self, index: usize, panic: Option<Panic>) -> (Option<Panic>, bool) {
        if self.phase == Phase::Done {
            return (panic, false);
        }
        self.stopping.retain(|&stopping| stopping != index);
        self.panics.extend(panic.map(|panic| (index, panic)));
        (None, std::mem::take(&mut self.awaited))
    }

    /// Whether the `stop` of a component was called, and has returned.
    fn has_stopped(&self, index: usize) -> bool {
        index < self.stopped && !self.stopping.contains(&index)
    }

    /// To Done, and nobody is admitted any more (P3).
    fn close(&mut self) -> Closed {
        self.phase = Phase::Done;
        self.stopping = Vec::new();
        Closed {
            entries: std::mem::take(&mut self.entries),
            unstopped: std::mem::take(&mut self.stopped),
            panics: std::mem::take(&mut self.panics),
            reason: self.reason.get_or_insert(Reason::Dropped).clone(),
            began: self.began,
        }
    }
}

impl Plan {
    /// A plan in which nothing has begun.
    pub(crate) fn new(ctx: Context, canceller: Canceller, settings: Settings) -> Arc<Self> {
        let state = State {
            phase: Phase::Running,
            reason: None,
            began: None,
            entries: Vec::new(),
            stopped: 0,
            stopping: Vec::new(),
            awaited: false,
            panics: Vec::new(),
        };
        Arc::new(Self { ctx, canceller, settings, alarm: Alarm::new(), state: Mutex::new(state) })
    }

    /// How far it is.
    pub(crate) fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// Why it left Running, if it has.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.state.lock().reason.clone()
    }

    /// Adds a component, which is stopped at once if it is time to. Gives it back when it is over.
    pub(crate) fn register(
        &self,
        component: Arc<dyn Component>,
        place: &'static Location<'static>,
    ) -> Result<(), Arc<dyn Component>> {
        let name = component.name();
        let mut state = self.state.lock();
        if state.phase == Phase::Done {
            drop(state);
            return Err(component);
        }
        state.entries.push(Arc::new(Entry { component, name, place }));
        if state.phase == Phase::Running {
            return Ok(());
        }
        release_then(state, || {
            self.help_stop();
            self.alarm.ring();
        });
        Ok(())
    }

    /// Begins the shutdown, if nobody has: stops the context, then the components. Returns whether
    /// it was the first, and with what a waker of somebody's panicked.
    #[track_caller]
    pub(crate) fn trigger(&self, reason: &Reason) -> (bool, Option<Box<dyn Any + Send>>) {
        self.trigger_with(reason, Cause::new(CauseKind::Stopped))
    }

    /// As [`trigger`](Self::trigger), with the cause that names the place.
    fn trigger_with(&self, reason: &Reason, cause: Cause) -> (bool, Option<Box<dyn Any + Send>>) {
        let now = self.settings.timer.now();
        let mut state = self.state.lock();
        if !state.begin_stop(reason, now) {
            return (false, None);
        }
        release_then(state, || {
            let cause = cause.with_error(reason.clone());
            let Settings { grace, timer, .. } = &self.settings;
            let stop = || self.canceller.stop_on(timer, cause, *grace);
            let panic = catch_unwind(AssertUnwindSafe(stop)).err();
            self.help_stop();
            (true, panic)
        })
    }

    /// Ends the grace now, having begun the shutdown if nobody has.
    pub(crate) fn abort(&self, reason: &Reason) {
        // Panics of other people's wakers were reported by the hook; everybody was woken.
        contain(|| drop(self.trigger(reason)));
        let cause = Cause::new(CauseKind::Cancelled).with_error(reason.clone());
        contain(|| self.canceller.cancel_with(cause));
    }

    /// Stops whatever nobody has stopped yet (P1).
    fn help_stop(&self) {
        loop {
            let claimed = self.state.lock().claim_stop();
            let Some((index, entry)) = claimed else { return };
            let panic = entry.call("stop", |component| component.stop()).err();
            // Before the driver may go on: a plan that is done keeps nothing.
            contain(|| drop(entry));
            let mut state = self.state.lock();
            let (unread, ring) = state.stop_returned(index, panic);
            release_then(state, || {
                // The hook has reported it.
                contain(|| drop(unread));
                if ring {
                    self.alarm.ring();
                }
            });
        }
    }
}

impl Entry {
    /// Calls the component, and catches its panic.
    fn call<R>(
        &self,
        call: &'static str,
        f: impl FnOnce(&Arc<dyn Component>) -> R,
    ) -> Result<R, Panic> {
        catch_unwind(AssertUnwindSafe(|| f(&self.component)))
            .map_err(|payload| Panic::new(call, payload))
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (phase, components) = {
            let state = self.state.lock();
            (state.phase, state.entries.len())
        };
        f.debug_struct("Plan")
            .field("phase", &phase)
            .field("components", &components)
            .finish_non_exhaustive()
    }
}
