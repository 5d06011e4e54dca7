//! The same question to several mirrors: the first answer that is one, and then all that come within a time.
//!
//! ```text
//! cargo run --example scatter
//! ```

use std::time::{Duration, Instant};

use selvedge::cancel::Context;
use selvedge::fanio::{all, first_ok};

/// Says so when it goes, and whether it was done.
struct Request {
    mirror: &'static str,
    answered: bool,
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.answered {
            println!("    {} is not waited for any more", self.mirror);
        }
    }
}

/// Asks a mirror, which takes `millis` and may have nothing.
async fn ask(mirror: &'static str, millis: u64, has_it: bool) -> Result<String, String> {
    let mut request = Request { mirror, answered: false };
    tokio::time::sleep(Duration::from_millis(millis)).await;
    request.answered = true;
    if has_it { Ok(format!("{mirror} has it")) } else { Err(format!("{mirror} has nothing")) }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mirrors = || {
        [("oslo", 40, false), ("rome", 90, true), ("lima", 160, true), ("pune", 60_000, true)]
            .map(|(mirror, millis, has_it)| ask(mirror, millis, has_it))
    };

    let start = Instant::now();
    println!("who is first?");
    let first = first_ok(mirrors(), &Context::background()).await?;
    println!("{first}, after {} ms; the others are gone\n", start.elapsed().as_millis() / 10 * 10);

    let start = Instant::now();
    println!("who answers within 200 ms?");
    let (ctx, _canceller) = Context::background().with_timeout(Duration::from_millis(200))?;
    for answer in all(mirrors(), &ctx).await {
        match answer {
            Ok(Ok(answer)) => println!("yes:  {answer}"),
            Ok(Err(answer)) => println!("no:   {answer}"),
            Err(late) => println!("late: {late}"),
        }
    }
    println!("after {} ms\n", start.elapsed().as_millis() / 10 * 10);

    println!("and if nobody has it?");
    let nobody = [ask("oslo", 20, false), ask("kyiv", 10, false)];
    let none = first_ok(nobody, &Context::background()).await.unwrap_err();
    println!("{none}");
    for failure in none.failures {
        println!("no:   {failure}");
    }
    Ok(())
}
