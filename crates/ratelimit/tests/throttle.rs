//! A stream at the pace of a limiter.
#![cfg(not(selvedge_loom))]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use selvedge_ratelimit::{AcquireError, Limiter, Rate, Timer, TimerError};
use support::{SEC, limiter};

/// Counts down; every second poll is pending if it dawdles.
struct CountDown {
    left: u32,
    dawdles: bool,
    pending: bool,
}

fn count_down(left: u32) -> CountDown {
    CountDown { left, dawdles: false, pending: false }
}

impl Stream for CountDown {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        if self.dawdles && !self.pending {
            self.pending = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.pending = false;
        Poll::Ready(self.left.checked_sub(1).inspect(|left| self.left = *left))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

fn poll<S: Stream>(stream: Pin<&mut S>) -> Poll<Option<S::Item>> {
    stream.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn item(polled: Poll<Option<Result<u32, AcquireError>>>) -> Option<u32> {
    match polled {
        Poll::Ready(item) => Some(item.expect("it has not ended").unwrap()),
        Poll::Pending => None,
    }
}

#[test]
fn each_item_takes_a_token_and_waits_for_it() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(2));
    let mut stream = pin!(limiter.throttle(count_down(4)));
    assert_eq!(stream.size_hint(), (4, Some(4)));
    assert_eq!(item(poll(stream.as_mut())), Some(3));
    assert_eq!(item(poll(stream.as_mut())), Some(2));
    assert_eq!(item(poll(stream.as_mut())), None);
    assert_eq!(stream.size_hint(), (2, Some(2)), "the one that waits counts");
    clock.advance(SEC);
    assert_eq!(item(poll(stream.as_mut())), Some(1));
    assert_eq!(item(poll(stream.as_mut())), None);
    clock.advance(SEC);
    assert_eq!(item(poll(stream.as_mut())), Some(0));
    assert!(matches!(poll(stream.as_mut()), Poll::Ready(None)), "the end takes no token");
}

#[test]
fn a_stream_that_has_nothing_takes_no_token() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let mut stream = pin!(limiter.throttle(CountDown { dawdles: true, ..count_down(1) }));
    assert_eq!(item(poll(stream.as_mut())), None);
    assert_eq!(limiter.available(), 1);
    assert_eq!(item(poll(stream.as_mut())), Some(0));
    assert_eq!(limiter.available(), 0);
}

#[test]
fn the_item_that_waits_can_be_taken_out() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let mut stream = Box::pin(limiter.throttle(count_down(3)));
    assert_eq!(stream.as_mut().take_waiting(), None);
    assert_eq!(item(poll(stream.as_mut())), Some(2));
    assert_eq!(item(poll(stream.as_mut())), None);
    assert_eq!(clock.registered(), 1);
    assert_eq!(stream.as_mut().take_waiting(), Some(1));
    assert_eq!(clock.registered(), 0, "it has left the line");
    clock.advance(SEC);
    assert_eq!(item(poll(stream.as_mut())), Some(0), "the next one");
}

#[test]
fn a_timer_that_is_gone_is_shown_once_and_then_it_has_ended() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let mut stream = pin!(limiter.throttle(count_down(3)));
    assert_eq!(item(poll(stream.as_mut())), Some(2));
    assert_eq!(item(poll(stream.as_mut())), None);
    clock.lose();
    let Poll::Ready(Some(given)) = poll(stream.as_mut()) else { panic!("it was told") };
    assert_eq!(given, Err(AcquireError::NoTimer(TimerError::Lost)));
    assert!(matches!(poll(stream.as_mut()), Poll::Ready(None)));
    assert_eq!(stream.size_hint(), (0, Some(0)));
    assert_eq!(stream.as_mut().take_waiting(), Some(1));
}

#[test]
fn a_limiter_that_is_closed_is_shown_once_and_then_it_has_ended() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let mut stream = pin!(limiter.throttle(count_down(3)));
    assert_eq!(item(poll(stream.as_mut())), Some(2));
    limiter.close();
    assert_eq!(poll(stream.as_mut()), Poll::Ready(Some(Err(AcquireError::Closed))));
    assert_eq!(poll(stream.as_mut()), Poll::Ready(None));
    assert_eq!(stream.as_mut().take_waiting(), Some(1));
}

#[test]
fn an_item_takes_as_many_tokens_as_it_weighs() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(5));
    let asked = std::cell::Cell::new(0);
    let weigh = |item: &u32| {
        asked.set(asked.get() + 1);
        *item
    };
    let mut stream = pin!(limiter.throttle(count_down(4)).weigh(weigh));
    assert_eq!(item(poll(stream.as_mut())), Some(3));
    assert_eq!((item(poll(stream.as_mut())), limiter.available()), (Some(2), 0));
    assert_eq!((item(poll(stream.as_mut())), item(poll(stream.as_mut()))), (None, None));
    clock.advance(SEC);
    assert_eq!(item(poll(stream.as_mut())), Some(1));
    assert_eq!((item(poll(stream.as_mut())), asked.get()), (Some(0), 4), "nothing is free");
}

