//! The line: entering it, being served, leaving it, and the alarm that serves.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use selvedge_primitives::atomic::Ordering;
use selvedge_primitives::time::{Expire, Expiry, TimerError, nanos};
use selvedge_primitives::{Entry, Left, LineId, contain};

use super::{Ask, Desk, Engine, Grant, Locked, PARTS, Place, Request, waiting};
use crate::Standing;
use crate::bucket::course::Piece;
use crate::limiter::bell::Errand;
use crate::limiter::priority::Priority;
use crate::limiter::refund::Receipt;

impl Engine {
    /// Stands in line.
    pub(in crate::limiter) fn poll_wait(
        self: &Arc<Self>,
        place: Pin<&mut Place<'_>>,
        cx: &mut Context<'_>,
        ask: Ask,
    ) -> Poll<Grant> {
        let (mut first, mut at_once) = (false, false);
        let polled = place.poll_enter(cx, |locked| match self.enter(locked, ask) {
            Ok(grant) => {
                at_once = true;
                Entry::Ready(grant)
            }
            Err((request, is_first)) => {
                first = is_first;
                Entry::Wait((ask.priority.line(), request))
            }
        });
        if first {
            self.serve(self.queue.lock());
        }
        if let Poll::Ready(grant) = &polled {
            self.meter.told(ask.tokens, matches!(grant, Grant::Tokens(_)), at_once);
        }
        polled
    }

    /// Comes to the line: gets what it wants, or is told why not, or enters, and may have nobody before it there.
    pub(super) fn enter(
        &self,
        locked: &mut Locked<'_>,
        ask: Ask,
    ) -> Result<Grant, (Request, bool)> {
        self.clock.catch_up();
        let now = self.clock.now();
        let piece = self.prepare(locked, now, true);
        if self.is_closed() {
            return Ok(Grant::Closed);
        }
        if ask.tokens > piece.burst && !ask.split {
            return Ok(Grant::OverBurst(piece.burst));
        }
        let is_empty = waiting(locked) == 0;
        if is_empty {
            let (units, floor) = (piece.units(ask.tokens), piece.floor(now));
            let taken = self.word.0.take_or_queue(units, floor, piece.most(now));
            if let Some(granted) = taken {
                return Ok(Grant::Tokens(locked.refunds.receipt(granted)));
            }
        }
        if let Some(refusal) = self.refuses(locked, &piece, now, ask) {
            if is_empty {
                self.word.0.clear_queued();
            }
            return Ok(refusal);
        }
        let id = ask.priority.line();
        let is_first = before(locked, id).0 == 0 && locked.waiting(id) == 0;
        self.count(locked, id, i64::from(ask.tokens));
        let receipt = Receipt::default();
        Err((Request { rest: ask.tokens, taken: 0, split: ask.split, receipt }, is_first))
    }

    /// Why one does not get into the line, if so.
    pub(super) fn refuses(
        &self,
        locked: &Locked<'_>,
        piece: &Piece,
        now: u64,
        ask: Ask,
    ) -> Option<Grant> {
        if ask.latest != u64::MAX {
            let id = ask.priority.line();
            let wanted = before(locked, id).1 + locked.line(id).map_or(0, |line| line.wanted);
            let granted = self.word.0.snapshot().granted().max(self.floor(locked, piece, now));
            let needs = piece.needs(granted, wanted + u64::from(ask.tokens));
            let due = locked.plan.due(piece, needs);
            if due.is_none_or(|due| due > ask.latest) {
                return Some(Grant::TooLate(due.unwrap_or(u64::MAX).saturating_sub(now)));
            }
        }
        let waiting = waiting(locked);
        (waiting >= locked.plan.settings.max_waiting).then_some(Grant::TooMany(waiting))
    }

    /// So many more tokens are wanted in a line, or fewer.
    pub(super) fn count(&self, locked: &mut Locked<'_>, id: LineId, more: i64) {
        let class = locked.line_mut(id).expect("there is a line for each class");
        class.wanted = class.wanted.wrapping_add_signed(more);
        // Relaxed: changes under the lock only, and is a count for all others.
        let ahead = self.ahead.load(Ordering::Relaxed);
        // Relaxed: as above.
        self.ahead.store(ahead.wrapping_add_signed(more), Ordering::Relaxed);
    }

