//! One model, in one process: its environment, its report, the verdict.
//!
//! Loom returns success when one of its own limits cuts a run short. So no limit of loom's reaches
//! the process (`LOOM_*` is taken out of its environment), and exit code 0 proves nothing by itself:
//! `selvedge_primitives::model::check` appends a line to the file named in [`REPORT_VARIABLE`] once
//! loom has explored everything below the bound in [`BOUND_VARIABLE`], and only that line counts.
//!
//! ```json
//! {"model": "cancel_vs_register", "iterations": 4711, "seconds": 0.8, "bound": null, "complete": true}
//! ```

use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::list::Bound;

/// Tells a model its bound: `none` or a number of preemptions.
pub(crate) const BOUND_VARIABLE: &str = "SELVEDGE_LOOM_BOUND";

/// Tells a model which file its report goes to.
const REPORT_VARIABLE: &str = "SELVEDGE_LOOM_REPORT";

/// What loom panics with when one interleaving takes more steps than it allows: no assertion of the
/// model's, but an end that did not come.
const ENDLESS: &str = "Model exceeded maximum number of branches";

/// How often a model that takes long gives a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// How much of a model's output is kept: its end, where the panic is.
const KEPT: usize = 256 * 1024;

/// A model to explore.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// The crate's short name.
    pub(crate) package: String,
    /// The test's name.
    pub(crate) model: String,
    /// Which race it explores.
    pub(crate) race: String,
    /// How deep.
    pub(crate) bound: Bound,
    /// The executable that holds it.
    pub(crate) executable: PathBuf,
    /// The folder it runs in: the crate's, as cargo has it.
    pub(crate) dir: PathBuf,
}

/// Under what a model is explored.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    /// The folder for reports.
    pub(crate) scratch: &'a Path,
    /// When it is given up.
    pub(crate) limit: Option<Duration>,
    /// Told in its environment, beside what every model is told.
    pub(crate) variables: &'a [(&'a str, String)],
    /// Tells this run's report from that of another run of the model at the same time.
    pub(crate) run: usize,
}

impl<'a> Setting<'a> {
    /// As it is.
    pub(crate) fn plain(scratch: &'a Path, limit: Option<Duration>) -> Self {
        Self { scratch, limit, variables: &[], run: 0 }
    }
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Exploration {
    /// Interleavings explored, where the model got as far as to say.
    pub(crate) iterations: Option<u64>,
    /// By the model's own clock where it said, else from start to end of the process.
    pub(crate) seconds: f64,
    /// Why it does not count as explored.
    pub(crate) failure: Option<String>,
    /// Whether it was given up, by us or at loom's limit on the steps of one interleaving.
    pub(crate) gave_up: bool,
    /// Whether the model itself failed, in the middle of its exploration: not the machine around it.
    pub(crate) noticed: bool,
    /// The end of what it printed.
    pub(crate) output: String,
}

/// The tests in an executable.
pub(crate) fn list_tests(executable: &Path, dir: &Path) -> Result<Vec<String>> {
    let output = Command::new(executable)
        .args(["--list", "--format", "terse"])
        .current_dir(dir)
        .output()
        .with_context(|| format!("{} did not start", executable.display()))?;
    ensure!(output.status.success(), "the models could not be listed: {}", output.status);
    Ok(test_names(&String::from_utf8_lossy(&output.stdout)))
}

/// The names in libtest's terse listing, `name: test` a line.
fn test_names(listing: &str) -> Vec<String> {
    listing.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Explores a model. Errors are those of starting it; a model that fails is a result.
pub(crate) fn explore(job: &Job, setting: &Setting<'_>) -> Result<Exploration> {
    let Setting { scratch, limit, variables, run } = *setting;
    let file = job.model.replace("::", "-");
    let report = scratch.join(format!("{}-{file}-{run}.json", job.package));
    match fs::remove_file(&report) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} not removed", report.display()));
        }
        _ => {}
    }

    let mut command = Command::new(&job.executable);
    command.args(["--exact", &job.model, "--nocapture"]).current_dir(&job.dir);
    clean(&mut command);
    command.env(BOUND_VARIABLE, job.bound.to_string()).env(REPORT_VARIABLE, &report);
    for (name, value) in variables {
        command.env(name, value);
    }
    let began = Instant::now();
    let ended = watch(command, limit, |elapsed| {
        eprintln!("... {} {}: {} s", job.package, job.model, elapsed.as_secs());
    })
    .with_context(|| format!("{} did not run", job.executable.display()))?;
    let elapsed = began.elapsed().as_secs_f64();

    let written = fs::read_to_string(&report).unwrap_or_default();
    // A report that was read has served; what is left behind is that of a model that was not.
    let _ = fs::remove_file(&report);
    let gave_up = ended.status.is_none() || ended.output.contains(ENDLESS);
    let noticed = ended.status.is_some_and(|status| has_noticed(status, &ended.output));
    let judged = match ended.status {
        Some(status) => judge(job, status.success(), &status.to_string(), &written),
        None => {
            let seconds = limit.unwrap_or_default().as_secs();
            Err(format!("cut short: given up after {seconds} s; give it a bound or --limit"))
        }
    };
    Ok(match judged {
        Ok(report) => Exploration {
            iterations: Some(report.iterations),
            seconds: report.seconds,
            failure: None,
            gave_up: false,
            noticed,
            output: ended.output,
        },
        Err(failure) => Exploration {
            iterations: None,
            seconds: elapsed,
            failure: Some(failure),
            gave_up,
            noticed,
            output: ended.output,
        },
    })
}

