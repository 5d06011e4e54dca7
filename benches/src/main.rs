//! The program behind `cargo xtask bench`: measures the shapes of some crates and prints what each
//! round told, a JSON object a line; progress goes to stderr.

#![forbid(unsafe_code)]

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use selvedge_bench::harness::allocations::Allocator;
use selvedge_bench::harness::{Event, Rounds};
use selvedge_bench::shapes::{self, Scale};

/// Counts what the shapes allocate.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Measures shapes, contestants in turn.
#[derive(Debug, Parser)]
struct Cli {
    /// The crates whose shapes to measure, `cancel`; all when none is named.
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
    /// Only the shapes whose name contains this.
    #[arg(long, value_name = "TEXT")]
    shape: Option<String>,
    /// Three rounds of small shapes instead of nine of full ones.
    #[arg(long)]
    quick: bool,
    /// How many rounds.
    #[arg(long)]
    rounds: Option<u32>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    for name in &cli.crates {
        let known: Vec<_> = shapes::ALL.iter().map(|(name, _)| *name).collect();
        ensure!(known.contains(&name.as_str()), "no shapes of `{name}`; there are: {known:?}");
    }
    let wanted = |name: &str| cli.crates.is_empty() || cli.crates.iter().any(|want| want == name);
    let scale = if cli.quick { Scale::Quick } else { Scale::Full };
    let rounds = Rounds {
        rounds: cli.rounds.unwrap_or(if cli.quick { 3 } else { 9 }),
        sample: Duration::from_millis(if cli.quick { 4 } else { 20 }),
    };

    for (of, contestant, why) in shapes::absent().filter(|(of, ..)| wanted(of)) {
        print(&Event::Absent { of, contestant, why });
    }
    let made: Vec<_> = shapes::ALL
        .iter()
        .filter(|(name, _)| wanted(name))
        .flat_map(|(_, make)| make(scale))
        .filter(|shape| cli.shape.as_ref().is_none_or(|text| shape.name.contains(text.as_str())))
        .collect();
    let bar = ProgressBar::new(made.len() as u64);
    bar.set_style(ProgressStyle::with_template("{pos}/{len} {elapsed} {wide_msg}")?);
    for mut shape in made {
        bar.set_message(format!("{}: {}, {}", shape.of, shape.name, shape.parameter));
        rounds.measure(&mut shape, print);
        bar.inc(1);
    }
    bar.finish_and_clear();
    shapes::TALLIES
        .iter()
        .filter(|(name, _)| wanted(name))
        .flat_map(|(_, make)| make())
        .filter(|tally| cli.shape.as_ref().is_none_or(|text| tally.name.contains(text.as_str())))
        .for_each(|tally| tally.count(print));
    Ok(())
}

/// Prints an event at once, so that a run cut short leaves what it had measured.
fn print(event: &Event<'_>) {
    let mut stdout = std::io::stdout().lock();
    let line = serde_json::to_string(event).expect("an event is JSON");
    // Who read it is gone: so is the reason to measure.
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        std::process::exit(1);
    }
}
