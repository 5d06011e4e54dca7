//! A pipeline so far, with its type erased: for lanes of different stages, for fields of structs.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use selvedge_primitives::Origin;

use crate::flow::{Build, Flow};
use crate::launch::Launch;
use crate::{PipelineError, Stage};

/// A flow of some type.
pub(crate) type BoxFlow<T> = Pin<Box<dyn Flow<Item = T>>>;

impl<S: Build> Stage<S> {
    /// Erases the type of the stages so far: for [branches](Stage::branch) that do different things,
    /// or to return a pipeline from a function. One allocation when it is run, and a virtual call an
    /// item.
    ///
    /// What is said of a stage itself ([`skip_failed`](Stage::skip_failed), a window, a timer) is to be
    /// said before; a name can still be given.
    ///
    /// ```
    /// use selvedge_cancel::Context;
    /// use selvedge_pipeline::{Boxed, Stage, from_iter};
    ///
    /// fn source(doubled: bool) -> Stage<Boxed<u32>> {
    ///     let numbers = from_iter(1..=3);
    ///     if doubled { numbers.map(|n| 2 * n).boxed() } else { numbers.boxed() }
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let ended = source(true).collect().run(&Context::background()).await;
    /// assert_eq!(ended.ok().unwrap(), [2, 4, 6]);
    /// # });
    /// ```
    pub fn boxed(self) -> Stage<Boxed<S::Item>> {
        Stage::new(Boxed { description: Box::new(self.description) })
    }
}

/// A pipeline so far, whatever its stages are; from [`Stage::boxed`].
pub struct Boxed<T> {
    /// The description.
    description: Box<dyn Erased<T>>,
}

impl<T> fmt::Debug for Boxed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Boxed").finish_non_exhaustive()
    }
}

/// [`Build`], as a trait object.
trait Erased<T>: Send {
    /// As [`Build::origin`].
    fn origin(&mut self) -> &mut Origin;

    /// As [`Build::build`].
    fn build(self: Box<Self>, launch: &mut Launch) -> Result<BoxFlow<T>, PipelineError>;
}

impl<S: Build> Erased<S::Item> for S {
    fn origin(&mut self) -> &mut Origin {
        Build::origin(self)
    }

    fn build(self: Box<Self>, launch: &mut Launch) -> Result<BoxFlow<S::Item>, PipelineError> {
        Ok(Box::pin(Build::build(*self, launch)?))
    }
}

impl<T: Send + 'static> Build for Boxed<T> {
    type Item = T;
    type Flow = BoxFlow<T>;

    fn origin(&mut self) -> &mut Origin {
        self.description.origin()
    }

    fn build(self, launch: &mut Launch) -> Result<BoxFlow<T>, PipelineError> {
        self.description.build(launch)
    }
}

impl<T: Send + 'static> Flow for BoxFlow<T> {
    type Item = T;

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<T, PipelineError>>> {
        self.get_mut().as_mut().poll_next(cx)
    }
}
