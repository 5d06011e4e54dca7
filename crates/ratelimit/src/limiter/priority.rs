//! Who goes first in a line.

use selvedge_primitives::LineId;

/// Who goes first in the line of a [`Limiter`](crate::Limiter): all of a class before those of the next. In a class it is
/// first in, first out.
///
/// A class that never ends starves those behind it: that is what a priority is. Give the limit to
/// each class, and a priority to none, where everybody is to get something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before all others.
    High,
    /// What is not said otherwise.
    #[default]
    Normal,
    /// When nobody else waits.
    Low,
}

impl Priority {
    /// From the first to the last.
    pub(super) const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The number of its line.
    pub(super) const fn line(self) -> LineId {
        LineId::of_number(self as usize)
    }
}
