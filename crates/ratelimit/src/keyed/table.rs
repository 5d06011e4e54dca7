//! The engine of the keyed limits: entries, an index that leads to them, and the plans by which they go.
//!
//! # Protocol
//!
//! 1. *Hit*: hash the key, find its entry in the index, and take from its word by one CAS. Nothing else is written, and nothing of the key
//!    is read: its fingerprint of 64 bits, with a hasher that is keyed, stands for it. Two of `n` keys have the same with a chance of `n^2 / 2^65`: of a
//!    hundred thousand once in four billion tables. They share a limit then.
//! 2. *Insert*: a key that is not found gets an entry that is free, or else one that is taken from another key (3), and is put into the index
//!    under the lock of its shard. An entry of no key has CHANGING in its word.
//! 3. *Evict*: a hand goes round the entries and looks at [`LOOKS`] of them; the one that has been full for the longest, or else is
//!    nearest to it, is taken out of its shard, under the lock of that, while its word has CHANGING. A full bucket is as good as none: its
//!    key loses nothing. So nobody has to sweep.
//! 4. *Wait*: a key for which somebody wants to wait gets a limiter of its own, with what its entry has; and the entry has QUEUED, so that
//!    everybody comes to the lock and is led there. When nobody waits any more and nobody holds on to it, what it has goes back into the entry.
//! 5. *Change*: an entry is moved to another plan while its word has CHANGING.
//!
//! # The races
//!
//! - *Hit against insert*: of two that insert a key one finds the other's under the lock.
//! - *Hit against evict*: the eviction begins with a RMW of the word, and ends with another generation of it, a value which the word has never had. A hit
//!   that has read the entry before fails, whatever the entry is by now, and looks again.
//! - *Evict against insert*: a victim is taken out under the lock of its own shard before the lock of another is taken: nobody has two.

use std::cell::Cell;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use selvedge_primitives::atomic::{AtomicU32, Ordering};
use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::Timer;
use selvedge_primitives::{Backoff, Mutex, MutexGuard, contain};

use super::WhenFull;
use super::entry::{Entry, PRINT_SHIFT, granted, with_granted};
use super::plans::{LARGEST_DEBT, Plans, TooMany};
use super::shard::{Keys, Shards};
use crate::bucket::course::{LARGEST_DEBT as LIMITERS_DEBT, Outlook, Piece};
use crate::bucket::scale::{LONGEST, Scale};
use crate::bucket::word::{Refusal, State};
use crate::clock::Clock;
use crate::limiter::{Engine, Settings, deficit_between};
use crate::meter::Meter;
use crate::{NotYet, Quota, TryAcquireError};

/// So many entries are looked at for one to evict.
const LOOKS: u32 = 16;
/// The fingerprint of the entry that keys share that found no room: of no key.
const SHARED: u64 = 0;
/// As often before a key is refused or shares.
const ROUNDS: u32 = 4;
/// Mixes fingerprints: the odd number next to 2^64 over the golden ratio (Knuth, "The Art of Computer Programming", volume 3, 6.4).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// See the module's page.
pub(super) struct Table<K, S> {
    /// The entries and the keys.
    shards: Shards<K>,
    /// How many keys there may be.
    max_keys: u32,
    /// How many there are, or are about to be.
    count: AtomicU32,
    /// The plans.
    plans: Plans,
    /// The plan of keys that have none of their own. Changes under the lock.
    default: Mutex<u32>,
    /// Held by who moves keys from one plan to another.
    changes: Mutex<()>,
    /// How often the quotas of keys were asked for anew.
    reloads: AtomicU32,
    /// Tells the time.
    clock: Clock,
    /// Makes fingerprints.
    hasher: S,
    /// Where the next eviction looks.
    hand: AtomicU32,
    /// What is done when there is no room.
    when_full: WhenFull,
    /// Of the limiters of keys that are waited for.
    settings: Settings,
    /// Counts.
    meter: Meter,
}

/// Why a hit came to nothing.
enum Miss {
    /// It is told.
    Told(TryAcquireError),
    /// The lock tells: the entry is waited for, being changed, over, or another key's.
    Unsettled,
}

