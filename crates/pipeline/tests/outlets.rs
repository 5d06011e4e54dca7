//! Pipelines that end in a stream or a channel.
#![cfg(all(not(selvedge_loom), feature = "channel", feature = "tokio"))]

mod support;

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures_core::Stream;
use selvedge_cancel::{CauseKind, Context};
use selvedge_pipeline::{
    ChannelClosed, Items, Order, PipelineError, Sink, from_channel, from_iter, generate,
};
use selvedge_testkit::{CountingWaker, block_on, next, watchdog};
use support::{
    Bomb, Broken, LIMIT, OnDrop, Tally, assert_sums, counts, error_of, failed, on_each_runtime,
    one_thread, panicked, settle, until,
};

fn background() -> Context {
    Context::background()
}

fn poll<T>(items: &mut Items<T>, task: &CountingWaker) -> Poll<Option<Result<T, PipelineError>>> {
    Pin::new(items).poll_next(&mut TaskContext::from_waker(&task.waker()))
}

async fn double(n: u64) -> Result<u64, Infallible> {
    tokio::task::yield_now().await;
    Ok(2 * n)
}

// Streams.

#[test]
fn a_stream_gives_every_item_then_none_for_ever_and_has_a_report() {
    on_each_runtime(|| async {
        let stage = from_iter(0..50_u64).workers(3, Order::Ordered, double);
        let mut items = stage.into_stream(&background());
        let mut all = Vec::new();
        while let Some(item) = next(&mut items).await {
            assert!(items.report().is_none() || all.len() == 49);
            all.push(item.unwrap());
        }
        assert_eq!(all, (0..50).map(|n| 2 * n).collect::<Vec<_>>());
        assert!(next(&mut items).await.is_none());
        let report = items.report().unwrap();
        assert_sums(report);
        assert_eq!(counts(report, "sink"), [50, 50, 0, 0, 0]);
    });
}

#[test]
fn a_stream_pulls_nothing_that_nobody_asked_for() {
    let (pulled, task) = (Tally::default(), CountingWaker::new());
    let count = pulled.clone();
    let mut items = from_iter(0..).map(move |_| count.add()).into_stream(&background());
    assert_eq!(pulled.get(), 0);
    for n in 0..10 {
        assert!(matches!(poll(&mut items, &task), Poll::Ready(Some(Ok(item))) if item == n));
        assert_eq!(pulled.get(), n + 1);
    }
}

#[test]
fn a_stream_shows_a_failure_once_after_the_items_before_it() {
    let mut items = from_iter(0..9_u64)
        .try_map(|n| if n < 2 { Ok(n) } else { Err(Broken(n)) })
        .into_stream(&background());
    block_on(async {
        assert_eq!(next(&mut items).await.unwrap().unwrap(), 0);
        assert_eq!(next(&mut items).await.unwrap().unwrap(), 1);
        assert_eq!(failed(&next(&mut items).await.unwrap().unwrap_err()), ("try_map", 2));
        assert!(next(&mut items).await.is_none());
    });
    assert_sums(items.report().unwrap());
}

