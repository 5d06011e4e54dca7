//! `cargo xtask mutants [CRATE...]`: is there a model that would notice?
//!
//! Every [site](sites) in a crate's source is mutated in turn: an ordering weakened, a fence or a
//! wake dropped, a lock held over a callback. The mutant is chosen by the environment, so the build
//! of the models serves them all. Each model runs once as it is, which tells the places that it
//! reaches and how long it takes; a mutant is then tried on the models that reach its place, those
//! of its own crate first, until one fails. A place that no model reaches is a survivor.
//!
//! A kill is a model's: its test fails, or its process aborts, in the middle of the exploration. A
//! process that was killed, that had no room for its report or did not understand the mutant ends the
//! run.
//!
//! A model that takes ten times its clean time is given up and runs again alone; only if it is given
//! up again does that count as killed, in a column of its own, together with what reaches loom's limit
//! on the steps of one interleaving.
//!
//! The run fails below 85 % killed in a crate, on a survivor that `tests/loom-survivors.toml` does
//! not [list](survivors) with a reason, and on a listed one that is killed now. With `--quick` the
//! models are explored as `cargo xtask test` does; without it a mutant that survives this is tried
//! on the full tier: on the models that reach its place, or on all of its crate if none does.

mod sites;
mod survivors;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use self::sites::Mutant;
use self::survivors::Survivor;
use crate::loom::explore::{self, Job, Setting};
use crate::loom::{self, has_models, in_parallel, prepare};
use crate::record::Record;
use crate::workspace::{Package, Workspace};

/// What a crate must reach, in percent.
const BAR: usize = 85;

/// A model is given up after so many times its clean time.
const PATIENCE: u32 = 10;

/// A model is not given up before: starting a process is not exploring.
const LEAST: Duration = Duration::from_secs(10);

/// Which mutants, on which tier.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// The crates whose mutants are tried; all that have models when none is named.
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
    /// The quick tier only.
    #[arg(long)]
    quick: bool,
    /// Only the mutants whose place or site contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print the mutants and try none.
    #[arg(long)]
    list: bool,
    /// How many mutants are tried at once [default: the processors there are, at most two].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// A row of `target/xtask/mutants.jsonl`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(rename = "crate")]
    package: &'a str,
    file: &'a str,
    line: usize,
    column: usize,
    site: &'a str,
    kind: &'a str,
    killed_by: Option<&'a str>,
    timed_out: bool,
    reason: Option<&'a str>,
}

/// A crate's mutants.
struct Subject<'a> {
    /// The crate.
    package: &'a Package,
    /// Its folder, as the shim prints it.
    folder: String,
    /// How many sites they stand at.
    sites: usize,
    /// The mutants.
    mutants: Vec<Mutant>,
    /// Those that are expected to survive.
    listed: Vec<Survivor>,
}

/// A model as it is.
struct Clean {
    /// The model.
    job: Job,
    /// How long it takes.
    time: Duration,
    /// The places that it reaches.
    reached: BTreeSet<String>,
}

/// A mutant that a model noticed.
struct Kill {
    /// Which, with its crate.
    model: String,
    /// By taking too long, twice.
    timed_out: bool,
}

