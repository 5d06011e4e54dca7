//! The channel itself: a queue of items under a lock, and two wait queues. Small and obviously right
//! rather than fast.
//!
//! # Vocabulary
//!
//! *Room* is a place for one more item. A *wake-up* is a grant in one of the wait queues: it carries
//! nothing, and says only that it is worth trying again.
//!
//! # Protocol
//!
//! 1. An item goes in or out under the lock of the state, by whoever is running: a send or a receive
//!    tries this at every poll.
//! 2. After an item went in, one waiting receiver is woken; after one went out, one waiting sender.
//! 3. Who finds no item (no room) looks again under the lock of its wait queue, and queues if there
//!    is still none.
//! 4. A wake-up is used up by whoever tries in vain and queues again. Who leaves with one, served or
//!    not, hands it on. (After a service that is one too many, and the next may try in vain and come
//!    to stand behind the others. So does async-channel, and a model must not be kinder.)
//! 5. A close sets the flag under the lock of the state, then wakes everybody.
//!
//! Lock order: a wait queue, then the state. Nothing is woken and no item is dropped under a lock.
//!
//! # Why nobody sleeps beside an item
//!
//! As long as receivers queue, there are as many wake-ups that wait to be used as there are items, or
//! more. Sending adds an item, and then a wake-up (2). Taking an item uses up none. A wake-up is used
//! up only where there is no item, and is otherwise handed on (4). And a receiver queues only if there
//! is no item (3): a send that comes after its look takes the lock of the wait queue after it, and
//! finds it there. Room and senders are the same with the sides exchanged, and a close wakes
//! everybody.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::{RecvError, SendError, TryRecvError, TrySendError};
use crate::{Anchor, Entry, FirstPanic, Left, Mutex, WaitQueue, Waiter, contain};

/// Who waits: a grant carries nothing.
type Line = WaitQueue<(), (), ()>;

/// A place in one of the two lines.
pub(super) type Place<'a> = Waiter<'a, (), (), ()>;

/// What both ends share.
pub(super) struct Channel<T> {
    /// How many items there is room for; none when there is no limit.
    capacity: Option<usize>,
    /// The items, and what becomes of the channel.
    state: Mutex<State<T>>,
    /// Senders that wait for room.
    senders: Line,
    /// Receivers that wait for an item.
    receivers: Line,
}

/// What the lock guards.
struct State<T> {
    /// In the order in which they were sent.
    items: VecDeque<T>,
    /// Whether nothing more may be sent; final.
    closed: bool,
    /// How many senders there are.
    senders: usize,
    /// How many receivers there are.
    receivers: usize,
}

impl<T> Channel<T> {
    /// Open and empty, with one sender and one receiver.
    pub(super) fn new(capacity: Option<usize>) -> Self {
        let state = State { items: VecDeque::new(), closed: false, senders: 1, receivers: 1 };
        Self {
            capacity,
            state: Mutex::new(state),
            senders: WaitQueue::new(()),
            receivers: WaitQueue::new(()),
        }
    }

    /// Whether `state` has no room.
    fn is_full_in(&self, state: &State<T>) -> bool {
        self.capacity.is_some_and(|capacity| state.items.len() >= capacity)
    }

