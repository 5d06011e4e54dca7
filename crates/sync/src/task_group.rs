//! The face of the task group: making one, spawning, joining, and what they promise. The work is done
//! in `task_group/engine.rs`; there are no locks here.

mod admission;
#[cfg(feature = "tokio")]
mod blocking;
mod builder;
mod core;
mod counts;
mod engine;
mod join;
mod next;
mod refusal;
mod report;
mod runtime;
mod slot;
#[cfg(feature = "tokio")]
mod spawn;
mod task;

pub use builder::TaskGroupBuilder;
pub use counts::Counts;
pub use join::Join;
pub use next::Next;
pub use refusal::{Refusal, SpawnError, TaskGroupError};
pub use report::{Failure, Fault, JoinError, Joined, TaskFailed};
pub use slot::{Reserve, Slot};
#[cfg(feature = "tokio")]
pub use spawn::Spawn;
pub use task::GroupTask;

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use selvedge_cancel::{Cause, CauseKind, Context};
use selvedge_primitives::Origin;

use engine::Engine;
use runtime::Runtime;

/// Tasks that belong together: the first failure ends the others, and the join tells what became of
/// each.
///
/// Go's `errgroup.Group`, and more. The group owns a child of the context it is made from; the tasks
/// run under it. A task returns a value, which the join gives out in the order of the spawns, or an
/// error, which cancels the child context: the others are dropped at their next `await`. An error has
/// to have a text (`Display`), for the cause that everybody below the context can read; the error itself
/// goes to the join.
///
/// | Go | here |
/// |---|---|
/// | `errgroup.WithContext(ctx)` | [`TaskGroup::new(&ctx)`](Self::new); [`context`](Self::context) is the derived one |
/// | `g.SetLimit(n)` | [`builder`](Self::builder)`(&ctx).limit(n)` |
/// | `g.Go(f)` | [`spawn(future).await`](Self::spawn): waits if the limit is reached; without a limit it never does |
/// | `g.TryGo(f)` | [`try_spawn(future)`](Self::try_spawn) |
/// | `g.Wait()` | [`join().await`](Self::join) |
/// | a goroutine that blocks | [`try_spawn_blocking(closure)`](Self::try_spawn_blocking) |
/// | only the first error | or all of them: [`collect_all`](TaskGroupBuilder::collect_all) |
/// | values go where the closure puts them | in order at the join; or [as they come](TaskGroupBuilder::stream_results); or [nowhere](TaskGroupBuilder::discard_results) |
/// | a panic ends the process | it goes on at the join, or [is returned](TaskGroupBuilder::return_panics) |
///
/// # What ends what
///
/// | event | new tasks | tasks that run |
/// |---|---|---|
/// | the context is stopping | [refused](Refusal::Stopping) | go on |
/// | the context is cancelled: from above, by [`cancel`](Self::cancel), by the first failure, by the group's drop | refused | dropped at their next `await` (after a [grace](TaskGroupBuilder::abort_after), if there is one), counted as cancelled |
/// | the group is [joined](Self::join) | [refused](Refusal::Closed) | go on |
/// | the runtime is shut down | dropped, counted as cancelled | dropped by it, counted as cancelled; one that blocks runs out |
///
/// A task that does not come to an `await` is not ended: give code that computes or blocks the
/// [`context`](Self::context) to look at. A poll that began before the context was cancelled may still
/// return, and then the task has finished.
///
/// # Structure
///
/// When [`join`](Self::join) completes, every task has ended, and what it captured was dropped before.
/// To abort is to [`cancel`](Self::cancel) and to join. Dropping the group only asks: it cancels the
/// context, and nobody waits for the tasks, which end at their next `await` and drop what they
/// returned. A task may hold an `Arc` of the group, spawn from inside it, and be the one that drops it
/// last.
///
/// A task that joins its own group waits for itself. It hangs until the context is cancelled, which
/// drops it like any other.
///
/// # Fairness
///
/// With a limit, those who wait for room get it in the order in which they came, and neither
/// [`try_spawn`](Self::try_spawn) nor [`try_reserve`](Self::try_reserve) overtakes them.
///
/// # Memory ordering
///
/// What a task did, the drop of its future included, happens before the completion of the join. What
/// preceded a spawn happens before the task's first poll. What the failing task did happens before
/// the cancellation that the others see.
///
/// # Examples
///
/// All or the first error:
///
/// ```
/// use selvedge_cancel::Context;
/// use selvedge_sync::TaskGroup;
///
/// # async fn fetch(id: u32) -> Result<u32, String> { if id == 9 { Err("no page 9".into()) } else { Ok(id * 10) } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let group = TaskGroup::new(&Context::background());
/// for id in 1..=3 {
///     group.spawn(fetch(id)).await?;
/// }
/// assert_eq!(group.join().await.into_result()?, [10, 20, 30]);
///
/// let group = TaskGroup::new(&Context::background());
/// group.spawn(fetch(9)).await?;
/// group.spawn(std::future::pending()).await?;
/// let error = group.join().await.into_result().unwrap_err();
/// assert_eq!((error.counts.failed, error.counts.cancelled), (1, 1));
/// assert_eq!(error.into_first_error(), Some("no page 9".to_owned()));
/// # Ok(())
/// # }
/// ```
///
/// What each task became, with at most four at once:
///
/// ```
/// use selvedge_cancel::Context;
/// use selvedge_sync::TaskGroup;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let group = TaskGroup::builder(&Context::background()).limit(4).collect_all().build()?;
/// for n in 0..10 {
///     group.spawn(async move { if n % 3 == 0 { Err(n) } else { Ok(n) } }).await?;
/// }
/// let joined = group.join().await;
/// assert_eq!(joined.results[4], Some(4));
/// assert_eq!((joined.counts.finished, joined.failures.len()), (6, 4));
/// # Ok(())
/// # }
/// ```
///
/// # Algorithm
///
/// One lock around the counts, a slot a task for its value, and a first-in-first-out queue of those
/// who wait for room or for the end. To spawn is one short critical section and what the runtime
/// needs; to end is one more. A task that never is pending touches its context with one load a poll;
/// one that is leaves its waker there once. Nothing is allocated beside tokio's task, but for the
/// growth of the slots.
pub struct TaskGroup<T, E> {
    /// Counts, queues, cancels; shared with the tasks.
    engine: Arc<Engine<T, E>>,
    /// Where tasks are spawned.
    runtime: Runtime,
    /// Name and place.
    origin: Origin,
    /// Of the kind `Dropped`, at the place where the group was made.
    dropped: Cause,
}

