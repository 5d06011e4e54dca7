//! A service that is asked to end after half a second, or earlier by Ctrl-C: it takes no more requests, gives
//! those that it has a second to finish, and says who was late.
//!
//! ```text
//! cargo run --example graceful_shutdown
//! ```

use std::sync::Arc;
use std::time::Duration;

use selvedge::cancel::Context;
use selvedge::pool::Pool;
use selvedge::shutdown::{InstallError, Shutdown, Signals};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut plan =
        Shutdown::builder().grace(Duration::from_secs(1)).abort_budget(Duration::from_millis(200));
    match Signals::install() {
        Ok(signals) => plan = plan.signals(signals),
        Err(InstallError::Unsupported) => println!("no signals here"),
        Err(error) => return Err(error.into()),
    }
    let shutdown = plan.build()?;

    // The pools are drained by the plan, so they are not below its context.
    let background = Context::background();
    let quick = Arc::new(Pool::builder().name("requests").workers(2).build(&background)?);
    let deaf = Arc::new(Pool::builder().name("report writer").workers(1).build(&background)?);
    shutdown.register(quick.clone())?;
    shutdown.register(deaf.clone())?;

    // A job that does not look at its context: nothing ends it in its ten seconds.
    let writing = deaf.submit(|_ctx| std::thread::sleep(Duration::from_secs(10))).await?;

    let (ctx, handle) = (shutdown.ctx().clone(), shutdown.handle());
    let service = async move {
        let mut served = Vec::new();
        for request in 0.. {
            if ctx.run(tokio::time::sleep(Duration::from_millis(40))).await.is_err()
                || ctx.is_stopping()
            {
                break;
            }
            let job = quick.submit(move |ctx| {
                // It looks at its context now and then, as a good job does.
                for _ in 0..10 {
                    std::thread::sleep(Duration::from_millis(10));
                    if ctx.is_cancelled() {
                        return None;
                    }
                }
                Some(request)
            });
            let Ok(job) = job.await else { break };
            served.push(job);
            if request == 12 {
                handle.trigger("half a second is over");
            }
        }
        let mut answered = 0;
        let taken = served.len();
        for job in served {
            answered += usize::from(matches!(job.await, Ok(Some(_))));
        }
        println!("took {taken} requests, answered {answered}");
    };

    let (_, report) = shutdown.run(service).await;
    print!("{report}");
    drop(writing);
    Ok(()) // a program ends with `report.exit()`, whose code says what it was
}
