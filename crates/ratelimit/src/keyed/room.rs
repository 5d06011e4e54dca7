//! Room for a key that comes new, and the key that goes for it.
//!
//! A key is counted under the lock of its shard, as it is put there: so one that is there is never told that there is no room for it. Who has taken the
//! room of another key holds that until it has put its own there, or gives it back.
//!
//! No two shards are locked at a time, and none while the user's code runs.

use selvedge_primitives::atomic::Ordering;
use selvedge_primitives::contain;

use super::WhenFull;
use super::plans::TooMany;
use super::table::Table;
use crate::{Quota, TryAcquireError};

/// So many entries are looked at for one to evict; some are of no key.
const LOOKS: u32 = 24;
/// As often before a key is refused or shares: an even number.
const ROUNDS: u32 = 4;
/// So often somebody else may be faster to the room that was made, or a shard may be full.
const TRIES: u32 = 4;

/// Why a key has no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// There are as many as there may be, and none can go.
    Keys {
        /// So many.
        max_keys: u32,
    },
    /// It has a quota of its own, and more are in use than may be.
    Quotas,
}

impl From<NoRoom> for TryAcquireError {
    fn from(why: NoRoom) -> Self {
        match why {
            NoRoom::Keys { max_keys } => Self::TooManyKeys { max_keys },
            NoRoom::Quotas => Self::TooManyQuotas,
        }
    }
}

impl<K, S> Table<K, S> {
    /// As [`admit`](Self::admit), and counts it if the key finds no room.
    pub(super) fn admit_counted(
        &self,
        print: u64,
        fresh: &impl Fn() -> (K, Option<Quota>),
    ) -> Result<u32, NoRoom> {
        let number = self.admit(print, fresh);
        let found_none = match &number {
            Ok(number) => *number == self.shards.shared(),
            Err(why) => matches!(why, NoRoom::Keys { .. }),
        };
        if found_none {
            self.meter.turned_away();
        }
        number
    }

    /// The entry of a key, which gets one if it has none: its own, or the one that is shared.
    pub(super) fn admit(
        &self,
        print: u64,
        fresh: &impl Fn() -> (K, Option<Quota>),
    ) -> Result<u32, NoRoom> {
        // Whose bucket has been full for long may go: it must not seem as if that were to come.
        self.clock.catch_up();
        loop {
            let found = {
                let _keys = self.shards.keys(print).lock();
                self.shards.find(print)
            };
            if let Some(number) = found {
                return Ok(number);
            }
            let reloads = self.said.reloads();
            // The user's code, with no lock held.
            let (key, quota) = fresh();
            let now = self.clock.now();
            let own = quota.map(|quota| self.plans.enter(quota, true, now)).transpose();
            let own = own.map_err(|TooMany| NoRoom::Quotas)?;
            let leave = || own.into_iter().for_each(|plan| self.plans.leave(plan));
            let is_full = self.is_full();
            let mut has_room = is_full && self.make_room(print);
            // If there is none now, there is none.
            let mut tries = if is_full && !has_room { 0 } else { TRIES };
            let mut keys = self.shards.keys(print).lock();
            let there = loop {
                if let Some(number) = self.shards.find(print) {
                    break Some(Ok(number));
                }
                // Who asks anew counts first, and then comes to every shard under its lock: before this key is there, and it is seen here; or after that, and the
                // key is asked for.
                if self.said.reloads() != reloads {
                    break None;
                }
                let free = self.shards.free(print);
                if let Some(number) = free.filter(|_| has_room || self.claim()) {
                    let plan = own.unwrap_or_else(|| self.join_default());
                    let piece = self.plans.course(plan).piece();
                    self.shards.entry(number).begin(print, plan, &piece, now);
                    self.shards.insert(&mut keys, number, print, key);
                    self.meter.inserted();
                    return Ok(number);
                }
                if tries == 0 {
                    break Some(self.full());
                }
                drop(keys);
                let made = match free {
                    Some(_) => self.make_room(print),
                    None => (0..ROUNDS).any(|_| self.evict(self.shards.shard(print), now)),
                };
                if made && has_room {
                    self.unclaim();
                }
                has_room |= made;
                tries = if made { tries - 1 } else { 0 };
                keys = self.shards.keys(print).lock();
            };
            drop(keys);
            leave();
            if has_room {
                self.unclaim();
            }
            if let Some(told) = there {
                return told;
            }
        }
    }

    /// What becomes of a key for which there is no room.
    fn full(&self) -> Result<u32, NoRoom> {
        let max_keys = self.max_keys();
        match self.when_full {
            WhenFull::Share => Ok(self.shards.shared()),
            WhenFull::Evict | WhenFull::Refuse => Err(NoRoom::Keys { max_keys }),
        }
    }

