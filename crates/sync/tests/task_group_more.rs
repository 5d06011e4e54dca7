//! What a task group does beyond async tasks whose values are joined in order: blocking tasks, a limit that changes, values as they come or
//! not at all, a grace, and panics that tell where they come from.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

use std::future::ready;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, panic_any};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{CauseKind, Context as Tree, Timer};
use selvedge_sync::{Counts, Latch, Refusal, TaskGroup, TaskGroupBuilder, TaskGroupError};
use selvedge_testkit::{CountingWaker, PanickingWaker, block_on, watchdog};
use tokio::runtime::{Builder, Runtime};

/// What tasks here fail with.
type Text = &'static str;

/// Fails rather than hangs.
fn within_reason<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    watchdog(Duration::from_secs(30), "the test", f)
}

fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Runs a test on one thread, with a paused clock, under a watchdog.
fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    within_reason(|| paused().block_on(test()));
}

fn builder() -> TaskGroupBuilder<'static, u32, Text> {
    static TREE: std::sync::OnceLock<Tree> = std::sync::OnceLock::new();
    TaskGroup::builder(TREE.get_or_init(Tree::background))
}

/// (spawned, finished, failed, panicked, cancelled)
fn numbers(counts: Counts) -> (usize, usize, usize, usize, usize) {
    let Counts { spawned, finished, failed, panicked, cancelled, .. } = counts;
    (spawned, finished, failed, panicked, cancelled)
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts its drops.
struct Captured(Arc<AtomicUsize>);

impl Drop for Captured {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

// Blocking tasks.

#[test]
fn blocking_tasks_are_tasks_like_others() {
    within_reason(|| {
        Builder::new_multi_thread().worker_threads(1).build().unwrap().block_on(async {
            let group = builder().build().unwrap();
            let dropped = Arc::new(AtomicUsize::new(0));
            for n in 0..3 {
                let captured = Captured(Arc::clone(&dropped));
                let index = group.try_spawn_blocking(move || {
                    let _captured = captured;
                    thread::sleep(Duration::from_millis(2));
                    Ok(n)
                });
                assert_eq!(index.map_err(drop), Ok(n as usize));
            }
            let slot = group.reserve().await.unwrap();
            assert_eq!(slot.spawn_blocking(|| Ok(3)).map_err(drop), Ok(3));
            assert_eq!(group.join().await.into_result().unwrap(), [0, 1, 2, 3]);
            assert_eq!(dropped.load(Ordering::Relaxed), 3);
        });
    });
}

#[test]
fn a_blocking_task_that_fails_or_panics_ends_the_others() {
    within_reason(|| {
        Builder::new_multi_thread().worker_threads(1).build().unwrap().block_on(async {
            let group = builder().build().unwrap();
            group.spawn(std::future::pending()).await.unwrap();
            group.try_spawn_blocking(|| Err("broken")).map_err(drop).unwrap();
            let joined = group.join().await;
            assert_eq!(numbers(joined.counts), (2, 0, 1, 0, 1));
            assert_eq!(joined.into_result().unwrap_err().into_first_error(), Some("broken"));

            let group = builder().return_panics().build().unwrap();
            group.spawn(std::future::pending()).await.unwrap();
            let line = line!() + 1;
            group.try_spawn_blocking(|| panic!("blocked {}", 7)).map_err(drop).unwrap();
            let joined = group.join().await;
            assert_eq!(numbers(joined.counts), (2, 0, 0, 1, 1));
            assert_eq!((joined.failures[0].index, joined.failures[0].place.line()), (1, line));
            assert!(joined.failures[0].to_string().ends_with("panicked: blocked 7"));
        });
    });
}

#[test]
fn a_blocking_task_that_has_not_begun_is_dropped_by_the_cancel_and_one_that_has_is_waited_for() {
    within_reason(|| {
        let mut builder_of_runtime = Builder::new_multi_thread();
        let runtime = builder_of_runtime.worker_threads(1).max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let group = Arc::new(builder().build().unwrap());
            let (began, go_on) = (Arc::new(Latch::new(1)), Arc::new(Latch::new(1)));
            let first = (Arc::clone(&began), Arc::clone(&go_on));
            let running = move || {
                first.0.count_down(1);
                first.1.wait_blocking();
                Ok(1)
            };
            group.try_spawn_blocking(running).map_err(drop).unwrap();
            let ran = Arc::new(AtomicBool::new(false));
            let second = Arc::clone(&ran);
            let queued = move || {
                second.store(true, Ordering::Relaxed);
                Ok(2)
            };
            group.try_spawn_blocking(queued).map_err(drop).unwrap();
            began.wait().await;
            group.cancel();
            assert!(poll_once(pin!(group.join())).is_pending());
            go_on.count_down(1);
            let joined = group.join().await;
            assert_eq!(numbers(joined.counts), (2, 1, 0, 0, 1));
            assert_eq!(joined.results, [Some(1), None]);
            assert!(!ran.load(Ordering::Relaxed));
        });
    });
}

