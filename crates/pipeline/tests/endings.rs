//! How a run ends before its source does: stop, cancel, deadline, a pool or a runtime that goes, a
//! destructor that panics. In every one of them the counts add up and no task is left.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::convert::Infallible;
use std::error::Error;
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{CauseKind, Context};
use selvedge_pipeline::{Order, PipelineError, Sink, from_iter, generate};
use selvedge_pool::Pool;
use selvedge_testkit::{block_on, watchdog};
use support::{
    Bomb, Broken, Gate, LIMIT, OnDrop, Tally, alive, assert_sums, cause_of, counts, error_of,
    failed, message_of, on_each_runtime, one_thread, panicked, pool, settle, shut_down_under,
    two_threads, under_what_is_gone, until,
};
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;

const ORDERS: [Order; 2] = [Order::Ordered, Order::Unordered];

// Stop.

#[test]
fn a_stop_drains_everything_that_was_accepted() {
    on_each_runtime(|| async {
        for order in ORDERS {
            let (ctx, canceller) = Context::background().child();
            let made = Tally::default();
            let source = made.clone();
            let stage = from_iter((0_u64..).inspect(move |_| _ = source.add()));
            let slow = |n| async move {
                for _ in 0..n % 7 {
                    yield_now().await;
                }
                Ok::<_, Infallible>(n)
            };
            let taken = Tally::default();
            let run = stage.workers(3, order, slow).for_each({
                let taken = taken.clone();
                move |_| {
                    if taken.add() == 20 {
                        canceller.stop(Duration::MAX);
                    }
                }
            });
            let ended = run.run(&ctx).await;
            assert_eq!(cause_of(error_of(&ended)), CauseKind::Stopped);
            assert_eq!(taken.get(), made.get(), "accepted and not delivered");
            assert_eq!(ended.report.left(), 0);
        }
    });
}

#[test]
fn a_stop_drains_a_blocking_stage_too() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let stage =
            from_iter(0_u64..).blocking(&pool(2), 4, Order::Ordered, |n, _| Ok::<_, Infallible>(n));
        let stop = move |n: &u64| {
            if *n == 9 {
                canceller.stop(Duration::MAX);
            }
            true
        };
        let ended = stage.filter(stop).collect().run(&ctx).await;
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Stopped);
        let made = ended.report.stage("from_iter").unwrap().entered;
        assert_eq!(ended.output, (0..made).collect::<Vec<_>>());
        assert_eq!(ended.report.left(), 0);
    });
}

// Cancel.

#[test]
fn finished_items_behind_an_unfinished_one_come_out_in_order_when_cancelled() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let done = Tally::default();
        let work = {
            let done = done.clone();
            move |n: u64| {
                let done = done.clone();
                async move {
                    if n == 2 || n == 5 {
                        pending::<()>().await;
                    }
                    done.add();
                    Ok::<_, Infallible>(n)
                }
            }
        };
        let run =
            from_iter(0..8).workers(8, Order::Ordered, work).named("work").collect().run(&ctx);
        let cancel = async {
            until(|| done.get() == 6).await;
            canceller.cancel();
        };
        let (ended, ()) = tokio::join!(run, cancel);
        assert_eq!(ended.output, [0, 1, 3, 4, 6, 7]);
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
        assert_eq!(counts(&ended.report, "work"), [8, 6, 0, 0, 2]);
    });
}

#[test]
fn a_cancel_after_the_source_has_ended_is_no_success() {
    on_each_runtime(|| async {
        for order in ORDERS {
            // The driver has fed everything and waits for its tasks.
            let (ctx, canceller) = Context::background().child();
            let (done, exhausted) = (Tally::default(), Tally::default());
            let (tally, end) = (done.clone(), exhausted.clone());
            let work = move |n: u64| {
                let tally = tally.clone();
                async move {
                    if n == 1 {
                        pending::<()>().await;
                    }
                    tally.add();
                    Ok::<_, Infallible>(n)
                }
            };
            let source = from_iter((0..3).chain(std::iter::from_fn(move || {
                end.add();
                None
            })));
            let run = source.workers(3, order, work).named("work").collect().run(&ctx);
            let (ended, ()) = tokio::join!(run, async {
                until(|| done.get() == 2 && exhausted.get() == 1).await;
                canceller.cancel();
            });
            assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
            assert_sums(&ended.report);
            let mut taken = ended.output;
            taken.sort_unstable();
            assert_eq!(taken, [0, 2]);
            assert_eq!(counts(&ended.report, "work"), [3, 2, 0, 0, 1]);

            // The same with closures, one of which does not look at its context.
            let (ctx, canceller) = Context::background().child();
            let (started, gate) = (Tally::default(), Gate::default());
            let (tally, held) = (started.clone(), gate.clone());
            let stage = from_iter(0..3).blocking(&pool(3), 3, order, move |n: u64, _| {
                tally.add();
                if n == 1 {
                    held.wait();
                }
                Ok::<_, Infallible>(n)
            });
            let run = stage.named("work").collect().run(&ctx);
            let (ended, ()) = tokio::join!(run, async {
                until(|| started.get() == 3).await;
                canceller.cancel();
            });
            gate.open();
            assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
            assert!(!ended.output.contains(&1), "{:?}", ended.output);
        }
    });
}

