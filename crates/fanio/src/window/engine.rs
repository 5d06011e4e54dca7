//! The engine of the window: one lock, a belt, a queue of reservers and one waker.
//!
//! # Vocabulary
//!
//! A window has `capacity` *units*. A unit is *granted* to a reserver that waited, or *taken* for
//! a slot. Taking assigns the next *sequence* number; until then a unit has none. A slot is
//! *settled* by a value (an item) or by its drop (a gap). The exit *emits* what was settled: in
//! the order of sequence numbers, or in the order of settling. Emitting frees the unit.
//!
//! ```text
//!          grant            take               settle             emit
//!   free ---------> granted -----> open (slot) --------> held ----------> free
//!    |                 |             ^
//!    |    give back    |             |
//!    +<----------------+             |
//!    +-------------------------------+  take, when nobody waits
//! ```
//!
//! # Protocol
//!
//! Everything below is [`State`], under the one lock of the [`WaitQueue`].
//!
//! 1. *Reserve*: closed, it ends; with a unit free, it takes one; otherwise it queues.
//! 2. *Emit* frees a unit. If somebody waits, the unit is granted to the front in the same critical
//!    section; so it never lies free where a newcomer could overtake the queue.
//! 3. A granted reserver *redeems* when it is polled: it takes its unit, and only now gets a
//!    sequence number. Dropped before, it *gives back* the unit, which goes to the next in line.
//!    No sequence number is spent, so nobody downstream sees that it was there.
//! 4. *Settle* puts the result on the belt and takes the exit's waker out only if something can be
//!    emitted now that could not before: ordered, that is when the oldest slot settles.
//! 5. *Close* admits nobody any more and sends those who wait away. A reserver that was granted a
//!    unit and has not redeemed it is sent away, too: what is open at that moment is all that
//!    comes. The exit has *ended* when the window is closed and everything reserved was emitted.
//! 6. *Abandon* (the exit is dropped) closes, and takes the belt out. Who settles later is told to
//!    drop the value.
//!
//! # Invariants
//!
//! - **W1** `granted + reserved - emitted <= capacity`, while the exit is there. Only rules 1 and 2
//!   add to the left side, each after looking.
//! - **W2** While somebody waits and the window is open, the two sides of W1 are equal: a reserver
//!   queues only then, and each unit that becomes free by rule 2 or 3 is granted at once. So a
//!   free unit means that nobody waits, and rule 1 needs to look at nothing else.
//! - **W3** While the exit's waker is here, nothing can be emitted and the window has not ended:
//!   it is left only after looking, in the same critical section, and the only two changes that
//!   end this (rules 4 and 5) take it out.
//!
//! # The races
//!
//! - *Settle against a pending exit*: both look and act under the lock. Either the exit sees the
//!   result, or the settler sees its waker (W3). Nobody else has to wake the exit: emission itself
//!   is done by the exit, which looks again before it waits.
//! - *Grant against a dropped reserver*: [`Waiter::cancel`] decides under the lock. Who was taken
//!   out of the queue finds the unit and gives it back (rule 3); by W2 that serves the next.
//! - *Close against a granted reserver*: redeeming looks at `closed` again. So when the exit sees
//!   the end, no slot can come after it.
//! - *Settle against abandon*: whoever is second drops the value; it is in the belt or in the
//!   settler's hands, never in both.
//!
//! # What runs outside the lock
//!
//! Wakers are cloned, woken and dropped, and values are dropped, after the lock was released. A
//! waker that panics is reported by the panic hook and ends there: it belongs to the other side,
//! and to let it pass would lose the item that is being emitted, or blame a worker whose value has
//! arrived.
//!
//! # Cost
//!
//! An item passes three short critical sections (take, settle, emit), one more if its reserver had
//! to wait, and one reference count up and down. Nothing is allocated once the belt has grown.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use selvedge_primitives::{
    Anchor, Entry, Left, Locked, Origin, WaitQueue, Waiter, WakeBatch, contain, drop_each,
    release_then, wake,
};

use super::belt::Belt;
use super::counts::Counts;
use super::exit::Emitted;
use super::{Closed, Order};

/// What entry, slots and exit share.
pub(super) struct Shared<T> {
    /// The state, and those who wait for a unit.
    queue: Queue<T>,
    /// Where the window was made.
    origin: Origin,
}

/// The lock around everything, and those who wait.
type Queue<T> = WaitQueue<State<T>, (), Outcome>;

/// The lock, held.
type Held<'a, T> = Locked<'a, State<T>, (), Outcome>;

/// The place in line of one reserver.
pub(super) type Line<'a, T> = Waiter<'a, State<T>, (), Outcome>;

