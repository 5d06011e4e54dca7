//! The contract of contexts, cancellers and causes, sentence by sentence. Deadlines have a file of
//! their own.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::{pending, poll_fn, ready};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{Cancelled, Canceller, Cause, CauseKind, Context, Stopping};
use selvedge_testkit::{
    CountingAllocator, CountingWaker, PanickingWaker, ReentrantWaker, block_on, watchdog,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const PATIENCE: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::MAX;

fn root() -> (Context, Canceller) {
    Context::background().child()
}

/// A child that only its parent cancels.
fn quiet(parent: &Context) -> Context {
    let (child, canceller) = parent.child();
    canceller.detach();
    child
}

fn kind(ctx: &Context) -> Option<CauseKind> {
    ctx.cause().map(|cause| cause.kind())
}

fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(waker))
}

/// A waiter in a box, polled once.
fn waiting(ctx: &Context, waker: &Waker) -> Pin<Box<Cancelled<'static>>> {
    let mut future = Box::pin(ctx.cancelled_owned());
    assert!(poll(future.as_mut(), waker).is_pending());
    future
}

/// As `waiting`, for STOPPING.
fn waiting_to_stop(ctx: &Context, waker: &Waker) -> Pin<Box<Stopping<'static>>> {
    let mut future = Box::pin(ctx.stopping_owned());
    assert!(poll(future.as_mut(), waker).is_pending());
    future
}

/// Runs on a thread with a small stack, so that recursion would show.
fn small_stack(f: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(256 * 1024).spawn(f).unwrap();
    thread.join().unwrap();
}

// The background.

#[test]
fn the_background_never_ends_and_is_no_node() {
    let background = Context::background();
    assert!(!background.is_cancelled() && !background.is_stopping());
    assert!(background.cause().is_none() && background.check().is_ok());
    assert!(background.deadline().is_none() && background.remaining().is_none());
    assert!(background.timer().is_none() && background.name().is_none());
    assert!(background.place().is_none());
    assert_eq!(background.nodes(), 0);
    assert!(poll(pin!(background.cancelled()), Waker::noop()).is_pending());
    assert!(poll(pin!(background.stopping()), Waker::noop()).is_pending());
    assert_eq!(block_on(background.run(ready(1))).unwrap(), 1);
    assert_eq!(format!("{background:?}"), "Context(background)");
    assert!(Context::default().place().is_none());
}

#[test]
fn children_of_the_background_are_roots_apart() {
    let (one, one_canceller) = root();
    let (two, _two_canceller) = root();
    one_canceller.cancel();
    assert!(one.is_cancelled() && !two.is_cancelled());
    assert_eq!((one.nodes(), two.nodes()), (1, 1));
}

// Cancel.

#[test]
fn cancel_sets_both_levels_on_every_descendant_and_no_one_else() {
    let (root, _root_canceller) = root();
    let (ctx, canceller) = root.child();
    let sibling = quiet(&root);
    let child = quiet(&ctx);
    let grandchild = quiet(&child);
    canceller.cancel();
    for below in [&ctx, &child, &grandchild, &ctx.clone()] {
        assert!(below.is_cancelled() && below.is_stopping());
        assert!(below.check().is_err());
    }
    for other in [&root, &sibling] {
        assert!(!other.is_cancelled() && !other.is_stopping() && other.cause().is_none());
    }
}

#[test]
fn a_child_of_a_cancelled_context_is_born_cancelled_with_its_cause() {
    let (ctx, canceller) = root();
    canceller.cancel_because("over");
    let (child, child_canceller) = ctx.child();
    let grandchild = quiet(&child);
    assert!(grandchild.is_cancelled());
    assert!(grandchild.cause().unwrap().same(&ctx.cause().unwrap()));
    assert_eq!(ctx.nodes(), 1, "who is born cancelled joins no tree");
    child_canceller.cancel();
    drop(child_canceller);
    assert_eq!(kind(&child), Some(CauseKind::Cancelled));
    assert!(block_on(child.cancelled()).same(&ctx.cause().unwrap()));
}

#[test]
fn a_child_of_a_stopping_context_is_born_stopping() {
    let (ctx, canceller) = root();
    canceller.stop(NEVER);
    let child = quiet(&ctx);
    assert!(child.is_stopping() && !child.is_cancelled());
    assert!(child.cause().unwrap().same(&ctx.cause().unwrap()));
    canceller.cancel();
    assert!(child.is_cancelled());
}

#[test]
fn a_cancelled_child_never_touches_its_parent() {
    let (ctx, _canceller) = root();
    let counting = CountingWaker::new();
    let parent_waiter = waiting(&ctx, &counting.waker());
    let (child, child_canceller) = ctx.child();
    child_canceller.stop(NEVER);
    child_canceller.cancel();
    drop((child, child_canceller));
    let (_dropped, child_canceller) = ctx.child();
    drop(child_canceller);
    assert!(!ctx.is_stopping() && ctx.cause().is_none());
    assert_eq!(counting.wakes(), 0);
    drop(parent_waiter);
}

