//! The engine: workers, a bounded queue, and one lock.
//!
//! A worker is a future ([`Worker`]), driven by a thread of the pool or by an executor as a task; the
//! engine makes no difference between the two. A job is polled until it is ready: a closure is at
//! its first poll.
//!
//! # Vocabulary
//!
//! A *job* is accepted when it enters the queue, and from then on is queued, running, or ended in
//! one of three ways. A *slot* is room in the queue that was promised to one submitter. A worker is
//! *parked* when it left its waker at its desk and went to sleep. A worker is *lost* when its task
//! was dropped before it left. The pool is *over* when no job will be started any more; then the
//! workers leave, and the last to leave announces the *end*.
//!
//! # Protocol
//!
//! All state is a [`Core`] under the lock of one wait queue, in which the submitters stand who found
//! no room. Each operation takes the lock, changes the core, lets go, and only then wakes, drops or
//! runs what is not ours.
//!
//! 1. *Submit*: if the pool is open and there is room and nobody waits, the job enters the queue
//!    and one parked worker is taken out to be woken. Otherwise stand in line; room is granted from
//!    the front, as a reserved slot, which the submitter turns into a queued job when it is polled.
//! 2. *Work*: a worker takes the first job and grants the room it left; or leaves if the pool is
//!    over; or parks. It counts a job's end before it hands over the result, so whoever has a result
//!    finds it in the ledger.
//! 3. *The context*: before the first worker is started, a waker is left with the pool's context,
//!    once for the pool's life, for both levels (the [`Lookout`]). That waker runs [`Engine::react`]
//!    on the thread that stops or cancels (or on the timer's). So a cancel reaches queued jobs also
//!    while every worker is busy, or not driven, and no thread of its own waits for it. Parking does
//!    not touch the context's tree. A worker whose job is pending waits for the cancel beside it,
//!    and the job is dropped on the worker's own task.
//! 4. *React*: at STOPPING close, refuse all who wait; at CANCELLED also take all jobs out of the
//!    queue, count them, and cancel them outside the lock. It looks at the flags, so it does the
//!    same whoever calls it and however often.
//! 5. *End*: a worker that leaves (or an abort that is done with the jobs it took) counts itself
//!    out; the last one opens the gate `ended`. Counting out is the last thing a worker does, after
//!    all code of the user's but the wakers of those who wait for the end.
//! 6. *Loss*: a worker that is dropped by its executor cancels the pool's context, reacts, drops its
//!    own job, and counts itself out.
//!
//! # The races
//!
//! - *Submit against park* (lost wake-up). A worker looks at the queue and parks in one critical
//!   section; a submitter queues and takes a parked worker out in one. Either the worker sees the
//!   job or the submitter sees the worker. A woken worker whose job was taken by another parks
//!   again. So C3 of `core.rs` holds whenever the lock is free.
//! - *Abort against finish*. Both count under the lock: a job is running before the abort takes the
//!   queue, and finishes, or is in the queue and is cancelled. No job is in both or in neither (C1).
//! - *Drain against submit*. A job enters the queue before the pool closes, and then the pool is not
//!   over and no worker leaves for good; or it finds the pool closed and is returned. A slot that
//!   was granted before keeps the pool from being over until it is used or given back.
//! - *Cancel against park*. The flags are set before wakers run. A worker that parks after `react`
//!   took the lock finds the pool over and leaves; one that parked before is woken by it. The
//!   lookout is there before any worker or submitter can depend on it: what it registers after a
//!   cancel is ready at once and reacts.
//! - *Cancel against a pending job*. The worker looks at the flag, polls the job, and then leaves its
//!   waker with the context, which looks at the flag again under its own lock. So a cancel that
//!   comes in between is seen, and one that comes later wakes the worker.
//! - *Loss against submit*. A worker that is lost is at its desk until it has aborted the pool: the
//!   job of a submitter whose wake goes to a worker that is gone is taken out of the queue by that
//!   abort, and who comes later is refused.
//! - *Abort against the end*. An abort that took jobs counts as live before it lets go of the lock,
//!   so the end is not announced while destructors of queued jobs still run on its thread.
//! - *Flag against reaction*. Between the two, `submit` and the workers would act on old news; both
//!   look at the context first and react themselves, so a job submitted after `cancel` returned, or
//!   after a deadline whose timer is late, is refused.
//!
//! # Why it ends
//!
//! Once the context is stopping, somebody reacts. After a cancel the pool is over at once; after a
//! stop it is when the queue is empty and the slots are used or given back, and whoever makes that
//! true (a worker that takes the last job, a slot's drop, the reaction itself) wakes all parked
//! workers in the same breath ([`Engine::unlock`]). So no worker stays parked in a pool that is
//! over, each leaves when its job returns, and the last announces the end.
//!
//! # Wakers
//!
//! A waker is somebody else's code, a worker's too: dropping a task's last waker may drop the task.
//! None is cloned, woken or dropped under the lock. Neither the worker nor the submitter that calls
//! one is at fault when it panics: that is caught here, after the panic hook has told of it; all
//! others are woken.

