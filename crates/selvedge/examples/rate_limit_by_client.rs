//! A server with a limit for each client. Three of them ask for two seconds: one is greedy and asks all the time, one is polite
//! and comes again when it was told to, one has paid for more. After a second the quotas are read anew. None takes anything from
//! another, and each has what its quota says.
//!
//! ```text
//! cargo run --example rate_limit_by_client
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use selvedge::ratelimit::http::RetryAfter;
use selvedge::ratelimit::{Keyed, Quota, Rate, Sometimes, WhenFull};
use tokio::time::sleep;

/// Of who has no other.
const FREE: Quota = Rate::per_second(5).burst(2);
/// The first refusals are told.
static LOG: Sometimes = Sometimes::new().first(3);
/// As long as the clients ask.
const SPAN: Duration = Duration::from_secs(2);

/// The quotas of those who have paid, as a file or a database would have them.
type Paid = Arc<Mutex<HashMap<&'static str, Quota>>>;

/// What a client is told.
enum Answer {
    Ok,
    TooMany { again: Option<Duration> },
}

struct Server {
    clients: Keyed<&'static str>,
}

impl Server {
    fn new(paid: &Paid) -> Self {
        let paid = Arc::clone(paid);
        let clients = Keyed::builder(FREE, 100_000)
            .quota_by(move |client| *paid.lock().unwrap().get(client).unwrap_or(&FREE))
            .when_full(WhenFull::Evict)
            .build();
        Self { clients }
    }

    fn handle(&self, client: &'static str) -> Answer {
        match self.clients.try_acquire(&client, 1) {
            Ok(()) => Answer::Ok,
            Err(refused) => Answer::TooMany { again: refused.retry_in() },
        }
    }
}

/// Asks until the time is up: how often it was answered and refused.
async fn ask(server: Arc<Server>, client: &'static str) -> (&'static str, u32, u32) {
    let start = Instant::now();
    let (mut answered, mut refused) = (0, 0);
    while start.elapsed() < SPAN {
        let pause = match server.handle(client) {
            Answer::Ok => {
                answered += 1;
                Duration::ZERO
            }
            Answer::TooMany { again } => {
                refused += 1;
                let wait = again.unwrap_or(SPAN);
                let header = RetryAfter::new(wait);
                LOG.run(|| println!("{client:>6} is told: 429, {}: {header}", RetryAfter::NAME));
                wait
            }
        };
        // A millisecond is what tokio's timer tells apart.
        let patience = if client == "greedy" { Duration::ZERO } else { pause };
        sleep(patience.max(Duration::from_millis(1))).await;
    }
    (client, answered, refused)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paid = Paid::default();
    paid.lock().unwrap().insert("gold", "50/s burst 10".parse()?);
    let server = Arc::new(Server::new(&paid));
    let clients = ["greedy", "polite", "gold"];
    let asking = clients.map(|client| tokio::spawn(ask(Arc::clone(&server), client)));

    sleep(SPAN / 2).await;
    for hot in server.clients.hottest(3) {
        println!("{:>6} has {} tokens, and all in {:.0?}", hot.key, hot.available, hot.full_in);
    }
    paid.lock().unwrap().insert("polite", "20/s burst 4".parse()?);
    println!("polite pays: {} clients have their quotas anew", server.clients.reload()?);

    for asking in asking {
        let (client, answered, refused) = asking.await?;
        println!("{client:>6}: {answered:>3} answered, {refused:>4} refused");
    }
    Ok(())
}
