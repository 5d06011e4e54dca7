//! The task group against a sequential model of what its documentation says. The tasks are polled by
//! hand; each ends as the step says that ends it.
#![cfg(not(selvedge_loom))]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use selvedge_cancel::Context as Tree;
use selvedge_sync::{Counts, Fault, GroupTask, Refusal, Reserve, Slot, TaskGroup};
use selvedge_testkit::block_on;

type Group = TaskGroup<usize, String>;

/// How a task is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Finish,
    Fail,
    Panic,
    /// Dropped by its executor.
    Drop,
}

/// What may be done to a group. Numbers that choose somebody go round.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// `try_reserve`.
    Try,
    /// `reserve`, polled once.
    Reserve,
    /// Poll one who waits for room.
    Poll(usize),
    /// Drop one who waits for room.
    Leave(usize),
    /// Make a task in a slot, polled once.
    Start(usize),
    /// Drop a slot.
    DropSlot(usize),
    /// End a task.
    End(usize, How),
    /// Cancel the group.
    Cancel,
    /// Poll a join, and drop it.
    Join,
    /// Set the limit.
    Limit(usize),
    /// Ask for a value, without a wait or by one poll of one.
    Next(bool),
    /// Close the group.
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        8 => Just(How::Finish),
        1 => Just(How::Fail),
        1 => Just(How::Panic),
        1 => Just(How::Drop),
    ];
    prop_oneof![
        20 => Just(Step::Try),
        20 => Just(Step::Reserve),
        15 => any::<usize>().prop_map(Step::Poll),
        8 => any::<usize>().prop_map(Step::Leave),
        40 => any::<usize>().prop_map(Step::Start),
        6 => any::<usize>().prop_map(Step::DropSlot),
        30 => (any::<usize>(), how).prop_map(|(which, how)| Step::End(which, how)),
        1 => Just(Step::Cancel),
        1 => Just(Step::Join),
        6 => (1..6usize).prop_map(Step::Limit),
        10 => any::<bool>().prop_map(Step::Next),
        1 => Just(Step::Close),
    ]
}

/// A task's order to end, shared with its future.
type Order = Arc<Mutex<Option<How>>>;

/// Ends when it is told to.
struct Obeys(Order, usize);

impl Future for Obeys {
    type Output = Result<usize, String>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let how = *self.0.lock().unwrap();
        match how {
            None | Some(How::Drop) => Poll::Pending,
            Some(How::Finish) => Poll::Ready(Ok(self.1)),
            Some(How::Fail) => Poll::Ready(Err(self.1.to_string())),
            // Without a word of the panic hook.
            Some(How::Panic) => std::panic::resume_unwind(Box::new(self.1)),
        }
    }
}

/// What the documentation says, one call after the other.
#[derive(Debug, Default)]
struct Model {
    limit: usize,
    collect_all: bool,
    /// Whether values are given out as they come.
    streams: bool,
    taken: usize,
    closed: bool,
    cancelled: bool,
    /// Who waits for room, in order.
    line: VecDeque<usize>,
    /// Who was granted room and has not seen it.
    granted: Vec<usize>,
    counts: [usize; 5],
    results: Vec<Option<usize>>,
    /// Values that came, and that nobody has taken.
    came: VecDeque<usize>,
    /// Indexes of the failures that are kept.
    kept: Vec<usize>,
    failed: bool,
}

impl Model {
    fn give_room(&mut self) {
        self.taken -= 1;
        self.serve();
    }

    fn serve(&mut self) {
        while self.taken < self.limit && !self.closed {
            let Some(who) = self.line.pop_front() else { return };
            self.taken += 1;
            self.granted.push(who);
        }
    }

