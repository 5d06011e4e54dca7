//! Nothing.

use std::panic::Location;

/// Since when somebody waits or holds; without the feature `age`, nothing.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Age;

/// Who acquires; without the feature `age`, nothing.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Caller;

/// Those who hold permits; without the feature `age`, nothing.
#[derive(Debug)]
pub(in super::super) struct Holders;

/// One of them; without the feature `age`, nothing.
#[derive(Debug)]
pub(in super::super) struct Hold;

const _: () = assert!(size_of::<(Age, Caller, Holders, Hold)>() == 0);

impl Age {
    /// Begins now.
    #[inline(always)]
    pub(in super::super) fn now() -> Self {
        Self
    }
}

impl Caller {
    /// Who called at `place`.
    #[inline(always)]
    pub(in super::super) fn at(_place: &'static Location<'static>) -> Self {
        Self
    }
}

impl Holders {
    /// Nobody.
    pub(in super::super) const fn new() -> Self {
        Self
    }

    /// Somebody takes `count`.
    #[inline(always)]
    pub(in super::super) fn enter(&self, _count: usize, _caller: Caller) -> Hold {
        Hold
    }

    /// They have so many now.
    #[inline(always)]
    pub(in super::super) fn change(&self, _hold: &Hold, _count: usize) {}

    /// Somebody else has `count` of theirs.
    #[inline(always)]
    pub(in super::super) fn part(&self, _hold: &Hold, _count: usize) -> Hold {
        Hold
    }

    /// They give back.
    #[inline(always)]
    pub(in super::super) fn leave(&self, _hold: &Hold) {}
}
