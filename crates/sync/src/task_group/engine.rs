//! The engine of the task group: one lock, one queue, the group's context. It knows no runtime: a task
//! is a future that somebody polls, and tells the engine when it has ended.
//!
//! # Vocabulary
//!
//! A task is *let in* when it gets an index, and is alive from then on until it has *ended*, in one of
//! four ways. *Room* is leave for one task to be alive; it is *taken* by tasks and by those who
//! reserved it. The group is *closed* by the first join, if not before, and *over* when it is closed and no task is
//! alive.
//!
//! # Protocol
//!
//! All state is a [`Core`] under the lock of one wait queue. In the queue stand those who want room
//! and those who want the end, and each operation that may have something for them serves the queue
//! from its front ([`Engine::serve`]).
//!
//! 1. *Let in*: under the lock, take room and an index. With a limit that is reached, stand in the
//!    queue; what is granted is room, which the waiter turns into an index when it is polled.
//! 2. *Run* (`task.rs`): before each poll look whether the context is cancelled; a future that is
//!    pending leaves its waker with the context.
//! 3. *End* (`task.rs`, then [`Engine::end`]): first the future is dropped, with all that it captured;
//!    then a failure that ends the others cancels the context; then, in one critical section, the
//!    task is counted, its result is put in its slot, its room is given back. Nothing of the user's
//!    but a waker runs after that.
//! 4. *Next*: where values are streamed, take the one that came first, or wait for an end in a queue of its own: those who
//!    stand in the other want what not every end gives.
//! 5. *Join*: close, which refuses all who want room; wait for the end; take the results.
//! 6. *Leave*: who wanted room and was granted it gives it to the next.
//!
//! # The races
//!
//! - *Last end against join*. Both look under the lock: the join finds the group over, or stands in
//!   the queue before the last end serves it.
//! - *First failure against join*. The failing task cancels the context before it counts as ended. So
//!   when the join is over, the context is cancelled with that failure, and only one failure is the
//!   first (a flag under the lock).
//! - *Spawn against close*. A task is let in before the group is closed, and then the join waits for
//!   it; or it finds the group closed and is given back (C3 of the core). Room that was granted before
//!   is refused when it is used after; nobody waits for it.
//! - *Room against a waiter that leaves*: decided by the lock. Either the waiter is out of the queue,
//!   or it finds the grant and gives the room to the next.
//! - *End against next*. A value is put into the line before the lock of those who wait for one is taken, and one who comes
//!   there looks at the line under that lock. So it sees the value, or is in the queue when it is woken. An end wakes one of them,
//!   and one that leaves when it was woken wakes another; the last end wakes them all.
//! - *Cancel against end*. A task that is polled when the flag is set may still return its value, and
//!   then it has finished; one that is polled later is dropped. The lock decides nothing here: a task
//!   tells of its end once, because telling takes its share of the engine.
//! - *Cancel against grace*. With a grace the tasks are dropped by a context of their own, which nobody else sees: a callback of the
//!   group's stops it, when that is cancelled, and it is cancelled when the grace is over.
//! - *Close against close*, with many who want room: they are refused in batches, and between two the
//!   lock is free. A second join refuses the rest itself before it enters the queue, so those who
//!   want the end stand behind nobody who wants room and is not about to be refused.
//!
//! # Why the join ends
//!
//! A task that was let in lives in a future that is polled or dropped, or in a closure that is run or dropped: a runtime that shuts down drops
//! it, or lets it run out, and what is dropped tells the engine. Whoever brings the group to its end holds the
//! lock, and serves the queue before it goes.

use std::fmt::Display;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use std::time::Duration;

use selvedge_cancel::{Canceller, Cause, Context, Registration, Timer};
use selvedge_primitives::{Anchor, Entry, Left, Locked, Panic, WaitQueue, Waiter, contain};

use super::core::{Core, Ended, Harvest, Keep, Shut};
use super::counts::Counts;
use super::refusal::Refusal;
use super::report::{Failure, Fault, TaskFailed};

/// What stands in the queue is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Room for one task.
    Room,
    /// The end of all tasks.
    End,
}

/// What a waiter is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// Room for one task is its own.
    Room,
    /// The group was closed.
    Closed,
    /// All tasks have ended.
    Over,
}

/// A place in the queue.
pub(super) type Place<'g, T, E> = Waiter<'g, Core<T, E>, Want, Grant>;

