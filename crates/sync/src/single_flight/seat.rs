//! A caller's seat in a flight: boards, waits, drives, and leaves when it is dropped. Knows nothing of
//! keys, of closures or of tokio's budget.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::{Anchor, FirstPanic, Left, Panic, Waiter, contain, wake};

use super::flight::{
    Craft, Fate, Flight, Home, Landed, Polled, State, Told, abandon, drive, land, land_alone, load,
    poke_all, put_back,
};

/// A place in the line of a flight.
type Place<K, V, E> = Waiter<'static, State<K, V, E>, (), Told<K, V, E>>;

/// How a flight has ended for one caller.
pub(super) enum Ended<V, E> {
    /// It has landed.
    Landed(Arc<Landed<V, E>>),
    /// It has landed, and nobody else wants the result.
    Alone(Result<V, E>),
    /// It has landed because this caller drove it into a panic.
    Panicked(Panic),
    /// Everybody had left it before this caller boarded.
    Left,
}

/// A seat in a flight.
#[pin_project(PinnedDrop)]
pub(super) struct Seat<K: 'static, V: 'static, E: 'static> {
    /// The place in the line, and the way to the flight, which it keeps.
    #[pin]
    place: Place<K, V, E>,
    /// Whether it counts as a caller; none before it has boarded.
    counted: Option<bool>,
}

impl<K, V, E> Seat<K, V, E>
where
    K: Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// In a flight that was found: it has not boarded yet.
    pub(super) fn found(flight: Arc<Flight<K, V, E>>) -> Self {
        Self::new(flight, None)
    }

    /// In a flight that was just made: it is its first caller, and the one who drives.
    pub(super) fn first(flight: Arc<Flight<K, V, E>>) -> Self {
        Self::new(flight, Some(true))
    }

    /// In a flight.
    fn new(flight: Arc<Flight<K, V, E>>, counted: Option<bool>) -> Self {
        Self { place: Place::new(Anchor::shared(flight, |flight| flight)), counted }
    }
}

impl<K: 'static, V: 'static, E: 'static> Seat<K, V, E> {
    /// The flight.
    pub(super) fn flight(&self) -> &Flight<K, V, E> {
        self.place.line()
    }

    /// Whether it has boarded.
    pub(super) fn has_boarded(&self) -> bool {
        self.counted.is_some()
    }

    /// Makes the work of a flight that was just made, and drives it.
    pub(super) fn take_off<F>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        home: Home<K, V, E>,
        waker: Waker,
        make: impl FnOnce() -> F,
    ) -> Poll<Ended<V, E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        match load(home, waker, make) {
            Ok(craft) => self.drive(craft, cx),
            Err((home, panic)) => Poll::Ready(self.as_mut().land(&home, Err(panic))),
        }
    }

    /// Looks, drives the work if it is to be driven, and waits.
    pub(super) fn poll_ended(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<V, E>> {
        loop {
            let waker = cx.waker();
            let this = self.as_mut().project();
            let counted = this.counted;
            let told = ready!(this.place.poll_enter(cx, |held| held.look(counted, waker)));
            match told {
                Told::Poked => {}
                Told::Drive(craft) => return self.drive(craft, cx),
                Told::Landed(landed) => {
                    *counted = Some(false);
                    return Poll::Ready(Ended::Landed(landed));
                }
                Told::Left if counted.is_none() => return Poll::Ready(Ended::Left),
                // A call by the work itself, which went elsewhere: nobody will drive it.
                Told::Left => return Poll::Pending,
            }
        }
    }

    /// Polls the work; lands, or parks it and waits.
    fn drive(
        mut self: Pin<&mut Self>,
        craft: Craft<K, V, E>,
        cx: &mut Context<'_>,
    ) -> Poll<Ended<V, E>> {
        let craft = match drive(craft) {
            Polled::Pending(craft) => craft,
            Polled::Ended(home, fate) => return Poll::Ready(self.land(&home, fate)),
        };
        let mut craft = Some(craft);
        let mut place = self.as_mut().project().place;
        // Unwind safe: what was not parked is put back below. A waker's clone may panic.
        let parked = catch_unwind(AssertUnwindSafe(|| {
            place.as_mut().poll_enter(cx, |held| held.park(&mut craft))
        }));
        let flight = self.flight();
        match parked {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(Told::Left)) => abandon(flight, craft),
            Ok(Poll::Ready(_)) => {
                // Contained: the waker of another caller does not end this one's poll.
                contain(|| poke_all(flight, flight.lock()));
                wake(cx.waker().clone());
            }
            Err(payload) => {
                if let Some(craft) = craft {
                    put_back(flight, craft);
                }
                resume_unwind(payload);
            }
        }
        Poll::Pending
    }

    /// The work has ended.
    fn land(self: Pin<&mut Self>, home: &Home<K, V, E>, fate: Fate<V, E>) -> Ended<V, E> {
        let this = self.project();
        *this.counted = Some(false);
        let flight: &Flight<K, V, E> = this.place.as_ref().get_ref().line();
        let (landed, panic) = match fate {
            Ok(result) if land_alone(flight, home, &result) => return Ended::Alone(result),
            Ok(result) => (Landed::Returned(result), None),
            Err(panic) => (Landed::Panicked(panic.message().to_owned()), Some(panic)),
        };
        let landed = Arc::new(landed);
        land(flight, home, &landed);
        match panic {
            None => Ended::Landed(landed),
            Some(panic) => Ended::Panicked(panic),
        }
    }
}

#[pinned_drop]
impl<K: 'static, V: 'static, E: 'static> PinnedDrop for Seat<K, V, E> {
    /// Leaves. Who was poked and has not looked has nothing to pass on: so were the others.
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if *this.counted != Some(true) {
            // The place leaves the line by itself.
            return;
        }
        let mut craft = None;
        let left = this.place.as_mut().cancel_then(|mut held| craft = held.leave());
        let flight: &Flight<K, V, E> = this.place.as_ref().get_ref().line();
        match left {
            Left::Queued(()) => {}
            Left::Granted(Told::Landed(_)) => return,
            Left::Granted(_) | Left::Nothing => craft = flight.lock().leave(),
        }
        if craft.is_some() {
            let mut panics = FirstPanic::new();
            panics.catch(|| abandon(flight, craft));
            panics.resume();
        }
    }
}
