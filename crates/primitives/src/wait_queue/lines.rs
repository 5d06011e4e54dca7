//! Many lines behind one lock: for things of which each has those who wait for it, and which come and go.
//!
//! [`Lines`] is a lock around a state `S` and any number of *lines*, each with a state `T` of its own beside
//! those who wait in it. So one trip to the lock finds the thing, settles what is to be settled about
//! it, and enters its line. A [`LineWaiter`] is to them what a [`Waiter`](super::Waiter) is to a [`WaitQueue`](super::WaitQueue).
//!
//! # Invariants
//!
//! - **M1** A line in which somebody stands is not taken out: [`remove`](LockedLines::remove) refuses.
//! - **M2** The number of a waiter's line changes only while that stands in none: it is set where the waiter
//!   enters, under the lock, and nowhere else. So with M1 it leads to the line in which the waiter stands.
//!
//! The lines lie in a slab, which moves them when it grows. No node points to the list that it is in.
#![expect(unsafe_code, reason = "says which of the lists behind the lock a waiter stands in")]

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use slab::Slab;

use super::{Anchor, Entry, Left, Line, List, Stand, in_batches};
use crate::observe::Subject;
use crate::{SpinGuard as MutexGuard, SpinLock as Mutex, WakeBatch};

/// A state `S`, and FIFO lines of waiting futures beside a state `T` each, under one lock.
pub struct Lines<S, T, R, O> {
    /// The states and the lines.
    inner: Mutex<Inner<S, T, R, O>>,
    /// Of what the waiters tell that they wait for it.
    subject: Subject,
}

/// What the lock guards.
struct Inner<S, T, R, O> {
    /// The owner's state.
    state: S,
    /// The lines, by number.
    rows: Slab<Row<T, R, O>>,
}

impl<S, T, R, O> Inner<S, T, R, O> {
    /// Grants to the front of a line, in which somebody stands.
    fn grant_front(&mut self, id: LineId, outcome: O, batch: &mut WakeBatch) {
        let row = &mut self.rows[id.0];
        row.list.grant_front(outcome, batch);
        row.len -= 1;
    }
}

/// A line.
struct Row<T, R, O> {
    /// Its own state.
    state: T,
    /// Those who wait, in order.
    list: List<R, O>,
    /// How many they are.
    len: usize,
}

/// The number of a line. When that was taken out, another may get the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineId(
    /// Its place among the lines.
    usize,
);

impl LineId {
    /// As a plain number.
    #[inline]
    pub const fn number(self) -> usize {
        self.0
    }

    /// Of a plain number.
    #[inline]
    pub const fn of_number(number: usize) -> Self {
        Self(number)
    }
}

impl<S, T, R, O> Lines<S, T, R, O> {
    /// No lines; who waits in one is told of as waiting for `subject`.
    pub fn observed(state: S, subject: Subject) -> Self {
        Self { inner: Mutex::new(Inner { state, rows: Slab::new() }), subject }
    }

    /// Locks the state and the lines.
    #[inline]
    pub fn lock(&self) -> LockedLines<'_, S, T, R, O> {
        LockedLines { lines: self, inner: self.inner.lock() }
    }

    /// Grants to the front of a line for as long as `next` gives an outcome, then lets `last` look, releases the lock
    /// and wakes. With more waiters than a [`WakeBatch`] holds, the lock is released and taken again in between: `next` and `last` look
    /// whether the line is still the same.
    ///
    /// Neither runs user code, and `next` takes no line out.
    ///
    /// # Panics
    ///
    /// When a waker panics: all others are granted to and woken first, then the first panic goes on.
    #[track_caller]
    pub fn grant_each<'a>(
        &'a self,
        locked: LockedLines<'a, S, T, R, O>,
        id: LineId,
        mut next: impl FnMut(&mut LockedLines<'_, S, T, R, O>) -> Option<O>,
        last: impl FnOnce(&mut LockedLines<'_, S, T, R, O>),
    ) {
        let next = |locked: &mut LockedLines<'_, S, T, R, O>| {
            let outcome = if locked.waiting(id) == 0 { None } else { next(locked) };
            outcome.map(|outcome| (id, outcome))
        };
        self.grant(locked, WakeBatch::new(), next, last);
    }

    /// As [`grant_each`](Self::grant_each), where `next` also says in which line. What it says of an empty line, or one that is
    /// not there, ends this.
    ///
    /// # Panics
    ///
    /// As [`grant_each`](Self::grant_each).
    #[track_caller]
    pub fn grant_from<'a>(
        &'a self,
        locked: LockedLines<'a, S, T, R, O>,
        next: impl FnMut(&mut LockedLines<'_, S, T, R, O>) -> Option<(LineId, O)>,
    ) {
        self.grant(locked, WakeBatch::new(), next, |_| {});
    }

    /// Grants to whoever is next, in whatever line, by way of `batch`: where that was made is where a model drops its wakes.
    fn grant<'a>(
        &'a self,
        locked: LockedLines<'a, S, T, R, O>,
        batch: WakeBatch,
        mut next: impl FnMut(&mut LockedLines<'_, S, T, R, O>) -> Option<(LineId, O)>,
        last: impl FnOnce(&mut LockedLines<'_, S, T, R, O>),
    ) {
        let mut last = Some(last);
        in_batches(
            locked,
            || self.lock(),
            batch,
            |locked, batch| {
                let more = loop {
                    if batch.is_full() {
                        break true;
                    }
                    let Some((id, outcome)) = next(locked) else { break false };
                    if locked.waiting(id) == 0 {
                        break false;
                    }
                    locked.inner.grant_front(id, outcome, batch);
                };
                if let Some(last) = last.take_if(|_| !more) {
                    last(locked);
                }
                more
            },
        );
    }
}

