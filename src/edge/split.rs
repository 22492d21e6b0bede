//! Which side a handshake takes on a route that has two: the rules alone. Request and identity come in, a side comes out.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use http::header::{self, HeaderMap, HeaderName};

use crate::protocol::query;
use crate::telemetry::{Reason, Side, Turn};

/// How finely clients are told apart: shares are in hundredths of a percent.
pub const BUCKETS: u16 = 10_000;

/// How a route is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// How many of the [`BUCKETS`] the bridge has.
    pub share: u16,
    /// What stands for a client, the first of these that it has. The address always is the last.
    pub by: Vec<By>,
    /// Goes into the draw: the same everywhere where clients are to be drawn alike. Absent, the name of the route.
    pub seed: Option<Arc<str>>,
    /// What is looked at before, in this order; the first that is met decides.
    pub rules: Vec<Rule>,
    /// The answer's field that says which side it was; `None` says it nowhere.
    pub header: Option<HeaderName>,
    /// Whether new handshakes go to the legacy side while the bridge's upstream takes nobody.
    pub falls_back: bool,
}

/// What stands for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The subject of its identity.
    Identity,
    /// The cookie of this name.
    Cookie(String),
    /// Its address, as far as addresses are told apart.
    Address,
}

/// Sends those who meet it to one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is looked at.
    pub place: Place,
    /// What stands there, byte for byte; `None` is anything.
    pub equals: Option<String>,
    /// Where they go.
    pub to: Side,
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A field of the request; each of its lines counts for itself.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A query parameter, decoded.
    Query(String),
    /// The subject of the identity.
    Identity,
}

/// A handshake, as far as its side depends on it.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Its fields.
    pub fields: &'a HeaderMap,
    /// Its query.
    pub query: Option<&'a str>,
    /// The subject of its identity, if it has one.
    pub subject: Option<&'a str>,
    /// The client's address, cut to the prefix that stands for one client.
    pub net: IpAddr,
}

impl Split {
    /// With the name of the route for a seed, unless it has one.
    #[must_use]
    pub fn seeded_by(self, name: &Arc<str>) -> Self {
        Self { seed: self.seed.or_else(|| Some(name.clone())), ..self }
    }

    /// The side of a handshake. The same for the same client and settings, on every gateway, version and platform; a larger
    /// share moves clients to the bridge and none away from it.
    #[must_use]
    pub fn turn(&self, asking: &Asking<'_>) -> Turn {
        if let Some(rule) = self.rules.iter().find(|rule| rule.is_met(asking)) {
            return Turn { side: rule.to, reason: Reason::Rule };
        }
        let side = if self.bucket(asking) < self.share { Side::Bridge } else { Side::Legacy };
        Turn { side, reason: Reason::Share }
    }

    fn bucket(&self, asking: &Asking<'_>) -> u16 {
        let seed = self.seed.as_deref().unwrap_or_default();
        let named = self.by.iter().find_map(|by| match by {
            By::Identity => Some(bucket(seed, "identity", asking.subject?)),
            By::Cookie(name) => Some(bucket(seed, "cookie", cookie(asking.fields, name)?)),
            By::Address => None,
        });
        named.unwrap_or_else(|| bucket(seed, "address", &asking.net.to_string()))
    }
}

impl Rule {
    fn is_met(&self, asking: &Asking<'_>) -> bool {
        let is = |value: &[u8]| self.equals.as_ref().is_none_or(|wanted| wanted.as_bytes() == value);
        match &self.place {
            Place::Header(name) => asking.fields.get_all(name).iter().any(|value| is(value.as_bytes())),
            Place::Cookie(name) => cookie(asking.fields, name).is_some_and(|value| is(value.as_bytes())),
            Place::Query(name) => asking.query.unwrap_or_default().split('&').any(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                !pair.is_empty() && query::decode(key) == *name && is(query::decode(value).as_bytes())
            }),
            Place::Identity => asking.subject.is_some_and(|subject| is(subject.as_bytes())),
        }
    }
}

/// The number of a client, from 0 below [`BUCKETS`]: the first eight bytes of SHA-256 over seed, kind and name with a zero byte
/// between them, read as a big-endian number, modulo [`BUCKETS`]. Other programs may compute it too.
#[must_use]
pub fn bucket(seed: &str, kind: &str, name: &str) -> u16 {
    let mut context = Context::new(&SHA256);
    context.update(seed.as_bytes());
    context.update(&[0]);
    context.update(kind.as_bytes());
    context.update(&[0]);
    context.update(name.as_bytes());
    let digest = context.finish();
    let first = digest.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes);
    u16::try_from(first % u64::from(BUCKETS)).unwrap_or_default()
}

/// The first cookie of this name that is not empty.
fn cookie<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = fields.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value))
}

#[cfg(test)]
mod tests;
