//! What was counted and not timed: how much each contestant let through, of what it should. A row of
//! its own kind, because its figures have no time and no rounds.

use std::fmt;

use serde::Serialize;

use super::measured::Role;

/// A tally and its contestants, in the order in which they were told.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// The crate of ours.
    pub(crate) of: String,
    /// What is admitted.
    pub(crate) shape: String,
    /// At which rate.
    pub(crate) parameter: String,
    /// How much should be.
    pub(crate) allowed: u64,
    /// How much was, and by whom.
    pub(crate) admitted: Vec<Admitted>,
}

/// What a contestant admitted.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) contestant: String,
    pub(crate) role: Role,
    pub(crate) count: u64,
}

/// A contestant of a tally; a row of `target/xtask/bench.jsonl`.
#[derive(Debug, Serialize)]
pub(crate) struct Count<'a> {
    #[serde(rename = "crate")]
    of: &'a str,
    shape: &'a str,
    parameter: &'a str,
    contestant: &'a str,
    role: Role,
    /// How much was admitted.
    admitted: u64,
    /// How much should have been.
    allowed: u64,
    /// How much more that was, as a share: 0.43 is 43 % too much.
    error: f64,
}

impl Tally {
    /// How much more than allowed ours admitted; below zero, less.
    pub(crate) fn excess(&self) -> Option<f64> {
        let ours = self.admitted.iter().find(|admitted| admitted.role == Role::Ours)?;
        Some(ours.count as f64 - self.allowed as f64)
    }

    /// By how large a share too much was admitted.
    fn error(&self, admitted: &Admitted) -> f64 {
        (admitted.count as f64 - self.allowed as f64) / self.allowed as f64
    }

    /// The rows of the record.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Count<'_>> {
        self.admitted.iter().map(|admitted| Count {
            of: &self.of,
            shape: &self.shape,
            parameter: &self.parameter,
            contestant: &admitted.contestant,
            role: admitted.role,
            admitted: admitted.count,
            allowed: self.allowed,
            error: self.error(admitted),
        })
    }
}

/// Everybody's count, with the error, of what was allowed.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = format!("{}: {}", self.shape, self.parameter);
        write!(f, "{:<9} {what:<46}", self.of)?;
        for (place, admitted) in self.admitted.iter().enumerate() {
            let mark = ["", " |"].get(place).unwrap_or(&",");
            write!(f, "{mark} {} {}", admitted.contestant, admitted.count)?;
            match self.error(admitted) * 100.0 {
                0.0 => write!(f, " (exact)")?,
                percent => write!(f, " ({percent:+.2} %)")?,
            }
        }
        write!(f, " | of {}", self.allowed)
    }
}

/// A tally of the tests.
#[cfg(test)]
pub(crate) fn example(allowed: u64, ours: u64, peer: u64) -> Tally {
    let [of, shape, parameter] = ["ratelimit", "admitted in 2 s", "10 a second"].map(str::to_owned);
    let admitted = [("ours", Role::Ours, ours), ("governor", Role::Peer, peer)];
    let admitted = admitted.map(|(contestant, role, count)| {
        let contestant = contestant.to_owned();
        Admitted { contestant, role, count }
    });
    Tally { of, shape, parameter, allowed, admitted: admitted.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_counts_and_errors_and_no_time() {
        let row = example(1_000, 1_000, 1_430).to_string();
        let expected = "ours 1000 (exact) | governor 1430 (+43.00 %) | of 1000";
        assert!(row.ends_with(expected) && !row.contains(" ns"), "{row}");
    }

    #[test]
    fn the_excess_is_ours_and_may_be_below_zero() {
        assert_eq!(example(1_000, 1_001, 2_000).excess(), Some(1.0));
        assert_eq!(example(1_000, 998, 1_000).excess(), Some(-2.0));
    }
}