#[test]
fn the_last_canceller_dropped_cancels() {
    let line = line!() + 1;
    let (ctx, canceller) = Context::background().child();
    let child = quiet(&ctx);
    let clone = canceller.clone();
    drop(canceller);
    assert!(!ctx.is_cancelled());
    drop(clone);
    assert!(ctx.is_cancelled() && child.is_cancelled());
    let cause = child.cause().unwrap();
    assert_eq!(cause.kind(), CauseKind::Dropped);
    assert_eq!((cause.place().file(), cause.place().line()), (file!(), line));
}

#[test]
fn a_canceller_bound_to_an_underscore_cancels_at_once() {
    let (ctx, _) = Context::background().child();
    assert_eq!(kind(&ctx), Some(CauseKind::Dropped));
}

#[test]
fn detach_disarms_for_all_clones() {
    let (ctx, canceller) = root();
    let clone = canceller.clone();
    canceller.detach();
    assert!(!ctx.is_cancelled());
    drop(clone);
    assert!(!ctx.is_cancelled());
}

#[test]
fn a_clone_of_a_detached_canceller_still_cancels_by_word() {
    let (ctx, canceller) = root();
    let clone = canceller.clone();
    canceller.detach();
    clone.cancel();
    assert_eq!(kind(&ctx), Some(CauseKind::Cancelled));
}

#[test]
fn dropping_contexts_cancels_nothing() {
    let (ctx, canceller) = root();
    let (child, child_canceller) = ctx.child();
    let (grandchild, _grandchild_canceller) = child.child();
    drop((ctx, child));
    assert!(!grandchild.is_cancelled());
    drop(child_canceller);
    assert_eq!(kind(&grandchild), Some(CauseKind::Dropped), "the canceller kept its node");
    drop(canceller);
}

#[test]
fn a_cancel_from_above_passes_through_dropped_contexts() {
    let (ctx, canceller) = root();
    let inner = quiet(&ctx);
    let (left, right) = (quiet(&inner), quiet(&inner));
    drop((ctx, inner));
    canceller.cancel();
    assert!(left.is_cancelled() && right.is_cancelled());
}

// Two levels.

#[test]
fn a_stop_sets_stopping_on_all_below_and_cancels_nothing_yet() {
    let (ctx, canceller) = root();
    let child = quiet(&ctx);
    canceller.stop(NEVER);
    for ctx in [&ctx, &child] {
        assert!(ctx.is_stopping() && !ctx.is_cancelled() && ctx.check().is_ok());
        assert_eq!(kind(ctx), Some(CauseKind::Stopped));
        assert!(poll(pin!(ctx.stopping()), Waker::noop()).is_ready());
        assert!(poll(pin!(ctx.cancelled()), Waker::noop()).is_pending());
        assert!(ctx.deadline().is_none() && ctx.remaining().is_none());
    }
    assert_eq!(block_on(child.run(ready(2))).unwrap(), 2, "accepted work goes on");
}

#[test]
fn a_cancel_after_a_stop_keeps_the_stops_cause() {
    let (ctx, canceller) = root();
    canceller.stop_because("please finish", NEVER);
    let stop = ctx.cause().unwrap();
    canceller.cancel_because("now");
    assert!(ctx.is_cancelled());
    assert!(ctx.cause().unwrap().same(&stop));
    assert!(ctx.check().unwrap_err().same(&stop));
    assert!(block_on(ctx.cancelled()).same(&stop));
    assert!(quiet(&ctx).cause().unwrap().same(&stop));
}

#[test]
fn a_stop_without_grace_cancels_with_the_kind_stopped() {
    let (ctx, canceller) = root();
    canceller.stop(Duration::ZERO);
    assert!(ctx.is_cancelled());
    assert_eq!(kind(&ctx), Some(CauseKind::Stopped));
}

#[test]
fn a_stop_after_a_cancel_changes_nothing() {
    let (ctx, canceller) = root();
    canceller.cancel();
    let cause = ctx.cause().unwrap();
    canceller.stop(Duration::from_secs(1));
    canceller.stop(NEVER);
    assert!(ctx.is_cancelled() && ctx.cause().unwrap().same(&cause));
}

#[test]
fn a_grace_wakes_stopping_waiters_only() {
    let (ctx, canceller) = root();
    let (stop, cancel) = (CountingWaker::new(), CountingWaker::new());
    let _stopping = waiting_to_stop(&ctx, &stop.waker());
    let _cancelled = waiting(&ctx, &cancel.waker());
    canceller.stop(NEVER);
    assert_eq!((stop.wakes(), cancel.wakes()), (1, 0));
    canceller.stop(NEVER);
    assert_eq!((stop.wakes(), cancel.wakes()), (1, 0));
    canceller.cancel();
    assert_eq!((stop.wakes(), cancel.wakes()), (1, 1));
}

// Causes.

/// An error to be found again by every descendant.
#[derive(Debug, PartialEq)]
struct Reason(u32);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reason {}", self.0)
    }
}

impl Error for Reason {}

#[test]
fn every_descendant_downcasts_the_error_of_the_origin() {
    let (ctx, canceller) = root();
    let before = quiet(&quiet(&ctx));
    let line = line!() + 1;
    canceller.cancel_because(Reason(7));
    let after = quiet(&ctx);
    let mut shared = Vec::new();
    for ctx in [&ctx, &before, &after] {
        let cause = ctx.cause().unwrap();
        assert_eq!(cause.kind(), CauseKind::Cancelled);
        assert_eq!(cause.error().unwrap().downcast_ref::<Reason>(), Some(&Reason(7)));
        assert_eq!(cause.source().unwrap().downcast_ref::<Reason>(), Some(&Reason(7)));
        assert_eq!((cause.place().file(), cause.place().line()), (file!(), line));
        shared.push(cause.shared_error().unwrap());
    }
    assert!(shared.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])), "one error for all");
}