impl<T, E> TaskGroup<T, E> {
    /// A group under a child of `ctx`, without a limit, whose first failure ends the others and whose
    /// panics go on at the join.
    ///
    /// Tasks are spawned onto the tokio runtime in which this is called; if it is called in none, onto
    /// the one in which each spawn is.
    #[track_caller]
    pub fn new(ctx: &Context) -> Self {
        Self::builder(ctx).make(None)
    }

    /// A group with a limit, or with another policy.
    #[track_caller]
    pub fn builder(ctx: &Context) -> TaskGroupBuilder<'_, T, E> {
        TaskGroupBuilder::new(ctx)
    }

    /// The name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.origin.name()
    }

    /// Where it was made.
    pub fn place(&self) -> &'static Location<'static> {
        self.origin.place()
    }

    /// The context that the tasks run under: a child of the one the group was made from. If a failure
    /// ended the tasks, its cause carries a [`TaskFailed`].
    pub fn context(&self) -> &Context {
        self.engine.context()
    }

    /// How many tasks there were and how they ended: right at the moment of the call.
    pub fn counts(&self) -> Counts {
        self.engine.counts()
    }

    /// The most tasks at once.
    pub fn limit(&self) -> usize {
        self.engine.limit()
    }

    /// Lets at most `limit` tasks run at once from now on, and gives what the limit was. Whoever waits for room stays in line. Tasks
    /// that run go on: if there are more than that now, nobody is let in before enough of them have ended.
    ///
    /// # Errors
    ///
    /// [`TaskGroupError::ZeroLimit`] for 0; nothing has changed then.
    pub fn set_limit(&self, limit: usize) -> Result<usize, TaskGroupError> {
        if limit == 0 {
            return Err(TaskGroupError::ZeroLimit);
        }
        Ok(self.engine.set_limit(limit))
    }

    /// Ends the tasks: cancels the group's context. [`join`](Self::join) waits until they have ended.
    #[track_caller]
    pub fn cancel(&self) {
        self.engine.cancel(Cause::new(CauseKind::Cancelled));
    }

    /// Ends the tasks, and does not wait for the end of their [grace](TaskGroupBuilder::abort_after), if they have one: they are dropped at
    /// their next `await`. What one does when it is asked a second time to end.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = TaskGroup::<(), String>::builder(&Context::background())
    ///     .abort_after(Duration::from_secs(3_600))
    ///     .build()?;
    /// group.try_spawn(std::future::pending())?;
    /// group.cancel();
    /// group.abort();
    /// assert_eq!(group.join().await.counts.cancelled, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn abort(&self) {
        self.engine.abort(Cause::new(CauseKind::Cancelled));
    }

    /// Lets no task in any more, as a [`join`](Self::join) does, and waits for nothing: whoever wants to spawn is refused, those that run go
    /// on. For a group whose producers are to stop before somebody joins. Idempotent.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Whether it was closed, or joined.
    pub fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }

    /// Spawns `future` onto tokio, and gives its index: how many were spawned before it.
    ///
    /// With a limit that is reached, waits until a task has ended; without a limit it completes at the
    /// first poll. It is one operation for both, so that a limit can be put on a group without a change
    /// of its callers; who has no `await` at hand takes [`try_spawn`](Self::try_spawn), which without a
    /// limit never lacks room. The wait ends when the group's context is stopping or the group is
    /// joined.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completed, the task is not spawned, and `future` is dropped with it: passed by
    /// value, it dies with the spawn. [`reserve`](Self::reserve) waits without it. The place in the
    /// queue is lost, and room that was granted goes to the next.
    ///
    /// # Fairness
    ///
    /// First in, first out; see [`TaskGroup`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// What preceded the spawn is visible to the task.
    ///
    /// # Errors
    ///
    /// With the future, unpolled: [`Refusal::Closed`], [`Refusal::Stopping`], or
    /// [`Refusal::NoRuntime`]. On a runtime that was shut down it is not an error: the runtime drops
    /// the task, which counts as cancelled.
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// The future comes back when the group is stopping:
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::{Refusal, TaskGroup};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let (ctx, canceller) = Context::background().child();
    /// let group = TaskGroup::<u32, String>::new(&ctx);
    /// canceller.stop(Duration::MAX);
    ///
    /// let error = group.spawn(async { Ok(7) }).await.unwrap_err();
    /// assert!(matches!(error.refusal(), Refusal::Stopping(_)));
    /// assert_eq!(error.into_future().await, Ok(7));
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`TaskGroup`](Self#algorithm).
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Spawn<'_, T, E, F>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        Spawn::new(&self.engine, &self.runtime, future, Location::caller())
    }

    /// Spawns `future` onto tokio if there is room, and gives its index. Without a limit there always
    /// is.
    ///
    /// # Errors
    ///
    /// With the future, unpolled: [`Refusal::Full`] (also when there is room and others wait for it),
    /// [`Refusal::Closed`], [`Refusal::Stopping`], or [`Refusal::NoRuntime`].
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::{Refusal, TaskGroup};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = TaskGroup::<_, String>::builder(&Context::background()).limit(1).build()?;
    /// assert_eq!(group.try_spawn(async { Ok("first") })?, 0);
    /// let refused = group.try_spawn(async { Ok("second") }).unwrap_err();
    /// assert!(matches!(refused.refusal(), Refusal::Full));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn try_spawn<F>(&self, future: F) -> Result<usize, SpawnError<F>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let Some(runtime) = self.runtime.get() else {
            return Err(SpawnError::new(future, Refusal::NoRuntime));
        };
        let task = self.let_in(future, Location::caller())?;
        let index = task.index();
        runtime.spawn(task);
        Ok(index)
    }

    /// Spawns `future`, which need not be `Send`, onto `local` if there is room, and gives its index.
    /// To wait for room, [`reserve`](Self::reserve) it and take [`Slot::spawn_local`].
    ///
    /// The set is named because tokio offers no way to ask whether there is one around: its own
    /// `spawn_local` panics where there is none. The task runs when the set is run; a set that never
    /// is keeps the join waiting until it is dropped.
    ///
    /// # Errors
    ///
    /// With the future, unpolled: [`Refusal::Full`], [`Refusal::Closed`] or [`Refusal::Stopping`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::rc::Rc;
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::TaskGroup;
    /// use tokio::task::LocalSet;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalSet::new();
    /// let group = TaskGroup::<u32, String>::new(&Context::background());
    /// let shared = Rc::new(7);
    /// group.try_spawn_local(&local, async move { Ok(*shared) }).map_err(|error| error.to_string())?;
    /// assert_eq!(local.run_until(group.join()).await.into_result()?, [7]);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn try_spawn_local<F>(
        &self,
        local: &tokio::task::LocalSet,
        future: F,
    ) -> Result<usize, SpawnError<F>>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
        E: fmt::Display + 'static,
    {
        let task = self.let_in(future, Location::caller())?;
        let index = task.index();
        local.spawn_local(task);
        Ok(index)
    }

    /// Runs `work`, which may block, on one of tokio's threads for that if there is room, and gives its index. To wait for room,
    /// [`reserve`](Self::reserve) it and take [`Slot::spawn_blocking`].
    ///
    /// It is a task like others, but for its end: once the group is cancelled it does not begin any more, and one that has begun runs out. It is looked at
    /// when tokio has a thread for it: until then the join waits, and so does what it has captured.
    /// Give it the [`context`](Self::context) to look at.
    ///
    /// # Errors
    ///
    /// With the closure, not called: [`Refusal::Full`], [`Refusal::Closed`], [`Refusal::Stopping`], or [`Refusal::NoRuntime`].
    ///
    /// # Panics
    ///
    /// When the operating system gives tokio no thread and it has none, as tokio's own does.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = TaskGroup::<usize, std::io::Error>::new(&Context::background());
    /// for path in ["Cargo.toml", "README.md"] {
    ///     group.try_spawn_blocking(move || Ok(std::fs::read(path)?.len())).map_err(|error| error.to_string())?;
    /// }
    /// assert_eq!(group.join().await.into_result()?.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn try_spawn_blocking<F>(&self, work: F) -> Result<usize, SpawnError<F>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        if self.runtime.get().is_none() {
            return Err(SpawnError::new(work, Refusal::NoRuntime));
        }
        match self.try_reserve() {
            Ok(slot) => slot.spawn_blocking(work),
            Err(refusal) => Err(SpawnError::new(work, refusal)),
        }
    }

    /// Waits for room for one task, without a future in hand. Completes at once without a limit.
    ///
    /// # Cancel safety
    ///
    /// Safe. Dropped, the place in the queue is lost, and room that was granted goes to the next.
    ///
    /// # Fairness
    ///
    /// First in, first out; see [`TaskGroup`](Self#fairness).
    ///
    /// # Memory ordering
    ///
    /// What the task did whose end made the room, the drop of its future included, is visible after this completes.
    ///
    /// # Errors
    ///
    /// [`Refusal::Closed`] or [`Refusal::Stopping`].
    ///
    /// # Panics
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// Take the next item only when its task can run:
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = TaskGroup::<_, String>::builder(&Context::background()).limit(2).build()?;
    /// let mut items = vec![1, 2, 3];
    /// loop {
    ///     let slot = group.reserve().await?;
    ///     let Some(item) = items.pop() else { break };
    ///     slot.spawn(async move { Ok(item) })?;
    /// }
    /// assert_eq!(group.join().await.into_result()?, [3, 2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`TaskGroup`](Self#algorithm): one lock trip, two where it waits.
    #[track_caller]
    pub fn reserve(&self) -> Reserve<'_, T, E> {
        Reserve::new(&self.engine, &self.runtime)
    }

    /// Takes room for one task, if there is any.
    ///
    /// # Errors
    ///
    /// [`Refusal::Full`], [`Refusal::Closed`] or [`Refusal::Stopping`].
    pub fn try_reserve(&self) -> Result<Slot<'_, T, E>, Refusal> {
        self.engine.try_reserve()?;
        Ok(Slot::new(&self.engine, &self.runtime))
    }

    /// Makes `future` a task, if there is room.
    #[cfg(feature = "tokio")]
    fn let_in<F>(
        &self,
        future: F,
        place: &'static Location<'static>,
    ) -> Result<GroupTask<T, E, F>, SpawnError<F>> {
        match self.engine.try_let_in() {
            Ok(index) => Ok(GroupTask::new(Arc::clone(&self.engine), index, place, future)),
            Err(refusal) => Err(SpawnError::new(future, refusal)),
        }
    }

    /// Waits for the next value, in the order in which they come, and gives it with its task's index. None when there is none and no
    /// task is alive; a task that is spawned later has it wait again. Only of a group that
    /// [streams](TaskGroupBuilder::stream_results) its results; of another it waits for the end of all tasks and gives none.
    ///
    /// Failures are not values: they go to the [`join`](Self::join), which is still to be called. Where tasks are spawned by somebody who
    /// goes on beside this, spawn that into the group as well: then a task is alive until it has ended, and none is given only after that.
    ///
    /// # Cancel safety
    ///
    /// Safe. Dropped, no value is lost, and another who waits is woken for it.
    ///
    /// # Fairness
    ///
    /// Of several who wait, one is woken for each value, in the order in which they came; who comes at that moment may be faster, and then the
    /// one that was woken waits again, behind the others. How often that may happen has no bound.
    ///
    /// # Memory ordering
    ///
    /// What the task did, the drop of its future included, is visible after this completes with its value.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = TaskGroup::<_, String>::builder(&Context::background()).stream_results().build()?;
    /// for n in 0..100_u32 {
    ///     group.spawn(async move { Ok(n) }).await?;
    /// }
    /// let mut sum = 0;
    /// while let Some((_, n)) = group.next().await {
    ///     sum += n;
    /// }
    /// assert_eq!(sum, 4950);
    /// // Has anything failed?
    /// group.join().await.into_result()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`TaskGroup`](Self#algorithm); one more lock an end, for those who wait here.
    #[track_caller]
    pub fn next(&self) -> Next<'_, T, E> {
        Next::new(&self.engine)
    }

    /// The next value and its task's index, if one has come that nobody has taken: [`next`](Self::next) without the wait.
    pub fn try_next(&self) -> Option<(usize, T)> {
        self.engine.try_next()
    }

    /// Waits until every task has ended, and tells what became of them.
    ///
    /// The first poll closes the group: whoever waits for room, and whoever spawns later, is
    /// [refused](Refusal::Closed). Completes when no task is alive any more, at once if none was
    /// spawned. It does not end the tasks: [`cancel`](Self::cancel) does, or the context.
    ///
    /// The values and errors go to the first join that completes; a later one has the counts.
    ///
    /// # Cancel safety
    ///
    /// Safe. Dropping the future loses nothing: the group stays closed, and another join gets
    /// everything.
    ///
    /// # Fairness
    ///
    /// Several joins are all woken; which of them gets the values is open.
    ///
    /// # Memory ordering
    ///
    /// What the tasks did, the drops of their futures included, is visible after this completes.
    ///
    /// # Panics
    ///
    /// With the panic of a task, when all have ended: the first, unless the group
    /// [returns them](TaskGroupBuilder::return_panics). A text goes on as a `String` that tells the task's index and place, too; any
    /// other payload goes on as it is. The others are counted. A join after that has the values and errors.
    ///
    /// The future panics when it is polled after it was ready.
    ///
    /// # Examples
    ///
    /// Not longer than a while, then abort and see what there is:
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_cancel::Context;
    /// use selvedge_sync::TaskGroup;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = TaskGroup::<u32, String>::new(&Context::background());
    /// group.spawn(async { Ok(1) }).await?;
    /// group.spawn(std::future::pending()).await?;
    /// let joined = match tokio::time::timeout(Duration::from_secs(1), group.join()).await {
    ///     Ok(joined) => joined,
    ///     Err(_) => {
    ///         group.cancel();
    ///         group.join().await
    ///     }
    /// };
    /// assert_eq!(joined.results, [Some(1), None]);
    /// assert_eq!(joined.counts.cancelled, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// See [`TaskGroup`](Self#algorithm).
    #[track_caller]
    pub fn join(&self) -> Join<'_, T, E> {
        Join::new(&self.engine)
    }
}

impl<T, E> Drop for TaskGroup<T, E> {
    fn drop(&mut self) {
        self.engine.cancel(self.dropped.clone());
    }
}

impl<T, E> fmt::Debug for TaskGroup<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("origin", &self.origin)
            .field("counts", &self.counts())
            .field("closed", &self.engine.is_closed())
            .finish_non_exhaustive()
    }
}
