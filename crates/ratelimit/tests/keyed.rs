//! Limits by key: taking, waiting, what is done when there is no room, quotas of their own and their changes.
#![cfg(not(selvedge_loom))]

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge_ratelimit::{
    AcquireError, Keyed, Limiter, ManualClock, Quota, Rate, Timer, TryAcquireError, WhenFull,
};
use selvedge_testkit::watchdog;

const SEC: Duration = Duration::from_secs(1);

fn keyed(quota: Quota, max_keys: u32, when_full: WhenFull) -> (Keyed<u64>, ManualClock) {
    let (timer, clock) = Timer::manual();
    (Keyed::builder(quota, max_keys).timer(timer).when_full(when_full).build(), clock)
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn each_key_has_a_bucket_of_its_own() {
    let (keyed, clock) = keyed(Rate::per_second(1).burst(2), 100, WhenFull::Evict);
    for key in 0..100 {
        assert!(keyed.try_acquire(&key, 2).is_ok());
        let refused = keyed.try_acquire(&key, 1).unwrap_err();
        assert_eq!(refused.retry_in(), Some(SEC));
        assert_eq!(keyed.available(&key), Some(0));
    }
    assert_eq!(keyed.len(), 100);
    clock.advance(SEC);
    for key in 0..100 {
        assert!(keyed.try_acquire(&key, 1).is_ok());
        assert!(keyed.try_acquire(&key, 1).is_err());
    }
    let over = keyed.try_acquire(&0, 3);
    assert_eq!(over, Err(TryAcquireError::OverBurst { wanted: 3, burst: 2 }));
    assert!(keyed.try_acquire(&0, 0).is_ok());
    assert_eq!(keyed.available(&1_000), None);
}

#[test]
fn a_borrowed_key_is_made_ones_own_once() {
    let keyed: Keyed<String> = Keyed::new(Rate::per_hour(1).burst(1), 10);
    assert!(keyed.try_acquire("a", 1).is_ok());
    assert!(keyed.try_acquire("a", 1).is_err());
    assert!(keyed.try_acquire("b", 1).is_ok());
    assert_eq!(keyed.len(), 2);
}

#[test]
fn there_are_never_more_keys_than_may_be_and_the_most_idle_go() {
    let (keyed, clock) = keyed(Rate::per_second(1).burst(10), 10, WhenFull::Evict);
    for key in 0..10 {
        assert!(keyed.try_acquire(&key, 1 + key as u32 % 10).is_ok());
    }
    // The one that has used least is full first.
    clock.advance(SEC);
    assert!(keyed.try_acquire(&100, 1).is_ok());
    assert_eq!((keyed.len(), keyed.available(&0)), (10, None));
    for key in 200..1_000 {
        assert!(keyed.try_acquire(&key, 1).is_ok());
        assert_eq!(keyed.len(), 10);
    }
}

#[test]
fn a_key_that_is_refused_is_told_so_and_comes_in_when_another_is_full() {
    let (keyed, clock) = keyed(Rate::per_second(1).burst(1), 2, WhenFull::Refuse);
    assert!(keyed.try_acquire(&1, 1).is_ok());
    assert!(keyed.try_acquire(&2, 1).is_ok());
    let refused = keyed.try_acquire(&3, 1);
    assert_eq!(refused, Err(TryAcquireError::TooManyKeys { max_keys: 2 }));
    let mut waits = Box::pin(keyed.acquire(3, 1));
    let told = poll(waits.as_mut());
    assert_eq!(told, Poll::Ready(Err(AcquireError::TooManyKeys { max_keys: 2 })));
    clock.advance(SEC);
    assert!(keyed.try_acquire(&3, 1).is_ok());
    assert_eq!(keyed.len(), 2);
}

#[test]
fn keys_without_room_share_one_bucket() {
    let (keyed, clock) = keyed(Rate::per_second(1).burst(3), 2, WhenFull::Share);
    assert!(keyed.try_acquire(&1, 1).is_ok() && keyed.try_acquire(&2, 1).is_ok());
    assert!(keyed.try_acquire(&3, 2).is_ok());
    assert!(keyed.try_acquire(&4, 2).is_err());
    assert!(keyed.try_acquire(&5, 1).is_ok());
    let mut waits = Box::pin(keyed.acquire(6, 1));
    assert!(poll(waits.as_mut()).is_pending());
    clock.advance(SEC);
    assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(keyed.len(), 2);
    // Others have room again, and a bucket of their own.
    clock.advance(5 * SEC);
    assert!(keyed.try_acquire(&6, 3).is_ok());
    assert!(keyed.try_acquire(&7, 3).is_ok());
}

#[test]
fn who_waits_for_a_key_stands_in_its_line_and_in_no_other() {
    let (keyed, clock) = keyed(Rate::per_second(1).burst(1), 10, WhenFull::Evict);
    assert!(keyed.try_acquire(&1, 1).is_ok());
    let mut first = Box::pin(keyed.acquire(1, 1));
    let mut second = Box::pin(keyed.acquire(1, 1));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    assert!(keyed.try_acquire(&2, 1).is_ok(), "another key");
    let refused = keyed.try_acquire(&1, 1).unwrap_err();
    assert_eq!(refused.retry_in(), Some(3 * SEC), "behind those who wait");
    clock.advance(SEC);
    assert_eq!(poll(first.as_mut()), Poll::Ready(Ok(())));
    assert!(poll(second.as_mut()).is_pending());
    drop(second);
    clock.advance(SEC);
    // Nobody waits any more: the key is as any other.
    assert!(keyed.try_acquire(&1, 1).is_ok());
    assert!(keyed.try_acquire(&1, 1).is_err());
    assert_eq!(clock.registered(), 0);
    clock.advance(SEC);
    assert!(keyed.try_acquire(&1, 1).is_ok());
}

#[test]
fn a_key_that_is_waited_for_is_not_evicted() {
    let (keyed, clock) = keyed(Rate::per_second(1).burst(1), 2, WhenFull::Evict);
    assert!(keyed.try_acquire(&1, 1).is_ok());
    let mut waits = Box::pin(keyed.acquire(1, 1));
    assert!(poll(waits.as_mut()).is_pending());
    assert!(!keyed.forget(&1));
    for key in 2..50 {
        assert!(keyed.try_acquire(&key, 1).is_ok());
    }
    clock.advance(SEC);
    assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(())));
    assert!(keyed.try_acquire(&1, 1).is_err());
}