#[test]
fn the_first_cause_wins() {
    let (ctx, canceller) = root();
    let (child, child_canceller) = ctx.child();
    child_canceller.cancel_because(Reason(1));
    canceller.cancel_because(Reason(2));
    child_canceller.cancel_because(Reason(3));
    let reason = |ctx: &Context| {
        let cause = ctx.cause().unwrap();
        cause.error().unwrap().downcast_ref::<Reason>().unwrap().0
    };
    assert_eq!((reason(&child), reason(&ctx)), (1, 2));
}

#[test]
fn a_cause_from_elsewhere_is_passed_on_as_it_is() {
    let (one, one_canceller) = root();
    one_canceller.cancel_because(Reason(1));
    let cause = one.cause().unwrap();
    let (two, two_canceller) = root();
    two_canceller.cancel_with(cause.clone());
    let (three, three_canceller) = root();
    three_canceller.stop_with(cause.clone(), NEVER);
    assert!(two.cause().unwrap().same(&cause) && three.cause().unwrap().same(&cause));
}

#[test]
fn causes_are_the_same_when_kind_place_and_error_are() {
    let make = || Cause::new(CauseKind::Cancelled);
    let (one, other) = (make(), Cause::new(CauseKind::Cancelled));
    assert!(one.same(&one.clone()) && one.same(&make()));
    assert!(!one.same(&other), "another place");
    assert!(!one.same(&make().with_error(Reason(1))));
    let (first, second) = (make().with_error(Reason(1)), make().with_error(Reason(1)));
    assert!(first.same(&first.clone()) && !first.same(&second), "equal, but two events");
}

#[test]
fn a_cause_says_what_happened_and_where() {
    let place = |cause: &Cause| cause.place().to_string();
    let cases = [
        (CauseKind::Cancelled, "cancelled at "),
        (CauseKind::Stopped, "stopped at "),
        (CauseKind::Deadline, "deadline passed, set at "),
        (CauseKind::Dropped, "last canceller dropped, made at "),
        (CauseKind::TimerLost, "timer lost: its runtime was shut down, deadline set at "),
    ];
    for (kind, text) in cases {
        let cause = Cause::new(kind);
        assert_eq!(cause.to_string(), format!("{text}{}", place(&cause)));
        assert_eq!(format!("{cause:?}"), format!("Cause({cause})"));
        let with_error = cause.clone().with_error(Reason(4));
        assert_eq!(with_error.to_string(), cause.to_string(), "the source is not repeated");
        assert_eq!(format!("{with_error:?}"), format!("Cause({cause}: reason 4)"));
    }
}

#[test]
fn a_context_says_its_name_place_and_state() {
    let line = line!() + 1;
    let (ctx, canceller) = Context::background().child_with().name("digest").build().unwrap();
    assert_eq!(ctx.name(), Some("digest"));
    assert_eq!((ctx.place().unwrap().file(), ctx.place().unwrap().line()), (file!(), line));
    let place = ctx.place().unwrap();
    assert_eq!(format!("{ctx:?}"), format!("Context(digest ({place}), running)"));
    assert_eq!(format!("{canceller:?}"), format!("Canceller(digest ({place}), running)"));
    canceller.stop(NEVER);
    assert!(
        format!("{ctx:?}").starts_with(&format!("Context(digest ({place}), stopping: stopped"))
    );
    canceller.cancel();
    assert!(format!("{ctx:?}").starts_with(&format!("Context(digest ({place}), stopped at")));
    assert!(quiet(&ctx).name().is_none(), "names are not inherited");
}

// Waiting.

#[test]
fn cancelled_tells_the_cause_again_when_polled_after_the_end() {
    let (ctx, canceller) = root();
    let mut future = waiting(&ctx, Waker::noop());
    canceller.cancel();
    assert!(poll(future.as_mut(), Waker::noop()).is_ready());
    assert!(poll(future.as_mut(), Waker::noop()).is_ready());
}

#[test]
fn a_waiting_future_needs_no_context() {
    let (ctx, canceller) = root();
    let future = ctx.cancelled_owned();
    drop(ctx);
    let thread = thread::spawn(move || block_on(future).kind());
    canceller.cancel();
    assert_eq!(thread.join().unwrap(), CauseKind::Cancelled);
}

#[test]
fn cancelled_blocking_waits_on_a_plain_thread() {
    watchdog(PATIENCE, "a plain thread that waits", || {
        let (ctx, canceller) = root();
        let thread = thread::spawn(move || ctx.cancelled_blocking().kind());
        canceller.cancel();
        assert_eq!(thread.join().unwrap(), CauseKind::Cancelled);
    });
}

#[test]
fn a_wait_and_a_repoll_allocate_nothing() {
    let (ctx, _canceller) = root();
    let mut future = Box::pin(ctx.cancelled());
    let cost = CountingAllocator::count(|| {
        for _ in 0..100 {
            assert!(poll(future.as_mut(), Waker::noop()).is_pending());
        }
    });
    assert_eq!(cost.allocations, 0);
}

