//! The engine of a flight: the work, who drives it, who waits for it, and who is the last to leave.
//!
//! # Vocabulary
//!
//! The *work* is the future that the first caller's closure made. A *caller* has *boarded* a flight when it
//! is counted in it, which happens under the flight's lock, at the first poll that finds the flight. Who
//! polls the work *drives* it. The flight has *landed* when the work has returned or panicked; it is *left* when
//! the last caller has gone before that. To *poke* somebody who waits is to wake it so that it looks again.
//!
//! # Protocol
//!
//! The flight is a [`WaitQueue`]: one lock around the state and the line of those who wait.
//!
//! | phase | the work is | left by |
//! |---|---|---|
//! | `Parked` | in the state | a caller that finds the work woken, to `Driven`; the last to leave, to `Left` |
//! | `Driven` | with a caller, in a poll | that caller: to `Parked`, to `Landed`, or to `Left` if nobody else is counted |
//! | `Landed` | dropped, its result is here | nobody |
//! | `Left` | dropped: unfinished, or its only caller has the result | nobody |
//!
//! 1. A flight begins as `Driven` by the caller that inserted it into the map: it calls the closure and
//!    drives what that made. So the closure and the work run with no lock held, and who joins
//!    meanwhile waits in the line.
//! 2. *Board, and look again*: under the lock a caller takes the result, or the work if that is `Parked` and
//!    was woken, or a place in the line.
//! 3. *Drive*: the work is polled with the flight's own waker. *Wake*: sets `woken`; if the work is `Parked`,
//!    pokes all who wait. If it is `Driven`, nobody is poked now: the one who drives finds `woken` when it parks
//!    the work, under the same lock, and pokes all who wait, and its own task. Otherwise it enters
//!    the line in the same critical section in which it parks.
//! 4. *Land*: the work is dropped; then the slot in the map is settled; then, under the lock, the result is stored and given
//!    to all who wait. If nobody but the one who drives has boarded, and nothing is kept, it has the result for itself, and
//!    the flight is `Left`: who has found it and not boarded begins anew, as if it had come a moment later.
//! 5. *Leave*: a caller that is dropped takes itself off the count, under the lock; the last one takes the
//!    work and sets `Left`. With no lock held it takes the slot out of the map, and drops the work.
//!
//! # The races
//!
//! - *Wake against drive*: both under the lock. A wake before the work was taken is part of that drive's
//!   reason; one after it is seen at the park.
//! - *Wake against enter*: who enters the line has seen, under the lock, that the work is not woken, or that
//!   somebody drives it. So while the work is `Parked` and woken nobody enters (F1), and a wake need
//!   poke only those who are in the line at that time, once each.
//! - *Last leave against join*: a caller that found the flight in the map and comes to its lock after
//!   `Left` was set does not board. It takes the slot out, as the one who left is about to, and begins anew;
//!   one that comes before is counted, and the other was not the last.
//! - *Land against join*: a caller that found the flight before its slot was settled gets its result.
//! - *Forget against land or leave*: the map knows the slot by its flight, and passes by another's.
//!
//! # Why no wake-up is lost
//!
//! Whenever the work is parked and woken, everyone who is counted has been poked since, or is in a poll, or about to be
//! poked by the one who set `woken` or parked. So if any of them is polled at all, the work is driven: it does
//! not depend on a single one, and one that leaves after it was poked has nothing to pass on. Landing gives to all
//! in the line, and nobody enters afterwards.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use pin_project::pin_project;
use selvedge_primitives::{Entry, Locked, Panic, WaitQueue, contain};

use super::map::Map;

/// A flight: its state, and the line of those who wait for it.
pub(super) type Flight<K, V, E> = WaitQueue<State<K, V, E>, (), Told<K, V, E>>;

/// The lock of a flight, held.
pub(super) type Held<'a, K, V, E> = Locked<'a, State<K, V, E>, (), Told<K, V, E>>;

/// What the lock of a flight guards.
pub(super) struct State<K, V, E> {
    /// Where the work is.
    phase: Phase<K, V, E>,
    /// Whether the work was woken since it was last taken to be driven.
    woken: bool,
    /// How many have boarded and not left.
    callers: usize,
    /// The flight's own waker, to tell a call by the work itself.
    own: Waker,
}

/// Where the work is.
enum Phase<K, V, E> {
    /// Here.
    Parked(Craft<K, V, E>),
    /// With a caller that drives it.
    Driven,
    /// It has ended.
    Landed(Arc<Landed<V, E>>),
    /// It was dropped, and nobody waits for it.
    Left,
}

/// How the work has ended.
pub(super) enum Landed<V, E> {
    /// It returned this.
    Returned(Result<V, E>),
    /// It panicked, with this text.
    Panicked(String),
}

/// What a caller is told when it looks, or while it waits.
pub(super) enum Told<K, V, E> {
    /// Look again.
    Poked,
    /// The flight has landed.
    Landed(Arc<Landed<V, E>>),
    /// Drive this.
    Drive(Craft<K, V, E>),
    /// Nobody was left, and the work was dropped.
    Left,
}

