//! `cargo xtask asan [CRATE...]`: tests under the address sanitizer, on nightly: memory that is used
//! after it was freed, used out of bounds, freed twice, or leaked.
//!
//! | a crate with | runs |
//! |---|---|
//! | unsafe code in `src/` | all of its unit and integration tests; `tests/stress.rs` must be there |
//! | `tests/stress.rs` and no unsafe code | the stress tests, for what they do to the crates below |
//!
//! Stress tests that were not built, or of which none ran, are a fault: silence is not a proof.
//!
//! The models are left out (loom's memory is not the real one), and the doc tests. Each test program
//! is built for the host by name, so that the flag does not reach build scripts, into a target folder
//! of its own, and runs in a process of its own. std is the one that comes with the toolchain, without
//! the sanitizer inside; its allocations are watched all the same, because the sanitizer replaces the
//! allocator.
//!
//! The last line counts test programs. Where there is no nightly toolchain, or no sanitizer for the
//! platform, that is one skipped, the reason stands above it, and the exit code is zero: whoever
//! needs the run installs the toolchain first, which fails by itself.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::artifacts::{self, Executable, MESSAGE_FORMAT};
use crate::record::Record;
use crate::shell;
use crate::test::{self, Sum};
use crate::tidy;
use crate::toolchain::Toolchain;
use crate::workspace::{Package, Workspace};

/// What the compiler is told.
const FLAG: &str = "-Zsanitizer=address";

/// What the sanitizer is told. A waiter is often pinned to the stack of a function, so a stack frame
/// that is gone is watched as well.
const OPTIONS: &str = "detect_stack_use_after_return=1";

/// The test program that a crate with unsafe code must have.
const STRESS: &str = "stress";

/// Which crates.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The crates to test; when none is named, all that have unsafe code or stress tests.
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
}

/// What of a crate runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// It has unsafe code: everything.
    Everything,
    /// It has none: its stress tests.
    Stress,
}

/// How a test program went; a row of `target/xtask/asan.jsonl`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(rename = "crate")]
    package: &'a str,
    program: &'a str,
    tests: usize,
    seconds: f64,
    /// What was found, if anything.
    found: Option<String>,
}

/// Builds and runs, prints a row a test program, and fails when anything was found.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let chosen = chosen(workspace, args)?;
    let mut record = Record::create(workspace, "asan")?;
    let mut totals = Sum::default();
    match toolchain() {
        Ok(nightly) => {
            println!("{:<12}{:<20}{:>5}  {:>7}  verdict", "crate", "program", "tests", "seconds");
            for (package, extent) in chosen {
                check(workspace, &nightly, package, extent, &mut record, &mut totals)?;
            }
        }
        Err(reason) => {
            println!("skipped: {reason}");
            totals.skipped += 1;
        }
    }
    println!("{totals}");
    Ok(if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The toolchain that has the sanitizer, or why there is none.
fn toolchain() -> Result<Toolchain, String> {
    let nightly = Toolchain::find("nightly").ok_or_else(|| Toolchain::missing("nightly"))?;
    if has_sanitizer(&nightly.host) {
        Ok(nightly)
    } else {
        Err(format!("there is no address sanitizer for {}", nightly.host))
    }
}

/// Whether nightly has the address sanitizer for a platform.
fn has_sanitizer(host: &str) -> bool {
    let processor = ["x86_64-", "aarch64-"].iter().any(|name| host.starts_with(name));
    processor && ["-apple-darwin", "-linux-gnu"].iter().any(|name| host.ends_with(name))
}

/// The crates asked for, or all there are, with what of them runs.
fn chosen<'a>(workspace: &'a Workspace, args: &Args) -> Result<Vec<(&'a Package, Extent)>> {
    let mut chosen = Vec::new();
    if args.crates.is_empty() {
        for package in workspace.crates() {
            chosen.extend(extent(package)?.map(|extent| (package, extent)));
        }
    }
    for name in &args.crates {
        let package = workspace.package(name)?;
        let extent = extent(package)?.with_context(|| {
            let name = package.short();
            format!("nothing to run: {name} has neither unsafe code nor a tests/stress.rs")
        })?;
        chosen.push((package, extent));
    }
    ensure!(!chosen.is_empty(), "nothing to run: no crate has unsafe code or a tests/stress.rs");
    Ok(chosen)
}

