//! The futures of the adapters, and sinks, dropped, woken and dropped, moved and panicked over at each of their await points. After each: no token
//! is lost and none is made, no waker and no registration is left.
#![cfg(all(not(selvedge_loom), any(feature = "sink", feature = "tower")))]

mod support;

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use selvedge_ratelimit::{ManualClock, Rate, Timer};
use selvedge_testkit::{CountingWaker, Run, sweep};
use support::SEC;
use support::scene::Scene;

/// Where numbers go at once.
#[cfg(feature = "sink")]
#[derive(Default)]
struct Taken(Vec<u32>);

#[cfg(feature = "sink")]
impl futures_sink::Sink<u32> for Taken {
    type Error = std::convert::Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, item: u32) -> Result<(), Self::Error> {
        self.0.push(item);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

/// Flushes a sink.
#[cfg(feature = "sink")]
struct Flush<'a, Si>(Pin<&'a mut Si>);

#[cfg(feature = "sink")]
impl<Si: futures_sink::Sink<u32>> Future for Flush<'_, Si> {
    type Output = Result<(), Si::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll_flush(cx)
    }
}

#[cfg(feature = "sink")]
#[test]
fn a_throttled_sink_loses_nothing_at_any_await_point() {
    use futures_sink::Sink;
    use selvedge_cancel::Context as Tree;

    let summary = sweep("ThrottleSink", |run| {
        let scene = Scene::new();
        let mut taken = Taken::default();
        let mut sink = Box::pin(scene.limiter.throttle_sink(&mut taken).weigh(|_: &u32| 2));
        sink.as_mut().start_send(1).unwrap();
        let (ctx, canceller) = Tree::background().child();
        let flush = Flush(sink.as_mut());
        run.drive_cancel(ctx.run(flush), |_| scene.second(), || canceller.cancel());
        // A flush that is given up loses neither the item nor the place in the line.
        let task = CountingWaker::new();
        let waker = task.waker();
        let mut cx = Context::from_waker(&waker);
        while sink.as_mut().poll_flush(&mut cx).map(Result::unwrap).is_pending() {
            scene.second();
        }
        drop(sink);
        assert_eq!(taken.0, [1]);
        scene.conserves(run, 2);
    });
    assert_eq!(summary.pending_points, 2, "{summary}");
}

#[cfg(feature = "tower")]
mod tower {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use ::tower::{Layer, Service, service_fn};
    use selvedge_ratelimit::Keyed;
    use selvedge_ratelimit::tower::RateLimitLayer;
    use selvedge_testkit::{Ended, yield_now};

    use super::*;

    /// A key that has no token; one comes a second.
    struct KeyScene {
        keyed: Arc<Keyed<u32>>,
        clock: ManualClock,
        seconds: Cell<u32>,
    }

    impl KeyScene {
        fn new() -> Self {
            let (timer, clock) = Timer::manual();
            let keyed = Keyed::builder(Rate::every(SEC).burst(3), 10).timer(timer).build();
            keyed.try_acquire(&1, 3).unwrap();
            Self { keyed: Arc::new(keyed), clock, seconds: Cell::new(0) }
        }

        fn second(&self) {
            self.clock.advance(SEC);
            self.seconds.set(self.seconds.get() + 1);
        }

        #[track_caller]
        fn conserves(&self, run: &Run, used: u32) {
            assert_eq!(self.keyed.available(&1), Some(self.seconds.get() - used));
            assert_eq!((self.clock.registered(), run.live_wakers()), (0, 0));
            self.keyed.try_acquire(&1, self.seconds.get() - used).expect("nobody is in line");
        }
    }

    /// Answers at the second poll. Says how often it was called.
    fn slow()
    -> (impl Service<u32, Response = u32, Error = Infallible, Future: Send> + Clone, Arc<AtomicU32>)
    {
        let calls = Arc::new(AtomicU32::new(0));
        let called = calls.clone();
        let service = service_fn(move |request: u32| {
            called.fetch_add(1, Ordering::Relaxed);
            async move {
                yield_now().await;
                Ok(request)
            }
        });
        (service, calls)
    }

