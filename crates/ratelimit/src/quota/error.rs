//! Why there is no quota, or no rate.

use super::Rate;
use super::rate::SECOND;

/// A rate or a quota was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// No tokens, or less than half a one in 272 years by [`Rate::from_f64`], which rounds.
    #[error("quota not made: it admits nothing, give it at least one token a period")]
    NoTokens,
    /// The period is zero.
    #[error("quota not made: its period is zero, give it a longer one or `unlimited`")]
    NoPeriod,
    /// The period is longer than a limiter counts.
    #[error("quota not made: its period is longer than {} s, give it a shorter one", u64::MAX / SECOND)]
    PeriodTooLong,
    /// More tokens than a limiter counts.
    #[error(
        "quota not made: more than {} tokens a second, count in larger units or say `unlimited`",
        Rate::MAX_PER_SECOND
    )]
    TooFast,
    /// A burst of nothing.
    #[error("quota not made: a burst of 0 admits nothing, give it at least 1")]
    NoBurst,
    /// Not a number, infinite or negative; zero by [`Rate::from_f64`].
    #[error(
        "quota not made: the rate is not a finite number above zero, write digits as in `2.5/s`"
    )]
    NotANumber,
    /// Text whose rate is no fraction of two whole numbers of 64 bits; or that has more than 38 digits.
    #[error("quota not made: the rate has too many digits for 64 bits, round it")]
    TooManyDigits,
    /// Text that is not a rate, or none at all.
    #[error("quota not made: expected a rate as `100/s`, `1/200ms` or `unlimited`")]
    NotARate,
    /// Text that is no period, behind the `/` of a rate.
    #[error(
        "quota not made: expected a period as `s` or `200ms` behind `/`, in ns, us, ms, s, min, h or d"
    )]
    NotAPeriod,
    /// Text behind a rate that is no burst, or one of more than 32 bits.
    #[error(
        "quota not made: expected nothing behind the rate, or a burst up to {}, as in `100/s burst 20`",
        u32::MAX
    )]
    NotABurst,
}

impl QuotaError {
    /// As `Display`, in a constant, at the place of the caller's caller.
    #[track_caller]
    pub(super) const fn panic(self) -> ! {
        match self {
            Self::NoTokens => panic!("quota not made: it admits nothing"),
            Self::NoPeriod => panic!("quota not made: its period is zero"),
            Self::PeriodTooLong => panic!("quota not made: its period is too long"),
            Self::TooFast => panic!("quota not made: it is faster than Rate::MAX_PER_SECOND"),
            Self::NoBurst => panic!("quota not made: a burst of 0 admits nothing"),
            Self::NotANumber
            | Self::TooManyDigits
            | Self::NotARate
            | Self::NotAPeriod
            | Self::NotABurst => panic!("quota not made: it was not understood"),
        }
    }
}
