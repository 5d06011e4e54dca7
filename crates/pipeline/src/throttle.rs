//! A stage at the pace of a limiter: each item takes a token before it goes on.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::pin_project;
use selvedge_cancel::Cancelled;
use selvedge_primitives::Origin;
use selvedge_ratelimit::{Acquire, AcquireError, Limiter};

use crate::flow::{Build, Flow, Next};
use crate::launch::Launch;
use crate::report::LocalCounts;
use crate::{PipelineError, Stage};

impl<S: Build> Stage<S> {
    /// Lets the items through at the pace of `limiter`: each takes one token, in the loop of whoever
    /// pulls.
    ///
    /// The item is pulled first, so that no token is spent on a source that has nothing; one item waits
    /// at a time, in the limiter's line with all others who use it. That wait is part of finishing what
    /// was accepted, so a stop leaves it alone, and a cancel ends it; the item is then counted as left.
    ///
    /// # Errors
    ///
    /// The run ends with [`PipelineError::NoTimer`] when an item has to wait and the limiter's timer is
    /// gone, with the runtime that drove it; with [`PipelineError::NoToken`] when the limiter is closed, or as many wait for it as may. The
    /// item is counted as left.
    ///
    /// # Examples
    ///
    /// Five a second, the first three at once:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::from_iter;
    /// use selvedge_ratelimit::{Limiter, Rate, Timer};
    ///
    /// # tokio::runtime::Builder::new_current_thread()
    /// #     .enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let limiter = Limiter::with_timer(Rate::per_second(5).burst(3), Timer::ambient().unwrap());
    /// let start = tokio::time::Instant::now();
    /// let ended = from_iter(0..13)
    ///     .throttle(&limiter)
    ///     .for_each(|n| println!("{n}"))
    ///     .run(&Context::background())
    ///     .await;
    /// assert!(ended.error.is_none());
    /// assert_eq!(start.elapsed(), Duration::from_secs(2));
    /// # });
    /// ```
    ///
    /// # Algorithm
    ///
    /// [`Limiter::acquire_owned`] for each item: one compare-and-swap and a reference count while there are
    /// tokens, a place in the limiter's line when there are none. Nothing is allocated by the stage.
    #[track_caller]
    pub fn throttle(self, limiter: &Limiter) -> Stage<Throttled<S>> {
        let (upstream, limiter) = (self.description, limiter.clone());
        Stage::new(Throttled { upstream, limiter, origin: Origin::here() })
    }
}

/// Items at the pace of a limiter; from [`Stage::throttle`].
pub struct Throttled<S> {
    /// What comes before.
    upstream: S,
    /// The limiter.
    limiter: Limiter,
    /// Name and place.
    origin: Origin,
}

impl<S> fmt::Debug for Throttled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Throttled({:?}, {})", self.limiter.quota(), self.origin)
    }
}

impl<S: Build> Build for Throttled<S> {
    type Item = S::Item;
    type Flow = ThrottleFlow<S::Flow>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let upstream = self.upstream.build(launch)?;
        let counts = LocalCounts::new(launch.stage(self.origin, "throttle"));
        let cancelled = launch.ctx.cancelled_owned();
        let (limiter, item, acquire) = (self.limiter, None, None);
        Ok(ThrottleFlow { upstream, limiter, item, acquire, cancelled, counts })
    }
}

/// Items that are being let through.
#[pin_project]
pub struct ThrottleFlow<S: Flow> {
    /// What comes before.
    #[pin]
    upstream: S,
    /// The limiter.
    limiter: Limiter,
    /// The item that waits for its token.
    item: Option<S::Item>,
    /// The wait for it.
    #[pin]
    acquire: Option<Acquire<'static>>,
    /// Wakes the stage when the run is cancelled; upstream nobody is asked while an item waits.
    #[pin]
    cancelled: Cancelled<'static>,
    /// What went through.
    counts: LocalCounts,
}

impl<S: Flow> fmt::Debug for ThrottleFlow<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottleFlow").finish_non_exhaustive()
    }
}

impl<S: Flow> Flow for ThrottleFlow<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<S::Item> {
        let mut this = self.project();
        if this.item.is_none() {
            let polled = this.upstream.poll_next(cx);
            if polled.is_pending() {
                this.counts.publish();
            }
            match ready!(polled) {
                Some(Ok(item)) => *this.item = Some(item),
                end => return Poll::Ready(end),
            }
            this.counts.entered += 1;
            this.acquire.set(Some(this.limiter.acquire_owned(1)));
        }
        let acquire = this.acquire.as_mut().as_pin_mut().expect("there with the item");
        let Poll::Ready(acquired) = acquire.poll(cx) else {
            this.counts.publish();
            let cause = ready!(this.cancelled.poll(cx));
            return Poll::Ready(Some(Err(PipelineError::Ended(cause))));
        };
        this.acquire.set(None);
        match acquired {
            Ok(()) => {
                this.counts.passed += 1;
                Poll::Ready(this.item.take().map(Ok))
            }
            Err(AcquireError::NoTimer(error)) => {
                let stage = this.counts.name();
                Poll::Ready(Some(Err(PipelineError::NoTimer { stage, error })))
            }
            Err(error) => {
                let stage = this.counts.name();
                Poll::Ready(Some(Err(PipelineError::NoToken { stage, error })))
            }
        }
    }
}
