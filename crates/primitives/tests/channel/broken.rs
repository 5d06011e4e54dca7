//! Channels that break the contract in one point each, made of the model channel: the suite finds
//! each of them, by the cases that are about that point and by no others.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use super::contract::{Contract, Item, Model, Nothing, Refused, Seen};
use super::{run, suite};

/// The names of the cases that a channel fails. Without those that take threads: there a flaw may
/// show as a hang, which takes long to find out.
fn failed<C: Contract>() -> Vec<&'static str> {
    let fails = |case: &super::Case| std::panic::catch_unwind(|| run(*case)).is_err();
    let cases = suite::<C>().into_iter().filter(|case| !case.0.ends_with("across_threads"));
    cases.filter(fails).map(|case| case.0).collect()
}

#[test]
fn a_channel_without_a_flaw_fails_nothing() {
    struct None;
    impl Flaw for None {}
    assert_eq!(failed::<Broken<None>>(), Vec::<&str>::new());
}

#[test]
fn a_close_that_drops_the_last_item_is_found() {
    struct CloseDropsTheLast;
    impl Flaw for CloseDropsTheLast {
        fn swallows(left_at_close: &mut Option<usize>) -> bool {
            let Some(left) = left_at_close else { return false };
            *left = left.saturating_sub(1);
            *left == 0
        }
    }
    assert_eq!(
        failed::<Broken<CloseDropsTheLast>>(),
        [
            "a_closed_channel_refuses_and_gives_the_item_back",
            "items_left_after_a_close_are_received_and_then_none",
            "a_close_wakes_every_waiting_sender_and_gives_the_items_back",
        ]
    );
}

#[test]
fn room_for_one_item_too_many_is_found() {
    struct RoomForOneMore;
    impl Flaw for RoomForOneMore {
        fn room(capacity: usize) -> usize {
            capacity + 1
        }
    }
    let failed = failed::<Broken<RoomForOneMore>>();
    for case in [
        "both_ends_tell_the_same",
        "a_full_channel_refuses_and_gives_the_item_back",
        "a_capacity_of_zero_panics",
    ] {
        assert!(failed.contains(&case), "{failed:?}");
    }
}

#[test]
fn a_wake_up_that_dies_with_its_future_is_found() {
    struct WakesDie;
    impl Flaw for WakesDie {
        const FORGETS: bool = true;
    }
    assert_eq!(
        failed::<Broken<WakesDie>>(),
        [
            "a_dropped_send_sends_nothing_and_drops_its_item",
            "a_dropped_receive_takes_nothing",
            "a_sender_woken_and_dropped_wakes_the_next",
            "a_receiver_woken_and_dropped_wakes_the_next",
        ]
    );
}

/// What is wrong with a channel: nothing, unless told otherwise.
trait Flaw: 'static {
    /// Futures that are dropped while they wait neither leave the line nor hand their wake-up on.
    const FORGETS: bool = false;

    /// How many items there is room for.
    fn room(capacity: usize) -> usize {
        capacity
    }

    /// Whether an item that was received is lost; `left_at_close` is how many items there were when
    /// an end was closed.
    fn swallows(left_at_close: &mut Option<usize>) -> bool {
        let _ = left_at_close;
        false
    }
}

/// The model channel with a flaw.
struct Broken<F>(F);

/// An end of it.
#[derive(Clone)]
struct End<E> {
    /// The model channel's.
    inner: E,
    /// How many items there were when an end was closed.
    left_at_close: Arc<Mutex<Option<usize>>>,
}

impl<E> End<E> {
    fn pair<S, R>((sender, receiver): (S, R)) -> (End<S>, End<R>) {
        let left_at_close = Arc::default();
        let sender = End { inner: sender, left_at_close: Arc::clone(&left_at_close) };
        (sender, End { inner: receiver, left_at_close })
    }

    fn swallows<F: Flaw>(&self) -> bool {
        F::swallows(&mut self.left_at_close.lock().unwrap())
    }

    fn closes(&self, left: usize) {
        self.left_at_close.lock().unwrap().get_or_insert(left);
    }
}

impl<F: Flaw> Contract for Broken<F> {
    type Sender = End<<Model as Contract>::Sender>;
    type Receiver = End<<Model as Contract>::Receiver>;

    fn bounded(capacity: usize) -> (Self::Sender, Self::Receiver) {
        End::<()>::pair(Model::bounded(F::room(capacity)))
    }

    fn unbounded() -> (Self::Sender, Self::Receiver) {
        End::<()>::pair(Model::unbounded())
    }

    fn try_send(sender: &Self::Sender, item: Item) -> Result<(), Refused> {
        Model::try_send(&sender.inner, item)
    }

    fn send(sender: &Self::Sender, item: Item) -> impl Future<Output = Result<(), Item>> + Send {
        Forgetful::new::<F>(Model::send(&sender.inner, item))
    }

    fn close_sender(sender: &Self::Sender) -> bool {
        sender.closes(Model::sender_sees(&sender.inner).len);
        Model::close_sender(&sender.inner)
    }

    fn sender_sees(sender: &Self::Sender) -> Seen {
        Model::sender_sees(&sender.inner)
    }

    fn try_recv(receiver: &Self::Receiver) -> Result<Item, Nothing> {
        loop {
            let item = Model::try_recv(&receiver.inner)?;
            if !receiver.swallows::<F>() {
                return Ok(item);
            }
        }
    }

    fn recv(receiver: &Self::Receiver) -> impl Future<Output = Option<Item>> + Send {
        Forgetful::new::<F>(async {
            loop {
                let item = Model::recv(&receiver.inner).await?;
                if !receiver.swallows::<F>() {
                    return Some(item);
                }
            }
        })
    }

    fn close_receiver(receiver: &Self::Receiver) -> bool {
        receiver.closes(Model::receiver_sees(&receiver.inner).len);
        Model::close_receiver(&receiver.inner)
    }

    fn receiver_sees(receiver: &Self::Receiver) -> Seen {
        Model::receiver_sees(&receiver.inner)
    }
}

/// Where the forgotten futures are, so that a leak check finds them.
static FORGOTTEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// A future that, with the flaw, is not told that it is dropped.
struct Forgetful<T> {
    inner: Option<Pin<Box<T>>>,
    forgets: bool,
    waits: bool,
}

impl<T> Forgetful<T> {
    fn new<F: Flaw>(future: T) -> Self {
        Self { inner: Some(Box::pin(future)), forgets: F::FORGETS, waits: false }
    }
}

impl<T: Future> Future for Forgetful<T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        let polled = self.inner.as_mut().expect("not dropped").as_mut().poll(cx);
        self.waits = polled.is_pending();
        polled
    }
}

impl<T> Drop for Forgetful<T> {
    fn drop(&mut self) {
        if self.forgets
            && self.waits
            && let Some(inner) = self.inner.take()
        {
            FORGOTTEN.lock().unwrap().push(std::ptr::from_ref(&*inner).addr());
            std::mem::forget(inner);
        }
    }
}
