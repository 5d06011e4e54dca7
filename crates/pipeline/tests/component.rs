//! A pipeline in a task of its own, through the seam that a shutdown uses.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::convert::Infallible;
use std::future::{pending, ready};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use selvedge_cancel::{CauseKind, Component, Context};
use selvedge_pipeline::{Order, Pipeline, PipelineError, Sink, StartError, from_iter};
use selvedge_testkit::{CountingWaker, ReentrantWaker, block_on, watchdog};
use support::{
    LIMIT, OnDrop, Tally, alive, assert_sums, error_of, message_of, on_each_runtime, one_thread,
    two_threads, until,
};

/// An endless pipeline of two workers, and how much its sink took.
fn endless(ctx: &Context) -> (Pipeline<()>, Tally) {
    let taken = Tally::default();
    let tally = taken.clone();
    let pipeline = from_iter(0_u64..)
        .workers(2, Order::Ordered, |n| ready(Ok::<_, Infallible>(n)))
        .named("work")
        .for_each(move |_| _ = tally.add())
        .named("endless")
        .start(ctx)
        .unwrap();
    (pipeline, taken)
}

#[test]
fn a_stop_drains() {
    on_each_runtime(|| async {
        let (pipeline, taken) = endless(&Context::background());
        until(|| taken.get() >= 10).await;
        pipeline.stop();
        let ended = pipeline.join().await.unwrap();
        assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Stopped);
        let made = ended.report.stage("from_iter").unwrap().entered;
        assert_eq!((taken.get() as u64, ended.report.left()), (made, 0));
    });
}

#[test]
fn an_abort_ends_it_with_work_under_way() {
    on_each_runtime(|| async {
        let started = Tally::default();
        let tally = started.clone();
        let work = move |n: u64| {
            tally.add();
            async move {
                pending::<()>().await;
                Ok::<_, Infallible>(n)
            }
        };
        let stage = from_iter(0..).workers(3, Order::Ordered, work).named("work");
        let pipeline = stage.collect().start(&Context::background()).unwrap();
        until(|| started.get() == 3).await;
        pipeline.stop();
        pipeline.abort();
        let ended = pipeline.join().await.unwrap();
        // Of a stop and a cancel the cause of the first holds.
        assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Stopped);
        assert_eq!(ended.report.stage("work").unwrap().left, 3);
    });
}

