//! Rule: every atomic ordering has a note that names it and says which operation it meets; `SeqCst`
//! is for fences.
//!
//! ```text
//! // Acquire: pairs with the Release in `Permit::drop`; the slot's last user is done with it.
//! let state = self.state.load(Ordering::Acquire);
//! ```
//!
//! The note is a comment on the same line, inside the statement, or in the comment block directly
//! above it; both orderings of a compare-exchange are named. Where orderings are passed through or
//! compared, nothing is ordered: patterns, `matches!`, `==`, and in primitives the arms that map one
//! ordering to another, do not count. A file of primitives that handles orderings as values says so
//! with a line `// tidy: ordering, <reason>`. Tests do not count.
//! An import or a type alias that gives an ordering another name is found as well, and so is
//! `<Ordering>::Acquire`.

use proc_macro2::{Delimiter, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::source::{Source, ident, inside, is_path_separator, is_punct};
use super::{Finding, Tree};

/// The atomic orderings, as opposed to those of `cmp`.
const ORDERINGS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

/// The most lines between the beginning of a statement and an ordering in it.
const REACH: usize = 8;

/// What is said of an ordering that the rule could not read.
const HIDDEN: &str = "an atomic ordering under another name hides it from its note; import \
                      `Ordering` and write `Ordering::Acquire`";

/// The line that exempts a file of primitives.
const EXEMPTION: &str = "// tidy: ordering, ";

/// Applies the rule to the source of every crate.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        let Some(name) = source.crate_of_src() else { continue };
        let shim = name == "primitives";
        if shim && exempt(source) {
            continue;
        }
        let mut imports = Imports { source, findings: Vec::new() };
        imports.visit_file(&source.file);
        findings.append(&mut imports.findings);
        let level = Level { tokens: &source.tokens, delimiter: Delimiter::Brace, around: None };
        Scan { source, shim, findings: &mut findings }.level(&level);
    }
    findings
}

fn exempt(source: &Source) -> bool {
    let says = |text: &str| text.strip_prefix(EXEMPTION).is_some_and(|why| !why.trim().is_empty());
    source.comments.values().any(|comment| says(&comment.text))
}

/// Finds imports and type aliases that would hide an ordering from the scan.
struct Imports<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
}

impl<'a> Visit<'a> for Imports<'_> {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.tree(&item.tree, &mut Vec::new());
        visit::visit_item_use(self, item);
    }

    fn visit_item_type(&mut self, item: &'a syn::ItemType) {
        self.alias(&item.ty);
        visit::visit_item_type(self, item);
    }

    fn visit_impl_item_type(&mut self, item: &'a syn::ImplItemType) {
        self.alias(&item.ty);
        visit::visit_impl_item_type(self, item);
    }
}

impl Imports<'_> {
    /// What `type O = ...` stands for. `Ordering` alone may be that of `cmp`; it can say so.
    fn alias(&mut self, aliased: &syn::Type) {
        match aliased {
            syn::Type::Group(group) => self.alias(&group.elem),
            syn::Type::Paren(paren) => self.alias(&paren.elem),
            syn::Type::Path(path) => {
                let segments = &path.path.segments;
                let ordering = segments.last().is_some_and(|last| last.ident == "Ordering");
                if ordering && !segments.iter().any(|segment| segment.ident == "cmp") {
                    self.hidden(path.span().start().line);
                }
            }
            _ => {}
        }
    }

    fn hidden(&mut self, line: usize) {
        if !self.source.is_test(line) {
            self.findings.push(Finding::new(&self.source.path, line, HIDDEN));
        }
    }

    fn tree(&mut self, tree: &syn::UseTree, path: &mut Vec<String>) {
        let ours = |path: &[String]| path.iter().any(|part| part == "Ordering");
        let (name, hides) = match tree {
            syn::UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.tree(&step.tree, path);
                path.pop();
                return;
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(tree, path);
                }
                return;
            }
            syn::UseTree::Glob(glob) => (glob.star_token.spans[0], ours(path)),
            syn::UseTree::Name(name) => {
                let variant = ORDERINGS.iter().any(|ordering| name.ident == ordering);
                (name.ident.span(), variant && ours(path))
            }
            syn::UseTree::Rename(name) => {
                let cmp = path.iter().any(|part| part == "cmp");
                let renamed = name.ident == "Ordering" && name.rename != "_" && !cmp;
                (name.ident.span(), renamed || ours(path))
            }
        };
        if hides {
            self.hidden(name.start().line);
        }
    }
}

