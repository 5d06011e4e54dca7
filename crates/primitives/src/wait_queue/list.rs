//! The intrusive list: doubly linked, FIFO, O(1) everywhere, no allocation, one pointer.
//!
//! The list is a circle of which it knows the front; the node before the front is the last.
//!
//! Invariants, relied on by every `SAFETY` note below:
//!
//! - **L1** Every pointer in the list is to a live, pinned node: a node enters by
//!   [`push_back`](List::push_back), whose contract is that it stays where it is until it has left,
//!   and a waiter's drop takes it out first.
//! - **L2** Whoever calls a method holds the lock that guards this list: the list lies behind it, and a
//!   method takes `&mut`, or `&` for a look. So links and slots of queued nodes are touched by one thread
//!   at a time.
#![allow(unsafe_code, reason = "the unsafe core of the wait queue")]

use std::fmt;
use std::ptr::NonNull;
use std::task::Waker;

use super::node::{CALLED, GRANTED, IDLE, Node, QUEUED, SENT, Slot};
use crate::WakeBatch;
use crate::atomic::Ordering;

/// A FIFO list of those who wait. It lies behind a lock; a [`Line`](super::Line) says which.
pub struct List<R, O> {
    /// Served next.
    head: Option<NonNull<Node<R, O>>>,
}

// SAFETY: the list is a set of nodes of which it reads and writes requests, outcomes and wakers on
// whatever thread holds the lock; wakers are Send, requests and outcomes are by the bound.
unsafe impl<R: Send, O: Send> Send for List<R, O> {}

impl<R, O> List<R, O> {
    /// An empty list.
    pub const fn new() -> Self {
        Self { head: None }
    }

    /// Whether nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Shows the front's request to `f`; none when nobody waits.
    pub fn front<T>(&self, f: impl FnOnce(&R) -> T) -> Option<T> {
        let head = self.head?;
        // SAFETY: L1, the front node is alive.
        let node = unsafe { head.as_ref() };
        node.slot.with(|slot| {
            // SAFETY: L2, a queued node's slot is ours while the lock is held.
            let slot = unsafe { &*slot };
            slot.request.as_ref().map(f)
        })
    }

    /// Lets `f` change the front's request; none when nobody waits.
    pub fn front_mut<T>(&mut self, f: impl FnOnce(&mut R) -> T) -> Option<T> {
        let head = self.head?;
        // SAFETY: L1, the front node is alive.
        let node = unsafe { head.as_ref() };
        node.slot.with_mut(|slot| {
            // SAFETY: L2, a queued node's slot is ours while the lock is held.
            let slot = unsafe { &mut *slot };
            slot.request.as_mut().map(f)
        })
    }

    /// Shows the requests of those before a node to `look`, from the front on.
    ///
    /// # Safety
    ///
    /// The node is queued in this list.
    pub(super) unsafe fn ahead_of(&self, node: &Node<R, O>, mut look: impl FnMut(&R)) {
        let this = NonNull::from(node);
        let mut at = self.head;
        while let Some(before) = at.filter(|at| *at != this) {
            // SAFETY: L1, a queued node is alive.
            let before = unsafe { before.as_ref() };
            before.slot.with(|slot| {
                // SAFETY: L2, a queued node's slot is ours while the lock is held.
                let slot = unsafe { &*slot };
                slot.request.iter().for_each(&mut look);
            });
            at = Some(before.neighbours().1);
        }
    }

    /// Whether the front was [called](Self::call_front) and has not come yet. Not so when nobody waits.
    pub fn is_front_called(&self) -> bool {
        let Some(head) = self.head else { return false };
        // SAFETY: L1, the front node is alive.
        let node = unsafe { head.as_ref() };
        // Relaxed: a queued node's phase changes under the lock that is held here.
        node.phase.load(Ordering::Relaxed) == CALLED
    }

    /// Leaves the front where it is and its waker in `batch`: it is to come to the lock and look
    /// ([`Stand::poll_look`](super::Stand::poll_look)). Once it was called, it is not called again before it has come.
    ///
    /// # Panics
    ///
    /// When the list is empty or the batch is full. Nothing has changed then.
    pub fn call_front(&mut self, batch: &mut WakeBatch) {
        let head = self.head.expect("a front to call");
        // SAFETY: it is the front of this list.
        unsafe { self.summon(head, CALLED, batch) };
    }

