//! `Retry-After`, in seconds.

use std::fmt;
use std::time::Duration;

use super::seconds;

/// The value of `Retry-After`: in how many seconds to come again, rounded up.
///
/// Of the two forms that RFC 9110 (section 10.2.3) knows, this is the one that needs no clock: a number of
/// seconds.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::http::RetryAfter;
///
/// assert_eq!(RetryAfter::new(Duration::from_millis(1001)).to_string(), "2");
/// assert_eq!(RetryAfter::new(Duration::from_nanos(1)).to_string(), "1");
/// assert_eq!(RetryAfter::new(Duration::ZERO).to_string(), "0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryAfter {
    /// Rounded up.
    seconds: u64,
}

impl RetryAfter {
    /// The field's name.
    pub const NAME: &'static str = "Retry-After";

    /// Come again in `wait`, as [`Limiter::ready_in`](crate::Limiter::ready_in) tells it. Zero is told as 0:
    /// come at once.
    pub const fn new(wait: Duration) -> Self {
        Self { seconds: seconds(wait) }
    }

    /// The seconds that are told.
    pub const fn seconds(&self) -> u64 {
        self.seconds
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seconds.fmt(f)
    }
}
