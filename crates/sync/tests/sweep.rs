//! The futures dropped, woken and dropped, moved, panicked over and closed at each of their await
//! points. After each: every permit is back, whoever stands behind is served, no waker is left; a gate
//! lets the others out; a group's room is there for the next, and what its tasks did is not lost.
#![cfg(not(selvedge_loom))]

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge_cancel::{Canceller, Cause, Context as Tree, Timer};
use selvedge_sync::{
    AcquireError, Barrier, BarrierError, Fairness, KeyedError, KeyedLanes, KeyedPermit,
    KeyedSemaphore, Latch, Lease, OwnedPermit, Passed, Refusal, Semaphore, SingleFlight, TaskGroup,
    WaitGroup,
};
use selvedge_testkit::{CountingWaker, Ended, Mode, Run, Summary, block_on, sweep, yield_now};

/// All permits of the scenarios.
const CAPACITY: usize = 3;

/// What both futures give, as far as the scenarios look at it.
trait Acquired: Future<Output = Result<Self::Permit, AcquireError>> + Send {
    type Permit;
}

impl<P, F: Future<Output = Result<P, AcquireError>> + Send> Acquired for F {
    type Permit = P;
}

/// All permits are out, one guard each.
fn all_out(semaphore: &Arc<Semaphore>) -> Vec<OwnedPermit> {
    (0..CAPACITY).map(|_| semaphore.try_acquire_owned(1).unwrap()).collect()
}

/// `future` wants all permits, which come back one by one; somebody who wants one comes behind it.
fn permits_come_one_by_one<F: Acquired>(run: &mut Run, semaphore: &Arc<Semaphore>, future: F) {
    let mut out = all_out(semaphore);
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut behind = pin!(semaphore.acquire_owned(1));

    let ended = run.drive(future, |step| {
        if step == 0 {
            let polled = behind.as_mut().poll(&mut Context::from_waker(&woken));
            assert!(polled.is_pending(), "one overtook the other");
        }
        drop(out.pop());
    });

    let mut cx = Context::from_waker(&woken);
    match ended {
        Ended::Ready(all) => {
            assert!(all.is_ok());
            assert_eq!(semaphore.available(), 0);
        }
        // What came back until then is enough for the one behind; it waits for no release more.
        Ended::Dropped => assert_eq!(waker.wakes() > 0, out.len() < CAPACITY),
    }
    drop(out);
    let Poll::Ready(Ok(one)) = behind.as_mut().poll(&mut cx) else {
        panic!("the one behind was not served");
    };
    drop(one);
    conserved(run, semaphore);
}

/// `future` stands in the middle of the line; the permits come at once, or the semaphore closes.
fn closed_in_the_middle<F: Acquired>(run: &mut Run, semaphore: &Arc<Semaphore>, future: F) {
    let mut out = all_out(semaphore);
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut cx = Context::from_waker(&woken);
    let mut before = pin!(semaphore.acquire_owned(1));
    assert!(before.as_mut().poll(&mut cx).is_pending());

    let ended = run.drive_cancel(future, |_| out.clear(), || semaphore.close());

    match (run.mode(), ended) {
        (Mode::Cancel, Ended::Ready(result)) => {
            assert_eq!(result.map(drop), Err(AcquireError::Closed));
        }
        (_, Ended::Ready(result)) => assert!(result.is_ok(), "granted before the close"),
        (_, Ended::Dropped) => {}
    }
    out.clear();
    match before.as_mut().poll(&mut cx) {
        Poll::Ready(Ok(one)) => drop(one),
        Poll::Ready(Err(error)) => {
            assert_eq!(error, AcquireError::Closed);
            assert_eq!(run.mode(), Mode::Cancel);
        }
        Poll::Pending => panic!("the one before was not served"),
    }
    conserved(run, semaphore);
}

