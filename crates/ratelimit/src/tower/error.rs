//! Why a request was not answered.

use std::error::Error;
use std::time::Duration;

use crate::{AcquireError, TryAcquireError};

/// A request was not answered; from a [`RateLimit`](super::RateLimit).
///
/// It is an error where the inner service's is one. A boxed error is none, as the standard library has it: of that,
/// [`into_boxed`](Self::into_boxed) makes another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitError<E> {
    /// It did not get its tokens at once, and was to be [rejected](super::RateLimitLayer::reject) then.
    #[error(transparent)]
    Refused(TryAcquireError),
    /// It did not get its tokens, and will not.
    #[error(transparent)]
    NotAcquired(AcquireError),
    /// The inner service failed.
    #[error(transparent)]
    Inner(E),
}

impl<E> RateLimitError<E> {
    /// How long it was then until a retry makes sense; see [`TryAcquireError::retry_in`]. None if it never does, or if that is for the inner
    /// service to say.
    pub fn retry_in(&self) -> Option<Duration> {
        match self {
            Self::Refused(error) => error.retry_in(),
            Self::NotAcquired(_) | Self::Inner(_) => None,
        }
    }

    /// What went wrong, boxed: a [`TryAcquireError`], an [`AcquireError`], or what the inner service said. For stacks whose errors are boxed.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_ratelimit::tower::{RateLimitError, RateLimitLayer};
    /// use selvedge_ratelimit::{Limiter, Rate, TryAcquireError};
    /// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let limiter = Limiter::new(Rate::per_hour(1).burst(1));
    /// limiter.drain();
    /// let service = ServiceBuilder::new()
    ///     .map_err(RateLimitError::into_boxed)
    ///     .layer(RateLimitLayer::new(limiter).reject())
    ///     .service(service_fn(async |number: u32| Ok::<_, BoxError>(number + 1)));
    /// let refused: BoxError = service.oneshot(1).await.unwrap_err();
    /// assert!(refused.is::<TryAcquireError>());
    /// # }
    /// ```
    pub fn into_boxed(self) -> Box<dyn Error + Send + Sync>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        match self {
            Self::Refused(error) => error.into(),
            Self::NotAcquired(error) => error.into(),
            Self::Inner(error) => error.into(),
        }
    }
}
