//! Facts about the window: smoke, capacity, order, close, cancel, drop, panic, and a comparison
//! with a sequential model.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_fanio::{
    Closed, Emitted, Entry, Exit, MAX_CAPACITY, Order, Reserve, Slot, TryNextError,
    TryReserveError, WindowError, window,
};
use selvedge_testkit::{CountingWaker, PanickingWaker, ReentrantWaker, watchdog};

fn item<T>(sequence: u64, value: T) -> Emitted<T> {
    Emitted::Item { sequence, value }
}

fn gap<T>(sequence: u64) -> Emitted<T> {
    Emitted::Gap { sequence }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

fn waiting<'a, T>(entry: &'a Entry<T>, waker: &Waker) -> std::pin::Pin<Box<Reserve<'a, T>>> {
    let mut reserve = Box::pin(entry.reserve());
    assert!(poll(&mut reserve, waker).is_pending());
    reserve
}

fn slots<T>(entry: &Entry<T>, n: usize) -> Vec<Slot<T>> {
    (0..n).map(|_| entry.try_reserve().unwrap()).collect()
}

/// Counts how often values of it are dropped; panics then if it is told to.
struct Counted<'a>(&'a AtomicUsize, bool);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
        assert!(!self.1, "this destructor panics");
    }
}

#[tokio::test]
async fn what_goes_in_comes_out() {
    for order in [Order::Ordered, Order::Unordered] {
        let (entry, mut exit) = window(3, order).unwrap();
        for number in 0..10 {
            entry.reserve().await.unwrap().complete(number);
            assert_eq!(exit.next().await, Some(item(number, number)));
        }
        drop(entry);
        assert_eq!(exit.next().await, None);
        assert_eq!(exit.next().await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_keep_the_order_and_the_bound() {
    for capacity in [1, 2, 7, 64] {
        let (entry, mut exit) = window(capacity, Order::Ordered).unwrap();
        let driver = tokio::spawn(async move {
            for number in 0..2_000_u64 {
                let slot = entry.reserve().await.unwrap();
                assert_eq!(slot.sequence(), number);
                let counts = entry.counts();
                assert!(counts.open() + counts.held() <= capacity as u64, "{counts:?}");
                tokio::spawn(async move {
                    if number % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    if number % 7 != 0 {
                        slot.complete(number);
                    }
                });
            }
        });
        for sequence in 0..2_000_u64 {
            let expected = if sequence % 7 == 0 { gap(sequence) } else { item(sequence, sequence) };
            assert_eq!(exit.next().await, Some(expected));
        }
        assert_eq!(exit.next().await, None);
        driver.await.unwrap();
        let counts = exit.counts();
        assert_eq!((counts.reserved, counts.emitted, counts.discarded), (2_000, 2_000, 0));
        assert_eq!(counts.gaps, 2_000_u64.div_ceil(7));
    }
}

#[test]
fn a_capacity_of_nothing_or_of_everything_is_refused() {
    assert_eq!(window::<u8>(0, Order::Ordered).unwrap_err(), WindowError::Zero);
    for capacity in [MAX_CAPACITY + 1, usize::MAX] {
        let error = window::<u8>(capacity, Order::Unordered).unwrap_err();
        assert_eq!(error, WindowError::TooLarge(capacity));
    }
    assert_eq!(
        WindowError::Zero.to_string(),
        "window not made: a capacity of 0 admits nothing, it must be at least 1"
    );
    assert_eq!(
        WindowError::TooLarge(usize::MAX).to_string(),
        format!(
            "window not made: a capacity of {} is no bound, the most is 2147483647",
            usize::MAX
        )
    );
}

#[test]
fn a_huge_window_takes_no_memory_in_advance() {
    // A ring of 2^31 such values would not fit into any machine.
    let (entry, mut exit) = window::<[u8; 4096]>(MAX_CAPACITY, Order::Ordered).unwrap();
    entry.try_reserve().unwrap().complete([7; 4096]);
    assert_eq!(exit.try_next().unwrap().into_value().unwrap()[0], 7);
}

#[test]
fn exactly_the_capacity_can_be_reserved_and_held() {
    for order in [Order::Ordered, Order::Unordered] {
        for capacity in [1, 2, 5] {
            let (entry, mut exit) = window(capacity, order).unwrap();
            let mut open = slots(&entry, capacity);
            assert_eq!(entry.try_reserve().unwrap_err(), TryReserveError::Full);
            // Completing makes no room; emitting does.
            open.remove(0).complete(());
            assert_eq!(entry.try_reserve().unwrap_err(), TryReserveError::Full);
            assert_eq!(exit.try_next(), Ok(item(0, ())));
            let slot = entry.try_reserve().unwrap();
            assert_eq!(slot.sequence(), capacity as u64);
            assert_eq!(entry.try_reserve().unwrap_err(), TryReserveError::Full);
        }
    }
}

#[test]
fn ordered_emits_by_sequence_and_unordered_by_completion() {
    for (order, expected) in [(Order::Ordered, [0, 1, 2]), (Order::Unordered, [2, 0, 1])] {
        let (entry, mut exit) = window(3, order).unwrap();
        let mut open = slots(&entry, 3);
        for at in [2, 0, 0] {
            let slot = open.remove(at);
            let sequence = slot.sequence();
            slot.complete(sequence);
        }
        assert_eq!(expected.map(|n| item(n, n)).map(Ok), [(); 3].map(|()| exit.try_next()));
        assert_eq!(exit.try_next(), Err(TryNextError::Empty));
        drop(entry);
        assert_eq!(exit.try_next(), Err(TryNextError::Ended));
    }
}

#[test]
fn a_dropped_slot_is_a_gap_in_its_place_and_those_behind_it_come_out() {
    let (entry, mut exit) = window(4, Order::Ordered).unwrap();
    let mut open = slots(&entry, 4);
    open.pop().unwrap().complete(3);
    drop(open.remove(1));
    open.pop().unwrap().complete(2);
    assert_eq!(exit.try_next(), Err(TryNextError::Empty));
    drop(open);
    drop(entry);
    let mut seen = Vec::new();
    while let Ok(emitted) = exit.try_next() {
        seen.push(emitted);
    }
    assert_eq!(seen, [gap(0), gap(1), item(2, 2), item(3, 3)]);
    assert_eq!(exit.counts().gaps, 2);
}

#[test]
fn only_the_head_wakes_an_ordered_exit() {
    let (entry, mut exit) = window(3, Order::Ordered).unwrap();
    let mut open = slots(&entry, 3);
    let waker = CountingWaker::new();
    let mut next = exit.next();
    assert!(poll(&mut next, &waker.waker()).is_pending());
    open.pop().unwrap().complete(2);
    open.pop().unwrap().complete(1);
    assert_eq!(waker.wakes(), 0);
    assert!(poll(&mut next, &waker.waker()).is_pending());
    open.pop().unwrap().complete(0);
    assert_eq!(waker.wakes(), 1);
    assert_eq!(poll(&mut next, &waker.waker()), Poll::Ready(Some(item(0, 0))));
    drop(next);
    assert_eq!(waker.live(), 0);
}

#[test]
fn an_unordered_exit_is_woken_once_for_a_crowd() {
    let (entry, mut exit) = window(3, Order::Unordered).unwrap();
    let open = slots(&entry, 3);
    let waker = CountingWaker::new();
    let mut next = exit.next();
    assert!(poll(&mut next, &waker.waker()).is_pending());
    open.into_iter().for_each(|slot| slot.complete(()));
    entry.close();
    assert_eq!(waker.wakes(), 1);
    assert_eq!(poll(&mut next, &waker.waker()), Poll::Ready(Some(item(0, ()))));
}

#[test]
fn reservers_are_served_in_order_and_nobody_overtakes() {
    let (entry, mut exit) = window(1, Order::Ordered).unwrap();
    entry.try_reserve().unwrap().complete(());
    let wakers = [CountingWaker::new(), CountingWaker::new()];
    let mut first = waiting(&entry, &wakers[0].waker());
    let mut second = waiting(&entry, &wakers[1].waker());
    exit.try_next().unwrap();
    assert_eq!((wakers[0].wakes(), wakers[1].wakes()), (1, 0));
    assert_eq!(entry.try_reserve().unwrap_err(), TryReserveError::Full);
    assert!(poll(&mut Box::pin(entry.reserve()), Waker::noop()).is_pending());
    assert!(poll(&mut second, &wakers[1].waker()).is_pending());
    let Poll::Ready(Ok(slot)) = poll(&mut first, &wakers[0].waker()) else { panic!("granted") };
    assert_eq!(slot.sequence(), 1);
}

#[test]
fn closing_sends_reservers_away_and_lets_the_exit_finish() {
    for from_exit in [false, true] {
        let (entry, mut exit) = window(2, Order::Ordered).unwrap();
        let mut open = slots(&entry, 2);
        let wakers: Vec<_> = (0..100).map(|_| CountingWaker::new()).collect();
        let mut crowd: Vec<_> = wakers.iter().map(|w| waiting(&entry, &w.waker())).collect();
        if from_exit {
            exit.close();
        } else {
            entry.close();
            entry.close();
        }
        assert!(entry.is_closed());
        assert!(wakers.iter().all(|waker| waker.wakes() == 1));
        for reserve in &mut crowd {
            assert!(matches!(poll(reserve, Waker::noop()), Poll::Ready(Err(Closed))));
        }
        assert_eq!(entry.try_reserve().unwrap_err(), TryReserveError::Closed);
        open.remove(0).complete(0);
        assert_eq!(exit.try_next(), Ok(item(0, 0)));
        assert_eq!(exit.try_next(), Err(TryNextError::Empty));
        drop(open);
        assert_eq!(exit.try_next(), Ok(gap(1)));
        assert_eq!(exit.try_next(), Err(TryNextError::Ended));
    }
}

#[test]
fn a_grant_that_was_not_taken_when_the_window_closes_is_void() {
    let (entry, mut exit) = window(1, Order::Ordered).unwrap();
    entry.try_reserve().unwrap().complete(());
    let mut reserve = waiting(&entry, Waker::noop());
    exit.try_next().unwrap();
    entry.close();
    assert_eq!(exit.try_next(), Err(TryNextError::Ended));
    assert!(matches!(poll(&mut reserve, Waker::noop()), Poll::Ready(Err(Closed))));
    assert_eq!(exit.counts().reserved, 1);
}

#[test]
fn an_owned_reservation_outlives_the_entry_and_is_sent_away() {
    let (entry, exit) = window(1, Order::Ordered).unwrap();
    let slot = entry.try_reserve().unwrap();
    let mut reserve = Box::pin(entry.reserve_owned());
    let waker = CountingWaker::new();
    assert!(poll(&mut reserve, &waker.waker()).is_pending());
    drop(entry);
    assert_eq!(waker.wakes(), 1);
    drop(exit);
    slot.complete(());
    assert!(matches!(poll(&mut reserve, Waker::noop()), Poll::Ready(Err(Closed))));
}

#[test]
fn dropping_a_granted_reservation_serves_the_next_and_leaves_no_gap() {
    let (entry, mut exit) = window(1, Order::Ordered).unwrap();
    entry.try_reserve().unwrap().complete(0);
    let wakers = [CountingWaker::new(), CountingWaker::new(), CountingWaker::new()];
    let [granted, queued, behind] = [0, 1, 2].map(|n| waiting(&entry, &wakers[n].waker()));
    exit.try_next().unwrap();
    drop(queued);
    drop(granted);
    assert_eq!([0, 1, 2].map(|n| wakers[n].wakes()), [1, 0, 1]);
    assert_eq!([0, 1].map(|n| wakers[n].live()), [0, 0]);
    let mut behind = behind;
    let Poll::Ready(Ok(slot)) = poll(&mut behind, Waker::noop()) else { panic!("granted") };
    assert_eq!(slot.sequence(), 1);
    slot.complete(1);
    assert_eq!(exit.try_next(), Ok(item(1, 1)));
}

#[test]
fn dropping_the_exit_drops_every_value_once_and_closes() {
    for order in [Order::Ordered, Order::Unordered] {
        let drops = AtomicUsize::new(0);
        let (entry, exit) = window(3, order).unwrap();
        let mut open = slots(&entry, 3);
        open.remove(1).complete(Counted(&drops, false));
        let waker = CountingWaker::new();
        let mut reserve = waiting(&entry, &waker.waker());
        drop(exit);
        assert_eq!(drops.load(Relaxed), 1);
        assert_eq!(waker.wakes(), 1);
        assert!(matches!(poll(&mut reserve, Waker::noop()), Poll::Ready(Err(Closed))));
        open.remove(0).complete(Counted(&drops, false));
        assert_eq!(drops.load(Relaxed), 2);
        drop(open);
        let counts = entry.counts();
        assert_eq!((counts.completed, counts.gaps), (2, 1));
        assert_eq!((counts.emitted, counts.discarded), (0, 3));
    }
}

#[test]
fn a_window_dropped_with_slots_out_leaves_them_harmless() {
    let drops = AtomicUsize::new(0);
    let (entry, exit) = window(2, Order::Ordered).unwrap();
    let mut open = slots(&entry, 2);
    drop((exit, entry));
    open.remove(0).complete(Counted(&drops, false));
    drop(open);
    assert_eq!(drops.load(Relaxed), 1);
}

#[test]
fn a_destructor_that_panics_keeps_no_other_value_from_being_dropped() {
    let drops = AtomicUsize::new(0);
    let (entry, exit) = window(4, Order::Ordered).unwrap();
    let mut open = slots(&entry, 4);
    let last = open.pop().unwrap();
    for (slot, panics) in open.into_iter().zip([true, false, true]) {
        slot.complete(Counted(&drops, panics));
    }
    let panic = catch_unwind(AssertUnwindSafe(|| drop(exit))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"this destructor panics"));
    assert_eq!(drops.load(Relaxed), 3);
    let late = catch_unwind(AssertUnwindSafe(|| last.complete(Counted(&drops, true))));
    assert!(late.is_err());
    assert_eq!((entry.counts().discarded, entry.counts().completed), (4, 4));
}

#[test]
fn a_worker_that_panics_leaves_a_gap() {
    let (entry, mut exit) = window::<u8>(1, Order::Ordered).unwrap();
    let slot = entry.try_reserve().unwrap();
    let worker = std::thread::spawn(move || {
        let _slot = slot;
        panic!("the work panics");
    });
    assert!(worker.join().is_err());
    assert_eq!(exit.try_next(), Ok(gap(0)));
}

#[test]
fn a_waker_that_panics_loses_no_item_and_harms_nobody() {
    let (entry, mut exit) = window(1, Order::Ordered).unwrap();
    let slot = entry.try_reserve().unwrap();
    let panics = PanickingWaker::new();
    assert!(exit.poll_next(&mut Context::from_waker(&panics.waker())).is_pending());
    slot.complete(7);
    assert_eq!(panics.wakes(), 1);
    let reserve = waiting(&entry, &panics.waker());
    assert_eq!(exit.try_next(), Ok(item(0, 7)));
    assert_eq!(panics.wakes(), 2);
    drop(reserve);
    entry.try_reserve().unwrap().complete(8);
    let _sent_away = waiting(&entry, &panics.waker());
    assert!(!entry.is_closed());
    exit.close();
    assert_eq!(panics.wakes(), 3);
    assert_eq!(exit.try_next(), Ok(item(1, 8)));
}

#[test]
fn wakers_may_use_the_window_themselves() {
    watchdog(Duration::from_secs(20), "re-entrant wakers", || {
        let (entry, mut exit) = window(1, Order::Ordered).unwrap();
        let entry = Arc::new(entry);
        let ask = {
            let entry = Arc::clone(&entry);
            move || {
                entry.counts();
            }
        };
        let asks = ReentrantWaker::on_wake_and_drop(ask.clone(), ask);
        let slot = entry.try_reserve().unwrap();
        assert!(exit.poll_next(&mut Context::from_waker(&asks.waker())).is_pending());
        slot.complete(());
        let granted = waiting(&entry, &asks.waker());
        let sent_away = waiting(&entry, &asks.waker());
        exit.try_next().unwrap();
        entry.close();
        drop((granted, sent_away));
        assert_eq!(asks.wakes(), 3);
        assert_eq!(asks.live(), 0);
    });
}

#[test]
fn a_reservation_polled_after_it_completed_panics_with_its_place() {
    let (entry, _exit) = window::<u8>(1, Order::Ordered).unwrap();
    let line = line!() + 1;
    let mut reserve = Box::pin(entry.reserve());
    assert!(poll(&mut reserve, Waker::noop()).is_ready());
    let panic = catch_unwind(AssertUnwindSafe(|| drop(poll(&mut reserve, Waker::noop()))));
    let message = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains(&format!("window.rs:{line}:")), "{message}");
}

#[test]
fn the_ends_say_where_the_window_was_made() {
    let line = line!() + 1;
    let (entry, mut exit) = window::<u8>(1, Order::Ordered).unwrap();
    for text in [format!("{entry:?}"), format!("{exit:?}"), format!("{:?}", exit.next())] {
        assert!(text.contains(&format!("window.rs:{line}:")), "{text}");
        assert!(text.contains("reserved: 0"), "{text}");
    }
    assert_eq!(format!("{:?}", entry.try_reserve().unwrap()), "Slot { sequence: 0, .. }");
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn a_loop_over_ready_futures_yields() {
    use std::cell::Cell;

    let (entry, mut exit) = window(1, Order::Ordered).unwrap();
    for stream in [false, true] {
        let other_ran = Cell::new(false);
        let busy = async {
            let mut laps = 0_u32;
            while !other_ran.get() {
                entry.reserve().await.unwrap().complete(laps);
                if stream {
                    let emitted = std::future::poll_fn(|cx| {
                        futures_core::Stream::poll_next(std::pin::Pin::new(&mut exit), cx)
                    });
                    emitted.await.unwrap();
                } else {
                    exit.next().await.unwrap();
                }
                laps += 1;
                assert!(laps < 10_000, "the budget of the task is never spent");
            }
        };
        // `join!` polls both in one task: the second runs only when the first is pending.
        tokio::join!(biased; busy, async { other_ran.set(true) });
    }
}

/// What the model does next.
#[derive(Debug, Clone)]
enum Step {
    TryReserve,
    Wait,
    PollWaiting(usize),
    DropWaiting(usize),
    Complete(usize),
    DropSlot(usize),
    TryNext,
    Close,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => Just(Step::TryReserve),
        40 => Just(Step::Wait),
        40 => any::<usize>().prop_map(Step::PollWaiting),
        20 => any::<usize>().prop_map(Step::DropWaiting),
        60 => any::<usize>().prop_map(Step::Complete),
        20 => any::<usize>().prop_map(Step::DropSlot),
        80 => Just(Step::TryNext),
        1 => Just(Step::Close),
    ]
}

/// A window as a sequential program: what waits, what is open and what lies there.
#[derive(Default)]
struct Model {
    capacity: usize,
    ordered: bool,
    closed: bool,
    next: u64,
    emitted: u64,
    granted: usize,
    /// For each that waits, whether it was granted.
    waiting: Vec<bool>,
    /// What was settled: sequence, and whether it is an item.
    held: VecDeque<(u64, bool)>,
}

impl Model {
    fn used(&self) -> usize {
        usize::try_from(self.next - self.emitted).unwrap() + self.granted
    }

    fn grant(&mut self) {
        if self.closed || self.used() >= self.capacity {
            return;
        }
        if let Some(first) = self.waiting.iter_mut().find(|granted| !**granted) {
            *first = true;
            self.granted += 1;
        }
    }

    fn take(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn emit(&mut self) -> Result<(u64, bool), TryNextError> {
        let at = if self.ordered {
            self.held.iter().position(|(sequence, _)| *sequence == self.emitted)
        } else {
            (!self.held.is_empty()).then_some(0)
        };
        let Some(emitted) = at.and_then(|at| self.held.remove(at)) else {
            let ended = self.closed && self.emitted == self.next;
            return Err(if ended { TryNextError::Ended } else { TryNextError::Empty });
        };
        self.emitted += 1;
        self.grant();
        Ok(emitted)
    }
}

fn compare(capacity: usize, order: Order, steps: &[Step]) {
    let (entry, mut exit): (Entry<u64>, Exit<u64>) = window(capacity, order).unwrap();
    let mut model = Model { capacity, ordered: order == Order::Ordered, ..Model::default() };
    let mut waiting = Vec::new();
    let mut open: Vec<Slot<u64>> = Vec::new();
    let pick = |at: usize, len: usize| (len > 0).then(|| at % len);
    for step in steps {
        match *step {
            Step::TryReserve => match entry.try_reserve() {
                Ok(slot) => {
                    assert!(!model.closed && model.used() < capacity);
                    assert_eq!(slot.sequence(), model.take());
                    open.push(slot);
                }
                Err(TryReserveError::Full) => {
                    assert!(!model.closed && model.used() == capacity);
                }
                Err(TryReserveError::Closed) => assert!(model.closed),
            },
            Step::Wait => {
                if model.closed || model.used() < capacity {
                    continue;
                }
                waiting.push(self::waiting(&entry, Waker::noop()));
                model.waiting.push(false);
            }
            Step::PollWaiting(at) => {
                let Some(at) = pick(at, waiting.len()) else { continue };
                let polled = poll(&mut waiting[at], Waker::noop());
                let Poll::Ready(reserved) = polled else {
                    assert!(!model.closed && !model.waiting[at]);
                    continue;
                };
                drop(waiting.remove(at));
                let granted = model.waiting.remove(at);
                model.granted -= usize::from(granted);
                assert_eq!(reserved.is_err(), model.closed);
                if let Ok(slot) = reserved {
                    assert!(granted);
                    assert_eq!(slot.sequence(), model.take());
                    open.push(slot);
                }
            }
            Step::DropWaiting(at) => {
                let Some(at) = pick(at, waiting.len()) else { continue };
                drop(waiting.remove(at));
                if model.waiting.remove(at) {
                    model.granted -= 1;
                    model.grant();
                }
            }
            Step::Complete(at) => {
                let Some(at) = pick(at, open.len()) else { continue };
                let slot = open.swap_remove(at);
                model.held.push_back((slot.sequence(), true));
                let sequence = slot.sequence();
                slot.complete(sequence);
            }
            Step::DropSlot(at) => {
                let Some(at) = pick(at, open.len()) else { continue };
                let slot = open.swap_remove(at);
                model.held.push_back((slot.sequence(), false));
            }
            Step::TryNext => {
                let expected = model.emit().map(|(sequence, is_item)| {
                    if is_item { item(sequence, sequence) } else { gap(sequence) }
                });
                assert_eq!(exit.try_next(), expected);
            }
            Step::Close => {
                entry.close();
                model.closed = true;
            }
        }
        let counts = exit.counts();
        assert_eq!((counts.reserved, counts.emitted), (model.next, model.emitted));
        assert_eq!((counts.open(), counts.held()), (open.len() as u64, model.held.len() as u64));
        assert!(counts.open() + counts.held() <= capacity as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// 600 cases of 200 operations on average.
    #[test]
    fn the_window_does_what_a_sequential_model_does(
        capacity in 1_usize..5,
        ordered in any::<bool>(),
        steps in prop::collection::vec(steps(), 0..400),
    ) {
        compare(capacity, if ordered { Order::Ordered } else { Order::Unordered }, &steps);
    }
}

#[test]
fn a_waker_whose_destructor_panics_harms_no_reader() {
    struct NastyWaker;

    impl std::task::Wake for NastyWaker {
        fn wake(self: std::sync::Arc<Self>) {}
    }

    impl Drop for NastyWaker {
        fn drop(&mut self) {
            panic!("a waker's destructor");
        }
    }

    let left = |exit: &mut selvedge_fanio::Exit<u8>| {
        let waker = std::task::Waker::from(std::sync::Arc::new(NastyWaker));
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(exit.poll_next(&mut cx).is_pending());
        // The window holds the last one.
        drop(waker);
    };
    let (entry, mut exit) = window::<u8>(1, Order::Ordered).unwrap();
    let slot = entry.try_reserve().unwrap();
    left(&mut exit);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(exit.poll_next(&mut cx).is_pending());
    left(&mut exit);
    drop(exit);
    slot.complete(1);
}
