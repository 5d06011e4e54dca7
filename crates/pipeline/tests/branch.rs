//! Facts about branches: smoke, order, capacity, stop, cancel, failure, panic, bad input, and a
//! property test.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_cancel::{CauseKind, Context};
use selvedge_pipeline::{Ended, Order, PipelineError, Report, Route, Sink, from_iter, generate};
use selvedge_testkit::{PanickingWaker, block_on, watchdog};
use support::{
    Bomb, Broken, LIMIT, OnDrop, Tally, alive, cause_of, counts, failed, on_each_runtime,
    one_thread, panicked, settle, shut_down_under, two_threads, under_what_is_gone, until,
};
use tokio::task::yield_now;

/// Every stage's counts add up, and the lanes were given what the branch passed on.
#[track_caller]
fn assert_sums(report: &Report) {
    assert!(report.adds_up(), "{report}");
    let lanes = report.stages.iter().filter(|stage| stage.kind == "lane");
    let entered: u64 = lanes.map(|lane| lane.entered).sum();
    assert_eq!(report.stage("branch").unwrap().passed, entered, "{report}");
}

/// The error of a run that did not come to its end, whose counts add up.
#[track_caller]
fn error_of<O>(ended: &Ended<O>) -> &PipelineError {
    assert_sums(&ended.report);
    ended.error.as_ref().expect("it ended early")
}

fn by_parity() -> Route<u64> {
    Route::by_index(|n: &u64| (*n % 2) as usize)
}

#[test]
fn each_item_goes_through_the_stages_of_its_lane() {
    on_each_runtime(|| async {
        let ended = from_iter(0..100_u64)
            .branch(2, by_parity(), |lane, numbers| match lane {
                0 => numbers.map(|n| (n, "even")).boxed(),
                _ => numbers
                    .workers(3, Order::Unordered, |n| async move {
                        yield_now().await;
                        Ok::<_, Infallible>((n, "odd"))
                    })
                    .boxed(),
            })
            .collect()
            .run(&Context::background())
            .await;
        assert_sums(&ended.report);
        assert_eq!(counts(&ended.report, "branch"), [100, 100, 0, 0, 0]);
        assert_eq!(counts(&ended.report, "lane 1"), [50, 50, 0, 0, 0]);
        let mut all = ended.ok().unwrap();
        all.sort_unstable();
        let expected = (0..100).map(|n| (n, if n % 2 == 0 { "even" } else { "odd" }));
        assert!(all.into_iter().eq(expected));
    });
}

#[test]
fn the_items_of_a_key_keep_their_order_and_several_keys_run_at_once() {
    on_each_runtime(|| async {
        let (running, most) = (Tally::default(), Tally::default());
        let ended = from_iter(0..400_u64)
            .branch(4, Route::by_key(|n: &u64| n % 8), {
                let (running, most) = (running.clone(), most.clone());
                move |_, numbers| {
                    let (running, most) = (running.clone(), most.clone());
                    numbers.workers(1, Order::Ordered, move |n| {
                        let (running, most) = (running.clone(), most.clone());
                        async move {
                            most.max(running.add() + 1);
                            for _ in 0..n % 3 {
                                yield_now().await;
                            }
                            running.sub();
                            Ok::<_, Infallible>(n)
                        }
                    })
                }
            })
            .collect()
            .run(&Context::background())
            .await;
        assert_sums(&ended.report);
        let mut last = HashMap::new();
        let all = ended.ok().unwrap();
        assert_eq!(all.len(), 400);
        for n in all {
            assert!(last.insert(n % 8, n) < Some(n), "key {} is out of order at {n}", n % 8);
        }
        assert!((2..=4).contains(&most.get()), "{most:?} lanes ran at once");
    });
}

