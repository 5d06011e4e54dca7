//! Rule: every page below `docs/` is in the book, and what it shows as Rust is compiled.
//!
//! A page is in the book when `docs/SUMMARY.md` links to it. It is compiled when [`TESTED`] names it in
//! an `include_str!`: there the doc tests of the facade find it. A block marked `ignore` is compiled by
//! nobody, so it does not belong into the book.

use std::collections::BTreeSet;

use proc_macro2::TokenTree;
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag};

use super::links::{self, resolve};
use super::source::{ident, inside, is_punct};
use super::{Finding, Text, Tree};

/// Where the pages are.
const FOLDER: &str = "docs/";

/// The table of contents.
const SUMMARY: &str = "docs/SUMMARY.md";

/// The file that hands the pages to the doc tests.
const TESTED: &str = "crates/selvedge/src/book.rs";

/// Applies the rule to the Markdown files below `docs/`.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let listed: BTreeSet<String> = tree
        .texts
        .iter()
        .filter(|text| text.path == SUMMARY)
        .flat_map(|text| links::targets(&text.text))
        .filter_map(|target| resolve(SUMMARY, target.split('#').next().unwrap_or_default()))
        .collect();
    let tested = tested(tree);
    let pages = tree.texts.iter().filter(|text| {
        text.path.starts_with(FOLDER) && text.path.ends_with(".md") && text.path != SUMMARY
    });
    let mut findings = Vec::new();
    for Text { path, text } in pages {
        if !listed.contains(path) {
            let message = format!("the page is not in the book; add a line to {SUMMARY}");
            findings.push(Finding::new(path, 1, message));
        }
        for (line, info) in code(text) {
            if info.contains("ignore") {
                let message = "this Rust is compiled by nobody; make it a whole program, or mark it \
                               `text`";
                findings.push(Finding::new(path, line, message));
            } else if !tested.contains(path) {
                let message = format!(
                    "this Rust is compiled by nobody; name the page in an `include_str!` of {TESTED}"
                );
                findings.push(Finding::new(path, line, message));
            }
        }
    }
    findings
}

/// The pages that the doc tests find.
fn tested(tree: &Tree) -> BTreeSet<String> {
    let mut pages = BTreeSet::new();
    for source in tree.sources.iter().filter(|source| source.path == TESTED) {
        included(&source.tokens, &mut pages);
    }
    pages
}

/// The paths in `include_str!("...")`.
fn included(tokens: &[TokenTree], pages: &mut BTreeSet<String>) {
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            included(&inside(group), pages);
        } else if ident(Some(token)).as_deref() == Some("include_str")
            && is_punct(tokens.get(at + 1), '!')
            && let Some(TokenTree::Group(arguments)) = tokens.get(at + 2)
            && let Some(TokenTree::Literal(path)) = inside(arguments).first()
        {
            pages.extend(resolve(TESTED, path.to_string().trim_matches('"')));
        }
    }
}

/// The line and the info string of each block that rustdoc takes for Rust.
fn code(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    for (event, range) in Parser::new(text).into_offset_iter() {
        let Event::Start(Tag::CodeBlock(kind)) = event else { continue };
        let info = match kind {
            CodeBlockKind::Fenced(info) => info.into_string(),
            CodeBlockKind::Indented => String::new(),
        };
        let language = info.split([',', ' ']).next().unwrap_or_default();
        if matches!(language, "" | "rust" | "no_run" | "should_panic" | "compile_fail" | "ignore") {
            blocks.push((text[..range.start].matches('\n').count() + 1, info));
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::summary;

    const NONE: [&str; 0] = [];
    const LIST: &str = "# Summary\n\n- [A](a.md)\n  - [B](patterns/b.md)\n";
    const BOOK: &str = "//! Pages.\n#[doc = include_str!(\"../../../docs/a.md\")]\nstruct A;\n";

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let mut all = vec![(SUMMARY, LIST), (TESTED, BOOK)];
        all.extend(files);
        summary(&check(&Tree::of(&all)))
    }

    #[test]
    fn a_page_that_the_summary_does_not_link_to_is_found() {
        let lost = ["docs/patterns/c.md:1: the page is not in the book"];
        assert_eq!(found(&[("docs/a.md", "# A\n"), ("docs/patterns/b.md", "# B\n")]), NONE);
        assert_eq!(found(&[("docs/patterns/c.md", "# C\n")]), lost);
        assert_eq!(found(&[("crates/x/README.md", "# X\n"), ("docs/x.toml", "")]), NONE);
        let nothing = Tree::of(&[("docs/a.md", "# A\n")]);
        assert_eq!(check(&nothing).len(), 1, "no summary at all");
    }

    #[test]
    fn rust_that_no_test_compiles_is_found() {
        let rust = "# A\n\n```rust\nfn a() {}\n```\n";
        assert_eq!(found(&[("docs/a.md", rust)]), NONE);
        let untested = ["docs/patterns/b.md:3: this Rust is compiled by nobody"];
        assert_eq!(found(&[("docs/patterns/b.md", rust)]), untested);
        let ignored = rust.replace("rust", "rust,ignore");
        assert_eq!(
            found(&[("docs/a.md", &ignored)])[0],
            "docs/a.md:3: this Rust is compiled by nobody"
        );
        let bare = rust.replace("rust", "");
        assert_eq!(found(&[("docs/patterns/b.md", &bare)]), untested);
        for other in ["text", "sh", "go", "toml"] {
            assert_eq!(found(&[("docs/patterns/b.md", &rust.replace("rust", other))]), NONE);
        }
    }
}
