//! What the two kinds of workers have in common: results come out of a window.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use selvedge_cancel::Context;
use selvedge_fanio::{Emitted, Exit, WindowError};
use selvedge_primitives::Mutex;
use selvedge_primitives::atomic::Ordering;

use crate::PipelineError;
use crate::flow::{Flow, Next};
use crate::report::Counts;
use crate::skip::{OnSkip, skip};

/// What lies in a window.
pub(crate) enum Passed<T> {
    /// A result.
    Item(T),
    /// An item of this stage failed; this ends the pipeline when its turn comes.
    Failed(PipelineError),
    /// An item of this stage failed, and is skipped.
    Skipped {
        /// How many items had entered the stage before.
        index: u64,
        /// What the function returned.
        error: Box<dyn Error + Send + Sync>,
    },
    /// Another error that ends the pipeline when its turn comes.
    Error(PipelineError),
    /// Nothing: a slot that was reserved for an item that never came.
    Unused,
}

/// Why a driver stopped feeding a window. Shown after everything that it fed.
#[derive(Clone)]
pub(crate) struct Last(
    /// Set before the driver closes the window. Until then it is what is so if the runtime drops it.
    Arc<Mutex<Option<PipelineError>>>,
);

impl Last {
    /// Of a driver that has not begun.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(PipelineError::NoRuntime))))
    }

    /// It has fed what there was: without a reason, if none was left.
    pub(crate) fn settle(&self) {
        self.0.lock().take_if(|last| matches!(last, PipelineError::NoRuntime));
    }

    /// Leaves an error to be shown at the end.
    pub(crate) fn set(&self, error: PipelineError) {
        *self.0.lock() = Some(error);
    }

    /// What to put in the last slot for an error of the upstream. Ordered, it comes out after
    /// everything that was reserved before; unordered, as soon as it is there. An upstream that just
    /// ended early is shown behind everything in either order.
    pub(crate) fn turn<T>(&self, error: PipelineError) -> Passed<T> {
        match error {
            PipelineError::Ended(_) => {
                self.set(error);
                Passed::Unused
            }
            error => Passed::Error(error),
        }
    }
}

/// The results of workers.
pub struct WindowFlow<T> {
    /// Where they come out.
    pub(crate) exit: Exit<Passed<T>>,
    /// Why the driver stopped.
    pub(crate) last: Last,
    /// The run's.
    pub(crate) ctx: Context,
    /// What went through.
    pub(crate) counts: Arc<Counts>,
    /// Who is told of failed items, if they are skipped.
    pub(crate) on_skip: Option<OnSkip>,
    /// Whether an item was lost to a cancel.
    pub(crate) gaps: bool,
    /// The error for a gap that no cancel explains, by its number.
    pub(crate) lost: Box<dyn Fn(u64) -> PipelineError + Send>,
}

impl<T> fmt::Debug for WindowFlow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowFlow").finish_non_exhaustive()
    }
}

// Nothing in it is pinned.
impl<T> Unpin for WindowFlow<T> {}

impl<T: Send + 'static> Flow for WindowFlow<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<T> {
        let this = self.get_mut();
        loop {
            return Poll::Ready(match ready!(this.exit.poll_next(cx)) {
                Some(Emitted::Item { value: Passed::Item(item), .. }) => {
                    // Relaxed: see `Counts::read` for the reader.
                    this.counts.passed.fetch_add(1, Ordering::Relaxed);
                    Some(Ok(item))
                }
                Some(Emitted::Item { value: Passed::Failed(error), .. }) => {
                    // Relaxed: as above.
                    this.counts.failed.fetch_add(1, Ordering::Relaxed);
                    Some(Err(error))
                }
                Some(Emitted::Item { value: Passed::Skipped { index, error }, .. }) => {
                    let on_skip = this.on_skip.as_mut();
                    let told = on_skip.map(|f| skip(f, this.counts.name(), index, error));
                    let (count, result) = match told.transpose() {
                        Ok(_) => (&this.counts.skipped, None),
                        Err(panicked) => (&this.counts.failed, Some(Err(panicked))),
                    };
                    // Relaxed: as above.
                    count.fetch_add(1, Ordering::Relaxed);
                    match result {
                        None => continue,
                        panicked => panicked,
                    }
                }
                Some(Emitted::Item { value: Passed::Error(error), .. }) => Some(Err(error)),
                Some(Emitted::Item { value: Passed::Unused, .. }) => continue,
                Some(Emitted::Gap { .. }) if this.ctx.is_cancelled() => {
                    this.gaps = true;
                    continue;
                }
                Some(Emitted::Gap { sequence }) => Some(Err((this.lost)(sequence))),
                None => this.end().map(Err),
            });
        }
    }
}

impl<T> WindowFlow<T> {
    /// Why it ended, if not because there is nothing more. The driver may have come to its end
    /// before a cancel that reached the items under way.
    fn end(&self) -> Option<PipelineError> {
        let last = self.last.0.lock().take();
        let cause = if self.gaps { self.ctx.cause() } else { None };
        match last {
            None | Some(PipelineError::NoRuntime) => cause.map(PipelineError::Ended).or(last),
            last => last,
        }
    }
}

/// The error for a window that cannot be made.
pub(crate) fn bad_window(stage: String, workers: usize, window: usize) -> Option<PipelineError> {
    let what = if workers == 0 {
        "has no workers, give it at least 1".to_owned()
    } else if window < workers {
        format!("has a window of {window} for {workers} workers, give it at least one place each")
    } else {
        return None;
    };
    Some(PipelineError::BadStage { stage, what })
}

/// The error for a window that fanio refuses.
pub(crate) fn refused(stage: String, error: &WindowError) -> PipelineError {
    PipelineError::BadStage { stage, what: format!("has an impossible window: {error}") }
}
