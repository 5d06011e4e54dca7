//! Facts about the fan-out: smoke, routes, capacity, end, cancel, drop, panic, bad input, and a
//! comparison with a sequential model.

mod support;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_cancel::{CauseKind, Context, Timer};
use selvedge_fanio::{
    FanOut, FanOutError, FanOutReport, Iter, MAX_CAPACITY, Outlet, Route, fan_out, iter,
};
use selvedge_testkit::{CountingWaker, PanickingWaker, block_on, watchdog};
use support::{Nasty, Pipe, of, pipe};

const PATIENCE: Duration = Duration::from_secs(60);

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

/// What is there for an outlet now: items, and whether it has ended behind them.
fn drain<T: 'static>(outlet: &mut Outlet<T>) -> (Vec<T>, bool) {
    let mut items = Vec::new();
    loop {
        match poll(pin!(outlet.next())) {
            Poll::Ready(Some(item)) => items.push(item),
            Poll::Ready(None) => return (items, true),
            Poll::Pending => return (items, false),
        }
    }
}

type Made<S> = (Pin<Box<FanOut<S>>>, Vec<Outlet<u64>>);

fn made(consumers: usize, capacity: usize, route: Route<u64>) -> Made<Iter<std::ops::Range<u64>>> {
    let ctx = Context::background();
    let (feed, outlets) = fan_out(iter(0..20), consumers, capacity, route, &ctx).unwrap();
    (Box::pin(feed), outlets)
}

fn ended<F: Future<Output = FanOutReport<u64>>>(feed: Pin<&mut F>) -> FanOutReport<u64> {
    match poll(feed) {
        Poll::Ready(report) => report,
        Poll::Pending => panic!("the feed has not ended"),
    }
}

#[test]
fn a_shared_queue_gives_an_item_to_whoever_asks() {
    let (mut feed, mut outlets) = made(3, 2, Route::shared());
    assert!(poll(feed.as_mut()).is_pending());
    assert_eq!(drain(&mut outlets[2]), (vec![0, 1], false));
    assert!(poll(feed.as_mut()).is_pending());
    assert_eq!(block_on(outlets[0].next()), Some(2));
    assert_eq!(block_on(outlets[1].next()), Some(3));
    for from in (4..20).step_by(2) {
        assert!(poll(feed.as_mut()).is_pending());
        assert_eq!(drain(&mut outlets[0]).0, [from, from + 1]);
    }
    let report = ended(feed.as_mut());
    assert!(report.complete && report.left.is_empty() && report.cause.is_none());
    assert_eq!(report.read, 20);
    for outlet in &mut outlets {
        assert_eq!(drain(outlet), (vec![], true));
        assert_eq!(drain(outlet), (vec![], true), "and then always");
    }
}

#[test]
fn outlets_that_wait_on_a_shared_queue_are_served_in_order() {
    let (source, hand) = pipe();
    let ctx = Context::background();
    let (feed, mut outlets) = fan_out(source, 2, 4, Route::shared(), &ctx).unwrap();
    let mut feed = Box::pin(feed);
    let (first, second) = outlets.split_at_mut(1);
    let (mut first, mut second) = (Box::pin(first[0].next()), Box::pin(second[0].next()));
    assert!(poll(second.as_mut()).is_pending() && poll(first.as_mut()).is_pending());
    hand.push(1);
    assert!(poll(feed.as_mut()).is_pending());
    assert!(poll(first.as_mut()).is_pending(), "the second outlet came first");
    assert_eq!(poll(second.as_mut()), Poll::Ready(Some(1)));
    hand.push(2);
    assert!(poll(feed.as_mut()).is_pending());
    assert_eq!(poll(first.as_mut()), Poll::Ready(Some(2)));
}

#[test]
fn round_robin_gives_to_each_in_turn() {
    let (mut feed, mut outlets) = made(3, 4, Route::round_robin());
    assert!(poll(feed.as_mut()).is_pending());
    assert_eq!(drain(&mut outlets[0]).0, [0, 3, 6, 9]);
    // The second one is full, and holds up the others.
    assert!(poll(feed.as_mut()).is_pending());
    assert_eq!(drain(&mut outlets[0]).0, [12]);
    assert_eq!(drain(&mut outlets[2]).0, [2, 5, 8, 11]);
    assert_eq!(drain(&mut outlets[1]).0, [1, 4, 7, 10]);
}