/// A place in the queue of those who want a value.
pub(super) type NextPlace<'g> = Waiter<'g, (), (), ()>;

/// What a group does when a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// Whether the first failure ends the others, and later errors are only counted.
    pub(super) first_failure_cancels: bool,
    /// Whether a panic goes on at the join.
    pub(super) resume_panics: bool,
    /// What becomes of values.
    pub(super) keep: Keep,
}

/// What drops the tasks when the group's context is cancelled and their grace is over.
struct Abort {
    /// Cancelled then.
    context: Context,
    /// The right to cancel it. The callback has one as well, but only until it has run, and the last to go would end the grace.
    canceller: Canceller,
    /// Stops it when the group's context is cancelled.
    _callback: Registration,
}

impl Abort {
    /// `grace` after `group` is cancelled.
    fn new(group: &Context, grace: Duration, timer: Timer) -> Self {
        let (context, canceller) = Context::background().child();
        let stopper = canceller.clone();
        let callback = group.on_cancel(move |cause| stopper.stop_on(&timer, cause, grace));
        Self { context, canceller, _callback: callback }
    }
}

/// A task group without a face; shared by the group and its tasks.
pub(super) struct Engine<T, E> {
    /// The state, and those who wait.
    queue: WaitQueue<Core<T, E>, Want, Grant>,
    /// Those who wait for a value.
    nexts: WaitQueue<(), (), ()>,
    /// What nobody writes.
    fixed: Fixed,
}

/// What every poll of a task reads and nobody writes, on cache lines apart from what spawns and ends write.
#[repr(align(128))]
struct Fixed {
    /// What the tasks run under.
    context: Context,
    /// What drops them, if not that.
    abort: Option<Abort>,
    /// Ends `context`.
    canceller: Canceller,
    /// Of the kind `Cancelled`, at the place where the group was made: what a failure is added to.
    cause: Cause,
    /// What happens when a task fails.
    policy: Policy,
}

impl<T, E> Engine<T, E> {
    /// An engine whose tasks run under a child of `parent`; at most `limit` of them at once.
    #[track_caller]
    pub(super) fn new(
        parent: &Context,
        limit: usize,
        policy: Policy,
        grace: Option<(Duration, Timer)>,
    ) -> Arc<Self> {
        let (context, canceller) = parent.child();
        Arc::new(Self {
            queue: WaitQueue::new(Core::new(limit, policy.keep)),
            nexts: WaitQueue::new(()),
            fixed: Fixed {
                abort: grace.map(|(grace, timer)| Abort::new(&context, grace, timer)),
                context,
                canceller,
                cause: Cause::new(selvedge_cancel::CauseKind::Cancelled),
                policy,
            },
        })
    }

    /// What the tasks run under.
    pub(super) fn context(&self) -> &Context {
        &self.fixed.context
    }

    /// What drops the tasks at their next `await`, when it is cancelled.
    pub(super) fn abort_context(&self) -> &Context {
        self.fixed.abort.as_ref().map_or(&self.fixed.context, |abort| &abort.context)
    }

    /// Whether a join has a value for each task.
    pub(super) fn keeps_in_order(&self) -> bool {
        self.fixed.policy.keep == Keep::InOrder
    }

    /// The most tasks at once.
    pub(super) fn limit(&self) -> usize {
        self.queue.lock().limit()
    }

    /// Lets at most `limit` tasks run at once from now on; gives what it was.
    pub(super) fn set_limit(&self, limit: usize) -> usize {
        let mut locked = self.queue.lock();
        let before = locked.set_limit(limit);
        self.serve(locked);
        before
    }

    /// The counts now.
    pub(super) fn counts(&self) -> Counts {
        self.queue.lock().counts()
    }

