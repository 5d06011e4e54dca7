//! Linked contexts: any of, all of; what they keep, and what they do not.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use selvedge_cancel::{Canceller, CauseKind, Context, Timer};
use selvedge_testkit::{CountingAllocator, CountingWaker, ReentrantWaker, watchdog};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> (Context, Canceller) {
    Context::background().child()
}

fn kind(ctx: &Context) -> Option<CauseKind> {
    ctx.cause().map(|cause| cause.kind())
}

#[test]
fn any_of_ends_with_the_first_and_with_its_cause() {
    let ((one, _one), (two, two_canceller)) = (root(), root());
    let (either, _canceller) = Context::any_of([&one, &two]);
    let (below, _keep) = either.child();
    assert!(!either.is_stopping());
    two_canceller.cancel_because("the second");
    assert!(either.is_cancelled() && below.is_cancelled() && !one.is_cancelled());
    assert!(below.cause().unwrap().same(&two.cause().unwrap()));
}

#[test]
fn all_of_ends_with_the_last_and_with_its_cause() {
    let ((one, one_canceller), (two, two_canceller)) = (root(), root());
    let (both, _canceller) = Context::all_of([&one, &two]);
    two_canceller.cancel();
    two_canceller.cancel();
    assert!(!both.is_stopping());
    one_canceller.cancel_because("the last");
    assert!(both.cause().unwrap().same(&one.cause().unwrap()));
    assert!(both.is_cancelled());
}

#[test]
fn a_stop_of_a_source_is_a_stop() {
    let ((one, one_canceller), (two, two_canceller)) = (root(), root());
    let (any, _any) = Context::any_of([&one, &two]);
    let (all, _all) = Context::all_of([&one, &two]);
    one_canceller.stop(Duration::MAX);
    assert!(any.is_stopping() && !any.is_cancelled() && !all.is_stopping());
    two_canceller.stop(Duration::MAX);
    assert!(all.is_stopping() && !all.is_cancelled());
    one_canceller.cancel();
    assert!(any.is_cancelled() && !all.is_cancelled());
    two_canceller.cancel();
    assert!(all.is_cancelled());
    assert_eq!(kind(&any), Some(CauseKind::Stopped), "the first cause stays");
}

#[test]
fn sources_that_have_ended_already_count() {
    let ((one, one_canceller), (two, two_canceller)) = (root(), root());
    one_canceller.cancel();
    assert!(Context::any_of([&one, &two]).0.is_cancelled());
    let (both, _canceller) = Context::all_of([&one, &two]);
    assert!(!both.is_cancelled());
    two_canceller.cancel();
    assert!(both.is_cancelled());
    assert!(Context::all_of([&one, &two]).0.is_cancelled());
}

#[test]
fn no_sources_and_the_background() {
    let (one, one_canceller) = root();
    let background = Context::background();
    let (any_of_none, _none) = Context::any_of([]);
    let (any, _any) = Context::any_of([&one, &background]);
    let (all, _all) = Context::all_of([&one, &background]);
    one_canceller.cancel();
    assert!(!any_of_none.is_cancelled() && any.is_cancelled() && !all.is_stopping());
    assert!(Context::all_of([]).0.is_cancelled());
}

#[test]
fn a_source_that_is_named_twice_counts_twice() {
    let (one, one_canceller) = root();
    let (both, _canceller) = Context::all_of([&one, &one]);
    one_canceller.cancel();
    assert!(both.is_cancelled());
}

#[test]
fn the_linked_context_can_be_ended_earlier_and_touches_no_source() {
    let ((one, _one), (two, _two)) = (root(), root());
    let (either, canceller) = Context::any_of([&one, &two]);
    canceller.cancel();
    assert!(either.is_cancelled() && !one.is_stopping() && !two.is_stopping());
    let (dropped, canceller) = Context::any_of([&one, &two]);
    drop(canceller);
    assert_eq!(kind(&dropped), Some(CauseKind::Dropped));
}

#[test]
fn a_deadline_of_a_source_ends_it() {
    let (timer, clock) = Timer::manual();
    let made = Context::background().child_with().timeout(SECOND).timer(timer).build();
    let ((timed, _timed), (other, _other)) = (made.unwrap(), root());
    let (either, _canceller) = Context::any_of([&timed, &other]);
    assert_eq!((either.deadline(), clock.registered()), (None, 1));
    clock.advance(SECOND);
    assert_eq!(kind(&either), Some(CauseKind::Deadline));
}

#[test]
fn who_waits_is_woken_and_nothing_but_the_wait_is_needed() {
    let ((one, one_canceller), (two, _two)) = (root(), root());
    let (either, canceller) = Context::any_of([&one, &two]);
    canceller.detach();
    let counting = CountingWaker::new();
    let mut waiting = Box::pin(either.cancelled_owned());
    let mut cx = std::task::Context::from_waker(&counting.waker()).waker().clone();
    assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(&cx)).is_pending());
    cx = counting.waker();
    drop((either, cx));
    one_canceller.cancel();
    assert_eq!(counting.wakes(), 1);
}

#[test]
fn what_is_below_a_linked_context_stays_linked_when_that_is_dropped() {
    let ((one, one_canceller), (two, _two)) = (root(), root());
    let (either, canceller) = Context::any_of([&one, &two]);
    canceller.detach();
    let (below, below_canceller) = either.child();
    below_canceller.detach();
    drop(either);
    one_canceller.cancel();
    assert!(below.is_cancelled());
}

