//! Limits as middleware.
#![cfg(all(not(selvedge_loom), feature = "tower"))]

mod support;

use std::cell::RefCell;
use std::future::{Ready, ready};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use selvedge_ratelimit::tower::{BackPressure, RateLimit, RateLimitError, RateLimitLayer};
use selvedge_ratelimit::{
    AcquireError, Keyed, Limiter, ManualClock, Quota, Rate, Timer, TimerError, TryAcquireError,
    WhenFull,
};
use selvedge_testkit::CountingWaker;
use support::{SEC, limiter, poll, spent};
use tower::{BoxError, Layer, Service};

/// What became of the requests, and what the service is to do.
#[derive(Default)]
struct State {
    called: Vec<u32>,
    /// It is not ready.
    busy: bool,
    /// Being ready fails.
    fails: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("broken")]
struct Broken;

/// Answers with the request. Not to be cloned, so that services that need no clone are shown not to.
#[derive(Default)]
struct Echo(Rc<RefCell<State>>);

/// The same, to be cloned.
#[derive(Clone, Default)]
struct Clones(Rc<RefCell<State>>);

macro_rules! echoes {
    ($($echo:ty),*) => {$(
        impl Service<u32> for $echo {
            type Response = u32;
            type Error = Broken;
            type Future = Ready<Result<u32, Broken>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
                match &*self.0.borrow() {
                    State { fails: true, .. } => Poll::Ready(Err(Broken)),
                    State { busy: true, .. } => Poll::Pending,
                    _ => Poll::Ready(Ok(())),
                }
            }

            fn call(&mut self, request: u32) -> Self::Future {
                let mut state = self.0.borrow_mut();
                assert!(!state.busy, "it was not ready");
                state.called.push(request);
                ready(Ok(request))
            }
        }
    )*};
}

echoes!(Echo, Clones);

impl Echo {
    fn called(&self) -> Vec<u32> {
        self.0.borrow().called.clone()
    }
}

type Held<S> = RateLimit<S, BackPressure>;

/// A service that is held back.
fn held(limiter: &Limiter) -> Held<Echo> {
    RateLimitLayer::new(limiter.clone()).layer(Echo::default())
}

fn is_ready<S: Service<u32>>(service: &mut S) -> Poll<Result<(), S::Error>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

/// What a call answers at once.
fn call<S: Service<u32>>(service: &mut S, request: u32) -> Poll<Result<S::Response, S::Error>> {
    poll(pin!(service.call(request)))
}

const READY: Poll<Result<(), RateLimitError<Broken>>> = Poll::Ready(Ok(()));

fn answer(request: u32) -> Poll<Result<u32, RateLimitError<Broken>>> {
    Poll::Ready(Ok(request))
}

fn refused(polled: Poll<Result<u32, RateLimitError<Broken>>>) -> TryAcquireError {
    match polled {
        Poll::Ready(Err(RateLimitError::Refused(error))) => error,
        other => panic!("{other:?}"),
    }
}

fn keyed(quota: Quota, max_keys: u32, when_full: WhenFull) -> (Arc<Keyed<u32>>, ManualClock) {
    let (timer, clock) = Timer::manual();
    let keyed = Keyed::builder(quota, max_keys).timer(timer).when_full(when_full).build();
    (Arc::new(keyed), clock)
}

#[test]
fn it_is_ready_when_it_has_a_token() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let mut service = held(&limiter);
    assert_eq!((is_ready(&mut service), call(&mut service, 1)), (READY, answer(1)));
    assert_eq!(is_ready(&mut service), Poll::Pending);
    clock.advance(SEC);
    assert_eq!((is_ready(&mut service), is_ready(&mut service)), (READY, READY));
    assert_eq!(call(&mut service, 2), answer(2));
    assert_eq!((service.get_ref().called(), limiter.available()), (vec![1, 2], 0));
}

