//! What waiting allocates: nothing. What a task of a group allocates beside its future: a share in the
//! growth of the results.
#![cfg(not(selvedge_loom))]

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge_cancel::Context as Tree;
#[cfg(not(feature = "age"))]
use selvedge_cancel::Timer;
use selvedge_sync::{Barrier, KeyedLanes, KeyedLock, Latch, SingleFlight, TaskGroup, WaitGroup};
#[cfg(not(feature = "age"))]
use selvedge_sync::{Fairness, Semaphore};
use selvedge_testkit::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

// With the feature `age` there is a table of holders.
#[cfg(not(feature = "age"))]
#[test]
fn the_first_wait_makes_the_line_and_nothing_else_of_a_semaphore_allocates() {
    let semaphore = Arc::new(Semaphore::new(1));
    let mut cx = Context::from_waker(Waker::noop());
    let counted = CountingAllocator::count(|| {
        let permit = semaphore.try_acquire(1).unwrap();
        assert!(pin!(semaphore.acquire(1)).poll(&mut cx).is_pending());
        drop(permit);
    });
    assert_eq!((counted.allocations, counted.frees), (1, 0));
    let counted = CountingAllocator::count(|| {
        let permit = semaphore.try_acquire(1).unwrap();
        let mut borrowed = pin!(semaphore.acquire(1));
        let mut owned = pin!(semaphore.acquire_owned(1));
        assert!(borrowed.as_mut().poll(&mut cx).is_pending());
        assert!(owned.as_mut().poll(&mut cx).is_pending());
        drop(permit);
        assert!(borrowed.as_mut().poll(&mut cx).map(drop).is_ready());
        assert!(owned.as_mut().poll(&mut cx).map(drop).is_ready());
        drop(semaphore.acquire_blocking(1).unwrap());
    });
    assert_eq!((counted.allocations, counted.frees), (0, 0));
    assert_eq!(semaphore.available(), 1);
}

// With the feature `age` there is a table of holders.
#[cfg(not(feature = "age"))]
#[test]
fn a_wait_with_eventual_fairness_allocates_nothing_but_its_alarm() {
    let (timer, _clock) = Timer::manual();
    let semaphore = Semaphore::new(1).with_fairness(Fairness::EVENTUAL).with_timer(timer);
    let mut cx = Context::from_waker(Waker::noop());
    let mut turn = || {
        let permit = semaphore.try_acquire(1).unwrap();
        let mut acquire = pin!(semaphore.acquire(1));
        assert!(acquire.as_mut().poll(&mut cx).is_pending());
        drop(permit);
        assert!(acquire.as_mut().poll(&mut cx).map(drop).is_ready());
    };
    // Makes the line, and arms the alarm: once a millisecond, on this clock once.
    turn();
    let counted = CountingAllocator::count(|| (0..1_000).for_each(|_| turn()));
    assert_eq!((counted.allocations, counted.frees), (0, 0));
}

#[test]
fn neither_a_latch_nor_a_wait_group_allocates() {
    let (latch, group) = (Latch::new(1), Arc::new(WaitGroup::new()));
    let mut cx = Context::from_waker(Waker::noop());
    let counted = CountingAllocator::count(|| {
        let guard = group.add_owned(1).unwrap();
        let mut opens = pin!(latch.wait());
        let mut empties = pin!(group.wait());
        assert!(opens.as_mut().poll(&mut cx).is_pending());
        assert!(empties.as_mut().poll(&mut cx).is_pending());
        drop(guard);
        latch.count_down(1);
        assert!(opens.as_mut().poll(&mut cx).is_ready());
        assert!(empties.as_mut().poll(&mut cx).is_ready());
    });
    assert_eq!((counted.allocations, counted.frees), (0, 0));
}

#[test]
fn a_task_of_a_group_allocates_a_share_in_the_results_and_nothing_else() {
    let group = TaskGroup::<u64, String>::new(&Tree::background());
    let mut cx = Context::from_waker(Waker::noop());
    let counted = CountingAllocator::count(|| {
        for n in 0..1024 {
            let mut polls = 0;
            let future = poll_fn(move |_| {
                polls += 1;
                // Pending once: it waits for the context, too.
                if polls == 2 { Poll::Ready(Ok(n)) } else { Poll::Pending }
            });
            let mut task = pin!(group.try_reserve().unwrap().into_task(future).unwrap());
            assert!(task.as_mut().poll(&mut cx).is_pending());
            assert!(task.as_mut().poll(&mut cx).is_ready());
        }
        let mut join = pin!(group.join());
        let Poll::Ready(joined) = join.as_mut().poll(&mut cx) else { panic!("all have ended") };
        assert_eq!(joined.counts.finished, 1024);
        std::mem::forget(joined);
    });
    // 4, 8, 16, ..., 1024.
    assert!(counted.allocations <= 9, "{counted:?}");
}

