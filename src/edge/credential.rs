//! Where a request carries its ticket: browsers can set no header on a WebSocket, so it is in the query or in the list of
//! subprotocols.

use std::fmt;

use http::header::HeaderValue;
use secrecy::SecretString;

use crate::identity::ticket::Refusal;
use crate::protocol::query::decode;

/// What a subprotocol begins with that is a ticket.
pub const TICKET: &str = "tidegate.ticket.";

/// The subprotocol that stands for the gateway itself. Offered beside a ticket, it is what the answer can name.
pub const MARKER: &str = "tidegate";

/// What a request says of itself, with the parts that are ours told apart from those for upstream.
pub struct Credential<'a> {
    /// The ticket, if there is one; it may be empty, and nobody has looked at it.
    pub ticket: Option<SecretString>,
    /// The subprotocols on offer to upstream: neither the ticket nor the marker.
    pub offered: Vec<&'a str>,
    /// Whether the marker was offered.
    marker: bool,
    /// Whether the ticket was one of the subprotocols.
    by_subprotocol: bool,
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("ticket", &self.ticket)
            .field("offered", &self.offered)
            .finish_non_exhaustive()
    }
}

/// Looks for a ticket in the query, as the parameter `param`, and among the subprotocols that a client offers. Names of
/// parameters are compared after decoding, as where they are taken out for upstream.
///
/// # Errors
///
/// [`Refusal::Repeated`], if there are two of them, wherever they are.
pub fn find<'a>(query: Option<&str>, offered: &[&'a str], param: &str) -> Result<Credential<'a>, Refusal> {
    let pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let in_query = pairs.filter(|(name, _)| decode(name) == param).map(|(_, value)| decode(value));
    let as_subprotocol = offered.iter().filter_map(|name| name.strip_prefix(TICKET));
    let by_subprotocol = as_subprotocol.clone().next().is_some();
    let mut tickets = in_query.chain(as_subprotocol.map(str::to_owned));
    let ticket = tickets.next();
    if tickets.next().is_some() {
        return Err(Refusal::Repeated);
    }
    let is_ours = |name: &&str| *name == MARKER || name.starts_with(TICKET);
    Ok(Credential {
        ticket: ticket.map(SecretString::from),
        offered: offered.iter().copied().filter(|name| !is_ours(name)).collect(),
        marker: offered.contains(&MARKER),
        by_subprotocol,
    })
}

impl<'a> Credential<'a> {
    /// What a request says on a route that takes no tickets.
    #[must_use]
    pub fn without(offered: &[&'a str]) -> Self {
        let offered: Vec<_> = offered.iter().copied().filter(|name| !name.starts_with(TICKET)).collect();
        Self { ticket: None, offered, marker: false, by_subprotocol: false }
    }

    /// The subprotocol that the client is told, given the one that upstream chose.
    ///
    /// A browser gives a connection up whose answer names none of the subprotocols that it offered. So where upstream has
    /// no wish, the marker is named, or else what the client offered first; the ticket never is. To a client that
    /// offered the ticket alone nothing could be named that it offered, and it is told the marker.
    #[must_use]
    pub fn answer(&self, upstream: Option<&HeaderValue>) -> Option<HeaderValue> {
        if let Some(chosen) = upstream {
            return Some(chosen.clone());
        }
        match self.offered.first() {
            Some(first) if self.by_subprotocol && !self.marker => HeaderValue::from_str(first).ok(),
            _ if self.marker || self.by_subprotocol => Some(HeaderValue::from_static(MARKER)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn ticket(query: &str, offered: &[&str]) -> Result<Option<String>, Refusal> {
        find(Some(query), offered, "ticket").map(|found| found.ticket.map(|ticket| ticket.expose_secret().to_owned()))
    }

    #[test]
    fn the_ticket_is_found_in_the_query_or_among_the_subprotocols() {
        let found = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(ticket("a=1", &["app.v2", "tidegate"]), Ok(None));
        assert_eq!(ticket("a=1&ticket=a.b-c_d&b", &[]), found("a.b-c_d"));
        assert_eq!(ticket("%74icket=a%2Eb", &[]), found("a.b"));
        assert_eq!(ticket("", &["tidegate.ticket.a.b.c", "app.v2"]), found("a.b.c"));
        assert_eq!(ticket("ticket", &[]), found(""), "an empty one is a bad one, not none");
        assert_eq!(ticket("", &["tidegate.ticket."]), found(""));
        let renamed = find(Some("ticket=x&pass=y"), &[], "pass").unwrap();
        assert_eq!(renamed.ticket.unwrap().expose_secret(), "y");
        assert!(find(None, &[], "ticket").unwrap().ticket.is_none());
    }

    #[test]
    fn two_tickets_are_refused_wherever_they_are() {
        for (query, offered) in [
            ("ticket=a&ticket=a", &[] as &[_]),
            ("ticket=a&%74icket=", &[]),
            ("ticket=a", &["tidegate.ticket.a"]),
            ("", &["tidegate.ticket.a", "tidegate.ticket.b"]),
        ] {
            assert_eq!(ticket(query, offered), Err(Refusal::Repeated), "{query} {offered:?}");
        }
    }

    #[test]
    fn upstream_sees_neither_ticket_nor_marker() {
        let found = find(None, &["tidegate", "app.v2", "tidegate.ticket.a", "tidegate.v9"], "ticket").unwrap();
        assert_eq!(found.offered, ["app.v2", "tidegate.v9"]);
        assert!(!format!("{found:?}").contains("ticket.a"));
    }

    #[test]
    fn a_client_is_answered_with_something_that_it_offered() {
        for (query, offered, upstream, answer) in [
            ("", &["tidegate.ticket.a", "app.v2", "app.v1"] as &[_], Some("app.v1"), Some("app.v1")),
            ("", &["tidegate.ticket.a", "app.v2", "app.v1"], None, Some("app.v2")),
            ("", &["tidegate.ticket.a", "app.v2", "tidegate"], None, Some("tidegate")),
            ("", &["tidegate.ticket.a", "tidegate"], None, Some("tidegate")),
            ("", &["tidegate.ticket.a"], None, Some("tidegate")),
            ("ticket=a", &["tidegate"], None, Some("tidegate")),
            // As without any ticket: what upstream does not choose is not spoken.
            ("ticket=a", &["app.v2"], None, None),
            ("ticket=a", &["app.v2"], Some("app.v2"), Some("app.v2")),
            ("ticket=a", &[], None, None),
        ] {
            let found = find(Some(query), offered, "ticket").unwrap();
            let upstream = upstream.map(HeaderValue::from_static);
            let answered = found.answer(upstream.as_ref());
            assert_eq!(answered, answer.map(HeaderValue::from_static), "{query} {offered:?}");
        }
    }

    proptest! {
        #[test]
        fn the_ticket_is_never_in_the_answer_nor_for_upstream(
            query in "[a-z%&=+0-9]{0,20}", offered in prop::collection::vec("tidegate|tidegate\\.ticket\\.[a-z.]{0,5}|[a-z.]{1,9}", 0..5),
        ) {
            let offered: Vec<_> = offered.iter().map(String::as_str).collect();
            if let Ok(found) = find(Some(&query), &offered, "ticket") {
                let ours = |name: &str| name.starts_with(TICKET);
                prop_assert!(!found.offered.iter().any(|name| ours(name)));
                prop_assert!(!found.answer(None).is_some_and(|answer| ours(answer.to_str().unwrap())));
            }
        }
    }
}
