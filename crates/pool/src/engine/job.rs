//! A job and the cell that its result passes through.
//!
//! A [`Job`] is what the queue holds; its [`Cell`] is shared with the handle. The cell is a lock
//! around four states:
//!
//! | state | meaning | left by |
//! |---|---|---|
//! | `Waiting` | no result yet; perhaps somebody waits | the job's end to `Done`, the handle's drop to `Detached` |
//! | `Done` | the result waits for the handle | the handle, to `Taken` |
//! | `Taken` | the handle has it | nobody |
//! | `Detached` | nobody wants it | nobody |
//!
//! *Finish against drop of the handle* is decided by that lock: either the handle's drop finds the
//! result and drops it, or the end of the job finds the handle gone and does. Neither does so under
//! the lock.

use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use selvedge_cancel::{Cause, Context};
use selvedge_primitives::{Mutex, Panic, contain, release_then, wake};

use super::core::Fate;
use crate::handle::JobError;

/// A job of any type.
pub(crate) trait Task: Send {
    /// Where it was submitted.
    fn place(&self) -> &'static Location<'static>;

    /// Runs it; tells `ended` how it ended, then hands over the result. Never panics.
    fn run(self: Box<Self>, context: &Context, ended: &mut dyn FnMut(Fate));

    /// Drops it, then tells the handle why. Never panics.
    fn cancel(self: Box<Self>, cause: Cause);
}

/// A closure on its way to a worker.
pub(crate) struct Job<F, R> {
    /// What to run.
    closure: F,
    /// Where the result goes.
    cell: Arc<Cell<R>>,
    /// Where it was submitted.
    place: &'static Location<'static>,
}

impl<F, R> Job<F, R> {
    /// A job and the cell of its handle.
    pub(crate) fn new(closure: F, place: &'static Location<'static>) -> (Box<Self>, Arc<Cell<R>>) {
        let cell = Arc::new(Cell { state: Mutex::new(State::Waiting(None)) });
        (Box::new(Self { closure, cell: Arc::clone(&cell), place }), cell)
    }

    /// The closure, of a job that was not accepted.
    pub(crate) fn into_closure(self) -> F {
        self.closure
    }
}

impl<F, R> Task for Job<F, R>
where
    F: FnOnce(&Context) -> R + Send,
    R: Send,
{
    fn place(&self) -> &'static Location<'static> {
        self.place
    }

    fn run(self: Box<Self>, context: &Context, ended: &mut dyn FnMut(Fate)) {
        let Self { closure, cell, .. } = *self;
        // Unwind safe: whatever the closure left half done, it owned or shared by its own choice.
        match catch_unwind(AssertUnwindSafe(|| closure(context))) {
            Ok(result) => {
                ended(Fate::Finished);
                cell.complete(Ok(result));
            }
            Err(payload) => {
                ended(Fate::Panicked);
                cell.complete(Err(JobError::Panicked(Panic::new(payload))));
            }
        }
    }

    fn cancel(self: Box<Self>, cause: Cause) {
        let Self { closure, cell, .. } = *self;
        drop_quietly(closure);
        cell.complete(Err(JobError::Cancelled(cause)));
    }
}

/// What a job and its handle share.
pub(crate) struct Cell<R> {
    /// See the table above.
    state: Mutex<State<R>>,
}

/// How far the result is.
enum State<R> {
    /// Not there; wake whoever waits for it.
    Waiting(Option<Waker>),
    /// There.
    Done(Result<R, JobError>),
    /// Gone to the handle.
    Taken,
    /// Not wanted.
    Detached,
}

impl<R> Cell<R> {
    /// Stores the result and wakes, or drops it when nobody wants it. Never panics.
    fn complete(&self, result: Result<R, JobError>) {
        let mut state = self.state.lock();
        if matches!(*state, State::Detached) {
            return release_then(state, || drop_quietly(result));
        }
        let before = mem::replace(&mut *state, State::Done(result));
        release_then(state, || {
            if let State::Waiting(Some(waker)) = before {
                contain(|| wake(waker));
            }
        });
    }

    /// Takes the result, or leaves the waker. Ready with none when it was taken before.
    pub(crate) fn poll(&self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<R, JobError>>> {
        // Cloned before the lock is taken: a clone is the executor's code.
        let waker = cx.waker().clone();
        let mut state = self.state.lock();
        match &mut *state {
            State::Waiting(waiting) => {
                let old = waiting.replace(waker);
                release_then(state, || drop(old));
                Poll::Pending
            }
            done => {
                let before = mem::replace(done, State::Taken);
                release_then(state, || drop(waker));
                Poll::Ready(match before {
                    State::Done(result) => Some(result),
                    _ => None,
                })
            }
        }
    }

    /// Whether the result is there, or was.
    pub(crate) fn is_complete(&self) -> bool {
        !matches!(*self.state.lock(), State::Waiting(_))
    }

    /// The handle is gone.
    pub(crate) fn detach(&self) {
        let mut state = self.state.lock();
        let before = mem::replace(&mut *state, State::Detached);
        release_then(state, || drop_quietly(before));
    }
}

/// Drops a value of a user's.
fn drop_quietly<T>(value: T) {
    contain(|| drop(value));
}
