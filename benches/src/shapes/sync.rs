//! Semaphores beside those of tokio, async-lock, asyncband and futures-intrusive; the groups beside
//! tokio-util's tracker and tokio's JoinSet.
//!
//! Each semaphore is made strict where it can be told so, except where a contestant's name says
//! otherwise. async-lock's lets whoever runs overtake whoever waits, which is faster and is not the
//! same promise; it is measured all the same, because people choose between them.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use selvedge_cancel::Context;
use selvedge_sync::{Fairness, TaskGroup, WaitGroup};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::Scale;
use super::poll::ready;
use crate::harness::threads::together;
use crate::harness::{Count, Shape, Work};

/// Every shape of the crate.
pub fn shapes(_: Scale) -> Vec<Shape> {
    let mut shapes = vec![try_acquire(1), acquire(), owned(), try_acquire(2)];
    shapes.push(tasks("64 tasks on 4 permits", "yield while held", 64, 4, Hold::Yield).go("tasks"));
    for (parameter, hold) in [
        ("held 0 us", Hold::Not),
        ("held 1 us", Hold::Spin(Duration::from_micros(1))),
        ("held 10 us", Hold::Spin(Duration::from_micros(10))),
    ] {
        shapes.push(tasks("64 tasks on 1 permit", parameter, 64, 1, hold));
        shapes.push(eventual(parameter, hold));
    }
    shapes.push(longest_wait());
    shapes.extend(tokio_shapes());
    for permits in [100, 180, 200] {
        shapes.push(intrusive_shape(permits));
    }
    shapes.extend([wait_group(), wait_group_owned(), task_group()]);
    shapes.extend(super::single_flight::shapes());
    shapes
}

/// What the semaphores have in common.
trait Semaphore: Send + Sync + 'static {
    /// A permit that borrows.
    type Permit<'a>: Send;
    /// A permit that holds the semaphore.
    type Owned: Send;

    fn new(permits: usize) -> Self;
    /// A permit, which there is.
    fn take(&self) -> Self::Permit<'_>;
    /// A permit, when there is one.
    fn acquire(&self) -> impl Future<Output = Self::Permit<'_>> + Send;
    /// A permit to keep, which there is.
    fn take_owned(self: &Arc<Self>) -> Self::Owned;
    /// The permits there are.
    fn available(&self) -> usize;
}

impl Semaphore for selvedge_sync::Semaphore {
    type Permit<'a> = selvedge_sync::Permit<'a>;
    type Owned = selvedge_sync::OwnedPermit;

    fn new(permits: usize) -> Self {
        Self::new(permits)
    }

    #[inline]
    fn take(&self) -> Self::Permit<'_> {
        self.try_acquire(1).expect("there is a permit")
    }

    #[inline]
    async fn acquire(&self) -> Self::Permit<'_> {
        self.acquire(1).await.expect("it is open")
    }

    #[inline]
    fn take_owned(self: &Arc<Self>) -> Self::Owned {
        self.try_acquire_owned(1).expect("there is a permit")
    }

    fn available(&self) -> usize {
        self.available()
    }
}

impl Semaphore for tokio::sync::Semaphore {
    type Permit<'a> = tokio::sync::SemaphorePermit<'a>;
    type Owned = tokio::sync::OwnedSemaphorePermit;

    fn new(permits: usize) -> Self {
        Self::new(permits)
    }

    #[inline]
    fn take(&self) -> Self::Permit<'_> {
        self.try_acquire().expect("there is a permit")
    }

    #[inline]
    async fn acquire(&self) -> Self::Permit<'_> {
        self.acquire().await.expect("it is open")
    }

    #[inline]
    fn take_owned(self: &Arc<Self>) -> Self::Owned {
        Arc::clone(self).try_acquire_owned().expect("there is a permit")
    }

    fn available(&self) -> usize {
        self.available_permits()
    }
}

impl Semaphore for async_lock::Semaphore {
    type Permit<'a> = async_lock::SemaphoreGuard<'a>;
    type Owned = async_lock::SemaphoreGuardArc;

    fn new(permits: usize) -> Self {
        Self::new(permits)
    }

    #[inline]
    fn take(&self) -> Self::Permit<'_> {
        self.try_acquire().expect("there is a permit")
    }

    #[inline]
    fn acquire(&self) -> impl Future<Output = Self::Permit<'_>> + Send {
        self.acquire()
    }

    #[inline]
    fn take_owned(self: &Arc<Self>) -> Self::Owned {
        self.try_acquire_arc().expect("there is a permit")
    }

    fn available(&self) -> usize {
        self.available_permits()
    }
}

