//! The guards: permits that are out, borrowed or owned.

use std::fmt;
use std::sync::Arc;

use super::Semaphore;

/// Permits of a [`Semaphore`] that are out; they go back when this is dropped.
///
/// The drop wakes whoever the permits are handed to. A waker that panics makes the drop panic, after
/// everybody was served; in a thread that unwinds already it ends there.
#[must_use = "the permits go back when this is dropped: bind it to a name, `_` drops it at once"]
pub struct Permit<'a> {
    /// Where they go back to.
    semaphore: &'a Semaphore,
    /// How many; none after `forget`.
    count: usize,
}

impl<'a> Permit<'a> {
    /// `count` permits that were taken out of `semaphore`.
    pub(super) fn new(semaphore: &'a Semaphore, count: usize) -> Self {
        Self { semaphore, count }
    }

    /// How many permits this stands for.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Keeps the permits for ever. They still belong to the
    /// [`capacity`](Semaphore::capacity): a request for more than is left waits until the semaphore
    /// is closed.
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.engine.release(self.count);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("count", &self.count)
            .field("semaphore", &self.semaphore.origin)
            .finish()
    }
}

/// Permits of a [`Semaphore`] that are out and keep it alive; they go back when this is dropped.
/// Otherwise as [`Permit`].
#[must_use = "the permits go back when this is dropped: bind it to a name, `_` drops it at once"]
pub struct OwnedPermit {
    /// Where they go back to.
    semaphore: Arc<Semaphore>,
    /// How many; none after `forget`.
    count: usize,
}

impl OwnedPermit {
    /// `count` permits that were taken out of `semaphore`.
    pub(super) fn new(semaphore: Arc<Semaphore>, count: usize) -> Self {
        Self { semaphore, count }
    }

    /// How many permits this stands for.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Keeps the permits for ever, and lets go of the semaphore; see [`Permit::forget`].
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl Drop for OwnedPermit {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.engine.release(self.count);
    }
}

impl fmt::Debug for OwnedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedPermit")
            .field("count", &self.count)
            .field("semaphore", &self.semaphore.origin)
            .finish()
    }
}
