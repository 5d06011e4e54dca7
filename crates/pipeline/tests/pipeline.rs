//! Pipelines that come to their end, or fail: order, bounds, the stop policy, sinks, the report, bad
//! input. `endings.rs` has the ends that come from outside.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{pending, ready};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};

use selvedge_cancel::{CauseKind, Context};
use selvedge_pipeline::{Order, PipelineError, Sink, from_iter, generate};
use selvedge_testkit::{block_on, watchdog};
use support::{
    Broken, Gate, LIMIT, Tally, assert_sums, counts, error_of, failed, on_each_runtime, one_thread,
    panicked, pool, until,
};
use tokio::sync::oneshot;
use tokio::task::yield_now;

const ORDERS: [Order; 2] = [Order::Ordered, Order::Unordered];

fn background() -> Context {
    Context::background()
}

// Smoke and order.

#[test]
fn fused_stages_keep_the_order_and_count_exactly() {
    let squares = from_iter(1..=10_u64)
        .named("numbers")
        .filter(|n| n % 2 == 0)
        .named("even")
        .map(|n| n * n)
        .named("square")
        .collect()
        .named("all");
    let ended = block_on(squares.run(&background()));
    assert_sums(&ended.report);
    assert_eq!(counts(&ended.report, "numbers"), [10, 10, 0, 0, 0]);
    assert_eq!(counts(&ended.report, "even"), [10, 5, 5, 0, 0]);
    assert_eq!(counts(&ended.report, "square"), [5, 5, 0, 0, 0]);
    assert_eq!(counts(&ended.report, "all"), [5, 5, 0, 0, 0]);
    assert_eq!(ended.ok().unwrap(), [4, 16, 36, 64, 100]);
}

#[test]
fn stages_that_are_not_named_have_the_name_of_their_kind_and_their_place() {
    on_each_runtime(|| async {
        let pool = pool(1);
        let line = line!() + 1;
        let stage = from_iter(0..3_u64)
            .filter(|_| true)
            .map(|n| n)
            .workers(1, Order::Ordered, |n| ready(Ok::<_, Infallible>(n)))
            .blocking(&pool, 1, Order::Ordered, |n, _| Ok::<_, Infallible>(n));
        let ended = stage.collect().run(&background()).await;
        let names: Vec<_> = ended.report.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["from_iter", "filter", "map", "workers", "blocking", "sink"]);
        for (stage, line) in ended.report.stages.iter().zip(line..) {
            assert_eq!(stage.kind, stage.name);
            assert!(stage.place.file().ends_with("pipeline.rs"));
            assert_eq!(stage.place.line(), line, "{}", stage.kind);
        }
    });
}

#[test]
fn results_keep_the_order_of_the_items_whatever_order_they_are_done_in() {
    on_each_runtime(|| async {
        let slow_first = |n: u64| async move {
            for _ in 0..(n * 7919) % 23 {
                yield_now().await;
            }
            Ok::<_, Infallible>(n)
        };
        let run = from_iter(0..300).workers(8, Order::Ordered, slow_first).collect();
        let ended = run.run(&background()).await;
        assert_sums(&ended.report);
        assert_eq!(ended.ok().unwrap(), (0..300).collect::<Vec<_>>());

        let stage = from_iter(0..300_u64).blocking(&pool(3), 6, Order::Ordered, |n, _| {
            for _ in 0..(n * 7919) % 23 {
                std::thread::yield_now();
            }
            Ok::<_, Infallible>(n)
        });
        let ended = stage.collect().run(&background()).await;
        assert_eq!(ended.ok().unwrap(), (0..300).collect::<Vec<_>>());
    });
}

#[test]
fn unordered_results_come_as_they_are_done() {
    on_each_runtime(|| async {
        // Each item is done when the one behind it has come out.
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..3).map(|_| oneshot::channel::<()>()).unzip();
        let receivers = Mutex::new(receivers.into_iter().map(Some).collect::<Vec<_>>());
        let mut senders: Vec<_> = senders.into_iter().map(Some).collect();
        let work = move |n: usize| {
            let turn = receivers.lock().unwrap().get_mut(n).and_then(Option::take);
            async move {
                if let Some(turn) = turn {
                    turn.await.unwrap();
                }
                Ok::<_, Infallible>(n)
            }
        };
        let stage = from_iter(0..4).workers(4, Order::Unordered, work).map(move |n| {
            if n > 0 {
                senders[n - 1].take().unwrap().send(()).unwrap();
            }
            n
        });
        let ended = stage.collect().run(&background()).await;
        assert_eq!(ended.ok().unwrap(), [3, 2, 1, 0]);
    });
}

