//! What becomes of a request that is too much.

use std::fmt;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use crate::{AcquireError, Limiter, Reservation};

/// The service is not ready until it has a token; see [`RateLimitLayer::new`](super::RateLimitLayer::new).
#[derive(Clone)]
pub struct BackPressure {
    /// The limiter.
    pub(super) limiter: Limiter,
    /// The place in its line.
    held: Held,
}

impl BackPressure {
    /// By this limiter, in no line yet.
    pub(super) fn new(limiter: Limiter) -> Self {
        Self { limiter, held: Held::default() }
    }

    /// Ready when there is a token for the next call.
    pub(super) fn poll_token(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AcquireError>> {
        let reservation = match &mut self.held.reservation {
            Some(reservation) => reservation,
            none => none.insert(self.limiter.reserve(1)?),
        };
        // It takes part in the cooperative budget, so a loop of calls yields here.
        let told = ready!(pin!(reservation.ready()).poll(cx));
        self.held.is_granted = told.is_ok();
        if told.is_err() {
            // It is void. Polled again, it stands in line again.
            self.held.reservation = None;
        }
        Poll::Ready(told)
    }

    /// Uses the token for a request of that weight.
    #[track_caller]
    pub(super) fn spend(&mut self, weight: u32) {
        assert!(self.held.is_granted, "`call` before `poll_ready` was ready: there is no token");
        // A request that weighs nothing leaves it for the next.
        if weight > 0 {
            self.held.is_granted = false;
            let reservation = self.held.reservation.take();
            reservation.into_iter().for_each(|reservation| reservation.commit(weight));
        }
    }
}

impl fmt::Debug for BackPressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackPressure")
            .field("limiter", &self.limiter)
            .field("held", &self.held.reservation)
            .finish()
    }
}

/// A token for the next call, or the place in line for it.
#[derive(Default)]
struct Held {
    /// What stands in line.
    reservation: Option<Reservation>,
    /// Whether the token is there.
    is_granted: bool,
}

/// Each clone has its own.
impl Clone for Held {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Drop for Held {
    /// What was not used goes back.
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            reservation.cancel();
        }
    }
}

/// The call waits in line; see [`RateLimitLayer::delay`](super::RateLimitLayer::delay) and [`keyed`](super::RateLimitLayer::keyed).
#[derive(Debug, Clone)]
pub struct Delay<T>(
    /// Where the tokens come from.
    pub(super) T,
);

/// The call answers at once that it is too much; see [`RateLimitLayer::reject`](super::RateLimitLayer::reject).
#[derive(Debug, Clone)]
pub struct Reject<T>(
    /// Where the tokens come from.
    pub(super) T,
);

/// The call answers at once, in the place of the inner service; see [`RateLimitLayer::reject_with`](super::RateLimitLayer::reject_with).
#[derive(Clone)]
pub struct RejectWith<T, F> {
    /// Where the tokens come from.
    pub(super) tokens: T,
    /// Answers.
    pub(super) answer: F,
}

impl<T: fmt::Debug, F> fmt::Debug for RejectWith<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RejectWith").field(&self.tokens).finish()
    }
}
