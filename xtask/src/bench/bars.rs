//! The bars of `benches/bars.toml`: what the project promises of its speed, and whether it holds.
//!
//! A bar is on the ratio of our time to a contestant's (`peer`), on our allocations, on our time in
//! nanoseconds, or on what we admitted above what was allowed. One whose shape has not been written yet stands in the file all the same, with
//! `unmeasured` saying what is missing, and is printed with the others.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::measured::{Measured, Told};
use super::statistics::geometric_mean;
use crate::workspace::Workspace;

/// The peer of a bar that is on the best of a shape's peers, whoever that is.
const BEST: &str = "best peer";

/// The file.
#[derive(Debug, Deserialize)]
struct File {
    bar: Vec<Bar>,
}

/// A promise.
#[derive(Debug, Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bar {
    /// The crate of ours.
    #[serde(rename = "crate")]
    pub(crate) of: String,
    /// What is done.
    pub(crate) shape: String,
    /// How much, by how many; with none, the geometric mean over all parameters of the shape and of
    /// the shapes in `and`.
    #[serde(default)]
    pub(crate) parameter: Option<String>,
    /// More shapes of a geometric mean.
    #[serde(default)]
    and: Vec<String>,
    /// Compared with whom: a contestant, or `best peer`.
    #[serde(default)]
    peer: Option<String>,
    /// What the bar is on.
    #[serde(default)]
    on: On,
    /// The most that holds.
    at_most: f64,
    /// Why nothing can be said yet.
    #[serde(default)]
    unmeasured: Option<String>,
}

/// The figure that a bar is on.
#[derive(Debug, Deserialize, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum On {
    /// Our time by the peer's.
    #[default]
    Time,
    /// Our allocations an operation.
    Allocations,
    /// Our nanoseconds an operation.
    Nanoseconds,
    /// What a tally counted of ours above what is allowed.
    Excess,
}

/// What became of a bar; a row of `target/xtask/bench.jsonl`.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct Verdict {
    #[serde(rename = "crate")]
    pub(crate) of: String,
    pub(crate) shape: String,
    pub(crate) parameter: String,
    pub(crate) peer: String,
    /// None where it was not measured.
    pub(crate) ratio: Option<f64>,
    pub(crate) bar: f64,
    /// None where it was not measured.
    pub(crate) holds: Option<bool>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unmeasured: Option<String>,
}

