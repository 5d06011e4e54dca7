//! A deadline, or the end of a grace: an instant, its timer, and one registration for all the nodes
//! that share it.

use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use selvedge_primitives::Mutex;
use selvedge_primitives::time::{Expire, Expiry, Ticket, Timer};

use super::handle::Tree;
use crate::{Cause, CauseKind};

/// A deadline that a new node brings.
pub(crate) struct OwnDeadline {
    /// When.
    pub(crate) at: Instant,
    /// On whose clock.
    pub(crate) timer: Timer,
}

/// An instant at which everything from `top` downwards ends.
pub(super) struct Limit {
    /// When.
    pub(super) at: Instant,
    /// On whose clock.
    pub(super) timer: Timer,
    /// Where the deadline was set.
    place: &'static Location<'static>,
    /// The tree of the nodes that share it. The cycle (tree, entry, cell, limit, tree) lasts while
    /// the entry does, and entries go with their handles.
    tree: Arc<Tree>,
    /// Guarded by its own lock, taken after the tree's.
    state: Mutex<State>,
}

/// Where the limit stands in the tree, and with its timer.
struct State {
    /// The highest node that carries it; none once nothing is left to end. Changed under the
    /// tree's lock as well, so whoever holds that can rely on it.
    top: Option<usize>,
    /// How far the registration is.
    registration: Registration,
}

/// The states of a registration.
enum Registration {
    /// Nobody waited yet.
    Unasked,
    /// Somebody is about to register.
    Asked,
    /// Registered.
    Held(Ticket),
    /// It expired, or nothing is left to end.
    Over,
}

impl Limit {
    /// A limit whose top is not known yet.
    pub(super) fn new(
        own: OwnDeadline,
        place: &'static Location<'static>,
        tree: Arc<Tree>,
    ) -> Arc<Self> {
        let state = State { top: None, registration: Registration::Unasked };
        let OwnDeadline { at, timer } = own;
        Arc::new(Self { at, timer, place, tree, state: Mutex::new(state) })
    }

    /// Whether it comes before `other`. Two timers have two clocks, so then what is left on each is
    /// compared.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        if self.timer.same_driver(&other.timer) {
            return self.at < other.at;
        }
        let left = |limit: &Self| limit.at.saturating_duration_since(limit.timer.now());
        left(self) < left(other)
    }

    /// Whether it is past.
    pub(super) fn is_past(&self) -> bool {
        self.timer.now() >= self.at
    }

    /// The cause that it gives.
    pub(super) fn cause(&self, kind: CauseKind) -> Cause {
        Cause::at(kind, self.place)
    }

    /// The highest node that carries it.
    pub(super) fn top(&self) -> Option<usize> {
        self.state.lock().top
    }

    /// Moves the top. Call it under the tree's lock.
    pub(super) fn set_top(&self, top: usize) {
        self.state.lock().top = Some(top);
    }

    /// Registers with the timer, the first time it is called. Call it with no lock held: a timer
    /// that is gone expires the limit at once.
    pub(super) fn arm(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            if !matches!(state.registration, Registration::Unasked) {
                return;
            }
            state.registration = Registration::Asked;
        }
        let target: Arc<dyn Expire> = Arc::clone(self) as _;
        match self.timer.register(self.at, target) {
            Err(_) => Arc::clone(self).expire(Expiry::Lost),
            Ok(ticket) => {
                let over = {
                    let mut state = self.state.lock();
                    match state.registration {
                        Registration::Asked => {
                            state.registration = Registration::Held(ticket);
                            false
                        }
                        _ => true,
                    }
                };
                if over {
                    self.timer.revoke(ticket);
                }
            }
        }
    }

    /// Ends it: nothing that carries it is left running. Returns a registration to revoke once no
    /// lock is held. Call it under the tree's lock.
    #[must_use = "revoke the ticket with no lock held"]
    pub(super) fn end(&self) -> Option<Ticket> {
        let mut state = self.state.lock();
        state.top = None;
        match std::mem::replace(&mut state.registration, Registration::Over) {
            Registration::Held(ticket) => Some(ticket),
            _ => None,
        }
    }
}

impl Expire for Limit {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        {
            // Nothing to revoke any more.
            self.state.lock().registration = Registration::Over;
        }
        let kind = match expiry {
            Expiry::Due => CauseKind::Deadline,
            Expiry::Lost => CauseKind::TimerLost,
        };
        Tree::cancel_from_limit(&self.tree, &self, self.cause(kind));
    }
}
