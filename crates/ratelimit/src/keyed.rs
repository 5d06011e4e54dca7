//! The face of the limits by key. The work is done in `keyed/table.rs`; there are no atomics and no locks here.

mod acquire;
mod builder;
mod change;
mod entry;
mod look;
mod plans;
mod room;
mod shard;
mod table;

pub use acquire::AcquireKey;
pub use builder::KeyedBuilder;

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use selvedge_cancel::{Context, RunOrCause};
use selvedge_primitives::time::nanos;

use crate::limiter::Ask;
use crate::{AcquireError, Quota, Reservation, TryAcquireError};
use acquire::Of;
use table::Table;

/// A token bucket for each of many keys: so many requests a second for each client, say. Exact and first in, first out, as a
/// [`Limiter`](crate::Limiter), in memory that is bounded.
///
/// A key is there once something was asked for it. When there are `max_keys` and another comes, [what is to be done](WhenFull) is said once:
/// by default the key that has been idle for the longest goes. Nobody has to sweep: a key with a full bucket is as good as none.
///
/// | you | take |
/// |---|---|
/// | will not wait | [`try_acquire`](Self::try_acquire) |
/// | wait in a task | [`acquire`](Self::acquire), [`acquire_in`](Self::acquire_in) |
/// | know the cost later | [`reserve`](Self::reserve) |
/// | give some keys another quota | [`KeyedBuilder::quota_by`], [`set_quota_of`](Self::set_quota_of) |
/// | read the quotas anew | [`set_quota`](Self::set_quota), [`reload`](Self::reload) |
/// | want to know who uses most | [`hottest`](Self::hottest) |
///
/// # Exactness
///
/// That of a [`Limiter`](crate::Limiter#exactness), for each key for as long as it is there. A key that is evicted while it is not full comes back full: give
/// `max_keys` room, or refuse the new ones.
///
/// A key is told by a fingerprint of 64 bits that a keyed hasher makes, std's SipHash with random keys if nothing else is said, so nobody can choose keys that collide.
/// Two of `n` keys have the same with a chance of `n^2 / 2^65`, one in four billion for a hundred thousand (of tables of fewer than 2,000 keys, in which it has
/// 61 bits, of one in a trillion); these two share a bucket, for as long as both are there.
///
/// # Fairness
///
/// First in, first out for each key. Keys have nothing to do with each other, but for the room.
///
/// # Memory ordering
///
/// None is promised, as for a [`Limiter`](crate::Limiter#memory-ordering).
///
/// # Examples
///
/// ```
/// use selvedge_ratelimit::{Keyed, Rate};
///
/// let clients: Keyed<String> = Keyed::new(Rate::per_second(5).burst(2), 100_000);
/// assert!(clients.try_acquire("alice", 2).is_ok());
/// assert!(clients.try_acquire("bob", 1).is_ok());
/// let refused = clients.try_acquire("alice", 1).unwrap_err();
/// println!("429, again in {:?}", refused.retry_in());
/// ```
///
/// # Algorithm
///
/// One word a key, as a [`Limiter`](crate::Limiter#algorithm) has, beside the fingerprint, seven to two lines of the cache, with their tags, which
/// are read without a lock (after F14; the source has the references). To take is a hash, a read of the clock and one compare-and-swap, and nothing is written that
/// all keys share. About 44 bytes a key with keys of 8 bytes, two thirds of which are there from the beginning, for `max_keys`. A key that comes
/// new costs two trips to a lock and, when there are
/// as many as may, two more and a look at 24 slots. A key that is waited for has a limiter of its own as long as that lasts. What is counted are
/// units of some sixteen nanoseconds' worth; every
/// 26 days (at rates above a hundred million a second, every few hours) the first to come reckons all keys anew, which takes as long as a change of the quota.
pub struct Keyed<K, S = RandomState> {
    /// The keys.
    table: Table<K, S>,
    /// The quota of a key, if it is its own.
    quota_by: Option<QuotaBy<K>>,
}

/// Tells the quota of a key.
type QuotaBy<K> = Box<dyn Fn(&K) -> Quota + Send + Sync>;

/// What is done with a new key when there are as many as may be. Keys with a full bucket go first, whatever is said here: they lose nothing. Looked at
/// are 24 slots at a time, one after the other, and up to 96 before anybody is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// The one of those looked at that is nearest to a full bucket goes, and begins with a full one when it comes back; and with a quota of its own only
    /// if [`quota_by`](KeyedBuilder::quota_by) gives it one. The new one is refused if all that are looked at are waited for.
    #[default]
    Evict,
    /// The new one is refused, with [`TryAcquireError::TooManyKeys`].
    Refuse,
    /// The new ones share one bucket, of the quota that keys have which have none of their own.
    Share,
}

/// How much a key uses; from [`Keyed::hottest`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heat<K> {
    /// The key.
    pub key: K,
    /// How long it takes until its bucket is full again.
    pub full_in: Duration,
    /// How many tokens it has.
    pub available: u32,
}

