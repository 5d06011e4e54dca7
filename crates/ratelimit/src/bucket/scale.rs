//! How many units a token is, and how many units come in a time: exact arithmetic on whole numbers.
//!
//! A rate is a fraction, `tokens` in `period` nanoseconds, reduced. With `unit` units a token, `tokens * unit / period` units come
//! in a nanosecond. A division by a number that the compiler does not know is dear, so this is kept as `multiplier *
//! 2^3 / 2^(64 + behind)`, where the multiplier has 64 significant bits and is rounded down. So what has come after `t` nanoseconds
//! is a multiplication and two shifts.
//!
//! - **A1** A unit is never early: the multiplier is rounded down, and so is the product.
//! - **A2** It is late by less than 2 nanoseconds in a hundred years. The multiplier's error is below one part in 2^63, which is
//!   a third of a nanosecond in that time; the rest is that of a whole nanosecond.
//! - **A3** For most rates that people write it is not late at all: if `period` is divisible by the power of two that brings
//!   `tokens` below [`FASTEST`], the unit is chosen so that the multiplier is exact. That holds for any whole number below two
//!   thousand in a second, minute or hour, and for one every so often.
//! - **A4** Each figure is made from the whole time since the quota began to hold, never from the one before: there is nothing
//!   that could drift. And the difference of two figures is at most what the rate gives in the time between them, rounded up.
//!
//! An interval of whole nanoseconds between two tokens, which is what a limiter with a theoretical arrival time keeps, is off by up
//! to a nanosecond a token: at 60 million a second (16.67 ns) that is 4 %.
//!
//! Division by an invariant number: Granlund and Montgomery, "Division by invariant integers using multiplication" (PLDI 1994);
//! here the multiplier is rounded down, which takes any time and is late where theirs would be exact, by as much as A2 says.

use crate::Quota;

/// So many units in a nanosecond at most. (The highest rate, with one unit a token.)
const FASTEST: u64 = 4;
/// A burst has so many units at most.
pub(crate) const LARGEST_BURST: u64 = 1 << 55;
/// By how much the time is shifted to the left before it is multiplied, so that the upper half of the product is what is wanted.
const BEFORE: u32 = 3;
/// The longest time that can be told, in nanoseconds: 73 years.
pub(crate) const LONGEST: u64 = u64::MAX >> BEFORE;

/// A rate in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Units a token; zero if there is no limit.
    pub(crate) unit: u64,
    /// Units a nanosecond, `* 2^(61 + behind)`, rounded down; the highest bit is set, unless there is no limit.
    pub(crate) multiplier: u64,
    /// By how much the upper half of the product is shifted to the right; 63 at most.
    pub(crate) behind: u32,
}

impl Scale {
    /// No limit: tokens are worth nothing, and none has to come.
    pub(crate) const UNLIMITED: Self = Self { unit: 0, multiplier: 0, behind: 0 };

    /// The units for a quota.
    pub(crate) fn new(quota: &Quota) -> Self {
        Self::coarse(quota, 0, LARGEST_BURST)
    }

    /// Units that are as many times larger, as a power of two, and of which a burst has `largest` at most.
    pub(crate) fn coarse(quota: &Quota, larger: u32, largest: u64) -> Self {
        let Some((tokens, period)) = quota.rate().fraction() else { return Self::UNLIMITED };
        let most = largest / u64::from(quota.burst_size());
        // Both powers of two: the one that brings the units of a nanosecond below the most, and the one that brings a token's.
        let fast = (0..).find(|by| tokens >> by < FASTEST).expect("zero is below");
        let large = (0..).find(|by| period >> by <= most).expect("zero is below");
        let exact = (fast + larger).max(large);
        let unit = if exact <= period.trailing_zeros() {
            period >> exact
        } else {
            // Between one and two units a nanosecond, if that is possible.
            let unit = (2 * u128::from(period) / u128::from(tokens)) >> larger;
            u64::try_from(unit).unwrap_or(u64::MAX).clamp(1, most)
        };
        Self::of(unit, u128::from(tokens) * u128::from(unit), period)
    }

