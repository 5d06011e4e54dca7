//! A stream at the pace of a limiter.

#[cfg(feature = "sink")]
mod sink;

#[cfg(feature = "sink")]
pub use sink::{ThrottleSink, ThrottleSinkError};

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use pin_project::pin_project;

use crate::{Acquire, AcquireError, Limiter};

/// The items of a stream at the pace of a limiter; from [`Limiter::throttle`].
///
/// Each item takes a token before it is given out, or [as many as it weighs](Self::weigh). The item is taken from the stream first, so that no
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
/// [`Limiter::acquire`](Limiter::acquire) has it, or the limiter is closed; then the stream ends, and
/// [`take_waiting`](Self::take_waiting) has the item, and lets it go on.
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
pub struct Throttle<S: Stream, W = fn(&<S as Stream>::Item) -> u32> {
    /// Where the items come from.
    #[pin]
    stream: S,
    /// The limiter.
    limiter: Limiter,
    /// How many tokens an item takes.
    weigh: W,
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
        let limiter = limiter.clone();
        Self { stream, limiter, weigh: one, item: None, acquire: None, failed: false }
    }
}

/// What an item weighs if nothing else is said.
fn one<T>(_: &T) -> u32 {
    1
}

impl<S: Stream, W> Throttle<S, W> {
    /// Each item takes as many tokens as `weigh` says, which is asked once, when the item has come. If it panics the item stays, and the next poll
    /// asks again.
    ///
    /// One that weighs nothing takes none, and waits for nobody. An item cannot be cut, so one that weighs more than the burst takes its
    /// tokens [in parts](Acquire::split), as they come, and is given out with the last.
    ///
    /// # Examples
    ///
    /// So many bytes a second, whatever their frames:
    ///
    /// ```
    /// use futures_core::Stream;
    /// use selvedge_ratelimit::{AcquireError, Limiter, Rate};
    ///
    /// static BYTES: Limiter = Limiter::new(Rate::per_second(1_000_000).burst(64 * 1024));
    ///
    /// fn paced<S: Stream<Item = Vec<u8>>>(frames: S) -> impl Stream<Item = Result<Vec<u8>, AcquireError>> {
    ///     BYTES.throttle(frames).weigh(|frame| frame.len().try_into().unwrap_or(u32::MAX))
    /// }
    /// ```
    pub fn weigh<F: FnMut(&S::Item) -> u32>(self, weigh: F) -> Throttle<S, F> {
        let Self { stream, limiter, item, acquire, failed, .. } = self;
        Throttle { stream, limiter, weigh, item, acquire, failed }
    }

    /// Takes out the item that waits for its tokens, and leaves the line. After an error the stream goes on.
    pub fn take_waiting(self: Pin<&mut Self>) -> Option<S::Item> {
        let mut this = self.project();
        this.acquire.set(None);
        *this.failed = false;
        this.item.take()
    }
}

impl<S: Stream, W: FnMut(&S::Item) -> u32> Stream for Throttle<S, W> {
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
        let item = this.item.as_ref().expect("it has come");
        if this.acquire.is_none() {
            let weight = (this.weigh)(item);
            this.acquire.set(Some(this.limiter.acquire_owned(weight).split()));
        }
        // The acquisition takes part in the cooperative budget, so an always-ready stream yields here.
        let acquire = this.acquire.as_mut().as_pin_mut().expect("made above");
        let acquired = ready!(acquire.poll(cx));
        this.acquire.set(None);
        *this.failed = acquired.is_err();
        Poll::Ready(Some(acquired.map(|()| this.item.take().expect("there is one"))))
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

impl<S: Stream, W> fmt::Debug for Throttle<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("limiter", &self.limiter)
            .field("waiting", &self.item.is_some())
            .finish_non_exhaustive()
    }
}