/// The work, and what goes with it, in one allocation.
pub(super) type Craft<K, V, E> =
    Pin<Box<Loaded<K, V, E, dyn Future<Output = Result<V, E>> + Send>>>;

/// A [`Craft`] of a known type.
#[pin_project]
pub(super) struct Loaded<K, V, E, F: ?Sized> {
    /// Pokes those who wait.
    waker: Waker,
    /// Where the flight has its slot.
    home: Home<K, V, E>,
    /// The work.
    #[pin]
    work: F,
}

/// The work that was made, or the panic of what should have made it.
pub(super) type Loading<K, V, E> = Result<Craft<K, V, E>, (Home<K, V, E>, Panic)>;

/// What the work returned, or its panic.
pub(super) type Fate<V, E> = Result<Result<V, E>, Panic>;

/// What a poll of the work found.
pub(super) enum Polled<K, V, E> {
    /// It is not done.
    Pending(Craft<K, V, E>),
    /// It has ended and is dropped.
    Ended(Home<K, V, E>, Fate<V, E>),
}

/// Where a flight has its slot.
pub(super) struct Home<K, V, E> {
    /// The map.
    pub(super) map: Arc<Map<K, V, E>>,
    /// The hash of the key.
    pub(super) hash: u64,
}

/// What the waker of the work leads to. Weak: a waker that is kept somewhere keeps no flight alive.
struct Signal<K, V, E> {
    /// The flight.
    flight: Weak<Flight<K, V, E>>,
}

impl<K, V, E> Wake for Signal<K, V, E> {
    fn wake(self: Arc<Self>) {
        self.tell();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.tell();
    }
}

impl<K, V, E> Signal<K, V, E> {
    /// The work was woken.
    fn tell(&self) {
        // None: it has landed or was left, and nobody waits.
        let Some(flight) = self.flight.upgrade() else { return };
        let mut held = flight.lock();
        held.woken = true;
        match held.phase {
            Phase::Parked(_) => poke_all(&flight, held),
            _ => drop(held),
        }
    }
}

impl<K, V, E> Clone for Home<K, V, E> {
    fn clone(&self) -> Self {
        Self { map: Arc::clone(&self.map), hash: self.hash }
    }
}

/// A flight that its maker drives, with the maker as the only caller; and the waker for its work.
pub(super) fn begin<K, V, E>() -> (Arc<Flight<K, V, E>>, Waker)
where
    K: Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let mut waker = None;
    let flight = Arc::new_cyclic(|flight| {
        let own = Waker::from(Arc::new(Signal { flight: Weak::clone(flight) }));
        waker = Some(own.clone());
        WaitQueue::new(State { phase: Phase::Driven, woken: false, callers: 1, own })
    });
    (flight, waker.expect("made above"))
}

impl<K, V, E> State<K, V, E> {
    /// A caller boards or looks again; `counted` says whether it has boarded, and if so whether it counts. With `waker`
    /// it would be woken.
    pub(super) fn look(
        &mut self,
        counted: &mut Option<bool>,
        waker: &Waker,
    ) -> Entry<(), Told<K, V, E>> {
        match &self.phase {
            Phase::Landed(landed) => return Entry::Ready(Told::Landed(Arc::clone(landed))),
            Phase::Left => return Entry::Ready(Told::Left),
            Phase::Parked(_) | Phase::Driven => {}
        }
        if counted.is_none() {
            // The work itself does not keep itself in flight. Its waker is known by its data, which is this flight's alone: the
            // same table of functions may be there twice, so `will_wake` may deny it.
            let counts = self.own.data() != waker.data();
            self.callers += usize::from(counts);
            *counted = Some(counts);
        }
        if !self.woken {
            return Entry::Wait(());
        }
        match std::mem::replace(&mut self.phase, Phase::Driven) {
            Phase::Parked(craft) => {
                self.woken = false;
                Entry::Ready(Told::Drive(craft))
            }
            // Whoever drives sees `woken` when it parks.
            _ => Entry::Wait(()),
        }
    }

    /// The work is pending. Who drove it waits, or is to poke all; it keeps the work if it is the last
    /// to hold it.
    pub(super) fn park(&mut self, craft: &mut Option<Craft<K, V, E>>) -> Entry<(), Told<K, V, E>> {
        if self.callers == 0 {
            self.phase = Phase::Left;
            return Entry::Ready(Told::Left);
        }
        if let Some(craft) = craft.take() {
            self.phase = Phase::Parked(craft);
        }
        match self.woken {
            true => Entry::Ready(Told::Poked),
            false => Entry::Wait(()),
        }
    }

    /// A caller leaves. The last one gets the work, unless somebody drives it, who then does not park it.
    pub(super) fn leave(&mut self) -> Option<Craft<K, V, E>> {
        self.callers -= 1;
        if self.callers > 0 || !matches!(self.phase, Phase::Parked(_)) {
            return None;
        }
        match std::mem::replace(&mut self.phase, Phase::Left) {
            Phase::Parked(craft) => Some(craft),
            _ => None,
        }
    }
}