    /// Sends the one behind the front to the lock, to look after the front: it keeps its place, and its waker is in `batch`. Nothing
    /// happens if nobody is there, or it is on its way already.
    ///
    /// # Panics
    ///
    /// When the batch is full. Nothing has changed then.
    pub fn send_second(&mut self, batch: &mut WakeBatch) {
        let Some(head) = self.head else { return };
        // SAFETY: L1, the front node is alive.
        let (_, second) = unsafe { head.as_ref() }.neighbours();
        if second != head {
            // SAFETY: it is in this list.
            unsafe { self.summon(second, SENT, batch) };
        }
    }

    /// Leaves the waker of a node in `batch`, and the node in its place, in this phase.
    ///
    /// # Safety
    ///
    /// The node is queued in this list.
    unsafe fn summon(&mut self, node: NonNull<Node<R, O>>, phase: u8, batch: &mut WakeBatch) {
        assert!(!batch.is_full(), "not called: the batch is full, wake it first");
        // SAFETY: L1, it is alive, and stays so: it does not leave the list without the lock.
        let node = unsafe { node.as_ref() };
        let waker = node.slot.with_mut(|slot| {
            // SAFETY: L2, a queued node's slot is ours while the lock is held.
            let slot = unsafe { &mut *slot };
            slot.waker.take()
        });
        // None: it is on its way. One that was sent, and is the front by now, comes as one that was called.
        if let Some(waker) = waker {
            batch.push(waker);
        }
        // Relaxed: the waiter comes to the lock before it touches anything.
        node.phase.store(phase, Ordering::Relaxed);
    }

    /// Counts those who wait, one by one.
    pub fn count(&self) -> usize {
        let mut count = 0;
        let mut at = self.head;
        while let Some(node) = at {
            count += 1;
            // SAFETY: L1, a queued node is alive.
            let (_, next) = unsafe { node.as_ref() }.neighbours();
            at = Some(next).filter(|next| Some(*next) != self.head);
        }
        count
    }

    /// Puts a node at the end, with what is in `slot`.
    ///
    /// # Safety
    ///
    /// The node is idle, and stays alive and in place until it has left the list: by
    /// [`grant_front`](Self::grant_front), [`grant_all`](Self::grant_all) or [`remove`](Self::remove).
    pub(super) unsafe fn push_back(&mut self, node: &Node<R, O>, fill: Slot<R, O>) {
        let this = NonNull::from(node);
        node.slot.with_mut(|slot| {
            // SAFETY: an idle node's slot belongs to its waiter, which is the caller. What it
            // held is `None` three times, so nothing of the user's is dropped here.
            unsafe { *slot = fill };
        });
        match self.head {
            None => {
                // SAFETY: an idle node's links belong to its waiter, which is the caller.
                unsafe { node.link(this, this) };
                self.head = Some(this);
            }
            Some(head) => {
                // SAFETY: L1, the front node is alive.
                let front = unsafe { head.as_ref() };
                let (last, second) = front.neighbours();
                // SAFETY: an idle node's links belong to its waiter, which is the caller.
                unsafe { node.link(last, head) };
                if last == head {
                    // SAFETY: L2.
                    unsafe { front.link(this, this) };
                } else {
                    // SAFETY: L2.
                    unsafe { front.link(this, second) };
                    // SAFETY: L1, the last node is alive.
                    let last = unsafe { last.as_ref() };
                    let (previous, _) = last.neighbours();
                    // SAFETY: L2.
                    unsafe { last.link(previous, this) };
                }
            }
        }
        // Relaxed: only the waiter reads `phase` without the lock, and it is the one who stores
        // this; granters read what they need under the lock.
        node.phase.store(QUEUED, Ordering::Relaxed);
    }

    /// Takes the front out, leaves `outcome` in it and its waker in `batch`, to be woken with no lock
    /// held.
    ///
    /// # Panics
    ///
    /// When the list is empty or the batch is full. Nothing has changed then.
    pub fn grant_front(&mut self, outcome: O, batch: &mut WakeBatch) {
        let head = self.head.expect("a front to grant to");
        // Before anything changes: a node that left the list without `GRANTED` would be unlinked
        // again by its waiter.
        assert!(!batch.is_full(), "not granted: the batch is full, wake it first");
        // SAFETY: L1, the front node is alive; and it stays so until `GRANTED` is stored below.
        let node = unsafe { head.as_ref() };
        // SAFETY: it is the front of this list.
        unsafe { self.unlink(node) };
        // SAFETY: it left the list in the line above.
        unsafe { Self::grant(head, outcome, batch) };
    }

