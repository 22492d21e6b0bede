//! Who the client is behind proxies that are trusted, and what upstream is told of all of them: `Forwarded` (RFC 7239) and
//! its older relatives `X-Forwarded-For`, `-Proto` and `-Host`.
//!
//! Every proxy adds whom it serves at the end. So the list is read from its end, as long as whoever has added the next entry is
//! trusted; what stands in front of that, anybody may have made up.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};
use http::request;
use ipnet::IpNet;

use super::headers::{folded, is_token};

#[cfg(test)]
mod tests;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Most proxies between a client and us that are looked through; where there are more, they go in a circle.
const MOST_HOPS: usize = 16;

/// Which fields trusted proxies set. The others are never read: a proxy passes those on that it does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    #[default]
    XForwarded,
    /// `Forwarded`.
    Forwarded,
}

/// Who may speak for others, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Where trusted proxies connect from.
    pub proxies: Vec<IpNet>,
    /// Which fields they set.
    pub form: Form,
    /// Whether the host that they name takes the place of `Host`.
    pub host: bool,
}

/// What trusted proxies say of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The client, or whoever is nearest to it that is known; port 0 where none is said.
    pub client: SocketAddr,
    /// Whether it came over TLS; `None` if nobody says.
    pub tls: Option<bool>,
    /// The host that it asked for, as it stands there; `None` if nobody says.
    pub host: Option<String>,
    /// The proxies between it and us.
    pub via: Via,
}

/// The addresses of the trusted proxies that a request came through, the nearest to us last. In the extensions of the request's
/// head, for [`told`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Via(pub Arc<[IpAddr]>);

/// What one proxy has added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hop {
    /// `None` where it does not know or does not say (RFC 7239 sections 6.2 and 6.3).
    client: Option<SocketAddr>,
    tls: Option<bool>,
    host: Option<String>,
}

impl Trust {
    /// Whether this address is one of a trusted proxy.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// What is said of a request that came from `peer`; `None` if that one is not trusted to say anything.
    #[must_use]
    pub fn told(&self, fields: &HeaderMap, peer: SocketAddr) -> Option<Told> {
        if !self.covers(peer.ip()) {
            return None;
        }
        let mut told = Told { client: peer, tls: None, host: None, via: Via::default() };
        let mut via = Vec::new();
        let mut hops = self.hops(fields).into_iter();
        while via.len() < MOST_HOPS && self.covers(told.client.ip()) {
            let Some(hop) = hops.next() else { break };
            told.tls = hop.tls.or(told.tls);
            told.host = hop.host.or(told.host);
            let Some(client) = hop.client else { break };
            via.push(told.client.ip().to_canonical());
            told.client = client;
        }
        if told.client == peer && via.is_empty() {
            // The proxy asks for itself.
            return Some(told);
        }
        via.reverse();
        told.via = Via(via.into());
        Some(told)
    }

    /// What every proxy has added, the nearest to us first.
    fn hops(&self, fields: &HeaderMap) -> Vec<Hop> {
        match self.form {
            Form::Forwarded => last_first(fields, &header::FORWARDED, elements),
            Form::XForwarded => {
                let addresses = |line: &str| {
                    // At once from the end: what is wrong with an entry is nothing to those behind it.
                    Some(line.split(',').map(|entry| Hop { client: node(entry.trim()), ..Hop::default() }).collect())
                };
                let mut hops = last_first(fields, &X_FORWARDED_FOR, addresses);
                // Of these two there is one value, whatever the number of proxies: the nearest to us has set it, or has let the
                // one before it stand.
                let tls = last(fields, &X_FORWARDED_PROTO).and_then(scheme);
                let host = last(fields, &X_FORWARDED_HOST).filter(|host| !host.is_empty()).map(str::to_owned);
                if hops.is_empty() && (tls.is_some() || host.is_some()) {
                    hops.push(Hop::default());
                }
                if let Some(first) = hops.first_mut() {
                    (first.tls, first.host) = (tls, host);
                }
                hops
            }
        }
    }
}

/// The entries of all lines of a field from the last one on. A line that cannot be read is an entry that says nothing: nobody
/// knows what in it was made up.
fn last_first(fields: &HeaderMap, name: &HeaderName, read: impl Fn(&str) -> Option<Vec<Hop>>) -> Vec<Hop> {
    let lines: Vec<_> = fields.get_all(name).iter().collect();
    let lines = lines.into_iter().rev();
    let entries = lines.flat_map(|line| {
        let mut entries = line.to_str().ok().and_then(&read).unwrap_or_else(|| vec![Hop::default()]);
        entries.reverse();
        entries
    });
    entries.take(MOST_HOPS).collect()
}

/// The last value of a field that is a list.
fn last<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let line = fields.get_all(name).iter().next_back()?.to_str().ok()?;
    line.rsplit(',').next().map(str::trim)
}

