//! Uploads of different size share 64 MB: large ones wait until there is room, and nobody is overtaken.
//!
//! ```text
//! cargo run --example semaphore
//! ```

use std::convert::Infallible;
use std::time::{Duration, Instant};

use selvedge::cancel::Context;
use selvedge::sync::{AcquireError, Semaphore, TaskGroup};

static MEGABYTES: Semaphore = Semaphore::new(64);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let group = TaskGroup::<(), Infallible>::new(&Context::background());
    for (number, size) in [30, 30, 50, 4, 100, 20].into_iter().enumerate() {
        let upload = async move {
            match MEGABYTES.acquire(size).await {
                Ok(_permit) => {
                    let at = start.elapsed().as_millis();
                    let free = MEGABYTES.available();
                    println!("{at:>4} ms  upload {number} ({size} MB) begins, {free} MB are free");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                // Told at once: it would wait for ever, and everybody behind it.
                Err(error @ AcquireError::OverCapacity { .. }) => {
                    println!("         upload {number} ({size} MB) is refused: {error}");
                }
                Err(error) => println!("upload {number}: {error}"),
            }
            Ok(())
        };
        group.spawn(upload).await?;
    }
    group.join().await.into_result()?;
    println!("all ended, {} MB are free", MEGABYTES.available());
    Ok(())
}
