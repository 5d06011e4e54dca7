//! Which sources of a merge were woken: a bitmap of two levels, and the sleep of the merge.
//!
//! # Vocabulary
//!
//! Sources come in *groups* of [`LANES`], each source with a *lane* of its group. A source is *woken*
//! by its waker, which *marks* it here; the merge *drains* the marks. The merge is *awake* while it
//! is polled or has something to do, and *asleep* when its last poll was pending and nobody marked
//! anything since.
//!
//! ```text
//!   woken      of a group    a bit a source: woken, and not drained yet
//!   occupied   of 64 groups  a bit a group: `woken` may be other than 0
//!   merge      of the whole  AWAKE, NOTIFIED or ASLEEP
//! ```
//!
//! | `merge` | meaning | who may leave it |
//! |---|---|---|
//! | `AWAKE` | the merge drained, and nobody has marked since | a marker, to `NOTIFIED`; the merge, to `ASLEEP` |
//! | `NOTIFIED` | there is something to drain | the merge, to `AWAKE`, before it drains |
//! | `ASLEEP` | the merge's waker is here | a marker, to `NOTIFIED`, and it wakes; the merge, to `AWAKE` |
//!
//! # Protocol
//!
//! 1. *Mark*: set the source's bit in `woken`; if `woken` was 0, set the group's bit in `occupied`;
//!    if that was 0, set `merge` to `NOTIFIED`; if it was `ASLEEP`, take the merge's waker and wake.
//! 2. *Drain*, the other way round: set `merge` to `AWAKE`, empty each `occupied`, empty `woken` of
//!    each group found in it.
//! 3. *Sleep*: leave the waker, then change `merge` from `AWAKE` to `ASLEEP`. If it is `NOTIFIED` by
//!    then, drain again.
//!
//! # Why no wake is lost
//!
//! Every change is a read-modify-write, so each sees the one before it. Take a level and the level
//! above it. The marker writes below and then above; the merge clears above and then below. If the
//! marker finds something below, somebody else put it there, who has marked above or is about to; the
//! merge that clears that mark above acquires it, so it finds something below, and takes both bits.
//! If the marker finds nothing below, it marks above, after the merge last cleared below and hence,
//! because both orderings are acquire-release, after the merge last cleared above: so the mark above
//! stays until the merge clears it, and then it goes below and finds the bit.
//!
//! A word below that it finds empty the merge does not clear ([`take`] looks first), so for that one "the
//! merge last cleared below" says nothing of this drain. The mark stays all the same: had the marker's mark
//! above come before the merge cleared above, the merge would have acquired it, and its look below would
//! have found the bit, or an earlier drain would have taken it.
//!
//! At the top it is the same with the sleep: the exchange from `AWAKE` to `ASLEEP` fails if a marker
//! came between, and a marker that comes after it wakes. The waker is there by then: it was left
//! before, under its lock. A slow marker may take a waker that was left for a later sleep; it wakes
//! it, so the merge is polled once too often, and each sleep looks whether the waker is still there.
//!
//! # Cost
//!
//! One allocation for the wakers of all sources and everything else here. A wake-up is one atomic
//! operation, two if it is the first of its group since that was drained, three if it is the first of its
//! 64 groups. A sleep costs the merge two locks and a clone of its waker, and who ends it one lock; where
//! the waker that the merge left is still there, it costs one lock. A drain costs one operation for each
//! group that has something, and one for each 4,096 sources.

use std::sync::Arc;
use std::task::Waker;

use selvedge_primitives::atomic::{AtomicU8, AtomicU64, Ordering};
use selvedge_primitives::{Mutex, contain, wake};

use super::waker::{self, Lane};

/// How many sources a group has, and how many groups share a word of `occupied`.
#[cfg(not(selvedge_loom))]
pub(super) const LANES: usize = 64;
/// Two, so that a model with three sources has two groups.
#[cfg(selvedge_loom)]
pub(super) const LANES: usize = 2;

/// The merge drained, and nobody has marked since.
const AWAKE: u8 = 0;
/// There is something to drain.
const NOTIFIED: u8 = 1;
/// The merge waits for its waker.
const ASLEEP: u8 = 2;

/// What a merge and the wakers of its sources share. Each waker holds the whole block.
pub(super) struct Bitmap {
    /// One for each [`LANES`] sources, and at least one.
    groups: Arc<[Group]>,
}

/// A group of sources. All that there is once in a merge, or once in many groups, has room in each
/// of them, so that the block is one array in one allocation.
pub(super) struct Group {
    /// A bit a source: woken, and not drained yet.
    woken: AtomicU64,
    /// In each `LANES`-th group: a bit for each group from this one on.
    occupied: AtomicU64,
    /// In the first group: `AWAKE`, `NOTIFIED` or `ASLEEP`.
    merge: AtomicU8,
    /// In the first group: whom to wake. There when the merge falls asleep; taken by who wakes it.
    task: Mutex<Option<Waker>>,
    /// Which group this is.
    pub(super) index: usize,
    /// How many groups the block has.
    pub(super) count: usize,
    /// What the wakers of the sources point to.
    pub(super) lanes: [Lane; LANES],
}

