//! Rule: a planted bug still applies, so that a reader who repeats it plants something.
//!
//! `docs/planted/*.patch` break the code on purpose, and a page says which command catches each. The
//! code moves on; what a hunk takes out or leaves must stand in its file, on whatever lines.

use super::{Finding, Text, Tree};
use crate::planted::Recipe;

/// Where the patches are.
const FOLDER: &str = "docs/planted/";

/// The page that says how to plant them.
const PAGE: &str = "docs/verification.md";

/// Applies the rule to every patch.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let text_of = |path: &str| tree.texts.iter().find(|text| text.path == path).map(|t| &*t.text);
    let page = text_of(PAGE).unwrap_or_default();
    let patches = tree
        .texts
        .iter()
        .filter(|text| text.path.starts_with(FOLDER) && text.path.ends_with(".patch"));
    let mut findings = Vec::new();
    for Text { path, text } in patches {
        let name = &path[FOLDER.len()..];
        if !page.contains(name.trim_end_matches(".patch")) {
            let message = format!("nobody is told of this bug; name {name} in {PAGE}");
            findings.push(Finding::new(path, 1, message));
        }
        if Recipe::of(text).is_none() {
            let message = "nobody knows what catches it; begin with the lines `caught by: cargo ...` and `prints: ...`";
            findings.push(Finding::new(path, 1, message.to_owned()));
        }
        for hunk in hunks(text) {
            if hunk.old.is_empty() || !text_of(&hunk.file).is_some_and(|t| t.contains(&hunk.old)) {
                let message = format!(
                    "the patch does not apply to `{}`; plant the bug again and write it with \
                     `git diff -U2`",
                    hunk.file
                );
                findings.push(Finding::new(path, hunk.line, message));
            }
        }
    }
    findings
}

/// A part of a patch.
struct Hunk {
    /// The file that it changes.
    file: String,
    /// Its line in the patch.
    line: usize,
    /// What it expects there.
    old: String,
}

/// The hunks of a patch as git writes it; one without any is one hunk that applies nowhere.
fn hunks(patch: &str) -> Vec<Hunk> {
    let (mut hunks, mut file) = (Vec::<Hunk>::new(), String::new());
    let mut header = true;
    for (number, line) in patch.lines().enumerate() {
        if line.starts_with("diff --git ") {
            header = true;
        } else if line.starts_with("@@ ") {
            header = false;
            hunks.push(Hunk { file: file.clone(), line: number + 1, old: String::new() });
        } else if header {
            if let Some(path) = line.strip_prefix("--- a/") {
                file = path.to_owned();
            }
        } else if let Some(hunk) = hunks.last_mut()
            && let Some(kept) = line.strip_prefix([' ', '-'])
        {
            hunk.old.push_str(kept);
            hunk.old.push('\n');
        }
    }
    if hunks.is_empty() {
        hunks.push(Hunk { file, line: 1, old: String::new() });
    }
    hunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::summary;

    const NONE: [&str; 0] = [];
    const CODE: &str = "//! A.\nfn a() {\n    unlink();\n    free();\n}\n";
    const PATCH: &str = "caught by: cargo test\nprints: FAILED\n\
                         diff --git a/a.rs b/a.rs\nindex 1..2 100644\n--- a/a.rs\n+++ b/a.rs\n\
                         @@ -9,3 +9,2 @@ fn a()\n fn a() {\n-    unlink();\n     free();\n";

    fn found(code: &str, patch: &str, page: &str) -> Vec<String> {
        let files = [("a.rs", code), ("docs/planted/early.patch", patch), (PAGE, page)];
        summary(&check(&Tree::of(&files)))
    }

    #[test]
    fn a_patch_applies_wherever_its_lines_stand() {
        assert_eq!(found(CODE, PATCH, "git apply docs/planted/early.patch"), NONE);
        let moved = CODE.replace("fn a()", "fn b() {}\n\nfn a()");
        assert_eq!(found(&moved, PATCH, "for bug in early"), NONE);
    }

    #[test]
    fn a_patch_whose_code_has_changed_is_found() {
        let changed = CODE.replace("unlink();", "take_out();");
        let expected = ["docs/planted/early.patch:7: the patch does not apply to `a.rs`"];
        assert_eq!(found(&changed, PATCH, "early"), expected);
        assert_eq!(found(CODE, "nothing\n", "early").len(), 2);
        assert_eq!(found(CODE, &PATCH.replace("a.rs", "b.rs"), "early").len(), 1);
    }

    #[test]
    fn a_patch_that_nothing_is_known_to_catch_is_found() {
        assert_eq!(found(CODE, &PATCH.replace("caught by", "see"), "early").len(), 1);
    }

    #[test]
    fn a_patch_that_no_page_names_is_found() {
        assert_eq!(found(CODE, PATCH, "").len(), 1);
    }
}
