//! The wait queue: futures that wait in line for something that another task or thread grants.
//!
//! # Vocabulary
//!
//! A [`WaitQueue`] is a lock around a state `S` and a FIFO list of nodes. A [`Waiter`] is the part
//! of a pinned future that owns one node; it allocates nothing. A waiter brings a *request* `R`
//! when it queues; a *grant* takes the node out of the list and leaves an *outcome* `O` in it.
//!
//! Who has a lock of its own already, and no room for another, keeps the bare [`List`] behind it: a
//! [`Line`] says how to get there, and a [`Stand`] is to it what a waiter is to a queue. A waiter is the
//! stand in the line of a [`WaitQueue`]. [`Lines`] are many lines behind one lock.
//!
//! # Protocol
//!
//! A node's `phase` says who may touch the rest of it:
//!
//! | phase | slot and links belong to | left by |
//! |---|---|---|
//! | `IDLE` | the waiter | the waiter, to `QUEUED`, under the lock |
//! | `QUEUED` | whoever holds the queue's lock | a granter to `GRANTED`, `CALLED` or `SENT`, or the waiter to `IDLE`, all under the lock |
//! | `CALLED` | whoever holds the queue's lock | a granter to `GRANTED`, or the waiter to `QUEUED` or `IDLE`, all under the lock |
//! | `SENT` | whoever holds the queue's lock | a granter to `GRANTED` or `CALLED`, or the waiter to `QUEUED` or `IDLE`, all under the lock |
//! | `GRANTED` | the waiter | the waiter, to `IDLE` |
//!
//! 1. A waiter clones its waker, takes the lock, and lets the caller decide on the state: ready at
//!    once, or queued with a request.
//! 2. A granter under the lock takes the front node out, moves its waker into a [`WakeBatch`],
//!    stores the outcome, and stores `GRANTED` as its very last access to the node: from then on
//!    the waiter may free it at any moment. Wakes happen after the lock is released.
//! 3. A waiter that is polled again reads its own `phase` and nothing shared. If it is still
//!    `QUEUED` and the task is the one whose waker was left, it is pending: no lock, no write.
//!    A front that is *called* keeps its place and only loses its waker: it comes to the lock and decides
//!    there ([`Stand::poll_look`]). So what it is called for stays everybody's until it takes it. The one behind a front that does
//!    not come may be *sent*: it comes to the lock on the front's behalf.
//! 4. A waiter that is dropped while `QUEUED`, `CALLED` or `SENT` takes the lock, looks again, and unlinks itself in
//!    O(1). Dropped while `GRANTED`, it finds an outcome that it must pass on:
//!    [`Waiter::cancel`] returns it.
//!
//! # The races
//!
//! - *Grant against re-poll*: the waiter reads `QUEUED` and returns pending while the granter
//!   stores `GRANTED`. The wake follows the store, so it comes after the poll began; the task is
//!   polled again and sees the store.
//! - *Grant against a new waker*: the waiter changes the waker under the lock, after looking at
//!   `phase` again under it; so either the granter takes the new waker, or the waiter sees the
//!   grant.
//! - *Grant against drop*: decided by the lock; the loser sees what the winner did.
//!
//! No waker is cloned, woken or dropped under the lock, and no outcome or request is dropped under
//! it. `tests/loom.rs` explores each of these races.

mod anchor;
mod line;
mod lines;
mod list;
mod node;
mod waiter;

pub use anchor::Anchor;
pub use line::Line;
pub use lines::{LineId, LineWaiter, Lines, LockedLines, SpareLines};
pub use list::List;
pub use waiter::{Entry, Left, Stand, Waiter};

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::observe::Subject;
use crate::{
    FirstPanic, SpinGuard as MutexGuard, SpinLock as Mutex, WakeBatch, const_fn, release_then,
};

/// A FIFO queue of waiting futures beside a state `S`, under one lock.
pub struct WaitQueue<S, R, O> {
    /// The state and the list.
    inner: Mutex<Inner<S, R, O>>,
    /// Of what the waiters tell that they wait for it.
    subject: Subject,
}

/// Without the observe seam, a queue is a lock and what it guards.
#[cfg(not(feature = "observe"))]
const _: () = assert!(size_of::<WaitQueue<u8, u8, u8>>() == size_of::<Mutex<Inner<u8, u8, u8>>>());

/// What the lock guards.
struct Inner<S, R, O> {
    /// The owner's state.
    state: S,
    /// Those who wait, in order.
    list: List<R, O>,
    /// How many they are.
    len: usize,
}

