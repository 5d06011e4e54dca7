//! Facts about `first_ok`: smoke, failures, deadline, stop, drop, panic, bad input.
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
use selvedge_fanio::{Failure, MapError, first_ok};
use selvedge_testkit::{block_on, watchdog};
use support::{Alive, Nasty};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);

/// Returns after so many seconds.
async fn after<T>(seconds: u64, result: T) -> T {
    sleep(Duration::from_secs(seconds)).await;
    result
}

#[tokio::test(start_paused = true)]
async fn the_first_success_wins_whatever_failed_before() {
    let futures =
        [after(1, Err("early")), after(3, Ok("third")), after(2, Ok("second")), after(9, Ok("?"))];
    let start = Instant::now();
    assert_eq!(first_ok(futures, &Context::background()).await.unwrap(), "second");
    assert!(start.elapsed() <= Duration::from_millis(2_002), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn when_all_have_failed_every_failure_is_told_in_the_order_of_the_futures() {
    let futures = [after(3, "slow"), after(1, "fast"), after(2, "panic")].map(|future| async {
        let error = future.await;
        assert!(error != "panic", "the future panics");
        Err::<(), _>(error)
    });
    let none = first_ok(futures, &Context::background()).await.unwrap_err();
    assert_eq!(none.to_string(), "none of 3 futures succeeded; the first: slow");
    match &none.failures[..] {
        [Failure::Returned("slow"), Failure::Returned("fast"), Failure::Ended(error)] => {
            assert_eq!(error.to_string(), "no result for item 2: panicked: the future panics");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_no_futures_none_succeeds_also_outside_a_runtime() {
    let nothing: [std::future::Ready<Result<u8, u8>>; 0] = [];
    let none = block_on(first_ok(nothing, &Context::background())).unwrap_err();
    assert!(none.failures.is_empty());
    assert_eq!(none.to_string(), "none of 0 futures succeeded");
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_who_has_not_answered_has_failed() {
    let (ctx, _canceller) = Context::background().with_timeout(Duration::from_secs(10)).unwrap();
    let start = Instant::now();
    let none = first_ok([after(20, Ok(1)), after(5, Err("no"))], &ctx).await.unwrap_err();
    assert!(start.elapsed() <= Duration::from_millis(10_002), "{:?}", start.elapsed());
    match &none.failures[..] {
        [Failure::Ended(MapError::Cancelled { index: 0, cause }), Failure::Returned("no")] => {
            assert_eq!(cause.kind(), CauseKind::Deadline);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stop_lets_what_runs_succeed() {
    let (ctx, canceller) = Context::background().child();
    let stopping = ctx.stopping_owned();
    let future = async move {
        stopping.await;
        yield_now().await;
        Ok::<_, ()>(7)
    };
    let first = tokio::spawn(first_ok([future], &ctx));
    yield_now().await;
    canceller.stop(Duration::MAX);
    assert_eq!(first.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn a_deadline_in_the_past_starts_nothing() {
    let (ctx, _canceller) = Context::background().with_timeout(Duration::ZERO).unwrap();
    let none = first_ok([ready(Ok::<u8, u8>(1)), ready(Ok(2))], &ctx).await.unwrap_err();
    assert_eq!(none.failures.len(), 2);
    for failure in none.failures {
        match failure {
            Failure::Ended(MapError::Stopped { cause, .. }) => {
                assert_eq!(cause.kind(), CauseKind::Deadline);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn starting_many_and_looking_through_their_failures_yields() {
    let mut laps = 0;
    let failing = (0..10_000_u64).map(|n| async move { Err::<(), _>(n) });
    let mut asking = std::pin::pin!(first_ok(failing, &Context::background()));
    let none = std::future::poll_fn(|cx| {
        laps += 1;
        asking.as_mut().poll(cx)
    });
    assert_eq!(none.await.unwrap_err().failures.len(), 10_000);
    assert!(laps > 10, "{laps} polls for 10,000 futures");
}

#[tokio::test]
async fn a_stop_before_it_begins_starts_nothing() {
    let (ctx, canceller) = Context::background().child();
    canceller.stop(Duration::MAX);
    let futures = [0, 1].map(|n| async move { Ok::<u8, u8>(n) });
    let none = first_ok(futures, &ctx).await.unwrap_err();
    assert_eq!(none.failures.len(), 2);
    for (n, failure) in none.failures.iter().enumerate() {
        match failure {
            Failure::Ended(MapError::Stopped { index, .. }) => assert_eq!(*index, n as u64),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_it_has_completed_the_losers_are_gone() {
    let ctx = Context::background();
    for round in 0..500 {
        let alive = Arc::new(AtomicUsize::new(0));
        let futures = (0..8).map(|n| {
            let alive = Alive::new(&alive);
            async move {
                let _alive = alive;
                for _ in 0..(n + round) % 8 {
                    yield_now().await;
                }
                if n % 2 == 0 { Ok(n) } else { Err(n) }
            }
        });
        let futures: Vec<_> = futures.collect();
        assert_eq!(first_ok(futures, &ctx).await.unwrap() % 2, 0);
        assert_eq!(alive.load(Relaxed), 0, "a loser outlives the race");
    }
}

#[tokio::test]
async fn dropping_it_ends_what_runs() {
    let alive = Arc::new(AtomicUsize::new(0));
    let futures = [(); 3].map(|()| {
        let alive = Alive::new(&alive);
        async move {
            std::future::pending::<()>().await;
            drop(alive);
            Ok::<_, ()>(())
        }
    });
    let ctx = Context::background();
    let mut first = Box::pin(first_ok(futures, &ctx));
    tokio::select! {
        biased;
        _ = &mut first => panic!("nothing returns"),
        () = yield_now() => {}
    }
    assert_eq!(alive.load(Relaxed), 3);
    drop(first);
    yield_now().await;
    assert_eq!(alive.load(Relaxed), 0);
}

/// The value of a loser, and an error that nobody gets, panic when they are dropped.
#[tokio::test]
async fn what_nobody_gets_may_panic_when_it_is_dropped() {
    let futures = [0, 1, 2].map(|n| async move {
        match n {
            0 => Err(Nasty),
            1 => Ok(None),
            _ => Ok(Some(Nasty)),
        }
    });
    let first = first_ok(futures, &Context::background()).await;
    assert!(first.unwrap().is_none(), "the value of the first that succeeded");
}

#[test]
fn without_a_runtime_all_have_failed() {
    watchdog(PATIENCE, "no runtime", || {
        let futures = [0, 1].map(|n| async move { Ok::<u8, u8>(n) });
        let none = block_on(first_ok(futures, &Context::background())).unwrap_err();
        let all = |failure: &Failure<u8>| matches!(failure, Failure::Ended(MapError::NoRuntime));
        assert!(none.failures.len() == 2 && none.failures.iter().all(all), "{none:?}");
    });
}

#[test]
fn a_runtime_that_is_shut_down_loses_the_futures_and_hangs_nobody() {
    watchdog(PATIENCE, "a runtime that is gone", || {
        let runtime = Builder::new_current_thread().build().unwrap();
        let futures = [(); 2].map(|()| std::future::pending::<Result<u8, u8>>());
        let ctx = Context::background();
        let guard = runtime.enter();
        let mut first = first_ok(futures, &ctx);
        drop(guard);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut first).poll(&mut cx).is_pending());
        drop(runtime);
        let none = block_on(first).unwrap_err();
        let all = |failure: &Failure<u8>| matches!(failure, Failure::Ended(MapError::Lost { .. }));
        assert!(none.failures.len() == 2 && none.failures.iter().all(all), "{none:?}");
    });
}

#[tokio::test]
async fn polled_after_it_completed_it_panics_where_it_is_polled() {
    let mut first = first_ok([async { Ok::<u8, u8>(1) }], &Context::background());
    assert_eq!((&mut first).await.unwrap(), 1);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let again = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut first).poll(&mut cx)));
    assert_eq!(
        again.unwrap_err().downcast_ref(),
        Some(&"`FirstOk` polled after it completed"),
        "another panic"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// 300 cases of up to 1,000 futures: about 150,000. It succeeds if one of them does, and with the
    /// value of one that does; else the failures are those of a loop.
    #[test]
    fn it_succeeds_if_one_does(
        ok in prop::collection::vec(prop::bool::weighted(0.001), 0..1_000),
        workers in 1..3_usize,
    ) {
        let runtime = Builder::new_multi_thread().worker_threads(workers).build().unwrap();
        let futures = ok.clone().into_iter().enumerate().map(|(n, ok)| async move {
            if n % 3 == 0 {
                yield_now().await;
            }
            if ok { Ok(n) } else { Err(n) }
        });
        let futures: Vec<_> = futures.collect();
        match runtime.block_on(first_ok(futures, &Context::background())) {
            Ok(n) => prop_assert!(ok[n]),
            Err(none) => {
                prop_assert!(!ok.contains(&true));
                let told = none.failures.into_iter().map(|failure| match failure {
                    Failure::Returned(n) => n,
                    Failure::Ended(error) => panic!("{error}"),
                });
                prop_assert!(told.eq(0..ok.len()));
            }
        }
    }
}
