//! Every public future is dropped at each of its await points, and nothing is lost.

mod support;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use selvedge_cancel::Context;
use selvedge_fanio::{
    Closed, Emitted, Entry, Exit, Order, Outlet, Route, Slot, TryNextError, fan_out, iter, merge,
    window,
};
use selvedge_testkit::{Run, block_on, for_each, next, sweep};
use support::{Hand, pipes};

/// A full window, with the slot that fills it.
fn full(order: Order) -> (Entry<u64>, Exit<u64>, Slot<u64>) {
    let (entry, exit) = window(1, order).unwrap();
    let slot = entry.try_reserve().unwrap();
    (entry, exit, slot)
}

/// Whatever became of the reservation: there is room for one and no gap, the next reservation gets
/// it, and the counts add up.
fn room_is_there(entry: &Entry<u64>, mut exit: Exit<u64>, reserved: Option<Slot<u64>>) {
    let mut expected = exit.counts().emitted;
    while let Ok(emitted) = exit.try_next() {
        assert_eq!(emitted, Emitted::Item { sequence: expected, value: expected });
        expected += 1;
    }
    let slot = reserved.unwrap_or_else(|| entry.try_reserve().expect("no room was lost"));
    assert_eq!(slot.sequence(), expected, "no sequence number was spent");
    assert!(entry.try_reserve().is_err(), "no room was made up");
    slot.complete(expected);
    assert_eq!(exit.try_next(), Ok(Emitted::Item { sequence: expected, value: expected }));
    let counts = exit.counts();
    assert_eq!((counts.open(), counts.held(), counts.gaps), (0, 0, 0));
    assert_eq!(counts.reserved, counts.emitted);
}

/// The other side of a reservation: the slot completes, then the exit emits it.
fn make_room(k: usize, slot: &RefCell<Option<Slot<u64>>>, exit: &RefCell<Exit<u64>>) {
    match k {
        0 => slot.take().unwrap().complete(0),
        _ => assert_eq!(exit.borrow_mut().try_next(), Ok(Emitted::Item { sequence: 0, value: 0 })),
    }
}

#[test]
fn a_dropped_reservation_gives_its_room_back() {
    for order in [Order::Ordered, Order::Unordered] {
        for owned in [false, true] {
            let summary = sweep("Reserve", |run: &mut Run| {
                let (entry, exit, slot) = full(order);
                let (exit, slot) = (RefCell::new(exit), RefCell::new(Some(slot)));
                let reserve = if owned { entry.reserve_owned() } else { entry.reserve() };
                let ended = run.drive(reserve, |k| make_room(k, &slot, &exit));
                assert_eq!(run.live_wakers(), 0);
                if let Some(slot) = slot.take() {
                    slot.complete(0);
                }
                room_is_there(&entry, exit.into_inner(), ended.ready().map(Result::unwrap));
            });
            assert_eq!(summary.pending_points, 2);
        }
    }
}

#[test]
fn a_dropped_reservation_hands_its_room_to_the_next_in_line() {
    let summary = sweep("Reserve", |run: &mut Run| {
        let (entry, exit, slot) = full(Order::Ordered);
        let (exit, slot) = (RefCell::new(exit), RefCell::new(Some(slot)));
        let behind = RefCell::new(Box::pin(entry.reserve()));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let ended = run.drive(entry.reserve(), |k| {
            if k == 0 {
                assert!(behind.borrow_mut().as_mut().poll(&mut cx).is_pending());
            }
            make_room(k, &slot, &exit);
        });
        if let Some(slot) = slot.take() {
            slot.complete(0);
        }
        let mut exit = exit.into_inner();
        let _ = exit.try_next();
        if let Some(slot) = ended.ready().map(Result::unwrap) {
            slot.complete(1);
            assert_eq!(exit.try_next(), Ok(Emitted::Item { sequence: 1, value: 1 }));
        }
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let polled = behind.borrow_mut().as_mut().poll(&mut cx);
        let std::task::Poll::Ready(Ok(slot)) = polled else {
            panic!("the next in line was passed over")
        };
        assert_eq!(slot.sequence(), exit.counts().emitted);
    });
    assert_eq!(summary.pending_points, 2);
}

