//! Models of the window's engine. Each explores the real engine over loom; the list of models with
//! their bounds is `loom-models.toml`.
#![cfg(selvedge_loom)]

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use selvedge_cancel::{CauseKind, Context as Tree};
use selvedge_fanio::{
    Closed, Counts, Emitted, Entry, Exit, Merge, Order, Outlet, Route, Slot, TryNextError,
    TryReserveError, fan_out, iter, merge, window,
};
use selvedge_primitives::atomic::{AtomicUsize, Ordering::Relaxed};
use selvedge_primitives::{UnsafeCell, block_on, model::check, thread};

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(String::new(), f).expect("loom has a thread")
}

fn item<T>(sequence: u64, value: T) -> Option<Emitted<T>> {
    Some(Emitted::Item { sequence, value })
}

/// What must hold whenever nothing is under way any more.
fn conserved(counts: Counts) {
    assert_eq!(counts.reserved, counts.completed + counts.gaps, "{counts:?}");
    assert_eq!(counts.reserved, counts.emitted + counts.discarded, "{counts:?}");
}

/// A value whose destructor counts, and asks the window something: it would block for ever under
/// the window's lock.
struct Counted {
    drops: Arc<AtomicUsize>,
    entry: Option<Arc<Entry<Counted>>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.counts();
        }
        // Relaxed: read after the threads were joined.
        self.drops.fetch_add(1, Relaxed);
    }
}

/// A waker that asks the window something when it is woken and when it is dropped.
struct Asks<T: Send + 'static>(Arc<Entry<T>>);

impl<T: Send + 'static> Wake for Asks<T> {
    fn wake(self: Arc<Self>) {
        self.0.counts();
    }
}

impl<T: Send + 'static> Drop for Asks<T> {
    fn drop(&mut self) {
        self.0.counts();
    }
}

fn asks<T: Send + 'static>(entry: &Arc<Entry<T>>) -> Waker {
    Arc::new(Asks(Arc::clone(entry))).into()
}

fn poll_with<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

fn two_slots<T>(order: Order) -> (Entry<T>, Exit<T>, Slot<T>, Slot<T>) {
    let (entry, exit) = window(2, order).unwrap();
    let first = entry.try_reserve().unwrap();
    let second = entry.try_reserve().unwrap();
    (entry, exit, first, second)
}

/// Race: the head and the one behind it complete while the exit goes to sleep. Only the head's
/// completion wakes, so the exit must look for both when it runs; and what the worker wrote before
/// it completed must be seen (loom's cell reports it if not).
#[test]
fn window_complete_vs_emit() {
    check(|| {
        let (entry, mut exit, first, second) = two_slots::<UnsafeCell<u64>>(Order::Ordered);
        let work = |slot: Slot<UnsafeCell<u64>>| {
            let cell = UnsafeCell::new(0);
            move || {
                cell.with_mut(|_written| {});
                slot.complete(cell);
            }
        };
        let workers = [spawn(work(second)), spawn(work(first))];
        for expected in 0..2 {
            let emitted = block_on(exit.next()).unwrap();
            assert_eq!(emitted.sequence(), expected);
            let cell = emitted.into_value().unwrap();
            cell.with_mut(|_read_and_written| {});
        }
        for worker in workers {
            worker.join().unwrap();
        }
        drop(entry);
        assert!(block_on(exit.next()).is_none());
        conserved(exit.counts());
    });
}

/// Race: as above; any completion wakes an exit that sleeps, and a second one between the wake and
/// the exit's look must be seen, too.
#[test]
fn window_complete_vs_emit_unordered() {
    check(|| {
        let (entry, mut exit, first, second) = two_slots::<u64>(Order::Unordered);
        let workers = [first, second].map(|slot| {
            spawn(move || {
                let value = slot.sequence() * 10;
                slot.complete(value);
            })
        });
        let mut sum = 0;
        for _ in 0..2 {
            let emitted = block_on(exit.next()).unwrap();
            assert_eq!(emitted.into_value(), Some(emitted.sequence() * 10));
            sum += emitted.sequence();
        }
        assert_eq!(sum, 1, "each of the two came once");
        for worker in workers {
            worker.join().unwrap();
        }
        drop(entry);
        assert!(block_on(exit.next()).is_none());
        conserved(exit.counts());
    });
}

