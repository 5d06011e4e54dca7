//! Blocking workers: a closure for each item, on the threads of a pool.
//!
//! One driver task feeds the stage: it reserves a slot of the window, pulls an item, and submits a
//! job that completes the slot from its thread, without waiting. While a job runs, its slot lies in
//! a [`Berth`] that the driver can reach: when the context is cancelled, the driver takes the slots
//! away, so that nothing waits for closures that do not look at their context.
//!
//! Closures see the run's context, not the pool's. So the driver also watches the pool's: when the
//! pool is aborted it cancels the run, and closures that look at their context end.

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

use selvedge_cancel::Context;
use selvedge_fanio::{Entry, Order, Slot, window};
use selvedge_pool::Pool;
use selvedge_primitives::{Mutex, Origin, Panic};

use crate::caught::CatchUnwind;
use crate::flow::{Build, Flow};
use crate::halt::Halt;
use crate::launch::Launch;
use crate::report::Counts;
use crate::skip::{Fallible, OnSkip};
use crate::window::{Last, Passed, WindowFlow, bad_window, refused};
use crate::{PipelineError, Stage};

impl<S: Build> Stage<S> {
    /// Applies a blocking function to each item, on the threads of `pool`, with up to `window`
    /// items submitted, under way, or finished and not yet taken. Needs a tokio runtime when it is
    /// run.
    ///
    /// With [`Order::Ordered`] the results keep the order of the items: a finished one waits in the
    /// window for those before it. The function is given the run's context, and should look at it
    /// now and then: when it is cancelled, nobody waits for the result any more, and a closure that
    /// does not look runs out on its pool, which names it. A closure that was queued is then not
    /// called.
    ///
    /// When the pool is aborted, the run is cancelled with [`PipelineError::PoolClosed`]; when the
    /// pool is stopping, the run ends with it after the items that the pool had accepted.
    ///
    /// An item that fails or panics ends the pipeline, as the table on the [crate's page](crate)
    /// says; failed items may be [skipped](Stage::skip_failed) instead.
    #[track_caller]
    pub fn blocking<U, E, F>(
        self,
        pool: &Arc<Pool>,
        window: usize,
        order: Order,
        f: F,
    ) -> Stage<Blocking<S, F>>
    where
        F: Fn(S::Item, &Context) -> Result<U, E> + Send + Sync + 'static,
        U: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let (upstream, pool) = (self.description, Arc::clone(pool));
        Stage::new(Blocking {
            upstream,
            pool,
            f,
            window,
            order,
            on_skip: None,
            origin: Origin::here(),
        })
    }
}

/// Blocking workers; from [`Stage::blocking`].
pub struct Blocking<S, F> {
    /// What comes before.
    upstream: S,
    /// Where the closures run.
    pool: Arc<Pool>,
    /// The function.
    f: F,
    /// How many places for results.
    window: usize,
    /// Which order.
    order: Order,
    /// Who is told of failed items, if they are skipped.
    on_skip: Option<OnSkip>,
    /// Name and place.
    origin: Origin,
}

impl<S, F> fmt::Debug for Blocking<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocking({})", self.origin)
    }
}

impl<S, F, U, E> Build for Blocking<S, F>
where
    S: Build,
    F: Fn(S::Item, &Context) -> Result<U, E> + Send + Sync + 'static,
    U: Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    type Item = U;
    type Flow = WindowFlow<U>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let upstream = self.upstream.build(launch)?;
        let counts = launch.stage(self.origin, "blocking");
        if let Some(error) = bad_window(counts.name(), 1, self.window) {
            return Err(error);
        }
        let made = window(self.window, self.order);
        let (entry, exit) = made.map_err(|error| refused(counts.name(), &error))?;
        let last = Last::new();
        let stage = counts.name();
        let driver = Driver {
            entry,
            last: last.clone(),
            ctx: launch.ctx.clone(),
            halt: launch.halt.clone(),
            skips: self.on_skip.is_some(),
            pool: self.pool,
            f: Arc::new(self.f),
            counts: Arc::clone(&counts),
        };
        launch.drivers.push(Box::pin(driver.drive(upstream)));
        // A job is dropped unrun only when its pool is aborted.
        let lost = Box::new(move |index| PipelineError::PoolClosed { stage: stage.clone(), index });
        Ok(WindowFlow {
            exit,
            last,
            ctx: launch.ctx.clone(),
            counts,
            on_skip: self.on_skip,
            gaps: false,
            lost,
        })
    }
}

