//! Names and creation places: what every primitive, pool, stage and task carries.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;

/// Who this is and where it was made. Costs a pointer for the place and three words for the name;
/// a `&'static str` name allocates nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    /// Given by the user, or none.
    name: Option<Cow<'static, str>>,
    /// The first caller outside our crates.
    place: &'static Location<'static>,
}

impl Origin {
    /// Made by the caller, without a name.
    #[track_caller]
    pub const fn here() -> Self {
        Self { name: None, place: Location::caller() }
    }

    /// The same place under a name.
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: Some(name.into()), place: self.place }
    }

    /// The name, if one was given.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Name and place, for an owner that keeps them apart.
    pub fn into_parts(self) -> (Option<Cow<'static, str>>, &'static Location<'static>) {
        (self.name, self.place)
    }

    /// Where it was made.
    pub const fn place(&self) -> &'static Location<'static> {
        self.place
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.place),
            None => write!(f, "made at {}", self.place),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_knows_its_caller_and_its_name() {
        let line = line!() + 1;
        let origin = Origin::here().named("digest");
        assert_eq!(origin.name(), Some("digest"));
        assert_eq!(origin.place().line(), line);
        assert!(origin.to_string().starts_with("digest ("));
    }
}
