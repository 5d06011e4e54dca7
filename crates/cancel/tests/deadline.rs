//! Deadlines and graces: on a manual clock, on tokio's paused clock, on the timer thread; and what
//! happens without a driver.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_cancel::{
    Canceller, CauseKind, Context, DeadlineError, ManualClock, Timer, TimerError,
};
use selvedge_testkit::{
    CountingAllocator, CountingWaker, PanickingWaker, ReentrantWaker, block_on, watchdog,
};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);

/// A root due after `timeout` of a manual clock.
#[track_caller]
fn manual(timeout: Duration) -> (Context, Canceller, ManualClock) {
    let (timer, clock) = Timer::manual();
    let made = Context::background().child_with().timeout(timeout).timer(timer).build();
    let (ctx, canceller) = made.unwrap();
    (ctx, canceller, clock)
}

fn quiet(made: (Context, Canceller)) -> Context {
    made.1.detach();
    made.0
}

fn kind(ctx: &Context) -> Option<CauseKind> {
    ctx.cause().map(|cause| cause.kind())
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Polls once.
fn start<T: 'static>(future: impl Future<Output = T> + Send + 'static, waker: &Waker) -> Boxed<T> {
    let mut future: Boxed<T> = Box::pin(future);
    assert!(poll(&mut future, waker).is_pending());
    future
}

fn poll<T>(future: &mut Boxed<T>, waker: &Waker) -> Poll<T> {
    future.as_mut().poll(&mut TaskContext::from_waker(waker))
}

// Manual: what a deadline does.

#[test]
fn a_deadline_cancels_all_below_with_its_kind_and_place() {
    let line = line!() + 1;
    let (ctx, _canceller, clock) = manual(SECOND);
    let (before, other) = (quiet(ctx.child()), Context::background().child());
    let counting = CountingWaker::new();
    let mut waiter = start(before.cancelled_owned(), &counting.waker());
    clock.advance(SECOND - Duration::from_nanos(1));
    assert!(!ctx.is_cancelled() && counting.wakes() == 0);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(counting.wakes(), 1);
    let Poll::Ready(cause) = poll(&mut waiter, Waker::noop()) else { panic!("still pending") };
    assert_eq!(cause.kind(), CauseKind::Deadline);
    assert_eq!(cause.place().file(), file!());
    assert_eq!(cause.place().line(), line);
    for ctx in [&ctx, &before, &quiet(ctx.child())] {
        assert!(ctx.is_cancelled() && ctx.is_stopping());
        assert!(ctx.cause().unwrap().same(&cause));
    }
    assert!(!other.0.is_cancelled());
}

#[test]
fn the_earliest_deadline_in_the_chain_holds() {
    let (ctx, _canceller, clock) = manual(10 * SECOND);
    let start = ctx.timer().unwrap().now();
    let later = quiet(ctx.with_timeout(20 * SECOND).unwrap());
    let earlier = quiet(later.with_timeout(5 * SECOND).unwrap());
    let below = quiet(earlier.with_deadline(start + 7 * SECOND).unwrap());
    let deadlines = [&ctx, &later, &earlier, &below].map(|ctx| ctx.deadline().unwrap() - start);
    assert_eq!(deadlines, [10, 10, 5, 5].map(|seconds| seconds * SECOND));
    assert_eq!(below.remaining(), Some(5 * SECOND));
    clock.advance(5 * SECOND);
    assert!(below.is_cancelled() && earlier.is_cancelled());
    assert!(!later.is_cancelled() && !ctx.is_cancelled());
    assert_eq!(below.remaining(), Some(Duration::ZERO));
    clock.advance(HOUR);
    assert_eq!(below.remaining(), Some(Duration::ZERO), "past, and not below zero");
    assert!(later.is_cancelled() && ctx.is_cancelled());
}

#[test]
fn a_deadline_registers_once_at_the_first_waiter() {
    let (ctx, _canceller, clock) = manual(SECOND);
    let child = quiet(ctx.child());
    assert!(!child.is_cancelled());
    assert_eq!(clock.registered(), 0, "nobody waits");
    let one = start(child.cancelled_owned(), Waker::noop());
    assert_eq!(clock.registered(), 1);
    let two = start(ctx.stopping_owned(), Waker::noop());
    let three = start(child.run(std::future::pending::<()>()), Waker::noop());
    assert_eq!(clock.registered(), 1);
    drop((one, two, three));
    assert_eq!(clock.registered(), 1, "kept for the next");
}