/// Race: the exit makes room while the first in the queue is dropped. Whoever is granted the room,
/// the second in the queue gets it in the end, with the next sequence number: a reservation that
/// was given up leaves no gap. Before that, nobody overtakes.
#[test]
fn window_reserve_vs_cancel() {
    check(|| {
        let (entry, mut exit) = window(1, Order::Ordered).unwrap();
        entry.try_reserve().unwrap().complete(7);
        let mut given_up = Box::pin(entry.reserve_owned());
        assert!(poll_with(given_up.as_mut(), Waker::noop()).is_pending());
        let mut patient = pin!(entry.reserve());

        let emitter = spawn(move || {
            assert_eq!(exit.try_next().ok(), item(0, 7));
            exit
        });
        let canceller = spawn(move || drop(given_up));
        let slot = block_on(patient.as_mut()).unwrap();
        assert_eq!(entry.try_reserve().unwrap_err(), TryReserveError::Full);
        assert_eq!(slot.sequence(), 1);
        slot.complete(8);

        canceller.join().unwrap();
        let mut exit = emitter.join().unwrap();
        assert_eq!(exit.try_next().ok(), item(1, 8));
        assert_eq!((exit.counts().reserved, exit.counts().gaps), (2, 0));
        conserved(exit.counts());
    });
}

/// Race: the exit is dropped while a slot completes, one result lies there and a reserver waits.
/// Each value is dropped once, outside the lock, and the reserver is sent away.
#[test]
fn window_exit_drop_vs_complete() {
    check(|| {
        let (entry, exit, first, second) = two_slots::<Counted>(Order::Ordered);
        let entry = Arc::new(entry);
        let drops = Arc::new(AtomicUsize::new(0));
        let value = || Counted { drops: Arc::clone(&drops), entry: Some(Arc::clone(&entry)) };
        let (early, late) = (value(), value());
        second.complete(early);

        let leaver = spawn(move || drop(exit));
        let worker = spawn(move || first.complete(late));
        assert_eq!(block_on(entry.reserve()).unwrap_err(), Closed);
        leaver.join().unwrap();
        worker.join().unwrap();

        // Relaxed: the threads were joined.
        assert_eq!(drops.load(Relaxed), 2);
        let counts = entry.counts();
        assert_eq!((counts.completed, counts.emitted, counts.discarded), (2, 0, 2));
        conserved(counts);
    });
}

/// Race: the entry is dropped while the last slot completes and the exit goes to sleep. Whichever
/// comes last must wake the exit: it emits the item and then sees the end.
#[test]
fn window_entry_close_vs_next() {
    check(|| {
        let (entry, mut exit) = window(1, Order::Ordered).unwrap();
        let slot = entry.try_reserve().unwrap();
        let closer = spawn(move || drop(entry));
        let worker = spawn(move || slot.complete(7));
        assert_eq!(block_on(exit.next()), item(0, 7));
        assert_eq!(block_on(exit.next()), None);
        closer.join().unwrap();
        worker.join().unwrap();
        conserved(exit.counts());
    });
}

/// Race: the entry is closed while the exit makes room for a reserver in the queue. Either the
/// reserver has its slot and the exit waits for it, or it is sent away and the exit ends; the exit
/// never ends before a slot that comes after.
#[test]
fn window_entry_close_vs_grant() {
    check(|| {
        let (entry, mut exit) = window(1, Order::Ordered).unwrap();
        entry.try_reserve().unwrap().complete(0);
        let mut reserve = Box::pin(entry.reserve_owned());
        assert!(poll_with(reserve.as_mut(), Waker::noop()).is_pending());

        let reader = spawn(move || {
            let mut seen = 0;
            while let Some(emitted) = block_on(exit.next()) {
                assert_eq!(emitted, Emitted::Item { sequence: seen, value: seen });
                seen += 1;
            }
            (seen, exit.counts())
        });
        drop(entry);
        let reserved = block_on(reserve).map(|slot| slot.complete(1));
        let (seen, counts) = reader.join().unwrap();
        assert_eq!(seen, 1 + u64::from(reserved.is_ok()));
        conserved(counts);
    });
}