    /// Where one who waits stands; none if it does not stand in line, or was granted something.
    pub(in crate::limiter) fn standing(
        &self,
        place: Pin<&Place<'_>>,
        ask: Ask,
    ) -> Option<Standing> {
        // What is reckoned below is of the piece that holds: one that is over loses nothing any more, and says too early.
        let mut locked = self.queue.lock();
        self.clock.catch_up();
        let now = self.clock.now();
        self.settle(&mut locked, now, false);
        drop(locked);
        let (people, tokens) = (Cell::new(0), Cell::new(0));
        let look = |request: &Request| {
            people.set(people.get() + 1);
            tokens.set(tokens.get() + u64::from(request.rest));
        };
        place.ahead(look, |locked, id| {
            let now = self.clock.now();
            let piece = self.course.piece();
            let granted = self.word.0.snapshot().granted().max(self.floor(locked, &piece, now));
            let (mut others, mut wanted) = before(locked, id);
            let front = locked.front(id, |front| (front.rest, front.taken > 0));
            let front = front.filter(|_| people.get() == 0);
            if let Some((_, true)) = front {
                // It has got a part: nobody goes before it, whatever the class.
                (others, wanted) = (0, 0);
            }
            let rest = front.map(|(rest, _)| rest);
            let wanted = wanted + tokens.get() + u64::from(rest.unwrap_or(ask.tokens));
            // More than a burst that was lowered is told so, when it comes to the front.
            let fits = ask.split || ask.tokens <= piece.burst;
            let needs = Some(piece.needs(granted, wanted)).filter(|_| fits);
            let due = needs.and_then(|needs| locked.plan.due(&piece, needs));
            let due_in = due.map(|due| Duration::from_nanos(due.saturating_sub(now)));
            Standing { ahead: people.get() + others, due_in }
        })
    }

    /// Leaves the line, or was granted something: the receipt, of which nothing has gone back. How many tokens others may have now.
    pub(in crate::limiter) fn withdraw(
        self: &Arc<Self>,
        place: Pin<&mut Place<'_>>,
        ask: Ask,
    ) -> (Option<Receipt>, u32) {
        let left = place.cancel_with(|mut locked, request| {
            self.count(&mut locked, ask.priority.line(), -i64::from(request.rest));
            self.serve(locked);
        });
        match left {
            Left::Granted(Grant::Tokens(receipt)) => (Some(receipt), 0),
            Left::Queued(Request { rest, taken, receipt, .. }) => {
                self.meter.cancelled();
                (None, rest + self.refund(receipt, taken))
            }
            Left::Granted(_) => {
                self.meter.cancelled();
                (None, 0)
            }
            Left::Nothing => (None, 0),
        }
    }

    /// Leaves the line, or gives back what was granted to `place` and not seen. How many tokens others may have now.
    pub(in crate::limiter) fn leave(self: &Arc<Self>, place: Pin<&mut Place<'_>>, ask: Ask) -> u32 {
        match self.withdraw(place, ask) {
            (Some(receipt), _) => {
                self.meter.cancelled();
                self.refund(receipt, ask.tokens)
            }
            (None, back) => back,
        }
    }

    /// Gives back what was granted and not used, as far as it can be. How many tokens that is.
    pub(in crate::limiter) fn refund(self: &Arc<Self>, receipt: Receipt, tokens: u32) -> u32 {
        if tokens == 0 {
            return 0;
        }
        let mut locked = self.queue.lock();
        self.clock.catch_up();
        let now = self.clock.now();
        let piece = self.prepare(&mut locked, now, false);
        let horizon = locked.earned(&piece, locked.plan.settings.horizon(now));
        let above = locked.refunds.above(receipt, horizon);
        let units = piece.units(tokens);
        let start = locked.refunds.start();
        // Looked at after the word: what others took since has raised the horizon of their time.
        let allowed = |desk: &Desk| {
            let now = desk.earned(&piece, desk.plan.settings.horizon(self.clock.now()));
            above.saturating_sub(now.saturating_sub(horizon)).min(units)
        };
        let (before, mut back) = self.word.0.refund(start, || allowed(&locked));
        locked.peak = locked.peak.max(before);
        if back < units && before - back == start {
            // Below where the piece began the word has been before it. So the course bends, with a smaller deficit.
            let floor = self.newcomers_floor(&locked, &piece, now);
            let rest = |desk: &Desk| allowed(desk).saturating_sub(back);
            back += self.bend(&mut locked, now, floor, piece, rest);
        }
        locked.refunds.gave_back(back);
        if waiting(&locked) > 0 {
            self.serve(locked);
        }
        // A change of the quota since the grant may have cost a unit.
        match piece.scale.unit {
            0 => tokens,
            unit => piece.tokens(back.saturating_add(unit.ilog2().into())).min(tokens),
        }
    }