#[test]
fn a_wait_for_a_key_is_refused_when_it_would_be_due_after_the_deadline() {
    use selvedge_cancel::Context as Tree;

    let (timer, _clock) = Timer::manual();
    let keyed: Keyed<u64> =
        Keyed::builder(Rate::per_second(1).burst(1), 10).timer(timer.clone()).build();
    let child = Tree::background().child_with().timer(timer).timeout(SEC / 2).build();
    let (ctx, _canceller) = child.unwrap();
    assert!(keyed.try_acquire(&1, 1).is_ok());
    let mut waits = Box::pin(keyed.acquire_in(&ctx, 1, 1));
    let told = poll(waits.as_mut());
    assert_eq!(told, Poll::Ready(Err(AcquireError::TooLate { due_in: SEC })));
}

#[test]
fn a_reservation_of_a_key_is_committed_at_its_cost() {
    let (keyed, clock) = keyed(Rate::per_second(1).burst(10), 10, WhenFull::Evict);
    let request = keyed.reserve(&1, 8).unwrap();
    request.commit(3);
    assert_eq!(keyed.available(&1), Some(7));
    assert!(keyed.try_acquire(&1, 7).is_ok());
    assert!(keyed.try_acquire(&1, 1).is_err());
    clock.advance(SEC);
    assert!(keyed.try_acquire(&1, 1).is_ok());
}