/// `run` borrows nothing of the context, so it can outlive it.
#[test]
fn a_running_future_keeps_its_deadline() {
    let (ctx, canceller, clock) = manual(SECOND);
    canceller.detach();
    let mut running = start(ctx.run(std::future::pending::<()>()), Waker::noop());
    drop(ctx);
    clock.advance(SECOND);
    let Poll::Ready(Err(cause)) = poll(&mut running, Waker::noop()) else { panic!("pending") };
    assert_eq!(cause.kind(), CauseKind::Deadline);
}

#[test]
fn a_child_due_later_registers_no_timer() {
    let (ctx, _canceller, clock) = manual(SECOND);
    let children: Vec<_> = (0..100_000).map(|_| quiet(ctx.with_timeout(HOUR).unwrap())).collect();
    let _waiters: Vec<_> =
        children.iter().map(|child| start(child.cancelled_owned(), Waker::noop())).collect();
    assert_eq!(clock.registered(), 1, "they share the parent's");
}

#[test]
fn a_deadline_is_revoked_when_its_nodes_end_or_go() {
    let (ctx, _canceller, clock) = manual(HOUR);
    let (child, child_canceller) = ctx.with_timeout(SECOND).unwrap();
    let waiter = start(child.cancelled_owned(), Waker::noop());
    assert_eq!(clock.registered(), 1, "the child's");
    child_canceller.cancel();
    assert_eq!(clock.registered(), 0, "cancelled");
    drop(waiter);

    let (child, child_canceller) = ctx.with_timeout(SECOND).unwrap();
    child_canceller.detach();
    let waiter = start(child.cancelled_owned(), Waker::noop());
    assert_eq!(clock.registered(), 1);
    drop(child);
    assert_eq!(clock.registered(), 1, "the waiter keeps it");
    drop(waiter);
    assert_eq!(clock.registered(), 0, "gone");
}

#[test]
fn a_deadline_is_handed_on_to_the_child_that_takes_a_dropped_nodes_place() {
    let (root, _canceller) = Context::background().child();
    let (timer, clock) = Timer::manual();
    let made = root.child_with().timeout(SECOND).timer(timer).build();
    let ctx = quiet(made.unwrap());
    let (left, right) = (quiet(ctx.child()), quiet(ctx.child()));
    let counting = CountingWaker::new();
    let _waiter = start(right.cancelled_owned(), &counting.waker());
    drop(ctx);
    drop(left);
    assert_eq!((root.nodes(), clock.registered()), (2, 1));
    clock.advance(SECOND);
    assert_eq!(counting.wakes(), 1);
    assert_eq!(kind(&right), Some(CauseKind::Deadline));
    assert!(!root.is_cancelled());
}

#[test]
fn a_loop_that_makes_earlier_children_and_drops_parents_holds_three_nodes_and_one_timer() {
    let (root, _canceller) = Context::background().child();
    let (timer, clock) = Timer::manual();
    let mut ctx = quiet(root.child_with().timeout(HOUR).timer(timer).build().unwrap());
    let mut most = 0;
    for turn in 1..=1_000_000 {
        let child = quiet(ctx.with_timeout(HOUR - turn * Duration::from_micros(1)).unwrap());
        if turn % 100 == 0 {
            let _waiter = start(child.cancelled_owned(), Waker::noop());
            assert_eq!(clock.registered(), 1);
        }
        ctx = child;
        most = most.max(root.nodes());
    }
    assert!(most <= 3, "{most} nodes");
}

// Manual: a loop that only polls.

