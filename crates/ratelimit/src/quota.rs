//! What a limiter admits: so many tokens in a period, so many at once. A quota that exists makes sense.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// So many tokens in a period, and so many at once: the rate and the burst of a
/// [`Limiter`](crate::Limiter).
///
/// The tokens come one by one, evenly over the period: 60 a minute is one a second. The *burst* is how
/// many may be saved up while nobody takes any; a limiter begins with all of them. A burst of one, which
/// is the default, is a steady tick: never two closer together than the rate says.
///
/// | you want | write |
/// |---|---|
/// | one every 200 ms, steadily | `Quota::every(Duration::from_millis(200))` |
/// | 50 a second, up to 10 at once | `Quota::per_second(50).burst(10)` |
/// | 1000 an hour, in any distribution | `Quota::new(1000, Duration::from_secs(3600)).burst(1000)` |
/// | what a file or a user says | [`checked`](Self::checked), [`from_f64`](Self::from_f64) |
///
/// The constructors for numbers that are written in the program panic when they make no sense; in a
/// constant that is an error of the compiler. Those for numbers from elsewhere return an error.
///
/// # Examples
///
/// ```
/// use selvedge_ratelimit::Quota;
///
/// const API: Quota = Quota::per_second(50).burst(10);
/// assert_eq!((API.tokens(), API.burst_size()), (50, 10));
/// ```
///
/// ```compile_fail
/// use selvedge_ratelimit::Quota;
///
/// const NOTHING: Quota = Quota::per_second(0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    /// How many tokens come in a period.
    tokens: NonZeroU64,
    /// The period, in nanoseconds.
    period: NonZeroU64,
    /// How many tokens may be saved up.
    burst: NonZeroU32,
}

/// A quota was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// No tokens, or less than half a one in 272 years by [`Quota::from_f64`], which rounds.
    #[error("quota not made: it admits nothing, give it at least one token a period")]
    NoTokens,
    /// The period is zero.
    #[error("quota not made: its period is zero")]
    NoPeriod,
    /// The period is longer than a limiter counts.
    #[error("quota not made: its period is longer than {} s", u64::MAX / SECOND)]
    PeriodTooLong,
    /// More tokens than a limiter counts.
    #[error(
        "quota not made: more than {} tokens a second, count in larger units",
        Quota::MAX_PER_SECOND
    )]
    TooFast,
    /// A burst of nothing.
    #[error("quota not made: a burst of 0 admits nothing, give it at least 1")]
    NoBurst,
    /// Not a number, infinite or negative.
    #[error("quota not made: the rate is not a finite number above zero")]
    NotANumber,
}

impl QuotaError {
    /// As `Display`, in a constant, at the place of the caller's caller.
    #[track_caller]
    const fn panic(self) -> ! {
        match self {
            Self::NoTokens => panic!("quota not made: it admits nothing"),
            Self::NoPeriod => panic!("quota not made: its period is zero"),
            Self::PeriodTooLong => panic!("quota not made: its period is too long"),
            Self::TooFast => panic!("quota not made: it is faster than Quota::MAX_PER_SECOND"),
            Self::NoBurst => panic!("quota not made: a burst of 0 admits nothing"),
            Self::NotANumber => panic!("quota not made: the rate is not a number above zero"),
        }
    }
}

impl Quota {
    /// The highest rate, in tokens a second. At this rate a limiter counts for 73 years.
    pub const MAX_PER_SECOND: u64 = MAX_PER_NANOSECOND * SECOND;

    /// `tokens` in each `period`, one at a time.
    ///
    /// # Panics
    ///
    /// When [`checked`](Self::checked) would return an error; in a constant it does not compile.
    #[track_caller]
    pub const fn new(tokens: u64, period: Duration) -> Self {
        match Self::checked(tokens, period, 1) {
            Ok(quota) => quota,
            Err(error) => error.panic(),
        }
    }

