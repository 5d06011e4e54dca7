//! The face of the single flight: one run of a piece of work for all who want it at the same time.
//! The work is done in `single_flight/flight.rs` (who drives, who waits, who is the last to leave) and
//! in `single_flight/map.rs` (which key is in flight, and what lies behind a lock); there are no atomics and no locks here.

mod builder;
mod craft;
mod flight;
mod map;
mod seat;
mod shard;
mod signal;
mod wait;
mod way;

pub use builder::SingleFlightBuilder;
pub use wait::FlightWait;

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::panic::Location;
use std::sync::Arc;

use selvedge_cancel::Context;
use selvedge_primitives::Origin;

use crate::within::Within;

use map::Map;

/// Runs a piece of work once for all who ask for the same key while it runs, and gives each the result.
///
/// Go's `golang.org/x/sync/singleflight`, for futures. A thousand requests miss the same entry of a cache
/// at once: one query goes to the database, and a thousand get its answer. The first caller of a key
/// starts a *flight*; who calls before it has landed joins it.
///
/// | Go | here |
/// |---|---|
/// | `g.Do(key, fn)` | [`run(key, \|\| future)`](Self::run) |
/// | `g.DoChan(key, fn)` | the same future, polled beside others |
/// | `g.Forget(key)` | [`forget(&key)`](Self::forget) |
/// | the work belongs to the first caller | it belongs to all who wait, and any of them drives it |
/// | no way to give up | a caller leaves by dropping its future; the last to leave cancels the work |
/// | a panic ends the process | a panic reaches each caller |
///
/// A call borrows the `SingleFlight`; one that is spawned, or outlives it, is made by [`run_owned`](Self::run_owned). Both may be bound
/// to a context: [`run_in`](Self::run_in), [`run_owned_in`](Self::run_owned_in).
///
/// # Who drives
///
/// The work is a future, and it is polled by whichever caller is polled first after it was woken. So a
/// caller that is dropped, or that nobody polls any more, stalls nobody, and the work never starts over.
/// It is dropped unfinished when the last caller has left.
///
/// So the work runs on the threads, in the runtimes and under the cooperative budgets of its callers, a part here and a part there. Work that
/// needs a certain runtime (its timers, its sockets, `spawn`) while callers come from others or from plain threads is
/// spawned there, and its handle is what the flight waits for.
///
/// Because any caller may be the one that is not polled, a wake-up of the work wakes all who wait for it:
/// work that is woken often costs every caller a wake-up each time. Spawn it and wait for its handle, if
/// that matters.
///
/// # Results that are kept
///
/// By default nothing is: a call that begins after the flight has landed starts another. With
/// [`keep_values`](SingleFlightBuilder::keep_values) and [`keep_errors`](SingleFlightBuilder::keep_errors)
/// a result is given to later callers for a time, and at most
/// [`keep_at_most`](SingleFlightBuilder::keep_at_most) are kept. This is no cache: it keeps a herd off that comes
/// a moment later.
///
/// # Fairness
///
/// All callers get the result together, and are woken in the order in which they last entered the line: after each wake-up of the work
/// they enter it anew, as they are polled.
///
/// # Memory ordering
///
/// What the work did happens before the completion of every wait that gives its result, and each poll of
/// the work happens before the next, on whatever thread.
///
/// # Panics
///
/// A panic of the work reaches every caller: whoever drove it panics with its payload, the others with
/// its text (without another call of the panic hook). Nothing is poisoned: the next call starts a flight.
/// So it is with a panic of the closure that makes the work, which reaches the caller who called it, and
/// those who have joined by then.
///
/// # Work that joins itself
///
/// Work that awaits a call of its own key waits for itself: it makes no progress until its callers leave,
/// and then it is dropped. It does not count as a caller, as long as it first polls that call with its own
/// waker. Such a call that is moved out of the work afterwards does not count either: it may drive, and gets the result of a flight that
/// lands, but keeps nothing in flight, and is pending for ever once the callers have left. Work that waits for itself in a roundabout way (through another key, or a task that it spawned)
/// counts as one, and stays in flight.
///
/// # Examples
///
/// One query for two callers:
///
/// ```
/// use std::cell::Cell;
/// use std::convert::Infallible;
/// use selvedge_sync::SingleFlight;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let users: SingleFlight<u64, String, Infallible> = SingleFlight::new();
/// let queries = Cell::new(0);
/// let query = || {
///     queries.set(queries.get() + 1);
///     async {
///         tokio::task::yield_now().await;
///         Ok("ada".to_owned())
///     }
/// };
///
/// let (one, two) = tokio::join!(users.run(7, query), users.run(7, query));
/// assert_eq!((one.unwrap(), two.unwrap()), ("ada".to_owned(), "ada".to_owned()));
/// assert_eq!(queries.get(), 1);
/// assert!(users.is_empty());
/// # }
/// ```
///
/// # Algorithm
///
/// Keys are spread over shards by a keyed hash (std's [`RandomState`], or [another](SingleFlightBuilder::hasher)), which is computed
/// outside of any lock. A shard is one lock around the keys, the flights and the lines of those who wait for them. It spins: a key's `Eq`
/// (and, in a [`forget`](Self::forget), its `Borrow`) runs under it, must not use the flights, and should be short. To join a flight costs
/// one trip to that lock, and so does to leave it; no allocation, and no count of references but that of the waker, of which the line has a
/// clone. To start one costs two allocations, one of them with its future, to land it another if it has more than one
/// caller or the result is kept: otherwise the caller gets the result itself, and not a clone. The line is
/// entered again after each wake-up.
pub struct SingleFlight<K, V, E, S = RandomState> {
    /// What is in flight, and what is kept.
    map: Arc<Map<K, V, E, S>>,
    /// Name and place.
    origin: Origin,
}

