//! A sink at the pace of a limiter.
#![cfg(all(not(selvedge_loom), feature = "sink"))]

mod support;

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_sink::Sink;
use selvedge_ratelimit::{AcquireError, Rate, ThrottleSink, ThrottleSinkError, TimerError};
use support::{SEC, limiter, spent};

/// What became of the items, and what the sink is to do.
#[derive(Default)]
struct State {
    taken: Vec<u32>,
    flushed: usize,
    closed: bool,
    /// It has no room.
    full: bool,
    /// It fails at the next thing it is asked for.
    fails: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Broken;

/// Writes down what it takes.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<State>>);

impl Log {
    fn taken(&self) -> Vec<u32> {
        self.0.borrow().taken.clone()
    }

    fn has_room(&self, room: bool) {
        let mut state = self.0.borrow_mut();
        state.full = !room;
        state.waker.take().into_iter().for_each(Waker::wake);
    }

    fn fails(&self) {
        self.0.borrow_mut().fails = true;
    }
}

impl State {
    fn look(&mut self) -> Result<&mut Self, Broken> {
        if std::mem::take(&mut self.fails) { Err(Broken) } else { Ok(self) }
    }
}

impl Sink<u32> for Log {
    type Error = Broken;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = self.0.borrow_mut();
        if state.look()?.full {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, item: u32) -> Result<(), Broken> {
        let mut state = self.0.borrow_mut();
        assert!(!state.full && !state.closed, "it was not ready");
        state.look()?.taken.push(item);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = self.0.borrow_mut();
        state.flushed = state.look()?.taken.len();
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.0.borrow_mut().look()?.closed = true;
        Poll::Ready(Ok(()))
    }
}

type Told = Poll<Result<(), ThrottleSinkError<Broken>>>;

const READY: Told = Poll::Ready(Ok(()));

fn ready<W: FnMut(&u32) -> u32>(sink: &mut Pin<&mut ThrottleSink<Log, u32, W>>) -> Told {
    sink.as_mut().poll_ready(&mut Context::from_waker(Waker::noop()))
}

fn flush<W: FnMut(&u32) -> u32>(sink: &mut Pin<&mut ThrottleSink<Log, u32, W>>) -> Told {
    sink.as_mut().poll_flush(&mut Context::from_waker(Waker::noop()))
}

fn close<W: FnMut(&u32) -> u32>(sink: &mut Pin<&mut ThrottleSink<Log, u32, W>>) -> Told {
    sink.as_mut().poll_close(&mut Context::from_waker(Waker::noop()))
}

/// Sends if there is room.
#[track_caller]
fn send<W: FnMut(&u32) -> u32>(sink: &mut Pin<&mut ThrottleSink<Log, u32, W>>, item: u32) -> bool {
    let room = ready(sink).map(Result::unwrap).is_ready();
    if room {
        sink.as_mut().start_send(item).unwrap();
    }
    room
}

#[test]
fn each_item_takes_a_token_and_waits_for_it() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(2));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()));
    assert!(send(&mut sink, 1) && send(&mut sink, 2) && send(&mut sink, 3));
    assert_eq!((ready(&mut sink), log.taken()), (Poll::Pending, vec![1, 2]));
    assert_eq!(limiter.waiting(), 1);
    clock.advance(SEC);
    assert!(send(&mut sink, 4));
    assert_eq!((flush(&mut sink), log.taken()), (Poll::Pending, vec![1, 2, 3]));
    clock.advance(SEC);
    assert_eq!((flush(&mut sink), log.taken()), (READY, vec![1, 2, 3, 4]));
    assert_eq!((flush(&mut sink), limiter.waiting()), (READY, 0));
}

#[test]
fn what_was_handed_on_is_flushed_while_another_waits() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()));
    assert!(send(&mut sink, 1) && send(&mut sink, 2));
    assert_eq!(ready(&mut sink), Poll::Pending);
    assert_eq!(log.0.borrow().flushed, 1, "the first does not wait with the second");
    clock.advance(SEC);
    assert_eq!((ready(&mut sink), log.0.borrow().flushed), (READY, 1));
    assert_eq!((flush(&mut sink), log.0.borrow().flushed), (READY, 2));
}

#[test]
fn a_sink_that_has_no_room_costs_no_token() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let log = Log::default();
    log.has_room(false);
    let mut sink = pin!(limiter.throttle_sink(log.clone()));
    assert!(send(&mut sink, 1), "there is room for one in here");
    assert_eq!((ready(&mut sink), limiter.available()), (Poll::Pending, 1));
    log.has_room(true);
    assert_eq!((ready(&mut sink), limiter.available(), log.taken()), (READY, 0, vec![1]));
}

#[test]
fn room_that_goes_again_while_it_waits_is_waited_for() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()));
    assert!(send(&mut sink, 1));
    assert_eq!(ready(&mut sink), Poll::Pending);
    log.has_room(false);
    clock.advance(SEC);
    assert_eq!(ready(&mut sink), Poll::Pending, "its token is there");
    log.has_room(true);
    assert_eq!((ready(&mut sink), log.taken()), (READY, vec![1]));
    assert_eq!(limiter.available(), 0, "one token, not two");
}

