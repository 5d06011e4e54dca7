//! The keyed lanes: order per key, balance between keys, waiting, giving back, the end, and what panics.
#![cfg(not(selvedge_loom))]

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_cancel::Context as Tree;
use selvedge_sync::{KeyedLanes, Lease, TakeLease};
use selvedge_testkit::{CountingWaker, PanickingWaker, ReentrantWaker, block_on, watchdog};

type Lanes = KeyedLanes<u32, u32>;
type Take<'a> = Pin<Box<TakeLease<'a, u32, u32>>>;

fn poll(take: &mut Take<'_>) -> Poll<Option<Lease<u32, u32>>> {
    take.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// A take that waits.
fn waiting(lanes: &Lanes) -> Take<'_> {
    let mut take = Box::pin(lanes.take());
    assert!(poll(&mut take).is_pending());
    take
}

/// What a take was given.
fn given(take: &mut Take<'_>) -> Lease<u32, u32> {
    match poll(take) {
        Poll::Ready(Some(lease)) => lease,
        _ => panic!("it was given nothing"),
    }
}

fn filled(items: &[(u32, u32)]) -> Lanes {
    let lanes = Lanes::new();
    for &(key, item) in items {
        assert!(lanes.push(key, item).is_ok());
    }
    lanes
}

// Smoke.

#[test]
fn a_key_keeps_its_order_and_is_leased_to_one_at_a_time() {
    let lanes = filled(&[(1, 10), (1, 11), (1, 12)]);
    for item in 10..13 {
        let lease = lanes.try_take().unwrap();
        assert_eq!(*lease, item);
        assert!(lanes.try_take().is_none());
    }
    assert_eq!((lanes.len(), lanes.lanes()), (0, 0));
}

#[test]
fn keys_go_side_by_side_and_take_turns() {
    let lanes = filled(&[(1, 10), (1, 11), (2, 20), (3, 30)]);
    let leases: Vec<_> = std::iter::from_fn(|| lanes.try_take()).collect();
    assert_eq!(leases.iter().map(|lease| **lease).collect::<Vec<_>>(), [10, 20, 30]);
    drop(leases);
    assert_eq!(*lanes.try_take().unwrap(), 11);
    let lanes = filled(&[(1, 10), (1, 11), (2, 20), (2, 21)]);
    let order: Vec<_> = std::iter::from_fn(|| lanes.try_take().map(|lease| *lease)).collect();
    assert_eq!(order, [10, 20, 11, 21], "a lane goes to the end of the line");
}

