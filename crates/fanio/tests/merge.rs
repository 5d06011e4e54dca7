//! Facts about the merge: smoke, fairness, end, cancel, drop, panic, and a comparison with a
//! sequential model.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
#[cfg(feature = "tokio")]
use std::time::Duration;

use futures_core::Stream;
use proptest::prelude::*;
use selvedge_fanio::{Merge, merge};
#[cfg(feature = "tokio")]
use selvedge_testkit::watchdog;
use selvedge_testkit::{CountingWaker, PanickingWaker, block_on};
use support::{Hand, Pipe, of, pipe, pipes};

fn poll<S: Stream>(merged: &mut Merge<S>, waker: &Waker) -> Poll<Option<S::Item>> {
    Pin::new(merged).poll_next(&mut Context::from_waker(waker))
}

fn poll_noop<S: Stream>(merged: &mut Merge<S>) -> Poll<Option<S::Item>> {
    poll(merged, Waker::noop())
}

/// Everything that is there now.
fn drain<S: Stream>(merged: &mut Merge<S>) -> Vec<S::Item> {
    std::iter::from_fn(|| match poll_noop(merged) {
        Poll::Ready(item) => item,
        Poll::Pending => None,
    })
    .collect()
}

/// Gives the same for ever.
struct Always(u64);

impl Stream for Always {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        Poll::Ready(Some(self.0))
    }
}

#[test]
fn what_goes_in_comes_out_and_each_source_keeps_its_order() {
    let parts = [0..10, 100..100, 200..250_u64];
    let mut merged = merge(parts.clone().map(of));
    let mut seen: Vec<_> = std::iter::from_fn(|| block_on(merged.next())).collect();
    assert_eq!(block_on(merged.next()), None);
    assert_eq!(merged.live(), 0);
    for part in parts.clone() {
        assert!(seen.iter().copied().filter(|item| part.contains(item)).eq(part.clone()));
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(parts.into_iter().flatten()));
}

#[test]
fn a_merge_of_nothing_has_ended() {
    let mut merged = merge(Vec::<Pipe>::new());
    assert_eq!(block_on(merged.next()), None);
    assert_eq!(block_on(merged.next()), None);
}

#[test]
fn tagged_items_name_their_source() {
    let mut tagged = merge([of([7, 8]), of([]), of([9])]).tagged();
    assert_eq!(tagged.live(), 3);
    let seen: Vec<_> = std::iter::from_fn(|| block_on(tagged.next())).collect();
    assert_eq!(seen, [(0, 7), (0, 8), (2, 9)]);
    assert!(tagged.take_panics().is_empty());
    assert!(format!("{tagged:?}").contains("live: 0"));
}

#[test]
fn streams_of_several_types_are_merged_in_boxes() {
    let (sender, receiver) = async_channel::bounded(1);
    sender.try_send(1).unwrap();
    drop(sender);
    let streams: [Pin<Box<dyn Stream<Item = u64>>>; 2] = [Box::pin(receiver), Box::pin(of([2]))];
    let mut merged = merge(streams);
    assert_eq!([(); 3].map(|()| block_on(merged.next())), [Some(1), Some(2), None]);
}

#[test]
fn a_source_takes_its_quantum_and_no_more() {
    for (quantum, runs) in [(0, 1), (1, 1), (3, 3), (usize::MAX, 100)] {
        let mut merged = merge([Always(0), Always(1)]).quantum(quantum);
        let seen: Vec<_> = (0..100).map(|_| block_on(merged.next()).unwrap()).collect();
        let first = seen.iter().take_while(|item| **item == 0).count();
        assert_eq!(first, runs, "quantum {quantum}");
    }
}

#[test]
fn with_all_ready_nobody_waits_for_more_than_one_quantum_of_each_other() {
    for sources in [1, 2, 3, 64, 65, 512_usize] {
        for quantum in [1, 5, 16] {
            let always = (0..sources as u64).map(Always);
            let mut merged = merge(always).quantum(quantum);
            let mut last = vec![0; sources];
            for step in 1..=200_000 / 18 + 3 * sources * quantum {
                let source = block_on(merged.next()).unwrap() as usize;
                let others = step - last[source] - 1;
                assert!(others <= (sources - 1) * quantum, "{sources} sources, {others} others");
                last[source] = step;
            }
        }
    }
}

