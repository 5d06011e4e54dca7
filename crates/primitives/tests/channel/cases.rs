//! The cases. Each is about one line of the contract; none sleeps, and none relies on what the
//! contract does not promise.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use selvedge_testkit::{CountingWaker, ManualExecutor, block_on};

use super::contract::{Contract, Item, Nothing, Refused, Seen, item};

/// Takes out what is there.
fn drain<C: Contract>(receiver: &C::Receiver) -> Vec<u32> {
    std::iter::from_fn(|| C::try_recv(receiver).ok()).map(|item| *item).collect()
}

/// A channel of this capacity, full of 0, 1, 2, ...
fn full<C: Contract>(capacity: u32) -> (C::Sender, C::Receiver) {
    let (sender, receiver) = C::bounded(capacity as usize);
    for number in 0..capacity {
        C::try_send(&sender, item(number)).unwrap();
    }
    (sender, receiver)
}

// Smoke.

pub(crate) fn items_of_one_sender_arrive_in_order<C: Contract>() {
    let (sender, receiver) = C::bounded(3);
    let mut executor = ManualExecutor::new();
    let sending = executor.spawn(async {
        for number in 0..100 {
            C::send(&sender, item(number)).await.unwrap();
        }
    });
    let received = executor.spawn(async {
        let mut received = Vec::new();
        while received.len() < 100 {
            received.push(*C::recv(&receiver).await.unwrap());
        }
        received
    });
    executor.run_until_stalled();
    assert!(sending.is_finished());
    assert_eq!(received.take().unwrap(), (0..100).collect::<Vec<_>>());
}

pub(crate) fn an_item_that_waited_to_be_sent_arrives_behind_those_before_it<C: Contract>() {
    let (sender, receiver) = full::<C>(2);
    let mut executor = ManualExecutor::new();
    let waiting = executor.spawn(C::send(&sender, item(2)));
    executor.run_until_stalled();
    assert!(!waiting.is_finished());
    assert_eq!(*C::try_recv(&receiver).unwrap(), 0);
    executor.run_until_stalled();
    assert_eq!(waiting.take(), Some(Ok(())));
    assert_eq!(drain::<C>(&receiver), [1, 2]);
}

pub(crate) fn both_ends_tell_the_same<C: Contract>() {
    let (sender, receiver) = C::bounded(2);
    let mut expected = Seen {
        len: 0,
        capacity: Some(2),
        is_empty: true,
        is_full: false,
        is_closed: false,
        senders: 1,
        receivers: 1,
    };
    let check = |expected: &Seen| {
        assert_eq!(C::sender_sees(&sender), *expected);
        assert_eq!(C::receiver_sees(&receiver), *expected);
    };
    check(&expected);
    C::try_send(&sender, item(0)).unwrap();
    expected = Seen { len: 1, is_empty: false, ..expected };
    check(&expected);
    C::try_send(&sender, item(1)).unwrap();
    expected = Seen { len: 2, is_full: true, ..expected };
    check(&expected);
    C::close_receiver(&receiver);
    expected = Seen { is_closed: true, ..expected };
    check(&expected);
    C::try_recv(&receiver).unwrap();
    expected = Seen { len: 1, is_full: false, ..expected };
    check(&expected);
}

pub(crate) fn clones_are_counted<C: Contract>() {
    let (sender, receiver) = C::unbounded();
    let more = (sender.clone(), sender.clone(), receiver.clone());
    let seen = C::sender_sees(&sender);
    assert_eq!((seen.senders, seen.receivers), (3, 2));
    drop(more);
    let seen = C::receiver_sees(&receiver);
    assert_eq!((seen.senders, seen.receivers), (1, 1));
}

// Capacity.

pub(crate) fn a_full_channel_refuses_and_gives_the_item_back<C: Contract>() {
    let (sender, receiver) = full::<C>(3);
    let refused = item(7);
    assert_eq!(C::try_send(&sender, Arc::clone(&refused)), Err(Refused::Full(item(7))));
    assert_eq!(Arc::strong_count(&refused), 1);
    assert_eq!(C::sender_sees(&sender).len, 3);
    assert_eq!(*C::try_recv(&receiver).unwrap(), 0);
    assert_eq!(C::try_send(&sender, refused), Ok(()));
    assert_eq!(drain::<C>(&receiver), [1, 2, 7]);
}

