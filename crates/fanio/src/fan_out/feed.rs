//! The feed of a fan-out: reads the source and puts each item into a lane.
//!
//! # Protocol
//!
//! 1. The feed leaves its waker first and looks at the lanes then, so that whoever takes an item it
//!    waits for, or drops the last outlet of a lane, wakes it.
//! 2. What lay in a lane that lost its last outlet is put *back*, and behind it the item that waits
//!    for room in that lane. It goes before everything else, in its order, so that the order of a key
//!    is kept.
//!    Where the route is strict, what is put back has nowhere to go: it stays there, and the source is read
//!    no more.
//! 3. The next item is the one that found no room before; or the first of those put back; or one
//!    from the source. It goes into the lane of its route and waits there for room.
//! 4. When the source has ended, or the context is stopping, and nothing waits for room, the lanes
//!    are closed. The feed has ended when they are empty, or have no outlets; what is put back then
//!    is *left*. It ends at once when no outlet is left at all, or the context is cancelled.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use pin_project::{pin_project, pinned_drop};
use selvedge_cancel::{Cancelled, Cause, Context, Stopping};
use selvedge_primitives::{FirstPanic, Origin, contain, coop, drop_each};

use super::lane::Shared;
use super::route::Route;

/// The feed of a fan-out: a future that reads the source and hands its items to the outlets; from
/// [`fan_out`](crate::fan_out()), which says what it promises. Completes with a [`FanOutReport`].
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled: nothing comes out of the outlets"]
pub struct FanOut<S: Stream> {
    /// Where items come from; none once it ended.
    #[pin]
    source: Option<S>,
    /// Tells that the context is stopping.
    #[pin]
    stopping: Stopping<'static>,
    /// Tells that it is cancelled.
    #[pin]
    cancelled: Cancelled<'static>,
    /// The lanes.
    shared: Arc<Shared<S::Item>>,
    /// Which lane an item goes to.
    route: Route<S::Item>,
    /// Which lanes had an outlet when the feed last looked.
    alive: Vec<bool>,
    /// How many lanes had lost theirs by then.
    departures: usize,
    /// An item that found no room in its lane.
    waiting: Option<(usize, S::Item)>,
    /// What lay in lanes without outlets.
    back: VecDeque<S::Item>,
    /// Whether the lanes are closed.
    closed: bool,
    /// What the report will say of the source.
    read: u64,
    /// As above.
    complete: bool,
    /// As above.
    cause: Option<Cause>,
    /// Where the fan-out was made.
    origin: Origin,
}

/// What a fan-out did; the output of [`FanOut`].
///
/// Every item that was read was taken by an outlet, or is in [`left`](Self::left), or lay in the
/// queue of an outlet when the context was cancelled, which that outlet can still take.
#[derive(Debug)]
#[non_exhaustive]
pub struct FanOutReport<T> {
    /// How many items were read from the source.
    pub read: u64,
    /// Whether the source was read to its end.
    pub complete: bool,
    /// What was read, and no outlet has taken or can take: the outlet was gone, or the context was
    /// cancelled while there was no room.
    pub left: Vec<T>,
    /// Why the context ended, if that kept the source from being read to its end.
    pub cause: Option<Cause>,
}

impl<S: Stream> FanOut<S> {
    /// A feed that has not begun.
    #[track_caller]
    pub(super) fn new(
        source: S,
        shared: &Arc<Shared<S::Item>>,
        route: Route<S::Item>,
        ctx: &Context,
    ) -> Self {
        Self {
            source: Some(source),
            stopping: ctx.stopping_owned(),
            cancelled: ctx.cancelled_owned(),
            shared: Arc::clone(shared),
            route,
            alive: vec![true; shared.len()],
            departures: 0,
            waiting: None,
            back: VecDeque::new(),
            closed: false,
            read: 0,
            complete: false,
            cause: None,
            origin: Origin::here(),
        }
    }

    /// Rule 2: puts back what lies in a lane, if it has no outlets, and behind that what waits for
    /// room there.
    fn reclaim(self: Pin<&mut Self>, lane: usize) {
        let this = self.project();
        if let Some(mut items) = this.shared.reclaim(lane) {
            this.alive[lane] = false;
            items.extend(this.waiting.take_if(|waiting| waiting.0 == lane).map(|(_, item)| item));
            items.append(this.back);
            *this.back = items;
        }
    }

