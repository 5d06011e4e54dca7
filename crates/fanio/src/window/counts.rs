//! What went through a window, counted exactly.

/// What went through a window so far; from [`Entry::counts`](crate::Entry::counts) or
/// [`Exit::counts`](crate::Exit::counts).
///
/// One snapshot, taken under the window's lock, so the sums hold at every moment:
///
/// - [`reserved`](Self::reserved) = [`completed`](Self::completed) + [`gaps`](Self::gaps) +
///   [`open`](Self::open)
/// - `completed` + `gaps` = [`emitted`](Self::emitted) + [`discarded`](Self::discarded) +
///   [`held`](Self::held)
/// - `open` + `held` <= the capacity, while the exit is there
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Slots handed out.
    pub reserved: u64,
    /// Slots completed with a value.
    pub completed: u64,
    /// Slots dropped without one.
    pub gaps: u64,
    /// Items and gaps that the exit gave out.
    pub emitted: u64,
    /// Items and gaps that the exit did not give out, because it was dropped before.
    pub discarded: u64,
}

impl Counts {
    /// Slots that are out: neither completed nor dropped.
    pub const fn open(&self) -> u64 {
        self.reserved - self.settled()
    }

    /// Items and gaps that wait to be emitted.
    pub const fn held(&self) -> u64 {
        self.settled() - self.emitted - self.discarded
    }

    /// Slots that are not out any more.
    const fn settled(&self) -> u64 {
        self.completed + self.gaps
    }
}
