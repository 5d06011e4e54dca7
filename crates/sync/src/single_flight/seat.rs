//! A caller's seat in a flight: boards, waits, drives, and leaves when it is dropped. Knows nothing of
//! closures or of tokio's budget.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::{
    Anchor, Entry, FirstPanic, Left, LineId, LineWaiter, Panic, contain, wake,
};

use super::craft::{Craft, Fate, Polled, drive};
use super::flight::{
    Berth, Flight, Gone, Landed, Told, board, land, land_alone, leave, look, park, poke_all,
    put_back,
};
use super::map::Map;
use super::shard::{Found, Shard, Slots};

/// A place in the line of a flight.
type Place<'f, K, V, E> = LineWaiter<'f, Slots<K, V, E>, Flight<V, E>, (), Told<V, E>>;

/// How a call has ended.
pub(super) enum Ended<V, E> {
    /// There was nothing: no flight to board, and no result.
    Nothing,
    /// The flight has landed, or the result of one was kept.
    Landed(Arc<Landed<V, E>>),
    /// It has landed, and nobody else wants the result.
    Alone(Result<V, E>),
    /// It has landed because this caller drove it into a panic.
    Panicked(Panic),
}

/// A seat in a flight, or the wish for one.
#[pin_project(PinnedDrop)]
pub(super) struct Seat<'f, K, V, E> {
    /// The place in the line, and the way to the shard.
    #[pin]
    place: Place<'f, K, V, E>,
    /// The seat; none before it has boarded, and when it is over.
    berth: Option<Berth>,
}

impl<'f, K, V, E> Seat<'f, K, V, E> {
    /// In none of the flights of this shard yet.
    #[inline]
    pub(super) fn new(shard: Anchor<'f, Shard<K, V, E>>) -> Self {
        Self { place: Place::new(shard), berth: None }
    }

    /// Takes the seat of the one who has put in a flight.
    pub(super) fn sit_first(self: Pin<&mut Self>, id: LineId) {
        *self.project().berth = Some(Berth::first(id));
    }

    /// Whether it has boarded.
    #[inline]
    pub(super) fn has_boarded(&self) -> bool {
        self.berth.is_some()
    }