impl<K, S: BuildHasher> Table<K, S> {
    /// No keys yet.
    pub(super) fn new(
        quota: Quota,
        max_keys: u32,
        when_full: WhenFull,
        settings: Settings,
        timer: Timer,
        hasher: S,
    ) -> Self {
        let clock = settings.clock(timer);
        let now = clock.now();
        let plans = Plans::new(max_keys as usize, quota, now);
        let Ok(default) = plans.enter(quota, false, now) else {
            unreachable!("there is room for three")
        };
        let shards = Shards::new(max_keys as usize);
        plans.join(default);
        let shared = shards.entry(shards.shared());
        shared.begin(SHARED, default, &plans.course(default).piece(), now);
        Self {
            shards,
            max_keys,
            count: AtomicU32::new(0),
            plans,
            default: Mutex::new(default),
            changes: Mutex::new(()),
            reloads: AtomicU32::new(0),
            clock,
            hasher,
            hand: AtomicU32::new(0),
            when_full,
            settings,
            meter: Meter::new(),
        }
    }

    /// What counts.
    #[inline]
    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// How many keys there may be.
    pub(super) fn max_keys(&self) -> u32 {
        self.max_keys
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.shards.all().iter().map(|keys| keys.lock().len()).sum()
    }

    /// The quota of keys that have none of their own.
    pub(super) fn quota(&self) -> Quota {
        let default = self.default.lock();
        self.plans.quota(*default)
    }

