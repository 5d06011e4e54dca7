//! How many tasks there were, and how they ended.

/// The tasks of a [`TaskGroup`](crate::TaskGroup), counted at one moment.
///
/// `spawned` is the sum of the others and of the tasks that [run](Self::running).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Were let in.
    pub spawned: usize,
    /// Returned a value.
    pub finished: usize,
    /// Returned an error.
    pub failed: usize,
    /// Panicked, in a poll or while they were dropped.
    pub panicked: usize,
    /// Were dropped before they had ended: because the group's context was cancelled, or because
    /// their runtime was shut down.
    pub cancelled: usize,
}

impl Counts {
    /// How many have not ended.
    pub fn running(&self) -> usize {
        self.spawned - self.finished - self.failed - self.panicked - self.cancelled
    }
}