/// Race: the entry is closed while a reserver queues and nothing will make room for it. Closing
/// wakes it, or it sees that the window is closed.
#[test]
fn window_reserve_vs_close() {
    check(|| {
        let (entry, mut exit) = window::<u8>(1, Order::Ordered).unwrap();
        let slot = entry.try_reserve().unwrap();
        let reserve = entry.reserve_owned();
        let closer = spawn(move || drop(entry));
        assert_eq!(block_on(reserve).unwrap_err(), Closed);
        closer.join().unwrap();
        drop(slot);
        assert_eq!(exit.try_next(), Ok(Emitted::Gap { sequence: 0 }));
        assert_eq!(exit.try_next(), Err(TryNextError::Ended));
        conserved(exit.counts());
    });
}

/// Race: a newcomer asks for a slot while the exit makes room and somebody waits. The room never
/// lies free, so the newcomer cannot overtake, and the bound holds while the grant is on its way.
#[test]
fn window_newcomer_vs_grant() {
    check(|| {
        let (entry, mut exit) = window(1, Order::Ordered).unwrap();
        entry.try_reserve().unwrap().complete(0);
        let mut reserve = Box::pin(entry.reserve_owned());
        assert!(poll_with(reserve.as_mut(), Waker::noop()).is_pending());
        let emitter = spawn(move || {
            assert_eq!(exit.try_next().ok(), item(0, 0));
            exit
        });
        assert_eq!(entry.try_reserve().unwrap_err(), TryReserveError::Full);
        let slot = block_on(reserve).unwrap();
        assert_eq!(slot.sequence(), 1);
        slot.complete(1);
        let mut exit = emitter.join().unwrap();
        assert_eq!(exit.try_next().ok(), item(1, 1));
        conserved(exit.counts());
    });
}

/// Race: the head is dropped while the one behind it completes and the exit goes to sleep. The gap
/// wakes and comes out in its place; nothing behind it is held up or lost.
#[test]
fn window_gap_vs_complete() {
    check(|| {
        let (entry, mut exit, first, second) = two_slots(Order::Ordered);
        let dropper = spawn(move || drop(first));
        let worker = spawn(move || second.complete(7));
        assert_eq!(block_on(exit.next()), Some(Emitted::Gap { sequence: 0 }));
        assert_eq!(block_on(exit.next()), item(1, 7));
        dropper.join().unwrap();
        worker.join().unwrap();
        drop(entry);
        assert_eq!(exit.try_next(), Err(TryNextError::Ended));
        conserved(exit.counts());
    });
}

/// Race: a `next` that waits is dropped while the head completes. The item is still there for the
/// next call, and no waker stays behind to be woken for nothing.
#[test]
fn window_next_drop_vs_complete() {
    check(|| {
        let (entry, mut exit) = window(1, Order::Unordered).unwrap();
        let slot = entry.try_reserve().unwrap();
        let worker = spawn(move || slot.complete(7));
        {
            let mut next = pin!(exit.next());
            match poll_with(next.as_mut(), Waker::noop()) {
                Poll::Ready(emitted) => assert_eq!(emitted, item(0, 7)),
                Poll::Pending => {}
            }
        }
        if exit.counts().emitted == 0 {
            assert_eq!(block_on(exit.next()), item(0, 7));
        }
        worker.join().unwrap();
        drop(entry);
        assert_eq!(block_on(exit.next()), None);
        conserved(exit.counts());
    });
}

/// Race: two tasks reserve while the exit makes room once. The bound holds whoever comes first, and
/// the other one gets the room of the second emission.
#[test]
fn window_reserve_vs_emit() {
    check(|| {
        let (entry, mut exit) = window(1, Order::Unordered).unwrap();
        let entry = Arc::new(entry);
        let workers = [(); 2].map(|()| {
            let entry = Arc::clone(&entry);
            spawn(move || {
                let slot = block_on(entry.reserve()).unwrap();
                let counts = entry.counts();
                assert_eq!(counts.open() + counts.held(), 1, "the bound is 1: {counts:?}");
                let sequence = slot.sequence();
                slot.complete(sequence);
            })
        });
        for sequence in 0..2 {
            assert_eq!(block_on(exit.next()), item(sequence, sequence));
        }
        for worker in workers {
            worker.join().unwrap();
        }
        conserved(exit.counts());
    });
}