/// What of a crate runs, if anything.
fn extent(package: &Package) -> Result<Option<Extent>> {
    Ok(if tidy::has_unsafe_code(package)? {
        Some(Extent::Everything)
    } else {
        stress_of(package).exists().then_some(Extent::Stress)
    })
}

fn stress_of(package: &Package) -> PathBuf {
    package.dir.join("tests").join("stress.rs")
}

/// Builds what of a crate runs, runs it, prints and records the rows.
fn check(
    workspace: &Workspace,
    nightly: &Toolchain,
    package: &Package,
    extent: Extent,
    record: &mut Record,
    totals: &mut Sum,
) -> Result<()> {
    let mut report = |row: Row<'_>| {
        let verdict = row.found.as_ref().map_or_else(|| "clean".to_owned(), |f| format!("NO: {f}"));
        println!(
            "{:<12}{:<20}{:>5}  {:>7.2}  {verdict}",
            row.package, row.program, row.tests, row.seconds
        );
        totals.passed += usize::from(row.found.is_none());
        totals.failed += usize::from(row.found.is_some());
        record.row(&row)
    };
    let failed = |program, found: &str| Row {
        package: package.short(),
        program,
        tests: 0,
        seconds: 0.0,
        found: Some(found.to_owned()),
    };

    if !stress_of(package).exists() {
        report(failed(STRESS, "unsafe code without stress tests; write tests/stress.rs"))?;
    }
    let (built, programs) = artifacts::build(&mut build(workspace, nightly, package, extent))?;
    if !built.success() {
        return report(failed("(build)", "it did not compile"));
    }
    let stressed = programs.iter().any(|program| program.name == STRESS);
    if stress_of(package).exists() && !stressed {
        report(failed(STRESS, "not built; does the manifest ask for a feature or turn it off?"))?;
    }
    // Without its cfg the file of the models is empty.
    let programs = programs.into_iter().filter(|program| program.name != "loom");
    for Executable { kind, name, path } in programs {
        let program = if kind == "test" { name.as_str() } else { "(unit tests)" };
        let began = Instant::now();
        let output = execute(&path, &package.dir, &nightly.host)?;
        let seconds = began.elapsed().as_secs_f64();
        let tests = count(&output.stdout);
        let found = fault(&output, tests).or_else(|| unproven(program, tests));
        if found.is_some() {
            eprintln!("---- {} {program} ----", package.short());
            eprint!("{}", String::from_utf8_lossy(&output.stdout));
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            eprintln!("again:  cargo xtask asan {}\n----", package.short());
        } else if tests == 0 {
            // A library without unit tests.
            continue;
        }
        report(Row { package: package.short(), program, tests, seconds, found })?;
    }
    Ok(())
}

/// The command that builds a crate's test programs and names them.
fn build(workspace: &Workspace, nightly: &Toolchain, package: &Package, extent: Extent) -> Command {
    let mut command = nightly.cargo(workspace, &["test", "-p", &package.name, "--all-features"]);
    match extent {
        Extent::Everything => command.args(["--lib", "--tests"]),
        Extent::Stress => command.args(["--test", "stress"]),
    };
    command.args(["--no-run", MESSAGE_FORMAT, "--target", &nightly.host]);
    command.arg("--target-dir").arg(workspace.target.join("asan"));
    shell::add_rustflags(&mut command, FLAG);
    command
}

/// Runs a test program in the folder of its crate, as cargo would.
fn execute(path: &Path, dir: &Path, host: &str) -> Result<Output> {
    let mut command = Command::new(path);
    command.current_dir(dir).stdin(Stdio::null());
    command.env("ASAN_OPTIONS", options(std::env::var("ASAN_OPTIONS").ok(), host));
    shell::scrub(&mut command);
    command.output().with_context(|| format!("{} did not start", path.display()))
}

