//! Walks: how a cancel or a stop reaches every descendant.
//!
//! # The flag pass
//!
//! A walk goes through the tree in place, parents first, from child to child under the parent's lock, which
//! it gives back after some dozens of children and before it goes into one. It *holds* the nodes on its
//! path: the one through whose children it goes, and those above up to where it began. A node is held by one
//! walk at a time, so that it has one cursor, and is not removed while it is held; whoever unlinks the child
//! at the cursor moves the cursor on. Nothing recurses, and nothing is allocated but for limits that end, and for nodes that
//! had a cause with an error of their own.
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
//! - *A child that is made.* It is linked under the parent's lock, after a look at the parent's flags; a walk
//!   sets the flags, and then takes the lock to go through the children. So the child is seen, or it sees the
//!   flags. The first child has to be announced in the flag word, because a walk does not take the lock of a
//!   node without; `word.rs` says why that is exact.
//! - *A cancel below another.* Whoever comes second to a node finds it held, and waits, or walked.
//!   So both return only when everything below them is flagged.
//! - *A child that is dropped.* It is unlinked under the parent's lock; under that lock the walk looks at it.
//! - *A node that is replaced by its only child.* Behind the cursor, the node was flagged, and held until its
//!   children were; before the cursor, the child takes its place there.
//!
//! # The wake pass
//!
//! A node that somebody has waited on is *queued* by the walk that brings a level first, and stays in the
//! walk's chain until its waiters have been taken out. Wakers run in batches, with no lock held. A second walk
//! that brings another level meanwhile leaves the node to the first, which sees the flag in the word in which
//! it takes QUEUED back. So a waker may cancel, make and drop as it likes: nobody waits for it but the wakers
//! behind it.
//!
//! # Shields
//!
//! A cancel that comes to a shielded node from above goes on below it as a stop whose grace is what is left of the
//! shield's time; so does a stop whose own grace would end earlier. The walk carries the shield until it goes out of that
//! node. It does not mark the node as walked: the end of the shield's time is a limit of its own, whose walk begins there.
//!
//! # Stops
//!
//! A stop walks everything each time, because its grace may end earlier than the one before. It takes the lock
//! of each node, to leave the grace there.
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

/// How many children are visited before the lock is given back, for those who make and drop.
#[cfg(not(selvedge_loom))]
const AT_ONCE: u32 = 64;
/// One, so that a model sees what happens in between.
#[cfg(selvedge_loom)]
const AT_ONCE: u32 = 1;

/// What goes through the tree.
pub(super) trait Visitor {
    /// Looks at a node, whose parent's lock is held. Says whether there may be children.
    fn visit(&mut self, node: &Node) -> bool;