#[test]
fn a_reservation_ended_by_closing_or_by_the_tree_loses_no_room() {
    let summary = sweep("Reserve", |run: &mut Run| {
        let (entry, exit, slot) = full(Order::Ordered);
        let (exit, slot) = (RefCell::new(exit), RefCell::new(Some(slot)));
        let ended =
            run.drive_cancel(entry.reserve(), |k| make_room(k, &slot, &exit), || entry.close());
        if let Some(slot) = slot.take() {
            slot.complete(0);
        }
        let mut exit = exit.into_inner();
        let _ = exit.try_next();
        match ended.ready() {
            Some(Ok(slot)) => assert_eq!(slot.sequence(), 1),
            Some(Err(Closed)) => assert_eq!(exit.try_next(), Err(TryNextError::Ended)),
            None => {}
        }
    });
    assert_eq!(summary.pending_points, 2);

    let summary = sweep("Reserve", |run: &mut Run| {
        let (ctx, canceller) = Context::background().child();
        let (entry, exit, slot) = full(Order::Unordered);
        let (exit, slot) = (RefCell::new(exit), RefCell::new(Some(slot)));
        let ended = run.drive_cancel(
            ctx.run(entry.reserve()),
            |k| make_room(k, &slot, &exit),
            || canceller.cancel(),
        );
        assert_eq!(run.live_wakers(), 0);
        if let Some(slot) = slot.take() {
            slot.complete(0);
        }
        let reserved = ended.ready().and_then(Result::ok).map(Result::unwrap);
        room_is_there(&entry, exit.into_inner(), reserved);
    });
    assert_eq!(summary.pending_points, 2);
}

/// Two slots complete, the second first; then the entry closes.
fn finish(k: usize, slots: &RefCell<Vec<Slot<u64>>>, entry: &Entry<u64>) {
    match slots.borrow_mut().pop() {
        Some(slot) => {
            let sequence = slot.sequence();
            slot.complete(sequence);
        }
        None => {
            assert!(k >= 2);
            entry.close();
        }
    }
}

/// Everything that comes out of the exit now.
fn drain(exit: &mut Exit<u64>) -> Vec<u64> {
    std::iter::from_fn(|| exit.try_next().ok()).map(|emitted| emitted.sequence()).collect()
}

#[test]
fn a_dropped_next_loses_no_item() {
    for order in [Order::Ordered, Order::Unordered] {
        let scenario = |as_stream: bool| {
            move |run: &mut Run| {
                let (entry, mut exit) = window(2, order).unwrap();
                let slots: Vec<_> = (0..2).map(|_| entry.try_reserve().unwrap()).collect();
                let slots = RefCell::new(slots);
                let step = |k| finish(k, &slots, &entry);
                let ended = if as_stream {
                    run.drive(next(&mut exit), step)
                } else {
                    run.drive(exit.next(), step)
                };
                if !as_stream {
                    assert_eq!(run.live_wakers(), 0, "no waker stays behind");
                }
                let mut seen: Vec<_> =
                    ended.ready().flatten().iter().map(Emitted::sequence).collect();
                seen.extend(drain(&mut exit));
                while !slots.borrow().is_empty() {
                    finish(0, &slots, &entry);
                    seen.extend(drain(&mut exit));
                }
                if order == Order::Unordered {
                    seen.reverse();
                }
                assert_eq!(seen, [0, 1]);
                let counts = exit.counts();
                assert_eq!((counts.completed, counts.emitted), (2, 2));
            }
        };
        let points = if order == Order::Ordered { 2 } else { 1 };
        assert_eq!(sweep("Next", scenario(false)).pending_points, points);
        assert_eq!(sweep("Exit", scenario(true)).pending_points, points);
    }
}

