//! Streams, channels and ticks: what they give, how they end, and what they leave.
#![cfg(all(not(selvedge_loom), feature = "channel", feature = "tokio"))]

mod support;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;
use selvedge_cancel::{Canceller, CauseKind, Context, ManualClock, Timer, TimerError};
use selvedge_pipeline::{Ended, Order, PipelineError, Run, from_channel, from_stream, ticks};
use selvedge_testkit::{CountingWaker, block_on, watchdog};
use support::{
    Bomb, LIMIT, OnDrop, Tally, assert_sums, counts, error_of, on_each_runtime, one_thread,
    panicked, settle,
};
use tokio::runtime::Builder;

const SECOND: Duration = Duration::from_secs(1);

fn background() -> Context {
    Context::background()
}

fn poll<F: Future + Unpin>(future: &mut F, task: &CountingWaker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut TaskContext::from_waker(&task.waker()))
}

// Streams.

/// What a stream does at each poll; pending when there is nothing more.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Says>>);

#[derive(Default)]
struct Says {
    left: VecDeque<Say>,
    /// A stream keeps its last waker.
    waker: Option<Waker>,
    polls: usize,
}

enum Say {
    Item(u64),
    Pending,
    End,
    Panic,
}

impl Script {
    fn new(say: impl IntoIterator<Item = Say>) -> Self {
        let script = Self::default();
        script.0.lock().unwrap().left.extend(say);
        script
    }

    fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }

    fn stream(&self, drops: &Tally) -> Scripted {
        Scripted(self.clone(), OnDrop(drops.clone()))
    }
}

