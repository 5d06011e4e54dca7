//! Generators: a source written as an async block that gives items away, without a macro.
//!
//! # How it works
//!
//! The body is a future of the source; polling the source polls the body. Between the two lies a
//! one-item place under a lock. [`Give`] waits in line for the place to be empty, puts
//! its item there, and completes when the item has been taken: so the body goes on when the next
//! item is asked for, not before.
//!
//! | what happens | who is told |
//! |---|---|
//! | an item is put in place | the source, if it is pending; when the body put it during its own poll the source looks anyway |
//! | the item is taken | the giver's task, unless it is the very task that polls the source, which polls the body next |
//! | the place is empty | the next giver in line |
//! | the source ends or is dropped | every giver: its `give` panics at its caller's place, unless its item was taken |
//!
//! The place is a [`WaitQueue`]'s state, so a giver may sit on another task or thread, and any
//! number may give at once. Nothing spins and nothing is lost: a give that is dropped before its
//! item was placed drops the item, one that is dropped after has given it. An item that lies in
//! place when the source ends comes out before the end: the close and the look are one critical
//! section ([`Place::finish`]). Only a source that is dropped drops it, and its giver is told.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_cancel::{Cause, Context, Stopping};
use selvedge_primitives::{
    Anchor, Entry, Left, Locked, Origin, Panic, WaitQueue, Waiter, contain, coop, release_then,
    wake,
};

use crate::flow::{Build, Flow, Next};
use crate::launch::Launch;
use crate::report::LocalCounts;
use crate::{PipelineError, Stage};

/// Begins a pipeline with the items that an async block gives away.
///
/// The body is given a [`Yielder`] and returns when there is nothing more, or an error that ends
/// the pipeline after the items before it. It runs on the task of the stage that pulls. When the
/// context is stopping, it is dropped at the await where it stands; an item that it had put in place
/// comes out. The source ends with its body: whoever still gives then, from another task, panics.
///
/// The body is paused by back-pressure while its item waits to be taken, so it must hold no lock or
/// permit across a `give` that a later stage needs.
///
/// # Examples
///
/// ```
/// use selvedge_cancel::Context;
/// use selvedge_pipeline::generate;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let ended = generate(|y| async move {
///     let (mut a, mut b) = (0_u64, 1);
///     while a < 50 {
///         y.give(a).await;
///         (a, b) = (b, a + b);
///     }
///     Ok::<_, std::io::Error>(())
/// })
/// .collect()
/// .run(&Context::background())
/// .await;
/// assert_eq!(ended.ok().unwrap(), [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]);
/// # });
/// ```
///
/// # Hangs
///
/// One form hangs: a body that blocks its thread until another thread's `give` completes. The other
/// thread waits for the item to be taken, which this thread would have to do.
#[track_caller]
pub fn generate<T, E, Fut, F>(body: F) -> Stage<Generator<T, F>>
where
    T: Send + 'static,
    F: FnOnce(Yielder<T>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    Stage::new(Generator { body, item: std::marker::PhantomData, origin: Origin::here() })
}

/// A source made of an async block; from [`generate`].
pub struct Generator<T, F> {
    /// The body.
    body: F,
    /// What it gives.
    item: std::marker::PhantomData<fn() -> T>,
    /// Name and place.
    origin: Origin,
}

impl<T, F> fmt::Debug for Generator<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generator({})", self.origin)
    }
}

impl<T, F, Fut, E> Build for Generator<T, F>
where
    T: Send + 'static,
    F: FnOnce(Yielder<T>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    type Item = T;
    type Flow = GeneratorFlow<T, Fut>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let counts = LocalCounts::new(launch.stage(self.origin, "generate"));
        let place = Close(Arc::new(Place::new()));
        let yielder = Yielder { place: Arc::clone(&place.0) };
        let body = self.body;
        let made = catch_unwind(AssertUnwindSafe(|| body(yielder)));
        let body = made.map_err(|payload| PipelineError::Panicked {
            stage: counts.name(),
            index: 0,
            panic: Panic::new(payload),
        })?;
        let (ctx, stopping) = (launch.ctx.clone(), launch.ctx.stopping());
        Ok(GeneratorFlow { body: Some(body), end: None, place, ctx, stopping, counts })
    }
}

