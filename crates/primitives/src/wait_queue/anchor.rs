//! What keeps a queue alive while a waiter stands in it.
#![allow(unsafe_code, reason = "a pointer into a kept value, behind a safe face")]

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// A reference to a `Q` that is either borrowed for `'q` or kept alive by an [`Arc`] of the value
/// that contains it. It always leads to the same `Q`.
pub struct Anchor<'q, Q> {
    /// The value; alive and unmoved for as long as this anchor exists.
    target: NonNull<Q>,
    /// Keeps `target` alive when it is not borrowed.
    keep: Option<Arc<dyn Any + Send + Sync>>,
    /// The borrow.
    borrow: PhantomData<&'q Q>,
}

impl<'q, Q> Anchor<'q, Q> {
    /// Borrows.
    pub fn borrowed(target: &'q Q) -> Self {
        Self { target: NonNull::from(target), keep: None, borrow: PhantomData }
    }

    /// Keeps `owner` alive and refers to the part of it that `part` shows.
    pub fn shared<T: Send + Sync + 'static>(
        owner: Arc<T>,
        part: impl for<'a> FnOnce(&'a T) -> &'a Q,
    ) -> Self {
        let target = NonNull::from(part(&owner));
        Self { target, keep: Some(owner), borrow: PhantomData }
    }
}

impl<Q> Deref for Anchor<'_, Q> {
    type Target = Q;

    fn deref(&self) -> &Q {
        // SAFETY: either `target` is borrowed for `'q`, which outlives `self`; or it came from
        // `part`, which returns a reference that lives as long as a shared borrow of the value
        // inside `keep`. That value is neither moved, dropped nor borrowed mutably before `keep`
        // is: `keep` is private, never handed out, and dropped with `self`.
        unsafe { self.target.as_ref() }
    }
}

impl<Q> Clone for Anchor<'_, Q> {
    fn clone(&self) -> Self {
        Self { target: self.target, keep: self.keep.clone(), borrow: PhantomData }
    }
}

// SAFETY: an anchor is a `&Q` plus an `Arc` of something Send and Sync; a `&Q` may go to another
// thread when `Q` is Sync.
unsafe impl<Q: Sync> Send for Anchor<'_, Q> {}
// SAFETY: as for Send; a shared anchor gives only `&Q`.
unsafe impl<Q: Sync> Sync for Anchor<'_, Q> {}

impl<Q> fmt::Debug for Anchor<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anchor").field("kept", &self.keep.is_some()).finish_non_exhaustive()
    }
}
