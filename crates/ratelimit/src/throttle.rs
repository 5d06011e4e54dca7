//! A stream at the pace of a limiter.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use pin_project::pin_project;

use crate::{Acquire, AcquireError, Limiter};

/// The items of a stream at the pace of a limiter; from [`Limiter::throttle`].
///
/// Each item takes a token before it is given out. The item is taken from the stream first, so that no
/// token is spent on a stream that has nothing, and none is saved up beyond the burst while it is
/// pending. So one item may be waiting in here.
///
/// # Cancel safety
///
/// Safe: dropping a wait for the next item loses neither the item nor the place in the line, which
/// are kept in here. Dropping the throttle drops the item that waits; [`take_waiting`](Self::take_waiting)
/// gives it out before.
///
/// # Fairness
///
/// It stands in the limiter's line with all others: first in, first out. It is in line for one item at a
/// time, so with a burst of one and a timer that rings late it is as much late with each
/// ([`CATCH_UP`](Limiter::CATCH_UP) is for lines that do not empty): give fast streams a burst.
///
/// # Memory ordering
///
/// None beyond the stream's own.
///
/// # Errors
///
/// Items are `Ok`. One `Err` when an item would have to wait and the limiter has no timer any more, as
/// [`Limiter::acquire`](Limiter::acquire) has it; then the stream ends, and [`take_waiting`](Self::take_waiting) has
/// the item.
///
/// # Panics
///
/// Only where the stream does.
///
/// # Examples
///
/// ```
/// use std::future::poll_fn;
/// use std::pin::pin;
/// use std::time::Duration;
///
/// use futures_core::Stream;
/// use selvedge_ratelimit::{Limiter, Rate, Timer};
///
/// # struct Numbers(u32);
/// # impl Stream for Numbers {
/// #     type Item = u32;
/// #     fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<u32>> {
/// #         self.0 += 1;
/// #         std::task::Poll::Ready((self.0 <= 3).then_some(self.0))
/// #     }
/// # }
/// # #[cfg(feature = "tokio")]
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = Limiter::with_timer(Rate::every(Duration::from_secs(1)).burst(1), Timer::ambient()?);
/// let start = tokio::time::Instant::now();
/// let mut numbers = pin!(limiter.throttle(Numbers(0)));
/// while let Some(number) = poll_fn(|cx| numbers.as_mut().poll_next(cx)).await {
///     println!("{} after {:?}", number?, start.elapsed());
/// }
/// assert_eq!(start.elapsed(), Duration::from_secs(2));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "tokio"))]
/// # fn main() {}
/// ```
///
/// # Algorithm
///
/// An item that finds its token costs what [`Limiter::try_acquire`] costs, and a count of the limiter.
/// Nothing is allocated.
#[pin_project]
#[must_use = "streams do nothing unless polled"]
pub struct Throttle<S: Stream> {
    /// Where the items come from.
    #[pin]
    stream: S,
    /// The limiter.
    limiter: Limiter,
    /// The item that waits for its token.
    item: Option<S::Item>,
    /// The wait for it.
    #[pin]
    acquire: Option<Acquire<'static>>,
    /// Whether the error was given.
    failed: bool,
}

impl<S: Stream> Throttle<S> {
    /// The items of `stream` at the pace of `limiter`.
    pub(crate) fn new(stream: S, limiter: &Limiter) -> Self {
        Self { stream, limiter: limiter.clone(), item: None, acquire: None, failed: false }
    }

    /// Takes out the item that waits for its token, and leaves the line.
    pub fn take_waiting(self: Pin<&mut Self>) -> Option<S::Item> {
        let mut this = self.project();
        this.acquire.set(None);
        this.item.take()
    }
}

impl<S: Stream> Stream for Throttle<S> {
    type Item = Result<S::Item, AcquireError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        if *this.failed {
            return Poll::Ready(None);
        }
        if this.item.is_none() {
            let Some(item) = ready!(this.stream.as_mut().poll_next(cx)) else {
                return Poll::Ready(None);
            };
            *this.item = Some(item);
        }
        if this.acquire.is_none() {
            this.acquire.set(Some(this.limiter.acquire_owned(1)));
        }
        // The acquisition takes part in the cooperative budget, so an always-ready stream yields here.
        let acquire = this.acquire.as_mut().as_pin_mut().expect("made above");
        let acquired = ready!(acquire.poll(cx));
        this.acquire.set(None);
        *this.failed = acquired.is_err();
        Poll::Ready(Some(acquired.map(|()| this.item.take().expect("taken above"))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.failed {
            return (0, Some(0));
        }
        let (low, high) = self.stream.size_hint();
        let waiting = usize::from(self.item.is_some());
        (low.saturating_add(waiting), high.and_then(|high| high.checked_add(waiting)))
    }
}

impl<S: Stream> fmt::Debug for Throttle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("limiter", &self.limiter)
            .field("waiting", &self.item.is_some())
            .finish_non_exhaustive()
    }
}