#[test]
fn the_same_key_goes_to_the_same_outlet_in_order() {
    let ctx = Context::background();
    let route = Route::by_key(|item: &u64| item % 7);
    let (feed, outlets) = fan_out(iter(0..700), 3, 2, route, &ctx).unwrap();
    let threads: Vec<_> = outlets
        .into_iter()
        .map(|mut outlet| {
            std::thread::spawn(move || {
                std::iter::from_fn(|| block_on(outlet.next())).collect::<Vec<_>>()
            })
        })
        .collect();
    let report = watchdog(PATIENCE, "keyed fan-out", move || block_on(feed));
    assert!(report.complete);
    let mut place = HashMap::new();
    let mut all = 0;
    for (outlet, thread) in threads.into_iter().enumerate() {
        let items = thread.join().unwrap();
        all += items.len();
        let mut last = HashMap::new();
        for item in items {
            assert_eq!(*place.entry(item % 7).or_insert(outlet), outlet);
            assert!(last.insert(item % 7, item) < Some(item), "out of order");
        }
    }
    assert_eq!(all, 700);
}

#[test]
fn an_index_names_the_outlet() {
    let (mut feed, mut outlets) = made(3, 4, Route::by_index(|item| (item % 3) as usize));
    assert!(poll(feed.as_mut()).is_pending());
    assert_eq!(drain(&mut outlets[0]).0, [0, 3, 6, 9]);
    assert!(poll(feed.as_mut()).is_pending());
    assert_eq!(drain(&mut outlets[1]).0, [1, 4, 7, 10]);
}

#[test]
fn an_item_for_an_outlet_that_is_gone_or_never_was_ends_the_reading_and_is_left() {
    for gone in [false, true] {
        let last = if gone { 1 } else { 2 };
        let index = move |item: &u64| if item % 5 == 4 { last } else { 0 };
        let (mut feed, mut outlets) = made(2, 4, Route::by_index(index));
        if gone {
            drop(outlets.pop());
        }
        assert!(poll(feed.as_mut()).is_pending());
        assert_eq!(drain(&mut outlets[0]), (vec![0, 1, 2, 3], true));
        let report = ended(feed.as_mut());
        assert_eq!((report.read, report.complete, report.left), (5, false, vec![4]));
    }
}

#[test]
fn what_a_dropped_outlet_leaves_goes_to_no_other_where_an_index_names_it() {
    let (mut feed, mut outlets) = made(2, 3, Route::by_index(|item| (item % 2) as usize));
    assert!(poll(feed.as_mut()).is_pending());
    drop(outlets.remove(1));
    // What waits for room in the other one is handed over.
    assert!(poll(feed.as_mut()).is_pending());
    assert_eq!(drain(&mut outlets[0]), (vec![0, 2, 4], false));
    assert!(poll(feed.as_mut()).is_pending());
    assert_eq!(drain(&mut outlets[0]), (vec![6], true));
    let report = ended(feed.as_mut());
    assert_eq!((report.read, report.complete, report.left), (7, false, vec![1, 3, 5]));
}

#[test]
fn where_the_route_is_strict_nobody_gets_what_was_for_another() {
    for route in [Route::round_robin(), Route::by_key(|item: &u64| item % 5)] {
        let (mut feed, mut outlets) = made(3, 20, route.strict());
        assert!(poll(feed.as_mut()).is_pending());
        drop(outlets.remove(1));
        let mut all = Vec::new();
        let report = loop {
            if let Poll::Ready(report) = poll(feed.as_mut()) {
                break report;
            }
            all.extend(outlets.iter_mut().flat_map(|outlet| drain(outlet).0));
        };
        assert!(report.complete && !report.left.is_empty(), "{:?}", report.left);
        assert!(report.left.is_sorted(), "in the order in which they came");
        all.extend(report.left);
        all.sort_unstable();
        assert!(all.into_iter().eq(0..20));
    }
}

