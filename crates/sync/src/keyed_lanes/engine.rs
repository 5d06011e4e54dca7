//! The engine of [`KeyedLanes`](crate::KeyedLanes): lanes, the line of those that are ready, and the line of
//! takers, under one lock.
//!
//! # Vocabulary
//!
//! A *lane* has the items of a key, in order. It is *leased* from the take of its front until the lease is dropped;
//! it is *ready* when it has items and is not leased. *Handing on* is what the drop of a lease does.
//!
//! # Invariants, whenever the lock is free
//!
//! - **L1** A lane that is there has items or is leased.
//! - **L2** A lane is in the line of ready lanes, once, exactly if it is ready.
//! - **L3** While a taker waits no lane is ready.
//! - **L4** While a taker waits the lanes are open, or there is a lane.
//!
//! # Protocol
//!
//! One critical section each:
//!
//! 1. *Push*: an item joins its lane, which is leased or ready already, or makes one. A new lane is
//!    leased to the first taker that waits, or becomes ready.
//! 2. *Take*: the front of the first ready lane; otherwise the taker waits, unless L4 says that it is over.
//! 3. *Hand on*: a lane with items is leased to the first taker, or becomes ready; one without is taken out, and if it was the last
//!    of lanes that are closed, all takers are told that it is over.
//! 4. *Leave*: a taker that was given a lease and has not seen it gives the item back to the front of its lane and hands that on,
//!    with the difference that the lane becomes ready before all others: it had been first. So does one that has seen it, and wants it to be
//!    another's.
//! 5. *Close*: as 3, if there is no lane.
//!
//! # The races
//!
//! - *Hand on against push*: under the lock the push finds the lane, and its item is seen by the one who hands on; or the lane
//!   is gone, and the push makes another.
//! - *Push against wait*: the taker looks at the line of lanes and enters the line of takers in one critical section.
//! - *Leave against a grant*: decided by the lock; the loser has a lease, and gives it back.
//!
//! # Why no wake-up is lost
//!
//! By L3 a taker that waits has nothing to take, and each step that makes a lane ready hands it to the first of
//! those who wait instead. An item that is given stays given to one taker until that has it, or gives it back.
//!
//! # Why a taker is given a lease, and not called
//!
//! A taker that is not polled again keeps the key that it was given from all others. It could be called instead, to come to the lock and take
//! what is there, as the front of an eventual semaphore is: the lane would be anybody's until then. But only the front of a line is called. One
//! that does not come would keep all takers behind it from all keys, unless an alarm took its turn from it, which the lanes have not; and
//! of many lanes that become ready at once each would be heard of only when the taker before has come.
//!
//! # User code
//!
//! `Hash` runs before the lock is taken; `Eq` of the keys runs under it, before anything has changed. Keys and items are moved
//! out of the lock before they are dropped. A panic of the destructor of a lane's key ends there; that of an equal key that came with
//! another item is its pusher's.
//!
//! # Memory
//!
//! A lane has room for its first item in itself, so that to make one and to take it out asks the allocator for nothing. The tables grow under
//! the lock, as they have more lanes than ever since they were empty; so does what is behind the first item of a lane. They are given back when
//! they are empty, and not before, after the lock is released.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll};

use hashbrown::HashTable;
use selvedge_primitives::{
    Entry, FirstPanic, Left, Locked, WaitQueue, Waiter, WakeBatch, contain, release_then,
};
use slab::Slab;

/// A table with room for more than this gives its memory back when it is empty.
const SPARE: usize = 64;

/// The lanes, and the takers.
pub(super) type Queue<K, T> = WaitQueue<State<K, T>, (), Told<T>>;

/// The lock, held.
type Held<'a, K, T> = Locked<'a, State<K, T>, (), Told<T>>;

/// A place in the line of takers.
pub(super) type Place<'l, K, T> = Waiter<'l, State<K, T>, (), Told<T>>;

/// Keyed lanes without a face.
pub(super) struct Engine<K, T> {
    /// The lanes, and the takers.
    queue: Queue<K, T>,
    /// Makes the hashes of these lanes.
    hasher: RandomState,
}

