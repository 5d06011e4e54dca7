//! Guards that cancel a token when they are dropped.

use std::panic::Location;
use std::thread::panicking;

use selvedge_primitives::contain;

use super::CancellationToken;

/// Cancels the token that it owns when it is dropped; from [`CancellationToken::drop_guard`].
///
/// The [cause](crate::Cause)'s place is where the guard was made. A waker that panics then panics out of the drop,
/// unless the drop is part of a panic already.
#[derive(Debug)]
#[must_use = "dropping the guard cancels the token: keep it, or `disarm` it"]
pub struct DropGuard {
    /// The token; none once it is disarmed.
    token: Option<CancellationToken>,
    /// Where the guard was made.
    place: &'static Location<'static>,
}

impl DropGuard {
    /// Guards `token`.
    #[track_caller]
    pub(super) fn new(token: CancellationToken) -> Self {
        Self { token: Some(token), place: Location::caller() }
    }

    /// The token.
    pub fn token(&self) -> &CancellationToken {
        self.token.as_ref().expect("there until it is disarmed")
    }

    /// Gives the token back. This guard does not cancel it any more; another one of the same token still does.
    pub fn disarm(mut self) -> CancellationToken {
        self.token.take().expect("there until it is disarmed")
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(token) = &self.token {
            cancel(token, self.place);
        }
    }
}

/// Cancels the token that it borrows when it is dropped; from [`CancellationToken::drop_guard_ref`]. Otherwise as
/// [`DropGuard`].
#[derive(Debug)]
#[must_use = "dropping the guard cancels the token: keep it, or `disarm` it"]
pub struct DropGuardRef<'a> {
    /// The token; none once it is disarmed.
    token: Option<&'a CancellationToken>,
    /// Where the guard was made.
    place: &'static Location<'static>,
}

impl<'a> DropGuardRef<'a> {
    /// Guards `token`.
    #[track_caller]
    pub(super) fn new(token: &'a CancellationToken) -> Self {
        Self { token: Some(token), place: Location::caller() }
    }

    /// The token.
    pub fn token(&self) -> &CancellationToken {
        self.token.expect("there until it is disarmed")
    }

    /// Gives the token back. This guard does not cancel it any more; another one of the same token still does.
    pub fn disarm(mut self) -> &'a CancellationToken {
        self.token.take().expect("there until it is disarmed")
    }
}

impl Drop for DropGuardRef<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            cancel(token, self.place);
        }
    }
}

/// Cancels a token whose guard is dropped.
fn cancel(token: &CancellationToken, place: &'static Location<'static>) {
    if panicking() {
        // A waker's panic would be the second one, and abort; it was reported by the hook.
        contain(|| token.cancel_at(place));
    } else {
        token.cancel_at(place);
    }
}
