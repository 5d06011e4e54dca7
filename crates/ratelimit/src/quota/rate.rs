//! So many tokens in a period: a fraction of two whole numbers, or no limit.
//!
//! Both numbers are above zero and fit in 64 bits, and there are at most [`Rate::MAX_PER_SECOND`] in a
//! second; whatever is made from text, floating point or durations passes through [`Rate::checked`]. The
//! numbers stay as they were given, so that 60 a minute is displayed as such; what is equal, and what is
//! hashed, is the value.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use super::{Quota, QuotaError, parse};

/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// The highest rate, in tokens a nanosecond.
pub(super) const MAX_PER_NANOSECOND: u64 = 4;

/// How fast tokens come: so many in a period, one by one and evenly; or [no limit](Self::UNLIMITED).
///
/// | you want | write |
/// |---|---|
/// | 50 a second | `Rate::per_second(50)` |
/// | one every 200 ms | `Rate::every(Duration::from_millis(200))` |
/// | 7 in ten days | `Rate::new(7, Duration::from_secs(864_000))` |
/// | what a file or a user says | `text.parse()`, [`checked`](Self::checked), [`from_f64`](Self::from_f64) |
/// | no limit | [`Rate::UNLIMITED`] |
///
/// With a [`burst`](Self::burst) it is a [`Quota`].
///
/// The constructors for numbers that are written in the program panic when they make no sense; in a
/// constant that is an error of the compiler. Those for numbers from elsewhere return an error.
///
/// Rates are equal, and hash alike, when as many tokens come in the same time, whatever words they were
/// made with. They display as those words: `60/min` and `1/s` are equal. The text of a rate is that of a
/// [quota](Quota#as-text) without a burst.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::Rate;
///
/// const MINUTE: Rate = Rate::per_minute(60);
/// assert_eq!(MINUTE, Rate::per_second(1));
/// assert_eq!(MINUTE.to_string(), "60/min");
/// assert_eq!(MINUTE.interval(), Duration::from_secs(1));
/// ```
///
/// ```compile_fail
/// use selvedge_ratelimit::Rate;
///
/// const NOTHING: Rate = Rate::per_second(0);
/// ```
#[derive(Clone, Copy)]
pub struct Rate {
    /// The numbers it was made with; none when there is no limit.
    words: Option<Words>,
}

/// The numbers that a rate was made with.
#[derive(Clone, Copy)]
struct Words {
    /// How many tokens come in a period.
    tokens: NonZeroU64,
    /// The period, in nanoseconds.
    period: NonZeroU64,
}

impl Rate {
    /// No limit at all.
    pub const UNLIMITED: Self = Self { words: None };

    /// The highest rate but [`UNLIMITED`](Self::UNLIMITED), in tokens a second. At this rate a limiter
    /// counts for 73 years.
    pub const MAX_PER_SECOND: u64 = MAX_PER_NANOSECOND * SECOND;

    /// `tokens` a second.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[track_caller]
    pub const fn per_second(tokens: u64) -> Self {
        Self::new(tokens, Duration::from_secs(1))
    }

    /// `tokens` a minute.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[track_caller]
    pub const fn per_minute(tokens: u64) -> Self {
        Self::new(tokens, Duration::from_secs(60))
    }

    /// `tokens` an hour.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[track_caller]
    pub const fn per_hour(tokens: u64) -> Self {
        Self::new(tokens, Duration::from_secs(60 * 60))
    }

    /// One token each `period`.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[track_caller]
    pub const fn every(period: Duration) -> Self {
        Self::new(1, period)
    }

    /// `tokens` in each `period`.
    ///
    /// # Panics
    ///
    /// When [`checked`](Self::checked) would return an error; in a constant it does not compile.
    #[track_caller]
    pub const fn new(tokens: u64, period: Duration) -> Self {
        match Self::checked(tokens, period) {
            Ok(rate) => rate,
            Err(error) => error.panic(),
        }
    }

    /// `tokens` in each `period`; for numbers that are not written in the program.
    ///
    /// # Errors
    ///
    /// [`NoTokens`](QuotaError::NoTokens), [`NoPeriod`](QuotaError::NoPeriod),
    /// [`PeriodTooLong`](QuotaError::PeriodTooLong) (more than 584 years),
    /// [`TooFast`](QuotaError::TooFast) (above [`MAX_PER_SECOND`](Self::MAX_PER_SECOND)).
    pub const fn checked(tokens: u64, period: Duration) -> Result<Self, QuotaError> {
        let nanos = period.as_nanos();
        if nanos > u64::MAX as u128 {
            return Err(QuotaError::PeriodTooLong);
        }
        let (Some(tokens), Some(period)) = (NonZeroU64::new(tokens), NonZeroU64::new(nanos as u64))
        else {
            return Err(if tokens == 0 { QuotaError::NoTokens } else { QuotaError::NoPeriod });
        };
        if tokens.get() as u128 > nanos * MAX_PER_NANOSECOND as u128 {
            return Err(QuotaError::TooFast);
        }
        Ok(Self { words: Some(Words { tokens, period }) })
    }

