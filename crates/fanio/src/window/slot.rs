//! A reserved place in a window.

use std::fmt;
use std::sync::Arc;

use super::engine::Shared;

/// A place in a window, reserved before the work for it starts; from
/// [`Entry::reserve`](crate::Entry::reserve).
///
/// The work carries it along and ends with [`complete`](Self::complete), which never waits: the
/// room is there. A slot that is dropped uncompleted (the work failed, panicked or was cancelled)
/// leaves a gap, which the exit names by its [`sequence`](Self::sequence): nothing is lost in
/// silence, and nothing waits for what will not come. It keeps neither end of the window open.
#[must_use = "a slot that is dropped uncompleted leaves a gap"]
pub struct Slot<T> {
    /// The window.
    shared: Arc<Shared<T>>,
    /// Its number.
    sequence: u64,
    /// Whether it is neither completed nor dropped.
    open: bool,
}

impl<T> Slot<T> {
    /// A slot that was just taken.
    pub(super) const fn new(shared: Arc<Shared<T>>, sequence: u64) -> Self {
        Self { shared, sequence, open: true }
    }

    /// Its number: slots are numbered from 0 in the order in which they were reserved, without
    /// holes.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Puts the result in its place. Never waits, and wakes the exit only if this is what it waits
    /// for.
    ///
    /// If the exit is gone, the value is dropped here and counted as
    /// [`discarded`](crate::Counts::discarded).
    ///
    /// # Panics
    ///
    /// When the exit is gone and the destructor of the value panics.
    pub fn complete(mut self, value: T) {
        self.open = false;
        self.shared.settle(self.sequence, Some(value));
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if self.open {
            self.shared.settle(self.sequence, None);
        }
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}
