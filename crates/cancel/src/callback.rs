//! Callbacks: code that runs when a context ends, on the thread that ends it.
//!
//! A callback is a waiter whose waker runs it. So it needs nothing of the tree: it is woken after every flag is
//! set, with no lock held, and its panic stops nobody else.
//!
//! | state | left by |
//! |---|---|
//! | armed | the wake, to running; or the revoke, to revoked |
//! | running | the end of the callback, to ran, also by its panic |
//! | ran, revoked | nobody |
//!
//! The state lies behind the lock of the queue of those who wait for the end. The callback itself runs, and is
//! dropped, with the lock released.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker, ready};

use pin_project::pin_project;
use selvedge_primitives::{Anchor, Entry, FirstPanic, WaitQueue, Waiter, coop, release_then};

use crate::futures::Watch;
use crate::tree::{Handle, Level, Wait};
use crate::{Cause, Context};

/// What is run.
type Work = Box<dyn FnOnce(Cause) + Send>;

/// How far a callback is.
enum State {
    /// It will run when the context ends.
    Armed(Work),
    /// It runs.
    Running,
    /// It has run.
    Ran,
    /// It will not run.
    Revoked,
}

impl State {
    /// Whether it does not run, and will not.
    fn is_over(&self) -> bool {
        matches!(self, State::Ran | State::Revoked)
    }
}

/// What the lock guards.
struct Inner {
    /// How far it is.
    state: State,
    /// The wait of a callback whose registration was detached.
    kept: Option<Pin<Box<Watch<'static>>>>,
}

/// A callback, shared by its registration, its waker and those who wait for its end.
struct Callback {
    /// How far it is, and who waits for the end.
    queue: WaitQueue<Inner, (), ()>,
    /// The node whose cause it is told.
    handle: Handle,
}

impl Callback {
    /// Runs it, unless it was revoked or has run.
    fn run(&self) {
        let mut inner = self.queue.lock();
        if !matches!(inner.state, State::Armed(_)) {
            return;
        }
        let armed = std::mem::replace(&mut inner.state, State::Running);
        release_then(inner, || {
            // Also when it panics.
            let _end = End(self);
            if let State::Armed(work) = armed {
                work(self.handle.known_cause());
            }
        });
    }

    /// Revokes it, if it has not begun.
    fn revoke(&self) -> Revoked {
        let mut inner = self.queue.lock();
        match inner.state {
            State::Armed(_) => {}
            State::Revoked => return Revoked::InTime,
            State::Running => return Revoked::Running,
            State::Ran => return Revoked::Late,
        }
        let armed = std::mem::replace(&mut inner.state, State::Revoked);
        let mut panics = FirstPanic::new();
        panics.catch(|| self.queue.grant_while(inner, |_, ()| Some(())));
        // With what it has captured.
        panics.catch(|| drop(armed));
        panics.resume();
        Revoked::InTime
    }

    /// Keeps the wait until the callback is over.
    fn keep(&self, watch: Pin<Box<Watch<'static>>>) {
        let mut over = None;
        {
            let mut inner = self.queue.lock();
            match inner.state.is_over() {
                true => over = Some(watch),
                false => inner.kept = Some(watch),
            }
        }
        drop(over);
    }
}

impl Wake for Callback {
    fn wake(self: Arc<Self>) {
        self.run();
    }
}

/// Notes that a callback has run when it is dropped.
struct End<'a>(&'a Callback);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.queue.lock();
        inner.state = State::Ran;
        let kept = inner.kept.take();
        self.0.queue.grant_while(inner, |_, ()| Some(()));
        drop(kept);
    }
}

/// What revoking a callback has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// It had not begun, and never will.
    InTime,
    /// It is running, on another thread or further up on this one; [`Registration::ended`] waits for its end.
    Running,
    /// It has run.
    Late,
}

/// A registered callback; from [`Context::on_cancel`] and [`Context::on_stop`].
///
/// Dropping it revokes the callback; [`detach`](Self::detach) leaves it registered for as long as the context lives.
/// It keeps the context's node live.
#[must_use = "dropping it revokes the callback: keep it, or `detach` it"]
pub struct Registration {
    /// The callback; none for the background, which never ends.
    callback: Option<Arc<Callback>>,
    /// Stands in the node's list with the callback as its waker.
    watch: Option<Pin<Box<Watch<'static>>>>,
}