#[test]
fn lanes_that_share_one_queue_take_what_is_there() {
    on_each_runtime(|| async {
        let ended = from_iter(0..100_u64)
            .branch(2, Route::shared(), |lane, numbers| {
                numbers.workers(1, Order::Ordered, move |n| async move {
                    // The first is stuck with its first.
                    if lane == 0 {
                        for _ in 0..10_000 {
                            yield_now().await;
                        }
                    }
                    Ok::<_, Infallible>(n)
                })
            })
            .collect()
            .run(&Context::background())
            .await;
        assert_sums(&ended.report);
        assert_eq!(ended.report.stage("branch").unwrap().passed, 100);
        let slow = counts(&ended.report, "lane 0")[0];
        assert!(slow < 50, "the slow lane took {slow}");
        let mut all = ended.ok().unwrap();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..100));
    });
}

#[test]
fn no_more_waits_before_a_lane_than_its_capacity() {
    on_each_runtime(|| async {
        let made = Tally::default();
        let (ctx, canceller) = Context::background().child();
        let run = from_iter((0_u64..).inspect({
            let made = made.clone();
            move |_| _ = made.add()
        }))
        .branch(1, Route::shared(), |_, numbers| {
            numbers.workers(1, Order::Ordered, |_| pending::<Result<u64, Infallible>>()).window(1)
        })
        .capacity(5)
        .collect()
        .run(&ctx);
        let looking = async {
            settle().await;
            until(|| made.get() >= 7).await;
            settle().await;
            // One under way, five before the lane, one that the feed holds.
            assert_eq!(made.get(), 7);
            canceller.cancel();
        };
        let (ended, ()) = tokio::join!(run, looking);
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
        assert_eq!(ended.report.left(), 7);
    });
}

#[test]
fn a_stop_finishes_what_came_before_the_branch_and_what_lies_in_its_lanes() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let made = Tally::default();
        let slow = |n: u64| async move {
            for _ in 0..n % 4 {
                yield_now().await;
            }
            Ok::<_, Infallible>(n)
        };
        let taken = Tally::default();
        let run = from_iter((0_u64..).inspect({
            let made = made.clone();
            move |_| _ = made.add()
        }))
        .workers(4, Order::Unordered, slow)
        .branch(2, by_parity(), move |_, numbers| numbers.workers(2, Order::Ordered, slow))
        .for_each({
            let taken = taken.clone();
            move |_| {
                if taken.add() == 30 {
                    canceller.stop(Duration::MAX);
                }
            }
        });
        let ended = run.run(&ctx).await;
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Stopped);
        assert_eq!(taken.get(), made.get(), "begun and not delivered");
        assert_eq!(ended.report.left(), 0);
    });
}

#[test]
fn a_cancel_leaves_what_lies_in_the_lanes_and_counts_it() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let drops = Tally::default();
        let taken = Tally::default();
        let run = from_iter((0..100_u64).map({
            let drops = drops.clone();
            move |n| (n, OnDrop(drops.clone()))
        }))
        .branch(2, Route::by_index(|item: &(u64, _)| (item.0 % 2) as usize), |_, items| items)
        .for_each({
            let taken = taken.clone();
            move |_| {
                if taken.add() == 9 {
                    canceller.cancel();
                }
            }
        });
        let ended = run.run(&ctx).await;
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
        let [entered, passed, .., left] = counts(&ended.report, "branch");
        assert_eq!((passed, left), (10, entered - 10));
        assert_eq!(drops.get() as u64, entered, "each item was dropped once");
    });
}

/// Panics when it is dropped, also when the thread unwinds.
struct Nasty;

impl Drop for Nasty {
    fn drop(&mut self) {
        panic!("an item's destructor");
    }
}

