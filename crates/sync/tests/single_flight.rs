//! The single flight: one run for all who join, who drives it, who leaves, what is kept, and what panics.
#![cfg(not(selvedge_loom))]

#[path = "support/panicky_key.rs"]
mod panicky_key;

use std::cell::Cell;
use std::future::{Pending, pending, poll_fn, ready};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use panicky_key::{PanickyKey, Switches, fires};
use selvedge_cancel::{CauseKind, Context as Tree};
use selvedge_sync::{Panic, SingleFlight, Timer};
use selvedge_testkit::{
    CountingWaker, PanickingWaker, ReentrantWaker, block_on, watchdog, yield_now,
};

type Flights<K = u32> = SingleFlight<K, u32, &'static str>;
type Outcome = Result<u32, &'static str>;
/// What a call is in these tests.
type Call = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Work that is done from outside.
#[derive(Clone, Default)]
struct Work(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    result: Option<Outcome>,
    waker: Option<Waker>,
    made: usize,
    polls: usize,
    dropped: usize,
}

/// Its future.
struct Working(Work);

impl Work {
    /// What makes its future.
    fn make(&self) -> impl FnOnce() -> Working + Send + 'static {
        let work = self.clone();
        move || {
            work.0.lock().unwrap().made += 1;
            Working(work)
        }
    }

    /// It is done; nobody is told.
    fn finish_silently(&self, result: Outcome) {
        self.0.lock().unwrap().result = Some(result);
    }

    /// It goes on.
    fn wake(&self) {
        let waker = self.0.lock().unwrap().waker.take();
        waker.expect("it was polled").wake();
    }

    /// It is done.
    fn finish(&self, result: Outcome) {
        self.finish_silently(result);
        self.wake();
    }

    /// How often it was made, polled and dropped.
    fn seen(&self) -> (usize, usize, usize) {
        let inner = self.0.lock().unwrap();
        (inner.made, inner.polls, inner.dropped)
    }
}

impl Future for Working {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut inner = self.0.0.lock().unwrap();
        inner.polls += 1;
        inner.waker = Some(cx.waker().clone());
        inner.result.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().dropped += 1;
    }
}

fn poll_with(call: &mut Call, waker: &Waker) -> Poll<Outcome> {
    call.as_mut().poll(&mut Context::from_waker(waker))
}

fn poll(call: &mut Call) -> Poll<Outcome> {
    poll_with(call, Waker::noop())
}

/// A call that has boarded.
fn boarded(flights: &Flights, work: &Work) -> Call {
    let mut call: Call = Box::pin(flights.run_owned(7, work.make()));
    assert!(poll(&mut call).is_pending());
    call
}

/// What a poll panics with.
fn panic_of<T>(f: impl FnOnce() -> T) -> Panic {
    Panic::new(catch_unwind(AssertUnwindSafe(f)).err().expect("it panics"))
}

// Smoke.

#[test]
fn one_run_serves_everyone_who_joins() {
    let (flights, work) = (Flights::new(), Work::default());
    let mut calls: Vec<_> = (0..100).map(|_| boarded(&flights, &work)).collect();
    assert_eq!((flights.len(), work.seen()), (1, (1, 1, 0)));
    work.finish(Ok(3));
    for call in &mut calls {
        assert_eq!(poll(call), Poll::Ready(Ok(3)));
    }
    assert_eq!((flights.len(), work.seen()), (0, (1, 2, 1)));
}

#[test]
fn an_error_reaches_everyone() {
    let (flights, work) = (Flights::new(), Work::default());
    let mut calls: Vec<_> = (0..3).map(|_| boarded(&flights, &work)).collect();
    work.finish(Err("lost"));
    for call in &mut calls {
        assert_eq!(poll(call), Poll::Ready(Err("lost")));
    }
    assert!(flights.is_empty());
}

#[test]
fn a_call_that_begins_when_another_has_ended_runs_again() {
    let flights = Flights::new();
    for n in 0..3 {
        assert_eq!(block_on(flights.run(7, || ready(Ok(n)))), Ok(n));
        assert!(flights.is_empty());
    }
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let (flights, work) = (Flights::new(), Work::default());
    drop(flights.run(7, work.make()));
    assert_eq!((flights.len(), work.seen()), (0, (0, 0, 0)));
}

#[test]
fn keys_fly_apart() {
    let flights = Flights::new();
    let works: Vec<_> = (0..100).map(|_| Work::default()).collect();
    let mut calls: Vec<Call> = (0..)
        .zip(&works)
        .map(|(key, work)| Box::pin(flights.run_owned(key, work.make())) as _)
        .collect();
    assert!(calls.iter_mut().all(|call| poll(call).is_pending()));
    assert_eq!(flights.len(), 100);
    for (n, (work, call)) in (0..).zip(works.iter().zip(&mut calls)) {
        work.finish(Ok(n));
        assert_eq!(poll(call), Poll::Ready(Ok(n)));
    }
    assert!(flights.is_empty());
}