#[test]
fn a_cancel_after_everything_was_delivered_changes_nothing() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let taken = Tally::default();
        let tally = taken.clone();
        let run = from_iter(0..3).workers(3, Order::Ordered, |n| ready(Ok::<_, Infallible>(n)));
        let ended = run
            .for_each(move |_| {
                if tally.add() == 2 {
                    canceller.cancel();
                }
            })
            .run(&ctx)
            .await;
        // Whether the driver had seen the end of its source by then is its affair; nothing is lost.
        assert_sums(&ended.report);
        assert_eq!((taken.get(), ended.report.left()), (3, 0));
    });
}

#[test]
fn a_context_cancelled_before_the_run_ends_it_with_nothing_pulled() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        canceller.cancel();
        let pulled = Tally::default();
        let source = || {
            let pulled = pulled.clone();
            from_iter((0_u64..).inspect(move |_| _ = pulled.add()))
        };
        let ended = source().map(|n| n).collect().run(&ctx).await;
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
        for order in ORDERS {
            let work = |n| ready(Ok::<_, Infallible>(n));
            let ended = source().workers(2, order, work).collect().run(&ctx).await;
            assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
            let ended = source().blocking(&pool(1), 2, order, |n, _| Ok::<_, Infallible>(n));
            let ended = ended.collect().run(&ctx).await;
            assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
        }
        let polled = Tally::default();
        let body = polled.clone();
        let ended = generate(move |y| async move {
            body.add();
            y.give(1).await;
            Ok::<_, Infallible>(())
        });
        let ended = ended.collect().run(&ctx).await;
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
        assert_eq!((pulled.get(), polled.get()), (0, 0));
    });
}

#[test]
fn a_deadline_ends_the_run() {
    watchdog(LIMIT, "a deadline", || {
        let runtime = one_thread();
        runtime.block_on(async {
            let (ctx, _keep) = Context::background().with_timeout(Duration::from_secs(5)).unwrap();
            let work = |n: u64| async move {
                tokio::time::sleep(Duration::from_secs(2 * n)).await;
                Ok::<_, Infallible>(n)
            };
            let run = from_iter(0..6).workers(6, Order::Ordered, work).named("work").collect();
            let start = tokio::time::Instant::now();
            let ended = run.run(&ctx).await;
            assert_eq!(start.elapsed(), Duration::from_secs(5), "the clock is paused");
            assert_eq!(cause_of(error_of(&ended)), CauseKind::Deadline);
            assert_eq!(ended.output, [0, 1, 2]);
            assert_eq!(counts(&ended.report, "work"), [6, 3, 0, 0, 3]);
        });
        assert_eq!(alive(runtime.handle()), 0);
    });
}

/// A sink that has room for so many, and then never again.
struct Full {
    room: usize,
    taken: Vec<u64>,
    waiting: Tally,
}

impl Sink<u64> for Full {
    type Error = Infallible;
    type Output = Vec<u64>;

    fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        if self.taken.len() < self.room {
            return Poll::Ready(Ok(()));
        }
        self.waiting.add();
        Poll::Pending
    }

    fn accept(&mut self, item: u64) -> Result<(), Infallible> {
        self.taken.push(item);
        Ok(())
    }

    fn finish(self) -> Vec<u64> {
        self.taken
    }
}

