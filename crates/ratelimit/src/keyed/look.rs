//! What there is to be seen: tokens of a key, the hottest keys, and all of them.
//!
//! Keys are the user's: they are cloned with no lock held. A key is taken out of its shard for that, and goes back; its entry stays where it is, and who
//! wants to clone the same key waits.

use selvedge_primitives::{Backoff, contain};

use super::table::Table;

impl<K, S> Table<K, S> {
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
            if entry.word.snapshot().is_queued() {
                self.try_demote(number);
            }
            let seen = entry.word.snapshot();
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
