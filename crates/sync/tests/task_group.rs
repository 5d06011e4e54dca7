//! The task group, fact by fact. What waits here waits for steps of the test, or for paused time.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

use std::fmt;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge_cancel::{CauseKind, Context as Tree};
use selvedge_sync::{Counts, Fault, Latch, Refusal, TaskFailed, TaskGroup, TaskGroupError};
use selvedge_testkit::{CountingWaker, PanickingWaker, block_on, watchdog, yield_now};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

/// What most tasks here fail with.
type Text = &'static str;

type Group = TaskGroup<u32, Text>;

/// Fails rather than hangs.
fn within_reason<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    watchdog(Duration::from_secs(30), "the test", f)
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Runs a test in a runtime of one thread, under a watchdog.
fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    within_reason(|| current_thread().block_on(test()));
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A group under the background, with its defaults.
fn group() -> Group {
    TaskGroup::new(&Tree::background())
}

fn limited(limit: usize) -> Group {
    TaskGroup::builder(&Tree::background()).limit(limit).build().unwrap()
}

/// Lets the other tasks of a runtime of one thread go on until they wait.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// A task that finishes when `latch` opens.
async fn after(latch: Arc<Latch>) -> Result<u32, Text> {
    latch.wait().await;
    Ok(1)
}

/// (spawned, finished, failed, panicked, cancelled)
fn numbers(counts: Counts) -> (usize, usize, usize, usize, usize) {
    let Counts { spawned, finished, failed, panicked, cancelled, .. } = counts;
    (spawned, finished, failed, panicked, cancelled)
}

/// Counts its drops.
struct Captured(Arc<AtomicUsize>);

impl Drop for Captured {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Panics when it is dropped.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("a destructor panicked");
    }
}

// Smoke.

