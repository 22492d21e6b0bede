//! `[upstream.NAME]`: where the backend is, and how it is spoken to.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::ANY_DURATION;
use super::endpoints;
use super::field::{Field, Located};
use super::pem::Files;
use super::problem::quote;
use super::reader::TableReader;
use crate::upstream::{Balance, BreakerRule, Endpoint, HealthKind, HealthRule, Protocol, Settings};

/// Starts in a second that can be paced one by one.
const RATE: RangeInclusive<u64> = 1..=100_000;

pub(super) fn read(name: &Located<&str>, mut table: TableReader<'_>, files: Files<'_>) -> Option<Settings> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.value.is_empty() || !name.value.bytes().all(is_plain) {
        let message = format!("{} cannot be the name of an upstream", quote(name.value));
        table.report().wrong(Some(name.span.clone()), message, "use letters, digits, `-`, `_` and `.`");
    }
    let field = table.required("endpoints", endpoints::FORM);
    let endpoints = field.as_ref().and_then(|field| endpoints::read(&table, field));
    let ways = [("least-streams", Balance::LeastStreams), ("weighted", Balance::Weighted), ("hash", Balance::Hash)];
    let balance = table.one_of("balance", Balance::default(), &ways);
    let slow_start = table.duration("slow_start", Duration::from_secs(10), Duration::ZERO..=Duration::from_hours(1));
    let resolve_interval = table.duration("resolve_interval", Duration::from_secs(30), ANY_DURATION);
    let reopen_rate = rate(&mut table, "reopen_rate", 500);
    let reopen_concurrency = table.integer("reopen_concurrency", 100, 1..=100_000);
    let retry_rate = rate(&mut table, "retry_rate", 500);
    let title = |part| format!("[upstream.{}.{part}]", name.value);
    let breaker = table
        .field("breaker")
        .and_then(|field| table.table_of(&field, "upstream.breaker", title("breaker")))
        .map_or(BREAKER, breaker);
    let health = table
        .field("health")
        .and_then(|field| table.table_of(&field, "upstream.health", title("health")))
        .and_then(health);
    let versions = [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)];
    let protocol = table.one_of("protocol", Protocol::default(), &versions);
    let ca = table.field("ca");
    let connect_timeout = table.duration("connect_timeout", Duration::from_secs(5), ANY_DURATION);
    let max_streams_per_connection = table.integer("max_streams_per_connection", 100, 2..=100_000);
    let max_idle_connections = table.integer("max_idle_connections", 64, 0..=100_000);
    let idle_timeout = table.duration("idle_timeout", Duration::from_mins(1), ANY_DURATION);
    table.finish();

    let (field, endpoints) = (field?, endpoints?);
    Some(Settings {
        name: Arc::from(name.value),
        roots: roots(&field, &endpoints, ca.as_ref(), files)?,
        endpoints,
        balance,
        slow_start,
        breaker,
        // What is wrong with a section was reported, and what is built here is then never used.
        health,
        resolve_interval,
        reopen_rate,
        reopen_concurrency,
        retry_rate,
        protocol,
        connect_timeout,
        max_streams_per_connection,
        max_idle_connections,
        idle_timeout,
    })
}

const BREAKER: BreakerRule =
    BreakerRule { failures: 5, open_for: Duration::from_secs(1), max_open_for: Duration::from_secs(10) };

/// `[upstream.NAME.breaker]`
fn breaker(mut table: TableReader<'_>) -> BreakerRule {
    let rule = BreakerRule {
        failures: count(&mut table, "failures", BREAKER.failures),
        open_for: table.duration("open_for", BREAKER.open_for, ANY_DURATION),
        max_open_for: table.duration("max_open_for", BREAKER.max_open_for, ANY_DURATION),
    };
    if rule.max_open_for < rule.open_for {
        let span = table.span("max_open_for").or_else(|| table.span("open_for"));
        let help = "the time doubles from `open_for` up to `max_open_for`; raise the second";
        table.report().wrong(span, "`max_open_for` is shorter than `open_for`", help);
    }
    table.finish();
    rule
}

/// `[upstream.NAME.health]`
fn health(mut table: TableReader<'_>) -> Option<HealthRule> {
    let kinds = [("http", HealthKind::Http), ("stream", HealthKind::Stream)];
    let kind = table.one_of("kind", HealthKind::default(), &kinds);
    let path =
        table.required("path", "write path = \"/health\", what is asked for with GET").and_then(|field| path(&field));
    let interval = table.duration("interval", Duration::from_secs(5), ANY_DURATION);
    let timeout = table.duration("timeout", Duration::from_secs(2), ANY_DURATION);
    let healthy_after = count(&mut table, "healthy_after", 2);
    let unhealthy_after = count(&mut table, "unhealthy_after", 3);
    table.finish();
    Some(HealthRule { kind, path: path?, interval, timeout, healthy_after, unhealthy_after })
}

fn path(field: &Field<'_>) -> Option<PathAndQuery> {
    let text = field.text()?.value;
    let path = text.starts_with('/').then(|| text.parse().ok()).flatten();
    if path.is_none() {
        field.wrong(format!("{} cannot be a path", quote(text)), "write a path such as \"/health\"");
    }
    path
}

/// How many in a row.
fn count(table: &mut TableReader<'_>, key: &'static str, default: u32) -> u32 {
    table.field(key).and_then(|field| field.integer(1..=1000)).and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
}

fn rate(table: &mut TableReader<'_>, key: &'static str, default: u32) -> NonZeroU32 {
    let rate = table.field(key).and_then(|field| field.integer(RATE)).and_then(|rate| u32::try_from(rate).ok());
    NonZeroU32::new(rate.unwrap_or(default)).unwrap_or(NonZeroU32::MIN)
}

/// Who vouches for the endpoints; `Some(None)` if none of them needs that.
#[expect(clippy::option_option, reason = "the outer one is failure, as everywhere in this module")]
pub(super) fn roots(
    field: &Field<'_>,
    endpoints: &[Endpoint],
    ca: Option<&Field<'_>>,
    files: Files<'_>,
) -> Option<Option<Arc<RootCertStore>>> {
    let needed = endpoints.iter().any(|endpoint| endpoint.tls);
    match ca {
        Some(ca) if !needed => {
            ca.wrong("`ca` has no effect, because no endpoint is https", "take it out, or write https:// endpoints");
            None
        }
        Some(ca) => files.roots(&ca.text()?).map(Some),
        None if !needed => Some(None),
        None => {
            let roots = trusted(rustls_native_certs::load_native_certs().certs);
            if roots.is_none() {
                let help = "install the package ca-certificates, or name the authority's certificate with `ca`";
                field.wrong("this system has no certificates that could vouch for an https endpoint", help);
            }
            roots.map(Some)
        }
    }
}

/// The certificates of the system, those left out that cannot be used; `None` if nothing remains.
fn trusted(certificates: Vec<CertificateDer<'static>>) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    (!roots.is_empty()).then(|| Arc::new(roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_usable_certificates_is_noticed() {
        assert!(trusted(Vec::new()).is_none());
        assert!(trusted(vec![CertificateDer::from(vec![0, 1, 2])]).is_none());
    }
}