/// `future` waits for two within a context, which ends in the runs that ask for it; one stands behind it.
fn ended_by_its_context<F: Acquired>(
    run: &mut Run,
    semaphore: &Arc<Semaphore>,
    canceller: &Canceller,
    future: F,
) {
    let mut out = all_out(semaphore);
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut behind = pin!(semaphore.acquire_owned(1));
    let ended = run.drive_cancel(
        future,
        |step| {
            if step == 0 {
                let polled = behind.as_mut().poll(&mut Context::from_waker(&woken));
                assert!(polled.is_pending(), "one overtook the other");
            }
            out.clear();
        },
        || canceller.cancel(),
    );
    if let (Mode::Cancel, Ended::Ready(result)) = (run.mode(), ended) {
        assert!(matches!(result.map(drop), Err(AcquireError::Ended(_))));
    }
    out.clear();
    match behind.as_mut().poll(&mut Context::from_waker(&woken)) {
        Poll::Ready(one) => drop(one.unwrap()),
        Poll::Pending => panic!("the one behind was not served"),
    }
    conserved(run, semaphore);
}

/// Nothing is lost, and nothing is left behind.
fn conserved(run: &Run, semaphore: &Semaphore) {
    assert_eq!(semaphore.available(), CAPACITY);
    assert_eq!(run.live_wakers(), 0);
    if !semaphore.is_closed() {
        assert!(semaphore.try_acquire(CAPACITY).is_ok(), "somebody is left in the line");
    }
}

fn fresh() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CAPACITY))
}

/// K pending polls, and every mode that the drive allows.
fn assert_swept(summary: &Summary, pending_points: usize, modes: usize) {
    assert_eq!((summary.pending_points, summary.modes.len()), (pending_points, modes), "{summary}");
}

#[test]
fn acquire_loses_nothing_at_any_await_point() {
    let summary = sweep("Acquire", |run| {
        let semaphore = fresh();
        permits_come_one_by_one(run, &semaphore, semaphore.acquire(CAPACITY));
    });
    assert_swept(&summary, CAPACITY, 6);
    let summary = sweep("Acquire", |run| {
        let semaphore = fresh();
        closed_in_the_middle(run, &semaphore, semaphore.acquire(2));
    });
    assert_swept(&summary, 1, 8);
}

#[test]
fn acquire_owned_loses_nothing_at_any_await_point() {
    let summary = sweep("AcquireOwned", |run| {
        let semaphore = fresh();
        permits_come_one_by_one(run, &semaphore, semaphore.acquire_owned(CAPACITY));
    });
    assert_swept(&summary, CAPACITY, 6);
    let summary = sweep("AcquireOwned", |run| {
        let semaphore = fresh();
        closed_in_the_middle(run, &semaphore, semaphore.acquire_owned(2));
    });
    assert_swept(&summary, 1, 8);
}

#[test]
fn acquire_in_loses_nothing_at_any_await_point() {
    let summary = sweep("WithinOrCause", |run| {
        let (semaphore, (ctx, canceller)) = (fresh(), Tree::background().child());
        ended_by_its_context(run, &semaphore, &canceller, semaphore.acquire_in(&ctx, 2));
    });
    assert_swept(&summary, 1, 8);
}

#[test]
fn acquire_owned_in_loses_nothing_at_any_await_point() {
    let summary = sweep("WithinOrCause", |run| {
        let (semaphore, (ctx, canceller)) = (fresh(), Tree::background().child());
        ended_by_its_context(run, &semaphore, &canceller, semaphore.acquire_owned_in(&ctx, 2));
    });
    assert_swept(&summary, 1, 8);
}