#[test]
fn a_taker_whose_context_has_ended_gives_back_what_it_was_given() {
    let lanes = Lanes::new();
    let (tree, canceller) = Tree::background().child();
    let mut cx = Context::from_waker(Waker::noop());
    let mut told = Box::pin(lanes.take_in(&tree));
    assert!(told.as_mut().poll(&mut cx).is_pending());
    let mut next = waiting(&lanes);
    assert!(lanes.push(1, 10).is_ok() && lanes.push(1, 11).is_ok());
    canceller.cancel();
    assert!(matches!(told.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
    assert_eq!(*given(&mut next), 10, "at once, and the first");
    drop(told);
    assert_eq!(*lanes.try_take().unwrap(), 11);
    assert!(block_on(lanes.take_in(&tree)).is_err());
    assert_eq!((lanes.len(), lanes.lanes()), (0, 0));
}

#[test]
fn idle_keys_leave_nothing() {
    let lanes = Lanes::new();
    for key in 0..10_000 {
        assert!(lanes.push(key, key).is_ok());
    }
    assert_eq!((lanes.lanes(), lanes.len()), (10_000, 10_000));
    while let Some(lease) = lanes.try_take() {
        drop(lease);
    }
    assert_eq!((lanes.lanes(), lanes.len(), lanes.is_empty()), (0, 0, true));
}

#[test]
fn an_item_that_is_pushed_while_its_key_is_leased_waits_for_the_lease() {
    let lanes = filled(&[(1, 10)]);
    let lease = lanes.try_take().unwrap();
    assert_eq!(lanes.lanes(), 1);
    assert!(lanes.push(1, 11).is_ok());
    let mut take = waiting(&lanes);
    drop(lease);
    assert_eq!(*given(&mut take), 11);
}

#[test]
fn an_item_that_is_given_back_is_the_next_of_all() {
    let lanes = filled(&[(1, 10), (1, 11), (2, 20)]);
    let mut lease = lanes.try_take().unwrap();
    *lease += 5;
    lease.give_back();
    assert_eq!((lanes.len(), lanes.lanes()), (3, 2));
    // Before the other lane, though that was ready first, and before its own next.
    let order: Vec<_> = std::iter::from_fn(|| lanes.try_take().map(|lease| *lease)).collect();
    assert_eq!(order, [15, 20, 11]);
    // To one who waits, and after a close.
    let lanes = filled(&[(1, 10)]);
    let lease = lanes.try_take().unwrap();
    let mut take = waiting(&lanes);
    lanes.close();
    lease.give_back();
    assert_eq!(*given(&mut take), 10);
    assert!(block_on(lanes.take()).is_none());
}

#[test]
fn a_hold_keeps_the_lane_without_the_item() {
    let lanes = filled(&[(1, 10), (1, 11)]);
    let mut lease = lanes.try_take().unwrap();
    *lease += 5;
    let (item, hold) = lease.split();
    assert_eq!((item, lanes.try_take().is_none()), (15, true));
    drop(hold);
    assert!(lanes.try_take().is_some());
}

#[test]
fn threads_keep_the_order_of_each_key_and_lose_nothing() {
    const KEYS: usize = 5;
    const ITEMS: usize = 20_000;
    watchdog(Duration::from_secs(60), "threads on lanes", || {
        let lanes: KeyedLanes<usize, usize> = KeyedLanes::new();
        let next: Vec<_> = (0..KEYS).map(|_| AtomicUsize::new(0)).collect();
        let held: Vec<_> = (0..KEYS).map(|_| AtomicBool::new(false)).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Some(lease) = block_on(lanes.take()) {
                        let key = *lease % KEYS;
                        assert!(!held[key].swap(true, Ordering::Relaxed), "two at once");
                        // Relaxed twice: the lease orders them.
                        assert_eq!(next[key].load(Ordering::Relaxed), *lease / KEYS);
                        next[key].store(*lease / KEYS + 1, Ordering::Relaxed);
                        held[key].store(false, Ordering::Relaxed);
                    }
                });
            }
            let pushers: Vec<_> = (0..KEYS)
                .map(|key| {
                    let lanes = &lanes;
                    scope.spawn(move || {
                        for n in 0..ITEMS / KEYS {
                            assert!(lanes.push(key, n * KEYS + key).is_ok());
                        }
                    })
                })
                .collect();
            for pusher in pushers {
                pusher.join().unwrap();
            }
            lanes.close();
        });
        assert!(next.iter().all(|next| next.load(Ordering::Relaxed) == ITEMS / KEYS));
        assert_eq!((lanes.len(), lanes.lanes()), (0, 0));
    });
}

// Waiting, and giving back.

#[test]
fn takers_are_served_in_order_and_nobody_overtakes_them() {
    let lanes = Lanes::new();
    let mut takes: Vec<_> = (0..3).map(|_| waiting(&lanes)).collect();
    for item in 0..3 {
        assert!(lanes.push(item, item).is_ok());
        assert!(lanes.try_take().is_none(), "it was given to who waits");
    }
    for (item, take) in (0..).zip(&mut takes) {
        assert_eq!(*given(take), item);
    }
}

#[test]
fn a_lease_that_was_given_and_not_seen_goes_to_the_next_taker() {
    let lanes = Lanes::new();
    let first = waiting(&lanes);
    let waker = CountingWaker::new();
    let mut second = Box::pin(lanes.take());
    assert!(second.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
    assert!(lanes.push(1, 10).is_ok());
    assert_eq!(waker.wakes(), 0);
    drop(first);
    assert_eq!(waker.wakes(), 1);
    assert_eq!(*given(&mut second), 10);
}

#[test]
fn a_lease_that_was_given_and_not_seen_keeps_its_place_in_the_order() {
    let lanes = Lanes::new();
    let take = waiting(&lanes);
    for (key, item) in [(1, 10), (2, 20), (1, 11)] {
        assert!(lanes.push(key, item).is_ok());
    }
    assert_eq!(lanes.len(), 2);
    drop(take);
    assert_eq!(lanes.len(), 3);
    let order: Vec<_> = std::iter::from_fn(|| lanes.try_take().map(|lease| *lease)).collect();
    assert_eq!(order, [10, 20, 11]);
}

// The end.

#[test]
fn after_a_close_what_is_there_is_taken_and_nothing_comes_in() {
    let lanes = filled(&[(1, 10), (1, 11)]);
    lanes.close();
    lanes.close();
    let refused = lanes.push(2, 20).unwrap_err();
    assert_eq!((refused.key, refused.item, lanes.is_closed()), (2, 20, true));
    assert_eq!(refused.to_string(), "item not pushed: the lanes are closed");
    assert_eq!(*block_on(lanes.take()).unwrap(), 10);
    let lease = block_on(lanes.take()).unwrap();
    // An item that is leased may come back.
    let mut take = waiting(&lanes);
    drop(lease);
    assert!(matches!(poll(&mut take), Poll::Ready(None)));
    assert!(block_on(lanes.take()).is_none());
}

#[test]
fn a_close_tells_all_who_wait_and_loses_nothing_that_was_given() {
    let lanes = Lanes::new();
    let given_up = waiting(&lanes);
    let mut takes: Vec<_> = (0..100).map(|_| waiting(&lanes)).collect();
    assert!(lanes.push(1, 10).is_ok());
    lanes.close();
    assert!(takes.iter_mut().all(|take| poll(take).is_pending()), "one item is under way");
    drop(given_up);
    drop(given(&mut takes.remove(0)));
    assert!(takes.iter_mut().all(|take| matches!(poll(take), Poll::Ready(None))));
}

#[test]
fn a_lease_outlives_the_last_handle() {
    let lanes = filled(&[(1, 10), (1, 11)]);
    let lease = lanes.try_take().unwrap();
    drop(lanes);
    assert_eq!(*lease, 10);
}

// Panics, re-entry, and other bad input.

#[test]
fn a_lease_that_is_dropped_by_a_panic_hands_its_lane_on() {
    let lanes = filled(&[(1, 10), (1, 11)]);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _lease = lanes.try_take().unwrap();
        panic!("while it is leased");
    }));
    assert!(panic.is_err());
    assert_eq!(*lanes.try_take().unwrap(), 11);
}

