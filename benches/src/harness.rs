//! How a shape is measured: contestants in turn, round after round, and the state of the machine
//! beside each round.

pub mod allocations;
mod cores;
pub mod count;
pub mod event;
pub mod go;
pub mod ping_pong;
pub mod rounds;
pub mod shape;
pub mod tally;
pub mod threads;

pub use self::count::Count;
pub use self::event::Event;
pub use self::rounds::Rounds;
pub use self::shape::{Contestant, Role, Shape, Work};
pub use self::tally::Tally;
