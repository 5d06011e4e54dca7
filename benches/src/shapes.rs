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

use crate::harness::Shape;

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

/// What the contestants in Go are called where it is said that there are none.
pub const GO: &str = "Go";

/// Peers that were named for a crate and are not measured: crate, peer, why.
pub const ABSENT: &[(&str, &str, &str)] = &[
    (
        "cancel",
        "nuclei",
        "0.5, which has its token, asks for Rust 1.99 and does not compile with 1.95",
    ),
    ("cancel", "async-shutdown", "has no children: it takes part in check, clone and wake only"),
];
