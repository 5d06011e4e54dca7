//! `cargo xtask test [CRATE]`: unit, integration and doc tests under `cargo test`, then the quick
//! tier of the loom models; one sum over all of them at the end.
//!
//! Cargo's output streams through as it comes; the counts are read off it on the way ([`tally`]).
//! All features are on; the feature `loom` among them does nothing without its cfg. The crates that also work without a
//! runtime are tested without any feature after that.

mod tally;

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result};

use self::tally::{Kind, Tally};
pub(crate) use self::tally::{Sum, result};
use crate::loom;
use crate::record::Record;
use crate::shell;
use crate::workspace::Workspace;

/// What to test.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The crate to test, `pool` or `selvedge-pool`; the whole workspace when none is named.
    #[arg(value_name = "CRATE")]
    package: Option<String>,
}

/// The crates that also work where there is no runtime.
const PLAIN: [&str; 2] = ["primitives", "cancel"];

/// Tests whose names contain this are left out there: what repeats itself for its own sake, and knows of no runtime.
const REPEATED: [&str; 3] = ["naive_tree", "deep_chain", "million"];

/// The tests of the crates that also work without a runtime, without their features.
fn without_runtime(workspace: &Workspace) -> Result<Command> {
    let all = ["test", "--no-default-features", "--no-fail-fast", "--lib", "--tests"];
    let mut command = shell::cargo(workspace, &all);
    for name in PLAIN {
        command.args(["-p", &workspace.package(name)?.name]);
    }
    command.arg("--");
    for name in REPEATED {
        command.args(["--skip", name]);
    }
    Ok(command)
}

/// Runs every test and model, whatever fails, and prints the sum.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let mut record = Record::create(workspace, "test")?;
    let mut command = shell::cargo(workspace, &["test", "--all-features", "--no-fail-fast"]);
    let mut models = Vec::new();
    match &args.package {
        Some(name) => {
            let package = workspace.package(name)?;
            command.args(["-p", &package.name]);
            models.push(package.name.clone());
        }
        None => {
            command.arg("--workspace");
        }
    }

    let mut tally = Tally::default();
    let mut succeeded = stream(&mut command, &mut tally)?.success();
    if args.package.is_none() {
        succeeded &= stream(&mut without_runtime(workspace)?, &mut tally)?.success();
    }
    let mut counts = tally.finish(succeeded);

    println!("\nModels (quick tier; `cargo xtask loom --full` goes deeper)");
    let explored = loom::explore_all(workspace, &loom::Args::quick(models))?;
    let unproven = args.package.is_none() && explored == loom::Outcome::default();
    if unproven {
        println!("FAILED  no model ran: no crate has a tests/loom.rs");
    }
    let model = counts.of(Kind::Model);
    model.passed = explored.passed;
    model.failed = explored.failed + usize::from(unproven);

    println!();
    for row in counts.rows() {
        println!("{row}");
        record.row(&row)?;
    }
    let sum = counts.sum();
    println!("{sum}");
    Ok(if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a command that runs tests, and counts them.
pub(crate) fn counted(command: &mut Command) -> Result<Sum> {
    let mut tally = Tally::default();
    let status = stream(command, &mut tally)?;
    Ok(tally.finish(status.success()).sum())
}

/// Runs cargo with its stdout and stderr in one pipe, so that "Running ..." (stderr) and the results
/// (stdout) keep their order, and copies each line to stdout as it comes.
fn stream(command: &mut Command, tally: &mut Tally) -> Result<ExitStatus> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() && std::env::var_os("CARGO_TERM_COLOR").is_none() {
        command.arg("--color=always");
    }
    shell::announce(command);
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("cargo test did not start")?;
    // The command holds the write ends; the reader sees the end only when they are gone.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        stdout.lock().write_all(&line)?;
        tally.line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(child.wait()?)
}
