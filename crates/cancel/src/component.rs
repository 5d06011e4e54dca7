//! The component seam: what a shutdown needs of a pool, a pipeline or a server.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::time::Duration;

/// The future that [`Component::wait`] returns.
pub type Wait<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Something that runs until it is told to stop.
///
/// [`stop`](Self::stop) and [`abort`](Self::abort) ask and return at once; [`wait`](Self::wait)
/// tells when the component has ended. Calling `stop` or `abort` again, or after the end, does
/// nothing. Implementations run no user code in `stop` and `abort` other than wakers.
pub trait Component: Send + Sync {
    /// For reports.
    fn name(&self) -> String;

    /// Asks for a drain: admit nothing new, finish what was accepted.
    fn stop(&self);

    /// Completes when nothing that the component started is alive, except blocking closures past
    /// an abort, which [`stragglers`](Self::stragglers) names. May be called any number of times;
    /// dropping the future changes nothing.
    fn wait(&self) -> Wait<'_>;

    /// Asks for an end as soon as possible: accepted work is cancelled.
    fn abort(&self);

    /// What is still running.
    fn stragglers(&self) -> Vec<Straggler>;
}

/// Something that has not ended yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Straggler {
    /// What it is.
    pub name: String,
    /// Where it was made, or entered, if that is known.
    pub place: Option<&'static Location<'static>>,
    /// How long it has been running, if that is known.
    pub age: Option<Duration>,
    /// What it is doing, in words; empty when there is nothing to say.
    pub note: String,
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(place) = self.place {
            write!(f, " ({place})")?;
        }
        if let Some(age) = self.age {
            write!(f, ", for {age:.1?}")?;
        }
        if !self.note.is_empty() {
            write!(f, ": {}", self.note)?;
        }
        Ok(())
    }
}