#[test]
fn an_eventual_acquire_loses_nothing_at_any_await_point() {
    let eventual = || {
        let (timer, clock) = Timer::manual();
        let fairness = Fairness::EVENTUAL;
        let semaphore = Semaphore::new(CAPACITY).with_fairness(fairness).with_timer(timer);
        (Arc::new(semaphore), clock)
    };
    let summary = sweep("AcquireOwned", |run| {
        let (semaphore, _clock) = eventual();
        permits_come_one_by_one(run, &semaphore, semaphore.acquire_owned(CAPACITY));
    });
    assert_swept(&summary, CAPACITY, 6);
    // Behind one that does not come when it is called, and loses its turn.
    let summary = sweep("AcquireOwned", |run| {
        let (semaphore, clock) = eventual();
        let mut out = all_out(&semaphore);
        let mut asleep = pin!(semaphore.acquire_owned(1));
        assert!(asleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let ended = run.drive_cancel(
            semaphore.acquire_owned(2),
            |step| match step {
                0 => out.clear(),
                _ => clock.advance(Duration::from_millis(4)),
            },
            || semaphore.close(),
        );
        if let (Mode::Cancel, Ended::Ready(result)) = (run.mode(), ended) {
            assert_eq!(result.map(drop), Err(AcquireError::Closed));
        }
        out.clear();
        clock.advance(Duration::from_millis(4));
        match asleep.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(one) => assert!(one.is_ok() || semaphore.is_closed()),
            Poll::Pending => panic!("nobody else is there, and it is not served"),
        }
        conserved(run, &semaphore);
    });
    assert_swept(&summary, 2, 8);
}

#[test]
fn latch_wait_loses_nothing_at_any_await_point() {
    let summary = sweep("LatchWait", |run| {
        let latch = Latch::new(2);
        let waker = CountingWaker::new();
        let mut behind = pin!(latch.wait());
        let ended = run.drive(latch.wait(), |step| {
            if step == 0 {
                let polled = behind.as_mut().poll(&mut Context::from_waker(&waker.waker()));
                assert!(polled.is_pending());
            }
            latch.count_down(1);
        });
        assert!(ended.is_dropped() || latch.is_open());
        latch.count_down(2);
        block_on(behind);
        assert_eq!((run.live_wakers(), waker.live()), (0, 0));
    });
    assert_swept(&summary, 2, 6);
}

#[test]
fn wait_group_wait_loses_nothing_at_any_await_point() {
    let summary = sweep("WaitGroupWait", |run| {
        let group = Arc::new(WaitGroup::new());
        let mut guards: Vec<_> = (0..2).map(|_| group.add_owned(1).unwrap()).collect();
        let waker = CountingWaker::new();
        let mut behind = pin!(group.wait());
        let ended = run.drive(group.wait(), |step| {
            if step == 0 {
                let polled = behind.as_mut().poll(&mut Context::from_waker(&waker.waker()));
                assert!(polled.is_pending());
            }
            drop(guards.pop());
        });
        assert!(ended.is_dropped() || group.count() == 0);
        guards.clear();
        block_on(behind);
        // Used again: nobody is left in the queue, and it is told if somebody is.
        let again = group.add_owned(1).unwrap();
        let mut wait = pin!(group.wait());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
        drop(again);
        block_on(wait);
        assert_eq!((run.live_wakers(), waker.live()), (0, 0));
    });
    assert_swept(&summary, 2, 6);
}

#[test]
fn a_wait_in_a_context_loses_nothing_at_any_await_point() {
    let summary = sweep("Within", |run| {
        let (latch, (tree, canceller)) = (Latch::new(2), Tree::background().child());
        let step = |_| assert!(!latch.is_open() && (latch.count_down(1) || latch.count() == 1));
        let ended = run.drive_cancel(latch.wait_in(&tree), step, || canceller.cancel());
        ends_with_its_context(run, ended, latch.is_open());
        latch.count_down(2);
        block_on(latch.wait());
    });
    assert_swept(&summary, 2, 8);
    let summary = sweep("Within", |run| {
        let (group, (tree, canceller)) = (Arc::new(WaitGroup::new()), Tree::background().child());
        let mut guards: Vec<_> = (0..2).map(|_| group.add_owned(1).unwrap()).collect();
        let step = |_| drop(guards.pop());
        let ended = run.drive_cancel(group.wait_in(&tree), step, || canceller.cancel());
        ends_with_its_context(run, ended, group.count() == 0);
        drop(guards);
        block_on(group.wait());
    });
    assert_swept(&summary, 2, 8);
}

