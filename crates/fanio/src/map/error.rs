//! What a concurrent mapping gives in place of a result.

use selvedge_cancel::Cause;
use selvedge_primitives::Panic;

/// Why there is no result for an item; the items of the source are counted from 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The future of an item panicked, or its destructor, or the function that makes it; or the
    /// source, in place of giving that item, and then it was the last.
    #[error("no result for item {index}: panicked: {panic}")]
    Panicked {
        /// Which item.
        index: u64,
        /// With what.
        panic: Panic,
    },
    /// The future of an item was dropped, because the context was cancelled.
    #[error("no result for item {index}: cancelled")]
    Cancelled {
        /// Which item.
        index: u64,
        /// Why the context ended.
        #[source]
        cause: Cause,
    },
    /// The future of an item was dropped by the runtime, which is shut down.
    #[error("no result for item {index}: its runtime was shut down")]
    Lost {
        /// Which item.
        index: u64,
    },
    /// There is no tokio runtime where the stream is polled, nor was there one where it was made.
    /// The source was not read any further.
    #[error("no item started: no tokio runtime, neither where the stream was made nor here")]
    NoRuntime,
    /// The item and those behind it were not started, because the context is stopping or cancelled:
    /// the source was not read to its end. Whether it had such an item is not known.
    #[error("item {index} not started: the context is stopping")]
    Stopped {
        /// Which item would have been next.
        index: u64,
        /// Why the context ended.
        #[source]
        cause: Cause,
    },
}
