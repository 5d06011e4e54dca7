//! Pipelines beside a loop, iterators, stream chains, tasks on channels, pumps and roughage.
//!
//! *Fused* stages are maps with nothing between them. *Boundaries* are stages in tasks of their own:
//! ours is one worker, as the crate has no lighter boundary; pumps has no other stage. *Work* is 2 us
//! of computing an item on two workers, so that half the time of the loop is what can be reached;
//! pumps and roughage keep a stage's futures in one task, on one core, and are measured as they are.

use std::convert::Infallible;
use std::future::ready;
use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

use futures::StreamExt;
use pumps::Concurrency;
use roughage::AsyncPipeline;
use selvedge_cancel::Context;
use selvedge_pipeline::{Order, from_iter};
use tokio::runtime::Runtime;

use super::Scale;
use super::digest;
use crate::harness::{Count, Shape, Work};

/// Items that a channel or a window between two tasks holds.
const ROOM: usize = 1_024;
/// Items that are received, or handed over in a vector, at a time.
const BATCH: usize = 64;
/// How long the work on an item takes.
const SPAN: Duration = Duration::from_micros(2);
/// Workers of the runtime, and of a stage that works.
const WORKERS: usize = 2;
/// Items under way at a time where a stage works.
const WINDOW: usize = 64;

/// Every shape of the crate.
pub fn shapes(scale: Scale) -> Vec<Shape> {
    let mut shapes = vec![fused_1(), fused_3(), fused_10()];
    let items = scale.of(200_000, 10_000, 300);
    shapes.extend([1, 3, 10].map(|stages| boundaries(stages, items / stages as u64)));
    shapes.extend([Order::Ordered, Order::Unordered].map(|order| work(order, items / 4)));
    shapes.push(digest::shape(scale.of(20_000, 500, 120)));
    shapes
}

/// What a stage does that does nothing much.
#[inline]
fn step(item: u64) -> u64 {
    black_box(item).wrapping_mul(3).wrapping_add(1)
}

/// What `stages` of these make of the items below `n`, added up.
fn expected(stages: usize, n: u64) -> u64 {
    (0..n).map(|item| (0..stages).fold(item, |item, _| step(item))).fold(0, u64::wrapping_add)
}

fn by_stages(stages: usize) -> String {
    match stages {
        1 => "1 stage".to_owned(),
        _ => format!("{stages} stages"),
    }
}

/// Times a sum, and compares it with what it should be.
fn sum(stages: usize, n: u64, work: impl FnOnce() -> u64) -> Count {
    let (count, sum) = Count::of(work);
    assert_eq!(sum, expected(stages, n), "items were lost, doubled or changed");
    count
}

/// A runtime of two workers.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_time()
        .build()
        .expect("threads start")
}

/// A future that is polled by hand is polled inside a task here as well: on one thread, because
/// nothing of it could use two.
fn here<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

/// A function that makes a shape of some fused stages: their number is in the types.
macro_rules! fused {
    ($name:ident, $stages:literal, $($map:ident)*) => {
        fn $name() -> Shape {
            let parameter = by_stages($stages);
            Shape::new("pipeline", "fused", parameter, Work::Calibrated(1))
                .ours(|n| {
                    sum($stages, n, || {
                        let ready = from_iter(0..n)$(.$map(step))*.fold(0, u64::wrapping_add);
                        let ended = here(ready.run(&Context::background()));
                        ended.ok().expect("no stage fails").expect("nothing panics")
                    })
                })
                .peer("iterator", |n| {
                    sum($stages, n, || (0..n)$(.$map(step))*.fold(0, u64::wrapping_add))
                })
                .peer("futures stream", |n| {
                    sum($stages, n, || {
                        let stream = futures::stream::iter(0..n)$(.$map(step))*;
                        here(stream.fold(0_u64, |sum, item| ready(sum.wrapping_add(item))))
                    })
                })
                .reference("loop", |n| {
                    sum($stages, n, || {
                        let mut sum = 0_u64;
                        for item in 0..n {
                            let mut item = item;
                            for _ in 0..$stages {
                                item = step(item);
                            }
                            sum = sum.wrapping_add(item);
                        }
                        sum
                    })
                })
        }
    };
}

