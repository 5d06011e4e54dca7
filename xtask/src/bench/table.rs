//! What people read: a row a shape, and a row a bar.

use std::fmt;

use super::bars::Verdict;
use super::measured::{Measured, Role};
use super::statistics::Spread;

/// A cache line that takes longer than this many nanoseconds from one core to another waited for a thread
/// to be run.
const ONE_CORE: f64 = 500.0;

/// A shape as one row: ours, the ratio to the best peer with its quartiles, everybody's time, our
/// allocations, and what a cache line cost meanwhile.
pub(crate) struct Row<'a>(pub(crate) &'a Measured);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(row) = self;
        let what = format!("{}: {}", row.shape, row.parameter);
        write!(f, "{:<9} {what:<46}", row.of)?;
        let Some(ours) = row.ours() else { return write!(f, " no figures") };
        let median = ours.spread().map_or(f64::NAN, |spread| spread.median);
        write!(f, " ours {:>9}", time(median))?;
        if let Some(best) = row.best_peer()
            && let Some(ratio) = row.ratio_to(best)
        {
            write!(f, " = {} of {}", ratio_of(ratio), best.name)?;
        }
        for (mark, role) in [(" | ", Role::Peer), (" | (", Role::Reference)] {
            let mut sign = mark;
            for contestant in row.contestants.iter().filter(|who| who.role == Some(role)) {
                let median = contestant.spread().map_or(f64::NAN, |spread| spread.median);
                write!(f, "{sign}{} {}", contestant.name, time(median))?;
                sign = ", ";
            }
            if role == Role::Reference && sign == ", " {
                write!(f, ")")?;
            }
        }
        write!(f, " | {} allocs", short(ours.allocations))?;
        if let Some(line) = Spread::of(row.ping_pong_ns.iter().copied()) {
            write!(f, " | line {:.0} ns ({:.0}-{:.0})", line.median, line.min, line.max)?;
            if line.median > ONE_CORE {
                f.write_str(", a core was not to be had")?;
            }
        }
        Ok(())
    }
}

/// A bar and what became of it.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.holds {
            Some(true) => "held",
            Some(false) => "MISSED",
            None => "unmeasured",
        };
        let what = format!("{}: {}", self.shape, self.parameter);
        write!(f, "{word:<10} {:<9} {what:<46} {:<28}", self.of, self.peer)?;
        match (self.ratio, &self.unmeasured) {
            (Some(ratio), _) => write!(f, " {} (at most {})", short(ratio), short(self.bar)),
            (None, Some(why)) => write!(f, " (at most {}) {why}", short(self.bar)),
            (None, None) => write!(f, " (at most {})", short(self.bar)),
        }
    }
}

/// `0.52 (0.50-0.55)`: the median and the quartiles.
fn ratio_of(ratio: Spread) -> String {
    format!("{} ({}-{})", short(ratio.median), short(ratio.lower), short(ratio.upper))
}

/// A time to three digits, in the unit that fits.
pub(crate) fn time(ns: f64) -> String {
    match ns {
        _ if !ns.is_finite() => "?".to_owned(),
        _ if ns < 1e3 => format!("{} ns", short(ns)),
        _ if ns < 1e6 => format!("{} us", short(ns / 1e3)),
        _ if ns < 1e9 => format!("{} ms", short(ns / 1e6)),
        _ => format!("{} s", short(ns / 1e9)),
    }
}

/// A number to about three digits.
fn short(number: f64) -> String {
    match number {
        _ if number == 0.0 => "0".to_owned(),
        _ if number < 0.0995 => format!("{number:.3}"),
        _ if number < 9.995 => format!("{number:.2}"),
        _ if number < 99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::measured::example;
    use super::*;

    #[test]
    fn a_row_has_the_ratio_to_the_best_peer_with_quartiles() {
        let measured = example(
            &[2.0, 4.0, 2.0],
            &[
                ("tokio", Role::Peer, &[4.0, 8.0, 4.0]),
                ("slow", Role::Peer, &[400.0, 800.0, 4_000.0]),
                ("floor", Role::Reference, &[1.0, 1.0, 1.0]),
            ],
        );
        let row = Row(&measured).to_string();
        assert!(row.contains("ours   2.00 ns = 0.50 (0.50-0.50) of tokio"), "{row}");
        assert!(row.contains("| tokio 4.00 ns, slow 800 ns | (floor 1.00 ns)"), "{row}");
        assert!(row.ends_with("| 0 allocs | line 60 ns (60-60)"), "{row}");
    }

    #[test]
    fn a_verdict_says_what_was_asked_and_what_came() {
        let mut verdict = Verdict {
            of: "cancel".into(),
            shape: "child".into(),
            parameter: "1 thread".into(),
            peer: "tokio-util".into(),
            ratio: Some(0.62),
            bar: 0.5,
            holds: Some(false),
            unmeasured: None,
        };
        let row = verdict.to_string();
        assert!(row.starts_with("MISSED") && row.ends_with("0.62 (at most 0.50)"), "{row}");
        (verdict.ratio, verdict.holds) = (None, None);
        verdict.unmeasured = Some("no shape yet".into());
        let row = verdict.to_string();
        assert!(row.starts_with("unmeasured") && row.ends_with("no shape yet"), "{row}");
    }

    #[test]
    fn times_have_three_digits_and_their_unit() {
        assert_eq!(time(0.534), "0.53 ns");
        assert_eq!(time(12.34), "12.3 ns");
        assert_eq!(time(1_234.0), "1.23 us");
        assert_eq!(time(43_210_000.0), "43.2 ms");
        assert_eq!(time(f64::NAN), "?");
    }
}
