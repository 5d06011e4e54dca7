//! The futures dropped, woken and dropped, moved, panicked over and cancelled at each of their await points. After each: no token is
//! lost and none is made, whoever stands behind is served, no waker and no registration is left.
#![cfg(not(selvedge_loom))]

mod support;

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use selvedge_cancel::{Canceller, Context as Tree};
use selvedge_ratelimit::{AcquireError, Keyed, ManualClock, Priority, Rate, Timer};
use selvedge_testkit::{CountingWaker, Ended, Run, next, sweep};
use support::SEC;
use support::scene::Scene;

/// How many of `wanted` tokens were used.
fn used<E: std::fmt::Debug>(ended: Ended<Result<(), E>>, wanted: u32) -> u32 {
    match ended {
        Ended::Ready(tokens) => {
            tokens.unwrap();
            wanted
        }
        Ended::Dropped => 0,
    }
}

/// `future` wants two tokens, which come one a second; somebody who wants one comes behind it.
fn tokens_come_one_by_one<F: Future<Output = Result<(), AcquireError>> + Send>(
    run: &mut Run,
    scene: &Scene,
    future: F,
) {
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut cx = Context::from_waker(&woken);
    let mut behind = pin!(scene.limiter.acquire_owned(1));

    let ended = run.drive(future, |step| {
        if step == 0 {
            assert!(behind.as_mut().poll(&mut cx).is_pending(), "one overtook the other");
        }
        scene.second();
    });

    let used = used(ended, 2);
    if behind.as_mut().poll(&mut cx).is_pending() {
        (scene.seconds.get()..used + 1).for_each(|_| scene.second());
        assert!(behind.as_mut().poll(&mut cx).is_ready(), "the one behind was not served");
    }
    scene.conserves(run, used + 1);
}

