//! Shields: a bounded section in which a cancel from outside is a stop.

use std::fmt;
use std::time::{Duration, Instant};

use selvedge_primitives::Origin;
use selvedge_primitives::time::Timer;

use crate::tree::Handle;
use crate::{Context, DeadlineError, Run};

/// Carried by the contexts inside a shield: no shield inside outlasts it.
struct ShieldEnd {
    /// When the shield's time is over.
    at: Instant,
    /// On whose clock.
    timer: Timer,
}

impl fmt::Debug for ShieldEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShieldEnd").finish_non_exhaustive()
    }
}

impl Context {
    /// Runs a piece of cleaning up that a cancel of this context does not end before `budget` is over.
    ///
    /// `work` is given a context of its own, below this one (apart, if this one is cancelled already). A cancel of this
    /// context, or of one above, is a stop there: [`is_stopping`](Self::is_stopping) tells at once,
    /// [`is_cancelled`](Self::is_cancelled) when the budget is over. So is a deadline that passes meanwhile, when its timer
    /// tells (which is set at once). That holds for every context that is made from it as well. If this context has been
    /// cancelled already, which is what cleaning up is mostly for, the shielded context begins stopping.
    ///
    /// The budget is counted from this call, on the clock that [`with_timeout`](Self::with_timeout) would use, and
    /// nothing changes it later. It limits what a cancel is kept waiting, and not the work: as long as nobody cancels,
    /// work goes on after it, as it would in [`run`](Self::run). Inside a shield another one ends with it at the
    /// latest.
    ///
    /// What is returned is the [`Run`] of the future that `work` returns, in the shielded context. It masks what the contexts
    /// inside are told, and is a future like others: whoever drops it (a task that is aborted, an outer
    /// [`run`](Self::run) that is cancelled) drops the work. So put it where nothing around it is dropped by the cancel: spawn
    /// it as a task of its own, or begin it after the outer `run` has returned.
    ///
    /// Inside a shield that begins stopping nothing new is admitted, as below any context that is to finish:
    /// [`enter`](Self::enter) before the cancel, if the cleaning up is to be waited for. A deadline that is made inside then
    /// ends on time, and the cause stays the first.
    ///
    /// # Cancel safety
    ///
    /// As safe as the work.
    ///
    /// # Fairness
    ///
    /// As [`run`](Self::run).
    ///
    /// # Memory ordering
    ///
    /// As [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// [`DeadlineError::Timer`], as with [`with_timeout`](Self::with_timeout); [`DeadlineError::Endless`] for a budget
    /// that is too long for the clock, unless this is inside a shield: what never ends is no budget.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use selvedge_cancel::Context;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let (ctx, canceller) = Context::background().child();
    /// canceller.cancel();
    ///
    /// // `ctx.run(flush())` would not even begin.
    /// let flushed = ctx.shield(Duration::from_secs(5), |ctx| async move {
    ///     assert!(ctx.is_stopping() && !ctx.is_cancelled());
    ///     ctx.run(async { "flushed" }).await
    /// });
    /// assert_eq!(flushed.unwrap().await.unwrap().unwrap(), "flushed");
    /// # });
    /// ```
    #[track_caller]
    pub fn shield<F, W>(&self, budget: Duration, work: W) -> Result<Run<F>, DeadlineError>
    where
        F: Future,
        W: FnOnce(Context) -> F,
    {
        let origin = Origin::here();
        let timer = match self.timer() {
            Some(timer) => timer,
            None => Timer::ambient()?,
        };
        let now = timer.now();
        let outer = self.value::<ShieldEnd>().and_then(|outer| {
            let left = outer.at.saturating_duration_since(outer.timer.now());
            now.checked_add(left)
        });
        let own = now.checked_add(budget);
        let at = match (own, outer) {
            (Some(own), Some(outer)) => own.min(outer),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return Err(DeadlineError::Endless),
        };
        let handle = Handle::shielded(self.handle(), origin, at, timer.clone());
        let inside = self.beside(handle.clone()).with_value(ShieldEnd { at, timer });
        Ok(Run::new(Some(handle), work(inside)))
    }
}