#[test]
fn a_group_that_discards_its_results_does_not_grow() {
    let tree = Tree::background();
    let group = TaskGroup::<u64, String>::builder(&tree).discard_results().build().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let counted = CountingAllocator::count(|| {
        for n in 0..1024 {
            let future = std::future::ready(Ok(n));
            let mut task = pin!(group.try_reserve().unwrap().into_task(future).unwrap());
            assert!(task.as_mut().poll(&mut cx).is_ready());
        }
    });
    assert_eq!((counted.allocations, counted.frees), (0, 0));
    assert_eq!(group.counts().finished, 1024);
}

#[test]
fn to_join_a_flight_allocates_nothing_and_to_fly_alone_twice() {
    let flights: SingleFlight<u32, u32, ()> = SingleFlight::new();
    let mut cx = Context::from_waker(Waker::noop());
    let mut first = pin!(flights.run(7, std::future::pending::<Result<u32, ()>>));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let counted = CountingAllocator::count(|| {
        for _ in 0..1024 {
            let mut joins = pin!(flights.run(7, || std::future::ready(Ok(1))));
            assert!(joins.as_mut().poll(&mut cx).is_pending());
        }
    });
    assert_eq!((counted.allocations, counted.frees), (0, 0));
    let fly = || {
        let mut flies = pin!(flights.run(8, || std::future::ready(Ok(1))));
        assert!(flies.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    };
    fly();
    let counted = CountingAllocator::count(|| (0..1024).for_each(|_| fly()));
    // Its signal, its work.
    assert_eq!((counted.allocations, counted.frees), (2 * 1024, 2 * 1024));
}

#[test]
fn many_flights_give_their_memory_back_however_the_last_ends() {
    type Flights = SingleFlight<u32, u32, ()>;
    type Call = Pin<Box<dyn Future<Output = Result<u32, ()>> + Send>>;
    type Joins = Arc<Mutex<Option<Call>>>;
    type Fly<'a> = &'a dyn Fn(&Flights);
    /// So many that each shard has more than it keeps room for, and that its table is nearly full.
    const KEYS: u32 = 1_680;
    static DONE: AtomicBool = AtomicBool::new(false);
    let poll = |call: &mut Call| call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    // Work that is woken at once until it is to end; in the poll in which it does a call joins, if there is one.
    let work = |joins: &Joins| {
        let joins = Arc::clone(joins);
        move || {
            poll_fn(move |cx| {
                if !DONE.load(Ordering::Relaxed) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if let Some(call) = &mut *joins.lock().unwrap() {
                    assert!(
                        call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
                    );
                }
                Poll::Ready(Ok(1))
            })
        }
    };
    let call = |flights: &Flights, key, joins: &Joins| -> Call {
        Box::pin(flights.run_owned(key, work(joins)))
    };
    let boarded = |flights: &Flights| -> Vec<Call> {
        DONE.store(false, Ordering::Relaxed);
        let nobody = Joins::default();
        let mut calls: Vec<_> = (0..KEYS).map(|key| call(flights, key, &nobody)).collect();
        calls.iter_mut().for_each(|call| assert!(poll(call).is_pending()));
        calls
    };
    let end = |mut calls: Vec<Call>| {
        DONE.store(true, Ordering::Relaxed);
        calls.iter_mut().for_each(|call| assert!(poll(call).is_ready()));
    };
    let leave = |flights: &Flights| drop(boarded(flights));
    let land = |flights: &Flights| end(boarded(flights));
    let look = |flights: &Flights| {
        let both = (boarded(flights), boarded(flights));
        end(both.0);
        end(both.1);
    };
    let stand_in_line = |flights: &Flights| {
        DONE.store(false, Ordering::Relaxed);
        let joins: Vec<_> = (0..KEYS).map(|_| Joins::default()).collect();
        let mut calls: Vec<_> =
            (0..).zip(&joins).map(|(key, joins)| call(flights, key, joins)).collect();
        calls.iter_mut().for_each(|call| assert!(poll(call).is_pending()));
        for (key, joins) in (0..).zip(&joins) {
            *joins.lock().unwrap() = Some(call(flights, key, &Joins::default()));
        }
        end(calls);
        end(joins.iter().flat_map(|joins| joins.lock().unwrap().take()).collect());
    };
    let forget = |flights: &Flights| {
        land(flights);
        assert_eq!(flights.len(), KEYS as usize);
        (0..KEYS).for_each(|key| flights.forget(&key));
    };
    let ways: [(&str, Duration, Fly<'_>); 5] = [
        ("leave", Duration::ZERO, &leave),
        ("land", Duration::ZERO, &land),
        ("look", Duration::ZERO, &look),
        ("stand in line", Duration::ZERO, &stand_in_line),
        ("forget", Duration::MAX, &forget),
    ];
    for (way, time, fly) in ways {
        let flights = Flights::builder().keep_values(time).keep_at_most(1 << 20).build();
        let counted = CountingAllocator::count(|| fly(&flights));
        assert!(flights.is_empty());
        assert_eq!(counted.allocations, counted.frees, "{way}");
        assert_eq!(counted.bytes_allocated, counted.bytes_freed, "{way}");
    }
}

#[test]
fn neither_a_barrier_nor_a_wait_for_a_lane_allocates() {
    let (barrier, lanes) = (Barrier::new(2).unwrap(), KeyedLanes::<u32, u32>::new());
    let mut cx = Context::from_waker(Waker::noop());
    let counted = CountingAllocator::count(|| {
        let (mut one, mut two) = (pin!(barrier.wait()), pin!(barrier.wait()));
        assert!(one.as_mut().poll(&mut cx).is_pending());
        assert!(two.as_mut().poll(&mut cx).is_ready());
        assert!(one.as_mut().poll(&mut cx).is_ready());
        let mut take = pin!(lanes.take());
        assert!(take.as_mut().poll(&mut cx).is_pending());
    });
    assert_eq!((counted.allocations, counted.frees), (0, 0));
}

#[test]
fn keys_that_come_and_go_with_one_item_each_allocate_nothing() {
    let lanes = KeyedLanes::<u32, u32>::new();
    let turn = |key| {
        assert!(lanes.push(key, key).is_ok());
        assert_eq!(*lanes.try_take().unwrap(), key);
    };
    turn(0);
    let counted = CountingAllocator::count(|| (0..1024).for_each(turn));
    assert_eq!((counted.allocations, counted.frees), (0, 0));
}

#[test]
fn many_lanes_give_their_memory_back_when_the_last_is_gone() {
    let lanes = KeyedLanes::<u32, u32>::new();
    let counted = CountingAllocator::count(|| {
        (0..1024).for_each(|key| assert!(lanes.push(key, key).is_ok()));
        while lanes.try_take().is_some() {}
    });
    assert!(counted.allocations > 3 && counted.allocations == counted.frees, "{counted:?}");
}

#[test]
fn many_keys_give_their_memory_back_when_the_last_is_gone() {
    let locks = KeyedLock::<u32>::new();
    let counted = CountingAllocator::count(|| {
        let held: Vec<_> = (0..1_680).map(|key| locks.try_lock(key).unwrap()).collect();
        assert_eq!(locks.len(), 1_680);
        drop(held);
    });
    assert!(locks.is_empty());
    assert_eq!(counted.allocations, counted.frees);
    assert_eq!(counted.bytes_allocated, counted.bytes_freed);
}

// With the feature `age` there is a table of holders.
#[cfg(not(feature = "age"))]
#[test]
fn a_key_allocates_its_entry_and_the_line_of_its_first_wait() {
    let locks = KeyedLock::<u32>::new();
    let fly = || drop(locks.try_lock(7).unwrap());
    fly();
    let counted = CountingAllocator::count(|| (0..1024).for_each(|_| fly()));
    assert_eq!((counted.allocations, counted.frees), (1024, 1024));
    let held = locks.try_lock(7).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let wait =
        || assert!(pin!(locks.lock(7)).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    wait();
    let counted = CountingAllocator::count(|| {
        (0..1024).for_each(|_| wait());
        let mut waits = pin!(locks.lock(7));
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        drop(held);
        drop(waits.as_mut().poll(&mut cx));
    });
    // The entry goes, with its line.
    assert_eq!((counted.allocations, counted.frees), (0, 2));
}
