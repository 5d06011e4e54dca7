//! The face of the keyed lanes: items of one key one after the other, those of different keys side by side.
//! The work is done in `keyed_lanes/engine.rs`; there are no atomics and no locks here.

mod engine;
mod lease;
mod take;

pub use lease::{LaneHold, Lease};
pub use take::TakeLease;

use std::borrow::Cow;
use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;

use selvedge_cancel::Context;
use selvedge_primitives::Origin;

use crate::within::Within;

use engine::Engine;

/// A queue in which items of one key are worked on in order and one at a time, and those of different keys
/// by whoever is free.
///
/// Events of an account have to be applied in order, and there are a million accounts. To give each worker
/// its share of the keys keeps the order, and leaves workers idle beside one that is busy. Here each key has
/// a *lane* while it has items: any worker takes the front of any lane that nobody holds, as a [`Lease`]; while
/// it has the lease, nobody else gets an item of that key. When it is dropped the lane goes on to the next taker.
///
/// A lane is there while it has items or is leased, and not longer: idle keys cost nothing. (The tables have room for the most lanes that there
/// were at once, until there is none: then it is given back.)
///
/// This is a handle; a clone of it leads to the same lanes. Any number of tasks push, any number
/// take. It holds as many items as are pushed: who wants a bound acquires a permit of a
/// [`Semaphore`](crate::Semaphore) first, and keeps it in the item.
///
/// # End
///
/// After [`close`](Self::close) nothing can be pushed, and what is there is taken as before. A take says that it is over
/// once nothing is queued and nothing is leased: until then a lease that is given up unseen, or [given back](Lease::give_back), may bring
/// an item back.
///
/// # Fairness
///
/// Lanes stand in line for takers: a lane enters at the end when it gets its first item, or when its lease is dropped
/// and it has more. So a busy key waits for every other key between two of its items. Takers stand in line
/// for lanes, first come, first served; nobody overtakes them.
///
/// An item is given to the taker that is first, and that one's key is nobody else's from then on, also if it is not polled again: a take beside
/// the branch of a `select!` that runs, or in a `Vec`, keeps a key from all others until it is polled or dropped. Other keys
/// go on. Drop what you do not poll.
///
/// # Memory ordering
///
/// What precedes a push happens before the take that gives the item; what precedes the drop of a lease
/// happens before the next take of an item of that key.
///
/// # Examples
///
/// ```
/// use selvedge_sync::KeyedLanes;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lanes = KeyedLanes::new();
/// for (account, amount) in [("ada", 1), ("ada", 2), ("bob", 3)] {
///     lanes.push(account, amount)?;
/// }
/// let one = lanes.take().await.expect("three are there");
/// let two = lanes.take().await.expect("two are there");
/// assert_eq!((*one, *two), (1, 3));
/// assert!(lanes.try_take().is_none(), "ada's next has to wait");
///
/// drop(one);
/// assert_eq!(lanes.try_take().map(|lease| *lease), Some(2));
/// drop(two);
/// lanes.close();
/// assert!(lanes.take().await.is_none());
/// # Ok(())
/// # }
/// ```
///
/// # Algorithm
///
/// One lock around the lanes, a table of their keys (with a keyed hash, computed outside the lock), the line of lanes and the
/// line of takers. A push and a take are one critical section each, and so is the drop of a lease,
/// which hands the lane to the first taker directly. A lane with one item and a wait allocate nothing, once the tables have grown; they are given
/// back when the last of many lanes goes.
///
/// A key's `Eq` runs under that lock: it should be short, and must not use the lanes. A panic of it poisons nothing. The key of a lane is dropped
/// with the lane, by whoever has its last lease, whom a panic of its destructor does not reach.
pub struct KeyedLanes<K, T> {
    /// Lanes, lines, leases.
    engine: Arc<Engine<K, T>>,
    /// Name and place.
    origin: Origin,
}

/// An item was not pushed: the lanes are closed.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("item not pushed: the lanes are closed")]
#[non_exhaustive]
pub struct LanesClosed<K, T> {
    /// The key.
    pub key: K,
    /// The item.
    pub item: T,
}

impl<K, T> KeyedLanes<K, T> {
    /// No items.
    #[track_caller]
    #[must_use]
    pub fn new() -> Self {
        Self { engine: Arc::new(Engine::new()), origin: Origin::here() }
    }