/// The subcommand.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let subjects = subjects(workspace, args)?;
    if args.list {
        for mutant in subjects.iter().flat_map(|subject| &subject.mutants) {
            println!("{}  {} {}", mutant.place(), mutant.site, mutant.kind);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let scratch = workspace.target.join("xtask").join("mutants");
    std::fs::create_dir_all(&scratch).with_context(|| format!("no {}", scratch.display()))?;
    let quick = explore_clean(args, &scratch, quick_jobs(workspace)?)?;
    let mut record = Record::create(workspace, "mutants")?;
    let mut wrong = Vec::new();
    let mut lines = Vec::new();
    for subject in &subjects {
        let began = Instant::now();
        let mut results = try_all(subject, subject.mutants.clone(), &quick, args, &scratch)?;
        if !args.quick {
            let (killed, survived): (Vec<_>, Vec<_>) =
                results.into_iter().partition(|(_, kill)| kill.is_some());
            let survived = survived.into_iter().map(|(mutant, _)| mutant).collect::<Vec<_>>();
            let jobs = deeper_jobs(workspace, subject.package.short(), &quick, &survived)?;
            let full = explore_clean(args, &scratch, jobs)?;
            results = try_all(subject, survived, &full, args, &scratch)?;
            results.extend(killed);
        }
        results.sort_by(|(a, _), (b, _)| {
            (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column))
        });
        write_down(subject, &results, &mut record)?;
        let verdicts = results.iter().map(|(mutant, kill)| (mutant, kill.is_some()));
        if args.only.is_none() {
            wrong.extend(survivors::compare(&subject.listed, &subject.folder, verdicts));
        }
        let score = Score::of(results.iter().map(|(_, kill)| kill.as_ref()));
        lines.push(format!(
            "{}: {} sites, {score}; {:.0} s",
            subject.package.short(),
            subject.sites,
            began.elapsed().as_secs_f64()
        ));
        if args.only.is_none() && !score.reaches(BAR) {
            wrong.push(format!("{}: {score}; the bar is {BAR} %", subject.package.short()));
        }
        print_files(&results);
    }
    println!();
    lines.iter().for_each(|line| println!("{line}"));
    wrong.iter().for_each(|what| println!("FAILED  {what}"));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The crates asked for, with their mutants.
fn subjects<'a>(workspace: &'a Workspace, args: &Args) -> Result<Vec<Subject<'a>>> {
    let mut packages = Vec::new();
    for name in &args.crates {
        let package = workspace.package(name)?;
        ensure!(has_models(package), "no mutant tried: {} has no models", package.short());
        packages.push(package);
    }
    if args.crates.is_empty() {
        packages.extend(workspace.packages.iter().filter(|package| has_models(package)));
    }
    let mut subjects = Vec::new();
    for package in packages {
        subjects.push(subject(workspace, package, args)?);
    }
    if let Some(only) = &args.only {
        let any = subjects.iter().any(|subject| !subject.mutants.is_empty());
        ensure!(any, "no mutant tried: no place and no site contains `{only}`");
    }
    Ok(subjects)
}

/// Every mutant there is in the sources of the crates that have models, by file, site and kind, which
/// stay when lines move.
pub(crate) fn all(workspace: &Workspace) -> Result<BTreeSet<[String; 3]>> {
    let mut all = BTreeSet::new();
    for subject in subjects(workspace, &Args::default())? {
        all.extend(subject.mutants.into_iter().map(|it| [it.file, it.site, it.kind.to_owned()]));
    }
    Ok(all)
}

/// A crate's mutants, and those that are expected to survive.
fn subject<'a>(workspace: &Workspace, package: &'a Package, args: &Args) -> Result<Subject<'a>> {
    let slashed = |path: &Path| workspace.relative(path).to_string_lossy().replace('\\', "/");
    let mut files = Vec::new();
    collect(&package.dir.join("src"), &mut files)?;
    let (mut sites, mut mutants) = (0, Vec::new());
    for path in files {
        let file = slashed(&path);
        // The shim is what mutates.
        if file.starts_with("crates/primitives/src/shim/") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("{file} not read"))?;
        let (here, found) = sites::of_file(&file, &text)?;
        sites += here;
        mutants.extend(found);
    }
    ensure!(
        !mutants.is_empty(),
        "no mutant in {}: it orders, wakes and releases nothing",
        package.short()
    );
    if let Some(only) = &args.only {
        mutants.retain(|mutant| mutant.place().contains(only) || mutant.site.contains(only));
    }
    let list = package.dir.join("tests").join("loom-survivors.toml");
    let listed = match std::fs::read_to_string(&list) {
        Ok(text) => survivors::parse(&text).with_context(|| slashed(&list))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => bail!("{} not read: {error}", slashed(&list)),
    };
    Ok(Subject { package, folder: slashed(&package.dir), sites, mutants, listed })
}

/// The Rust files below a folder, sorted.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let read =
        std::fs::read_dir(folder).with_context(|| format!("{} not read", folder.display()))?;
    let mut entries = read.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Every model, on the quick tier.
fn quick_jobs(workspace: &Workspace) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for package in workspace.packages.iter().filter(|package| has_models(package)) {
        jobs.extend(prepare(workspace, package, &loom::Args::tier(false))?);
    }
    Ok(jobs)
}

/// The models that the full tier explores further and that may notice a mutant of `package` which has
/// `survived`.
fn deeper_jobs(
    workspace: &Workspace,
    package: &str,
    quick: &[Clean],
    survived: &[Mutant],
) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for owner in workspace.packages.iter().filter(|owner| has_models(owner)) {
        let wanted: Vec<_> = quick
            .iter()
            .filter(|clean| clean.job.package == owner.short())
            .filter(|clean| survived.iter().any(|mutant| may_notice(clean, mutant, package, quick)))
            .map(|clean| &clean.job)
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let full = prepare(workspace, owner, &loom::Args::tier(true))?;
        jobs.extend(full.into_iter().filter(|full| {
            wanted.iter().any(|quick| quick.model == full.model && quick.bound != full.bound)
        }));
    }
    Ok(jobs)
}