#[test]
fn a_polling_loop_sees_its_deadline_without_a_timer_and_wakes_nobody() {
    let (ctx, _canceller, clock) = manual(SECOND);
    let child = quiet(ctx.child());
    let counting = CountingWaker::new();
    let _above = start(ctx.cancelled_owned(), &counting.waker());
    let mut here = start(child.cancelled_owned(), &counting.waker());
    clock.advance_silently(SECOND);
    assert!(child.is_cancelled() && child.check().is_err());
    assert_eq!(kind(&child), Some(CauseKind::Deadline));
    assert_eq!(counting.wakes(), 0, "a look wakes nobody");
    assert!(poll(&mut here, &counting.waker()).is_ready(), "a wait that is polled is a look");
    assert_eq!(clock.registered(), 1, "the timer is still to come");
    clock.advance(Duration::ZERO);
    assert_eq!(counting.wakes(), 2, "the timer's walk followed");
    assert!(ctx.is_cancelled());
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_recorded_deadline_is_walked_by_the_next_cancel() {
    let (ctx, canceller, clock) = manual(SECOND);
    let child = quiet(ctx.child());
    let counting = CountingWaker::new();
    let _waiter = start(child.cancelled_owned(), &counting.waker());
    clock.advance_silently(SECOND);
    assert!(ctx.is_cancelled());
    canceller.cancel();
    assert_eq!(counting.wakes(), 1);
    assert_eq!((kind(&ctx), kind(&child)), (Some(CauseKind::Deadline), Some(CauseKind::Deadline)));
}

#[test]
fn a_past_deadline_wins_the_cause_over_a_later_cancel_and_a_later_stop() {
    for stop in [false, true] {
        let (ctx, canceller, clock) = manual(SECOND);
        let child = quiet(ctx.child());
        let counting = CountingWaker::new();
        let _waiter = start(child.cancelled_owned(), &counting.waker());
        clock.advance_silently(2 * SECOND);
        match stop {
            true => canceller.stop(HOUR),
            false => canceller.cancel_because("late"),
        }
        assert!(ctx.is_cancelled() && child.is_cancelled());
        assert_eq!(kind(&ctx), Some(CauseKind::Deadline));
        assert!(child.cause().unwrap().same(&ctx.cause().unwrap()));
        assert_eq!(counting.wakes(), 1, "and the walk ends what is past");
        clock.advance(Duration::ZERO);
        assert_eq!(clock.registered(), 0);
    }
}

#[test]
fn a_cancel_before_the_deadline_wins_the_cause() {
    let (ctx, canceller, clock) = manual(SECOND);
    canceller.cancel();
    clock.advance(2 * SECOND);
    assert_eq!(kind(&ctx), Some(CauseKind::Cancelled));
}

#[test]
fn a_child_of_a_parent_that_is_due_and_unnoticed_is_born_cancelled() {
    let (ctx, _canceller, clock) = manual(SECOND);
    clock.advance_silently(SECOND);
    let child = quiet(ctx.child());
    assert_eq!(kind(&child), Some(CauseKind::Deadline));
    let mut waiter: Boxed<_> = Box::pin(child.cancelled_owned());
    assert!(poll(&mut waiter, Waker::noop()).is_ready());
}

#[test]
fn a_waiter_that_comes_after_the_deadline_is_ready_at_once() {
    let (ctx, _canceller, clock) = manual(SECOND);
    clock.advance_silently(SECOND);
    assert_eq!(block_on(ctx.cancelled()).kind(), CauseKind::Deadline);
    assert_eq!(block_on(ctx.stopping()).kind(), CauseKind::Deadline);
}

// Manual: graces.

#[test]
fn a_grace_cancels_when_it_is_over_with_the_stops_cause() {
    let (ctx, canceller, clock) = manual(HOUR);
    let deadline = ctx.deadline();
    let child = quiet(ctx.child());
    let counting = CountingWaker::new();
    let _waiter = start(child.cancelled_owned(), &counting.waker());
    canceller.stop_because("please finish", SECOND);
    let stop = ctx.cause().unwrap();
    assert_eq!(ctx.deadline(), deadline, "the end of a grace does not show");
    assert_eq!(ctx.remaining(), Some(HOUR));
    let born = quiet(ctx.child());
    assert!(!born.is_cancelled());
    clock.advance(SECOND);
    for ctx in [&ctx, &child, &born] {
        assert!(ctx.is_cancelled());
        assert!(ctx.cause().unwrap().same(&stop), "{:?}", ctx.cause());
    }
    assert_eq!(counting.wakes(), 1);
    assert_eq!(clock.registered(), 0);
}

#[test]
fn of_two_stops_the_earlier_end_holds() {
    for graces in [[2, 5], [5, 2]] {
        let (ctx, canceller, clock) = manual(HOUR);
        let child = quiet(ctx.child());
        for grace in graces {
            canceller.stop(grace * SECOND);
        }
        assert_eq!(clock.registered(), 1, "the later end is not kept");
        clock.advance(2 * SECOND - MS);
        assert!(!ctx.is_cancelled() && !child.is_cancelled());
        clock.advance(MS);
        assert!(ctx.is_cancelled() && child.is_cancelled());
    }
}

#[test]
fn of_two_stops_above_and_below_the_earlier_end_holds_for_each() {
    for [above, below] in [[2, 5], [5, 2]] {
        for above_first in [true, false] {
            let (ctx, canceller, clock) = manual(HOUR);
            let (child, child_canceller) = ctx.child();
            let stop_above = || canceller.stop(above * SECOND);
            let stop_below = || child_canceller.stop(below * SECOND);
            if above_first {
                stop_above();
                stop_below();
            } else {
                stop_below();
                stop_above();
            }
            clock.advance(2 * SECOND);
            assert!(child.is_cancelled());
            assert_eq!(ctx.is_cancelled(), above == 2);
            clock.advance(3 * SECOND);
            assert!(ctx.is_cancelled());
            assert_eq!(clock.registered(), 0);
        }
    }
}

#[test]
fn a_deadline_before_the_end_of_a_grace_ends_it_and_keeps_the_stops_cause() {
    let (ctx, canceller, clock) = manual(SECOND);
    canceller.stop(HOUR);
    clock.advance_silently(SECOND);
    assert!(ctx.is_cancelled());
    assert_eq!(kind(&ctx), Some(CauseKind::Stopped));
}

#[test]
fn a_polling_loop_sees_the_end_of_a_grace() {
    let (ctx, canceller, clock) = manual(HOUR);
    canceller.stop(SECOND);
    clock.advance_silently(SECOND);
    assert!(ctx.is_cancelled());
    assert_eq!(kind(&ctx), Some(CauseKind::Stopped));
}

#[test]
fn a_stop_after_a_look_at_a_past_grace_loses_no_waiter_below() {
    let (ctx, canceller, clock) = manual(HOUR);
    let child = quiet(ctx.child());
    let counting = CountingWaker::new();
    let _waiter = start(child.cancelled_owned(), &counting.waker());
    canceller.stop(SECOND);
    clock.advance_silently(SECOND);
    assert!(ctx.is_cancelled(), "recorded on this node, the timer is late");
    canceller.stop(HOUR);
    clock.advance(Duration::ZERO);
    assert_eq!(counting.wakes(), 1, "the waiter below sleeps on");
}

#[test]
fn a_stop_ends_what_a_past_grace_has_ended() {
    let (ctx, canceller, clock) = manual(HOUR);
    let child = quiet(ctx.child());
    let counting = CountingWaker::new();
    let _waiter = start(child.cancelled_owned(), &counting.waker());
    canceller.stop(SECOND);
    clock.advance_silently(SECOND);
    canceller.stop(HOUR);
    assert_eq!(counting.wakes(), 1);
    clock.advance(Duration::ZERO);
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_panic_at_a_grace_that_ends_at_once_leaves_nothing_registered() {
    // A runtime that is known to be gone: registering there is refused, and the stop cancels at once.
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let handle = runtime.handle().clone();
    let lost = runtime.block_on(async { quiet(Context::background().with_timeout(HOUR).unwrap()) });
    drop(runtime);
    assert_eq!(lost.cancelled_blocking().kind(), CauseKind::TimerLost);

    let (root, canceller) = Context::background().child();
    let (timer, clock) = Timer::manual();
    let made = root.child_with().timeout(HOUR).timer(timer).build();
    let (child, child_canceller) = made.unwrap();
    child_canceller.stop(HOUR);
    assert_eq!(clock.registered(), 1, "the grace below, on another timer");
    let (panicking, counting) = (PanickingWaker::new(), CountingWaker::new());
    let _first = start(root.cancelled_owned(), &panicking.waker());
    let _second = start(child.cancelled_owned(), &counting.waker());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _inside = handle.enter();
        canceller.stop(SECOND);
    }));
    assert!(outcome.is_err(), "the waker's panic goes on");
    assert_eq!((panicking.wakes(), counting.wakes()), (1, 1));
    assert!(child.is_cancelled());
    assert_eq!(clock.registered(), 0, "the deadline and the grace below");
}

