//! Rule: links between the pages hold: the file or folder is there, and so is the heading. Links to
//! the web are not fetched.
//!
//! Doc comments are pages as well, as far as they link to files. What else they link to, an item or a
//! heading of their own, is rustdoc's to check.

use std::collections::{BTreeMap, BTreeSet};

use pulldown_cmark::{BrokenLink, Event, Options, Parser, Tag, TagEnd};
use syn::spanned::Spanned;
use syn::visit::Visit;

use super::source::Source;
use super::{Finding, Text, Tree};

/// Applies the rule to every Markdown file, and to the doc comments of every Rust file.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let pages: BTreeMap<&str, Page> = tree
        .texts
        .iter()
        .filter(|text| text.path.ends_with(".md"))
        .map(|Text { path, text }| (path.as_str(), Page::read(text)))
        .collect();
    let mut findings = Vec::new();
    for (path, page) in &pages {
        for (line, target) in &page.links {
            if let Some(message) = broken(tree, &pages, path, target) {
                findings.push(Finding::new(path, *line, message));
            }
        }
        for (line, label) in &page.undefined {
            let message =
                format!("the link label `[{label}]` is not defined; add `[{label}]: ...`");
            findings.push(Finding::new(path, *line, message));
        }
    }
    for source in &tree.sources {
        for (begin, text) in docs(source) {
            for (line, target) in Page::read(&text).links {
                if is_file(&target)
                    && let Some(message) = broken(tree, &pages, &source.path, &target)
                {
                    findings.push(Finding::new(&source.path, begin + line - 1, message));
                }
            }
        }
    }
    findings
}

/// The targets of a page's links.
pub(super) fn targets(text: &str) -> Vec<String> {
    Page::read(text).links.into_iter().map(|(_, target)| target).collect()
}

/// The doc comments of a file as pages: each with the line on which it begins.
fn docs(source: &Source) -> Vec<(usize, String)> {
    let mut lines = DocLines(Vec::new());
    lines.visit_file(&source.file);
    lines.0.sort();
    let mut pages: Vec<(usize, String)> = Vec::new();
    for (line, text) in lines.0 {
        match pages.last_mut() {
            // Directly below the one before: the same comment.
            Some((begin, page)) if *begin + page.lines().count() == line => {
                page.push_str(&text);
                page.push('\n');
            }
            _ => pages.push((line, text + "\n")),
        }
    }
    pages
}

/// The line and text of each doc attribute.
struct DocLines(Vec<(usize, String)>);

impl<'a> Visit<'a> for DocLines {
    fn visit_attribute(&mut self, attribute: &'a syn::Attribute) {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return };
        if pair.path.is_ident("doc")
            && let syn::Expr::Lit(literal) = &pair.value
            && let syn::Lit::Str(text) = &literal.lit
        {
            let words = text.value();
            let words = words.strip_prefix(' ').unwrap_or(&words);
            self.0.push((attribute.span().start().line, words.to_owned()));
        }
    }
}

/// Whether the target of a link in a doc comment is meant as a file: `../README.md`, `engine.rs#L1`,
/// not `crate::Engine`, `Engine` or `#examples`.
fn is_file(target: &str) -> bool {
    let file = target.split('#').next().unwrap_or_default();
    !file.contains("::") && (file.contains('/') || super::is_text(file))
}

/// What a page offers and asks for.
#[derive(Default)]
struct Page {
    /// The anchors of its headings, as GitHub makes them, and its `<a id="...">`s.
    anchors: BTreeSet<String>,
    /// The line and target of each link and picture.
    links: Vec<(usize, String)>,
    /// The line and label of each `[text][label]` without a definition.
    undefined: Vec<(usize, String)>,
}

impl Page {
    fn read(text: &str) -> Self {
        let line_at = |offset: usize| text[..offset].matches('\n').count() + 1;
        let mut undefined = Vec::new();
        let callback = |link: BrokenLink<'_>| {
            // `[x]` alone is brackets more often than a link; `[text][label]` is meant as one.
            if matches!(link.link_type, pulldown_cmark::LinkType::Reference) {
                undefined.push((line_at(link.span.start), link.reference.to_string()));
            }
            None
        };
        let options =
            Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_TASKLISTS;
        let parser = Parser::new_with_broken_link_callback(text, options, Some(callback));

        let mut page = Self::default();
        let mut heading: Option<String> = None;
        for (event, range) in parser.into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    if let Some(words) = heading.take() {
                        page.add_heading(&words);
                    }
                }
                Event::Text(words) | Event::Code(words) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&words);
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((line_at(range.start), dest_url.into_string()));
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    let line = line_at(range.start);
                    for name in ["id", "name"] {
                        page.anchors.extend(attributes(&html, name));
                    }
                    for name in ["href", "src"] {
                        page.links.extend(attributes(&html, name).map(|target| (line, target)));
                    }
                }
                _ => {}
            }
        }
        page.undefined = undefined;
        page
    }

    /// Adds the anchor of a heading; the second of a name is `name-1`.
    fn add_heading(&mut self, words: &str) {
        let anchor = slug(words);
        let numbered = (1..).map(|n| format!("{anchor}-{n}"));
        let mut names = std::iter::once(anchor.clone()).chain(numbered);
        if let Some(free) = names.find(|name| !self.anchors.contains(name)) {
            self.anchors.insert(free);
        }
    }
}

/// The anchor that GitHub gives a heading.
fn slug(words: &str) -> String {
    let kept = |char: &char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_');
    let dashed = |char: char| if char == ' ' { '-' } else { char };
    words.trim().to_lowercase().chars().filter(kept).map(dashed).collect()
}

