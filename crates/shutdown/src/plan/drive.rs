//! The driver: waits for the components of a plan, aborts those that are left, writes the report.
//!
//! There is one driver a plan, and it lives in one future (P2). It never blocks: each step does what
//! can be done now, and the alarm tells when there is more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context as TaskContext, Waker};
use std::time::{Duration, Instant};

use selvedge_cancel::{Cancelled, Canceller, Context, Wait};

use super::alarm::Alarm;
use super::{Closed, Entry, Phase, Plan};
use crate::report::{ComponentReport, End, Panic};
use crate::{Reason, Report, Signals};

/// Drives a plan. Dropped before the end it abandons it: everything is aborted, nothing waited for.
pub(crate) struct Drive {
    /// What it drives.
    pub(crate) plan: Arc<Plan>,
    /// The components it has seen, in the order of the plan's list.
    slots: Vec<Slot>,
    /// Those of them whose `stop` it has not seen return: not to be polled yet (P4).
    unstopped: Vec<usize>,
    /// How many of them have not ended.
    open: usize,
    /// Who tells the plan about signals, for as long as there is a plan to tell.
    signals: Option<Signals>,
}

/// A component that is waited for.
struct Slot {
    /// It.
    entry: Arc<Entry>,
    /// Its wait, until that has completed.
    wait: Option<Wait<'static>>,
    /// Rings for it.
    waker: Waker,
    /// How it ended; late until it has.
    end: End,
    /// Whether it was aborted.
    aborted: bool,
    /// What it panicked with.
    panics: Vec<Panic>,
}

impl Slot {
    /// Whether it is known to have ended.
    fn has_ended(&self) -> bool {
        matches!(self.end, End::Finished { .. } | End::Aborted { .. })
    }

    /// Calls `abort`, once.
    fn abort(&mut self) {
        if std::mem::replace(&mut self.aborted, true) {
            return;
        }
        let aborted = self.entry.call("abort", |component| component.abort());
        self.panics.extend(aborted.err());
    }

    /// Forgets the wait, whose destructor may panic.
    fn let_go(&mut self) {
        let wait = self.wait.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(wait))) {
            self.panics.push(Panic::new("wait", payload));
        }
    }
}

impl Drive {
    /// The driver of `plan`, which `signals` are to reach from now on.
    pub(crate) fn new(plan: Arc<Plan>, signals: Option<Signals>) -> Self {
        if let Some(signals) = &signals {
            signals.attach(&plan);
        }
        Self { plan, slots: Vec::new(), unstopped: Vec::new(), open: 0, signals }
    }

    /// Has everything that happens from now on wake this task.
    pub(crate) fn listen(&self, waker: &Waker) {
        self.plan.alarm.listen(waker);
    }

    /// Begins the shutdown from within. A waker that panics was reported by the hook.
    pub(crate) fn trigger(&self, reason: &Reason) {
        let _ = self.plan.trigger(reason);
    }

    /// Does what can be done now, in a phase after Running.
    pub(crate) fn step(&mut self) {
        self.plan.help_stop();
        let stopped = self.admit();
        for index in stopped.into_iter().chain(self.plan.alarm.take()) {
            self.poll_slot(index);
        }
    }

    /// Takes in what was registered since. Returns the components whose `stop` has returned since,
    /// and has the next one ring if that are not all (P4).
    fn admit(&mut self) -> Vec<usize> {
        let (fresh, phase, stopped) = {
            let mut state = self.plan.state.lock();
            let fresh = state.entries.get(self.slots.len()..).unwrap_or_default().to_vec();
            self.unstopped.extend(self.slots.len()..self.slots.len() + fresh.len());
            let stopped = self.unstopped.extract_if(.., |index| state.has_stopped(*index));
            let stopped: Vec<usize> = stopped.collect();
            state.awaited = !self.unstopped.is_empty();
            (fresh, state.phase, stopped)
        };
        for entry in fresh {
            self.add(entry, phase == Phase::Aborting);
        }
        stopped
    }

    /// Adds a slot.
    fn add(&mut self, entry: Arc<Entry>, abort: bool) {
        let component = Arc::clone(&entry.component);
        // The future owns the component that it borrows.
        let wait: Wait<'static> = Box::pin(async move { component.wait().await });
        let mut slot = Slot {
            entry,
            wait: Some(wait),
            waker: Alarm::waker(&self.plan.alarm, self.slots.len()),
            end: End::Late { stragglers: Vec::new() },
            aborted: false,
            panics: Vec::new(),
        };
        if abort {
            slot.abort();
        }
        self.slots.push(slot);
        self.open += 1;
    }

