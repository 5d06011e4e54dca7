//! `cargo xtask report`: writes what `cargo xtask loom` and `cargo xtask mutants` recorded into
//! `docs/verification.md`, between the two marks that are there for it: every model with its bound
//! and iterations, the score of every file, every survivor with its reason.
//!
//! It refuses records of something else than what is there now, so that nothing is left out by a run
//! of one crate or of a few mutants, and nothing stays in that has gone since: every listed model is
//! recorded, to a bound that the list gives it, and so is every mutant of the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::loom::{has_models, list};
use crate::mutants;
use crate::workspace::Workspace;

/// The page.
const PAGE: &str = "docs/verification.md";

/// Before what is generated.
const BEGIN: &str = "<!-- begin: written by `cargo xtask report` -->";

/// After it.
const END: &str = "<!-- end: written by `cargo xtask report` -->";

/// A row of `loom.jsonl`.
#[derive(Debug, Deserialize)]
struct Explored {
    #[serde(rename = "crate")]
    package: String,
    model: String,
    iterations: Option<u64>,
    bound: Option<u32>,
    complete: bool,
}

/// A row of `mutants.jsonl`.
#[derive(Debug, Deserialize)]
struct Tried {
    #[serde(rename = "crate")]
    package: String,
    file: String,
    line: usize,
    column: usize,
    site: String,
    kind: String,
    killed_by: Option<String>,
    timed_out: bool,
    reason: Option<String>,
}

/// The subcommand.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let crates: Vec<_> = workspace.packages.iter().filter(|package| has_models(package)).collect();
    let mut listed = BTreeMap::new();
    for package in &crates {
        let path = package.dir.join("tests").join("loom-models.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for model in list::parse(&text)? {
            listed.insert((package.short().to_owned(), model.name.clone()), model);
        }
    }
    let explored: Vec<Explored> = rows(workspace, "loom")?;
    let tried: Vec<Tried> = rows(workspace, "mutants")?;
    let names: BTreeSet<_> = crates.iter().map(|package| package.short()).collect();
    complete(&mutants::all(workspace)?, &tried)?;
    let text = models(&listed, explored)? + &tables(&names, &tried)?;

    let path = workspace.root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("{PAGE} not read"))?;
    let page = replaced(&page, &text)?;
    fs::write(&path, page).with_context(|| format!("{PAGE} not written"))?;
    println!("{PAGE}: {} models, {} mutants", listed.len(), tried.len());
    Ok(ExitCode::SUCCESS)
}

/// The rows of a command's record.
fn rows<T: DeserializeOwned>(workspace: &Workspace, command: &str) -> Result<Vec<T>> {
    let path = workspace.target.join("xtask").join(format!("{command}.jsonl"));
    let text = fs::read_to_string(&path)
        .with_context(|| format!("no record; run `cargo xtask {command}` first"))?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("{command}.jsonl: {line}")))
        .collect()
}

/// The page with what is between the marks replaced.
fn replaced(page: &str, text: &str) -> Result<String> {
    let marks = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = marks else { bail!("{PAGE} lacks the marks {BEGIN} and {END}") };
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim()))
}