#[test]
fn an_item_whose_destructor_panics_hands_its_lane_on() {
    struct Nasty(bool);
    impl Drop for Nasty {
        fn drop(&mut self) {
            assert!(!self.0, "dropped");
        }
    }
    let lanes = KeyedLanes::new();
    assert!(lanes.push(1, Nasty(true)).is_ok());
    assert!(lanes.push(1, Nasty(false)).is_ok());
    let lease = lanes.try_take().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(lease))).is_err());
    assert!(lanes.try_take().is_some());
}

#[test]
fn a_key_that_panics_pushes_nothing_and_poisons_nothing() {
    struct Key(bool, bool);
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            assert!(!self.0 && !other.0, "eq");
            true
        }
    }
    impl Eq for Key {}
    impl Hash for Key {
        fn hash<H: Hasher>(&self, _: &mut H) {
            assert!(!self.1, "hash");
        }
    }
    let lanes = KeyedLanes::new();
    assert!(lanes.push(Key(false, false), 1).is_ok());
    for key in [Key(true, false), Key(false, true)] {
        assert!(catch_unwind(AssertUnwindSafe(|| lanes.push(key, 2))).is_err());
    }
    assert_eq!((lanes.len(), lanes.lanes()), (1, 1));
    assert!(lanes.push(Key(false, false), 3).is_ok());
    let order: Vec<_> = std::iter::from_fn(|| lanes.try_take().map(|lease| *lease)).collect();
    assert_eq!(order, [1, 3]);
}

/// A key that panics when it is dropped.
#[derive(PartialEq, Eq, Hash)]
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("bomb");
    }
}

#[test]
fn a_lane_s_key_whose_destructor_panics_hurts_nobody_who_has_the_last_lease() {
    let bombs = || {
        let lanes = KeyedLanes::new();
        assert!(lanes.push(Bomb(1), 10).is_ok());
        let lease = lanes.try_take().unwrap();
        (lanes, lease)
    };
    let (lanes, lease) = bombs();
    drop(lease);
    assert_eq!(lanes.lanes(), 0);
    // While another panic goes on: a second one would end the process.
    let (lanes, lease) = bombs();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _lease = lease;
        panic!("while it is leased");
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"while it is leased"));
    assert_eq!(lanes.lanes(), 0);
    // Beside the waker of a taker, which is told that it is over.
    let (lanes, lease) = bombs();
    let bad = PanickingWaker::new();
    lanes.close();
    let mut take = Box::pin(lanes.take());
    assert!(take.as_mut().poll(&mut Context::from_waker(&bad.waker())).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(lease))).is_err(), "the waker's");
    let over = take.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(over, Poll::Ready(None)));
}

#[test]
fn keys_and_items_that_all_panic_as_the_lanes_go_end_no_process() {
    let lanes = KeyedLanes::new();
    for number in 1..4 {
        assert!(lanes.push(Bomb(number), Bomb(number)).is_ok());
    }
    assert!(catch_unwind(AssertUnwindSafe(|| drop(lanes))).is_err());
}

