//! Signals from several threads at once, at random moments of a process's life: before its plan,
//! during its drain, after it. However many come, the process ends by itself, by the code of one of
//! them, in time. Also run under the address sanitizer, the child as well.
//!
//! The test starts this very program again as the child.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libc::{SIGINT, SIGTERM};
use selvedge_shutdown::{Shutdown, Signals};
use selvedge_testkit::watchdog;

/// Says to a child which round it plays.
const ROUND: &str = "SELVEDGE_SHUTDOWN_STRESS";

const ROUNDS: u64 = 12;
const SENDERS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than the child's grace, its budget and its last wait together, with slack.
const LIMIT: Duration = Duration::from_secs(20);

/// A generator that needs no crate: xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// This program as a child that has its handlers in place.
fn start(round: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(ROUND, round.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while lines.next().expect("it ended before it was ready").unwrap() != "ready" {}
    // Reads on, so that the child never writes into a closed pipe.
    thread::spawn(move || lines.for_each(drop));
    child
}

/// Sends signals to a process that is not waited for meanwhile, so that its number stays its own.
fn bombard(process: i32, mut dice: Dice) {
    for _ in 0..1 + dice.roll(6) {
        thread::sleep(Duration::from_micros(dice.roll(3_000)));
        let signal = if dice.roll(2) == 0 { SIGINT } else { SIGTERM };
        // SAFETY: `kill` has no preconditions; the process is our child, waited for later.
        let sent = unsafe { libc::kill(process, signal) };
        assert_eq!(sent, 0, "the child has a number as long as nobody has waited for it");
    }
}

#[test]
fn whatever_comes_when_the_process_ends_by_itself_with_the_code_of_a_signal() {
    watchdog(PATIENCE, "the stress of the signals", || {
        for round in 1..=ROUNDS {
            let mut child = start(round);
            let process = child.id().try_into().unwrap();
            thread::scope(|scope| {
                for sender in 0..SENDERS {
                    scope.spawn(move || bombard(process, Dice(round * SENDERS + sender)));
                }
            });
            let since = Instant::now();
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                if since.elapsed() > LIMIT {
                    child.kill().unwrap();
                    panic!("round {round}: still there after {LIMIT:?}");
                }
                thread::sleep(Duration::from_millis(1));
            };
            assert!(matches!(status.code(), Some(130 | 143)), "round {round}: {status}");
        }
    });
}

/// Not a test of its own: what a child plays.
#[test]
fn child() {
    let Ok(round) = std::env::var(ROUND) else { return };
    let mut dice = Dice(round.parse::<u64>().unwrap() + 1000);
    let signals = Signals::install().unwrap();
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "ready").unwrap();
    stdout.flush().unwrap();
    drop(stdout);

    // Some plans come late, some drain at once, some for longer than anybody has patience.
    thread::sleep(Duration::from_micros(dice.roll(4_000)));
    let drain = Duration::from_micros(dice.roll(8_000));
    let for_ever = dice.roll(3) == 0;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_time().build().unwrap();
    let report = runtime.block_on(async {
        let plan = Shutdown::builder().signals(signals).grace(Duration::from_millis(30));
        let shutdown = plan.abort_budget(Duration::from_millis(10)).build().unwrap();
        let ctx = shutdown.ctx().clone();
        let work = async move {
            ctx.stopping().await;
            if for_ever {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(drain).await;
        };
        shutdown.run(work).await.1
    });
    report.exit();
}
