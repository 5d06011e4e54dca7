//! `cargo xtask loom [CRATE...]`: explores the loom models and says how far each one was explored.
//!
//! Models are the tests of `crates/X/tests/loom.rs`; the checked-in [`list`] beside them says which
//! there must be and to which preemption bound each tier explores them. They are built in release
//! with debug assertions in a target folder of their own, then each one runs in a process of its own
//! (see [`explore`]), two at once. A row a model: iterations, seconds, bound (none = exhaustive, n =
//! complete at n preemptions), complete or why not.
//!
//! The run fails when a model fails, is cut short, is on the list but not there, is there but not on
//! the list, or when none ran at all: silence is not a proof.

pub(crate) mod explore;
pub(crate) mod list;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use self::explore::{Exploration, Job, Setting};
use self::list::{Bound, Model};
use crate::artifacts::{self, MESSAGE_FORMAT};
use crate::record::Record;
use crate::shell;
use crate::workspace::{Package, Workspace};

/// The switch under which the shim becomes loom.
pub(crate) const CFG: &str = "--cfg selvedge_loom";

/// How long an exhaustive model may take in the quick tier before it is asked to take a bound.
const QUICK: Duration = Duration::from_secs(5);

/// When the quick tier gives a model up, unless told otherwise.
const QUICK_LIMIT: u64 = 300;

/// Which models, and how deep.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// The crates whose models run; all that have models when none is named.
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
    /// The full tier: each model's `full` bound instead of its `quick` one.
    #[arg(long)]
    full: bool,
    /// Only the models of this name.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// How many models run at once [default: the processors there are, at most two].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Give a model up after so many seconds, which fails it [default: 300 in the quick tier, never
    /// in the full one; 0 = never].
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
}

impl Args {
    /// The quick tier of these crates, as `cargo xtask test` runs it.
    pub(crate) fn quick(crates: Vec<String>) -> Self {
        Self { crates, ..Self::default() }
    }

    /// One tier of all models.
    pub(crate) fn tier(full: bool) -> Self {
        Self { full, ..Self::default() }
    }

    fn jobs(&self) -> usize {
        threads(self.jobs)
    }

    fn limit(&self) -> Option<Duration> {
        let tier = if self.full { 0 } else { QUICK_LIMIT };
        Some(self.limit.unwrap_or(tier)).filter(|limit| *limit > 0).map(Duration::from_secs)
    }
}

/// How many models run at once.
pub(crate) fn threads(asked: Option<usize>) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    asked.unwrap_or(processors.min(2)).max(1)
}

/// How a run of models went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Models that were explored to the bound they were asked for.
    pub(crate) passed: usize,
    /// Models that failed or were cut short, and crates whose models could not run.
    pub(crate) failed: usize,
}

/// A row of `target/xtask/loom.jsonl`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(rename = "crate")]
    package: &'a str,
    model: &'a str,
    iterations: Option<u64>,
    seconds: f64,
    bound: Bound,
    complete: bool,
}