#[test]
fn close_hands_on_what_waits() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()));
    assert!(send(&mut sink, 1) && send(&mut sink, 2));
    assert_eq!((close(&mut sink), log.0.borrow().closed), (Poll::Pending, false));
    clock.advance(SEC);
    assert_eq!((close(&mut sink), log.0.borrow().closed), (READY, true));
    assert_eq!(log.taken(), [1, 2]);
}

#[test]
fn an_item_takes_as_many_tokens_as_it_weighs() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(5));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()).weigh(|item: &u32| *item));
    assert!(send(&mut sink, 3) && send(&mut sink, 0) && send(&mut sink, 4));
    assert_eq!((ready(&mut sink), log.taken()), (Poll::Pending, vec![3, 0]));
    clock.advance(2 * SEC);
    assert_eq!((ready(&mut sink), log.taken()), (READY, vec![3, 0, 4]));
    assert_eq!(limiter.available(), 0);
}

#[test]
fn an_item_that_weighs_nothing_waits_for_nobody() {
    let (limiter, _clock) = spent(Rate::every(SEC).burst(1));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()).weigh(|_: &u32| 0));
    assert!(send(&mut sink, 1));
    assert_eq!((flush(&mut sink), log.taken()), (READY, vec![1]));
}

#[test]
fn an_item_heavier_than_the_burst_takes_its_tokens_in_parts() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(2));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()).weigh(|_: &u32| 5));
    assert!(send(&mut sink, 1));
    for _ in 0..3 {
        assert_eq!(ready(&mut sink), Poll::Pending);
        clock.advance(SEC);
    }
    assert_eq!((ready(&mut sink), log.taken()), (READY, vec![1]));
    assert_eq!(limiter.available(), 0);
}

#[test]
fn the_item_that_waits_can_be_taken_out() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()));
    assert_eq!(sink.as_mut().take_waiting(), None);
    assert!(send(&mut sink, 1));
    assert_eq!((ready(&mut sink), clock.registered()), (Poll::Pending, 1));
    assert_eq!(sink.as_mut().take_waiting(), Some(1));
    assert_eq!((ready(&mut sink), clock.registered()), (READY, 0));
    assert_eq!((close(&mut sink), log.taken()), (READY, vec![]));
}

#[test]
fn a_limiter_that_is_closed_keeps_the_item() {
    let (limiter, _clock) = spent(Rate::every(SEC).burst(1));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()));
    assert!(send(&mut sink, 1));
    assert_eq!(ready(&mut sink), Poll::Pending);
    limiter.close();
    let closed = Poll::Ready(Err(ThrottleSinkError::NotAcquired(AcquireError::Closed)));
    assert_eq!((ready(&mut sink), close(&mut sink)), (closed.clone(), closed));
    assert_eq!((log.0.borrow().closed, sink.as_mut().take_waiting()), (false, Some(1)));
    assert_eq!((close(&mut sink), log.0.borrow().closed), (READY, true));
}

#[test]
fn a_timer_that_is_gone_is_told_until_the_token_is_there() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(1));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()));
    assert!(send(&mut sink, 1));
    assert_eq!(ready(&mut sink), Poll::Pending);
    clock.lose();
    let told = ThrottleSinkError::NotAcquired(AcquireError::NoTimer(TimerError::Lost));
    assert_eq!(ready(&mut sink), Poll::Ready(Err(told)));
    clock.advance(SEC);
    assert_eq!((ready(&mut sink), log.taken()), (READY, vec![1]), "without a wait it can be had");
}

#[test]
fn a_sink_that_fails_before_it_takes_the_item_does_not_lose_it() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let log = Log::default();
    let mut sink = pin!(limiter.throttle_sink(log.clone()));
    assert!(send(&mut sink, 1));
    log.fails();
    assert_eq!(ready(&mut sink), Poll::Ready(Err(ThrottleSinkError::Inner(Broken))));
    assert_eq!(limiter.available(), 1);
    assert_eq!((flush(&mut sink), log.taken()), (READY, vec![1]));
    log.fails();
    assert_eq!(flush(&mut sink), Poll::Ready(Err(ThrottleSinkError::Inner(Broken))));
}

#[test]
fn it_says_who_it_is() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let text = format!("{:?}", limiter.throttle_sink::<_, u32>(Log::default()));
    assert!(text.starts_with("ThrottleSink") && text.contains("waiting: false"), "{text}");
}

#[test]
#[should_panic(expected = "`start_send` without `poll_ready`")]
fn sending_without_being_ready_panics() {
    let (limiter, _clock) = spent(Rate::every(SEC).burst(1));
    let mut sink = pin!(limiter.throttle_sink(Log::default()));
    sink.as_mut().start_send(1).unwrap();
    let _ = sink.as_mut().start_send(2);
}

#[cfg(feature = "tokio")]
#[tokio::test(flavor = "current_thread")]
async fn an_always_ready_sink_yields_to_tokio() {
    use selvedge_ratelimit::Limiter;
    use std::future::poll_fn;

    let limiter = Limiter::new(Rate::per_second(Rate::MAX_PER_SECOND).burst(u32::MAX));
    let turns = support::turns_of_another(async {
        let mut sink = pin!(limiter.throttle_sink(Log::default()));
        for item in 0..10_000 {
            poll_fn(|cx| sink.as_mut().poll_ready(cx)).await.unwrap();
            sink.as_mut().start_send(item).unwrap();
        }
    });
    let turns = turns.await;
    assert!(turns >= 10_000 / 128 - 1, "{turns}");
}
