//! The workspace as cargo sees it: where it is, where it builds to, which packages and features it
//! has. Read once from `cargo metadata`, so that a new crate needs no line in xtask.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The prefix that a crate's folder name gets in its package name.
const PREFIX: &str = "selvedge-";

/// The workspace that this xtask belongs to.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the workspace manifest.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, wherever the user put it.
    pub(crate) target: PathBuf,
    /// Every member, sorted by name.
    pub(crate) packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    /// The package name, `selvedge-pool`.
    pub(crate) name: String,
    /// The folder of its manifest.
    pub(crate) dir: PathBuf,
    /// Its cargo features, `default` included, sorted.
    pub(crate) features: Vec<String>,
    /// The oldest Rust that it promises to compile with.
    pub(crate) rust_version: Option<String>,
}

impl Package {
    /// The name people type: `pool` for `selvedge-pool`.
    pub(crate) fn short(&self) -> &str {
        self.name.strip_prefix(PREFIX).unwrap_or(&self.name)
    }

    /// Whether the package has this cargo feature.
    pub(crate) fn has_feature(&self, feature: &str) -> bool {
        self.features.iter().any(|have| have == feature)
    }
}

impl Workspace {
    /// Asks cargo for the workspace around this xtask's manifest (or the current folder, when xtask
    /// was not started by cargo).
    pub(crate) fn find() -> Result<Self> {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["metadata", "--format-version", "1", "--no-deps"]).stderr(Stdio::inherit());
        if let Some(manifest) = env::var_os("CARGO_MANIFEST_DIR") {
            command.current_dir(manifest);
        }
        let output = command.output().context("cargo metadata did not start")?;
        ensure!(output.status.success(), "cargo metadata failed: {}", output.status);
        Self::parse(&output.stdout)
    }

    fn parse(json: &[u8]) -> Result<Self> {
        let metadata: Metadata =
            serde_json::from_slice(json).context("cargo metadata printed something else")?;
        let mut packages = Vec::new();
        for package in metadata.packages {
            let dir = package.manifest_path.parent().context("a manifest without a folder")?;
            packages.push(Package {
                name: package.name,
                dir: dir.to_path_buf(),
                features: package.features.into_keys().collect(),
                rust_version: package.rust_version,
            });
        }
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory, packages })
    }

    /// The packages below `crates/`: what is published, as opposed to xtask.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &Package> {
        let crates = self.root.join("crates");
        self.packages.iter().filter(move |package| package.dir.starts_with(&crates))
    }

    /// The package that a person means by `pool` or `selvedge-pool`.
    pub(crate) fn package(&self, name: &str) -> Result<&Package> {
        let found =
            self.packages.iter().find(|package| package.name == name || package.short() == name);
        let Some(package) = found else {
            let known: Vec<_> = self.packages.iter().map(Package::short).collect();
            bail!("no crate `{name}` in this workspace; there are: {}", known.join(", "));
        };
        Ok(package)
    }

    /// The oldest Rust that the packages promise to compile with: one for all of them.
    pub(crate) fn rust_version(&self) -> Result<&str> {
        let mut versions = self.packages.iter().map(|package| package.rust_version.as_deref());
        let first = versions.next().flatten().context("no `rust-version` in the manifests")?;
        ensure!(versions.all(|other| other == Some(first)), "not every package has `{first}`");
        Ok(first)
    }

    /// A path as it is written for people: relative to the workspace where it lies inside.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

/// The part of `cargo metadata` that is read here.
#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
    packages: Vec<MetadataPackage>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    features: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
    rust_version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Workspace {
        Workspace::parse(
            br#"{
                "workspace_root": "/w", "target_directory": "/t", "other": 1,
                "packages": [
                    {"name": "xtask", "manifest_path": "/w/xtask/Cargo.toml", "features": {},
                     "rust_version": "1.88"},
                    {"name": "selvedge", "manifest_path": "/w/crates/selvedge/Cargo.toml",
                     "features": {"pool": []}, "rust_version": "1.88"},
                    {"name": "selvedge-pool", "manifest_path": "/w/crates/pool/Cargo.toml",
                     "features": {"tokio": [], "default": ["tokio"], "loom": []},
                     "rust_version": "1.88"}
                ]
            }"#,
        )
        .unwrap()
    }

    #[test]
    fn a_crate_is_found_by_its_short_and_by_its_full_name() {
        let workspace = example();
        assert_eq!(workspace.package("pool").unwrap().name, "selvedge-pool");
        assert_eq!(workspace.package("selvedge-pool").unwrap().name, "selvedge-pool");
        assert_eq!(workspace.package("selvedge").unwrap().name, "selvedge");
        assert_eq!(workspace.package("xtask").unwrap().name, "xtask");
    }

    #[test]
    fn an_unknown_crate_is_refused_with_the_names_there_are() {
        let error = example().package("pol").unwrap_err().to_string();
        assert!(error.contains("`pol`") && error.contains("pool"), "{error}");
    }

    #[test]
    fn the_oldest_rust_is_that_of_every_package() {
        let mut workspace = example();
        assert_eq!(workspace.rust_version().unwrap(), "1.88");
        workspace.packages[1].rust_version = None;
        assert!(workspace.rust_version().is_err());
    }

    #[test]
    fn crates_leaves_xtask_out() {
        let workspace = example();
        let names: Vec<_> = workspace.crates().map(Package::short).collect();
        assert_eq!(names, ["selvedge", "pool"]);
        assert!(workspace.package("pool").unwrap().has_feature("loom"));
    }
}
