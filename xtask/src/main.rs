//! `cargo xtask`: everything CI does, as subcommands. CI files only call these, so a green run at
//! home is a green run there.
//!
//! One file a subcommand; this one only dispatches. [`workspace`] asks cargo what is here, [`shell`]
//! prints the command lines that run, [`record`] writes what was printed as JSON lines, and
//! [`artifacts`] finds what cargo built.

#![forbid(unsafe_code)]

mod artifacts;
mod asan;
mod bench;
mod ci;
mod demo;
mod lint;
mod loom;
mod miri;
mod msrv;
mod mutants;
mod planted;
mod record;
mod report;
mod shell;
mod test;
mod tidy;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// What CI runs, as subcommands.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the demo (SHA-256 of every file below a folder) in release and become it.
    Demo(demo::Args),
    /// Run unit, integration and doc tests, then the quick tier of the models.
    Test(test::Args),
    /// Explore the loom models, one process each, and say how far each one was explored.
    Loom(loom::Args),
    /// Try every mutant of the crates' orderings, fences, wakes and lock releases on the models.
    Mutants(mutants::Args),
    /// Write what `loom` and `mutants` recorded into docs/verification.md.
    Report,
    /// Measure ours and the peers on the same work, in turn, and hold the results against the bars.
    Bench(bench::Args),
    /// Run the stress tests, and all tests of crates with unsafe code, under the address sanitizer.
    Asan(asan::Args),
    /// Run tests under miri, with strict provenance.
    Miri(miri::Args),
    /// Plant the bugs of docs/planted in a clone, and see that each is caught.
    Planted(planted::Args),
    /// Check everything with the oldest Rust that is promised.
    Msrv(msrv::Args),
    /// Formatting, clippy, docs, tidy, each crate with each feature: every step, then the verdict.
    Lint,
    /// The house rules that no other tool checks: headers, ordering notes, sweeps, links, markers.
    Tidy,
    /// What CI runs: `.ci/run`.
    Ci,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse_from(demo::escape(std::env::args_os())).command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    match command {
        Command::Demo(args) => demo::run(&workspace, &args),
        Command::Test(args) => test::run(&workspace, &args),
        Command::Loom(args) => loom::run(&workspace, &args),
        Command::Mutants(args) => mutants::run(&workspace, &args),
        Command::Report => report::run(&workspace),
        Command::Bench(args) => bench::run(&workspace, &args),
        Command::Asan(args) => asan::run(&workspace, &args),
        Command::Miri(args) => miri::run(&workspace, &args),
        Command::Planted(args) => planted::run(&workspace, &args),
        Command::Msrv(args) => msrv::run(&workspace, &args),
        Command::Lint => lint::run(&workspace),
        Command::Tidy => tidy::run(&workspace),
        Command::Ci => ci::run(&workspace),
    }
}