#[test]
fn all_who_wait_are_woken_in_the_order_they_came() {
    let (ctx, canceller) = root();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut futures = Vec::new();
    for number in 0..100 {
        let order = Arc::clone(&order);
        let noting = ReentrantWaker::on_wake(move || order.lock().unwrap().push(number));
        futures.push(waiting(&ctx, &noting.waker()));
    }
    canceller.cancel();
    assert_eq!(*order.lock().unwrap(), Vec::from_iter(0..100));
}

// Run.

#[test]
fn run_does_not_poll_when_the_flag_was_set_before() {
    let (ctx, canceller) = root();
    canceller.cancel();
    let polled = Cell::new(false);
    let outcome = block_on(ctx.run(async { polled.set(true) }));
    assert_eq!(outcome.unwrap_err().kind(), CauseKind::Cancelled);
    assert!(!polled.get());
}

#[test]
fn run_returns_the_value_of_a_poll_that_began_before_the_flag_was_set() {
    let (ctx, canceller) = root();
    let mut run = pin!(ctx.run(poll_fn(|_| {
        canceller.cancel();
        Poll::Ready(5)
    })));
    let Poll::Ready(Ok(5)) = poll(run.as_mut(), Waker::noop()) else {
        panic!("the value is lost");
    };
    assert!(ctx.is_cancelled());
}

#[test]
fn run_ends_in_the_same_poll_when_the_flag_is_set_during_a_pending_one() {
    let (ctx, canceller) = root();
    let mut run = pin!(ctx.run(poll_fn(|_| {
        canceller.cancel();
        Poll::<()>::Pending
    })));
    assert!(poll(run.as_mut(), Waker::noop()).is_ready());
}

#[test]
fn run_does_not_poll_again_after_the_flag_was_set_while_pending() {
    let (ctx, canceller) = root();
    let polls = Cell::new(0);
    let mut run = pin!(ctx.run(poll_fn(|_| {
        polls.set(polls.get() + 1);
        Poll::<()>::Pending
    })));
    let counting = CountingWaker::new();
    assert!(poll(run.as_mut(), &counting.waker()).is_pending());
    canceller.cancel();
    assert_eq!(counting.wakes(), 1);
    assert!(poll(run.as_mut(), &counting.waker()).is_ready());
    assert_eq!(polls.get(), 1);
}

#[test]
fn run_is_not_ended_by_a_stop() {
    let (ctx, canceller) = root();
    let mut run = pin!(ctx.run(pending::<()>()));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    canceller.stop(NEVER);
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    canceller.cancel();
    let Poll::Ready(Err(cause)) = poll(run.as_mut(), Waker::noop()) else {
        panic!("not ended");
    };
    assert_eq!(cause.kind(), CauseKind::Stopped);
}

#[test]
fn run_drops_its_future_with_itself_and_not_earlier() {
    struct Noting<'a>(&'a Cell<bool>);
    impl Drop for Noting<'_> {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let dropped = Cell::new(false);
    let noting = Noting(&dropped);
    let (ctx, canceller) = root();
    let mut run = Box::pin(ctx.run(async move {
        let _noting = noting;
        pending::<()>().await
    }));
    assert!(poll(run.as_mut(), Waker::noop()).is_pending());
    canceller.cancel();
    assert!(poll(run.as_mut(), Waker::noop()).is_ready());
    assert!(!dropped.get());
    drop(run);
    assert!(dropped.get());
}

// No user code under a lock; all flags before any waker.

#[test]
fn all_flags_are_set_before_any_waker_runs() {
    watchdog(PATIENCE, "wakers that look at every node", || {
        let (ctx, canceller) = root();
        let mut all = vec![ctx.clone()];
        for i in 0..100 {
            all.push(quiet(&all[i / 2]));
        }
        let seen = Arc::new(AtomicUsize::new(0));
        let looking = {
            let (all, seen) = (all.clone(), Arc::clone(&seen));
            ReentrantWaker::on_wake(move || {
                assert!(all.iter().all(Context::is_cancelled), "woken before all were flagged");
                seen.fetch_add(1, Ordering::Relaxed);
            })
        };
        let waiting: Vec<_> = all.iter().map(|ctx| waiting(ctx, &looking.waker())).collect();
        canceller.cancel();
        assert_eq!(seen.load(Ordering::Relaxed), 101);
        drop(waiting);
    });
}

#[test]
fn wakers_may_cancel_stop_make_clone_drop_and_wait_on_the_same_tree() {
    watchdog(PATIENCE, "wakers that use the tree", || {
        for stop_first in [false, true] {
            let (ctx, canceller) = root();
            let (child, child_canceller) = ctx.child();
            let slot = Arc::new(Mutex::new(Some((quiet(&child), quiet(&child)))));
            let use_tree = {
                let (ctx, child, slot) = (ctx.clone(), child.clone(), Arc::clone(&slot));
                let canceller = canceller.clone();
                move || {
                    let (born, born_canceller) = child.child();
                    assert!(born.is_stopping());
                    born_canceller.stop(NEVER);
                    drop(born_canceller);
                    let late = Box::pin(born.clone().cancelled_owned());
                    drop((born, late));
                    canceller.clone().stop(NEVER);
                    canceller.cancel();
                    child_canceller.cancel_because("again");
                    assert!(ctx.is_cancelled() && child.cause().is_some());
                    assert!(ctx.nodes() > 0);
                    let taken = slot.lock().unwrap().take();
                    drop(taken);
                }
            };
            let reentrant = ReentrantWaker::on_wake_and_drop(use_tree.clone(), || ());
            let _one = waiting(&ctx, &reentrant.waker());
            let _two = waiting(&child, &reentrant.waker());
            let _three = waiting_to_stop(&child, &reentrant.waker());
            if stop_first {
                canceller.stop(NEVER);
            }
            canceller.cancel();
            assert_eq!(reentrant.wakes(), 3);
        }
    });
}

