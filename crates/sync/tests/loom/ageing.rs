//! A model of an ageing queue that is shared: behind a lock, with a semaphore that counts what is in it.

use std::sync::Arc;

use selvedge_primitives::{Mutex, block_on, model};
use selvedge_sync::{AgeingQueue, OwnedPermit, Semaphore};

use super::spawn;

/// How often an item may be overtaken.
const BOUND: u64 = 1;

/// A queue with room for as many items as there are permits in its stock.
struct Shared {
    /// What the lock guards.
    inner: Mutex<Inner>,
    /// A permit for each item.
    items: Arc<Semaphore>,
}

/// What the lock guards.
struct Inner {
    /// The items.
    queue: AgeingQueue<char>,
    /// A permit for each that there is still room for.
    room: OwnedPermit,
    /// What was taken, in order.
    taken: Vec<char>,
}

impl Shared {
    fn new(room: usize) -> Self {
        let items = Arc::new(Semaphore::new(room));
        let room = items.try_acquire_owned(room).unwrap();
        let queue = AgeingQueue::new(2, BOUND).unwrap();
        Self { inner: Mutex::new(Inner { queue, room, taken: Vec::new() }), items }
    }

    fn push(&self, class: usize, item: char) {
        let mut inner = self.inner.lock();
        inner.queue.push(class, item).unwrap();
        let one = inner.room.split(1);
        drop(inner);
        drop(one.expect("there is room"));
    }

    fn take(&self) {
        let permit = block_on(self.items.acquire_owned(1)).unwrap();
        let mut inner = self.inner.lock();
        let item = inner.queue.take().expect("there is an item for each permit");
        inner.taken.push(item);
        inner.room.merge(permit).unwrap();
    }
}

// One that is not urgent becomes overdue while others are pushed and taken: it is overtaken once, and none is lost.
#[test]
fn promote_vs_take() {
    model::check(|| {
        let shared = Arc::new(Shared::new(3));
        shared.push(1, 'b');
        let taker = {
            let shared = Arc::clone(&shared);
            spawn(move || [0; 2].map(|_| shared.take()))
        };
        shared.push(0, 'u');
        shared.push(0, 'v');
        shared.take();
        taker.join().unwrap();
        let Inner { taken, room, .. } = &mut *shared.inner.lock();
        let overtaken = taken.iter().position(|item| *item == 'b').unwrap();
        assert!(overtaken <= BOUND.try_into().unwrap(), "{taken:?}");
        taken.sort_unstable();
        assert_eq!((taken.as_slice(), room.count()), (['b', 'u', 'v'].as_slice(), 3));
    });
}
