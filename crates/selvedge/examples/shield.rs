//! Workers that hold a lease and are cancelled. Giving a lease back is a call that waits as well, so it needs a shield:
//! the cancel that it reacts to does not end it. It has 200 ms, because a lock service may hang.
//!
//! ```text
//! cargo run --example shield
//! ```

use std::time::Duration;

use selvedge::cancel::{Context, DeadlineError};

/// What a cancel is kept waiting at the longest.
const BUDGET: Duration = Duration::from_millis(200);

/// A lease of a lock service, which takes `answers_in` to answer.
struct Lease {
    name: &'static str,
    answers_in: Duration,
}

impl Lease {
    /// Asks the service to take it back.
    async fn give_back(&self) {
        println!("{}: the service is asked to take the lease back", self.name);
        tokio::time::sleep(self.answers_in).await;
    }
}

/// Works under a lease until the context is cancelled.
async fn work(ctx: Context, lease: Lease) -> Result<(), DeadlineError> {
    let name = lease.name;
    println!("{name}: {}", ctx.cancelled().await);

    // Under the context that was cancelled the call does not even begin.
    if ctx.run(lease.give_back()).await.is_err() {
        println!("{name}: without a shield the service is not asked");
    }

    let shielded = ctx.shield(BUDGET, |ctx| async move {
        assert!(ctx.is_stopping() && !ctx.is_cancelled(), "it is told to hurry, and goes on");
        lease.give_back().await;
    });
    match shielded?.await {
        Ok(()) => println!("{name}: the lease is free"),
        Err(_) => println!("{name}: no answer within {BUDGET:?}, so the lease is left to run out"),
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, millis) in [("orders", 20), ("invoices", 3_600_000)] {
        let (ctx, canceller) = Context::background().child();
        let lease = Lease { name, answers_in: Duration::from_millis(millis) };
        let worker = tokio::spawn(work(ctx, lease));
        tokio::time::sleep(Duration::from_millis(50)).await;
        canceller.cancel();
        worker.await??;
    }
    Ok(())
}