#[test]
fn values_come_in_the_order_of_the_spawns() {
    run(|| async {
        let group = group();
        for n in 0..5 {
            let index = group.spawn(async move {
                // The first takes longest.
                tokio::time::sleep(Duration::from_secs(u64::from(5 - n))).await;
                Ok(n)
            });
            assert_eq!(index.await.unwrap(), n as usize);
        }
        assert_eq!(group.join().await.into_result().unwrap(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_group_without_tasks_joins_at_once() {
    run(|| async {
        let joined = group().join().await;
        assert_eq!(numbers(joined.counts), (0, 0, 0, 0, 0));
        assert!(joined.into_result().unwrap().is_empty());
    });
}

#[test]
fn a_group_runs_on_many_threads() {
    within_reason(|| {
        let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let group = TaskGroup::<usize, usize>::builder(&Tree::background())
                .limit(7)
                .collect_all()
                .build()
                .unwrap();
            for n in 0..5_000 {
                let task = async move {
                    if n % 2 == 0 {
                        tokio::task::yield_now().await;
                    }
                    if n % 5 == 0 { Err(n) } else { Ok(n) }
                };
                group.spawn(task).await.unwrap();
            }
            let joined = group.join().await;
            assert_eq!(numbers(joined.counts), (5_000, 4_000, 1_000, 0, 0));
            assert_eq!(joined.failures.len(), 1_000);
            for (n, result) in joined.results.iter().enumerate() {
                assert_eq!(*result, (n % 5 != 0).then_some(n));
            }
        });
    });
}

#[test]
fn a_group_needs_no_tokio() {
    within_reason(|| {
        let group = group();
        let task = group.try_reserve().unwrap().into_task(ready(Ok(7))).unwrap();
        assert_eq!(task.index(), 0);
        assert!(format!("{task:?}").contains("index: 0"));
        block_on(task);
        assert_eq!(block_on(group.join()).into_result().unwrap(), [7]);
    });
}

#[test]
fn the_captured_values_are_dropped_before_the_join_completes() {
    within_reason(|| {
        let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            for _ in 0..200 {
                let group = group();
                let drops = Arc::new(AtomicUsize::new(0));
                for n in 0..4 {
                    let captured = Captured(Arc::clone(&drops));
                    let task = async move {
                        let _captured = captured;
                        tokio::task::yield_now().await;
                        if n == 3 { Err("failed") } else { Ok(n) }
                    };
                    // The last may have failed already.
                    let _ = group.spawn(task).await;
                }
                let joined = group.join().await;
                assert_eq!(joined.counts.running(), 0);
                assert_eq!(drops.load(Ordering::Relaxed), 4);
            }
        });
    });
}

// Capacity.

#[test]
fn a_limit_of_zero_is_an_error() {
    let made = TaskGroup::<u32, Text>::builder(&Tree::background()).limit(0).build();
    let error = made.unwrap_err();
    assert_eq!(error, TaskGroupError::ZeroLimit);
    assert!(error.to_string().starts_with("task group's limit not set: "));
}

#[test]
fn no_more_than_the_limit_run_at_once() {
    run(|| async {
        let group = limited(3);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for n in 0..20 {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            let task = async move {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                Ok(n)
            };
            group.spawn(task).await.unwrap();
            assert!(group.counts().running() <= 3);
        }
        assert_eq!(group.join().await.into_result().unwrap().len(), 20);
        assert_eq!(most.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn a_limit_of_max_is_no_limit() {
    run(|| async {
        let group = limited(usize::MAX);
        assert_eq!(group.spawn(ready(Ok(1))).await.unwrap(), 0);
        assert_eq!(group.join().await.into_result().unwrap(), [1]);
    });
}

#[test]
fn a_full_group_gives_the_future_back() {
    run(|| async {
        let group = limited(1);
        group.try_spawn(pending()).unwrap();
        let error = group.try_spawn(ready(Ok(7))).unwrap_err();
        assert!(matches!(error.refusal(), Refusal::Full));
        assert!(error.to_string().starts_with("task not spawned: as many run"), "{error}");
        assert_eq!(error.into_future().await, Ok(7));
        assert!(matches!(group.try_reserve(), Err(Refusal::Full)));
    });
}

#[test]
fn nobody_overtakes_those_who_wait_for_room() {
    run(|| async {
        let group = limited(1);
        let slot = group.try_reserve().unwrap();
        let waker = CountingWaker::new();
        let mut first = Box::pin(group.reserve());
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
        let mut second = Box::pin(group.spawn(ready(Ok(2))));
        assert!(second.as_mut().poll(&mut noop()).is_pending());
        drop(slot);
        assert_eq!(waker.wakes(), 1);
        assert!(matches!(group.try_reserve(), Err(Refusal::Full)));
        assert!(second.as_mut().poll(&mut noop()).is_pending());
        // Granted and dropped: the room goes on to the second.
        drop(first);
        assert!(second.as_mut().poll(&mut noop()).is_ready());
        assert_eq!(group.join().await.into_result().unwrap(), [2]);
    });
}

#[test]
fn a_slot_that_is_dropped_gives_its_room_back() {
    run(|| async {
        let group = limited(1);
        drop(group.reserve().await.unwrap());
        let slot = group.reserve().await.unwrap();
        assert!(format!("{slot:?}").starts_with("Slot"));
        assert_eq!(slot.spawn(ready(Ok(1))).unwrap(), 0);
        assert_eq!(group.join().await.into_result().unwrap(), [1]);
    });
}

// Failures.

#[test]
fn the_first_error_ends_the_others_and_the_cause_tells_of_it() {
    run(|| async {
        let group = group();
        let drops = Arc::new(AtomicUsize::new(0));
        let captured = Captured(Arc::clone(&drops));
        group
            .spawn(async move {
                let _captured = captured;
                pending().await
            })
            .await
            .unwrap();
        let line = line!() + 1;
        group.spawn(ready(Err("no page"))).await.unwrap();
        let seen = group.context().clone();
        let joined = group.join().await;

        assert_eq!(numbers(joined.counts), (2, 0, 1, 0, 1));
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert_eq!(joined.results, [None, None]);
        let told = seen.cause().unwrap();
        assert_eq!(told.kind(), CauseKind::Cancelled);
        assert_eq!(told.place().file(), file!());
        let failed = told.error().unwrap().downcast_ref::<TaskFailed>().unwrap();
        assert_eq!((failed.index(), failed.text(), failed.is_panic()), (1, "no page", false));
        assert_eq!((failed.place().file(), failed.place().line()), (file!(), line));
        assert!(joined.cause.as_ref().unwrap().same(&told));

        let error = joined.into_result().unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("0 of 2 tasks finished, 1 failed, 1 cancelled; the first: task 1")
        );
        assert!(text.ends_with("failed: no page"), "{text}");
        assert_eq!(error.failures[0].place.line(), line);
        assert_eq!(error.into_first_error(), Some("no page"));
    });
}

#[test]
fn errors_after_the_first_are_counted() {
    within_reason(|| {
        let group = group();
        let inner = group.try_reserve().unwrap().into_task(ready(Err("first"))).unwrap();
        let outer = group.try_reserve().unwrap();
        // The second fails in a poll that began before the first has failed.
        block_on(
            outer
                .into_task(async {
                    inner.await;
                    Err("second")
                })
                .unwrap(),
        );
        let joined = block_on(group.join());
        assert_eq!(numbers(joined.counts), (2, 0, 2, 0, 0));
        assert_eq!(joined.failures.len(), 1);
        assert_eq!(joined.failures[0].index, 0);
        assert_eq!(joined.into_result().unwrap_err().into_first_error(), Some("first"));
    });
}

#[test]
fn collect_all_keeps_every_error_and_ends_nobody() {
    run(|| async {
        let group = Group::builder(&Tree::background()).collect_all().name("all").build().unwrap();
        group.spawn(ready(Err("a"))).await.unwrap();
        group
            .spawn(async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(1)
            })
            .await
            .unwrap();
        group.spawn(ready(Err("c"))).await.unwrap();
        let joined = group.join().await;
        assert_eq!(numbers(joined.counts), (3, 1, 2, 0, 0));
        assert_eq!(joined.results, [None, Some(1), None]);
        let errors: Vec<_> = joined.failures.iter().map(|failure| failure.index).collect();
        assert_eq!(errors, [0, 2]);
        assert!(joined.cause.is_none() && !group.context().is_stopping());
        assert_eq!(group.name(), Some("all"));
    });
}

/// An error whose text panics, and whose destructor does.
struct Nasty;

impl fmt::Display for Nasty {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no text");
    }
}

impl Drop for Nasty {
    fn drop(&mut self) {
        panic!("a destructor panicked");
    }
}

#[test]
fn an_error_whose_text_and_destructor_panic_is_contained() {
    within_reason(|| {
        let group = TaskGroup::<(), Nasty>::new(&Tree::background());
        let inner = group.try_reserve().unwrap().into_task(ready(Err(Nasty))).unwrap();
        let outer = group.try_reserve().unwrap();
        block_on(
            outer
                .into_task(async {
                    inner.await;
                    Err(Nasty)
                })
                .unwrap(),
        );
        let joined = block_on(group.join());
        assert_eq!(numbers(joined.counts), (2, 0, 2, 0, 0));
        let cause = joined.cause.as_ref().unwrap();
        let failed = cause.error().unwrap().downcast_ref::<TaskFailed>().unwrap();
        assert_eq!(failed.text(), "(an error whose text panicked)");
        std::mem::forget(joined);
    });
}

// Close.

#[test]
fn a_spawn_after_the_join_began_is_refused_with_the_future() {
    run(|| async {
        let group = group();
        let end = Arc::new(Latch::new(1));
        let waits = Arc::clone(&end);
        group.spawn(after(waits)).await.unwrap();
        let slot = group.try_reserve().unwrap();
        let mut join = pin!(group.join());
        assert!(join.as_mut().poll(&mut noop()).is_pending());

        let refused = [
            group.spawn(ready(Ok(2))).await.unwrap_err(),
            group.try_spawn(ready(Ok(2))).unwrap_err(),
            slot.spawn(ready(Ok(2))).unwrap_err(),
        ];
        for error in refused {
            assert!(matches!(error.refusal(), Refusal::Closed), "{error}");
            assert_eq!(error.into_future().await, Ok(2));
        }
        assert!(matches!(group.reserve().await, Err(Refusal::Closed)));
        end.count_down(1);
        assert_eq!(join.await.into_result().unwrap(), [1]);
        assert!(format!("{group:?}").contains("closed: true"));
    });
}

#[test]
fn a_join_refuses_everybody_who_waits_for_room() {
    run(|| async {
        let group = limited(1);
        let slot = group.try_reserve().unwrap();
        let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(group.spawn(ready(Ok(1))))).collect();
        for wait in &mut waiting {
            assert!(wait.as_mut().poll(&mut noop()).is_pending());
        }
        // Nobody runs: the slot does not keep the join waiting.
        assert_eq!(numbers(group.join().await.counts), (0, 0, 0, 0, 0));
        for wait in waiting {
            assert!(matches!(wait.await.unwrap_err().refusal(), Refusal::Closed));
        }
        drop(slot);
    });
}

#[test]
fn a_dropped_join_loses_nothing_and_a_second_one_has_the_counts() {
    run(|| async {
        let group = group();
        let end = Arc::new(Latch::new(1));
        let waits = Arc::clone(&end);
        group.spawn(after(waits)).await.unwrap();
        {
            let mut join = pin!(group.join());
            assert!(join.as_mut().poll(&mut noop()).is_pending());
        }
        end.count_down(1);
        settle().await;
        // Over, and nobody has joined: a join dropped then loses nothing, either.
        drop(group.join());
        assert_eq!(group.join().await.into_result().unwrap(), [1]);
        let again = group.join().await;
        assert_eq!(numbers(again.counts), (1, 1, 0, 0, 0));
        let text = again.into_result().unwrap_err().to_string();
        assert_eq!(text, "group's values not returned: a join before this one took them");
    });
}

#[test]
fn joins_beside_each_other_all_complete() {
    run(|| async {
        let group = group();
        group
            .spawn(async {
                yield_now().await;
                Ok(1)
            })
            .await
            .unwrap();
        let (first, second) = tokio::join!(group.join(), group.join());
        assert_eq!(first.counts, second.counts);
        assert_eq!(first.results.len() + second.results.len(), 1);
    });
}

// Cancel.

#[test]
fn a_stop_refuses_those_who_wait_and_lets_tasks_finish() {
    run(|| async {
        let (ctx, canceller) = Tree::background().child();
        let group = Group::builder(&ctx).limit(1).build().unwrap();
        let end = Arc::new(Latch::new(1));
        let waits = Arc::clone(&end);
        group.spawn(after(waits)).await.unwrap();
        let waker = CountingWaker::new();
        let mut wait = Box::pin(group.spawn(ready(Ok(2))));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());

        canceller.stop(Duration::MAX);
        assert!(waker.wakes() > 0);
        let error = wait.await.unwrap_err();
        assert!(
            matches!(error.refusal(), Refusal::Stopping(cause) if cause.kind() == CauseKind::Stopped)
        );
        assert_eq!(error.into_future().await, Ok(2));
        assert!(matches!(
            group.try_spawn(ready(Ok(2))).unwrap_err().refusal(),
            Refusal::Stopping(_)
        ));
        assert_eq!(waker.live(), 0);

        end.count_down(1);
        assert_eq!(group.join().await.into_result().unwrap(), [1]);
    });
}

