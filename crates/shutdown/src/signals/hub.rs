//! The hub: brings signals to the plan, whichever of the two comes first.
//!
//! A signal is counted first and told then. What was told is kept under one lock with whom to tell:
//! so a signal is told to the plan once, by who counted it or by who attached the plan, whichever
//! comes second and sees both.

use std::sync::Arc;

use selvedge_primitives::{Mutex, contain, release_then};

use super::tally::Tally;
use crate::plan::Plan;
use crate::{Reason, Signal};

/// Knows what was heard, and whom to tell.
pub(super) struct Hub {
    /// What was heard.
    tally: Tally,
    /// Who was told.
    state: Mutex<State>,
}

/// What the lock guards.
struct State {
    /// Whom to tell.
    listener: Listener,
    /// How many signals a plan was told of, or were kept for one that never came.
    told: u32,
    /// How many are kept for a plan to come.
    kept: u32,
}

/// Whom to tell.
enum Listener {
    /// Nobody yet: signals are kept.
    Awaited,
    /// A plan.
    Plan(Arc<Plan>),
    /// Nobody any more.
    Gone,
}

impl Hub {
    /// A hub that nobody listens to yet.
    pub(super) fn new() -> Self {
        let state = State { listener: Listener::Awaited, told: 0, kept: 0 };
        Self { tally: Tally::new(), state: Mutex::new(state) }
    }

    /// What was heard. A handler may touch it, and nothing else.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Counts a signal and tells the plan, on this thread. Returns false when nobody is left to
    /// tell.
    pub(super) fn raise(&self, signal: Signal) -> bool {
        self.tally.add(signal);
        self.tell()
    }

    /// Tells the plan what was heard and not told yet, on this thread. Returns false when nobody is
    /// left to tell.
    pub(super) fn tell(&self) -> bool {
        let mut state = self.state.lock();
        let Some((first, count)) = self.tally.read().filter(|(_, count)| *count > state.told)
        else {
            return true;
        };
        let plan = match &state.listener {
            Listener::Awaited => {
                state.kept = count;
                return true;
            }
            Listener::Plan(plan) => Arc::clone(plan),
            Listener::Gone => return false,
        };
        state.told = count;
        release_then(state, || tell(&plan, first, count));
        true
    }

    /// Has `plan` told of signals from now on, and of those that were heard.
    pub(super) fn attach(&self, plan: &Arc<Plan>) {
        self.state.lock().listener = Listener::Plan(Arc::clone(plan));
        self.tell();
    }

    /// Lets the plan go, or what was kept for one: that is settled with it, so that a later look, which
    /// a forked child can cause, does not take it for a signal that nobody is told of.
    pub(super) fn detach(&self) {
        let mut state = self.state.lock();
        state.told = state.told.max(state.kept);
        let listener = std::mem::replace(&mut state.listener, Listener::Gone);
        release_then(state, || drop(listener));
    }
}

/// Tells a plan of one signal, or of more.
fn tell(plan: &Plan, first: Signal, count: u32) {
    let reason = Reason::Signal(first);
    if count > 1 {
        plan.abort(&reason);
    } else {
        // A waker that panics was reported by the hook; everything was stopped all the same.
        contain(|| drop(plan.trigger(&reason)));
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_look_for_nothing_new_ends_nobody_after_a_signal_that_was_kept_in_vain() {
        let hub = Hub::new();
        assert!(hub.raise(Signal::Interrupt), "kept for a plan");
        hub.detach();
        // What the byte of a forked child comes to: a look, and nothing that was counted here.
        assert!(hub.tell(), "nothing was heard since");
        assert!(!hub.raise(Signal::Terminate), "nobody is left to tell");
    }
}
