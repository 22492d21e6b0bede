//! Keys that routes share which pass on what is the client's own: which host upstream is told, where it is asked, and what of
//! the query stays here.

use http::HeaderValue;
use http::uri::Authority;

use super::field::Located;
use super::problem::quote;
use super::reader::TableReader;
use super::report::Report;
use super::{bridge, names};
use crate::protocol::passing::Host;
use crate::protocol::template::Template;

/// Reads `host`: `"client"`, `"upstream"`, or a name with an optional port.
pub(super) fn host(table: &mut TableReader<'_>) -> Host {
    let Some(text) = table.text("host") else { return Host::default() };
    match text.value {
        "client" => return Host::Client,
        "upstream" => return Host::Upstream,
        _ => {}
    }
    // RFC 9112 section 3.2: a host and a port, and no user.
    let name =
        Authority::try_from(text.value).ok().filter(|name| !name.as_str().contains('@') && !name.host().is_empty());
    if let Some(name) = name.and_then(|name| HeaderValue::from_str(name.as_str()).ok()) {
        return Host::Name(name);
    }
    let help = "write \"client\", \"upstream\", or a host such as \"app.internal\"";
    table.report().wrong(Some(text.span), format!("{} cannot be a host", quote(text.value)), help);
    Host::default()
}

/// Reads `path`, a path of the backend; `None` where the client's own goes along, or where it could not be read, which is
/// reported.
pub(super) fn path(table: &mut TableReader<'_>, captures: Option<&[&str]>) -> Option<Template> {
    let text = table.text("path")?;
    bridge::template_of(&text, "path", captures, table.report())
}

/// Reads `credential_params`, the query parameters that do not go along: those that are written, or else `unless_written`, and
/// the one of tickets, which are ours to redeem whatever else is a credential.
pub(super) fn credential_params(table: &mut TableReader<'_>, unless_written: &[&str], ticket: &str) -> Vec<String> {
    let mut params: Vec<String> = match table.texts("credential_params") {
        Some(texts) => {
            for text in &texts {
                check_parameter(text, table.report());
            }
            texts.iter().map(|text| text.value.to_owned()).collect()
        }
        None => unless_written.iter().map(|&name| name.to_owned()).collect(),
    };
    if !params.iter().any(|param| param == ticket) {
        params.push(ticket.to_owned());
    }
    params
}

/// Reports what cannot be the name of a query parameter.
pub(super) fn check_parameter(text: &Located<&str>, report: &Report) {
    if !names::is_parameter(text.value) {
        let message = format!("{} is not the name of a query parameter", quote(text.value));
        report.wrong(Some(text.span.clone()), message, "use letters, digits, `-`, `_`, `.` and `~`");
    }
}
