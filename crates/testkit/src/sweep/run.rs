//! One run of a scenario: drives its future to the point where the mode wants it, and ends it.

use std::any::type_name;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::thread;

use super::mode::Mode;
use super::name::is_named;
use super::poller::Poller;
use crate::CountingWaker;

/// A future that is pending for longer is taken to hang.
const MAX_POLLS: usize = 10_000;

/// How a driven future ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// It was polled until it returned this.
    Ready(T),
    /// It was dropped before it was ready.
    Dropped,
}

impl<T> Ended<T> {
    /// What the future returned, if it did.
    pub fn ready(self) -> Option<T> {
        match self {
            Self::Ready(output) => Some(output),
            Self::Dropped => None,
        }
    }

    /// Whether the future was dropped before it was ready.
    pub fn is_dropped(&self) -> bool {
        matches!(self, Self::Dropped)
    }
}

/// What one run is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// How the future ends.
    mode: Mode,
    /// After how many pending polls.
    k: usize,
    /// K, as the counting runs found it.
    pending_points: usize,
    /// Whether each poll gets a waker of its own.
    new_waker_each_poll: bool,
}

impl Plan {
    /// The first run, which counts.
    pub(super) fn count() -> Self {
        Self { mode: Mode::Count, k: 0, pending_points: 0, new_waker_each_poll: false }
    }

    /// The second run, which must count the same.
    pub(super) fn count_with_new_wakers() -> Self {
        Self { new_waker_each_poll: true, ..Self::count() }
    }

    /// A run of `mode` at point `k` of `pending_points`.
    pub(super) fn at(mode: Mode, k: usize, pending_points: usize) -> Self {
        Self { mode, k, pending_points, new_waker_each_poll: false }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mode `{}`", self.mode)?;
        match self.mode {
            Mode::Count if self.new_waker_each_poll => write!(f, " with a new waker each poll"),
            Mode::Count => Ok(()),
            Mode::WhenWoken => write!(f, " with K = {}", self.pending_points),
            _ => write!(f, " at k = {} of K = {}", self.k, self.pending_points),
        }
    }
}

/// What a run learned about the future it drove.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driven {
    /// How often it returned `Pending`.
    pub(super) pending_polls: usize,
    /// Whether it may be dropped on another thread.
    pub(super) can_move: bool,
    /// Whether the scenario can cancel it.
    pub(super) can_cancel: bool,
}

/// Unwinds through a scenario whose run has noted a violation; `sweep` reads the note.
struct Violated;

/// Unwinds through a future in [`Mode::Panic`].
struct PanicHere;

/// One run of a scenario, to be handed its future; made by [`sweep`](crate::sweep()).
///
/// Of the four drives, take the first that compiles and says all you can do:
///
/// | | the future is `Send` | it is not |
/// |---|---|---|
/// | it can be cancelled | [`drive_cancel`](Self::drive_cancel) | [`drive_local_cancel`](Self::drive_local_cancel) |
/// | it cannot | [`drive`](Self::drive) | [`drive_local`](Self::drive_local) |
pub struct Run {
    /// The type under test.
    name: String,
    /// What this run does.
    plan: Plan,
    /// What it learned, once the future was handed over.
    driven: Option<Driven>,
    /// The wakers it polled with, once the future has ended.
    wakers: Vec<CountingWaker>,
    /// What it found wrong; kept here so that a scenario that catches panics cannot hide it.
    violation: Option<String>,
}

impl Run {
    /// A run without a future yet.
    pub(super) fn new(name: &str, plan: Plan) -> Self {
        Self { name: name.to_owned(), plan, driven: None, wakers: Vec::new(), violation: None }
    }

    /// What this run does to its future, for invariants that depend on it.
    pub fn mode(&self) -> Mode {
        self.plan.mode
    }

    /// How many handles of the wakers that the future was polled with are still alive.
    ///
    /// Zero says that the ended future left no waker behind, in a queue or elsewhere. Before a
    /// drive it is zero.
    pub fn live_wakers(&self) -> usize {
        self.wakers.iter().map(CountingWaker::live).sum()
    }

    /// Drives a `Send` future that cannot be cancelled but by dropping it.
    ///
    /// `step(k)` is the other side, moved by hand after the k-th poll that returned `Pending`. It
    /// does its work before it returns: what a thread does later belongs to another run.
    ///
    /// # Panics
    ///
    /// Unwinds, to be caught by [`sweep`](crate::sweep()), on each violation listed there.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_testkit::{sweep, yield_now};
    ///
    /// let summary = sweep("YieldNow", |run| {
    ///     run.drive(yield_now(), |_| ());
    ///     assert_eq!(run.live_wakers(), 0);
    /// });
    /// assert_eq!(summary.pending_points, 1);
    /// ```
    #[track_caller]
    pub fn drive<F>(&mut self, future: F, step: impl FnMut(usize)) -> Ended<F::Output>
    where
        F: Future + Send,
    {
        self.drive_any(future, step, None::<fn()>, Some(drop_on_another_thread))
    }