/// Whether to try a survivor on a model's full tier: the model reaches its place, or no model does and
/// this one is of its crate.
fn may_notice(clean: &Clean, mutant: &Mutant, package: &str, quick: &[Clean]) -> bool {
    let place = mutant.place();
    clean.reached.contains(&place)
        || clean.job.package == package && !quick.iter().any(|any| any.reached.contains(&place))
}

/// Runs models as they are.
fn explore_clean(args: &Args, scratch: &Path, jobs: Vec<Job>) -> Result<Vec<Clean>> {
    eprintln!("{} models as they are", jobs.len());
    let next = AtomicUsize::new(0);
    let mut clean = Vec::new();
    in_parallel(
        jobs,
        loom::threads(args.jobs),
        |job| {
            // Relaxed: a number to tell runs apart.
            let run = next.fetch_add(1, Ordering::Relaxed);
            let reached = scratch.join(format!("reached-{run}"));
            let variables = [("SELVEDGE_REACHED", reached.display().to_string())];
            let setting = Setting { scratch, limit: None, variables: &variables, run };
            let began = Instant::now();
            let explored = explore::explore(job, &setting)?;
            if let Some(failure) = explored.failure {
                bail!("{} {} fails without a mutant: {failure}", job.package, job.model);
            }
            let time = began.elapsed();
            let text = std::fs::read_to_string(&reached).with_context(|| {
                format!("{} {} did not say what it reaches", job.package, job.model)
            })?;
            let _ = std::fs::remove_file(&reached);
            Ok((time, text.lines().map(|line| line.replace('\\', "/")).collect()))
        },
        |job, result| {
            let (time, reached) = result?;
            clean.push(Clean { job, time, reached });
            Ok(())
        },
    )?;
    Ok(clean)
}

/// Tries mutants of a crate on the models of a tier, two at a time.
fn try_all(
    subject: &Subject<'_>,
    mutants: Vec<Mutant>,
    tier: &[Clean],
    args: &Args,
    scratch: &Path,
) -> Result<Vec<(Mutant, Option<Kill>)>> {
    let name = subject.package.short();
    let count = mutants.len();
    eprintln!("{name}: {count} mutants");
    let (next, alone) = (AtomicUsize::new(0), RwLock::new(()));
    let mut results = Vec::new();
    in_parallel(
        mutants,
        loom::threads(args.jobs),
        |mutant| {
            // Relaxed: a number to tell runs apart.
            let run = next.fetch_add(1, Ordering::Relaxed);
            try_one(mutant, &candidates(tier, mutant, name), &alone, scratch, run)
        },
        |mutant, result: Result<Option<Kill>>| {
            let kill = result?;
            println!("{}", line(results.len() + 1, count, &mutant, kill.as_ref()));
            results.push((mutant, kill));
            Ok(())
        },
    )?;
    Ok(results)
}

/// Records what became of a crate's mutants.
fn write_down(
    subject: &Subject<'_>,
    results: &[(Mutant, Option<Kill>)],
    record: &mut Record,
) -> Result<()> {
    for (mutant, kill) in results {
        let listed = subject.listed.iter().find(|entry| entry.is(mutant, &subject.folder));
        record.row(&Row {
            package: subject.package.short(),
            file: &mutant.file,
            line: mutant.line,
            column: mutant.column,
            site: &mutant.site,
            kind: mutant.kind,
            killed_by: kill.as_ref().map(|kill| kill.model.as_str()),
            timed_out: kill.as_ref().is_some_and(|kill| kill.timed_out),
            reason: listed.filter(|_| kill.is_none()).map(|entry| entry.reason.trim()),
        })?;
    }
    Ok(())
}

/// The models that reach a mutant's place: those of its own crate first, the quick ones first.
fn candidates<'a>(tier: &'a [Clean], mutant: &Mutant, package: &str) -> Vec<&'a Clean> {
    let place = mutant.place();
    let mut reach: Vec<_> = tier.iter().filter(|clean| clean.reached.contains(&place)).collect();
    reach.sort_by_key(|clean| (clean.job.package != package, clean.time));
    reach
}

