//! The service, in each of its modes.

use std::fmt;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::future::{Admitted, Answered, Delayed};
use super::{BackPressure, Delay, One, RateLimitError, Reject, RejectWith, Tokens, Weigh};
use crate::TryAcquireError;

/// A service whose requests are limited; made by a [`RateLimitLayer`](super::RateLimitLayer), which says how.
///
/// Clones share the limit, and nothing else: each has its own place in the line, and its own token.
#[derive(Clone)]
pub struct RateLimit<S, M = BackPressure, W = One> {
    /// Answers.
    inner: S,
    /// What becomes of a request that is too much.
    mode: M,
    /// How many tokens it takes.
    weigh: W,
}

impl<S, M, W> RateLimit<S, M, W> {
    /// Limits `inner`.
    pub(super) fn new(inner: S, mode: M, weigh: W) -> Self {
        Self { inner, mode, weigh }
    }

    /// The inner service, to look at.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, without its limit. A token that was not used goes back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, W, R> Service<R> for RateLimit<S, BackPressure, W>
where
    S: Service<R>,
    W: Weigh<R>,
{
    type Response = S::Response;
    type Error = RateLimitError<S::Error>;
    type Future = Admitted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Each time: whoever is told that it is ready is told so for now.
        ready!(self.inner.poll_ready(cx)).map_err(RateLimitError::Inner)?;
        self.mode.poll_token(cx).map_err(RateLimitError::NotAcquired)
    }

    #[track_caller]
    fn call(&mut self, request: R) -> Self::Future {
        self.mode.spend(self.weigh.weigh(&request));
        Admitted::new(self.inner.call(request))
    }
}

impl<S, T, W, R> Service<R> for RateLimit<S, Reject<T>, W>
where
    S: Service<R>,
    T: Tokens<R>,
    W: Weigh<R>,
{
    type Response = S::Response;
    type Error = RateLimitError<S::Error>;
    type Future = Admitted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(RateLimitError::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.mode.0.try_acquire(&request, self.weigh.weigh(&request)) {
            Ok(()) => Admitted::new(self.inner.call(request)),
            Err(error) => Admitted::refused(error),
        }
    }
}

impl<S, T, F, W, R> Service<R> for RateLimit<S, RejectWith<T, F>, W>
where
    S: Service<R>,
    T: Tokens<R>,
    F: Fn(R, TryAcquireError) -> S::Response,
    W: Weigh<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answered<S::Future, S::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.mode.tokens.try_acquire(&request, self.weigh.weigh(&request)) {
            Ok(()) => Answered::new(self.inner.call(request)),
            Err(error) => Answered::refused((self.mode.answer)(request, error)),
        }
    }
}

impl<S, T, W, R> Service<R> for RateLimit<S, Delay<T>, W>
where
    S: Service<R> + Clone,
    T: Tokens<R>,
    W: Weigh<R>,
{
    type Response = S::Response;
    type Error = RateLimitError<S::Error>;
    type Future = Delayed<S, R, T::Wait>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The inner service would keep its room for a request that may wait for long: the call asks it when it has its tokens.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let wait = self.mode.0.acquire(&request, self.weigh.weigh(&request));
        Delayed::new(wait, self.inner.clone(), request)
    }
}

impl<S: fmt::Debug, M: fmt::Debug, W> fmt::Debug for RateLimit<S, M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
