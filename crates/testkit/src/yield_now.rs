//! A future that is pending once.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Lets the others run: pending once, having woken itself, then ready.
///
/// # Cancel safety
///
/// It holds nothing and loses nothing.
///
/// # Examples
///
/// ```
/// use selvedge_testkit::{block_on, yield_now};
///
/// block_on(async {
///     yield_now().await;
/// });
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct YieldNow {
    /// Whether it was pending already.
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
