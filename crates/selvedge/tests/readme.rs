//! The README's snippets, compiled: each stands here to the letter.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use selvedge::cancel::Context;
use selvedge::fanio::{Order, iter, map_concurrent, merge};
use selvedge::pipeline::{Pipeline, from_iter, generate};
use selvedge::pool::Pool;
use selvedge::ratelimit::{Limiter, Quota, Rate};
use selvedge::shutdown::{Shutdown, Signals};
use selvedge::sync::{Semaphore, TaskGroup};

type Any = Box<dyn std::error::Error>;

async fn work() -> u64 {
    7
}

fn expensive(ctx: &Context, n: u64) -> u64 {
    if ctx.is_cancelled() { 0 } else { n * n }
}

async fn fetch(n: u64) -> Result<u64, io::Error> {
    Ok(n * n)
}

fn print(item: impl Display) {
    println!("{item}");
}

#[rustfmt::skip]
#[tokio::test]
async fn contexts() -> Result<(), Any> {
    let (ctx, canceller) = Context::background().with_timeout(Duration::from_secs(5))?;
    let answer = ctx.run(work()).await;                 // Err(cause) when time is up
    let (request, _guard) = ctx.child();                // ends with its parent, or by itself
    canceller.stop(Duration::from_millis(500));         // "please finish", then cancelled
    println!("{}", request.cause().unwrap());           // who ended it, and where
    assert_eq!(answer.unwrap(), 7);
    Ok(())
}

#[rustfmt::skip]
#[tokio::test]
async fn semaphores() -> Result<(), Any> {
    let (ctx, _canceller) = Context::background().child();
    static CONNECTIONS: Semaphore = Semaphore::new(10);
    let permit = CONNECTIONS.acquire(1).await?;         // first come, first served
    let both = ctx.run(CONNECTIONS.acquire(2)).await??; // gives up with the context
    CONNECTIONS.try_acquire(11).unwrap_err();           // more than there are: an error, no hang
    drop(permit);                                       // the next in line has it
    assert_eq!(both.count(), 2);
    Ok(())
}

#[rustfmt::skip]
#[tokio::test]
async fn task_groups() -> Result<(), Any> {
    let (ctx, _canceller) = Context::background().child();
    let urls = 1..=20_u64;
    let group = TaskGroup::builder(&ctx).limit(8).build()?;
    for url in urls {
        group.spawn(fetch(url)).await?;                 // waits while eight are running
    }
    let pages = group.join().await.into_result()?;      // in order; the first error cancels the rest
    assert_eq!(pages.len(), 20);
    Ok(())
}

#[rustfmt::skip]
#[tokio::test]
async fn rate_limits() -> Result<(), Any> {
    const API: Quota = Rate::per_second(50).burst(10); // what makes no sense does not compile
    let limiter = Limiter::new(API);
    limiter.acquire(1).await?;                          // first come, first served, never too early
    if limiter.try_acquire(5).is_err() {                // not yet, or others wait
        println!("come again in {:?}", limiter.ready_in(5));
    }
    Ok(())
}

#[rustfmt::skip]
#[tokio::test]
async fn worker_pools() -> Result<(), Any> {
    let (ctx, _canceller) = Context::background().child();
    let pool = Pool::builder().workers(4).queue(64).build(&ctx)?;
    let job = pool.submit(|ctx| expensive(ctx, 7)).await?; // waits while the queue is full
    let result = job.await?;                            // a panic is an error here
    let ledger = pool.drain().await;                    // every job is accounted for
    assert!(ledger.adds_up());
    assert_eq!(result, 49);
    Ok(())
}

#[rustfmt::skip]
#[tokio::test]
async fn fan_out_and_fan_in() -> Result<(), Any> {
    let (ctx, _canceller) = Context::background().child();
    let numbers = merge([iter(0..50), iter(50..100)]);  // fan-in: each has its turn, within a bound
    let mut squares = map_concurrent(numbers, 8, Order::Ordered, &ctx, fetch)?; // fan-out: eight tasks
    while let Some(square) = squares.next().await {     // in the order of the items
        println!("{}", square??);                       // a panic is an error here
    }
    assert_eq!(squares.in_flight(), 0);
    Ok(())
}

#[rustfmt::skip]
#[tokio::test]
async fn pipelines_and_generators() -> Result<(), Any> {
    let (ctx, _canceller) = Context::background().child();
    let ended = generate(|y| async move {
        for n in 0..10 { y.give(n).await }              // goes on when the item is taken
        Ok::<_, io::Error>(())
    })
    .filter(|n| n % 2 == 0)
    .workers(8, Order::Ordered, fetch)                  // eight tasks, results in order
    .for_each(print)
    .run(&ctx).await;                                   // ended.report says what went where
    assert!(ended.report.adds_up());
    Ok(())
}

/// Compiled, not run: it would take the test's signals, and end it.
#[rustfmt::skip]
#[allow(dead_code, reason = "it would take the test's signals, and end it")]
async fn graceful_shutdown(pipeline: Arc<Pipeline<()>>) -> Result<(), Any> {
    let shutdown = Shutdown::builder().signals(Signals::install()?).build()?;
    shutdown.register(pipeline.clone())?;
    let (_, report) = shutdown.run(pipeline.join()).await;
    eprint!("{report}");                                // who was late, and where it was made
    report.exit();                                      // 130 after Ctrl-C
}

#[test]
fn every_snippet_stands_here() {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let here = squeeze(include_str!("readme.rs"));
    let readme = include_str!("../../../README.md");
    let snippets: Vec<&str> = readme.split("```rust,ignore\n").skip(1).collect();
    assert_eq!(snippets.len(), 8);
    for snippet in snippets {
        let snippet = snippet.split("```").next().unwrap();
        assert!(here.contains(&squeeze(snippet)), "not compiled:\n{snippet}");
    }
    // A pipeline from an iterator is named in the table only.
    drop(from_iter([1]));
}
