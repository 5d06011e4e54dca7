//! The board: where the results of many jobs lie until a stream takes them.
//!
//! # Vocabulary
//!
//! A *place* on the board is taken before a job is accepted, and is given back when the stream has
//! taken its result, or when it turns out that there will be none. So there is always a place for a
//! result: completing never waits, and no more is ever on the board than its capacity. The board is
//! *closed* when nobody will ask for a place any more, and *detached* when the stream is gone.
//!
//! # Protocol
//!
//! One lock, in whose queue those stand who wait for a place; they are served in the order in which
//! they came. Whoever gives a place back hands it to the first of them under the same lock. The
//! stream leaves one waker; a result takes it along, and so does the last place that is given back,
//! which may be the end.
//!
//! # The races
//!
//! - *Completion against the stream's poll* (lost wake-up): the stream looks for a result and leaves
//!   its waker in one critical section, a job puts its result up and takes the waker in one.
//! - *Completion against the stream's drop*: a result that comes first is dropped by the stream, one
//!   that comes later by its job. Neither under the lock.
//! - *The last result against the end*: the stream ends only when no place is taken, so a job that
//!   has not completed keeps it open. Closing, and giving back the last place, wake it.
//! - *The end of the pool*: the stream watches that itself, after it has looked here and before it
//!   sleeps. At that end every job has completed, so it looks here once more.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use selvedge_primitives::{
    Anchor, Entry, Left, Locked, WaitQueue, Waiter, WakeBatch, contain, release_then, wake,
};

use super::Place;
use super::job::Sink;
use crate::handle::JobError;
use crate::results::Completed;

/// Who stands in line for a place.
pub(crate) type Turn<'a, R> = Waiter<'a, State<R>, (), ()>;

/// What lies between those who submit and the stream.
pub(crate) struct Board<R> {
    /// The state, and those who wait for a place.
    state: WaitQueue<State<R>, (), ()>,
}

/// What the lock guards.
pub(crate) struct State<R> {
    /// The most places that may be taken.
    capacity: usize,
    /// Places that are taken: by somebody who will submit, by a job, or by a result.
    taken: usize,
    /// Jobs so far.
    submitted: u64,
    /// Completed and not taken, in the order of completion.
    ready: VecDeque<Completed<R>>,
    /// The stream's.
    waker: Option<Waker>,
    /// Whether nobody will submit any more.
    closed: bool,
    /// Whether nobody takes results any more.
    detached: bool,
}

/// What the stream finds.
pub(crate) enum Next<R> {
    /// The result that completed first.
    Result(Completed<R>),
    /// None yet; the waker was left.
    Pending,
    /// None, and no place is taken, but somebody may still submit; the waker was left.
    Quiet,
    /// None, and there will be none.
    Ended,
}

impl<R> Board<R> {
    /// An empty board.
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let state = State {
            capacity,
            taken: 0,
            submitted: 0,
            ready: VecDeque::new(),
            waker: None,
            closed: false,
            detached: false,
        };
        Arc::new(Self { state: WaitQueue::new(state) })
    }

    /// The line for [`poll_place`](Self::poll_place).
    pub(crate) fn line(&self) -> Turn<'_, R> {
        Waiter::new(Anchor::borrowed(&self.state))
    }

    /// Takes a place, waiting for one.
    pub(crate) fn poll_place(
        &self,
        line: Pin<&mut Turn<'_, R>>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        line.poll_enter(cx, |state| {
            if !state.is_empty() || !state.has_place() {
                return Entry::Wait(());
            }
            state.taken += 1;
            Entry::Ready(())
        })
    }

    /// Leaves the line; returns whether a place had been granted in the meantime, which is the
    /// caller's now.
    pub(crate) fn leave_line(&self, line: Pin<&mut Turn<'_, R>>) -> bool {
        matches!(line.cancel(), Left::Granted(()))
    }

    /// Gives a place back that brought no result.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock();
        state.taken -= 1;
        self.unlock(state);
    }

    /// Turns a place into the ticket of a job.
    pub(crate) fn ticket(self: &Arc<Self>, place: Place) -> Ticket<R> {
        let mut state = self.state.lock();
        let index = state.submitted;
        state.submitted += 1;
        drop(state);
        Ticket { board: Arc::clone(self), index, place }
    }

    /// Nobody will submit any more.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.unlock(state);
    }

    /// The stream is gone: what is here and what comes is dropped, and nobody waits for a place.
    pub(crate) fn detach(&self) {
        let mut state = self.state.lock();
        state.detached = true;
        let unwanted = mem::take(&mut state.ready);
        let waker = state.waker.take();
        state.taken -= unwanted.len();
        self.unlock(state);
        contain(|| drop(waker));
        for result in unwanted {
            contain(|| drop(result));
        }
    }

    /// Whether the stream is gone.
    pub(crate) fn is_detached(&self) -> bool {
        self.state.lock().detached
    }

    /// Takes the first result, or leaves the waker.
    pub(crate) fn next(&self, cx: &mut TaskContext<'_>) -> Next<R> {
        // Cloned before the lock is taken: a clone is the executor's code.
        let waker = cx.waker().clone();
        let mut state = self.state.lock();
        if let Some(result) = state.ready.pop_front() {
            state.taken -= 1;
            self.unlock(state);
            contain(|| drop(waker));
            return Next::Result(result);
        }
        if state.closed && state.taken == 0 {
            return release_then(state, || {
                contain(|| drop(waker));
                Next::Ended
            });
        }
        let quiet = state.taken == 0;
        let old = state.waker.replace(waker);
        release_then(state, || contain(|| drop(old)));
        if quiet { Next::Quiet } else { Next::Pending }
    }

    /// Lets go of the lock, and does what the state asks for: hands places to those who wait for
    /// them, and wakes the stream when no place is taken, which may be its end.
    fn unlock<'a>(&'a self, mut state: Locked<'a, State<R>, (), ()>) {
        let mut stream = None;
        let mut batch = WakeBatch::new();
        loop {
            while !batch.is_full() && !state.is_empty() && state.has_place() {
                state.taken += 1;
                let granted = state.grant_front((), &mut batch);
                debug_assert!(granted.is_ok(), "somebody waits: it was asked under the same lock");
            }
            if state.taken == 0 {
                stream = state.waker.take();
            }
            let more = batch.is_full();
            release_then(state, || {
                if let Some(stream) = stream.take() {
                    contain(|| wake(stream));
                }
                contain(|| batch.wake_all());
            });
            if !more {
                return;
            }
            state = self.state.lock();
        }
    }
}

impl<R> State<R> {
    /// Whether a place is free. Without a stream nothing is kept, so nothing needs a place.
    fn has_place(&self) -> bool {
        self.taken < self.capacity || self.detached
    }
}

/// A job's place on the board.
pub(crate) struct Ticket<R> {
    /// The board.
    board: Arc<Board<R>>,
    /// Which job it is, counted from zero.
    index: u64,
    /// Where it was submitted.
    place: Place,
}

impl<R> Ticket<R> {
    /// Which job it is.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }
}

impl<R: Send> Sink for Ticket<R> {
    type Item = R;

    /// Puts the result up and wakes the stream, or drops it when nobody wants it.
    fn complete(&self, result: Result<R, JobError>) {
        let mut state = self.board.state.lock();
        if state.detached {
            state.taken -= 1;
            self.board.unlock(state);
            return contain(|| drop(result));
        }
        state.ready.push_back(Completed { index: self.index, place: self.place, result });
        let waker = state.waker.take();
        release_then(state, || {
            if let Some(waker) = waker {
                contain(|| wake(waker));
            }
        });
    }
}