/// The subcommand: explores, and fails when not everything was explored.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    for name in &args.crates {
        let package = workspace.package(name)?;
        ensure!(has_models(package), "no model ran: {} has no tests/loom.rs", package.short());
    }
    let outcome = explore_all(workspace, args)?;
    if outcome == Outcome::default() {
        match &args.model {
            Some(model) => bail!("no model ran: none is called `{model}` in the crates asked for"),
            None => bail!("no model ran: no crate has a tests/loom.rs"),
        }
    }
    Ok(if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds and explores the models of the crates asked for, printing a row each and the totals.
pub(crate) fn explore_all(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let mut record = Record::create(workspace, "loom")?;
    let mut outcome = Outcome::default();
    let mut jobs = Vec::new();
    for package in chosen(workspace, args)? {
        match prepare(workspace, package, args) {
            Ok(found) => jobs.extend(found),
            Err(error) => {
                outcome.failed += 1;
                println!("FAILED  the models of {}: {error:#}", package.short());
            }
        }
    }
    if jobs.is_empty() {
        return Ok(outcome);
    }

    let table = Table::for_jobs(&jobs);
    println!("{}", table.heading(args.full));
    let began = Instant::now();
    let mut totals = Totals::default();
    let limit = args.limit();
    let scratch = workspace.target.join("xtask").join("loom");
    std::fs::create_dir_all(&scratch).with_context(|| format!("no {}", scratch.display()))?;
    let mut failures = Vec::new();
    in_parallel(
        jobs,
        args.jobs(),
        |job| explore::explore(job, &Setting::plain(&scratch, limit)),
        |job, explored| {
            let explored = explored?;
            println!("{}", table.row(&job, &explored));
            record.row(&Row {
                package: &job.package,
                model: &job.model,
                iterations: explored.iterations,
                seconds: explored.seconds,
                bound: job.bound,
                complete: explored.failure.is_none(),
            })?;
            totals.add(&job, &explored);
            for note in notes(&job, &explored, args.full) {
                eprintln!("note: {note}");
            }
            if let Some(reason) = &explored.failure {
                let report = failure_report(workspace, &job, &explored, reason, args.full);
                eprintln!("{report}");
                failures.push(format!("{} {}: {reason}", job.package, job.model));
            }
            Ok(())
        },
    )?;
    println!("{}", totals.line(began.elapsed()));
    for failure in &failures {
        println!("FAILED  {failure}");
    }
    outcome.passed += totals.complete;
    outcome.failed += failures.len();
    Ok(outcome)
}

/// The crates asked for; those that have models when none is named.
fn chosen<'a>(workspace: &'a Workspace, args: &Args) -> Result<Vec<&'a Package>> {
    if args.crates.is_empty() {
        return Ok(workspace.packages.iter().filter(|package| has_models(package)).collect());
    }
    let mut packages = Vec::new();
    for name in &args.crates {
        let package = workspace.package(name)?;
        if has_models(package) {
            packages.push(package);
        }
    }
    Ok(packages)
}

/// Whether a crate has models, or says it has.
pub(crate) fn has_models(package: &Package) -> bool {
    source_of(package).exists() || list_of(package).exists()
}

fn source_of(package: &Package) -> PathBuf {
    package.dir.join("tests").join("loom.rs")
}

fn list_of(package: &Package) -> PathBuf {
    package.dir.join("tests").join("loom-models.toml")
}

/// Builds a crate's models, holds them against the list, and says what is to be run.
pub(crate) fn prepare(workspace: &Workspace, package: &Package, args: &Args) -> Result<Vec<Job>> {
    let list = list_of(package);
    let shown = workspace.relative(&list).display().to_string();
    ensure!(source_of(package).exists(), "{shown} is there, but no tests/loom.rs beside it");
    let text = std::fs::read_to_string(&list)
        .with_context(|| format!("{shown} not read; every model is listed there"))?;
    let models = list::parse(&text).with_context(|| shown.clone())?;

    let executable = build(workspace, package)?;
    let tests = explore::list_tests(&executable, &package.dir)?;
    let wrong = list::compare(&models, &tests);
    ensure!(wrong.is_empty(), "{shown} and tests/loom.rs differ:\n  {}", wrong.join("\n  "));

    let asked = |model: &&Model| args.model.as_ref().is_none_or(|name| *name == model.name);
    Ok(models
        .iter()
        .filter(asked)
        .map(|model| Job {
            package: package.short().to_owned(),
            model: model.name.clone(),
            race: model.race.clone(),
            bound: if args.full { model.full } else { model.quick },
            executable: executable.clone(),
            dir: package.dir.clone(),
        })
        .collect())
}

/// Builds the executable that holds a crate's models.
fn build(workspace: &Workspace, package: &Package) -> Result<PathBuf> {
    let target = workspace.target.join("loom");
    let mut command = shell::cargo(workspace, &["test", "--profile", "loom", "-p", &package.name]);
    command.args(["--test", "loom", "--no-default-features", "--features", "loom", "--no-run"]);
    command.arg(MESSAGE_FORMAT).arg("--target-dir").arg(target);
    shell::add_rustflags(&mut command, CFG);
    let (status, executables) = artifacts::build(&mut command)?;
    ensure!(status.success(), "tests/loom.rs did not compile");
    let built = executables.into_iter().find(|built| built.kind == "test" && built.name == "loom");
    let Some(built) = built else { bail!("cargo named no executable for tests/loom.rs") };
    Ok(built.path)
}

