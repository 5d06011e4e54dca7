//! Facts about the concurrent mapping: smoke, capacity, driven whatever the reader does, end, cancel, drop, panic, bad
//! input.
#![cfg(feature = "tokio")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_cancel::{CauseKind, Context};
use selvedge_fanio::{MAX_CAPACITY, MapError, Order, WindowError, iter, map_concurrent};
use selvedge_testkit::{block_on, watchdog};
use support::{Alive, Nasty, pipe};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
const BOTH: [Order; 2] = [Order::Ordered, Order::Unordered];

fn background() -> Context {
    Context::background()
}

#[tokio::test]
async fn ordered_results_keep_the_order_and_unordered_ones_come_when_they_are_done() {
    let gates: Vec<_> = (0..3).map(|_| Arc::new(Semaphore::new(0))).collect();
    for (order, expected) in [(Order::Ordered, [0, 1, 2]), (Order::Unordered, [2, 1, 0])] {
        let waiting = gates.clone();
        let mut mapped = map_concurrent(iter(0..3), 3, order, &background(), move |n: usize| {
            let gate = Arc::clone(&waiting[n]);
            async move {
                gate.acquire().await.unwrap().forget();
                n
            }
        })
        .unwrap();
        let opening = tokio::spawn({
            let gates = gates.clone();
            async move {
                for gate in gates.iter().rev() {
                    gate.add_permits(1);
                    yield_now().await;
                    yield_now().await;
                }
            }
        });
        for expected in expected {
            assert_eq!(mapped.next().await.unwrap().unwrap(), expected);
        }
        assert!(mapped.next().await.is_none());
        assert!(mapped.next().await.is_none());
        opening.await.unwrap();
    }
}

#[tokio::test]
async fn as_many_run_as_the_limit_and_no_more() {
    for order in BOTH {
        for limit in [1, 3, 64] {
            let running = Arc::new(AtomicUsize::new(0));
            let most = Arc::new(AtomicUsize::new(0));
            let (inside, seen) = (Arc::clone(&running), Arc::clone(&most));
            let mut mapped = map_concurrent(iter(0..200), limit, order, &background(), move |_| {
                let (running, most) = (Arc::clone(&inside), Arc::clone(&seen));
                async move {
                    most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
                    // Longer than it takes to start as many, for which the task yields in between.
                    for _ in 0..4 {
                        yield_now().await;
                    }
                    running.fetch_sub(1, Relaxed);
                }
            })
            .unwrap();
            let mut results = 0;
            while let Some(result) = mapped.next().await {
                result.unwrap();
                results += 1;
                assert!(mapped.in_flight() <= limit);
            }
            assert_eq!((results, most.load(Relaxed)), (200, limit));
        }
    }
}

#[test]
fn a_limit_of_nothing_or_of_everything_is_refused() {
    for (limit, error) in [(0, WindowError::Zero), (usize::MAX, WindowError::TooLarge(usize::MAX))]
    {
        let f = |n: u64| async move { n };
        let mapped = map_concurrent(iter(0..3), limit, Order::Ordered, &background(), f);
        assert_eq!(mapped.unwrap_err(), error);
    }
    let f = |n: u64| async move { n };
    let mapped = map_concurrent(iter(0..3), MAX_CAPACITY + 1, Order::Ordered, &background(), f);
    assert_eq!(mapped.unwrap_err(), WindowError::TooLarge(MAX_CAPACITY + 1));
}

#[tokio::test]
async fn the_smallest_and_the_largest_limit_give_every_result() {
    for (limit, order) in [1, MAX_CAPACITY].into_iter().flat_map(|n| BOTH.map(|order| (n, order))) {
        let f = |n: u64| async move { n };
        let mut mapped = map_concurrent(iter(0..100), limit, order, &background(), f).unwrap();
        let mut sum = 0;
        while let Some(result) = mapped.next().await {
            sum += result.unwrap();
        }
        assert_eq!(sum, 4950, "{limit} at a time");
    }
}

