//! Why a shutdown began, and the exit code that follows from it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use selvedge_cancel::{Cause, CauseKind};

/// A signal that asks a program to end.
///
/// The numbers are those of Unix; on other platforms they serve the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// SIGINT: Ctrl-C at the terminal.
    Interrupt,
    /// SIGTERM: what `kill`, systemd and Kubernetes send first.
    Terminate,
}

impl Signal {
    /// Its number: 2 or 15.
    pub const fn number(self) -> u8 {
        match self {
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }

    /// 128 + its number, the exit code by which shells report a death by signal.
    pub const fn exit_code(self) -> u8 {
        128 + self.number()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// What began a shutdown. The first one wins.
///
/// It is also the [error](Cause::error) of the cause that every context below the plan's sees, to be
/// found there by downcast.
///
/// | reason | exit code |
/// |---|---|
/// | `Completed` | 0 |
/// | `Signal` | 128 + n: 130, 143 |
/// | `Requested` | the request's, 0 unless it says otherwise |
/// | `Ended` | 124 for a deadline, as timeout(1) has it; else 1 |
/// | `Panicked` | 101, as Rust has it |
/// | `Dropped` | 1 |
///
/// Where this says 0 and something was late or panicked, the [report](crate::Report) says 1.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Reason {
    /// The main future returned.
    Completed,
    /// A signal came.
    Signal(Signal),
    /// The program asked for it.
    Requested(Request),
    /// The context that the plan stands on was stopped or cancelled, or its deadline passed.
    Ended(Cause),
    /// The main future panicked.
    Panicked,
    /// The plan was dropped before its end.
    Dropped,
}

impl Reason {
    /// The exit code that it asks for; see the table at [`Reason`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Signal(signal) => signal.exit_code(),
            Self::Requested(request) => request.code,
            Self::Ended(cause) if cause.kind() == CauseKind::Deadline => 124,
            Self::Ended(_) | Self::Dropped => 1,
            Self::Panicked => 101,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("the work is complete"),
            Self::Signal(signal) => signal.fmt(f),
            Self::Requested(request) => request.fmt(f),
            Self::Ended(cause) => cause.fmt(f),
            Self::Panicked => f.write_str("the main future panicked"),
            Self::Dropped => f.write_str("the plan was dropped"),
        }
    }
}

impl Error for Reason {}

impl From<Signal> for Reason {
    fn from(signal: Signal) -> Self {
        Self::Signal(signal)
    }
}

impl From<Request> for Reason {
    fn from(request: Request) -> Self {
        Self::Requested(request)
    }
}

impl From<&'static str> for Reason {
    fn from(text: &'static str) -> Self {
        Request::new(text).into()
    }
}

/// A program's own reason to end, and the exit code it wants for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Why, for people.
    text: Cow<'static, str>,
    /// The exit code.
    code: u8,
}

impl Request {
    /// A request with exit code 0.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), code: 0 }
    }

    /// The same request with another exit code.
    pub fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request: {}", self.text)
    }
}