#[test]
fn a_stream_whose_context_is_stopped_gives_what_was_accepted() {
    on_each_runtime(|| async {
        let (ctx, canceller) = background().child();
        let stage = from_iter(0..).workers(3, Order::Ordered, double);
        let mut items = stage.into_stream(&ctx);
        assert_eq!(next(&mut items).await.unwrap().unwrap(), 0);
        canceller.stop(Duration::MAX);
        let mut given = 1;
        let error = loop {
            match next(&mut items).await.unwrap() {
                Ok(_) => given += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.cause().unwrap().kind(), CauseKind::Stopped);
        let report = items.report().unwrap();
        assert_sums(report);
        assert_eq!((report.left(), report.stages[0].passed), (0, given));
    });
}

#[test]
fn a_stream_whose_context_is_cancelled_wakes_its_waiter_and_ends() {
    let (ctx, canceller) = background().child();
    let stage = generate(|_: selvedge_pipeline::Yielder<u64>| pending::<Result<(), Infallible>>());
    let (mut items, task) = (stage.into_stream(&ctx), CountingWaker::new());
    assert!(poll(&mut items, &task).is_pending());
    let woken = task.wakes();
    canceller.cancel();
    assert!(task.wakes() > woken);
    let Poll::Ready(Some(Err(error))) = poll(&mut items, &task) else { panic!("cancelled") };
    assert!(error.cause().is_some());
    assert!(matches!(poll(&mut items, &task), Poll::Ready(None)));
    assert_sums(items.report().unwrap());
}

#[test]
fn items_that_nobody_asked_for_are_left_by_a_cancel() {
    on_each_runtime(|| async {
        let (ctx, canceller) = background().child();
        let done = Tally::default();
        let count = done.clone();
        let work = move |n: u64| {
            let done = count.clone();
            async move {
                done.add();
                Ok::<_, Infallible>(n)
            }
        };
        let stage = from_iter(0..).workers(2, Order::Ordered, work).window(4).named("work");
        let mut items = stage.into_stream(&ctx);
        assert_eq!(next(&mut items).await.unwrap().unwrap(), 0);
        until(|| done.get() == 5).await;
        canceller.cancel();
        let mut given = 1;
        while let Some(item) = next(&mut items).await {
            given += u64::from(item.is_ok());
        }
        let report = items.report().unwrap();
        assert_sums(report);
        assert!(given <= 2, "one more, at most, was asked for");
        let stage = report.stage("work").unwrap();
        assert_eq!((stage.passed, stage.left), (given, stage.entered - given));
    });
}

#[test]
fn a_dropped_stream_ends_its_tasks_and_drops_every_item() {
    on_each_runtime(|| async {
        let (made, drops) = (Tally::default(), Tally::default());
        let (m, d) = (made.clone(), drops.clone());
        let source = from_iter(0..).map(move |_: u64| {
            m.add();
            OnDrop(d.clone())
        });
        let pass = |item| async move { Ok::<_, Infallible>(item) };
        let mut items = source.workers(3, Order::Unordered, pass).into_stream(&background());
        drop(next(&mut items).await.unwrap().unwrap());
        drop(items);
        // Tasks that are told to end do so when they are next polled.
        until(|| drops.get() == made.get()).await;
        settle().await;
        assert_eq!(drops.get(), made.get());
    });
}

#[test]
fn a_stream_outside_a_runtime_needs_none_unless_a_stage_does() {
    let mut items =
        from_iter(0..1_u64).workers(1, Order::Ordered, double).into_stream(&background());
    block_on(async {
        let error = next(&mut items).await.unwrap().unwrap_err();
        assert!(matches!(error, PipelineError::NoRuntime));
        assert!(next(&mut items).await.is_none());
    });
}

#[test]
fn a_panic_behind_a_stream_comes_out_as_an_error() {
    let mut items = from_iter([1]).map(|_| -> u64 { panic!("oops") }).into_stream(&background());
    let error = block_on(next(&mut items)).unwrap().unwrap_err();
    assert_eq!(panicked(&error), ("map", 0, "oops"));
}

#[test]
fn a_stream_that_is_always_ready_yields_to_other_tasks() {
    watchdog(LIMIT, "always ready", || {
        one_thread().block_on(async {
            let (ctx, canceller) = background().child();
            let mut items = from_iter(0_u64..).into_stream(&ctx);
            let reader = tokio::spawn(async move {
                while let Some(Ok(_)) = next(&mut items).await {}
                items
            });
            tokio::task::yield_now().await;
            canceller.cancel();
            assert_sums(reader.await.unwrap().report().unwrap());
        });
    });
}

// Channels.

#[test]
fn a_channel_gets_every_item_in_order_and_is_closed_at_the_end() {
    on_each_runtime(|| async {
        let (sender, receiver) = async_channel::bounded(2);
        let run = from_iter(0..50_u64).workers(3, Order::Ordered, double).into_channel(sender);
        let run = run.named("out").run(&background());
        // One pipeline feeds another.
        let (ended, received) =
            tokio::join!(run, from_channel(receiver).collect().run(&background()));
        assert_sums(&ended.report);
        assert_eq!(counts(&ended.report, "out"), [50, 50, 0, 0, 0]);
        assert!(ended.ok().unwrap().is_none());
        assert_eq!(received.ok().unwrap(), (0..50).map(|n| 2 * n).collect::<Vec<_>>());
    });
}

#[test]
fn a_full_channel_holds_up_the_pipeline_one_item_beyond_its_capacity() {
    on_each_runtime(|| async {
        let (pulled, (sender, receiver)) = (Tally::default(), async_channel::bounded(2));
        let count = pulled.clone();
        let source = from_iter(0..10_u64).map(move |n| {
            count.add();
            n
        });
        let (ended, ()) = tokio::join!(source.into_channel(sender).run(&background()), async {
            until(|| pulled.get() == 3).await;
            settle().await;
            assert_eq!((pulled.get(), receiver.len()), (3, 2));
            for n in 0..10 {
                assert_eq!(receiver.recv().await.unwrap(), n);
            }
            assert!(receiver.recv().await.is_err());
        });
        assert_sums(&ended.report);
        assert!(ended.error.is_none());
    });
}

#[test]
fn a_stop_sends_what_was_accepted_and_a_cancel_leaves_the_item_that_waits() {
    on_each_runtime(|| async {
        let (ctx, canceller) = background().child();
        let (drops, (sender, receiver)) = (Tally::default(), async_channel::bounded(1));
        let made = drops.clone();
        let source = from_iter(0..).map(move |_: u64| OnDrop(made.clone()));
        let (ended, ()) = tokio::join!(source.into_channel(sender).named("out").run(&ctx), async {
            until(|| receiver.is_full()).await;
            canceller.stop(Duration::MAX);
            settle().await;
            assert!(!receiver.is_closed(), "a stop leaves the wait alone");
            canceller.cancel();
        });
        assert_eq!(counts(&ended.report, "out"), [2, 1, 0, 0, 1]);
        assert!(error_of(&ended).cause().is_some());
        assert!(ended.output.is_none());
        assert_eq!((drops.get(), receiver.len()), (1, 1), "the sent one stays in the channel");
        assert!(receiver.is_closed());
    });
}

#[test]
fn an_item_whose_destructor_panics_when_a_cancel_leaves_it_costs_no_report() {
    on_each_runtime(|| async {
        let (ctx, canceller) = background().child();
        let (sender, receiver) = async_channel::bounded(1);
        let source = from_iter(0..).map(|n: u64| (n == 1).then(|| Bomb("the item's destructor")));
        let (ended, ()) = tokio::join!(source.into_channel(sender).named("out").run(&ctx), async {
            until(|| receiver.is_full()).await;
            settle().await;
            canceller.cancel();
        });
        assert_eq!(counts(&ended.report, "out"), [2, 1, 0, 0, 1]);
        assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Cancelled);
    });
}

