//! The flag word of a node: what the world reads of it without a lock, and what walks, waiters and
//! children agree upon by one read-modify-write each.
//!
//! ```text
//!    13       12     11      10       9        8       7       6         5         4       3        2          1          0
//! +--------+---------+-----+--------+-------+--------+-------+---------+---------+----------+-------+----------+-----------+----------+
//! | LISTED | TRACKED | TOP | SHIELD | ARMED | QUEUED | ENDED | STOPPED | WAITERS | CHILDREN | GRACE | DEADLINE | CANCELLED | STOPPING |
//! +--------+---------+-----+--------+-------+--------+-------+---------+---------+----------+-------+----------+-----------+----------+
//! ```
//!
//! | CANCELLED | STOPPING | meaning | left by |
//! |---|---|---|---|
//! | 0 | 0 | running | a walk, or a reader that finds a limit past |
//! | 0 | 1 | asked to finish | a walk, or a reader that finds a limit past |
//! | 1 | 1 | ended, final | nobody |
//!
//! | bit | says | cleared |
//! |---|---|---|
//! | DEADLINE | the node carries a deadline: a look costs a read of the clock | never |
//! | GRACE | it carries the end of a grace: a look costs a lock as well | never |
//! | CHILDREN | it has had a child: a walk has to go in | never |
//! | WAITERS | somebody has waited on it: a walk has to wake | never |
//! | STOPPED | a walk has brought STOPPING, and wakes who waits for it | never |
//! | ENDED | a walk has brought CANCELLED, and wakes who waits for it | never |
//! | QUEUED | it is in the list of a walk that has still to wake | by that walk, unless ENDED |
//! | ARMED | dropping the last canceller cancels | by `detach` |
//! | SHIELD | a cancel from above is a stop here, until the shield's time is over | never |
//! | TOP | it is, or was, the top of a limit: when it goes, that has to be handed on | never |
//! | TRACKED | somebody has entered it | never |
//! | LISTED | it has been QUEUED | never |
//!
//! CHILDREN and WAITERS meet the flags of a level in this one word: who sets one of the bits and does not
//! find the flag has been seen by the walk that sets it later.

use std::fmt;

use selvedge_primitives::atomic::{AtomicU32, Ordering};

/// Asked to finish.
const STOPPING: u32 = 1;
/// Ended.
const CANCELLED: u32 = 1 << 1;
/// There is a deadline: ask the clock.
const DEADLINE: u32 = 1 << 2;
/// There is the end of a grace: ask for it under the lock, and the clock.
const GRACE: u32 = 1 << 3;
/// There has been a child.
const CHILDREN: u32 = 1 << 4;
/// There has been a waiter.
const WAITERS: u32 = 1 << 5;
/// A walk brought STOPPING.
const STOPPED: u32 = 1 << 6;
/// A walk brought CANCELLED.
const ENDED: u32 = 1 << 7;
/// In the list of a walk.
const QUEUED: u32 = 1 << 8;
/// Dropping the last canceller cancels.
const ARMED: u32 = 1 << 9;
/// A cancel from above is a stop.
const SHIELD: u32 = 1 << 10;
/// The top of a limit.
const TOP: u32 = 1 << 11;
/// Somebody has entered.
const TRACKED: u32 = 1 << 12;
/// A walk has had it in its list.
const LISTED: u32 = 1 << 13;

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// STOPPING.
    Stopping,
    /// CANCELLED.
    Cancelled,
}

impl Level {
    /// The bit that says it is reached.
    const fn bit(self) -> u32 {
        match self {
            Level::Stopping => STOPPING,
            Level::Cancelled => CANCELLED,
        }
    }

    /// The bits that reaching it sets.
    const fn bits(self) -> u32 {
        match self {
            Level::Stopping => STOPPING,
            Level::Cancelled => STOPPING | CANCELLED,
        }
    }

    /// The bit that says a walk brought it.
    const fn walked(self) -> u32 {
        match self {
            Level::Stopping => STOPPED,
            Level::Cancelled => ENDED,
        }
    }
}

/// Who sets the flags of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Somebody who looked at the clock: it wakes nobody.
    Look,
    /// A walk, at the node where it starts, which its caller keeps: it wakes there without a list.
    Start,
    /// A walk, further down: it puts the node into its list.
    Walk,
}

/// The word as somebody read it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u32);

impl Word {
    /// A node that runs, armed.
    pub(super) const fn fresh(deadline: bool, shield: bool) -> Self {
        let deadline = if deadline { DEADLINE } else { 0 };
        let shield = if shield { SHIELD } else { 0 };
        Self(ARMED | deadline | shield)
    }

