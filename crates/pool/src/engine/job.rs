//! A job: a closure for a thread, or one that makes a future for a task.
//!
//! To a worker both are a [`Task`]: something that is polled until it is ready. A closure is ready
//! at its first poll. A future that is pending is polled again when it was woken, or when the pool's
//! context is cancelled: then it is dropped instead. The flag is looked at before each poll; what a
//! poll brings that began before the flag was set is the job's result.
//!
//! Where the result goes is the [`Sink`]'s business: to a handle's cell, or onto a board that a
//! stream takes it from. A job ends in this order: what is left of it is dropped, its end is
//! counted, the sink is told. Nothing here panics, whatever a job does.

use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use pin_project::pin_project;
use selvedge_cancel::{Cause, Context};
use selvedge_primitives::{Panic, contain};

use super::core::Fate;
use crate::handle::JobError;

/// A job of any type.
pub(crate) trait Task: Send {
    /// Where it was submitted.
    fn place(&self) -> &'static Location<'static>;

    /// Starts it or goes on. When it is ready it has ended: it told `ended` how, then handed over
    /// the result. It is not polled again.
    fn poll(
        self: Pin<&mut Self>,
        context: &Context,
        cx: &mut TaskContext<'_>,
        ended: &mut dyn FnMut(Fate),
    ) -> Poll<()>;

    /// Drops what it was to run, tells `ended`, then hands over the cause instead of a result.
    fn cancel(self: Pin<&mut Self>, cause: Cause, ended: &mut dyn FnMut(Fate));
}

/// A job that can be taken apart again, because nobody has accepted it.
pub(crate) trait Unstarted<F>: Task {
    /// The closure.
    fn into_closure(self: Box<Self>) -> F;
}

/// Where a result goes.
pub(crate) trait Sink: Send {
    /// What a job returns.
    type Item;

    /// Takes the result of a job, once. Does not wait, and never panics.
    fn complete(&self, result: Result<Self::Item, JobError>);
}

/// Why it is there to be taken.
const NOT_STARTED: &str = "a job that nobody has started has its closure";

/// A closure that runs on a thread.
#[pin_project]
pub(crate) struct Call<F, K> {
    /// What to run; none once it has.
    closure: Option<F>,
    /// Where the result goes.
    sink: K,
    /// Where it was submitted.
    place: &'static Location<'static>,
}

impl<F, K> Call<F, K> {
    /// A job.
    pub(crate) fn new(closure: F, sink: K, place: &'static Location<'static>) -> Box<Self> {
        Box::new(Self { closure: Some(closure), sink, place })
    }
}

impl<F, K> Task for Call<F, K>
where
    F: FnOnce(&Context) -> K::Item + Send,
    K: Sink,
{
    fn place(&self) -> &'static Location<'static> {
        self.place
    }

    fn poll(
        self: Pin<&mut Self>,
        context: &Context,
        _cx: &mut TaskContext<'_>,
        ended: &mut dyn FnMut(Fate),
    ) -> Poll<()> {
        let this = self.project();
        let closure = this.closure.take().expect(NOT_STARTED);
        // Unwind safe: whatever the closure left half done, it owned or shared by its own choice.
        let result = catch_unwind(AssertUnwindSafe(|| closure(context)));
        settle(result, this.sink, ended);
        Poll::Ready(())
    }

    fn cancel(self: Pin<&mut Self>, cause: Cause, ended: &mut dyn FnMut(Fate)) {
        let this = self.project();
        contain(|| *this.closure = None);
        ended(Fate::Cancelled);
        this.sink.complete(Err(JobError::Cancelled(cause)));
    }
}

impl<F, K> Unstarted<F> for Call<F, K>
where
    F: FnOnce(&Context) -> K::Item + Send,
    K: Sink,
{
    fn into_closure(self: Box<Self>) -> F {
        self.closure.expect(NOT_STARTED)
    }
}

/// A future that runs on a task, and the closure that makes it there.
#[pin_project]
pub(crate) struct Drive<F, T, K> {
    /// How far it is.
    #[pin]
    stage: Stage<F, T>,
    /// Where the result goes.
    sink: K,
    /// Where it was submitted.
    place: &'static Location<'static>,
}

/// How far a future is.
#[pin_project(project = StageProjection)]
enum Stage<F, T> {
    /// Not made yet. None for the moment in which the closure makes it.
    Unmade(Option<F>),
    /// Under way.
    Made(#[pin] T),
    /// Dropped.
    Over,
}

impl<F, T, K> Drive<F, T, K> {
    /// A job.
    pub(crate) fn new(closure: F, sink: K, place: &'static Location<'static>) -> Box<Self> {
        Box::new(Self { stage: Stage::Unmade(Some(closure)), sink, place })
    }
}

impl<F, T> Stage<F, T>
where
    F: FnOnce(Context) -> T,
    T: Future,
{
    /// Makes the future unless it is made, and polls it.
    fn poll(
        mut self: Pin<&mut Self>,
        context: &Context,
        cx: &mut TaskContext<'_>,
    ) -> Poll<T::Output> {
        if let StageProjection::Unmade(closure) = self.as_mut().project() {
            let closure = closure.take().expect(NOT_STARTED);
            let future = closure(context.clone());
            self.set(Stage::Made(future));
        }
        match self.project() {
            StageProjection::Made(future) => future.poll(cx),
            _ => unreachable!("it is made above, and not polled once it is over"),
        }
    }
}

impl<F, T, K> Task for Drive<F, T, K>
where
    F: FnOnce(Context) -> T + Send,
    T: Future<Output = K::Item> + Send,
    K: Sink,
{
    fn place(&self) -> &'static Location<'static> {
        self.place
    }

    fn poll(
        self: Pin<&mut Self>,
        context: &Context,
        cx: &mut TaskContext<'_>,
        ended: &mut dyn FnMut(Fate),
    ) -> Poll<()> {
        if context.is_cancelled() {
            let cause = context.cause().expect("a cancelled context has a cause");
            self.cancel(cause, ended);
            return Poll::Ready(());
        }
        let mut this = self.project();
        // Unwind safe: a future that panicked is dropped below, not polled again.
        let polled = catch_unwind(AssertUnwindSafe(|| this.stage.as_mut().poll(context, cx)));
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => Ok(result),
            Err(payload) => Err(payload),
        };
        contain(|| this.stage.set(Stage::Over));
        settle(result, this.sink, ended);
        Poll::Ready(())
    }

    fn cancel(self: Pin<&mut Self>, cause: Cause, ended: &mut dyn FnMut(Fate)) {
        let mut this = self.project();
        contain(|| this.stage.set(Stage::Over));
        ended(Fate::Cancelled);
        this.sink.complete(Err(JobError::Cancelled(cause)));
    }
}

impl<F, T, K> Unstarted<F> for Drive<F, T, K>
where
    F: FnOnce(Context) -> T + Send,
    T: Future<Output = K::Item> + Send,
    K: Sink,
{
    fn into_closure(self: Box<Self>) -> F {
        match self.stage {
            Stage::Unmade(Some(closure)) => closure,
            _ => unreachable!("{NOT_STARTED}"),
        }
    }
}

/// Counts the end of a job, then hands over what it brought.
fn settle<K: Sink>(result: std::thread::Result<K::Item>, sink: &K, ended: &mut dyn FnMut(Fate)) {
    match result {
        Ok(result) => {
            ended(Fate::Finished);
            sink.complete(Ok(result));
        }
        Err(payload) => {
            ended(Fate::Panicked);
            sink.complete(Err(JobError::Panicked(Panic::new(payload))));
        }
    }
}
