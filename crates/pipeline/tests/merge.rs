//! Facts about merged pipelines: smoke, order, stop, cancel, failure, panic, drop.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::convert::Infallible;
use std::future::{pending, ready};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use selvedge_cancel::{CauseKind, Context};
use selvedge_pipeline::{
    Boxed, Ended, Order, PipelineError, Sink, Stage, from_iter, from_stream, generate,
};
use selvedge_testkit::block_on;
use support::{
    Bomb, Broken, OnDrop, Tally, cause_of, counts, failed, on_each_runtime, panicked, settle, until,
};
use tokio::task::yield_now;

/// The error of a run that did not come to its end, whose counts add up.
#[track_caller]
fn error_of<O>(ended: &Ended<O>) -> &PipelineError {
    assert!(ended.report.adds_up(), "{}", ended.report);
    ended.error.as_ref().expect("it ended early")
}

#[test]
fn every_item_of_all_comes_out_and_those_of_one_in_their_order() {
    let evens = from_iter((0..2_000_u64).step_by(2));
    let odds = [1, 3].map(|first| from_iter((first..2_000).step_by(4)).map(|n| n));
    let merged = evens.merge(odds).collect();
    // No task is needed, nor a runtime.
    let ended = block_on(merged.run(&Context::background()));
    assert!(ended.report.adds_up());
    assert_eq!(counts(&ended.report, "merge"), [2_000, 2_000, 0, 0, 0]);
    let all = ended.ok().unwrap();
    for (rest, modulus) in [(0, 2), (1, 4), (3, 4)] {
        let of_one: Vec<_> = all.iter().filter(|n| **n % modulus == rest).collect();
        assert_eq!(of_one.len() as u64, 2_000 / modulus);
        assert!(of_one.is_sorted(), "{of_one:?}");
    }
}

#[test]
fn merged_with_nothing_it_is_what_it_was() {
    let nobody: [Stage<Boxed<u8>>; 0] = [];
    let ended = block_on(from_iter(0..3).merge(nobody).collect().run(&Context::background()));
    assert_eq!(ended.ok().unwrap(), [0, 1, 2]);
}

#[test]
fn pipelines_with_workers_run_beside_each_other_and_behind_workers() {
    on_each_runtime(|| async {
        let work = |n: u64| async move {
            for _ in 0..n % 5 {
                yield_now().await;
            }
            Ok::<_, Infallible>(n)
        };
        let first = from_iter(0..300).workers(3, Order::Unordered, work);
        let second = from_iter(300..600).workers(2, Order::Ordered, work);
        let merged = first.merge([second]).workers(2, Order::Ordered, work).collect();
        let ended = merged.run(&Context::background()).await;
        assert!(ended.report.adds_up(), "{}", ended.report);
        let mut all = ended.ok().unwrap();
        let second: Vec<_> = all.iter().copied().filter(|n| *n >= 300).collect();
        assert!(second.is_sorted());
        all.sort_unstable();
        assert!(all.into_iter().eq(0..600));
    });
}

#[test]
fn the_first_to_have_nothing_waits_for_the_others() {
    on_each_runtime(|| async {
        let (sender, receiver) = async_channel::bounded(1);
        let run =
            from_stream(receiver).merge([from_iter([7])]).collect().run(&Context::background());
        let sending = async {
            settle().await;
            sender.send(8).await.unwrap();
            drop(sender);
        };
        let (ended, ()) = tokio::join!(run, sending);
        assert_eq!(ended.ok().unwrap(), [7, 8]);
    });
}

