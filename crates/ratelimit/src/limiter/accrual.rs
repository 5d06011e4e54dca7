//! How many tokens have come by a time, and when so many will have: exact arithmetic on whole numbers.
//!
//! A rate is a fraction, `tokens` in `period` nanoseconds. What has come after `t` nanoseconds is
//! `t * tokens / period`, rounded down. A division by a number that the compiler does not know is dear,
//! so the fraction is also kept as `multiplier / 2^shift`, where the multiplier has 64 significant bits and
//! is rounded down. What that gives is checked by two multiplications:
//!
//! - **A1** The multiplier's error is below one part in 2^63. So below 2^63 tokens the estimate is
//!   what has come, or one less; never more.
//! - **A2** One more has come exactly if the rest, `t * tokens - estimate * period`, is `period` or more. By
//!   A1 the rest is below `2 * period`, so with a period below 2^63 it fits in 64 bits, and is right
//!   although each of the two products may not fit: the difference modulo 2^64 is the difference.
//! - **A3** Where A1 or A2 does not hold (at the end of the count, or with a period of 292 years and more)
//!   there is a division.
//! - **A4** Each figure is made from the whole time since the beginning, never from the one before: there
//!   is nothing that could drift.
//!
//! An interval of whole nanoseconds between two tokens, which is what a limiter with a theoretical
//! arrival time keeps, is off by up to a nanosecond a token: at 60 million a second (16.67 ns) that
//! is 4 %.
//!
//! Division by an invariant number: Granlund and Montgomery, "Division by invariant integers using
//! multiplication" (PLDI 1994); here the remainder is checked instead of bounded, which takes any time.

use crate::{Quota, Rate};

/// More than this is never counted: at the highest rate, what comes in 73 years. There is room above it
/// for the burst, and for a bit, in 64.
pub(super) const MOST: u64 = (1 << 63) - (1 << 34);

/// A rate, prepared for use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accrual {
    /// `tokens / period * 2^shift`, rounded down; the highest bit is set.
    multiplier: u64,
    /// By how much the time is shifted to the left before it is multiplied, 3 at most, and the upper
    /// half of the product to the right behind: the shift less 64, in two halves.
    before: u32,
    /// As above; 63 at most.
    behind: u32,
    /// How many tokens come in a period.
    tokens: u64,
    /// In nanoseconds.
    period: u64,
    /// Up to this time, in nanoseconds, A1 and A2 hold.
    until: u64,
}

impl Accrual {
    /// Prepares the rate of `quota`.
    pub(super) fn new(quota: &Quota) -> Self {
        let rate = match quota.rate() {
            rate if rate.is_unlimited() => Rate::per_second(Rate::MAX_PER_SECOND),
            rate => rate,
        };
        let tokens = rate.tokens();
        let period = u64::try_from(rate.period().as_nanos()).expect("a rate's period fits");
        // A long division, bit by bit, until there are 64 significant ones.
        let mut multiplier = tokens / period;
        let mut rest = u128::from(tokens % period);
        let mut shift = 0_u32;
        while multiplier < 1 << 63 {
            rest <<= 1;
            multiplier <<= 1;
            if rest >= u128::from(period) {
                rest -= u128::from(period);
                multiplier |= 1;
            }
            shift += 1;
        }
        let (before, behind) = (64_u32.saturating_sub(shift), shift.saturating_sub(64));
        let mut this = Self { multiplier, before, behind, tokens, period, until: 0 };
        if period < 1 << 63 {
            let end = this.due(MOST).unwrap_or(u64::MAX);
            this.until = (end - 1).min(u64::MAX >> before);
        }
        this
    }

    /// How many tokens have come after `elapsed` nanoseconds; at most [`MOST`].
    #[inline]
    pub(super) fn earned(&self, elapsed: u64) -> u64 {
        if elapsed > self.until {
            return self.divided(elapsed);
        }
        let product = u128::from(elapsed << self.before) * u128::from(self.multiplier);
        let estimate = (product >> 64) as u64 >> self.behind;
        let rest =
            elapsed.wrapping_mul(self.tokens).wrapping_sub(estimate.wrapping_mul(self.period));
        if rest >= self.period { Self::one_more(estimate) } else { estimate }
    }

    /// The estimate was one too low, which is rare: a branch, so that whoever wants the figure need not
    /// wait for the check.
    #[cold]
    fn one_more(estimate: u64) -> u64 {
        estimate + 1
    }