#[test]
fn a_blocking_task_that_is_refused_gives_its_closure_back() {
    let outside = builder().build().unwrap();
    let error = outside.try_spawn_blocking(|| Ok(7)).unwrap_err();
    assert!(matches!(error.refusal(), Refusal::NoRuntime));
    assert_eq!(error.into_future()(), Ok(7));
    run(|| async {
        let group = builder().limit(1).build().unwrap();
        let slot = group.try_reserve().unwrap();
        let error = group.try_spawn_blocking(|| Ok(8)).unwrap_err();
        assert!(matches!(error.refusal(), Refusal::Full));
        group.cancel();
        let error = slot.spawn_blocking(|| Ok(9)).unwrap_err();
        assert!(matches!(error.refusal(), Refusal::Stopping(_)));
        assert_eq!(error.into_future()(), Ok(9));
    });
}

#[test]
fn a_blocking_task_on_a_runtime_that_is_shut_down_leaves_no_join_waiting() {
    within_reason(|| {
        let runtime = Builder::new_current_thread().build().unwrap();
        let group = runtime.block_on(async { builder().build().unwrap() });
        runtime.shutdown_background();
        let dropped = Arc::new(AtomicUsize::new(0));
        let captured = Captured(Arc::clone(&dropped));
        let spawned = group.try_spawn_blocking(move || {
            drop(captured);
            Ok(1)
        });
        assert_eq!(spawned.map_err(drop), Ok(0));
        assert_eq!(numbers(block_on(group.join()).counts), (1, 0, 0, 0, 1));
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_queued_blocking_task_is_dropped_by_a_runtime_that_shuts_down_and_its_panic_counts() {
    struct Nasty;
    impl Drop for Nasty {
        fn drop(&mut self) {
            panic!("a capture's destructor panicked");
        }
    }
    within_reason(|| {
        let mut of = Builder::new_multi_thread();
        let runtime = of.worker_threads(1).max_blocking_threads(1).build().unwrap();
        let go_on = Arc::new(Latch::new(1));
        let group = runtime.block_on(async {
            let gate = Arc::clone(&go_on);
            // Somebody else's.
            drop(tokio::task::spawn_blocking(move || gate.wait_blocking()));
            let group = builder().return_panics().build().unwrap();
            group.try_spawn_blocking(|| Ok(1)).map_err(drop).unwrap();
            let nasty = Nasty;
            let work = move || {
                let _nasty = &nasty;
                Ok(2)
            };
            group.try_spawn_blocking(work).map_err(drop).unwrap();
            group
        });
        runtime.shutdown_background();
        go_on.count_down(1);
        let joined = block_on(group.join());
        let counts = numbers(joined.counts);
        // Whether the runtime's thread came to them first is open; both have ended.
        assert_eq!(counts.0, 2);
        assert!(counts.3 >= 1, "{counts:?}");
    });
}

#[test]
fn a_blocking_task_may_hold_its_group_last() {
    within_reason(|| {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (ended, tell) = (Arc::new(Latch::new(1)), Arc::new(Latch::new(1)));
        runtime.block_on(async {
            let group = Arc::new(builder().build().unwrap());
            let (own, gate, tells) = (Arc::clone(&group), Arc::clone(&ended), Arc::clone(&tell));
            let work = move || {
                gate.wait_blocking();
                drop(own);
                tells.count_down(1);
                Ok(1)
            };
            group.try_spawn_blocking(work).map_err(drop).unwrap();
        });
        ended.count_down(1);
        tell.wait_blocking();
    });
}

// The limit.

#[test]
fn a_limit_that_is_raised_serves_those_who_wait_and_one_that_is_lowered_holds() {
    run(|| async {
        let group = builder().limit(1).build().unwrap();
        assert_eq!(group.limit(), 1);
        let gate = Arc::new(Latch::new(1));
        let spawn = || {
            let gate = Arc::clone(&gate);
            let task = async move {
                gate.wait().await;
                Ok(0)
            };
            group.try_spawn(task).map_err(drop)
        };
        spawn().unwrap();
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(group.reserve())).collect();
        for reserve in &mut waiting {
            assert!(poll_once(reserve.as_mut()).is_pending());
        }
        assert_eq!(group.set_limit(3), Ok(1));
        let slots: Vec<_> = waiting.iter_mut().map(|reserve| poll_once(reserve.as_mut())).collect();
        let served: Vec<_> = slots.iter().map(Poll::is_ready).collect();
        assert_eq!(served, [true, true, false, false]);
        assert_eq!(group.set_limit(1), Ok(3));
        // Two are given back, and one too many runs still.
        drop(slots);
        assert!(poll_once(waiting[2].as_mut()).is_pending());
        assert!(matches!(group.try_reserve().unwrap_err(), Refusal::Full));
        assert_eq!(group.set_limit(usize::MAX), Ok(1));
        assert!(poll_once(waiting[2].as_mut()).is_ready());
        assert_eq!(group.set_limit(0), Err(TaskGroupError::ZeroLimit));
        assert_eq!(group.limit(), usize::MAX);
        drop(waiting);
        gate.count_down(1);
        assert_eq!(group.join().await.counts.finished, 1);
    });
}

#[test]
fn a_limit_may_change_while_tasks_run() {
    within_reason(|| {
        Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(async {
            let group = Arc::new(builder().limit(4).discard_results().build().unwrap());
            let now = Arc::new(AtomicUsize::new(0));
            let changer = {
                let group = Arc::clone(&group);
                tokio::spawn(async move {
                    for round in 0..500 {
                        group.set_limit(1 + round % 8).unwrap();
                        tokio::task::yield_now().await;
                    }
                })
            };
            for _ in 0..2_000 {
                let now = Arc::clone(&now);
                let task = async move {
                    assert!(now.fetch_add(1, Ordering::Relaxed) < 8);
                    tokio::task::yield_now().await;
                    now.fetch_sub(1, Ordering::Relaxed);
                    Ok(0)
                };
                group.spawn(task).await.map_err(drop).unwrap();
            }
            changer.await.unwrap();
            assert_eq!(group.join().await.counts.finished, 2_000);
        });
    });
}

// Values.

#[test]
fn streamed_values_come_as_the_tasks_end() {
    run(|| async {
        let group = builder().stream_results().build().unwrap();
        assert_eq!(group.next().await, None, "no task, no value");
        for n in 0..5 {
            let task = async move {
                tokio::time::sleep(Duration::from_secs(u64::from(5 - n))).await;
                Ok(n)
            };
            group.spawn(task).await.unwrap();
        }
        let mut came = Vec::new();
        while let Some((index, value)) = group.next().await {
            assert_eq!(index, value as usize);
            came.push(value);
        }
        assert_eq!(came, [4, 3, 2, 1, 0]);
        // Spawned later, it has one wait again.
        group.spawn(async { Ok(9) }).await.unwrap();
        assert_eq!(group.next().await, Some((5, 9)));
        let joined = group.join().await;
        assert_eq!(joined.counts.finished, 6);
        assert_eq!(joined.into_result().unwrap(), []);
    });
}

#[test]
fn streamed_values_that_nobody_takes_go_to_the_join() {
    run(|| async {
        let group = builder().stream_results().build().unwrap();
        for n in 0..3 {
            group.spawn(async move { Ok(n) }).await.unwrap();
        }
        assert_eq!(group.next().await, Some((0, 0)));
        assert_eq!(group.join().await.into_result().unwrap(), [1, 2]);
        assert_eq!(group.next().await, None);
    });
}

#[test]
fn failures_are_no_values_and_go_to_the_join() {
    run(|| async {
        let group = builder().stream_results().build().unwrap();
        group.spawn(async { Ok(1) }).await.unwrap();
        group.spawn(async { Err("two") }).await.unwrap();
        group.spawn(std::future::pending()).await.unwrap();
        assert_eq!(group.next().await, Some((0, 1)));
        assert_eq!(group.next().await, None, "the others have ended");
        let error = group.join().await.into_result().unwrap_err();
        assert_eq!(error.into_first_error(), Some("two"));
    });
}

#[test]
fn many_who_wait_for_values_share_them_and_all_are_told_of_the_end() {
    within_reason(|| {
        Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(async {
            let group = Arc::new(builder().stream_results().build().unwrap());
            let gate = Arc::new(Latch::new(1));
            for n in 0..1_000 {
                let gate = Arc::clone(&gate);
                let task = async move {
                    gate.wait().await;
                    Ok(n)
                };
                group.spawn(task).await.unwrap();
            }
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    let group = Arc::clone(&group);
                    tokio::spawn(async move {
                        let mut sum = 0;
                        while let Some((_, n)) = group.next().await {
                            sum += n;
                        }
                        sum
                    })
                })
                .collect();
            gate.count_down(1);
            let mut sum = 0;
            for taker in takers {
                sum += taker.await.unwrap();
            }
            assert_eq!(sum, 499_500);
        });
    });
}

