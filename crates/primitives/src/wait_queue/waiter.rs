//! The part of a future that stands in a line: of a [`WaitQueue`], or of a list behind another lock.
#![allow(unsafe_code, reason = "owns a node of the intrusive list, behind a safe face")]

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, RawWakerVTable, Waker};

use pin_project::{pin_project, pinned_drop};

use super::node::{CALLED, GRANTED, IDLE, Node, QUEUED, SENT, Slot};
use super::{Anchor, Line, WaitQueue};
use crate::atomic::Ordering;
use crate::contain;
use crate::observe::{Place, Waiting};

/// What the caller of [`Waiter::poll_enter`] decides under the lock.
#[derive(Debug)]
pub enum Entry<R, O> {
    /// Nothing to wait for.
    Ready(O),
    /// Queue at the end with this request.
    Wait(R),
}

/// What a waiter that gives up leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub enum Left<R, O> {
    /// It did not wait.
    Nothing,
    /// It was in the queue; it has been taken out.
    Queued(R),
    /// It had been given this and must pass it on.
    Granted(O),
}

/// A [`Stand`] in a [`WaitQueue`], borrowed or shared.
pub type Waiter<'q, S, R, O> = Stand<Anchor<'q, WaitQueue<S, R, O>>, R, O>;

/// Stands in a [`Line`] on behalf of a future. One stand waits once at a time, and may wait again after
/// it was served.
///
/// Dropped while queued it leaves the queue. An outcome that was granted and not yet seen is
/// dropped with it, so a future whose outcomes must not be lost calls [`cancel`](Self::cancel) in
/// its own drop. A panic in the drop of a waker ends here: it loses no outcome and keeps nobody from
/// leaving.
#[pin_project(PinnedDrop, !Unpin)]
pub struct Stand<L: Line<Request = R, Outcome = O>, R, O> {
    /// The way to the list, which it keeps alive.
    line: L,
    /// The place in the line. Pinned, and `Node` is not `Unpin`: without the attribute the waiter
    /// would be `Unpin`, and safe code could move a node that its neighbours point to.
    #[pin]
    node: Node<R, O>,
    /// Which task's waker was left in the node; only the waiter reads or writes it.
    task: Cell<Option<TaskKey>>,
    /// What the observer knows of the wait; only the waiter reads or writes it.
    waiting: Waiting,
}