#[test]
fn wakers_are_dropped_with_no_lock_held() {
    watchdog(PATIENCE, "wakers that use the tree when dropped", || {
        let (ctx, canceller) = root();
        let dropped = Arc::new(AtomicUsize::new(0));
        let reentrant = {
            let (ctx, canceller) = (ctx.clone(), canceller.clone());
            let dropped = Arc::clone(&dropped);
            ReentrantWaker::on_drop(move || {
                let (child, child_canceller) = ctx.child();
                drop((child.clone(), child, child_canceller));
                canceller.stop(NEVER);
                drop(waiting_or_ended(&ctx));
                dropped.fetch_add(1, Ordering::Relaxed);
            })
        };
        let waker = reentrant.waker();
        // Left by a drop, by another waker, and by the wake.
        drop(waiting(&ctx, &waker));
        let mut replaced = waiting(&ctx, &waker);
        assert!(poll(replaced.as_mut(), Waker::noop()).is_pending());
        let woken = waiting(&ctx, &waker);
        canceller.cancel();
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        drop(woken);
    });
}

/// Leaves a waiter behind that borrows. Where it lies is noted: a leak checker then sees that it is meant.
fn leak_a_wait(ctx: &Context, waker: &Waker) {
    static FORGOTTEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let mut future = Box::pin(ctx.cancelled());
    assert!(poll(future.as_mut(), waker).is_pending());
    FORGOTTEN.lock().unwrap().push(std::ptr::from_ref(&*future).addr());
    std::mem::forget(future);
}

#[test]
fn a_wait_that_borrows_and_is_leaked_goes_with_its_node() {
    let (root, canceller) = root();
    let counting = CountingWaker::new();
    // Its node is cancelled with others that wait, and goes; or it goes before.
    for (woken, cancelled_first) in [(1, true), (1, false)] {
        let (inner, inner_canceller) = root.child();
        leak_a_wait(&inner, &counting.waker());
        drop(waiting(&inner, Waker::noop()));
        let beside = waiting(&inner, Waker::noop());
        if cancelled_first {
            inner_canceller.cancel();
        }
        drop(beside);
        drop((inner, inner_canceller));
        assert_eq!((counting.wakes(), root.nodes()), (woken, 1));
    }
    canceller.cancel();
    assert_eq!(counting.wakes(), 1);
}

#[test]
fn a_wait_that_borrows_and_is_leaked_goes_with_a_node_that_is_spliced_out() {
    let (root, canceller) = root();
    let counting = CountingWaker::new();
    let inner = quiet(&root);
    leak_a_wait(&inner, &counting.waker());
    let leaf = quiet(&inner);
    drop(inner);
    assert_eq!(root.nodes(), 2);
    canceller.cancel();
    assert!(leaf.is_cancelled() && counting.wakes() == 0);
}

#[test]
fn a_wait_that_borrows_and_is_leaked_is_woken_where_its_node_is_kept_for_that() {
    watchdog(PATIENCE, "a leaked wait in a queued node", || {
        let (root, canceller) = root();
        let inner = quiet(&root);
        let counting = CountingWaker::new();
        leak_a_wait(&inner, &counting.waker());
        let last = Arc::new(Mutex::new(Some(inner)));
        let drops = ReentrantWaker::on_wake({
            let last = Arc::clone(&last);
            move || drop(last.lock().unwrap().take())
        });
        // They fill the batch, so the leaked one is woken after them.
        let fill: Vec<_> = (0..32).map(|_| waiting(&root, &drops.waker())).collect();
        canceller.cancel();
        assert!(last.lock().unwrap().is_none());
        assert_eq!((counting.wakes(), root.nodes()), (1, 1));
        drop(fill);
    });
}

fn waiting_or_ended(ctx: &Context) -> Pin<Box<Cancelled<'static>>> {
    let mut future = Box::pin(ctx.cancelled_owned());
    let _ = poll(future.as_mut(), Waker::noop());
    future
}

#[test]
fn a_causes_error_is_dropped_with_no_lock_held() {
    /// Uses the tree when it is dropped.
    #[derive(Debug)]
    struct Uses(Context, Canceller, Arc<AtomicUsize>);
    impl fmt::Display for Uses {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("uses the tree")
        }
    }
    impl Error for Uses {}
    impl Drop for Uses {
        fn drop(&mut self) {
            let (child, canceller) = self.0.child();
            drop((child, canceller));
            self.1.cancel();
            assert!(self.0.nodes() > 0);
            self.2.fetch_add(1, Ordering::Relaxed);
        }
    }
    watchdog(PATIENCE, "an error that uses the tree", || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (ctx, canceller) = root();
        let (child, child_canceller) = ctx.child();
        let uses = || Uses(ctx.clone(), canceller.clone(), Arc::clone(&dropped));
        child_canceller.cancel_because(uses());
        // Not the first: dropped by the cancel that brought it.
        child_canceller.cancel_because(uses());
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        child_canceller.stop_because(uses(), NEVER);
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
        // With its node.
        drop((child, child_canceller));
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        assert!(ctx.is_cancelled());
    });
}