#[test]
fn items_and_keys_and_wakers_may_use_the_lanes() {
    watchdog(Duration::from_secs(60), "items that use their lanes", || {
        struct Item(Option<KeyedLanes<u32, Item>>);
        impl Drop for Item {
            fn drop(&mut self) {
                if let Some(lanes) = self.0.take() {
                    assert!(lanes.lanes() > 0, "its lane is leased while it is dropped");
                    assert!(lanes.push(9, Item(None)).is_ok());
                }
            }
        }
        let lanes = KeyedLanes::new();
        assert!(lanes.push(1, Item(Some(lanes.clone()))).is_ok());
        drop(lanes.try_take());
        assert_eq!(lanes.len(), 1);

        let lanes = Lanes::new();
        let inside = lanes.clone();
        let waker = ReentrantWaker::on_wake(move || {
            assert!(inside.push(2, 20).is_ok());
            assert_eq!(*inside.try_take().unwrap(), 20);
        });
        let mut take = Box::pin(lanes.take());
        assert!(take.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
        assert!(lanes.push(1, 10).is_ok());
        assert_eq!((waker.wakes(), *given(&mut take)), (1, 10));
    });
}

#[test]
fn a_waker_that_panics_loses_no_item() {
    let lanes = Lanes::new();
    let bad = PanickingWaker::new();
    let mut take = Box::pin(lanes.take());
    assert!(take.as_mut().poll(&mut Context::from_waker(&bad.waker())).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| lanes.push(1, 10))).is_err());
    assert_eq!(*given(&mut take), 10);
}

#[test]
#[should_panic(expected = "a take is not polled after it was ready")]
fn a_take_that_was_ready_is_not_polled_again() {
    let lanes = filled(&[(1, 10)]);
    let mut take = Box::pin(lanes.take());
    drop(given(&mut take));
    drop(poll(&mut take));
}

#[test]
#[cfg(feature = "tokio")]
fn a_loop_over_takes_that_are_ready_yields() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let turns = std::sync::Arc::new(AtomicUsize::new(0));
        let seen = std::sync::Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                seen.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let takes = tokio::spawn(async move {
            let lanes = Lanes::new();
            for n in 0..1000 {
                assert!(lanes.push(n, n).is_ok());
                assert!(lanes.take().await.is_some());
            }
        });
        takes.await.unwrap();
        other.abort();
        assert!(turns.load(Ordering::Relaxed) > 3);
    });
}

#[test]
fn they_name_themselves_and_their_place() {
    let line = line!() + 1;
    let lanes = Lanes::new().named("accounts");
    assert_eq!((lanes.name(), lanes.place().line()), (Some("accounts"), line));
    let shown = format!("{lanes:?}");
    assert!(shown.contains("accounts") && shown.contains("lanes: 0"), "{shown}");
    let line = line!() + 1;
    let take = lanes.take();
    assert!(format!("{take:?}").contains(&format!("keyed_lanes.rs:{line}")));
}

/// What may be done. Numbers that choose a take or a lease go round.
#[derive(Debug, Clone, Copy)]
enum Step {
    Push(u32),
    Take,
    TryTake,
    Poll(usize),
    Leave(usize),
    Drop(usize),
    GiveBack(usize),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        80 => (0..4u32).prop_map(Step::Push),
        40 => Just(Step::Take),
        20 => Just(Step::TryTake),
        30 => any::<usize>().prop_map(Step::Poll),
        20 => any::<usize>().prop_map(Step::Leave),
        60 => any::<usize>().prop_map(Step::Drop),
        10 => any::<usize>().prop_map(Step::GiveBack),
        1 => Just(Step::Close),
    ]
}

/// What the documentation says, one call after the other.
#[derive(Default)]
struct Model {
    items: BTreeMap<u32, VecDeque<u32>>,
    leased: Vec<u32>,
    ready: VecDeque<u32>,
    /// Takers that wait, in order.
    line: VecDeque<usize>,
    /// What was given and not seen; none when it is over.
    given: BTreeMap<usize, Option<(u32, u32)>>,
    closed: bool,
}

impl Model {
    fn take(&mut self) -> Option<(u32, u32)> {
        let key = self.ready.pop_front()?;
        self.leased.push(key);
        Some((key, self.items.get_mut(&key).unwrap().pop_front().unwrap()))
    }

    fn serve(&mut self) {
        while !self.line.is_empty() && !self.ready.is_empty() {
            let who = self.line.pop_front().unwrap();
            let given = self.take();
            self.given.insert(who, given);
        }
        if self.is_over() {
            self.given.extend(self.line.drain(..).map(|who| (who, None)));
        }
    }