    /// Rule 3: the next item and its lane; none when there will be no more.
    fn poll_item(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<(usize, S::Item)>> {
        let mut this = self.project();
        if let Some(waiting) = this.waiting.take() {
            return Poll::Ready(Some(waiting));
        }
        let stuck = this.route.is_strict() && !this.back.is_empty();
        if stuck {
            this.source.set(None);
        }
        let mut item = if *this.closed || stuck { None } else { this.back.pop_front() };
        if item.is_none()
            && let Some(source) = this.source.as_mut().as_pin_mut()
        {
            if let Poll::Ready(cause) = this.stopping.poll(cx) {
                *this.cause = Some(cause);
            } else if let Some(read) = ready!(source.poll_next(cx)) {
                *this.read += 1;
                item = Some(read);
            } else {
                *this.complete = true;
            }
            if item.is_none() {
                this.source.set(None);
            }
        }
        let Some(item) = item else { return Poll::Ready(None) };
        // Unwind safe: after a panic nobody asks the route again.
        let picked = catch_unwind(AssertUnwindSafe(|| this.route.pick(&item, this.alive)));
        let picked = match picked {
            Ok(picked) => picked,
            Err(panic) => {
                contain(|| drop(item));
                resume_unwind(panic)
            }
        };
        let Some(lane) = picked else {
            // Rule 2: nowhere to go.
            this.back.push_back(item);
            this.source.set(None);
            return Poll::Ready(None);
        };
        Poll::Ready(Some((lane, item)))
    }

    /// Rule 4: the end.
    fn end(mut self: Pin<&mut Self>) -> FanOutReport<S::Item> {
        self.shared.close();
        self.shared.forget_feeder();
        // Whoever left since this poll began.
        for lane in 0..self.alive.len() {
            self.as_mut().reclaim(lane);
        }
        let mut this = self.project();
        this.source.set(None);
        let waiting = this.waiting.take().map(|(_, item)| item);
        FanOutReport {
            read: *this.read,
            complete: *this.complete,
            left: std::mem::take(this.back).into_iter().chain(waiting).collect(),
            cause: this.cause.take(),
        }
    }

    /// Whether every lane is empty, or has no outlets.
    fn is_drained(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        let alive = (0..this.alive.len()).filter(|lane| this.alive[*lane]);
        // Each is asked, so that each wakes the feed.
        alive.filter(|lane| !this.shared.is_drained(*lane)).count() == 0
    }
}

impl<S: Stream> Future for FanOut<S> {
    type Output = FanOutReport<S::Item>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let departures = this.shared.leave_feeder(cx.waker());
        if std::mem::replace(this.departures, departures) != departures {
            for lane in 0..this.alive.len() {
                if self.alive[lane] {
                    self.as_mut().reclaim(lane);
                }
            }
        }
        loop {
            ready!(coop::poll_proceed(cx)).made_progress();
            if !self.alive.contains(&true) {
                return Poll::Ready(self.end());
            }
            // Unwind safe: after a panic of the source or the route nothing is read any more.
            let polled = catch_unwind(AssertUnwindSafe(|| self.as_mut().poll_item(cx)));
            let polled = polled.unwrap_or_else(|panic| {
                self.shared.close();
                let mut this = self.as_mut().project();
                *this.closed = true;
                contain(|| this.source.set(None));
                resume_unwind(panic)
            });
            let Some((lane, item)) = ready!(polled) else {
                if !std::mem::replace(self.as_mut().project().closed, true) {
                    self.shared.close();
                }
                if self.as_mut().is_drained() {
                    return Poll::Ready(self.end());
                }
                ready!(self.as_mut().project().cancelled.poll(cx));
                return Poll::Ready(self.end());
            };
            if let Err(item) = self.shared.put(lane, item) {
                let this = self.as_mut().project();
                *this.waiting = Some((lane, item));
                let cause = ready!(this.cancelled.poll(cx));
                *this.cause = Some(cause);
                return Poll::Ready(self.end());
            }
        }
    }
}

#[pinned_drop]
impl<S: Stream> PinnedDrop for FanOut<S> {
    fn drop(self: Pin<&mut Self>) {
        self.shared.close();
        self.shared.forget_feeder();
        let mut this = self.project();
        let mut panics = FirstPanic::new();
        panics.catch(|| this.source.set(None));
        this.back.extend(this.waiting.take().map(|(_, item)| item));
        panics.catch(|| drop_each(std::mem::take(this.back)));
        panics.catch(|| *this.route = Route::shared());
        panics.resume();
    }
}

impl<S: Stream> fmt::Debug for FanOut<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOut")
            .field("origin", &self.origin)
            .field("route", &self.route)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}
