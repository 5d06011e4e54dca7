//! Waits until servers accept connections: a task group asks them, a limited number at once; a context ends
//! the wait.
//!
//! ```text
//! cargo run --release --example reach -- db:5432 cache:6379 --within 30
//! ```
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | every server accepted a connection |
//! | 1 | one did not, in the `--tries` given; unless `--all` is given, the others were not waited for |
//! | 2 | the arguments make no sense |
//! | 124 | the time was up |
//! | 130, 143 | SIGINT, SIGTERM |
//!
//! Those that were not reached are named at the end.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use selvedge::cancel::{CauseKind, Context};
use selvedge::shutdown::{Shutdown, Signals};
use selvedge::sync::{Fault, Joined, TaskGroup};
use tokio::net::TcpStream;

/// How long an attempt may take: a server behind a firewall that drops packets never answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until servers accept TCP connections.
#[derive(Parser)]
#[command(name = "reach")]
struct Args {
    /// The servers
    #[arg(required = true, value_name = "HOST:PORT", value_parser = address)]
    servers: Vec<String>,
    /// Give up on everything after this many seconds, with exit code 124
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    within: Option<Duration>,
    /// Give up on a server after this many tries; never if not given
    #[arg(long, value_name = "N")]
    tries: Option<NonZeroUsize>,
    /// Wait this many seconds between two tries
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0.2")]
    pause: Duration,
    /// Ask this many servers at a time
    #[arg(long, value_name = "N", default_value = "64")]
    at_once: NonZeroUsize,
    /// When one is given up, go on with the others
    #[arg(long)]
    all: bool,
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Checks that a port is given. Whether there is such a host may change while we wait.
fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(1..))) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("expected a host, a colon and a port from 1 to 65535".to_owned()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(format_args!("reach: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard error, if anybody reads it.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Runs the program to its exit code.
async fn run(args: Args) -> anyhow::Result<u8> {
    let deadline = match args.within {
        None => Context::background(),
        Some(within) => {
            let (ctx, canceller) = Context::background().with_timeout(within)?;
            canceller.detach();
            ctx
        }
    };
    let builder = Shutdown::builder().parent(&deadline).grace(Duration::ZERO);
    let builder = match Signals::install() {
        Ok(signals) => builder.signals(signals),
        // Where there are none, it goes without.
        Err(_) => builder,
    };
    let shutdown = builder.build()?;
    let ctx = shutdown.ctx().clone();
    let (joined, report) = shutdown.run(ask(&args, &ctx)).await;
    let Some(joined) = joined else {
        say(&report);
        return Ok(report.exit_code());
    };
    let failed = conclude(&args, joined?);
    Ok(match report.exit_code() {
        _ if deadline.cause().is_some_and(|cause| cause.kind() == CauseKind::Deadline) => 124,
        0 => u8::from(failed),
        code => code,
    })
}

/// Asks all servers, and waits until that has ended, whichever way.
async fn ask(args: &Args, ctx: &Context) -> anyhow::Result<Joined<(), anyhow::Error>> {
    let group = TaskGroup::builder(ctx).limit(args.at_once.get());
    let group = if args.all { group.collect_all() } else { group }.build()?;
    for server in &args.servers {
        // What a task takes along has to be its own.
        let (server, ctx) = (server.clone(), group.context().clone());
        let (tries, pause) = (args.tries.map_or(usize::MAX, NonZeroUsize::get), args.pause);
        let task = async move { reach(&server, tries, pause, &ctx).await };
        if group.spawn(task).await.is_err() {
            // The group's context has ended; the join says why.
            break;
        }
    }
    Ok(group.join().await)
}

/// Tries until the server accepts a connection.
async fn reach(server: &str, tries: usize, pause: Duration, ctx: &Context) -> anyhow::Result<()> {
    let start = Instant::now();
    for left in (0..tries).rev() {
        let (attempt, _canceller) = ctx.with_timeout(PATIENCE)?;
        let error = match attempt.run(TcpStream::connect(server)).await {
            Ok(Ok(_connection)) => {
                // Nobody may be reading.
                let _ = writeln!(io::stdout(), "{server}: accepts, after {:.1?}", start.elapsed());
                return Ok(());
            }
            Ok(Err(error)) => anyhow::Error::from(error),
            Err(cause) => anyhow::Error::from(cause),
        };
        if left == 0 {
            return Err(error.context(format!("{server}: given up after {tries} tries")));
        }
        tokio::time::sleep(pause).await;
    }
    unreachable!("there is one try at least");
}

/// Names the servers that were not reached; whether there was one.
fn conclude(args: &Args, joined: Joined<(), anyhow::Error>) -> bool {
    for failure in &joined.failures {
        if let Fault::Error(error) = &failure.fault {
            say(format_args!("reach: {error:#}"));
        }
    }
    let given_up: Vec<_> = joined.failures.iter().map(|failure| failure.index).collect();
    let reached = |index: usize| joined.results.get(index).is_some_and(Option::is_some);
    let mut missed = false;
    for (index, server) in args.servers.iter().enumerate().filter(|(index, _)| !reached(*index)) {
        missed = true;
        if !given_up.contains(&index) {
            say(format_args!("reach: {server}: not reached"));
        }
    }
    missed
}
