//! What the lock of the pool guards: plain data, and the rules that keep it consistent.
//!
//! Nothing here waits, wakes or runs code of the user's; the one in `mod.rs` who holds the lock
//! does what the methods ask for after it has let go.
//!
//! Invariants, relied on by the proofs in `mod.rs`:
//!
//! - **C1** accepted = finished + panicked + cancelled + queued + running.
//! - **C2** queued + reserved <= capacity.
//! - **C3** a queue that is not empty has a worker on its way to it: one that is neither parked nor
//!   running a job and will look at the queue before it parks, or one that runs a job and will look
//!   when it is done. A worker that is dropped on its way aborts the pool before it leaves.
//! - **C4** once the phase is `Aborted`, the queue stays empty.

use std::collections::VecDeque;
use std::panic::Location;
use std::task::Waker;

use super::job::Task;
use crate::Ledger;

/// Whether jobs are admitted, and whether queued ones are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Both.
    Open,
    /// The context is stopping: what was admitted is finished, nothing else is admitted.
    Closed,
    /// The context is cancelled: nothing is started any more.
    Aborted,
}

/// What somebody who asked to be admitted was given.
#[derive(Debug)]
pub(crate) enum Grant {
    /// The job is in the queue already; wake this worker.
    Queued(Option<Waker>),
    /// A slot is reserved.
    Slot,
    /// The pool admits nothing any more.
    Refused,
}

/// How a job that ran came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It returned.
    Finished,
    /// It panicked.
    Panicked,
    /// Its future was dropped: the pool was aborted.
    Cancelled,
}

/// What a worker does, as the others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Nothing of the user's.
    Idle,
    /// A job that was submitted there.
    Running(&'static Location<'static>),
    /// Hands over the result of a job that was submitted there, or drops it.
    Settling(&'static Location<'static>),
}

/// A worker's place in the pool.
#[derive(Debug)]
struct Desk {
    /// What it does.
    activity: Activity,
    /// Wakes it; there while it is parked.
    waker: Option<Waker>,
}

/// The state of a pool.
pub(crate) struct Core {
    /// How far the end has come; only ever moves on.
    phase: Phase,
    /// Accepted and not started, in the order of acceptance.
    queue: VecDeque<Box<dyn Task>>,
    /// The most that may be queued or reserved.
    capacity: usize,
    /// Slots that were granted and not used or given back.
    reserved: usize,
    /// Started and not ended.
    running: u64,
    /// Ever queued.
    accepted: u64,
    /// Returned.
    finished: u64,
    /// Panicked.
    panicked: u64,
    /// Accepted and never started, or dropped half way.
    cancelled: u64,
    /// Turned away.
    refused: u64,
    /// One for each worker.
    desks: Vec<Desk>,
    /// The parked workers; the last one parked is woken first, its caches are warmest.
    parked: Vec<usize>,
    /// Workers that have not left, and aborts that are still dropping what was queued.
    live: usize,
}

impl Core {
    /// The state of a pool whose workers are about to start.
    pub(super) fn new(workers: usize, capacity: usize) -> Self {
        let desk = || Desk { activity: Activity::Idle, waker: None };
        Self {
            phase: Phase::Open,
            queue: VecDeque::new(),
            capacity,
            reserved: 0,
            running: 0,
            accepted: 0,
            finished: 0,
            panicked: 0,
            cancelled: 0,
            refused: 0,
            desks: std::iter::repeat_with(desk).take(workers).collect(),
            parked: Vec::with_capacity(workers),
            live: workers,
        }
    }

    /// Whether jobs are admitted.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether jobs are taken back that were admitted before.
    pub(super) fn is_aborted(&self) -> bool {
        self.phase == Phase::Aborted
    }

    /// Whether no job will ever be started again. Once true, it stays so: a pool that is not open
    /// reserves nothing, so no slot is left to bring a job.
    pub(super) fn is_over(&self) -> bool {
        match self.phase {
            Phase::Open => false,
            Phase::Closed => self.queue.is_empty() && self.reserved == 0,
            Phase::Aborted => true,
        }
    }

    /// Whether one more fits.
    pub(super) fn has_room(&self) -> bool {
        // C2 keeps the sum from overflowing.
        self.queue.len() + self.reserved < self.capacity
    }

    /// Reserves a slot. Call it only with room (C2).
    pub(super) fn reserve(&mut self) {
        self.reserved += 1;
    }

    /// Takes a slot back, used or not.
    pub(super) fn unreserve(&mut self) {
        self.reserved -= 1;
    }

    /// Counts somebody who is turned away.
    pub(crate) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// What the first of those who wait is given, if it is their turn.
    pub(super) fn next_grant(&mut self) -> Option<Grant> {
        if !self.is_open() {
            self.refuse();
            return Some(Grant::Refused);
        }
        if !self.has_room() {
            return None;
        }
        self.reserve();
        Some(Grant::Slot)
    }

    /// Puts a job at the end of the queue. Returns the worker that is to be woken for it (C3): when
    /// none is parked, all are on their way to the queue or will be.
    #[must_use = "wake the worker once the lock is released"]
    pub(super) fn enqueue(&mut self, task: Box<dyn Task>) -> Option<Waker> {
        self.accepted += 1;
        self.queue.push_back(task);
        self.unpark_one()
    }