impl Semaphore for asyncband::semaphore::Semaphore {
    type Permit<'a> = asyncband::semaphore::SemaphorePermit<'a>;
    type Owned = asyncband::semaphore::OwnedSemaphorePermit;

    fn new(permits: usize) -> Self {
        Self::new(permits)
    }

    #[inline]
    fn take(&self) -> Self::Permit<'_> {
        self.try_acquire(1).expect("there is a permit")
    }

    #[inline]
    fn acquire(&self) -> impl Future<Output = Self::Permit<'_>> + Send {
        self.acquire(1)
    }

    #[inline]
    fn take_owned(self: &Arc<Self>) -> Self::Owned {
        Arc::clone(self).try_acquire_owned(1).expect("there is a permit")
    }

    fn available(&self) -> usize {
        self.available_permits()
    }
}

/// futures-intrusive's, fair or not.
struct Intrusive<const FAIR: bool>(futures_intrusive::sync::Semaphore);

impl<const FAIR: bool> Semaphore for Intrusive<FAIR> {
    type Permit<'a> = futures_intrusive::sync::SemaphoreReleaser<'a>;
    type Owned = ();

    fn new(permits: usize) -> Self {
        Self(futures_intrusive::sync::Semaphore::new(FAIR, permits))
    }

    #[inline]
    fn take(&self) -> Self::Permit<'_> {
        self.0.try_acquire(1).expect("there is a permit")
    }

    #[inline]
    fn acquire(&self) -> impl Future<Output = Self::Permit<'_>> + Send {
        self.0.acquire(1)
    }

    fn take_owned(self: &Arc<Self>) -> Self::Owned {}

    fn available(&self) -> usize {
        self.0.permits()
    }
}

/// Ours, in which running callers may overtake for a while.
struct Eventual(selvedge_sync::Semaphore);

impl Semaphore for Eventual {
    type Permit<'a> = selvedge_sync::Permit<'a>;
    type Owned = ();

    fn new(permits: usize) -> Self {
        Self(selvedge_sync::Semaphore::new(permits).with_fairness(Fairness::EVENTUAL))
    }

    #[inline]
    fn take(&self) -> Self::Permit<'_> {
        self.0.try_acquire(1).expect("there is a permit")
    }

    #[inline]
    async fn acquire(&self) -> Self::Permit<'_> {
        self.0.acquire(1).await.expect("it is open")
    }

    fn take_owned(self: &Arc<Self>) -> Self::Owned {}

    fn available(&self) -> usize {
        self.0.available()
    }
}

/// Lets everybody do what they want: what a shape costs without a semaphore.
struct Without(usize);

impl Semaphore for Without {
    type Permit<'a> = ();
    type Owned = ();

    fn new(permits: usize) -> Self {
        Self(permits)
    }

    fn take(&self) -> Self::Permit<'_> {}

    async fn acquire(&self) -> Self::Permit<'_> {}

    fn take_owned(self: &Arc<Self>) -> Self::Owned {}

    fn available(&self) -> usize {
        self.0
    }
}

type Ours = selvedge_sync::Semaphore;
type Tokio = tokio::sync::Semaphore;
type AsyncLock = async_lock::Semaphore;
type Asyncband = asyncband::semaphore::Semaphore;
type Fair = Intrusive<true>;
type Unfair = Intrusive<false>;

/// Permits that never run out.
const MANY: usize = 1_024;

/// A permit is taken and given back; nobody waits.
fn try_acquire(threads: usize) -> Shape {
    fn each<S: Semaphore>(threads: usize, n: u64) -> Count {
        let semaphore = S::new(MANY);
        let count = together(threads, n, |_, share| {
            let semaphore = black_box(&semaphore);
            for _ in 0..share {
                drop(semaphore.take());
            }
        });
        assert_eq!(semaphore.available(), MANY);
        count
    }

    let (name, parameter) = match threads {
        1 => ("try_acquire", "1 thread".to_owned()),
        _ => ("try_acquire", format!("{threads} threads")),
    };
    let shape = Shape::new("sync", name, parameter, Work::Calibrated(2))
        .ours(move |n| each::<Ours>(threads, n))
        .peer("tokio", move |n| each::<Tokio>(threads, n))
        .peer("async-lock", move |n| each::<AsyncLock>(threads, n))
        .peer("asyncband", move |n| each::<Asyncband>(threads, n))
        .peer("futures-intrusive", move |n| each::<Fair>(threads, n))
        .reference("two atomic adds", move |n| {
            let word = AtomicU64::new(0);
            together(threads, n, |_, share| {
                for _ in 0..share {
                    // AcqRel: as strong as taking and giving back have to be.
                    word.fetch_add(4, Ordering::AcqRel);
                    word.fetch_sub(4, Ordering::AcqRel);
                }
            })
        });
    if threads == 1 { shape.go("semaphore") } else { shape.xsync() }
}