/// Race: the tree is cancelled while the exit makes room for a reserver that runs under it. The
/// room is either the reserver's or free again, and never lost.
#[test]
fn window_reserve_vs_tree_cancel() {
    check(|| {
        let (ctx, canceller) = Tree::background().child();
        let (entry, mut exit) = window(1, Order::Ordered).unwrap();
        entry.try_reserve().unwrap().complete(7);

        let cancelling = spawn(move || canceller.cancel());
        let emitter = spawn(move || {
            assert_eq!(exit.try_next().ok(), item(0, 7));
            exit
        });
        let reserved = block_on(ctx.run(entry.reserve()));
        cancelling.join().unwrap();
        let mut exit = emitter.join().unwrap();

        let slot = match reserved {
            Ok(slot) => slot.unwrap(),
            Err(cause) => {
                assert_eq!(cause.kind(), CauseKind::Cancelled);
                entry.try_reserve().expect("the room that was granted was given back")
            }
        };
        assert_eq!(slot.sequence(), 1);
        slot.complete(8);
        assert_eq!(exit.try_next().ok(), item(1, 8));
        conserved(exit.counts());
    });
}

/// No race, one thread: every waker is woken and dropped, and every value is dropped, with the lock
/// released. Each of them takes the lock.
#[test]
fn window_runs_no_user_code_under_its_lock() {
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let value = |entry: &Arc<Entry<_>>| Counted {
            drops: Arc::clone(&drops),
            entry: Some(Arc::clone(entry)),
        };
        let (entry, mut exit, first, second) = two_slots::<Counted>(Order::Ordered);
        let entry = Arc::new(entry);

        // A waker replaced, a waker taken back, a waker woken by a completion and by a gap.
        {
            let mut next = pin!(exit.next());
            assert!(poll_with(next.as_mut(), &asks(&entry)).is_pending());
            assert!(poll_with(next.as_mut(), &asks(&entry)).is_pending());
        }
        assert_eq!(Arc::strong_count(&entry), 1, "no waker stays behind");
        assert!(exit.poll_next(&mut Context::from_waker(&asks(&entry))).is_pending());
        first.complete(value(&entry));

        // Reservers granted, granted by one that gives up, and sent away.
        let mut reserves = [(); 3].map(|()| Box::pin(entry.reserve_owned())).map(|mut reserve| {
            assert!(poll_with(reserve.as_mut(), &asks(&entry)).is_pending());
            Some(reserve)
        });
        assert_eq!(exit.try_next().map(|emitted| emitted.sequence()), Ok(0));
        reserves[0] = None;
        assert!(exit.poll_next(&mut Context::from_waker(&asks(&entry))).is_pending());
        entry.close();
        drop(second);
        assert_eq!(exit.try_next().map(|emitted| emitted.sequence()), Ok(1));
        for reserve in reserves.into_iter().flatten() {
            assert_eq!(block_on(reserve).unwrap_err(), Closed);
        }
        conserved(exit.counts());

        // The end wakes; the exit's own waker, what lies there and what comes late are dropped.
        let (entry, mut exit) = window::<Counted>(2, Order::Unordered).unwrap();
        let entry = Arc::new(entry);
        assert!(exit.poll_next(&mut Context::from_waker(&asks(&entry))).is_pending());
        entry.close();
        let (entry, mut exit, first, second) = two_slots::<Counted>(Order::Ordered);
        let entry = Arc::new(entry);
        assert!(exit.poll_next(&mut Context::from_waker(&asks(&entry))).is_pending());
        second.complete(value(&entry));
        drop(exit);
        first.complete(value(&entry));
        conserved(entry.counts());
        // Relaxed: there is one thread.
        assert_eq!(drops.load(Relaxed), 3);
    });
}