    /// Whether there are as many keys as there may be.
    fn is_full(&self) -> bool {
        // Relaxed: a hint.
        self.count.load(Ordering::Relaxed) >= self.max_keys()
    }

    /// Under the lock of a shard, where the key is then put: room for it, if there is some.
    fn claim(&self) -> bool {
        // Relaxed: a count, nothing comes with it.
        let mut count = self.count.load(Ordering::Relaxed);
        while count < self.max_keys() {
            // Relaxed: both, as above.
            let counted = self.count.compare_exchange_weak(
                count,
                count + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match counted {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    /// Takes the room of another key for one with this print, if one can be spared: in its own shard, if that has its share, and else in the one whose
    /// turn it is. Without that the shards would drift apart, since as many go from each, but not as many come.
    fn make_room(&self, print: u64) -> bool {
        let (own, shards) = (self.shards.shard(print), self.shards.all().len());
        let now = self.clock.now();
        let at_home = |rounds: u32| (0..rounds).any(|_| self.evict(own, now));
        let in_turn = |rounds: u32| {
            (0..rounds).any(|_| {
                // Relaxed: turns.
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                self.evict(turn as usize % shards, now)
            })
        };
        if shards == 1 {
            return at_home(ROUNDS);
        }
        match self.shards.has_its_share(print, self.max_keys()) {
            true => at_home(ROUNDS / 2) || in_turn(ROUNDS / 2),
            false => in_turn(ROUNDS - 1) || at_home(1),
        }
    }

    /// Room that is not needed.
    fn unclaim(&self) {
        // Relaxed: a count, nothing comes with it.
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes an entry of a shard from its key: of those that the shard's hand comes to the one that is nearest to a full bucket, or has been full for the
    /// longest.
    fn evict(&self, shard: usize, now: u64) -> bool {
        let slots = self.shards.slots(shard);
        let most = slots.end - slots.start;
        let looks = LOOKS.min(most);
        // Relaxed: a place to begin at.
        let from = self.hands[shard].fetch_add(looks, Ordering::Relaxed);
        let mut victim = None;
        for look in 0..looks {
            let number = slots.start + from.wrapping_add(look) % most;
            let entry = self.shards.entry(number);
            let seen = entry.word.snapshot();
            if seen.is_queued() {
                self.try_demote(number);
            }
            if !seen.is_plain() {
                continue;
            }
            let piece = self.plans.course(entry.plan()).piece();
            let deficit = entry.deficit(seen, &piece, now);
            let full_in = piece.scale.roughly_due(deficit);
            let is_spare = self.when_full == WhenFull::Evict || deficit <= 0;
            let is_better = victim.is_none_or(|(best, _)| full_in < best);
            if is_spare && is_better && entry.word.is_still(seen) {
                victim = Some((full_in, number));
            }
        }
        victim.is_some_and(|(_, number)| self.take_away(number, now))
    }

    /// Takes an entry from its key, if that is still as it was.
    fn take_away(&self, number: u32, now: u64) -> bool {
        let entry = self.shards.entry(number);
        let mut keys = self.shards.keys_of(number).lock();
        if !entry.word.snapshot().is_plain() {
            return false;
        }
        let seen = entry.word.begin_change();
        let plan = entry.plan();
        let deficit = entry.deficit(seen, &self.plans.course(plan).piece(), now);
        if self.when_full != WhenFull::Evict && deficit > 0 {
            entry.word.cancel_change(seen);
            return false;
        }
        let key = self.shards.remove(&mut keys, number);
        drop(keys);
        self.plans.leave(plan);
        self.meter.evicted();
        // The user's code.
        contain(|| drop(key));
        true
    }

    /// Forgets a key, and what it has used: it is as if it had never been there. Whether it was; not one that is waited for.
    pub(super) fn forget(&self, print: u64) -> bool {
        let (mut keys, number) = loop {
            let keys = self.shards.keys(print).lock();
            let Some(number) = self.shards.find(print) else { return false };
            if !keys.engines.contains_key(&number) {
                break (keys, number);
            }
            if self.demote(keys, number).is_err() {
                return false;
            }
        };
        let entry = self.shards.entry(number);
        entry.word.begin_change();
        let plan = entry.plan();
        let key = self.shards.remove(&mut keys, number);
        // Before the lock is free: who does not find the key any more finds room for it.
        self.unclaim();
        drop(keys);
        self.plans.leave(plan);
        self.meter.forgotten();
        // The user's code.
        contain(|| drop(key));
        true
    }
}
