//! The window beside futures' FuturesOrdered and FuturesUnordered and those of futures-buffered.
//!
//! They differ in what they are: ours is a place for each result, and whoever works completes it;
//! theirs hold the work itself and poll it. So there are two shapes: what a place costs, with work
//! that is done at once on one thread, and a window of spawned tasks, where theirs hold join handles.

use std::future::ready;

use futures::StreamExt;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use futures_buffered::{FuturesOrderedBounded, FuturesUnorderedBounded};
use selvedge_fanio::{Emitted, Order, window};
use tokio::runtime::Runtime;

use super::Scale;
use super::poll;
use crate::harness::{Count, Shape, Work};

/// Every shape of the crate.
pub fn shapes(scale: Scale) -> Vec<Shape> {
    let orders = [Order::Ordered, Order::Unordered];
    let spawned = scale.of(200_000, 10_000, 500);
    orders.map(places).into_iter().chain(orders.map(|order| tasks(order, spawned))).collect()
}

/// Jobs under way at a time.
const WINDOW: u64 = 64;

fn by_order(order: Order) -> &'static str {
    if order == Order::Ordered { "ordered" } else { "unordered" }
}

/// The numbers below `n`, added up.
fn expected(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

/// So many jobs begin, are done, and their results are taken; an operation is a job.
fn places(order: Order) -> Shape {
    /// Adds the results of jobs up, a window at a time.
    fn each(n: u64, mut turn: impl FnMut(std::ops::Range<u64>) -> u64) -> Count {
        let (count, sum) = Count::of(|| {
            (0..n / WINDOW).map(|at| turn(at * WINDOW..(at + 1) * WINDOW)).sum::<u64>()
        });
        assert_eq!(sum, expected(n));
        count
    }

    /// Adds up what a set of ready futures gives.
    fn drain(set: &mut (impl futures::Stream<Item = u64> + Unpin)) -> u64 {
        let mut sum = 0;
        while let Some(value) = poll::ready(set.next()) {
            sum += value;
        }
        sum
    }

    let shape = Shape::new("fanio", "window of 64", by_order(order), Work::Calibrated(WINDOW))
        .ours(move |n| {
            let room = WINDOW as usize;
            let (entry, mut exit) = window(room, order).expect("room for some");
            let mut slots = Vec::with_capacity(room);
            each(n, |jobs| {
                let mut sum = 0;
                slots.extend(jobs.clone().map(|_| entry.try_reserve().expect("there is room")));
                for (slot, job) in slots.drain(..).zip(jobs.clone()) {
                    slot.complete(job);
                }
                for _ in jobs {
                    let emitted = exit.try_next().expect("all are complete");
                    sum += emitted.into_value().expect("none was given up");
                }
                sum
            })
        });
    let room = WINDOW as usize;
    if order == Order::Ordered {
        shape
            .peer("FuturesOrdered", |n| {
                let mut set = FuturesOrdered::new();
                each(n, |jobs| {
                    jobs.for_each(|job| set.push_back(ready(job)));
                    drain(&mut set)
                })
            })
            .peer("futures-buffered", move |n| {
                let mut set = FuturesOrderedBounded::new(room);
                each(n, |jobs| {
                    jobs.for_each(|job| set.push_back(ready(job)));
                    drain(&mut set)
                })
            })
    } else {
        shape
            .peer("FuturesUnordered", |n| {
                let mut set = FuturesUnordered::new();
                each(n, |jobs| {
                    jobs.for_each(|job| set.push(ready(job)));
                    drain(&mut set)
                })
            })
            .peer("futures-buffered", move |n| {
                let mut set = FuturesUnorderedBounded::new(room);
                each(n, |jobs| {
                    jobs.for_each(|job| set.push(ready(job)));
                    drain(&mut set)
                })
            })
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads start")
}

/// A window of spawned tasks; an operation is a task.
fn tasks(order: Order, jobs: u64) -> Shape {
    let each = |run: fn(&Runtime, u64) -> u64| {
        move |n: u64| {
            let runtime = runtime();
            let (count, sum) = Count::of(|| run(&runtime, n));
            assert_eq!(sum, expected(n));
            count
        }
    };
    let shape = Shape::new("fanio", "window of 64 tasks", by_order(order), Work::Exactly(jobs));
    if order == Order::Ordered {
        shape
            .ours(each(|runtime, n| tasks_of_ours(runtime, n, Order::Ordered)))
            .peer(
                "buffered and spawn",
                each(|runtime, n| {
                    runtime.block_on(started(n).buffered(WINDOW as usize).fold(0, add))
                }),
            )
            .peer(
                "futures-buffered and spawn",
                each(|runtime, n| {
                    use futures_buffered::BufferedStreamExt;
                    runtime.block_on(started(n).buffered_ordered(WINDOW as usize).fold(0, add))
                }),
            )
    } else {
        shape
            .ours(each(|runtime, n| tasks_of_ours(runtime, n, Order::Unordered)))
            .peer(
                "buffer_unordered and spawn",
                each(|runtime, n| {
                    runtime.block_on(started(n).buffer_unordered(WINDOW as usize).fold(0, add))
                }),
            )
            .peer(
                "futures-buffered and spawn",
                each(|runtime, n| {
                    use futures_buffered::BufferedStreamExt;
                    runtime.block_on(started(n).buffered_unordered(WINDOW as usize).fold(0, add))
                }),
            )
    }
}

/// Tasks that are spawned when the stream is asked for them.
fn started(n: u64) -> impl futures::Stream<Item = tokio::task::JoinHandle<u64>> {
    futures::stream::iter(0..n).map(|job| tokio::spawn(async move { job }))
}

fn add(sum: u64, done: Result<u64, tokio::task::JoinError>) -> std::future::Ready<u64> {
    ready(sum + done.expect("no task panics"))
}

fn tasks_of_ours(runtime: &Runtime, n: u64, order: Order) -> u64 {
    runtime.block_on(async {
        let (entry, mut exit) = window(WINDOW as usize, order).expect("room for some");
        tokio::spawn(async move {
            for job in 0..n {
                let slot = entry.reserve().await.expect("somebody reads");
                tokio::spawn(async move { slot.complete(job) });
            }
        });
        let mut sum = 0;
        while let Some(emitted) = exit.next().await {
            let Emitted::Item { value, .. } = emitted else { panic!("no task was given up") };
            sum += value;
        }
        sum
    })
}
