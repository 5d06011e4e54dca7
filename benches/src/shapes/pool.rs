//! Pools on threads beside rayon, threadpool and workers on channels; pools on tasks beside tokio's
//! JoinSet and JoinHandles, workers on async-channel, and futures_orchestra.
//!
//! Two workers do everybody's jobs. Ours, the channels and futures_orchestra are bounded; rayon,
//! threadpool and spawned tasks are not, so a million jobs can lie in their queues, unless results are
//! asked for: then everybody who has handles takes the oldest result when a window is full. Jobs on
//! threads are submitted from threads outside, jobs on tasks from tasks of the runtime, which is
//! where tokio spawns fastest.

use std::collections::{HashSet, VecDeque};
use std::hint::{black_box, spin_loop};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures_orchestra::{FuturePoolManager, FuturePoolManagerRlxd};
use selvedge_cancel::Context;
use selvedge_pool::Pool;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Scale;
use crate::harness::{Count, Shape, Work};

/// Workers of every pool, and of the runtime.
const WORKERS: usize = 2;
/// Jobs in the queue of a bounded pool.
const QUEUE: usize = 1_024;
/// Results that a submitter waits for at a time.
const WINDOW: usize = 1_024;
/// What futures_orchestra runs at a time in its own bench.
const ORCHESTRA: usize = 64;
/// Dispatchers of its relaxed variant: as many as its documentation advises.
const LANES: usize = 2;

