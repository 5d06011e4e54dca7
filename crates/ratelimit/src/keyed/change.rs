//! Changes of quotas: of all keys, of one, and another plan of the same quota when a course is over.
//!
//! A change of all moves one entry after the other from a plan to the one that follows it, and the *default*, by which keys go that come, before these:
//! under the lock of a shard a key either is there by then, and is moved, or comes after that and goes by the new one. Changes of all come one after
//! the other, so that there is always a plan to change to.
//!
//! The limiter of a key that is waited for is told afterwards, with no lock held, until it agrees with its entry: of several who change the two, the
//! last to look finds them alike.
//!
//! The order of locks: `changes`, a shard, `default`, the book of the plans.

use std::sync::Arc;

use selvedge_primitives::Mutex;
use selvedge_primitives::atomic::{AtomicU32, Ordering};

use super::plans::TooMany;
use super::shard::Keys;
use super::table::{Table, coarse};
use crate::Quota;
use crate::limiter::{Engine, deficit_between};

/// What is said of quotas.
pub(super) struct Said {
    /// The plan of keys that have none of their own. Changes under the lock.
    default: Mutex<u32>,
    /// Held by who moves all keys of a plan to another.
    changes: Mutex<()>,
    /// How often the quotas of keys were asked for anew.
    reloads: AtomicU32,
}

impl Said {
    /// Keys that have no quota of their own go by this plan, which somebody has joined for that.
    pub(super) fn new(default: u32) -> Self {
        Self { default: Mutex::new(default), changes: Mutex::new(()), reloads: AtomicU32::new(0) }
    }

    /// How often the quotas of keys were asked for anew: compared under the lock of a shard with what it was before a key's quota was asked for.
    pub(super) fn reloads(&self) -> u32 {
        // Relaxed: the lock of the shard orders it.
        self.reloads.load(Ordering::Relaxed)
    }
}

impl<K, S> Table<K, S> {
    /// The quota of keys that have none of their own.
    pub(super) fn quota(&self) -> Quota {
        let default = self.said.default.lock();
        self.plans.quota(*default)
    }

    /// The course of an entry may be over, or its word was changing: a new plan of the same quota, if it is over.
    pub(super) fn renew(&self, number: u32) {
        self.clock.catch_up();
        // Without the lock of the changes first: a long one may be on its way.
        if self.over(number, |_| ()).is_none() {
            return;
        }
        let changes = self.said.changes.lock();
        // So that the plan stays what it is.
        let Some(plan) = self.over(number, |plan| self.plans.join(plan)) else { return };
        let waited_for = self.replan(plan, self.plans.quota(plan));
        self.plans.leave(plan);
        drop(changes);
        self.tell(waited_for);
    }

    /// The plan of an entry, if that is over; `then` does something with it under the lock of the shard.
    fn over(&self, number: u32, then: impl FnOnce(u32)) -> Option<u32> {
        let _keys = self.shards.keys_of(number).lock();
        let entry = self.shards.entry(number);
        let plan = entry.plan();
        let is_over = self.plans.course(plan).piece().is_over(self.clock.now());
        (entry.is_taken() && is_over).then(|| {
            then(plan);
            plan
        })
    }

    /// All entries of a plan, which somebody holds, go by another quota from now on. Gives the limiters of those that are waited for, which are to be told. One
    /// at a time.
    #[must_use]
    fn replan(&self, old: u32, quota: Quota) -> Vec<(u32, Arc<Engine>)> {
        let Ok(new) = self.plans.follow(old, quota, self.clock.now()) else {
            unreachable!("there is room for one to change to")
        };
        {
            let mut default = self.said.default.lock();
            if *default == old {
                *default = new;
                self.plans.join(new);
                self.plans.leave(old);
            }
        }
        let mut waited_for = Vec::new();
        for (keys, numbers) in self.shards.ranges() {
            // A key that comes from here on, under the lock, goes by the new one.
            let keys = keys.lock();
            let shared = (numbers.start == 0).then(|| self.shards.shared());
            for number in numbers.chain(shared) {
                let entry = self.shards.entry(number);
                if entry.is_taken() && entry.plan() == old {
                    waited_for.extend(self.move_to(&keys, number, new));
                }
            }
        }
        self.plans.leave(new);
        waited_for
    }

