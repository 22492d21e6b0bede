//! `[route.legacy]`: the WebSocket backend that WebSockets are passed through to.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderValue;
use http::uri::Authority;

use super::problem::quote;
use super::reader::TableReader;
use super::route::Known;
use super::{ANY_DURATION, bridge, names, told};
use crate::tunnel::{Host, Settings};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const CLOSE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);
/// What limits on a connection's life may be.
const LIFE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);

/// Reads a pass-through. `captures` are the names that templates may use, `None` if the path could not be read.
pub(super) fn read(mut table: TableReader<'_>, captures: Option<&[&str]>, known: Known<'_>) -> Option<Settings> {
    let help = "name one of the upstreams, as in upstream = \"old\" for [upstream.old]";
    let upstream = bridge::upstream(&mut table, known.upstreams, help);
    let path = match table.text("path") {
        Some(text) => bridge::template_of(&text, "path", captures, table.report()).map(Some),
        None => Some(None),
    };
    let host = host(&mut table);
    // All headers of the client go along but those that say who it is, so that there is no list to compare with.
    let claim_headers = told::claim_headers(&mut table, known.claims, &[]);
    let identity_token = told::identity_token(&mut table, known.identity, upstream.as_ref());
    let credential_params = credential_params(&mut table, known.ticket_param);
    let open_timeout = table.duration("open_timeout", Duration::from_secs(10), ANY_DURATION);
    let idle_timeout = table.duration("idle_timeout", Duration::from_mins(10), LIFE);
    let max_age = table.field("max_age").and_then(|field| field.duration(LIFE));
    let close_timeout = table.duration("close_timeout", Duration::from_secs(5), CLOSE);
    let buffer = table.size("buffer", 16 * KIB, 4 * KIB..=MIB);
    let max_refusal_body = table.size("max_refusal_body", 16 * KIB, 0..=MIB);
    table.finish();
    Some(Settings {
        upstream: upstream?,
        path: path?,
        host,
        claim_headers,
        identity_token,
        credential_params,
        open_timeout,
        idle_timeout,
        max_age,
        close_timeout,
        buffer,
        max_refusal_body,
    })
}

fn host(table: &mut TableReader<'_>) -> Host {
    let Some(text) = table.text("host") else { return Host::default() };
    let name = || {
        let authority: Authority = text.value.parse().ok()?;
        let is_host = !authority.host().is_empty() && !text.value.contains('@');
        HeaderValue::from_str(text.value).ok().filter(|_| is_host)
    };
    match text.value {
        "client" => Host::Client,
        "upstream" => Host::Upstream,
        value => name().map_or_else(
            || {
                let message = format!("{} cannot be a host", quote(value));
                let help = "write \"client\", \"upstream\" or a name such as \"chat.example.com\"";
                table.report().wrong(Some(text.span.clone()), message, help);
                Host::default()
            },
            Host::Name,
        ),
    }
}

/// The backend may have credentials of its own in the query, and gets them; a ticket is ours to redeem.
fn credential_params(table: &mut TableReader<'_>, ticket: &str) -> Vec<String> {
    let texts = table.texts("credential_params").unwrap_or_default();
    for text in texts.iter().filter(|text| !names::is_parameter(text.value)) {
        let message = format!("{} is not the name of a query parameter", quote(text.value));
        table.report().wrong(Some(text.span.clone()), message, "use letters, digits, `-`, `_`, `.` and `~`");
    }
    let mut credentials: Vec<_> = texts.iter().map(|text| text.value.to_owned()).collect();
    if !credentials.iter().any(|credential| credential == ticket) {
        credentials.push(ticket.to_owned());
    }
    credentials
}
