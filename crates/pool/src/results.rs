//! A stream of results, and what submits the jobs that it brings the results of.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use pin_project::{pin_project, pinned_drop};
use selvedge_cancel::{Context, Stopping};
use selvedge_primitives::{NextItem, coop};

use crate::engine::{Admission, Board, Call, Drive, Engine, Gate, Grant, Next, Ticket, Turn};
use crate::submit::pass_on;
use crate::{JobError, ReserveError, Slot, Tasks, Threads};

/// What became of one job; from [`Results`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Completed<R> {
    /// Which job: what [`ResultSlot::submit`] returned for it.
    pub index: u64,
    /// Where it was submitted.
    pub place: &'static Location<'static>,
    /// Its result, its panic, or the cause for which it was cancelled.
    pub result: Result<R, JobError>,
}

/// Submits jobs whose results come out of a stream; from [`Pool::results`](crate::Pool::results).
///
/// Dropping it lets the stream end after the last result. It does not keep the pool running. Share
/// it by reference or in an `Arc` to submit from several tasks.
pub struct Submitter<R, W = Threads> {
    /// The pool.
    engine: Arc<Engine>,
    /// Where the results go.
    board: Arc<Board<R>>,
    /// What a job is.
    workers: PhantomData<fn() -> W>,
}

impl<R, W> Submitter<R, W> {
    /// A submitter and its stream.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        capacity: usize,
    ) -> Result<(Self, Results<R>), ResultsError> {
        if capacity == 0 {
            return Err(ResultsError);
        }
        let board = Board::new(capacity);
        let end = Box::pin(engine.gate());
        let results =
            Results { engine: Arc::clone(engine), board: Arc::clone(&board), end: Some(end) };
        Ok((Self { engine: Arc::clone(engine), board, workers: PhantomData }, results))
    }

    /// Reserves a place for a result and a slot in the queue, waiting for both: then
    /// [`ResultSlot::submit`] does not wait and cannot be refused.
    ///
    /// Waits for the place first: while the stream is not polled and all places are taken, nothing
    /// of the pool's is held. Once the stream was dropped there is always a place, because results
    /// are not kept: jobs are run all the same, as with a handle that is dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future gives up the place in either line, and what was granted in that
    /// moment goes to the next.
    ///
    /// # Fairness
    ///
    /// Places are given in the order in which the futures were first polled. For the slot it stands
    /// in one line with all who submit to the pool.
    ///
    /// # Memory ordering
    ///
    /// What was done before the future was polled is visible to the job.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] with the cause, when the pool is stopping, was aborted, or has ended; also
    /// while it waits for the stream.
    ///
    /// # Panics
    ///
    /// When it is polled again after it completed.
    #[track_caller]
    pub fn reserve(&self) -> ReserveResult<'_, R, W> {
        ReserveResult {
            submitter: self,
            turn: self.board.line(),
            stopping: self.engine.context().stopping(),
            line: self.engine.line(),
            stage: Stage::Place,
        }
    }

    /// Whether the stream was dropped: results are not kept any more.
    pub fn is_detached(&self) -> bool {
        self.board.is_detached()
    }
}

impl<R, W> Drop for Submitter<R, W> {
    fn drop(&mut self) {
        self.board.close();
    }
}

impl<R, W> fmt::Debug for Submitter<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitter")
            .field("pool", self.engine.origin())
            .field("detached", &self.is_detached())
            .finish()
    }
}

/// Reserves a place for a result and a slot in the queue; from [`Submitter::reserve`], which
/// documents it.
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct ReserveResult<'a, R, W = Threads> {
    /// The pool and the board.
    submitter: &'a Submitter<R, W>,
    /// The place in the line for a place.
    #[pin]
    turn: Turn<'a, R>,
    /// Ends the wait for a place: the board knows nothing of the pool's context.
    #[pin]
    stopping: Stopping<'a>,
    /// The place in the line for a slot.
    #[pin]
    line: Admission<'a>,
    /// How far it is.
    stage: Stage,
}

/// How far a reservation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It waits for a place.
    Place,
    /// It has a place, and waits for a slot.
    Slot,
    /// It has no place, and is to be refused.
    Stopped,
    /// It has completed.
    Done,
}

impl<R, W> Future for ReserveResult<'_, R, W> {
    type Output = Result<ResultSlot<R, W>, ReserveError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Submitter { engine, board, .. } = this.submitter;
        assert!(*this.stage != Stage::Done, "`ReserveResult` polled after it completed");
        let proceed = ready!(coop::poll_proceed(cx));
        if *this.stage == Stage::Place {
            *this.stage = match board.poll_place(this.turn.as_mut(), cx) {
                Poll::Ready(()) => Stage::Slot,
                Poll::Pending => {
                    let _ = ready!(this.stopping.poll(cx));
                    match board.leave_line(this.turn) {
                        true => Stage::Slot,
                        false => Stage::Stopped,
                    }
                }
            };
        }
        let grant = ready!(engine.poll_admission(this.line, cx, || None));
        proceed.made_progress();
        let has_place = *this.stage == Stage::Slot;
        *this.stage = Stage::Done;
        if let Grant::Slot = grant {
            let slot = Slot::new(Arc::clone(engine));
            return Poll::Ready(Ok(ResultSlot { slot: Some(slot), board: Arc::clone(board) }));
        }
        if has_place {
            board.release();
        }
        Poll::Ready(Err(ReserveError::new(engine)))
    }
}

