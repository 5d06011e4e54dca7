//! The observing side: contexts, their children, and the values they carry.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_primitives::time::{Moment, Now, Timer, TimerError};
use selvedge_primitives::{Origin, block_on_for};

use crate::futures::{Cancelled, Run, RunOrCause, Stopping};
use crate::tree::{Due, Handle, Level, Seat};
use crate::values::Values;
use crate::{Canceller, Cause};

/// Tells whether work should go on.
///
/// Clones observe the same node. Reading it is one Acquire load, plus a clock read when a deadline
/// is in the chain, plus a lock of the node while a grace runs; cloning counts one reference, and one
/// more if it carries values. See the [crate's page](crate) for the two levels.
///
/// # Values
///
/// A context carries values for whom the work is done, one a type: a request's number, a user, a
/// trace. [`with_value`](Self::with_value) makes a context of the same node that carries one more;
/// the children of a context carry what it carries. They say nothing of cancelling, and a context
/// that is cancelled keeps its values.
///
/// # Memory ordering
///
/// What a thread did before it cancelled is visible to whoever sees the context cancelled (or
/// stopping), by any of the ways to see it.
#[derive(Clone)]
pub struct Context {
    /// The node; none for the background.
    handle: Seat,
    /// What it carries.
    values: Values,
}

// The locks of its node are not poisoned, and a panic of a waker comes out of a cancel when everything is in its place. Its
// values are only read.
impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}

/// A context with its deadline could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeadlineError {
    /// There is no timer to keep it.
    #[error("context not made: there is no timer to keep its deadline")]
    Timer(
        /// What is missing.
        #[from]
        #[source]
        TimerError,
    ),
    /// A timer was asked for that is not the one that the chain of parents uses already.
    #[error(
        "context not made: a deadline or a grace above runs on another timer, leave `timer` out to inherit it"
    )]
    OtherTimer,
    /// A shield was asked for whose budget never ends.
    #[error("context not made: a shield needs a budget that ends")]
    Endless,
}

impl Context {
    /// The context that never ends. It is no node and shares nothing: its children are roots.
    pub const fn background() -> Self {
        Self { handle: Seat::empty(), values: Values::new() }
    }

    /// A child, and the right to cancel it.
    ///
    /// It ends when this one ends or when its own canceller says so. One allocation and one short critical
    /// section.
    #[track_caller]
    pub fn child(&self) -> (Context, Canceller) {
        self.make(Origin::here(), Due::default())
    }

