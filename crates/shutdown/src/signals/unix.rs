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
//! - **U1** The handler calls `write` and `_exit` and touches atomics (the tally, and whether
//!   `HANDLER` is set), nothing else: all of it is async-signal-safe. `errno` is saved and restored
//!   around it by signal-hook-registry.
//! - **U2** It never blocks: a process writes two bytes at most into `TELL` and one into `EXIT`, and
//!   an empty pipe takes them.
//! - **U3** A byte only says "look": what counts is the tally, which a forked child has its own copy
//!   of, while it shares the pipes. So a child's byte wakes a thread here, and changes nothing.
//! - **U4** The write ends belong to a static, so they are never closed.
#![allow(unsafe_code, reason = "signal handlers and masks have no safe interface in std")]
// tidy: std-sync, two threads of the process and what their handler reads; the tally is modelled

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, pipe};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use libc::c_int;
use selvedge_primitives::contain;

use super::hub::Hub;
use super::{InstallError, Options};
use crate::Signal;

/// What is heard.
const SIGNALS: [(Signal, c_int); 2] =
    [(Signal::Interrupt, libc::SIGINT), (Signal::Terminate, libc::SIGTERM)];

/// What the handler needs; set before there is one, and never again.
static HANDLER: OnceLock<Handler> = OnceLock::new();

/// What the handler needs.
struct Handler {
    /// Counts the signals.
    hub: Arc<Hub>,
    /// Wakes the thread that tells the hub.
    tell: PipeWriter,
    /// Wakes the thread that exits.
    exit: PipeWriter,
}

/// Has `hub` hear the signals of this process.
pub(super) fn install(options: &Options, hub: &Arc<Hub>) -> Result<(), InstallError> {
    if HANDLER.get().is_some() {
        return Err(InstallError::Installed);
    }
    let (tell, exit) = start(options, hub)?;
    // Of several installers one wins; the threads of the others end with their pipes.
    let handler = Handler { hub: Arc::clone(hub), tell, exit };
    HANDLER.set(handler).map_err(|_| InstallError::Installed)?;
    for (signal, number) in SIGNALS {
        if options.keep_ignored && is_ignored(number) {
            continue;
        }
        // SAFETY: the action is async-signal-safe (U1) and does not panic.
        let registered = unsafe { signal_hook_registry::register(number, move || heard(signal)) };
        registered.map_err(|source| InstallError::Handler { signal, source })?;
    }
    Ok(())
}

/// Starts the two threads and returns the pipes that wake them.
fn start(options: &Options, hub: &Arc<Hub>) -> Result<(PipeWriter, PipeWriter), InstallError> {
    let (tell_end, tell) = pipe().map_err(InstallError::Pipe)?;
    let (exit_end, exit) = pipe().map_err(InstallError::Pipe)?;
    let last_wait = options.last_wait;
    let exiting = thread::Builder::new().name("selvedge-exit".to_owned());
    let counted = Arc::clone(hub);
    exiting
        .spawn(move || wait_to_exit(exit_end, &counted, last_wait))
        .map_err(InstallError::Thread)?;
    let telling = thread::Builder::new().name("selvedge-signal".to_owned());
    let told = Arc::clone(hub);
    telling.spawn(move || wait_to_tell(tell_end, &told)).map_err(InstallError::Thread)?;
    Ok((tell, exit))
}

/// The handler (U1).
fn heard(signal: Signal) {
    let Some(handler) = HANDLER.get() else { return };
    match handler.hub.tally().add(signal) {
        0 => ring(&handler.tell),
        1 => {
            ring(&handler.exit);
            ring(&handler.tell);
        }
        _ => exit(&handler.hub),
    }
}

/// Wakes a thread (U2).
fn ring(pipe: &PipeWriter) {
    let byte = 1_u8;
    // SAFETY: the pointer is to one byte that is alive, and the length is one. The descriptor is
    // open (U4).
    unsafe { libc::write(pipe.as_raw_fd(), ptr::from_ref(&byte).cast(), 1) };
}

/// Ends the process, at once.
fn exit(hub: &Hub) -> ! {
    let first = hub.tally().read().map_or(Signal::Terminate, |(first, _)| first);
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(first.exit_code().into()) }
}

/// The thread that tells the hub.
fn wait_to_tell(mut pipe: PipeReader, hub: &Hub) {
    while next_byte(&mut pipe) {
        // A panic comes from a clock or an allocator; the hook has reported it, and the second
        // signal still exits.
        let mut attached = true;
        contain(|| attached = hub.tell());
        if !attached {
            exit(hub);
        }
    }
}

/// The thread that exits. It holds no lock and takes none, and never has: its last wait is a sleep.
fn wait_to_exit(mut pipe: PipeReader, hub: &Hub, last_wait: Duration) {
    unblock();
    while next_byte(&mut pipe) {
        if hub.tally().read().is_some_and(|(_, count)| count > 1) {
            thread::sleep(last_wait);
            exit(hub);
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
