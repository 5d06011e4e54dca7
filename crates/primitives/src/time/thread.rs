//! The thread driver: one thread for the process, started at the first registration.
//!
//! Thin glue around [`Table`]; it uses std's own lock (a static, and real time: nothing that loom
//! could explore).

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::table::Table;
use super::{Expire, Expiry, Ticket, TimerError};
use crate::contain;

/// The process's driver.
static DRIVER: Driver = Driver {
    inner: Mutex::new(Inner { table: Table::new(), running: false }),
    changed: Condvar::new(),
};

/// A table and the thread that watches it.
struct Driver {
    /// What the lock guards.
    inner: Mutex<Inner>,
    /// Told when a new registration is the first to be due.
    changed: Condvar,
}

/// The table, and whether its thread runs.
struct Inner {
    /// Who waits.
    table: Table,
    /// Whether the thread was started.
    running: bool,
}

/// Locks; the data is whole after a panic, because nothing panics under the lock.
fn lock() -> MutexGuard<'static, Inner> {
    DRIVER.inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a registration, starting the thread if it is the first.
pub(super) fn register(at: Instant, target: Arc<dyn Expire>) -> Result<Ticket, TimerError> {
    let mut inner = lock();
    if !inner.running {
        std::thread::Builder::new()
            .name("selvedge-timer".to_owned())
            .spawn(run)
            .map_err(|error| TimerError::Thread(error.to_string()))?;
        inner.running = true;
    }
    let first = inner.table.earliest().is_none_or(|earliest| at < earliest);
    let ticket = inner.table.insert(at, target);
    drop(inner);
    if first {
        DRIVER.changed.notify_one();
    }
    Ok(ticket)
}

/// Takes a registration out. The thread is not told: it wakes once for nothing.
pub(super) fn revoke(ticket: Ticket) -> Option<Arc<dyn Expire>> {
    lock().table.remove(ticket)
}

/// Expires what is due, for ever.
fn run() {
    let mut inner = lock();
    loop {
        if let Some(target) = inner.table.pop_due(Instant::now()) {
            drop(inner);
            // A panic in a waker or callback was reported by the hook; the thread serves others.
            contain(|| target.expire(Expiry::Due));
            inner = lock();
            continue;
        }
        inner = match inner.table.earliest() {
            Some(at) => {
                let wait = at.saturating_duration_since(Instant::now());
                let waited = DRIVER.changed.wait_timeout(inner, wait);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => DRIVER.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
        };
    }
}
