//! The guard: permits of a key that are out.

use std::fmt;

use super::map::User;

/// Permits of a key of a [`KeyedSemaphore`](crate::KeyedSemaphore), or the lock of a key of a [`KeyedLock`](crate::KeyedLock); they go
/// back when this is dropped. It keeps what it is of alive.
///
/// The drop wakes whoever the permits are handed to; a waker that panics makes it panic, after the key was left. In a thread that
/// unwinds already that ends there.
#[must_use = "the permits go back when this is dropped: bind it to a name, `_` drops it at once"]
pub struct KeyedPermit<K> {
    /// How many.
    count: usize,
    /// The key; left after the permits are back.
    user: User<K>,
}

impl<K> KeyedPermit<K> {
    /// `count` permits that were taken.
    pub(super) fn new(user: User<K>, count: usize) -> Self {
        Self { count, user }
    }

    /// How many permits this stands for.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The key.
    pub fn key(&self) -> &K {
        &self.user.entry().key
    }
}

impl<K> Drop for KeyedPermit<K> {
    fn drop(&mut self) {
        // The user is dropped after this, also when a waker panics in here.
        self.user.entry().semaphore.put_back(self.count);
    }
}

impl<K: fmt::Debug> fmt::Debug for KeyedPermit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedPermit")
            .field("key", self.key())
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
