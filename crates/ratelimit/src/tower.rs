//! Limits as middleware: a [layer](RateLimitLayer) and a [service](RateLimit) of tower, for requests of any type.
//!
//! | too much is | the layer | what the service does |
//! |---|---|---|
//! | held back at the source | [`RateLimitLayer::new`]`(limiter)` | is not ready until it has a token |
//! | delayed | [`.delay()`](RateLimitLayer::delay) | is ready at once; the call waits in line |
//! | refused | [`.reject()`](RateLimitLayer::reject) | the call answers at once, with [when to retry](RateLimitError::retry_in) |
//! | delayed, by key | [`RateLimitLayer::keyed`]`(limits, key)` | the call waits in the line of its key |
//! | refused, by key | the same, with [`.reject()`](RateLimitLayer::reject) | the call answers at once |
//! | refused with a response | [`.reject().reject_with(answer)`](RateLimitLayer::reject_with) | the call answers that, and errors are the inner service's |
//!
//! Each of them can [weigh](RateLimitLayer::weigh) its requests. A client wants its requests held back, or delayed; a server refuses them.
//! By key a service cannot be held back: until there is a request nobody knows its key.
//!
//! Services that are cloned share the limit. What each clone holds is its own: its place in the line, and the token for its next call.
//! All of them are woken in their turn, however many wait.
//!
//! # Cancel safety
//!
//! Safe. A service that is dropped while it is not ready leaves the line; one that was ready and is not called gives its token back, as far as it can
//! be ([exactness](crate::Limiter#exactness)). A call that is dropped while it waits leaves the line. Given up later, it has spent its tokens.
//!
//! # Fairness
//!
//! Services stand in the limiter's line with all others: first in, first out.
//!
//! # Errors
//!
//! [`RateLimitError`]. The inner service's own error is in there as it was: nobody has to box it.
//!
//! # Examples
//!
//! A server that takes five requests a minute of each client, and tells the others when to come again:
//!
//! ```
//! use std::convert::Infallible;
//! use std::sync::Arc;
//! use selvedge_ratelimit::http::RetryAfter;
//! use selvedge_ratelimit::tower::RateLimitLayer;
//! use selvedge_ratelimit::{Keyed, Rate, TryAcquireError};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! struct Request { client: String }
//!
//! #[derive(Debug, PartialEq)]
//! struct Response { status: u16, headers: Vec<(&'static str, String)> }
//!
//! async fn answer(_: Request) -> Result<Response, Infallible> {
//!     Ok(Response { status: 200, headers: vec![] })
//! }
//!
//! fn too_many(_: Request, refused: TryAcquireError) -> Response {
//!     // When: or nothing, of what could not be served at any time.
//!     let wait = refused.retry_in().map(|wait| (RetryAfter::NAME, RetryAfter::new(wait).to_string()));
//!     Response { status: 429, headers: wait.into_iter().collect() }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Infallible> {
//! let clients = Arc::new(Keyed::new(Rate::per_minute(5).burst(1), 100_000));
//! let limit = RateLimitLayer::keyed(clients, |request: &Request| request.client.clone());
//! let mut server =
//!     ServiceBuilder::new().layer(limit.reject().reject_with(too_many)).service_fn(answer);
//!
//! let mut ask = async |client: &str| {
//!     server.ready().await?.call(Request { client: client.to_owned() }).await
//! };
//! assert_eq!(ask("alice").await?.status, 200);
//! assert_eq!(
//!     ask("alice").await?,
//!     Response { status: 429, headers: vec![("Retry-After", "12".to_owned())] },
//! );
//! assert_eq!(ask("bob").await?.status, 200);
//! # Ok(())
//! # }
//! ```

mod error;
mod future;
mod layer;
mod mode;
mod service;
mod tokens;

pub use error::RateLimitError;
pub use future::{Admitted, Answered, Delayed};
pub use layer::RateLimitLayer;
pub use mode::{BackPressure, Delay, Reject, RejectWith};
pub use service::RateLimit;
pub use tokens::{ByKey, One, Tokens, Weigh};
