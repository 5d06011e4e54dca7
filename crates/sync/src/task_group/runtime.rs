//! The runtime that a group's tasks are spawned onto: the one the group was made in, or else the one
//! that a spawn is called in.

use std::fmt;

/// tokio's, if the group was made in one; nothing without the feature `tokio`.
pub(super) struct Runtime {
    /// The runtime in which the group was made.
    #[cfg(feature = "tokio")]
    home: Option<tokio::runtime::Handle>,
}

impl Runtime {
    /// The calling place's.
    pub(super) fn here() -> Self {
        Self {
            #[cfg(feature = "tokio")]
            home: tokio::runtime::Handle::try_current().ok(),
        }
    }
}

#[cfg(feature = "tokio")]
impl Runtime {
    /// The group's, or else the calling place's. The group's is only borrowed: to count a reference
    /// for every spawn would be a write to a line that all threads share.
    pub(super) fn get(&self) -> Option<Spawner<'_>> {
        match &self.home {
            Some(home) => Some(Spawner::Home(home)),
            None => tokio::runtime::Handle::try_current().ok().map(Spawner::Here),
        }
    }
}

/// A runtime to spawn on.
#[cfg(feature = "tokio")]
pub(super) enum Spawner<'a> {
    /// The group's.
    Home(&'a tokio::runtime::Handle),
    /// The calling place's.
    Here(tokio::runtime::Handle),
}

#[cfg(feature = "tokio")]
impl Spawner<'_> {
    /// Spawns. On a runtime that was shut down tokio drops the task at once.
    #[track_caller]
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = match self {
            Self::Home(handle) => *handle,
            Self::Here(handle) => handle,
        };
        // Detached: the task tells the group of its end, also when it is dropped.
        drop(handle.spawn(task));
    }

    /// Runs `work` on a thread that may be blocked. On a runtime that was shut down tokio drops it at once.
    #[track_caller]
    pub(super) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        let handle = match self {
            Self::Home(handle) => *handle,
            Self::Here(handle) => handle,
        };
        // Detached, as above.
        drop(handle.spawn_blocking(work));
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "tokio")]
        return f.debug_tuple("Runtime").field(&self.home.is_some()).finish();
        #[cfg(not(feature = "tokio"))]
        f.write_str("Runtime")
    }
}