    fn is_over(&self) -> bool {
        self.closed && self.leased.is_empty() && self.items.values().all(VecDeque::is_empty)
    }

    fn push(&mut self, key: u32, item: u32) {
        let items = self.items.entry(key).or_default();
        items.push_back(item);
        if items.len() == 1 && !self.leased.contains(&key) {
            self.ready.push_back(key);
        }
        self.serve();
    }

    fn hand_on(&mut self, key: u32, unseen: Option<u32>) {
        self.leased.retain(|other| *other != key);
        let items = self.items.get_mut(&key).unwrap();
        match unseen {
            Some(item) => {
                items.push_front(item);
                self.ready.push_front(key);
            }
            None if !items.is_empty() => self.ready.push_back(key),
            None => {}
        }
        self.serve();
    }

    fn len(&self) -> usize {
        self.items.values().map(VecDeque::len).sum()
    }

    fn lanes(&self) -> usize {
        let is_there =
            |(key, items): &(&u32, &VecDeque<u32>)| !items.is_empty() || self.leased.contains(key);
        self.items.iter().filter(is_there).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn they_do_what_their_documentation_says(steps in prop::collection::vec(step(), 0..300)) {
        let lanes = Lanes::new();
        let mut model = Model::default();
        let mut takes: Vec<(usize, Take<'_>, CountingWaker)> = Vec::new();
        let mut leases: Vec<(u32, Lease<u32, u32>)> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            let item = u32::try_from(n).unwrap();
            match step {
                Step::Push(key) => {
                    prop_assert_eq!(lanes.push(key, item).is_ok(), !model.closed);
                    if !model.closed {
                        model.push(key, item);
                    }
                }
                Step::Take => {
                    let (mut take, waker) = (Box::pin(lanes.take()), CountingWaker::new());
                    let polled = take.as_mut().poll(&mut Context::from_waker(&waker.waker()));
                    match (polled, model.take()) {
                        (Poll::Ready(Some(lease)), Some((key, item))) => {
                            prop_assert_eq!(*lease, item);
                            leases.push((key, lease));
                        }
                        (Poll::Ready(None), None) => prop_assert!(model.is_over()),
                        (Poll::Pending, None) => {
                            prop_assert!(!model.is_over());
                            model.line.push_back(n);
                            takes.push((n, take, waker));
                        }
                        (polled, model) => panic!("{polled:?}, not {model:?}"),
                    }
                }
                Step::TryTake => match (lanes.try_take(), model.take()) {
                    (Some(lease), Some((key, item))) => {
                        prop_assert_eq!(*lease, item);
                        leases.push((key, lease));
                    }
                    (None, None) => {}
                    (lease, model) => panic!("{lease:?}, not {model:?}"),
                },
                Step::Poll(which) if !takes.is_empty() => {
                    let which = which % takes.len();
                    let (who, take, waker) = &mut takes[which];
                    let polled = take.as_mut().poll(&mut Context::from_waker(&waker.waker()));
                    match (polled, model.given.remove(who)) {
                        (Poll::Pending, None) => {}
                        (Poll::Ready(None), Some(None)) => drop(takes.swap_remove(which)),
                        (Poll::Ready(Some(lease)), Some(Some((key, item)))) => {
                            prop_assert_eq!(*lease, item);
                            leases.push((key, lease));
                            drop(takes.swap_remove(which));
                        }
                        (polled, model) => panic!("{polled:?}, not {model:?}"),
                    }
                }
                Step::Leave(which) if !takes.is_empty() => {
                    let (who, take, _) = takes.swap_remove(which % takes.len());
                    drop(take);
                    model.line.retain(|other| *other != who);
                    if let Some(Some((key, item))) = model.given.remove(&who) {
                        model.hand_on(key, Some(item));
                    }
                }
                Step::Drop(which) if !leases.is_empty() => {
                    let (key, lease) = leases.swap_remove(which % leases.len());
                    drop(lease);
                    model.hand_on(key, None);
                }
                Step::GiveBack(which) if !leases.is_empty() => {
                    let (key, lease) = leases.swap_remove(which % leases.len());
                    let item = *lease;
                    lease.give_back();
                    model.hand_on(key, Some(item));
                }
                Step::Poll(_) | Step::Leave(_) | Step::Drop(_) | Step::GiveBack(_) => {}
                Step::Close => {
                    lanes.close();
                    model.closed = true;
                    model.serve();
                }
            }
            prop_assert_eq!((lanes.len(), lanes.lanes()), (model.len(), model.lanes()));
            for (who, _, waker) in &takes {
                prop_assert_eq!(waker.wakes(), usize::from(model.given.contains_key(who)));
            }
        }
    }
}