#[test]
fn a_panicking_waker_stops_no_other_and_its_panic_goes_on() {
    watchdog(PATIENCE, "a panicking waker", || {
        let (ctx, canceller) = root();
        let child = quiet(&ctx);
        let (panicking, counting) = (PanickingWaker::new(), CountingWaker::new());
        // A crowd of several batches, before and after the panic, in both queues of both nodes.
        let mut cancelled = Vec::new();
        let mut stopping = Vec::new();
        for node in [&ctx, &child] {
            stopping.push(waiting_to_stop(node, &panicking.waker()));
            cancelled.push(waiting(node, &panicking.waker()));
            for _ in 0..100 {
                stopping.push(waiting_to_stop(node, &counting.waker()));
                cancelled.push(waiting(node, &counting.waker()));
            }
        }
        let panic = catch_unwind(AssertUnwindSafe(|| canceller.cancel())).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a PanickingWaker was woken"));
        assert_eq!((panicking.wakes(), counting.wakes()), (4, 400));
        assert!(ctx.is_cancelled() && child.is_cancelled());
        canceller.cancel();
    });
}

#[test]
fn a_canceller_dropped_by_a_panic_survives_a_panicking_waker() {
    let (ctx, canceller) = root();
    let panicking = PanickingWaker::new();
    let counting = CountingWaker::new();
    let _first = waiting(&ctx, &panicking.waker());
    let _second = waiting(&ctx, &counting.waker());
    let outcome = catch_unwind(AssertUnwindSafe(move || {
        let _canceller = canceller;
        panic!("the first panic");
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"the first panic"));
    assert_eq!((panicking.wakes(), counting.wakes()), (1, 1));
    assert_eq!(kind(&ctx), Some(CauseKind::Dropped));
}

// Depth, and the bound of nodes.

/// A chain of contexts, each the child of the one before.
fn chain(depth: usize) -> (Canceller, Vec<Context>) {
    let (ctx, canceller) = root();
    let mut all = vec![ctx];
    while all.len() < depth {
        let child = quiet(&all[all.len() - 1]);
        all.push(child);
    }
    (canceller, all)
}

const DEPTH: usize = 1_000_000;

#[test]
fn a_deep_chain_is_cancelled_and_shown_on_a_small_stack() {
    small_stack(|| {
        let (canceller, all) = chain(DEPTH);
        assert_eq!(all[0].nodes(), DEPTH);
        let waiter = waiting(&all[DEPTH - 1], Waker::noop());
        canceller.stop(NEVER);
        assert!(all.iter().all(Context::is_stopping));
        canceller.cancel();
        assert!(all.iter().all(Context::is_cancelled));
        assert!(format!("{:?}", all[DEPTH - 1]).contains("stopped at"));
        drop(waiter);
    });
}

#[test]
fn a_deep_chain_is_dropped_from_the_root_on_a_small_stack() {
    small_stack(|| {
        let (canceller, mut all) = chain(DEPTH);
        canceller.detach();
        let root = all.remove(0);
        let leaf = all.pop().unwrap();
        all.into_iter().for_each(drop);
        assert_eq!(root.nodes(), 2);
        drop((root, leaf));
    });
}

#[test]
fn a_deep_chain_is_dropped_from_the_leaf_on_a_small_stack() {
    small_stack(|| {
        let (canceller, mut all) = chain(DEPTH);
        canceller.detach();
        let root = all[0].clone();
        while all.pop().is_some() {}
        assert_eq!(root.nodes(), 1);
    });
}

#[test]
fn a_million_turns_of_child_and_dropped_parent_hold_three_nodes() {
    let (root, _canceller) = root();
    let (mut ctx, mut most) = (quiet(&root), 0);
    for _ in 0..1_000_000 {
        ctx = quiet(&ctx);
        most = most.max(root.nodes());
    }
    assert!(most <= 3, "{most} nodes");
    assert!(!ctx.is_cancelled());
}

#[test]
fn a_million_turns_hold_three_nodes_also_where_the_root_goes() {
    let (ctx, canceller) = root();
    canceller.detach();
    let mut ctx = ctx;
    let cost = CountingAllocator::count(|| {
        for turn in 1..=1_000_000 {
            ctx = quiet(&ctx);
            assert!(turn > 2 || !ctx.is_cancelled());
        }
    });
    assert_eq!(cost.allocations, 1_000_000);
    assert_eq!(cost.frees, 1_000_000, "one is there, as in the beginning");
}

#[test]
fn nodes_are_at_most_twice_the_live_ones_whatever_is_dropped() {
    // xorshift: any seed but zero.
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut roll = |sides: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % sides as u64) as usize
    };
    for _ in 0..20 {
        let (root, canceller) = root();
        canceller.detach();
        let mut live = vec![root.clone()];
        let mut growing = true;
        for _ in 0..4_000 {
            if live.len() > 300 {
                growing = false;
            }
            if live.len() < 2 {
                growing = true;
            }
            let at = roll(live.len());
            if roll(3) < if growing { 2 } else { 1 } {
                let child = quiet(&live[at]);
                live.push(child);
            } else if live.len() > 1 {
                drop(live.swap_remove(at));
            }
            // The first is dropped sooner or later; then the root is one more.
            let (nodes, most) = (root.nodes(), live.len() + 1);
            assert!(nodes < 2 * most, "{nodes} nodes for {most} live");
            assert!(nodes >= live.len());
        }
    }
}