#[test]
fn acquire_loses_nothing_at_any_await_point() {
    let summary = sweep("Acquire", |run| {
        let scene = Scene::new();
        tokens_come_one_by_one(run, &scene, scene.limiter.acquire(2));
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}

#[test]
fn an_owned_acquire_loses_nothing_at_any_await_point() {
    let summary = sweep("Acquire", |run| {
        let scene = Scene::new();
        tokens_come_one_by_one(run, &scene, scene.limiter.acquire_owned(2));
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}

#[test]
fn an_acquire_of_a_class_loses_nothing_at_any_await_point() {
    for class in [Priority::High, Priority::Normal] {
        let summary = sweep("Acquire", |run| {
            let scene = Scene::new();
            tokens_come_one_by_one(run, &scene, scene.limiter.acquire(2).priority(class));
        });
        assert_eq!(summary.pending_points, 2, "{summary}");
    }
}

/// Somebody of a higher class comes after it, and goes before it.
#[test]
fn an_acquire_that_is_overtaken_loses_nothing_at_any_await_point() {
    let summary = sweep("Acquire", |run| {
        let scene = Scene::new();
        let task = CountingWaker::new();
        let waker = task.waker();
        let mut cx = Context::from_waker(&waker);
        let mut before = pin!(scene.limiter.acquire(1).priority(Priority::High));
        let low = scene.limiter.acquire(2).priority(Priority::Low);
        let ended = run.drive(low, |step| {
            if step == 0 {
                assert!(before.as_mut().poll(&mut cx).is_pending());
            }
            scene.second();
        });
        if before.as_mut().poll(&mut cx).is_pending() {
            scene.second();
            assert!(before.as_mut().poll(&mut cx).is_ready());
        }
        scene.conserves(run, 1 + used(ended, 2));
    });
    assert_eq!(summary.pending_points, 3, "{summary}");
}

/// Five tokens of a burst of three: three, and then two.
#[test]
fn a_split_acquire_loses_nothing_at_any_await_point() {
    let summary = sweep("Acquire", |run| {
        let scene = Scene::new();
        let task = CountingWaker::new();
        let waker = task.waker();
        let mut cx = Context::from_waker(&waker);
        let mut behind = pin!(scene.limiter.acquire(1));
        let ended = run.drive(scene.limiter.acquire(5).split(), |step| {
            if step == 0 {
                assert!(behind.as_mut().poll(&mut cx).is_pending());
            }
            scene.second();
        });
        let used = used(ended, 5);
        // What it had goes back as far as there is room for it: in place of a part that it used, as much has come since.
        while behind.as_mut().poll(&mut cx).is_pending() {
            assert!(scene.seconds.get() < 7, "the one behind was not served");
            scene.second();
        }
        assert_eq!(scene.limiter.drain(), (scene.seconds.get() - used).min(3) - 1);
        assert_eq!((scene.limiter.waiting(), scene.clock.registered()), (0, 0));
        assert_eq!(run.live_wakers(), 0);
    });
    assert_eq!(summary.pending_points, 5, "{summary}");
}

/// A context on the clock of the scene.
fn context(timeout: Option<Duration>, scene: &Scene) -> (Tree, Canceller) {
    let tree = Tree::background();
    let Some(timeout) = timeout else { return tree.child() };
    let (timer, clock) = Timer::manual();
    assert_eq!((clock.registered(), scene.seconds.get()), (0, 0));
    // A driver of its own, whose clock stands still: only the canceller ends it.
    tree.child_with().timer(timer).timeout(timeout).build().unwrap()
}

#[test]
fn an_acquire_in_a_context_loses_nothing_at_any_await_point() {
    for timeout in [None, Some(9 * SEC)] {
        let summary = sweep("RunOrCause", |run| {
            let scene = Scene::new();
            let (ctx, canceller) = context(timeout, &scene);
            let acquire = scene.limiter.acquire_in(&ctx, 2);
            let ended = run.drive_cancel(acquire, |_| scene.second(), || canceller.cancel());
            let used = match ended {
                Ended::Ready(Ok(())) => 2,
                Ended::Ready(Err(AcquireError::Ended(cause))) => {
                    assert!(ctx.cause().unwrap().same(&cause));
                    0
                }
                Ended::Ready(Err(error)) => panic!("{error}"),
                Ended::Dropped => 0,
            };
            scene.conserves(run, used);
        });
        assert_eq!(summary.pending_points, 2, "{summary}");
    }
}

#[test]
fn an_acquire_under_a_context_loses_nothing_at_any_await_point() {
    for owned in [false, true] {
        let summary = sweep("Acquire", |run| {
            let scene = Scene::new();
            let (ctx, canceller) = context(None, &scene);
            let acquire = match owned {
                false => scene.limiter.acquire(2),
                true => scene.limiter.acquire_owned(2),
            };
            let step = |_| scene.second();
            let used = match run.drive_cancel(ctx.run(acquire), step, || canceller.cancel()) {
                Ended::Ready(Ok(tokens)) => {
                    tokens.unwrap();
                    2
                }
                Ended::Ready(Err(_)) | Ended::Dropped => 0,
            };
            scene.conserves(run, used);
        });
        assert_eq!(summary.pending_points, 2, "{summary}");
    }
}

/// What is lost is the future; the reservation has the place in the line.
#[test]
fn ready_loses_nothing_at_any_await_point() {
    let summary = sweep("Ready", |run| {
        let scene = Scene::new();
        let mut reserved = scene.limiter.reserve(2).unwrap();
        let ended = run.drive(reserved.ready(), |_| scene.second());
        if used(ended, 2) == 0 {
            (scene.seconds.get()..2).for_each(|_| scene.second());
        }
        let task = CountingWaker::new();
        let waker = task.waker();
        let seen = pin!(reserved.ready()).poll(&mut Context::from_waker(&waker));
        assert_eq!(seen, Poll::Ready(Ok(())), "it was not granted");
        drop(reserved);
        scene.conserves(run, 2);
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}

#[test]
fn a_reservation_that_is_cancelled_at_any_await_point_of_ready_gives_back_all() {
    let summary = sweep("Ready", |run| {
        let scene = Scene::new();
        let mut reserved = scene.limiter.reserve(2).unwrap();
        let task = CountingWaker::new();
        let waker = task.waker();
        let mut cx = Context::from_waker(&waker);
        let mut behind = pin!(scene.limiter.acquire(1));
        assert!(behind.as_mut().poll(&mut cx).is_pending());
        run.drive(reserved.ready(), |_| scene.second());
        assert_eq!(reserved.cancel(), 2);
        if scene.seconds.get() == 0 {
            scene.second();
        }
        assert!(behind.as_mut().poll(&mut cx).is_ready(), "it did not move up");
        scene.conserves(run, 1);
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}

/// Numbers that are there at once.
struct Numbers(VecDeque<u32>);

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        Poll::Ready(self.0.pop_front())
    }
}

#[test]
fn throttle_loses_nothing_at_any_await_point() {
    let summary = sweep("Throttle", |run| {
        let scene = Scene::new();
        let mut numbers = Box::pin(scene.limiter.throttle(Numbers([1, 2].into())));
        let (ctx, canceller) = context(None, &scene);
        let step = |_| scene.second();
        let ended = run.drive_cancel(ctx.run(next(&mut numbers)), step, || canceller.cancel());
        // A wait for the next that is given up loses neither the item nor the place in the line.
        let first = match ended {
            Ended::Ready(Ok(first)) => first,
            Ended::Ready(Err(_)) | Ended::Dropped => {
                let task = CountingWaker::new();
                let waker = task.waker();
                let mut cx = Context::from_waker(&waker);
                if scene.seconds.get() == 0 {
                    assert!(numbers.as_mut().poll_next(&mut cx).is_pending());
                    scene.second();
                }
                match numbers.as_mut().poll_next(&mut cx) {
                    Poll::Ready(first) => first,
                    Poll::Pending => panic!("the token was lost"),
                }
            }
        };
        assert_eq!(first, Some(Ok(1)));
        drop(numbers);
        scene.conserves(run, 1);
    });
    assert_eq!(summary.pending_points, 1, "{summary}");
}

/// What leaves with the stream: the item, and the place in the line.
#[test]
fn a_throttle_that_is_dropped_at_any_await_point_leaves_the_line() {
    let summary = sweep("Throttle", |run| {
        let scene = Scene::new();
        let mut numbers = Box::pin(scene.limiter.throttle(Numbers([1].into())));
        let ended = run.drive(next(&mut numbers), |_| scene.second());
        drop(numbers);
        scene.conserves(run, u32::from(!ended.is_dropped()));
    });
    assert_eq!(summary.pending_points, 1, "{summary}");
}

/// Waits for two tokens of a key, which come one a second, while somebody who wants one comes behind it.
fn tokens_of_a_key<F: Future<Output = Result<(), AcquireError>> + Send>(
    run: &mut Run,
    keyed: &Keyed<u8>,
    clock: &ManualClock,
    future: F,
) {
    let waker = CountingWaker::new();
    let woken = waker.waker();
    let mut cx = Context::from_waker(&woken);
    let mut behind = pin!(keyed.acquire(1, 1));
    let mut seconds = 0;
    let ended = run.drive(future, |step| {
        if step == 0 {
            assert!(behind.as_mut().poll(&mut cx).is_pending(), "one overtook the other");
        }
        clock.advance(SEC);
        seconds += 1;
    });
    let used = used(ended, 2);
    if behind.as_mut().poll(&mut cx).is_pending() {
        (seconds..used + 1).for_each(|_| clock.advance(SEC));
        seconds = seconds.max(used + 1);
        assert!(behind.as_mut().poll(&mut cx).is_ready(), "the one behind was not served");
    }
    // What came and was not used is there, and the key is as any other again.
    let left = keyed.available(&1).expect("it is there");
    assert_eq!(left + used + 1, seconds.min(used + 1 + 3));
    assert_eq!((clock.registered(), run.live_wakers()), (0, 0));
    assert!(keyed.try_acquire(&1, left).is_ok() && keyed.try_acquire(&1, 1).is_err());
    assert!(keyed.forget(&1), "nobody waits for it");
}

/// Three tokens at once for each key, one a second; none is left of one key.
fn keyed() -> (Keyed<u8>, ManualClock, Timer) {
    let (timer, clock) = Timer::manual();
    let keyed = Keyed::builder(Rate::every(SEC).burst(3), 4).timer(timer.clone()).build();
    keyed.try_acquire(&1, 3).unwrap();
    (keyed, clock, timer)
}

#[test]
fn an_acquire_of_a_key_loses_nothing_at_any_await_point() {
    let summary = sweep("AcquireKey", |run| {
        let (keyed, clock, _timer) = keyed();
        tokens_of_a_key(run, &keyed, &clock, keyed.acquire(1, 2));
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}

#[test]
fn an_acquire_of_a_key_within_a_context_loses_nothing_at_any_await_point() {
    let summary = sweep("AcquireKey", |run| {
        let (keyed, clock, timer) = keyed();
        let tree = Tree::background().child_with().timer(timer).timeout(100 * SEC).build();
        let (ctx, _canceller) = tree.unwrap();
        let future = keyed.acquire_in(&ctx, 1, 2);
        let (mut seconds, waker) = (0, CountingWaker::new());
        let woken = waker.waker();
        let mut behind = pin!(keyed.acquire(1, 1));
        let ended = run.drive(future, |step| {
            if step == 0 {
                let polled = behind.as_mut().poll(&mut Context::from_waker(&woken));
                assert!(polled.is_pending(), "one overtook the other");
            }
            clock.advance(SEC);
            seconds += 1;
        });
        let used = used(ended, 2);
        (seconds..used + 1).for_each(|_| clock.advance(SEC));
        let polled = behind.as_mut().poll(&mut Context::from_waker(&woken));
        assert!(polled.is_ready(), "the one behind was not served");
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}
