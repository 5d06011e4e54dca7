//! The suite on our token.

use selvedge_cancel::compat as sync;

#[path = "suite.rs"]
mod suite;
