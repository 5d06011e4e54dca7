//! One mutation at a time, chosen by the environment, so that one build serves all mutants.
//!
//! `SELVEDGE_MUTANT=<file>:<line>:<column>:<kind>` names the place of a shim operation as
//! `Location::caller()` prints it, and what to do to it:
//!
//! | kind | effect |
//! |---|---|
//! | `relaxed`, `acquire`, `release` | the operation's (success) ordering becomes this |
//! | `failure-relaxed` | the failure ordering of a compare-exchange becomes Relaxed |
//! | `fence-dropped` | the fence is not there |
//! | `wake-dropped` | the wake, notification or batch of wakes does nothing |
//! | `lock-held` | `release_then` keeps the guard until the callback has returned |
//!
//! With `SELVEDGE_REACHED` set to a file's name, a model that was explored to its end leaves there
//! the places that it reached, `<file>:<line>:<column>` a line: a mutation anywhere else would not
//! have been noticed by it.

// tidy: ordering, orderings are values here: the mutation's, not an operation's.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::panic::Location;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock};

/// What a mutant does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Replaces the ordering, or the success ordering.
    Order(Ordering),
    /// Replaces the failure ordering by Relaxed.
    FailureRelaxed,
    /// Drops a fence.
    FenceDropped,
    /// Drops a wake.
    WakeDropped,
    /// Holds a lock over a callback.
    LockHeld,
}

/// A place and what to do there.
#[derive(Debug)]
struct Mutant {
    /// As `Location::file` prints it.
    file: String,
    /// 1-based.
    line: u32,
    /// 1-based.
    column: u32,
    /// What to do there.
    kind: Kind,
}

/// Reads the mutant; a value that cannot be read is an error of the caller, told at once.
fn parse(text: &str) -> Option<Mutant> {
    let mut parts = text.rsplitn(4, ':');
    let kind = match parts.next()? {
        // Relaxed: what a mutant weakens another ordering to; here it orders nothing.
        "relaxed" => Kind::Order(Ordering::Relaxed),
        // Acquire: as above, of an AcqRel its half.
        "acquire" => Kind::Order(Ordering::Acquire),
        // Release: as above, the other half.
        "release" => Kind::Order(Ordering::Release),
        "failure-relaxed" => Kind::FailureRelaxed,
        "fence-dropped" => Kind::FenceDropped,
        "wake-dropped" => Kind::WakeDropped,
        "lock-held" => Kind::LockHeld,
        _ => return None,
    };
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    Some(Mutant { file: parts.next()?.to_owned(), line, column, kind })
}

/// Places: file, line, column.
type Places = BTreeSet<(&'static str, u32, u32)>;

/// The places that were reached, if somebody wants to know.
fn reached() -> Option<&'static Mutex<Places>> {
    static REACHED: OnceLock<Option<Mutex<Places>>> = OnceLock::new();
    let wanted = || std::env::var_os("SELVEDGE_REACHED").map(|_| Mutex::default());
    REACHED.get_or_init(wanted).as_ref()
}

/// Leaves the places that were reached where `SELVEDGE_REACHED` says.
pub(super) fn report_reached() {
    let (Ok(path), Some(reached)) = (std::env::var("SELVEDGE_REACHED"), reached()) else { return };
    let mut text = String::new();
    for (file, line, column) in reached.lock().expect("the exploration is over").iter() {
        writeln!(text, "{file}:{line}:{column}").expect("a string takes everything");
    }
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("SELVEDGE_REACHED={path}: {error}"));
}

/// The mutation for the operation at `place`, if it is the one that was asked for.
fn at(place: &'static Location<'static>) -> Option<Kind> {
    if let Some(reached) = reached() {
        let place = (place.file(), place.line(), place.column());
        reached.lock().expect("an insertion does not panic").insert(place);
    }
    static MUTANT: OnceLock<Option<Mutant>> = OnceLock::new();
    let mutant = MUTANT.get_or_init(|| {
        let text = std::env::var("SELVEDGE_MUTANT").ok()?;
        match parse(&text) {
            Some(mutant) => Some(mutant),
            // Not by a panic: a model that fails looks as if it had noticed the mutant.
            None => {
                eprintln!("SELVEDGE_MUTANT={text}: expected <file>:<line>:<column>:<kind>");
                std::process::exit(2)
            }
        }
    });
    let mutant = mutant.as_ref()?;
    (mutant.line == place.line() && mutant.column == place.column() && mutant.file == place.file())
        .then_some(mutant.kind)
}

/// The ordering to use at `place`.
pub(super) fn order(place: &'static Location<'static>, order: Ordering) -> Ordering {
    match at(place) {
        Some(Kind::Order(weaker)) => weaker,
        _ => order,
    }
}

/// The failure ordering to use at `place`.
pub(super) fn failure(place: &'static Location<'static>, order: Ordering) -> Ordering {
    match at(place) {
        Some(Kind::FailureRelaxed) => Ordering::Relaxed,
        _ => order,
    }
}

/// Whether the fence at `place` is dropped.
pub(super) fn drops_fence(place: &'static Location<'static>) -> bool {
    at(place) == Some(Kind::FenceDropped)
}

/// Whether the wake at `place` is dropped.
pub(super) fn drops_wake(place: &'static Location<'static>) -> bool {
    at(place) == Some(Kind::WakeDropped)
}

/// Whether the lock released at `place` is held over the callback.
pub(super) fn holds_lock(place: &'static Location<'static>) -> bool {
    at(place) == Some(Kind::LockHeld)
}
