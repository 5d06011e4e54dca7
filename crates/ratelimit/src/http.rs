//! What a server tells its clients about their quota: the values of HTTP header fields, as plain values that
//! display. They need no HTTP crate, and no HTTP crate needs to know them.
//!
//! | field | type | says |
//! |---|---|---|
//! | `Retry-After` | [`RetryAfter`] | in how many seconds to come again |
//! | `RateLimit-Policy` | [`RateLimitPolicy`] | what the quota is |
//! | `RateLimit` | [`RateLimit`] | how much of it is left |
//! | `X-RateLimit-Limit`, `-Remaining`, `-Reset` | [`XRateLimit`] | the same, in the older words |
//!
//! `Retry-After` is of RFC 9110. `RateLimit-Policy` and `RateLimit` are lists of structured fields (RFC
//! 9651) as in the tenth draft of `draft-ietf-httpapi-ratelimit-headers`; it may change before it is an
//! RFC. Nobody has specified the `X-` fields.
//!
//! - **Seconds are rounded up**, so that who comes when he is told to is not refused a second time for the
//!   rounding. A wait that is not zero is never told as zero. More than [`MAX_SECONDS`] is told as that.
//! - **Nothing is promised that the quota does not admit**: what is left is at most the burst, and what a
//!   policy says of a window is what comes in it.
//! - **Without a limit** ([`Rate::UNLIMITED`](crate::Rate::UNLIMITED)) there is nothing to tell: the constructors that
//!   take a quota return none, and the field is left out.
//!
//! # Examples
//!
//! A refusal:
//!
//! ```
//! use std::time::Duration;
//! use selvedge_ratelimit::http::{PolicyName, RateLimit, RateLimitPolicy, RetryAfter};
//! use selvedge_ratelimit::{Limiter, Rate, Timer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (timer, _clock) = Timer::manual();
//! let limiter = Limiter::with_timer(Rate::per_minute(40).burst(20), timer);
//! limiter.try_acquire(20)?;
//! assert!(limiter.try_acquire(1).is_err());
//!
//! let (quota, left) = (limiter.quota(), limiter.available());
//! let wait = limiter.ready_in(1).unwrap_or(Duration::MAX); // 1.5 s
//! let name = PolicyName::DEFAULT;
//! let mut answer = vec![(RetryAfter::NAME, RetryAfter::new(wait).to_string())];
//! answer.extend(RateLimitPolicy::new(name, quota).map(|it| (RateLimitPolicy::NAME, it.to_string())));
//! answer.extend(RateLimit::new(name, quota, left, wait).map(|it| (RateLimit::NAME, it.to_string())));
//! assert_eq!(answer, [
//!     ("Retry-After", "2".to_owned()),
//!     ("RateLimit-Policy", "\"default\";q=20;w=30".to_owned()),
//!     ("RateLimit", "\"default\";r=0;t=2".to_owned()),
//! ]);
//! # Ok(())
//! # }
//! ```

mod legacy;
mod name;
mod rate_limit;
mod retry_after;

use std::time::Duration;

pub use legacy::XRateLimit;
pub use name::{PolicyName, PolicyNameError};
pub use rate_limit::{RateLimit, RateLimitPolicy};
pub use retry_after::RetryAfter;

use crate::Quota;

/// The most seconds that are told, and the largest whole number of a structured field: 31 million years.
pub const MAX_SECONDS: u64 = 999_999_999_999_999;

/// In whole seconds, rounded up, so never zero unless `wait` is.
const fn seconds(wait: Duration) -> u64 {
    let whole = wait.as_secs().saturating_add((wait.subsec_nanos() != 0) as u64);
    if whole < MAX_SECONDS { whole } else { MAX_SECONDS }
}

/// What is told to be left: no more than can be had at once.
const fn remaining(quota: Quota, available: u32) -> u32 {
    if available < quota.burst_size() { available } else { quota.burst_size() }
}
