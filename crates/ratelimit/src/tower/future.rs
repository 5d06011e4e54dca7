//! The futures of calls.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::coop;
use tower_service::Service;

use super::RateLimitError;
use crate::TryAcquireError;

/// A call of the inner service, if there is one.
#[pin_project]
struct Called<F> {
    /// What it does.
    #[pin]
    future: Option<F>,
    /// Whether it was polled.
    begun: bool,
}

impl<F> Called<F> {
    /// What the inner service does, or nothing.
    fn new(future: Option<F>) -> Self {
        Self { future, begun: false }
    }
}

impl<F: Future> Called<F> {
    /// What comes of the call; `refused` says what, if there is none. Takes part in the cooperative budget once.
    fn poll_called<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        told: impl FnOnce(F::Output) -> T,
        refused: impl FnOnce() -> T,
    ) -> Poll<T> {
        let this = self.project();
        if !*this.begun {
            ready!(coop::poll_proceed(cx)).made_progress();
            *this.begun = true;
        }
        match this.future.as_pin_mut() {
            Some(future) => future.poll(cx).map(told),
            None => Poll::Ready(refused()),
        }
    }
}

/// Answers a request that has its tokens, or was refused them; from a service with [back-pressure](super::RateLimitLayer::new), or one that
/// [rejects](super::RateLimitLayer::reject).
///
/// Takes part in tokio's cooperative budget, so that a loop of calls that are answered at once yields.
///
/// # Cancel safety
///
/// That of the inner service's future. The tokens are spent.
///
/// # Errors
///
/// [`RateLimitError::Refused`], at once, and [`RateLimitError::Inner`].
///
/// # Panics
///
/// When it is polled after it was refused.
#[pin_project]
#[must_use = "a future does nothing until it is polled"]
pub struct Admitted<F> {
    /// What the inner service does.
    #[pin]
    called: Called<F>,
    /// Why it does not.
    refused: Option<TryAcquireError>,
}

impl<F> Admitted<F> {
    /// The inner service was called.
    pub(super) fn new(called: F) -> Self {
        Self { called: Called::new(Some(called)), refused: None }
    }

    /// It was not.
    pub(super) fn refused(error: TryAcquireError) -> Self {
        Self { called: Called::new(None), refused: Some(error) }
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Future for Admitted<F> {
    type Output = Result<T, RateLimitError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let told = |told: F::Output| told.map_err(RateLimitError::Inner);
        this.called.poll_called(cx, told, || {
            let error = this.refused.take().expect("`Admitted` polled after it completed");
            Err(RateLimitError::Refused(error))
        })
    }
}

impl<F> fmt::Debug for Admitted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("refused", &self.refused).finish_non_exhaustive()
    }
}

/// Answers a request that has its tokens, or has the answer of who refused them; from a service that
/// [rejects with an answer](super::RateLimitLayer::reject_with).
///
/// Takes part in tokio's cooperative budget, as [`Admitted`] does.
///
/// # Cancel safety
///
/// That of the inner service's future. The tokens are spent.
///
/// # Errors
///
/// The inner service's own.
///
/// # Panics
///
/// When it is polled after it was refused.
#[pin_project]
#[must_use = "a future does nothing until it is polled"]
pub struct Answered<F, T> {
    /// What the inner service does.
    #[pin]
    called: Called<F>,
    /// What is said in its place.
    answer: Option<T>,
}

impl<F, T> Answered<F, T> {
    /// The inner service was called.
    pub(super) fn new(called: F) -> Self {
        Self { called: Called::new(Some(called)), answer: None }
    }

    /// It was not.
    pub(super) fn refused(answer: T) -> Self {
        Self { called: Called::new(None), answer: Some(answer) }
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Future for Answered<F, T> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.called.poll_called(
            cx,
            |told| told,
            || Ok(this.answer.take().expect("`Answered` polled after it completed")),
        )
    }
}

impl<F, T> fmt::Debug for Answered<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered")
            .field("refused", &self.called.future.is_none())
            .finish_non_exhaustive()
    }
}

/// Answers a request when it has its tokens; from a service that [delays](super::RateLimitLayer::delay), or is
/// [keyed](super::RateLimitLayer::keyed).
///
/// # Cancel safety
///
/// Safe. Dropped while it waits for its tokens, it takes none, and whoever waited behind it moves up. Dropped while it waits for the inner service to
/// be ready, or while that answers, it has spent them.
///
/// # Fairness
///
/// First in, first out, in the line of its limiter or its key.
///
/// # Memory ordering
///
/// None; see [`Limiter`](crate::Limiter#memory-ordering).
///
/// # Errors
///
/// [`RateLimitError::NotAcquired`] as [`Limiter::acquire`](crate::Limiter::acquire) and [`Keyed::acquire`](crate::Keyed::acquire) have it, and
/// [`RateLimitError::Inner`].
///
/// # Panics
///
/// When it is polled after it was ready.
///
/// # Algorithm
///
/// What [`Limiter::acquire_owned`](crate::Limiter::acquire_owned) costs, or [`Keyed::acquire_owned`](crate::Keyed::acquire_owned), and a clone of the
/// inner service.
#[pin_project]
#[must_use = "a future does nothing, and stands in no line, until it is polled"]
pub struct Delayed<S: Service<R>, R, A> {
    /// How far it is.
    #[pin]
    stage: Stage<A, S::Future>,
    /// What is to be called, until it is.
    call: Option<(S, R)>,
}

/// How far a call is.
#[pin_project(project = Staged)]
enum Stage<A, F> {
    /// It waits for its tokens.
    Waits(#[pin] A),
    /// It has them, and the inner service is to be ready.
    HasTokens,
    /// The inner service was called.
    Called(#[pin] F),
}

impl<S: Service<R>, R, A> Delayed<S, R, A> {
    /// `request` for `service`, after `wait`.
    pub(super) fn new(wait: A, service: S, request: R) -> Self {
        Self { stage: Stage::Waits(wait), call: Some((service, request)) }
    }
}

impl<S, R, A> Future for Delayed<S, R, A>
where
    S: Service<R>,
    A: Future<Output = Result<(), crate::AcquireError>>,
{
    type Output = Result<S::Response, RateLimitError<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.stage.as_mut().project() {
                Staged::Waits(wait) => {
                    // It takes part in the cooperative budget, so a loop of calls yields here.
                    ready!(wait.poll(cx)).map_err(RateLimitError::NotAcquired)?;
                    Stage::HasTokens
                }
                Staged::HasTokens => {
                    let (service, _) = this.call.as_mut().expect("it is called once");
                    ready!(service.poll_ready(cx)).map_err(RateLimitError::Inner)?;
                    let (mut service, request) = this.call.take().expect("seen above");
                    Stage::Called(service.call(request))
                }
                Staged::Called(called) => return called.poll(cx).map_err(RateLimitError::Inner),
            };
            this.stage.set(next);
        }
    }
}

impl<S: Service<R>, R, A> fmt::Debug for Delayed<S, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.stage {
            Stage::Waits(_) => "waits for its tokens",
            Stage::HasTokens => "has its tokens",
            Stage::Called(_) => "called",
        };
        f.debug_struct("Delayed").field("state", &format_args!("{state}")).finish_non_exhaustive()
    }
}
