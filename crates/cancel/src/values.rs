//! What a context carries beside its node: values, one a type.
//!
//! A map is an immutable array, sorted by type, and shared by every context that was made from the
//! one it was made for. Adding a value copies the array, so that nobody else's map changes; what it
//! replaces is not copied, and goes with the last map that holds it. Maps know nothing of each other:
//! a lookup does not depend on how deep a context lies, and dropping a chain of them does not recurse.
//!
//! A copy counts one reference for each value. A request carries a handful, and adding one is rare
//! beside looking one up; a tree of maps would pay from some dozens on.
//!
//! No lock of this crate is held where a value is dropped: the maps are outside the tree.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::sync::Arc;

/// The values of a context.
#[derive(Clone, Default)]
pub(crate) struct Values {
    /// Sorted by key; none when there are none, so that most contexts share nothing.
    entries: Option<Arc<[Entry]>>,
}

/// One value.
#[derive(Clone)]
struct Entry {
    /// The value's type.
    key: TypeId,
    /// The type's name, for printing.
    name: &'static str,
    /// The value.
    value: Arc<dyn Any + Send + Sync>,
}

impl Values {
    /// No values.
    pub(crate) const fn new() -> Self {
        Self { entries: None }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_none()
    }

    /// All entries.
    fn entries(&self) -> &[Entry] {
        self.entries.as_deref().unwrap_or_default()
    }

    /// The same values, with `value` in the place of the one of its type.
    pub(crate) fn with<T: Any + Send + Sync>(&self, value: T) -> Self {
        let key = TypeId::of::<T>();
        let entry = Entry { key, name: type_name::<T>(), value: Arc::new(value) };
        let entries = self.entries();
        let (before, after) = match entries.binary_search_by_key(&key, |entry| entry.key) {
            Ok(at) => (&entries[..at], &entries[at + 1..]),
            Err(at) => entries.split_at(at),
        };
        let all = before.iter().cloned().chain([entry]).chain(after.iter().cloned());
        Self { entries: Some(all.collect()) }
    }

    /// The value of a type, shared.
    pub(crate) fn get<T: Any + Send + Sync>(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        let entries = self.entries();
        let at = entries.binary_search_by_key(&TypeId::of::<T>(), |entry| entry.key).ok()?;
        Some(&entries[at].value)
    }
}

/// The names of the types, in their order: never a value.
impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.entries().iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        f.write_str(&names.join(", "))
    }
}