/// What the lock guards beside the line of takers.
pub(super) struct State<K, T> {
    /// The lanes, by number.
    lanes: Slab<Lane<K, T>>,
    /// Their numbers, by the hash of the key.
    numbers: HashTable<usize>,
    /// Those that are ready, in order.
    ready: VecDeque<usize>,
    /// How many items there are in all lanes.
    items: usize,
    /// Whether nothing can be pushed.
    closed: bool,
}

impl<K, T> Drop for State<K, T> {
    /// Each key and each item goes by itself, also when another panics.
    fn drop(&mut self) {
        let mut panics = FirstPanic::new();
        for Lane { key, first, others, .. } in self.lanes.drain() {
            panics.catch(|| drop(key));
            for item in first.into_iter().chain(others) {
                panics.catch(|| drop(item));
            }
        }
        panics.resume();
    }
}

/// The items of a key.
struct Lane<K, T> {
    /// Of the key.
    hash: u64,
    /// The key.
    key: K,
    /// The first item; none if there are no others either.
    first: Option<T>,
    /// The other items, in order.
    others: VecDeque<T>,
}

impl<K, T> Lane<K, T> {
    /// A lane of one item.
    fn new(hash: u64, key: K, item: T) -> Self {
        Self { hash, key, first: Some(item), others: VecDeque::new() }
    }

    /// Whether it has no items.
    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Puts an item behind all others.
    fn push_back(&mut self, item: T) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.others.push_back(item),
        }
    }

    /// Puts an item before all others.
    fn push_front(&mut self, item: T) {
        if let Some(second) = self.first.replace(item) {
            self.others.push_front(second);
        }
    }

    /// Takes the first item.
    fn pop_front(&mut self) -> Option<T> {
        let first = self.first.take();
        self.first = self.others.pop_front();
        first
    }
}

/// What a taker is told.
pub(super) enum Told<T> {
    /// It has the lease of that lane, and this item.
    Leased(usize, T),
    /// Nothing will come.
    Over,
}

/// Memory that is given back with no lock held.
type Spare<K, T> = (Slab<Lane<K, T>>, HashTable<usize>, VecDeque<usize>);

impl<K, T> Engine<K, T> {
    /// No lanes.
    pub(super) fn new() -> Self {
        let state = State {
            lanes: Slab::new(),
            numbers: HashTable::new(),
            ready: VecDeque::new(),
            items: 0,
            closed: false,
        };
        Self { queue: WaitQueue::new(state), hasher: RandomState::new() }
    }

    /// Where takers wait.
    pub(super) fn queue(&self) -> &Queue<K, T> {
        &self.queue
    }

    /// Looks at the state.
    pub(super) fn look<R>(&self, look: impl FnOnce(&State<K, T>) -> R) -> R {
        look(&self.queue.lock())
    }

    /// Takes the front of the first ready lane.
    pub(super) fn try_take(&self) -> Option<(usize, T)> {
        self.queue.lock().take()
    }

    /// Takes, or waits in the line.
    pub(super) fn poll_take(
        &self,
        place: Pin<&mut Place<'_, K, T>>,
        cx: &mut Context<'_>,
    ) -> Poll<Told<T>> {
        place.poll_enter(cx, |held| match held.take() {
            Some((lane, item)) => Entry::Ready(Told::Leased(lane, item)),
            None if held.is_over() => Entry::Ready(Told::Over),
            None => Entry::Wait(()),
        })
    }

    /// Leaves the line of takers; gives back what was given and not seen.
    pub(super) fn leave(&self, place: Pin<&mut Place<'_, K, T>>) {
        if let Left::Granted(Told::Leased(lane, item)) = place.cancel() {
            self.hand_on(lane, Some(item));
        }
    }

