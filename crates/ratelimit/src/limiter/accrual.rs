//! How many tokens have come by a time, and when so many will have: exact arithmetic on whole numbers.
//!
//! A rate is a fraction, `tokens` in `period` nanoseconds. What has come after `t` nanoseconds is
//! `t * tokens / period`, rounded down. A division by a number that the compiler does not know is dear,
//! so the fraction is also kept as `multiplier / 2^shift`, where the multiplier has 64 significant bits and
//! is rounded down. What that gives is checked by two multiplications:
//!
//! - **A1** The multiplier's error is below one part in 2^63. So below 2^63 tokens the estimate is
//!   what has come, or one less; never more.
//! - **A2** One more has come exactly if `(estimate + 1) * period <= t * tokens`. Both products fit in
//!   128 bits.
//! - **A3** Each figure is made from the whole time since the beginning, never from the one before: there
//!   is nothing that could drift.
//!
//! An interval of whole nanoseconds between two tokens, which is what a limiter with a theoretical
//! arrival time keeps, is off by up to a nanosecond a token: at 60 million a second (16.67 ns) that
//! is 4 %.
//!
//! Division by an invariant number: Granlund and Montgomery, "Division by invariant integers using
//! multiplication" (PLDI 1994); here the remainder is checked instead of bounded, which takes any time.

use crate::Quota;

/// More than this is never counted: at the highest rate, what comes in 73 years. There is room above it
/// for the burst, and for a bit, in 64.
pub(super) const MOST: u64 = (1 << 63) - (1 << 34);

/// A rate, prepared for use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accrual {
    /// `tokens / period * 2^shift`, rounded down; the highest bit is set.
    multiplier: u64,
    /// At least 61, at most 127.
    shift: u32,
    /// How many tokens come in a period.
    tokens: u64,
    /// In nanoseconds.
    period: u64,
}

impl Accrual {
    /// Prepares the rate of `quota`.
    pub(super) fn new(quota: &Quota) -> Self {
        let tokens = quota.tokens();
        let period = u64::try_from(quota.period().as_nanos()).expect("a quota's period fits");
        // A long division, bit by bit, until there are 64 significant ones.
        let mut multiplier = tokens / period;
        let mut rest = u128::from(tokens % period);
        let mut shift = 0;
        while multiplier < 1 << 63 {
            rest <<= 1;
            multiplier <<= 1;
            if rest >= u128::from(period) {
                rest -= u128::from(period);
                multiplier |= 1;
            }
            shift += 1;
        }
        Self { multiplier, shift, tokens, period }
    }

    /// How many tokens have come after `elapsed` nanoseconds; at most [`MOST`].
    #[inline]
    pub(super) fn earned(&self, elapsed: u64) -> u64 {
        let elapsed = u128::from(elapsed);
        let estimate = (elapsed * u128::from(self.multiplier)) >> self.shift;
        if estimate >= u128::from(MOST) {
            return MOST;
        }
        let next = (estimate + 1) * u128::from(self.period);
        estimate as u64 + u64::from(next <= elapsed * u128::from(self.tokens))
    }

    /// After how many nanoseconds `count` tokens, at most [`MOST`], will have come: the first at which
    /// [`earned`](Self::earned) says so. None if that is beyond the end of the count.
    pub(super) fn due(&self, count: u64) -> Option<u64> {
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
            let quota = Quota::new(tokens, Duration::from_nanos(period));
            let accrual = Accrual::new(&quota);
            prop_assert!(accrual.multiplier >> 63 == 1 && (61..=127).contains(&accrual.shift));
            let exact = u128::from(elapsed) * u128::from(tokens) / u128::from(period);
            prop_assert_eq!(u128::from(accrual.earned(elapsed)), exact.min(u128::from(MOST)));
        }

        #[test]
        fn at_the_very_moment_a_token_has_come_and_a_nanosecond_before_it_has_not(
            (tokens, period) in rate(),
            count in 1..=MOST,
            bits in 0..64_u32,
        ) {
            let accrual = Accrual::new(&Quota::new(tokens, Duration::from_nanos(period)));
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
            let accrual = Accrual::new(&Quota::new(tokens, Duration::from_nanos(period)));
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
    fn whole_seconds_bring_whole_tokens() {
        for tokens in [1, 3, 7, 1_000, 60_000_000, 700_000_000, 3_999_999_999] {
            let accrual = Accrual::new(&Quota::per_second(tokens));
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