#[test]
fn keys_may_have_quotas_of_their_own_which_are_read_anew() {
    let gold = Arc::new(AtomicU64::new(5));
    let (timer, clock) = Timer::manual();
    let quotas = Arc::clone(&gold);
    let keyed = Keyed::builder(Rate::per_second(1).burst(1), 100)
        .timer(timer)
        .quota_by(move |key: &u64| match key {
            0 => Rate::per_second(quotas.load(Ordering::Relaxed)).burst(5),
            _ => Rate::per_second(1).burst(1),
        })
        .build();
    assert!(keyed.try_acquire(&0, 5).is_ok());
    assert!(keyed.try_acquire(&1, 2).is_err());
    clock.advance(SEC / 5);
    assert!(keyed.try_acquire(&0, 1).is_ok() && keyed.try_acquire(&0, 1).is_err());
    gold.store(10, Ordering::Relaxed);
    assert_eq!(keyed.reload(), Ok(2));
    clock.advance(SEC / 10);
    assert!(keyed.try_acquire(&0, 1).is_ok() && keyed.try_acquire(&0, 1).is_err());
    // One alone.
    assert_eq!(keyed.set_quota_of(&0, Some(Rate::per_second(1).burst(20))), Ok(true));
    assert_eq!(keyed.available(&0), Some(15));
    assert_eq!(keyed.set_quota_of(&7, None), Ok(false));
    assert_eq!(keyed.set_quota_of(&0, None), Ok(true));
    assert_eq!(keyed.available(&0), Some(0));
}

#[test]
fn a_quota_that_changes_settles_what_has_come_for_every_key() {
    let (keyed, clock) = keyed(Rate::per_second(2).burst(4), 1_000, WhenFull::Evict);
    for key in 0..1_000 {
        assert!(keyed.try_acquire(&key, 4).is_ok());
    }
    let mut waits = Box::pin(keyed.acquire(5, 4));
    assert!(poll(waits.as_mut()).is_pending());
    clock.advance(SEC);
    keyed.set_quota(Rate::per_second(1).burst(3));
    assert_eq!(keyed.quota(), Rate::per_second(1).burst(3));
    // Two had come, two of three are missing.
    for key in (0..1_000).filter(|key| *key != 5) {
        assert_eq!(keyed.available(&key), Some(1), "{key}");
    }
    let told = poll(waits.as_mut());
    assert_eq!(told, Poll::Ready(Err(AcquireError::OverBurst { wanted: 4, burst: 3 })));
    clock.advance(SEC);
    assert!(keyed.try_acquire(&3, 2).is_ok() && keyed.try_acquire(&3, 1).is_err());
    for _ in 0..5_000 {
        keyed.set_quota(Rate::per_second(1).burst(3));
        keyed.set_quota(Rate::per_second(1).burst(4));
    }
    assert_eq!(keyed.available(&3), Some(1));
}

#[test]
fn more_quotas_than_may_be_in_use_are_an_error() {
    let keyed = Keyed::builder(Rate::per_second(1).burst(1), 5_000)
        .quota_by(|key: &u64| Rate::per_second(1).burst(*key as u32 + 2))
        .build();
    let told: Vec<_> = (0..5_000).map(|key| keyed.try_acquire(&key, 1)).collect();
    let refused = told.iter().filter(|told| **told == Err(TryAcquireError::TooManyQuotas)).count();
    assert!(told[..1_000].iter().all(Result::is_ok) && refused > 3_900, "{refused}");
}

#[test]
fn the_hottest_are_those_that_take_longest_to_be_full() {
    let (keyed, clock) = keyed(Rate::per_second(1).burst(10), 100, WhenFull::Evict);
    for key in 0..10 {
        assert!(keyed.try_acquire(&key, key as u32).is_ok());
    }
    clock.advance(2 * SEC);
    let hot = keyed.hottest(3);
    let hot: Vec<_> = hot.iter().map(|heat| (heat.key, heat.full_in, heat.available)).collect();
    assert_eq!(hot, [(9, 7 * SEC, 3), (8, 6 * SEC, 4), (7, 5 * SEC, 5)]);
    assert_eq!(keyed.hottest(100).len(), 7);
}