    /// The lease of a lane is over, or was given up with its item.
    pub(super) fn hand_on(&self, number: usize, unseen: Option<T>) {
        let mut held = self.queue.lock();
        let is_first = unseen.is_some();
        held.items += usize::from(is_first);
        let lane = &mut held.lanes[number];
        if let Some(item) = unseen {
            lane.push_front(item);
        }
        if !lane.is_empty() {
            return self.offer(held, number, is_first);
        }
        let (gone, spare) = (held.take_out(number), held.spare());
        // The key is that of whoever pushed first, not of the one who happens to have the last lease: a panic of it ends here.
        let drop_gone = move || {
            contain(|| drop(gone));
            drop(spare);
        };
        if !held.is_over() {
            return release_then(held, drop_gone);
        }
        let mut panics = FirstPanic::new();
        panics.catch(|| self.tell_all(held));
        drop_gone();
        panics.resume();
    }

    /// A lane has items and is not leased: it goes to the first taker, or into the line.
    fn offer(&self, mut held: Held<'_, K, T>, number: usize, is_first: bool) {
        match is_first {
            true => held.ready.push_front(number),
            false => held.ready.push_back(number),
        }
        if held.is_empty() {
            return;
        }
        // By L3 it is the only one.
        let mut batch = WakeBatch::new();
        if let Some((lane, item)) = held.take() {
            // Somebody waits, so it is not given back.
            drop(held.grant_front(Told::Leased(lane, item), &mut batch));
        }
        release_then(held, || batch.wake_all());
    }

    /// Nothing can be pushed any more.
    pub(super) fn close(&self) {
        let mut held = self.queue.lock();
        held.closed = true;
        if held.is_over() {
            self.tell_all(held);
        }
    }

    /// Tells all takers that it is over.
    fn tell_all(&self, held: Held<'_, K, T>) {
        self.queue.grant_each(held, |_| Some(Told::Over));
    }
}

impl<K: Hash + Eq, T> Engine<K, T> {
    /// Puts an item into the lane of its key; both back if it is closed.
    pub(super) fn push(&self, key: K, item: T) -> Result<(), (K, T)> {
        let hash = self.hasher.hash_one(&key);
        let mut held = self.queue.lock();
        if held.closed {
            return Err((key, item));
        }
        let State { lanes, numbers, .. } = &mut *held;
        let found = numbers.find(hash, |&number| lanes[number].key == key).copied();
        held.items += 1;
        match found {
            Some(number) => {
                held.lanes[number].push_back(item);
                release_then(held, || drop(key));
            }
            None => {
                let number = held.put_in(Lane::new(hash, key, item));
                self.offer(held, number, false);
            }
        }
        Ok(())
    }
}

impl<K, T> State<K, T> {
    /// Whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        self.items
    }

    /// How many lanes there are.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether nothing will come.
    fn is_over(&self) -> bool {
        self.closed && self.lanes.is_empty()
    }

    /// Leases the first ready lane, and takes its front.
    fn take(&mut self) -> Option<(usize, T)> {
        let number = self.ready.pop_front()?;
        let item = self.lanes[number].pop_front()?;
        self.items -= 1;
        Some((number, item))
    }

    /// Puts a lane in.
    fn put_in(&mut self, lane: Lane<K, T>) -> usize {
        let hash = lane.hash;
        let number = self.lanes.insert(lane);
        let lanes = &self.lanes;
        self.numbers.insert_unique(hash, number, |&number| lanes[number].hash);
        number
    }

    /// Takes a lane out.
    fn take_out(&mut self, number: usize) -> Lane<K, T> {
        let lane = self.lanes.remove(number);
        if let Ok(entry) = self.numbers.find_entry(lane.hash, |&other| other == number) {
            entry.remove();
        }
        lane
    }

    /// The tables, if they are empty and have more memory than is worth keeping.
    fn spare(&mut self) -> Option<Spare<K, T>> {
        let is_spare = self.lanes.is_empty() && self.lanes.capacity() > SPARE;
        is_spare.then(|| {
            let Self { lanes, numbers, ready, .. } = self;
            // No lane is there, so none is ready.
            (std::mem::take(lanes), std::mem::take(numbers), std::mem::take(ready))
        })
    }
}