#[test]
fn a_closed_channel_fails_the_run_and_gives_back_the_item_that_waited() {
    on_each_runtime(|| async {
        let (sender, receiver) = async_channel::bounded(1);
        let run = from_iter(0..9_u64).into_channel(sender).named("out").run(&background());
        let (ended, ()) = tokio::join!(run, async {
            until(|| receiver.is_full()).await;
            settle().await;
            drop(receiver);
        });
        assert_eq!(failed(error_of(&ended)), ("out", 1), "the item that comes back");
        assert!(error_of(&ended).downcast_ref::<ChannelClosed>().is_some());
        assert_eq!(counts(&ended.report, "out"), [2, 1, 0, 0, 1]);
        assert_eq!(ended.output, Some(1));
    });
}

#[test]
fn a_channel_that_is_closed_already_is_an_error_before_any_item_is_pulled() {
    let (sender, receiver) = async_channel::bounded(1);
    drop(receiver);
    let (pulled, run) = (Tally::default(), from_iter(0..9));
    let count = pulled.clone();
    let run = run.map(move |_: u64| count.add()).into_channel(sender);
    let ended = watchdog(LIMIT, "closed", move || block_on(run.run(&background())));
    assert_eq!(failed(error_of(&ended)), ("sink", 0));
    let closed = error_of(&ended).downcast_ref::<ChannelClosed>().unwrap();
    assert_eq!(closed.to_string(), "item not sent: the channel is closed");
    assert_eq!((pulled.get(), ended.output), (0, None));
}

