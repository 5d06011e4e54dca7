//! Entering a context: who is waited for, who is refused, who is named; and a canceller as a component.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{Canceller, CauseKind, Component, Context, ManualClock, Timer};
use selvedge_testkit::{
    CountingAllocator, CountingWaker, PanickingWaker, ReentrantWaker, block_on, watchdog,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SECOND: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::MAX;
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> (Context, Canceller) {
    Context::background().child()
}

/// A context whose time is a manual clock's.
fn timed() -> (Context, Canceller, ManualClock) {
    let (timer, clock) = Timer::manual();
    let made = Context::background().child_with().timeout(3600 * SECOND).timer(timer).build();
    let (ctx, canceller) = made.unwrap();
    (ctx, canceller, clock)
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(waker))
}

fn names(ctx: &Context) -> Vec<String> {
    let mut names: Vec<_> = ctx.stragglers().into_iter().map(|straggler| straggler.name).collect();
    names.sort();
    names
}

#[test]
fn cancel_and_wait_waits_for_the_last_who_has_entered() {
    let (ctx, canceller) = root();
    let all: Vec<_> = (0..100).map(|_| ctx.enter().unwrap()).collect();
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut waiting = pin!(canceller.cancel_and_wait(NEVER));
    assert!(ctx.is_cancelled(), "before it is polled");
    assert!(poll(waiting.as_mut(), &waker).is_pending());
    let mut all = all;
    let last = all.pop().unwrap();
    drop(all);
    assert!(poll(waiting.as_mut(), &waker).is_pending());
    assert_eq!(counting.wakes(), 0);
    drop(last);
    assert_eq!(counting.wakes(), 1);
    assert_eq!(poll(waiting, &waker), Poll::Ready(Vec::new()));
}

#[test]
fn with_nobody_inside_it_is_ready_at_once() {
    let (ctx, canceller) = root();
    assert!(block_on(canceller.cancel_and_wait(NEVER)).is_empty());
    drop(ctx.enter());
    let (ctx, canceller) = root();
    drop(ctx.enter().unwrap());
    assert!(block_on(canceller.cancel_and_wait(NEVER)).is_empty());
}

#[test]
fn those_who_have_entered_below_are_waited_for() {
    let (ctx, canceller) = root();
    let (child, _child) = ctx.child();
    let (grandchild, _grandchild) = child.child();
    let (beside, _beside) = root();
    let _elsewhere = beside.enter().unwrap();
    let inside = grandchild.enter().unwrap();
    let mut waiting = pin!(canceller.cancel_and_wait(NEVER));
    assert!(poll(waiting.as_mut(), Waker::noop()).is_pending());
    drop(inside);
    assert!(poll(waiting, Waker::noop()).is_ready());
}

#[test]
fn a_guard_keeps_its_node_also_when_nothing_else_does() {
    let (root, canceller) = root();
    let (ctx, ctx_canceller) = root.child();
    ctx_canceller.detach();
    let inside = ctx.enter_named("alone").unwrap();
    drop(ctx);
    assert_eq!(root.nodes(), 2);
    assert_eq!(names(&root), ["alone"]);
    let mut waiting = pin!(canceller.cancel_and_wait(NEVER));
    assert!(poll(waiting.as_mut(), Waker::noop()).is_pending());
    drop(inside);
    assert!(poll(waiting, Waker::noop()).is_ready());
    assert_eq!(root.nodes(), 1);
}

#[test]
fn a_relay_with_guards_goes_when_they_do() {
    let (root, _canceller) = root();
    let (ctx, ctx_canceller) = root.child();
    ctx_canceller.detach();
    let (below, below_canceller) = ctx.child();
    below_canceller.detach();
    let guards: Vec<_> = (0..5).map(|_| ctx.enter().unwrap()).collect();
    drop(ctx);
    assert_eq!(root.nodes(), 3);
    drop(guards);
    assert_eq!(root.nodes(), 2, "spliced out");
    drop(below);
    assert_eq!(root.nodes(), 1);
}

