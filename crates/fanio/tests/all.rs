//! Facts about `all`: smoke, order, deadline, stop, drop, panic, bad input.
#![cfg(feature = "tokio")]

mod support;

use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_cancel::{CauseKind, Context};
use selvedge_fanio::{MapError, all};
use selvedge_testkit::{block_on, watchdog};
use support::{Alive, Nasty};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[tokio::test]
async fn every_result_comes_in_the_order_of_the_futures() {
    let gates: Vec<_> = (0..3).map(|_| Arc::new(Semaphore::new(0))).collect();
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let futures = gates.clone().into_iter().enumerate().map(move |(n, gate)| {
        let started = Arc::clone(&count);
        async move {
            started.fetch_add(1, Relaxed);
            gate.acquire().await.unwrap().forget();
            n
        }
    });
    let ctx = Context::background();
    let gathering = tokio::spawn(all(futures, &ctx));
    // All run: the last may return first.
    while started.load(Relaxed) < 3 {
        yield_now().await;
    }
    for gate in gates.iter().rev() {
        gate.add_permits(1);
        yield_now().await;
    }
    let results = gathering.await.unwrap();
    let values: Result<Vec<_>, _> = results.into_iter().collect();
    assert_eq!(values.unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn futures_of_several_types_are_gathered_in_boxes() {
    let futures: [Boxed<u64>; 2] = [Box::pin(async { 1 }), Box::pin(ready(2))];
    let values: Vec<_> = all(futures, &Context::background()).await.into_iter().flatten().collect();
    assert_eq!(values, [1, 2]);
}

#[test]
fn nothing_to_gather_is_gathered_at_once_also_outside_a_runtime() {
    let nothing: [std::future::Ready<u8>; 0] = [];
    assert!(block_on(all(nothing, &Context::background())).is_empty());
}

#[tokio::test]
async fn nothing_starts_before_the_first_poll() {
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let gathering = all([async move { count.fetch_add(1, Relaxed) }], &Context::background());
    yield_now().await;
    assert_eq!(started.load(Relaxed), 0);
    assert_eq!(gathering.await.len(), 1);
    assert_eq!(started.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_what_has_come_is_kept_and_the_rest_is_dropped() {
    let (ctx, _canceller) = Context::background().with_timeout(Duration::from_secs(10)).unwrap();
    let alive = Arc::new(AtomicUsize::new(0));
    let futures = [5, 20, 9, 11].map(|seconds| {
        let alive = Alive::new(&alive);
        async move {
            sleep(Duration::from_secs(seconds)).await;
            drop(alive);
            seconds
        }
    });
    let start = Instant::now();
    let results = all(futures, &ctx).await;
    // The timer's grain.
    assert!(start.elapsed() <= Duration::from_millis(10_002), "{:?}", start.elapsed());
    assert_eq!(alive.load(Relaxed), 0, "a future outlives the gathering");
    let seen: Vec<_> = results
        .into_iter()
        .map(|result| match result {
            Ok(seconds) => Ok(seconds),
            Err(MapError::Cancelled { index, cause }) => {
                assert_eq!(cause.kind(), CauseKind::Deadline);
                Err(index)
            }
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert_eq!(seen, [Ok(5), Err(1), Ok(9), Err(3)]);
}

#[tokio::test]
async fn a_deadline_in_the_past_starts_nothing() {
    let (ctx, _canceller) = Context::background().with_timeout(Duration::ZERO).unwrap();
    let results = all([ready(1), ready(2)], &ctx).await;
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Err(MapError::Stopped { index, cause }) => {
                assert_eq!((index, cause.kind()), (n as u64, CauseKind::Deadline));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stop_lets_what_runs_return() {
    let (ctx, canceller) = Context::background().child();
    let gate = Arc::new(Semaphore::new(0));
    let futures = [0, 1].map(|n| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            n
        }
    });
    let gathering = tokio::spawn(all(futures, &ctx));
    yield_now().await;
    canceller.stop(Duration::MAX);
    gate.add_permits(2);
    let values: Vec<_> = gathering.await.unwrap().into_iter().flatten().collect();
    assert_eq!(values, [0, 1]);
}

#[tokio::test]
async fn a_stop_before_it_begins_starts_nothing_and_says_so_of_each() {
    let (ctx, canceller) = Context::background().child();
    canceller.stop(Duration::MAX);
    let results = all((0..3).map(|n| async move { n }), &ctx).await;
    let texts: Vec<_> = results.into_iter().map(|result| result.unwrap_err().to_string()).collect();
    let expected = [0, 1, 2].map(|n| format!("item {n} not started: the context is stopping"));
    assert_eq!(texts, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_it_has_completed_nothing_is_alive() {
    for round in 0..200 {
        let (ctx, canceller) = Context::background().child();
        let alive = Arc::new(AtomicUsize::new(0));
        let futures: Vec<_> = (0..20)
            .map(|n| {
                let alive = Alive::new(&alive);
                async move {
                    (0..n).for_each(|_| std::hint::spin_loop());
                    yield_now().await;
                    drop(alive);
                }
            })
            .collect();
        let cancelling = tokio::spawn(async move {
            for _ in 0..round % 20 {
                yield_now().await;
            }
            canceller.cancel();
        });
        let results = all(futures, &ctx).await;
        assert_eq!((results.len(), alive.load(Relaxed)), (20, 0));
        cancelling.await.unwrap();
    }
}

#[tokio::test]
async fn dropping_it_ends_what_runs() {
    let alive = Arc::new(AtomicUsize::new(0));
    let futures: Vec<_> = (0..3)
        .map(|_| {
            let alive = Alive::new(&alive);
            async move {
                std::future::pending::<()>().await;
                drop(alive);
            }
        })
        .collect();
    let ctx = Context::background();
    let mut gathering = Box::pin(all(futures, &ctx));
    tokio::select! {
        biased;
        _ = &mut gathering => panic!("nothing returns"),
        () = yield_now() => {}
    }
    assert_eq!(alive.load(Relaxed), 3);
    drop(gathering);
    yield_now().await;
    assert_eq!(alive.load(Relaxed), 0);
}

#[tokio::test]
async fn a_panic_is_the_result_of_its_future_and_harms_no_other() {
    let futures = (0..4).map(|n| async move {
        let _nasty = (n == 2).then(|| Nasty);
        assert!(n != 1, "the future panics");
        n
    });
    let results = all(futures, &Context::background()).await;
    let seen: Vec<_> = results
        .into_iter()
        .map(|result| match result {
            Ok(n) => n.to_string(),
            Err(MapError::Panicked { index, panic }) => format!("{index}: {panic}"),
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert_eq!(seen, ["0", "1: the future panics", "2: a destructor panics", "3"]);
}

#[tokio::test]
async fn futures_that_were_not_started_may_panic_when_they_are_dropped() {
    let (ctx, canceller) = Context::background().child();
    canceller.stop(Duration::MAX);
    let futures = [Nasty, Nasty].map(|nasty| async move {
        let _nasty = nasty;
    });
    let results = all(futures, &ctx).await;
    assert!(results.iter().all(|result| matches!(result, Err(MapError::Stopped { .. }))));
}

#[test]
fn without_a_runtime_it_says_so_of_each() {
    watchdog(PATIENCE, "no runtime", || {
        let results = block_on(all([ready(1), ready(2)], &Context::background()));
        assert_eq!(results.len(), 2);
        assert!(results.iter().all(|result| matches!(result, Err(MapError::NoRuntime))));
    });
}

#[test]
fn a_runtime_that_is_shut_down_loses_the_futures_and_hangs_nobody() {
    watchdog(PATIENCE, "a runtime that is gone", || {
        let runtime = Builder::new_current_thread().build().unwrap();
        let futures = [std::future::pending::<()>(), std::future::pending()];
        let ctx = Context::background();
        let guard = runtime.enter();
        let mut gathering = all(futures, &ctx);
        drop(guard);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut gathering).poll(&mut cx).is_pending());
        drop(runtime);
        let results = block_on(gathering);
        assert_eq!(results.len(), 2);
        assert!(results.iter().all(|result| matches!(result, Err(MapError::Lost { .. }))));
    });
}

#[tokio::test]
async fn polled_after_it_completed_it_panics_where_it_is_polled() {
    let mut gathering = all([async { 1 }], &Context::background());
    assert_eq!((&mut gathering).await.len(), 1);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let again = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut gathering).poll(&mut cx)));
    assert_eq!(
        again.unwrap_err().downcast_ref(),
        Some(&"`All` polled after it completed"),
        "another panic"
    );
}

#[tokio::test]
async fn starting_and_gathering_many_yields() {
    let mut laps = 0;
    let gathering = all((0..10_000).map(|n: u64| async move { n }), &Context::background());
    let mut gathering = std::pin::pin!(gathering);
    let results = std::future::poll_fn(|cx| {
        laps += 1;
        gathering.as_mut().poll(cx)
    })
    .await;
    assert_eq!(results.into_iter().flatten().sum::<u64>(), 49_995_000);
    assert!(laps > 10, "{laps} polls for 10,000 futures");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// 200 cases of up to 1,000 futures: about 100,000. Each returns, panics or waits for the cancel
    /// that comes when the others are done; the results are those of a loop.
    #[test]
    fn it_is_the_same_as_a_loop(kinds in prop::collection::vec(0..20_u8, 0..1_000)) {
        let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (ctx, canceller) = Context::background().child();
        let done = Arc::new(AtomicUsize::new(0));
        let returning = kinds.iter().filter(|kind| **kind != 0).count();
        let futures = kinds.clone().into_iter().map(|kind| {
            let done = Arc::clone(&done);
            async move {
                match kind {
                    0 => std::future::pending().await,
                    1..10 => yield_now().await,
                    _ => {}
                }
                done.fetch_add(1, Relaxed);
                kind
            }
        });
        let results = runtime.block_on(async {
            let cancelling = async {
                while done.load(Relaxed) < returning {
                    yield_now().await;
                }
                canceller.cancel();
            };
            // In this order, so that all have been started when the cancel comes.
            tokio::join!(biased; all(futures, &ctx), cancelling).0
        });
        let seen: Vec<_> = results.into_iter().map(Result::ok).collect();
        let expected: Vec<_> = kinds.into_iter().map(|kind| (kind != 0).then_some(kind)).collect();
        // A value of a poll that began before the cancel is kept; one that had been counted and not
        // handed over is that.
        prop_assert_eq!(seen, expected);
    }
}
