//! Who may overtake whom: what a user chooses of it.

use std::time::Duration;

/// Whether a running caller may take permits while others wait for them.
///
/// | | `Strict` | `Eventual(bound)` |
/// |---|---|---|
/// | free permits go to | the front of the line, nobody else | whoever comes first, until the front has waited for `bound`; then to it |
/// | a waiter waits for | those before it | `bound` at most, then for those before it |
/// | a front that is called and not polled | keeps its permits, and all behind it waiting | loses its turn after another `bound`, or a millisecond if that is longer; the next one is twice as long |
/// | a permit lies idle | while the task it was given to gets to run | only then, or while nobody runs who wants it |
///
/// The bound is kept also where the front's task cannot run because the one who overtakes has its thread: then one who waits behind
/// it shuts the door. A timer may be late, tokio's by two milliseconds, so the door is shut as much before the end of the bound, but not before
/// half of that: a bound of four milliseconds or more is kept, a shorter one may be exceeded by what the timer is late, and one
/// below a millisecond lasts for a millisecond. A task of tokio
/// whose budget is spent takes nothing; it stands in line if others do.
///
/// Strict order is the fairest and needs no clock. Where permits are held for less time than a task switch
/// takes it is slow: each release has to wait for the next in line to be run. There `Eventual` lets whoever
/// runs go on, and nobody starves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fairness {
    /// First in, first out.
    #[default]
    Strict,
    /// Running callers may overtake, until the front has waited for so long. With zero it has from the start.
    Eventual(Duration),
}

impl Fairness {
    /// [`Eventual`](Self::Eventual) with a bound of four milliseconds, the shortest that can be kept with tokio's timer.
    pub const EVENTUAL: Self = Self::Eventual(Duration::from_millis(4));
}