/// The place between the body and the source.
struct Place<T> {
    /// The state, and the givers in line for an empty place.
    queue: WaitQueue<State<T>, (), ()>,
}

/// What the lock guards.
struct State<T> {
    /// The item, if there is one.
    item: Option<T>,
    /// Whether the place is promised to a giver that has not put its item yet.
    promised: bool,
    /// How many items were put here.
    put: u64,
    /// How many were taken.
    taken: u64,
    /// Who put the item and waits for it to be taken; none if the source's next poll polls it.
    giver: Option<Waker>,
    /// The source's task, while it waits.
    source: Option<Waker>,
    /// The source's task, while it polls the body.
    polling: Option<TaskKey>,
    /// Whether the source is gone or at its end.
    closed: bool,
}

/// A task's identity: what `Waker::will_wake` compares.
type TaskKey = (usize, usize);

/// The identity of a waker's task.
fn key(waker: &Waker) -> TaskKey {
    (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
}

impl<T> State<T> {
    /// Whether a giver may have the place; promises it.
    fn promise(&mut self) -> bool {
        !self.closed && !self.promised && self.item.is_none() && {
            self.promised = true;
            true
        }
    }
}

impl<T> Place<T> {
    /// An empty place.
    fn new() -> Self {
        Self {
            queue: WaitQueue::new(State {
                item: None,
                promised: false,
                put: 0,
                taken: 0,
                giver: None,
                source: None,
                polling: None,
                closed: false,
            }),
        }
    }

    /// The source begins to poll the body.
    fn begin_poll(&self, task: &Waker) {
        let old = {
            let mut locked = self.queue.lock();
            locked.polling = Some(key(task));
            locked.source.take()
        };
        drop(old);
    }

    /// The source has polled the body: takes the item, if there is one. Leaves the source's waker
    /// if there is none.
    fn end_poll(&self, task: &Waker) -> Option<T> {
        let waiting = task.clone();
        let mut locked = self.queue.lock();
        locked.polling = None;
        let item = locked.item.take();
        let (mut giver, mut unused) = (None, Some(waiting));
        if item.is_some() {
            locked.taken += 1;
            giver = locked.giver.take();
        } else {
            std::mem::swap(&mut locked.source, &mut unused);
        }
        contain(|| self.queue.grant_while(locked, |state, ()| state.promise().then_some(())));
        drop(unused);
        contain(|| wake(giver));
        item
    }

    /// A giver gives up the place that was promised to it.
    fn vacate(&self) {
        let mut locked = self.queue.lock();
        locked.promised = false;
        contain(|| self.queue.grant_while(locked, |state, ()| state.promise().then_some(())));
    }

    /// Puts an item in the promised place. Returns its number, or the item if the source is gone.
    fn put(&self, item: T, giver: Option<Waker>) -> Result<u64, T> {
        let mut locked = self.queue.lock();
        locked.promised = false;
        if locked.closed {
            return Err(item);
        }
        locked.item = Some(item);
        locked.put += 1;
        let put = locked.put;
        // A giver that the source is polling right now will be polled by it again.
        let inside = giver.as_ref().is_some_and(|giver| locked.polling == Some(key(giver)));
        let (kept, dropped) = if inside { (None, giver) } else { (giver, None) };
        locked.giver = kept;
        // While the source polls the body it looks at the place afterwards, unasked.
        let source = if locked.polling.is_some() { None } else { locked.source.take() };
        release_then(locked, || {
            drop(dropped);
            contain(|| wake(source));
        });
        Ok(put)
    }

    /// Whether the item of that number was taken; leaves a waker if not. None when the source is
    /// gone and the item with it.
    fn poll_taken(&self, put: u64, task: &Waker) -> Option<Poll<()>> {
        let waker = task.clone();
        let mut locked = self.queue.lock();
        if locked.taken >= put {
            return Some(Poll::Ready(()));
        }
        if locked.closed {
            return None;
        }
        let inside = locked.polling == Some(key(&waker));
        let (kept, dropped) = if inside { (None, Some(waker)) } else { (Some(waker), None) };
        let old = std::mem::replace(&mut locked.giver, kept);
        release_then(locked, || drop((old, dropped)));
        Some(Poll::Pending)
    }

    /// The source has come to its end: gives the item that lies in place, and admits no other.
    fn finish(&self) -> Option<T> {
        let mut locked = self.queue.lock();
        if locked.item.is_some() {
            locked.taken += 1;
        }
        self.end(locked)
    }

    /// The source is gone: the item that lies in place is dropped, and its giver panics.
    fn close(&self) {
        let unwanted = self.end(self.queue.lock());
        // After all have been told: its destructor may panic.
        drop(unwanted);
    }

    /// Ends it, and tells every giver. Returns the item that lies in place.
    fn end<'a>(&'a self, mut locked: Locked<'a, State<T>, (), ()>) -> Option<T> {
        locked.closed = true;
        locked.polling = None;
        let (item, giver, source) = (locked.item.take(), locked.giver.take(), locked.source.take());
        contain(|| self.queue.grant_while(locked, |_, ()| Some(())));
        drop(source);
        contain(|| wake(giver));
        item
    }
}