#[test]
fn exactly_the_capacity_lies_in_a_queue() {
    for capacity in [1, 3] {
        let (mut feed, mut outlets) = made(1, capacity, Route::shared());
        assert!(poll(feed.as_mut()).is_pending());
        assert_eq!(drain(&mut outlets[0]).0.len(), capacity);
    }
}

#[test]
fn bad_numbers_are_refused() {
    let ctx = Context::background();
    for consumers in [0, 65_536, usize::MAX] {
        let error = fan_out(iter(0..3), consumers, 1, Route::shared(), &ctx).unwrap_err();
        assert_eq!(error, FanOutError::Consumers(consumers));
        assert!(error.to_string().ends_with("consumers, it must be 1 to 65535"));
    }
    for capacity in [0, MAX_CAPACITY + 1, usize::MAX] {
        let error = fan_out(iter(0..3), 1, capacity, Route::shared(), &ctx).unwrap_err();
        assert_eq!(error, FanOutError::Capacity(capacity));
    }
    // The largest take no memory for items in advance.
    let (feed, outlets) =
        fan_out(iter([[0_u8; 4096]]), 65_535, MAX_CAPACITY, Route::round_robin(), &ctx).unwrap();
    assert_eq!(outlets.len(), 65_535);
    drop((feed, outlets));
}

#[test]
fn the_feed_ends_when_everything_was_taken() {
    let ctx = Context::background();
    let (feed, mut outlets) = fan_out(of([1, 2]), 2, 4, Route::round_robin(), &ctx).unwrap();
    let mut feed = Box::pin(feed);
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut cx = TaskContext::from_waker(&waker);
    assert!(feed.as_mut().poll(&mut cx).is_pending());
    assert_eq!(drain(&mut outlets[0]), (vec![1], true), "the source has ended");
    assert!(feed.as_mut().poll(&mut cx).is_pending());
    assert_eq!(drain(&mut outlets[1]), (vec![2], true));
    assert_eq!(counting.wakes(), 2);
    let Poll::Ready(report) = feed.as_mut().poll(&mut cx) else { panic!("all was taken") };
    assert!(report.complete);
    drop((feed, outlets));
    assert_eq!(counting.live(), 1, "it leaves no waker behind");
}

#[test]
fn what_a_dropped_outlet_leaves_goes_to_the_others_first() {
    let ctx = Context::background();
    for keyed in [false, true] {
        let route = match keyed {
            false => Route::round_robin(),
            true => Route::by_key(|item: &u64| item % 5),
        };
        let (feed, mut outlets) = fan_out(iter(0..100), 4, 3, route, &ctx).unwrap();
        let mut feed = Box::pin(feed);
        let mut seen = Vec::new();
        while outlets.len() > 1 {
            assert!(poll(feed.as_mut()).is_pending());
            drop(outlets.remove(0));
            for outlet in &mut outlets {
                seen.extend(drain(outlet).0);
            }
        }
        let report = loop {
            match poll(feed.as_mut()) {
                Poll::Ready(report) => break report,
                Poll::Pending => seen.extend(drain(&mut outlets[0]).0),
            }
        };
        assert!(report.complete && report.left.is_empty());
        assert_eq!(seen.len(), 100, "keyed: {keyed}");
        if keyed {
            for key in 0..5 {
                let of_key: Vec<_> = seen.iter().filter(|item| **item % 5 == key).collect();
                assert!(of_key.is_sorted(), "key {key}: {of_key:?}");
            }
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..100));
    }
}