    /// Counts a job that was accepted and cancelled in the same moment.
    pub(crate) fn accept_cancelled(&mut self) {
        self.accepted += 1;
        self.cancelled += 1;
    }

    /// Takes the first job out of the queue and counts it as running on `worker`.
    pub(super) fn start_next(&mut self, worker: usize) -> Option<Box<dyn Task>> {
        let task = self.queue.pop_front()?;
        self.running += 1;
        self.desks[worker].activity = Activity::Running(task.place());
        Some(task)
    }

    /// Counts a job that ended on `worker`.
    pub(super) fn end(&mut self, worker: usize, fate: Fate) {
        self.running -= 1;
        match fate {
            Fate::Finished => self.finished += 1,
            Fate::Panicked => self.panicked += 1,
            Fate::Cancelled => self.cancelled += 1,
        }
        let activity = &mut self.desks[worker].activity;
        if let Activity::Running(place) = *activity {
            *activity = Activity::Settling(place);
        }
    }

    /// `worker` has settled what it was doing.
    pub(super) fn idle(&mut self, worker: usize) {
        self.desks[worker].activity = Activity::Idle;
    }

    /// Parks `worker`. Returns the waker that it left when it parked before.
    #[must_use = "drop the old waker once the lock is released"]
    pub(super) fn park(&mut self, worker: usize, waker: Waker) -> Option<Waker> {
        let old = self.desks[worker].waker.replace(waker);
        if old.is_none() {
            self.parked.push(worker);
        }
        old
    }

    /// `worker` is awake. When nobody woke it, it is still among the parked and is taken out; the
    /// search is as rare as a park that ends by itself.
    #[must_use = "drop the waker once the lock is released"]
    pub(super) fn unpark(&mut self, worker: usize) -> Option<Waker> {
        let waker = self.desks[worker].waker.take()?;
        self.parked.retain(|&parked| parked != worker);
        Some(waker)
    }

    /// Takes out the worker that parked last.
    fn unpark_one(&mut self) -> Option<Waker> {
        let worker = self.parked.pop()?;
        self.desks[worker].waker.take()
    }

    /// Takes out all parked workers if there is nothing left to wait for.
    #[must_use = "wake the workers once the lock is released"]
    pub(super) fn unpark_if_over(&mut self) -> Vec<Waker> {
        if !self.is_over() || self.parked.is_empty() {
            return Vec::new();
        }
        std::iter::from_fn(|| self.unpark_one()).collect()
    }

    /// Ends admission.
    pub(super) fn close(&mut self) {
        self.phase = self.phase.max(Phase::Closed);
    }

    /// Ends admission and starting, and takes out what was queued: counted as cancelled, to be told
    /// so once the lock is released. Unless there was nothing, the caller counts as live until it
    /// calls [`leave`](Self::leave). A second time there is nothing (C4).
    #[must_use = "cancel the jobs once the lock is released"]
    pub(super) fn abort(&mut self) -> VecDeque<Box<dyn Task>> {
        self.phase = Phase::Aborted;
        let queue = std::mem::take(&mut self.queue);
        if !queue.is_empty() {
            self.cancelled += queue.len() as u64;
            // The queue was not empty, so the pool was not over and no worker has left: `live` is
            // not zero, and the end has not been announced.
            self.live += 1;
        }
        queue
    }

    /// One less is live. Returns whether it was the last.
    #[must_use = "the last one announces the end"]
    pub(super) fn leave(&mut self) -> bool {
        self.live -= 1;
        self.live == 0
    }

    /// The counts.
    pub(super) fn ledger(&self) -> Ledger {
        Ledger {
            accepted: self.accepted,
            finished: self.finished,
            panicked: self.panicked,
            cancelled: self.cancelled,
            queued: self.queue.len() as u64,
            running: self.running,
            refused: self.refused,
        }
    }

    /// What each worker does, by its number.
    pub(super) fn activities(&self) -> Vec<Activity> {
        self.desks.iter().map(|desk| desk.activity).collect()
    }

    /// How many slots are granted and neither used nor given back.
    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_wakes_by_itself_is_no_longer_among_the_parked() {
        let mut core = Core::new(2, 1);
        let waker = || Waker::noop().clone();
        assert!(core.park(0, waker()).is_none());
        assert!(core.park(1, waker()).is_none());
        assert!(core.park(1, waker()).is_some(), "parked once, with the later waker");
        assert!(core.unpark(1).is_some());
        assert!(core.unpark(1).is_none(), "it was taken out");
        assert_eq!(core.parked, [0]);
        assert!(core.unpark_one().is_some(), "the other one is found");
        assert!(core.unpark_one().is_none());
    }

    #[test]
    fn the_worker_that_parked_last_is_woken_first_and_all_are_at_the_end() {
        let mut core = Core::new(3, 1);
        for worker in 0..3 {
            assert!(core.park(worker, Waker::noop().clone()).is_none());
        }
        assert!(core.unpark_if_over().is_empty());
        assert!(core.unpark_one().is_some());
        assert_eq!(core.parked, [0, 1]);
        core.close();
        assert_eq!(core.unpark_if_over().len(), 2);
        assert!(core.parked.is_empty());
    }
}
