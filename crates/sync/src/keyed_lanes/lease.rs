//! What a taker has: an item, and the lane it came from.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::engine::Engine;

/// An item of a [`KeyedLanes`](crate::KeyedLanes), and the lease of its lane: while it lives nobody else gets
/// an item of the same key.
///
/// When it is dropped, the item is dropped first, then the lane goes on: also in a panic. A lease that is forgotten
/// keeps its key to itself for ever.
///
/// It does not tell the key, which the lanes keep for those who push, and which may move while this lives: a worker that needs it finds it
/// in the item.
#[must_use = "the lane goes on when the lease is dropped"]
pub struct Lease<K, T> {
    /// The item. Before the hold, so that it is dropped before the lane goes on.
    item: T,
    /// The lane.
    hold: LaneHold<K, T>,
}

/// The lease of a lane, without the item; from [`Lease::split`].
#[must_use = "the lane goes on when the hold is dropped"]
pub struct LaneHold<K, T> {
    /// Whose lane it is.
    engine: Arc<Engine<K, T>>,
    /// Which; none once it was handed on.
    lane: Option<usize>,
}

impl<K, T> Lease<K, T> {
    /// An item and its lane.
    pub(super) fn new(item: T, hold: LaneHold<K, T>) -> Self {
        Self { item, hold }
    }

    /// The item by itself, for work that consumes it, and what keeps the lane until it is done.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::KeyedLanes;
    ///
    /// let lanes = KeyedLanes::new();
    /// lanes.push("ada", "first".to_owned()).expect("it is open");
    /// lanes.push("ada", "second".to_owned()).expect("it is open");
    /// let (item, hold) = lanes.try_take().expect("it is there").split();
    /// assert_eq!(item.into_bytes().len(), 5);
    /// assert!(lanes.try_take().is_none());
    /// drop(hold);
    /// assert!(lanes.try_take().is_some());
    /// ```
    pub fn split(self) -> (T, LaneHold<K, T>) {
        (self.item, self.hold)
    }

    /// Gives the item back, for another to work on: it is the front of its lane again, and the lane the first in line, as if nobody had
    /// taken it. For a worker that has to stop, or that cannot do this one. Who takes again at once may get the same item.
    ///
    /// # Panics
    ///
    /// With the panic of the waker of the taker that gets it.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_sync::KeyedLanes;
    ///
    /// let lanes = KeyedLanes::new();
    /// for item in [1, 2] {
    ///     lanes.push("ada", item).expect("it is open");
    /// }
    /// lanes.try_take().expect("it is there").give_back();
    /// assert_eq!(lanes.len(), 2);
    /// assert_eq!(lanes.try_take().map(|lease| *lease), Some(1));
    /// ```
    pub fn give_back(self) {
        let Self { item, hold } = self;
        hold.put_back(item);
    }
}

impl<K, T> LaneHold<K, T> {
    /// The lease of a lane.
    pub(super) fn new(engine: Arc<Engine<K, T>>, lane: usize) -> Self {
        Self { engine, lane: Some(lane) }
    }

    /// Hands the lane on, with an item before all others.
    fn put_back(mut self, item: T) {
        if let Some(lane) = self.lane.take() {
            self.engine.hand_on(lane, Some(item));
        }
    }
}

impl<K, T> Drop for LaneHold<K, T> {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.engine.hand_on(lane, None);
        }
    }
}

impl<K, T> Deref for Lease<K, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<K, T> DerefMut for Lease<K, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.item
    }
}

impl<K, T: fmt::Debug> fmt::Debug for Lease<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("item", &self.item).finish_non_exhaustive()
    }
}

impl<K, T> fmt::Debug for LaneHold<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneHold").finish_non_exhaustive()
    }
}
