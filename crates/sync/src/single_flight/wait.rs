//! The future of a call: finds a flight or starts one, and has a seat in it.

use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::coop;

use super::flight::{Home, Landed, begin};
use super::map::{Found, Inserted, Map};
use super::seat::{Ended, Seat};

/// Waits for a flight to land; made by [`SingleFlight::run`](crate::SingleFlight::run), which says what it
/// promises.
#[pin_project]
#[must_use = "a future does nothing until it is polled"]
pub struct FlightWait<K: 'static, V: 'static, E: 'static, M> {
    /// What it takes to find a flight or to start one; none once that is done.
    call: Option<Call<K, V, E, M>>,
    /// The seat in the flight.
    #[pin]
    seat: Option<Seat<K, V, E>>,
    /// Who called.
    place: &'static Location<'static>,
}

/// A call that has not boarded.
struct Call<K, V, E, M> {
    /// Where to look.
    map: Arc<Map<K, V, E>>,
    /// For what.
    key: K,
    /// Makes the work.
    make: M,
}

impl<K: 'static, V: 'static, E: 'static, M> FlightWait<K, V, E, M> {
    /// A call.
    #[track_caller]
    pub(super) fn new(map: Arc<Map<K, V, E>>, key: K, make: M) -> Self {
        let call = Some(Call { map, key, make });
        Self { call, seat: None, place: Location::caller() }
    }
}

impl<K, V, E, M, F> FlightWait<K, V, E, M>
where
    K: Hash + Eq + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    M: FnOnce() -> F,
    F: Future<Output = Result<V, E>> + Send + 'static,
{
    /// Ready when a flight has landed that this was a caller of, or when a result was kept.
    fn poll_landed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Arc<Landed<V, E>>> {
        let mut this = self.project();
        loop {
            let ended = match this.seat.as_mut().as_pin_mut() {
                Some(mut seat) => {
                    let polled = seat.as_mut().poll_ended(cx);
                    if seat.has_boarded() {
                        // The key and the closure are not needed any more.
                        drop(this.call.take());
                    }
                    ready!(polled)
                }
                None => {
                    let call = this.call.as_ref().expect("a call is not polled after it was ready");
                    let hash = call.map.hash(&call.key);
                    match call.map.find(hash, &call.key) {
                        Some(found) => match Self::board(found, this.seat.as_mut()) {
                            Some(landed) => Ended::Landed(landed),
                            None => continue,
                        },
                        None => {
                            let call = this.call.take().expect("it was there above");
                            let (flight, waker) = begin();
                            match call.map.insert(hash, call.key, &flight) {
                                Inserted::Fresh => {
                                    let home = Home { map: call.map, hash };
                                    this.seat.set(Some(Seat::first(flight)));
                                    let seat = this.seat.as_mut().as_pin_mut();
                                    let seat = seat.expect("taken in the line above");
                                    ready!(seat.take_off(cx, home, waker, call.make))
                                }
                                Inserted::Found(found, key) => {
                                    *this.call = Some(Call { key, ..call });
                                    match Self::board(found, this.seat.as_mut()) {
                                        Some(landed) => Ended::Landed(landed),
                                        None => continue,
                                    }
                                }
                            }
                        }
                    }
                }
            };
            match ended {
                Ended::Landed(landed) => {
                    this.seat.set(None);
                    drop(this.call.take());
                    return Poll::Ready(landed);
                }
                Ended::Panicked(panic) => {
                    this.seat.set(None);
                    panic.resume();
                }
                Ended::Left => {
                    let seat = this.seat.as_ref().as_pin_ref().expect("it was polled above");
                    let call = this.call.as_ref().expect("it has not boarded");
                    // Who has left it is about to do the same.
                    call.map.remove(call.map.hash(&call.key), seat.get_ref().flight());
                    this.seat.set(None);
                }
            }
        }
    }

    /// Takes a seat in what was found, or the result.
    fn board(
        found: Found<K, V, E>,
        mut seat: Pin<&mut Option<Seat<K, V, E>>>,
    ) -> Option<Arc<Landed<V, E>>> {
        match found {
            Found::Flying(flight) => {
                seat.set(Some(Seat::found(flight)));
                None
            }
            Found::Kept(landed) => Some(landed),
        }
    }
}

impl<K, V, E, M, F> Future for FlightWait<K, V, E, M>
where
    K: Hash + Eq + Send + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    M: FnOnce() -> F,
    F: Future<Output = Result<V, E>> + Send + 'static,
{
    type Output = Result<V, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<V, E>> {
        let proceed = ready!(coop::poll_proceed(cx));
        let landed = ready!(self.poll_landed(cx));
        proceed.made_progress();
        Poll::Ready(landed.result())
    }
}

impl<K: 'static, V: 'static, E: 'static, M> fmt::Debug for FlightWait<K, V, E, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightWait")
            .field("place", &format_args!("{}", self.place))
            .field("boarded", &self.call.is_none())
            .finish_non_exhaustive()
    }
}
