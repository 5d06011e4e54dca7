//! Walks: how a cancel or a stop reaches every descendant.
//!
//! # The flag pass
//!
//! A walk goes through the tree in place, parents first, from child to child under the parent's lock, which it gives back
//! now and then when somebody else wants it, and before it goes into one. Each child it flags under the child's own lock.
//! It *holds* the nodes on its path: the one through whose children it goes, and those above up to where it began. A node is
//! held by one walk at a time, so that it has one cursor, and is not removed while it is held; whoever unlinks the child at
//! the cursor moves the cursor on. Nothing recurses, and nothing is allocated but for what is left to be done with no lock
//! held: limits that begin, end or are replaced, causes with an error of their own, nodes to be removed, and nodes that are in
//! the list of another walk. Room for a few of them is made under a lock, and for more with none held.
//!
//! A walk that comes to a node that another walk holds gives its lock back and waits until that one has gone
//! out of it. The other began there or further down (had it come from above, it would hold the parent as
//! well), and what it waits for in turn lies further down still: the waits end. In the flag pass no code of
//! a user runs and no node is freed, so they are short.
//!
//! Going out, a walk that cancels marks the node as *walked*: all of its descendants are flagged, and will be
//! born so. It is not entered again by a cancel.
//!
//! # The races
//!
//! - *A child that is made.* It is linked under the parent's lock, after a look at the parent's flags, as the first of the
//!   children; a walk sets the flags under that lock, and then begins with the first. So the child is seen, or it sees
//!   the flags.
//! - *A cancel below another.* Whoever comes second to a node finds it held, and waits, or walked.
//!   So both return only when everything below them is flagged.
//! - *A child that is dropped.* It is unlinked under the parent's lock; under that lock the walk looks at it.
//! - *A node that is replaced by its only child.* Behind the cursor, the node was flagged, and held until its
//!   children were; before the cursor, the child takes its place there.
//!
//! # The wake pass
//!
//! Where a walk flags a node it takes out who waits there, as long as they fit into one batch: they are woken when every
//! flag is set. A node whose waiters do not fit is *queued*, and stays in the walk's chain until they have been taken out,
//! batch by batch. Wakers run with no lock held. Those who wait for a level are woken by the walk that brought it first: so a
//! cancel that comes to a node in the chain of a stop *pins* it, and wakes its own. So a waker may cancel, make and drop as
//! it likes: nobody waits for it but the wakers behind it.
//!
//! # Shields
//!
//! A cancel that comes to a shielded node from above goes on below it as a stop whose grace is what is left of the
//! shield's time; so does a stop whose own grace would end earlier. The walk carries the shield until it goes out of that
//! node. It does not mark the node as walked: the end of the shield's time is a limit of its own, whose walk begins there.
//!
//! # Stops
//!
//! A stop walks everything that is not cancelled each time, because its grace may end earlier than the one before.
#![allow(unsafe_code, reason = "walks over the tree's nodes")]

use std::sync::Arc;

use selvedge_primitives::time::Ticket;
use selvedge_primitives::{Backoff, FirstPanic, WakeBatch, release_then};

use super::chain::Chain;
use super::leave;
use super::limit::Limit;
use super::node::{Flag, Locked, Node, Ptr};
use super::word::{By, Level, Word};
use crate::{Cause, CauseKind};

/// How many children are visited at least before the lock is given back: a turn costs more than one of them.
#[cfg(not(selvedge_loom))]
const AT_ONCE: u32 = 16;
/// One, so that a model sees what happens in between.
#[cfg(selvedge_loom)]
const AT_ONCE: u32 = 1;

/// How much a visit of one node leaves to be done afterwards, at most.
const MOST_LEFT: usize = 8;

