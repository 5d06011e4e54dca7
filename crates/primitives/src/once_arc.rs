//! As [`OnceBox`](crate::OnceBox), for what others may keep alive, too.
#![expect(unsafe_code, reason = "an `Arc` behind an atomic pointer, behind a safe face")]

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::atomic::{AtomicPtr, Ordering};
use crate::const_fn;

/// A shared value that is put in its place once, later perhaps, and costs a word until then.
pub struct OnceArc<T> {
    /// From `Arc::into_raw`, or null.
    place: AtomicPtr<T>,
    /// It owns a reference.
    owns: PhantomData<Arc<T>>,
}

impl<T> OnceArc<T> {
    const_fn! {
        /// An empty place.
        pub const fn new() -> Self {
            Self { place: AtomicPtr::new(std::ptr::null_mut()), owns: PhantomData }
        }
    }

    /// What is there.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire: pairs with the Release in `get_or_init`; what the pointer leads to is written.
        let value = self.place.load(Ordering::Acquire);
        // SAFETY: it came from `Arc::into_raw`, and the reference that it stands for is not given up before `self` is dropped.
        unsafe { value.as_ref() }
    }

    /// A reference of one's own to what is there.
    pub fn share(&self) -> Option<Arc<T>> {
        let value: *const T = self.get()?;
        // SAFETY: it came from `Arc::into_raw`, as in `get`, and is alive.
        unsafe { Arc::increment_strong_count(value) };
        // SAFETY: the reference that was counted in the line above is this one's.
        Some(unsafe { Arc::from_raw(value) })
    }

    /// What is there, or else what `make` makes. Of two threads that make it one finds the other's.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let made = Arc::into_raw(Arc::new(make())).cast_mut();
        let null = std::ptr::null_mut();
        // Release: publishes what was made; pairs with the Acquire in `get`. Acquire on failure: the other's is
        // written, as there.
        let place =
            match self.place.compare_exchange(null, made, Ordering::Release, Ordering::Acquire) {
                Ok(_) => made,
                Err(other) => {
                    // SAFETY: it was made above, and nobody else has seen it.
                    drop(unsafe { Arc::from_raw(made) });
                    other
                }
            };
        // SAFETY: as in `get`; it is not null.
        unsafe { &*place }
    }
}

impl<T> Default for OnceArc<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for OnceArc<T> {
    fn drop(&mut self) {
        // Relaxed: whoever drops it has it alone, and has synchronised with all who had a way to it.
        let value = self.place.load(Ordering::Relaxed);
        if !value.is_null() {
            // SAFETY: it came from `Arc::into_raw`, and its reference is given up here, once.
            drop(unsafe { Arc::from_raw(value) });
        }
    }
}

// SAFETY: it is an `Arc<T>`.
unsafe impl<T: Send + Sync> Send for OnceArc<T> {}
// SAFETY: a shared one gives `&T` and clones of an `Arc<T>`, and takes a `T` that another thread may drop.
unsafe impl<T: Send + Sync> Sync for OnceArc<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceArc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceArc").field(&self.get()).finish()
    }
}
