//! The sources of a merge, pinned in one allocation, and the line of those that are ready.
//!
//! The line is a list through the slots, so it needs no memory of its own and a source is in it once
//! at most. What the order of the line promises is in `engine.rs`.
#![allow(unsafe_code, reason = "projects a pinned slice to its elements, behind a safe face")]

use std::pin::Pin;

use pin_project::pin_project;
use selvedge_primitives::FirstPanic;

/// Not in the line.
const OUT: usize = usize::MAX;
/// In the line, and nobody is behind it.
const LAST: usize = usize::MAX - 1;

/// All sources that a merge was given.
pub(super) struct Sources<S> {
    /// One a source.
    slots: Pin<Box<[Slot<S>]>>,
    /// How many have not ended.
    live: usize,
    /// The first in the line, or `LAST`.
    head: usize,
    /// The last in the line, if there is a first.
    tail: usize,
}

/// A source, and its place in the line.
#[pin_project]
struct Slot<S> {
    /// Gone as soon as it has ended.
    #[pin]
    source: Option<S>,
    /// Who is behind it in the line, `LAST` or `OUT`.
    next: usize,
}

impl<S> Sources<S> {
    /// All of them stand in the line, in order.
    pub(super) fn new(sources: impl Iterator<Item = S>) -> Self {
        let slots = sources.map(|source| Slot { source: Some(source), next: OUT });
        let slots = Box::into_pin(slots.collect::<Box<[_]>>());
        let live = slots.len();
        let mut this = Self { slots, live, head: LAST, tail: LAST };
        (0..live).for_each(|index| this.line_up(index));
        this
    }

    /// How many have not ended.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// How many there were at first.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The slot of a source.
    fn slot(&mut self, index: usize) -> Pin<&mut Slot<S>> {
        // SAFETY: an element of a pinned slice is pinned with it: no method of `Sources` moves a
        // slot or gives one out unpinned, and the box frees them where they are.
        unsafe { self.slots.as_mut().map_unchecked_mut(|slots| &mut slots[index]) }
    }

    /// A source, if it has not ended.
    pub(super) fn get(&mut self, index: usize) -> Option<Pin<&mut S>> {
        self.slot(index).project().source.as_pin_mut()
    }

    /// Drops a source that has ended. Its panic is the caller's.
    pub(super) fn remove(&mut self, index: usize) {
        self.live -= 1;
        self.slot(index).project().source.set(None);
    }

    /// Puts a source at the end of the line, unless it has ended or stands in it.
    pub(super) fn line_up(&mut self, index: usize) {
        let slot = self.slot(index).project();
        if *slot.next != OUT || slot.source.is_none() {
            return;
        }
        *slot.next = LAST;
        if self.head == LAST {
            self.head = index;
        } else {
            *self.slot(self.tail).project().next = index;
        }
        self.tail = index;
    }

    /// Takes the first out of the line.
    pub(super) fn step_up(&mut self) -> Option<usize> {
        let first = self.head;
        if first == LAST {
            return None;
        }
        self.head = std::mem::replace(self.slot(first).project().next, OUT);
        Some(first)
    }
}

impl<S> Drop for Sources<S> {
    /// Drops every source, also when the destructor of one panics; the first panic goes on at the
    /// end, unless the thread unwinds already.
    fn drop(&mut self) {
        let mut panics = FirstPanic::new();
        for index in 0..self.slots.len() {
            panics.catch(|| self.slot(index).project().source.set(None));
        }
        panics.resume();
    }
}
