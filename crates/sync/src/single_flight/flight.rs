//! The engine of a flight: where the work is, who drives it, who waits for it, and who is the last to leave.
//!
//! # Vocabulary
//!
//! The *work* is the future that the first caller's closure made. A *caller* has *boarded* a flight when it has a seat in it, which
//! happens at the first poll that finds the flight. Who
//! polls the work *drives* it. The flight has *landed* when the work has returned or panicked; it is *left* when
//! the last caller has gone before that. To *poke* somebody who waits is to wake it so that it looks again.
//!
//! # Protocol
//!
//! A flight is one of the [`Lines`](selvedge_primitives::Lines) of its shard: its state and the line of those who wait lie behind the lock that
//! guards the keys as well. So to find a flight, to board it and to enter its line is one trip to a lock, and to
//! leave is another. A flight has no count of references: it is there while somebody has a seat in it (`seats`), and whoever
//! gives up the last takes it out.
//!
//! | phase | the work is | left by |
//! |---|---|---|
//! | `Parked` | in the state | a caller that finds the work woken, to `Driven`; the last to leave, to `Left` |
//! | `Driven` | with a caller, in a poll | that caller: to `Parked`, to `Landed`, or to `Left` if nobody is counted any more; or the flight is taken out, if the work has returned and nobody else has a seat |
//! | `Landed` | dropped, its result is here | nobody |
//! | `Left` | dropped, unfinished | nobody |
//!
//! Not every seat counts as a caller: that of a call by the work itself does not.
//!
//! 1. A flight begins as `Driven` by the caller that put it into the map: it calls the closure and
//!    drives what that made. So the closure and the work run with no lock held, and who joins
//!    meanwhile waits in the line.
//! 2. *Board, and look again*: under the lock a caller takes the result, or the work if that is `Parked` and
//!    was woken, or a place in the line.
//! 3. *Drive*: the work is polled with the flight's own waker. *Wake*: sets `woken`; if the work is `Parked`,
//!    pokes all who wait. If it is `Driven`, nobody is poked now: the one who drives finds `woken` when it parks
//!    the work, under the same lock, and pokes all who wait, and its own task. Otherwise it enters
//!    the line in the same critical section in which it parks.
//! 4. *Land*: the work is dropped; then, under the lock, the slot in the map is settled, and the result is stored and given
//!    to all who wait, each of which has given up its seat by that. If nobody but the one who drives has a seat, and nothing is
//!    kept, it has the result for itself, and the flight is gone. (To know this the slot of a result that is not kept is
//!    taken out a trip to the lock before the result is stored, which asks the allocator. In between the flight is `Driven` and cannot
//!    be found. The key in that slot is dropped when everybody has the result: its destructor is the user's.)
//! 5. *Leave*: a caller that is dropped gives up its seat, under the lock; the last one that counts takes the
//!    work and the slot in the map along, sets `Left`, and drops them with no lock held.
//!
//! # The races
//!
//! - *Wake against drive*: both under the lock. A wake before the work was taken is part of that drive's
//!   reason; one after it is seen at the park.
//! - *Wake against enter*: who enters the line has seen, under the lock, that the work is not woken, or that
//!   somebody drives it. So while the work is `Parked` and woken nobody enters (F1), and a wake need
//!   poke only those who are in the line at that time, once each.
//! - *Wake against the end*: a waker knows its flight by number, which another may have by now; that has another waker, so the one
//!   that is kept is told from it by its address.
//! - *Last leave against join*: decided by the lock. Who comes later finds no slot; who comes before has a seat, and the other was
//!   not the last.
//! - *Land against join*: a caller that found the flight has a seat, and gets its result.
//! - *Land in batches against leave*: between two batches those who were poked and have not looked may give up their seats,
//!   and with the last of them the flight goes. Then nobody stood in its line; the one who lands tells its flight from another with the same
//!   number by the result in it.
//! - *Forget against land or leave*: the map knows the slot by the number of its flight, which is nobody else's while the flight
//!   is there, and passes by another's.
//!
//! # Why no wake-up is lost
//!
//! Whenever the work is parked and woken, everyone who is counted has been poked since, or is in a poll, or about to be
//! poked by the one who set `woken` or parked. So if any of them is polled at all, the work is driven: it does
//! not depend on a single one, and one that leaves after it was poked has nothing to pass on. Landing gives to all
//! in the line, and nobody enters afterwards.

