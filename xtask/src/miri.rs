//! `cargo xtask miri [CRATE...]`: tests under miri, on nightly: undefined behaviour, data races, and
//! pointers made of integers (strict provenance).
//!
//! Miri interprets, some hundred times slower than the processor, so what repeats itself for its own
//! sake is left to others ([`LONG`]), and by default only the crates that everything else waits on run.
//! The doc tests are left out. Where there is no nightly toolchain or no miri that is one skipped, with
//! the reason above the last line, as in [`asan`](crate::asan).

use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::record::Record;
use crate::shell;
use crate::test::{self, Sum};
use crate::toolchain::Toolchain;
use crate::workspace::{Package, Workspace};

/// What miri is told. Leaks are the sanitizer's: some tests forget a value on purpose, to show that it
/// does no harm.
const FLAGS: &str = "-Zmiri-strict-provenance -Zmiri-ignore-leaks";

/// The crates that run when none is named.
const CRATES: [&str; 3] = ["primitives", "cancel", "sync"];

/// The test files that are left out: thousands of repetitions, for processors; timers on the real
/// clock, which miri has only a picture of; and the models, which are empty without their cfg.
const LONG: [&str; 6] = ["deadline", "loom", "property", "stress", "time", "wait_queue_model"];

/// Tests whose names contain this are left out for the same reasons.
const SKIPPED: [&str; 4] = [
    "deep_chain",
    "many_tasks_never_exceed_the_capacity",
    "million",
    "nodes_are_at_most_twice_the_live_ones",
];

/// Which crates.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The crates to test; `primitives`, `cancel` and `sync` when none is named.
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
}

/// A row of `target/xtask/miri.jsonl`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(rename = "crate")]
    package: &'a str,
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs the tests, a command a crate, and fails when one did.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let named = args.crates.iter().map(String::as_str);
    let names = if args.crates.is_empty() { CRATES.to_vec() } else { named.collect() };
    let packages: Vec<&Package> =
        names.into_iter().map(|name| workspace.package(name)).collect::<Result<_>>()?;
    let mut record = Record::create(workspace, "miri")?;
    let mut all = Sum::default();
    match toolchain(workspace) {
        Ok(nightly) => {
            for package in packages {
                let sum = interpret(workspace, &nightly, package)?;
                let Sum { passed, failed, skipped } = sum;
                record.row(&Row { package: package.short(), passed, failed, skipped })?;
                all = all + sum;
            }
        }
        Err(reason) => {
            println!("skipped: {reason}");
            all.skipped += 1;
        }
    }
    println!("{all}");
    Ok(if all.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The toolchain that has miri, or why there is none.
fn toolchain(workspace: &Workspace) -> Result<Toolchain, String> {
    let nightly = Toolchain::find("nightly").ok_or_else(|| Toolchain::missing("nightly"))?;
    let mut asked = nightly.cargo(workspace, &["miri", "--version"]);
    let asked = asked.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if asked.is_ok_and(|status| status.success()) {
        Ok(nightly)
    } else {
        Err("no miri; `rustup component add miri rust-src --toolchain nightly`".to_owned())
    }
}

/// Runs the tests of a crate and counts them.
fn interpret(workspace: &Workspace, nightly: &Toolchain, package: &Package) -> Result<Sum> {
    let mut command = nightly.cargo(workspace, &["miri", "test", "-p", &package.name]);
    command.args(["--all-features", "--no-fail-fast", "--lib"]);
    for test in tests(package)? {
        command.args(["--test", &test]);
    }
    command.arg("--target-dir").arg(workspace.target.join("miri"));
    command.arg("--");
    for test in SKIPPED {
        command.args(["--skip", test]);
    }
    command.env("MIRIFLAGS", shell::appended(std::env::var("MIRIFLAGS").ok(), FLAGS));
    test::counted(&mut command)
}

/// The names of a crate's test files, without the long ones.
fn tests(package: &Package) -> Result<Vec<String>> {
    let folder = package.dir.join("tests");
    let mut names = Vec::new();
    if !folder.exists() {
        return Ok(names);
    }
    let shown = folder.display();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{shown} not read"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            && !LONG.contains(&name)
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
