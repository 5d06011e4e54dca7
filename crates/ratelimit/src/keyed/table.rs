//! The engine of the keyed limits: entries among their tags, and the plans by which they go.
//!
//! # Protocol
//!
//! 1. *Hit*: hash the key, find its entry by its tag, and take from its word by one CAS. Nothing else is written, and nothing of the key
//!    is read: its fingerprint of 64 bits, with a hasher that is keyed, stands for it. Two of `n` keys have the same with a chance of `n^2 / 2^65`: of a
//!    hundred thousand once in four billion tables. They share a limit then.
//! 2. *Insert*: a key that is not found gets an entry that is free, or else one that is taken from another key (3), and is put into its group
//!    under the lock of its shard. An entry of no key has CHANGING in its word.
//! 3. *Evict*: in each shard a hand goes round the entries, and looks at [some](super::room) of them; the one that has been full for the longest, or else is
//!    nearest to it, is taken out of its shard, under the lock of that, while its word has CHANGING. A full bucket is as good as none: its
//!    key loses nothing. So nobody has to sweep.
//! 4. *Wait*: a key for which somebody wants to wait gets a limiter of its own, with what its entry has; and the entry has QUEUED, so that
//!    everybody comes to the lock and is led there. When nobody waits any more and nobody holds on to it, what it has goes back into the entry.
//! 5. *Change*: an entry is moved to another plan while its word has CHANGING.
//!
//! # The races
//!
//! - *Insert against insert*: of two that insert a key one finds the other's under the lock, under which it is counted as well: so a key that is there is
//!   never told that there is no room for it.
//! - *Hit against evict*: the eviction begins with a RMW of the word, and ends with another generation of it, a value which the word has never had. A hit
//!   that has read the entry before fails, whatever the entry is by now, and looks again.
//! - *Evict against insert*: a victim is taken out under the lock of its own shard before the lock of another is taken: nobody has two.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use selvedge_primitives::atomic::AtomicU32;
use selvedge_primitives::observe::Subject;
use selvedge_primitives::{Backoff, MutexGuard, Origin};

use super::WhenFull;
use super::change::Said;
use super::entry::{Entry, PRINT_SHIFT, granted, with_granted};
use super::plans::{LARGEST_DEBT, Plans};
use super::room::NoRoom;
use super::shard::{Keys, Shards};
use crate::bucket::GOLDEN;
use crate::bucket::course::{Glance, LARGEST_DEBT as LIMITERS_DEBT, Outlook, Piece};
use crate::bucket::scale::Scale;
use crate::bucket::word::Refusal;
use crate::clock::Clock;
use crate::limiter::{Engine, Settings, deficit_between};
use crate::meter::Meter;
use crate::{NotYet, Quota, TryAcquireError};

/// The fingerprint of the entry that keys share that found no room: of no key.
const SHARED: u64 = 0;

/// See the module's page.
pub(super) struct Table<K, S> {
    /// The entries and the keys.
    pub(super) shards: Shards<K>,
    /// How many keys there may be.
    max_keys: u32,
    /// How many there are, or are about to be.
    pub(super) count: AtomicU32,
    /// The plans.
    pub(super) plans: Plans,
    /// What is said of quotas.
    pub(super) said: Said,
    /// Tells the time.
    pub(super) clock: Clock,
    /// Makes fingerprints.
    hasher: S,
    /// Whether they are mixed.
    mixes: bool,
    /// Where the next eviction looks, in each shard.
    pub(super) hands: Box<[AtomicU32]>,
    /// Whose turn it is to give up a key.
    pub(super) turn: AtomicU32,
    /// What is done when there is no room.
    pub(super) when_full: WhenFull,
    /// Of the limiters of keys that are waited for.
    pub(super) settings: Settings,
    /// Who made it.
    origin: Origin,
    /// Counts.
    pub(super) meter: Meter,
}

/// Why a hit came to nothing.
enum Miss {
    /// It is told.
    Told(TryAcquireError),
    /// The lock tells: the entry is waited for, being changed, over, or another key's.
    Unsettled,
}

