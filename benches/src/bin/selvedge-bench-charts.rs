//! Draws what `cargo xtask bench` recorded: one page, a chart a shape, the bars as a table.
//!
//! ```text
//! selvedge-bench-charts bench.jsonl bench.html [TITLE]
//! ```
//!
//! A chart has a logarithmic scale, because contestants lie a factor of a hundred apart; a bar ends at
//! the median of the rounds, its line reaches from the fastest to the slowest round.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use plotters::prelude::*;
use serde::Deserialize;

/// Draws what `cargo xtask bench` recorded.
#[derive(Debug, Parser)]
struct Cli {
    /// The rows.
    rows: PathBuf,
    /// The page.
    page: PathBuf,
    /// What stands below the heading: the machine.
    #[arg(default_value = "")]
    title: String,
}

/// A row of the record.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Row {
    Figures(Figures),
    Count(Count),
    Verdict(Verdict),
    Absent(Absent),
}

/// A contestant that takes no part.
#[derive(Debug, Deserialize)]
struct Absent {
    #[serde(rename = "crate")]
    of: String,
    contestant: String,
    absent: String,
}

/// A contestant of a shape.
#[derive(Debug, Deserialize)]
struct Figures {
    #[serde(rename = "crate")]
    of: String,
    shape: String,
    parameter: String,
    contestant: String,
    role: String,
    median_ns: f64,
    min_ns: f64,
    max_ns: f64,
    allocs_per_op: f64,
    #[serde(default)]
    ratio: Option<[f64; 3]>,
    ping_pong_ns: f64,
}

/// A contestant of a tally.
#[derive(Debug, Deserialize)]
struct Count {
    #[serde(rename = "crate")]
    of: String,
    shape: String,
    parameter: String,
    contestant: String,
    admitted: u64,
    allowed: u64,
    error: f64,
}

/// A bar and what became of it.
#[derive(Debug, Deserialize)]
struct Verdict {
    #[serde(rename = "crate")]
    of: String,
    shape: String,
    parameter: String,
    peer: String,
    ratio: Option<f64>,
    bar: f64,
    holds: Option<bool>,
    #[serde(default)]
    unmeasured: Option<String>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let text = fs::read_to_string(&cli.rows).with_context(|| cli.rows.display().to_string())?;
    let page = page(&rows(&text)?, &cli.title)?;
    fs::write(&cli.page, page).with_context(|| cli.page.display().to_string())
}

fn rows(text: &str) -> Result<Vec<Row>> {
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("no row: {line}")))
        .collect()
}

/// What the page looks like.
const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse}td,th{padding:.2rem .7rem;text-align:left;border-bottom:1px solid \
    #ddd}.held{color:#1b7837}.missed{color:#b2182b;font-weight:bold}.unmeasured{color:#777}\
    svg{max-width:100%;height:auto}p{margin:.3rem 0}";

/// The page.
fn page(rows: &[Row], title: &str) -> Result<String> {
    let mut shapes: Vec<Vec<&Figures>> = Vec::new();
    let (mut counts, mut verdicts, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match row {
            Row::Count(count) => counts.push(count),
            Row::Verdict(verdict) => verdicts.push(verdict),
            Row::Absent(one) => absent.push(one),
            Row::Figures(figures) => match shapes.last_mut() {
                Some(shape) if is_same_shape(shape[0], figures) => shape.push(figures),
                _ => shapes.push(vec![figures]),
            },
        }
    }

    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Benches</title>\n\
         <style>{STYLE}</style>\n<h1>Ours beside the peers</h1>\n<p>{}</p>\n\
         <p>Time of an operation on a logarithmic scale; less is better. A bar ends at the median of \
         the rounds, its line reaches from the fastest to the slowest. Only figures of one chart \
         compare.</p>\n",
        escaped(title)
    );
    for Absent { of, contestant, absent } in absent {
        let [of, contestant, why] = [of, contestant, absent].map(|word| escaped(word));
        writeln!(page, "<p>{of}: no {contestant}: {why}</p>")?;
    }
    if !verdicts.is_empty() {
        page.push_str(&table(&verdicts)?);
    }
    if !counts.is_empty() {
        page.push_str(&tallies(&counts)?);
    }
    let mut of = "";
    for shape in &shapes {
        let first = shape[0];
        if first.of != of {
            of = &first.of;
            writeln!(page, "<h2>{}</h2>", escaped(of))?;
        }
        writeln!(page, "<h3>{}: {}</h3>", escaped(&first.shape), escaped(&first.parameter))?;
        writeln!(page, "{}", words(shape))?;
        writeln!(page, "{}", chart(shape)?)?;
    }
    page.push_str("</html>\n");
    Ok(page)
}