struct Scripted(Script, #[expect(dead_code, reason = "its drop counts")] OnDrop);

impl Stream for Scripted {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<u64>> {
        let next = {
            let mut script = self.0.0.lock().unwrap();
            script.waker = Some(cx.waker().clone());
            script.polls += 1;
            script.left.pop_front()
        };
        match next {
            Some(Say::Item(item)) => Poll::Ready(Some(item)),
            Some(Say::End) => Poll::Ready(None),
            Some(Say::Panic) => panic!("the stream"),
            Some(Say::Pending) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

#[test]
fn a_stream_gives_its_items_and_is_dropped_at_its_end() {
    let drops = Tally::default();
    let script = Script::new([Say::Item(1), Say::Pending, Say::Item(2), Say::End]);
    let run = from_stream(script.stream(&drops)).collect();
    let ended = block_on(run.run(&background()));
    assert_sums(&ended.report);
    assert_eq!(ended.report.stages[0].kind, "from_stream");
    assert_eq!((script.polls(), drops.get()), (4, 1));
    assert_eq!(ended.ok().unwrap(), [1, 2]);
}

#[test]
fn a_panic_of_a_stream_is_an_error_with_stage_and_index_after_the_items_before() {
    let script = Script::new([Say::Item(1), Say::Item(2), Say::Panic]);
    let run = from_stream(script.stream(&Tally::default())).named("mine").collect();
    let ended = block_on(run.run(&background()));
    assert_eq!(panicked(error_of(&ended)), ("mine", 2, "the stream"));
    assert_eq!(ended.output, [1, 2]);
}

struct Armed(Scripted, #[expect(dead_code, reason = "its drop counts")] Bomb);

impl Stream for Armed {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<u64>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

#[test]
fn a_panic_of_a_streams_destructor_is_an_error_and_loses_no_item() {
    let script = Script::new([Say::Item(1), Say::End]);
    let stream = Armed(script.stream(&Tally::default()), Bomb("goes off"));
    let ended = block_on(from_stream(stream).collect().run(&background()));
    assert_eq!(panicked(error_of(&ended)), ("from_stream", 1, "goes off"));
    assert_eq!(ended.output, [1]);
}

#[test]
fn a_pending_stream_is_woken_and_dropped_by_a_stop_and_not_polled_any_more() {
    let (drops, script) = (Tally::default(), Script::new([Say::Item(1)]));
    let (ctx, canceller) = background().child();
    let mut run = from_stream(script.stream(&drops)).collect().run(&ctx);
    let task = CountingWaker::new();
    assert!(poll(&mut run, &task).is_pending());
    let woken = task.wakes();
    canceller.stop(Duration::MAX);
    assert_eq!(task.wakes(), woken + 1);
    let Poll::Ready(ended) = poll(&mut run, &task) else { panic!("it was stopped") };
    assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Stopped);
    assert_eq!((ended.output, script.polls(), drops.get()), (vec![1], 2, 1));
}

#[test]
fn a_stopped_stream_is_dropped_before_the_stages_behind_have_drained() {
    on_each_runtime(|| async {
        let (drops, script) = (Tally::default(), Script::new([Say::Item(1)]));
        let (ctx, canceller) = background().child();
        let (open, gate) = async_channel::bounded::<()>(1);
        let wait = move |n: u64| {
            let gate = gate.clone();
            async move {
                let _ = gate.recv().await;
                Ok::<_, std::io::Error>(n)
            }
        };
        let stage = from_stream(script.stream(&drops)).workers(2, Order::Ordered, wait);
        let ((), ended) = tokio::join!(
            async {
                support::until(|| script.polls() == 2).await;
                canceller.stop(Duration::MAX);
                support::until(|| drops.get() == 1).await;
                drop(open);
            },
            stage.collect().run(&ctx)
        );
        assert_sums(&ended.report);
        assert_eq!(ended.output, [1], "what was accepted is finished");
    });
}

#[test]
fn a_stream_under_a_stopped_context_is_not_polled() {
    let (drops, script) = (Tally::default(), Script::new([Say::Item(1), Say::End]));
    let (ctx, canceller) = background().child();
    canceller.cancel();
    let ended = block_on(from_stream(script.stream(&drops)).collect().run(&ctx));
    assert!(error_of(&ended).cause().is_some());
    assert_eq!((script.polls(), drops.get()), (0, 1));
}

struct Endless;

impl Stream for Endless {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<u64>> {
        Poll::Ready(Some(0))
    }
}

/// Spawned first, the run would never let the other task cancel it.
async fn yields(start: impl FnOnce(&Context) -> Run<()>) {
    let (ctx, canceller) = background().child();
    let run = tokio::spawn(start(&ctx));
    tokio::task::yield_now().await;
    canceller.cancel();
    assert_sums(&run.await.unwrap().report);
}

#[test]
fn a_stream_that_is_always_ready_yields_to_other_tasks() {
    watchdog(LIMIT, "always ready", || {
        one_thread().block_on(yields(|ctx| from_stream(Endless).for_each(drop).run(ctx)));
    });
}

// Channels.

#[test]
fn a_channel_gives_its_items_until_it_is_closed_and_empty() {
    on_each_runtime(|| async {
        let (sender, receiver) = async_channel::bounded(2);
        let send = async move {
            for n in 0..100_u64 {
                sender.send(n).await.unwrap();
            }
        };
        let run = from_channel(receiver).collect().run(&background());
        let (ended, ()) = tokio::join!(run, send);
        assert_sums(&ended.report);
        assert_eq!(counts(&ended.report, "from_channel"), [100, 100, 0, 0, 0]);
        assert_eq!(ended.ok().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn a_channel_that_is_closed_already_gives_what_lies_in_it() {
    let (sender, receiver) = async_channel::unbounded();
    sender.try_send(7).unwrap();
    receiver.close();
    let ended = block_on(from_channel(receiver).collect().run(&background()));
    assert_eq!(ended.ok().unwrap(), [7]);
}

#[test]
fn a_stop_leaves_what_lies_in_the_channel_for_another_receiver() {
    on_each_runtime(|| async {
        let (sender, receiver) = async_channel::unbounded();
        for n in 0..100_u64 {
            sender.try_send(n).unwrap();
        }
        let (ctx, canceller) = background().child();
        let stopper = canceller.clone();
        let stop = move |n: &u64| {
            if *n == 9 {
                stopper.stop(Duration::MAX);
            }
            true
        };
        let stage = from_channel(receiver.clone()).filter(stop);
        let pass = |n: u64| async move { Ok::<_, std::io::Error>(n) };
        let ended = stage.workers(3, Order::Ordered, pass).collect().run(&ctx).await;
        assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Stopped);
        let mut all = ended.output;
        assert_eq!(all.len(), 10);
        while let Ok(n) = receiver.try_recv() {
            all.push(n);
        }
        assert_eq!(all, (0..100).collect::<Vec<_>>(), "an item was lost");
        drop(canceller);
    });
}

#[test]
fn a_stop_wakes_a_run_that_waits_for_its_channel() {
    let (sender, receiver) = async_channel::bounded::<u64>(1);
    let (ctx, canceller) = background().child();
    let mut run = from_channel(receiver).collect().run(&ctx);
    let task = CountingWaker::new();
    assert!(poll(&mut run, &task).is_pending());
    canceller.stop(Duration::MAX);
    assert_eq!(task.wakes(), 1);
    assert!(poll(&mut run, &task).is_ready());
    assert!(sender.is_closed(), "the last receiver is gone");
}

#[test]
fn a_channel_that_is_always_full_yields_to_other_tasks() {
    watchdog(LIMIT, "always full", || {
        one_thread().block_on(yields(|ctx| {
            let (sender, receiver) = async_channel::bounded(1);
            sender.try_send(()).unwrap();
            let refill = move |()| sender.try_send(()).unwrap();
            from_channel(receiver).for_each(refill).run(ctx)
        }));
    });
}

// Ticks.

/// Ticks on a clock that the test moves.
struct Ticking {
    run: Run<()>,
    task: CountingWaker,
    out: Arc<Mutex<Vec<Instant>>>,
    start: Instant,
    clock: ManualClock,
    canceller: Canceller,
}

impl Ticking {
    fn new(period: Duration) -> Self {
        let (timer, clock) = Timer::manual();
        let (ctx, canceller) = background().child();
        let start = timer.now();
        let (out, task) = (Arc::<Mutex<Vec<Instant>>>::default(), CountingWaker::new());
        let sink = Arc::clone(&out);
        let run = ticks(period).timer(timer).for_each(move |at| sink.lock().unwrap().push(at));
        let mut run = run.run(&ctx);
        assert!(poll(&mut run, &task).is_pending());
        Self { run, task, out, start, clock, canceller }
    }

    /// Moves the clock; how long after the start the ticks that come were due. The run is polled only
    /// if it was woken.
    fn advance(&mut self, by: Duration) -> Vec<Duration> {
        let woken = self.task.wakes();
        self.clock.advance(by);
        if self.task.wakes() > woken {
            assert!(poll(&mut self.run, &self.task).is_pending());
        }
        let out = std::mem::take(&mut *self.out.lock().unwrap());
        out.into_iter().map(|at| at - self.start).collect()
    }

    fn stop(mut self) -> Ended<()> {
        let woken = self.task.wakes();
        self.canceller.stop(Duration::MAX);
        assert!(self.task.wakes() > woken);
        let Poll::Ready(ended) = poll(&mut self.run, &self.task) else { panic!("it was stopped") };
        assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Stopped);
        drop(self.run);
        assert_eq!(self.clock.registered(), 0, "an alarm stayed behind");
        ended
    }
}

#[test]
fn a_tick_comes_at_each_multiple_of_the_period_and_not_before() {
    let mut ticking = Ticking::new(SECOND);
    assert!(ticking.advance(SECOND - Duration::from_nanos(1)).is_empty());
    assert_eq!(ticking.advance(Duration::from_nanos(1)), [SECOND]);
    assert!(ticking.advance(SECOND / 2).is_empty());
    assert_eq!(ticking.advance(SECOND / 2), [SECOND * 2]);
    let ended = ticking.stop();
    assert_eq!(counts(&ended.report, "ticks"), [2, 2, 0, 0, 0]);
}

#[test]
fn a_late_tick_is_due_when_it_was_due_and_those_that_were_missed_are_left_out() {
    let mut ticking = Ticking::new(SECOND);
    // Late by a quarter: the tick says when it was due, and the next is due when it always was.
    assert_eq!(ticking.advance(SECOND * 5 / 4), [SECOND]);
    assert_eq!(ticking.advance(SECOND * 3 / 4), [SECOND * 2]);
    // Three have passed: the last is given.
    assert_eq!(ticking.advance(SECOND * 7 / 2), [SECOND * 5]);
    assert_eq!(ticking.advance(SECOND / 2), [SECOND * 6]);
    drop(ticking);
}

#[test]
fn a_tick_that_passed_while_nobody_pulled_is_given_at_once() {
    let (timer, clock) = Timer::manual();
    let (start, task) = (timer.now(), CountingWaker::new());
    let mut items = Box::pin(ticks(SECOND).timer(timer).into_stream(&background()));
    let mut next = || items.as_mut().poll_next(&mut TaskContext::from_waker(&task.waker()));
    assert!(next().is_pending());
    clock.advance(SECOND);
    clock.advance_silently(SECOND * 3 / 2);
    let Poll::Ready(Some(Ok(at))) = next() else { panic!("it is due") };
    assert_eq!(at - start, SECOND * 2);
    assert!(next().is_pending());
    clock.advance_silently(SECOND);
    assert!(next().is_pending(), "the clock moved without a ring");
}

#[test]
fn a_period_of_zero_is_refused_and_one_without_end_gives_no_tick() {
    let ended = watchdog(LIMIT, "zero", || {
        block_on(ticks(Duration::ZERO).named("t").collect().run(&background()))
    });
    let error = error_of(&ended);
    assert!(matches!(error, PipelineError::BadStage { stage, .. } if stage == "t"), "{error:?}");
    let text = "pipeline not run: stage t has a period of zero, give it a longer one";
    assert_eq!(error.to_string(), text);

    let mut ticking = Ticking::new(Duration::MAX);
    assert!(ticking.advance(SECOND * 1_000_000_000).is_empty());
    assert_eq!(counts(&ticking.stop().report, "ticks"), [0; 5]);
}

#[test]
fn every_driver_of_the_time_seam_ticks() {
    watchdog(LIMIT, "drivers", || {
        let three = |ctx: &Context, period| {
            let (ctx, canceller) = ctx.child();
            let mut seen = 0;
            let count = move |_: &Instant| {
                seen += 1;
                if seen == 3 {
                    canceller.stop(Duration::MAX);
                }
                true
            };
            ticks(period).filter(count).collect().run(&ctx)
        };
        let exact = |ended: Ended<Vec<Instant>>, period: Duration| {
            assert_sums(&ended.report);
            assert_eq!(ended.output.len(), 3);
            for pair in ended.output.windows(2) {
                assert_eq!((pair[1] - pair[0]).as_nanos() % period.as_nanos(), 0);
            }
        };
        // tokio's paused clock.
        one_thread().block_on(async {
            let ended = three(&background(), SECOND * 3600).await;
            assert_eq!(ended.output[2] - ended.output[0], SECOND * 7200);
            exact(ended, SECOND * 3600);
        });
        // The thread's, outside any runtime.
        let short = Duration::from_millis(3);
        exact(block_on(three(&background(), short)), short);
    });
}

#[test]
fn ticks_without_a_timer_or_with_one_that_is_lost_are_an_error() {
    watchdog(LIMIT, "no timer", || {
        let runtime = Builder::new_current_thread().build().unwrap();
        let ended = runtime.block_on(ticks(SECOND).collect().run(&background()));
        let error = error_of(&ended);
        assert!(matches!(error, PipelineError::NoTimer { error: TimerError::Disabled, .. }));

        let runtime = one_thread();
        let mut run = ticks(SECOND).collect().run(&background());
        let task = CountingWaker::new();
        {
            let _inside = runtime.enter();
            assert!(poll(&mut run, &task).is_pending());
        }
        drop(runtime);
        let ended = block_on(run);
        let error = error_of(&ended);
        assert!(
            matches!(error, PipelineError::NoTimer { stage, error: TimerError::Lost } if stage == "ticks")
        );
    });
}

#[test]
fn ticks_that_are_always_due_yield_to_other_tasks() {
    watchdog(LIMIT, "always due", || {
        one_thread().block_on(yields(|ctx| {
            let (timer, clock) = Timer::manual();
            let run = ticks(SECOND).timer(timer);
            // Each item makes the next one due.
            clock.advance(Duration::ZERO);
            let push = move |_| clock.advance(SECOND);
            run.map(push).for_each(drop).run(ctx)
        }));
    });
}

#[test]
fn ticks_pace_what_comes_from_elsewhere() {
    one_thread().block_on(async {
        let (sender, receiver) = async_channel::bounded(1);
        let (ctx, canceller) = background().child();
        let pacer = ticks(SECOND).into_channel(sender).start(&ctx).unwrap();
        let mut paced = Vec::new();
        for n in 0..3 {
            paced.push((receiver.recv().await.unwrap(), n));
        }
        settle().await;
        canceller.cancel();
        let ended = pacer.join().await.unwrap();
        assert_sums(&ended.report);
        assert_eq!(paced[2].0 - paced[0].0, SECOND * 2);
    });
}
