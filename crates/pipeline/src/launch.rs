//! What a run sets up for its stages: a context of its own, the counts, the tasks to start.

use std::pin::Pin;
use std::sync::Arc;

use selvedge_cancel::{Canceller, Cause, CauseKind, Context, Timer};
use selvedge_primitives::Origin;

use crate::PipelineError;
use crate::fault::Fault;
#[cfg(feature = "tokio")]
use crate::halt::Halt;
use crate::report::Counts;
#[cfg(feature = "tokio")]
use selvedge_primitives::Panic;

/// A task that a stage needs. It ends by itself when the run's context is cancelled.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A run in the making. Stages see it when they are built.
pub struct Launch {
    /// Cancelled when the run is to end at once.
    pub(crate) ctx: Context,
    /// What goes wrong beside the items.
    pub(crate) fault: Fault,
    /// How a stage ends the run.
    #[cfg(feature = "tokio")]
    pub(crate) halt: Halt,
    /// By stage, the source first.
    pub(crate) counts: Vec<Arc<Counts>>,
    /// To be spawned when the run starts.
    pub(crate) drivers: Vec<Driver>,
}

impl Launch {
    /// A run under `ctx`.
    pub(crate) fn new(ctx: &Context) -> (Self, EndOnDrop) {
        let (ctx, canceller) = ctx.child();
        let fault = Fault::default();
        let launch = Self {
            ctx,
            #[cfg(feature = "tokio")]
            halt: Halt::new(&canceller, &fault),
            fault,
            counts: Vec::new(),
            drivers: Vec::new(),
        };
        (launch, EndOnDrop(canceller))
    }

    /// Adds a stage to the report.
    pub(crate) fn stage(&mut self, origin: Origin, kind: &'static str) -> Arc<Counts> {
        let counts = Counts::new(origin, kind);
        self.counts.push(Arc::clone(&counts));
        counts
    }

    /// The timer of a stage: the one it was given, the context's, or that of the place where the
    /// pipeline is run.
    pub(crate) fn timer(
        &self,
        given: Option<Timer>,
        stage: String,
    ) -> Result<Timer, PipelineError> {
        match given.or_else(|| self.ctx.timer()) {
            Some(timer) => Ok(timer),
            None => Timer::ambient().map_err(|error| PipelineError::NoTimer { stage, error }),
        }
    }
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launch").field("stages", &self.counts.len()).finish_non_exhaustive()
    }
}

/// Cancels the run's context when the run is over or dropped. Stages and their jobs hold cancellers
/// as well, so that the last one is gone would be too late.
pub(crate) struct EndOnDrop(
    /// The run's.
    Canceller,
);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.cancel_with(Cause::new(CauseKind::Dropped));
    }
}

/// The tasks of a run.
pub(crate) struct Crew {
    /// Aborted when dropped.
    #[cfg(feature = "tokio")]
    tasks: tokio::task::JoinSet<()>,
}

impl Crew {
    /// Starts the tasks. Without a runtime they stay where they are.
    #[cfg(feature = "tokio")]
    pub(crate) fn start(drivers: &mut Vec<Driver>) -> Result<Self, PipelineError> {
        let mut tasks = tokio::task::JoinSet::new();
        if drivers.is_empty() {
            return Ok(Self { tasks });
        }
        let runtime = tokio::runtime::Handle::try_current();
        let runtime = runtime.map_err(|_| PipelineError::NoRuntime)?;
        for driver in drivers.drain(..) {
            tasks.spawn_on(driver, &runtime);
        }
        Ok(Self { tasks })
    }

    /// Nothing needs a task without the feature.
    #[cfg(not(feature = "tokio"))]
    pub(crate) fn start(_: &mut Vec<Driver>) -> Result<Self, PipelineError> {
        Ok(Self {})
    }

    /// Waits until all have ended. Returns why one did not end by itself, if so.
    pub(crate) async fn join(&mut self) -> Option<PipelineError> {
        #[cfg_attr(
            not(feature = "tokio"),
            expect(unused_mut, reason = "set only where there are tasks")
        )]
        let mut first = None;
        #[cfg(feature = "tokio")]
        while let Some(ended) = self.tasks.join_next().await {
            match ended.map_err(tokio::task::JoinError::try_into_panic) {
                Ok(()) => {}
                Err(Ok(payload)) => {
                    let (stage, panic) = ("driver".to_owned(), Panic::new(payload));
                    let panicked = PipelineError::Panicked { stage, index: 0, panic };
                    // Before that the runtime is gone, which may be why it was dropped.
                    let is_known = matches!(first, Some(PipelineError::Panicked { .. }));
                    first = if is_known { first } else { Some(panicked) };
                }
                Err(Err(_)) => _ = first.get_or_insert(PipelineError::NoRuntime),
            }
        }
        first
    }
}
