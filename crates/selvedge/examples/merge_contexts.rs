//! Requests that end with their client or with the server, whichever goes first (`any_of`), and a query that several
//! clients share and that ends when the last of them has gone (`all_of`).
//!
//! ```text
//! cargo run --example merge_contexts
//! ```

use std::future::pending;
use std::time::Duration;

use selvedge::cancel::{Canceller, Cause, Context};

/// A client, by the context of its connection; the canceller hangs up.
fn client() -> (Context, Canceller) {
    Context::background().child()
}

/// What ended something, in the words of whoever did it.
fn why(cause: &Cause) -> String {
    cause.error().map_or_else(|| cause.to_string(), ToString::to_string)
}

/// Serves a request that takes `takes`, for as long as both the client and the server are there.
async fn serve(name: &str, server: &Context, client: &Context, takes: Duration) {
    let (ctx, _canceller) = Context::any_of([server, client]);
    match ctx.run(tokio::time::sleep(takes)).await {
        Ok(()) => println!("{name}: answered"),
        Err(cause) => println!("{name}: given up, {}", why(&cause)),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (server, shutdown) = Context::background().child();
    let clients = [client(), client(), client()];
    let hour = Duration::from_secs(3600);
    println!("either ends it:");
    tokio::join!(
        serve("ada", &server, &clients[0].0, Duration::from_millis(20)),
        serve("ben", &server, &clients[1].0, hour),
        serve("cleo", &server, &clients[2].0, hour),
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            clients[1].1.cancel_because("the client hung up");
            tokio::time::sleep(Duration::from_millis(100)).await;
            shutdown.cancel_because("the server shuts down");
        }
    );
    println!("cleo is still connected: {}", !clients[2].0.is_cancelled());

    println!("only all end it:");
    let waiting = [client(), client()];
    let (query, _canceller) = Context::all_of(waiting.iter().map(|(client, _)| client));
    let (ended, ()) = tokio::join!(query.run(pending::<()>()), async {
        for ((_, hang_up), name) in waiting.iter().zip(["dora", "emil"]) {
            hang_up.cancel_because(format!("{name} was the last to want it"));
            println!("{name} has gone, the query goes on: {}", !query.is_cancelled());
        }
    });
    if let Err(cause) = ended {
        println!("the query is given up, {}", why(&cause));
    }
}
