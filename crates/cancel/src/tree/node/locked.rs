//! A node's lock, held: the way to its children, to those who wait, to the walk through it, and to its removal.
//!
//! Notes name the guards and the rules N1 to N5 of the page above.
#![expect(unsafe_code, reason = "what the lock of a node guards")]

use std::ptr::NonNull;
use std::sync::Arc;

use selvedge_primitives::{List, SpinGuard, WakeBatch, is_wanted, let_in, thread};

use super::{Flag, Flags, Limit, Node, Ptr, Slot};
use crate::Cause;
use crate::cause::raw;
use crate::tree::word::{By, Level, Word};

impl Node {
    /// Locks it.
    #[inline]
    pub(in crate::tree) fn lock(&self) -> Locked<'_> {
        Locked { node: self, flags: self.lock.lock() }
    }
}

/// A node's lock, held: the way to what it guards.
#[must_use = "the lock is released when this is dropped"]
pub(in crate::tree) struct Locked<'a> {
    /// The node.
    node: &'a Node,
    /// The lock, and the flags behind it.
    pub(in crate::tree) flags: SpinGuard<'a, Flags>,
}

impl<'a> Locked<'a> {
    /// The node.
    pub(in crate::tree) fn node(&self) -> &'a Node {
        self.node
    }

    /// Whether somebody waits for the lock.
    #[inline]
    pub(in crate::tree) fn is_wanted(&self) -> bool {
        is_wanted(&self.flags)
    }

    /// Locks again, after those who wait. The node has to stay there meanwhile.
    #[cold]
    pub(in crate::tree) fn again(self) -> Self {
        let node = self.node;
        let_in(self.flags);
        node.lock()
    }

    /// The flag word.
    #[inline]
    pub(in crate::tree) fn word(&self) -> Word {
        self.node.word.get()
    }

    /// Writes the flag word.
    #[inline]
    pub(in crate::tree) fn set_word(&mut self, word: Word) {
        self.node.word.set(word);
    }

    /// Sets the flags of `level`, with the cause if they are the first. Returns the word before.
    #[inline]
    pub(in crate::tree) fn raise(&mut self, level: Level, cause: &Cause, by: By) -> Word {
        let old = self.word();
        if !old.has(Level::Stopping) {
            // SAFETY: guarded by the lock that is held here, and nobody reads it before there is a flag.
            unsafe { self.node.cause.set(raw::into_raw(cause.clone())) };
        }
        self.set_word(old.raised(level, by));
        old
    }

    /// Whether `cause` is what the node has for one. (If not, it may be the same all the same.)
    pub(in crate::tree) fn has_cause(&self, cause: &Cause) -> bool {
        // SAFETY: guarded by the lock that is held here.
        let held = unsafe { self.node.cause.get() };
        raw::is(held, cause)
    }

    /// The first child on a side.
    fn first(&self, side: usize) -> Option<Ptr> {
        // SAFETY: guarded by the lock that is held here.
        unsafe { self.node.children[side].get() }
    }

    /// The sibling after a child, on the same side.
    fn after(&self, child: &Node) -> Option<Ptr> {
        // SAFETY: the links of a child are guarded by the lock that is held here.
        unsafe { child.next.get() }
    }

    /// The only child, or whether there is none, or more.
    pub(in crate::tree) fn only_child(&self) -> OnlyChild {
        let first = match (self.first(0), self.first(1)) {
            (None, None) => return OnlyChild::None,
            (Some(_), Some(_)) => return OnlyChild::More,
            (Some(first), None) | (None, Some(first)) => first,
        };
        // SAFETY: N3.
        match self.after(unsafe { Node::at(first) }) {
            None => OnlyChild::One(first),
            Some(_) => OnlyChild::More,
        }
    }

    /// Holds the node for a walk through its children.
    pub(in crate::tree) fn hold(&mut self) {
        self.flags.set(Flag::Held);
        self.flags.clear(Flag::Second);
        let first = self.first(0);
        self.set_cursor(first);
    }

    /// Puts the walk at a child.
    fn set_cursor(&mut self, child: Option<Ptr>) {
        // SAFETY: guarded by the lock that is held here.
        unsafe { self.node.cursor.set(child) };
    }

    /// The child that the walk visits next.
    pub(in crate::tree) fn visited(&mut self) -> Option<Ptr> {
        loop {
            // SAFETY: guarded by the lock that is held here.
            let child = unsafe { self.node.cursor.get() };
            if child.is_some() || self.flags.is(Flag::Second) {
                return child;
            }
            self.flags.set(Flag::Second);
            let first = self.first(1);
            self.set_cursor(first);
        }
    }

    /// Moves the walk on, from the child that it visits.
    pub(in crate::tree) fn move_on(&mut self, child: &Node) {
        let next = self.after(child);
        self.set_cursor(next);
    }

    /// Moves the cursor from one child to another, if it is there.
    fn move_cursor(&mut self, from: Ptr, to: Option<Ptr>) {
        // SAFETY: guarded by the lock that is held here.
        if unsafe { self.node.cursor.get() } == Some(from) {
            self.set_cursor(to);
        }
    }

    /// Links a node that nobody has seen yet as the first child of the calling thread's side.
    pub(in crate::tree) fn link_child(&mut self, child: &Node) {
        let side = thread::number() % 2;
        // SAFETY: nobody else has seen the child.
        unsafe { child.parent.set(Some(NonNull::from(self.node))) };
        let first = self.first(side);
        self.put(NonNull::from(&self.node.children[side]), Some(child));
        self.put(
            NonNull::from(&child.next),
            first.map(|first| {
                // SAFETY: N3.
                unsafe { Node::at(first) }
            }),
        );
    }

    /// Takes a child out of the list.
    ///
    /// # Safety
    ///
    /// It is a child of this node.
    pub(in crate::tree) unsafe fn unlink_child(&mut self, child: &Node) {
        let next = self.after(child);
        self.move_cursor(NonNull::from(child), next);
        self.put(
            self.slot(child),
            next.map(|next| {
                // SAFETY: N3.
                unsafe { Node::at(next) }
            }),
        );
    }

    /// Puts `heir`, the only child of `child`, in the place of `child`.
    ///
    /// # Safety
    ///
    /// `child` is a child of this node; the caller owns its removal and has its lock and that of `heir`.
    pub(in crate::tree) unsafe fn replace_child(&mut self, child: &Node, heir: &Node) {
        let next = self.after(child);
        self.move_cursor(NonNull::from(child), Some(NonNull::from(heir)));
        // SAFETY: the caller has the locks of the old parent, of this new one and of the heir.
        unsafe { heir.parent.set(Some(NonNull::from(self.node))) };
        self.put(self.slot(child), Some(heir));
        self.put(
            NonNull::from(&heir.next),
            next.map(|next| {
                // SAFETY: N3.
                unsafe { Node::at(next) }
            }),
        );
    }

    /// What points to a child.
    fn slot(&self, child: &Node) -> NonNull<Slot> {
        // SAFETY: the links of a child are guarded by the lock that is held here.
        unsafe { child.slot.get() }.expect("a child that is linked")
    }

    /// Has one of this node's lists go on from `slot` with `child`. The slot is one of this node's, or of a child that
    /// is in the list or about to be; so it is guarded by the lock that is held here, as is `child`.
    fn put(&mut self, slot: NonNull<Slot>, child: Option<&Node>) {
        // SAFETY: it lies in this node, or in a child (N3).
        let place = unsafe { slot.as_ref() };
        // SAFETY: guarded by the lock that is held here.
        unsafe { place.set(child.map(NonNull::from)) };
        if let Some(child) = child {
            // SAFETY: as above.
            unsafe { child.slot.set(Some(slot)) };
        }
    }

    /// Who waits for `level`.
    #[inline]
    pub(in crate::tree) fn waiters(&mut self, level: Level) -> &mut List<(), ()> {
        let list = self.node.waiters[level as usize].with_mut(|list| list);
        // SAFETY: guarded by the lock that is held here, and borrowed from the guard.
        unsafe { &mut *list }
    }

    /// Puts the node into the list of a walk that has brought `level` and has still to wake here.
    pub(in crate::tree) fn queue(&mut self, level: Level) {
        self.set_word(self.word().listed());
        self.flags.set(Flag::Queued);
        if level == Level::Cancelled {
            self.flags.set(Flag::Later);
        }
    }

    /// Takes it out of that list.
    pub(in crate::tree) fn dequeue(&mut self) {
        self.flags.clear(Flag::Queued);
        self.flags.clear(Flag::Later);
    }

    /// What the walk has brought in whose list it is, if it is in one.
    pub(in crate::tree) fn queued_for(&self) -> Option<Level> {
        match (self.flags.is(Flag::Queued), self.flags.is(Flag::Later)) {
            (false, _) => None,
            (true, false) => Some(Level::Stopping),
            (true, true) => Some(Level::Cancelled),
        }
    }

    /// Whether anybody waits.
    pub(in crate::tree) fn is_waited_for(&mut self) -> bool {
        [Level::Stopping, Level::Cancelled].iter().any(|level| !self.waiters(*level).is_empty())
    }

    /// Takes all who wait for `level`, or for less, into the batch; but for those who wait for a stop, if the walk that brought
    /// it has still to wake them. False if they do not fit.
    pub(in crate::tree) fn take_waiters(&mut self, level: Level, batch: &mut WakeBatch) -> bool {
        let others = level == Level::Cancelled && self.queued_for() == Some(Level::Stopping);
        (others || self.waiters(Level::Stopping).grant_all((), batch))
            && (level == Level::Stopping || self.waiters(Level::Cancelled).grant_all((), batch))
    }

    /// The end of the grace, if a stop gave one.
    pub(in crate::tree) fn grace(&self) -> Option<Arc<Limit>> {
        self.node.grace.with(|grace| {
            // SAFETY: guarded by the lock that is held here.
            let grace = unsafe { &*grace };
            grace.clone()
        })
    }

    /// Whether the end of the grace is past.
    pub(in crate::tree) fn is_past_grace(&self) -> bool {
        self.node.grace.with(|grace| {
            // SAFETY: guarded by the lock that is held here.
            let grace = unsafe { &*grace };
            grace.as_ref().is_some_and(|grace| grace.is_past())
        })
    }

    /// Replaces the end of the grace. Returns what was there, to be dropped with no lock held.
    pub(in crate::tree) fn replace_grace(&mut self, to: Option<Arc<Limit>>) -> Option<Arc<Limit>> {
        self.node.grace.with_mut(|grace| {
            // SAFETY: guarded by the lock that is held here.
            let grace = unsafe { &mut *grace };
            std::mem::replace(grace, to)
        })
    }

    /// Takes over the removal of the node, if it is to be removed and nobody else does it or stands in the
    /// way; see `leave.rs`.
    pub(in crate::tree) fn claim_removal(&mut self) -> bool {
        let claimed = self.flags.is(Flag::Dead)
            && !self.flags.is(Flag::Leaving)
            && !self.is_detained()
            && match self.only_child() {
                OnlyChild::None => true,
                // What a shield or a link does for the child, nothing else would do.
                OnlyChild::One(_) => {
                    let word = self.word();
                    !(word.has_shield() || word.is_linked()) || word.was_walked(Level::Cancelled)
                }
                OnlyChild::More => false,
            };
        if claimed {
            self.flags.set(Flag::Leaving);
        }
        claimed
    }

    /// Whether whoever owns the removal has to leave it to a walk, or to those who have entered.
    pub(in crate::tree) fn is_detained(&self) -> bool {
        self.flags.is(Flag::Held)
            || self.node.is_pinned()
            || self.flags.is(Flag::Queued)
            || self.node.tracker().is_some_and(|tracker| tracker.detains(self.node))
    }
}

/// How many children there are, as far as it matters.
pub(in crate::tree) enum OnlyChild {
    /// None.
    None,
    /// This one.
    One(Ptr),
    /// Two or more.
    More,
}

/// Makes a root of what was the only child of a root. (It may be held by a walk that started there.)
///
/// # Safety
///
/// The caller has the locks of the old root and of `heir`, and owns the removal of the old root.
pub(in crate::tree) unsafe fn make_root(heir: &Locked<'_>) {
    let node = heir.node;
    // SAFETY: the caller has the locks that guard the link to the parent, and those of a child.
    unsafe { node.parent.set(None) };
    // SAFETY: as above.
    unsafe { node.slot.set(None) };
}