/// Tries a mutant on one model after the other.
fn try_one(
    mutant: &Mutant,
    models: &[&Clean],
    alone: &RwLock<()>,
    scratch: &Path,
    run: usize,
) -> Result<Option<Kill>> {
    // RUST_BACKTRACE: a backtrace of a model takes longer than the model.
    let variables = [("SELVEDGE_MUTANT", mutant.variable()), ("RUST_BACKTRACE", "0".to_owned())];
    for clean in models {
        let limit = (clean.time * PATIENCE).max(LEAST);
        let setting = Setting { scratch, limit: Some(limit), variables: &variables, run };
        let mut explored = {
            let _beside_others = alone.read();
            explore::explore(&clean.job, &setting)?
        };
        if explored.gave_up {
            // Perhaps the machine was busy.
            let _alone = alone.write();
            explored = explore::explore(&clean.job, &setting)?;
        }
        let model = format!("{} {}", clean.job.package, clean.job.model);
        if explored.gave_up || explored.noticed {
            return Ok(Some(Kill { model, timed_out: explored.gave_up }));
        }
        if let Some(failure) = explored.failure {
            bail!(
                "{model} says nothing of {} {}: {failure}\n{}",
                mutant.place(),
                mutant.kind,
                explored.output.trim_end()
            );
        }
    }
    Ok(None)
}

/// What is printed of a mutant.
fn line(number: usize, count: usize, mutant: &Mutant, kill: Option<&Kill>) -> String {
    let fate = match kill {
        None => "SURVIVED".to_owned(),
        Some(Kill { model, timed_out: false }) => format!("killed by {model}"),
        Some(Kill { model, timed_out: true }) => format!("timed out in {model}"),
    };
    format!("{number}/{count}  {}  {} {}: {fate}", mutant.place(), mutant.site, mutant.kind)
}

/// Prints a row for each file.
fn print_files(results: &[(Mutant, Option<Kill>)]) {
    let mut files: BTreeMap<&str, Vec<Option<&Kill>>> = BTreeMap::new();
    for (mutant, kill) in results {
        files.entry(&mutant.file).or_default().push(kill.as_ref());
    }
    for (file, kills) in files {
        println!("{file}: {}", Score::of(kills.into_iter()));
    }
}

/// How many were killed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Score {
    /// All.
    mutants: usize,
    /// Killed, by a failure or by a timeout.
    killed: usize,
    /// By a timeout.
    timed_out: usize,
}

impl Score {
    /// Counts.
    fn of<'a>(kills: impl Iterator<Item = Option<&'a Kill>>) -> Self {
        let mut score = Self::default();
        for kill in kills {
            score.mutants += 1;
            score.killed += usize::from(kill.is_some());
            score.timed_out += usize::from(kill.is_some_and(|kill| kill.timed_out));
        }
        score
    }

    /// Whether so many percent were killed.
    fn reaches(&self, percent: usize) -> bool {
        self.killed * 100 >= self.mutants * percent
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mutants, killed, timed_out } = *self;
        let percent = killed as f64 * 100.0 / mutants.max(1) as f64;
        let survived = mutants - killed;
        write!(
            f,
            "{mutants} mutants, {killed} killed ({timed_out} by timeout), {survived} survived: {percent:.1} %"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loom::list::Bound;

    fn clean(package: &str, model: &str, millis: u64, reached: &[&str]) -> Clean {
        let job = Job {
            package: package.to_owned(),
            model: model.to_owned(),
            race: "a against b".to_owned(),
            bound: Bound::EXHAUSTIVE,
            executable: PathBuf::new(),
            dir: PathBuf::new(),
        };
        let reached = reached.iter().map(|&place| place.to_owned()).collect();
        Clean { job, time: Duration::from_millis(millis), reached }
    }

    #[test]
    fn only_models_that_reach_the_place_run_and_those_of_the_crate_are_first() {
        let mutant = Mutant {
            file: "crates/sync/src/a.rs".to_owned(),
            line: 3,
            column: 5,
            site: "f load".to_owned(),
            kind: "relaxed",
        };
        let here = "crates/sync/src/a.rs:3:5";
        let tier = [
            clean("pool", "above", 1, &[here]),
            clean("sync", "slow", 9, &["crates/sync/src/b.rs:1:1", here]),
            clean("sync", "elsewhere", 1, &["crates/sync/src/a.rs:3:50"]),
            clean("sync", "fast", 2, &[here]),
        ];
        let names: Vec<_> =
            candidates(&tier, &mutant, "sync").iter().map(|it| it.job.model.as_str()).collect();
        assert_eq!(names, ["fast", "slow", "above"]);
    }

    #[test]
    fn the_bar_is_reached_at_and_not_below_it() {
        let score = |killed, mutants| Score { mutants, killed, timed_out: 0 };
        assert!(score(17, 20).reaches(85) && !score(84, 100).reaches(85));
        let kill = |timed_out| Kill { model: "sync fast".to_owned(), timed_out };
        let counted = Score::of([Some(&kill(true)), None, Some(&kill(false))].into_iter());
        assert_eq!(counted, Score { mutants: 3, killed: 2, timed_out: 1 });
        assert!(counted.to_string().ends_with("1 survived: 66.7 %"), "{counted}");
    }
}
