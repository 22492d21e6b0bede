//! What goes along to upstream: the requests that a connection makes.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, request};
use uuid::Uuid;

use super::settings::{ForwardCookies, Settings};
use super::token::IdentityToken;
use crate::identity::signer::Signer;
use crate::identity::{Identity, told};
use crate::protocol::forwarded;
use crate::protocol::headers::{self, Kept};
use crate::protocol::hop::Hop;
use crate::protocol::message::Message;
use crate::protocol::passing;
use crate::protocol::problem::Problem;
use crate::protocol::query::Query;
use crate::session::{Batch, Payload};
use crate::telemetry::Turn;
use crate::upstream::OutgoingRequest;

const TEXT_EVENT_STREAM: HeaderValue = headers::EVENT_STREAM;
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// A client's handshake, as far as the bridge needs it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The request head.
    pub head: &'a request::Parts,
    /// What the route's path captured, still percent-encoded.
    pub captures: &'a [(&'a str, &'a str)],
    /// The host that the client asked for, port included.
    pub host: &'a str,
    /// Where the client connects from.
    pub peer: SocketAddr,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The subprotocols that it offers, in its order.
    pub offered: &'a [&'a str],
    /// Who it speaks for, if it was asked.
    pub identity: Option<&'a Identity>,
    /// Why it came here, on a split route.
    pub turn: Option<Turn>,
}

/// Without the head: tickets, tokens and cookies stand there.
impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asked({:?} from {})", self.host, self.peer)
    }
}

/// The part of a connection's requests that stays the same for its life.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    fields: Kept,
    events: PathAndQuery,
    messages: PathAndQuery,
    /// What the client offers, which is said again at every reopening.
    offered: Option<HeaderValue>,
    /// What says who the client is, where the route wants it signed. Boxed: most connections have none.
    token: Option<Box<IdentityToken>>,
    /// Every idempotency key begins with it.
    id: Uuid,
}

impl Requests {
    /// Puts together what goes along for the connection `id`. Also gives the last event id that the client brought.
    ///
    /// # Errors
    ///
    /// A 400, when the client's query makes no target that could be sent; a 403, when its identity is too large to be told.
    pub(super) fn new(
        asked: &Asked<'_>,
        settings: &Settings,
        signer: Option<&Arc<Signer>>,
        id: Uuid,
    ) -> Result<(Self, Option<HeaderValue>), Problem> {
        let query = asked.head.uri.query().unwrap_or_default();
        let query = Query::split(query, &settings.credential_params, &settings.last_event_id_param);
        let target = |path| passing::expanded(path, asked.captures, &query);
        // The header of a native client comes first: it is where the standard puts the position.
        let brought = asked.head.headers.get(headers::LAST_EVENT_ID).map(|value| value.as_bytes().to_vec());
        let last_event_id = brought.or(query.last_event_id.clone().map(String::into_bytes));
        let last_event_id = last_event_id
            .map(|value| {
                HeaderValue::from_bytes(&value).map_err(|_| {
                    Problem::new(
                        http::StatusCode::BAD_REQUEST,
                        "bad-last-event-id",
                        "the last event id is no header value",
                    )
                })
            })
            .transpose()?;
        let offered = HeaderValue::try_from(asked.offered.join(", ")).ok().filter(|offered| !offered.is_empty());
        let mut fields = fields(asked, settings, id);
        let mut token = None;
        if let Some(identity) = asked.identity {
            let told = told::fields(identity, headers::TIDEGATE_SUBJECT, &settings.claim_headers)?;
            fields.extend(told.into_iter().map(|(name, value)| (name, Cow::Owned(value.into_bytes()))));
            if let Some((audience, signer)) = settings.identity_token.as_ref().zip(signer) {
                let said = signer.say(identity, audience, id)?;
                token = Some(Box::new(IdentityToken::new(signer.clone(), said)));
            }
        }
        let requests = Self {
            fields: Kept::copy(&fields),
            offered,
            token,
            events: target(&settings.events)?,
            messages: target(&settings.messages)?,
            id,
        };
        Ok((requests, last_event_id))
    }

    /// The connection's id.
    pub(super) const fn id(&self) -> Uuid {
        self.id
    }

