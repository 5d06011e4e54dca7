//! Toolchains besides the one that runs: nightly, and the oldest one that is promised. They are
//! reached through rustup, and nothing is installed on the way.

use std::process::{Command, Stdio};

use crate::shell;
use crate::workspace::Workspace;

/// A toolchain that rustup has installed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// What rustup calls it: `nightly`, `1.88`.
    name: String,
    /// The platform that it runs on, and builds for unless told otherwise.
    pub(crate) host: String,
}

impl Toolchain {
    /// The toolchain of this name; none when rustup is not there, or has not installed it.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let mut command = Command::new("rustup");
        command.args(["run", name, "rustc", "-vV"]).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok().filter(|output| output.status.success())?;
        let host = host(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { name: name.to_owned(), host })
    }

    /// What to say where it is missing.
    pub(crate) fn missing(name: &str) -> String {
        format!("no {name} toolchain; `rustup toolchain install {name}`")
    }

    /// Its cargo, in the workspace root.
    pub(crate) fn cargo(&self, workspace: &Workspace, arguments: &[&str]) -> Command {
        let mut command = Command::new("rustup");
        command.args(["run", &self.name, "cargo"]).args(arguments).current_dir(&workspace.root);
        shell::scrub(&mut command);
        command
    }
}

/// The platform in what `rustc -vV` prints.
fn host(version: &str) -> Option<String> {
    version.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_a_line_of_its_own() {
        let version = "rustc 1.97.0-nightly\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n";
        assert_eq!(host(version).as_deref(), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(host("rustc 1.97.0-nightly\n"), None);
    }

    #[test]
    fn a_toolchain_that_is_not_there_is_none() {
        assert_eq!(Toolchain::find("no-such-toolchain"), None);
        let missing = Toolchain::missing("nightly");
        assert!(missing.ends_with("`rustup toolchain install nightly`"), "{missing}");
    }
}
