//! What a channel refuses. Named as in `async-channel`, so that a `use` is all that changes.

use std::fmt;

/// Not sent: the channel is closed. The item comes back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("item not sent: the channel is closed")]
pub struct SendError<T>(
    /// The item.
    pub T,
);

/// Not sent at once. The item comes back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// There is no room.
    #[error("item not sent: the channel is full")]
    Full(T),
    /// It is closed.
    #[error("item not sent: the channel is closed")]
    Closed(T),
}

/// Not received: the channel is closed and empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no item received: the channel is closed and empty")]
pub struct RecvError;

/// Not received at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// There is nothing in it.
    #[error("no item received: the channel is empty")]
    Empty,
    /// There is nothing in it, and nothing will come.
    #[error("no item received: the channel is closed and empty")]
    Closed,
}

impl<T> SendError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> TrySendError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}
