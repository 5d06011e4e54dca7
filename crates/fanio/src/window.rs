//! The window: results of concurrent work, in order or as they come, within a bound.
//!
//! The face. [`window`] makes the two ends; `entry.rs` is where slots are reserved, `slot.rs` is
//! what the work completes, `exit.rs` is where the results come out, and `engine.rs` has the
//! protocol between them.

mod belt;
mod counts;
mod engine;
mod entry;
mod exit;
mod slot;

pub use counts::Counts;
pub use entry::{Closed, Entry, Reserve, TryReserveError};
pub use exit::{Emitted, Exit, Next, TryNextError};
pub use slot::Slot;

use std::sync::Arc;

use selvedge_primitives::Origin;

use engine::Shared;

/// The most that a window can hold: more is a mistake in a calculation, not a bound.
pub const MAX_CAPACITY: usize = i32::MAX as usize;

/// In which order a window emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// In the order in which slots were reserved. A slow one holds up those behind it, and the
    /// window bounds how many.
    Ordered,
    /// In the order in which slots were completed or dropped.
    Unordered,
}

/// Why there is no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// The capacity is zero: nothing could ever be reserved.
    #[error("window not made: a capacity of 0 admits nothing, it must be at least 1")]
    Zero,
    /// The capacity is more than [`MAX_CAPACITY`].
    #[error("window not made: a capacity of {0} is no bound, the most is {MAX_CAPACITY}")]
    TooLarge(
        /// What was asked for.
        usize,
    ),
}

/// Makes a window in which at most `capacity` slots are reserved and not yet emitted.
///
/// Slots are reserved at the [`Entry`], completed wherever the work is done, and come out at the
/// [`Exit`]. No memory is taken in advance: it grows with what is in the window, to less than twice
/// the room for `capacity` values.
///
/// # Memory ordering
///
/// What precedes [`Slot::complete`] is seen by whoever takes that item from the exit; what precedes
/// taking an item is seen by whoever reserves the slot that it made room for. As happens-before:
/// each of these is a release and the matching acquire of the window's lock.
///
/// # Errors
///
/// [`WindowError::Zero`] and [`WindowError::TooLarge`], as their names say.
///
/// # Examples
///
/// In order, though the second is done first:
///
/// ```
/// use selvedge_fanio::{Emitted, Order, window};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (entry, mut exit) = window(2, Order::Ordered).unwrap();
/// let first = entry.reserve().await.unwrap();
/// let second = entry.reserve().await.unwrap();
/// assert!(entry.try_reserve().is_err(), "two are in flight");
///
/// second.complete("second");
/// first.complete("first");
/// drop(entry);
///
/// assert_eq!(exit.next().await, Some(Emitted::Item { sequence: 0, value: "first" }));
/// assert_eq!(exit.next().await, Some(Emitted::Item { sequence: 1, value: "second" }));
/// assert_eq!(exit.next().await, None);
/// # });
/// ```
#[track_caller]
pub fn window<T>(capacity: usize, order: Order) -> Result<(Entry<T>, Exit<T>), WindowError> {
    match capacity {
        0 => return Err(WindowError::Zero),
        1..=MAX_CAPACITY => {}
        _ => return Err(WindowError::TooLarge(capacity)),
    }
    let shared = Arc::new(Shared::new(capacity, order, Origin::here()));
    Ok((Entry::new(Arc::clone(&shared)), Exit::new(shared)))
}
