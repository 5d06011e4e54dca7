//! The faces of the keyed semaphore and the keyed lock: a semaphore a key, for as long as somebody uses it. The work is done in
//! `keyed/map.rs` and by the semaphore's engine.

mod acquire;
mod error;
mod map;
mod permit;

pub use acquire::AcquireKeyed;
pub use error::{KeyedError, TryKeyedError};
pub use permit::KeyedPermit;

use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;

use selvedge_cancel::Context;
use selvedge_primitives::{Origin, block_on};

use crate::semaphore::Semaphore;
use crate::within::{Within, WithinOrCause};
use acquire::Entering;
use map::Map;

/// So many permits for each key: at most three requests of a tenant at once, whatever other tenants do.
///
/// A key has an entry while somebody holds its permits or waits for them, and no longer: there is nothing to clean up, also after waits that
/// were given up. A clone is another handle to the same map. For one permit a key take [`KeyedLock`].
///
/// | operation | waits | too many keys | `n` above the permits of a key |
/// |---|---|---|---|
/// | [`acquire`](Self::acquire), [`acquire_in`](Self::acquire_in) | the task | error | error |
/// | [`acquire_blocking`](Self::acquire_blocking) | the thread | error | error |
/// | [`try_acquire`](Self::try_acquire) | never | error | error |
///
/// # Fairness
///
/// First in, first out for each key, as [strictly](crate::Fairness::Strict) as a [`Semaphore`](crate::Semaphore). Keys do not wait for each other.
///
/// # Memory ordering
///
/// What was done under the permits of a key before they were given back happens before every acquisition of that key that comes after.
///
/// # Panics
///
/// Everything that is given a key panics if that key's `Hash`, `Eq` or destructor does; nothing has changed then. `Eq` runs under a lock: it
/// should be short, and must not use the same map. A panic of the destructor of a key that is not the caller's own goes no further.
///
/// # Examples
///
/// ```
/// use selvedge_sync::{KeyedSemaphore, TryKeyedError};
///
/// let tenants = KeyedSemaphore::new(2);
/// let one = tenants.try_acquire("ada", 1)?;
/// let other = tenants.try_acquire("ada", 1)?;
/// assert_eq!(tenants.try_acquire("ada", 1).unwrap_err(), TryKeyedError::NoPermits);
/// assert!(tenants.try_acquire("bob", 1).is_ok());
/// drop((one, other));
/// // Nothing is left of them.
/// assert!(tenants.is_empty());
/// # Ok::<_, TryKeyedError>(())
/// ```
///
/// # Algorithm
///
/// A map in shards, each a lock around a hash table with a keyed hash, whose entries are semaphores with a count of their users. To acquire
/// is to enter (one lock, and an allocation if the key is new) and to acquire from its semaphore; to give back is the reverse. The
/// last user takes the entry out. The table of a shard grows with its keys, and is given back when it is empty.
pub struct KeyedSemaphore<K> {
    /// The keys that are in use.
    map: Arc<Map<K>>,
}

impl<K> KeyedSemaphore<K> {
    /// `permits` for each key, and any number of keys: there are no more entries than permits that are held, and waits.
    ///
    /// # Panics
    ///
    /// When `permits` is above [`Semaphore::MAX_PERMITS`](crate::Semaphore::MAX_PERMITS).
    #[track_caller]
    pub fn new(permits: usize) -> Self {
        Self::with_max_keys(permits, usize::MAX)
    }

    /// `permits` for each key, and at most `keys` of them in use at once: who comes with another is
    /// [told](KeyedError::TooManyKeys) at once.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[track_caller]
    pub fn with_max_keys(permits: usize, keys: usize) -> Self {
        assert!(
            permits <= Semaphore::MAX_PERMITS,
            "keyed semaphore not made: more permits than Semaphore::MAX_PERMITS"
        );
        Self { map: Arc::new(Map::new(permits, keys, Origin::here())) }
    }

    /// Where it was made.
    pub fn place(&self) -> &'static Location<'static> {
        self.map.origin().place()
    }

