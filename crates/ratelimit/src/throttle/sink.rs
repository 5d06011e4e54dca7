//! A sink at the pace of a limiter.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use pin_project::pin_project;

use super::one;
use crate::{Acquire, AcquireError, Limiter};

/// A sink that hands its items on at the pace of a limiter; from [`Limiter::throttle_sink`].
///
/// It takes an item when it has none, and keeps it until the sink behind it is ready and the item has its token, or [as many as it
/// weighs](Self::weigh). So one item may be waiting in here, and whoever sends waits behind that.
///
/// | polled | it |
/// |---|---|
/// | `poll_ready` | hands on the item that waits in here; then there is room |
/// | `poll_flush` | hands it on, and flushes the sink behind |
/// | `poll_close` | hands it on, and closes the sink behind |
///
/// The token comes last, when the sink behind is ready: so none is spent on a sink that takes nothing, and items are handed on when their
/// tokens are granted, no closer together. While an item waits for its token, what was handed on before is flushed.
///
/// # Cancel safety
///
/// Safe: dropping a wait for any of the three loses neither the item nor the place in the line, which are kept in here. Dropping the
/// throttle drops the item that waits; [`take_waiting`](Self::take_waiting) gives it out before.
///
/// # Fairness
///
/// It stands in the limiter's line with all others, as a [`Throttle`](crate::Throttle) does.
///
/// # Memory ordering
///
/// None beyond the sink's own.
///
/// # Errors
///
/// - [`ThrottleSinkError::NotAcquired`], when an item would have to wait and the limiter is closed or has no timer any more. The item stays in
///   here: polled again, it tries again; once it was [taken out](Self::take_waiting), the sink behind can still be closed.
/// - [`ThrottleSinkError::Inner`]: the sink behind failed. If that was before it took the item, that stays in here, as well.
///
/// # Panics
///
/// When an item is sent without having been ready for it, as the contract of [`Sink`] has it.
///
/// # Examples
///
/// ```
/// use std::future::poll_fn;
/// use std::pin::{Pin, pin};
/// use std::time::Duration;
///
/// use futures_sink::Sink;
/// use selvedge_ratelimit::{Limiter, Rate, Timer};
///
/// # use std::convert::Infallible;
/// # use std::task::{Context, Poll};
/// # struct Printer;
/// # impl Sink<u32> for Printer {
/// #     type Error = Infallible;
/// #     fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
/// #     fn start_send(self: Pin<&mut Self>, item: u32) -> Result<(), Infallible> { println!("{item}"); Ok(()) }
/// #     fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
/// #     fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> { Poll::Ready(Ok(())) }
/// # }
/// # #[cfg(feature = "tokio")]
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = Limiter::with_timer(Rate::every(Duration::from_secs(1)).burst(1), Timer::ambient()?);
/// let start = tokio::time::Instant::now();
/// let mut sink = pin!(limiter.throttle_sink(Printer));
/// for item in 0..3 {
///     poll_fn(|cx| sink.as_mut().poll_ready(cx)).await?;
///     sink.as_mut().start_send(item)?;
/// }
/// poll_fn(|cx| sink.as_mut().poll_close(cx)).await?;
/// assert_eq!(start.elapsed(), Duration::from_secs(2));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "tokio"))]
/// # fn main() {}
/// ```
///
/// # Algorithm
///
/// An item that finds its token costs what [`Limiter::try_acquire`] costs, a count of the limiter, and a poll more of the sink behind.
/// Nothing is allocated.
#[pin_project]
#[must_use = "sinks do nothing unless polled"]
pub struct ThrottleSink<Si, Item, W = fn(&Item) -> u32> {
    /// Where the items go.
    #[pin]
    sink: Si,
    /// The limiter.
    limiter: Limiter,
    /// How many tokens an item takes.
    weigh: W,
    /// The item that waits.
    item: Option<Item>,
    /// The wait for its tokens, once the sink behind was ready for it.
    #[pin]
    acquire: Option<Acquire<'static>>,
}