#[tokio::test]
async fn a_deadline_in_the_past_starts_nothing() {
    let (ctx, _canceller) = background().with_timeout(Duration::ZERO).unwrap();
    let f = |_: u64| async { unreachable!("it is too late") };
    let mut mapped = map_concurrent(iter(0..3), 2, Order::Ordered, &ctx, f).unwrap();
    match mapped.next().await {
        Some(Err(MapError::Stopped { index: 0, cause })) => {
            assert_eq!(cause.kind(), CauseKind::Deadline);
        }
        other => panic!("{other:?}"),
    }
    assert!(mapped.next().await.is_none());
}

/// The program of futures-rs issue 2387: the loop body wants the lock that the next future in the
/// buffer has been handed. A `buffered` stream polls none of its futures while the body waits.
#[test]
fn a_loop_body_that_wants_what_a_future_holds_gets_it() {
    for order in BOTH {
        watchdog(PATIENCE, "a lock between the body and the futures", move || {
            Builder::new_current_thread().build().unwrap().block_on(async {
                let lock = Arc::new(Mutex::new(0));
                let inside = Arc::clone(&lock);
                let mut mapped = map_concurrent(iter(0..100), 5, order, &background(), move |_| {
                    let lock = Arc::clone(&inside);
                    async move {
                        let mut count = lock.lock().await;
                        yield_now().await;
                        *count += 1;
                    }
                })
                .unwrap();
                while let Some(result) = mapped.next().await {
                    result.unwrap();
                    *lock.lock().await += 1;
                }
                assert_eq!(*lock.lock().await, 200);
            });
        });
    }
}

/// The program of omicron issue 9259: a sender that was granted its turn at a full channel, and is
/// not polled any more, blocks every other sender, the loop body among them.
#[test]
fn a_future_that_was_granted_a_turn_at_a_channel_takes_it_while_the_body_sends_itself() {
    for order in BOTH {
        watchdog(PATIENCE, "a channel between the body and the futures", move || {
            Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(async {
                let (sender, mut receiver) = mpsc::channel(1);
                let receiving = tokio::spawn(async move {
                    let mut received = 0;
                    while receiver.recv().await.is_some() {
                        received += 1;
                    }
                    received
                });
                let inside = sender.clone();
                let mut mapped = map_concurrent(iter(0..500), 8, order, &background(), move |n| {
                    let sender = inside.clone();
                    async move { sender.send(n).await.unwrap() }
                })
                .unwrap();
                while let Some(result) = mapped.next().await {
                    result.unwrap();
                    // The body sends as well, and waits its turn behind the futures.
                    sender.send(0).await.unwrap();
                }
                drop((mapped, sender));
                assert_eq!(receiving.await.unwrap(), 1_000);
            });
        });
    }
}

