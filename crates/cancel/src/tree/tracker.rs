//! Who has entered a node: counted and listed, on a line of memory for every few threads.
//!
//! # Structure
//!
//! A [`Tracker`] has some *shards*, each with a lock of its own; a thread enters through one of them, and leaves through
//! the same. A shard has *places*, in blocks that stay where they are: whoever enters takes a free one and leaves there
//! where it did, so that stragglers can be named. Entering and leaving are a compare-exchange and a store each, on a line
//! that few others use.
//!
//! # The end
//!
//! While a tracker is open nobody knows how many are inside. It is *closed* once, when nobody may enter any more because
//! the node is stopping: shard by shard, under its lock, the number of those inside is taken, and whoever leaves from then
//! on counts down a number that all shards share. That number is wrong until the sum of what was taken is added to it, and
//! cannot be brought to zero before; then it is exact, and whoever brings it to zero says that it is *over*.
//!
//! *Enter against close*: under the shard's lock a newcomer looks whether the shard is closed, and whether the node is
//! stopping. It comes before the closing, and is counted; or after it, and is refused.
//!
//! # The node
//!
//! Who is inside has no handle, but keeps the node: a node whose handles are gone is not removed before its tracker is over
//! ([`Tracker::detains`]). Whoever brings that about then looks after the node. The hand-over is decided under the node's
//! lock, which is taken before the tracker's.
#![allow(unsafe_code, reason = "places in blocks, and a node that is kept without a handle")]
// tidy: std-sync, a number that is asked for once

use std::cell::Cell;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;
#[cfg(not(selvedge_loom))]
use std::sync::OnceLock;
use std::time::Duration;

use selvedge_primitives::atomic::{AtomicIsize, Ordering};
use selvedge_primitives::{FirstPanic, SpinLock, WaitQueue, thread};

use super::leave;
use super::name::Name;
use super::node::{Node, Ptr};

/// How many places a block has.
#[cfg(not(selvedge_loom))]
const BLOCK: usize = 32;
/// One, so that a model adds a block.
#[cfg(selvedge_loom)]
const BLOCK: usize = 1;

/// How many shards a tracker has: a power of two.
#[cfg(not(selvedge_loom))]
fn shards() -> usize {
    static SHARDS: OnceLock<usize> = OnceLock::new();
    *SHARDS.get_or_init(|| {
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        threads.min(16).next_power_of_two()
    })
}

/// Two: one for each half of the threads of a model.
#[cfg(selvedge_loom)]
fn shards() -> usize {
    2
}

/// See the module's page. Two counted pointers, so that who enters finds the shards with one step less.
#[derive(Clone)]
pub(crate) struct Tracker {
    /// Where to enter and leave.
    shards: Arc<[Shard]>,
    /// How it ends.
    end: Arc<End>,
}

/// What all shards share.
pub(crate) struct End {
    /// How many are inside, once it is closed.
    left: AtomicIsize,
    /// How far it is, and who waits for the end.
    queue: WaitQueue<Stage, (), ()>,
}

/// How far a tracker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody has asked for the end.
    Open,
    /// Closed; somebody may be inside.
    Closed,
    /// As closed; and whoever leaves last looks after this node, of which the last handle is gone.
    Orphaned(Ptr),
    /// The last one has left, and is about to look after the node.
    HandedOver,
    /// Nobody is inside, and nobody will be.
    Over,
}

impl Stage {
    /// Whether nobody is inside any more, and nobody will be.
    pub(crate) fn is_empty(self) -> bool {
        matches!(self, Stage::HandedOver | Stage::Over)
    }
}

// SAFETY: the pointer is followed only by who is handed the node; see `Tracker::over`.
unsafe impl Send for Stage {}

/// A part of a tracker, on lines of its own.
#[repr(align(128))]
struct Shard(SpinLock<Inside>);

/// Who is inside through a shard.
struct Inside {
    /// The first free place; the others follow it.
    free: Option<NonNull<Place>>,
    /// The blocks. Pointers, because a box that is moved claims to be the only way to what it holds.
    blocks: Option<NonNull<Block>>,
    /// How the tracker ends, as an `Arc` has it; none as long as there is no block.
    end: Option<NonNull<End>>,
    /// How many are inside.
    count: isize,
    /// Whether whoever leaves counts down the common number.
    closed: bool,
}

// SAFETY: the places lie in the blocks, which the shard owns; they are touched under its lock, by whatever thread holds
// it. What they hold is Send.
unsafe impl Send for Inside {}

/// Some places, and the next block.
struct Block {
    /// The places.
    places: [Place; BLOCK],
    /// The block that was added before.
    next: Option<NonNull<Block>>,
}