/// It was let out because the gate is open, or by its context.
fn ends_with_its_context(run: &Run, ended: Ended<Result<(), Cause>>, is_open: bool) {
    let cancelled = matches!(run.mode(), Mode::Cancel | Mode::WakeThenCancel);
    match ended {
        Ended::Ready(result) => {
            assert_eq!(result.is_err(), cancelled);
            assert!(is_open || cancelled);
        }
        Ended::Dropped => {}
    }
    assert_eq!(run.live_wakers(), 0);
}

/// A group of the scenarios.
type Group = TaskGroup<u32, &'static str>;

/// A group with room for one, under `tree`.
fn room_for_one(tree: &Tree) -> Group {
    TaskGroup::builder(tree).limit(1).build().unwrap()
}

#[test]
fn reserve_loses_nothing_at_any_await_point() {
    let summary = sweep("Reserve", |run| {
        let (tree, canceller) = Tree::background().child();
        let group = room_for_one(&tree);
        let mut taken = Some(group.try_reserve().unwrap());
        let waker = CountingWaker::new();
        let mut behind = pin!(group.reserve());
        let ended = run.drive_cancel(
            group.reserve(),
            |_| {
                let polled = behind.as_mut().poll(&mut Context::from_waker(&waker.waker()));
                assert!(polled.is_pending(), "one overtook the other");
                drop(taken.take());
            },
            || canceller.cancel(),
        );
        match (run.mode(), ended) {
            (Mode::Cancel | Mode::WakeThenCancel, Ended::Ready(room)) => {
                assert!(matches!(room, Err(Refusal::Stopping(_))));
            }
            (_, Ended::Ready(room)) => assert!(room.is_ok()),
            (_, Ended::Dropped) => {}
        }
        drop(taken.take());
        match block_on(behind) {
            Ok(room) => drop(room),
            Err(_) => assert!(tree.is_cancelled()),
        }
        if !tree.is_cancelled() {
            drop(group.try_reserve().expect("the room is back"));
        }
        assert_eq!((run.live_wakers(), waker.live()), (0, 0));
    });
    assert_swept(&summary, 1, 8);
}

#[test]
#[cfg(feature = "tokio")]
fn spawn_loses_nothing_at_any_await_point() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let summary = sweep("Spawn", |run| {
        let (tree, canceller) = Tree::background().child();
        let group = {
            let _inside = runtime.enter();
            room_for_one(&tree)
        };
        let mut taken = Some(group.try_reserve().unwrap());
        let passed_in = Arc::new(());
        let kept = Arc::clone(&passed_in);
        let task = async move {
            drop(kept);
            Ok(7)
        };
        let ended =
            run.drive_cancel(group.spawn(task), |_| drop(taken.take()), || canceller.cancel());
        let spawned = match (run.mode(), ended) {
            (Mode::Cancel | Mode::WakeThenCancel, Ended::Ready(spawned)) => {
                let error = spawned.unwrap_err();
                assert!(matches!(error.refusal(), Refusal::Stopping(_)));
                assert_eq!(Arc::strong_count(&passed_in), 2, "the future comes back");
                drop(error.into_future());
                0
            }
            (_, Ended::Ready(spawned)) => spawned.unwrap() + 1,
            (_, Ended::Dropped) => 0,
        };
        drop(taken.take());
        let joined = runtime.block_on(group.join());
        assert_eq!((joined.counts.spawned, joined.counts.finished), (spawned, spawned));
        assert_eq!(Arc::strong_count(&passed_in), 1);
        assert_eq!(run.live_wakers(), 0);
    });
    assert_swept(&summary, 1, 8);
}

#[test]
fn join_loses_nothing_at_any_await_point() {
    let summary = sweep("Join", |run| {
        let group = Group::new(&Tree::background());
        let mut tasks: Vec<_> = (0..2)
            .map(|n| {
                let slot = group.try_reserve().unwrap();
                slot.into_task(async move { if n == 0 { Err("failed") } else { Ok(n) } }).unwrap()
            })
            .collect();
        // The one that finishes comes first, the one that fails last.
        let ended = run.drive(group.join(), |_| block_on(tasks.pop().unwrap()));
        while let Some(task) = tasks.pop() {
            block_on(task);
        }
        let joined = match ended {
            Ended::Ready(joined) => joined,
            // Another join gets everything.
            Ended::Dropped => block_on(group.join()),
        };
        assert_eq!(joined.results, [None, Some(1)]);
        assert_eq!((joined.failures.len(), joined.counts.running()), (1, 0));
        assert_eq!(run.live_wakers(), 0);
    });
    assert_swept(&summary, 2, 6);
}