// Bounds.

#[test]
fn workers_and_window_are_filled_exactly_and_never_more() {
    on_each_runtime(|| async {
        for order in ORDERS {
            for (workers, window) in [(1, 1), (1, 4), (3, 3), (3, 7)] {
                let (busy, most, started) = (Tally::default(), Tally::default(), Tally::default());
                let (b, m, s) = (busy.clone(), most.clone(), started.clone());
                let work = move |n: u64| {
                    let (busy, most, started) = (b.clone(), m.clone(), s.clone());
                    async move {
                        most.max(busy.add() + 1);
                        started.add();
                        until(|| most.get() == workers).await;
                        busy.sub();
                        Ok::<_, Infallible>(n)
                    }
                };
                let sink = Blocked::default();
                let (room, taken) = (sink.room.clone(), sink.taken.clone());
                let stage = from_iter(0..40).workers(workers, order, work).window(window);
                let (ended, ()) = tokio::join!(stage.into_sink(sink).run(&background()), async {
                    // Nothing was taken: exactly the window is filled.
                    until(|| started.get() == window).await;
                    for open in 1..=40 {
                        room.open();
                        until(|| taken.get() == open).await;
                        let under_way = started.get() - (open - 1);
                        assert!(under_way <= window + 1, "{under_way} of {window}");
                        until(|| started.get() == (window + open).min(40)).await;
                    }
                    room.open();
                });
                assert_sums(&ended.report);
                assert!(ended.error.is_none());
                assert_eq!(most.get(), workers, "all workers are used and no more");
            }
        }
    });
}

/// A sink that has room when the test says so.
#[derive(Default)]
struct Blocked {
    room: Room,
    taken: Tally,
}

/// How much room there is, and the task that waits for it.
#[derive(Clone, Default)]
struct Room(Arc<Mutex<(usize, Option<Waker>)>>);