    /// Sends, if there is room.
    pub(super) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(TrySendError::Closed(item));
            }
            if self.is_full_in(&state) {
                return Err(TrySendError::Full(item));
            }
            state.items.push_back(item);
        }
        wake_one(&self.receivers);
        Ok(())
    }

    /// Takes the first item, if there is one.
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        let item = {
            let mut state = self.state.lock();
            match state.items.pop_front() {
                Some(item) => item,
                None if state.closed => return Err(TryRecvError::Closed),
                None => return Err(TryRecvError::Empty),
            }
        };
        wake_one(&self.senders);
        Ok(item)
    }

    /// Closes; whether it was open before.
    pub(super) fn close(&self) -> bool {
        {
            let mut state = self.state.lock();
            if state.closed {
                return false;
            }
            state.closed = true;
        }
        let mut panics = FirstPanic::new();
        for line in [&self.senders, &self.receivers] {
            panics.catch(|| line.grant_while(line.lock(), |(), ()| Some(())));
        }
        panics.resume();
        true
    }

    /// A place in the line of the senders, not queued yet.
    pub(super) fn sending(&self) -> Place<'_> {
        Waiter::new(Anchor::borrowed(&self.senders))
    }

    /// A place in the line of the receivers, not queued yet.
    pub(super) fn receiving(&self) -> Place<'_> {
        Waiter::new(Anchor::borrowed(&self.receivers))
    }

    /// Sends the item as soon as there is room; until then it stays in `item`.
    pub(super) fn poll_send(
        &self,
        mut place: Pin<&mut Place<'_>>,
        item: &mut Option<T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<T>>> {
        loop {
            match self.try_send(item.take().expect("polled after it has completed")) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(TrySendError::Closed(item)) => return Poll::Ready(Err(SendError(item))),
                Err(TrySendError::Full(back)) => *item = Some(back),
            }
            ready!(place.as_mut().poll_enter(cx, |_| match self.can_send() {
                true => Entry::Ready(()),
                false => Entry::Wait(()),
            }));
        }
    }

    /// Takes the first item as soon as there is one.
    pub(super) fn poll_recv(
        &self,
        mut place: Pin<&mut Place<'_>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, RecvError>> {
        loop {
            match self.try_recv() {
                Ok(item) => return Poll::Ready(Ok(item)),
                Err(TryRecvError::Closed) => return Poll::Ready(Err(RecvError)),
                Err(TryRecvError::Empty) => {}
            }
            ready!(place.as_mut().poll_enter(cx, |_| match self.can_receive() {
                true => Entry::Ready(()),
                false => Entry::Wait(()),
            }));
        }
    }

    /// Leaves the line of the senders; a wake-up that is there goes to the next.
    pub(super) fn leave_senders(&self, place: Pin<&mut Place<'_>>) {
        if place.cancel() == Left::Granted(()) {
            wake_one(&self.senders);
        }
    }

    /// Leaves the line of the receivers; a wake-up that is there goes to the next.
    pub(super) fn leave_receivers(&self, place: Pin<&mut Place<'_>>) {
        if place.cancel() == Left::Granted(()) {
            wake_one(&self.receivers);
        }
    }

    /// Whether a send would not wait.
    fn can_send(&self) -> bool {
        let state = self.state.lock();
        state.closed || !self.is_full_in(&state)
    }

    /// Whether a receive would not wait.
    fn can_receive(&self) -> bool {
        let state = self.state.lock();
        state.closed || !state.items.is_empty()
    }

    /// Whether it is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Whether there is no room.
    pub(super) fn is_full(&self) -> bool {
        self.is_full_in(&self.state.lock())
    }

    /// How many items are inside.
    pub(super) fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// How many items there is room for.
    pub(super) fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// How many senders there are.
    pub(super) fn senders(&self) -> usize {
        self.state.lock().senders
    }

    /// How many receivers there are.
    pub(super) fn receivers(&self) -> usize {
        self.state.lock().receivers
    }

    /// One more sender.
    pub(super) fn add_sender(&self) {
        self.state.lock().senders += 1;
    }

    /// One more receiver.
    pub(super) fn add_receiver(&self) {
        self.state.lock().receivers += 1;
    }

    /// One sender less; the last one closes.
    pub(super) fn remove_sender(&self) {
        let last = {
            let mut state = self.state.lock();
            state.senders -= 1;
            state.senders == 0
        };
        if last {
            contain(|| {
                self.close();
            });
        }
    }

    /// One receiver less; the last one closes.
    pub(super) fn remove_receiver(&self) {
        let last = {
            let mut state = self.state.lock();
            state.receivers -= 1;
            state.receivers == 0
        };
        if last {
            contain(|| {
                self.close();
            });
        }
    }
}

/// Wakes the first in a line, if somebody waits. A waker that panics is contained: the item that was
/// sent or taken must not be lost by it.
fn wake_one(line: &Line) {
    let mut wake_up = Some(());
    contain(|| line.grant_while(line.lock(), |(), ()| wake_up.take()));
}