/// The work that `make` makes; or its panic.
pub(super) fn load<K, V, E, F>(
    home: Home<K, V, E>,
    waker: Waker,
    make: impl FnOnce() -> F,
) -> Loading<K, V, E>
where
    F: Future<Output = Result<V, E>> + Send + 'static,
{
    // Unwind safe: what it leaves is its caller's, whose panic goes on.
    match catch_unwind(AssertUnwindSafe(make)) {
        Ok(work) => Ok(Box::pin(Loaded { waker, home, work })),
        Err(payload) => Err((home, Panic::new(payload))),
    }
}

/// Polls the work. If it has ended it is dropped.
pub(super) fn drive<K, V, E>(mut craft: Craft<K, V, E>) -> Polled<K, V, E> {
    let this = craft.as_mut().project();
    let mut cx = Context::from_waker(this.waker);
    // Unwind safe: a future that panicked is dropped below, not polled again.
    let polled = catch_unwind(AssertUnwindSafe(|| this.work.poll(&mut cx)));
    if let Ok(Poll::Pending) = polled {
        return Polled::Pending(craft);
    }
    let home = craft.home.clone();
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(craft)));
    let ended = match (polled, dropped) {
        (Ok(Poll::Ready(result)), Ok(())) => Ok(result),
        (Ok(unseen), Err(payload)) => {
            contain(|| drop(unseen));
            Err(Panic::new(payload))
        }
        (Err(payload), dropped) => {
            discard(dropped);
            Err(Panic::new(payload))
        }
        (Ok(Poll::Pending), Ok(())) => unreachable!("returned above"),
    };
    Polled::Ended(home, ended)
}

/// A second panic ends here; the hook has reported it.
fn discard(second: Result<(), Box<dyn Any + Send>>) {
    if let Err(payload) = second {
        contain(|| drop(payload));
    }
}

/// Puts work back whose driver was stopped by somebody else's panic, and has it driven by another.
pub(super) fn put_back<K, V, E>(flight: &Flight<K, V, E>, craft: Craft<K, V, E>) {
    let mut craft = Some(craft);
    let mut held = flight.lock();
    held.woken = true;
    match held.park(&mut craft) {
        Entry::Ready(Told::Left) => {
            drop(held);
            contain(|| abandon(flight, craft));
        }
        _ => contain(|| poke_all(flight, held)),
    }
}

/// The flight is left: its slot and its work go.
pub(super) fn abandon<K, V, E>(flight: &Flight<K, V, E>, craft: Option<Craft<K, V, E>>) {
    if let Some(craft) = craft {
        let Home { map, hash } = &craft.home;
        // Contained: a key's destructor must not leave the work alive.
        contain(|| map.remove(*hash, flight));
        drop(craft);
    }
}

/// The flight has landed. If its result is not kept, and its only caller is the one who drove it, that one has the result,
/// and the flight is left by all.
pub(super) fn land_alone<K, V, E>(
    flight: &Flight<K, V, E>,
    home: &Home<K, V, E>,
    result: &Result<V, E>,
) -> bool {
    if home.map.keeps(result) {
        return false;
    }
    contain(|| home.map.remove(home.hash, flight));
    let mut held = flight.lock();
    // Nobody waits either: a call by the work itself does not count, and is owed the result.
    let is_alone = held.callers == 1 && held.is_empty();
    if is_alone {
        held.phase = Phase::Left;
    }
    is_alone
}

/// The flight has landed: its slot goes or keeps the result, and all who wait get it. A panic of a
/// waker or of a key's destructor ends here: it is not the caller's who happened to drive.
pub(super) fn land<K, V, E>(
    flight: &Flight<K, V, E>,
    home: &Home<K, V, E>,
    landed: &Arc<Landed<V, E>>,
) {
    contain(|| home.map.settle(home.hash, flight, landed));
    let mut held = flight.lock();
    held.phase = Phase::Landed(Arc::clone(landed));
    contain(|| flight.grant_each(held, |_| Some(Told::Landed(Arc::clone(landed)))));
}

/// Pokes all who wait now, once each: who enters the line again meanwhile comes behind them.
pub(super) fn poke_all<'a, K, V, E>(flight: &'a Flight<K, V, E>, held: Held<'a, K, V, E>) {
    let mut left = held.len();
    flight.grant_each(held, |_| {
        left = left.checked_sub(1)?;
        Some(Told::Poked)
    });
}

impl<V: Clone, E: Clone> Landed<V, E> {
    /// A caller's own.
    ///
    /// # Panics
    ///
    /// With the text of the work's panic.
    pub(super) fn result(&self) -> Result<V, E> {
        match self {
            Self::Returned(result) => result.clone(),
            // Not by `panic!`: the hook has reported it.
            Self::Panicked(text) => std::panic::resume_unwind(Box::new(text.clone())),
        }
    }
}