impl Room {
    fn open(&self) {
        let waker = {
            let mut room = self.0.lock().unwrap();
            room.0 += 1;
            room.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Sink<u64> for Blocked {
    type Error = Infallible;
    type Output = ();

    fn poll_reserve(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        let mut room = self.room.0.lock().unwrap();
        if room.0 > 0 {
            return Poll::Ready(Ok(()));
        }
        room.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    fn accept(&mut self, _: u64) -> Result<(), Infallible> {
        self.room.0.lock().unwrap().0 -= 1;
        self.taken.add();
        Ok(())
    }

    fn finish(self) {}
}

#[test]
fn blocking_items_fill_the_window_exactly() {
    on_each_runtime(|| async {
        for order in ORDERS {
            let started = Tally::default();
            let tally = started.clone();
            let stage = from_iter(0..20_u64).blocking(&pool(2), 5, order, move |n, _| {
                tally.add();
                Ok::<_, Infallible>(n)
            });
            let sink = Blocked::default();
            let (room, taken) = (sink.room.clone(), sink.taken.clone());
            let (ended, ()) = tokio::join!(stage.into_sink(sink).run(&background()), async {
                until(|| started.get() == 5).await;
                for open in 1..=20 {
                    room.open();
                    until(|| taken.get() == open).await;
                    assert!(started.get() <= 5 + open);
                    until(|| started.get() == (5 + open).min(20)).await;
                }
                room.open();
            });
            assert_sums(&ended.report);
            assert!(ended.error.is_none());
        }
    });
}

// The stop policy.

#[test]
fn ordered_items_before_a_failed_one_come_out_then_the_error_then_nothing() {
    on_each_runtime(|| async {
        for workers in [1, 4] {
            let pulled = Tally::default();
            let tally = pulled.clone();
            let source = from_iter((0..1000_u64).inspect(move |_| _ = tally.add()));
            // The failed one is done long before those in front of it.
            let work = |n: u64| async move {
                if n == 20 {
                    return Err(Broken(n));
                }
                for _ in 0..20 {
                    yield_now().await;
                }
                Ok(n)
            };
            let stage = source.workers(workers, Order::Ordered, work).named("work");
            let ended = stage.collect().run(&background()).await;
            let error = error_of(&ended);
            assert_eq!(failed(error), ("work", 20));
            assert_eq!(error.downcast_ref::<Broken>(), Some(&Broken(20)));
            assert!(error.downcast_ref::<io::Error>().is_none() && error.cause().is_none());
            assert_eq!(error.to_string(), "stage work failed at item 20");
            assert_eq!(std::error::Error::source(error).unwrap().to_string(), "20 is broken");
            assert_eq!(ended.output, (0..20).collect::<Vec<_>>());
            let [entered, passed, _, failed, left] = counts(&ended.report, "work");
            assert_eq!((passed, failed, left), (20, 1, entered - 21));
            assert!(pulled.get() < 1000, "the source went on");
        }
    });
}

#[test]
fn unordered_a_failure_is_seen_as_soon_as_it_is_there() {
    on_each_runtime(|| async {
        let work = |n: u64| async move {
            match n {
                0 => pending().await,
                7 => Err(Broken(n)),
                _ => Ok(n),
            }
        };
        let stage = from_iter(0..1000).workers(2, Order::Unordered, work).named("work");
        let ended = stage.collect().run(&background()).await;
        assert_eq!(failed(error_of(&ended)), ("work", 7));
        // What had been done before is there, and what never ends was dropped.
        assert_eq!(ended.output, [1, 2, 3, 4, 5, 6]);
        assert!(counts(&ended.report, "work")[4] >= 1);
    });
}

#[test]
fn the_stop_policy_holds_for_closures() {
    on_each_runtime(|| async {
        let stage = from_iter(0..1000_u64).blocking(&pool(3), 6, Order::Ordered, |n, _| {
            if n == 20 { Err(Broken(n)) } else { Ok(n) }
        });
        let ended = stage.named("work").collect().run(&background()).await;
        assert_eq!(failed(error_of(&ended)), ("work", 20));
        assert_eq!(ended.output, (0..20).collect::<Vec<_>>());

        let (gate, pool) = (Gate::default(), pool(2));
        let held = gate.clone();
        let stage =
            from_iter(0..1000_u64).blocking(&pool, 4, Order::Unordered, move |n, _| match n {
                0 => {
                    held.wait();
                    Ok(n)
                }
                7 => Err(Broken(n)),
                _ => Ok(n),
            });
        let ended = stage.named("work").collect().run(&background()).await;
        assert_eq!(failed(error_of(&ended)), ("work", 7));
        assert_eq!(ended.output, [1, 2, 3, 4, 5, 6]);
        gate.open();
    });
}

#[test]
fn an_error_of_a_stage_goes_through_the_stages_behind_it_in_its_turn() {
    on_each_runtime(|| async {
        for (first, second) in [
            (Order::Ordered, Order::Ordered),
            (Order::Ordered, Order::Unordered),
            (Order::Unordered, Order::Ordered),
        ] {
            let fail = |n: u64| ready(if n == 30 { Err(Broken(n)) } else { Ok(n) });
            let slow = |n: u64| async move {
                for _ in 0..10 {
                    yield_now().await;
                }
                Ok::<_, Infallible>(n)
            };
            let stage = from_iter(0..1000).workers(1, first, fail).named("first");
            let stage = stage.workers(3, second, slow).named("second");
            let ended = stage.collect().run(&background()).await;
            assert_eq!(failed(error_of(&ended)), ("first", 30));
            if second == Order::Ordered {
                assert_eq!(ended.output, (0..30).collect::<Vec<_>>());
            } else {
                assert!(ended.output.iter().all(|n| *n < 30), "{:?}", ended.output);
            }
        }
    });
}

#[test]
fn the_first_of_several_failures_in_order_is_the_one_that_is_told() {
    on_each_runtime(|| async {
        let work = |n: u64| async move {
            // The later ones fail first.
            for _ in 0..(10 - n) * 5 {
                yield_now().await;
            }
            if n < 3 { Ok(n) } else { Err(Broken(n)) }
        };
        let stage = from_iter(0..10).workers(10, Order::Ordered, work).named("work");
        let ended = stage.collect().run(&background()).await;
        assert_eq!(failed(error_of(&ended)), ("work", 3));
        assert_eq!(ended.output, [0, 1, 2]);
        assert_eq!(counts(&ended.report, "work")[3], 1, "one failure came out");
    });
}

// Panics.

#[test]
fn a_panic_carries_its_stage_its_item_and_its_payload() {
    on_each_runtime(|| async {
        let at = |stage: &'static str| {
            let pool = pool(1);
            let check = move |at: &str, n: u64| assert!(stage != at || n != 3, "{at} at {n}");
            let source = (0..10_u64).inspect(move |n| check("source", *n));
            from_iter(source)
                .named("source")
                .filter(move |n| {
                    check("filter", *n);
                    true
                })
                .named("filter")
                .map(move |n| {
                    check("map", n);
                    n
                })
                .named("map")
                .workers(2, Order::Ordered, move |n| async move {
                    check("worker", n);
                    Ok::<_, Infallible>(n)
                })
                .named("worker")
                .workers(2, Order::Ordered, move |n| {
                    check("making a future", n);
                    ready(Ok::<_, Infallible>(n))
                })
                .named("making a future")
                .blocking(&pool, 2, Order::Ordered, move |n, _| {
                    check("blocking", n);
                    Ok::<_, Infallible>(n)
                })
                .named("blocking")
                .try_for_each(move |n| {
                    check("sink", n);
                    Ok::<_, Infallible>(())
                })
                .named("sink")
        };
        for stage in ["source", "filter", "map", "worker", "making a future", "blocking", "sink"] {
            let ended = at(stage).run(&background()).await;
            let error = error_of(&ended);
            assert_eq!(panicked(error), (stage, 3, format!("{stage} at 3").as_str()));
            assert_eq!(
                error.to_string(),
                format!("stage {stage} panicked at item 3: {stage} at 3")
            );
            assert_eq!(counts(&ended.report, stage)[3], 1, "{}", ended.report);
        }
    });
}

// Sinks.

#[test]
fn every_sink_leaves_what_it_took() {
    let source = || from_iter(1..=4_u64);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let see = Arc::clone(&seen);
    block_on(source().for_each(move |n| see.lock().unwrap().push(n)).run(&background()))
        .ok()
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4]);
    let sum = block_on(source().fold(0, |a, n| a + n).run(&background())).ok().unwrap();
    assert_eq!(sum, Some(10));
    let all = block_on(source().collect().run(&background())).ok().unwrap();
    assert_eq!(all, [1, 2, 3, 4]);

    let run = source().try_for_each(|n| if n == 3 { Err(Broken(n)) } else { Ok(()) });
    let ended = block_on(run.named("sink").run(&background()));
    assert_eq!(failed(error_of(&ended)), ("sink", 2));
    assert_eq!(ended.error.unwrap().downcast_ref::<Broken>(), Some(&Broken(3)));
    assert_eq!(counts(&ended.report, "sink"), [3, 2, 0, 1, 0]);
}

#[test]
fn a_fold_that_panics_leaves_nothing() {
    let run = from_iter(1..=4_u64).fold(0, |a, n| {
        assert!(n < 3, "three");
        a + n
    });
    let ended = block_on(run.named("sum").run(&background()));
    assert_eq!(panicked(error_of(&ended)), ("sum", 2, "three"));
    assert_eq!(ended.output, None);
}

/// A sink that closes: at the reserve, or at the accept.
struct Closes {
    at_reserve: bool,
    taken: Vec<u64>,
}

impl Sink<u64> for Closes {
    type Error = Broken;
    type Output = Vec<u64>;

    fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Broken>> {
        let closed = self.at_reserve && self.taken.len() == 3;
        Poll::Ready(if closed { Err(Broken(3)) } else { Ok(()) })
    }

    fn accept(&mut self, item: u64) -> Result<(), Broken> {
        if self.taken.len() == 3 {
            return Err(Broken(item));
        }
        self.taken.push(item);
        Ok(())
    }

    fn finish(self) -> Vec<u64> {
        self.taken
    }
}

#[test]
fn a_sink_that_closes_ends_the_run_and_drops_what_is_under_way() {
    on_each_runtime(|| async {
        for order in ORDERS {
            for at_reserve in [true, false] {
                let work = |n: u64| async move {
                    if n > 3 {
                        pending::<()>().await;
                    }
                    Ok::<_, Infallible>(n)
                };
                let stage = from_iter(0..).workers(2, order, work);
                let run = stage.into_sink(Closes { at_reserve, taken: Vec::new() }).named("sink");
                let ended = run.run(&background()).await;
                assert_eq!(failed(error_of(&ended)), ("sink", 3));
                assert_eq!(ended.output.len(), 3);
                let entered = if at_reserve { 3 } else { 4 };
                assert_eq!(counts(&ended.report, "sink"), [entered, 3, 0, entered - 3, 0]);
            }
        }
    });
}

#[test]
fn a_sink_that_closes_at_its_reserve_leaves_every_item_upstream() {
    let mut left = (0..10_u64).collect::<Vec<_>>().into_iter();
    let pulled = Tally::default();
    let tally = pulled.clone();
    let source = std::iter::from_fn(move || {
        tally.add();
        left.next()
    });
    let run = from_iter(source).into_sink(Closes { at_reserve: true, taken: Vec::new() });
    let ended = block_on(run.run(&background()));
    assert_eq!((ended.output.len(), pulled.get()), (3, 3));
    assert_sums(&ended.report);
}

// The report.

#[test]
fn a_report_prints_one_line_a_stage() {
    let run = from_iter(0..4_u64).named("numbers").filter(|n| *n != 2).collect().named("all");
    let ended = block_on(run.run(&background()));
    let text = ended.report.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "stage      entered     passed   filtered    skipped     failed       left"
    );
    assert_eq!(
        lines[1],
        "numbers          4          4          0          0          0          0"
    );
    assert_eq!(
        lines[2],
        "filter           4          3          1          0          0          0"
    );
    assert_eq!(
        lines[3],
        "all              3          3          0          0          0          0"
    );
    assert!(lines[4].starts_with("in 0.") && lines[4].ends_with(" s"), "{}", lines[4]);
    assert!(ended.report.stage("numbers").is_some() && ended.report.stage("nobody").is_none());
    assert_eq!(ended.report.left(), 0);
}

