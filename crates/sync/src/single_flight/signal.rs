//! What the waker of the work leads to.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use selvedge_primitives::atomic::{AtomicUsize, Ordering};
use selvedge_primitives::{FirstPanic, LineId, contain};

use super::flight::poke_all;
use super::map::Map;

/// Leads to a flight. Weak: a waker that is kept somewhere keeps nothing alive. Its address tells the flight from others that
/// have had the same number.
pub(super) struct Signal<K, V, E, S> {
    /// Where the flight is.
    map: Weak<Map<K, V, E, S>>,
    /// The hash of its key, which says the shard.
    hash: u64,
    /// The flight's number there; written once, under the lock of the shard, before anybody has the waker.
    number: AtomicUsize,
}

impl<K, V, E, S> Signal<K, V, E, S>
where
    K: Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Of a flight that does not exist yet.
    pub(super) fn new(map: &Arc<Map<K, V, E, S>>, hash: u64) -> Arc<Self> {
        Arc::new(Self { map: Arc::downgrade(map), hash, number: AtomicUsize::new(0) })
    }

    /// Its flight has got a number. Call it under the lock.
    pub(super) fn set(&self, id: LineId) {
        // Relaxed: read under the same lock.
        self.number.store(id.number(), Ordering::Relaxed);
    }

    /// As a waker, for the flight to know it by.
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// The work was woken.
    fn tell(&self) {
        // None: nobody waits who is alive.
        let Some(map) = self.map.upgrade() else { return };
        let mut panics = FirstPanic::new();
        panics.catch(|| self.tell_in(&map));
        // The others may have dropped theirs meanwhile. Then what is kept goes with this one, inside a wake of somebody who
        // knows nothing of it: a panic of a key or a result ends here.
        contain(|| drop(map));
        panics.resume();
    }

    /// The same, to those in that map.
    fn tell_in(&self, map: &Map<K, V, E, S>) {
        let shard = map.shard(self.hash);
        let mut held = shard.lock();
        // Relaxed: written under the same lock.
        let id = LineId::of_number(self.number.load(Ordering::Relaxed));
        // None: it has landed or was left, and nobody is to be told.
        let Some(flight) = held.line_mut(id) else { return };
        if flight.is_told_by(std::ptr::from_ref(self).cast()) && flight.mark_woken() {
            poke_all(shard, held, id);
        }
    }
}

impl<K, V, E, S> Wake for Signal<K, V, E, S>
where
    K: Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn wake(self: Arc<Self>) {
        self.tell();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.tell();
    }
}
