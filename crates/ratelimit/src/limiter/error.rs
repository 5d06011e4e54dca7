//! Why tokens were not acquired.

use std::time::Duration;

use selvedge_cancel::Cause;
use selvedge_primitives::time::TimerError;

use crate::bucket::course::Lack;

/// Tokens were not acquired; from [`Limiter::acquire`](crate::Limiter::acquire) and the other waits.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// More than the burst: so many are never there at once. Ask for fewer at a time, [split](crate::Acquire::split) the request, or give
    /// the quota a larger burst. Told at once; or, if the burst was lowered since, when the request comes to the front of the line.
    #[error("tokens not acquired: {wanted} wanted, the burst is {burst}")]
    OverBurst {
        /// How many were asked for.
        wanted: u32,
        /// How many there may be at once.
        burst: u32,
    },
    /// They would come too late: after the deadline of the [context](crate::Limiter::acquire_in). Told at once, and none is spent.
    #[error("tokens not acquired: they would come in {due_in:?}, after the deadline")]
    TooLate {
        /// How long it would take, if nobody who waits gives up.
        due_in: Duration,
    },
    /// As many wait as [may](crate::LimiterBuilder::max_waiting).
    #[error("tokens not acquired: {waiting} wait already, and no more may")]
    TooMany {
        /// How many.
        waiting: usize,
    },
    /// The limiter was [closed](crate::Limiter::close), before the call or while it waited.
    #[error("tokens not acquired: the limiter is closed")]
    Closed,
    /// There are as many keys as there [may](crate::Keyed::new) be, and none that can go.
    #[error("tokens not acquired: {max_keys} keys are there already, and no more may")]
    TooManyKeys {
        /// How many.
        max_keys: u32,
    },
    /// As many different quotas are in use as [may be](crate::Keyed::try_acquire).
    #[error("tokens not acquired: too many different quotas are in use")]
    TooManyQuotas,
    /// They have not come yet, and nothing would tell when they have.
    #[error("tokens not acquired: nothing tells when they come")]
    NoTimer(
        /// Why not.
        #[source]
        TimerError,
    ),
    /// The context was cancelled first; only of a wait [that ends with one](crate::Limiter::acquire_in).
    #[error("tokens not acquired: the context ended")]
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
            (
                Self::OverBurst { wanted, burst },
                Self::OverBurst { wanted: other_wanted, burst: other_burst },
            ) => (wanted, burst) == (other_wanted, other_burst),
            (Self::TooLate { due_in }, Self::TooLate { due_in: other }) => due_in == other,
            (Self::TooMany { waiting }, Self::TooMany { waiting: other }) => waiting == other,
            (Self::TooManyKeys { max_keys }, Self::TooManyKeys { max_keys: other }) => {
                max_keys == other
            }
            (Self::Closed, Self::Closed) | (Self::TooManyQuotas, Self::TooManyQuotas) => true,
            (Self::NoTimer(error), Self::NoTimer(other)) => error == other,
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

/// Tokens were not acquired at once; from [`Limiter::try_acquire`](crate::Limiter::try_acquire).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// They have not come yet, or others wait for tokens.
    #[error("tokens not acquired: {0}")]
    NotYet(
        /// When they will have.
        NotYet,
    ),
    /// As [`AcquireError::OverBurst`].
    #[error("tokens not acquired: {wanted} wanted, the burst is {burst}")]
    OverBurst {
        /// How many were asked for.
        wanted: u32,
        /// How many there may be at once.
        burst: u32,
    },
    /// The limiter was [closed](crate::Limiter::close).
    #[error("tokens not acquired: the limiter is closed")]
    Closed,
    /// As [`AcquireError::TooManyKeys`].
    #[error("tokens not acquired: {max_keys} keys are there already, and no more may")]
    TooManyKeys {
        /// How many.
        max_keys: u32,
    },
    /// As [`AcquireError::TooManyQuotas`].
    #[error("tokens not acquired: too many different quotas are in use")]
    TooManyQuotas,
}

impl TryAcquireError {
    /// How long it was then until a retry makes sense; see [`NotYet::retry_in`]. None if it never does, as it is.
    pub fn retry_in(&self) -> Option<Duration> {
        match self {
            Self::NotYet(not_yet) => not_yet.retry_in(),
            _ => None,
        }
    }
}

/// The tokens have not come yet. Knows when they will have; that is reckoned when it is asked for, so that a refusal that nobody asks
/// costs nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotYet {
    /// What is missing.
    lack: Lack,
}

impl NotYet {
    /// So much is missing.
    #[inline]
    pub(crate) const fn new(lack: Lack) -> Self {
        Self { lack }
    }

    /// How long it was, when this was said, until the tokens will have come, if nobody takes any before; rounded up to a nanosecond, and longer by
    /// up to 20 ms where that is far away and told by the kernel's coarse clock. Those who wait in line are reckoned in: they go first. So
    /// who comes again after that is granted them, unless others took tokens meanwhile or
    /// the quota was changed. None if that is never, or not within 73 years.
    pub fn retry_in(&self) -> Option<Duration> {
        self.lack.wait().map(Duration::from_nanos)
    }
}

impl std::fmt::Display for NotYet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.retry_in() {
            Some(wait) => write!(f, "they come in {wait:?}"),
            None => write!(f, "they do not come"),
        }
    }
}
