//! Somebody who waits for permits.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use selvedge_sync::{AcquireError, AcquireOwned, OwnedPermit, Semaphore};
use selvedge_testkit::CountingWaker;

/// Somebody who wants permits.
pub(crate) struct Waiter {
    future: Pin<Box<AcquireOwned>>,
    waker: CountingWaker,
    /// How many of the wakes were asked for already.
    told: Cell<usize>,
}

impl Waiter {
    /// Has not come to the line yet.
    pub(crate) fn unpolled(semaphore: &Arc<Semaphore>, n: usize) -> Self {
        let future = Box::pin(semaphore.acquire_owned(n));
        Self { future, waker: CountingWaker::new(), told: Cell::new(0) }
    }

    /// Comes to the line for `n`.
    #[track_caller]
    pub(crate) fn new(semaphore: &Arc<Semaphore>, n: usize) -> Self {
        let mut waiter = Self::unpolled(semaphore, n);
        assert!(waiter.poll().is_pending());
        waiter
    }

    pub(crate) fn poll(&mut self) -> Poll<Result<OwnedPermit, AcquireError>> {
        let waker = self.waker.waker();
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Polled, it is served.
    #[track_caller]
    pub(crate) fn served(mut self) -> OwnedPermit {
        match self.poll() {
            Poll::Ready(Ok(permit)) => permit,
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => panic!("still waits"),
        }
    }

    /// How often it was woken since it was asked last.
    pub(crate) fn wakes(&self) -> usize {
        let woken = self.waker.wakes();
        woken - self.told.replace(woken)
    }
}
