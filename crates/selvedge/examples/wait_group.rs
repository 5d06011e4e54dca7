//! A race: nobody runs before all are at the line (a latch), and the stadium closes when the last one has left
//! the track (a wait group), also the one who stumbles; but not later than its closing time (a context).
//!
//! ```text
//! cargo run --example wait_group
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge::cancel::Context;
use selvedge::sync::{Latch, WaitGroup};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runners = [("ada", 30, 220), ("ben", 90, 160), ("cleo", 60, 300), ("dora", 10, 190)];
    let track = Arc::new(WaitGroup::new());
    let line = Arc::new(Latch::new(runners.len()));

    for (name, dressing, running) in runners {
        // Dropped at the end of the task, whatever that end is: `defer wg.Done()` cannot be forgotten.
        let (on_the_track, line) = (track.add_owned(1)?, Arc::clone(&line));
        tokio::spawn(async move {
            let _on_the_track = on_the_track;
            tokio::time::sleep(Duration::from_millis(dressing)).await;
            println!("{name} is at the line");
            line.count_down(1);
            line.wait().await;
            let start = Instant::now();
            tokio::time::sleep(Duration::from_millis(running)).await;
            if name == "cleo" {
                println!("cleo stumbles");
                return;
            }
            println!("{name} is in after {} ms", start.elapsed().as_millis() / 10 * 10);
        });
    }

    let (closing, _keys) = Context::background().with_timeout(Duration::from_secs(5))?;
    match closing.run(track.wait()).await {
        Ok(()) => println!("the track is empty"),
        Err(cause) => println!("{} still run, the stadium closes: {cause}", track.count()),
    }

    // Ten thousand guards, and a time that is too short for the one that is never dropped.
    let guards: Vec<_> = (0..10_000).map(|_| track.add(1)).collect::<Result<_, _>>()?;
    let (closing, _keys) = Context::background().with_timeout(Duration::from_millis(50))?;
    let waited = closing.run(track.wait()).await;
    println!("{} guards out, {}", track.count(), waited.unwrap_err());
    drop(guards);
    track.wait().await;
    println!("and {} when they are dropped", track.count());
    Ok(())
}
