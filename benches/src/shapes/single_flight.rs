//! The single flight beside asyncband's.
//!
//! An operation of the first shape is what a caller costs that finds its key in flight and does not
//! stay: it joins, is pending, and leaves. Of the second, what one of 64 callers costs from its call to the result, in a
//! flight that is woken once. Of the third, what a call costs that finds nothing and is done at once.

use std::future::{pending, poll_fn, ready};
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use selvedge_sync::SingleFlight;

use super::poll;
use crate::harness::threads::together;
use crate::harness::{Count, Shape, Work};

type Ours = SingleFlight<u64, u64, ()>;
type Theirs = asyncband::singleflight::Group<u64, u64>;

/// The key in flight.
const KEY: u64 = 7;

/// How many callers a flight of the second shape has.
const CALLERS: u64 = 64;

/// The shapes.
pub(super) fn shapes() -> Vec<Shape> {
    let mut shapes: Vec<_> = [1, 2, 16].map(join_and_leave).into();
    shapes.extend([herd(), alone(1), alone(2)]);
    shapes
}

/// Callers that find their key in flight, and leave.
fn join_and_leave(threads: usize) -> Shape {
    let parameter = format!("{threads} threads");
    Shape::new("sync", "single flight: join and leave", parameter, Work::Calibrated(threads as u64))
        .ours(move |n| {
            let flights = Ours::new();
            let mut stays = pin!(flights.run(KEY, pending::<Result<u64, ()>>));
            poll::pending(stays.as_mut(), Waker::noop());
            together(threads, n, |_, share| {
                for _ in 0..share {
                    poll::pending(pin!(flights.run(KEY, || ready(Ok(1)))), Waker::noop());
                }
            })
        })
        .peer("asyncband", move |n| {
            let flights = Theirs::new();
            let mut stays = pin!(flights.work(KEY, async || pending::<u64>().await));
            poll::pending(stays.as_mut(), Waker::noop());
            together(threads, n, |_, share| {
                for _ in 0..share {
                    poll::pending(pin!(flights.work(KEY, async || 1)), Waker::noop());
                }
            })
        })
}

/// Work that ends when it is told to.
#[derive(Default)]
struct Told {
    /// Whether it was, and who is to be woken.
    told: Mutex<(bool, Option<Waker>)>,
}

impl Told {
    fn poll(&self, cx: &Context<'_>) -> Poll<u64> {
        let mut told = self.told.lock().expect("nobody panics");
        if told.0 {
            return Poll::Ready(1);
        }
        told.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    fn tell(&self) {
        let mut told = self.told.lock().expect("nobody panics");
        told.0 = true;
        let waker = told.1.take();
        drop(told);
        waker.expect("it was polled").wake();
    }
}

/// Callers that stay until the end.
fn herd() -> Shape {
    Shape::new("sync", "single flight: a herd", "64 callers", Work::Calibrated(CALLERS))
        .ours(|n| {
            let flights = Ours::new();
            Count::time(|| {
                for _ in 0..n / CALLERS {
                    let work = std::sync::Arc::new(Told::default());
                    let call = |_| {
                        let work = std::sync::Arc::clone(&work);
                        flights.run(KEY, || poll_fn(move |cx| work.poll(cx).map(Ok)))
                    };
                    let mut calls = poll::waiting((0..CALLERS).map(call), Waker::noop());
                    work.tell();
                    calls.iter_mut().for_each(|call| assert_eq!(poll::ready(call), Ok(1)));
                }
            })
        })
        .peer("asyncband", |n| {
            let flights = Theirs::new();
            Count::time(|| {
                for _ in 0..n / CALLERS {
                    let work = std::sync::Arc::new(Told::default());
                    let call = |_| {
                        let work = std::sync::Arc::clone(&work);
                        flights.work(KEY, async move || poll_fn(|cx| work.poll(cx)).await)
                    };
                    let mut calls = poll::waiting((0..CALLERS).map(call), Waker::noop());
                    work.tell();
                    calls.iter_mut().for_each(|call| assert_eq!(poll::ready(call), 1));
                }
            })
        })
}

/// Callers that find nothing, and whose work is done at once.
fn alone(threads: usize) -> Shape {
    let parameter = format!("{threads} threads");
    Shape::new("sync", "single flight: alone", parameter, Work::Calibrated(threads as u64))
        .ours(move |n| {
            let flights = Ours::new();
            together(threads, n, |thread, share| {
                for _ in 0..share {
                    let call = flights.run(thread as u64, || ready(Ok(1)));
                    assert_eq!(poll::ready(call), Ok(1));
                }
            })
        })
        .peer("asyncband", move |n| {
            let flights = Theirs::new();
            together(threads, n, |thread, share| {
                for _ in 0..share {
                    assert_eq!(poll::ready(flights.work(thread as u64, async || 1)), 1);
                }
            })
        })
}
