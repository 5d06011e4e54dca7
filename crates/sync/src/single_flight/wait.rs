//! The future of a call: finds a flight or starts one, and has a seat in it. The same within a context.

use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::coop;

use super::flight::{Home, Landed, begin};
use super::map::{Found, Map};
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
    /// For what; none once a flight has it.
    key: Option<K>,
    /// Of the key, computed by the first poll.
    hash: Option<u64>,
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

impl<K: 'static, V: 'static, E: 'static, M> FlightWait<K, V, E, M> {
    /// A call.
    #[track_caller]
    pub(super) fn new(map: Arc<Map<K, V, E>>, key: K, make: M) -> Self {
        let call = Some(Call { map, key: Some(key), hash: None, make });
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
    fn poll_outcome(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<V, E>> {
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
                    let call = this.call.as_mut().expect("a call is not polled after it was ready");
                    let Call { map, key, hash, .. } = call;
                    let hash = match (&hash, &key) {
                        (None, Some(key)) => *hash.insert(map.hash(key)),
                        (hash, _) => hash.unwrap_or_default(),
                    };
                    match map.find_or_insert(hash, key, begin) {
                        Found::Kept(landed) => Ended::Landed(landed),
                        Found::Flying(flight) => {
                            this.seat.set(Some(Seat::found(flight)));
                            continue;
                        }
                        Found::Begun(flight, waker, debris) => {
                            this.seat.set(Some(Seat::first(flight)));
                            let call = this.call.take().expect("it was there above");
                            let home = Home { map: call.map, hash };
                            let seat = this.seat.as_mut().as_pin_mut();
                            let seat = seat.expect("taken above");
                            let polled = seat.take_off(cx, home, waker, call.make);
                            // Not before: it may panic, or call for the same key.
                            drop(debris);
                            ready!(polled)
                        }
                    }
                }
            };
            match ended {
                Ended::Landed(landed) => {
                    this.seat.set(None);
                    drop(this.call.take());
                    return Poll::Ready(Outcome::Shared(landed));
                }
                Ended::Alone(result) => {
                    this.seat.set(None);
                    return Poll::Ready(Outcome::Own(result));
                }
                Ended::Panicked(panic) => {
                    this.seat.set(None);
                    panic.resume();
                }
                Ended::Left => {
                    let seat = this.seat.as_ref().as_pin_ref().expect("it was polled above");
                    let call = this.call.as_ref().expect("it has not boarded");
                    // Who has left it is about to do the same.
                    call.map.remove(call.hash.unwrap_or_default(), seat.get_ref().flight());
                    this.seat.set(None);
                }
            }
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

impl<K: 'static, V: 'static, E: 'static, M> fmt::Debug for FlightWait<K, V, E, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightWait")
            .field("place", &format_args!("{}", self.place))
            .field("boarded", &self.call.is_none())
            .finish_non_exhaustive()
    }
}