#[test]
fn items_that_a_cancel_leaves_may_panic_when_they_are_dropped() {
    on_each_runtime(|| async {
        let nasty = |made: &Tally| {
            let made = made.clone();
            let items = (0_u64..).map(move |n| {
                made.add();
                (n, Nasty)
            });
            from_iter(items).branch(2, Route::round_robin(), |_, items| items).capacity(4)
        };

        let (ctx, canceller) = Context::background().child();
        let (made, taken) = (Tally::default(), Tally::default());
        let run = nasty(&made).for_each({
            let taken = taken.clone();
            move |item| {
                std::mem::forget(item);
                if taken.add() == 9 {
                    // There is one more, somewhere.
                    while made.get() <= 10 {
                        std::thread::yield_now();
                    }
                    canceller.cancel();
                }
            }
        });
        let ended = run.run(&ctx).await;
        assert_eq!(panicked(error_of(&ended)).2, "an item's destructor");
        assert_eq!(taken.get(), 10);

        // Nobody finds them: the lanes are not asked again.
        let (ctx, canceller) = Context::background().child();
        let made = Tally::default();
        let run = nasty(&made).into_sink(NoRoom).run(&ctx);
        let cancel = async {
            // In both lanes, and one that waits for room.
            until(|| made.get() == 9).await;
            canceller.cancel();
        };
        let (ended, ()) = tokio::join!(run, cancel);
        assert_eq!(panicked(error_of(&ended)).2, "an item's destructor");
    });
}

#[test]
fn a_failure_before_a_branch_goes_before_what_a_cancel_drops() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let broken = Tally::default();
        let breaks = broken.clone();
        let run = from_iter((0_u64..).map(|n| (n, Some(Nasty))))
            .try_map(move |(n, nasty)| {
                if n < 12 {
                    return Ok(nasty);
                }
                std::mem::forget(nasty);
                breaks.add();
                Err(Broken(n))
            })
            .named("breaks")
            .branch(2, Route::round_robin(), |_, items| items)
            .for_each(move |nasty| {
                std::mem::forget(nasty);
                while broken.get() == 0 {
                    std::thread::yield_now();
                }
                canceller.cancel();
            });
        let ended = run.run(&ctx).await;
        assert_eq!(failed(error_of(&ended)), ("breaks", 12));
    });
}

/// A sink that never has room.
struct NoRoom;

impl<T> Sink<T> for NoRoom {
    type Error = Infallible;
    type Output = ();

    fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn accept(&mut self, _: T) -> Result<(), Infallible> {
        unreachable!("there is no room")
    }

    fn finish(self) {}
}

#[test]
fn a_cancel_that_comes_too_late_to_lose_anything_changes_nothing() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let (taken, drops) = (Tally::default(), Tally::default());
        let held = OnDrop(drops.clone());
        let source = (0..10_u64).inspect(move |_| _ = &held);
        let run = from_iter(source).branch(2, by_parity(), |_, numbers| numbers).for_each({
            let taken = taken.clone();
            move |_| {
                if taken.add() == 9 {
                    // The feed has seen the end of the source.
                    while drops.get() == 0 {
                        std::thread::yield_now();
                    }
                    canceller.cancel();
                }
            }
        });
        let ended = run.run(&ctx).await;
        assert_sums(&ended.report);
        assert!(ended.error.is_none(), "{:?}", ended.error);
    });
}

#[test]
fn a_failure_in_a_lane_ends_the_run_and_no_other_lane_gets_its_items() {
    on_each_runtime(|| async {
        for _ in 0..50 {
            let ended = from_iter(0_u64..)
                .branch(2, by_parity(), |lane, numbers| {
                    numbers
                        .workers(2, Order::Unordered, move |n: u64| async move {
                            assert_eq!(n % 2, lane as u64, "an item of the other lane");
                            if n == 21 { Err(Broken(n)) } else { Ok(n) }
                        })
                        .named(if lane == 0 { "evens" } else { "odds" })
                })
                .collect()
                .run(&Context::background())
                .await;
            assert_sums(&ended.report);
            assert_eq!(failed(ended.error.as_ref().unwrap()), ("odds", 10));
        }
    });
}

