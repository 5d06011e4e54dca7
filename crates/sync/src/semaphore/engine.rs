//! The engine of the semaphore: the state word beside a line, and who takes the lock when.
//!
//! # Protocol
//!
//! 1. *Acquire*: one subtraction where there is plenty ([`Word::take_unseen`]), else one CAS on the word while nobody is to be let
//!    pass ([`Word::try_take`]). Else the caller
//!    takes the lock of the line, looks once more, sets the flags by a CAS if it is the first, and enters the line with
//!    the number of permits it wants ([`Word::join`]).
//! 2. *Release*: one add on the word. Only if the word it returns has QUEUED set does the releaser
//!    take the lock and serve.
//! 3. *Serve*, under the lock, with strict fairness: while the front's wish is covered, take that many permits out of
//!    the word by a CAS and grant. The line is first in, first out: nobody behind a front
//!    that is not covered is looked at. Wakers run in batches after the lock is released.
//! 4. *Serve*, with eventual fairness: a front whose wish is covered is called. Its permits stay in the word, where running
//!    callers may take them, and QUEUED goes: until the front has come, no release has anything to do. It *looks*: takes
//!    its permits and leaves the line, or finds too few, sets QUEUED and waits on. Once it has waited for the bound it sets SHUT
//!    as well, and nobody overtakes it, but for those who have stood in line before it and lost their turn. `line.rs` says what becomes of one that does not come:
//!    the one behind it is sent, and serves.
//! 5. *Leave*: a waiter that is dropped in the line unlinks itself and, under the same lock,
//!    either clears the flags (it was the last) or serves (it may have been what the next one
//!    waited behind, or the one that was called). One that was granted and not polled again releases what it was granted.
//! 6. *Close*, under the lock: set CLOSED, then serve: everybody in line is granted the news.
//!    Between two batches a releaser may hold the lock; it hands out the same news.
//! 7. *Resize*, under the lock: store the capacity, put the difference on the word, then serve: who wants more than
//!    there is in all is told, whoever is covered now is served. A word below zero is a debt: it covers
//!    nobody until it is paid, so what is out falls and never rises again before.
//!
//! # Why no wake-up is lost
//!
//! With strict fairness, a waiter that goes to sleep has set QUEUED, or found it set, under the lock (W2 of the word).
//! Take the last release before it sleeps for ever. Its add came before the waiter's CAS, and then
//! the CAS saw the permits; or after it, and then the releaser saw QUEUED and took the lock after
//! the waiter had entered the line (W3). There it finds the waiter behind a front that is not
//! covered, which is the rule, or serves it. The permits that a server cannot see were added by a
//! releaser that saw QUEUED and stands at the lock, so the next one sees them; or were taken without a look by one who is about to
//! put them back, which is a release.
//!
//! With eventual fairness the same holds while QUEUED is set. While it is not, the front was called. It comes to the
//! lock, and either leaves, whereupon the next one is served, or sets QUEUED by a CAS that sees every release before it. Or it
//! leaves without having come, with the same effect. Or it does neither, and loses its turn.
//!
//! A capacity that is read without the lock may be the one before: whoever is told that it wants too much
//! was told the truth a moment ago, and one who goes to the line looks again there.
//!
//! The algorithm is the mutex-and-count semaphore of tokio's `batch_semaphore` turned inside out:
//! the count stays in the word while somebody waits (tokio drains it into the first waiter), which
//! is what lets a release see from its own add whether there is anything to do. Overtaking with a bound is the eventual
//! fairness of `WebKit`'s and `parking_lot`'s locks, with the front itself as the one who shuts the door.

use std::borrow::Cow;
use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use selvedge_primitives::atomic::{AtomicBool, AtomicUsize, Ordering};
use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::Timer;
use selvedge_primitives::{Entry, Left, OnceArc, Origin, Serve, const_fn, contain};

#[cfg(feature = "age")]
use super::age::Age;
use super::error::{AcquireError, TryAcquireError};
use super::fairness::Fairness;
use super::line::{
    Errand, Front, Grant, Held, Line, Place, Queue, Wish, arm_for_front, call_told, came, front,
    is_overdue,
};
use super::word::{FEW, Flags, Join, MAX_PERMITS, Plenty, State, Take, Word};