    /// `per_second` tokens a second, which need not be a whole number.
    ///
    /// The rate is kept as a fraction of whole numbers, exact to a token in 272 years and to the
    /// precision of `f64`. Text is exact: `"0.1/s".parse()` is one in ten seconds, while the `f64` that is
    /// nearest to 0.1 is a little more than that.
    ///
    /// # Errors
    ///
    /// [`NotANumber`](QuotaError::NotANumber) for NaN, the infinities, and what is not above zero;
    /// [`NoTokens`](QuotaError::NoTokens) for less than half a token in 272 years;
    /// [`TooFast`](QuotaError::TooFast).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_ratelimit::{QuotaError, Rate};
    ///
    /// assert_eq!(Rate::from_f64(0.5)?, Rate::every(Duration::from_secs(2)));
    /// assert_eq!(Rate::from_f64(f64::NAN), Err(QuotaError::NotANumber));
    /// # Ok::<_, QuotaError>(())
    /// ```
    pub fn from_f64(per_second: f64) -> Result<Self, QuotaError> {
        if !per_second.is_finite() || per_second <= 0.0 {
            return Err(QuotaError::NotANumber);
        }
        if per_second > Self::MAX_PER_SECOND as f64 {
            return Err(QuotaError::TooFast);
        }
        // As many seconds as leave the tokens and the nanoseconds of the period room in 64 bits; a
        // power of two, so that the product is exact.
        let seconds = 1_u64 << if per_second < (1_u64 << 30) as f64 { 33 } else { 31 };
        let tokens = (per_second * seconds as f64).round() as u64;
        // For who reads it: 32 in a second, not in 2^33.
        let common = gcd(tokens as u128, seconds as u128) as u64;
        Self::checked(tokens / common, Duration::from_secs(seconds / common))
    }

    /// This rate with up to `tokens` at once.
    ///
    /// # Panics
    ///
    /// When `tokens` is 0; in a constant it does not compile. [`Quota::checked`] returns an error.
    #[track_caller]
    pub const fn burst(self, tokens: u32) -> Quota {
        Quota::new(self).with_burst(tokens)
    }

    /// Whether there is no limit.
    pub const fn is_unlimited(&self) -> bool {
        self.words.is_none()
    }

    /// How many tokens come in each [`period`](Self::period), in the words that the rate was made with;
    /// `u64::MAX` without a limit.
    pub const fn tokens(&self) -> u64 {
        match self.words {
            Some(words) => words.tokens.get(),
            None => u64::MAX,
        }
    }

    /// How long it takes for that many tokens to come; zero without a limit.
    pub const fn period(&self) -> Duration {
        match self.words {
            Some(words) => Duration::from_nanos(words.period.get()),
            None => Duration::ZERO,
        }
    }

    /// How long it takes for one token to come, rounded up to a nanosecond; zero without a limit.
    pub const fn interval(&self) -> Duration {
        match self.words {
            Some(words) => Duration::from_nanos(words.period.get().div_ceil(words.tokens.get())),
            None => Duration::ZERO,
        }
    }

    /// How many tokens come in how many nanoseconds, in lowest terms; none without a limit.
    pub(crate) const fn fraction(&self) -> Option<(u64, u64)> {
        match self.words {
            Some(words) => {
                let (tokens, period) = (words.tokens.get(), words.period.get());
                // No more than either of them.
                let common = gcd(tokens as u128, period as u128) as u64;
                Some((tokens / common, period / common))
            }
            None => None,
        }
    }
}

/// The greatest common divisor, Euclid's way; not zero unless both are.
pub(super) const fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl PartialEq for Rate {
    fn eq(&self, other: &Self) -> bool {
        self.fraction() == other.fraction()
    }
}

impl Eq for Rate {}

impl Hash for Rate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fraction().hash(state);
    }
}

impl fmt::Display for Rate {
    /// The text from which [`FromStr`] makes the same rate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Words { tokens, period }) = self.words else {
            return f.write_str(parse::UNLIMITED);
        };
        let (count, unit) = parse::in_units(period);
        match count {
            1 => write!(f, "{tokens}/{unit}"),
            _ => write!(f, "{tokens}/{count}{unit}"),
        }
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rate").field(&format_args!("{self}")).finish()
    }
}

impl FromStr for Rate {
    type Err = QuotaError;

    /// Reads a rate; what it may look like is said [at the quota](Quota#as-text).
    fn from_str(text: &str) -> Result<Self, QuotaError> {
        parse::rate(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_is_in_lowest_terms() {
        let fraction = |tokens, period| Rate::new(tokens, Duration::from_nanos(period)).fraction();
        assert_eq!(fraction(60, 60 * SECOND), Some((1, SECOND)));
        assert_eq!(fraction(3, 10), Some((3, 10)));
        assert_eq!(fraction(u64::MAX, u64::MAX), Some((1, 1)));
        assert_eq!(fraction(1, u64::MAX), Some((1, u64::MAX)));
        assert_eq!(Rate::UNLIMITED.fraction(), None);
    }
}