/// Without the observe seam, a waiter is its place in the line and little else.
#[cfg(not(feature = "observe"))]
const _: () = assert!(
    size_of::<Waiter<'static, (), u8, u8>>()
        == size_of::<(Anchor<'static, ()>, Node<u8, u8>, Cell<Option<TaskKey>>)>()
);

/// Identity of a waker, compared without touching the waker that lies in the node.
type TaskKey = (*const (), *const RawWakerVTable);

/// The identity that `Waker::will_wake` compares.
fn key(waker: &Waker) -> TaskKey {
    (waker.data(), waker.vtable())
}

// SAFETY: the node is reached from other threads only through the line's lock, and holds only
// values that are Send by the bounds; `task` holds addresses that are compared and never followed.
unsafe impl<L: Line<Request = R, Outcome = O> + Send, R: Send, O: Send> Send for Stand<L, R, O> {}
// SAFETY: a shared stand offers its line, and `is_waiting`, which loads an atomic; every other method takes
// `Pin<&mut Self>`.
unsafe impl<L, R: Send, O: Send> Sync for Stand<L, R, O> where
    L: Line<Request = R, Outcome = O> + Send + Sync
{
}

impl<L: Line<Request = R, Outcome = O>, R, O> Stand<L, R, O> {
    /// Does not wait yet.
    #[track_caller]
    pub fn new(line: L) -> Self {
        Self::placed(line, Place::here())
    }

    /// As [`new`](Self::new), for a wait that was asked for at `place`.
    pub fn placed(line: L, place: Place) -> Self {
        Self { line, node: Node::new(), task: Cell::new(None), waiting: Waiting::new(place) }
    }

    /// Where it stands, or will.
    pub fn line(&self) -> &L {
        &self.line
    }

    /// Polls: the first time lets `enter` decide under the lock, later waits for the grant.
    ///
    /// `enter` runs with the lock held and must run no user code.
    ///
    /// # Panics
    ///
    /// When `enter` swaps the lock for that of another queue and wants to wait.
    pub fn poll_enter<'l>(
        self: Pin<&'l mut Self>,
        cx: &mut Context<'_>,
        enter: impl FnOnce(&mut L::Guard<'l>) -> Entry<R, O>,
    ) -> Poll<O> {
        self.poll_look(cx, enter, |_, _| None, drop)
    }

    /// As [`poll_enter`](Self::poll_enter), for a line that [calls](super::List::call_front) its front: one that was called comes to
    /// the lock and lets `look` decide. With an outcome it leaves the line, and hands the lock to `then`, as
    /// [`cancel_then`](Self::cancel_then) does; without one it stays, not called any more. So does one that was
    /// [sent](super::List::send_second) to look after the front; for it, `look` gets false.
    ///
    /// `look` and `then` run with the lock held, and must run no user code; `then` may release it first.
    ///
    /// # Panics
    ///
    /// When `enter` or `look` swaps the lock for that of another queue.
    pub fn poll_look<'l>(
        self: Pin<&'l mut Self>,
        cx: &mut Context<'_>,
        enter: impl FnOnce(&mut L::Guard<'l>) -> Entry<R, O>,
        look: impl FnOnce(&mut L::Guard<'l>, bool) -> Option<O>,
        then: impl FnOnce(L::Guard<'l>),
    ) -> Poll<O> {
        let this = self.into_ref().get_ref();
        // Acquire: pairs with the Release in `List::grant`; the outcome is there, and the
        // granter is done with the node.
        let phase = this.node.phase.load(Ordering::Acquire);
        match phase {
            IDLE => return this.enter(cx, enter),
            GRANTED => return Poll::Ready(this.take_granted()),
            _ => {}
        }
        if phase == QUEUED && this.task.get() == Some(key(cx.waker())) {
            // The waker in the node, or the one that somebody is about to wake, is this task's.
            return Poll::Pending;
        }
        let waker = cx.waker().clone();
        let mut locked = this.line.lock();
        // Relaxed: grants and calls are stored under the lock that is held here.
        let outcome = match this.node.phase.load(Ordering::Relaxed) {
            GRANTED => {
                drop(locked);
                contain(|| drop(waker));
                return Poll::Ready(this.take_granted());
            }
            phase @ (CALLED | SENT) => look(&mut locked, phase == CALLED),
            _ => None,
        };
        // SAFETY: of the list only the node itself is touched.
        let list = unsafe { this.line.list(&mut locked) };
        let Some(outcome) = outcome else {
            this.task.set(Some(key(&waker)));
            // SAFETY: the node is queued under the lock, and a stand queues in the list of its line only.
            let old = unsafe { list.replace_waker(&this.node, waker) };
            crate::release_then(locked, || contain(|| drop(old)));
            return Poll::Pending;
        };
        // SAFETY: as above.
        let slot = unsafe { list.remove(&this.node) };
        this.line.counted(&mut locked, false);
        this.task.set(None);
        // The outcome survives whatever others' wakers do, and this drop. (Of the node's own waker nothing is left: it was called.)
        contain(|| then(locked));
        contain(|| drop(waker));
        drop(slot.request);
        this.waiting.granted(this.line.subject());
        Poll::Ready(outcome)
    }

    /// Takes what was granted, if anything was: what a poll would do then, for less.
    #[inline]
    pub fn granted(self: Pin<&mut Self>) -> Option<O> {
        let this = self.into_ref().get_ref();
        // Acquire: as in `poll_look`.
        (this.node.phase.load(Ordering::Acquire) == GRANTED).then(|| this.take_granted())
    }

    /// The first poll: ready at once, or in the line.
    fn enter<'l>(
        &'l self,
        cx: &mut Context<'_>,
        enter: impl FnOnce(&mut L::Guard<'l>) -> Entry<R, O>,
    ) -> Poll<O> {
        // Cloned before the lock is taken: a clone is the executor's code.
        let waker = cx.waker().clone();
        let mut locked = self.line.lock();
        match enter(&mut locked) {
            Entry::Ready(outcome) => {
                drop(locked);
                // The outcome survives whatever the clone's drop does.
                contain(|| drop(waker));
                Poll::Ready(outcome)
            }
            Entry::Wait(request) => {
                // SAFETY: the list is only added to.
                let list = unsafe { self.line.list(&mut locked) };
                self.task.set(Some(key(&waker)));
                let fill = Slot { request: Some(request), outcome: None, waker: Some(waker) };
                // SAFETY: the phase is IDLE. The node is pinned with `self`, so it stays in place
                // until it is dropped, and `PinnedDrop` takes it out of the list first: of this very
                // list, as `Line` promises.
                unsafe { list.push_back(&self.node, fill) };
                self.line.counted(&mut locked, true);
                drop(locked);
                self.waiting.began(self.line.subject());
                Poll::Pending
            }
        }
    }

    /// Whether it stands in the queue, or was granted something it has not taken yet.
    pub fn is_waiting(self: Pin<&Self>) -> bool {
        // Relaxed: only this waiter leaves IDLE.
        self.node.phase.load(Ordering::Relaxed) != IDLE
    }

    /// Shows what was granted, and not taken yet, to `look`.
    pub fn outcome<T>(self: Pin<&Self>, look: impl FnOnce(&O) -> T) -> Option<T>
    where
        O: Sync,
    {
        // Acquire: as in `poll_look`.
        if self.node.phase.load(Ordering::Acquire) != GRANTED {
            return None;
        }
        self.node.slot.with(|slot| {
            // SAFETY: GRANTED was seen by an Acquire load, so the granter is done, and only this waiter touches the slot: to write,
            // through `Pin<&mut Self>`, of which there is none while `self` is borrowed. Others who share it read as well, which `O: Sync` allows.
            let slot = unsafe { &*slot };
            slot.outcome.as_ref().map(look)
        })
    }

    /// Shows the requests of those who stand before it to `look`, from the front on, then hands the lock to `then`. None if it does not
    /// stand in the line, or was granted something.
    ///
    /// Both run with the lock held, and must run no user code.
    pub fn ahead<'l, T>(
        self: Pin<&'l Self>,
        look: impl FnMut(&R),
        then: impl FnOnce(L::Guard<'l>) -> T,
    ) -> Option<T> {
        let this = self.get_ref();
        // Relaxed: only this waiter leaves IDLE.
        if this.node.phase.load(Ordering::Relaxed) == IDLE {
            return None;
        }
        let mut locked = this.line.lock();
        // Relaxed: grants are stored under the lock that is held here.
        if this.node.phase.load(Ordering::Relaxed) == GRANTED {
            return None;
        }
        // SAFETY: the list is only looked at.
        let list = unsafe { this.line.list(&mut locked) };
        // SAFETY: the node is queued under the lock, and a stand queues in the list of its line only.
        unsafe { list.ahead_of(&this.node, look) };
        Some(then(locked))
    }

    /// Takes what was granted, and tells the observer.
    fn take_granted(&self) -> O {
        let outcome = self.take_outcome();
        self.waiting.granted(self.line.subject());
        outcome
    }

    /// Takes the outcome of a granted node.
    fn take_outcome(&self) -> O {
        // Relaxed: nobody but this waiter looks at a granted node.
        self.node.phase.store(IDLE, Ordering::Relaxed);
        self.task.set(None);
        let (request, outcome) = self.node.slot.with_mut(|slot| {
            // SAFETY: GRANTED was seen by an Acquire load or under the lock, so the granter is
            // done and the slot is this waiter's.
            let slot = unsafe { &mut *slot };
            (slot.request.take(), slot.outcome.take())
        });
        drop(request);
        outcome.expect("a granted node has an outcome")
    }

    /// Gives up: leaves the queue, or takes what was granted already.
    pub fn cancel(self: Pin<&mut Self>) -> Left<R, O> {
        self.cancel_then(drop)
    }

    /// As [`cancel`](Self::cancel); a waiter that was in the queue hands the lock to `then` right
    /// after it left. So what its leaving means (the next one fits now, nobody is left) is settled
    /// before anybody else looks.
    pub fn cancel_then<'l>(self: Pin<&'l mut Self>, then: impl FnOnce(L::Guard<'l>)) -> Left<R, O> {
        self.cancel_with(|locked, _| then(locked))
    }

    /// As [`cancel_then`](Self::cancel_then), where `then` also sees what was asked for.
    pub fn cancel_with<'l>(
        self: Pin<&'l mut Self>,
        then: impl FnOnce(L::Guard<'l>, &R),
    ) -> Left<R, O> {
        let this = self.into_ref().get_ref();
        // Dropped, and so told, when the lock is released and the waker is gone.
        let _leaving = this.waiting.leaving(this.line.subject());
        // Acquire: pairs with the Release in `List::grant`, as in `poll_look`.
        match this.node.phase.load(Ordering::Acquire) {
            IDLE => return Left::Nothing,
            GRANTED => return Left::Granted(this.take_granted()),
            _ => {}
        }
        let mut locked = this.line.lock();
        // Relaxed: grants are stored under the lock that is held here.
        if this.node.phase.load(Ordering::Relaxed) == GRANTED {
            drop(locked);
            return Left::Granted(this.take_granted());
        }
        // SAFETY: the list is only taken from.
        let list = unsafe { this.line.list(&mut locked) };
        // SAFETY: the node is queued under the lock, and a stand queues in the list of its line only.
        let slot = unsafe { list.remove(&this.node) };
        this.line.counted(&mut locked, false);
        this.task.set(None);
        let Slot { request, waker, .. } = slot;
        // The waker is somebody else's code and comes after the lock, also when `then` panics.
        let _after = Contained(waker);
        let request = request.expect("a queued node has a request");
        // Owns the lock and releases it.
        then(locked, &request);
        Left::Queued(request)
    }
}

/// A waker that is not needed any more: a panic of its destructor ends here.
struct Contained(Option<Waker>);

impl Drop for Contained {
    fn drop(&mut self) {
        contain(|| drop(self.0.take()));
    }
}

#[pinned_drop]
impl<L: Line<Request = R, Outcome = O>, R, O> PinnedDrop for Stand<L, R, O> {
    fn drop(self: Pin<&mut Self>) {
        drop(self.cancel());
    }
}

impl<L: Line<Request = R, Outcome = O>, R, O> fmt::Debug for Stand<L, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").finish_non_exhaustive()
    }
}