#[test]
fn a_next_that_the_tree_ends_loses_no_item() {
    let summary = sweep("Next", |run: &mut Run| {
        let (ctx, canceller) = Context::background().child();
        let (_entry, mut exit, slot) = full(Order::Ordered);
        let slot = RefCell::new(Some(slot));
        let ended = run.drive_cancel(
            ctx.run(exit.next()),
            |_| slot.take().unwrap().complete(7),
            || canceller.cancel(),
        );
        assert_eq!(run.live_wakers(), 0);
        let received = ended.ready().and_then(Result::ok).flatten().is_some();
        let waits = exit.try_next().is_ok();
        assert_eq!(received ^ waits, slot.borrow().is_none());
    });
    assert_eq!(summary.pending_points, 1);
}

#[test]
fn a_dropped_exit_discards_what_it_did_not_emit_and_counts_it() {
    let summary = sweep("Exit", |run: &mut Run| {
        let (entry, exit) = window(2, Order::Ordered).unwrap();
        let slots = RefCell::new(vec![entry.try_reserve().unwrap(), entry.try_reserve().unwrap()]);
        let mut seen = 0;
        let count = for_each(exit, |_| seen += 1);
        run.drive_cancel(
            count,
            |k| finish(k, &slots, &entry),
            || {
                slots.borrow_mut().clear();
                entry.close();
            },
        );
        assert_eq!(run.live_wakers(), 0);
        slots.borrow_mut().clear();
        let counts = entry.counts();
        assert_eq!(counts.reserved, counts.completed + counts.gaps);
        assert_eq!(counts.reserved, counts.emitted + counts.discarded);
        assert_eq!(counts.emitted, seen);
    });
    assert_eq!(summary.pending_points, 3);
}

/// The other side of a merge: source 1 is woken for nothing, source 2 gets 7, source 0 gets 8.
fn feed(k: usize, hands: &[Hand]) {
    match k {
        0 => {
            let waker = hands[1].state().waker.clone();
            waker.into_iter().for_each(|waker| waker.wake());
        }
        1 => hands[2].push(7),
        _ => hands[0].push(8),
    }
}

/// Whatever became of the call: each item that was pushed came out once.
fn nothing_is_lost(seen: Option<u64>, rest: impl Iterator<Item = u64>, hands: &[Hand]) {
    let mut all: Vec<_> = seen.into_iter().chain(rest).collect();
    all.sort_unstable();
    assert_eq!(all, [7, 8]);
    assert!(hands.iter().all(Hand::is_alone), "a source that has ended is gone");
}

#[test]
fn a_dropped_next_of_a_merge_loses_no_item() {
    let finish = |hands: &[Hand], k: usize| {
        (k..3).for_each(|k| feed(k, hands));
        hands.iter().for_each(Hand::close);
    };
    let summary = sweep("NextItem", |run: &mut Run| {
        let (sources, hands) = pipes(3);
        let (mut merged, fed) = (merge(sources), RefCell::new(0));
        let (ctx, canceller) = Context::background().child();
        let step = |k| {
            feed(k, &hands);
            *fed.borrow_mut() = k + 1;
        };
        let ended = run.drive_cancel(ctx.run(merged.next()), step, || canceller.cancel());
        finish(&hands, *fed.borrow());
        let seen = ended.ready().and_then(Result::ok).flatten();
        nothing_is_lost(seen, std::iter::from_fn(|| block_on(merged.next())), &hands);
    });
    assert_eq!(summary.pending_points, 2);

    let summary = sweep("Merge", |run: &mut Run| {
        let (sources, hands) = pipes(3);
        let (mut merged, fed) = (merge(sources), RefCell::new(0));
        let step = |k| {
            feed(k, &hands);
            *fed.borrow_mut() = k + 1;
        };
        let seen = run.drive(next(&mut merged), step).ready().flatten();
        finish(&hands, *fed.borrow());
        nothing_is_lost(seen, std::iter::from_fn(|| block_on(merged.next())), &hands);
    });
    assert_eq!(summary.pending_points, 2);

    let summary = sweep("Tagged", |run: &mut Run| {
        let (sources, hands) = pipes(3);
        let (mut merged, fed) = (merge(sources).tagged(), RefCell::new(0));
        let step = |k| {
            feed(k, &hands);
            *fed.borrow_mut() = k + 1;
        };
        let seen = run.drive(next(&mut merged), step).ready().flatten();
        finish(&hands, *fed.borrow());
        let rest = std::iter::from_fn(|| block_on(merged.next())).map(|(_, item)| item);
        nothing_is_lost(seen.map(|(_, item)| item), rest, &hands);
    });
    assert_eq!(summary.pending_points, 2);
}

