//! Why a ticket is refused, and what the client is told.

use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderValue};

use crate::protocol::problem::Problem;

/// Why nobody is let in with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    Missing,
    /// There is more than one.
    Repeated,
    /// It is too long, or no ticket at all.
    Malformed,
    /// None of our keys has signed it. Outside all reasons are one, and they take the same time.
    Invalid(Distrust),
    /// Its time is over.
    Expired,
    /// Its time is to come.
    NotYetValid,
    /// It is for another route.
    WrongRoute,
    /// It was issued to a page of another origin.
    WrongOrigin,
    /// It was issued to another address.
    WrongAddress,
    /// It was used before.
    Spent,
    /// It, or whom it speaks for, was sent away.
    Revoked,
    /// Nobody can say whether it was used before.
    StoreUnavailable,
}

/// Why a signature is not believed; for the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// No key has the algorithm.
    Algorithm,
    /// No key of that algorithm has the name.
    Key,
    /// The key that it names has not signed it.
    Signature,
}

impl Refusal {
    /// The word for it in answers, logs and metrics.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Missing => "ticket-missing",
            Self::Repeated => "ticket-repeated",
            Self::Malformed => "ticket-malformed",
            Self::Invalid(_) => "ticket-invalid",
            Self::Expired => "ticket-expired",
            Self::NotYetValid => "ticket-not-yet-valid",
            Self::WrongRoute => "ticket-wrong-route",
            Self::WrongOrigin => "ticket-wrong-origin",
            Self::WrongAddress => "ticket-wrong-address",
            Self::Spent => "ticket-spent",
            Self::Revoked => "ticket-revoked",
            Self::StoreUnavailable => "ticket-store-unavailable",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Invalid(_) | Self::Expired | Self::NotYetValid | Self::Spent | Self::Revoked => {
                StatusCode::UNAUTHORIZED
            }
            Self::Repeated | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::WrongRoute | Self::WrongOrigin | Self::WrongAddress => StatusCode::FORBIDDEN,
            Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A sentence for whoever presented it.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Missing => "this needs a ticket, in the query or as a subprotocol",
            Self::Repeated => "there is more than one ticket",
            Self::Malformed => "this is not a ticket of this gateway",
            Self::Invalid(_) => "no key of this gateway has signed the ticket",
            Self::Expired => "the ticket has expired: fetch a new one for each connection",
            Self::NotYetValid => "the ticket is not valid yet: clocks differ",
            Self::WrongRoute => "the ticket is for another route",
            Self::WrongOrigin => "the ticket was issued to pages of another origin",
            Self::WrongAddress => "the ticket was issued to another address",
            Self::Spent => "the ticket was used before: fetch a new one for each connection",
            Self::Revoked => "the ticket was revoked",
            Self::StoreUnavailable => "whether this ticket was used cannot be known at the moment",
        }
    }

    const fn log(self) -> Option<&'static str> {
        match self {
            Self::Invalid(Distrust::Algorithm) => Some("no key has the algorithm of the ticket"),
            Self::Invalid(Distrust::Key) => Some("no key has the name and algorithm that the ticket says"),
            Self::Invalid(Distrust::Signature) => Some("the key that the ticket names has not signed it"),
            _ => None,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = refusal.status();
        let mut problem = Self::new(status, refusal.kind(), refusal.detail());
        if status == StatusCode::UNAUTHORIZED
            // RFC 9110 section 15.5.2: a 401 says how one would be let in.
            && let Ok(challenge) = HeaderValue::try_from(format!("Tidegate-Ticket error=\"{}\"", refusal.kind()))
        {
            problem = problem.with_header(header::WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            problem = problem.with_retry_after(Duration::from_secs(1));
        }
        match refusal.log() {
            Some(log) => problem.with_log(log),
            None => problem,
        }
    }
}