#[test]
fn a_description_prints_where_it_was_written() {
    let stage = from_iter(0..3).map(|n| n).named("double");
    assert_eq!(format!("{stage:?}"), "Stage { .. }");
    let ready = stage.collect().named("all");
    assert!(format!("{ready:?}").starts_with("Ready(sink all ("), "{ready:?}");
    let run = ready.run(&background());
    assert_eq!(format!("{run:?}"), "Run { .. }");
}

// Good neighbours.

#[test]
fn a_pipeline_that_is_always_ready_yields_to_other_tasks() {
    one_thread().block_on(async {
        for fused in [true, false] {
            let (ctx, canceller) = background().child();
            let ticks = RefCell::new(0_u32);
            let source = from_iter(0_u64..).filter(|n| n % 2 == 0);
            let run = match fused {
                // A filter that keeps nothing never returns to the sink.
                true => source.filter(|_| false).for_each(drop).run(&ctx),
                false => {
                    let work = |n| ready(Ok::<_, Infallible>(n));
                    source.workers(2, Order::Ordered, work).for_each(drop).run(&ctx)
                }
            };
            let other = async {
                for _ in 0..20 {
                    yield_now().await;
                    *ticks.borrow_mut() += 1;
                }
                canceller.cancel();
            };
            let (ended, ()) = tokio::join!(run, other);
            assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Cancelled);
            assert_eq!(*ticks.borrow(), 20);
        }
    });
}

#[test]
fn a_generator_over_a_clock_works_in_paused_time() {
    let runtime = one_thread();
    let ended = runtime.block_on(async {
        let stage = generate(|y| async move {
            for n in 0..5_u64 {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                y.give(n).await;
            }
            Ok::<_, Infallible>(())
        });
        let nap = |n| async move {
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
            Ok::<_, Infallible>(n)
        };
        stage.workers(5, Order::Ordered, nap).collect().run(&background()).await
    });
    assert_eq!(ended.ok().unwrap(), [0, 1, 2, 3, 4]);
}

// Bad input.

/// The name and the complaint of a stage that makes no sense.
fn bad(error: Option<PipelineError>) -> (String, String) {
    match error {
        Some(PipelineError::BadStage { stage, what }) => (stage, what),
        other => panic!("not a bad stage: {other:?}"),
    }
}