/// Closes the place when the source goes.
struct Close<T>(
    /// The place.
    Arc<Place<T>>,
);

impl<T> Drop for Close<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Gives items away; the argument of a [`generate`] body.
pub struct Yielder<T> {
    /// Where they go.
    place: Arc<Place<T>>,
}

impl<T: Send + 'static> Yielder<T> {
    /// Gives an item, and completes when it has been taken.
    ///
    /// The first poll takes the place in line; a later one puts the item in place; the next after it
    /// was taken completes. It ends in no other way but by a panic: when the run is stopping, the
    /// body is dropped where it stands.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the item had its place, the item is dropped with the future; to keep it, wait
    /// with [`reserve`](Self::reserve) first. Dropped after, the item is given.
    ///
    /// # Fairness
    ///
    /// Several gives at once are served in the order in which they were first polled. A place that
    /// is promised to a future that nobody polls holds up those behind it, until that future is
    /// dropped.
    ///
    /// # Memory ordering
    ///
    /// What the giver did before is seen by the stage that takes the item. What precedes the taking
    /// is seen after the give: each is a release and the matching acquire of the place's lock.
    ///
    /// # Panics
    ///
    /// When the generator has ended, in the poll that finds it out: the yielder was carried out of
    /// its body, and the body returned, was stopped or was dropped. The message names the caller.
    /// An item that was in place when the generator came to its end was taken; that give completes.
    ///
    /// # Examples
    ///
    /// Tasks of the body give, too; the body waits for them:
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::generate;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let ended = generate(|y| async move {
    ///     let task = tokio::spawn({
    ///         let y = y.clone();
    ///         async move { y.give("from a task").await }
    ///     });
    ///     y.give("from the body").await;
    ///     task.await
    /// })
    /// .collect()
    /// .run(&Context::background())
    /// .await;
    /// assert_eq!(ended.ok().unwrap(), ["from the body", "from a task"]);
    /// # });
    /// ```
    ///
    /// # Algorithm
    ///
    /// No allocation, and four short critical sections an item. Within the body nobody is woken; a
    /// give from elsewhere costs one wake-up of the source and one of the giver.
    #[track_caller]
    pub fn give(&self, item: T) -> Give<T> {
        Give { reserve: self.reserve(), item: Some(item), put: None }
    }

    /// Waits until an item can be put in place without waiting.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses the place in line and nothing else; a place that was promised to it goes to
    /// the next.
    ///
    /// # Fairness
    ///
    /// One line with [`give`](Self::give), as there. A [`Room`] that is held holds up those behind.
    ///
    /// # Memory ordering
    ///
    /// What precedes the taking of the item before is seen afterwards.
    ///
    /// # Panics
    ///
    /// As [`give`](Self::give).
    ///
    /// # Examples
    ///
    /// An item is made only when there is room for it:
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::generate;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let ended = generate(|y| async move {
    ///     let mut lines = "one\ntwo".lines();
    ///     loop {
    ///         let room = y.reserve().await;
    ///         let Some(line) = lines.next() else { break };
    ///         room.put(line);
    ///     }
    ///     Ok::<_, std::io::Error>(())
    /// })
    /// .collect()
    /// .run(&Context::background())
    /// .await;
    /// assert_eq!(ended.ok().unwrap(), ["one", "two"]);
    /// # });
    /// ```
    #[track_caller]
    pub fn reserve(&self) -> Reserve<T> {
        let anchor = Anchor::shared(Arc::clone(&self.place), |place| &place.queue);
        Reserve {
            place: Arc::clone(&self.place),
            waiter: Waiter::new(anchor),
            caller: Location::caller(),
        }
    }
}

impl<T> Clone for Yielder<T> {
    fn clone(&self) -> Self {
        Self { place: Arc::clone(&self.place) }
    }
}

impl<T> fmt::Debug for Yielder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}

/// Waits for a place for an item; from [`Yielder::reserve`].
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct Reserve<T: 'static> {
    /// The place.
    place: Arc<Place<T>>,
    /// The place in line.
    #[pin]
    waiter: Waiter<'static, State<T>, (), ()>,
    /// For the panic.
    caller: &'static Location<'static>,
}

impl<T: 'static> Future for Reserve<T> {
    type Output = Room<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Room<T>> {
        let proceed = ready!(coop::poll_proceed(cx));
        let this = self.project();
        ready!(this.waiter.poll_enter(cx, |locked| {
            let free = locked.closed || (locked.is_empty() && locked.promise());
            if free { Entry::Ready(()) } else { Entry::Wait(()) }
        }));
        proceed.made_progress();
        let ended = this.place.queue.lock().closed;
        if ended {
            panic!("the generator of this yielder has ended: `give` called at {}", this.caller);
        }
        Poll::Ready(Room { place: Some(Arc::clone(this.place)) })
    }
}

