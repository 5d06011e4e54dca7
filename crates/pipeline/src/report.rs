//! What went through each stage: exact counts, always on.
//!
//! Each item that enters a stage is accounted for by exactly one of five exits. An item is counted
//! by the task that pulls it in and by the task that takes it out, never where it is worked on: so
//! when the run has joined its tasks the counts are final, whatever a blocking closure that nobody
//! waits for does later. What entered and did not come out was left ([`Counts::settle`]).
//!
//! Stages whose items stay on one task count in plain integers and publish them when they park or
//! end ([`LocalCounts`]).

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use selvedge_primitives::Origin;
use selvedge_primitives::atomic::{AtomicUsize, Ordering};

use crate::flow::{adds_up, label};

/// What went through a pipeline.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The stages, the source first and the sink last. Where pipelines are merged, those of one come
    /// behind those of the other; behind a branch come those of each lane.
    pub stages: Vec<StageReport>,
    /// How long it ran.
    pub elapsed: Duration,
}

/// What went through one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageReport {
    /// Its name, or its kind when it has none.
    pub name: String,
    /// What it is: `from_iter`, `from_stream`, `from_channel`, `ticks`, `generate`, `map`, `try_map`,
    /// `filter`, `throttle`, `workers`, `blocking`, `batch`, `branch`, `lane`, `merge`, `sink`.
    pub kind: &'static str,
    /// Where it was described.
    pub place: &'static Location<'static>,
    /// Items that came in; for a source: that it made.
    pub entered: u64,
    /// Items that went on; for a sink: that it took.
    pub passed: u64,
    /// What the next stage was given: as many as passed, but for `batch` the batches.
    pub emitted: u64,
    /// Items that a filter dropped.
    pub filtered: u64,
    /// Items that failed and were [skipped](crate::Stage::skip_failed).
    pub skipped: u64,
    /// Items whose failure or panic came out, and ended the pipeline.
    pub failed: u64,
    /// Items that were under way, or finished and not taken, when the pipeline ended early; none
    /// before the run has ended.
    pub left: u64,
}

impl StageReport {
    /// How many have entered and not come out; while the run goes on they are counted one after the
    /// other, so this is no more than an impression.
    #[cfg(feature = "tokio")]
    pub(crate) fn under_way(&self) -> u64 {
        let done = self.passed + self.filtered + self.skipped + self.failed + self.left;
        self.entered.saturating_sub(done)
    }
}

impl Report {
    /// Whether every stage's counts add up: entered = passed + filtered + skipped + failed + left.
    /// It holds for every report of a run that has ended.
    pub fn adds_up(&self) -> bool {
        self.stages.iter().all(adds_up)
    }

    /// The stage of that name.
    pub fn stage(&self, name: &str) -> Option<&StageReport> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Items left in all stages.
    pub fn left(&self) -> u64 {
        self.stages.iter().map(|stage| stage.left).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.stages.iter().map(|stage| stage.name.len()).max().unwrap_or(0).max(5);
        writeln!(
            f,
            "{:width$} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "stage", "entered", "passed", "filtered", "skipped", "failed", "left"
        )?;
        for stage in &self.stages {
            writeln!(
                f,
                "{:width$} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
                stage.name,
                stage.entered,
                stage.passed,
                stage.filtered,
                stage.skipped,
                stage.failed,
                stage.left
            )?;
        }
        write!(f, "in {:.3} s", self.elapsed.as_secs_f64())
    }
}

/// The kind of the stage whose items go on in batches.
pub(crate) const BATCH: &str = "batch";

/// The counts of one stage, shared by all that touch its items.
pub(crate) struct Counts {
    /// Name and place.
    origin: Origin,
    /// What it is.
    kind: &'static str,
    /// Items that came in.
    pub(crate) entered: AtomicUsize,
    /// Items that went on.
    pub(crate) passed: AtomicUsize,
    /// Items that a filter dropped.
    pub(crate) filtered: AtomicUsize,
    /// Items that failed and were skipped.
    pub(crate) skipped: AtomicUsize,
    /// Items that failed or panicked, and whose error came out.
    pub(crate) failed: AtomicUsize,
    /// Items that had not come out when the run ended.
    left: AtomicUsize,
    /// Batches that went on; none where items go on by themselves.
    batches: AtomicUsize,
}

