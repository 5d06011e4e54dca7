//! Counts words with three counters that share nothing: each word goes to the same one, by its hash.
//!
//! ```text
//! cargo run --example fan_out
//! ```

use std::collections::{BTreeMap, BTreeSet};

use selvedge::cancel::Context;
use selvedge::fanio::{Route, fan_out, iter};

/// The text to count.
const TEXT: &str = "the warp runs the length of the cloth and the weft runs across and where the weft \
                    turns at the edge of the cloth there is the selvedge";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words = iter(TEXT.split_whitespace());
    let route = Route::by_key(|word: &&str| *word);
    let (feed, outlets) = fan_out(words, 3, 4, route, &Context::background())?;
    let counters: Vec<_> = outlets
        .into_iter()
        .map(|mut outlet| {
            tokio::spawn(async move {
                let mut counts = BTreeMap::<_, u32>::new();
                while let Some(word) = outlet.next().await {
                    *counts.entry(word).or_default() += 1;
                }
                counts
            })
        })
        .collect();
    let report = feed.await;

    let (mut all, mut words) = (BTreeSet::new(), 0);
    for (number, counter) in counters.into_iter().enumerate() {
        let counts = counter.await?;
        println!("counter {number}: {counts:?}");
        words += counts.len();
        all.extend(counts.into_keys());
    }
    assert_eq!(all.len(), words);
    println!(
        "{} words read; every word went to one counter, {words} of them are different",
        report.read
    );
    Ok(())
}
