//! What was taken back, and whom that concerns.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;

use super::{Holder, Identity, Subject};

/// Longest name of a ticket or key in bytes, that of a subject.
const MAX_NAME: usize = 256;

/// What is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// One connection, by its id. Its client may come back.
    Connection(Uuid),
    /// All that a subject had proven until then. It may prove itself anew.
    Subject(Subject),
    /// One ticket, by its `jti`.
    Ticket(Arc<str>),
    /// Whatever a key vouches for, by its `kid`, whoever owns the key.
    Key(Arc<str>),
}

/// A text that names nothing that could be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWhat {
    /// It says neither connection, subject, ticket nor key.
    #[error("what is revoked is a connection, subject, ticket or key")]
    Kind,
    /// The id of a connection is none.
    #[error("a connection is named by its id, a UUID")]
    Connection,
    /// The name of something else is none.
    #[error("a subject, ticket or key is named by a text of 1 to 256 bytes without control characters")]
    Name,
}

impl What {
    /// Reads what [`kind`](Self::kind) and [`name`](Self::name) say.
    ///
    /// # Errors
    ///
    /// [`BadWhat`], for another kind, and for a name that cannot be one.
    pub fn read(kind: &str, name: &str) -> Result<Self, BadWhat> {
        let good = !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
        let text = || if good { Ok(Arc::from(name)) } else { Err(BadWhat::Name) };
        match kind {
            "connection" => Uuid::try_parse(name).map(Self::Connection).map_err(|_| BadWhat::Connection),
            "subject" => Subject::new(name).map(Self::Subject).map_err(|_| BadWhat::Name),
            "ticket" => text().map(Self::Ticket),
            "key" => text().map(Self::Key),
            _ => Err(BadWhat::Kind),
        }
    }

    /// The word for its kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection",
            Self::Subject(_) => "subject",
            Self::Ticket(_) => "ticket",
            Self::Key(_) => "key",
        }
    }

    /// Its name among those of its kind.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Connection(id) => id.as_hyphenated().to_string(),
            Self::Subject(subject) => subject.as_str().to_owned(),
            Self::Ticket(name) | Self::Key(name) => name.to_string(),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// What was taken back, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What.
    pub what: What,
    /// When; what a subject proves later than that holds.
    pub at: SystemTime,
    /// Its own id, by which all gateways know it.
    pub id: Uuid,
}

impl Revocation {
    /// Whether a live connection has to end. `holder` is whom it belongs to, if it had to prove that.
    #[must_use]
    pub fn ends(&self, connection: Uuid, holder: Option<&Holder>) -> bool {
        match (&self.what, holder) {
            (What::Connection(id), _) => *id == connection,
            (_, None) => false,
            (What::Subject(subject), Some(holder)) => *subject == holder.subject && holder.issued <= self.at,
            (What::Ticket(ticket), Some(holder)) => holder.ticket.as_ref() == Some(ticket),
            (What::Key(key), Some(holder)) => holder.keys.contains(key),
        }
    }

    /// Whether an identity that is offered now does not hold any more. One that does not say when it was proven may have been
    /// proven before: it would otherwise come back at once with what was taken back.
    #[must_use]
    pub fn refuses(&self, identity: &Identity) -> bool {
        match &self.what {
            What::Connection(_) => false,
            What::Subject(subject) => {
                *subject == identity.subject && identity.issued.is_none_or(|issued| issued <= self.at)
            }
            What::Ticket(ticket) => identity.ticket.as_ref() == Some(ticket),
            What::Key(key) => identity.keys.contains(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::{Claims, Way};
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn identity(issued: Option<u64>) -> Identity {
        Identity {
            subject: Subject::new("ada").expect("a subject"),
            claims: Claims::new(),
            issued: issued.map(at),
            expires: None,
            way: Way::Ticket,
            ticket: Some("t1".into()),
            keys: vec!["k1".into()],
        }
    }

    fn revoked(kind: &str, name: &str) -> Revocation {
        Revocation { what: What::read(kind, name).expect("sound"), at: at(100), id: Uuid::nil() }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        for (kind, name) in [("connection", id), ("subject", "auth0|42"), ("ticket", "x"), ("key", "k1")] {
            let what = What::read(kind, name).expect("sound");
            assert_eq!((what.kind(), what.name().as_str()), (kind, name));
        }
        assert_eq!(What::read("user", "ada"), Err(BadWhat::Kind));
        assert_eq!(What::read("connection", "ada"), Err(BadWhat::Connection));
        for kind in ["subject", "ticket", "key"] {
            for name in ["", "a\nb", &"x".repeat(257)] {
                assert_eq!(What::read(kind, name), Err(BadWhat::Name), "{kind} {name:?}");
            }
        }
    }

    #[test]
    fn a_subject_is_refused_what_it_proved_before_and_let_in_with_what_it_proves_later() {
        let subject = revoked("subject", "ada");
        assert!(subject.refuses(&identity(Some(99))) && subject.refuses(&identity(Some(100))));
        assert!(!subject.refuses(&identity(Some(101))));
        assert!(subject.refuses(&identity(None)), "nobody knows that it is a new one");
        assert!(!revoked("subject", "eve").refuses(&identity(Some(99))));
    }

    #[test]
    fn a_ticket_and_a_key_are_refused_whenever_they_were_issued() {
        for issued in [Some(99), Some(101), None] {
            assert!(
                revoked("ticket", "t1").refuses(&identity(issued)) && revoked("key", "k1").refuses(&identity(issued))
            );
            assert!(
                !revoked("ticket", "t2").refuses(&identity(issued)) && !revoked("key", "k2").refuses(&identity(issued))
            );
        }
    }

    #[test]
    fn a_live_connection_ends_by_its_id_or_by_whom_it_belongs_to() {
        let id = Uuid::from_u128(7);
        let holder = |issued| Holder::of(&identity(issued), at(50));
        assert!(revoked("connection", &id.to_string()).ends(id, None));
        assert!(!revoked("connection", &id.to_string()).ends(Uuid::nil(), Some(&holder(None))));
        assert!(!revoked("subject", "ada").ends(id, None), "nobody knows whose it is");
        assert!(revoked("subject", "ada").ends(id, Some(&holder(None))), "it was proven at 50");
        assert!(!revoked("subject", "ada").ends(id, Some(&holder(Some(101)))), "it has proven itself anew");
        assert!(revoked("ticket", "t1").ends(id, Some(&holder(None))));
        assert!(revoked("key", "k1").ends(id, Some(&holder(None))));
    }
}