#[test]
fn a_key_that_is_forgotten_comes_back_full() {
    let (keyed, _clock) = keyed(Rate::per_hour(1).burst(1), 2, WhenFull::Refuse);
    assert!(keyed.try_acquire(&1, 1).is_ok() && keyed.try_acquire(&1, 1).is_err());
    assert!(keyed.forget(&1) && !keyed.forget(&1) && keyed.is_empty());
    assert!(keyed.try_acquire(&1, 1).is_ok());
    assert!(keyed.try_acquire(&2, 1).is_ok());
    assert!(keyed.forget(&1));
    assert!(keyed.try_acquire(&3, 1).is_ok());
}

/// The hash that a table makes this fingerprint of.
fn unmixed(print: u64) -> u64 {
    let mixed = (print ^ print >> 32).wrapping_mul(0xf1de_83e1_9937_733d);
    mixed ^ mixed >> 32
}

/// Every key has the same home.
#[derive(Clone, Default)]
struct Collides(u64);

impl Hasher for Collides {
    fn finish(&self) -> u64 {
        unmixed(self.0 << 32 | 7)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().rev() {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
}

impl BuildHasher for Collides {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

#[test]
fn keys_that_are_chosen_to_collide_keep_their_own_buckets() {
    watchdog(Duration::from_secs(120), "collisions", || {
        let (timer, _clock) = Timer::manual();
        let keyed: Keyed<u32, _> = Keyed::builder(Rate::per_hour(1).burst(2), 200)
            .timer(timer)
            .hasher(Collides::default())
            .build();
        for round in 0..2 {
            for key in 0..200 {
                assert!(keyed.try_acquire(&key, 1).is_ok(), "{round} {key}");
            }
        }
        assert!((0..200).all(|key| keyed.try_acquire(&key, 1).is_err()));
        // The gaps that eviction leaves are closed.
        for key in 1_000..3_000 {
            assert!(keyed.try_acquire(&key, 1).is_ok());
            assert_eq!(keyed.len(), 200);
        }
        let there = (0..3_000).filter(|key| keyed.available(key).is_some()).count();
        assert_eq!(there, 200);
    });
}

#[test]
fn no_more_is_taken_of_a_key_than_its_quota_says_while_keys_come_and_go() {
    watchdog(Duration::from_secs(120), "threads", || {
        let (keyed, _clock) = keyed(Rate::per_hour(1).burst(50), 64, WhenFull::Refuse);
        let taken: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (keyed, taken) = (&keyed, &taken);
                scope.spawn(move || {
                    for round in 0..40_000_u64 {
                        let key = (round * 7 + thread * 13) % 64;
                        if keyed.try_acquire(&key, 1).is_ok() {
                            taken[key as usize].fetch_add(1, Ordering::Relaxed);
                        }
                        // None of the others is full, so there is no room.
                        if round > 20_000 {
                            let other = 1_000 + round;
                            assert!(keyed.try_acquire(&other, 1).is_err());
                        }
                    }
                });
            }
        });
        assert!(taken.iter().all(|taken| taken.load(Ordering::Relaxed) == 50));
    });
}

#[test]
fn threads_that_evict_each_others_keys_lose_none() {
    watchdog(Duration::from_secs(120), "evictions", || {
        let (keyed, clock) = keyed(Rate::per_second(1_000).burst(1), 128, WhenFull::Evict);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (keyed, clock) = (&keyed, &clock);
                scope.spawn(move || {
                    for round in 0..20_000_u64 {
                        let key = round % 97 * 1_000 + thread * 31 + round / 512;
                        let _ = keyed.try_acquire(&key, 1);
                        if round % 64 == 0 {
                            clock.advance(Duration::from_millis(1));
                            keyed.set_quota(Rate::per_second(1_000 + round % 3).burst(1));
                        }
                    }
                });
            }
        });
        assert!(keyed.len() <= 128);
        let keys = (0..100_000_u64).filter(|key| keyed.available(key).is_some()).count();
        assert_eq!(keys, keyed.len());
    });
}

#[test]
fn a_centuries_long_leap_leaves_every_key_full() {
    let (keyed, clock) = keyed(Rate::per_second(1).burst(2), 10, WhenFull::Evict);
    assert!(keyed.try_acquire(&1, 2).is_ok());
    for _ in 0..4 {
        clock.advance(Duration::from_secs(50 * 365 * 86_400));
        assert!(keyed.try_acquire(&1, 2).is_ok());
        assert!(keyed.try_acquire(&1, 1).is_err());
    }
    assert!(keyed.try_acquire(&2, 2).is_ok());
}