#[test]
fn group_task_tells_of_its_end_at_any_await_point() {
    let summary = sweep("GroupTask", |run| {
        let group = Group::new(&Tree::background());
        let captured = Arc::new(());
        let kept = Arc::clone(&captured);
        let slot = group.try_reserve().unwrap();
        let task = slot.into_task(async move {
            let _kept = kept;
            yield_now().await;
            yield_now().await;
            Ok(7)
        });
        let ended = run.drive_cancel(task.unwrap(), |_| (), || group.cancel());
        assert_eq!(Arc::strong_count(&captured), 1);
        assert_eq!(run.live_wakers(), 0, "no waker stays with the context");
        let counts = block_on(group.join()).counts;
        let cancelled = matches!(run.mode(), Mode::Cancel | Mode::WakeThenCancel);
        let finishes = !cancelled && matches!(ended, Ended::Ready(()));
        assert_eq!((counts.spawned, counts.running()), (1, 0));
        assert_eq!(counts.finished, usize::from(finishes));
        assert_eq!(counts.cancelled, usize::from(!finishes));
    });
    assert_swept(&summary, 2, 8);
}

/// The work of a flight.
type Working = Pin<Box<dyn Future<Output = Result<u8, &'static str>> + Send>>;
/// Makes it.
type Work = Box<dyn FnOnce() -> Working + Send>;
/// The flights of the scenarios.
type Flights = SingleFlight<u8, u8, &'static str>;

/// `call` makes a call that `canceller` ends, of work that takes two steps; another caller stands behind it.
fn two_callers<F>(
    run: &mut Run,
    flights: &Flights,
    canceller: &Canceller,
    call: impl FnOnce(Work) -> F,
) where
    F: Future<Output = Result<Result<u8, &'static str>, Cause>> + Send,
{
    let opens = Arc::new([Latch::new(1), Latch::new(1)]);
    let work = |name: u8| {
        let opens = Arc::clone(&opens);
        Box::new(move || {
            Box::pin(async move {
                for open in opens.iter() {
                    open.wait().await;
                }
                Ok(name)
            }) as Working
        }) as Work
    };
    let waker = CountingWaker::new();
    let mut behind = Box::pin(flights.run(7, work(2)));
    let ended = run.drive_cancel(
        call(work(1)),
        |step| {
            if step == 0 {
                let polled = behind.as_mut().poll(&mut Context::from_waker(&waker.waker()));
                assert!(polled.is_pending());
            }
            opens[step].count_down(1);
        },
        || canceller.cancel(),
    );
    let cancelled = matches!(run.mode(), Mode::Cancel | Mode::WakeThenCancel);
    match ended {
        Ended::Ready(result) => assert_eq!(result.ok(), (!cancelled).then_some(Ok(1))),
        Ended::Dropped => {}
    }
    for open in opens.iter() {
        open.count_down(1);
    }
    // Who stands behind goes on with the work that is there, or begins its own.
    assert!(matches!(block_on(behind), Ok(1 | 2)));
    assert_eq!((flights.len(), run.live_wakers(), waker.live()), (0, 0, 0));
    assert_eq!(Arc::strong_count(&opens), 1);
}

