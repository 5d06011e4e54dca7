//! The guards: permits that are out, borrowed or owned.

use std::fmt;
use std::sync::Arc;

use super::Semaphore;
use super::age::{Caller, Hold};
use super::error::MergeError;

/// Permits of a [`Semaphore`] that are out; they go back when this is dropped.
///
/// The drop wakes whoever the permits are handed to. A waker that panics makes the drop panic, after
/// everybody was served; in a thread that unwinds already it ends there.
#[must_use = "the permits go back when this is dropped: bind it to a name, `_` drops it at once"]
pub struct Permit<'a> {
    /// Where they go back to.
    semaphore: &'a Semaphore,
    /// How many.
    count: usize,
    /// What is known of who holds them.
    hold: Hold,
}

impl<'a> Permit<'a> {
    /// `count` permits that `caller` has taken out of `semaphore`.
    #[inline]
    pub(super) fn new(semaphore: &'a Semaphore, count: usize, caller: Caller) -> Self {
        Self { semaphore, count, hold: semaphore.holders.enter(count, caller) }
    }

    /// How many permits this stands for.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Moves `n` of the permits to a guard of their own; none if there are fewer. Nothing is acquired or given back.
    ///
    /// # Examples
    ///
    /// Give back a part:
    ///
    /// ```
    /// use selvedge_sync::Semaphore;
    ///
    /// let memory = Semaphore::new(64);
    /// let mut all = memory.try_acquire(64)?;
    /// drop(all.split(60).expect("it has as many"));
    /// assert_eq!((all.count(), memory.available()), (4, 60));
    /// assert!(all.split(5).is_none());
    /// # Ok::<_, selvedge_sync::TryAcquireError>(())
    /// ```
    pub fn split(&mut self, n: usize) -> Option<Self> {
        self.count = self.count.checked_sub(n)?;
        let (semaphore, holders) = (self.semaphore, &self.semaphore.holders);
        holders.change(&self.hold, self.count);
        Some(Self { semaphore, count: n, hold: holders.part(&self.hold, n) })
    }

    /// Takes over the permits of `other`, of the same semaphore.
    ///
    /// # Errors
    ///
    /// [`MergeError`], with `other`, if that is of another semaphore.
    pub fn merge(&mut self, other: Self) -> Result<(), MergeError<Self>> {
        if !std::ptr::eq(self.semaphore, other.semaphore) {
            return Err(MergeError { permit: other });
        }
        self.count += other.take();
        self.semaphore.holders.change(&self.hold, self.count);
        Ok(())
    }

    /// The permits are gone for good: the [`capacity`](Semaphore::capacity) is lower by as many.
    /// Whoever waits for more than that is told. [`Semaphore::add`] makes new ones.
    pub fn forget(self) {
        let semaphore = self.semaphore;
        semaphore.engine.forget(self.take());
    }

    /// The count, without the guard.
    fn take(mut self) -> usize {
        std::mem::take(&mut self.count)
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.holders.leave(&self.hold);
        self.semaphore.engine.release(self.count);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("count", &self.count)
            .field("semaphore", &self.semaphore.engine.origin)
            .finish()
    }
}

/// Permits of a [`Semaphore`] that are out and keep it alive; they go back when this is dropped.
/// Otherwise as [`Permit`].
#[must_use = "the permits go back when this is dropped: bind it to a name, `_` drops it at once"]
pub struct OwnedPermit {
    /// Where they go back to.
    semaphore: Arc<Semaphore>,
    /// How many.
    count: usize,
    /// What is known of who holds them.
    hold: Hold,
}

impl OwnedPermit {
    /// `count` permits that `caller` has taken out of `semaphore`.
    #[inline]
    pub(super) fn new(semaphore: Arc<Semaphore>, count: usize, caller: Caller) -> Self {
        let hold = semaphore.holders.enter(count, caller);
        Self { semaphore, count, hold }
    }

    /// How many permits this stands for.
    pub fn count(&self) -> usize {
        self.count
    }

    /// As [`Permit::split`].
    pub fn split(&mut self, n: usize) -> Option<Self> {
        self.count = self.count.checked_sub(n)?;
        let (semaphore, holders) = (Arc::clone(&self.semaphore), &self.semaphore.holders);
        holders.change(&self.hold, self.count);
        Some(Self { semaphore, count: n, hold: holders.part(&self.hold, n) })
    }

    /// As [`Permit::merge`].
    ///
    /// # Errors
    ///
    /// [`MergeError`], with `other`, if that is of another semaphore.
    pub fn merge(&mut self, other: Self) -> Result<(), MergeError<Self>> {
        if !Arc::ptr_eq(&self.semaphore, &other.semaphore) {
            return Err(MergeError { permit: other });
        }
        self.count += other.take().1;
        self.semaphore.holders.change(&self.hold, self.count);
        Ok(())
    }

    /// As [`Permit::forget`]; it lets go of the semaphore.
    pub fn forget(self) {
        let (semaphore, count) = self.take();
        semaphore.engine.forget(count);
    }

    /// The semaphore they are of.
    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }

    /// The semaphore and the count, without the guard.
    fn take(mut self) -> (Arc<Semaphore>, usize) {
        let count = std::mem::take(&mut self.count);
        (Arc::clone(&self.semaphore), count)
    }
}

impl Drop for OwnedPermit {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.holders.leave(&self.hold);
        self.semaphore.engine.release(self.count);
    }
}

impl fmt::Debug for OwnedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedPermit")
            .field("count", &self.count)
            .field("semaphore", &self.semaphore.engine.origin)
            .finish()
    }
}
