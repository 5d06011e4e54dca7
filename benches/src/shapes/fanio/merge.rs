//! The merge beside futures' `select_all`, futures-concurrency's `merge` and tokio-stream's StreamMap.
//!
//! Two kinds of input: all of them ready at any time, and ten of ten thousand that get an item each
//! turn while the rest sleep for ever. What the inputs are is the same for everybody: streams that are
//! `Unpin`, on the heap only where the merge puts them, and do as little as a stream can. The merge is
//! made outside of what is timed.
//!
//! They differ in what they promise. `select_all` goes from input to input with every item, ours stays
//! with one for up to sixteen (which is proven to be fair; the same with one is a reference);
//! futures-concurrency and StreamMap begin at another input with every item. Only ours takes part in
//! tokio's cooperative budget, and so it yields once in 128 items here. StreamMap gives the key with
//! every item; it is there with `next`, as its documentation has it, and with `next_many`.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures::stream::select_all;
use futures::{Stream, StreamExt};
use futures_concurrency::stream::Merge as _;
use selvedge_fanio::merge;
use tokio_stream::StreamMap;

use super::expected;
use crate::harness::{Count, Shape, Work};
use crate::shapes::Scale;
use crate::shapes::poll::Woken;

/// Every shape of the merge.
pub(super) fn shapes(scale: Scale) -> Vec<Shape> {
    vec![ready_inputs(FEW), ready_inputs(1_000), sparse(scale)]
}

/// Inputs of the small merge.
const FEW: u64 = 8;
/// Inputs of the sparse merge.
const INPUTS: u64 = 10_000;
/// Those of them that get an item each turn.
const ACTIVE: u64 = 10;
/// How many items StreamMap may hand over at once.
const MANY: usize = 64;

/// Every input has its share of the items and is always ready; an operation is an item.
fn ready_inputs(inputs: u64) -> Shape {
    let shape =
        Shape::new("fanio", "merge", format!("{inputs} ready inputs"), Work::Calibrated(inputs))
            .ours(move |n| drained(merge(shares(inputs, n)), n))
            .peer("select_all", move |n| drained(select_all(shares(inputs, n)), n))
            .peer("futures-concurrency", move |n| {
                drained(shares(inputs, n).collect::<Vec<_>>().merge(), n)
            })
            .peer("StreamMap", move |n| {
                drained(stream_map(shares(inputs, n)).map(|(_, item)| item), n)
            })
            .peer("StreamMap, next_many", move |n| {
                drained(NextMany::new(shares(inputs, n), MANY), n)
            })
            .reference("ours, quantum 1", move |n| drained(merge(shares(inputs, n)).quantum(1), n));
    if inputs == FEW {
        return shape;
    }
    // As many items, from fewer inputs: what an input more costs.
    shape.reference("ours, 8 inputs", move |n| drained(merge(shares(FEW, n)), n))
}

/// Numbers that are there.
struct Numbers(std::ops::Range<u64>);

impl Stream for Numbers {
    type Item = u64;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        Poll::Ready(self.0.next())
    }
}

/// The numbers below `n`, an equal share of them in each input.
fn shares(inputs: u64, n: u64) -> impl Iterator<Item = Numbers> {
    let share = n / inputs;
    (0..inputs).map(move |input| Numbers(input * share..(input + 1) * share))
}

/// Takes the items of a merge to its end, in a task of tokio's.
fn drained(mut merged: impl Stream<Item = u64> + Unpin, n: u64) -> Count {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (count, sum) = Count::of(|| {
        runtime.block_on(async {
            let mut sum = 0;
            while let Some(item) = merged.next().await {
                sum += item;
            }
            sum
        })
    });
    assert_eq!(sum, expected(n));
    count
}

/// A StreamMap with keys that it does not look for: `insert` would, among all that are there.
fn stream_map<S>(inputs: impl Iterator<Item = S>) -> StreamMap<usize, S> {
    let mut map = StreamMap::new();
    map.extend(inputs.enumerate());
    map
}

