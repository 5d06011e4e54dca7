//! Running: the loop that pulls items into the sink, and the end.

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Instant;

use selvedge_cancel::Context;
use selvedge_primitives::Origin;

use crate::PipelineError;
use crate::error::Panic;
use crate::flow::{Build, Flow};
use crate::launch::{Crew, Launch};
use crate::report::{Counts, LocalCounts, Report};
use crate::sink::Sink;

/// A pipeline with a sink, ready to be run.
#[must_use = "a pipeline does nothing until it is run"]
pub struct Ready<S, K> {
    /// Everything before the sink.
    description: S,
    /// The sink.
    sink: K,
    /// The sink's name and place.
    origin: Origin,
}

impl<S, K> fmt::Debug for Ready<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ready(sink {})", self.origin)
    }
}

/// How a run ended.
#[derive(Debug)]
#[must_use = "it says whether the pipeline came to its end"]
#[non_exhaustive]
pub struct Ended<O> {
    /// What the sink left, however the run ended.
    pub output: O,
    /// What went through each stage.
    pub report: Report,
    /// Why it ended before its source was exhausted; none if it came to its end.
    pub error: Option<PipelineError>,
}

impl<O> Ended<O> {
    /// The output, if the pipeline came to its end.
    ///
    /// # Errors
    ///
    /// Why it did not.
    pub fn ok(self) -> Result<O, PipelineError> {
        match self.error {
            None => Ok(self.output),
            Some(error) => Err(error),
        }
    }
}

impl<S: Build, K: Sink<S::Item>> Ready<S, K> {
    /// A pipeline ready to be run.
    pub(crate) fn new(description: S, sink: K, origin: Origin) -> Self {
        Self { description, sink, origin }
    }

    /// Names the sink, for errors, the report, and the component.
    pub fn named(mut self, name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        self.origin = self.origin.named(name);
        self
    }

    /// The sink's name and place.
    #[cfg(feature = "tokio")]
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Runs it under `ctx`: the sink on the task that polls, workers in tasks of their own.
    ///
    /// Completes when the source is exhausted and everything went through, or when the context, an
    /// item or the sink ended it before; see the table on the [crate's page](crate). When it
    /// completes, no task that it started is alive.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the run: the tasks end at their next await, what the sink took so
    /// far is dropped with it, and there is no report. To end a run and keep both, cancel its
    /// context.
    ///
    /// # Errors
    ///
    /// In [`Ended::error`].
    ///
    /// # Memory ordering
    ///
    /// Everything that closures of the stages did happens before the future completes, except what
    /// blocking closures do that ignore a cancelled context.
    pub fn run(self, ctx: &Context) -> Run<K::Output> {
        Run { inner: Box::pin(run(self, ctx.clone(), |_| ())) }
    }
}

/// Runs a pipeline; from [`Ready::run`].
#[must_use = "futures do nothing unless polled"]
pub struct Run<O> {
    /// The loop.
    inner: Pin<Box<dyn Future<Output = Ended<O>> + Send>>,
}

impl<O> Future for Run<O> {
    type Output = Ended<O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Ended<O>> {
        self.inner.as_mut().poll(cx)
    }
}

impl<O> fmt::Debug for Run<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}

/// The loop.
pub(crate) async fn run<S: Build, K: Sink<S::Item>>(
    ready: Ready<S, K>,
    outer: Context,
    launched: impl FnOnce(&[Arc<Counts>]) + Send,
) -> Ended<K::Output> {
    let start = Instant::now();
    let Ready { description, mut sink, origin } = ready;
    // Dropped with this future, the canceller ends every task.
    let (mut launch, canceller) = Launch::new(&outer);
    let built = description.build(&mut launch);
    let sink_counts = launch.stage(origin, "sink");
    // The run's context and its halt live on in the flow and the tasks.
    let Launch { counts, drivers, .. } = launch;
    launched(&counts);
    let report = |counts: &[Arc<Counts>]| Report {
        stages: counts.iter().map(|counts| counts.read()).collect(),
        elapsed: start.elapsed(),
    };

    let started = built.and_then(|flow| Ok((flow, Crew::start(drivers)?)));
    let (flow, mut crew) = match started {
        Ok(started) => started,
        Err(error) => {
            return Ended { output: sink.finish(), report: report(&counts), error: Some(error) };
        }
    };

    let mut error = {
        let mut flow = pin!(flow);
        let mut local = LocalCounts::new(sink_counts);
        poll_fn(|cx| poll_pull(flow.as_mut(), &mut sink, &mut local, cx)).await
        // The flow goes here, and with it what was finished and not taken.
    };
    canceller.cancel();
    if let Some(panic) = crew.join().await {
        error.get_or_insert(panic);
    }
    Ended { output: sink.finish(), report: report(&counts), error }
}

/// Pulls items into the sink until there is nothing more, or something fails.
fn poll_pull<S: Flow, K: Sink<S::Item>>(
    mut flow: Pin<&mut S>,
    sink: &mut K,
    counts: &mut LocalCounts,
    cx: &mut TaskContext<'_>,
) -> Poll<Option<PipelineError>> {
    loop {
        let index = counts.entered as u64;
        let failed = |counts: &LocalCounts, error: K::Error| {
            let error = error.into();
            Some(PipelineError::Failed { stage: counts.name(), index, error })
        };
        // The place is reserved before the item is pulled.
        if let Err(error) = ready!(sink.poll_reserve(cx)) {
            return Poll::Ready(failed(counts, error));
        }
        let item = match flow.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(item))) => item,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(error)),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                counts.publish();
                return Poll::Pending;
            }
        };
        counts.entered += 1;
        match catch_unwind(AssertUnwindSafe(|| sink.accept(item))) {
            Ok(Ok(())) => counts.passed += 1,
            Ok(Err(error)) => {
                counts.failed += 1;
                return Poll::Ready(failed(counts, error));
            }
            Err(payload) => {
                counts.failed += 1;
                let panic = Panic::new(payload);
                let stage = counts.name();
                return Poll::Ready(Some(PipelineError::Panicked { stage, index, panic }));
            }
        }
    }
}
