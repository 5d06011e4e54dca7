//! When a batch is complete: the engine of a batch stage.
//!
//! # Vocabulary
//!
//! The batch in *hand* is the one that items are added to. Its *delay* begins with its first item.
//! It goes on when it is *full*, when its delay is *over*, or when the upstream has come to its
//! *end*.
//!
//! # Protocol
//!
//! [`Batcher::poll_next`] repeats these steps until one of them returns:
//!
//! 1. If the alarm has rung for the batch in hand, the batch goes on.
//! 2. Poll the upstream. An item is added to the batch in hand; the first sets the alarm, and the one
//!    that fills the batch sends it on, which takes the alarm back. At the end of the upstream, or
//!    an error, the end is kept, and the batch in hand goes on before it.
//! 3. If the upstream is pending and there is a batch in hand, poll its alarm: a batch whose delay
//!    is over goes on now. Otherwise the stage sleeps, and both the upstream and the alarm have its
//!    waker.
//!
//! A batch goes on in one way only, by [`Batcher::send`], which leaves none in hand: so an item is
//! in exactly one batch, and no batch is empty.
//!
//! # The races
//!
//! - *Alarm against the item that fills the batch*: both are looked at by one task, one after the
//!   other, so one of them sends the batch on and the other finds the next one, or none, in hand. The
//!   next batch has an alarm of its own: a late ring for the one before is heard by nobody.
//! - *Alarm against going to sleep*: the alarm is asked after the upstream, and says so if it rang
//!   meanwhile; see [`Alarm`].
//! - *End against the alarm*: as for a full batch.
//!
//! Step 1 matters where the upstream is always ready: it is what keeps a batch that fills slowly from
//! waiting for the items that are still to come.

use std::task::{Context, Poll};
use std::time::Duration;

use selvedge_cancel::TimerError;

use crate::PipelineError;
use crate::alarm::Alarm;
use crate::flow::Next;
use crate::report::LocalCounts;

/// How long a batch may stay in hand.
pub(crate) enum Delay {
    /// Until the upstream is pending.
    None,
    /// So long, by that alarm.
    Limited(Duration, Alarm),
    /// Until it is full, or the upstream ends.
    Unlimited,
}

/// The batch in hand, and when it goes on.
pub(crate) struct Batcher<T> {
    /// The batch in hand; none if it is empty.
    hand: Vec<T>,
    /// How many items fill it; not zero.
    size: usize,
    /// How many items the last batch had, as a guess at the next.
    last: usize,
    /// How long it may stay.
    delay: Delay,
    /// How the upstream ended, once it has; none inside if there is just nothing more.
    end: Option<Option<PipelineError>>,
}

impl<T> Batcher<T> {
    /// Nothing in hand.
    pub(crate) fn new(size: usize, delay: Delay) -> Self {
        Self { hand: Vec::new(), size, last: 0, delay, end: None }
    }

    /// The next batch, of the items that `upstream` gives.
    pub(crate) fn poll_next(
        &mut self,
        mut upstream: impl FnMut(&mut Context<'_>) -> Next<T>,
        counts: &mut LocalCounts,
        cx: &mut Context<'_>,
    ) -> Next<Vec<T>> {
        loop {
            if let Some(end) = &mut self.end {
                return Poll::Ready(match self.hand.is_empty() {
                    true => end.take().map(Err),
                    false => Some(Ok(self.send(counts))),
                });
            }
            let over = match &mut self.delay {
                Delay::Limited(_, alarm) => alarm.rang(),
                Delay::None | Delay::Unlimited => None,
            };
            if let Some(rang) = over {
                return Poll::Ready(Some(Ok(self.over(rang, counts))));
            }
            match upstream(cx) {
                Poll::Ready(Some(Ok(item))) => {
                    counts.entered += 1;
                    self.add(item, counts);
                    if self.hand.len() == self.size {
                        return Poll::Ready(Some(Ok(self.send(counts))));
                    }
                }
                Poll::Ready(Some(Err(error))) => self.end = Some(Some(error)),
                Poll::Ready(None) => self.end = Some(None),
                Poll::Pending => {
                    let over = match &mut self.delay {
                        Delay::None if !self.hand.is_empty() => Poll::Ready(Ok(())),
                        Delay::Limited(_, alarm) => alarm.poll(cx),
                        Delay::None | Delay::Unlimited => Poll::Pending,
                    };
                    return match over {
                        Poll::Ready(rang) => Poll::Ready(Some(Ok(self.over(rang, counts)))),
                        Poll::Pending => {
                            counts.publish();
                            Poll::Pending
                        }
                    };
                }
            }
        }
    }

    /// Adds an item to the batch in hand; its delay begins with the first.
    fn add(&mut self, item: T, counts: &LocalCounts) {
        if self.hand.is_empty() {
            self.hand.reserve(self.last);
            // A batch of one is full already.
            if let Delay::Limited(delay, alarm) = &mut self.delay
                && self.size > 1
                && let Some(at) = alarm.now().checked_add(*delay)
                && let Err(error) = alarm.set(at)
            {
                self.end = Some(Some(no_timer(counts, error)));
            }
        }
        self.hand.push(item);
    }

    /// The delay of the batch in hand is over, or its timer is gone, which is shown after it.
    fn over(&mut self, rang: Result<(), TimerError>, counts: &mut LocalCounts) -> Vec<T> {
        if let Err(error) = rang {
            self.end = Some(Some(no_timer(counts, error)));
        }
        self.send(counts)
    }

    /// The batch in hand goes on.
    fn send(&mut self, counts: &mut LocalCounts) -> Vec<T> {
        if let Delay::Limited(_, alarm) = &mut self.delay {
            alarm.clear();
        }
        let batch = std::mem::take(&mut self.hand);
        self.last = batch.len();
        counts.passed += batch.len();
        counts.batches += 1;
        batch
    }
}

/// The error for a timer that is gone.
fn no_timer(counts: &LocalCounts, error: TimerError) -> PipelineError {
    PipelineError::NoTimer { stage: counts.name(), error }
}