impl<K, S> Table<K, S> {
    /// No keys yet.
    pub(super) fn new(
        quota: Quota,
        max_keys: u32,
        when_full: WhenFull,
        settings: Settings,
        clock: Clock,
        (hasher, mixes): (S, bool),
        origin: Origin,
    ) -> Self {
        let now = clock.now();
        let plans = Plans::new(max_keys as usize, quota, now);
        let Ok(default) = plans.enter(quota, false, now) else {
            unreachable!("there is room for three")
        };
        let shards = Shards::new(max_keys as usize);
        plans.join(default);
        let hands = shards.all().iter().map(|_| AtomicU32::new(0)).collect();
        let shared = shards.entry(shards.shared());
        shared.begin(SHARED, default, &plans.course(default).piece(), now);
        Self {
            shards,
            max_keys,
            count: AtomicU32::new(0),
            plans,
            said: Said::new(default),
            clock,
            hasher,
            mixes,
            hands,
            turn: AtomicU32::new(0),
            when_full,
            settings,
            origin,
            meter: Meter::new(),
        }
    }

    /// What counts.
    #[inline]
    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Who made it.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How many keys there may be.
    pub(super) fn max_keys(&self) -> u32 {
        self.max_keys
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.shards.all().iter().map(|keys| keys.lock().len()).sum()
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

    /// Takes from an entry, if it is this key's, by a clock that said so, since when somebody else was faster or not.
    #[inline]
    fn hit(&self, number: u32, print: u64, tokens: u32, by: (u64, bool)) -> Result<(), Miss> {
        let entry = self.shards.entry(number);
        entry.word.attempt(
            |count, now| match entry.is_of(print) {
                true => self.outlook(entry, count, tokens, now),
                false => Outlook::Over,
            },
            by,
            || self.clock.now(),
            |_, lack| {
                let course = self.plans.course(entry.plan());
                Err(match self.clock.was_back(&lack, course, tokens) {
                    true => Miss::Unsettled,
                    false => Miss::Told(TryAcquireError::NotYet(NotYet::new(lack))),
                })
            },
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
    #[inline(always)]
    pub(super) fn try_take(
        &self,
        print: u64,
        tokens: u32,
        fresh: impl Fn() -> (K, Option<Quota>),
    ) -> Result<(), TryAcquireError> {
        // The read of the clock takes about as long as the entry takes to come.
        self.shards.prefetch(print);
        let now = self.clock.now();
        if let Some(entry) = self.shards.glance(print) {
            let seen = entry.word.snapshot();
            let owner = entry.owner();
            if seen.is_plain() && owner.has(print) {
                let (course, count) = (self.plans.course(owner.plan()), seen.granted());
                match course.glance(granted(count), tokens, now) {
                    Glance::Granted(next) => {
                        return match entry.word.grant(seen, with_granted(count, next)) {
                            true => Ok(()),
                            false => self.try_again(print, tokens, (now, true), fresh),
                        };
                    }
                    Glance::Short { lack, missing }
                        if missing <= course.units(tokens)
                            && !(self.clock.may_go_back() && lack.is_early())
                            && entry.word.is_still(seen) =>
                    {
                        return Err(TryAcquireError::NotYet(NotYet::new(lack)));
                    }
                    Glance::Short { .. } | Glance::Other => {}
                }
            }
        }
        self.try_again(print, tokens, (now, false), fresh)
    }

    /// What a glance does not tell, by a clock that said so, since when somebody else was faster or not.
    #[inline(never)]
    fn try_again(
        &self,
        print: u64,
        tokens: u32,
        by: (u64, bool),
        fresh: impl Fn() -> (K, Option<Quota>),
    ) -> Result<(), TryAcquireError> {
        if let Some(number) = self.shards.find(print) {
            match self.hit(number, print, tokens, by) {
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
        let mut number = self.admit_counted(print, &fresh)?;
        loop {
            if let Some(told) = self.try_at(number, print, tokens) {
                return told;
            }
            backoff.snooze();
            if number != self.shards.shared() {
                number = self.admit_counted(print, &fresh)?;
            }
        }
    }

    /// Takes from an entry that was the key's a moment ago, or is shared; none if that has to be looked at again.
    fn try_at(&self, number: u32, print: u64, tokens: u32) -> Option<Result<(), TryAcquireError>> {
        // The shared one has a print of its own.
        let print = if number == self.shards.shared() { SHARED } else { print };
        match self.hit(number, print, tokens, (self.clock.now(), false)) {
            Ok(()) => return Some(Ok(())),
            Err(Miss::Told(error)) => return Some(Err(error)),
            Err(Miss::Unsettled) => {}
        }
        let keys = self.shards.keys_of(number).lock();
        if !self.shards.entry(number).is_of(print) {
            return None;
        }
        if !keys.engines.contains_key(&number) {
            drop(keys);
            self.renew(number);
            return None;
        }
        let Err(keys) = self.demote(keys, number) else { return None };
        let engine = keys.engines.get(&number).map(Arc::clone);
        drop(keys);
        // It may wake others, with no lock held.
        let told = engine?.try_take(tokens);
        // The last who waited may have found it held here.
        self.try_demote(number);
        Some(told)
    }

    /// The limiter of a key that is to be waited for, and the number of its entry. `is_asked`, and not yet counted: it is counted if the key finds no room.
    pub(super) fn engine(
        &self,
        print: u64,
        fresh: impl Fn() -> (K, Option<Quota>),
        is_asked: bool,
    ) -> Result<(u32, Arc<Engine>), NoRoom> {
        loop {
            let number = match is_asked {
                true => self.admit_counted(print, &fresh)?,
                false => self.admit(print, &fresh)?,
            };
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
            let (clock, subject) = (self.clock.clone(), Subject::new("keyed limit", &self.origin));
            let meter = self.meter.clone();
            let engine = Engine::resume(quota, self.settings, clock, subject, now, deficit, meter);
            let engine = Arc::new(engine);
            keys.engines.insert(number, Arc::clone(&engine));
            entry.word.hand_to_line(seen, seen.granted() + 1);
            return Ok((number, engine));
        }
    }

    /// Under the lock of its shard, which is given back if nothing changes, because nobody waits or somebody holds on to the limiter of the entry. If nobody
    /// does, what that has goes back into the entry; perhaps not before this is called again.
    pub(super) fn demote<'a>(
        &self,
        mut keys: MutexGuard<'a, Keys<K>>,
        number: u32,
    ) -> Result<(), MutexGuard<'a, Keys<K>>> {
        let now = self.clock.now();
        // The only owner: who has none gets one under the lock only. That also says that nobody waits.
        let alone = keys.engines.get_mut(&number).and_then(Arc::get_mut);
        let Some(engine) = alone else { return Err(keys) };
        let entry = self.shards.entry(number);
        let plan = entry.plan();
        let piece = self.plans.course(plan).piece();
        if piece.is_over(now) {
            drop(keys);
            self.renew(number);
            return Ok(());
        }
        let (deficit, fine) = (engine.deficit(now), Scale::new(&engine.quota()).unit);
        let deficit = coarse(deficit_between(fine, deficit.into(), piece.scale.unit), &piece);
        let engine = keys.engines.remove(&number);
        let seen = entry.word.begin_change();
        let count = entry.suit(seen, plan, &piece, now, deficit);
        entry.word.begin(count);
        drop(keys);
        drop(engine);
        Ok(())
    }

    /// The limiter of an entry goes, if there is one that nobody holds on to.
    pub(super) fn try_demote(&self, number: u32) {
        while self.demote(self.shards.keys_of(number).lock(), number).is_ok() {}
    }

    /// Tells the time.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl<K, S: BuildHasher> Table<K, S> {
    /// The fingerprint of a key.
    #[inline(always)]
    pub(super) fn print<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        // Not all hashers fill the highest and the lowest bits, by which the place is chosen. No two become the same by this.
        let hash = self.hasher.hash_one(key);
        let print = if self.mixes { mixed(hash) } else { hash };
        print.max((SHARED + 1) << PRINT_SHIFT)
    }
}

/// A number for each, in which all bits depend on all.
fn mixed(hash: u64) -> u64 {
    let mixed = (hash ^ hash >> 32).wrapping_mul(GOLDEN);
    mixed ^ mixed >> 32
}

/// A deficit that fits into an entry.
pub(super) fn coarse(deficit: i128, piece: &Piece) -> u64 {
    u64::try_from(deficit).unwrap_or(u64::MAX).min(piece.burst_units() + LARGEST_DEBT)
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::collections::hash_map::RandomState;
    use std::time::Duration;

    use selvedge_primitives::atomic::Ordering;
    use selvedge_primitives::time::Timer;

    use super::*;
    use crate::Rate;
    #[cfg(feature = "tsc")]
    use crate::clock::tests::{HOUR, counted};

    fn table(
        burst: u32,
        max_keys: u32,
        when_full: WhenFull,
        clock: Clock,
    ) -> Table<u64, RandomState> {
        let (quota, settings) = (Rate::per_second(1).burst(burst), Settings::DEFAULT);
        let (hasher, origin) = ((RandomState::new(), false), Origin::here());
        Table::new(quota, max_keys, when_full, settings, clock, hasher, origin)
    }

    fn takes(table: &Table<u64, RandomState>, key: u64) -> Result<(), TryAcquireError> {
        table.try_take(table.print(&key), 1, || (key, None))
    }

    #[test]
    fn shards_do_not_drift_apart_when_keys_come_and_go_for_long() {
        for when_full in [WhenFull::Evict, WhenFull::Refuse] {
            let (timer, hand) = Timer::manual();
            let table = table(1, 1_024, when_full, Clock::new(timer));
            for key in 0..60_000 {
                assert_eq!(takes(&table, key), Ok(()), "{key}, {when_full:?}");
                // Its bucket is full again when five hundred have come after it.
                hand.advance(Duration::from_millis(2));
            }
            let lens: Vec<_> = table.shards.all().iter().map(|keys| keys.lock().len()).collect();
            assert!(lens.len() == 4 && lens.iter().all(|len| len.abs_diff(256) < 4), "{lens:?}");
        }
    }

    #[test]
    fn a_key_that_is_refused_costs_as_many_looks_as_are_documented() {
        for max_keys in [8, 1_024] {
            let (timer, _hand) = Timer::manual();
            let table = table(1, max_keys, WhenFull::Refuse, Clock::new(timer));
            let refused = TryAcquireError::TooManyKeys { max_keys };
            let mut keys = 0..;
            while keys.next().is_some_and(|key| takes(&table, key).is_ok()) {}
            for key in keys.take(100) {
                let hands =
                    || table.hands.iter().map(|hand| hand.load(Ordering::Relaxed)).sum::<u32>();
                let before = hands();
                assert_eq!(takes(&table, key), Err(refused));
                assert!(hands() - before <= 96);
            }
        }
    }

    #[cfg(feature = "tsc")]
    #[test]
    fn a_counter_behind_the_beginning_blocks_no_key() {
        let (clock, hand) = counted();
        let table = table(2, 8, WhenFull::Evict, clock);
        hand.decrement(HOUR);
        for key in 0..100 {
            assert!(takes(&table, key).is_ok() && takes(&table, key).is_ok());
            assert!(takes(&table, key).is_err());
            hand.increment(1_000_000_000_u64);
            assert_eq!(takes(&table, key), Ok(()), "{key}");
        }
    }

    /// One of two tokens is taken of each of so many keys, as many as there may be; then the clock goes back by an hour.
    #[cfg(feature = "tsc")]
    fn behind(keys: u32, when_full: WhenFull) -> (Table<u64, RandomState>, Arc<quanta::Mock>) {
        let (clock, hand) = counted();
        let table = table(2, keys, when_full, clock);
        hand.increment(HOUR);
        (0..keys.into()).for_each(|key| takes(&table, key).unwrap());
        assert!(!table.clock.catch_up(), "it has leapt, which is noted");
        hand.decrement(HOUR);
        (table, hand)
    }

    #[cfg(feature = "tsc")]
    #[test]
    fn a_full_table_has_room_for_new_keys_when_the_clock_has_gone_back() {
        let (table, hand) = behind(8, WhenFull::Refuse);
        assert!(takes(&table, 8).is_err());
        hand.increment(2_000_000_000_u64);
        // By now their buckets are full.
        (8..16).for_each(|key| takes(&table, key).unwrap());
        assert!(takes(&table, 16).is_err());
    }

    #[cfg(feature = "tsc")]
    #[test]
    fn a_change_of_quota_while_the_clock_is_back_makes_no_debt() {
        let (table, hand) = behind(1, WhenFull::Evict);
        table.set_quota(Rate::per_minute(1).burst(2));
        assert!(takes(&table, 0).is_ok() && takes(&table, 0).is_err());
        hand.increment(60_000_000_000_u64);
        assert_eq!(takes(&table, 0), Ok(()));
    }

    #[cfg(feature = "tsc")]
    #[test]
    fn a_clock_that_goes_back_blocks_no_key_for_more_than_an_interval() {
        let (clock, hand) = counted();
        let table = table(2, 8, WhenFull::Evict, clock);
        let takes = |key| takes(&table, key);
        hand.increment(HOUR);
        assert!(takes(1).is_ok() && takes(1).is_ok() && takes(2).is_ok());
        assert!(!table.clock.catch_up(), "it has leapt, which is noted");
        hand.decrement(HOUR);
        let Err(TryAcquireError::NotYet(not_yet)) = takes(1) else { panic!("it has none left") };
        assert!(not_yet.retry_in().is_some_and(|time| time <= Duration::from_secs(1)));
        assert!(takes(2).is_ok() && takes(2).is_err() && takes(3).is_ok());
        hand.increment(1_000_000_000_u64);
        assert!(takes(1).is_ok() && takes(1).is_err());
        hand.increment(HOUR);
        assert_eq!((0..3).filter(|_| takes(1).is_ok()).count(), 2);
    }
}