    /// As [`grant_front`](Self::grant_front) for one after the other, until the batch is full. Says whether nobody is left.
    /// What lies between two of them is not joined.
    #[inline]
    pub fn grant_all(&mut self, outcome: O, batch: &mut WakeBatch) -> bool
    where
        O: Copy,
    {
        let Some(mut at) = self.head else { return true };
        // SAFETY: L1, the front node is alive.
        let (last, _) = unsafe { at.as_ref() }.neighbours();
        loop {
            // SAFETY: L1: it has not been granted yet.
            let node = unsafe { at.as_ref() };
            let (_, next) = node.neighbours();
            if batch.is_full() {
                // What is left becomes a circle again.
                self.head = Some(at);
                // SAFETY: L1, the last node is alive.
                let end = unsafe { last.as_ref() };
                // SAFETY: L2.
                unsafe { node.link(last, if at == last { at } else { next }) };
                let (before, _) = end.neighbours();
                // SAFETY: L2.
                unsafe { end.link(before, at) };
                return false;
            }
            // SAFETY: L2; it is not in the list any more, in whatever order that is written down.
            unsafe { Self::grant(at, outcome, batch) };
            if at == last {
                self.head = None;
                return true;
            }
            at = next;
        }
    }

    /// Leaves `outcome` in a node that was taken out, and its waker in `batch`, which has room.
    ///
    /// # Safety
    ///
    /// The node has left the list, under the lock that is held. It is not touched after this. (A pointer, because the waiter
    /// may free it before this returns.)
    #[inline]
    unsafe fn grant(node: NonNull<Node<R, O>>, outcome: O, batch: &mut WakeBatch) {
        // SAFETY: L1: it is alive until `GRANTED` is stored below.
        let node = unsafe { node.as_ref() };
        let waker = node.slot.with_mut(|slot| {
            // SAFETY: L2; the node left the list, and its waiter touches nothing of it before it
            // has seen `GRANTED` or holds the lock.
            let slot = unsafe { &mut *slot };
            slot.outcome = Some(outcome);
            slot.waker.take()
        });
        // One that was called has been woken already, and has not looked since.
        if let Some(waker) = waker {
            batch.push(waker);
        }
        // Release: publishes the outcome; pairs with the Acquire in `Stand::poll_look`, `granted` and `cancel_then`. It is
        // the last access: the waiter may free the node from here on.
        node.phase.store(GRANTED, Ordering::Release);
    }

    /// Puts a new waker into a node, which is not called any more, and returns the old one.
    ///
    /// # Safety
    ///
    /// The node is queued in this list.
    pub(super) unsafe fn replace_waker(
        &mut self,
        node: &Node<R, O>,
        waker: Waker,
    ) -> Option<Waker> {
        let old = node.slot.with_mut(|slot| {
            // SAFETY: L2, a queued node's slot is ours while the lock is held.
            let slot = unsafe { &mut *slot };
            slot.waker.replace(waker)
        });
        // Relaxed: as in `push_back`.
        node.phase.store(QUEUED, Ordering::Relaxed);
        old
    }

    /// Takes a node out and returns what was in its slot.
    ///
    /// # Safety
    ///
    /// The node is queued in this list.
    pub(super) unsafe fn remove(&mut self, node: &Node<R, O>) -> Slot<R, O> {
        // SAFETY: the caller's contract.
        unsafe { self.unlink(node) };
        let slot = node.slot.with_mut(|slot| {
            // SAFETY: L2; the node just left the list.
            let slot = unsafe { &mut *slot };
            Slot {
                request: slot.request.take(),
                outcome: slot.outcome.take(),
                waker: slot.waker.take(),
            }
        });
        // Relaxed: the waiter itself stores this; nobody else looks at the node any more.
        node.phase.store(IDLE, Ordering::Relaxed);
        slot
    }

    /// Joins a node's neighbours.
    ///
    /// # Safety
    ///
    /// The node is queued in this list.
    unsafe fn unlink(&mut self, node: &Node<R, O>) {
        let this = NonNull::from(node);
        let (previous, next) = node.neighbours();
        if next == this {
            self.head = None;
            return;
        }
        if self.head == Some(this) {
            self.head = Some(next);
        }
        // SAFETY: L1, a neighbour is alive.
        let before = unsafe { previous.as_ref() };
        // SAFETY: L1, as above.
        let after = unsafe { next.as_ref() };
        if previous == next {
            // SAFETY: L2; one is left, and it is its own neighbour.
            unsafe { before.link(next, next) };
            return;
        }
        let (first, _) = before.neighbours();
        // SAFETY: L2.
        unsafe { before.link(first, next) };
        let (_, last) = after.neighbours();
        // SAFETY: L2.
        unsafe { after.link(previous, last) };
    }
}

impl<R, O> Default for List<R, O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R, O> fmt::Debug for List<R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}