/// A permit is acquired by a future that is ready at once, and given back.
fn acquire() -> Shape {
    fn each<S: Semaphore>(n: u64) -> Count {
        let semaphore = S::new(MANY);
        let count = Count::time(|| {
            let semaphore = black_box(&semaphore);
            for _ in 0..n {
                drop(ready(semaphore.acquire()));
            }
        });
        assert_eq!(semaphore.available(), MANY);
        count
    }

    Shape::new("sync", "acquire", "1 thread", Work::Calibrated(1))
        .ours(each::<Ours>)
        .peer("tokio", each::<Tokio>)
        .peer("async-lock", each::<AsyncLock>)
        .peer("asyncband", each::<Asyncband>)
        .peer("futures-intrusive", each::<Fair>)
}

/// A permit that holds its semaphore is taken and given back.
fn owned() -> Shape {
    fn each<S: Semaphore>(n: u64) -> Count {
        let semaphore = Arc::new(S::new(MANY));
        let count = Count::time(|| {
            let semaphore = black_box(&semaphore);
            for _ in 0..n {
                drop(semaphore.take_owned());
            }
        });
        assert_eq!(semaphore.available(), MANY);
        count
    }

    Shape::new("sync", "try_acquire_owned", "1 thread", Work::Calibrated(1))
        .ours(each::<Ours>)
        .peer("tokio", each::<Tokio>)
        .peer("async-lock", each::<AsyncLock>)
        .peer("asyncband", each::<Asyncband>)
}

/// A runtime with this many workers; none for the current thread.
fn runtime(workers: usize) -> Runtime {
    let mut builder = match workers {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    // The bound of eventual fairness is timed.
    builder.enable_time().build().expect("a runtime")
}

/// What a task does while it holds a permit.
#[derive(Clone, Copy)]
enum Hold {
    Not,
    Yield,
    Spin(Duration),
}

impl Hold {
    async fn hold(self) {
        match self {
            Self::Not => {}
            Self::Yield => tokio::task::yield_now().await,
            Self::Spin(span) => {
                let start = Instant::now();
                while start.elapsed() < span {
                    spin_loop();
                }
            }
        }
    }
}

/// Tasks on a runtime of two workers that acquire, hold and give back; an operation is an acquire.
fn tasks(
    name: &'static str,
    parameter: &'static str,
    tasks: u64,
    permits: usize,
    hold: Hold,
) -> Shape {
    let each = move |run: fn(&Runtime, Load) -> Count, n: u64| {
        run(&runtime(2), Load { tasks, turns: n / tasks, permits, yields: 0, hold })
    };
    Shape::new("sync", name, parameter, Work::Calibrated(tasks))
        .ours(move |n| each(load::<Ours>, n))
        .peer("tokio", move |n| each(load::<Tokio>, n))
        .peer("async-lock", move |n| each(load::<AsyncLock>, n))
        .peer("asyncband", move |n| each(load::<Asyncband>, n))
        .peer("futures-intrusive", move |n| each(load::<Fair>, n))
}

/// The same of 64 tasks on one permit, where ours lets running callers overtake until somebody has waited for four milliseconds.
fn eventual(parameter: &'static str, hold: Hold) -> Shape {
    const TASKS: u64 = 64;
    let each = move |run: fn(&Runtime, Load) -> Count, n: u64| {
        run(&runtime(2), Load { tasks: TASKS, turns: n / TASKS, permits: 1, yields: 0, hold })
    };
    Shape::new("sync", "64 tasks on 1 permit, eventual", parameter, Work::Calibrated(TASKS))
        .ours(move |n| each(load::<Eventual>, n))
        .peer("tokio", move |n| each(load::<Tokio>, n))
        .peer("async-lock", move |n| each(load::<AsyncLock>, n))
        .peer("futures-intrusive unfair", move |n| each(load::<Unfair>, n))
}

/// Of the same tasks, each holding the permit for 10 us, the longest that any of them has waited for it. With a bound of four
/// milliseconds nobody should wait for more than that and 64 times 10 us.
fn longest_wait() -> Shape {
    const TASKS: u64 = 64;
    const TURNS: u64 = 200;

    fn each<S: Semaphore>(n: u64) -> Count {
        let semaphore = Arc::new(S::new(1));
        let longest = runtime(2).block_on(async {
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    let semaphore = Arc::clone(&semaphore);
                    tokio::spawn(async move {
                        let mut longest = Duration::ZERO;
                        for _ in 0..TURNS {
                            let came = Instant::now();
                            let permit = semaphore.acquire().await;
                            longest = longest.max(came.elapsed());
                            Hold::Spin(Duration::from_micros(10)).hold().await;
                            drop(permit);
                        }
                        longest
                    })
                })
                .collect();
            let mut longest = Duration::ZERO;
            for task in tasks {
                longest = longest.max(task.await.expect("a task panicked"));
            }
            longest
        });
        Count::told(longest, n)
    }

    let work = Work::Exactly(TASKS * TURNS);
    Shape::new("sync", "64 tasks on 1 permit, longest wait", "held 10 us", work)
        .ours(each::<Eventual>)
        .peer("tokio", each::<Tokio>)
        .peer("async-lock", each::<AsyncLock>)
        .peer("ours, strict", each::<Ours>)
}

