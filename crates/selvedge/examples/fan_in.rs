//! Three sensors of different pace in one stream, each reading with the number of its sensor. The stream ends
//! when the last sensor has.
//!
//! ```text
//! cargo run --example fan_in
//! ```

use std::time::{Duration, Instant};

use selvedge::fanio::merge;

/// A sensor in a task of its own, which sends a few readings and ends.
fn sensor(readings: u32, pace: Duration) -> async_channel::Receiver<u32> {
    let (sender, receiver) = async_channel::bounded(1);
    tokio::spawn(async move {
        for reading in 0..readings {
            tokio::time::sleep(pace).await;
            if sender.send(20 + reading).await.is_err() {
                return; // nobody listens
            }
        }
    });
    receiver
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let names = ["roof", "cellar", "garden"];
    let sensors = [(6, 40), (2, 150), (4, 90)]
        .map(|(readings, pace)| sensor(readings, Duration::from_millis(pace)));
    let start = Instant::now();
    let mut readings = merge(sensors).tagged();
    while let Some((sensor, reading)) = readings.next().await {
        let at = start.elapsed().as_millis();
        println!("{at:>4} ms  {:>6} reads {reading} °C ({} live)", names[sensor], readings.live());
    }
    println!("all three have ended");
}
