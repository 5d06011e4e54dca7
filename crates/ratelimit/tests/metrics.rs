//! What limiters have done, counted.
#![cfg(all(not(selvedge_loom), feature = "metrics"))]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use selvedge_cancel::Context as Tree;
use selvedge_ratelimit::{Keyed, KeyedMetrics, Limiter, Metrics, Rate, Timer, WhenFull};
use selvedge_testkit::watchdog;
use support::{LIMIT, SEC, limiter, poll, queued, served, spent};

/// At once, after a wait, tokens; refused, cancelled; charged, returned.
fn counts(metrics: Metrics) -> ([u64; 3], [u64; 2], [u64; 2]) {
    let Metrics { at_once, after_wait, tokens, refused, cancelled, charged, returned, .. } =
        metrics;
    ([at_once, after_wait, tokens], [refused, cancelled], [charged, returned])
}

#[test]
fn tries_are_counted_with_their_tokens() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(5));
    assert_eq!(limiter.metrics(), Metrics::default());
    limiter.try_acquire(1).unwrap();
    limiter.try_acquire(3).unwrap();
    limiter.try_acquire(0).unwrap();
    limiter.try_acquire(2).unwrap_err();
    limiter.try_acquire(6).unwrap_err();
    assert_eq!((limiter.drain(), limiter.drain()), (1, 0));
    limiter.acquire_blocking(0).unwrap();
    assert_eq!(counts(limiter.metrics()), ([5, 0, 5], [3, 0], [0, 0]));
    limiter.charge(7);
    assert_eq!(counts(limiter.clone().metrics()), ([5, 0, 5], [3, 0], [7, 0]));
}

#[test]
fn waits_are_counted_when_they_are_told() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(2));
    assert!(poll(Box::pin(limiter.acquire(2)).as_mut()).is_ready());
    let mut waits = queued(&limiter, 2);
    assert_eq!(counts(limiter.metrics()), ([1, 0, 2], [0, 0], [0, 0]), "it is no refusal");
    clock.advance(2 * SEC);
    assert_eq!(limiter.metrics().after_wait, 0, "granted, and not told");
    assert!(served(&mut waits));
    assert_eq!(counts(limiter.metrics()), ([1, 1, 4], [0, 0], [0, 0]));

    // In line, and granted and not seen; neither has a token.
    drop(queued(&limiter, 1));
    let unseen = queued(&limiter, 1);
    clock.advance(SEC);
    drop(unseen);
    // A context that ends.
    limiter.drain();
    let (ctx, canceller) = Tree::background().child();
    let mut ended = Box::pin(limiter.acquire_in(&ctx, 1));
    assert!(poll(ended.as_mut()).is_pending());
    canceller.cancel();
    assert!(matches!(poll(ended.as_mut()), std::task::Poll::Ready(Err(_))));
    drop(ended);
    assert_eq!(counts(limiter.metrics()), ([2, 1, 5], [0, 3], [0, 0]));

    // Told that there is nothing.
    let mut closed = queued(&limiter, 1);
    limiter.close();
    assert!(poll(closed.as_mut()).is_ready());
    assert!(poll(Box::pin(limiter.acquire(1)).as_mut()).is_ready());
    assert_eq!(counts(limiter.metrics()), ([2, 1, 5], [2, 3], [0, 0]));
}

#[test]
fn a_split_wait_is_counted_once() {
    let (limiter, clock) = spent(Rate::every(SEC).burst(2));
    let before = limiter.metrics();
    let mut waits = support::standing(limiter.acquire(5).split());
    (0..5).for_each(|_| clock.advance(SEC));
    assert!(served(&mut waits));
    let after = limiter.metrics();
    assert_eq!((after.after_wait, after.tokens - before.tokens), (1, 5));
    let half = support::standing(limiter.acquire(4).split());
    clock.advance(2 * SEC);
    drop(half);
    assert_eq!((limiter.metrics().cancelled, limiter.metrics().tokens), (1, after.tokens));
}

