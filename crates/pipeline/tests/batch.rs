//! Batches by count and time: when they go on, in which size, and at every end. Most are driven by a
//! clock that moves by hand.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_cancel::{CauseKind, Context, ManualClock, Timer, TimerError};
use selvedge_pipeline::{
    Build, Ended, Order, PipelineError, Run, Sink, Stage, from_iter, from_stream, generate,
};
use selvedge_testkit::{CountingWaker, block_on, watchdog};
use support::{
    Broken, LIMIT, OnDrop, Tally, assert_sums, counts, error_of, failed, on_each_runtime,
    one_thread,
};
use tokio::runtime::Builder;
use tokio::sync::Notify;

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn background() -> Context {
    Context::background()
}

/// A run whose items come when the test says so, on a clock that the test moves.
struct Steps {
    run: Run<()>,
    task: CountingWaker,
    more: Arc<Mutex<Vec<u64>>>,
    notify: Arc<Notify>,
    out: Arc<Mutex<Vec<Vec<u64>>>>,
    clock: ManualClock,
    canceller: selvedge_cancel::Canceller,
}

impl Steps {
    fn new(size: usize, delay: Duration) -> Self {
        let (timer, clock) = Timer::manual();
        let (ctx, canceller) = Context::background().child();
        let (more, notify) = (Arc::<Mutex<Vec<u64>>>::default(), Arc::new(Notify::new()));
        let out = Arc::<Mutex<Vec<Vec<u64>>>>::default();
        let (items, told, sink) = (Arc::clone(&more), Arc::clone(&notify), Arc::clone(&out));
        let stage = generate(move |y| async move {
            loop {
                let now = std::mem::take(&mut *items.lock().unwrap());
                for item in now {
                    y.give(item).await;
                }
                told.notified().await;
                if false {
                    return Ok::<_, Infallible>(());
                }
            }
        });
        let stage = stage.batch(size, delay).timer(timer);
        let run = stage.for_each(move |batch| sink.lock().unwrap().push(batch)).run(&ctx);
        let mut steps =
            Self { run, task: CountingWaker::new(), more, notify, out, clock, canceller };
        assert!(steps.poll().is_pending());
        steps
    }

    fn poll(&mut self) -> Poll<Ended<()>> {
        Pin::new(&mut self.run).poll(&mut TaskContext::from_waker(&self.task.waker()))
    }

    /// Gives items; what comes out at once.
    fn give(&mut self, items: &[u64]) -> Vec<Vec<u64>> {
        self.more.lock().unwrap().extend(items);
        self.notify.notify_one();
        assert!(self.poll().is_pending());
        std::mem::take(&mut *self.out.lock().unwrap())
    }

    /// Moves the clock; what comes out. The run is polled only if it was woken.
    fn advance(&mut self, by: Duration) -> Vec<Vec<u64>> {
        let woken = self.task.wakes();
        self.clock.advance(by);
        if self.task.wakes() > woken {
            assert!(self.poll().is_pending());
        }
        std::mem::take(&mut *self.out.lock().unwrap())
    }

    /// Ends it; what comes out.
    fn end(mut self, end: impl FnOnce(&selvedge_cancel::Canceller)) -> Vec<Vec<u64>> {
        end(&self.canceller);
        let Poll::Ready(ended) = self.poll() else { panic!("it was told to end") };
        assert_sums(&ended.report);
        assert!(matches!(ended.error, Some(PipelineError::Ended(_))));
        assert_eq!(self.clock.registered(), 0, "an alarm stayed behind");
        std::mem::take(&mut *self.out.lock().unwrap())
    }
}

// Smoke.