#[test]
fn a_dropped_merge_lets_go_of_its_sources_and_of_its_task() {
    let summary = sweep("Merge", |run: &mut Run| {
        let (sources, hands) = pipes(3);
        let mut seen = 0;
        let step = |k: usize| match k {
            0 | 1 => feed(k + 1, &hands),
            _ => hands.iter().for_each(Hand::close),
        };
        run.drive_cancel(for_each(merge(sources), |_| seen += 1), step, || {
            hands.iter().for_each(Hand::close);
        });
        assert_eq!(run.live_wakers(), 0);
        assert!(hands.iter().all(Hand::is_alone));
        assert!(seen <= 2);
    });
    assert_eq!(summary.pending_points, 3);
}

/// Everything that is there for an outlet now.
fn take_all(outlet: &mut Outlet<u64>) -> Vec<u64> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    std::iter::from_fn(|| match std::pin::pin!(outlet.next()).poll(&mut cx) {
        std::task::Poll::Ready(item) => item,
        std::task::Poll::Pending => None,
    })
    .collect()
}

/// Polls a feed by hand.
fn poll_once<F: Future>(feed: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    feed.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

#[test]
fn a_dropped_take_loses_no_item_and_its_grant_goes_to_the_next() {
    for as_stream in [false, true] {
        let scenario = |run: &mut Run| {
            let ctx = Context::background();
            let (tree, canceller) = ctx.child();
            let (mut sources, hands) = pipes(1);
            let made = fan_out(sources.remove(0), 2, 2, Route::shared(), &ctx).unwrap();
            let (feed, mut outlets) = made;
            let feed = RefCell::new(Box::pin(feed));
            let (first, second) = outlets.split_at_mut(1);
            let (first, second) = (&mut first[0], &mut second[0]);
            let pushed = RefCell::new(0);
            let step = |k: usize| {
                if k == 1 {
                    hands[0].push(7);
                    *pushed.borrow_mut() = 1;
                }
                assert!(poll_once(feed.borrow_mut().as_mut()).is_pending());
            };
            let mut seen = Vec::new();
            if as_stream {
                let take = tree.run(next(&mut *first));
                let ended = run.drive_cancel(take, step, || canceller.cancel());
                seen.extend(ended.ready().and_then(Result::ok).flatten());
                // A stream keeps what it was granted until it is polled or gives up.
                seen.extend(take_all(first));
            } else {
                let take = tree.run(first.next());
                let ended = run.drive_cancel(take, step, || canceller.cancel());
                seen.extend(ended.ready().and_then(Result::ok).flatten());
                assert_eq!(run.live_wakers(), 0);
            }
            if *pushed.borrow() == 0 {
                hands[0].push(7);
            }
            hands[0].close();
            let _ = poll_once(feed.borrow_mut().as_mut());
            seen.extend(take_all(second));
            assert_eq!(seen, [7], "nobody else took it");
            let report = block_on(feed.into_inner());
            assert!(report.complete && report.left.is_empty());
        };
        let summary = match as_stream {
            true => sweep("Outlet", scenario),
            false => sweep("Take", scenario),
        };
        assert_eq!(summary.pending_points, 2);
    }
}

#[test]
fn a_feed_that_ends_loses_only_what_waited_for_room() {
    let summary = sweep("FanOut", |run: &mut Run| {
        let (ctx, canceller) = Context::background().child();
        let route = Route::round_robin();
        let given = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&given);
        // Relaxed: the feed is driven by one thread at a time, and joined.
        let items = (0..5_u64).inspect(move |_| _ = count.fetch_add(1, Relaxed));
        let (feed, outlets) = fan_out(iter(items), 2, 1, route, &ctx).unwrap();
        let outlets = RefCell::new(outlets);
        let seen = RefCell::new(Vec::new());
        let step = |k: usize| {
            let items = take_all(&mut outlets.borrow_mut()[k % 2]);
            seen.borrow_mut().extend(items);
        };
        let ended = run.drive_cancel(feed, step, || canceller.cancel());
        assert_eq!(run.live_wakers(), 0);
        let mut seen = seen.into_inner();
        outlets.borrow_mut().iter_mut().for_each(|outlet| seen.extend(take_all(outlet)));
        let report = ended.ready();
        let read = report.as_ref().map(|report| report.read);
        seen.extend(report.into_iter().flat_map(|report| report.left));
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..seen.len() as u64), "none is lost between others");
        // Relaxed: as above.
        let given = given.load(Relaxed);
        match read {
            Some(read) => assert_eq!((read, seen.len() as u64), (given, given), "taken or left"),
            None => assert!(given - seen.len() as u64 <= 1, "only what waited for room is lost"),
        }
    });
    assert!(summary.pending_points >= 3, "{summary}");
}

