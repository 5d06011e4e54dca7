//! `cargo xtask ci`: runs `.ci/run`, the one description of what CI does.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::shell;
use crate::workspace::Workspace;

/// Runs the script through bash, which is also there where files have no executable bit.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let mut command = Command::new("bash");
    command.arg(".ci/run").current_dir(&workspace.root);
    shell::scrub(&mut command);
    let status = shell::run(&mut command)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