#[test]
fn a_batch_goes_on_when_it_is_full() {
    let ended =
        block_on(from_iter(0..7).batch(3, SECOND).named("batch").collect().run(&background()));
    assert_sums(&ended.report);
    let stage = ended.report.stage("batch").unwrap();
    assert_eq!((stage.entered, stage.passed, stage.emitted, stage.left), (7, 7, 3, 0));
    assert_eq!(counts(&ended.report, "sink"), [3, 3, 0, 0, 0]);
    assert_eq!(ended.ok().unwrap(), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
}

#[test]
fn a_batch_goes_on_when_the_delay_of_its_first_item_is_over_and_not_before() {
    let mut steps = Steps::new(3, SECOND);
    assert!(steps.advance(SECOND * 10).is_empty(), "nothing is in hand");
    assert!(steps.give(&[1]).is_empty());
    assert!(steps.advance(SECOND / 2).is_empty());
    assert!(steps.give(&[2]).is_empty());
    assert!(steps.advance(SECOND / 2 - NANO).is_empty());
    assert_eq!(steps.advance(NANO), [[1, 2]], "a second after the first, not the last");
    assert!(steps.advance(SECOND * 10).is_empty(), "no batch is empty");
    assert!(steps.end(|canceller| canceller.cancel()).is_empty());
}

#[test]
fn the_delay_of_a_batch_begins_anew_with_its_own_first_item() {
    let mut steps = Steps::new(2, SECOND);
    assert!(steps.give(&[1]).is_empty());
    assert!(steps.advance(SECOND - NANO).is_empty());
    assert_eq!(steps.give(&[2, 3]), [[1, 2]], "full just before its time");
    assert_eq!(steps.clock.registered(), 1, "the alarm of the full one was taken back");
    assert!(steps.advance(SECOND - NANO).is_empty());
    assert_eq!(steps.advance(NANO), [[3]]);
    drop(steps);
}

#[test]
fn a_slow_source_that_is_always_ready_makes_no_batch_wait() {
    let (timer, clock) = Timer::manual();
    // Each item takes a second to make, on the thread that pulls.
    let slow = from_iter(0..6).map(move |n| {
        clock.advance(SECOND);
        n
    });
    let run = slow.batch(100, SECOND * 2).timer(timer).collect();
    let batches = block_on(run.run(&background())).ok().unwrap();
    assert_eq!(batches, [vec![0, 1, 2], vec![3, 4, 5]]);
}

#[test]
fn batches_behind_and_before_workers_keep_order_and_lose_nothing() {
    on_each_runtime(|| async {
        let work = |n: u64| async move {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(n)
        };
        let sum = |batch: Vec<u64>| async move { Ok::<_, Infallible>(batch) };
        let stage = from_iter(0..100).workers(4, Order::Ordered, work).batch(7, SECOND);
        let ended = stage.workers(2, Order::Ordered, sum).collect().run(&background()).await;
        assert_sums(&ended.report);
        let batches = ended.ok().unwrap();
        assert!(batches.iter().all(|batch| (1..=7).contains(&batch.len())));
        assert_eq!(batches.concat(), (0..100).collect::<Vec<_>>());
    });
}

// The limits.

#[test]
fn a_batch_without_a_delay_takes_what_is_there_at_once() {
    let mut steps = Steps::new(3, Duration::ZERO);
    assert_eq!(steps.give(&[1, 2]), [[1, 2]]);
    assert_eq!(steps.give(&[3, 4, 5, 6]), [vec![3, 4, 5], vec![6]]);
    assert_eq!(steps.clock.registered(), 0);
    assert!(steps.end(|canceller| canceller.stop(SECOND)).is_empty());
}

#[test]
fn a_batch_whose_delay_has_no_end_waits_until_it_is_full_or_the_source_ends() {
    for delay in [Duration::MAX, Duration::MAX - NANO] {
        let mut steps = Steps::new(2, delay);
        assert_eq!(steps.give(&[1, 2, 3]), [[1, 2]]);
        assert!(steps.advance(SECOND * 1_000_000).is_empty());
        assert_eq!(steps.clock.registered(), 0);
        assert_eq!(steps.end(|canceller| canceller.stop(Duration::MAX)), [[3]]);
    }
}

#[test]
fn a_batch_of_one_waits_for_nothing_and_one_of_the_most_for_the_end() {
    let mut steps = Steps::new(1, SECOND);
    assert_eq!(steps.give(&[1, 2]), [[1], [2]]);
    drop(steps);
    let batches = |size| {
        let run = from_iter(0..1000).batch(size, SECOND * 1000).collect();
        block_on(run.run(&background())).ok().unwrap()
    };
    assert_eq!(watchdog(LIMIT, "the largest", move || batches(usize::MAX))[0].len(), 1000);
    assert_eq!(batches(1).len(), 1000);
}

#[test]
fn a_batch_of_zero_items_is_refused() {
    let ended =
        block_on(from_iter(0..3).batch(0, SECOND).named("none").collect().run(&background()));
    let error = error_of(&ended);
    assert!(matches!(error, PipelineError::BadStage { stage, .. } if stage == "none"));
    assert_eq!(
        error.to_string(),
        "pipeline not run: stage none has batches of 0 items, give them at least 1"
    );
}

// The ends.

#[test]
fn the_batch_in_hand_comes_out_at_the_end_before_an_error_and_when_stopped_or_cancelled() {
    let run = from_iter(0..4).try_map(|n| if n < 3 { Ok(n) } else { Err(Broken(3)) });
    let ended = block_on(run.batch(2, SECOND).collect().run(&background()));
    assert_eq!(failed(error_of(&ended)), ("try_map", 3));
    assert_eq!(ended.output, [vec![0, 1], vec![2]]);

    let mut steps = Steps::new(3, SECOND);
    assert!(steps.give(&[1, 2]).is_empty());
    assert_eq!(steps.end(|canceller| canceller.stop(Duration::MAX)), [[1, 2]]);
    let mut steps = Steps::new(3, SECOND);
    assert!(steps.give(&[1, 2]).is_empty());
    assert_eq!(steps.end(|canceller| canceller.cancel()), [[1, 2]]);
}

/// Has room for one batch, and then never again.
struct OneOnly(usize);

impl Sink<Vec<OnDrop>> for OneOnly {
    type Error = Infallible;
    type Output = usize;

    fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        if self.0 == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn accept(&mut self, batch: Vec<OnDrop>) -> Result<(), Infallible> {
        self.0 = batch.len();
        Ok(())
    }

    fn finish(self) -> usize {
        self.0
    }
}

#[test]
fn items_in_hand_are_left_when_a_cancelled_sink_has_no_room() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let (made, drops) = (Tally::default(), Tally::default());
        let (m, d) = (made.clone(), drops.clone());
        let stage = generate(move |y| async move {
            for _ in 0..5 {
                m.add();
                y.give(OnDrop(d.clone())).await;
            }
            canceller.cancel();
            pending::<Result<(), Infallible>>().await
        });
        // The driver of the second stage holds a batch in hand while its window is full.
        let pass = |batch: Vec<OnDrop>| async move { Ok::<_, Infallible>(batch) };
        let stage = stage.batch(2, Duration::MAX).named("batch").workers(1, Order::Ordered, pass);
        let ended = stage.into_sink(OneOnly(0)).run(&ctx).await;
        assert_sums(&ended.report);
        assert_eq!(drops.get(), made.get(), "everything was dropped");
        assert!(ended.output <= 2);
    });
}

