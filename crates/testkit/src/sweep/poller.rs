//! One future, polled by hand, and whether its last waker was woken since.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::CountingWaker;

/// Polls a boxed future and keeps its wakers.
pub(super) struct Poller<F> {
    /// The future under test.
    future: Pin<Box<F>>,
    /// Every waker it was polled with, the last one at the end.
    wakers: Vec<CountingWaker>,
    /// Whether each poll gets a waker of its own.
    new_waker_each_poll: bool,
    /// Wakes of the last waker before the last poll.
    wakes_before: usize,
}

impl<F: Future> Poller<F> {
    /// A future that has not been polled.
    pub(super) fn new(future: F, new_waker_each_poll: bool) -> Self {
        let wakers = vec![CountingWaker::new()];
        Self { future: Box::pin(future), wakers, new_waker_each_poll, wakes_before: 0 }
    }

    /// Polls once.
    pub(super) fn poll(&mut self) -> Poll<F::Output> {
        if self.new_waker_each_poll {
            self.wakers.push(CountingWaker::new());
        }
        self.wakes_before = self.last().wakes();
        let waker = self.last().waker();
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Whether the waker of the last poll was woken during that poll or after it.
    ///
    /// A wake of an older waker does not count: only the last one has to be woken.
    pub(super) fn is_woken(&self) -> bool {
        self.last().wakes() > self.wakes_before
    }

    /// The wakers, to see later which of them are still held somewhere.
    pub(super) fn wakers(&self) -> Vec<CountingWaker> {
        self.wakers.clone()
    }

    /// Gives the future up, to be dropped.
    pub(super) fn into_future(self) -> Pin<Box<F>> {
        self.future
    }

    /// The waker of the last poll.
    fn last(&self) -> &CountingWaker {
        self.wakers.last().expect("a poller starts with one waker")
    }
}