/// Reads the bars.
pub(crate) fn read(workspace: &Workspace) -> Result<Vec<Bar>> {
    let path = workspace.root.join("benches").join("bars.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("{} not read", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Bar>> {
    let file: File = toml::from_str(text)?;
    for bar in &file.bar {
        let Bar { of, shape, .. } = bar;
        let place = format!("the bar on {of}: {shape}");
        ensure!(bar.at_most.is_finite() && bar.at_most >= 0.0, "{place}: `at_most` is no bar");
        if bar.on == On::Time {
            ensure!(bar.peer.is_some(), "{place}: a bar on time names its `peer`");
        } else {
            ensure!(bar.parameter.is_some(), "{place}: a mean is of ratios; name the `parameter`");
            ensure!(bar.peer.is_none(), "{place}: only a bar on time has a `peer`");
        }
    }
    Ok(file.bar)
}

impl Bar {
    /// Holds the bar against what was measured. A shape, a parameter or a contestant that is not
    /// there is an error unless `partial` says that not everything was run.
    pub(crate) fn judge(&self, told: &Told, partial: bool) -> Result<Verdict> {
        let found: Result<f64> = match &self.unmeasured {
            Some(why) => return Ok(self.verdict(None, Some(why.clone()))),
            None => match &self.parameter {
                Some(parameter) if self.on == On::Excess => self.excess(told, parameter),
                Some(parameter) => self.figure(&told.measured, parameter),
                None => self.mean(&told.measured),
            },
        };
        match found {
            Ok(figure) => Ok(self.verdict(Some(figure), None)),
            Err(error) if partial => Ok(self.verdict(None, Some(format!("{error:#}")))),
            Err(error) => Err(error),
        }
    }

    fn figure(&self, measured: &[Measured], parameter: &str) -> Result<f64> {
        let place = format!("{}: {}, {parameter}", self.of, self.shape);
        let found = measured
            .iter()
            .find(|row| row.of == self.of && row.shape == self.shape && row.parameter == parameter);
        let Some(row) = found else { bail!("{place} was not run") };
        let missing = || format!("{place} has no figures");
        let ours = row.ours().with_context(missing)?;
        match self.on {
            On::Allocations => Ok(ours.allocations),
            On::Nanoseconds => Ok(ours.spread().with_context(missing)?.median),
            On::Time => self.ratio(row),
            On::Excess => bail!("{place} is timed and admits nothing"),
        }
    }

    fn excess(&self, told: &Told, parameter: &str) -> Result<f64> {
        let place = format!("{}: {}, {parameter}", self.of, self.shape);
        let found = told
            .tallies
            .iter()
            .find(|row| row.of == self.of && row.shape == self.shape && row.parameter == parameter);
        let Some(tally) = found else { bail!("{place} was not run") };
        tally.excess().with_context(|| format!("{place} has no figures"))
    }

    /// The median ratio of a row to the peer of the bar.
    fn ratio(&self, row: &Measured) -> Result<f64> {
        let name = self.peer.as_deref().unwrap_or(BEST);
        let peer = if name == BEST { row.best_peer() } else { row.contestant(name) };
        let place = format!("{}: {}, {}", row.of, row.shape, row.parameter);
        let peer = peer.with_context(|| format!("{place} has no contestant `{name}`"))?;
        let ratio = row.ratio_to(peer).with_context(|| format!("{place} has no figures"))?;
        Ok(ratio.median)
    }

    fn mean(&self, measured: &[Measured]) -> Result<f64> {
        let shapes: Vec<_> = std::iter::once(&self.shape).chain(&self.and).collect();
        let rows = measured.iter().filter(|row| row.of == self.of && shapes.contains(&&row.shape));
        let ratios: Vec<f64> = rows.map(|row| self.ratio(row)).collect::<Result<_>>()?;
        geometric_mean(&ratios).with_context(|| format!("{shapes:?} were not run"))
    }

    fn verdict(&self, ratio: Option<f64>, unmeasured: Option<String>) -> Verdict {
        let peer = match self.on {
            On::Time => self.peer.clone().unwrap_or_default(),
            On::Allocations => "allocations".to_owned(),
            On::Nanoseconds => "nanoseconds".to_owned(),
            On::Excess => "excess".to_owned(),
        };
        Verdict {
            of: self.of.clone(),
            shape: self.shape.clone(),
            parameter: self.parameter.clone().unwrap_or_else(|| "geometric mean".to_owned()),
            peer,
            ratio,
            bar: self.at_most,
            holds: ratio.map(|ratio| ratio <= self.at_most),
            unmeasured,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::measured::{Role, example};
    use super::super::tally;
    use super::*;

    fn bar(rest: &str) -> Bar {
        let text = format!("[[bar]]\ncrate = \"cancel\"\nshape = \"child\"\n{rest}");
        parse(&text).unwrap().remove(0)
    }

    fn rows() -> Told {
        let measured = example(&[2.0, 4.0, 2.0], &[("tokio", Role::Peer, &[4.0, 8.0, 2.0])]);
        Told { measured: vec![measured], tallies: Vec::new() }
    }

    #[test]
    fn a_bar_holds_up_to_its_value() {
        for (at_most, holds) in [("0.5", true), ("0.49", false)] {
            let rest = format!("parameter = \"1 thread\"\npeer = \"tokio\"\nat_most = {at_most}");
            let verdict = bar(&rest).judge(&rows(), false).unwrap();
            assert_eq!((verdict.ratio, verdict.holds), (Some(0.5), Some(holds)));
        }
    }

    #[test]
    fn bars_are_on_time_on_allocations_and_on_nanoseconds() {
        let mut rows = rows();
        rows.measured[0].contestants[0].allocations = 1.0;
        for (on, figure) in [("allocations", 1.0), ("nanoseconds", 2.0)] {
            let rest = format!("parameter = \"1 thread\"\non = \"{on}\"\nat_most = 1.5");
            let verdict = bar(&rest).judge(&rows, false).unwrap();
            assert_eq!((verdict.ratio, verdict.peer.as_str()), (Some(figure), on));
        }
    }

    #[test]
    fn a_bar_on_the_excess_is_on_a_tally() {
        let text = "[[bar]]\ncrate = \"ratelimit\"\nshape = \"admitted in 2 s\"\n\
                    parameter = \"10 a second\"\non = \"excess\"\nat_most = 1";
        let bar = parse(text).unwrap().remove(0);
        for (ours, holds) in [(21, true), (22, true), (23, false)] {
            let tallies = vec![tally::example(21, ours, 30)];
            let verdict = bar.judge(&Told { measured: Vec::new(), tallies }, false).unwrap();
            assert_eq!(verdict.holds, Some(holds), "{ours}");
        }
        assert!(bar.judge(&rows(), false).is_err());
    }

    #[test]
    fn without_a_parameter_the_mean_over_all_of_them_counts() {
        let mut rows = rows();
        rows.measured.push(example(&[8.0], &[("tokio", Role::Peer, &[4.0])]));
        rows.measured[1].parameter = "2 threads".to_owned();
        let verdict = bar("peer = \"best peer\"\nat_most = 1.03").judge(&rows, false).unwrap();
        assert_eq!((verdict.ratio, verdict.holds), (Some(1.0), Some(true)));
    }

    #[test]
    fn what_cannot_be_measured_yet_says_so() {
        let rest = "parameter = \"x\"\npeer = \"y\"\nat_most = 1\nunmeasured = \"no shape yet\"";
        let verdict = bar(rest).judge(&rows(), false).unwrap();
        assert_eq!((verdict.holds, verdict.unmeasured.as_deref()), (None, Some("no shape yet")));
    }

    #[test]
    fn a_bar_on_what_is_not_there_is_an_error_unless_the_run_was_partial() {
        for rest in [
            "parameter = \"9 threads\"\npeer = \"tokio\"\nat_most = 1",
            "parameter = \"1 thread\"\npeer = \"tokyo\"\nat_most = 1",
        ] {
            assert!(bar(rest).judge(&rows(), false).is_err());
            assert_eq!(bar(rest).judge(&rows(), true).unwrap().holds, None);
        }
    }

    #[test]
    fn a_bar_that_says_nothing_is_refused() {
        for rest in [
            "at_most = 1",
            "peer = \"tokio\"\nat_most = nan",
            "on = \"allocations\"\nat_most = 0",
            "peer = \"tokio\"\nat_most = 1\nanything = 2",
        ] {
            let text = format!("[[bar]]\ncrate = \"cancel\"\nshape = \"child\"\n{rest}");
            assert!(parse(&text).is_err(), "{rest}");
        }
    }
}
