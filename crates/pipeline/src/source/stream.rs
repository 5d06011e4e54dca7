//! Streams of the user, and channels, which are streams.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use pin_project::pin_project;
use selvedge_cancel::{Context, Stopping};
use selvedge_primitives::{Origin, Panic, coop};

use crate::end::{End, let_go};
use crate::flow::{Build, Flow, Next};
use crate::launch::Launch;
use crate::report::LocalCounts;
use crate::{PipelineError, Stage};

/// Begins a pipeline with the items of a stream.
///
/// The stream is polled on the task of the stage that pulls, when that stage has room. Once the
/// context is stopping it is not polled any more, and is dropped on that task: at once if it was
/// pending, else when the stage would pull again. A panic of the stream, also of its destructor, ends
/// the pipeline after the items before it.
///
/// A stream is paused by back-pressure like every source, so it must hold no lock or permit across
/// an item that a later stage needs. A stream of results goes on with
/// [`try_map`](Stage::try_map)`(|result| result)`.
///
/// # Examples
///
/// A stream that is made by hand; any `futures_core::Stream` will do:
///
/// ```
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
///
/// use futures_core::Stream;
/// use selvedge_pipeline::from_stream;
///
/// struct CountDown(u32);
///
/// impl Stream for CountDown {
///     type Item = u32;
///
///     fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
///         self.0 = match self.0.checked_sub(1) {
///             Some(less) => less,
///             None => return Poll::Ready(None),
///         };
///         Poll::Ready(Some(self.0))
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let ctx = selvedge_cancel::Context::background();
/// let ended = from_stream(CountDown(3)).collect().run(&ctx).await;
/// assert_eq!(ended.ok().unwrap(), [2, 1, 0]);
/// # });
/// ```
#[track_caller]
pub fn from_stream<S>(stream: S) -> Stage<FromStream<S>>
where
    S: Stream + Send + 'static,
    S::Item: Send + 'static,
{
    Stage::new(FromStream { stream, kind: "from_stream", origin: Origin::here() })
}

/// Begins a pipeline with what comes out of a channel.
///
/// It ends when the channel is closed and empty: when every sender is gone, or somebody closed it.
///
/// Once the context is stopping nothing is taken any more, and what lies in the channel stays there.
/// The pipeline then lets go of its receiver; keep a clone of it to take what is left. Without one
/// the channel closes, and what lies in it goes with it.
///
/// # Examples
///
/// ```
/// use selvedge_cancel::Context;
/// use selvedge_pipeline::from_channel;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (sender, receiver) = async_channel::bounded(2);
/// let producer = tokio::spawn(async move {
///     for n in 0..5_u32 {
///         sender.send(n).await.unwrap();
///     }
/// });
/// let ended = from_channel(receiver).collect().run(&Context::background()).await;
/// assert_eq!(ended.ok().unwrap(), [0, 1, 2, 3, 4]);
/// producer.await.unwrap();
/// # });
/// ```
#[cfg(feature = "channel")]
#[track_caller]
pub fn from_channel<T: Send + 'static>(
    receiver: async_channel::Receiver<T>,
) -> Stage<FromStream<async_channel::Receiver<T>>> {
    Stage::new(FromStream { stream: receiver, kind: "from_channel", origin: Origin::here() })
}

/// The items of a stream; from [`from_stream`].
pub struct FromStream<S> {
    /// Where they come from.
    stream: S,
    /// What kind of stream.
    kind: &'static str,
    /// Name and place.
    origin: Origin,
}

impl<S> fmt::Debug for FromStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FromStream({})", self.origin)
    }
}

impl<S> Build for FromStream<S>
where
    S: Stream + Send + 'static,
    S::Item: Send + 'static,
{
    type Item = S::Item;
    type Flow = StreamFlow<S>;

    fn origin(&mut self) -> &mut Origin {
        &mut self.origin
    }

    fn build(self, launch: &mut Launch) -> Result<Self::Flow, PipelineError> {
        let counts = LocalCounts::new(launch.stage(self.origin, self.kind));
        let (ctx, stopping) = (launch.ctx.clone(), launch.ctx.stopping_owned());
        Ok(StreamFlow { stream: Some(self.stream), ctx, stopping, counts })
    }
}

/// A stream that is being run.
#[pin_project]
pub struct StreamFlow<S> {
    /// Where the items come from, until it has ended.
    #[pin]
    stream: Option<S>,
    /// The run's.
    ctx: Context,
    /// Wakes the source when the run is stopping.
    #[pin]
    stopping: Stopping<'static>,
    /// What went through.
    counts: LocalCounts,
}

impl<S> fmt::Debug for StreamFlow<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamFlow").finish_non_exhaustive()
    }
}

impl<S> Flow for StreamFlow<S>
where
    S: Stream + Send + 'static,
    S::Item: Send + 'static,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Next<S::Item> {
        // A stream of somebody else may be always ready, so this is where the loop yields.
        let proceed = ready!(coop::poll_proceed(cx));
        let mut this = self.project();
        let end = match (this.ctx.cause(), this.stream.as_mut().as_pin_mut()) {
            (Some(cause), _) => End::Stopped(cause),
            (None, None) => End::Exhausted,
            (None, Some(stream)) => match catch_unwind(AssertUnwindSafe(|| stream.poll_next(cx))) {
                Ok(Poll::Ready(Some(item))) => {
                    proceed.made_progress();
                    this.counts.entered += 1;
                    this.counts.passed += 1;
                    return Poll::Ready(Some(Ok(item)));
                }
                Ok(Poll::Ready(None)) => End::Exhausted,
                Ok(Poll::Pending) => {
                    this.counts.publish();
                    End::Stopped(ready!(this.stopping.poll(cx)))
                }
                Err(payload) => End::Panic(Panic::new(payload)),
            },
        };
        let mut end = Some(end);
        let_go(this.stream, &mut end);
        Poll::Ready(end.and_then(|end| end.into_error(this.counts)).map(Err))
    }
}
