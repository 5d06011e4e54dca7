//! Why a permit was not acquired, and what else was refused.

use selvedge_cancel::Cause;
use thiserror::Error;

use super::word::MAX_PERMITS;

/// Why [`Semaphore::acquire`](crate::Semaphore::acquire) and the other waits ended without a
/// permit.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The semaphore was closed, before the call or while it waited.
    #[error("permit not acquired: semaphore closed")]
    Closed,
    /// More was wanted than there is in all. Told at once, or as soon as the capacity is lowered: the request never stands in
    /// the line where it would wait for ever and everybody else behind it.
    #[error("permit not acquired: {wanted} wanted, {capacity} is the capacity")]
    OverCapacity {
        /// How many permits were wanted.
        wanted: usize,
        /// How many there are in all.
        capacity: usize,
    },
    /// The context was cancelled first; only of a wait [that ends with one](crate::Semaphore::acquire_in).
    #[error("permit not acquired: the context ended")]
    Ended(
        /// Why it did.
        #[source]
        Cause,
    ),
}

/// Causes are equal when they are [the same](Cause::same).
impl PartialEq for AcquireError {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Closed, Self::Closed) => true,
            (
                Self::OverCapacity { wanted, capacity },
                Self::OverCapacity { wanted: other_wanted, capacity: other_capacity },
            ) => (wanted, capacity) == (other_wanted, other_capacity),
            (Self::Ended(cause), Self::Ended(other)) => cause.same(other),
            _ => false,
        }
    }
}

impl Eq for AcquireError {}

impl From<Cause> for AcquireError {
    fn from(cause: Cause) -> Self {
        Self::Ended(cause)
    }
}

/// Why [`Semaphore::try_acquire`](crate::Semaphore::try_acquire) and its owned form gave no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// The semaphore is closed.
    #[error("permit not acquired: semaphore closed")]
    Closed,
    /// More was wanted than there is in all; trying again is of no use.
    #[error("permit not acquired: {wanted} wanted, {capacity} is the capacity")]
    OverCapacity {
        /// How many permits were wanted.
        wanted: usize,
        /// How many there are in all.
        capacity: usize,
    },
    /// Not enough permits are free, or somebody waits who is not to be overtaken; later it may succeed.
    #[error("permit not acquired: too few are free, or others wait for them")]
    NoPermits,
}

/// The capacity was not changed: it would be more than
/// [`Semaphore::MAX_PERMITS`](crate::Semaphore::MAX_PERMITS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("capacity not changed: {wanted} wanted, {max} is the most", max = MAX_PERMITS)]
#[non_exhaustive]
pub struct CapacityError {
    /// The capacity that was wanted, or `usize::MAX` if it was more than that.
    pub wanted: usize,
}

/// Two permits were not merged: they are of different semaphores. Gives back the one that was to become part of the other.
#[derive(Debug, Error)]
#[error("permits not merged: they are of different semaphores")]
#[non_exhaustive]
pub struct MergeError<P> {
    /// The permit, untouched.
    pub permit: P,
}
