//! A place in the line that is not awaited: tokens for later.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use selvedge_primitives::{Anchor, coop};

use super::AcquireError;
use super::acquire::told;
use super::engine::{Ask, Engine, Grant, Place};
use super::refund::Receipt;

/// Tokens that are the holder's from a time on; from [`Limiter::reserve`](crate::Limiter::reserve).
///
/// It stands in the limiter's line as whoever waits does: behind those before it, who move it up when they give up. From the time at
/// which it is [due](Self::due_in) on, its tokens may be used: sleep until then, or await [`ready`](Self::ready). When
/// the work is done and has cost more or less than was reserved, [`commit`](Self::commit) says so.
///
/// | it is | before it is due | after |
/// |---|---|---|
/// | [cancelled](Self::cancel) | all goes back, those behind it move up | as much goes back as is not beyond the burst by now |
/// | [committed](Self::commit) | the tokens are charged, and those behind it wait for them | what was too much goes back, what was too little is charged |
/// | dropped | as cancelled | the tokens are spent |
///
/// # Examples
///
/// What a request costs is known when it was answered:
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::{Limiter, Rate, Timer};
///
/// let (timer, clock) = Timer::manual();
/// let limiter = Limiter::with_timer(Rate::per_minute(6_000).burst(1_000), timer);
///
/// let request = limiter.reserve(800)?;
/// assert_eq!(request.due_in(), Some(Duration::ZERO));
/// // It was answered with less than was thought.
/// request.commit(300);
/// assert_eq!(limiter.available(), 700);
///
/// let next = limiter.reserve(900)?;
/// assert_eq!(next.due_in(), Some(Duration::from_secs(2)));
/// clock.advance(Duration::from_secs(2));
/// next.commit(950);
/// assert_eq!(limiter.ready_in(50), Some(Duration::from_secs(1)));
/// # Ok::<_, selvedge_ratelimit::AcquireError>(())
/// ```
#[must_use = "dropped before it is due, it is cancelled"]
pub struct Reservation {
    /// The limiter.
    engine: Arc<Engine>,
    /// What was asked for.
    ask: Ask,
    /// How far it is.
    stage: Stage,
    /// Who called `reserve`.
    place: &'static Location<'static>,
}

/// How far a reservation is.
enum Stage {
    /// It stands in line, or was granted something there that it has not seen.
    Standing(Pin<Box<Place<'static>>>),
    /// It has its tokens.
    Granted(Receipt),
    /// It will not get any, for this reason; or was used up.
    Ended(Option<AcquireError>),
}

impl Reservation {
    /// Reserves on behalf of the caller.
    #[track_caller]
    pub(crate) fn new(engine: &Arc<Engine>, ask: Ask) -> Result<Self, AcquireError> {
        let engine = Arc::clone(engine);
        let place = Location::caller();
        let granted = match ask.tokens {
            0 if engine.is_closed() => {
                engine.meter().refused();
                return Err(AcquireError::Closed);
            }
            0 => Some(Receipt::default()),
            tokens => engine.take_with_receipt(tokens),
        };
        if let Some(receipt) = granted {
            engine.meter().granted(ask.tokens);
            return Ok(Self { engine, ask, stage: Stage::Granted(receipt), place });
        }
        let anchor = Anchor::shared(Arc::clone(&engine), |engine| engine.queue());
        let stage = Stage::Standing(Box::pin(Place::new(anchor)));
        let mut this = Self { engine, ask, stage, place };
        match this.poll_stage(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(this),
        }
    }

    /// How many tokens it is of.
    pub fn tokens(&self) -> u32 {
        self.ask.tokens
    }

    /// How long it takes until the tokens may be used: zero from the time on at which they may, none if that is never. It gets shorter when
    /// somebody before it gives up, and changes with the quota. None, too, if it is void: [`ready`](Self::ready) says why.
    ///
    /// Costs a walk along those before it, under the lock of the line.
    pub fn due_in(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Granted(_) => Some(Duration::ZERO),
            Stage::Ended(_) => None,
            Stage::Standing(place) => match self.engine.standing(place.as_ref(), self.ask) {
                Some(standing) => standing.due_in,
                None => place.as_ref().outcome(|grant| match grant {
                    Grant::Tokens(_) => Some(Duration::ZERO),
                    _ => None,
                })?,
            },
        }
    }

