//! The flag word of a node: what the world reads of it without a lock. It is written under the node's lock, by a plain
//! load and a store: a waiter, a child that is linked, and a walk that wakes or goes in take that lock for other reasons as
//! well, and a read-modify-write costs as much as the lock.
//!
//! ```text
//!   14       13       12       11       10      9       8       7       6         5         4       3        2          1          0
//! +--------+--------+--------+---------+-----+--------+-------+-------+---------+---------+----------+-------+----------+-----------+----------+
//! | LINKED | WALKED | LISTED | TRACKED | TOP | SHIELD | ARMED | ENDED | STOPPED | WAITERS | CHILDREN | GRACE | DEADLINE | CANCELLED | STOPPING |
//! +--------+--------+--------+---------+-----+--------+-------+-------+---------+---------+----------+-------+----------+-----------+----------+
//! ```
//!
//! | CANCELLED | STOPPING | meaning | left by |
//! |---|---|---|---|
//! | 0 | 0 | running | a walk, or a reader that finds a limit past and takes the lock to say so |
//! | 0 | 1 | asked to finish | a walk, or a reader that finds a limit past |
//! | 1 | 1 | ended, final | nobody |
//!
//! | bit | says | cleared |
//! |---|---|---|
//! | DEADLINE | the node carries a deadline: a look costs a read of a clock | never |
//! | GRACE | it carries the end of a grace: a look costs a lock as well | never |
//! | CHILDREN | it has had a child: a walk has to go in | never |
//! | WAITERS | somebody has waited on it: a walk has to wake | never |
//! | STOPPED | a walk has brought STOPPING, and wakes who waits for it; or it was born so | never |
//! | ENDED | a walk has brought CANCELLED, and wakes who waits for it; or it was born so | never |
//! | ARMED | dropping the last canceller cancels | by `detach` |
//! | SHIELD | a cancel from above is a stop here, until the shield's time is over | never |
//! | TOP | it is, or was, the top of a limit or the end of a link: when it goes, that has to be handed on | never |
//! | TRACKED | somebody has entered it | never |
//! | LISTED | it has been in the list of a walk that had still to wake | never |
//! | WALKED | every descendant, down to shields, was flagged CANCELLED by a walk, or will be born so | never |
//! | LINKED | something ends it from outside of the tree | never |
//!
//! Who sets CHILDREN, WAITERS or TRACKED and does not find the flag of a level is seen by the walk that sets it later.

use std::fmt;

use selvedge_primitives::atomic::{AtomicU32, Ordering, load_unshared};

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
/// Dropping the last canceller cancels.
const ARMED: u32 = 1 << 8;
/// A cancel from above is a stop.
const SHIELD: u32 = 1 << 9;
/// The top of a limit.
const TOP: u32 = 1 << 10;
/// Somebody has entered.
const TRACKED: u32 = 1 << 11;
/// A walk has had it in its list.
const LISTED: u32 = 1 << 12;
/// A cancel has been through all that is below.
const WALKED: u32 = 1 << 13;
/// Something ends it from outside of the tree.
const LINKED: u32 = 1 << 14;

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
    /// A walk: it wakes who waits.
    Walk,
}

/// The word as somebody read it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u32);

