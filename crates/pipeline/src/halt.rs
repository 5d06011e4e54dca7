//! The stop policy: the first failure ends the admission of items.

use std::time::Duration;

use selvedge_cancel::Canceller;

/// Ends the admission of items, because one has failed.
#[derive(Clone)]
pub(crate) struct Halt {
    /// The run's.
    canceller: Canceller,
}

impl Halt {
    /// Of the run that `canceller` ends.
    pub(crate) fn new(canceller: &Canceller) -> Self {
        Self { canceller: canceller.clone() }
    }

    /// The source gives nothing more; what is under way goes on.
    pub(crate) fn halt(&self) {
        self.canceller.stop(Duration::MAX);
    }
}