/// Cancels when it is dropped.
#[derive(Debug)]
struct CancelsInDrop(Mutex<Option<Canceller>>);

impl fmt::Display for CancelsInDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancels when it is dropped")
    }
}

impl Error for CancelsInDrop {}

impl Drop for CancelsInDrop {
    fn drop(&mut self) {
        let canceller = self.0.get_mut().unwrap().take();
        canceller.unwrap().cancel();
    }
}

#[test]
fn a_relay_that_is_about_to_go_is_cancelled_by_what_goes_before_it() {
    let (root, canceller) = root();
    let (parent, parent_canceller) = root.child();
    parent_canceller.detach();
    let ((one, one_canceller), (two, two_canceller)) = (parent.child(), parent.child());
    two_canceller.detach();
    // Somebody has waited on it, so that a walk puts it into its list.
    drop(waiting(&parent, Waker::noop()));
    one_canceller.cancel_because(CancelsInDrop(Mutex::new(Some(canceller))));
    drop((parent, one_canceller));
    // Takes the last but one child of the relay out, and then frees it, with its cause.
    drop(one);
    assert!(two.is_cancelled());
    drop(two);
    assert_eq!(root.nodes(), 1, "a relay is left behind");
}

#[test]
fn a_waker_and_an_error_that_both_panic_do_not_abort() {
    #[derive(Debug)]
    struct PanicsInDrop;
    impl fmt::Display for PanicsInDrop {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("panics when it is dropped")
        }
    }
    impl Error for PanicsInDrop {}
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("the error panics");
        }
    }
    let (ctx, canceller) = root();
    let panicking = PanickingWaker::new();
    let _waiter = waiting(&ctx, &panicking.waker());
    // The stop's cause stays, so the cancel's error is nobody's.
    canceller.stop(NEVER);
    let outcome = catch_unwind(AssertUnwindSafe(|| canceller.cancel_because(PanicsInDrop)));
    assert!(outcome.is_err() && panicking.wakes() == 1);
}

// Memory.

#[test]
fn a_child_costs_a_few_allocations_and_all_come_back() {
    let (ctx, canceller) = root();
    canceller.detach();
    drop(quiet(&ctx));
    let cost = CountingAllocator::count(|| {
        let (child, child_canceller) = ctx.child();
        let waiter = waiting(&child, Waker::noop());
        child_canceller.cancel_because(Reason(1));
        drop((child, child_canceller, waiter));
    });
    assert_eq!(cost.allocations, cost.frees, "{cost}");
    assert_eq!(cost.bytes_allocated, cost.bytes_freed, "{cost}");
}

#[test]
fn a_whole_tree_frees_everything() {
    let cost = CountingAllocator::count(|| {
        let (ctx, canceller) = root();
        let mut all = vec![ctx];
        let mut waiters = Vec::new();
        for i in 0..100 {
            let child = quiet(&all[i / 3]);
            waiters.push(waiting(&child, Waker::noop()));
            all.push(child);
        }
        canceller.stop_because(Reason(1), NEVER);
        drop(all.split_off(50));
        canceller.cancel();
        drop((canceller, waiters, all));
    });
    assert_eq!(cost.bytes_allocated, cost.bytes_freed, "{cost}");
}

// What a cancel waits for, and what it does not.

/// An error whose destructor tells that it has begun, and waits until it may go on.
#[derive(Debug)]
struct Slow(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>);

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("slow")
    }
}

impl Error for Slow {}

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
        self.1.lock().unwrap().recv().unwrap();
    }
}

#[test]
fn a_cancel_does_not_wait_for_the_wakers_of_another_one_and_flags_all_the_same() {
    watchdog(PATIENCE, "a cancel beside a waker that blocks", || {
        for stop in [false, true] {
            let (ctx, canceller) = root();
            let (inner, inner_canceller) = ctx.child();
            let leaf = quiet(&inner);
            let (tell, told) = mpsc::channel();
            let (go_on, may_go_on) = mpsc::channel();
            let may_go_on = Mutex::new(may_go_on);
            let blocks = ReentrantWaker::on_wake(move || {
                tell.send(()).unwrap();
                may_go_on.lock().unwrap().recv().unwrap();
            });
            let _waiting = waiting_to_stop(&inner, &blocks.waker());
            let late = CountingWaker::new();
            let _late = waiting(&leaf, &late.waker());
            let first = canceller.clone();
            let first = thread::spawn(move || match stop {
                true => first.stop(NEVER),
                false => first.cancel(),
            });
            told.recv().unwrap();
            canceller.cancel();
            inner_canceller.cancel();
            assert!(ctx.is_cancelled() && inner.is_cancelled() && leaf.is_cancelled());
            go_on.send(()).unwrap();
            first.join().unwrap();
            assert_eq!(late.wakes(), 1, "by now at the latest");
        }
    });
}