/// The sanitizer's options: ours, then the user's, which go before them. Leaks are looked for on
/// Linux; elsewhere the sanitizer refuses to.
fn options(user: Option<String>, host: &str) -> String {
    let leaks = usize::from(host.contains("-linux-"));
    let ours = format!("{OPTIONS}:detect_leaks={leaks}");
    match user {
        Some(user) if !user.is_empty() => format!("{ours}:{user}"),
        _ => ours,
    }
}

/// How many tests a program passed.
fn count(stdout: &[u8]) -> usize {
    String::from_utf8_lossy(stdout).lines().filter_map(test::result).map(|sum| sum.passed).sum()
}

/// What a run found: what the sanitizer says in its summary, or that a test failed.
fn fault(output: &Output, passed: usize) -> Option<String> {
    // Also when all went well: a child of a test may have been at fault.
    let text = String::from_utf8_lossy(&output.stderr);
    let summary = text.lines().find_map(|line| line.split_once("SUMMARY: ").map(|(_, what)| what));
    if let Some(summary) = summary {
        return Some(summary.trim().to_owned());
    }
    (!output.status.success())
        .then(|| format!("no report of the sanitizer, {passed} tests passed, {}", output.status))
}

/// What is wrong with a program in which no test ran: nothing with a library that has no unit tests,
/// or a file that is empty on this platform; but the stress tests are what this is about.
fn unproven(program: &str, tests: usize) -> Option<String> {
    (program == STRESS && tests == 0).then(|| "no stress test ran".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stress_tests_of_which_none_ran_prove_nothing() {
        assert!(unproven("stress", 0).is_some());
        assert!(unproven("stress", 1).is_none() && unproven("(unit tests)", 0).is_none());
    }

    #[cfg(unix)]
    fn output(code: i32, stderr: &str) -> Output {
        use std::os::unix::process::ExitStatusExt;
        let status = std::process::ExitStatus::from_raw(code << 8);
        Output { status, stdout: Vec::new(), stderr: stderr.into() }
    }

    #[cfg(unix)]
    #[test]
    fn a_summary_of_the_sanitizer_is_a_fault_whatever_the_exit_code() {
        let text = "x\nSUMMARY: AddressSanitizer: heap-use-after-free list.rs:1 in unlink\n";
        let expected = Some("AddressSanitizer: heap-use-after-free list.rs:1 in unlink".to_owned());
        assert_eq!(fault(&output(1, text), 0), expected);
        assert_eq!(fault(&output(0, text), 3), expected);
        assert_eq!(fault(&output(0, "fine\n"), 3), None);
        assert!(fault(&output(101, "assertion failed\n"), 3).unwrap().contains("3 tests passed"));
    }

    #[test]
    fn the_options_of_the_user_come_last_and_leaks_are_for_linux() {
        let linux = "x86_64-unknown-linux-gnu";
        assert!(options(None, linux).ends_with("detect_leaks=1"));
        assert!(options(Some("a=1".to_owned()), linux).ends_with("detect_leaks=1:a=1"));
        assert!(options(None, "aarch64-apple-darwin").ends_with("detect_leaks=0"));
    }

    #[test]
    fn a_platform_without_the_sanitizer_is_known() {
        assert!(has_sanitizer("x86_64-unknown-linux-gnu") && has_sanitizer("aarch64-apple-darwin"));
        assert!(!has_sanitizer("x86_64-pc-windows-gnu"));
        assert!(!has_sanitizer("riscv64gc-unknown-linux-gnu"));
    }

    #[test]
    fn the_tests_that_passed_are_counted_over_all_results() {
        let text = "running 3 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured\n";
        assert_eq!(count(text.as_bytes()), 2);
        assert_eq!(count(b"nothing"), 0);
    }
}