    /// Serves those who are due, whatever the timer does.
    pub(in crate::limiter) fn serve_due(self: &Arc<Self>) {
        let locked = self.queue.lock();
        if waiting(&locked) > 0 {
            self.serve(locked);
        }
    }

    /// Serves the line from its front, then sees to the alarm. A waker that panics is nobody's fault here: the hook has told of it,
    /// and all others are woken.
    pub(super) fn serve<'a>(self: &'a Arc<Self>, mut locked: Locked<'a>) {
        let mut errand = Errand::default();
        self.clock.catch_up();
        let most = waiting(&locked);
        if most == 0 {
            // Whoever was in line has left.
            self.word.0.clear_queued();
            locked.bell.silence(&mut errand);
            drop(locked);
        } else {
            // Those who come while this serves do not keep it serving: at a rate that no thread can keep up with it would never return. For
            // them there is an alarm, which may be past.
            let mut left = most.saturating_add(PARTS);
            contain(|| {
                self.queue.grant_from(locked, |locked| self.next(locked, &mut left, &mut errand));
            });
        }
        self.run(errand);
    }

    /// What the front of the line gets, if it is one of the `left` who are served and it is due; else the alarm is seen to.
    pub(super) fn next(
        &self,
        locked: &mut Locked<'_>,
        left: &mut usize,
        errand: &mut Errand,
    ) -> Option<(LineId, Grant)> {
        loop {
            let (id, request) = front(locked)?;
            // For each: between two batches wakers run with the lock free, for as long as they like, and what is granted behind them must
            // not count as granted before.
            let now = self.clock.now();
            self.settle(locked, now, true);
            let piece = self.course.piece();
            let is_last = waiting(locked) == 1;
            let rest = i64::from(request.rest);
            if request.rest > piece.burst && !request.split {
                // The burst was lowered.
                *left = left.saturating_sub(1);
                self.count(locked, id, -rest);
                if is_last {
                    self.word.0.clear_queued();
                    locked.bell.silence(errand);
                }
                return Some((id, Grant::OverBurst(piece.burst)));
            }
            let part = request.rest.min(piece.burst);
            let ends = part == request.rest;
            let earned = piece.earned(now);
            let floor = self.floor(locked, &piece, now);
            // QUEUED keeps others away for as long as what is left over is not noted.
            let units = piece.units(part);
            let leaves = self.word.0.snapshot().granted().max(floor).saturating_add(units) < earned;
            let granted = match *left {
                0 => None,
                _ => self.word.0.take(units, floor, piece.most(now), ends && is_last && !leaves),
            };
            let Some(granted) = granted else {
                self.set_alarm(locked, &piece, floor, part, errand);
                return None;
            };
            let receipt = locked.refunds.receipt(granted);
            self.count(locked, id, -i64::from(part));
            if !ends {
                locked.front_mut(id, |request| {
                    request.rest -= part;
                    request.taken += part;
                    request.receipt = receipt;
                });
                *left -= 1;
                continue;
            }
            *left -= 1;
            if is_last {
                locked.bell.silence(errand);
                if leaves {
                    self.slacken(locked, &piece, granted, now);
                    self.word.0.clear_queued();
                }
            }
            return Some((id, Grant::Tokens(receipt)));
        }
    }

    /// Sees to it that an alarm rings when the front is due for so many tokens.
    pub(super) fn set_alarm(
        &self,
        locked: &mut Locked<'_>,
        piece: &Piece,
        floor: u64,
        part: u32,
        errand: &mut Errand,
    ) {
        let granted = self.word.0.snapshot().granted().max(floor);
        let due = piece.due(piece.needs(granted, part.into()));
        // What comes after the end of the piece is reckoned when it is there.
        let end = piece.since.checked_add(piece.lasts).and_then(|end| end.checked_add(1));
        let Some(at) = due.into_iter().chain(end).min() else { return locked.bell.silence(errand) };
        let jitter = nanos(locked.plan.settings.jitter);
        if locked.bell.rings_by(at.saturating_add(jitter)) {
            return;
        }
        let late = if jitter == 0 { 0 } else { fastrand::u64(..=jitter) };
        locked.bell.ring_at(at.saturating_add(late), errand);
    }

    /// Does what is to be done about the alarm, with no lock held.
    pub(super) fn run(self: &Arc<Self>, mut errand: Errand) {
        let timer = self.clock.timer();
        for ticket in errand.stale() {
            timer.revoke(ticket);
        }
        let Some((at, number)) = errand.fresh() else { return };
        // What comes when no instant tells any more never rings.
        let Some(at) = self.clock.at(at) else { return };
        let target: Arc<dyn Expire> = Arc::<Self>::clone(self);
        match timer.register(at, target) {
            Ok(ticket) => {
                let is_set = self.queue.lock().bell.is_set(number, ticket);
                if !is_set {
                    timer.revoke(ticket);
                }
            }
            Err(error) => self.tell(self.queue.lock(), &Grant::NoTimer(error)),
        }
    }

    /// Nothing is granted any more; everybody in line is told. Whether it was open.
    pub(in crate::limiter) fn close(self: &Arc<Self>) -> bool {
        let locked = self.queue.lock();
        let was_open = self.word.0.close();
        self.tell(locked, &Grant::Closed);
        was_open
    }

    /// Everybody in line is told that there is nothing to wait for.
    pub(super) fn tell<'a>(self: &'a Arc<Self>, mut locked: Locked<'a>, grant: &Grant) {
        let mut errand = Errand::default();
        locked.bell.silence(&mut errand);
        contain(|| {
            self.queue.grant_from(locked, |locked| {
                let (id, request) = front(locked)?;
                self.count(locked, id, -i64::from(request.rest));
                if waiting(locked) == 1 {
                    self.word.0.clear_queued();
                }
                Some((id, grant.clone()))
            });
        });
        self.run(errand);
    }
}

