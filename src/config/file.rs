//! The file as a whole: its sections in order, and what only a view of all of them shows.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::field::Located;
use super::pem::Files;
use super::problem::{Problem, Problems, line_number, quote};
use super::reader::TableReader;
use super::report::Report;
use super::{Config, Server, admin, auth, identity, listener, log, redis, route, server, syntax, ticket, upstream};
use crate::access::revoked;
use crate::edge::settings::Listener;
use crate::identity::Way;
use crate::{access, telemetry, upstream as backend};

/// Every section once, so that every reader says which keys it knows.
const SKELETON: &str = r"
[server]
[log]
[admin]
token = {}
[auth]
bearer = { keys = [{}], jwks = {} }
cookie = {}
mtls = {}
[ticket]
keys = [{}]
[identity]
keys = [{}]
[redis]
password = {}
[revocation]
[[listener]]
tls = {}
[upstream.x]
endpoints = [{}]
health = {}
breaker = {}
[[route]]
limits = {}
bridge = { reconnect = {} }
legacy = {}
proxy = { request_headers = {}, response_headers = {}, stream = {} }
";

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read {}: {error}", path.display());
        let help = match error.kind() {
            ErrorKind::NotFound => "check the path; it is relative to the directory that the command runs in",
            ErrorKind::PermissionDenied => "let the user that tidegate runs as read the file",
            ErrorKind::IsADirectory => "name the file, not its directory",
            ErrorKind::InvalidData => "save the file as UTF-8",
            _ => "check that this is a file which can be read",
        };
        Problems::new(&path.display().to_string(), "", vec![Problem::new(None, message, help)])
    })
}

/// The configuration that a text is; otherwise at least one problem.
pub(super) fn parse(text: &str, base: &Path) -> Result<Config, Vec<Problem>> {
    syntax::parse(text, |table, errors| {
        let report = Report::default();
        let config = config(table.get_ref(), text, Files { base, report: &report });
        let problems = report.into_problems(text, errors);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    })
}

pub(super) fn keys() -> Vec<String> {
    syntax::parse(SKELETON, |table, _| {
        let report = Report::default();
        config(table.get_ref(), SKELETON, Files { base: Path::new(""), report: &report });
        report.into_keys()
    })
}

/// Reads all sections. What could not be read is left out, and was reported.
fn config(table: &DeTable<'_>, text: &str, files: Files<'_>) -> Config {
    let mut file = TableReader::file(files.report, table);
    let server = file.section("server").map_or_else(Server::default, server::read);
    let log = file.section("log").map_or_else(telemetry::Settings::default, log::read);
    let listeners = file.sections("listener");
    let asks_clients = listeners.iter().any(|table| table.span("client_ca").is_some());
    let listeners: Vec<_> = listeners.into_iter().filter_map(|table| listener::read(table, files)).collect();
    check_addresses(&listeners, text, files.report);
    let place = file.span("admin").unwrap_or_default();
    let admin = file.section("admin").and_then(|table| admin::read(table, place, files));
    if let Some(admin) = &admin {
        admin::check_address(admin, &listeners, text, files.report);
    }
    let has_redis = file.span("redis").is_some();
    let ticket = file.section("ticket").map(|table| ticket::read(table, has_redis, files));
    let redis = file.section("redis").and_then(|table| redis::read(table, files));
    let revocation = file.section("revocation").map_or_else(revoked::Settings::default, redis::revocation);
    let (names, upstreams) = upstreams(&mut file, files);
    let (proofs, mut ways) = auth::read(&mut file, &names, asks_clients, files);
    if let Some(ticket) = &ticket {
        ticket::check_ways(ticket, &ways, files.report);
    }
    // Tickets need somebody who may fetch one, or else keys that others have as well, who make them.
    if !ways.is_empty() || ticket.as_ref().is_some_and(|ticket| ticket.shared) {
        ways.push(Way::Ticket);
    }
    let identity = file.section("identity").map(|table| identity::read(table, files));
    let known = route::Known {
        upstreams: &names,
        claims: &proofs.claims,
        ticket_param: ticket.as_ref().map_or("ticket", |ticket| &ticket.settings.param),
        ways: &ways,
        identity: identity.as_ref(),
    };
    let routes: Vec<_> = file.sections("route").into_iter().filter_map(|table| route::read(table, known)).collect();
    route::check_overlaps(&routes, text, files.report);
    route::check_names(&routes, text, files.report);
    if !ticket.as_ref().is_some_and(|ticket| ticket.shared) {
        ticket::check_issued(&listeners, &routes, files.report);
    }
    // Tickets need no section if there is a way to get one.
    let ticket = ticket.map(|ticket| ticket.settings).or_else(|| {
        let taken = routes.iter().any(|route| route.value.auth.takes(Way::Ticket));
        taken.then(access::ticket::Settings::default)
    });
    if let Some(ticket) = &ticket {
        ticket::check_paths(&listeners, &routes, text, files.report);
        redis::check_keep(&revocation, ticket, file.span("revocation"), files.report);
    }
    file.finish();
    Config {
        server,
        log,
        admin: admin.map(|admin| admin.value),
        auth: proofs,
        ticket,
        identity: identity.and_then(|identity| identity.signer),
        redis,
        revocation,
        listeners: listeners.into_iter().map(|listener| listener.value).collect(),
        upstreams,
        routes: routes.into_iter().map(|route| Arc::clone(&route.value)).collect(),
    }
}

/// The upstreams, and the names of all of them, those included that have problems.
fn upstreams<'a>(file: &mut TableReader<'a>, files: Files<'_>) -> (Vec<&'a str>, Vec<backend::Settings>) {
    let sections = file.named_sections("upstream");
    let names = sections.iter().map(|(name, _)| name.value).collect();
    (names, sections.into_iter().filter_map(|(name, table)| upstream::read(&name, table, files)).collect())
}

fn check_addresses(listeners: &[Located<Listener>], text: &str, report: &Report) {
    let mut seen: Vec<(SocketAddr, usize)> = Vec::new();
    for Located { value, span } in listeners {
        // Port 0 is a different port each time.
        match seen.iter().find(|(address, _)| *address == value.address && address.port() != 0) {
            Some((address, line)) => {
                let message = format!("{} is taken by the listener in line {line}", quote(&address.to_string()));
                report.wrong(Some(span.clone()), message, "give each listener an address or port of its own");
            }
            None => seen.push((value.address, line_number(text, span.start))),
        }
    }
}