#[test]
fn with_all_outlets_gone_the_feed_ends_and_gives_back_what_is_left() {
    let by_index = Route::by_index(|item| *item as usize % 3);
    for route in [Route::shared(), Route::round_robin(), Route::by_key(|item| *item), by_index] {
        let (mut feed, outlets) = made(3, 2, route);
        let counting = CountingWaker::new();
        let waker = counting.waker();
        assert!(feed.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        drop(outlets);
        assert!(counting.wakes() > 0);
        let report = ended(feed.as_mut());
        assert!(!report.complete && report.cause.is_none());
        let mut left = report.left;
        left.sort_unstable();
        assert!(left.into_iter().eq(0..report.read));
    }
}

#[test]
fn what_is_left_after_the_end_of_the_source_is_reported() {
    let ctx = Context::background();
    let (feed, mut outlets) = fan_out(of([1, 2]), 2, 4, Route::round_robin(), &ctx).unwrap();
    let mut feed = Box::pin(feed);
    assert!(poll(feed.as_mut()).is_pending());
    drop(outlets.remove(0));
    assert_eq!(drain(&mut outlets[0]), (vec![2], true));
    let report = ended(feed.as_mut());
    assert_eq!((report.complete, report.left), (true, vec![1]));
}

#[test]
fn a_stop_reads_no_more_and_hands_over_what_was_read() {
    let (ctx, canceller) = Context::background().child();
    let (source, hand) = pipe();
    let (feed, mut outlets) = fan_out(source, 1, 1, Route::shared(), &ctx).unwrap();
    let mut feed = Box::pin(feed);
    (0..10).for_each(|item| hand.push(item));
    assert!(poll(feed.as_mut()).is_pending());
    canceller.stop(Duration::MAX);
    assert!(poll(feed.as_mut()).is_pending());
    // One lies in the queue, one waits for room.
    assert_eq!(block_on(outlets[0].next()), Some(0));
    assert!(poll(feed.as_mut()).is_pending());
    assert!(hand.is_alone(), "the source was dropped");
    assert_eq!(drain(&mut outlets[0]), (vec![1], true));
    let report = ended(feed.as_mut());
    assert_eq!((report.read, report.complete, report.left.len()), (2, false, 0));
    assert_eq!(report.cause.unwrap().kind(), CauseKind::Stopped);
}

#[test]
fn a_cancel_ends_the_feed_at_once() {
    let (ctx, canceller) = Context::background().child();
    let (feed, mut outlets) = fan_out(iter(0..10), 1, 2, Route::shared(), &ctx).unwrap();
    let mut feed = Box::pin(feed);
    assert!(poll(feed.as_mut()).is_pending());
    canceller.cancel();
    let report = ended(feed.as_mut());
    assert_eq!((report.read, report.complete, report.left), (3, false, vec![2]));
    assert_eq!(report.cause.unwrap().kind(), CauseKind::Cancelled);
    assert_eq!(drain(&mut outlets[0]), (vec![0, 1], true), "what lay in its queue");
}

#[test]
fn a_deadline_in_the_past_reads_nothing() {
    let (timer, clock) = Timer::manual();
    let at = timer.now();
    clock.advance(Duration::from_secs(1));
    let root = Context::background();
    let (ctx, _canceller) = root.child_with().timer(timer).deadline(at).build().unwrap();
    let (feed, mut outlets) = fan_out(iter(0..3_u64), 1, 2, Route::shared(), &ctx).unwrap();
    let report = ended(pin!(feed));
    assert_eq!((report.read, report.complete), (0, false));
    assert_eq!(report.cause.unwrap().kind(), CauseKind::Deadline);
    assert_eq!(drain(&mut outlets[0]), (vec![], true));
}

#[test]
fn a_stop_wakes_a_feed_whose_source_has_nothing() {
    let (ctx, canceller) = Context::background().child();
    let (source, _hand) = pipe();
    let (feed, _outlets) = fan_out(source, 1, 2, Route::shared(), &ctx).unwrap();
    let (mut feed, task) = (Box::pin(feed), CountingWaker::new());
    assert!(feed.as_mut().poll(&mut TaskContext::from_waker(&task.waker())).is_pending());
    canceller.stop(Duration::MAX);
    assert_eq!(task.wakes(), 1);
    let report = ended(feed.as_mut());
    assert_eq!((report.read, report.complete), (0, false));
}

#[test]
fn a_source_that_panics_ends_the_outlets_behind_what_it_gave() {
    for is_kept in [false, true] {
        let source = iter((0..20_u64).inspect(|n| assert!(*n != 2, "the source panics")));
        let (feed, mut outlets) =
            fan_out(source, 2, 3, Route::shared(), &Context::background()).unwrap();
        let mut feed = Some(Box::pin(feed));
        let polled = catch_unwind(AssertUnwindSafe(|| poll(feed.as_mut().unwrap().as_mut())));
        let panic = polled.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the source panics"));
        feed.take_if(|_| !is_kept);
        assert_eq!(drain(&mut outlets[0]), (vec![0, 1], true));
        assert_eq!(drain(&mut outlets[1]), (vec![], true));
        if let Some(mut feed) = feed {
            let report = ended(feed.as_mut());
            assert_eq!((report.read, report.complete), (2, false), "it is not polled again");
        }
    }
}

#[test]
fn whatever_panics_in_a_feed_panics_alone() {
    // The route, then the item in its hand, and the source; when it is dropped, what the route holds.
    let (in_source, in_route) = (Some(Nasty), Some(Nasty));
    let mut routed = 0;
    let route = Route::by_index(move |_: &Nasty| {
        let _captured = &in_route;
        routed += 1;
        assert!(routed < 3, "no way for the third");
        0
    });
    let source = std::iter::repeat_with(move || {
        let _captured = &in_source;
        Nasty
    });
    let (feed, mut outlets) = fan_out(iter(source), 1, 4, route, &Context::background()).unwrap();
    let mut feed = Box::pin(feed);
    let polled = catch_unwind(AssertUnwindSafe(|| poll(feed.as_mut()).is_ready()));
    assert_eq!(polled.unwrap_err().downcast_ref::<&str>(), Some(&"no way for the third"));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(feed))).is_err());
    let (items, has_ended) = drain(&mut outlets[0]);
    assert_eq!((items.len(), has_ended), (2, true));
    items.into_iter().for_each(std::mem::forget);

    // Dropped before it was polled: the source, and what the route holds.
    let (in_source, in_route) = (Some(Nasty), Some(Nasty));
    let route = Route::by_index(move |_: &u64| usize::from(in_route.is_none()));
    let source = iter((0..3).inspect(move |_| _ = &in_source));
    let (feed, _outlets) = fan_out(source, 1, 4, route, &Context::background()).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(feed))).is_err());
}

