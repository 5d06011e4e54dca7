//! A pipeline in a task of its own, as a component that a shutdown can stop, drain and abort.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use selvedge_cancel::{Canceller, Component, Context, Straggler, Wait};
use selvedge_primitives::{Anchor, Entry, Origin, Panic, WaitQueue, Waiter, contain, coop};

use crate::StageReport;
use crate::caught::CatchUnwind;
use crate::flow::Build;
use crate::report::Counts;
use crate::run::{Ended, Ready, run};
use crate::sink::Sink;

/// A pipeline was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no tokio runtime here.
    #[error("pipeline not started: no tokio runtime, call `start` inside one")]
    NoRuntime,
}

impl<S: Build, K: Sink<S::Item>> Ready<S, K> {
    /// Runs it in a task of its own, under a child of `ctx`.
    ///
    /// Dropping the [`Pipeline`] requests an abort.
    ///
    /// # Errors
    ///
    /// [`StartError::NoRuntime`] outside a tokio runtime.
    #[track_caller]
    pub fn start(self, ctx: &Context) -> Result<Pipeline<K::Output>, StartError> {
        let runtime = tokio::runtime::Handle::try_current();
        let runtime = runtime.map_err(|_| StartError::NoRuntime)?;
        let origin = self.origin().clone();
        let (ctx, canceller) = ctx.child();
        let shared = Arc::new(Shared {
            queue: WaitQueue::new(State { counts: Vec::new(), ended: false, result: None }),
        });
        let guard = Guard(Arc::clone(&shared));
        runtime.spawn(async move {
            // Captured in this order, so that a task that is dropped before it ran drops them in it: whoever
            // is told of the end finds nothing of the description alive.
            let (ready, ctx, guard) = (self, ctx, guard);
            let launched = |counts: &[Arc<Counts>]| {
                guard.0.queue.lock().counts = counts.to_vec();
            };
            let ended = CatchUnwind::new(run(ready, ctx, launched)).await;
            guard.0.queue.lock().result = Some(ended);
        });
        Ok(Pipeline { shared, canceller, origin })
    }
}

/// A pipeline that runs in a task of its own; from [`Ready::start`].
///
/// Dropping it requests an abort: the run ends at its next await, and what it made is lost. A
/// [`Join`] that was taken before keeps waiting.
#[must_use = "dropping it aborts the pipeline"]
pub struct Pipeline<O> {
    /// Shared with the task.
    shared: Arc<Shared<O>>,
    /// Ends the run.
    canceller: Canceller,
    /// The sink's name and place.
    origin: Origin,
}

/// What the task and its handles share.
struct Shared<O> {
    /// The state, and those who wait for the end.
    queue: WaitQueue<State<O>, (), ()>,
}

/// How far the run is.
struct State<O> {
    /// The counts of the stages, once they are built.
    counts: Vec<Arc<Counts>>,
    /// Whether the task is gone.
    ended: bool,
    /// What the run left, or the panic of its sink's end, until somebody takes it.
    result: Option<Result<Ended<O>, Panic>>,
}

/// Tells the end when the task is dropped, however that comes about.
struct Guard<O>(
    /// Whom to tell.
    Arc<Shared<O>>,
);

impl<O> Drop for Guard<O> {
    fn drop(&mut self) {
        let mut locked = self.0.queue.lock();
        locked.ended = true;
        contain(|| self.0.queue.grant_while(locked, |_, ()| Some(())));
    }
}