pub(crate) fn an_empty_channel_says_that_it_is_empty<C: Contract>() {
    let (sender, receiver) = C::bounded(1);
    assert_eq!(C::try_recv(&receiver), Err(Nothing::Empty));
    C::try_send(&sender, item(1)).unwrap();
    assert_eq!(drain::<C>(&receiver), [1]);
    assert_eq!(C::try_recv(&receiver), Err(Nothing::Empty));
}

pub(crate) fn an_unbounded_channel_is_never_full<C: Contract>() {
    let (sender, receiver) = C::unbounded();
    for number in 0..1000 {
        C::try_send(&sender, item(number)).unwrap();
    }
    let seen = C::sender_sees(&sender);
    assert_eq!((seen.len, seen.capacity, seen.is_full), (1000, None, false));
    assert_eq!(drain::<C>(&receiver), (0..1000).collect::<Vec<_>>());
}

pub(crate) fn a_capacity_of_zero_panics<C: Contract>() {
    assert!(catch_unwind(|| C::bounded(0)).is_err());
}

// Close.

/// A way to close a channel of which somebody will receive.
type Close<C> = fn(&mut Vec<<C as Contract>::Sender>, &<C as Contract>::Receiver);

/// A way to close a channel of which somebody sends.
type CloseOnSender<C> = fn(&<C as Contract>::Sender, &mut Vec<<C as Contract>::Receiver>);

/// Every way that leaves somebody to receive.
fn closes<C: Contract>() -> [Close<C>; 3] {
    [
        |senders, _| assert!(C::close_sender(&senders[0])),
        |_, receiver| assert!(C::close_receiver(receiver)),
        |senders, _| senders.clear(),
    ]
}

pub(crate) fn a_closed_channel_refuses_and_gives_the_item_back<C: Contract>() {
    for close in &closes::<C>()[..2] {
        let (sender, receiver) = full::<C>(1);
        let mut senders = vec![sender];
        close(&mut senders, &receiver);
        // Closed counts for more than full.
        assert_eq!(C::try_send(&senders[0], item(7)), Err(Refused::Closed(item(7))));
        assert_eq!(block_on(C::send(&senders[0], item(8))), Err(item(8)));
        assert_eq!(drain::<C>(&receiver), [0]);
        assert_eq!(C::try_send(&senders[0], item(9)), Err(Refused::Closed(item(9))));
    }
    let (sender, receiver) = C::bounded(1);
    drop(receiver);
    assert_eq!(C::try_send(&sender, item(7)), Err(Refused::Closed(item(7))));
    assert_eq!(block_on(C::send(&sender, item(8))), Err(item(8)));
}

pub(crate) fn only_the_first_close_says_that_it_closed<C: Contract>() {
    let (sender, receiver) = C::bounded(1);
    assert!(C::close_sender(&sender));
    assert!(!C::close_sender(&sender));
    assert!(!C::close_receiver(&receiver));
    let (sender, receiver) = C::unbounded();
    drop(sender);
    assert!(!C::close_receiver(&receiver));
}

pub(crate) fn items_left_after_a_close_are_received_and_then_none<C: Contract>() {
    for close in closes::<C>() {
        let (sender, receiver) = full::<C>(3);
        let mut senders = vec![sender];
        close(&mut senders, &receiver);
        assert!(C::receiver_sees(&receiver).is_closed);
        assert_eq!(*C::try_recv(&receiver).expect("the first item is left"), 0);
        assert_eq!(*block_on(C::recv(&receiver)).expect("the second item is left"), 1);
        assert_eq!(*C::try_recv(&receiver).expect("the last item is left"), 2);
        assert_eq!(C::try_recv(&receiver), Err(Nothing::Closed));
        assert_eq!(block_on(C::recv(&receiver)), None);
    }
}

pub(crate) fn a_close_wakes_every_waiting_receiver<C: Contract>() {
    for close in closes::<C>() {
        let (sender, receiver) = C::bounded(1);
        let mut senders = vec![sender];
        let mut executor = ManualExecutor::new();
        let waiting: Vec<_> = (0..50).map(|_| executor.spawn(C::recv(&receiver))).collect();
        assert_eq!(executor.run_until_stalled(), 50);
        close(&mut senders, &receiver);
        executor.run_until_stalled();
        for waiting in waiting {
            assert_eq!(waiting.take(), Some(None), "woken, to learn that nothing will come");
        }
    }
}

