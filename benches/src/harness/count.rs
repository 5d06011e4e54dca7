//! What some operations took: time, and allocations when they are counted.
//!
//! A contestant times its work itself, so that what it needs before and after (a runtime, a tree to
//! cancel, the destructors) is not measured.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::allocations;

thread_local! {
    /// Whether the run that is under way on this thread counts allocations instead of timing.
    static COUNTING: Cell<bool> = const { Cell::new(false) };
}

/// What some operations took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// How long they took in all.
    pub elapsed: Duration,
    /// The blocks that were allocated; zero unless they are counted.
    pub allocations: u64,
}

impl Count {
    /// Does the work, and says what it took and returned. The value is dropped by the caller, outside
    /// what is timed.
    pub fn of<R>(work: impl FnOnce() -> R) -> (Self, R) {
        if COUNTING.get() {
            let ((elapsed, value), allocations) = allocations::counted(|| timed(work));
            (Self { elapsed, allocations }, value)
        } else {
            let (elapsed, value) = timed(work);
            (Self { elapsed, allocations: 0 }, value)
        }
    }

    /// Work that returns nothing of interest.
    pub fn time(work: impl FnOnce()) -> Self {
        Self::of(work).0
    }

    /// A figure that is not a time span from begin to end, such as a percentile of latencies, told
    /// as the time of `operations`.
    pub fn told(each: Duration, operations: u64) -> Self {
        let nanos = each.as_nanos().saturating_mul(u128::from(operations));
        Self {
            elapsed: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
            allocations: 0,
        }
    }

    /// Both.
    pub fn add(&mut self, other: Self) {
        self.elapsed += other.elapsed;
        self.allocations += other.allocations;
    }
}

/// Runs `f` in such a way that [`Count::of`] counts allocations on this thread.
pub(crate) fn counting<R>(f: impl FnOnce() -> R) -> R {
    COUNTING.set(true);
    let value = f();
    COUNTING.set(false);
    value
}

fn timed<R>(work: impl FnOnce() -> R) -> (Duration, R) {
    let start = Instant::now();
    let value = work();
    (start.elapsed(), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_told_figure_is_that_of_each_operation() {
        let count = Count::told(Duration::from_nanos(7), 3);
        assert_eq!(count.elapsed, Duration::from_nanos(21));
    }

    #[test]
    fn the_value_comes_back_and_is_dropped_outside() {
        let (count, value) = Count::of(|| vec![1, 2]);
        assert_eq!(value, [1, 2]);
        assert_eq!(count.allocations, 0);
    }
}