#[test]
fn the_closure_of_a_joiner_is_dropped_when_it_has_joined() {
    let (flights, work) = (Flights::new(), Work::default());
    let _first = boarded(&flights, &work);
    let captured = Arc::new(());
    let kept = Arc::clone(&captured);
    let mut second: Call = Box::pin(flights.run_owned(7, move || {
        drop(kept);
        ready(Ok(0))
    }));
    assert!(poll(&mut second).is_pending());
    assert_eq!(Arc::strong_count(&captured), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_herd_one_runs_at_a_time() {
    let flights = Flights::new();
    let (running, runs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let tasks = (0..8).map(|_| {
        let (flights, running, runs) = (flights.clone(), running.clone(), runs.clone());
        tokio::spawn(async move {
            for round in 0..1_000 {
                let (running, runs) = (running.clone(), runs.clone());
                let call = flights.run(7, move || async move {
                    assert!(!running.swap(true, Ordering::Relaxed), "two at once");
                    runs.fetch_add(1, Ordering::Relaxed);
                    for _ in 0..round % 3 {
                        tokio::task::yield_now().await;
                    }
                    running.store(false, Ordering::Relaxed);
                    Ok(7)
                });
                assert_eq!(call.await, Ok(7));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert!(flights.is_empty());
    assert!((1..=8_000).contains(&runs.load(Ordering::Relaxed)));
}

// Driving.

#[test]
fn a_leader_that_is_dropped_restarts_nothing() {
    let (flights, work) = (Flights::new(), Work::default());
    let leader = boarded(&flights, &work);
    let waker = CountingWaker::new();
    let mut joiner: Call = Box::pin(flights.run_owned(7, work.make()));
    assert!(poll_with(&mut joiner, &waker.waker()).is_pending());
    drop(leader);
    work.finish(Ok(1));
    assert_eq!(waker.wakes(), 1);
    assert_eq!(poll(&mut joiner), Poll::Ready(Ok(1)));
    assert_eq!((flights.len(), work.seen()), (0, (1, 2, 1)));
}

#[test]
fn a_leader_that_is_never_polled_again_stalls_nobody() {
    let (flights, work) = (Flights::new(), Work::default());
    let mut leader = boarded(&flights, &work);
    let mut joiner = boarded(&flights, &work);
    for _ in 0..3 {
        work.wake();
        assert!(poll(&mut joiner).is_pending());
    }
    work.finish(Ok(1));
    assert_eq!(poll(&mut joiner), Poll::Ready(Ok(1)));
    assert_eq!(work.seen(), (1, 5, 1));
    assert_eq!(poll(&mut leader), Poll::Ready(Ok(1)));
}

#[test]
fn a_caller_that_comes_between_two_wakes_does_not_poll_the_work() {
    let (flights, work) = (Flights::new(), Work::default());
    let _calls: Vec<_> = (0..10).map(|_| boarded(&flights, &work)).collect();
    assert_eq!(work.seen(), (1, 1, 0));
    work.wake();
    let _late = boarded(&flights, &work);
    assert_eq!(work.seen(), (1, 2, 0), "the one who came first drives");
}

#[test]
fn a_wake_of_the_work_wakes_everyone_who_waits() {
    let (flights, work) = (Flights::new(), Work::default());
    // More than fit in a batch of wakers.
    let wakers: Vec<_> = (0..100).map(|_| CountingWaker::new()).collect();
    let mut calls: Vec<Call> =
        wakers.iter().map(|_| Box::pin(flights.run_owned(7, work.make())) as Call).collect();
    for (call, waker) in calls.iter_mut().zip(&wakers) {
        assert!(poll_with(call, &waker.waker()).is_pending());
    }
    work.wake();
    assert!(wakers.iter().all(|waker| waker.wakes() == 1));
    for (call, waker) in calls.iter_mut().zip(&wakers) {
        assert!(poll_with(call, &waker.waker()).is_pending());
    }
    assert_eq!(work.seen(), (1, 2, 0));
    work.finish(Ok(0));
    assert!(wakers.iter().all(|waker| waker.wakes() == 2));
    for call in &mut calls {
        assert_eq!(poll(call), Poll::Ready(Ok(0)));
    }
    assert!(wakers.iter().all(|waker| waker.live() == 0));
}

#[test]
fn a_wake_that_comes_while_the_work_is_driven_is_not_lost() {
    let flights = Flights::new();
    let mut left = 3;
    let make = move || {
        poll_fn(move |cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(Ok(9)) } else { Poll::Pending }
        })
    };
    let wakers = [CountingWaker::new(), CountingWaker::new()];
    let mut leader: Call = Box::pin(flights.run_owned(7, make));
    assert!(poll_with(&mut leader, &wakers[0].waker()).is_pending());
    assert_eq!(wakers[0].wakes(), 1, "itself");
    // The work is woken: whoever comes drives.
    let mut joiner: Call = Box::pin(flights.run_owned(7, pending::<Outcome>));
    assert!(poll_with(&mut joiner, &wakers[1].waker()).is_pending());
    assert_eq!(wakers[1].wakes(), 1);
    assert_eq!(poll(&mut joiner), Poll::Ready(Ok(9)));
    assert_eq!(poll(&mut leader), Poll::Ready(Ok(9)));
}

#[test]
fn a_wake_that_comes_while_the_work_is_driven_reaches_who_has_joined_meanwhile() {
    let flights = Flights::new();
    let waker = CountingWaker::new();
    let joined: Arc<Mutex<Option<Call>>> = Arc::default();
    let make = {
        let (flights, slot, waker) = (flights.clone(), Arc::clone(&joined), waker.waker());
        move || {
            let mut call: Call = Box::pin(flights.run_owned(7, pending::<Outcome>));
            assert!(poll_with(&mut call, &waker).is_pending());
            *slot.lock().unwrap() = Some(call);
            async {
                yield_now().await;
                Ok(1)
            }
        }
    };
    let mut leader: Call = Box::pin(flights.run_owned(7, make));
    assert!(poll(&mut leader).is_pending());
    // The leader is not polled again.
    assert_eq!(waker.wakes(), 1);
    let mut joiner = joined.lock().unwrap().take().unwrap();
    assert_eq!(poll(&mut joiner), Poll::Ready(Ok(1)));
}

#[test]
fn work_that_wakes_itself_gives_way_to_the_executor() {
    let flights = Flights::new();
    let make = || async {
        for _ in 0..10 {
            yield_now().await;
        }
        Ok(1)
    };
    let mut call: Call = Box::pin(flights.run_owned(7, make));
    for _ in 0..10 {
        assert!(poll(&mut call).is_pending());
    }
    assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
}

#[test]
fn a_waker_that_is_kept_after_the_end_does_nothing() {
    let (flights, work) = (Flights::new(), Work::default());
    let call = boarded(&flights, &work);
    let waker = work.0.lock().unwrap().waker.take().unwrap();
    drop(call);
    waker.wake_by_ref();
    assert!(flights.is_empty());
    drop(flights);
    waker.wake();
}

#[test]
fn a_waker_that_is_kept_after_the_end_wakes_no_flight_that_came_after() {
    let (flights, old) = (Flights::new(), Work::default());
    let call = boarded(&flights, &old);
    // Its shard has no other flight, so the next of this key gets its number.
    drop(call);
    let (work, count) = (Work::default(), CountingWaker::new());
    let mut call: Call = Box::pin(flights.run_owned(7, work.make()));
    assert!(poll_with(&mut call, &count.waker()).is_pending());
    old.wake();
    assert_eq!(count.wakes(), 0);
    assert!(poll_with(&mut call, &count.waker()).is_pending());
    assert_eq!(work.seen(), (1, 1, 0));
    work.finish(Ok(1));
    assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
    // A waker that outlives all of it leads nowhere.
    drop(flights);
    let kept = work.0.lock().unwrap().waker.take();
    if let Some(kept) = kept {
        kept.wake();
    }
}

#[test]
fn a_caller_that_was_poked_gets_the_result_though_all_others_have_it() {
    let (flights, work) = (Flights::new(), Work::default());
    let mut calls: Vec<_> = (0..100).map(|_| boarded(&flights, &work)).collect();
    // All are poked, and two thirds come back to the line; then the work ends.
    work.wake();
    calls[..66].iter_mut().for_each(|call| assert!(poll(call).is_pending()));
    work.finish(Ok(1));
    let late = calls.split_off(66);
    for mut call in calls {
        assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
    }
    // A flight of the same key comes, and must not be taken for theirs.
    let (next, count) = (Work::default(), CountingWaker::new());
    let mut other: Call = Box::pin(flights.run_owned(7, next.make()));
    assert!(poll_with(&mut other, &count.waker()).is_pending());
    for (number, mut call) in late.into_iter().enumerate() {
        if number % 2 == 0 {
            assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
        }
    }
    assert_eq!((flights.len(), count.wakes(), next.seen()), (1, 0, (1, 1, 0)));
    drop(other);
    assert!(flights.is_empty());
}

#[test]
fn who_is_in_line_when_a_flight_lands_is_woken_once_and_has_the_result() {
    let (flights, wakers) = (Flights::new(), [(); 100].map(|()| CountingWaker::new()));
    let wakers = Arc::new(wakers);
    let joined: Arc<Mutex<Vec<Call>>> = Arc::default();
    let make = {
        let (flights, joined, wakers) = (flights.clone(), Arc::clone(&joined), Arc::clone(&wakers));
        move || {
            poll_fn(move |_| {
                for waker in &*wakers {
                    let mut call: Call = Box::pin(flights.run_owned(7, pending::<Outcome>));
                    assert!(poll_with(&mut call, &waker.waker()).is_pending());
                    joined.lock().unwrap().push(call);
                }
                Poll::Ready(Ok(1))
            })
        }
    };
    let mut lands: Call = Box::pin(flights.run_owned(7, make));
    assert_eq!(poll(&mut lands), Poll::Ready(Ok(1)));
    assert!(flights.is_empty());
    assert!(wakers.iter().all(|waker| (waker.wakes(), waker.live()) == (1, 0)));
    for mut call in std::mem::take(&mut *joined.lock().unwrap()) {
        assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
    }
}

/// Ends the first time, when `call` has joined.
fn joined_by(
    call: &Arc<Mutex<Option<Call>>>,
    waker: Waker,
) -> impl Future<Output = Outcome> + use<> {
    let call = Arc::clone(call);
    poll_fn(move |_| {
        let mut call = call.lock().unwrap();
        assert!(poll_with(call.as_mut().unwrap(), &waker).is_pending());
        Poll::Ready(Ok(1))
    })
}

#[test]
fn the_key_of_a_flight_is_dropped_when_everyone_has_the_result() {
    /// A key that looks how often somebody was woken, when it is dropped.
    struct Looks(Option<(Arc<CountingWaker>, Arc<AtomicUsize>)>);
    impl PartialEq for Looks {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }
    impl Eq for Looks {}
    impl Hash for Looks {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
    }
    impl Drop for Looks {
        fn drop(&mut self) {
            if let Some((waker, seen)) = &self.0 {
                seen.store(10 + waker.wakes(), Ordering::Relaxed);
            }
        }
    }
    let (flights, joined) = (Flights::<Looks>::new(), Arc::new(Mutex::new(None::<Call>)));
    let (count, seen) = (Arc::new(CountingWaker::new()), Arc::new(AtomicUsize::new(0)));
    let follows: Call = Box::pin(flights.run_owned(Looks(None), pending::<Outcome>));
    *joined.lock().unwrap() = Some(follows);
    let key = Looks(Some((Arc::clone(&count), Arc::clone(&seen))));
    let work = joined_by(&joined, count.waker());
    let mut lands: Call = Box::pin(flights.run_owned(key, move || work));
    assert_eq!(poll(&mut lands), Poll::Ready(Ok(1)));
    assert_eq!(seen.load(Ordering::Relaxed), 11);
}

// Leaving.

#[test]
fn the_last_to_leave_drops_the_work() {
    let (flights, work) = (Flights::new(), Work::default());
    let first = boarded(&flights, &work);
    let second = boarded(&flights, &work);
    drop(first);
    assert_eq!((flights.len(), work.seen().2), (1, 0));
    drop(second);
    assert_eq!((flights.len(), work.seen().2), (0, 1));
    let _again = boarded(&flights, &work);
    assert_eq!(work.seen().0, 2, "another flight");
}

#[test]
fn a_caller_that_was_poked_and_leaves_takes_nothing_along() {
    let (flights, work) = (Flights::new(), Work::default());
    let first = boarded(&flights, &work);
    let mut second = boarded(&flights, &work);
    work.finish(Ok(1));
    drop(first);
    assert_eq!(poll(&mut second), Poll::Ready(Ok(1)));
    let (flights, work) = (Flights::new(), Work::default());
    let all: Vec<_> = (0..2).map(|_| boarded(&flights, &work)).collect();
    work.finish(Ok(1));
    drop(all);
    assert_eq!((flights.len(), work.seen()), (0, (1, 1, 1)));
}

#[test]
fn a_hundred_thousand_calls_that_leave_leave_nothing() {
    let flights = Flights::new();
    for key in 0..100_000 {
        let mut call: Call = Box::pin(flights.run_owned(key, pending::<Outcome>));
        assert!(poll(&mut call).is_pending());
    }
    assert!(flights.is_empty());
}

#[test]
fn the_work_is_dropped_with_no_lock_held() {
    struct LooksBack(Flights, usize);
    impl Drop for LooksBack {
        fn drop(&mut self) {
            assert_eq!(self.0.len(), self.1, "who leaves takes the slot out before the work");
            self.0.forget(&7);
            assert_eq!(block_on(self.0.run(7, || ready(Ok(2)))), Ok(2));
        }
    }
    watchdog(Duration::from_secs(60), "work that looks back", || {
        let flights = Flights::new();
        let looks = LooksBack(flights.clone(), 0);
        let mut call: Call = Box::pin(flights.run_owned(7, move || async move {
            let _looks = looks;
            pending().await
        }));
        assert!(poll(&mut call).is_pending());
        drop(call);
        let looks = LooksBack(flights.clone(), 1);
        let mut call: Call = Box::pin(flights.run_owned(8, move || async move {
            drop(looks);
            Ok(1)
        }));
        assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
    });
}

#[test]
fn a_context_ends_the_wait_with_its_cause_and_the_others_go_on() {
    let (flights, work) = (Flights::new(), Work::default());
    let (tree, canceller) = Tree::background().child();
    let mut stays = boarded(&flights, &work);
    let mut goes = Box::pin(flights.run_in(&tree, 7, work.make()));
    assert!(goes.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    canceller.cancel();
    let cause = block_on(goes).unwrap_err();
    assert_eq!(cause.kind(), CauseKind::Cancelled);
    work.finish(Ok(1));
    assert_eq!(poll(&mut stays), Poll::Ready(Ok(1)));
    // A context that is over starts nothing.
    assert!(block_on(flights.run_in(&tree, 7, work.make())).is_err());
    assert_eq!((work.seen().0, flights.len()), (1, 0));
}

#[test]
fn a_caller_that_is_told_of_the_end_of_its_context_has_left() {
    let (flights, work) = (Flights::new(), Work::default());
    let (tree, canceller) = Tree::background().child();
    let mut told = Box::pin(flights.run_in(&tree, 7, work.make()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(told.as_mut().poll(&mut cx).is_pending());
    canceller.cancel();
    assert!(matches!(told.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
    assert_eq!((flights.len(), work.seen().2), (0, 1), "it was the last");
    drop(told);
}

#[test]
fn who_waits_keeps_what_it_needs() {
    let (flights, work) = (Flights::new(), Work::default());
    let mut calls: Vec<_> = (0..2).map(|_| boarded(&flights, &work)).collect();
    let unpolled: Call = Box::pin(flights.run_owned(7, work.make()));
    calls.push(unpolled);
    drop(flights);
    assert!(poll(&mut calls[2]).is_pending(), "it joins the others");
    work.finish(Ok(1));
    for call in &mut calls {
        assert_eq!(poll(call), Poll::Ready(Ok(1)));
    }
    assert_eq!(work.seen(), (1, 2, 1));
    let left = Work::default();
    let flights = Flights::new();
    let call = boarded(&flights, &left);
    drop(flights);
    drop(call);
    assert_eq!(left.seen().2, 1);
}

#[test]
fn a_call_that_is_borrowed_joins_one_that_is_owned() {
    let (flights, work) = (Flights::new(), Work::default());
    let mut owned = boarded(&flights, &work);
    let mut borrowed = pin!(flights.run(7, work.make()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(borrowed.as_mut().poll(&mut cx).is_pending());
    let (tree, _canceller) = Tree::background().child();
    let mut within: Pin<Box<dyn Future<Output = _> + Send>> =
        Box::pin(flights.run_owned_in(&tree, 7, work.make()));
    assert!(within.as_mut().poll(&mut cx).is_pending());
    work.finish(Ok(1));
    assert_eq!(borrowed.as_mut().poll(&mut cx), Poll::Ready(Ok(1)));
    assert_eq!(poll(&mut owned), Poll::Ready(Ok(1)));
    drop(tree);
    assert!(matches!(within.as_mut().poll(&mut cx), Poll::Ready(Ok(Ok(1)))));
    assert_eq!(work.seen(), (1, 2, 1));
}

#[test]
fn another_hasher_finds_the_same_keys_also_if_it_spreads_nothing() {
    use std::hash::{BuildHasherDefault, Hasher};

    #[derive(Default)]
    struct Seven;
    impl Hasher for Seven {
        fn finish(&self) -> u64 {
            7
        }
        fn write(&mut self, _: &[u8]) {}
    }

    let hasher = BuildHasherDefault::<Seven>::new();
    let flights: SingleFlight<u32, u32, &'static str, _> =
        SingleFlight::builder().hasher(hasher).keep_values(Duration::MAX).build();
    for key in 0..60 {
        assert_eq!(block_on(flights.run(key, || ready(Ok(key)))), Ok(key));
    }
    for key in 0..60 {
        assert_eq!(block_on(flights.run(key, || ready(Ok(0)))), Ok(key));
    }
    flights.forget(&50);
    assert_eq!(block_on(flights.run(50, || ready(Err("gone")))), Err("gone"));
    assert_eq!(flights.len(), 59);
}

// Forgetting.

#[test]
fn after_a_forget_later_callers_fly_apart_from_present_ones() {
    let (flights, work, other) = (Flights::new(), Work::default(), Work::default());
    let mut present: Vec<_> = (0..2).map(|_| boarded(&flights, &work)).collect();
    flights.forget(&7);
    assert!(flights.is_empty());
    let mut later = boarded(&flights, &other);
    work.finish(Ok(1));
    for call in &mut present {
        assert_eq!(poll(call), Poll::Ready(Ok(1)));
    }
    assert_eq!(flights.len(), 1, "the end of the first takes nothing from the second");
    let gone = boarded(&flights, &other);
    flights.forget(&7);
    flights.forget(&7);
    drop(gone);
    other.finish(Ok(2));
    assert_eq!(poll(&mut later), Poll::Ready(Ok(2)));
}

// Keeping.

/// Gives `result` if it runs.
fn now(flights: &Flights, key: u32, result: Outcome) -> Outcome {
    block_on(flights.run(key, || ready(result)))
}

#[test]
fn values_and_errors_are_kept_for_their_times() {
    let (timer, clock) = Timer::manual();
    let flights = Flights::builder()
        .keep_values(Duration::from_secs(10))
        .keep_errors(Duration::from_secs(1))
        .timer(timer)
        .build();
    assert_eq!(now(&flights, 1, Ok(1)), Ok(1));
    assert_eq!(now(&flights, 2, Err("first")), Err("first"));
    clock.advance(Duration::from_millis(999));
    assert_eq!(now(&flights, 1, Ok(2)), Ok(1));
    assert_eq!(now(&flights, 2, Err("second")), Err("first"));
    clock.advance(Duration::from_millis(1));
    assert_eq!(now(&flights, 2, Err("second")), Err("second"));
    clock.advance(Duration::from_millis(8_999));
    assert_eq!(now(&flights, 1, Ok(2)), Ok(1));
    clock.advance(Duration::from_millis(1));
    assert_eq!(now(&flights, 1, Ok(2)), Ok(2));
    flights.forget(&1);
    assert_eq!(now(&flights, 1, Ok(3)), Ok(3));
}

#[test]
fn without_a_time_nothing_is_kept() {
    let flights = Flights::builder().keep_errors(Duration::from_secs(9)).build();
    assert_eq!(now(&flights, 1, Ok(1)), Ok(1));
    assert!(flights.is_empty());
    let flights = Flights::builder().keep_values(Duration::MAX).keep_at_most(0).build();
    assert_eq!(now(&flights, 1, Ok(1)), Ok(1));
    assert!(flights.is_empty());
}

#[test]
fn the_longest_time_never_ends() {
    let (timer, clock) = Timer::manual();
    let flights = Flights::builder().keep_values(Duration::MAX).timer(timer).build();
    assert_eq!(now(&flights, 1, Ok(1)), Ok(1));
    clock.advance(Duration::from_secs(1 << 32));
    assert_eq!(now(&flights, 1, Ok(2)), Ok(1));
}

#[test]
fn no_more_are_kept_than_the_bound() {
    for bound in [1, 2, 15, 16, 17, 100, 1000] {
        let (timer, clock) = Timer::manual();
        let flights = Flights::builder()
            .keep_values(Duration::from_secs(3600))
            .keep_errors(Duration::MAX)
            .keep_at_most(bound)
            .timer(timer)
            .build();
        for key in 0..3000 {
            clock.advance(Duration::from_millis(1));
            let result = if key % 2 == 0 { Ok(key) } else { Err("none") };
            assert_eq!(now(&flights, key, result), result);
            assert!(flights.len() <= bound);
        }
        assert!(flights.len() >= bound.min(4) / 2);
    }
}

#[test]
fn the_first_to_expire_makes_room() {
    let (timer, clock) = Timer::manual();
    let flights = Flights::builder()
        .keep_values(Duration::from_secs(100))
        .keep_errors(Duration::from_secs(10))
        .keep_at_most(2)
        .timer(timer)
        .build();
    assert_eq!(now(&flights, 1, Ok(1)), Ok(1));
    assert_eq!(now(&flights, 2, Err("two")), Err("two"));
    clock.advance(Duration::from_secs(1));
    assert_eq!(now(&flights, 3, Ok(3)), Ok(3));
    assert_eq!(now(&flights, 1, Ok(0)), Ok(1));
    assert_eq!(now(&flights, 3, Ok(0)), Ok(3));
    assert_eq!(now(&flights, 2, Err("again")), Err("again"));
}

#[test]
fn what_has_expired_is_swept_by_what_comes() {
    let (timer, clock) = Timer::manual();
    let flights = Flights::builder().keep_values(Duration::from_secs(1)).timer(timer).build();
    for key in 0..500 {
        assert_eq!(now(&flights, key, Ok(key)), Ok(key));
    }
    clock.advance(Duration::from_secs(1));
    for key in 500..1000 {
        assert_eq!(now(&flights, key, Ok(key)), Ok(key));
    }
    assert!(flights.len() < 600, "{}", flights.len());
}

#[test]
fn a_flight_that_was_forgotten_keeps_nothing() {
    let work = Work::default();
    let flights = Flights::builder().keep_values(Duration::MAX).build();
    let mut call = boarded(&flights, &work);
    flights.forget(&7);
    work.finish(Ok(1));
    assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
#[cfg(feature = "tokio")]
async fn time_is_that_of_the_runtime_it_was_made_in() {
    let flights = Flights::builder().keep_values(Duration::from_secs(5)).build();
    assert_eq!(flights.run(1, || ready(Ok(1))).await, Ok(1));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(flights.run(1, || ready(Ok(2))).await, Ok(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(flights.run(1, || ready(Ok(2))).await, Ok(2));
}

#[test]
fn a_runtime_without_a_time_driver_has_the_system_s_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let flights = Flights::builder().keep_values(Duration::MAX).build();
        assert_eq!(flights.run(1, || ready(Ok(1))).await, Ok(1));
        assert_eq!(flights.run(1, || ready(Ok(2))).await, Ok(1));
    });
}

// Panics.

#[test]
fn the_payload_goes_to_the_driver_and_its_text_to_the_others() {
    #[derive(Debug, PartialEq)]
    struct Payload(u32);
    for (typed, text) in [(true, "(a payload that is no text)"), (false, "no 7")] {
        let flights = Flights::new();
        let work = Work::default();
        let watched = work.clone();
        let make = move || async move {
            Working(watched).await.ok();
            match typed {
                true => std::panic::panic_any(Payload(7)),
                false => panic!("no {}", 7),
            }
        };
        let mut calls: Vec<Call> = vec![Box::pin(flights.run_owned(7, make))];
        calls.extend((0..2).map(|_| Box::pin(flights.run_owned(7, pending::<Outcome>)) as Call));
        assert!(calls.iter_mut().all(|call| poll(call).is_pending()));
        work.finish(Ok(0));
        let payload = catch_unwind(AssertUnwindSafe(|| poll(&mut calls[1]))).unwrap_err();
        match typed {
            true => assert_eq!(payload.downcast_ref(), Some(&Payload(7))),
            false => assert_eq!(Panic::new(payload).message(), "no 7"),
        }
        for other in [0, 2] {
            let panic = panic_of(|| poll(&mut calls[other]));
            assert_eq!(panic.message(), text);
        }
        assert!(flights.is_empty());
        assert_eq!(now(&flights, 7, Ok(1)), Ok(1));
    }
}

#[test]
fn a_panic_of_the_closure_reaches_its_caller_and_who_has_joined() {
    watchdog(Duration::from_secs(60), "a closure that panics", || {
        let flights = Flights::builder().keep_errors(Duration::MAX).build();
        let joined = Arc::new(Mutex::new(None));
        let (inside, slot) = (flights.clone(), Arc::clone(&joined));
        let mut call: Call = Box::pin(flights.run_owned(7, move || -> Pending<Outcome> {
            // Joins while the closure runs.
            let mut call: Call = Box::pin(inside.run_owned(7, || ready(Ok(0))));
            assert!(poll(&mut call).is_pending());
            *slot.lock().unwrap() = Some(call);
            panic!("not made");
        }));
        assert_eq!(panic_of(|| poll(&mut call)).message(), "not made");
        let mut other = joined.lock().unwrap().take().unwrap();
        assert_eq!(panic_of(|| poll(&mut other)).message(), "not made");
        assert!(flights.is_empty());
    });
}

#[test]
fn a_panic_of_the_works_destructor_is_the_works() {
    struct Nasty;
    impl Drop for Nasty {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let flights = Flights::new();
    // It has ended, and is dropped.
    struct Ends(Nasty);
    impl Future for Ends {
        type Output = Outcome;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Outcome> {
            Poll::Ready(Ok(1))
        }
    }
    let mut call: Call = Box::pin(flights.run_owned(7, || Ends(Nasty)));
    assert_eq!(panic_of(|| poll(&mut call)).message(), "dropped");
    // It has not, and everybody leaves.
    let mut call: Call = Box::pin(flights.run_owned(7, || async {
        let _nasty = Nasty;
        pending().await
    }));
    assert!(poll(&mut call).is_pending());
    assert_eq!(panic_of(|| drop(call)).message(), "dropped");
    assert!(flights.is_empty());
}

#[test]
fn a_key_that_panics_poisons_nothing() {
    watchdog(Duration::from_secs(60), "keys that panic", || {
        let switches: &'static Switches = Box::leak(Box::default());
        let (flights, work) = (Flights::<PanickyKey>::new(), Work::default());
        let mut call: Call = Box::pin(flights.run_owned(PanickyKey(switches), work.make()));
        assert!(poll(&mut call).is_pending());
        for (switch, what) in [(&switches.eq, "eq"), (&switches.hash, "hash")] {
            switch.store(true, Ordering::Relaxed);
            let mut other: Call = Box::pin(flights.run_owned(PanickyKey(switches), work.make()));
            assert_eq!(panic_of(|| poll(&mut other)).message(), what);
            assert_eq!(panic_of(|| flights.forget(&PanickyKey(switches))).message(), what);
            switch.store(false, Ordering::Relaxed);
            assert!(poll(&mut other).is_pending(), "it can be polled again");
        }
        switches.drop.store(true, Ordering::Relaxed);
        work.finish(Ok(1));
        assert_eq!(poll(&mut call), Poll::Ready(Ok(1)), "the key goes without a word");
        assert!(flights.is_empty());
        switches.drop.store(false, Ordering::Relaxed);
    });
}

/// A value that panics when it is cloned or dropped, or uses the flights it comes from, when told to.
#[derive(Debug)]
struct Value(&'static Nasty);

/// What a value does.
#[derive(Default)]
struct Nasty {
    clone: AtomicBool,
    drop: AtomicBool,
    /// Runs at the next drop.
    uses: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Nasty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nasty")
    }
}

impl Nasty {
    fn new() -> &'static Self {
        Box::leak(Box::default())
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        fires(&self.0.clone, "clone");
        Self(self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        let uses = self.0.uses.lock().unwrap().take();
        if let Some(uses) = uses {
            uses();
        }
        if !std::thread::panicking() {
            fires(&self.0.drop, "drop");
        }
    }
}

#[test]
fn a_value_whose_clone_or_destructor_panics_hurts_its_caller_only() {
    let nasty = Nasty::new();
    let flights: SingleFlight<u32, Value, ()> = SingleFlight::new();
    let done = Arc::new(AtomicBool::new(false));
    let make = {
        let done = Arc::clone(&done);
        move || async move {
            while !done.load(Ordering::Relaxed) {
                yield_now().await;
            }
            Ok(Value(nasty))
        }
    };
    let mut cx = Context::from_waker(Waker::noop());
    let mut calls: Vec<_> = (0..3).map(|_| Box::pin(flights.run_owned(7, make.clone()))).collect();
    for call in &mut calls {
        assert!(call.as_mut().poll(&mut cx).is_pending());
    }
    let [mut first, mut second, mut third] = calls.try_into().ok().unwrap();
    done.store(true, Ordering::Relaxed);
    nasty.clone.store(true, Ordering::Relaxed);
    assert_eq!(panic_of(|| first.as_mut().poll(&mut cx)).message(), "clone");
    nasty.clone.store(false, Ordering::Relaxed);
    assert!(second.as_mut().poll(&mut cx).is_ready());
    // The last has the result, and leaves without having seen it.
    nasty.drop.store(true, Ordering::Relaxed);
    assert_eq!(panic_of(|| drop(third.as_mut().poll(&mut cx))).message(), "drop");
    assert!(flights.is_empty());
    nasty.drop.store(false, Ordering::Relaxed);
    assert!(block_on(flights.run(7, || ready(Ok(Value(nasty))))).is_ok());
}

/// Flights that keep values for a second, one of which has expired.
fn expired<K: Hash + Eq + Send + 'static>(
    key: K,
    nasty: &'static Nasty,
) -> SingleFlight<K, Value, ()> {
    let (timer, clock) = Timer::manual();
    let flights = SingleFlight::builder().keep_values(Duration::from_secs(1)).timer(timer).build();
    assert!(block_on(flights.run(key, || ready(Ok(Value(nasty))))).is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(flights.len(), 1);
    flights
}

#[test]
fn an_expired_value_whose_destructor_panics_grounds_no_flight() {
    watchdog(Duration::from_secs(60), "an expired value that panics", || {
        let nasty = Nasty::new();
        let flights = expired(7, nasty);
        let open = Arc::new(AtomicBool::new(false));
        let make = {
            let open = Arc::clone(&open);
            move || async move {
                while !open.load(Ordering::Relaxed) {
                    yield_now().await;
                }
                Ok(Value(Nasty::new()))
            }
        };
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = pin!(flights.run(7, make.clone()));
        nasty.drop.store(true, Ordering::Relaxed);
        assert!(first.as_mut().poll(&mut cx).is_pending(), "it is not this caller's panic");
        nasty.drop.store(false, Ordering::Relaxed);
        let mut second = Box::pin(flights.run_owned(7, make));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(second);
        open.store(true, Ordering::Relaxed);
        assert!(first.as_mut().poll(&mut cx).is_ready());
    });
}

#[test]
fn a_key_whose_destructor_panics_grounds_no_flight() {
    watchdog(Duration::from_secs(60), "a key that panics", || {
        let switches: &'static Switches = Box::leak(Box::default());
        let flights = expired(PanickyKey(switches), Nasty::new());
        let mut cx = Context::from_waker(Waker::noop());
        let mut call = pin!(flights.run(PanickyKey(switches), pending::<Result<Value, ()>>));
        // The slot has an equal key, so that of the call goes.
        switches.drop.store(true, Ordering::Relaxed);
        assert!(call.as_mut().poll(&mut cx).is_pending());
        switches.drop.store(false, Ordering::Relaxed);
        flights.forget(&PanickyKey(switches));
        assert!(
            block_on(flights.run(PanickyKey(switches), || ready(Ok(Value(Nasty::new()))))).is_ok()
        );
    });
}

#[test]
fn an_expired_value_may_run_its_key_again_when_it_is_dropped() {
    watchdog(Duration::from_secs(60), "an expired value that calls", || {
        let nasty = Nasty::new();
        let flights = expired(7, nasty);
        let (inside, seen) = (flights.clone(), Arc::new(AtomicBool::new(false)));
        let saw = Arc::clone(&seen);
        *nasty.uses.lock().unwrap() = Some(Box::new(move || {
            let make = || -> Pending<_> { panic!("the flight has landed, and its value is kept") };
            assert!(block_on(inside.run(7, make)).is_ok());
            saw.store(true, Ordering::Relaxed);
        }));
        assert!(block_on(flights.run(7, || ready(Ok(Value(Nasty::new()))))).is_ok());
        assert!(seen.load(Ordering::Relaxed));
    });
}

#[test]
fn a_waker_that_panics_costs_nobody_a_wake_up_or_a_result() {
    let (flights, work) = (Flights::new(), Work::default());
    let (bad, good) = (PanickingWaker::new(), CountingWaker::new());
    let mut first: Call = Box::pin(flights.run_owned(7, work.make()));
    let mut second = boarded(&flights, &work);
    let mut third: Call = Box::pin(flights.run_owned(7, work.make()));
    assert!(poll_with(&mut first, &bad.waker()).is_pending());
    assert!(poll_with(&mut third, &good.waker()).is_pending());
    panic_of(|| work.wake());
    assert_eq!(good.wakes(), 1);
    assert!(poll_with(&mut first, &bad.waker()).is_pending());
    assert!(poll_with(&mut third, &good.waker()).is_pending());
    work.finish_silently(Ok(1));
    panic_of(|| work.wake());
    assert_eq!(poll(&mut second), Poll::Ready(Ok(1)), "the one who lands it has its result");
    assert_eq!(good.wakes(), 2);
    assert_eq!(poll(&mut third), Poll::Ready(Ok(1)));
    assert_eq!(poll(&mut first), Poll::Ready(Ok(1)));
}

#[test]
fn a_caller_whose_own_waker_panics_as_it_boards_keeps_its_seat() {
    let (flights, made) = (Flights::new(), Arc::new(AtomicUsize::new(0)));
    let make = |made: &Arc<AtomicUsize>| {
        let made = Arc::clone(made);
        move || {
            made.fetch_add(1, Ordering::Relaxed);
            async {
                for _ in 0..3 {
                    yield_now().await;
                }
                Ok(1)
            }
        }
    };
    let mut leader: Call = Box::pin(flights.run_owned(7, make(&made)));
    assert!(poll(&mut leader).is_pending());
    let bad = PanickingWaker::new();
    let mut joiner: Call = Box::pin(flights.run_owned(7, make(&made)));
    // It boards and drives; the work wakes itself, and so it is to be polled again.
    panic_of(|| poll_with(&mut joiner, &bad.waker()));
    drop(leader);
    assert!(poll(&mut joiner).is_pending());
    assert_eq!(poll(&mut joiner), Poll::Ready(Ok(1)));
    assert_eq!((made.load(Ordering::Relaxed), flights.len()), (1, 0));
}

/// Panics when it is dropped, also while another panic goes on.
#[derive(Debug, Clone)]
struct Bomb(&'static AtomicBool);

impl PartialEq for Bomb {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Bomb {}

impl Hash for Bomb {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Drop for Bomb {
    fn drop(&mut self) {
        fires(self.0, "bomb");
    }
}

/// Flights that keep values for a second, and have one; both it and its key panic when they are dropped, if told to.
fn mined() -> (SingleFlight<Bomb, Bomb, ()>, selvedge_sync::ManualClock, &'static AtomicBool) {
    let switch: &'static AtomicBool = Box::leak(Box::default());
    let (timer, clock) = Timer::manual();
    let flights = SingleFlight::builder()
        .keep_values(Duration::from_secs(1))
        .keep_at_most(1)
        .timer(timer)
        .build();
    assert!(block_on(flights.run(Bomb(switch), || ready(Ok(Bomb(switch))))).is_ok());
    (flights, clock, switch)
}

#[test]
fn a_key_and_a_result_that_both_panic_as_they_go_end_no_process() {
    let safe: &'static AtomicBool = Box::leak(Box::default());
    // Forgotten.
    let (flights, _clock, switch) = mined();
    let key = std::mem::ManuallyDrop::new(Bomb(switch));
    switch.store(true, Ordering::Relaxed);
    assert_eq!(panic_of(|| flights.forget(&*key)).message(), "bomb");
    assert!(flights.is_empty());
    // Swept because another comes, with its time over or not.
    for over in [false, true] {
        let (flights, clock, switch) = mined();
        clock.advance(Duration::from_millis(if over { 1000 } else { 1 }));
        switch.store(true, Ordering::Relaxed);
        assert!(block_on(flights.run(Bomb(safe), || ready(Ok(Bomb(safe))))).is_ok());
        assert_eq!(flights.len(), 1);
    }
    // With the flights.
    let (flights, _clock, switch) = mined();
    switch.store(true, Ordering::Relaxed);
    assert_eq!(panic_of(|| drop(flights)).message(), "bomb");
}

#[test]
fn a_key_and_a_closure_that_panic_as_they_go_cost_a_caller_no_result() {
    /// Keys that are all equal.
    struct Key(Bomb);
    impl PartialEq for Key {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }
    impl Eq for Key {}
    impl Hash for Key {
        fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
            self.0.hash(hasher);
        }
    }

    let [safe, switch]: [&'static AtomicBool; 2] = [(); 2].map(|()| &*Box::leak(Box::default()));
    let flights = SingleFlight::<Key, u32, ()>::new();
    let mut leader = Box::pin(flights.run(Key(Bomb(safe)), || async {
        yield_now().await;
        Ok(1)
    }));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(leader.as_mut().poll(&mut cx).is_pending());
    let captured = Bomb(switch);
    let mut joiner = Box::pin(flights.run(Key(Bomb(switch)), move || {
        drop(captured);
        ready(Ok(2))
    }));
    switch.store(true, Ordering::Relaxed);
    // It boards, drives to the end, and lets go of what it had to begin with.
    assert_eq!(joiner.as_mut().poll(&mut cx), Poll::Ready(Ok(1)));
    assert_eq!(leader.as_mut().poll(&mut cx), Poll::Ready(Ok(1)));
}

#[test]
fn what_is_kept_and_panics_as_it_goes_does_not_panic_in_a_wake_of_the_work() {
    let (flights, _clock, switch) = mined();
    let safe: &'static AtomicBool = Box::leak(Box::default());
    let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
    let slot = Arc::clone(&waker);
    let make = move || {
        poll_fn(move |cx| {
            *slot.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        })
    };
    let mut call = Box::pin(flights.run_owned(Bomb(safe), make));
    // Whoever is woken lets go of all there is: what wakes is the last to have the flights.
    let all = Arc::new(Mutex::new(None));
    let dropped = Arc::clone(&all);
    let woken = ReentrantWaker::on_wake(move || drop(dropped.lock().unwrap().take()));
    assert!(call.as_mut().poll(&mut Context::from_waker(&woken.waker())).is_pending());
    *all.lock().unwrap() = Some((call, flights));
    switch.store(true, Ordering::Relaxed);
    let waker = waker.lock().unwrap().take().unwrap();
    waker.wake();
    assert_eq!(woken.wakes(), 1);
}

#[test]
fn the_waker_of_another_caller_does_not_end_the_drive() {
    let flights = Flights::new();
    let bad = PanickingWaker::new();
    let joined: Arc<Mutex<Option<Call>>> = Arc::default();
    let make = {
        let (flights, slot, waker) = (flights.clone(), Arc::clone(&joined), bad.waker());
        move || {
            let mut call: Call = Box::pin(flights.run_owned(7, pending::<Outcome>));
            assert!(poll_with(&mut call, &waker).is_pending());
            *slot.lock().unwrap() = Some(call);
            async {
                yield_now().await;
                Ok(1)
            }
        }
    };
    let good = CountingWaker::new();
    let mut leader: Call = Box::pin(flights.run_owned(7, make));
    assert!(poll_with(&mut leader, &good.waker()).is_pending(), "it is not its panic");
    assert_eq!((bad.wakes(), good.wakes()), (1, 1));
    assert_eq!(poll(&mut leader), Poll::Ready(Ok(1)));
}

#[test]
fn a_waker_whose_clone_panics_loses_no_work() {
    use std::task::{RawWaker, RawWakerVTable};
    watchdog(Duration::from_secs(60), "a waker that cannot be cloned", || {
        thread_local! {
            static CLONES: Cell<u32> = const { Cell::new(0) };
        }
        fn clone(_: *const ()) -> RawWaker {
            let left = CLONES.get().checked_sub(1).expect("no clone");
            CLONES.set(left);
            RAW
        }
        fn nothing(_: *const ()) {}
        const RAW: RawWaker = RawWaker::new(std::ptr::null(), &VTABLE);
        static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, nothing, nothing, nothing);
        // SAFETY: it does nothing, and what its clone does is safe.
        let waker = unsafe { Waker::from_raw(RAW) };
        let (flights, work, good) = (Flights::new(), Work::default(), CountingWaker::new());
        let joined: Arc<Mutex<Option<Call>>> = Arc::default();
        let make = {
            let (flights, slot, waker) = (flights.clone(), Arc::clone(&joined), good.waker());
            let make = work.make();
            move || {
                let mut other: Call = Box::pin(flights.run_owned(7, pending::<Outcome>));
                assert!(poll_with(&mut other, &waker).is_pending());
                *slot.lock().unwrap() = Some(other);
                make()
            }
        };
        let mut bad: Call = Box::pin(flights.run_owned(7, make));
        // It has looked for a flight, and driven its own, and cannot enter the line.
        CLONES.set(1);
        panic_of(|| poll_with(&mut bad, &waker));
        assert_eq!((work.seen().1, flights.len()), (1, 1));
        assert_eq!(good.wakes(), 1, "who waits is to drive");
        let mut other = joined.lock().unwrap().take().unwrap();
        assert!(poll_with(&mut other, &good.waker()).is_pending(), "it drives");
        assert_eq!(work.seen().1, 2);
        work.wake();
        CLONES.set(1);
        panic_of(|| poll_with(&mut bad, &waker));
        assert_eq!(work.seen().1, 3);
        assert!(poll_with(&mut other, &good.waker()).is_pending());
        assert_eq!(work.seen().1, 4, "the work is there, and woken");
        work.finish(Ok(1));
        assert_eq!(poll(&mut other), Poll::Ready(Ok(1)));
        drop(bad);
    });
}

// Re-entry, and bad input.

#[test]
fn work_may_use_the_flights_it_is_in() {
    watchdog(Duration::from_secs(60), "work that uses its flights", || {
        let flights = Flights::new();
        let inside = flights.clone();
        let value = block_on(flights.run(7, || async move {
            assert_eq!(inside.len(), 1);
            let one = inside.run(8, || ready(Ok(1))).await?;
            inside.forget(&7);
            let two = inside.run(7, || ready(Ok(2))).await?;
            Ok(one + two)
        }));
        assert_eq!((value, flights.len()), (Ok(3), 0));
    });
}

#[test]
fn a_waker_may_use_the_flights() {
    watchdog(Duration::from_secs(60), "a waker that uses the flights", || {
        let (flights, work) = (Flights::new(), Work::default());
        let uses = |flights: &Flights| {
            let inside = flights.clone();
            move || {
                inside.forget(&9);
                assert_eq!(now(&inside, 8, Ok(2)), Ok(2));
                assert!(inside.len() <= 1);
            }
        };
        let waker = ReentrantWaker::on_wake_and_drop(uses(&flights), uses(&flights));
        let mut call: Call = Box::pin(flights.run_owned(7, work.make()));
        let mut leaves: Call = Box::pin(flights.run_owned(7, work.make()));
        for call in [&mut call, &mut leaves] {
            assert!(poll_with(call, &waker.waker()).is_pending());
        }
        drop(leaves);
        work.finish(Ok(1));
        assert_eq!(waker.wakes(), 1);
        assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
    });
}

#[test]
fn work_that_joins_itself_waits_until_its_callers_leave() {
    watchdog(Duration::from_secs(60), "work that joins itself", || {
        let flights = Flights::new();
        let inside = flights.clone();
        let alive = Arc::new(());
        let kept = Arc::clone(&alive);
        let make = move || async move {
            let _kept = kept;
            inside.run(7, || ready(Ok(0))).await
        };
        let mut call: Call = Box::pin(flights.run_owned(7, make));
        let mut other: Call = Box::pin(flights.run_owned(7, pending::<Outcome>));
        for _ in 0..3 {
            assert!(poll(&mut call).is_pending());
            assert!(poll(&mut other).is_pending());
        }
        drop(call);
        assert_eq!((Arc::strong_count(&alive), flights.len()), (2, 1));
        drop(other);
        assert_eq!((Arc::strong_count(&alive), flights.len()), (1, 0));
    });
}

#[test]
fn a_call_of_its_own_key_that_leaves_the_work_waits_for_ever_and_holds_nothing() {
    watchdog(Duration::from_secs(60), "a call that leaves its work", || {
        let flights = Flights::new();
        let taken: Arc<Mutex<Option<Call>>> = Arc::default();
        let (inside, slot) = (flights.clone(), Arc::clone(&taken));
        let alive = Arc::new(());
        let kept = Arc::clone(&alive);
        let make = move || async move {
            let _kept = kept;
            let mut own: Call = Box::pin(inside.run_owned(7, || ready(Ok(0))));
            let polled = poll_fn(|cx| Poll::Ready(own.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            *slot.lock().unwrap() = Some(own);
            yield_now().await;
            pending().await
        };
        let mut call: Call = Box::pin(flights.run_owned(7, make));
        assert!(poll(&mut call).is_pending());
        let mut own = taken.lock().unwrap().take().unwrap();
        // It may drive.
        assert!(poll(&mut own).is_pending());
        drop(call);
        assert_eq!((Arc::strong_count(&alive), flights.len()), (1, 0));
        assert!(poll(&mut own).is_pending());
    });
}

#[test]
#[should_panic(expected = "a call is not polled after it was ready")]
fn a_call_that_was_ready_is_not_polled_again() {
    let flights = Flights::new();
    let mut call: Call = Box::pin(flights.run_owned(7, || ready(Ok(1))));
    assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
    let _ = poll(&mut call);
}

#[test]
#[cfg(feature = "tokio")]
fn a_loop_over_calls_that_are_ready_yields() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let flights = Flights::builder().keep_values(Duration::MAX).build();
        let turns = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                seen.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        tokio::spawn(async move {
            for _ in 0..1000 {
                assert_eq!(flights.run(1, || ready(Ok(1))).await, Ok(1));
            }
        })
        .await
        .unwrap();
        other.abort();
        assert!(turns.load(Ordering::Relaxed) > 3);
    });
}

#[test]
#[cfg(feature = "tokio")]
fn what_the_work_spends_of_the_budget_is_spent() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let flights = Flights::new();
        let spent = Arc::new(AtomicUsize::new(0));
        let mut calls: Vec<Call> = (0..1000)
            .map(|key| {
                let spent = Arc::clone(&spent);
                let work = move || async move {
                    for _ in 0..10 {
                        tokio::task::consume_budget().await;
                        spent.fetch_add(1, Ordering::Relaxed);
                    }
                    pending().await
                };
                Box::pin(flights.run_owned(key, work)) as Call
            })
            .collect();
        let mut first = None;
        let seen = Arc::clone(&spent);
        // One task polls all of them, time and again.
        let all = poll_fn(move |cx| {
            for call in &mut calls {
                assert!(call.as_mut().poll(cx).is_pending());
            }
            first.get_or_insert(seen.load(Ordering::Relaxed));
            if seen.load(Ordering::Relaxed) < 10_000 { Poll::Pending } else { Poll::Ready(first) }
        });
        let first = tokio::spawn(all).await.unwrap().unwrap();
        assert!(first < 1_000, "{first} units in one turn");
    });
}

#[test]
fn it_names_itself_and_its_place() {
    let line = line!() + 1;
    let flights = Flights::builder().name("users").build();
    assert_eq!((flights.name(), flights.place().line()), (Some("users"), line));
    let shown = format!("{flights:?}");
    assert!(shown.contains("users") && shown.contains("len: 0"), "{shown}");
    let line = line!() + 1;
    let call = flights.run(7, || ready(Ok(1)));
    assert!(format!("{call:?}").contains(&format!("single_flight.rs:{line}")));
}
