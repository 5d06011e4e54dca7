//! Rates and quotas from text; the grammar is at [`Quota`].
//!
//! Numbers are read as whole numbers, of 128 bits and with checks. A number with a fraction is a fraction:
//! what is behind the point makes the period longer, ten times a digit. Nothing is rounded.

use std::num::NonZeroU64;
use std::time::Duration;

use super::rate::{MAX_PER_NANOSECOND, SECOND, gcd};
use super::{Quota, QuotaError, Rate};

/// What is said of no limit.
pub(super) const UNLIMITED: &str = "unlimited";

/// What stands before a burst.
const BURST: &str = "burst";

/// The units of a period in nanoseconds, the longest first. The first name of each length is displayed.
const UNITS: [(&str, u64); 10] = [
    ("d", 24 * 3600 * SECOND),
    ("h", 3600 * SECOND),
    ("min", 60 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    // The micro sign, and the Greek letter that is drawn alike.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
];

/// A period in the longest unit that leaves no rest.
pub(super) fn in_units(period: NonZeroU64) -> (u64, &'static str) {
    let whole = UNITS.into_iter().find(|(_, length)| period.get().is_multiple_of(*length));
    // The last unit leaves none.
    whole.map_or((period.get(), "ns"), |(name, length)| (period.get() / length, name))
}

/// Reads a quota.
pub(super) fn quota(text: &str) -> Result<Quota, QuotaError> {
    let text = text.trim();
    let Some((before, burst)) = split_burst(text) else { return Ok(Quota::new(rate(text)?)) };
    let rate = rate(before)?;
    if !is_whole(burst) {
        return Err(QuotaError::NotABurst);
    }
    Quota::checked(rate, burst.parse().map_err(|_| QuotaError::NotABurst)?)
}

/// What stands before the word `burst`, and behind it, if it is there.
fn split_burst(text: &str) -> Option<(&str, &str)> {
    let (before, behind) = text.split_once(BURST)?;
    let is_word = before.ends_with(char::is_whitespace) && behind.starts_with(char::is_whitespace);
    is_word.then(|| (before, behind.trim_start()))
}

/// Reads a rate.
pub(super) fn rate(text: &str) -> Result<Rate, QuotaError> {
    let text = text.trim();
    if text == UNLIMITED {
        return Ok(Rate::UNLIMITED);
    }
    let (number, period) = text.split_once('/').ok_or(QuotaError::NotARate)?;
    let (tokens, scale) = decimal(number.trim_end())?;
    let period = period_of(period.trim_start())?;
    fraction(tokens, scale, period)
}

/// Reads a period: nanoseconds.
fn period_of(text: &str) -> Result<u64, QuotaError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, name) = text.split_at(digits);
    // What else stands behind a rate was perhaps meant to be a burst.
    let name = name.trim_start();
    let unit = name.split(char::is_whitespace).next().unwrap_or(name);
    let (_, length) =
        UNITS.into_iter().find(|(known, _)| *known == unit).ok_or(QuotaError::NotAPeriod)?;
    if unit.len() != name.len() {
        return Err(QuotaError::NotABurst);
    }
    if count.is_empty() {
        return Ok(length);
    }
    // Only digits: it fails when there are too many.
    let count: u64 = count.parse().map_err(|_| QuotaError::PeriodTooLong)?;
    count.checked_mul(length).ok_or(QuotaError::PeriodTooLong)
}

/// Reads a number of tokens: a whole number, and by how much it is to be divided.
fn decimal(text: &str) -> Result<(u128, u128), QuotaError> {
    let (whole, rest) = match text.split_once('.') {
        Some((whole, rest)) if is_whole(rest) => (whole, rest.trim_end_matches('0')),
        Some(_) => return Err(QuotaError::NotANumber),
        None => (text, ""),
    };
    if !is_whole(whole) {
        return Err(QuotaError::NotANumber);
    }
    // More than 2^128 tokens are too many in any period.
    let tokens = digits(0, whole).ok_or(QuotaError::TooFast)?;
    let tokens = digits(tokens, rest).ok_or(QuotaError::TooManyDigits)?;
    let places = u32::try_from(rest.len()).ok();
    let scale = places.and_then(|places| 10_u128.checked_pow(places));
    Ok((tokens, scale.ok_or(QuotaError::TooManyDigits)?))
}

/// The number with these digits behind its own.
fn digits(number: u128, more: &str) -> Option<u128> {
    more.bytes().try_fold(number, |number, digit| {
        number.checked_mul(10)?.checked_add(u128::from(digit - b'0'))
    })
}

/// `tokens / scale` tokens in a period of so many nanoseconds.
fn fraction(tokens: u128, scale: u128, period: u64) -> Result<Rate, QuotaError> {
    if tokens == 0 {
        return Err(QuotaError::NoTokens);
    }
    if period == 0 {
        return Err(QuotaError::NoPeriod);
    }
    // The words stay as they are if they can: 60/min is not made 1/s, but 2.5/s is 5/2s.
    let common = gcd(tokens, scale);
    let (tokens, scale) = (tokens / common, scale / common);
    let period = scale.checked_mul(u128::from(period)).ok_or(QuotaError::TooManyDigits)?;
    if let Some(rate) = in_words(tokens, period) {
        return rate;
    }
    let common = gcd(tokens, period);
    let (tokens, period) = (tokens / common, period / common);
    if let Some(rate) = in_words(tokens, period) {
        return rate;
    }
    // Not even so. Where another reason holds as well, it tells more than that there are too many digits.
    Err(if tokens / period >= u128::from(MAX_PER_NANOSECOND) {
        QuotaError::TooFast
    } else if period / tokens >= u128::from(u64::MAX) {
        QuotaError::PeriodTooLong
    } else {
        QuotaError::TooManyDigits
    })
}

/// The rate in these words, if they fit.
fn in_words(tokens: u128, period: u128) -> Option<Result<Rate, QuotaError>> {
    let (tokens, period) = (u64::try_from(tokens).ok()?, u64::try_from(period).ok()?);
    Some(Rate::checked(tokens, Duration::from_nanos(period)))
}

/// Whether there are digits and nothing else.
fn is_whole(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
