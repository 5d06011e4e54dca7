//! One place in the line. `mod.rs` has the protocol that says who may touch what.
#![allow(unsafe_code, reason = "the links of the unsafe core of the wait queue")]

use std::marker::PhantomPinned;
use std::ptr::NonNull;
use std::task::Waker;

use crate::UnsafeCell;
use crate::atomic::AtomicU8;

/// Not in the list; slot and links belong to the waiter.
pub(super) const IDLE: u8 = 0;
/// In the list; slot and links belong to whoever holds the lock.
pub(super) const QUEUED: u8 = 1;
/// Taken out by a granter, with an outcome in the slot; everything belongs to the waiter.
pub(super) const GRANTED: u8 = 2;
/// As [`QUEUED`], but the waker was taken: its task is to come and look.
pub(super) const CALLED: u8 = 3;
/// As [`CALLED`], for one that is not at the front: it is to look after the one that is.
pub(super) const SENT: u8 = 4;

/// A node of the list, inside a pinned [`Stand`](super::Stand).
pub(super) struct Node<R, O> {
    /// [`IDLE`], [`QUEUED`], [`CALLED`], [`SENT`] or [`GRANTED`].
    pub(super) phase: AtomicU8,
    /// The neighbours, while queued.
    pub(super) links: UnsafeCell<Links<R, O>>,
    /// Request, outcome and waker.
    pub(super) slot: UnsafeCell<Slot<R, O>>,
    /// The list points here.
    _pinned: PhantomPinned,
}

/// The neighbours of a queued node, in a circle: the first one's previous is the last.
pub(super) struct Links<R, O> {
    /// Towards the front.
    previous: NonNull<Node<R, O>>,
    /// Towards the back.
    next: NonNull<Node<R, O>>,
}

/// What a waiter and a granter hand to each other.
pub(super) struct Slot<R, O> {
    /// What the waiter asks for; stays until the waiter takes it back.
    pub(super) request: Option<R>,
    /// What it was given.
    pub(super) outcome: Option<O>,
    /// Whom to wake.
    pub(super) waker: Option<Waker>,
}

impl<R, O> Node<R, O> {
    /// An idle node.
    pub(super) fn new() -> Self {
        Self {
            phase: AtomicU8::new(IDLE),
            links: UnsafeCell::new(Links {
                previous: NonNull::dangling(),
                next: NonNull::dangling(),
            }),
            slot: UnsafeCell::new(Slot { request: None, outcome: None, waker: None }),
            _pinned: PhantomPinned,
        }
    }

    /// The neighbours of a queued node. Call it with the lock of its list held.
    pub(super) fn neighbours(&self) -> (NonNull<Self>, NonNull<Self>) {
        self.links.with(|links| {
            // SAFETY: whoever calls holds the lock of the list, so nobody writes (L2 of `list.rs`);
            // the links are plain pointers, valid to read in any state.
            let links = unsafe { &*links };
            (links.previous, links.next)
        })
    }

    /// Sets the neighbours.
    ///
    /// # Safety
    ///
    /// The links are the caller's: it holds the lock of the list in which the node is queued, or is the
    /// waiter of an idle node.
    pub(super) unsafe fn link(&self, previous: NonNull<Self>, next: NonNull<Self>) {
        self.links.with_mut(|links| {
            // SAFETY: the caller's contract.
            unsafe { *links = Links { previous, next } };
        });
    }
}
