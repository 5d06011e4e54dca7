//! One place in the line. `mod.rs` has the protocol that says who may touch what.

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

/// A node of the list, inside a pinned [`Waiter`](super::Waiter).
pub(super) struct Node<R, O> {
    /// [`IDLE`], [`QUEUED`] or [`GRANTED`].
    pub(super) phase: AtomicU8,
    /// The neighbours, while queued.
    pub(super) links: UnsafeCell<Links<R, O>>,
    /// Request, outcome and waker.
    pub(super) slot: UnsafeCell<Slot<R, O>>,
    /// The list points here.
    _pinned: PhantomPinned,
}

/// The neighbours of a queued node.
pub(super) struct Links<R, O> {
    /// Towards the front.
    pub(super) previous: Option<NonNull<Node<R, O>>>,
    /// Towards the back.
    pub(super) next: Option<NonNull<Node<R, O>>>,
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
            links: UnsafeCell::new(Links { previous: None, next: None }),
            slot: UnsafeCell::new(Slot { request: None, outcome: None, waker: None }),
            _pinned: PhantomPinned,
        }
    }
}