/// Two items are pushed; the runtime runs their futures in between.
#[cfg(feature = "tokio")]
#[test]
fn a_dropped_next_of_a_mapping_loses_no_result_and_no_item() {
    use selvedge_fanio::map_concurrent;
    use tokio::task::yield_now;

    let summary = sweep("MapConcurrent", |run: &mut Run| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut sources, hands) = pipes(1);
        let source = sources.remove(0);
        let ctx = Context::background();
        let f = |n: u64| async move { n };
        let guard = runtime.enter();
        let mut mapped = map_concurrent(source, 2, Order::Ordered, &ctx, f).unwrap();
        drop(guard);
        let turn = || runtime.block_on(async { (yield_now().await, yield_now().await) });
        let pushed = RefCell::new(0);
        let step = |k| match k {
            0 => {
                hands[0].push(7);
                *pushed.borrow_mut() = 1;
            }
            _ => drop(turn()),
        };
        let ended = run.drive(next(&mut mapped), step);
        let mut seen: Vec<_> = ended.ready().flatten().into_iter().map(Result::unwrap).collect();
        (*pushed.borrow()..2).for_each(|n| hands[0].push(7 + n));
        hands[0].close();
        runtime.block_on(async {
            while let Some(result) = mapped.next().await {
                seen.push(result.unwrap());
            }
        });
        assert_eq!(seen, [7, 8]);
        assert!(hands[0].is_alone());
    });
    assert_eq!(summary.pending_points, 2);

    // The stream itself is dropped, or its context cancelled: no future stays behind.
    let summary = sweep("MapConcurrent", |run: &mut Run| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut sources, hands) = pipes(1);
        let source = sources.remove(0);
        let (ctx, canceller) = Context::background().child();
        let alive = std::sync::Arc::new(());
        let held = std::sync::Arc::clone(&alive);
        let f = move |n: u64| {
            let held = std::sync::Arc::clone(&held);
            async move {
                yield_now().await;
                drop(held);
                n
            }
        };
        let guard = runtime.enter();
        let mapped = map_concurrent(source, 2, Order::Unordered, &ctx, f).unwrap();
        drop(guard);
        let turn = || runtime.block_on(async { (yield_now().await, yield_now().await) });
        let step = |k: usize| match k {
            0 => hands[0].push(7),
            1 | 3 => drop(turn()),
            _ => hands[0].close(),
        };
        // As an executor beside it would, cancelling lets the tasks run.
        let cancel = || {
            canceller.cancel();
            turn();
        };
        run.drive_cancel(for_each(mapped, drop), step, cancel);
        turn();
        assert_eq!(std::sync::Arc::strong_count(&alive), 1, "a future stays behind");
        assert!(hands[0].is_alone());
        // The waker that the source left at its other side.
        hands[0].close();
        assert_eq!(run.live_wakers(), 0);
    });
    assert_eq!(summary.pending_points, 3);
}