/// The table of the models.
fn models(
    listed: &BTreeMap<(String, String), list::Model>,
    mut explored: Vec<Explored>,
) -> Result<String> {
    explored.sort_by(|a, b| (&a.package, &a.model).cmp(&(&b.package, &b.model)));
    let found: BTreeSet<_> =
        explored.iter().map(|row| (row.package.clone(), row.model.clone())).collect();
    let missing: Vec<_> = listed.keys().filter(|key| !found.contains(*key)).collect();
    if let Some((package, model)) = missing.first() {
        bail!(
            "{} models are not in the record, {package} {model} among them; run `cargo xtask loom`",
            missing.len()
        );
    }
    let cut = explored.iter().find(|row| !row.complete);
    if let Some(Explored { package, model, .. }) = cut {
        bail!("{package} {model} is not complete; mend it and run `cargo xtask loom`");
    }
    let exhaustive = explored.iter().filter(|row| row.bound.is_none()).count();
    let iterations: u64 = explored.iter().filter_map(|row| row.iterations).sum();
    let mut text = format!(
        "### The models\n\n{} models, {iterations} interleavings in all; {exhaustive} are exhaustive, \
         the others complete to the number of preemptions in their row.\n\n\
         | crate | model | race | bound | interleavings |\n|---|---|---|---|---|\n",
        explored.len()
    );
    for row in explored {
        let Explored { package, model, iterations, bound, .. } = row;
        let Some(entry) = listed.get(&(package.clone(), model.clone())) else {
            bail!("{package} {model} is recorded and not listed; run `cargo xtask loom`")
        };
        ensure!(
            [entry.quick.get(), entry.full.get()].contains(&bound),
            "{package} {model} is recorded with another bound than listed; run `cargo xtask loom`"
        );
        let bound = bound.map_or_else(|| "none".to_owned(), |bound| bound.to_string());
        let (race, iterations) = (cell(&entry.race), iterations.unwrap_or_default());
        writeln!(text, "| {package} | `{model}` | {race} | {bound} | {iterations} |")?;
    }
    Ok(text)
}

/// Whether the record has every mutant of the sources, and no other.
fn complete(there: &BTreeSet<[String; 3]>, tried: &[Tried]) -> Result<()> {
    let name = |it: &Tried| [it.file.clone(), it.site.clone(), it.kind.clone()];
    let recorded: BTreeSet<_> = tried.iter().map(name).collect();
    let mut differ = there.symmetric_difference(&recorded);
    if let Some(mutant) = differ.next() {
        let [file, site, kind] = mutant;
        let known = there.contains(mutant);
        let wrong = if known { "is not in the record" } else { "is recorded and not there" };
        bail!(
            "{file} `{site}` {kind} {wrong}, with {} more; run `cargo xtask mutants`",
            differ.count()
        );
    }
    ensure!(tried.len() == recorded.len(), "a mutant is recorded twice; run `cargo xtask mutants`");
    Ok(())
}

/// The tables of the mutants.
fn tables(names: &BTreeSet<&str>, tried: &[Tried]) -> Result<String> {
    let found: BTreeSet<_> = tried.iter().map(|row| row.package.as_str()).collect();
    let missing: Vec<_> = names.difference(&found).copied().collect();
    ensure!(
        missing.is_empty(),
        "no mutants of {} in the record; run `cargo xtask mutants`",
        missing.join(", ")
    );
    let mut files: BTreeMap<(&str, &str), Vec<&Tried>> = BTreeMap::new();
    for row in tried {
        files.entry((&row.package, &row.file)).or_default().push(row);
    }
    let head = "sites | mutants | killed | of these by timeout | survived | killed |";
    let mut text =
        format!("\n### The mutants\n\n| crate | {head}\n|---|---|---|---|---|---|---|\n");
    for name in names {
        let of: Vec<_> = tried.iter().filter(|row| row.package == *name).collect();
        writeln!(text, "| {name} | {}", score(&of))?;
    }
    writeln!(text, "\n| file | {head}\n|---|---|---|---|---|---|---|")?;
    for ((_, file), of) in &files {
        writeln!(text, "| `{file}` | {}", score(of))?;
    }
    let survivors: Vec<_> = tried.iter().filter(|row| row.killed_by.is_none()).collect();
    writeln!(text, "\n### The survivors\n")?;
    if survivors.is_empty() {
        writeln!(text, "None.")?;
        return Ok(text);
    }
    writeln!(text, "| where | mutation | why it survives |\n|---|---|---|")?;
    for Tried { file, site, kind, reason, .. } in survivors {
        let Some(reason) = reason else {
            bail!("{file} `{site}` {kind} survives without a reason; see `cargo xtask mutants`")
        };
        writeln!(text, "| `{file}`, `{site}` | {kind} | {} |", cell(reason))?;
    }
    Ok(text)
}

