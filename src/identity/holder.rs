//! What is kept of an identity for as long as its connection lives.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Identity, Subject};

/// Whom a live connection belongs to, as far as that is needed to send it away: no claims, which may be many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who it is.
    pub subject: Subject,
    /// `jti` of the ticket, if it was one.
    pub ticket: Option<Arc<str>>,
    /// `kid` of the keys that vouch for it, as far as they have names.
    pub keys: Vec<Arc<str>>,
    /// When the proof was made.
    pub issued: SystemTime,
}

impl Holder {
    /// What is kept of an identity that was proven at `now`.
    #[must_use]
    pub fn of(identity: &Identity, now: SystemTime) -> Self {
        Self {
            subject: identity.subject.clone(),
            ticket: identity.ticket.clone(),
            keys: identity.keys.clone(),
            issued: identity.issued.unwrap_or(now),
        }
    }
}
