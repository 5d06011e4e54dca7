//! The intrusive list: doubly linked, FIFO, O(1) everywhere, no allocation.
//!
//! Invariants, relied on by every `SAFETY` note below:
//!
//! - **L1** Every pointer in the list is to a live, pinned node: a node enters by
//!   [`push_back`](List::push_back), whose contract is that it stays where it is until it has left,
//!   and a waiter's drop takes it out first.
//! - **L2** Whoever calls a method holds the lock of the queue that owns this list (the list lives
//!   inside it), so links and slots of queued nodes are touched by one thread at a time.
#![allow(unsafe_code, reason = "the unsafe core of the wait queue")]

use std::ptr::NonNull;

use super::node::{GRANTED, IDLE, Node, QUEUED, Slot};
use crate::WakeBatch;
use crate::atomic::Ordering;

/// A FIFO list of queued nodes.
pub(super) struct List<R, O> {
    /// Served next.
    head: Option<NonNull<Node<R, O>>>,
    /// Came last.
    tail: Option<NonNull<Node<R, O>>>,
    /// How many.
    len: usize,
}

// SAFETY: the list is a set of nodes of which it reads and writes requests, outcomes and wakers on
// whatever thread holds the lock; wakers are Send, requests and outcomes are by the bound.
unsafe impl<R: Send, O: Send> Send for List<R, O> {}

impl<R, O> List<R, O> {
    /// An empty list.
    pub(super) const fn new() -> Self {
        Self { head: None, tail: None, len: 0 }
    }

    /// Whether nobody is queued.
    pub(super) const fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// How many are queued.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Shows the front's request to `f`.
    pub(super) fn front<T>(&self, f: impl FnOnce(&R) -> T) -> Option<T> {
        let head = self.head?;
        // SAFETY: L1, the front node is alive.
        let node = unsafe { head.as_ref() };
        node.slot.with(|slot| {
            // SAFETY: L2, a queued node's slot is ours while the lock is held.
            let slot = unsafe { &*slot };
            slot.request.as_ref().map(f)
        })
    }

    /// Puts a node at the end, with what is in `slot`.
    ///
    /// # Safety
    ///
    /// The node is idle, and stays alive and in place until it has left the list: by
    /// [`grant_front`](Self::grant_front) or by [`remove`](Self::remove).
    pub(super) unsafe fn push_back(&mut self, node: &Node<R, O>, fill: Slot<R, O>) {
        let this = NonNull::from(node);
        node.slot.with_mut(|slot| {
            // SAFETY: an idle node's slot belongs to its waiter, which is the caller. What it
            // held is `None` three times, so nothing of the user's is dropped here.
            unsafe { *slot = fill };
        });
        node.links.with_mut(|links| {
            // SAFETY: as for the slot.
            let links = unsafe { &mut *links };
            links.previous = self.tail;
            links.next = None;
        });
        match self.tail {
            Some(tail) => {
                // SAFETY: L1, the last node is alive.
                let tail = unsafe { tail.as_ref() };
                tail.links.with_mut(|links| {
                    // SAFETY: L2.
                    unsafe { (*links).next = Some(this) };
                });
            }
            None => self.head = Some(this),
        }
        self.tail = Some(this);
        self.len += 1;
        // Relaxed: only the waiter reads `phase` without the lock, and it is the one who stores
        // this; granters read what they need under the lock.
        node.phase.store(QUEUED, Ordering::Relaxed);
    }

    /// Takes the front out, leaves `outcome` in it and its waker in `batch`.
    ///
    /// # Panics
    ///
    /// When the list is empty or the batch is full.
    pub(super) fn grant_front(&mut self, outcome: O, batch: &mut WakeBatch) {
        let head = self.head.expect("a front to grant to");
        // Before anything changes: a node that left the list without `GRANTED` would be unlinked
        // again by its waiter.
        assert!(!batch.is_full(), "not granted: the batch is full, wake it first");
        // SAFETY: L1, the front node is alive; and it stays so until `GRANTED` is stored below.
        let node = unsafe { head.as_ref() };
        // SAFETY: it is the front of this list.
        unsafe { self.unlink(node) };
        let waker = node.slot.with_mut(|slot| {
            // SAFETY: L2; the node left the list, and its waiter touches nothing of it before it
            // has seen `GRANTED` or holds the lock.
            let slot = unsafe { &mut *slot };
            slot.outcome = Some(outcome);
            slot.waker.take()
        });
        batch.push(waker.expect("a queued node has a waker"));
        // Release: publishes the outcome; pairs with the Acquire in `Waiter::poll_granted`. It is
        // the last access: the waiter may free the node from here on.
        node.phase.store(GRANTED, Ordering::Release);
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
        let (previous, next) = node.links.with(|links| {
            // SAFETY: L2, a queued node's links are ours.
            let links = unsafe { &*links };
            (links.previous, links.next)
        });
        match previous {
            Some(previous) => {
                // SAFETY: L1, a neighbour is alive.
                let previous = unsafe { previous.as_ref() };
                previous.links.with_mut(|links| {
                    // SAFETY: L2.
                    unsafe { (*links).next = next };
                });
            }
            None => self.head = next,
        }
        match next {
            Some(next) => {
                // SAFETY: L1, a neighbour is alive.
                let next = unsafe { next.as_ref() };
                next.links.with_mut(|links| {
                    // SAFETY: L2.
                    unsafe { (*links).previous = previous };
                });
            }
            None => self.tail = previous,
        }
        self.len -= 1;
    }
}