    /// `units` in `period` nanoseconds.
    fn of(unit: u64, units: u128, period: u64) -> Self {
        let period = u128::from(period);
        // A long division, bit by bit, until there are 64 significant ones: at least the 61 that belong to `behind = 0`.
        let (mut quotient, mut rest) = (units / period, units % period);
        let mut bits = 0;
        while bits < 61 || quotient < 1 << 63 {
            rest <<= 1;
            quotient <<= 1;
            if rest >= period {
                rest -= period;
                quotient |= 1;
            }
            bits += 1;
        }
        let multiplier = u64::try_from(quotient).expect("fewer than eight units a nanosecond");
        Self { unit, multiplier, behind: bits - 61 }
    }

    /// The same units, slower: `numerator / denominator` of the rate, rounded down. Not above one, not zero.
    pub(crate) fn slowed(self, numerator: u32, denominator: u32) -> Self {
        if self.unit == 0 {
            return self;
        }
        let product = u128::from(self.multiplier) * u128::from(numerator);
        let product = (product << 32) / u128::from(denominator);
        let shift = product.leading_zeros();
        let multiplier = ((product << shift) >> 64) as u64;
        // The product has 32 bits behind the point, and stands `64 - shift` above a word.
        let behind = self.behind + 32 + shift - 64;
        match behind {
            0..64 => Self { multiplier, behind, ..self },
            _ => self,
        }
    }

    /// How many units come in `span` nanoseconds, [`LONGEST`] at most.
    #[inline]
    pub(crate) fn earned(self, span: u64) -> u64 {
        earned(span, self.multiplier, self.behind)
    }

    /// After how many nanoseconds so many units will have come, or how long ago, if they are less than nothing: to compare.
    pub(crate) fn roughly_due(self, units: i64) -> f64 {
        if self.multiplier == 0 {
            return 0.0;
        }
        units as f64 * 2.0_f64.powi((61 + self.behind) as i32) / self.multiplier as f64
    }

    /// After how many nanoseconds `units` will have come: the first at which [`earned`](Self::earned) says so. None if
    /// that is more than can be told.
    pub(crate) fn due(self, units: u64) -> Option<u64> {
        due(units, self.multiplier, self.behind)
    }
}

/// See [`Scale::earned`].
#[inline]
pub(crate) fn earned(span: u64, multiplier: u64, behind: u32) -> u64 {
    let product = u128::from(span << BEFORE) * u128::from(multiplier);
    (product >> 64) as u64 >> behind
}

