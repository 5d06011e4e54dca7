//! Batches by count and time: the description and its flow. When a batch is complete is the
//! [engine](engine)'s.

mod engine;

use std::fmt;
use std::pin::Pin;
use std::task::Context as TaskContext;
use std::time::Duration;

use pin_project::pin_project;
use selvedge_cancel::Timer;
use selvedge_primitives::Origin;

use crate::alarm::Alarm;
use crate::flow::{Build, Flow, Next};
use crate::launch::Launch;
use crate::report::{BATCH, LocalCounts};
use crate::{PipelineError, Stage};
use engine::{Batcher, Delay};

impl<S: Build> Stage<S> {
    /// Gathers the items into batches of up to `size`, none of which waits longer than `max_delay`
    /// for the items that would fill it. In the loop of whoever pulls.
    ///
    /// A batch goes on when it has `size` items, or `max_delay` after its first item came, or when
    /// the source has come to its end, whatever ended it; an error comes after the batch of the items
    /// before it. No batch is empty. The delay is kept by the stage's [timer](Self::timer), also while
    /// the source is pending, but only while somebody pulls: a sink without room makes a batch wait.
    ///
    /// | `max_delay` | a batch goes on |
    /// |---|---|
    /// | zero | with what is there at once: as soon as the source is pending. No timer is needed |
    /// | some time | after that time, to the precision of the timer, never earlier |
    /// | [`Duration::MAX`], or beyond the end of the clock | when it is full, or at the end. No timer is needed for the former |
    ///
    /// In the [report](crate::StageReport) all counts of the stage are in items, but for
    /// [`emitted`](crate::StageReport::emitted), which is in batches. When the run is cancelled, the
    /// batch in hand goes on if there is room for it, and its items are left if not.
    ///
    /// A batch takes the memory of its items; a `size` that is never reached takes no more.
    ///
    /// # Errors
    ///
    /// The run ends at once with [`PipelineError::BadStage`] when `size` is zero, and with
    /// [`PipelineError::NoTimer`] in a runtime without its time driver. When the runtime that drives
    /// the timer is shut down, the run ends with the latter after the batch in hand.
    ///
    /// # Examples
    ///
    /// Three at once, or what has come within a second:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::generate;
    ///
    /// # tokio::runtime::Builder::new_current_thread()
    /// #     .enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let ended = generate(|y| async move {
    ///     for n in 1..=5 {
    ///         y.give(n).await;
    ///     }
    ///     tokio::time::sleep(Duration::from_secs(60)).await;
    ///     y.give(6).await;
    ///     Ok::<_, std::io::Error>(())
    /// })
    /// .batch(3, Duration::from_secs(1))
    /// .collect()
    /// .run(&Context::background())
    /// .await;
    /// assert_eq!(ended.ok().unwrap(), [vec![1, 2, 3], vec![4, 5], vec![6]]);
    /// # });
    /// ```
    #[track_caller]
    pub fn batch(self, size: usize, max_delay: Duration) -> Stage<Batch<S>> {
        let upstream = self.description;
        Stage::new(Batch { upstream, size, max_delay, timer: None, origin: Origin::here() })
    }
}

impl<S> Stage<Batch<S>> {
    /// The timer that is used: if not said, the one of the run's context when that has a deadline,
    /// else tokio's inside a runtime and the timer thread elsewhere.
    pub fn timer(mut self, timer: Timer) -> Self {
        self.description.timer = Some(timer);
        self
    }
}

/// Batches by count and time; from [`Stage::batch`].
pub struct Batch<S> {
    /// What comes before.
    upstream: S,
    /// How many items fill a batch.
    size: usize,
    /// How long a batch waits for them.
    max_delay: Duration,
    /// Whose clock, if it was said.
    timer: Option<Timer>,
    /// Name and place.
    origin: Origin,
}

impl<S> fmt::Debug for Batch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} in {:?}, {})", self.size, self.max_delay, self.origin)
    }
}

impl<S: Build> Build for Batch<S> {
    type Item = Vec<S::Item>;
    type Flow = BatchFlow<S::Flow>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let upstream = self.upstream.build(launch)?;
        let counts = LocalCounts::new(launch.stage(self.origin, BATCH));
        let stage = counts.name();
        if self.size == 0 {
            let what = "has batches of 0 items, give them at least 1".to_owned();
            return Err(PipelineError::BadStage { stage, what });
        }
        let delay = match self.max_delay {
            Duration::ZERO => Delay::None,
            Duration::MAX => Delay::Unlimited,
            delay => Delay::Limited(delay, Alarm::new(launch.timer(self.timer, stage)?)),
        };
        Ok(BatchFlow { upstream, batcher: Batcher::new(self.size, delay), counts })
    }
}

/// Batches that are being gathered.
#[pin_project]
pub struct BatchFlow<S: Flow> {
    /// What comes before.
    #[pin]
    upstream: S,
    /// The batch in hand, and when it goes on.
    batcher: Batcher<S::Item>,
    /// What went through.
    counts: LocalCounts,
}

impl<S: Flow> fmt::Debug for BatchFlow<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchFlow").finish_non_exhaustive()
    }
}

impl<S: Flow> Flow for BatchFlow<S> {
    type Item = Vec<S::Item>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<Vec<S::Item>> {
        let mut this = self.project();
        // The source takes part in the cooperative budget, so the loop inside yields.
        let upstream = |cx: &mut TaskContext<'_>| this.upstream.as_mut().poll_next(cx);
        this.batcher.poll_next(upstream, this.counts, cx)
    }
}