impl<S, T, R, O> fmt::Debug for Lines<S, T, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

/// The lock of [`Lines`], held. Gives the owner's state by `Deref`.
///
/// Run no user code while it lives: release it with [`release_then`](crate::release_then).
#[must_use = "the lock is released when this is dropped"]
pub struct LockedLines<'a, S, T, R, O> {
    /// Whose lock it is: a `&mut LockedLines` can be swapped for another.
    lines: &'a Lines<S, T, R, O>,
    /// The held lock.
    inner: MutexGuard<'a, Inner<S, T, R, O>>,
}

impl<S, T, R, O> LockedLines<'_, S, T, R, O> {
    /// The state of a line, if there is one of this number.
    #[inline]
    pub fn line(&self, id: LineId) -> Option<&T> {
        self.inner.rows.get(id.0).map(|row| &row.state)
    }

    /// The same, to be changed.
    #[inline]
    pub fn line_mut(&mut self, id: LineId) -> Option<&mut T> {
        self.inner.rows.get_mut(id.0).map(|row| &mut row.state)
    }

    /// How many stand in a line; nobody in one that is not there.
    #[inline]
    pub fn waiting(&self, id: LineId) -> usize {
        self.inner.rows.get(id.0).map_or(0, |row| row.len)
    }

    /// Shows the request of the front of a line to `look`; none when nobody waits there.
    #[inline]
    pub fn front<U>(&self, id: LineId, look: impl FnOnce(&R) -> U) -> Option<U> {
        self.inner.rows.get(id.0)?.list.front(look)
    }

    /// Lets `change` change the request of the front of a line; none when nobody waits there.
    pub fn front_mut<U>(&mut self, id: LineId, change: impl FnOnce(&mut R) -> U) -> Option<U> {
        self.inner.rows.get_mut(id.0)?.list.front_mut(change)
    }

    /// A line more.
    pub fn insert(&mut self, state: T) -> LineId {
        LineId(self.inner.rows.insert(Row { state, list: List::new(), len: 0 }))
    }

    /// Takes a line out, if there is one of this number; its state goes to the caller, to be dropped with the lock free.
    ///
    /// # Panics
    ///
    /// When somebody stands in it.
    pub fn remove(&mut self, id: LineId) -> Option<T> {
        let row = self.inner.rows.get(id.0)?;
        // M1.
        assert!(row.list.is_empty(), "not taken out: somebody stands in the line");
        self.inner.rows.try_remove(id.0).map(|row| row.state)
    }

    /// The memory of the lines, if there are none and it is of more than `most`; to be dropped with the lock free.
    pub fn spare(&mut self, most: usize) -> Option<SpareLines<T, R, O>> {
        let rows = &mut self.inner.rows;
        let is_spare = rows.is_empty() && rows.capacity() > most;
        is_spare.then(|| SpareLines(std::mem::take(rows)))
    }
}

impl<S, T, R, O> Deref for LockedLines<'_, S, T, R, O> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        &self.inner.state
    }
}

impl<S, T, R, O> DerefMut for LockedLines<'_, S, T, R, O> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        &mut self.inner.state
    }
}

impl<S, T, R, O> fmt::Debug for LockedLines<'_, S, T, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedLines").field("lines", &self.inner.rows.len()).finish_non_exhaustive()
    }
}

/// Memory for lines, of which there are none; from [`LockedLines::spare`].
#[must_use = "drop it when the lock is free"]
pub struct SpareLines<T, R, O>(
    /// It.
    Slab<Row<T, R, O>>,
);

impl<T, R, O> fmt::Debug for SpareLines<T, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpareLines").field("room", &self.0.capacity()).finish()
    }
}

/// Leads to one of the lines.
struct Spot<'q, S, T, R, O> {
    /// All of them.
    lines: Anchor<'q, Lines<S, T, R, O>>,
    /// The number of the one in which the waiter stands, if it does (M2). Read and written under the lock only.
    at: Cell<usize>,
}

// SAFETY: the number is read and written by whoever holds the lock of the lines, so by one thread at a time; beside
// it there is an anchor, which is Sync when the lines are.
unsafe impl<S, T, R, O> Sync for Spot<'_, S, T, R, O> where Lines<S, T, R, O>: Sync {}

/// The lock of [`Lines`], held by one who waits or is about to.
struct AtSpot<'a, S, T, R, O> {
    /// The lock.
    locked: LockedLines<'a, S, T, R, O>,
    /// The waiter's own number.
    at: &'a Cell<usize>,
}