impl<K, V, E> SingleFlight<K, V, E> {
    /// Nothing is in flight, and no result will be kept.
    #[track_caller]
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Makes one that is named or keeps results for a time.
    #[track_caller]
    pub fn builder() -> SingleFlightBuilder<K, V, E> {
        SingleFlightBuilder::new()
    }
}

impl<K, V, E, S> SingleFlight<K, V, E, S> {
    /// The name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.origin.name()
    }

    /// Where it was made.
    pub const fn place(&self) -> &'static Location<'static> {
        self.origin.place()
    }

    /// How many keys it holds: those in flight, and those whose result is kept, also past its time until
    /// somebody comes along who sweeps it.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V, E, S> SingleFlight<K, V, E, S>
where
    K: Hash + Eq + Send + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Joins the flight of `key`, or starts one with the future that `make` makes. Completes with a clone
    /// of its result.
    ///
    /// Nothing happens before the first poll. `make` is called by it if there is no flight to join and no
    /// result is kept, and is dropped otherwise.
    ///
    /// The future borrows this `SingleFlight`; [`run_owned`](Self::run_owned) gives one that does not.
    ///
    /// # Cancel safety
    ///
    /// Safe. Who drops the future leaves the flight, which goes on for the others; the last to leave
    /// drops the work where it stands. A panic of the work's destructor goes on in the drop of that last
    /// future.
    ///
    /// # Fairness
    ///
    /// See [`SingleFlight`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// What the work did is visible after this completes; see [`SingleFlight`](Self#memory-ordering).
    ///
    /// # Errors
    ///
    /// The error of the work, cloned for each caller.
    ///
    /// # Panics
    ///
    /// When the work, `make`, the clone of the result or the key's hash or comparison panics, or when it is polled
    /// again after it was ready.
    ///
    /// So does a poll in which the caller's own waker panics, which is cloned to wait, and woken if the work was while this drove it. That costs
    /// nobody his seat: who has joined and is polled again goes on. A panic of the destructor of the key or of `make`, which are dropped by the poll that
    /// joins, ends there.
    ///
    /// # Examples
    ///
    /// A caller that leaves stops nobody:
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_sync::SingleFlight;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let flights: SingleFlight<&str, u32, &str> = SingleFlight::new();
    /// let slow = || async {
    ///     tokio::time::sleep(Duration::from_secs(2)).await;
    ///     Ok(7)
    /// };
    /// let impatient = tokio::time::timeout(Duration::from_secs(1), flights.run("key", slow));
    /// let (gave_up, value) = tokio::join!(impatient, flights.run("key", slow));
    /// assert!(gave_up.is_err());
    /// assert_eq!(value, Ok(7));
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`SingleFlight`](Self#algorithm).
    #[track_caller]
    #[inline]
    pub fn run<M, F>(&self, key: K, make: M) -> FlightWait<'_, K, V, E, M, S>
    where
        M: FnOnce() -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        FlightWait::new(&self.map, key, make)
    }

    /// As [`run`](Self::run), with a future that borrows nothing, and may be spawned.
    ///
    /// It keeps alive what it needs: it goes on when the last handle to this `SingleFlight` is dropped.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    ///
    /// # Fairness
    ///
    /// See [`SingleFlight`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// As [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use selvedge_sync::SingleFlight;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let flights: SingleFlight<u64, u32, Infallible> = SingleFlight::new();
    /// let call = flights.run_owned(7, || async { Ok(1) });
    /// drop(flights);
    /// assert_eq!(tokio::spawn(call).await.unwrap(), Ok(1));
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`run`](Self::run), and two reference counts.
    #[track_caller]
    #[inline]
    pub fn run_owned<M, F>(&self, key: K, make: M) -> FlightWait<'static, K, V, E, M, S>
    where
        M: FnOnce() -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        FlightWait::own(Arc::clone(&self.map), key, make)
    }

    /// As [`run`](Self::run), for no longer than `ctx` lasts: then it gives the cause, and the caller has left the flight. The work itself
    /// does not run under the context: it belongs to the others as well.
    ///
    /// A context that has ended starts and joins nothing, and wins over a flight that has landed since the last poll.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    ///
    /// # Fairness
    ///
    /// See [`SingleFlight`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// As [`run`](Self::run); what preceded the cancellation is visible when that is what ended it.
    ///
    /// # Errors
    ///
    /// The outer error is the cause of the context, the inner one that of the work.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run), and with the panic of the work's destructor when the last caller leaves because its context has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::SingleFlight;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let (ctx, canceller) = Context::background().child();
    /// let flights: SingleFlight<&str, u32, &str> = SingleFlight::new();
    /// assert_eq!(flights.run_in(&ctx, "key", || async { Err("none") }).await.unwrap(), Err("none"));
    ///
    /// canceller.cancel();
    /// assert!(flights.run_in(&ctx, "key", || async { Ok(7) }).await.is_err());
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`run`](Self::run), and a look at the context.
    #[track_caller]
    #[inline]
    pub fn run_in<'c, M, F>(
        &self,
        ctx: &'c Context,
        key: K,
        make: M,
    ) -> Within<'c, FlightWait<'_, K, V, E, M, S>>
    where
        M: FnOnce() -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        Within::new(ctx, self.run(key, make))
    }

    /// As [`run_owned`](Self::run_owned), for no longer than `ctx` lasts: as [`run_in`](Self::run_in), with a future that keeps a handle to
    /// the context, and may be spawned.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    ///
    /// # Fairness
    ///
    /// See [`SingleFlight`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// As [`run_in`](Self::run_in).
    ///
    /// # Errors
    ///
    /// As [`run_in`](Self::run_in).
    ///
    /// # Panics
    ///
    /// As [`run_in`](Self::run_in).
    ///
    /// # Examples
    ///
    /// As [`run_in`](Self::run_in).
    ///
    /// # Algorithm
    ///
    /// As [`run_owned`](Self::run_owned), and a look at the context.
    #[track_caller]
    #[inline]
    pub fn run_owned_in<M, F>(
        &self,
        ctx: &Context,
        key: K,
        make: M,
    ) -> Within<'static, FlightWait<'static, K, V, E, M, S>>
    where
        M: FnOnce() -> F,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        Within::own(ctx.clone(), self.run_owned(key, make))
    }

    /// Forgets the key: later callers start a flight of their own, those who wait stay with theirs, and
    /// what that gives is not kept. A result that was kept is dropped.
    ///
    /// # Panics
    ///
    /// When the key's hash, comparison or [`Borrow`] panics: nothing is forgotten. With the panic of the destructor of the key or of the
    /// result that was kept: when it is forgotten.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use selvedge_sync::SingleFlight;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let flights: SingleFlight<String, u32, Infallible> =
    ///     SingleFlight::builder().keep_values(Duration::from_secs(60)).build();
    /// let one = || async { Ok(1) };
    /// let two = || async { Ok(2) };
    /// assert_eq!(flights.run("key".to_owned(), one).await, Ok(1));
    /// assert_eq!(flights.run("key".to_owned(), two).await, Ok(1));
    /// flights.forget("key");
    /// assert_eq!(flights.run("key".to_owned(), two).await, Ok(2));
    /// # }
    /// ```
    pub fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.map.forget(key);
    }
}

impl<K, V, E, S> Clone for SingleFlight<K, V, E, S> {
    /// Another handle to the same flights.
    fn clone(&self) -> Self {
        Self { map: Arc::clone(&self.map), origin: self.origin.clone() }
    }
}

impl<K, V, E> Default for SingleFlight<K, V, E> {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V, E, S> fmt::Debug for SingleFlight<K, V, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight")
            .field("origin", &self.origin)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