    /// Whether the group is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().is_closed()
    }

    /// Ends the tasks; a waker that panics is not the caller's fault.
    pub(super) fn cancel(&self, cause: Cause) {
        contain(|| self.fixed.canceller.cancel_with(cause));
    }

    /// Ends the tasks, and their grace as well.
    pub(super) fn abort(&self, cause: Cause) {
        self.cancel(cause.clone());
        if let Some(abort) = &self.fixed.abort {
            contain(|| abort.canceller.cancel_with(cause));
        }
    }

    /// Refuses if the context admits no more.
    pub(super) fn check_context(&self) -> Result<(), Refusal> {
        if !self.fixed.context.is_stopping() {
            return Ok(());
        }
        Err(Refusal::Stopping(self.fixed.context.cause().expect("what is stopping has a cause")))
    }

    /// Takes room without waiting and without overtaking anybody who waits for it.
    fn take_room(locked: &mut Locked<'_, Core<T, E>, Want, Grant>) -> Result<(), Shut> {
        if !locked.is_empty() && !locked.is_closed() {
            return Err(Shut::Full);
        }
        locked.take_room()
    }

    /// Reserves room without waiting.
    pub(super) fn try_reserve(&self) -> Result<(), Refusal> {
        self.check_context()?;
        Self::take_room(&mut self.queue.lock()).map_err(refused)
    }

    /// Lets a task in without waiting; gives its index.
    #[cfg(feature = "tokio")]
    pub(super) fn try_let_in(&self) -> Result<usize, Refusal> {
        self.check_context()?;
        let mut locked = self.queue.lock();
        Self::take_room(&mut locked).and_then(|()| locked.let_in()).map_err(refused)
    }

    /// Lets a task in that has room; gives its index. The room is used up in any case.
    pub(super) fn let_in(&self) -> Result<usize, Refusal> {
        if let Err(refusal) = self.check_context() {
            self.give_room();
            return Err(refusal);
        }
        let mut locked = self.queue.lock();
        let index = locked.let_in();
        if index.is_err() {
            self.serve(locked);
        }
        index.map_err(refused)
    }

    /// Gives room back that no task used.
    pub(super) fn give_room(&self) {
        let mut locked = self.queue.lock();
        locked.give_room();
        self.serve(locked);
    }

    /// Stands in the queue for room.
    pub(super) fn poll_room(
        &self,
        place: Pin<&mut Place<'_, T, E>>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let grant = place.poll_enter(cx, |locked| match Self::take_room(locked) {
            Ok(()) => Entry::Ready(Grant::Room),
            Err(Shut::Closed) => Entry::Ready(Grant::Closed),
            Err(Shut::Full) => Entry::Wait(Want::Room),
        });
        grant.map(|grant| match grant {
            Grant::Room => Ok(()),
            Grant::Closed | Grant::Over => Err(Refusal::Closed),
        })
    }

    /// Leaves the queue; room that was granted and not seen goes to the next.
    pub(super) fn leave(&self, place: Pin<&mut Place<'_, T, E>>) {
        if let Left::Granted(Grant::Room) = place.cancel() {
            self.give_room();
        }
    }

    /// Lets nobody in any more. Idempotent.
    pub(super) fn close(&self) {
        let mut locked = self.queue.lock();
        locked.close();
        self.serve(locked);
    }

    /// Stands in the queue for the end; the group is closed.
    pub(super) fn poll_over(
        &self,
        place: Pin<&mut Place<'_, T, E>>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let over = place.poll_enter(cx, |locked| match locked.is_over() {
            true => Entry::Ready(Grant::Over),
            false => Entry::Wait(Want::End),
        });
        over.map(|_| ())
    }

    /// Takes the value that came first; none when there is none and no task is alive.
    pub(super) fn poll_next(
        &self,
        mut place: Pin<&mut NextPlace<'_>>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<(usize, T)>> {
        loop {
            let mut next = None;
            ready!(place.as_mut().poll_enter(cx, |_| {
                next = self.queue.lock().next_value();
                if next.is_some() { Entry::Ready(()) } else { Entry::Wait(()) }
            }));
            // Woken for a value, it looks before it does anything that may panic: a waker's clone, to enter again.
            let next = next.or_else(|| self.queue.lock().next_value());
            if let Some(next) = next {
                return Poll::Ready(next);
            }
        }
    }

    /// Takes the value that came first, if there is one.
    pub(super) fn try_next(&self) -> Option<(usize, T)> {
        self.queue.lock().next_value().flatten()
    }

    /// Waits for no value any more; if it was woken for one, another is.
    pub(super) fn leave_next(&self, place: Pin<&mut NextPlace<'_>>) {
        if let Left::Granted(()) = place.cancel() {
            self.wake_next(false);
        }
    }

    /// A value has come, or the last task has ended, for which all are woken.
    fn wake_next(&self, all: bool) {
        let locked = self.nexts.lock();
        // Who comes after this looks first.
        let mut most = if all { locked.len() } else { 1 };
        contain(|| {
            self.nexts.grant_while(locked, |(), ()| {
                let next = most.checked_sub(1)?;
                most = next;
                Some(())
            });
        });
    }

    /// What is to be taken after the end, and the counts.
    pub(super) fn harvest(&self) -> (Harvest<T, E>, Counts) {
        let mut locked = self.queue.lock();
        (locked.harvest(), locked.counts())
    }

    /// A place in the queue of those who want a value.
    pub(super) fn next_place(&self) -> NextPlace<'_> {
        Waiter::new(Anchor::borrowed(&self.nexts))
    }

    /// An anchor for a place in the queue.
    pub(super) fn place(&self) -> Place<'_, T, E> {
        Waiter::new(Anchor::borrowed(&self.queue))
    }

    /// A task returned a value.
    pub(super) fn finished(&self, index: usize, value: T) {
        let kept = if self.fixed.policy.keep == Keep::Nothing {
            // Before the task counts as ended: its destructor is the task's, too.
            contain(|| drop(value));
            None
        } else {
            Some(value)
        };
        self.end(index, Ended::Finished(kept));
    }

    /// A task returned an error: ends the others if it is the first and the policy says so, then
    /// counts it.
    pub(super) fn failed(&self, index: usize, place: &'static Location<'static>, error: E)
    where
        E: Display,
    {
        let kept = !self.fixed.policy.first_failure_cancels
            || self.cancel_if_first(|| {
                let mut text = String::from("(an error whose text panicked)");
                contain(|| text = error.to_string());
                TaskFailed::new(index, place, text, false)
            });
        let failure = if kept {
            Some(Failure::new(index, place, Fault::Error(error)))
        } else {
            // Before the task counts as ended: its destructor is the task's, too.
            contain(|| drop(error));
            None
        };
        self.end(index, Ended::Failed(failure));
    }

    /// A task panicked: ends the others if it is the first failure and the policy says so, then counts
    /// it.
    pub(super) fn panicked(&self, index: usize, place: &'static Location<'static>, panic: Panic) {
        if self.fixed.policy.first_failure_cancels {
            self.cancel_if_first(|| {
                TaskFailed::new(index, place, panic.message().to_owned(), true)
            });
        }
        let failure = Failure::new(index, place, Fault::Panic(panic));
        let ended = if !self.fixed.policy.resume_panics {
            Ended::Panicked(failure)
        } else if self.queue.lock().is_first_panic() {
            Ended::PanickedToResume(Some(Box::new(failure)))
        } else {
            // Before the task counts as ended, as above.
            contain(|| drop(failure));
            Ended::PanickedToResume(None)
        };
        self.end(index, ended);
    }

    /// Cancels the context if no failure came before; whether it did.
    fn cancel_if_first(&self, why: impl FnOnce() -> TaskFailed) -> bool {
        let first = self.queue.lock().is_first_failure();
        if first {
            self.cancel(self.fixed.cause.clone().with_error(why()));
        }
        first
    }

    /// Counts the end of a task, whose future and leftovers are dropped.
    pub(super) fn end(&self, index: usize, ended: Ended<T, E>) {
        let came = matches!(ended, Ended::Finished(Some(_)));
        let mut locked = self.queue.lock();
        locked.end(index, ended);
        let last = locked.counts().running() == 0;
        // Of most ends nobody is to be told.
        if locked.is_empty() {
            drop(locked);
        } else {
            self.serve(locked);
        }
        if last || (came && self.fixed.policy.keep == Keep::AsTheyCome) {
            self.wake_next(last);
        }
    }

    /// Serves the queue from its front for as long as there is something for the front. A waker that
    /// panics is nobody's fault here: the hook has told of it, and all others are woken.
    fn serve<'a>(&'a self, locked: Locked<'a, Core<T, E>, Want, Grant>) {
        contain(|| {
            self.queue.grant_while(locked, |core, want| match want {
                Want::Room => match core.take_room() {
                    Ok(()) => Some(Grant::Room),
                    Err(Shut::Closed) => Some(Grant::Closed),
                    Err(Shut::Full) => None,
                },
                Want::End => core.is_over().then_some(Grant::Over),
            });
        });
    }
}

/// The refusal behind a shut door.
fn refused(shut: Shut) -> Refusal {
    match shut {
        Shut::Closed => Refusal::Closed,
        Shut::Full => Refusal::Full,
    }
}