// SAFETY: an anchor always leads to the same lines and keeps them, and a guard of another lock is refused. While the waiter
// stands in a line its number is that line's, which is not taken out (M1, M2); a row that is not there is refused, too.
unsafe impl<S, T, R, O> Line for Spot<'_, S, T, R, O> {
    type Request = R;
    type Outcome = O;
    type Guard<'a>
        = AtSpot<'a, S, T, R, O>
    where
        Self: 'a;

    #[inline]
    fn lock(&self) -> AtSpot<'_, S, T, R, O> {
        AtSpot { locked: self.lines.lock(), at: &self.at }
    }

    #[inline]
    unsafe fn list<'g>(&self, guard: &'g mut AtSpot<'_, S, T, R, O>) -> &'g mut List<R, O> {
        assert!(std::ptr::eq(guard.locked.lines, &*self.lines), "the lock of other lines");
        &mut guard.locked.inner.rows[self.at.get()].list
    }

    #[inline]
    fn counted(&self, guard: &mut AtSpot<'_, S, T, R, O>, entered: bool) {
        let row = &mut guard.locked.inner.rows[self.at.get()];
        match entered {
            true => row.len += 1,
            false => row.len -= 1,
        }
    }

    fn subject(&self) -> &Subject {
        &self.lines.subject
    }
}

/// The part of a pinned future that stands in one of the lines. It waits in one at a time, and may wait in that or another again after it
/// was served.
///
/// Dropped while queued it leaves the line, as a [`Stand`] does.
#[pin_project]
pub struct LineWaiter<'q, S, T, R, O> {
    /// The place in the line.
    #[pin]
    stand: Stand<Spot<'q, S, T, R, O>, R, O>,
}

impl<'q, S, T, R, O> LineWaiter<'q, S, T, R, O> {
    /// Does not wait yet.
    #[track_caller]
    #[inline]
    pub fn new(lines: Anchor<'q, Lines<S, T, R, O>>) -> Self {
        Self { stand: Stand::new(Spot { lines, at: Cell::new(0) }) }
    }

    /// The lines.
    #[inline]
    pub fn lines(&self) -> &Lines<S, T, R, O> {
        &self.stand.line().lines
    }

    /// Polls: the first time lets `enter` decide under the lock, later waits for the grant. `enter` says with the request
    /// which line it is for.
    ///
    /// `enter` runs with the lock held and must run no user code.
    ///
    /// # Panics
    ///
    /// When `enter` swaps the lock for that of others and wants to wait, or for a line that is not there.
    #[inline]
    pub fn poll_enter<'l>(
        self: Pin<&'l mut Self>,
        cx: &mut Context<'_>,
        enter: impl FnOnce(&mut LockedLines<'l, S, T, R, O>) -> Entry<(LineId, R), O>,
    ) -> Poll<O> {
        self.project().stand.poll_enter(cx, |guard| match enter(&mut guard.locked) {
            Entry::Ready(outcome) => Entry::Ready(outcome),
            Entry::Wait((id, request)) => {
                // M2: the waiter stands nowhere, or it would not enter.
                guard.at.set(id.0);
                Entry::Wait(request)
            }
        })
    }

    /// Shows what was granted, and not taken yet, to `look`.
    pub fn outcome<U>(self: Pin<&Self>, look: impl FnOnce(&O) -> U) -> Option<U>
    where
        O: Sync,
    {
        self.project_ref().stand.outcome(look)
    }

    /// Shows the requests of those who stand before it in its line to `look`, from the front on, then shows `then` the lines and which it
    /// is. None if it does not stand in one, or was granted something.
    ///
    /// Both run with the lock held, and must run no user code.
    pub fn ahead<U>(
        self: Pin<&Self>,
        look: impl FnMut(&R),
        then: impl FnOnce(&LockedLines<'_, S, T, R, O>, LineId) -> U,
    ) -> Option<U> {
        let stand = self.project_ref().stand;
        stand.ahead(look, |guard| then(&guard.locked, LineId(guard.at.get())))
    }

    /// Gives up: leaves the line, or takes what was granted already. A waiter that was in the line hands the
    /// lock to `then` right after it left.
    #[inline]
    pub fn cancel_then<'l>(
        self: Pin<&'l mut Self>,
        then: impl FnOnce(LockedLines<'l, S, T, R, O>),
    ) -> Left<R, O> {
        self.project().stand.cancel_then(|guard| then(guard.locked))
    }

    /// As [`cancel_then`](Self::cancel_then), where `then` also sees what was asked for.
    pub fn cancel_with<'l>(
        self: Pin<&'l mut Self>,
        then: impl FnOnce(LockedLines<'l, S, T, R, O>, &R),
    ) -> Left<R, O> {
        self.project().stand.cancel_with(|guard, request| then(guard.locked, request))
    }
}

impl<S, T, R, O> fmt::Debug for LineWaiter<'_, S, T, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineWaiter").finish_non_exhaustive()
    }
}