#[test]
fn a_dropped_run_takes_its_alarm_back() {
    let mut steps = Steps::new(3, SECOND);
    assert!(steps.give(&[1]).is_empty());
    let Steps { run, clock, .. } = steps;
    assert_eq!(clock.registered(), 1);
    drop(run);
    assert_eq!(clock.registered(), 0);
    clock.advance(SECOND);
}

// The timer.

/// Gives one item, then nothing for a long time; the batch goes on by its timer, and the run ends.
async fn one_by_time<S: Build<Item = Vec<u64>>>(stage: Stage<S>, ctx: &Context) -> Ended<()> {
    let (ctx, canceller) = ctx.child();
    stage
        .for_each(move |batch| {
            assert_eq!(batch, [7]);
            canceller.stop(Duration::MAX);
        })
        .run(&ctx)
        .await
}

fn seven() -> Stage<impl Build<Item = u64>> {
    generate(|y| async move {
        y.give(7).await;
        pending::<Result<(), Infallible>>().await
    })
}

#[test]
fn every_driver_of_the_time_seam_ends_the_delay() {
    watchdog(LIMIT, "drivers", || {
        // tokio's paused clock, also from the driver task of a stage behind.
        let before = std::time::Instant::now();
        one_thread().block_on(async {
            let ended = one_by_time(seven().batch(2, SECOND * 3600), &background()).await;
            assert_sums(&ended.report);
            let pass = |batch: Vec<u64>| async move { Ok::<_, Infallible>(batch) };
            let stage = seven().batch(2, SECOND * 3600).workers(1, Order::Ordered, pass);
            assert_sums(&one_by_time(stage, &background()).await.report);
        });
        assert!(before.elapsed() < LIMIT, "the clock was paused");
        // The thread's, outside any runtime.
        assert_sums(&block_on(one_by_time(seven().batch(2, SECOND / 100), &background())).report);
        // The one of a context with a deadline.
        let (timer, clock) = Timer::manual();
        let (ctx, _canceller) =
            background().child_with().timer(timer).timeout(SECOND * 100).build().unwrap();
        let mut run = Box::pin(one_by_time(seven().batch(2, SECOND), &ctx));
        let task = CountingWaker::new();
        let waker = task.waker();
        assert!(run.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        clock.advance(SECOND);
        assert!(task.wakes() > 0);
        assert_sums(&block_on(run).report);
    });
}

#[test]
fn a_runtime_without_its_time_driver_is_an_error_unless_no_timer_is_needed() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let ended = from_iter(0..3).batch(2, SECOND).collect().run(&background()).await;
        let error = error_of(&ended);
        assert!(matches!(error, PipelineError::NoTimer { error: TimerError::Disabled, .. }));
        assert_eq!(error.to_string(), "stage batch cannot wait for a time");
        for delay in [Duration::ZERO, Duration::MAX] {
            let ended = from_iter(0..3).batch(2, delay).collect().run(&background()).await;
            assert_eq!(ended.ok().unwrap(), [vec![0, 1], vec![2]]);
        }
        let stage = from_iter(0..3).batch(2, SECOND).timer(Timer::thread());
        assert_eq!(stage.collect().run(&background()).await.ok().unwrap().len(), 2);
    });
}