#[test]
fn room_that_was_granted_is_refused_when_the_context_stops_before_it_is_used() {
    run(|| async {
        let (ctx, canceller) = Tree::background().child();
        let group = Group::builder(&ctx).limit(1).build().unwrap();
        let slot = group.try_reserve().unwrap();
        let mut wait = Box::pin(group.reserve());
        assert!(wait.as_mut().poll(&mut noop()).is_pending());
        drop(slot);
        canceller.stop(Duration::MAX);
        assert!(matches!(wait.await, Err(Refusal::Stopping(_))));
        assert!(matches!(
            group.spawn(pending()).await.unwrap_err().refusal(),
            Refusal::Stopping(_)
        ));
        assert_eq!(group.join().await.counts.spawned, 0);
    });
}

#[test]
fn a_slot_used_after_a_stop_is_refused() {
    run(|| async {
        let (ctx, canceller) = Tree::background().child();
        let group = Group::new(&ctx);
        let slot = group.try_reserve().unwrap();
        canceller.cancel();
        let error = slot.spawn(ready(Ok(1))).unwrap_err();
        assert!(matches!(error.refusal(), Refusal::Stopping(_)));
        assert!(std::error::Error::source(&error).is_some());
        assert!(matches!(Refusal::from(error), Refusal::Stopping(_)));
    });
}