    /// Waits until it is due.
    ///
    /// # Cancel safety
    ///
    /// Safe: the place in line is kept in the reservation. So is the waker, which may be woken once after this was dropped.
    ///
    /// # Fairness
    ///
    /// First in, first out; see [`Limiter`](crate::Limiter#fairness).
    ///
    /// # Memory ordering
    ///
    /// None; see [`Limiter`](crate::Limiter#memory-ordering).
    ///
    /// # Errors
    ///
    /// [`AcquireError::Closed`], [`AcquireError::NoTimer`], and [`AcquireError::OverBurst`] when the burst was lowered, as a wait in line ends
    /// with them. The reservation is void then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use selvedge_ratelimit::{Limiter, Rate};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), selvedge_ratelimit::AcquireError> {
    /// let limiter = Limiter::new(Rate::every(Duration::from_millis(2)).burst(1));
    /// limiter.acquire(1).await?;
    /// let mut next = limiter.reserve(1)?;
    /// // Something else meanwhile.
    /// next.ready().await?;
    /// next.commit(1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Algorithm
    ///
    /// The place in line is one allocation, made by [`reserve`](crate::Limiter::reserve) if the tokens are not there.
    #[track_caller]
    pub fn ready(&mut self) -> Ready<'_> {
        Ready { reservation: self, place: Location::caller() }
    }

    /// Gives it up, and says how many tokens went back. Before it is due that is all of them; later, as many as are not beyond the burst
    /// by now ([exactness](crate::Limiter#exactness)).
    pub fn cancel(mut self) -> u32 {
        match std::mem::replace(&mut self.stage, Stage::Ended(None)) {
            Stage::Standing(mut place) => self.engine.leave(place.as_mut(), self.ask),
            Stage::Granted(receipt) => self.give_back(receipt, self.ask.tokens),
            Stage::Ended(_) => 0,
        }
    }

    /// Uses it, at the cost of `actual` tokens. What was reserved beyond that goes back, as far as [`cancel`](Self::cancel) gives it
    /// back; what is missing is a late charge, for which those who come later wait, and those in line as well.
    ///
    /// Before it is due, and if it is void, the whole cost is a late charge.
    pub fn commit(mut self, actual: u32) {
        self.look();
        let reserved = self.ask.tokens;
        let stage = std::mem::replace(&mut self.stage, Stage::Ended(None));
        let receipt = match stage {
            Stage::Granted(receipt) => Some(receipt),
            Stage::Standing(mut place) => {
                // In this order: who leaves serves those behind it, and they wait for the charge. It may have been granted since: that goes back.
                self.engine.charge(actual);
                self.engine.leave(place.as_mut(), self.ask);
                return;
            }
            Stage::Ended(_) => None,
        };
        match receipt {
            Some(receipt) if actual < reserved => {
                self.give_back(receipt, reserved - actual);
            }
            Some(_) => self.engine.charge(actual - reserved),
            None => self.engine.charge(actual),
        }
    }

    /// Gives back what was granted and is not used. How many tokens that is.
    fn give_back(&self, receipt: Receipt, tokens: u32) -> u32 {
        let back = self.engine.refund(receipt, tokens);
        self.engine.meter().returned(back);
        back
    }

    /// Sees to it that it is granted if it is due: perhaps the timer is late.
    fn look(&mut self) {
        if self.due_in() == Some(Duration::ZERO) {
            self.engine.serve_due();
            let _ = self.poll_stage(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Looks whether it was granted.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AcquireError>> {
        let place = match &mut self.stage {
            Stage::Granted(_) => return Poll::Ready(Ok(())),
            Stage::Ended(error) => {
                return Poll::Ready(Err(error.clone().unwrap_or(AcquireError::Closed)));
            }
            Stage::Standing(place) => place.as_mut(),
        };
        let grant = ready!(self.engine.poll_wait(place, cx, self.ask));
        if let Grant::Tokens(receipt) = grant {
            self.stage = Stage::Granted(receipt);
            return Poll::Ready(Ok(()));
        }
        let told = told(grant, self.ask.tokens);
        self.stage = Stage::Ended(told.clone().err());
        Poll::Ready(told)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.look();
        if let Stage::Standing(place) = &mut self.stage {
            // One that was granted meanwhile has its tokens, and they are spent.
            if self.engine.withdraw(place.as_mut(), self.ask).0.is_some() {
                self.engine.meter().waited(self.ask.tokens);
            }
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("tokens", &self.ask.tokens)
            .field("due_in", &self.due_in())
            .field("place", &format_args!("{}", self.place))
            .finish()
    }
}

/// Waits until a reservation is due; made by [`Reservation::ready`], which says what it promises.
#[must_use = "a future does nothing until it is polled"]
pub struct Ready<'r> {
    /// It.
    reservation: &'r mut Reservation,
    /// Who called `ready`.
    place: &'static Location<'static>,
}

impl Future for Ready<'_> {
    type Output = Result<(), AcquireError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let proceed = ready!(coop::poll_proceed(cx));
        let told = ready!(self.reservation.poll_stage(cx));
        proceed.made_progress();
        Poll::Ready(told)
    }
}

impl fmt::Debug for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("tokens", &self.reservation.ask.tokens)
            .field("place", &format_args!("{}", self.place))
            .finish()
    }
}