#[test]
fn a_cancel_ends_the_wait_for_a_sink_without_room_and_loses_no_item() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let (waiting, pulled) = (Tally::default(), Tally::default());
        let sink = Full { room: 3, taken: Vec::new(), waiting: waiting.clone() };
        let source = {
            let pulled = pulled.clone();
            from_iter((0..).inspect(move |_| _ = pulled.add()))
        };
        let run = source.into_sink(sink).run(&ctx);
        let (ended, ()) = tokio::join!(run, async {
            until(|| waiting.get() > 0).await;
            canceller.cancel();
        });
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
        assert_eq!(ended.output, [0, 1, 2]);
        assert_eq!(pulled.get(), 3, "an item was pulled without room");

        // With workers, what is finished and has no room is counted as left.
        let (ctx, canceller) = Context::background().child();
        let (waiting, started) = (Tally::default(), Tally::default());
        let sink = Full { room: 3, taken: Vec::new(), waiting: waiting.clone() };
        let tally = started.clone();
        let work = move |n| {
            tally.add();
            ready(Ok::<_, Infallible>(n))
        };
        let stage = from_iter(0..).workers(2, Order::Ordered, work).window(4).named("work");
        let (ended, ()) = tokio::join!(stage.into_sink(sink).run(&ctx), async {
            until(|| waiting.get() > 0 && started.get() == 7).await;
            canceller.cancel();
        });
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
        assert_eq!(ended.output, [0, 1, 2]);
        assert_eq!(counts(&ended.report, "work")[1..], [3, 0, 0, 4]);
    });
}

// Blocking closures.

#[test]
fn a_closure_that_ignores_the_cancel_does_not_hold_up_the_end_and_is_counted_as_left() {
    on_each_runtime(|| async {
        for order in ORDERS {
            let (ctx, canceller) = Context::background().child();
            let (gate, started, pool) = (Gate::default(), Tally::default(), pool(1));
            let stage = {
                let (gate, started) = (gate.clone(), started.clone());
                from_iter(0..3).blocking(&pool, 3, order, move |n: u64, _| {
                    started.add();
                    gate.wait();
                    Ok::<_, Infallible>(n)
                })
            };
            let run = stage.named("stuck").collect().run(&ctx);
            let (ended, ()) = tokio::join!(run, async {
                until(|| started.get() == 1).await;
                canceller.cancel();
            });
            assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
            let [entered, passed, _, _, left] = counts(&ended.report, "stuck");
            assert_eq!((passed, left), (0, entered), "{}", ended.report);
            gate.open();
            pool.drain().await;
            assert_eq!(started.get(), 1, "a closure was called though nobody waits for it");
        }
    });
}

#[test]
fn dropping_the_run_cancels_the_context_that_closures_look_at() {
    watchdog(LIMIT, "a closure that looks at its context", || {
        let pool = pool(1);
        two_threads().block_on(async {
            let started = Tally::default();
            let tally = started.clone();
            let stage = from_iter(0..3).blocking(&pool, 3, Order::Ordered, move |_: u64, ctx| {
                tally.add();
                while ctx.check().is_ok() {
                    thread::yield_now();
                }
                Ok::<_, Infallible>(())
            });
            let run = stage.collect().run(&Context::background());
            tokio::select! {
                _ = run => panic!("nobody ended it"),
                () = until(|| started.get() > 0) => {}
            }
            // The drain ends only if the closure does.
            let ledger = pool.drain().await;
            assert_eq!(ledger.finished, ledger.accepted);
        });
    });
}

#[test]
fn aborting_the_pool_under_a_run_cancels_closures_that_look_at_their_context() {
    on_each_runtime(|| async {
        for order in ORDERS {
            let (pool, started) = (pool(1), Tally::default());
            let tally = started.clone();
            let stage = generate(|y| async move {
                y.give(1).await;
                y.give(2).await;
                // Nothing more is submitted, and nothing ends by itself.
                pending::<Result<(), Infallible>>().await
            });
            let stage = stage.blocking(&pool, 2, order, move |n: u64, ctx| {
                if n == 2 {
                    tally.add();
                    while ctx.check().is_ok() {
                        thread::yield_now();
                    }
                }
                Ok::<_, Infallible>(n)
            });
            let run = stage.named("stage").collect().run(&Context::background());
            let (ended, ledger) = tokio::join!(run, async {
                until(|| started.get() == 1).await;
                pool.abort();
                pool.wait().await
            });
            let PipelineError::PoolClosed { stage, .. } = error_of(&ended) else {
                panic!("{:?}", ended.error)
            };
            assert_eq!(stage, "stage");
            assert_eq!(ended.output[0], 1);
            assert!(ledger.finished >= 1);
        }
    });
}

