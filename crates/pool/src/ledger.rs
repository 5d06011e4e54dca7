//! The ledger: what became of every job.

use std::fmt;

/// The counts of a pool at one moment, read under one lock.
///
/// Every job that was accepted, which is every job that has a [`JobHandle`](crate::JobHandle), is in
/// exactly one of five places, at every moment at which a ledger is read:
///
/// ```text
/// accepted = finished + panicked + cancelled + queued + running
/// ```
///
/// After the end `queued` and `running` are zero. A slot that is still held then may bring a job:
/// it is accepted and cancelled in one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ledger {
    /// Jobs that entered the queue.
    pub accepted: u64,
    /// Jobs that returned; also those that were asked to end and did so.
    pub finished: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs that were accepted and did not run to their end, because the pool was aborted: never
    /// started, or, on a task, dropped at an await.
    pub cancelled: u64,
    /// Jobs that wait for a worker.
    pub queued: u64,
    /// Jobs that have started and not ended.
    pub running: u64,
    /// Those who asked for a place in the queue and were turned away, a
    /// [`try_submit`](crate::Pool::try_submit) to a full queue included; not part of `accepted`.
    pub refused: u64,
}

impl Ledger {
    /// Whether the sum above holds. It always does; here for assertions.
    pub fn adds_up(&self) -> bool {
        let Self { accepted, finished, panicked, cancelled, queued, running, refused: _ } = *self;
        accepted == finished + panicked + cancelled + queued + running
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, finished, panicked, cancelled, queued, running, refused } = self;
        write!(
            f,
            "{accepted} accepted: {finished} finished, {panicked} panicked, {cancelled} cancelled, \
             {queued} queued, {running} running; {refused} refused"
        )
    }
}
