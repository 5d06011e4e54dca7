//! Trees and the handles that keep their entries live: create, cancel, stop, drop.

use std::sync::Arc;
use std::time::Duration;

use selvedge_primitives::time::{Ticket, Timer};
use selvedge_primitives::{FirstPanic, Mutex, Origin, release_then};

use super::cell::{Cell, Level};
use super::limit::{Limit, OwnDeadline};
use super::links::{Links, Removed};
use crate::Cause;

/// The links of a tree, under its lock.
pub(super) struct Tree {
    /// See `mod.rs` for the protocol.
    links: Mutex<Links>,
}

/// Keeps one entry of a tree live. Contexts, cancellers and futures share it.
pub(crate) struct Handle {
    /// The tree.
    tree: Arc<Tree>,
    /// The entry; none for a node that was born cancelled, which nothing needs to find.
    key: Option<usize>,
    /// The entry's cell.
    cell: Arc<Cell>,
}

/// A limit that ended, and the registration that is to be revoked once no lock is held.
type Ended = (Arc<Limit>, Option<Ticket>);

/// What a walk leaves to be done once the lock is released.
#[derive(Default)]
struct Aftermath {
    /// Cells whose waiters are to be woken.
    flagged: Vec<(Arc<Cell>, Level)>,
    /// Limits that ended, and their registrations.
    ended: Vec<Ended>,
    /// A grace whose end is to be timed.
    grace: Option<Arc<Limit>>,
}

impl Aftermath {
    /// Revokes what ended, registers what begins, wakes who waits. Goes on after a waker's panic,
    /// and passes on the first.
    fn settle(self) {
        for (limit, ticket) in self.ended {
            if let Some(ticket) = ticket {
                limit.timer.revoke(ticket);
            }
        }
        let mut panics = FirstPanic::new();
        if let Some(grace) = self.grace {
            // Wakes, if the timer is gone or the time is over.
            panics.catch(|| grace.arm());
        }
        for (cell, level) in self.flagged {
            cell.wake(level, &mut panics);
        }
        panics.resume();
    }
}

impl Tree {
    /// Flags everything from `from` downwards that `level` concerns.
    fn walk(
        links: &mut Links,
        from: usize,
        level: Level,
        cause: &Cause,
        grace: Option<&Arc<Limit>>,
    ) -> Aftermath {
        let mut aftermath = Aftermath::default();
        let mut next = Some(from);
        while let Some(key) = next {
            let entry = links.get_mut(key);
            // A stop walks again through what was stopped before: its grace may end earlier.
            let done = entry.walked == Some(Level::Cancelled);
            if !done {
                let cell = Arc::clone(&entry.cell);
                let flagged = cell.flag(level, cause, grace);
                entry.walked = entry.walked.max(Some(level));
                if let Some(replaced) = flagged.replaced
                    && replaced.top() == Some(key)
                {
                    let ticket = replaced.end();
                    aftermath.ended.push((replaced, ticket));
                }
                // A stop ends no limit, also where it finds one past: nodes below may not have
                // been flagged by it, and only its timer wakes who waits there.
                if level == Level::Cancelled {
                    let limits = cell.deadline.clone().into_iter().chain(cell.grace());
                    for limit in limits.filter(|limit| limit.top() == Some(key)) {
                        let ticket = limit.end();
                        aftermath.ended.push((limit, ticket));
                    }
                }
                aftermath.flagged.push((cell, flagged.level));
            }
            next = links.walk_next(from, key, !done);
        }
        aftermath
    }

    /// Walks at the expiry of a limit, from its top.
    pub(super) fn cancel_from_limit(tree: &Arc<Self>, limit: &Limit, cause: Cause) {
        let mut links = tree.links.lock();
        // Gone when everything below it was cancelled or dropped in the meantime.
        let Some(top) = limit.top() else { return };
        let aftermath = Self::walk(&mut links, top, Level::Cancelled, &cause, None);
        release_then(links, || aftermath.settle());
    }

    /// Ends or hands on the limits of an entry that left the tree.
    fn bequeath(links: &Links, removed: &Removed) -> [Option<Ended>; 2] {
        let cell = &removed.entry.cell;
        // An heir that is cancelled has nothing left to end.
        let running = |key: &usize| links.get(*key).walked != Some(Level::Cancelled);
        let heir = removed.heir.filter(running).map(|key| (key, &links.get(key).cell));
        [cell.deadline.clone(), cell.grace()].map(|limit| {
            let limit = limit?;
            if limit.top() != Some(removed.key) {
                return None;
            }
            if let Some((key, heir)) = heir {
                let carried = [heir.deadline.clone(), heir.grace()];
                if carried.iter().flatten().any(|carried| Arc::ptr_eq(carried, &limit)) {
                    limit.set_top(key);
                    return None;
                }
            }
            let ticket = limit.end();
            Some((limit, ticket))
        })
    }
}

