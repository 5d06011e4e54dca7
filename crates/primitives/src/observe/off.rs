//! The seam without its feature: nothing, in as many words as `live.rs` needs.

use crate::Origin;

/// What is observed; without the feature `observe`, nothing.
#[derive(Debug)]
pub struct Subject;

/// Where a wait was asked for; without the feature `observe`, nothing.
#[derive(Debug, Clone, Copy)]
pub struct Place;

/// The wait of a waiter; without the feature `observe`, nothing.
pub(crate) struct Waiting;

/// Tells nothing when it is dropped.
pub(crate) struct Leaving;

const _: () = assert!(size_of::<(Subject, Place, Waiting, Leaving)>() == 0);
const _: () = assert!(!std::mem::needs_drop::<(Subject, Place, Waiting, Leaving)>());

impl Subject {
    /// A subject without a name, made by the caller.
    #[inline(always)]
    pub const fn here(_kind: &'static str) -> Self {
        Self
    }

    /// A subject of this name and place.
    #[inline(always)]
    pub fn new(_kind: &'static str, _origin: &Origin) -> Self {
        Self
    }

    /// A part of it.
    #[inline(always)]
    pub fn part(&self, _kind: &'static str) -> Self {
        Self
    }

    /// Tells that it was made.
    #[inline(always)]
    pub fn created(&self) {}
}

impl Place {
    /// The caller's.
    #[inline(always)]
    pub const fn here() -> Self {
        Self
    }
}

impl Waiting {
    /// Nobody waits yet.
    #[inline(always)]
    pub(crate) const fn new(_place: Place) -> Self {
        Self
    }

    /// The waiter has queued.
    #[inline(always)]
    pub(crate) fn began(&self, _subject: &Subject) {}

    /// The waiter has taken its grant.
    #[inline(always)]
    pub(crate) fn granted(&self, _subject: &Subject) {}

    /// The waiter goes without.
    #[inline(always)]
    pub(crate) fn leaving(&self, _subject: &Subject) -> Leaving {
        Leaving
    }
}