#[test]
fn a_failure_of_what_comes_before_goes_on_behind_what_came_before_it() {
    on_each_runtime(|| async {
        let ended = from_iter(0_u64..)
            .try_map(|n| if n == 20 { Err(Broken(n)) } else { Ok(n) })
            .named("breaks")
            .branch(2, by_parity(), |_, numbers| {
                numbers.workers(1, Order::Ordered, |n| async move {
                    yield_now().await;
                    Ok::<_, Infallible>(n)
                })
            })
            .collect()
            .run(&Context::background())
            .await;
        assert_eq!(failed(error_of(&ended)), ("breaks", 20));
        let mut all = ended.output;
        all.sort_unstable();
        assert!(all.into_iter().eq(0..20));
    });
}

#[test]
fn a_route_to_no_lane_fails_behind_what_came_before() {
    on_each_runtime(|| async {
        let ended = from_iter(0_u64..)
            .branch(2, Route::by_index(|n| (*n / 10) as usize), |_, numbers| numbers)
            .named("by tens")
            .collect()
            .run(&Context::background())
            .await;
        assert!(ended.report.adds_up());
        let error = ended.error.unwrap();
        assert_eq!(failed(&error), ("by tens", 20));
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "the route names a lane that is not there");
        assert_eq!(counts(&ended.report, "by tens"), [21, 20, 0, 1, 0]);
        let mut all = ended.output;
        all.sort_unstable();
        assert!(all.into_iter().eq(0..20));
    });
}

#[test]
fn a_route_that_panics_ends_the_run_behind_what_came_before() {
    on_each_runtime(|| async {
        let route = Route::by_index(|n: &u64| {
            assert!(*n != 5, "no way for five");
            0
        });
        let ended = from_iter(0_u64..)
            .branch(1, route, |_, numbers| numbers)
            .collect()
            .run(&Context::background())
            .await;
        assert_sums(&ended.report);
        assert_eq!(panicked(ended.error.as_ref().unwrap()), ("branch", 5, "no way for five"));
        assert_eq!(ended.output, [0, 1, 2, 3, 4]);
    });
}

#[test]
fn stages_that_cannot_be_made_and_destructors_that_panic_are_told() {
    on_each_runtime(|| async {
        let ended = from_iter(0..3_u64)
            .branch(2, by_parity(), |lane, numbers| {
                assert!(lane == 0, "no stages for the second lane");
                numbers
            })
            .collect()
            .run(&Context::background())
            .await;
        assert_eq!(panicked(&ended.error.unwrap()).2, "no stages for the second lane");

        let mut bomb = Some(Bomb("a lane's closure"));
        let ended = from_iter(0..4_u64)
            .branch(2, by_parity(), move |_, numbers| {
                let bomb = bomb.take();
                numbers.map(move |n| {
                    let _bomb = &bomb;
                    n
                })
            })
            .collect()
            .run(&Context::background())
            .await;
        assert_eq!(panicked(error_of(&ended)), ("branch", 4, "a lane's closure"));
        assert_eq!(ended.output.len(), 4);
    });
}

#[test]
fn a_failure_before_a_branch_goes_before_the_panic_of_a_destructor() {
    on_each_runtime(|| async {
        // Before the branch, in the lane that ends first, in the one that ends last.
        for place in 0..3 {
            let mut bomb = Some(Bomb("a closure's destructor"));
            let before = bomb.take_if(|_| place == 0);
            let ended = from_iter(0_u64..)
                .try_map(move |n| {
                    let _captured = &before;
                    if n == 4 { Err(Broken(n)) } else { Ok(n) }
                })
                .named("breaks")
                .branch(2, by_parity(), move |lane, numbers| {
                    let bomb = bomb.take_if(|_| lane + 1 == place);
                    numbers.map(move |n| {
                        let _captured = &bomb;
                        n
                    })
                })
                .collect()
                .run(&Context::background())
                .await;
            assert_sums(&ended.report);
            assert_eq!(failed(ended.error.as_ref().unwrap()), ("breaks", 4), "place {place}");
        }
    });
}

