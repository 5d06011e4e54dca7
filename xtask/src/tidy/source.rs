//! A Rust file as the rules see it: its syntax tree, its tokens with their lines, and its comments,
//! which the tokens leave out.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use proc_macro2::{Delimiter, LineColumn, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A parsed file.
pub(super) struct Source {
    /// Relative to the workspace, with `/`.
    pub(super) path: String,
    /// Its text.
    pub(super) text: String,
    /// Its syntax tree.
    pub(super) file: syn::File,
    /// Its tokens.
    pub(super) tokens: Vec<TokenTree>,
    /// The text of the comment on a line (from 1), doc comments apart.
    pub(super) comments: BTreeMap<usize, Comment>,
    /// The lines of test modules.
    tests: Vec<Range<usize>>,
}

/// A comment's part on one line.
#[derive(Debug)]
pub(super) struct Comment {
    /// What it says, slashes included.
    pub(super) text: String,
    /// It has the line to itself.
    pub(super) alone: bool,
}

impl Source {
    /// Parses a file; the error has its line.
    pub(super) fn parse(path: &str, text: &str) -> Result<Self, (usize, String)> {
        let located = |error: syn::Error| (error.span().start().line, error.to_string());
        let file = syn::parse_file(text).map_err(located)?;
        let tokens: Vec<TokenTree> = TokenStream::from_str(text)
            .map_err(|error| (error.span().start().line, error.to_string()))?
            .into_iter()
            .collect();
        let comments = comments(text, &tokens);
        let mut finder = TestModules(Vec::new());
        finder.visit_file(&file);
        let (path, text) = (path.to_owned(), text.to_owned());
        Ok(Self { path, text, file, tokens, comments, tests: finder.0 })
    }

    /// The folder under `crates/` whose `src/` holds this file.
    pub(super) fn crate_of_src(&self) -> Option<&str> {
        let (name, rest) = self.path.strip_prefix("crates/")?.split_once('/')?;
        rest.starts_with("src/").then_some(name)
    }

    /// Whether a line is that of a test: in a test module, or in a file of one.
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.tests.iter().any(|lines| lines.contains(&line))
    }
}

/// The modules under `#[cfg(test)]`.
struct TestModules(Vec<Range<usize>>);

impl<'a> Visit<'a> for TestModules {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if module.attrs.iter().any(is_cfg_test) {
            let span = module.span();
            self.0.push(span.start().line..span.end().line + 1);
        } else {
            visit::visit_item_mod(self, module);
        }
    }
}

/// Whether an attribute is a cfg that holds in tests only: `test`, or `all(test, ...)`.
pub(crate) fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    if !list.path.is_ident("cfg") {
        return false;
    }
    let text: String = list.tokens.to_string().split_whitespace().collect();
    let all = text.strip_prefix("all(").and_then(|rest| rest.strip_suffix(')'));
    text == "test" || all.is_some_and(|all| all.starts_with("test,") || all.ends_with(",test"))
}

/// The comments, found as what is between the tokens: so nothing in a string is taken for one.
fn comments(text: &str, tokens: &[TokenTree]) -> BTreeMap<usize, Comment> {
    let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    let mut spans = Vec::new();
    leaves(tokens, &mut spans);
    spans.sort_by_key(|(start, _)| (start.line, start.column));

    let mut found = BTreeMap::new();
    let (mut line, mut column) = (1, 0);
    let end = LineColumn { line: lines.len() + 1, column: 0 };
    for (start, after) in spans.into_iter().chain([(end, end)]) {
        // What lies between (line, column) and the start of this token is space or comment.
        while line < start.line || (line == start.line && column < start.column) {
            let this: &[char] = lines.get(line - 1).map_or(&[], Vec::as_slice);
            let upto = if line == start.line { start.column } else { this.len() };
            let gap: String = this.get(column.min(upto)..upto).unwrap_or_default().iter().collect();
            if !gap.trim().is_empty() {
                let before = this.get(..column).unwrap_or_default();
                let alone = before.iter().all(|char| char.is_whitespace()) && upto == this.len();
                found.insert(line, Comment { text: gap.trim().to_owned(), alone });
            }
            if line == start.line {
                break;
            }
            (line, column) = (line + 1, 0);
        }
        if (after.line, after.column) > (line, column) {
            (line, column) = (after.line, after.column);
        }
    }
    found
}

/// Where each token starts and ends; a group is its two delimiters and what is inside.
fn leaves(tokens: &[TokenTree], spans: &mut Vec<(LineColumn, LineColumn)>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                if group.delimiter() != Delimiter::None {
                    spans.push((group.span_open().start(), group.span_open().end()));
                    spans.push((group.span_close().start(), group.span_close().end()));
                }
                leaves(&inside(group), spans);
            }
            other => spans.push((other.span().start(), other.span().end())),
        }
    }
}

/// The tokens of a group.
pub(super) fn inside(group: &proc_macro2::Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

/// The token as an identifier.
pub(super) fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token? {
        // `r#std` is std.
        TokenTree::Ident(ident) => Some(ident.to_string().trim_start_matches("r#").to_owned()),
        _ => None,
    }
}

/// Whether the token is this punctuation.
pub(super) fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

/// Whether `::` stands at this place.
pub(super) fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
//! Header.
// first
fn a() {
    let s = \"// no comment
        // nor this\"; // after
    /* block
       on */ let t = 1;
}

#[cfg(test)]
mod tests {
    // inside
    fn b() {}
}

#[cfg(all(test, unix))]
mod more {}
";

    #[test]
    fn comments_are_found_and_strings_and_docs_are_not() {
        let source = Source::parse("crates/x/src/lib.rs", TEXT).unwrap();
        let found: Vec<_> = source
            .comments
            .iter()
            .map(|(line, comment)| (*line, comment.text.as_str(), comment.alone))
            .collect();
        assert_eq!(
            found,
            [
                (2, "// first", true),
                (5, "// after", false),
                (6, "/* block", true),
                (7, "on */", false),
                (12, "// inside", true),
            ]
        );
    }

    #[test]
    fn test_modules_and_test_files_are_known() {
        let source = Source::parse("crates/x/src/lib.rs", TEXT).unwrap();
        let tests: Vec<_> = (1..=17).filter(|line| source.is_test(*line)).collect();
        assert_eq!(tests, [10, 11, 12, 13, 14, 16, 17]);
        assert!(Source::parse("crates/x/src/a/tests.rs", "").unwrap().is_test(1));
    }

    #[test]
    fn the_crate_is_that_of_the_folder_and_tests_are_not_its_source() {
        let of = |path: &str| Source::parse(path, "").unwrap().crate_of_src().map(str::to_owned);
        assert_eq!(of("crates/pool/src/a/b.rs").as_deref(), Some("pool"));
        assert_eq!(of("crates/pool/tests/a.rs"), None);
        assert_eq!(of("xtask/src/main.rs"), None);
    }
}