/// Every shape of the crate.
pub fn shapes(scale: Scale) -> Vec<Shape> {
    let million = scale.of(1_000_000, 50_000, 2_000);
    let trivial = Jobs { count: million, submitters: 1, span: Duration::ZERO, results: false };
    let (micro, fifty) = (Duration::from_micros(1), Duration::from_micros(50));
    let kinds = [
        (TRIVIAL, trivial),
        ("trivial, with results", Jobs { results: true, ..trivial }),
        ("trivial, 4 submitters", Jobs { submitters: 4, ..trivial }),
        ("1 us", Jobs { count: million / 5, span: micro, ..trivial }),
        ("50 us", Jobs { count: million / 100, span: fifty, ..trivial }),
    ];
    let threads = kinds.map(|(parameter, jobs)| on_threads(parameter, jobs));
    let tasks = kinds.map(|(parameter, jobs)| on_tasks(parameter, jobs));
    threads.into_iter().chain(tasks).collect()
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
struct Jobs {
    /// How many jobs there are.
    count: u64,
    /// How many submit them.
    submitters: u64,
    /// How long a job takes.
    span: Duration,
    /// Whether the results are wanted.
    results: bool,
}

/// The jobs that ran since the last check.
static DONE: AtomicU64 = AtomicU64::new(0);

/// A job.
fn work(number: u64, span: Duration) -> u64 {
    if !span.is_zero() {
        let start = Instant::now();
        while start.elapsed() < span {
            spin_loop();
        }
    }
    // Relaxed: a count; who reads it has waited for the jobs.
    DONE.fetch_add(1, Ordering::Relaxed);
    black_box(number)
}

impl Jobs {
    /// The jobs of each submitter.
    fn shares(self) -> impl Iterator<Item = Range<u64>> {
        let share = self.count / self.submitters;
        (0..self.submitters).map(move |number| number * share..(number + 1) * share)
    }

    /// Submits from threads, which return the sum of the results that they have seen.
    fn by_threads(self, submit: impl Fn(Range<u64>) -> u64 + Sync) -> u64 {
        if self.submitters == 1 {
            return self.shares().map(submit).sum();
        }
        thread::scope(|scope| {
            let submit = &submit;
            let submitters: Vec<_> =
                self.shares().map(|share| scope.spawn(move || submit(share))).collect();
            submitters.into_iter().map(|one| one.join().expect("a submitter panicked")).sum()
        })
    }

    /// Submits from tasks of the runtime.
    async fn by_tasks<F>(self, submit: impl Fn(Range<u64>) -> F) -> u64
    where
        F: Future<Output = u64> + Send + 'static,
    {
        let submitters: Vec<_> = self.shares().map(|share| tokio::spawn(submit(share))).collect();
        let mut sum = 0;
        for submitter in submitters {
            sum += submitter.await.expect("a submitter panicked");
        }
        sum
    }

    /// Times the work and checks that all of it was done.
    fn count(self, work: impl FnOnce() -> u64) -> Count {
        DONE.store(0, Ordering::Relaxed);
        let (count, sum) = Count::of(work);
        assert_eq!(DONE.load(Ordering::Relaxed), self.count, "jobs are missing");
        if self.results {
            assert_eq!(sum, self.count * (self.count - 1) / 2, "results are missing");
        }
        count
    }
}

/// The parameter under which Go's program does the same.
const TRIVIAL: &str = "trivial";

/// Jobs that are closures.
fn on_threads(parameter: &'static str, jobs: Jobs) -> Shape {
    let shape = Shape::new("pool", "jobs on threads", parameter, Work::Exactly(jobs.count))
        .ours(move |_| ours_on_threads(jobs))
        .peer("rayon", move |_| rayon(jobs))
        .peer("threadpool", move |_| threadpool(jobs))
        .peer("crossbeam-channel workers", move |_| crossbeam_workers(jobs));
    if parameter == TRIVIAL { shape.go("jobs") } else { shape }
}

/// Jobs that are futures.
fn on_tasks(parameter: &'static str, jobs: Jobs) -> Shape {
    let shape = Shape::new("pool", "jobs on tasks", parameter, Work::Exactly(jobs.count))
        .ours(move |_| ours_on_tasks(jobs))
        .peer("JoinSet", move |_| join_set(jobs))
        .peer("JoinHandles", move |_| join_handles(jobs))
        .peer("Semaphore and spawn", move |_| semaphore_and_spawn(jobs))
        .peer("async-channel workers", move |_| async_channel_workers(jobs))
        .peer("futures_orchestra", move |_| orchestra(jobs))
        .peer("futures_orchestra relaxed", move |_| orchestra_relaxed(jobs));
    if parameter == TRIVIAL { shape.go("goroutines") } else { shape }
}

fn ours_on_threads(jobs: Jobs) -> Count {
    let pool = Pool::builder()
        .workers(WORKERS)
        .queue(QUEUE)
        .build(&Context::background())
        .expect("threads start");
    jobs.count(|| {
        let sum = jobs.by_threads(|share| {
            block_on(async {
                let (mut sum, mut window) = (0, VecDeque::new());
                for number in share {
                    let handle =
                        pool.submit(move |_| work(number, jobs.span)).await.expect("it is open");
                    if jobs.results {
                        window.push_back(handle);
                        if window.len() == WINDOW {
                            let oldest = window.pop_front().expect("it is full");
                            sum += oldest.await.expect("no job panics");
                        }
                    }
                }
                for handle in window {
                    sum += handle.await.expect("no job panics");
                }
                sum
            })
        });
        block_on(pool.drain());
        sum
    })
}

/// Results come back through a channel, as there are no handles.
fn rayon(jobs: Jobs) -> Count {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().expect("threads start");
    jobs.count(|| {
        jobs.by_threads(|share| {
            if jobs.results {
                let (sender, results) = mpsc::channel();
                for number in share {
                    let sender = sender.clone();
                    pool.spawn(move || {
                        sender.send(work(number, jobs.span)).expect("somebody reads");
                    });
                }
                drop(sender);
                return results.iter().sum();
            }
            pool.in_place_scope(|scope| {
                for number in share {
                    scope.spawn(move |_| {
                        work(number, jobs.span);
                    });
                }
            });
            0
        })
    })
}

fn threadpool(jobs: Jobs) -> Count {
    let pool = ::threadpool::ThreadPool::new(WORKERS);
    jobs.count(|| {
        let sum = jobs.by_threads(|share| {
            let pool = pool.clone();
            if jobs.results {
                let (sender, results) = mpsc::channel();
                for number in share {
                    let sender = sender.clone();
                    pool.execute(move || {
                        sender.send(work(number, jobs.span)).expect("somebody reads");
                    });
                }
                drop(sender);
                return results.iter().sum();
            }
            for number in share {
                pool.execute(move || {
                    work(number, jobs.span);
                });
            }
            0
        });
        pool.join();
        sum
    })
}

/// What a hand-made pool on a channel takes.
type Job = Box<dyn FnOnce() + Send>;

fn crossbeam_workers(jobs: Jobs) -> Count {
    let (queue, taker) = crossbeam_channel::bounded::<Job>(QUEUE);
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let taker = taker.clone();
            thread::spawn(move || taker.iter().for_each(|job| job()))
        })
        .collect();
    jobs.count(|| {
        let sum = jobs.by_threads(|share| {
            let (sender, results) = crossbeam_channel::unbounded();
            for number in share {
                let job: Job = if jobs.results {
                    let sender = sender.clone();
                    Box::new(move || sender.send(work(number, jobs.span)).expect("somebody reads"))
                } else {
                    Box::new(move || {
                        work(number, jobs.span);
                    })
                };
                queue.send(job).expect("workers run");
            }
            drop(sender);
            results.iter().sum()
        });
        drop(queue);
        workers.into_iter().for_each(|worker| worker.join().expect("no job panics"));
        sum
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .build()
        .expect("threads start")
}

/// The job as a future.
async fn task(number: u64, span: Duration) -> u64 {
    work(number, span)
}

fn ours_on_tasks(jobs: Jobs) -> Count {
    let runtime = runtime();
    let _inside = runtime.enter();
    let pool = Pool::builder()
        .workers(WORKERS)
        .queue(QUEUE)
        .build_async(&Context::background())
        .expect("a runtime is there");
    let pool = Arc::new(pool);
    jobs.count(|| {
        runtime.block_on(async {
            let sum = jobs.by_tasks(|share| {
                let pool = Arc::clone(&pool);
                async move {
                    let (mut sum, mut window) = (0, VecDeque::new());
                    for number in share {
                        let job = move |_| task(number, jobs.span);
                        let handle = pool.submit(job).await.expect("it is open");
                        if jobs.results {
                            window.push_back(handle);
                            if window.len() == WINDOW {
                                let oldest = window.pop_front().expect("it is full");
                                sum += oldest.await.expect("no job panics");
                            }
                        }
                    }
                    for handle in window {
                        sum += handle.await.expect("no job panics");
                    }
                    sum
                }
            });
            let sum = sum.await;
            pool.drain().await;
            sum
        })
    })
}

fn join_set(jobs: Jobs) -> Count {
    let runtime = runtime();
    jobs.count(|| {
        runtime.block_on(jobs.by_tasks(|share| async move {
            let (mut sum, mut set) = (0, JoinSet::new());
            for number in share {
                set.spawn(task(number, jobs.span));
                if jobs.results && set.len() == WINDOW {
                    let done = set.join_next().await.expect("it is full");
                    sum += done.expect("no job panics");
                }
            }
            while let Some(done) = set.join_next().await {
                sum += done.expect("no job panics");
            }
            sum
        }))
    })
}

fn join_handles(jobs: Jobs) -> Count {
    let runtime = runtime();
    jobs.count(|| {
        runtime.block_on(jobs.by_tasks(|share| async move {
            let (mut sum, mut handles) = (0, VecDeque::new());
            for number in share {
                handles.push_back(tokio::spawn(task(number, jobs.span)));
                if jobs.results && handles.len() == WINDOW {
                    let oldest = handles.pop_front().expect("it is full");
                    sum += oldest.await.expect("no job panics");
                }
            }
            for handle in handles {
                sum += handle.await.expect("no job panics");
            }
            sum
        }))
    })
}

/// The bound that people put on spawning by hand.
fn semaphore_and_spawn(jobs: Jobs) -> Count {
    let runtime = runtime();
    let room = Arc::new(Semaphore::new(QUEUE));
    jobs.count(|| {
        runtime.block_on(jobs.by_tasks(|share| {
            let room = Arc::clone(&room);
            async move {
                let (mut sum, mut handles) = (0, VecDeque::new());
                for number in share {
                    let room = Arc::clone(&room).acquire_owned().await.expect("it is open");
                    handles.push_back(tokio::spawn(async move {
                        let value = task(number, jobs.span).await;
                        drop(room);
                        value
                    }));
                    if handles.len() == WINDOW {
                        let oldest = handles.pop_front().expect("it is full");
                        sum += oldest.await.expect("no job panics");
                    }
                }
                for handle in handles {
                    sum += handle.await.expect("no job panics");
                }
                sum
            }
        }))
    })
}

/// A future as a hand-made pool takes it.
type BoxedTask = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn async_channel_workers(jobs: Jobs) -> Count {
    let runtime = runtime();
    let (queue, taker) = async_channel::bounded::<BoxedTask>(QUEUE);
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let taker = taker.clone();
            runtime.spawn(async move {
                while let Ok(job) = taker.recv().await {
                    job.await;
                }
            })
        })
        .collect();
    jobs.count(|| {
        runtime.block_on(async move {
            let sum = jobs.by_tasks(|share| {
                let queue = queue.clone();
                async move {
                    let (sender, results) = async_channel::unbounded();
                    for number in share {
                        let job: BoxedTask = if jobs.results {
                            let sender = sender.clone();
                            Box::pin(async move {
                                let value = task(number, jobs.span).await;
                                sender.send(value).await.expect("somebody reads");
                            })
                        } else {
                            Box::pin(async move {
                                task(number, jobs.span).await;
                            })
                        };
                        queue.send(job).await.expect("workers run");
                    }
                    drop(sender);
                    let mut sum = 0;
                    while let Ok(value) = results.recv().await {
                        sum += value;
                    }
                    sum
                }
            });
            let sum = sum.await;
            drop(queue);
            for worker in workers {
                worker.await.expect("no job panics");
            }
            sum
        })
    })
}