/// A place for somebody who is inside. Guarded by its shard's lock, but for where it is.
struct Place {
    /// The shard.
    shard: NonNull<Shard>,
    /// Who is there, but for the name.
    who: Cell<Option<Who>>,
    /// Whether there is a name: most have none, so nothing is moved.
    is_named: Cell<bool>,
    /// The name.
    name: Cell<Option<Name>>,
    /// The next free place, if this one is free.
    next: Cell<Option<NonNull<Place>>>,
}

impl Place {
    /// A free one.
    fn new(shard: NonNull<Shard>) -> Self {
        let (who, next) = (Cell::new(None), Cell::new(None));
        Self { shard, who, is_named: Cell::new(false), name: Cell::new(None), next }
    }

    /// Takes the name, if there is one.
    fn take_name(&self) -> Option<Name> {
        if !self.is_named.get() {
            return None;
        }
        self.is_named.set(false);
        self.name.take()
    }

    /// Puts a name there.
    fn set_name(&self, name: Option<Name>) {
        if name.is_some() {
            self.is_named.set(true);
            self.name.set(name);
        }
    }
}

/// Who is inside.
#[derive(Clone, Copy)]
pub(crate) struct Who {
    /// Where it entered.
    pub(crate) place: &'static Location<'static>,
    /// When.
    #[cfg(feature = "age")]
    since: std::time::Instant,
}

impl Who {
    /// Who enters now.
    #[inline]
    pub(crate) fn now(place: &'static Location<'static>) -> Self {
        Self {
            place,
            #[cfg(feature = "age")]
            since: std::time::Instant::now(),
        }
    }

    /// How long it has been inside; none without the feature `age`.
    pub(crate) fn age(&self) -> Option<Duration> {
        #[cfg(feature = "age")]
        return Some(self.since.elapsed());
        #[cfg(not(feature = "age"))]
        None
    }
}

/// Somebody who is inside: a way back to the place. Its tracker is alive, because it is not over (see `leave`).
pub(crate) struct Inhabitant(NonNull<Place>);

// SAFETY: the tracker is made for all threads, and the place is touched under its shard's lock.
unsafe impl Send for Inhabitant {}
// SAFETY: a shared one offers to give it a name, under its shard's lock.
unsafe impl Sync for Inhabitant {}

impl Tracker {
    /// Nobody is inside.
    pub(super) fn new() -> Self {
        let shards = (0..shards()).map(|_| Shard(SpinLock::new(Inside::new())));
        let (left, queue) = (AtomicIsize::new(0), WaitQueue::new(Stage::Open));
        Self { shards: shards.collect(), end: Arc::new(End { left, queue }) }
    }

    /// How far it is, and who waits for the end.
    pub(crate) fn end(&self) -> &Arc<End> {
        &self.end
    }

    /// Enters, unless it is closed or `stopping` says that the node is.
    #[inline(always)]
    pub(super) fn enter(&self, who: Who, stopping: impl Fn() -> bool) -> Option<Inhabitant> {
        // Their number is a power of two: no division.
        let shard = &self.shards[thread::number() & (self.shards.len() - 1)];
        loop {
            let mut inside = shard.0.lock();
            if inside.closed || stopping() {
                return None;
            }
            let Some(place) = inside.free else {
                drop(inside);
                self.add_block(shard);
                continue;
            };
            // SAFETY: it lies in a block of the shard, whose lock is held.
            let free = unsafe { place.as_ref() };
            inside.free = free.next.get();
            inside.count += 1;
            free.who.set(Some(who));
            return Some(Inhabitant(place));
        }
    }

    /// Adds a block to a shard. Nothing is allocated under its lock.
    #[cold]
    fn add_block(&self, shard: &Shard) {
        let places = std::array::from_fn(|_| Place::new(NonNull::from(shard)));
        let block = Box::new(Block { places, next: None });
        let mut inside = shard.0.lock();
        inside.end = NonNull::new(Arc::as_ptr(&self.end).cast_mut());
        inside.add(block);
    }

    /// Nobody enters any more: the node is stopping, or has no handle left. Call it any number of times.
    pub(crate) fn close(&self) {
        {
            let mut stage = self.end.queue.lock();
            if *stage != Stage::Open {
                return;
            }
            *stage = Stage::Closed;
        }
        let mut inside = 0;
        for shard in &*self.shards {
            let mut shard = shard.0.lock();
            shard.closed = true;
            inside += shard.count;
        }
        // AcqRel: what was done by those who have left meanwhile is visible to whoever is told that it is over.
        if self.end.left.fetch_add(inside, Ordering::AcqRel) + inside == 0 {
            self.end.over();
        }
    }

    /// Whether somebody is inside, so that a node whose handles are gone has to stay; then it is left to the last one who
    /// leaves. Call it with the node's lock held.
    pub(super) fn detains(&self, node: &Node) -> bool {
        // Whoever is told that it is over finds the stage that is set below, or has set it to `Over` before.
        let mut stage = self.end.queue.lock();
        match *stage {
            Stage::Over => false,
            Stage::Closed | Stage::Orphaned(_) => {
                *stage = Stage::Orphaned(Ptr::from(node));
                true
            }
            Stage::Open | Stage::HandedOver => true,
        }
    }

