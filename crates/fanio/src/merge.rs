//! The merge: several streams as one, fair, with a bound.
//!
//! The face. `merge/engine.rs` says whose turn it is and proves the bound, `merge/bitmap.rs` has the
//! marks of the sources that were woken and the protocol between wakers and the merge,
//! `merge/waker.rs` the wakers, `merge/sources.rs` the sources and the line of those that are ready.

mod bitmap;
mod engine;
mod sources;
mod waker;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use selvedge_primitives::{Origin, Panic, coop};

use crate::NextItem;
use engine::Turns;

/// How many items in a row a source gives at most, unless said otherwise.
const QUANTUM: usize = 16;

/// Merges streams into one, that gives the items of all as they come.
///
/// Fan-in: the merge ends when every source has ended, and each source is dropped as soon as it
/// has. Sources of one type need not be boxed and need not be `Unpin`; streams of several types
/// become one type as `Pin<Box<dyn Stream<Item = T> + Send>>`. To learn which source an item comes
/// from, take [`Merge::tagged`]. A merge of nothing has ended.
///
/// # Examples
///
/// ```
/// use selvedge_fanio::merge;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let sources = (0..3).map(|part| {
///     let (sender, receiver) = async_channel::bounded(4);
///     tokio::spawn(async move {
///         for number in 0..10 {
///             sender.send(part * 100 + number).await.unwrap();
///         }
///     });
///     receiver
/// });
///
/// let mut merged = merge(sources);
/// let mut sum = 0;
/// while let Some(number) = merged.next().await {
///     sum += number;
/// }
/// assert_eq!(sum, 3 * 45 + 10 * (0 + 100 + 200));
/// # });
/// ```
#[track_caller]
pub fn merge<I>(sources: I) -> Merge<I::Item>
where
    I: IntoIterator,
    I::Item: Stream,
{
    Merge { turns: Turns::new(sources.into_iter(), QUANTUM), origin: Origin::here() }
}

/// Several streams as one; from [`merge()`]. A stream of their items.
///
/// # Cancel safety
///
/// An item is taken from its source in the poll that gives it out, so nothing is lost when a
/// [`next`](Self::next) is dropped. Dropping the merge drops the sources with what is left in them.
///
/// # Fairness
///
/// A source gives at most a *quantum* of items in a row (16, or what [`quantum`](Self::quantum)
/// says), and then the others have their turns first. With N sources and a quantum of q, the others
/// give at most (N-1)·q items between the moment in which a source is ready and the item that it
/// gives. It is ready when its wake-up, and those under way beside it, have returned.
/// `merge/engine.rs` has the proof; how long those items take is up to whoever asks for them.
///
/// # Memory ordering
///
/// What preceded the wake-up of a source happens before the poll of the source that follows.
///
/// # Panics
///
/// A source that panics when it is polled or dropped has ended, and the others go on. The first
/// panic goes on when they have all ended, in place of the end; after that the merge has ended.
/// [`take_panics`](Self::take_panics) takes them out before.
///
/// When the merge is dropped and the destructor of a source panics, the others are dropped first.
///
/// # Algorithm
///
/// A ready bitmap of two levels: the waker of a source sets its bit, and only sources whose bit was
/// set are polled, each at most once for every time that it was woken or gave an item. So an item
/// costs what its own source costs, however many others sleep. The wakers of all sources lie in one
/// allocation; an item allocates nothing, and takes no lock while the merge has something to do. To
/// go to sleep costs it two locks and a clone of its waker, and the wake-up that ends the sleep one
/// lock. A poll spends one unit of tokio's cooperative budget.
#[must_use = "streams do nothing unless polled"]
pub struct Merge<S> {
    /// Whose turn it is.
    turns: Turns<S>,
    /// Where it was made.
    origin: Origin,
}

impl<S> Merge<S> {
    /// How many items in a row a source gives at most: fewer are fairer, more are faster where going
    /// from source to source is what costs. 0 counts as 1.
    pub fn quantum(mut self, items: usize) -> Self {
        self.turns.set_quantum(items.max(1));
        self
    }

    /// The same with each item in a pair behind the number of its source: the first that
    /// [`merge()`] was given is 0.
    pub fn tagged(self) -> Tagged<S> {
        Tagged { merge: self }
    }

    /// How many sources have not ended, as far as the merge has seen.
    pub fn live(&self) -> usize {
        self.turns.live()
    }

    /// Takes out the panics of sources so far, each behind the number of its source. What is taken
    /// does not go on at the end.
    pub fn take_panics(&mut self) -> Vec<(usize, Panic)> {
        self.turns.take_panics()
    }
}

impl<S: Stream> Merge<S> {
    /// The next item of any source; none when all have ended. See [`Merge`].
    #[track_caller]
    pub const fn next(&mut self) -> NextItem<'_, Self> {
        NextItem::new(self)
    }

    /// The next item with the number of its source.
    fn poll_tagged(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, S::Item)>> {
        // Spent at once: a share of the budget that is held over the polls of the sources would
        // undo what those spend, when it is given back.
        ready!(coop::poll_proceed(cx)).made_progress();
        self.turns.poll_next(cx)
    }
}

// The sources are pinned where they are; nothing is pinned in the merge itself.
impl<S> Unpin for Merge<S> {}

impl<S: Stream> Stream for Merge<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.poll_tagged(cx).map(|item| item.map(|(_, item)| item))
    }
}

impl<S> fmt::Debug for Merge<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merge")
            .field("origin", &self.origin)
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

/// A [`Merge`] whose items come with the number of their source; from [`Merge::tagged`].
/// Everything said of [`Merge`] holds.
#[must_use = "streams do nothing unless polled"]
pub struct Tagged<S> {
    /// The merge.
    merge: Merge<S>,
}

impl<S> Tagged<S> {
    /// As [`Merge::live`].
    pub fn live(&self) -> usize {
        self.merge.live()
    }

    /// As [`Merge::take_panics`].
    pub fn take_panics(&mut self) -> Vec<(usize, Panic)> {
        self.merge.take_panics()
    }
}

impl<S: Stream> Tagged<S> {
    /// The next item of any source, behind the number of the source. See [`Merge`].
    #[track_caller]
    pub const fn next(&mut self) -> NextItem<'_, Self> {
        NextItem::new(self)
    }
}

impl<S> Unpin for Tagged<S> {}

impl<S: Stream> Stream for Tagged<S> {
    type Item = (usize, S::Item);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.merge.poll_tagged(cx)
    }
}

impl<S> fmt::Debug for Tagged<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tagged").field("merge", &self.merge).finish()
    }
}
