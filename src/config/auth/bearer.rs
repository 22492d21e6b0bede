//! `[auth.bearer]`: which bearer tokens are believed.

use std::net::IpAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use secrecy::ExposeSecret as _;

use super::super::ANY_DURATION;
use super::super::endpoints;
use super::super::field::Field;
use super::super::pem::Files;
use super::super::problem::quote;
use super::super::reader::TableReader;
use super::super::secret::{KeyEntry, key_list, shared};
use super::super::upstream::roots;
use crate::access::bearer::Settings;
use crate::access::jwks;
use crate::identity::Algorithm;
use crate::identity::bearer::Rules;
use crate::identity::jwks::{KeySet, USUAL_ALGORITHMS};
use crate::identity::key::VerifyKey;
use crate::identity::public;
use crate::identity::refresh::RefreshRule;
use crate::upstream::Endpoint;

/// Every algorithm, those with a shared secret first.
const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

const JWKS_FORM: &str = "write jwks = { url = \"https://id.example.com/jwks.json\" }, or { file = \"jwks.json\" }";

const URL_FORM: &str = "write https://, a host, maybe a port, and a path";

/// What `jwks` gives: the keys of a file, or where others come from.
type Source = (Vec<VerifyKey>, Option<jwks::Settings>);

pub(super) fn read(
    mut table: TableReader<'_>,
    section: &Field<'_>,
    claims: &[String],
    files: Files<'_>,
) -> Option<Settings> {
    let listed = table.field("keys");
    let keys = listed.as_ref().map(|field| key_list(&table, field, "auth.bearer.keys", &ALGORITHMS, false, files));
    let mut keys: Vec<_> = keys.unwrap_or_default().iter().filter_map(verify_key).collect();
    let set = table.field("jwks");
    let algorithms = algorithms(&mut table, set.is_some());
    let source = set.as_ref().map(|field| source(&table, field, &algorithms, files));
    if set.is_none() && listed.is_none_or(|field| field.items().is_some_and(|items| items.is_empty())) {
        let help = format!("write keys = [{{ algorithm = \"RS256\", file = \"issuer.pem\" }}]; or {JWKS_FORM}");
        section.wrong("[auth.bearer] has no keys that tokens could be checked with", help);
    }
    let defaults = Rules::default();
    let rules = Rules {
        issuer: name(&mut table, "issuer"),
        audience: audience(&mut table),
        subject: name(&mut table, "subject").unwrap_or(defaults.subject),
        leeway: table.duration("leeway", defaults.leeway, Duration::ZERO..=Duration::from_mins(5)),
        claims: claims.to_vec(),
    };
    table.finish();
    let (set, jwks) = source.unwrap_or_else(|| Some(Source::default()))?;
    keys.extend(set);
    Some(Settings { keys, jwks, rules })
}

/// A key with a shared secret or a public half.
fn verify_key(entry: &KeyEntry<'_>) -> Option<VerifyKey> {
    let (id, material) = (entry.id.as_ref().map(shared), entry.material.expose_secret());
    if matches!(entry.algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
        return Some(VerifyKey::secret(id, entry.algorithm, material));
    }
    public::verify_key(id, entry.algorithm, material)
        .map_err(|bad| {
            let help = "name a PEM file with the public key of whoever signs the tokens, or with their certificate";
            entry.field.wrong(format!("this key cannot be used: {bad}"), help);
        })
        .ok()
}

fn algorithms(table: &mut TableReader<'_>, has_set: bool) -> Vec<Algorithm> {
    let Some(field) = table.field("algorithms") else { return USUAL_ALGORITHMS.to_vec() };
    if !has_set {
        let message = "`algorithms` has no effect without `jwks`: each entry of `keys` names its own";
        field.wrong(message, "take it out");
    }
    let Some(items) = field.items().filter(|items| !items.is_empty()) else {
        field.wrong("`algorithms` must be a list of at least one", "write algorithms = [\"RS256\", \"ES256\"]");
        return Vec::new();
    };
    // A shared secret is not for publication, so that none is taken from a set.
    let public = ALGORITHMS.get(3..).unwrap_or_default();
    items.iter().filter_map(|item| item.choice(public)).collect()
}