#[test]
fn a_feed_whose_route_has_panicked_asks_it_no_more() {
    let asked = Arc::new(AtomicU64::new(0));
    let route = || {
        let count = Arc::clone(&asked);
        Route::by_key(move |_: &u64| {
            // Relaxed: one thread.
            assert!(count.fetch_add(1, Relaxed) != 6, "asked for the seventh time");
            "the same for all"
        })
    };
    let (mut feed, mut outlets) = made(2, 2, route());
    assert!(poll(feed.as_mut()).is_pending());
    let lane = usize::from(drain(&mut outlets[0]).0.is_empty());

    // Two lie in the queue and one waits; all of them have to go to the other one.
    let (mut feed, mut outlets) = made(2, 2, route());
    assert!(poll(feed.as_mut()).is_pending());
    drop(outlets.remove(lane));
    let polled = catch_unwind(AssertUnwindSafe(|| poll(feed.as_mut()).is_ready()));
    assert_eq!(polled.unwrap_err().downcast_ref::<&str>(), Some(&"asked for the seventh time"));
    assert_eq!(drain(&mut outlets[0]), (vec![], true));
    let report = ended(feed.as_mut());
    assert_eq!((report.read, report.complete, report.left), (3, false, vec![1, 2]));
    // Relaxed: as above.
    assert_eq!(asked.load(Relaxed), 7);
}

#[test]
fn a_feed_that_has_completed_says_so_again() {
    let (mut feed, outlets) = made(2, 2, Route::shared());
    assert!(poll(feed.as_mut()).is_pending());
    drop(outlets);
    assert_eq!(ended(feed.as_mut()).left, [0, 1, 2]);
    let again = ended(feed.as_mut());
    assert_eq!((again.read, again.left), (3, vec![]));
}

