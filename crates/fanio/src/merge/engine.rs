//! The engine of a merge: whose turn it is.
//!
//! # Vocabulary
//!
//! A source is *ready* while it stands in the *line*: it was woken, or gave an item when it was last
//! polled, or was never polled. The first in the line gets a *turn*: it is polled until it is
//! pending, ends, or has given a *quantum* of items, one item a poll of the merge. `bitmap.rs` has
//! the marks of those that were woken, `sources.rs` the line.
//!
//! # Protocol
//!
//! 1. At the end of a turn, whoever is marked is put at the end of the line; after all of them the
//!    source whose turn it was, if it is marked, or if its quantum ended the turn.
//! 2. The first of the line has its turn next. With nobody there the merge sleeps, unless somebody
//!    was marked meanwhile.
//! 3. A source that ends, or panics, is dropped at once. Its wakers still mark it; a mark of a
//!    source that is gone is skipped.
//! 4. When no source is left, the merge has ended.
//!
//! # The bound
//!
//! Let there be N sources and a quantum of q. *Between the moment in which a source becomes ready
//! and its turn, the others give at most (N-1)·q items.*
//!
//! Proof. A source that becomes ready is marked, or put at the end of the line because its own
//! quantum ended. Take the next end of a turn, or this one; rule 1 puts it into the line there, if it
//! is not in it. If another source was in its turn until then, that one has given at most q items
//! since, and by rule 1 it comes into the line behind ours; so before ours there are at most the N-2
//! remaining ones, as none is in the line twice. If no other source was in its turn, there are at
//! most N-1 before ours. Nobody gets before it later, because rule 1 only adds at the end. Each of
//! those before it has one turn of at most q items. Together that is q + (N-2)·q in the one case and
//! (N-1)·q in the other.
//!
//! A wake-up that finds another one half done, which has marked below and not yet above (see
//! `bitmap.rs`), leaves the rest to that one. So a source is ready when its wake-up has returned, and those
//! under way beside it among the same 4,096 sources have; the bound counts from there.
//!
//! # Why a poll ends
//!
//! Each poll of a source in a poll of the merge gives an item, which ends the poll; or ends the
//! source; or is pending. After one more pending one than there were sources, the merge wakes itself
//! and is pending, whatever other threads mark meanwhile. It does so, too, after the second source
//! that woke itself and was pending: it yields to the executor, and then so does the merge. And it does
//! so when the sources have spent tokio's cooperative budget: then each of them would be pending, and
//! to ask them all would cost N polls for each budget.
//!
//! # Panics
//!
//! A panic of a source, in its poll or its destructor, ends that source alone. It is kept, and the
//! first one goes on when all the others have ended, in place of the end; unless it was taken out
//! before. So nothing of the other sources is lost, and no panic is, where the merge is read to its
//! end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use selvedge_primitives::{Panic, contain, coop, wake};

use super::bitmap::Bitmap;
use super::sources::Sources;

/// After so many sources that woke themselves and were pending, the merge yields.
const YIELDED: usize = 2;

/// Who is polled next.
pub(super) struct Turns<S> {
    /// The sources, and the line.
    sources: Sources<S>,
    /// The marks.
    bitmap: Bitmap,
    /// How many items a turn has at most.
    quantum: usize,
    /// Whose turn it is, or was last.
    turn: Option<Turn>,
    /// What panicked: the source's number, and with what.
    panics: Vec<(usize, Panic)>,
}

/// The turn of a source.
struct Turn {
    /// Whose.
    index: usize,
    /// How many items it may still give.
    left: usize,
    /// Whether it is ready, as far as it has shown: it was not polled yet, or gave an item.
    ready: bool,
}

impl<S> Turns<S> {
    /// Every source is ready.
    pub(super) fn new(sources: impl Iterator<Item = S>, quantum: usize) -> Self {
        let sources = Sources::new(sources);
        let bitmap = Bitmap::new(sources.len());
        Self { sources, bitmap, quantum, turn: None, panics: Vec::new() }
    }

    /// Sets the quantum; the turn that goes on keeps its own.
    pub(super) fn set_quantum(&mut self, quantum: usize) {
        self.quantum = quantum;
    }

    /// How many sources have not ended.
    pub(super) fn live(&self) -> usize {
        self.sources.live()
    }

    /// Takes out what panicked.
    pub(super) fn take_panics(&mut self) -> Vec<(usize, Panic)> {
        std::mem::take(&mut self.panics)
    }

    /// Rules 1 and 2: whose turn it is, if anybody is ready.
    fn turn(&mut self) -> Option<&mut Turn> {
        let last = self.turn.as_ref();
        if last.is_none_or(|last| last.left == 0 || !last.ready) {
            let mut again = last.filter(|last| last.ready).map(|last| last.index);
            let last = last.map(|last| last.index);
            if self.bitmap.has_news() {
                self.bitmap.drain(|index| match Some(index) == last {
                    true => again = last,
                    false => self.sources.line_up(index),
                });
            }
            if let Some(index) = again {
                self.sources.line_up(index);
            }
            let index = self.sources.step_up()?;
            self.turn = Some(Turn { index, left: self.quantum, ready: true });
        }
        self.turn.as_mut()
    }

    /// Rule 3: a source has ended.
    fn remove(&mut self, index: usize) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.sources.remove(index))) {
            self.panics.push((index, Panic::new(payload)));
        }
    }

    /// Rule 4: there are no sources. The first panic that nobody took goes on, once.
    fn end(&mut self) {
        let mut panics = self.take_panics().into_iter();
        if let Some((_, panic)) = panics.next() {
            drop(panics);
            panic.resume();
        }
    }
}

impl<S: Stream> Turns<S> {
    /// The next item, and the number of its source.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, S::Item)>> {
        let most = self.sources.live();
        let (mut fruitless, mut yielded) = (0, 0);
        while fruitless <= most && yielded < YIELDED {
            let Some(turn) = self.turn() else {
                if self.sources.live() == 0 {
                    self.end();
                    return Poll::Ready(None);
                }
                if self.bitmap.sleep(cx.waker()) {
                    return Poll::Pending;
                }
                fruitless += 1;
                continue;
            };
            // Only asked: what it takes it gives back. With the budget spent a source that takes part in it
            // would be pending and lose its turn, again and again the same one; so its turn waits.
            drop(ready!(coop::poll_proceed(cx)));
            turn.left -= 1;
            let index = turn.index;
            let polled = self.poll_source(index);
            if let Poll::Ready(Some(item)) = polled {
                return Poll::Ready(Some((index, item)));
            }
            self.turn = Some(Turn { index, left: 0, ready: false });
            if polled.is_ready() {
                self.remove(index);
            } else {
                fruitless += 1;
                yielded += usize::from(self.bitmap.is_woken(index));
            }
        }
        // It is somebody else's code.
        contain(|| wake(cx.waker().clone()));
        Poll::Pending
    }

    /// Polls a source with a waker of its own. One that panics has ended.
    fn poll_source(&mut self, index: usize) -> Poll<Option<S::Item>> {
        let source = self.sources.get(index).expect("only sources that are there are in the line");
        // Unwind safe: a source that panicked is dropped next, and not polled again.
        let polled = self.bitmap.lend(index, |waker| {
            catch_unwind(AssertUnwindSafe(|| source.poll_next(&mut Context::from_waker(waker))))
        });
        polled.unwrap_or_else(|payload| {
            self.panics.push((index, Panic::new(payload)));
            Poll::Ready(None)
        })
    }
}

impl<S> Drop for Turns<S> {
    fn drop(&mut self) {
        self.bitmap.forget_task();
    }
}
