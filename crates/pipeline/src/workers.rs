//! Async workers: a future for each item, several at a time, each in a task of its own.
//!
//! One driver task feeds the stage. For each item it first reserves a slot of the window and a
//! permit, then pulls the item, then spawns the task, which completes the slot without waiting. So
//! everything that was started is always driven by the runtime, whatever the sink does.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use selvedge_cancel::Context;
use selvedge_fanio::{Entry, Order, window};
use selvedge_primitives::{Origin, Panic};
use selvedge_sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use crate::caught::CatchUnwind;
use crate::flow::{Build, Flow};
use crate::halt::Halt;
use crate::launch::Launch;
use crate::report::Counts;
use crate::skip::{Fallible, OnSkip};
use crate::window::{Last, Passed, WindowFlow, bad_window, refused};
use crate::{PipelineError, Stage};

impl<S: Build> Stage<S> {
    /// Applies an async function to each item, for up to `workers` items at a time, each in a task
    /// of its own. Needs a tokio runtime when it is run.
    ///
    /// With [`Order::Ordered`] the results keep the order of the items: a finished one waits in the
    /// [window](Self::window) for those before it. The future is dropped when the run's context is
    /// cancelled; it must not block the thread.
    ///
    /// An item that fails or panics ends the pipeline, as the table on the [crate's page](crate)
    /// says; failed items may be [skipped](Stage::skip_failed) instead.
    #[track_caller]
    pub fn workers<U, E, Fut, F>(self, workers: usize, order: Order, f: F) -> Stage<Workers<S, F>>
    where
        F: Fn(S::Item) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
        U: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let window = workers.saturating_mul(2);
        let upstream = self.description;
        Stage::new(Workers {
            upstream,
            f,
            workers,
            window,
            order,
            on_skip: None,
            origin: Origin::here(),
        })
    }
}

impl<S, F> Stage<Workers<S, F>> {
    /// How many items may be under way or finished and not yet taken; twice the workers if not
    /// said. A larger window keeps the workers busy behind one slow item of an ordered stage.
    pub fn window(mut self, window: usize) -> Self {
        self.description.window = window;
        self
    }
}

/// Async workers; from [`Stage::workers`].
pub struct Workers<S, F> {
    /// What comes before.
    upstream: S,
    /// The function.
    f: F,
    /// How many at a time.
    workers: usize,
    /// How many places for results.
    window: usize,
    /// Which order.
    order: Order,
    /// Who is told of failed items, if they are skipped.
    on_skip: Option<OnSkip>,
    /// Name and place.
    origin: Origin,
}

impl<S, F> fmt::Debug for Workers<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workers({})", self.origin)
    }
}

impl<S, F, Fut, U, E> Build for Workers<S, F>
where
    S: Build,
    F: Fn(S::Item) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<U, E>> + Send + 'static,
    U: Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Item = U;
    type Flow = WindowFlow<U>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let upstream = self.upstream.build(launch)?;
        let counts = launch.stage(self.origin, "workers");
        if let Some(error) = bad_window(counts.name(), self.workers, self.window) {
            return Err(error);
        }
        let made = window(self.window, self.order);
        let (entry, exit) = made.map_err(|error| refused(counts.name(), &error))?;
        let permits = self.workers.min(Semaphore::MAX_PERMITS);
        let last = Last::new();
        let driver = Driver {
            entry,
            last: last.clone(),
            ctx: launch.ctx.clone(),
            halt: launch.halt.clone(),
            skips: self.on_skip.is_some(),
            free: Arc::new(Semaphore::new(permits)),
            f: Arc::new(self.f),
            counts: Arc::clone(&counts),
        };
        launch.drivers.push(Box::pin(driver.drive(upstream)));
        // A task ends without completing its slot only when the runtime drops it.
        let lost = Box::new(|_| PipelineError::NoRuntime);
        Ok(WindowFlow {
            exit,
            last,
            ctx: launch.ctx.clone(),
            counts,
            on_skip: self.on_skip,
            gaps: false,
            lost,
        })
    }
}

impl<S, F> Fallible for Workers<S, F>
where
    Self: Build,
{
    fn skip_failed(&mut self, on_skip: OnSkip) {
        self.on_skip = Some(on_skip);
    }
}

