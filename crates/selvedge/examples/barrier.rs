//! Heat spreads along a rod: each worker has a part of it, reads its neighbours' edges, and writes its own for the next
//! step when all have read. Then one worker fails, and the others are told instead of waiting for it.
//!
//! ```text
//! cargo run --example barrier
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use selvedge::sync::{Barrier, BarrierError};

/// How many workers there are.
const WORKERS: usize = 4;
/// How many steps they take.
const STEPS: usize = 200;

/// The rod, one cell for each worker, and the heat that one of the last to come has summed up.
struct Rod {
    cells: [Mutex<f64>; WORKERS],
    checks: AtomicU64,
}

impl Rod {
    fn cell(&self, at: usize) -> f64 {
        *self.cells[at].lock().unwrap()
    }

    fn heat(&self) -> f64 {
        (0..WORKERS).map(|at| self.cell(at)).sum()
    }
}

/// Takes all steps in one cell.
async fn work(at: usize, rod: Arc<Rod>, barrier: Arc<Barrier>) -> Result<(), BarrierError> {
    for _ in 0..STEPS {
        let (left, right) = (rod.cell(at.saturating_sub(1)), rod.cell((at + 1).min(WORKERS - 1)));
        let next = rod.cell(at) + (left + right - 2.0 * rod.cell(at)) / 4.0;
        // All have read.
        barrier.wait().await?;
        *rod.cells[at].lock().unwrap() = next;
        // All have written; one looks whether the heat is all there.
        if barrier.wait().await?.is_last() {
            assert!((rod.heat() - 100.0).abs() < 1e-9);
            rod.checks.fetch_add(1, Ordering::Relaxed);
        }
        barrier.wait().await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cells = [100.0, 0.0, 0.0, 0.0].map(Mutex::new);
    let rod = Arc::new(Rod { cells, checks: AtomicU64::new(0) });
    let barrier = Arc::new(Barrier::new(WORKERS)?.named("steps"));
    let workers: Vec<_> = (0..WORKERS)
        .map(|at| tokio::spawn(work(at, Arc::clone(&rod), Arc::clone(&barrier))))
        .collect();
    for worker in workers {
        worker.await??;
    }
    let cells: Vec<_> = (0..WORKERS).map(|at| format!("{:.1}", rod.cell(at))).collect();
    println!("after {STEPS} steps: {}", cells.join(" "));
    println!("the heat was all there {} times", rod.checks.load(Ordering::Relaxed));

    // One comes, and is aborted while it waits; without it the round cannot be completed.
    let workers: Vec<_> = (0..WORKERS - 1)
        .map(|at| tokio::spawn(work(at, Arc::clone(&rod), Arc::clone(&barrier))))
        .collect();
    while barrier.waiting() < WORKERS - 1 {
        tokio::task::yield_now().await;
    }
    workers[0].abort();
    for (at, worker) in workers.into_iter().enumerate().skip(1) {
        println!("worker {at}: {}", worker.await?.unwrap_err());
    }
    barrier.reset();
    println!("broken after a reset: {}", barrier.is_broken());
    Ok(())
}
