//! Contexts that end when others do.

use selvedge_primitives::Origin;

use crate::tree::{Handle, Level, Link};
use crate::{Canceller, Context};

impl Context {
    /// A context that ends as soon as one of `sources` does, for that one's cause; and the right to cancel it earlier.
    ///
    /// It is the root of a tree of its own: the sources may be in any trees, and it carries no values. It is stopped when
    /// one of them is stopped, and cancelled when one is cancelled; neither says anything of the end of a grace, which
    /// then comes as a cancel. A source that is cancelled already cancels it at once; the background never does. A
    /// deadline of a source is not [its own](Self::deadline): its timer is set, and ends this context as well.
    ///
    /// No task and no thread is involved. The sources' nodes are kept live until this context's node is gone; the other
    /// way round nothing is kept, so that a source which lives for ever holds no memory of contexts that do not. About
    /// ten allocations a source.
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// let (server, shutdown) = Context::background().child();
    /// let (connection, _close) = Context::background().child();
    /// let (either, _canceller) = Context::any_of([&server, &connection]);
    /// shutdown.cancel();
    /// assert!(either.is_cancelled() && !connection.is_cancelled());
    /// ```
    #[track_caller]
    pub fn any_of<'a>(sources: impl IntoIterator<Item = &'a Context>) -> (Context, Canceller) {
        Self::linked(Origin::here(), sources.into_iter(), |_| 1)
    }

    /// A context that ends as soon as all of `sources` have ended, for the last one's cause; and the right to cancel it
    /// earlier. Otherwise as [`any_of`](Self::any_of).
    ///
    /// With the background among them it never ends by itself; without sources it is cancelled at once.
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// let (first, first_canceller) = Context::background().child();
    /// let (second, second_canceller) = Context::background().child();
    /// let (nobody_asks, _canceller) = Context::all_of([&first, &second]);
    /// first_canceller.cancel();
    /// assert!(!nobody_asks.is_cancelled());
    /// second_canceller.cancel();
    /// assert!(nobody_asks.is_cancelled());
    /// ```
    #[track_caller]
    pub fn all_of<'a>(sources: impl IntoIterator<Item = &'a Context>) -> (Context, Canceller) {
        Self::linked(Origin::here(), sources.into_iter(), |sources| sources)
    }

    /// A context that ends when so many of `sources` have ended.
    fn linked<'a>(
        origin: Origin,
        sources: impl Iterator<Item = &'a Context>,
        needed: impl FnOnce(usize) -> usize,
    ) -> (Context, Canceller) {
        let sources: Vec<_> = sources.collect();
        let needed = needed(sources.len());
        let link = Link::new(needed);
        let (handle, right) = Handle::linked(origin, &link);
        let mut registrations = Vec::with_capacity(2 * sources.len());
        for source in sources {
            let (stop, cancel) = (link.clone(), link.clone());
            registrations
                .push(source.on_stop(move |cause| stop.source_ended(Level::Stopping, cause)));
            registrations
                .push(source.on_cancel(move |cause| cancel.source_ended(Level::Cancelled, cause)));
        }
        handle.own(Box::pin(registrations));
        let (ctx, canceller) = (Context::of(handle), Canceller::new(right));
        if needed == 0 {
            canceller.cancel();
        }
        (ctx, canceller)
    }
}
