//! The contract as a trait, and the two channels behind it.

use std::sync::Arc;

/// What goes through: shared, so that a test sees whether a channel still holds it.
pub(crate) type Item = Arc<u32>;

/// An item with a number.
pub(crate) fn item(number: u32) -> Item {
    Arc::new(number)
}

/// Why an item was not sent at once; with the item.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    Full(Item),
    Closed(Item),
}

/// Why no item was received at once.
#[derive(Debug, PartialEq)]
pub(crate) enum Nothing {
    Empty,
    Closed,
}

/// What an end tells of its channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) len: usize,
    pub(crate) capacity: Option<usize>,
    pub(crate) is_empty: bool,
    pub(crate) is_full: bool,
    pub(crate) is_closed: bool,
    pub(crate) senders: usize,
    pub(crate) receivers: usize,
}

/// A channel as async-channel means it.
pub(crate) trait Contract: 'static {
    type Sender: Clone + Send + Sync + 'static;
    type Receiver: Clone + Send + Sync + 'static;

    fn bounded(capacity: usize) -> (Self::Sender, Self::Receiver);
    fn unbounded() -> (Self::Sender, Self::Receiver);

    fn try_send(sender: &Self::Sender, item: Item) -> Result<(), Refused>;
    fn send(sender: &Self::Sender, item: Item) -> impl Future<Output = Result<(), Item>> + Send;
    fn close_sender(sender: &Self::Sender) -> bool;
    fn sender_sees(sender: &Self::Sender) -> Seen;

    fn try_recv(receiver: &Self::Receiver) -> Result<Item, Nothing>;
    fn recv(receiver: &Self::Receiver) -> impl Future<Output = Option<Item>> + Send;
    fn close_receiver(receiver: &Self::Receiver) -> bool;
    fn receiver_sees(receiver: &Self::Receiver) -> Seen;
}

/// Two crates with the same names.
macro_rules! channel {
    ($(#[$meta:meta])* $name:ident is $($path:ident)::+) => {
        $(#[$meta])*
        pub(crate) struct $name;

        impl Contract for $name {
            type Sender = $($path)::+::Sender<Item>;
            type Receiver = $($path)::+::Receiver<Item>;

            fn bounded(capacity: usize) -> (Self::Sender, Self::Receiver) {
                $($path)::+::bounded(capacity)
            }

            fn unbounded() -> (Self::Sender, Self::Receiver) {
                $($path)::+::unbounded()
            }

            fn try_send(sender: &Self::Sender, item: Item) -> Result<(), Refused> {
                sender.try_send(item).map_err(|error| match error {
                    $($path)::+::TrySendError::Full(item) => Refused::Full(item),
                    $($path)::+::TrySendError::Closed(item) => Refused::Closed(item),
                })
            }

            async fn send(sender: &Self::Sender, item: Item) -> Result<(), Item> {
                sender.send(item).await.map_err(|error| error.into_inner())
            }

            fn close_sender(sender: &Self::Sender) -> bool {
                sender.close()
            }

            fn sender_sees(sender: &Self::Sender) -> Seen {
                seen!(sender)
            }

            fn try_recv(receiver: &Self::Receiver) -> Result<Item, Nothing> {
                receiver.try_recv().map_err(|error| match error {
                    $($path)::+::TryRecvError::Empty => Nothing::Empty,
                    $($path)::+::TryRecvError::Closed => Nothing::Closed,
                })
            }

            async fn recv(receiver: &Self::Receiver) -> Option<Item> {
                receiver.recv().await.ok()
            }

            fn close_receiver(receiver: &Self::Receiver) -> bool {
                receiver.close()
            }

            fn receiver_sees(receiver: &Self::Receiver) -> Seen {
                seen!(receiver)
            }
        }
    };
}

/// What either end tells.
macro_rules! seen {
    ($end:expr) => {
        Seen {
            len: $end.len(),
            capacity: $end.capacity(),
            is_empty: $end.is_empty(),
            is_full: $end.is_full(),
            is_closed: $end.is_closed(),
            senders: $end.sender_count(),
            receivers: $end.receiver_count(),
        }
    };
}

channel! {
    /// The model channel.
    Model is selvedge_primitives::channel
}

channel! {
    /// What it stands for.
    Async is async_channel
}
