//! What may go back of tokens that were granted and not used.
//!
//! A token that is given back long after it was granted may be one that would be beyond the burst by now, had it never been
//! granted; to give it to somebody beside a full bucket would be too much. So a grant keeps its [`Receipt`]: how much was granted
//! in all, it included. At a refund no more goes back than that is above what had been earned at the horizon, less what *older*
//! grants gave back since. Then what is used in a span of time that begins at `s` and ends at `e` is at most the burst and
//! what came from the horizon of `s` to `e`, with refunds as without. Count `N`, all that was ever granted (or gone beyond the
//! burst), and `R`, all that was ever given back; the word has `N - R`.
//!
//! - Without refunds, what is used is at most `granted(e) - granted(s)`, with `granted(e) <= earned(e) + burst` and `granted(s) >=
//!   earned(horizon of s)`, since a take raises it to that. A refund in the span of a grant in the span takes away what was not
//!   used. So it remains to be shown that what grants before `s` give back in the span is at most `granted(s) - earned(horizon
//!   of s)`.
//! - Take those grants from the oldest on: the first `j` of them give back at most `N_j` less what was given back before `s` by
//!   older ones, less `earned(horizon of s)`, or nothing if that is below zero. For the first, that is the rule. From one to the
//!   next, `N` grows by the next one's tokens, and by those of the grants between them, which gave back no more than they
//!   had.
//! - `granted(s) = N(s) - R(s)`, and what was granted behind the newest of them gave back no more than it had: so `granted(s)` is at
//!   least the `N_j` of the newest less what older ones gave back before `s`.
//!
//! What older grants gave back is not known of each pair, but where all who gave back since did so from the newest on, and so does
//! this one, it is nothing; else everything since the grant counts, which is never too little. Nothing is held back within the
//! catch-up of the time at which the tokens had come, but for that.
//!
//! # Measure
//!
//! A receipt outlives changes of the quota, at which `granted` and its units begin anew. So it is not only in units but also in *measures*:
//! tokens, with [`POINT`] bits behind the point. A change goes on where it found the count, so that the deficit is the same number of tokens before
//! and after it. As long as the quota is the one of the grant, units tell, exactly.

use crate::bucket::course::Piece;

/// As many bits are behind the point of a measure.
///
/// Before the clock ends less than 2^66 tokens come, at four a nanosecond; and no unit is smaller than a token's 2^56th.
const POINT: u32 = 60;

/// What a refund has to know of the grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Receipt {
    /// How many units were granted in all, with this, since a token is as many.
    granted: i128,
    /// Which time that is.
    epoch: u64,
    /// The same as a measure.
    measured: i128,
    /// How much had been given back in all, as a measure.
    refunded: i128,
}

/// What was given back, and how units are measured.
#[derive(Debug, Default)]
pub(super) struct Refunds {
    /// Units a token; zero without a limit.
    unit: u64,
    /// The number of the time since a token is as many.
    epoch: u64,
    /// Where `granted` stood when the piece of the course began.
    start: u64,
    /// How many units were granted then, since a token is as many.
    counted: i128,
    /// The measure of that.
    measured: i128,
    /// How much was given back in all, as the next two a measure.
    total: i128,
    /// How much had been when the refunds began that came from ever older grants, up to the last.
    backwards: i128,
    /// The number of the grant that gave back last: what had ever been granted then.
    last: i128,
}

impl Refunds {
    /// Nothing given back yet, and `granted` stands at `start`.
    pub(super) fn new(unit: u64, start: u64) -> Self {
        Self { unit, start, ..Self::default() }
    }

    /// Where `granted` stood when the piece of the course began.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The course bends: where `granted` was at `old`, it goes on at `new`, with so many units a token.
    pub(super) fn change(&mut self, old: u64, new: u64, unit: u64) {
        (self.counted, self.measured) = (self.count(old), self.measure(old));
        if unit != self.unit {
            (self.unit, self.epoch, self.counted) = (unit, self.epoch + 1, 0);
        }
        self.start = new;
    }

    /// So much granted, in units since a token is as many.
    fn count(&self, granted: u64) -> i128 {
        self.counted + i128::from(granted) - i128::from(self.start)
    }

    /// So much granted as a measure, rounded down.
    fn measure(&self, granted: u64) -> i128 {
        self.measured + measure(i128::from(granted) - i128::from(self.start), self.unit)
    }

    /// The receipt of a grant with which so much was granted in all.
    pub(super) fn receipt(&self, granted: u64) -> Receipt {
        let (epoch, measured, refunded) = (self.epoch, self.measure(granted), self.total);
        Receipt { granted: self.count(granted), epoch, measured, refunded }
    }

    /// How many units of `receipt` are above what had been earned at the horizon, and so may go back. Notes that it gives back now.
    pub(super) fn above(&mut self, receipt: Receipt, horizon: u64) -> u64 {
        let granted = match receipt.epoch == self.epoch {
            true => receipt.granted,
            false => self.counted + units(receipt.measured - self.measured, self.unit),
        };
        // Rounded down: what went back is whole units, and was rounded up when it was measured.
        let older = units(self.given_back_by_older(receipt), self.unit);
        u64::try_from(granted - older - self.count(horizon)).unwrap_or(0)
    }