pub(crate) fn a_close_wakes_every_waiting_sender_and_gives_the_items_back<C: Contract>() {
    let closes: [CloseOnSender<C>; 3] = [
        |sender, _| assert!(C::close_sender(sender)),
        |_, receivers| assert!(C::close_receiver(&receivers[0])),
        |_, receivers| receivers.clear(),
    ];
    for close in closes {
        let (sender, receiver) = full::<C>(1);
        let mut receivers = vec![receiver];
        let mut executor = ManualExecutor::new();
        let waiting: Vec<_> =
            (0..50).map(|number| executor.spawn(C::send(&sender, item(number)))).collect();
        assert_eq!(executor.run_until_stalled(), 50);
        close(&sender, &mut receivers);
        executor.run_until_stalled();
        for (number, waiting) in (0..).zip(waiting) {
            assert_eq!(waiting.take(), Some(Err(item(number))));
        }
        for receiver in &receivers {
            assert_eq!(drain::<C>(receiver), [0], "what was inside is still there");
        }
    }
}

pub(crate) fn an_end_that_is_not_the_last_closes_nothing_when_it_is_dropped<C: Contract>() {
    let (sender, receiver) = C::bounded(1);
    drop((sender.clone(), receiver.clone()));
    assert!(!C::sender_sees(&sender).is_closed);
    C::try_send(&sender, item(1)).unwrap();
    assert_eq!(drain::<C>(&receiver), [1]);
}

// Waiting.

pub(crate) fn a_waiting_sender_is_woken_when_an_item_is_taken<C: Contract>() {
    let (sender, receiver) = full::<C>(2);
    let mut executor = ManualExecutor::new();
    let waiting: Vec<_> =
        (2..6).map(|number| executor.spawn(C::send(&sender, item(number)))).collect();
    executor.run_until_stalled();
    for taken in 0..4 {
        assert_eq!(waiting.iter().filter(|waiting| waiting.is_finished()).count(), taken);
        C::try_recv(&receiver).unwrap();
        executor.run_until_stalled();
        assert!(C::sender_sees(&sender).is_full, "nobody waits beside room");
    }
    assert!(waiting.iter().all(|waiting| waiting.take() == Some(Ok(()))));
}

pub(crate) fn a_waiting_receiver_is_woken_when_an_item_is_sent<C: Contract>() {
    let (sender, receiver) = C::bounded(4);
    let mut executor = ManualExecutor::new();
    let waiting: Vec<_> = (0..4).map(|_| executor.spawn(C::recv(&receiver))).collect();
    executor.run_until_stalled();
    for number in 0..3 {
        assert_eq!(waiting.iter().filter(|waiting| waiting.is_finished()).count(), number);
        C::try_send(&sender, item(number as u32)).unwrap();
        executor.run_until_stalled();
        assert!(C::sender_sees(&sender).is_empty, "nobody waits beside an item");
    }
    assert_eq!(waiting.iter().filter(|waiting| waiting.is_finished()).count(), 3);
}

/// Not a promise, but the lack of one: a receiver that was served hands the wake-up that brought it
/// the item on, the next one finds nothing, and comes to stand behind the third.
pub(crate) fn of_three_that_wait_the_third_is_served_before_the_second<C: Contract>() {
    let (sender, receiver) = C::bounded(1);
    let mut executor = ManualExecutor::new();
    let waiting: Vec<_> = (0..3).map(|_| executor.spawn(C::recv(&receiver))).collect();
    executor.run_until_stalled();
    for (number, served) in [(0, 0), (1, 2), (2, 1)] {
        C::try_send(&sender, item(number)).unwrap();
        executor.run_until_stalled();
        assert_eq!(waiting[served].take(), Some(Some(item(number))));
    }

    C::try_send(&sender, item(9)).unwrap();
    let waiting: Vec<_> =
        (0..3).map(|number| executor.spawn(C::send(&sender, item(number)))).collect();
    executor.run_until_stalled();
    for (taken, served) in [(9, 0), (0, 2), (2, 1)] {
        assert_eq!(C::try_recv(&receiver), Ok(item(taken)));
        executor.run_until_stalled();
        assert_eq!(waiting[served].take(), Some(Ok(())));
    }
}