/// What tasks do.
#[derive(Clone, Copy)]
struct Load {
    /// How many there are.
    tasks: u64,
    /// How often each acquires.
    turns: u64,
    /// How many permits there are.
    permits: usize,
    /// How often a task yields while it holds a permit, besides `hold`.
    yields: u32,
    /// What else it does then.
    hold: Hold,
}

fn load<S: Semaphore>(runtime: &Runtime, load: Load) -> Count {
    let semaphore = Arc::new(S::new(load.permits));
    let (count, done) = Count::of(|| {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..load.tasks)
                .map(|_| {
                    let semaphore = Arc::clone(&semaphore);
                    tokio::spawn(async move {
                        let mut done = 0;
                        for _ in 0..load.turns {
                            let permit = semaphore.acquire().await;
                            load.hold.hold().await;
                            for _ in 0..load.yields {
                                tokio::task::yield_now().await;
                            }
                            drop(permit);
                            done += 1;
                        }
                        done
                    })
                })
                .collect();
            let mut done = 0;
            for task in tasks {
                done += task.await.expect("a task panicked");
            }
            done
        })
    });
    assert_eq!(done, load.tasks * load.turns);
    assert_eq!(semaphore.available(), load.permits);
    count
}

/// The shapes of tokio's own bench of its semaphore: six acquires in turn, or one each of six tasks,
/// on ten permits or on five. An operation is an acquire, spawning included.
fn tokio_shapes() -> Vec<Shape> {
    fn in_turn<S: Semaphore>(n: u64) -> Count {
        let (runtime, semaphore) = (runtime(6), S::new(10));
        Count::time(|| {
            for _ in 0..n / 6 {
                runtime.block_on(async {
                    for _ in 0..6 {
                        drop(semaphore.acquire().await);
                    }
                });
            }
        })
    }

    fn by_tasks<S: Semaphore>(workers: usize, permits: usize, n: u64) -> Count {
        let (runtime, semaphore) = (runtime(workers), Arc::new(S::new(permits)));
        Count::time(|| {
            for _ in 0..n / 6 {
                runtime.block_on(async {
                    let tasks: [_; 6] = std::array::from_fn(|_| {
                        let semaphore = Arc::clone(&semaphore);
                        tokio::spawn(async move { drop(semaphore.acquire().await) })
                    });
                    for task in tasks {
                        task.await.expect("a task panicked");
                    }
                });
            }
        })
    }

    let mut shapes = vec![
        Shape::new("sync", "tokio's bench", "uncontended, in turn", Work::Calibrated(6))
            .ours(in_turn::<Ours>)
            .peer("tokio", in_turn::<Tokio>)
            .peer("async-lock", in_turn::<AsyncLock>)
            .peer("asyncband", in_turn::<Asyncband>)
            .reference("no semaphore", in_turn::<Without>),
    ];
    for (parameter, workers, permits) in [
        ("uncontended, 6 workers", 6, 10),
        ("uncontended, 1 thread", 0, 10),
        ("contended, 6 workers", 6, 5),
        ("contended, 1 thread", 0, 5),
    ] {
        shapes.push(
            Shape::new("sync", "tokio's bench", parameter, Work::Calibrated(6))
                .ours(move |n| by_tasks::<Ours>(workers, permits, n))
                .peer("tokio", move |n| by_tasks::<Tokio>(workers, permits, n))
                .peer("async-lock", move |n| by_tasks::<AsyncLock>(workers, permits, n))
                .peer("asyncband", move |n| by_tasks::<Asyncband>(workers, permits, n))
                .reference("no semaphore", move |n| by_tasks::<Without>(workers, permits, n)),
        );
    }
    shapes
}

