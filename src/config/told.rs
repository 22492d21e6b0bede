//! `claim_headers` and `identity_token`: how upstream is told who a client is.

use std::sync::Arc;

use http::HeaderName;
use toml::de::DeValue;

use super::identity::Identity;
use super::names;
use super::problem::quote;
use super::reader::TableReader;
use super::report::nearest;
use crate::protocol::headers::folded;

const FORM: &str = "write claim_headers = { tenant = \"X-Tenant\" }, a claim and the header that tells it";

/// Reads `{ tenant = "X-Tenant" }`. No header may be told to upstream in two ways, by a claim and by the client least of all.
/// `claims` are those that there can be.
pub(super) fn claim_headers(
    table: &mut TableReader<'_>,
    claims: &[String],
    forwarded: &[HeaderName],
) -> Vec<(String, HeaderName)> {
    let Some(field) = table.field("claim_headers") else { return Vec::new() };
    let DeValue::Table(pairs) = field.value else {
        field.wrong_type("a table of texts", FORM);
        return Vec::new();
    };
    let mut headers: Vec<(String, HeaderName)> = Vec::new();
    for (claim, header) in pairs {
        let (name, span) = (claim.get_ref().as_ref(), header.span());
        let wrong = |message: String, help: &str| field.report.wrong(Some(span.clone()), message, help);
        if !claims.iter().any(|known| known == name) {
            let help = match nearest(name, claims.iter().map(String::as_str)) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "add it to `claims` in [auth], or take it out".to_owned(),
            };
            field.report.wrong(Some(claim.span()), format!("{} is no claim that an identity keeps", quote(name)), help);
        }
        let DeValue::String(text) = header.get_ref() else {
            wrong(format!("the header of {} must be a text", quote(name)), FORM);
            continue;
        };
        let header = match names::claim_header(text) {
            Ok(header) => header,
            Err(reason) => {
                wrong(format!("{} cannot tell a claim: {reason}", quote(text)), "choose a name such as \"X-Tenant\"");
                continue;
            }
        };
        let is_same = |other: &HeaderName| folded(other.as_str()) == folded(header.as_str());
        if headers.iter().any(|(_, other)| is_same(other)) {
            let message = format!("{} stands in `claim_headers` twice; `-` and `_` count as the same", quote(text));
            wrong(message, "give each claim a header of its own");
        } else if forwarded.iter().any(is_same) {
            let message = format!("{} is also one of `forward_headers`, so that clients could set it", quote(text));
            wrong(message, "take it out of one of the two; `-` and `_` count as the same");
        } else {
            headers.push((name.to_owned(), header));
        }
    }
    headers
}

/// Reads the flag, and says for whom the tokens of this bridge are. `identity` is the section that it needs.
pub(super) fn identity_token(
    table: &mut TableReader<'_>,
    identity: Option<&Identity>,
    upstream: Option<&Arc<str>>,
) -> Option<Arc<str>> {
    if !table.flag("identity_token", false) {
        return None;
    }
    let Some(identity) = identity else {
        let help = "write [identity] with keys = [...], or take `identity_token` out";
        let message = "`identity_token` needs keys to sign with, and there is no [identity]";
        table.report().absent(table.span("identity_token"), message, help);
        return None;
    };
    identity.audience.as_ref().or(upstream).cloned()
}