    /// A child with a name, a deadline, or a timer of its own.
    #[track_caller]
    pub fn child_with(&self) -> ChildBuilder<'_> {
        ChildBuilder { parent: self, origin: Origin::here(), end: End::Never, timer: None }
    }

    /// A child that ends by itself after `timeout`.
    ///
    /// Zero makes a child that is cancelled already; a timeout too long for the clock
    /// (`Duration::MAX`, say) never ends. The clock is that of the parents' deadlines, or else that
    /// of the calling place: tokio's in a tokio runtime, std's elsewhere.
    ///
    /// # Errors
    ///
    /// [`DeadlineError::Timer`] inside a runtime that was built without its time driver.
    #[track_caller]
    pub fn with_timeout(&self, timeout: Duration) -> Result<(Context, Canceller), DeadlineError> {
        self.child_with().timeout(timeout).build()
    }

    /// A child that ends by itself at `deadline`, an instant of the clock that
    /// [`with_timeout`](Self::with_timeout) would use. One in the past makes a child that is
    /// cancelled already.
    ///
    /// # Errors
    ///
    /// As [`with_timeout`](Self::with_timeout).
    #[track_caller]
    pub fn with_deadline(&self, deadline: Instant) -> Result<(Context, Canceller), DeadlineError> {
        self.child_with().deadline(deadline).build()
    }

    /// Makes a node.
    #[inline(always)]
    fn make(&self, origin: Origin, due: Due) -> (Context, Canceller) {
        let (handle, right) = match self.handle() {
            Some(parent) => parent.child(origin, due),
            None => Handle::root(origin, due.at.zip(due.timer)),
        };
        (Context { handle: Seat::of(handle), values: self.values.clone() }, Canceller::new(right))
    }

    /// The node; none for the background.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.handle()
    }

    /// A context of a node that carries nothing.
    pub(crate) fn of(handle: Handle) -> Context {
        Context { handle: Seat::of(handle), values: Values::new() }
    }

    /// A context of another node that carries what this one carries.
    pub(crate) fn beside(&self, handle: Handle) -> Context {
        Context { handle: Seat::of(handle), values: self.values.clone() }
    }

    /// This context, carrying `value` for its type: instead of the one it carries for that type, if
    /// there is one. It is the same node, so it ends with this one and takes no canceller; the
    /// background can carry values, too. This context itself carries what it did.
    ///
    /// Make a type for what you carry, as a number says nothing of what it counts. Two allocations,
    /// and a copy of the map: one reference counted for each value that is carried. No lock.
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// #[derive(Debug, PartialEq)]
    /// struct RequestId(u64);
    ///
    /// let (service, _canceller) = Context::background().child();
    /// let request = service.with_value(RequestId(7));
    /// let (step, _keep) = request.child();
    /// assert_eq!(step.value::<RequestId>(), Some(&RequestId(7)));
    /// assert_eq!(step.with_value(RequestId(8)).value(), Some(&RequestId(8)));
    /// assert_eq!(service.value::<RequestId>(), None);
    /// ```
    ///
    /// A value is dropped with the last context that carries it, on the thread that drops it and with
    /// no lock held. A value that holds a context that carries it is never dropped.
    #[must_use = "the value is carried by the context that is returned"]
    pub fn with_value<T: Any + Send + Sync>(&self, value: T) -> Context {
        Context { handle: self.handle.clone(), values: self.values.with(value) }
    }

    /// The value that it carries for a type.
    ///
    /// A search by halves in the context's own map, of which every context has a whole one: the cost
    /// grows with the logarithm of the number of values, and not with the depth of the tree. No lock,
    /// and no reference is counted.
    pub fn value<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.values.get::<T>()?.downcast_ref()
    }

    /// As [`value`](Self::value), to keep it when the context is gone.
    pub fn shared_value<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(self.values.get::<T>()?).downcast().ok()
    }

    /// Whether it is to finish: STOPPING is set. True for whatever is cancelled, too.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.handle.has_reached(Level::Stopping)
    }

    /// Whether it is to end now: CANCELLED is set.
    ///
    /// One Acquire load when no deadline or grace is in the chain. With one, a clock is read as
    /// well (and while a grace runs, a lock of this node is taken), so a loop that only polls sees
    /// its deadline without a timer's help.
    ///
    /// On Linux, and where the timer's clock is std's, that is the kernel's coarse clock while the deadline is more than a tenth
    /// of a second away, for about half the cost. A look can be late only where the kernel's clock tick is late by as much.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.handle.has_reached(Level::Cancelled)
    }

    /// Why it is stopping or cancelled; none while it is neither.
    pub fn cause(&self) -> Option<Cause> {
        self.handle()?.cause()
    }

    /// `Ok` while it is not cancelled: for `ctx.check()?` between the steps of a computation.
    ///
    /// # Errors
    ///
    /// The cause, once it is cancelled.
    pub fn check(&self) -> Result<(), Cause> {
        match self.handle() {
            Some(handle) if handle.has_reached(Level::Cancelled) => Err(handle.known_cause()),
            _ => Ok(()),
        }
    }

    /// Waits until it is cancelled, and tells why. Never completes for the background.
    ///
    /// The future borrows the context ([`cancelled_owned`](Self::cancelled_owned) does not) and allocates nothing. Polled
    /// again by the same task it does what [`is_cancelled`](Self::is_cancelled) does, and no more.
    ///
    /// # Cancel safety
    ///
    /// Cancelled stays cancelled, so dropping the future loses nothing.
    ///
    /// # Fairness
    ///
    /// All who wait are woken, in the order in which they came to each context for the same level.
    ///
    /// # Memory ordering
    ///
    /// What the canceller did before is visible when the cause is returned.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::{CauseKind, Context};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (ctx, canceller) = Context::background().child();
    /// let task = tokio::spawn(async move { ctx.cancelled().await.kind() });
    /// canceller.cancel();
    /// assert_eq!(task.await.unwrap(), CauseKind::Cancelled);
    /// # });
    /// ```
    #[track_caller]
    pub fn cancelled(&self) -> Cancelled<'_> {
        Cancelled::of(self.handle())
    }

    /// As [`cancelled`](Self::cancelled), by a future that owns what it needs: to be kept beside the context, or sent to where
    /// that does not go. A read-modify-write more to make it, and one to drop it.
    ///
    /// # Cancel safety
    ///
    /// As [`cancelled`](Self::cancelled).
    ///
    /// # Fairness
    ///
    /// As [`cancelled`](Self::cancelled).
    ///
    /// # Memory ordering
    ///
    /// As [`cancelled`](Self::cancelled).
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (ctx, canceller) = Context::background().child();
    /// let task = tokio::spawn(ctx.cancelled_owned());
    /// canceller.cancel_because("enough");
    /// assert_eq!(task.await.unwrap().error().unwrap().to_string(), "enough");
    /// # });
    /// ```
    #[track_caller]
    pub fn cancelled_owned(&self) -> Cancelled<'static> {
        Cancelled::of_own(self.handle().cloned())
    }

    /// Waits until it is to finish (STOPPING), and tells why. Otherwise as
    /// [`cancelled`](Self::cancelled).
    ///
    /// # Cancel safety
    ///
    /// Stopping stays stopping, so dropping the future loses nothing.
    ///
    /// # Fairness
    ///
    /// As [`cancelled`](Self::cancelled).
    ///
    /// # Memory ordering
    ///
    /// As [`cancelled`](Self::cancelled).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use selvedge_cancel::Context;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (ctx, canceller) = Context::background().child();
    /// canceller.stop(Duration::MAX);
    /// ctx.stopping().await;
    /// assert!(!ctx.is_cancelled());
    /// # });
    /// ```
    #[track_caller]
    pub fn stopping(&self) -> Stopping<'_> {
        Stopping::of(self.handle())
    }

    /// As [`stopping`](Self::stopping), by a future that owns what it needs, as that of
    /// [`cancelled_owned`](Self::cancelled_owned) does.
    ///
    /// # Cancel safety
    ///
    /// As [`stopping`](Self::stopping).
    ///
    /// # Fairness
    ///
    /// As [`cancelled`](Self::cancelled).
    ///
    /// # Memory ordering
    ///
    /// As [`cancelled`](Self::cancelled).
    ///
    /// # Examples
    ///
    /// As [`cancelled_owned`](Self::cancelled_owned).
    #[track_caller]
    pub fn stopping_owned(&self) -> Stopping<'static> {
        Stopping::of_own(self.handle().cloned())
    }

    /// Runs `future` until it completes or the context is cancelled.
    ///
    /// If CANCELLED is set before a poll, `future` is not polled (any more) and the cause is
    /// returned (a poll later, when the task's cooperative budget is spent). A value from a poll that
    /// began before is returned, even if the flag is set by then. `future` itself is dropped with the
    /// returned future, not earlier.
    ///
    /// # Errors
    ///
    /// The cause, when the context was cancelled first.
    ///
    /// # Cancel safety
    ///
    /// As safe as `future`.
    ///
    /// # Fairness
    ///
    /// The context is looked at before `future`, at every poll.
    ///
    /// # Memory ordering
    ///
    /// What the canceller did before is visible when the cause is returned.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # use std::future::{pending, ready};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (ctx, canceller) = Context::background().child();
    /// assert_eq!(ctx.run(ready(5)).await.unwrap(), 5);
    /// canceller.cancel();
    /// assert!(ctx.run(pending::<()>()).await.is_err());
    /// # });
    /// ```
    #[track_caller]
    pub fn run<F: Future>(&self, future: F) -> Run<F> {
        Run::new(self.handle().cloned(), future)
    }

    /// Runs a fallible `future` as [`run`](Self::run) does, with the cause as one of the future's own errors: for `?`.
    ///
    /// # Errors
    ///
    /// Those of `future`; the cause, turned into one of them, when the context was cancelled first.
    ///
    /// # Cancel safety
    ///
    /// As safe as `future`.
    ///
    /// # Fairness
    ///
    /// The context is looked at before `future`, at every poll.
    ///
    /// # Memory ordering
    ///
    /// What the canceller did before is visible when the cause is returned.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// type Error = Box<dyn std::error::Error + Send + Sync>;
    /// let (ctx, canceller) = Context::background().child();
    /// let work = async || Ok::<u32, Error>("5".parse()?);
    /// assert_eq!(ctx.run_or_cause(work()).await.unwrap(), 5);
    /// canceller.cancel();
    /// assert!(ctx.run_or_cause(work()).await.is_err());
    /// # });
    /// ```
    #[track_caller]
    pub fn run_or_cause<T, E, F>(&self, future: F) -> RunOrCause<F>
    where
        E: From<Cause>,
        F: Future<Output = Result<T, E>>,
    {
        RunOrCause::new(self.handle().cloned(), future)
    }

    /// Blocks this thread until the context is cancelled, and tells why. For plain threads; in
    /// async code use [`cancelled`](Self::cancelled).
    ///
    /// A thread that drives a runtime, and with it the timer of the context, sees a deadline all the same, and the end of a
    /// grace or of a shield, but not of a grace that begins meanwhile.
    ///
    /// # Memory ordering
    ///
    /// What the canceller did before is visible when it returns.
    #[track_caller]
    pub fn cancelled_blocking(&self) -> Cause {
        self.wait_blocking(Duration::MAX).expect("without a timeout it waits for the end")
    }

    /// Blocks this thread until the context is cancelled, which it tells the cause of, or `timeout` is over: none then.
    /// For plain threads, as a sleep that ends early: `Duration::ZERO` only looks, `Duration::MAX` waits for ever. The
    /// time is std's, whatever the timer of the context. Otherwise as [`cancelled_blocking`](Self::cancelled_blocking).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use selvedge_cancel::Context;
    /// let (ctx, canceller) = Context::background().child();
    /// let ticker = std::thread::spawn(move || {
    ///     // Every ten seconds, until it is cancelled.
    ///     while ctx.wait_blocking(Duration::from_secs(10)).is_none() {}
    /// });
    /// canceller.cancel();
    /// ticker.join().unwrap();
    /// ```
    #[track_caller]
    pub fn wait_blocking(&self, timeout: Duration) -> Option<Cause> {
        let until = Instant::now().checked_add(timeout);
        let mut cancelled = std::pin::pin!(self.cancelled());
        loop {
            let left =
                until.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            // The thread that would wake then may be this one. Not too often, where its clock stands still.
            let due = self.handle().and_then(|handle| handle.due_in());
            let due = due.map_or(Duration::MAX, |due| due.max(Duration::from_millis(1)));
            let cause =
                block_on_for(cancelled.as_mut(), left.min(due)).or_else(|| self.check().err());
            if cause.is_some() || left <= due {
                return cause;
            }
        }
    }

    /// The earliest deadline in the chain, as an instant of [`timer`](Self::timer)'s clock. The
    /// end of a grace does not show here.
    pub fn deadline(&self) -> Option<Instant> {
        self.handle()?.deadline()
    }

    /// How long until the [`deadline`](Self::deadline); zero when it is past.
    pub fn remaining(&self) -> Option<Duration> {
        self.handle()?.remaining()
    }

    /// The timer of this chain: that keeps its deadlines, or else the end of its grace.
    pub fn timer(&self) -> Option<Timer> {
        self.handle()?.timer()
    }

    /// The name it was given.
    pub fn name(&self) -> Option<&str> {
        self.handle()?.name().map(|name| &**name)
    }

    /// Where it was made; none for the background.
    pub fn place(&self) -> Option<&'static Location<'static>> {
        Some(self.handle()?.place())
    }

    /// How many nodes the tree has that this context is in: for tests of its bound.
    #[doc(hidden)]
    pub fn nodes(&self) -> usize {
        self.handle().map_or(0, |handle| handle.count())
    }
}