    fn end(&mut self, index: usize, how: How) {
        let how = if self.cancelled { How::Drop } else { how };
        match how {
            How::Finish => {
                self.counts[1] += 1;
                match self.streams {
                    true => self.came.push_back(index),
                    false => self.results[index] = Some(index),
                }
            }
            How::Fail | How::Panic => {
                self.counts[if how == How::Fail { 2 } else { 3 }] += 1;
                let first = !std::mem::replace(&mut self.failed, true);
                if self.collect_all || first || how == How::Panic {
                    self.kept.push(index);
                }
                self.cancelled |= !self.collect_all;
            }
            How::Drop => self.counts[4] += 1,
        }
        self.give_room();
    }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn numbers(counts: Counts) -> [usize; 5] {
    let Counts { spawned, finished, failed, panicked, cancelled, .. } = counts;
    [spawned, finished, failed, panicked, cancelled]
}

/// Somebody who waits for room: who, and the wait.
type Waiting<'g> = (usize, Pin<Box<Reserve<'g, usize, String>>>);

/// A task that has not ended.
struct Alive {
    task: Pin<Box<GroupTask<usize, String, Obeys>>>,
    order: Order,
    index: usize,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_group_does_what_its_documentation_says(
        limit in prop_oneof![1..4usize, Just(usize::MAX)],
        collect_all: bool,
        streams: bool,
        steps in prop::collection::vec(step(), 0..250),
    ) {
        let tree = Tree::background();
        let builder = Group::builder(&tree).limit(limit).return_panics();
        let builder = if collect_all { builder.collect_all() } else { builder };
        let builder = if streams { builder.stream_results() } else { builder };
        let group = builder.build().unwrap();
        let mut model = Model { limit, collect_all, streams, ..Model::default() };
        let mut waiting: Vec<Waiting<'_>> = Vec::new();
        let mut slots: Vec<Slot<'_, usize, String>> = Vec::new();
        let mut alive: Vec<Alive> = Vec::new();
        let mut next_waiter = 0;

        for step in steps {
            match step {
                Step::Try => {
                    let room = group.try_reserve();
                    if model.cancelled {
                        prop_assert!(matches!(room, Err(Refusal::Stopping(_))));
                    } else if model.closed {
                        prop_assert!(matches!(room, Err(Refusal::Closed)));
                    } else if model.taken >= model.limit || !model.line.is_empty() {
                        prop_assert!(matches!(room, Err(Refusal::Full)));
                    } else {
                        model.taken += 1;
                        slots.push(room.unwrap());
                    }
                }
                Step::Reserve => {
                    let mut reserve = Box::pin(group.reserve());
                    match reserve.as_mut().poll(&mut noop()) {
                        Poll::Ready(Ok(slot)) => {
                            prop_assert!(!model.cancelled && !model.closed);
                            prop_assert!(model.taken < model.limit && model.line.is_empty());
                            model.taken += 1;
                            slots.push(slot);
                        }
                        Poll::Ready(Err(Refusal::Stopping(_))) => prop_assert!(model.cancelled),
                        Poll::Ready(Err(_)) => prop_assert!(model.closed && !model.cancelled),
                        Poll::Pending => {
                            prop_assert!(!model.cancelled && !model.closed);
                            prop_assert!(model.taken >= model.limit || !model.line.is_empty());
                            model.line.push_back(next_waiter);
                            waiting.push((next_waiter, reserve));
                            next_waiter += 1;
                        }
                    }
                }
                Step::Poll(which) if !waiting.is_empty() => {
                    let which = which % waiting.len();
                    let who = waiting[which].0;
                    let granted = model.granted.iter().position(|granted| *granted == who);
                    match waiting[which].1.as_mut().poll(&mut noop()) {
                        Poll::Pending => {
                            prop_assert!(model.line.contains(&who));
                            prop_assert!(!model.closed && !model.cancelled);
                            continue;
                        }
                        Poll::Ready(Ok(slot)) => {
                            prop_assert!(!model.cancelled);
                            model.granted.remove(granted.expect("it was granted room"));
                            slots.push(slot);
                        }
                        Poll::Ready(Err(Refusal::Stopping(_))) => {
                            prop_assert!(model.cancelled);
                            model.line.retain(|waits| *waits != who);
                            if let Some(granted) = granted {
                                model.granted.remove(granted);
                                model.give_room();
                            }
                        }
                        Poll::Ready(Err(_)) => {
                            prop_assert!(model.closed && granted.is_none());
                            model.line.retain(|waits| *waits != who);
                        }
                    }
                    drop(waiting.swap_remove(which));
                }
                Step::Leave(which) if !waiting.is_empty() => {
                    let which = which % waiting.len();
                    let (who, reserve) = waiting.swap_remove(which);
                    drop(reserve);
                    model.line.retain(|waits| *waits != who);
                    if let Some(granted) = model.granted.iter().position(|granted| *granted == who) {
                        model.granted.remove(granted);
                        model.give_room();
                    }
                }
                Step::Start(which) if !slots.is_empty() => {
                    let which = which % slots.len();
                    let (order, index) = (Order::default(), model.counts[0]);
                    let made = slots.swap_remove(which).into_task(Obeys(Arc::clone(&order), index));
                    match made {
                        Err(error) => {
                            prop_assert!(model.cancelled || model.closed);
                            let stopping = matches!(error.refusal(), Refusal::Stopping(_));
                            prop_assert_eq!(stopping, model.cancelled);
                            model.give_room();
                        }
                        Ok(task) => {
                            prop_assert!(!model.cancelled && !model.closed);
                            prop_assert_eq!(task.index(), index);
                            model.counts[0] += 1;
                            if !streams {
                                model.results.push(None);
                            }
                            let mut task = Box::pin(task);
                            prop_assert!(task.as_mut().poll(&mut noop()).is_pending());
                            alive.push(Alive { task, order, index });
                        }
                    }
                }
                Step::DropSlot(which) if !slots.is_empty() => {
                    let which = which % slots.len();
                    drop(slots.swap_remove(which));
                    model.give_room();
                }
                Step::End(which, how) if !alive.is_empty() => {
                    let which = which % alive.len();
                    let Alive { mut task, order, index } = alive.swap_remove(which);
                    *order.lock().unwrap() = Some(how);
                    if how != How::Drop {
                        prop_assert!(task.as_mut().poll(&mut noop()).is_ready());
                    }
                    drop(task);
                    model.end(index, how);
                }
                Step::Cancel => {
                    group.cancel();
                    model.cancelled = true;
                }
                // One that is over would take the results: that is left to the end.
                Step::Join if !alive.is_empty() => {
                    let mut join = Box::pin(group.join());
                    prop_assert!(join.as_mut().poll(&mut noop()).is_pending());
                    model.closed = true;
                }
                Step::Limit(limit) => {
                    prop_assert_eq!(group.set_limit(limit), Ok(model.limit));
                    model.limit = limit;
                    model.serve();
                }
                Step::Next(waits) => {
                    let none = alive.is_empty() && model.came.is_empty();
                    let next = model.came.pop_front().map(|index| (index, index));
                    if waits {
                        let mut wait = Box::pin(group.next());
                        match wait.as_mut().poll(&mut noop()) {
                            Poll::Pending => prop_assert!(next.is_none() && !none),
                            Poll::Ready(value) => prop_assert!(value == next && (value.is_some() || none)),
                        }
                    } else {
                        prop_assert_eq!(group.try_next(), next);
                    }
                }
                Step::Close => {
                    group.close();
                    model.closed = true;
                }
                _ => {}
            }
            prop_assert_eq!(numbers(group.counts()), model.counts);
            prop_assert_eq!(group.context().is_cancelled(), model.cancelled);
        }

        // The end: whoever is alive finishes, and everything that is kept is there.
        for Alive { mut task, order, index } in alive {
            *order.lock().unwrap() = Some(How::Finish);
            prop_assert!(task.as_mut().poll(&mut noop()).is_ready());
            model.end(index, How::Finish);
        }
        drop(slots);
        drop(waiting);
        let joined = block_on(group.join());
        prop_assert_eq!(numbers(joined.counts), model.counts);
        prop_assert_eq!(joined.counts.running(), 0);
        if streams {
            model.results = model.came.iter().copied().map(Some).collect();
        }
        prop_assert_eq!(&joined.results, &model.results);
        let kept: Vec<_> = joined.failures.iter().map(|failure| failure.index).collect();
        prop_assert_eq!(kept, model.kept);
        for failure in joined.failures {
            let told = match failure.fault {
                Fault::Error(error) => error.parse().unwrap(),
                Fault::Panic(panic) => *panic.into_payload().downcast::<usize>().unwrap(),
            };
            prop_assert_eq!(told, failure.index);
        }
    }
}
