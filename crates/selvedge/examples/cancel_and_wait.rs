//! A configuration is read anew: the workers of the old one have to be out before those of the next begin, as both write
//! to the same file. Who is not out in time is named, with the place where it began.
//!
//! ```text
//! cargo run --example cancel_and_wait
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use selvedge::cancel::{Canceller, Cause, Context};

/// What a reload waits at the longest.
const PATIENCE: Duration = Duration::from_millis(300);

/// Starts the workers of a configuration; the canceller ends them.
fn start(service: &Context, version: u32, users: &Arc<AtomicUsize>) -> Result<Canceller, Cause> {
    let (ctx, canceller) = service.child();
    for worker in 1..=3 {
        // Entered before the task begins: from here on it is waited for.
        let inside = ctx.enter_named(format!("worker {worker} of version {version}"))?;
        let (ctx, users) = (ctx.clone(), Arc::clone(users));
        tokio::spawn(async move {
            users.fetch_add(1, Ordering::Relaxed);
            ctx.cancelled().await;
            // The last lines are written; one of version 3 waits for a disk that does not answer.
            let stuck = version == 3 && worker == 2;
            let takes = if stuck { Duration::from_secs(3600) } else { Duration::from_millis(10) };
            tokio::time::sleep(takes).await;
            users.fetch_sub(1, Ordering::Relaxed);
            drop(inside);
        });
    }
    Ok(canceller)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Cause> {
    let (service, _shutdown) = Context::background().child();
    let users = Arc::new(AtomicUsize::new(0));
    for version in 1..=3 {
        let workers = start(&service, version, &users)?;
        tokio::task::yield_now().await;
        let before = users.load(Ordering::Relaxed);
        let late = workers.cancel_and_wait(PATIENCE).await;
        let after = users.load(Ordering::Relaxed);
        println!("version {version}: {before} had the file open, {after} have");
        for straggler in late {
            println!("  not out: {straggler}");
        }
    }
    println!("in the whole service: {} not out", service.stragglers().len());
    Ok(())
}
