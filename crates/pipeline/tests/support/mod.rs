//! What the tests share: runtimes under a watchdog, gates, values that count their drops.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fmt::{self, Debug};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{CauseKind, Context};
use selvedge_pipeline::{Build, Ended, PipelineError, Ready, Report, Sink};
use selvedge_pool::Pool;
use selvedge_testkit::{block_on, watchdog};
use tokio::runtime::{Builder, Handle, Runtime};

/// Ten times and more what the slowest of these tests needs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A runtime with two worker threads.
pub(crate) fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A runtime on one thread; its clock stands still.
pub(crate) fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Runs the future that `make` makes on two threads and on one, each under the watchdog; afterwards
/// no task is alive.
pub(crate) fn on_each_runtime<F: Future<Output = ()>>(
    make: impl Fn() -> F + Send + Sync + Clone + 'static,
) {
    let again = make.clone();
    watchdog(LIMIT, "on one thread", move || on(&one_thread(), again));
    watchdog(LIMIT, "on two threads", move || on(&two_threads(), make));
}

/// Runs it, and sees that no task is left.
fn on<F: Future<Output = ()>>(runtime: &Runtime, make: impl FnOnce() -> F) {
    runtime.block_on(make());
    // A task is told to be done a moment before it is taken off the list. Of tasks that are left
    // the watchdog tells.
    while alive(runtime.handle()) > 0 {
        std::thread::yield_now();
    }
}

/// Runs `ready` on a thread that is inside the runtime only by name, and shuts the runtime down when
/// `there` says so.
pub(crate) fn shut_down_under<S, K>(
    runtime: Runtime,
    ready: Ready<S, K>,
    there: impl Fn() -> bool,
) -> Ended<K::Output>
where
    S: Build,
    K: Sink<S::Item> + 'static,
    K::Output: Send,
{
    let handle = runtime.handle().clone();
    let sink = thread::spawn(move || {
        let _inside = handle.enter();
        block_on(ready.run(&Context::background()))
    });
    while !there() {
        thread::yield_now();
    }
    runtime.shutdown_background();
    sink.join().unwrap()
}

/// Runs `ready` inside a runtime that is gone.
pub(crate) fn under_what_is_gone<S, K>(ready: Ready<S, K>) -> Ended<K::Output>
where
    S: Build,
    K: Sink<S::Item> + 'static,
{
    let runtime = two_threads();
    let handle = runtime.handle().clone();
    drop(runtime);
    let _inside = handle.enter();
    block_on(ready.run(&Context::background()))
}

/// How many tasks are alive.
pub(crate) fn alive(runtime: &Handle) -> usize {
    runtime.metrics().num_alive_tasks()
}

/// Lets the other tasks of this thread run a while.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Waits for something that another task or thread does.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// Holds up threads until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }
}

/// A pool of its own with so many workers.
pub(crate) fn pool(workers: usize) -> Arc<Pool> {
    Arc::new(Pool::builder().workers(workers).queue(8).build(&Context::background()).unwrap())
}

/// A number for tests; every access is sequentially consistent.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<AtomicUsize>);

impl Tally {
    pub(crate) fn add(&self) -> usize {
        // SeqCst: a test.
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn sub(&self) -> usize {
        // SeqCst: a test.
        self.0.fetch_sub(1, Ordering::SeqCst)
    }

    pub(crate) fn max(&self, value: usize) {
        // SeqCst: a test.
        self.0.fetch_max(value, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> usize {
        // SeqCst: a test.
        self.0.load(Ordering::SeqCst)
    }
}

impl Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tally({})", self.get())
    }
}

/// Counts its drop.
#[derive(Debug)]
pub(crate) struct OnDrop(pub(crate) Tally);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// Panics when it is dropped, unless the thread unwinds already.
#[derive(Debug)]
pub(crate) struct Bomb(pub(crate) &'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("{}", self.0);
        }
    }
}

/// The failure that tests return from closures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) u64);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken", self.0)
    }
}

impl std::error::Error for Broken {}

/// The counts of a stage: entered, passed, filtered, failed, left.
pub(crate) fn counts(report: &Report, name: &str) -> [u64; 5] {
    let stage = report.stage(name).unwrap_or_else(|| panic!("no stage {name} in\n{report}"));
    [stage.entered, stage.passed, stage.filtered, stage.failed, stage.left]
}

/// Each stage's counts add up, and what one emitted is what the next was given.
#[track_caller]
pub(crate) fn assert_sums(report: &Report) {
    assert!(report.adds_up(), "{report}");
    for pair in report.stages.windows(2) {
        assert_eq!(pair[0].emitted, pair[1].entered, "between stages of\n{report}");
    }
}

/// The error of a run that did not come to its end, whose counts add up.
#[track_caller]
pub(crate) fn error_of<O>(ended: &Ended<O>) -> &PipelineError {
    assert_sums(&ended.report);
    ended.error.as_ref().expect("it ended early")
}

/// The cause of a run that its context ended.
#[track_caller]
pub(crate) fn cause_of(error: &PipelineError) -> CauseKind {
    match error {
        PipelineError::Ended(cause) => cause.kind(),
        other => panic!("not ended by its context: {other:?}"),
    }
}

/// Stage, index and message of a panic.
#[track_caller]
pub(crate) fn panicked(error: &PipelineError) -> (&str, u64, &str) {
    match error {
        PipelineError::Panicked { stage, index, panic } => (stage, *index, panic.message()),
        other => panic!("not a panic: {other:?}"),
    }
}

/// Stage and index of a failure.
#[track_caller]
pub(crate) fn failed(error: &PipelineError) -> (&str, u64) {
    match error {
        PipelineError::Failed { stage, index, .. } => (stage, *index),
        other => panic!("not a failure: {other:?}"),
    }
}

/// What `f` panics with.
#[track_caller]
pub(crate) fn message_of<R>(f: impl FnOnce() -> R) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it did not panic") };
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap()
}
