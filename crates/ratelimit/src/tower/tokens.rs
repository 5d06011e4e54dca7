//! Where the tokens of a request come from, and how many it takes.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use crate::{Acquire, AcquireError, AcquireKey, Keyed, Limiter, TryAcquireError};

/// Where the tokens of a request come from: a [`Limiter`] for all, or [by key](ByKey).
pub trait Tokens<R> {
    /// Waits for them.
    type Wait: Future<Output = Result<(), AcquireError>>;

    /// Takes `n` tokens for a request, at once or not at all.
    fn try_acquire(&self, request: &R, n: u32) -> Result<(), TryAcquireError>;

    /// Takes `n` tokens for a request, waiting in line for them.
    fn acquire(&self, request: &R, n: u32) -> Self::Wait;
}

impl<R> Tokens<R> for Limiter {
    type Wait = Acquire<'static>;

    fn try_acquire(&self, _: &R, n: u32) -> Result<(), TryAcquireError> {
        self.try_acquire(n)
    }

    fn acquire(&self, _: &R, n: u32) -> Self::Wait {
        self.acquire_owned(n)
    }
}

/// A limit for each key of requests; from [`RateLimitLayer::keyed`](super::RateLimitLayer::keyed).
pub struct ByKey<K, F, H = RandomState> {
    /// The limits.
    keyed: Arc<Keyed<K, H>>,
    /// The key of a request.
    key: F,
}

impl<K, F, H> ByKey<K, F, H> {
    /// Of these limits, by that key.
    pub(super) fn new(keyed: Arc<Keyed<K, H>>, key: F) -> Self {
        Self { keyed, key }
    }
}

impl<K, F: Clone, H> Clone for ByKey<K, F, H> {
    fn clone(&self) -> Self {
        Self { keyed: Arc::clone(&self.keyed), key: self.key.clone() }
    }
}

impl<K, F, H: BuildHasher> fmt::Debug for ByKey<K, F, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByKey").field(&self.keyed).finish()
    }
}

impl<R, K, F, H> Tokens<R> for ByKey<K, F, H>
where
    K: Hash + Clone + 'static,
    F: Fn(&R) -> K,
    H: BuildHasher + 'static,
{
    type Wait = AcquireKey<'static, K, H>;

    fn try_acquire(&self, request: &R, n: u32) -> Result<(), TryAcquireError> {
        self.keyed.try_acquire(&(self.key)(request), n)
    }

    fn acquire(&self, request: &R, n: u32) -> Self::Wait {
        self.keyed.acquire_owned((self.key)(request), n)
    }
}

/// How many tokens a request takes: [one](One), or what a function says.
pub trait Weigh<R> {
    /// So many.
    fn weigh(&self, request: &R) -> u32;
}

/// Each request takes one token.
#[derive(Debug, Clone, Copy, Default)]
pub struct One;

impl<R> Weigh<R> for One {
    fn weigh(&self, _: &R) -> u32 {
        1
    }
}

impl<R, F: Fn(&R) -> u32> Weigh<R> for F {
    fn weigh(&self, request: &R) -> u32 {
        self(request)
    }
}
