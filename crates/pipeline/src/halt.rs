//! How a stage ends the whole run: the stop policy, and faults that are nobody's item.

use std::sync::Arc;
use std::time::Duration;

use selvedge_cancel::Canceller;
use selvedge_primitives::Mutex;

use crate::PipelineError;

/// A stage's hold on the run.
#[derive(Clone)]
pub(crate) struct Halt {
    /// The run's.
    canceller: Canceller,
    /// What went wrong beside the items; the first.
    fault: Arc<Mutex<Option<PipelineError>>>,
}

impl Halt {
    /// Of the run that `canceller` ends.
    pub(crate) fn new(canceller: &Canceller) -> Self {
        Self { canceller: canceller.clone(), fault: Arc::default() }
    }

    /// An item has failed: the source gives nothing more; what is under way goes on.
    pub(crate) fn halt(&self) {
        self.canceller.stop(Duration::MAX);
    }

    /// Something went wrong that belongs to no item, such as a destructor that panicked. What is
    /// under way goes on; the run ends with this error unless an item failed.
    pub(crate) fn note(&self, error: PipelineError) {
        let mut fault = self.fault.lock();
        let unused = match &*fault {
            Some(_) => Some(error),
            None => fault.replace(error),
        };
        drop(fault);
        drop(unused);
    }

    /// As [`note`](Self::note), and the run ends now.
    pub(crate) fn abort(&self, error: PipelineError) {
        self.note(error);
        self.canceller.cancel();
    }

    /// What was noted.
    pub(crate) fn fault(&self) -> Option<PipelineError> {
        self.fault.lock().take()
    }
}