#[test]
fn a_source_that_lives_for_ever_keeps_nothing_of_contexts_that_are_gone() {
    let ((one, _one), (two, _two)) = (root(), root());
    drop(Context::any_of([&one, &two]));
    let cost = CountingAllocator::count(|| {
        for _ in 0..1_000 {
            let (either, canceller) = Context::any_of([&one, &two]);
            let (both, _keep) = Context::all_of([&one, &either]);
            let (below, _below) = both.child();
            canceller.detach();
            drop((either, both, below));
        }
    });
    assert_eq!(cost.allocations, cost.frees, "{cost}");
}

#[test]
fn a_link_makes_six_allocations_a_source_and_five_more() {
    let sources = [(); 3].map(|()| root());
    for among in 1..=3_usize {
        let sources: Vec<_> = sources[..among].iter().map(|(ctx, _)| ctx).collect();
        let mut linked = None;
        let cost = CountingAllocator::count(|| linked = Some(Context::any_of(sources)));
        assert_eq!(cost.allocations, 5 + 6 * among as u64, "{cost}");
        drop(linked);
    }
}

#[test]
fn a_linked_context_keeps_its_sources_until_it_is_gone() {
    let (root, _canceller) = root();
    let (one, one_canceller) = root.child();
    one_canceller.detach();
    let (either, canceller) = Context::any_of([&one]);
    drop(one);
    assert_eq!(root.nodes(), 2);
    canceller.detach();
    drop(either);
    assert_eq!(root.nodes(), 1);
}

/// A long chain of contexts, each linked to the one before.
fn chain(length: usize) -> (Vec<Context>, Canceller) {
    let (first, canceller) = root();
    let mut all = vec![first];
    for _ in 0..length {
        let (next, next_canceller) = Context::any_of([&all[all.len() - 1]]);
        next_canceller.detach();
        all.push(next);
    }
    (all, canceller)
}

/// Runs on a thread with a small stack, so that recursion would show.
fn small_stack(f: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(256 * 1024).spawn(f).unwrap().join().unwrap();
}

#[test]
fn a_cancel_goes_through_a_long_chain_of_links_without_recursing() {
    small_stack(|| {
        let (all, canceller) = chain(20_000);
        canceller.cancel();
        assert!(all.iter().all(Context::is_cancelled));
    });
}

#[test]
fn a_long_chain_of_links_is_dropped_without_recursing() {
    small_stack(|| {
        let (mut all, canceller) = chain(20_000);
        canceller.detach();
        let last = all.pop().unwrap();
        // Each of them is kept by the next.
        drop(all);
        assert!(!last.is_cancelled());
        drop(last);
    });
}

#[test]
fn a_cancel_against_the_drop_of_the_linked_context() {
    watchdog(PATIENCE, "cancel against drop", || {
        for turn in 0..2_000 {
            let ((one, one_canceller), (two, two_canceller)) = (root(), root());
            let (either, canceller) = Context::any_of([&one, &two]);
            canceller.detach();
            let (below, below_canceller) = either.child();
            below_canceller.detach();
            let cancelling = thread::spawn(move || one_canceller.cancel());
            drop(either);
            if turn % 2 == 0 {
                drop(below);
                cancelling.join().unwrap();
            } else {
                cancelling.join().unwrap();
                assert!(below.is_cancelled());
            }
            two_canceller.cancel();
        }
    });
}

#[test]
fn a_waker_of_a_linked_context_may_enter_the_trees_of_its_sources() {
    watchdog(PATIENCE, "a waker in the source's tree", || {
        let (one, one_canceller) = root();
        let (either, _canceller) = Context::any_of([&one]);
        let source = one.clone();
        let waker = ReentrantWaker::on_wake(move || {
            let (fresh, _keep) = source.child();
            assert!(fresh.is_cancelled());
            drop(Context::any_of([&source, &fresh]));
        });
        let mut waiting = Box::pin(either.cancelled());
        let waker = waker.waker();
        assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        one_canceller.cancel();
        drop(waiting);
    });
}

#[test]
fn linked_contexts_go_from_thread_to_thread() {
    watchdog(PATIENCE, "a linked context on another thread", || {
        let (one, one_canceller) = root();
        let (either, _canceller) = Context::any_of([&one]);
        let either = Arc::new(either);
        let waiter = thread::spawn({
            let either = Arc::clone(&either);
            move || either.cancelled_blocking().kind()
        });
        one_canceller.cancel();
        assert_eq!(waiter.join().unwrap(), CauseKind::Cancelled);
    });
}

#[test]
fn a_link_that_is_made_inside_of_another_begins_ended_if_its_source_has() {
    for all in [false, true] {
        let ((one, one_canceller), (two, two_canceller)) = (root(), root());
        two_canceller.cancel_because("before");
        let (linked, _keep) = Context::any_of([&one]);
        let callback = linked.on_cancel(move |_| {
            let (inner, _keep) = match all {
                false => Context::any_of([&two]),
                true => Context::all_of([&two, &two]),
            };
            assert!(inner.is_cancelled());
            assert!(inner.cause().unwrap().same(&two.cause().unwrap()));
        });
        one_canceller.cancel();
        assert_eq!(callback.revoke(), selvedge_cancel::Revoked::Late);
    }
}