#[test]
fn each_clone_has_its_own_place_and_all_are_woken() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(3));
    let first = RateLimitLayer::new(limiter.clone()).layer(Clones::default());
    let mut services = [first.clone(), first.clone(), first];
    let wakers: Vec<_> = services.iter().map(|_| CountingWaker::new()).collect();
    let poll = |service: &mut Held<Clones>, waker: &CountingWaker| {
        service.poll_ready(&mut Context::from_waker(&waker.waker()))
    };
    for (service, waker) in services.iter_mut().zip(&wakers) {
        assert!(poll(service, waker).is_pending());
    }
    assert_eq!(limiter.waiting(), 3);
    clock.advance(2 * SEC);
    let woken: Vec<_> = wakers.iter().map(|waker| waker.wakes()).collect();
    assert_eq!(woken, [1, 1, 0], "in their turn, and not the last one only");
    clock.advance(SEC);
    for (service, waker) in services.iter_mut().zip(&wakers) {
        assert_eq!((poll(service, waker), call(service, 1)), (READY, answer(1)));
    }
}

#[test]
fn a_clone_of_a_service_that_is_ready_is_not() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let mut service = RateLimitLayer::new(limiter.clone()).layer(Clones::default());
    assert_eq!(is_ready(&mut service), READY);
    let mut clone = service.clone();
    assert_eq!(is_ready(&mut clone), Poll::Pending);
    assert_eq!(call(&mut service, 1), answer(1), "the token is the first one's");
}

#[test]
fn a_token_that_is_not_used_goes_back() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let mut service = held(&limiter);
    assert_eq!((is_ready(&mut service), limiter.available()), (READY, 0));
    let mut behind = pin!(limiter.acquire(1));
    assert!(poll(behind.as_mut()).is_pending());
    drop(service);
    assert_eq!(poll(behind), Poll::Ready(Ok(())), "it goes to the next");

    clock.advance(SEC);
    let mut service = held(&limiter);
    assert_eq!(is_ready(&mut service), READY);
    assert!(service.into_inner().called().is_empty());
    assert_eq!(limiter.available(), 1);
}

#[test]
fn a_service_that_is_dropped_while_it_is_not_ready_leaves_the_line() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let mut service = held(&limiter);
    assert_eq!((is_ready(&mut service), limiter.waiting()), (Poll::Pending, 1));
    drop(service);
    assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
    // Granted, and not seen.
    let mut service = held(&limiter);
    assert_eq!(is_ready(&mut service), Poll::Pending);
    clock.advance(SEC);
    drop(service);
    assert_eq!(limiter.available(), 1);
}

#[test]
fn an_inner_service_that_is_not_ready_costs_no_token() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let mut service = held(&limiter);
    let state = service.get_ref().0.clone();
    state.borrow_mut().busy = true;
    assert_eq!((is_ready(&mut service), limiter.available()), (Poll::Pending, 1));
    state.borrow_mut().busy = false;
    assert_eq!((is_ready(&mut service), limiter.available()), (READY, 0));
    state.borrow_mut().fails = true;
    assert_eq!(is_ready(&mut service), Poll::Ready(Err(RateLimitError::Inner(Broken))));
}

#[test]
fn held_back_what_weighs_more_is_charged_late() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(2));
    let layer = RateLimitLayer::new(limiter.clone()).weigh(|request: &u32| *request);
    let mut service = layer.layer(Echo::default());
    assert_eq!((is_ready(&mut service), call(&mut service, 5)), (READY, answer(5)));
    assert_eq!((limiter.ready_in(1), limiter.available()), (Some(4 * SEC), 0));
    assert_eq!(is_ready(&mut service), Poll::Pending);
    clock.advance(4 * SEC);
    assert_eq!((is_ready(&mut service), call(&mut service, 0)), (READY, answer(0)));
    assert_eq!(call(&mut service, 1), answer(1), "what weighs nothing leaves the token");
    assert_eq!((is_ready(&mut service), limiter.available()), (Poll::Pending, 0));
}

