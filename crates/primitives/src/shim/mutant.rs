//! One mutation at a time, chosen by the environment, so that one build serves all mutants.
//!
//! `SELVEDGE_MUTANT=<file>:<line>:<column>:<kind>` names the place of a shim operation as
//! `Location::caller()` prints it, and what to do to it:
//!
//! | kind | effect |
//! |---|---|
//! | `relaxed`, `acquire`, `release` | the operation's (success) ordering becomes this |
//! | `failure-relaxed` | the failure ordering of a compare-exchange becomes Relaxed |
//! | `wake-dropped` | the wake or notification does nothing |
//! | `lock-held` | `release_then` keeps the guard until the callback has returned |

// tidy: ordering, orderings are values here: the mutation's, not an operation's.

use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// What a mutant does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Replaces the ordering, or the success ordering.
    Order(Ordering),
    /// Replaces the failure ordering by Relaxed.
    FailureRelaxed,
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
        "wake-dropped" => Kind::WakeDropped,
        "lock-held" => Kind::LockHeld,
        _ => return None,
    };
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    Some(Mutant { file: parts.next()?.to_owned(), line, column, kind })
}

/// The mutation for the operation at `place`, if it is the one that was asked for.
fn at(place: &Location<'_>) -> Option<Kind> {
    static MUTANT: OnceLock<Option<Mutant>> = OnceLock::new();
    let mutant = MUTANT.get_or_init(|| {
        let text = std::env::var("SELVEDGE_MUTANT").ok()?;
        match parse(&text) {
            Some(mutant) => Some(mutant),
            None => panic!("SELVEDGE_MUTANT={text}: expected <file>:<line>:<column>:<kind>"),
        }
    });
    let mutant = mutant.as_ref()?;
    (mutant.line == place.line() && mutant.column == place.column() && mutant.file == place.file())
        .then_some(mutant.kind)
}

/// The ordering to use at `place`.
pub(super) fn order(place: &Location<'_>, order: Ordering) -> Ordering {
    match at(place) {
        Some(Kind::Order(weaker)) => weaker,
        _ => order,
    }
}

/// The failure ordering to use at `place`.
pub(super) fn failure(place: &Location<'_>, order: Ordering) -> Ordering {
    match at(place) {
        Some(Kind::FailureRelaxed) => Ordering::Relaxed,
        _ => order,
    }
}

/// Whether the wake at `place` is dropped.
pub(super) fn drops_wake(place: &Location<'_>) -> bool {
    at(place) == Some(Kind::WakeDropped)
}

/// Whether the lock released at `place` is held over the callback.
pub(super) fn holds_lock(place: &Location<'_>) -> bool {
    at(place) == Some(Kind::LockHeld)
}