impl Word {
    /// A node that runs, armed.
    pub(super) const fn fresh(deadline: bool, shield: bool, link: bool) -> Self {
        let deadline = if deadline { DEADLINE } else { 0 };
        let shield = if shield { SHIELD } else { 0 };
        let link = if link { LINKED } else { 0 };
        Self(ARMED | deadline | shield | link)
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

    /// Of the word before a walk brought `level`: whether that walk is the first and somebody has waited.
    pub(super) const fn owes_wakes(self, level: Level) -> bool {
        !self.was_walked(level) && self.has_waiters()
    }

    /// Whether everything from here downwards (to shields, below which things end later) is flagged CANCELLED by a walk, and
    /// always will be.
    #[inline]
    pub(super) const fn is_settled(self) -> bool {
        self.0 & ENDED != 0 && (!self.has_children() || self.is_walked())
    }

    /// Whether a walk brought CANCELLED to everything below.
    pub(super) const fn is_walked(self) -> bool {
        self.0 & WALKED != 0
    }

    /// Whether its end is nobody's but its own and of those who wait for it: there is no child, and no limit ends with it.
    pub(super) const fn is_leaf(self) -> bool {
        self.0 & (CHILDREN | TOP | GRACE) == 0
    }

    /// Whether it is, or was, the top of a limit.
    pub(super) const fn is_top(self) -> bool {
        self.0 & TOP != 0
    }

    /// Whether somebody has entered.
    pub(super) const fn is_tracked(self) -> bool {
        self.0 & TRACKED != 0
    }

    /// Whether it has a shield.
    pub(super) const fn has_shield(self) -> bool {
        self.0 & SHIELD != 0
    }

    /// Whether something ends it from outside of the tree.
    pub(super) const fn is_linked(self) -> bool {
        self.0 & LINKED != 0
    }

    /// Whether dropping the last canceller cancels.
    pub(super) const fn is_armed(self) -> bool {
        self.0 & ARMED != 0
    }

    /// Whether there has been no child, limit of its own, grace or shield, nobody has entered, and no walk has had it in its
    /// list. Nobody but its parent's list leads to such a node once its handles are gone.
    #[inline]
    pub(super) const fn is_simple(self) -> bool {
        self.0 & (CHILDREN | TOP | GRACE | SHIELD | LISTED | TRACKED) == 0
    }

    /// Whether it runs, and has neither limits nor a shield: there is nothing to find out when a cancel comes from above.
    #[inline]
    pub(super) const fn is_plain(self) -> bool {
        self.0 & (STOPPING | DEADLINE | GRACE | SHIELD) == 0
    }

    /// The word in which `level` is reached.
    pub(super) const fn raised(self, level: Level, by: By) -> Self {
        // A cancel wakes those who wait for STOPPING as well.
        let walked = match (by, level) {
            (By::Look, _) => 0,
            (By::Walk, Level::Stopping) => STOPPED,
            (By::Walk, Level::Cancelled) => STOPPED | ENDED,
        };
        Self(self.0 | level.bits() | walked)
    }

    /// The word of a node that has had a child.
    pub(super) const fn with_children(self) -> Self {
        Self(self.0 | CHILDREN)
    }

    /// The word of a node that somebody has waited on.
    pub(super) const fn with_waiters(self) -> Self {
        Self(self.0 | WAITERS)
    }

    /// The word of a node that somebody has entered.
    pub(super) const fn tracked(self) -> Self {
        Self(self.0 | TRACKED)
    }

    /// The word of a node that carries the end of a grace.
    pub(super) const fn with_grace(self) -> Self {
        Self(self.0 | GRACE)
    }

    /// The word of the top of a limit.
    pub(super) const fn at_top(self) -> Self {
        Self(self.0 | TOP)
    }

    /// The word of a node that a walk has put into its list.
    pub(super) const fn listed(self) -> Self {
        Self(self.0 | LISTED)
    }

    /// The word of a node below which a cancel has been everywhere.
    pub(super) const fn walked(self) -> Self {
        Self(self.0 | WALKED)
    }

    /// The word of a node that dropping the last canceller does not cancel.
    pub(super) const fn disarmed(self) -> Self {
        Self(self.0 & !ARMED)
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

    /// Reads it.
    #[inline]
    pub(super) fn load(&self) -> Word {
        // Acquire: pairs with the Release in `set`; what the canceller did before is visible to whoever sees the flag, and so
        // is what the other bits stand for.
        Word(self.0.load(Ordering::Acquire))
    }

    /// Reads it under the node's lock, or before anybody else has seen the node.
    #[inline]
    pub(super) fn get(&self) -> Word {
        Word(load_unshared(&self.0))
    }

    /// Writes it. Call it under the node's lock, or before anybody else has seen the node.
    #[inline]
    pub(super) fn set(&self, word: Word) {
        // Release: publishes the cause, the tracker, and what the canceller did before, for the Acquire in `load`.
        self.0.store(word.0, Ordering::Release);
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_what_was_put_into_it() {
        for (deadline, shield) in [(false, false), (true, false), (false, true), (true, true)] {
            let fresh = Word::fresh(deadline, shield, false);
            assert!(fresh.is_armed() && !fresh.has(Level::Stopping));
            assert_eq!(fresh.is_limited(), deadline);
            assert_eq!(fresh.is_quiet(Level::Cancelled), !deadline);
            assert_eq!(fresh.is_simple(), !shield);
            let stopping = fresh.stopping(true);
            assert!(stopping.has(Level::Stopping) && !stopping.has(Level::Cancelled));
            assert!(stopping.has_grace() && stopping.was_walked(Level::Stopping));
            let cancelled = fresh.cancelled();
            assert!(cancelled.has(Level::Stopping) && cancelled.has(Level::Cancelled));
            assert!(cancelled.was_walked(Level::Cancelled));
        }
    }

    #[test]
    fn a_look_brings_a_level_and_no_walk() {
        let fresh = Word::fresh(false, false, false);
        let looked = fresh.raised(Level::Cancelled, By::Look);
        assert!(looked.has(Level::Cancelled) && !looked.was_walked(Level::Stopping));
        assert!(!looked.is_settled());
        let cancelled = looked.raised(Level::Cancelled, By::Walk);
        assert!(cancelled.was_walked(Level::Stopping) && cancelled.is_settled());
        assert!(!cancelled.with_children().is_settled());
        assert!(cancelled.with_children().walked().is_settled());
    }

    #[test]
    fn a_node_that_was_in_a_list_is_never_simple_again() {
        let waited_for = Word::fresh(false, false, false).with_waiters();
        assert!(waited_for.is_simple() && !waited_for.listed().is_simple());
    }
}
