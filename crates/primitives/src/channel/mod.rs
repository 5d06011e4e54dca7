//! The model channel: many senders, many receivers, the contract of `async-channel`, and nothing
//! that loom cannot see.
//!
//! It exists for models. `async-channel` stands on atomics of its own, so a model of an algorithm
//! that passes items through one explores nothing of what happens there. In a model, take this one
//! in its place; its names are the same:
//!
//! ```text
//! #[cfg(not(selvedge_loom))]
//! use async_channel as channel;
//! #[cfg(selvedge_loom)]
//! use selvedge_primitives::channel;
//! ```
//!
//! Production code does not carry it: it is behind the feature `model-channel`, which the feature
//! `loom` turns on and no default does.
//!
//! # Where the two agree
//!
//! One suite, `tests/channel/`, runs the same cases on both.
//!
//! - Items of one sender arrive in the order in which they were sent, each exactly once.
//! - No more items than the capacity are inside. What is refused, or fails, gives the item back.
//! - The channel closes by [`Sender::close`], by [`Receiver::close`], with the last sender, or with
//!   the last receiver. Then every waiting operation ends, every send fails, and what was sent
//!   before is still received; only after that a receive fails.
//! - A receive that is dropped takes no item. A send that is dropped drops its item, and sends
//!   nothing. Whichever was woken before it was dropped hands the wake-up on.
//! - Who is woken is owed nothing by that: it tries again, and may find that a running caller was
//!   faster. Then it waits again, behind the others.
//!
//! # What is not promised
//!
//! By either, so that no algorithm may rely on it: that those who wait are served in the order in
//! which they came (of three receivers that wait, async-channel serves the third before the second);
//! a bound on how often one is overtaken; in which order the items of several senders arrive; that an
//! operation which is polled without having been woken is still pending afterwards; when the items are
//! dropped that lie in a channel without receivers. This channel could hand items over in order, and
//! does not: a model must not be kinder than what it stands for.
//!
//! # What is left out
//!
//! The stream view, `closed`, `force_send`, the blocking forms and the weak ends of `async-channel`.

mod engine;
mod error;
mod futures;

use std::fmt;
use std::sync::Arc;

use engine::Channel;
pub use error::{RecvError, SendError, TryRecvError, TrySendError};
pub use futures::{Recv, Send};

/// A channel that holds at most `capacity` items.
///
/// # Panics
///
/// When `capacity` is zero, as `async_channel::bounded` does.
#[track_caller]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "channel not made: its capacity is zero");
    ends(Some(capacity))
}

/// A channel that is never full.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    ends(None)
}

/// The two ends of a new channel.
fn ends<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel::new(capacity));
    (Sender { channel: Arc::clone(&channel) }, Receiver { channel })
}

/// Sends. Clones are more senders; with the last one the channel closes.
pub struct Sender<T> {
    /// What both ends share.
    channel: Arc<Channel<T>>,
}

/// Receives. Clones are more receivers, which share the items; with the last one the channel closes.
pub struct Receiver<T> {
    /// What both ends share.
    channel: Arc<Channel<T>>,
}

impl<T> Sender<T> {
    /// Sends, if there is room.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] or [`TrySendError::Closed`], with the item.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.channel.try_send(item)
    }

    /// Sends, as soon as there is room.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, the future drops the item and has sent nothing; a wake-up that it
    /// got goes to the next sender. To keep the item, wait for room by other means and
    /// [`try_send`](Self::try_send): like `async-channel`, this one cannot reserve a place.
    ///
    /// # Fairness
    ///
    /// None is promised: whoever runs may overtake those who wait, and they each other.
    ///
    /// # Memory ordering
    ///
    /// What the sender did before is visible to whoever received the item.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the item, when the channel is closed.
    #[track_caller]
    pub fn send(&self, item: T) -> Send<'_, T> {
        Send::new(&self.channel, item)
    }
}

impl<T> Receiver<T> {
    /// Takes the item that was sent first, if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`], or [`TryRecvError::Closed`] when there is none and none will come.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.channel.try_recv()
    }

    /// Takes the item that was sent first, as soon as there is one.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, the future has taken nothing; a wake-up that it got goes to the
    /// next receiver.
    ///
    /// # Fairness
    ///
    /// None is promised: whoever runs may overtake those who wait, and they each other.
    ///
    /// # Memory ordering
    ///
    /// What the sender did before it sent is visible when the item is received.
    ///
    /// # Errors
    ///
    /// [`RecvError`], when the channel is closed and no item is left.
    #[track_caller]
    pub fn recv(&self) -> Recv<'_, T> {
        Recv::new(&self.channel)
    }
}

/// What both ends can do and tell.
macro_rules! end {
    ($end:ident) => {
        impl<T> $end<T> {
            /// Closes the channel; whether it was open before.
            ///
            /// # Panics
            ///
            /// When a waker panics: all others are woken first, then the first panic goes on.
            pub fn close(&self) -> bool {
                self.channel.close()
            }

            /// Whether it is closed. Items may be left in it.
            pub fn is_closed(&self) -> bool {
                self.channel.is_closed()
            }

            /// Whether no item is inside.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether there is no room.
            pub fn is_full(&self) -> bool {
                self.channel.is_full()
            }

            /// How many items are inside.
            pub fn len(&self) -> usize {
                self.channel.len()
            }

            /// How many items there is room for; none when there is no limit.
            pub fn capacity(&self) -> Option<usize> {
                self.channel.capacity()
            }

            /// How many senders there are.
            pub fn sender_count(&self) -> usize {
                self.channel.senders()
            }

            /// How many receivers there are.
            pub fn receiver_count(&self) -> usize {
                self.channel.receivers()
            }
        }

        impl<T> fmt::Debug for $end<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($end))
                    .field("len", &self.len())
                    .field("capacity", &self.capacity())
                    .field("closed", &self.is_closed())
                    .finish_non_exhaustive()
            }
        }
    };
}

end!(Sender);
end!(Receiver);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.add_sender();
        Self { channel: Arc::clone(&self.channel) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.remove_sender();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.channel.add_receiver();
        Self { channel: Arc::clone(&self.channel) }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.remove_receiver();
    }
}
