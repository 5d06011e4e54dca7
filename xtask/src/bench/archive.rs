//! The records of a run. The raw one: what the machine was, what was compared, then every line that the
//! bench program told. And beside it, as text, the rows and bars that were printed.
//!
//! `target/xtask/bench-raw.jsonl` and `.txt` always;
//! `benches/record/<date>-<commit>-<cores>-core-<model>.jsonl` and `.txt` when they are to be kept. A
//! machine is its number of cores and the model of its processor, no more.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::shell;
use crate::workspace::Workspace;

/// The package whose dependencies are the peers.
pub(crate) const PACKAGE: &str = "selvedge-bench";

/// The first line of a record.
#[derive(Debug, Serialize)]
pub(crate) struct Head {
    /// Always `run`, as the other lines have their event.
    event: &'static str,
    /// Of the day, in UTC.
    date: String,
    /// How many threads the machine runs at once.
    cores: usize,
    /// Of the processor.
    model: String,
    /// The platform, `linux x86_64`.
    platform: String,
    /// The compiler.
    rustc: String,
    /// What was measured; with a `+` when files differ from it.
    commit: String,
    /// What was asked for.
    arguments: Vec<String>,
    /// What the bench stands on and compares with, by name.
    versions: BTreeMap<String, String>,
}

impl Head {
    /// Looks around.
    pub(crate) fn of(workspace: &Workspace, arguments: &[String]) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lock =
            fs::read_to_string(workspace.root.join("Cargo.lock")).context("no Cargo.lock")?;
        Ok(Self {
            event: "run",
            date: date(SystemTime::now()),
            cores,
            model: model(),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            rustc: said(&mut Command::new("rustc"), &["--version"]).unwrap_or_default(),
            commit: commit(workspace),
            arguments: arguments.to_vec(),
            versions: versions(&lock)?,
        })
    }

    /// The day, the machine and the commit in words.
    pub(crate) fn title(&self) -> String {
        format!("{}, commit {}: {}", self.date, self.commit, self.machine())
    }

    /// The machine in words.
    pub(crate) fn machine(&self) -> String {
        format!("{} cores of {}, {}, {}", self.cores, self.model, self.platform, self.rustc)
    }
}

/// A record that is being written.
#[derive(Debug)]
pub(crate) struct Archive {
    /// One or two files with the same content: the raw record.
    raw: Vec<File>,
    /// As many with what was printed.
    printed: Vec<File>,
    /// Where the raw record is kept, if it is.
    pub(crate) kept: Option<PathBuf>,
}

impl Archive {
    /// Begins one; `keep` in the repository as well.
    pub(crate) fn create(workspace: &Workspace, head: &Head, keep: bool) -> Result<Self> {
        let mut paths = vec![workspace.target.join("xtask").join("bench-raw.jsonl")];
        let kept = keep.then(|| {
            let Head { date, commit, cores, model, .. } = head;
            let commit = commit.replace('+', "-changed");
            let name = format!("{date}-{commit}-{cores}-core-{}.jsonl", slug(model));
            workspace.root.join("benches").join("record").join(name)
        });
        paths.extend(kept.clone());
        let create = |path: &Path| {
            let folder = path.parent().context("a record has a folder")?;
            fs::create_dir_all(folder).with_context(|| format!("{} not made", folder.display()))?;
            File::create(path).with_context(|| format!("{} not made", path.display()))
        };
        let raw = paths.iter().map(|path| create(path)).collect::<Result<_>>()?;
        let text = paths.iter().map(|path| create(&path.with_extension("txt")));
        let printed = text.collect::<Result<_>>()?;
        let mut archive = Self { raw, printed, kept };
        archive.line(&serde_json::to_string(head)?)?;
        archive.print(head.title())?;
        Ok(archive)
    }

    /// Adds a line as it came.
    pub(crate) fn line(&mut self, line: &str) -> Result<()> {
        for file in &mut self.raw {
            writeln!(file, "{line}").context("the raw record was not written")?;
        }
        Ok(())
    }

    /// Prints a line, and adds it to the text.
    pub(crate) fn print(&mut self, line: impl Display) -> Result<()> {
        println!("{line}");
        for file in &mut self.printed {
            writeln!(file, "{line}").context("the record was not written")?;
        }
        Ok(())
    }
}

/// What a program says on one line, if it runs.
fn said(command: &mut Command, arguments: &[&str]) -> Option<String> {
    let output = command.args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn commit(workspace: &Workspace) -> String {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(&workspace.root);
        shell::scrub(&mut command);
        said(&mut command, arguments)
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return String::new() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    let mark = if changed.is_some_and(|files| !files.is_empty()) { "+" } else { "" };
    format!("{commit}{mark}")
}

/// The model of the processor, as the system tells it.
fn model() -> String {
    let told = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| model_in(&text));
    let told =
        told.or_else(|| said(&mut Command::new("sysctl"), &["-n", "machdep.cpu.brand_string"]));
    told.unwrap_or_else(|| "an unknown processor".to_owned())
}

fn model_in(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A name as part of a file name.
fn slug(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-").to_lowercase()
}

/// The day of a moment, `2026-11-24`, in UTC.
fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Days since 0000-03-01, so that a leap day is the last of its year; 400 years are 146,097 days.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = 400 * era + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The versions of what the bench package depends on itself, from the lock file.
fn versions(lock: &str) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: String,
        #[serde(default)]
        dependencies: Vec<String>,
    }

    let lock: Lock = toml::from_str(lock).context("Cargo.lock is not what it was")?;
    let bench = lock.package.iter().find(|package| package.name == PACKAGE);
    let wanted = bench.map_or(&[][..], |bench| &bench.dependencies);
    // A dependency is named with its version where there are several of it.
    let is_wanted = |package: &Locked| {
        let full = format!("{} {}", package.name, package.version);
        wanted.iter().any(|name| *name == package.name || *name == full)
    };
    let found = lock.package.iter().filter(|package| is_wanted(package));
    Ok(found.map(|package| (package.name.clone(), package.version.clone())).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_of_leap_years_and_of_the_ends_of_centuries() {
        for (day, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_781, "2026-11-24"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            let moment = UNIX_EPOCH + Duration::from_secs(day * 86_400 + 86_399);
            assert_eq!(date(moment), expected);
        }
    }

    #[test]
    fn a_machine_is_named_by_its_model() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU (R) @ 2.0\nflags: x\n";
        assert_eq!(model_in(cpuinfo).as_deref(), Some("Some CPU (R) @ 2.0"));
        assert_eq!(slug("Some CPU (R) @ 2.0"), "some-cpu-r-2-0");
    }

    #[test]
    fn the_versions_are_those_of_the_direct_dependencies() {
        let lock = r#"
            [[package]]
            name = "selvedge-bench"
            version = "0.1.0"
            dependencies = ["tokio", "syn 2.0.1"]
            [[package]]
            name = "tokio"
            version = "1.54.1"
            [[package]]
            name = "syn"
            version = "2.0.1"
            [[package]]
            name = "syn"
            version = "3.0.0"
        "#;
        let versions: Vec<_> = versions(lock).unwrap().into_iter().collect();
        let expected = [("syn", "2.0.1"), ("tokio", "1.54.1")];
        assert_eq!(versions, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
