//! The Go programs of `benches/go`: built once, when a `go` is on the PATH, and started once a round.
//!
//! The program times its own work, as the contestants in Rust do, so what it takes to start it is
//! not measured. What runs in another process shares the machine of the round and nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::{Count, Shape};

/// Names the folder that has the source of golang.org/x/sync.
const XSYNC: &str = "SELVEDGE_XSYNC";

/// Why the Go programs are not there, if they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no `go`.
    NoGo,
    /// It does not build them.
    NotBuilt,
    /// Nobody has said where golang.org/x/sync is.
    NoModule,
}

impl Missing {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoGo => "no `go` on the PATH",
            Self::NotBuilt => "`go build` of benches/go or go-xsync failed",
            Self::NoModule => "SELVEDGE_XSYNC does not name a folder with its source",
        }
    }
}

/// The program, built beside this one.
pub fn program() -> Result<&'static Path, Missing> {
    static PROGRAM: OnceLock<Result<PathBuf, Missing>> = OnceLock::new();
    PROGRAM.get_or_init(build).as_deref().map_err(|missing| *missing)
}

fn build() -> Result<PathBuf, Missing> {
    build_as("selvedge-bench-go", &Path::new(env!("CARGO_MANIFEST_DIR")).join("go"))
}

/// The program that uses golang.org/x/sync, built beside this one, if `SELVEDGE_XSYNC` says where that is.
pub fn xsync() -> Result<&'static Path, Missing> {
    static PROGRAM: OnceLock<Result<PathBuf, Missing>> = OnceLock::new();
    PROGRAM.get_or_init(build_xsync).as_deref().map_err(|missing| *missing)
}

fn build_xsync() -> Result<PathBuf, Missing> {
    let module = std::env::var(XSYNC).ok().filter(|folder| Path::new(folder).is_dir());
    let Some(module) = module else { return Err(Missing::NoModule) };
    // In a folder of its own: where the module is differs from machine to machine, and stands in the file `go.mod`.
    let folder = beside("selvedge-bench-xsync.build").ok_or(Missing::NotBuilt)?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go-xsync").join("main.go");
    let needs = "module selvedge.invalid/xsync\n\ngo 1.25\n\nrequire golang.org/x/sync v0.0.0\n";
    let found = format!("\nreplace golang.org/x/sync => {module}\n");
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::copy(source, folder.join("main.go")))
        .and_then(|_| std::fs::write(folder.join("go.mod"), format!("{needs}{found}")));
    written.map_err(|_| Missing::NotBuilt)?;
    build_as("selvedge-bench-xsync", &folder)
}

/// A file beside this program.
fn beside(name: &str) -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name(name))
}

/// Builds the program whose source is in `folder`.
fn build_as(name: &str, source: &Path) -> Result<PathBuf, Missing> {
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.status().map(|status| status.success())
    };
    if !quiet(Command::new("go").arg("version")).unwrap_or(false) {
        return Err(Missing::NoGo);
    }
    let program = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let program = beside(&program).ok_or(Missing::NotBuilt)?;
    let mut go = Command::new("go");
    go.arg("build").arg("-o").arg(&program).arg(".").current_dir(source);
    // The toolchain that is there, and nothing fetched.
    go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod").env("GOPROXY", "off");
    if quiet(&mut go).unwrap_or(false) { Ok(program) } else { Err(Missing::NotBuilt) }
}

/// Starts the program, which says what its operations took and fails when their result is wrong;
/// returns that and what it wrote to standard error.
///
/// # Panics
///
/// If it failed.
pub fn run(arguments: &[&str]) -> (Count, String) {
    start(program().expect("a contestant in Go is there only when the program is"), arguments)
}

/// Starts one of the programs.
fn start(program: &Path, arguments: &[&str]) -> (Count, String) {
    let output = Command::new(program).args(arguments).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?} in Go: {said}");
    let nanos = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    (Count { elapsed: Duration::from_nanos(nanos), allocations: 0 }, said)
}

impl Shape {
    /// With the Go program that does the same, where there is one: a reference, as nobody chooses
    /// between a crate and a language by a bench.
    #[must_use]
    pub fn go(self, shape: &'static str) -> Self {
        self.go_with(shape, Vec::new())
    }

    /// With the weighted semaphore of golang.org/x/sync, by two goroutines, where that can be had.
    #[must_use]
    pub fn xsync(self) -> Self {
        let Ok(program) = xsync() else { return self };
        self.reference("x/sync", move |n| start(program, &[&n.to_string()]).0)
    }

    /// The same with what else the program wants to know.
    #[must_use]
    pub fn go_with(self, shape: &'static str, more: Vec<String>) -> Self {
        if program().is_err() {
            return self;
        }
        self.reference("Go", move |n| {
            let operations = n.to_string();
            let more = more.iter().map(String::as_str);
            run(&[shape, &operations].into_iter().chain(more).collect::<Vec<_>>()).0
        })
    }
}
