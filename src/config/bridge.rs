//! `[route.bridge]`: where the messages of one route go, and what goes along. What their rules are, `session` reads.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::ANY_DURATION;
use super::field::Located;
use super::names;
use super::problem::quote;
use super::reader::TableReader;
use super::report::{Report, nearest};
use super::route::Known;
use super::{passing, session, told};
use crate::bridge::{ForwardCookies, Settings};
use crate::protocol::template::Template;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const TEXT_TYPE: &str = "text/plain; charset=utf-8";
const FORWARDED: [&str; 6] = ["accept-language", "user-agent", "origin", "traceparent", "tracestate", "x-request-id"];
const CREDENTIALS: [&str; 3] = ["ticket", "access_token", "token"];

/// Reads a bridge. `captures` are the names that templates may use, `None` if the path could not be read;
/// `known` what other sections say.
pub(super) fn read(mut table: TableReader<'_>, captures: Option<&[&str]>, known: Known<'_>) -> Option<Settings> {
    let help = "name one of the upstreams, as in upstream = \"app\" for [upstream.app]";
    let upstream = upstream(&mut table, known.upstreams, help);
    let events = template(&mut table, "events", captures);
    let messages = template(&mut table, "messages", captures);
    let text_type = text_type(&mut table);
    let forward_headers = forward_headers(&mut table);
    let forward_cookies = forward_cookies(&mut table);
    let claim_headers = told::claim_headers(&mut table, known.claims, &forward_headers);
    let identity_token = told::identity_token(&mut table, known.identity, upstream.as_ref());
    let (credential_params, last_event_id_param) = params(&mut table, known.ticket_param);
    let open_timeout = table.duration("open_timeout", Duration::from_secs(10), ANY_DURATION);
    let message_timeout = table.duration("message_timeout", Duration::from_secs(30), ANY_DURATION);
    let max_event_field = table.size("max_event_field", KIB, 16..=64 * KIB);
    let max_refusal_body = table.size("max_refusal_body", 16 * KIB, 0..=MIB);
    let session = session::read(&mut table, message_timeout, max_event_field);
    table.finish();
    Some(Settings {
        upstream: upstream?,
        events: events?,
        messages: messages?,
        text_type,
        forward_headers,
        forward_cookies,
        claim_headers,
        identity_token,
        credential_params,
        last_event_id_param,
        open_timeout,
        message_timeout,
        max_event_field,
        max_refusal_body,
        session: Arc::new(session),
    })
}

/// Reads `upstream`, the name of one of those that there are; `help` is for a file that does not name any.
pub(super) fn upstream(table: &mut TableReader<'_>, upstreams: &[&str], help: &str) -> Option<Arc<str>> {
    let field = table.required("upstream", help)?;
    let name = field.text()?.value;
    if upstreams.contains(&name) {
        return Some(Arc::from(name));
    }
    let help = match nearest(name, upstreams.iter().copied()) {
        Some(known) => format!("did you mean \"{known}\"?"),
        None if upstreams.is_empty() => format!("write [upstream.{name}] in a line of its own, and its keys below"),
        None => format!("known upstreams: {}", upstreams.join(", ")),
    };
    table.report().absent(Some(field.span), format!("there is no upstream {}", quote(name)), help);
    None
}

fn template(table: &mut TableReader<'_>, key: &'static str, captures: Option<&[&str]>) -> Option<Template> {
    let text = table.required(key, &format!("write {key} = \"/{key}\", a path of the backend"))?.text()?;
    template_of(&text, key, captures, table.report())
}

/// Reads a path of the backend, reported if it is none.
pub(super) fn template_of(
    text: &Located<&str>,
    key: &'static str,
    captures: Option<&[&str]>,
    report: &Report,
) -> Option<Template> {
    // Without the captures nothing true can be said about the placeholders.
    let captures = captures?;
    Template::parse(text.value, captures)
        .map_err(|error| {
            let help = match captures {
                [] => "write a path such as \"/events?kind=1\"; the path of this route captures nothing".to_owned(),
                names => format!("write a path such as \"/events?kind=1\"; captured here: {}", names.join(", ")),
            };
            report.wrong(Some(text.span.clone()), format!("`{key}` cannot be {}: {error}", quote(text.value)), help);
        })
        .ok()
}

fn text_type(table: &mut TableReader<'_>) -> HeaderValue {
    let default = HeaderValue::from_static(TEXT_TYPE);
    let Some(text) = table.text("text_type") else { return default };
    match HeaderValue::from_str(text.value) {
        Ok(value) if names::is_media_type(text.value) => value,
        _ => {
            let message = format!("{} is not a media type", quote(text.value));
            table.report().wrong(Some(text.span), message, format!("write \"{TEXT_TYPE}\" or \"application/json\""));
            default
        }
    }
}

fn forward_headers(table: &mut TableReader<'_>) -> Vec<HeaderName> {
    let Some(texts) = table.texts("forward_headers") else { return FORWARDED.map(HeaderName::from_static).to_vec() };
    let mut headers = Vec::new();
    for text in texts {
        match names::header(text.value) {
            Ok(name) if headers.contains(&name) => {
                let message = format!("{} stands in `forward_headers` twice", quote(text.value));
                table.report().wrong(Some(text.span), message, "take one of the two out");
            }
            Ok(name) => headers.push(name),
            Err(reason) => {
                let message = format!("{} cannot be forwarded: {reason}", quote(text.value));
                table.report().wrong(Some(text.span), message, "take it out of the list");
            }
        }
    }
    headers
}

fn forward_cookies(table: &mut TableReader<'_>) -> ForwardCookies {
    let texts = table.texts("forward_cookies").unwrap_or_default();
    match cookie_names(&texts, table.report()) {
        None => ForwardCookies::All,
        Some(names) if names.is_empty() => ForwardCookies::None,
        Some(names) => ForwardCookies::Named(names),
    }
}

/// The names of cookies; `None` for `["*"]`, which is all of them.
pub(super) fn cookie_names(texts: &[Located<&str>], report: &Report) -> Option<Vec<String>> {
    if let [all] = texts
        && all.value == "*"
    {
        return None;
    }
    for text in texts {
        if text.value == "*" {
            let help = "write [\"*\"] for all cookies, or only names";
            report.wrong(Some(text.span.clone()), "`*` stands beside other names", help);
        } else if !names::is_token(text.value) {
            let message = format!("{} is not the name of a cookie", quote(text.value));
            report.wrong(Some(text.span.clone()), message, "write names, or [\"*\"] for all cookies");
        }
    }
    Some(texts.iter().map(|text| text.value.to_owned()).collect())
}

/// The query parameters that are credentials, and the one with the last event id.
fn params(table: &mut TableReader<'_>, ticket: &str) -> (Vec<String>, String) {
    let credentials = passing::credential_params(table, &CREDENTIALS, ticket);
    let last_event_id = match table.text("last_event_id_param") {
        Some(text) => {
            if !text.value.is_empty() {
                passing::check_parameter(&text, table.report());
            }
            text.value.to_owned()
        }
        None => "last_event_id".to_owned(),
    };
    if credentials.contains(&last_event_id) {
        let span = table.span("last_event_id_param").or_else(|| table.span("credential_params"));
        let message = format!("{} is both a credential and the last event id", quote(&last_event_id));
        table.report().wrong(span, message, "give `last_event_id_param` a name that is not in `credential_params`");
    }
    (credentials, last_event_id)
}
