//! One request, three shards: what is there when the time is up is the answer, and what is not says why.
//!
//! ```text
//! cargo run --example context
//! ```

use std::time::{Duration, Instant};

use selvedge::cancel::Context;
use selvedge::sync::TaskGroup;

/// Whose request it is; the shards read it from their context.
struct User(&'static str);

/// Asks a shard, which takes `takes` to answer.
async fn ask(ctx: &Context, shard: &str, takes: Duration) -> Result<String, String> {
    let user = ctx.value::<User>().map_or("nobody", |user| user.0);
    // The context is looked at before the work, and wherever the work waits.
    let work = ctx.run(tokio::time::sleep(takes));
    match work.await {
        Ok(()) => Ok(format!("{shard}: 3 orders of {user}")),
        Err(cause) => Err(format!("{shard}: nothing after all, {cause}")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let request = Context::background().with_value(User("ada"));
    let (ctx, _canceller) = request.with_timeout(Duration::from_millis(200))?;

    // The tasks look at the context themselves, so the group is not under it: it waits for what they say.
    let group = TaskGroup::builder(&request).collect_all().build()?;
    for (shard, millis) in [("north", 20), ("south", 120), ("west", 60_000)] {
        let ctx = ctx.clone();
        let takes = Duration::from_millis(millis);
        group.spawn(async move { ask(&ctx, shard, takes).await }).await?;
    }
    let joined = group.join().await;
    for answer in joined.results.iter().flatten() {
        println!("{answer}");
    }
    for failure in &joined.failures {
        if let selvedge::sync::Fault::Error(error) = &failure.fault {
            println!("{error}");
        }
    }
    println!("answered after {:.0?}", start.elapsed());
    Ok(())
}
