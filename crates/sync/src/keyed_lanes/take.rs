//! The futures of a take, and of one within a context.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::{Anchor, coop};

use super::engine::{Engine, Place, Told};
use super::lease::{LaneHold, Lease};

/// Waits for an item; made by [`KeyedLanes::take`](crate::KeyedLanes::take), which says what it promises.
#[pin_project(PinnedDrop)]
#[must_use = "a future does nothing until it is polled"]
pub struct TakeLease<'a, K, T> {
    /// Where.
    engine: &'a Arc<Engine<K, T>>,
    /// The place in the line of takers.
    #[pin]
    place: Place<'a, K, T>,
    /// Whether it was ready.
    over: bool,
    /// Who called `take`.
    caller: &'static Location<'static>,
}

impl<'a, K, T> TakeLease<'a, K, T> {
    /// A take.
    #[track_caller]
    pub(super) fn new(engine: &'a Arc<Engine<K, T>>) -> Self {
        let place = Place::new(Anchor::borrowed(engine.queue()));
        Self { engine, place, over: false, caller: Location::caller() }
    }
}

impl<K, T> Future for TakeLease<'_, K, T> {
    type Output = Option<Lease<K, T>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Lease<K, T>>> {
        let this = self.project();
        assert!(!*this.over, "a take is not polled after it was ready");
        let proceed = ready!(coop::poll_proceed(cx));
        let told = ready!(this.engine.poll_take(this.place, cx));
        *this.over = true;
        proceed.made_progress();
        Poll::Ready(match told {
            Told::Leased(lane, item) => {
                Some(Lease::new(item, LaneHold::new(Arc::clone(this.engine), lane)))
            }
            Told::Over => None,
        })
    }
}

#[pinned_drop]
impl<K, T> PinnedDrop for TakeLease<'_, K, T> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        this.engine.leave(this.place);
    }
}

impl<K, T> fmt::Debug for TakeLease<'_, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeLease").field("place", &format_args!("{}", self.caller)).finish()
    }
}
