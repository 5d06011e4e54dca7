//! Entering a context: so that whoever cancels it can wait until everybody is out, and name those who are not.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use selvedge_primitives::time::Timer;
use selvedge_primitives::{Anchor, Entry, Waiter, contain, coop};

use crate::component::{Component, Straggler, Wait};
use crate::tree::{Handle, Inhabitant, Name, Stage, Tracker, Who};
use crate::{Cancelled, Canceller, Cause, Context};

/// Somebody is inside a context while this lives; from [`Context::enter`].
#[must_use = "whoever entered leaves when this is dropped: keep it for as long as the work goes on"]
pub struct Entered {
    /// The place in the tracker; none for the background.
    inhabitant: Option<Inhabitant>,
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

impl Context {
    /// Enters: the returned guard says that work goes on in this context until it is dropped. Take it into the task or the
    /// thread that does the work.
    ///
    /// [`Canceller::cancel_and_wait`], on this context or on one above, waits for all who have entered, and
    /// [`stragglers`](Self::stragglers) names them. A guard is one word; it keeps the context's node live, and nothing else
    /// of it. One that is forgotten stays a straggler for ever, which is how it is found.
    ///
    /// Nobody enters a context that is to finish: whoever waits for the end waits for those who are inside. On the
    /// background everybody enters, and nobody waits.
    ///
    /// Entering and leaving are a compare-exchange each, on memory that few threads share. The first to enter a context makes
    /// up to four allocations, of 128 bytes for each processor (of 16 at most), and of a block of places; of those who are inside
    /// at once, one in thirty-two, for each processor, makes another block. With the feature `age` the clock is read once.
    ///
    /// # Errors
    ///
    /// The cause, when the context is stopping or cancelled.
    ///
    /// # Memory ordering
    ///
    /// What was done inside is visible to whoever is told by [`Canceller::cancel_and_wait`] that nobody is inside any more.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use selvedge_cancel::Context;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let (ctx, canceller) = Context::background().child();
    /// let entered = ctx.enter().unwrap();
    /// let task = tokio::spawn(async move {
    ///     ctx.cancelled().await;
    ///     drop(entered);
    /// });
    /// assert!(canceller.cancel_and_wait(Duration::from_secs(5)).await.is_empty());
    /// task.await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    pub fn enter(&self) -> Result<Entered, Cause> {
        self.enter_at(Location::caller())
    }

    /// As [`enter`](Self::enter), under a name, for when this is a straggler. One more lock, which few share.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter).
    #[track_caller]
    pub fn enter_named(&self, name: impl Into<Cow<'static, str>>) -> Result<Entered, Cause> {
        // Before it enters: this may be somebody's code.
        let name = Name::from(name.into());
        let entered = self.enter_at(Location::caller())?;
        if let Some(inhabitant) = &entered.inhabitant {
            inhabitant.set_name(name);
        }
        Ok(entered)
    }

    /// Enters.
    fn enter_at(&self, place: &'static Location<'static>) -> Result<Entered, Cause> {
        let Some(handle) = self.handle() else { return Ok(Entered { inhabitant: None }) };
        match handle.enter(Who::now(place)) {
            Some(inhabitant) => Ok(Entered { inhabitant: Some(inhabitant) }),
            None => Err(handle.known_cause()),
        }
    }

    /// Who has entered this context, or one below, and is still inside: with the name it gave (or else that of the context),
    /// with the place where it entered, and, with the feature `age`, how long ago. Goes through the whole tree below.
    pub fn stragglers(&self) -> Vec<Straggler> {
        let trackers = self.handle().map(|handle| handle.trackers()).unwrap_or_default();
        list(&trackers)
    }
}

/// A tracker, and the name of its context.
type Named = (Tracker, Option<Name>);

/// Who is inside.
fn list(trackers: &[Named]) -> Vec<Straggler> {
    let inside = trackers.iter().flat_map(|(tracker, context)| {
        tracker.list().into_iter().map(move |(who, name)| {
            let name = name.as_ref().or(context.as_ref());
            let name = name.map_or("(no name)", |name| &**name).to_owned();
            Straggler { name, place: Some(who.place), age: who.age(), note: String::new() }
        })
    });
    inside.collect()
}

/// Completes when nobody is inside some trackers any more.
#[pin_project]
struct AllOut {
    /// Those that have not been waited for; the last one is.
    trackers: Vec<Named>,
    /// The place in its queue.
    #[pin]
    waiter: Option<Waiter<'static, Stage, (), ()>>,
}

impl AllOut {
    /// Waits for everybody inside a node and below, where nobody enters any more.
    fn of(handle: &Handle) -> Self {
        let trackers = handle.trackers();
        for (tracker, _) in &trackers {
            tracker.close();
        }
        Self { trackers, waiter: None }
    }