fused!(fused_1, 1, map);
fused!(fused_3, 3, map map map);
fused!(fused_10, 10, map map map map map map map map map map);

/// Stages that each have a task of their own; the last one's items are added up outside.
fn boundaries(stages: usize, items: u64) -> Shape {
    let each = move |run: fn(usize, u64) -> u64, n: u64| sum(stages, n, || run(stages, n));
    let shape = Shape::new("pipeline", "boundaries", by_stages(stages), Work::Exactly(items))
        .ours(move |n| each(boundaries_of_ours, n))
        .peer("tokio mpsc", move |n| each(boundaries_of_mpsc, n))
        .peer("tokio mpsc, recv_many", move |n| each(boundaries_of_recv_many, n))
        .peer("async-channel", move |n| each(boundaries_of_async_channel, n))
        .peer("vectors by hand", move |n| each(boundaries_of_vectors, n))
        .peer("pumps", move |n| each(boundaries_of_pumps, n))
        .peer("roughage", move |n| each(boundaries_of_roughage, n));
    if stages == 1 { shape.go("boundary") } else { shape }
}

/// The number of stages is in the types, so each number is written down.
fn boundaries_of_ours(stages: usize, n: u64) -> u64 {
    async fn stage(item: u64) -> Result<u64, Infallible> {
        Ok(step(item))
    }

    macro_rules! run {
        ($($stage:ident)*) => {{
            let ready = from_iter(0..n)
                $(.$stage(1, Order::Ordered, stage).window(ROOM))*
                .fold(0, u64::wrapping_add);
            let ended = runtime().block_on(ready.run(&Context::background()));
            ended.ok().expect("no stage fails").expect("nothing panics")
        }};
    }

    match stages {
        1 => run!(workers),
        3 => run!(workers workers workers),
        10 => run!(workers workers workers workers workers workers workers workers workers workers),
        _ => panic!("no pipeline of {stages} stages is written down"),
    }
}

fn boundaries_of_mpsc(stages: usize, n: u64) -> u64 {
    use tokio::sync::mpsc::channel;

    runtime().block_on(async {
        let (first, mut last) = channel(ROOM);
        tokio::spawn(async move {
            for item in 0..n {
                first.send(item).await.expect("the next stage runs");
            }
        });
        for _ in 0..stages {
            let (sender, receiver) = channel(ROOM);
            let mut source = std::mem::replace(&mut last, receiver);
            tokio::spawn(async move {
                while let Some(item) = source.recv().await {
                    sender.send(step(item)).await.expect("the next stage runs");
                }
            });
        }
        let mut sum = 0_u64;
        while let Some(item) = last.recv().await {
            sum = sum.wrapping_add(item);
        }
        sum
    })
}

fn boundaries_of_recv_many(stages: usize, n: u64) -> u64 {
    use tokio::sync::mpsc::channel;

    runtime().block_on(async {
        let (first, mut last) = channel(ROOM);
        tokio::spawn(async move {
            for item in 0..n {
                first.send(item).await.expect("the next stage runs");
            }
        });
        for _ in 0..stages {
            let (sender, receiver) = channel(ROOM);
            let mut source = std::mem::replace(&mut last, receiver);
            tokio::spawn(async move {
                let mut items = Vec::with_capacity(BATCH);
                while source.recv_many(&mut items, BATCH).await > 0 {
                    for item in items.drain(..) {
                        sender.send(step(item)).await.expect("the next stage runs");
                    }
                }
            });
        }
        let (mut sum, mut items) = (0_u64, Vec::with_capacity(BATCH));
        while last.recv_many(&mut items, BATCH).await > 0 {
            sum = items.drain(..).fold(sum, u64::wrapping_add);
        }
        sum
    })
}

