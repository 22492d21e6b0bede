//! `[[route]]`: which requests are let in, and where they go.

use std::sync::Arc;

use toml::de::DeValue;

use super::field::{Field, Located};
use super::identity::Identity;
use super::problem::{line_number, quote};
use super::reader::TableReader;
use super::report::Report;
use super::{bridge, legacy, limits, proxy, split, sunset};
use crate::edge::hosts::HostPattern;
use crate::edge::origin::OriginPattern;
use crate::edge::routes::{self, RouteTable};
use crate::edge::settings::{Auth, MissingOrigin, Route};
use crate::edge::split::Split;
use crate::identity::Way;
use crate::proxy::Cors;

const AUTH_HELP: &str = "write auth = \"ticket\", \"bearer\", \"cookie\", \"mtls\" or a list of these; auth = \"none\" lets in anybody, and must be said";

/// What other sections say that routes and their bridges refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// The names that a bridge may lead to.
    pub(super) upstreams: &'a [&'a str],
    /// The claims that an identity keeps.
    pub(super) claims: &'a [String],
    /// The query parameter of a ticket, which never goes upstream.
    pub(super) ticket_param: &'a str,
    /// The ways that the other sections prepare.
    pub(super) ways: &'a [Way],
    /// What makes identity tokens, if anything does.
    pub(super) identity: Option<&'a Identity>,
}

/// Reads one route; it comes with the place of its path.
pub(super) fn read(mut table: TableReader<'_>, known: Known<'_>) -> Option<Located<Arc<Route>>> {
    let host = table.text("host").and_then(|host| self::host(&host, table.report()));
    let path_form = "write path = \"/chat\"; `{name}` captures a segment";
    let path = table.required("path", path_form).and_then(|path| path.text());
    let captures = path.as_ref().and_then(|path| captures(path, table.report()));
    let name = table.text("name");
    let auth = table.required("auth", AUTH_HELP).and_then(|field| auth(&field, known.ways));
    let origins = origins(&mut table);
    let choices = [("allow", MissingOrigin::Allow), ("refuse", MissingOrigin::Refuse)];
    let missing_origin = table.one_of("missing_origin", MissingOrigin::Allow, &choices);
    let websocket_over_http2 = table.flag("websocket_over_http2", true);
    let limits = table
        .field("limits")
        .and_then(|field| table.table_of(&field, "route.limits", "[route.limits]".to_owned()))
        .map(limits::read)
        .unwrap_or_default();
    let target = target(&mut table, captures.as_deref(), known);
    let split = split(&mut table, auth.as_ref(), target.as_ref());
    let sunset = table.field("sunset").and_then(|field| {
        let place = field.span.clone();
        let table = table.table_of(&field, "route.sunset", "[route.sunset]".to_owned())?;
        Some(Located { value: sunset::read(table, place.clone()), span: place })
    });
    let report = table.report();
    if limits.per_identity.is_some() && matches!(auth, Some(Auth::None)) {
        let message = "`per_identity` has no effect with auth = \"none\", which tells nobody apart";
        report.wrong(table.span("limits"), message, "take it out, or write how clients prove who they are");
    }
    let upstream_cors = |target: &Target| target.proxy.as_ref().is_some_and(|proxy| proxy.cors == Cors::Upstream);
    if target.as_ref().is_some_and(upstream_cors) && !matches!(auth, None | Some(Auth::None)) {
        let message = "with `cors = \"upstream\"` upstream would have to answer preflights, which prove nobody";
        let help = "leave `cors` out, and list the pages in `origins`; or write auth = \"none\"";
        report.wrong(table.span("proxy"), message, help);
    }
    let has_no_websocket = |target: &Target| target.bridge.is_none() && target.legacy.is_none();
    if let Some(span) = table.span("websocket_over_http2").filter(|_| target.as_ref().is_some_and(has_no_websocket)) {
        let message = "`websocket_over_http2` has no effect without `bridge` or `legacy`";
        report.wrong(Some(span), message, "take it out; what is no WebSocket comes over HTTP/2 all the same");
    }
    table.finish();

    let path = path?;
    captures?;
    let name = match name {
        Some(name) => Arc::from(self::name(&name, report)?),
        None => default_name(host.as_ref(), path.value),
    };
    let split = split.ok()?.map(|split| Arc::new(split.seeded_by(&name)));
    let path_pattern = Arc::from(path.value);
    let Target { bridge, legacy, proxy } = target?;
    if let Some(sunset) = sunset.as_ref().filter(|_| bridge.is_none() && legacy.is_none()) {
        let message = "this route has no WebSocket that could come to an end";
        report.wrong(Some(sunset.span.clone()), message, "take `sunset` out, or write `bridge` or `legacy`");
    }
    let route = Route {
        name,
        host,
        path: path_pattern,
        origins,
        missing_origin,
        websocket_over_http2,
        auth: auth?,
        limits,
        bridge: bridge.map(Arc::new),
        legacy: legacy.map(Arc::new),
        split,
        proxy: proxy.map(Arc::new),
        sunset: sunset.map(|sunset| Arc::new(sunset.value)),
    };
    Some(Located { value: Arc::new(route), span: path.span })
}