#[test]
fn one_that_was_woken_for_a_value_and_leaves_wakes_another() {
    let group = builder().stream_results().build().unwrap();
    let task = group.try_reserve().unwrap().into_task(std::future::ready(Ok(1))).map_err(drop);
    let other = group.try_reserve().unwrap().into_task(std::future::pending()).map_err(drop);
    let (mut first, mut second) = (Box::pin(group.next()), Box::pin(group.next()));
    let (one, two) = (CountingWaker::new(), CountingWaker::new());
    assert!(first.as_mut().poll(&mut Context::from_waker(&one.waker())).is_pending());
    assert!(second.as_mut().poll(&mut Context::from_waker(&two.waker())).is_pending());
    assert!(poll_once(pin!(task.unwrap())).is_ready());
    assert_eq!((one.wakes(), two.wakes()), (1, 0));
    drop(first);
    assert_eq!(two.wakes(), 1);
    assert_eq!(poll_once(second.as_mut()), Poll::Ready(Some((0, 1))));
    drop(other);
    assert_eq!(poll_once(pin!(group.next())), Poll::Ready(None));
}

#[test]
fn in_a_group_that_does_not_stream_next_waits_for_the_end_and_gives_none() {
    for discards in [false, true] {
        run(move || async move {
            let builder = if discards { builder().discard_results() } else { builder() };
            let group = builder.build().unwrap();
            let gate = Arc::new(Latch::new(1));
            for n in 0..2 {
                let gate = Arc::clone(&gate);
                let task = async move {
                    gate.wait().await;
                    Ok(n)
                };
                group.spawn(task).await.unwrap();
            }
            let mut next = pin!(group.next());
            assert!(poll_once(next.as_mut()).is_pending());
            gate.count_down(1);
            assert_eq!(next.await, None);
            let values = group.join().await.into_result().unwrap();
            assert_eq!(values.len(), if discards { 0 } else { 2 });
        });
    }
}

