//! Fan-out and fan-in: the items go through one of several lanes, each with stages of its own, and
//! come together behind them.
//!
//! # Protocol
//!
//! fanio's fan-out lies between what comes before and the lanes, its merge behind them. The feed of the
//! fan-out is a task of the run; a lane takes its items wherever its first stage pulls.
//!
//! 1. The feed sees the end of the run only as a cancel: at a stop, what comes before ends by itself,
//!    and has then given everything that it had begun.
//! 2. A lane that finds an item when the run is cancelled drops it, and ends early.
//! 3. The route is strict: what is for a lane that is gone is never worked on by another one, whose stages
//!    may be others, or beside what that lane still has under way of the same key. Nothing more is read
//!    then: the run is ending for some other reason, or the lane was never there.
//! 4. When all lanes have ended, the end waits for the feed's: it has nothing more to do then, or its task
//!    was dropped. Either way it drops the canceller of a context of its own, and that is what the end
//!    waits for. The reason that is told is the first of these that there is: what came before the branch
//!    failed; an item was for no lane; the run was ended before the source; the runtime is gone. A panic of
//!    the route, or of a destructor, is [noted](Fault::note): it is nobody's item.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use pin_project::{pin_project, pinned_drop};
use selvedge_cancel::{Cancelled, Canceller, Context};
use selvedge_fanio::{FanOut, Outlet, Route, fan_out};
use selvedge_primitives::atomic::Ordering;
use selvedge_primitives::{Mutex, Origin, Panic, contain, drop_each};

use crate::caught::CatchUnwind;
use crate::fault::Fault;
use crate::flow::{Build, Flow, Next};
use crate::lanes::Lanes;
use crate::launch::Launch;
use crate::report::{Counts, LocalCounts};
use crate::{PipelineError, Stage};

/// How many items wait before a lane, if it was not said.
const CAPACITY: usize = 16;

impl<S: Build> Stage<S> {
    /// Fan-out, and fan-in behind it: each item goes through one of `lanes` lanes, as `route` says;
    /// `stages` makes the stages of each, given its number; what comes out of all of them goes on as it
    /// comes. Needs a tokio runtime when it is run.
    ///
    /// | you want | `route` | `stages` |
    /// |---|---|---|
    /// | to treat some items in another way | [`Route::by_index`] | stages by number, [boxed](Self::boxed) |
    /// | the items of a key one after the other, those of several at once | [`Route::by_key`] | one worker each |
    /// | to share the items among equal lanes | [`Route::shared`], [`Route::round_robin`] | the same for all |
    ///
    /// What comes before is pulled by a task of its own, into a bounded queue before each lane
    /// ([`capacity`](Self::capacity)); a lane takes its items in the loop of whoever pulls behind it, or
    /// in the task of its workers. So a lane whose queue is full holds up those that the items behind
    /// are for. Items of one lane stay in their order as far as its stages keep it; those of several
    /// lanes do not.
    ///
    /// A failure in a lane ends the run as one in an unordered stage does: it goes on at once, and what
    /// the others have under way is left. A failure of what comes before goes on behind everything that
    /// came before it. At a stop, what was begun is finished.
    ///
    /// In the [report](crate::Report) a `branch` row says how many items were pulled (`entered`) and
    /// taken by a lane (`passed`), and each lane has a `lane` row and those of its stages behind it.
    ///
    /// # Errors
    ///
    /// The run ends at once with [`PipelineError::BadStage`] for no lanes, or more than 65,535, or for
    /// a capacity of zero. It ends with [`PipelineError::Failed`] behind what came before when
    /// the route names a lane that is not there, be it that there never was one of that number or that
    /// `stages` dropped it. When it dropped them all, that is told whatever the source has.
    ///
    /// # Examples
    ///
    /// Small numbers at once, large ones by two workers:
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::{Order, Route, from_iter};
    ///
    /// # tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(async {
    /// let by_size = Route::by_index(|number: &u64| usize::from(*number >= 100));
    /// let ended = from_iter([3, 500, 20, 1_000])
    ///     .branch(2, by_size, |lane, numbers| match lane {
    ///         0 => numbers.map(|number| (number, "small")).boxed(),
    ///         _ => numbers
    ///             .workers(2, Order::Unordered, |number| async move {
    ///                 Ok::<_, std::io::Error>((number, "large"))
    ///             })
    ///             .boxed(),
    ///     })
    ///     .collect()
    ///     .run(&Context::background())
    ///     .await;
    /// let mut sorted = ended.ok().unwrap();
    /// sorted.sort();
    /// assert_eq!(sorted, [(3, "small"), (20, "small"), (500, "large"), (1_000, "large")]);
    /// # });
    /// ```
    ///
    /// # Algorithm
    ///
    /// fanio's fan-out and merge. An item costs a lock on each side of the lane's queue, and a virtual
    /// call behind the lane.
    #[track_caller]
    pub fn branch<B, F>(
        self,
        lanes: usize,
        route: Route<S::Item>,
        stages: F,
    ) -> Stage<Branched<S, F>>
    where
        B: Build,
        F: FnMut(usize, Stage<Lane<S::Item>>) -> Stage<B> + Send + 'static,
    {
        let (upstream, origin) = (self.description, Origin::here());
        Stage::new(Branched { upstream, lanes, capacity: CAPACITY, route, stages, origin })
    }
}