/// The case that tempts: the source in its turn is woken in it and has a lower number.
#[test]
fn a_source_that_is_woken_in_its_own_turn_gets_no_second_one_before_the_others() {
    let (sources, hands) = pipes(2);
    let mut merged = merge(sources).quantum(4).tagged();
    let mut next = || match pin!(merged.next()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some((source, _))) => Some(source),
        _ => None,
    };
    assert_eq!(next(), None);
    let busy = hands[0].state().waker.clone().unwrap();
    (0..100).for_each(|item| hands[0].push(item));
    assert_eq!(next(), Some(0));
    hands[1].push(0);
    busy.wake();
    let before = std::iter::from_fn(|| next().filter(|source| *source == 0)).count();
    assert_eq!(before, 3, "the rest of its quantum");
}

#[test]
fn only_what_was_woken_is_polled() {
    for (sources, active) in [(1_000, 0), (1_000, 999), (10_000, 9_999), (10_000, 4_096)] {
        let (sources, hands) = pipes(sources);
        let mut merged = merge(sources);
        let counting = CountingWaker::new();
        let waker = counting.waker();
        assert!(poll(&mut merged, &waker).is_pending());
        for item in 0..100 {
            hands[active].push(item);
            assert_eq!(counting.wakes(), item as usize + 1, "woken once an item");
            assert_eq!(poll(&mut merged, &waker), Poll::Ready(Some(item)));
            assert!(poll(&mut merged, &waker).is_pending());
        }
        let polls: usize = hands.iter().map(Hand::polls).sum();
        assert_eq!(polls, hands.len() + 200, "one for each to begin with, two for each item");
    }
}

#[test]
fn many_wakes_before_a_poll_wake_once() {
    let (sources, hands) = pipes(200);
    let mut merged = merge(sources);
    let counting = CountingWaker::new();
    assert!(poll(&mut merged, &counting.waker()).is_pending());
    for hand in &hands {
        hand.push(1);
        hand.push(2);
    }
    assert_eq!(counting.wakes(), 1);
    assert_eq!(drain(&mut merged).len(), 400);
}

#[test]
fn a_source_is_dropped_as_soon_as_it_has_ended() {
    let (sources, hands) = pipes(3);
    let mut merged = merge(sources);
    assert!(poll_noop(&mut merged).is_pending());
    let stale = hands[1].state().waker.clone().unwrap();
    hands[1].close();
    assert!(poll_noop(&mut merged).is_pending());
    assert_eq!(merged.live(), 2);
    assert!(hands[1].is_alone() && !hands[0].is_alone());
    // A waker that outlives its source, and then the merge.
    stale.wake_by_ref();
    assert!(poll_noop(&mut merged).is_pending());
    drop(merged);
    assert!(hands.iter().all(Hand::is_alone));
    stale.wake();
}

#[test]
fn a_task_that_is_no_longer_asking_is_not_woken() {
    let (source, hand) = pipe();
    let mut merged = merge([source]);
    let (first, second) = (CountingWaker::new(), CountingWaker::new());
    assert!(poll(&mut merged, &first.waker()).is_pending());
    assert!(poll(&mut merged, &second.waker()).is_pending());
    assert_eq!(first.live(), 0);
    hand.push(1);
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    drop(merged);
    assert_eq!(second.live(), 0);
}

#[test]
fn dropping_the_merge_leaves_no_waker_behind() {
    let (sources, hands) = pipes(3);
    let mut merged = merge(sources);
    let counting = CountingWaker::new();
    assert!(poll(&mut merged, &counting.waker()).is_pending());
    drop(merged);
    assert_eq!(counting.live(), 0);
    hands.iter().for_each(Hand::close);
    assert_eq!(counting.wakes(), 0);
}

/// Panics when it is polled or when it is dropped.
struct Panics {
    poll: bool,
    drop: bool,
    dropped: Arc<AtomicUsize>,
}

impl Panics {
    fn boxed(
        poll: bool,
        drop: bool,
        dropped: &Arc<AtomicUsize>,
    ) -> Pin<Box<dyn Stream<Item = u64>>> {
        Box::pin(Self { poll, drop, dropped: Arc::clone(dropped) })
    }
}

impl Stream for Panics {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        assert!(!self.poll, "a source panics");
        Poll::Ready(None)
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Relaxed);
        assert!(!self.drop, "a destructor panics");
    }
}