/// The tokens of a group (or of the file), and where that group stands.
struct Level<'a> {
    tokens: &'a [TokenTree],
    delimiter: Delimiter,
    around: Option<(&'a Level<'a>, usize)>,
}

struct Scan<'a, 'f> {
    source: &'a Source,
    shim: bool,
    findings: &'f mut Vec<Finding>,
}

impl Scan<'_, '_> {
    fn level(&mut self, level: &Level<'_>) {
        for (at, token) in level.tokens.iter().enumerate() {
            if let TokenTree::Group(group) = token {
                let (tokens, delimiter) = (inside(group), group.delimiter());
                self.level(&Level { tokens: &tokens, delimiter, around: Some((level, at)) });
            } else if ident(Some(token)).as_deref() == Some("Ordering")
                && is_path_separator(level.tokens, at + 1)
                && let Some(name) = ident(level.tokens.get(at + 3))
                && let Some(ordering) = ORDERINGS.iter().find(|ordering| **ordering == name)
            {
                self.ordering(level, at, ordering);
            } else if ident(Some(token)).as_deref() == Some("Ordering")
                && is_punct(level.tokens.get(at + 1), '>')
                && is_path_separator(level.tokens, at + 2)
                && let Some(name) = ident(level.tokens.get(at + 4))
                && ORDERINGS.contains(&name.as_str())
                && !self.source.is_test(line_of(level, at))
            {
                // `<Ordering>::Acquire` needs neither of the forms that the rule reads.
                let line = line_of(level, at);
                self.findings.push(Finding::new(&self.source.path, line, HIDDEN));
            }
        }
    }

    fn ordering(&mut self, level: &Level<'_>, at: usize, ordering: &str) {
        let line = line_of(level, at);
        if self.source.is_test(line) || is_value(level, at, self.shim) {
            return;
        }
        let path = &self.source.path;
        if ordering == "SeqCst" && !callee(level).is_some_and(|name| name.ends_with("fence")) {
            let message = "`SeqCst` on an operation is only acquire and release to loom; use those, \
                           and a `SeqCst` fence where the total order matters";
            self.findings.push(Finding::new(path, line, message));
        } else if !self.has_note(level, at, line, ordering) {
            let message = format!(
                "`Ordering::{ordering}` without its note; write `// {ordering}: ...` above the \
                 statement: which operation it pairs with, and what becomes visible"
            );
            self.findings.push(Finding::new(path, line, message));
        }
    }

    /// Whether a comment in or directly above the statement names the ordering.
    fn has_note(&self, level: &Level<'_>, at: usize, line: usize, ordering: &str) -> bool {
        let start = statement_line(level, at);
        let names = |line: usize| {
            let comment = self.source.comments.get(&line);
            comment.is_some_and(|comment| has_word(&comment.text, ordering))
        };
        if (start.max(line.saturating_sub(REACH))..=line).any(names) {
            return true;
        }
        let alone = |line: &usize| self.source.comments.get(line).is_some_and(|c| c.alone);
        line - start <= REACH && (1..start).rev().take_while(alone).any(names)
    }
}

fn line_of(level: &Level<'_>, at: usize) -> usize {
    level.tokens[at].span().start().line
}

/// The line on which the statement around a token begins. The block of a one-line `{ ... }` belongs
/// to the statement around it.
fn statement_line(level: &Level<'_>, at: usize) -> usize {
    let first = if level.delimiter == Delimiter::Brace { statement_start(level, at) } else { at };
    let line = line_of(level, first);
    match level.around {
        Some((around, group)) => {
            let opens = line_of(around, group);
            if level.delimiter != Delimiter::Brace || opens == line {
                statement_line(around, group)
            } else {
                line
            }
        }
        None => line,
    }
}

/// The index at which the statement, arm or field around a token of a brace level begins.
fn statement_start(level: &Level<'_>, at: usize) -> usize {
    let mut first = at;
    while let Some(before) = first.checked_sub(1) {
        let token = level.tokens.get(before);
        let ends_statement = match token {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                // `} else if`, `}.load(`, `}?` go on with the statement.
                let next = level.tokens.get(first);
                let goes_on = is_punct(next, '.') || is_punct(next, '?');
                !goes_on && ident(next).as_deref() != Some("else")
            }
            _ => is_punct(token, ';') || is_punct(token, ','),
        };
        if ends_statement {
            break;
        }
        first = before;
    }
    first
}