// Manual: a driver that goes away, bad input.

#[test]
fn a_lost_driver_cancels_with_timer_lost() {
    let (ctx, _canceller, clock) = manual(SECOND);
    let child = quiet(ctx.child());
    let counting = CountingWaker::new();
    let _waiter = start(child.cancelled_owned(), &counting.waker());
    clock.lose();
    assert_eq!(counting.wakes(), 1);
    assert_eq!(
        (kind(&ctx), kind(&child)),
        (Some(CauseKind::TimerLost), Some(CauseKind::TimerLost))
    );
    assert!(ctx.cause().unwrap().to_string().contains("timer lost"));
}

#[test]
fn a_driver_lost_before_the_first_waiter_cancels_it_at_once() {
    let (ctx, _canceller, clock) = manual(SECOND);
    clock.lose();
    assert!(!ctx.is_cancelled(), "nobody asked for the timer yet, and the clock still runs");
    assert_eq!(block_on(ctx.cancelled()).kind(), CauseKind::TimerLost);
}

#[test]
fn a_grace_on_a_lost_driver_cancels_at_once_with_the_stops_cause() {
    let (ctx, canceller, clock) = manual(HOUR);
    let child = quiet(ctx.child());
    clock.lose();
    canceller.stop(SECOND);
    assert!(ctx.is_cancelled() && child.is_cancelled());
    assert_eq!(kind(&child), Some(CauseKind::Stopped));
}