#[test]
fn stages_that_make_no_sense_are_typed_errors_and_run_nothing() {
    on_each_runtime(|| async {
        let pulled = Tally::default();
        let source = || {
            let tally = pulled.clone();
            from_iter((0..3_u64).inspect(move |_| _ = tally.add()))
        };
        let work = |n: u64| ready(Ok::<_, Infallible>(n));
        for order in ORDERS {
            let stage = source().workers(0, order, work).named("none");
            let ended = stage.collect().run(&background()).await;
            assert_sums(&ended.report);
            let error = ended.error;
            let text = error.as_ref().unwrap().to_string();
            assert_eq!(text, "pipeline not run: stage none has no workers, give it at least 1");
            assert_eq!(bad(error).0, "none");

            let stage = source().workers(4, order, work).window(3).named("narrow");
            let (stage, what) = bad(stage.collect().run(&background()).await.error);
            assert_eq!(stage, "narrow");
            assert_eq!(what, "has a window of 3 for 4 workers, give it at least one place each");

            let stage = source().workers(1, order, work).window(0);
            let (_, what) = bad(stage.collect().run(&background()).await.error);
            assert!(what.starts_with("has a window of 0 for 1 workers"), "{what}");

            let stage = source().workers(usize::MAX, order, work);
            let (_, what) = bad(stage.collect().run(&background()).await.error);
            assert!(what.starts_with("has an impossible window: "), "{what}");

            let stage = source().workers(1, order, work).window(usize::MAX);
            let (_, what) = bad(stage.collect().run(&background()).await.error);
            assert!(what.starts_with("has an impossible window: "), "{what}");

            let pool = pool(1);
            for (window, complaint) in
                [(0, "has a window of 0 for 1 workers"), (usize::MAX, "has an impossible window: ")]
            {
                let stage = source().blocking(&pool, window, order, |n, _| Ok::<_, Infallible>(n));
                let (stage, what) = bad(stage.collect().run(&background()).await.error);
                assert_eq!(stage, "blocking");
                assert!(what.starts_with(complaint), "{what}");
            }
            assert_eq!(pool.ledger().accepted, 0);
        }
        assert_eq!(pulled.get(), 0);
    });
}

#[test]
fn an_empty_source_is_a_success() {
    on_each_runtime(|| async {
        for order in ORDERS {
            let work = |n: u64| ready(Ok::<_, Infallible>(n));
            let stage = from_iter([]).workers(3, order, work);
            let stage = stage.blocking(&pool(1), 3, order, |n, _| Ok::<_, Infallible>(n));
            let ended = stage.collect().run(&background()).await;
            assert_sums(&ended.report);
            assert!(ended.ok().unwrap().is_empty());
        }
        let stage = generate(|_: selvedge_pipeline::Yielder<u64>| ready(Ok::<_, Infallible>(())));
        assert!(stage.collect().run(&background()).await.ok().unwrap().is_empty());
    });
}

#[test]
fn the_largest_window_takes_no_memory_in_advance() {
    on_each_runtime(|| async {
        let work = |n: u64| ready(Ok::<_, Infallible>(n));
        let stage = from_iter(0..3).workers(2, Order::Ordered, work).window(i32::MAX as usize);
        let ended = stage.collect().run(&background()).await;
        assert_eq!(ended.ok().unwrap(), [0, 1, 2]);
    });
}

#[test]
fn a_run_may_go_from_task_to_task() {
    // Polled by one thread, finished by another: the wakers of the first are not relied on.
    watchdog(LIMIT, "a run that moves", || {
        let runtime = support::two_threads();
        let _inside = runtime.enter();
        let gate = Gate::default();
        let held = gate.clone();
        let stage = from_iter(0..3_u64).blocking(&pool(1), 1, Order::Ordered, move |n, _| {
            held.wait();
            Ok::<_, Infallible>(n)
        });
        let mut run = stage.collect().run(&background());
        let mut first = TaskContext::from_waker(Waker::noop());
        assert!(std::pin::Pin::new(&mut run).poll(&mut first).is_pending());
        let thread = std::thread::spawn(move || block_on(run));
        gate.open();
        assert_eq!(thread.join().unwrap().ok().unwrap(), [0, 1, 2]);
    });
}