pub(crate) fn a_running_caller_may_overtake_a_woken_one<C: Contract>() {
    let (sender, receiver) = C::bounded(1);
    let mut executor = ManualExecutor::new();
    let waiting = executor.spawn(C::recv(&receiver));
    executor.run_until_stalled();
    C::try_send(&sender, item(1)).unwrap();
    assert_eq!(C::try_recv(&receiver), Ok(item(1)), "the woken one has no claim to it");
    executor.run_until_stalled();
    assert!(!waiting.is_finished());

    C::try_send(&sender, item(2)).unwrap();
    executor.run_until_stalled();
    assert_eq!(waiting.take(), Some(Some(item(2))));
    C::try_send(&sender, item(3)).unwrap();
    let waiting = executor.spawn(C::send(&sender, item(4)));
    executor.run_until_stalled();
    C::try_recv(&receiver).unwrap();
    assert_eq!(C::try_send(&sender, item(5)), Ok(()), "the woken one has no claim to the room");
    executor.run_until_stalled();
    assert!(!waiting.is_finished());
}

pub(crate) fn one_that_is_overtaken_is_served_later<C: Contract>() {
    let (sender, receiver) = C::bounded(1);
    let mut executor = ManualExecutor::new();
    let waiting: Vec<_> = (0..2).map(|_| executor.spawn(C::recv(&receiver))).collect();
    executor.run_until_stalled();
    for number in 0..10 {
        C::try_send(&sender, item(number)).unwrap();
        C::try_recv(&receiver).unwrap();
        executor.run_until_stalled();
    }
    C::try_send(&sender, item(10)).unwrap();
    executor.run_until_stalled();
    C::try_send(&sender, item(11)).unwrap();
    executor.run_until_stalled();
    let mut received: Vec<_> =
        waiting.iter().map(|waiting| *waiting.take().unwrap().unwrap()).collect();
    received.sort_unstable();
    assert_eq!(received, [10, 11]);
}

// Cancel.

pub(crate) fn a_future_that_is_never_polled_does_nothing<C: Contract>() {
    let (sender, receiver) = C::bounded(1);
    let kept = item(1);
    drop(C::send(&sender, Arc::clone(&kept)));
    assert_eq!(Arc::strong_count(&kept), 1);
    C::try_send(&sender, kept).unwrap();
    drop(C::recv(&receiver));
    assert_eq!(drain::<C>(&receiver), [1]);
}

pub(crate) fn a_dropped_send_sends_nothing_and_drops_its_item<C: Contract>() {
    let (sender, receiver) = full::<C>(1);
    let mut executor = ManualExecutor::new();
    let kept = item(1);
    let dropped = executor.spawn(C::send(&sender, Arc::clone(&kept)));
    let stays = executor.spawn(C::send(&sender, item(2)));
    executor.run_until_stalled();
    assert!(executor.drop_task(&dropped));
    assert_eq!(Arc::strong_count(&kept), 1, "the item died with the future");
    assert_eq!(C::try_recv(&receiver), Ok(item(0)));
    executor.run_until_stalled();
    assert_eq!(stays.take(), Some(Ok(())));
    assert_eq!(drain::<C>(&receiver), [2]);
}

pub(crate) fn a_dropped_receive_takes_nothing<C: Contract>() {
    let (sender, receiver) = C::bounded(1);
    let mut executor = ManualExecutor::new();
    let dropped = executor.spawn(C::recv(&receiver));
    let stays = executor.spawn(C::recv(&receiver));
    executor.run_until_stalled();
    assert!(executor.drop_task(&dropped));
    C::try_send(&sender, item(1)).unwrap();
    executor.run_until_stalled();
    assert_eq!(stays.take(), Some(Some(item(1))));
}