/// The values of an attribute in a piece of HTML.
fn attributes(html: &str, name: &str) -> impl Iterator<Item = String> {
    let begin = format!(" {name}=\"");
    let values: Vec<_> = html
        .match_indices(&begin)
        .filter_map(|(at, begin)| html[at + begin.len()..].split('"').next())
        .map(str::to_owned)
        .collect();
    values.into_iter()
}

/// Why a link does not hold, if it does not.
fn broken(tree: &Tree, pages: &BTreeMap<&str, Page>, from: &str, target: &str) -> Option<String> {
    if has_scheme(target) || target.starts_with("//") {
        return None;
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };
    let path = if file.is_empty() { Some(from.to_owned()) } else { resolve(from, file) };
    let Some(path) = path else {
        return Some(format!("the link `{target}` leaves the repository; link to what is in it"));
    };
    let folder = if path.is_empty() { path.clone() } else { format!("{path}/") };
    if !tree.paths.contains(&path) && !tree.paths.iter().any(|known| known.starts_with(&folder)) {
        return Some(format!("the link `{target}` leads nowhere, there is no {path}; correct it"));
    }
    let (anchor, page) = (anchor?, pages.get(path.as_str())?);
    (!page.anchors.contains(anchor)).then(|| {
        let known: Vec<_> = page.anchors.iter().map(String::as_str).collect();
        format!("the link `{target}` leads to no heading of {path}; it has: {}", known.join(", "))
    })
}

/// Whether a target is `https:...`, `mailto:...` and so on.
fn has_scheme(target: &str) -> bool {
    target.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
    })
}

/// The path in the repository that a link leads to; none when it leads out.
pub(super) fn resolve(from: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    if !file.starts_with('/') {
        parts.extend(from.split('/'));
        parts.pop();
    }
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/").replace("%20", " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::summary;

    const OTHER: &str = "# The `core`: why, how\n\n## Again\n\n## Again\n\n<a id=\"here\"></a>\n";

    fn found(page: &str) -> Vec<String> {
        let files =
            [("docs/a.md", page), ("docs/b.md", OTHER), ("crates/x/src/lib.rs", "//! X.\n")];
        summary(&check(&Tree::of(&files)))
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn links_that_hold() {
        assert_eq!(found("[b](b.md) [b](./b.md \"title\") [x](../crates/x/src/lib.rs)"), NONE);
        assert_eq!(found("[x](../crates/x/) [x](/crates/x) [root](..)"), NONE);
        assert_eq!(found("# Top\n[t](#top) [b](b.md#the-core-why-how)"), NONE);
        assert_eq!(found("[b](b.md#again) [b](b.md#again-1) [b](b.md#here)"), NONE);
        assert_eq!(found("[w](https://example.org/x.md) <mailto:a@example.org>"), NONE);
        assert_eq!(found("[b][one] and [one]\n\n[one]: b.md"), NONE);
        assert_eq!(found("[line](../crates/x/src/lib.rs#L10)"), NONE);
    }

    #[test]
    fn links_that_do_not() {
        let nowhere = |line, link, path: &str| {
            format!("docs/a.md:{line}: the link `{link}` leads nowhere, there is no {path}")
        };
        assert_eq!(found("x\n\n[c](c.md)"), [nowhere(3, "c.md", "docs/c.md")]);
        assert_eq!(found("![p](p.png)"), [nowhere(1, "p.png", "docs/p.png")]);
        assert_eq!(found("[one]\n\n[one]: c.md"), [nowhere(1, "c.md", "docs/c.md")]);
        assert_eq!(found("<a href=\"c.md\">c</a>"), [nowhere(1, "c.md", "docs/c.md")]);
        assert!(found("[b](b.md#again-2)")[0].contains("no heading of docs/b.md"));
        assert!(found("[t](#top)")[0].contains("no heading of docs/a.md"));
        assert!(found("[out](../../x.md)")[0].contains("leaves the repository"));
        assert!(found("[text][label]")[0].contains("`[label]` is not defined"));
    }

    #[test]
    fn doc_comments_link_to_files_that_are_there() {
        let found = |code: &str| {
            let files = [("docs/b.md", OTHER), ("crates/x/src/lib.rs", code)];
            summary(&check(&Tree::of(&files)))
        };
        let nowhere = |line, link: &str, path: &str| {
            [format!(
                "crates/x/src/lib.rs:{line}: the link `{link}` leads nowhere, there is no {path}"
            )]
        };
        assert_eq!(found("//! See [b](../../../docs/b.md#again).\n"), NONE);
        assert_eq!(
            found("//! X.\n//!\n//! See [the\n//! page](c.md).\n"),
            nowhere(3, "c.md", "crates/x/src/c.md")
        );
        assert_eq!(
            found(
                "//! X.\nmod a {\n    /// A.\n    ///\n    /// [b]\n    ///\n    /// [b]: gone/\n    fn b() {}\n}\n"
            ),
            nowhere(5, "gone/", "crates/x/src/gone")
        );
        assert!(found("//! [b](../../../docs/b.md#no)\n")[0].contains("no heading"));
        // What rustdoc checks, what is on the web, and what is code.
        assert_eq!(found("//! [A](crate::A) [B](B) [c](#c) [d](fn@d) [e][A::e]\n"), NONE);
        assert_eq!(found("//! [web](https://example.org/x.md)\n"), NONE);
        assert_eq!(found("//! ```text\n//! [c](c.md)\n//! ```\n"), NONE);
        assert_eq!(found("//! X.\nfn a() { let b = \"[c](c.md)\"; } // [c](c.md)\n"), NONE);
    }

    #[test]
    fn what_is_code_is_no_link() {
        assert_eq!(found("`[c](c.md)`\n\n```text\n[c](c.md)\n```\n"), NONE);
        assert_eq!(found("a[0] and [brackets]"), NONE);
    }
}
