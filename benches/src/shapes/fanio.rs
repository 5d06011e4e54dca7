//! The window beside futures' FuturesOrdered and FuturesUnordered and those of futures-buffered; the
//! concurrent mapping beside their `buffered` with spawned tasks; the merge, in `fanio/merge.rs`.
//!
//! The windows differ in what they are: ours is a place for each result, and whoever works completes
//! it; theirs hold the work itself and poll it. What a place costs is shown with work that is done at
//! once, on one thread. In the mapping everybody's work is a task, and theirs hold join handles.

mod merge;

use std::future::ready;

use futures::StreamExt;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use futures_buffered::{FuturesOrderedBounded, FuturesUnorderedBounded};
use selvedge_cancel::Context;
use selvedge_fanio::{Emitted, Order, iter, map_concurrent, window};
use tokio::task::{JoinHandle, JoinSet};

use super::Scale;
use super::poll;
use crate::harness::{Count, Shape, Work};

/// Every shape of the crate.
pub fn shapes(scale: Scale) -> Vec<Shape> {
    let orders = [Order::Ordered, Order::Unordered];
    let million = scale.of(1_000_000, 20_000, 500);
    let mut shapes = Vec::from(orders.map(places));
    shapes.extend(orders.map(|order| mapped(order, million)));
    shapes.extend(merge::shapes(scale));
    shapes
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

/// A future for each item, each in a task, a window of them at a time; an operation is an item. All of
/// them are read by a task of the runtime, because from there tokio spawns fastest.
fn mapped(order: Order, items: u64) -> Shape {
    fn each<F>(read: impl Fn(u64) -> F) -> impl FnMut(u64) -> Count
    where
        F: Future<Output = u64> + Send + 'static,
    {
        move |n| {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
            let reader = read(n);
            let (count, sum) = Count::of(|| runtime.block_on(runtime.spawn(reader)));
            assert_eq!(sum.expect("no reader panics"), expected(n));
            count
        }
    }

    let room = WINDOW as usize;
    let parameter = format!("{WINDOW} at a time, {}", by_order(order));
    let shape = Shape::new("fanio", "map_concurrent", parameter, Work::Exactly(items))
        .ours(each(move |n| mapped_by_ours(n, order)));
    let shape = if order == Order::Ordered {
        shape
            .peer("buffered and spawn", each(move |n| started(n).buffered(room).fold(0, add)))
            .peer(
                "futures-buffered and spawn",
                each(move |n| {
                    use futures_buffered::BufferedStreamExt;
                    started(n).buffered_ordered(room).fold(0, add)
                }),
            )
    } else {
        shape
            .peer(
                "buffer_unordered and spawn",
                each(move |n| started(n).buffer_unordered(room).fold(0, add)),
            )
            .peer(
                "futures-buffered and spawn",
                each(move |n| {
                    use futures_buffered::BufferedStreamExt;
                    started(n).buffered_unordered(room).fold(0, add)
                }),
            )
            .peer("JoinSet, bounded", each(bounded_join_set))
    };
    shape.reference("ours, window by hand", each(move |n| window_by_hand(n, order)))
}

/// Tasks that are spawned when the stream is asked for them.
fn started(n: u64) -> impl futures::Stream<Item = JoinHandle<u64>> {
    futures::stream::iter(0..n).map(|item| tokio::spawn(async move { item }))
}

fn add(sum: u64, done: Result<u64, tokio::task::JoinError>) -> std::future::Ready<u64> {
    ready(sum + done.expect("no task panics"))
}

async fn mapped_by_ours(n: u64, order: Order) -> u64 {
    let ctx = Context::background();
    let mut results =
        map_concurrent(iter(0..n), WINDOW as usize, order, &ctx, ready).expect("room for some");
    let mut sum = 0;
    while let Some(result) = results.next().await {
        sum += result.expect("no task panics");
    }
    sum
}

/// As many as fit are in the set, and then one comes out for each that goes in.
async fn bounded_join_set(n: u64) -> u64 {
    let (mut set, mut sum) = (JoinSet::new(), 0);
    for item in 0..n {
        if set.len() == WINDOW as usize {
            sum += set.join_next().await.expect("it is full").expect("no task panics");
        }
        set.spawn(async move { item });
    }
    while let Some(done) = set.join_next().await {
        sum += done.expect("no task panics");
    }
    sum
}

/// A task that reserves and spawns, beside the one that reads.
async fn window_by_hand(n: u64, order: Order) -> u64 {
    let (entry, mut exit) = window(WINDOW as usize, order).expect("room for some");
    tokio::spawn(async move {
        for item in 0..n {
            let slot = entry.reserve().await.expect("somebody reads");
            tokio::spawn(async move { slot.complete(item) });
        }
    });
    let mut sum = 0;
    while let Some(emitted) = exit.next().await {
        let Emitted::Item { value, .. } = emitted else { panic!("no task was given up") };
        sum += value;
    }
    sum
}
