//! Six chapters are fetched at once; two are not there and one cannot be read. First the way of Go's
//! `errgroup`, where the first error ends the rest; then all of them to their end, with every error and the
//! panic kept.
//!
//! ```text
//! cargo run --example task_group
//! ```

use std::time::Duration;

use selvedge::cancel::Context;
use selvedge::sync::{Fault, TaskGroup};

/// Why there is no chapter.
#[derive(Debug, thiserror::Error)]
#[error("chapter {chapter}: {what}")]
struct Missing {
    chapter: usize,
    what: &'static str,
}

/// Fetches a chapter; gives how many words it has.
async fn fetch(chapter: usize) -> Result<usize, Missing> {
    let (millis, text) = match chapter {
        0 => (10, "It was a dark night"),
        1 => (30, ""),
        2 => (60, "The letter came at noon"),
        3 => (70, "\u{fffd}"),
        4 => (80, ""),
        _ => (90, "Nobody ever asked"),
    };
    tokio::time::sleep(Duration::from_millis(millis)).await;
    if text.is_empty() {
        return Err(Missing { chapter, what: "not found" });
    }
    assert!(text.is_ascii(), "chapter {chapter} is garbled");
    Ok(text.split(' ').count())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The group tells of the panic; the hook need not print it as well.
    std::panic::set_hook(Box::new(|_| ()));

    println!("the first error ends the rest:");
    let group = TaskGroup::new(&Context::background());
    for chapter in 0..6 {
        group.try_spawn(fetch(chapter))?;
    }
    // When it has completed, nothing of the group is alive.
    let error = group.join().await.into_result().unwrap_err();
    println!("  {error}");
    if let Some(missing) = error.into_first_error() {
        println!("  the error itself: {}, {}", missing.chapter, missing.what);
    }

    println!("all to their end, three at a time:");
    let group = TaskGroup::builder(&Context::background())
        .limit(3)
        .collect_all()
        .return_panics()
        .build()?;
    for chapter in 0..6 {
        group.spawn(fetch(chapter)).await?;
    }
    let joined = group.join().await;
    for (chapter, words) in joined.results.iter().enumerate() {
        if let Some(words) = words {
            println!("  chapter {chapter} has {words} words");
        }
    }
    for failure in &joined.failures {
        let kind = match &failure.fault {
            Fault::Error(_) => "error",
            Fault::Panic(_) => "panic",
        };
        println!("  {kind}: {failure}");
    }
    let counts = joined.counts;
    println!(
        "  {} of {} fetched, {} failed, {} panicked",
        counts.finished, counts.spawned, counts.failed, counts.panicked
    );
    Ok(())
}
