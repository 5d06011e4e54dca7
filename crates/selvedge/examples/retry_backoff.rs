//! Three clients ask a server that is down for a while: each waits longer after each refusal, no two for the same time, and
//! none beyond its deadline.
//!
//! ```text
//! cargo run --example retry_backoff
//! ```

use std::time::{Duration, Instant};

use selvedge::cancel::Context;
use selvedge::sync::Backoff;

/// When the server is up again.
const DOWN: Duration = Duration::from_millis(400);

/// How an attempt to ask ends.
async fn ask(start: Instant) -> Result<(), &'static str> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    if start.elapsed() < DOWN { Err("connection refused") } else { Ok(()) }
}

/// Asks until there is an answer; says why there is none.
async fn client(name: &str, seed: u64, backoff: Backoff, ctx: &Context, start: Instant) -> String {
    let mut delays = backoff.delays_seeded(seed);
    for attempt in 1.. {
        match ctx.run(ask(start)).await {
            Ok(Ok(())) => return format!("{name}: answered at attempt {attempt}"),
            Ok(Err(error)) => {
                let Some(delay) = delays.next() else {
                    return format!("{name}: gives up after attempt {attempt}: {error}");
                };
                println!("{name}: {error}, again in {} ms", delay.as_millis());
                if let Err(cause) = ctx.run(tokio::time::sleep(delay)).await {
                    return format!("{name}: stopped while it waited: {cause}");
                }
            }
            Err(cause) => return format!("{name}: stopped while it asked: {cause}"),
        }
    }
    unreachable!("the attempts do not end")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let backoff = Backoff::new(Duration::from_millis(40), Duration::from_millis(320))?;
    let background = Context::background();
    let (hurry, _keys) = background.with_timeout(Duration::from_millis(150))?;
    let ends = tokio::join!(
        client("patient", 1, backoff.endless(), &background, start),
        client("modest ", 2, backoff.attempts(2), &background, start),
        client("hurried", 3, backoff.endless(), &hurry, start),
    );
    for end in [ends.0, ends.1, ends.2] {
        println!("{end}");
    }
    Ok(())
}
