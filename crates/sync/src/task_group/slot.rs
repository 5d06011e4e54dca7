//! Room first, the task later: [`Reserve`] and the [`Slot`] it gives.

use std::fmt;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::coop;

use super::admission::Admission;
#[cfg(feature = "tokio")]
use super::blocking::BlockingTask;
use super::engine::Engine;
use super::refusal::{Refusal, SpawnError};
use super::task::GroupTask;

/// Waits for room for one task; made by [`TaskGroup::reserve`](crate::TaskGroup::reserve), which says
/// what it promises.
#[pin_project]
#[must_use = "a future does nothing until it is polled"]
pub struct Reserve<'g, T, E> {
    /// The waiting.
    #[pin]
    admission: Admission<'g, T, E>,
    /// The group's.
    runtime: &'g super::Runtime,
    /// Who called `reserve`.
    place: &'static Location<'static>,
    /// Whether it has completed.
    done: bool,
}

impl<'g, T, E> Reserve<'g, T, E> {
    /// Asks for room.
    #[track_caller]
    pub(super) fn new(engine: &'g Arc<Engine<T, E>>, runtime: &'g super::Runtime) -> Self {
        let place = Location::caller();
        Self { admission: Admission::new(engine), runtime, place, done: false }
    }
}

impl<'g, T, E> Future for Reserve<'g, T, E> {
    type Output = Result<Slot<'g, T, E>, Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        assert!(!*this.done, "`Reserve` polled after it completed");
        let proceed = ready!(coop::poll_proceed(cx));
        let engine = this.admission.engine();
        let room = ready!(this.admission.poll_room(cx));
        proceed.made_progress();
        *this.done = true;
        Poll::Ready(room.map(|()| Slot::new(engine, this.runtime)))
    }
}

impl<T, E> fmt::Debug for Reserve<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").field("place", &format_args!("{}", self.place)).finish()
    }
}

/// Room for one task of a [`TaskGroup`](crate::TaskGroup), from
/// [`reserve`](crate::TaskGroup::reserve) or [`try_reserve`](crate::TaskGroup::try_reserve). Dropped
/// unused, it goes to the next.
///
/// A join does not wait for it: a slot used after the group was joined is refused.
#[must_use = "the room goes to the next when this is dropped"]
pub struct Slot<'g, T, E> {
    /// Whose room.
    engine: &'g Arc<Engine<T, E>>,
    /// The group's.
    runtime: &'g super::Runtime,
}

impl<'g, T, E> Slot<'g, T, E> {
    /// Room that was taken.
    pub(super) fn new(engine: &'g Arc<Engine<T, E>>, runtime: &'g super::Runtime) -> Self {
        Self { engine, runtime }
    }

    /// Spawns `future` onto tokio in this room and gives its index, as
    /// [`try_spawn`](crate::TaskGroup::try_spawn) does.
    ///
    /// # Errors
    ///
    /// With the future: [`Refusal::Closed`], [`Refusal::Stopping`], or [`Refusal::NoRuntime`]. The
    /// room goes to the next.
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> Result<usize, SpawnError<F>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let Some(runtime) = self.runtime.get() else {
            return Err(SpawnError::new(future, Refusal::NoRuntime));
        };
        let task = self.into_task(future)?;
        let index = task.index();
        runtime.spawn(task);
        Ok(index)
    }

    /// Spawns `future`, which need not be `Send`, onto `local` in this room and gives its index, as
    /// [`try_spawn_local`](crate::TaskGroup::try_spawn_local) does.
    ///
    /// # Errors
    ///
    /// With the future: [`Refusal::Closed`] or [`Refusal::Stopping`]. The room goes to the next.
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn spawn_local<F>(
        self,
        local: &tokio::task::LocalSet,
        future: F,
    ) -> Result<usize, SpawnError<F>>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
        E: fmt::Display + 'static,
    {
        let task = self.into_task(future)?;
        let index = task.index();
        local.spawn_local(task);
        Ok(index)
    }

    /// Runs `work` on one of tokio's threads for blocking work in this room and gives its index, as
    /// [`try_spawn_blocking`](crate::TaskGroup::try_spawn_blocking) does.
    ///
    /// # Errors
    ///
    /// With the closure: [`Refusal::Closed`], [`Refusal::Stopping`], or [`Refusal::NoRuntime`]. The
    /// room goes to the next.
    ///
    /// # Panics
    ///
    /// When the operating system gives tokio no thread and it has none, as tokio's own does.
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn spawn_blocking<F>(self, work: F) -> Result<usize, SpawnError<F>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let Some(runtime) = self.runtime.get() else {
            return Err(SpawnError::new(work, Refusal::NoRuntime));
        };
        let engine = self.engine;
        // From here on the room is the engine's to give back.
        mem::forget(self);
        match engine.let_in() {
            Ok(index) => {
                let task = BlockingTask::new(Arc::clone(engine), index, Location::caller(), work);
                runtime.spawn_blocking(move || task.run());
                Ok(index)
            }
            Err(refusal) => Err(SpawnError::new(work, refusal)),
        }
    }

    /// Makes `future` a task of the group in this room, for the caller to hand to an executor of
    /// their own: the group as it is used without tokio.
    ///
    /// The task is alive until it has ended or is dropped, and the join waits for that. It is dropped
    /// at its next poll once the group's context is cancelled, or the [grace](crate::TaskGroupBuilder::abort_after) after that is over; it is woken then.
    ///
    /// # Cancel safety
    ///
    /// A task that is dropped before it has ended counts as cancelled, with its future dropped.
    ///
    /// # Errors
    ///
    /// With the future: [`Refusal::Closed`] or [`Refusal::Stopping`]. The room goes to the next.
    ///
    /// # Examples
    ///
    /// On a plain thread:
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::TaskGroup;
    ///
    /// let group = TaskGroup::<u32, String>::new(&Context::background());
    /// let task = group.try_reserve()?.into_task(async { Ok(7) })?;
    /// let thread = std::thread::spawn(|| selvedge_testkit::block_on(task));
    /// let joined = selvedge_testkit::block_on(group.join());
    /// assert_eq!(joined.into_result()?, [7]);
    /// thread.join().unwrap();
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn into_task<F>(self, future: F) -> Result<GroupTask<T, E, F>, SpawnError<F>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let engine = self.engine;
        // From here on the room is the engine's to give back.
        mem::forget(self);
        match engine.let_in() {
            Ok(index) => Ok(GroupTask::new(Arc::clone(engine), index, Location::caller(), future)),
            Err(refusal) => Err(SpawnError::new(future, refusal)),
        }
    }
}

impl<T, E> Drop for Slot<'_, T, E> {
    fn drop(&mut self) {
        self.engine.give_room();
    }
}

impl<T, E> fmt::Debug for Slot<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("runtime", &self.runtime).finish_non_exhaustive()
    }
}
