//! Why the permits of a key were not acquired.

use selvedge_cancel::Cause;
use thiserror::Error;

/// Why a wait of a [`KeyedSemaphore`](crate::KeyedSemaphore) or a [`KeyedLock`](crate::KeyedLock) ended without permits.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum KeyedError {
    /// It would be one key more than there may be in use at once.
    #[error("permit not acquired: {max} keys are in use, which is the most")]
    TooManyKeys {
        /// How many there may be.
        max: usize,
    },
    /// No key has so many.
    #[error("permit not acquired: {wanted} wanted, {capacity} is what a key has")]
    OverCapacity {
        /// How many permits were wanted.
        wanted: usize,
        /// How many each key has.
        capacity: usize,
    },
    /// The context was cancelled first; only of a wait that ends with one.
    #[error("permit not acquired: the context ended")]
    Ended(
        /// Why it did.
        #[from]
        #[source]
        Cause,
    ),
}

/// Why [`KeyedSemaphore::try_acquire`](crate::KeyedSemaphore::try_acquire) or [`KeyedLock::try_lock`](crate::KeyedLock::try_lock) gave no
/// permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TryKeyedError {
    /// It would be one key more than there may be in use at once.
    #[error("permit not acquired: {max} keys are in use, which is the most")]
    TooManyKeys {
        /// How many there may be.
        max: usize,
    },
    /// No key has so many.
    #[error("permit not acquired: {wanted} wanted, {capacity} is what a key has")]
    OverCapacity {
        /// How many permits were wanted.
        wanted: usize,
        /// How many each key has.
        capacity: usize,
    },
    /// Not enough permits of this key are free, or others wait for them; later it may succeed.
    #[error("permit not acquired: too few of this key are free, or others wait for them")]
    NoPermits,
}