mod board;
mod cell;
mod core;
mod job;
mod worker;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use selvedge_cancel::{Cancelled, Canceller, Cause, Context, Stopping};
use selvedge_primitives::{
    Anchor, Entry, Locked, Origin, WaitQueue, Waiter, WakeBatch, contain, release_then, wake,
};

use crate::Ledger;
use core::Fate;

pub(crate) use board::{Board, Next, Ticket, Turn};
pub(crate) use cell::Cell;
pub(crate) use core::{Activity, Core, Grant};
pub(crate) use job::{Call, Drive, Task, Unstarted};
pub use worker::{Worker, WorkersLost};

/// Who stands in line for a slot: [`Engine::poll_admission`].
pub(crate) type Admission<'a> = Waiter<'a, Core, (), Grant>;

/// A pool's state; shared by the pool, its workers, its slots and its watchers.
pub(crate) struct Engine {
    /// The core, and those who wait for room.
    core: WaitQueue<Core, (), Grant>,
    /// Whether the end was announced, and those who wait for it.
    ended: WaitQueue<bool, (), ()>,
    /// Ends the pool; what jobs are given to look at.
    context: Context,
    /// The right to cancel that context when a worker is lost, and the cause then; none where no worker
    /// can be.
    on_loss: Option<(Canceller, Cause)>,
    /// Name and place of the pool.
    origin: Origin,
}

impl Engine {
    /// An engine, and its workers, to be driven.
    pub(crate) fn new(
        origin: Origin,
        context: Context,
        on_loss: Option<(Canceller, Cause)>,
        workers: usize,
        capacity: usize,
    ) -> (Arc<Self>, impl Iterator<Item = Worker>) {
        let engine = Arc::new(Self {
            core: WaitQueue::new(Core::new(workers, capacity)),
            ended: WaitQueue::new(false),
            context,
            on_loss,
            origin,
        });
        let mut lookout = Some(Lookout::new(&engine));
        let crew = Arc::clone(&engine);
        let crew = (0..workers).map(move |n| Worker::new(Arc::clone(&crew), n, lookout.take()));
        (engine, crew)
    }

    /// The name of a worker, and of its thread.
    pub(crate) fn worker_name(&self, number: usize) -> String {
        // A thread's name cannot hold a NUL.
        format!("{}-{number}", self.name()).replace('\0', " ")
    }

    /// The pool's name.
    pub(crate) fn name(&self) -> &str {
        self.origin.name().unwrap_or("pool")
    }

    /// Name and place.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The pool's context.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Why the pool admits nothing. Call it only once it does not.
    pub(crate) fn cause(&self) -> Cause {
        self.context.cause().expect("a pool closes only when its context is stopping")
    }

