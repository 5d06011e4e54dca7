//! A cache that is empty when everybody comes: of a herd of requests for three cities one each asks the weather
//! service, the impatient leave, and the answers are kept for a moment.
//!
//! ```text
//! cargo run --example single_flight
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use selvedge::cancel::Context;
use selvedge::sync::SingleFlight;

/// What the service says; it may know nothing.
type Answer = Result<String, String>;

/// Counts how often the service is asked.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// The weather service: slow.
async fn ask(city: &'static str) -> Answer {
    let number = ASKED.fetch_add(1, Ordering::Relaxed) + 1;
    println!("  question {number} goes out, for {city}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    match city {
        "atlantis" => Err("there is no such place".to_owned()),
        _ => Ok(format!("rain in {city}")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flights: SingleFlight<&str, String, String> =
        SingleFlight::builder().name("weather").keep_values(Duration::from_millis(200)).build();
    let cities = ["lima", "oslo", "atlantis"];

    println!("thirty requests at once:");
    let (hurry, _keys) = Context::background().with_timeout(Duration::from_millis(50))?;
    let hurry = Arc::new(hurry);
    let herd: Vec<_> = (0..30)
        .map(|number| {
            let (flights, hurry) = (flights.clone(), Arc::clone(&hurry));
            let city = cities[number % cities.len()];
            tokio::spawn(async move {
                // The first of each city, who has started the flight, does not stay for the answer.
                if number < cities.len() {
                    return flights.run_in(&hurry, city, move || ask(city)).await.ok();
                }
                Some(flights.run(city, move || ask(city)).await)
            })
        })
        .collect();
    let (mut answers, mut errors, mut left) = (0, 0, 0);
    for request in herd {
        match request.await? {
            Some(Ok(_)) => answers += 1,
            Some(Err(_)) => errors += 1,
            None => left += 1,
        }
    }
    println!("{answers} answers, {errors} errors, {left} have left before");

    println!("a moment later:");
    for city in cities {
        let answer: Answer = flights.run(city, move || ask(city)).await;
        println!("  {}", answer.unwrap_or_else(|error| format!("{city}: {error}")));
    }
    println!("asked {} times in all", ASKED.load(Ordering::Relaxed));
    Ok(())
}
