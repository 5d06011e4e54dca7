//! The signal engine: one handler, two pipes, two threads.
//!
//! ```text
//!            count 1            +---------+  byte   selvedge-signal: tells the hub, which stops the
//!  signal ----------> handler --| TELL    |------>  context and the components. Takes locks, runs
//!            count 2     |      +---------+         wakers: may block for ever on somebody's bug.
//!            count 3     |      +---------+  byte   selvedge-exit: sleeps for the last wait, then
//!                        +------| EXIT    |------>  `_exit`. Takes no lock, so nothing holds it up.
//!                        |      +---------+
//!                        +---> `_exit`, here and now, from the third on
//! ```
//!
//! - **U1** The handler calls `write` and `_exit` and touches atomics, nothing else: all of it is
//!   async-signal-safe. `errno` is saved and restored around it by signal-hook-registry.
//! - **U2** It never blocks: a process writes two bytes at most into `TELL` and one into `EXIT`, and
//!   an empty pipe takes them.
//! - **U3** A byte only says "look": what counts is `COUNT`, which a forked child has its own copy
//!   of, while it shares the pipes. So a child's byte wakes a thread here, and changes nothing.
//! - **U4** The write ends are never closed, so the numbers in `TELL` and `EXIT` stay good.
#![allow(unsafe_code, reason = "signal handlers and masks have no safe interface in std")]
// tidy: std-sync, a handler and two threads of the process, which no model has: `hub.rs` is modelled

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, pipe};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use libc::c_int;

use super::hub::Hub;
use super::{InstallError, Options};
use crate::Signal;

/// What is heard.
const SIGNALS: [(Signal, c_int); 2] =
    [(Signal::Interrupt, libc::SIGINT), (Signal::Terminate, libc::SIGTERM)];

/// Whether this process has installed handlers.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// The first signal; zero while there was none.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// How many signals there were.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Wakes the thread that tells the hub; set before there is a handler (U4).
static TELL: AtomicI32 = AtomicI32::new(-1);

/// Wakes the thread that exits; set before there is a handler (U4).
static EXIT: AtomicI32 = AtomicI32::new(-1);

/// Has `hub` hear the signals of this process.
pub(super) fn install(options: &Options, hub: &Arc<Hub>) -> Result<(), InstallError> {
    // AcqRel: one of several installers wins, and whoever loses comes after it; the Release below
    // gives the place back.
    if INSTALLED.swap(true, Ordering::AcqRel) {
        return Err(InstallError::Installed);
    }
    match start(options, hub) {
        Ok((tell, exit)) => {
            // Relaxed: there is no handler yet, and installing one is a system call that the
            // handler comes after.
            TELL.store(tell.into_raw_fd(), Ordering::Relaxed);
            // Relaxed: as for `TELL`.
            EXIT.store(exit.into_raw_fd(), Ordering::Relaxed);
        }
        Err(error) => {
            // Release: see above. The threads that were started end with their pipes.
            INSTALLED.store(false, Ordering::Release);
            return Err(error);
        }
    }
    for (signal, number) in SIGNALS {
        if options.keep_ignored && is_ignored(number) {
            continue;
        }
        // SAFETY: the action is async-signal-safe (U1) and does not panic.
        let registered = unsafe { signal_hook_registry::register(number, move || heard(number)) };
        registered.map_err(|source| InstallError::Handler { signal, source })?;
    }
    Ok(())
}

/// Starts the two threads and returns the pipes that wake them.
fn start(options: &Options, hub: &Arc<Hub>) -> Result<(PipeWriter, PipeWriter), InstallError> {
    let (tell_end, tell) = pipe().map_err(InstallError::Pipe)?;
    let (exit_end, exit) = pipe().map_err(InstallError::Pipe)?;
    let (last_wait, hub) = (options.last_wait, Arc::clone(hub));
    let exiting = thread::Builder::new().name("selvedge-exit".to_owned());
    exiting.spawn(move || wait_to_exit(exit_end, last_wait)).map_err(InstallError::Thread)?;
    let telling = thread::Builder::new().name("selvedge-signal".to_owned());
    telling.spawn(move || wait_to_tell(tell_end, &hub)).map_err(InstallError::Thread)?;
    Ok((tell, exit))
}

/// The handler (U1).
fn heard(number: c_int) {
    // Relaxed: the Release below publishes it. On failure another signal was first.
    let _ = FIRST.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
    // AcqRel: publishes `FIRST` to the Acquire loads of the two threads, and to the handler of the
    // third signal, which reads it in `exit`.
    match COUNT.fetch_add(1, Ordering::AcqRel) {
        0 => ring(&TELL),
        1 => {
            ring(&EXIT);
            ring(&TELL);
        }
        _ => exit(),
    }
}

/// Wakes a thread (U2).
fn ring(pipe: &AtomicI32) {
    let byte = 1_u8;
    // Relaxed: stored before the handler was installed.
    let pipe = pipe.load(Ordering::Relaxed);
    // SAFETY: the pointer is to one byte that is alive, and the length is one. The descriptor is
    // open (U4); on a bad one `write` would only fail.
    unsafe { libc::write(pipe, ptr::from_ref(&byte).cast(), 1) };
}

/// Ends the process, at once.
fn exit() -> ! {
    // Relaxed: whoever comes here has read a `COUNT` that is not zero by an Acquire, which `FIRST`
    // comes before.
    let code = 128 + FIRST.load(Ordering::Relaxed);
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// The thread that tells the hub.
fn wait_to_tell(mut pipe: PipeReader, hub: &Hub) {
    let mut told = 0;
    while next_byte(&mut pipe) {
        // Acquire: pairs with the Release in `heard`; `FIRST` is there.
        let count = COUNT.load(Ordering::Acquire);
        // Relaxed: see above.
        let first = FIRST.load(Ordering::Relaxed);
        let Some((signal, _)) = SIGNALS.iter().find(|(_, number)| *number == first) else {
            continue;
        };
        while told < count {
            told += 1;
            // A panic comes from a clock or an allocator; the hook has reported it, and the second
            // signal still exits.
            let told = catch_unwind(AssertUnwindSafe(|| hub.raise(*signal)));
            if let Ok(false) = told {
                exit();
            }
        }
    }
}

/// The thread that exits. It holds no lock and takes none, and never has: its last wait is a sleep.
fn wait_to_exit(mut pipe: PipeReader, last_wait: Duration) {
    unblock();
    while next_byte(&mut pipe) {
        // Acquire: pairs with the Release in `heard`, for `exit`.
        if COUNT.load(Ordering::Acquire) > 1 {
            thread::sleep(last_wait);
            exit();
        }
    }
}

/// Waits for a byte. False when there will be none: nobody has the other end.
fn next_byte(pipe: &mut PipeReader) -> bool {
    loop {
        match pipe.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return matches!(read, Ok(1)),
        }
    }
}

/// Lets this thread receive the signals, also when the process was started with them blocked.
fn unblock() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is to memory for a set, which is made empty here.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for (_, number) in SIGNALS {
        // SAFETY: the set was made above, and the signal is one that there is.
        unsafe { libc::sigaddset(set.as_mut_ptr(), number) };
    }
    // SAFETY: the set was made above; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) };
}

/// Whether the process ignores a signal.
fn is_ignored(number: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set (null), and the pointer is to memory for the current action.
    let asked = unsafe { libc::sigaction(number, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all-zero is a value of this plain C struct, and the call fills it in or leaves it.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}
