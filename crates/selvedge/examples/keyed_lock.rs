//! Transfers between accounts that many tasks make at once: each takes the locks of its two accounts, in one order, and
//! no others. Nothing is lost, and no lock is left over.
//!
//! ```text
//! cargo run --example keyed_lock
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use selvedge::cancel::Context;
use selvedge::sync::{KeyedLock, TaskGroup};

/// A bank whose books are slow: a balance is read in one trip, and written in another.
#[derive(Default)]
struct Bank {
    /// One lock for each account that somebody works on.
    locks: KeyedLock<&'static str>,
    /// What each account has.
    books: Mutex<BTreeMap<&'static str, i64>>,
}

impl Bank {
    async fn balance(&self, account: &'static str) -> i64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.books.lock().unwrap().get(account).copied().unwrap_or_default()
    }

    async fn write(&self, account: &'static str, balance: i64) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.books.lock().unwrap().insert(account, balance);
    }

    /// Moves money, if it is there.
    async fn transfer(&self, from: &'static str, to: &'static str, amount: i64) -> bool {
        // In the order of their names, whoever pays: two that cross do not wait for each other.
        let (first, second) = if from < to { (from, to) } else { (to, from) };
        let _first = self.locks.lock(first).await.expect("there is no bound on the keys");
        let _second = self.locks.lock(second).await.expect("there is no bound on the keys");
        let balance = self.balance(from).await;
        if balance < amount {
            return false;
        }
        self.write(from, balance - amount).await;
        let balance = self.balance(to).await;
        self.write(to, balance + amount).await;
        true
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let accounts = ["ada", "ben", "cleo", "dora"];
    let bank = Arc::new(Bank::default());
    for account in accounts {
        bank.write(account, 100).await;
    }

    let group = TaskGroup::<bool, Infallible>::new(&Context::background());
    for number in 0..200_usize {
        let from = accounts[number % 4];
        let to = accounts[(number + 1 + number / 4 % 3) % 4];
        let amount = 30 + i64::try_from(number % 50)?;
        let bank = Arc::clone(&bank);
        group.spawn(async move { Ok(bank.transfer(from, to, amount).await) }).await?;
    }
    let made = group.join().await.into_result()?;
    let made = made.into_iter().filter(|made| *made).count();
    println!("{made} transfers of 200 were made, the others lacked the money");

    // Somebody is at it for longer than others care to wait.
    let audit = bank.locks.lock("ada").await?;
    let (ctx, _keys) = Context::background().with_timeout(Duration::from_millis(20))?;
    let refused = bank.locks.lock_in(&ctx, "ada").await.unwrap_err();
    println!("ada: {refused}");
    println!("ben can be had: {}", bank.locks.try_lock("ben").is_ok());
    drop(audit);

    let books = bank.books.lock().unwrap();
    for (account, balance) in books.iter() {
        println!("{account:<5} {balance:>4}");
    }
    println!("{} in all, {} locks are left", books.values().sum::<i64>(), bank.locks.len());
    Ok(())
}
