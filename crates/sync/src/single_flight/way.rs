//! How a call gets to the map: it borrows it, or keeps it.

use std::ops::Deref;
use std::sync::Arc;

use selvedge_primitives::Anchor;

use super::map::Map;
use super::shard::Shard;

/// The way to the map.
pub(super) enum Way<'f, K, V, E, S> {
    /// By a borrow.
    Borrowed(&'f Arc<Map<K, V, E, S>>),
    /// It keeps it.
    Kept(Arc<Map<K, V, E, S>>),
}

impl<'f, K, V, E, S> Way<'f, K, V, E, S>
where
    K: Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// The way to a shard.
    #[inline]
    pub(super) fn shard(&self, hash: u64) -> Anchor<'f, Shard<K, V, E>> {
        match self {
            Self::Borrowed(map) => Anchor::borrowed(map.shard(hash)),
            Self::Kept(map) => Anchor::shared(Arc::clone(map), |map| map.shard(hash)),
        }
    }
}

impl<K, V, E, S> Deref for Way<'_, K, V, E, S> {
    type Target = Arc<Map<K, V, E, S>>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Borrowed(map) => map,
            Self::Kept(map) => map,
        }
    }
}
