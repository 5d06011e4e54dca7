//! Why a permit was not acquired.

use thiserror::Error;

/// Why [`Semaphore::acquire`](crate::Semaphore::acquire) and the other waits ended without a
/// permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The semaphore was closed, before the call or while it waited.
    #[error("permit not acquired: semaphore closed")]
    Closed,
    /// More was wanted than there is in all. Told at once: the request never stands in the line,
    /// where it would wait for ever and everybody else behind it.
    #[error("permit not acquired: {wanted} wanted, {capacity} is the capacity")]
    OverCapacity {
        /// How many permits were wanted.
        wanted: usize,
        /// How many there are in all.
        capacity: usize,
    },
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
    /// Not enough permits are free, or somebody was waiting before; later it may succeed.
    #[error("permit not acquired: too few are free, or others wait for them")]
    NoPermits,
}
