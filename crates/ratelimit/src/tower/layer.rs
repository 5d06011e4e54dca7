//! The layer: what is said about a limit, before there is a service.

use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::{BackPressure, ByKey, Delay, One, RateLimit, Reject, RejectWith};
use crate::{Keyed, Limiter, TryAcquireError};

/// Limits the requests of a service; see [the module](super) for a chooser.
///
/// # Examples
///
/// A client of somebody who takes fifty requests a second, and a hundred points of an upload at once:
///
/// ```
/// use selvedge_ratelimit::tower::RateLimitLayer;
/// use selvedge_ratelimit::{Limiter, Rate};
/// use tower::{Layer, Service, ServiceExt, service_fn};
///
/// enum Request { Read(u32), Upload(Vec<u8>) }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = Limiter::new(Rate::per_second(50).burst(100));
/// let layer = RateLimitLayer::new(limiter.clone()).delay().weigh(|request: &Request| match request {
///     Request::Read(_) => 1,
///     Request::Upload(bytes) => 1 + bytes.len() as u32 / 1024,
/// });
/// let mut client = layer.layer(service_fn(async |request: Request| match request {
///     Request::Read(page) => Ok::<_, std::io::Error>(page),
///     Request::Upload(_) => Ok(0),
/// }));
/// client.ready().await?.call(Request::Read(7)).await?;
/// client.ready().await?.call(Request::Upload(vec![0; 9 * 1024])).await?;
/// assert!(limiter.available() <= 100 - 1 - 10);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "it limits nothing until it is laid on a service"]
pub struct RateLimitLayer<M = BackPressure, W = One> {
    /// What becomes of a request that is too much.
    mode: M,
    /// How many tokens it takes.
    weigh: W,
}

impl RateLimitLayer {
    /// One limiter for all requests: the service is ready when the inner one is, and then when it has a token.
    ///
    /// The token comes last, so that it is used when it was granted. A service that was ready keeps it until it is called, dropped or
    /// weighs nothing. Ready and not called, it keeps it from others: hold on to no more services that are ready than are about to be called.
    ///
    /// Until there is a request nobody knows its [weight](Self::weigh): what it weighs beyond one is charged late
    /// ([`Limiter::charge`]), and those who come next wait for it; so more than the burst is no error here.
    ///
    /// What ends a wait in line is an error of being ready ([`RateLimitError::NotAcquired`](super::RateLimitError::NotAcquired)): the limiter is closed,
    /// as many wait as may (a service that waits to be ready is one of them), or its timer is gone. Asked again, the service stands in line again.
    ///
    /// # Panics
    ///
    /// The service panics when it is called without having been ready for it.
    pub fn new(limiter: Limiter) -> Self {
        Self { mode: BackPressure::new(limiter), weigh: One }
    }

    /// A limit for each key: a call waits in the line of its request's key. The services share `keyed` with whoever else has it, so
    /// that its quotas can be changed while they run.
    ///
    /// The service is always ready. A call waits for its tokens first, then for a clone of the inner service to be ready: keys hold up nobody else.
    /// How many may wait for a key is to be said with [`KeyedBuilder::max_waiting`](crate::KeyedBuilder::max_waiting).
    pub fn keyed<R, K, F, H>(
        keyed: Arc<Keyed<K, H>>,
        key: F,
    ) -> RateLimitLayer<Delay<ByKey<K, F, H>>>
    where
        F: Fn(&R) -> K,
    {
        RateLimitLayer { mode: Delay(ByKey::new(keyed, key)), weigh: One }
    }
}

impl<W> RateLimitLayer<BackPressure, W> {
    /// The service is always ready, and a call waits in line: first for all its tokens, whatever it [weighs](Self::weigh), then for a clone of the
    /// inner service to be ready. More than the burst is an error ([`AcquireError::OverBurst`](crate::AcquireError::OverBurst)).
    ///
    /// How many may wait is to be said with [`LimiterBuilder::max_waiting`](crate::LimiterBuilder::max_waiting).
    pub fn delay(self) -> RateLimitLayer<Delay<Limiter>, W> {
        RateLimitLayer { mode: Delay(self.mode.limiter), weigh: self.weigh }
    }

    /// The service is ready when the inner one is. A call that does not find all its tokens answers so at once, and the inner service does not
    /// hear of it.
    pub fn reject(self) -> RateLimitLayer<Reject<Limiter>, W> {
        RateLimitLayer { mode: Reject(self.mode.limiter), weigh: self.weigh }
    }
}

impl<T, W> RateLimitLayer<Delay<T>, W> {
    /// The service is ready when the inner one is. A call that does not find all its tokens answers so at once, and the inner service does not
    /// hear of it.
    pub fn reject(self) -> RateLimitLayer<Reject<T>, W> {
        RateLimitLayer { mode: Reject(self.mode.0), weigh: self.weigh }
    }
}

impl<T, W> RateLimitLayer<Reject<T>, W> {
    /// `answer` answers the calls that are refused, in the place of the inner service: with a status of 429, say. Errors are the inner service's
    /// own then, and nothing wraps them.
    pub fn reject_with<R, A, F>(self, answer: F) -> RateLimitLayer<RejectWith<T, F>, W>
    where
        F: Fn(R, TryAcquireError) -> A,
    {
        let mode = RejectWith { tokens: self.mode.0, answer };
        RateLimitLayer { mode, weigh: self.weigh }
    }
}

impl<M> RateLimitLayer<M> {
    /// A request takes as many tokens as `weigh` says. One that weighs nothing takes none, and waits for nobody; with
    /// [back-pressure](RateLimitLayer::new) it waits for the token of the next one, since nobody knows before.
    ///
    /// If it panics, so does the call, and nothing is taken.
    pub fn weigh<R, F: Fn(&R) -> u32>(self, weigh: F) -> RateLimitLayer<M, F> {
        RateLimitLayer { mode: self.mode, weigh }
    }
}

impl<S, M: Clone, W: Clone> Layer<S> for RateLimitLayer<M, W> {
    type Service = RateLimit<S, M, W>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit::new(inner, self.mode.clone(), self.weigh.clone())
    }
}

impl<M: fmt::Debug, W> fmt::Debug for RateLimitLayer<M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer").field("mode", &self.mode).finish_non_exhaustive()
    }
}