fn orchestra(jobs: Jobs) -> Count {
    let runtime = runtime();
    let pool = FuturePoolManager::<u64>::new(ORCHESTRA, QUEUE, runtime.handle().clone(), "bench");
    let pool = &pool;
    jobs.count(|| {
        runtime.block_on(jobs.by_tasks(|share| {
            let pool = pool.clone();
            async move {
                let (mut sum, mut window) = (0, VecDeque::new());
                for number in share {
                    let job = Box::pin(task(number, jobs.span));
                    window.push_back(pool.submit(HashSet::new(), job).await.expect("it is open"));
                    if window.len() == WINDOW {
                        let oldest = window.pop_front().expect("it is full");
                        sum += oldest.await_result().await.expect("no job panics");
                    }
                }
                for handle in window {
                    sum += handle.await_result().await.expect("no job panics");
                }
                sum
            }
        }))
    })
}

fn orchestra_relaxed(jobs: Jobs) -> Count {
    let runtime = runtime();
    let pool = FuturePoolManagerRlxd::<u64>::new(
        ORCHESTRA,
        QUEUE,
        LANES,
        runtime.handle().clone(),
        "bench",
    );
    let pool = &pool;
    jobs.count(|| {
        runtime.block_on(jobs.by_tasks(|share| {
            let pool = pool.clone();
            async move {
                let (mut sum, mut window) = (0, VecDeque::new());
                for number in share {
                    let job = task(number, jobs.span);
                    let handle = pool.submit_future(HashSet::new(), job).await;
                    window.push_back(handle.expect("it is open"));
                    if window.len() == WINDOW {
                        let oldest = window.pop_front().expect("it is full");
                        sum += oldest.await_result().await.expect("no job panics");
                    }
                }
                for handle in window {
                    sum += handle.await_result().await.expect("no job panics");
                }
                sum
            }
        }))
    })
}