use std::sync::Arc;
use std::task::Waker;

use selvedge_primitives::{Entry, LineId, contain, release_then};

use super::craft::Craft;
use super::map::Map;
use super::shard::{Held, Shard, Slot, Spare, spare};

/// How many expired results leave when one is kept.
const SWEPT: usize = 2;

/// A flight: what the lock of its shard guards beside the line of those who wait for it.
pub(super) struct Flight<V, E> {
    /// Where the work is.
    phase: Phase<V, E>,
    /// Whether the work was woken since it was last taken to be driven.
    woken: bool,
    /// How many of the seats count as callers.
    callers: usize,
    /// How many seats are taken. Who was given the result has none.
    seats: usize,
    /// Of the key.
    hash: u64,
    /// The flight's own waker, to tell a call by the work itself, and a wake of another flight's.
    own: Waker,
}

/// Where the work is.
enum Phase<V, E> {
    /// Here.
    Parked(Craft<V, E>),
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
pub(super) enum Told<V, E> {
    /// There is no flight to board.
    Nothing,
    /// Look again.
    Poked,
    /// The flight has landed, and the seat is given up.
    Landed(Arc<Landed<V, E>>),
    /// Drive this.
    Drive(Craft<V, E>),
    /// Nobody was left, and the work was dropped.
    Left,
}

/// A seat that is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Berth {
    /// The flight.
    pub(super) id: LineId,
    /// Whether it counts as a caller.
    counts: bool,
}

/// What was taken out under the lock, to be dropped when that is free.
pub(super) struct Gone<K, V, E> {
    /// The flight's slot.
    slot: Option<Slot<K, V, E>>,
    /// The work.
    pub(super) craft: Option<Craft<V, E>>,
    /// The flight.
    flight: Option<Flight<V, E>>,
    /// Memory that nobody needs.
    spare: Option<Spare<K, V, E>>,
}

/// What a look decides: where to wait, or not to.
type Decision<V, E> = Entry<(LineId, ()), Told<V, E>>;

impl<V, E> Flight<V, E> {
    /// Driven by its maker, who is the only caller.
    pub(super) fn new(own: Waker, hash: u64) -> Self {
        Self { phase: Phase::Driven, woken: false, callers: 1, seats: 1, hash, own }
    }

    /// Whether this is what its waker leads to. The data of a waker of ours is known by its address; the same table of functions may be
    /// there twice, so `will_wake` may deny it.
    pub(super) fn is_told_by(&self, data: *const ()) -> bool {
        self.own.data() == data
    }

    /// The work was woken. Says whether all who wait are to be poked.
    pub(super) fn mark_woken(&mut self) -> bool {
        self.woken = true;
        matches!(self.phase, Phase::Parked(_))
    }

    /// What a caller that looks is told, or where it waits.
    #[inline]
    fn look(&mut self, id: LineId) -> Decision<V, E> {
        match &self.phase {
            Phase::Landed(landed) => Entry::Ready(Told::Landed(Arc::clone(landed))),
            Phase::Left => Entry::Ready(Told::Left),
            Phase::Parked(_) if self.woken => {
                self.woken = false;
                match std::mem::replace(&mut self.phase, Phase::Driven) {
                    Phase::Parked(craft) => Entry::Ready(Told::Drive(craft)),
                    _ => Entry::Wait((id, ())),
                }
            }
            // Whoever drives sees `woken` when it parks.
            Phase::Parked(_) | Phase::Driven => Entry::Wait((id, ())),
        }
    }

    /// Whether it has landed with that.
    fn has_landed_with(&self, landed: &Arc<Landed<V, E>>) -> bool {
        matches!(&self.phase, Phase::Landed(its) if Arc::ptr_eq(its, landed))
    }
}

impl Berth {
    /// That of the maker of a flight.
    pub(super) fn first(id: LineId) -> Self {
        Self { id, counts: true }
    }
}

