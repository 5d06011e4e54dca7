//! Rule: a crate that stands on primitives has models, and with them mutants. `cargo xtask loom` and
//! `cargo xtask mutants` take the crates that have a `tests/loom.rs`: one that loses it would go
//! missing from both without a word.

use std::collections::BTreeSet;

use proc_macro2::TokenTree;

use super::source::inside;
use super::{Finding, Tree};

/// The crate that the others reach atomics, locks and wakers by.
const PRIMITIVES: &str = "primitives";

/// Applies the rule to every crate.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let standing: BTreeSet<&str> = tree
        .sources
        .iter()
        .filter_map(|source| {
            let name = source.crate_of_src()?;
            (name == PRIMITIVES || names_primitives(&source.tokens)).then_some(name)
        })
        .collect();
    let mut findings = Vec::new();
    for name in standing {
        for file in ["loom.rs", "loom-models.toml"] {
            let path = format!("crates/{name}/tests/{file}");
            if !tree.paths.contains(&path) {
                let message = format!(
                    "the crate stands on primitives and has no models: tests/{file} is not there; \
                     write them, or have it stand on a crate that has"
                );
                findings.push(Finding::new(&format!("crates/{name}/src/lib.rs"), 1, message));
            }
        }
    }
    findings
}

/// Whether the tokens name primitives.
fn names_primitives(tokens: &[TokenTree]) -> bool {
    tokens.iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "selvedge_primitives",
        TokenTree::Group(group) => names_primitives(&inside(group)),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! A.\nuse selvedge_primitives::Mutex;\n";

    fn found(files: &[(&str, &str)]) -> usize {
        check(&Tree::of(files)).len()
    }

    #[test]
    fn a_crate_on_primitives_without_models_is_found() {
        let engine = ("crates/sync/src/engine.rs", SOURCE);
        let models = ("crates/sync/tests/loom.rs", "//! B.\n");
        let list = ("crates/sync/tests/loom-models.toml", "");
        assert_eq!(found(&[engine]), 2);
        assert_eq!(found(&[engine, models]), 1);
        assert_eq!(found(&[engine, models, list]), 0);
        assert_eq!(found(&[("crates/primitives/src/lib.rs", "//! A.\n")]), 2);
    }

    #[test]
    fn other_crates_need_none() {
        assert_eq!(found(&[("crates/facade/src/lib.rs", "//! selvedge_primitives\n")]), 0);
        assert_eq!(found(&[("crates/facade/tests/a.rs", SOURCE)]), 0);
        assert_eq!(found(&[("xtask/src/main.rs", SOURCE)]), 0);
    }
}
