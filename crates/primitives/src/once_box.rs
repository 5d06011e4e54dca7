//! A box that is put in its place once, later perhaps, and costs a word until then.
#![allow(unsafe_code, reason = "a box behind an atomic pointer, behind a safe face")]

use std::fmt;
use std::marker::PhantomData;

use crate::atomic::{AtomicPtr, Ordering};

/// See the module's page.
pub struct OnceBox<T> {
    /// The box, or null.
    place: AtomicPtr<T>,
    /// It owns one.
    owns: PhantomData<Box<T>>,
}

impl<T> OnceBox<T> {
    /// A place that is empty, or not.
    pub fn new(value: Option<Box<T>>) -> Self {
        let place = AtomicPtr::new(value.map_or(std::ptr::null_mut(), Box::into_raw));
        Self { place, owns: PhantomData }
    }

    /// What is there.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire: pairs with the Release in `get_or_init`; what the pointer leads to is written.
        let value = self.place.load(Ordering::Acquire);
        // SAFETY: it came from `Box::into_raw`, and is neither freed nor replaced before `self` is dropped.
        unsafe { value.as_ref() }
    }

    /// What is there, or else what `make` makes. Of two threads that make it one finds the other's.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let made = Box::into_raw(Box::new(make()));
        let null = std::ptr::null_mut();
        // Release: publishes what was made; pairs with the Acquire in `get`. Acquire on failure: the other's is
        // written, as there.
        let place =
            match self.place.compare_exchange(null, made, Ordering::Release, Ordering::Acquire) {
                Ok(_) => made,
                Err(other) => {
                    // SAFETY: it was made above, and nobody else has seen it.
                    drop(unsafe { Box::from_raw(made) });
                    other
                }
            };
        // SAFETY: as in `get`; it is not null.
        unsafe { &*place }
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        // Relaxed: whoever drops it has it alone, and has synchronised with all who had a way to it.
        let value = self.place.load(Ordering::Relaxed);
        if !value.is_null() {
            // SAFETY: it came from `Box::into_raw`, and nobody has it any more.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

// SAFETY: it is a `Box<T>`, which goes from thread to thread with its `T`.
unsafe impl<T: Send> Send for OnceBox<T> {}
// SAFETY: a shared one gives `&T`, and takes a `T` that another thread may drop.
unsafe impl<T: Send + Sync> Sync for OnceBox<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceBox").field(&self.get()).finish()
    }
}