impl Context {
    /// Has `callback` run when this context is cancelled, on the thread that cancels it (that drops its last canceller, or
    /// that drives the timer of its deadline), after every descendant was flagged, in the order of
    /// registration among those who wait on the same context for the same level. If it is cancelled already, it runs now, on
    /// this thread.
    ///
    /// It must not block: it runs inside somebody else's `cancel`. It may cancel, make and drop as it likes, in this tree
    /// as well. If it panics, everybody else is woken first; then the panic goes on, out of the `cancel`.
    ///
    /// On the background it never runs. Three allocations.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use selvedge_cancel::{CauseKind, Context};
    /// let (ctx, canceller) = Context::background().child();
    /// let (tell, told) = mpsc::channel();
    /// let registration = ctx.on_cancel(move |cause| tell.send(cause.kind()).unwrap());
    /// canceller.cancel();
    /// assert_eq!(told.recv(), Ok(CauseKind::Cancelled));
    /// # drop(registration);
    /// ```
    #[track_caller]
    pub fn on_cancel(&self, callback: impl FnOnce(Cause) + Send + 'static) -> Registration {
        Registration::new(self.handle(), Level::Cancelled, Box::new(callback))
    }

    /// As [`on_cancel`](Self::on_cancel), when this context is to finish: when it is stopped, or cancelled.
    #[track_caller]
    pub fn on_stop(&self, callback: impl FnOnce(Cause) + Send + 'static) -> Registration {
        Registration::new(self.handle(), Level::Stopping, Box::new(callback))
    }
}

impl Registration {
    /// Registers.
    #[track_caller]
    pub(crate) fn new(handle: Option<&Handle>, level: Level, work: Work) -> Self {
        let Some(handle) = handle else { return Self { callback: None, watch: None } };
        let queue = WaitQueue::new(Inner { state: State::Armed(work), kept: None });
        let callback = Arc::new(Callback { queue, handle: handle.clone() });
        let mut watch = Box::pin(Watch::new(Some(Wait::owned(handle.clone(), level))));
        let waker = Waker::from(Arc::clone(&callback));
        let ended = watch.as_mut().poll_reached(&mut TaskContext::from_waker(&waker));
        drop(waker);
        let registration = Self { callback: Some(callback), watch: Some(watch) };
        if ended.is_ready()
            && let Some(callback) = &registration.callback
        {
            callback.run();
        }
        registration
    }

    /// Takes the callback back, and says whether that came in time. Never waits, also not for a callback that is running.
    ///
    /// What the callback has captured is dropped here, if it came in time.
    ///
    /// # Panics
    ///
    /// When the destructor of what it has captured does, or a waker of [`ended`](Self::ended); not while the thread unwinds.
    pub fn revoke(&self) -> Revoked {
        self.callback.as_ref().map_or(Revoked::InTime, |callback| callback.revoke())
    }

    /// Waits until the callback has run, or was revoked in time: until it does not run, and will not.
    ///
    /// # Cancel safety
    ///
    /// Over stays over, so dropping the future loses nothing.
    ///
    /// # Fairness
    ///
    /// All who wait are woken, in the order in which they came.
    ///
    /// # Memory ordering
    ///
    /// What the callback did is visible when the future completes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_cancel::{Context, Revoked};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (ctx, canceller) = Context::background().child();
    /// let registration = ctx.on_cancel(|cause| println!("{cause}"));
    /// canceller.cancel();
    /// registration.ended().await;
    /// assert_eq!(registration.revoke(), Revoked::Late);
    /// # });
    /// ```
    #[track_caller]
    pub fn ended(&self) -> CallbackEnded {
        let waiter = self.callback.as_ref().map(|callback| {
            Waiter::new(Anchor::shared(Arc::clone(callback), |callback| &callback.queue))
        });
        CallbackEnded { waiter }
    }

    /// Leaves the callback registered until the context ends. Until then it keeps the context's node, and itself.
    pub fn detach(mut self) {
        let (Some(callback), Some(watch)) = (self.callback.take(), self.watch.take()) else {
            return;
        };
        callback.keep(watch);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // None of either, if it was detached.
        let watch = self.watch.take();
        if watch.is_some() {
            self.revoke();
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = self.callback.as_ref().map(|callback| callback.queue.lock().state.is_over());
        f.debug_struct("Registration").field("over", &over).finish_non_exhaustive()
    }
}

/// Completes when a callback is over; from [`Registration::ended`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct CallbackEnded {
    /// The place in the callback's queue; none where there is nothing to run.
    #[pin]
    waiter: Option<Waiter<'static, Inner, (), ()>>,
}

impl Future for CallbackEnded {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let proceed = ready!(coop::poll_proceed(cx));
        if let Some(waiter) = self.project().waiter.as_pin_mut() {
            ready!(waiter.poll_enter(cx, |inner| match inner.state.is_over() {
                true => Entry::Ready(()),
                false => Entry::Wait(()),
            }));
        }
        proceed.made_progress();
        Poll::Ready(())
    }
}

impl fmt::Debug for CallbackEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackEnded").finish_non_exhaustive()
    }
}
