//! Counts tests in what `cargo test` prints: which kind runs is said by cargo's `Running ...` and
//! `Doc-tests ...` lines, how it went by libtest's `test result: ...` lines.

use std::fmt;
use std::ops::Add;

use serde::Serialize;

/// What a test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// In the source of a library or binary.
    Unit,
    /// In `tests/`.
    Integration,
    /// A code block in the docs.
    Doc,
    /// A loom model.
    Model,
}

/// How the tests of a kind went; a row of `target/xtask/test.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    kind: Kind,
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, Self { passed, failed, skipped, .. }) = (self.kind.plural(), self);
        write!(f, "{name:<18}{passed:>6} passed {failed:>4} failed {skipped:>4} skipped")
    }
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Self::Unit => "unit tests",
            Self::Integration => "integration tests",
            Self::Doc => "doc tests",
            Self::Model => "models",
        }
    }
}

/// A row a kind.
#[derive(Debug, Clone)]
pub(super) struct Counts([Row; 4]);

impl Default for Counts {
    fn default() -> Self {
        let row = |kind| Row { kind, passed: 0, failed: 0, skipped: 0 };
        Self([Kind::Unit, Kind::Integration, Kind::Doc, Kind::Model].map(row))
    }
}

impl Counts {
    /// The row of a kind.
    pub(super) fn of(&mut self, kind: Kind) -> &mut Row {
        &mut self.0[kind as usize]
    }

    /// The rows, in the order the tests ran.
    pub(super) fn rows(&self) -> &[Row] {
        &self.0
    }

    /// All kinds together.
    pub(super) fn sum(&self) -> Sum {
        let add = |sum: Sum, row: &Row| {
            let Row { passed, failed, skipped, .. } = *row;
            sum + Sum { passed, failed, skipped }
        };
        self.0.iter().fold(Sum::default(), add)
    }
}

/// Tests of every kind: what one result says, and the last line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads the output a line at a time.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Counts,
    /// What cargo said runs now.
    kind: Option<Kind>,
    /// A test process has begun and has given no result yet.
    open: bool,
}

impl Tally {
    /// Takes a line of the output.
    pub(super) fn line(&mut self, line: &str) {
        let line = without_colour(line);
        let line = line.trim();
        if let Some(kind) = announced(line) {
            self.close();
            self.kind = Some(kind);
        } else if line.starts_with("running ")
            && (line.ends_with(" tests") || line.ends_with(" test"))
        {
            self.close();
            self.open = true;
        } else if let Some(result) = result(line) {
            self.open = false;
            let row = self.counts.of(self.kind.unwrap_or(Kind::Unit));
            row.passed += result.passed;
            row.failed += result.failed;
            row.skipped += result.skipped;
        }
    }

    /// The counts, with a failure more where cargo failed and no test did: what did not compile did
    /// not pass.
    pub(super) fn finish(mut self, success: bool) -> Counts {
        self.close();
        if !success && self.counts.sum().failed == 0 {
            self.counts.of(self.kind.unwrap_or(Kind::Unit)).failed += 1;
        }
        self.counts
    }

    /// A process that has begun and ends without a result has crashed.
    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.counts.of(self.kind.unwrap_or(Kind::Unit)).failed += 1;
        }
    }
}

/// The kind that cargo says will run now.
fn announced(line: &str) -> Option<Kind> {
    if line.starts_with("Doc-tests ") {
        return Some(Kind::Doc);
    }
    let what = line.strip_prefix("Running ")?;
    // Cargo names the executable in parentheses; a test that prints "Running" does not.
    if !what.ends_with(')') {
        return None;
    }
    Some(if what.starts_with("unittests ") { Kind::Unit } else { Kind::Integration })
}

/// The counts in `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...`.
pub(crate) fn result(line: &str) -> Option<Sum> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut sum = Sum::default();
    for part in counts.split("; ") {
        let (number, what) = part.split_once(' ')?;
        match what {
            "passed" => sum.passed = number.parse().ok()?,
            "failed" => sum.failed = number.parse().ok()?,
            "ignored" => sum.skipped = number.parse().ok()?,
            _ => {}
        }
    }
    Some(sum)
}

/// A line without the escape sequences that colour it.
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        if char == '\x1b' {
            // `ESC [ parameters letter`
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(char);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str, success: bool) -> [(usize, usize, usize); 4] {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.line(line));
        tally.finish(success).0.map(|row| (row.passed, row.failed, row.skipped))
    }

    const OUTPUT: &str = "\
   Compiling selvedge-pool v0.1.0
    Finished `test` profile [unoptimized + debuginfo] target(s) in 0.50s
     Running unittests src/lib.rs (target/debug/deps/selvedge_pool-abc)

running 3 tests
test a ... ok
Running late
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

\u{1b}[1m\u{1b}[92m     Running\u{1b}[0m tests/auto_traits.rs (target/debug/deps/auto_traits-abc)

running 1 test
test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests selvedge_pool

running 2 tests
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 1 test
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn each_result_counts_for_the_kind_announced_before_it() {
        assert_eq!(tally(OUTPUT, false), [(2, 0, 1), (0, 1, 0), (3, 0, 0), (0, 0, 0)]);
    }

    #[test]
    fn a_process_that_ends_without_a_result_has_failed() {
        let crash = "     Running unittests src/lib.rs (target/x)\n\nrunning 3 tests\n";
        assert_eq!(tally(crash, false)[0], (0, 1, 0));
        let later = crash.to_owned() + OUTPUT;
        assert_eq!(tally(&later, false)[0], (2, 1, 1));
    }

    #[test]
    fn a_build_that_failed_is_a_failure() {
        assert_eq!(tally("error: could not compile `x`\n", false)[0], (0, 1, 0));
        assert_eq!(tally("", true)[0], (0, 0, 0));
    }

    #[test]
    fn the_sum_runs_over_all_kinds() {
        let mut tally = Tally::default();
        OUTPUT.lines().for_each(|line| tally.line(line));
        let mut counts = tally.finish(false);
        counts.of(Kind::Model).passed = 4;
        assert_eq!(counts.sum(), Sum { passed: 9, failed: 1, skipped: 1 });
    }
}