#[test]
fn cancelled_tasks_are_dropped_at_their_next_await() {
    run(|| async {
        let (ctx, canceller) = Tree::background().child();
        let group = Group::new(&ctx);
        for _ in 0..3 {
            group.spawn(pending()).await.unwrap();
        }
        settle().await;
        canceller.cancel();
        let joined = group.join().await;
        assert_eq!(numbers(joined.counts), (3, 0, 0, 0, 3));
        let text = joined.into_result().unwrap_err().to_string();
        assert!(text.starts_with("0 of 3 tasks finished, 3 cancelled; the context: "), "{text}");
    });
}

#[test]
fn a_cancelled_group_ends_its_tasks_and_not_its_parent() {
    run(|| async {
        let (ctx, _canceller) = Tree::background().child();
        let group = Group::new(&ctx);
        group.spawn(pending()).await.unwrap();
        group.cancel();
        assert_eq!(group.join().await.counts.cancelled, 1);
        assert!(!ctx.is_stopping());
    });
}

#[test]
fn a_value_of_a_poll_that_began_before_the_cancel_is_kept() {
    run(|| async {
        let group = Arc::new(group());
        let own = Arc::clone(&group);
        group
            .spawn(async move {
                own.cancel();
                Ok(7)
            })
            .await
            .unwrap();
        assert_eq!(group.join().await.into_result().unwrap(), [7]);
    });
}

