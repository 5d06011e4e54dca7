//! Threads that wake the sources of a merge, clone and drop their wakers, and outlive it: nothing is
//! lost. Also run under the address sanitizer, which sees a block that is touched after it was freed.

mod support;

use std::pin::Pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use futures_core::Stream;
use selvedge_fanio::merge;
use selvedge_testkit::{block_on, watchdog};
use support::pipes;

const ITEMS: u64 = 20_000;
const THREADS: usize = 4;

#[test]
fn every_item_of_every_thread_comes_out_once() {
    watchdog(Duration::from_secs(120), "merge under stress", || {
        for sources in [1, 3, 64, 200, 5_000] {
            let (pipes, hands) = pipes(sources);
            let mut merged = merge(pipes).tagged();
            let pushing: Vec<_> = (0..THREADS)
                .map(|part| {
                    let hands = hands.clone();
                    thread::spawn(move || {
                        for number in 0..ITEMS {
                            let at = (number as usize).wrapping_mul(31) % sources;
                            hands[at].push(part as u64 * ITEMS + number);
                            // A waker for nothing, cloned, woken and dropped here.
                            let waker = hands[at].state().waker.clone();
                            let again = waker.clone();
                            waker.into_iter().for_each(Waker::wake);
                            drop(again);
                        }
                    })
                })
                .collect();
            let mut seen = vec![false; THREADS * ITEMS as usize];
            for _ in 0..seen.len() {
                let (_, item) = block_on(merged.next()).unwrap();
                assert!(!std::mem::replace(&mut seen[item as usize], true), "{item} came twice");
            }
            pushing.into_iter().for_each(|thread| thread.join().unwrap());
            hands.iter().for_each(|hand| hand.close());
            assert_eq!(block_on(merged.next()), None);
        }
    });
}

#[test]
fn wakers_outlive_the_merge() {
    watchdog(Duration::from_secs(120), "wakers without a merge", || {
        for round in 0..2_000_usize {
            let (pipes, hands) = pipes(1 + round % 130);
            let mut merged = merge(pipes);
            let _ = Pin::new(&mut merged).poll_next(&mut Context::from_waker(Waker::noop()));
            let waking = thread::spawn(move || {
                for hand in &hands {
                    let waker = hand.state().waker.take();
                    let again = waker.clone();
                    waker.into_iter().for_each(Waker::wake);
                    again.into_iter().for_each(|waker| waker.wake_by_ref());
                }
            });
            if round % 2 == 0 {
                let _ = Pin::new(&mut merged).poll_next(&mut Context::from_waker(Waker::noop()));
            }
            drop(merged);
            waking.join().unwrap();
        }
    });
}
