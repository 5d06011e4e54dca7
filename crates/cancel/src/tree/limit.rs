//! A deadline, or the end of a grace: an instant, its timer, and one registration for all the nodes
//! that share it.

use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_primitives::Mutex;
use selvedge_primitives::atomic::{AtomicBool, Ordering};
use selvedge_primitives::time::{Expire, Expiry, Moment, Now, Ticket, Timer};

use super::node::{Locked, Node};
use super::top::Top;
use super::walk;
use super::word::Level;
use crate::{Cause, CauseKind};

/// An instant at which everything from its *top* downwards ends.
pub(super) struct Limit {
    /// When, and on whose clock.
    moment: Moment,
    /// Where the deadline was set.
    place: &'static Location<'static>,
    /// The highest node that carries it.
    top: Top,
    /// Whether the registration was asked for: most who ask are not the first.
    is_asked: AtomicBool,
    /// How far the registration is. Guarded by its own lock, taken after those of nodes.
    registration: Mutex<Registration>,
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

/// A limit that ended, and its registration, to be revoked with no lock held.
pub(super) type Ended = (Arc<Limit>, Option<Ticket>);

impl Limit {
    /// A limit whose top is not known yet.
    pub(super) fn new(at: Instant, timer: Timer, place: &'static Location<'static>) -> Arc<Self> {
        let registration = Mutex::new(Registration::Unasked);
        let is_asked = AtomicBool::new(false);
        let moment = Moment::new(at, timer);
        Arc::new(Self { moment, place, top: Top::new(), is_asked, registration })
    }

    /// A limit for the same reason that is due later.
    pub(super) fn later(&self, at: Instant) -> Arc<Self> {
        Self::new(at, self.timer().clone(), self.place)
    }

    /// When, and on whose clock.
    pub(super) fn moment(&self) -> &Moment {
        &self.moment
    }

    /// When.
    pub(super) fn at(&self) -> Instant {
        self.moment.at()
    }

    /// On whose clock.
    pub(super) fn timer(&self) -> &Timer {
        self.moment.timer()
    }

    /// Whether it comes before `other`. Two timers have two clocks, so then what is left on each is
    /// compared.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        if self.timer().same_driver(other.timer()) {
            return self.at() < other.at();
        }
        self.remaining() < other.remaining()
    }

    /// Whether it is past.
    pub(super) fn is_past(&self) -> bool {
        self.moment.is_past()
    }

    /// Whether it is past by what a clock has just said, or else by its timer's.
    pub(super) fn is_past_at(&self, now: Option<Now>) -> bool {
        match now {
            Some(now) => self.moment.is_past_by(now),
            None => self.moment.is_past(),
        }
    }

    /// How long until then; zero when it is past.
    pub(super) fn remaining(&self) -> Duration {
        self.moment.remaining()
    }

    /// The cause that it gives.
    pub(super) fn cause(&self, kind: CauseKind) -> Cause {
        Cause::at(kind, self.place)
    }

    /// Sets the top. Call it with that node's lock held, or before anybody has seen the node.
    pub(super) fn set_top(&self, top: &Node) {
        self.top.set(top);
    }

    /// Registers with the timer, the first time it is called. Call it with no lock held: a timer
    /// that is gone expires the limit at once.
    pub(super) fn arm(self: &Arc<Self>) {
        // Relaxed: a guess, which saves the lock; nothing of the registration is looked at.
        if self.is_asked.load(Ordering::Relaxed) {
            return;
        }
        {
            let mut registration = self.registration.lock();
            // Relaxed: as above.
            self.is_asked.store(true, Ordering::Relaxed);
            if !matches!(*registration, Registration::Unasked) {
                return;
            }
            *registration = Registration::Asked;
        }
        let target: Arc<dyn Expire> = Arc::clone(self) as _;
        match self.timer().register(self.at(), target) {
            Err(_) => Arc::clone(self).expire(Expiry::Lost),
            Ok(ticket) => {
                let over = {
                    let mut registration = self.registration.lock();
                    match *registration {
                        Registration::Asked => {
                            *registration = Registration::Held(ticket);
                            false
                        }
                        _ => true,
                    }
                };
                if over {
                    self.timer().revoke(ticket);
                }
            }
        }
    }

    /// Ends it if `node` is its top: nothing that carries it is left running. Returns a registration to
    /// revoke once no lock is held; none if `node` is not the top.
    pub(super) fn end_at(&self, node: &Node) -> Option<Option<Ticket>> {
        self.top.end_at(node).then(|| self.end())
    }

    /// The node is about to leave the tree, with `heir` in its place. Call it with both locks held. If nothing is left to
    /// end, returns a registration to revoke once no lock is held. A heir that does not carry the limit would not hand it on.
    pub(super) fn bequeath(
        self: &Arc<Self>,
        node: &Node,
        heir: Option<&Locked<'_>>,
    ) -> Option<Option<Ticket>> {
        // An heir that is cancelled has nothing left to end.
        let heir = heir.filter(|heir| {
            let carries = |limit: &Arc<Limit>| Arc::ptr_eq(limit, self);
            let node = heir.node();
            let masked = node.shield().and_then(|shield| shield.masked.as_ref());
            !node.word().load().was_walked(Level::Cancelled)
                && (node.deadline.as_ref().is_some_and(carries)
                    || masked.is_some_and(carries)
                    || heir.grace().as_ref().is_some_and(carries))
        });
        self.top.leave(node, heir.map(Locked::node)).then(|| self.end())
    }

    /// Nothing is left to end.
    fn end(&self) -> Option<Ticket> {
        match std::mem::replace(&mut *self.registration.lock(), Registration::Over) {
            Registration::Held(ticket) => Some(ticket),
            _ => None,
        }
    }
}

impl Expire for Limit {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        {
            // Nothing to revoke any more.
            *self.registration.lock() = Registration::Over;
        }
        let kind = match expiry {
            Expiry::Due => CauseKind::Deadline,
            Expiry::Lost => CauseKind::TimerLost,
        };
        // None when everything below was cancelled or dropped in the meantime.
        if let Some(top) = self.top.hold() {
            walk::expire_held(top, &self, self.cause(kind));
        }
    }
}