    /// Under the lock of its shard: an entry goes by another plan from now on, by which somebody goes. What has come until now came by the old one.
    /// If it is waited for, its limiter is to be told.
    #[must_use]
    fn move_to(&self, keys: &Keys<K>, number: u32, plan: u32) -> Option<(u32, Arc<Engine>)> {
        let entry = self.shards.entry(number);
        let (old, now) = (entry.plan(), self.clock.now());
        let (old_piece, piece) = (self.plans.course(old).piece(), self.plans.course(plan).piece());
        self.plans.join(plan);
        let seen = entry.word.begin_change();
        let deficit = entry.deficit(seen, &old_piece, now).max(0);
        let deficit = deficit_between(old_piece.scale.unit, deficit.into(), piece.scale.unit);
        let count = entry.suit(seen, plan, &piece, now, coarse(deficit, &piece));
        // QUEUED stays if it is there.
        entry.word.end_change(seen, count);
        self.plans.leave(old);
        keys.engines.get(&number).map(|engine| (number, Arc::clone(engine)))
    }

    /// Limiters of keys that are waited for change as their entries did. That wakes those who are served, with no lock held.
    fn tell(&self, waited_for: impl IntoIterator<Item = (u32, Arc<Engine>)>) {
        for (number, engine) in waited_for {
            // Whoever changes the entry meanwhile comes here as well: the last to look finds them alike.
            while let Some(quota) = self.quota_of(number, &engine) {
                engine.change(|_| quota);
            }
            drop(engine);
            self.try_demote(number);
        }
    }

    /// The quota by which an entry goes, if its limiter goes by another.
    fn quota_of(&self, number: u32, engine: &Arc<Engine>) -> Option<Quota> {
        let keys = self.shards.keys_of(number).lock();
        if !keys.engines.get(&number).is_some_and(|there| Arc::ptr_eq(there, engine)) {
            return None;
        }
        let quota = self.plans.quota(self.shards.entry(number).plan());
        (engine.quota() != quota).then_some(quota)
    }

    /// Another quota for all keys that have none of their own.
    pub(super) fn set_quota(&self, quota: Quota) {
        self.clock.catch_up();
        let changes = self.said.changes.lock();
        let old = self.join_default();
        let is_other = self.plans.quota(old) != quota;
        let waited_for = if is_other { self.replan(old, quota) } else { Vec::new() };
        self.plans.leave(old);
        drop(changes);
        self.tell(waited_for);
    }

    /// One more goes by the plan of all that have none of their own: its number.
    pub(super) fn join_default(&self) -> u32 {
        let default = self.said.default.lock();
        self.plans.join(*default);
        *default
    }

    /// A quota of its own for a key that is there; none, and it has the one of all others. Whether it is there.
    pub(super) fn set_own(&self, print: u64, quota: Option<Quota>) -> Result<bool, TooMany> {
        // That of all others may be over, and nobody have come to it since: the shared entry always goes by it.
        self.renew(self.shards.shared());
        let keys = self.shards.keys(print).lock();
        let Some(number) = self.shards.find(print) else { return Ok(false) };
        let new = match quota {
            Some(quota) => self.plans.enter(quota, true, self.clock.now())?,
            None => self.join_default(),
        };
        let waited_for = self.move_to(&keys, number, new);
        // Before the lock is free, and who changes all others can be sure of a plan.
        self.plans.leave(new);
        drop(keys);
        self.tell(waited_for);
        Ok(true)
    }

    /// From here on keys that come have the quotas that they are said to have now.
    pub(super) fn reload(&self) {
        // Relaxed: see where it is read.
        self.said.reloads.fetch_add(1, Ordering::Relaxed);
    }
}
