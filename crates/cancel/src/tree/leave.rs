//! Leaving the tree: what happens when the last handle of a node is gone.
//!
//! # Relays
//!
//! A node without handles and without children is unlinked. One with a single child is *spliced out*: the
//! child takes its place. One with more stays as a relay, so that dropping it is O(1); it goes when all but one
//! of its children have gone. So relays have at least two children, and nodes <= 2 x live - 1. (A node that is
//! linked to others, or shielded, counts as live while it has a child: something can still end it, or protects that.)
//!
//! # Who owns the removal
//!
//! A node is removed by one thread, its owner:
//!
//! - A *simple* node, which never had a child or a limit and is in no walk's list, belongs to whoever dropped its
//!   last handle. Nobody but its parent's list leads to it, and a walk that finds it there holds the parent's lock;
//!   under that lock the owner looks once more whether it is simple. It is unlinked without a lock of its own.
//! - Any other node is *dead* from when the last handle went, which is noted under its lock, and belongs to
//!   whoever sets *leaving* under its lock: the one who dropped the handle; or, if that one finds two children,
//!   whoever takes the last but one out; or, if a walk or somebody who has entered detains it, that one when it is done.
//!
//! The owner takes the locks from above: of the parent, of the node, of an only child. If it finds then that a
//! walk or an expiry has come in between, or that the child cannot be moved, it gives the ownership back; whoever
//! stood in the way looks again when it is done.
//!
//! # The race for the parent
//!
//! The owner of a node reads who its parent is, and locks that. In between the parent itself may be spliced
//! out, which would change it. So a node that somebody owns is not moved (N5). Who splices the parent out and
//! finds that its only child is on its way out gives up; the child's owner finds the parent dead, with one
//! child or none, when it has unlinked the child, and takes its removal over. To tell:
//!
//! - A child with a handle is given another for the time of the move, by a compare-exchange that refuses zero.
//!   If it succeeds, the last handle goes later, and whoever drops it sees the new parent.
//! - A child without handles may be moved if it is not leaving, which its lock, held here, says; and if it was not simple
//!   when its last handle went, so that it has no owner without that flag: if it is dead, or has had children, or
//!   somebody has entered it.
//!
//! What is freed is freed with no lock held, because a cause's error is somebody else's code. Nothing recurses:
//! what a removal leaves to be removed is done after it.
#![allow(unsafe_code, reason = "removes and frees the tree's nodes")]

use selvedge_primitives::FirstPanic;

use super::limit::Ended;
use super::node::{self, Flag, Locked, Node, OnlyChild, Ptr};

/// Drops a handle, and removes the node if it was the last.
///
/// # Safety
///
/// The caller has a handle, and gives it up.
#[inline]
pub(super) unsafe fn drop_handle(node: Ptr) {
    // SAFETY: N2.
    if !unsafe { Node::at(node) }.drop_handle() {
        return;
    }
    // SAFETY: N1: a simple one is the caller's from here on, and no other is removed before it is dead.
    match unsafe { Node::at(node) }.word().load().is_simple() {
        true => remove(node),
        false => retire_and_remove(node),
    }
}

/// The last handle of a node is gone that is not simple.
#[cold]
fn retire_and_remove(node: Ptr) {
    let mut panics = FirstPanic::new();
    if retire(node, &mut panics) {
        panics.catch(|| remove(node));
    }
    panics.resume();
}

/// The last handle of a node is gone. Says whether the caller owns the removal. Call it with no lock held: it wakes who
/// waits for those inside, if nobody is.
fn retire(node: Ptr, panics: &mut FirstPanic) -> bool {
    // SAFETY: N1: nobody removes it before it is dead, and a simple one is the caller's.
    let node = unsafe { Node::at(node) };
    if node.word().load().is_simple() {
        return true;
    }
    if let Some(tracker) = node.tracker() {
        // Nobody can enter any more.
        panics.catch(|| tracker.close());
    }
    let mut locked = node.lock();
    locked.flags.set(Flag::Dead);
    locked.claim_removal()
}

/// Removes a node whose removal the caller owns, and what has to go after it. Goes on after somebody's panic,
/// and passes on the first.
pub(super) fn remove(node: Ptr) {
    match unlink_simple(node) {
        // SAFETY: it is unlinked, and was owned here.
        Unlinked::Alone => unsafe { Node::free(node) },
        Unlinked::And(parent) => remove_all(Some(node), parent),
        Unlinked::NotSimple => remove_all(None, node),
    }
}

/// Frees a node that is unlinked, removes the next, which is owned as well, and what has to go after that.
#[cold]
fn remove_all(unlinked: Option<Ptr>, node: Ptr) {
    let mut panics = FirstPanic::new();
    if let Some(node) = unlinked {
        // SAFETY: it is unlinked, and was owned here.
        panics.catch(|| unsafe { Node::free(node) });
    }
    // Not a chain: these are in the tree, and a walk may put them into one of its own.
    let mut owned = Vec::new();
    let mut next = Some(node);
    while let Some(node) = next {
        let mut ended = [None, None, None];
        let unlinked = match unlink_simple(node) {
            Unlinked::NotSimple => unlink(node, &mut owned, &mut ended, &mut panics),
            Unlinked::Alone => true,
            Unlinked::And(parent) => {
                owned.push(parent);
                true
            }
        };
        if unlinked {
            // SAFETY: it is unlinked, and was owned here.
            panics.catch(|| unsafe { Node::free(node) });
        }
        for (limit, ticket) in ended.into_iter().flatten() {
            if let Some(ticket) = ticket {
                limit.timer().revoke(ticket);
            }
        }
        next = owned.pop();
    }
    panics.resume();
}