/// A source of a merge that another thread raises. Nothing but the wake-up orders the two: what it
/// gives is a counter that is read and written relaxed.
struct Lamp {
    shared: Arc<Shared>,
    /// How many items it gave.
    given: usize,
    /// How many it gives in all.
    items: usize,
}

struct Shared {
    /// How many items there are.
    raised: AtomicUsize,
    /// The source's waker; set by its first poll, before the threads are there.
    waker: OnceLock<Waker>,
}

impl Stream for Lamp {
    type Item = usize;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        if self.given == self.items {
            return Poll::Ready(None);
        }
        let waker = self.shared.waker.get_or_init(|| cx.waker().clone());
        assert!(waker.will_wake(cx.waker()), "a source has one waker");
        // Relaxed: the wake-up orders it, or the test fails.
        if self.shared.raised.load(Relaxed) == self.given {
            return Poll::Pending;
        }
        self.given += 1;
        Poll::Ready(Some(self.given))
    }
}

impl Shared {
    /// Adds an item, and wakes.
    fn raise(&self) {
        // Relaxed: as above.
        self.raised.fetch_add(1, Relaxed);
        self.waker.get().expect("it was polled").wake_by_ref();
    }
}

/// A merge of sources that give so many items each, all polled once, and their other sides.
fn lamps<const N: usize>(items: [usize; N]) -> (Merge<Lamp>, [Arc<Shared>; N]) {
    let new = || Shared { raised: AtomicUsize::new(0), waker: OnceLock::new() };
    let shared = items.map(|_| Arc::new(new()));
    let sources = std::iter::zip(&shared, items).map(|(shared, items)| Lamp {
        shared: Arc::clone(shared),
        given: 0,
        items,
    });
    let mut merged = merge(sources);
    assert!(poll_with(pin!(merged.next()), Waker::noop()).is_pending());
    (merged, shared)
}

/// Race: a source is woken while the merge drains and goes to sleep.
#[test]
fn merge_wake_vs_drain() {
    check(|| {
        let (mut merged, [lamp]) = lamps([2]);
        let raising = spawn(move || {
            lamp.raise();
            lamp.raise();
        });
        assert_eq!(block_on(merged.next()), Some(1));
        assert_eq!(block_on(merged.next()), Some(2));
        assert_eq!(block_on(merged.next()), None);
        raising.join().unwrap();
    });
}

/// Race: two sources of one group are woken at once. Whoever marks second finds the mark of the
/// other and goes no further up.
#[test]
fn merge_two_wakes_in_a_group() {
    check(|| {
        let (mut merged, lamps) = lamps([1, 1]);
        let raising = lamps.map(|lamp| spawn(move || lamp.raise()));
        assert_eq!(block_on(merged.next()), Some(1));
        assert_eq!(block_on(merged.next()), Some(1));
        assert_eq!(block_on(merged.next()), None);
        for raised in raising {
            raised.join().unwrap();
        }
    });
}

/// Race: two sources of two groups are woken at once. Whoever marks second finds the group of the
/// other, and does not notify the merge.
#[test]
fn merge_two_wakes_in_two_groups() {
    check(|| {
        // The one in the middle ends at once.
        let (mut merged, [first, _, last]) = lamps([1, 0, 1]);
        let raising = [first, last].map(|lamp| spawn(move || lamp.raise()));
        assert_eq!(block_on(merged.next()), Some(1));
        assert_eq!(block_on(merged.next()), Some(1));
        assert_eq!(block_on(merged.next()), None);
        for raised in raising {
            raised.join().unwrap();
        }
    });
}

/// Race: a source is woken while the merge sleeps and another task polls it. The task that polled
/// last is woken.
#[test]
fn merge_wake_vs_new_task() {
    check(|| {
        let (mut merged, [lamp]) = lamps([1]);
        let raising = spawn(move || lamp.raise());
        let polled = poll_with(pin!(merged.next()), Waker::noop());
        if polled.is_pending() {
            assert_eq!(block_on(merged.next()), Some(1));
        }
        assert_eq!(block_on(merged.next()), None);
        raising.join().unwrap();
    });
}