fn is_same_shape(a: &Figures, b: &Figures) -> bool {
    (&a.of, &a.shape, &a.parameter) == (&b.of, &b.shape, &b.parameter)
}

/// The ratio to the best peer, the allocations, the machine meanwhile.
fn words(shape: &[&Figures]) -> String {
    let best = shape
        .iter()
        .filter(|row| row.role == "peer")
        .min_by(|a, b| f64::total_cmp(&a.median_ns, &b.median_ns));
    let ratio = match best.and_then(|best| best.ratio.map(|ratio| (best, ratio))) {
        Some((best, [lower, median, upper])) => {
            format!(
                "Ours takes {median:.2} (quartiles {lower:.2} to {upper:.2}) of the time of {}. ",
                escaped(&best.contestant)
            )
        }
        None => String::new(),
    };
    let ours = shape.iter().find(|row| row.role == "ours").map_or(0.0, |row| row.allocs_per_op);
    let line = shape[0].ping_pong_ns;
    format!(
        "<p>{ratio}{ours:.2} allocations an operation of ours; a cache line between two cores took \
         {line:.0} ns.</p>"
    )
}

/// The bars.
fn table(verdicts: &[&Verdict]) -> Result<String> {
    let mut table = String::from(
        "<h2>Bars</h2>\n<table><tr><th>bar<th>against<th>is<th>at most<th>verdict</tr>\n",
    );
    for verdict in verdicts {
        let (class, word) = match verdict.holds {
            Some(true) => ("held", "held"),
            Some(false) => ("missed", "missed"),
            None => ("unmeasured", verdict.unmeasured.as_deref().unwrap_or("unmeasured")),
        };
        let ratio = verdict.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let what = [&verdict.of, &verdict.shape, &verdict.parameter].map(|word| escaped(word));
        let (peer, bar) = (escaped(&verdict.peer), verdict.bar);
        writeln!(
            table,
            "<tr><td>{}: {}, {}<td>{peer}<td>{ratio}<td>{bar:.2}<td class=\"{class}\">{}</tr>",
            what[0],
            what[1],
            what[2],
            escaped(word)
        )?;
    }
    table.push_str("</table>\n");
    Ok(table)
}

/// What was counted.
fn tallies(counts: &[&Count]) -> Result<String> {
    let mut table = String::from(
        "<h2>Counts</h2>\n<table><tr><th>tally<th>who<th>admitted<th>allowed<th>error</tr>\n",
    );
    for count in counts {
        let what = [&count.of, &count.shape, &count.parameter, &count.contestant];
        let [of, shape, parameter, who] = what.map(|word| escaped(word));
        let Count { admitted, allowed, error, .. } = count;
        let percent = error * 100.0;
        writeln!(
            table,
            "<tr><td>{of}: {shape}, {parameter}<td>{who}<td>{admitted}<td>{allowed}\
             <td>{percent:+.2} %</tr>"
        )?;
    }
    table.push_str("</table>\n");
    Ok(table)
}

/// The width of a chart, and of the names beside its bars.
const WIDTH: u32 = 860;
const NAMES: u32 = 200;
/// The height of a bar with its space, and of the scale below.
const BAR: u32 = 26;
const SCALE: u32 = 34;

