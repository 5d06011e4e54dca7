//! A pipeline as a stream: the consumer's poll is what runs it.
//!
//! The stream holds the run. Its sink has room for one item, and only while the stream is polled: a
//! poll asks for an item, polls the run, and takes the item that the run left. So nothing is pulled
//! that nobody asked for, and an item that was pulled is given in that very poll.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use selvedge_cancel::Context;
use selvedge_primitives::{Mutex, NextItem, Origin};

use crate::flow::Build;
use crate::run::{Ended, Ready, Run};
use crate::sink::Sink;
use crate::{PipelineError, Report, Stage};

impl<S: Build> Stage<S> {
    /// Runs it under `ctx` as a stream of its items: the stages on the task that polls the stream,
    /// workers in tasks of their own, once it was polled.
    ///
    /// See [`Items`].
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::from_iter;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let mut items = from_iter(1..).map(|n| n * n).into_stream(&Context::background());
    /// let mut squares = Vec::new();
    /// while squares.len() < 3 {
    ///     squares.push(items.next().await.unwrap().unwrap());
    /// }
    /// assert_eq!(squares, [1, 4, 9]);
    /// drop(items); // ends the run
    /// # });
    /// ```
    #[track_caller]
    pub fn into_stream(self, ctx: &Context) -> Items<S::Item> {
        let hand = Arc::new(Mutex::new(Hand { asked: false, item: None }));
        let sink = ToHand(Arc::clone(&hand));
        let run = Ready::new(self.description, sink, Origin::here()).run(ctx);
        Items { hand, run: Some(run), report: None, error: None }
    }
}

/// The items of a pipeline, as a stream; from [`Stage::into_stream`].
///
/// Each is `Ok`; a run that ends before its source was exhausted shows why in one `Err` after them.
/// Then comes none, for ever, and there is a [`report`](Self::report). When none has come, no task
/// of the run is alive.
///
/// How it ends is in the table on the [crate's page](crate), where the room that the sink has is one
/// item for each time that it is asked for one: when the context is cancelled, one more item may
/// come, and what else was finished is left.
///
/// # Cancel safety
///
/// Safe: an item is pulled and given in one poll, so dropping a wait for the next loses nothing.
/// Dropping the stream aborts the run, as dropping a [`Run`] does; what is under way is dropped, and
/// there is no report. To end it and keep the report, stop its context and take the items until none
/// comes.
///
/// # Fairness
///
/// As [`Ready::run`]. While nobody polls, the source is not asked, and workers run on until their
/// window is full.
///
/// # Memory ordering
///
/// What the stages did to an item happens before it is given, and all that they did happens before
/// the end is.
///
/// # Panics
///
/// Not by itself: a panic of the pipeline's code comes out as an error.
///
/// # Algorithm
///
/// An item costs three locks that nobody contends for, beside what its stages cost.
#[must_use = "streams do nothing unless polled"]
pub struct Items<T> {
    /// Where the run leaves an item.
    hand: Arc<Mutex<Hand<T>>>,
    /// The run, until it has ended.
    run: Option<Run<()>>,
    /// What it told, once it has ended.
    report: Option<Report>,
    /// Why it ended early, until that is shown.
    error: Option<PipelineError>,
}

/// Where one item goes over.
struct Hand<T> {
    /// Whether an item is asked for.
    asked: bool,
    /// The item.
    item: Option<T>,
}

impl<T> Items<T> {
    /// What went through each stage; none before the run has ended.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// The next item; or, behind the last, why the run ended early, if it did; then none. See [`Items`].
    #[track_caller]
    pub const fn next(&mut self) -> NextItem<'_, Self> {
        NextItem::new(self)
    }

    /// Polls the run. Ready with an item, or when there is none and there will be none.
    fn poll_run(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<T>> {
        let Some(run) = &mut self.run else { return Poll::Ready(None) };
        self.hand.lock().asked = true;
        let polled = Pin::new(run).poll(cx);
        if let Poll::Ready(Ended { report, error, .. }) = polled {
            self.run = None;
            (self.report, self.error) = (Some(report), error);
        }
        let item = self.hand.lock().item.take();
        match (&self.run, item) {
            (Some(_), None) => Poll::Pending,
            (_, item) => Poll::Ready(item),
        }
    }
}

impl<T> Stream for Items<T> {
    type Item = Result<T, PipelineError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<T, PipelineError>>> {
        let item = ready!(self.poll_run(cx));
        Poll::Ready(item.map(Ok).or_else(|| self.error.take().map(Err)))
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("ended", &self.run.is_none()).finish_non_exhaustive()
    }
}

/// The sink whose room is the stream's hand. It leaves no waker: whoever asks polls the run.
struct ToHand<T>(
    /// Shared with the stream.
    Arc<Mutex<Hand<T>>>,
);

impl<T: Send + 'static> Sink<T> for ToHand<T> {
    type Error = Infallible;
    type Output = ();

    fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        if self.0.lock().asked { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn accept(&mut self, item: T) -> Result<(), Infallible> {
        let mut hand = self.0.lock();
        hand.asked = false;
        hand.item = Some(item);
        Ok(())
    }

    fn finish(self) {}
}