/// What a reserver gets.
pub(super) enum Outcome {
    /// The sequence number of its slot, or nothing because the window is closed.
    Decided(Result<u64, Closed>),
    /// A unit, to be redeemed.
    Granted,
}

/// What the lock guards.
pub(super) struct State<T> {
    /// How many units there are.
    capacity: usize,
    /// Units granted and not redeemed.
    granted: usize,
    /// What was settled and not emitted.
    belt: Belt<T>,
    /// The totals; `reserved` is the next sequence number, and ordered, `emitted` is the oldest
    /// that was not emitted.
    counts: Counts,
    /// Whether nobody is admitted any more.
    closed: bool,
    /// Whether the exit was dropped; then it is closed as well.
    abandoned: bool,
    /// The task that waits at the exit.
    exit: Option<Waker>,
}

impl<T> State<T> {
    /// Whether a unit is neither granted nor taken.
    fn has_free_unit(&self) -> bool {
        let taken = self.counts.reserved - self.counts.emitted;
        usize::try_from(taken).is_ok_and(|taken| taken + self.granted < self.capacity)
    }

    /// Rule 1, without the queue: nothing when there is no unit. By W2 a free unit means that
    /// nobody waits.
    fn admit(&mut self) -> Option<Result<u64, Closed>> {
        if self.closed {
            Some(Err(Closed))
        } else if self.has_free_unit() {
            Some(Ok(self.take()))
        } else {
            None
        }
    }

    /// Takes a unit for a slot: spends a sequence number.
    fn take(&mut self) -> u64 {
        let sequence = self.counts.reserved;
        self.counts.reserved += 1;
        self.belt.open();
        sequence
    }

    /// Rule 4: a slot is settled. Returns whom to wake, and the value if nobody wants it.
    fn settle(&mut self, sequence: u64, value: Option<T>) -> (Option<Waker>, Option<T>) {
        match value {
            Some(_) => self.counts.completed += 1,
            None => self.counts.gaps += 1,
        }
        if self.abandoned {
            self.counts.discarded += 1;
            return (None, value);
        }
        let news = self.belt.settle(sequence, self.counts.emitted, value);
        (news.then(|| self.exit.take()).flatten(), None)
    }

    /// Takes out the next one in turn; none when it has ended, pending when there is nothing yet.
    fn emit(&mut self) -> Poll<Option<Emitted<T>>> {
        if let Some(emitted) = self.belt.emit(self.counts.emitted) {
            self.counts.emitted += 1;
            return Poll::Ready(Some(emitted));
        }
        if self.has_ended() { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Whether nothing will be emitted any more.
    fn has_ended(&self) -> bool {
        self.closed && self.counts.emitted == self.counts.reserved
    }
}

impl<T> Shared<T> {
    /// An empty window.
    pub(super) fn new(capacity: usize, order: Order, origin: Origin) -> Self {
        let state = State {
            capacity,
            granted: 0,
            belt: Belt::new(order),
            counts: Counts::default(),
            closed: false,
            abandoned: false,
            exit: None,
        };
        Self { queue: WaitQueue::new(state), origin }
    }

    /// What the two ends print of themselves.
    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, end: &str) -> fmt::Result {
        let (counts, closed) = {
            let locked = self.queue.lock();
            (locked.counts, locked.closed)
        };
        f.debug_struct(end)
            .field("origin", &self.origin)
            .field("counts", &counts)
            .field("closed", &closed)
            .finish_non_exhaustive()
    }

    /// The totals.
    pub(super) fn counts(&self) -> Counts {
        self.queue.lock().counts
    }

    /// Whether nobody is admitted any more.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// A place in line that borrows the window.
    pub(super) fn line(&self) -> Line<'_, T> {
        Waiter::new(Anchor::borrowed(&self.queue))
    }

    /// A place in line that keeps the window alive.
    pub(super) fn line_owned(self: &Arc<Self>) -> Line<'static, T>
    where
        T: Send + 'static,
    {
        Waiter::new(Anchor::shared(Arc::clone(self), |shared| &shared.queue))
    }

    /// Rule 1, without waiting.
    pub(super) fn try_take(&self) -> Option<Result<u64, Closed>> {
        self.queue.lock().admit()
    }

    /// Rule 1 with the queue, then rule 3.
    pub(super) fn poll_take(
        &self,
        line: Pin<&mut Line<'_, T>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<u64, Closed>> {
        if !line.as_ref().is_waiting() {
            // Once without queueing: most often there is a unit, and no waker needs to be cloned.
            if let Some(decided) = self.try_take() {
                return Poll::Ready(decided);
            }
        }
        let outcome = line.poll_enter(cx, |locked| match locked.admit() {
            Some(decided) => Entry::Ready(Outcome::Decided(decided)),
            None => Entry::Wait(()),
        });
        outcome.map(|outcome| match outcome {
            Outcome::Decided(decided) => decided,
            Outcome::Granted => self.redeem(),
        })
    }

