//! The shapes, a file a crate of ours.

pub mod cancel;
pub mod fanio;
pub mod pipeline;
pub mod pool;
pub mod ratelimit;
pub mod shutdown;
pub mod sync;

mod digest;
mod poll;
mod single_flight;

use crate::harness::{Shape, Tally, go};

/// How large the shapes of a fixed size are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As the bars mean it.
    Full,
    /// A tenth or less: does it run, and what is the order of magnitude?
    Quick,
    /// As little as shows that the result is right.
    Smoke,
}

impl Scale {
    /// The one for this scale.
    #[must_use]
    pub fn of<T>(self, full: T, quick: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Smoke => smoke,
        }
    }
}

/// The crates that have shapes, and what makes those. They are made one after the other, each when it
/// is measured.
pub type Shapes = fn(Scale) -> Vec<Shape>;

/// The tallies of a crate, which have one scale: they are exact.
pub type Tallies = fn() -> Vec<Tally>;

/// Every crate that has shapes.
pub const ALL: &[(&str, Shapes)] = &[
    ("cancel", cancel::shapes),
    ("sync", sync::shapes),
    ("ratelimit", ratelimit::shapes),
    ("pool", pool::shapes),
    ("fanio", fanio::shapes),
    ("pipeline", pipeline::shapes),
    ("shutdown", shutdown::shapes),
];

/// The crates that have something to count, and what makes that.
pub const TALLIES: &[(&str, Tallies)] = &[("ratelimit", ratelimit::tallies)];

/// Who was named for a crate and is not measured here: crate, peer, why.
pub fn absent() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let go = go::program().err().map(|missing| GO.map(|of| (of, "Go", missing.as_str())));
    let xargs = (!digest::has_xargs()).then_some((
        "pipeline",
        "xargs sha256sum",
        "no `find`, `xargs` and `sha256sum` on the PATH",
    ));
    ABSENT.iter().copied().chain(go.into_iter().flatten()).chain(xargs)
}

/// The crates whose shapes have contestants in Go.
const GO: [&str; 4] = ["cancel", "sync", "pool", "pipeline"];

/// Peers that no machine has, or some shapes have not.
const ABSENT: &[(&str, &str, &str)] = &[
    (
        "cancel",
        "nuclei",
        "0.5, which has its token, asks for Rust 1.99 and does not compile with 1.95",
    ),
    ("cancel", "async-shutdown", "has no children: it takes part in check, clone and wake only"),
    ("ratelimit", "leaky-bucket", "has no clock to be moved by hand: not in `admitted in 2 s`"),
    ("ratelimit", "ratelimit", "has nothing that waits: not in `acquire`"),
];