/// Two futures that hold something, each of which returns in a turn of its own.
#[cfg(feature = "tokio")]
struct Scattered {
    runtime: tokio::runtime::Runtime,
    gates: [std::sync::Arc<tokio::sync::Semaphore>; 2],
    alive: std::sync::Arc<()>,
}

#[cfg(feature = "tokio")]
impl Scattered {
    fn new() -> Self {
        let gate = || std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { runtime, gates: [gate(), gate()], alive: std::sync::Arc::new(()) }
    }

    fn futures(&self) -> [impl Future<Output = Result<usize, usize>> + Send + 'static; 2] {
        let (gates, alive) = (self.gates.clone(), std::sync::Arc::clone(&self.alive));
        let future = move |n: usize| {
            let (gate, held) = (gates[n].clone(), alive.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                drop(held);
                if n == 0 { Err(n) } else { Ok(n) }
            }
        };
        [future(0), future(1)]
    }

    /// Lets the tasks run.
    fn turn(&self) {
        self.runtime.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// One future a turn returns.
    fn step(&self, k: usize) {
        match k {
            0 => self.turn(),
            _ => self.gates[(k - 1).min(1)].add_permits(1),
        }
        self.turn();
    }

    /// Whatever became of it, no future stays behind.
    fn nothing_stays_behind(&self) {
        self.turn();
        assert_eq!(std::sync::Arc::strong_count(&self.alive), 1, "a future stays behind");
    }
}

#[cfg(feature = "tokio")]
#[test]
fn a_dropped_all_leaves_no_future_behind() {
    let summary = sweep("All", |run: &mut Run| {
        let scattered = Scattered::new();
        let (ctx, canceller) = Context::background().child();
        let guard = scattered.runtime.enter();
        let all = selvedge_fanio::all(scattered.futures(), &ctx);
        drop(guard);
        let cancel = || {
            canceller.cancel();
            scattered.turn();
        };
        let ended = run.drive_cancel(all, |k| scattered.step(k), cancel);
        if let Some(results) = ended.ready() {
            assert_eq!(results.len(), 2, "a result for each, whenever it was cancelled");
        }
        scattered.nothing_stays_behind();
        assert_eq!(run.live_wakers(), 0);
    });
    // Before the tasks run, while both wait, and while the second does.
    assert_eq!(summary.pending_points, 3);
}

#[cfg(feature = "tokio")]
#[test]
fn a_dropped_first_ok_leaves_no_future_behind() {
    let summary = sweep("FirstOk", |run: &mut Run| {
        let scattered = Scattered::new();
        let (ctx, canceller) = Context::background().child();
        let guard = scattered.runtime.enter();
        let first = selvedge_fanio::first_ok(scattered.futures(), &ctx);
        drop(guard);
        let cancel = || {
            canceller.cancel();
            scattered.turn();
        };
        match run.drive_cancel(first, |k| scattered.step(k), cancel).ready() {
            None => {}
            Some(Ok(first)) => assert_eq!(first, 1),
            Some(Err(none)) => assert_eq!(none.failures.len(), 2),
        }
        scattered.nothing_stays_behind();
        assert_eq!(run.live_wakers(), 0);
    });
    assert_eq!(summary.pending_points, 3);
}

#[test]
fn an_iterator_as_a_stream_is_never_pending() {
    let summary = sweep("Iter", |run: &mut Run| {
        let mut items = selvedge_fanio::iter(0..2);
        let first = run.drive(next(&mut items), |_| ()).ready().flatten();
        let rest: Vec<_> = std::iter::from_fn(|| block_on(next(&mut items))).collect();
        assert_eq!(rest.len(), 2 - usize::from(first.is_some()));
    });
    assert_eq!(summary.pending_points, 0);
}