#[test]
fn a_task_that_ignores_the_cancel_is_waited_for() {
    within_reason(|| {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (busy, enough) = (Arc::new(Latch::new(1)), Arc::new(AtomicBool::new(false)));
        let group = {
            let _inside = runtime.enter();
            group()
        };
        let (told, seen) = (Arc::clone(&busy), Arc::clone(&enough));
        group
            .try_spawn(async move {
                told.count_down(1);
                while !seen.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                Ok(1)
            })
            .unwrap();
        busy.wait_blocking();
        group.cancel();
        let mut join = pin!(group.join());
        assert!(join.as_mut().poll(&mut noop()).is_pending(), "the task is still alive");
        enough.store(true, Ordering::Relaxed);
        assert_eq!(numbers(block_on(join).counts), (1, 1, 0, 0, 0));
    });
}

#[test]
fn a_dropped_group_ends_its_tasks() {
    run(|| async {
        let group = group();
        let ctx = group.context().clone();
        let drops = Arc::new(AtomicUsize::new(0));
        let captured = Captured(Arc::clone(&drops));
        group
            .spawn(async move {
                let _captured = captured;
                pending().await
            })
            .await
            .unwrap();
        settle().await;
        drop(group);
        settle().await;
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert_eq!(ctx.cause().unwrap().kind(), CauseKind::Dropped);
        assert_eq!(ctx.cause().unwrap().place().file(), file!());
    });
}