    /// Boards the flight of a key, drives the work if it is to be driven, and waits.
    #[inline]
    pub(super) fn poll_board<S>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        map: &Map<K, V, E, S>,
        hash: u64,
        key: &K,
    ) -> Poll<Ended<V, E>>
    where
        K: Eq,
    {
        let (now, waker) = (map.now(), cx.waker());
        let this = self.as_mut().project();
        let told = ready!(this.place.poll_enter(cx, |held| match held.find(hash, key, now) {
            Found::Flying(id) => {
                let (berth, decision) = board(held, id, waker);
                *this.berth = Some(berth);
                decision
            }
            Found::Kept(landed) => Entry::Ready(Told::Landed(landed)),
            Found::Expired(_) | Found::Nothing => Entry::Ready(Told::Nothing),
        }));
        self.poll_on(cx, map, told)
    }

    /// Looks, drives the work if it is to be driven, and waits.
    pub(super) fn poll_ended<S>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        map: &Map<K, V, E, S>,
    ) -> Poll<Ended<V, E>> {
        let told = ready!(self.as_mut().poll_told(cx));
        self.poll_on(cx, map, told)
    }

    /// Ready with what it is told.
    fn poll_told(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Told<V, E>> {
        let this = self.project();
        let (place, berth) = (this.place, this.berth);
        let mut gone = Gone::new();
        let told = place.poll_enter(cx, |held| look(held, berth, &mut gone));
        if let Poll::Ready(Told::Landed(_)) = told {
            // Given, and so given up.
            *berth = None;
        }
        told
    }

    /// Does what it was told.
    fn poll_on<S>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        map: &Map<K, V, E, S>,
        mut told: Told<V, E>,
    ) -> Poll<Ended<V, E>> {
        loop {
            match told {
                Told::Nothing => return Poll::Ready(Ended::Nothing),
                Told::Poked => {}
                Told::Drive(craft) => return self.drive(craft, cx, map),
                Told::Landed(landed) => return Poll::Ready(Ended::Landed(landed)),
                // A call by the work itself, which went elsewhere: nobody will drive it.
                Told::Left => return Poll::Pending,
            }
            told = ready!(self.as_mut().poll_told(cx));
        }
    }

    /// Polls the work; lands, or parks it and waits.
    pub(super) fn drive<S>(
        mut self: Pin<&mut Self>,
        craft: Craft<V, E>,
        cx: &mut Context<'_>,
        map: &Map<K, V, E, S>,
    ) -> Poll<Ended<V, E>> {
        let craft = match drive(craft) {
            Polled::Pending(craft) => craft,
            Polled::Ended(fate) => return Poll::Ready(self.land(map, fate)),
        };
        let id = self.id();
        let mut gone = Gone::new();
        gone.craft = Some(craft);
        let mut place = self.as_mut().project().place;
        // Unwind safe: what was not parked is put back below. A waker's clone may panic.
        let parked = catch_unwind(AssertUnwindSafe(|| {
            place.as_mut().poll_enter(cx, |held| park(held, id, &mut gone))
        }));
        let shard = place.lines();
        match parked {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(Told::Left)) => gone.drop_now(),
            Ok(Poll::Ready(_)) => {
                // Contained: the waker of another caller does not end this one's poll.
                contain(|| poke_all(shard, shard.lock(), id));
                wake(cx.waker().clone());
            }
            Err(payload) => {
                if gone.craft.is_some() {
                    put_back(shard, id, gone);
                }
                resume_unwind(payload);
            }
        }
        Poll::Pending
    }

    /// The number of its flight.
    fn id(&self) -> LineId {
        self.berth.as_ref().expect("who drives has boarded").id
    }

    /// The work has ended.
    pub(super) fn land<S>(
        self: Pin<&mut Self>,
        map: &Map<K, V, E, S>,
        fate: Fate<V, E>,
    ) -> Ended<V, E> {
        let id = self.id();
        let this = self.project();
        // It is given up by whatever comes now.
        *this.berth = None;
        let place = this.place.into_ref().get_ref();
        let shard = place.lines();
        let mut gone = None;
        let (landed, panic) = match fate {
            Ok(result) => {
                if !map.keeps(&result) {
                    gone = land_alone(shard, id);
                    if gone.is_none() {
                        return Ended::Alone(result);
                    }
                }
                (Landed::Returned(result), None)
            }
            Err(panic) => (Landed::Panicked(panic.message().to_owned()), Some(panic)),
        };
        let landed = Arc::new(landed);
        land(map, shard, id, &landed);
        // Not before: it has the key, whose destructor may take long.
        if let Some(gone) = gone {
            gone.drop_now();
        }
        match panic {
            None => Ended::Landed(landed),
            Some(panic) => Ended::Panicked(panic),
        }
    }
}

#[pinned_drop]
impl<K, V, E> PinnedDrop for Seat<'_, K, V, E> {
    /// Leaves. Who was poked and has not looked has nothing to pass on: so were the others.
    #[inline]
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        // None: the place leaves the line by itself.
        let Some(berth) = *this.berth else { return };
        let mut gone = Gone::new();
        let left = this.place.as_mut().cancel_then(|mut held| leave(&mut held, berth, &mut gone));
        match left {
            Left::Queued(()) => {}
            Left::Granted(Told::Landed(_)) => return,
            Left::Granted(_) | Left::Nothing => {
                leave(&mut this.place.lines().lock(), berth, &mut gone);
            }
        }
        if gone.is_something() {
            let mut panics = FirstPanic::new();
            panics.catch(|| gone.drop_now());
            panics.resume();
        }
    }
}