/// A bar for each contestant.
fn chart(shape: &[&Figures]) -> Result<String> {
    // A free operation has no place on a logarithmic scale; a hundredth of a nanosecond is free.
    let drawn = |ns: f64| ns.max(0.01);
    let least = shape.iter().map(|row| drawn(row.min_ns)).fold(f64::INFINITY, f64::min) / 2.0;
    let most = shape.iter().map(|row| drawn(row.max_ns)).fold(0.0, f64::max) * 3.0;
    let rows = u32::try_from(shape.len()).unwrap_or(1);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, rows * BAR + SCALE));
        let area = area.into_drawing_area();
        let (names, bars) = area.split_horizontally(NAMES);
        let mut chart = ChartBuilder::on(&bars)
            .x_label_area_size(SCALE)
            .build_cartesian_2d((least..most).log_scale(), 0.0..f64::from(rows))?;
        chart
            .configure_mesh()
            .disable_y_axis()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&|ns| time(*ns))
            .draw()?;
        let style = ("sans-serif", 14).into_text_style(&area);
        for (place, row) in shape.iter().enumerate() {
            let color = match row.role.as_str() {
                "ours" => RGBColor(33, 102, 172),
                "peer" => RGBColor(178, 160, 120),
                _ => RGBColor(200, 200, 200),
            };
            // The first one on top.
            let base = f64::from(rows) - 1.0 - place as f64;
            let bar = [(least, base + 0.2), (drawn(row.median_ns), base + 0.8)];
            let span = [(drawn(row.min_ns), base + 0.5), (drawn(row.max_ns), base + 0.5)];
            chart.draw_series([Rectangle::new(bar, color.filled())])?;
            chart.draw_series([PathElement::new(span, BLACK.stroke_width(1))])?;
            let beside = (drawn(row.max_ns) * 1.08, base + 0.72);
            chart.draw_series([Text::new(time(row.median_ns), beside, style.clone())])?;
            let top = i32::try_from(place)? * i32::try_from(BAR)? + 6;
            names.draw_text(&row.contestant, &style, (0, top))?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// A time in the unit that fits.
fn time(ns: f64) -> String {
    match ns {
        _ if ns < 1e3 => format!("{} ns", short(ns)),
        _ if ns < 1e6 => format!("{} us", short(ns / 1e3)),
        _ => format!("{} ms", short(ns / 1e6)),
    }
}

fn short(number: f64) -> String {
    match number {
        _ if number < 0.095 => format!("{number:.2}"),
        _ if number < 9.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = r#"{"crate":"sync","shape":"try","parameter":"1","contestant":"ours","role":"ours","median_ns":5.0,"min_ns":4.0,"max_ns":6.0,"allocs_per_op":0.0,"operations":9,"ping_pong_ns":60.0}
{"crate":"sync","shape":"try","parameter":"1","contestant":"<tokio>","role":"peer","median_ns":10.0,"min_ns":9.0,"max_ns":2000.0,"allocs_per_op":0.0,"ratio":[0.4,0.5,0.6],"operations":9,"ping_pong_ns":60.0}
{"crate":"ratelimit","shape":"admitted","parameter":"1","contestant":"x","role":"peer","admitted":143,"allowed":100,"error":0.43}
{"crate":"sync","contestant":"go","absent":"none on the PATH"}
{"crate":"sync","shape":"try","parameter":"1","peer":"tokio","ratio":0.5,"bar":0.4,"holds":false}
{"crate":"sync","shape":"try","parameter":"2","peer":"x","ratio":null,"bar":0.4,"holds":null,"unmeasured":"no shape yet"}"#;

    #[test]
    fn the_page_has_a_chart_a_shape_and_every_bar() {
        let page = page(&rows(ROWS).unwrap(), "2 cores & more").unwrap();
        assert_eq!(page.matches("<svg").count(), 1);
        assert!(page.contains("2 cores &amp; more"));
        assert!(page.contains("0.50 (quartiles 0.40 to 0.60) of the time of &lt;tokio&gt;"));
        assert!(page.contains("<td>x<td>143<td>100<td>+43.00 %"));
        assert!(page.contains("sync: no go: none on the PATH"));
        assert!(page.contains("class=\"missed\">missed") && page.contains("no shape yet"));
    }

    #[test]
    fn a_figure_of_nothing_is_drawn_all_the_same() {
        let free = ROWS.replace("\"median_ns\":5.0,\"min_ns\":4.0", "\"median_ns\":0,\"min_ns\":0");
        assert!(page(&rows(&free).unwrap(), "").is_ok());
    }
}
