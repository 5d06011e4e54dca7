//! Sending and receiving as futures.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};

use super::engine::{Channel, Place};
use super::{RecvError, SendError};
use crate::coop;

/// Sends an item as soon as there is room; from [`Sender::send`](super::Sender::send).
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct Send<'a, T> {
    /// Where to.
    channel: &'a Channel<T>,
    /// The place in the line of the senders.
    #[pin]
    place: Place<'a>,
    /// The item, until it is sent.
    item: Option<T>,
}

/// Takes an item as soon as there is one; from [`Receiver::recv`](super::Receiver::recv).
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct Recv<'a, T> {
    /// Where from.
    channel: &'a Channel<T>,
    /// The place in the line of the receivers.
    #[pin]
    place: Place<'a>,
}

impl<'a, T> Send<'a, T> {
    /// Sends `item` through `channel`.
    pub(super) fn new(channel: &'a Channel<T>, item: T) -> Self {
        Self { channel, place: channel.sending(), item: Some(item) }
    }
}

impl<'a, T> Recv<'a, T> {
    /// Receives from `channel`.
    pub(super) fn new(channel: &'a Channel<T>) -> Self {
        Self { channel, place: channel.receiving() }
    }
}

impl<T> Future for Send<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let proceed = ready!(coop::poll_proceed(cx));
        let this = self.project();
        let sent = ready!(this.channel.poll_send(this.place, this.item, cx));
        proceed.made_progress();
        Poll::Ready(sent)
    }
}

impl<T> Future for Recv<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let proceed = ready!(coop::poll_proceed(cx));
        let this = self.project();
        let received = ready!(this.channel.poll_recv(this.place, cx));
        proceed.made_progress();
        Poll::Ready(received)
    }
}

#[pinned_drop]
impl<T> PinnedDrop for Send<'_, T> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        this.channel.leave_senders(this.place);
    }
}

#[pinned_drop]
impl<T> PinnedDrop for Recv<'_, T> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        this.channel.leave_receivers(this.place);
    }
}

impl<T> fmt::Debug for Send<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Send").field("sent", &self.item.is_none()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").finish_non_exhaustive()
    }
}