    /// The line for [`poll_admission`](Self::poll_admission).
    pub(crate) fn line(&self) -> Admission<'_> {
        Waiter::new(Anchor::borrowed(&self.core))
    }

    /// Asks for admission, the first time; waits for the answer later. `enqueue` is called when
    /// there is room at once, and gives the job if there is one to queue already.
    pub(crate) fn poll_admission(
        &self,
        line: Pin<&mut Admission<'_>>,
        cx: &mut TaskContext<'_>,
        enqueue: impl FnOnce() -> Option<Box<dyn Task>>,
    ) -> Poll<Grant> {
        if !line.as_ref().is_waiting() && self.context.is_stopping() {
            self.react();
        }
        line.poll_enter(cx, |core| {
            if !core.is_open() {
                core.refuse();
                return Entry::Ready(Grant::Refused);
            }
            if !core.is_empty() || !core.has_room() {
                return Entry::Wait(());
            }
            Entry::Ready(match enqueue() {
                Some(task) => Grant::Queued(core.enqueue(task)),
                None => {
                    core.reserve();
                    Grant::Slot
                }
            })
        })
    }

    /// Asks for admission without waiting. `job` is taken out of its place when it is accepted.
    pub(crate) fn try_admit(&self, take: impl FnOnce() -> Box<dyn Task>) -> Verdict {
        if self.context.is_stopping() {
            self.react();
        }
        let mut core = self.core.lock();
        if !core.is_open() {
            core.refuse();
            return if core.is_aborted() { Verdict::Aborted } else { Verdict::Stopping };
        }
        // Room that is there while somebody waits belongs to the one who waits.
        if !core.is_empty() || !core.has_room() {
            core.refuse();
            return Verdict::Full;
        }
        let worker = core.enqueue(take());
        self.unlock(core, worker);
        Verdict::Accepted
    }

    /// Turns a reserved slot into a queued job, which is taken out of its place; false, and the job
    /// stays, if the pool was aborted. `late` says how such a job is counted, under the lock.
    #[must_use = "a job that was not accepted is cancelled or returned"]
    pub(crate) fn enqueue_reserved(
        &self,
        take: impl FnOnce() -> Box<dyn Task>,
        late: impl FnOnce(&mut Core),
    ) -> bool {
        if self.context.is_cancelled() {
            self.react();
        }
        let mut core = self.core.lock();
        core.unreserve();
        if core.is_aborted() {
            late(&mut core);
            return false;
        }
        let worker = core.enqueue(take());
        self.unlock(core, worker);
        true
    }

    /// Turns a reserved slot into a queued job. After an abort the job is accepted and cancelled in
    /// one step.
    pub(crate) fn submit_reserved(&self, job: Box<dyn Task>) {
        let mut job = Some(job);
        let take = || job.take().expect("taken once");
        if !self.enqueue_reserved(take, Core::accept_cancelled)
            && let Some(job) = job
        {
            Box::into_pin(job).as_mut().cancel(self.cause(), &mut |_| ());
        }
    }

    /// Gives a reserved slot to the next who waits.
    pub(crate) fn release_slot(&self) {
        let mut core = self.core.lock();
        core.unreserve();
        self.unlock(core, None);
    }

    /// Brings the core to where the context is. Idempotent.
    pub(crate) fn react(&self) {
        if !self.context.is_stopping() {
            return;
        }
        let cancelled = self.context.is_cancelled();
        let mut core = self.core.lock();
        core.close();
        let queue = if cancelled { core.abort() } else { VecDeque::new() };
        self.unlock(core, None);
        if queue.is_empty() {
            return;
        }
        let cause = self.cause();
        for task in queue {
            // Counted under the lock.
            Box::into_pin(task).as_mut().cancel(cause.clone(), &mut |_| ());
        }
        self.leave();
    }

    /// Looks for work on behalf of a worker: ready with a job that counts as running, or with none
    /// when the pool is over. `own` keeps a clone of the worker's waker between the calls of one poll.
    fn poll_work(
        &self,
        worker: usize,
        cx: &mut TaskContext<'_>,
        own: &mut Option<Waker>,
    ) -> Poll<Option<Box<dyn Task>>> {
        if self.context.is_cancelled() {
            self.react();
        }
        if own.is_none() {
            *own = Some(cx.waker().clone());
        }
        let mut core = self.core.lock();
        core.idle(worker);
        let task = core.start_next(worker);
        if task.is_none() && !core.is_over() {
            let old = core.park(worker, own.take().expect("cloned above"));
            release_then(core, || contain(|| drop(old)));
            return Poll::Pending;
        }
        let old = core.unpark(worker);
        // The job left room, or was the last one.
        self.unlock(core, None);
        contain(|| drop(old));
        Poll::Ready(task)
    }

    /// A worker was dropped before it had left, with the job that it was at.
    fn lose(&self, worker: usize, job: Option<Pin<Box<dyn Task>>>) {
        if let Some((right, cause)) = &self.on_loss {
            contain(|| right.cancel_with(cause.clone()));
        }
        self.react();
        if let Some(mut job) = job {
            job.as_mut().cancel(self.cause(), &mut |fate| self.end(worker, fate));
        }
        // If it was parked, the abort has taken its waker.
        self.core.lock().idle(worker);
        self.leave();
    }

    /// Counts the end of a job.
    fn end(&self, worker: usize, fate: Fate) {
        self.core.lock().end(worker, fate);
    }

    /// Counts out a worker or an abort; the last one announces the end.
    fn leave(&self) {
        let last = self.core.lock().leave();
        if last {
            let mut ended = self.ended.lock();
            *ended = true;
            contain(|| self.ended.grant_while(ended, |_, ()| Some(())));
        }
    }

    /// Lets go of the lock, and does what the core's new state asks for: whoever waits for room is
    /// given what there is, or refused when the pool is closed; `worker` is woken, and all parked
    /// workers are when the pool is over.
    fn unlock<'a>(&'a self, mut core: Locked<'a, Core, (), Grant>, worker: Option<Waker>) {
        let over = core.unpark_if_over();
        let mut workers = worker.into_iter().chain(over);
        if core.is_empty() {
            return release_then(core, || {
                for worker in workers {
                    contain(|| wake(worker));
                }
            });
        }
        let mut batch = WakeBatch::new();
        loop {
            while !batch.is_full()
                && !core.is_empty()
                && let Some(grant) = core.next_grant()
            {
                let granted = core.grant_front(grant, &mut batch);
                debug_assert!(granted.is_ok(), "somebody waits: it was asked under the same lock");
            }
            let more = batch.is_full();
            release_then(core, || {
                // There is none left in the second round.
                for worker in workers.by_ref() {
                    contain(|| wake(worker));
                }
                contain(|| batch.wake_all());
            });
            if !more {
                return;
            }
            core = self.core.lock();
        }
    }

    /// Waits for the end.
    pub(crate) fn poll_ended(&self, gate: Pin<&mut Gate>, cx: &mut TaskContext<'_>) -> Poll<()> {
        gate.poll_enter(cx, |ended| match **ended {
            true => Entry::Ready(()),
            false => Entry::Wait(()),
        })
    }

    /// A place at the gate, for [`poll_ended`](Self::poll_ended).
    pub(crate) fn gate(self: &Arc<Self>) -> Gate {
        Waiter::new(Anchor::shared(Arc::clone(self), |engine| &engine.ended))
    }

    /// The counts, as they are at one moment.
    pub(crate) fn ledger(&self) -> Ledger {
        self.core.lock().ledger()
    }

    /// What each worker does, and how many slots are out.
    pub(crate) fn activities(&self) -> (Vec<Activity>, usize) {
        let core = self.core.lock();
        (core.activities(), core.reserved())
    }
}