#[pinned_drop]
impl<T: 'static> PinnedDrop for Reserve<T> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let Left::Granted(()) = this.waiter.cancel() {
            this.place.vacate();
        }
    }
}

impl<T: 'static> fmt::Debug for Reserve<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").finish_non_exhaustive()
    }
}

/// A place for one item; from [`Yielder::reserve`]. Dropped unused, it goes to the next in line.
#[must_use = "put an item in it"]
pub struct Room<T> {
    /// The place, until it is used.
    place: Option<Arc<Place<T>>>,
}

impl<T> Room<T> {
    /// Puts an item in place. Does not wait for it to be taken; it comes out, unless the run is
    /// dropped.
    ///
    /// # Errors
    ///
    /// The item, when the generator has ended in the meantime.
    pub fn put(self, item: T) -> Result<(), T> {
        self.fill(item, None).map(drop)
    }

    /// Puts an item in place, with whom to tell when it is taken.
    fn fill(mut self, item: T, giver: Option<Waker>) -> Result<u64, T> {
        match self.place.take() {
            Some(place) => place.put(item, giver),
            None => Err(item),
        }
    }
}

impl<T> Drop for Room<T> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.vacate();
        }
    }
}

impl<T> fmt::Debug for Room<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}

/// Gives an item; from [`Yielder::give`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Give<T: 'static> {
    /// The wait for a place.
    #[pin]
    reserve: Reserve<T>,
    /// The item, until it is in place.
    item: Option<T>,
    /// The item's number, once it is in place.
    put: Option<u64>,
}