    /// The permits of each key.
    pub fn permits(&self) -> usize {
        self.map.permits()
    }

    /// How many keys are in use: right at the moment of the call.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether no key is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> KeyedSemaphore<K> {
    /// Acquires `n` permits of `key` if that is possible without waiting and without overtaking anybody who waits for that key. None
    /// (`n` of 0) can always be had, and keep the key in use.
    ///
    /// # Errors
    ///
    /// - [`TryKeyedError::OverCapacity`]: no key has so many. The key is not looked at.
    /// - [`TryKeyedError::TooManyKeys`]: it would be one key more than there may be.
    /// - [`TryKeyedError::NoPermits`]: fewer are free, or somebody waits for this key.
    #[track_caller]
    pub fn try_acquire(&self, key: K, n: usize) -> Result<KeyedPermit<K>, TryKeyedError> {
        let capacity = self.permits();
        // Before it is entered: what is hopeless takes up no room among the keys.
        if n > capacity {
            return Err(TryKeyedError::OverCapacity { wanted: n, capacity });
        }
        let user = Map::enter(&self.map, key).map_err(|max| TryKeyedError::TooManyKeys { max })?;
        match user.entry().try_take(n) {
            true => Ok(KeyedPermit::new(user, n)),
            false => Err(TryKeyedError::NoPermits),
        }
    }

    /// Acquires `n` permits of `key`, waiting in that key's line for them.
    ///
    /// Completes with a [`KeyedPermit`] for all `n`, or with an error, at once: more than a key has, or one key too many. The
    /// key is entered, and the place in its line taken, by the first poll.
    ///
    /// # Cancel safety
    ///
    /// Safe. A future dropped while it waits loses its place in the line; one that was granted and not polled since gives its permits to the
    /// next. If nobody else uses the key, its entry goes. `key` is dropped with the future.
    ///
    /// # Fairness
    ///
    /// First in, first out for each key. A task that has spent its budget takes nothing before its next turn, but stands in line if others do.
    ///
    /// # Memory ordering
    ///
    /// As [`KeyedSemaphore`](Self#memory-ordering) says.
    ///
    /// # Errors
    ///
    /// [`KeyedError::OverCapacity`] and [`KeyedError::TooManyKeys`].
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready, and as [`KeyedSemaphore`](Self#panics) says.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::KeyedSemaphore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hosts = KeyedSemaphore::new(4);
    /// let permit = hosts.acquire("example.org".to_owned(), 1).await?;
    /// assert_eq!(permit.key(), "example.org");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`KeyedSemaphore`](Self#algorithm).
    #[track_caller]
    pub fn acquire(&self, key: K, n: usize) -> AcquireKeyed<K> {
        AcquireKeyed::new(Arc::clone(&self.map), key, n)
    }

    /// As [`acquire`](Self::acquire), for no longer than `ctx` lasts. Who is told that it has ended has left the line.
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`acquire`](Self::acquire).
    ///
    /// # Fairness
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Memory ordering
    ///
    /// As [`acquire`](Self::acquire); what preceded the cancellation is visible when that is what ended it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), and [`KeyedError::Ended`].
    ///
    /// # Panics
    ///
    /// As [`acquire`](Self::acquire), and with the panic of the waker of the one that gets the permits instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::{KeyedError, KeyedSemaphore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (request, canceller) = Context::background().child();
    /// let hosts = KeyedSemaphore::new(1);
    /// let held = hosts.acquire("example.org", 1).await?;
    /// canceller.cancel();
    /// let ended = hosts.acquire_in(&request, "example.org", 1).await.unwrap_err();
    /// assert!(matches!(ended, KeyedError::Ended(_)));
    /// drop(held);
    /// assert!(hosts.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`acquire`](Self::acquire), and a look at the context.
    #[track_caller]
    pub fn acquire_in<'c>(
        &self,
        ctx: &'c Context,
        key: K,
        n: usize,
    ) -> WithinOrCause<'c, AcquireKeyed<K>> {
        WithinOrCause::new(Within::new(ctx, self.acquire(key, n)))
    }

    /// Acquires `n` permits of `key`, blocking the thread. It stands in the same line as the tasks. Not for use in a task: it
    /// blocks the worker thread that may be needed to run the holder of what it waits for.
    ///
    /// # Cancel safety
    ///
    /// Nothing to cancel.
    ///
    /// # Fairness
    ///
    /// One line with [`acquire`](Self::acquire).
    ///
    /// # Memory ordering
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// As [`KeyedSemaphore`](Self#panics) says.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::KeyedSemaphore;
    ///
    /// let hosts = KeyedSemaphore::new(2);
    /// let both = hosts.acquire_blocking("example.org", 2)?;
    /// std::thread::scope(|scope| {
    ///     let waits = scope.spawn(|| hosts.acquire_blocking("example.org", 1).map(drop));
    ///     drop(both);
    ///     waits.join().unwrap()
    /// })?;
    /// assert!(hosts.is_empty());
    /// # Ok::<_, selvedge_sync::KeyedError>(())
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`acquire`](Self::acquire); the thread parks.
    #[track_caller]
    pub fn acquire_blocking(&self, key: K, n: usize) -> Result<KeyedPermit<K>, KeyedError> {
        block_on(Entering::new(Arc::clone(&self.map), key, n))
    }
}