/// Who waits for the end.
pub(crate) type Gate = Waiter<'static, bool, (), ()>;

/// What became of somebody who did not want to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The job is in the queue.
    Accepted,
    /// There was no room, or others waited for it.
    Full,
    /// The pool admits nothing any more, and runs what it has.
    Stopping,
    /// The pool admits and runs nothing any more.
    Aborted,
}

/// Keeps the engine's waker with the context while there is work.
///
/// The two waits are polled once: what counts is the waker that they leave, which calls
/// [`Engine::react`] wherever the context is ended. The first worker has them, and drops them when
/// the pool is over: there is nothing left to react to.
struct Lookout {
    /// Waits for the first level.
    _stopping: Pin<Box<Stopping<'static>>>,
    /// Waits for the second.
    _cancelled: Pin<Box<Cancelled<'static>>>,
}

impl Lookout {
    /// Leaves the waker; reacts if the context has ended already.
    fn new(engine: &Arc<Engine>) -> Self {
        let mut stopping = Box::pin(engine.context.stopping_owned());
        let mut cancelled = Box::pin(engine.context.cancelled_owned());
        let poll = poll_fn(|cx| {
            let stopped = stopping.as_mut().poll(cx).is_ready();
            Poll::Ready(cancelled.as_mut().poll(cx).is_ready() || stopped)
        });
        // A pool may be built by a task that has spent its budget, which would put the poll off.
        #[cfg(feature = "tokio")]
        let poll = tokio::task::coop::unconstrained(poll);
        let reactor = Waker::from(Arc::new(Reactor { engine: Arc::downgrade(engine) }));
        let polled = pin!(poll).poll(&mut TaskContext::from_waker(&reactor));
        if polled == Poll::Ready(true) {
            engine.react();
        }
        Self { _stopping: stopping, _cancelled: cancelled }
    }
}

/// The waker that the [`Lookout`] leaves with the context. Weak: the context's queue, which holds
/// it, belongs to a node that the engine keeps alive.
struct Reactor {
    /// Whose.
    engine: Weak<Engine>,
}

impl Wake for Reactor {
    fn wake(self: Arc<Self>) {
        // Gone when the pool has ended and nobody is left to see it.
        if let Some(engine) = self.engine.upgrade() {
            engine.react();
        }
    }
}

/// Where a job was submitted, or a pool made.
pub(crate) type Place = &'static Location<'static>;
