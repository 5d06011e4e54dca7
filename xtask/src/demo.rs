//! `cargo xtask demo [ARGS...]`: builds the example `digest` in release and becomes it.
//!
//! Stdout belongs to the example alone; what cargo has to say goes to stderr. Every argument goes
//! through untouched, `--help` included. On Unix the example takes the place of this process, so
//! signals and exit codes need no relay. Elsewhere xtask waits beside it, ignores Ctrl-C (the
//! example gets it too, and decides) and passes the exit code on.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::artifacts::{self, MESSAGE_FORMAT};
use crate::shell;
use crate::workspace::Workspace;

/// The package that has the example, and the example.
const PACKAGE: &str = "selvedge";
const EXAMPLE: &str = "digest";

/// Tells the example which folder to digest when no argument names one.
const ROOT_VARIABLE: &str = "SELVEDGE_DEMO_ROOT";

/// Everything after `demo` belongs to the example.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// The example's arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// Builds the example and becomes it; returns only where that did not work, or off Unix.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let build = ["build", "--release", "-p", PACKAGE, "--example", EXAMPLE, MESSAGE_FORMAT];
    let (status, executables) = artifacts::build(&mut shell::cargo(workspace, &build))?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let example = executables
        .into_iter()
        .find(|built| built.kind == "example" && built.name == EXAMPLE)
        .with_context(|| format!("cargo named no executable for the example {EXAMPLE}"))?;

    let mut command = Command::new(&example.path);
    command.args(&args.arguments).env(ROOT_VARIABLE, &workspace.root);
    shell::scrub(&mut command);
    shell::announce(&command);
    become_it(command).with_context(|| format!("{} did not start", example.path.display()))
}

#[cfg(unix)]
fn become_it(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;

    // Returns only when it failed.
    Err(command.exec().into())
}

#[cfg(not(unix))]
fn become_it(mut command: Command) -> Result<ExitCode> {
    ctrlc::set_handler(|| {}).context("Ctrl-C is not ignored")?;
    let status = command.status()?;
    // Past 255 a code is a Windows status; its low byte may be 0, so it is not cut to size.
    std::process::exit(status.code().unwrap_or(1))
}
