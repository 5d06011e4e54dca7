//! Finds the executables that cargo built, in what it prints under
//! `--message-format=json-render-diagnostics`: no guessing of target folders and profile names.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell;

/// The option that makes cargo name what it built on stdout and print the rest, rendered, to stderr.
pub(crate) const MESSAGE_FORMAT: &str = "--message-format=json-render-diagnostics";

/// An executable that cargo built, or found fresh.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    /// The target's kind: `test`, `example`, `bin`, ...
    pub(crate) kind: String,
    /// The target's name.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) path: PathBuf,
}

/// Runs a cargo command that carries [`MESSAGE_FORMAT`]; its messages for people go to stderr.
pub(crate) fn build(command: &mut Command) -> Result<(ExitStatus, Vec<Executable>)> {
    shell::announce(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{}`", shell::line(command)))?;
    let stdout = child.stdout.take().context("cargo's stdout is not a pipe")?;
    let mut found = Vec::new();
    for line in BufReader::new(stdout).lines() {
        found.extend(executable(&line?));
    }
    Ok((child.wait()?, found))
}

/// The executable that one line names, if it names one.
fn executable(line: &str) -> Option<Executable> {
    let message: Message = serde_json::from_str(line).ok()?;
    if message.reason != "compiler-artifact" {
        return None;
    }
    let target = message.target?;
    let kind = target.kind.into_iter().next()?;
    Some(Executable { kind, name: target.name, path: message.executable? })
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_found_and_other_lines_are_passed_over() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["example"],"name":"digest",
            "src_path":"x"},"executable":"/t/digest","fresh":true}"#;
        let found = executable(line).unwrap();
        assert_eq!((found.kind.as_str(), found.name.as_str()), ("example", "digest"));
        assert_eq!(found.path, PathBuf::from("/t/digest"));

        let library = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"x"},
            "executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(executable("not JSON"), None);
    }
}
