//! The hub: brings signals to the plan, whichever of the two comes first.
//!
//! Raising and attaching change the count and the listener under one lock, so a signal is told to the
//! plan by exactly one of them: by `raise` when the plan was there, by `attach` when it was not.

use std::sync::Arc;

use selvedge_primitives::{Mutex, release_then};

use crate::plan::Plan;
use crate::{Reason, Signal};

/// Knows what was raised, and whom to tell.
pub(super) struct Hub {
    /// Both.
    state: Mutex<State>,
}

/// What the lock guards.
struct State {
    /// The first signal that was raised.
    first: Option<Signal>,
    /// Whether there was another.
    again: bool,
    /// Whom to tell.
    listener: Listener,
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
        let state = State { first: None, again: false, listener: Listener::Awaited };
        Self { state: Mutex::new(state) }
    }

    /// Takes note of a signal and tells the plan, on this thread. Returns false when nobody is left
    /// to tell.
    pub(super) fn raise(&self, signal: Signal) -> bool {
        let mut state = self.state.lock();
        state.again |= state.first.is_some();
        let (first, again) = (*state.first.get_or_insert(signal), state.again);
        let plan = match &state.listener {
            Listener::Awaited => return true,
            Listener::Plan(plan) => Arc::clone(plan),
            Listener::Gone => return false,
        };
        release_then(state, || tell(&plan, first, again));
        true
    }

    /// Has `plan` told of signals from now on, and of those that were kept.
    pub(super) fn attach(&self, plan: &Arc<Plan>) {
        let mut state = self.state.lock();
        state.listener = Listener::Plan(Arc::clone(plan));
        let (first, again) = (state.first, state.again);
        release_then(state, || {
            if let Some(first) = first {
                tell(plan, first, again);
            }
        });
    }

    /// Lets the plan go.
    pub(super) fn detach(&self) {
        let mut state = self.state.lock();
        let listener = std::mem::replace(&mut state.listener, Listener::Gone);
        release_then(state, || drop(listener));
    }
}

/// Tells a plan of one signal, or of more.
fn tell(plan: &Plan, first: Signal, again: bool) {
    let reason = Reason::Signal(first);
    if again {
        plan.abort(&reason);
    } else {
        // A waker that panics was reported by the hook; everything was stopped all the same.
        let _ = plan.trigger(&reason);
    }
}
