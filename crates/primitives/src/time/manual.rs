//! The manual driver: a clock that moves when a test or a model says so.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::table::Table;
use super::{Expire, Expiry, Ticket, TimerError};
use crate::{FirstPanic, Mutex, release_then};

/// A clock and a table under one lock.
pub(super) struct Driver {
    /// What the lock guards.
    inner: Mutex<Inner>,
}

/// The clock and what waits for it.
struct Inner {
    /// The time.
    now: Instant,
    /// Who waits.
    table: Table,
    /// Whether [`ManualClock::lose`] was called.
    lost: bool,
}

impl Driver {
    /// A clock that stands at the moment of its making.
    pub(super) fn new() -> Self {
        Self { inner: Mutex::new(Inner { now: Instant::now(), table: Table::new(), lost: false }) }
    }

    /// The time.
    pub(super) fn now(&self) -> Instant {
        self.inner.lock().now
    }

    /// Adds a registration; one that is past expires at once, on this thread.
    pub(super) fn register(
        &self,
        at: Instant,
        target: Arc<dyn Expire>,
    ) -> Result<Ticket, TimerError> {
        let mut inner = self.inner.lock();
        if inner.lost {
            return Err(TimerError::Lost);
        }
        let ticket = inner.table.insert(at, target);
        if at > inner.now {
            return Ok(ticket);
        }
        let due = inner.table.remove(ticket);
        release_then(inner, || {
            if let Some(due) = due {
                due.expire(Expiry::Due);
            }
        });
        Ok(ticket)
    }

    /// Takes a registration out.
    pub(super) fn revoke(&self, ticket: Ticket) -> Option<Arc<dyn Expire>> {
        self.inner.lock().table.remove(ticket)
    }
}

/// Moves the clock of a [`Timer::manual`](super::Timer::manual).
pub struct ManualClock {
    /// Shared with the timers.
    driver: Arc<Driver>,
}

impl ManualClock {
    /// The hand on the clock of `driver`.
    pub(super) fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    /// Moves the clock and expires what is due, in order, on this thread.
    ///
    /// # Panics
    ///
    /// When the clock would pass the last instant there is; nothing has changed then. When an
    /// expiry panics: all others are served first, then the first panic goes on.
    pub fn advance(&self, by: Duration) {
        self.advance_silently(by);
        let mut panics = FirstPanic::new();
        loop {
            let due = {
                let mut inner = self.driver.inner.lock();
                let now = inner.now;
                inner.table.pop_due(now)
            };
            match due {
                Some(target) => panics.catch(|| target.expire(Expiry::Due)),
                None => return panics.resume(),
            }
        }
    }

    /// Moves the clock and expires nothing: what a program sees whose timer thread is starved.
    ///
    /// # Panics
    ///
    /// When the clock would pass the last instant there is; nothing has changed then.
    pub fn advance_silently(&self, by: Duration) {
        self.driver.inner.lock().now += by;
    }

    /// Takes the driver away, as the shutdown of a runtime does: everything registered expires as
    /// lost, and nothing can be registered any more.
    ///
    /// # Panics
    ///
    /// When an expiry panics, as [`advance`](Self::advance).
    pub fn lose(&self) {
        let mut panics = FirstPanic::new();
        loop {
            let lost = {
                let mut inner = self.driver.inner.lock();
                inner.lost = true;
                let first = inner.table.earliest();
                first.and_then(|at| inner.table.pop_due(at))
            };
            match lost {
                Some(target) => panics.catch(|| target.expire(Expiry::Lost)),
                None => return panics.resume(),
            }
        }
    }

    /// How many registrations there are.
    pub fn registered(&self) -> usize {
        self.driver.inner.lock().table.len()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").finish_non_exhaustive()
    }
}