fn boundaries_of_async_channel(stages: usize, n: u64) -> u64 {
    use async_channel::bounded;

    runtime().block_on(async {
        let (first, mut last) = bounded(ROOM);
        tokio::spawn(async move {
            for item in 0..n {
                first.send(item).await.expect("the next stage runs");
            }
        });
        for _ in 0..stages {
            let (sender, receiver) = bounded(ROOM);
            let source = std::mem::replace(&mut last, receiver);
            tokio::spawn(async move {
                while let Ok(item) = source.recv().await {
                    sender.send(step(item)).await.expect("the next stage runs");
                }
            });
        }
        let mut sum = 0_u64;
        while let Ok(item) = last.recv().await {
            sum = sum.wrapping_add(item);
        }
        sum
    })
}

/// What people write when a channel an item is too dear: a vector is sent when it is full, which
/// leaves items waiting in it when the source is slow.
fn boundaries_of_vectors(stages: usize, n: u64) -> u64 {
    use tokio::sync::mpsc::channel;

    runtime().block_on(async {
        let (first, mut last) = channel::<Vec<u64>>(ROOM / BATCH);
        tokio::spawn(async move {
            let mut next = 0;
            while next < n {
                let end = n.min(next + BATCH as u64);
                first.send((next..end).collect()).await.expect("the next stage runs");
                next = end;
            }
        });
        for _ in 0..stages {
            let (sender, receiver) = channel(ROOM / BATCH);
            let mut source = std::mem::replace(&mut last, receiver);
            tokio::spawn(async move {
                while let Some(mut items) = source.recv().await {
                    items.iter_mut().for_each(|item| *item = step(*item));
                    sender.send(items).await.expect("the next stage runs");
                }
            });
        }
        let mut sum = 0_u64;
        while let Some(items) = last.recv().await {
            sum = items.into_iter().fold(sum, u64::wrapping_add);
        }
        sum
    })
}

fn boundaries_of_pumps(stages: usize, n: u64) -> u64 {
    runtime().block_on(async {
        let mut pipeline = pumps::Pipeline::from_iter(0..n);
        for _ in 0..stages {
            let stage = |item| async move { step(item) };
            pipeline = pipeline.map(stage, Concurrency::serial()).backpressure(ROOM);
        }
        let (mut output, done) = pipeline.build();
        let mut sum = 0_u64;
        while let Some(item) = output.recv().await {
            sum = sum.wrapping_add(item);
        }
        done.await.expect("no stage panics");
        sum
    })
}

/// All of it is one task; the number of stages is in the types here as well.
fn boundaries_of_roughage(stages: usize, n: u64) -> u64 {
    macro_rules! run {
        ($($stage:ident)*) => {
            here(async {
                let mut sum = 0_u64;
                AsyncPipeline::from_iter(0..n)
                    $(.$stage(|item| async move { step(item) }, 1))*
                    .for_each(async |item| sum = sum.wrapping_add(item))
                    .await;
                sum
            })
        };
    }

    match stages {
        1 => run!(map_concurrent),
        3 => run!(map_concurrent map_concurrent map_concurrent),
        10 => run!(
            map_concurrent map_concurrent map_concurrent map_concurrent map_concurrent
            map_concurrent map_concurrent map_concurrent map_concurrent map_concurrent
        ),
        _ => panic!("no pipeline of {stages} stages is written down"),
    }
}

/// Computes for a while.
fn compute(item: u64) -> u64 {
    let start = Instant::now();
    while start.elapsed() < SPAN {
        spin_loop();
    }
    step(item)
}

/// A stage that computes, on two workers.
fn work(order: Order, items: u64) -> Shape {
    let ordered = order == Order::Ordered;
    let each = move |run: fn(bool, u64) -> u64, n: u64| {
        let (count, sum) = Count::of(|| run(ordered, n));
        assert_eq!(
            sum,
            total(ordered, (0..n).map(step)),
            "items were lost, doubled or out of order"
        );
        count
    };
    let parameter = if ordered { "ordered" } else { "unordered" };
    let streams = if ordered { "buffered and spawn" } else { "buffer_unordered and spawn" };
    Shape::new("pipeline", "2 us of work", parameter, Work::Exactly(items))
        .ours(move |n| each(work_of_ours, n))
        .peer(streams, move |n| each(work_of_streams, n))
        .peer("async-channel workers", move |n| each(work_of_workers, n))
        .peer("pumps", move |n| each(work_of_pumps, n))
        .peer("roughage", move |n| each(work_of_roughage, n))
        .reference("loop", move |n| each(|ordered, n| total(ordered, (0..n).map(compute)), n))
}