impl<K> Clone for KeyedSemaphore<K> {
    fn clone(&self) -> Self {
        Self { map: Arc::clone(&self.map) }
    }
}

impl<K> fmt::Debug for KeyedSemaphore<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedSemaphore")
            .field("origin", self.map.origin())
            .field("permits", &self.permits())
            .field("keys", &self.len())
            .finish()
    }
}

/// A lock for each key: one at a time touches the file, the account, the row of this name.
///
/// It is a [`KeyedSemaphore`] of one permit a key, with the words of a lock. What is said there of entries, fairness and memory
/// holds here. A clone is another handle to the same locks.
///
/// # Examples
///
/// ```
/// use selvedge_sync::KeyedLock;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let accounts = KeyedLock::new();
/// let ada = accounts.lock("ada").await?;
/// assert!(accounts.try_lock("ada").is_err());
/// let bob = accounts.lock("bob").await?;
/// assert_eq!(accounts.len(), 2);
/// drop((ada, bob));
/// assert!(accounts.is_empty());
/// # Ok(())
/// # }
/// ```
pub struct KeyedLock<K> {
    /// One permit a key.
    semaphore: KeyedSemaphore<K>,
}

impl<K> KeyedLock<K> {
    /// Any number of keys: there are no more entries than locks that are held, and waits.
    #[track_caller]
    pub fn new() -> Self {
        Self { semaphore: KeyedSemaphore::new(1) }
    }

    /// At most `keys` in use at once.
    #[track_caller]
    pub fn with_max_keys(keys: usize) -> Self {
        Self { semaphore: KeyedSemaphore::with_max_keys(1, keys) }
    }

    /// Where it was made.
    pub fn place(&self) -> &'static Location<'static> {
        self.semaphore.place()
    }

    /// How many keys are in use: right at the moment of the call.
    pub fn len(&self) -> usize {
        self.semaphore.len()
    }

