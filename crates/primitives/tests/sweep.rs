//! Every public future, dropped at each of its await points; and tokio's cooperative budget.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use selvedge_primitives::channel::{self, Receiver, RecvError, SendError, Sender};
use selvedge_primitives::{Mutex, NextItem};
use selvedge_testkit::{ManualExecutor, Mode, Run, sweep, watchdog};

const PATIENCE: Duration = Duration::from_secs(30);

/// What lies in the channel.
fn drain(receiver: &Receiver<u32>) -> Vec<u32> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

/// A stream of what a test hands over.
#[derive(Default)]
struct Hand(Arc<Mutex<(Vec<u32>, Option<Waker>)>>);

impl Hand {
    fn push(&self, item: u32) {
        let waker = {
            let mut hand = self.0.lock();
            hand.0.push(item);
            hand.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Stream for Hand {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        let mut hand = self.0.lock();
        match hand.0.pop() {
            Some(item) => Poll::Ready(Some(item)),
            None => {
                hand.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[test]
fn next_item_is_swept() {
    let summary = sweep("NextItem", |run: &mut Run| {
        let mut hand = Hand::default();
        let other = Hand(Arc::clone(&hand.0));
        let ended = run.drive(NextItem::new(&mut hand), |_| other.push(7));
        let left = other.0.lock().0.clone();
        match ended.ready() {
            Some(item) => assert_eq!((item, left), (Some(7), vec![])),
            None => assert!(left.is_empty() || left == [7], "it takes nothing with it"),
        }
    });
    assert_eq!(summary.pending_points, 1);
}

#[test]
fn send_is_swept() {
    let summary = sweep("Send", |run: &mut Run| {
        let (sender, receiver) = channel::bounded(1);
        sender.try_send(0).unwrap();
        let mut others = ManualExecutor::new();
        let mut taken = Vec::new();
        let ended = {
            let taken = RefCell::new(&mut taken);
            // The first step gives the room that it makes to another.
            let step = |k| {
                taken.borrow_mut().extend(receiver.try_recv());
                if k == 0 {
                    sender.try_send(7).unwrap();
                }
            };
            run.drive_cancel(sender.send(1), step, || assert!(receiver.close()))
        };
        assert_eq!(run.live_wakers(), 0, "a waker stayed behind");
        let sent = match ended.ready() {
            Some(Ok(())) => 1,
            Some(Err(SendError(item))) => {
                assert_eq!((item, receiver.is_closed()), (1, true));
                0
            }
            None => 0,
        };
        taken.extend(drain(&receiver));
        assert_eq!(taken.iter().filter(|item| **item == 1).count(), sent);
        if run.mode() != Mode::Cancel && run.mode() != Mode::WakeThenCancel {
            // The next one is woken when there is room.
            sender.try_send(2).unwrap();
            let next = others.spawn(sender.send(3));
            others.run_until_stalled();
            receiver.try_recv().unwrap();
            others.run_until_stalled();
            assert_eq!(next.take(), Some(Ok(())));
        }
    });
    assert_eq!(summary.pending_points, 2);
}

#[test]
fn send_is_swept_before_another_in_line() {
    let summary = sweep("Send", |run: &mut Run| {
        let (sender, receiver) = channel::bounded(1);
        sender.try_send(0).unwrap();
        let others = RefCell::new(ManualExecutor::new());
        let next = RefCell::new(None);
        let mut received = Vec::new();
        let ended = run.drive(sender.send(1), |_| {
            let mut others = others.borrow_mut();
            *next.borrow_mut() = Some(others.spawn(sender.send(2)));
            others.run_until_stalled();
            received.push(receiver.try_recv().unwrap());
        });
        let sent = ended.ready().map(|sent| sent.unwrap()).is_some();
        let mut others = others.into_inner();
        others.run_until_stalled();
        received.extend(drain(&receiver));
        others.run_until_stalled();
        received.extend(drain(&receiver));
        assert_eq!(received.contains(&1), sent);
        if let Some(next) = next.take() {
            assert_eq!(next.take(), Some(Ok(())), "nobody told the next that there is room");
            assert!(received.contains(&2));
        }
    });
    assert_eq!(summary.pending_points, 1);
}

#[test]
fn recv_is_swept() {
    let summary = sweep("Recv", |run: &mut Run| {
        let (sender, receiver): (Sender<u32>, Receiver<u32>) = channel::bounded(1);
        let sent = Cell::new(0);
        // The first item goes to another.
        let step = |k| {
            sender.try_send(k as u32).unwrap();
            sent.set(sent.get() + 1);
            if k == 0 {
                receiver.try_recv().unwrap();
                sent.set(sent.get() - 1);
            }
        };
        let ended = run.drive_cancel(receiver.recv(), step, || assert!(sender.close()));
        assert_eq!(run.live_wakers(), 0, "a waker stayed behind");
        let received = match ended.ready() {
            Some(Ok(_)) => 1,
            Some(Err(RecvError)) => {
                assert!(sender.is_closed());
                0
            }
            None => 0,
        };
        assert_eq!(received + drain(&receiver).len(), sent.get(), "an item was lost or doubled");
        if !sender.is_closed() {
            let mut others = ManualExecutor::new();
            let next = others.spawn(receiver.recv());
            others.run_until_stalled();
            sender.try_send(9).unwrap();
            others.run_until_stalled();
            assert_eq!(next.take(), Some(Ok(9)));
        }
    });
    assert_eq!(summary.pending_points, 2);
}

/// Has a task loop over what is always ready until another has made a hundred steps.
fn lets_others_run(turn: impl AsyncFn(&Sender<u32>, &Receiver<u32>) + Send + 'static) {
    watchdog(PATIENCE, "an always-ready loop", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (sender, receiver) = channel::unbounded();
            let steps = Arc::new(AtomicUsize::new(0));
            let other = tokio::spawn({
                let steps = Arc::clone(&steps);
                async move {
                    for _ in 0..100 {
                        // Relaxed: one thread.
                        steps.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                }
            });
            while steps.load(Ordering::Relaxed) < 100 {
                turn(&sender, &receiver).await;
            }
            other.await.unwrap();
        });
    });
}

#[test]
fn a_loop_over_send_yields() {
    lets_others_run(async |sender, receiver| {
        sender.send(1).await.unwrap();
        receiver.try_recv().unwrap();
    });
}

#[test]
fn a_loop_over_recv_yields() {
    lets_others_run(async |sender, receiver| {
        sender.try_send(1).unwrap();
        receiver.recv().await.unwrap();
    });
}
