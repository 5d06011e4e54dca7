//! A name that is copied under a lock: to clone it allocates nothing.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

/// See the module's page.
#[derive(Clone)]
pub(crate) enum Name {
    /// Of the program's text.
    Static(&'static str),
    /// Made for the occasion.
    Shared(Arc<str>),
}

impl From<Cow<'static, str>> for Name {
    fn from(name: Cow<'static, str>) -> Self {
        match name {
            Cow::Borrowed(name) => Self::Static(name),
            Cow::Owned(name) => Self::Shared(name.into()),
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Static(name) => name,
            Self::Shared(name) => name,
        }
    }
}
