//! `cargo xtask planted [BUG...]`: a check that never failed proves little.
//!
//! `docs/planted/*.patch` are bugs. Each is planted in a clone of the last commit, below the target folder, and the
//! command that its first lines name has to fail there, and to print what they say: a build that fails catches nothing.
//!
//! ```text
//! caught by: cargo xtask loom primitives
//! prints: wait_queue_replaced_waker_enters
//! diff --git a/crates/...
//! ```
//!
//! A bug whose command prints that it was skipped (no nightly toolchain, say) is skipped as well.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use std::{fs, io};

use anyhow::{Context, Result, bail, ensure};

use crate::shell;
use crate::test::Sum;
use crate::workspace::Workspace;

/// Where the bugs are.
const FOLDER: &str = "docs/planted";

/// Which bugs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bugs, by the names of their patches; all when none is named.
    #[arg(value_name = "BUG")]
    bugs: Vec<String>,
}

/// What the first lines of a patch say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// The command that catches the bug.
    command: String,
    /// What it prints then.
    prints: Vec<String>,
}

impl Recipe {
    /// Reads the lines before the first diff; none if they do not say how the bug is caught.
    pub(crate) fn of(patch: &str) -> Option<Self> {
        let head = || patch.lines().take_while(|line| !line.starts_with("diff --git "));
        let all =
            |key| head().filter_map(move |line: &str| line.strip_prefix(key)).map(str::to_owned);
        let command = all("caught by: ").next().filter(|line| line.starts_with("cargo "))?;
        let prints = all("prints: ").collect::<Vec<_>>();
        (!prints.is_empty()).then_some(Self { command, prints })
    }

    /// What of it a command did not print that failed.
    fn missing(&self, output: &str) -> Option<&str> {
        self.prints.iter().map(String::as_str).find(|expected| !output.contains(expected))
    }
}

/// Plants each bug in turn, and fails when one was not caught.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let patches = patches(&workspace.root.join(FOLDER), &args.bugs)?;
    let clone = workspace.target.join("planted");
    match fs::remove_dir_all(&clone) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error)
                .with_context(|| format!("no place for a clone: {}", clone.display()));
        }
        _ => git(&workspace.root, &["clone", "--quiet", "."], &[&clone])?,
    }
    let mut totals = Sum::default();
    println!("{:<32}{:>7}  caught by", "bug", "seconds");
    for patch in patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&patch).with_context(|| format!("no {}", patch.display()))?;
        let recipe =
            Recipe::of(&text).with_context(|| format!("{name} does not say what catches it"))?;
        git(&clone, &["checkout", "--quiet", "."], &[])?;
        git(&clone, &["clean", "--force", "--quiet", "-d", "--exclude", "target"], &[])?;
        git(&clone, &["apply"], &[&patch])?;
        let began = Instant::now();
        let verdict = match attempt(&clone, &recipe)? {
            Attempt::Caught => {
                totals.passed += 1;
                recipe.command.clone()
            }
            Attempt::Skipped => {
                totals.skipped += 1;
                format!("(skipped) {}", recipe.command)
            }
            Attempt::Missed(why) => {
                totals.failed += 1;
                format!("NO: {} {why}", recipe.command)
            }
        };
        println!("{name:<32}{:>7.1}  {verdict}", began.elapsed().as_secs_f64());
    }
    fs::remove_dir_all(&clone).with_context(|| format!("{} stays", clone.display()))?;
    println!("{totals}");
    Ok(if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The patches that are asked for.
fn patches(folder: &Path, bugs: &[String]) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let mut patches = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    let is = |path: &PathBuf, bug: &String| path.file_stem().is_some_and(|stem| stem == &**bug);
    for bug in bugs {
        ensure!(patches.iter().any(|path| is(path, bug)), "no bug {bug} in {}", folder.display());
    }
    patches.retain(|path| bugs.is_empty() || bugs.iter().any(|bug| is(path, bug)));
    Ok(patches)
}

/// How a command took a bug.
enum Attempt {
    /// It failed as it should.
    Caught,
    /// It could not run here.
    Skipped,
    /// It did not fail, or for another reason.
    Missed(String),
}

/// Runs what catches a bug where it is planted.
fn attempt(clone: &Path, recipe: &Recipe) -> Result<Attempt> {
    let mut words = recipe.command.split_whitespace();
    let mut command = Command::new(words.next().context("a command")?);
    // Two checkouts that share a target folder are the same to cargo.
    command.args(words).current_dir(clone).env_remove("CARGO_TARGET_DIR").stdin(Stdio::null());
    shell::scrub(&mut command);
    shell::announce(&command);
    let output = command.output().context("cargo did not start")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(match recipe.missing(&text) {
        _ if output.status.success() && text.contains("\nskipped: ") => Attempt::Skipped,
        _ if output.status.success() => Attempt::Missed("passes".to_owned()),
        Some(expected) => {
            eprint!("{text}");
            Attempt::Missed(format!("does not print `{expected}`"))
        }
        None => Attempt::Caught,
    })
}

/// Runs git in a folder.
fn git(folder: &Path, arguments: &[&str], paths: &[&Path]) -> Result<()> {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).args(paths);
    if !shell::run(&mut command)?.success() {
        bail!("git failed; a patch that does not apply is named by `cargo xtask tidy`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "caught by: cargo xtask loom a\nprints: one\nprints: two\n\
                         diff --git a/a b/a\nprints: three\n";

    #[test]
    fn a_patch_says_what_catches_it_before_its_diff() {
        let recipe = Recipe::of(PATCH).unwrap();
        assert_eq!(recipe.command, "cargo xtask loom a");
        assert_eq!(recipe.prints, ["one", "two"]);
        assert_eq!(recipe.missing("two, one"), None);
        assert_eq!(recipe.missing("one"), Some("two"));
    }

    #[test]
    fn a_patch_that_does_not_say_it_is_no_recipe() {
        assert_eq!(Recipe::of(&PATCH.replace("prints", "shows")), None);
        assert_eq!(Recipe::of(&PATCH.replace("cargo ", "rm ")), None);
        assert_eq!(Recipe::of(""), None);
    }
}
