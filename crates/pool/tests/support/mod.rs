//! A job that the test holds: it tells when it has started, and ends when it is told to.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use selvedge_cancel::Context;
use selvedge_pool::{JobHandle, Pool, Slot};
use selvedge_testkit::{block_on, watchdog};

/// Ends a hang; no test comes near it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test that must not hang.
#[track_caller]
pub(crate) fn guarded(what: &str, f: impl FnOnce() + Send + 'static) {
    watchdog(LIMIT, what, f);
}

/// A pool of its own.
pub(crate) fn pool(workers: usize, queue: usize) -> Pool {
    pool_in(&Context::background(), workers, queue)
}

/// A pool in a context.
pub(crate) fn pool_in(context: &Context, workers: usize, queue: usize) -> Pool {
    Pool::builder().name("test").workers(workers).queue(queue).build(context).unwrap()
}

/// The test's end of a held job.
pub(crate) struct Held {
    /// Its handle, until it is taken.
    pub(crate) handle: Option<JobHandle<()>>,
    /// A message when it has started.
    started: Receiver<()>,
    /// Dropped or used, it lets the job end.
    release: Option<Sender<()>>,
}

impl Held {
    /// Puts a held job into `slot`.
    pub(crate) fn submit(slot: Slot) -> Self {
        let (start, started) = channel();
        let (release, released) = channel::<()>();
        let handle = slot.submit(move |_| {
            let _ = start.send(());
            let _ = released.recv();
        });
        Self { handle: Some(handle), started, release: Some(release) }
    }

    /// Puts a held job into a pool that has room.
    pub(crate) fn queued(pool: &Pool) -> Self {
        Self::submit(block_on(pool.reserve()).unwrap())
    }

    /// Puts a held job into a pool that has an idle worker, and waits until it runs.
    pub(crate) fn running(pool: &Pool) -> Self {
        let held = Self::queued(pool);
        held.wait_started();
        held
    }

    /// Waits until it runs: then the worker has granted the room it left in the queue, and is done
    /// with whatever it ran before.
    pub(crate) fn wait_started(&self) {
        self.started.recv().unwrap();
    }

    /// Lets it end.
    pub(crate) fn release(&mut self) {
        self.release = None;
    }
}
