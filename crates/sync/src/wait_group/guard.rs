//! The guards: what a wait group counts, borrowed or owned.

use std::fmt;
use std::sync::Arc;

use super::WaitGroup;

/// Counts in a [`WaitGroup`] while it lives; its drop is the done.
///
/// The last drop wakes whoever waits. A waker that panics makes it panic, after everybody was woken;
/// in a thread that unwinds already it ends there. A guard that is forgotten counts for ever.
#[must_use = "it counts until it is dropped: bind it to a name, `_` drops it at once"]
pub struct WaitGuard<'a> {
    /// Where it counts.
    group: &'a WaitGroup,
    /// How much.
    count: usize,
}

impl<'a> WaitGuard<'a> {
    /// `count` that was added to `group`.
    pub(super) fn new(group: &'a WaitGroup, count: usize) -> Self {
        Self { group, count }
    }

    /// How much it counts.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Moves `n` of what it counts to a guard of their own; none if it counts less. The group's count
    /// does not change.
    pub fn split(&mut self, n: usize) -> Option<Self> {
        self.count = self.count.checked_sub(n)?;
        Some(Self::new(self.group, n))
    }
}

impl Drop for WaitGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.count > 0 {
            self.group.gate.done(self.count);
        }
    }
}

impl fmt::Debug for WaitGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGuard")
            .field("count", &self.count)
            .field("group", &self.group.origin)
            .finish()
    }
}

/// Counts in a [`WaitGroup`], which it keeps alive, while it lives; its drop is the done. Otherwise as
/// [`WaitGuard`].
#[must_use = "it counts until it is dropped: bind it to a name, `_` drops it at once"]
pub struct OwnedWaitGuard {
    /// Where it counts.
    group: Arc<WaitGroup>,
    /// How much.
    count: usize,
}

impl OwnedWaitGuard {
    /// `count` that was added to `group`.
    pub(super) fn new(group: Arc<WaitGroup>, count: usize) -> Self {
        Self { group, count }
    }

    /// How much it counts.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Moves `n` of what it counts to a guard of their own; none if it counts less. The group's count
    /// does not change.
    pub fn split(&mut self, n: usize) -> Option<Self> {
        self.count = self.count.checked_sub(n)?;
        Some(Self::new(Arc::clone(&self.group), n))
    }
}

impl Drop for OwnedWaitGuard {
    #[inline]
    fn drop(&mut self) {
        if self.count > 0 {
            self.group.gate.done(self.count);
        }
    }
}

impl fmt::Debug for OwnedWaitGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedWaitGuard")
            .field("count", &self.count)
            .field("group", &self.group.origin)
            .finish()
    }
}