/// The cells of a score.
fn score(rows: &[&Tried]) -> String {
    let sites: BTreeSet<_> = rows.iter().map(|row| (&row.file, row.line, row.column)).collect();
    let killed = rows.iter().filter(|row| row.killed_by.is_some()).count();
    let timed_out = rows.iter().filter(|row| row.timed_out).count();
    let mutants = rows.len();
    let percent = killed as f64 * 100.0 / mutants.max(1) as f64;
    format!(
        "{} | {mutants} | {killed} | {timed_out} | {} | {percent:.1} % |",
        sites.len(),
        mutants - killed
    )
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explored(model: &str, complete: bool) -> Explored {
        let (package, model) = ("sync".to_owned(), model.to_owned());
        Explored { package, model, iterations: Some(7), bound: Some(2), complete }
    }

    fn tried(line: usize, killed: bool) -> Tried {
        Tried {
            package: "sync".to_owned(),
            file: "crates/sync/src/a.rs".to_owned(),
            line,
            column: 5,
            site: "f load".to_owned(),
            kind: "relaxed".to_owned(),
            killed_by: killed.then(|| "sync a".to_owned()),
            timed_out: false,
            reason: (!killed).then(|| "a hint | no more".to_owned()),
        }
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("# Page\n\n{BEGIN}\nold\n{END}\n\nrest\n");
        let new = replaced(&page, "\nnew\n").unwrap();
        assert_eq!(new, format!("# Page\n\n{BEGIN}\n\nnew\n\n{END}\n\nrest\n"));
        assert_eq!(replaced(&new, "new").unwrap(), new);
        assert!(replaced("# Page\n", "new").is_err());
    }

    #[test]
    fn a_record_that_leaves_something_out_is_refused() {
        let list = "[[model]]\nname = \"a\"\nrace = \"x | y\"\nquick = 2\nfull = 3\n";
        let model = list::parse(list).unwrap().remove(0);
        let listed = BTreeMap::from([(("sync".to_owned(), "a".to_owned()), model)]);
        let text = models(&listed, vec![explored("a", true)]).unwrap();
        assert!(text.contains("| sync | `a` | x \\| y | 2 | 7 |"), "{text}");
        assert!(models(&listed, Vec::new()).unwrap_err().to_string().contains("sync a among"));
        assert!(models(&listed, vec![explored("a", false)]).is_err());
        assert!(models(&listed, vec![explored("a", true), explored("b", true)]).is_err());
        let other_bound = Explored { bound: None, ..explored("a", true) };
        let refused = models(&listed, vec![other_bound]).unwrap_err().to_string();
        assert!(refused.contains("another bound"), "{refused}");
        let names = BTreeSet::from(["pool", "sync"]);
        let refused = tables(&names, &[tried(1, true)]).unwrap_err().to_string();
        assert!(refused.contains("mutants of pool"), "{refused}");
    }

    #[test]
    fn a_record_of_some_mutants_or_of_an_older_source_is_refused() {
        let named = |site: &str| ["crates/sync/src/a.rs", site, "relaxed"].map(str::to_owned);
        let there = BTreeSet::from([named("f load"), named("g load")]);
        let row = |site: &str| Tried { site: site.to_owned(), ..tried(1, true) };
        assert!(complete(&there, &[row("g load"), row("f load")]).is_ok());
        let refusal = |rows: &[Tried]| complete(&there, rows).unwrap_err().to_string();
        assert!(refusal(&[row("f load")]).contains("`g load` relaxed is not in the record"));
        let older = [row("f load"), row("g load"), row("h load")];
        assert!(refusal(&older).contains("`h load` relaxed is recorded and not there"));
        assert!(refusal(&[row("f load"), row("g load"), row("g load")]).contains("twice"));
    }

    #[test]
    fn scores_count_sites_and_mutants_apart_and_survivors_have_reasons() {
        let names = BTreeSet::from(["sync"]);
        let rows = [tried(1, true), tried(1, true), tried(2, true), tried(3, false)];
        let text = tables(&names, &rows).unwrap();
        assert!(text.contains("| sync | 3 | 4 | 3 | 0 | 1 | 75.0 % |"), "{text}");
        assert!(text.contains("relaxed | a hint \\| no more |"), "{text}");
        let unexplained = Tried { reason: None, ..tried(3, false) };
        assert!(tables(&names, &[unexplained]).is_err());
    }
}