#[test]
fn a_close_wakes_a_run_that_waits_for_its_source() {
    let (sender, receiver) = async_channel::bounded(1);
    let stage = generate(|_: selvedge_pipeline::Yielder<u64>| pending::<Result<(), Infallible>>());
    let (mut run, task) = (stage.into_channel(sender).run(&background()), CountingWaker::new());
    let mut poll = || Pin::new(&mut run).poll(&mut TaskContext::from_waker(&task.waker()));
    assert!(poll().is_pending());
    drop(receiver);
    assert_eq!(task.wakes(), 1);
    let Poll::Ready(ended) = poll() else { panic!("nobody is there to receive") };
    assert_eq!(failed(error_of(&ended)), ("sink", 0));
}

#[test]
fn a_dropped_run_lets_go_of_its_sender() {
    let (sender, receiver) = async_channel::bounded(1);
    let mut run = Box::pin(from_iter(0..9).into_channel(sender).run(&background()));
    let mut cx = TaskContext::from_waker(std::task::Waker::noop());
    assert!(run.as_mut().poll(&mut cx).is_pending());
    drop(run);
    assert_eq!(receiver.try_recv(), Ok(0));
    assert!(receiver.is_closed());
}

#[test]
fn a_channel_with_room_yields_to_other_tasks() {
    watchdog(LIMIT, "always room", || {
        one_thread().block_on(async {
            let (ctx, canceller) = background().child();
            let (sender, receiver) = async_channel::unbounded();
            let drain = receiver.clone();
            let source = from_iter(0_u64..).map(move |n| {
                let _ = drain.try_recv();
                n
            });
            let run = tokio::spawn(source.into_channel(sender).run(&ctx));
            tokio::task::yield_now().await;
            canceller.cancel();
            assert_sums(&run.await.unwrap().report);
        });
    });
}

// Sinks that hold what they took.

/// Takes everything and gets nothing anywhere; says so, or panics.
struct Hoard(usize, Option<Bomb>);

impl Sink<u64> for Hoard {
    type Error = Infallible;
    type Output = usize;

    fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn accept(&mut self, _: u64) -> Result<(), Infallible> {
        self.0 += 1;
        Ok(())
    }

    fn undelivered(&self) -> usize {
        assert!(self.1.is_none(), "asked");
        // More than there are is all of them.
        self.0 + 1
    }

    fn finish(mut self) -> usize {
        std::mem::forget(self.1.take());
        self.0
    }
}

#[test]
fn what_a_sink_took_and_did_not_deliver_is_left() {
    let ended = block_on(from_iter(0..3).into_sink(Hoard(0, None)).run(&background()));
    assert_eq!(counts(&ended.report, "sink"), [3, 0, 0, 0, 3]);
    assert_eq!(ended.ok().unwrap(), 3);

    let ended = block_on(from_iter(0..3).into_sink(Hoard(0, Some(Bomb("")))).run(&background()));
    assert_eq!(panicked(error_of(&ended)), ("sink", 3, "asked"));
    assert_eq!(ended.output, 3);
}

#[test]
fn outlets_print() {
    let mut items = from_iter([1]).into_stream(&background());
    assert_eq!(format!("{items:?}"), "Items { ended: false, .. }");
    block_on(poll_fn(|cx| Pin::new(&mut items).poll_next(cx))).unwrap().unwrap();
    assert!(block_on(next(&mut items)).is_none());
    assert_eq!(format!("{items:?}"), "Items { ended: true, .. }");
}