/// The name that is called with this level as its arguments.
fn callee(level: &Level<'_>) -> Option<String> {
    let (around, group) = level.around?;
    if level.delimiter != Delimiter::Parenthesis {
        return None;
    }
    ident(around.tokens.get(group.checked_sub(1)?))
}

/// Whether the ordering is a value that is matched, compared or mapped: nothing is ordered by it.
fn is_value(level: &Level<'_>, at: usize, shim: bool) -> bool {
    let tokens = level.tokens;
    let first = path_start(tokens, at);
    let before = |back: usize| first.checked_sub(back).and_then(|index| tokens.get(index));
    let after = at + 4;

    let compared = |one, two| is_punct(two, '=') && (is_punct(one, '=') || is_punct(one, '!'));
    if compared(before(2), before(1)) || compared(tokens.get(after), tokens.get(after + 1)) {
        return true;
    }
    if is_pattern(level, first) || in_use(level, at) {
        return true;
    }
    let arm = is_punct(before(2), '=') && is_punct(before(1), '>');
    shim && arm && (after >= tokens.len() || is_punct(tokens.get(after), ','))
}

/// The index at which the path that contains a token begins.
fn path_start(tokens: &[TokenTree], at: usize) -> usize {
    let mut first = at;
    while first >= 3
        && is_path_separator(tokens, first - 2)
        && ident(tokens.get(first - 3)).is_some()
    {
        first -= 3;
    }
    first
}

/// Whether what begins here is (part of) a pattern: of an arm, of `let`, of `matches!`.
fn is_pattern(level: &Level<'_>, first: usize) -> bool {
    let tokens = level.tokens;
    let before = first.checked_sub(1).and_then(|index| tokens.get(index));
    if ident(before).as_deref() == Some("let") {
        return true;
    }
    // `A | b::B(x) =>`: alternatives up to the arrow or the guard.
    let mut at = first;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '=' => {
                if is_punct(tokens.get(at + 1), '>') {
                    return true;
                }
                break;
            }
            TokenTree::Punct(punct) if matches!(punct.as_char(), ':' | '|' | '_' | '&') => {}
            TokenTree::Ident(word) if at > first && word == "if" => return true,
            TokenTree::Ident(_) => {}
            TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => {}
            _ => break,
        }
        at += 1;
    }
    let Some((around, group)) = level.around else { return false };
    if level.delimiter == Delimiter::Parenthesis {
        let name = |back: usize| group.checked_sub(back).and_then(|index| around.tokens.get(index));
        if is_punct(name(1), '!') && ident(name(2)).is_some_and(|word| word.ends_with("matches")) {
            return true;
        }
        // `(A, b) =>` and `Some(A) =>`, not the arguments of a call.
        let constructor = match name(1) {
            Some(TokenTree::Ident(word)) => word.to_string().starts_with(char::is_uppercase),
            Some(TokenTree::Punct(punct)) => punct.as_char() != '>',
            Some(TokenTree::Group(_)) => around.delimiter == Delimiter::Brace,
            _ => true,
        };
        return constructor && is_pattern(around, path_start(around.tokens, group));
    }
    false
}

/// Whether the token is in a `use`; imports have their own check.
fn in_use(level: &Level<'_>, at: usize) -> bool {
    let mut first = at;
    while let Some(before) = first.checked_sub(1) {
        if is_punct(level.tokens.get(before), ';') {
            break;
        }
        if ident(level.tokens.get(before)).as_deref() == Some("use") {
            return true;
        }
        first = before;
    }
    level.delimiter == Delimiter::Brace
        && level.around.is_some_and(|(around, group)| {
            group > 0 && is_punct(around.tokens.get(group - 1), ':') && in_use(around, group)
        })
}