impl<T: 'static> Future for Give<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.project();
        let caller = this.reserve.caller;
        let ended = || -> ! {
            panic!("the generator of this yielder has ended: `give` called at {caller}")
        };
        if let Some(put) = *this.put {
            return match this.reserve.place.poll_taken(put, cx.waker()) {
                Some(poll) => poll,
                None => ended(),
            };
        }
        let place = ready!(this.reserve.poll(cx));
        let item = this.item.take().expect("a give is not polled after it is done");
        match place.fill(item, Some(cx.waker().clone())) {
            Ok(put) => *this.put = Some(put),
            Err(_) => ended(),
        }
        // Taken at the earliest by the poll that follows this one.
        Poll::Pending
    }
}

impl<T: 'static> fmt::Debug for Give<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Give").field("placed", &self.put.is_some()).finish_non_exhaustive()
    }
}

/// A generator that is being run.
#[pin_project]
pub struct GeneratorFlow<T, Fut> {
    /// The body, until it has ended.
    #[pin]
    body: Option<Fut>,
    /// How the source ended, once it has.
    end: Option<End>,
    /// The place where items are given.
    place: Close<T>,
    /// The run's.
    ctx: Context,
    /// Wakes the source when the run is stopping.
    #[pin]
    stopping: Stopping,
    /// What went through.
    counts: LocalCounts,
}

impl<T, Fut> fmt::Debug for GeneratorFlow<T, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratorFlow").finish_non_exhaustive()
    }
}

impl<T, E, Fut> Flow for GeneratorFlow<T, Fut>
where
    T: Send + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<T> {
        let proceed = ready!(coop::poll_proceed(cx));
        let mut this = self.project();
        if this.end.is_none() {
            if let Some(cause) = this.ctx.cause() {
                *this.end = Some(End::Stopped(cause));
            } else if let Some(body) = this.body.as_mut().as_pin_mut() {
                this.place.0.begin_poll(cx.waker());
                let poll = || body.poll(cx).map_err(Into::into);
                *this.end = match catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(Poll::Pending) => None,
                    Ok(Poll::Ready(Ok(()))) => Some(End::Exhausted),
                    Ok(Poll::Ready(Err(error))) => Some(End::Error(error)),
                    Err(payload) => Some(End::Panic(Panic::new(payload))),
                };
            }
        }
        let item = match &this.end {
            None => match this.place.0.end_poll(cx.waker()) {
                Some(item) => Some(item),
                None => {
                    this.counts.publish();
                    let cause = ready!(this.stopping.poll(cx));
                    *this.end = Some(End::Stopped(cause));
                    let_go(this.body, this.end);
                    this.place.0.finish()
                }
            },
            Some(_) => {
                let_go(this.body, this.end);
                this.place.0.finish()
            }
        };
        if let Some(item) = item {
            proceed.made_progress();
            this.counts.entered += 1;
            this.counts.passed += 1;
            return Poll::Ready(Some(Ok(item)));
        }
        let (stage, index) = (this.counts.name(), this.counts.entered as u64);
        let error = match this.end.replace(End::Exhausted) {
            None | Some(End::Exhausted) => return Poll::Ready(None),
            Some(End::Stopped(cause)) => PipelineError::Ended(cause),
            Some(End::Error(error)) => PipelineError::Failed { stage, index, error },
            Some(End::Panic(panic)) => PipelineError::Panicked { stage, index, panic },
        };
        Poll::Ready(Some(Err(error)))
    }
}

/// How a source ended.
enum End {
    /// The body returned.
    Exhausted,
    /// The body returned an error.
    Error(Box<dyn Error + Send + Sync>),
    /// The body panicked, when it was polled or when it was dropped.
    Panic(Panic),
    /// The run is stopping.
    Stopped(Cause),
}

/// Drops the body. A panic of its destructor becomes the end, unless the body has failed before.
fn let_go<Fut>(mut body: Pin<&mut Option<Fut>>, end: &mut Option<End>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body.set(None)))
        && matches!(end, Some(End::Exhausted | End::Stopped(_)))
    {
        *end = Some(End::Panic(Panic::new(payload)));
    }
}
