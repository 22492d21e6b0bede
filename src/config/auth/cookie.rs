//! `[auth.cookie]`: which application is asked who a client is, and how it answers.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;
use http::uri::PathAndQuery;
use toml::de::DeValue;

use super::super::ANY_DURATION;
use super::super::bridge::{cookie_names, upstream};
use super::super::problem::quote;
use super::super::reader::TableReader;
use crate::access::cookie::{Cookies, Settings};
use crate::identity::answer::Rule;

/// How long an answer may be remembered: whoever logs out, or is locked out, stays in for that long.
/// As many as tickets.
const PER_ADDRESS: NonZeroU32 = const { NonZeroU32::new(600).unwrap() };
const CACHE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(10);

/// Reads the section. `upstreams` are the names of those that may be asked, `claims` those that an identity keeps.
pub(super) fn read(mut table: TableReader<'_>, upstreams: &[&str], claims: &[String]) -> Option<Settings> {
    let upstream = upstream(&mut table, upstreams, "name the upstream that knows who a cookie belongs to");
    let path = path(&mut table);
    let cookies = cookies(&mut table);
    let forward_authorization = table.flag("forward_authorization", true);
    let subject_header = subject_header(&mut table);
    let subject_claim = subject_claim(&mut table);
    let claim_headers = claim_headers(&mut table, claims);
    let timeout = table.duration("timeout", Duration::from_secs(2), ANY_DURATION);
    let cache = table.duration("cache", Duration::ZERO, CACHE);
    let cache_entries = table.integer("cache_entries", 10_000, 1..=1_000_000);
    let per_address = table.field("per_address").and_then(|field| field.integer(1..=1_000_000));
    let per_address =
        per_address.and_then(|number| NonZeroU32::new(u32::try_from(number).ok()?)).unwrap_or(PER_ADDRESS);
    table.finish();
    Some(Settings {
        upstream: upstream?,
        path: path?,
        cookies: cookies?,
        forward_authorization,
        rule: Rule { subject_header, subject_claim, claim_headers, claims: claims.to_vec() },
        timeout,
        cache,
        cache_entries,
        per_address,
    })
}

fn path(table: &mut TableReader<'_>) -> Option<PathAndQuery> {
    let field = table.required("path", "write path = \"/session\", what the application is asked for with GET")?;
    let text = field.text()?.value;
    let path = text.starts_with('/').then(|| text.parse().ok()).flatten();
    if path.is_none() {
        field.wrong(format!("{} cannot be a path", quote(text)), "write a path such as \"/session\"");
    }
    path
}

fn cookies(table: &mut TableReader<'_>) -> Option<Cookies> {
    let help = "write cookies = [\"session\"], the names of those that the application knows its users by";
    let field = table.required("cookies", help)?;
    let texts = field.texts()?;
    if texts.is_empty() {
        field.wrong("`cookies` must name at least one", help);
        return None;
    }
    Some(cookie_names(&texts, table.report()).map_or(Cookies::All, Cookies::Named))
}

fn subject_header(table: &mut TableReader<'_>) -> HeaderName {
    let default = HeaderName::from_static("tidegate-subject");
    let Some(text) = table.text("subject_header") else { return default };
    text.value.parse().unwrap_or_else(|_| {
        let message = format!("{} is not the name of a header", quote(text.value));
        table.report().wrong(Some(text.span), message, "write a name such as \"Tidegate-Subject\"");
        default
    })
}

fn subject_claim(table: &mut TableReader<'_>) -> String {
    let Some(text) = table.text("subject_claim") else { return "sub".to_owned() };
    if text.value.split('.').any(str::is_empty) {
        let message = format!("{} names no member of a JSON object", quote(text.value));
        table.report().wrong(Some(text.span), message, "write a name such as \"sub\", or a path such as \"user.id\"");
    }
    text.value.to_owned()
}

/// The claims that are fields of the answer. One that is not kept would be left out without a word.
fn claim_headers(table: &mut TableReader<'_>, claims: &[String]) -> Vec<(String, HeaderName)> {
    let Some(field) = table.field("claim_headers") else { return Vec::new() };
    let form = "write claim_headers = { tenant = \"X-Tenant\" }, with the names of claims and of headers";
    let DeValue::Table(pairs) = field.value else {
        field.wrong_type("a table of texts", form);
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (claim, header) in pairs {
        let name = match header.get_ref() {
            DeValue::String(name) => HeaderName::from_bytes(name.as_bytes()).ok(),
            _ => None,
        };
        let Some(name) = name else {
            let message = format!("{} in `claim_headers` must be the name of a header", quote(claim.get_ref()));
            field.report.wrong(Some(header.span()), message, form);
            continue;
        };
        if !claims.iter().any(|kept| kept == claim.get_ref()) {
            let message = format!("{} is not in `claims` of [auth], and would not be kept", quote(claim.get_ref()));
            field.report.wrong(Some(claim.span()), message, "put it there, or take it out here");
        }
        headers.push((claim.get_ref().to_string(), name));
    }
    headers
}