impl<K, V, E> Gone<K, V, E> {
    /// Nothing.
    pub(super) const fn new() -> Self {
        Self { slot: None, craft: None, flight: None, spare: None }
    }

    /// Drops it; a panic of the work's destructor goes on. That of a key's does not: it must not leave the work alive.
    pub(super) fn drop_now(self) {
        let Self { slot, craft, flight, spare } = self;
        contain(|| drop(slot));
        drop((flight, spare));
        drop(craft);
    }

    /// Whether there is anything.
    #[inline]
    pub(super) fn is_something(&self) -> bool {
        // Memory goes with a flight, if at all.
        self.slot.is_some() || self.craft.is_some() || self.flight.is_some()
    }
}

/// The flight of a seat.
#[inline]
fn flight<'g, K, V, E>(held: &'g mut Held<'_, K, V, E>, id: LineId) -> &'g mut Flight<V, E> {
    held.line_mut(id).expect("a flight in which a seat is taken")
}

/// A caller takes a seat in a flight that was found, and looks. With `waker` it would be woken.
#[inline]
pub(super) fn board<K, V, E>(
    held: &mut Held<'_, K, V, E>,
    id: LineId,
    waker: &Waker,
) -> (Berth, Decision<V, E>) {
    let flight = flight(held, id);
    // The work itself does not keep itself in flight.
    let counts = !flight.is_told_by(waker.data());
    flight.callers += usize::from(counts);
    flight.seats += 1;
    (Berth { id, counts }, flight.look(id))
}

/// A caller that has boarded looks again.
pub(super) fn look<K, V, E>(
    held: &mut Held<'_, K, V, E>,
    berth: &mut Option<Berth>,
    gone: &mut Gone<K, V, E>,
) -> Decision<V, E> {
    let Berth { id, .. } = berth.expect("who looks has boarded");
    let decision = flight(held, id).look(id);
    if let Entry::Ready(Told::Landed(_)) = decision {
        *berth = None;
        let flight = flight(held, id);
        flight.seats -= 1;
        if flight.seats == 0 {
            remove(held, id, gone);
        }
    }
    decision
}

/// A flight in which no seat is taken goes, and with the last of them the memory.
fn remove<K, V, E>(held: &mut Held<'_, K, V, E>, id: LineId, gone: &mut Gone<K, V, E>) {
    gone.flight = held.remove(id);
    gone.spare = spare(held);
}

/// The work is pending. Who drove it waits, or is to poke all; it keeps the work if it is the last
/// to hold it.
pub(super) fn park<K, V, E>(
    held: &mut Held<'_, K, V, E>,
    id: LineId,
    gone: &mut Gone<K, V, E>,
) -> Decision<V, E> {
    let flight = flight(held, id);
    if flight.callers == 0 {
        flight.phase = Phase::Left;
        let hash = flight.hash;
        gone.slot = held.take_flight(hash, id);
        return Entry::Ready(Told::Left);
    }
    if let Some(craft) = gone.craft.take() {
        flight.phase = Phase::Parked(craft);
    }
    match flight.woken {
        true => Entry::Ready(Told::Poked),
        false => Entry::Wait((id, ())),
    }
}

/// A caller leaves. The last one that counts gets the work, unless somebody drives it, who then does not park it.
#[inline]
pub(super) fn leave<K, V, E>(held: &mut Held<'_, K, V, E>, berth: Berth, gone: &mut Gone<K, V, E>) {
    let Berth { id, counts } = berth;
    let flight = flight(held, id);
    flight.seats -= 1;
    flight.callers -= usize::from(counts);
    if flight.seats > 0 && flight.callers > 0 {
        return;
    }
    leave_last(held, berth, gone);
}

/// A caller that leaves was the last, or the last that counts.
#[cold]
fn leave_last<K, V, E>(held: &mut Held<'_, K, V, E>, berth: Berth, gone: &mut Gone<K, V, E>) {
    let Berth { id, counts } = berth;
    let flight = flight(held, id);
    if counts && flight.callers == 0 && matches!(flight.phase, Phase::Parked(_)) {
        if let Phase::Parked(craft) = std::mem::replace(&mut flight.phase, Phase::Left) {
            gone.craft = Some(craft);
        }
        let hash = flight.hash;
        gone.slot = held.take_flight(hash, id);
    }
    if self::flight(held, id).seats == 0 {
        remove(held, id, gone);
    }
}