impl Default for Context {
    /// [`Context::background`].
    fn default() -> Self {
        Self::background()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.handle() {
            None => f.write_str("Context(background")?,
            Some(handle) => write!(f, "Context({:?}", &**handle)?,
        }
        if !self.values.is_empty() {
            write!(f, ", with {:?}", self.values)?;
        }
        f.write_str(")")
    }
}

/// Makes a child with more than the defaults; from [`Context::child_with`].
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct ChildBuilder<'a> {
    /// Whose child.
    parent: &'a Context,
    /// Name and place.
    origin: Origin,
    /// When it ends by itself.
    end: End,
    /// On which clock.
    timer: Option<Timer>,
}

/// A deadline as it was asked for.
#[derive(Debug, Clone, Copy)]
enum End {
    /// None of its own.
    Never,
    /// At an instant.
    At(Instant),
    /// After a duration from the build.
    After(Duration),
}

impl End {
    /// The instant on a clock, and what that said for it.
    fn on(self, clock: &Timer) -> (Option<Instant>, Option<Now>) {
        match self {
            End::Never => (None, None),
            End::At(at) => (Some(at), None),
            End::After(after) => {
                let now = clock.now();
                (now.checked_add(after), Some(Now::Exact(now)))
            }
        }
    }

    /// As [`on`](Self::on), below a deadline: none if it is no earlier than that.
    fn below(self, deadline: &Moment) -> (Option<Instant>, Option<Now>) {
        if let End::After(after) = self
            && let Some(now) = deadline.is_passed_by(after)
        {
            return (None, Some(now));
        }
        self.on(deadline.timer())
    }
}

