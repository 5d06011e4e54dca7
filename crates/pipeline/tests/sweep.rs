//! Every public future, dropped, woken and dropped, moved, unwound and cancelled at each of its
//! await points. The other side is moved by hand, so K is the same in every run.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context as TaskContext, Poll, Waker};

use selvedge_cancel::{Component, Context};
use selvedge_pipeline::{PipelineError, Sink, Yielder, from_iter, generate};
use selvedge_testkit::{CountingWaker, Ended, Mode, Run, block_on, next, sweep};
use support::{OnDrop, Tally, alive, assert_sums, one_thread, settle};
use tokio::sync::Notify;

/// A sink with room for as many as it is told.
struct Slow {
    room: Arc<Mutex<(usize, Option<Waker>)>>,
    taken: Vec<OnDrop>,
}

impl Sink<OnDrop> for Slow {
    type Error = Infallible;
    type Output = Vec<OnDrop>;

    fn poll_reserve(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        let mut room = self.room.lock().unwrap();
        if room.0 > 0 {
            room.1 = None;
            return Poll::Ready(Ok(()));
        }
        room.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    fn accept(&mut self, item: OnDrop) -> Result<(), Infallible> {
        self.room.lock().unwrap().0 -= 1;
        self.taken.push(item);
        Ok(())
    }

    fn finish(self) -> Vec<OnDrop> {
        self.taken
    }
}

/// The loop of a run waits in two places, for its sink and for its flow, and for its tasks at the
/// end. Fused stages over a generator show the first two; the wait for tasks is a `JoinSet`'s, and
/// what tasks do between two polls belongs to a runtime: `endings.rs` ends runs with workers in each
/// of the ways that this sweep has.
#[test]
fn a_run_loses_no_item_wherever_it_ends() {
    let summary = sweep("Run", |run: &mut Run| {
        let (made, drops) = (Tally::default(), Tally::default());
        let (gate, room) = (Arc::new(Notify::new()), Arc::new(Mutex::new((0, None))));
        let (ctx, canceller) = Context::background().child();
        let stage = {
            let (gate, made, drops) = (Arc::clone(&gate), made.clone(), drops.clone());
            generate(move |y| async move {
                for _ in 0..3 {
                    gate.notified().await;
                    made.add();
                    y.give(OnDrop(drops.clone())).await;
                }
                Ok::<_, Infallible>(())
            })
        };
        let sink = Slow { room: Arc::clone(&room), taken: Vec::new() };
        let future = stage.map(|item| item).into_sink(sink).run(&ctx);
        // Room, an item, room, an item, ...
        let step = |k: usize| {
            if k % 2 == 1 {
                gate.notify_one();
                return;
            }
            let waker = {
                let mut room = room.lock().unwrap();
                room.0 += 1;
                room.1.take()
            };
            waker.into_iter().for_each(Waker::wake);
        };

        let cancel_on_the_way = matches!(run.mode(), Mode::Cancel | Mode::WakeThenCancel);
        let ended = run.drive_cancel(future, step, || canceller.cancel());

        match ended {
            Ended::Ready(ended) => {
                assert_sums(&ended.report);
                assert_eq!(ended.output.len(), made.get(), "an item was lost");
                assert_eq!(drops.get(), 0);
                match &ended.error {
                    None => assert_eq!(made.get(), 3),
                    Some(PipelineError::Ended(_)) => assert!(cancel_on_the_way),
                    Some(other) => panic!("{other:?}"),
                }
            }
            Ended::Dropped => assert_eq!(drops.get(), made.get(), "an item was kept"),
        }
        drop(room);
        assert_eq!(run.live_wakers(), 0, "a waker stayed behind");
    });
    assert_eq!(summary.pending_points, 7, "{summary}");
}

/// Two generators merged: what one of them has made and the loop has not taken is dropped once, and
/// the waker that it left is gone.
#[test]
fn a_merged_run_loses_no_item_wherever_it_ends() {
    let summary = sweep("Run", |run: &mut Run| {
        let (made, drops) = (Tally::default(), Tally::default());
        let gates = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        let (ctx, canceller) = Context::background().child();
        let source = |gate: &Arc<Notify>| {
            let (gate, made, drops) = (Arc::clone(gate), made.clone(), drops.clone());
            generate(move |y| async move {
                for _ in 0..2 {
                    gate.notified().await;
                    made.add();
                    y.give(OnDrop(drops.clone())).await;
                }
                Ok::<_, Infallible>(())
            })
        };
        let merged = source(&gates[0]).merge([source(&gates[1])]);
        let future = merged.collect().run(&ctx);

        let cancel_on_the_way = matches!(run.mode(), Mode::Cancel | Mode::WakeThenCancel);
        let step = |k: usize| gates[k % 2].notify_one();
        let ended = run.drive_cancel(future, step, || canceller.cancel());

        match ended {
            Ended::Ready(ended) => {
                assert!(ended.report.adds_up());
                assert_eq!(ended.output.len(), made.get(), "an item was lost");
                assert_eq!(drops.get(), 0);
                match &ended.error {
                    None => assert_eq!(made.get(), 4),
                    Some(PipelineError::Ended(_)) => assert!(cancel_on_the_way),
                    Some(other) => panic!("{other:?}"),
                }
            }
            Ended::Dropped => assert_eq!(drops.get(), made.get(), "an item was kept"),
        }
        assert_eq!(run.live_wakers(), 0, "a waker stayed behind");
    });
    assert_eq!(summary.pending_points, 4, "{summary}");
}

/// A poll that is pending has pulled nothing, so what a dropped wait leaves is all there.
#[test]
fn a_stream_loses_no_item_wherever_a_wait_for_the_next_ends() {
    let summary = sweep("Items", |run: &mut Run| {
        let (made, drops) = (Tally::default(), Tally::default());
        let gate = Arc::new(Notify::new());
        let (ctx, canceller) = Context::background().child();
        let (told, m, d) = (Arc::clone(&gate), made.clone(), drops.clone());
        let stage = generate(move |y| async move {
            loop {
                told.notified().await;
                told.notified().await;
                m.add();
                y.give(OnDrop(d.clone())).await;
                if false {
                    return Ok::<_, Infallible>(());
                }
            }
        });
        let mut items = stage.into_stream(&ctx);
        let step = |_| gate.notify_one();

        let ended = run.drive_cancel(next(&mut items), step, || canceller.cancel());

        let mut taken = match ended {
            Ended::Ready(Some(Ok(item))) => {
                drop(item);
                1
            }
            Ended::Ready(_) | Ended::Dropped => 0,
        };
        // The next wait goes on where this one stood.
        canceller.cancel();
        loop {
            match block_on(next(&mut items)) {
                Some(Ok(_)) => taken += 1,
                Some(Err(error)) => assert!(error.cause().is_some()),
                None => break,
            }
        }
        assert_sums(items.report().unwrap());
        assert_eq!((taken, drops.get()), (made.get(), made.get()), "an item was lost or doubled");
        assert_eq!(run.live_wakers(), 0, "a waker stayed behind");
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}

/// The task of the pipeline runs when a step says so.
#[test]
fn a_join_leaves_the_result_to_the_next_wherever_it_ends() {
    let summary = sweep("Join", |run: &mut Run| {
        let runtime = one_thread();
        let pipeline = {
            let _inside = runtime.enter();
            from_iter(0_u64..).for_each(drop).start(&Context::background()).unwrap()
        };
        let step = |k: usize| {
            if k == 1 {
                pipeline.stop();
            }
            runtime.block_on(settle());
        };
        let cancel = || {
            pipeline.abort();
            runtime.block_on(settle());
        };

        let taken = match run.drive_cancel(pipeline.join(), step, cancel) {
            Ended::Ready(ended) => {
                let ended = ended.expect("nobody else took it");
                assert_sums(&ended.report);
                assert!(matches!(ended.error, Some(PipelineError::Ended(_))));
                true
            }
            Ended::Dropped => false,
        };

        pipeline.abort();
        let left = runtime.block_on(pipeline.join());
        assert_eq!(left.is_some(), !taken, "the result was lost or doubled");
        assert_eq!(alive(runtime.handle()), 0);
        assert_eq!(run.live_wakers(), 0, "a waker stayed behind");
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}

/// A generator whose body waits for ever and whose yielder is out.
struct Source {
    run: selvedge_pipeline::Run<Vec<OnDrop>>,
    task: CountingWaker,
    yielder: Yielder<OnDrop>,
    canceller: selvedge_cancel::Canceller,
}

impl Source {
    fn new() -> Self {
        let (ctx, canceller) = Context::background().child();
        let (sender, receiver) = mpsc::channel();
        let stage = generate(move |y| async move {
            sender.send(y).unwrap();
            std::future::pending::<Result<(), Infallible>>().await
        });
        let (mut run, task) = (stage.collect().run(&ctx), CountingWaker::new());
        let mut cx = TaskContext::from_waker(Waker::noop());
        assert!(Pin::new(&mut run).poll(&mut cx).is_pending());
        Self { run, task, yielder: receiver.recv().unwrap(), canceller }
    }

    /// Takes the item that lies in place, if there is one.
    fn take(&mut self) {
        let waker = self.task.waker();
        assert!(Pin::new(&mut self.run).poll(&mut TaskContext::from_waker(&waker)).is_pending());
    }

    /// Ends it. Returns how many items were taken.
    fn end(mut self) -> usize {
        self.canceller.cancel();
        let waker = self.task.waker();
        match Pin::new(&mut self.run).poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(ended) => {
                assert_sums(&ended.report);
                ended.output.len()
            }
            Poll::Pending => panic!("it was cancelled"),
        }
    }
}

/// Polls with a waker that nobody listens to.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

/// Somebody has the place, and somebody waits behind: both are served whatever becomes of the one
/// between.
#[test]
fn a_give_gives_its_item_or_drops_it_and_holds_up_nobody() {
    let summary = sweep("Give", |run: &mut Run| {
        let (made, drops) = (Tally::default(), Tally::default());
        let item = || {
            made.add();
            OnDrop(drops.clone())
        };
        let mut source = Source::new();
        let mut room = Some(block_on(source.yielder.reserve()));
        let (ctx, canceller) = Context::background().child();
        let give = ctx.run(source.yielder.give(item()));
        let mut behind = None;
        let step = |k: usize| {
            if k == 0 {
                // In line behind the one that is swept.
                let mut waiting = Box::pin(source.yielder.give(item()));
                assert!(poll_once(waiting.as_mut()).is_pending());
                behind = Some(waiting);
                room.take().unwrap().put(item()).unwrap();
            } else {
                source.take();
            }
        };

        let ended = run.drive_cancel(give, step, || canceller.cancel());

        // What the steps did not do.
        if let Some(room) = room.take() {
            let _ = room.put(item());
        }
        if let Some(mut behind) = behind {
            let mut polls = 0;
            while poll_once(behind.as_mut()).is_pending() {
                source.take();
                polls += 1;
                assert!(polls < 5, "the next in line is not served");
            }
        }
        let taken = source.end();
        match ended {
            Ended::Ready(Ok(())) => assert_eq!(taken, made.get(), "an item was lost"),
            Ended::Ready(Err(_)) | Ended::Dropped => {
                assert!(made.get() - taken <= 1, "another's item was lost")
            }
        }
        assert_eq!(drops.get(), made.get(), "an item was kept or doubled");
        assert_eq!(run.live_wakers(), 0, "a waker stayed behind");
    });
    assert_eq!(summary.pending_points, 3, "{summary}");
}

#[test]
fn a_reserve_gives_back_its_place_wherever_it_ends() {
    let summary = sweep("Reserve", |run: &mut Run| {
        let (made, drops) = (Tally::default(), Tally::default());
        let item = || {
            made.add();
            OnDrop(drops.clone())
        };
        let mut source = Source::new();
        let mut room = Some(block_on(source.yielder.reserve()));
        let (ctx, canceller) = Context::background().child();
        let reserve = ctx.run(source.yielder.reserve());
        let step = |k: usize| match k {
            0 => room.take().unwrap().put(item()).unwrap(),
            _ => source.take(),
        };

        let ended = run.drive_cancel(reserve, step, || canceller.cancel());

        drop(room);
        if let Ended::Ready(Ok(room)) = ended {
            let _ = room.put(item());
        }
        source.take();
        // The place is free for whoever comes.
        let mut next = Box::pin(source.yielder.give(item()));
        assert!(poll_once(next.as_mut()).is_pending());
        source.take();
        assert!(poll_once(next.as_mut()).is_ready(), "the place was not given back");
        let taken = source.end();
        assert_eq!((taken, drops.get()), (made.get(), made.get()));
        assert_eq!(run.live_wakers(), 0, "a waker stayed behind");
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}