impl<S, R, O> Inner<S, R, O> {
    /// Grants to the front.
    #[inline]
    fn grant_front(&mut self, outcome: O, batch: &mut WakeBatch) {
        self.list.grant_front(outcome, batch);
        self.len -= 1;
    }
}

impl<S, R, O> WaitQueue<S, R, O> {
    const_fn! {
        /// A queue in which nobody waits.
        #[track_caller]
        pub const fn new(state: S) -> Self {
            Self::observed(state, Subject::here("wait queue"))
        }
    }

    const_fn! {
        /// A queue in which nobody waits; who does is told of as waiting for `subject`.
        pub const fn observed(state: S, subject: Subject) -> Self {
            Self { inner: Mutex::new(Inner { state, list: List::new(), len: 0 }), subject }
        }
    }

    /// Locks the state and the queue.
    pub fn lock(&self) -> Locked<'_, S, R, O> {
        Locked { queue: self, inner: self.inner.lock() }
    }

    /// Grants from the front for as long as `next` gives an outcome for the front's request, then
    /// releases the lock and wakes. With more waiters than a [`WakeBatch`] holds, the lock is
    /// released and taken again in between; who comes then queues at the end as usual.
    ///
    /// # Panics
    ///
    /// When a waker panics: all others are granted to and woken first, then the first panic goes on.
    #[track_caller]
    pub fn grant_while<'a>(
        &'a self,
        locked: Locked<'a, S, R, O>,
        mut next: impl FnMut(&mut S, &R) -> Option<O>,
    ) {
        self.grant(locked, WakeBatch::new(), |locked| {
            let Inner { state, list, .. } = &mut *locked.inner;
            match list.front(|request| next(state, request)).flatten() {
                Some(outcome) => Serve::Grant(outcome),
                None => Serve::Rest,
            }
        });
    }

    /// As [`grant_while`](Self::grant_while), with the whole queue in view: `next` may ask how
    /// many wait, so that an owner can note under the same lock that the last one leaves. It is
    /// not called when nobody waits.
    ///
    /// # Panics
    ///
    /// As [`grant_while`](Self::grant_while).
    #[track_caller]
    pub fn grant_each<'a>(
        &'a self,
        locked: Locked<'a, S, R, O>,
        mut next: impl FnMut(&mut Locked<'_, S, R, O>) -> Option<O>,
    ) {
        self.grant(locked, WakeBatch::new(), |locked| {
            next(locked).map_or(Serve::Rest, Serve::Grant)
        });
    }

    /// As [`grant_each`](Self::grant_each), for a line whose front may also be [called](List::call_front).
    ///
    /// # Panics
    ///
    /// As [`grant_while`](Self::grant_while).
    #[track_caller]
    pub fn serve_each<'a>(
        &'a self,
        locked: Locked<'a, S, R, O>,
        next: impl FnMut(&mut Locked<'_, S, R, O>) -> Serve<O>,
    ) {
        self.grant(locked, WakeBatch::new(), next);
    }

    /// Serves one after the other, by way of `batch`.
    #[inline]
    fn grant<'a>(
        &'a self,
        locked: Locked<'a, S, R, O>,
        batch: WakeBatch,
        mut next: impl FnMut(&mut Locked<'_, S, R, O>) -> Serve<O>,
    ) {
        in_batches(
            locked,
            || self.lock(),
            batch,
            |locked, batch| loop {
                if batch.is_full() {
                    break true;
                }
                if locked.is_empty() {
                    break false;
                }
                match next(locked) {
                    Serve::Grant(outcome) => locked.inner.grant_front(outcome, batch),
                    Serve::Call => {
                        locked.inner.list.call_front(batch);
                        break false;
                    }
                    Serve::Send => {
                        locked.inner.list.send_second(batch);
                        break false;
                    }
                    Serve::Rest => break false,
                }
            },
        );
    }
}

/// Lets `serve` fill the batch under the lock, releases that and wakes; again, after `lock`, for as long as `serve` says that there is
/// more. A panic of a waker goes on when all have been served and woken, the first one.
#[inline]
fn in_batches<G>(
    held: G,
    lock: impl Fn() -> G,
    mut batch: WakeBatch,
    mut serve: impl FnMut(&mut G, &mut WakeBatch) -> bool,
) {
    let mut panics = FirstPanic::new();
    // Declared after the batch, so that a panic in `serve` releases the lock before the batch
    // wakes those that were granted to.
    let mut held = held;
    loop {
        let more = serve(&mut held, &mut batch);
        if !more && panics.is_none() {
            return release_then(held, || batch.wake_all());
        }
        release_then(held, || panics.catch(|| batch.wake_all()));
        if !more {
            return panics.resume();
        }
        held = lock();
    }
}