#[test]
fn a_timer_whose_runtime_is_shut_down_ends_the_run_after_the_batch_in_hand() {
    watchdog(LIMIT, "a lost timer", || {
        // While it waits.
        let runtime = one_thread();
        let mut run = seven().batch(2, SECOND).collect().run(&background());
        let task = CountingWaker::new();
        {
            let _inside = runtime.enter();
            let waker = task.waker();
            assert!(Pin::new(&mut run).poll(&mut TaskContext::from_waker(&waker)).is_pending());
        }
        let woken = task.wakes();
        drop(runtime);
        assert!(task.wakes() > woken);
        let ended = block_on(run);
        let lost = PipelineError::NoTimer { stage: "batch".to_owned(), error: TimerError::Lost };
        assert_eq!(error_of(&ended).to_string(), lost.to_string());
        assert!(matches!(error_of(&ended), PipelineError::NoTimer { error: TimerError::Lost, .. }));
        assert_eq!(ended.output, [[7]]);

        // Before it is asked.
        let (timer, clock) = Timer::manual();
        clock.lose();
        let run = from_iter(0..5).batch(3, SECOND).timer(timer).collect();
        let ended = block_on(run.run(&background()));
        assert!(matches!(error_of(&ended), PipelineError::NoTimer { error: TimerError::Lost, .. }));
        assert_eq!(ended.output, [[0]], "the first item asked for the alarm");
    });
}

#[test]
fn a_stop_with_a_grace_lets_the_batch_in_hand_out() {
    one_thread().block_on(async {
        let (ctx, canceller) = Context::background().child();
        let run = seven().batch(9, SECOND * 100).collect().run(&ctx);
        let (ended, ()) = tokio::join!(run, async { canceller.stop(SECOND) });
        assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Stopped);
        assert_eq!(ended.output, [[7]]);
    });
}

// The property.

/// What a source does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Gives so many items.
    Give(usize),
    /// Lets so many milliseconds pass.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (1..40usize).prop_map(Step::Give),
        1 => (0..30u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..40)
}

/// The batches that the documentation promises, for whole milliseconds.
fn model(steps: &[Step], size: usize, delay: u64) -> Vec<Vec<u64>> {
    let (mut batches, mut hand, mut first, mut now, mut next) = (vec![], vec![], 0, 0, 0);
    for step in steps {
        match *step {
            Step::Give(n) => {
                for _ in 0..n {
                    if hand.is_empty() {
                        first = now;
                    }
                    hand.push(next);
                    next += 1;
                    if hand.len() == size {
                        batches.push(std::mem::take(&mut hand));
                    }
                }
                // No time passes without the stage being polled.
                if delay == 0 && !hand.is_empty() {
                    batches.push(std::mem::take(&mut hand));
                }
            }
            Step::Pass(by) => {
                now += by;
                if !hand.is_empty() && now >= first + delay {
                    batches.push(std::mem::take(&mut hand));
                }
            }
        }
    }
    if !hand.is_empty() {
        batches.push(hand);
    }
    batches
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_are_those_of_the_sequential_model(
        plan in steps(),
        size in prop_oneof![1..10usize, Just(usize::MAX)],
        delay in prop_oneof![Just(0), 1..40u64, Just(u64::MAX / 4)],
    ) {
        let mut steps = Steps::new(size, Duration::from_millis(delay));
        let (mut out, mut next) = (Vec::new(), 0);
        for step in &plan {
            out.extend(match *step {
                Step::Give(n) => {
                    let items: Vec<_> = (next..next + n as u64).collect();
                    next += n as u64;
                    steps.give(&items)
                }
                Step::Pass(by) => steps.advance(Duration::from_millis(by)),
            });
        }
        out.extend(steps.end(|canceller| canceller.stop(Duration::MAX)));
        prop_assert!(out.iter().all(|batch| (1..=size).contains(&batch.len())));
        prop_assert_eq!(out.concat(), (0..next).collect::<Vec<_>>());
        prop_assert_eq!(out, model(&plan, size, delay));
    }
}

// A good neighbour.

#[test]
fn batches_of_a_source_that_is_always_ready_yield_to_other_tasks() {
    watchdog(LIMIT, "always ready", || {
        one_thread().block_on(async {
            let (ctx, canceller) = Context::background().child();
            let run = tokio::spawn(from_iter(0_u64..).batch(1000, SECOND).for_each(drop).run(&ctx));
            tokio::task::yield_now().await;
            canceller.cancel();
            assert_sums(&run.await.unwrap().report);
        });
    });
}

#[test]
fn a_description_of_batches_says_what_they_are() {
    let stage = from_stream(async_channel::unbounded::<u8>().1).batch(3, SECOND);
    assert_eq!(format!("{stage:?}"), "Stage { .. }");
}