#[test]
fn jobs_that_an_aborted_pool_drops_end_the_run() {
    on_each_runtime(|| async {
        for order in ORDERS {
            let (gate, started, pool) = (Gate::default(), Tally::default(), pool(1));
            let (held, tally) = (gate.clone(), started.clone());
            let stage = from_iter(0..9).blocking(&pool, 4, order, move |n: u64, _| {
                tally.add();
                held.wait();
                Ok::<_, Infallible>(n)
            });
            let run = stage.named("stage").collect().run(&Context::background());
            let (ended, ()) = tokio::join!(run, async {
                until(|| started.get() == 1 && pool.ledger().accepted == 4).await;
                pool.abort();
                gate.open();
            });
            assert!(matches!(error_of(&ended), PipelineError::PoolClosed { .. }));
            assert_eq!(started.get(), 1);
        }
    });
}

#[test]
fn a_pool_that_is_stopping_ends_the_run_after_what_it_had_accepted() {
    on_each_runtime(|| async {
        let pool = pool(2);
        let stage = from_iter(0..)
            .blocking(&pool, 4, Order::Ordered, |n: u64, _| Ok::<_, Infallible>(n))
            .named("stage");
        let stopper = Arc::clone(&pool);
        let stop = move |n: &u64| {
            if *n == 10 {
                stopper.stop();
            }
            true
        };
        let ended = stage.filter(stop).collect().run(&Context::background()).await;
        let error = error_of(&ended);
        let PipelineError::PoolClosed { stage, index } = error else { panic!("{error:?}") };
        assert_eq!((stage.as_str(), *index), ("stage", ended.output.len() as u64));
        assert_eq!(
            error.to_string(),
            format!("stage stage lost item {index}: its pool was shut down")
        );
        assert_eq!(ended.output, (0..*index).collect::<Vec<_>>());
        assert_eq!(pool.drain().await.accepted, *index);
    });
}

#[test]
fn a_pool_under_the_same_context_does_not_hide_its_cause() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let pool = Arc::new(Pool::builder().workers(1).build(&ctx).unwrap());
        let started = Tally::default();
        let tally = started.clone();
        let stage = from_iter(0..).blocking(&pool, 1, Order::Ordered, move |n: u64, ctx| {
            tally.add();
            while ctx.check().is_ok() {
                thread::yield_now();
            }
            Ok::<_, Infallible>(n)
        });
        let (ended, ()) = tokio::join!(stage.collect().run(&ctx), async {
            until(|| started.get() == 1).await;
            canceller.cancel();
        });
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
    });
}

// Dropping the run.

#[test]
fn dropping_the_run_leaves_no_task_and_drops_every_item_once() {
    for runtime in [one_thread(), two_threads()] {
        watchdog(LIMIT, "tasks after the drop of a run", move || {
            let (made, drops) = (Tally::default(), Tally::default());
            runtime.block_on(async {
                let source = {
                    let (made, drops) = (made.clone(), drops.clone());
                    (0..).inspect(move |_| _ = made.add()).map(move |_| OnDrop(drops.clone()))
                };
                let slow = |item| async {
                    pending::<()>().await;
                    Ok::<_, Infallible>(item)
                };
                let pass = |item| ready(Ok::<_, Infallible>(item));
                let stage = from_iter(source).workers(2, Order::Ordered, pass).workers(
                    3,
                    Order::Unordered,
                    slow,
                );
                let run = stage.collect().run(&Context::background());
                tokio::select! {
                    _ = run => panic!("nobody ended it"),
                    () = async { until(|| made.get() >= 6).await; settle().await } => {}
                }
                let runtime = tokio::runtime::Handle::current();
                until(|| alive(&runtime) == 0).await;
            });
            assert_eq!(made.get(), drops.get());
        });
    }
}

#[test]
fn a_run_that_is_never_polled_starts_nothing() {
    let runtime = one_thread();
    let drops = Tally::default();
    runtime.block_on(async {
        let item = OnDrop(drops.clone());
        let stage = from_iter([item]).workers(1, Order::Ordered, |n| ready(Ok::<_, Infallible>(n)));
        let run = stage.collect().run(&Context::background());
        settle().await;
        drop(run);
        assert_eq!(alive(&tokio::runtime::Handle::current()), 0);
    });
    assert_eq!(drops.get(), 1);
}

// Runtimes.

