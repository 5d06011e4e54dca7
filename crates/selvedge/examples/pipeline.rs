//! Orders from a shop and from a telephone: what cannot be read is left out, what is large is checked by
//! two clerks, the rest goes through at once, and all of it is shipped in boxes of up to four.
//!
//! ```text
//! cargo run --example pipeline
//! ```

use std::error::Error;
use std::time::Duration;

use selvedge::cancel::Context;
use selvedge::pipeline::{Order, PipelineError, Route, from_iter};

/// Who orders for how much.
#[derive(Debug)]
struct Sale {
    customer: &'static str,
    euros: u32,
}

/// Reads a line: a customer, and an amount in euros.
fn parse(line: &'static str) -> Result<Sale, String> {
    let (customer, euros) = line.split_once(' ').ok_or(format!("no amount in {line:?}"))?;
    let euros = euros.parse().map_err(|error| format!("{euros:?} in {line:?}: {error}"))?;
    Ok(Sale { customer, euros })
}

/// Looks a customer up, which takes a while; nobody has credit for more than a thousand.
async fn check(sale: Sale) -> Result<Sale, String> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    if sale.euros > 1_000 { Err(format!("no credit for {sale:?}")) } else { Ok(sale) }
}

/// Says what is left out, and why.
fn left_out(error: PipelineError) {
    let why = error.source().map(ToString::to_string).unwrap_or_default();
    println!("left out: {error}: {why}");
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let shop = ["ada 12", "ben 700", "cleo", "ada 31", "dora 950", "ben 5", "emil 44"];
    let telephone = ["fritz 3000", "greta 18", "ada 410", "hans many", "greta 7"];

    let ended = from_iter(shop)
        .merge([from_iter(telephone)])
        .try_map(parse)
        .named("read")
        .skip_failed(left_out)
        .branch(2, Route::by_index(|sale: &Sale| usize::from(sale.euros >= 400)), |lane, sales| {
            match lane {
                0 => sales.boxed(),
                _ => sales
                    .workers(2, Order::Unordered, check)
                    .named("check")
                    .skip_failed(left_out)
                    .boxed(),
            }
        })
        .batch(4, Duration::from_millis(20))
        .named("box")
        .for_each(|sales: Vec<Sale>| {
            let labels: Vec<_> =
                sales.iter().map(|sale| format!("{} {} EUR", sale.customer, sale.euros)).collect();
            println!("shipped:  {}", labels.join(", "));
        })
        .named("ship")
        .run(&Context::background())
        .await;

    println!("\n{}", ended.report);
    ended.ok()?;
    Ok(())
}