    /// The same node below one that is stopping.
    pub(super) const fn stopping(self, grace: bool) -> Self {
        let grace = if grace { GRACE } else { 0 };
        Self(self.0 | STOPPING | STOPPED | grace)
    }

    /// The same node below one that is cancelled.
    pub(super) const fn cancelled(self) -> Self {
        Self(self.0 | STOPPING | CANCELLED | STOPPED | ENDED)
    }

    /// Whether a look at `level` has nothing to tell, and no clock to ask: what is true nearly always.
    #[inline]
    pub(super) const fn is_quiet(self, level: Level) -> bool {
        self.0 & (level.bit() | DEADLINE | GRACE) == 0
    }

    /// Whether the flag of `level` is set.
    #[inline]
    pub(super) const fn has(self, level: Level) -> bool {
        self.0 & level.bit() != 0
    }

    /// Whether a look has to ask a clock.
    #[inline]
    pub(super) const fn is_limited(self) -> bool {
        self.0 & (DEADLINE | GRACE) != 0
    }

    /// Whether there is the end of a grace.
    pub(super) const fn has_grace(self) -> bool {
        self.0 & GRACE != 0
    }

    /// Whether there has been a child.
    pub(super) const fn has_children(self) -> bool {
        self.0 & CHILDREN != 0
    }

    /// Whether there has been a waiter.
    pub(super) const fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    /// Whether a walk brought `level`.
    pub(super) const fn was_walked(self, level: Level) -> bool {
        self.0 & level.walked() != 0
    }

    /// Whether a walk has still to wake here, and says so in this word.
    pub(super) const fn is_queued(self) -> bool {
        self.0 & QUEUED != 0
    }

    /// Of the word before a walk brought `level`: whether that walk is the first and somebody has waited. It then
    /// has to wake, unless another walk has the node in its list.
    pub(super) const fn owes_wakes(self, level: Level) -> bool {
        !self.was_walked(level) && self.has_waiters()
    }

    /// Whether somebody has entered.
    pub(super) const fn is_tracked(self) -> bool {
        self.0 & TRACKED != 0
    }

    /// Whether dropping the last canceller cancels.
    pub(super) const fn is_armed(self) -> bool {
        self.0 & ARMED != 0
    }

    /// Whether there has been no child, no limit of its own, and no walk has had it in its list. Nobody but its parent's
    /// list leads to such a node once its handles are gone.
    #[inline]
    pub(super) const fn is_simple(self) -> bool {
        self.0 & (CHILDREN | TOP | GRACE | SHIELD | LISTED | TRACKED) == 0
    }

    /// The word in which `level` is reached.
    const fn raised(self, level: Level, by: By) -> Self {
        let fresh = !self.was_walked(level);
        // A cancel wakes those who wait for STOPPING as well.
        let walked = if let Level::Cancelled = level { STOPPED | ENDED } else { STOPPED };
        Self(match by {
            By::Look => self.0 | level.bits(),
            By::Start => self.0 | level.bits() | walked,
            By::Walk if fresh && self.has_waiters() => {
                self.0 | level.bits() | walked | QUEUED | LISTED
            }
            By::Walk => self.0 | level.bits() | walked,
        })
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Word({:b})", self.0)
    }
}

/// The word itself.
pub(super) struct FlagWord(AtomicU32);

impl FlagWord {
    /// A word.
    pub(super) fn new(word: Word) -> Self {
        Self(AtomicU32::new(word.0))
    }

    /// The word of what never ends: nobody writes it.
    #[cfg(not(selvedge_loom))]
    pub(super) const fn never() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Sets the word of a node that nobody else has seen yet.
    pub(super) fn init(&self, word: Word) {
        // Relaxed: whoever sees the node was handed it.
        self.0.store(word.0, Ordering::Relaxed);
    }

    /// Reads it.
    #[inline]
    pub(super) fn load(&self) -> Word {
        // Acquire: pairs with the Release in `raise`; what the canceller did before is visible to
        // whoever sees the flag.
        Word(self.0.load(Ordering::Acquire))
    }

    /// Sets the flags of `level`. The cause is there already. Returns the word before.
    #[inline]
    pub(super) fn raise(&self, level: Level, by: By) -> Word {
        let raised = |old: u32| Some(Word(old).raised(level, by).0);
        // Release: publishes the cause, and what the canceller did before, for the Acquire in `load` and in `announce`. Of
        // the bits that it finds, each stands for something behind the node's lock.
        // Relaxed: on failure the word is read again.
        let updated = self.0.fetch_update(Ordering::Release, Ordering::Relaxed, raised);
        Word(updated.unwrap_or_else(|old| old))
    }

