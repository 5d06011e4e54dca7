//! The ways in which a sweep ends a future.

use std::fmt;
use std::ops::RangeInclusive;

/// What a run of [`sweep`](crate::sweep()) does to its future; the table there lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Polled after each step until it is ready.
    Count,
    /// Polled only when woken, until it is ready.
    WhenWoken,
    /// Dropped after k pending polls.
    Drop,
    /// Dropped after k pending polls and the step that follows them.
    WakeThenDrop,
    /// Dropped after k pending polls, on another thread.
    DropElsewhere,
    /// Dropped after k pending polls, by a panic that unwinds.
    Panic,
    /// Cancelled after k pending polls, then polled until it is ready.
    Cancel,
    /// Cancelled after k pending polls and the step that follows them, then polled until ready.
    WakeThenCancel,
}

impl Mode {
    /// Every mode but `Count`, in the order in which they run: the plainest violation first.
    pub(super) const AFTER_COUNTING: [Self; 7] = [
        Self::WhenWoken,
        Self::Drop,
        Self::WakeThenDrop,
        Self::DropElsewhere,
        Self::Panic,
        Self::Cancel,
        Self::WakeThenCancel,
    ];

    /// The k at which the mode is run, for a future of `pending_points` pending polls.
    pub(super) fn points(self, pending_points: usize) -> RangeInclusive<usize> {
        match self {
            Self::Count | Self::WhenWoken => pending_points..=pending_points,
            // There is no step to make before the first pending poll.
            Self::WakeThenDrop | Self::WakeThenCancel => 1..=pending_points,
            Self::Drop | Self::DropElsewhere | Self::Panic | Self::Cancel => 0..=pending_points,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "count",
            Self::WhenWoken => "when woken",
            Self::Drop => "drop",
            Self::WakeThenDrop => "wake then drop",
            Self::DropElsewhere => "drop elsewhere",
            Self::Panic => "panic",
            Self::Cancel => "cancel",
            Self::WakeThenCancel => "wake then cancel",
        })
    }
}
