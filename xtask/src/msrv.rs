//! `cargo xtask msrv`: does the oldest Rust that the manifests promise compile everything, tests and
//! examples included?
//!
//! The promise is `rust-version` in the workspace manifest, read from there. A newer standard library
//! is also seen by clippy, whose lint `incompatible_msrv` is on by default and an error in
//! `cargo xtask lint`; this is the proof. Where rustup has not installed that toolchain the run says
//! so and counts one skipped, as [`asan`](crate::asan) does.

use std::process::ExitCode;

use anyhow::Result;

use crate::shell;
use crate::toolchain::Toolchain;
use crate::workspace::Workspace;

/// What to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the version and check nothing: `rustup toolchain install "$(cargo xtask msrv --print)"`.
    #[arg(long)]
    print: bool,
}

/// Checks the workspace with the oldest toolchain.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let version = workspace.rust_version()?;
    if args.print {
        println!("{version}");
        return Ok(ExitCode::SUCCESS);
    }
    let Some(oldest) = Toolchain::find(version) else {
        println!("skipped: {}\n0 passed, 0 failed, 1 skipped", Toolchain::missing(version));
        return Ok(ExitCode::SUCCESS);
    };
    let arguments = ["check", "--workspace", "--all-targets", "--all-features", "--locked"];
    let mut command = oldest.cargo(workspace, &arguments);
    // Its warnings are not ours to mend: an old lint may be wrong about new code.
    command.arg("--quiet").arg("--target-dir").arg(workspace.target.join("msrv"));
    let passed = shell::run(&mut command)?.success();
    let (passed, failed) = (usize::from(passed), usize::from(!passed));
    println!("Rust {version}: {passed} passed, {failed} failed, 0 skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
