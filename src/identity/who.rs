//! What is known of a client once it has been proven.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};

/// Claims of an identity, by name: those that the configuration keeps, as they were found.
pub type Claims = Map<String, Value>;

/// Whom a client speaks for, and how that was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub subject: Subject,
    /// What else is known of it: the claims that `auth.claims` names.
    pub claims: Claims,
    /// When the proof was made; what was revoked after that does not hold any more. `None` is unknown.
    pub issued: Option<SystemTime>,
    /// Until when it holds; `None` is without an end.
    pub expires: Option<SystemTime>,
    /// How it was proven.
    pub way: Way,
    /// `jti` of the ticket, if it was one.
    pub ticket: Option<Arc<str>>,
    /// `kid` of the keys that vouch for it, as far as they have names: that of the token, or that of the ticket and that of the
    /// token which the ticket was issued for.
    pub keys: Vec<Arc<str>>,
}

/// A name for somebody: 1 to 256 bytes of UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Arc<str>);

/// A text that cannot be a [`Subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a subject is a text of 1 to 256 bytes without control characters")]
pub struct BadSubject;

impl Subject {
    /// Takes a text that can be a subject.
    ///
    /// # Errors
    ///
    /// [`BadSubject`], if it is empty, too long or holds control characters.
    pub fn new(text: &str) -> Result<Self, BadSubject> {
        let good = !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control);
        if good { Ok(Self(text.into())) } else { Err(BadSubject) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// By a one-use ticket of ours.
    Ticket,
    /// By a JSON Web Token of somebody whom we trust, in `Authorization` (RFC 6750 section 2.1).
    Bearer,
    /// By what the application says about its cookies.
    Cookie,
    /// By a client certificate.
    Mtls,
}

impl Way {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Ticket, Self::Bearer, Self::Cookie, Self::Mtls];

    /// The word for it in the configuration, logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Bearer => "bearer",
            Self::Cookie => "cookie",
            Self::Mtls => "mtls",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_short_text_without_control_characters() {
        for good in ["a", "auth0|42", "ada@example.com", "Ada Löv", &"x".repeat(256)] {
            assert_eq!(Subject::new(good).map(|subject| subject.as_str().to_owned()), Ok(good.to_owned()));
        }
        for bad in ["", "a\nb", "a\0", "\u{85}", &"x".repeat(257)] {
            assert_eq!(Subject::new(bad), Err(BadSubject), "{bad:?}");
        }
    }
}
