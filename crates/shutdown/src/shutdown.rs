//! The face: the plan's owner, its handle, and its builder.

use std::fmt;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use selvedge_cancel::{Component, Context, Timer, TimerError};

use crate::plan::{Drive, Plan, Settings};
use crate::{Reason, Run, Signals, Wait};

/// How long components may drain, unless told otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// How long aborted components may take to end, unless told otherwise.
const ABORT_BUDGET: Duration = Duration::from_secs(1);

/// A plan for the end of a program: who is to be stopped, and how long that may take.
///
/// It begins with the first of: a [signal](Builder::signals), a [trigger](Self::trigger), the end of
/// the [parent](Builder::parent), the return of the main future. Then
///
/// 1. *stop*: the [context](Self::ctx) is stopping, and [`stop`](Component::stop) of every component
///    is called, once, on the thread that triggered. All of them drain at the same time, until the
///    grace is over.
/// 2. *abort*: the context is cancelled, and [`abort`](Component::abort) of those that are left is
///    called. They have the abort budget to end in.
/// 3. The [`Report`](crate::Report): who ended when, who did not.
///
/// Each step ends early when everything has ended; so the whole takes at most grace + abort budget,
/// also when a component never ends. A second signal, and the end of the parent, end the grace at
/// once.
///
/// [`run`](Self::run) or [`wait`](Self::wait) drives it. Dropped instead, the plan cancels its
/// context, calls `abort` of every component, and waits for nothing.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use selvedge_shutdown::Shutdown;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let shutdown = Shutdown::builder().grace(Duration::from_millis(500)).build()?;
/// let ctx = shutdown.ctx().clone();
/// let (output, report) = shutdown.run(async move { ctx.is_stopping() }).await;
/// assert_eq!(output, Some(false));
/// assert_eq!(report.exit_code(), 0);
/// # Ok::<(), selvedge_shutdown::BuildError>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping the plan cancels its context: `run` it or `wait` for it"]
pub struct Shutdown {
    /// Drives the plan when it is asked to; until then, keeps it.
    drive: Drive,
}

/// Triggers and extends a plan that is [run](Shutdown::run) elsewhere.
///
/// It keeps nothing running: when the plan is done or dropped, its methods say so.
#[derive(Clone)]
pub struct ShutdownHandle {
    /// The plan.
    plan: Arc<Plan>,
}

/// A component was not registered: the plan is over. The component comes back untouched.
#[derive(Clone, thiserror::Error)]
#[error("component not registered: the shutdown is over, so nobody would stop it")]
pub struct RegisterError(
    /// The component.
    pub Arc<dyn Component>,
);

/// A plan was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no timer to keep its deadlines.
    #[error("plan not made; another timer can be given by `timer`")]
    Timer(
        /// What is missing.
        #[from]
        #[source]
        TimerError,
    ),
    /// The parent's deadline runs on another timer than the one that was given.
    #[error("plan not made: the parent's deadline runs on another timer, leave `timer` out")]
    OtherTimer,
}

impl Shutdown {
    /// A plan to be configured.
    pub fn builder() -> Builder {
        Builder {
            signals: None,
            parent: Context::background(),
            timer: None,
            grace: GRACE,
            abort_budget: ABORT_BUDGET,
        }
    }

    /// The context that the program's work is to stand on: stopping when the shutdown begins,
    /// cancelled when the grace is over. The error of its cause is the [`Reason`].
    pub fn ctx(&self) -> &Context {
        &self.drive.plan.ctx
    }

    /// Adds a component; see [`ShutdownHandle::register`].
    ///
    /// # Errors
    ///
    /// As there. Only a plan that is done refuses, so not before [`run`](Self::run).
    #[track_caller]
    pub fn register(&self, component: Arc<dyn Component>) -> Result<(), RegisterError> {
        self.handle().register(component)
    }

