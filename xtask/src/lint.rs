//! `cargo xtask lint`: everything that is checked without running code. Each step prints its command
//! line and its verdict; all of them run even when one fails, so that one run shows all there is.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::loom;
use crate::record::Record;
use crate::shell;
use crate::tidy;
use crate::workspace::{Package, Workspace};

/// The crates that must also build under the bare `--cfg loom`, which reaches every dependency:
/// users of theirs may model-check under it. docs/verification.md says what stops the others.
const BARE_LOOM: [&str; 4] = ["primitives", "cancel", "sync", "ratelimit"];

/// A row of `target/xtask/lint.jsonl`.
#[derive(Debug, Serialize)]
struct Row {
    step: String,
    ok: bool,
    seconds: f64,
}

/// Runs every step; fails when one did.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let mut steps = Steps { record: Record::create(workspace, "lint")?, done: Vec::new() };
    let cargo = |arguments: &[&str]| shell::cargo(workspace, arguments);

    steps.command("fmt", cargo(&["fmt", "--all", "--check"]))?;
    steps.step("tidy", || tidy::tidy(workspace))?;
    let everything = ["clippy", "--workspace", "--all-targets", "--all-features"];
    steps.command("clippy", denying(cargo(&everything)))?;
    for package in workspace.crates().filter(|package| package.has_feature("loom")) {
        let name = format!("clippy of the models: {}", package.short());
        steps.command(&name, models(workspace, package))?;
    }
    // With all features, as it is published, and with the default ones, as its users build it.
    for features in [&["--all-features"][..], &[]] {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
        doc.args(features);
        let flags = std::env::var("RUSTDOCFLAGS").ok();
        doc.env("RUSTDOCFLAGS", shell::appended(flags, "-D warnings"));
        let name = ["doc"].iter().chain(features).copied().collect::<Vec<_>>().join(" ");
        steps.command(&name, doc)?;
    }
    for package in workspace.crates() {
        for features in powerset(package) {
            let chosen = features.as_deref().unwrap_or("no feature");
            let name = format!("alone: {} with {chosen}", package.short());
            steps.command(&name, alone(workspace, package, features.as_deref()))?;
        }
    }
    for package in workspace.crates().filter(|package| BARE_LOOM.contains(&package.short())) {
        let name = format!("under --cfg loom: {}", package.short());
        steps.command(&name, bare_loom(workspace, package))?;
    }
    Ok(steps.verdict())
}

/// Clippy of a crate and its models as loom compiles them; its other tests are not for that build.
fn models(workspace: &Workspace, package: &Package) -> Command {
    let mut command = shell::cargo(workspace, &["clippy", "-p", &package.name, "--lib"]);
    if package.dir.join("tests").join("loom.rs").exists() {
        command.args(["--test", "loom"]);
    }
    command.args(["--no-default-features", "--features", "loom"]);
    command.arg("--target-dir").arg(workspace.target.join("loom"));
    shell::add_rustflags(&mut command, loom::CFG);
    denying(command)
}

/// A crate alone, with one feature or none. Clippy rather than check, because a feature that is off
/// leaves unused code behind, and a warning is an error.
fn alone(workspace: &Workspace, package: &Package, feature: Option<&str>) -> Command {
    let mut command = shell::cargo(workspace, &["clippy", "-p", &package.name]);
    command.arg("--no-default-features");
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    denying(command)
}

/// A crate under the switch of other people's models.
fn bare_loom(workspace: &Workspace, package: &Package) -> Command {
    let mut command = shell::cargo(workspace, &["check", "-p", &package.name]);
    command.arg("--no-default-features");
    command.arg("--target-dir").arg(workspace.target.join("bare-loom"));
    shell::add_rustflags(&mut command, "--cfg loom");
    command
}

/// Turns clippy's warnings into errors.
fn denying(mut clippy: Command) -> Command {
    clippy.args(["--", "-D", "warnings"]);
    clippy
}

/// No feature, then each one by itself. `loom` has its own step and `default` is what users build.
fn powerset(package: &Package) -> Vec<Option<String>> {
    let single =
        package.features.iter().filter(|name| !matches!(name.as_str(), "default" | "loom"));
    std::iter::once(None).chain(single.cloned().map(Some)).collect()
}

/// What has run so far.
struct Steps {
    record: Record,
    done: Vec<Row>,
}

impl Steps {
    /// A step that is a command.
    fn command(&mut self, name: &str, mut command: Command) -> Result<()> {
        self.step(name, || Ok(shell::run(&mut command)?.success()))
    }

    /// A step: its verdict is printed and recorded. Not being able to run is a failed step too.
    fn step(&mut self, name: &str, run: impl FnOnce() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        let ok = run().unwrap_or_else(|error| {
            eprintln!("xtask: {error:#}");
            false
        });
        let row = Row { step: name.to_owned(), ok, seconds: began.elapsed().as_secs_f64() };
        println!("{}", line(&row));
        self.record.row(&row)?;
        self.done.push(row);
        Ok(())
    }

    /// The failures once more, and the count.
    fn verdict(self) -> ExitCode {
        let failed: Vec<_> = self.done.iter().filter(|row| !row.ok).collect();
        println!();
        for row in &failed {
            println!("{}", line(row));
        }
        println!("{} steps passed, {} failed", self.done.len() - failed.len(), failed.len());
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn line(row: &Row) -> String {
    let verdict = if row.ok { "ok    " } else { "FAILED" };
    format!("{verdict}  {} ({:.1} s)", row.step, row.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_powerset_is_none_and_each_one_without_default_and_loom() {
        let package = Package {
            name: "selvedge-pool".to_owned(),
            dir: "crates/pool".into(),
            features: ["default", "loom", "tokio", "tower"].map(str::to_owned).to_vec(),
            rust_version: None,
        };
        let sets = powerset(&package);
        assert_eq!(sets, [None, Some("tokio".to_owned()), Some("tower".to_owned())]);
    }
}