    /// `tokens` a second, one at a time.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[track_caller]
    pub const fn per_second(tokens: u64) -> Self {
        Self::new(tokens, Duration::from_secs(1))
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

    /// The same rate, with up to `tokens` at once.
    ///
    /// # Panics
    ///
    /// When `tokens` is 0; in a constant it does not compile.
    #[track_caller]
    pub const fn burst(self, tokens: u32) -> Self {
        match NonZeroU32::new(tokens) {
            Some(burst) => Self { burst, ..self },
            None => QuotaError::NoBurst.panic(),
        }
    }

    /// `tokens` in each `period`, up to `burst` at once; for numbers that are not written in the
    /// program.
    ///
    /// # Errors
    ///
    /// [`NoTokens`](QuotaError::NoTokens), [`NoPeriod`](QuotaError::NoPeriod),
    /// [`PeriodTooLong`](QuotaError::PeriodTooLong) (more than 584 years),
    /// [`TooFast`](QuotaError::TooFast) (above [`MAX_PER_SECOND`](Self::MAX_PER_SECOND)),
    /// [`NoBurst`](QuotaError::NoBurst).
    pub const fn checked(tokens: u64, period: Duration, burst: u32) -> Result<Self, QuotaError> {
        let nanos = period.as_nanos();
        if nanos > u64::MAX as u128 {
            return Err(QuotaError::PeriodTooLong);
        }
        let (Some(tokens), Some(period)) = (NonZeroU64::new(tokens), NonZeroU64::new(nanos as u64))
        else {
            return Err(if tokens == 0 { QuotaError::NoTokens } else { QuotaError::NoPeriod });
        };
        let Some(burst) = NonZeroU32::new(burst) else { return Err(QuotaError::NoBurst) };
        if tokens.get() as u128 > nanos * MAX_PER_NANOSECOND as u128 {
            return Err(QuotaError::TooFast);
        }
        Ok(Self { tokens, period, burst })
    }

    /// `per_second` tokens a second, which need not be a whole number, up to `burst` at once.
    ///
    /// The rate is kept as a fraction of whole numbers, exact to a token in 272 years and to the
    /// precision of `f64`.
    ///
    /// # Errors
    ///
    /// [`NotANumber`](QuotaError::NotANumber) for NaN, the infinities, and what is not above zero;
    /// else as [`checked`](Self::checked).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_ratelimit::{Quota, QuotaError};
    ///
    /// let slow = Quota::from_f64(0.5, 1)?;
    /// assert_eq!(slow.interval(), Duration::from_secs(2));
    /// assert_eq!(Quota::from_f64(f64::NAN, 1), Err(QuotaError::NotANumber));
    /// # Ok::<_, QuotaError>(())
    /// ```
    pub fn from_f64(per_second: f64, burst: u32) -> Result<Self, QuotaError> {
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
        Self::checked(tokens, Duration::from_secs(seconds), burst)
    }

    /// How many tokens come in each [`period`](Self::period).
    pub const fn tokens(&self) -> u64 {
        self.tokens.get()
    }

    /// How long it takes for that many tokens to come.
    pub const fn period(&self) -> Duration {
        Duration::from_nanos(self.period.get())
    }

    /// How many tokens may be saved up, and so how many can be had at once.
    pub const fn burst_size(&self) -> u32 {
        self.burst.get()
    }

    /// How long it takes for one token to come, rounded up to a nanosecond.
    pub const fn interval(&self) -> Duration {
        Duration::from_nanos(self.period.get().div_ceil(self.tokens.get()))
    }
}

/// The highest rate, in tokens a nanosecond.
const MAX_PER_NANOSECOND: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let checked = Quota::checked;
        assert_eq!(checked(0, SEC, 1), Err(QuotaError::NoTokens));
        assert_eq!(checked(1, Duration::ZERO, 1), Err(QuotaError::NoPeriod));
        assert_eq!(checked(0, Duration::ZERO, 0), Err(QuotaError::NoTokens));
        assert_eq!(checked(1, SEC, 0), Err(QuotaError::NoBurst));
        assert_eq!(checked(1, Duration::MAX, 1), Err(QuotaError::PeriodTooLong));
        assert_eq!(checked(u64::MAX, SEC, 1), Err(QuotaError::TooFast));
        assert_eq!(checked(5, Duration::from_nanos(1), 1), Err(QuotaError::TooFast));
        assert!(checked(4, Duration::from_nanos(1), u32::MAX).is_ok());
        assert!(checked(1, Duration::from_nanos(u64::MAX), 1).is_ok());
        assert!(checked(u64::MAX, Duration::from_nanos(u64::MAX), 1).is_ok());
    }

    #[test]
    fn a_rate_that_is_no_number_above_zero_is_an_error() {
        for rate in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, -0.0] {
            assert_eq!(Quota::from_f64(rate, 1), Err(QuotaError::NotANumber), "{rate}");
        }
        assert_eq!(Quota::from_f64(f64::MIN_POSITIVE, 1), Err(QuotaError::NoTokens));
        assert_eq!(Quota::from_f64(f64::MAX, 1), Err(QuotaError::TooFast));
        assert_eq!(Quota::from_f64(4.0e9 + 1.0, 1), Err(QuotaError::TooFast));
        assert_eq!(Quota::from_f64(1.0, 0), Err(QuotaError::NoBurst));
        for rate in [1e-9, 0.1, 1.0, 1.5, 1e9, 1.1e9, 4e9] {
            let quota = Quota::from_f64(rate, 1).unwrap();
            let back = quota.tokens() as f64 / quota.period().as_secs_f64();
            assert!((back / rate - 1.0).abs() < 0.1_f64.min(1e-9 / rate + 1e-12), "{rate}: {back}");
        }
    }

    #[test]
    fn an_interval_is_rounded_up() {
        assert_eq!(Quota::per_second(3).interval(), Duration::from_nanos(333_333_334));
        assert_eq!(Quota::every(SEC).interval(), SEC);
        assert_eq!(Quota::per_second(Quota::MAX_PER_SECOND).interval(), Duration::from_nanos(1));
    }

    #[test]
    #[should_panic(expected = "a burst of 0 admits nothing")]
    fn a_burst_of_nothing_panics_where_it_is_written() {
        let _ = Quota::per_second(1).burst(0);
    }
}
