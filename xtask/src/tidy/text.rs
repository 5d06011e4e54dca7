//! Rule: no path of somebody's machine, and no marker of unfinished work, in what is checked in.
//!
//! The needles are put together from parts, so that this file does not hold what it forbids.

use super::{Finding, Text, Tree};

/// The folders that only exist on somebody's machine; behind the last slash a name must follow.
const FOLDERS: [&str; 4] =
    [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/"), concat!("/", "Users/")];

/// Words that stand for something left to do.
const WORDS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];

/// Code that stands for something left to do, or out.
const CODE: [&str; 4] = [
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("d", "bg!("),
    concat!("#[", "ignore"),
];

/// How the lines begin that a merge leaves behind: seven of these.
const CONFLICT: [char; 3] = ['<', '>', '|'];

/// Applies the rule to every text.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Text { path, text } in &tree.texts {
        for (number, line) in text.lines().enumerate() {
            findings.extend(wrong(line).map(|what| Finding::new(path, number + 1, what)));
        }
    }
    findings
}

/// What is wrong with a line, the first thing.
fn wrong(line: &str) -> Option<String> {
    if let Some(folder) = FOLDERS.iter().find(|folder| has_folder(line, folder)) {
        return Some(format!("a path of somebody's machine, `{folder}...`; make it relative"));
    }
    if let Some(word) = WORDS.iter().find(|word| has_word(line, word)) {
        return Some(format!(
            "the marker `{word}`; do it now, or open an issue and say what is true"
        ));
    }
    if let Some(code) = CODE.iter().find(|code| has_code(line, code)) {
        return Some(format!("`{code}`; finish it, or assert the behaviour there is"));
    }
    let conflict = CONFLICT.iter().any(|mark| {
        let rest = line.trim_start_matches(*mark);
        line.len() - rest.len() == 7 && (rest.is_empty() || rest.starts_with(' '))
    });
    conflict.then(|| "a marker of a merge; resolve the conflict".to_owned())
}

/// Whether the folder stands in the line as the beginning of an absolute path.
fn has_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let inside = |char: char| char.is_alphanumeric() || "_-.~/*}>)".contains(char);
        let after = line[at + folder.len()..].chars().next();
        !line[..at].ends_with(inside)
            && after.is_some_and(|char| char.is_alphanumeric() || char == '.')
    })
}

/// Whether the line has the word as a word.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|char: char| !char.is_alphanumeric() && char != '_').any(|part| part == word)
}

/// Whether the line has the code, not as the end of a longer name.
fn has_code(line: &str, code: &str) -> bool {
    let named = |char: char| char.is_alphanumeric() || char == '_';
    line.match_indices(code).any(|(at, _)| !line[..at].ends_with(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_wrong(line: &str) -> bool {
        wrong(line).is_some()
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for folder in FOLDERS {
            assert!(is_wrong(&format!("let path = \"{folder}me/x\";")), "{folder}");
            assert!(is_wrong(&format!("cd {folder}me")), "{folder}");
            assert!(is_wrong(&format!("file://{folder}x").replace("//", ":")), "{folder}");
        }
    }

    #[test]
    fn folders_of_that_name_inside_a_path_are_not() {
        for folder in FOLDERS {
            assert!(!is_wrong(&format!("src{folder}mod.rs")), "{folder}");
            assert!(!is_wrong(&format!("https://example.org{folder}x")), "{folder}");
            assert!(!is_wrong(&format!("the folder {folder} itself")), "{folder}");
        }
    }

    #[test]
    fn markers_are_found_as_words() {
        for word in WORDS {
            assert!(is_wrong(&format!("// {word}: later")), "{word}");
            assert!(is_wrong(&format!("({word})")), "{word}");
            assert!(!is_wrong(&format!("{word}ER and MY_{word}")), "{word}");
            assert!(!is_wrong(&word.to_lowercase()), "{word}");
        }
    }

    #[test]
    fn unfinished_code_is_found() {
        for code in CODE {
            assert!(is_wrong(&format!("    {code}x)]")), "{code}");
        }
        assert!(!is_wrong(&format!("my_{}x)", CODE[0])));
    }

    #[test]
    fn merge_markers_are_found_at_the_beginning_of_a_line() {
        for mark in CONFLICT {
            let seven = mark.to_string().repeat(7);
            assert!(is_wrong(&format!("{seven} main")));
            assert!(is_wrong(&seven));
            assert!(!is_wrong(&format!("x {seven} main")));
            assert!(!is_wrong(&format!("{seven}{mark}")));
        }
    }

    #[test]
    fn lines_are_counted_from_one() {
        let text = format!("a\nb\n{}: c\n", WORDS[0]);
        let findings = check(&Tree::of(&[("a.md", &text)]));
        assert_eq!((findings.len(), findings[0].line), (1, 3));
    }
}