impl<S, F> Fallible for Blocking<S, F>
where
    Self: Build,
{
    fn skip_failed(&mut self, on_skip: OnSkip) {
        self.on_skip = Some(on_skip);
    }
}

/// Where the slot of a job lies until the job completes it, or the driver takes it away.
struct Berth<U>(
    /// The slot; none once somebody has taken it.
    Mutex<Option<Slot<Passed<U>>>>,
);

impl<U> Berth<U> {
    /// Takes the slot, if it is still there.
    fn take(&self) -> Option<Slot<Passed<U>>> {
        self.0.lock().take()
    }
}

impl<U> Berth<U> {
    /// Whether somebody has taken the slot.
    fn is_taken(&self) -> bool {
        self.0.lock().is_none()
    }
}

/// The berths of the jobs under way.
struct Berths<U> {
    /// Those under way, and some whose slot has been taken.
    berths: Vec<Arc<Berth<U>>>,
    /// How many there may be before the taken ones are thrown out.
    limit: usize,
}

impl<U> Berths<U> {
    /// None.
    fn new() -> Self {
        Self { berths: Vec::new(), limit: Self::FEW }
    }

    /// With so few it is not worth looking.
    const FEW: usize = 16;

    /// Adds one. Keeps at most twice as many as are under way, and a few: each time half of them
    /// can be gone, so an addition costs a constant on average.
    fn push(&mut self, berth: Arc<Berth<U>>) {
        if self.berths.len() >= self.limit {
            self.berths.retain(|berth| !berth.is_taken());
            self.limit = self.berths.len().saturating_mul(2).max(Self::FEW);
        }
        self.berths.push(berth);
    }

    /// Takes every slot that is still there.
    fn take_all(self) {
        for berth in self.berths {
            drop(berth.take());
        }
    }
}

/// A job's hold on its berth: a job that is dropped unrun leaves a gap.
struct Moored<U> {
    /// Shared with the driver.
    berth: Arc<Berth<U>>,
    /// Tells the driver when the last job is gone.
    _running: async_channel::Sender<()>,
}

impl<U> Drop for Moored<U> {
    fn drop(&mut self) {
        drop(self.berth.take());
    }
}

/// What is submitted to the pool. When it is dropped unrun, the driver is told last.
struct Job<T, U, F> {
    /// What the function is applied to.
    item: T,
    /// How many items entered before.
    index: u64,
    /// The function.
    f: Arc<F>,
    /// The run's.
    ctx: Context,
    /// Ends the source.
    halt: Halt,
    /// Whether failed items are skipped.
    skips: bool,
    /// The stage.
    counts: Arc<Counts>,
    /// Where the result goes.
    moored: Moored<U>,
}

impl<T, U, F> Job<T, U, F> {
    /// Applies the function and completes the slot.
    fn run<E>(self)
    where
        F: Fn(T, &Context) -> Result<U, E>,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        // First, so that it goes last: the driver is told when all else is gone.
        let moored = self.moored;
        let (item, index, f, ctx, halt) = (self.item, self.index, self.f, self.ctx, self.halt);
        if ctx.is_cancelled() {
            return;
        }
        let result = catch_unwind(AssertUnwindSafe(|| f(item, &ctx).map_err(Into::into)));
        // Taken away: nobody waits, and the item is left.
        let Some(slot) = moored.berth.take() else { return };
        let stage = || self.counts.name();
        let error = match result {
            Ok(Ok(value)) => return slot.complete(Passed::Item(value)),
            Ok(Err(error)) if self.skips => {
                return slot.complete(Passed::Skipped { index, error });
            }
            Ok(Err(error)) => PipelineError::Failed { stage: stage(), index, error },
            Err(payload) => {
                PipelineError::Panicked { stage: stage(), index, panic: Panic::new(payload) }
            }
        };
        // In the window before the source is stopped: unordered, it is seen first.
        slot.complete(Passed::Failed(error));
        halt.halt();
    }
}

/// Feeds the pool.
struct Driver<U, F> {
    /// Where results go.
    entry: Entry<Passed<U>>,
    /// Why it stopped feeding.
    last: Last,
    /// The run's.
    ctx: Context,
    /// Ends the source.
    halt: Halt,
    /// Whether failed items are skipped.
    skips: bool,
    /// Where the closures run.
    pool: Arc<Pool>,
    /// The function.
    f: Arc<F>,
    /// What went through.
    counts: Arc<Counts>,
}

