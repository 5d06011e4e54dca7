//! Two programs that hang with futures' buffered streams, and end with a pipeline of ours.
//!
//! `buffered` polls the futures it has started only while somebody polls the stream. While the loop
//! body runs, nobody does: what those futures hold, they hold for ever as long as the body waits for
//! it. The two programs are those that users met:
//!
//! 1. futures-rs issue 2387: the loop body needs the lock that a started future has been granted, or
//!    waits for.
//! 2. oxidecomputer/omicron issue 9259: two senders share a bounded channel. One of them has been
//!    granted the free place and is not polled any more, so the other waits beside an empty channel.
//!
//! A hang is shown by time: a program that should take milliseconds has not ended after one second.
//! tokio's clock is paused, so that second passes as soon as nothing else can happen: nothing at all
//! is left to wake anybody, which is what a deadlock is.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use selvedge_cancel::Context;
use selvedge_pipeline::{Order, from_iter};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};

/// Long after everything that can happen has happened.
const LIMIT: Duration = Duration::from_secs(1);

/// Takes the lock and holds it across an await.
async fn hold_for_a_moment(lock: &Mutex<u32>) {
    let mut held = lock.lock().await;
    sleep(Duration::from_millis(5)).await;
    *held += 1;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_needs_what_a_buffered_future_holds_hangs() {
    let lock = Mutex::new(0);
    let program = futures::stream::iter(0..4)
        .map(|_| hold_for_a_moment(&lock))
        .buffered(2)
        .for_each(|()| hold_for_a_moment(&lock));
    assert!(timeout(LIMIT, program).await.is_err(), "buffered was to hang");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_needs_what_an_unordered_future_holds_hangs() {
    let lock = Mutex::new(0);
    let program = futures::stream::iter(0..4)
        .map(|_| hold_for_a_moment(&lock))
        .buffer_unordered(2)
        .for_each(|()| hold_for_a_moment(&lock));
    assert!(timeout(LIMIT, program).await.is_err(), "buffer_unordered was to hang");
}

#[tokio::test(start_paused = true)]
async fn the_same_program_as_a_pipeline_ends() {
    for order in [Order::Ordered, Order::Unordered] {
        let lock = Arc::new(Mutex::new(0));
        let held = Arc::clone(&lock);
        let work = move |_| {
            let lock = Arc::clone(&held);
            async move {
                hold_for_a_moment(&lock).await;
                Ok::<_, Infallible>(())
            }
        };
        let mut items = from_iter(0..4).workers(2, order, work).into_stream(&Context::background());
        let body = async {
            while let Some(item) = items.next().await {
                item.expect("no stage fails");
                hold_for_a_moment(&lock).await;
            }
        };
        timeout(LIMIT, body).await.expect("it was to end");
        assert_eq!(*lock.lock().await, 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_granted_sender_that_is_not_polled_stops_the_others_beside_an_empty_channel() {
    let (sender, mut receiver) = mpsc::channel(1);
    let drained = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&drained);
    tokio::spawn(async move {
        while let Some(number) = receiver.recv().await {
            seen.lock().await.push(number);
        }
    });
    // The channel is full before the program begins, so its senders wait in line.
    sender.send(0).await.expect("somebody reads");
    let mut program = pin!(
        futures::stream::iter([1, 2])
            .map(|number| {
                let sender = sender.clone();
                async move { sender.send(number).await.expect("somebody reads") }
            })
            .buffered(2)
            .for_each(|()| async { sender.send(3).await.expect("somebody reads") })
    );
    assert!(timeout(LIMIT, program.as_mut()).await.is_err(), "buffered was to hang");
    // The reader has taken what was sent and waits: the place that is free belongs to a sender
    // that nobody polls.
    assert_eq!(*drained.lock().await, [0, 1]);
    assert_eq!(sender.capacity(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_same_senders_as_a_pipeline_end() {
    let (sender, mut receiver) = mpsc::channel(1);
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(number) = receiver.recv().await {
            seen.push(number);
        }
        seen
    });
    sender.send(0).await.expect("somebody reads");
    let outer = sender.clone();
    let send = move |number| {
        let sender = outer.clone();
        async move { sender.send(number).await }
    };
    let stage = from_iter([1, 2]).workers(2, Order::Ordered, send);
    let mut items = stage.into_stream(&Context::background());
    let body = async {
        while let Some(item) = items.next().await {
            item.expect("no stage fails");
            sender.send(3).await.expect("somebody reads");
        }
    };
    timeout(LIMIT, body).await.expect("it was to end");
    drop((items, sender));
    let mut seen = reader.await.expect("the reader ends");
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 3]);
}