impl<Si, Item> ThrottleSink<Si, Item> {
    /// To `sink` at the pace of `limiter`.
    pub(crate) fn new(sink: Si, limiter: &Limiter) -> Self {
        Self { sink, limiter: limiter.clone(), weigh: one, item: None, acquire: None }
    }
}

impl<Si, Item, W> ThrottleSink<Si, Item, W> {
    /// Each item takes as many tokens as `weigh` says, which is asked when the sink behind is ready for it. If it panics the item stays, and the next
    /// poll asks again.
    ///
    /// One that weighs nothing takes none, and waits for nobody. An item cannot be cut, so one that weighs more than the burst takes its
    /// tokens [in parts](Acquire::split), as they come, and is handed on with the last.
    pub fn weigh<F: FnMut(&Item) -> u32>(self, weigh: F) -> ThrottleSink<Si, Item, F> {
        let Self { sink, limiter, item, acquire, .. } = self;
        ThrottleSink { sink, limiter, weigh, item, acquire }
    }

    /// Takes out the item that waits, and leaves the line.
    pub fn take_waiting(self: Pin<&mut Self>) -> Option<Item> {
        let mut this = self.project();
        this.acquire.set(None);
        this.item.take()
    }
}

impl<Si: Sink<Item>, Item, W: FnMut(&Item) -> u32> ThrottleSink<Si, Item, W> {
    /// Ready when no item is left in here.
    fn poll_hand_on(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ThrottleSinkError<Si::Error>>> {
        let mut this = self.project();
        let Some(item) = this.item else { return Poll::Ready(Ok(())) };
        // Each time: whoever is told that it is ready is told so for now.
        ready!(this.sink.as_mut().poll_ready(cx)).map_err(ThrottleSinkError::Inner)?;
        if this.acquire.is_none() {
            let weight = (this.weigh)(item);
            this.acquire.set(Some(this.limiter.acquire_owned(weight).split()));
        }
        // The acquisition takes part in the cooperative budget, so an always-ready sink yields here.
        let acquire = this.acquire.as_mut().as_pin_mut().expect("made above");
        let Poll::Ready(acquired) = acquire.poll(cx) else {
            // Those before it are not to wait with it.
            ready!(this.sink.poll_flush(cx)).map_err(ThrottleSinkError::Inner)?;
            return Poll::Pending;
        };
        this.acquire.set(None);
        acquired.map_err(ThrottleSinkError::NotAcquired)?;
        let item = this.item.take().expect("seen above");
        Poll::Ready(this.sink.start_send(item).map_err(ThrottleSinkError::Inner))
    }
}

impl<Si: Sink<Item>, Item, W: FnMut(&Item) -> u32> Sink<Item> for ThrottleSink<Si, Item, W> {
    type Error = ThrottleSinkError<Si::Error>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_hand_on(cx)
    }

    #[track_caller]
    fn start_send(self: Pin<&mut Self>, item: Item) -> Result<(), Self::Error> {
        let this = self.project();
        assert!(this.item.is_none(), "`start_send` without `poll_ready`: an item waits already");
        *this.item = Some(item);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.as_mut().poll_hand_on(cx))?;
        self.project().sink.poll_flush(cx).map_err(ThrottleSinkError::Inner)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.as_mut().poll_hand_on(cx))?;
        self.project().sink.poll_close(cx).map_err(ThrottleSinkError::Inner)
    }
}

impl<Si, Item, W> fmt::Debug for ThrottleSink<Si, Item, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottleSink")
            .field("limiter", &self.limiter)
            .field("waiting", &self.item.is_some())
            .finish_non_exhaustive()
    }
}

/// An item was not handed on; from a [`ThrottleSink`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ThrottleSinkError<E> {
    /// It did not get its tokens.
    #[error(transparent)]
    NotAcquired(AcquireError),
    /// The sink behind failed.
    #[error(transparent)]
    Inner(E),
}
