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
    #[arg(value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// The arguments of xtask, with a `--` after `demo`: the parser takes it for itself and looks at
/// nothing behind it, so that another `--` comes through as well.
pub(crate) fn escape(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.into_iter().collect();
    if arguments.get(1).is_some_and(|command| command == "demo") {
        arguments.insert(2, "--".into());
    }
    arguments
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Cli, Command};

    #[test]
    fn every_argument_goes_through_untouched() {
        for given in [
            &[][..],
            &["--", "-x"],
            &["--"],
            &["--", "--", "a", "--"],
            &["--help"],
            &["-h", "--jobs=4", "DIR", "--", "-"],
        ] {
            let line = ["xtask", "demo"].iter().chain(given).map(OsString::from);
            let cli = Cli::try_parse_from(escape(line)).unwrap();
            let Command::Demo(Args { arguments }) = cli.command else { panic!("not the demo") };
            assert_eq!(arguments, given, "{given:?}");
        }
    }

    #[test]
    fn other_commands_are_left_alone() {
        for line in [&["xtask"][..], &["xtask", "test", "demo"], &["xtask", "help", "demo"]] {
            let line: Vec<_> = line.iter().map(OsString::from).collect();
            assert_eq!(escape(line.clone()), line);
        }
    }
}