/// Keys are their own fingerprints.
#[derive(Clone, Default)]
struct Chosen(u64);

impl Hasher for Chosen {
    fn finish(&self) -> u64 {
        unmixed(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = u64::from_le_bytes(bytes.try_into().unwrap());
    }
}

impl BuildHasher for Chosen {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

#[test]
fn an_empty_slot_is_nobodys_whatever_the_fingerprint() {
    watchdog(Duration::from_secs(60), "tags", || {
        for tag in 0..256 {
            let (timer, _clock) = Timer::manual();
            let builder = Keyed::builder(Rate::per_hour(1).burst(1), 7);
            let keyed: Keyed<u64, _> = builder.timer(timer).hasher(Chosen::default()).build();
            // The tag is in the bits from the third on; the higher ones tell them apart.
            let key = |number: u64| number << 20 | tag << 3;
            for number in 1..=3 {
                assert!(keyed.try_acquire(&key(number), 1).is_ok());
            }
            for number in 1..=3 {
                assert!(keyed.forget(&key(number)));
                assert_eq!(keyed.available(&key(number)), None);
                assert!(keyed.try_acquire(&key(number), 1).is_ok(), "{tag} {number}");
                assert!(keyed.try_acquire(&key(number), 1).is_err(), "{tag} {number}");
            }
            assert_eq!(keyed.len(), 3);
        }
    });
}

/// The worst that a hasher may do and still tell keys apart: multiples of a large number.
#[derive(Clone, Default)]
struct Weak(u64);

impl Hasher for Weak {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = u64::from_le_bytes(bytes.try_into().unwrap()) << 12;
    }
}

impl BuildHasher for Weak {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

#[test]
fn there_is_room_for_all_keys_whatever_bits_their_hashes_leave_out() {
    let (timer, _clock) = Timer::manual();
    let builder = Keyed::builder(Rate::per_hour(1).burst(1), 20_000).when_full(WhenFull::Refuse);
    let keyed: Keyed<u64, _> = builder.timer(timer).hasher(Weak::default()).build();
    assert!((0..20_000).all(|key| keyed.try_acquire(&key, 1).is_ok()));
    assert_eq!(keyed.len(), 20_000);
}

#[test]
fn who_shares_a_bucket_for_which_somebody_waits_is_told() {
    watchdog(Duration::from_secs(60), "shared and queued", || {
        let (keyed, clock) = keyed(Rate::per_second(1).burst(1), 2, WhenFull::Share);
        assert!((0..2).all(|key| keyed.try_acquire(&key, 1).is_ok()));
        assert!(keyed.try_acquire(&3, 1).is_ok(), "the first that shares");
        let mut waits = std::pin::pin!(keyed.acquire(4, 1));
        assert!(poll(waits.as_mut()).is_pending());
        // In line behind it.
        let refused = keyed.try_acquire(&5, 1).unwrap_err();
        assert_eq!(refused.retry_in(), Some(2 * SEC));
        clock.advance(SEC);
        assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(())));
    });
}

#[test]
fn a_limiter_of_a_key_goes_with_the_last_who_waits() {
    let (keyed, clock) = keyed(Rate::per_second(1).burst(1), 4, WhenFull::Refuse);
    assert!(keyed.try_acquire(&1, 1).is_ok());
    {
        let mut waits = std::pin::pin!(keyed.acquire(1, 1));
        assert!(poll(waits.as_mut()).is_pending());
        assert!(!keyed.forget(&1), "somebody waits");
    }
    // Dropped: it is the key's own again, with what it had.
    assert_eq!(keyed.hottest(9).len(), 1);
    assert_eq!(keyed.available(&1), Some(0));
    let mut waits = std::pin::pin!(keyed.acquire(1, 1));
    assert!(poll(waits.as_mut()).is_pending());
    clock.advance(SEC);
    assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(keyed.hottest(9).len(), 1);
    // A reservation that is over is no reason to keep a key.
    drop(keyed.reserve(&1, 1).unwrap());
    assert!(keyed.forget(&1));
}