/// Puts work back whose driver was stopped by somebody else's panic, and has it driven by another.
pub(super) fn put_back<K, V, E>(shard: &Shard<K, V, E>, id: LineId, mut gone: Gone<K, V, E>) {
    let mut held = shard.lock();
    flight(&mut held, id).woken = true;
    match park(&mut held, id, &mut gone) {
        Entry::Ready(Told::Left) => {
            drop(held);
            contain(|| gone.drop_now());
        }
        _ => contain(|| poke_all(shard, held, id)),
    }
}

/// The flight has landed with a result that is not kept: nobody finds it any more. If its only caller is the one who drove
/// it, that one has the result, and the flight is gone; none then. Otherwise the others are owed the result first: what is gone, to be
/// dropped when they have it.
pub(super) fn land_alone<K, V, E>(shard: &Shard<K, V, E>, id: LineId) -> Option<Gone<K, V, E>> {
    let mut gone = Gone::new();
    let mut held = shard.lock();
    let &mut Flight { hash, seats, .. } = flight(&mut held, id);
    gone.slot = held.take_flight(hash, id);
    // Another seat may be that of a call by the work itself, which does not count, but is owed the result.
    if seats > 1 {
        return Some(gone);
    }
    remove(&mut held, id, &mut gone);
    release_then(held, || gone.drop_now());
    None
}

/// The flight has landed: its slot goes or keeps the result, and all who wait get it. A panic of a
/// waker or of a key's destructor ends here: it is not the caller's who happened to drive. That one's seat is given up.
pub(super) fn land<K, V, E, S>(
    map: &Map<K, V, E, S>,
    shard: &Shard<K, V, E>,
    id: LineId,
    landed: &Arc<Landed<V, E>>,
) {
    let until = match &**landed {
        Landed::Returned(result) => map.until(result),
        Landed::Panicked(_) => None,
    };
    let mut swept = [const { None }; SWEPT + 1];
    let mut gone = Gone::new();
    let mut held = shard.lock();
    let flight = flight(&mut held, id);
    flight.phase = Phase::Landed(Arc::clone(landed));
    flight.seats -= 1;
    let hash = flight.hash;
    match until {
        None => gone.slot = held.take_flight(hash, id),
        Some((now, until)) => {
            if held.keep(hash, id, until, landed) {
                let [room, expired @ ..] = &mut swept;
                expired.fill_with(|| held.take_expired(now));
                if held.kept() > map.fill() {
                    *room = held.take_first();
                }
            }
        }
    }
    let next = |held: &mut Held<'_, K, V, E>| {
        let flight = held.line_mut(id).filter(|flight| flight.has_landed_with(landed))?;
        flight.seats -= 1;
        Some(Told::Landed(Arc::clone(landed)))
    };
    let last = |held: &mut Held<'_, K, V, E>| {
        let is_empty = |flight: &Flight<V, E>| flight.has_landed_with(landed) && flight.seats == 0;
        if held.line(id).is_some_and(is_empty) {
            remove(held, id, &mut gone);
        }
    };
    contain(|| shard.grant_each(held, id, next, last));
    for slot in swept.into_iter().flatten() {
        contain(|| slot.drop_apart());
    }
    gone.drop_now();
}

/// Pokes all who wait now, once each: who enters the line again meanwhile comes behind them. The caller has a seat in the flight, or its
/// waker.
pub(super) fn poke_all<'a, K, V, E>(
    shard: &'a Shard<K, V, E>,
    held: Held<'a, K, V, E>,
    id: LineId,
) {
    let own = held.line(id).map(|flight| flight.own.data());
    let mut left = held.waiting(id);
    let next = |held: &mut Held<'_, K, V, E>| {
        left = left.checked_sub(1)?;
        // Between two batches the flight may have gone, and another have its number.
        let same = held.line(id).map(|flight| flight.own.data()) == own;
        same.then_some(Told::Poked)
    };
    shard.grant_each(held, id, next, |_| ());
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
