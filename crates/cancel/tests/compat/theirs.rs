//! The suite on tokio-util's token: what the two have in common is what it asks.

use tokio_util::sync;

#[path = "suite.rs"]
mod suite;
