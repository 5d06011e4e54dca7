//! Who holds permits, since when and from where; and how long the front of the line has waited. With the feature `age`; without it
//! these are types of no size, and no code.

#[cfg(not(feature = "age"))]
mod off;
#[cfg(feature = "age")]
mod on;

#[cfg(not(feature = "age"))]
pub(super) use off::{Age, Caller, Hold, Holders};
#[cfg(feature = "age")]
pub use on::Holder;
#[cfg(feature = "age")]
pub(super) use on::{Age, Caller, Hold, Holders};
