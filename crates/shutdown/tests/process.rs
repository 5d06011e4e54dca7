//! Real processes, real signals. Each test starts this very program again as the child that a
//! scenario describes, sends it signals, and looks at how it exits and when.
//!
//! A child that hangs is killed after [`LIMIT`], which fails the test. Times are printed; what is
//! asserted of them has ten times the slack.
#![cfg(unix)]

mod fake;

use std::future::pending;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use fake::{Answer, Fake};
use libc::{SIGINT, SIGKILL, SIGTERM};
use selvedge_shutdown::{Component, InstallError, Report, Shutdown, Signals, Straggler};

/// Says which scenario a child plays.
const SCENARIO: &str = "SELVEDGE_SHUTDOWN_SCENARIO";

/// After this a child is killed.
const LIMIT: Duration = Duration::from_secs(20);

/// The second signal is to end a process within this.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Slack for a machine that does other things as well.
const SLACK: u32 = 10;

const MS: Duration = Duration::from_millis(1);

// The parent's side.

/// A child that plays a scenario and has said that it is ready.
struct Child {
    process: std::process::Child,
    stdout: BufReader<std::process::ChildStdout>,
    /// Dropped, it calls the killer off.
    _alive: Sender<()>,
}

/// This program as the child of `scenario`, with its stderr in a pipe that nobody reads.
fn child_of(scenario: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(SCENARIO, scenario);
    command
}

fn start(scenario: &str) -> Child {
    Child::start(child_of(scenario))
}

fn send(process: u32, signal: i32) {
    let process = process.try_into().expect("a process number");
    // SAFETY: `kill` has no preconditions, and the process is our child, which was not waited for.
    let sent = unsafe { libc::kill(process, signal) };
    assert_eq!(sent, 0, "no such process");
}

impl Child {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let number = process.id();
        let (alive, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            if ended.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                send(number, SIGKILL);
            }
        });
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut child = Self { process, stdout, _alive: alive };
        child.read_to("ready");
        child
    }

    /// Reads lines up to one that begins with `word`, and returns the rest of that.
    fn read_to(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.stdout.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the child ended before it said {word:?}");
            if let Some(rest) = line.trim().strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    fn send(&self, signal: i32) {
        send(self.process.id(), signal);
    }

    /// Sends a signal and waits for the end: how it ended, how long that took, what it wrote.
    fn end_by(mut self, signal: i32) -> (ExitStatus, Duration, String) {
        let start = Instant::now();
        self.send(signal);
        let status = self.process.wait().unwrap();
        let took = start.elapsed();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_ne!(status.signal(), Some(SIGKILL), "it hung, and was killed after {LIMIT:?}");
        (status, took, rest)
    }
}

#[track_caller]
fn assert_at_once(what: &str, took: Duration) {
    println!("{what}: {took:.1?}, of {AT_ONCE:?}");
    assert!(took < AT_ONCE * SLACK, "{what} took {took:?}");
}

#[test]
fn one_sigint_drains_and_exits_130() {
    let (status, took, wrote) = start("drains").end_by(SIGINT);
    println!("drain of 100 ms: {took:.1?}");
    assert_eq!(status.code(), Some(130));
    assert!(wrote.contains("main wrote what was finished"), "{wrote}");
    assert!(wrote.contains("shutdown (SIGINT)"), "{wrote}");
    assert!(wrote.contains("none late"), "{wrote}");
}

#[test]
fn one_sigterm_drains_and_exits_143() {
    let (status, _, wrote) = start("drains").end_by(SIGTERM);
    assert_eq!(status.code(), Some(143));
    assert!(wrote.contains("main wrote what was finished"), "{wrote}");
    assert!(wrote.contains("shutdown (SIGTERM)"), "{wrote}");
}