impl Handle {
    /// A root in a tree of its own.
    pub(crate) fn root(origin: Origin, deadline: Option<OwnDeadline>) -> Arc<Self> {
        let tree = Arc::new(Tree { links: Mutex::new(Links::new()) });
        let own = deadline.map(|own| Limit::new(own, origin.place(), Arc::clone(&tree)));
        let cell = Arc::new(Cell::new(origin, own.clone()));
        let key = {
            let mut links = tree.links.lock();
            let key = links.insert(Arc::clone(&cell), None);
            if let Some(own) = own {
                own.set_top(key);
            }
            key
        };
        Arc::new(Self { tree, key: Some(key), cell })
    }

    /// A child.
    pub(crate) fn child(&self, origin: Origin, deadline: Option<OwnDeadline>) -> Arc<Self> {
        let tree = &self.tree;
        let inherited = self.cell.deadline.as_ref();
        let own = deadline
            .filter(|own| inherited.is_none_or(|inherited| own.at < inherited.at))
            .map(|own| Limit::new(own, origin.place(), Arc::clone(tree)));
        let cell = Arc::new(Cell::new(origin, own.clone().or_else(|| inherited.cloned())));
        // The parent's deadline may be past without anybody having noticed.
        let ended = self.cell.is_cancelled();
        let key = match self.key {
            Some(parent) if !ended => {
                let mut links = tree.links.lock();
                // Flags are set under this lock: the walk sees the child, or the child the flags.
                cell.inherit(&self.cell);
                if cell.is_flagged(Level::Cancelled) {
                    None
                } else {
                    let key = links.insert(Arc::clone(&cell), Some(parent));
                    if let Some(own) = own {
                        own.set_top(key);
                    }
                    Some(key)
                }
            }
            _ => {
                cell.inherit(&self.cell);
                None
            }
        };
        Arc::new(Self { tree: Arc::clone(tree), key, cell })
    }

    /// What the world reads of it.
    #[inline]
    pub(crate) fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Cancels it and everything below.
    pub(crate) fn cancel(&self, cause: Cause) {
        self.walk(Level::Cancelled, cause, None);
    }

    /// Stops it and everything below, to be cancelled when `grace` is over. The chain's own timer
    /// keeps the grace, or else `timer`, or else that of the calling place.
    pub(crate) fn stop(&self, cause: Cause, grace: Duration, timer: Option<&Timer>) {
        if grace.is_zero() {
            return self.cancel(cause);
        }
        if grace == Duration::MAX {
            // Needs no timer.
            return self.walk(Level::Stopping, cause, None);
        }
        let timer = self.cell.timer().or_else(|| timer.cloned());
        let Ok(timer) = timer.map_or_else(Timer::ambient, Ok) else {
            return self.cancel(cause);
        };
        let Some(at) = timer.now().checked_add(grace) else {
            return self.walk(Level::Stopping, cause, None);
        };
        let own = OwnDeadline { at, timer };
        let limit = Limit::new(own, cause.place(), Arc::clone(&self.tree));
        self.walk(Level::Stopping, cause, Some(limit));
    }

    /// Walks, then wakes and arms with the lock released.
    fn walk(&self, level: Level, cause: Cause, grace: Option<Arc<Limit>>) {
        // A node that is in no tree was born cancelled.
        let Some(key) = self.key else { return };
        let mut links = self.tree.links.lock();
        let mut aftermath = Tree::walk(&mut links, key, level, &cause, grace.as_ref());
        // The grace holds here unless an earlier one did; then no node below took it either,
        // because each inherited that earlier one or took one earlier still.
        let taken = match (&grace, self.cell.grace()) {
            (Some(grace), Some(held)) => Arc::ptr_eq(grace, &held),
            _ => false,
        };
        // Timed also if a reader has found it past by now: that reader recorded it on one node.
        aftermath.grace = grace.filter(|_| taken);
        if let Some(grace) = &aftermath.grace {
            grace.set_top(key);
        }
        release_then(links, || aftermath.settle());
    }

    /// Has the limits registered with their timers, because somebody is going to wait.
    pub(crate) fn arm_timers(&self) {
        if let Some(deadline) = &self.cell.deadline {
            deadline.arm();
        }
    }

    /// How many entries the tree has.
    pub(crate) fn nodes(&self) -> usize {
        self.tree.links.lock().len()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut links = self.tree.links.lock();
        let removed = links.release(key);
        let mut ended: [[Option<Ended>; 2]; 2] = Default::default();
        for (ended, removed) in ended.iter_mut().zip(removed.iter().flatten()) {
            *ended = Tree::bequeath(&links, removed);
        }
        release_then(links, move || {
            for (limit, ticket) in ended.into_iter().flatten().flatten() {
                if let Some(ticket) = ticket {
                    limit.timer.revoke(ticket);
                }
            }
            // The cells go here: with them, perhaps, a cause's error.
            drop(removed);
        });
    }
}
