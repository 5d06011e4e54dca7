//! Generators: a source written as an async block that gives items away, without a macro.
//!
//! The body is a future of the source; polling the source polls the body. Between the two lies a
//! one-item [place](place). [`Give`] waits in line for the place to be empty, puts its item there,
//! and completes when the item has been taken: so the body goes on when the next item is asked for,
//! not before.

mod flow;
mod place;

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::{Anchor, Entry, Left, Origin, Panic, Waiter, coop};

use crate::flow::Build;
use crate::launch::Launch;
use crate::report::LocalCounts;
use crate::{PipelineError, Stage};
use place::{Close, Place, State};

pub use flow::GeneratorFlow;

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
        let (ctx, stopping) = (launch.ctx.clone(), launch.ctx.stopping_owned());
        Ok(GeneratorFlow { body: Some(body), end: None, place, ctx, stopping, counts })
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
