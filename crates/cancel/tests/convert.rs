//! Conversions from and to the token of tokio-util: what ends, on which thread, and what is kept.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Context as TaskContext;
use std::thread;
use std::time::Duration;

use selvedge_cancel::{Canceller, CauseKind, Context};
use selvedge_testkit::{
    CountingAllocator, CountingWaker, PanickingWaker, ReentrantWaker, watchdog,
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> (Context, Canceller) {
    Context::background().child()
}

/// Runs on a thread with a small stack, so that recursion would show.
fn small_stack(f: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(256 * 1024).spawn(f).unwrap().join().unwrap();
}

/// Asserts that what `turn` leaves behind does not grow with how often it is done.
#[track_caller]
fn leaves_nothing(turn: impl Fn()) {
    // What is made once, by the thread or by the token's list of children.
    turn();
    let cost = CountingAllocator::count(|| (0..1_000).for_each(|_| turn()));
    assert_eq!((cost.allocations, cost.bytes_allocated), (cost.frees, cost.bytes_freed), "{cost}");
}

#[test]
fn a_context_ends_with_its_token_and_so_does_what_is_below() {
    let token = CancellationToken::new();
    let line = line!() + 1;
    let (ctx, _canceller) = Context::from_token(&token);
    let (below, _keep) = ctx.child();
    assert!(!ctx.is_stopping() && ctx.deadline().is_none());
    token.cancel();
    assert!(ctx.is_cancelled() && below.is_cancelled());
    let cause = below.cause().unwrap();
    assert_eq!((cause.kind(), cause.place().file()), (CauseKind::Cancelled, file!()));
    assert_eq!(cause.place().line(), line, "a token does not say who cancelled it");
}

#[test]
fn the_context_of_a_cancelled_token_is_cancelled_at_once() {
    let token = CancellationToken::new();
    token.cancel();
    let (ctx, _canceller) = Context::from_token(&token);
    assert_eq!(ctx.cause().unwrap().kind(), CauseKind::Cancelled);
    assert!(ctx.child().0.is_cancelled());
    leaves_nothing(|| drop(Context::from_token(&token)));
}

#[test]
fn the_context_of_a_child_token_ends_with_the_parent_token() {
    let token = CancellationToken::new();
    let child = token.child_token();
    let (ctx, _canceller) = Context::from_token(&child);
    drop(child);
    token.cancel();
    assert!(ctx.is_cancelled());
}

#[test]
fn the_context_can_be_ended_earlier_and_does_not_touch_the_token() {
    let token = CancellationToken::new();
    let (ctx, canceller) = Context::from_token(&token);
    canceller.cancel_because("earlier");
    assert!(ctx.is_cancelled() && !token.is_cancelled());
    token.cancel();
    assert!(ctx.cause().unwrap().error().is_some(), "the first cause stays");
    let token = CancellationToken::new();
    let (ctx, canceller) = Context::from_token(&token);
    drop(canceller);
    assert_eq!(ctx.cause().unwrap().kind(), CauseKind::Dropped);
    assert!(!token.is_cancelled());
}

#[test]
fn dropping_the_token_ends_no_context() {
    let token = CancellationToken::new();
    let (ctx, _canceller) = Context::from_token(&token);
    drop(token);
    assert!(!ctx.is_stopping());
}

#[test]
fn a_token_that_lives_for_ever_keeps_nothing_of_contexts_that_are_gone() {
    let token = CancellationToken::new();
    leaves_nothing(|| {
        let (ctx, canceller) = Context::from_token(&token);
        let (below, _below) = ctx.child();
        canceller.detach();
        drop((ctx, below));
        drop(Context::from_token(&token));
    });
    token.cancel();
}

#[test]
fn what_is_below_stays_linked_when_the_context_of_the_token_is_dropped() {
    let token = CancellationToken::new();
    let (ctx, canceller) = Context::from_token(&token);
    canceller.detach();
    let (below, below_canceller) = ctx.child();
    below_canceller.detach();
    drop(ctx);
    token.cancel();
    assert!(below.is_cancelled());
}

#[test]
fn a_wait_alone_keeps_the_link() {
    let token = CancellationToken::new();
    let (ctx, canceller) = Context::from_token(&token);
    canceller.detach();
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut waits = pin!(ctx.cancelled_owned());
    assert!(waits.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    drop(ctx);
    token.cancel();
    assert_eq!(counting.wakes(), 1);
}

#[test]
fn a_token_is_cancelled_on_another_thread() {
    watchdog(PATIENCE, "a token cancelled elsewhere", || {
        let token = CancellationToken::new();
        let (ctx, _canceller) = Context::from_token(&token);
        let cancelling = thread::spawn(move || token.cancel());
        assert_eq!(ctx.cancelled_blocking().kind(), CauseKind::Cancelled);
        cancelling.join().unwrap();
    });
}

#[test]
fn a_cancel_of_the_token_against_the_making_and_the_drop_of_its_context() {
    watchdog(PATIENCE, "cancel against make and drop", || {
        for turn in 0..3_000 {
            let token = CancellationToken::new();
            let start = Arc::new(Barrier::new(2));
            let cancelling = thread::spawn({
                let (token, start) = (token.clone(), Arc::clone(&start));
                move || {
                    start.wait();
                    token.cancel();
                }
            });
            start.wait();
            let (ctx, canceller) = Context::from_token(&token);
            canceller.detach();
            if turn % 2 == 0 {
                drop(ctx);
                cancelling.join().unwrap();
            } else {
                cancelling.join().unwrap();
                assert!(ctx.is_cancelled());
            }
        }
    });
}

#[test]
fn a_waker_of_the_context_may_use_the_token_and_drop_the_context() {
    watchdog(PATIENCE, "a waker that uses the token", || {
        let token = CancellationToken::new();
        let (ctx, canceller) = Context::from_token(&token);
        canceller.detach();
        let source = token.clone();
        let held = std::sync::Mutex::new(Some(ctx.clone()));
        let reentrant = ReentrantWaker::on_wake(move || {
            assert!(source.child_token().is_cancelled());
            let ctx = held.lock().unwrap().take();
            assert!(ctx.is_some_and(|ctx| ctx.is_cancelled()));
            assert!(Context::from_token(&source).0.is_cancelled());
        });
        let waker = reentrant.waker();
        let mut waits = Box::pin(ctx.cancelled_owned());
        assert!(waits.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        drop(ctx);
        token.cancel();
        assert_eq!(reentrant.wakes(), 1);
    });
}

#[test]
fn a_waker_of_the_context_that_panics_stops_nobody_who_waits_for_the_token() {
    let token = CancellationToken::new();
    let before = CountingWaker::new();
    let after = CountingWaker::new();
    let (mut first, mut last) = (pin!(token.cancelled()), pin!(token.cancelled()));
    let waker = before.waker();
    assert!(first.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    let (ctx, _canceller) = Context::from_token(&token);
    let waker = after.waker();
    assert!(last.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    let panicking = PanickingWaker::new();
    let waker = panicking.waker();
    let mut waits = pin!(ctx.cancelled());
    assert!(waits.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    token.cancel();
    assert_eq!((before.wakes(), panicking.wakes(), after.wakes()), (1, 1, 1));
}

#[test]
fn a_link_that_is_made_by_a_task_without_budget_is_a_link() {
    watchdog(PATIENCE, "a task without budget", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let token = CancellationToken::new();
            while tokio::task::coop::has_budget_remaining() {
                tokio::task::coop::consume_budget().await;
            }
            let (ctx, _canceller) = Context::from_token(&token);
            tokio::task::yield_now().await;
            assert!(!ctx.is_cancelled());
            token.cancel();
            assert!(ctx.is_cancelled());
        });
    });
}

#[test]
fn a_token_is_cancelled_with_its_context() {
    let (parent, parent_canceller) = root();
    let (ctx, canceller) = parent.child();
    let (mine, above) = (ctx.to_token(), parent.to_token());
    let child = mine.child_token();
    canceller.cancel();
    assert!(mine.is_cancelled() && child.is_cancelled() && !above.is_cancelled());
    parent_canceller.cancel();
    assert!(above.is_cancelled());
}

#[test]
fn a_stop_does_not_cancel_the_token() {
    let (ctx, canceller) = root();
    let token = ctx.to_token();
    canceller.stop(Duration::MAX);
    assert!(!token.is_cancelled());
    canceller.cancel();
    assert!(token.is_cancelled());
}

#[test]
fn the_token_of_a_cancelled_context_is_cancelled_at_once() {
    let (ctx, canceller) = root();
    canceller.cancel();
    assert!(ctx.to_token().is_cancelled() && ctx.linked_token().token().is_cancelled());
    leaves_nothing(|| drop((ctx.to_token(), ctx.linked_token())));
}

#[test]
fn the_token_of_the_background_is_a_token_of_its_own() {
    let token = Context::background().to_token();
    assert!(!token.is_cancelled());
    token.cancel();
    assert!(token.is_cancelled() && !Context::background().to_token().is_cancelled());
    leaves_nothing(|| drop(Context::background().to_token()));
}

#[test]
fn cancelling_the_token_does_not_touch_the_context() {
    let (ctx, canceller) = root();
    let (first, second) = (ctx.to_token(), ctx.to_token());
    first.cancel();
    assert!(!ctx.is_stopping() && !second.is_cancelled());
    canceller.cancel();
    assert!(second.is_cancelled());
}

#[test]
fn a_token_outlives_every_handle_of_its_context() {
    let (parent, parent_canceller) = root();
    let (ctx, canceller) = parent.child();
    canceller.detach();
    let token = ctx.to_token();
    drop(ctx);
    parent_canceller.cancel();
    assert!(token.is_cancelled());
    // The last canceller cancels.
    let (ctx, canceller) = root();
    let token = ctx.to_token();
    drop(ctx);
    assert!(!token.is_cancelled());
    drop(canceller);
    assert!(token.is_cancelled());
}

#[test]
fn a_token_is_kept_until_its_context_ends_and_no_longer() {
    let (service, _canceller) = root();
    leaves_nothing(|| {
        let (request, done) = service.child();
        drop(request.to_token());
        assert_eq!(service.nodes(), 2, "the callback is registered");
        done.cancel();
        drop((request, done));
        assert_eq!(service.nodes(), 1);
    });
    let kept = CountingAllocator::count(|| drop(service.to_token()));
    assert!(kept.allocations > kept.frees, "a token cannot tell that it was dropped");
}

#[test]
fn a_conversion_costs_a_few_allocations() {
    let (ctx, _canceller) = root();
    let token = CancellationToken::new();
    let mut kept = Vec::with_capacity(4);
    let mut cost = |make: &dyn Fn() -> Box<dyn Any>| {
        let boxed = CountingAllocator::count(|| kept.push(make()));
        boxed.allocations - 1
    };
    let of_token = cost(&|| Box::new(CancellationToken::new()));
    assert_eq!(cost(&|| Box::new(ctx.to_token())), of_token + 3);
    assert_eq!(cost(&|| Box::new(ctx.linked_token())), of_token + 3);
    assert_eq!(cost(&|| Box::new(Context::from_token(&token))), 5);
}

#[test]
fn clones_and_children_of_one_token_leave_nothing_in_a_context_that_stays() {
    let (service, _canceller) = root();
    let token = service.to_token();
    leaves_nothing(|| drop((token.clone(), token.child_token())));
}

#[test]
fn a_linked_token_leaves_nothing_in_a_context_that_stays() {
    let (service, canceller) = root();
    leaves_nothing(|| drop(service.linked_token()));
    let (linked, dropped) = (service.linked_token(), service.linked_token());
    let (kept, left) = (linked.detach(), dropped.token().clone());
    drop(dropped);
    canceller.cancel();
    assert!(kept.is_cancelled() && !left.is_cancelled());
}

#[test]
fn who_waits_for_the_token_sees_what_was_done_before_the_cancel() {
    watchdog(PATIENCE, "a context cancelled elsewhere", || {
        for _ in 0..200 {
            let (ctx, canceller) = root();
            let token = ctx.to_token();
            let done = Arc::new(AtomicBool::new(false));
            let cancelling = thread::spawn({
                let done = Arc::clone(&done);
                move || {
                    // Relaxed: the cancel publishes it.
                    done.store(true, Ordering::Relaxed);
                    canceller.cancel();
                }
            });
            selvedge_testkit::block_on(token.cancelled());
            // Relaxed: as above.
            assert!(done.load(Ordering::Relaxed));
            cancelling.join().unwrap();
        }
    });
}

#[test]
fn a_waker_of_the_token_that_panics_panics_out_of_the_cancel_when_all_are_woken() {
    let (ctx, canceller) = root();
    let token = ctx.to_token();
    let (panicking, counting) = (PanickingWaker::new(), CountingWaker::new());
    let (mut of_token, mut of_context) = (pin!(token.cancelled()), pin!(ctx.cancelled()));
    let waker = panicking.waker();
    assert!(of_token.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    let waker = counting.waker();
    assert!(of_context.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| canceller.cancel())).is_err());
    assert_eq!((panicking.wakes(), counting.wakes()), (1, 1));
}

#[test]
fn a_cancel_goes_from_token_to_context_to_token_and_on() {
    let first = CancellationToken::new();
    let (one, _one) = Context::from_token(&first);
    let second = one.to_token();
    let (two, _two) = Context::from_token(&second.child_token());
    let (either, _either) = Context::any_of([&two, &root().0]);
    let third = either.to_token();
    first.cancel();
    assert!(one.is_cancelled() && second.is_cancelled() && two.is_cancelled());
    assert!(either.is_cancelled() && third.is_cancelled());
}

/// A long chain of contexts, each made from a token of the one before.
fn chain(length: usize) -> (Vec<Context>, CancellationToken) {
    let first = CancellationToken::new();
    let mut token = first.clone();
    let mut all = Vec::with_capacity(length);
    for _ in 0..length {
        let (ctx, canceller) = Context::from_token(&token);
        canceller.detach();
        token = ctx.to_token();
        all.push(ctx);
    }
    (all, first)
}

#[test]
fn a_cancel_goes_through_a_long_chain_without_recursing() {
    small_stack(|| {
        let (all, first) = chain(20_000);
        first.cancel();
        assert!(all.iter().all(Context::is_cancelled));
    });
}

#[test]
fn a_long_chain_that_was_cancelled_is_dropped_without_recursing() {
    small_stack(|| {
        let (mut all, first) = chain(20_000);
        first.cancel();
        let last = all.pop();
        drop((all, first));
        assert!(last.is_some_and(|last| last.is_cancelled()));
    });
}

#[test]
fn a_ring_of_a_token_and_a_context_ends_once() {
    watchdog(PATIENCE, "a ring", || {
        let token = CancellationToken::new();
        let (ctx, canceller) = Context::from_token(&token);
        let back = token.clone();
        let registration = ctx.on_cancel(move |_| back.cancel());
        canceller.cancel();
        assert!(ctx.is_cancelled() && token.is_cancelled());
        drop(registration);
    });
}

#[test]
fn a_context_ends_although_the_waker_of_a_stranger_panics_in_its_token() {
    let token = CancellationToken::new();
    let panicking = PanickingWaker::new();
    let mut stranger = pin!(token.cancelled());
    assert!(stranger.as_mut().poll(&mut TaskContext::from_waker(&panicking.waker())).is_pending());
    let contexts: Vec<_> = (0..3).map(|_| Context::from_token(&token)).collect();
    catch_unwind(AssertUnwindSafe(|| token.cancel())).unwrap_err();
    assert!(token.is_cancelled());
    assert!(contexts.iter().all(|(ctx, _)| ctx.is_cancelled()));
}

#[test]
fn who_sees_the_context_of_a_token_cancelled_sees_what_was_done_before() {
    static WRITTEN: AtomicBool = AtomicBool::new(false);
    for _ in 0..1_000 {
        WRITTEN.store(false, Ordering::Relaxed);
        let token = CancellationToken::new();
        let (ctx, _keep) = Context::from_token(&token);
        thread::scope(|scope| {
            scope.spawn(|| {
                WRITTEN.store(true, Ordering::Relaxed);
                token.cancel();
            });
            while !ctx.is_cancelled() {
                std::hint::spin_loop();
            }
            assert!(WRITTEN.load(Ordering::Relaxed));
        });
    }
}
