//! The cell that a job's result passes through on its way to the handle.
//!
//! A cell is a lock around four states:
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
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use selvedge_primitives::{Mutex, contain, release_then, wake};

use super::job::Sink;
use crate::handle::JobError;

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
    /// The cell of a job that has not ended.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Waiting(None)) })
    }

    /// Takes the result, or leaves the waker. Ready with none when it was taken before.
    pub(crate) fn poll(&self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<R, JobError>>> {
        // Cloned before the lock is taken: a clone is the executor's code.
        let waker = cx.waker().clone();
        let mut state = self.state.lock();
        match &mut *state {
            State::Waiting(waiting) => {
                let old = waiting.replace(waker);
                release_then(state, || contain(|| drop(old)));
                Poll::Pending
            }
            done => {
                let before = mem::replace(done, State::Taken);
                release_then(state, || contain(|| drop(waker)));
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
        release_then(state, || contain(|| drop(before)));
    }
}

impl<R: Send> Sink for Arc<Cell<R>> {
    type Item = R;

    /// Stores the result and wakes, or drops it when nobody wants it.
    fn complete(&self, result: Result<R, JobError>) {
        let mut state = self.state.lock();
        if matches!(*state, State::Detached) {
            return release_then(state, || contain(|| drop(result)));
        }
        let before = mem::replace(&mut *state, State::Done(result));
        release_then(state, || {
            if let State::Waiting(Some(waker)) = before {
                contain(|| wake(waker));
            }
        });
    }
}