#[test]
fn a_limiter_that_is_closed_is_told_by_every_mode() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let layer = RateLimitLayer::new(limiter.clone());
    let mut service = held(&limiter);
    assert_eq!(is_ready(&mut service), Poll::Pending);
    clock.lose();
    let lost = RateLimitError::NotAcquired(AcquireError::NoTimer(TimerError::Lost));
    assert_eq!(is_ready(&mut service), Poll::Ready(Err(lost)));
    clock.advance(SEC);
    assert_eq!(is_ready(&mut service), READY, "what can be had without a wait still can");
    limiter.close();
    assert_eq!(call(&mut service, 1), answer(1), "what was granted stays granted");
    let closed = RateLimitError::NotAcquired(AcquireError::Closed);
    assert_eq!(is_ready(&mut service), Poll::Ready(Err(closed.clone())));
    let mut delays = layer.clone().delay().layer(Clones::default());
    assert_eq!(call(&mut delays, 1), Poll::Ready(Err(closed)));
    let mut rejects = layer.reject().layer(Echo::default());
    assert_eq!(refused(call(&mut rejects, 1)), TryAcquireError::Closed);
}

#[test]
#[should_panic(expected = "`call` before `poll_ready` was ready")]
fn a_call_without_a_token_panics() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    drop(held(&limiter).call(1));
}

#[test]
#[should_panic(expected = "`call` before `poll_ready` was ready")]
fn a_call_before_its_token_has_come_panics() {
    let (limiter, _clock) = spent(Rate::every(SEC).burst(1));
    let mut service = held(&limiter);
    assert!(is_ready(&mut service).is_pending());
    let _ = call(&mut service, 1);
}

#[test]
fn too_much_is_rejected_at_once_with_when_to_retry() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let mut service = RateLimitLayer::new(limiter).reject().layer(Echo::default());
    assert_eq!((is_ready(&mut service), call(&mut service, 1)), (READY, answer(1)));
    let told = call(&mut service, 2);
    let Poll::Ready(Err(error)) = &told else { panic!("{told:?}") };
    assert_eq!(error.retry_in(), Some(SEC));
    assert_eq!(refused(told).retry_in(), Some(SEC));
    assert_eq!(service.get_ref().called(), [1]);
    clock.advance(SEC);
    assert_eq!(call(&mut service, 3), answer(3));
    service.get_ref().0.borrow_mut().busy = true;
    assert_eq!(is_ready(&mut service), Poll::Pending);
}

#[test]
fn rejected_requests_weigh() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(5));
    let layer = RateLimitLayer::new(limiter).reject().weigh(|request: &u32| *request);
    let mut service = layer.layer(Echo::default());
    assert_eq!((call(&mut service, 3), call(&mut service, 0)), (answer(3), answer(0)));
    assert_eq!(refused(call(&mut service, 3)).retry_in(), Some(SEC));
    assert_eq!(call(&mut service, 2), answer(2));
    let over = call(&mut service, 6);
    assert_eq!(refused(over), TryAcquireError::OverBurst { wanted: 6, burst: 5 });
}

#[test]
fn a_refusal_can_be_an_answer() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let layer = RateLimitLayer::new(limiter).reject().reject_with(|request: u32, refused| {
        assert_eq!(TryAcquireError::retry_in(&refused), Some(SEC));
        400 + request
    });
    let mut service = layer.layer(Echo::default());
    let ready: Poll<Result<(), Broken>> = is_ready(&mut service);
    assert_eq!(ready, Poll::Ready(Ok(())));
    assert_eq!(call(&mut service, 1), Poll::Ready(Ok(1)));
    assert_eq!(call(&mut service, 29), Poll::Ready(Ok(429)));
    assert_eq!(service.get_ref().called(), [1]);
}