/// What became of a node that is owned.
enum Unlinked {
    /// It is out of the tree.
    Alone,
    /// It is out of the tree, and its parent has to go as well, and is owned from now on.
    And(Ptr),
    /// It is still there: it is not simple.
    NotSimple,
}

/// Takes a node that is owned here out of the tree, if it is simple: under its parent's lock alone.
#[inline]
fn unlink_simple(node: Ptr) -> Unlinked {
    // SAFETY: N1: its removal is owned here.
    let node = unsafe { Node::at(node) };
    if !node.word().load().is_simple() {
        return Unlinked::NotSimple;
    }
    // SAFETY: N5: its removal is owned here.
    let Some(parent) = (unsafe { node.parent() }) else { return Unlinked::Alone };
    // SAFETY: N5: the parent is alive, and cannot be replaced.
    let mut above = unsafe { Node::at(parent) }.lock();
    // Again: a walk from above that found waiters has it in its list, or a stop has left a grace.
    if !node.word().load().is_simple() {
        return Unlinked::NotSimple;
    }
    // SAFETY: it is a child of its parent.
    unsafe { above.unlink_child(node) };
    match above.claim_removal() {
        true => Unlinked::And(parent),
        false => Unlinked::Alone,
    }
}

/// Takes a node that is owned here out of the tree. False if it has to stay; it is not owned any more then. What else
/// is owned after that is added to `owned`.
fn unlink(
    node: Ptr,
    owned: &mut Vec<Ptr>,
    ended: &mut [Option<Ended>; 3],
    panics: &mut FirstPanic,
) -> bool {
    // SAFETY: N1: its removal is owned here.
    let node = unsafe { Node::at(node) };
    // SAFETY: N5: its removal is owned here.
    let parent = unsafe { node.parent() };
    // SAFETY: N5: the parent is alive, and cannot be replaced.
    let mut above = parent.map(|parent| unsafe { Node::at(parent) }.lock());
    let mut locked = node.lock();
    // So it is already, unless it was simple when its last handle went.
    locked.flags.set(Flag::Dead);
    locked.flags.set(Flag::Leaving);
    let heir = match locked.only_child() {
        // SAFETY: N3.
        OnlyChild::One(heir) => Some(unsafe { Node::at(heir) }.lock()),
        OnlyChild::None => None,
        OnlyChild::More => unreachable!("a dead node is not given children"),
    };
    let moving = heir.as_ref().map(Moving::begin);
    let mut stays = locked.is_detained() || matches!(moving, Some(Moving::Refused));
    if !stays {
        bequeath(node, &locked, heir.as_ref(), ended);
        // By somebody who came before the limits were handed on.
        stays = node.is_pinned();
    }
    if stays {
        locked.flags.clear(Flag::Leaving);
    } else {
        match (&mut above, &heir) {
            // SAFETY: it is a child of its parent, owned here, and all three locks are held.
            (Some(above), Some(heir)) => unsafe { above.replace_child(node, heir.node()) },
            // SAFETY: it is a child of its parent.
            (Some(above), None) => unsafe { above.unlink_child(node) },
            // SAFETY: both locks are held, and the old root is owned here.
            (None, Some(heir)) => unsafe { node::make_root(heir) },
            (None, None) => {}
        }
    }
    let heir = heir.map(|heir| Ptr::from(heir.node()));
    drop(locked);
    // A relay that is left with one child, or that could not be spliced out because of this one.
    if let (false, Some(mut above), Some(parent)) = (stays, above, parent)
        && above.claim_removal()
    {
        owned.push(parent);
    }
    // With no lock held: the end of a tracker wakes who waits for it.
    if let (Some(heir), Some(Moving::Counted)) = (heir, moving) {
        // SAFETY: `Moving` counted a handle, which is dropped here.
        if unsafe { Node::at(heir) }.drop_handle() && retire(heir, panics) {
            owned.push(heir);
        }
    }
    !stays
}

/// What was found out about a child that is to take its parent's place.
enum Moving {
    /// It has a handle more, for the time of the move.
    Counted,
    /// It is a relay that stays one.
    Relay,
    /// It is on its way out.
    Refused,
}

impl Moving {
    /// Makes sure that a child stays where it is while it is moved.
    fn begin(heir: &Locked<'_>) -> Self {
        if heir.node().try_add_handle() {
            return Self::Counted;
        }
        // A child that never was simple is looked at under its lock, by whoever dropped the last handle, before it has an
        // owner; also if that one has not come there yet.
        let word = heir.node().word().load();
        let locked = heir.flags.is(Flag::Dead) || word.has_children() || word.is_tracked();
        match locked && !heir.flags.is(Flag::Leaving) {
            true => Self::Relay,
            false => Self::Refused,
        }
    }
}

/// Hands the limits of a node on to the one that takes its place, or ends them.
fn bequeath(
    node: &Node,
    locked: &Locked<'_>,
    heir: Option<&Locked<'_>>,
    ended: &mut [Option<Ended>; 3],
) {
    let masked = node.shield().and_then(|shield| shield.masked.clone());
    for (limit, ended) in [node.deadline.clone(), locked.grace(), masked].into_iter().zip(ended) {
        if let Some(limit) = limit
            && let Some(ticket) = limit.bequeath(node, heir)
        {
            *ended = Some((limit, ticket));
        }
    }
    if let Some(link) = node.link_end() {
        link.leave(node);
    }
}
