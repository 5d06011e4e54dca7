//! Stages at the pace of a limiter, on a clock that moves by hand.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use selvedge_cancel::{CauseKind, Context, ManualClock, Timer, TimerError};
use selvedge_pipeline::{PipelineError, Run, from_iter, generate};
use selvedge_ratelimit::{Limiter, Quota, Rate};
use selvedge_testkit::{CountingWaker, block_on};
use support::{Bomb, OnDrop, Tally, cause_of, counts, error_of, panicked};

const SEC: Duration = Duration::from_secs(1);

fn background() -> Context {
    Context::background()
}

fn limiter(quota: Quota) -> (Limiter, ManualClock) {
    let (timer, clock) = Timer::manual();
    (Limiter::with_timer(quota, timer), clock)
}

fn poll<O>(run: &mut Run<O>, task: &CountingWaker) -> Poll<selvedge_pipeline::Ended<O>> {
    Pin::new(run).poll(&mut TaskContext::from_waker(&task.waker()))
}

#[test]
fn items_go_on_at_the_pace_of_the_limiter() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(3));
    let (taken, task) = (Tally::default(), CountingWaker::new());
    let count = taken.clone();
    let stage = from_iter(0..6).throttle(&limiter).named("pace");
    let mut run = stage.for_each(move |_: u32| _ = count.add()).run(&background());
    for expected in [3, 4, 5] {
        assert!(poll(&mut run, &task).is_pending());
        assert_eq!(taken.get(), expected);
        clock.advance(SEC);
    }
    let Poll::Ready(ended) = poll(&mut run, &task) else { panic!("the last has its token") };
    assert!(ended.error.is_none());
    assert_eq!(counts(&ended.report, "pace"), [6, 6, 0, 0, 0]);
    assert_eq!((limiter.available(), clock.registered()), (0, 0));
}

#[test]
fn pipelines_that_share_a_limiter_stand_in_one_line() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let task = CountingWaker::new();
    let mut runs = [1, 2].map(|_| from_iter(0..2).throttle(&limiter).collect().run(&background()));
    let mut ended = Vec::new();
    for _ in 0..4 {
        for (number, run) in runs.iter_mut().enumerate() {
            if !ended.contains(&number) && poll(run, &task).is_ready() {
                ended.push(number);
            }
        }
        clock.advance(SEC);
    }
    assert_eq!(ended, [0, 1], "one each second, in turn");
}

#[test]
fn a_source_that_has_nothing_takes_no_token() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let task = CountingWaker::new();
    let source = generate(|_y: selvedge_pipeline::Yielder<u32>| async move {
        std::future::pending::<()>().await;
        Ok::<_, std::io::Error>(())
    });
    let mut run = source.throttle(&limiter).collect().run(&background());
    assert!(poll(&mut run, &task).is_pending());
    assert_eq!(limiter.available(), 1);
}

#[test]
fn a_stop_lets_the_item_that_waits_through() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let (task, (ctx, canceller)) = (CountingWaker::new(), background().child());
    let stage = from_iter(0..9).throttle(&limiter).named("pace");
    let mut run = stage.collect().run(&ctx);
    assert!(poll(&mut run, &task).is_pending());
    canceller.stop(Duration::MAX);
    assert!(poll(&mut run, &task).is_pending(), "it was accepted");
    clock.advance(SEC);
    let Poll::Ready(ended) = poll(&mut run, &task) else { panic!("there is nothing more") };
    assert_eq!(ended.output, [0, 1]);
    assert_eq!(counts(&ended.report, "pace"), [2, 2, 0, 0, 0]);
    assert_eq!(cause_of(error_of(&ended)), CauseKind::Stopped);
}

#[test]
fn a_cancel_ends_the_wait_and_leaves_the_item_and_its_token() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let (task, (ctx, canceller)) = (CountingWaker::new(), background().child());
    let drops = Tally::default();
    let made = drops.clone();
    let stage = from_iter(0..9).map(move |_: u32| OnDrop(made.clone())).throttle(&limiter);
    let mut run = stage.named("pace").for_each(drop).run(&ctx);
    assert!(poll(&mut run, &task).is_pending());
    let woken = task.wakes();
    canceller.cancel();
    assert_eq!(task.wakes(), woken + 1);
    let Poll::Ready(ended) = poll(&mut run, &task) else { panic!("it was cancelled") };
    assert_eq!(counts(&ended.report, "pace"), [2, 1, 0, 0, 1]);
    assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
    assert_eq!((drops.get(), clock.registered()), (2, 0), "it has left the line");
    clock.advance(SEC);
    assert_eq!(limiter.available(), 1);
}

#[test]
fn an_item_that_is_left_may_panic_when_it_is_dropped() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let (task, (ctx, canceller)) = (CountingWaker::new(), background().child());
    let stage = from_iter(0..9).map(|n: u32| (n == 1).then(|| Bomb("the item's destructor")));
    let mut run = stage.throttle(&limiter).for_each(drop).named("sink").run(&ctx);
    assert!(poll(&mut run, &task).is_pending());
    canceller.cancel();
    let Poll::Ready(ended) = poll(&mut run, &task) else { panic!("it was cancelled") };
    assert_eq!(panicked(error_of(&ended)), ("sink", 1, "the item's destructor"));
}

#[test]
fn a_timer_that_is_gone_is_an_error_with_the_stages_name() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let task = CountingWaker::new();
    let stage = from_iter(0..9).throttle(&limiter).named("pace");
    let mut run = stage.collect().run(&background());
    assert!(poll(&mut run, &task).is_pending());
    clock.lose();
    let Poll::Ready(ended) = poll(&mut run, &task) else { panic!("it was told") };
    let PipelineError::NoTimer { stage, error } = error_of(&ended) else { panic!("{ended:?}") };
    assert_eq!((stage.as_str(), error), ("pace", &TimerError::Lost));
    assert_eq!(
        (ended.output.as_slice(), counts(&ended.report, "pace")),
        (&[0][..], [2, 1, 0, 0, 1])
    );
}

#[test]
fn it_runs_on_any_executor() {
    let limiter = Limiter::new(Rate::every(Duration::from_millis(1)).burst(1));
    let start = std::time::Instant::now();
    let ended = block_on(from_iter(0..5).throttle(&limiter).collect().run(&background()));
    assert_eq!(ended.ok().unwrap(), [0, 1, 2, 3, 4]);
    assert!(start.elapsed() >= Duration::from_millis(4));
}

#[tokio::test]
async fn a_loop_over_items_that_need_not_wait_yields() {
    let (limiter, _clock) = limiter(Rate::per_second(1).burst(1_000_000));
    let other = Tally::default();
    let seen = other.clone();
    let (ctx, canceller) = background().child();
    let run = from_iter(0_u64..).throttle(&limiter).for_each(move |n| {
        assert!(n < 100_000, "the budget of the task is never spent");
        if seen.get() > 0 {
            canceller.cancel();
        }
    });
    let (ended, ()) = tokio::join!(biased; run.run(&ctx), async { _ = other.add() });
    assert_eq!(cause_of(error_of(&ended)), CauseKind::Cancelled);
}