/// Whether a text has a word, as a word.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|char: char| !char.is_alphanumeric() && char != '_').any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::summary;

    const NONE: [usize; 0] = [];

    /// The lines of the findings in a body of statements; its first line is 3.
    fn lines_in(path: &str, body: &str) -> Vec<usize> {
        let text = format!("//! A.\nfn a() {{\n{body}\n}}\n");
        check(&Tree::of(&[(path, &text)])).iter().map(|finding| finding.line).collect()
    }

    fn lines(body: &str) -> Vec<usize> {
        lines_in("crates/sync/src/a.rs", body)
    }

    #[test]
    fn a_note_above_beside_or_inside_counts() {
        assert_eq!(lines("// Acquire: pairs with b.\nx.load(Ordering::Acquire);"), NONE);
        assert_eq!(lines("x.load(Ordering::Acquire); // Acquire: pairs with b."), NONE);
        assert_eq!(lines("x.load(\n// Acquire: pairs with b.\nOrdering::Acquire);"), NONE);
        assert_eq!(
            lines("// Acquire: pairs with b,\n// and more.\nx.load(Ordering::Acquire);"),
            NONE
        );
        assert_eq!(lines("// Acquire: b.\n#[cfg(unix)]\nx.load(atomic::Ordering::Acquire);"), NONE);
    }

    #[test]
    fn no_note_another_note_and_a_note_too_far_away_do_not() {
        assert_eq!(lines("x.load(Ordering::Acquire);"), [3]);
        assert_eq!(lines("// Acquired before.\nx.load(Ordering::Acquire);"), [4]);
        assert_eq!(lines("// Acquire: b.\n\nx.load(Ordering::Acquire);"), [5]);
        assert_eq!(lines("/// Acquire: b.\nx.load(Ordering::Acquire);"), [4]);
        assert_eq!(lines("let s = \"// Acquire\"; x.load(Ordering::Acquire);"), [3]);
        let far = format!("// Acquire: b.\nx.load({}Ordering::Acquire);", "\n".repeat(9));
        assert_eq!(lines(&far), [13]);
    }

    #[test]
    fn a_note_serves_its_own_statement_only() {
        let two = "// Acquire: b.\nx.load(Ordering::Acquire);\ny.load(Ordering::Acquire);";
        assert_eq!(lines(two), [5]);
        let inner =
            "// Acquire: b.\nwhile x.load(Ordering::Acquire) {\ny.load(Ordering::Acquire);\n}";
        assert_eq!(lines(inner), [5]);
    }

    #[test]
    fn both_orderings_of_a_compare_exchange_are_named() {
        let cas = "x\n.compare_exchange(\na,\nb,\nOrdering::AcqRel,\nOrdering::Relaxed)";
        assert_eq!(lines(&format!("// AcqRel: b.\nmatch {cas} {{\n_ => {{}}\n}}")), [9]);
        assert_eq!(lines(&format!("// AcqRel: b; Relaxed: a hint.\nlet _ = {cas};")), NONE);
    }

    #[test]
    fn a_statement_reaches_over_else_and_method_chains_and_one_line_blocks() {
        let chain = "// Acquire: b.\nif a {\n} else if x.load(Ordering::Acquire) {\n}";
        assert_eq!(lines(chain), NONE);
        let block = "// Acquire: b.\nlet y = unsafe { x.load(Ordering::Acquire) };";
        assert_eq!(lines(block), NONE);
        let arm = "match a {\n// Acquire: b.\nB => x.load(Ordering::Acquire),\n_ => 0,\n};";
        assert_eq!(lines(arm), NONE);
        let field = "let s = S {\na,\n// Acquire: b.\nb: x.load(Ordering::Acquire),\n};";
        assert_eq!(lines(field), NONE);
    }

    #[test]
    fn macros_and_constants_are_looked_into() {
        assert_eq!(lines("assert!(x.load(Ordering::Relaxed) == 0);"), [3]);
        assert_eq!(
            lines("let order = if a { Ordering::Acquire } else { Ordering::Relaxed };"),
            [3, 3]
        );
        assert_eq!(lines("const O: Ordering = Ordering::Relaxed;"), [3]);
    }

    #[test]
    fn seq_cst_is_for_fences() {
        let found = |body: &str| {
            let text = format!("//! A.\nfn a() {{\n{body}\n}}\n");
            summary(&check(&Tree::of(&[("crates/sync/src/a.rs", &text)])))
        };
        assert_eq!(
            found("// Fence SeqCst: x against b.\nfence(Ordering::SeqCst);"),
            [] as [String; 0]
        );
        assert!(found("fence(Ordering::SeqCst);")[0].contains("without its note"));
        let load = found("// SeqCst: because.\nx.load(Ordering::SeqCst);");
        assert!(
            load[0].starts_with("crates/sync/src/a.rs:4: `SeqCst` on an operation"),
            "{load:?}"
        );
    }

    #[test]
    fn patterns_and_comparisons_and_other_orderings_do_not_count() {
        assert_eq!(lines("match order {\nOrdering::Relaxed => 1,\n_ => 2\n};"), NONE);
        assert_eq!(
            lines("match order {\nOrdering::Relaxed | Ordering::Acquire if a => 1,\n_ => 2\n};"),
            NONE
        );
        assert_eq!(lines("match (a, b) {\n(Ordering::Relaxed, Some(_)) => 1,\n_ => 2\n};"), NONE);
        assert_eq!(lines("match a {\nSome(Ordering::Relaxed) => 1,\n_ => 2\n};"), NONE);
        assert_eq!(lines("matches!(order, Ordering::Relaxed | Ordering::Acquire);"), NONE);
        assert_eq!(lines("if order == Ordering::Relaxed || Ordering::Acquire != order {}"), NONE);
        assert_eq!(lines("if let Ordering::Relaxed = order {}"), NONE);
        assert_eq!(lines("let o = a.cmp(&b) == Ordering::Less; f(Ordering::Greater);"), NONE);
        assert_eq!(lines("match a {\nB => x.load(Ordering::Relaxed),\n_ => 2\n};"), [4]);
        assert_eq!(lines("f(|order: Ordering| x.load(order));"), NONE);
    }

    #[test]
    fn only_primitives_maps_orderings_and_only_it_is_exempt() {
        let map = "match order {\nOrdering::AcqRel => Ordering::Release,\no => o\n};";
        assert_eq!(lines_in("crates/primitives/src/sync.rs", map), NONE);
        assert_eq!(lines(map), [4]);
        let exempt = "// tidy: ordering, mutants weaken orderings here\nf(Ordering::Acquire);";
        assert_eq!(lines_in("crates/primitives/src/mutant.rs", exempt), NONE);
        assert_eq!(lines(exempt), [4]);
        let bare = "// tidy: ordering, \nf(Ordering::Relaxed);";
        assert_eq!(lines_in("crates/primitives/src/mutant.rs", bare), [4]);
    }

    #[test]
    fn tests_and_other_folders_are_free() {
        assert_eq!(lines_in("crates/sync/tests/a.rs", "x.load(Ordering::Acquire);"), NONE);
        assert_eq!(lines_in("xtask/src/a.rs", "x.load(Ordering::Acquire);"), NONE);
        let text = "//! A.\n#[cfg(test)]\nmod tests {\nfn a() { x.load(Ordering::Acquire); }\n}\n";
        assert!(check(&Tree::of(&[("crates/sync/src/a.rs", text)])).is_empty());
    }

    #[test]
    fn type_aliases_that_hide_an_ordering_are_found() {
        assert_eq!(lines("type O = std::sync::atomic::Ordering;\nx.load(O::Acquire);"), [3]);
        assert_eq!(lines("type O = selvedge_primitives::atomic::Ordering;"), [3]);
        assert_eq!(lines("type O = (Ordering);"), [3]);
        assert_eq!(lines("impl A for B {\ntype O = atomic::Ordering;\n}"), [4]);
        assert_eq!(lines("type O = std::cmp::Ordering;"), NONE);
        assert_eq!(lines("type F = fn(Ordering) -> bool;"), NONE);
        let text = "//! A.\n#[cfg(test)]\nmod tests {\ntype O = atomic::Ordering;\n}\n";
        assert!(check(&Tree::of(&[("crates/sync/src/a.rs", text)])).is_empty());
    }

    #[test]
    fn an_ordering_between_angle_brackets_is_found() {
        assert_eq!(lines("// Acquire: b.\nx.load(<Ordering>::Acquire);"), [4]);
        assert_eq!(lines("x.load(<std::sync::atomic::Ordering>::SeqCst);"), [3]);
        assert_eq!(lines("m!(<Ordering>::Relaxed);"), [3]);
        assert_eq!(lines("let a = <Ordering>::Less;"), NONE);
        assert_eq!(lines("f::<Ordering>(Acquire);"), NONE);
    }

    #[test]
    fn imports_that_hide_an_ordering_are_found() {
        let found = |import: &str| {
            let text = format!("//! A.\n{import}\n");
            check(&Tree::of(&[("crates/sync/src/a.rs", &text)])).len()
        };
        assert_eq!(found("use selvedge_primitives::atomic::{AtomicU64, Ordering, fence};"), 0);
        assert_eq!(found("use std::cmp::{Ordering as CmpOrdering, Reverse};"), 0);
        assert_eq!(found("use std::cmp::Ordering::{Less, Greater};"), 0);
        assert_eq!(found("use selvedge_primitives::atomic::Ordering::{Acquire, Relaxed};"), 2);
        assert_eq!(found("use selvedge_primitives::atomic::Ordering::Acquire;"), 1);
        assert_eq!(found("use selvedge_primitives::atomic::Ordering::*;"), 1);
        assert_eq!(found("use selvedge_primitives::atomic::{Ordering as O};"), 1);
    }
}
