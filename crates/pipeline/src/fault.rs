//! What goes wrong in a run and belongs to no item, such as a destructor that panics.

use std::sync::Arc;

use selvedge_primitives::{Mutex, Panic};

use crate::PipelineError;

/// Where a run's stages and tasks note it.
#[derive(Clone, Default)]
pub(crate) struct Fault(
    /// The first; or the first that is no panic, as what ended the run goes before that.
    Arc<Mutex<Option<PipelineError>>>,
);

impl Fault {
    /// Notes the panic of a stage, at an item of it; as [`note`](Self::note).
    pub(crate) fn panicked(&self, stage: String, index: u64, panic: Panic) {
        self.note(PipelineError::Panicked { stage, index, panic });
    }

    /// Notes it. What is under way goes on; the run ends with this error unless an item failed.
    pub(crate) fn note(&self, error: PipelineError) {
        let is_panic = |error: &PipelineError| matches!(error, PipelineError::Panicked { .. });
        let mut fault = self.0.lock();
        let unused = match &*fault {
            Some(first) if is_panic(&error) || !is_panic(first) => Some(error),
            _ => fault.replace(error),
        };
        drop(fault);
        drop(unused);
    }

    /// What was noted.
    pub(crate) fn take(&self) -> Option<PipelineError> {
        self.0.lock().take()
    }
}
