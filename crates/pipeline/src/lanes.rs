//! Several flows as one, on fanio's merge: what [`Stage::merge`](crate::Stage::merge) and
//! [`Stage::branch`](crate::Stage::branch) have in common.
//!
//! A lane that came to its end because the run is stopping is an end like others until all have ended:
//! what the others finish still comes out. A failure comes out as soon as it is there, and is the last.
//! What a destructor of a lane that has ended panics with is [noted](Fault::note) at once, so that it is
//! told whatever becomes of the others.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use selvedge_fanio::{Merge, merge};
use selvedge_primitives::Panic;

use crate::PipelineError;
use crate::boxed::BoxFlow;
use crate::fault::Fault;
use crate::flow::Next;

/// Several flows as one.
pub(crate) struct Lanes<T: Send + 'static> {
    /// Those that have not ended.
    merge: Merge<Polled<T>>,
    /// Why the first of those that ended early did.
    early: Option<PipelineError>,
    /// Where panics are noted.
    fault: Fault,
}

/// A flow as a stream, which is not polled again after an error.
struct Polled<T> {
    /// The flow.
    flow: BoxFlow<T>,
    /// Whether it gave an error.
    ended: bool,
}

impl<T: Send + 'static> Lanes<T> {
    /// Of these.
    pub(crate) fn new(flows: Vec<BoxFlow<T>>, fault: Fault) -> Self {
        let lanes = flows.into_iter().map(|flow| Polled { flow, ended: false });
        Self { merge: merge(lanes), early: None, fault }
    }

    /// The next item of any, or a failure, behind which nothing comes; none when all have ended. A
    /// panic is noted to be that of a stage, at an item of it, as `place` says.
    pub(crate) fn poll(
        &mut self,
        cx: &mut TaskContext<'_>,
        place: impl Fn() -> (String, u64),
    ) -> Next<T> {
        loop {
            let merge = Pin::new(&mut self.merge);
            // Unwind safe: with a lane's panic the merge has ended, and one of the waker's goes on.
            let polled = catch_unwind(AssertUnwindSafe(|| merge.poll_next(cx)));
            let note = |panic| {
                let (stage, index) = place();
                self.fault.panicked(stage, index, panic);
            };
            let next = match polled {
                Ok(next) => next,
                // The first of those of the lanes that ended in this poll, and there are no others.
                Err(payload) if self.merge.live() == 0 => {
                    note(Panic::new(payload));
                    Poll::Ready(None)
                }
                Err(payload) => resume_unwind(payload),
            };
            self.merge.take_panics().into_iter().for_each(|(_, panic)| note(panic));
            match ready!(next) {
                Some(Err(early @ PipelineError::Ended(_))) => {
                    self.early = self.early.take().or(Some(early))
                }
                next => return Poll::Ready(next),
            }
        }
    }

    /// Why the first of those that ended early did, if one did.
    pub(crate) fn early(&mut self) -> Option<PipelineError> {
        self.early.take()
    }
}

impl<T: Send + 'static> Stream for Polled<T> {
    type Item = Result<T, PipelineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<T> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.flow.as_mut().poll_next(cx));
        self.ended = matches!(next, Some(Err(_)));
        Poll::Ready(next)
    }
}