#[test]
fn a_group_may_be_dropped_by_one_of_its_own_tasks() {
    run(|| async {
        let group = Arc::new(group());
        let ctx = group.context().clone();
        let drops = Arc::new(AtomicUsize::new(0));
        let own = Arc::clone(&group);
        let captured = Captured(Arc::clone(&drops));
        group
            .spawn(async move {
                let _captured = captured;
                yield_now().await;
                drop(own);
                // Cancelled by that: this is the next await.
                pending().await
            })
            .await
            .unwrap();
        drop(group);
        assert!(!ctx.is_cancelled(), "the task holds the group");
        settle().await;
        assert!(ctx.is_cancelled());
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_group_may_be_dropped_with_the_future_of_its_last_task() {
    run(|| async {
        let group = Arc::new(group());
        let ctx = group.context().clone();
        let own = Arc::clone(&group);
        group.spawn(async move { Ok(own.counts().spawned as u32) }).await.unwrap();
        drop(group);
        settle().await;
        assert!(ctx.is_cancelled());
    });
}

#[test]
fn a_task_spawns_into_its_own_group() {
    run(|| async {
        let group = Arc::new(group());
        let own = Arc::clone(&group);
        group
            .spawn(async move {
                own.spawn(ready(Ok(2))).await.unwrap();
                Ok(1)
            })
            .await
            .unwrap();
        settle().await;
        assert_eq!(group.join().await.into_result().unwrap(), [1, 2]);
    });
}

#[test]
fn a_task_that_joins_its_own_group_hangs_until_it_is_cancelled() {
    run(|| async {
        let group = Arc::new(group());
        let own = Arc::clone(&group);
        group
            .spawn(async move {
                let joined = own.join().await;
                Ok(joined.counts.spawned as u32)
            })
            .await
            .unwrap();
        settle().await;
        assert_eq!(group.counts().running(), 1, "it waits for itself");
        group.cancel();
        assert_eq!(numbers(group.join().await.counts), (1, 0, 0, 0, 1));
    });
}

// Runtimes.

#[test]
fn a_spawn_outside_a_runtime_gives_the_future_back() {
    within_reason(|| {
        let group = limited(1);
        for _ in 0..2 {
            let refused = [
                block_on(group.spawn(ready(Ok(7)))).unwrap_err(),
                group.try_spawn(ready(Ok(7))).unwrap_err(),
                group.try_reserve().unwrap().spawn(ready(Ok(7))).unwrap_err(),
            ];
            for error in refused {
                assert!(matches!(error.refusal(), Refusal::NoRuntime), "{error}");
                assert_eq!(block_on(error.into_future()), Ok(7));
            }
        }
        assert_eq!(group.counts().spawned, 0);
    });
}

#[test]
fn a_spawn_that_completed_without_a_runtime_is_out_of_the_queue() {
    within_reason(|| {
        let group = limited(1);
        let runtime = current_thread();
        for granted_before in [false, true] {
            let held = group.try_reserve().unwrap();
            let mut spawn = pin!(group.spawn(ready(Ok(7))));
            {
                let _inside = runtime.enter();
                assert!(spawn.as_mut().poll(&mut noop()).is_pending());
            }
            let mut next = pin!(group.reserve());
            assert!(next.as_mut().poll(&mut noop()).is_pending());
            let held = Some(held).filter(|_| !granted_before);
            let Poll::Ready(Err(error)) = spawn.as_mut().poll(&mut noop()) else {
                panic!("there is no runtime here");
            };
            assert!(matches!(error.refusal(), Refusal::NoRuntime), "{error}");
            drop(held);
            // The completed spawn still lives, and holds no room.
            assert!(next.as_mut().poll(&mut noop()).is_ready(), "granted: {granted_before}");
        }
    });
}

#[test]
fn a_group_made_outside_a_runtime_spawns_where_it_is_asked_to() {
    within_reason(|| {
        let group = group();
        current_thread().block_on(async {
            group.spawn(ready(Ok(1))).await.unwrap();
            assert_eq!(group.join().await.into_result().unwrap(), [1]);
        });
    });
}

#[test]
fn a_group_made_in_a_runtime_spawns_there_from_any_thread() {
    within_reason(|| {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let group = runtime.block_on(async { group() });
        block_on(group.spawn(ready(Ok(1)))).unwrap();
        assert_eq!(block_on(group.join()).into_result().unwrap(), [1]);
    });
}

#[test]
fn a_runtime_that_is_shut_down_leaves_no_join_waiting() {
    within_reason(|| {
        let runtime = current_thread();
        let drops = Arc::new(AtomicUsize::new(0));
        let group = runtime.block_on(async {
            let group = group();
            let captured = Captured(Arc::clone(&drops));
            let task = async move {
                let _captured = captured;
                pending().await
            };
            group.spawn(task).await.unwrap();
            group.spawn(ready(Ok(1))).await.unwrap();
            settle().await;
            // Never polled.
            group.spawn(pending()).await.unwrap();
            group
        });
        drop(runtime);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        // And one that comes too late.
        assert_eq!(block_on(group.spawn(ready(Ok(2)))).unwrap(), 3);
        let joined = block_on(group.join());
        assert_eq!(numbers(joined.counts), (4, 1, 0, 0, 3));
        assert_eq!(joined.results, [None, Some(1), None, None]);
        assert!(joined.cause.is_none());
        assert_eq!(
            joined.into_result().unwrap_err().to_string(),
            "1 of 4 tasks finished, 3 cancelled"
        );
    });
}

#[test]
fn local_tasks_need_not_be_send() {
    run(|| async {
        let local = LocalSet::new();
        let group = limited(1);
        let shared = Rc::new(7);
        let seen = Rc::clone(&shared);
        group.try_spawn_local(&local, async move { Ok(*seen) }).unwrap();
        let seen = Rc::clone(&shared);
        let refused = group.try_spawn_local(&local, async move { Ok(*seen) }).unwrap_err();
        assert!(matches!(refused.refusal(), Refusal::Full));
        let joined = local
            .run_until(async {
                let slot = group.reserve().await.unwrap();
                slot.spawn_local(&local, async move { Ok(*shared + 1) }).unwrap();
                group.join().await
            })
            .await;
        assert_eq!(joined.into_result().unwrap(), [7, 8]);
    });
}

#[test]
fn a_local_set_that_is_dropped_leaves_no_join_waiting() {
    within_reason(|| {
        let group = group();
        let local = LocalSet::new();
        // Outside a runtime, and never run.
        group.try_spawn_local(&local, ready(Ok(1))).unwrap();
        let mut join = pin!(group.join());
        assert!(join.as_mut().poll(&mut noop()).is_pending());
        drop(local);
        assert_eq!(numbers(block_on(join).counts), (1, 0, 0, 0, 1));
    });
}

#[test]
fn a_runtime_without_its_time_driver_is_enough() {
    within_reason(|| {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let group = group();
            group.spawn(ready(Ok(1))).await.unwrap();
            assert_eq!(group.join().await.into_result().unwrap(), [1]);
        });
    });
}

// Panics.

#[test]
fn a_panic_goes_on_at_the_join_when_all_have_ended() {
    run(|| async {
        let group = group();
        let drops = Arc::new(AtomicUsize::new(0));
        group.spawn(ready(Ok(1))).await.unwrap();
        let captured = Captured(Arc::clone(&drops));
        group
            .spawn(async move {
                let _captured = captured;
                pending().await
            })
            .await
            .unwrap();
        settle().await;
        group.spawn(poll_fn(|_| panic!("child 2"))).await.unwrap();

        let joining = tokio::task::unconstrained(AssertPanics(Box::pin(group.join())));
        let panic = joining.await;
        assert!(panic.downcast_ref::<String>().unwrap().ends_with("panicked: child 2"));
        assert_eq!(drops.load(Ordering::Relaxed), 1, "all have ended by then");
        let cause = group.context().cause().unwrap();
        let failed = cause.error().unwrap().downcast_ref::<TaskFailed>().unwrap();
        assert_eq!((failed.index(), failed.text(), failed.is_panic()), (2, "child 2", true));

        // It goes on once; the values are there.
        let joined = group.join().await;
        assert_eq!(numbers(joined.counts), (3, 1, 0, 1, 1));
        assert_eq!(joined.results, [Some(1), None, None]);
        assert!(joined.failures.is_empty());
    });
}

/// Gives the payload of the panic of a future.
struct AssertPanics<F>(std::pin::Pin<Box<F>>);

impl<F: Future> Future for AssertPanics<F> {
    type Output = Box<dyn std::any::Any + Send>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(_)) => panic!("no panic"),
            Err(payload) => Poll::Ready(payload),
        }
    }
}