#[test]
fn a_cancel_does_not_wait_for_the_destructor_of_a_cause() {
    watchdog(PATIENCE, "a cancel beside a destructor that blocks", || {
        let (ctx, canceller) = root();
        let (child, child_canceller) = ctx.child();
        let sibling = quiet(&ctx);
        let (tell, told) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        child_canceller.cancel_because(Slow(tell, Mutex::new(may_go_on)));
        let drops = thread::spawn(move || drop((child, child_canceller)));
        told.recv().unwrap();
        canceller.cancel();
        assert!(sibling.is_cancelled());
        go_on.send(()).unwrap();
        drops.join().unwrap();
        assert_eq!(ctx.nodes(), 2);
    });
}

#[test]
fn a_cancel_allocates_nothing_also_where_there_were_causes_before() {
    let (ctx, canceller) = root();
    let children: Vec<_> = (0..1_000).map(|_| ctx.child()).collect();
    let grandchildren: Vec<_> = children.iter().map(|(child, _)| child.child()).collect();
    children.iter().for_each(|(_, canceller)| canceller.stop(NEVER));
    let cost = CountingAllocator::count(|| canceller.cancel());
    assert_eq!(cost.allocations, 0, "{cost}");
    assert!(grandchildren.iter().all(|(ctx, _)| ctx.is_cancelled()));
}

/// The first who is woken of a batch takes away one who is not woken yet, from wherever in the list.
#[test]
fn who_leaves_between_two_batches_of_wakes_is_not_missed_by_the_others() {
    struct Drops(Mutex<Option<Pin<Box<Cancelled<'static>>>>>);
    impl std::task::Wake for Drops {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }

    for below in [false, true] {
        for left in 1..=4 {
            for leaves in 0..left {
                let (ctx, canceller) = root();
                let (parent, _keep) = ctx.child();
                let parent = if below { parent } else { ctx.clone() };
                let drops = Arc::new(Drops(Mutex::new(None)));
                let _first = waiting(&parent, &Waker::from(Arc::clone(&drops)));
                let wakers: Vec<_> = (0..31 + left).map(|_| CountingWaker::new()).collect();
                let mut others: Vec<_> =
                    wakers.iter().map(|counting| waiting(&parent, &counting.waker())).collect();
                *drops.0.lock().unwrap() = Some(others.remove(31 + leaves));
                canceller.cancel();
                let woken: usize = wakers.iter().map(CountingWaker::wakes).sum();
                assert_eq!(woken, 31 + left - 1, "{left} left, of which {leaves} leaves");
                assert!(
                    others.iter_mut().all(|wait| poll(wait.as_mut(), Waker::noop()).is_ready())
                );
            }
        }
    }
}

#[test]
fn a_waiter_that_is_forgotten_is_woken_like_others_and_nobody_minds() {
    let (ctx, canceller) = root();
    let counting = CountingWaker::new();
    // Where it stands it stays, as pinning promises. (It is dropped in the end, for the sanitizer.)
    let forgotten = ManuallyDrop::new(waiting(&ctx, &counting.waker()));
    let after = CountingWaker::new();
    let _after = waiting(&ctx, &after.waker());
    canceller.cancel();
    assert_eq!((counting.wakes(), after.wakes()), (1, 1));
    drop(ManuallyDrop::into_inner(forgotten));
}

/// Whatever makes or ends a context says where it was called, and not a place of ours.
#[test]
fn places_are_those_of_the_callers() {
    fn is_here(place: &std::panic::Location<'_>, line: u32) {
        assert_eq!((place.file(), place.line()), (file!(), line));
    }
    let made = |(ctx, canceller): (Context, Canceller), line| {
        is_here(ctx.place().unwrap(), line);
        drop(canceller);
        let cause = ctx.cause().unwrap();
        assert_eq!(cause.kind(), CauseKind::Dropped);
        is_here(cause.place(), line);
    };
    let (root, _keep) = root();
    let soon = std::time::Instant::now() + PATIENCE;
    made(root.child(), line!());
    made(root.child_with().name("named").build().unwrap(), line!());
    made(root.with_timeout(PATIENCE).unwrap(), line!());
    made(root.with_deadline(soon).unwrap(), line!());
    made(Context::any_of([&root]), line!());
    made(Context::all_of([&root]), line!());

    let ended = |end: &dyn Fn(&Canceller) -> u32| {
        let (ctx, canceller) = root.child();
        let line = end(&canceller);
        is_here(ctx.cause().unwrap().place(), line);
    };
    ended(&|canceller| {
        canceller.cancel();
        line!() - 1
    });
    ended(&|canceller| {
        canceller.cancel_because("enough");
        line!() - 1
    });
    ended(&|canceller| {
        canceller.stop(NEVER);
        line!() - 1
    });
    ended(&|canceller| {
        canceller.stop_because("enough", NEVER);
        line!() - 1
    });
    ended(&|canceller| {
        drop(canceller.cancel_and_wait(Duration::ZERO));
        line!() - 1
    });
    ended(&|canceller| {
        canceller.cancel_with(Cause::new(CauseKind::Cancelled));
        line!() - 1
    });
}