#[test]
fn reservations_are_counted() {
    let (limiter, clock) = limiter(Rate::every(SEC).burst(10));
    limiter.reserve(4).unwrap().commit(1);
    assert_eq!(counts(limiter.metrics()), ([1, 0, 4], [0, 0], [0, 3]));
    assert_eq!(limiter.reserve(4).unwrap().cancel(), 4);
    assert_eq!(counts(limiter.metrics()), ([2, 0, 8], [0, 0], [0, 7]));
    limiter.reserve(4).unwrap().commit(9);
    assert_eq!(counts(limiter.metrics()), ([3, 0, 12], [0, 0], [5, 7]));
    // Before it is due: the whole is charged, and the wait is over.
    limiter.reserve(1).unwrap().commit(2);
    assert_eq!(counts(limiter.metrics()), ([3, 0, 12], [0, 1], [7, 7]));
    drop(limiter.reserve(1).unwrap());
    let waits = limiter.reserve(1).unwrap();
    clock.advance(20 * SEC);
    drop(waits);
    assert_eq!(counts(limiter.metrics()), ([3, 1, 13], [0, 2], [7, 7]), "it was due, and is spent");
    assert!(limiter.reserve(11).is_err());
    assert_eq!(limiter.metrics().refused, 1);
    let Metrics { tokens, returned, charged, .. } = limiter.metrics();
    assert_eq!(tokens - returned + charged, 1 + 9 + 2 + 1, "what was used");
}

#[test]
fn keys_are_counted() {
    let (timer, clock) = Timer::manual();
    let keyed: Keyed<u32> = Keyed::builder(Rate::every(SEC).burst(2), 3).timer(timer).build();
    (0..3).for_each(|key| keyed.try_acquire(&key, 2).unwrap());
    keyed.try_acquire(&0, 1).unwrap_err();
    keyed.try_acquire(&3, 1).unwrap();
    let of_keys = |metrics: KeyedMetrics| {
        [metrics.inserted, metrics.evicted, metrics.forgotten, metrics.turned_away]
    };
    assert_eq!(of_keys(keyed.metrics()), [4, 1, 0, 0]);
    assert!(keyed.forget(&3));
    assert_eq!((of_keys(keyed.metrics()), keyed.len()), ([4, 1, 1, 0], 2));
    assert_eq!(counts(keyed.metrics().requests), ([4, 0, 7], [1, 0], [0, 0]));

    // Waits for a key: the same counts, also when its limiter has gone.
    let key = (0..3).find(|key| keyed.available(key).is_some()).unwrap();
    let mut waits = Box::pin(keyed.acquire(key, 2));
    let mut dropped = Box::pin(keyed.acquire(key, 1));
    assert!(poll(waits.as_mut()).is_pending() && poll(dropped.as_mut()).is_pending());
    drop(dropped);
    clock.advance(2 * SEC);
    assert!(poll(waits.as_mut()).is_ready());
    drop(waits);
    assert!(poll(Box::pin(keyed.acquire(key, 3)).as_mut()).is_ready());
    keyed.try_acquire(&key, 1).unwrap_err();
    assert_eq!(counts(keyed.metrics().requests), ([4, 1, 9], [3, 1], [0, 0]));
}

#[test]
fn keys_without_room_are_counted() {
    for when_full in [WhenFull::Refuse, WhenFull::Share] {
        let (timer, _clock) = Timer::manual();
        let keyed = Keyed::builder(Rate::every(SEC).burst(5), 1).timer(timer);
        let keyed: Keyed<u32> = keyed.when_full(when_full).build();
        keyed.try_acquire(&0, 1).unwrap();
        let shares = keyed.try_acquire(&1, 1).is_ok();
        assert_eq!((shares, keyed.metrics().turned_away), (when_full == WhenFull::Share, 1));
        assert!(keyed.reserve(&2, 1).is_ok() == shares);
        let metrics = keyed.metrics();
        assert_eq!((metrics.turned_away, metrics.inserted), (2, 1));
        assert_eq!(metrics.requests.refused, if shares { 0 } else { 2 });
    }
}

