//! The course: where it bends, because its piece is over, because the quota changes, or because something was left over in the line.

use std::sync::Arc;

use selvedge_primitives::atomic::Ordering;
use selvedge_primitives::time::nanos;

use super::{Desk, Engine, Locked, far_from, waiting};
use crate::Quota;
use crate::bucket::course::{ANEW, BEGINNING, LARGEST_DEBT, Piece};
use crate::bucket::scale::{LARGEST_BURST, LONGEST};
use crate::limiter::refund::deficit_in;

impl Engine {
    /// The line is empty, and perhaps not all was taken of what came while it was not: it is there for another while.
    pub(super) fn slacken(&self, locked: &mut Locked<'_>, piece: &Piece, granted: u64, now: u64) {
        let span = locked.plan.settings.credit();
        let earned = piece.earned(now);
        if granted >= earned {
            return;
        }
        // As much as a late timer may leave, not only what this one did: who was woken takes a while until it takes more.
        let slack = piece.scale.earned(span).min(LARGEST_BURST);
        if piece.slack == 0 {
            locked.lasts = piece.lasts;
        }
        // The same line, for a while.
        let lasts = now.saturating_sub(piece.since).saturating_add(span).min(locked.lasts);
        self.bend(locked, now, earned - slack, Piece { lasts, slack, ..*piece }, |_| 0);
    }

    /// Under the lock: if the piece of the course is over, the one that holds now, for one who takes or, with `takes` false, only looks.
    pub(super) fn settle(&self, locked: &mut Locked<'_>, now: u64, takes: bool) {
        loop {
            let piece = self.course.piece();
            if !piece.is_over(now) || locked.plan.is_cold() && !takes {
                return;
            }
            self.recall(locked, now);
            let end = piece.since.saturating_add(piece.lasts);
            let floor = self.newcomers_floor(locked, &Piece { slack: 0, ..piece }, end);
            let next = if piece.slack > 0 && locked.lasts > piece.lasts {
                Piece { lasts: locked.lasts, slack: 0, ..piece }
            } else if locked.plan.warms_up() {
                // Nobody has taken since the end: whoever wants to comes here first.
                let full_since = self.full_since(locked, &piece, end);
                // Not full yet: then it is at another rate from here on.
                let idle = if full_since > end { 0 } else { now.saturating_sub(full_since) };
                let begins = locked.plan.advance(idle);
                let cold = full_since.saturating_add(nanos(locked.plan.settings.warm_up));
                locked.plan.piece(if begins { now } else { end }, cold.saturating_sub(end))
            } else {
                without_loss(&piece, locked.plan.piece(end, u64::MAX), end)
            };
            self.bend(locked, end, floor, next, |_| 0);
        }
    }

    /// Since when the bucket is full, or from when on it will be if nobody takes.
    pub(super) fn full_since(&self, locked: &Locked<'_>, piece: &Piece, at: u64) -> u64 {
        match self.word.0.snapshot().granted() {
            granted if granted <= piece.base => locked.full_since,
            granted if granted <= piece.earned(at) => piece.due(granted).unwrap_or(u64::MAX),
            granted => {
                let fills = piece.scale.due(granted - piece.earned(at));
                fills.and_then(|fills| at.checked_add(fills)).unwrap_or(u64::MAX)
            }
        }
    }

    /// Under the lock: the course bends at `at`, which is not after the end of its piece, and goes on with `next`, for which the base is
    /// reckoned here; the deficit gets smaller by what `back` says, which is given back. What had come below `floor` by then is lost.
    pub(super) fn bend(
        &self,
        locked: &mut Locked<'_>,
        at: u64,
        floor: u64,
        next: Piece,
        back: impl FnOnce(&Desk) -> u64,
    ) -> u64 {
        let old = self.course.piece();
        if locked.plan.warms_up() {
            locked.full_since = self.full_since(locked, &old, at);
        }
        let seen = self.word.0.begin_change();
        let back = back(locked);
        let before = seen.granted().max(floor);
        let deficit = i128::from(before) - i128::from(old.earned(at)) - i128::from(back);
        // What is beyond a full bucket is what comes while a timer is late, at the new rate as well.
        let credit = next.scale.earned(locked.plan.settings.credit()).min(LARGEST_BURST);
        let most = next.burst_units() + LARGEST_DEBT;
        let deficit = deficit_in(&old, deficit, next.scale.unit);
        let deficit = deficit.clamp(-i128::from(credit), most.into());
        // Above whatever the word has been, so that whoever reckoned with the old piece does not get its result into it.
        let above = locked.peak.max(seen.granted()) + 1;
        let (granted, since) = match above {
            ..ANEW => (above, next.since),
            _ if next.since != old.since => (BEGINNING, next.since),
            // The count begins anew, and so does the piece.
            _ => (BEGINNING, next.since.max(at)),
        };
        let lasts = next.lasts.saturating_sub(since - next.since);
        let next = Piece { since, lasts, ..next };
        let come = next.scale.earned(at.saturating_sub(since).min(lasts));
        let base = u64::try_from(i128::from(granted) - deficit - i128::from(come));
        let next = next.based(base.expect("the count begins above the largest deficit"));
        locked.refunds.change(before - back, granted, next.scale.unit);
        locked.peak = granted;
        if since >= at || since != old.since {
            locked.past = Some((old, at));
        }
        self.course.set(next);
        // Relaxed: a hint.
        self.far_from.store(far_from(&next), Ordering::Relaxed);
        self.word.0.end_change(seen, granted);
        back
    }

    /// Another quota from now on: what has come until now came at the old rate.
    pub(crate) fn change(self: &Arc<Self>, quota: impl FnOnce(Quota) -> Quota) {
        let mut locked = self.queue.lock();
        self.clock.catch_up();
        let now = self.clock.now();
        let piece = self.prepare(&mut locked, now, false);
        let floor = self.newcomers_floor(&locked, &piece, now);
        let quota = quota(locked.plan.quota);
        locked.plan.change(quota);
        let at = now.min(piece.since.saturating_add(piece.lasts));
        let mut next = locked.plan.piece(now, u64::MAX);
        if locked.plan.warms_up() && !locked.plan.is_cold() {
            // As far on its way as it was.
            let lasts = if piece.slack > 0 { locked.lasts } else { piece.lasts };
            let left = lasts.saturating_sub(now.saturating_sub(piece.since)).max(1);
            next.lasts = next.lasts.min(left);
        }
        let next = without_loss(&piece, next, now);
        if let Some(leases) = &self.leases {
            leases.suit(next.burst);
        }
        self.bend(&mut locked, at, floor, next, |_| 0);
        if waiting(&locked) > 0 {
            self.serve(locked);
        }
    }
}

/// The piece after `piece`, which ends at `at`. At the same rate what has come of a unit by then is not lost.
fn without_loss(piece: &Piece, next: Piece, at: u64) -> Piece {
    if next.scale != piece.scale || next.since != at || piece.is_over(at) {
        return next;
    }
    let since = piece.last_unit(at);
    Piece { since, lasts: next.lasts.saturating_add(at - since).min(LONGEST), ..next }
}