/// Race: a marker that is slow to wake the merge takes the waker of a later sleep, while the next
/// marker finds that one asleep, too.
#[test]
fn merge_slow_wake_vs_next_sleep() {
    check(|| {
        let (mut merged, [first, second]) = lamps([1, 2]);
        let raising = spawn(move || first.raise());
        let raising_twice = spawn(move || {
            second.raise();
            second.raise();
        });
        let items = [(); 3].map(|()| block_on(merged.next()).unwrap());
        assert_eq!(items.iter().sum::<usize>(), 4);
        assert_eq!(block_on(merged.next()), None);
        raising.join().unwrap();
        raising_twice.join().unwrap();
    });
}

/// Race: a source has ended and is dropped while a waker of it is woken. The mark is skipped, and
/// the mark of the other source, in the same group, is not.
#[test]
fn merge_wake_vs_remove() {
    check(|| {
        let (mut merged, [ended, other]) = lamps([1, 1]);
        let raising = spawn(move || {
            ended.raise();
            // By now it may be gone.
            ended.waker.get().unwrap().wake_by_ref();
            Arc::strong_count(&ended)
        });
        assert_eq!(block_on(merged.next()), Some(1));
        let raising_other = spawn(move || other.raise());
        assert_eq!(block_on(merged.next()), Some(1));
        assert_eq!(block_on(merged.next()), None);
        assert_eq!(merged.live(), 0);
        assert!(raising.join().unwrap() <= 2);
        raising_other.join().unwrap();
    });
}

/// Race: the last source is woken to find its end while the merge goes to sleep.
#[test]
fn merge_end_vs_wake() {
    check(|| {
        let (mut merged, [lamp]) = lamps([1]);
        let raising = spawn(move || {
            lamp.raise();
            lamp.waker.get().unwrap().wake_by_ref();
        });
        let all = async {
            let mut items = 0;
            while merged.next().await.is_some() {
                items += 1;
            }
            items
        };
        assert_eq!(block_on(all), 1);
        raising.join().unwrap();
    });
}

/// A waker that counts, and wakes a source when it is dropped, as a destructor may.
struct Meddles(Arc<Shared>, Arc<Mutex<usize>>);

impl Wake for Meddles {
    fn wake(self: Arc<Self>) {
        *self.1.lock().unwrap() += 1;
    }
}

impl Drop for Meddles {
    fn drop(&mut self) {
        self.0.waker.get().unwrap().wake_by_ref();
    }
}

/// Race: the merge is dropped, asleep, while a source of it is woken. The waker that it left is
/// woken or dropped, and nothing of it stays; its destructor may wake a source.
#[test]
fn merge_drop_vs_wake() {
    check(|| {
        let (mut merged, [lamp]) = lamps([1]);
        let woken = Arc::default();
        let meddles = Arc::new(Meddles(Arc::clone(&lamp), Arc::clone(&woken)));
        let weak = Arc::downgrade(&meddles);
        let polled = poll_with(pin!(merged.next()), &meddles.into());
        assert!(polled.is_pending());
        let raising = spawn(move || lamp.raise());
        drop(merged);
        raising.join().unwrap();
        assert_eq!(weak.strong_count(), 0, "its waker stays behind");
        assert!(*woken.lock().unwrap() <= 1);
    });
}

/// No race, one thread: sources that wake themselves and are pending. The merge yields after two of
/// them, and is polled again.
#[test]
fn merge_yields_and_comes_back() {
    struct Yields(bool);
    impl Stream for Yields {
        type Item = ();

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<()>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(None);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    check(|| {
        let mut merged = merge([Yields(false), Yields(false), Yields(false)]);
        assert_eq!(block_on(merged.next()), None);
    });
}

/// Everything that comes out of an outlet until its end.
fn read(mut outlet: Outlet<u64>) -> Vec<u64> {
    std::iter::from_fn(|| block_on(outlet.next())).collect()
}

/// Race: the feed puts items, and waits for room, while the outlet takes them and waits for more.
#[test]
fn fan_out_put_vs_take() {
    check(|| {
        let ctx = Tree::background();
        let (feed, mut outlets) = fan_out(iter(0..3_u64), 1, 1, Route::shared(), &ctx).unwrap();
        let reading = spawn({
            let outlet = outlets.remove(0);
            move || read(outlet)
        });
        let report = block_on(feed);
        assert!(report.complete && report.left.is_empty());
        assert_eq!(reading.join().unwrap(), [0, 1, 2]);
    });
}

/// Race: two outlets of one queue take the last items and wait for the end.
#[test]
fn fan_out_end_vs_two_takes() {
    check(|| {
        let ctx = Tree::background();
        let (feed, outlets) = fan_out(iter(0..2_u64), 2, 2, Route::shared(), &ctx).unwrap();
        let reading =
            outlets.into_iter().map(|outlet| spawn(move || read(outlet))).collect::<Vec<_>>();
        assert!(block_on(feed).complete);
        let mut all: Vec<_> =
            reading.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1]);
    });
}

