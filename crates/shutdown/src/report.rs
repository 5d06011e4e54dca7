//! What came of a shutdown: who ended, who was late, who panicked.

use std::any::Any;
use std::fmt;
use std::panic::Location;
use std::process::ExitCode;
use std::time::Duration;

use selvedge_cancel::Straggler;

use crate::Reason;

/// What came of a shutdown; printed, it is a line and one more for each component.
///
/// All durations count from the moment the shutdown began.
#[derive(Debug)]
#[must_use = "it says what was late, and the exit code"]
pub struct Report {
    /// Why.
    pub(crate) reason: Reason,
    /// How long it took.
    pub(crate) took: Duration,
    /// What became of the main future, if there was one.
    pub(crate) main: Option<End>,
    /// What became of the components.
    pub(crate) components: Vec<ComponentReport>,
}

impl Report {
    /// Why the shutdown began.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// How long it took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// What became of the future that [`Shutdown::run`](crate::Shutdown::run) was given; none after
    /// [`Shutdown::wait`](crate::Shutdown::wait).
    pub fn main(&self) -> Option<&End> {
        self.main.as_ref()
    }

    /// The components, in the order in which they were registered.
    pub fn components(&self) -> &[ComponentReport] {
        &self.components
    }

    /// The components that had not ended.
    pub fn late(&self) -> impl Iterator<Item = &ComponentReport> {
        self.components.iter().filter(|component| component.end.is_late())
    }

    /// Whether everything ended, aborted or not, and nothing panicked.
    pub fn is_clean(&self) -> bool {
        let well = |end: &End| matches!(end, End::Finished { .. } | End::Aborted { .. });
        self.main.as_ref().is_none_or(well)
            && self.components.iter().all(|part| well(&part.end) && part.panics.is_empty())
    }

    /// The [reason's](Reason::exit_code); but 1 where that is 0 and the report is not
    /// [clean](Self::is_clean).
    pub fn exit_code(&self) -> u8 {
        match self.reason.exit_code() {
            0 if !self.is_clean() => 1,
            code => code,
        }
    }

    /// Ends the process with the [exit code](Self::exit_code), by [`std::process::exit`].
    ///
    /// Where something is late this is the way out: a return from `main` would drop the runtime,
    /// which waits for blocking closures without a limit. It runs no destructors; what must be
    /// flushed, flush before.
    pub fn exit(self) -> ! {
        std::process::exit(self.exit_code().into())
    }
}

impl From<Report> for ExitCode {
    fn from(report: Report) -> Self {
        report.exit_code().into()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, took, main, components } = self;
        write!(f, "shutdown ({reason}) took {took:.1?}, ")?;
        match (self.late().count(), components.len()) {
            (0, all) => write!(f, "{all} components, none late")?,
            (late, all) => write!(f, "{late} of {all} components late")?,
        }
        write!(f, ", exit code {}", self.exit_code())?;
        if let Some(end) = main {
            write!(f, "\n  main: {end}")?;
        }
        for component in components {
            write!(f, "\n  {component}")?;
        }
        Ok(())
    }
}

/// What became of one component.
#[derive(Debug)]
pub struct ComponentReport {
    /// Its name when it was registered.
    pub(crate) name: String,
    /// Where it was registered.
    pub(crate) place: &'static Location<'static>,
    /// How it ended.
    pub(crate) end: End,
    /// What it panicked with.
    pub(crate) panics: Vec<Panic>,
}

impl ComponentReport {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was registered.
    pub fn place(&self) -> &'static Location<'static> {
        self.place
    }

    /// How it ended.
    pub fn end(&self) -> &End {
        &self.end
    }

    /// What it panicked with, each panic once.
    pub fn panics(&self) -> &[Panic] {
        &self.panics
    }
}

impl fmt::Display for ComponentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, place, end, panics } = self;
        write!(f, "{name} (registered at {place}): {end}")?;
        for panic in panics {
            write!(f, "\n    {panic}")?;
        }
        Ok(())
    }
}

/// How a component, or the main future, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Within the grace.
    Finished {
        /// When.
        after: Duration,
    },
    /// After the grace was over or cut short: it was aborted, or its context was cancelled.
    Aborted {
        /// When.
        after: Duration,
    },
    /// Not, or not in time.
    Late {
        /// What it said was still running.
        stragglers: Vec<Straggler>,
    },
    /// Nobody knows: its `wait` panicked.
    Unknown,
}

impl End {
    /// Whether it had not ended.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished { after } => write!(f, "finished after {after:.1?}"),
            Self::Aborted { after } => write!(f, "aborted, ended after {after:.1?}"),
            Self::Unknown => f.write_str("unknown, it cannot be waited for"),
            Self::Late { stragglers } => {
                f.write_str("late")?;
                for straggler in stragglers {
                    write!(f, "\n    still running: {straggler}")?;
                }
                Ok(())
            }
        }
    }
}

/// A panic of a component, caught.
pub struct Panic {
    /// The method that panicked.
    call: &'static str,
    /// What it panicked with.
    panic: selvedge_primitives::Panic,
}

impl Panic {
    /// A panic caught around `call`.
    pub(crate) fn new(call: &'static str, payload: Box<dyn Any + Send>) -> Self {
        Self { call, panic: selvedge_primitives::Panic::new(payload) }
    }

    /// The method of [`Component`](selvedge_cancel::Component) that panicked.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The panic's message; a stand-in in parentheses, if it was no text.
    pub fn message(&self) -> &str {
        self.panic.message()
    }

    /// What it panicked with.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.panic.into_payload()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked in {}: {}", self.call, self.panic)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panic({self})")
    }
}