#[test]
fn nobody_enters_what_is_stopping_or_cancelled_or_past_its_deadline() {
    let (ctx, canceller) = root();
    let inside = ctx.enter().unwrap();
    canceller.stop(NEVER);
    assert_eq!(ctx.enter().unwrap_err().kind(), CauseKind::Stopped);
    canceller.cancel();
    assert_eq!(ctx.enter().unwrap_err().kind(), CauseKind::Stopped);
    drop(inside);
    let (born, _born) = ctx.child();
    assert!(born.enter().is_err());
    let (timed, _timed, clock) = timed();
    clock.advance_silently(3600 * SECOND);
    assert_eq!(timed.enter().unwrap_err().kind(), CauseKind::Deadline);
}

#[test]
fn stragglers_have_their_name_or_that_of_their_context_and_their_place() {
    let (root, _canceller) = root();
    let (named, _named) = root.child_with().name("connection 7").build().unwrap();
    let _one = named.enter().unwrap();
    let line = line!() - 1;
    let _two = named.enter_named("the writer").unwrap();
    let _three = named.enter_named(format!("reader {}", 3)).unwrap();
    let _four = root.enter().unwrap();
    assert_eq!(names(&root), ["(no name)", "connection 7", "reader 3", "the writer"]);
    let stragglers = named.stragglers();
    let one = stragglers.iter().find(|straggler| straggler.name == "connection 7").unwrap();
    assert_eq!(one.place.unwrap().line(), line);
    assert_eq!(one.age.is_some(), cfg!(feature = "age"));
    assert!(one.to_string().starts_with("connection 7 ("));
}

#[test]
fn a_place_that_was_left_is_taken_again_and_names_nobody() {
    let (ctx, _canceller) = root();
    let mut all: Vec<_> = (0..100).map(|_| ctx.enter_named("first").unwrap()).collect();
    all.truncate(50);
    let cost = CountingAllocator::count(|| {
        for _ in 0..10 {
            all.extend((0..25).map(|_| ctx.enter_named("second").unwrap()));
            all.truncate(50);
        }
    });
    assert!(cost.allocations <= 1, "the vector's own: {cost}");
    assert_eq!(names(&ctx), vec!["first"; 50]);
}

#[test]
fn when_the_patience_is_over_it_names_who_is_inside() {
    let (ctx, canceller, clock) = timed();
    let _slow = ctx.enter_named("slow").unwrap();
    let quick = ctx.enter_named("quick").unwrap();
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut waiting = pin!(canceller.cancel_and_wait(SECOND));
    assert!(poll(waiting.as_mut(), &waker).is_pending());
    drop(quick);
    clock.advance(SECOND);
    assert_eq!(counting.wakes(), 1);
    let Poll::Ready(stragglers) = poll(waiting, &waker) else { panic!("the patience is over") };
    let names: Vec<_> = stragglers.iter().map(|straggler| straggler.name.as_str()).collect();
    assert_eq!(names, ["slow"]);
    // Again, without patience: who is it still?
    assert_eq!(block_on(canceller.cancel_and_wait(Duration::ZERO)).len(), 1);
}

#[test]
fn whoever_waits_from_inside_is_one_of_the_stragglers() {
    let (ctx, canceller) = root();
    let _inside = ctx.enter_named("myself").unwrap();
    let stragglers = watchdog(PATIENCE, "a wait from inside", move || {
        block_on(canceller.cancel_and_wait(Duration::from_millis(20)))
    });
    assert_eq!(stragglers[0].name, "myself");
}

#[test]
fn a_forgotten_guard_is_found() {
    let (ctx, canceller) = root();
    let mut forgotten = std::mem::ManuallyDrop::new(ctx.enter_named("forgotten").unwrap());
    assert_eq!(block_on(canceller.cancel_and_wait(Duration::ZERO))[0].name, "forgotten");
    // A sanitizer would tell of it as well.
    // SAFETY: it is dropped here, and not used after that.
    unsafe { std::mem::ManuallyDrop::drop(&mut forgotten) };
}

#[test]
fn the_background_is_entered_by_everybody_and_waited_for_by_nobody() {
    let _inside = Context::background().enter().unwrap();
    assert!(Context::background().stragglers().is_empty());
}