#[test]
fn a_delayed_call_waits_for_all_its_tokens_and_then_for_the_service() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(2));
    let layer = RateLimitLayer::new(limiter.clone()).delay().weigh(|request: &u32| *request);
    let inner = Clones::default();
    inner.0.borrow_mut().busy = true;
    let mut service = layer.layer(inner.clone());
    assert_eq!(is_ready(&mut service), READY);
    let mut delayed = pin!(service.call(2));
    assert_eq!((poll(delayed.as_mut()), limiter.waiting()), (Poll::Pending, 1));
    assert!(format!("{delayed:?}").contains("waits for its tokens"), "{delayed:?}");
    clock.advance(2 * SEC);
    assert_eq!((poll(delayed.as_mut()), limiter.waiting()), (Poll::Pending, 0));
    assert!(format!("{delayed:?}").contains("has its tokens"), "{delayed:?}");
    inner.0.borrow_mut().busy = false;
    assert_eq!((poll(delayed.as_mut()), limiter.available()), (answer(2), 0));

    inner.0.borrow_mut().fails = true;
    clock.advance(SEC);
    assert_eq!(call(&mut service, 1), Poll::Ready(Err(RateLimitError::Inner(Broken))));
    let over = RateLimitError::NotAcquired(AcquireError::OverBurst { wanted: 3, burst: 2 });
    assert_eq!(call(&mut service, 3), Poll::Ready(Err(over)));
}

#[test]
fn a_delayed_call_that_is_dropped_lets_the_next_move_up() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let mut service = RateLimitLayer::new(limiter.clone()).delay().layer(Clones::default());
    let mut first = Box::pin(service.call(1));
    let mut second = pin!(service.call(2));
    assert_eq!((poll(first.as_mut()), poll(second.as_mut())), (Poll::Pending, Poll::Pending));
    clock.advance(SEC);
    drop(first);
    assert_eq!(poll(second), answer(2), "granted, not seen, and given on");
    assert_eq!((limiter.available(), limiter.waiting()), (0, 0));
}

#[test]
fn each_key_has_its_own_line() {
    let (keyed, clock) = keyed(Rate::every(SEC).burst(1), 10, WhenFull::Evict);
    let layer = RateLimitLayer::keyed(keyed.clone(), |request: &u32| request % 10);
    let mut service = layer.layer(Clones::default());
    assert_eq!(call(&mut service, 1), answer(1));
    let mut first = Box::pin(service.call(11));
    let mut second = pin!(service.call(21));
    assert_eq!((poll(first.as_mut()), poll(second.as_mut())), (Poll::Pending, Poll::Pending));
    assert_eq!(call(&mut service, 2), answer(2), "another key");
    drop(first);
    clock.advance(SEC);
    assert_eq!(poll(second), answer(21), "it moved up");
    assert_eq!(keyed.len(), 2);
}

#[test]
fn each_key_is_rejected_by_itself() {
    let (keyed, clock) = keyed(Rate::every(SEC).burst(3), 2, WhenFull::Refuse);
    let layer = RateLimitLayer::keyed(keyed, |request: &u32| request % 10);
    let weighed = layer.clone().reject().weigh(|request: &u32| request / 10);
    let mut service = weighed.layer(Echo::default());
    assert_eq!((call(&mut service, 31), call(&mut service, 22)), (answer(31), answer(22)));
    assert_eq!(refused(call(&mut service, 11)).retry_in(), Some(SEC));
    assert_eq!(call(&mut service, 12), answer(12));
    let full = TryAcquireError::TooManyKeys { max_keys: 2 };
    assert_eq!(refused(call(&mut service, 13)), full);
    let waits = call(&mut layer.layer(Clones::default()), 13);
    let full = RateLimitError::NotAcquired(AcquireError::TooManyKeys { max_keys: 2 });
    assert_eq!(waits, Poll::Ready(Err(full)));
    clock.advance(SEC);
    assert_eq!(call(&mut service, 11), answer(11));
}

#[test]
fn errors_say_what_went_wrong() {
    let inner = RateLimitError::Inner(Broken);
    assert_eq!((inner.to_string(), inner.retry_in()), ("broken".to_owned(), None));
    let refused: RateLimitError<BoxError> = RateLimitError::Refused(TryAcquireError::Closed);
    assert!(refused.into_boxed().is::<TryAcquireError>());
    let waited: RateLimitError<BoxError> = RateLimitError::NotAcquired(AcquireError::Closed);
    assert!(waited.into_boxed().is::<AcquireError>());
    let inner: RateLimitError<BoxError> = RateLimitError::Inner(Broken.into());
    assert!(inner.into_boxed().is::<Broken>());
    let boxed: BoxError = RateLimitError::Inner(Broken).into();
    assert!(boxed.is::<RateLimitError<Broken>>());
}