    /// At most what grants older than `receipt` have given back since; notes that it gives back now.
    fn given_back_by_older(&mut self, receipt: Receipt) -> i128 {
        let number = receipt.measured + receipt.refunded;
        let backwards = number < self.last;
        self.last = number;
        if !backwards {
            self.backwards = self.total;
        }
        let since = self.total - receipt.refunded;
        let run = self.total - self.backwards;
        if backwards && since <= run { 0 } else { since }
    }

    /// So many units went back.
    pub(super) fn gave_back(&mut self, units: u64) {
        self.total -= measure(-i128::from(units), self.unit);
    }
}

/// So many units as a measure, rounded down. What is without a limit is nothing.
fn measure(units: i128, unit: u64) -> i128 {
    if unit == 0 {
        return 0;
    }
    let unit = i128::from(unit);
    // A unit is below 2^56, so there are as many bits for the part.
    (units.div_euclid(unit) << POINT) + (units.rem_euclid(unit) << POINT) / unit
}

/// A measure in units, rounded down.
fn units(measure: i128, unit: u64) -> i128 {
    let (tokens, part) = (measure >> POINT, measure & ((1 << POINT) - 1));
    let part = (part * i128::from(unit)) >> POINT;
    tokens.saturating_mul(unit.into()).saturating_add(part)
}

/// How many units a deficit is that is so many of another piece, rounded up. A bucket without a limit is full.
pub(super) fn deficit_in(old: &Piece, deficit: i128, unit: u64) -> i128 {
    deficit_between(old.scale.unit, deficit, unit)
}

/// The same, where a token was `old` units and is `unit` now.
pub(crate) fn deficit_between(old: u64, deficit: i128, unit: u64) -> i128 {
    match old {
        0 => 0,
        same if same == unit => deficit,
        other => {
            let (unit, other) = (i128::from(unit), i128::from(other));
            // The parts apart, so that it fits; rounded up, which for what is below zero is towards zero.
            let (whole, rest) = (deficit.div_euclid(other), deficit.rem_euclid(other));
            whole * unit + (rest * unit + other - 1) / other
        }
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;
    use crate::Rate;
    use crate::bucket::course::BEGINNING;
    use crate::bucket::scale::Scale;

    #[test]
    fn what_older_grants_gave_back_counts_and_what_newer_ones_did_does_not() {
        let mut refunds = Refunds::new(1, 0);
        let first = refunds.receipt(5);
        refunds.gave_back(1);
        assert_eq!(refunds.above(first, 0), 5 - 1);
        let newer = refunds.receipt(9);
        let older = refunds.receipt(7);
        refunds.gave_back(3);
        // Nobody gave back before it that is newer: everything since its grant counts.
        assert_eq!(refunds.above(newer, 0), 9 - 3);
        // An older one, after the newer: of what was given back since, what the newer did does not.
        refunds.gave_back(2);
        assert_eq!(refunds.above(older, 0), 7 - 5);
    }

    #[test]
    fn refunds_from_the_newest_on_hold_nothing_back() {
        let mut refunds = Refunds::new(10, 0);
        let receipts = [30, 60, 90].map(|granted| refunds.receipt(granted));
        for receipt in receipts.into_iter().rev() {
            assert_eq!(i128::from(refunds.above(receipt, 7)), receipt.granted - 7);
            refunds.gave_back(30);
        }
    }

    #[test]
    fn a_receipt_outlives_changes_of_the_unit() {
        for first in [1, 1_000, 86_400_000_000_000, 1 << 55] {
            let mut refunds = Refunds::new(first, BEGINNING);
            let granted = BEGINNING.saturating_add(5 * first);
            let receipt = refunds.receipt(granted);
            let mut at = granted;
            for (unit, start) in [(3, 7), (1 << 55, 1 << 58), (0, 5), (1_000, 1 << 20)] {
                refunds.change(at, start, unit);
                at = start;
            }
            // It was the last, so it is where the quota begins: two tokens above a horizon that is as far below.
            let above = refunds.above(receipt, (1 << 20) - 2_000);
            assert!((1_999..=2_000).contains(&above), "{above}");
        }
    }

    #[test]
    fn many_tokens_of_a_slow_rate_are_measured() {
        let day = 86_400_000_000_000;
        let mut refunds = Refunds::new(day, BEGINNING);
        refunds.change(BEGINNING, BEGINNING, 1_000_000);
        let receipt = refunds.receipt(BEGINNING + 100_000_000);
        // A quarter of a million tokens later.
        let horizon = BEGINNING + 250_000 * 1_000_000;
        refunds.change(horizon, horizon + 1, 1_000_000);
        assert_eq!(refunds.above(receipt, horizon), 0);
    }

    #[test]
    fn a_deficit_is_rounded_up_in_other_units() {
        let piece = |unit| Piece {
            scale: Scale { unit, ..Scale::new(&Rate::per_second(1).burst(1)) },
            ..Piece::new(Scale::UNLIMITED, 1, 0)
        };
        assert_eq!(deficit_in(&piece(10), 25, 4), 10);
        assert_eq!(deficit_in(&piece(10), 26, 4), 11);
        assert_eq!(deficit_in(&piece(10), -26, 4), -10);
        assert_eq!(deficit_in(&piece(10), 26, 10), 26);
        assert_eq!(deficit_in(&piece(0), 26, 10), 0);
        assert_eq!(deficit_in(&piece(1), 1 << 58, 1 << 55), 1 << 113);
    }
}
