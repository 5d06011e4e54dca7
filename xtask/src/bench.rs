//! `cargo xtask bench [CRATE...]`: ours and the peers on the same work, in turn.
//!
//! The package `selvedge-bench` measures, in a process of its own, and tells what it measures a line
//! at a time. Here the lines become ratios, a row a shape as soon as it is done, and at the end the
//! bars of `benches/bars.toml`, held or missed. `docs/performance.md` says how to read it.
//!
//! | file | has |
//! |---|---|
//! | `target/xtask/bench.jsonl` | a row a contestant that is absent, of a shape or a tally, then a row a bar |
//! | `target/xtask/bench.html` | charts of them, with `--html` |
//! | `target/xtask/bench-raw.jsonl` | the raw record; with `--record` also below `benches/record/` |
//! | `target/xtask/bench-raw.txt` | what was printed; with `--record` beside the raw record |

mod archive;
mod bars;
mod measured;
mod statistics;
mod table;
mod tally;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use self::archive::{Archive, Head, PACKAGE};
use self::bars::{Bar, Verdict};
use self::measured::{Event, Measured, Role, Told};
use self::statistics::Spread;
use self::table::Row;
use self::tally::{Admitted, Tally};
use crate::artifacts::{self, MESSAGE_FORMAT};
use crate::record::Record;
use crate::shell;
use crate::workspace::Workspace;

/// The program that draws.
const CHARTS: &str = "selvedge-bench-charts";

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The crates to measure, `cancel`; every crate that has shapes when none is named.
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
    /// Only the shapes whose name contains this.
    #[arg(long, value_name = "TEXT")]
    shape: Option<String>,
    /// Three rounds of small shapes instead of nine of full ones: does it run, and about how fast?
    #[arg(long)]
    quick: bool,
    /// Fail when a bar is missed, and say which.
    #[arg(long)]
    check: bool,
    /// Draw one page with charts, `target/xtask/bench.html`.
    #[arg(long)]
    html: bool,
    /// Keep the raw record in the repository, below benches/record/.
    #[arg(long)]
    record: bool,
}

impl Args {
    /// Whether some shapes, or some of their sizes, are left out.
    fn is_partial(&self) -> bool {
        self.quick || self.shape.is_some()
    }

    /// As the bench program wants them.
    fn passed_on(&self) -> Vec<String> {
        let mut arguments: Vec<String> = self.crates.iter().map(|name| short(name)).collect();
        if let Some(text) = &self.shape {
            arguments.extend(["--shape".to_owned(), text.clone()]);
        }
        if self.quick {
            arguments.push("--quick".to_owned());
        }
        arguments
    }
}

/// `cancel` for `selvedge-cancel`.
fn short(name: &str) -> String {
    name.strip_prefix("selvedge-").unwrap_or(name).to_owned()
}

/// A contestant of a shape; a row of `target/xtask/bench.jsonl`.
#[derive(Debug, Serialize)]
struct Figures<'a> {
    #[serde(rename = "crate")]
    of: &'a str,
    shape: &'a str,
    parameter: &'a str,
    contestant: &'a str,
    role: Role,
    median_ns: f64,
    min_ns: f64,
    max_ns: f64,
    allocs_per_op: f64,
    /// Our time by this contestant's: the median of the rounds, and its quartiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<[f64; 3]>,
    /// The operations in a sample.
    operations: u64,
    /// A hand-over of a cache line between two cores, the median of the rounds.
    ping_pong_ns: f64,
}

/// A contestant that takes no part; a row of `target/xtask/bench.jsonl`.
#[derive(Debug, Serialize)]
struct Absent<'a> {
    #[serde(rename = "crate")]
    of: &'a str,
    contestant: &'a str,
    /// Why.
    absent: &'a str,
}