    /// Whether there is no need to go through the children after all. The node's lock is held.
    fn is_done(&self, node: &Locked<'_>) -> bool;

    /// Goes through the children of a node from now on. The node's lock is held.
    fn enter(&mut self, node: &Locked<'_>);

    /// Goes on with the children of a node, whose lock is held, after it was in one of them.
    fn resume(&mut self, node: &Locked<'_>);

    /// Goes out of a node, whose lock is held: everything below was visited.
    fn leave(&mut self, node: &mut Locked<'_>);

    /// A node has to be removed afterwards: its last handle went while it was held, and its removal is owned by this walk.
    /// No lock is held.
    fn removes(&mut self, node: Ptr);
}

/// Goes through everything below a node that is kept alive by the caller, when nobody else does. Not at all,
/// if the visitor has no need to.
pub(super) fn go_below(node: &Node, visitor: &mut impl Visitor) {
    let mut backoff = Backoff::new();
    loop {
        let mut locked = node.lock();
        if visitor.is_done(&locked) {
            return;
        }
        if !locked.flags.is(Flag::Held) {
            locked.hold();
            return go_through(locked, visitor);
        }
        drop(locked);
        backoff.snooze();
    }
}

/// Goes through everything below a node that is held for this walk, and out of it.
fn go_through(mut locked: Locked<'_>, visitor: &mut impl Visitor) {
    let top = Ptr::from(locked.node());
    visitor.enter(&locked);
    let mut visited = 0;
    let mut backoff = Backoff::new();
    loop {
        if visited == AT_ONCE {
            visited = 0;
            let node = locked.node();
            drop(locked);
            locked = node.lock();
        }
        let Some(child) = locked.visited() else {
            let Some(above) = go_out(locked, top, visitor) else { return };
            visited = 0;
            // SAFETY: N4: it is held by this walk.
            locked = unsafe { Node::at(above) }.lock();
            visitor.resume(&locked);
            continue;
        };
        visited += 1;
        // SAFETY: N3: the parent's lock is held.
        let node = unsafe { Node::at(child) };
        if !visitor.visit(node) {
            locked.move_on(node);
            continue;
        }
        let mut inner = node.lock();
        if visitor.is_done(&inner) {
            locked.move_on(node);
            continue;
        }
        visited = 0;
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
    /// What is to be done after the flag pass.
    after: Aftermath,
}

/// What a walk leaves to be done once every flag is set.
#[derive(Default)]
struct Aftermath {
    /// Nodes whose waiters are to be woken.
    chain: Chain,
    /// What else there is; most walks have nothing.
    left: Vec<Left>,
}

/// Something that is done, or dropped, with no lock held.
enum Left {
    /// A limit that ended, and its registration.
    Ended(Arc<Limit>, Option<Ticket>),
    /// A limit that was replaced.
    Replaced(Arc<Limit>),
    /// A limit that is to be timed.
    Begun(Arc<Limit>),
    /// A cause.
    Cause(Cause),
    /// A node whose removal is owned by the walk.
    Remove(Ptr),
}

impl Ending {
    /// A walk that has not begun.
    fn new(level: Level, cause: Cause, grace: Option<Arc<Limit>>) -> Self {
        let after = Aftermath::default();
        Self { level, cause, grace, shield: None, masked: None, deadline: None, after }
    }

    /// Cancels a node. Returns its flag word as it was before.
    fn cancel(&mut self, node: &Node, by: By) -> Word {
        // A deadline that is past by now gives the cause.
        let past = self.past_deadline(node);
        let old = node.raise(Level::Cancelled, past.as_ref().unwrap_or(&self.cause), by);
        self.queue(node, old, Level::Cancelled, by);
        if old.is_limited() && !old.was_walked(Level::Cancelled) {
            if let Some(deadline) = &node.deadline {
                self.end_limit(deadline, node);
            }
            if let Some(grace) = old.has_grace().then(|| node.lock().grace()).flatten() {
                self.end_limit(&grace, node);
            }
        }
        old
    }

    /// The end of a node's shield, if that protects from what this walk brings: from a cancel, now or at the end of a
    /// grace.
    fn masked(&self, node: &Node) -> Option<Arc<Limit>> {
        let end = node.shield_end().filter(|end| !end.is_past())?;
        let masks = match self.level {
            Level::Cancelled => true,
            Level::Stopping => self.grace.as_ref().is_some_and(|grace| !end.is_before(grace)),
        };
        masks.then(|| Arc::clone(end))
    }

    /// Puts a node into the list of this walk, if this walk has just said so in the word, which was `old` before.
    fn queue(&mut self, node: &Node, old: Word, level: Level, by: By) {
        if by == By::Walk && old.owes_wakes(level) && !old.is_queued() {
            // SAFETY: it was queued by this very walk.
            unsafe { self.after.chain.push(Ptr::from(node)) };
        }
    }

    /// The cause of a node's deadline, if that is past. A walk reads the clock once for one deadline.
    fn past_deadline(&mut self, node: &Node) -> Option<Cause> {
        let deadline = node.deadline.as_ref()?;
        let known = self.deadline.as_ref().filter(|(known, _)| Arc::ptr_eq(known, deadline));
        let past = match known {
            Some((_, past)) => *past,
            None => {
                let past = deadline.is_past();
                self.deadline = Some((Arc::clone(deadline), past));
                past
            }
        };
        past.then(|| deadline.cause(CauseKind::Deadline))
    }

    /// Ends a limit if a node is its top.
    fn end_limit(&mut self, limit: &Arc<Limit>, node: &Node) {
        if let Some(ticket) = limit.end_at(node) {
            self.after.left.push(Left::Ended(Arc::clone(limit), ticket));
        }
    }

    /// Stops a node. `top` says that the grace begins here. Returns the flag word as it was before. A stop ends no
    /// limit, also where it finds one past: nodes below may not have been flagged by it, and only its timer wakes
    /// who waits there.
    fn stop(&mut self, node: &Node, grace: Option<Arc<Limit>>, top: bool, by: By) -> Word {
        let mut locked = node.lock();
        let word = node.word().load();
        if word.was_walked(Level::Cancelled) {
            return word;
        }
        if let Some(past) = self.past_deadline(node) {
            node.raise(Level::Cancelled, &past, By::Look);
        }
        // The end of the node's own shield replaces a grace of the same end that begins above: its walk may not come through
        // to here, when what is in between was cancelled.
        let own = |grace: &Arc<Limit>| node.shield_end().is_some_and(|end| Arc::ptr_eq(end, grace));
        let replaces = |grace: &Arc<Limit>, held: &Arc<Limit>| match own(grace) {
            true => !held.is_before(grace) && !Arc::ptr_eq(held, grace),
            false => grace.is_before(held),
        };
        let grace = grace.filter(|grace| locked.grace().is_none_or(|held| replaces(grace, &held)));
        if let Some(grace) = &grace {
            if top {
                grace.set_top(node);
                self.after.left.push(Left::Begun(Arc::clone(grace)));
            }
            let replaced = locked.replace_grace(Some(Arc::clone(grace)));
            node.word().announce_grace();
            self.replaced(replaced, node);
        }
        let old = node.raise(Level::Stopping, &self.cause, by);
        if old.was_walked(Level::Cancelled) && grace.is_some() {
            // A cancel came in between: that is final.
            let back = locked.replace_grace(None);
            self.replaced(back, node);
        }
        self.queue(node, old, Level::Stopping, by);
        old
    }

    /// A node carries a grace no longer.
    fn replaced(&mut self, grace: Option<Arc<Limit>>, node: &Node) {
        let Some(grace) = grace else { return };
        self.after.left.push(match grace.end_at(node) {
            Some(ticket) => Left::Ended(grace, ticket),
            None => Left::Replaced(grace),
        });
    }
}

impl Visitor for Ending {
    fn visit(&mut self, node: &Node) -> bool {
        self.masked = None;
        let old = if let Some((_, end)) = &self.shield {
            let end = Arc::clone(end);
            self.stop(node, Some(end), false, By::Walk)
        } else if let Some(end) = self.masked(node) {
            self.masked = Some(Ptr::from(node));
            self.stop(node, Some(end), true, By::Walk)
        } else {
            match self.level {
                Level::Stopping => self.stop(node, self.grace.clone(), false, By::Walk),
                Level::Cancelled => self.cancel(node, By::Walk),
            }
        };
        old.has_children()
    }

    fn is_done(&self, node: &Locked<'_>) -> bool {
        node.flags.is(Flag::Walked)
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
        let cause = locked.node().known_cause();
        if !cause.same(&self.cause) {
            let before = std::mem::replace(&mut self.cause, cause);
            if before.error().is_some() {
                // It may be nobody else's by now.
                self.after.left.push(Left::Cause(before));
            }
        }
    }

    fn leave(&mut self, locked: &mut Locked<'_>) {
        if self.shield.is_none() {
            if self.level == Level::Cancelled {
                locked.flags.set(Flag::Walked);
            }
        } else if self.shield.as_ref().is_some_and(|(top, _)| *top == Ptr::from(locked.node())) {
            self.shield = None;
        }
    }

    fn removes(&mut self, node: Ptr) {
        self.after.left.push(Left::Remove(node));
    }
}

impl Aftermath {
    /// Revokes what ended, times what begins, wakes who waits, removes what is left over. `start` is the node where
    /// the walk started, if somebody may wait there. Goes on after somebody's panic, and passes on the first.
    fn settle(self, start: Option<(&Node, Level)>) {
        let Self { mut chain, left } = self;
        // Mostly whoever has waited has gone.
        let start = start.filter(|(start, _)| start.lock().is_waited_for());
        if chain.is_empty() && left.is_empty() && start.is_none() {
            return;
        }
        let mut panics = FirstPanic::new();
        for left in left {
            panics.catch(|| left.settle());
        }
        let mut batch = WakeBatch::new();
        if let Some((start, level)) = start {
            wake_start(start, level, &mut batch, &mut panics);
        }
        while let Some(node) = chain.pop() {
            // SAFETY: N4: it is queued.
            if wake_queued(unsafe { Node::at(node) }, &mut batch, &mut panics) {
                panics.catch(|| leave::remove(node));
            }
        }
        panics.catch(|| batch.wake_all());
        panics.resume();
    }
}

impl Left {
    /// Does what is left to do.
    fn settle(self) {
        match self {
            Self::Ended(limit, Some(ticket)) => drop(limit.timer.revoke(ticket)),
            // Wakes, if the timer is gone or the time is over.
            Self::Begun(limit) => limit.arm(),
            Self::Ended(limit, None) | Self::Replaced(limit) => drop(limit),
            Self::Cause(cause) => drop(cause),
            Self::Remove(node) => leave::remove(node),
        }
    }
}

/// Takes all who wait on a node for a level that was brought to everything below it into the batch, which is woken when it
/// is full. Returns the node's lock, under which nobody waits for these, and its flag word. None if a cancel is still on its
/// way below: it wakes nobody here before it has set every flag.
fn take_waiters<'a>(
    node: &'a Node,
    batch: &mut WakeBatch,
    panics: &mut FirstPanic,
) -> Option<(Locked<'a>, Word)> {
    let mut locked = node.lock();
    loop {
        let word = node.word().load();
        let ended = word.was_walked(Level::Cancelled);
        let flagged = !word.has_children() || locked.flags.is(Flag::Walked);
        if ended && !flagged {
            return None;
        }
        for (level, brought) in [(Level::Stopping, true), (Level::Cancelled, ended)] {
            let list = locked.waiters(level);
            while brought && !list.is_empty() && !batch.is_full() {
                list.grant_front((), batch);
            }
        }
        if !batch.is_full() {
            return Some((locked, word));
        }
        release_then(locked, || panics.catch(|| batch.wake_all()));
        locked = node.lock();
    }
}

/// Wakes at the node where a walk started. A cancel from above that is still on its way has the node in its own list.
fn wake_start(node: &Node, level: Level, batch: &mut WakeBatch, panics: &mut FirstPanic) {
    let mut backoff = Backoff::new();
    while level == Level::Cancelled || !node.word().load().was_walked(Level::Cancelled) {
        if take_waiters(node, batch, panics).is_some() {
            return;
        }
        backoff.snooze();
    }
}

/// Wakes a node that was in a walk's chain. Says whether the caller owns its removal from now on.
fn wake_queued(node: &Node, batch: &mut WakeBatch, panics: &mut FirstPanic) -> bool {
    let mut backoff = Backoff::new();
    loop {
        let Some((mut locked, word)) = take_waiters(node, batch, panics) else {
            // A cancel that left its wakes here; it runs nobody's code before it is done.
            backoff.snooze();
            continue;
        };
        if word.was_walked(Level::Cancelled) {
            // No walk will queue it again.
            locked.flags.set(Flag::Woken);
        } else if !node.word().dequeue(word) {
            continue;
        }
        return locked.claim_removal();
    }
}

/// Cancels a node, which is kept alive by the caller, and everything below.
pub(super) fn cancel(node: &Node, cause: Cause) {
    let mut ending = Ending::new(Level::Cancelled, cause, None);
    let old = ending.cancel(node, By::Start);
    ending.run(node, old);
}

/// Stops a node, which is kept alive by the caller, and everything below. If it has ended, perhaps by a limit
/// whose timer is late, so has everything below, and is told now.
pub(super) fn stop(node: &Node, cause: Cause, grace: Option<Arc<Limit>>) {
    if node.has_reached(Level::Cancelled) {
        return cancel(node, node.known_cause());
    }
    let mut ending = Ending::new(Level::Stopping, cause, grace.clone());
    let old = ending.stop(node, grace, true, By::Start);
    ending.run(node, old);
}

impl Ending {
    /// Goes on below the node where the walk starts, then wakes.
    fn run(mut self, node: &Node, old: Word) {
        if old.has_children() {
            go_below(node, &mut self);
        }
        let waits = old.owes_wakes(self.level);
        let start = waits.then_some((node, self.level));
        self.settle(start);
    }

    /// Does what is left to do after the flag pass. The cause goes with it: its error may be nobody else's.
    fn settle(self, start: Option<(&Node, Level)>) {
        let Self { cause, mut after, .. } = self;
        if cause.error().is_some() {
            after.left.push(Left::Cause(cause));
        }
        after.settle(start);
    }
}

/// Holds a node that was pinned for a walk that begins there, and takes the pin back.
pub(super) fn hold_pinned(node: Ptr) {
    // SAFETY: N4: it is pinned.
    let node = unsafe { Node::at(node) };
    let mut backoff = Backoff::new();
    loop {
        let mut locked = node.lock();
        if !locked.flags.is(Flag::Held) {
            node.unpin();
            return locked.hold();
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
    // Into the list: when this walk goes out of it, nobody keeps it.
    match ending.level {
        _ if masked => {
            ending.visit(node);
        }
        Level::Cancelled => {
            ending.cancel(node, By::Walk);
        }
        Level::Stopping => {
            ending.stop(node, None, false, By::Walk);
        }
    }
    go_through(node.lock(), &mut ending);
    ending.settle(None);
}
