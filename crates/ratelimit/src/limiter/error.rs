//! Why tokens were not acquired.

use selvedge_primitives::time::TimerError;

/// Tokens were not acquired; from [`Limiter::acquire`](crate::Limiter::acquire).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// More than the burst: so many are never there at once. Ask for fewer at a time, or give the quota
    /// a larger burst.
    #[error("tokens not acquired: {wanted} wanted, the burst is {burst}")]
    OverBurst {
        /// How many were asked for.
        wanted: u32,
        /// How many there may be at once.
        burst: u32,
    },
    /// They have not come yet, and nothing would tell when they have.
    #[error("tokens not acquired: nothing tells when they come")]
    NoTimer(
        /// Why not.
        #[source]
        TimerError,
    ),
}

/// Tokens were not acquired at once; from [`Limiter::try_acquire`](crate::Limiter::try_acquire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// They have not come yet, or others wait for tokens.
    #[error("tokens not acquired: they have not come yet, or others wait for them")]
    NotYet,
    /// As [`AcquireError::OverBurst`].
    #[error("tokens not acquired: {wanted} wanted, the burst is {burst}")]
    OverBurst {
        /// How many were asked for.
        wanted: u32,
        /// How many there may be at once.
        burst: u32,
    },
}