    #[test]
    fn a_call_that_was_admitted_has_spent_its_token_at_any_await_point() {
        let summary = sweep("Admitted", |run| {
            let scene = Scene::new();
            scene.second();
            let mut service = RateLimitLayer::new(scene.limiter.clone()).layer(slow().0);
            let task = CountingWaker::new();
            assert!(service.poll_ready(&mut Context::from_waker(&task.waker())).is_ready());
            let ended = run.drive(service.call(1), |_| ());
            assert!(matches!(ended, Ended::Dropped | Ended::Ready(Ok(1))));
            drop(service);
            scene.conserves(run, 1);
        });
        assert_eq!(summary.pending_points, 1, "{summary}");
    }

    /// Waits until a service is ready.
    struct IsReady<'a, S>(&'a mut S);

    impl<S: Service<u32>> Future for IsReady<'_, S> {
        type Output = Result<(), S::Error>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            self.0.poll_ready(cx)
        }
    }

    #[test]
    fn a_service_that_is_held_back_loses_nothing_at_any_await_point() {
        let summary = sweep("RateLimit", |run| {
            let scene = Scene::new();
            let mut service = RateLimitLayer::new(scene.limiter.clone()).layer(slow().0);
            run.drive(IsReady(&mut service), |_| scene.second());
            // The place in the line, and the token, are the service's.
            let kept = scene.limiter.waiting() + scene.seconds.get() as usize;
            assert!(kept <= 1 && scene.limiter.available() == 0);
            drop(service);
            scene.conserves(run, 0);
        });
        assert_eq!(summary.pending_points, 1, "{summary}");
    }

    #[test]
    fn a_call_that_was_rejected_has_spent_nothing_at_any_await_point() {
        for seconds in [0, 1] {
            let summary = sweep("Admitted", |run| {
                let scene = Scene::new();
                (0..seconds).for_each(|_| scene.second());
                let layer = RateLimitLayer::new(scene.limiter.clone()).reject();
                match run.drive(layer.layer(slow().0).call(1), |_| ()) {
                    Ended::Ready(Err(error)) => assert_eq!(error.retry_in(), Some(SEC)),
                    Ended::Ready(Ok(answer)) => assert_eq!((answer, seconds), (1, 1)),
                    Ended::Dropped => {}
                }
                scene.conserves(run, seconds);
            });
            assert_eq!(summary.pending_points, seconds as usize, "{summary}");
        }
    }

    #[test]
    fn a_call_that_has_an_answer_has_it_at_any_await_point() {
        for seconds in [0, 1] {
            let summary = sweep("Answered", |run| {
                let scene = Scene::new();
                (0..seconds).for_each(|_| scene.second());
                let layer = RateLimitLayer::new(scene.limiter.clone()).reject();
                let mut service = layer.reject_with(|_: u32, _| 429).layer(slow().0);
                if let Ended::Ready(answer) = run.drive(service.call(1), |_| ()) {
                    assert_eq!(answer, Ok(if seconds == 0 { 429 } else { 1 }));
                }
                scene.conserves(run, seconds);
            });
            assert_eq!(summary.pending_points, seconds as usize, "{summary}");
        }
    }

    /// Given up while it waits, a call has taken nothing; later, all.
    #[test]
    fn a_delayed_call_loses_nothing_at_any_await_point() {
        let summary = sweep("Delayed", |run| {
            let scene = Scene::new();
            let layer = RateLimitLayer::new(scene.limiter.clone()).delay().weigh(|_: &u32| 2);
            let (inner, calls) = slow();
            run.drive(layer.layer(inner).call(1), |_| scene.second());
            scene.conserves(run, 2 * calls.load(Ordering::Relaxed));
        });
        assert_eq!(summary.pending_points, 3, "{summary}");
    }

    #[test]
    fn a_delayed_call_of_a_key_loses_nothing_at_any_await_point() {
        let summary = sweep("Delayed", |run| {
            let scene = KeyScene::new();
            let layer = RateLimitLayer::keyed(scene.keyed.clone(), |request: &u32| *request);
            let (inner, calls) = slow();
            run.drive(layer.layer(inner).call(1), |_| scene.second());
            scene.conserves(run, calls.load(Ordering::Relaxed));
        });
        assert_eq!(summary.pending_points, 2, "{summary}");
    }

    #[test]
    fn an_owned_acquire_of_a_key_loses_nothing_at_any_await_point() {
        let summary = sweep("AcquireKey", |run| {
            let scene = KeyScene::new();
            let ended = run.drive(scene.keyed.acquire_owned(1, 2), |_| scene.second());
            scene.conserves(run, if matches!(ended, Ended::Ready(Ok(()))) { 2 } else { 0 });
        });
        assert_eq!(summary.pending_points, 2, "{summary}");
    }
}