#[test]
fn a_stop_finishes_what_each_of_them_has_begun() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let made = Tally::default();
        let source = |made: Tally| from_iter((0_u64..).inspect(move |_| _ = made.add()));
        let slow = |n| async move {
            yield_now().await;
            Ok::<_, Infallible>(n)
        };
        let first = source(made.clone()).workers(3, Order::Ordered, slow);
        let taken = Tally::default();
        let run =
            first.merge([source(made.clone()).workers(2, Order::Unordered, slow)]).for_each({
                let taken = taken.clone();
                move |_| {
                    if taken.add() == 50 {
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
fn a_cancel_ends_all_of_them() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let never = |n: u64| async move {
            if n > 0 {
                pending::<()>().await;
            }
            Ok::<_, Infallible>(n)
        };
        let source = || from_iter(0..10).workers(2, Order::Unordered, never);
        let taken = Tally::default();
        let run = source().merge([source()]).for_each({
            let taken = taken.clone();
            move |_| _ = taken.add()
        });
        let cancel = async {
            until(|| taken.get() == 2).await;
            canceller.cancel();
        };
        let (ended, ()) = tokio::join!(run.run(&ctx), cancel);
        assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
        assert_eq!(taken.get(), 2);
    });
}

#[test]
fn a_failure_in_one_ends_them_all_at_once() {
    on_each_runtime(|| async {
        // The other one never ends by itself.
        let stuck =
            from_stream(async_channel::bounded::<u64>(1).1).merge([generate(|y| async move {
                y.give(1).await;
                pending::<Result<(), Infallible>>().await
            })]);
        let failing =
            from_iter(0..).try_map(|n| if n == 3 { Err(Broken(n)) } else { Ok(n) }).named("breaks");
        let ended = stuck.merge([failing]).collect().run(&Context::background()).await;
        assert!(ended.report.adds_up(), "{}", ended.report);
        assert_eq!(failed(ended.error.as_ref().unwrap()), ("breaks", 3));
    });
}

#[test]
fn a_failure_that_stops_the_others_is_what_is_told() {
    on_each_runtime(|| async {
        // Ordered, the failure waits for the item before it; meanwhile the other's source stops.
        let (open, gate) = async_channel::bounded::<()>(1);
        let work = move |n: u64| {
            let gate = gate.clone();
            async move {
                if n == 0 {
                    _ = gate.recv().await;
                }
                if n == 1 { Err(Broken(n)) } else { Ok(n) }
            }
        };
        let failing = from_iter(0..).workers(2, Order::Ordered, work).named("breaks");
        let other = generate(|y| async move {
            for n in 100.. {
                y.give(n).await;
                yield_now().await;
            }
            Ok::<_, Infallible>(())
        });
        let run = failing.merge([other]).collect().run(&Context::background());
        let opening = async {
            settle().await;
            drop(open);
        };
        let (ended, ()) = tokio::join!(run, opening);
        assert!(ended.report.adds_up(), "{}", ended.report);
        assert_eq!(failed(ended.error.as_ref().unwrap()), ("breaks", 1));
        assert!(ended.output.contains(&0), "what came before the failure");
    });
}

#[test]
fn a_destructor_of_a_stage_that_panics_is_told_behind_all_items() {
    on_each_runtime(|| async {
        let ended = armed().merge([from_iter(3..6)]).collect().run(&Context::background()).await;
        assert!(ended.report.adds_up(), "{}", ended.report);
        let mut all = ended.output;
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        let error = ended.error.unwrap();
        assert_eq!(panicked(&error), ("merge", 3, "a closure's destructor"));
    });
}

/// Three numbers, and a destructor that panics behind them.
fn armed() -> Stage<Boxed<u64>> {
    let bomb = Bomb("a closure's destructor");
    let armed = from_iter(0..3).map(move |n| {
        let _bomb = &bomb;
        n
    });
    armed.boxed()
}

#[test]
fn a_destructor_that_panics_at_the_end_of_the_last_one_hides_nothing() {
    on_each_runtime(|| async {
        let merged = || from_iter([3]).merge([armed()]);
        let ctx = Context::background();
        let ended = merged().collect().run(&ctx).await;
        let error = ended.error.unwrap();
        assert_eq!(panicked(&error), ("merge", 4, "a closure's destructor"));
        assert_eq!(ended.output, [3, 0, 1, 2]);

        let work = |n: u64| ready(Ok::<_, Infallible>(n));
        let ended = merged().workers(1, Order::Ordered, work).collect().run(&ctx).await;
        assert_eq!(panicked(&ended.error.unwrap()).2, "a closure's destructor");
        assert_eq!(ended.output, [3, 0, 1, 2]);

        let ended = merged().batch(100, Duration::MAX).collect().run(&ctx).await;
        assert_eq!(panicked(&ended.error.unwrap()).2, "a closure's destructor");
        assert_eq!(ended.output, [[3, 0, 1, 2]], "the batch in hand");
    });
}

/// A sink with room for four.
struct Four(Vec<u64>);

impl Sink<u64> for Four {
    type Error = Infallible;
    type Output = Vec<u64>;

    fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        if self.0.len() < 4 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn accept(&mut self, item: u64) -> Result<(), Infallible> {
        self.0.push(item);
        Ok(())
    }

    fn finish(self) -> Vec<u64> {
        self.0
    }
}

#[test]
fn a_destructor_that_panicked_goes_before_a_cancel_that_comes_later() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        // Three items, the end of the first, whose closure goes, and one more; then there is no room.
        let run = armed().merge([from_iter(3_u64..)]).into_sink(Four(Vec::new())).run(&ctx);
        let cancel = async {
            settle().await;
            canceller.cancel();
        };
        let (ended, ()) = tokio::join!(run, cancel);
        assert_eq!(panicked(&ended.error.unwrap()).2, "a closure's destructor");
        assert_eq!(ended.output, [0, 1, 2, 3]);
    });
}

#[test]
fn dropping_the_run_drops_every_one_of_them() {
    on_each_runtime(|| async {
        let drops = Tally::default();
        let source = |n: u64| {
            let held = OnDrop(drops.clone());
            generate(move |y| async move {
                let _held = held;
                y.give(n).await;
                pending::<Result<(), Infallible>>().await
            })
        };
        let mut run =
            Box::pin(source(0).merge([source(1), source(2)]).collect().run(&Context::background()));
        tokio::select! {
            biased;
            _ = &mut run => panic!("no source ends"),
            () = settle() => {}
        }
        drop(run);
        assert_eq!(drops.get(), 3);
    });
}

#[tokio::test]
async fn a_loop_over_ready_pipelines_yields() {
    let other = Tally::default();
    let seen = other.clone();
    let (ctx, canceller) = Context::background().child();
    let endless = || from_iter(0_u64..);
    let run = endless().merge([endless()]).for_each(move |n| {
        assert!(n < 100_000, "the budget of the task is never spent");
        if seen.get() > 0 {
            canceller.cancel();
        }
    });
    let (ended, ()) = tokio::join!(biased; run.run(&ctx), async { _ = other.add() });
    assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
}
