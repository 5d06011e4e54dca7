//! The wakers of a merge's sources: pointers into the block that they share.
//!
//! std makes a waker of an `Arc` of its own. Here the wakers of all sources lie in one block: the
//! data pointer of a waker points to the source's [`Lane`], which knows its number, so its group is
//! found from there, and from the group, which knows its number and how many there are, the block.
//! A waker holds one reference of the block, as a clone of its `Arc` does.
//!
//! The waker that a source is polled with holds none: it is lent, and the merge holds the block.
#![allow(unsafe_code, reason = "raw wakers that point into a shared block, behind a safe face")]

use std::mem::{ManuallyDrop, offset_of};
use std::ptr;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::bitmap::{Group, LANES, mark};

/// The place of a source in its group: what its wakers point to.
pub(super) struct Lane(
    /// Which lane of the group this is, and how many of them lie before it.
    u8,
);

/// A lane is a byte, and its number fits into it.
const _: () = assert!(size_of::<Lane>() == 1 && LANES <= 64);

impl Lane {
    /// The lane of this number.
    pub(super) fn new(number: usize) -> Self {
        Self(u8::try_from(number).expect("there are 64 at most"))
    }
}

/// What the wakers of all merges do.
static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, raise, raise_by_ref, drop_waker);

/// Runs `f` with the waker of the source in this lane.
pub(super) fn lend<R>(
    groups: &Arc<[Group]>,
    group: usize,
    lane: usize,
    f: impl FnOnce(&Waker) -> R,
) -> R {
    let lanes = &raw const groups[group].lanes;
    assert!(lane < LANES, "the lane is in its group");
    // The pointer comes from the `Arc`'s own, so that it may be followed all over the block; the
    // borrow above gives the distance alone.
    let base = Arc::as_ptr(groups).cast::<u8>();
    let distance = lanes.addr() - base.addr() + lane;
    let data = base.wrapping_add(distance).cast::<()>();
    // SAFETY: `data` points to a lane of a block in an `Arc`, which is what the functions of
    // `VTABLE` ask for; they keep the contract of a waker, as each says. The reference that the
    // waker stands for is the caller's: `groups` outlives it, and it is never dropped.
    let waker = ManuallyDrop::new(unsafe { Waker::new(data, &VTABLE) });
    f(&waker)
}

/// A waker's source: the block, and where in it.
struct Source {
    /// The block, as `Arc::into_raw` gives it.
    groups: *const [Group],
    /// The group.
    group: usize,
    /// Its lane.
    lane: usize,
}

/// Finds the source of a waker.
///
/// # Safety
///
/// `data` comes from [`lend`], and the block is alive.
unsafe fn source(data: *const ()) -> Source {
    // SAFETY: by the contract it points to a lane of a living block; lanes are never written.
    let lane = usize::from(unsafe { (*data.cast::<Lane>()).0 });
    let distance = offset_of!(Group, lanes) + lane;
    let first = data.wrapping_byte_sub(distance).cast::<Group>();
    // SAFETY: so many bytes before its lane a group begins; `index` is never written.
    let index = unsafe { (*first).index };
    // SAFETY: as above, of `count`.
    let count = unsafe { (*first).count };
    // The group is the `index`-th of an array of `count`.
    let groups = ptr::slice_from_raw_parts(first.wrapping_sub(index), count);
    Source { groups, group: index, lane }
}

/// Another waker of the same source.
unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the waker that is cloned comes from `lend` and keeps the block alive.
    let source = unsafe { source(data) };
    // SAFETY: `groups` is what the `Arc` was made of, with the provenance of `Arc::as_ptr`, and
    // there is at least one reference: the one that the waker holds, or the lender's.
    unsafe { Arc::increment_strong_count(source.groups) };
    RawWaker::new(data, &VTABLE)
}

/// Marks the source, and gives up the waker's reference.
unsafe fn raise(data: *const ()) {
    // SAFETY: the waker comes from `lend` by way of `clone` and keeps the block alive.
    let source = unsafe { source(data) };
    // SAFETY: as in `clone`; the reference is the waker's, which is given up here.
    let groups = unsafe { Arc::from_raw(source.groups) };
    mark(&groups, source.group, source.lane);
}

/// Marks the source.
unsafe fn raise_by_ref(data: *const ()) {
    // SAFETY: the waker comes from `lend` and keeps the block alive until the call returns.
    let source = unsafe { source(data) };
    // SAFETY: as above; all of it is shared between threads by design.
    let groups = unsafe { &*source.groups };
    mark(groups, source.group, source.lane);
}

/// Gives up the waker's reference.
unsafe fn drop_waker(data: *const ()) {
    // SAFETY: the waker comes from `lend` by way of `clone` and keeps the block alive.
    let source = unsafe { source(data) };
    // SAFETY: as in `clone`; the reference is the waker's, which is given up here.
    unsafe { Arc::decrement_strong_count(source.groups) };
}