#[test]
fn two_signals_at_once_exit_130() {
    let child = start("drains");
    child.send(SIGINT);
    let (status, _, _) = child.end_by(SIGINT);
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_second_signal_aborts_in_order_when_that_is_quick() {
    let child = start("drains for ever");
    child.send(SIGTERM);
    thread::sleep(200 * MS);
    let (status, took, wrote) = child.end_by(SIGINT);
    assert_at_once("second signal, orderly", took);
    assert_eq!(status.code(), Some(143), "the first signal gives the code");
    assert!(wrote.contains("aborted, ended after"), "{wrote}");
}

#[test]
fn a_second_signal_exits_with_every_worker_blocked_on_a_full_stderr() {
    for (first, second, code) in [(SIGINT, SIGINT, 130), (SIGTERM, SIGINT, 143)] {
        let child = start("all blocked");
        child.send(first);
        thread::sleep(300 * MS);
        let (status, took, _) = child.end_by(second);
        assert_at_once("second signal, every thread blocked on stderr", took);
        assert_eq!(status.code(), Some(code));
    }
}

#[test]
fn a_second_signal_exits_with_the_signal_thread_stuck_in_a_component() {
    let mut child = start("stuck in stop");
    child.send(SIGINT);
    child.read_to("in stop");
    let (status, took, _) = child.end_by(SIGINT);
    assert_at_once("second signal, stop blocked", took);
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_third_signal_exits_from_the_handler_with_both_threads_stuck() {
    let mut child = start("both threads stuck");
    child.send(SIGTERM);
    child.read_to("in stop");
    child.send(SIGINT);
    thread::sleep(300 * MS);
    assert_eq!(child.process.try_wait().unwrap(), None, "its last wait is an hour");
    let (status, took, _) = child.end_by(SIGINT);
    assert_at_once("third signal, both threads stuck", took);
    assert_eq!(status.code(), Some(143));
}

#[test]
fn a_signal_before_the_runtime_is_kept_for_the_plan() {
    let (status, _, wrote) = start("slow to start").end_by(SIGTERM);
    assert_eq!(status.code(), Some(143));
    assert!(wrote.contains("main wrote what was finished"), "{wrote}");
}

#[test]
fn a_second_signal_before_the_runtime_exits() {
    let child = start("never starts");
    child.send(SIGINT);
    thread::sleep(100 * MS);
    let (status, took, _) = child.end_by(SIGINT);
    assert_at_once("second signal, no plan yet", took);
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_component_that_never_ends_is_named_and_left() {
    let (status, took, wrote) = start("never ends").end_by(SIGINT);
    println!("grace 200 ms, budget 100 ms: {took:.1?}");
    assert!(took >= 300 * MS && took < 300 * MS + AT_ONCE * SLACK, "{took:?}");
    assert_eq!(status.code(), Some(130));
    assert!(wrote.contains("1 of 1 components late"), "{wrote}");
    assert!(wrote.contains("still running: work of stuck: counting sheep"), "{wrote}");
}

#[test]
fn a_report_exits_also_when_a_blocking_closure_does_not_end() {
    let (status, took, wrote) = start("blocking closure").end_by(SIGINT);
    assert_at_once("exit past a blocking closure", took);
    assert_eq!(status.code(), Some(130));
    assert!(wrote.contains("shutdown (SIGINT)"), "{wrote}");
}

#[test]
fn after_the_plan_a_signal_ends_the_process() {
    let (status, took, _) = start("over").end_by(SIGTERM);
    assert_at_once("first signal after the plan", took);
    assert_eq!(status.code(), Some(143));
}

#[test]
fn a_signal_that_is_ignored_at_the_start_is_heard_unless_told_otherwise() {
    let ignoring = |scenario| {
        let mut command = child_of(scenario);
        // SAFETY: `signal` is async-signal-safe, and SIG_IGN is an action it takes.
        let ignore = || unsafe {
            libc::signal(SIGINT, libc::SIG_IGN);
            Ok(())
        };
        // SAFETY: the closure makes one async-signal-safe call.
        unsafe { command.pre_exec(ignore) };
        Child::start(command)
    };
    let (status, _, _) = ignoring("drains").end_by(SIGINT);
    assert_eq!(status.code(), Some(130));

    let child = ignoring("drains, keeps ignored");
    for _ in 0..4 {
        child.send(SIGINT);
        thread::sleep(20 * MS);
    }
    let (status, _, wrote) = child.end_by(SIGTERM);
    assert_eq!(status.code(), Some(143));
    assert!(wrote.contains("main wrote what was finished"), "{wrote}");
}

#[test]
fn a_signal_that_is_blocked_at_the_start_is_heard() {
    for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
        let mut command = child_of("drains");
        let block = || {
            let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: the pointer is to memory for a set.
            unsafe { libc::sigfillset(set.as_mut_ptr()) };
            // SAFETY: the set was filled above.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
            Ok(())
        };
        // SAFETY: the closure makes two async-signal-safe calls.
        unsafe { command.pre_exec(block) };
        let (status, _, wrote) = Child::start(command).end_by(signal);
        assert_eq!(status.code(), Some(code));
        assert!(wrote.contains("main wrote what was finished"), "{wrote}");
    }
}

#[test]
fn a_signal_to_a_forked_child_is_none_to_its_parent() {
    let mut child = start("forks");
    let forked = child.read_to("forked").parse().unwrap();
    for _ in 0..3 {
        send(forked, SIGINT);
        thread::sleep(100 * MS);
    }
    assert_eq!(child.read_to("the forked child exited with"), "130", "by its own third signal");
    assert_eq!(child.process.try_wait().unwrap(), None, "its parent was told");
    let (status, _, wrote) = child.end_by(SIGTERM);
    assert_eq!(status.code(), Some(143));
    assert!(wrote.contains("main wrote what was finished"), "{wrote}");
}

#[test]
fn signals_are_installed_once_a_process() {
    let (status, _, wrote) = start("installs twice").end_by(SIGTERM);
    assert!(wrote.contains("signals not installed: this process has installed them"), "{wrote}");
    assert_eq!(status.code(), Some(143));
}

// The child's side.

/// Not a test of its own: what a child plays.
#[test]
fn child() {
    if let Ok(scenario) = std::env::var(SCENARIO) {
        play(&scenario);
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").unwrap();
    stdout.flush().unwrap();
}

fn play(scenario: &str) {
    let report = match scenario {
        "drains" => drains(Signals::install().unwrap(), Duration::from_secs(5)),
        "drains, keeps ignored" => {
            let signals = Signals::builder().keep_ignored().install().unwrap();
            drains(signals, Duration::from_secs(5))
        }
        "drains for ever" => {
            let signals = Signals::install().unwrap();
            under(signals, Duration::MAX, |shutdown| {
                shutdown.register(Fake::new("pool").shared()).unwrap();
                say("ready");
            })
        }
        "all blocked" => all_blocked(),
        "stuck in stop" => stuck_in_stop(Signals::install().unwrap()),
        "both threads stuck" => {
            let hour = Duration::from_secs(3600);
            stuck_in_stop(Signals::builder().last_wait(hour).install().unwrap())
        }
        "slow to start" => {
            let signals = Signals::install().unwrap();
            say("ready");
            thread::sleep(300 * MS);
            drains(signals, Duration::from_secs(5))
        }
        "never starts" => {
            let _signals = Signals::install().unwrap();
            say("ready");
            sleep_for_ever()
        }
        "never ends" => under(Signals::install().unwrap(), 200 * MS, |shutdown| {
            let stuck = Fake::new("stuck").on_abort(Answer::GoOn).shared();
            shutdown.register(stuck).unwrap();
            say("ready");
        }),
        "blocking closure" => under(Signals::install().unwrap(), 200 * MS, |_| {
            thread_of_the_runtime(|| say("ready"));
        }),
        "over" => {
            let signals = Signals::install().unwrap();
            let runtime = runtime();
            let report = runtime.block_on(async {
                let shutdown = Shutdown::builder().signals(signals).build().unwrap();
                shutdown.run(async {}).await.1
            });
            assert_eq!(report.exit_code(), 0);
            say("ready");
            sleep_for_ever()
        }
        "forks" => forks(),
        "installs twice" => {
            let signals = Signals::install().unwrap();
            let error = Signals::install().unwrap_err();
            assert!(matches!(error, InstallError::Installed));
            say(&format!("ready\n{error}"));
            drains(signals, Duration::from_secs(5))
        }
        other => panic!("no such scenario: {other}"),
    };
    say(&report.to_string());
    report.exit();
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_time().build().unwrap()
}

fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Has a blocking thread of the runtime run `f`, and then nothing for ever.
fn thread_of_the_runtime(f: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(|| {
        f();
        sleep_for_ever();
    });
}

/// A plan that `prepare` fills, waited for in a runtime that is not dropped: that would wait for
/// what is blocked.
fn under(signals: Signals, grace: Duration, prepare: impl FnOnce(&Shutdown)) -> Report {
    let runtime = std::mem::ManuallyDrop::new(runtime());
    runtime.block_on(async {
        let plan = Shutdown::builder().signals(signals).grace(grace).abort_budget(100 * MS);
        let shutdown = plan.build().unwrap();
        prepare(&shutdown);
        shutdown.wait().await
    })
}

/// A main that is told to finish, and a component that needs 100 ms for that.
fn drains(signals: Signals, grace: Duration) -> Report {
    let runtime = runtime();
    runtime.block_on(async {
        let shutdown = Shutdown::builder().signals(signals).grace(grace).build().unwrap();
        let pool = Fake::new("pool").shared();
        shutdown.register(pool.clone()).unwrap();
        let ctx = shutdown.ctx().clone();
        let main = async move {
            say("ready");
            ctx.stopping().await;
            tokio::time::sleep(100 * MS).await;
            pool.end();
            say("main wrote what was finished");
        };
        shutdown.run(main).await.1
    })
}

/// Every thread that could do anything writes to a pipe that is full.
fn all_blocked() -> Report {
    fn write_for_ever() {
        loop {
            std::io::stderr().write_all(&[b'x'; 4096]).unwrap();
        }
    }
    let signals = Signals::install().unwrap();
    runtime().block_on(async {
        let shutdown = Shutdown::builder().signals(signals).build().unwrap();
        for _ in 0..2 {
            tokio::spawn(async { write_for_ever() });
        }
        thread::spawn(|| {
            thread::sleep(200 * MS);
            say("ready");
        });
        let main = async {
            write_for_ever();
            pending::<()>().await;
        };
        shutdown.run(main).await.1
    })
}

/// The thread that tells the plan never comes back from a component.
fn stuck_in_stop(signals: Signals) -> Report {
    struct Stuck;
    impl Component for Stuck {
        fn name(&self) -> String {
            "stuck".to_owned()
        }
        fn stop(&self) {
            say("in stop");
            sleep_for_ever();
        }
        fn abort(&self) {}
        fn wait(&self) -> selvedge_cancel::Wait<'_> {
            Box::pin(pending())
        }
        fn stragglers(&self) -> Vec<Straggler> {
            Vec::new()
        }
    }
    under(signals, Duration::MAX, |shutdown| {
        shutdown.register(Arc::new(Stuck)).unwrap();
        say("ready");
    })
}

/// Forks a child that does nothing but hear signals, and says what became of it.
fn forks() -> Report {
    let signals = Signals::install().unwrap();
    // SAFETY: the forked child calls nothing but `pause`, which is async-signal-safe.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        }
    }
    thread::spawn(move || {
        let mut status = 0;
        // SAFETY: the pointer is to an integer that is alive, and the child is ours.
        unsafe { libc::waitpid(forked, &raw mut status, 0) };
        say(&format!("the forked child exited with {}", libc::WEXITSTATUS(status)));
    });
    say(&format!("ready\nforked {forked}"));
    drains(signals, Duration::from_secs(5))
}
