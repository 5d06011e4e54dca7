//! Models of the single flight: who drives while another wakes, joins, leaves, lands or forgets.

use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge_primitives::atomic::{AtomicUsize, Ordering};
use selvedge_primitives::{Mutex, block_on, model};
use selvedge_sync::{SingleFlight, Timer};

use super::{Ledger, spawn};

type Flights = SingleFlight<u8, usize, ()>;
type Call = Pin<Box<dyn Future<Output = Result<usize, ()>> + Send>>;

/// Work that ends when it is told to.
struct Work {
    /// Whether it was, and who is to be woken.
    told: Mutex<(bool, Option<Waker>)>,
    /// What each poll adds to: nothing but the flight orders them.
    polls: Ledger,
    /// How many of its futures are dropped.
    dropped: AtomicUsize,
}

/// Its future.
struct Working(Arc<Work>);

impl Work {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            told: Mutex::new((false, None)),
            polls: Ledger(AtomicUsize::new(0)),
            dropped: AtomicUsize::new(0),
        })
    }

    /// A call that would start it.
    fn call(self: &Arc<Self>, flights: &Flights) -> Call {
        let work = Arc::clone(self);
        Box::pin(flights.run_owned(7, move || Working(work)))
    }

    /// The same, polled once, for nobody in particular.
    fn boarded(self: &Arc<Self>, flights: &Flights) -> Call {
        let mut call = self.call(flights);
        assert!(poll_once(&mut call).is_pending());
        call
    }

    fn finish(&self) {
        let waker = {
            let mut told = self.told.lock();
            told.0 = true;
            told.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn dropped(&self) -> usize {
        // Relaxed: read when everybody was joined.
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Future for Working {
    type Output = Result<usize, ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<usize, ()>> {
        self.0.polls.enter();
        let mut told = self.0.told.lock();
        if told.0 {
            return Poll::Ready(Ok(self.0.polls.entries()));
        }
        told.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        drop(self.0.told.lock().1.take());
        // Relaxed: a counter.
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll_once(call: &mut Call) -> Poll<Result<usize, ()>> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

// The work is woken while it is driven, or just after it was parked: the one who drives must hear of it.
#[test]
fn drive_vs_wake() {
    model::check(|| {
        let (flights, work) = (Flights::new(), Work::new());
        let finisher = {
            let work = Arc::clone(&work);
            spawn(move || work.finish())
        };
        let polls = block_on(work.call(&flights)).unwrap();
        assert!((1..=2).contains(&polls));
        finisher.join().unwrap();
        assert_eq!((flights.len(), work.dropped()), (0, 1));
    });
}

// Two callers, of which one has been polled and will not be again: the wake must reach the other, wherever
// it is on its way to the line; and what one drive did the next must see.
#[test]
fn wake_vs_joiner_beside_a_dead_leader() {
    model::check(|| {
        let (flights, work) = (Flights::new(), Work::new());
        let leader = work.boarded(&flights);
        let finisher = {
            let work = Arc::clone(&work);
            spawn(move || work.finish())
        };
        assert_eq!(block_on(work.call(&flights)), Ok(2));
        finisher.join().unwrap();
        drop(leader);
        assert_eq!((flights.len(), work.dropped()), (0, 1));
    });
}

// The leader is polled once and not again; the work is woken while that drives, or later. A caller that has joined
// meanwhile must hear of it: nobody else will drive.
#[test]
fn wake_vs_joiner_while_the_last_drive_parks() {
    model::check(|| {
        let (flights, work) = (Flights::new(), Work::new());
        let finisher = {
            let work = Arc::clone(&work);
            spawn(move || work.finish())
        };
        let joiner = {
            let call = work.call(&flights);
            spawn(move || block_on(call).unwrap())
        };
        let mut leader = work.call(&flights);
        let ended = poll_once(&mut leader);
        assert!((1..=2).contains(&joiner.join().unwrap()));
        finisher.join().unwrap();
        if ended.is_pending() {
            assert!(poll_once(&mut leader).is_ready());
        }
        assert_eq!(flights.len(), 0);
    });
}

// Two callers on two threads while the work is woken: one drives, the other must not miss its end.
#[test]
fn drive_vs_drive() {
    model::check(|| {
        let (flights, work) = (Flights::new(), Work::new());
        let (one, two) = (work.boarded(&flights), work.boarded(&flights));
        let other = spawn(move || block_on(two).unwrap());
        work.finish();
        assert_eq!(block_on(one), Ok(2));
        assert_eq!(other.join().unwrap(), 2);
        assert_eq!((flights.len(), work.dropped()), (0, 1));
    });
}

// The only caller leaves while another comes: it is in the old flight, which then lives on, or in a
// flight of its own.
#[test]
fn last_leave_vs_join() {
    model::check(|| {
        let (flights, old, new) = (Flights::new(), Work::new(), Work::new());
        let leaver = old.boarded(&flights);
        let leaver = spawn(move || drop(leaver));
        let mut call = new.call(&flights);
        assert!(poll_once(&mut call).is_pending());
        leaver.join().unwrap();
        assert_eq!(flights.len(), 1);
        match old.dropped() {
            0 => {
                old.finish();
                assert_eq!(block_on(call), Ok(2));
                assert_eq!(new.dropped(), 0, "never made");
            }
            _ => {
                new.finish();
                assert_eq!(block_on(call), Ok(2));
                assert_eq!(new.dropped(), 1);
            }
        }
        assert_eq!((flights.len(), old.dropped()), (0, 1));
    });
}

// Two callers leave at once: one of them is the last, and takes the work along.
#[test]
fn leave_vs_leave() {
    model::check(|| {
        let (flights, work) = (Flights::new(), Work::new());
        let (one, two) = (work.boarded(&flights), work.boarded(&flights));
        let other = spawn(move || drop(two));
        drop(one);
        other.join().unwrap();
        assert_eq!((flights.len(), work.dropped()), (0, 1));
    });
}

// A caller leaves, poked or not, while the work ends: the other must have been poked as well.
#[test]
fn leave_vs_finish() {
    model::check(|| {
        let (flights, work) = (Flights::new(), Work::new());
        let (goes, stays) = (work.boarded(&flights), work.boarded(&flights));
        let leaver = spawn(move || drop(goes));
        let finisher = {
            let work = Arc::clone(&work);
            spawn(move || work.finish())
        };
        assert_eq!(block_on(stays), Ok(2));
        leaver.join().unwrap();
        finisher.join().unwrap();
        assert_eq!((flights.len(), work.dropped()), (0, 1));
    });
}

// The last caller leaves while the work is told to end, by a waker that outlives the flight.
#[test]
fn last_leave_vs_finish() {
    model::check(|| {
        let (flights, work) = (Flights::new(), Work::new());
        let goes = work.boarded(&flights);
        let finisher = {
            let work = Arc::clone(&work);
            spawn(move || work.finish())
        };
        drop(goes);
        assert_eq!((flights.len(), work.dropped()), (0, 1));
        finisher.join().unwrap();
    });
}

// A caller comes while a flight lands, and calls again when it has its result: the second call must not
// find the flight that gave the first.
#[test]
fn land_vs_join() {
    model::check(|| {
        let (flights, runs) = (Flights::new(), Arc::new(AtomicUsize::new(0)));
        let call = |flights: &Flights, runs: &Arc<AtomicUsize>| {
            let runs = Arc::clone(runs);
            // Relaxed: only that the numbers differ.
            let make = move || ready(Ok(runs.fetch_add(1, Ordering::Relaxed)));
            block_on(flights.run(7, make)).unwrap()
        };
        let other = {
            let (flights, runs) = (flights.clone(), Arc::clone(&runs));
            spawn(move || call(&flights, &runs))
        };
        let first = call(&flights, &runs);
        let second = call(&flights, &runs);
        assert!(second > first, "a result that was there before the call");
        let theirs = other.join().unwrap();
        assert!(theirs <= 2);
        assert!(flights.is_empty());
    });
}

// A flight lands while it is forgotten: what it gives is not kept, and the flight that follows keeps its own.
#[test]
fn forget_vs_land() {
    model::check(|| {
        let (timer, _clock) = Timer::manual();
        let flights = Flights::builder().keep_values(Duration::MAX).timer(timer).build();
        let work = Work::new();
        let old = work.boarded(&flights);
        let lands = spawn(move || {
            work.finish();
            block_on(old).unwrap()
        });
        flights.forget(&7);
        assert_eq!(block_on(flights.run(7, || ready(Ok(10)))), Ok(10));
        assert_eq!(lands.join().unwrap(), 2);
        assert_eq!(block_on(flights.run(7, || ready(Ok(11)))), Ok(10));
        assert_eq!(flights.len(), 1);
    });
}

// A kept result has expired, and two come at once: one begins a flight in its place, the other joins that or finds what it gave.
#[test]
fn begin_vs_begin_on_an_expired_result() {
    model::check(|| {
        let (timer, clock) = Timer::manual();
        let flights = Flights::builder().keep_values(Duration::from_secs(1)).timer(timer).build();
        assert_eq!(block_on(flights.run(7, || ready(Ok(10)))), Ok(10));
        clock.advance(Duration::from_secs(1));
        let other = {
            let flights = flights.clone();
            spawn(move || block_on(flights.run(7, || ready(Ok(11)))).unwrap())
        };
        let mine = block_on(flights.run(7, || ready(Ok(12)))).unwrap();
        assert_eq!(mine, other.join().unwrap(), "one of them made it, for both");
        assert!(mine > 10);
        assert_eq!(flights.len(), 1);
    });
}

// The closure panics while another joins: it panics as well, or makes a flight of its own.
#[test]
fn panic_vs_join() {
    model::check(|| {
        let flights = Flights::new();
        let panics = {
            let flights = flights.clone();
            spawn(move || {
                let mut call: Call = Box::pin(flights.run_owned(7, || -> std::future::Ready<_> {
                    std::panic::resume_unwind(Box::new("not made"))
                }));
                catches(&mut call)
            })
        };
        let mut call: Call = Box::pin(flights.run_owned(7, || ready(Ok(1))));
        let mine = catches(&mut call);
        let theirs = panics.join().unwrap();
        assert!(matches!((mine, theirs), (Ok(Ok(1)), _) | (Err(()), Err(()))));
        assert!(flights.is_empty());
    });
}

/// What the work of `land_in_batches_vs_leave_and_begin` does in its last poll.
#[derive(Default)]
struct Last {
    /// The work's waker, from its first poll.
    waker: Option<Waker>,
    /// Leaves meanwhile.
    poked: Option<Call>,
    /// Are in line when it lands.
    joined: Vec<Call>,
    /// Has what the thread has begun that `poked` left on.
    leaver: Option<selvedge_primitives::thread::JoinHandle<Call>>,
}

// A flight lands in more batches than one, while a caller that was poked and has not looked leaves, and its thread begins a flight of
// the same key, which may get the same number: the result of the first goes to nobody in it.
#[test]
fn land_in_batches_vs_leave_and_begin() {
    model::check(|| {
        let (flights, next, last) =
            (Flights::new(), Work::new(), Arc::new(Mutex::new(Last::default())));
        let make = {
            let (flights, next, last) = (flights.clone(), Arc::clone(&next), Arc::clone(&last));
            move || {
                poll_fn(move |cx| {
                    let mut last = last.lock();
                    let Some(poked) = last.poked.take() else {
                        last.waker = Some(cx.waker().clone());
                        return Poll::Pending;
                    };
                    for _ in 0..2 {
                        let mut call = next.call(&flights);
                        assert!(poll_once(&mut call).is_pending());
                        last.joined.push(call);
                    }
                    let (flights, next) = (flights.clone(), Arc::clone(&next));
                    last.leaver = Some(spawn(move || {
                        drop(poked);
                        next.boarded(&flights)
                    }));
                    Poll::Ready(Ok(1))
                })
            }
        };
        let mut lands: Call = Box::pin(flights.run_owned(7, make));
        assert!(poll_once(&mut lands).is_pending());
        let poked = next.boarded(&flights);
        let waker = {
            let mut last = last.lock();
            last.poked = Some(poked);
            last.waker.take()
        };
        waker.unwrap().wake();
        assert_eq!(poll_once(&mut lands), Poll::Ready(Ok(1)));
        let last = std::mem::take(&mut *last.lock());
        for mut call in last.joined {
            assert_eq!(poll_once(&mut call), Poll::Ready(Ok(1)));
        }
        // It was in time for the first, or has begun another.
        let mut call = last.leaver.unwrap().join().unwrap();
        match poll_once(&mut call) {
            Poll::Ready(result) => assert_eq!(result, Ok(1)),
            Poll::Pending => {
                assert_eq!(flights.len(), 1);
                next.finish();
                assert_eq!(block_on(call), Ok(2));
            }
        }
        assert!(flights.is_empty());
    });
}

// The waker of a flight is woken while that is left and another begins, which gets its number: that is not woken.
#[test]
fn late_wake_vs_begin() {
    model::check(|| {
        let (flights, old, new) = (Flights::new(), Work::new(), Work::new());
        let leaves = old.boarded(&flights);
        let waker = old.told.lock().1.clone();
        let late = spawn(move || waker.unwrap().wake());
        drop(leaves);
        let mut call = new.boarded(&flights);
        late.join().unwrap();
        assert!(poll_once(&mut call).is_pending());
        assert_eq!(new.polls.entries(), 1, "nobody woke it");
        new.finish();
        assert_eq!(block_on(call), Ok(2));
    });
}

/// Runs a call; an error if it panics.
fn catches(call: &mut Call) -> Result<Result<usize, ()>, ()> {
    let runs = std::panic::AssertUnwindSafe(|| block_on(call));
    std::panic::catch_unwind(runs).map_err(drop)
}