/// What goes through the tree.
pub(super) trait Visitor {
    /// Looks at a node, whose parent's lock is held, if it has one and the walk did not begin there. Returns the node's lock if
    /// there may be children to go through.
    fn visit<'a>(&mut self, node: &'a Node) -> Option<Locked<'a>>;

    /// Whether there is no need to go through the children after all. The node's lock is held.
    fn is_done(&self, node: &Locked<'_>) -> bool;

    /// Goes through the children of a node from now on. The node's lock is held.
    fn enter(&mut self, node: &Locked<'_>);

    /// Goes on with the children of a node, whose lock is held, after it was in one of them.
    fn resume(&mut self, node: &Locked<'_>);

    /// Goes out of a node, whose lock is held: everything below was visited.
    fn leave(&mut self, node: &mut Locked<'_>);

    /// Whether the next visit may have to allocate.
    fn wants_room(&self) -> bool {
        false
    }

    /// Allocates. No lock is held.
    fn make_room(&mut self) {}

    /// A node has to be removed afterwards: its last handle went while it was held, and its removal is owned by this walk.
    /// No lock is held.
    fn removes(&mut self, node: Ptr);
}

/// Goes through everything below a node that is kept alive by the caller, when nobody else does. Not at all,
/// if the visitor has no need to.
pub(super) fn go_below(mut locked: Locked<'_>, visitor: &mut impl Visitor) {
    let mut backoff = Backoff::new();
    loop {
        if visitor.is_done(&locked) {
            return;
        }
        if !locked.flags.is(Flag::Held) {
            locked.hold();
            return go_through(locked, visitor);
        }
        let node = locked.node();
        drop(locked);
        backoff.snooze();
        locked = node.lock();
    }
}

/// Goes through everything below a node that is held for this walk, and out of it.
fn go_through(mut locked: Locked<'_>, visitor: &mut impl Visitor) {
    let top = Ptr::from(locked.node());
    visitor.enter(&locked);
    let (mut visited, mut backoff) = (0, Backoff::new());
    loop {
        if visitor.wants_room() {
            let node = locked.node();
            drop(locked);
            visitor.make_room();
            locked = node.lock();
        }
        // For those who make and drop.
        if visited >= AT_ONCE && locked.is_wanted() {
            visited = 0;
            locked = locked.again();
        }
        let Some(child) = locked.visited() else {
            let Some(above) = go_out(locked, top, visitor) else { return };
            // SAFETY: N4: it is held by this walk.
            locked = unsafe { Node::at(above) }.lock();
            visitor.resume(&locked);
            continue;
        };
        visited += 1;
        // SAFETY: N3: the parent's lock is held.
        let node = unsafe { Node::at(child) };
        let Some(mut inner) = visitor.visit(node) else {
            locked.move_on(node);
            continue;
        };
        if inner.flags.is(Flag::Held) {
            // Another walk's. Whatever is at the cursor is looked at when that one may have gone out of it.
            drop(inner);
            let node = locked.node();
            drop(locked);
            backoff.snooze();
            locked = node.lock();
            continue;
        }
        backoff = Backoff::new();
        locked.move_on(node);
        inner.hold();
        visitor.enter(&inner);
        locked = inner;
    }
}

/// Goes out of a node below which everything was visited. Returns the one above, unless the walk began here.
fn go_out(mut locked: Locked<'_>, top: Ptr, visitor: &mut impl Visitor) -> Option<Ptr> {
    let node = locked.node();
    let above = (Ptr::from(node) != top).then(|| {
        // SAFETY: N5: this walk holds the parent.
        unsafe { node.parent() }.expect("a walk stays below where it began")
    });
    locked.flags.clear(Flag::Held);
    visitor.leave(&mut locked);
    let removes = locked.claim_removal();
    drop(locked);
    if removes {
        visitor.removes(Ptr::from(node));
    }
    above
}

/// A cancel or a stop on its way through the tree.
struct Ending {
    /// What it brings.
    level: Level,
    /// Why: the cause of the node through whose children it goes, which may have had one before.
    cause: Cause,
    /// When it is to become a cancel.
    grace: Option<Arc<Limit>>,
    /// The shielded node in which it is, and the end of its time: a cancel is a stop there.
    shield: Option<(Ptr, Arc<Limit>)>,
    /// The node that was looked at last, if its shield protects it from this walk.
    masked: Option<Ptr>,
    /// The deadline that was looked at last, and whether it was past: most nodes have that of the one before.
    deadline: Option<(Arc<Limit>, bool)>,
    /// Those who waited where it came by, as long as they fit: to be woken once every flag is set.
    batch: WakeBatch,
    /// The nodes where others wait.
    chain: Chain,
    /// What else is to be done then; most walks have nothing.
    left: Vec<Left>,
}

/// Something that is done, or dropped, with no lock held.
enum Left {
    /// A limit that ended, and its registration.
    Ended(Arc<Limit>, Option<Ticket>),
    /// A limit that was replaced.
    Replaced(Arc<Limit>),
    /// A limit that nobody has any more.
    Last(Box<Limit>),
    /// A limit that is to be timed.
    Begun(Arc<Limit>),
    /// A cause.
    Cause(Cause),
    /// A node whose removal is owned by the walk.
    Remove(Ptr),
    /// A node that is pinned, because others wait there.
    Wake(Ptr),
}

impl Ending {
    /// A walk that has not begun.
    fn new(level: Level, cause: Cause, grace: Option<Arc<Limit>>) -> Self {
        Self {
            level,
            cause,
            grace,
            shield: None,
            masked: None,
            deadline: None,
            batch: WakeBatch::new(),
            chain: Chain::default(),
            left: Vec::new(),
        }
    }

    /// Cancels a node. Returns its flag word as it was before.
    fn cancel(&mut self, locked: &mut Locked<'_>) -> Word {
        let node = locked.node();
        // A deadline that is past by now gives the cause.
        let past = self.past_deadline(node);
        let cause = past.as_ref().unwrap_or(&self.cause);
        let old = locked.raise(Level::Cancelled, cause, By::Walk);
        if old.was_walked(Level::Cancelled) {
            return old;
        }
        if old.is_limited() {
            if let Some(deadline) = &node.deadline {
                self.end_limit(deadline, node);
            }
            if let Some(grace) = locked.grace() {
                self.end_limit(&grace, node);
            }
        }
        old
    }

    /// The end of a node's shield, if that protects from what this walk brings: from a cancel, now or at the end of a
    /// grace. Not where a grace is past that it did not protect from, by another clock.
    fn masked(&self, locked: &Locked<'_>) -> Option<Arc<Limit>> {
        let end = locked.node().shield_end().filter(|end| !end.is_past())?;
        let masks = match self.level {
            Level::Cancelled => !locked.is_past_grace(),
            Level::Stopping => self.grace.as_ref().is_some_and(|grace| !end.is_before(grace)),
        };
        masks.then(|| Arc::clone(end))
    }

    /// Takes out who waits on a node to which a level was brought; `old` is its flag word as it was before. Returns the node's
    /// lock if there may be something below to go through.
    #[inline]
    fn brought<'a>(
        &mut self,
        mut locked: Locked<'a>,
        level: Level,
        old: Word,
    ) -> Option<Locked<'a>> {
        if old.owes_wakes(level) && locked.is_waited_for() {
            self.take(&mut locked, level);
        }
        (old.has_children() && !self.is_done(&locked)).then_some(locked)
    }

    /// Takes out who waits on a node, or else puts it into the list of this walk; or pins it, if it is in the list of another.
    #[inline(never)]
    fn take(&mut self, locked: &mut Locked<'_>, level: Level) {
        if !self.batch.is_full() && locked.take_waiters(level, &mut self.batch) {
            return;
        }
        let node = Ptr::from(locked.node());
        if locked.queued_for().is_some() {
            locked.node().pin();
            return self.left.push(Left::Wake(node));
        }
        locked.queue(level);
        // SAFETY: it was queued by this very walk.
        unsafe { self.chain.push(node) };
    }

    /// The cause of a node's deadline, if that is past. A walk reads a clock once for one deadline.
    fn past_deadline(&mut self, node: &Node) -> Option<Cause> {
        let deadline = node.deadline.as_ref()?;
        let known = self.deadline.as_ref().filter(|(known, _)| Arc::ptr_eq(known, deadline));
        let past = match known {
            Some((_, past)) => *past,
            None => {
                let past = deadline.is_past();
                let before = self.deadline.replace((Arc::clone(deadline), past));
                // Mostly others have it as well.
                let last = before.and_then(|(before, _)| Arc::into_inner(before));
                self.left.extend(last.map(|last| Left::Last(Box::new(last))));
                past
            }
        };
        past.then(|| deadline.cause(CauseKind::Deadline))
    }

    /// Ends a limit if a node is its top.
    fn end_limit(&mut self, limit: &Arc<Limit>, node: &Node) {
        if !node.word().get().is_top() {
            return;
        }
        if let Some(ticket) = limit.end_at(node) {
            self.left.push(Left::Ended(Arc::clone(limit), ticket));
        }
    }

    /// Stops a node. `top` says that the grace begins here. Returns the flag word as it was before. A stop ends no
    /// limit but a grace that it replaces, also where it finds one past: nodes below may not have been flagged by it, and
    /// only its timer wakes who waits there.
    fn stop(&mut self, locked: &mut Locked<'_>, grace: Option<Arc<Limit>>, top: bool) -> Word {
        let node = locked.node();
        let word = locked.word();
        if word.was_walked(Level::Cancelled) {
            return word;
        }
        if let Some(past) = self.past_deadline(node) {
            locked.raise(Level::Cancelled, &past, By::Look);
        }
        // The end of the node's own shield replaces a grace of the same end that begins above: its walk may not come through
        // to here, when what is in between was cancelled. After a cancel it replaces every other.
        let own = |grace: &Arc<Limit>| node.shield_end().is_some_and(|end| Arc::ptr_eq(end, grace));
        let cancels = self.level == Level::Cancelled;
        let replaces = |grace: &Arc<Limit>, held: &Arc<Limit>| match own(grace) {
            true => !Arc::ptr_eq(held, grace) && (cancels || !held.is_before(grace)),
            false => grace.is_before(held),
        };
        let grace = grace.filter(|grace| locked.grace().is_none_or(|held| replaces(grace, &held)));
        if let Some(grace) = &grace {
            if top {
                grace.set_top(node);
                self.left.push(Left::Begun(Arc::clone(grace)));
            }
            let replaced = locked.replace_grace(Some(Arc::clone(grace)));
            locked.set_word(locked.word().with_grace());
            self.replaced(replaced, node);
        }
        locked.raise(Level::Stopping, &self.cause, By::Walk)
    }

    /// A node carries a grace no longer.
    fn replaced(&mut self, grace: Option<Arc<Limit>>, node: &Node) {
        let Some(grace) = grace else { return };
        self.left.push(match grace.end_at(node) {
            Some(ticket) => Left::Ended(grace, ticket),
            None => Left::Replaced(grace),
        });
    }
}

impl Visitor for Ending {
    fn visit<'a>(&mut self, node: &'a Node) -> Option<Locked<'a>> {
        self.masked = None;
        if node.word().load().is_settled() {
            return None;
        }
        let mut locked = node.lock();
        let word = locked.word();
        if self.level == Level::Cancelled && self.shield.is_none() && word.is_plain() {
            // Most are.
            locked.raise(Level::Cancelled, &self.cause, By::Walk);
            return self.brought(locked, Level::Cancelled, word);
        }
        let (level, old) = if let Some((_, end)) = &self.shield {
            let end = Arc::clone(end);
            (Level::Stopping, self.stop(&mut locked, Some(end), false))
        } else if let Some(end) = self.masked(&locked) {
            self.masked = Some(Ptr::from(node));
            (Level::Stopping, self.stop(&mut locked, Some(end), true))
        } else {
            let old = match self.level {
                Level::Stopping => self.stop(&mut locked, self.grace.clone(), false),
                Level::Cancelled => self.cancel(&mut locked),
            };
            (self.level, old)
        };
        self.brought(locked, level, old)
    }

    fn is_done(&self, locked: &Locked<'_>) -> bool {
        locked.word().is_walked()
    }

    fn enter(&mut self, locked: &Locked<'_>) {
        self.resume(locked);
        let this = Ptr::from(locked.node());
        if self.masked == Some(this)
            && let Some(end) = locked.node().shield_end()
        {
            // That goes on to hold for everything below.
            self.shield = Some((this, Arc::clone(end)));
        }
    }

    fn resume(&mut self, locked: &Locked<'_>) {
        if locked.has_cause(&self.cause) {
            return;
        }
        let cause = locked.node().known_cause();
        if !cause.same(&self.cause) {
            let before = std::mem::replace(&mut self.cause, cause);
            if before.error().is_some() {
                // It may be nobody else's by now.
                self.left.push(Left::Cause(before));
            }
        }
    }

    fn leave(&mut self, locked: &mut Locked<'_>) {
        if self.shield.is_none() {
            if self.level == Level::Cancelled {
                locked.set_word(locked.word().walked());
            }
        } else if self.shield.as_ref().is_some_and(|(top, _)| *top == Ptr::from(locked.node())) {
            self.shield = None;
        }
    }

    #[inline]
    fn wants_room(&self) -> bool {
        !self.left.is_empty() && self.left.capacity() - self.left.len() < MOST_LEFT
    }

    fn make_room(&mut self) {
        self.left.reserve(self.left.len() + MOST_LEFT);
    }

    fn removes(&mut self, node: Ptr) {
        self.left.push(Left::Remove(node));
    }
}