fn name(table: &mut TableReader<'_>, key: &'static str) -> Option<String> {
    let field = table.field(key)?;
    let text = field.text()?.value;
    if text.is_empty() {
        field.wrong(format!("`{key}` is empty"), "write what tokens hold, or take it out");
    }
    Some(text.to_owned())
}

fn audience(table: &mut TableReader<'_>) -> Vec<String> {
    table.texts("audience").unwrap_or_default().into_iter().map(|name| name.value.to_owned()).collect()
}

/// `jwks = { file = "..." }` or `{ url = "...", ... }`
fn source(outer: &TableReader<'_>, field: &Field<'_>, algorithms: &[Algorithm], files: Files<'_>) -> Option<Source> {
    let mut table = outer.table_of(field, "auth.bearer.jwks", "`jwks`".to_owned())?;
    let (file, url, ca) = (table.field("file"), table.field("url"), table.field("ca"));
    let day = Duration::from_hours(24);
    let (minute, second) = (Duration::from_mins(1), Duration::from_secs(1));
    let rule = RefreshRule {
        refresh: table.duration("refresh", 10 * minute, 10 * second..=day),
        cooldown: table.duration("cooldown", 30 * second, second..=60 * minute),
    };
    let timeout = table.duration("timeout", 5 * second, ANY_DURATION);
    let has_no_effect = ["ca", "refresh", "cooldown", "timeout"].into_iter().find(|key| table.span(key).is_some());
    table.finish();
    match (file, url) {
        (Some(file), None) => {
            if let Some(key) = has_no_effect {
                field.wrong(format!("`{key}` has no effect on a file, which is read once"), "take it out");
            }
            let file = file.text()?;
            let bytes = files.bytes(&file, "name a file that holds a JSON Web Key Set")?;
            // What is wrong with `algorithms` was reported, and says nothing of the set.
            if algorithms.is_empty() {
                return None;
            }
            let set = KeySet::parse(&bytes, algorithms);
            let wrong = |bad: &dyn std::fmt::Display| {
                let help = "write a JSON Web Key Set (RFC 7517) with the public keys of whoever signs the tokens";
                files.report.wrong(Some(file.span.clone()), format!("cannot use {}: {bad}", quote(file.value)), help);
            };
            set.map_err(|bad| wrong(&bad)).ok().map(|set| (set.keys, None))
        }
        (None, Some(url)) => {
            let (endpoint, target) = place(&url)?;
            let roots = roots(&url, std::slice::from_ref(&endpoint), ca.as_ref(), files)?;
            let place = jwks::place(endpoint, roots, timeout);
            let settings = jwks::Settings { place, target, algorithms: algorithms.to_vec(), rule, timeout };
            Some((Vec::new(), Some(settings)))
        }
        (None, None) => {
            field.wrong("`jwks` says neither `file` nor `url`", JWKS_FORM);
            None
        }
        (Some(_), Some(_)) => {
            field.wrong("`jwks` says both `file` and `url`", JWKS_FORM);
            None
        }
    }
}

/// Takes a URL apart. Whoever can change what it gives can make keys that are trusted, so that it must be `https` unless it
/// never leaves the machine.
fn place(url: &Field<'_>) -> Option<(Endpoint, PathAndQuery)> {
    let text = url.text()?.value;
    let host = text.find("://").map_or(0, |at| at + 3);
    let end = text.get(host..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(text.len(), |at| host + at);
    let (origin, target) = text.split_at_checked(end).unwrap_or((text, ""));
    let endpoint = endpoints::endpoint(origin);
    let target = if target.is_empty() { "/" } else { target };
    let target = target.parse().ok().filter(|_| target.starts_with('/') && !target.contains('#'));
    let (Ok(endpoint), Some(target)) = (endpoint, target) else {
        url.wrong(format!("{} is not a URL that keys can be fetched from", quote(origin)), URL_FORM);
        return None;
    };
    if !endpoint.tls && !is_loopback(endpoint.authority.host()) {
        let message = "keys cannot be fetched over plain HTTP: whoever is on the way could send others";
        url.wrong(message, "write https://; http:// is for hosts such as 127.0.0.1 and localhost alone");
        return None;
    }
    Some((endpoint, target))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.to_canonical().is_loopback())
}