/// The shape of futures-intrusive's own bench: 200 tasks acquire 50 times each and yield four times
/// while they hold a permit.
fn intrusive_shape(permits: usize) -> Shape {
    const TASKS: u64 = 200;
    const TURNS: u64 = 50;
    let each = move |run: fn(&Runtime, Load) -> Count, n: u64| {
        let mut count = Count::default();
        for _ in 0..n / (TASKS * TURNS) {
            let load = Load { tasks: TASKS, turns: TURNS, permits, yields: 4, hold: Hold::Not };
            count.add(run(&runtime(0), load));
        }
        count
    };
    let parameter = format!("{permits} permits");
    let work = Work::Calibrated(TASKS * TURNS);
    Shape::new("sync", "200 tasks, 4 yields", parameter, work)
        .ours(move |n| each(load::<Ours>, n))
        .peer("tokio", move |n| each(load::<Tokio>, n))
        .peer("async-lock", move |n| each(load::<AsyncLock>, n))
        .peer("asyncband", move |n| each(load::<Asyncband>, n))
        .peer("futures-intrusive", move |n| each(load::<Fair>, n))
        .peer("futures-intrusive unfair", move |n| each(load::<Unfair>, n))
        .reference("no semaphore", move |n| each(load::<Without>, n))
}

/// One more thing is under way, and is done.
fn wait_group() -> Shape {
    Shape::new("sync", "wait group", "borrowed guard", Work::Calibrated(1))
        .ours(|n| {
            let group = WaitGroup::new();
            let count = Count::time(|| {
                let group = black_box(&group);
                (0..n).for_each(|_| drop(group.add(1).expect("room")));
            });
            assert_eq!(group.count(), 0);
            count
        })
        .peer("tokio-util tracker", tracker)
}

/// The same by a guard that can move into a task.
fn wait_group_owned() -> Shape {
    Shape::new("sync", "wait group", "owned guard", Work::Calibrated(1))
        .ours(|n| {
            let group = Arc::new(WaitGroup::new());
            let count = Count::time(|| {
                let group = black_box(&group);
                (0..n).for_each(|_| drop(group.add_owned(1).expect("room")));
            });
            assert_eq!(group.count(), 0);
            count
        })
        .peer("tokio-util tracker", tracker)
}

fn tracker(n: u64) -> Count {
    let tracker = TaskTracker::new();
    let count = Count::time(|| {
        let tracker = black_box(&tracker);
        (0..n).for_each(|_| drop(tracker.token()));
    });
    assert!(tracker.is_empty());
    count
}

/// A thousand tasks are spawned and joined; an operation is a task.
fn task_group() -> Shape {
    const TASKS: u64 = 1_000;
    Shape::new("sync", "task group", "1000 tasks", Work::Calibrated(TASKS))
        .ours(|n| {
            let runtime = runtime(2);
            let mut count = Count::default();
            for _ in 0..n / TASKS {
                let (one, sum) = Count::of(|| {
                    runtime.block_on(async {
                        let group = TaskGroup::<u64, std::io::Error>::new(&Context::background());
                        for task in 0..TASKS {
                            group.try_spawn(async move { Ok(task) }).expect("it is open");
                        }
                        let values = group.join().await.into_result().expect("no task fails");
                        values.into_iter().sum::<u64>()
                    })
                });
                assert_eq!(sum, TASKS * (TASKS - 1) / 2);
                count.add(one);
            }
            count
        })
        .peer("JoinSet", |n| {
            let runtime = runtime(2);
            let mut count = Count::default();
            for _ in 0..n / TASKS {
                let (one, sum) = Count::of(|| {
                    runtime.block_on(async {
                        let mut set = JoinSet::new();
                        for task in 0..TASKS {
                            set.spawn(async move { Ok::<u64, std::io::Error>(task) });
                        }
                        let mut sum = 0;
                        while let Some(value) = set.join_next().await {
                            sum += value.expect("no task panics").expect("no task fails");
                        }
                        sum
                    })
                });
                assert_eq!(sum, TASKS * (TASKS - 1) / 2);
                count.add(one);
            }
            count
        })
        // Detached tasks and no results: what tokio takes of it.
        .reference("spawn and wait", |n| {
            let runtime = runtime(2);
            let mut count = Count::default();
            for _ in 0..n / TASKS {
                let (one, ()) = Count::of(|| {
                    runtime.block_on(async {
                        let group = Arc::new(WaitGroup::new());
                        for task in 0..TASKS {
                            let guard = group.add_owned(1).expect("room");
                            tokio::spawn(async move {
                                drop(guard);
                                black_box(task);
                            });
                        }
                        group.wait().await;
                    });
                });
                count.add(one);
            }
            count
        })
}
