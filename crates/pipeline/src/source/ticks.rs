//! Ticks: a source that gives an instant at each multiple of a period.
//!
//! The times are fixed when the run begins: each is a multiple of the period after that moment, so
//! lateness never adds up. Of the times that passed while nobody pulled, the last is given and the
//! others are left out.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use pin_project::pin_project;
use selvedge_cancel::{Context, Stopping, Timer, TimerError};
use selvedge_primitives::{Origin, coop};

use crate::alarm::Alarm;
use crate::flow::{Build, Flow, Next, label};
use crate::launch::Launch;
use crate::report::LocalCounts;
use crate::{PipelineError, Stage};

/// Begins a pipeline with an instant every `period`, the first one period after the run begins.
/// Like Go's `time.Ticker`.
///
/// An item is the instant at which it was due, on the clock of its [timer](Stage::timer). The
/// instants are exact multiples of the period after the beginning of the run: no drift, however late
/// each is taken. Ticks that come while the stages behind are busy are not made up: the last of them
/// is given when they pull again, those before it are left out, and the next is the next multiple.
///
/// The source ends when the context is stopping, and never by itself: a tick that lies beyond the
/// end of the clock does not come, so with a period of [`Duration::MAX`] none does.
///
/// # Errors
///
/// The run ends at once with [`PipelineError::BadStage`] when the period is zero, and with
/// [`PipelineError::NoTimer`] in a runtime without its time driver. When the runtime that drives
/// the timer is shut down, the source ends with the latter.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use selvedge_cancel::Context;
/// use selvedge_pipeline::ticks;
///
/// # tokio::runtime::Builder::new_current_thread()
/// #     .enable_time().start_paused(true).build().unwrap().block_on(async {
/// let period = Duration::from_secs(1);
/// let (ctx, _canceller) = Context::background().with_timeout(period * 7 / 2).unwrap();
/// let ended = ticks(period).collect().run(&ctx).await;
/// let [first, second, third] = ended.output[..] else { panic!("{:?}", ended.output) };
/// assert_eq!((second - first, third - second), (period, period));
/// # });
/// ```
#[track_caller]
pub fn ticks(period: Duration) -> Stage<Ticks> {
    Stage::new(Ticks { period, timer: None, origin: Origin::here() })
}

impl Stage<Ticks> {
    /// The timer that is used: if not said, the one of the run's context when that has a deadline,
    /// else tokio's inside a runtime and the timer thread elsewhere.
    pub fn timer(mut self, timer: Timer) -> Self {
        self.description.timer = Some(timer);
        self
    }
}

/// An instant every period; from [`ticks`].
pub struct Ticks {
    /// How far apart.
    period: Duration,
    /// Whose clock, if it was said.
    timer: Option<Timer>,
    /// Name and place.
    origin: Origin,
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticks({:?}, {})", self.period, self.origin)
    }
}

impl Build for Ticks {
    type Item = Instant;
    type Flow = TickFlow;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let stage = label(&self.origin, "ticks");
        let counts = LocalCounts::new(launch.stage(self.origin, "ticks"));
        if self.period.is_zero() {
            let what = "has a period of zero, give it a longer one".to_owned();
            return Err(PipelineError::BadStage { stage, what });
        }
        let alarm = Alarm::new(launch.timer(self.timer, stage)?);
        let next = alarm.now().checked_add(self.period);
        let (ctx, stopping) = (launch.ctx.clone(), launch.ctx.stopping_owned());
        Ok(TickFlow { period: self.period, next, alarm, ctx, stopping, counts })
    }
}

/// Ticks that are being given.
#[pin_project]
pub struct TickFlow {
    /// How far apart; not zero.
    period: Duration,
    /// When the next is due; none when that is beyond the end of the clock.
    next: Option<Instant>,
    /// Wakes the source when it is due.
    alarm: Alarm,
    /// The run's.
    ctx: Context,
    /// Wakes the source when the run is stopping.
    #[pin]
    stopping: Stopping<'static>,
    /// What went through.
    counts: LocalCounts,
}

impl fmt::Debug for TickFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TickFlow").finish_non_exhaustive()
    }
}

impl Flow for TickFlow {
    type Item = Instant;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<Instant> {
        // A tick that nobody had time for is ready at once, so this is where the loop yields.
        let proceed = ready!(coop::poll_proceed(cx));
        let this = self.project();
        if let Some(cause) = this.ctx.cause() {
            return Poll::Ready(Some(Err(PipelineError::Ended(cause))));
        }
        match poll_due(this.alarm, *this.next, cx) {
            Poll::Ready(Ok(first)) => {
                let due = last_due(first, this.alarm.now(), *this.period);
                *this.next = due.checked_add(*this.period);
                proceed.made_progress();
                this.counts.entered += 1;
                this.counts.passed += 1;
                Poll::Ready(Some(Ok(due)))
            }
            Poll::Ready(Err(error)) => {
                let stage = this.counts.name();
                Poll::Ready(Some(Err(PipelineError::NoTimer { stage, error })))
            }
            Poll::Pending => {
                this.counts.publish();
                let cause = ready!(this.stopping.poll(cx));
                Poll::Ready(Some(Err(PipelineError::Ended(cause))))
            }
        }
    }
}

/// Ready with the tick that was waited for, when it is due.
fn poll_due(
    alarm: &mut Alarm,
    next: Option<Instant>,
    cx: &mut TaskContext<'_>,
) -> Poll<Result<Instant, TimerError>> {
    let Some(next) = next else { return Poll::Pending };
    if !alarm.is_set() {
        if next <= alarm.now() {
            return Poll::Ready(Ok(next));
        }
        alarm.set(next)?;
    }
    alarm.poll(cx).map_ok(|()| next)
}

/// The last tick that is due at `now`, when the first of them is.
fn last_due(first: Instant, now: Instant, period: Duration) -> Instant {
    let late = now.saturating_duration_since(first);
    let rest = late.as_nanos() % period.as_nanos();
    // Both fit: the rest is no longer than `late`, which is a duration itself.
    let rest = Duration::new((rest / NANOS) as u64, (rest % NANOS) as u32);
    first + (late - rest)
}

/// Nanoseconds in a second.
const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tick_that_is_due_is_an_exact_multiple_of_the_period() {
        let first = Instant::now();
        let period = Duration::new(3, 7);
        for (late, multiple) in [
            (Duration::ZERO, 0),
            (period - Duration::from_nanos(1), 0),
            (period, 1),
            (period * 1000 + Duration::from_secs(3), 1000),
        ] {
            assert_eq!(last_due(first, first + late, period), first + period * multiple);
        }
        assert_eq!(last_due(first, first + period, Duration::MAX), first);
        let nano = Duration::from_nanos(1);
        assert_eq!(last_due(first, first + period, nano), first + period);
        // A clock that went back.
        assert_eq!(last_due(first + period, first, nano), first + period);
    }
}