#[test]
fn a_stage_with_workers_outside_a_runtime_is_a_typed_error() {
    let work = |n: u64| ready(Ok::<_, Infallible>(n));
    let stage = from_iter(0..3).workers(1, Order::Ordered, work);
    let ended = block_on(stage.collect().run(&Context::background()));
    assert!(matches!(error_of(&ended), PipelineError::NoRuntime));
    assert_eq!(
        error_of(&ended).to_string(),
        "pipeline not run: stages with workers need a tokio runtime, run it inside one"
    );
    let stage =
        from_iter(0..3).blocking(&pool(1), 1, Order::Ordered, |n: u64, _| Ok::<_, Infallible>(n));
    let ended = block_on(stage.collect().run(&Context::background()));
    assert!(matches!(error_of(&ended), PipelineError::NoRuntime));
}

#[test]
fn fused_stages_need_no_runtime() {
    let ended = block_on(from_iter(0..5).map(|n| n * 2).collect().run(&Context::background()));
    assert_eq!(ended.ok().unwrap(), [0, 2, 4, 6, 8]);
}

#[test]
fn a_runtime_that_is_shut_down_underneath_is_a_typed_error() {
    watchdog(LIMIT, "a run whose runtime was shut down", || {
        for order in ORDERS {
            let runtime = two_threads();
            let started = Tally::default();
            let tally = started.clone();
            let work = move |n: u64| {
                tally.add();
                async move {
                    if n > 2 {
                        pending::<()>().await;
                    }
                    Ok::<_, Infallible>(n)
                }
            };
            let stage = from_iter(0..).workers(2, order, work).named("work");
            let mut ended = shut_down_under(runtime, stage.collect(), || started.get() >= 5);
            assert!(matches!(error_of(&ended), PipelineError::NoRuntime), "{:?}", ended.error);
            ended.output.sort_unstable();
            assert_eq!(ended.output, [0, 1, 2]);
        }
    });
}

#[test]
fn a_runtime_that_was_shut_down_before_is_a_typed_error() {
    watchdog(LIMIT, "a run under a runtime that is gone", || {
        let work = |n: u64| ready(Ok::<_, Infallible>(n));
        let stage = from_iter(0..3).workers(1, Order::Ordered, work);
        let ended = under_what_is_gone(stage.collect());
        assert!(matches!(error_of(&ended), PipelineError::NoRuntime), "{:?}", ended.error);
    });
}

// Destructors and conversions that panic.

