//! Work on several threads that begin together, each on a core of its own.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::Count;
use super::cores::stay_on;

/// What `threads` threads take for `operations` in all, from the first that begins to the last that
/// ends. Each is told its number and its share. Allocations are counted where one thread does
/// everything, on that thread's own account, so that shapes with more threads leave them out.
pub fn together(threads: usize, operations: u64, work: impl Fn(usize, u64) + Sync) -> Count {
    if threads == 1 {
        return Count::time(|| work(0, operations));
    }
    let barrier = Barrier::new(threads);
    let share = operations / threads as u64;
    let elapsed = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|number| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    stay_on(number);
                    barrier.wait();
                    let start = Instant::now();
                    work(number, share);
                    (start, Instant::now())
                })
            })
            .collect();
        let spans: Vec<_> =
            handles.into_iter().map(|handle| handle.join().expect("a bench panicked")).collect();
        let first = spans.iter().map(|span| span.0).min();
        let last = spans.iter().map(|span| span.1).max();
        first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first)
    });
    Count { elapsed, allocations: 0 }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_shares_are_all_the_operations() {
        let done = AtomicU64::new(0);
        let count = together(2, 10, |_, share| {
            done.fetch_add(share, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 10);
        assert!(count.elapsed > Duration::ZERO);
    }
}