#[test]
fn a_feed_that_is_dropped_or_panics_ends_the_outlets() {
    let (mut feed, mut outlets) = made(2, 2, Route::shared());
    assert!(poll(feed.as_mut()).is_pending());
    drop(feed);
    assert_eq!(drain(&mut outlets[0]), (vec![0, 1], true));
    assert_eq!(drain(&mut outlets[1]), (vec![], true));

    let route = Route::by_key(|item: &u64| {
        assert!(*item != 1, "the key panics");
        *item
    });
    let (feed, mut outlets) = made(1, 2, route);
    let panic = catch_unwind(AssertUnwindSafe(|| block_on(feed))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the key panics"));
    assert_eq!(drain(&mut outlets[0]), (vec![0], true));
}

#[test]
fn a_feed_that_panicked_and_is_kept_has_ended_the_outlets() {
    let route = Route::by_key(|item: &u64| {
        assert!(*item != 1, "the key panics");
        *item
    });
    let (mut feed, mut outlets) = made(1, 2, route);
    assert!(catch_unwind(AssertUnwindSafe(|| poll(feed.as_mut()))).is_err());
    assert_eq!(drain(&mut outlets[0]), (vec![0], true));
    let report = ended(feed.as_mut());
    assert_eq!((report.read, report.complete), (2, false));
}

#[test]
fn wakers_that_panic_harm_nobody() {
    let panicking = PanickingWaker::new();
    let waker = panicking.waker();
    let (mut feed, mut outlets) = made(1, 2, Route::shared());
    let mut next = Box::pin(outlets[0].next());
    let mut cx = TaskContext::from_waker(&waker);
    assert!(next.as_mut().poll(&mut cx).is_pending());
    assert!(feed.as_mut().poll(&mut cx).is_pending());
    assert_eq!(panicking.wakes(), 1);
    assert_eq!(poll(next.as_mut()), Poll::Ready(Some(0)));
    assert_eq!(panicking.wakes(), 2);
    drop(next);
    assert_eq!(drain(&mut outlets[0]).0, [1]);
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn loops_over_a_ready_feed_and_a_ready_outlet_yield() {
    let ctx = Context::background();
    let (feed, mut outlets) =
        fan_out(iter(0_u64..), 1, MAX_CAPACITY, Route::shared(), &ctx).unwrap();
    let mut feed = Box::pin(feed);
    let turns = std::cell::Cell::new(0);
    let feeding = std::future::poll_fn(|cx| match feed.as_mut().poll(cx) {
        // It yields, rather than to fill a queue of two thousand millions.
        Poll::Pending if turns.replace(turns.get() + 1) > 3 => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
        Poll::Ready(_) => panic!("the source has no end"),
    });
    feeding.await;
    let other_ran = std::cell::Cell::new(false);
    let busy = async {
        let mut taken = 0;
        while !other_ran.get() {
            outlets[0].next().await.unwrap();
            taken += 1;
        }
        taken
    };
    let (taken, ()) = tokio::join!(biased; busy, async { other_ran.set(true) });
    assert!(taken < 10_000);
}

#[cfg(feature = "tokio")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_item_is_taken_once_by_tasks_that_come_and_go() {
    for keyed in [false, true] {
        let route = if keyed { Route::by_key(|item: &u64| item % 17) } else { Route::shared() };
        let (feed, outlets) =
            fan_out(iter(0..20_000), 6, 4, route, &Context::background()).unwrap();
        let feed = tokio::spawn(feed);
        let tasks: Vec<_> = outlets
            .into_iter()
            .enumerate()
            .map(|(number, mut outlet)| {
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    while let Some(item) = outlet.next().await {
                        seen.push(item);
                        // All but one leave early.
                        if number > 0 && seen.len() > number * 50 {
                            break;
                        }
                    }
                    seen
                })
            })
            .collect();
        let mut all = feed.await.unwrap().left;
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..20_000));
    }
}

/// What the model does next; outlets are counted from any number.
#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Feed,
    Next(usize),
    Wait(usize),
    GiveUp,
    Leave(usize),
    End,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (1..12_u64).prop_map(Step::Push),
        20 => Just(Step::Feed),
        30 => any::<usize>().prop_map(Step::Next),
        10 => any::<usize>().prop_map(Step::Wait),
        5 => Just(Step::GiveUp),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => Just(Step::End),
    ]
}

