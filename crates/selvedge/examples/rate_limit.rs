//! The same twelve requests under two quotas: a tick, and a burst. Each line is a request, drawn where it
//! was sent.
//!
//! ```text
//! cargo run --example rate_limit
//! ```

use std::time::{Duration, Instant};

use selvedge::ratelimit::{Limiter, Quota, Rate};

/// Ten a second, one at a time.
const STEADY: Quota = Rate::per_second(10).burst(1);
/// Ten a second, and up to five at once after a pause.
const BURSTY: Quota = Rate::per_second(10).burst(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, quota) in [("steady", STEADY), ("with bursts", BURSTY)] {
        println!("{name}: one every {:?}, {} at once", quota.rate().interval(), quota.burst_size());
        let limiter = Limiter::new(quota);
        let start = Instant::now();
        for request in 1..=12 {
            limiter.acquire(1).await?;
            let at = start.elapsed();
            let column = (at.as_millis() / 20) as usize;
            println!("{:>5} ms {:column$}{request}", at.as_millis(), "");
        }
        // A server would not wait, but say when to come again.
        limiter.try_acquire(1).unwrap_err();
        let wait = limiter.ready_in(1).unwrap_or(Duration::MAX);
        println!("the next one in {wait:.0?}\n");
    }
    Ok(())
}
