//! A listing in pages of ten, read like a stream of items. The reader wants 25, so three pages are fetched,
//! and the fourth never is.
//!
//! ```text
//! cargo run --example generator
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use selvedge::cancel::Context;
use selvedge::pipeline::generate;

/// Fetches a page.
async fn fetch(page: u32) -> Result<Vec<u32>, std::io::Error> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok((page * 10..page * 10 + 10).collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pages = Arc::new(AtomicU32::new(0));
    let fetched = Arc::clone(&pages);
    let items = generate(move |y| async move {
        for page in 0.. {
            println!("page {page} is fetched");
            // Relaxed: a count.
            fetched.fetch_add(1, Ordering::Relaxed);
            for item in fetch(page).await? {
                y.give(item).await; // goes on when the item is taken
            }
        }
        Ok::<_, std::io::Error>(())
    });
    let mut items = items.into_stream(&Context::background());
    let mut read = Vec::new();
    while read.len() < 25 {
        let next = items.next().await;
        read.push(next.ok_or("the listing has an end")??);
    }
    drop(items); // the body is dropped where it waits, in the middle of a page
    // Relaxed: nobody counts any more.
    println!("fetched {} pages for {} items", pages.load(Ordering::Relaxed), read.len());
    Ok(())
}