impl Left {
    /// Does what is left to do.
    fn settle(self, batch: &mut WakeBatch, panics: &mut FirstPanic) {
        match self {
            Self::Ended(limit, Some(ticket)) => panics.catch(move || {
                limit.timer().revoke(ticket);
            }),
            Self::Ended(limit, None) | Self::Replaced(limit) => panics.catch(|| drop(limit)),
            Self::Last(limit) => panics.catch(|| drop(limit)),
            // Wakes, if the timer is gone or the time is over.
            Self::Begun(limit) => panics.catch(|| limit.arm()),
            Self::Cause(cause) => panics.catch(|| drop(cause)),
            Self::Remove(node) => panics.catch(|| leave::remove(node)),
            // SAFETY: N4: it is pinned.
            Self::Wake(node) => wake_later(unsafe { Node::at(node) }, true, batch, panics),
        }
    }
}

/// Wakes who waits on a node that was in a walk's chain, or that was pinned because it was in another's. Removes it, if
/// nothing else keeps it.
fn wake_later(node: &Node, pinned: bool, batch: &mut WakeBatch, panics: &mut FirstPanic) {
    let mut locked = node.lock();
    loop {
        let queued = || locked.queued_for().expect("it is in the chain");
        let level = if pinned { Level::Cancelled } else { queued() };
        if locked.take_waiters(level, batch) {
            break;
        }
        release_then(locked, || panics.catch(|| batch.wake_all()));
        locked = node.lock();
    }
    if pinned {
        node.unpin();
    } else {
        locked.dequeue();
    }
    let removes = locked.claim_removal();
    let node = Ptr::from(node);
    drop(locked);
    if removes {
        panics.catch(|| leave::remove(node));
    }
}