    /// Polls, outside the cooperative budget.
    fn poll_out(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut this = self.project();
        while let Some((tracker, _)) = this.trackers.last() {
            if this.waiter.is_none() {
                let anchor = Anchor::shared(Arc::clone(tracker.end()), |end| end.queue());
                this.waiter.set(Some(Waiter::new(anchor)));
            }
            let waiter = this.waiter.as_mut().as_pin_mut().expect("made above");
            ready!(waiter.poll_enter(cx, |stage| match Stage::is_empty(**stage) {
                true => Entry::Ready(()),
                false => Entry::Wait(()),
            }));
            this.waiter.set(None);
            this.trackers.pop();
        }
        Poll::Ready(())
    }
}

/// Completes with those who are still inside; from [`Canceller::cancel_and_wait`].
#[pin_project]
#[must_use = "the context was cancelled; nobody waits for its end unless this is polled"]
pub struct CancelAndWait {
    /// The wait for all who are inside.
    #[pin]
    out: AllOut,
    /// Ends when the patience does.
    #[pin]
    patience: Cancelled<'static>,
}

impl Canceller {
    /// Cancels, as [`cancel`](Self::cancel), and waits until everybody who has [entered](Context::enter) the context, or
    /// one below, has left; for `patience` at the longest. Completes with those who are still inside: with nobody, if all
    /// have left.
    ///
    /// The cancel happens in this call, before the future is polled. The patience begins here as well, on the clock of the
    /// context's deadlines, or else that of the calling place; zero only looks who is inside, `Duration::MAX` waits for ever.
    ///
    /// The patience is over at once if its timer is lost, with the runtime that drove it.
    ///
    /// Whoever calls it from inside waits for itself, and is one of the stragglers when the patience is over: leave first.
    ///
    /// # Cancel safety
    ///
    /// The context stays cancelled. Whoever is inside stays so: call it again to go on waiting.
    ///
    /// # Fairness
    ///
    /// All who wait are woken when the last one has left.
    ///
    /// # Memory ordering
    ///
    /// What was done inside by those who have left is visible when the future completes with nobody.
    ///
    /// # Panics
    ///
    /// As [`cancel`](Self::cancel).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use selvedge_cancel::Context;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let (ctx, canceller) = Context::background().child();
    /// let inside = ctx.enter_named("a job that does not look").unwrap();
    /// let late = canceller.cancel_and_wait(Duration::from_millis(1)).await;
    /// assert_eq!(late[0].name, "a job that does not look");
    /// drop(inside);
    /// assert!(canceller.cancel_and_wait(Duration::MAX).await.is_empty());
    /// # });
    /// ```
    #[track_caller]
    pub fn cancel_and_wait(&self, patience: Duration) -> CancelAndWait {
        self.cancel();
        let handle = self.handle();
        let timer = handle.timer().or_else(|| Timer::ambient().ok()).unwrap_or_else(Timer::thread);
        let limit = Context::background().child_with().timeout(patience).timer(timer).build();
        let (limit, canceller) = limit.expect("the timer is given");
        canceller.detach();
        CancelAndWait { out: AllOut::of(&handle), patience: limit.cancelled_owned() }
    }
}

impl Future for CancelAndWait {
    type Output = Vec<Straggler>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Vec<Straggler>> {
        let proceed = ready!(coop::poll_proceed(cx));
        let mut this = self.project();
        if this.out.as_mut().poll_out(cx).is_pending() {
            ready!(this.patience.poll(cx));
        }
        proceed.made_progress();
        Poll::Ready(list(&this.out.trackers))
    }
}

impl fmt::Debug for CancelAndWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelAndWait").finish_non_exhaustive()
    }
}

/// A context as a component: it is stopped and aborted by its canceller, and has ended when everybody who has entered it, or
/// one below, has left. Before it is stopped it has not ended, whoever is inside.
impl Component for Canceller {
    fn name(&self) -> String {
        self.handle().name().map_or("context", |name| &**name).to_owned()
    }

    fn stop(&self) {
        Canceller::stop(self, Duration::MAX);
    }

    fn wait(&self) -> Wait<'_> {
        let handle = self.handle();
        Box::pin(async move {
            let cause = Context::of(handle.clone()).stopping().await;
            // Whoever is told of this node's flag first has not been told that everything below is flagged, so that nobody
            // enters there any more; after a stop of one's own it is.
            contain(|| handle.stop(cause, Duration::MAX, None));
            let mut out = std::pin::pin!(AllOut::of(&handle));
            std::future::poll_fn(|cx| out.as_mut().poll_out(cx)).await;
        })
    }

    fn abort(&self) {
        self.cancel();
    }

    fn stragglers(&self) -> Vec<Straggler> {
        Context::of(self.handle()).stragglers()
    }
}
