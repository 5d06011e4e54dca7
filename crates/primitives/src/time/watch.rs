//! The engine of the tokio and the thread driver: a table of registrations and the one who watches
//! it, a task or a thread, which leaves its waker and sleeps until the earliest is due.
//!
//! # Protocol
//!
//! One lock guards the table, the watcher's waker and whether there is a watcher.
//!
//! 1. *Register*: insert; if it is the earliest now, take the watcher's waker out and wake it. Who
//!    finds no watcher is the one to start it, after the lock.
//! 2. *Watch*: leave the waker, then look at the clock and at the table, expire what is due with the
//!    lock released, and look again until nothing is. Then sleep until the earliest; or, with nothing
//!    registered, end (a task) or sleep on (the thread).
//! 3. *Revoke*: take it out; whoever leaves the table empty wakes a watcher that can end now. One
//!    that stays is left asleep: it wakes once for nothing.
//! 4. *Lose*: the watcher is gone and will not come back: everything registered expires as lost, and
//!    nothing is registered any more.
//!
//! # The races
//!
//! - *Register against sleep*. The waker is left before the table is looked at. A registration comes
//!   before the look and is seen, or after it and finds the waker; it wakes a watcher that has not
//!   gone to sleep yet, which then does not.
//! - *Register against end*. The watcher ends in the critical section in which it sees the empty
//!   table. A registration before it is seen; one after it finds no watcher and starts the next.
//! - *Register against lose*. A registration before it is drained and expires as lost; one after it
//!   is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::table::Table;
use super::{Expire, Expiry, Ticket, TimerError};
use crate::{Mutex, contain, release_then, wake};

/// See the module's page.
pub struct Watch {
    /// Whether the watcher stays when nothing is registered.
    stays: bool,
    /// What the lock guards.
    inner: Mutex<Inner>,
}

/// The table, and who watches it.
struct Inner {
    /// Who waits.
    table: Table,
    /// Whether there is a watcher, or one is about to be started.
    watched: bool,
    /// Wakes the watcher.
    waker: Option<Waker>,
    /// Whether there will never be one again.
    lost: bool,
}

/// What a watcher is to do when everything due has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Sleep until then, or until it is woken.
    At(Instant),
    /// Nothing is registered.
    Idle,
}

impl Watch {
    /// A table that nobody watches yet. `stays` says whether a watcher outlives its registrations.
    pub fn new(stays: bool) -> Self {
        let (table, waker) = (Table::new(), None);
        Self { stays, inner: Mutex::new(Inner { table, watched: false, waker, lost: false }) }
    }

    /// Adds a registration. True with the ticket: the caller is to start a watcher, or to
    /// [`give_up`](Self::give_up).
    ///
    /// # Errors
    ///
    /// [`TimerError::Lost`] after [`lose`](Self::lose).
    pub fn register(
        &self,
        at: Instant,
        target: Arc<dyn Expire>,
    ) -> Result<(Ticket, bool), TimerError> {
        let mut inner = self.inner.lock();
        if inner.lost {
            return Err(TimerError::Lost);
        }
        let first = inner.table.earliest().is_none_or(|earliest| at < earliest);
        let ticket = inner.table.insert(at, target);
        let start = !std::mem::replace(&mut inner.watched, true);
        let waker = if first { inner.waker.take() } else { None };
        release_then(inner, || contain(|| wake(waker)));
        Ok((ticket, start))
    }

    /// Takes a registration out; the caller drops it.
    pub fn revoke(&self, ticket: Ticket) -> Option<Arc<dyn Expire>> {
        let mut inner = self.inner.lock();
        let target = inner.table.remove(ticket);
        let ends = !self.stays && inner.table.len() == 0;
        let waker = if ends { inner.waker.take() } else { None };
        release_then(inner, || contain(|| wake(waker)));
        target
    }

    /// Expires what is due, on behalf of the watcher, whose waker is left to be woken for an earlier registration. With
    /// nothing registered, a watcher that does not stay has ended. A panic of an expiry was reported by the hook; the
    /// others are served.
    pub fn expire_due(&self, waker: &Waker, now: impl Fn() -> Instant) -> Next {
        let fresh = waker.clone();
        let mut inner = self.inner.lock();
        let old = inner.waker.replace(fresh);
        release_then(inner, || drop(old));
        loop {
            // A clock is not ours, either.
            let now = now();
            let mut inner = self.inner.lock();
            if let Some(target) = inner.table.pop_due(now) {
                release_then(inner, || contain(|| target.expire(Expiry::Due)));
                continue;
            }
            if let Some(at) = inner.table.earliest() {
                return Next::At(at);
            }
            if !self.stays {
                inner.watched = false;
                let old = inner.waker.take();
                release_then(inner, || drop(old));
            }
            return Next::Idle;
        }
    }

    /// The watcher is gone for ever, with its runtime.
    pub fn lose(&self) {
        let mut inner = self.inner.lock();
        inner.lost = true;
        Self::drain(inner);
    }

    /// No watcher could be started for the registration with this ticket, which never expires. What
    /// was registered since, counting on it, expires as lost; the next one tries again.
    pub fn give_up(&self, ticket: Ticket) {
        let mut inner = self.inner.lock();
        inner.watched = false;
        let target = inner.table.remove(ticket);
        Self::drain(inner);
        drop(target);
    }

    /// Expires everything as lost.
    fn drain(mut inner: crate::MutexGuard<'_, Inner>) {
        let left: BTreeMap<Ticket, Arc<dyn Expire>> = inner.table.drain();
        let waker = inner.waker.take();
        release_then(inner, || {
            drop(waker);
            for target in left.into_values() {
                contain(|| target.expire(Expiry::Lost));
            }
        });
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