#[test]
fn a_destructor_of_the_source_that_panics_is_reported_and_nothing_is_lost() {
    struct Source(u64, #[expect(dead_code, reason = "for its destructor")] Bomb);
    impl Iterator for Source {
        type Item = u64;
        fn next(&mut self) -> Option<u64> {
            self.0 += 1;
            (self.0 <= 20).then_some(self.0)
        }
    }
    on_each_runtime(|| async {
        let source = || from_iter(Source(0, Bomb("the source's destructor")));
        let all: Vec<_> = (1..=20).collect();
        let work = |n| async move {
            yield_now().await;
            Ok::<_, Infallible>(n)
        };

        let fused = source().collect().named("sink").run(&Context::background()).await;
        assert_eq!(panicked(error_of(&fused)), ("sink", 20, "the source's destructor"));
        assert_eq!(fused.output, all);

        let stage = source().workers(3, Order::Ordered, work).named("work");
        let ended = stage.collect().run(&Context::background()).await;
        assert_eq!(panicked(error_of(&ended)), ("work", 20, "the source's destructor"));
        assert_eq!(ended.output, all);

        let stage = source().blocking(&pool(2), 3, Order::Ordered, |n, _| Ok::<_, Infallible>(n));
        let ended = stage.named("work").collect().run(&Context::background()).await;
        assert_eq!(panicked(error_of(&ended)), ("work", 20, "the source's destructor"));
        assert_eq!(ended.output, all);
    });
}

#[test]
fn a_destructor_that_panics_before_the_run_has_begun_is_an_error_too() {
    let bomb = Bomb("the closure's destructor");
    let stage = from_iter(0..9_u64).map(move |n| {
        let _captured = &bomb;
        n
    });
    let stage = stage.named("map").workers(0, Order::Ordered, |n| ready(Ok::<_, Infallible>(n)));
    let ended = block_on(stage.collect().run(&Context::background()));
    // Told as one of the stage that was built last.
    assert_eq!(panicked(error_of(&ended)), ("workers", 0, "the closure's destructor"));
    // The same where the stages are built, and their tasks cannot be started.
    let bomb = Bomb("the closure's destructor");
    let stage = from_iter(0..9_u64).workers(1, Order::Ordered, |n| ready(Ok::<_, Infallible>(n)));
    let stage = stage.map(move |n| {
        let _captured = &bomb;
        n
    });
    let ended = block_on(stage.named("map").collect().run(&Context::background()));
    assert_eq!(panicked(error_of(&ended)), ("map", 0, "the closure's destructor"));
}

#[test]
fn a_failure_is_not_hidden_by_a_destructor_that_panics_behind_it() {
    on_each_runtime(|| async {
        let bomb = Bomb("the closure's destructor");
        let run = from_iter(0..9_u64).map(move |n| {
            let _captured = &bomb;
            n
        });
        let run = run.try_for_each(|n| if n == 4 { Err(Broken(n)) } else { Ok(()) });
        let ended = run.named("sink").run(&Context::background()).await;
        assert_eq!(failed(error_of(&ended)), ("sink", 4));
    });
}

#[test]
fn a_destructor_that_panics_goes_before_the_end_of_the_context() {
    on_each_runtime(|| async {
        for workers in [false, true] {
            let (ctx, canceller) = Context::background().child();
            let bomb = Bomb("the closure's destructor");
            let stage = from_iter(0..).map(move |n: u64| {
                let _captured = &bomb;
                if n == 4 {
                    canceller.cancel();
                }
                n
            });
            let ended = if workers {
                let work = |n| ready(Ok::<_, Infallible>(n));
                stage.workers(1, Order::Ordered, work).collect().run(&ctx).await
            } else {
                stage.collect().run(&ctx).await
            };
            let (_, _, message) = panicked(error_of(&ended));
            assert_eq!(message, "the closure's destructor");
        }
    });
}

#[test]
fn a_future_whose_destructor_panics_on_a_cancel_leaves_no_task() {
    on_each_runtime(|| async {
        for order in ORDERS {
            let (ctx, canceller) = Context::background().child();
            let started = Tally::default();
            let tally = started.clone();
            let work = move |n: u64| {
                let tally = tally.clone();
                async move {
                    let _bomb = (n == 1).then(|| Bomb("the future's destructor"));
                    tally.add();
                    pending::<()>().await;
                    Ok::<_, Infallible>(n)
                }
            };
            let run = from_iter(0..3).workers(3, order, work).named("work").collect().run(&ctx);
            let (ended, ()) = tokio::join!(run, async {
                until(|| started.get() == 3).await;
                canceller.cancel();
            });
            assert_eq!(panicked(error_of(&ended)), ("work", 1, "the future's destructor"));
            assert_eq!(counts(&ended.report, "work"), [3, 0, 0, 1, 2]);
        }
    });
}

#[test]
fn a_result_whose_destructor_panics_when_it_is_left_is_reported() {
    struct Nothing(Tally);
    impl Sink<Bomb> for Nothing {
        type Error = Infallible;
        type Output = ();
        fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
            self.0.add();
            Poll::Pending
        }
        fn accept(&mut self, _: Bomb) -> Result<(), Infallible> {
            Ok(())
        }
        fn finish(self) {}
    }
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let waiting = Tally::default();
        let started = Tally::default();
        let tally = started.clone();
        let work = move |_: u64| {
            tally.add();
            ready(Ok::<_, Infallible>(Bomb("the result's destructor")))
        };
        let stage = from_iter(0..1).workers(1, Order::Ordered, work).named("work");
        let run = stage.into_sink(Nothing(waiting.clone())).run(&ctx);
        let (ended, ()) = tokio::join!(run, async {
            until(|| waiting.get() > 0 && started.get() == 1).await;
            canceller.cancel();
        });
        // Dropped with the window, or by its task if it came too late for the window.
        let (_, _, message) = panicked(error_of(&ended));
        assert_eq!(message, "the result's destructor");
        assert_eq!(counts(&ended.report, "work"), [1, 0, 0, 0, 1]);
    });
}

/// Panics when it is turned into a boxed error.
#[derive(Debug)]
struct Fickle;

impl From<Fickle> for Box<dyn Error + Send + Sync> {
    fn from(_: Fickle) -> Self {
        panic!("the error's conversion")
    }
}