#[test]
fn a_pipeline_that_comes_to_its_end_by_itself_is_joined() {
    on_each_runtime(|| async {
        let pipeline = from_iter(0..5).collect().start(&Context::background()).unwrap();
        let ended = pipeline.join().await.unwrap();
        assert_sums(&ended.report);
        assert_eq!(ended.ok().unwrap(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn what_the_run_left_is_taken_by_one_join_and_any_number_may_wait() {
    on_each_runtime(|| async {
        let (pipeline, taken) = endless(&Context::background());
        until(|| taken.get() >= 1).await;
        let stop = async {
            pipeline.stop();
        };
        let all = tokio::join!(
            pipeline.join(),
            pipeline.join(),
            pipeline.wait(),
            pipeline.wait(),
            pipeline.join(),
            stop
        );
        let taken = [&all.0, &all.1, &all.4].into_iter().flatten().count();
        assert_eq!(taken, 1);
        assert!(pipeline.join().await.is_none());
        pipeline.wait().await;
    });
}

#[test]
fn a_join_that_is_dropped_takes_nothing_along() {
    on_each_runtime(|| async {
        let (pipeline, _taken) = endless(&Context::background());
        {
            let mut join = Box::pin(pipeline.join());
            let waker = CountingWaker::new();
            assert!(join.as_mut().poll(&mut TaskContext::from_waker(&waker.waker())).is_pending());
            pipeline.stop();
            pipeline.wait().await;
            assert_eq!(waker.wakes(), 1);
        }
        assert!(pipeline.join().await.is_some());
    });
}

#[test]
fn stages_that_are_late_are_named_with_what_they_have_under_way() {
    on_each_runtime(|| async {
        let started = Tally::default();
        let tally = started.clone();
        let work = move |n: u64| {
            tally.add();
            async move {
                pending::<()>().await;
                Ok::<_, Infallible>(n)
            }
        };
        let stage = from_iter(0..).named("source").workers(3, Order::Ordered, work).named("work");
        let pipeline = stage.for_each(drop).named("sink").start(&Context::background()).unwrap();
        assert_eq!(Component::name(&pipeline), "sink");
        assert!(pipeline.place().file().ends_with("component.rs"));
        until(|| started.get() == 3).await;
        pipeline.stop();
        let late = pipeline.stragglers();
        let names: Vec<_> = late.iter().map(|late| late.name.as_str()).collect();
        assert_eq!(names, ["source", "work", "sink"]);
        assert_eq!(late[1].note, "3 of 3 items under way");
        assert!(late[1].place.unwrap().file().ends_with("component.rs"));
        assert_eq!(pipeline.stages()[1].entered, 3);
        pipeline.abort();
        pipeline.wait().await;
        assert!(pipeline.stragglers().is_empty());
        assert_eq!(pipeline.stages()[1].left, 3, "exact once the run has ended");
    });
}

#[test]
fn counts_may_be_read_at_any_time() {
    // They are counted on other threads meanwhile: no subtraction may overflow.
    watchdog(LIMIT, "reading counts", || {
        let runtime = two_threads();
        let _inside = runtime.enter();
        let (pipeline, taken) = endless(&Context::background());
        while taken.get() < 5000 {
            assert!(pipeline.stragglers().len() <= 3);
            drop(pipeline.stages());
        }
        pipeline.abort();
        block_on(pipeline.wait());
    });
}

#[test]
fn dropping_the_pipeline_aborts_and_a_join_that_was_taken_before_still_gets_the_end() {
    on_each_runtime(|| async {
        let (pipeline, taken) = endless(&Context::background());
        until(|| taken.get() >= 10).await;
        let join = pipeline.join();
        drop(pipeline);
        let ended = join.await.unwrap();
        assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Dropped);
    });
}

#[test]
fn dropping_the_pipeline_drops_what_it_made() {
    on_each_runtime(|| async {
        let drops = Tally::default();
        let items: Vec<_> = (0..4).map(|_| OnDrop(drops.clone())).collect();
        let pipeline = from_iter(items).collect().start(&Context::background()).unwrap();
        pipeline.wait().await;
        assert_eq!(drops.get(), 0);
        drop(pipeline);
        until(|| drops.get() == 4).await;
    });
}

#[test]
fn it_ends_with_the_context_that_it_was_started_under() {
    on_each_runtime(|| async {
        let (ctx, canceller) = Context::background().child();
        let (pipeline, _taken) = endless(&ctx);
        canceller.cancel();
        let ended = pipeline.join().await.unwrap();
        assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Cancelled);
    });
}

#[test]
fn a_start_outside_a_runtime_is_a_typed_error() {
    let error = from_iter(0..3).collect().start(&Context::background()).unwrap_err();
    assert_eq!(error, StartError::NoRuntime);
    assert_eq!(
        error.to_string(),
        "pipeline not started: no tokio runtime, call `start` inside one"
    );
}

#[test]
fn a_runtime_that_is_shut_down_underneath_ends_the_wait() {
    watchdog(LIMIT, "a wait for a pipeline whose runtime is gone", || {
        for runtime in [one_thread(), two_threads()] {
            let pipeline = {
                let _inside = runtime.enter();
                let work = |n: u64| async move {
                    pending::<()>().await;
                    Ok::<_, Infallible>(n)
                };
                let stage = from_iter(0..).workers(2, Order::Ordered, work);
                stage.collect().start(&Context::background()).unwrap()
            };
            drop(runtime);
            block_on(pipeline.wait());
            // Its task may have seen that those of its stages are gone, or have gone before.
            if let Some(ended) = block_on(pipeline.join()) {
                assert!(matches!(error_of(&ended), PipelineError::NoRuntime));
            }
            assert!(pipeline.stragglers().is_empty());
            pipeline.stop();
            pipeline.abort();
        }
    });
}

#[test]
fn a_start_under_a_runtime_that_is_gone_has_ended() {
    let runtime = two_threads();
    let handle = runtime.handle().clone();
    drop(runtime);
    let _inside = handle.enter();
    let pipeline = from_iter(0..3).collect().start(&Context::background()).unwrap();
    assert!(watchdog(LIMIT, "a join", move || block_on(pipeline.join())).is_none());
}

#[test]
fn a_task_that_is_dropped_before_it_ran_tells_of_its_end_when_nothing_of_it_is_left() {
    let runtime = one_thread();
    let inside = runtime.enter();
    let (told, left) = (Tally::default(), Tally::default());
    let held = OnDrop(left.clone());
    let source = from_iter(0..9_u64).map(move |n| {
        let _captured = &held;
        n
    });
    let pipeline = source.collect().start(&Context::background()).unwrap();
    let mut wait = pipeline.wait();
    let (count, seen) = (told.clone(), left.clone());
    let waker = ReentrantWaker::on_wake(move || (0..seen.get()).for_each(|_| _ = count.add()));
    let task = waker.waker();
    let mut cx = TaskContext::from_waker(&task);
    assert!(wait.as_mut().poll(&mut cx).is_pending());
    drop(inside);
    drop(runtime);
    assert_eq!((waker.wakes(), left.get()), (1, 1));
    assert_eq!(told.get(), 1, "the description was still there");
    assert!(wait.as_mut().poll(&mut cx).is_ready());
}

/// Panics at its end.
struct Panics;

impl Sink<u64> for Panics {
    type Error = Infallible;
    type Output = ();

    fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn accept(&mut self, _: u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn finish(self) {
        panic!("the sink's end");
    }
}

#[test]
fn a_panic_of_the_sinks_end_goes_on_in_the_join_and_poisons_nothing() {
    watchdog(LIMIT, "a join of a sink that panics", || {
        let runtime = one_thread();
        let _inside = runtime.enter();
        let pipeline = from_iter(0..3).into_sink(Panics).start(&Context::background()).unwrap();
        let message = message_of(AssertUnwindSafe(|| runtime.block_on(pipeline.join())));
        assert_eq!(message, "the sink's end");
        // Reported once.
        assert!(runtime.block_on(pipeline.join()).is_none());
        assert_eq!(pipeline.stages().len(), 2);
        assert_eq!(alive(runtime.handle()), 0);
    });
}

#[test]
fn a_pipeline_is_a_component_whatever_it_makes() {
    on_each_runtime(|| async {
        let first = from_iter(0_u64..).for_each(drop).start(&Context::background()).unwrap();
        let second =
            from_iter(0_u64..).fold(0, |a, n| a ^ n).start(&Context::background()).unwrap();
        let components: Vec<Arc<dyn Component>> = vec![Arc::new(first), Arc::new(second)];
        for component in &components {
            assert_eq!(component.name(), "pipeline");
            component.stop();
        }
        for component in &components {
            component.wait().await;
        }
    });
}

#[test]
fn an_error_reaches_the_join() {
    on_each_runtime(|| async {
        let stage = from_iter(0..9_u64).map(|n| assert!(n < 4, "four"));
        let pipeline = stage.collect().start(&Context::background()).unwrap();
        let ended = pipeline.join().await.unwrap();
        assert!(matches!(error_of(&ended), PipelineError::Panicked { index: 4, .. }));
        assert_eq!(ended.output.len(), 4);
    });
}
