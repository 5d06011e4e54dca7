//! Blocking workers: a closure for each item, on the threads of a pool.
//!
//! One driver task feeds the stage: it reserves a slot of the window, pulls an item, and submits a
//! job that completes the slot from its thread, without waiting. While a job runs, its slot lies in
//! a [`Berth`] that the driver can reach: when the context is cancelled, the driver takes the slots
//! away, so that nothing waits for closures that do not look at their context.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

use selvedge_cancel::Context;
use selvedge_fanio::{Entry, Order, Slot, window};
use selvedge_pool::Pool;
use selvedge_primitives::{Mutex, Origin};

use crate::error::Panic;
use crate::flow::{Build, Flow};
use crate::halt::Halt;
use crate::launch::Launch;
use crate::report::Counts;
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
    /// does not look runs out on its pool, which names it.
    ///
    /// An item that fails or panics ends the pipeline, as the table on the [crate's page](crate)
    /// says.
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
        Stage::new(Blocking { upstream, pool, f, window, order, origin: Origin::here() })
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
        let last = Last::default();
        let stage = counts.name();
        let driver = Driver {
            entry,
            last: last.clone(),
            ctx: launch.ctx.clone(),
            halt: launch.halt.clone(),
            pool: self.pool,
            order: self.order,
            f: Arc::new(self.f),
            counts,
        };
        launch.drivers.push(Box::pin(driver.drive(upstream)));
        // A job is dropped unrun only when its pool is aborted.
        let lost = Box::new(move |index| PipelineError::PoolClosed { stage: stage.clone(), index });
        Ok(WindowFlow { exit, last, ctx: launch.ctx.clone(), lost })
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

/// A job's hold on its berth: a job that is dropped unrun leaves a gap.
struct Moored<U>(
    /// Shared with the driver.
    Arc<Berth<U>>,
);

impl<U> Drop for Moored<U> {
    fn drop(&mut self) {
        drop(self.0.take());
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
    /// Where the closures run.
    pool: Arc<Pool>,
    /// Which order.
    order: Order,
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
        let mut berths: VecDeque<Arc<Berth<U>>> = VecDeque::new();
        // Each job holds a sender, so the receiver is told when the last job is gone.
        let (running, all_gone) = async_channel::bounded::<()>(1);
        {
            let mut upstream = pin!(upstream);
            loop {
                while berths.front().is_some_and(|berth| berth.0.lock().is_none()) {
                    berths.pop_front();
                }
                let slot = match self.ctx.run(self.entry.reserve()).await {
                    Ok(Ok(slot)) => slot,
                    // The sink is gone.
                    Ok(Err(_)) => break,
                    Err(cause) => {
                        self.last.set(PipelineError::Ended(cause));
                        break;
                    }
                };
                let item = match poll_fn(|cx| upstream.as_mut().poll_next(cx)).await {
                    Some(Ok(item)) => item,
                    Some(Err(error)) => {
                        let now = self.last.or_now(self.order, error);
                        slot.complete(now.map_or(Passed::Unused, Passed::Error));
                        break;
                    }
                    None => {
                        slot.complete(Passed::Unused);
                        break;
                    }
                };
                let ticket = self.counts.enter();
                let index = ticket.index();
                let berth = Arc::new(Berth(Mutex::new(Some(slot))));
                berths.push_back(Arc::clone(&berth));
                let (f, ctx, halt) = (Arc::clone(&self.f), self.ctx.clone(), self.halt.clone());
                let (moored, running) = (Moored(Arc::clone(&berth)), running.clone());
                let job = move |_: &Context| {
                    let (moored, _running) = (moored, running);
                    let result = catch_unwind(AssertUnwindSafe(|| f(item, &ctx)));
                    // Taken away: nobody waits, and the ticket counts the item as left.
                    let Some(slot) = moored.0.take() else { return };
                    let stage = ticket.stage();
                    let error = match result {
                        Ok(Ok(value)) => return slot.complete(Passed::Item(value, ticket)),
                        Ok(Err(error)) => {
                            PipelineError::Failed { stage, index, error: error.into() }
                        }
                        Err(payload) => {
                            PipelineError::Panicked { stage, index, panic: Panic::new(payload) }
                        }
                    };
                    ticket.failed();
                    // In the window before the source is stopped: unordered, it is seen first.
                    slot.complete(Passed::Error(error));
                    halt.halt();
                };
                match self.ctx.run(self.pool.submit(job)).await {
                    Ok(Ok(_handle)) => {}
                    Ok(Err(refused)) => {
                        if let Some(slot) = berth.take() {
                            let stage = self.counts.name();
                            slot.complete(Passed::Error(PipelineError::PoolClosed {
                                stage,
                                index,
                            }));
                        }
                        drop(refused);
                        break;
                    }
                    Err(cause) => {
                        self.last.set(PipelineError::Ended(cause));
                        break;
                    }
                }
            }
        }
        // Closes the window: it ends when everything that was reserved is emitted.
        drop(self.entry);
        drop(running);
        if self.ctx.run(all_gone.recv()).await.is_err() {
            for berth in berths {
                drop(berth.take());
            }
        }
    }
}