/// Cancels a node, which is kept alive by the caller, and everything below.
pub(super) fn cancel(node: &Node, cause: Cause) {
    let word = node.word().load();
    if word.is_settled() {
        return;
    }
    if word.is_leaf() {
        let locked = node.lock();
        if locked.word().is_leaf() {
            // Most are: no walk is needed.
            return cancel_leaf(locked, cause);
        }
    }
    // Before the lock is taken: so the cause is dropped after it is released, whatever happens.
    let mut ending = Ending::new(Level::Cancelled, cause, None);
    let mut locked = node.lock();
    let old = ending.cancel(&mut locked);
    ending.run(locked, old);
}

/// Cancels a node, which is kept alive by the caller, and has nothing below.
fn cancel_leaf(mut locked: Locked<'_>, cause: Cause) {
    let node = locked.node();
    // A deadline that is past by now gives the cause.
    let past = node.past_deadline(None);
    let old = locked.raise(Level::Cancelled, past.as_ref().unwrap_or(&cause), By::Walk);
    if !old.owes_wakes(Level::Cancelled) || !locked.is_waited_for() {
        // The cause comes after that.
        return drop(locked);
    }
    let (mut batch, mut panics) = (WakeBatch::new(), FirstPanic::new());
    while !locked.take_waiters(Level::Cancelled, &mut batch) {
        release_then(locked, || panics.catch(|| batch.wake_all()));
        locked = node.lock();
    }
    release_then(locked, || panics.catch(|| batch.wake_all()));
    panics.catch(|| drop(cause));
    panics.resume();
}