/// A sum that depends on the order where there is one.
struct Total {
    ordered: bool,
    sum: u64,
}

impl Total {
    fn add(&mut self, item: u64) {
        let turned = if self.ordered { self.sum.rotate_left(5) } else { self.sum };
        self.sum = turned.wrapping_add(item);
    }
}

fn total(ordered: bool, items: impl Iterator<Item = u64>) -> u64 {
    let mut total = Total { ordered, sum: 0 };
    items.for_each(|item| total.add(item));
    total.sum
}

fn work_of_ours(ordered: bool, n: u64) -> u64 {
    let order = if ordered { Order::Ordered } else { Order::Unordered };
    let stage = |item| async move { Ok::<u64, Infallible>(compute(item)) };
    let ready = from_iter(0..n).workers(WORKERS, order, stage).window(WINDOW).fold(
        Total { ordered, sum: 0 },
        |mut total, item| {
            total.add(item);
            total
        },
    );
    let ended = runtime().block_on(ready.run(&Context::background()));
    ended.ok().expect("no stage fails").expect("nothing panics").sum
}

fn work_of_streams(ordered: bool, n: u64) -> u64 {
    let spawn = |item| tokio::spawn(async move { compute(item) });
    runtime().block_on(async {
        let started = futures::stream::iter(0..n).map(spawn);
        let mut total = Total { ordered, sum: 0 };
        let mut take = |done: Result<u64, _>| {
            total.add(done.expect("no item panics"));
            ready(())
        };
        if ordered {
            started.buffered(WINDOW).for_each(&mut take).await;
        } else {
            started.buffer_unordered(WINDOW).for_each(&mut take).await;
        }
        total.sum
    })
}

/// Workers that take from one channel and give to another; whoever wants an order sorts.
fn work_of_workers(ordered: bool, n: u64) -> u64 {
    runtime().block_on(async {
        let (sender, items) = async_channel::bounded(WINDOW);
        tokio::spawn(async move {
            for item in 0..n {
                sender.send(item).await.expect("workers run");
            }
        });
        let (sender, results) = async_channel::bounded(WINDOW);
        for _ in 0..WORKERS {
            let (items, sender) = (items.clone(), sender.clone());
            tokio::spawn(async move {
                while let Ok(item) = items.recv().await {
                    sender.send((item, compute(item))).await.expect("somebody reads");
                }
            });
        }
        drop(sender);
        let mut total = Total { ordered, sum: 0 };
        let (mut next, mut early) = (0, std::collections::HashMap::new());
        while let Ok((item, result)) = results.recv().await {
            if ordered {
                early.insert(item, result);
                while let Some(result) = early.remove(&next) {
                    total.add(result);
                    next += 1;
                }
            } else {
                total.add(result);
            }
        }
        total.sum
    })
}

fn work_of_pumps(ordered: bool, n: u64) -> u64 {
    runtime().block_on(async {
        let concurrency = if ordered {
            Concurrency::concurrent_ordered(WINDOW)
        } else {
            Concurrency::concurrent_unordered(WINDOW)
        };
        let stage = |item| async move { compute(item) };
        let (mut output, done) = pumps::Pipeline::from_iter(0..n).map(stage, concurrency).build();
        let mut total = Total { ordered, sum: 0 };
        while let Some(item) = output.recv().await {
            total.add(item);
        }
        done.await.expect("no stage panics");
        total.sum
    })
}

fn work_of_roughage(ordered: bool, n: u64) -> u64 {
    let stage = |item| async move { compute(item) };
    here(async {
        let mut total = Total { ordered, sum: 0 };
        let pipeline = AsyncPipeline::from_iter(0..n);
        if ordered {
            pipeline.map_concurrent(stage, WINDOW).for_each(async |item| total.add(item)).await;
        } else {
            pipeline.map_unordered(stage, WINDOW).for_each(async |item| total.add(item)).await;
        }
        total.sum
    })
}