    /// Rule 3: a granted unit becomes a slot, unless the window was closed meanwhile.
    fn redeem(&self) -> Result<u64, Closed> {
        let mut locked = self.queue.lock();
        locked.granted -= 1;
        if locked.closed { Err(Closed) } else { Ok(locked.take()) }
    }

    /// A reserver gives up: leaves the queue, or gives back the unit that it was granted.
    pub(super) fn leave(&self, line: Pin<&mut Line<'_, T>>) {
        if let Left::Granted(Outcome::Granted) = line.cancel() {
            let mut locked = self.queue.lock();
            locked.granted -= 1;
            pass_on(locked);
        }
    }

    /// Rule 4: a slot is completed with a value, or dropped without.
    pub(super) fn settle(&self, sequence: u64, value: Option<T>) {
        let mut locked = self.queue.lock();
        let (exit, unwanted) = locked.settle(sequence, value);
        release_then(locked, || {
            exit.into_iter().for_each(wake_contained);
            drop(unwanted);
        });
    }

    /// Rule 2, without waiting: `Pending` leaves no waker.
    pub(super) fn try_emit(&self) -> Poll<Option<Emitted<T>>> {
        emit(self.queue.lock(), |_| {})
    }

    /// Rule 2; when there is nothing yet, the waker stays here.
    pub(super) fn poll_emit(&self, cx: &mut Context<'_>) -> Poll<Option<Emitted<T>>> {
        let locked = self.queue.lock();
        if locked.exit.as_ref().is_some_and(|left| left.will_wake(cx.waker())) {
            // By W3 there is nothing new, and the right task will hear when there is.
            return Poll::Pending;
        }
        if let ready @ Poll::Ready(_) = emit(locked, |_| {}) {
            return ready;
        }
        // Cloned with no lock held, because a clone is the executor's code; so once more looked.
        let waker = cx.waker().clone();
        emit(self.queue.lock(), |mut locked| {
            let old = locked.exit.replace(waker);
            release_then(locked, || contain(|| drop(old)));
        })
    }

    /// Takes back the waker that a pending [`poll_emit`](Self::poll_emit) left.
    pub(super) fn forget_exit(&self) {
        let mut locked = self.queue.lock();
        let waker = locked.exit.take();
        release_then(locked, || contain(|| drop(waker)));
    }

    /// Rule 5: closes the entry.
    pub(super) fn close(&self) {
        let mut locked = self.queue.lock();
        locked.closed = true;
        let exit = if locked.has_ended() { locked.exit.take() } else { None };
        self.send_away(locked);
        exit.into_iter().for_each(wake_contained);
    }

    /// Rule 6: the exit is dropped.
    pub(super) fn abandon(&self) {
        let mut locked = self.queue.lock();
        locked.closed = true;
        locked.abandoned = true;
        locked.counts.discarded = locked.counts.held();
        let (belt, exit) = (locked.belt.take(), locked.exit.take());
        self.send_away(locked);
        contain(|| drop(exit));
        drop_each(belt.into_values());
    }

    /// Sends all who wait away; the window is closed, so nobody queues behind them.
    fn send_away(&self, locked: Held<'_, T>) {
        contain(|| self.queue.grant_while(locked, |_, ()| Some(Outcome::Decided(Err(Closed)))));
    }
}

/// Rule 2: takes out the next one in turn and releases the lock; `pending` gets the lock when there
/// is none yet.
fn emit<'a, T>(
    mut locked: Held<'a, T>,
    pending: impl FnOnce(Held<'a, T>),
) -> Poll<Option<Emitted<T>>> {
    let emitted = locked.emit();
    match emitted {
        Poll::Ready(Some(_)) => pass_on(locked),
        Poll::Ready(None) => {}
        Poll::Pending => pending(locked),
    }
    emitted
}

/// A unit has become free: grants it to the front, if somebody waits, and releases the lock.
fn pass_on<T>(mut locked: Held<'_, T>) {
    if locked.is_empty() {
        return;
    }
    let mut batch = WakeBatch::new();
    if locked.grant_front(Outcome::Granted, &mut batch).is_ok() {
        locked.granted += 1;
    }
    release_then(locked, || contain(|| batch.wake_all()));
}

/// Wakes; a panic of the waker ends here (see the head of this file).
fn wake_contained(waker: Waker) {
    contain(|| wake(waker));
}
