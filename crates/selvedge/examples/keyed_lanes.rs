//! Bookings of four accounts, one of them busy, and three workers who take whatever is there: those of an account are made in order and one
//! at a time, and no worker has to wait for another's account. One worker stops half-way, and gives back what it has.
//!
//! ```text
//! cargo run --example keyed_lanes
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use selvedge::cancel::Context;
use selvedge::sync::{KeyedLanes, OwnedPermit, Semaphore, TaskGroup};

/// Something to be booked. It has its account, which a lease does not tell.
struct Booking {
    account: &'static str,
    number: usize,
    /// Its share of the room for those that are queued or worked on.
    _room: OwnedPermit,
}

/// The numbers that were booked, by account.
type Books = Arc<Mutex<BTreeMap<&'static str, Vec<usize>>>>;

/// Works until it is over, or until it has made so many bookings. Says how many.
async fn work(
    lanes: KeyedLanes<&'static str, Booking>,
    books: Books,
    most: usize,
) -> Result<usize, Infallible> {
    let mut made = 0;
    while let Some(booking) = lanes.take().await {
        if made == most {
            println!("a worker stops, and gives a booking back");
            booking.give_back();
            break;
        }
        // Nobody else has a booking of this account meanwhile.
        tokio::time::sleep(Duration::from_millis(2)).await;
        books.lock().unwrap().entry(booking.account).or_default().push(booking.number);
        made += 1;
    }
    Ok(made)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (lanes, room) = (KeyedLanes::new().named("bookings"), Arc::new(Semaphore::new(8)));
    let books = Books::default();
    let group = TaskGroup::<usize, Infallible>::new(&Context::background());
    for most in [usize::MAX, usize::MAX, 2] {
        group.spawn(work(lanes.clone(), Arc::clone(&books), most)).await?;
    }

    // Every other booking is of ada's. Whoever books waits for room.
    let others = ["ben", "cleo", "dora"];
    for number in 0..60 {
        let account = if number % 2 == 0 { "ada" } else { others[number / 2 % 3] };
        let _room = room.acquire_owned(1).await?;
        lanes.push(account, Booking { account, number, _room })?;
    }
    lanes.close();
    let made: usize = group.join().await.into_result()?.into_iter().sum();

    for (account, numbers) in books.lock().unwrap().iter() {
        println!("{account:<5} {} bookings, in order: {}", numbers.len(), numbers.is_sorted());
    }
    println!(
        "{made} in all, {} lanes are left, {} places are free",
        lanes.lanes(),
        room.available()
    );
    Ok(())
}