impl<S: Build, F> Stage<Branched<S, F>> {
    /// How many items wait before each lane at most, or with [`Route::shared`] before all of them; 16
    /// if not said.
    pub fn capacity(mut self, items: usize) -> Self {
        self.description.capacity = items;
        self
    }
}

/// Items that go through one of several lanes; from [`Stage::branch`].
pub struct Branched<S: Build, F> {
    /// What comes before.
    upstream: S,
    /// How many lanes.
    lanes: usize,
    /// How many items wait before each.
    capacity: usize,
    /// Which one an item goes through.
    route: Route<S::Item>,
    /// Makes the stages of a lane.
    stages: F,
    /// Name and place.
    origin: Origin,
}

impl<S: Build, F> fmt::Debug for Branched<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Branched({} lanes, {:?}, {})", self.lanes, self.route, self.origin)
    }
}

impl<S, B, F> Build for Branched<S, F>
where
    S: Build,
    B: Build,
    F: FnMut(usize, Stage<Lane<S::Item>>) -> Stage<B> + Send + 'static,
{
    type Item = B::Item;
    type Flow = BranchFlow<B::Item>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let Self { upstream, lanes, capacity, route, mut stages, origin } = self;
        let flow = upstream.build(launch)?;
        let place = origin.clone();
        let counts = launch.stage(origin, "branch");
        let fed = Arc::new(Fed::new(counts));
        let fault = launch.fault.clone();
        let upstream = Upstream { flow: Some(flow), fed: Arc::clone(&fed), fault: fault.clone() };
        // Rules 1 and 3.
        let made = fan_out(upstream, lanes, capacity, route.strict(), &Context::background());
        let (feed, outlets) = made.map_err(|error| {
            let what = format!("has impossible lanes: {error}");
            PipelineError::BadStage { stage: fed.counts.name(), what }
        })?;
        let mut flows = Vec::with_capacity(lanes);
        for (lane, outlet) in outlets.into_iter().enumerate() {
            let (fed, origin) = (Arc::clone(&fed), place.clone().named(format!("lane {lane}")));
            let lane = stages(lane, Stage::new(Lane { outlet, fed, origin }));
            flows.push(lane.boxed().description.build(launch)?);
        }
        let (over, canceller) = Context::background().child();
        let over = Box::pin(over.cancelled_owned());
        let driver = drive(feed, launch.ctx.clone(), fault.clone(), Arc::clone(&fed), canceller);
        launch.drivers.push(Box::pin(driver));
        Ok(BranchFlow { lanes: Lanes::new(flows, fault), fed, over })
    }
}

