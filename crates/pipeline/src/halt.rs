//! How a stage ends the whole run.

use std::time::Duration;

use selvedge_cancel::Canceller;

use crate::PipelineError;
use crate::fault::Fault;

/// A stage's hold on the run.
#[derive(Clone)]
pub(crate) struct Halt {
    /// The run's.
    canceller: Canceller,
    /// What went wrong beside the items.
    pub(crate) fault: Fault,
}

impl Halt {
    /// Of the run that `canceller` ends.
    pub(crate) fn new(canceller: &Canceller, fault: &Fault) -> Self {
        Self { canceller: canceller.clone(), fault: fault.clone() }
    }

    /// An item has failed: the source gives nothing more; what is under way goes on.
    pub(crate) fn halt(&self) {
        self.canceller.stop(Duration::MAX);
    }

    /// As [`Fault::note`], and the run ends now.
    pub(crate) fn abort(&self, error: PipelineError) {
        self.fault.note(error);
        self.canceller.cancel();
    }
}