/// Who is next, and what it wants: the first of the first class in which somebody stands, but for one that has got a part already.
fn front(locked: &Locked<'_>) -> Option<(LineId, Request)> {
    let fronts = Priority::ALL.into_iter().filter_map(|priority| {
        let id = priority.line();
        Some((id, locked.front(id, |request| *request)?))
    });
    fronts.min_by_key(|(_, request)| request.taken == 0)
}

/// How many stand before the first of a class, and how many tokens they want.
fn before(locked: &Locked<'_>, id: LineId) -> (usize, u64) {
    let mut before = (0, 0);
    let mut is_before = true;
    for at in Priority::ALL.map(Priority::line) {
        is_before &= at != id;
        let begun =
            locked.front(at, |request| (request.taken > 0).then_some(request.rest)).flatten();
        match begun {
            _ if is_before => {
                before.0 += locked.waiting(at);
                before.1 += locked.line(at).map_or(0, |class| class.wanted);
            }
            Some(rest) if at != id => before = (before.0 + 1, before.1 + u64::from(rest)),
            _ => {}
        }
    }
    before
}

impl Expire for Engine {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        if expiry == Expiry::Lost {
            return self.tell(self.queue.lock(), &Grant::NoTimer(TimerError::Lost));
        }
        let now = self.clock.now();
        let mut locked = self.queue.lock();
        let stale = locked.bell.has_rung(now);
        if waiting(&locked) == 0 {
            drop(locked);
        } else {
            self.serve(locked);
        }
        if let Some(ticket) = stale {
            self.clock.timer().revoke(ticket);
        }
    }
}
