//! Shields: what is masked, for how long, for whom; and that no shield outlasts another.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use selvedge_cancel::{
    Canceller, Cause, CauseKind, Context, DeadlineError, ManualClock, Run, Timer,
};
use selvedge_testkit::{CountingWaker, watchdog};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A context with a deadline on a manual clock, so that all time is that clock's.
fn timed(timeout: Duration) -> (Context, Canceller, ManualClock) {
    let (timer, clock) = Timer::manual();
    let made = Context::background().child_with().timeout(timeout).timer(timer).build();
    let (ctx, canceller) = made.unwrap();
    (ctx, canceller, clock)
}

/// As [`timed`], below a context with no clock of its own, whose canceller comes first.
fn timed_below_a_root() -> (Canceller, (Context, Canceller, ManualClock)) {
    let (timer, clock) = Timer::manual();
    let (root, root_canceller) = Context::background().child();
    let (ctx, canceller) = root.child_with().timeout(HOUR).timer(timer).build().unwrap();
    (root_canceller, (ctx, canceller, clock))
}

fn kind(ctx: &Context) -> Option<CauseKind> {
    ctx.cause().map(|cause| cause.kind())
}

/// What runs inside a shield, and the context there.
type Section = (Pin<Box<Run<std::future::Pending<()>>>>, Context);

/// A shielded section that never ends by itself.
fn section(ctx: &Context, budget: Duration) -> Section {
    let mut inside = None;
    let run = ctx.shield(budget, |ctx| {
        inside = Some(ctx);
        std::future::pending()
    });
    (Box::pin(run.unwrap()), inside.expect("the work was asked for"))
}

fn poll(section: &mut Section, waker: &Waker) -> Poll<Result<(), Cause>> {
    section.0.as_mut().poll(&mut TaskContext::from_waker(waker))
}