/// What the feed and the lanes share.
pub(crate) struct Fed {
    /// What was pulled, and what the lanes took.
    counts: Arc<Counts>,
    /// How the feed ended.
    end: Mutex<End>,
}

/// How a feed ended.
struct End {
    /// What came before came to its end.
    exhausted: bool,
    /// What came before ended with an error.
    error: Option<PipelineError>,
    /// An item was for no lane: which.
    misrouted: Option<u64>,
    /// What ended the feed's task from outside.
    cut: Option<PipelineError>,
}

impl Fed {
    /// Of a feed that has not begun.
    fn new(counts: Arc<Counts>) -> Self {
        // What is so until its task says something else, or if it never does.
        let cut = Some(PipelineError::NoRuntime);
        Self {
            counts,
            end: Mutex::new(End { exhausted: false, error: None, misrouted: None, cut }),
        }
    }

    /// Rule 4: what is told when all is over, and one of the lanes ended `early` perhaps.
    fn reason(&self, early: Option<PipelineError>) -> Option<PipelineError> {
        let mut end = self.end.lock();
        let (error, misrouted, cut) = (end.error.take(), end.misrouted.take(), end.cut.take());
        let exhausted = end.exhausted;
        drop(end);
        let counts = self.counts.read();
        // A cancel that came too late to lose anything.
        let late = exhausted && counts.entered == counts.passed;
        let cut = cut.filter(|cut| !(late && matches!(cut, PipelineError::Ended(_))));
        let is_failure =
            error.as_ref().is_some_and(|error| !matches!(error, PipelineError::Ended(_)));
        let Some(index) = misrouted.filter(|_| !is_failure) else {
            return error.or(early).or(cut);
        };
        if counts.entered > counts.passed {
            // Relaxed: see `Counts::read` for the reader.
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        let error = "the route names a lane that is not there".into();
        Some(PipelineError::Failed { stage: counts.name, index, error })
    }
}

/// Runs the feed of a fan-out until it has ended or the run is cancelled. Dropping `over` tells that
/// nothing more comes, also when the runtime drops this.
async fn drive<S: Flow>(
    feed: FanOut<Upstream<S>>,
    ctx: Context,
    fault: Fault,
    fed: Arc<Fed>,
    over: Canceller,
) {
    let note = |panic| {
        let counts = fed.counts.read();
        fault.panicked(counts.name, counts.entered.saturating_sub(1), panic);
    };
    let tell = |misrouted, cut| {
        let mut end = fed.end.lock();
        (end.misrouted, end.cut) = (misrouted, cut);
    };
    let feeding = CatchUnwind::new(async {
        let mut feeding = pin!(CatchUnwind::new(ctx.run(feed)));
        match feeding.as_mut().await {
            Ok(Ok(report)) => {
                // The feed's own context has no end. Where not even that of the run has ended, a lane
                // that is gone was never there, or was thrown away.
                let misrouted = !report.complete || !report.left.is_empty();
                match ctx.check() {
                    Err(cause) if misrouted => tell(None, Some(PipelineError::Ended(cause))),
                    _ => tell(misrouted.then(|| report.read.saturating_sub(1)), None),
                }
                drop_each(report.left);
            }
            Ok(Err(cause)) => tell(None, Some(PipelineError::Ended(cause))),
            Err(panic) => {
                tell(None, None);
                note(panic);
            }
        }
        // The feed goes here, which closes the lanes if it had not ended.
    });
    if let Err(panic) = feeding.await {
        note(panic);
    }
    // Wakes the other side.
    contain(|| drop(over));
}

/// What comes before a branch, as a stream.
#[pin_project(PinnedDrop)]
struct Upstream<S> {
    /// What comes before; none only while it is dropped.
    #[pin]
    flow: Option<S>,
    /// Where its end is told.
    fed: Arc<Fed>,
    /// Where a panic of its destructor is noted.
    fault: Fault,
}

// The feed would take it for a panic of its source, and lose what it was about to report.
#[pinned_drop]
impl<S> PinnedDrop for Upstream<S> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| this.flow.set(None))) {
            let counts = this.fed.counts.read();
            this.fault.panicked(counts.name, counts.entered, Panic::new(payload));
        }
    }
}