#[test]
fn an_end_without_a_value_wakes_nobody_but_the_last() {
    let group = builder().collect_all().stream_results().build().unwrap();
    let mut tasks: Vec<_> = (0..2)
        .map(|_| Box::pin(group.try_reserve().unwrap().into_task(ready(Err("no"))).ok().unwrap()))
        .collect();
    let waker = CountingWaker::new();
    let mut next = pin!(group.next());
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
    assert!(poll_once(tasks[0].as_mut()).is_ready());
    assert_eq!(waker.wakes(), 0);
    assert!(poll_once(tasks[1].as_mut()).is_ready());
    assert_eq!(waker.wakes(), 1);
    assert_eq!(poll_once(next), Poll::Ready(None));
}

#[test]
fn values_that_are_not_wanted_are_dropped_by_their_tasks() {
    within_reason(|| {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let tree = Tree::background();
            let dropped = Arc::new(AtomicUsize::new(0));
            let group =
                TaskGroup::<Captured, Text>::builder(&tree).discard_results().build().unwrap();
            for _ in 0..3 {
                let value = Captured(Arc::clone(&dropped));
                group.spawn(async move { Ok(value) }).await.unwrap();
            }
            while group.counts().finished < 3 {
                tokio::task::yield_now().await;
            }
            assert_eq!(dropped.load(Ordering::Relaxed), 3);
            let joined = group.join().await;
            assert_eq!((joined.results.len(), joined.counts.finished), (0, 3));
            assert!(joined.into_result().unwrap().is_empty());
        });
    });
}

