//! `[[listener]]`: where clients are served, and with which certificates on both sides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use toml::de::DeValue;

use super::field::{Field, Located};
use super::pem::Files;
use super::reader::TableReader;
use super::{ANY_DURATION, diagnostics, http2, problem::quote, trust};
use crate::edge::settings::{Http2, Listener, Misdirected};
use crate::edge::tls::client_verifier;

const BOTH_WAYS: &str =
    "write tls = { certificate = \"certs/dev.pem\", key = \"certs/dev.key\" }, or tls = false for plain HTTP";

enum Tls {
    Plain,
    Certificates(Vec<Arc<CertifiedKey>>),
}

/// Reads one listener; it comes with the place of its address.
pub(super) fn read(mut table: TableReader<'_>, files: Files<'_>) -> Option<Located<Listener>> {
    let address = address(&mut table);
    let tls = table.required("tls", BOTH_WAYS).and_then(|field| tls(&table, &field, files));
    let plain = matches!(tls, Some(Tls::Plain));
    let clients = clients(&mut table, plain, files);
    let seconds = Duration::from_secs;
    let max_connections = table.integer("max_connections", 10_000, 1..=10_000_000);
    let handshake_timeout = table.duration("handshake_timeout", seconds(10), ANY_DURATION);
    let header_timeout = table.duration("header_timeout", seconds(10), ANY_DURATION);
    let write_timeout = table.duration("write_timeout", seconds(60), ANY_DURATION);
    let max_header_size = table.size("max_header_size", 16 * 1024, 8 * 1024..=1024 * 1024);
    let max_headers = table.integer("max_headers", 100, 1..=10_000);
    let balancers = trust::balancers(&mut table);
    let choices = [("refuse", Misdirected::Refuse), ("allow", Misdirected::Allow)];
    let misdirected = table.one_of("misdirected", Misdirected::Refuse, &choices);
    let ticket_path = ticket_path(&mut table);
    let diagnostics = diagnostics::read(&mut table, ticket_path.as_deref(), files);
    let http2 = table
        .field("http2")
        .and_then(|field| table.table_of(&field, "listener.http2", "[listener.http2]".to_owned()))
        .map_or_else(Http2::default, |table| http2::read(table, plain));
    table.finish();

    let address = address?;
    let listener = Listener {
        address: address.value,
        tls: match tls? {
            Tls::Plain => None,
            Tls::Certificates(certificates) => Some(certificates),
        },
        clients,
        max_connections,
        handshake_timeout,
        header_timeout,
        write_timeout,
        max_header_size,
        max_headers,
        balancers,
        misdirected,
        ticket_path,
        diagnostics,
        http2,
    };
    Some(Located { value: listener, span: address.span })
}

fn address(table: &mut TableReader<'_>) -> Option<Located<SocketAddr>> {
    let form = "write an IP address and a port: \"127.0.0.1:8443\", \"0.0.0.0:443\" or \"[::]:443\"";
    let field = table.required("address", form)?;
    let text = field.text()?;
    let Ok(address) = text.value.parse() else {
        field.wrong(format!("{} is not an address to listen on", quote(text.value)), form);
        return None;
    };
    Some(Located { value: address, span: text.span })
}

/// Where tickets are issued; `None` is nowhere.
fn ticket_path(table: &mut TableReader<'_>) -> Option<Arc<str>> {
    let Some(text) = table.text("ticket_path") else { return Some("/stream-ticket".into()) };
    let sound = text.value.starts_with('/') && text.value.parse::<PathAndQuery>().is_ok_and(|path| path == *text.value);
    if !text.value.is_empty() && (!sound || text.value.contains(['?', '#', '{', '}'])) {
        let message = format!("{} cannot be the path of a request", quote(text.value));
        table.report().wrong(Some(text.span), message, "write \"/stream-ticket\", or \"\" to issue none here");
        return None;
    }
    Some(text.value).filter(|path| !path.is_empty()).map(Arc::from)
}

fn tls(table: &TableReader<'_>, field: &Field<'_>, files: Files<'_>) -> Option<Tls> {
    let pairs = match field.value {
        DeValue::Boolean(false) => return Some(Tls::Plain),
        DeValue::Array(pairs) if !pairs.is_empty() => field.items().unwrap_or_default(),
        DeValue::Table(_) => vec![field.clone()],
        DeValue::Array(_) => {
            field.wrong("`tls` names no certificate", BOTH_WAYS);
            return None;
        }
        _ => {
            field.wrong_type("a table, a list of tables or false", BOTH_WAYS);
            return None;
        }
    };
    // All of them are read before any failure counts, so that all failures are reported.
    let certificates: Vec<_> = pairs.iter().map(|pair| certificate(table, pair, files)).collect();
    certificates.into_iter().collect::<Option<_>>().map(Tls::Certificates)
}

/// What checks the certificates of clients. What is wrong was reported, and `None` is then never used.
fn clients(table: &mut TableReader<'_>, plain: bool, files: Files<'_>) -> Option<Arc<dyn ClientCertVerifier>> {
    let ca = table.field("client_ca");
    let required = table.field("client_certificate");
    let revoked = table.field("client_crl");
    let Some(ca) = ca else {
        for field in [required, revoked].into_iter().flatten() {
            let message = format!("`{}` has no effect without `client_ca`", field.key);
            field.wrong(message, "name the authority of the client certificates with `client_ca`, or take this out");
        }
        return None;
    };
    if plain {
        ca.wrong("`client_ca` has no effect without TLS", "take it out, or give this listener a certificate");
        return None;
    }
    let choices = [("optional", false), ("required", true)];
    // All are read before any failure counts, so that all failures are reported.
    let authorities = ca.text().and_then(|ca| files.roots(&ca));
    let required = required.map_or(Some(false), |field| field.choice(&choices));
    let bundle = revoked.as_ref().map(|field| field.text().and_then(|file| files.revoked(&file)));
    let (authorities, required, revoked_by) = (authorities?, required?, bundle.unwrap_or_else(|| Some(Vec::new()))?);
    client_verifier(authorities, revoked_by, required)
        .map_err(|error| {
            let field = revoked.as_ref().unwrap_or(&ca);
            let help = "take it out, or ask its issuer for a sound one";
            field.wrong(format!("`{}` cannot be used: {error}", field.key), help);
        })
        .ok()
}

fn certificate(table: &TableReader<'_>, pair: &Field<'_>, files: Files<'_>) -> Option<Arc<CertifiedKey>> {
    if !matches!(pair.value, DeValue::Table(_)) {
        pair.wrong_type("a table, a list of tables or false", BOTH_WAYS);
        return None;
    }
    let mut table = table.table_of(pair, "listener.tls", "`tls`".to_owned())?;
    let chain = table.required("certificate", "name a PEM file with the certificate chain");
    let key = table.required("key", "name a PEM file with the private key");
    table.finish();
    let (chain, key) = (chain.and_then(|chain| chain.text()), key.and_then(|key| key.text()));
    files.certified_key(&chain?, &key?)
}