impl<S: Flow> Stream for Upstream<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        let flow = this.flow.as_pin_mut().expect("polled before it is dropped");
        Poll::Ready(match ready!(flow.poll_next(cx)) {
            Some(Ok(item)) => {
                this.fed.counts.enter();
                Some(item)
            }
            Some(Err(error)) => {
                this.fed.end.lock().error = Some(error);
                None
            }
            None => {
                this.fed.end.lock().exhausted = true;
                None
            }
        })
    }
}

/// The beginning of a lane; what [`Stage::branch`] gives to the function that makes the stages.
pub struct Lane<T: Send + 'static> {
    /// Where its items come out.
    outlet: Outlet<T>,
    /// Where they are counted.
    fed: Arc<Fed>,
    /// Name and place.
    origin: Origin,
}

impl<T: Send + 'static> fmt::Debug for Lane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({})", self.origin)
    }
}

impl<T: Send + 'static> Build for Lane<T> {
    type Item = T;
    type Flow = LaneFlow<T>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let counts = LocalCounts::new(launch.stage(self.origin, "lane"));
        let (ctx, fault) = (launch.ctx.clone(), launch.fault.clone());
        Ok(LaneFlow { outlet: self.outlet, fed: self.fed, ctx, fault, counts })
    }
}

/// The beginning of a lane that is being run.
pub struct LaneFlow<T: Send + 'static> {
    /// Where its items come out.
    outlet: Outlet<T>,
    /// Where they are counted.
    fed: Arc<Fed>,
    /// The run's.
    ctx: Context,
    /// Where a panic is noted.
    fault: Fault,
    /// What went through.
    counts: LocalCounts,
}

impl<T: Send + 'static> fmt::Debug for LaneFlow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneFlow").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Flow for LaneFlow<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<T> {
        let this = &mut *self;
        let Poll::Ready(item) = Pin::new(&mut this.outlet).poll_next(cx) else {
            this.counts.publish();
            return Poll::Pending;
        };
        let Some(item) = item else { return Poll::Ready(None) };
        if let Err(cause) = this.ctx.check() {
            // Rule 2.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(item))) {
                let (stage, index) = (this.counts.name(), this.counts.entered as u64);
                this.fault.panicked(stage, index, Panic::new(payload));
            }
            return Poll::Ready(Some(Err(PipelineError::Ended(cause))));
        }
        this.counts.entered += 1;
        this.counts.passed += 1;
        // Relaxed: see `Counts::read` for the reader.
        this.fed.counts.passed.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(item)))
    }
}

/// Lanes that are being run.
pub struct BranchFlow<T: Send + 'static> {
    /// The lanes.
    lanes: Lanes<T>,
    /// What feeds them.
    fed: Arc<Fed>,
    /// Tells that the feed is over.
    over: Pin<Box<Cancelled<'static>>>,
}

impl<T: Send + 'static> fmt::Debug for BranchFlow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BranchFlow").finish_non_exhaustive()
    }
}

// The lanes are pinned where they are.
impl<T: Send + 'static> Unpin for BranchFlow<T> {}

impl<T: Send + 'static> Flow for BranchFlow<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<T> {
        let this = &mut *self;
        let counts = &this.fed.counts;
        let place = || (counts.name(), counts.read().entered);
        let Some(next) = ready!(this.lanes.poll(cx, place)) else {
            ready!(this.over.as_mut().poll(cx));
            return Poll::Ready(this.fed.reason(this.lanes.early()).map(Err));
        };
        Poll::Ready(Some(next))
    }
}
