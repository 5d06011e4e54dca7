//! The alarm of a limiter: one registration with the timer, for the time at which the front of the line is due.
//!
//! A timer may call back at once, so nothing is asked of it while the lock is held. What is to be done about the alarm is noted under
//! the lock, as an [`Errand`], and done after it.

use selvedge_primitives::time::Ticket;

/// The alarm that is set.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// The alarm.
    alarm: Option<Alarm>,
    /// The number of the next one.
    next: u64,
}

/// A registration with the timer, or one that is about to be made.
#[derive(Debug)]
pub(super) struct Alarm {
    /// When it rings, in nanoseconds of the limiter's clock.
    at: u64,
    /// Tells it from those before.
    number: u64,
    /// Once it was made.
    ticket: Option<Ticket>,
}

/// What is to be done about the alarm when the lock is released.
#[derive(Debug, Default)]
pub(super) struct Errand {
    /// To be taken back. Two, if the line was found empty between two batches of grants, and then not.
    stale: [Option<Ticket>; 2],
    /// To be set: when it rings, and its number.
    fresh: Option<(u64, u64)>,
}

impl Bell {
    /// Whether an alarm is set that rings no later than `at`.
    pub(super) fn rings_by(&self, at: u64) -> bool {
        self.alarm.as_ref().is_some_and(|alarm| alarm.at <= at)
    }

    /// Sees to it that the alarm rings at `at`.
    pub(super) fn ring_at(&mut self, at: u64, errand: &mut Errand) {
        let number = self.next;
        self.next += 1;
        let old = self.alarm.replace(Alarm { at, number, ticket: None });
        errand.stale[1] = old.and_then(|alarm| alarm.ticket);
        errand.fresh = Some((at, number));
    }

    /// Sees to it that there is no alarm.
    pub(super) fn silence(&mut self, errand: &mut Errand) {
        // One that rings for an empty line does no harm, so what is in the errand already goes first.
        if errand.stale[0].is_none() {
            // Without a ticket: whoever comes back with it takes it back.
            errand.stale[0] = self.alarm.take().and_then(|alarm| alarm.ticket);
        }
    }

    /// The registration of this number was made. False if it was replaced, has rung or is not needed: it is to be taken back.
    pub(super) fn is_set(&mut self, number: u64, ticket: Ticket) -> bool {
        match &mut self.alarm {
            Some(alarm) if alarm.number == number => {
                alarm.ticket = Some(ticket);
                true
            }
            _ => false,
        }
    }

    /// It has rung, or is about to. If this is a ring for one that was taken back and is not: the ticket of the one that is set, to be
    /// taken back as well.
    pub(super) fn has_rung(&mut self, now: u64) -> Option<Ticket> {
        self.alarm.take().filter(|alarm| alarm.at > now).and_then(|alarm| alarm.ticket)
    }
}

impl Errand {
    /// What is to be taken back.
    pub(super) fn stale(&mut self) -> impl Iterator<Item = Ticket> {
        std::mem::take(&mut self.stale).into_iter().flatten()
    }

    /// What is to be set: when it rings, and its number.
    pub(super) fn fresh(&mut self) -> Option<(u64, u64)> {
        self.fresh.take()
    }
}