    /// Drives a `Send` future that `cancel` ends early.
    ///
    /// `cancel` is a level, not an edge: what it cancels stays cancelled, also for a future that
    /// was not polled before. After it the future has to end without another step; one that first
    /// needs its other side, such as a drain, is for [`drive`](Self::drive).
    ///
    /// # Panics
    ///
    /// As [`drive`](Self::drive) does.
    #[track_caller]
    pub fn drive_cancel<F>(
        &mut self,
        future: F,
        step: impl FnMut(usize),
        cancel: impl FnOnce(),
    ) -> Ended<F::Output>
    where
        F: Future + Send,
    {
        self.drive_any(future, step, Some(cancel), Some(drop_on_another_thread))
    }

    /// Drives a future that is not `Send`: [`drive`](Self::drive) without
    /// [`Mode::DropElsewhere`].
    ///
    /// # Panics
    ///
    /// As [`drive`](Self::drive) does.
    #[track_caller]
    pub fn drive_local<F: Future>(
        &mut self,
        future: F,
        step: impl FnMut(usize),
    ) -> Ended<F::Output> {
        self.drive_any(future, step, None::<fn()>, None)
    }

    /// Drives a future that is not `Send`: [`drive_cancel`](Self::drive_cancel) without
    /// [`Mode::DropElsewhere`].
    ///
    /// # Panics
    ///
    /// As [`drive`](Self::drive) does.
    #[track_caller]
    pub fn drive_local_cancel<F: Future>(
        &mut self,
        future: F,
        step: impl FnMut(usize),
        cancel: impl FnOnce(),
    ) -> Ended<F::Output> {
        self.drive_any(future, step, Some(cancel), None)
    }

    /// What the run learned, and what it found wrong.
    pub(super) fn finish(self) -> (Option<Driven>, Option<String>) {
        (self.driven, self.violation)
    }

    /// Every drive: checks the use, then does what the plan says.
    #[track_caller]
    fn drive_any<F: Future, C: FnOnce()>(
        &mut self,
        future: F,
        mut step: impl FnMut(usize),
        cancel: Option<C>,
        drop_elsewhere: Option<fn(Pin<Box<F>>)>,
    ) -> Ended<F::Output> {
        let caller = Location::caller();
        if self.driven.is_some() {
            self.violate(format!(
                "the scenario drives a second future at {caller}: call `drive` exactly once in \
                 each run"
            ));
        }
        self.driven = Some(Driven {
            pending_polls: 0,
            can_move: drop_elsewhere.is_some(),
            can_cancel: cancel.is_some(),
        });
        if !is_named(type_name::<F>(), &self.name) {
            self.violate(format!(
                "the future driven at {caller} is a `{}`: give the sweep the name of the type \
                 under test, and drive that type itself, not a future that awaits it",
                type_name::<F>(),
            ));
        }

        let k = self.plan.k;
        let mut poller = Poller::new(future, self.plan.new_waker_each_poll);
        let ended = match self.plan.mode {
            Mode::Count => Ended::Ready(self.count(&mut poller, &mut step)),
            Mode::WhenWoken => Ended::Ready(self.poll_when_woken(&mut poller, &mut step)),
            Mode::Drop | Mode::DropElsewhere | Mode::Panic => {
                self.poll_until(k, &mut poller, &mut step);
                Ended::Dropped
            }
            Mode::WakeThenDrop => {
                self.poll_until(k, &mut poller, &mut step);
                step(k - 1);
                Ended::Dropped
            }
            Mode::Cancel | Mode::WakeThenCancel => {
                let Some(cancel) = cancel else {
                    self.violate(format!(
                        "driven without a cancel at {caller}, but with one in the first run: use \
                         the same drive in each run"
                    ));
                };
                self.poll_until(k, &mut poller, &mut step);
                if self.plan.mode == Mode::WakeThenCancel {
                    step(k - 1);
                }
                cancel();
                Ended::Ready(self.poll_cancelled(&mut poller))
            }
        };

        self.wakers = poller.wakers();
        let future = poller.into_future();
        match (self.plan.mode, drop_elsewhere) {
            (Mode::DropElsewhere, Some(drop_elsewhere)) => drop_elsewhere(future),
            (Mode::DropElsewhere, None) => self.violate(format!(
                "driven as a local future at {caller}, but not in the first run: use the same \
                 drive in each run"
            )),
            (Mode::Panic, _) => drop_by_panic(future),
            _ => drop(future),
        }
        ended
    }