#[test]
fn they_say_who_they_are() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let layer = RateLimitLayer::new(limiter);
    let text = format!("{layer:?} {:?}", layer.clone().reject());
    assert!(text.contains("BackPressure") && text.contains("Reject") && text.contains("1/s"));
    let (keyed, _clock) = keyed(Rate::every(SEC).burst(1), 1, WhenFull::Refuse);
    let by_key = RateLimitLayer::keyed(keyed, |request: &u32| *request);
    let text = format!("{by_key:?} {:?}", by_key.layer(()));
    assert!(text.starts_with("RateLimitLayer") && text.contains("RateLimit {"), "{text}");
    assert!(text.contains("Delay(ByKey(Keyed"), "{text}");
}

#[cfg(feature = "tokio")]
mod under_tokio {
    use std::convert::Infallible;

    use tower::{ServiceBuilder, ServiceExt, service_fn};

    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_stack_of_services_goes_at_the_pace() {
        let timer = Timer::ambient().unwrap();
        let limiter = Limiter::with_timer(Rate::every(SEC).burst(2), timer);
        let inner = service_fn(async |number: u32| Ok::<_, Infallible>(number));
        let mut service = ServiceBuilder::new()
            .map_response(|number: u32| number + 1)
            .layer(RateLimitLayer::new(limiter))
            .service(inner);
        let start = tokio::time::Instant::now();
        for number in 0..5 {
            assert_eq!(service.ready().await.unwrap().call(number).await, Ok(number + 1));
        }
        assert_eq!(start.elapsed(), 3 * SEC);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn all_clones_on_all_threads_are_served() {
        let inner = service_fn(async |number: u32| Ok::<_, Infallible>(number));
        let layer = RateLimitLayer::new(Limiter::new(Rate::per_second(20_000).burst(3)));
        let (held, delays) = (layer.layer(inner), layer.clone().delay().layer(inner));
        let tasks = (0..16).map(|_| {
            let (mut held, mut delays) = (held.clone(), delays.clone());
            tokio::spawn(async move {
                for number in 0..20 {
                    assert_eq!(held.ready().await.unwrap().call(number).await, Ok(number));
                    assert_eq!(delays.ready().await.unwrap().call(number).await, Ok(number));
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            tokio::time::timeout(support::LIMIT, task).await.expect("it hangs").unwrap();
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn loops_of_calls_that_are_answered_at_once_yield() {
        const CALLS: u32 = 10_000;
        let fast = Rate::per_second(Rate::MAX_PER_SECOND).burst(u32::MAX);
        let keyed: Arc<Keyed<u32>> = Arc::new(Keyed::new(fast, 10));
        let by_key = RateLimitLayer::keyed(keyed, |request: &u32| request % 2);
        let layer = RateLimitLayer::new(Limiter::new(fast));
        let (refuses, _clock) = spent(Rate::every(SEC).burst(1));
        let refuses = RateLimitLayer::new(refuses).reject();

        macro_rules! turns {
            ($layer:expr) => {{
                let mut service = $layer.layer(Clones::default());
                let calls = async move {
                    for number in 0..CALLS {
                        let _ = service.ready().await.unwrap().call(number).await;
                    }
                };
                support::turns_of_another(calls).await
            }};
        }
        let turns = [
            turns!(layer.clone()),
            turns!(layer.clone().delay()),
            turns!(layer.reject()),
            turns!(by_key.clone()),
            turns!(by_key.reject()),
            turns!(refuses.clone()),
            turns!(refuses.reject_with(|_: u32, _| 0)),
        ];
        assert!(turns.iter().all(|turns| *turns >= CALLS / 128 - 1), "{turns:?}");
    }
}