/// Stops a node, which is kept alive by the caller, and everything below. If it has ended, perhaps by a limit
/// whose timer is late, so has everything below, and is told now.
pub(super) fn stop(node: &Node, cause: Cause, grace: Option<Arc<Limit>>) {
    if node.has_reached(Level::Cancelled) {
        return cancel(node, node.known_cause());
    }
    let has_grace = grace.is_some();
    let mut ending = Ending::new(Level::Stopping, cause, None);
    let mut locked = node.lock();
    let old = ending.stop(&mut locked, grace, true);
    if has_grace {
        // That of the node, which may have been there: one that it has refused has no top.
        ending.grace = locked.grace();
    }
    ending.run(locked, old);
}

impl Ending {
    /// Goes on below the node where the walk starts, then wakes.
    fn run(&mut self, locked: Locked<'_>, old: Word) {
        if let Some(locked) = self.brought(locked, self.level, old) {
            go_below(locked, self);
        }
        self.settle();
    }

    /// Does what is left to do once every flag is set: revokes what ended, times what begins, wakes who waits, removes what is
    /// left over. Goes on after somebody's panic, and passes on the first.
    fn settle(&mut self) {
        if self.cause.error().is_some() {
            // It may be nobody else's by now.
            let plain = Cause::at(self.cause.kind(), self.cause.place());
            self.left.push(Left::Cause(std::mem::replace(&mut self.cause, plain)));
        }
        if self.batch.is_empty() && self.chain.is_empty() && self.left.is_empty() {
            return;
        }
        let mut panics = FirstPanic::new();
        for left in self.left.drain(..) {
            left.settle(&mut self.batch, &mut panics);
        }
        while let Some(node) = self.chain.pop() {
            // SAFETY: N4: it is queued.
            wake_later(unsafe { Node::at(node) }, false, &mut self.batch, &mut panics);
        }
        panics.catch(|| self.batch.wake_all());
        panics.resume();
    }
}

