//! Fails a test that would hang.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Runs `f` on another thread and returns what it returns, if it does so within `limit`.
///
/// `limit` is there to end a hang, not to measure: take ten times what the slowest machine needs.
///
/// # Panics
///
/// With the panic of `f`, if it panics. If it is not done in time, with `what` hung and for how
/// long; its thread cannot be ended and is left behind until the process exits.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use selvedge_testkit::{block_on, watchdog};
///
/// let answer = watchdog(Duration::from_secs(10), "the answer", || block_on(async { 42 }));
/// assert_eq!(answer, 42);
/// ```
#[track_caller]
pub fn watchdog<R: Send + 'static>(
    limit: Duration,
    what: &str,
    f: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (done, outcome) = mpsc::channel();
    let watched = thread::Builder::new()
        // A thread's name cannot hold a NUL.
        .name(what.replace('\0', " "))
        .spawn(move || {
            // The watchdog has given up on us if it no longer listens.
            let _ = done.send(catch_unwind(AssertUnwindSafe(f)));
        })
        .unwrap_or_else(|error| panic!("{what} not started: no thread to run it on: {error}"));

    match outcome.recv_timeout(limit) {
        Ok(outcome) => {
            // It has nothing left to do but to end; its thread-locals are gone after this.
            let _ = watched.join();
            outcome.unwrap_or_else(|payload| resume_unwind(payload))
        }
        Err(RecvTimeoutError::Timeout) => panic!(
            "{what} hung: not done within {limit:?}; its thread is left behind until the process \
             exits"
        ),
        Err(RecvTimeoutError::Disconnected) => {
            unreachable!("the thread sends an outcome, also when its closure panics")
        }
    }
}