impl<U: Send + 'static, F: Send + Sync + 'static> Driver<U, F> {
    /// Feeds until the upstream ends, the sink is gone, the pool is closed or the context is
    /// cancelled; then waits for the jobs, or takes their slots away.
    async fn drive<S, E>(self, upstream: S)
    where
        S: Flow,
        F: Fn(S::Item, &Context) -> Result<U, E>,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let mut aborted = pin!(self.pool.context().cancelled());
        let mut watching = true;
        let mut driven = pin!(self.feed_and_wait(upstream));
        poll_fn(|cx| {
            if watching && aborted.as_mut().poll(cx).is_ready() {
                watching = false;
                // Not when the pool ends with a context that this run is under.
                if !self.ctx.is_cancelled() {
                    let (stage, index) = (self.counts.name(), self.counts.read().entered);
                    self.halt.abort(PipelineError::PoolClosed { stage, index });
                }
            }
            driven.as_mut().poll(cx)
        })
        .await;
    }

    /// The driver's work, without an eye on the pool.
    async fn feed_and_wait<S, E>(&self, upstream: S)
    where
        S: Flow,
        F: Fn(S::Item, &Context) -> Result<U, E>,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let mut berths = Berths::new();
        // Each job holds a sender, so the receiver is told when the last job is gone.
        let (running, all_gone) = async_channel::bounded::<()>(1);
        // A destructor of the upstream that panics must not leave the jobs unwatched.
        let fed = CatchUnwind::new(self.feed(upstream, &mut berths, running));
        if let Err(panic) = fed.await {
            let (stage, index) = (self.counts.name(), self.counts.read().entered);
            self.halt.fault.panicked(stage, index, panic);
        }
        self.last.settle();
        // Closes the window: it ends when everything that was reserved is emitted.
        self.entry.close();
        if self.ctx.run(all_gone.recv()).await.is_err() {
            berths.take_all();
        }
    }

    /// Feeds until there is nothing more to feed.
    async fn feed<S, E>(
        &self,
        upstream: S,
        berths: &mut Berths<U>,
        running: async_channel::Sender<()>,
    ) where
        S: Flow,
        F: Fn(S::Item, &Context) -> Result<U, E>,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let mut upstream = pin!(upstream);
        loop {
            let slot = match self.ctx.run(self.entry.reserve()).await {
                Ok(Ok(slot)) => slot,
                // The sink is gone.
                Ok(Err(_)) => return,
                Err(cause) => return self.last.set(PipelineError::Ended(cause)),
            };
            let item = match poll_fn(|cx| upstream.as_mut().poll_next(cx)).await {
                Some(Ok(item)) => item,
                Some(Err(error)) => return slot.complete(self.last.turn(error)),
                None => return slot.complete(Passed::Unused),
            };
            let index = self.counts.enter();
            let berth = Arc::new(Berth(Mutex::new(Some(slot))));
            berths.push(Arc::clone(&berth));
            let job = Job {
                item,
                index,
                f: Arc::clone(&self.f),
                ctx: self.ctx.clone(),
                halt: self.halt.clone(),
                skips: self.skips,
                counts: Arc::clone(&self.counts),
                moored: Moored { berth: Arc::clone(&berth), _running: running.clone() },
            };
            match self.ctx.run(self.pool.submit(move |_: &Context| job.run())).await {
                Ok(Ok(_handle)) => {}
                Ok(Err(refused)) => {
                    if let Some(slot) = berth.take() {
                        let stage = self.counts.name();
                        let error = PipelineError::PoolClosed { stage, index };
                        slot.complete(Passed::Error(error));
                    }
                    drop(refused);
                    return;
                }
                Err(cause) => return self.last.set(PipelineError::Ended(cause)),
            }
        }
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn berths_of_jobs_that_are_done_take_no_memory() {
        let (entry, mut exit) = window::<Passed<()>>(2, Order::Unordered).unwrap();
        let mut berths = Berths::new();
        let mut moor = || {
            let berth = Arc::new(Berth(Mutex::new(Some(entry.try_reserve().unwrap()))));
            berths.push(Arc::clone(&berth));
            assert!(berths.berths.len() <= Berths::<()>::FEW);
            berth
        };
        // The first job is slow; a great many pass it by.
        let slow = moor();
        for _ in 0..1000 {
            moor().take().unwrap().complete(Passed::Unused);
            exit.try_next().unwrap();
        }
        assert!(!slow.is_taken());
        berths.take_all();
        assert!(slow.is_taken());
    }
}