pub(crate) fn a_sender_woken_and_dropped_wakes_the_next<C: Contract>() {
    let (sender, receiver) = full::<C>(1);
    let mut executor = ManualExecutor::new();
    let woken = executor.spawn(C::send(&sender, item(1)));
    let next = executor.spawn(C::send(&sender, item(2)));
    executor.run_until_stalled();
    C::try_recv(&receiver).unwrap();
    assert!(executor.drop_task(&woken));
    executor.run_until_stalled();
    assert_eq!(next.take(), Some(Ok(())));
    assert_eq!(drain::<C>(&receiver), [2]);
}

pub(crate) fn a_receiver_woken_and_dropped_wakes_the_next<C: Contract>() {
    let (sender, receiver) = C::bounded(1);
    let mut executor = ManualExecutor::new();
    let woken = executor.spawn(C::recv(&receiver));
    let next = executor.spawn(C::recv(&receiver));
    executor.run_until_stalled();
    C::try_send(&sender, item(1)).unwrap();
    assert!(executor.drop_task(&woken));
    executor.run_until_stalled();
    assert_eq!(next.take(), Some(Some(item(1))), "the item is still there, and somebody knows");
}

// Drop.

pub(crate) fn items_that_nobody_received_are_dropped_once<C: Contract>() {
    let (sender, receiver) = C::bounded(2);
    let kept = item(1);
    C::try_send(&sender, Arc::clone(&kept)).unwrap();
    C::try_send(&sender, Arc::clone(&kept)).unwrap();
    assert_eq!(Arc::strong_count(&kept), 3);
    drop(receiver);
    drop(sender);
    assert_eq!(Arc::strong_count(&kept), 1);
}

// Threads.

const SENDERS: u32 = 3;
const RECEIVERS: usize = 3;
const EACH: u32 = 500;

/// Starts the senders; each sends its own numbers.
fn send_all<C: Contract>(sender: C::Sender) -> Vec<thread::JoinHandle<()>> {
    let senders = (0..SENDERS).map(|who| (who, sender.clone())).collect::<Vec<_>>();
    drop(sender);
    let start = |(who, sender)| {
        thread::spawn(move || {
            for number in 0..EACH {
                block_on(C::send(&sender, item(who * EACH + number))).unwrap();
            }
        })
    };
    senders.into_iter().map(start).collect()
}

/// Every item arrived once, and those of one sender in order at each receiver.
fn each_once(received: Vec<Vec<u32>>) {
    let mut counts = BTreeMap::new();
    for received in received {
        let mut latest = BTreeMap::new();
        for number in received {
            *counts.entry(number).or_insert(0) += 1;
            let before = latest.insert(number / EACH, number);
            assert!(before.is_none_or(|before| before < number), "overtaken by its successor");
        }
    }
    assert_eq!(counts.len(), (SENDERS * EACH) as usize, "an item was lost");
    assert!(counts.values().all(|count| *count == 1), "an item was doubled");
}

pub(crate) fn each_item_arrives_once_across_threads<C: Contract>() {
    let (sender, receiver) = C::bounded(2);
    let senders = send_all::<C>(sender);
    let receivers: Vec<_> = (0..RECEIVERS)
        .map(|_| {
            let receiver = receiver.clone();
            thread::spawn(move || {
                let mut received = Vec::new();
                while let Some(item) = block_on(C::recv(&receiver)) {
                    received.push(*item);
                }
                received
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    each_once(receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect());
}

pub(crate) fn no_item_is_lost_when_receives_are_dropped_across_threads<C: Contract>() {
    let (sender, receiver) = C::bounded(2);
    let senders = send_all::<C>(sender);
    let receivers: Vec<_> = (0..RECEIVERS)
        .map(|who| {
            let receiver = receiver.clone();
            thread::spawn(move || {
                let mut received = Vec::new();
                let mut round = who;
                loop {
                    round += 1;
                    if round % 3 == 0
                        && let Poll::Ready(item) = poll_and_drop(C::recv(&receiver))
                    {
                        let Some(item) = item else { return received };
                        received.push(*item);
                        continue;
                    }
                    let Some(item) = block_on(C::recv(&receiver)) else { return received };
                    received.push(*item);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    each_once(receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect());
}

/// Polls once, in a task of its own.
fn poll_and_drop(future: impl Future<Output = Option<Item>>) -> Poll<Option<Item>> {
    let counting = CountingWaker::new();
    let waker: Waker = counting.waker();
    pin!(future).poll(&mut Context::from_waker(&waker))
}