#[test]
fn a_timeout_of_zero_or_in_the_past_is_cancelled_already() {
    let now = Instant::now();
    let cases = [
        Context::background().with_timeout(Duration::ZERO),
        Context::background().with_deadline(now),
        Context::background().with_deadline(now.checked_sub(SECOND).unwrap_or(now)),
    ];
    for made in cases {
        let (ctx, canceller) = made.unwrap();
        assert!(ctx.is_cancelled());
        assert_eq!(kind(&ctx), Some(CauseKind::Deadline));
        assert_eq!(ctx.remaining(), Some(Duration::ZERO));
        canceller.cancel();
        assert_eq!(kind(&ctx), Some(CauseKind::Deadline));
        assert!(quiet(ctx.child()).is_cancelled());
        assert_eq!(block_on(ctx.cancelled()).kind(), CauseKind::Deadline);
    }
}

#[test]
fn a_timeout_too_long_for_the_clock_never_ends() {
    let (ctx, canceller) = Context::background().with_timeout(Duration::MAX).unwrap();
    assert!(ctx.deadline().is_none() && ctx.remaining().is_none());
    assert!(!ctx.is_cancelled());
    canceller.stop(Duration::MAX);
    canceller.stop(Duration::MAX - Duration::from_nanos(1));
    assert!(ctx.is_stopping() && !ctx.is_cancelled());
    let (long, _canceller) = ctx.with_timeout(Duration::MAX - SECOND).unwrap();
    assert!(long.deadline().is_none());

    let (ctx, _canceller, clock) = manual(SECOND);
    let (child, _canceller) = ctx.with_timeout(Duration::MAX).unwrap();
    assert_eq!(child.deadline(), ctx.deadline(), "the parent's still holds");
    clock.advance(SECOND);
    assert!(child.is_cancelled());
}

#[test]
fn another_timer_in_a_chain_is_a_typed_error() {
    let (ctx, canceller, _clock) = manual(HOUR);
    let (other, _other_clock) = Timer::manual();
    let with = |timer: Timer| ctx.child_with().timeout(SECOND).timer(timer).build();
    assert_eq!(with(other.clone()).unwrap_err(), DeadlineError::OtherTimer);
    assert_eq!(with(Timer::thread()).unwrap_err(), DeadlineError::OtherTimer);
    assert!(with(ctx.timer().unwrap()).is_ok(), "the same one may be named");
    let below = quiet(ctx.child());
    let refused = below.child_with().timeout(SECOND).timer(other.clone()).build();
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("leave `timer` out"), "it says what would be right: {text}");
    // A grace's timer counts as well.
    let (root, root_canceller) = Context::background().child();
    root_canceller.stop(HOUR);
    let refused = root.child_with().timeout(SECOND).timer(other).build();
    assert_eq!(refused.unwrap_err(), DeadlineError::OtherTimer);
    drop(canceller);
}

#[test]
fn a_runtime_without_its_time_driver_is_a_typed_error_and_a_grace_there_ends_at_once() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (ctx, canceller) = Context::background().child();
        let disabled = DeadlineError::Timer(TimerError::Disabled);
        assert_eq!(ctx.with_timeout(SECOND).unwrap_err(), disabled);
        assert_eq!(ctx.with_deadline(Instant::now()).unwrap_err(), disabled);
        let source = std::error::Error::source(&disabled).unwrap().to_string();
        assert!(source.contains("enable_time"), "it says what would be right: {source}");
        assert!(ctx.child_with().name("no deadline").build().is_ok());
        let named = ctx.child_with().timeout(HOUR).timer(Timer::thread()).build();
        assert!(named.is_ok(), "a timer that is named needs no ambient one");

        let shielded = ctx.shield(SECOND, |_| std::future::ready(()));
        assert_eq!(shielded.map(drop).unwrap_err(), disabled);

        canceller.stop(HOUR);
        assert!(ctx.is_cancelled());
        assert_eq!(kind(&ctx), Some(CauseKind::Stopped));
    });
}

#[test]
fn a_runtime_without_its_time_driver_has_patience_all_the_same() {
    watchdog(PATIENCE, "a wait for who stays inside", || {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (ctx, canceller) = Context::background().child();
            let _inside = ctx.enter().unwrap();
            assert_eq!(canceller.cancel_and_wait(20 * MS).await.len(), 1);
        });
    });
}

#[test]
fn a_runtime_without_its_time_driver_keeps_graces_that_need_no_timer() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (ctx, canceller) = Context::background().child();
        canceller.stop(Duration::MAX);
        assert!(ctx.is_stopping() && !ctx.is_cancelled());
        canceller.stop(Duration::ZERO);
        assert!(ctx.is_cancelled());
    });
}

