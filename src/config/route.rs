//! `[[route]]`: which requests are let in, and where they go.

use std::sync::Arc;

use super::bridge;
use super::field::Located;
use super::identity::Identity;
use super::problem::{line_number, quote};
use super::reader::TableReader;
use super::report::Report;
use crate::edge::hosts::HostPattern;
use crate::edge::origin::OriginPattern;
use crate::edge::routes::{self, RouteTable};
use crate::edge::settings::{Auth, Route};

/// What other sections say that routes and their bridges refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// The names that a bridge may lead to.
    pub(super) upstreams: &'a [&'a str],
    /// The claims that an identity keeps; `None` leaves open which.
    pub(super) claims: Option<&'a [String]>,
    /// The query parameter of a ticket, which never goes upstream.
    pub(super) ticket_param: &'a str,
    /// What makes identity tokens, if anything does.
    pub(super) identity: Option<&'a Identity>,
}

/// Reads one route; it comes with the place of its path.
pub(super) fn read(mut table: TableReader<'_>, known: Known<'_>) -> Option<Located<Arc<Route>>> {
    let host = table.text("host").and_then(|host| self::host(&host, table.report()));
    let path_form = "write path = \"/chat\"; `{name}` captures a segment";
    let path = table.required("path", path_form).and_then(|path| path.text());
    let captures = path.as_ref().and_then(|path| captures(path, table.report()));
    let auth_help = "write auth = \"none\" to let in anybody; that must be said, and nothing else exists yet";
    let auth = table.required("auth", auth_help).and_then(|auth| auth.choice(&[("none", Auth::None)]));
    let origins = origins(&mut table);
    let bridge_help = "write bridge = { upstream = \"...\", events = \"...\", messages = \"...\" }";
    let bridge = table
        .required("bridge", bridge_help)
        .and_then(|field| table.table_of(&field, "route.bridge", "[route.bridge]".to_owned()))
        .and_then(|bridge| bridge::read(bridge, captures.as_deref(), known));
    table.finish();

    let path = path?;
    captures?;
    let route = Route { host, path: Arc::from(path.value), origins, auth: auth?, bridge: Arc::new(bridge?) };
    Some(Located { value: Arc::new(route), span: path.span })
}

/// Reports routes that would take the same requests.
pub(super) fn check_overlaps(routes: &[Located<Arc<Route>>], text: &str, report: &Report) {
    let all = routes.iter().map(|route| Arc::clone(&route.value)).collect();
    let Err(overlaps) = RouteTable::build(all) else { return };
    for overlap in overlaps {
        let (Some(first), Some(second)) = (routes.get(overlap.first), routes.get(overlap.second)) else { continue };
        let (path, line) = (quote(&second.value.path), line_number(text, first.span.start));
        let message = format!("{path} takes the same requests as {} in line {line}", quote(&first.value.path));
        report.wrong(Some(second.span.clone()), message, "change one path, or give the routes different hosts");
    }
}

fn host(text: &Located<&str>, report: &Report) -> Option<HostPattern> {
    HostPattern::parse(text.value)
        .map_err(|error| {
            let message = format!("{} cannot be a host: {error}", quote(text.value));
            report.wrong(Some(text.span.clone()), message, "write \"chat.example.com\" or \"*.example.com\"");
        })
        .ok()
}

fn captures<'a>(path: &Located<&'a str>, report: &Report) -> Option<Vec<&'a str>> {
    routes::captures(path.value)
        .map_err(|error| {
            let message = format!("{} cannot be a path: {error}", quote(path.value));
            report.wrong(Some(path.span.clone()), message, "write \"/chat\", \"/rooms/{room}\" or \"/files/{*rest}\"");
        })
        .ok()
}

fn origins(table: &mut TableReader<'_>) -> Vec<OriginPattern> {
    let report = table.report();
    let origin = |text: Located<&str>| {
        OriginPattern::parse(text.value)
            .map_err(|error| {
                let help = "write \"https://app.example.com\" or \"https://*.example.com\"";
                report.wrong(Some(text.span), format!("{} is no origin: {error}", quote(text.value)), help);
            })
            .ok()
    };
    table.texts("origins").unwrap_or_default().into_iter().filter_map(origin).collect()
}
