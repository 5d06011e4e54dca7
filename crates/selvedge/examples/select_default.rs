//! A page that twelve readers want at once. Two at a time may compute it; whoever finds no permit takes the
//! default, the stale copy, and does not wait. Two stale answers are logged at once, and then two a second.
//!
//! ```text
//! cargo run --example select_default
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use selvedge::cancel::Context;
use selvedge::ratelimit::{Limiter, Rate};
use selvedge::sync::{Semaphore, TaskGroup};

/// The page, and who may make it anew.
struct Page {
    version: AtomicU32,
    makers: Semaphore,
    log: Limiter,
}

/// Fresh if there is a permit at this moment, else what is there.
async fn read(reader: u32, page: &Page) -> &'static str {
    let Ok(_permit) = page.makers.try_acquire(1) else {
        // The default. The log takes one too, and is silent when it has no token.
        if page.log.try_acquire(1).is_ok() {
            let version = page.version.load(Ordering::Relaxed);
            println!("reader {reader:>2}: busy, version {version} will do");
        }
        return "stale";
    };
    tokio::time::sleep(Duration::from_millis(120)).await;
    let version = 1 + page.version.fetch_add(1, Ordering::Relaxed);
    println!("reader {reader:>2}: made version {version}");
    "fresh"
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let page = Arc::new(Page {
        version: AtomicU32::new(0),
        makers: Semaphore::new(2),
        log: Limiter::new(Rate::per_second(2).burst(2)),
    });
    let readers = TaskGroup::<_, std::convert::Infallible>::new(&Context::background());
    for reader in 0..12 {
        let page = Arc::clone(&page);
        readers.spawn(async move { Ok(read(reader, &page).await) }).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let answers = readers.join().await.into_result()?;
    let fresh = answers.iter().filter(|answer| **answer == "fresh").count();
    println!("{fresh} fresh, {} stale, nobody waited", answers.len() - fresh);
    Ok(())
}
