//! Where items go.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::task::{Context, Poll};

/// Takes the items of a pipeline.
///
/// Room is reserved before an item is pulled, so an item never stands without a place: whatever
/// ends the pipeline, an item is either still upstream or in the sink. It also means that a sink
/// without room does not see the end of the source: the run completes once there is room, or when
/// its context is cancelled.
///
/// # Examples
///
/// A sink that keeps the last item:
///
/// ```
/// use std::task::{Context, Poll};
/// use selvedge_pipeline::Sink;
///
/// struct Last(Option<u32>);
///
/// impl Sink<u32> for Last {
///     type Error = std::convert::Infallible;
///     type Output = Option<u32>;
///
///     fn poll_reserve(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
///         Poll::Ready(Ok(()))
///     }
///     fn accept(&mut self, item: u32) -> Result<(), Self::Error> {
///         self.0 = Some(item);
///         Ok(())
///     }
///     fn finish(self) -> Option<u32> {
///         self.0
///     }
/// }
/// ```
pub trait Sink<T>: Send + 'static {
    /// Why it takes nothing more.
    type Error: Into<Box<dyn Error + Send + Sync>>;
    /// What it leaves at the end.
    type Output: Send + 'static;

    /// Ready when there is room for one item, which is then reserved. May be called again while it
    /// is reserved.
    ///
    /// # Errors
    ///
    /// When nothing more will be taken; the pipeline then ends.
    fn poll_reserve(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;

    /// Takes an item into the room that was reserved. Does not wait.
    ///
    /// # Errors
    ///
    /// When the item could not be taken; the pipeline then ends.
    fn accept(&mut self, item: T) -> Result<(), Self::Error>;

    /// How many of the items that it took have not got where they were to go, and will not. Asked once,
    /// before [`finish`](Self::finish); the report counts them as left. None for a sink that is done
    /// with an item when it takes it.
    fn undelivered(&self) -> usize {
        0
    }

    /// The end, however it came: also after an error or a panic of this sink. Called when every task
    /// of the run has ended.
    fn finish(self) -> Self::Output;
}

/// Calls a function for each item; from [`Stage::for_each`](crate::Stage::for_each).
pub struct ForEach<F>(
    /// The function.
    pub(crate) F,
);

impl<T, F: FnMut(T) + Send + 'static> Sink<T> for ForEach<F> {
    type Error = Infallible;
    type Output = ();

    fn poll_reserve(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn accept(&mut self, item: T) -> Result<(), Infallible> {
        (self.0)(item);
        Ok(())
    }

    fn finish(self) {}
}

/// Calls a function for each item until it fails; from
/// [`Stage::try_for_each`](crate::Stage::try_for_each).
pub struct TryForEach<F>(
    /// The function.
    pub(crate) F,
);

impl<T, E, F> Sink<T> for TryForEach<F>
where
    F: FnMut(T) -> Result<(), E> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    type Error = E;
    type Output = ();

    fn poll_reserve(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn accept(&mut self, item: T) -> Result<(), E> {
        (self.0)(item)
    }

    fn finish(self) {}
}

/// Folds the items into one value; from [`Stage::fold`](crate::Stage::fold).
pub struct Fold<A, F> {
    /// The value so far; taken while the function runs.
    pub(crate) value: Option<A>,
    /// The function.
    pub(crate) f: F,
}

impl<T, A, F> Sink<T> for Fold<A, F>
where
    A: Send + 'static,
    F: FnMut(A, T) -> A + Send + 'static,
{
    type Error = Infallible;
    type Output = Option<A>;

    fn poll_reserve(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn accept(&mut self, item: T) -> Result<(), Infallible> {
        if let Some(value) = self.value.take() {
            self.value = Some((self.f)(value, item));
        }
        Ok(())
    }

    fn finish(self) -> Option<A> {
        self.value
    }
}

/// Collects the items; from [`Stage::collect`](crate::Stage::collect).
pub struct Collect<T>(
    /// The items so far.
    pub(crate) Vec<T>,
);

impl<T: Send + 'static> Sink<T> for Collect<T> {
    type Error = Infallible;
    type Output = Vec<T>;

    fn poll_reserve(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn accept(&mut self, item: T) -> Result<(), Infallible> {
        self.0.push(item);
        Ok(())
    }

    fn finish(self) -> Vec<T> {
        self.0
    }
}

impl<F> fmt::Debug for ForEach<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForEach")
    }
}

impl<F> fmt::Debug for TryForEach<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TryForEach")
    }
}

impl<A, F> fmt::Debug for Fold<A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fold")
    }
}

impl<T> fmt::Debug for Collect<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collect({})", self.0.len())
    }
}
