//! Rule: a crate that has no unsafe code says `#![forbid(unsafe_code)]` in its root, so that it stays
//! so. One that has some says `#![deny(unsafe_code)]`, so that each file that has it allows it, with
//! the reason, and no other file comes to have it unseen.

use std::collections::BTreeSet;

use proc_macro2::TokenTree;

use super::source::{Source, inside};
use super::{Finding, Tree};

/// Applies the rule to `src/lib.rs` of every crate and `src/main.rs` of xtask.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let unsafe_packages: BTreeSet<&str> = tree
        .sources
        .iter()
        .filter(|source| names_unsafe(&source.tokens))
        .filter_map(|source| package(&source.path))
        .collect();
    let none = "the crate has no unsafe code and does not forbid it; add \
                `#![forbid(unsafe_code)]` below the header";
    let some = "the crate has unsafe code in some files and does not deny it in the others; add \
                `#![deny(unsafe_code)]` below the header, and allow it where it is, with the reason";
    let message = |source: &Source| {
        let unsafe_package = unsafe_packages.contains(package(&source.path)?);
        // A second root beside the library may have none of what the library has.
        let says_so = says(source, "forbid") || unsafe_package && says(source, "deny");
        (!says_so).then_some(if unsafe_package { some } else { none })
    };
    tree.sources
        .iter()
        .filter(|source| is_root(&source.path))
        .filter_map(|source| Some(Finding::new(&source.path, 1, message(source)?)))
        .collect()
}

/// The part of a path before `/src/`.
fn package(path: &str) -> Option<&str> {
    path.split_once("/src/").map(|(package, _)| package)
}

fn is_root(path: &str) -> bool {
    path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs")
}

/// Whether a root sets the lint to a level.
fn says(source: &Source, level: &str) -> bool {
    source.file.attrs.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let names = |token: TokenTree| matches!(token, TokenTree::Ident(i) if i == "unsafe_code");
        list.path.is_ident(level) && list.tokens.clone().into_iter().any(names)
    })
}

pub(super) fn names_unsafe(tokens: &[TokenTree]) -> bool {
    tokens.iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "unsafe",
        TokenTree::Group(group) => names_unsafe(&inside(group)),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lib: &str, engine: &str) -> usize {
        let lib = format!("//! A.\n{lib}\n");
        let engine = format!("//! B.\n{engine}\n");
        let files = [("crates/a/src/lib.rs", &*lib), ("crates/a/src/engine.rs", &*engine)];
        check(&Tree::of(&files)).len()
    }

    #[test]
    fn safe_crates_forbid_unsafe_code() {
        assert_eq!(found("", "fn safe() {}"), 1);
        assert_eq!(found("#![deny(unsafe_code)]", "fn safe() {}"), 1);
        assert_eq!(found("#![forbid(unsafe_code)]", "fn safe() {}"), 0);
        assert_eq!(found("#![forbid(unsafe_code, unsafe_op_in_unsafe_fn)]", ""), 0);
    }

    #[test]
    fn crates_with_unsafe_code_deny_it_elsewhere() {
        assert_eq!(found("", "unsafe fn danger() {}"), 1);
        assert_eq!(found("#![deny(unsafe_code)]", "unsafe fn danger() {}"), 0);
        assert_eq!(found("#![deny(unsafe_code)]", "unsafe impl Send for X {}"), 0);
        assert_eq!(
            found("#![forbid(unsafe_code)]", "// the library has some\nunsafe fn f() {}"),
            0
        );
        assert_eq!(found("", "fn safe() { let word = \"unsafe\"; } // unsafe"), 1);
    }
}
