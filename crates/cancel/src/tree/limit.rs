//! A deadline, or the end of a grace: an instant, its timer, and one registration for all the nodes
//! that share it.

use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use selvedge_primitives::Mutex;
use selvedge_primitives::time::{Expire, Expiry, Ticket, Timer};

use super::node::{Locked, Node, Ptr};
use super::walk;
use super::word::Level;
use crate::{Cause, CauseKind};

/// An instant at which everything from its *top* downwards ends.
pub(super) struct Limit {
    /// When.
    pub(super) at: Instant,
    /// On whose clock.
    pub(super) timer: Timer,
    /// Where the deadline was set.
    place: &'static Location<'static>,
    /// Guarded by its own lock, taken after those of nodes.
    state: Mutex<State>,
}

/// Where the limit stands in the tree, and with its timer.
struct State {
    /// The highest node that carries it; none once nothing is left to end. That node is not freed before it
    /// has been replaced here, or has [been told](Limit::bequeath) that it cannot go.
    top: Option<Ptr>,
    /// The top of which an expiry is about to take hold; it cannot go.
    firing: Option<Ptr>,
    /// How far the registration is.
    registration: Registration,
}

// SAFETY: the pointers are compared, and followed only by who keeps the node alive; see `hold_top`.
#[allow(unsafe_code, reason = "pointers to nodes")]
unsafe impl Send for State {}

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

/// A limit that ended, and its registration, to be revoked with no lock held.
pub(super) type Ended = (Arc<Limit>, Option<Ticket>);

/// What becomes of a limit when a node leaves the tree.
pub(super) enum Bequest {
    /// The node is not its top, or the heir is from now on.
    Kept,
    /// Nothing is left that carries it.
    Ended(Option<Ticket>),
    /// The node has to stay: the limit is firing.
    Firing,
}

impl Limit {
    /// A limit whose top is not known yet.
    pub(super) fn new(at: Instant, timer: Timer, place: &'static Location<'static>) -> Arc<Self> {
        let state = State { top: None, firing: None, registration: Registration::Unasked };
        Arc::new(Self { at, timer, place, state: Mutex::new(state) })
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
        self.is_past_at(None)
    }

    /// Whether it is past by a time that was read from its timer's clock, or else by that clock.
    pub(super) fn is_past_at(&self, now: Option<Instant>) -> bool {
        now.unwrap_or_else(|| self.timer.now()) >= self.at
    }

    /// The cause that it gives.
    pub(super) fn cause(&self, kind: CauseKind) -> Cause {
        Cause::at(kind, self.place)
    }

    /// Sets the top. Call it with that node's lock held, or before anybody has seen the node.
    pub(super) fn set_top(&self, top: &Node) {
        top.word().announce_top();
        self.state.lock().top = Some(Ptr::from(top));
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

    /// Ends it if `node` is its top: nothing that carries it is left running. Returns a registration to
    /// revoke once no lock is held; none if `node` is not the top.
    pub(super) fn end_at(&self, node: &Node) -> Option<Option<Ticket>> {
        let mut state = self.state.lock();
        (state.top == Some(Ptr::from(node))).then(|| state.end())
    }

    /// The node is about to leave the tree, with `heir` in its place. Call it with both locks held.
    pub(super) fn bequeath(self: &Arc<Self>, node: &Node, heir: Option<&Locked<'_>>) -> Bequest {
        let mut state = self.state.lock();
        let this = Some(Ptr::from(node));
        if state.firing == this {
            return Bequest::Firing;
        }
        if state.top != this {
            return Bequest::Kept;
        }
        // An heir that is cancelled has nothing left to end.
        let heir = heir.filter(|heir| {
            let carries = |limit: &Arc<Limit>| Arc::ptr_eq(limit, self);
            let node = heir.node();
            !node.word().load().was_walked(Level::Cancelled)
                && (node.deadline.as_ref().is_some_and(carries)
                    || heir.grace().as_ref().is_some_and(carries))
        });
        match heir {
            Some(heir) => {
                heir.node().word().announce_top();
                state.top = Some(Ptr::from(heir.node()));
                Bequest::Kept
            }
            None => Bequest::Ended(state.end()),
        }
    }

    /// Takes hold of the top, so that a walk can begin there.
    fn hold_top(&self) -> Option<Ptr> {
        let top = {
            let mut state = self.state.lock();
            state.firing = state.top;
            state.top?
        };
        // The node stays until `firing` is taken back.
        walk::hold_firing(top);
        self.state.lock().firing = None;
        Some(top)
    }
}

impl State {
    /// Nothing is left to end.
    fn end(&mut self) -> Option<Ticket> {
        self.top = None;
        match std::mem::replace(&mut self.registration, Registration::Over) {
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
        // None when everything below was cancelled or dropped in the meantime.
        if let Some(top) = self.hold_top() {
            walk::cancel_held(top, self.cause(kind));
        }
    }
}