/// Runs the steps, and compares with what a sequential program would say: each item that was read came
/// out once or is left; in turn, if nobody left; in the order of each key, whoever left.
fn compare(consumers: usize, capacity: usize, way: u8, steps: &[Step]) {
    let route = match way {
        0 => Route::shared(),
        1 => Route::round_robin(),
        2 => Route::by_key(|item: &u64| item % 5),
        3 => Route::round_robin().strict(),
        _ => Route::by_index(move |item: &u64| *item as usize % consumers),
    };
    let (source, hand): (Pipe, _) = pipe();
    let ctx = Context::background();
    let (feed, outlets) = fan_out(source, consumers, capacity, route, &ctx).unwrap();
    let mut feed = Box::pin(feed);
    let mut outlets: Vec<_> = outlets.into_iter().map(Some).collect();
    let (mut pushed, mut out) = (0, Vec::new());
    let mut report = None;
    let mut waiting: Option<usize> = None;
    let mut over = false;
    for step in steps {
        match *step {
            Step::Push(_) if over => {}
            Step::Push(items) => {
                for _ in 0..items {
                    hand.push(pushed);
                    pushed += 1;
                }
            }
            Step::Feed if report.is_none() => match poll(feed.as_mut()) {
                Poll::Ready(ended) => report = Some(ended),
                Poll::Pending => {}
            },
            Step::Next(at) => {
                let Some(outlet) = &mut outlets[at % consumers] else { continue };
                if let Poll::Ready(Some(item)) = poll(pin!(outlet.next())) {
                    out.push((at % consumers, item));
                }
            }
            // As a stream an outlet waits between two polls, until it is polled or gives up.
            Step::Wait(at) => {
                let Some(outlet) = &mut outlets[at % consumers] else { continue };
                let mut cx = TaskContext::from_waker(Waker::noop());
                let polled = futures_core::Stream::poll_next(Pin::new(outlet), &mut cx);
                match polled {
                    Poll::Ready(Some(item)) => out.push((at % consumers, item)),
                    Poll::Ready(None) => {}
                    Poll::Pending => waiting = Some(at % consumers),
                }
            }
            Step::GiveUp => {
                if let Some(outlet) = waiting.take().and_then(|at| outlets[at].as_mut()) {
                    drop(outlet.next());
                }
            }
            Step::Leave(at) => outlets[at % consumers] = None,
            Step::End => {
                over = true;
                hand.close();
            }
            Step::Feed => {}
        }
    }
    hand.close();
    // Whoever is left takes the rest; those that only wait give up.
    let report = loop {
        for (at, outlet) in outlets.iter_mut().enumerate() {
            if let Some(outlet) = outlet {
                out.extend(drain(outlet).0.into_iter().map(|item| (at, item)));
            }
        }
        if let Some(report) = report.take() {
            break report;
        }
        if let Poll::Ready(ended) = poll(feed.as_mut()) {
            report = Some(ended);
        }
    };
    let gone = outlets.iter().any(Option::is_none);
    assert!(gone || (report.complete && report.left.is_empty()));
    if way == 2 {
        for key in 0..5 {
            let of_key: Vec<_> = out.iter().filter(|(_, item)| item % 5 == key).collect();
            assert!(of_key.is_sorted_by_key(|(_, item)| item), "key {key}: {of_key:?}");
        }
    }
    if way >= 3 || (way == 1 && !gone) {
        assert!(out.iter().all(|(at, item)| *item as usize % consumers == *at));
    }
    let mut all: Vec<_> = out.into_iter().map(|(_, item)| item).chain(report.left).collect();
    all.sort_unstable();
    let read = report.read;
    assert!(all.into_iter().eq(0..read), "each item that was read came out once");
    assert!(!report.complete || read == pushed || gone);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// 500 cases of at least 200 steps, most of which are several operations: more than 100,000.
    #[test]
    fn each_item_that_was_read_is_taken_once_or_left(
        consumers in 1..5_usize,
        capacity in 1..5_usize,
        way in 0..5_u8,
        steps in prop::collection::vec(steps(), 200..400),
    ) {
        compare(consumers, capacity, way, &steps);
    }
}

#[test]
fn debug_says_what_it_is() {
    let (feed, mut outlets) = made(2, 2, Route::round_robin());
    assert!(format!("{feed:?}").contains("Route::round_robin"));
    let strict = format!("{:?}", Route::by_index(|item: &u64| *item as usize));
    assert_eq!(strict, "Route::by_index (strict)");
    assert_eq!(format!("{:?}", outlets[1]), "Outlet { lane: 1, .. }");
    assert!(format!("{:?}", outlets[0].next()).contains("Outlet"));
}