#[test]
fn a_source_that_panics_ends_alone_and_its_panic_goes_on_at_the_end() {
    let dropped = Arc::default();
    for (poll, drop, text) in [
        (true, false, "a source panics"),
        (false, true, "a destructor panics"),
        (true, true, "a source panics"),
    ] {
        let panics = Panics::boxed(poll, drop, &dropped);
        let mut merged = merge([Box::pin(of([1])) as _, panics, Box::pin(of([2]))]);
        assert_eq!(block_on(merged.next()), Some(1));
        assert_eq!(block_on(merged.next()), Some(2));
        let end = catch_unwind(AssertUnwindSafe(|| block_on(merged.next()))).unwrap_err();
        assert_eq!(end.downcast_ref::<&str>(), Some(&text));
        assert_eq!(block_on(merged.next()), None, "once");
    }
    assert_eq!(dropped.load(Relaxed), 3);
}

#[test]
fn panics_that_are_taken_do_not_go_on() {
    let dropped = Arc::default();
    let (source, hand) = pipe();
    let mut merged = merge([Box::pin(source) as _, Panics::boxed(true, true, &dropped)]);
    assert!(poll_noop(&mut merged).is_pending());
    let panics = merged.take_panics();
    let seen: Vec<_> = panics.iter().map(|(source, panic)| (*source, panic.message())).collect();
    assert_eq!(seen, [(1, "a source panics"), (1, "a destructor panics")]);
    hand.close();
    assert_eq!(block_on(merged.next()), None);
}

#[test]
fn dropping_the_merge_drops_every_source_although_one_panics() {
    let dropped: Arc<AtomicUsize> = Arc::default();
    let merged = merge([false, true, false].map(|drop| Panics::boxed(false, drop, &dropped)));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(merged))).is_err());
    assert_eq!(dropped.load(Relaxed), 3);
}

#[test]
fn a_task_waker_that_panics_harms_no_source() {
    let (source, hand) = pipe();
    let mut merged = merge([source]);
    let panicking = PanickingWaker::new();
    assert!(poll(&mut merged, &panicking.waker()).is_pending());
    hand.push(1);
    assert_eq!(panicking.wakes(), 1);
    assert_eq!(poll_noop(&mut merged), Poll::Ready(Some(1)));
}

/// Wakes itself and is pending, for ever.
struct Yields(Arc<AtomicUsize>);

impl Stream for Yields {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        self.0.fetch_add(1, Relaxed);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[test]
fn sources_that_only_wake_themselves_do_not_hold_up_the_task() {
    let polls: Arc<AtomicUsize> = Arc::default();
    let mut merged = merge((0..1_000).map(|_| Yields(Arc::clone(&polls))));
    let counting = CountingWaker::new();
    assert!(poll(&mut merged, &counting.waker()).is_pending());
    assert_eq!((counting.wakes(), polls.load(Relaxed)), (1, 2));
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn a_loop_over_a_ready_merge_yields() {
    let mut merged = merge([Always(0), Always(1)]);
    let other_ran = std::cell::Cell::new(false);
    let busy = async {
        for lap in 0.. {
            merged.next().await.unwrap();
            if other_ran.get() {
                break;
            }
            assert!(lap < 10_000, "the budget of the task is never spent");
        }
    };
    tokio::join!(biased; busy, async { other_ran.set(true) });
}

#[cfg(feature = "tokio")]
/// A receiver of tokio's, which spends the budget and is pending when it is spent.
struct Channel {
    receiver: tokio::sync::mpsc::UnboundedReceiver<u64>,
    polls: Arc<AtomicUsize>,
}

#[cfg(feature = "tokio")]
impl Stream for Channel {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        self.polls.fetch_add(1, Relaxed);
        self.receiver.poll_recv(cx)
    }
}

#[cfg(feature = "tokio")]
#[test]
fn a_spent_budget_does_not_make_it_poll_every_source() {
    watchdog(Duration::from_secs(60), "20,000 sources under a budget", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            const SOURCES: usize = 20_000;
            let polls: Arc<AtomicUsize> = Arc::default();
            let mut merged = merge((0..SOURCES).map(|_| {
                let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
                sender.send(1).unwrap();
                Channel { receiver, polls: Arc::clone(&polls) }
            }));
            let mut items = 0;
            while merged.next().await.is_some() {
                items += 1;
            }
            assert_eq!(items, SOURCES);
            let polls = polls.load(Relaxed);
            assert!(polls < 3 * SOURCES, "an item and an end each, and little else: {polls}");
        });
    });
}

