//! Rule: a crate that has no unsafe code says `#![forbid(unsafe_code)]` in its root, so that it stays
//! so.

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
    let message = "the crate has no unsafe code and does not forbid it; add \
                   `#![forbid(unsafe_code)]` below the header";
    tree.sources
        .iter()
        .filter(|source| is_root(&source.path) && !forbids(source))
        .filter(|source| package(&source.path).is_some_and(|name| !unsafe_packages.contains(name)))
        .map(|source| Finding::new(&source.path, 1, message))
        .collect()
}

/// The part of a path before `/src/`.
fn package(path: &str) -> Option<&str> {
    path.split_once("/src/").map(|(package, _)| package)
}

fn is_root(path: &str) -> bool {
    path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs")
}

fn forbids(source: &Source) -> bool {
    source.file.attrs.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let names = |token: TokenTree| matches!(token, TokenTree::Ident(i) if i == "unsafe_code");
        list.path.is_ident("forbid") && list.tokens.clone().into_iter().any(names)
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
    fn crates_with_unsafe_code_need_not() {
        assert_eq!(found("", "unsafe fn danger() {}"), 0);
        assert_eq!(found("", "unsafe impl Send for X {}"), 0);
        assert_eq!(found("", "fn safe() { let word = \"unsafe\"; } // unsafe"), 1);
    }
}