impl ChildBuilder<'_> {
    /// Names it, for reports.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.origin = self.origin.named(name);
        self
    }

    /// Has it end at an instant of its timer's clock.
    pub fn deadline(mut self, at: Instant) -> Self {
        self.end = End::At(at);
        self
    }

    /// Has it end after a duration, counted from [`build`](Self::build).
    pub fn timeout(mut self, after: Duration) -> Self {
        self.end = End::After(after);
        self
    }

    /// Chooses the timer that keeps the deadline. Only for the first deadline in a chain: the
    /// others inherit it.
    pub fn timer(mut self, timer: Timer) -> Self {
        self.timer = Some(timer);
        self
    }

    /// Makes the child.
    ///
    /// # Errors
    ///
    /// [`DeadlineError::Timer`] when a deadline was asked for and there is no timer;
    /// [`DeadlineError::OtherTimer`] when a timer was given that is not the inherited one.
    pub fn build(self) -> Result<(Context, Canceller), DeadlineError> {
        let Self { parent, origin, end, timer } = self;
        let other =
            |inherited: &Timer| timer.as_ref().is_some_and(|chosen| !inherited.same_driver(chosen));
        if let Some(inherited) = parent.handle().and_then(|above| above.deadline_moment()) {
            // That timer keeps this one as well.
            if other(inherited.timer()) {
                return Err(DeadlineError::OtherTimer);
            }
            let (at, now) = end.below(inherited);
            return Ok(parent.make(origin, Due { at, timer: None, now }));
        }
        let grace = parent.timer();
        if grace.as_ref().is_some_and(other) {
            return Err(DeadlineError::OtherTimer);
        }
        if let End::Never = end {
            return Ok(parent.make(origin, Due::default()));
        }
        let timer = grace.or(timer).map_or_else(Timer::ambient, Ok)?;
        let (at, now) = end.on(&timer);
        Ok(parent.make(origin, Due { at, timer: Some(timer), now }))
    }
}