/// Measures, prints, and fails when a bar is missed and that was asked for.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let bars = bars::read(workspace)?;
    let build = ["build", "--release", "-p", PACKAGE, "--bins", MESSAGE_FORMAT];
    let (status, executables) = artifacts::build(&mut shell::cargo(workspace, &build))?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let program = |name: &str| {
        let found = executables.iter().find(|built| built.kind == "bin" && built.name == name);
        found.with_context(|| format!("cargo named no program {name}"))
    };

    let arguments = args.passed_on();
    let head = Head::of(workspace, &arguments)?;
    let mut archive = Archive::create(workspace, &head, args.record)?;
    let mut record = Record::create(workspace, "bench")?;
    let mut command = Command::new(&program(PACKAGE)?.path);
    command.args(&arguments).current_dir(&workspace.root);
    shell::scrub(&mut command);
    let told = measure(&mut command, &mut archive, &mut record)?;

    let verdicts = judge(&bars, &told, args)?;
    archive.print("\nBars (benches/bars.toml); a ratio is our time by the peer's")?;
    for verdict in &verdicts {
        archive.print(verdict)?;
        record.row(verdict)?;
    }
    if args.html {
        let page = draw(workspace, &program(CHARTS)?.path, &head)?;
        println!("charts: {}", workspace.relative(&page).display());
    }
    if let Some(path) = &archive.kept {
        println!("raw record: {}", workspace.relative(path).display());
    }
    let count = |holds: Option<bool>| verdicts.iter().filter(|bar| bar.holds == holds).count();
    let missed = count(Some(false));
    let (held, unmeasured) = (count(Some(true)), count(None));
    archive.print(format!("{held} bars held, {missed} missed, {unmeasured} unmeasured"))?;
    Ok(if args.check && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the bench program is telling of.
enum Open {
    Shape(Measured),
    Tally(Tally),
}

/// Runs the bench program, prints a row as soon as its shape is done, and returns all of them.
fn measure(command: &mut Command, archive: &mut Archive, record: &mut Record) -> Result<Told> {
    shell::announce(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{}`", shell::line(command)))?;
    let stdout = child.stdout.take().context("the stdout of the bench is not a pipe")?;

    let (mut told, mut open) = (Told::default(), None);
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        archive.line(&line)?;
        let event = serde_json::from_str(&line)
            .with_context(|| format!("the bench printed something else: {line}"))?;
        match event {
            Event::Absent { of, contestant, why } => {
                archive.print(format!("{of:<9} absent: {contestant}: {why}"))?;
                record.row(&Absent { of: &of, contestant: &contestant, absent: &why })?;
            }
            Event::Shape { of, shape, parameter, operations } => {
                let shape = Measured::new(of, shape, parameter, operations);
                close(open.replace(Open::Shape(shape)), &mut told, archive, record)?;
            }
            Event::Tally { of, shape, parameter, allowed } => {
                let tally = Tally { of, shape, parameter, allowed, admitted: Vec::new() };
                close(open.replace(Open::Tally(tally)), &mut told, archive, record)?;
            }
            Event::Admitted { contestant, role, admitted: count } => match &mut open {
                Some(Open::Tally(tally)) => {
                    tally.admitted.push(Admitted { contestant, role, count });
                }
                _ => bail!("a count outside of a tally: {line}"),
            },
            figure => match &mut open {
                Some(Open::Shape(shape)) => shape.add(figure),
                _ => bail!("a figure outside of a shape: {line}"),
            },
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "the bench failed: {status}");
    close(open, &mut told, archive, record)?;
    Ok(told)
}

/// Prints, records and keeps what is done.
fn close(
    done: Option<Open>,
    told: &mut Told,
    archive: &mut Archive,
    record: &mut Record,
) -> Result<()> {
    match done {
        None => {}
        Some(Open::Shape(measured)) => {
            archive.print(Row(&measured))?;
            keep(&measured, record)?;
            told.measured.push(measured);
        }
        Some(Open::Tally(tally)) => {
            archive.print(&tally)?;
            tally.rows().try_for_each(|row| record.row(&row))?;
            told.tallies.push(tally);
        }
    }
    Ok(())
}

/// Records a shape that is done.
fn keep(row: &Measured, record: &mut Record) -> Result<()> {
    let line = Spread::of(row.ping_pong_ns.iter().copied());
    for contestant in &row.contestants {
        let (Some(spread), Some(role)) = (contestant.spread(), contestant.role) else { continue };
        let ratio = if role == Role::Ours { None } else { row.ratio_to(contestant) };
        record.row(&Figures {
            of: &row.of,
            shape: &row.shape,
            parameter: &row.parameter,
            contestant: &contestant.name,
            role,
            median_ns: spread.median,
            min_ns: spread.min,
            max_ns: spread.max,
            allocs_per_op: contestant.allocations,
            ratio: ratio.map(|ratio| [ratio.lower, ratio.median, ratio.upper]),
            operations: row.operations,
            ping_pong_ns: line.map_or(0.0, |line| line.median),
        })?;
    }
    Ok(())
}

/// Draws the charts, and returns where.
fn draw(workspace: &Workspace, program: &Path, head: &Head) -> Result<PathBuf> {
    let folder = workspace.target.join("xtask");
    let page = folder.join("bench.html");
    let mut command = Command::new(program);
    command.arg(folder.join("bench.jsonl")).arg(&page).arg(head.title());
    shell::scrub(&mut command);
    let status = shell::run(&mut command)?;
    ensure!(status.success(), "the charts were not drawn: {status}");
    Ok(page)
}

/// Holds the bars of the crates that were run against what was measured. With `--shape` only those
/// of the shapes that it chose.
fn judge(bars: &[Bar], told: &Told, args: &Args) -> Result<Vec<Verdict>> {
    let crates: Vec<String> = args.crates.iter().map(|name| short(name)).collect();
    bars.iter()
        .filter(|bar| crates.is_empty() || crates.contains(&bar.of))
        .filter(|bar| args.shape.as_ref().is_none_or(|text| bar.shape.contains(text.as_str())))
        .map(|bar| bar.judge(told, args.is_partial()))
        .collect()
}
