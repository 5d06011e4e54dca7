//! Signals: who hears them, before there is a runtime and when there is no way to be polite any more.

mod hub;
mod tally;
#[cfg(unix)]
mod unix;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::Signal;
use crate::plan::Plan;
use hub::Hub;

/// How long the second signal leaves the program to end by itself, unless told otherwise: half of
/// the 100 ms in which it is to be gone.
const LAST_WAIT: Duration = Duration::from_millis(50);

/// SIGINT and SIGTERM, heard.
///
/// Install them first thing in `main`, before there is a runtime, and give them to the
/// [plan](crate::Builder::signals) when there is one: a signal that comes in between is kept for it.
///
/// | signal | what happens | where |
/// |---|---|---|
/// | first | the plan begins, with [`Reason::Signal`](crate::Reason::Signal) | a thread of its own |
/// | second | the plan's context is cancelled; 50 ms later the process exits, if it has not | that thread; the exit on another, which takes no lock and waits for nobody |
/// | third | the process exits | the signal handler |
///
/// Both signals count alike, and the exit code is 128 + the number of the *first* one, however the
/// process exits: who asked first is who wants to know. The exits of the second and the third signal
/// are `_exit`: nothing is flushed, no destructor runs, no report is written.
///
/// While there is no plan, before the first one, the second and third signal do the same; a first one
/// that was kept for a plan is lost, if this value is dropped and none has come. When the
/// plan is done or dropped, or this value is, a signal ends the process at once: nobody is left to
/// tell.
///
/// # The process
///
/// Handlers belong to the process and stay for the rest of its life. They are installed through
/// [signal-hook-registry](https://docs.rs/signal-hook-registry), so others who do the same (tokio's
/// `signal`, the crate `signal-hook`) hear the signals as well.
///
/// - *Ignored at the start*: a shell without job control starts `cmd &` with SIGINT ignored, so that
///   Ctrl-C ends what is in the foreground only. The signals are heard all the same, as tokio and
///   Go's `signal.Notify` have it, because a service that a script starts with `&` is to end when it
///   is told to. [`SignalsBuilder::keep_ignored`] follows the shell instead.
/// - *Blocked at the start*, by a parent that did not clean up: the exit thread unblocks them for
///   itself, so there is always one thread that the handler can run on.
/// - *Children*: a program that is executed starts with the default action. A child that is forked
///   and does not execute shares nothing that counts: its signals do not end its parent.
/// - *Process 1* of a container: without a handler the kernel would drop SIGTERM. There is one.
/// - Two equal signals that come before the first is delivered are one to the kernel.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use selvedge_shutdown::{Shutdown, Signals};
///
/// let signals = Signals::install()?;
/// let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
/// # async fn serve(_: selvedge_shutdown::Context) {}
/// let report = runtime.block_on(async {
///     let plan = Shutdown::builder().signals(signals).grace(Duration::from_millis(500));
///     let shutdown = plan.build().expect("a runtime with its time driver");
///     let work = serve(shutdown.ctx().clone());
///     shutdown.run(work).await.1
/// });
/// eprintln!("{report}");
/// report.exit();
/// # #[allow(unreachable_code, reason = "for the question marks above")]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it leaves nobody to tell: the next signal ends the process"]
pub struct Signals {
    /// Who hears them.
    hub: Arc<Hub>,
}

/// Raises [`Signals`] by hand: for tests, and for what asks a program to end where there are no
/// signals.
#[derive(Clone)]
pub struct ManualSignals {
    /// Who hears them.
    hub: Arc<Hub>,
}

/// Installs [`Signals`] with other than the defaults; from [`Signals::builder`].
#[derive(Debug, Clone)]
#[must_use = "call `install`"]
pub struct SignalsBuilder {
    /// What the platform needs to know.
    options: Options,
}