#[test]
fn a_value_that_panics_when_it_is_discarded_harms_nobody() {
    struct Nasty;
    impl Drop for Nasty {
        fn drop(&mut self) {
            panic!("a value's destructor panicked");
        }
    }
    run(|| async {
        let tree = Tree::background();
        let group = TaskGroup::<Nasty, Text>::builder(&tree).discard_results().build().unwrap();
        group.spawn(async { Ok(Nasty) }).await.unwrap();
        assert_eq!(group.join().await.counts.finished, 1);
    });
}

// The grace.

#[test]
fn with_a_grace_a_task_sees_the_cancel_and_ends_by_itself() {
    run(|| async {
        let group = builder().abort_after(Duration::from_secs(10)).build().unwrap();
        let ctx = group.context().clone();
        let task = async move {
            ctx.cancelled().await;
            // Cleans up.
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(5)
        };
        group.spawn(task).await.unwrap();
        group.spawn(std::future::pending()).await.unwrap();
        group.spawn(async { Err("failed") }).await.unwrap();
        let began = tokio::time::Instant::now();
        let joined = group.join().await;
        assert_eq!(joined.results, [Some(5), None, None]);
        assert_eq!(numbers(joined.counts), (3, 1, 1, 0, 1));
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(11), "{took:?}");
        assert_eq!(joined.cause.unwrap().kind(), CauseKind::Cancelled);
    });
}

#[test]
fn a_grace_ends_by_the_clock_it_was_given() {
    let (timer, clock) = Timer::manual();
    let group = builder().abort_after(Duration::from_secs(1)).timer(timer).build().unwrap();
    let slot = group.try_reserve().unwrap();
    let mut task = pin!(slot.into_task(std::future::pending()).map_err(drop).unwrap());
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut cx = Context::from_waker(&woken);
    assert!(task.as_mut().poll(&mut cx).is_pending());
    group.cancel();
    assert!(group.context().is_cancelled());
    assert_eq!(waker.wakes(), 0);
    assert!(task.as_mut().poll(&mut cx).is_pending());
    clock.advance(Duration::from_millis(999));
    assert!(task.as_mut().poll(&mut cx).is_pending());
    clock.advance(Duration::from_millis(1));
    assert_eq!(waker.wakes(), 1);
    assert!(task.as_mut().poll(&mut cx).is_ready());
    assert_eq!(numbers(group.counts()), (1, 0, 0, 0, 1));
}