/// The complaint of restate's sdk-rust issue 89, and many others: while the body works, nothing polls
/// the futures, so they run into their timeouts.
#[tokio::test(start_paused = true)]
async fn futures_do_not_time_out_because_the_body_is_slow() {
    let f = |n: u64| {
        timeout(Duration::from_secs(2), async move {
            for _ in 0..10 {
                sleep(Duration::from_millis(100)).await;
            }
            n
        })
    };
    for order in BOTH {
        let mut mapped = map_concurrent(iter(0..20), 4, order, &background(), f).unwrap();
        while let Some(result) = mapped.next().await {
            result.unwrap().expect("it had twice the time that it needs");
            sleep(Duration::from_secs(60)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_it_has_ended_nothing_is_alive() {
    for order in BOTH {
        for _ in 0..50 {
            let alive = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&alive);
            let mut mapped = map_concurrent(iter(0..64), 7, order, &background(), move |n| {
                let alive = Alive::new(&count);
                async move {
                    if n % 3 == 0 {
                        yield_now().await;
                    }
                    assert!(n % 10 != 9, "one in ten panics");
                    drop(alive);
                }
            })
            .unwrap();
            while mapped.next().await.is_some() {
                assert!(alive.load(Relaxed) <= mapped.in_flight(), "dropped before its result");
            }
            assert_eq!(alive.load(Relaxed), 0);
        }
    }
}

#[tokio::test]
async fn dropping_the_stream_ends_what_runs() {
    let alive = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&alive);
    let mut mapped = map_concurrent(iter(0..), 5, Order::Ordered, &background(), move |n: u64| {
        let alive = Alive::new(&count);
        async move {
            if n > 0 {
                std::future::pending::<()>().await;
            }
            drop(alive);
        }
    })
    .unwrap();
    mapped.next().await.unwrap().unwrap();
    assert_eq!((alive.load(Relaxed), mapped.in_flight()), (5, 5));
    drop(mapped);
    yield_now().await;
    assert_eq!(alive.load(Relaxed), 0);
}

#[tokio::test]
async fn a_stop_lets_what_runs_finish_and_says_that_the_source_was_cut_short() {
    for order in BOTH {
        let (ctx, canceller) = background().child();
        let gate = Arc::new(Semaphore::new(0));
        let inside = Arc::clone(&gate);
        let mut mapped = map_concurrent(iter(0..), 3, order, &ctx, move |n: u64| {
            let gate = Arc::clone(&inside);
            async move {
                gate.acquire().await.unwrap().forget();
                n
            }
        })
        .unwrap();
        gate.add_permits(1);
        assert_eq!(mapped.next().await.unwrap().unwrap(), 0);
        canceller.stop(Duration::MAX);
        gate.add_permits(100);
        let mut finished = Vec::new();
        for _ in 1..4 {
            finished.push(mapped.next().await.unwrap().unwrap());
        }
        finished.sort_unstable();
        assert_eq!(finished, [1, 2, 3]);
        match mapped.next().await {
            Some(Err(MapError::Stopped { index: 4, cause })) => {
                assert_eq!(cause.kind(), CauseKind::Stopped);
            }
            other => panic!("{other:?}"),
        }
        assert!(mapped.next().await.is_none());
    }
}

#[tokio::test]
async fn a_stop_wakes_a_stream_whose_source_has_nothing() {
    let (ctx, canceller) = background().child();
    let (source, hand) = pipe();
    let mut mapped =
        map_concurrent(source, 3, Order::Ordered, &ctx, |n: u64| async move { n }).unwrap();
    let reading = tokio::spawn(async move { (mapped.next().await, mapped.next().await) });
    yield_now().await;
    canceller.stop(Duration::MAX);
    let (stopped, end) = reading.await.unwrap();
    assert!(matches!(stopped, Some(Err(MapError::Stopped { .. }))) && end.is_none());
    assert!(hand.is_alone(), "the source was dropped");
}

#[tokio::test]
async fn a_cancel_drops_what_runs_and_tells_of_each() {
    for order in BOTH {
        let (ctx, canceller) = background().child();
        let alive = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&alive);
        let mut mapped = map_concurrent(iter(0..10), 3, order, &ctx, move |n: u64| {
            let alive = Alive::new(&count);
            async move {
                if n > 0 {
                    std::future::pending::<()>().await;
                }
                drop(alive);
            }
        })
        .unwrap();
        mapped.next().await.unwrap().unwrap();
        canceller.cancel();
        let mut cancelled = Vec::new();
        let last = loop {
            match mapped.next().await.unwrap() {
                Err(MapError::Cancelled { index, cause }) => {
                    assert_eq!(cause.kind(), CauseKind::Cancelled);
                    cancelled.push(index);
                }
                other => break other,
            }
        };
        assert!(matches!(last, Err(MapError::Stopped { .. })), "{last:?}");
        cancelled.sort_unstable();
        assert_eq!(cancelled, [1, 2, 3]);
        assert_eq!(alive.load(Relaxed), 0);
        assert!(mapped.next().await.is_none());
    }
}

#[tokio::test]
async fn a_source_that_had_ended_was_not_cut_short() {
    let (ctx, canceller) = background().child();
    let mut mapped =
        map_concurrent(iter(0..1), 3, Order::Ordered, &ctx, |n: u64| async move { n }).unwrap();
    assert_eq!(mapped.next().await.unwrap().unwrap(), 0);
    canceller.cancel();
    assert!(mapped.next().await.is_none());
}

#[tokio::test]
async fn a_panic_is_the_result_of_its_item() {
    let f = |n: u64| {
        assert!(n != 1, "the function panics");
        async move {
            let _nasty = (n == 3).then(|| Nasty);
            assert!(n != 2, "the future panics");
            n
        }
    };
    let mut mapped = map_concurrent(iter(0..5), 2, Order::Ordered, &background(), f).unwrap();
    let mut seen = Vec::new();
    while let Some(result) = mapped.next().await {
        seen.push(match result {
            Ok(n) => n.to_string(),
            Err(MapError::Panicked { index, panic }) => format!("{index}: {panic}"),
            Err(other) => panic!("{other}"),
        });
    }
    let expected =
        ["0", "1: the function panics", "2: the future panics", "3: a destructor panics", "4"];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_source_that_panics_ends_the_stream_behind_what_it_gave() {
    let items = (0..10).inspect(|n| assert!(*n != 2, "the source panics"));
    let f = |n: u64| async move { n };
    for order in BOTH {
        let mut mapped = map_concurrent(iter(items.clone()), 4, order, &background(), f).unwrap();
        assert_eq!(mapped.next().await.unwrap().unwrap(), 0);
        assert_eq!(mapped.next().await.unwrap().unwrap(), 1);
        match mapped.next().await {
            Some(Err(MapError::Panicked { index: 2, panic })) => {
                assert_eq!(panic.message(), "the source panics");
            }
            other => panic!("{other:?}"),
        }
        assert!(mapped.next().await.is_none());
    }
}

#[test]
fn without_a_runtime_it_says_so_and_leaves_the_source_unread() {
    watchdog(PATIENCE, "no runtime", || {
        let mut read = 0;
        let items = (0..5).inspect(|_| read += 1);
        let f = |n: u64| async move { n };
        let mut mapped = map_concurrent(iter(items), 2, Order::Ordered, &background(), f).unwrap();
        assert!(matches!(block_on(mapped.next()), Some(Err(MapError::NoRuntime))));
        assert!(block_on(mapped.next()).is_none());
        drop(mapped);
        assert_eq!(read, 0);
    });
}

#[test]
fn made_in_a_runtime_it_can_be_read_outside() {
    watchdog(PATIENCE, "read outside of its runtime", || {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let guard = runtime.enter();
        let f = |n: u64| async move { n };
        let mut mapped = map_concurrent(iter(0..5), 2, Order::Ordered, &background(), f).unwrap();
        drop(guard);
        for expected in 0..5 {
            assert_eq!(block_on(mapped.next()).unwrap().unwrap(), expected);
        }
        assert!(block_on(mapped.next()).is_none());
    });
}

#[test]
fn made_outside_a_runtime_it_is_read_inside_one() {
    let f = |n: u64| async move { n };
    let mut mapped = map_concurrent(iter(0..5), 2, Order::Ordered, &background(), f).unwrap();
    Builder::new_current_thread().build().unwrap().block_on(async {
        for expected in 0..5 {
            assert_eq!(mapped.next().await.unwrap().unwrap(), expected);
        }
        assert!(mapped.next().await.is_none());
    });
}

#[test]
fn a_runtime_that_is_shut_down_loses_the_items_and_hangs_nobody() {
    watchdog(PATIENCE, "a runtime that is gone", || {
        for order in BOTH {
            let runtime = Builder::new_current_thread().build().unwrap();
            let guard = runtime.enter();
            let f = |_: u64| std::future::pending::<()>();
            let mut mapped = map_concurrent(iter(0..5), 2, order, &background(), f).unwrap();
            drop(guard);
            let waker = std::task::Waker::noop();
            let mut cx = std::task::Context::from_waker(waker);
            assert!(std::pin::pin!(mapped.next()).poll(&mut cx).is_pending());
            drop(runtime);
            let mut lost = Vec::new();
            while let Some(result) = block_on(mapped.next()) {
                match result {
                    Err(MapError::Lost { index }) => lost.push(index),
                    other => panic!("{other:?}"),
                }
            }
            // A runtime drops its tasks in any order.
            lost.sort_unstable();
            assert_eq!(lost, [0, 1, 2, 3, 4]);
        }
    });
}

#[tokio::test]
async fn a_loop_over_ready_results_yields() {
    let f = |n: u64| async move { n };
    let mut mapped = map_concurrent(iter(0..), 4, Order::Ordered, &background(), f).unwrap();
    let other_ran = std::cell::Cell::new(false);
    let busy = async {
        for lap in 0.. {
            mapped.next().await.unwrap().unwrap();
            if other_ran.get() {
                break;
            }
            assert!(lap < 10_000, "the budget of the task is never spent");
        }
    };
    tokio::join!(biased; busy, async { other_ran.set(true) });
}

/// However large the limit, the future of the stream does not start all in one poll: tokio's budget
/// is 128 at the most.
#[tokio::test]
async fn starting_many_yields() {
    let f = |n: u64| async move { n };
    let mut mapped =
        map_concurrent(iter(0..10_000), 10_000, Order::Ordered, &background(), f).unwrap();
    let most = tokio::join!(
        biased;
        async { mapped.next().await.unwrap().unwrap() },
        async {}
    );
    assert_eq!(most.0, 0);
    assert!(mapped.in_flight() < 1_000, "{} were started at once", mapped.in_flight());
}

#[test]
fn errors_say_what_did_not_happen() {
    let error = MapError::Lost { index: 7 };
    assert_eq!(error.to_string(), "no result for item 7: its runtime was shut down");
    let payload = catch_unwind(AssertUnwindSafe(|| panic!("text"))).unwrap_err();
    let error = MapError::Panicked { index: 3, panic: selvedge_fanio::Panic::new(payload) };
    assert_eq!(error.to_string(), "no result for item 3: panicked: text");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// 150 cases of 500 to 1,000 items, each started, run and given out: more than 100,000.
    #[test]
    fn it_is_the_same_as_mapping_one_by_one(
        limit in 1..40_usize,
        ordered in any::<bool>(),
        yields in prop::collection::vec(0..4_u8, 500..1_000),
    ) {
        let order = if ordered { Order::Ordered } else { Order::Unordered };
        let runtime = Builder::new_current_thread().build().unwrap();
        let mut seen = Vec::new();
        runtime.block_on(async {
            let items = yields.clone().into_iter().enumerate();
            let f = |(n, yields): (usize, u8)| async move {
                for _ in 0..yields {
                    yield_now().await;
                }
                assert!(n % 100 != 99, "one in a hundred panics");
                n
            };
            let mut mapped = map_concurrent(iter(items), limit, order, &background(), f).unwrap();
            while let Some(result) = mapped.next().await {
                seen.push(match result {
                    Ok(n) => n,
                    Err(MapError::Panicked { index, .. }) => {
                        assert_eq!(index % 100, 99);
                        index as usize
                    }
                    Err(other) => panic!("{other}"),
                });
            }
        });
        if !ordered {
            seen.sort_unstable();
        }
        prop_assert!(seen.into_iter().eq(0..yields.len()));
    }
}