impl Bitmap {
    /// For so many sources, none of which was woken.
    pub(super) fn new(sources: usize) -> Self {
        let count = sources.div_ceil(LANES).max(1);
        let group = |index| Group {
            woken: AtomicU64::new(0),
            occupied: AtomicU64::new(0),
            merge: AtomicU8::new(AWAKE),
            task: Mutex::new(None),
            index,
            count,
            lanes: std::array::from_fn(Lane::new),
        };
        Self { groups: (0..count).map(group).collect() }
    }

    /// Runs `f` with the waker of `source`.
    pub(super) fn lend<R>(&self, source: usize, f: impl FnOnce(&Waker) -> R) -> R {
        waker::lend(&self.groups, source / LANES, source % LANES, f)
    }

    /// Whether `source` was woken and not drained, as far as this thread can see.
    pub(super) fn is_woken(&self, source: usize) -> bool {
        // Relaxed: a hint; what this very thread marked, it sees.
        self.groups[source / LANES].woken.load(Ordering::Relaxed) & (1 << (source % LANES)) != 0
    }

    /// Whether there may be something to drain.
    pub(super) fn has_news(&self) -> bool {
        // Relaxed: seen late, it is drained late; the exchange in `sleep` is what decides.
        self.groups[0].merge.load(Ordering::Relaxed) != AWAKE
    }

    /// Rule 2: takes all marks, and gives the sources to `each`.
    pub(super) fn drain(&self, mut each: impl FnMut(usize)) {
        // Acquire: pairs with the Release in `mark`; the bits in `occupied` set before are seen.
        self.groups[0].merge.swap(AWAKE, Ordering::Acquire);
        for first in (0..self.groups.len()).step_by(LANES) {
            let occupied = take(&self.groups[first].occupied);
            for group in bits(occupied).map(|bit| &self.groups[first + bit]) {
                for bit in bits(take(&group.woken)) {
                    each(group.index * LANES + bit);
                }
            }
        }
    }

    /// Rule 3: falls asleep until `task` is woken, or says that there is something to drain.
    #[must_use]
    pub(super) fn sleep(&self, task: &Waker) -> bool {
        let first = &self.groups[0];
        first.leave(task);
        // Relaxed: who finds `ASLEEP` takes the lock under which the waker was left before, and the
        // order of the locks follows. A failure is followed by the swap in `drain`.
        let slept =
            first.merge.compare_exchange(AWAKE, ASLEEP, Ordering::Relaxed, Ordering::Relaxed);
        slept.is_ok()
    }

    /// The merge is gone, and wants to be woken no more.
    pub(super) fn forget_task(&self) {
        let old = self.groups[0].task.lock().take();
        contain(|| drop(old));
    }
}

impl Group {
    /// Leaves the merge's waker, unless it is here.
    fn leave(&self, task: &Waker) {
        if self.task.lock().as_ref().is_some_and(|left| left.will_wake(task)) {
            return;
        }
        // Cloned with no lock held, because a clone is the executor's code. Who takes the waker
        // meanwhile leaves nothing, or puts nothing in its place.
        let fresh = task.clone();
        let old = self.task.lock().replace(fresh);
        contain(|| drop(old));
    }
}

/// Rule 1: the source in this lane of this group was woken.
pub(super) fn mark(groups: &[Group], group: usize, lane: usize) {
    // AcqRel, with the swap in `take`, both ways: what preceded the wake-up is seen by the poll of
    // the source; and if that swap left 0, what follows here comes after what preceded it there.
    if groups[group].woken.fetch_or(1 << lane, Ordering::AcqRel) != 0 {
        return;
    }
    let above = &groups[group - group % LANES].occupied;
    // AcqRel, with the swap in `take`, both ways: the drain then sees the bit in `woken`; and if
    // that swap left 0, what follows here comes after what preceded it there.
    if above.fetch_or(1 << (group % LANES), Ordering::AcqRel) != 0 {
        return;
    }
    // Release: pairs with the Acquire in `drain`, which then sees the bit in `occupied`.
    if groups[0].merge.swap(NOTIFIED, Ordering::Release) == ASLEEP {
        let task = groups[0].task.lock().take();
        // It belongs to the task that polls the merge; the source's side is not to blame.
        contain(|| wake(task));
    }
}

/// Empties a word of a level, unless it is empty: most words of a large merge are, and a load leaves
/// their cache lines where they are.
fn take(word: &AtomicU64) -> u64 {
    // Relaxed: what was marked before the mark above, which has been acquired, is seen.
    if word.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    // AcqRel, with the two in `mark`, both ways: what preceded the marks found here is seen (the
    // marks below, or what the source is to find when it is polled); and a marker that finds 0 here
    // marks above after the level above was emptied.
    word.swap(0, Ordering::AcqRel)
}

/// The numbers of the bits that are set, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        (word != 0).then(|| {
            word &= word - 1;
            bit
        })
    })
}
