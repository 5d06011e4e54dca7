//! Rule: what is compiled into a crate is what the rules look at.
//!
//! They leave test files alone, which they know by the name: `tests.rs`, or anything below a folder
//! `tests`. So a module of that name is there in tests only. And they read Rust files where the
//! modules have them: source that comes from elsewhere, by `#[path]` or `include!`, is not seen.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::source::{Source, is_cfg_test};
use super::{Finding, Tree};

/// Applies the rule to the source of every crate.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources.iter().filter(|source| source.crate_of_src().is_some()) {
        let mut modules = Modules { source, findings: &mut findings };
        modules.visit_file(&source.file);
    }
    findings
}

/// Walks a file.
struct Modules<'a> {
    source: &'a Source,
    findings: &'a mut Vec<Finding>,
}

impl Modules<'_> {
    fn found(&mut self, line: usize, message: &str) {
        self.findings.push(Finding::new(&self.source.path, line, message));
    }
}

impl<'a> Visit<'a> for Modules<'_> {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if module.attrs.iter().any(is_cfg_test) {
            return;
        }
        let line = module.ident.span().start().line;
        if module.ident == "tests" {
            self.found(
                line,
                "a module `tests` that is not only there in tests is passed over by the rules; \
                 write `#[cfg(test)]` above it, or call it something else",
            );
        }
        if module.attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
            self.found(
                line,
                "a module by `#[path]` is not where the rules look; move its file to where the \
                 module has it",
            );
        }
        visit::visit_item_mod(self, module);
    }

    fn visit_macro(&mut self, makro: &'a syn::Macro) {
        if makro.path.segments.last().is_some_and(|last| last.ident == "include") {
            let line = makro.span().start().line;
            self.found(line, "source by `include!` is not seen by the rules; make it a module");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str) -> usize {
        let text = format!("//! A.\n{code}\n");
        check(&Tree::of(&[("crates/sync/src/a.rs", &text)])).len()
    }

    #[test]
    fn a_module_that_passes_for_a_test_is_found() {
        assert_eq!(found("mod tests;"), 1);
        assert_eq!(found("pub mod tests;"), 1);
        assert_eq!(found("mod a { mod tests; }"), 1);
        assert_eq!(found("#[cfg(not(test))]\nmod tests;"), 1);
        assert_eq!(found("#[cfg(test)]\nmod tests;"), 0);
        assert_eq!(found("mod testing;"), 0);
    }

    #[test]
    fn source_from_elsewhere_is_found() {
        assert_eq!(found("#[path = \"../tests/a.rs\"]\nmod a;"), 1);
        assert_eq!(found("include!(\"a.in\");"), 1);
        assert_eq!(found("fn a() { std::include!(\"a.in\"); }"), 1);
        assert_eq!(found("const A: &str = include_str!(\"a.md\");"), 0);
        assert_eq!(found("#[cfg(test)]\nmod a { include!(\"a.in\"); }"), 0);
    }

    #[test]
    fn other_folders_are_free() {
        let text = "//! A.\n#[path = \"x.rs\"]\nmod a;\n";
        assert!(check(&Tree::of(&[("crates/sync/tests/a.rs", text)])).is_empty());
        assert!(check(&Tree::of(&[("xtask/src/a.rs", text)])).is_empty());
    }
}
