//! Keys that panic.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};

/// A key whose comparison, hash or destructor panics when told to.
#[derive(Debug, Clone)]
pub(crate) struct PanickyKey(pub(crate) &'static Switches);

/// What panics.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    pub(crate) eq: AtomicBool,
    pub(crate) hash: AtomicBool,
    pub(crate) drop: AtomicBool,
}

/// Panics if it is told to.
pub(crate) fn fires(switch: &AtomicBool, what: &str) {
    if switch.load(Ordering::Relaxed) {
        panic!("{what}");
    }
}

impl PartialEq for PanickyKey {
    fn eq(&self, _: &Self) -> bool {
        fires(&self.0.eq, "eq");
        true
    }
}

impl Eq for PanickyKey {}

impl Hash for PanickyKey {
    fn hash<H: Hasher>(&self, _: &mut H) {
        fires(&self.0.hash, "hash");
    }
}

impl Drop for PanickyKey {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            fires(&self.0.drop, "drop");
        }
    }
}
