//! `cargo xtask tidy`: the house rules that no other tool checks, a file a rule. Each finding is
//! `path:line: what is wrong; how to fix it`.
//!
//! | rule | says |
//! |---|---|
//! | [`header`] | a source file begins with `//!` |
//! | [`ordering`] | an atomic ordering has a note that names it; `SeqCst` is for fences |
//! | [`std_sync`] | crates reach atomics, locks and threads through primitives |
//! | [`futures`] | a public future or stream is named, and swept by testkit |
//! | [`unsafe_code`] | a crate without unsafe code forbids it, one with it denies it elsewhere |
//! | [`models`] | a crate that stands on primitives has models |
//! | [`modules`] | no source of a crate passes for a test, or comes from elsewhere |
//! | [`text`] | no path of somebody's machine, no marker of unfinished work |
//! | [`links`] | links between the pages, and to their headings, hold |
//! | [`book`] | a page below `docs/` is in the book, and its Rust is compiled |
//! | [`planted`] | the bugs to plant by hand still apply |
//!
//! The rules look at what git tracks or would track, so what is ignored is ignored here too. They
//! are functions of a [`Tree`], which the tests build in memory.

mod book;
mod futures;
mod header;
mod links;
mod models;
mod modules;
mod ordering;
mod planted;
mod source;
mod std_sync;
mod text;
mod unsafe_code;

pub(crate) use source::is_cfg_test;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;

use self::source::Source;
use crate::record::Record;
use crate::workspace::{Package, Workspace};

/// The subcommand.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    Ok(if tidy(workspace)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Applies every rule, prints what was found, and says whether that was nothing.
pub(crate) fn tidy(workspace: &Workspace) -> Result<bool> {
    let mut record = Record::create(workspace, "tidy")?;
    let tree = Tree::read(workspace)?;
    let findings = check(&tree);
    for finding in &findings {
        println!("{finding}");
        record.row(finding)?;
    }
    println!("tidy: {} files, {} findings", tree.paths.len(), findings.len());
    Ok(findings.is_empty())
}

/// Whether the source of a package has unsafe code. Asks the files rather than git, so that it works
/// in a copy of the tree as well.
pub(crate) fn has_unsafe_code(package: &Package) -> Result<bool> {
    let mut folders = vec![package.dir.join("src")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let shown = path.display().to_string();
                let text = fs::read_to_string(&path).with_context(|| shown.clone())?;
                let source = Source::parse(&shown, &text)
                    .map_err(|(line, error)| anyhow!("{shown}:{line}: {error}"))?;
                if unsafe_code::names_unsafe(&source.tokens) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Every rule over a tree; the findings in the order of the files.
fn check(tree: &Tree) -> Vec<Finding> {
    let rules = [
        header::check,
        ordering::check,
        std_sync::check,
        futures::check,
        unsafe_code::check,
        models::check,
        modules::check,
        text::check,
        links::check,
        book::check,
        planted::check,
    ];
    let mut findings: Vec<_> = tree.unreadable.clone();
    findings.extend(rules.iter().flat_map(|rule| rule(tree)));
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings
}

/// Something that breaks a rule.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    /// Relative to the workspace, with `/`.
    path: String,
    /// From 1.
    line: usize,
    /// What is wrong; how to fix it.
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// The files that the rules look at.
#[derive(Default)]
struct Tree {
    /// Every file, relative to the workspace, with `/`.
    paths: BTreeSet<String>,
    /// The Rust files.
    sources: Vec<Source>,
    /// The files of words: Rust, Markdown, TOML, YAML, shell, patches.
    texts: Vec<Text>,
    /// Rust files that could not be read as such.
    unreadable: Vec<Finding>,
}

/// A file as text.
#[derive(Debug)]
struct Text {
    path: String,
    text: String,
}

impl Tree {
    fn read(workspace: &Workspace) -> Result<Self> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&workspace.root)
            .output()
            .context("git did not start; tidy asks it which files are ours")?;
        ensure!(
            output.status.success(),
            "git ls-files failed, tidy needs a checkout: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let mut tree = Self::default();
        for path in output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
            let path = String::from_utf8_lossy(path).into_owned();
            let file = workspace.root.join(&path);
            // The index also knows files that were deleted; links of git's are not followed.
            if !fs::symlink_metadata(&file).is_ok_and(|data| data.is_file()) {
                continue;
            }
            let text = if is_text(&path) {
                let bytes = fs::read(&file).with_context(|| format!("{path} not read"))?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            } else {
                None
            };
            tree.add(&path, text);
        }
        Ok(tree)
    }

    fn add(&mut self, path: &str, text: Option<String>) {
        self.paths.insert(path.to_owned());
        let Some(text) = text else { return };
        if path.ends_with(".rs") {
            match Source::parse(path, &text) {
                Ok(source) => self.sources.push(source),
                Err((line, error)) => {
                    let message = format!("not Rust: {error}; make it compile");
                    self.unreadable.push(Finding::new(path, line, message));
                }
            }
        }
        self.texts.push(Text { path: path.to_owned(), text });
    }

    /// A tree of these files.
    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add(path, Some((*text).to_owned()));
        }
        assert!(tree.unreadable.is_empty(), "{:?}", tree.unreadable);
        tree
    }
}

/// Whether a path is one of the kinds of text that the rules know; `.ci/run` has no extension.
fn is_text(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.starts_with(".ci/")
        || [".rs", ".md", ".toml", ".yml", ".yaml", ".sh", ".patch"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// The line and the start of the message of each finding, for the tests of the rules.
#[cfg(test)]
fn summary(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| {
            let what = finding.message.split(';').next().unwrap_or_default();
            format!("{}:{}: {what}", finding.path, finding.line)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_read_as_compilers_write_them_in_the_order_of_the_files() {
        let tree = Tree::of(&[("b.rs", "fn b() {}\n"), ("a.rs", "fn a() {}\n")]);
        let findings = check(&tree);
        assert_eq!(findings.len(), 2);
        assert!(findings[0].to_string().starts_with("a.rs:1: "), "{}", findings[0]);
        assert!(findings[1].to_string().starts_with("b.rs:1: "), "{}", findings[1]);
        assert!(findings.iter().all(|finding| finding.message.contains("; ")));
    }

    #[test]
    fn a_file_that_is_not_rust_is_a_finding() {
        let mut tree = Tree::default();
        tree.add("a.rs", Some("//! A.\nfn a( {}\n".to_owned()));
        let findings = check(&tree);
        assert!(findings[0].to_string().starts_with("a.rs:2: not Rust"), "{findings:?}");
    }

    #[test]
    fn scripts_and_pages_are_text_and_pictures_are_not() {
        assert!(is_text(".ci/run") && is_text("a/b.md") && is_text(".github/workflows/ci.yml"));
        assert!(!is_text("docs/graph.png") && !is_text("Cargo.lock"));
    }
}