fn scheme(text: &str) -> Option<bool> {
    // Those of WebSockets too: some proxies write what the client has asked for.
    let is = |name: &str| text.eq_ignore_ascii_case(name);
    if is("https") || is("wss") {
        Some(true)
    } else if is("http") || is("ws") {
        Some(false)
    } else {
        None
    }
}

/// The elements of a line of `Forwarded` (RFC 7239 section 4); `None` if it is malformed.
fn elements(line: &str) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    let mut rest = line;
    loop {
        let (hop, ended) = element(&mut rest)?;
        hops.extend(hop);
        if ended {
            return Some(hops);
        }
    }
}

/// Reads one element off the front, and says whether it is the last. An empty one is none (RFC 9110 section 5.6.1).
fn element(rest: &mut &str) -> Option<(Option<Hop>, bool)> {
    let mut hop = Hop::default();
    let mut names: Vec<String> = Vec::new();
    loop {
        *rest = rest.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with([',', ';']) {
            let (name, behind) = rest.split_once('=')?;
            let name = Some(name).filter(|name| is_token(name))?.to_ascii_lowercase();
            let (value, behind) = value(behind)?;
            *rest = behind.trim_start_matches([' ', '\t']);
            match name.as_str() {
                "for" => hop.client = node(&value),
                "proto" => hop.tls = scheme(&value),
                "host" => hop.host = Some(value.into_owned()),
                _ => {}
            }
            // RFC 7239 section 4: a parameter stands in an element once.
            if names.contains(&name) {
                return None;
            }
            names.push(name);
        }
        let said = (!names.is_empty()).then(|| hop.clone());
        match rest.chars().next() {
            None => return Some((said, true)),
            Some(',') => {
                *rest = rest.get(1..)?;
                return Some((said, false));
            }
            Some(';') => *rest = rest.get(1..)?,
            Some(_) => return None,
        }
    }
}

/// A token or a quoted string, and what is behind it. An address with a port needs quotes, and many write none.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t', '"']).unwrap_or(text.len());
        let (value, behind) = text.split_at_checked(end)?;
        return (!value.is_empty()).then_some((Cow::Borrowed(value), behind));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((Cow::Owned(value), quoted.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

/// An address, with a port or without, in brackets or not; `None` for `unknown`, for an obfuscated name and for anything else.
fn node(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address.to_canonical(), 0));
    }
    let (address, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, behind) = rest.split_once(']')?;
        let port = if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) };
        (IpAddr::V6(address.parse().ok()?), port)
    } else {
        let (address, port) = text.split_once(':')?;
        (IpAddr::V4(address.parse().ok()?), Some(port))
    };
    // A port may be obfuscated too (RFC 7239 section 6); it is nobody's address.
    let port =
        port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(Some(0), |port| port.parse().ok());
    Some(SocketAddr::new(address.to_canonical(), port?))
}

/// Whether a field says who the client is, under its own name or one that some backends take for it. What a client sends of
/// these says nothing.
#[must_use]
pub fn is_forwarding(name: &HeaderName) -> bool {
    let name = folded(name.as_str());
    name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
}

/// Takes all of these fields out of a request.
pub fn strip(fields: &mut HeaderMap) {
    let names: Vec<HeaderName> = fields.keys().filter(|name| is_forwarding(name)).cloned().collect();
    for name in names {
        fields.remove(name);
    }
}

/// What upstream is told of a client that asked for `host`: it first, then the trusted proxies behind it, if there are any.
#[must_use]
pub fn told(head: &request::Parts, client: SocketAddr, tls: bool, host: &str) -> [(HeaderName, Cow<'static, [u8]>); 4] {
    let via = head.extensions.get::<Via>().map_or(&[][..], |via| &via.0);
    let proto = if tls { "https" } else { "http" };
    let client = client.ip().to_canonical();
    let mut forwarded = format!("for={};host={};proto={proto}", shown(client), quoted(host));
    let mut addresses = client.to_string();
    for proxy in via {
        forwarded.push_str(", for=");
        forwarded.push_str(&shown(*proxy));
        addresses.push_str(", ");
        addresses.push_str(&proxy.to_string());
    }
    [
        (header::FORWARDED, Cow::Owned(forwarded.into_bytes())),
        (X_FORWARDED_FOR, Cow::Owned(addresses.into_bytes())),
        (X_FORWARDED_HOST, Cow::Owned(host.as_bytes().to_vec())),
        (X_FORWARDED_PROTO, Cow::Borrowed(proto.as_bytes())),
    ]
}

/// An address as `Forwarded` has it: of the newer kind in brackets and quotes (RFC 7239 section 6).
fn shown(address: IpAddr) -> String {
    if address.is_ipv6() { format!("\"[{address}]\"") } else { address.to_string() }
}

/// A host with a port, or anything else that is not a token, must be quoted (RFC 7239 section 4).
fn quoted(value: &str) -> Cow<'_, str> {
    if is_token(value) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
    }
}