#[test]
fn a_route_to_no_lane_goes_before_the_panic_of_a_destructor() {
    on_each_runtime(|| async {
        let bomb = Bomb("a closure's destructor");
        let ended = from_iter(0_u64..)
            .map(move |n| {
                let _captured = &bomb;
                (n, Nasty)
            })
            .branch(2, Route::by_index(|item: &(u64, _)| (item.0 / 4) as usize), |_, items| items)
            .for_each(std::mem::forget)
            .run(&Context::background())
            .await;
        assert!(ended.report.adds_up());
        assert_eq!(failed(ended.error.as_ref().unwrap()), ("branch", 8));
        assert_eq!(counts(&ended.report, "branch"), [9, 8, 0, 1, 0]);
    });
}

/// Waits, when it is dropped, until something else was.
struct After(Tally);

impl Drop for After {
    fn drop(&mut self) {
        while self.0.get() == 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn what_lies_in_a_lane_that_failed_is_left_and_no_failure_of_the_route() {
    watchdog(LIMIT, "a lane that fails", || {
        two_threads().block_on(async {
            let (made, source_gone) = (Tally::default(), Tally::default());
            let held = OnDrop(source_gone.clone());
            let count = made.clone();
            let source = (0_u64..).inspect(move |_| {
                let _captured = &held;
                count.add();
            });
            let ended = from_iter(source)
                .branch(1, Route::shared(), move |_, numbers| {
                    // Dropped behind the lane's outlet: the feed has seen that it is gone.
                    let after = After(source_gone.clone());
                    let made = made.clone();
                    numbers
                        .try_map(move |n| {
                            let _captured = &after;
                            // Something is to lie in the lane.
                            while n == 3 && made.get() < 6 {
                                std::thread::yield_now();
                            }
                            if n == 3 { Err(Broken(n)) } else { Ok(n) }
                        })
                        .named("breaks")
                })
                .collect()
                .run(&Context::background())
                .await;
            assert_sums(&ended.report);
            assert_eq!(failed(ended.error.as_ref().unwrap()), ("breaks", 3));
            let [entered, passed, .., failed, left] = counts(&ended.report, "branch");
            assert_eq!((passed, failed, left), (4, 0, entered - 4));
        });
    });
}

#[test]
fn a_lane_that_was_thrown_away_is_not_there() {
    on_each_runtime(|| async {
        let ended = from_iter(0..10_u64)
            .branch(2, by_parity(), |lane, numbers| match lane {
                0 => numbers.boxed(),
                _ => from_iter([100]).boxed(),
            })
            .collect()
            .run(&Context::background())
            .await;
        assert_eq!(failed(ended.error.as_ref().unwrap()), ("branch", 1));
        assert!(ended.output.contains(&0) && ended.output.contains(&100));

        let ended = from_iter(0..10_u64)
            .branch(2, Route::round_robin(), |lane, _thrown_away| from_iter([lane as u64]))
            .collect()
            .run(&Context::background())
            .await;
        assert_eq!(failed(ended.error.as_ref().unwrap()), ("branch", 0));
        assert_eq!(counts(&ended.report, "branch"), [0; 5]);
        assert_eq!(ended.output, [0, 1]);
    });
}

#[test]
fn a_runtime_that_was_shut_down_before_is_a_typed_error() {
    watchdog(LIMIT, "a run under a runtime that is gone", || {
        let stage = from_iter(0..3_u64).branch(2, by_parity(), |_, numbers| numbers);
        let ended = under_what_is_gone(stage.collect());
        assert!(matches!(ended.error, Some(PipelineError::NoRuntime)), "{:?}", ended.error);
    });
}

#[test]
fn a_runtime_that_is_shut_down_underneath_is_a_typed_error() {
    watchdog(LIMIT, "a run whose runtime was shut down", || {
        let runtime = two_threads();
        let taken = Tally::default();
        let count = taken.clone();
        let stage = generate(|y| async move {
            for n in 0..4_u64 {
                y.give(n).await;
            }
            pending::<Result<(), Infallible>>().await
        });
        let stage = stage.branch(2, by_parity(), |_, numbers| numbers).map(move |n| {
            count.add();
            n
        });
        let mut ended = shut_down_under(runtime, stage.collect(), || taken.get() >= 4);
        assert_sums(&ended.report);
        assert!(matches!(ended.error, Some(PipelineError::NoRuntime)), "{:?}", ended.error);
        ended.output.sort_unstable();
        assert_eq!(ended.output, [0, 1, 2, 3]);
    });
}

#[test]
fn a_destructor_that_panics_with_its_runtime_is_told() {
    watchdog(LIMIT, "a run whose runtime was shut down", || {
        for stages in 1..=2 {
            let runtime = two_threads();
            let started = Tally::default();
            let count = started.clone();
            let bomb = Bomb("a closure's destructor");
            let stage = generate(|y| async move {
                y.give(0_u64).await;
                pending::<Result<(), Infallible>>().await
            });
            let stage = stage.map(move |n| {
                let _captured = &bomb;
                count.add();
                n
            });
            let mut stage = stage.boxed();
            for _ in 0..stages {
                let work = |n: u64| async move { Ok::<_, Infallible>(n) };
                stage = stage.workers(1, Order::Ordered, work).boxed();
            }
            let ended = shut_down_under(runtime, stage.collect(), || started.get() > 0);
            assert!(ended.report.adds_up());
            let (_, _, message) = panicked(ended.error.as_ref().unwrap());
            assert_eq!(message, "a closure's destructor", "{stages}");
        }
    });
}

#[test]
fn a_waker_that_panics_harms_no_branch() {
    watchdog(LIMIT, "a branch whose end is awaited by a waker that panics", || {
        let runtime = one_thread();
        let mut run = {
            let _inside = runtime.enter();
            // No lane takes anything, so all that is waited for is the end of the feed.
            let branch = from_iter(0..10_u64).branch(2, Route::round_robin(), |_, _| from_iter([]));
            branch.for_each(|n: u64| panic!("{n} came out")).run(&Context::background())
        };
        let waker = PanickingWaker::new();
        let polled = {
            let _inside = runtime.enter();
            Pin::new(&mut run).poll(&mut TaskContext::from_waker(&waker.waker()))
        };
        assert!(polled.is_pending());
        runtime.block_on(settle());
        assert_eq!(waker.wakes(), 1);
        let ended = runtime.block_on(run);
        assert_eq!(failed(ended.error.as_ref().unwrap()), ("branch", 0));
        assert_eq!(alive(runtime.handle()), 0);
    });
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    on_each_runtime(|| async {
        for (lanes, capacity, what) in [
            (0, 4, "0 consumers, it must be 1 to 65535"),
            (65_536, 4, "65536 consumers, it must be 1 to 65535"),
            (2, 0, "a capacity of 0, it must be 1 to 2147483647"),
        ] {
            let ended = from_iter(0..3_u64)
                .branch(lanes, Route::shared(), |_, numbers| numbers)
                .capacity(capacity)
                .collect()
                .run(&Context::background())
                .await;
            let error = ended.error.unwrap();
            assert!(matches!(error, PipelineError::BadStage { .. }), "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
    });
}

#[test]
fn outside_a_runtime_it_says_so() {
    watchdog(LIMIT, "no runtime", || {
        let ended = from_iter(0..3_u64).branch(2, Route::shared(), |_, numbers| numbers).collect();
        let ended = block_on(ended.run(&Context::background()));
        assert!(matches!(ended.error, Some(PipelineError::NoRuntime)), "{:?}", ended.error);
    });
}

#[test]
fn a_sink_that_rests_does_not_keep_the_workers_of_the_lanes_from_working() {
    on_each_runtime(|| async {
        let done = Tally::default();
        let mut items = from_iter(0..100_u64)
            .branch(2, by_parity(), {
                let done = done.clone();
                move |_, numbers| {
                    let done = done.clone();
                    numbers
                        .workers(1, Order::Ordered, move |n| {
                            let done = done.clone();
                            async move {
                                done.add();
                                Ok::<_, Infallible>(n)
                            }
                        })
                        .window(4)
                }
            })
            .into_stream(&Context::background());
        // Read once, and then no more: the windows of the lanes fill all the same.
        let first = std::future::poll_fn(|cx| {
            futures_core::Stream::poll_next(std::pin::Pin::new(&mut items), cx)
        });
        first.await.unwrap().unwrap();
        until(|| done.get() >= 8).await;
        drop(items);
        settle().await;
    });
}

#[test]
fn dropping_the_run_leaves_nothing_behind() {
    on_each_runtime(|| async {
        let drops = Tally::default();
        let held = OnDrop(drops.clone());
        let source = generate(move |y| async move {
            let _held = held;
            for n in 0..3_u64 {
                y.give(n).await;
            }
            pending::<Result<(), Infallible>>().await
        });
        let taken = Tally::default();
        let run = source.branch(2, by_parity(), |_, numbers| numbers).for_each({
            let taken = taken.clone();
            move |_| _ = taken.add()
        });
        let mut run = Box::pin(run.run(&Context::background()));
        tokio::select! {
            biased;
            _ = &mut run => panic!("the source does not end"),
            () = until(|| taken.get() == 3) => {}
        }
        drop(run);
        until(|| drops.get() == 1).await;
    });
}

/// What becomes of an item.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Pass,
    Yield,
    Filter,
    Fail,
    Stop,
    Cancel,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        400 => Just(Fate::Pass),
        100 => Just(Fate::Yield),
        100 => Just(Fate::Filter),
        1 => Just(Fate::Fail),
        1 => Just(Fate::Stop),
        1 => Just(Fate::Cancel),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// 200 cases of up to 1,000 items, each through six hands: more than 100,000 operations. Whatever
    /// ends the run, every item is accounted for, in its own lane, in its lane's order; and without an
    /// early end it is the same as a loop.
    #[test]
    fn every_item_is_accounted_for(
        fates in prop::collection::vec(fate(), 0..1_000),
        lanes in 1..5_usize,
        capacity in 1..20_usize,
        fused in any::<bool>(),
    ) {
        let (ctx, canceller) = Context::background().child();
        let of = fates.clone();
        let ended = two_threads().block_on(
            from_iter(0..fates.len())
                .branch(lanes, Route::by_index(move |n| n % lanes), move |lane, items| {
                    let of = of.clone();
                    let items = items.filter(move |n| {
                        assert_eq!(n % lanes, lane, "an item of another lane");
                        !matches!(of[*n], Fate::Filter)
                    });
                    if fused {
                        return items.map(Ok::<_, Broken>).boxed();
                    }
                    items
                        .workers(2, Order::Ordered, |n| async move {
                            yield_now().await;
                            Ok::<_, Infallible>(Ok(n))
                        })
                        .boxed()
                })
                .capacity(capacity)
                .try_map({
                    let of = fates.clone();
                    move |n| {
                        let n = n?;
                        match of[n] {
                            Fate::Fail => return Err(Broken(n as u64)),
                            Fate::Stop => canceller.stop(Duration::MAX),
                            Fate::Cancel => canceller.cancel(),
                            Fate::Yield => std::thread::yield_now(),
                            Fate::Pass | Fate::Filter => {}
                        }
                        Ok(n)
                    }
                })
                .collect()
                .run(&ctx),
        );
        assert_sums(&ended.report);
        for lane in 0..lanes {
            let of_lane = ended.output.iter().filter(|n| **n % lanes == lane);
            prop_assert!(of_lane.is_sorted(), "lane {lane} is out of order");
        }
        let kept = |n: &usize| !matches!(fates[*n], Fate::Filter);
        if ended.error.is_none() {
            let mut all = ended.output;
            all.sort_unstable();
            prop_assert!(all.into_iter().eq((0..fates.len()).filter(kept)));
        } else {
            let ends = |fate: &Fate| matches!(fate, Fate::Fail | Fate::Stop | Fate::Cancel);
            prop_assert!(fates.iter().any(ends), "{:?}", ended.error);
        }
    }
}
