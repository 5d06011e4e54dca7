//! The wrapper in which every model runs: it counts what loom explored, and it leaves a record only
//! when the exploration was finished.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::mutant;

/// Whether the counts of references are loom's.
static COUNTS: AtomicBool = AtomicBool::new(false);

/// Whether a count that is made now is to be loom's.
pub(super) fn counts_are_seen() -> bool {
    // Relaxed: set before the exploration begins.
    COUNTS.load(Ordering::Relaxed)
}

/// As [`check`], for models that are about the counting of references itself: those of the crate that counts.
///
/// # Panics
///
/// As [`check`].
pub fn check_counts(model: impl Fn() + Send + Sync + 'static) {
    // Relaxed: read by what is called from here; a model has a process of its own.
    COUNTS.store(true, Ordering::Relaxed);
    check(model);
}

/// Explores every interleaving of `model`, to the bound that `SELVEDGE_LOOM_BOUND` gives (`none`,
/// the default, or a number of preemptions).
///
/// loom's own limits on time and permutations return success when they cut a run short, so they
/// are switched off here, whatever the environment says. When the exploration is finished, a line
/// with the number of iterations goes to the file that `SELVEDGE_LOOM_REPORT` names.
///
/// # Panics
///
/// When an interleaving breaks an assertion, races, deadlocks or leaks.
pub fn check(model: impl Fn() + Send + Sync + 'static) {
    let bound = match std::env::var("SELVEDGE_LOOM_BOUND").as_deref() {
        Err(_) | Ok("none") => None,
        Ok(number) => match number.parse::<usize>() {
            Ok(bound) => Some(bound),
            Err(_) => panic!("SELVEDGE_LOOM_BOUND={number}: expected `none` or a number"),
        },
    };
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 20_000;
    builder.max_duration = None;
    builder.max_permutations = None;
    builder.checkpoint_file = None;

    let iterations = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&iterations);
    let start = Instant::now();
    builder.check(move || {
        // Relaxed: a counter; loom runs one iteration at a time.
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });

    mutant::report_reached();
    let name = std::thread::current().name().unwrap_or("main").to_owned();
    // Relaxed: the exploration is over.
    let iterations = iterations.load(Ordering::Relaxed);
    let seconds = start.elapsed().as_secs_f64();
    let bound = bound.map_or("null".to_owned(), |bound| bound.to_string());
    let line = format!(
        "{{\"model\":\"{name}\",\"iterations\":{iterations},\"seconds\":{seconds:.3},\"bound\":{bound},\"complete\":true}}\n"
    );
    print!("{line}");
    if let Ok(path) = std::env::var("SELVEDGE_LOOM_REPORT") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("SELVEDGE_LOOM_REPORT={path}: {error}"));
        file.write_all(line.as_bytes()).expect("the record of a model can be written");
    }
}
