//! Contexts that end when others do.

use selvedge_primitives::Origin;

use crate::tree::{Handle, Level, Link};
use crate::{Canceller, Context, Registration};

impl Context {
    /// A context that ends as soon as one of `sources` does, for that one's cause; and the right to cancel it earlier.
    ///
    /// It is the root of a tree of its own: the sources may be in any trees, and it carries no values. It is stopped when
    /// one of them is stopped, and cancelled when one is cancelled; neither says anything of the end of a grace, which
    /// then comes as a cancel. A source that is cancelled already cancels it at once; the background never does. A
    /// deadline of a source is not [its own](Self::deadline): its timer is set, and ends this context as well. So a loop that
    /// keeps the timer from running, and only asks [`is_cancelled`](Self::is_cancelled) of this context, does not see it.
    ///
    /// It ends by a callback, as [`on_cancel`](Self::on_cancel) has them: on the thread that ends the source, after what is
    /// below the source was flagged, and mostly before that `cancel` returns; right after it, when that is itself called by a
    /// link, from a callback on a linked context, say. Who has
    /// [entered](Self::enter) it is inside of it, and not of its sources.
    ///
    /// No task and no thread is involved. The sources' nodes are kept live until this context's node is gone; the other
    /// way round nothing is kept, so that a source which lives for ever holds no memory of contexts that do not. Six
    /// allocations a source, and five more.
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
        let levels = [Level::Stopping, Level::Cancelled];
        let all = sources.into_iter().filter_map(Context::handle);
        for (source, level) in all.flat_map(|source| levels.map(|level| (source, level))) {
            if source.has_reached(level) {
                link.source_had_ended(level, source.known_cause());
                continue;
            }
            let link = link.clone();
            let tell = Box::new(move |cause| link.source_ended(level, cause));
            registrations.push(Registration::new(Some(source), level, tell));
        }
        handle.own(Box::pin(registrations));
        let (ctx, canceller) = (Context::of(handle), Canceller::new(right));
        if needed == 0 {
            canceller.cancel();
        }
        (ctx, canceller)
    }
}