    /// How many are inside.
    pub(super) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().count.unsigned_abs()).sum()
    }

    /// Who is inside: whoever is so all the while, and of those who come and go meanwhile some.
    pub(crate) fn list(&self) -> Vec<(Who, Option<Name>)> {
        let mut all = Vec::new();
        for shard in &*self.shards {
            let mut next = { shard.0.lock().blocks };
            while let Some(block) = next {
                // Room first: nothing is allocated under the lock, which is held for one block at a time.
                all.reserve(BLOCK);
                let _inside = shard.0.lock();
                // SAFETY: a block of this shard, whose lock is held, stays until the tracker is gone.
                let block = unsafe { block.as_ref() };
                for place in &block.places {
                    let name = place.take_name();
                    all.extend(place.who.get().map(|who| (who, name.clone())));
                    place.set_name(name);
                }
                next = block.next;
            }
        }
        all
    }

    /// Leaves.
    ///
    /// # Safety
    ///
    /// Somebody is inside at `place`; this one leaves.
    #[inline]
    unsafe fn leave(place: NonNull<Place>) {
        // SAFETY: it lies in a block of the tracker, which is not over while somebody is inside; until then its node keeps it.
        let free = unsafe { place.as_ref() };
        // SAFETY: it lies in the tracker.
        let mut inside = unsafe { free.shard.as_ref() }.0.lock();
        free.who.set(None);
        let name = free.take_name();
        free.next.set(inside.free.replace(place));
        inside.count -= 1;
        let (closed, end) = (inside.closed, inside.end);
        drop(inside);
        drop(name);
        if !closed {
            // Whoever closes it next may be the one to free it: it is not touched any more.
            return;
        }
        let end = end.expect("somebody was inside").as_ptr().cast_const();
        // SAFETY: it came from `Arc::as_ptr`, and is not over before this one has counted itself down.
        unsafe { Arc::increment_strong_count(end) };
        // SAFETY: as counted in the line above. As soon as it is over, nobody else may have it.
        let kept = unsafe { Arc::from_raw(end) };
        // AcqRel: what was done inside is visible to whoever is told that it is over.
        if kept.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            kept.over();
        }
    }
}

impl End {
    /// How far it is, and who waits for it.
    pub(crate) fn queue(&self) -> &WaitQueue<Stage, (), ()> {
        &self.queue
    }

    /// Nobody is inside. Looks after the node, if that was left to it.
    fn over(&self) {
        let mut stage = self.queue.lock();
        let orphan = match *stage {
            Stage::Orphaned(node) => Some(node),
            _ => None,
        };
        // A node that was left to this stays detained until its lock is held.
        *stage = if orphan.is_some() { Stage::HandedOver } else { Stage::Over };
        // The node is looked after also when a waker panics.
        let mut panics = FirstPanic::new();
        panics.catch(|| self.queue.grant_while(stage, |_, ()| Some(())));
        if let Some(node) = orphan {
            // SAFETY: N4: it is detained, and whoever removes it takes its lock first.
            let mut locked = unsafe { Node::at(node) }.lock();
            *self.queue.lock() = Stage::Over;
            let removes = locked.claim_removal();
            drop(locked);
            if removes {
                panics.catch(|| leave::remove(node));
            }
        }
        panics.resume();
    }
}

impl Inhabitant {
    /// Gives a name to who has just entered. (Not as it enters, because most have none, and to move none costs more than to
    /// enter.)
    pub(crate) fn set_name(&self, name: Name) {
        // SAFETY: it lies in a block of the tracker, which is not over while this one is inside.
        let place = unsafe { self.0.as_ref() };
        // SAFETY: as above.
        let _inside = unsafe { place.shard.as_ref() }.0.lock();
        place.set_name(Some(name));
    }
}

impl Drop for Inhabitant {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this is who is inside, and leaves.
        unsafe { Tracker::leave(self.0) };
    }
}

impl Inside {
    /// Nobody, and no place.
    const fn new() -> Self {
        Self { free: None, blocks: None, end: None, count: 0, closed: false }
    }

    /// Adds a block of free places.
    fn add(&mut self, mut block: Box<Block>) {
        block.next = self.blocks;
        let block = NonNull::from(Box::leak(block));
        self.blocks = Some(block);
        // SAFETY: it was leaked in the line above, and is freed with this.
        for place in unsafe { &block.as_ref().places } {
            place.next.set(self.free.replace(NonNull::from(place)));
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut next = self.blocks.take();
        while let Some(block) = next {
            // SAFETY: it was leaked by `add`, and is in this list once.
            let block = unsafe { Box::from_raw(block.as_ptr()) };
            next = block.next;
        }
    }
}
