//! Rule: every page below `docs/` is in the book, and what it shows as Rust is compiled.
//!
//! A page is in the book when `docs/SUMMARY.md` links to it. It is compiled when [`TESTED`] names it in
//! an `include_str!`: there the doc tests of the facade find it. A block marked `ignore` is compiled by
//! nobody, so it does not belong into the book.
//!
//! A page of a pattern names a program, one of the facade's examples; and every example is run by a
//! test, which names it in a string.

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

/// Where the pages of patterns are.
const PATTERNS: &str = "docs/patterns/";

/// Where the examples are.
const EXAMPLES: &str = "crates/selvedge/examples/";

/// Where they are run.
const TESTS: &str = "crates/selvedge/tests/";

/// Applies the rule to the Markdown files below `docs/`, and to the examples.
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
        let mut links = links::targets(text).into_iter().filter_map(|link| resolve(path, &link));
        if path.starts_with(PATTERNS) && !links.any(|link| link.starts_with(EXAMPLES)) {
            let message = format!("the page names no program; link to one below {EXAMPLES}");
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
    findings.extend(unrun(tree));
    findings
}

/// The examples that no test runs.
fn unrun(tree: &Tree) -> impl Iterator<Item = Finding> {
    let mut named = BTreeSet::new();
    for source in tree.sources.iter().filter(|source| source.path.starts_with(TESTS)) {
        strings(&source.tokens, &mut named);
    }
    tree.paths.iter().filter_map(move |path| {
        let name = path.strip_prefix(EXAMPLES)?.strip_suffix(".rs")?;
        let message = format!("no test runs this example; name it in a string below {TESTS}");
        (!name.contains('/') && !named.contains(name)).then(|| Finding::new(path, 1, message))
    })
}

/// What stands in string literals.
fn strings(tokens: &[TokenTree], found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => strings(&inside(group), found),
            TokenTree::Literal(literal) => {
                found.insert(literal.to_string().trim_matches('"').to_owned());
            }
            _ => {}
        }
    }
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
    const LIST: &str = "# Summary\n\n- [A](a.md)\n  - [B](b.md)\n  - [P](patterns/p.md)\n";
    const BOOK: &str = "//! Pages.\n#[doc = include_str!(\"../../../docs/a.md\")]\nstruct A;\n";

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let mut all = vec![(SUMMARY, LIST), (TESTED, BOOK)];
        all.extend(files);
        summary(&check(&Tree::of(&all)))
    }

    #[test]
    fn a_page_that_the_summary_does_not_link_to_is_found() {
        let lost = ["docs/pitfalls/c.md:1: the page is not in the book"];
        assert_eq!(found(&[("docs/a.md", "# A\n")]), NONE);
        assert_eq!(found(&[("docs/pitfalls/c.md", "# C\n")]), lost);
        assert_eq!(found(&[("crates/x/README.md", "# X\n"), ("docs/x.toml", "")]), NONE);
        let nothing = Tree::of(&[("docs/a.md", "# A\n")]);
        assert_eq!(check(&nothing).len(), 1, "no summary at all");
    }

    #[test]
    fn rust_that_no_test_compiles_is_found() {
        let rust = "# A\n\n```rust\nfn a() {}\n```\n";
        assert_eq!(found(&[("docs/a.md", rust)]), NONE);
        let untested = ["docs/b.md:3: this Rust is compiled by nobody"];
        assert_eq!(found(&[("docs/b.md", rust)]), untested);
        let ignored = rust.replace("rust", "rust,ignore");
        assert_eq!(
            found(&[("docs/a.md", &ignored)])[0],
            "docs/a.md:3: this Rust is compiled by nobody"
        );
        let bare = rust.replace("rust", "");
        assert_eq!(found(&[("docs/b.md", &bare)]), untested);
        for other in ["text", "sh", "go", "toml"] {
            assert_eq!(found(&[("docs/b.md", &rust.replace("rust", other))]), NONE);
        }
    }

    #[test]
    fn a_pattern_without_a_program_and_a_program_that_no_test_runs_are_found() {
        let page = "# P\n\n[p](../../crates/selvedge/examples/p.rs)\n";
        let example = ("crates/selvedge/examples/p.rs", "fn main() {}");
        let test = ("crates/selvedge/tests/all.rs", "#[test]\nfn t() { run(\"p\") }");
        assert_eq!(found(&[("docs/patterns/p.md", page), example, test]), NONE);
        let alone = ["docs/patterns/p.md:1: the page names no program"];
        assert_eq!(found(&[("docs/patterns/p.md", "# P\n"), example, test]), alone);
        let unrun = ["crates/selvedge/examples/p.rs:1: no test runs this example"];
        assert_eq!(found(&[example]), unrun);
        assert_eq!(found(&[("crates/selvedge/examples/p/part.rs", "")]), NONE);
    }
}
