//! Sources that need neither a task nor a body: iterators, streams and channels, ticks.

mod iter;
mod stream;
mod ticks;

pub use iter::{FromIter, IterFlow, from_iter};
#[cfg(feature = "channel")]
pub use stream::from_channel;
pub use stream::{FromStream, StreamFlow, from_stream};
pub use ticks::{TickFlow, Ticks, ticks};