/// See [`Scale::due`].
pub(crate) fn due(units: u64, multiplier: u64, behind: u32) -> Option<u64> {
    if units == 0 {
        return Some(0);
    }
    let multiplier = u128::from(multiplier);
    // In two steps, so that it fits: `units * 2^61 / multiplier`, then what is left of it.
    let dividend = u128::from(units) << (64 - BEFORE);
    let first = dividend.checked_div(multiplier)?;
    let second = (dividend % multiplier) << behind;
    if first.leading_zeros() <= behind {
        return None;
    }
    let due = (first << behind) + second.div_ceil(multiplier);
    u64::try_from(due).ok().filter(|due| *due <= LONGEST)
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::Rate;

    const YEAR: u64 = 365 * 86_400 * 1_000_000_000;

    fn rate() -> impl Strategy<Value = (u64, u64)> {
        let wide = (0..64_u32, any::<u64>()).prop_map(|(bits, any)| (any >> bits).max(1));
        (wide.clone(), wide)
            .prop_map(|(tokens, period)| (tokens.min(period.saturating_mul(4)), period))
    }

    fn quota(tokens: u64, period: u64, burst: u32) -> Quota {
        Rate::new(tokens, Duration::from_nanos(period)).burst(burst)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_unit_is_never_early_and_late_by_less_than_two_nanoseconds_in_a_hundred_years(
            (tokens, period) in rate(),
            burst in 1..=u32::MAX,
            burst_bits in 0..32_u32,
            span in 0..=LONGEST,
            bits in 0..61_u32,
        ) {
            let scale = Scale::new(&quota(tokens, period, (burst >> burst_bits).max(1)));
            prop_assert!(scale.multiplier >> 63 == 1 && scale.behind < 64);
            prop_assert!(scale.unit >= 1 && scale.unit * u64::from((burst >> burst_bits).max(1)) <= LARGEST_BURST);
            let span = (span >> bits).min(100 * YEAR);
            // By a division: what had come two nanoseconds before, and what has come now.
            let exact = |span: u64| {
                let product = u128::from(tokens) * u128::from(scale.unit);
                // 192 bits: in two halves.
                let (whole, rest) = (product / u128::from(period), product % u128::from(period));
                u128::from(span) * whole + u128::from(span) * rest / u128::from(period)
            };
            let earned = u128::from(scale.earned(span));
            prop_assert!(earned <= exact(span), "early");
            prop_assert!(span < 2 || earned >= exact(span - 2), "late");
        }

        #[test]
        fn what_is_due_has_come_then_and_not_before(
            (tokens, period) in rate(),
            burst in 1..=u32::MAX,
            units in 0..1_u64 << 60,
            bits in 0..60_u32,
        ) {
            let scale = Scale::new(&quota(tokens, period, burst));
            let units = units >> bits;
            match scale.due(units) {
                Some(due) => {
                    prop_assert!(scale.earned(due) >= units);
                    prop_assert!(due == 0 || scale.earned(due - 1) < units);
                }
                None => prop_assert!(scale.earned(LONGEST) < units),
            }
        }

        #[test]
        fn what_comes_between_two_moments_is_at_most_what_the_rate_gives_rounded_up(
            (tokens, period) in rate(),
            from in 0..LONGEST / 2,
            span in 0..LONGEST / 2,
            bits in 0..60_u32,
        ) {
            let scale = Scale::new(&quota(tokens, period, 1));
            let (from, span) = (from >> bits, span >> bits);
            let between = scale.earned(from + span) - scale.earned(from);
            let whole = u128::from(tokens) * u128::from(scale.unit);
            let most = (u128::from(span) * (whole / u128::from(period)))
                + (u128::from(span) * (whole % u128::from(period))).div_ceil(u128::from(period));
            prop_assert!(u128::from(between) <= most);
        }

        #[test]
        fn a_slower_one_is_slower_by_as_much_and_never_faster(
            (tokens, period) in rate(),
            numerator in 1..=u32::MAX,
            denominator in 1..=u32::MAX,
        ) {
            let (numerator, denominator) = (numerator.min(denominator), denominator.max(numerator));
            let scale = Scale::new(&quota(tokens, period, 1));
            let slowed = scale.slowed(numerator, denominator);
            // As `multiplier / 2^behind`, both brought to the larger shift.
            let by = slowed.behind - scale.behind;
            prop_assume!(by < 60);
            let before = (u128::from(scale.multiplier) * u128::from(numerator)) << by.min(30) >> by.min(30);
            let after = (u128::from(slowed.multiplier) * u128::from(denominator)) >> by;
            prop_assert!(after <= before, "{after} {before}");
            prop_assert!(before - after <= (before >> 30).max(u128::from(denominator)), "{after} {before}");
        }
    }

    #[test]
    fn what_people_write_is_exact_to_the_nanosecond() {
        let second = 1_000_000_000;
        let written = (1..2_000).map(|tokens| (tokens, second));
        let written = written.chain([(60, 60 * second), (1, 86_400 * second), (7, 3_600 * second)]);
        let written = written.chain([(1_000_000, second), (100_000, second), (60_000_000, second)]);
        for (tokens, period) in written.chain([(700_000_000, second), (4_000_000_000, second)]) {
            let scale = Scale::new(&quota(tokens, period, 1));
            for periods in [1, 2, 3, 1_000] {
                let units = tokens * periods * scale.unit;
                assert_eq!(scale.earned(periods * period), units, "{tokens} in {period}");
                assert_eq!(scale.due(units), Some(periods * period), "{tokens} in {period}");
            }
        }
    }

    #[test]
    fn a_large_burst_has_coarser_units_and_the_same_rate() {
        let hour = 3_600_000_000_000;
        for burst in [1, 5_124_097, u32::MAX] {
            let scale = Scale::new(&quota(1, hour, burst));
            assert!(u64::from(burst) * scale.unit <= LARGEST_BURST);
            assert!(scale.earned(1_000 * hour).abs_diff(1_000 * scale.unit) <= 1);
        }
        let slowest = Scale::new(&quota(1, u64::MAX, u32::MAX));
        assert_eq!(
            (slowest.earned(LONGEST) < slowest.unit, slowest.due(slowest.unit)),
            (true, None)
        );
    }

    #[test]
    fn without_a_limit_nothing_has_to_come() {
        let scale = Scale::new(&Rate::UNLIMITED.burst(1));
        assert_eq!(
            (scale.unit, scale.earned(LONGEST), scale.due(0), scale.due(1)),
            (0, 0, Some(0), None)
        );
        assert_eq!(scale.slowed(1, 2), scale);
    }
}