#[test]
fn a_conversion_of_an_error_that_panics_is_a_panic_of_its_item() {
    on_each_runtime(|| async {
        for order in ORDERS {
            let work = |n: u64| ready(if n == 3 { Err(Fickle) } else { Ok(n) });
            let stage = from_iter(0..9).workers(1, order, work).named("work");
            let ended = stage.collect().run(&Context::background()).await;
            assert_eq!(panicked(error_of(&ended)), ("work", 3, "the error's conversion"));
            assert_eq!(ended.output, [0, 1, 2]);

            let work = |n: u64, _: &Context| if n == 3 { Err(Fickle) } else { Ok(n) };
            let stage = from_iter(0..9).blocking(&pool(1), 2, order, work).named("work");
            let ended = stage.collect().run(&Context::background()).await;
            assert_eq!(panicked(error_of(&ended)), ("work", 3, "the error's conversion"));
            assert_eq!(ended.output, [0, 1, 2]);
        }
        let source = generate(|y| async move {
            y.give(7).await;
            Err(Fickle)
        });
        let ended = source.named("source").collect().run(&Context::background()).await;
        assert_eq!(panicked(error_of(&ended)), ("source", 1, "the error's conversion"));
        assert_eq!(ended.output, [7]);

        let run = from_iter(0..9).try_for_each(|n| if n == 3 { Err(Fickle) } else { Ok(()) });
        let ended = run.named("sink").run(&Context::background()).await;
        let (stage, _, message) = panicked(error_of(&ended));
        assert_eq!((stage, message), ("sink", "the error's conversion"));
    });
}

// Sinks that panic where there is no item.

/// Panics at the place that is named.
struct Panics(&'static str, Vec<u64>);

impl Sink<u64> for Panics {
    type Error = Infallible;
    type Output = Vec<u64>;

    fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        assert!(self.0 != "reserve" || self.1.len() < 2, "reserve");
        Poll::Ready(Ok(()))
    }

    fn accept(&mut self, item: u64) -> Result<(), Infallible> {
        assert!(self.0 != "accept" || self.1.len() < 2, "accept");
        self.1.push(item);
        Ok(())
    }

    fn finish(self) -> Vec<u64> {
        assert!(self.0 != "finish", "finish");
        self.1
    }
}

#[test]
fn a_sink_that_panics_ends_the_run_with_its_name_and_what_it_took() {
    on_each_runtime(|| async {
        for (at, sink) in [("reserve", [2, 2, 0, 0, 0]), ("accept", [3, 2, 0, 1, 0])] {
            let work = |n| ready(Ok::<_, Infallible>(n));
            let stage = from_iter(0..).workers(2, Order::Ordered, work);
            let run = stage.into_sink(Panics(at, Vec::new())).named("sink");
            let ended = run.run(&Context::background()).await;
            assert_eq!(panicked(error_of(&ended)), ("sink", 2, at));
            assert_eq!(ended.output, [0, 1]);
            assert_eq!(counts(&ended.report, "sink"), sink);
        }
    });
}

#[test]
fn a_sink_that_panics_at_its_end_does_so_after_every_task_has_ended() {
    watchdog(LIMIT, "a sink that panics at its end", || {
        let runtime = one_thread();
        let work = |n| ready(Ok::<_, Infallible>(n));
        let stage = from_iter(0..9).workers(2, Order::Ordered, work);
        let run = stage.into_sink(Panics("finish", Vec::new())).run(&Context::background());
        assert_eq!(message_of(AssertUnwindSafe(|| runtime.block_on(run))), "finish");
        assert_eq!(alive(runtime.handle()), 0);
    });
}

// A stage that is never driven would hang here.

#[test]
fn two_stages_that_share_a_fair_lock_do_not_deadlock_while_the_sink_is_blocked() {
    on_each_runtime(|| async {
        for order in ORDERS {
            // The lock of tokio is fair: it is handed to the next in line, who must be polled.
            let lock = Arc::new(tokio::sync::Mutex::new(()));
            let (first, second) = (Arc::clone(&lock), lock);
            let stage = from_iter(0..200_u64)
                .workers(4, order, move |n| {
                    let lock = Arc::clone(&first);
                    async move {
                        let _held = lock.lock().await;
                        yield_now().await;
                        Ok::<_, Infallible>(n)
                    }
                })
                .workers(4, order, move |n| {
                    let lock = Arc::clone(&second);
                    async move {
                        let _held = lock.lock().await;
                        yield_now().await;
                        Ok::<_, Infallible>(n)
                    }
                });
            let sink = Slow { permits: Arc::new(Semaphore::new(0)), wait: None, taken: Vec::new() };
            let permits = Arc::clone(&sink.permits);
            let run = stage.into_sink(sink).run(&Context::background());
            let (ended, ()) = tokio::join!(run, async {
                // One more: the end is seen when there is room for what might have come.
                for _ in 0..=200 {
                    // Blocked for a while after each item: nobody polls the window.
                    settle().await;
                    eprintln!("permit");
                    permits.add_permits(1);
                }
            });
            assert_sums(&ended.report);
            assert!(ended.error.is_none());
            let mut taken = ended.output;
            taken.sort_unstable();
            assert_eq!(taken, (0..200).collect::<Vec<_>>());
        }
    });
}