/// A counting semaphore without a face.
#[derive(Debug)]
pub(crate) struct Engine {
    /// How many are free, and what there is to know of the line.
    word: Word,
    /// Whether so many are free that a few can be taken without a look.
    plenty: Plenty,
    /// How many permits there are in all; changes under the lock of the line.
    capacity: AtomicUsize,
    /// Whether running callers may overtake, for those who do not have the lock; changes under it.
    eventual: AtomicBool,
    /// What the line is made with, when the first comes to it; the defaults, if the user has chosen nothing.
    start: Option<Box<Start>>,
    /// Those who wait. Apart from the word, on whose cache line it would be in the way, and for the alarm, which
    /// must find it wherever the semaphore is.
    line: OnceArc<Line>,
    /// Name and place.
    pub(super) origin: Origin,
}

/// What a line is made with. Apart, so that what is beside the word has room on one line of the cache.
#[derive(Debug, Clone, Default)]
struct Start {
    /// Who may overtake whom.
    fairness: Fairness,
    /// The timer that the user has given.
    timer: Option<Timer>,
}

/// The word has a line of the cache for itself, and everything else is on another.
#[cfg(all(target_pointer_width = "64", not(selvedge_loom)))]
const _: () = assert!(size_of::<Engine>() == 128);

impl Engine {
    const_fn! {
        /// An engine with `capacity` permits, all free.
        pub(super) const fn new(capacity: usize, origin: Origin) -> Self {
            Self {
                word: Word::new(capacity),
                plenty: Plenty::new(capacity),
                capacity: AtomicUsize::new(capacity),
                eventual: AtomicBool::new(false),
                start: None,
                line: OnceArc::new(),
                origin,
            }
        }
    }

