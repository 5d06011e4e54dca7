//! Tokio's cooperative budget: a loop over futures that are always ready lets others run.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_core::Stream;
use selvedge_cancel::Context;
use selvedge_pool::Pool;
use selvedge_testkit::block_on;
use support::{guarded, now, poll_once, pool, tasks};

/// Awaits what `make` gives, over and over, until another task of the same thread has run.
fn lets_others_run<F: Future>(what: &str, mut make: impl FnMut() -> F + Send + 'static)
where
    F::Output: Send,
{
    guarded(what, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let other = Arc::new(AtomicBool::new(false));
            let set = Arc::clone(&other);
            let other_task = tokio::task::spawn_local(async move {
                // SeqCst here and below: a test.
                set.store(true, Ordering::SeqCst);
            });
            while !other.load(Ordering::SeqCst) {
                drop(make().await);
            }
            other_task.await.unwrap();
        });
    });
}

#[test]
fn reserve_takes_part_in_the_budget() {
    let pool = Arc::new(pool(1, 1));
    lets_others_run("reserve", move || {
        let pool = Arc::clone(&pool);
        async move { pool.reserve().await.is_ok() }
    });
}

#[test]
fn submit_takes_part_in_the_budget() {
    let pool = Arc::new(pool(1, usize::MAX));
    lets_others_run("submit", move || {
        let pool = Arc::clone(&pool);
        async move { pool.submit(|_| ()).await.is_ok() }
    });
}

#[test]
fn a_refusal_takes_part_in_the_budget() {
    let pool = Arc::new(pool(1, 1));
    pool.stop();
    lets_others_run("a refusal", move || {
        let pool = Arc::clone(&pool);
        async move { pool.submit(|_| ()).await.is_err() }
    });
}

#[test]
fn a_handle_takes_part_in_the_budget() {
    let pool = pool(1, 1);
    let mut handles = Vec::new();
    for _ in 0..10_000 {
        handles.push(block_on(pool.submit(|_| ())).unwrap());
    }
    block_on(pool.drain());
    lets_others_run("handles", move || handles.pop().expect("others run within 10,000 polls"));
}

#[test]
fn the_end_takes_part_in_the_budget() {
    let pool = Arc::new(pool(1, 1));
    block_on(pool.drain());
    let watcher = pool.watch();
    lets_others_run("the end", move || watcher.wait());
    lets_others_run("draining", move || {
        let pool = Arc::clone(&pool);
        async move { pool.drain().await }
    });
}

#[test]
fn a_stream_of_results_takes_part_in_the_budget() {
    let (pool, mut crew) = tasks(1, usize::MAX);
    let (submitter, results) = pool.results(usize::MAX).unwrap();
    for _ in 0..10_000 {
        now(submitter.reserve()).unwrap().submit(|_| async {});
    }
    drop(submitter);
    // Outside of a runtime there is no budget.
    assert!(poll_once(crew[0].as_mut()).is_pending());
    let results = Arc::new(Mutex::new(results));
    lets_others_run("results", move || {
        let results = Arc::clone(&results);
        poll_fn(move |cx| Pin::new(&mut *results.lock().unwrap()).poll_next(cx))
    });
}

#[test]
fn reserving_for_results_takes_part_in_the_budget() {
    let (pool, crew) = tasks(1, 1);
    let (submitter, results) = pool.results::<()>(1).unwrap();
    let submitter = Arc::new(submitter);
    lets_others_run("reserving", move || {
        let _ = (&crew, &results);
        let submitter = Arc::clone(&submitter);
        async move { submitter.reserve().await.is_ok() }
    });
}

#[test]
fn a_worker_with_many_short_jobs_lets_others_run() {
    guarded("many short jobs", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let builder = Pool::builder().workers(1).queue(usize::MAX);
        let pool = builder.build_async(&Context::background()).unwrap();
        // The runtime is not driven yet.
        for _ in 0..10_000 {
            drop(block_on(pool.submit(|_| async {})).unwrap());
        }
        let watcher = pool.watch();
        let finished = runtime.block_on(async move {
            tokio::spawn(async move { watcher.ledger().finished }).await.unwrap()
        });
        assert!(finished < 10_000, "it ran after {finished} jobs");
        assert_eq!(runtime.block_on(pool.drain()).finished, 10_000);
    });
}
