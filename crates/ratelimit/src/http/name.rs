//! The name of a policy: a string of structured fields (RFC 9651, section 3.3.3).

use std::fmt;

/// What a policy is called in the fields `RateLimit-Policy` and `RateLimit`: a character or more, each of
/// them printable ASCII. It displays in quotes; quotes and backslashes in it are escaped.
///
/// # Examples
///
/// ```
/// use selvedge_ratelimit::http::{PolicyName, PolicyNameError};
///
/// assert_eq!(PolicyName::new("per user")?.to_string(), "\"per user\"");
/// assert_eq!(PolicyName::new(r#"the "slow" one"#)?.to_string(), r#""the \"slow\" one""#);
/// assert_eq!(PolicyName::new("r\u{e9}gime"), Err(PolicyNameError::NotPrintable { at: 1 }));
/// # Ok::<_, PolicyNameError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyName<'a> {
    /// Printable.
    name: &'a str,
}

/// A policy was not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyNameError {
    /// There is no name.
    #[error("policy not named: the name is empty, give it a character or more")]
    Empty,
    /// A header field cannot have that in a string.
    #[error(
        "policy not named: byte {at} of the name is not printable ASCII, use letters, digits, spaces and signs"
    )]
    NotPrintable {
        /// Which byte of the name, from 0.
        at: usize,
    },
}

impl PolicyName<'static> {
    /// `default`, for a server that has one policy.
    pub const DEFAULT: Self = Self { name: "default" };
}

impl<'a> PolicyName<'a> {
    /// A name.
    ///
    /// # Errors
    ///
    /// [`Empty`](PolicyNameError::Empty), and [`NotPrintable`](PolicyNameError::NotPrintable) for what is
    /// neither a space nor a visible character of ASCII.
    pub const fn new(name: &'a str) -> Result<Self, PolicyNameError> {
        if name.is_empty() {
            return Err(PolicyNameError::Empty);
        }
        let (bytes, mut at) = (name.as_bytes(), 0);
        while at < bytes.len() {
            if !matches!(bytes[at], b' '..=b'~') {
                return Err(PolicyNameError::NotPrintable { at });
            }
            at += 1;
        }
        Ok(Self { name })
    }

    /// The name, without quotes.
    pub const fn as_str(&self) -> &'a str {
        self.name
    }
}

impl fmt::Display for PolicyName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        let mut rest = self.name;
        while let Some(at) = rest.find(['"', '\\']) {
            let (before, sign) = (&rest[..at], &rest[at..=at]);
            write!(f, "{before}\\{sign}")?;
            rest = &rest[at + 1..];
        }
        write!(f, "{rest}\"")
    }
}