    /// The fingerprint of a key.
    #[inline]
    pub(super) fn print<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        // Not all hashers fill the highest and the lowest bits, by which the place is chosen. No two become the same by this.
        let hash = self.hasher.hash_one(key);
        let mixed = (hash ^ hash >> 32).wrapping_mul(ODD);
        (mixed ^ mixed >> 32).max((SHARED + 1) << PRINT_SHIFT)
    }

    /// What becomes of a request of an entry.
    #[inline(always)]
    fn outlook(&self, entry: &Entry, count: u64, tokens: u32, now: u64) -> Outlook {
        let course = self.plans.course(entry.plan());
        match course.outlook(granted(count), tokens, now) {
            Outlook::Granted(next) => Outlook::Granted(with_granted(count, next)),
            other => other,
        }
    }

    /// Takes from an entry, if it is this key's.
    #[inline]
    fn hit(&self, number: u32, print: u64, tokens: u32, now: u64) -> Result<(), Miss> {
        let entry = self.shards.entry(number);
        let first = Cell::new(Some(now));
        entry.word.attempt(
            |count, now| match entry.is_of(print) {
                true => self.outlook(entry, count, tokens, now),
                false => Outlook::Over,
            },
            || first.take().unwrap_or_else(|| self.clock.now()),
            |_, lack| Miss::Told(TryAcquireError::NotYet(NotYet::new(lack))),
            |refusal| {
                Err(match refusal {
                    Refusal::OverBurst => {
                        let burst = self.plans.course(entry.plan()).burst();
                        Miss::Told(TryAcquireError::OverBurst { wanted: tokens, burst })
                    }
                    Refusal::Closed | Refusal::Queued | Refusal::Unsettled => Miss::Unsettled,
                })
            },
        )
    }

    /// Takes `tokens` of a key without waiting. `fresh` makes one that stays of a key that comes new, and tells its quota if it has one of its
    /// own: with no lock held.
    #[inline]
    pub(super) fn try_take(
        &self,
        print: u64,
        tokens: u32,
        fresh: impl Fn() -> (K, Option<Quota>),
    ) -> Result<(), TryAcquireError> {
        // The read of the clock takes about as long as the entry takes to come.
        let fetched = self.shards.fetch(print);
        let now = self.clock.now();
        let is_it = |number: &u32| self.shards.entry(*number).is_of(print);
        if let Some(number) = fetched.filter(is_it).or_else(|| self.shards.find(print)) {
            match self.hit(number, print, tokens, now) {
                Ok(()) => return Ok(()),
                Err(Miss::Told(error)) => return Err(error),
                Err(Miss::Unsettled) => {}
            }
        }
        self.try_slow(print, tokens, fresh)
    }

    /// What a hit does not tell.
    #[cold]
    fn try_slow(
        &self,
        print: u64,
        tokens: u32,
        fresh: impl Fn() -> (K, Option<Quota>),
    ) -> Result<(), TryAcquireError> {
        let mut backoff = Backoff::new();
        loop {
            let number = self.admit(print, &fresh)?;
            // The shared one has a print of its own.
            let print = if number == self.shards.shared() { SHARED } else { print };
            match self.hit(number, print, tokens, self.clock.now()) {
                Ok(()) => return Ok(()),
                Err(Miss::Told(error)) => return Err(error),
                Err(Miss::Unsettled) => {}
            }
            let keys = self.shards.keys_of(number).lock();
            if !self.shards.entry(number).is_of(print) {
                continue;
            }
            if keys.engines.contains_key(&number) {
                let Err(keys) = self.demote(keys, number) else { continue };
                let engine = keys.engines.get(&number).map(Arc::clone);
                drop(keys);
                // It wakes others, with no lock held.
                return engine.expect("looked at above").try_take(tokens);
            }
            drop(keys);
            self.renew(number);
            backoff.snooze();
        }
    }

    /// The entry of a key, which gets one if it has none: its own, or the one that is shared.
    fn admit(
        &self,
        print: u64,
        fresh: &impl Fn() -> (K, Option<Quota>),
    ) -> Result<u32, TryAcquireError> {
        let found = {
            let _keys = self.shards.keys(print).lock();
            self.shards.find(print)
        };
        if let Some(number) = found {
            return Ok(number);
        }
        // Relaxed: compared under the lock, below.
        let reloads = self.reloads.load(Ordering::Relaxed);
        // The user's code, with no lock held.
        let (key, quota) = fresh();
        if !self.claim() {
            return self.full();
        }
        let now = self.clock.now();
        let plan = match quota.map(|quota| self.plans.enter(quota, true, now)) {
            Some(Ok(number)) => Some(number),
            None => None,
            Some(Err(TooMany)) => {
                self.unclaim();
                return Err(TryAcquireError::TooManyQuotas);
            }
        };
        let mut keys = self.shards.keys(print).lock();
        let found = self.shards.find(print);
        let free = self.shards.free(print);
        // Relaxed: who asks anew counts first, and then comes to every shard under its lock: before this key is there, and it is seen here; or after that,
        // and the key is asked for.
        let is_stale = self.reloads.load(Ordering::Relaxed) != reloads;
        let (None, Some(number), false) = (found, free, is_stale) else {
            drop(keys);
            plan.into_iter().for_each(|plan| self.plans.leave(plan));
            self.unclaim();
            return match found {
                // Somebody else was faster.
                Some(found) => Ok(found),
                None if is_stale => self.admit(print, fresh),
                // Far more keys fell into the shard than can be by chance.
                None => self.full(),
            };
        };
        let plan = plan.unwrap_or_else(|| self.join_default());
        let piece = self.plans.course(plan).piece();
        self.shards.entry(number).begin(print, plan, &piece, now);
        self.shards.insert(&mut keys, number, print, key);
        self.meter.inserted();
        Ok(number)
    }

    /// What becomes of a key for which there is no room.
    fn full(&self) -> Result<u32, TryAcquireError> {
        self.meter.turned_away();
        let max_keys = self.max_keys();
        match self.when_full {
            WhenFull::Share => Ok(self.shards.shared()),
            WhenFull::Evict | WhenFull::Refuse => Err(TryAcquireError::TooManyKeys { max_keys }),
        }
    }

    /// Room for a key, if there is some or can be.
    fn claim(&self) -> bool {
        // Relaxed: a count, nothing comes with it.
        let mut count = self.count.load(Ordering::Relaxed);
        while count < self.max_keys {
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
        (0..ROUNDS).any(|_| self.evict())
    }

    /// Room that is not needed.
    fn unclaim(&self) {
        // Relaxed: a count, nothing comes with it.
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes an entry from its key: of those that the hand comes to the one that is nearest to a full bucket, or has been full for the
    /// longest.
    fn evict(&self) -> bool {
        let now = self.clock.now();
        let most = self.shards.len();
        // Some are of no key.
        let looks = (LOOKS + LOOKS / 2).min(most);
        // Relaxed: a place to begin at.
        let from = self.hand.fetch_add(looks, Ordering::Relaxed);
        let mut victims: Vec<(i128, u32)> = (0..looks)
            .filter_map(|look| {
                let number = from.wrapping_add(look) % most;
                let entry = self.shards.entry(number);
                let seen = entry.word.snapshot();
                if !seen.is_plain() {
                    if seen.is_queued() {
                        self.try_demote(number);
                    }
                    return None;
                }
                let piece = self.plans.course(entry.plan()).piece();
                let deficit = entry.deficit(seen, &piece, now);
                let spare = self.when_full == WhenFull::Evict || deficit <= 0;
                let is_whole = entry.word.is_still(seen) && spare;
                is_whole.then(|| (in_time(deficit, &piece), number))
            })
            .collect();
        victims.sort_unstable();
        victims.into_iter().any(|(_, number)| self.take_away(number, now))
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
        drop(keys);
        self.plans.leave(plan);
        self.unclaim();
        self.meter.forgotten();
        // The user's code.
        contain(|| drop(key));
        true
    }

    /// The limiter of a key that is to be waited for, and the number of its entry.
    pub(super) fn engine(
        &self,
        print: u64,
        fresh: impl Fn() -> (K, Option<Quota>),
    ) -> Result<(u32, Arc<Engine>), TryAcquireError> {
        loop {
            let number = self.admit(print, &fresh)?;
            let is_shared = number == self.shards.shared();
            let mut keys = self.shards.keys_of(number).lock();
            if !is_shared && self.shards.find(print) != Some(number) {
                continue;
            }
            if let Some(engine) = keys.engines.get(&number) {
                return Ok((number, Arc::clone(engine)));
            }
            let entry = self.shards.entry(number);
            let plan = entry.plan();
            let (quota, now) = (self.plans.quota(plan), self.clock.now());
            let piece = self.plans.course(plan).piece();
            let seen = entry.word.begin_change();
            let deficit = entry.deficit(seen, &piece, now).max(0).into();
            // Its units are finer.
            let fine = Scale::new(&quota).unit;
            let deficit = deficit_between(piece.scale.unit, deficit, fine);
            let deficit = u64::try_from(deficit).unwrap_or(u64::MAX).min(LIMITERS_DEBT);
            let (clock, subject) = (self.clock.clone(), Subject::here("keyed limit"));
            let meter = self.meter.clone();
            let engine = Engine::resume(quota, self.settings, clock, subject, now, deficit, meter);
            let engine = Arc::new(engine);
            keys.engines.insert(number, Arc::clone(&engine));
            entry.word.hand_to_line(seen, seen.granted() + 1);
            return Ok((number, engine));
        }
    }

    /// The course of an entry may be over, or its word was changing: a new plan of the same quota, if it is over.
    fn renew(&self, number: u32) {
        let entry = self.shards.entry(number);
        let changes = self.changes.lock();
        let (plan, quota) = {
            let _keys = self.shards.keys_of(number).lock();
            let plan = entry.plan();
            if !entry.is_taken() || !self.plans.course(plan).piece().is_over(self.clock.now()) {
                return;
            }
            // So that it stays what it is.
            self.plans.join(plan);
            (plan, self.plans.quota(plan))
        };
        let waited_for = self.replan(plan, quota);
        self.plans.leave(plan);
        drop(changes);
        self.tell(waited_for);
    }

    /// All entries of a plan, which somebody holds, go by another quota from now on. Gives the limiters of those that are waited for, which are to be told. One
    /// at a time.
    #[must_use]
    fn replan(&self, old: u32, quota: Quota) -> Vec<(u32, Arc<Engine>)> {
        let Ok(new) = self.plans.follow(old, quota, self.clock.now()) else {
            unreachable!("there is room for one to change to")
        };
        {
            let mut default = self.default.lock();
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
        // What came after the end of the old course as well.
        let end = old_piece.since.saturating_add(old_piece.lasts);
        let after = old_piece.scale.earned(now.saturating_sub(end).min(LONGEST));
        let deficit = entry.deficit(seen, &old_piece, now).saturating_sub_unsigned(after).max(0);
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
        let changes = self.changes.lock();
        let old = self.join_default();
        let is_other = self.plans.quota(old) != quota;
        let waited_for = if is_other { self.replan(old, quota) } else { Vec::new() };
        self.plans.leave(old);
        drop(changes);
        self.tell(waited_for);
    }

    /// One more goes by the plan of all that have none of their own: its number.
    fn join_default(&self) -> u32 {
        let default = self.default.lock();
        self.plans.join(*default);
        *default
    }

    /// A quota of its own for a key that is there; none, and it has the one of all others. Whether it is there.
    pub(super) fn set_own(&self, print: u64, quota: Option<Quota>) -> Result<bool, TooMany> {
        let keys = self.shards.keys(print).lock();
        let Some(number) = self.shards.find(print) else { return Ok(false) };
        let new = match quota {
            Some(quota) => self.plans.enter(quota, true, self.clock.now())?,
            None => self.join_default(),
        };
        let waited_for = self.move_to(&keys, number, new);
        drop(keys);
        self.plans.leave(new);
        self.tell(waited_for);
        Ok(true)
    }

    /// From here on keys that come have the quotas that they are said to have now.
    pub(super) fn reload(&self) {
        // Relaxed: see where it is read.
        self.reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// How many tokens a key has; none if it is not there, which is as good as a full bucket.
    pub(super) fn available(&self, print: u64) -> Option<u32> {
        let keys = self.shards.keys(print).lock();
        let number = self.shards.find(print)?;
        if let Some(engine) = keys.engines.get(&number) {
            return Some(engine.available());
        }
        let entry = self.shards.entry(number);
        let piece = self.plans.course(entry.plan()).piece();
        // Others may take meanwhile; it does not change hands under the lock.
        let deficit = entry.deficit(entry.word.snapshot(), &piece, self.clock.now()).max(0) as u64;
        Some(piece.tokens(piece.burst_units().saturating_sub(deficit)))
    }

    /// The keys that take longest to have a full bucket again, with how long that is, in nanoseconds, and how many tokens they have.
    pub(super) fn hottest(&self, count: usize) -> Vec<(K, u64, u32)>
    where
        K: Clone,
    {
        let now = self.clock.now();
        let look = |number: u32| {
            let entry = self.shards.entry(number);
            let seen: State = entry.word.snapshot();
            let piece = self.plans.course(entry.plan()).piece();
            let (deficit, print) = (entry.deficit(seen, &piece, now), entry.print());
            let is_used = seen.is_plain() && deficit > 0 && entry.word.is_still(seen);
            is_used.then(|| {
                let there = piece.tokens(piece.burst_units().saturating_sub(deficit as u64));
                let full_in = piece.scale.due(deficit as u64).unwrap_or(u64::MAX);
                (full_in, number, print, there)
            })
        };
        let mut hot: Vec<_> = (0..self.shards.len()).filter_map(look).collect();
        hot.sort_unstable_by(|a, b| b.cmp(a));
        hot.truncate(count);
        let keys = hot.into_iter().filter_map(|(full_in, number, print, there)| {
            Some((self.clone_key(number, print)?, full_in, there))
        });
        keys.collect()
    }

    /// A clone of the key of an entry, if that has this print, made with no lock held: the key is taken out for that, and put back if it is still
    /// its own. Waits for others that do the same.
    fn clone_key(&self, number: u32, print: u64) -> Option<K>
    where
        K: Clone,
    {
        let mut backoff = Backoff::new();
        loop {
            let mut keys = self.shards.keys_of(number).lock();
            if !self.is_its_own(number, print) {
                return None;
            }
            if let Some(key) = self.shards.take(&mut keys, number) {
                drop(keys);
                // It goes back also if `clone` panics.
                let away = Away { table: self, number, print, key: Some(key) };
                return away.key.clone();
            }
            drop(keys);
            backoff.snooze();
        }
    }

    /// Every key that is there now, each cloned with no lock held.
    pub(super) fn all_keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        let mut all = Vec::new();
        for (keys, numbers) in self.shards.ranges() {
            let there: Vec<_> = {
                let _keys = keys.lock();
                let taken = numbers.filter(|number| self.shards.entry(*number).is_taken());
                taken.map(|number| (number, self.shards.entry(number).print())).collect()
            };
            all.extend(
                there.into_iter().filter_map(|(number, print)| self.clone_key(number, print)),
            );
        }
        all
    }
}

impl<K, S> Table<K, S> {
    /// Under the lock: whether an entry is of the key with this print.
    fn is_its_own(&self, number: u32, print: u64) -> bool {
        let entry = self.shards.entry(number);
        entry.print() == print && entry.is_taken()
    }

    /// A key that was taken out goes back.
    fn put_back(&self, number: u32, print: u64, key: K) {
        let mut keys = self.shards.keys_of(number).lock();
        if self.is_its_own(number, print) && self.shards.is_away(&keys, number) {
            self.shards.put(&mut keys, number, key);
        } else {
            // It has gone meanwhile. The user's code comes after the lock.
            drop(keys);
            contain(|| drop(key));
        }
    }

    /// Under the lock of its shard, which is given back if somebody holds on to the limiter of the entry: what that has goes back into the entry.
    fn demote<'a>(
        &self,
        mut keys: MutexGuard<'a, Keys<K>>,
        number: u32,
    ) -> Result<(), MutexGuard<'a, Keys<K>>> {
        let now = self.clock.now();
        // The only owner: who has none gets one under the lock only. That also says that nobody waits.
        let alone = keys.engines.get_mut(&number).and_then(Arc::get_mut);
        let Some(engine) = alone else { return Err(keys) };
        let (deficit, fine) = (engine.deficit(now), Scale::new(&engine.quota()).unit);
        let engine = keys.engines.remove(&number);
        let entry = self.shards.entry(number);
        let plan = entry.plan();
        let piece = self.plans.course(plan).piece();
        let deficit = coarse(deficit_between(fine, deficit.into(), piece.scale.unit), &piece);
        let seen = entry.word.begin_change();
        let count = entry.suit(seen, plan, &piece, now, deficit);
        entry.word.begin(count);
        drop(keys);
        drop(engine);
        Ok(())
    }

    /// The limiter of an entry goes, if there is one that nobody holds on to.
    pub(super) fn try_demote(&self, number: u32) {
        let keys = self.shards.keys_of(number).lock();
        let _ = self.demote(keys, number);
    }

    /// Tells the time.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// A key that was taken out of its shard, and goes back.
struct Away<'a, K, S> {
    /// From where.
    table: &'a Table<K, S>,
    /// The number of its entry.
    number: u32,
    /// The print of that.
    print: u64,
    /// There, until it is dropped.
    key: Option<K>,
}

impl<K, S> Drop for Away<'_, K, S> {
    fn drop(&mut self) {
        self.key
            .take()
            .into_iter()
            .for_each(|key| self.table.put_back(self.number, self.print, key));
    }
}

/// A deficit that fits into an entry.
fn coarse(deficit: i128, piece: &Piece) -> u64 {
    u64::try_from(deficit).unwrap_or(u64::MAX).min(piece.burst_units() + LARGEST_DEBT)
}

/// How long a deficit takes to go away, in nanoseconds; less than nothing: for how long there has been none.
fn in_time(deficit: i64, piece: &Piece) -> i128 {
    let time = piece.scale.due(deficit.unsigned_abs()).unwrap_or(u64::MAX);
    if deficit < 0 { -i128::from(time) } else { time.into() }
}