/// Feeds the workers.
struct Driver<U, F> {
    /// Where results go.
    entry: Entry<Passed<U>>,
    /// Why it stopped feeding.
    last: Last,
    /// The run's.
    ctx: Context,
    /// Ends the source.
    halt: Halt,
    /// Whether failed items are skipped.
    skips: bool,
    /// One permit a worker.
    free: Arc<Semaphore>,
    /// The function.
    f: Arc<F>,
    /// What went through.
    counts: Arc<Counts>,
}

impl<U: Send + 'static, F> Driver<U, F> {
    /// Feeds until the upstream ends, the sink is gone or the context is cancelled; then waits for
    /// the tasks.
    async fn drive<S, Fut, E>(self, upstream: S)
    where
        S: Flow,
        F: Fn(S::Item) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        // A destructor of the upstream that panics must not take the tasks along unjoined.
        if let Err(panic) = CatchUnwind::new(self.feed(upstream, &mut tasks)).await {
            self.note(panic);
        }
        self.last.settle();
        // Closes the window: it ends when everything that was reserved is emitted.
        self.entry.close();
        while let Some(ended) = tasks.join_next().await {
            self.joined(ended);
        }
    }

    /// A task has ended. It catches the panics of its item, so what is left is the destructor of a
    /// result that nobody wants any more.
    fn joined(&self, ended: Result<(), JoinError>) {
        if let Some(payload) = ended.err().and_then(|error| error.try_into_panic().ok()) {
            self.note(Panic::new(payload));
        }
    }

    /// Leaves a panic that belongs to no item.
    fn note(&self, panic: Panic) {
        let (stage, index) = (self.counts.name(), self.counts.read().entered);
        self.halt.fault.panicked(stage, index, panic);
    }

    /// Feeds until there is nothing more to feed.
    async fn feed<S, Fut, E>(&self, upstream: S, tasks: &mut JoinSet<()>)
    where
        S: Flow,
        F: Fn(S::Item) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let mut upstream = pin!(upstream);
        loop {
            while let Some(ended) = tasks.try_join_next() {
                self.joined(ended);
            }
            let slot = match self.ctx.run(self.entry.reserve()).await {
                Ok(Ok(slot)) => slot,
                // The sink is gone.
                Ok(Err(_)) => return,
                Err(cause) => return self.last.set(PipelineError::Ended(cause)),
            };
            let permit = match self.ctx.run(self.free.acquire_owned(1)).await {
                Ok(permit) => permit.expect("the semaphore is never closed"),
                Err(cause) => return self.last.set(PipelineError::Ended(cause)),
            };
            let item = match poll_fn(|cx| upstream.as_mut().poll_next(cx)).await {
                Some(Ok(item)) => item,
                Some(Err(error)) => return slot.complete(self.last.turn(error)),
                None => return slot.complete(Passed::Unused),
            };
            let index = self.counts.enter();
            let (f, ctx, halt) = (Arc::clone(&self.f), self.ctx.clone(), self.halt.clone());
            let (counts, skips) = (Arc::clone(&self.counts), self.skips);
            tasks.spawn(async move {
                // The future goes inside as well, when it is done or the run is cancelled.
                let work = CatchUnwind::new(async {
                    let work = async move { f(item).await.map_err(Into::into) };
                    ctx.run(work).await
                });
                let stage = || counts.name();
                let error = match work.await {
                    Ok(Ok(Ok(value))) => {
                        slot.complete(Passed::Item(value));
                        drop(permit);
                        return;
                    }
                    // The slot leaves a gap, and the item is left.
                    Ok(Err(_cancelled)) => return,
                    Ok(Ok(Err(error))) if skips => {
                        return slot.complete(Passed::Skipped { index, error });
                    }
                    Ok(Ok(Err(error))) => PipelineError::Failed { stage: stage(), index, error },
                    Err(panic) => PipelineError::Panicked { stage: stage(), index, panic },
                };
                // In the window before the source is stopped: unordered, it is seen first.
                slot.complete(Passed::Failed(error));
                halt.halt();
            });
        }
    }
}
