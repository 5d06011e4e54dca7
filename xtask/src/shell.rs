//! Child processes: cargo with a clean environment, and the command lines that run, printed to
//! stderr so that a person can repeat them by hand.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// A cargo command in the workspace root.
pub(crate) fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(&workspace.root);
    scrub(&mut command);
    command
}

/// Takes out of a child's environment what `cargo run` added for xtask itself: to a build these
/// variables would say that they belong to the package being built.
pub(crate) fn scrub(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let package = text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_");
        if package
            || matches!(text, "CARGO_BIN_NAME" | "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE")
        {
            command.env_remove(&name);
        }
    }
}

/// Adds flags to those that the user gave to rustc. The variables replace each other and the flags
/// of cargo's configuration, so the one that is in force is the one that is extended.
pub(crate) fn add_rustflags(command: &mut Command, flags: &str) {
    if let Some(mut encoded) =
        env::var("CARGO_ENCODED_RUSTFLAGS").ok().filter(|set| !set.is_empty())
    {
        for flag in flags.split_whitespace() {
            encoded.push('\x1f');
            encoded.push_str(flag);
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", encoded);
    } else {
        command.env("RUSTFLAGS", appended(env::var("RUSTFLAGS").ok(), flags));
    }
}

/// The user's flags, if any, then ours.
pub(crate) fn appended(user: Option<String>, flags: &str) -> String {
    match user {
        Some(user) if !user.trim().is_empty() => format!("{} {flags}", user.trim()),
        _ => flags.to_owned(),
    }
}

/// Prints the command line, runs it with the terminal as it is, and returns how it ended.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    announce(command);
    command.status().with_context(|| format!("could not start `{}`", line(command)))
}

/// Prints the command line, `$ RUSTFLAGS='--cfg x' cargo test -p y`.
pub(crate) fn announce(command: &Command) {
    eprintln!("$ {}", line(command));
}

/// A command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.to_string_lossy(), quoted(value)));
        }
    }
    if env::var_os("CARGO").is_some_and(|cargo| command.get_program() == cargo) {
        words.push("cargo".to_owned());
    } else {
        words.push(quoted(command.get_program()));
    }
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%\\".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_line_can_be_typed_again() {
        let mut command = Command::new("tool");
        command.args(["--name", "it's", "", "a=b"]).env("FLAGS", "--cfg x").env_remove("GONE");
        assert_eq!(line(&command), r"FLAGS='--cfg x' tool --name 'it'\''s' '' a=b");
    }

    #[test]
    fn flags_are_added_after_those_of_the_user() {
        assert_eq!(appended(None, "--cfg x"), "--cfg x");
        assert_eq!(appended(Some(" ".to_owned()), "--cfg x"), "--cfg x");
        assert_eq!(
            appended(Some("-C debuginfo=1".to_owned()), "--cfg x"),
            "-C debuginfo=1 --cfg x"
        );
    }
}