#[test]
fn an_item_heavier_than_the_burst_takes_its_tokens_in_parts() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(2));
    let mut stream = pin!(limiter.throttle(count_down(2)).weigh(|_: &u32| 5));
    for _ in 0..3 {
        assert_eq!(item(poll(stream.as_mut())), None);
        clock.advance(SEC);
    }
    assert_eq!((item(poll(stream.as_mut())), limiter.available()), (Some(1), 0));
}

#[test]
fn after_an_error_it_goes_on_without_the_item() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let mut stream = pin!(limiter.throttle(count_down(3)));
    assert_eq!(item(poll(stream.as_mut())), Some(2));
    assert_eq!(item(poll(stream.as_mut())), None);
    clock.lose();
    let lost = AcquireError::NoTimer(TimerError::Lost);
    assert_eq!(poll(stream.as_mut()), Poll::Ready(Some(Err(lost))));
    assert_eq!(poll(stream.as_mut()), Poll::Ready(None));
    assert_eq!(stream.as_mut().take_waiting(), Some(1));
    clock.advance(SEC);
    assert_eq!(item(poll(stream.as_mut())), Some(0));
    assert_eq!(poll(stream.as_mut()), Poll::Ready(None));
}

#[test]
fn a_quota_that_changes_changes_the_pace() {
    let (limiter, clock) = limiter(Rate::every(3600 * SEC).burst(1));
    let mut stream = pin!(limiter.throttle(count_down(3)));
    assert_eq!(item(poll(stream.as_mut())), Some(2));
    assert_eq!(item(poll(stream.as_mut())), None);
    limiter.set_rate(Rate::every(SEC));
    clock.advance(SEC);
    assert_eq!(item(poll(stream.as_mut())), Some(1));
    limiter.set_rate(Rate::UNLIMITED);
    assert_eq!(item(poll(stream.as_mut())), Some(0));
}

#[test]
fn it_stands_in_one_line_with_all_others() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(1));
    let mut one = pin!(limiter.throttle(count_down(3)));
    let mut other = pin!(limiter.throttle(count_down(3)));
    assert_eq!(item(poll(one.as_mut())), Some(2));
    assert_eq!((item(poll(other.as_mut())), item(poll(one.as_mut()))), (None, None));
    assert_eq!(limiter.waiting(), 2);
    clock.advance(SEC);
    assert_eq!((item(poll(one.as_mut())), item(poll(other.as_mut()))), (None, Some(2)));
    clock.advance(SEC);
    assert_eq!((item(poll(other.as_mut())), item(poll(one.as_mut()))), (None, Some(1)));
}

#[test]
fn it_says_who_it_is() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(1));
    let text = format!("{:?}", limiter.throttle(count_down(1)));
    assert!(text.starts_with("Throttle") && text.contains("1/s"), "{text}");
    assert!(text.contains("1 tokens to be had") && text.contains("waiting: false"), "{text}");
}

#[cfg(feature = "tokio")]
#[tokio::test(flavor = "current_thread")]
async fn an_always_ready_stream_yields_to_tokio() {
    let limiter = Limiter::new(Rate::per_second(Rate::MAX_PER_SECOND).burst(u32::MAX));
    let turns = support::turns_of_another(async {
        let mut stream = Box::pin(limiter.throttle(count_down(10_000)));
        while selvedge_testkit::next(&mut stream).await.is_some() {}
    });
    let turns = turns.await;
    assert!(turns >= 10_000 / 128 - 1, "{turns}");
}

#[cfg(feature = "tokio")]
#[test]
fn a_runtime_that_is_shut_down_ends_the_stream_of_another_thread() {
    use selvedge_testkit::{block_on, next, watchdog};

    watchdog(Duration::from_secs(30), "a throttled stream", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
        let timer = Timer::tokio(runtime.handle()).unwrap();
        let limiter = Limiter::with_timer(Rate::every(3600 * SEC).burst(1), timer);
        let other = limiter.clone();
        let reads = std::thread::spawn(move || {
            let mut numbers = Box::pin(limiter.throttle(count_down(9)));
            let first = block_on(next(&mut numbers));
            (first, block_on(next(&mut numbers)))
        });
        while other.waiting() == 0 {
            std::thread::yield_now();
        }
        drop(runtime);
        let lost = AcquireError::NoTimer(TimerError::Lost);
        assert_eq!(reads.join().unwrap(), (Some(Ok(8)), Some(Err(lost))));
    });
}

#[test]
fn an_item_whose_weight_panics_stays_and_is_weighed_again() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(2));
    let mut panics = true;
    let weigh =
        |_: &u32| if std::mem::take(&mut panics) { panic!("it weighs nobody knows") } else { 2 };
    let mut stream = pin!(limiter.throttle(count_down(2)).weigh(weigh));
    let polled = catch_unwind(AssertUnwindSafe(|| poll(stream.as_mut())));
    assert!(polled.is_err());
    assert_eq!((stream.size_hint(), limiter.available()), ((2, Some(2)), 2));
    assert_eq!(item(poll(stream.as_mut())), Some(1), "the first is not lost");
    assert_eq!(limiter.available(), 0);
}
