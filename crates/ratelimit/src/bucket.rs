//! A token bucket that knows no clock and no line: what has come by a time ([`course`]), and what was granted ([`word`]).
//!
//! # Units
//!
//! Tokens come one after the other, and a part of one is worth something: who takes a token at 1.9 intervals may have the
//! next at 2.9, not at 2. So what is counted is not tokens but *units*, of which a token is a number that is chosen with the
//! quota ([`scale`]): as many that about one comes in a nanosecond, if the burst leaves room for it. All counting is of whole
//! units, so that nothing is lost to rounding but the part of a unit, and nothing drifts.
//!
//! What has come by a time is a number that only grows, *earned*; what was taken, with what is lost beyond the burst, is another,
//! *granted*. A bucket of `burst` is empty when `granted` is `earned + burst`, and full when it is `earned` or less. How far
//! `granted` is ahead of `earned` is the *deficit*: what is missing from a full bucket. Nothing has to be written when time goes
//! by.
//!
//! # A quota that changes
//!
//! When the rate or the burst changes, the deficit stays what it is, reckoned in the new units and rounded up; `granted` begins
//! anew, above whatever it was before; and `earned` begins at `granted - deficit`. So a value of `granted` tells under which
//! quota it was reckoned, and who has reckoned with another cannot put its result into the word.

pub(crate) mod course;
pub(crate) mod scale;
pub(crate) mod word;

/// Mixes bits: the odd number next to 2^64 over the golden ratio (Knuth, "The Art of Computer Programming", volume 3, 6.4).
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
