//! A gate of permits, small enough to read, that can be told to be wrong in one way at a time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

/// What a [`Gate`] does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A dropped waiter stays in the queue, and is granted what a living one should get.
    StaysInQueue,
    /// A permit granted to a waiter that is then dropped is gone.
    LosesGrant,
    /// Gives nothing back while a panic unwinds.
    LosesGrantWhenPanicking,
    /// Gives nothing back on another thread than the one that polled.
    LosesGrantElsewhere,
    /// Grants a permit without waking its waiter.
    GrantsSilently,
    /// Keeps the waker of the first poll.
    KeepsFirstWaker,
    /// Closes without waking the waiters.
    ClosesSilently,
    /// A waiter does not look whether the gate was closed.
    IgnoresClose,
    /// As `IgnoresClose`, but is busy with it.
    SpinsOnClose,
    /// A waiter that finds the gate closed forgets that it was granted a permit.
    LosesGrantOnClose,
}

/// A queue of waiters before a number of permits.
pub(crate) struct Gate {
    bug: Bug,
    state: Mutex<State>,
}

struct State {
    permits: usize,
    closed: bool,
    next_id: usize,
    waiters: VecDeque<(usize, Waker)>,
    granted: Vec<usize>,
}

impl Gate {
    pub(crate) fn new(permits: usize, bug: Bug) -> Self {
        let state = State {
            permits,
            closed: false,
            next_id: 0,
            waiters: VecDeque::new(),
            granted: Vec::new(),
        };
        Self { bug, state: Mutex::new(state) }
    }

    pub(crate) fn acquire(&self) -> Pass<'_> {
        Pass { gate: self, id: None, polled_on: None }
    }

    pub(crate) fn try_acquire(&self) -> Option<Permit<'_>> {
        let mut state = self.lock();
        state.permits = state.permits.checked_sub(1)?;
        Some(Permit { gate: self })
    }

    pub(crate) fn available(&self) -> usize {
        self.lock().permits
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if self.bug != Bug::ClosesSilently {
            let waiters: Vec<_> = state.waiters.iter().map(|(_, waker)| waker.clone()).collect();
            drop(state);
            waiters.into_iter().for_each(Waker::wake);
        }
    }

    fn release(&self) {
        let mut state = self.lock();
        match state.waiters.pop_front() {
            None => state.permits += 1,
            Some((id, waker)) => {
                state.granted.push(id);
                drop(state);
                if self.bug != Bug::GrantsSilently {
                    waker.wake();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// Waits for a permit.
pub(crate) struct Pass<'a> {
    gate: &'a Gate,
    id: Option<usize>,
    polled_on: Option<ThreadId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl<'a> Future for Pass<'a> {
    type Output = Result<Permit<'a>, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let gate = self.gate;
        self.polled_on = Some(thread::current().id());
        let mut state = gate.lock();
        if state.closed && gate.bug == Bug::LosesGrantOnClose {
            let id = self.id.take();
            state.waiters.retain(|(waiter, _)| Some(*waiter) != id);
            return Poll::Ready(Err(Closed));
        }
        if let Some(id) = self.id {
            if let Some(at) = state.granted.iter().position(|&granted| granted == id) {
                state.granted.remove(at);
                self.id = None;
                return Poll::Ready(Ok(Permit { gate }));
            }
        } else if !state.closed && state.permits > 0 {
            state.permits -= 1;
            return Poll::Ready(Ok(Permit { gate }));
        }
        if state.closed {
            match gate.bug {
                Bug::IgnoresClose => return Poll::Pending,
                Bug::SpinsOnClose => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                _ => return Poll::Ready(Err(Closed)),
            }
        }
        match self.id {
            None => {
                let id = state.next_id;
                state.next_id += 1;
                state.waiters.push_back((id, cx.waker().clone()));
                self.id = Some(id);
            }
            Some(id) if gate.bug != Bug::KeepsFirstWaker => {
                let waiter = state.waiters.iter_mut().find(|(waiter, _)| *waiter == id);
                waiter.expect("queued").1.clone_from(cx.waker());
            }
            Some(_) => {}
        }
        Poll::Pending
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let loses = match self.gate.bug {
            Bug::LosesGrant => true,
            Bug::LosesGrantWhenPanicking => thread::panicking(),
            Bug::LosesGrantElsewhere => self.polled_on != Some(thread::current().id()),
            _ => false,
        };
        let mut state = self.gate.lock();
        if self.gate.bug != Bug::StaysInQueue {
            state.waiters.retain(|(waiter, _)| *waiter != id);
        }
        let granted = state.granted.iter().position(|&granted| granted == id);
        drop(state);
        if granted.is_some() && !loses {
            self.gate.release();
        }
    }
}

/// Goes back to its gate when it is dropped.
pub(crate) struct Permit<'a> {
    gate: &'a Gate,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.gate.release();
    }
}