#[test]
fn whoever_changes_the_quota_last_is_heard_by_every_key() {
    watchdog(Duration::from_secs(120), "changes", || {
        let (keyed, _clock) = keyed(Rate::per_second(1).burst(1), 200, WhenFull::Refuse);
        let quotas: Vec<Quota> =
            (1..5).map(|burst| Rate::per_hour(burst.into()).burst(burst)).collect();
        assert!((0..100).all(|key| keyed.try_acquire(&key, 1).is_ok()));
        let mut waits: Vec<_> = (0..10).map(|key| Box::pin(keyed.acquire(key, 1))).collect();
        assert!(waits.iter_mut().all(|waits| poll(waits.as_mut()).is_pending()));
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (keyed, quotas) = (&keyed, &quotas);
                scope.spawn(move || {
                    for round in 0..200 {
                        keyed.set_quota(quotas[(thread + round) % quotas.len()]);
                        let key = 100 + (thread * 200 + round) as u64 % 100;
                        let _ = keyed.try_acquire(&key, 1);
                        keyed.forget(&key);
                        keyed.set_quota_of(&(key - 100), Some(quotas[round % 3])).unwrap();
                        keyed.set_quota_of(&(key - 100), None).unwrap();
                        assert!(keyed.hottest(200).len() <= 200);
                    }
                });
            }
        });
        keyed.set_quota(Rate::per_hour(9).burst(9));
        for key in 0..100 {
            // Nobody has a tenth of anything: the burst is that of the last quota.
            let told = keyed.try_acquire(&key, 10);
            assert_eq!(told, Err(TryAcquireError::OverBurst { wanted: 10, burst: 9 }), "{key}");
        }
    });
}

#[test]
fn all_others_can_change_their_quota_however_many_are_in_use() {
    let (keyed, _clock) = keyed(Rate::per_hour(1).burst(1), 2_000, WhenFull::Refuse);
    assert!((0..2_000).all(|key| keyed.try_acquire(&key, 1).is_ok()));
    let full = (0..1_100).position(|key| {
        let quota = Rate::per_hour(1).burst(100 + key as u32);
        keyed.set_quota_of(&key, Some(quota)).is_err()
    });
    assert_eq!(full, Some(1022));
    for burst in 2..20 {
        keyed.set_quota(Rate::per_hour(1).burst(burst));
        let wanted = burst + 1;
        let told = keyed.try_acquire(&1_999, wanted);
        assert_eq!(told, Err(TryAcquireError::OverBurst { wanted, burst }));
        // One whose quota is that of all others has it as its own, and stays with it.
        assert!(keyed.set_quota_of(&0, Some(keyed.quota())).is_err());
    }
}

thread_local! {
    static BREAKS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A key whose clone panics when it is told to.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Fragile(u64);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(!BREAKS.get(), "told to");
        Self(self.0)
    }
}

#[test]
fn a_key_whose_clone_panics_stays_where_it_is() {
    let keyed: Keyed<Fragile> = Keyed::new(Rate::per_hour(1).burst(1), 10);
    assert!(keyed.try_acquire(&Fragile(1), 1).is_ok());
    BREAKS.set(true);
    let told = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    assert!(told(&|| drop(keyed.hottest(1))).is_err());
    // The clone that the table would keep.
    assert!(told(&|| keyed.try_acquire(&Fragile(2), 1).unwrap()).is_err());
    BREAKS.set(false);
    assert_eq!(keyed.hottest(9)[0].key, Fragile(1));
    assert_eq!(keyed.len(), 1);
    assert!(keyed.try_acquire(&Fragile(2), 1).is_ok());
    assert!(keyed.forget(&Fragile(1)));
    assert_eq!(keyed.hottest(9)[0].key, Fragile(2));
}

