//! A lane of a fan-out: a bounded queue between the feed and those who take from it.
//!
//! # Vocabulary
//!
//! The *feed* puts items into lanes; *outlets* take them out. A shared queue is one lane with many
//! outlets; otherwise each outlet has a lane of its own. An item is *granted* to an outlet that
//! waited: it stays in the lane, and is that outlet's to take, or to give back.
//!
//! # Protocol
//!
//! What a lane has is [`State`], under the lock of its [`WaitQueue`].
//!
//! 1. *Put*: with room, the item lies in the lane, and if an outlet waits, one item is granted to the
//!    front. Without room the lane notes that the feed waits for it.
//! 2. *Take*: an item that is not granted to somebody else, or the end, or a place in the queue. Who
//!    takes what the feed waits for (room, or the last item) wakes it.
//! 3. *Give back*: an outlet that gives up its place after a grant leaves the item to the next in the
//!    queue, or free.
//! 4. *Close*: nothing more comes. The lane has *ended* when it is closed and empty; then those who
//!    wait are sent away. While a granted item is not taken, they are not: it may come back.
//! 5. *Leave*: an outlet is dropped. With the last one of a lane the feed is woken, and *reclaims*
//!    what lies there; it may have put some more before it knew.
//!
//! # Invariants
//!
//! - **L1** `granted <= items.len() <= capacity`.
//! - **L2** While somebody waits, `granted == items.len()`, and the lane has not ended: whoever puts,
//!   gives back or ends grants or sends away in the same critical section.
//!
//! # The races
//!
//! - *Put against an outlet going to sleep*, *take against a feed going to sleep*: both sides look and
//!   act under the lane's lock. The feed leaves its waker in `feeder` before it looks, and whoever
//!   takes it out wakes it afterwards, so a feed that finds it gone is polled again.
//! - *Put against leave*: whatever is put into a lane without outlets is reclaimed when the feed is
//!   polled for the departure, which is counted before the feed is woken.
//! - *Grant against a dropped wait*: as in the window, [`Waiter::cancel`] decides.
//!
//! Wakers and items are dropped, cloned and woken with no lock held.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use selvedge_primitives::{
    Anchor, Entry, Left, Locked, Mutex, WaitQueue, Waiter, WakeBatch, contain, drop_each,
    release_then, wake,
};

/// What the feed and all outlets share.
pub(super) struct Shared<T> {
    /// One, or one an outlet.
    lanes: Box<[Lane<T>]>,
    /// Whom to wake on the feed's side.
    feeder: Mutex<Feeder>,
}

/// The feed's side.
struct Feeder {
    /// The task that polls the feed; taken out by who wakes it.
    task: Option<Waker>,
    /// How many lanes lost their last outlet.
    departures: usize,
}

/// A bounded queue.
type Lane<T> = WaitQueue<State<T>, (), Outcome<T>>;

/// The place in line of one outlet.
pub(super) type Line<T> = Waiter<'static, State<T>, (), Outcome<T>>;

/// What an outlet gets.
pub(super) enum Outcome<T> {
    /// An item, or the end.
    Decided(Option<T>),
    /// An item in the lane, to be taken.
    Granted,
}

/// What the feed waits for in a lane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// Nothing.
    Nothing,
    /// That there is room.
    Room,
    /// That it is empty.
    Empty,
}

/// What the lock of a lane guards.
pub(super) struct State<T> {
    /// How many items it holds at most.
    capacity: usize,
    /// In the order in which they were put.
    items: VecDeque<T>,
    /// How many of them are granted.
    granted: usize,
    /// How many outlets are alive.
    outlets: usize,
    /// Whether nothing more comes.
    closed: bool,
    /// What the feed waits for.
    awaited: Awaited,
}

impl<T> State<T> {
    /// Rule 2 without the queue; nothing when there is nothing to take yet.
    fn admit(&mut self) -> Option<Option<T>> {
        if self.items.len() > self.granted {
            Some(self.items.pop_front())
        } else {
            self.has_ended().then_some(None)
        }
    }

    /// Whether nothing more comes out.
    fn has_ended(&self) -> bool {
        self.closed && self.items.is_empty()
    }

    /// Whether the feed waits for what there is now; it does so no more then.
    fn awaited_is_there(&mut self) -> bool {
        let there = match self.awaited {
            Awaited::Nothing => false,
            Awaited::Room => self.items.len() < self.capacity,
            Awaited::Empty => self.items.is_empty(),
        };
        if there {
            self.awaited = Awaited::Nothing;
        }
        there
    }
}

impl<T> Drop for State<T> {
    fn drop(&mut self) {
        drop_each(std::mem::take(&mut self.items));
    }
}

impl<T> Shared<T> {
    /// So many lanes for so many outlets each.
    pub(super) fn new(lanes: usize, outlets: usize, capacity: usize) -> Self {
        let lane = |_| {
            WaitQueue::new(State {
                capacity,
                items: VecDeque::new(),
                granted: 0,
                outlets,
                closed: false,
                awaited: Awaited::Nothing,
            })
        };
        let feeder = Mutex::new(Feeder { task: None, departures: 0 });
        Self { lanes: (0..lanes).map(lane).collect(), feeder }
    }

