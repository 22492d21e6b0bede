//! `[redis]` and `[revocation]`: what several gateways share, and for how long it is remembered who was sent away.

use std::ops::Range;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::ANY_DURATION;
use super::field::Field;
use super::pem::Files;
use super::problem::quote;
use super::reader::TableReader;
use super::report::Report;
use super::secret::secret;
use crate::access::redis::{Node, Settings, Trust};
use crate::access::{revoked, ticket};
use crate::edge::hosts::split_port;

const FORM: &str = "write url = \"redis://127.0.0.1:6379\", or rediss:// for TLS, with a host and maybe a port";

/// One place: whether TLS is spoken, where, and the number of the database if one is named.
type Place = (bool, Node, Option<u16>);

/// Reads `[redis]`.
pub(super) fn read(mut table: TableReader<'_>, files: Files<'_>) -> Option<Settings> {
    let field = table.required("url", FORM);
    let cluster = table.flag("cluster", false);
    let username = table.text("username");
    let password = table.field("password");
    let ca = table.field("ca");
    let timeout = table.duration("timeout", Duration::from_millis(500), ANY_DURATION);
    let prefix = table.text("prefix");

    let places = field.as_ref().and_then(|field| places(field, cluster));
    let password = password.map(|field| {
        let secret = secret(&table, &field, "redis.password", files)?;
        let text = std::str::from_utf8(secret.expose_secret()).ok().filter(|text| !text.is_empty());
        if text.is_none() {
            field.wrong("the password is empty, or not UTF-8", "check what its file or variable holds");
        }
        Some(SecretString::from(text?.to_owned()))
    });
    if let Some(name) = username.as_ref().filter(|name| name.value.is_empty() || password.is_none()) {
        let help = "write password = { file = \"...\" } beside it, or take the name out for the default user";
        table.report().wrong(Some(name.span.clone()), "a user has a name and a password", help);
    }
    let is_prefix = |text: &str| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(prefix) = prefix.as_ref().filter(|prefix| !is_prefix(prefix.value)) {
        let help = "write at most 64 letters, digits and signs of ASCII, such as \"tidegate:\"";
        table.report().wrong(Some(prefix.span.clone()), format!("{} cannot be a prefix", quote(prefix.value)), help);
    }
    table.finish();

    let (tls, nodes, database) = places?;
    Some(Settings {
        nodes,
        cluster,
        trust: trust(tls, ca.as_ref(), files)?,
        database,
        username: username.map(|name| name.value.to_owned()),
        // One that could not be read was reported.
        password: password.flatten(),
        timeout,
        prefix: prefix.map_or("tidegate:", |prefix| prefix.value).to_owned(),
    })
}

/// Reads `[revocation]`.
pub(super) fn revocation(mut table: TableReader<'_>) -> revoked::Settings {
    let defaults = revoked::Settings::default();
    let range = Duration::from_mins(1)..=Duration::from_hours(30 * 24);
    let keep = table.duration("keep", defaults.keep, range);
    let max_entries = table.integer("max_entries", defaults.max_entries, 1..=10_000_000);
    table.finish();
    revoked::Settings { keep, max_entries }
}

/// Reports that a ticket could outlive what is remembered of its being taken back.
pub(super) fn check_keep(
    revocation: &revoked::Settings,
    ticket: &ticket::Settings,
    place: Option<Range<usize>>,
    report: &Report,
) {
    if revocation.keep < ticket.lifetime + ticket.leeway {
        let message = "`keep` is shorter than `lifetime` and `leeway` of [ticket] together";
        report.wrong(place, message, "raise it: a ticket that was revoked would be good again before it expires");
    }
}

/// Reads one URL, or for a cluster a list of them; gives whether TLS is spoken, the nodes and the database.
fn places(field: &Field<'_>, cluster: bool) -> Option<(bool, Vec<Node>, u16)> {
    let items = field.items().unwrap_or_else(|| vec![field.clone()]);
    if items.is_empty() {
        field.wrong("`url` must name at least one", FORM);
        return None;
    }
    if items.len() > 1 && !cluster {
        field.wrong("several servers can only be the nodes of a cluster", "write one, or cluster = true");
        return None;
    }
    let mut found: Vec<Place> = Vec::new();
    for item in &items {
        let text = item.text()?.value;
        match place(text) {
            Ok((_, _, Some(_))) if cluster => {
                item.wrong("a cluster has one database, which has no number", "leave out what is behind the port");
                return None;
            }
            Ok(place) => found.push(place),
            Err(help) => {
                // It may hold a password, and is not shown.
                item.wrong("this is not where a Redis is", help);
                return None;
            }
        }
    }
    let tls = found.first().is_some_and(|(tls, ..)| *tls);
    if found.iter().any(|(other, ..)| *other != tls) {
        field.wrong("some nodes are redis and some are rediss", "write the same for all: either all speak TLS or none");
        return None;
    }
    let database = found.first().and_then(|(.., database)| *database).unwrap_or(0);
    Some((tls, found.into_iter().map(|(_, node, _)| node).collect(), database))
}

/// Reads `redis://host[:port][/database]`; the error says what to write.
fn place(text: &str) -> Result<Place, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return Err(FORM),
    };
    if rest.contains('@') {
        return Err("leave out user and password: they have keys of their own, `username` and `password`");
    }
    let (place, database) = match rest.split_once('/') {
        Some((place, "")) => (place, None),
        Some((place, number)) => {
            (place, Some(number.parse().map_err(|_| "behind the host stands a database's number")?))
        }
        None => (rest, None),
    };
    let (host, port) = split_port(place).filter(|(_, port)| *port != Some(0)).ok_or(FORM)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host).to_owned();
    Ok((tls, Node { host, port: port.unwrap_or(6379) }, database))
}

fn trust(tls: bool, ca: Option<&Field<'_>>, files: Files<'_>) -> Option<Trust> {
    match ca {
        None if tls => Some(Trust::System),
        None => Some(Trust::Plain),
        Some(ca) if !tls => {
            ca.wrong("`ca` has no effect, because `url` is not rediss", "take it out, or write rediss://");
            None
        }
        Some(ca) => {
            let bundle = ca.text()?;
            // Looked at here, so that a bundle which cannot be used is told before anything is started.
            files.roots(&bundle)?;
            files.bytes(&bundle, "name a PEM file with the certificates of the authority").map(Trust::Bundle)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_scheme_a_host_and_maybe_a_port_and_a_database() {
        let read = |text| place(text).map(|(tls, node, database)| (tls, node.to_string(), database)).expect(text);
        assert_eq!(read("redis://127.0.0.1"), (false, "127.0.0.1:6379".to_owned(), None));
        assert_eq!(read("rediss://redis.internal:6380/2"), (true, "redis.internal:6380".to_owned(), Some(2)));
        assert_eq!(read("redis://[::1]:7000/"), (false, "[::1]:7000".to_owned(), None));
    }

    #[test]
    fn what_is_no_place_says_what_to_write() {
        for text in ["", "127.0.0.1:6379", "http://a", "redis://", "redis://a:0", "redis://a:x", "unix:///run/redis"] {
            assert_eq!(place(text).map(|_| ()), Err(FORM), "{text}");
        }
        assert!(place("redis://u:p@a").expect_err("refused").contains("`username` and `password`"));
        assert!(place("redis://a/x").expect_err("refused").contains("number"));
    }
}