impl Counts {
    /// All zero.
    pub(crate) fn new(origin: Origin, kind: &'static str) -> Arc<Self> {
        Arc::new(Self {
            origin,
            kind,
            entered: AtomicUsize::new(0),
            passed: AtomicUsize::new(0),
            filtered: AtomicUsize::new(0),
            skipped: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            batches: AtomicUsize::new(0),
        })
    }

    /// The stage's name.
    pub(crate) fn name(&self) -> String {
        label(&self.origin, self.kind)
    }

    /// An item enters. Returns how many entered before.
    #[cfg(feature = "tokio")]
    pub(crate) fn enter(&self) -> u64 {
        // Relaxed: a count; see `read` for the reader.
        self.entered.fetch_add(1, Ordering::Relaxed) as u64
    }

    /// The run has ended: what did not come out is left.
    pub(crate) fn settle(&self) {
        let now = self.read();
        let left = now.entered - now.passed - now.filtered - now.skipped - now.failed;
        // Relaxed: as in `read`.
        self.left.store(left as usize, Ordering::Relaxed);
    }

    /// The counts as they are now.
    pub(crate) fn read(&self) -> StageReport {
        // Relaxed: whoever reads for the report has joined the tasks that counted; while items are
        // under way the counts are read one after the other.
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed) as u64;
        let passed = read(&self.passed);
        StageReport {
            name: self.name(),
            kind: self.kind,
            place: self.origin.place(),
            entered: read(&self.entered),
            passed,
            emitted: if self.kind == BATCH { read(&self.batches) } else { passed },
            filtered: read(&self.filtered),
            skipped: read(&self.skipped),
            failed: read(&self.failed),
            left: read(&self.left),
        }
    }
}

/// The counts of a stage whose items stay on one task: plain integers, published when the stage
/// parks or ends. It is the only writer of its [`Counts`].
pub(crate) struct LocalCounts {
    /// Where they are published.
    shared: Arc<Counts>,
    /// Items that came in.
    pub(crate) entered: usize,
    /// Items that went on.
    pub(crate) passed: usize,
    /// Items that a filter dropped.
    pub(crate) filtered: usize,
    /// Items that failed and were skipped.
    pub(crate) skipped: usize,
    /// Items that failed or panicked.
    pub(crate) failed: usize,
    /// Batches that went on.
    pub(crate) batches: usize,
}

impl LocalCounts {
    /// All zero.
    pub(crate) fn new(shared: Arc<Counts>) -> Self {
        Self { shared, entered: 0, passed: 0, filtered: 0, skipped: 0, failed: 0, batches: 0 }
    }

    /// The stage's name.
    pub(crate) fn name(&self) -> String {
        self.shared.name()
    }

    /// Shows what was counted so far.
    pub(crate) fn publish(&self) {
        // Relaxed: counts with one writer; see `Counts::read` for the reader.
        self.shared.entered.store(self.entered, Ordering::Relaxed);
        // Relaxed: as above.
        self.shared.passed.store(self.passed, Ordering::Relaxed);
        // Relaxed: as above.
        self.shared.filtered.store(self.filtered, Ordering::Relaxed);
        // Relaxed: as above.
        self.shared.failed.store(self.failed, Ordering::Relaxed);
        // Relaxed: as above.
        self.shared.skipped.store(self.skipped, Ordering::Relaxed);
        // Relaxed: as above.
        self.shared.batches.store(self.batches, Ordering::Relaxed);
    }
}

impl Drop for LocalCounts {
    fn drop(&mut self) {
        self.publish();
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tests {
    use super::*;

    #[test]
    fn counts_read_one_after_the_other_do_not_overflow() {
        let counts = Counts::new(Origin::here(), "map");
        let mut report = counts.read();
        report.entered = 3;
        assert_eq!(report.under_way(), 3);
        // Two items went through between the two reads.
        report.passed = 5;
        assert_eq!(report.under_way(), 0);
    }
}