#[test]
fn a_dropped_group_gives_its_tasks_their_grace() {
    run(|| async {
        let group = builder().abort_after(Duration::from_secs(3)).build().unwrap();
        let (ended, ctx) = (Arc::new(AtomicUsize::new(0)), group.context().clone());
        let captured = Captured(Arc::clone(&ended));
        let task = async move {
            let _captured = captured;
            ctx.cancelled().await;
            std::future::pending::<()>().await;
            Ok(0)
        };
        group.spawn(task).await.unwrap();
        tokio::task::yield_now().await;
        drop(group);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(ended.load(Ordering::Relaxed), 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_grace_whose_timer_is_lost_is_over() {
    let (timer, clock) = Timer::manual();
    let group = builder().abort_after(Duration::from_secs(1)).timer(timer).build().unwrap();
    let slot = group.try_reserve().unwrap();
    let mut task = pin!(slot.into_task(std::future::pending()).map_err(drop).unwrap());
    assert!(poll_once(task.as_mut()).is_pending());
    group.cancel();
    assert!(poll_once(task.as_mut()).is_pending());
    clock.lose();
    assert!(poll_once(task.as_mut()).is_ready());
}

#[test]
fn a_group_with_a_grace_under_a_context_that_has_ended_admits_nobody() {
    let (ctx, canceller) = Tree::background().child();
    canceller.cancel();
    let (timer, _clock) = Timer::manual();
    let group =
        TaskGroup::<u32, Text>::builder(&ctx).abort_after(Duration::from_secs(1)).timer(timer);
    let group = group.build().unwrap();
    assert!(matches!(group.try_reserve().unwrap_err(), Refusal::Stopping(_)));
    assert_eq!(block_on(group.join()).counts.spawned, 0);
}

#[test]
fn the_grace_begins_with_a_deadline_from_above() {
    run(|| async {
        let (ctx, _canceller) = Tree::background().with_timeout(Duration::from_secs(2)).unwrap();
        let group = TaskGroup::<u32, Text>::builder(&ctx).abort_after(Duration::from_secs(3));
        let group = group.build().unwrap();
        group.spawn(std::future::pending()).await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(group.join().await.counts.cancelled, 1);
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6), "{took:?}");
    });
}

#[test]
fn a_grace_of_nothing_is_none_and_one_without_end_waits() {
    run(|| async {
        let group = builder().abort_after(Duration::ZERO).build().unwrap();
        group.spawn(std::future::pending()).await.unwrap();
        group.cancel();
        assert_eq!(group.join().await.counts.cancelled, 1);

        let group = builder().abort_after(Duration::MAX).build().unwrap();
        group.spawn(std::future::pending()).await.unwrap();
        group.cancel();
        tokio::time::sleep(Duration::from_secs(1 << 30)).await;
        assert!(poll_once(pin!(group.join())).is_pending());
    });
}

#[test]
fn a_grace_in_a_runtime_without_a_time_driver_is_an_error() {
    within_reason(|| {
        let runtime = Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let hook = std::panic::take_hook();
        // Tokio tells it by a panic, which is caught.
        std::panic::set_hook(Box::new(|_| {}));
        let made = builder().abort_after(Duration::from_secs(1)).build();
        std::panic::set_hook(hook);
        let error = made.unwrap_err();
        assert!(matches!(error, TaskGroupError::NoTimer(_)));
        assert_eq!(error.to_string(), "task group not made: its grace cannot be timed");
    });
}

// Panics.

#[test]
fn a_panic_goes_on_with_the_index_and_the_place_of_its_task() {
    within_reason(|| {
        let group = builder().build().unwrap();
        let slot = group.try_reserve().unwrap();
        let place = Location::caller();
        let task = slot.into_task(async { panic!("went {}", "wrong") }).map_err(drop).unwrap();
        block_on(task);
        let join = catch_unwind(AssertUnwindSafe(|| drop(block_on(group.join()))));
        let payload = join.unwrap_err();
        let text = payload.downcast_ref::<String>().unwrap();
        let file = place.file();
        assert!(text.starts_with(&format!("task 0 (spawned at {file}:")), "{text}");
        assert!(text.ends_with("panicked: went wrong"), "{text}");
    });
}

#[test]
fn a_payload_that_is_no_text_goes_on_as_it_is() {
    within_reason(|| {
        let group = builder().build().unwrap();
        let slot = group.try_reserve().unwrap();
        block_on(slot.into_task(async { panic_any(7_u8) }).map_err(drop).unwrap());
        let join = catch_unwind(AssertUnwindSafe(|| drop(block_on(group.join()))));
        assert_eq!(join.unwrap_err().downcast_ref::<u8>(), Some(&7));
    });
}

// Its end.

#[test]
fn an_abort_does_not_wait_for_the_end_of_the_grace() {
    run(|| async {
        let group = builder().abort_after(Duration::from_secs(3_600)).build().unwrap();
        group.spawn(std::future::pending()).await.unwrap();
        group.cancel();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(group.counts().running(), 1);
        group.abort();
        assert_eq!(numbers(group.join().await.counts), (1, 0, 0, 0, 1));
        // Nothing to abort, and no grace.
        group.abort();
        let other = builder().build().unwrap();
        other.spawn(std::future::pending()).await.unwrap();
        other.abort();
        assert_eq!(other.join().await.cause.unwrap().kind(), CauseKind::Cancelled);
    });
}

#[test]
fn a_closed_group_lets_nobody_in_and_its_tasks_go_on() {
    run(|| async {
        let group = builder().limit(1).build().unwrap();
        let gate = Arc::new(Latch::new(1));
        let waits = Arc::clone(&gate);
        let task = async move {
            waits.wait().await;
            Ok(1)
        };
        group.spawn(task).await.unwrap();
        let mut room = pin!(group.reserve());
        assert!(poll_once(room.as_mut()).is_pending());
        assert!(!group.is_closed());
        group.close();
        group.close();
        assert!(group.is_closed());
        assert!(matches!(room.await, Err(Refusal::Closed)));
        let refused = group.try_spawn_blocking(|| Ok(2)).unwrap_err();
        assert!(matches!(refused.refusal(), Refusal::Closed));
        assert_eq!((refused.into_future())(), Ok(2));
        assert_eq!(group.counts().running(), 1);
        gate.count_down(1);
        assert_eq!(group.join().await.into_result().unwrap(), [1]);
    });
}

#[test]
fn the_next_value_may_be_asked_for_without_a_wait() {
    run(|| async {
        let group = builder().stream_results().build().unwrap();
        assert_eq!(group.try_next(), None);
        group.spawn(async { Ok(7) }).await.unwrap();
        assert_eq!(group.try_next(), None);
        tokio::task::yield_now().await;
        assert_eq!(group.try_next(), Some((0, 7)));
        assert_eq!(group.try_next(), None);
        group.join().await.into_result().unwrap();
        assert_eq!(group.try_next(), None);
    });
}

// Wakers with a will of their own.

/// A waker that does this.
fn on_wake(wake: impl Fn() + Send + Sync + 'static) -> Waker {
    struct Does<F>(F);
    impl<F: Fn() + Send + Sync> std::task::Wake for Does<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }
    Arc::new(Does(wake)).into()
}

#[test]
fn a_panicking_waker_of_one_who_waits_for_room_or_for_a_value_harms_nobody() {
    within_reason(|| {
        let group = builder().limit(1).stream_results().build().unwrap();
        let task = group.try_reserve().unwrap().into_task(ready(Ok(1))).unwrap();
        let panics = [PanickingWaker::new(), PanickingWaker::new()];
        let (mut room, mut behind) = (pin!(group.reserve()), pin!(group.reserve()));
        let mut next = pin!(group.next());
        let [first, second] = panics.each_ref().map(PanickingWaker::waker);
        assert!(room.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
        assert!(next.as_mut().poll(&mut Context::from_waker(&second)).is_pending());
        assert!(poll_once(behind.as_mut()).is_pending());
        block_on(task);
        assert_eq!(block_on(next), Some((0, 1)));
        drop(block_on(room).unwrap());
        drop(block_on(behind).unwrap());
    });
}

#[test]
fn wakers_may_use_the_group() {
    within_reason(|| {
        let group = Arc::new(builder().limit(2).stream_results().build().unwrap());
        let spare = std::sync::Mutex::new(Some(
            group.try_reserve().unwrap().into_task(ready(Ok(2))).unwrap(),
        ));
        let waker = on_wake({
            let group = Arc::clone(&group);
            move || {
                // Its task is dropped, and gives its room back.
                let task = spare.lock().unwrap().take();
                drop(task);
                drop(group.try_reserve());
                drop(poll_once(pin!(group.reserve())));
                group.set_limit(3).unwrap();
            }
        });
        let task = group.try_reserve().unwrap().into_task(ready(Ok(1))).unwrap();
        let (mut room, mut next) = (pin!(group.reserve()), pin!(group.next()));
        assert!(room.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        block_on(task);
        drop(block_on(room).unwrap());
        assert_eq!(group.limit(), 3);
        assert_eq!(numbers(group.counts()), (2, 1, 0, 0, 1));
    });
}
