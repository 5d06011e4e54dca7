//! Models of what runs outside the locks: destructors of keys, and wakers. Each uses what it is a part of; under a lock it would
//! wait for itself, which loom tells as a deadlock.

use std::future::{pending, ready};
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use selvedge_primitives::model;
use selvedge_sync::{Barrier, KeyedLanes, KeyedLock, SingleFlight, Timer};
use selvedge_testkit::ReentrantWaker;

/// What is done when a key is dropped, or a waker woken.
type Hook = Arc<dyn Fn() + Send + Sync>;

/// A key that does something when it is dropped.
struct Key(u8, Option<Hook>);

impl Key {
    fn plain(number: u8) -> Self {
        Self(number, None)
    }

    fn with(number: u8, hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self(number, Some(Arc::new(hook)))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        if let Some(hook) = self.1.take() {
            hook();
        }
    }
}

/// A waker that does something.
struct Wakes(Hook);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// Counts, apart from the model: nothing here races.
fn counter() -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    (Arc::clone(&count), count)
}

fn count(counter: &AtomicUsize) -> usize {
    // Relaxed: everything happens on one thread.
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicUsize) {
    // Relaxed: as above.
    counter.fetch_add(1, Ordering::Relaxed);
}

type Flights = SingleFlight<Key, usize, ()>;

/// A key that looks at the map of its flights when it is dropped.
fn looks_at(flights: &Flights, number: u8) -> (Key, Arc<AtomicUsize>) {
    let (looks, looked) = counter();
    let flights = flights.clone();
    let key = Key::with(number, move || {
        let _ = flights.len();
        add(&looks);
    });
    (key, looked)
}

// The key of a flight that lands, with nothing kept.
#[test]
fn key_of_a_flight_that_lands() {
    model::check(|| {
        let flights = Flights::new();
        let (key, looked) = looks_at(&flights, 1);
        let landed = selvedge_primitives::block_on(flights.run(key, || ready(Ok(7))));
        assert_eq!((landed, flights.len(), count(&looked)), (Ok(7), 0, 1));
    });
}

// The key of a flight that is forgotten.
#[test]
fn key_of_a_flight_that_is_forgotten() {
    model::check(|| {
        let flights = Flights::new();
        let (key, looked) = looks_at(&flights, 1);
        let mut call = Box::pin(flights.run(key, pending::<Result<usize, ()>>));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        flights.forget(&Key::plain(1));
        assert_eq!((flights.len(), count(&looked)), (0, 1));
    });
}

// The key of a result that makes room for another.
#[test]
fn key_of_a_result_that_is_evicted() {
    model::check(|| {
        let (timer, _clock) = Timer::manual();
        let keeps = Flights::builder().keep_values(Duration::MAX).keep_at_most(1).timer(timer);
        let flights: Flights = keeps.build();
        let (key, looked) = looks_at(&flights, 1);
        let first = selvedge_primitives::block_on(flights.run(key, || ready(Ok(7))));
        assert_eq!((first, count(&looked)), (Ok(7), 0));
        let second = selvedge_primitives::block_on(flights.run(Key::plain(2), || ready(Ok(8))));
        assert_eq!((second, flights.len(), count(&looked)), (Ok(8), 1, 1));
    });
}

/// A waker that looks at the map of some flights.
fn waker_that_looks_at(flights: &Flights) -> ReentrantWaker {
    let flights = flights.clone();
    ReentrantWaker::on_wake(move || assert!(flights.len() <= 1))
}

// The wakers of callers that are poked, and of those that get the result.
#[test]
fn wakers_of_callers() {
    model::check(|| {
        let flights = Flights::new();
        let looks = waker_that_looks_at(&flights);
        let waker = looks.waker();
        let mut cx = Context::from_waker(&waker);
        let kept = Arc::new(selvedge_primitives::Mutex::new(None));
        let works = Arc::clone(&kept);
        let make = move || {
            std::future::poll_fn(move |cx| match works.lock().replace(cx.waker().clone()) {
                Some(_) => Poll::Ready(Ok(7)),
                None => Poll::Pending,
            })
        };
        let mut first = Box::pin(flights.run(Key::plain(1), make));
        let mut second = Box::pin(flights.run(Key::plain(1), pending::<Result<usize, ()>>));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        let work = kept.lock().clone();
        work.unwrap().wake();
        assert_eq!(looks.wakes(), 2);
        assert_eq!(first.as_mut().poll(&mut cx), Poll::Ready(Ok(7)));
        assert_eq!(second.as_mut().poll(&mut cx), Poll::Ready(Ok(7)));
        assert!(flights.is_empty());
    });
}

