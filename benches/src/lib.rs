//! The benches: ours and the peers on the same work, in turn, with the results checked.
//!
//! A [`Shape`](harness::Shape) is one piece of work; its [`Contestant`](harness::Contestant)s do
//! that work with different crates. [`harness`] runs the contestants of a shape in turn over several
//! rounds and tells what each round measured; [`shapes`] has the shapes, a file a crate. The program
//! of this package prints the measurements as JSON lines, which `cargo xtask bench` turns into
//! ratios, tables and verdicts; `cargo bench` runs the same shapes under criterion.
//!
//! How to read the figures, and whose bias is in them: `docs/performance.md`.

#![deny(unsafe_code)]

pub mod harness;
pub mod shapes;
