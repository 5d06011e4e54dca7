//! The checked-in list of a crate's models, `tests/loom-models.toml`, and what may be wrong between
//! it and the tests that are there.
//!
//! ```toml
//! [[model]]
//! name = "cancel_vs_register"
//! race = "cancel's flag pass against a waiter that links itself"
//! quick = 2         # preemptions in the quick tier; "none" = exhaustive
//! full = "none"     # the same in the full tier
//! ```

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// How deep a model is explored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Bound(
    /// The most preemptions in an interleaving; none = every interleaving.
    Option<u32>,
);

impl Bound {
    /// Every interleaving.
    pub(crate) const EXHAUSTIVE: Self = Self(None);

    /// Every interleaving with at most so many preemptions.
    #[cfg(test)]
    pub(crate) const fn preemptions(most: u32) -> Self {
        Self(Some(most))
    }

    /// As a number, where there is one.
    pub(crate) fn get(self) -> Option<u32> {
        self.0
    }

    /// Whether this explores at least what `other` does.
    fn covers(self, other: Self) -> bool {
        match (self.0, other.0) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => ours >= theirs,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(most) => most.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u32),
            Word(String),
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Number(most)) if most > 0 => Ok(Self(Some(most))),
            Ok(Written::Word(word)) if word == "none" => Ok(Self::EXHAUSTIVE),
            _ => Err(D::Error::custom("a bound is \"none\" (exhaustive) or a number from 1")),
        }
    }
}

/// An entry of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    /// The test's name.
    pub(crate) name: String,
    /// Which race it explores, in a line.
    pub(crate) race: String,
    /// The bound of the quick tier.
    pub(crate) quick: Bound,
    /// The bound of the full tier.
    pub(crate) full: Bound,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    model: Vec<Model>,
}

/// Reads a list and checks what it says about itself.
pub(crate) fn parse(text: &str) -> Result<Vec<Model>> {
    let list: List = toml::from_str(text).context("not a list of models")?;
    ensure!(!list.model.is_empty(), "no [[model]] in it");
    let mut names = BTreeSet::new();
    for model in &list.model {
        let Model { name, race, quick, full } = model;
        ensure!(names.insert(name.as_str()), "the model `{name}` is listed twice");
        ensure!(!race.trim().is_empty(), "the model `{name}` does not say which race it explores");
        if !full.covers(*quick) {
            bail!("the model `{name}` is explored deeper by quick = {quick} than by full = {full}");
        }
    }
    Ok(list.model)
}

/// The differences between the list and the tests there are.
pub(crate) fn compare(models: &[Model], tests: &[String]) -> Vec<String> {
    let listed: BTreeSet<&str> = models.iter().map(|model| model.name.as_str()).collect();
    let there: BTreeSet<&str> = tests.iter().map(String::as_str).collect();
    let absent = listed.difference(&there).map(|name| {
        format!("`{name}` is listed, but there is no such test; write it or unlist it")
    });
    let unlisted = there
        .difference(&listed)
        .map(|name| format!("`{name}` is a test, but not listed; add a [[model]] for it"));
    absent.chain(unlisted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, quick: &str, full: &str) -> String {
        format!(
            "[[model]]\nname = \"{name}\"\nrace = \"a against b\"\nquick = {quick}\nfull = {full}\n"
        )
    }

    fn refusal(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    #[test]
    fn bounds_are_numbers_or_none() {
        let text = entry("a", "2", "\"none\"") + &entry("b", "\"none\"", "\"none\"");
        let models = parse(&text).unwrap();
        assert_eq!((models[0].quick, models[0].full), (Bound(Some(2)), Bound(None)));
        assert_eq!(models[1].quick, Bound::EXHAUSTIVE);
        assert_eq!(format!("{} {}", models[0].quick, models[0].full), "2 none");
        for wrong in ["0", "-1", "\"2\"", "2.5", "true"] {
            assert!(refusal(&entry("a", wrong, "3")).contains("a bound is"), "{wrong}");
        }
    }

    #[test]
    fn a_list_that_contradicts_itself_is_refused() {
        assert!(refusal("").contains("no [[model]]"));
        let twice = entry("a", "2", "3") + &entry("a", "2", "3");
        assert!(refusal(&twice).contains("listed twice"));
        assert!(refusal(&entry("a", "\"none\"", "3")).contains("deeper by quick"));
        assert!(refusal(&entry("a", "3", "2")).contains("deeper by quick"));
        assert!(refusal(&entry("a", "2", "3").replace("a against b", " ")).contains("which race"));
        let unknown = entry("a", "2", "3") + "slow = true\n";
        assert!(refusal(&unknown).contains("slow"));
    }

    #[test]
    fn absent_and_unlisted_models_are_named() {
        let models = parse(&(entry("a", "2", "3") + &entry("b", "2", "3"))).unwrap();
        let both = ["a".to_owned(), "b".to_owned()];
        assert_eq!(compare(&models, &both), Vec::<String>::new());
        let wrong = compare(&models, &["b".to_owned(), "c".to_owned()]);
        assert_eq!(wrong.len(), 2);
        assert!(wrong[0].starts_with("`a` is listed"), "{wrong:?}");
        assert!(wrong[1].starts_with("`c` is a test"), "{wrong:?}");
    }
}