#[pinned_drop]
impl<R, W> PinnedDrop for ReserveResult<'_, R, W> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        pass_on(&this.submitter.engine, this.line);
        let board = &this.submitter.board;
        if board.leave_line(this.turn) || *this.stage == Stage::Slot {
            board.release();
        }
    }
}

impl<R, W> fmt::Debug for ReserveResult<'_, R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReserveResult").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// Room for one job and a place for its result; from [`Submitter::reserve`].
///
/// It is owned, and may outlive the submitter. While it exists it counts against both bounds: the
/// stream does not end, and a pool that is stopping waits for it. Use it or drop it.
#[must_use = "a slot that is not used keeps its places until it is dropped"]
pub struct ResultSlot<R, W = Threads> {
    /// The slot in the queue; none once it was used.
    slot: Option<Slot<W>>,
    /// Where the result goes.
    board: Arc<Board<R>>,
}

impl<R, W> ResultSlot<R, W> {
    /// Takes the two apart, to be used.
    fn open(mut self, place: &'static Location<'static>) -> (Slot<W>, Ticket<R>, u64) {
        let ticket = self.board.ticket(place);
        let index = ticket.index();
        (self.slot.take().expect("a slot is used once"), ticket, index)
    }
}

impl<R: Send + 'static> ResultSlot<R, Threads> {
    /// Puts a job into the queue; its result comes out of the stream. Returns the index under which
    /// it does, counted from zero in the order of these calls. Does not wait, and loses nothing.
    ///
    /// While the pool is only stopping, the job is run like any other. After an abort it is dropped
    /// here, and the stream brings [`JobError::Cancelled`].
    ///
    /// # Memory ordering
    ///
    /// What was done before this call is visible to the job, and what the job did to whoever has
    /// its result.
    #[track_caller]
    pub fn submit(self, job: impl FnOnce(&Context) -> R + Send + 'static) -> u64 {
        let place = Location::caller();
        let (slot, ticket, index) = self.open(place);
        slot.enqueue(Call::new(job, ticket, place));
        index
    }
}

impl<R: Send + 'static> ResultSlot<R, Tasks> {
    /// Puts a job into the queue; its result comes out of the stream. As
    /// [the one for threads](ResultSlot::<R, Threads>::submit), which documents it.
    #[track_caller]
    pub fn submit<F, T>(self, job: F) -> u64
    where
        F: FnOnce(Context) -> T + Send + 'static,
        T: Future<Output = R> + Send + 'static,
    {
        let place = Location::caller();
        let (slot, ticket, index) = self.open(place);
        slot.enqueue(Drive::new(job, ticket, place));
        index
    }
}

impl<R, W> Drop for ResultSlot<R, W> {
    fn drop(&mut self) {
        // Unused: the slot in the queue goes first, so that an end of the pool does not wait for it.
        if let Some(slot) = self.slot.take() {
            drop(slot);
            self.board.release();
        }
    }
}

impl<R, W> fmt::Debug for ResultSlot<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultSlot").finish_non_exhaustive()
    }
}

/// The results of the jobs of one [`Submitter`], in the order in which they ended: a stream; from
/// [`Pool::results`](crate::Pool::results).
///
/// It ends when the submitter was dropped, or the pool has ended, and every job that was submitted
/// has brought its result; a [`ResultSlot`] that is held elsewhere keeps it from ending, and so does a
/// [`ReserveResult`] that was given a place and is neither polled nor dropped. Dropping it detaches
/// the jobs: they run all the same, are counted all the same, and their results are dropped, on the
/// worker unless they were there already. Panics of these drops are caught.
///
/// # Cancel safety
///
/// Safe: a result is taken in the poll that returns it.
///
/// # Fairness
///
/// Jobs that ended first come first. The place of a result that is taken goes to the one who has
/// waited longest for it.
///
/// # Memory ordering
///
/// What the job did is visible to whoever has its result; the ledger has counted it by then.
#[must_use = "streams do nothing unless polled; dropping it detaches the jobs"]
pub struct Results<R> {
    /// The pool.
    engine: Arc<Engine>,
    /// Where the results come from.
    board: Arc<Board<R>>,
    /// Waits for the pool's end; none once that was seen.
    end: Option<Pin<Box<Gate>>>,
}

impl<R> Results<R> {
    /// The result of the job that ends next; none at the end. See [`Results`].
    #[track_caller]
    pub const fn next(&mut self) -> NextItem<'_, Self> {
        NextItem::new(self)
    }
}

impl<R> Stream for Results<R> {
    type Item = Completed<R>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Completed<R>>> {
        let this = &mut *self;
        let proceed = ready!(coop::poll_proceed(cx));
        let next = loop {
            match (this.board.next(cx), &mut this.end) {
                (Next::Result(completed), _) => break Some(completed),
                (Next::Ended, _) | (Next::Quiet, None) => break None,
                (Next::Pending, None) => return Poll::Pending,
                (Next::Pending | Next::Quiet, Some(end)) => {
                    ready!(this.engine.poll_ended(end.as_mut(), cx));
                    // What completed before the end is there now.
                    this.end = None;
                }
            }
        };
        proceed.made_progress();
        Poll::Ready(next)
    }
}

impl<R> Drop for Results<R> {
    fn drop(&mut self) {
        self.board.detach();
    }
}

impl<R> fmt::Debug for Results<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("pool", self.engine.origin()).finish_non_exhaustive()
    }
}

/// No stream was made: without a place for a result, no job could be submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stream of results not made: its capacity would be 0, ask for at least 1")]
#[non_exhaustive]
pub struct ResultsError;