    /// Begins the shutdown; see [`ShutdownHandle::trigger`].
    ///
    /// # Panics
    ///
    /// As there.
    #[track_caller]
    pub fn trigger(&self, reason: impl Into<Reason>) -> bool {
        self.handle().trigger(reason)
    }

    /// A handle for those who trigger or register while the plan runs.
    pub fn handle(&self) -> ShutdownHandle {
        ShutdownHandle { plan: Arc::clone(&self.drive.plan) }
    }

    /// Runs `main` and the plan together. Completes when both have ended, with what `main` returned
    /// and the report.
    ///
    /// `main` goes on while the components drain, and after the abort: it has until the end of the
    /// abort budget to write what is finished. Then it is dropped, and its output is none. It has to
    /// end by itself when the [context](Self::ctx) is stopping; wrap it in
    /// [`Context::run`] to have it dropped at the abort. When it returns, the shutdown begins with
    /// [`Reason::Completed`].
    ///
    /// If the context ends and `main` returns in the same poll, the context is the reason.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the plan, and `main` with it: the context is cancelled, every
    /// component that has not ended is aborted, and nobody waits for it.
    ///
    /// # Fairness
    ///
    /// `main` is polled whenever anything happens, before the components; of those only the ones
    /// that were woken. A component or `main` that does not return from a poll holds up the others.
    ///
    /// # Memory ordering
    ///
    /// What the trigger's thread did before is visible to every `stop`; what a component did in its
    /// `stop`, and before it woke its `wait`, is visible after `run` unless it is late.
    ///
    /// # Panics
    ///
    /// With the panic of `main`, if it panics, but only after the plan is done; the shutdown then
    /// has [`Reason::Panicked`]. Panics of components are in the report.
    ///
    /// # Examples
    ///
    /// Finished work is written, whatever else is late:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use selvedge_shutdown::{Request, Shutdown};
    /// # let builder = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    /// # builder.unwrap().block_on(async {
    /// let shutdown = Shutdown::builder().grace(Duration::from_millis(500)).build()?;
    /// let (ctx, handle) = (shutdown.ctx().clone(), shutdown.handle());
    /// let main = async move {
    ///     handle.trigger(Request::new("enough").code(3));
    ///     let in_flight = ctx.run(std::future::pending::<()>()).await;
    ///     (in_flight.is_err(), "written")
    /// };
    /// let (output, report) = shutdown.run(main).await;
    /// assert_eq!(output, Some((true, "written")));
    /// assert!(report.took() >= Duration::from_millis(500));
    /// assert_eq!(report.exit_code(), 3);
    /// # Ok::<(), selvedge_shutdown::BuildError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Algorithm
    ///
    /// Each component's wait is polled with its own waker, which queues it for the next poll of this
    /// future: O(n) polls for n components. Three allocations a component, made when the shutdown
    /// begins; until then one waiter on the context, and no timer.
    #[track_caller]
    pub fn run<F: Future>(self, main: F) -> Run<F> {
        Run::new(self.drive, main)
    }

    /// Waits until the shutdown begins, and then for all components; for a program whose work is
    /// done by components. Otherwise as [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run): dropping the future drops the plan.
    ///
    /// # Fairness
    ///
    /// As [`run`](Self::run).
    ///
    /// # Memory ordering
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// Never: panics of components are in the report.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_shutdown::{Shutdown, Signal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let shutdown = Shutdown::builder().build()?;
    /// let handle = shutdown.handle();
    /// std::thread::spawn(move || handle.trigger(Signal::Terminate));
    /// assert_eq!(shutdown.wait().await.exit_code(), 143);
    /// # Ok::<(), selvedge_shutdown::BuildError>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn wait(self) -> Wait {
        Wait::new(self.drive)
    }
}

impl ShutdownHandle {
    /// The plan's context; see [`Shutdown::ctx`].
    pub fn ctx(&self) -> &Context {
        &self.plan.ctx
    }

