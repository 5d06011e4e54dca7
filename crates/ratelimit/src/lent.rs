//! What leads to something: a borrow of somebody's, or an owner of one's own.

use std::borrow::Borrow;
use std::ops::Deref;

/// A borrow, or an owner.
pub(crate) enum Lent<'a, T, O> {
    /// Somebody's.
    Borrowed(&'a T),
    /// One's own.
    Owned(O),
}

impl<T, O: Borrow<T>> Deref for Lent<'_, T, O> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self {
            Self::Borrowed(there) => there,
            Self::Owned(owner) => owner.borrow(),
        }
    }
}
