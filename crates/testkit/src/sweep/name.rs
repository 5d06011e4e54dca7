//! Whether a type name speaks of a given type.

/// Whether `name` ends a path anywhere in `type_name`, generic arguments included.
///
/// `Acquire` is named by `sync::Acquire<'_>` and `Timeout<sync::Acquire>`; it is not by
/// `sync::TryAcquire`, nor by `Acquire::poll::{{closure}}`, which is something within it.
pub(super) fn is_named(type_name: &str, name: &str) -> bool {
    !name.is_empty()
        && type_name.match_indices(name).any(|(start, _)| {
            let before = &type_name[..start];
            let after = &type_name[start + name.len()..];
            !before.ends_with(is_identifier)
                && !after.starts_with(is_identifier)
                && !after.starts_with("::")
        })
}

/// Whether `c` may stand within an identifier.
fn is_identifier(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn a_name_ends_a_path() {
        assert!(is_named("sync::semaphore::Acquire", "Acquire"));
        assert!(is_named("sync::semaphore::Acquire", "semaphore::Acquire"));
        assert!(is_named("testkit::Next<alloc::boxed::Box<fan::Ordered<u8>>>", "Ordered"));
        assert!(is_named("testkit::Next<fan::Tail>", "Tail"));
    }

    #[test]
    fn parts_of_names_and_owners_of_paths_do_not_count() {
        assert!(!is_named("sync::TryAcquire", "Acquire"));
        assert!(!is_named("sync::AcquireMany", "Acquire"));
        assert!(!is_named("sync::Acquire2", "Acquire"));
        assert!(!is_named("sync::Acquire::poll::{{closure}}", "Acquire"));
        assert!(!is_named("sync::Acquire", "mutex::Acquire"));
        assert!(!is_named("sync::Acquire", ""));
    }
}