/// Where a route leads; one of them at least.
struct Target {
    bridge: Option<crate::bridge::Settings>,
    legacy: Option<crate::tunnel::Settings>,
    proxy: Option<crate::proxy::Settings>,
}

fn target(table: &mut TableReader<'_>, captures: Option<&[&str]>, known: Known<'_>) -> Option<Target> {
    const HELP: &str = "write bridge = { upstream = \"...\", events = \"...\", messages = \"...\" }, legacy = { upstream = \"...\" } or proxy = { upstream = \"...\" }";
    let fields = [table.field("bridge"), table.field("legacy"), table.field("proxy")];
    if fields.iter().all(Option::is_none) {
        table.lacks("`bridge`, `legacy` or `proxy`", HELP);
        return None;
    }
    let [bridge, legacy, proxy] = fields;
    // All are read before one that is wrong counts.
    let bridge = bridge.map(|field| {
        let table = table.table_of(&field, "route.bridge", "[route.bridge]".to_owned())?;
        bridge::read(table, captures, known)
    });
    let legacy = legacy.map(|field| {
        let table = table.table_of(&field, "route.legacy", "[route.legacy]".to_owned())?;
        legacy::read(table, captures, known)
    });
    let proxy = proxy.map(|field| {
        let table = table.table_of(&field, "route.proxy", "[route.proxy]".to_owned())?;
        proxy::read(table, captures, known)
    });
    let read = |wrong: bool| (!wrong).then_some(());
    read(matches!(bridge, Some(None)))?;
    read(matches!(legacy, Some(None)))?;
    read(matches!(proxy, Some(None)))?;
    Some(Target { bridge: bridge.flatten(), legacy: legacy.flatten(), proxy: proxy.flatten() })
}

/// How a route with two sides is split; one with a single side is not. What is wrong was reported.
fn split(
    table: &mut TableReader<'_>,
    auth: Option<&Auth>,
    target: Option<&Target>,
) -> Result<Option<Split>, split::Reported> {
    let field = table.field("split");
    let has_identity = !matches!(auth, Some(Auth::None));
    let split = field.as_ref().map(|field| {
        let table = table.table_of(field, "route.split", "[route.split]".to_owned())?;
        split::read(table, has_identity)
    });
    // Which sides it has is not known where one of them is wrong.
    let Target { bridge, legacy, .. } = target.ok_or(split::Reported)?;
    match (&field, bridge.is_some() && legacy.is_some()) {
        (None, true) => {
            let help = "`bridge` and `legacy` share the clients: write [route.split] with bridge_percent = 0 to begin with, and below it what decides who goes where";
            table.lacks("`split`", help);
            Err(split::Reported)
        }
        (Some(field), false) => {
            let message = "`split` has no effect without both `bridge` and `legacy`";
            field.wrong(message, "take it out, or write the side that is missing");
            Err(split::Reported)
        }
        (None, false) => Ok(None),
        (Some(_), true) => split.flatten().map(Some).ok_or(split::Reported),
    }
}