/// Holds a node that was pinned for a walk that begins there, and takes the pin back. The walk has no place among the children
/// yet: that comes when it has set the flags.
pub(super) fn hold_pinned(node: Ptr) {
    // SAFETY: N4: it is pinned.
    let node = unsafe { Node::at(node) };
    let mut backoff = Backoff::new();
    loop {
        let mut locked = node.lock();
        if !locked.flags.is(Flag::Held) {
            node.unpin();
            return locked.flags.set(Flag::Held);
        }
        drop(locked);
        backoff.snooze();
    }
}

/// Cancels a node that is held for this walk, and everything below.
pub(super) fn cancel_held(node: Ptr, cause: Cause) {
    end_held(node, Ending::new(Level::Cancelled, cause, None), false);
}

/// As [`cancel_held`], because a limit is over: from above, if it is what a shield of the node itself masks.
pub(super) fn expire_held(node: Ptr, limit: &Arc<Limit>, cause: Cause) {
    // SAFETY: N4: it is held.
    let shield = unsafe { Node::at(node) }.shield();
    let masked = shield.and_then(|shield| shield.masked.as_ref());
    let masked = masked.is_some_and(|masked| Arc::ptr_eq(masked, limit));
    end_held(node, Ending::new(Level::Cancelled, cause, None), masked);
}

/// Stops a node that is held for this walk, and everything below.
pub(super) fn stop_held(node: Ptr, cause: Cause) {
    end_held(node, Ending::new(Level::Stopping, cause, None), false);
}

/// Walks from a node that is held for this walk, then wakes. `masked` says that a shield of the node itself protects.
fn end_held(node: Ptr, mut ending: Ending, masked: bool) {
    // SAFETY: N4: it is held.
    let node = unsafe { Node::at(node) };
    match ending.level {
        _ if masked => drop(ending.visit(node)),
        level => {
            let mut locked = node.lock();
            let old = match level {
                Level::Cancelled => ending.cancel(&mut locked),
                Level::Stopping => ending.stop(&mut locked, None, false),
            };
            drop(ending.brought(locked, level, old));
        }
    }
    let mut locked = node.lock();
    // From the first child now, after the flags: who was made meanwhile may be the first.
    locked.hold();
    go_through(locked, &mut ending);
    ending.settle();
}