/// What the platform needs to know.
#[derive(Debug, Clone)]
#[cfg_attr(not(unix), allow(dead_code, reason = "nothing is installed there"))]
struct Options {
    /// From the second signal to the exit.
    last_wait: Duration,
    /// Whether a signal that is ignored stays so.
    keep_ignored: bool,
}

/// The signals are not heard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// There are no signals here: trigger the plan by its handle, or use [`Signals::manual`].
    #[error("signals not installed: this platform has none, trigger the plan by its handle")]
    Unsupported,
    /// They are heard already, in this process.
    #[error("signals not installed: this process has installed them before")]
    Installed,
    /// The operating system gave no pipe.
    #[error("signals not installed: no pipe")]
    Pipe(
        /// Its reason.
        #[source]
        io::Error,
    ),
    /// The operating system gave no thread.
    #[error("signals not installed: no thread")]
    Thread(
        /// Its reason.
        #[source]
        io::Error,
    ),
    /// The operating system took no handler.
    #[error("signals not installed: no handler for {signal}")]
    Handler {
        /// For which signal.
        signal: Signal,
        /// Its reason.
        source: io::Error,
    },
}

impl Signals {
    /// Has SIGINT and SIGTERM heard from now on. Once a process.
    ///
    /// # Errors
    ///
    /// [`InstallError::Installed`] the second time, [`InstallError::Unsupported`] where there are no
    /// signals, and what the operating system has to say. After an error of
    /// [`Handler`](InstallError::Handler) the signals that were taken end the process at once.
    pub fn install() -> Result<Self, InstallError> {
        Self::builder().install()
    }

    /// Signals to be configured.
    pub fn builder() -> SignalsBuilder {
        SignalsBuilder { options: Options { last_wait: LAST_WAIT, keep_ignored: false } }
    }

    /// Signals that are raised by hand, on any platform, as often as you like. They never end the
    /// process.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selvedge_shutdown::{Shutdown, Signal, Signals};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let (signals, hand) = Signals::manual();
    /// let shutdown = Shutdown::builder().signals(signals).build()?;
    /// hand.raise(Signal::Interrupt);
    /// assert_eq!(shutdown.wait().await.exit_code(), 130);
    /// # Ok::<(), selvedge_shutdown::BuildError>(())
    /// # }).unwrap();
    /// ```
    pub fn manual() -> (Self, ManualSignals) {
        let hub = Arc::new(Hub::new());
        (Self { hub: Arc::clone(&hub) }, ManualSignals { hub })
    }

    /// Has the plan told of what is and was raised.
    pub(crate) fn attach(&self, plan: &Arc<Plan>) {
        self.hub.attach(plan);
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.hub.detach();
    }
}

impl ManualSignals {
    /// Raises a signal: the first begins the plan, later ones abort it. Before there is a plan it is
    /// kept. Returns false when nobody is left to tell.
    pub fn raise(&self, signal: Signal) -> bool {
        self.hub.raise(signal)
    }
}

impl SignalsBuilder {
    /// How long the second signal leaves the program to end by itself: 50 ms unless told otherwise.
    pub fn last_wait(mut self, last_wait: Duration) -> Self {
        self.options.last_wait = last_wait;
        self
    }

    /// Leaves a signal alone that is ignored when this is called, as a shell without job control has
    /// it for SIGINT of what it starts in the background.
    pub fn keep_ignored(mut self) -> Self {
        self.options.keep_ignored = true;
        self
    }

    /// Has SIGINT and SIGTERM heard from now on. Once a process.
    ///
    /// # Errors
    ///
    /// As [`Signals::install`].
    pub fn install(self) -> Result<Signals, InstallError> {
        #[cfg(unix)]
        {
            let signals = Signals { hub: Arc::new(Hub::new()) };
            unix::install(&self.options, &signals.hub)?;
            Ok(signals)
        }
        #[cfg(not(unix))]
        Err(InstallError::Unsupported)
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

impl fmt::Debug for ManualSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualSignals").finish_non_exhaustive()
    }
}
