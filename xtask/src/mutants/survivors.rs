//! The checked-in list of the mutants that survive, `tests/loom-survivors.toml`, each with the
//! reason why no model can, or need, kill it.
//!
//! ```toml
//! [[survivor]]
//! file = "src/tree/handle.rs"
//! site = "Handle::stop release_then"
//! kind = "lock-held"
//! reason = "the callback drops a value of ours, which takes no lock"
//! ```

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::sites::Mutant;

/// An entry of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Survivor {
    /// The file, from the crate's folder.
    file: String,
    /// Function and operation.
    site: String,
    /// The mutation.
    kind: String,
    /// Why it survives.
    pub(super) reason: String,
}

impl Survivor {
    /// Whether this is the entry of a mutant; `folder` is the crate's.
    pub(super) fn is(&self, mutant: &Mutant, folder: &str) -> bool {
        self.site == mutant.site
            && self.kind == mutant.kind
            && mutant
                .file
                .strip_prefix(folder)
                .is_some_and(|file| file == format!("/{}", self.file))
    }

    /// How it is called in messages.
    fn name(&self) -> String {
        format!("{} `{}` {}", self.file, self.site, self.kind)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    survivor: Vec<Survivor>,
}

/// Reads a list and checks what it says about itself.
pub(super) fn parse(text: &str) -> Result<Vec<Survivor>> {
    let list: List = toml::from_str(text).context("not a list of survivors")?;
    let mut names = BTreeSet::new();
    for survivor in &list.survivor {
        let name = survivor.name();
        ensure!(!survivor.reason.trim().is_empty(), "{name} survives without a reason");
        ensure!(names.insert(name.clone()), "{name} is listed twice");
    }
    Ok(list.survivor)
}

/// What is wrong between the list and what was found: survivors that are not listed, entries whose
/// mutant was killed, entries that fit no mutant.
pub(super) fn compare<'a>(
    listed: &[Survivor],
    folder: &str,
    results: impl Iterator<Item = (&'a Mutant, bool)> + Clone,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (mutant, killed) in results.clone() {
        if !killed && !listed.iter().any(|entry| entry.is(mutant, folder)) {
            wrong.push(format!(
                "{} `{}` {} survives and is not listed; kill it with a model, or list it in \
                 tests/loom-survivors.toml with the reason",
                mutant.place(),
                mutant.site,
                mutant.kind
            ));
        }
    }
    for entry in listed {
        match results.clone().find(|(mutant, _)| entry.is(mutant, folder)) {
            None => wrong.push(format!("{} is listed, but there is no such mutant", entry.name())),
            Some((_, true)) => {
                wrong.push(format!("{} is listed, but is killed now; unlist it", entry.name()));
            }
            Some((_, false)) => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(site: &str) -> Mutant {
        Mutant {
            file: "crates/sync/src/a.rs".to_owned(),
            line: 3,
            column: 5,
            site: site.to_owned(),
            kind: "relaxed",
        }
    }

    fn entry(site: &str) -> String {
        format!(
            "[[survivor]]\nfile = \"src/a.rs\"\nsite = \"{site}\"\nkind = \"relaxed\"\n\
             reason = \"a hint\"\n"
        )
    }

    #[test]
    fn every_difference_is_told() {
        let listed = parse(&(entry("f load") + &entry("g load") + &entry("h load"))).unwrap();
        let (f, g, k) = (mutant("f load"), mutant("g load"), mutant("k load"));
        let results = [(&f, false), (&g, true), (&k, false)];
        let wrong = compare(&listed, "crates/sync", results.into_iter());
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].starts_with("crates/sync/src/a.rs:3:5 `k load` relaxed survives"));
        assert!(wrong[1].contains("`g load`") && wrong[1].contains("killed now"));
        assert!(wrong[2].contains("`h load`") && wrong[2].contains("no such mutant"));
        assert_eq!(compare(&listed[..1], "crates/sync", [(&f, false)].into_iter()), [""; 0]);
        assert_eq!(compare(&listed[..1], "crates/pool", [(&f, false)].into_iter()).len(), 2);
    }

    #[test]
    fn a_list_without_reasons_or_with_an_entry_twice_is_refused() {
        let refusal = |text: &str| format!("{:#}", parse(text).unwrap_err());
        assert!(refusal(&entry("f load").replace("a hint", " ")).contains("without a reason"));
        assert!(refusal(&(entry("f load") + &entry("f load"))).contains("listed twice"));
        assert!(refusal("[[survivor]]\nfile = \"a\"\n").contains("not a list"));
        assert!(parse("").unwrap().is_empty());
    }
}