impl<K> Keyed<K> {
    /// `quota` for each key, of which there may be `max_keys`: at least one, and no more than 2^31. Their memory, but for the keys
    /// themselves, is there from the beginning.
    #[track_caller]
    pub fn new(quota: Quota, max_keys: u32) -> Self {
        Self::builder(quota, max_keys).build()
    }

    /// Limits of which more is to be said.
    #[track_caller]
    pub fn builder(quota: Quota, max_keys: u32) -> KeyedBuilder<K> {
        KeyedBuilder::new(quota, max_keys)
    }
}

impl<K, S: BuildHasher> Keyed<K, S> {
    /// A key that comes new, and its quota.
    fn fresh(&self, key: K) -> (K, Option<Quota>) {
        let quota = self.quota_by.as_ref().map(|quota_by| quota_by(&key));
        (key, quota)
    }

    /// Takes `n` tokens of a key if that is possible without waiting and without overtaking anybody who waits for it.
    ///
    /// # Errors
    ///
    /// As [`Limiter::try_acquire`](crate::Limiter::try_acquire), and for a key that comes new
    ///
    /// - [`TryAcquireError::TooManyKeys`], if that is [what is to be done](WhenFull), or no other can go because all that are looked at are waited for;
    /// - [`TryAcquireError::TooManyQuotas`], if it has one of its own and as many different ones are in use as may be: 1022, or 14 more than there may be
    ///   keys, if that is less.
    ///
    /// # Panics
    ///
    /// When `Hash`, `ToOwned` or [`quota_by`](KeyedBuilder::quota_by) does, which are called with no lock held: nothing is taken then, and nothing else
    /// changes.
    #[inline(always)]
    pub fn try_acquire<Q>(&self, key: &Q, n: u32) -> Result<(), TryAcquireError>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        let told = self.take(self.table.print(key), n, || key.to_owned());
        self.table.meter().tried(n, &told);
        told
    }

    /// The same, of a key with this print, which `key` makes one that stays; and somebody else counts it.
    #[inline(always)]
    fn take(&self, print: u64, n: u32, key: impl Fn() -> K) -> Result<(), TryAcquireError> {
        match n {
            0 => Ok(()),
            _ => self.table.try_take(print, n, || self.fresh(key())),
        }
    }

    /// Takes `n` tokens of a key, waiting in line for them.
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`Limiter::acquire`](crate::Limiter::acquire).
    ///
    /// # Fairness
    ///
    /// First in, first out for each key.
    ///
    /// # Memory ordering
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// As [`Limiter::acquire`](crate::Limiter::acquire) and [`try_acquire`](Self::try_acquire).
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready, and as [`try_acquire`](Self::try_acquire) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_ratelimit::{Keyed, Rate};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), selvedge_ratelimit::AcquireError> {
    /// let hosts: Keyed<String> = Keyed::new(Rate::every(Duration::from_millis(2)).burst(1), 1_000);
    /// for page in 0..3 {
    ///     hosts.acquire("example.org".to_owned(), 1).await?;
    ///     println!("page {page}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`try_acquire`](Self::try_acquire); and if there are too few tokens, a limiter for the key, for as long as somebody waits for it: two allocations.
    #[track_caller]
    pub fn acquire(&self, key: K, n: u32) -> AcquireKey<'_, K, S> {
        AcquireKey::new(Of::Borrowed(self), key, Ask::new(n))
    }

    /// As [`acquire`](Self::acquire), with a future that borrows nothing, so that it can move into a task or a struct.
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`acquire`](Self::acquire).
    ///
    /// # Fairness
    ///
    /// One line with [`acquire`](Self::acquire).
    ///
    /// # Memory ordering
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use selvedge_ratelimit::{Keyed, Rate};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let clients: Arc<Keyed<u64>> = Arc::new(Keyed::new(Rate::per_second(5).burst(2), 1_000));
    /// tokio::spawn(clients.acquire_owned(7, 1)).await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`acquire`](Self::acquire), and a count of the limits.
    #[track_caller]
    pub fn acquire_owned(self: &Arc<Self>, key: K, n: u32) -> AcquireKey<'static, K, S> {
        AcquireKey::new(Of::Owned(Arc::clone(self)), key, Ask::new(n))
    }

    /// As [`acquire`](Self::acquire), for no longer than `ctx` lasts; and not at all, if the tokens would be due after its deadline.
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`acquire`](Self::acquire).
    ///
    /// # Fairness
    ///
    /// One line with [`acquire`](Self::acquire).
    ///
    /// # Memory ordering
    ///
    /// As [`Limiter::acquire_in`](crate::Limiter::acquire_in).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire) and [`Limiter::acquire_in`](crate::Limiter::acquire_in).
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// As [`Limiter::acquire_in`](crate::Limiter::acquire_in).
    ///
    /// # Algorithm
    ///
    /// As [`acquire`](Self::acquire), and a look at the context.
    #[track_caller]
    pub fn acquire_in(&self, ctx: &Context, key: K, n: u32) -> RunOrCause<AcquireKey<'_, K, S>>
    where
        K: Hash + Clone,
    {
        let latest = match ctx.remaining() {
            Some(span) => self.table.clock().now().saturating_add(nanos(span)),
            None => u64::MAX,
        };
        let ask = Ask { latest, ..Ask::new(n) };
        ctx.run_or_cause(AcquireKey::new(Of::Borrowed(self), key, ask))
    }

    /// Takes a place in the line of a key for `n` tokens now, to be used when they are due. See [`Reservation`].
    ///
    /// For as long as there is one, and until something is asked for the key again, the key has a limiter of its own: two allocations.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), at once.
    #[track_caller]
    pub fn reserve<Q>(&self, key: &Q, n: u32) -> Result<Reservation, AcquireError>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        let print = self.table.print(key);
        let engine = self.table.engine(print, || self.fresh(key.to_owned()), true);
        let counted = engine.inspect_err(|_| self.table.meter().refused());
        let (number, engine) = counted?;
        let reserved = Reservation::new(&engine, Ask::new(n));
        if reserved.is_err() {
            drop(engine);
            self.table.try_demote(number);
        }
        reserved
    }

    /// How many tokens a key has. One that is not there would have its burst, and for that there is none here.
    pub fn available<Q>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.table.available(self.table.print(key))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys there may be.
    pub fn max_keys(&self) -> u32 {
        self.table.max_keys()
    }

    /// The quota of keys that have none of their own.
    pub fn quota(&self) -> Quota {
        self.table.quota()
    }

    /// Another quota for all keys that have none of their own, from now on: see [a quota that changes](crate::Limiter#a-quota-that-changes).
    ///
    /// Changes come one after the other: of several at the same time the last is that of every key. Costs a walk along all keys, in parts, between which
    /// others get their locks; takes of a key are held up while that one is changed.
    pub fn set_quota(&self, quota: Quota) {
        self.table.set_quota(quota);
    }

    /// A quota of its own for a key, from now on. None, and it has the one of all others. Whether the key is there: one that is not has, when it
    /// comes, what [`quota_by`](KeyedBuilder::quota_by) says. A [`reload`](Self::reload) that is on its way may replace it.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::TooManyQuotas`], if as many different ones are in use as [may be](Self::try_acquire).
    pub fn set_quota_of<Q>(&self, key: &Q, quota: Option<Quota>) -> Result<bool, TryAcquireError>
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        let set = self.table.set_own(self.table.print(key), quota);
        set.map_err(|_| TryAcquireError::TooManyQuotas)
    }

    /// Asks [`quota_by`](KeyedBuilder::quota_by) again, for every key that is there, and gives it what that says. How many were asked for.
    ///
    /// Keys are cloned, and the function is called, with no lock held. A key that comes meanwhile has what the function says after this was called. What a
    /// key was [given](Self::set_quota_of) is replaced as well, also what it is given while this goes on.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::TooManyQuotas`], if more different ones would be in use than [may be](Self::try_acquire). Some keys have their new ones then.
    ///
    /// # Panics
    ///
    /// When the function does, or `Clone` of a key: some keys have their new ones then.
    pub fn reload(&self) -> Result<usize, TryAcquireError>
    where
        K: Hash + Clone,
    {
        let Some(quota_by) = &self.quota_by else { return Ok(0) };
        self.table.reload();
        let keys = self.table.all_keys();
        for key in &keys {
            self.set_quota_of(key, Some(quota_by(key)))?;
        }
        Ok(keys.len())
    }

    /// Forgets a key, with what it has used and any quota that it was given: when it comes again it has its burst. Whether it has gone; one that is waited for
    /// stays, and one with a [`Reservation`] that is still held.
    pub fn forget<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.table.forget(self.table.print(key))
    }

    /// What they have done since they were made.
    #[cfg(feature = "metrics")]
    pub fn metrics(&self) -> crate::KeyedMetrics {
        self.table.meter().keyed_metrics()
    }

    /// The keys whose buckets take longest to be full again, `count` at most, from the hottest on. Not those that are waited for.
    ///
    /// A look at each entry, one after the other; keys are cloned with no lock held. `Clone` of a key must not call this or [`reload`](Self::reload): a key
    /// that is being cloned is waited for.
    pub fn hottest(&self, count: usize) -> Vec<Heat<K>>
    where
        K: Clone,
    {
        let hot = self.table.hottest(count).into_iter().map(|(key, full_in, available)| Heat {
            key,
            full_in: Duration::from_nanos(full_in),
            available,
        });
        hot.collect()
    }
}

impl<K, S: BuildHasher> fmt::Debug for Keyed<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("quota", &format_args!("{}", self.quota()))
            .field("keys", &format_args!("{} of {}", self.len(), self.max_keys()))
            .field("origin", self.table.origin())
            .finish_non_exhaustive()
    }
}