/// Takes out of the environment what would change a model behind our back: loom's own limits, and
/// our own variables from a run by hand.
fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("LOOM_") || name.starts_with("SELVEDGE_"))
        {
            command.env_remove(&name);
        }
    }
}

/// A line of the report.
#[derive(Debug, Deserialize)]
struct Report {
    model: String,
    iterations: u64,
    seconds: f64,
    bound: Option<u32>,
    complete: bool,
}

/// Whether a model that has ended was explored, else why not.
fn judge(job: &Job, success: bool, status: &str, written: &str) -> Result<Report, String> {
    if !success {
        return Err(format!("failed ({status})"));
    }
    let mut lines = written.lines().filter(|line| !line.trim().is_empty());
    let Some(line) = lines.next() else {
        return Err("not explored: it ended without a report; it must call \
                    selvedge_primitives::model::check, which reports when it is through"
            .to_owned());
    };
    if lines.next().is_some() {
        return Err("it reported more than once; a model is one call of check".to_owned());
    }
    let report: Report =
        serde_json::from_str(line).map_err(|error| format!("its report is unreadable: {error}"))?;
    let last = job.model.rsplit("::").next().unwrap_or(&job.model);
    if report.model != job.model && report.model != last {
        return Err(format!("it reported as `{}`; check is given the test's name", report.model));
    }
    if report.bound != job.bound.get() {
        let had = report.bound.map_or_else(|| "none".to_owned(), |bound| bound.to_string());
        return Err(format!("cut short: explored to bound {had} instead of {}", job.bound));
    }
    if !report.complete || report.iterations == 0 {
        return Err(format!("cut short after {} iterations", report.iterations));
    }
    Ok(report)
}

/// Whether a model failed in the middle of its exploration: what goes wrong after it said that it was
/// through (no room for the report, say) is not the model's.
fn has_noticed(status: ExitStatus, output: &str) -> bool {
    fails_as_a_test(status) && !output.lines().any(says_complete)
}

/// Whether a line of the output is the report, which a model prints when it is through.
fn says_complete(line: &str) -> bool {
    // It may stand behind libtest's `test name ... `.
    let json = line.find("{\"model\":").map(|at| &line[at..]);
    json.is_some_and(|json| serde_json::from_str::<Report>(json).is_ok_and(|it| it.complete))
}

/// Whether a process ended as one does in which a test fails: by libtest's exit code, or by a fault or
/// an abort (a panic while it unwinds). One that was killed, or did not get as far as a test, does not.
fn fails_as_a_test(status: ExitStatus) -> bool {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        // SIGILL, SIGTRAP, SIGABRT, SIGBUS (on Linux, on macOS), SIGFPE, SIGSEGV.
        return matches!(signal, 4 | 5 | 6 | 7 | 10 | 8 | 11);
    }
    // Windows has a negative code for each fault.
    status.code().is_some_and(|code| code == 101 || (cfg!(windows) && code < 0))
}

/// How a process ended.
struct Ended {
    /// None when it was given up.
    status: Option<ExitStatus>,
    /// The end of what it printed, stdout and stderr as they came.
    output: String,
}

