//! A buffer of three between a quick baker and a slow seller: the baker runs ahead by as many loaves, and then
//! waits. At closing time the seller takes no more; what lies on the shelf stays there for the next one.
//!
//! ```text
//! cargo run --example channels
//! ```

use std::time::{Duration, Instant};

use selvedge::cancel::Context;
use selvedge::pipeline::from_channel;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let at = move || start.elapsed().as_millis() / 10 * 10;
    let (shelf, counter) = async_channel::bounded(3);

    // Go's sender closes; here the channel closes when its last sender is dropped, at the end of the task.
    let baker = tokio::spawn(async move {
        for loaf in 1..=10 {
            let full = shelf.is_full();
            if let Err(back) = shelf.send(loaf).await {
                println!("{:>4} ms  the shop is gone, loaf {} stays in the oven", at(), back.0);
                return;
            }
            let waited = if full { ", after waiting for a place" } else { "" };
            println!("{:>4} ms  baked {loaf}{waited}", at());
        }
        println!("{:>4} ms  the baker goes home", at());
    });

    // The morning: until closing time, and what was taken from the shelf is still sold.
    let (open, closing) = Context::background().child();
    let morning = from_channel(counter.clone())
        .workers(1, selvedge::pipeline::Order::Ordered, move |loaf| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            println!("{:>4} ms      sold {loaf}", at());
            Ok::<_, std::convert::Infallible>(loaf)
        })
        .window(1)
        .collect()
        .start(&open)?;
    tokio::time::sleep(Duration::from_millis(175)).await;
    println!("{:>4} ms  closed for lunch", at());
    closing.stop(Duration::MAX);
    let sold = morning.join().await.ok_or("joined once")?.output;
    println!("{:>4} ms  {} on the shelf, {} sold in the morning", at(), counter.len(), sold.len());

    // The afternoon: a range over the channel, until it is closed and empty.
    let mut afternoon = 0;
    while let Ok(loaf) = counter.recv().await {
        println!("{:>4} ms      sold {loaf}", at());
        afternoon += 1;
    }
    baker.await?;
    println!("{} in the morning and {afternoon} in the afternoon: all ten", sold.len());
    Ok(())
}
