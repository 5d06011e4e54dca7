//! The SHA-256 of every regular file below a folder: a generator walks, a pool hashes, a pipeline
//! keeps the order, a shutdown ends it well.
//!
//! ```text
//! cargo xtask demo ~/Documents --out sums && sha256sum -c --quiet sums
//! ```
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | every file was hashed |
//! | 1 | some were not; the others were |
//! | 2 | the arguments make no sense |
//! | 124 | the time was up |
//! | 130, 143 | SIGINT, SIGTERM: what was finished is written, the rest is counted as left |

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use selvedge::cancel::{CauseKind, Context};
use selvedge::pipeline::{Ended, Order, PipelineError};
use selvedge::pool::Pool;
use selvedge::ratelimit::{Limiter, Quota, Rate};
use selvedge::shutdown::{Reason, Shutdown, Signals};
use tokio::runtime::Builder;

#[path = "digest/hash.rs"]
mod hash;
#[path = "digest/line.rs"]
mod line;
#[path = "digest/output.rs"]
mod output;
#[path = "digest/progress.rs"]
mod progress;
#[path = "digest/walk.rs"]
mod walk;

use output::{Digested, InFlight, Lines, Written};
use progress::{Progress, say};
use walk::{Filter, Skipped, Walk};

/// How long files in flight may go on after the first Ctrl-C.
const GRACE: Duration = Duration::from_millis(500);

/// How many files may be under way, or finished behind a slower one.
const WINDOW: usize = 1024;

/// Prints the SHA-256 of every regular file below a folder, as sha256sum does.
#[derive(Parser)]
#[command(name = "digest", bin_name = "cargo xtask demo")]
struct Args {
    /// The folder; this workspace without `target`, `.git` and hidden folders if not given
    dir: Option<PathBuf>,
    /// Where the lines go, instead of standard output; not hashed if it lies in the folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How many files are hashed at a time; one per processor if not given
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
    /// Begin no more than this many files a second
    #[arg(long, value_name = "FILES", value_parser = rate)]
    rate: Option<Quota>,
    /// Lines in the order in which files are finished
    #[arg(long)]
    unordered: bool,
    /// Give up after this many seconds, with exit code 124
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

/// Reads a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Reads a rate: a number of files a second, without bursts.
fn rate(text: &str) -> Result<Quota, String> {
    let files: f64 = text.parse().map_err(|_| "expected a number of files a second".to_owned())?;
    Rate::from_f64(files).map(Quota::from).map_err(|error| error.to_string())
}

/// As many as there are.
const UNLIMITED: Quota = Rate::UNLIMITED.burst(u32::MAX);

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(format_args!("digest: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs the program to its exit code.
fn run(args: Args) -> anyhow::Result<u8> {
    // Before the runtime, so that no signal is missed; where there are none, it goes without.
    let signals = Signals::install().ok();
    // One worker thread for the pipeline's own tasks, and one for the timers while a write of the
    // sink holds the first: whoever reads our output may have stopped. The shutdown runs on this
    // one.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(digest(args, signals));
    // A closure that is stuck in a read must not hold up the end.
    runtime.shutdown_background();
    code
}

/// Walks, hashes and writes.
async fn digest(args: Args, signals: Option<Signals>) -> anyhow::Result<u8> {
    let plain = args.dir.is_none();
    let root = args.dir.unwrap_or_else(|| {
        std::env::var_os("SELVEDGE_DEMO_ROOT").map_or_else(|| ".".into(), PathBuf::from)
    });
    let order = if args.unordered { Order::Unordered } else { Order::Ordered };
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok());
    let jobs = jobs.map_or(2, std::num::NonZeroUsize::get);

    let deadline = match args.timeout {
        None => Context::background(),
        Some(timeout) => {
            let (ctx, canceller) = Context::background().with_timeout(timeout)?;
            canceller.detach();
            ctx
        }
    };
    let builder = Shutdown::builder().parent(&deadline).grace(GRACE);
    let builder = match signals {
        Some(signals) => builder.signals(signals),
        None => builder,
    };
    let shutdown = builder.build()?;

    // The pools outlive the drain: they stand on a context of their own, and are aborted last.
    let (ctx, pools) = Context::background().child();
    let walkers = Arc::new(Pool::builder().name("walk").workers(2).build(&ctx)?);
    // A queue as long as the window, so that no hasher waits for the feeding task.
    let hashers = Pool::builder().name("hash").workers(jobs).queue(WINDOW).build(&ctx)?;
    let hashers = Arc::new(hashers);

    let progress = Progress::new(io::stderr().is_terminal());
    let skipped = Arc::new(Skipped::default());
    let in_flight = InFlight::default();
    let out = args.out.as_deref();
    let lines = Lines::new(out, progress.clone(), Arc::clone(&in_flight))?;
    // Now that the file is there.
    let filter = Arc::new(Filter::new(plain, out));
    progress.count_ahead(&walkers, root.clone(), Arc::clone(&filter)).await;

    let limiter = Limiter::new(args.rate.unwrap_or(UNLIMITED));
    let walk = Walk::new(&root, filter, Arc::clone(&skipped));
    let accepted = Arc::clone(&in_flight);
    let pipeline = walk
        .files(walkers)
        .throttle(&limiter)
        .named("pace")
        .map(move |found| {
            accepted.lock().unwrap().insert(found.number, found.path.clone());
            found
        })
        .named("accept")
        .blocking(&hashers, WINDOW, order, Digested::of)
        .named("hash")
        .into_sink(lines)
        .named("write")
        .start(shutdown.ctx())?;
    let pipeline = Arc::new(pipeline);
    shutdown.register(pipeline.clone())?;

    let (ended, report) = shutdown.run(pipeline.join()).await;
    pools.cancel();
    progress.finish();
    let left = std::mem::take(&mut *in_flight.lock().unwrap());
    let timed_out = deadline.cause().is_some_and(|cause| cause.kind() == CauseKind::Deadline);
    // None if the pipeline did not come to its end in time: then the report names it.
    let Some(Some(ended)) = ended else {
        name_left(&left);
        say(&report);
        say(format_args!("left {}", left.len()));
        return Ok(if timed_out { 124 } else { report.exit_code() });
    };
    Ok(conclude(ended, report.reason(), timed_out, &left, &skipped, &root))
}

/// Names the files that were begun and not written.
fn name_left(left: &BTreeMap<u64, PathBuf>) {
    for path in left.values() {
        say(format_args!("digest: left: {}", path.display()));
    }
}

/// Prints what is to be said at the end; gives the exit code.
fn conclude(
    ended: Ended<Written>,
    reason: &Reason,
    timed_out: bool,
    left: &BTreeMap<u64, PathBuf>,
    skipped: &Skipped,
    root: &Path,
) -> u8 {
    let written = &ended.output;
    if written.closed {
        // Whoever read our output has seen enough.
        return 0;
    }
    name_left(left);
    let failed = ended.error.is_some() || written.failed > 0;
    match ended.error {
        None | Some(PipelineError::Ended(_)) => {}
        Some(error) => say(format_args!("digest: {:#}", anyhow::Error::new(error))),
    }
    say(&ended.report);
    say(written.summary(skipped, left.len(), root));
    match reason {
        _ if timed_out => 124,
        Reason::Signal(_) => reason.exit_code(),
        _ if failed => 1,
        _ => 0,
    }
}
