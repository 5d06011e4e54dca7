//! Several flows as one, on fanio's merge: what [`Stage::merge`](crate::Stage::merge) and
//! [`Stage::branch`](crate::Stage::branch) have in common.
//!
//! A lane that came to its end because the run is stopping is an end like others until all have ended:
//! what the others finish still comes out. A failure comes out as soon as it is there, and is the last.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use selvedge_fanio::{Merge, merge};
use selvedge_primitives::Panic;

use crate::PipelineError;
use crate::boxed::BoxFlow;
use crate::flow::Next;

/// Several flows as one.
pub(crate) struct Lanes<T: Send + 'static> {
    /// Those that have not ended.
    merge: Merge<Polled<T>>,
    /// Why the first of those that ended early did.
    early: Option<PipelineError>,
}

/// What a poll of [`Lanes`] brought.
pub(crate) enum Out<T> {
    /// An item.
    Item(T),
    /// A lane failed; nothing comes behind it.
    Failed(PipelineError),
    /// A destructor of a lane panicked, and all have ended.
    Panicked(Panic),
    /// All have ended; why one ended early, if one did.
    End(Option<PipelineError>),
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
    pub(crate) fn new(flows: Vec<BoxFlow<T>>) -> Self {
        let lanes = flows.into_iter().map(|flow| Polled { flow, ended: false });
        Self { merge: merge(lanes), early: None }
    }

    /// The next item of any, or what ends them all.
    pub(crate) fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Out<T>> {
        loop {
            // Unwind safe: a merge that panicked has ended.
            let merge = Pin::new(&mut self.merge);
            let polled = catch_unwind(AssertUnwindSafe(|| merge.poll_next(cx)));
            let next = match polled {
                Ok(next) => ready!(next),
                Err(payload) => return Poll::Ready(Out::Panicked(Panic::new(payload))),
            };
            return Poll::Ready(match next {
                Some(Ok(item)) => Out::Item(item),
                Some(Err(early @ PipelineError::Ended(_))) => {
                    self.early.get_or_insert(early);
                    continue;
                }
                Some(Err(error)) => Out::Failed(error),
                None => Out::End(self.early.take()),
            });
        }
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