/// Race: the feed is dropped while two outlets of one queue wait, and one of them has been granted the
/// last item. Whoever takes it tells the other of the end.
#[test]
fn fan_out_feed_drop_vs_two_takes() {
    check(|| {
        let ctx = Tree::background();
        let (feed, outlets) = fan_out(iter(0..1_u64), 2, 2, Route::shared(), &ctx).unwrap();
        let reading =
            outlets.into_iter().map(|outlet| spawn(move || read(outlet))).collect::<Vec<_>>();
        let mut feed = Box::pin(feed);
        let _ = poll_with(feed.as_mut(), Waker::noop());
        drop(feed);
        let all: Vec<_> = reading.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all, [0]);
    });
}

/// Race: an outlet that waits gives up while the feed puts an item, and another waits behind it. The
/// item is passed on.
#[test]
fn fan_out_put_vs_dropped_take() {
    check(|| {
        let ctx = Tree::background();
        let (feed, mut outlets) = fan_out(iter(0..1_u64), 2, 1, Route::shared(), &ctx).unwrap();
        let (mut second, mut first) = (outlets.pop().unwrap(), outlets.pop().unwrap());
        let mut waiting = Box::pin(first.next());
        assert!(poll_with(waiting.as_mut(), Waker::noop()).is_pending());
        let reading = spawn(move || block_on(second.next()));
        let feeding = spawn(move || block_on(feed));
        drop(waiting);
        drop(first);
        assert_eq!(reading.join().unwrap(), Some(0));
        assert!(feeding.join().unwrap().left.is_empty());
    });
}

/// Race: an outlet with a queue of its own is dropped while the feed puts items into it. What it
/// leaves goes to the other, or is left when the feed has come to its end before.
#[test]
fn fan_out_put_vs_leave() {
    check(|| {
        let ctx = Tree::background();
        let route = Route::round_robin();
        let (feed, mut outlets) = fan_out(iter(0..2_u64), 2, 1, route, &ctx).unwrap();
        let (second, first) = (outlets.pop().unwrap(), outlets.pop().unwrap());
        let leaving = spawn(move || drop(first));
        let reading = spawn(move || read(second));
        let report = block_on(feed);
        leaving.join().unwrap();
        let mut all = reading.join().unwrap();
        all.extend(report.left);
        all.sort_unstable();
        assert!(report.complete);
        assert_eq!(all, [0, 1]);
    });
}

/// Race: an outlet that alone may have some of the items is dropped while the feed puts them. They are
/// left, and go to nobody else.
#[test]
fn fan_out_index_vs_leave() {
    check(|| {
        let ctx = Tree::background();
        let route = Route::by_index(|item: &u64| (item % 2) as usize);
        let (feed, mut outlets) = fan_out(iter(0..3_u64), 2, 1, route, &ctx).unwrap();
        let (second, first) = (outlets.pop().unwrap(), outlets.pop().unwrap());
        let leaving = spawn(move || drop(second));
        let reading = spawn(move || read(first));
        let report = block_on(feed);
        leaving.join().unwrap();
        let taken = reading.join().unwrap();
        assert!(taken.iter().all(|item| item % 2 == 0), "an item of the other outlet: {taken:?}");
        assert!(report.left.contains(&1) && report.read >= 2);
        let mut all = [taken, report.left].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..report.read));
    });
}