    /// Whether no key is in use.
    pub fn is_empty(&self) -> bool {
        self.semaphore.is_empty()
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> KeyedLock<K> {
    /// Locks `key` if that is possible without waiting.
    ///
    /// # Errors
    ///
    /// [`TryKeyedError::NoPermits`] when it is locked, or somebody waits for it; [`TryKeyedError::TooManyKeys`].
    #[track_caller]
    pub fn try_lock(&self, key: K) -> Result<KeyedPermit<K>, TryKeyedError> {
        self.semaphore.try_acquire(key, 1)
    }

    /// Locks `key`, waiting in its line: [`KeyedSemaphore::acquire`] of one permit.
    ///
    /// Completes with a [`KeyedPermit`], which is the lock, or with an error, at once: one key too many. The key is entered, and the
    /// place in its line taken, by the first poll.
    ///
    /// # Cancel safety
    ///
    /// Safe. A future dropped while it waits loses its place in the line; one that was handed the lock and not polled since hands it to the
    /// next. If nobody else uses the key, its entry goes. `key` is dropped with the future.
    ///
    /// # Fairness
    ///
    /// First in, first out for each key. A task that has spent its budget locks nothing before its next turn, but stands in line if others do.
    ///
    /// # Memory ordering
    ///
    /// What was done under the lock of a key before it was given back is visible after this completes.
    ///
    /// # Errors
    ///
    /// [`KeyedError::TooManyKeys`].
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready, and as [`KeyedSemaphore`](KeyedSemaphore#panics) says.
    ///
    /// # Examples
    ///
    /// Two keys, in the order that all keep to:
    ///
    /// ```
    /// use selvedge_sync::{KeyedError, KeyedLock, KeyedPermit};
    ///
    /// type Locked = KeyedPermit<&'static str>;
    ///
    /// async fn both(
    ///     locks: &KeyedLock<&'static str>,
    ///     one: &'static str,
    ///     other: &'static str,
    /// ) -> Result<(Locked, Locked), KeyedError> {
    ///     Ok((locks.lock(one.min(other)).await?, locks.lock(one.max(other)).await?))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), KeyedError> {
    /// let locks = KeyedLock::new();
    /// let (first, _second) = both(&locks, "bob", "ada").await?;
    /// assert_eq!(*first.key(), "ada");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`KeyedSemaphore`](KeyedSemaphore#algorithm).
    #[track_caller]
    pub fn lock(&self, key: K) -> AcquireKeyed<K> {
        self.semaphore.acquire(key, 1)
    }

    /// As [`lock`](Self::lock), for no longer than `ctx` lasts. Who is told that it has ended has left the line.
    ///
    /// A context that has ended wins over a lock: one that was handed to this wait, and not seen, goes to the next.
    ///
    /// # Cancel safety
    ///
    /// Safe, as [`lock`](Self::lock).
    ///
    /// # Fairness
    ///
    /// As [`lock`](Self::lock).
    ///
    /// # Memory ordering
    ///
    /// As [`lock`](Self::lock); what preceded the cancellation is visible when that is what ended it.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`KeyedError::Ended`].
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock), and with the panic of the waker of the one that gets the lock instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::{KeyedError, KeyedLock};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), KeyedError> {
    /// let (request, canceller) = Context::background().child();
    /// let locks = KeyedLock::new();
    /// let _held = locks.lock_in(&request, "ada").await?;
    /// let stops = async { canceller.cancel() };
    /// let (waited, ()) = tokio::join!(locks.lock_in(&request, "ada"), stops);
    /// assert!(matches!(waited, Err(KeyedError::Ended(_))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`lock`](Self::lock), and a look at the context.
    #[track_caller]
    pub fn lock_in<'c>(&self, ctx: &'c Context, key: K) -> WithinOrCause<'c, AcquireKeyed<K>> {
        self.semaphore.acquire_in(ctx, key, 1)
    }

    /// Locks `key`, blocking the thread: [`KeyedSemaphore::acquire_blocking`] of one permit, which says all there is to know.
    ///
    /// # Errors
    ///
    /// [`KeyedError::TooManyKeys`].
    #[track_caller]
    pub fn lock_blocking(&self, key: K) -> Result<KeyedPermit<K>, KeyedError> {
        self.semaphore.acquire_blocking(key, 1)
    }
}

impl<K> Default for KeyedLock<K> {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Clone for KeyedLock<K> {
    fn clone(&self) -> Self {
        Self { semaphore: self.semaphore.clone() }
    }
}

impl<K> fmt::Debug for KeyedLock<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLock")
            .field("origin", self.semaphore.map.origin())
            .field("keys", &self.len())
            .finish()
    }
}