#[test]
fn flight_wait_loses_nothing_at_any_await_point() {
    let summary = sweep("FlightWait", |run| {
        let (flights, (tree, canceller)) = (Flights::new(), Tree::background().child());
        two_callers(run, &flights, &canceller, |work| tree.run(flights.run(7, work)));
    });
    assert_swept(&summary, 2, 8);
    let summary = sweep("FlightWait", |run| {
        let (flights, (tree, canceller)) = (Flights::new(), Tree::background().child());
        two_callers(run, &flights, &canceller, |work| tree.run(flights.run_owned(7, work)));
    });
    assert_swept(&summary, 2, 8);
    let summary = sweep("Within", |run| {
        let (flights, (tree, canceller)) = (Flights::new(), Tree::background().child());
        two_callers(run, &flights, &canceller, |work| flights.run_in(&tree, 7, work));
    });
    assert_swept(&summary, 2, 8);
    let summary = sweep("Within", |run| {
        let (flights, (tree, canceller)) = (Flights::new(), Tree::background().child());
        two_callers(run, &flights, &canceller, |work| flights.run_owned_in(&tree, 7, work));
    });
    assert_swept(&summary, 2, 8);
}

/// `wait` is one of three parties, between one before it and the last, and `canceller` ends it.
fn three_parties(
    run: &mut Run,
    barrier: &Barrier,
    canceller: &Canceller,
    wait: impl Future<Output = Result<Result<Passed, BarrierError>, Cause>> + Send,
) {
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut cx = Context::from_waker(&woken);
    let mut before = Box::pin(barrier.wait());
    assert!(before.as_mut().poll(&mut cx).is_pending());
    let mut last = None;
    let ended = run.drive_cancel(
        wait,
        |_| last = Some(block_on(barrier.wait()).unwrap()),
        || canceller.cancel(),
    );
    match (run.mode(), &last, before.as_mut().poll(&mut cx)) {
        // All have come, whatever became of one afterwards.
        (_, Some(last), Poll::Ready(passed)) => {
            assert!(last.is_last() && !passed.unwrap().is_last() && !barrier.is_broken());
        }
        // It had not come.
        (_, None, Poll::Pending) => assert!(!barrier.is_broken()),
        (_, None, Poll::Ready(broken)) => {
            assert_eq!(broken, Err(BarrierError::Broken));
            assert!(barrier.is_broken());
        }
        (mode, Some(_), Poll::Pending) => panic!("{mode:?}: a party was forgotten"),
    }
    if let Ended::Ready(Ok(passed)) = ended {
        assert!(!passed.unwrap().is_last());
    }
    drop(before);
    barrier.reset();
    drop(woken);
    assert_eq!((barrier.waiting(), run.live_wakers(), waker.live()), (0, 0, 0));
}

#[test]
fn barrier_wait_loses_nothing_at_any_await_point() {
    let summary = sweep("BarrierWait", |run| {
        let (barrier, (tree, canceller)) = (Barrier::new(3).unwrap(), Tree::background().child());
        three_parties(run, &barrier, &canceller, tree.run(barrier.wait()));
    });
    assert_swept(&summary, 1, 8);
    let summary = sweep("Within", |run| {
        let (barrier, (tree, canceller)) = (Barrier::new(3).unwrap(), Tree::background().child());
        three_parties(run, &barrier, &canceller, barrier.wait_in(&tree));
    });
    assert_swept(&summary, 1, 8);
}

/// `take` is to get the first of two items, and `canceller` ends it.
fn two_items(
    run: &mut Run,
    lanes: &KeyedLanes<&'static str, u32>,
    canceller: &Canceller,
    take: impl Future<Output = Result<Option<Lease<&'static str, u32>>, Cause>> + Send,
) {
    let ended = run.drive_cancel(
        take,
        |_| {
            for item in 0..2 {
                assert!(lanes.push("key", item).is_ok());
            }
        },
        || canceller.cancel(),
    );
    let mut seen = 0;
    if let Ended::Ready(Ok(lease)) = ended {
        assert_eq!(*lease.unwrap(), 0);
        seen = 1;
    }
    // What was not seen is still there, in order.
    while let Some(lease) = lanes.try_take() {
        assert_eq!(*lease, seen);
        seen += 1;
    }
    assert!(seen == 0 || seen == 2);
    assert_eq!((lanes.len(), lanes.lanes(), run.live_wakers()), (0, 0, 0));
}