#[test]
fn a_cancel_from_above_is_a_stop_inside_until_the_budget_is_over() {
    let (ctx, canceller, clock) = timed(HOUR);
    let (child, _keep) = ctx.child();
    let mut work = section(&child, SECOND);
    let woken = CountingWaker::new();
    assert!(poll(&mut work, &woken.waker()).is_pending());
    canceller.cancel();
    let inside = work.1.clone();
    assert!(child.is_cancelled() && inside.is_stopping() && !inside.is_cancelled());
    assert_eq!((kind(&inside), woken.wakes()), (Some(CauseKind::Cancelled), 0));
    assert!(poll(&mut work, &woken.waker()).is_pending());
    clock.advance(SECOND);
    assert_eq!(woken.wakes(), 1, "told by the timer");
    assert!(inside.is_cancelled());
    let Poll::Ready(Err(cause)) = poll(&mut work, &woken.waker()) else {
        panic!("it was cut short")
    };
    assert!(cause.same(&child.cause().unwrap()), "the cause is the outer cancel's");
    drop(work);
    drop(inside);
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_loop_inside_that_only_polls_sees_the_end_of_the_budget() {
    let (ctx, canceller, clock) = timed(HOUR);
    let (_run, inside) = section(&ctx, SECOND);
    let (deeper, _keep) = inside.child();
    canceller.cancel();
    clock.advance_silently(SECOND - Duration::from_nanos(1));
    assert!(!inside.is_cancelled() && !deeper.is_cancelled());
    clock.advance_silently(Duration::from_nanos(1));
    assert!(inside.is_cancelled() && deeper.is_cancelled());
}

#[test]
fn contexts_made_inside_inherit_the_mask() {
    let (ctx, canceller, clock) = timed(HOUR);
    let (run, inside) = section(&ctx, SECOND);
    let (before, _before) = inside.child();
    canceller.cancel();
    let (after, _after) = inside.child();
    let (deeper, _deeper) = after.child();
    for ctx in [&before, &after, &deeper] {
        assert!(ctx.is_stopping() && !ctx.is_cancelled());
        assert_eq!(kind(ctx), Some(CauseKind::Cancelled));
    }
    clock.advance(SECOND);
    assert!(before.is_cancelled() && after.is_cancelled() && deeper.is_cancelled());
    drop((run, inside));
}

#[test]
fn a_section_of_a_context_that_is_cancelled_already_begins_stopping() {
    let (ctx, canceller, clock) = timed(HOUR);
    canceller.cancel();
    let mut work = section(&ctx, SECOND);
    assert!(work.1.is_stopping() && !work.1.is_cancelled());
    assert!(work.1.cause().unwrap().same(&ctx.cause().unwrap()));
    let woken = CountingWaker::new();
    assert!(poll(&mut work, &woken.waker()).is_pending());
    assert_eq!(clock.registered(), 1);
    clock.advance(SECOND);
    assert_eq!((woken.wakes(), work.1.is_cancelled()), (1, true));
}

#[test]
fn a_section_of_a_cancelled_context_that_is_dropped_leaves_no_timer() {
    let (ctx, canceller, clock) = timed(HOUR);
    canceller.cancel();
    let mut work = section(&ctx, SECOND);
    assert!(poll(&mut work, Waker::noop()).is_pending());
    drop(work);
    assert_eq!((ctx.nodes(), clock.registered()), (1, 0));
}

#[test]
fn a_budget_of_zero_masks_nothing() {
    let (ctx, canceller, _clock) = timed(HOUR);
    let (_run, inside) = section(&ctx, Duration::ZERO);
    assert!(!inside.is_cancelled(), "nobody has cancelled");
    canceller.cancel();
    assert!(inside.is_cancelled());
    assert!(section(&ctx, Duration::ZERO).1.is_cancelled(), "made afterwards");
}

#[test]
fn work_that_nobody_cancels_goes_on_after_its_budget_and_is_not_masked_then() {
    let (ctx, canceller, clock) = timed(HOUR);
    let (_run, inside) = section(&ctx, SECOND);
    clock.advance(2 * SECOND);
    assert!(!inside.is_stopping());
    canceller.cancel();
    assert!(inside.is_cancelled());
}

#[test]
fn a_shield_inside_a_shield_ends_with_it_at_the_latest() {
    let (ctx, canceller, clock) = timed(HOUR);
    let (_outer, inside) = section(&ctx, 2 * SECOND);
    let (longer, deepest) = section(&inside, HOUR);
    let (_shorter, short) = section(&inside, SECOND);
    let (endless, forever) = section(&inside, Duration::MAX);
    canceller.cancel();
    clock.advance(SECOND);
    // The outer one masks for all of them: what is inside it is not cancelled at all before its end.
    assert!(!short.is_cancelled() && !deepest.is_cancelled() && !forever.is_cancelled());
    clock.advance(SECOND);
    assert!(short.is_cancelled() && deepest.is_cancelled() && forever.is_cancelled());
    drop((longer, endless));
}

#[test]
fn a_shield_that_ends_with_the_one_around_it_is_told_although_a_canceller_between_them_was_used() {
    let (ctx, canceller, clock) = timed(HOUR);
    let (_outer, inside) = section(&ctx, SECOND);
    let (between, between_canceller) = inside.child();
    let mut inner = section(&between, 5 * SECOND);
    let woken = CountingWaker::new();
    assert!(poll(&mut inner, &woken.waker()).is_pending());
    canceller.cancel();
    between_canceller.cancel();
    assert!(between.is_cancelled() && !inner.1.is_cancelled());
    assert_eq!(woken.wakes(), 0);
    clock.advance(SECOND);
    assert_eq!(woken.wakes(), 1, "its walk ends above, where everything else was cancelled");
}

#[test]
fn a_shield_below_a_canceller_of_its_own_masks_that_one_as_well() {
    let (ctx, _canceller, clock) = timed(HOUR);
    let (_outer, inside) = section(&ctx, 2 * SECOND);
    let (part, part_canceller) = inside.child();
    let (_inner, deepest) = section(&part, SECOND);
    part_canceller.cancel();
    assert!(part.is_cancelled() && !inside.is_stopping());
    assert!(deepest.is_stopping() && !deepest.is_cancelled());
    clock.advance(SECOND);
    assert!(deepest.is_cancelled());
}

#[test]
fn a_deadline_that_passes_is_masked_as_well() {
    let (ctx, _canceller, clock) = timed(SECOND);
    let mut work = section(&ctx, 3 * SECOND);
    let woken = CountingWaker::new();
    assert!(poll(&mut work, &woken.waker()).is_pending());
    let outside = CountingWaker::new();
    let mut waiting = Box::pin(ctx.cancelled());
    let polled = waiting.as_mut().poll(&mut TaskContext::from_waker(&outside.waker()));
    assert!(polled.is_pending());
    clock.advance(SECOND);
    assert_eq!((ctx.is_cancelled(), outside.wakes()), (true, 1));
    assert!(work.1.is_stopping() && !work.1.is_cancelled());
    assert_eq!(kind(&work.1), Some(CauseKind::Deadline));
    clock.advance_silently(2 * SECOND - Duration::from_nanos(1));
    assert!(!work.1.is_cancelled());
    clock.advance(Duration::from_nanos(1));
    assert!(work.1.is_cancelled());
    assert_eq!(woken.wakes(), 1);
}

#[test]
fn the_deadline_inside_is_the_later_of_the_outer_one_and_the_budget() {
    let (ctx, _canceller, _clock) = timed(SECOND);
    let outer = ctx.deadline().unwrap();
    assert_eq!(section(&ctx, 3 * SECOND).1.deadline(), Some(outer + 2 * SECOND));
    assert_eq!(section(&ctx, SECOND / 2).1.deadline(), Some(outer));
}

#[test]
fn the_end_of_a_grace_is_masked_as_well() {
    let (ctx, canceller, clock) = timed(HOUR);
    let (_before, before) = section(&ctx, 3 * SECOND);
    canceller.stop(SECOND);
    let (_after, after) = section(&ctx, 3 * SECOND);
    clock.advance(SECOND);
    assert!(ctx.is_cancelled());
    for inside in [&before, &after] {
        assert!(inside.is_stopping() && !inside.is_cancelled());
        assert_eq!(kind(inside), Some(CauseKind::Stopped));
    }
    clock.advance(2 * SECOND);
    assert!(before.is_cancelled() && after.is_cancelled());
}

#[test]
fn a_stop_is_seen_inside_and_a_value_is_carried_in() {
    #[derive(Debug, PartialEq)]
    struct Request(u32);
    let (ctx, canceller, _clock) = timed(HOUR);
    let (_run, inside) = section(&ctx.with_value(Request(7)), SECOND);
    assert_eq!(inside.value(), Some(&Request(7)));
    canceller.stop(Duration::MAX);
    assert!(inside.is_stopping() && !inside.is_cancelled());
}

#[test]
fn siblings_of_a_shield_are_cancelled_at_once() {
    let (ctx, canceller, _clock) = timed(HOUR);
    let before: Vec<_> = (0..3).map(|_| ctx.child()).collect();
    let (_run, inside) = section(&ctx, SECOND);
    let (deeper, _keep) = inside.child();
    let after: Vec<_> = (0..3).map(|_| ctx.child()).collect();
    canceller.cancel();
    assert!(before.iter().chain(&after).all(|(ctx, _)| ctx.is_cancelled()));
    assert!(!inside.is_cancelled() && !deeper.is_cancelled());
}

#[test]
fn what_the_work_returns_comes_out() {
    let (ctx, _canceller, _clock) = timed(HOUR);
    let run = ctx.shield(SECOND, |_| std::future::ready(5)).unwrap();
    assert_eq!(selvedge_testkit::block_on(run).unwrap(), 5);
}

#[test]
fn a_budget_that_never_ends_is_refused() {
    let (ctx, _canceller, _clock) = timed(HOUR);
    let refused = ctx.shield(Duration::MAX, |_| std::future::ready(())).unwrap_err();
    assert_eq!(refused, DeadlineError::Endless);
    assert!(refused.to_string().contains("a budget that ends"));
}

#[test]
fn the_shielded_context_is_placed_where_the_shield_was_asked_for() {
    let (ctx, _canceller, _clock) = timed(HOUR);
    let mut place = None;
    let line = line!() + 1;
    drop(ctx.shield(SECOND, |ctx| {
        place = ctx.place();
        std::future::ready(())
    }));
    let place = place.unwrap();
    assert_eq!((place.file(), place.line()), (file!(), line));
}

#[test]
fn a_shield_on_a_timer_that_is_lost_ends_at_once() {
    let (ctx, canceller, clock) = timed(HOUR);
    let (_run, inside) = section(&ctx, SECOND);
    clock.lose();
    canceller.cancel();
    assert!(inside.is_cancelled(), "nobody could end it later");
}

#[test]
fn a_shield_of_a_stopping_context_on_a_timer_that_is_lost_ends_at_once() {
    watchdog(Duration::from_secs(60), "a shield on a timer that is lost", || {
        let (canceller, (ctx, _keep, clock)) = timed_below_a_root();
        let (other, _other) = Timer::manual();
        canceller.stop_on(&other, Cause::new(CauseKind::Stopped), SECOND);
        clock.lose();
        let (_run, inside) = section(&ctx, 2 * SECOND);
        assert!(inside.is_cancelled() && !ctx.is_cancelled());
    });
}

#[test]
fn a_grace_on_another_clock_that_is_past_is_not_masked_by_a_shield_that_is_not() {
    let (canceller, (ctx, _keep, clock)) = timed_below_a_root();
    let (other, other_clock) = Timer::manual();
    let mut work = section(&ctx, SECOND);
    let woken = CountingWaker::new();
    let mut inside = Box::pin(work.1.cancelled_owned());
    let cx = &mut TaskContext::from_waker(Waker::noop());
    assert!(inside.as_mut().poll(cx).is_pending());
    assert!(poll(&mut work, &woken.waker()).is_pending());
    canceller.stop_on(&other, Cause::new(CauseKind::Stopped), 2 * SECOND);
    // By this clock the grace is over, by that the shield is not.
    other_clock.advance(2 * SECOND);
    assert!(ctx.is_cancelled() && work.1.is_cancelled());
    assert_eq!(woken.wakes(), 1, "who waits is told what a look sees");
    assert_eq!((clock.registered(), other_clock.registered()), (0, 0));
}

#[test]
fn a_cancel_in_between_leaves_a_shield_its_own_end_whatever_other_clocks_say() {
    let (canceller, (ctx, ctx_canceller, clock)) = timed_below_a_root();
    let (other, other_clock) = Timer::manual();
    let mut work = section(&ctx, 3 * SECOND);
    clock.advance(SECOND);
    // More than what is left of the shield; then less.
    canceller.stop_on(&other, Cause::new(CauseKind::Stopped), 5 * SECOND / 2);
    other_clock.advance(SECOND);
    let woken = CountingWaker::new();
    assert!(poll(&mut work, &woken.waker()).is_pending());
    ctx_canceller.cancel();
    assert!(!work.1.is_cancelled());
    clock.advance(2 * SECOND);
    assert!(work.1.is_cancelled());
    assert_eq!(woken.wakes(), 1);
}

#[test]
fn the_background_can_be_shielded() {
    let ran = Context::background().shield(SECOND, |ctx| async move { ctx.is_stopping() });
    assert!(!selvedge_testkit::block_on(ran.unwrap()).unwrap());
}

#[test]
fn a_grace_that_ends_with_the_shield_loses_neither() {
    let (ctx, canceller, clock) = timed(HOUR);
    let mut work = section(&ctx, SECOND);
    let (deeper, _keep) = work.1.child();
    let woken = CountingWaker::new();
    assert!(poll(&mut work, &woken.waker()).is_pending());
    canceller.stop(SECOND);
    canceller.cancel();
    assert!(!work.1.is_cancelled() && !deeper.is_cancelled());
    clock.advance(SECOND);
    assert!(work.1.is_cancelled() && deeper.is_cancelled());
    assert_eq!(woken.wakes(), 1);
}

#[test]
fn what_is_inside_stays_masked_when_the_section_itself_is_gone() {
    let (ctx, canceller, clock) = timed(HOUR);
    let work = section(&ctx, SECOND);
    let (deeper, _keep) = work.1.child();
    drop(work);
    canceller.cancel();
    assert!(deeper.is_stopping() && !deeper.is_cancelled());
    clock.advance(SECOND);
    assert!(deeper.is_cancelled());
    drop((deeper, _keep));
    assert_eq!(ctx.nodes(), 1);
}

#[test]
fn a_shield_of_a_stopping_context_that_is_dropped_ends_when_its_budget_does() {
    for budget in [3 * SECOND, SECOND / 2] {
        let (root, _keep, clock) = timed(HOUR);
        let (ctx, canceller) = root.child();
        canceller.stop(SECOND);
        let mut work = section(&ctx, budget);
        let woken = CountingWaker::new();
        assert!(poll(&mut work, &woken.waker()).is_pending());
        canceller.detach();
        drop(ctx);
        assert!(work.1.is_stopping() && !work.1.is_cancelled());
        clock.advance(budget.max(SECOND) - Duration::from_nanos(1));
        assert_eq!(woken.wakes(), 0);
        assert!(!work.1.is_cancelled(), "{budget:?}");
        clock.advance(Duration::from_nanos(1));
        assert_eq!(woken.wakes(), 1, "{budget:?}");
        assert!(work.1.is_cancelled());
        drop(work);
        assert_eq!((root.nodes(), clock.registered()), (1, 1), "the hour of the root");
    }
}

#[test]
fn a_deadline_that_passes_is_a_stop_inside_although_nobody_waits_outside() {
    let (ctx, _keep, clock) = timed(SECOND);
    let mut work = section(&ctx, 3 * SECOND);
    let woken = CountingWaker::new();
    let inside = work.1.clone();
    let mut stopping = Box::pin(inside.stopping_owned());
    let polled = stopping.as_mut().poll(&mut TaskContext::from_waker(&woken.waker()));
    assert!(polled.is_pending() && poll(&mut work, Waker::noop()).is_pending());
    clock.advance(SECOND);
    assert_eq!(woken.wakes(), 1, "told by the timer");
    assert!(inside.is_stopping() && !inside.is_cancelled());
    assert_eq!(kind(&inside), Some(CauseKind::Deadline));
    clock.advance(2 * SECOND);
    assert!(inside.is_cancelled());
    drop((stopping, inside, work));
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_deadline_that_passes_is_a_stop_inside_also_when_its_context_is_gone() {
    for relays in 0..3 {
        let (timer, clock) = Timer::manual();
        let background = Context::background();
        let (root, _keep) = background.child_with().timer(timer).timeout(HOUR).build().unwrap();
        let (mut ctx, canceller) = root.with_timeout(SECOND).unwrap();
        canceller.detach();
        for _ in 0..relays {
            let (child, canceller) = ctx.child();
            canceller.detach();
            ctx = child;
        }
        let (_run, inside) = section(&ctx, 3 * SECOND);
        let (deeper, _deeper) = inside.child();
        drop(ctx);
        assert!(root.nodes() <= 3, "{} nodes", root.nodes());
        clock.advance(SECOND);
        assert!(deeper.is_stopping() && !deeper.is_cancelled(), "{relays} relays");
        clock.advance(2 * SECOND);
        assert!(deeper.is_cancelled());
        drop((deeper, _deeper, inside, _run));
        assert_eq!((root.nodes(), clock.registered()), (1, 0));
    }
}

#[test]
fn a_shield_that_is_gone_before_the_deadline_leaves_no_timer() {
    let (ctx, _keep, clock) = timed(SECOND);
    let (run, inside) = section(&ctx, 3 * SECOND);
    drop(ctx);
    drop(_keep);
    assert!(inside.is_stopping());
    drop((run, inside));
    assert_eq!(clock.registered(), 0);

    let (root, _root, clock) = timed(HOUR);
    let (ctx, canceller) = root.with_timeout(SECOND).unwrap();
    canceller.detach();
    let (run, inside) = section(&ctx, 3 * SECOND);
    drop(ctx);
    drop((run, inside));
    assert_eq!((root.nodes(), clock.registered()), (1, 0));
}
