//! What a limiter admits: a rate, and so many at once. A quota that exists makes sense.
//!
//! | file | concept |
//! |---|---|
//! | `rate.rs` | so many tokens in a period, or no limit |
//! | `quota.rs` | a rate with a burst |
//! | `error.rs` | why there is none |
//! | `parse.rs` | both from text; the text is made by their `Display` |
//! | `serde.rs` | both from and to serde, as text |

mod error;
mod parse;
mod rate;
#[cfg(feature = "serde")]
mod serde;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

pub use error::QuotaError;
pub use rate::Rate;

/// A [`Rate`], and how many tokens may be had at once: what a [`Limiter`](crate::Limiter) admits.
///
/// The *burst* is how many tokens may be saved up while nobody takes any; a limiter begins with all of
/// them. A burst of one is a steady tick: never two closer together than the rate says.
///
/// | you want | write |
/// |---|---|
/// | one every 200 ms, steadily | `Rate::every(Duration::from_millis(200)).burst(1)` |
/// | 50 a second, up to 10 at once | `Rate::per_second(50).burst(10)` |
/// | 1000 an hour, in any distribution | `Rate::per_hour(1000).burst(1000)` |
/// | what a file or a user says | `text.parse()`, [`checked`](Self::checked) |
///
/// What is written in the program panics when it makes no sense; in a constant that is an error of the
/// compiler. What comes from elsewhere is an error.
///
/// Two quotas are equal when their rates and their bursts are; 60 a minute is one a second.
///
/// # As text
///
/// A quota is read from text, and displayed as text that reads as the same quota:
///
/// ```text
/// quota  = rate [ "burst" whole ]             without it, the burst is 1
/// rate   = "unlimited" | number "/" period
/// period = [ whole ] unit                     without a number, one of the unit
/// unit   = "ns" | "us" | "µs" | "ms" | "s" | "m" | "min" | "h" | "d"
/// number = whole [ "." whole ]                exact: 2.5/s is five in two seconds
/// whole  = a digit or more
/// ```
///
/// White space may stand anywhere but inside a number or a word, and must stand on both sides of `burst`.
/// Upper and lower case are not the same.
///
/// # Examples
///
/// ```
/// use selvedge_ratelimit::{Quota, Rate};
///
/// const API: Quota = Rate::per_second(50).burst(10);
/// assert_eq!((API.rate(), API.burst_size()), (Rate::per_minute(3000), 10));
/// ```
///
/// From a file:
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::{Quota, QuotaError, Rate};
///
/// let quota: Quota = "2.5/s burst 20".parse()?;
/// assert_eq!(quota, Rate::new(5, Duration::from_secs(2)).burst(20));
/// assert_eq!(quota.to_string(), "5/2s burst 20");
/// assert_eq!("1/200ms".parse(), Ok(Rate::per_second(5).burst(1)));
///
/// let refused = "0/s".parse::<Quota>().unwrap_err();
/// assert_eq!(refused, QuotaError::NoTokens);
/// assert_eq!(refused.to_string(), "quota not made: it admits nothing, give it at least one token a period");
/// # Ok::<_, QuotaError>(())
/// ```
///
/// What makes no sense does not compile:
///
/// ```compile_fail
/// use selvedge_ratelimit::{Quota, Rate};
///
/// const NOTHING: Quota = Rate::per_second(50).burst(0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    /// How fast the tokens come.
    rate: Rate,
    /// How many tokens may be saved up.
    burst: NonZeroU32,
}

impl Quota {
    /// `rate`, one token at a time.
    pub const fn new(rate: Rate) -> Self {
        Self { rate, burst: NonZeroU32::MIN }
    }

    /// `rate`, up to `burst` tokens at once; for numbers that are not written in the program.
    ///
    /// # Errors
    ///
    /// [`NoBurst`](QuotaError::NoBurst) when `burst` is 0.
    pub const fn checked(rate: Rate, burst: u32) -> Result<Self, QuotaError> {
        match NonZeroU32::new(burst) {
            Some(burst) => Ok(Self { rate, burst }),
            None => Err(QuotaError::NoBurst),
        }
    }

    /// How fast the tokens come.
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// How many tokens may be saved up, and so how many can be had at once.
    pub const fn burst_size(&self) -> u32 {
        self.burst.get()
    }

    /// The same burst at another rate.
    #[must_use = "a quota is a value, and this one stays as it is"]
    pub const fn with_rate(self, rate: Rate) -> Self {
        Self { rate, ..self }
    }

    /// The same rate with another burst.
    ///
    /// # Panics
    ///
    /// When `burst` is 0; in a constant it does not compile. [`checked`](Self::checked) returns an error.
    #[track_caller]
    #[must_use = "a quota is a value, and this one stays as it is"]
    pub const fn with_burst(self, burst: u32) -> Self {
        match Self::checked(self.rate, burst) {
            Ok(quota) => quota,
            Err(error) => error.panic(),
        }
    }
}

impl From<Rate> for Quota {
    /// One token at a time.
    fn from(rate: Rate) -> Self {
        Self::new(rate)
    }
}

impl fmt::Display for Quota {
    /// The text from which [`FromStr`] makes the same quota; a burst of 1 is not written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.burst_size() {
            1 => self.rate.fmt(f),
            burst => write!(f, "{} burst {burst}", self.rate),
        }
    }
}

impl FromStr for Quota {
    type Err = QuotaError;

    /// Reads a quota; what it may look like is said [above](Self#as-text).
    fn from_str(text: &str) -> Result<Self, QuotaError> {
        parse::quota(text)
    }
}