/// Runs the jobs on a few threads and hands each result, as it comes, to `done` on this one. The
/// first error of `done` ends the run: what has not begun is left.
pub(crate) fn in_parallel<J: Send, R: Send>(
    jobs: Vec<J>,
    threads: usize,
    work: impl Fn(&J) -> R + Sync,
    mut done: impl FnMut(J, R) -> Result<()>,
) -> Result<()> {
    let queue = Mutex::new(VecDeque::from(jobs));
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            let (queue, work) = (&queue, &work);
            scope.spawn(move || {
                loop {
                    // The guard must be gone before the work begins, so no `while let`.
                    let job = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some(job) = job else { break };
                    let result = work(&job);
                    if sender.send((job, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        results.into_iter().try_for_each(|(job, result)| done(job, result))
    })
}

/// What is worth saying about a model that passed.
fn notes(job: &Job, explored: &Exploration, full: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if explored.failure.is_some() {
        return notes;
    }
    let (name, seconds) = (format!("{} {}", job.package, job.model), explored.seconds);
    if !full && job.bound == Bound::EXHAUSTIVE && seconds > QUICK.as_secs_f64() {
        notes.push(format!(
            "{name} took {seconds:.1} s exhaustively in the quick tier; give it `quick = 2` in \
             tests/loom-models.toml"
        ));
    }
    if explored.iterations == Some(1) {
        notes.push(format!("{name} has a single interleaving: nothing in it races"));
    }
    notes
}

/// The output of a model that failed, and how to see it again.
fn failure_report(
    workspace: &Workspace,
    job: &Job,
    explored: &Exploration,
    reason: &str,
    full: bool,
) -> String {
    let tier = if full { " --full" } else { "" };
    let executable: &Path = workspace.relative(&job.executable);
    format!(
        "---- {package} {model} ----\nrace: {race}\n{output}\n{reason}\n\
         again:  cargo xtask loom {package} --model {model}{tier}\n\
         alone:  {variable}={bound} {executable} --exact {model} --nocapture\n----",
        package = job.package,
        model = job.model,
        race = job.race,
        output = explored.output.trim_end(),
        variable = explore::BOUND_VARIABLE,
        bound = job.bound,
        executable = executable.display(),
    )
}

/// The columns of the table.
struct Table {
    /// Width of the crate column.
    package: usize,
    /// Width of the model column.
    model: usize,
}

impl Table {
    fn for_jobs(jobs: &[Job]) -> Self {
        let widest = |name: fn(&Job) -> &str, heading: &str| {
            jobs.iter().map(|job| name(job).len()).max().unwrap_or(0).max(heading.len())
        };
        Self {
            package: widest(|job| &job.package, "crate"),
            model: widest(|job| &job.model, "model"),
        }
    }

    fn heading(&self, full: bool) -> String {
        let tier = if full { "full" } else { "quick" };
        format!(
            "{:<package$}  {:<model$}  {:>11}  {:>8}  {:>5}  complete ({tier} tier)",
            "crate",
            "model",
            "iterations",
            "seconds",
            "bound",
            package = self.package,
            model = self.model
        )
    }

    fn row(&self, job: &Job, explored: &Exploration) -> String {
        format!(
            "{:<package$}  {:<model$}  {:>11}  {:>8.2}  {:>5}  {}",
            job.package,
            job.model,
            explored.iterations.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            explored.seconds,
            job.bound.to_string(),
            explored
                .failure
                .as_deref()
                .map_or_else(|| "yes".to_owned(), |why| format!("NO: {why}")),
            package = self.package,
            model = self.model
        )
    }
}

/// The sums under the table.
#[derive(Debug, Default)]
struct Totals {
    models: usize,
    complete: usize,
    exhaustive: usize,
    iterations: u64,
    seconds: f64,
}

impl Totals {
    fn add(&mut self, job: &Job, explored: &Exploration) {
        self.models += 1;
        self.iterations += explored.iterations.unwrap_or(0);
        self.seconds += explored.seconds;
        if explored.failure.is_none() {
            self.complete += 1;
            self.exhaustive += usize::from(job.bound == Bound::EXHAUSTIVE);
        }
    }

    fn line(&self, elapsed: Duration) -> String {
        let Self { models, complete, exhaustive, iterations, seconds } = *self;
        format!(
            "{models} models, {iterations} iterations, {seconds:.1} s of exploring in {:.1} s: \
             {complete} complete ({exhaustive} exhaustive, {} to their bound), {} failed",
            elapsed.as_secs_f64(),
            complete - exhaustive,
            models - complete,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(model: &str, bound: Bound) -> Job {
        Job {
            package: "pool".to_owned(),
            model: model.to_owned(),
            race: "submit against park".to_owned(),
            bound,
            executable: PathBuf::from("/x/loom"),
            dir: PathBuf::from("/x"),
        }
    }

    fn explored(seconds: f64) -> Exploration {
        Exploration {
            iterations: Some(42),
            seconds,
            failure: None,
            gave_up: false,
            noticed: false,
            output: String::new(),
        }
    }

    #[test]
    fn rows_stand_under_their_headings() {
        let jobs = [job("a", Bound::EXHAUSTIVE), job("a_longer_name", Bound::preemptions(2))];
        let table = Table::for_jobs(&jobs);
        let end = |line: &str, word: &str| line.find(word).unwrap() + word.len();
        let (heading, row) = (table.heading(false), table.row(&jobs[0], &explored(0.25)));
        assert_eq!(end(&heading, "iterations"), end(&row, "42"));
        assert_eq!(end(&heading, "seconds"), end(&row, "0.25"));
        assert_eq!(end(&heading, "bound"), end(&row, "none"));
        assert!(row.ends_with("yes"), "{row}");
    }

    #[test]
    fn a_slow_exhaustive_model_is_told_of_in_the_quick_tier_only() {
        let (exhaustive, bounded) = (job("a", Bound::EXHAUSTIVE), job("a", Bound::preemptions(2)));
        assert!(notes(&exhaustive, &explored(5.5), false)[0].contains("`quick = 2`"));
        assert!(notes(&exhaustive, &explored(5.5), true).is_empty());
        assert!(notes(&exhaustive, &explored(0.5), false).is_empty());
        assert!(notes(&bounded, &explored(5.5), false).is_empty());
    }

    #[test]
    fn a_model_without_a_race_is_told_of() {
        let single = Exploration { iterations: Some(1), ..explored(0.1) };
        assert!(notes(&job("a", Bound::EXHAUSTIVE), &single, true)[0].contains("single"));
    }

    #[test]
    fn every_job_is_done_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 5] {
            let jobs = (0..20).map(|n| job(&n.to_string(), Bound::EXHAUSTIVE)).collect();
            let mut seen = Vec::new();
            in_parallel(
                jobs,
                threads,
                |job| job.model.clone(),
                |job, result| {
                    assert_eq!(job.model, result);
                    seen.push(result);
                    Ok(())
                },
            )
            .unwrap();
            seen.sort_by_key(|name| name.parse::<u32>().unwrap());
            let all: Vec<_> = (0..20).map(|n| n.to_string()).collect();
            assert_eq!(seen, all);
        }
    }

    #[test]
    fn the_totals_tell_exhaustive_from_bounded_from_failed() {
        let mut totals = Totals::default();
        totals.add(&job("a", Bound::EXHAUSTIVE), &explored(1.0));
        totals.add(&job("b", Bound::preemptions(2)), &explored(2.0));
        let failed = Exploration { failure: Some("it failed".to_owned()), ..explored(0.5) };
        totals.add(&job("c", Bound::EXHAUSTIVE), &failed);
        let line = totals.line(Duration::from_secs(2));
        assert!(
            line.starts_with("3 models, 126 iterations, 3.5 s of exploring in 2.0 s"),
            "{line}"
        );
        assert!(line.ends_with("2 complete (1 exhaustive, 1 to their bound), 1 failed"), "{line}");
    }
}