/// What is next for the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serve<O> {
    /// It is granted this, and the one behind it is next.
    Grant(O),
    /// It is [called](List::call_front).
    Call,
    /// The one behind it is [sent](List::send_second).
    Send,
    /// Nothing.
    Rest,
}

impl<S: Default, R, O> Default for WaitQueue<S, R, O> {
    #[track_caller]
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S, R, O> fmt::Debug for WaitQueue<S, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitQueue").finish_non_exhaustive()
    }
}

/// The lock of a [`WaitQueue`], held. Gives the state by `Deref`.
///
/// Run no user code while it lives: release it with [`release_then`].
#[must_use = "the lock is released when this is dropped"]
pub struct Locked<'a, S, R, O> {
    /// Whose lock it is: a `&mut Locked` can be swapped for another.
    queue: &'a WaitQueue<S, R, O>,
    /// The held lock.
    inner: MutexGuard<'a, Inner<S, R, O>>,
}

impl<S, R, O> Locked<'_, S, R, O> {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.inner.list.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Shows the front's request to `look`; none when nobody waits.
    pub fn front<T>(&self, look: impl FnOnce(&R) -> T) -> Option<T> {
        self.inner.list.front(look)
    }

    /// Whether the front was [called](List::call_front) and has not come yet.
    pub fn is_front_called(&self) -> bool {
        self.inner.list.is_front_called()
    }

    /// Grants `outcome` to the front and leaves its waker in `batch`, to be woken after the lock
    /// is released. Returns the outcome when nobody waits.
    ///
    /// # Panics
    ///
    /// When the batch is full. Nothing has changed then.
    pub fn grant_front(&mut self, outcome: O, batch: &mut WakeBatch) -> Result<(), O> {
        if self.is_empty() {
            return Err(outcome);
        }
        self.inner.grant_front(outcome, batch);
        Ok(())
    }
}

impl<S, R, O> Deref for Locked<'_, S, R, O> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.inner.state
    }
}

impl<S, R, O> DerefMut for Locked<'_, S, R, O> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.inner.state
    }
}

impl<S, R, O> fmt::Debug for Locked<'_, S, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locked").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    type Queue = WaitQueue<(), usize, ()>;

    // The list points at its node: a waiter that could be unpinned could be moved in the line.
    static_assertions::assert_not_impl_any!(Waiter<'static, (), usize, ()>: Unpin);

    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("this waker panics");
        }
    }

    fn queued<'q>(
        queue: &'q Queue,
        request: usize,
        waker: &Waker,
    ) -> Pin<Box<Waiter<'q, (), usize, ()>>> {
        let mut waiter = Box::pin(Waiter::new(Anchor::borrowed(queue)));
        let polled =
            waiter.as_mut().poll_enter(&mut Context::from_waker(waker), |_| Entry::Wait(request));
        assert_eq!(polled, Poll::Pending);
        waiter
    }

    #[test]
    fn a_panicking_waker_keeps_nobody_behind_its_batch_from_being_served() {
        let queue = Queue::new(());
        let mut waiters = vec![queued(&queue, 0, &Waker::from(Arc::new(Panics)))];
        waiters.extend((1..100).map(|request| queued(&queue, request, Waker::noop())));
        let panic = catch_unwind(AssertUnwindSafe(|| {
            queue.grant_while(queue.lock(), |(), _| Some(()));
        }));
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"this waker panics"));
        assert!(queue.lock().is_empty());
    }

    #[test]
    fn a_waiter_that_leaves_hands_on_the_lock_after_it_left() {
        let queue = Queue::new(());
        let mut first = queued(&queue, 1, Waker::noop());
        let mut second = queued(&queue, 2, Waker::noop());
        let left = first.as_mut().cancel_then(|mut locked| {
            assert_eq!(locked.front(|request| *request), Some(2));
            assert_eq!(locked.len(), 1);
            locked.grant_front((), &mut WakeBatch::new()).unwrap();
        });
        assert_eq!(left, Left::Queued(1));
        let left = second.as_mut().cancel_then(|_| panic!("it was granted already"));
        assert_eq!(left, Left::Granted(()));
    }
}
