//! `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, which many clients know.

use std::time::Duration;

use super::seconds;
use crate::Quota;

/// The values of `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`: the burst, how many
/// tokens of it are there, and in how many seconds a request would be admitted, rounded up.
///
/// Nobody has specified these fields. Some servers tell a time of the day as the reset; this crate
/// knows none, and tells seconds from now.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::Rate;
/// use selvedge_ratelimit::http::XRateLimit;
///
/// let quota = Rate::per_minute(40).burst(20);
/// let fields = XRateLimit::new(quota, 0, Duration::from_millis(1500)).ok_or("no limit")?;
/// let lines = fields.fields().map(|(name, value)| format!("{name}: {value}"));
/// assert_eq!(lines, ["X-RateLimit-Limit: 20", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 2"]);
/// # Ok::<_, &str>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct XRateLimit {
    /// The burst.
    limit: u32,
    /// How many tokens are there.
    remaining: u32,
    /// Seconds, rounded up.
    reset: u64,
}

impl XRateLimit {
    /// What is left of `quota`: `available` tokens, and a request is admitted in `ready_in`. None without a
    /// limit.
    pub const fn new(quota: Quota, available: u32, ready_in: Duration) -> Option<Self> {
        if quota.rate().is_unlimited() {
            return None;
        }
        let remaining = super::remaining(quota, available);
        Some(Self { limit: quota.burst_size(), remaining, reset: seconds(ready_in) })
    }

    /// The names of the fields, and their values.
    pub const fn fields(&self) -> [(&'static str, u64); 3] {
        [
            ("X-RateLimit-Limit", self.limit as u64),
            ("X-RateLimit-Remaining", self.remaining as u64),
            ("X-RateLimit-Reset", self.reset),
        ]
    }
}