#[test]
fn take_lease_loses_nothing_at_any_await_point() {
    let summary = sweep("TakeLease", |run| {
        let (lanes, (tree, canceller)) = (KeyedLanes::new(), Tree::background().child());
        two_items(run, &lanes, &canceller, tree.run(lanes.take()));
    });
    assert_swept(&summary, 1, 8);
    let summary = sweep("Within", |run| {
        let (lanes, (tree, canceller)) = (KeyedLanes::new(), Tree::background().child());
        two_items(run, &lanes, &canceller, lanes.take_in(&tree));
    });
    assert_swept(&summary, 1, 8);
}

/// `future` wants two permits of a key that are out, within a context that may end; one wants one behind it.
fn behind_a_key<F: Future + Send>(
    run: &mut Run,
    keys: &KeyedSemaphore<u32>,
    canceller: &Canceller,
    future: F,
    outcome: impl FnOnce(F::Output) -> Result<KeyedPermit<u32>, KeyedError>,
) {
    let mut out: Vec<_> = (0..2).map(|_| keys.try_acquire(7, 1).unwrap()).collect();
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut behind = Box::pin(keys.acquire(7, 1));
    let ended = run.drive_cancel(
        future,
        |step| {
            if step == 0 {
                let polled = behind.as_mut().poll(&mut Context::from_waker(&woken));
                assert!(polled.is_pending(), "one overtook the other");
            }
            drop(out.pop());
        },
        || canceller.cancel(),
    );
    match (run.mode(), ended.ready().map(outcome)) {
        (Mode::Cancel | Mode::WakeThenCancel, Some(Err(error))) => {
            assert!(matches!(error, KeyedError::Ended(_)));
        }
        (_, Some(permit)) => assert_eq!(permit.unwrap().count(), 2),
        (_, None) => {}
    }
    out.clear();
    match behind.as_mut().poll(&mut Context::from_waker(&woken)) {
        Poll::Ready(one) => assert_eq!(*one.unwrap().key(), 7),
        Poll::Pending => panic!("the one behind was not served"),
    }
    drop(behind);
    drop(woken);
    assert_eq!((keys.len(), run.live_wakers(), waker.live()), (0, 0, 0));
}

#[test]
fn acquire_keyed_loses_nothing_at_any_await_point() {
    let summary = sweep("AcquireKeyed", |run| {
        let (keys, (tree, canceller)) = (KeyedSemaphore::new(2), Tree::background().child());
        let flat =
            |output: Result<_, _>| output.unwrap_or_else(|cause| Err(KeyedError::Ended(cause)));
        behind_a_key(run, &keys, &canceller, tree.run(keys.acquire(7, 2)), flat);
    });
    assert_swept(&summary, 2, 8);
    let summary = sweep("WithinOrCause", |run| {
        let (keys, (tree, canceller)) = (KeyedSemaphore::new(2), Tree::background().child());
        behind_a_key(run, &keys, &canceller, keys.acquire_in(&tree, 7, 2), |output| output);
    });
    assert_swept(&summary, 2, 8);
}

#[test]
fn next_loses_no_value_at_any_await_point() {
    let summary = sweep("Next", |run| {
        let tree = Tree::background();
        let group = TaskGroup::<u32, String>::builder(&tree).stream_results().build().unwrap();
        let mut task = Box::pin(
            group.try_reserve().unwrap().into_task(std::future::ready(Ok(7))).ok().unwrap(),
        );
        let alive = group.try_reserve().unwrap().into_task(std::future::pending()).ok().unwrap();
        let waker = CountingWaker::new();
        let woken = waker.waker();
        let mut cx = Context::from_waker(&woken);
        let mut behind = pin!(group.next());
        let ended = run.drive(group.next(), |step| {
            if step == 0 {
                assert!(behind.as_mut().poll(&mut Context::from_waker(&woken)).is_pending());
                assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
            }
        });
        if let Ended::Ready(next) = ended {
            assert_eq!(next, Some((0, 7)));
        } else {
            let _ = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(behind.as_mut().poll(&mut cx), Poll::Ready(Some((0, 7))));
        }
        // The last end tells everybody.
        drop(alive);
        assert_eq!(block_on(group.next()), None);
        assert_eq!(run.live_wakers(), 0);
    });
    assert_swept(&summary, 1, 6);
}