/// Race: the last outlet is dropped while the feed waits for room, or for its source. It completes,
/// and tells what is left.
#[test]
fn fan_out_last_leave_vs_wait() {
    check(|| {
        let ctx = Tree::background();
        let (feed, outlets) = fan_out(iter(0..3_u64), 1, 1, Route::shared(), &ctx).unwrap();
        let leaving = spawn(move || drop(outlets));
        let report = block_on(feed);
        leaving.join().unwrap();
        assert_eq!(report.read, report.left.len() as u64);
        assert!(report.left.into_iter().eq(0..report.read));
    });
}

/// Race: the last outlet is dropped, and then the tree is cancelled, while the feed puts items and looks
/// whether it is cancelled. What lay in the queue of the outlet that was gone by then is told.
#[test]
fn fan_out_leave_and_cancel_vs_put() {
    check(|| {
        let (ctx, canceller) = Tree::background().child();
        let (feed, outlets) = fan_out(iter(0..2_u64), 1, 1, Route::shared(), &ctx).unwrap();
        let leaving = spawn(move || {
            drop(outlets);
            canceller.cancel();
        });
        let report = block_on(feed);
        leaving.join().unwrap();
        assert!(report.left.into_iter().eq(0..report.read), "nobody took any");
    });
}

/// Race: the tree is cancelled while the feed waits for room and the outlet makes some. Each item
/// that was read is taken or left.
#[test]
fn fan_out_wait_vs_tree_cancel() {
    check(|| {
        let (ctx, canceller) = Tree::background().child();
        let (feed, mut outlets) = fan_out(iter(0..2_u64), 1, 1, Route::shared(), &ctx).unwrap();
        let outlet = outlets.remove(0);
        let cancelling = spawn(move || canceller.cancel());
        let reading = spawn(move || read(outlet));
        let report = block_on(feed);
        cancelling.join().unwrap();
        let mut all = reading.join().unwrap();
        all.extend(report.left);
        assert!(all.into_iter().eq(0..report.read));
        assert_eq!(report.complete, report.cause.is_none());
    });
}

/// A waker that asks the feed's lanes something when it is woken or dropped: it takes from them.
struct Takes(Mutex<Option<Outlet<u64>>>);

impl Takes {
    fn take(&self) {
        if let Some(outlet) = self.0.lock().unwrap().as_mut() {
            let _ = poll_with(pin!(outlet.next()), Waker::noop());
        }
    }
}

impl Wake for Takes {
    fn wake(self: Arc<Self>) {
        self.take();
    }
}

impl Drop for Takes {
    fn drop(&mut self) {
        self.take();
    }
}

fn takes(outlet: Outlet<u64>) -> Waker {
    Arc::new(Takes(Mutex::new(Some(outlet)))).into()
}

/// No race, one thread: every waker is woken and dropped with the locks released. Each of them takes
/// from the same lane.
#[test]
fn fan_out_runs_no_user_code_under_its_locks() {
    check(|| {
        let ctx = Tree::background();
        let route = || Route::shared();
        let (feed, mut outlets) = fan_out(iter(0..9_u64), 4, 1, route(), &ctx).unwrap();
        let mut feed = Box::pin(feed);
        // A waiter woken by a put, one that is granted what a dropped one gave up, and the end.
        let mut waiting = outlets.pop().unwrap();
        let by_put = takes(outlets.pop().unwrap());
        assert!(poll_with(pin!(waiting.next()), Waker::noop()).is_pending());
        let mut line = Box::pin(waiting.next());
        assert!(poll_with(line.as_mut(), &by_put).is_pending());
        drop(by_put);
        assert!(poll_with(feed.as_mut(), Waker::noop()).is_pending());
        drop(line);
        drop(feed);
        drop(waiting);

        // The feed waits for room with one waker, then with another; the first one, dropped, makes
        // room. The other one is woken when the feed is dropped, or before.
        let (feed, mut outlets) = fan_out(iter(0..9_u64), 2, 1, route(), &ctx).unwrap();
        let mut feed = Box::pin(feed);
        for outlet in outlets.drain(..) {
            assert!(poll_with(feed.as_mut(), &takes(outlet)).is_pending());
        }
        drop(feed);
    });
}