    /// [`earned`](Self::earned) by a division.
    #[cold]
    fn divided(&self, elapsed: u64) -> u64 {
        let earned = u128::from(elapsed) * u128::from(self.tokens) / u128::from(self.period);
        u64::try_from(earned).map_or(MOST, |earned| earned.min(MOST))
    }

    /// After how many nanoseconds `count` tokens will have come: the first at which
    /// [`earned`](Self::earned) says so. None if that is beyond the end of the count.
    pub(super) fn due(&self, count: u64) -> Option<u64> {
        if count > MOST {
            return None;
        }
        let due = u128::from(count) * u128::from(self.period);
        u64::try_from(due.div_ceil(u128::from(self.tokens))).ok()
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn rate() -> impl Strategy<Value = (u64, u64)> {
        let wide = (0..64_u32, any::<u64>()).prop_map(|(bits, any)| (any >> bits).max(1));
        (wide.clone(), wide)
            .prop_map(|(tokens, period)| (tokens.min(period.saturating_mul(4)), period))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn as_many_tokens_have_come_as_a_division_says((tokens, period) in rate(), elapsed: u64) {
            let quota = Rate::new(tokens, Duration::from_nanos(period)).burst(1);
            let accrual = Accrual::new(&quota);
            prop_assert!(accrual.multiplier >> 63 == 1);
            prop_assert!(accrual.before <= 3 && accrual.behind <= 63);
            let exact = u128::from(elapsed) * u128::from(tokens) / u128::from(period);
            prop_assert_eq!(u128::from(accrual.earned(elapsed)), exact.min(u128::from(MOST)));
        }

        #[test]
        fn at_the_very_moment_a_token_has_come_and_a_nanosecond_before_it_has_not(
            (tokens, period) in rate(),
            count in 1..=MOST,
            bits in 0..64_u32,
        ) {
            let accrual = Accrual::new(&Rate::new(tokens, Duration::from_nanos(period)).burst(1));
            let count = (count >> bits).max(1);
            if let Some(due) = accrual.due(count) {
                prop_assert!(accrual.earned(due) >= count && accrual.earned(due - 1) < count);
            }
        }

        #[test]
        fn what_is_due_has_come_then_and_not_before(
            (tokens, period) in rate(),
            count in 0..=MOST,
            bits in 0..64_u32,
        ) {
            let accrual = Accrual::new(&Rate::new(tokens, Duration::from_nanos(period)).burst(1));
            let count = count >> bits;
            match accrual.due(count) {
                Some(due) => {
                    prop_assert!(accrual.earned(due) >= count);
                    prop_assert!(due == 0 || accrual.earned(due - 1) < count);
                }
                None => prop_assert!(accrual.earned(u64::MAX) < count),
            }
        }
    }

    #[test]
    fn the_longest_periods_and_the_end_of_the_count_are_divided() {
        for (tokens, period) in
            [(3, u64::MAX), (7, (1 << 63) + 1), (1, 1 << 63), (5, (1 << 63) - 1)]
        {
            let accrual = Accrual::new(&Rate::new(tokens, Duration::from_nanos(period)).burst(1));
            assert_eq!(accrual.until == 0, period >= 1 << 63);
            for elapsed in [0, 1, period / tokens, period - 1, period, u64::MAX - 1, u64::MAX] {
                let exact = u128::from(elapsed) * u128::from(tokens) / u128::from(period);
                assert_eq!(u128::from(accrual.earned(elapsed)), exact);
            }
        }
        let fastest = Accrual::new(&Rate::per_second(4_000_000_000).burst(1));
        let end = MOST.div_ceil(4);
        for elapsed in [fastest.until, fastest.until + 1, end - 1] {
            assert_eq!(fastest.earned(elapsed), 4 * elapsed);
        }
        assert_eq!([fastest.earned(end), fastest.earned(u64::MAX)], [MOST; 2]);
        assert_eq!([fastest.due(MOST), fastest.due(MOST + 1)], [Some(end), None]);
    }

    #[test]
    fn whole_seconds_bring_whole_tokens() {
        for tokens in [1, 3, 7, 1_000, 60_000_000, 700_000_000, 3_999_999_999] {
            let accrual = Accrual::new(&Rate::per_second(tokens).burst(1));
            for seconds in [1, 2, 3, 86_400, 2_000_000_000_u64] {
                let nanos = seconds * 1_000_000_000;
                assert_eq!(accrual.earned(nanos), tokens * seconds);
                assert_eq!(
                    accrual.earned(nanos - 1),
                    tokens * seconds - 1.max(tokens.div_ceil(1_000_000_000))
                );
                assert_eq!(accrual.due(tokens * seconds), Some(nanos));
            }
        }
    }
}