/// Its path, with its host in front if it has one: what no other route is called.
fn default_name(host: Option<&HostPattern>, path: &str) -> Arc<str> {
    host.map_or_else(|| Arc::from(path), |host| Arc::from(format!("{host}{path}")))
}

fn name<'a>(text: &Located<&'a str>, report: &Report) -> Option<&'a str> {
    let good = !text.value.is_empty()
        && text.value.len() <= 64
        && !text.value.contains('/')
        && text.value.bytes().all(|byte| byte.is_ascii_graphic());
    if !good {
        let message = format!("{} cannot be the name of a route", quote(text.value));
        report.wrong(Some(text.span.clone()), message, "write 1 to 64 letters, digits and signs, without a `/`");
    }
    good.then_some(text.value)
}

/// `"none"`, or one or more of the ways to prove who one is, which must be `known`.
fn auth(field: &Field<'_>, known: &[Way]) -> Option<Auth> {
    let choices = Way::ALL.map(|way| (way.label(), Some(way)));
    let [ticket, bearer, cookie, mtls] = choices;
    let choices = [ticket, bearer, cookie, mtls, ("none", None)];
    if matches!(field.value, DeValue::String(_)) {
        let Some(way) = field.choice(&choices)? else { return Some(Auth::None) };
        check_known(field, way, known);
        return Some(Auth::OneOf(vec![way]));
    }
    let items = field.texts()?;
    if items.is_empty() {
        field.wrong("`auth` is empty", AUTH_HELP);
        return None;
    }
    // All are looked at before one that is wrong counts.
    let ways: Vec<_> = field.items()?.iter().map(|item| item.choice(&choices)).collect();
    let ways: Vec<Option<Way>> = ways.into_iter().collect::<Option<_>>()?;
    for (index, (item, way)) in field.items()?.iter().zip(&ways).enumerate() {
        if ways.iter().take(index).any(|earlier| earlier == way) {
            let message = format!("{} stands in `auth` twice", quote(way.map_or("none", Way::label)));
            item.wrong(message, "take one of the two out");
        }
        if let Some(way) = way {
            check_known(item, *way, known);
        }
    }
    let all: Option<Vec<Way>> = ways.into_iter().collect();
    if all.is_none() {
        field.wrong(
            "\"none\" stands beside other ways in `auth`",
            "with \"none\" anybody is let in: take it out, or write auth = \"none\"",
        );
    }
    all.map(Auth::OneOf)
}

/// Reports a way that no section prepares.
fn check_known(field: &Field<'_>, way: Way, known: &[Way]) {
    if known.contains(&way) {
        return;
    }
    let help = match way {
        Way::Ticket => {
            "nobody can get one: write [auth.cookie], [auth.bearer] or [auth.mtls], which say who may, or [ticket] with the keys of whoever makes them"
        }
        Way::Bearer => "write [auth.bearer], which says whose tokens are good",
        Way::Cookie => "write [auth.cookie], which says who is asked about them",
        Way::Mtls => "write [auth.mtls], and `client_ca` in a [[listener]]",
    };
    field.report.absent(Some(field.span.clone()), format!("nothing is said about {}", quote(way.label())), help);
}

/// Reports routes that are called the same: a ticket for one would be one for the other.
pub(super) fn check_names(routes: &[Located<Arc<Route>>], text: &str, report: &Report) {
    for (index, route) in routes.iter().enumerate() {
        let earlier = routes.iter().take(index).find(|earlier| earlier.value.name == route.value.name);
        // Routes with one path and one host overlap, which is told elsewhere.
        let Some(earlier) = earlier.filter(|_| !route.value.name.contains('/')) else { continue };
        let (name, line) = (quote(&route.value.name), line_number(text, earlier.span.start));
        let message = format!("this route is called {name}, as is the one in line {line}");
        report.wrong(Some(route.span.clone()), message, "give each route a name of its own");
    }
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