    /// The fields of every request that is made at `now`, which is asked for only where something depends on it.
    fn common(&mut self, now: impl FnOnce() -> SystemTime) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(16);
        self.fields.append_to(&mut fields);
        if let Some(token) = self.token.as_mut().and_then(|token| token.at(now())) {
            fields.insert(headers::TIDEGATE_IDENTITY, token);
        }
        fields
    }

    /// The request that opens the event stream.
    #[must_use]
    pub(super) fn events(
        &mut self,
        last_event_id: Option<HeaderValue>,
        now: impl FnOnce() -> SystemTime,
    ) -> OutgoingRequest {
        let mut fields = self.common(now);
        fields.insert(header::ACCEPT, TEXT_EVENT_STREAM);
        fields.insert(header::CACHE_CONTROL, NO_STORE);
        fields.insert(header::ACCEPT_ENCODING, IDENTITY);
        if let Some(offered) = &self.offered {
            fields.insert(headers::TIDEGATE_SUBPROTOCOLS, offered.clone());
        }
        if let Some(id) = last_event_id {
            fields.insert(headers::LAST_EVENT_ID, id);
        }
        OutgoingRequest { method: Method::GET, target: self.events.clone(), headers: fields, body: Bytes::new() }
    }

    /// The request that carries one message, several, or the news that the client is gone; `sequence`
    /// is the number of its first message.
    #[must_use]
    pub(super) fn post(
        &mut self,
        sequence: u64,
        payload: &Payload,
        text_type: &HeaderValue,
        now: impl FnOnce() -> SystemTime,
    ) -> OutgoingRequest {
        let mut fields = self.common(now);
        fields.insert(header::ACCEPT_ENCODING, IDENTITY);
        let (content_type, body) = match payload {
            Payload::Message(Message::Text(text)) => (text_type.clone(), text.clone().into()),
            Payload::Message(Message::Binary(octets)) => (OCTET_STREAM, octets.clone()),
            Payload::Batch { form, body, count } => {
                fields.insert(headers::TIDEGATE_COUNT, HeaderValue::from(*count));
                (if *form == Batch::Ndjson { NDJSON } else { JSON }, body.clone())
            }
            Payload::Leave(body) => {
                fields.insert(headers::TIDEGATE_EVENT, CLOSE);
                (JSON, body.clone())
            }
        };
        let key = if let Payload::Leave(_) = payload {
            format!("\"{}-close\"", self.id)
        } else {
            fields.insert(headers::TIDEGATE_SEQUENCE, HeaderValue::from(sequence));
            format!("\"{}-{sequence}\"", self.id)
        };
        if let Ok(key) = HeaderValue::try_from(key) {
            fields.insert(headers::IDEMPOTENCY_KEY, key);
        }
        fields.insert(header::CONTENT_TYPE, content_type);
        // Said for an empty message too: many handlers read as many bytes as this field names.
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        OutgoingRequest { method: Method::POST, target: self.messages.clone(), headers: fields, body }
    }
}

/// The fields that go along with every request: ours, and those of the client that the route lets through. Anything
/// else that the client sent, `Tidegate-*` and hop-by-hop fields first of all, stays here.
fn fields<'a>(asked: &Asked<'a>, settings: &Settings, id: Uuid) -> Vec<(HeaderName, Cow<'a, [u8]>)> {
    let client = &asked.head.headers;
    let hop = Hop::of(client);

    let mut fields = vec![(headers::TIDEGATE_CONNECTION, Cow::Owned(id.to_string().into_bytes()))];
    fields.extend(forwarded::told(asked.head, asked.peer, asked.tls, asked.host));
    for name in settings.forward_headers.iter().filter(|name| !hop.names(name)) {
        fields.extend(client.get_all(name).iter().map(|value| (name.clone(), Cow::Borrowed(value.as_bytes()))));
    }
    for cookies in client.get_all(header::COOKIE) {
        let kept = match &settings.forward_cookies {
            ForwardCookies::None => None,
            ForwardCookies::All => Some(Cow::Borrowed(cookies.as_bytes())),
            ForwardCookies::Named(names) => cookies
                .to_str()
                .ok()
                .and_then(|cookies| headers::cookies_named(cookies, names))
                .map(|cookies| Cow::Owned(cookies.into_bytes())),
        };
        fields.extend(kept.map(|value| (header::COOKIE, value)));
    }
    fields
}

#[cfg(test)]
mod tests;
