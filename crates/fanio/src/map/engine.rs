//! The engine of a concurrent mapping: what is started when, and how it ends.
//!
//! # Vocabulary
//!
//! An item is *in flight* from the moment in which its future is started until its result is given
//! out. The *source* is read while there is room: while fewer than the limit are in flight.
//!
//! # Protocol
//!
//! One task polls; what runs beside it are the tasks of the items, which meet it in the window alone.
//!
//! 1. A poll first takes the next result out of the window, which makes room.
//! 2. Then, while there is room and tokio's cooperative budget lasts, it reads the source. For each
//!    item it reserves a slot, calls the function, and spawns the future with the slot. There is room
//!    in the window, because it has as many places as the limit, and nobody else reserves; so the slot
//!    is there before the future.
//! 3. When the source has ended, or the context is stopping, or there is no runtime, the source is
//!    dropped and the window closed. When the window has ended, and so has every future, what cut
//!    the source short is given once, and then nothing.
//!
//! Pending, the poll has left its waker where a change can come from: in the window for the next
//! result; while there is room and a source, in the source, and with the context for its stop.
//! Without room only a result can change something.
//!
//! The futures run under a child of the context, whose canceller lies here: to drop the stream
//! cancels them, and so does [`Engine::cancel`], after which their ends still come out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use futures_core::Stream;
use pin_project::pin_project;
use selvedge_cancel::{Canceller, Context, Stopping};
use selvedge_primitives::{Panic, coop};
use tokio::runtime::Handle;

use super::work::Work;
use crate::{Emitted, Entry, Exit, MapError, Order, Slot, WindowError, window};

/// What became of an item, behind its number.
pub(crate) type Numbered<T> = (u64, Result<T, MapError>);

/// Starts futures, and gives out their results.
#[pin_project]
pub(super) struct Engine<S, F, T> {
    /// Where items come from; none once it ended.
    #[pin]
    source: Option<S>,
    /// Tells that the context is stopping.
    #[pin]
    stopping: Stopping<'static>,
    /// Makes the futures.
    f: F,
    /// How many may be in flight.
    limit: usize,
    /// How many are.
    in_flight: usize,
    /// Where slots are reserved.
    entry: Entry<Result<T, MapError>>,
    /// Where the results come out.
    exit: Exit<Result<T, MapError>>,
    /// What cut the source short, to be given at the end.
    last: Option<(u64, MapError)>,
    /// What the futures run under.
    ctx: Context,
    /// Cancels them, also when it is dropped.
    canceller: Canceller,
    /// The runtime in which the stream was made.
    home: Option<Handle>,
}

impl<S, F, T> Engine<S, F, T> {
    /// Nothing is started.
    #[track_caller]
    pub(super) fn new(
        source: S,
        limit: usize,
        order: Order,
        ctx: &Context,
        f: F,
    ) -> Result<Self, WindowError> {
        let (entry, exit) = window(limit, order)?;
        let (child, canceller) = ctx.child();
        Ok(Self {
            source: Some(source),
            stopping: child.stopping_owned(),
            f,
            limit,
            in_flight: 0,
            entry,
            exit,
            last: None,
            ctx: child,
            canceller,
            home: Handle::try_current().ok(),
        })
    }

    /// How many were started and not given out.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Cancels what runs, and reads no more.
    pub(super) fn cancel(&self) {
        self.canceller.cancel();
    }
}

impl<S, F, Fut, T> Engine<S, F, T>
where
    S: Stream,
    F: FnMut(S::Item) -> Fut,
    Fut: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    /// The next result.
    pub(super) fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Numbered<T>>> {
        let this = self.as_mut().project();
        let taken = this.exit.poll_next(cx).map(|emitted| {
            let emitted = emitted?;
            *this.in_flight -= 1;
            Some(match emitted {
                Emitted::Item { sequence, value } => (sequence, value),
                // The task was dropped before its end.
                Emitted::Gap { sequence } => (sequence, Err(MapError::Lost { index: sequence })),
            })
        });
        self.as_mut().read(cx);
        let this = self.project();
        match taken {
            Poll::Ready(Some(result)) => Poll::Ready(Some(result)),
            // The window ends when it is closed and empty, which `read` may just have brought about.
            _ if this.source.is_none() && *this.in_flight == 0 => {
                Poll::Ready(this.last.take().map(|(index, error)| (index, Err(error))))
            }
            _ => Poll::Pending,
        }
    }

    /// Rule 2: reads the source while there is room.
    fn read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) {
        loop {
            let mut this = self.as_mut().project();
            if this.in_flight == this.limit {
                return;
            }
            let Some(source) = this.source.as_mut().as_pin_mut() else { return };
            // Spent at once: the source may spend of the budget itself. Where it has run out, tokio
            // has woken the task.
            let Poll::Ready(proceed) = coop::poll_proceed(cx) else { return };
            proceed.made_progress();
            if let Poll::Ready(cause) = this.stopping.poll(cx) {
                let index = this.exit.counts().reserved;
                return self.end(Some(MapError::Stopped { index, cause }));
            }
            if this.home.is_none() && Handle::try_current().is_err() {
                return self.end(Some(MapError::NoRuntime));
            }
            // Unwind safe: a source that panicked is dropped next, and not polled again.
            match catch_unwind(AssertUnwindSafe(|| source.poll_next(cx))) {
                Ok(Poll::Pending) => return,
                Ok(Poll::Ready(Some(item))) => self.as_mut().start(item),
                Ok(Poll::Ready(None)) => return self.end(None),
                Err(panic) => {
                    let index = this.exit.counts().reserved;
                    return self.end(Some(MapError::Panicked { index, panic: Panic::new(panic) }));
                }
            }
        }
    }

    /// Starts the future of an item.
    fn start(self: Pin<&mut Self>, item: S::Item) {
        let this = self.project();
        let slot: Slot<_> = this.entry.try_reserve().expect("fewer than the limit are in flight");
        *this.in_flight += 1;
        let index = slot.sequence();
        // Unwind safe: what the function left half done is the business of its next call.
        let future = match catch_unwind(AssertUnwindSafe(|| (this.f)(item))) {
            Ok(future) => future,
            Err(panic) => {
                return slot.complete(Err(MapError::Panicked { index, panic: Panic::new(panic) }));
            }
        };
        let work = Work::new(this.ctx.run(future), slot);
        // Detached: it tells of its end by its slot, also when the runtime drops it.
        match &this.home {
            Some(home) => drop(home.spawn(work)),
            None => drop(tokio::spawn(work)),
        }
    }

    /// Rule 3: the source is read no more, and dropped. A panic of its destructor takes the place of
    /// an end that had no other reason.
    fn end(self: Pin<&mut Self>, why: Option<MapError>) {
        let mut this = self.project();
        let dropped = catch_unwind(AssertUnwindSafe(|| this.source.set(None)));
        let index = this.exit.counts().reserved;
        let second =
            dropped.map_err(|panic| MapError::Panicked { index, panic: Panic::new(panic) });
        *this.last = why.or(second.err()).map(|error| (index, error));
        this.entry.close();
    }
}
