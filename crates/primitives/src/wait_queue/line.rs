//! Where a waiter can stand: a list behind a lock, and how to get there.
#![allow(unsafe_code, reason = "the contract under which the list's nodes are touched")]

use super::{Anchor, List, Locked, WaitQueue};
use crate::observe::Subject;

/// Leads a [`Stand`](super::Stand) to its [`List`], and keeps that alive.
///
/// # Safety
///
/// For one value, [`lock`](Self::lock) always takes the same lock, and [`list`](Self::list) finds the same list in its guard for as
/// long as the value's stand is in it, or panics. Nobody gets at that list in another way than through a guard of
/// that lock, and it is neither dropped nor swapped for another for as long as somebody stands in it. (It may be moved as a whole:
/// no node points to it.)
pub unsafe trait Line {
    /// What a waiter asks for.
    type Request;
    /// What it is given.
    type Outcome;
    /// The lock, held.
    type Guard<'a>
    where
        Self: 'a;

    /// Takes the lock.
    fn lock(&self) -> Self::Guard<'_>;

    /// The list behind it.
    ///
    /// # Safety
    ///
    /// The list stays what it is, with all that is in it: it is not moved out, swapped or replaced.
    unsafe fn list<'g>(
        &self,
        guard: &'g mut Self::Guard<'_>,
    ) -> &'g mut List<Self::Request, Self::Outcome>;

    /// A waiter has entered the list, or left it without a grant.
    fn counted(&self, _guard: &mut Self::Guard<'_>, _entered: bool) {}

    /// What the observer is told that the waiter waits for.
    fn subject(&self) -> &Subject;
}

// SAFETY: an anchor always leads to the same queue and keeps it; the list is reached through the queue's
// own lock, which it lies behind, and a guard of another queue's lock is refused.
unsafe impl<S, R, O> Line for Anchor<'_, WaitQueue<S, R, O>> {
    type Request = R;
    type Outcome = O;
    type Guard<'a>
        = Locked<'a, S, R, O>
    where
        Self: 'a;

    fn lock(&self) -> Locked<'_, S, R, O> {
        WaitQueue::lock(self)
    }

    unsafe fn list<'g>(&self, guard: &'g mut Locked<'_, S, R, O>) -> &'g mut List<R, O> {
        assert!(std::ptr::eq(guard.queue, &**self), "the lock of another queue");
        &mut guard.inner.list
    }

    fn counted(&self, guard: &mut Locked<'_, S, R, O>, entered: bool) {
        match entered {
            true => guard.inner.len += 1,
            false => guard.inner.len -= 1,
        }
    }

    fn subject(&self) -> &Subject {
        &self.subject
    }
}
