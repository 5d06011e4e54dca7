//! Running: the loop that pulls items into the sink, and the end.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Instant;

use selvedge_cancel::{Cancelled, Context};
use selvedge_primitives::{Origin, Panic, drop_each};

use crate::PipelineError;
use crate::caught::CatchUnwind;
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
    /// Dropping the future aborts the run: its context is cancelled, the tasks end at their next
    /// await, what the sink took so far is dropped with it, and there is no report. To end a run and
    /// keep both, cancel its context.
    ///
    /// # Fairness
    ///
    /// The loop takes part in tokio's cooperative budget. Items are pulled one at a time, each after
    /// the sink has room for it.
    ///
    /// # Memory ordering
    ///
    /// Everything that closures of the stages did happens before the future completes, except what
    /// blocking closures do that ignore a cancelled context.
    ///
    /// # Errors
    ///
    /// In [`Ended::error`].
    ///
    /// # Panics
    ///
    /// When the sink's [`finish`](Sink::finish) panics, with its panic, after every task has ended.
    /// When it is polled again after it completed.
    ///
    /// # Examples
    ///
    /// A run that is stopped keeps what it made:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::from_iter;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (ctx, canceller) = Context::background().child();
    /// let stop_at_three = move |n: &u32| {
    ///     if *n == 3 {
    ///         canceller.stop(Duration::MAX);
    ///     }
    ///     true
    /// };
    /// let ended = from_iter(1..).filter(stop_at_three).collect().run(&ctx).await;
    /// assert_eq!(ended.output, [1, 2, 3]);
    /// assert_eq!(ended.report.stage("from_iter").unwrap().entered, 3);
    /// assert!(ended.error.unwrap().cause().is_some());
    /// # });
    /// ```
    ///
    /// # Algorithm
    ///
    /// One allocation for the future; fused stages allocate nothing and take no lock. A stage with
    /// workers costs an item a task and four short critical sections of its window and its
    /// semaphore.
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
    // At the end, and dropped with this future, it ends every task.
    let (mut launch, end) = Launch::new(&outer);
    let started = set_up(description, &mut launch);
    let sink_counts = launch.stage(origin, "sink");
    let Launch { ctx, counts, fault, .. } = launch;
    launched(&counts);

    let mut error = None;
    if let Ok((flow, mut crew)) = started.map_err(|early| error = Some(early)) {
        let mut local = LocalCounts::new(sink_counts);
        let pulling = CatchUnwind::new(async {
            let mut flow = pin!(flow);
            let mut cancelled = pin!(ctx.cancelled());
            let pull = |cx: &mut TaskContext<'_>| {
                poll_pull(flow.as_mut(), &mut sink, &mut local, cancelled.as_mut(), cx)
            };
            error = poll_fn(pull).await;
            // The flow goes here, and with it what was finished and not taken.
        });
        if let Err(panic) = pulling.await {
            // The sink's reserve, or a destructor on the way out.
            let (stage, index) = (local.name(), local.entered as u64);
            outrank(&mut error, PipelineError::Panicked { stage, index, panic });
        }
        match catch_unwind(AssertUnwindSafe(|| sink.undelivered())) {
            Ok(undelivered) => local.passed = local.passed.saturating_sub(undelivered),
            Err(payload) => {
                let (stage, index) = (local.name(), local.entered as u64);
                let panic = Panic::new(payload);
                outrank(&mut error, PipelineError::Panicked { stage, index, panic });
            }
        }
        drop(local);
        drop(end);
        match crew.join().await {
            Some(panicked @ PipelineError::Panicked { .. }) => outrank(&mut error, panicked),
            Some(died) => _ = error.get_or_insert(died),
            None => {}
        }
    }
    fault.take().into_iter().for_each(|fault| outrank(&mut error, fault));
    counts.iter().for_each(|counts| counts.settle());
    let stages = counts.iter().map(|counts| counts.read()).collect();
    let report = Report { stages, elapsed: start.elapsed() };
    Ended { output: sink.finish(), report, error }
}

/// Builds the stages and starts their tasks. If that fails, what was built is dropped in here, one by
/// one, and a panic of a destructor is noted.
fn set_up<S: Build>(description: S, launch: &mut Launch) -> Result<(S::Flow, Crew), PipelineError> {
    let built = catch_unwind(AssertUnwindSafe(|| description.build(launch)));
    let flow = built.unwrap_or_else(|payload| Err(stillborn(launch, payload)));
    let started = flow.and_then(|flow| match Crew::start(&mut launch.drivers) {
        Ok(crew) => Ok((flow, crew)),
        Err(error) => {
            note_panic(launch, || drop(flow));
            Err(error)
        }
    });
    if started.is_err() {
        let drivers = std::mem::take(&mut launch.drivers);
        note_panic(launch, || drop_each(drivers));
    }
    started
}

/// Runs `f`, and notes its panic.
fn note_panic(launch: &Launch, f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        launch.fault.note(stillborn(launch, payload));
    }
}

/// A panic before any item, told of the stage that was built last.
fn stillborn(launch: &Launch, payload: Box<dyn Any + Send>) -> PipelineError {
    let stage = launch.counts.last().map_or_else(|| "source".to_owned(), |last| last.name());
    PipelineError::Panicked { stage, index: 0, panic: Panic::new(payload) }
}

/// A fault that is nobody's item: it goes before an end from outside, which the caller knows of, and
/// behind a failure.
fn outrank(error: &mut Option<PipelineError>, fault: PipelineError) {
    if matches!(error, None | Some(PipelineError::Ended(_) | PipelineError::NoRuntime)) {
        *error = Some(fault);
    }
}

/// Pulls items into the sink until there is nothing more, or something fails.
fn poll_pull<S: Flow, K: Sink<S::Item>>(
    mut flow: Pin<&mut S>,
    sink: &mut K,
    counts: &mut LocalCounts,
    cancelled: Pin<&mut Cancelled<'_>>,
    cx: &mut TaskContext<'_>,
) -> Poll<Option<PipelineError>> {
    loop {
        let index = counts.entered as u64;
        let failed = |counts: &LocalCounts, index: u64, error: K::Error| {
            let error = error.into();
            Some(PipelineError::Failed { stage: counts.name(), index, error })
        };
        // The place is reserved before the item is pulled.
        match sink.poll_reserve(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                // That of the item that was not delivered, if there is one, and not of the next.
                let index = index.saturating_sub(sink.undelivered() as u64);
                return Poll::Ready(failed(counts, index, error));
            }
            Poll::Pending => {
                counts.publish();
                // Upstream nobody is asked meanwhile, so this is where a cancel is seen.
                let cause = ready!(cancelled.poll(cx));
                return Poll::Ready(Some(PipelineError::Ended(cause)));
            }
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
                return Poll::Ready(failed(counts, index, error));
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