/// A StreamMap that is asked for several items at once.
struct NextMany<S> {
    /// The inputs.
    map: StreamMap<usize, S>,
    /// What it gave and nobody has taken.
    items: Vec<(usize, u64)>,
    /// The most that it gives at once.
    limit: usize,
}

impl<S> NextMany<S> {
    fn new(inputs: impl Iterator<Item = S>, limit: usize) -> Self {
        Self { map: stream_map(inputs), items: Vec::with_capacity(limit), limit }
    }
}

impl<S: Stream<Item = u64> + Unpin> Stream for NextMany<S> {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        let Self { map, items, limit } = &mut *self;
        if items.is_empty() {
            std::task::ready!(map.poll_next_many(cx, items, *limit));
        }
        Poll::Ready(items.pop().map(|(_, item)| item))
    }
}

/// Ten inputs of ten thousand get an item each turn, the others sleep; an operation is an item, from
/// the wake-up of its input on.
fn sparse(scale: Scale) -> Shape {
    let parameter = format!("{ACTIVE} of {INPUTS} inputs");
    // StreamMap and futures-concurrency look at all inputs for an item or a few: this is about a second
    // of their work, and a millisecond or two of ours.
    let work = Work::Exactly(scale.of(20_000, 1_000, 20));
    Shape::new("fanio", "merge", parameter, work)
        .ours(|n| in_turns(merge, n))
        .peer("select_all", |n| in_turns(select_all, n))
        .peer("futures-concurrency", |n| in_turns(Vec::merge, n))
        .peer("StreamMap", |n| {
            in_turns(|inputs| stream_map(inputs.into_iter()).map(|(_, item)| item), n)
        })
        .peer("StreamMap, next_many", |n| {
            in_turns(|inputs| NextMany::new(inputs.into_iter(), ACTIVE as usize), n)
        })
}

/// What an input and those who wake it share, on one thread.
#[derive(Default)]
struct Mailbox {
    /// At most one item.
    item: Cell<Option<u64>>,
    /// Of whoever asked when there was none.
    waker: RefCell<Option<Waker>>,
}

impl Mailbox {
    fn post(&self, item: u64) {
        assert!(self.item.replace(Some(item)).is_none(), "an item is still there");
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// An input that sleeps until there is an item for it.
struct Inbox(Rc<Mailbox>);

impl Stream for Inbox {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        let Some(item) = self.0.item.take() else {
            match &mut *self.0.waker.borrow_mut() {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        Poll::Ready(Some(item))
    }
}

/// Gives ten inputs an item and takes those out, again and again.
fn in_turns<S: Stream<Item = u64> + Unpin>(make: impl FnOnce(Vec<Inbox>) -> S, n: u64) -> Count {
    let mailboxes: Vec<Rc<Mailbox>> = (0..INPUTS).map(|_| Rc::default()).collect();
    let mut merged = make(mailboxes.iter().cloned().map(Inbox).collect());
    let (woken, waker) = Woken::new();
    let mut cx = Context::from_waker(&waker);
    // An item; or none, when whoever polls would go to sleep.
    let mut take = || {
        loop {
            let before = woken.count();
            match Pin::new(&mut merged).poll_next(&mut cx) {
                Poll::Ready(item) => return Some(item.expect("no input ends")),
                Poll::Pending if woken.count() == before => return None,
                Poll::Pending => {}
            }
        }
    };
    assert_eq!(take(), None, "everybody is asked once, and sleeps");

    let every = (INPUTS / ACTIVE) as usize;
    let active: Vec<_> = mailboxes.iter().skip(every / 2).step_by(every).collect();
    let (count, sum) = Count::of(|| {
        let mut sum = 0;
        for turn in 0..n / ACTIVE {
            for (mailbox, item) in active.iter().zip(turn * ACTIVE..) {
                mailbox.post(item);
            }
            sum += (0..ACTIVE).map(|_| take().expect("it was posted")).sum::<u64>();
        }
        sum
    });
    assert_eq!(sum, expected(n));
    count
}
