//! Running to the end: `run` and `wait`, two faces of one course.

use std::fmt;
use std::future::{Pending, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::pin_project;
use selvedge_cancel::{Cancelled, Canceller, Stopping};
use selvedge_primitives::{Panic, contain, coop};

use crate::plan::{Drive, Phase};
use crate::report::End;
use crate::{Reason, Report};

/// Drives a main future and a plan to their end; from [`Shutdown::run`](crate::Shutdown::run).
#[pin_project(!Unpin)]
#[must_use = "futures do nothing unless polled"]
pub struct Run<F: Future> {
    /// Both.
    #[pin]
    course: Course<F>,
}

/// Drives a plan to its end; from [`Shutdown::wait`](crate::Shutdown::wait).
#[pin_project(!Unpin)]
#[must_use = "futures do nothing unless polled"]
pub struct Wait {
    /// It, without a main future.
    #[pin]
    course: Course<Pending<()>>,
}

impl<F: Future> Run<F> {
    /// Runs `main` under the plan.
    pub(crate) fn new(drive: Drive, main: F) -> Self {
        Self { course: Course::new(drive, main, Main::Going) }
    }
}

impl Wait {
    /// Runs the plan alone.
    pub(crate) fn new(drive: Drive) -> Self {
        Self { course: Course::new(drive, pending(), Main::Absent) }
    }
}

impl<F: Future> Future for Run<F> {
    type Output = (Option<F::Output>, Report);

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut course = self.project().course;
        let mut report = ready!(course.as_mut().poll_report(cx));
        let (output, end) = match std::mem::replace(course.project().outcome, Main::Absent) {
            Main::Returned(output, end) => (Some(output), Some(end)),
            Main::Panicked(panic) => panic.resume(),
            Main::Going => (None, Some(End::Late { stragglers: Vec::new() })),
            Main::Absent => (None, None),
        };
        report.main = end;
        Poll::Ready((output, report))
    }
}

impl Future for Wait {
    type Output = Report;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Report> {
        self.project().course.poll_report(cx)
    }
}

/// A main future, or none, and a plan.
#[pin_project(!Unpin)]
struct Course<F: Future> {
    /// The main future, until it has ended.
    #[pin]
    main: Option<F>,
    /// What became of it.
    outcome: Main<F::Output>,
    /// The plan.
    drive: Drive,
    /// The shutdown begins.
    #[pin]
    stopping: Stopping<'static>,
    /// The grace is over.
    #[pin]
    cancelled: Cancelled<'static>,
    /// The budget of the abort is over.
    #[pin]
    over: Option<Cancelled<'static>>,
    /// Keeps `over` from ending early.
    keep: Option<Canceller>,
    /// Whether the report was given out.
    reported: bool,
}

/// What became of the main future.
enum Main<T> {
    /// There is none.
    Absent,
    /// It has not ended.
    Going,
    /// It returned.
    Returned(T, End),
    /// It panicked. The panic goes on when the plan is done.
    Panicked(Panic),
}

impl<F: Future> Course<F> {
    /// At the start.
    fn new(drive: Drive, main: F, outcome: Main<F::Output>) -> Self {
        let (stopping, cancelled) =
            (drive.plan.ctx.stopping_owned(), drive.plan.ctx.cancelled_owned());
        Self {
            main: Some(main),
            outcome,
            drive,
            stopping,
            cancelled,
            over: None,
            keep: None,
            reported: false,
        }
    }

    /// Polls everything that is not at its end.
    fn poll_report(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Report> {
        assert!(!self.reported, "polled after it was ready");
        // Before anything is looked at: what changes after the look wakes this task.
        self.drive.listen(cx.waker());
        if self.drive.plan.phase() == Phase::Running {
            let this = self.as_mut().project();
            if let Poll::Ready(cause) = this.stopping.poll(cx) {
                // Too late, and without effect, when it was a trigger that stopped the context.
                this.drive.trigger(&Reason::Ended(cause));
            }
        }
        loop {
            self.as_mut().poll_main(cx);
            let mut this = self.as_mut().project();
            if this.drive.plan.phase() == Phase::Running {
                return Poll::Pending;
            }
            this.drive.step();
            if !matches!(this.outcome, Main::Going) && this.drive.have_all_ended() {
                // Held over no poll: what is polled in here has a budget of its own to spend.
                let proceed = ready!(coop::poll_proceed(cx));
                if let Some(report) = this.drive.finish() {
                    proceed.made_progress();
                    *this.reported = true;
                    return Poll::Ready(report);
                }
            }
            match this.over.as_mut().as_pin_mut() {
                None => {
                    ready!(this.cancelled.poll(cx));
                    let (over, keep) = this.drive.abort();
                    this.over.set(Some(over));
                    *this.keep = Some(keep);
                    // Once more round: what the abort has ended is not late, however small the
                    // budget.
                }
                Some(over) => {
                    ready!(over.poll(cx));
                    self.as_mut().give_up_main();
                    let this = self.project();
                    *this.reported = true;
                    return Poll::Ready(this.drive.finish_late());
                }
            }
        }
    }

    /// Polls the main future, if it has not ended.
    fn poll_main(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) {
        if !matches!(self.outcome, Main::Going) {
            return;
        }
        let mut this = self.project();
        let Some(main) = this.main.as_mut().as_pin_mut() else { return };
        let polled = catch_unwind(AssertUnwindSafe(|| main.poll(cx)));
        let ended = match polled {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(Panic::new(payload)),
        };
        // Its destructor belongs to it: a panic in there is its panic, too.
        let dropped = catch_unwind(AssertUnwindSafe(|| this.main.set(None))).map_err(Panic::new);
        let ended = match (ended, dropped) {
            (Ok(output), Err(panic)) => {
                contain(|| drop(output));
                Err(panic)
            }
            (ended, _) => ended,
        };
        let plan = &this.drive.plan;
        let reason = match (&ended, plan.ctx.cause()) {
            (Err(_), _) => Reason::Panicked,
            // It returned because the context it stands on has ended.
            (Ok(_), Some(cause)) => Reason::Ended(cause),
            (Ok(_), None) => Reason::Completed,
        };
        this.drive.trigger(&reason);
        *this.outcome = match ended {
            Ok(output) => Main::Returned(output, this.drive.plan.ended_now()),
            Err(panic) => Main::Panicked(panic),
        };
    }

    /// Drops a main future that is late.
    fn give_up_main(self: Pin<&mut Self>) {
        let mut this = self.project();
        let dropped = catch_unwind(AssertUnwindSafe(|| this.main.set(None))).map_err(Panic::new);
        if let (Main::Going, Err(panic)) = (&*this.outcome, dropped) {
            *this.outcome = Main::Panicked(panic);
        }
    }
}

impl<F: Future> fmt::Debug for Run<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Run").field(&self.course.drive.plan).finish()
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wait").field(&self.course.drive.plan).finish()
    }
}
