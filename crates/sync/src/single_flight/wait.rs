//! The future of a call: finds a flight or starts one, and has a seat in it.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::{contain, coop};

use super::craft::load;
use super::flight::Landed;
use super::map::{Begun, Map};
use super::seat::{Ended, Seat};
use super::way::Way;

/// Waits for a flight to land; made by [`SingleFlight::run`](crate::SingleFlight::run) and
/// [`SingleFlight::run_owned`](crate::SingleFlight::run_owned), which say what it promises.
#[pin_project]
#[must_use = "a future does nothing until it is polled"]
pub struct FlightWait<'f, K, V, E, M, S = RandomState> {
    /// What it takes to find a flight or to start one; none once that is done.
    call: Option<Call<K, M>>,
    /// The seat in the flight.
    #[pin]
    seat: Option<Seat<'f, K, V, E>>,
    /// Where to look.
    way: Way<'f, K, V, E, S>,
    /// Who called.
    place: &'static Location<'static>,
}

/// A call that has not boarded.
struct Call<K, M> {
    /// For what; none once a flight has it.
    key: Option<K>,
    /// Makes the work.
    make: M,
}

/// What a call gets.
enum Outcome<V, E> {
    /// A result that nobody else wants.
    Own(Result<V, E>),
    /// A share in one.
    Shared(Arc<Landed<V, E>>),
}

impl<'f, K, V, E, M, S> FlightWait<'f, K, V, E, M, S> {
    /// A call that borrows the flights.
    #[track_caller]
    #[inline]
    pub(super) fn new(map: &'f Arc<Map<K, V, E, S>>, key: K, make: M) -> Self {
        Self::by(Way::Borrowed(map), key, make)
    }

    /// A call by whatever way.
    #[track_caller]
    #[inline]
    fn by(way: Way<'f, K, V, E, S>, key: K, make: M) -> Self {
        let call = Some(Call { key: Some(key), make });
        Self { call, seat: None, way, place: Location::caller() }
    }
}

impl<K, V, E, M, S> FlightWait<'static, K, V, E, M, S> {
    /// A call that keeps the flights.
    #[track_caller]
    #[inline]
    pub(super) fn own(map: Arc<Map<K, V, E, S>>, key: K, make: M) -> Self {
        Self::by(Way::Kept(map), key, make)
    }
}

impl<K, V, E, M, F, S> FlightWait<'_, K, V, E, M, S>
where
    K: Hash + Eq + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    M: FnOnce() -> F,
    F: Future<Output = Result<V, E>> + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Ready when a flight has landed that this was a caller of, or when a result was kept.
    #[inline]
    fn poll_outcome(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<V, E>> {
        if self.call.is_some() && self.seat.as_ref().is_some_and(Seat::has_boarded) {
            // The poll that boarded has panicked before it came to this.
            let_go(self.as_mut().project().call.take());
        }
        let ended = match self.call {
            Some(_) => ready!(self.as_mut().poll_call(cx)),
            None => {
                let this = self.as_mut().project();
                let seat = this.seat.as_pin_mut();
                let seat = seat.expect("a call is not polled after it was ready");
                ready!(seat.poll_ended(cx, this.way))
            }
        };
        let mut this = self.project();
        this.seat.set(None);
        let_go(this.call.take());
        match ended {
            Ended::Landed(landed) => Poll::Ready(Outcome::Shared(landed)),
            Ended::Alone(result) => Poll::Ready(Outcome::Own(result)),
            Ended::Panicked(panic) => panic.resume(),
            Ended::Nothing => unreachable!("then it begins a flight"),
        }
    }

    /// The same for a call that has not boarded: boards, or begins a flight.
    #[inline]
    fn poll_call(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<V, E>> {
        let mut this = self.project();
        let key = this.call.as_ref().and_then(|call| call.key.as_ref());
        let hash = this.way.hash(key.expect("a call that has not boarded has a key"));
        this.seat.set(Some(Seat::new(this.way.shard(hash))));
        let mut seat = this.seat.as_pin_mut().expect("set above");
        loop {
            let key = this.call.as_ref().and_then(|call| call.key.as_ref());
            let key = key.expect("nobody has taken it");
            let polled = seat.as_mut().poll_board(cx, this.way, hash, key);
            if seat.has_boarded() {
                let_go(this.call.take());
            }
            if !matches!(polled, Poll::Ready(Ended::Nothing)) {
                return polled;
            }
            let key = this.call.as_mut().map(|call| &mut call.key);
            let begun = Map::begin(this.way, hash, key.expect("it has not boarded"));
            // None: another was first meanwhile.
            let Some(Begun { id, waker, debris }) = begun else { continue };
            seat.as_mut().sit_first(id);
            let make = this.call.take().expect("it was there above").make;
            let polled = match load(waker, make) {
                Ok(craft) => seat.drive(craft, cx, this.way),
                Err(panic) => Poll::Ready(seat.land(this.way, Err(panic))),
            };
            // Not before: it may panic, or call for the same key.
            drop(debris);
            return polled;
        }
    }
}

/// The key and the closure are not needed any more. A panic of their destructors ends here: the flight goes on, and its result may be
/// at hand.
#[inline]
fn let_go<K, M>(call: Option<Call<K, M>>) {
    if let Some(Call { key, make }) = call {
        contain(|| drop(key));
        contain(|| drop(make));
    }
}

impl<K, V, E, M, F, S> Future for FlightWait<'_, K, V, E, M, S>
where
    K: Hash + Eq + Send + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    M: FnOnce() -> F,
    F: Future<Output = Result<V, E>> + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    type Output = Result<V, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<V, E>> {
        // Not held while the work is driven: it would give back what the work has spent, if that is not done.
        drop(ready!(coop::poll_proceed(cx)));
        let outcome = ready!(self.poll_outcome(cx));
        if let Poll::Ready(proceed) = coop::poll_proceed(cx) {
            proceed.made_progress();
        }
        Poll::Ready(match outcome {
            Outcome::Own(result) => result,
            Outcome::Shared(landed) => landed.result(),
        })
    }
}

impl<K, V, E, M, S> fmt::Debug for FlightWait<'_, K, V, E, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightWait")
            .field("place", &format_args!("{}", self.place))
            .field("boarded", &self.call.is_none())
            .finish_non_exhaustive()
    }
}
