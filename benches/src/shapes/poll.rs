//! Polling by hand: what a task costs is none of a primitive's business.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is ready the first time.
///
/// # Panics
///
/// If it is not.
#[inline]
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    let future = pin!(future);
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a future was to be ready at once"),
    }
}

/// Polls a future that is not ready yet.
///
/// # Panics
///
/// If it is.
#[inline]
pub(crate) fn pending<F: Future>(future: Pin<&mut F>, waker: &Waker) {
    assert!(future.poll(&mut Context::from_waker(waker)).is_pending(), "a future was to wait");
}

/// Futures on the heap, each polled once.
pub(crate) fn waiting<F: Future>(
    futures: impl Iterator<Item = F>,
    waker: &Waker,
) -> Vec<Pin<Box<F>>> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    futures.iter_mut().for_each(|future| pending(future.as_mut(), waker));
    futures
}

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub(crate) struct Woken(AtomicU64);

impl Woken {
    /// A counter and its waker.
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let woken = Arc::new(Self::default());
        let waker = Waker::from(Arc::clone(&woken));
        (woken, waker)
    }

    /// How often it was.
    pub(crate) fn count(&self) -> u64 {
        // Relaxed: those who woke it have returned.
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Relaxed: a count, read when all is over.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