    /// Adds a component, to be stopped and waited for. After the shutdown has begun it is stopped
    /// here and now (and, if it has come to that, aborted), and waited for like the others.
    ///
    /// The plan keeps the component until it is done, also one that has ended by itself.
    ///
    /// # Errors
    ///
    /// [`RegisterError`] with the component, when the plan is done or dropped.
    #[track_caller]
    pub fn register(&self, component: Arc<dyn Component>) -> Result<(), RegisterError> {
        self.plan.register(component, Location::caller()).map_err(RegisterError)
    }

    /// Begins the shutdown, and calls `stop` of every component. Returns whether it did: of several
    /// triggers (a signal is one) the first wins, and the others do nothing.
    ///
    /// From any thread, inside or outside a runtime.
    ///
    /// # Panics
    ///
    /// When a waker of someone who waits for the context panics: everything is stopped first, then
    /// the first panic goes on.
    #[track_caller]
    pub fn trigger(&self, reason: impl Into<Reason>) -> bool {
        let (first, panic) = self.plan.trigger(&reason.into());
        match panic {
            Some(payload) => resume_unwind(payload),
            None => first,
        }
    }

    /// Why the shutdown began; none while it has not.
    pub fn reason(&self) -> Option<Reason> {
        self.plan.reason()
    }
}

/// Makes a plan; from [`Shutdown::builder`].
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct Builder {
    /// Who tells about signals.
    signals: Option<Signals>,
    /// What the plan's context is a child of.
    parent: Context,
    /// Who keeps its deadlines.
    timer: Option<Timer>,
    /// From the stop to the abort.
    grace: Duration,
    /// From the abort to the end.
    abort_budget: Duration,
}

impl Builder {
    /// Has signals trigger it. One that came since they were installed triggers it at once.
    pub fn signals(mut self, signals: Signals) -> Self {
        self.signals = Some(signals);
        self
    }

    /// Puts it below another context, whose stop, cancel or deadline triggers it. Its deadline has
    /// no grace: everything is stopped and aborted at once.
    pub fn parent(mut self, parent: &Context) -> Self {
        self.parent = parent.clone();
        self
    }

    /// From the stop to the abort: 10 s unless told otherwise. Zero aborts at once;
    /// [`Duration::MAX`] waits until everything has ended or somebody cancels.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// From the abort to the report: 1 s unless told otherwise. Zero gives what the abort does not
    /// end at once up; [`Duration::MAX`] waits for ever.
    pub fn abort_budget(mut self, abort_budget: Duration) -> Self {
        self.abort_budget = abort_budget;
        self
    }

    /// Chooses the timer that keeps grace and budget. Unless told otherwise it is that of the
    /// parent's deadline, or else that of the place where the plan is built: tokio's inside a
    /// runtime, the timer thread outside.
    pub fn timer(mut self, timer: Timer) -> Self {
        self.timer = Some(timer);
        self
    }

    /// Makes the plan.
    ///
    /// # Errors
    ///
    /// [`BuildError::Timer`] inside a runtime that was built without its time driver, if no timer
    /// was given; [`BuildError::OtherTimer`] if the one that was given is not that of the parent's
    /// deadline.
    #[track_caller]
    pub fn build(self) -> Result<Shutdown, BuildError> {
        let timer = match (self.parent.timer(), self.timer) {
            (Some(inherited), Some(chosen)) if !inherited.same_driver(&chosen) => {
                return Err(BuildError::OtherTimer);
            }
            (Some(timer), _) | (None, Some(timer)) => timer,
            (None, None) => Timer::ambient()?,
        };
        let (ctx, canceller) = self.parent.child();
        let Self { grace, abort_budget, .. } = self;
        let plan = Plan::new(ctx, canceller, Settings { grace, abort_budget, timer });
        Ok(Shutdown { drive: Drive::new(plan, self.signals) })
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shutdown").field(&self.drive.plan).finish()
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShutdownHandle").field(&self.plan).finish()
    }
}

impl fmt::Debug for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterError").finish_non_exhaustive()
    }
}