/// The courses of these keys last for 104 days, those of limiters for decades.
#[test]
fn a_key_has_what_a_limiter_has_also_after_the_end_of_a_course() {
    // Each alone with its limits, because whoever comes first after the end renews the course of all.
    const KEYS: u64 = 40;
    let (timer, clock) = Timer::manual();
    let hour = 3_600 * SEC;
    let quota = Rate::every(7 * hour).burst(3);
    let alone = |_| Keyed::<u64>::builder(quota, 1).timer(timer.clone()).build();
    let limits: Vec<Keyed<u64>> = (0..KEYS).map(alone).collect();
    let limiters: Vec<_> = (0..KEYS).map(|_| Limiter::with_timer(quota, timer.clone())).collect();
    let mut waits: Vec<_> = (0..KEYS).map(|_| None).collect();
    assert!((0..KEYS).all(|key| limits[key as usize].try_acquire(&key, 1).is_ok()));
    limiters.iter().for_each(|limiter| limiter.try_acquire(1).unwrap());
    // Never at the moment at which a token comes.
    clock.advance(Duration::from_millis(1));
    for step in 0..230 * 24 {
        clock.advance(hour);
        for key in 0..KEYS {
            let (keyed, limiter) = (&limits[key as usize], &limiters[key as usize]);
            let at = (step + 5 * key) % 29;
            let waits = &mut waits[key as usize];
            let there = limiter.available();
            if waits.is_none() {
                assert_eq!(keyed.available(&key), Some(there), "{step} {key}");
            }
            match at {
                0 | 3 | 10 => {
                    let told = limiter.try_acquire(1 + at as u32 % 2).is_ok();
                    assert_eq!(keyed.try_acquire(&key, 1 + at as u32 % 2).is_ok(), told);
                }
                // All there is, and then somebody waits for all there may be.
                17 if key % 2 == 0 => {
                    assert_eq!(limiter.drain(), there);
                    assert!(keyed.try_acquire(&key, there).is_ok());
                    let mut waiting = Box::pin(keyed.acquire(key, 3));
                    assert!(poll(waiting.as_mut()).is_pending());
                    *waits = Some(waiting);
                }
                // It gives up, hours later, without a look.
                17..=28 if at == 28 => *waits = None,
                15 if key % 2 == 1 => {
                    let granted = keyed.reserve(&key, 2).unwrap();
                    let due_in = granted.due_in();
                    assert_eq!(due_in == Some(Duration::ZERO), there >= 2, "{step} {key}");
                    granted.cancel();
                }
                _ => {}
            }
        }
        // The heat is what is missing.
        for (keyed, limiter) in limits.iter().zip(&limiters) {
            let heat = keyed.hottest(1);
            let there = heat.first().map_or(3, |heat| heat.available);
            // Not of those that are waited for.
            assert!(there == limiter.available() || there == 3, "{step} {heat:?}");
        }
    }
}

#[test]
fn entries_that_change_hands_can_be_looked_at_without_a_lock() {
    watchdog(Duration::from_secs(60), "changing hands", || {
        let (timer, _clock) = Timer::manual();
        let builder = Keyed::builder(Rate::per_hour(1).burst(1), 4);
        let keyed: Keyed<u64, _> = builder.timer(timer).hasher(Chosen::default()).build();
        // All the bits in which an entry has its plan.
        let key = |number: u64| number << 11 | 0x7ff;
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let keyed = &keyed;
                scope.spawn(move || {
                    for number in 0..100_000 {
                        let key = key(1 + (number * 7 + thread) % 6);
                        let _ = keyed.try_acquire(&key, 1);
                        keyed.forget(&key);
                    }
                });
            }
            (0..100_000).for_each(|_| assert!(keyed.hottest(1).len() <= 1));
        });
    });
}

#[test]
fn it_says_where_it_was_made_and_how_much_it_holds() {
    let line = line!() + 1;
    let keyed: Keyed<u64> = Keyed::builder(Rate::per_hour(1).burst(1), 0).named("guests").build();
    assert_eq!(keyed.max_keys(), 1);
    let text = format!("{keyed:?}");
    assert!(text.contains(&format!("guests ({}:{line}:", file!())), "{text}");
    assert!(text.contains("0 of 1"), "{text}");
}