    /// Polls a component's wait, if it has not completed.
    fn poll_slot(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(wait) = &mut slot.wait else { return };
        let mut cx = TaskContext::from_waker(&slot.waker);
        slot.end = match catch_unwind(AssertUnwindSafe(|| wait.as_mut().poll(&mut cx))) {
            Ok(poll) if poll.is_pending() => return,
            Ok(_) => self.plan.ended_now(),
            Err(payload) => {
                slot.panics.push(Panic::new("wait", payload));
                End::Unknown
            }
        };
        slot.let_go();
        self.open -= 1;
    }

    /// Aborts what is left. Returns the wait for the end of the budget, and what keeps it.
    pub(crate) fn abort(&mut self) -> (Cancelled<'static>, Canceller) {
        {
            self.plan.state.lock().begin_abort();
        }
        for slot in &mut self.slots {
            if !slot.has_ended() {
                slot.abort();
            }
        }
        let settings = &self.plan.settings;
        let nothing_above = Context::background();
        let budget = nothing_above.child_with().timeout(settings.abort_budget);
        let made = budget.timer(settings.timer.clone()).build();
        let (over, keep) = made.expect("a timer is given, and there is no parent to differ");
        (over.cancelled_owned(), keep)
    }

    /// Whether every component that it has seen has ended.
    pub(crate) fn have_all_ended(&self) -> bool {
        self.open == 0
    }

    /// Ends the plan, unless there are components that it has not seen.
    pub(crate) fn finish(&mut self) -> Option<Report> {
        debug_assert!(self.have_all_ended());
        let closed = {
            let mut state = self.plan.state.lock();
            if state.entries.len() > self.slots.len() {
                // Registered since the last step; the alarm has rung, or is about to.
                return None;
            }
            state.close()
        };
        Some(self.report(closed))
    }

    /// Ends the plan now.
    pub(crate) fn finish_late(&mut self) -> Report {
        let closed = self.plan.state.lock().close();
        self.settle(&closed);
        self.report(closed)
    }

    /// Stops and aborts what was registered since the last step, if anything.
    fn settle(&mut self, closed: &Closed) {
        for (index, entry) in closed.entries.iter().enumerate() {
            let mut panic = None;
            if index >= closed.unstopped {
                panic = entry.call("stop", |component| component.stop()).err();
            }
            if index >= self.slots.len() {
                self.add(Arc::clone(entry), true);
            }
            self.slots[index].panics.extend(panic);
        }
    }

    /// Lets everything go and says what came of it.
    fn report(&mut self, closed: Closed) -> Report {
        let Closed { entries, panics, reason, began, .. } = closed;
        // Nothing outlives the plan by standing on its context.
        self.plan.abort(&reason);
        self.signals = None;
        self.plan.alarm.silence();
        drop(entries);
        for slot in &mut self.slots {
            if let End::Late { stragglers } = &mut slot.end {
                match slot.entry.call("stragglers", |component| component.stragglers()) {
                    Ok(named) => *stragglers = named,
                    Err(panic) => slot.panics.push(panic),
                }
            }
            if slot.end == End::Unknown {
                // Nobody can wait for it, but it can be told to go.
                slot.abort();
            }
            slot.let_go();
        }
        for (index, panic) in panics {
            self.slots[index].panics.insert(0, panic);
        }
        let slots = std::mem::take(&mut self.slots).into_iter();
        let components = slots.map(|Slot { entry, end, panics, .. }| ComponentReport {
            name: entry.name.clone(),
            place: entry.place,
            end,
            panics,
        });
        let components = components.collect();
        let took = since(began, self.plan.settings.timer.now());
        Report { reason, took, main: None, components }
    }
}

impl Plan {
    /// Something ended, just now. What ends after the context was cancelled has not drained, also if
    /// the driver has not come to the abort yet.
    pub(crate) fn ended_now(&self) -> End {
        let aborted = self.ctx.is_cancelled();
        let now = self.settings.timer.now();
        let after = since(self.state.lock().began, now);
        if aborted { End::Aborted { after } } else { End::Finished { after } }
    }
}

/// How long the shutdown has been going on; zero when it has not begun.
fn since(began: Option<Instant>, now: Instant) -> Duration {
    began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
}

impl Drop for Drive {
    fn drop(&mut self) {
        if self.plan.phase() == Phase::Done {
            return;
        }
        self.plan.alarm.silence();
        // The phase cannot have changed: it is the driver's to end.
        let closed = self.plan.state.lock().close();
        let Closed { entries, reason, .. } = closed;
        self.plan.abort(&reason);
        for (index, entry) in entries.iter().enumerate() {
            if !self.slots.get(index).is_some_and(Slot::has_ended) {
                // There is no report to put a panic in; the hook has reported it.
                let _ = entry.call("abort", |component| component.abort());
            }
        }
        for slot in &mut self.slots {
            slot.let_go();
        }
    }
}
