//! The wait queue against a `VecDeque`: any sequence of operations gives the same order, the same
//! outcomes and the same wakes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_primitives::{Anchor, Entry, Left, WaitQueue, Waiter, WakeBatch};
use selvedge_testkit::CountingWaker;

type Queue = WaitQueue<(), usize, usize>;

/// How many waiters there are.
const WAITERS: usize = 40;
/// How many wakers they are polled with.
const WAKERS: usize = 3;
/// Sequences, and operations in each: 150,000 operations in all.
const CASES: u32 = 1_000;
const OPERATIONS: usize = 150;

/// An operation; the numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Op {
    Poll {
        waiter: usize,
        waker: usize,
    },
    Cancel {
        waiter: usize,
    },
    Drop {
        waiter: usize,
    },
    GrantFront,
    /// Grants up to so many.
    GrantWhile(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let waiter = 0..WAITERS;
    prop_oneof![
        8 => (waiter.clone(), 0..WAKERS).prop_map(|(waiter, waker)| Op::Poll { waiter, waker }),
        2 => waiter.clone().prop_map(|waiter| Op::Cancel { waiter }),
        1 => waiter.prop_map(|waiter| Op::Drop { waiter }),
        2 => Just(Op::GrantFront),
        1 => (0..2 * WAITERS).prop_map(Op::GrantWhile),
    ]
}

/// What the model knows of a waiter.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Idle,
    /// In the queue, with the waker of its last poll.
    Queued {
        request: usize,
        waker: usize,
    },
    Granted(usize),
}

/// The naive queue.
struct Model {
    waiters: [State; WAITERS],
    /// Indices of waiters.
    line: VecDeque<usize>,
    wakes: [usize; WAKERS],
}

impl Model {
    fn grant_front(&mut self, outcome: usize) -> Option<usize> {
        let front = self.line.pop_front()?;
        let State::Queued { request, waker } = self.waiters[front] else {
            panic!("who stands in line is queued")
        };
        self.waiters[front] = State::Granted(outcome);
        self.wakes[waker] += 1;
        Some(request)
    }

    fn leave(&mut self, waiter: usize) -> Left<usize, usize> {
        self.line.retain(|&other| other != waiter);
        match std::mem::replace(&mut self.waiters[waiter], State::Idle) {
            State::Idle => Left::Nothing,
            State::Queued { request, .. } => Left::Queued(request),
            State::Granted(outcome) => Left::Granted(outcome),
        }
    }
}

fn fresh(queue: &Queue) -> Pin<Box<Waiter<'_, (), usize, usize>>> {
    Box::pin(Waiter::new(Anchor::borrowed(queue)))
}

fn agrees(ops: &[Op]) -> Result<(), TestCaseError> {
    let queue = Queue::new(());
    let mut real: Vec<_> = (0..WAITERS).map(|_| fresh(&queue)).collect();
    let counting: Vec<_> = (0..WAKERS).map(|_| CountingWaker::new()).collect();
    let wakers: Vec<_> = counting.iter().map(CountingWaker::waker).collect();
    let mut model =
        Model { waiters: [State::Idle; WAITERS], line: VecDeque::new(), wakes: [0; WAKERS] };

    for (number, op) in ops.iter().enumerate() {
        match *op {
            Op::Poll { waiter, waker } => {
                let mut cx = Context::from_waker(&wakers[waker]);
                let polled = real[waiter].as_mut().poll_enter(&mut cx, |_| Entry::Wait(number));
                let expected = match model.waiters[waiter] {
                    State::Idle => {
                        model.line.push_back(waiter);
                        model.waiters[waiter] = State::Queued { request: number, waker };
                        Poll::Pending
                    }
                    State::Queued { request, .. } => {
                        model.waiters[waiter] = State::Queued { request, waker };
                        Poll::Pending
                    }
                    State::Granted(outcome) => {
                        model.waiters[waiter] = State::Idle;
                        Poll::Ready(outcome)
                    }
                };
                prop_assert_eq!(polled, expected);
            }
            Op::Cancel { waiter } => {
                prop_assert_eq!(real[waiter].as_mut().cancel(), model.leave(waiter));
            }
            Op::Drop { waiter } => {
                real[waiter] = fresh(&queue);
                model.leave(waiter);
            }
            Op::GrantFront => {
                let mut batch = WakeBatch::new();
                let granted = queue.lock().grant_front(number, &mut batch);
                batch.wake_all();
                let expected = model.grant_front(number).map(drop).ok_or(number);
                prop_assert_eq!(granted, expected);
            }
            Op::GrantWhile(limit) => {
                let mut served = Vec::new();
                queue.grant_while(queue.lock(), |(), &request| {
                    (served.len() < limit).then(|| {
                        served.push(request);
                        number
                    })
                });
                let expected: Vec<_> =
                    (0..limit).map_while(|_| model.grant_front(number)).collect();
                prop_assert_eq!(served, expected);
            }
        }
        prop_assert_eq!(queue.lock().len(), model.line.len());
        for (waiter, state) in real.iter().zip(model.waiters) {
            prop_assert_eq!(waiter.as_ref().is_waiting(), state != State::Idle);
        }
        let mut kept = [1; WAKERS];
        for state in model.waiters {
            if let State::Queued { waker, .. } = state {
                kept[waker] += 1;
            }
        }
        for waker in 0..WAKERS {
            prop_assert_eq!(counting[waker].wakes(), model.wakes[waker]);
            prop_assert_eq!(counting[waker].live(), kept[waker]);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_queue_does_what_a_deque_does(ops in vec(op(), OPERATIONS)) {
        agrees(&ops)?;
    }
}