/// What the model does next; sources are counted from any number.
#[derive(Debug, Clone)]
enum Step {
    Push(usize, usize),
    Close(usize),
    Wake(usize),
    Poll(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (any::<usize>(), 1..40_usize).prop_map(|(at, items)| Step::Push(at, items)),
        1 => any::<usize>().prop_map(Step::Close),
        10 => any::<usize>().prop_map(Step::Wake),
        20 => (1..60_usize).prop_map(Step::Poll),
    ]
}

/// A source as a sequential program.
#[derive(Default)]
struct Model {
    pushed: u64,
    given: u64,
    closed: bool,
    /// How many items the others gave since it had one to give.
    others: usize,
}

fn compare(sources: usize, quantum: usize, steps: &[Step]) {
    let (pipes, hands) = pipes(sources);
    let mut merged = merge(pipes).quantum(quantum).tagged();
    let mut models: Vec<_> = (0..sources).map(|_| Model::default()).collect();
    let counting = CountingWaker::new();
    let waker = counting.waker();
    let mut asleep_since = None;
    for step in steps {
        match *step {
            Step::Push(at, items) => {
                let model = &mut models[at % sources];
                for _ in 0..items {
                    if model.closed {
                        break;
                    }
                    hands[at % sources].push(model.pushed);
                    model.pushed += 1;
                }
            }
            Step::Close(at) => {
                models[at % sources].closed = true;
                hands[at % sources].close();
            }
            Step::Wake(at) => {
                let left = hands[at % sources].state().waker.clone();
                left.into_iter().for_each(|waker| waker.wake());
            }
            Step::Poll(times) => {
                for _ in 0..times {
                    let ready = models.iter().any(|model| model.given < model.pushed);
                    if ready && let Some(wakes) = asleep_since {
                        assert!(counting.wakes() > wakes, "a wake-up was lost");
                    }
                    let polled = Pin::new(&mut merged).poll_next(&mut Context::from_waker(&waker));
                    asleep_since = None;
                    match polled {
                        Poll::Ready(Some((source, item))) => {
                            let model = &mut models[source];
                            assert_eq!(item, model.given);
                            assert!(model.given < model.pushed);
                            assert!(model.others <= (sources - 1) * quantum.max(1), "the bound");
                            model.given += 1;
                            model.others = 0;
                            for (other, model) in models.iter_mut().enumerate() {
                                if other != source && model.given < model.pushed {
                                    model.others += 1;
                                }
                            }
                        }
                        Poll::Ready(None) => {
                            assert!(!ready && models.iter().all(|model| model.closed));
                            assert_eq!(merged.live(), 0);
                        }
                        Poll::Pending => {
                            assert!(!ready, "something was ready");
                            asleep_since = Some(counting.wakes());
                            let open = models.iter().filter(|model| !model.closed).count();
                            assert_eq!(merged.live(), open, "who has ended is gone");
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// 400 cases of at least 100 steps, most of which are several operations: more than 100,000.
    #[test]
    fn a_merge_gives_what_its_sources_hold_in_their_order_and_in_time(
        sources in prop_oneof![1..4_usize, 60..70_usize, 1..200_usize],
        quantum in 0..8_usize,
        steps in prop::collection::vec(steps(), 100..300),
    ) {
        compare(sources, quantum, &steps);
    }
}

/// A source that takes part in tokio's budget is pending when it is spent, though it has items. With these
/// numbers it would be the same source each time.
#[cfg(feature = "tokio")]
#[tokio::test]
async fn a_spent_budget_costs_no_source_its_turn() {
    for (sources, quantum) in [(18, 5), (6, 17), (86, 1)] {
        let always = (0..sources).map(|_| selvedge_fanio::iter(0_u64..));
        let mut merged = merge(always).quantum(quantum).tagged();
        let mut last = vec![0; sources];
        let steps = 20_000;
        for step in 1..=steps {
            let (source, _) = merged.next().await.unwrap();
            // As a send into a channel of tokio's would.
            tokio::task::coop::consume_budget().await;
            last[source] = step;
        }
        for (source, last) in last.into_iter().enumerate() {
            let gap = steps - last;
            assert!(gap <= (sources - 1) * quantum, "source {source} of {sources}: {gap} others");
        }
    }
}