#[test]
fn who_is_inside_a_shield_is_waited_for() {
    let (ctx, canceller, _clock) = timed();
    let mut inside = None;
    let run = ctx.shield(SECOND, |ctx| {
        inside = Some(ctx.enter().unwrap());
        std::future::pending::<()>()
    });
    let _run = run.unwrap();
    let mut waiting = pin!(canceller.cancel_and_wait(NEVER));
    assert!(poll(waiting.as_mut(), Waker::noop()).is_pending());
    drop(inside);
    assert!(poll(waiting, Waker::noop()).is_ready());
}

#[test]
fn what_was_done_inside_is_visible_to_who_has_waited() {
    watchdog(PATIENCE, "threads that enter and leave", || {
        for _ in 0..200 {
            let (ctx, canceller) = root();
            let done = Arc::new(AtomicUsize::new(0));
            let entered = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let (ctx, done) = (ctx.clone(), Arc::clone(&done));
                    let entered = Arc::clone(&entered);
                    thread::spawn(move || {
                        while let Ok(_inside) = ctx.enter() {
                            // Relaxed: the guard orders it.
                            entered.fetch_add(1, Ordering::Relaxed);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            while entered.load(Ordering::Relaxed) < 50 {
                thread::yield_now();
            }
            assert!(block_on(canceller.cancel_and_wait(NEVER)).is_empty());
            let after = done.load(Ordering::Relaxed);
            assert_eq!(after, entered.load(Ordering::Relaxed), "somebody was inside");
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(after, done.load(Ordering::Relaxed), "somebody entered afterwards");
        }
    });
}

#[test]
fn guards_that_outlive_everything_on_many_threads() {
    watchdog(PATIENCE, "guards against drops", || {
        for _ in 0..500 {
            let (top, top_canceller) = root();
            let (ctx, canceller) = top.child();
            canceller.detach();
            let guards: Vec<_> = (0..3).map(|_| ctx.enter().unwrap()).collect();
            let threads: Vec<_> =
                guards.into_iter().map(|guard| thread::spawn(move || drop(guard))).collect();
            drop(ctx);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(top.nodes(), 1);
            top_canceller.detach();
        }
    });
}

#[test]
fn a_waker_of_the_wait_may_enter_the_tree() {
    watchdog(PATIENCE, "a waker that enters the tree", || {
        let (ctx, canceller) = root();
        let (child, _child) = ctx.child();
        let inside = child.enter().unwrap();
        let again = ctx.clone();
        let waker = ReentrantWaker::on_wake(move || {
            assert!(again.enter().is_err() && again.stragglers().is_empty());
            drop(again.child());
        });
        let mut waiting = pin!(canceller.cancel_and_wait(NEVER));
        let waker = waker.waker();
        assert!(poll(waiting.as_mut(), &waker).is_pending());
        drop(inside);
        assert!(poll(waiting, Waker::noop()).is_ready());
    });
}

#[test]
fn a_waker_that_panics_when_the_last_one_leaves_leaves_no_node_behind() {
    let (top, canceller) = root();
    let (ctx, ctx_canceller) = top.child();
    let inside = ctx.enter().unwrap();
    let panicking = PanickingWaker::new();
    let mut waiting = pin!(ctx_canceller.cancel_and_wait(NEVER));
    assert!(poll(waiting.as_mut(), &panicking.waker()).is_pending());
    drop((ctx, ctx_canceller));
    let outcome = catch_unwind(AssertUnwindSafe(|| drop(inside)));
    assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"a PanickingWaker was woken"));
    assert_eq!((panicking.wakes(), top.nodes()), (1, 1));
    canceller.detach();
}

#[test]
fn a_canceller_is_a_component() {
    let (ctx, canceller) = root();
    let (named, named_canceller) = ctx.child_with().name("uploads").build().unwrap();
    let component: &dyn Component = &named_canceller;
    assert_eq!(component.name(), "uploads");
    let inside = named.enter_named("upload 1").unwrap();
    let mut waiting = component.wait();
    assert!(poll(waiting.as_mut(), Waker::noop()).is_pending());
    component.stop();
    assert!(named.is_stopping() && !named.is_cancelled());
    assert!(poll(waiting.as_mut(), Waker::noop()).is_pending());
    assert_eq!(component.stragglers()[0].name, "upload 1");
    component.abort();
    assert!(named.is_cancelled() && !ctx.is_stopping());
    drop(inside);
    assert!(poll(waiting.as_mut(), Waker::noop()).is_ready());
    assert!(component.stragglers().is_empty());
    canceller.detach();
}

#[test]
fn a_component_with_nobody_inside_has_not_ended_before_it_is_stopped() {
    let (_ctx, canceller) = root();
    let component: &dyn Component = &canceller;
    let mut waiting = component.wait();
    let woken = CountingWaker::new();
    assert!(poll(waiting.as_mut(), &woken.waker()).is_pending());
    component.stop();
    assert_eq!(woken.wakes(), 1);
    assert!(poll(waiting.as_mut(), &woken.waker()).is_ready());
}

#[test]
fn everything_comes_back() {
    let (root, _canceller) = root();
    drop(root.child().0.enter());
    let started = AtomicBool::new(false);
    let cost = CountingAllocator::count(|| {
        let (ctx, canceller) = root.child();
        let guards: Vec<_> = (0..100).map(|number| ctx.enter_named(number.to_string())).collect();
        let mut waiting = pin!(canceller.cancel_and_wait(NEVER));
        assert!(poll(waiting.as_mut(), Waker::noop()).is_pending());
        drop((guards, ctx));
        started.store(true, Ordering::Relaxed);
    });
    assert!(started.into_inner());
    assert_eq!(cost.bytes_allocated, cost.bytes_freed, "{cost}");
}

#[test]
fn a_component_waits_for_who_enters_where_only_a_look_has_seen_the_deadline() {
    for entered_before in [false, true] {
        let (timer, clock) = Timer::manual();
        let background = Context::background();
        let made = background.child_with().timeout(SECOND).timer(timer).build();
        let (ctx, canceller) = made.unwrap();
        let mut inside = None;
        let run = ctx.shield(10 * SECOND, |ctx| {
            inside = Some(ctx);
            std::future::pending::<()>()
        });
        let inside = inside.unwrap();
        if entered_before {
            drop(inside.enter().unwrap());
        }
        clock.advance_silently(SECOND);
        let mut waiting = Component::wait(&canceller);
        assert!(poll(waiting.as_mut(), Waker::noop()).is_ready(), "nobody is inside");
        assert!(inside.enter().is_err(), "whoever has waited was told that nobody is");
        drop(run);
        drop(ctx);
    }
}

#[test]
fn a_component_is_stopped_and_aborted_any_number_of_times_and_waited_for_by_many() {
    let (ctx, canceller) = root();
    let component: &dyn Component = &canceller;
    let inside = ctx.enter().unwrap();
    let mut dropped = component.wait();
    assert!(poll(dropped.as_mut(), Waker::noop()).is_pending());
    let woken = [CountingWaker::new(), CountingWaker::new()];
    let mut waits = [component.wait(), component.wait()];
    for (wait, woken) in waits.iter_mut().zip(&woken) {
        assert!(poll(wait.as_mut(), &woken.waker()).is_pending());
    }
    component.stop();
    component.stop();
    for (wait, woken) in waits.iter_mut().zip(&woken) {
        assert!(poll(wait.as_mut(), &woken.waker()).is_pending());
    }
    let cause = ctx.cause().unwrap();
    component.abort();
    component.abort();
    component.stop();
    assert!(ctx.cause().unwrap().same(&cause), "the first stays");
    drop(dropped);
    drop(inside);
    for (wait, woken) in waits.iter_mut().zip(&woken) {
        assert_eq!(woken.wakes(), 2, "of the stop, and of the end");
        assert!(poll(wait.as_mut(), Waker::noop()).is_ready());
    }
    component.stop();
    component.abort();
    assert!(poll(component.wait().as_mut(), Waker::noop()).is_ready(), "after the end as well");
    assert!(component.stragglers().is_empty());
}

#[test]
fn the_last_canceller_cancels_although_nobody_but_a_guard_is_there() {
    let (top, _keep) = root();
    let (task, canceller) = top.child();
    let guard = task.enter().unwrap();
    drop(task);
    drop(canceller);
    let text = top.dump().to_string();
    assert!(text.contains("last canceller dropped"), "{text}");
    drop(guard);
    assert_eq!(top.nodes(), 1);
}