// The timer thread; real time, with ten times the slack.

#[test]
fn the_timer_thread_keeps_deadlines_outside_a_runtime() {
    watchdog(PATIENCE, "a deadline on the timer thread", || {
        let begin = Instant::now();
        let (ctx, _canceller) = Context::background().with_timeout(50 * MS).unwrap();
        assert!(ctx.timer().unwrap().same_driver(&Timer::thread()));
        assert_eq!(ctx.cancelled_blocking().kind(), CauseKind::Deadline);
        assert!(begin.elapsed() >= 50 * MS, "early");
    });
}

#[test]
fn the_timer_thread_ends_a_grace() {
    watchdog(PATIENCE, "a grace on the timer thread", || {
        let (ctx, canceller) = Context::background().child();
        let child = quiet(ctx.child());
        canceller.stop(20 * MS);
        assert_eq!(child.cancelled_blocking().kind(), CauseKind::Stopped);
    });
}

#[test]
fn a_short_grace_beside_threads_that_look_loses_no_waiter() {
    // A reader that records the end of a grace while the walk that brings it is still under way must
    // not keep it from being timed.
    watchdog(PATIENCE, "a grace that is over before its walk", || {
        for _ in 0..20 {
            let (ctx, canceller) = Context::background().child();
            let all: Vec<_> = (0..2_000).map(|_| quiet(ctx.child())).collect();
            let looker = thread::spawn({
                let ctx = ctx.clone();
                move || while !ctx.is_cancelled() {}
            });
            canceller.stop(Duration::from_nanos(1));
            assert_eq!(all[0].cancelled_blocking().kind(), CauseKind::Stopped);
            let waiter = thread::spawn({
                let last = all[1_999].clone();
                move || last.cancelled_blocking()
            });
            waiter.join().unwrap();
            looker.join().unwrap();
        }
    });
}

#[test]
fn many_deadlines_end_in_time() {
    watchdog(PATIENCE, "a thousand deadlines", || {
        let (root, _canceller) = Context::background().child();
        let contexts: Vec<_> =
            (0..1000_u32).map(|i| quiet(root.with_timeout((i * 37 % 100) * MS).unwrap())).collect();
        for ctx in &contexts {
            assert_eq!(ctx.cancelled_blocking().kind(), CauseKind::Deadline);
        }
        assert!(!root.is_cancelled());
    });
}

// Tokio's paused clock.