    /// How many lanes there are.
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// A place in the line of a lane.
    pub(super) fn line(self: &Arc<Self>, lane: usize) -> Line<T>
    where
        T: Send + 'static,
    {
        Waiter::new(Anchor::shared(Arc::clone(self), move |shared| &shared.lanes[lane]))
    }

    /// Leaves the feed's waker, before it looks at the lanes. Returns how many lanes lost their last
    /// outlet so far.
    pub(super) fn leave_feeder(&self, task: &Waker) -> usize {
        {
            let feeder = self.feeder.lock();
            if feeder.task.as_ref().is_some_and(|left| left.will_wake(task)) {
                return feeder.departures;
            }
        }
        // Cloned with no lock held, because a clone is the executor's code.
        let fresh = task.clone();
        let mut feeder = self.feeder.lock();
        let old = feeder.task.replace(fresh);
        let departures = feeder.departures;
        release_then(feeder, || contain(|| drop(old)));
        departures
    }

    /// Wakes the feed.
    fn wake_feeder(&self) {
        let task = self.feeder.lock().task.take();
        // It belongs to the other side.
        contain(|| wake(task));
    }

    /// The feed is gone, and wants to be woken no more.
    pub(super) fn forget_feeder(&self) {
        let old = self.feeder.lock().task.take();
        contain(|| drop(old));
    }

    /// Rule 1. Gives the item back when there is no room, and then the feed will be woken.
    pub(super) fn put(&self, lane: usize, item: T) -> Result<(), T> {
        let mut locked = self.lanes[lane].lock();
        if locked.items.len() >= locked.capacity {
            locked.awaited = Awaited::Room;
            return Err(item);
        }
        locked.items.push_back(item);
        grant(locked);
        Ok(())
    }

    /// Rule 2: an item, or the end.
    pub(super) fn poll_take(
        &self,
        lane: usize,
        line: Pin<&mut Line<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<T>> {
        if !line.as_ref().is_waiting() {
            // Once without queueing: most often there is an item, and no waker needs to be cloned.
            let mut locked = self.lanes[lane].lock();
            if let Some(decided) = locked.admit() {
                self.took(lane, locked);
                return Poll::Ready(decided);
            }
        }
        let outcome = line.poll_enter(cx, |locked| match locked.admit() {
            Some(decided) => Entry::Ready(Outcome::Decided(decided)),
            None => Entry::Wait(()),
        });
        outcome.map(|outcome| {
            let mut locked = self.lanes[lane].lock();
            let item = match outcome {
                Outcome::Decided(decided) => decided,
                Outcome::Granted => {
                    locked.granted -= 1;
                    locked.items.pop_front()
                }
            };
            self.took(lane, locked);
            item
        })
    }

    /// After a take: tells the feed of what it waits for, and those who wait of the end.
    fn took(&self, lane: usize, mut locked: Held<'_, T>) {
        let awaited = locked.awaited_is_there();
        self.send_away(lane, locked);
        if awaited {
            self.wake_feeder();
        }
    }

    /// Rule 3: an outlet gives up its place.
    pub(super) fn give_up(&self, lane: usize, line: Pin<&mut Line<T>>) {
        if let Left::Granted(Outcome::Granted) = line.cancel() {
            let mut locked = self.lanes[lane].lock();
            locked.granted -= 1;
            grant(locked);
        }
    }

    /// Rule 4: nothing more comes, into any lane.
    pub(super) fn close(&self) {
        for lane in 0..self.lanes.len() {
            let mut locked = self.lanes[lane].lock();
            locked.closed = true;
            self.send_away(lane, locked);
        }
    }

    /// Rule 4: sends those who wait away, if the lane has ended, and releases its lock.
    fn send_away(&self, lane: usize, locked: Held<'_, T>) {
        if locked.has_ended() && !locked.is_empty() {
            let lane = &self.lanes[lane];
            contain(|| lane.grant_while(locked, |_, ()| Some(Outcome::Decided(None))));
        }
    }

    /// Rule 5: an outlet is dropped.
    pub(super) fn leave(&self, lane: usize) {
        let last = {
            let mut locked = self.lanes[lane].lock();
            locked.outlets -= 1;
            locked.outlets == 0
        };
        if last {
            self.feeder.lock().departures += 1;
            self.wake_feeder();
        }
    }

    /// Rule 5: what lies in a lane without outlets; nothing if it has some.
    pub(super) fn reclaim(&self, lane: usize) -> Option<VecDeque<T>> {
        let mut locked = self.lanes[lane].lock();
        (locked.outlets == 0).then(|| std::mem::take(&mut locked.items))
    }

    /// Whether everything was taken out of a lane; if not, the feed is woken when it is.
    pub(super) fn is_drained(&self, lane: usize) -> bool {
        let mut locked = self.lanes[lane].lock();
        locked.awaited = Awaited::Empty;
        locked.awaited_is_there()
    }
}

/// The lock of a lane, held.
type Held<'a, T> = Locked<'a, State<T>, (), Outcome<T>>;

/// Rules 1 and 3: an item has become free. Grants it to the front, if somebody waits, and releases
/// the lock.
fn grant<T>(mut locked: Held<'_, T>) {
    if locked.is_empty() {
        return;
    }
    let mut batch = WakeBatch::new();
    if locked.grant_front(Outcome::Granted, &mut batch).is_ok() {
        locked.granted += 1;
    }
    release_then(locked, || contain(|| batch.wake_all()));
}