    /// The same lanes under a name, for `{:?}` of this handle and its clones.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { engine: self.engine, origin: self.origin.named(name) }
    }

    /// The name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.origin.name()
    }

    /// Where it was made.
    pub const fn place(&self) -> &'static Location<'static> {
        self.origin.place()
    }

    /// Takes the front of the next lane, if there is one that nobody holds.
    #[must_use = "the lane goes on when the lease is dropped"]
    pub fn try_take(&self) -> Option<Lease<K, T>> {
        let (lane, item) = self.engine.try_take()?;
        Some(Lease::new(item, LaneHold::new(Arc::clone(&self.engine), lane)))
    }

    /// Takes the front of the next lane that nobody holds; waits until there is one. None when the lanes are
    /// closed, and nothing is queued or leased any more.
    ///
    /// Who waits while it holds a lease itself may wait for that lease.
    ///
    /// # Cancel safety
    ///
    /// Safe. Dropping the future loses the place in the line of takers. An item that it was given and has not seen goes back to the
    /// front of its lane, and that lane to the next taker, or to the front of the line.
    ///
    /// # Fairness
    ///
    /// See [`KeyedLanes`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// What preceded the push of the item, and the drop of the last lease of its key, is visible
    /// after this completes; see [`KeyedLanes`](Self#memory-ordering).
    ///
    /// # Panics
    ///
    /// When it is polled again after it was ready.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::KeyedLanes;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let lanes = KeyedLanes::new();
    /// let (taken, pushed) = tokio::join!(lanes.take(), async { lanes.push(7, "item") });
    /// assert!(pushed.is_ok());
    /// assert_eq!(*taken.expect("it is open"), "item");
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`KeyedLanes`](Self#algorithm).
    #[track_caller]
    #[inline]
    pub fn take(&self) -> TakeLease<'_, K, T> {
        TakeLease::new(&self.engine)
    }

    /// As [`take`](Self::take), for no longer than `ctx` lasts: then it gives the cause, and has left the line of takers.
    ///
    /// A context that has ended wins over an item: one that was given to this taker, and not seen, goes back to the front of its lane, and
    /// that lane to the next taker, or to the front of the line.
    ///
    /// # Cancel safety
    ///
    /// As [`take`](Self::take).
    ///
    /// # Fairness
    ///
    /// See [`KeyedLanes`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// As [`take`](Self::take); what preceded the cancellation is visible when that is what ended it.
    ///
    /// # Errors
    ///
    /// The cause of the context.
    ///
    /// # Panics
    ///
    /// As [`take`](Self::take), and with the panic of the waker of the taker that gets the item instead.
    ///
    /// # Examples
    ///
    /// A worker that stops with its context, too:
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::KeyedLanes;
    ///
    /// async fn work(ctx: &Context, lanes: &KeyedLanes<u64, String>) -> usize {
    ///     let mut done = 0;
    ///     while let Ok(Some(lease)) = lanes.take_in(ctx).await {
    ///         done += lease.len();
    ///     }
    ///     done
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let lanes = KeyedLanes::new();
    /// lanes.push(7, "item".to_owned()).expect("it is open");
    /// lanes.close();
    /// assert_eq!(work(&Context::background(), &lanes).await, 4);
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// As [`take`](Self::take), and a look at the context.
    #[track_caller]
    #[inline]
    pub fn take_in<'c>(&self, ctx: &'c Context) -> Within<'c, TakeLease<'_, K, T>> {
        Within::new(ctx, self.take())
    }

    /// Closes: nothing can be pushed any more. What is there is taken as before.
    ///
    /// # Panics
    ///
    /// With the panic of a waker, after everybody was woken.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.engine.look(|state| state.is_closed())
    }

    /// How many items are queued, those that are leased not among them.
    pub fn len(&self) -> usize {
        self.engine.look(|state| state.len())
    }

    /// Whether no items are queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many lanes there are: keys that have items or are leased.
    pub fn lanes(&self) -> usize {
        self.engine.look(|state| state.lanes())
    }
}

impl<K: Hash + Eq, T> KeyedLanes<K, T> {
    /// Puts an item at the end of the lane of its key.
    ///
    /// # Errors
    ///
    /// When the lanes are closed. Key and item come back.
    ///
    /// # Panics
    ///
    /// When the key's hash or comparison panics: nothing is pushed. With the panic of a waker, or of the destructor of a key whose
    /// lane is there already: when the item is pushed.
    pub fn push(&self, key: K, item: T) -> Result<(), LanesClosed<K, T>> {
        self.engine.push(key, item).map_err(|(key, item)| LanesClosed { key, item })
    }
}

impl<K, T> Clone for KeyedLanes<K, T> {
    /// Another handle to the same lanes.
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), origin: self.origin.clone() }
    }
}

impl<K, T> Default for KeyedLanes<K, T> {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T> fmt::Debug for KeyedLanes<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, lanes, closed) =
            self.engine.look(|state| (state.len(), state.lanes(), state.is_closed()));
        f.debug_struct("KeyedLanes")
            .field("origin", &self.origin)
            .field("len", &len)
            .field("lanes", &lanes)
            .field("closed", &closed)
            .finish()
    }
}

impl<K, T> fmt::Debug for LanesClosed<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanesClosed").finish_non_exhaustive()
    }
}
