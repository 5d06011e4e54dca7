//! One future, on this thread, to its end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Polls `future` on this thread until it is ready, and parks in between.
///
/// It polls only when woken: a lost wake-up hangs here, as it would in a runtime. Put a
/// [`watchdog`](crate::watchdog()) around it where that may happen.
///
/// # Examples
///
/// ```
/// use selvedge_testkit::block_on;
///
/// assert_eq!(block_on(async { 6 * 7 }), 42);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        // Acquire: pairs with the Release in `wake_by_ref`; the poll sees what the waker did before.
        while !unpark.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

/// Wakes by unparking a thread.
struct Unpark {
    /// The thread in `block_on`.
    thread: Thread,
    /// Set by a wake; `park` may also return without one.
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: pairs with the Acquire in `block_on`; publishes what was done before the wake.
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