    /// Polls after each step until ready, and counts.
    fn count<F: Future>(
        &mut self,
        poller: &mut Poller<F>,
        step: &mut impl FnMut(usize),
    ) -> F::Output {
        for k in 0..MAX_POLLS {
            // The first poll needs nobody to ask for it.
            let asked = k == 0 || poller.is_woken();
            match poller.poll() {
                Poll::Ready(output) if asked => return output,
                Poll::Ready(_) => self.violate(format!(
                    "lost wake-up: step({}) made the future ready, but the waker of its last poll \
                     was not woken: wake it, and store the waker of every poll",
                    k - 1,
                )),
                Poll::Pending => {
                    self.note_pending();
                    step(k);
                }
            }
        }
        self.violate(format!(
            "still pending after {MAX_POLLS} polls: the scenario's `step` never lets the future \
             finish"
        ))
    }

    /// Polls as an executor does, only when woken, while the steps go on as they did when counting.
    ///
    /// A poll that nobody asked for may hide a lost wake-up: it moves the future on to a later
    /// await point, where it is woken properly. Here such a future stays where it is.
    fn poll_when_woken<F: Future>(
        &mut self,
        poller: &mut Poller<F>,
        step: &mut impl FnMut(usize),
    ) -> F::Output {
        let mut steps = 0..self.plan.pending_points;
        for _ in 0..MAX_POLLS {
            if let Poll::Ready(output) = poller.poll() {
                return output;
            }
            self.note_pending();
            // A step follows each pending poll, as when counting; more follow until one wakes.
            for k in steps.by_ref() {
                step(k);
                if poller.is_woken() {
                    break;
                }
            }
            if !poller.is_woken() {
                break;
            }
        }
        self.violate(format!(
            "lost wake-up: polled only when woken, the future was pending {} times and is not \
             ready after the {} steps that suffice when it is polled after each of them: look for \
             a `Pending` that leaves no waker behind, or a step that wakes nobody",
            self.pending_polls(),
            self.plan.pending_points,
        ))
    }

    /// Polls until the future was pending `k` times, with the steps between the polls.
    fn poll_until<F: Future>(
        &mut self,
        k: usize,
        poller: &mut Poller<F>,
        step: &mut impl FnMut(usize),
    ) {
        for pending in 0..k {
            if pending > 0 {
                step(pending - 1);
            }
            if poller.poll().is_ready() {
                self.violate(format!(
                    "ready after {pending} pending polls, K differs between two runs: build \
                     everything afresh in the scenario, and step the other side by hand"
                ));
            }
            self.note_pending();
        }
    }

    /// Polls a cancelled future until it is ready, which it has to be without another step.
    fn poll_cancelled<F: Future>(&mut self, poller: &mut Poller<F>) -> F::Output {
        let mut asked = self.plan.k == 0 || poller.is_woken();
        for _ in 0..MAX_POLLS {
            match poller.poll() {
                Poll::Ready(output) if asked => return output,
                Poll::Ready(_) => self.violate(
                    "lost wake-up: the cancelled future is ready when it is polled, but its waker \
                     was not woken: wake every waiter on cancel"
                        .to_owned(),
                ),
                Poll::Pending if asked && poller.is_woken() => {}
                Poll::Pending if asked => asked = false,
                Poll::Pending => self.violate(
                    "the future hangs on cancel: it is pending, and nothing is left to wake it: \
                     look at the cancel before each `Pending`, and wake on it"
                        .to_owned(),
                ),
            }
        }
        self.violate(format!(
            "the future hangs on cancel: it wakes itself, but is still pending {MAX_POLLS} polls \
             later: end it once it is cancelled"
        ))
    }

    /// Counts a poll that returned `Pending`.
    fn note_pending(&mut self) {
        if let Some(driven) = &mut self.driven {
            driven.pending_polls += 1;
        }
    }

    /// How many polls returned `Pending`.
    fn pending_polls(&self) -> usize {
        self.driven.map_or(0, |driven| driven.pending_polls)
    }

    /// Notes what was violated and leaves the scenario; the panic hook stays silent, as `sweep`
    /// panics with the note.
    fn violate(&mut self, violated: String) -> ! {
        self.violation = Some(violated);
        resume_unwind(Box::new(Violated))
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("name", &self.name)
            .field("plan", &self.plan)
            .field("driven", &self.driven)
            .finish_non_exhaustive()
    }
}

/// Drops a future, which may borrow, on a thread of its own; its panic comes back here.
fn drop_on_another_thread<F: Send>(future: Pin<Box<F>>) {
    let dropped = thread::scope(|scope| scope.spawn(move || drop(future)).join());
    if let Err(payload) = dropped {
        resume_unwind(payload);
    }
}

/// Drops a future by unwinding past it, so that it sees `thread::panicking()`.
///
/// `resume_unwind` does not call the panic hook: no hook has to be silenced, for any thread.
fn drop_by_panic<F>(future: Pin<Box<F>>) {
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _dropped_while_unwinding = future;
        resume_unwind(Box::new(PanicHere));
    }));
    debug_assert!(unwound.is_err_and(|payload| payload.is::<PanicHere>()));
}
