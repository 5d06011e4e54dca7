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
//! A receipt outlives changes of the quota, at which `granted` and its units begin anew. So it is not in units but in *measures*: units of
//! the first quota that had a limit, with [`POINT`] bits behind the point. A change goes on where it found the count, so that the
//! deficit is the same number of tokens before and after it.

use crate::bucket::course::Piece;

/// As many bits are behind the point of a measure.
const POINT: u32 = 64;

/// What a refund has to know of the grant, in measures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Receipt {
    /// How much was granted in all, with this.
    granted: i128,
    /// How much had been given back in all.
    refunded: i128,
}

/// What was given back, and how units are measured.
#[derive(Debug, Default)]
pub(super) struct Refunds {
    /// Units a token of the first quota that had a limit; zero before that.
    reference: u64,
    /// Where `granted` stood when the quota began to hold.
    start: u64,
    /// The measure of that.
    measured: i128,
    /// Units a token of the quota that holds.
    unit: u64,
    /// How much was given back in all.
    total: i128,
    /// How much had been when the refunds began that came from ever older grants, up to the last.
    backwards: i128,
    /// The number of the grant that gave back last: what had ever been granted then.
    last: i128,
}

impl Refunds {
    /// Nothing given back yet, and `granted` stands at `start`.
    pub(super) fn new(unit: u64, start: u64) -> Self {
        Self { reference: unit, unit, start, ..Self::default() }
    }

    /// The quota changes: where `granted` was at `old`, it begins at `new`, with so many units a token.
    pub(super) fn change(&mut self, old: u64, new: u64, unit: u64) {
        self.measured = self.measure(old, false);
        if self.reference == 0 {
            self.reference = unit;
        }
        (self.start, self.unit) = (new, unit);
    }

    /// So many units in measures, rounded down, or up.
    fn measure(&self, granted: u64, up: bool) -> i128 {
        let ahead = i128::from(granted) - i128::from(self.start);
        // What is without a limit leads nowhere.
        let ahead = match self.unit {
            0 => 0,
            unit if unit == self.reference => ahead << POINT,
            unit => {
                // The parts before and behind the point, so that it fits.
                let (unit, reference) = (i128::from(unit), i128::from(self.reference));
                let whole = ahead.div_euclid(unit) * reference;
                let rest = ahead.rem_euclid(unit) * reference;
                let behind = ((rest.rem_euclid(unit)) << POINT) / unit;
                ((whole + rest / unit) << POINT) + behind + i128::from(up)
            }
        };
        self.measured + ahead
    }

    /// So many measures in units, rounded down.
    fn units(&self, measures: i128) -> u64 {
        let Ok(measures) = u128::try_from(measures) else { return 0 };
        if self.reference == 0 {
            return 0;
        }
        let (unit, reference) = (u128::from(self.unit), u128::from(self.reference));
        let whole = measures >> POINT;
        let units = whole / reference * unit + whole % reference * unit / reference;
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// The receipt of a grant with which so much was granted in all.
    pub(super) fn receipt(&self, granted: u64) -> Receipt {
        Receipt { granted: self.measure(granted, false), refunded: self.total }
    }

    /// How many units of `receipt` are above what had been earned at the horizon, and so may go back. Notes that it gives back now.
    pub(super) fn above(&mut self, receipt: Receipt, horizon: u64) -> u64 {
        let older = self.given_back_by_older(receipt);
        self.units(receipt.granted - older - self.measure(horizon, true))
    }

    /// At most what grants older than `receipt` have given back since; notes that it gives back now.
    fn given_back_by_older(&mut self, receipt: Receipt) -> i128 {
        let number = receipt.granted + receipt.refunded;
        let backwards = number < self.last;
        self.last = number;
        if !backwards {
            self.backwards = self.total;
        }
        let since = self.total - receipt.refunded;
        let run = self.total - self.backwards;
        if backwards && since <= run { 0 } else { since }
    }

    /// So many units went back of grants that nobody knows the place of.
    pub(super) fn took_back(&mut self, units: u64) {
        self.gave_back(units);
        // Older than whatever gives back next.
        self.last = i128::MIN;
    }

    /// So many units went back.
    pub(super) fn gave_back(&mut self, units: u64) {
        let end = self.start.saturating_add(units);
        self.total += self.measure(end, true) - self.measured;
    }
}

/// How many units of a quota a deficit of another is, rounded up. A bucket without a limit is full.
pub(super) fn deficit_in(old: &Piece, deficit: i128, unit: u64) -> i128 {
    match old.scale.unit {
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

    /// One unit a token, and measures that are easily read.
    fn refunds() -> Refunds {
        Refunds::new(1, 0)
    }

    fn whole(measures: i128) -> i128 {
        measures >> POINT
    }

    #[test]
    fn what_older_grants_gave_back_counts_and_what_newer_ones_did_does_not() {
        let mut refunds = refunds();
        let first = refunds.receipt(5);
        refunds.gave_back(1);
        assert_eq!(whole(refunds.given_back_by_older(first)), 1);
        let newer = refunds.receipt(9);
        let older = refunds.receipt(7);
        refunds.gave_back(3);
        // Nobody gave back before it that is newer: everything since its grant counts.
        assert_eq!(whole(refunds.given_back_by_older(newer)), 3);
        // An older one, after the newer: of what was given back since, what the newer did does not.
        refunds.gave_back(2);
        assert_eq!(whole(refunds.given_back_by_older(older)), 5);
    }

    #[test]
    fn refunds_from_the_newest_on_hold_nothing_back() {
        let mut refunds = refunds();
        let receipts = [3, 6, 9].map(|granted| refunds.receipt(granted));
        for receipt in receipts.into_iter().rev() {
            assert_eq!(refunds.above(receipt, 0), receipt.granted as u64 as u128 as u64 + refunds.units(receipt.granted));
            refunds.gave_back(3);
        }
    }

    #[test]
    fn a_receipt_outlives_changes_of_the_unit() {
        let mut refunds = Refunds::new(1_000, BEGINNING);
        let receipt = refunds.receipt(BEGINNING + 5_000);
        for (unit, granted) in [(3, 7), (1 << 55, 1 << 58), (0, 5), (1_000, 0)] {
            let at = match refunds.unit {
                1_000 => BEGINNING + 5_000,
                _ => refunds.start,
            };
            refunds.change(at, granted, unit);
        }
        // Five tokens above where it began; the horizon is two tokens below where it is now.
        refunds.start = 10_000;
        let above = refunds.above(receipt, 8_000);
        assert!((1_999..=2_000).contains(&above), "{above}");
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
        let large = deficit_in(&piece(1), 1 << 58, 1 << 55);
        assert_eq!(large, 1 << 113);
    }
}
