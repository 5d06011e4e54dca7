//! A job that the test holds: it tells when it has started, and ends when it is told to.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::mem::ManuallyDrop;
use std::pin::{Pin, pin};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use selvedge_cancel::Context;
use selvedge_pool::{JobHandle, Pool, Slot, Tasks, Worker};
use selvedge_testkit::{ReentrantWaker, block_on, watchdog};

/// Ends a hang; no test comes near it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test that must not hang.
#[track_caller]
pub(crate) fn guarded(what: &str, f: impl FnOnce() + Send + 'static) {
    watchdog(LIMIT, what, f);
}

/// A pool of its own.
pub(crate) fn pool(workers: usize, queue: usize) -> Pool {
    pool_in(&Context::background(), workers, queue)
}

/// A pool in a context.
pub(crate) fn pool_in(context: &Context, workers: usize, queue: usize) -> Pool {
    Pool::builder().name("test").workers(workers).queue(queue).build(context).unwrap()
}

/// The test's end of a held job.
pub(crate) struct Held {
    /// Its handle, until it is taken.
    pub(crate) handle: Option<JobHandle<()>>,
    /// A message when it has started.
    started: Receiver<()>,
    /// Dropped or used, it lets the job end.
    release: Option<Sender<()>>,
}

impl Held {
    /// Puts a held job into `slot`.
    pub(crate) fn submit(slot: Slot) -> Self {
        let (start, started) = channel();
        let (release, released) = channel::<()>();
        let handle = slot.submit(move |_| {
            let _ = start.send(());
            let _ = released.recv();
        });
        Self { handle: Some(handle), started, release: Some(release) }
    }

    /// Puts a held job into a pool that has room.
    pub(crate) fn queued(pool: &Pool) -> Self {
        Self::submit(block_on(pool.reserve()).unwrap())
    }

    /// Puts a held job into a pool that has an idle worker, and waits until it runs.
    pub(crate) fn running(pool: &Pool) -> Self {
        let held = Self::queued(pool);
        held.wait_started();
        held
    }

    /// Waits until it runs: then the worker has granted the room it left in the queue, and is done
    /// with whatever it ran before.
    pub(crate) fn wait_started(&self) {
        self.started.recv().unwrap();
    }

    /// Lets it end.
    pub(crate) fn release(&mut self) {
        self.release = None;
    }
}

/// A worker that the test drives itself.
pub(crate) type ByHand = Pin<Box<Worker>>;

/// A pool of tasks in a context, with its workers.
pub(crate) fn tasks_in(
    context: &Context,
    workers: usize,
    queue: usize,
) -> (Pool<Tasks>, Vec<ByHand>) {
    let mut crew = Vec::new();
    let builder = Pool::builder().name("test").workers(workers).queue(queue);
    let pool = builder.build_on(context, |worker| crew.push(Box::pin(worker))).unwrap();
    (pool, crew)
}

/// A pool of tasks of its own, with its workers.
pub(crate) fn tasks(workers: usize, queue: usize) -> (Pool<Tasks>, Vec<ByHand>) {
    tasks_in(&Context::background(), workers, queue)
}

/// Polls once, with a waker that wakes nobody.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

/// A waker whose clones panic when they are dropped. It is not dropped itself.
pub(crate) fn panics_when_dropped() -> ManuallyDrop<Waker> {
    let panics = || std::panic::resume_unwind(Box::new("this waker panics when it is dropped"));
    ManuallyDrop::new(ReentrantWaker::on_drop(panics).waker())
}

/// What a future brings that has nothing to wait for: nobody else is at work, so it could only hang.
#[track_caller]
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match poll_once(pin!(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it has to wait"),
    }
}

/// Lets futures through once it is open, or ends them with a panic.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    /// What the futures see, and whom to wake.
    state: Arc<Mutex<(Option<Pass>, Option<Waker>)>>,
}

/// What a gate does with who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Lets through.
    Open,
    /// Panics.
    Panic,
}

impl Gate {
    /// Opens it, and wakes who waits.
    pub(crate) fn open(&self, pass: Pass) {
        let mut state = self.state.lock().unwrap();
        state.0 = Some(pass);
        let waker = state.1.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until it is open.
    pub(crate) async fn pass(self) {
        let pass = std::future::poll_fn(|cx| {
            let mut state = self.state.lock().unwrap();
            match state.0 {
                Some(pass) => Poll::Ready(pass),
                None => {
                    state.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        if pass.await == Pass::Panic {
            std::panic::resume_unwind(Box::new("told to"));
        }
    }
}