#[test]
fn they_are_told_in_words() {
    let (limiter, _clock) = limiter(Rate::every(SEC).burst(5));
    limiter.try_acquire(5).unwrap();
    limiter.charge(2);
    let text = limiter.metrics().to_string();
    assert_eq!(
        text,
        "1 granted at once, 0 after a wait (5 tokens), 0 refused, 0 waits given up, \
         2 tokens charged late, 0 returned"
    );
    let keyed: Keyed<u32> = Keyed::new(Rate::every(SEC).burst(5), 1);
    keyed.try_acquire(&1, 1).unwrap();
    let text = keyed.metrics().to_string();
    assert!(text.ends_with("; 1 keys came, 0 were evicted, 0 forgotten, 0 turned away"), "{text}");
}

/// Every answer that threads got is counted, once; and what is read meanwhile only grows.
fn exact_under_threads(limiter: &Limiter) {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 5_000;
    let [granted, waited, tokens, refused, left] = [const { AtomicU64::new(0) }; 5];
    let add = |count: &AtomicU64, more: u64| {
        count.fetch_add(more, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (granted, waited, tokens, refused, left) =
                (&granted, &waited, &tokens, &refused, &left);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let n = (thread + round) % 4;
                    match round % 100 {
                        0 => {
                            selvedge_testkit::block_on(limiter.acquire(n as u32)).unwrap();
                            add(waited, 1);
                            add(tokens, n);
                        }
                        1 => {
                            // Given up: unless it was granted at once.
                            match poll(Box::pin(limiter.acquire(n as u32)).as_mut()).is_ready() {
                                true => {
                                    add(granted, 1);
                                    add(tokens, n);
                                }
                                false => add(left, 1),
                            }
                        }
                        _ => match limiter.try_acquire(n as u32) {
                            Ok(()) => {
                                add(granted, 1);
                                add(tokens, n);
                            }
                            Err(_) => add(refused, 1),
                        },
                    }
                }
            });
        }
        let mut last = limiter.metrics();
        for _ in 0..1_000 {
            let now = limiter.metrics();
            assert!(now.tokens >= last.tokens && now.refused >= last.refused, "{last} {now}");
            last = now;
        }
    });
    let metrics = limiter.metrics();
    let expected = [granted, waited, tokens, refused, left].map(AtomicU64::into_inner);
    let [granted, waited, tokens, refused, left] = expected;
    assert_eq!(metrics.at_once + metrics.after_wait, granted + waited, "{metrics}");
    assert_eq!((metrics.tokens, metrics.refused), (tokens, refused), "{metrics}");
    assert_eq!((metrics.cancelled, metrics.charged), (left, 0), "{metrics}");
}

#[test]
fn counts_are_exact_under_threads() {
    let quota = Rate::per_second(2_000_000).burst(40);
    watchdog(LIMIT, "counting", move || {
        exact_under_threads(&Limiter::new(quota));
        exact_under_threads(&Limiter::builder(quota.with_burst(1_000)).leased().build());
    });
}

#[test]
fn counts_of_keys_are_exact_under_threads() {
    let keyed: Keyed<u64> = Keyed::new(Rate::per_second(1_000).burst(3), 50);
    let granted = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (keyed, granted) = (&keyed, &granted);
            scope.spawn(move || {
                for round in 0..20_000 {
                    let key = (round * 7 + thread) % 90;
                    if keyed.try_acquire(&key, 1).is_ok() {
                        granted.fetch_add(1, Ordering::Relaxed);
                    }
                    if round % 50 == 0 {
                        keyed.forget(&key);
                    }
                }
            });
        }
    });
    let metrics = keyed.metrics();
    assert_eq!(metrics.requests.at_once, granted.into_inner(), "{metrics}");
    assert_eq!(metrics.requests.at_once + metrics.requests.refused, 80_000, "{metrics}");
    let there = metrics.inserted - metrics.evicted - metrics.forgotten;
    assert_eq!(there, keyed.len() as u64, "{metrics}");
}