/// Runs a process to its end or to the limit, with a sign of life now and then.
fn watch(
    mut command: Command,
    limit: Option<Duration>,
    sign_of_life: impl Fn(Duration),
) -> Result<Ended> {
    let began = Instant::now();
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // The command holds the write ends; the reader sees the end only when they are gone.
    drop(command);

    let (done, ended) = mpsc::channel();
    let collector = thread::spawn(move || {
        let output = keep_the_end(reader, KEPT);
        let _ = done.send(());
        output
    });
    let mut next = SIGN_OF_LIFE;
    let given_up = loop {
        let until = limit.map_or(next, |limit| limit.min(next));
        match ended.recv_timeout(until.saturating_sub(began.elapsed())) {
            Err(RecvTimeoutError::Timeout) if limit.is_some_and(|l| began.elapsed() >= l) => {
                break true;
            }
            Err(RecvTimeoutError::Timeout) => {
                sign_of_life(next);
                next += SIGN_OF_LIFE;
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break false,
        }
    };
    let status = if given_up { stop(&mut child)? } else { Some(child.wait()?) };
    let output = collector.join().unwrap_or_default();
    Ok(Ended { status, output: String::from_utf8_lossy(&output).into_owned() })
}

/// Kills a process that was given up.
fn stop(child: &mut Child) -> Result<Option<ExitStatus>> {
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Reads to the end, and keeps the last bytes.
fn keep_the_end(mut reader: impl Read, kept: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        // Twice the size before the front is dropped: each byte moves once at most.
        if all.len() > 2 * kept {
            all.drain(..all.len() - kept);
        }
    }
    let surplus = all.len().saturating_sub(kept);
    all.drain(..surplus);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(bound: Bound) -> Job {
        Job {
            package: "cancel".to_owned(),
            model: "tree::cancel_vs_register".to_owned(),
            race: "cancel against register".to_owned(),
            bound,
            executable: PathBuf::new(),
            dir: PathBuf::new(),
        }
    }

    fn line(model: &str, iterations: u64, bound: &str, complete: bool) -> String {
        format!(
            "{{\"model\": \"{model}\", \"iterations\": {iterations}, \"seconds\": 0.5, \
             \"bound\": {bound}, \"complete\": {complete}}}\n"
        )
    }

    fn verdict(bound: Bound, written: &str) -> Result<u64, String> {
        judge(&job(bound), true, "exit status: 0", written).map(|report| report.iterations)
    }

    #[test]
    fn a_complete_report_to_the_bound_asked_for_counts() {
        let written = line("cancel_vs_register", 7, "null", true);
        assert_eq!(verdict(Bound::EXHAUSTIVE, &written), Ok(7));
        let written = line("tree::cancel_vs_register", 7, "2", true);
        assert_eq!(verdict(Bound::preemptions(2), &written), Ok(7));
    }

    #[test]
    fn success_without_a_report_is_not_explored() {
        assert!(verdict(Bound::EXHAUSTIVE, "").unwrap_err().starts_with("not explored"));
        assert!(verdict(Bound::EXHAUSTIVE, "{\"mod").unwrap_err().contains("unreadable"));
    }

    #[test]
    fn a_report_that_does_not_fit_is_cut_short() {
        let name = "cancel_vs_register";
        let other_bound = line(name, 7, "1", true);
        assert!(verdict(Bound::preemptions(2), &other_bound).unwrap_err().starts_with("cut short"));
        assert!(verdict(Bound::EXHAUSTIVE, &other_bound).unwrap_err().starts_with("cut short"));
        let unfinished = line(name, 7, "null", false);
        assert!(verdict(Bound::EXHAUSTIVE, &unfinished).unwrap_err().starts_with("cut short"));
        let empty = line(name, 0, "null", true);
        assert!(verdict(Bound::EXHAUSTIVE, &empty).unwrap_err().starts_with("cut short"));
    }

    #[test]
    fn a_report_of_another_model_or_of_two_is_refused() {
        let other = line("cancel_vs_drop", 7, "null", true);
        assert!(verdict(Bound::EXHAUSTIVE, &other).unwrap_err().contains("`cancel_vs_drop`"));
        let twice = line("cancel_vs_register", 7, "null", true).repeat(2);
        assert!(verdict(Bound::EXHAUSTIVE, &twice).unwrap_err().contains("more than once"));
    }

    #[test]
    fn a_failure_is_one_whatever_was_reported() {
        let written = line("cancel_vs_register", 7, "null", true);
        let failed = judge(&job(Bound::EXHAUSTIVE), false, "exit status: 101", &written);
        assert_eq!(failed.unwrap_err(), "failed (exit status: 101)");
    }

    #[cfg(unix)]
    #[test]
    fn only_a_test_that_fails_before_it_is_through_has_noticed_anything() {
        use std::os::unix::process::ExitStatusExt;
        let exits = |code: i32| ExitStatus::from_raw(code << 8);
        assert!(has_noticed(exits(101), "test a ... panicked"));
        assert!(has_noticed(ExitStatus::from_raw(6), "aborted"));
        assert!(!has_noticed(ExitStatus::from_raw(9), "killed: no memory"));
        assert!(!has_noticed(exits(2), "not understood"));
        assert!(!has_noticed(exits(0), ""));
        let through = format!("test a ... {}no room", line("a", 7, "null", true));
        assert!(!has_noticed(exits(101), &through));
    }

    #[cfg(unix)]
    #[test]
    fn a_model_that_loom_gives_up_is_given_up() {
        use std::os::unix::fs::PermissionsExt;
        let dir = env::temp_dir().join(format!("xtask-explore-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let executable = dir.join("model");
        fs::write(&executable, format!("#!/bin/sh\necho '{ENDLESS}. This is'\nexit 101\n"))
            .unwrap();
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
        let job = Job { executable, dir: dir.clone(), ..job(Bound::EXHAUSTIVE) };
        // While another test forks, it holds the script open for writing: text file busy.
        let explored =
            (0..1000).find_map(|_| explore(&job, &Setting::plain(&dir, None)).ok()).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert!(explored.gave_up && explored.failure.is_some());
    }

    #[test]
    fn the_listing_is_read_and_its_benches_are_not() {
        assert_eq!(test_names("a::b: test\nc: test\nd: bench\n\n"), ["a::b", "c"]);
    }

    #[test]
    fn the_end_of_a_long_output_is_kept() {
        let all: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        assert_eq!(keep_the_end(&all[..], 1000), all[99_000..]);
        assert_eq!(keep_the_end(&all[..10], 1000), all[..10]);
    }
}
