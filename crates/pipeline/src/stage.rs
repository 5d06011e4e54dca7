//! The description of a pipeline, stage by stage.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use selvedge_primitives::Origin;

use crate::flow::Build;
use crate::run::Ready;
use crate::sink::{Collect, Fold, ForEach, Sink, TryForEach};

/// A pipeline up to some stage; from [`from_iter`](crate::from_iter),
/// [`generate`](crate::generate()) and the other sources. Nothing happens before it has a sink and is run.
#[must_use = "a pipeline does nothing until it has a sink and is run"]
pub struct Stage<S> {
    /// The description.
    pub(crate) description: S,
}

impl<S> fmt::Debug for Stage<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").finish_non_exhaustive()
    }
}

impl<S: Build> Stage<S> {
    /// A description.
    pub(crate) fn new(description: S) -> Self {
        Self { description }
    }

    /// Names the stage that was added last, for errors and the report.
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        let origin = self.description.origin();
        *origin = origin.clone().named(name);
        self
    }

    /// Ends in a function that is called for each item.
    #[track_caller]
    pub fn for_each<F>(self, f: F) -> Ready<S, ForEach<F>>
    where
        F: FnMut(S::Item) + Send + 'static,
    {
        self.into_sink(ForEach(f))
    }

    /// Ends in a function that is called for each item until it fails.
    #[track_caller]
    pub fn try_for_each<F, E>(self, f: F) -> Ready<S, TryForEach<F>>
    where
        F: FnMut(S::Item) -> Result<(), E> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.into_sink(TryForEach(f))
    }

    /// Ends in one value. It is none if the function panicked.
    #[track_caller]
    pub fn fold<A, F>(self, init: A, f: F) -> Ready<S, Fold<A, F>>
    where
        A: Send + 'static,
        F: FnMut(A, S::Item) -> A + Send + 'static,
    {
        self.into_sink(Fold { value: Some(init), f })
    }

    /// Ends in a vector of all items: as much memory as they need.
    #[track_caller]
    pub fn collect(self) -> Ready<S, Collect<S::Item>> {
        self.into_sink(Collect(Vec::new()))
    }

    /// Ends in a sink.
    #[track_caller]
    pub fn into_sink<K: Sink<S::Item>>(self, sink: K) -> Ready<S, K> {
        Ready::new(self.description, sink, Origin::here())
    }
}
