//! Rule: a source file begins with `//!`, which says what it is.

use super::{Finding, Tree};

/// Applies the rule to every Rust file.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let message = "the file does not begin with `//!`; say in its first line what it is, which \
                   algorithm it has and what it relies on";
    tree.sources
        .iter()
        .filter(|source| {
            let first = source.text.lines().next().unwrap_or_default();
            first.strip_prefix("//!").is_none_or(|words| words.trim().is_empty())
        })
        .map(|source| Finding::new(&source.path, 1, message))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::summary;

    #[test]
    fn a_file_without_its_header_is_found() {
        let tree = Tree::of(&[
            ("a.rs", "//! What it is.\nfn a() {}\n"),
            ("b.rs", "// What it is.\nfn b() {}\n"),
            ("c.rs", "\n//! What it is.\n"),
            ("d.rs", "//!\n"),
            ("e.rs", ""),
        ]);
        let what = "the file does not begin with `//!`";
        let files = ["b", "c", "d", "e"];
        assert_eq!(summary(&check(&tree)), files.map(|file| format!("{file}.rs:1: {what}")));
    }
}