impl<O: Send + 'static> Pipeline<O> {
    /// Waits for the end of the run, and takes what it left.
    ///
    /// Completes when the run has ended, whoever asked for that. Gives none when another join has
    /// taken what it left, or when the runtime was shut down under it before it could see that and
    /// end with [`NoRuntime`](crate::PipelineError::NoRuntime).
    ///
    /// # Cancel safety
    ///
    /// Safe: what the run left stays until a join completes.
    ///
    /// # Fairness
    ///
    /// Any number may wait, and all are told at once; the first to be polled then takes it.
    ///
    /// # Memory ordering
    ///
    /// As [`Ready::run`]: everything that the stages did happens before a join completes.
    ///
    /// # Panics
    ///
    /// When the sink's [`finish`](Sink::finish) panicked, with its panic, in the join that would
    /// have taken what the run left.
    ///
    /// # Examples
    ///
    /// Drained, as a shutdown does it:
    ///
    /// ```
    /// use selvedge_cancel::{Component, Context};
    /// use selvedge_pipeline::from_iter;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let pipeline = from_iter(1_u64..).for_each(drop).named("endless").start(&Context::background());
    /// let pipeline = pipeline.unwrap();
    /// pipeline.stop();
    /// let ended = pipeline.join().await.unwrap();
    /// assert!(ended.report.adds_up() && ended.error.is_some());
    /// assert!(pipeline.join().await.is_none(), "it was taken");
    /// # });
    /// ```
    pub fn join(&self) -> Join<O> {
        Join { end: End::new(&self.shared) }
    }

    /// The counts of the stages as they are now; exact once the run has ended.
    pub fn stages(&self) -> Vec<StageReport> {
        let counts = self.shared.queue.lock().counts.clone();
        counts.iter().map(|counts| counts.read()).collect()
    }

    /// Where the pipeline got its sink.
    pub fn place(&self) -> &'static Location<'static> {
        self.origin.place()
    }
}

impl<O: Send + 'static> Component for Pipeline<O> {
    fn name(&self) -> String {
        self.origin.name().unwrap_or("pipeline").to_owned()
    }

    fn stop(&self) {
        self.canceller.stop(Duration::MAX);
    }

    fn wait(&self) -> Wait<'_> {
        Box::pin(End::new(&self.shared))
    }

    fn abort(&self) {
        self.canceller.cancel();
    }

    fn stragglers(&self) -> Vec<Straggler> {
        let (counts, ended) = {
            let locked = self.shared.queue.lock();
            (locked.counts.clone(), locked.ended)
        };
        if ended {
            return Vec::new();
        }
        let stages = counts.iter().map(|counts| counts.read());
        let busy = stages.map(|stage| {
            let note = format!("{} of {} items under way", stage.under_way(), stage.entered);
            Straggler { name: stage.name, place: Some(stage.place), age: None, note }
        });
        busy.collect()
    }
}

impl<O> fmt::Debug for Pipeline<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipeline({})", self.origin)
    }
}

/// Waits for the task's end.
#[pin_project]
struct End<O: 'static> {
    /// Shared with the task.
    shared: Arc<Shared<O>>,
    /// The place in the queue.
    #[pin]
    waiter: Waiter<'static, State<O>, (), ()>,
}

impl<O: Send + 'static> End<O> {
    /// Waits for `shared`.
    fn new(shared: &Arc<Shared<O>>) -> Self {
        let anchor = Anchor::shared(Arc::clone(shared), |shared| &shared.queue);
        Self { shared: Arc::clone(shared), waiter: Waiter::new(anchor) }
    }
}

impl<O: 'static> Future for End<O> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let proceed = ready!(coop::poll_proceed(cx));
        ready!(self.project().waiter.poll_enter(cx, |state| match state.ended {
            true => Entry::Ready(()),
            false => Entry::Wait(()),
        }));
        proceed.made_progress();
        Poll::Ready(())
    }
}

/// Waits for the end of a pipeline and takes what it left; from [`Pipeline::join`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Join<O: 'static> {
    /// The wait.
    #[pin]
    end: End<O>,
}

impl<O: 'static> Future for Join<O> {
    type Output = Option<Ended<O>>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut end = self.project().end;
        ready!(end.as_mut().poll(cx));
        let result = end.shared.queue.lock().result.take();
        // The lock is released: a panic of the sink's end goes on here.
        Poll::Ready(result.map(|ended| ended.unwrap_or_else(|panic| panic.resume())))
    }
}

impl<O: 'static> fmt::Debug for Join<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").finish_non_exhaustive()
    }
}