/// A sink that takes an item for each permit of a semaphore.
struct Slow {
    permits: Arc<Semaphore>,
    wait: Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
    taken: Vec<u64>,
}

impl Sink<u64> for Slow {
    type Error = Infallible;
    type Output = Vec<u64>;

    fn poll_reserve(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        let permits = Arc::clone(&self.permits);
        let wait = self.wait.get_or_insert_with(|| {
            Box::pin(async move { permits.acquire().await.unwrap().forget() })
        });
        if wait.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // Reserved until `accept`; asked again, it says so again.
        self.wait = Some(Box::pin(ready(())));
        Poll::Ready(Ok(()))
    }

    fn accept(&mut self, item: u64) -> Result<(), Infallible> {
        self.wait = None;
        eprintln!("took {item}");
        self.taken.push(item);
        Ok(())
    }

    fn finish(self) -> Vec<u64> {
        self.taken
    }
}

#[test]
fn work_goes_on_while_the_sink_takes_nothing() {
    on_each_runtime(|| async {
        let done = Tally::default();
        let tally = done.clone();
        let work = move |n: u64| {
            let tally = tally.clone();
            async move {
                settle().await;
                tally.add();
                Ok::<_, Infallible>(n)
            }
        };
        let waiting = Tally::default();
        let sink = Full { room: 0, taken: Vec::new(), waiting: waiting.clone() };
        let (ctx, canceller) = Context::background().child();
        let run =
            from_iter(0..).workers(3, Order::Ordered, work).window(5).into_sink(sink).run(&ctx);
        let (ended, ()) = tokio::join!(run, async {
            // The whole window is worked off though the sink took none.
            until(|| done.get() == 5).await;
            canceller.cancel();
        });
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
    });
}

// A failure while others are under way.

#[test]
fn work_in_flight_is_cancelled_and_counted_when_an_item_fails() {
    on_each_runtime(|| async {
        let gate = Arc::new(Notify::new());
        let started = Tally::default();
        let (tally, notify) = (started.clone(), Arc::clone(&gate));
        let work = move |n: u64| {
            let (tally, notify) = (tally.clone(), Arc::clone(&notify));
            async move {
                tally.add();
                match n {
                    0 => Ok(n),
                    1 => {
                        notify.notified().await;
                        Err(Broken(n))
                    }
                    _ => pending().await,
                }
            }
        };
        let stage = from_iter(0..).workers(4, Order::Ordered, work).named("work");
        let (ended, ()) = tokio::join!(stage.collect().run(&Context::background()), async {
            until(|| started.get() == 5).await;
            gate.notify_one();
        });
        assert_eq!(failed(error_of(&ended)), ("work", 1));
        assert_eq!(ended.output, [0]);
        assert_eq!(counts(&ended.report, "work"), [5, 1, 0, 1, 3]);
    });
}

#[test]
fn a_panic_of_a_worker_keeps_its_payload() {
    let runtime = one_thread();
    let ended = runtime.block_on(async {
        let work = |n: u64| async move {
            if n == 2 {
                std::panic::panic_any(42_i32);
            }
            Ok::<_, Infallible>(n)
        };
        let stage = from_iter(0..9).workers(1, Order::Ordered, work).named("work");
        stage.collect().run(&Context::background()).await
    });
    assert_sums(&ended.report);
    let Some(PipelineError::Panicked { stage, index, panic }) = ended.error else {
        panic!("it panicked")
    };
    assert_eq!((stage.as_str(), index), ("work", 2));
    let payload = catch_unwind(AssertUnwindSafe(|| panic.resume())).unwrap_err();
    assert_eq!(*payload.downcast::<i32>().unwrap(), 42);
}