#[test]
fn panics_are_returned_if_asked_for() {
    run(|| async {
        let group =
            Group::builder(&Tree::background()).collect_all().return_panics().build().unwrap();
        group.spawn(poll_fn(|_| panic!("one"))).await.unwrap();
        group.spawn(poll_fn(|_| panic_any(2_u8))).await.unwrap();
        group.spawn(ready(Ok(3))).await.unwrap();
        let joined = group.join().await;
        assert_eq!(numbers(joined.counts), (3, 1, 0, 2, 0));
        let text = joined.failures[0].to_string();
        assert!(
            text.starts_with("task 0 (spawned at ") && text.ends_with("panicked: one"),
            "{text}"
        );
        let mut failures = joined.failures.into_iter();
        assert!(
            matches!(&failures.next().unwrap().fault, Fault::Panic(panic) if panic.message() == "one")
        );
        let Fault::Panic(second) = failures.next().unwrap().fault else { panic!("an error") };
        assert_eq!(second.into_payload().downcast_ref::<u8>(), Some(&2));
    });
}

#[test]
fn a_task_that_panics_while_it_is_dropped_has_panicked() {
    run(|| async {
        let group =
            Group::builder(&Tree::background()).collect_all().return_panics().build().unwrap();
        // Dropped with its value in hand, with a panic on its way, and when it is cancelled.
        let nasty = PanicsInDrop;
        group
            .spawn(poll_fn(move |_| Poll::Ready(Ok((&raw const nasty).is_null().into()))))
            .await
            .unwrap();
        let nasty = PanicsInDrop;
        group
            .spawn(poll_fn(move |_| {
                let _captured = &nasty;
                panic!("a poll panicked")
            }))
            .await
            .unwrap();
        let nasty = PanicsInDrop;
        group
            .spawn(async move {
                let _nasty = nasty;
                pending().await
            })
            .await
            .unwrap();
        settle().await;
        group.cancel();
        let joined = group.join().await;
        assert_eq!(numbers(joined.counts), (3, 0, 0, 3, 0));
        let texts: Vec<_> = joined
            .failures
            .iter()
            .map(|failure| match &failure.fault {
                Fault::Panic(panic) => panic.message().to_owned(),
                Fault::Error(error) => panic!("{error}"),
            })
            .collect();
        assert_eq!(texts, ["a destructor panicked", "a poll panicked", "a destructor panicked"]);
    });
}

