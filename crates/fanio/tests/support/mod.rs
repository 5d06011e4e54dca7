//! A source whose other side is moved by hand, and values that count or panic.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

/// A stream that gives what is pushed into its [`Hand`].
pub(crate) struct Pipe(Arc<Mutex<State>>);

/// The other side of a [`Pipe`].
#[derive(Clone)]
pub(crate) struct Hand(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) items: VecDeque<u64>,
    pub(crate) closed: bool,
    pub(crate) waker: Option<Waker>,
    pub(crate) polls: usize,
}

pub(crate) fn pipe() -> (Pipe, Hand) {
    let state = Arc::new(Mutex::new(State::default()));
    (Pipe(Arc::clone(&state)), Hand(state))
}

pub(crate) fn pipes(n: usize) -> (Vec<Pipe>, Vec<Hand>) {
    (0..n).map(|_| pipe()).unzip()
}

/// A pipe that holds these and has ended behind them.
pub(crate) fn of(items: impl IntoIterator<Item = u64>) -> Pipe {
    let (pipe, hand) = pipe();
    items.into_iter().for_each(|item| hand.push(item));
    hand.close();
    pipe
}

impl Hand {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn push(&self, item: u64) {
        let mut state = self.state();
        state.items.push_back(item);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn polls(&self) -> usize {
        self.state().polls
    }

    /// Whether the pipe is gone.
    pub(crate) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Stream for Pipe {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        let mut state = self.0.lock().unwrap();
        state.polls += 1;
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Counts those that are alive.
pub(crate) struct Alive(Arc<AtomicUsize>);

impl Alive {
    pub(crate) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Panics when it is dropped.
#[derive(Debug)]
pub(crate) struct Nasty;

impl Drop for Nasty {
    fn drop(&mut self) {
        panic!("a destructor panics");
    }
}