// A key that is given to a keyed lock, which has an equal one.
#[test]
fn key_that_a_keyed_lock_has() {
    model::check(|| {
        let locks = KeyedLock::new();
        let held = locks.try_lock(Key::plain(1)).unwrap();
        let (tries, tried) = counter();
        let same = {
            let locks = locks.clone();
            Key::with(1, move || {
                drop(locks.try_lock(Key::plain(2)).unwrap());
                add(&tries);
            })
        };
        assert!(locks.try_lock(same).is_err());
        drop(held);
        assert_eq!((locks.len(), count(&tried)), (0, 1));
    });
}

// A key that is given to lanes, which have an equal one.
#[test]
fn key_that_lanes_have() {
    model::check(|| {
        let lanes = KeyedLanes::new();
        assert!(lanes.push(Key::plain(1), 10).is_ok());
        let (looks, looked) = counter();
        let same = {
            let lanes = lanes.clone();
            Key::with(1, move || add_len(&looks, &lanes))
        };
        assert!(lanes.push(same, 11).is_ok());
        assert_eq!(count(&looked), 2);
    });
}

// The destructor of a lane's own key, which goes with the last lease; that of another lane, which somebody waits for, when it is over.
#[test]
fn key_of_a_lane_that_goes() {
    model::check(|| {
        let lanes = KeyedLanes::new();
        let (looks, looked) = counter();
        for number in [1, 2] {
            let (inside, looks) = (lanes.clone(), Arc::clone(&looks));
            let key = Key::with(number, move || {
                assert!(inside.try_take().is_none());
                (0..=inside.lanes()).for_each(|_| add(&looks));
            });
            assert!(lanes.push(key, 10).is_ok());
        }
        let (one, two) = (lanes.try_take(), lanes.try_take());
        drop(one);
        // One lane was left.
        assert_eq!(count(&looked), 2);
        lanes.close();
        let mut take = Box::pin(lanes.take());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(take.as_mut().poll(&mut cx).is_pending());
        drop(two);
        assert_eq!(count(&looked), 3);
        assert!(matches!(take.as_mut().poll(&mut cx), Poll::Ready(None)));
    });
}

/// Adds how many items there are.
fn add_len(counter: &AtomicUsize, lanes: &KeyedLanes<Key, usize>) {
    (0..lanes.len()).for_each(|_| add(counter));
}

// The waker of a taker that is offered a lane.
#[test]
fn waker_of_a_taker() {
    model::check(|| {
        let lanes = KeyedLanes::<Key, usize>::new();
        let (wakes, woken) = counter();
        let waker = {
            let lanes = lanes.clone();
            let hook: Hook = Arc::new(move || {
                assert_eq!(lanes.lanes(), 1);
                add(&wakes);
            });
            Waker::from(Arc::new(Wakes(hook)))
        };
        let mut take = Box::pin(lanes.take());
        assert!(take.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(lanes.push(Key::plain(1), 10).is_ok());
        assert_eq!(count(&woken), 1);
    });
}

// The wakers of more parties than a batch has room for: all are woken, with the lock free.
#[test]
fn wakers_of_a_large_barrier() {
    /// More than a batch has room for.
    const PARTIES: usize = 5;
    model::check(|| {
        let barrier = Arc::new(Barrier::new(PARTIES + 1).unwrap());
        let (wakes, woken) = counter();
        let waker = {
            let barrier = Arc::clone(&barrier);
            let hook: Hook = Arc::new(move || {
                assert_eq!(barrier.waiting(), 0);
                add(&wakes);
            });
            Waker::from(Arc::new(Wakes(hook)))
        };
        let mut cx = Context::from_waker(&waker);
        let mut parties: Vec<Pin<Box<_>>> =
            (0..PARTIES).map(|_| Box::pin(barrier.wait())).collect();
        for party in &mut parties {
            assert!(party.as_mut().poll(&mut cx).is_pending());
        }
        barrier.reset();
        assert_eq!(count(&woken), PARTIES);
    });
}