    /// The same under a name.
    pub(super) fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.origin = self.origin.clone().named(name);
        self
    }

    /// The same with another fairness.
    pub(super) fn with_fairness(mut self, fairness: Fairness) -> Self {
        self.start.get_or_insert_default().fairness = fairness;
        self.eventual = AtomicBool::new(fairness != Fairness::Strict);
        if self.line.get().is_some() {
            self.set_fairness(fairness);
        }
        self
    }

    /// The same with this timer.
    pub(super) fn with_timer(mut self, timer: Timer) -> Self {
        if let Some(line) = self.line.get() {
            line.set_timer(timer.clone());
        }
        self.start.get_or_insert_default().timer = Some(timer);
        self
    }

    /// How many permits there are in all.
    pub(super) fn capacity(&self) -> usize {
        // Relaxed: a number by itself; what is done about it is decided on the word or under the lock.
        self.capacity.load(Ordering::Relaxed)
    }

    /// The state now.
    pub(super) fn state(&self) -> State {
        self.word.snapshot()
    }

    /// The line.
    fn line(&self) -> &Line {
        self.line.get_or_init(|| {
            let subject = Subject::new("semaphore", &self.origin);
            let Start { fairness, timer } = self.start.as_deref().cloned().unwrap_or_default();
            Line::new(fairness, timer, subject)
        })
    }

    /// The queue in the line, for a waiter to hold on to.
    pub(crate) fn queue(&self) -> &Queue {
        &self.line().queue
    }

    /// How many are in line.
    pub(super) fn waiting(&self) -> usize {
        self.line.get().map_or(0, |line| line.queue.lock().len())
    }

    /// How long the front has waited.
    #[cfg(feature = "age")]
    pub(super) fn longest_wait(&self) -> Option<std::time::Duration> {
        let age = self.look_at_line(|locked| locked.front(|wish| wish.age)).flatten();
        age.map(Age::elapsed)
    }

    /// Locks the line, to change what the word tells of it: it is not worth while to take without a look.
    fn lock(&self) -> Held<'_> {
        self.plenty.gone();
        self.queue().lock()
    }

    /// Looks at the line, if anybody ever came to it.
    fn look_at_line<T>(&self, look: impl FnOnce(&Held<'_>) -> T) -> Option<T> {
        self.line.get().map(|line| look(&line.queue.lock()))
    }

    /// Takes `wanted` permits without waiting and without overtaking anybody who must not be.
    #[inline]
    pub(super) fn try_acquire(&self, wanted: usize) -> Result<(), TryAcquireError> {
        match self.take(wanted) {
            Take::Taken => Ok(()),
            refused => self.refuse(wanted, refused),
        }
    }

    /// Takes `wanted` permits, if they are free and nobody is overtaken who must not be.
    #[inline]
    pub(super) fn take(&self, wanted: usize) -> Take {
        if wanted <= FEW && self.plenty.is_there() {
            let seen = self.word.take_unseen(wanted);
            if seen.is_plenty() {
                return Take::Taken;
            }
            return self.no_plenty(wanted, seen);
        }
        self.word.try_take(wanted, &self.plenty)
    }

    /// There was no plenty any more, but this: puts back what was taken and was not there, and looks.
    #[cold]
    fn no_plenty(&self, wanted: usize, seen: State) -> Take {
        self.plenty.gone();
        if seen.let_go(wanted) {
            return Take::Taken;
        }
        // Whose waker panics is not this caller's fault.
        contain(|| self.release(wanted));
        self.word.try_take(wanted, &self.plenty)
    }

    /// Why it is of no use to wait for them, if it is.
    #[inline]
    pub(super) fn hopeless(&self, wanted: usize, refused: Take) -> Option<AcquireError> {
        let capacity = self.capacity();
        if wanted > capacity {
            return Some(AcquireError::OverCapacity { wanted, capacity });
        }
        (refused == Take::Closed).then_some(AcquireError::Closed)
    }

    /// They were not to be had.
    #[cold]
    fn refuse(&self, wanted: usize, refused: Take) -> Result<(), TryAcquireError> {
        let capacity = self.capacity();
        if wanted > capacity {
            return Err(TryAcquireError::OverCapacity { wanted, capacity });
        }
        if refused == Take::Closed {
            return Err(TryAcquireError::Closed);
        }
        // Relaxed: a hint; the lock says what holds.
        if refused == Take::Shut && self.eventual.load(Ordering::Relaxed) {
            // Perhaps for somebody who does not come. (Whose waker panics is not this caller's fault.)
            contain(|| self.serve(self.lock()));
            return match self.word.try_take(wanted, &self.plenty) {
                Take::Taken => Ok(()),
                Take::Closed => Err(TryAcquireError::Closed),
                Take::Short | Take::Shut => Err(TryAcquireError::NoPermits),
            };
        }
        Err(TryAcquireError::NoPermits)
    }

    /// Stands in line for `wanted` permits; `again`, if the caller has lost its turn, and with what it begins again.
    pub(super) fn poll_wait(
        &self,
        place: Pin<&mut Place<'_>>,
        cx: &mut Context<'_>,
        wanted: usize,
        again: Option<Wish>,
    ) -> Poll<Grant> {
        // Relaxed: a hint; the lock says what holds.
        if self.eventual.load(Ordering::Relaxed) {
            self.line().find_timer();
        }
        let errand = Cell::new(Errand::Nothing);
        let polled = place.poll_look(
            cx,
            |locked| self.join(locked, wanted, again, &errand),
            |locked, called| match called {
                true => self.look(locked, wanted, &errand),
                false => {
                    // Sent to see to the front.
                    errand.set(Errand::Serve);
                    None
                }
            },
            |locked| self.serve(locked),
        );
        self.run(errand.into_inner());
        polled
    }

    /// Comes to the line, under its lock.
    fn join(
        &self,
        locked: &mut Held<'_>,
        wanted: usize,
        again: Option<Wish>,
        errand: &Cell<Errand>,
    ) -> Entry<Wish, Grant> {
        self.plenty.gone();
        let capacity = self.capacity();
        if wanted > capacity {
            return Entry::Ready(Grant::OverCapacity(capacity));
        }
        let eventual = locked.is_eventual();
        let mut wish = again.unwrap_or(Wish::new(wanted));
        let now = eventual.then(|| locked.now());
        wish.since = wish.since.or(now);
        let shut = match (wish.since, now) {
            (Some(since), Some(now)) => locked.has_waited(since, now),
            _ => true,
        };
        match self.word.join(wanted, locked.is_empty(), shut, again.is_some() && eventual) {
            Join::Taken => Entry::Ready(Grant::Permits),
            Join::Closed => Entry::Ready(Grant::Closed),
            Join::Queue => {
                if let Some(now) = now {
                    errand.set(came(locked, now, self.word.snapshot()));
                }
                Entry::Wait(wish)
            }
        }
    }

    /// Stands at the end of the line on behalf of a task that may take nothing now, if others stand there; false if it does
    /// not.
    pub(super) fn stand(
        &self,
        place: Pin<&mut Place<'_>>,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> bool {
        let mut errand = Errand::Nothing;
        let polled = place.poll_enter(cx, |locked| {
            let mut wish = Wish::new(wanted);
            let (state, capacity) = (self.word.snapshot(), self.capacity());
            if locked.is_empty() || state.is_closed() || wanted > capacity {
                return Entry::Ready(Grant::Again(wish));
            }
            // The flags say what is to be said of those before.
            if locked.is_eventual() {
                let now = locked.now();
                if !locked.has_alarm(now) {
                    // Nobody would take its turn from a front that does not come, and what that was called for is free.
                    return Entry::Ready(Grant::Again(wish));
                }
                wish.since = Some(now);
                errand = came(locked, now, state);
            }
            Entry::Wait(wish)
        });
        self.run(errand);
        polled.is_pending()
    }

    /// Has been called, and looks, under the lock; it is the front.
    fn look(&self, locked: &mut Held<'_>, wanted: usize, errand: &Cell<Errand>) -> Option<Grant> {
        let last = locked.len() == 1;
        // News that a server would have had for it, if it was not called by the alarm, which knows nothing of the word.
        let (closed, capacity) = (self.word.snapshot().is_closed(), self.capacity());
        if closed || wanted > capacity {
            if last {
                self.word.clear();
            }
            return Some(if closed { Grant::Closed } else { Grant::OverCapacity(capacity) });
        }
        locked.come();
        let now = locked.now();
        let waits = Flags { queued: true, shut: is_overdue(locked, now) };
        while !self.word.take_for_front(wanted, last) {
            if !self.word.tell(wanted, waits, waits) {
                errand.set(arm_for_front(locked, now));
                return None;
            }
        }
        Some(Grant::Permits)
    }

    /// Leaves the line, or gives back what was granted to `place` and not seen.
    pub(super) fn leave(&self, place: Pin<&mut Place<'_>>, wanted: usize) {
        let left = place.cancel_then(|locked| {
            if locked.is_empty() {
                self.word.clear();
            } else {
                self.serve(locked);
            }
        });
        if let Left::Granted(Grant::Permits) = left {
            self.release(wanted);
        }
    }

    /// Gives back `count` permits that were acquired, and hands them on if somebody waits.
    #[inline]
    pub(super) fn release(&self, count: usize) {
        if count > 0 && self.word.give_back(count).is_queued() {
            self.serve_after_release();
        }
    }

    /// The rare half of a release, out of line.
    #[cold]
    fn serve_after_release(&self) {
        self.serve(self.lock());
    }

    /// Closes; everybody in line is told. Idempotent.
    pub(super) fn close(&self) {
        let locked = self.lock();
        self.word.close();
        self.serve(locked);
    }

    /// Sets the capacity, and gives the one before.
    pub(super) fn set_capacity(&self, capacity: usize) -> usize {
        let locked = self.lock();
        let before = self.capacity();
        self.store_capacity(capacity);
        self.word.change(capacity.cast_signed() - before.cast_signed());
        self.serve(locked);
        before
    }

    /// Adds `count` permits; the capacity that there would be, if that is more than there may be.
    pub(super) fn add(&self, count: usize) -> Result<(), usize> {
        let locked = self.lock();
        let capacity = self.capacity().saturating_add(count);
        if capacity > MAX_PERMITS {
            return Err(capacity);
        }
        self.store_capacity(capacity);
        self.word.change(count.cast_signed());
        self.serve(locked);
        Ok(())
    }

    /// `count` permits that are out are gone for good: the capacity is lower by as many. If it is lower than that already,
    /// because more is out than there should be, the rest pays the debt.
    pub(super) fn forget(&self, count: usize) {
        let locked = self.lock();
        let capacity = self.capacity();
        self.store_capacity(capacity.saturating_sub(count));
        self.word.change(count.saturating_sub(capacity).cast_signed());
        self.serve(locked);
    }

    /// Stores the capacity, under the lock.
    fn store_capacity(&self, capacity: usize) {
        // Relaxed: it changes under the lock, where whoever goes to the line reads it again.
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// Sets who may overtake whom.
    pub(super) fn set_fairness(&self, fairness: Fairness) {
        let eventual = fairness != Fairness::Strict;
        // Relaxed: a hint, as in `refuse`.
        self.eventual.store(eventual, Ordering::Relaxed);
        let mut locked = self.lock();
        locked.change(fairness);
        // Relaxed: as above; of two changes at once the last one's.
        self.eventual.store(eventual, Ordering::Relaxed);
        if eventual && !locked.is_empty() {
            // Those who came to a strict line have looked for none, and are not polled, perhaps.
            drop(locked);
            self.line().find_timer();
            locked = self.lock();
        }
        if !locked.is_empty() {
            // Strict from here on; a server that finds it eventual opens again.
            self.word.shut();
        }
        self.serve(locked);
    }

    /// Who may overtake whom.
    pub(super) fn fairness(&self) -> Fairness {
        self.look_at_line(|locked| locked.fairness())
            .or_else(|| self.start.as_ref().map(|start| start.fairness))
            .unwrap_or_default()
    }

    /// Serves the line from its front for as long as there is something for the front.
    fn serve<'a>(&'a self, locked: Held<'a>) {
        let mut after = After { engine: self, errand: Errand::Nothing };
        self.line().queue.serve_each(locked, |locked| self.next(locked, &mut after.errand));
    }

    /// What is next for the front.
    #[inline]
    fn next(&self, locked: &mut Held<'_>, errand: &mut Errand) -> Serve<Grant> {
        let Some(wanted) = locked.front(|wish| wish.permits) else { return Serve::Rest };
        let last = locked.len() == 1;
        if !locked.is_eventual() && self.word.take_for_front(wanted, last) {
            return Serve::Grant(Grant::Permits);
        }
        self.next_or_news(locked, wanted, errand)
    }

    /// What is next for a front that is not granted permits.
    #[cold]
    fn next_or_news(
        &self,
        locked: &mut Held<'_>,
        wanted: usize,
        errand: &mut Errand,
    ) -> Serve<Grant> {
        let last = locked.len() == 1;
        let state = self.word.snapshot();
        let capacity = self.capacity();
        if state.is_closed() {
            self.send_away(Grant::Closed, last)
        } else if wanted > capacity {
            self.send_away(Grant::OverCapacity(capacity), last)
        } else if locked.is_eventual() {
            self.next_to_call(locked, wanted, errand)
        } else {
            Serve::Rest
        }
    }

    /// What is next for the front that may be called.
    fn next_to_call(
        &self,
        locked: &mut Held<'_>,
        wanted: usize,
        errand: &mut Errand,
    ) -> Serve<Grant> {
        let now = locked.now();
        let queued = !locked.sees_to_front(now);
        match front(locked, now) {
            Front::Late => match Grant::again(locked) {
                Some(again) => self.send_away(again, locked.len() == 1),
                None => Serve::Rest,
            },
            Front::OnItsWay => {
                // Whether there is what it wants is for itself to see.
                let shut = is_overdue(locked, now);
                let flags = Flags { queued, shut };
                self.word.tell(wanted, flags, flags);
                *errand = arm_for_front(locked, now);
                Serve::Rest
            }
            Front::Waits => {
                let shut = is_overdue(locked, now);
                let (call, wait) = (Flags { queued, shut }, Flags { queued: true, shut });
                let covered = self.word.tell(wanted, call, wait);
                if !covered {
                    *errand = arm_for_front(locked, now);
                    return Serve::Rest;
                }
                *errand = call_told(locked, now);
                Serve::Call
            }
        }
    }

    /// The front leaves the line without permits.
    fn send_away(&self, grant: Grant, last: bool) -> Serve<Grant> {
        if last {
            self.word.clear();
        }
        Serve::Grant(grant)
    }

    /// Does what is to be done when the lock is free.
    #[inline]
    fn run(&self, errand: Errand) {
        if !errand.is_nothing() {
            self.run_errand(errand);
        }
    }

    /// As [`run`](Self::run), out of line.
    #[cold]
    fn run_errand(&self, errand: Errand) {
        let Some(line) = self.line.share() else { return };
        let serve = match errand {
            Errand::Nothing => false,
            Errand::Arm(timer, at) => line.arm(&timer, at),
            Errand::Serve => true,
        };
        if serve {
            // A waker that panics is not this caller's fault.
            contain(|| self.serve(line.queue.lock()));
        }
    }
}

/// What is to be done when a line was served: whatever a waker does, the alarm that is said to be armed is.
struct After<'a> {
    /// Whose line.
    engine: &'a Engine,
    /// What.
    errand: Errand,
}

impl Drop for After<'_> {
    #[inline]
    fn drop(&mut self) {
        self.engine.run(std::mem::take(&mut self.errand));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(line) = self.line.get() {
            line.disarm();
        }
    }
}
