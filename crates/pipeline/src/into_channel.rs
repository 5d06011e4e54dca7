//! A sink that sends into a channel.
//!
//! A channel lets nobody reserve room in it. So the sink takes an item that the channel has no room
//! for, and has room for another when it is sent: one item beyond the channel's capacity.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_channel::{SendError, Sender, TrySendError};

use selvedge_primitives::contain;

use crate::Stage;
use crate::flow::Build;
use crate::run::Ready;
use crate::sink::Sink;

impl<S: Build> Stage<S> {
    /// Ends in a channel: each item is sent into it.
    ///
    /// A full channel holds up the pipeline: the sink holds one item that waits to be sent, and
    /// pulls no other. That wait is part of finishing what was accepted, so a stop leaves it alone,
    /// and a cancel ends it; the item is then dropped, and counted as left (a panic of its destructor
    /// is reported by the hook, and ends there). To end a drain of
    /// which the receivers are slow, stop with a grace.
    ///
    /// When the channel is closed (every receiver is gone, or somebody closed it) the run fails with
    /// [`ChannelClosed`] at the sink, also while the source is pending. The item that was to be
    /// sent, if there is one, is the run's output, and counted as left.
    ///
    /// When the run has ended its sender is dropped; if that was the last, the receivers see the end
    /// of the channel after the last item.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::from_iter;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (sender, receiver) = async_channel::bounded(1);
    /// let run = from_iter(0..4).into_channel(sender).run(&Context::background());
    /// let receive = async {
    ///     let mut received = Vec::new();
    ///     while let Ok(n) = receiver.recv().await {
    ///         received.push(n);
    ///     }
    ///     received
    /// };
    /// let (ended, received) = tokio::join!(run, receive);
    /// assert_eq!(received, [0, 1, 2, 3]);
    /// assert!(ended.ok().unwrap().is_none(), "nothing was given back");
    /// # });
    /// ```
    #[track_caller]
    pub fn into_channel(self, sender: Sender<S::Item>) -> Ready<S, IntoChannel<S::Item>> {
        let closed = Box::pin({
            let sender = sender.clone();
            async move { sender.closed().await }
        });
        self.into_sink(IntoChannel { sender, closed, sending: None, back: None })
    }
}

/// An item was not sent, because its channel is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("item not sent: the channel is closed")]
#[non_exhaustive]
pub struct ChannelClosed;

/// A future in a box of its own.
type Boxed<O> = Pin<Box<dyn Future<Output = O> + Send>>;

/// Sends items into a channel; from [`Stage::into_channel`].
pub struct IntoChannel<T> {
    /// The channel.
    sender: Sender<T>,
    /// Completes when it is closed.
    closed: Boxed<()>,
    /// Sends the item that the channel had no room for.
    sending: Option<Boxed<Result<(), SendError<T>>>>,
    /// The item that a closed channel gave back.
    back: Option<T>,
}

impl<T> fmt::Debug for IntoChannel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoChannel")
            .field("sending", &self.sending.is_some())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Sink<T> for IntoChannel<T> {
    type Error = ChannelClosed;
    type Output = Option<T>;

    fn poll_reserve(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        if let Some(sending) = &mut self.sending {
            self.back = ready!(sending.as_mut().poll(cx)).err().map(SendError::into_inner);
            self.sending = None;
        }
        // Asked each time, so that the task is woken by a close while it waits for the source.
        let closed = self.back.is_some() || self.closed.as_mut().poll(cx).is_ready();
        Poll::Ready(if closed { Err(ChannelClosed) } else { Ok(()) })
    }

    fn accept(&mut self, item: T) -> Result<(), ChannelClosed> {
        match self.sender.try_send(item) {
            Ok(()) => {}
            Err(TrySendError::Full(item)) => {
                let sender = self.sender.clone();
                self.sending = Some(Box::pin(async move { sender.send(item).await }));
            }
            // Told when the next place is asked for.
            Err(TrySendError::Closed(item)) => self.back = Some(item),
        }
        Ok(())
    }

    fn undelivered(&self) -> usize {
        usize::from(self.sending.is_some() || self.back.is_some())
    }

    fn finish(self) -> Option<T> {
        // An item that a cancel leaves: a panic of its destructor is no reason to lose the report.
        contain(|| drop(self.sending));
        self.back
    }
}