#[tokio::test(start_paused = true)]
async fn tokio_keeps_deadlines_exactly() {
    let begin = tokio::time::Instant::now();
    let (ctx, _canceller) = Context::background().with_timeout(10 * SECOND).unwrap();
    let child = quiet(ctx.with_timeout(3 * SECOND).unwrap());
    assert_eq!(child.cancelled().await.kind(), CauseKind::Deadline);
    assert_eq!(begin.elapsed(), 3 * SECOND);
    assert!(!ctx.is_cancelled());
    assert!(ctx.run(std::future::pending::<()>()).await.is_err());
    assert_eq!(begin.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn tokio_ends_a_grace_exactly() {
    let begin = tokio::time::Instant::now();
    let (ctx, canceller) = Context::background().child();
    let child = quiet(ctx.child());
    canceller.stop(5 * SECOND);
    assert_eq!(child.stopping().await.kind(), CauseKind::Stopped);
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(child.cancelled().await.kind(), CauseKind::Stopped);
    assert_eq!(begin.elapsed(), 5 * SECOND);
    assert!(ctx.deadline().is_none());
}

#[tokio::test(start_paused = true)]
async fn many_deadlines_end_in_order_under_paused_time() {
    let begin = tokio::time::Instant::now();
    let (root, _canceller) = Context::background().child();
    let mut waiting = tokio::task::JoinSet::new();
    for i in 0..1000_u32 {
        let after = (i * 37 % 101) * SECOND;
        let ctx = quiet(root.with_timeout(after).unwrap());
        waiting.spawn(async move {
            assert_eq!(ctx.cancelled().await.kind(), CauseKind::Deadline);
            assert_eq!(begin.elapsed(), after);
        });
    }
    while let Some(done) = waiting.join_next().await {
        done.unwrap();
    }
    assert_eq!(begin.elapsed(), 100 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_at_the_end_of_time_disturbs_no_other() {
    let mut last = Instant::now();
    let mut step = Duration::MAX;
    while !step.is_zero() {
        match last.checked_add(step) {
            Some(later) => last = later,
            None => step /= 2,
        }
    }
    let (far, _far_canceller) = Context::background().with_deadline(last).unwrap();
    let (near, _near_canceller) = Context::background().with_timeout(SECOND).unwrap();
    let far_waiter = start(far.cancelled_owned(), Waker::noop());
    assert_eq!(near.cancelled().await.kind(), CauseKind::Deadline);
    tokio::task::yield_now().await;
    assert!(far.cause().is_none(), "{:?}", far.cause());
    drop(far_waiter);
}

#[tokio::test(start_paused = true)]
async fn a_polling_task_sees_its_deadline_on_tokios_clock() {
    let (ctx, _canceller) = Context::background().with_timeout(SECOND).unwrap();
    tokio::time::advance(SECOND - MS).await;
    assert!(!ctx.is_cancelled());
    tokio::time::advance(MS).await;
    assert!(ctx.is_cancelled());
    assert_eq!(ctx.remaining(), Some(Duration::ZERO));
}

// Tokio's runtimes.

fn runtimes() -> [Runtime; 2] {
    let multi = Builder::new_multi_thread().worker_threads(1).enable_time().build();
    [Builder::new_current_thread().enable_time().build().unwrap(), multi.unwrap()]
}

#[test]
fn a_runtimes_deadline_ends_waiters_inside_and_outside() {
    watchdog(PATIENCE, "a deadline inside and outside", || {
        for runtime in runtimes() {
            let ctx = runtime.block_on(async {
                let ctx = quiet(Context::background().with_timeout(20 * MS).unwrap());
                assert_eq!(ctx.cancelled().await.kind(), CauseKind::Deadline);
                quiet(Context::background().with_timeout(20 * MS).unwrap())
            });
            let outside = thread::spawn(move || ctx.cancelled_blocking().kind());
            runtime.block_on(async { tokio::time::sleep(50 * MS).await });
            assert_eq!(outside.join().unwrap(), CauseKind::Deadline);
        }
    });
}

#[test]
fn a_runtime_shut_down_underneath_cancels_with_timer_lost() {
    watchdog(PATIENCE, "a runtime shut down underneath", || {
        for runtime in runtimes() {
            let (ctx, late) = runtime.block_on(async {
                let ctx = quiet(Context::background().with_timeout(HOUR).unwrap());
                (ctx, quiet(Context::background().with_timeout(HOUR).unwrap()))
            });
            let waiter = thread::spawn({
                let waiting = start(ctx.cancelled_owned(), Waker::noop());
                move || block_on(waiting).kind()
            });
            drop(runtime);
            assert_eq!(waiter.join().unwrap(), CauseKind::TimerLost);
            // Who comes later finds out as well, and reads nothing that panics.
            assert!(!late.is_cancelled() && late.remaining().unwrap() > SECOND);
            let child = late.with_timeout(SECOND).map(quiet).unwrap();
            assert_eq!(child.cancelled_blocking().kind(), CauseKind::TimerLost);
            assert_eq!(late.cancelled_blocking().kind(), CauseKind::TimerLost);
        }
    });
}

#[test]
fn a_stop_after_the_runtime_was_shut_down_cancels_at_once() {
    watchdog(PATIENCE, "a stop on a runtime shut down", || {
        for runtime in runtimes() {
            let (ctx, canceller) =
                runtime.block_on(async { Context::background().with_timeout(HOUR).unwrap() });
            drop(runtime);
            canceller.stop(SECOND);
            assert!(ctx.is_cancelled());
            assert_eq!(kind(&ctx), Some(CauseKind::Stopped));
        }
    });
}

// No user code under a lock; memory.

#[test]
fn wakers_of_a_deadline_may_use_the_tree_and_the_clock() {
    watchdog(PATIENCE, "wakers that use tree and clock", || {
        let (ctx, canceller, clock) = manual(SECOND);
        let clock = Arc::new(clock);
        let reentrant = {
            let (ctx, clock) = (ctx.clone(), Arc::clone(&clock));
            ReentrantWaker::on_wake_and_drop(
                move || {
                    assert!(ctx.with_timeout(SECOND).unwrap().0.is_cancelled());
                    canceller.stop(SECOND);
                    canceller.cancel();
                    clock.advance(SECOND);
                    assert_eq!(clock.registered(), 0);
                },
                || (),
            )
        };
        let _waiter = start(ctx.cancelled_owned(), &reentrant.waker());
        clock.advance(SECOND);
        assert_eq!(reentrant.wakes(), 1);
    });
}

/// Tells by its drop that the cause that holds it is gone.
#[derive(Debug)]
struct Held(#[expect(dead_code, reason = "held for its count")] Arc<()>);

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("held")
    }
}

impl std::error::Error for Held {}

#[test]
fn a_tree_with_deadlines_and_graces_frees_everything() {
    let (timer, clock) = Timer::manual();
    let held = Arc::new(());
    // Once to warm up what the clock's table keeps.
    for round in 0..2 {
        let cost = CountingAllocator::count(|| {
            let background = Context::background();
            let root = background.child_with().timeout(HOUR).timer(timer.clone()).build();
            let (root, root_canceller) = root.unwrap();
            root_canceller.detach();
            let mut all = vec![(root, None)];
            let mut waiters = Vec::new();
            for i in 0..100_u32 {
                let parent = &all[i as usize / 3].0;
                let made = match i % 3 {
                    0 => parent.child(),
                    1 => parent.with_timeout(HOUR - i * SECOND).unwrap(),
                    _ => parent.with_timeout(2 * HOUR).unwrap(),
                };
                waiters.push(start(made.0.cancelled_owned(), Waker::noop()));
                if i % 7 == 0 {
                    let error = Held(Arc::clone(&held));
                    made.1.stop_because(error, (i + 1) * SECOND);
                }
                if i % 11 == 0 {
                    made.1.stop(SECOND);
                }
                all.push((made.0, Some(made.1)));
            }
            clock.advance_silently(3 * SECOND);
            assert!(all[8].0.cause().is_some());
            clock.advance(Duration::ZERO);
            // From the middle, then the waiters, then the rest.
            drop(all.split_off(40));
            drop(waiters);
            drop(all);
        });
        assert_eq!(clock.registered(), 0);
        assert_eq!(Arc::strong_count(&held), 1);
        if round == 1 {
            assert_eq!(cost.bytes_allocated, cost.bytes_freed, "{cost}");
        }
    }
}

#[test]
fn a_replaced_grace_is_freed() {
    let (ctx, canceller, clock) = manual(HOUR);
    for seconds in (1..100).rev() {
        canceller.stop(seconds * SECOND);
        assert_eq!(clock.registered(), 1);
    }
    drop((ctx, canceller));
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_panicking_waker_of_one_deadline_stops_no_other() {
    let (timer, clock) = Timer::manual();
    let make = || {
        let made = Context::background().child_with().timeout(SECOND).timer(timer.clone()).build();
        quiet(made.unwrap())
    };
    let (one, two) = (make(), make());
    let (panicking, counting) = (PanickingWaker::new(), CountingWaker::new());
    let _first = start(one.cancelled_owned(), &panicking.waker());
    let _second = start(two.cancelled_owned(), &counting.waker());
    assert!(catch_unwind(AssertUnwindSafe(|| clock.advance(SECOND))).is_err());
    assert_eq!((panicking.wakes(), counting.wakes()), (1, 1));
}

#[test]
fn a_deadline_with_nothing_left_to_end_is_revoked() {
    let (ctx, canceller, clock) = manual(SECOND);
    let (child, keep) = ctx.child();
    drop(start(ctx.cancelled_owned(), Waker::noop()));
    assert_eq!(clock.registered(), 1);
    keep.cancel();
    canceller.detach();
    drop(ctx);
    assert!(child.is_cancelled());
    assert_eq!(clock.registered(), 0);
}

#[test]
fn the_earlier_of_two_graces_on_two_clocks_holds() {
    let ((one, one_clock), (other, _other_clock)) = (Timer::manual(), Timer::manual());
    let (ctx, canceller) = Context::background().child();
    let made = ctx.child_with().timeout(HOUR).timer(one).build();
    let (child, child_canceller) = made.unwrap();
    // One clock is far ahead of the other.
    one_clock.advance(HOUR / 2);
    canceller.stop_on(&other, selvedge_cancel::Cause::new(CauseKind::Stopped), 20 * SECOND);
    child_canceller.stop(SECOND);
    one_clock.advance(2 * SECOND);
    assert!(child.is_cancelled() && !ctx.is_cancelled());
}

#[test]
fn a_canceller_in_a_thread_local_outlives_tokios() {
    thread_local! {
        static KEPT: std::cell::RefCell<Option<(Context, Canceller)>> =
            const { std::cell::RefCell::new(None) };
    }
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    let ended = thread::spawn(move || {
        // Made before tokio's thread-local, so dropped after it.
        KEPT.with_borrow_mut(|kept| *kept = None);
        let _inside = handle.enter();
        let made = Context::background().with_timeout(SECOND).unwrap();
        let seen = made.0.clone();
        KEPT.with_borrow_mut(|kept| *kept = Some(made));
        seen
    });
    assert!(ended.join().unwrap().is_cancelled());
}
