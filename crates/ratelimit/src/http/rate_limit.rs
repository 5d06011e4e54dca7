//! `RateLimit-Policy` and `RateLimit`, of `draft-ietf-httpapi-ratelimit-headers-10`.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use super::{PolicyName, seconds};
use crate::Quota;

/// A value of `RateLimit-Policy`: what a quota is, so that clients can pace themselves.
///
/// A token bucket is told as a window: `q` is the burst, and `w` is how long it takes for the whole burst
/// to come, in seconds, rounded up. That is never more than the quota admits. It may be less: seconds are
/// the draft's finest unit, so of a burst that comes in less than one, `w` is 1.
///
/// A list of several policies is their values with a comma between them, or a field for each.
///
/// # Examples
///
/// ```
/// use selvedge_ratelimit::Rate;
/// use selvedge_ratelimit::http::{PolicyName, RateLimitPolicy};
///
/// let hourly = PolicyName::new("hourly")?;
/// let policy = RateLimitPolicy::new(hourly, Rate::per_hour(1000).burst(1000)).ok_or("no limit")?;
/// assert_eq!(policy.to_string(), "\"hourly\";q=1000;w=3600");
/// assert_eq!(RateLimitPolicy::new(hourly, Rate::UNLIMITED.burst(1)), None);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimitPolicy<'a> {
    /// Which policy.
    name: PolicyName<'a>,
    /// So many tokens: `q`.
    burst: u32,
    /// In so many seconds: `w`.
    window: NonZeroU64,
}

impl<'a> RateLimitPolicy<'a> {
    /// The field's name.
    pub const NAME: &'static str = "RateLimit-Policy";

    /// What `quota` admits; none without a limit.
    pub fn new(name: PolicyName<'a>, quota: Quota) -> Option<Self> {
        let (tokens, period) = quota.rate().fraction()?;
        // At most 2^96.
        let refill = (u128::from(quota.burst_size()) * u128::from(period)).div_ceil(tokens.into());
        let nanos = Duration::from_secs(1).as_nanos();
        let window = Duration::from_secs(u64::try_from(refill.div_ceil(nanos)).unwrap_or(u64::MAX));
        let window = NonZeroU64::new(seconds(window)).unwrap_or(NonZeroU64::MIN);
        Some(Self { name, burst: quota.burst_size(), window })
    }
}

impl fmt::Display for RateLimitPolicy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};q={};w={}", self.name, self.burst, self.window)
    }
}

/// A value of `RateLimit`: how much is left of a quota.
///
/// `r` is how many tokens are there, at most the burst; `t` is in how many seconds the request that was
/// asked about would be admitted, rounded up, and is left out when that is at once. It is the number that
/// [`RetryAfter`](super::RetryAfter) tells for the same wait.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::Rate;
/// use selvedge_ratelimit::http::{PolicyName, RateLimit};
///
/// let quota = Rate::per_minute(40).burst(20);
/// let field = |left, wait| RateLimit::new(PolicyName::DEFAULT, quota, left, wait).map(|it| it.to_string());
/// assert_eq!(field(7, Duration::ZERO).as_deref(), Some("\"default\";r=7"));
/// assert_eq!(field(0, Duration::from_millis(1500)).as_deref(), Some("\"default\";r=0;t=2"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimit<'a> {
    /// Of which policy.
    name: PolicyName<'a>,
    /// How many tokens are there: `r`.
    remaining: u32,
    /// In how many seconds there are more: `t`.
    reset: Option<NonZeroU64>,
}

impl<'a> RateLimit<'a> {
    /// The field's name.
    pub const NAME: &'static str = "RateLimit";

    /// What is left of `quota`: `available` tokens, and a request is admitted in `ready_in`, as
    /// [`Limiter::available`](crate::Limiter::available) and [`ready_in`](crate::Limiter::ready_in) tell it.
    /// None without a limit.
    pub const fn new(
        name: PolicyName<'a>,
        quota: Quota,
        available: u32,
        ready_in: Duration,
    ) -> Option<Self> {
        if quota.rate().is_unlimited() {
            return None;
        }
        let remaining = super::remaining(quota, available);
        Some(Self { name, remaining, reset: NonZeroU64::new(seconds(ready_in)) })
    }
}

impl fmt::Display for RateLimit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};r={}", self.name, self.remaining)?;
        self.reset.map_or(Ok(()), |reset| write!(f, ";t={reset}"))
    }
}
