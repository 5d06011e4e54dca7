//! The place between a generator's body and its source: the engine of a give.
//!
//! # Vocabulary
//!
//! The *place* holds one item under a lock. A *giver* is the task of a give, on any thread; the
//! *source* is the task that pulls from the generator and polls its body. A place is *promised* to a
//! giver whose turn it is and that has not put its item yet.
//!
//! # Protocol
//!
//! 1. A giver waits in line for the place to be empty, and is promised it.
//! 2. It puts its item there, and leaves its waker.
//! 3. The source takes the item; the place is promised to the next in line, then the giver is woken.
//!
//! | what happens | who is told |
//! |---|---|
//! | an item is put in place | the source, if it is pending; when the body put it during its own poll the source looks anyway |
//! | the item is taken | the giver's task, unless it is the very task that polls the source, which polls the body next |
//! | the place is empty | the next giver in line |
//! | the source ends or is dropped | every giver: its `give` panics at its caller's place, unless its item was taken |
//!
//! # The races
//!
//! - *Put against the source going to sleep*: the source looks for the item and leaves its waker in
//!   one critical section ([`Place::end_poll`]), so a put comes before and is seen, or after and
//!   wakes. A body that is polled with another waker than its source's is told apart by the waker's
//!   identity.
//! - *Take against a giver that is polled again*: the giver looks at the number of items taken and
//!   leaves its waker in one critical section ([`Place::poll_taken`]).
//! - *Put against the end*: an item that lies in place when the source ends comes out before the
//!   end; the close and the look are one critical section ([`Place::finish`]). A put that comes after
//!   gets its item back. Only a source that is dropped drops the item, and its giver is told.
//! - *Drop of a giver*: one that is dropped before its item was placed passes the promise on
//!   ([`Place::vacate`]); one that is dropped after has given it.
//!
//! Nothing spins. Each put is followed by one take or by the end, and each of these wakes whoever
//! waits for it, so no give waits for ever, as long as the source is polled when it is woken.

use std::sync::Arc;
use std::task::{Poll, Waker};

use selvedge_primitives::{Locked, WaitQueue, contain, release_then, wake};

/// The place between the body and the source.
pub(super) struct Place<T> {
    /// The state, and the givers in line for an empty place.
    pub(super) queue: WaitQueue<State<T>, (), ()>,
}

/// What the lock guards.
pub(super) struct State<T> {
    /// The item, if there is one.
    item: Option<T>,
    /// Whether the place is promised to a giver that has not put its item yet.
    promised: bool,
    /// How many items were put here.
    put: u64,
    /// How many were taken.
    taken: u64,
    /// Who put the item and waits for it to be taken; none if the source's next poll polls it.
    giver: Option<Waker>,
    /// The source's task, while it waits.
    source: Option<Waker>,
    /// The source's task, while it polls the body.
    polling: Option<TaskKey>,
    /// Whether the source is gone or at its end.
    pub(super) closed: bool,
}

/// A task's identity: what `Waker::will_wake` compares.
type TaskKey = (usize, usize);

/// The identity of a waker's task.
fn key(waker: &Waker) -> TaskKey {
    (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
}

impl<T> State<T> {
    /// Whether a giver may have the place; promises it.
    pub(super) fn promise(&mut self) -> bool {
        !self.closed && !self.promised && self.item.is_none() && {
            self.promised = true;
            true
        }
    }
}

impl<T> Place<T> {
    /// An empty place.
    pub(super) fn new() -> Self {
        Self {
            queue: WaitQueue::new(State {
                item: None,
                promised: false,
                put: 0,
                taken: 0,
                giver: None,
                source: None,
                polling: None,
                closed: false,
            }),
        }
    }

    /// The source begins to poll the body.
    pub(super) fn begin_poll(&self, task: &Waker) {
        let old = {
            let mut locked = self.queue.lock();
            locked.polling = Some(key(task));
            locked.source.take()
        };
        drop(old);
    }

    /// The source has polled the body: takes the item, if there is one. Leaves the source's waker
    /// if there is none.
    pub(super) fn end_poll(&self, task: &Waker) -> Option<T> {
        let waiting = task.clone();
        let mut locked = self.queue.lock();
        locked.polling = None;
        let item = locked.item.take();
        let (mut giver, mut unused) = (None, Some(waiting));
        if item.is_some() {
            locked.taken += 1;
            giver = locked.giver.take();
        } else {
            std::mem::swap(&mut locked.source, &mut unused);
        }
        contain(|| self.queue.grant_while(locked, |state, ()| state.promise().then_some(())));
        drop(unused);
        contain(|| wake(giver));
        item
    }

    /// A giver gives up the place that was promised to it.
    pub(super) fn vacate(&self) {
        let mut locked = self.queue.lock();
        locked.promised = false;
        contain(|| self.queue.grant_while(locked, |state, ()| state.promise().then_some(())));
    }

    /// Puts an item in the promised place. Returns its number, or the item if the source is gone.
    pub(super) fn put(&self, item: T, giver: Option<Waker>) -> Result<u64, T> {
        let mut locked = self.queue.lock();
        locked.promised = false;
        if locked.closed {
            return Err(item);
        }
        locked.item = Some(item);
        locked.put += 1;
        let put = locked.put;
        // A giver that the source is polling right now will be polled by it again.
        let inside = giver.as_ref().is_some_and(|giver| locked.polling == Some(key(giver)));
        let (kept, dropped) = if inside { (None, giver) } else { (giver, None) };
        locked.giver = kept;
        // While the source polls the body it looks at the place afterwards, unasked.
        let source = if locked.polling.is_some() { None } else { locked.source.take() };
        release_then(locked, || {
            drop(dropped);
            contain(|| wake(source));
        });
        Ok(put)
    }

    /// Whether the item of that number was taken; leaves a waker if not. None when the source is
    /// gone and the item with it.
    pub(super) fn poll_taken(&self, put: u64, task: &Waker) -> Option<Poll<()>> {
        let waker = task.clone();
        let mut locked = self.queue.lock();
        if locked.taken >= put {
            return Some(Poll::Ready(()));
        }
        if locked.closed {
            return None;
        }
        let inside = locked.polling == Some(key(&waker));
        let (kept, dropped) = if inside { (None, Some(waker)) } else { (Some(waker), None) };
        let old = std::mem::replace(&mut locked.giver, kept);
        release_then(locked, || drop((old, dropped)));
        Some(Poll::Pending)
    }

    /// The source has come to its end: gives the item that lies in place, and admits no other.
    pub(super) fn finish(&self) -> Option<T> {
        let mut locked = self.queue.lock();
        if locked.item.is_some() {
            locked.taken += 1;
        }
        self.end(locked)
    }

    /// The source is gone: the item that lies in place is dropped, and its giver panics.
    fn close(&self) {
        let unwanted = self.end(self.queue.lock());
        // After all have been told: its destructor may panic.
        drop(unwanted);
    }

    /// Ends it, and tells every giver. Returns the item that lies in place.
    fn end<'a>(&'a self, mut locked: Locked<'a, State<T>, (), ()>) -> Option<T> {
        locked.closed = true;
        locked.polling = None;
        let (item, giver, source) = (locked.item.take(), locked.giver.take(), locked.source.take());
        contain(|| self.queue.grant_while(locked, |_, ()| Some(())));
        drop(source);
        contain(|| wake(giver));
        item
    }
}

/// Closes the place when the source goes.
pub(super) struct Close<T>(
    /// The place.
    pub(super) Arc<Place<T>>,
);

impl<T> Drop for Close<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}
