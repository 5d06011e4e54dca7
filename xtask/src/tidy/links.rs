//! Rule: links between the pages hold: the file or folder is there, and so is the heading. Links to
//! the web are not fetched.

use std::collections::{BTreeMap, BTreeSet};

use pulldown_cmark::{BrokenLink, Event, Options, Parser, Tag, TagEnd};

use super::{Finding, Text, Tree};

/// Applies the rule to every Markdown file.
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
    findings
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
fn resolve(from: &str, file: &str) -> Option<String> {
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
    fn what_is_code_is_no_link() {
        assert_eq!(found("`[c](c.md)`\n\n```text\n[c](c.md)\n```\n"), NONE);
        assert_eq!(found("a[0] and [brackets]"), NONE);
    }
}
