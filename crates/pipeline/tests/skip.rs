//! The fallible map, and the skip policy of every stage that has one.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::sync::{Arc, Mutex};

use selvedge_cancel::Context;
use selvedge_pipeline::{Build, Ended, Order, PipelineError, Stage, from_iter};
use selvedge_testkit::{block_on, watchdog};
use support::{
    Broken, LIMIT, Tally, assert_sums, counts, error_of, failed, on_each_runtime, panicked, pool,
};

const ORDERS: [Order; 2] = [Order::Ordered, Order::Unordered];

/// Odd numbers are broken.
fn even(n: u64) -> Result<u64, Broken> {
    if n.is_multiple_of(2) { Ok(n) } else { Err(Broken(n)) }
}

fn skipped(ended: &Ended<Vec<u64>>, name: &str) -> u64 {
    ended.report.stage(name).unwrap().skipped
}

/// What was skipped, in the order in which it was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(u64, u64)>>>);

impl Told {
    /// Notes index and item, and checks the stage.
    fn note(&self, error: &PipelineError) {
        let (stage, index) = failed(error);
        assert_eq!(stage, "even");
        let Broken(item) = error.downcast_ref().expect("it is what the stage returned");
        self.0.lock().unwrap().push((index, *item));
    }

    fn take(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

// The fallible map.

#[test]
fn a_fallible_map_passes_what_it_returns() {
    let ended = block_on(from_iter(0..3_u64).try_map(|n| even(n * 2)).collect().run(&background()));
    assert_sums(&ended.report);
    assert_eq!(ended.report.stages[1].kind, "try_map");
    assert_eq!(ended.ok().unwrap(), [0, 2, 4]);
}

#[test]
fn an_item_that_fails_in_a_fallible_map_ends_the_pipeline_after_those_before_it() {
    let run = from_iter([2, 4, 5, 6]).try_map(even).named("even").collect();
    let ended = block_on(run.run(&background()));
    assert_eq!(failed(error_of(&ended)), ("even", 2));
    assert_eq!(error_of(&ended).downcast_ref(), Some(&Broken(5)));
    assert_eq!(counts(&ended.report, "even"), [3, 2, 0, 1, 0]);
    assert_eq!(ended.output, [2, 4]);
}

#[test]
fn a_panic_in_a_fallible_map_is_an_error_with_its_stage_and_index() {
    let work = |n: u64| if n == 1 { panic!("one") } else { even(n) };
    let run = from_iter(0..3).try_map(work).skip_failed(drop).collect();
    let ended = block_on(run.run(&background()));
    assert_eq!(panicked(error_of(&ended)), ("try_map", 1, "one"), "it is not skipped");
    assert_eq!(counts(&ended.report, "try_map"), [2, 1, 0, 1, 0]);
}

// The skip policy.

fn background() -> Context {
    Context::background()
}

#[test]
fn a_fallible_map_goes_on_without_the_items_that_it_skips() {
    let told = Told::default();
    let note = told.clone();
    let stage = from_iter(0..6).try_map(even).named("even");
    let run = stage.skip_failed(move |error| note.note(&error)).map(|n| n * 10).collect();
    let ended = block_on(run.run(&background()));
    assert_sums(&ended.report);
    assert_eq!((skipped(&ended, "even"), told.take()), (3, vec![(1, 1), (3, 3), (5, 5)]));
    assert_eq!(ended.ok().unwrap(), [0, 20, 40]);
}

/// Runs a stage that skips what is odd, and checks what comes out.
async fn check<S: Build<Item = u64>>(stage: Stage<S>, order: Order, told: &Told) {
    let ended = stage.collect().run(&background()).await;
    assert_sums(&ended.report);
    assert_eq!(skipped(&ended, "even"), 50);
    let (mut told, mut output) = (told.take(), ended.ok().unwrap());
    if order == Order::Unordered {
        told.sort_unstable();
        output.sort_unstable();
    }
    assert_eq!(told, (0..50).map(|n| (2 * n + 1, 2 * n + 1)).collect::<Vec<_>>());
    assert_eq!(output, (0..50).map(|n| 2 * n).collect::<Vec<_>>());
}

#[test]
fn workers_and_blocking_stages_go_on_without_the_items_that_they_skip() {
    on_each_runtime(|| async {
        let pool = pool(2);
        for order in ORDERS {
            let (told, source) = (Told::default(), || from_iter(0..100_u64));
            let note = || {
                let told = told.clone();
                move |error: PipelineError| told.note(&error)
            };
            let stage = source().workers(4, order, |n| async move {
                tokio::task::yield_now().await;
                even(n)
            });
            check(stage.named("even").skip_failed(note()), order, &told).await;
            let stage = source().blocking(&pool, 4, order, |n, _| even(n));
            check(stage.named("even").skip_failed(note()), order, &told).await;
        }
    });
}

#[test]
fn a_panic_of_a_worker_is_not_skipped() {
    on_each_runtime(|| async {
        let pool = pool(1);
        let work = |n: u64| if n == 3 { panic!("three") } else { even(n) };
        let stage = from_iter(0..9_u64).workers(2, Order::Ordered, move |n| async move { work(n) });
        let ended = stage.skip_failed(drop).collect().run(&background()).await;
        assert_eq!(panicked(error_of(&ended)), ("workers", 3, "three"));
        assert_eq!((skipped(&ended, "workers"), &ended.output[..]), (1, &[0, 2][..]));

        let stage = from_iter(0..9_u64).blocking(&pool, 2, Order::Ordered, move |n, _| work(n));
        let ended = stage.skip_failed(drop).collect().run(&background()).await;
        assert_eq!(panicked(error_of(&ended)), ("blocking", 3, "three"));
        assert_eq!((skipped(&ended, "blocking"), &ended.output[..]), (1, &[0, 2][..]));
    });
}

#[test]
fn a_panic_of_who_is_told_ends_the_pipeline_and_counts_as_a_failure_of_that_item() {
    on_each_runtime(|| async {
        let oops = |_: PipelineError| panic!("oops");
        let ended = from_iter(0..9).try_map(even).skip_failed(oops).collect();
        let ended = ended.run(&background()).await;
        assert_eq!(panicked(error_of(&ended)), ("try_map", 1, "oops"));
        assert_eq!(counts(&ended.report, "try_map"), [2, 1, 0, 1, 0]);

        let stage = from_iter(0..9).workers(1, Order::Ordered, |n| async move { even(n) });
        let ended = stage.skip_failed(oops).collect().run(&background()).await;
        assert_eq!(panicked(error_of(&ended)), ("workers", 1, "oops"));
        let stage = ended.report.stage("workers").unwrap();
        assert_eq!((stage.passed, stage.skipped, stage.failed), (1, 0, 1));
    });
}

#[test]
fn a_stage_that_skips_everything_comes_to_its_end_and_yields() {
    let ended = watchdog(LIMIT, "all is skipped", || {
        block_on(
            from_iter(0..1000)
                .try_map(|n| even(2 * n + 1))
                .skip_failed(drop)
                .collect()
                .run(&background()),
        )
    });
    assert_sums(&ended.report);
    assert_eq!(skipped(&ended, "try_map"), 1000);
    assert!(ended.ok().unwrap().is_empty());

    // Another task of the thread ends it.
    watchdog(LIMIT, "an endless stage that skips", || {
        support::one_thread().block_on(async {
            let (ctx, canceller) = Context::background().child();
            let run = from_iter(0..).try_map(|n| even(2 * n + 1)).skip_failed(drop).collect();
            let (ended, ()) = tokio::join!(run.run(&ctx), async { canceller.cancel() });
            assert_sums(&ended.report);
            let ended = tokio::spawn(
                from_iter(0..).try_map(|n| even(2 * n + 1)).skip_failed(drop).collect().run(&ctx),
            );
            assert_sums(&ended.await.unwrap().report);
        });
    });
}

#[test]
fn items_whose_failure_nobody_heard_of_are_left() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let told = Tally::default();
        let note = told.clone();
        // The sink cancels at its first item; what failed behind it may not have come out.
        let stage = from_iter(0..100).workers(4, Order::Ordered, |n| async move { even(n) });
        let stage = stage.skip_failed(move |_| {
            note.add();
        });
        let ended = stage.for_each(move |_| canceller.cancel()).run(&ctx).await;
        assert_sums(&ended.report);
        assert_eq!(ended.report.stages[1].skipped, told.get() as u64);
    });
}
