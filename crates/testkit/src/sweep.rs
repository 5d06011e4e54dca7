//! The cancel-at-every-await sweep: which runs there are, and what a failure says.
//!
//! [`sweep`] counts, then repeats: two runs count the pending polls K, one run polls only when
//! woken, and then each mode is run at each k of 0..=K. [`Run`] does what the mode asks of a single
//! run. A violation that a `Run` finds unwinds through the scenario to the `sweep` that started it,
//! which panics at its caller with the whole story; nothing is printed in between.

mod mode;
mod name;
mod poller;
mod run;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use mode::Mode;
use run::{Driven, Plan};
pub use run::{Ended, Run};

/// Runs `scenario` once for each way in which its future can end at each of its await points.
///
/// The scenario builds everything afresh, hands one future to the [`Run`] it is given, and asserts
/// afterwards what must hold however the future ended: permits are back, no item is lost or
/// doubled, the next waiter is woken. The `step` that it hands over beside the future is the other
/// side, moved by hand: `step(k)` is called after the poll that returned `Pending` for the k-th
/// time (k = 0, 1, ...), and the steps together let the future finish. A run that ends early has
/// not made all its steps, so a scenario releases what its steps would have released before it
/// asserts.
///
/// `name` is the type under test. It must end a path within the [type name](std::any::type_name)
/// of the driven future (`Acquire`, or `semaphore::Acquire` to tell two of a name apart), so that a
/// tool can read from the source which types are swept. A future of an `async` block has no name:
/// drive the future it awaits.
///
/// # The runs
///
/// K is the number of polls that return `Pending` when the future is left alone.
///
/// | mode | k | what happens |
/// |---|---|---|
/// | [`Mode::Count`], twice | | polled after each step until ready; both runs must give the same K; the second polls with a new waker each time |
/// | [`Mode::WhenWoken`] | | the same steps, polled only when woken |
/// | [`Mode::Drop`] | 0..=K | k pending polls, then dropped (k = 0: never polled) |
/// | [`Mode::WakeThenDrop`] | 1..=K | k pending polls, `step(k - 1)`, then dropped without a poll |
/// | [`Mode::DropElsewhere`] | 0..=K | as `Drop`, on another thread; not with the `local` drives |
/// | [`Mode::Panic`] | 0..=K | as `Drop`, by a panic that unwinds |
/// | [`Mode::Cancel`] | 0..=K | k pending polls, `cancel()`, then polled without steps until ready; only with the `cancel` drives |
/// | [`Mode::WakeThenCancel`] | 1..=K | as `Cancel`, with `step(k - 1)` before `cancel()` |
///
/// # What counts as a violation
///
/// - the scenario panics, in any run;
/// - **a lost wake-up**: after a step, or after `cancel`, a poll is ready though nobody woke the
///   last waker; or the steps that finish a future polled after each of them do not finish one that
///   is polled only when woken. A step that changes nothing is no violation: the future stays
///   pending, and K grows;
/// - K differs between runs;
/// - after `cancel` the future is still pending and has no wake-up to come, or has been polled
///   10,000 times;
/// - it is still pending after 10,000 steps;
/// - the name is not in the future's type, or the scenario does not drive exactly one future a run.
///
/// # Panics
///
/// On the first violation, with the name, the mode, k, K and what was violated. A future that
/// panics when it is dropped by a panic aborts the process, as it always does.
///
/// # Examples
///
/// A message is received or comes back, also when the sender goes:
///
/// ```
/// use std::cell::Cell;
///
/// use selvedge_testkit::{Mode, Run, sweep};
/// use tokio::sync::oneshot;
///
/// let summary = sweep("Receiver", |run: &mut Run| {
///     let (sender, receiver) = oneshot::channel();
///     let sender = Cell::new(Some(sender));
///     let returned = Cell::new(false);
///     let send = |_| returned.set(sender.take().unwrap().send(7).is_err());
///
///     let ended = run.drive_cancel(receiver, send, || drop(sender.take()));
///
///     match run.mode() {
///         Mode::Cancel => assert!(ended.ready().unwrap().is_err()),
///         Mode::WakeThenCancel | Mode::Count => assert_eq!(ended.ready(), Some(Ok(7))),
///         _ => assert!(!returned.get(), "the receiver was still there when 7 was sent"),
///     }
/// });
///
/// assert_eq!(
///     summary.to_string(),
///     "Receiver: K = 1, 13 runs (count, when woken, drop, wake then drop, drop elsewhere, \
///      panic, cancel, wake then cancel)"
/// );
/// ```
///
/// # Algorithm
///
/// Sum over the modes of K + 1 runs with up to K polls each: O(K²) polls. Scenarios with a small K
/// that differ find more than one with a large K.
#[track_caller]
pub fn sweep(name: &str, mut scenario: impl FnMut(&mut Run)) -> Summary {
    let first = run_once(name, Plan::count(), &mut scenario);
    let second = run_once(name, Plan::count_with_new_wakers(), &mut scenario);
    assert!(
        first.pending_polls == second.pending_polls,
        "sweep of `{name}` failed in mode `count`: K differs between two runs, {} and then {}: \
         build everything afresh in the scenario, and step the other side by hand",
        first.pending_polls,
        second.pending_polls,
    );

    let pending_points = first.pending_polls;
    let mut summary =
        Summary { name: name.to_owned(), pending_points, runs: 2, modes: vec![Mode::Count] };
    for mode in Mode::AFTER_COUNTING {
        let possible = match mode {
            Mode::DropElsewhere => first.can_move,
            Mode::Cancel | Mode::WakeThenCancel => first.can_cancel,
            _ => true,
        };
        if !possible {
            continue;
        }
        for k in mode.points(pending_points) {
            run_once(name, Plan::at(mode, k, pending_points), &mut scenario);
            summary.runs += 1;
        }
        summary.modes.push(mode);
    }
    summary
}

/// Runs the scenario for one plan; panics with the whole story if anything was violated.
#[track_caller]
fn run_once(name: &str, plan: Plan, scenario: &mut impl FnMut(&mut Run)) -> Driven {
    let mut run = Run::new(name, plan);
    let outcome = catch_unwind(AssertUnwindSafe(|| scenario(&mut run)));
    let (driven, violation) = run.finish();
    let violated = match (violation, outcome, driven) {
        (Some(violation), _, _) => violation,
        (None, Err(payload), _) => format!("the scenario panicked: {}", message_of(&*payload)),
        (None, Ok(()), Some(driven)) => return driven,
        (None, Ok(()), None) => {
            "the scenario ended without driving a future: call `drive` exactly once in each run"
                .to_owned()
        }
    };
    panic!("sweep of `{name}` failed in {plan}: {violated}");
}

/// The text a panic carries.
fn message_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("(no message)")
}

/// What a [`sweep`] did; printed, it is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The name that was swept.
    pub name: String,
    /// K: how many polls return `Pending` when the future is left alone.
    pub pending_points: usize,
    /// How often the scenario was run.
    pub runs: usize,
    /// The modes it was run in, in order.
    pub modes: Vec<Mode>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: K = {}, {} runs (", self.name, self.pending_points, self.runs)?;
        for (i, mode) in self.modes.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{mode}")?;
        }
        write!(f, ")")
    }
}
