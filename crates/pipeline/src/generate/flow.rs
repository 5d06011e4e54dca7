//! A generator that is being run: its source polls the body, then looks at the place.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::pin_project;
use selvedge_cancel::{Context, Stopping};
use selvedge_primitives::{Panic, coop};

use super::place::Close;
use crate::end::{End, let_go};
use crate::flow::{Flow, Next};
use crate::report::LocalCounts;

/// A generator that is being run.
#[pin_project]
pub struct GeneratorFlow<T, Fut> {
    /// The body, until it has ended.
    #[pin]
    pub(super) body: Option<Fut>,
    /// How the source ended, once it has.
    pub(super) end: Option<End>,
    /// The place where items are given.
    pub(super) place: Close<T>,
    /// The run's.
    pub(super) ctx: Context,
    /// Wakes the source when the run is stopping.
    #[pin]
    pub(super) stopping: Stopping<'static>,
    /// What went through.
    pub(super) counts: LocalCounts,
}

impl<T, Fut> fmt::Debug for GeneratorFlow<T, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratorFlow").finish_non_exhaustive()
    }
}

impl<T, E, Fut> Flow for GeneratorFlow<T, Fut>
where
    T: Send + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<T> {
        let proceed = ready!(coop::poll_proceed(cx));
        let mut this = self.project();
        if this.end.is_none() {
            if let Some(cause) = this.ctx.cause() {
                *this.end = Some(End::Stopped(cause));
            } else if let Some(body) = this.body.as_mut().as_pin_mut() {
                this.place.0.begin_poll(cx.waker());
                let poll = || body.poll(cx).map_err(Into::into);
                *this.end = match catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(Poll::Pending) => None,
                    Ok(Poll::Ready(Ok(()))) => Some(End::Exhausted),
                    Ok(Poll::Ready(Err(error))) => Some(End::Error(error)),
                    Err(payload) => Some(End::Panic(Panic::new(payload))),
                };
            }
        }
        let item = match &this.end {
            None => match this.place.0.end_poll(cx.waker()) {
                Some(item) => Some(item),
                None => {
                    this.counts.publish();
                    let cause = ready!(this.stopping.poll(cx));
                    *this.end = Some(End::Stopped(cause));
                    let_go(this.body, this.end);
                    this.place.0.finish()
                }
            },
            Some(_) => {
                let_go(this.body, this.end);
                this.place.0.finish()
            }
        };
        if let Some(item) = item {
            proceed.made_progress();
            this.counts.entered += 1;
            this.counts.passed += 1;
            return Poll::Ready(Some(Ok(item)));
        }
        let end = this.end.replace(End::Exhausted);
        Poll::Ready(end.and_then(|end| end.into_error(this.counts)).map(Err))
    }
}