    /// Says that there is a child from now on. Returns the word before. Call it under the node's lock.
    pub(super) fn announce_child(&self) -> Word {
        self.announce(CHILDREN)
    }

    /// Says that there is a waiter from now on. Returns the word before. Call it under the node's lock.
    pub(super) fn announce_waiter(&self) -> Word {
        self.announce(WAITERS)
    }

    /// Says that somebody has entered from now on: there is a tracker. Returns the word before.
    pub(super) fn announce_tracker(&self) -> Word {
        let word = self.load();
        if word.is_tracked() {
            // A walk that sets the flags after this look finds the tracker, and takes the shard's lock later.
            return word;
        }
        // AcqRel: no lock is held, so this publishes the tracker, for the Acquire in `load`. And as in `announce`.
        Word(self.0.fetch_or(TRACKED, Ordering::AcqRel))
    }

    /// Sets a bit that walks look for.
    fn announce(&self, bit: u32) -> Word {
        let word = self.load();
        if word.0 & bit != 0 {
            // A walk that sets the flags after this look takes the node's lock later.
            return word;
        }
        // Acquire: of two read-modify-writes of one word the later one sees the earlier, so a walk sees the bit or the
        // caller the flag; that pairs with the Release in `raise`, before which the cause was stored. What the bit
        // announces lies behind the lock that the caller holds.
        Word(self.0.fetch_or(bit, Ordering::Acquire))
    }

    /// Says that there is a grace. Call it under the node's lock, behind which the grace lies. Returns
    /// the word before.
    pub(super) fn announce_grace(&self) -> Word {
        // Relaxed: whoever sees it takes the lock to look at the grace.
        Word(self.0.fetch_or(GRACE, Ordering::Relaxed))
    }

    /// Says that it is the top of a limit. Call it under the node's lock, or before anybody has seen the node.
    pub(super) fn announce_top(&self) {
        // Relaxed: read when the last handle is gone, which the count puts after this; or under the lock.
        self.0.fetch_or(TOP, Ordering::Relaxed);
    }

    /// The walk that had it in its list has woken all who waited for what `seen` says is reached. False if
    /// another flag has come meanwhile.
    pub(super) fn dequeue(&self, seen: Word) -> bool {
        let new = seen.0 & !QUEUED;
        // Relaxed: what counts is the order of the exchanges of this one word. A walk that found QUEUED, and left its wakes
        // to this one, has changed the word that was seen; one that comes later queues the node again. What lies behind the
        // word is read under the node's lock.
        self.0.compare_exchange(seen.0, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Dropping the last canceller does not cancel any more.
    pub(super) fn disarm(&self) {
        // Relaxed: read when the last canceller is dropped, which the count puts after this.
        self.0.fetch_and(!ARMED, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_what_was_put_into_it() {
        for (deadline, shield) in [(false, false), (true, false), (false, true), (true, true)] {
            let fresh = Word::fresh(deadline, shield);
            assert!(fresh.is_armed() && !fresh.has(Level::Stopping));
            assert_eq!(fresh.is_limited(), deadline);
            assert_eq!(fresh.is_quiet(Level::Cancelled), !deadline);
            assert_eq!(fresh.is_simple(), !shield);
            let stopping = fresh.stopping(true);
            assert!(stopping.has(Level::Stopping) && !stopping.has(Level::Cancelled));
            assert!(stopping.has_grace() && stopping.was_walked(Level::Stopping));
            let cancelled = fresh.cancelled();
            assert!(cancelled.has(Level::Stopping) && cancelled.has(Level::Cancelled));
            assert!(cancelled.was_walked(Level::Cancelled) && !cancelled.is_queued());
        }
    }

    #[test]
    fn the_first_walk_of_a_level_queues_a_node_with_waiters_and_no_later_one_does() {
        let waits = Word(Word::fresh(false, false).0 | WAITERS);
        let stopped = waits.raised(Level::Stopping, By::Walk);
        assert!(stopped.is_queued());
        let woken = Word(stopped.0 & !QUEUED);
        assert!(!woken.raised(Level::Stopping, By::Walk).is_queued());
        assert!(woken.raised(Level::Cancelled, By::Walk).is_queued());
        assert!(!waits.raised(Level::Cancelled, By::Start).is_queued());
    }
}