#[test]
fn a_task_dropped_by_its_executor_that_panics_then_has_panicked() {
    within_reason(|| {
        let group = Group::builder(&Tree::background()).return_panics().build().unwrap();
        let nasty = PanicsInDrop;
        let task = async move {
            let _nasty = nasty;
            pending().await
        };
        drop(group.try_reserve().unwrap().into_task(task).unwrap());
        assert_eq!(numbers(block_on(group.join()).counts), (1, 0, 0, 1, 0));
    });
}

#[test]
fn payloads_that_panic_when_dropped_are_contained() {
    within_reason(|| {
        let group = Group::builder(&Tree::background()).collect_all().build().unwrap();
        for _ in 0..2 {
            let task = poll_fn(|_| panic_any(PanicsInDrop));
            block_on(group.try_reserve().unwrap().into_task(task).unwrap());
        }
        let payload = block_on(AssertPanics(Box::pin(group.join())));
        std::mem::forget(payload);
        assert_eq!(numbers(block_on(group.join()).counts), (2, 0, 0, 2, 0));
    });
}

#[test]
fn values_that_nobody_joins_are_dropped_by_the_last_task_without_harm() {
    run(|| async {
        let group = TaskGroup::<PanicsInDrop, Text>::new(&Tree::background());
        group.spawn(async { Ok(PanicsInDrop) }).await.unwrap();
        group.spawn(pending()).await.unwrap();
        settle().await;
        drop(group);
        // The last task ends here, and with it the group's values.
        settle().await;
    });
}

#[test]
fn a_panicking_waker_of_a_join_harms_no_task() {
    within_reason(|| {
        let group = group();
        let task = group.try_reserve().unwrap().into_task(ready(Ok(1))).unwrap();
        let panics = PanickingWaker::new();
        let mut join = pin!(group.join());
        assert!(join.as_mut().poll(&mut Context::from_waker(&panics.waker())).is_pending());
        block_on(task);
        assert_eq!(block_on(join).into_result().unwrap(), [1]);
    });
}

// A good neighbour.

#[test]
fn always_ready_loops_yield_to_tokio() {
    async fn yields(looping: impl Future<Output = ()> + Send + 'static) {
        let looping = tokio::spawn(looping);
        tokio::task::yield_now().await;
        assert!(!looping.is_finished());
        looping.abort();
        assert!(looping.await.unwrap_err().is_cancelled());
    }

    run(|| async {
        yields(async {
            let group = group();
            for _ in 0..1_000_000 {
                group.spawn(ready(Ok(1))).await.unwrap();
            }
        })
        .await;
        yields(async {
            let group = group();
            for _ in 0..1_000_000 {
                drop(group.reserve().await.unwrap());
            }
        })
        .await;
        yields(async {
            let group = group();
            for _ in 0..1_000_000 {
                group.try_reserve().unwrap().into_task(ready(Ok(1))).unwrap().await;
            }
        })
        .await;
        yields(async {
            let group = group();
            for _ in 0..1_000_000 {
                let _ = group.join().await;
            }
        })
        .await;
    });
}

#[test]
fn everything_says_who_it_is() {
    run(|| async {
        let background = Tree::background();
        let builder = Group::builder(&background).name("pages").limit(2);
        assert!(format!("{builder:?}").contains("limit: 2"));
        let group = builder.build().unwrap();
        assert_eq!((group.name(), group.place().file()), (Some("pages"), file!()));
        assert!(format!("{group:?}").contains("pages"));
        assert!(format!("{:?}", group.spawn(ready(Ok(1)))).contains(file!()));
        assert!(format!("{:?}", group.reserve()).contains(file!()));
        assert!(format!("{:?}", group.join()).contains(file!()));
        let error = group.try_spawn(ready(Ok(1)));
        assert!(error.is_ok());
        assert!(format!("{:?}", group.join().await).contains("finished: 1"));
    });
}
